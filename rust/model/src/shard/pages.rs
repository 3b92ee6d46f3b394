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
    Spread, //
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
    /// Returns the word that is a set of the record, or the link of its chunk.
    fn set_mut(&mut self, set: Set) -> &mut u64 {
        match set {
            Set::Bits => &mut self.bits,
            Set::Bounds => &mut self.bounds,
        }
    }
}

/// Returns whether sets of pages of a folio of this order fit into a word of the record.
#[inline]
fn is_inline(order: u8) -> bool {
    u32::from(order) <= WORD_SHIFT
}

impl Shard<'_> {
    /// Returns a set that is kept in a word of the record or in a chunk.
    #[inline]
    fn stored(&self, word: u64, order: u8) -> Result<Pages<'_>, Fail> {
        if is_inline(order) {
            return Ok(Pages::Word(word));
        }
        let link = u32::try_from(word).map_err(|_| CORRUPT)?;
        let words = index(words_of(pages_of_order(order)));
        let chunk = self.chunk(link)?;
        Ok(Pages::Words(chunk.get(..words).ok_or(CORRUPT)?))
    }

    /// Returns the pages that a record of a folio of this order maps by PTEs.
    #[inline]
    pub(crate) fn pages_of(&self, record: &Record, order: u8) -> Result<Pages<'_>, Fail> {
        if record.nr == 0 {
            Ok(Pages::None)
        } else if record.nr == pages_of_order(order) {
            Ok(Pages::All)
        } else {
            self.stored(record.bits, order)
        }
    }

    /// Returns the VMA boundaries inside a record of a folio of this order.
    #[inline]
    pub(crate) fn bounds_of(&self, record: &Record, order: u8) -> Result<Pages<'_>, Fail> {
        if record.nr_bounds() == 0 {
            Ok(Pages::None)
        } else {
            self.stored(record.bounds, order)
        }
    }

    /// Returns over how many VMAs and page tables the mappings of a record spread.
    pub(crate) fn spread(&self, r: u32, order: u8) -> Result<Spread, Fail> {
        let record = self.record(r)?;
        let geometry = self.state.geometry;
        let slots = Slots::new(record.base, order, geometry.page_shift, geometry.pmd_order);
        Ok(Spread::of(
            record,
            &slots,
            self.pages_of(record, order)?,
            self.bounds_of(record, order)?,
        ))
    }

    /// Makes room for a set of a record, and empties or fills it.
    fn make_set(&mut self, r: u32, order: u8, set: Set, full: bool) -> Result<(), Fail> {
        let fill = if full { u64::MAX } else { 0 };
        let word = if is_inline(order) {
            fill & mask_in(0, 0, pages_of_order(order))
        } else {
            u64::from(self.alloc_chunk(fill)?)
        };
        *self.record_mut(r)?.set_mut(set) = word;
        Ok(())
    }

    /// Gives back the room of a set of a record, if it has any.
    fn drop_set(&mut self, r: u32, order: u8, set: Set) -> Result<(), Fail> {
        let word = core::mem::replace(self.record_mut(r)?.set_mut(set), 0);
        if is_inline(order) || word == 0 {
            return Ok(());
        }
        self.free_chunk(u32::try_from(word).map_err(|_| CORRUPT)?)
    }

    /// Returns the words of a set of a record, to be changed.
    fn set_words(&mut self, r: u32, order: u8, set: Set) -> Result<&mut [u64], Fail> {
        if is_inline(order) {
            return Ok(core::slice::from_mut(self.record_mut(r)?.set_mut(set)));
        }
        let link = *self.record_mut(r)?.set_mut(set);
        self.chunk_mut(u32::try_from(link).map_err(|_| CORRUPT)?)
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
        let old = self.record(r)?.nr;
        let new = old.wrapping_add(nr);
        if new == nr_pages {
            if old > 0 {
                self.count_record(e, r, Step::Down)?;
                self.drop_set(r, order, Set::Bits)?;
                self.part_gone(e)?;
            }
            let entry = self.entry_mut(e)?;
            entry.whole = entry.whole.wrapping_add(1);
        } else {
            if old == 0 {
                self.make_set(r, order, Set::Bits, false)?;
                let entry = self.entry_mut(e)?;
                entry.parts = entry.parts.wrapping_add(1);
            }
            set_range(self.set_words(r, order, Set::Bits)?, first, end);
            self.count_range(e, first, end, Step::Up)?;
        }
        self.record_mut(r)?.nr = new;
        let entry = self.entry_mut(e)?;
        entry.total = entry.total.wrapping_add(u64::from(nr));
        Ok(())
    }

    /// Unmaps the pages `first..first + nr` of a record; all of them are mapped by PTEs.
    pub(crate) fn unmap_pages(&mut self, e: u32, r: u32, first: u32, nr: u32) -> Result<(), Fail> {
        let order = self.entry(e)?.order;
        let nr_pages = pages_of_order(order);
        let end = first.wrapping_add(nr);
        let old = self.record(r)?.nr;
        let new = old.wrapping_sub(nr);
        self.record_mut(r)?.nr = new;
        if old == nr_pages {
            let entry = self.entry_mut(e)?;
            entry.whole = entry.whole.wrapping_sub(1);
            if new > 0 {
                entry.parts = entry.parts.wrapping_add(1);
                self.make_set(r, order, Set::Bits, true)?;
                clear_range(self.set_words(r, order, Set::Bits)?, first, end);
                self.count_record(e, r, Step::Up)?;
            }
        } else {
            self.count_range(e, first, end, Step::Down)?;
            if new > 0 {
                clear_range(self.set_words(r, order, Set::Bits)?, first, end);
            } else {
                self.drop_set(r, order, Set::Bits)?;
                self.part_gone(e)?;
            }
        }
        let entry = self.entry_mut(e)?;
        entry.total = entry.total.wrapping_sub(u64::from(nr));
        Ok(())
    }

    /// Notes that a record no longer maps just a part of the folio.
    fn part_gone(&mut self, e: u32) -> Result<(), Fail> {
        let entry = self.entry_mut(e)?;
        entry.parts = entry.parts.wrapping_sub(1);
        if entry.parts == 0 {
            self.drop_planes(e)?;
        }
        Ok(())
    }

    /// Notes that one VMA covers the pages `from..end` of a record, and ends there.
    pub(crate) fn bound(&mut self, r: u32, order: u8, from: u32, end: u32) -> Result<(), Fail> {
        let nr_pages = pages_of_order(order);
        let old = self.record(r)?.nr_bounds();
        if old == 0 {
            if from == 0 && end == nr_pages {
                return Ok(());
            }
            self.make_set(r, order, Set::Bounds, false)?;
        }
        let words = self.set_words(r, order, Set::Bounds)?;
        let gone = clear_range(words, from.saturating_add(1), end);
        let mut new = old.wrapping_sub(gone);
        for at in [from, end] {
            if 0 < at && at < nr_pages {
                new = new.wrapping_add(set_range(words, at, at.wrapping_add(1)));
            }
        }
        self.note_bounds(r, order, new)
    }

    /// Puts a VMA boundary before a page of a record, or takes away the one that is there.
    pub(crate) fn set_bound(
        &mut self,
        r: u32,
        order: u8,
        at: u32,
        present: bool,
    ) -> Result<(), Fail> {
        let old = self.record(r)?.nr_bounds();
        if old == 0 {
            self.make_set(r, order, Set::Bounds, false)?;
        }
        let words = self.set_words(r, order, Set::Bounds)?;
        let end = at.saturating_add(1);
        let new = if present {
            old.wrapping_add(set_range(words, at, end))
        } else {
            old.wrapping_sub(clear_range(words, at, end))
        };
        self.note_bounds(r, order, new)
    }

    /// Forgets all VMA boundaries of a record.
    pub(crate) fn clear_bounds(&mut self, r: u32, order: u8) -> Result<(), Fail> {
        self.note_bounds(r, order, 0)
    }

    /// Notes the number of VMA boundaries of a record; without any, the set goes.
    fn note_bounds(&mut self, r: u32, order: u8, nr: u32) -> Result<(), Fail> {
        self.record_mut(r)?.set_nr_bounds(nr);
        if nr == 0 {
            self.drop_set(r, order, Set::Bounds)?;
        }
        Ok(())
    }
}
