// SPDX-License-Identifier: GPL-2.0

//! Coverage: what is mapped, and whether it is tracked.
//!
//! A walk of its own through the page tables of all MMs looks up each large folio that it finds, under
//! the lock of the page table: what is mapped there has been told, so it is tracked, or there is a
//! reason why not.

use kernel::prelude::*;

use fmi_model::{
    Kind,
    LostReason,
    Standing, //
};

use crate::{
    class,
    env::{
        longest,
        now_ns, //
    },
    mm::{
        MmStruct,
        ReadGuard, //
    },
    procwalk::pause,
    raw::fmi_site as Site,
    tracker::{
        kind_of,
        Tracker, //
    },
    walk::{
        Range,
        Visitor, //
    }, //
};

/// Page tables that are looked into at a time; a power of two.
const STEP_TABLES: usize = 4;

/// Steps under one hold of the mmap lock; fewer if somebody waits for it.
const MAX_STEPS: usize = 16;

/// VMAs that may be looked at under one hold of the mmap lock.
const MAX_VMAS: usize = 64;

/// Most untracked folios that are listed.
const MAX_LIST: usize = 256;

/// A folio that is mapped and not tracked.
#[derive(Clone, Copy)]
pub(crate) struct Untracked {
    /// Its head page.
    pub(crate) pfn: u64,
    /// Its order.
    pub(crate) order: u8,
    /// Its type.
    pub(crate) kind: Kind,
    /// Why it is not tracked.
    pub(crate) standing: Standing,
}

/// What was found to be tracked. A folio counts once for each run of entries of a page table that maps
/// it.
#[derive(Default)]
pub(crate) struct Coverage {
    /// MMs that were walked.
    pub(crate) mms: u64,
    /// Runs of [`STEP_TABLES`] page tables that were walked.
    pub(crate) steps: u64,
    /// The longest that an mmap lock was held, in nanoseconds.
    pub(crate) longest_lock: u64,
    /// Large rmappable folios that were found.
    pub(crate) found: u64,
    /// Those that are tracked.
    pub(crate) tracked: u64,
    /// Those that are being learned.
    pub(crate) learning: u64,
    /// Those that were lost, by [`LostReason::index`].
    pub(crate) lost: [u64; LostReason::ALL.len()],
    /// Those that nothing is known about.
    pub(crate) unknown: u64,
    /// The first of those that are not tracked, each once.
    pub(crate) list: KVVec<Untracked>,
    /// How often others were found, for which it has no room.
    pub(crate) more: u64,
}

impl Coverage {
    /// Walks all MMs.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINTR` if a signal is pending; `ENODEV` if tracking is off, or is switched off meanwhile.
    pub(crate) fn take(tracker: &Tracker) -> Result<Self> {
        let session = tracker.session();
        let mut coverage = Self {
            list: KVVec::with_capacity(MAX_LIST, GFP_KERNEL)?,
            ..Self::default()
        };
        // What there was nothing to be looked up in says nothing.
        let goes_on = || {
            let goes_on = tracker.armed() && tracker.session() == session;
            goes_on.then_some(()).ok_or(ENODEV)
        };
        for mm in &MmStruct::all()? {
            coverage.walk(tracker, mm, &goes_on)?;
        }
        goes_on()?;
        Ok(coverage)
    }

    /// Returns whether another scan would find more: folios are lost because of a fork or mremap that
    /// was not seen.
    pub(crate) fn is_curable(&self) -> bool {
        let lost = self.lost.get(LostReason::Window.index()).copied();
        lost.unwrap_or(0) + self.unknown > 0
    }

    fn walk(&mut self, tracker: &Tracker, mm: &MmStruct, goes_on: &dyn Fn() -> Result) -> Result {
        let Some(mm) = mm.users() else { return Ok(()) };
        self.mms += 1;
        let mut next = Some(0);
        while let Some(addr) = next {
            pause()?;
            goes_on()?;
            let guard = mm.read_lock_killable()?;
            let start = now_ns();
            next = self.walk_some(tracker, &guard, addr);
            longest(&mut self.longest_lock, start);
        }
        Ok(())
    }

    /// Walks from an address on under one hold of the mmap lock; returns where to go on.
    fn walk_some(
        &mut self,
        tracker: &Tracker,
        guard: &ReadGuard<'_>,
        mut addr: usize,
    ) -> Option<usize> {
        let g = tracker.table.geometry();
        let step = STEP_TABLES << (g.page_shift + g.pmd_order);
        let mut steps = 0;
        for _ in 0..MAX_VMAS {
            let vma = guard.find_vma(addr)?;
            addr = addr.max(vma.start);
            while vma.is_looked_at(tracker.tracks_all()) {
                addr = guard.next_mapped(addr, vma.end);
                if addr >= vma.end {
                    break;
                }
                if steps == MAX_STEPS || steps > 0 && guard.is_contended() {
                    return Some(addr);
                }
                let end = (addr | (step - 1)).saturating_add(1).min(vma.end);
                let mut lookup = Lookup {
                    coverage: self,
                    tracker,
                };
                Range::of_locked(guard, Some(&vma), addr, end)
                    .all(tracker.tracks_all())
                    .walk(&mut lookup);
                addr = end;
                steps += 1;
                self.steps += 1;
            }
            addr = vma.end;
        }
        Some(addr)
    }

    fn note(&mut self, folio: Untracked) {
        match folio.standing {
            Standing::Tracked => {
                self.tracked += 1;
                return;
            }
            Standing::Learning => self.learning += 1,
            Standing::Lost(reason) => {
                if let Some(lost) = self.lost.get_mut(reason.index()) {
                    *lost += 1;
                }
            }
            Standing::Unknown => self.unknown += 1,
        }
        if self.list.iter().any(|other| other.pfn == folio.pfn) {
            return;
        }
        if self.list.len() < MAX_LIST {
            // Cannot fail: the room was allocated at the start.
            let _ = self.list.push(folio, GFP_NOWAIT);
        } else {
            self.more += 1;
        }
    }
}

/// Looks up what page tables map.
struct Lookup<'a> {
    coverage: &'a mut Coverage,
    tracker: &'a Tracker,
}

impl Visitor for Lookup<'_> {
    fn leaf(&mut self, _va: usize, site: &Site) {
        let (pfn, order) = (site.pfn as u64, site.order);
        if !matches!(u32::from(site.class), class::TRACK | class::NONLINEAR) {
            return;
        }
        self.coverage.found += 1;
        let standing = self
            .tracker
            .table
            .with(pfn, |shard| shard.standing(pfn, order));
        self.coverage.note(Untracked {
            pfn,
            order,
            kind: kind_of(site),
            standing: standing.unwrap_or(Standing::Unknown),
        });
    }
}
