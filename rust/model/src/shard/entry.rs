// SPDX-License-Identifier: GPL-2.0

//! The entry of one folio.

use crate::bits::{
    index,
    pages_of_order, //
};
use crate::record::Spread;
use crate::{
    Kind,
    LostReason,
    Operation,
    PairSet, //
};

/// What an entry stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum State {
    /// Nothing: the entry is free.
    #[default]
    Unused,
    /// A folio with mappings.
    Live,
    /// A folio without mappings, that calls in flight may still map; or one that is free by now.
    Draining,
    /// A folio that was lost: a marker against tracking it while calls are in flight.
    Lost,
    /// A mapped folio some of whose mappings are known, see `shard/learn.rs`.
    Learning,
}

impl State {
    /// Returns the name used in files.
    pub const fn name(self) -> &'static str {
        match self {
            State::Unused => "unused",
            State::Live => "tracked",
            State::Draining => "draining",
            State::Lost => "lost",
            State::Learning => "learning",
        }
    }
}

/// Number of bits that flags take.
const FLAG_BITS: u32 = 8;

/// Returns whether a pfn fits into an entry.
pub(crate) fn fits(pfn: u64) -> bool {
    pfn <= u64::MAX.wrapping_shr(FLAG_BITS)
}

/// The state has changed since the definitions were last evaluated.
pub(crate) const DIRTY: u8 = 1 << 0;
/// The state has changed since the kernel was last asked.
pub(crate) const KERNEL_DIRTY: u8 = 1 << 1;
/// An evaluated state had more than one MM.
pub(crate) const EVER_SHARED: u8 = 1 << 2;
/// An evaluated state had some pages mapped and others not.
pub(crate) const EVER_PARTIAL: u8 = 1 << 3;
/// The folio is in the ring of suspects.
pub(crate) const SUSPECT: u8 = 1 << 4;

/// An evaluated state had more (VMA, page table) tuples than VMAs.
pub(crate) const EVER_UNALIGNED: u8 = 1 << 5;
/// An evaluated state had more than two MMs.
pub(crate) const EVER_MANY: u8 = 1 << 6;
/// Of a folio that is learning: it was lost in the same phase, because of a window.
pub(crate) const RELEARNED: u8 = EVER_MANY;
/// The folio was mapped before it was tracked: its past is not known.
pub(crate) const ADOPTED: u8 = 1 << 7;

/// The shadow of one folio, beside its records. All bytes zero is a free entry.
///
/// # Invariants
///
/// * The counts are those of the folio's records, or they are in its history; see [`Counts`].
/// * There are records if the state is live; draining and lost entries have none and are on one of
///   two lists. Learning entries are on none.
#[derive(Clone, Copy, Default, Debug)]
pub struct FolioEntry {
    /// The pfn of the first page, and [`DIRTY`] and others in the low bits.
    pub(crate) id: u64,
    /// State of RCU at the last call.
    pub(crate) cookie: u64,
    /// The latest ticket of a copy that may hold mappings of which nothing is known yet.
    pub(crate) pending: u64,
    /// The pairs that answered the last evaluated state wrongly.
    pub(crate) wrong_low: u64,
    /// Number of changes, wrapping.
    pub(crate) seq: u32,
    /// The run that the last call belongs to, as the lower half of its key; 0 for none. For a lost
    /// folio the learning phase in which it was lost.
    pub(crate) run: u32,
    /// Identity of the VMA that mapped the folio first since it was unmapped. For a lost folio why.
    pub(crate) owner: u32,
    /// The thread that made the last change.
    pub(crate) pid: u32,
    /// Link of what is kept beside; 0 if the records of the folio say all of it, see
    /// `shard/plain.rs`.
    pub(crate) history: u32,
    /// Link of the first record; of an entry on a list that of the one before.
    pub(crate) first: u32,
    /// How the folio is mapped, without a history: see [`Numbers`]. Of an entry on a list the link of
    /// the one behind.
    pub(crate) second: u32,
    /// Link of the next entry in the hash bucket, or in the list of free entries.
    pub(crate) hash_next: u32,
    /// The other pairs that answered wrongly.
    pub(crate) wrong_high: u32,
    /// The order.
    pub(crate) order: u8,
    /// The type.
    pub(crate) kind: Kind,
    /// What the entry stands for.
    pub(crate) state: State,
    /// The operation that the last change belongs to.
    pub(crate) operation: Operation,
}

const _: () = assert!(size_of::<FolioEntry>() == 72);

/// How a folio without a history is mapped: the number of its records, at most [`MOST_RECORDS`], how
/// many of them are entire mappings, and in how many (VMA, page table) tuples all are. They are in
/// one word, so that a call takes them all along at once; 0 if nothing is mapped.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Numbers(pub(crate) u32);

/// Most records of a folio without a history. The tuples of so many fit into 16 bits.
pub(crate) const MOST_RECORDS: u32 = 62;

/// Most page tables that a folio may be in, as a shift, and one more.
pub(crate) const TABLES_SHIFT: u8 = 9;

const _: () = assert!(MOST_RECORDS * ((1 << TABLES_SHIFT) + 1) <= 0xffff);

impl Numbers {
    /// Returns those of one record, or those of some; wrapping.
    #[inline]
    pub(crate) fn new(nr_records: u32, entire: u32, tuples: u32) -> Self {
        Self(nr_records | entire.wrapping_shl(8) | tuples.wrapping_shl(16))
    }

    /// Returns the number of records.
    #[inline]
    pub(crate) fn nr_records(self) -> u32 {
        self.0 & 0xff
    }

    /// Returns how many of them are entire mappings.
    #[inline]
    pub(crate) fn entire(self) -> u32 {
        self.0.wrapping_shr(8) & 0xff
    }

    /// Returns the number of (VMA, page table) tuples.
    #[inline]
    pub(crate) fn tuples(self) -> u32 {
        self.0.wrapping_shr(16)
    }

    /// Returns the number of mappings of a folio of this order.
    #[inline]
    pub(crate) fn total(self, order: u8) -> u64 {
        let entire = self.entire();
        let whole = u64::from(self.nr_records().wrapping_sub(entire));
        whole
            .wrapping_shl(u32::from(order))
            .wrapping_add(u64::from(entire))
    }

    /// Returns the number of its pages that have PTE mappings.
    #[inline]
    pub(crate) fn nr_pte_mapped(self, order: u8) -> u32 {
        if self.nr_records() > self.entire() {
            pages_of_order(order)
        } else {
            0
        }
    }
}

/// How a folio is mapped, counted over its records.
///
/// Without a history each record maps the whole folio on its own: it is that of an MM and in one VMA,
/// and either PTEs map all pages, or one entry does. Then all counts follow from the few of the entry.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    /// Number of mappings.
    pub(crate) total: u64,
    /// Number of records.
    pub(crate) nr_records: u32,
    /// Number of entire mappings.
    pub(crate) entire: u32,
    /// Records whose PTEs map all pages.
    pub(crate) whole: u32,
    /// Records whose PTEs map some pages, but not all.
    pub(crate) parts: u32,
    /// Pages that records of [`Self::parts`] map.
    pub(crate) part_pages: u32,
    /// Link of the first chunk of their counts, see `planes.rs`.
    pub(crate) planes: u32,
    /// Number of MMs.
    pub(crate) mm: u32,
    /// VMAs that map at least one page.
    pub(crate) vma: u32,
    /// (VMA, page table) tuples that map at least one page.
    pub(crate) vma_pt: u32,
    /// VMAs that map all pages.
    pub(crate) full: u32,
    /// A page table that several MMs share maps the folio, or did since it was unmapped.
    pub(crate) shared_table: bool,
}

impl Counts {
    /// Takes the VMAs and tuples of one record along.
    #[inline]
    pub(crate) fn spread(&mut self, before: Spread, after: Spread) {
        let change = |count: u32, old: u32, new: u32| count.wrapping_sub(old).wrapping_add(new);
        self.vma = change(self.vma, before.vma, after.vma);
        self.vma_pt = change(self.vma_pt, before.vma_pt, after.vma_pt);
        self.full = change(self.full, before.full, after.full);
    }

    /// Returns the number of pages of a folio of this order that have PTE mappings.
    #[inline]
    pub(crate) fn nr_pte_mapped(&self, order: u8) -> u32 {
        if self.whole > 0 {
            pages_of_order(order)
        } else {
            self.part_pages
        }
    }

    /// Returns the numbers that an entry keeps, if all others follow from them.
    pub(crate) fn essence(&self) -> Option<Numbers> {
        let nr = self.nr_records;
        let others = (self.mm ^ nr) | (self.vma ^ nr) | (self.full ^ nr);
        let more = self.parts | self.planes | u32::from(self.shared_table);
        let simple = others | more == 0 && self.whole.wrapping_add(self.entire) == nr;
        let fit = nr <= MOST_RECORDS && self.vma_pt <= u32::from(u16::MAX);
        (simple && fit).then_some(Numbers::new(nr, self.entire, self.vma_pt))
    }
}

impl FolioEntry {
    /// Notes in which learning phase and why the folio was lost.
    pub(crate) fn set_loss(&mut self, phase: u32, reason: LostReason) {
        self.run = phase;
        self.owner = u32::try_from(reason.index()).unwrap_or(0);
    }

    /// Returns in which learning phase and why the folio was lost.
    pub(crate) fn loss(&self) -> (u32, Option<LostReason>) {
        let reason = LostReason::ALL.get(index(self.owner)).copied();
        (self.run, reason)
    }

    /// Returns whether the entry is on a list: it has no records.
    #[inline]
    pub(crate) fn is_listed(&self) -> bool {
        matches!(self.state, State::Draining | State::Lost)
    }

    /// Returns the link of the first record.
    #[inline]
    pub(crate) fn first_record(&self) -> u32 {
        if self.is_listed() {
            0
        } else {
            self.first
        }
    }

    /// Returns how the folio is mapped, if it has no history and is on no list.
    #[inline]
    pub(crate) fn mapped_numbers(&self) -> Numbers {
        Numbers(self.second)
    }

    /// Returns how the folio is mapped, if it has no history.
    #[inline]
    pub(crate) fn numbers(&self) -> Numbers {
        if self.is_listed() {
            Numbers::default()
        } else {
            Numbers(self.second)
        }
    }

    /// Returns the pfn of the first page.
    #[inline]
    pub(crate) fn pfn(&self) -> u64 {
        self.id.wrapping_shr(FLAG_BITS)
    }

    /// Notes the pfn, and no flag.
    pub(crate) fn set_pfn(&mut self, pfn: u64) {
        self.id = pfn.wrapping_shl(FLAG_BITS);
    }

    /// Returns all flags.
    #[inline]
    pub(crate) fn flags(&self) -> u8 {
        let [flags, ..] = self.id.to_le_bytes();
        flags
    }

    /// Sets and clears flags.
    #[inline]
    pub(crate) fn change_flags(&mut self, set: u8, clear: u8) {
        self.id = (self.id & !u64::from(clear)) | u64::from(set);
    }

    /// Returns whether anything is mapped.
    #[inline]
    pub(crate) fn is_mapped(&self) -> bool {
        self.first_record() != 0
    }

    /// Returns whether the past of the folio is known.
    #[inline]
    pub(crate) fn is_known(&self) -> bool {
        self.state != State::Learning && !self.has(ADOPTED)
    }

    /// Returns the pairs that answered the last evaluated state wrongly.
    #[inline]
    pub(crate) fn wrong(&self) -> PairSet {
        PairSet::of_words(self.wrong_low, self.wrong_high)
    }

    /// Notes the pairs that answer wrongly.
    #[inline]
    pub(crate) fn set_wrong(&mut self, pairs: PairSet) {
        (self.wrong_low, self.wrong_high) = pairs.words();
    }

    /// Returns the number of mappings of a folio without a history.
    #[inline]
    pub(crate) fn total(&self) -> u64 {
        self.numbers().total(self.order)
    }

    /// Returns the counts of a folio without a history.
    #[inline]
    pub(crate) fn counts(&self) -> Counts {
        let numbers = self.numbers();
        let (nr, entire) = (numbers.nr_records(), numbers.entire());
        Counts {
            total: self.total(),
            entire,
            whole: nr.wrapping_sub(entire),
            mm: nr,
            vma: nr,
            vma_pt: numbers.tuples(),
            full: nr,
            nr_records: nr,
            ..Counts::default()
        }
    }

    /// Returns whether a flag is set.
    #[inline]
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.id & u64::from(flag) != 0
    }
}
