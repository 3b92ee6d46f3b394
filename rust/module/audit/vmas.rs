// SPDX-License-Identifier: GPL-2.0

//! Shadow to VMAs: over how many of them, and of their page tables, each record spreads.

use super::{
    records::{
        Differences,
        Wanted, //
    },
    timed,
    Audit,
    Difference,
    DifferenceKind, //
};
use crate::{
    mm::ReadGuard,
    tracker::Tracker, //
};

use fmi_model::Standing;

/// What the shadow says of a record besides its pages.
struct Known {
    entire: bool,
    vmas: u32,
    tuples: u32,
    seq: u32,
}

impl Audit {
    /// Compares in how many VMAs, and (VMA, page table) tuples, the pages of a record are with what the shadow says.
    ///
    /// Nothing is said of a record with a page that is in no VMA: it is being unmapped. The mmap lock keeps all else that
    /// changes VMAs out.
    pub(super) fn compare_vmas(
        &mut self,
        tracker: &Tracker,
        guard: &ReadGuard<'_>,
        wanted: &Wanted,
        (start, end): (usize, usize),
        found: &mut Differences,
    ) {
        let Wanted {
            pfn,
            order,
            mm,
            base,
            ..
        } = *wanted;
        let pages = &mut self.pages;
        let known = timed(tracker, &mut self.held, pfn, |shard| {
            if shard.standing(pfn, order) != Standing::Tracked {
                return None;
            }
            let entry = shard.find(pfn)?;
            let record = shard.record_of(entry, mm as u64, base as u64)?;
            pages.fill(0);
            shard.record_pages(entry, mm as u64, base as u64, pages);
            Some(Known {
                entire: record.entire,
                vmas: record.vmas,
                tuples: record.tuples,
                seq: shard.seq(entry),
            })
        });
        let Some(known) = known.flatten() else {
            return;
        };
        let spread = self.spread(tracker, guard, (base, start, end), known.entire);
        if spread.is_some_and(|spread| spread != (known.vmas, known.tuples)) && tracker.armed() {
            let difference = Difference {
                kind: DifferenceKind::WrongVmas,
                pfn,
                order,
                first: 0,
                nr: 1 << order,
                entire: known.entire,
                va: base,
            };
            found.add(difference, known.seq);
        }
    }

    /// Returns in how many VMAs and (VMA, page table) tuples the pages are that a record at `base` maps; `None` if one
    /// is in no VMA, or in one that is not looked at.
    fn spread(
        &self,
        tracker: &Tracker,
        guard: &ReadGuard<'_>,
        (base, start, end): (usize, usize, usize),
        entire: bool,
    ) -> Option<(u32, u32)> {
        let g = tracker.table.geometry();
        let table = 1usize << (g.page_shift + g.pmd_order);
        let is_mapped = |addr: usize| {
            let page = addr.wrapping_sub(base) >> g.page_shift;
            let word = self.pages.get(page / 64).copied().unwrap_or(0);
            word >> (page % 64) & 1 != 0 || entire && page == 0
        };
        let mapped = self.pages.iter().map(|word| word.count_ones()).sum::<u32>()
            + u32::from(entire && !is_pte_mapped(&self.pages));
        let (mut vmas, mut tuples, mut seen) = (0, 0, 0);
        let mut addr = start;
        while addr < end {
            let Some(vma) = guard.find_vma(addr).filter(|vma| vma.start < end) else {
                break;
            };
            if vma.hugetlb {
                return None;
            }
            let (mut here, mut last) = (0, None);
            addr = addr.max(vma.start);
            while addr < vma.end.min(end) {
                if is_mapped(addr) {
                    seen += 1;
                    if last != Some(addr / table) {
                        here += 1;
                        last = Some(addr / table);
                    }
                }
                addr += 1 << g.page_shift;
            }
            vmas += u32::from(here > 0);
            tuples += here;
        }
        (seen == mapped).then_some((vmas, tuples))
    }
}

/// Returns whether page 0 is mapped by a PTE.
fn is_pte_mapped(pages: &[u64]) -> bool {
    pages.first().is_some_and(|word| word & 1 != 0)
}
