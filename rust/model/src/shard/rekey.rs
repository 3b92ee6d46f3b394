// SPDX-License-Identifier: GPL-2.0

//! Changes without an rmap call: mappings that move, VMAs that split and merge.

use super::apply::{
    low,
    pages_in_vma,
    run_key,
    Direction,
    Part, //
};
use super::shared::number_of;
use super::{
    Fail,
    Shard,
    State, //
};
use crate::bits::{
    mask_in,
    pages_of_order,
    words_in,
    Pages, //
};
use crate::planes::Step;
use crate::record::{
    ALL,
    SOME, //
};
use crate::{
    Boundary,
    Counter,
    Edge,
    Env,
    Inconsistency,
    KernelCounts,
    Level,
    Move,
    Operation,
    Outcome, //
};

impl Shard<'_> {
    /// Takes mappings of one MM along to where an mremap or UFFDIO_MOVE has moved them.
    ///
    /// Mappings that are recorded at the new base already are left there. The state before is
    /// evaluated; moves of one MM by one distance are a run. Kernel counters do not change.
    ///
    /// # Errors
    ///
    /// A mapping that is recorded at neither base, or at both, is [`Outcome::Inconsistent`]: the
    /// folio is lost.
    pub fn rekey(&mut self, m: &Move, env: &impl Env) -> Outcome {
        self.state.counters.add(Counter::Moves);
        let tracked = |e: &u32| {
            self.entry(*e).is_ok_and(|entry| match entry.state {
                State::Live => true,
                State::Draining => entry.order == m.order,
                State::Learning => true,
                State::Unused | State::Lost => false,
            })
        };
        let Some(e) = self.find(m.pfn).filter(tracked) else {
            self.state.counters.add(Counter::UntrackedMove);
            return Outcome::Untracked;
        };
        let learning = |entry: &super::FolioEntry| entry.state == State::Learning;
        let done = if self.entry(e).is_ok_and(learning) {
            self.learn_move(e, m)
        } else {
            self.try_rekey(e, m, env)
        };
        match done {
            Ok(()) => Outcome::Applied,
            Err(fail) => self.give_up(e, fail, env),
        }
    }

    /// Does what [`Shard::rekey`] says on a tracked folio.
    fn try_rekey(&mut self, e: u32, m: &Move, env: &impl Env) -> Result<(), Fail> {
        let fail = |kind| Err(Fail::Inconsistent(kind));
        let nr_pages = pages_of_order(m.order);
        let fits = m.first.checked_add(m.nr).is_some_and(|end| end <= nr_pages);
        if !fits || m.nr == 0 || (m.level == Level::Entire && m.nr != nr_pages) {
            return fail(Inconsistency::Malformed);
        }
        if self.entry(e)?.order != m.order {
            return fail(Inconsistency::OrderChanged);
        }
        let part = Part {
            level: m.level,
            first: m.first,
            nr: m.nr,
        };
        let [old, new] = self.places_of(e, m);
        let from = self.lookup(e, old.0, old.1)?.here;
        let to = self.lookup(e, new.0, new.1)?.here;
        let moved = match (from, to) {
            _ if old == new => {
                let there = match from {
                    Some(r) => self.has_all(r, m.order, part)?,
                    None => false,
                };
                if !there {
                    return fail(Inconsistency::MoveNotMapped);
                }
                false
            }
            (from, to) => self.is_move(m.order, part, from, to)?,
        };
        let Some(from) = from.filter(|_| moved) else {
            return Ok(());
        };

        let distance = m.new_base.wrapping_sub(m.old_base);
        let key = run_key([Direction::Move.number(), m.mm, distance, 0, 0]);
        if self.entry(e)?.run != low(key) {
            let mut counts = KernelCounts::default();
            let kernel = self.quick_check(e, env, &mut counts);
            self.evaluate(e, kernel, env)?;
        }
        self.remember(e)?;
        self.end_run(from)?;
        self.move_part(e, from, part, new, m)?;
        self.simplify(e)?;
        let entry = self.entry_mut(e)?;
        entry.operation = Operation::Move;
        entry.pid = m.pid;
        self.changed(e, key, env)
    }

    /// Returns the MMs and bases under which mappings that move are and will be recorded.
    pub(crate) fn places_of(&self, e: u32, m: &Move) -> [(u64, u64); 2] {
        let [old, new] = m.tables;
        [
            self.at_table(Some(e), (m.mm, m.old_base), old),
            self.at_table(Some(e), (m.mm, m.new_base), new),
        ]
    }

    /// Returns whether any mapping of a part is at the old place.
    ///
    /// # Errors
    ///
    /// Some mapping is at neither place, or one is at both.
    fn is_move(
        &self,
        order: u8,
        part: Part,
        from: Option<u32>,
        to: Option<u32>,
    ) -> Result<bool, Fail> {
        let mut any = false;
        let mut check = |old: u64, new: u64, mask: u64| {
            any |= old & mask != 0;
            if old & new & mask != 0 {
                Err(Fail::Inconsistent(Inconsistency::MoveOntoMapped))
            } else if (old | new) & mask != mask {
                Err(Fail::Inconsistent(Inconsistency::MoveNotMapped))
            } else {
                Ok(())
            }
        };
        match part.level {
            Level::Entire => {
                let entire = |r: Option<u32>| -> Result<u64, Fail> {
                    r.map_or(Ok(0), |r| Ok(u64::from(self.record(r)?.entire())))
                };
                check(entire(from)?, entire(to)?, 1)?;
            }
            Level::Pte => {
                let pages = |r: Option<u32>| -> Result<Pages<'_>, Fail> {
                    r.map_or(Ok(Pages::None), |r| self.pages_of(self.record(r)?, order))
                };
                let (old, new) = (pages(from)?, pages(to)?);
                words_in(part.first, part.end()).try_for_each(|n| {
                    check(old.word(n), new.word(n), mask_in(n, part.first, part.end()))
                })?;
            }
        }
        Ok(any)
    }

    /// Moves what a record has of a part to the new base.
    fn move_part(
        &mut self,
        e: u32,
        from: u32,
        part: Part,
        (mm, base): (u64, u64),
        m: &Move,
    ) -> Result<(), Fail> {
        let place = (base, m.order, self.state.geometry.page_shift);
        let vma = pages_in_vma(place, part, (m.vma_start, m.vma_end));
        let lookup = self.lookup(e, mm, base)?;
        let [_, table] = m.tables;
        let record = *self.record(from)?;
        let mm_id = self.detail(&record)?.mm_id;
        let all = match part.level {
            Level::Entire => !record.has(ALL | SOME),
            Level::Pte => !record.entire() && self.has_only(from, part, m.order)?,
        };
        if all && lookup.here.is_none() && record.mm == mm {
            // Everything moves: so does the record, and old boundaries mean nothing there.
            let before = self.spread(from, m.order)?;
            self.clear_bounds(from, m.order)?;
            if !self.record_mut(from)?.set_base(base) {
                return Err(Fail::Inconsistent(Inconsistency::Malformed));
            }
            self.note_owner(from, mm_id, number_of(table))?;
            if let Some((start, end)) = vma {
                self.bound(from, m.order, start, end)?;
            }
            self.try_shorten(from)?;
            let after = self.spread(from, m.order)?;
            return self.respread(e, before, after);
        }
        let to = match lookup.here {
            Some(to) => to,
            None => self.new_record(e, mm, base, lookup.elsewhere)?,
        };
        self.end_run(to)?;
        self.note_owner(to, mm_id, number_of(table))?;
        if part.level == Level::Entire {
            self.edit(e, to, part, Step::Up, vma)?;
            self.try_shorten(to)?;
            return self.edit(e, from, part, Step::Down, None);
        }
        let mut at = part.first;
        loop {
            // The record is empty once its last page has moved.
            let pages = self.pages_of(self.record(from)?, m.order)?;
            let Some(first) = pages.next(at, part.end()) else {
                return self.try_shorten(to);
            };
            let end = pages.next_gap(first, part.end());
            let piece = Part {
                first,
                nr: end.wrapping_sub(first),
                ..part
            };
            self.edit(e, to, piece, Step::Up, vma)?;
            self.edit(e, from, piece, Step::Down, None)?;
            at = end;
        }
    }

    /// Returns whether all PTE mappings of a record are in a part.
    fn has_only(&self, r: u32, part: Part, order: u8) -> Result<bool, Fail> {
        let record = self.record(r)?;
        let inside = self.pages_of(record, order)?.count(part.first, part.end());
        Ok(inside == self.nr_pages_of(record, order)?)
    }

    /// Notes that a VMA boundary inside the range of a record appeared or vanished.
    ///
    /// Returns whether that changed anything: no if there is no such record, or nothing new. The
    /// state before is evaluated, and that afterwards is a state of its own.
    pub fn set_boundary(&mut self, b: &Boundary, env: &impl Env) -> bool {
        let tracked = |e: &u32| {
            self.entry(*e).is_ok_and(|entry| {
                matches!(entry.state, State::Live | State::Learning) && entry.order == b.order
            })
        };
        let Some(e) = self.find(b.pfn).filter(tracked) else {
            return false;
        };
        self.try_boundary(e, b, env).unwrap_or_else(|fail| {
            self.give_up(e, fail, env);
            false
        })
    }

    /// Does what [`Shard::set_boundary`] says on a tracked folio.
    fn try_boundary(&mut self, e: u32, b: &Boundary, env: &impl Env) -> Result<bool, Fail> {
        let Some(r) = self.lookup(e, b.mm, b.base)?.here else {
            return Ok(false);
        };
        let large = b.order > self.state.geometry.max_order;
        if b.at == 0 || b.at >= pages_of_order(b.order) || large {
            return Ok(false);
        }
        let vma = match b.edge {
            Edge::Appeared => None,
            Edge::Vanished { start, end } => {
                let place = (b.base, b.order, self.state.geometry.page_shift);
                let both_sides = Part {
                    level: Level::Pte,
                    first: b.at.saturating_sub(1),
                    nr: 2,
                };
                let vma = pages_in_vma(place, both_sides, (start, end));
                let Some(vma) = vma else { return Ok(false) };
                Some(vma)
            }
        };
        let known = match vma {
            None => {
                let bounds = self.bounds_of(self.record(r)?, b.order)?;
                bounds.any(b.at, b.at.saturating_add(1))
            }
            Some((from, end)) => self.is_bound(r, b.order, from, end)?,
        };
        if known {
            return Ok(false);
        }
        let live = self.entry(e)?.state == State::Live;
        if live {
            let mut counts = KernelCounts::default();
            let kernel = self.quick_check(e, env, &mut counts);
            self.evaluate(e, kernel, env)?;
        }
        self.remember(e)?;
        let before = self.spread(r, b.order)?;
        match vma {
            None => self.set_bound(r, b.order, b.at)?,
            Some((from, end)) => self.bound(r, b.order, from, end)?,
        }
        let after = self.spread(r, b.order)?;
        self.respread(e, before, after)?;
        self.simplify(e)?;
        self.state.counters.add(Counter::Boundaries);
        if !live {
            let entry = self.entry_mut(e)?;
            entry.seq = entry.seq.wrapping_add(1);
            return Ok(true);
        }
        let entry = self.entry_mut(e)?;
        entry.operation = Operation::Vma;
        entry.pid = b.pid;
        self.changed(e, 0, env)?;
        Ok(true)
    }
}
