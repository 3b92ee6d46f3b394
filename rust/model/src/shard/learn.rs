// SPDX-License-Identifier: GPL-2.0

//! Folios that were mapped before they were tracked.
//!
//! While a shard *learns*, mappings of folios without entry are taken in: from calls, from what fork
//! and mremap did, and from a scan of all page tables. Such a folio is *learning*: what is known
//! is a part of its mappings. It is never more than that:
//!
//! * the scan and the walks behind fork and mremap see a mapping under the lock of its page table;
//! * whatever goes, goes by a call, under that lock; what such a call removes is taken out if it
//!   is known, and left alone if it is not known yet;
//! * what comes by a call is taken in.
//!
//! So when the kernel counts as many mappings as are known, while no call is in flight, they are all
//! of them: the folio is *adopted*, tracked as any other from then on. Only its past is not known,
//! on which sketches of counters depend: these have no answer until the folio has been unmapped.
//! Until then a learning folio is not evaluated, not compared and not asked about.

use super::apply::Part;
use super::check::WINDOW_SCAN;
use super::entry::{
    fits,
    ADOPTED,
    DIRTY,
    KERNEL_DIRTY,
    RELEARNED, //
};
use super::shared::number_of;
use super::{
    Fail,
    FolioEntry,
    Shard,
    State, //
};
use crate::bits::pages_of_order;
use crate::figures::up;
use crate::planes::Step;
use crate::{
    Call,
    Counter,
    Env,
    Inconsistency,
    Kind,
    Level,
    LostReason,
    Move,
    Op,
    Outcome,
    Record,
    NO_BASE, //
};

/// What became of an attempt to adopt a folio.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Adoption {
    /// All of its mappings are known: it is tracked.
    Adopted,
    /// No such folio is learning, any more.
    Gone,
    /// Calls may be in flight.
    Busy,
    /// A copy is open that involves it.
    Copied,
    /// The kernel counts other mappings than those that are known.
    Differs,
}

/// How a shard stands to a mapped folio.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It is tracked.
    Tracked,
    /// Some of its mappings are known.
    Learning,
    /// It was lost, for this reason.
    Lost(LostReason),
    /// Nothing is known about it.
    Unknown,
}

impl Shard<'_> {
    /// Takes in mappings of folios that are not tracked from now on; so also of those that were lost
    /// until now.
    ///
    /// Whoever looks through page tables for [`Op::Found`] has to begin after this.
    pub fn begin_learning(&mut self) {
        self.state.learning = true;
        self.state.phase = self.state.phase.wrapping_add(1);
    }

    /// Takes in no more folios; those that are learning go on.
    pub fn stop_learning(&mut self) {
        self.state.learning = false;
    }

    /// Returns whether mappings of folios that are not tracked are taken in.
    pub fn learns(&self) -> bool {
        self.state.learning
    }

    /// Returns the pfn of the folio at a position, if it is learning.
    pub fn learning_at(&self, e: u32) -> Option<u64> {
        let entry = self.entry(e).ok()?;
        (entry.state == State::Learning).then_some(entry.pfn())
    }

    /// Returns how the shard stands to a folio that is mapped.
    pub fn standing(&self, pfn: u64, order: u8) -> Standing {
        let entry = self.find(pfn).and_then(|e| self.entry(e).ok());
        match entry.map(|entry| (entry.state, entry)) {
            Some((State::Live, entry)) if entry.order == order => Standing::Tracked,
            Some((State::Learning, _)) => Standing::Learning,
            Some((State::Lost, entry)) => match entry.loss() {
                (_, Some(reason)) => Standing::Lost(reason),
                _ => Standing::Unknown,
            },
            _ if order > self.state.geometry.max_order => Standing::Lost(LostReason::Order),
            _ => Standing::Unknown,
        }
    }

    /// Notes that a mapped folio cannot be tracked, whether or not anything is known about it.
    pub fn bar(&mut self, pfn: u64, (order, kind): (u8, Kind), reason: LostReason, env: &impl Env) {
        if !fits(pfn) {
            return;
        }
        match self.find(pfn) {
            // The reason that was noted may be one of before learning began.
            Some(e) if self.entry(e).is_ok_and(|entry| entry.state == State::Lost) => {
                return self.note_loss(pfn, reason);
            }
            Some(_) => return self.lose(pfn, reason, env),
            None => {}
        }
        if self
            .new_entry((pfn, order, kind), State::Lost, env)
            .is_some()
        {
            self.note_loss(pfn, reason);
            self.state.counters.add(Counter::of_loss(reason));
        } else {
            self.state.lacks = true;
        }
    }

    /// Returns whether a lost folio may be learned again: it was lost before learning began, or for
    /// a reason that does not last.
    pub(crate) fn may_relearn(&self, entry: &FolioEntry) -> bool {
        let (phase, reason) = entry.loss();
        self.state.learning && (phase != self.state.phase || reason == Some(LostReason::Window))
    }

    /// Notes that a folio, if it is learning, may have been mapped where the look through page tables has been.
    pub(crate) fn note_relearned(&mut self, pfn: u64) {
        if let Some(entry) = self.find(pfn).and_then(|e| self.entry_mut(e).ok()) {
            if entry.state == State::Learning {
                entry.change_flags(RELEARNED, 0);
            }
        }
    }

    /// Returns whether a folio is learning that was lost in the same phase: it may be given up only when learning
    /// has stopped, or it is learned again.
    pub fn was_relearned(&self, pfn: u64) -> bool {
        let entry = self.find(pfn).and_then(|e| self.entry(e).ok());
        entry.is_some_and(|entry| entry.state == State::Learning && entry.has(RELEARNED))
    }

    /// Gives up a learning folio of which not all mappings were found; returns the reason: an MM that was not
    /// seen, or what it was lost for before, if it was learned again since.
    pub fn give_up_learning(&mut self, pfn: u64, env: &impl Env) -> LostReason {
        let reason = if self.was_relearned(pfn) {
            LostReason::Window
        } else {
            LostReason::UnseenMm
        };
        self.lose(pfn, reason, env);
        reason
    }

    /// Takes a call on a folio without entry that is mapped already, or leaves it.
    pub(crate) fn learn_absent(&mut self, c: &Call, env: &impl Env) -> Outcome {
        if !self.state.learning || !matches!(c.op, Op::Add | Op::Dup | Op::Found) {
            self.state.left_out |= matches!(c.op, Op::Add | Op::Touch);
            return self.untracked(c, env);
        }
        if self.too_large(c) {
            self.state.counters.add(Counter::LostOrder);
            self.state.lacks = true;
            return Outcome::Lost(LostReason::Order);
        }
        if !self.make_room(env) {
            return self.refuse(c, env);
        }
        let place = (c.pfn, c.order, c.kind);
        let Some(e) = self.new_entry(place, State::Learning, env) else {
            return self.refuse(c, env);
        };
        self.state.counters.add(Counter::LearningStarted);
        self.learn(e, c, env)
            .unwrap_or_else(|fail| self.give_up(e, fail, env))
    }

    /// Takes a call on a folio that is learning; before it, all of its mappings may be known.
    pub(crate) fn call_learning(
        &mut self,
        e: u32,
        c: &Call,
        env: &impl Env,
    ) -> Result<Outcome, Fail> {
        let entry = self.entry(e)?;
        if !entry.is_mapped() {
            // Kept for a copy that may hold mappings of it; by now it may be another folio.
            let same = entry.order == c.order && entry.kind == c.kind;
            let unmapped = matches!(c.op, Op::Add | Op::Touch) && c.kernel_unmapped;
            if !same || unmapped || !self.is_pending(e, env)? {
                self.drop_learning(e)?;
                return Ok(self.call_absent(c, env));
            }
        }
        if self.entry(e)?.order != c.order {
            return Err(Fail::Inconsistent(Inconsistency::OrderChanged));
        }
        if self.try_adopt(e, false, WINDOW_SCAN, env)? == Adoption::Adopted {
            return self.call_present(e, c, env);
        }
        match self.find(c.pfn) {
            Some(e) => self.learn(e, c, env),
            None => Ok(self.call_absent(c, env)),
        }
    }

    /// Takes what a call says about mappings of a learning folio.
    fn learn(&mut self, e: u32, c: &Call, env: &impl Env) -> Result<Outcome, Fail> {
        let part = Part {
            level: c.level,
            first: c.first,
            nr: c.nr,
        };
        match c.op {
            Op::Touch | Op::Skip => {}
            Op::Remove => self.unlearn(e, c, part)?,
            Op::Add | Op::Dup if self.knows_any(e, (c.mm, c.base), part)? => {
                return Err(Fail::Inconsistent(Inconsistency::AddMapped));
            }
            Op::Add | Op::Dup | Op::Found => {
                let whose = (c.mm_id, number_of(c.table));
                self.learn_part(e, (c.mm, c.base), whose, part, (c.vma_start, c.vma_end))?;
            }
        }
        let entry = self.entry_mut(e)?;
        entry.seq = entry.seq.wrapping_add(1);
        if c.op != Op::Found {
            self.refresh(e, c.pending, env)?;
        }
        if !self.entry(e)?.is_mapped() && !self.is_pending(e, env)? {
            self.drop_learning(e)?;
        }
        Ok(Outcome::Applied)
    }

    /// Returns whether any mapping of a part is known at a place.
    fn knows_any(&self, e: u32, (mm, base): (u64, u64), part: Part) -> Result<bool, Fail> {
        let order = self.entry(e)?.order;
        match self.lookup(e, mm, base)?.here {
            Some(r) => self.has_any(r, order, part),
            None => Ok(false),
        }
    }

    /// Takes in those mappings of a part that are not known yet.
    fn learn_part(
        &mut self,
        e: u32,
        (mm, base): (u64, u64),
        (mm_id, table): (u32, u32),
        part: Part,
        vma: (u64, u64),
    ) -> Result<(), Fail> {
        let order = self.entry(e)?.order;
        let place = (base, order, self.state.geometry.page_shift);
        let vma = super::apply::pages_in_vma(place, part, vma);
        self.remember(e)?;
        let lookup = self.lookup(e, mm, base)?;
        let r = match lookup.here {
            Some(r) => r,
            None => self.new_record(e, mm, base, lookup.elsewhere)?,
        };
        self.note_owner(r, mm_id, table)?;
        if part.level == Level::Entire {
            if !self.record(r)?.entire() {
                self.edit(e, r, part, Step::Up, vma)?;
            }
            self.try_shorten(r)?;
            return self.simplify(e);
        }
        let mut at = part.first;
        loop {
            let pages = self.pages_of(self.record(r)?, order)?;
            let first = pages.next_gap(at, part.end());
            if first >= part.end() {
                self.try_shorten(r)?;
                return self.simplify(e);
            }
            let end = pages.next(first, part.end()).unwrap_or(part.end());
            let piece = Part {
                first,
                nr: end.wrapping_sub(first),
                ..part
            };
            self.edit(e, r, piece, Step::Up, vma)?;
            at = end;
        }
    }

    /// Takes out those mappings of a part that are known at a place; returns whether any was.
    fn unlearn_part(&mut self, e: u32, (mm, base): (u64, u64), part: Part) -> Result<bool, Fail> {
        let order = self.entry(e)?.order;
        let mut any = false;
        let mut at = part.first;
        self.remember(e)?;
        // An empty record goes.
        while let Some(r) = self.lookup(e, mm, base)?.here {
            let record = self.record(r)?;
            let piece = match part.level {
                Level::Entire if record.entire() => part,
                Level::Entire => break,
                Level::Pte => {
                    let pages = self.pages_of(record, order)?;
                    let Some(first) = pages.next(at, part.end()) else {
                        break;
                    };
                    let end = pages.next_gap(first, part.end());
                    at = end;
                    Part {
                        first,
                        nr: end.wrapping_sub(first),
                        ..part
                    }
                }
            };
            self.edit(e, r, piece, Step::Down, None)?;
            any = true;
        }
        self.simplify(e)?;
        Ok(any)
    }

    /// Takes out what a call removes, as far as it is known.
    fn unlearn(&mut self, e: u32, c: &Call, part: Part) -> Result<(), Fail> {
        let mut any = false;
        if let Some(alt_base) = c.alt_base.filter(|base| *base != c.base) {
            // Where a mapping is known at both ends of an open move, the one here is meant.
            if part.level == Level::Entire {
                let here = self.knows_any(e, (c.mm, c.base), part)?;
                any |= !here && self.unlearn_part(e, (c.mm, alt_base), part)?;
            } else {
                for first in part.first..part.end() {
                    let page = Part {
                        first,
                        nr: 1,
                        ..part
                    };
                    let here = self.knows_any(e, (c.mm, c.base), page)?;
                    any |= !here && self.unlearn_part(e, (c.mm, alt_base), page)?;
                }
            }
        }
        any |= self.unlearn_part(e, (c.mm, c.base), part)?;
        if any {
            return Ok(());
        }
        if let Some(r) = self.locate_elsewhere(e, c, part)? {
            // Without an address it is where the call says.
            if c.base != NO_BASE {
                self.state.counters.add(Counter::RemoveElsewhere);
            }
            self.remember(e)?;
            self.edit(e, r, part, Step::Down, None)?;
            return self.simplify(e);
        }
        if c.base == NO_BASE && self.knows_some(e, c, part) {
            return Err(Fail::NotLinear);
        }
        self.state.counters.add(Counter::LearningUnknown);
        Ok(())
    }

    /// Returns whether any mapping of a part is known, wherever the MM has it.
    fn knows_some(&self, e: u32, c: &Call, part: Part) -> bool {
        let knows = |record: &Record| match part.level {
            Level::Entire => record.entire(),
            Level::Pte => self
                .pages_of(record, c.order)
                .is_ok_and(|pages| pages.next(part.first, part.end()).is_some()),
        };
        self.find_of_mm(e, c.mm, knows).is_some()
    }

    /// Takes what is known of a part along to where it has moved. To be followed by [`Op::Found`]
    /// there, for what was not known.
    pub(crate) fn learn_move(&mut self, e: u32, m: &Move) -> Result<(), Fail> {
        let part = Part {
            level: m.level,
            first: m.first,
            nr: m.nr,
        };
        let fits = m.first.checked_add(m.nr);
        if self.entry(e)?.order != m.order || fits.is_none_or(|end| end > pages_of_order(m.order)) {
            return Err(Fail::Inconsistent(Inconsistency::OrderChanged));
        }
        let [old, new] = self.places_of(e, m);
        let Some(from) = self.lookup(e, old.0, old.1)?.here else {
            return Ok(());
        };
        if old == new || !self.has_any(from, m.order, part)? {
            return Ok(());
        }
        let [_, table] = m.tables;
        let mm_id = self.detail(self.record(from)?)?.mm_id;
        let whose = (mm_id, number_of(table));
        let vma = (m.vma_start, m.vma_end);
        self.learn_part(e, new, whose, part, vma)?;
        self.unlearn_part(e, old, part)?;
        let entry = self.entry_mut(e)?;
        entry.seq = entry.seq.wrapping_add(1);
        Ok(())
    }

    /// Tracks a folio from now on if all of its mappings are known; `stopped` says that no call is
    /// running anywhere.
    pub fn adopt(&mut self, pfn: u64, stopped: bool, env: &impl Env) -> Adoption {
        let learning = |e: &u32| {
            self.entry(*e)
                .is_ok_and(|entry| entry.state == State::Learning)
        };
        let Some(e) = self.find(pfn).filter(learning) else {
            return Adoption::Gone;
        };
        self.try_adopt(e, stopped, u32::MAX, env)
            .unwrap_or_else(|fail| {
                self.give_up(e, fail, env);
                Adoption::Gone
            })
    }

    /// Does what [`Shard::adopt`] says.
    ///
    /// A copy that is open need not be waited for where the numbers are equal: it makes mappings that
    /// the kernel counts, and so the known ones are fewer until it is over. To find out whether one concerns the
    /// folio takes as long as it has records; nobody wants to know while all others are stopped.
    fn try_adopt(
        &mut self,
        e: u32,
        stopped: bool,
        limit: u32,
        env: &impl Env,
    ) -> Result<Adoption, Fail> {
        let entry = self.entry(e)?;
        if !entry.is_mapped() {
            if self.is_pending(e, env)? {
                return Ok(Adoption::Copied);
            }
            self.drop_learning(e)?;
            return Ok(Adoption::Gone);
        }
        if !(stopped || env.gp_elapsed(entry.cookie)) {
            return Ok(Adoption::Busy);
        }
        // A copy that is over before the counters are read may have made what is not known yet.
        let alone = stopped || self.unconcerned(e, env, limit)?;
        let expected = self.expected(entry)?;
        let (order, kind) = (entry.order, entry.kind);
        let kernel = env.kernel_of(entry.pfn(), order);
        if !kernel.is_some_and(|k| k.order == order && expected.holds(&k)) {
            return Ok(if alone && (stopped || self.unconcerned(e, env, limit)?) {
                Adoption::Differs
            } else {
                Adoption::Copied
            });
        }
        let entry = self.entry_mut(e)?;
        entry.state = State::Live;
        entry.change_flags(ADOPTED | DIRTY | KERNEL_DIRTY, u8::MAX);
        self.state.counters.sub(Counter::Learning);
        self.state.counters.add(Counter::Tracked);
        self.state.counters.add(Counter::Adopted);
        up(&mut self.state.figures.folios, kind);
        Ok(Adoption::Adopted)
    }

    /// Frees the entry of a learning folio of which nothing is known.
    fn drop_learning(&mut self, e: u32) -> Result<(), Fail> {
        self.state.counters.add(Counter::LearningDropped);
        self.state.counters.sub(Counter::Learning);
        if self.entry(e)?.is_mapped() {
            return Err(super::CORRUPT);
        }
        self.drop_planes(e)?;
        self.drop_history(e)?;
        self.unhash_entry(e)?;
        self.free_entry(e)
    }
}
