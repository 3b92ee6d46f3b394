// SPDX-License-Identifier: GPL-2.0

//! Folios whose records say all of their past.
//!
//! Most folios are mapped as a whole by one MM, and perhaps by a second one for some time. Then what
//! sketches of counters have come to follows from the records: nothing more is kept, and a call
//! takes a way of its own, on which nothing is looked at that such folios do not have. Anything else
//! that happens makes a [`History`] of it first, which stays until the folio is unmapped.
//!
//! A folio is *plain* while [`crate::FolioEntry::history`] is 0. If its past is known, it was, since it was unmapped,
//! mapped by at most two MMs at a time, by one call each, each time all of it; an MM that went was
//! not the first. Of a folio that was mapped before it was tracked the sketches are not known.

use super::apply::{
    low,
    run_key,
    Direction, //
};
use super::entry::{
    Counts,
    Numbers,
    ADOPTED,
    DIRTY,
    KERNEL_DIRTY,
    MOST_RECORDS, //
};
use super::shared::is_table;
use super::{
    position_of,
    Fail,
    History,
    Shard,
    State,
    CORRUPT, //
};
use crate::bits::{
    index,
    pages_of_order, //
};
use crate::figures::up;
use crate::record::{
    Slots,
    ALL,
    ENTIRE, //
};
use crate::{
    Call,
    Env,
    FolioEntry,
    KernelCounts,
    Kind,
    Level,
    Op,
    Record,
    Sketches, //
};

/// The mapping of a plain folio by an MM.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PlainMap {
    /// Identity of the MM.
    pub mm: u64,
    /// The kernel's id of it.
    pub mm_id: u32,
    /// The address of page 0 of the folio.
    pub base: u64,
    /// Number of mappings.
    pub nr: u32,
    /// One entry maps the whole folio.
    pub entire: bool,
}

/// The past of a plain folio: it was mapped as a whole by one or two MMs, each by one call.
///
/// There may have been others than the second, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Plain {
    /// The type of the folio.
    pub kind: Kind,
    /// Its order.
    pub order: u8,
    /// Order of a PMD of the running kernel.
    pub pmd_order: u8,
    /// Identity of the VMA of the first.
    pub vma: u32,
    /// Who maps the folio, the first one first.
    maps: [Option<PlainMap>; 2],
}

impl Plain {
    /// Returns the mapping of the MM that mapped the folio first. If it is gone and that state is
    /// being evaluated, it maps nothing.
    pub fn first(&self) -> Option<PlainMap> {
        let [first, _] = self.maps;
        first
    }

    /// Returns that of the other one.
    pub fn second(&self) -> Option<PlainMap> {
        let [_, second] = self.maps;
        second
    }

    /// Returns how many MMs map the folio.
    pub fn nr(&self) -> i32 {
        let mapped = self.maps.iter().flatten().filter(|map| map.nr > 0);
        mapped.fold(0, |nr, _| i32::saturating_add(nr, 1))
    }
}

/// Returns the identity of a VMA as it is kept; never 0.
#[inline]
pub(crate) fn identity(vma: u64) -> u32 {
    low(vma.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)).max(1)
}

impl Record {
    /// Returns whether the record maps the whole folio at this level, and nothing else is to be
    /// known.
    #[inline]
    fn is_plain(&self, level: Level) -> bool {
        self.is_short(flag_of(level))
    }
}

/// Returns the flag of a short record that maps the folio at this level.
#[inline]
fn flag_of(level: Level) -> u64 {
    match level {
        Level::Entire => ENTIRE,
        Level::Pte => ALL,
    }
}

/// How a call on a plain folio goes on.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// It makes a record.
    Add,
    /// It unmakes the record at this position; the run that it belongs to.
    Remove(u32, u32),
}

impl Shard<'_> {
    /// Returns what is kept of the past of a folio, to be changed; `None` if it is not known.
    pub(crate) fn past_mut(&mut self, e: u32) -> Result<Option<&mut History>, Fail> {
        let entry = self.entry(e)?;
        match position_of(entry.history).filter(|_| entry.is_known()) {
            None => Ok(None),
            Some(h) => Ok(Some(self.history.get_mut(index(h)).ok_or(CORRUPT)?)),
        }
    }

    /// Returns the counters that authors sketched, of a folio.
    pub(crate) fn sketches_of(&self, e: u32) -> Result<Sketches, Fail> {
        self.with_sketches(e, |sketches| *sketches)
    }

    /// Lends them.
    #[inline]
    pub(crate) fn with_sketches<R>(
        &self,
        e: u32,
        f: impl FnOnce(&Sketches) -> R,
    ) -> Result<R, Fail> {
        let entry = self.entry(e)?;
        let plain;
        let sketches = match position_of(entry.history).filter(|_| entry.is_known()) {
            None => {
                plain = Sketches::plain(&self.plain_of(e)?);
                &plain
            }
            Some(h) => &self.history.get(index(h)).ok_or(CORRUPT)?.sketches,
        };
        Ok(f(sketches))
    }

    /// Returns how a folio is mapped.
    #[inline]
    pub(crate) fn counts(&self, entry: &FolioEntry) -> Result<Counts, Fail> {
        match position_of(entry.history) {
            None => Ok(entry.counts()),
            Some(h) => Ok(self.history.get(index(h)).ok_or(CORRUPT)?.counts),
        }
    }

    /// Returns how the folio at a position is mapped.
    pub(crate) fn counts_of(&self, e: u32) -> Result<Counts, Fail> {
        self.counts(self.entry(e)?)
    }

    /// Returns how a folio is mapped that has a history.
    #[inline]
    pub(crate) fn counts_ref(&self, e: u32) -> Result<&Counts, Fail> {
        let h = position_of(self.entry(e)?.history).ok_or(CORRUPT)?;
        Ok(&self.history.get(index(h)).ok_or(CORRUPT)?.counts)
    }

    /// Returns how a folio is mapped, to be changed; it has a history, see [`Self::remember`].
    #[inline]
    pub(crate) fn counts_mut(&mut self, e: u32) -> Result<&mut Counts, Fail> {
        let h = position_of(self.entry(e)?.history).ok_or(CORRUPT)?;
        Ok(&mut self.history.get_mut(index(h)).ok_or(CORRUPT)?.counts)
    }

    /// Returns the past of a plain folio; nothing if it is not known.
    fn plain_of(&self, e: u32) -> Result<Plain, Fail> {
        let entry = self.entry(e)?;
        let mut past = Plain {
            kind: entry.kind,
            order: entry.order,
            pmd_order: self.state.geometry.pmd_order,
            vma: entry.owner,
            maps: [None; 2],
        };
        if !entry.is_known() {
            return Ok(past);
        }
        // The last record is the first in time.
        if let Some(r) = position_of(entry.first_record()) {
            let record = self.record(r)?;
            let last = Some(self.map_of(record, entry.order)?);
            past.maps = match position_of(record.next) {
                Some(first) => [Some(self.map_of(self.record(first)?, entry.order)?), last],
                None => [last, None],
            };
        } else if entry.has(DIRTY) {
            let gone = PlainMap {
                mm: u64::MAX,
                ..PlainMap::default()
            };
            past.maps = [Some(gone), None];
        }
        Ok(past)
    }

    /// Returns what a record of a plain folio says.
    fn map_of(&self, record: &Record, order: u8) -> Result<PlainMap, Fail> {
        let entire = record.entire();
        Ok(PlainMap {
            mm: record.mm,
            mm_id: self.detail(record)?.mm_id,
            base: record.base(),
            nr: if entire {
                1
            } else {
                self.nr_pages_of(record, order)?
            },
            entire,
        })
    }

    /// Makes a history of a plain folio, before something happens that its records do not say.
    pub(crate) fn remember(&mut self, e: u32) -> Result<(), Fail> {
        let entry = self.entry(e)?;
        if entry.history != 0 {
            return Ok(());
        }
        let past = if entry.is_known() {
            Some(self.plain_of(e)?)
        } else {
            None
        };
        let link = self.alloc_history()?;
        let h = position_of(link).ok_or(CORRUPT)?;
        let history = self.history.get_mut(index(h)).ok_or(CORRUPT)?;
        let entry = self.entries.get_mut(index(e)).ok_or(CORRUPT)?;
        history.counts = entry.counts();
        history.sketches = match &past {
            Some(past) => Sketches::plain(past),
            None => Sketches::default(),
        };
        entry.history = link;
        if !entry.is_listed() {
            entry.second = 0;
        }
        Ok(())
    }

    /// Gives the history of a folio back whose past is not known, if its records say how it is mapped.
    #[inline]
    pub(crate) fn simplify(&mut self, e: u32) -> Result<(), Fail> {
        if self.entry(e)?.is_known() {
            return Ok(());
        }
        self.simplify_unknown(e)
    }

    /// Does so, if it has one.
    fn simplify_unknown(&mut self, e: u32) -> Result<(), Fail> {
        let entry = self.entry(e)?;
        if entry.history == 0 {
            return Ok(());
        }
        let Some(Numbers(numbers)) = self.counts(entry)?.essence() else {
            return Ok(());
        };
        let entry = self.entry_mut(e)?;
        if !entry.is_listed() {
            entry.second = numbers;
        }
        self.drop_history(e)
    }

    /// Starts the counters anew, because nothing maps the folio any more; what is left in them is
    /// noted. From here on its past is known.
    pub(crate) fn empty_past(&mut self, e: u32) -> Result<(), Fail> {
        let entry = self.entry(e)?;
        if let Some(h) = position_of(entry.history).filter(|_| entry.is_known()) {
            let past = self.history.get_mut(index(h)).ok_or(CORRUPT)?;
            let figures = &mut self.state.figures;
            past.sketches
                .empty(|definition, left| figures.note_rest(definition, left));
        }
        self.drop_history(e)?;
        let entry = self.entry_mut(e)?;
        entry.change_flags(0, ADOPTED);
        Ok(())
    }

    /// Takes a call on a plain folio that is mapped; returns whether it is one.
    #[inline]
    pub(crate) fn call_plain(&mut self, e: u32, c: &Call, env: &impl Env) -> Result<bool, Fail> {
        let entry = self.entry(e)?;
        let tracked = entry.state == State::Live && entry.order == c.order;
        let changes = matches!(c.op, Op::Add | Op::Dup | Op::Remove) && c.order > 0;
        if !tracked || !changes || c.first != 0 || self.may_be_owed(c) || self.too_large(c) {
            return Ok(false);
        }
        match self.plain_way(e, c)? {
            Some(way) => self.go_plain(e, way, c, env).map(|()| true),
            None => Ok(false),
        }
    }

    /// Returns how a call goes on that is about the whole of a plain folio and leaves it plain; `None`
    /// if it is another.
    #[inline(always)]
    pub(crate) fn plain_way(&self, e: u32, c: &Call) -> Result<Option<Way>, Fail> {
        let entry = self.entry(e)?;
        let nr_pages = pages_of_order(c.order);
        let shift = u32::from(self.state.geometry.page_shift);
        let behind = c.base.wrapping_add(u64::from(nr_pages).wrapping_shl(shift));
        let plain = entry.history == 0;
        let whole = c.nr == nr_pages && c.table.is_none() && c.alt_base.is_none();
        let covered = c.vma_start <= c.base && c.base < behind && behind <= c.vma_end;
        if !(plain && whole && covered) {
            return Ok(None);
        }
        if c.op == Op::Remove {
            self.way_to_remove(entry, c)
        } else {
            self.way_to_add(e, entry, c)
        }
    }

    /// Returns how mappings come.
    #[inline]
    fn way_to_add(&self, e: u32, entry: &FolioEntry, c: &Call) -> Result<Option<Way>, Fail> {
        let known = !entry.has(ADOPTED);
        if is_table(c.mm) {
            return Ok(None);
        }
        match position_of(entry.first_record()) {
            // A state that could not be evaluated yet still has its sketches.
            None if entry.has(DIRTY) || c.mm_id == 0 => return Ok(None),
            None => return Ok(Some(Way::Add)),
            Some(r) if known => {
                let first = self.record(r)?;
                let differs =
                    self.detail(first)?.mm_id != c.mm_id && entry.owner != identity(c.vma);
                if first.next != 0 || first.mm == c.mm || !differs || c.mm_id == 0 {
                    return Ok(None);
                }
            }
            Some(_) => {
                let lookup = self.lookup(e, c.mm, c.base)?;
                let many = entry.numbers().nr_records() >= MOST_RECORDS;
                if many || lookup.here.is_some() || lookup.elsewhere {
                    return Ok(None);
                }
            }
        }
        Ok(Some(Way::Add))
    }

    /// Returns how mappings go.
    #[inline(always)]
    fn way_to_remove(&self, entry: &FolioEntry, c: &Call) -> Result<Option<Way>, Fail> {
        // Only the last one to come may go, so that the first one goes last.
        let Some(r) = position_of(entry.first_record()) else {
            return Ok(None);
        };
        let record = self.record(r)?;
        if record.mm != c.mm || record.base() != c.base || !record.is_plain(c.level) {
            return Ok(None);
        }
        // The state without it is not evaluated while a copy may hold more: until then its past lasts.
        let waits = record.next == 0 && (c.pending | entry.pending) != 0;
        if waits && !entry.has(ADOPTED) {
            return Ok(None);
        }
        let owns = entry.owner == identity(c.vma);
        if !entry.has(ADOPTED) && (record.mm_id() != c.mm_id || owns != (record.next == 0)) {
            return Ok(None);
        }
        let run = self.plain_run(c, Direction::Remove);
        Ok(Some(Way::Remove(r, run)))
    }

    /// Returns the key of the run of a call that is no part of a PMD split, which is of the first
    /// page.
    #[inline]
    fn plain_run(&self, c: &Call, direction: Direction) -> u32 {
        let geometry = self.state.geometry;
        let shift = u32::from(geometry.page_shift).wrapping_add(u32::from(geometry.pmd_order));
        let table = c.base.wrapping_shr(shift);
        let (task, caller) = match direction {
            Direction::Fork => (0, 0),
            _ => (c.task, c.caller),
        };
        low(run_key([direction.number(), task, caller, c.vma, table]))
    }

    /// Goes that way.
    #[inline]
    pub(crate) fn go_plain(
        &mut self,
        e: u32,
        way: Way,
        c: &Call,
        env: &impl Env,
    ) -> Result<(), Fail> {
        let mut counts = KernelCounts::default();
        let kernel = self.check_before(e, c, env, &mut counts);
        match way {
            Way::Add => self.add_plain(e, c, kernel, env),
            Way::Remove(r, run) => self.remove_plain(e, (r, run), c, kernel, env),
        }
    }

    /// Makes the mappings of a call.
    fn add_plain(
        &mut self,
        e: u32,
        c: &Call,
        kernel: Option<&KernelCounts>,
        env: &impl Env,
    ) -> Result<(), Fail> {
        let direction = match c.op {
            Op::Dup => Direction::Fork,
            _ => Direction::Add,
        };
        let run = self.plain_run(c, direction);
        if self.entry(e)?.run != run {
            self.evaluate_plain(e, kernel, env)?;
        }
        let r = self.new_record(e, c.mm, c.base, false)?;
        let entire = c.level == Level::Entire;
        let record = self.record_mut(r)?;
        record.put(flag_of(c.level), true);
        record.shorten(c.mm_id, run);
        let tuples = self.plain_tuples(c);
        let entry = self.entry_mut(e)?;
        let Numbers(more) = Numbers::new(0, u32::from(entire), tuples);
        entry.second = entry.second.wrapping_add(more);
        if Numbers(entry.second).nr_records() == 1 {
            entry.owner = identity(c.vma);
        }
        self.plain_changed(e, c, run, env)
    }

    /// Unmakes the mappings of a call.
    fn remove_plain(
        &mut self,
        e: u32,
        (r, run): (u32, u32),
        c: &Call,
        kernel: Option<&KernelCounts>,
        env: &impl Env,
    ) -> Result<(), Fail> {
        let entry = self.entry(e)?;
        let kind = entry.kind;
        // Removes of PTEs begin anew behind others, see `starts_again()`.
        let again = c.level == Level::Pte && kind == Kind::Anon && self.record(r)?.notes_run();
        if entry.run != run || again {
            self.evaluate_plain(e, kernel, env)?;
        }
        up(&mut self.state.figures.remove_runs, kind);
        let tuples = self.plain_tuples(c);
        self.drop_record(e, r)?;
        let entry = self.entry_mut(e)?;
        let entire = c.level == Level::Entire;
        let Numbers(fewer) = Numbers::new(0, u32::from(entire), tuples);
        entry.second = entry.second.wrapping_sub(fewer);
        self.plain_changed(e, c, run, env)?;
        if !self.entry(e)?.is_mapped() {
            self.settle_state(e)?;
            self.evaluate_gone(e, env)?;
        }
        Ok(())
    }

    /// Returns over how many page tables the mappings of a call spread.
    #[inline]
    fn plain_tuples(&self, c: &Call) -> u32 {
        let geometry = self.state.geometry;
        let slots = Slots::new(c.base, c.order, geometry.page_shift, geometry.pmd_order);
        match c.level {
            Level::Entire => 1,
            Level::Pte => slots.nr_tables(),
        }
    }

    /// Notes that a call has changed a plain folio.
    #[inline]
    fn plain_changed(&mut self, e: u32, c: &Call, run: u32, env: &impl Env) -> Result<(), Fail> {
        let entry = self.entry_mut(e)?;
        entry.operation = c.operation;
        entry.pid = c.pid;
        entry.cookie = env.gp_snapshot();
        entry.pending = entry.pending.max(c.pending);
        entry.run = run;
        entry.seq = entry.seq.wrapping_add(1);
        entry.change_flags(DIRTY | KERNEL_DIRTY, 0);
        Ok(())
    }
}
