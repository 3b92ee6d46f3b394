// SPDX-License-Identifier: GPL-2.0

//! Free entries, records, histories and chunks. Details of records are stored in place of records.
//!
//! Each kind has a list of what was freed and a watermark below which everything was used once, so
//! that zeroed storage needs no preparation.

use crate::bits::{
    index,
    narrow, //
};
use crate::record::Detail;
use crate::shard::{
    link_to,
    position_of,
    Fail,
    CORRUPT, //
};
use crate::{
    Counter,
    FolioEntry,
    History,
    Record,
    Shard, //
};

/// So few that were never used are few.
const FEW: u32 = 16;

/// Of what a shard may soon have none that was never used.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Wants {
    /// Entries.
    pub entries: bool,
    /// Records.
    pub records: bool,
    /// Histories.
    pub histories: bool,
    /// Chunks.
    pub chunks: bool,
}

/// The free entries, records, histories and chunks of a shard.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Slab {
    /// Of what there may soon be none.
    pub(crate) wants: Wants,
    /// Link of the first free entry.
    entry: u32,
    /// Number of entries that were ever used.
    fresh_entry: u32,
    /// Link of the first free record.
    record: u32,
    /// Number of records that were ever used.
    fresh_record: u32,
    /// Link of the first free history.
    history: u32,
    /// Number of histories that were ever used.
    fresh_history: u32,
    /// Link of the first free chunk.
    chunk: u32,
    /// Number of chunks that were ever used.
    fresh_chunk: u32,
}

impl Slab {
    /// Returns those of a shard that has nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            wants: Wants {
                entries: true,
                records: true,
                histories: true,
                chunks: true,
            },
            ..Self::default()
        }
    }

    /// Returns the numbers of entries and of records that were ever used.
    pub(crate) fn used(&self) -> (u32, u32) {
        (self.fresh_entry, self.fresh_record)
    }
}

/// Takes the next never-used position, if the slice has one; notes if so many or fewer are left.
fn take_fresh(fresh: &mut u32, len: usize, (few, wants): (u32, &mut bool)) -> Option<u32> {
    let position = *fresh;
    *wants |= narrow(len).saturating_sub(position) <= few;
    // The last position is left alone: its link would not fit.
    if position >= narrow(len) || position == u32::MAX {
        return None;
    }
    *fresh = position.wrapping_add(1);
    Some(position)
}

impl Shard<'_> {
    /// Takes a free entry: all zero, but for [`FolioEntry::hash_next`].
    pub(crate) fn alloc_entry(&mut self) -> Option<u32> {
        let len = self.entries.len();
        let free = &mut self.state.free;
        let e = match position_of(free.entry) {
            Some(e) => {
                free.entry = self.entries.get(index(e))?.hash_next;
                e
            }
            None => {
                // Some are kept for markers, see `has_room()`.
                let few = (narrow(len) >> 6).saturating_add(FEW);
                let wants = (few, &mut free.wants.entries);
                take_fresh(&mut free.fresh_entry, len, wants)?
            }
        };
        self.state.counters.add(Counter::Entries);
        Some(e)
    }

    /// Gives an entry back.
    pub(crate) fn free_entry(&mut self, e: u32) -> Result<(), Fail> {
        let next = self.state.free.entry;
        *self.entry_mut(e)? = FolioEntry {
            hash_next: next,
            ..FolioEntry::default()
        };
        self.state.free.entry = link_to(e);
        self.state.counters.sub(Counter::Entries);
        Ok(())
    }

    /// Takes a free record: all zero, but for [`Record::hash_next`].
    pub(crate) fn alloc_record(&mut self) -> Result<u32, Fail> {
        let r = self.take_record()?;
        self.state.counters.add(Counter::Records);
        Ok(r)
    }

    /// Gives a record back.
    pub(crate) fn free_record(&mut self, r: u32) -> Result<(), Fail> {
        self.put_record(r)?;
        self.state.counters.sub(Counter::Records);
        Ok(())
    }

    /// Takes the place of a record.
    fn take_record(&mut self) -> Result<u32, Fail> {
        if let Some(r) = position_of(self.state.free.record) {
            self.state.free.record = self.record(r)?.hash_next;
            return Ok(r);
        }
        let free = &mut self.state.free;
        let wants = (FEW, &mut free.wants.records);
        take_fresh(&mut free.fresh_record, self.records.len(), wants).ok_or(Fail::NoMemory)
    }

    /// Gives the place of a record back.
    fn put_record(&mut self, r: u32) -> Result<(), Fail> {
        let next = self.state.free.record;
        *self.record_mut(r)? = Record {
            hash_next: next,
            ..Record::default()
        };
        self.state.free.record = link_to(r);
        Ok(())
    }

    /// Stores a detail in place of a record; returns its link.
    pub(crate) fn alloc_detail(&mut self, detail: Detail) -> Result<u32, Fail> {
        let d = self.take_record()?;
        *self.record_mut(d)? = detail.stored();
        self.state.counters.add(Counter::Details);
        Ok(link_to(d))
    }

    /// Gives the place of a detail back.
    pub(crate) fn free_detail(&mut self, link: u32) -> Result<(), Fail> {
        let d = position_of(link).ok_or(CORRUPT)?;
        self.put_record(d)?;
        self.state.counters.sub(Counter::Details);
        Ok(())
    }

    /// Takes a free history; returns its link.
    pub(crate) fn alloc_history(&mut self) -> Result<u32, Fail> {
        let len = self.history.len();
        let free = &mut self.state.free;
        let h = match position_of(free.history) {
            Some(h) => {
                free.history = self.history.get(index(h)).ok_or(CORRUPT)?.next();
                h
            }
            None => {
                let wants = (FEW, &mut free.wants.histories);
                take_fresh(&mut free.fresh_history, len, wants).ok_or(Fail::NoMemory)?
            }
        };
        self.state.counters.add(Counter::Histories);
        Ok(link_to(h))
    }

    /// Gives the history of a folio back, if it has one.
    pub(crate) fn drop_history(&mut self, e: u32) -> Result<(), Fail> {
        let link = core::mem::replace(&mut self.entry_mut(e)?.history, 0);
        let Some(h) = position_of(link) else {
            return Ok(());
        };
        let next = core::mem::replace(&mut self.state.free.history, link);
        *self.history.get_mut(index(h)).ok_or(CORRUPT)? = History::free(next);
        self.state.counters.sub(Counter::Histories);
        Ok(())
    }

    /// Returns where the words of a chunk are: first word, and the word of its link.
    #[inline]
    fn chunk_at(&self, link: u32) -> Option<(usize, usize)> {
        let bitmap_words = self.state.bitmap_words;
        position_of(link)?;
        let from_end = index(link).wrapping_mul(bitmap_words.wrapping_add(1));
        // One that is beyond the words is no range of them.
        let start = self.words.len().wrapping_sub(from_end);
        Some((start, start.wrapping_add(bitmap_words)))
    }

    /// Returns the position of the first word of a chunk.
    pub(crate) fn chunk_start(&self, link: u32) -> Result<usize, Fail> {
        Ok(self.chunk_at(link).ok_or(CORRUPT)?.0)
    }

    /// Returns the bitmap of a chunk.
    #[inline]
    pub(crate) fn chunk(&self, link: u32) -> Result<&[u64], Fail> {
        let (start, end) = self.chunk_at(link).ok_or(CORRUPT)?;
        self.words.get(start..end).ok_or(CORRUPT)
    }

    /// Returns the bitmap of a chunk, to be changed.
    #[inline]
    pub(crate) fn chunk_mut(&mut self, link: u32) -> Result<&mut [u64], Fail> {
        let (start, end) = self.chunk_at(link).ok_or(CORRUPT)?;
        self.words.get_mut(start..end).ok_or(CORRUPT)
    }

    /// Returns the link that is kept in a chunk.
    #[inline]
    pub(crate) fn chunk_link(&self, link: u32) -> Result<u32, Fail> {
        let (_, at) = self.chunk_at(link).ok_or(CORRUPT)?;
        let word = self.words.get(at).ok_or(CORRUPT)?;
        u32::try_from(*word).map_err(|_| CORRUPT)
    }

    /// Keeps a link in a chunk.
    pub(crate) fn set_chunk_link(&mut self, link: u32, next: u32) -> Result<(), Fail> {
        let (_, at) = self.chunk_at(link).ok_or(CORRUPT)?;
        *self.words.get_mut(at).ok_or(CORRUPT)? = u64::from(next);
        Ok(())
    }

    /// Takes a free chunk and fills its bitmap; returns its link.
    pub(crate) fn alloc_chunk(&mut self, fill: u64) -> Result<u32, Fail> {
        let link = self.state.free.chunk;
        let link = if link != 0 {
            self.state.free.chunk = self.chunk_link(link)?;
            link
        } else {
            let words = self.state.bitmap_words.wrapping_add(1);
            let len = self.words.len().checked_div(words).unwrap_or(0);
            let free = &mut self.state.free;
            let wants = (FEW, &mut free.wants.chunks);
            let fresh = take_fresh(&mut free.fresh_chunk, len, wants);
            link_to(fresh.ok_or(Fail::NoMemory)?)
        };
        self.chunk_mut(link)?.fill(fill);
        self.set_chunk_link(link, 0)?;
        self.state.counters.add(Counter::Chunks);
        Ok(link)
    }

    /// Gives a chunk back.
    pub(crate) fn free_chunk(&mut self, link: u32) -> Result<(), Fail> {
        self.set_chunk_link(link, self.state.free.chunk)?;
        self.state.free.chunk = link;
        self.state.counters.sub(Counter::Chunks);
        Ok(())
    }
}
