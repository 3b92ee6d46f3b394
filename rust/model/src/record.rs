// SPDX-License-Identifier: GPL-2.0

//! The mappings of one folio in one MM at one base.

use crate::bits::{
    pages_of_order,
    Pages, //
};

/// Set in [`Record::meta`] while the whole folio is mapped by one entry here.
const ENTIRE: u32 = 1 << 31;

/// Set in [`Record::meta`] if the present run removes, and pages of its VMA and page table are left.
pub(crate) const TUPLE_LEFT: u32 = 1 << 30;

/// Set in [`Record::meta`] if the present run removes, and pages of its VMA are left.
pub(crate) const VMA_LEFT: u32 = 1 << 29;

/// The bits of [`Record::meta`] that are not flags.
const BOUNDS: u32 = VMA_LEFT - 1;

/// The mappings of one folio in one MM at one base address.
///
/// All bytes zero is an unused record. `nr` PTE mappings and the entire mapping are independent:
/// while a PMD is split a record has both.
///
/// # Invariants
///
/// * A record in use maps something: `nr > 0` or it is entire.
/// * `bits` is the set of PTE-mapped pages of a folio of up to 64 pages. For a larger folio it is
///   the link of a chunk that holds the set if `0 < nr < N`, and 0 otherwise.
/// * `bounds` likewise is the set of pages (never page 0) that begin another VMA than the page
///   before them; it has a chunk if there is any.
#[derive(Clone, Copy, Default, Debug)]
pub struct Record {
    /// The MM.
    pub(crate) mm: u64,
    /// The address of page 0 of the folio, wrapping.
    pub(crate) base: u64,
    /// Which pages are mapped by PTEs.
    pub(crate) bits: u64,
    /// Before which pages a VMA ends.
    pub(crate) bounds: u64,
    /// Link of the folio's entry; 0 for an unused record.
    pub(crate) entry: u32,
    /// Link of the next record in the hash bucket, or in the list of free records.
    pub(crate) hash_next: u32,
    /// Link of the previous record of the folio.
    pub(crate) prev: u32,
    /// Link of the next record of the folio.
    pub(crate) next: u32,
    /// How many pages are mapped by PTEs.
    pub(crate) nr: u32,
    /// Number of VMA boundaries, and [`ENTIRE`] and other flags.
    pub(crate) meta: u32,
    /// The run that the last call belongs to, as the lower half of its key; 0 for none.
    ///
    /// That of the folio ([`crate::FolioEntry`]) ends with a call on any record, this one does not.
    /// A record may be mapped by several (VMA, page table) tuples: calls that alternate between them
    /// are runs of their own here.
    pub(crate) run: u32,
    /// The kernel's id of the MM.
    pub(crate) mm_id: u32,
    /// The page behind the last one of the last call.
    pub(crate) last_end: u32,
    /// The lower half of the identity of the page table, if several MMs may share it; else 0. See
    /// `shard/shared.rs`.
    pub(crate) table: u32,
}

const _: () = assert!(size_of::<Record>() == 72);

impl Record {
    /// Returns whether the whole folio is mapped by one entry here.
    #[inline]
    pub(crate) fn entire(&self) -> bool {
        self.has(ENTIRE)
    }

    /// Notes whether the whole folio is mapped by one entry here.
    #[inline]
    pub(crate) fn set_entire(&mut self, entire: bool) {
        self.put(ENTIRE, entire);
    }

    /// Returns the number of VMA boundaries inside the record.
    #[inline]
    pub(crate) fn nr_bounds(&self) -> u32 {
        self.meta & BOUNDS
    }

    /// Notes the number of VMA boundaries inside the record.
    #[inline]
    pub(crate) fn set_nr_bounds(&mut self, nr: u32) {
        self.meta = (self.meta & !BOUNDS) | (nr & BOUNDS);
    }

    /// Returns whether a flag is set.
    #[inline]
    pub(crate) fn has(&self, flag: u32) -> bool {
        self.meta & flag != 0
    }

    /// Sets or clears a flag.
    #[inline]
    pub(crate) fn put(&mut self, flag: u32, set: bool) {
        self.meta = if set {
            self.meta | flag
        } else {
            self.meta & !flag
        };
    }

    /// Returns whether nothing is mapped here.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.nr == 0 && !self.entire()
    }
}

/// How the addresses of a folio fall into page tables.
#[derive(Clone, Copy)]
pub(crate) struct Slots {
    /// Number of pages of the folio.
    pub(crate) nr_pages: u32,
    /// Position of page 0 in its page table.
    offset: u32,
    /// Number of pages that a page table maps, as a shift.
    shift: u8,
}

impl Slots {
    /// Returns how a folio of this order at `base` falls into page tables.
    #[inline]
    pub(crate) fn new(base: u64, order: u8, page_shift: u8, pmd_order: u8) -> Self {
        let mask = u64::from(pages_of_order(pmd_order)).wrapping_sub(1);
        let page = base.wrapping_shr(u32::from(page_shift));
        Self {
            nr_pages: pages_of_order(order),
            offset: u32::try_from(page & mask).unwrap_or(0),
            shift: pmd_order,
        }
    }

    /// Returns which of the folio's page tables maps the page, counted from that of page 0.
    #[inline]
    fn of(&self, page: u32) -> u32 {
        self.offset
            .wrapping_add(page)
            .wrapping_shr(u32::from(self.shift))
    }

    /// Returns the first page of the folio that the page table of `page` maps.
    #[inline]
    pub(crate) fn start_of(&self, page: u32) -> u32 {
        self.of(page)
            .wrapping_shl(u32::from(self.shift))
            .saturating_sub(self.offset)
    }

    /// Returns the first page that the page table behind that of `page` maps.
    #[inline]
    pub(crate) fn end_of(&self, page: u32) -> u32 {
        self.of(page)
            .wrapping_add(1)
            .wrapping_shl(u32::from(self.shift))
            .wrapping_sub(self.offset)
    }
}

/// Over how many VMAs and page tables the mappings of a record spread.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Spread {
    /// VMAs that map at least one page.
    pub(crate) vma: u32,
    /// Tuples of a VMA and a page table that map at least one page.
    pub(crate) vma_pt: u32,
    /// VMAs that map all pages.
    pub(crate) full: u32,
}

impl Spread {
    /// Counts the VMAs and tuples of a record.
    ///
    /// `pages` are the PTE-mapped ones, `bounds` the VMA boundaries (not read without any). An
    /// entire mapping is one entry: it belongs to the VMA and page table of page 0, and shares the
    /// tuple with PTE mappings there. Whole records, and records inside one VMA and page table, take
    /// constant time; others a look at each word of the sets.
    pub(crate) fn of(record: &Record, slots: &Slots, pages: Pages<'_>, bounds: Pages<'_>) -> Self {
        if record.is_empty() {
            return Self::default();
        }
        let nr_pages = slots.nr_pages;
        let whole = record.nr == nr_pages;
        let last = slots.of(nr_pages.wrapping_sub(1));
        if record.nr_bounds() == 0 && (last == 0 || whole || record.nr == 0) {
            return Self {
                vma: 1,
                vma_pt: if whole { last.wrapping_add(1) } else { 1 },
                full: u32::from(whole || record.entire()),
            };
        }
        Self::by_parts(record, slots, pages, bounds)
    }

    /// Counts those of a record that has one entry or all PTEs, and no boundary.
    #[inline]
    pub(crate) fn whole(entire: bool, slots: &Slots) -> Self {
        let last = slots.of(slots.nr_pages.wrapping_sub(1));
        Self {
            vma: 1,
            vma_pt: if entire { 1 } else { last.wrapping_add(1) },
            full: 1,
        }
    }

    /// Counts VMA by VMA, page table by page table.
    fn by_parts(record: &Record, slots: &Slots, pages: Pages<'_>, bounds: Pages<'_>) -> Self {
        let nr_pages = slots.nr_pages;
        let mut spread = Self::default();
        let mut start = 0;
        while start < nr_pages {
            let end = bounds
                .next(start.wrapping_add(1), nr_pages)
                .unwrap_or(nr_pages);
            let entire = start == 0 && record.entire();
            let mut tuples = 0u32;
            let mut page = start;
            while page < end {
                let stop = slots.end_of(page).min(end);
                if (page == 0 && entire) || pages.any(page, stop) {
                    tuples = tuples.wrapping_add(1);
                }
                page = stop;
            }
            if tuples > 0 {
                let all = start == 0 && end == nr_pages && record.nr == nr_pages;
                spread.vma = spread.vma.wrapping_add(1);
                spread.vma_pt = spread.vma_pt.wrapping_add(tuples);
                spread.full = spread.full.wrapping_add(u32::from(all || entire));
            }
            start = end;
        }
        spread
    }
}

/// One record, to be read by somebody else.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecordView {
    /// The MM.
    pub mm: u64,
    /// The kernel's id of the MM.
    pub mm_id: u32,
    /// The mapping is in a page table that several MMs share: no MM is known.
    pub shared_table: bool,
    /// The address of page 0 of the folio, wrapping; see [`crate::Call::base`]. In a shared table
    /// counted from the first address of the table.
    pub base: u64,
    /// The order of the folio.
    pub order: u8,
    /// How many pages are mapped by PTEs.
    pub nr: u32,
    /// The first of them; 0 if there is none.
    pub first: u32,
    /// The last of them; 0 if there is none.
    pub last: u32,
    /// Whether the whole folio is mapped by one entry.
    pub entire: bool,
    /// How many VMAs map at least one page here.
    pub vmas: u32,
    /// How many (VMA, page table) tuples map at least one page here.
    pub tuples: u32,
    /// How many VMA boundaries lie inside the range of the folio.
    pub boundaries: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_tables_of_a_base_below_zero() {
        // Page 0 is 3 pages below address 0: the last 3 pages of the last table.
        let slots = Slots::new(0u64.wrapping_sub(3 << 12), 4, 12, 9);
        assert_eq!(slots.of(2), 0);
        assert_eq!(slots.of(3), 1);
        assert_eq!(slots.end_of(0), 3);
        assert_eq!(slots.end_of(3), 515);
    }

    #[test]
    fn an_empty_record_spreads_over_nothing() {
        let slots = Slots::new(0, 4, 12, 9);
        let spread = Spread::of(&Record::default(), &slots, Pages::None, Pages::None);
        assert_eq!(spread, Spread::default());
    }
}
