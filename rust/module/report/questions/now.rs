// SPDX-License-Identifier: GPL-2.0

//! What is tracked at this moment.

use fmi_model::{
    ByKind,
    FolioView,
    Question,
    State, //
};

use crate::tracker::Tracker;

/// Folios that are looked at under one hold of a lock.
const STEP: u32 = 64;

/// Sums over the folios that are tracked at this moment, by type.
#[derive(Default)]
pub(super) struct Now {
    /// Folios that are mapped.
    pub(super) folios: ByKind,
    /// Folios with more (VMA, page table) tuples than VMAs.
    pub(super) unaligned: ByKind,
    /// Folios of which some page is not mapped.
    pub(super) partial: ByKind,
    /// Pages that are mapped.
    pub(super) pages: ByKind,
    /// Pages of all folios that are mapped, mapped themselves or not.
    pub(super) whole: ByKind,
    /// Pages of folios as large as a PMD that a PMD maps.
    pub(super) pmd_mapped: ByKind,
    /// Pages of folios as large as a PMD, however they are mapped.
    pub(super) pmd_sized: ByKind,
    /// Mappings of all folios.
    pub(super) mappings: u64,
    /// Most mappings of one folio.
    pub(super) most_mappings: u64,
}

impl Now {
    /// Adds up, a few folios at a time.
    pub(super) fn of(tracker: &Tracker) -> Self {
        let mut now = Self::default();
        for i in 0.. {
            let mut from = 0;
            loop {
                let next = tracker.table.with_shard(i, |shard| {
                    let end = shard.nr_slots().0.min(from + STEP);
                    for view in (from..end).filter_map(|entry| shard.view(entry)) {
                        now.add(&view);
                    }
                    (end == from + STEP).then_some(end)
                });
                match next {
                    None => return now,
                    Some(Some(Some(next))) => from = next,
                    Some(_) => break,
                }
            }
        }
        now
    }

    fn add(&mut self, v: &FolioView) {
        if v.state != State::Live {
            return;
        }
        let k = v.kind.index();
        let add = |counts: &mut ByKind, n: u64| {
            if let Some(count) = counts.get_mut(k) {
                *count = count.saturating_add(n);
            }
        };
        let (nr, mapped) = (u64::from(v.nr_pages), u64::from(v.nr_pages_mapped));
        add(&mut self.folios, 1);
        add(&mut self.unaligned, u64::from(v.vma_pt > v.vma));
        add(&mut self.partial, u64::from(mapped < nr));
        let counted = Question::Stat.is_asked_of(v.kind);
        if counted {
            add(&mut self.pages, mapped);
            add(&mut self.whole, nr);
        }
        if counted && v.order == v.pmd_order {
            add(&mut self.pmd_mapped, if v.entire > 0 { nr } else { 0 });
            add(&mut self.pmd_sized, nr);
        }
        self.mappings = self.mappings.saturating_add(v.total);
        self.most_mappings = self.most_mappings.max(v.total);
    }
}
