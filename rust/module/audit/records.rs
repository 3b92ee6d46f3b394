// SPDX-License-Identifier: GPL-2.0

//! Shadow to page tables: each record is looked for.

use kernel::prelude::*;

use fmi_model::{
    is_table,
    Level,
    MappingCheck,
    Place, //
};

use super::{
    longest,
    timed,
    Audit,
    Difference,
    DifferenceKind,
    GoOn,
    Held,
    Mms,
    CHUNK,
    MAX_PAGES, //
};
use crate::{
    env::now_ns,
    mm::MmRef,
    quiesce,
    raw::fmi_site as Site,
    tracker::Tracker,
    walk::{
        Range,
        Visitor, //
    }, //
};

/// Records that are looked for again after the same grace period.
const MAX_AGAIN: usize = 1024;

/// How often a record is looked for if its folio changes all the time.
const MAX_LOOKS: usize = 4;

/// A record: where it says that a folio is mapped.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) pfn: u64,
    pub(super) order: u8,
    pub(super) mm: usize,
    pub(super) base: usize,
    /// State of the folio when it was not found.
    seq: u32,
}

impl Audit {
    /// Checks that each record of these MMs is in their page tables.
    pub(super) fn check_records(
        &mut self,
        tracker: &Tracker,
        mms: &Mms<'_>,
        go_on: GoOn<'_>,
    ) -> Result {
        let mut chunk = KVec::with_capacity(CHUNK as usize, GFP_KERNEL)?;
        let mut again = KVVec::with_capacity(MAX_AGAIN, GFP_KERNEL)?;
        for shard in 0.. {
            let mut from = 0;
            loop {
                go_on()?;
                chunk.truncate(0);
                let more = tracker.table.with_shard(shard, |shard| {
                    let start = now_ns();
                    let end = shard.nr_slots().1.min(from + CHUNK);
                    for r in from..end {
                        if let Some((pfn, order, mm, base)) = shard.record_at(r) {
                            // Cannot fail: there is room.
                            let _ = chunk.push(
                                Wanted {
                                    pfn,
                                    order,
                                    mm: mm as usize,
                                    base: base as usize,
                                    seq: 0,
                                },
                                GFP_NOWAIT,
                            );
                        }
                    }
                    longest(&mut self.held.shard, start);
                    end == from + CHUNK
                });
                from += CHUNK;
                for wanted in &chunk {
                    self.check_record(tracker, mms, wanted, &mut again)?;
                    if again.len() == MAX_AGAIN {
                        self.look_again(tracker, mms, &mut again, go_on)?;
                    }
                }
                match more {
                    None => return self.look_again(tracker, mms, &mut again, go_on),
                    Some(Some(true)) => {}
                    Some(_) => break,
                }
            }
        }
        Ok(())
    }

    fn check_record(
        &mut self,
        tracker: &Tracker,
        mms: &Mms<'_>,
        wanted: &Wanted,
        again: &mut KVVec<Wanted>,
    ) -> Result {
        if is_table(wanted.mm as u64) {
            self.shared_tables += 1;
            return Ok(());
        }
        let mut found = Differences::default();
        match mms.with(wanted.mm, |mm| {
            self.look_for(tracker, mm, wanted, &mut found)
        }) {
            None => self.without_process += u64::from(self.pid.is_none()),
            Some(result) => {
                result?;
                self.records += 1;
            }
        }
        if found.nr != 0 {
            let seq = found.seq;
            // Cannot fail: there is room.
            let _ = again.push(Wanted { seq, ..*wanted }, GFP_NOWAIT);
        }
        Ok(())
    }

    /// Looks again for the records that were not found.
    ///
    /// A zap may unlink an empty page table before it tells of the mappings it had (PT_RECLAIM and
    /// delayed rmap): what it tells, it tells in a critical section that has begun. So a mapping is
    /// missed only if it is not there after a grace period, and the folio has not changed since: if
    /// it has, the record may have been filled anew, and another zap be under way.
    fn look_again(
        &mut self,
        tracker: &Tracker,
        mms: &Mms<'_>,
        again: &mut KVVec<Wanted>,
        go_on: GoOn<'_>,
    ) -> Result {
        self.again += again.len() as u64;
        for _ in 0..MAX_LOOKS {
            if again.is_empty() {
                return Ok(());
            }
            go_on()?;
            quiesce::wait_for_calls();
            let mut kept = 0;
            for i in 0..again.len() {
                let Some(mut wanted) = again.get(i).copied() else {
                    break;
                };
                go_on()?;
                let mut found = Differences::default();
                if let Some(result) = mms.with(wanted.mm, |mm| {
                    self.look_for(tracker, mm, &wanted, &mut found)
                }) {
                    result?;
                }
                if found.nr == 0 {
                    continue;
                }
                if found.seq == wanted.seq {
                    for difference in found.list.iter().flatten() {
                        self.add(*difference);
                    }
                    continue;
                }
                wanted.seq = found.seq;
                if let Some(slot) = again.get_mut(kept) {
                    *slot = wanted;
                    kept += 1;
                }
            }
            again.truncate(kept);
        }
        self.unsettled += again.len() as u64;
        again.truncate(0);
        Ok(())
    }

    /// Looks for the mappings of one record in the page tables, as far as VMAs are there: where
    /// there is none, page tables may be being freed.
    fn look_for(
        &mut self,
        tracker: &Tracker,
        mm: &MmRef,
        wanted: &Wanted,
        found: &mut Differences,
    ) -> Result {
        let Wanted {
            pfn, order, base, ..
        } = *wanted;
        let len = (1usize << order) << tracker.table.geometry().page_shift;
        let end = base.wrapping_add(len);
        // The base may lie below 0.
        let start = if end < base { 0 } else { base };
        let guard = mm.read_lock_killable()?;
        let locked = now_ns();
        let mut visitor = Backward {
            found,
            held: &mut self.held,
            tracker,
            mm: mm.id(),
            pfn,
            order,
            base,
            seen: [0; MAX_PAGES / 64],
            entire: false,
            hugetlb: false,
        };
        let mut addr = start;
        while let Some(vma) = guard.find_vma(addr).filter(|vma| vma.start < end) {
            addr = vma.end;
            if vma.is_looked_at(tracker.tracks_all()) {
                visitor.hugetlb = vma.hugetlb;
                let rule = Some(&vma).filter(|vma| vma.hugetlb);
                Range::of_locked(&guard, rule, vma.start.max(start), vma.end.min(end))
                    .all(tracker.tracks_all())
                    .walk(&mut visitor);
            }
            if addr >= end {
                break;
            }
        }
        self.compare_vmas(tracker, &guard, wanted, (start, end), found);
        longest(&mut self.held.mmap, locked);
        Ok(())
    }
}

/// Differences of one record, at most two per page table.
#[derive(Default)]
pub(super) struct Differences {
    list: [Option<Difference>; 8],
    nr: usize,
    /// State of the folio when the first was found.
    seq: u32,
}

/// One record of the shadow to page tables.
struct Backward<'a> {
    found: &'a mut Differences,
    held: &'a mut Held,
    tracker: &'a Tracker,
    mm: usize,
    pfn: u64,
    order: u8,
    base: usize,
    /// Pages that the page table maps where the record says.
    seen: [u64; MAX_PAGES / 64],
    entire: bool,
    /// The VMA maps hugetlb folios, as a whole only.
    hugetlb: bool,
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
        let wrong = timed(self.tracker, self.held, pfn, |shard| {
            let entry = shard.find(pfn)?;
            let mut known = [0; MAX_PAGES / 64];
            if !self.hugetlb {
                shard.record_pages(entry, mm, base, &mut known);
            }
            let mut wrong = None;
            let mut nr = 0u32;
            for (n, (known, seen)) in known.iter().zip(seen).enumerate() {
                // The part of the word that this page table is about.
                let start = first.saturating_sub(n * 64).min(64) as u32;
                let end = last.saturating_sub(n * 64).min(64) as u32;
                let below = |bit: u32| 1u64.checked_shl(bit).map_or(u64::MAX, |bit| bit - 1);
                let word = known & !seen & below(end) & !below(start);
                if word != 0 && wrong.is_none() {
                    wrong = Some(n as u32 * 64 + word.trailing_zeros());
                }
                nr += word.count_ones();
            }
            let place = Place {
                pfn,
                order,
                mm,
                base,
                table: None,
                level: Level::Entire,
                first: 0,
                nr: 1 << order,
            };
            let lost_pmd = at_base && !entire && shard.check_mapping(&place) == MappingCheck::Ok;
            Some((wrong, nr, lost_pmd, shard.seq(entry)))
        });
        let Some((wrong, nr, lost_pmd, seq)) = wrong.flatten() else {
            return;
        };
        // Under the PTL: if the shadow is out of date, because tracking ends, that is seen here.
        if !self.tracker.armed() {
            return;
        }
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
            self.found.add(difference, seq);
        }
        if let Some(first) = wrong {
            difference.entire = false;
            difference.first = first;
            difference.nr = nr;
            difference.va = self.base.wrapping_add((first as usize) << shift);
            self.found.add(difference, seq);
        }
    }
}

impl Differences {
    pub(super) fn add(&mut self, difference: Difference, seq: u32) {
        if self.nr == 0 {
            self.seq = seq;
        }
        if let Some(slot) = self.list.get_mut(self.nr) {
            *slot = Some(difference);
        }
        self.nr += 1;
    }
}
