// SPDX-License-Identifier: GPL-2.0

//! Which pages a record maps by PTEs, and where VMAs end inside it.

use super::{
    Fail,
    Shard,
    CORRUPT, //
};
use crate::bits::{
    clear_range,
    index,
    mask_in,
    pages_of_order,
    set_range,
    words_of,
    Pages,
    WORD_SHIFT, //
};
use crate::planes::Step;
use crate::record::{
    Slots,
    Spread,
    ALL,
    SOME, //
};
use crate::Record;

/// One of the two sets of pages of a record.
#[derive(Clone, Copy)]
enum Set {
    /// The pages that are mapped by PTEs.
    Bits,
    /// The pages that begin another VMA than the page before them.
    Bounds,
}

impl Record {
    /// Returns the word of a detail that is a set, or the link of its chunk and the number of pages.
    #[inline]
    fn set(&self, set: Set) -> u64 {
        match set {
            Set::Bits => self.mm,
            Set::Bounds => self.place,
        }
    }

    /// Notes another word.
    #[inline]
    fn put_set(&mut self, set: Set, word: u64) {
        match set {
            Set::Bits => self.mm = word,
            Set::Bounds => self.place = word,
        }
    }
}

/// Returns the link of a chunk, and how many pages are in the set that it holds.
fn halves(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    let link = u32::from_le_bytes([a, b, c, d]);
    (link, u32::from_le_bytes([e, f, g, h]))
}

/// Returns the word of a link and a number of pages.
fn from_halves(link: u32, nr: u32) -> u64 {
    u64::from(link) | u64::from(nr).wrapping_shl(u32::BITS)
}

/// Returns how many pages a set has that is kept in this word.
fn len_of(word: u64, order: u8) -> u32 {
    if is_inline(order) {
        word.count_ones()
    } else {
        halves(word).1
    }
}

/// Returns whether sets of pages of a folio of this order fit into a word of the detail.
#[inline]
fn is_inline(order: u8) -> bool {
    u32::from(order) <= WORD_SHIFT
}

impl Shard<'_> {
    /// Returns a set that is kept in a word of a detail or in a chunk.
    #[inline]
    fn stored(&self, word: u64, order: u8) -> Result<Pages<'_>, Fail> {
        if is_inline(order) {
            return Ok(Pages::Word(word));
        }
        let (link, _) = halves(word);
        let words = index(words_of(pages_of_order(order)));
        let chunk = self.chunk(link)?;
        Ok(Pages::Words(chunk.get(..words).ok_or(CORRUPT)?))
    }

    /// Returns the pages that a record of a folio of this order maps by PTEs.
    #[inline]
    pub(crate) fn pages_of(&self, record: &Record, order: u8) -> Result<Pages<'_>, Fail> {
        if record.has(ALL) {
            Ok(Pages::All)
        } else if record.has(SOME) {
            let unit = self.unit(record)?.ok_or(CORRUPT)?;
            self.stored(unit.bits(), order)
        } else {
            Ok(Pages::None)
        }
    }

    /// Returns how many pages they are.
    pub(crate) fn nr_pages_of(&self, record: &Record, order: u8) -> Result<u32, Fail> {
        if record.has(ALL) {
            Ok(pages_of_order(order))
        } else if record.has(SOME) {
            let unit = self.unit(record)?.ok_or(CORRUPT)?;
            Ok(len_of(unit.bits(), order))
        } else {
            Ok(0)
        }
    }

    /// Returns the VMA boundaries inside a record of a folio of this order.
    #[inline]
    pub(crate) fn bounds_of(&self, record: &Record, order: u8) -> Result<Pages<'_>, Fail> {
        match self.unit(record)?.map_or(0, Record::bounds) {
            0 => Ok(Pages::None),
            word => self.stored(word, order),
        }
    }

    /// Returns how many they are.
    pub(crate) fn nr_bounds_of(&self, record: &Record, order: u8) -> Result<u32, Fail> {
        Ok(len_of(self.detail(record)?.bounds, order))
    }

    /// Returns over how many VMAs and page tables the mappings of a record spread.
    pub(crate) fn spread(&self, r: u32, order: u8) -> Result<Spread, Fail> {
        let record = self.record(r)?;
        let geometry = self.state.geometry;
        let slots = Slots::new(
            record.base(),
            order,
            geometry.page_shift,
            geometry.pmd_order,
        );
        let one_vma = self.unit(record)?.is_none_or(|unit| unit.bounds() == 0);
        if let Some(spread) = Spread::simple(record, &slots, one_vma) {
            return Ok(spread);
        }
        Ok(Spread::by_parts(
            record,
            &slots,
            self.pages_of(record, order)?,
            self.bounds_of(record, order)?,
        ))
    }

    /// Makes room for a set of a record, and empties it; or fills it, if the folio has more than 64 pages.
    fn make_set(&mut self, r: u32, order: u8, set: Set, full: bool) -> Result<(), Fail> {
        self.need_detail(r)?;
        let (fill, nr) = if full {
            (u64::MAX, pages_of_order(order))
        } else {
            (0, 0)
        };
        let word = if is_inline(order) {
            0
        } else {
            from_halves(self.alloc_chunk(fill)?, nr)
        };
        self.unit_mut(r)?.put_set(set, word);
        Ok(())
    }

    /// Gives back the room of a set of a record, if it has any.
    fn drop_set(&mut self, r: u32, order: u8, set: Set) -> Result<(), Fail> {
        if self.record(r)?.detail().is_none() {
            return Ok(());
        }
        let unit = self.unit_mut(r)?;
        let word = unit.set(set);
        unit.put_set(set, 0);
        if is_inline(order) || word == 0 {
            return Ok(());
        }
        self.free_chunk(halves(word).0)
    }

    /// Changes a set of a record, which it has, by ranges of pages that come and go, how often each;
    /// returns how many pages are in it then.
    fn change_set(
        &mut self,
        r: u32,
        order: u8,
        set: Set,
        change: impl Fn(&mut [u64]) -> (u32, u32),
    ) -> Result<u32, Fail> {
        let unit = self.unit_mut(r)?;
        let mut word = unit.set(set);
        if is_inline(order) {
            change(core::slice::from_mut(&mut word));
            unit.put_set(set, word);
            return Ok(word.count_ones());
        }
        let (link, old) = halves(word);
        let (more, fewer) = change(self.chunk_mut(link)?);
        let nr = old.wrapping_add(more).wrapping_sub(fewer);
        self.unit_mut(r)?.put_set(set, from_halves(link, nr));
        Ok(nr)
    }

    /// Puts pages into the set of PTE-mapped pages of a record, or takes them out; it has such a set, and
    /// none or all of them are in it.
    #[inline]
    fn put_pages(
        &mut self,
        r: u32,
        order: u8,
        (first, end): (u32, u32),
        mapped: bool,
    ) -> Result<(), Fail> {
        let unit = self.unit_mut(r)?;
        let word = unit.bits();
        if is_inline(order) {
            let mask = mask_in(0, first, end);
            let word = if mapped { word | mask } else { word & !mask };
            unit.put_set(Set::Bits, word);
            return Ok(());
        }
        let (link, old) = halves(word);
        let chunk = self.chunk_mut(link)?;
        let nr = if mapped {
            old.wrapping_add(set_range(chunk, first, end))
        } else {
            old.wrapping_sub(clear_range(chunk, first, end))
        };
        self.unit_mut(r)?.put_set(Set::Bits, from_halves(link, nr));
        Ok(())
    }

    /// Copies the set of PTE-mapped pages of a record, which maps a part of a folio of more than 64 pages, to the
    /// words from `to` on.
    pub(crate) fn copy_pages(&mut self, r: u32, order: u8, to: usize) -> Result<(), Fail> {
        let word = self.unit(self.record(r)?)?.ok_or(CORRUPT)?.bits();
        let from = self.chunk_start(halves(word).0)?;
        for n in 0..index(words_of(pages_of_order(order))) {
            let word = *self.words.get(from.wrapping_add(n)).ok_or(CORRUPT)?;
            *self.words.get_mut(to.wrapping_add(n)).ok_or(CORRUPT)? = word;
        }
        Ok(())
    }

    /// Gives back the room of both sets of a record.
    pub(crate) fn drop_sets(&mut self, r: u32, order: u8) -> Result<(), Fail> {
        self.drop_set(r, order, Set::Bits)?;
        self.drop_set(r, order, Set::Bounds)
    }

    /// Maps the pages `first..first + nr` of a record by PTEs; none of them is yet.
    pub(crate) fn map_pages(&mut self, e: u32, r: u32, first: u32, nr: u32) -> Result<(), Fail> {
        let order = self.entry(e)?.order;
        let nr_pages = pages_of_order(order);
        let end = first.wrapping_add(nr);
        let old = self.nr_pages_of(self.record(r)?, order)?;
        let new = old.wrapping_add(nr);
        if new == nr_pages {
            if old > 0 {
                self.count_record(e, r, Step::Down)?;
                self.drop_set(r, order, Set::Bits)?;
                self.part_gone(e)?;
            }
            let record = self.record_mut(r)?;
            record.put(SOME, false);
            record.put(ALL, true);
            let counts = self.counts_mut(e)?;
            counts.whole = counts.whole.wrapping_add(1);
        } else {
            if old == 0 {
                self.make_set(r, order, Set::Bits, false)?;
                self.record_mut(r)?.put(SOME, true);
                let counts = self.counts_mut(e)?;
                counts.parts = counts.parts.wrapping_add(1);
            }
            self.put_pages(r, order, (first, end), true)?;
            self.count_range(e, first, end, Step::Up)?;
        }
        let counts = self.counts_mut(e)?;
        counts.total = counts.total.wrapping_add(u64::from(nr));
        Ok(())
    }

    /// Unmaps the pages `first..first + nr` of a record; all of them are mapped by PTEs.
    pub(crate) fn unmap_pages(&mut self, e: u32, r: u32, first: u32, nr: u32) -> Result<(), Fail> {
        let order = self.entry(e)?.order;
        let nr_pages = pages_of_order(order);
        let end = first.wrapping_add(nr);
        let old = self.nr_pages_of(self.record(r)?, order)?;
        let new = old.wrapping_sub(nr);
        if old == nr_pages {
            self.record_mut(r)?.put(ALL, false);
            let counts = self.counts_mut(e)?;
            counts.whole = counts.whole.wrapping_sub(1);
            if new > 0 {
                counts.parts = counts.parts.wrapping_add(1);
                self.keep_rest(e, r, order, (first, end))?;
            }
        } else {
            self.count_range(e, first, end, Step::Down)?;
            if new > 0 {
                self.put_pages(r, order, (first, end), false)?;
            } else {
                self.record_mut(r)?.put(SOME, false);
                self.drop_set(r, order, Set::Bits)?;
                self.part_gone(e)?;
            }
        }
        let counts = self.counts_mut(e)?;
        counts.total = counts.total.wrapping_sub(u64::from(nr));
        Ok(())
    }

    /// Makes the set of the pages that a record still maps which mapped all of them, and counts them: all
    /// but `first..end`.
    fn keep_rest(
        &mut self,
        e: u32,
        r: u32,
        order: u8,
        (first, end): (u32, u32),
    ) -> Result<(), Fail> {
        if !is_inline(order) {
            self.make_set(r, order, Set::Bits, true)?;
            self.record_mut(r)?.put(SOME, true);
            self.put_pages(r, order, (first, end), false)?;
            return self.count_record(e, r, Step::Up);
        }
        let rest = mask_in(0, 0, pages_of_order(order)) & !mask_in(0, first, end);
        self.need_detail(r)?;
        self.unit_mut(r)?.put_set(Set::Bits, rest);
        self.record_mut(r)?.put(SOME, true);
        self.count_few(e, rest)
    }

    /// Notes that a record no longer maps just a part of the folio.
    fn part_gone(&mut self, e: u32) -> Result<(), Fail> {
        let counts = self.counts_mut(e)?;
        counts.parts = counts.parts.wrapping_sub(1);
        if counts.parts == 0 {
            self.drop_planes(e)?;
        }
        Ok(())
    }

    /// Notes that one VMA covers the pages `from..end` of a record, and ends there.
    pub(crate) fn bound(&mut self, r: u32, order: u8, from: u32, end: u32) -> Result<(), Fail> {
        let nr_pages = pages_of_order(order);
        if self.unit(self.record(r)?)?.map_or(0, Record::bounds) == 0 {
            if from == 0 && end == nr_pages {
                return Ok(());
            }
            self.make_set(r, order, Set::Bounds, false)?;
        }
        let nr = self.change_set(r, order, Set::Bounds, |words| {
            let gone = clear_range(words, from.saturating_add(1), end);
            let mut new = 0u32;
            for at in [from, end] {
                if 0 < at && at < nr_pages {
                    new = new.wrapping_add(set_range(words, at, at.wrapping_add(1)));
                }
            }
            (new, gone)
        })?;
        self.note_bounds(r, order, nr)
    }

    /// Returns whether it is known that one VMA covers the pages `from..end` of a record, and ends there.
    pub(crate) fn is_bound(&self, r: u32, order: u8, from: u32, end: u32) -> Result<bool, Fail> {
        let bounds = self.bounds_of(self.record(r)?, order)?;
        let is_there = |at: u32| bounds.any(at, at.saturating_add(1));
        let first = from == 0 || is_there(from);
        let last = end >= pages_of_order(order) || is_there(end);
        Ok(first && last && !bounds.any(from.saturating_add(1), end))
    }

    /// Puts a VMA boundary before a page of a record.
    pub(crate) fn set_bound(&mut self, r: u32, order: u8, at: u32) -> Result<(), Fail> {
        if self.unit(self.record(r)?)?.map_or(0, Record::bounds) == 0 {
            self.make_set(r, order, Set::Bounds, false)?;
        }
        let nr = self.change_set(r, order, Set::Bounds, |words| {
            (set_range(words, at, at.saturating_add(1)), 0)
        })?;
        self.note_bounds(r, order, nr)
    }

    /// Forgets all VMA boundaries of a record.
    pub(crate) fn clear_bounds(&mut self, r: u32, order: u8) -> Result<(), Fail> {
        self.note_bounds(r, order, 0)
    }

    /// Without any VMA boundary of a record, the set goes.
    fn note_bounds(&mut self, r: u32, order: u8, nr: u32) -> Result<(), Fail> {
        if nr == 0 {
            self.drop_set(r, order, Set::Bounds)?;
        }
        Ok(())
    }
}
