// SPDX-License-Identifier: GPL-2.0

//! Reading the shadow.

use super::entry::{
    ADOPTED,
    EVER_PARTIAL,
    EVER_SHARED,
    EVER_UNALIGNED, //
};
use super::shared::is_table;
use super::{
    position_of,
    Fail,
    Shard,
    State,
    CORRUPT, //
};
use crate::bits::{
    index,
    mask_in,
    narrow,
    pages_of_order,
    Pages, //
};
use crate::planes::PartCounts;
use crate::{
    Env,
    FolioEntry,
    FolioView,
    PairSet,
    RecordView,
    Sketches, //
};

impl Shard<'_> {
    /// Returns the numbers of the folio at a position, without the kernel's counters; `None` for a
    /// free entry.
    pub fn view(&self, entry: u32) -> Option<FolioView> {
        self.view_of(entry)
            .ok()
            .filter(|view| view.state != State::Unused)
    }

    /// Returns the numbers of the folio at a position, with the kernel's counters if they stand
    /// still and can be read; then also with what a reader asks, see [`Shard::ask_all`].
    pub fn view_with_kernel(&self, entry: u32, env: &impl Env) -> Option<FolioView> {
        let mut view = self.view(entry)?;
        let tracked = matches!(view.state, State::Live | State::Draining);
        if tracked && self.quiescent(entry, env, u32::MAX).ok()? {
            view.kernel = env.kernel_of(view.pfn, view.order);
            view.ask = view.kernel.and_then(|_| self.reader(entry, env).ok());
        }
        Some(view)
    }

    /// Counts what a folio's entry does not keep, and returns all of it.
    pub(crate) fn view_of(&self, e: u32) -> Result<FolioView, Fail> {
        let mut view = FolioView::default();
        self.fill_view(e, &mut view)?;
        Ok(view)
    }

    /// Stores the same.
    pub(crate) fn fill_view(&self, e: u32, view: &mut FolioView) -> Result<(), Fail> {
        let entry = self.entry(e)?;
        let nr_pages = pages_of_order(entry.order);
        let plain;
        let counts = match position_of(entry.history) {
            None => {
                plain = entry.counts();
                &plain
            }
            Some(h) => &self.history.get(index(h)).ok_or(CORRUPT)?.counts,
        };
        let nr_pte_mapped = counts.nr_pte_mapped(entry.order);
        let every = counts.entire.wrapping_add(counts.whole);
        let parts = if counts.parts > 0 {
            self.part_counts(e)?
        } else {
            PartCounts::default()
        };
        let entire = u64::from(counts.entire);
        let (asker_mm, asker_mm_id, asker_base) = match position_of(entry.first_record()) {
            Some(r) => {
                let record = self.record(r)?;
                (record.mm, self.detail(record)?.mm_id, record.base())
            }
            None => (0, 0, 0),
        };
        *view = FolioView {
            pfn: entry.pfn(),
            order: entry.order,
            nr_pages,
            kind: entry.kind,
            state: entry.state,
            total: counts.total,
            entire: counts.entire,
            nr_pages_mapped: if counts.entire > 0 {
                nr_pages
            } else {
                nr_pte_mapped
            },
            nr_pte_mapped,
            first_page: every.saturating_add(parts.first),
            min_page: every.saturating_add(parts.least),
            min_mapped_page: if every > 0 {
                every.saturating_add(parts.least)
            } else {
                parts.least_mapped
            },
            max_page: every.saturating_add(parts.most),
            mm: counts.mm,
            vma: counts.vma,
            vma_pt: counts.vma_pt,
            full: counts.full,
            partial: counts.vma.wrapping_sub(counts.full),
            total_pages: counts
                .total
                .wrapping_sub(entire)
                .wrapping_add(entire.wrapping_mul(u64::from(nr_pages))),
            nr_records: counts.nr_records,
            seq: entry.seq,
            ever_shared: entry.has(EVER_SHARED),
            ever_partial: entry.has(EVER_PARTIAL),
            ever_unaligned: entry.has(EVER_UNALIGNED),
            adopted: entry.has(ADOPTED),
            shared_table: counts.shared_table,
            kernel: None,
            pmd_order: self.state.geometry.pmd_order,
            asker_mm,
            asker_mm_id,
            asker_base,
            ask: None,
        };
        Ok(())
    }

    /// Returns the records of the folio at a position.
    pub fn records(&self, entry: u32) -> RecordIter<'_> {
        RecordIter {
            shard: self,
            next: self.entry(entry).map_or(0, FolioEntry::first_record),
        }
    }

    /// Returns the record of the folio in this MM at this base.
    pub fn record_of(&self, entry: u32, mm: u64, base: u64) -> Option<RecordView> {
        self.view_record(self.lookup(entry, mm, base).ok()?.here?)
    }

    fn view_record(&self, r: u32) -> Option<RecordView> {
        let record = self.record(r).ok()?;
        let order = self.entry(position_of(record.entry)?).ok()?.order;
        let spread = self.spread(r, order).ok()?;
        let pages = self.pages_of(record, order).ok()?;
        let nr_pages = pages_of_order(order);
        Some(RecordView {
            mm: record.mm,
            mm_id: self.detail(record).ok()?.mm_id,
            shared_table: is_table(record.mm),
            base: record.base(),
            order,
            nr: self.nr_pages_of(record, order).ok()?,
            first: pages.next(0, nr_pages).unwrap_or(0),
            last: pages.last(nr_pages).unwrap_or(0),
            entire: record.entire(),
            vmas: spread.vma,
            tuples: spread.vma_pt,
            boundaries: self.nr_bounds_of(record, order).ok()?,
        })
    }

    /// Stores which pages of the folio are mapped by a PTE in this MM at this base, a bit for each.
    pub fn record_pages(&self, entry: u32, mm: u64, base: u64, pages: &mut [u64]) {
        let found = || -> Result<Option<(u32, Pages<'_>)>, Fail> {
            let order = self.entry(entry)?.order;
            let Some(r) = self.lookup(entry, mm, base)?.here else {
                return Ok(None);
            };
            let set = self.pages_of(self.record(r)?, order)?;
            Ok(Some((pages_of_order(order), set)))
        };
        let (nr, set) = found().ok().flatten().unwrap_or((0, Pages::None));
        for (n, word) in pages.iter_mut().enumerate() {
            *word = set.word(narrow(n)) & mask_in(narrow(n), 0, nr);
        }
    }

    /// Returns how many mappings cover page `i`: PTE mappings and entire ones.
    pub(crate) fn page(&self, entry: u32, i: u32) -> u32 {
        let Ok(folio) = self.entry(entry) else {
            return 0;
        };
        if i >= pages_of_order(folio.order) {
            return 0;
        }
        let counts = self.counts(folio).unwrap_or_default();
        let mut count = [counts.entire.saturating_add(counts.whole)];
        if counts.parts > 0 {
            self.add_part_counts(entry, i, &mut count);
        }
        let [count] = count;
        count
    }

    /// Stores how many PTEs map each page from `first` on: what `page->_mapcount` + 1 must be. 0 for
    /// what is no page of the folio.
    pub fn pages_pte(&self, entry: u32, first: u32, counts: &mut [u32]) {
        counts.fill(0);
        let Ok(folio) = self.entry(entry) else {
            return;
        };
        let whole = self.counts(folio).map_or(0, |counts| counts.whole);
        let end = pages_of_order(folio.order);
        let nr = index(end.saturating_sub(first)).min(counts.len());
        if let Some(counts) = counts.get_mut(..nr) {
            counts.fill(whole);
            self.add_part_counts(entry, first, counts);
        }
    }

    /// Returns the record at a position, if it is in use: the pfn, order, MM and base that it is
    /// about.
    pub fn record_at(&self, r: u32) -> Option<(u64, u8, u64, u64)> {
        let record = self.record(r).ok()?;
        let entry = self.entry(position_of(record.entry)?).ok()?;
        Some((entry.pfn(), entry.order, record.mm, record.base()))
    }

    /// Returns how many entries and how many records were ever used at the same time: positions
    /// from there on are free.
    pub fn nr_slots(&self) -> (u32, u32) {
        self.state.free.used()
    }

    /// Returns the pfn of the folio at a position if a copy with this ticket, or a later one, may have
    /// duplicated mappings of it that are gone.
    pub fn pending_since(&self, entry: u32, ticket: u64) -> Option<u64> {
        let entry = self.entry(entry).ok()?;
        (entry.pending >= ticket).then_some(entry.pfn())
    }

    /// Returns the number of changes to the shadow of a folio so far, wrapping.
    pub fn seq(&self, entry: u32) -> u32 {
        self.entry(entry).map_or(0, |entry| entry.seq)
    }

    /// Returns the counters that authors sketched, of the folio at a position.
    pub fn sketches(&self, entry: u32) -> Sketches {
        self.sketches_of(entry).unwrap_or_default()
    }

    /// Returns the pairs that answered the last evaluated state of a folio wrongly.
    pub fn wrong(&self, entry: u32) -> PairSet {
        self.entry(entry).map_or(PairSet::new(), FolioEntry::wrong)
    }
}

/// The records of one folio.
pub struct RecordIter<'a> {
    /// Where they are.
    shard: &'a Shard<'a>,
    /// Link of the next one.
    next: u32,
}

impl Iterator for RecordIter<'_> {
    type Item = RecordView;

    fn next(&mut self) -> Option<RecordView> {
        let r = position_of(self.next)?;
        self.next = self.shard.record(r).ok()?.next;
        self.shard.view_record(r)
    }
}
