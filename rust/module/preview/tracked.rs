// SPDX-License-Identifier: GPL-2.0

//! Sums over the tracked folios: changes 1, 4 and 7.
//!
//! The shadow only says which folios there are; all numbers are the kernel's. But a kernel without
//! mapcounts per page does not know how many pages of a folio are mapped, as change 7 asks: the
//! shadow does.

use kernel::prelude::*;

use fmi_model::{
    preview::{
        mapped_pages,
        pmd_mapped_pages,
        FolioCounts, //
    },
    DefinitionId,
    Env,
    FolioView,
    KernelCounts,
    Kind,
    Sketches, //
};

use super::{
    figures::{
        Figure,
        Figures,
        Histograms,
        Spread, //
    },
    memcg::Memcgs,
    Rules, //
};
use crate::{
    env::page_mapcounts,
    procwalk,
    tracker::Tracker, //
};

/// Folios that are taken from the table under one hold of its lock.
const CHUNK: usize = 64;

/// What the passes over the tracked folios add up to; pages unless said otherwise.
pub(super) struct Tracked<'a> {
    /// The figures that are complete here.
    pub(super) figures: &'a mut Figures,
    /// Anon, then file: pages in the statistics as they are.
    pub(super) mapped: [i64; 2],
    /// How many more there would be.
    pub(super) extra: [i64; 2],
    /// Pages in AnonHugePages.
    pub(super) huge: i64,
    /// Pages that are unmapped and hold on to memory, of unnoticed folios.
    pub(super) unnoticed: i64,
    /// By how much kpagecount differs, by page.
    histograms: &'a mut Histograms,
    /// By memory cgroup.
    pub(super) memcgs: Memcgs,
    rules: Rules,
    /// `page->_mapcount` + 1 of the pages of a folio.
    pages: KVVec<i32>,
}

/// Returns whether PG_partially_mapped would be set under NO_PAGE_MAPCOUNT; also if that depends on
/// a past that is not known.
fn would_be_flagged(view: &FolioView, sketches: &Sketches) -> bool {
    let info = DefinitionId::PartialRule.info();
    info.and_then(|d| d.value_of(view, sketches))
        .is_none_or(|flagged| flagged != 0)
}

impl<'a> Tracked<'a> {
    /// Passes over all folios that are tracked and mapped.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EINTR`.
    pub(super) fn take(
        tracker: &Tracker,
        rules: Rules,
        figures: &'a mut Figures,
        histograms: &'a mut Histograms,
    ) -> Result<Tracked<'a>> {
        let geometry = tracker.table.geometry();
        let mut tracked = Self {
            figures,
            mapped: [0; 2],
            extra: [0; 2],
            huge: 0,
            unnoticed: 0,
            histograms,
            memcgs: Memcgs::new()?,
            rules,
            pages: KVVec::from_elem(0, 1 << geometry.max_order, GFP_KERNEL)?,
        };
        let env = tracker.env();
        let mut list =
            KVVec::<(u64, u32, bool, Option<KernelCounts>)>::with_capacity(CHUNK, GFP_KERNEL)?;
        for i in 0.. {
            let mut from = 0;
            loop {
                list.clear();
                let next = tracker.table.with_shard(i, |shard| {
                    let end = shard.nr_slots().0.min(from + CHUNK as u32);
                    // hugetlb has statistics of its own.
                    let counts = |view: &FolioView| view.total > 0 && view.kind != Kind::Hugetlb;
                    for entry in from..end {
                        if let Some(view) = shard.view(entry).filter(counts) {
                            // Under the lock the last remove cannot pass: the folio stays.
                            let counts = env.kernel_of(view.pfn, view.order);
                            let would = would_be_flagged(&view, &shard.sketches(entry));
                            let folio = (view.pfn, view.nr_pages_mapped, would, counts);
                            // Cannot fail: there is room.
                            let _ = list.push(folio, GFP_NOWAIT);
                        }
                    }
                    let more = end == from + CHUNK as u32;
                    from = end;
                    more.then_some(())
                });
                for (pfn, mapped, would, counts) in &list {
                    match counts {
                        Some(k) => {
                            let mapped = i64::from(*mapped);
                            tracked.folio(*pfn, k, mapped, *would, geometry.pmd_order);
                        }
                        None => tracked.figures.add(Figure::TrackedGone, 1),
                    }
                }
                procwalk::pause()?;
                match next {
                    None => return Ok(tracked),
                    Some(Some(Some(()))) => {}
                    Some(_) => break,
                }
            }
        }
        Ok(tracked)
    }

    fn folio(&mut self, pfn: u64, k: &KernelCounts, mapped: i64, would: bool, pmd_order: u8) {
        self.figures.add(Figure::TrackedFolios, 1);
        let [now, then] = self.rules.map(|rule| i64::from(mapped_pages(k, rule)));
        let kind = usize::from(!k.anon);
        for (sums, nr) in [(&mut self.mapped, now), (&mut self.extra, then - now)] {
            if let Some(sum) = sums.get_mut(kind) {
                *sum += nr;
            }
        }
        if k.anon {
            self.huge += i64::from(pmd_mapped_pages(k, pmd_order));
        }
        if then != now {
            self.memcgs.add(pfn, k.order, k.anon, then - now);
        }
        self.partial(k, would, if k.per_page { now } else { mapped });
        self.kpagecount(pfn, k);
    }

    /// Change 7. The flag is set at a remove and stays, under either rule: `would` says whether it
    /// would be set without per-page counts.
    fn partial(&mut self, k: &KernelCounts, would: bool, mapped: i64) {
        let nr = 1i64 << k.order;
        let partial = k.large > 0 && mapped < nr;
        let certain = FolioCounts::from(k).certainly_partially_mapped();
        if !k.anon {
            self.figures.add(Figure::PartialFile, i64::from(partial));
            return;
        }
        self.figures.add(Figure::PartialAnon, i64::from(partial));
        let flagged = k.partially_mapped;
        self.figures
            .add(Figure::PartialFlagged, i64::from(partial && flagged));
        self.figures
            .add(Figure::PartialStale, i64::from(flagged && !partial));
        self.figures
            .add(Figure::PartialCertain, i64::from(partial && certain));
        if partial && !would {
            self.figures.add(Figure::PartialUnnoticed, 1);
            self.unnoticed += nr - mapped;
        }
    }

    /// Change 4.
    fn kpagecount(&mut self, pfn: u64, k: &KernelCounts) {
        let counts = FolioCounts::from(k);
        let nr = 1usize << k.order;
        // Where no page is mapped by a PTE, all are mapped alike.
        if k.large == k.entire {
            let sum = i64::from(k.entire) << k.order;
            self.figures.add(Figure::Kpagecount, sum);
            self.figures.add(Figure::KpagecountWould, sum);
            self.histograms.add(Spread::Kpagecount, 0, nr as u64);
            return;
        }
        let Some(pages) = self.pages.get_mut(..nr) else {
            return;
        };
        if !page_mapcounts(pfn, k.order, 0, pages) && k.per_page {
            return;
        }
        let (mut higher, mut lower) = (0, 0);
        let (mut sum, mut sum_would) = (0i64, 0i64);
        for page in pages.iter() {
            let [now, then] = self.rules.map(|rule| counts.kpagecount(*page, rule));
            let error = then.saturating_sub(now);
            sum = sum.saturating_add(now);
            sum_would = sum_would.saturating_add(then);
            higher += i64::from(error > 0);
            lower += i64::from(error < 0);
            self.histograms.add(Spread::Kpagecount, error, 1);
            self.figures.at_least(Figure::KpagecountMostOver, error);
            self.figures.at_most(Figure::KpagecountMostUnder, error);
        }
        for (figure, value) in [
            (Figure::Kpagecount, sum),
            (Figure::KpagecountWould, sum_would),
            (Figure::KpagecountHigher, higher),
            (Figure::KpagecountLower, lower),
            (Figure::KpagecountHigherFolios, i64::from(higher > 0)),
            (Figure::KpagecountLowerFolios, i64::from(lower > 0)),
        ] {
            self.figures.add(figure, value);
        }
    }
}
