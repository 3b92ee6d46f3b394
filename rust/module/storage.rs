// SPDX-License-Identifier: GPL-2.0

//! The memory of a shard: so much of it, whatever it is used for.
//!
//! How many folios there are, and how many processes map each, is not known in advance. So entries
//! and records are taken from both ends of one piece of memory, and histories and chunks from those
//! of another, much smaller one. What was taken for one of them stays that until tracking ends.

use core::marker::PhantomData;

use kernel::prelude::*;

use fmi_model::{
    FolioEntry,
    Geometry,
    History,
    Record,
    Wants, //
};

use crate::env::ram_bytes;

/// A type all of whose values are those of plain integers and enums: memory that is zero is one.
///
/// # Safety
///
/// All bytes zero is a valid value, and values need not be dropped.
unsafe trait ZeroIsValid: Copy {}

// SAFETY: Integers, and enums of `u8` that have a variant 0.
unsafe impl ZeroIsValid for FolioEntry {}
// SAFETY: Integers.
unsafe impl ZeroIsValid for Record {}
// SAFETY: Integers and truth values.
unsafe impl ZeroIsValid for History {}
// SAFETY: An integer.
unsafe impl ZeroIsValid for u64 {}

/// Zeroed memory for two types, which take it from its two ends.
///
/// # Invariants
///
/// `front` objects from the start on and `back` objects until the end do not overlap. No other part
/// of the memory was ever written.
struct Ends<F, B> {
    memory: KVVec<u64>,
    front: usize,
    back: usize,
    _types: PhantomData<(F, B)>,
}

impl<F: ZeroIsValid, B: ZeroIsValid> Ends<F, B> {
    const ALIGNED: () = assert!(align_of::<F>() <= 8 && align_of::<B>() <= 8);

    fn new(bytes: usize) -> Result<Self> {
        let () = Self::ALIGNED;
        // INVARIANT: There are no objects.
        Ok(Self {
            memory: zeroed(bytes / size_of::<u64>())?,
            front: 0,
            back: 0,
            _types: PhantomData,
        })
    }

    fn bytes(&self) -> usize {
        size_of_val(self.memory.as_slice())
    }

    fn unused(&self) -> usize {
        let used = |nr: usize, size: usize| nr.saturating_mul(size);
        self.bytes()
            .saturating_sub(used(self.front, size_of::<F>()))
            .saturating_sub(used(self.back, size_of::<B>()))
    }

    fn extend_front(&mut self, nr: usize) {
        // INVARIANT: So many fit.
        let more = nr.min(self.unused() / size_of::<F>());
        self.front = self.front.saturating_add(more);
    }

    fn extend_back(&mut self, nr: usize) {
        // INVARIANT: So many fit.
        let more = nr.min(self.unused() / size_of::<B>());
        self.back = self.back.saturating_add(more);
    }

    #[inline]
    fn slices(&mut self) -> (&mut [F], &mut [B]) {
        let start = self.memory.as_mut_ptr();
        let end = start.wrapping_add(self.memory.len());
        let back = end.cast::<B>().wrapping_sub(self.back);
        // SAFETY: By the invariants both are inside the memory, which is borrowed, and do not overlap.
        // It is aligned to 8 bytes at both ends, and all of it was zero at first, which is valid.
        unsafe {
            (
                core::slice::from_raw_parts_mut(start.cast::<F>(), self.front),
                core::slice::from_raw_parts_mut(back, self.back),
            )
        }
    }
}

pub(crate) fn zeroed<T: Default + Clone>(len: usize) -> Result<KVVec<T>> {
    Ok(KVVec::from_elem(T::default(), len, GFP_KERNEL)?)
}

/// Share of a shard's memory that is for histories and chunks, up to [`enough`].
const PAST_SHARE: usize = 24;

/// Share of what is beyond that.
const BEYOND_SHARE: usize = 2;

/// Share of the machine's memory with which all of it can be tracked as folios of 64 KiB that are
/// mapped as a whole.
const RAM_SHARE: usize = 512;

/// Returns so many bytes.
pub(crate) fn enough() -> usize {
    ram_bytes() / RAM_SHARE
}

/// Least memory for histories, so many as it is extended by at least; and least number of chunks.
const PAST_LEAST: usize = 8 * size_of::<History>();
const CHUNKS_LEAST: usize = 8;

/// Into so many steps the memory is divided that ends are extended by.
const STEPS: usize = 128;

/// Most bytes of a folio that one process maps: an entry and a record.
const FOLIO: usize = size_of::<FolioEntry>() + size_of::<Record>();

/// Entries in a bucket, and records in one, if all memory is used for folios that one process maps.
/// If it is used for records nearly alone, there are six in a bucket.
const ENTRIES_PER_BUCKET: usize = 2;
const RECORDS_PER_BUCKET: usize = 2;

/// The storage of a shard.
pub(crate) struct Storage {
    buckets: KVVec<u32>,
    record_buckets: KVVec<u32>,
    present: Ends<FolioEntry, Record>,
    past: Ends<History, u64>,
    chunk_words: usize,
}

/// What is lent of it.
pub(crate) struct Lent<'a> {
    pub(crate) buckets: &'a mut [u32],
    pub(crate) record_buckets: &'a mut [u32],
    pub(crate) entries: &'a mut [FolioEntry],
    pub(crate) history: &'a mut [History],
    pub(crate) records: &'a mut [Record],
    pub(crate) words: &'a mut [u64],
}

impl Storage {
    /// Takes `bytes` for one shard, or a little less; `enough` is its part of [`enough`].
    pub(crate) fn new(bytes: usize, enough: usize, geometry: Geometry) -> Result<Self> {
        let beyond = bytes.saturating_sub(enough);
        let past = (bytes - beyond) / PAST_SHARE + beyond / BEYOND_SHARE;
        let chunks = CHUNKS_LEAST * size_of::<u64>() * geometry.chunk_words();
        let past = past.max(PAST_LEAST + chunks.min(bytes / 4));
        let rest = bytes.saturating_sub(past);
        // Of a folio that one process maps: its share of the buckets, in bytes by 256.
        let per_folio = FOLIO * 256
            + 256 * size_of::<u32>() / ENTRIES_PER_BUCKET
            + 256 * size_of::<u32>() / RECORDS_PER_BUCKET;
        let folios = rest.saturating_mul(256) / per_folio;
        let buckets = (folios / ENTRIES_PER_BUCKET).max(1);
        let record_buckets = (folios / RECORDS_PER_BUCKET).max(1);
        let tables = size_of::<u32>().saturating_mul(buckets.saturating_add(record_buckets));
        Ok(Self {
            buckets: zeroed(buckets)?,
            record_buckets: zeroed(record_buckets)?,
            present: Ends::new(rest.saturating_sub(tables))?,
            past: Ends::new(past)?,
            chunk_words: geometry.chunk_words(),
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.buckets.as_slice())
            .saturating_add(size_of_val(self.record_buckets.as_slice()))
            .saturating_add(self.present.bytes())
            .saturating_add(self.past.bytes())
    }

    /// Lends more of what is wanted, as long as there is more.
    #[cold]
    pub(crate) fn extend(&mut self, wants: Wants) {
        // As many more as would take up one step, or a few.
        let step = |bytes: usize, size: usize| (bytes / STEPS / size).max(8);
        let (present, past) = (self.present.bytes(), self.past.bytes());
        let chunk = size_of::<u64>().saturating_mul(self.chunk_words).max(1);
        if wants.entries {
            let nr = step(present, size_of::<FolioEntry>());
            self.present.extend_front(nr);
        }
        if wants.records {
            let nr = step(present, size_of::<Record>());
            self.present.extend_back(nr);
        }
        if wants.histories {
            self.past.extend_front(step(past, size_of::<History>()));
        }
        if wants.chunks {
            let fit = self.past.unused() / chunk;
            let nr = step(past, chunk).min(fit);
            self.past.extend_back(nr.saturating_mul(self.chunk_words));
        }
    }

    /// Lends all that was wanted so far.
    #[inline]
    pub(crate) fn lend(&mut self) -> Lent<'_> {
        let (entries, records) = self.present.slices();
        let (history, words) = self.past.slices();
        Lent {
            buckets: &mut self.buckets,
            record_buckets: &mut self.record_buckets,
            entries,
            history,
            records,
            words,
        }
    }
}

#[kunit_tests(fmi_storage)]
mod tests {
    use super::*;

    #[test]
    fn ends_meet_and_do_not_overlap() -> Result {
        let mut ends = Ends::<u64, Record>::new(8 * 100)?;
        for round in 0..100 {
            ends.extend_front(1);
            ends.extend_back(1);
            let (front, back) = ends.slices();
            let (nr_front, nr_back) = (front.len(), back.len());
            assert_eq!(
                (nr_front, nr_back),
                ((round + 1).min(19), (round + 1).min(18))
            );
            front.fill(u64::MAX);
            // What the back gets is as it was at first.
            assert!(back.iter().all(Record::is_free));
        }
        assert!(ends.unused() < size_of::<Record>());
        Ok(())
    }

    #[test]
    fn one_uses_what_the_other_leaves() -> Result {
        for wants in [
            Wants {
                entries: true,
                ..Wants::default()
            },
            Wants {
                records: true,
                ..Wants::default()
            },
        ] {
            let bytes = 64 << 10;
            let mut storage = Storage::new(bytes, bytes, crate::env::geometry())?;
            for _ in 0..2 * STEPS {
                storage.extend(wants);
            }
            let lent = storage.lend();
            let used = size_of_val(lent.entries) + size_of_val(lent.records);
            assert!(used > bytes - bytes / 8 && used <= bytes);
        }
        Ok(())
    }
}
