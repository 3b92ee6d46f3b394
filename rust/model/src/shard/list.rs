// SPDX-License-Identifier: GPL-2.0

//! The lists: drained and lost entries, records of a folio, records by folio and MM.

use super::shared::is_table;
use super::{
    bucket_of,
    link_to,
    position_of,
    Fail,
    Shard,
    ShardState,
    State,
    CORRUPT, //
};
use crate::{
    Inconsistency,
    Record, //
};

/// What a look at the records of a folio and MM found.
#[derive(Clone, Copy)]
pub(crate) struct Lookup {
    /// The record at the base that was asked for.
    pub(crate) here: Option<u32>,
    /// The MM has a record at another base. Not looked for once the record was found.
    pub(crate) elsewhere: bool,
}

/// Links of the first and last entry of a list, the longest waiting one first.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Ends {
    /// The first.
    pub(crate) head: u32,
    /// The last.
    pub(crate) tail: u32,
}

impl ShardState {
    /// Returns the list that entries in this state are on.
    fn ends_mut(&mut self, state: State) -> &mut Ends {
        if state == State::Lost {
            &mut self.lost
        } else {
            &mut self.drained
        }
    }
}

/// Returns the hash key of records of a folio and MM.
fn key_of(e: u32, mm: u64) -> u64 {
    mm.rotate_left(20) ^ u64::from(e).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Shard<'_> {
    /// Appends an entry to the list of those that are drained, or of those that are lost.
    pub(crate) fn push_drained(&mut self, e: u32) -> Result<(), Fail> {
        let state = self.entry(e)?.state;
        let ends = self.state.ends_mut(state);
        let last = core::mem::replace(&mut ends.tail, link_to(e));
        if last == 0 {
            ends.head = link_to(e);
        }
        let entry = self.entry_mut(e)?;
        entry.first = last;
        entry.second = 0;
        if let Some(last) = position_of(last) {
            self.entry_mut(last)?.second = link_to(e);
        }
        Ok(())
    }

    /// Takes an entry off the list that it is on, which its state tells.
    pub(crate) fn pull_drained(&mut self, e: u32) -> Result<(), Fail> {
        let entry = self.entry_mut(e)?;
        let prev = core::mem::replace(&mut entry.first, 0);
        let next = core::mem::replace(&mut entry.second, 0);
        let state = entry.state;
        match position_of(prev) {
            Some(prev) => self.entry_mut(prev)?.second = next,
            None => self.state.ends_mut(state).head = next,
        }
        match position_of(next) {
            Some(next) => self.entry_mut(next)?.first = prev,
            None => self.state.ends_mut(state).tail = prev,
        }
        Ok(())
    }

    /// Looks for the record of a folio at a place.
    pub(crate) fn lookup(&self, e: u32, mm: u64, base: u64) -> Result<Lookup, Fail> {
        let mut found = Lookup {
            here: None,
            elsewhere: false,
        };
        let bucket = bucket_of(self.record_buckets.len(), key_of(e, mm));
        let mut link = self.record_buckets.get(bucket).copied().ok_or(CORRUPT)?;
        while let Some(r) = position_of(link) {
            let record = self.record(r)?;
            if record.entry == link_to(e) && record.mm == mm {
                if record.base() == base {
                    found.here = Some(r);
                    break;
                }
                found.elsewhere = true;
            }
            link = record.hash_next;
        }
        Ok(found)
    }

    /// Makes a record of a folio at a place that has none yet; `elsewhere` is from [`Lookup`].
    pub(crate) fn new_record(
        &mut self,
        e: u32,
        mm: u64,
        base: u64,
        elsewhere: bool,
    ) -> Result<u32, Fail> {
        let fresh = Record::new(mm, base).ok_or(Fail::Inconsistent(Inconsistency::Malformed))?;
        let r = self.alloc_record()?;
        self.wake(e)?;
        let bucket = bucket_of(self.record_buckets.len(), key_of(e, mm));
        let first = self.record_buckets.get_mut(bucket).ok_or(CORRUPT)?;
        let hash_next = core::mem::replace(first, link_to(r));

        let entry = self.entry_mut(e)?;
        let next = core::mem::replace(&mut entry.first, link_to(r));
        if entry.history == 0 {
            entry.second = entry.second.wrapping_add(1);
        } else {
            let counts = self.counts_mut(e)?;
            counts.nr_records = counts.nr_records.wrapping_add(1);
            counts.mm = counts.mm.wrapping_add(u32::from(!elsewhere));
            counts.shared_table |= is_table(mm);
        }
        if let Some(next) = position_of(next) {
            self.record_mut(next)?.prev = link_to(r);
        }
        *self.record_mut(r)? = Record {
            entry: link_to(e),
            hash_next,
            next,
            ..fresh
        };
        Ok(r)
    }

    /// Frees a record that maps nothing and has no chunk any more, and its detail.
    pub(crate) fn drop_record(&mut self, e: u32, r: u32) -> Result<(), Fail> {
        let record = *self.record(r)?;
        let Record {
            mm,
            hash_next,
            prev,
            next,
            ..
        } = record;
        if let Some(detail) = record.detail() {
            self.free_detail(detail)?;
        }

        // Out of the hash bucket; other records of the MM are all in there.
        let bucket = bucket_of(self.record_buckets.len(), key_of(e, mm));
        let first = self.record_buckets.get_mut(bucket).ok_or(CORRUPT)?;
        if *first == link_to(r) {
            *first = hash_next;
        }
        let mut link = *first;
        let mut elsewhere = false;
        while let Some(at) = position_of(link) {
            let record = self.record_mut(at)?;
            if record.hash_next == link_to(r) {
                record.hash_next = hash_next;
            }
            elsewhere |= record.entry == link_to(e) && record.mm == mm;
            link = record.hash_next;
        }

        // Out of the list of the folio.
        if let Some(prev) = position_of(prev) {
            self.record_mut(prev)?.next = next;
        }
        if let Some(next) = position_of(next) {
            self.record_mut(next)?.prev = prev;
        }
        let entry = self.entry_mut(e)?;
        if prev == 0 {
            entry.first = next;
        }
        if entry.history == 0 {
            entry.second = entry.second.wrapping_sub(1);
        } else {
            let counts = self.counts_mut(e)?;
            counts.nr_records = counts.nr_records.wrapping_sub(1);
            counts.mm = counts.mm.wrapping_sub(u32::from(!elsewhere));
        }
        self.free_record(r)
    }

    /// Returns a record of a folio in an MM that is as wanted, without a look at other MMs.
    pub(crate) fn find_of_mm(
        &self,
        e: u32,
        mm: u64,
        wanted: impl Fn(&Record) -> bool,
    ) -> Option<u32> {
        let bucket = bucket_of(self.record_buckets.len(), key_of(e, mm));
        let link = self.record_buckets.get(bucket).copied()?;
        self.next_of_mm(link, (e, mm), wanted)
    }

    /// The same from a link of the hash on.
    pub(crate) fn next_of_mm(
        &self,
        mut link: u32,
        (e, mm): (u32, u64),
        wanted: impl Fn(&Record) -> bool,
    ) -> Option<u32> {
        while let Some(r) = position_of(link) {
            let record = self.record(r).ok()?;
            if record.entry == link_to(e) && record.mm == mm && wanted(record) {
                return Some(r);
            }
            link = record.hash_next;
        }
        None
    }

    /// Returns the first record of a folio from a link on that is as wanted.
    pub(crate) fn find_record(
        &self,
        mut link: u32,
        mut wanted: impl FnMut(&Record) -> bool,
    ) -> Option<u32> {
        while let Some(r) = position_of(link) {
            let record = self.record(r).ok()?;
            if wanted(record) {
                return Some(r);
            }
            link = record.next;
        }
        None
    }
}
