// SPDX-License-Identifier: GPL-2.0

//! The audit: walks page tables and compares what it finds with the shadow, both ways, and then the
//! shadow with the kernel's counters.
//!
//! Under the PTL of a page table an entry is mapped if and only if its add has been called and its
//! remove has not, so each table is compared under its PTL while the machine runs on. The mmap lock
//! is held for reading, which keeps forks, moves and VMA changes of that MM out; after a few page
//! tables it is let go, at once if somebody waits for it. What moves meanwhile from the part that
//! was not walked to the one that was is looked at from the other side, by its record.
//!
//! An audit of a busy machine ends: the MMs are those that there were at the beginning, and storage
//! is gone through once, by position.

use kernel::prelude::*;

use fmi_model::{
    Level,
    MappingCheck,
    Place,
    Shard,
    Suspect, //
};

use crate::{
    check,
    check::{
        Tally,
        Verdict, //
    },
    class,
    env::{
        longest,
        now_ns, //
    },
    mm::{
        MmRef,
        MmStruct,
        ReadGuard, //
    },
    raw::fmi_site as Site,
    tracker::{
        table_of,
        Tracker, //
    },
    walk::{
        Range,
        Visitor, //
    }, //
};

mod records;
mod vmas;

/// Most pages of a folio.
const MAX_PAGES: usize = 1 << 13;

/// Most differences that are kept in words.
const MAX_DETAILS: usize = 16;

/// Page tables that are walked before the walk looks whether somebody waits for the mmap lock.
const STEP_TABLES: usize = 4;

/// Steps under one hold of an mmap lock.
const MAX_STEPS: usize = 16;

/// VMAs that are looked at under one hold of an mmap lock.
const MAX_VMAS: usize = 64;

/// Entries or records that are looked at under one hold of a shard lock.
const CHUNK: u32 = 64;

/// Whether an audit goes on; called often, with no lock held but mutexes. May sleep.
pub(crate) type GoOn<'a> = &'a dyn Fn() -> Result;

/// How a difference shows.
#[derive(Clone, Copy)]
pub(crate) enum DifferenceKind {
    /// The page table maps it, the shadow does not know.
    MissingInShadow,
    /// The shadow says mapped, the page table does not.
    NotInPageTable,
    /// The shadow has mappings in another number of VMAs, or of page tables of a VMA, than there are.
    WrongVmas,
}

/// One difference between page tables and shadow.
#[derive(Clone, Copy)]
pub(crate) struct Difference {
    /// How it shows.
    pub(crate) kind: DifferenceKind,
    /// Head page of the folio.
    pub(crate) pfn: u64,
    /// Order of the folio.
    pub(crate) order: u8,
    /// First page concerned.
    pub(crate) first: u32,
    /// Number of pages concerned.
    pub(crate) nr: u32,
    /// An entire mapping.
    pub(crate) entire: bool,
    /// Address of the first page concerned.
    pub(crate) va: usize,
}

/// The longest that locks were held, in nanoseconds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Held {
    /// An mmap lock, for reading.
    pub(crate) mmap: u64,
    /// The lock of a page table: one table is walked.
    pub(crate) table: u64,
    /// The lock of a shard.
    pub(crate) shard: u64,
}

impl Held {
    /// Returns the longer of each.
    pub(crate) fn most(self, other: &Self) -> Self {
        Self {
            mmap: self.mmap.max(other.mmap),
            table: self.table.max(other.table),
            shard: self.shard.max(other.shard),
        }
    }
}

/// Calls `f` with the shard of a folio, as `Table::with()` does, and takes the time.
fn timed<R>(
    tracker: &Tracker,
    held: &mut Held,
    pfn: u64,
    f: impl FnOnce(&mut Shard<'_>) -> R,
) -> Option<R> {
    tracker.table.with(pfn, |shard| {
        let start = now_ns();
        let result = f(shard);
        longest(&mut held.shard, start);
        result
    })
}

/// Result of an audit.
#[derive(Default)]
pub(crate) struct Audit {
    /// The process that was audited; `None` for all.
    pub(crate) pid: Option<i32>,
    /// MMs walked.
    pub(crate) mms: u64,
    /// Runs of [`STEP_TABLES`] page tables that were walked.
    pub(crate) steps: u64,
    /// Page-table entries of large folios looked at.
    pub(crate) mappings: u64,
    /// Those of folios that are not tracked.
    pub(crate) untracked: u64,
    /// Records of the shadow checked against page tables.
    pub(crate) records: u64,
    /// Records of MMs that no process had when the audit began: being forked, or exiting.
    pub(crate) without_process: u64,
    /// Records of page tables that several MMs share, or did: there is no MM to look into.
    pub(crate) shared_tables: u64,
    /// Records that were looked for again because they were not found at once.
    pub(crate) again: u64,
    /// Records that were never found, and whose folio was never quiet while they were looked for.
    pub(crate) unsettled: u64,
    /// Entries that the shadow does not know.
    pub(crate) missing_in_shadow: u64,
    /// Mappings of the shadow that are not there.
    pub(crate) not_in_page_table: u64,
    /// Records that are in other VMAs than the shadow says.
    pub(crate) wrong_vmas: u64,
    /// Comparisons with the kernel's counters.
    pub(crate) tally: Tally,
    /// The pages of the record that is looked at.
    pages: KVVec<u64>,
    /// The first differences.
    pub(crate) details: KVec<Difference>,
    /// How long locks were held.
    pub(crate) held: Held,
    /// How long it took, in nanoseconds.
    pub(crate) took: u64,
}

/// The MMs that are audited.
enum Mms<'a> {
    /// That of one process.
    One(MmRef),
    /// These, sorted by identity.
    These(&'a [MmRef]),
    /// All that there were. Nothing keeps their users: what exits meanwhile is left out.
    All(KVVec<MmStruct>),
}

impl Mms<'_> {
    /// Calls `f` with the MM of this identity, if it is one of these and still has users.
    fn with<R>(&self, id: usize, f: impl FnOnce(&MmRef) -> R) -> Option<R> {
        match self {
            Self::One(mm) if mm.id() == id => Some(f(mm)),
            Self::One(_) => None,
            Self::These(mms) => {
                let i = mms.binary_search_by_key(&id, MmRef::id).ok()?;
                mms.get(i).map(f)
            }
            Self::All(mms) => {
                let i = mms.binary_search_by_key(&id, MmStruct::id).ok()?;
                mms.get(i)?.users().map(|mm| f(&mm))
            }
        }
    }
}

impl Audit {
    /// Audits one process, 0 for the caller, or all.
    ///
    /// # Errors
    ///
    /// `ESRCH` if there is no such process, `ENOMEM`, `EINTR` if the caller was killed, and those of
    /// `go_on`.
    pub(crate) fn run(tracker: &Tracker, pid: Option<i32>, go_on: GoOn<'_>) -> Result<Self> {
        let start = now_ns();
        let mms = match pid {
            Some(pid) => Mms::One(MmRef::of_pid(pid)?),
            None => Mms::All(MmStruct::all()?),
        };
        let mut audit = Self::of_mms(tracker, pid, &mms, go_on)?;
        drop(mms);
        audit.compare_all(tracker, go_on)?;
        longest(&mut audit.took, start);
        Ok(audit)
    }

    /// Audits these MMs, sorted by identity, but compares nothing with the kernel's counters.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EINTR` if the caller was killed.
    pub(crate) fn of(tracker: &Tracker, mms: &[MmRef]) -> Result<Self> {
        Self::of_mms(tracker, None, &Mms::These(mms), &|| Ok(()))
    }

    fn of_mms(tracker: &Tracker, pid: Option<i32>, mms: &Mms<'_>, go_on: GoOn<'_>) -> Result<Self> {
        tracker.settle();
        let mut audit = Self {
            pid,
            pages: KVVec::from_elem(0, MAX_PAGES / 64, GFP_KERNEL)?,
            details: KVec::with_capacity(MAX_DETAILS, GFP_KERNEL)?,
            ..Self::default()
        };
        match mms {
            Mms::One(mm) => audit.walk_mm(tracker, mm, go_on)?,
            Mms::These(mms) => {
                for mm in *mms {
                    audit.walk_mm(tracker, mm, go_on)?;
                }
            }
            Mms::All(all) => {
                for mm in all {
                    if let Some(mm) = mm.users() {
                        audit.walk_mm(tracker, &mm, go_on)?;
                    }
                }
            }
        }
        audit.check_records(tracker, mms, go_on)?;
        Ok(audit)
    }

    /// Returns the number of differences of all kinds.
    pub(crate) fn differences(&self) -> u64 {
        self.missing_in_shadow + self.not_in_page_table + self.wrong_vmas + self.tally.mismatches
    }

    /// Walks one MM, a few page tables at a time: between them, its mmap lock is free.
    fn walk_mm(&mut self, tracker: &Tracker, mm: &MmRef, go_on: GoOn<'_>) -> Result {
        self.mms += 1;
        let mut next = Some(0);
        while let Some(addr) = next {
            go_on()?;
            let guard = mm.read_lock_killable()?;
            let start = now_ns();
            next = self.walk_some(tracker, &guard, addr);
            longest(&mut self.held.mmap, start);
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
                // Up to a multiple of the step: a table is never walked in two parts.
                let end = (addr | (step - 1)).saturating_add(1).min(vma.end);
                let mut visitor = Forward {
                    audit: self,
                    tracker,
                    mm: guard.mm(),
                    start: None,
                };
                Range::of_locked(guard, Some(&vma), addr, end)
                    .all(tracker.tracks_all())
                    .walk(&mut visitor);
                addr = end;
                steps += 1;
                self.steps += 1;
            }
            addr = vma.end;
        }
        Some(addr)
    }

    fn add(&mut self, difference: Difference) {
        match difference.kind {
            DifferenceKind::MissingInShadow => self.missing_in_shadow += u64::from(difference.nr),
            DifferenceKind::NotInPageTable => self.not_in_page_table += u64::from(difference.nr),
            DifferenceKind::WrongVmas => self.wrong_vmas += 1,
        }
        if self.details.len() < MAX_DETAILS {
            // Cannot fail: the room was allocated at the start.
            let _ = self.details.push(difference, GFP_NOWAIT);
        }
    }

    /// Compares every tracked folio with the kernel's counters.
    fn compare_all(&mut self, tracker: &Tracker, go_on: GoOn<'_>) -> Result {
        let mut list = KVVec::new();
        for i in 0.. {
            let mut from = 0;
            loop {
                go_on()?;
                // Allocates without the lock.
                list.reserve(CHUNK as usize, GFP_KERNEL)?;
                let more = tracker.table.with_shard(i, |shard| {
                    let start = now_ns();
                    let end = shard.nr_slots().0.min(from + CHUNK);
                    for entry in from..end {
                        if let Some(view) = shard.view(entry).filter(|view| view.total > 0) {
                            let (pfn, seq) = (view.pfn, view.seq);
                            // Cannot fail: there is room.
                            let _ = list.push(Suspect { pfn, seq }, GFP_NOWAIT);
                        }
                    }
                    longest(&mut self.held.shard, start);
                    end == from + CHUNK
                });
                from += CHUNK;
                match more {
                    None => {
                        let longest = &mut self.held.shard;
                        let changed = Verdict::Deferred;
                        self.tally = check::compare_list(tracker, &list, changed, longest, go_on)?;
                        return Ok(());
                    }
                    Some(Some(true)) => {}
                    Some(_) => break,
                }
            }
        }
        Ok(())
    }
}

/// Page table to shadow.
struct Forward<'a> {
    audit: &'a mut Audit,
    tracker: &'a Tracker,
    mm: usize,
    /// When the first entry of the page table was met.
    start: Option<u64>,
}

impl Visitor for Forward<'_> {
    fn leaf(&mut self, va: usize, site: &Site) {
        if u32::from(site.class) != class::TRACK {
            return;
        }
        self.start.get_or_insert_with(now_ns);
        let pfn = site.pfn as u64;
        let place = Place {
            pfn,
            order: site.order,
            mm: self.mm as u64,
            base: site.base as u64,
            table: table_of(site),
            level: if site.entire {
                Level::Entire
            } else {
                Level::Pte
            },
            first: site.first,
            nr: site.nr,
        };
        let nr = if site.entire { 1 } else { site.nr };
        self.audit.mappings += u64::from(nr);
        let check = timed(self.tracker, &mut self.audit.held, pfn, |shard| {
            shard.check_mapping(&place)
        });
        let missing = match check {
            None | Some(MappingCheck::Untracked) => {
                self.audit.untracked += u64::from(nr);
                return;
            }
            Some(MappingCheck::Ok) => return,
            Some(MappingCheck::Missing { pages }) => pages,
            Some(MappingCheck::WrongOrder) => nr,
        };
        // Under the PTL: if the shadow is out of date, because tracking ends, that is seen here.
        if !self.tracker.armed() {
            return;
        }
        self.audit.add(Difference {
            kind: DifferenceKind::MissingInShadow,
            pfn,
            order: site.order,
            first: site.first,
            nr: missing,
            entire: site.entire,
            va,
        });
    }

    fn mark(&mut self, _start: usize, _end: usize) {
        if let Some(start) = self.start.take() {
            longest(&mut self.audit.held.table, start);
        }
    }
}
