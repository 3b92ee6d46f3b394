// SPDX-License-Identifier: GPL-2.0

//! What a call does to the records of a tracked folio.

use super::entry::{
    DIRTY,
    KERNEL_DIRTY, //
};
use super::{
    Fail,
    Shard,
    State, //
};
use crate::bits::{
    mask_in,
    pages_of_order,
    words_in, //
};
use crate::planes::Step;
use crate::record::{
    Record,
    Spread,
    ALL,
    ENTIRE,
    SOME, //
};
use crate::{
    Call,
    Counter,
    Env,
    Inconsistency,
    KernelCounts,
    Kind,
    Level,
    Op,
    NO_BASE, //
};

/// Mappings of one record: one entire mapping, or some PTEs.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    /// The level.
    pub(crate) level: Level,
    /// The first page.
    pub(crate) first: u32,
    /// How many pages.
    pub(crate) nr: u32,
}

impl Part {
    /// Returns the page behind the last one.
    #[inline]
    pub(crate) fn end(&self) -> u32 {
        self.first.wrapping_add(self.nr)
    }
}

/// The record that a call is about.
#[derive(Clone, Copy)]
enum Found {
    /// There is none yet; whether the MM has one at another base.
    New(bool),
    /// This one.
    At(u32),
    /// This one, at another base than the call says.
    Displaced(u32),
    /// An open move: some pages are in the first, all others in the second.
    Both(u32, u32),
}

/// The run that a call belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    /// Its key.
    pub(crate) key: u64,
    /// It is a PMD split.
    pub(crate) split: bool,
    /// It begins with this call, although the one before has the same key.
    pub(crate) again: bool,
}

/// Mixes numbers into the key of a run; never 0, which is no run.
pub(crate) fn run_key(parts: [u64; 5]) -> u64 {
    let key = parts.iter().fold(0u64, |key, part| {
        let key = (key ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        key ^ key.wrapping_shr(32)
    });
    key.max(1)
}

/// Returns the lower half of a key, which is what is kept; 0 is none.
#[inline]
pub(crate) fn low(key: u64) -> u32 {
    let [a, b, c, d, ..] = key.to_le_bytes();
    match u32::from_le_bytes([a, b, c, d]) {
        0 if key != 0 => 1,
        low => low,
    }
}

/// What a run is made of, the first part of its key.
#[derive(Clone, Copy)]
pub(crate) enum Direction {
    /// Adds.
    Add,
    /// Removes.
    Remove,
    /// Mappings that fork made.
    Fork,
    /// A PMD split: PTE adds on an entire mapping, then its removal.
    Split,
    /// Moves.
    Move,
}

impl Direction {
    /// Returns a number of its own for each direction.
    pub(crate) fn number(self) -> u64 {
        match self {
            Direction::Add => 1,
            Direction::Remove => 2,
            Direction::Fork => 3,
            Direction::Split => 4,
            Direction::Move => 5,
        }
    }
}

/// Returns which pages of a folio the VMA covers in which `part` at `base` is; `None` if the range
/// is not known or the part is not in it.
pub(crate) fn pages_in_vma(
    (base, order, page_shift): (u64, u8, u8),
    part: Part,
    vma: (u64, u64),
) -> Option<(u32, u32)> {
    let (start, end) = vma;
    let shift = u32::from(page_shift);
    let va = base.wrapping_add(u64::from(part.first).wrapping_shl(shift));
    if va < start || va >= end {
        return None;
    }
    let before = va.wrapping_sub(start).wrapping_shr(shift);
    let behind = end.wrapping_sub(va).wrapping_shr(shift);
    if behind < u64::from(part.nr) {
        return None;
    }
    let nr_pages = pages_of_order(order);
    let from = u64::from(part.first).saturating_sub(before);
    let until = u64::from(part.first)
        .saturating_add(behind)
        .min(u64::from(nr_pages));
    Some((u32::try_from(from).ok()?, u32::try_from(until).ok()?))
}

impl Shard<'_> {
    /// Applies a call to a tracked folio: ends the run before, if the call is not part of it.
    ///
    /// # Errors
    ///
    /// The call contradicts the shadow, or memory ran out; then the shadow of this folio, and only
    /// this, may be half done.
    pub(crate) fn apply(&mut self, e: u32, c: &Call, env: &impl Env) -> Result<(), Fail> {
        if let Some(way) = self.plain_way(e, c)? {
            return self.go_plain(e, way, c, env);
        }
        let mut counts = KernelCounts::default();
        let kernel = self.check_before(e, c, env, &mut counts);
        let found = self.locate(e, c)?;
        let (key, split) = self.key_of_call(c, found)?;
        let part = Part {
            level: c.level,
            first: c.first,
            nr: c.nr,
        };
        let again = !split && self.starts_again(e, found, c.op, part)?;
        if self.entry(e)?.run != low(key) || again {
            self.evaluate(e, kernel, env)?;
        }

        let place = (c.base, c.order, self.state.geometry.page_shift);
        let vma = pages_in_vma(place, part, (c.vma_start, c.vma_end));
        let run = Run { key, split, again };
        self.remember(e)?;
        match (found, c.op) {
            (Found::New(elsewhere), _) => {
                let r = self.new_record(e, c.mm, c.base, elsewhere)?;
                let noted = self.observe(e, r, c, part, vma, run)?;
                self.edit(e, r, part, Step::Up, vma)?;
                self.note(e, r, &noted)?;
            }
            (Found::At(r), op) => {
                let noted = self.observe(e, r, c, part, vma, run)?;
                let step = if op == Op::Remove {
                    Step::Down
                } else {
                    Step::Up
                };
                self.edit(e, r, part, step, vma)?;
                self.note(e, r, &noted)?;
            }
            (Found::Displaced(r), _) => {
                let noted = self.observe(e, r, c, part, None, run)?;
                self.edit(e, r, part, Step::Down, None)?;
                self.note(e, r, &noted)?;
            }
            (Found::Both(here, there), _) => {
                let noted = self.observe(e, here, c, part, vma, run)?;
                self.remove_from_both(e, here, there, part)?;
                self.note(e, here, &noted)?;
            }
        }
        let entry = self.entry_mut(e)?;
        entry.operation = c.operation;
        entry.pid = c.pid;

        self.simplify(e)?;
        self.settle_state(e)?;
        self.refresh(e, c.pending, env)?;
        self.changed(e, key, env)
    }

    /// Returns the key of the run that a call belongs to, and whether that is a PMD split.
    fn key_of_call(&self, c: &Call, found: Found) -> Result<(u64, bool), Fail> {
        let geometry = self.state.geometry;
        let first = u64::from(c.first).wrapping_shl(u32::from(geometry.page_shift));
        let shift = u32::from(geometry.page_shift).wrapping_add(u32::from(geometry.pmd_order));
        let table = c.base.wrapping_add(first).wrapping_shr(shift);
        let split = match found {
            Found::At(r) => {
                let record = self.record(r)?;
                match (c.op, c.level) {
                    (Op::Add, Level::Pte) => record.entire(),
                    (Op::Remove, Level::Entire) => record.has(ALL | SOME),
                    _ => false,
                }
            }
            _ => false,
        };
        let (direction, task, caller) = match c.op {
            Op::Dup => (Direction::Fork, 0, 0),
            _ if split => (Direction::Split, c.task, 0),
            Op::Remove => (Direction::Remove, c.task, c.caller),
            _ => (Direction::Add, c.task, c.caller),
        };
        let key = run_key([direction.number(), task, caller, c.vma, table]);
        Ok((key, split))
    }

    /// Returns whether a call belongs to another operation than the one before on the same record,
    /// although task and caller are the same.
    ///
    /// Operations go up in a page table, and what removes leaves nothing mapped behind it: three
    /// MADV_DONTNEED of a folio, not in order, are three runs. That cannot be said of removes of page
    /// cache: those of its dirty PTEs are delayed until the others are done.
    fn starts_again(&self, e: u32, found: Found, op: Op, part: Part) -> Result<bool, Fail> {
        let Found::At(r) = found else {
            return Ok(false);
        };
        let (entry, record) = (self.entry(e)?, self.record(r)?);
        let removes = op == Op::Remove;
        if part.level == Level::Entire || (removes && entry.kind != Kind::Anon) {
            return Ok(false);
        }
        let last_end = match self.unit(record)? {
            Some(unit) => unit.last_end(),
            None => record.implied().last_end,
        };
        if part.first < last_end {
            return Ok(true);
        }
        let pages = self.pages_of(record, entry.order)?;
        Ok(removes && pages.any(last_end, part.first))
    }

    /// Returns whether a record has all mappings of a part.
    pub(crate) fn has_all(&self, r: u32, order: u8, part: Part) -> Result<bool, Fail> {
        let record = self.record(r)?;
        Ok(match part.level {
            Level::Entire => record.entire(),
            Level::Pte => self.pages_of(record, order)?.all(part.first, part.end()),
        })
    }

    /// Returns whether a record has any mapping of a part.
    pub(crate) fn has_any(&self, r: u32, order: u8, part: Part) -> Result<bool, Fail> {
        let record = self.record(r)?;
        Ok(match part.level {
            Level::Entire => record.entire(),
            Level::Pte => self.pages_of(record, order)?.any(part.first, part.end()),
        })
    }

    /// Finds the record that a call is about; all of the call must fit.
    fn locate(&mut self, e: u32, c: &Call) -> Result<Found, Fail> {
        let part = Part {
            level: c.level,
            first: c.first,
            nr: c.nr,
        };
        let lookup = self.lookup(e, c.mm, c.base)?;
        if c.op != Op::Remove {
            return match lookup.here {
                None => Ok(Found::New(lookup.elsewhere)),
                Some(r) if self.has_any(r, c.order, part)? => {
                    Err(Fail::Inconsistent(Inconsistency::AddMapped))
                }
                Some(r) => Ok(Found::At(r)),
            };
        }
        if let Some(r) = lookup.here {
            if self.has_all(r, c.order, part)? {
                return Ok(Found::At(r));
            }
        }
        if let Some(alt_base) = c.alt_base {
            if let Some(found) = self.locate_in_move(e, c, part, lookup.here, alt_base)? {
                self.state.counters.add(Counter::RemoveAtAlternative);
                return Ok(found);
            }
        }
        let found = self.locate_elsewhere(e, c, part)?;
        let r = found.ok_or(if c.base == NO_BASE && self.maps_any(e, c, part) {
            Fail::NotLinear
        } else {
            Fail::Inconsistent(Inconsistency::RemoveNotMapped)
        })?;
        self.state.counters.add(Counter::RemoveElsewhere);
        Ok(Found::Displaced(r))
    }

    /// Returns whether any record of the MM has all mappings of a part.
    fn maps_any(&self, e: u32, c: &Call, part: Part) -> bool {
        let has = |record: &Record| {
            self.pages_of(record, c.order)
                .is_ok_and(|pages| pages.all(part.first, part.end()))
        };
        self.find_of_mm(e, c.mm, has).is_some()
    }

    /// Finds mappings that an open move may have taken to, or left at, another base.
    fn locate_in_move(
        &self,
        e: u32,
        c: &Call,
        part: Part,
        here: Option<u32>,
        alt_base: u64,
    ) -> Result<Option<Found>, Fail> {
        let Some(there) = self.lookup(e, c.mm, alt_base)?.here else {
            return Ok(None);
        };
        if self.has_all(there, c.order, part)? {
            return Ok(Some(Found::Displaced(there)));
        }
        let Some(here) = here.filter(|_| part.level == Level::Pte) else {
            return Ok(None);
        };
        let a = self.pages_of(self.record(here)?, c.order)?;
        let b = self.pages_of(self.record(there)?, c.order)?;
        let together = words_in(part.first, part.end()).all(|n| {
            let mask = mask_in(n, part.first, part.end());
            (a.word(n) | b.word(n)) & mask == mask
        });
        Ok(together.then_some(Found::Both(here, there)))
    }

    /// Finds the only record of the MM that has the mappings at addresses in the VMA of the call.
    pub(crate) fn locate_elsewhere(
        &self,
        e: u32,
        c: &Call,
        part: Part,
    ) -> Result<Option<u32>, Fail> {
        let page_shift = self.state.geometry.page_shift;
        let fits = |record: &Record| {
            pages_in_vma(
                (record.base(), c.order, page_shift),
                part,
                (c.vma_start, c.vma_end),
            )
            .is_some()
                && match part.level {
                    Level::Entire => record.entire(),
                    Level::Pte => self
                        .pages_of(record, c.order)
                        .is_ok_and(|pages| pages.all(part.first, part.end())),
                }
        };
        let Some(r) = self.find_of_mm(e, c.mm, fits) else {
            return Ok(None);
        };
        let another = self.next_of_mm(self.record(r)?.hash_next, (e, c.mm), fits);
        Ok(another.is_none().then_some(r))
    }

    /// Removes a batch that an open move has torn apart.
    fn remove_from_both(&mut self, e: u32, here: u32, there: u32, part: Part) -> Result<(), Fail> {
        let order = self.entry(e)?.order;
        let mut page = part.first;
        while page < part.end() {
            // A record that was freed on the way is empty.
            let pages = self.pages_of(self.record(here)?, order)?;
            let (r, stop) = match pages.next(page, part.end()) {
                Some(next) if next == page => (here, pages.next_gap(page, part.end())),
                Some(next) => (there, next),
                None => (there, part.end()),
            };
            let piece = Part {
                first: page,
                nr: stop.wrapping_sub(page),
                ..part
            };
            self.edit(e, r, piece, Step::Down, None)?;
            page = stop;
        }
        Ok(())
    }

    /// Adds or removes mappings of a record, none or all of which are there, and takes its counts
    /// along; an empty record goes. `vma` is the range of pages that the VMA covers, if known.
    pub(crate) fn edit(
        &mut self,
        e: u32,
        r: u32,
        part: Part,
        step: Step,
        vma: Option<(u32, u32)>,
    ) -> Result<(), Fail> {
        let order = self.entry(e)?.order;
        let before = self.spread(r, order)?;
        if let Some((from, end)) = vma {
            self.bound(r, order, from, end)?;
        }
        match (part.level, step) {
            (Level::Pte, Step::Up) => self.map_pages(e, r, part.first, part.nr)?,
            (Level::Pte, Step::Down) => self.unmap_pages(e, r, part.first, part.nr)?,
            (Level::Entire, step) => {
                self.record_mut(r)?.put(ENTIRE, step == Step::Up);
                let counts = self.counts_mut(e)?;
                if step == Step::Up {
                    counts.entire = counts.entire.wrapping_add(1);
                    counts.total = counts.total.wrapping_add(1);
                } else {
                    counts.entire = counts.entire.wrapping_sub(1);
                    counts.total = counts.total.wrapping_sub(1);
                }
            }
        }
        let after = self.spread(r, order)?;
        self.respread(e, before, after)?;
        if self.record(r)?.is_empty() {
            self.clear_bounds(r, order)?;
            self.drop_record(e, r)?;
        }
        Ok(())
    }

    /// Takes the VMAs and tuples of one record along in the counts of the folio.
    pub(crate) fn respread(&mut self, e: u32, before: Spread, after: Spread) -> Result<(), Fail> {
        self.counts_mut(e)?.spread(before, after);
        Ok(())
    }

    /// Takes a drained entry off its list, because it gets a record.
    pub(crate) fn wake(&mut self, e: u32) -> Result<(), Fail> {
        if self.entry(e)?.state == State::Draining {
            self.pull_drained(e)?;
            self.entry_mut(e)?.state = State::Live;
            self.state.counters.add(Counter::Tracked);
        }
        Ok(())
    }

    /// Puts an entry on the list of drained ones if it has no mappings any more.
    pub(crate) fn settle_state(&mut self, e: u32) -> Result<(), Fail> {
        let entry = self.entry_mut(e)?;
        if entry.state != State::Live || entry.is_mapped() {
            return Ok(());
        }
        entry.state = State::Draining;
        self.state.counters.add(Counter::Drained);
        self.state.counters.sub(Counter::Tracked);
        self.push_drained(e)
    }

    /// Notes that the state of a folio was changed by a run.
    ///
    /// A run that leaves nothing mapped has ended: its state is evaluated at once, so that nothing
    /// is wrong about a folio that is gone.
    pub(crate) fn changed(&mut self, e: u32, run: u64, env: &impl Env) -> Result<(), Fail> {
        let entry = self.entry_mut(e)?;
        entry.run = low(run);
        entry.seq = entry.seq.wrapping_add(1);
        entry.change_flags(DIRTY | KERNEL_DIRTY, 0);
        if !entry.is_mapped() {
            self.evaluate(e, None, env)?;
        }
        Ok(())
    }
}
