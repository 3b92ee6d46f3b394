// SPDX-License-Identifier: GPL-2.0

//! The entry of one folio.

use crate::bits::index;
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
/// The folio was mapped before it was tracked: its past is not known.
pub(crate) const ADOPTED: u8 = 1 << 7;

/// The shadow of one folio, beside its records. All bytes zero is a free entry.
///
/// # Invariants
///
/// * The counts are those of the folio's records; see `shard/apply.rs` and `planes.rs`, which keep
///   them so.
/// * `total` > 0 if the state is live; draining and lost entries have no records and are on one of
///   two lists. Learning entries are on none.
#[derive(Clone, Copy, Default, Debug)]
pub struct FolioEntry {
    /// The pfn of the first page.
    pub(crate) pfn: u64,
    /// State of RCU at the last call.
    pub(crate) cookie: u64,
    /// The latest ticket of a copy that may hold mappings of which nothing is known yet.
    pub(crate) pending: u64,
    /// When tracking began.
    pub(crate) since: u64,
    /// Number of mappings.
    pub(crate) total: u64,
    /// The pairs that answered the last evaluated state wrongly.
    pub(crate) wrong: PairSet,
    /// Number of entire mappings.
    pub(crate) entire: u32,
    /// Records whose PTEs map all pages.
    pub(crate) whole: u32,
    /// Records whose PTEs map some pages, but not all.
    pub(crate) parts: u32,
    /// Number of records.
    pub(crate) nr_records: u32,
    /// Pages that records of [`Self::parts`] map.
    pub(crate) part_pages: u32,
    /// Number of MMs.
    pub(crate) mm: u32,
    /// VMAs that map at least one page.
    pub(crate) vma: u32,
    /// (VMA, page table) tuples that map at least one page.
    pub(crate) vma_pt: u32,
    /// VMAs that map all pages.
    pub(crate) full: u32,
    /// Number of changes, wrapping.
    pub(crate) seq: u32,
    /// The run that the last call belongs to, as the lower half of its key; 0 for none. For a lost
    /// folio the learning phase in which it was lost.
    pub(crate) run: u32,
    /// Identity of the VMA that mapped the folio first since it was unmapped. For a lost folio why.
    pub(crate) owner: u32,
    /// The thread that made the last change.
    pub(crate) pid: u32,
    /// Link of what is kept of the folio's past; 0 if its records say all of it, see
    /// `shard/plain.rs`.
    pub(crate) history: u32,
    /// Link of the first record.
    pub(crate) first_record: u32,
    /// Link of the first chunk of page counts, see `planes.rs`.
    pub(crate) planes: u32,
    /// Link of the next entry in the hash bucket, or in the list of free entries.
    pub(crate) hash_next: u32,
    /// Link of the entry before in the list of drained ones.
    pub(crate) prev: u32,
    /// Link of the entry behind in the list of drained ones.
    pub(crate) next: u32,
    /// The order.
    pub(crate) order: u8,
    /// The type.
    pub(crate) kind: Kind,
    /// What the entry stands for.
    pub(crate) state: State,
    /// [`DIRTY`] and others.
    pub(crate) flags: u8,
    /// The operation that the last change belongs to.
    pub(crate) operation: Operation,
    /// A page table that several MMs share maps the folio, or did since it was unmapped.
    pub(crate) shared_table: bool,
}

const _: () = assert!(size_of::<FolioEntry>() == 144);

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

    /// Takes the VMAs and tuples of one record along in the counts.
    #[inline]
    pub(crate) fn spread(&mut self, before: Spread, after: Spread) {
        let change = |count: u32, old: u32, new: u32| count.wrapping_sub(old).wrapping_add(new);
        self.vma = change(self.vma, before.vma, after.vma);
        self.vma_pt = change(self.vma_pt, before.vma_pt, after.vma_pt);
        self.full = change(self.full, before.full, after.full);
    }

    /// Returns whether a flag is set.
    #[inline]
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Returns the number of pages that have PTE mappings.
    #[inline]
    pub(crate) fn nr_pte_mapped(&self) -> u32 {
        if self.whole > 0 {
            crate::bits::pages_of_order(self.order)
        } else {
            self.part_pages
        }
    }
}
