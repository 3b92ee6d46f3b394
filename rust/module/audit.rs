// SPDX-License-Identifier: GPL-2.0

//! The audit: walks page tables and compares what it finds with the shadow, both ways, and then the
//! shadow with the kernel's counters.
//!
//! Under the PTL of a page table an entry is mapped if and only if its add has been called and its
//! remove has not, so each table is compared under its PTL while the machine runs on. The mmap lock
//! is held for reading, which keeps forks, moves and VMA changes of that MM out.

use kernel::prelude::*;

use fmi_model::{
    Level,
    MappingCheck,
    Place,
    Suspect, //
};

use crate::{
    check,
    check::{
        Tally,
        Verdict, //
    },
    class,
    mm::MmRef,
    quiesce,
    raw::fmi_site as Site,
    tracker::Tracker,
    walk::{
        Range,
        Visitor, //
    }, //
};

/// Most differences that are kept in words.
const MAX_DETAILS: usize = 16;

/// Most pages of a folio.
const MAX_PAGES: usize = 1 << 13;

/// How a difference shows.
#[derive(Clone, Copy)]
pub(crate) enum DifferenceKind {
    /// The page table maps it, the shadow does not know.
    MissingInShadow,
    /// The shadow says mapped, the page table does not.
    NotInPageTable,
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

/// Result of an audit.
#[derive(Default)]
pub(crate) struct Audit {
    /// The process that was audited; `None` for all.
    pub(crate) pid: Option<i32>,
    /// MMs walked.
    pub(crate) mms: u64,
    /// Page-table entries of large folios looked at.
    pub(crate) mappings: u64,
    /// Those of folios that are not tracked.
    pub(crate) untracked: u64,
    /// Records of the shadow checked against page tables.
    pub(crate) records: u64,
    /// Records of MMs that no process had when the audit began: being forked, or exiting.
    pub(crate) without_process: u64,
    /// Entries that the shadow does not know.
    pub(crate) missing_in_shadow: u64,
    /// Mappings of the shadow that are not there.
    pub(crate) not_in_page_table: u64,
    /// Comparisons with the kernel's counters.
    pub(crate) tally: Tally,
    /// The first differences.
    pub(crate) details: KVec<Difference>,
}

impl Audit {
    /// Audits one process, 0 for the caller, or all.
    ///
    /// # Errors
    ///
    /// `ESRCH` if there is no such process, `ENOMEM`.
    pub(crate) fn run(tracker: &Tracker, pid: Option<i32>) -> Result<Self> {
        let mut audit = Self {
            pid,
            details: KVec::with_capacity(MAX_DETAILS, GFP_KERNEL)?,
            ..Self::default()
        };
        let mms = match pid {
            Some(pid) => {
                let mut one = KVVec::with_capacity(1, GFP_KERNEL)?;
                one.push(MmRef::of_pid(pid)?, GFP_KERNEL)?;
                one
            }
            None => MmRef::all()?,
        };
        for mm in &mms {
            audit.walk_mm(tracker, mm);
        }
        audit.check_records(tracker, &mms);
        drop(mms);
        audit.tally = compare_all(tracker)?;
        Ok(audit)
    }

    /// Returns the number of differences of all kinds.
    pub(crate) fn differences(&self) -> u64 {
        self.missing_in_shadow + self.not_in_page_table + self.tally.mismatches
    }

    fn walk_mm(&mut self, tracker: &Tracker, mm: &MmRef) {
        self.mms += 1;
        let guard = mm.read_lock();
        let mut addr = 0;
        while let Some(vma) = guard.find_vma(addr) {
            addr = vma.end;
            if !vma.hugetlb {
                let mut visitor = Forward {
                    audit: self,
                    tracker,
                    mm: mm.id(),
                };
                Range::of_locked(&guard, Some(&vma), vma.start, vma.end).walk(&mut visitor);
            }
        }
    }

    /// Checks that each record of these MMs is in their page tables.
    fn check_records(&mut self, tracker: &Tracker, mms: &[MmRef]) {
        for shard in 0.. {
            let mut from = 0;
            loop {
                let found = tracker
                    .table
                    .with_shard(shard, |shard| shard.next_record(from));
                let Some(found) = found else { return };
                let Some((slot, pfn, order, mm, base)) = found.flatten() else {
                    break;
                };
                from = slot.saturating_add(1);
                let known = mms.binary_search_by_key(&(mm as usize), MmRef::id).ok();
                match known.and_then(|i| mms.get(i)) {
                    Some(mm) => self.check_record(tracker, mm, pfn, order, base as usize),
                    None => self.without_process += u64::from(self.pid.is_none()),
                }
            }
        }
    }

    fn check_record(&mut self, tracker: &Tracker, mm: &MmRef, pfn: u64, order: u8, base: usize) {
        self.records += 1;
        let mut found = Differences::default();
        self.look_for(tracker, mm, (pfn, order, base), &mut found);
        if found.nr == 0 {
            return;
        }
        // A zap may unlink an empty page table before it tells of the mappings it had (PT_RECLAIM
        // and delayed rmap): what it tells, it tells in a critical section that has begun.
        quiesce::wait_for_calls();
        found = Differences::default();
        self.look_for(tracker, mm, (pfn, order, base), &mut found);
        for difference in found.list.iter().flatten() {
            self.add(tracker, *difference);
        }
    }

    /// Looks for the mappings of one record in the page tables, as far as VMAs are there: where
    /// there is none, page tables may be being freed.
    fn look_for(
        &self,
        tracker: &Tracker,
        mm: &MmRef,
        (pfn, order, base): (u64, u8, usize),
        found: &mut Differences,
    ) {
        let len = (1usize << order) << tracker.table.geometry().page_shift;
        let end = base.wrapping_add(len);
        // The base may lie below 0.
        let start = if end < base { 0 } else { base };
        let guard = mm.read_lock();
        let mut visitor = Backward {
            found,
            tracker,
            mm: mm.id(),
            pfn,
            order,
            base,
            seen: [0; MAX_PAGES / 64],
            entire: false,
        };
        let mut addr = start;
        while let Some(vma) = guard.find_vma(addr).filter(|vma| vma.start < end) {
            addr = vma.end;
            if !vma.hugetlb {
                Range::of_locked(&guard, None, vma.start.max(start), vma.end.min(end))
                    .walk(&mut visitor);
            }
            if addr >= end {
                break;
            }
        }
    }

    fn add(&mut self, tracker: &Tracker, difference: Difference) {
        if !tracker.armed() {
            // The shadow is out of date: tracking ends.
            return;
        }
        match difference.kind {
            DifferenceKind::MissingInShadow => self.missing_in_shadow += u64::from(difference.nr),
            DifferenceKind::NotInPageTable => self.not_in_page_table += u64::from(difference.nr),
        }
        if self.details.len() < MAX_DETAILS {
            // Cannot fail: the room was allocated at the start.
            let _ = self.details.push(difference, GFP_NOWAIT);
        }
    }
}

/// Page table to shadow.
struct Forward<'a> {
    audit: &'a mut Audit,
    tracker: &'a Tracker,
    mm: usize,
}

impl Visitor for Forward<'_> {
    fn leaf(&mut self, va: usize, site: &Site) {
        if u32::from(site.class) != class::TRACK {
            return;
        }
        let pfn = site.pfn as u64;
        let place = Place {
            pfn,
            order: site.order,
            mm: self.mm as u64,
            base: site.base as u64,
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
        let check = self
            .tracker
            .table
            .with(pfn, |shard| shard.check_mapping(&place));
        let missing = match check {
            None | Some(MappingCheck::Untracked) => {
                self.audit.untracked += u64::from(nr);
                return;
            }
            Some(MappingCheck::Ok) => return,
            Some(MappingCheck::Missing { pages }) => pages,
            Some(MappingCheck::WrongOrder) => nr,
        };
        let tracker = self.tracker;
        self.audit.add(
            tracker,
            Difference {
                kind: DifferenceKind::MissingInShadow,
                pfn,
                order: site.order,
                first: site.first,
                nr: missing,
                entire: site.entire,
                va,
            },
        );
    }
}

/// Differences of one record, at most two per page table.
#[derive(Default)]
struct Differences {
    list: [Option<Difference>; 8],
    nr: usize,
}

/// One record of the shadow to page tables.
struct Backward<'a> {
    found: &'a mut Differences,
    tracker: &'a Tracker,
    mm: usize,
    pfn: u64,
    order: u8,
    base: usize,
    /// Pages that the page table maps where the record says.
    seen: [u64; MAX_PAGES / 64],
    entire: bool,
}

impl Visitor for Backward<'_> {
    fn leaf(&mut self, _va: usize, site: &Site) {
        if site.pfn as u64 != self.pfn || site.base != self.base {
            return;
        }
        if site.entire {
            self.entire = true;
            return;
        }
        for i in site.first..site.first.saturating_add(site.nr) {
            if let Some(word) = self.seen.get_mut(i as usize / 64) {
                *word |= 1 << (i % 64);
            }
        }
    }

    fn mark(&mut self, start: usize, end: usize) {
        let shift = self.tracker.table.geometry().page_shift;
        let first = start.wrapping_sub(self.base) >> shift;
        let last = end.wrapping_sub(self.base) >> shift;
        let (pfn, mm, base) = (self.pfn, self.mm as u64, self.base as u64);
        // A PMD maps the folio at its base: decided by the table that the base is in.
        let at_base = start == self.base;
        let (seen, entire, order) = (&self.seen, self.entire, self.order);
        let wrong = self.tracker.table.with(pfn, |shard| {
            let entry = shard.find(pfn)?;
            let mut wrong = None;
            let mut nr = 0u32;
            for i in first..last {
                let there = seen
                    .get(i / 64)
                    .is_some_and(|word| word & (1 << (i % 64)) != 0);
                if !there && shard.record_bit(entry, mm, base, i as u32) {
                    wrong = wrong.or(Some(i as u32));
                    nr += 1;
                }
            }
            let place = Place {
                pfn,
                order,
                mm,
                base,
                level: Level::Entire,
                first: 0,
                nr: 1 << order,
            };
            let lost_pmd = at_base && !entire && shard.check_mapping(&place) == MappingCheck::Ok;
            Some((wrong, nr, lost_pmd))
        });
        let Some((wrong, nr, lost_pmd)) = wrong.flatten() else {
            return;
        };
        let mut difference = Difference {
            kind: DifferenceKind::NotInPageTable,
            pfn,
            order: self.order,
            first: 0,
            nr: 1,
            entire: true,
            va: self.base,
        };
        if lost_pmd {
            self.found.add(difference);
        }
        if let Some(first) = wrong {
            difference.entire = false;
            difference.first = first;
            difference.nr = nr;
            difference.va = self.base.wrapping_add((first as usize) << shift);
            self.found.add(difference);
        }
    }
}

impl Differences {
    fn add(&mut self, difference: Difference) {
        if let Some(slot) = self.list.get_mut(self.nr) {
            *slot = Some(difference);
        }
        self.nr += 1;
    }
}

/// Entries looked at under one hold of a lock.
const CHUNK: usize = 256;

/// Compares every tracked folio with the kernel's counters.
fn compare_all(tracker: &Tracker) -> Result<Tally> {
    let mut list = KVVec::new();
    for i in 0.. {
        let mut from = 0;
        loop {
            // Allocates without the lock.
            list.reserve(CHUNK, GFP_KERNEL)?;
            let next = tracker.table.with_shard(i, |shard| {
                for _ in 0..CHUNK {
                    let entry = shard.next_entry(from)?;
                    from = entry.checked_add(1)?;
                    if let Some(view) = shard.view(entry).filter(|view| view.total > 0) {
                        let (pfn, seq) = (view.pfn, view.seq);
                        // Cannot fail: there is room.
                        let _ = list.push(Suspect { pfn, seq }, GFP_NOWAIT);
                    }
                }
                Some(())
            });
            match next {
                None => return Ok(check::compare_list(tracker, &list, Verdict::Deferred)),
                Some(Some(Some(()))) => {}
                Some(_) => break,
            }
        }
    }
    Ok(Tally::default())
}
