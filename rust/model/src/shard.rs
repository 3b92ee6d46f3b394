// SPDX-License-Identifier: GPL-2.0

//! One part of the table of folios: entries, records and their storage.
//!
//! The caller lends the storage for one operation, under its lock; all of it may start as zeroes.
//! Positions in the slices are kept as *links*, position + 1, so that 0 is none.

use crate::bits::{
    index,
    narrow, //
};
use crate::slab::{
    self,
    Wants, //
};
use crate::{
    Counter,
    Counters,
    Env,
    Figures,
    Inconsistency,
    Record,
    Tables, //
};

mod again;
mod apply;
mod asking;
mod check;
mod detail;
mod entry;
mod evaluate;
mod history;
mod key;
mod learn;
mod list;
mod observe;
mod owed;
mod pages;
mod plain;
mod readout;
mod recent;
mod rekey;
mod shared;
mod track;
mod twin;

pub use self::asking::{
    Asking,
    AskingPage, //
};
pub use self::check::{
    MappingCheck,
    Suspect, //
};
pub use self::entry::{
    FolioEntry,
    State, //
};
pub use self::history::History;
pub use self::learn::{
    Adoption,
    Standing, //
};
pub use self::plain::{
    Plain,
    PlainMap, //
};
pub use self::readout::RecordIter;
pub use self::shared::is_table;
pub use self::twin::{
    compare_twins,
    Side, //
};

use self::entry::TABLES_SHIFT;

/// Largest order that the tables tell apart.
const ORDER_LIMIT: u8 = 19;

/// Sizes that are fixed at start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Size of a page, as a shift.
    pub page_shift: u8,
    /// Pages that a page table maps, and a PMD, as a shift.
    pub pmd_order: u8,
    /// Order of the largest folio that is tracked, up to 19.
    pub max_order: u8,
}

impl Geometry {
    /// Returns the geometry with everything in the range that the model works for.
    const fn sane(self) -> Self {
        const fn at_most(x: u8, limit: u8) -> u8 {
            if x > limit {
                limit
            } else {
                x
            }
        }
        let pmd_order = at_most(self.pmd_order, ORDER_LIMIT);
        let limit = at_most(pmd_order.saturating_add(TABLES_SHIFT), ORDER_LIMIT);
        Self {
            page_shift: at_most(self.page_shift, 32),
            pmd_order,
            max_order: at_most(self.max_order, limit),
        }
    }

    /// Returns how many words of bitmap a chunk has: a bit per page, at least one word.
    const fn bitmap_words(self) -> usize {
        1 << self.sane().max_order.saturating_sub(6)
    }

    /// Returns how many words a chunk has: the bitmap and a link.
    ///
    /// The length of [`Shard::words`] should be a multiple of it.
    pub const fn chunk_words(self) -> usize {
        self.bitmap_words().wrapping_add(1)
    }
}

/// The plain state of a shard, beside the slices.
#[derive(Clone, Debug)]
pub struct ShardState {
    /// The sizes.
    pub(crate) geometry: Geometry,
    /// Words of bitmap that a chunk has, see [`Geometry::chunk_words`].
    pub(crate) bitmap_words: usize,
    /// The counters.
    pub(crate) counters: Counters,
    /// The figures.
    pub(crate) figures: Figures,
    /// Links of the first free entry, record and chunk.
    pub(crate) free: slab::Slab,
    /// Drained entries.
    pub(crate) drained: list::Ends,
    /// Lost entries.
    pub(crate) lost: list::Ends,
    /// Mappings of folios without entry are taken in, see `shard/learn.rs`.
    pub(crate) learning: bool,
    /// Number of times that this has begun, wrapping.
    pub(crate) phase: u32,
    /// Cookie of the last start that was refused without leaving a marker.
    pub(crate) no_start: Option<u64>,
    /// Untracked adds that may be in flight.
    pub(crate) recent: recent::Recent,
    /// Removes that are to come.
    pub(crate) debts: owed::Debts,
    /// Differences to be checked again.
    pub(crate) suspects: check::Suspects,
    /// A mapped folio may have no entry, not even a marker, see [`Shard::may_lack`].
    pub(crate) lacks: bool,
    /// See [`Shard::has_left_out`].
    pub(crate) left_out: bool,
    /// Where the number of changes of the last new entry began, see [`Self::next_life`].
    life: u32,
}

impl ShardState {
    /// Returns the state of a shard in which nothing is tracked.
    pub fn new(geometry: Geometry) -> Self {
        Self {
            geometry: geometry.sane(),
            bitmap_words: geometry.bitmap_words(),
            counters: Counters::new(),
            figures: Figures::default(),
            free: slab::Slab::new(),
            drained: list::Ends::default(),
            lost: list::Ends::default(),
            learning: false,
            phase: 0,
            no_start: None,
            recent: recent::Recent::new(),
            debts: owed::Debts::default(),
            suspects: check::Suspects::default(),
            lacks: false,
            left_out: false,
            life: 0,
        }
    }

    /// Returns where the number of changes of a new entry begins: far from that of the last one, so that
    /// who looks twice sees that the folio was tracked anew in between.
    pub(crate) fn next_life(&mut self) -> u32 {
        self.life = self.life.wrapping_add(0x9e37_79b1);
        self.life
    }

    /// Starts anew with other storage; the counters go on, but for what is in use.
    pub fn restart(&mut self) {
        self.counters.clear_gauges();
        self.free = slab::Slab::new();
        self.drained = list::Ends::default();
        self.lost = list::Ends::default();
        self.learning = false;
        self.no_start = None;
        self.recent = recent::Recent::new();
        self.debts = owed::Debts::default();
        self.suspects = check::Suspects::default();
        self.lacks = false;
        self.left_out = false;
    }

    /// Returns the counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Starts the counters anew; numbers of what is there now stay.
    pub fn reset_counters(&mut self) {
        self.counters.reset();
    }

    /// Starts the figures anew.
    pub fn reset_figures(&mut self) {
        self.figures = Figures::default();
    }

    /// Returns the figures.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Returns whether something may soon run out, see [`Self::take_wants`].
    #[inline]
    pub fn wants_more(&self) -> bool {
        self.free.wants != Wants::default()
    }

    /// Returns what may soon run out: of that the shard should be lent more, if there is more. At first
    /// it is everything.
    pub fn take_wants(&mut self) -> Wants {
        core::mem::take(&mut self.free.wants)
    }

    /// Returns the sizes.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }
}

/// A shard with its storage, borrowed for one operation under the caller's lock.
///
/// # Invariants
///
/// * The slices are those of the operation before, unchanged; at first they are zero. Between two
///   operations all but the hash tables may grow: `entries` and `history` at the end, `records` and
///   `words` at the beginning. See [`ShardState::take_wants`].
pub struct Shard<'a> {
    /// The plain state.
    pub state: &'a mut ShardState,
    /// Hash table of entries by pfn: links of the first.
    pub buckets: &'a mut [u32],
    /// Hash table of records by entry and MM: links of the first.
    pub record_buckets: &'a mut [u32],
    /// One per folio that is tracked, drained or lost.
    pub entries: &'a mut [FolioEntry],
    /// The past of those of which more is kept than their records say.
    pub history: &'a mut [History],
    /// One per folio, MM and base. Positions are counted from the end.
    pub records: &'a mut [Record],
    /// Bitmaps in chunks of [`Geometry::chunk_words`], counted from the end.
    pub words: &'a mut [u64],
    /// The tables.
    pub tables: Tables<'a>,
}

/// Why an operation cannot go on; the folio is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fail {
    /// No free record, history or chunk.
    NoMemory,
    /// The folio is larger than the bitmaps, and not mapped as a whole.
    Order,
    /// Several mappings may be meant.
    NotLinear,
    /// The event contradicts the shadow.
    Inconsistent(Inconsistency),
}

/// A link that points nowhere: impossible, so it is reported as a bug of the model.
pub(crate) const CORRUPT: Fail = Fail::Inconsistent(Inconsistency::Corrupt);

/// Returns the link to a position.
#[inline]
pub(crate) fn link_to(position: u32) -> u32 {
    position.wrapping_add(1)
}

/// Returns the position that a link points to; `None` for the link that is none.
#[inline]
pub(crate) fn position_of(link: u32) -> Option<u32> {
    link.checked_sub(1)
}

/// Returns the bucket of a key in a hash table with this many buckets, less than 2^32.
#[inline]
fn bucket_of(nr_buckets: usize, key: u64) -> usize {
    // Multiplication moves entropy up; shards are commonly chosen by the topmost bits.
    let hash = key.wrapping_mul(0xd6e8_feb8_6659_fd93).wrapping_shr(29) & u64::from(u32::MAX);
    let bucket = hash.wrapping_mul(u64::from(narrow(nr_buckets))) >> u32::BITS;
    usize::try_from(bucket).unwrap_or(0)
}

impl Shard<'_> {
    /// Returns the entry at a position.
    #[inline]
    pub(crate) fn entry(&self, e: u32) -> Result<&FolioEntry, Fail> {
        self.entries.get(index(e)).ok_or(CORRUPT)
    }

    /// Returns the entry at a position, to be changed.
    #[inline]
    pub(crate) fn entry_mut(&mut self, e: u32) -> Result<&mut FolioEntry, Fail> {
        self.entries.get_mut(index(e)).ok_or(CORRUPT)
    }

    /// Returns the record at a position.
    #[inline]
    pub(crate) fn record(&self, r: u32) -> Result<&Record, Fail> {
        let at = self.records.len().wrapping_add(!index(r));
        self.records.get(at).ok_or(CORRUPT)
    }

    /// Returns the record at a position, to be changed.
    #[inline]
    pub(crate) fn record_mut(&mut self, r: u32) -> Result<&mut Record, Fail> {
        let at = self.records.len().wrapping_add(!index(r));
        self.records.get_mut(at).ok_or(CORRUPT)
    }

    /// Returns the position of the entry of a folio, in whatever state it is.
    pub fn find(&self, pfn: u64) -> Option<u32> {
        let bucket = bucket_of(self.buckets.len(), pfn);
        let mut link = self.buckets.get(bucket).copied()?;
        while let Some(e) = position_of(link) {
            let entry = self.entries.get(index(e))?;
            if entry.pfn() == pfn {
                return Some(e);
            }
            link = entry.hash_next;
        }
        None
    }

    /// Enters an entry into the hash table.
    fn hash_entry(&mut self, e: u32) -> Result<(), Fail> {
        let bucket = bucket_of(self.buckets.len(), self.entry(e)?.pfn());
        let first = self.buckets.get_mut(bucket).ok_or(CORRUPT)?;
        let next = core::mem::replace(first, link_to(e));
        self.entry_mut(e)?.hash_next = next;
        Ok(())
    }

    /// Takes an entry out of the hash table.
    fn unhash_entry(&mut self, e: u32) -> Result<(), Fail> {
        let entry = self.entry(e)?;
        let hash_next = entry.hash_next;
        let bucket = bucket_of(self.buckets.len(), entry.pfn());
        let first = self.buckets.get_mut(bucket).ok_or(CORRUPT)?;
        if *first == link_to(e) {
            *first = hash_next;
            return Ok(());
        }
        let mut at = position_of(*first).ok_or(CORRUPT)?;
        loop {
            let entry = self.entry_mut(at)?;
            if entry.hash_next == link_to(e) {
                entry.hash_next = hash_next;
                return Ok(());
            }
            at = position_of(entry.hash_next).ok_or(CORRUPT)?;
        }
    }

    /// Forgets folios, because tracking ends: nothing is wrong about any of them any more. These are
    /// those at `max` positions from `from` on; returns where to go on, `None` if that was all.
    ///
    /// Nothing else may be done with the storage afterwards, see [`ShardState::restart`].
    pub fn forget_some(&mut self, from: u32, max: u32, env: &impl Env) -> Option<u32> {
        let end = from.saturating_add(max);
        for e in from..end.min(self.nr_slots().0) {
            if self
                .entry(e)
                .is_ok_and(|entry| entry.state == State::Unused)
            {
                continue;
            }
            // The links of a corrupt entry are not followed: all of the storage goes.
            let closed = self
                .evaluate(e, None, env)
                .and_then(|()| self.close_wrong(e, env));
            if closed.is_err() {
                self.state.counters.add(Counter::Corrupt);
            }
        }
        (end < self.nr_slots().0).then_some(end)
    }

    /// Returns the position of the first entry in use between two positions, in whatever state it is.
    /// `end` is the one behind the last: who holds a lock looks at some of them at a time, used or not.
    pub fn next_entry(&self, from: u32, end: u32) -> Option<u32> {
        let rest = self.entries.get(index(from)..)?;
        (from..end)
            .zip(rest)
            .find(|(_, entry)| entry.state != State::Unused)
            .map(|(e, _)| e)
    }
}
