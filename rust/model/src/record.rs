// SPDX-License-Identifier: GPL-2.0

//! The mappings of one folio in one MM at one base.

use crate::bits::{
    pages_of_order,
    Pages, //
};

/// Set in [`Record::place`] while the whole folio is mapped by one entry here.
pub(crate) const ENTIRE: u64 = 1 << 0;

/// Set while PTEs map all pages here.
pub(crate) const ALL: u64 = 1 << 1;

/// Set while PTEs map some pages here, but not all.
pub(crate) const SOME: u64 = 1 << 2;

/// Set if there is a [`Detail`].
const DETAILED: u64 = 1 << 3;

/// Set if the present run removes, and pages of its VMA and page table are left.
pub(crate) const TUPLE_LEFT: u64 = 1 << 4;

/// Set if the present run removes, and pages of its VMA are left.
pub(crate) const VMA_LEFT: u64 = 1 << 5;

/// Where bits of the run of a record without detail are.
const RUN_SHIFT: u32 = 4;

/// All of them.
const RUN_BITS: u64 = 0xff << RUN_SHIFT;

/// The bits below the address of a page: what else is in [`Record::place`].
const LOW_BITS: u64 = (1 << 12) - 1;

/// The mappings of one folio in one MM at one base address. All bytes zero is a free one.
///
/// PTE mappings and the entire mapping are independent: while a PMD is split a record has both.
///
/// Most records are *short*: all PTEs or one entry map the folio in one VMA, the last call made a
/// mapping and was about the last page, too; or none is known, because the mappings were found or
/// moved. Anything else is kept in a [`Detail`], which takes the place of a record.
///
/// Of the run that the last call belongs to a short record keeps 8 bits. That is enough: a call of
/// the same run would make a mapping, and there is none left to be made but one entry beside all
/// PTEs, which the kernel never makes.
///
/// # Invariants
///
/// * A record in use maps something: one of [`ENTIRE`], [`ALL`] and [`SOME`] is set. So it is between
///   two operations; [`ALL`] and [`SOME`] are never both set.
/// * There is a detail if [`SOME`] is set.
#[derive(Clone, Copy, Default, Debug)]
#[repr(C, packed(4))]
pub struct Record {
    /// The MM.
    pub(crate) mm: u64,
    /// The address of page 0 of the folio, wrapping, which is that of a page; the flags above, and
    /// 8 bits of the run from bit [`RUN_SHIFT`] on if there is no detail, 0 for none.
    pub(crate) place: u64,
    /// The kernel's id of the MM, or link of the detail.
    pub(crate) own: u32,
    /// Link of the folio's entry; 0 for an unused record, and for one that is a detail.
    pub(crate) entry: u32,
    /// Link of the next record in the hash bucket, or in the list of free records.
    pub(crate) hash_next: u32,
    /// Link of the previous record of the folio.
    pub(crate) prev: u32,
    /// Link of the next record of the folio.
    pub(crate) next: u32,
}

const _: () = assert!(size_of::<Record>() == 36);

impl Record {
    /// Returns a record that maps nothing yet; `None` if the base is not the address of a page.
    #[inline]
    pub(crate) fn new(mm: u64, base: u64) -> Option<Self> {
        (base & LOW_BITS == 0).then_some(Self {
            mm,
            place: base,
            ..Self::default()
        })
    }

    /// Returns whether this is a record that was never used.
    pub fn is_free(&self) -> bool {
        self.mm | self.place == 0 && self.own | self.entry | self.hash_next | self.prev == 0
    }

    /// Returns the address of page 0 of the folio, wrapping.
    #[inline]
    pub(crate) fn base(&self) -> u64 {
        self.place & !LOW_BITS
    }

    /// Notes another base; returns whether it is the address of a page.
    #[inline]
    pub(crate) fn set_base(&mut self, base: u64) -> bool {
        let fits = base & LOW_BITS == 0;
        if fits {
            self.place = base | (self.place & LOW_BITS);
        }
        fits
    }

    /// Returns whether the whole folio is mapped by one entry here.
    #[inline]
    pub(crate) fn entire(&self) -> bool {
        self.has(ENTIRE)
    }

    /// Returns whether one of some flags is set.
    #[inline]
    pub(crate) fn has(&self, flags: u64) -> bool {
        self.place & flags != 0
    }

    /// Sets or clears flags.
    #[inline]
    pub(crate) fn put(&mut self, flags: u64, set: bool) {
        self.place = if set {
            self.place | flags
        } else {
            self.place & !flags
        };
    }

    /// Returns whether nothing is mapped here.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        !self.has(ENTIRE | ALL | SOME)
    }

    /// Returns whether the mappings are such that a short record can hold them.
    #[inline]
    pub(crate) fn is_simple(&self) -> bool {
        matches!(self.place & (ENTIRE | ALL | SOME), ENTIRE | ALL)
    }

    /// Returns whether this is a short record with this flag of [`ENTIRE`] and [`ALL`] only.
    #[inline]
    pub(crate) fn is_short(&self, flag: u64) -> bool {
        self.place & (ENTIRE | ALL | SOME | DETAILED) == flag
    }

    /// Returns the link of the detail.
    #[inline]
    pub(crate) fn detail(&self) -> Option<u32> {
        self.has(DETAILED).then_some(self.own)
    }

    /// Makes it one with a detail at a link; the bits of the run go.
    pub(crate) fn attach(&mut self, link: u32) {
        self.place &= !LOW_BITS | ENTIRE | ALL | SOME;
        self.place |= DETAILED;
        self.own = link;
    }

    /// Makes it a short one.
    #[inline]
    pub(crate) fn shorten(&mut self, mm_id: u32, run: u32) {
        let bits = if run == 0 { 0 } else { run_bits(run) };
        self.place &= !LOW_BITS | ENTIRE | ALL | SOME;
        self.place |= bits;
        self.own = mm_id;
    }

    /// Forgets the last call on a short record.
    #[inline]
    pub(crate) fn forget_run(&mut self) {
        self.place &= !LOW_BITS | ENTIRE | ALL | SOME;
    }

    /// Notes the kernel's id of the MM of a short record.
    #[inline]
    pub(crate) fn set_mm_id(&mut self, mm_id: u32) {
        self.own = mm_id;
    }

    /// Returns the kernel's id of the MM of a short record.
    #[inline]
    pub(crate) fn mm_id(&self) -> u32 {
        self.own
    }

    /// Returns what there is to know of a short record beside its mappings.
    pub(crate) fn implied(&self) -> Detail {
        let noted = self.notes_run();
        Detail {
            mm_id: self.own,
            last_end: if noted { u32::MAX } else { 0 },
            ..Detail::default()
        }
    }

    /// Returns whether the last call on a short record is known.
    #[inline]
    pub(crate) fn notes_run(&self) -> bool {
        self.place & RUN_BITS != 0
    }

    /// Returns whether the last call on a short record may be of this run.
    #[inline]
    pub(crate) fn may_be_of_run(&self, run: u32) -> bool {
        self.place & RUN_BITS == run_bits(run)
    }
}

/// Returns the bits of a run that a short record keeps; never 0.
#[inline]
fn run_bits(run: u32) -> u64 {
    u64::from(run & 0xff).max(1) << RUN_SHIFT
}

/// What a record has beside one that is short.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Detail {
    /// The set of PTE-mapped pages of a folio of up to 64 pages, while some pages are and others not.
    /// For a larger folio the link of a chunk that holds the set, and how many they are in the upper
    /// half. 0 for none.
    pub(crate) bits: u64,
    /// Likewise the set of pages (never page 0) that begin another VMA than the page before them.
    pub(crate) bounds: u64,
    /// The kernel's id of the MM.
    pub(crate) mm_id: u32,
    /// The run that the last call belongs to, as the lower half of its key; 0 for none.
    ///
    /// That of the folio ([`crate::FolioEntry`]) ends with a call on any record, this one does not.
    /// A record may be mapped by several (VMA, page table) tuples: calls that alternate between them
    /// are runs of their own here.
    pub(crate) run: u32,
    /// The page behind the last one of the last call, or any number above that.
    pub(crate) last_end: u32,
    /// The lower half of the identity of the page table, if several MMs may share it; else 0. See
    /// `shard/shared.rs`.
    pub(crate) table: u32,
}

/// What a detail is in the place of a record.
impl Record {
    /// [`Detail::bits`].
    #[inline]
    pub(crate) fn bits(&self) -> u64 {
        self.mm
    }

    /// [`Detail::bounds`].
    #[inline]
    pub(crate) fn bounds(&self) -> u64 {
        self.place
    }

    /// [`Detail::last_end`].
    #[inline]
    pub(crate) fn last_end(&self) -> u32 {
        self.prev
    }

    /// [`Detail::run`].
    #[inline]
    pub(crate) fn run(&self) -> u32 {
        self.hash_next
    }

    /// Notes a call.
    #[inline]
    pub(crate) fn note(&mut self, run: u32, mm_id: u32, table: u32, last_end: u32) {
        self.hash_next = run;
        self.own = mm_id;
        self.next = table;
        self.prev = last_end;
    }
}

impl Detail {
    /// Returns what is stored in place of a record.
    #[inline]
    pub(crate) fn of(unit: &Record) -> Self {
        Self {
            bits: unit.mm,
            bounds: unit.place,
            mm_id: unit.own,
            run: unit.hash_next,
            last_end: unit.prev,
            table: unit.next,
        }
    }

    /// Returns what is stored in place of a record; it does not look like one in use.
    #[inline]
    pub(crate) fn stored(self) -> Record {
        Record {
            mm: self.bits,
            place: self.bounds,
            own: self.mm_id,
            entry: 0,
            hash_next: self.run,
            prev: self.last_end,
            next: self.table,
        }
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

    /// Returns how many page tables the folio is in.
    #[inline]
    pub(crate) fn nr_tables(&self) -> u32 {
        self.of(self.nr_pages.wrapping_sub(1)).wrapping_add(1)
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
    /// Counts the VMAs and tuples of a record in constant time, if that can be done; `one_vma`: it has
    /// no VMA boundary.
    ///
    /// An entire mapping is one entry: it belongs to the VMA and page table of page 0, and shares the
    /// tuple with PTE mappings there.
    #[inline]
    pub(crate) fn simple(record: &Record, slots: &Slots, one_vma: bool) -> Option<Self> {
        if record.is_empty() {
            return Some(Self::default());
        }
        let tables = slots.nr_tables();
        let whole = record.has(ALL);
        (one_vma && (tables == 1 || !record.has(SOME))).then_some(Self {
            vma: 1,
            vma_pt: if whole { tables } else { 1 },
            full: u32::from(whole || record.entire()),
        })
    }

    /// Counts VMA by VMA, page table by page table, with a look at each word of the sets: `pages` are the
    /// PTE-mapped ones, `bounds` the VMA boundaries.
    pub(crate) fn by_parts(
        record: &Record,
        slots: &Slots,
        pages: Pages<'_>,
        bounds: Pages<'_>,
    ) -> Self {
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
                let all = start == 0 && end == nr_pages && record.has(ALL);
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
        let spread = Spread::simple(&Record::default(), &slots, false);
        assert_eq!(spread, Some(Spread::default()));
    }
}
