// SPDX-License-Identifier: GPL-2.0

//! The life of an entry: when tracking starts, drains, starts again, and is lost.
//!
//! A folio is tracked from the first add at whose entry the kernel says that it is unmapped. When
//! its last mapping goes it *drains*: until a grace period has passed, calls may be in flight whose
//! effect on the kernel's counter is still to come, so that the counter says nothing yet. A lost
//! folio leaves a marker for the same reason.

use super::apply::Part;
use super::{
    entry,
    position_of,
    Fail,
    FolioEntry,
    Shard,
    State,
    CORRUPT, //
};
use crate::bits::{
    index,
    narrow,
    pages_of_order, //
};
use crate::figures::up;
use crate::{
    Call,
    Counter,
    Env,
    Inconsistency,
    Kind,
    Level,
    LostReason,
    Op,
    Outcome,
    NO_BASE, //
};

/// How many drained entries a start tries to take back, so that they do not pile up.
const RECLAIM_ALWAYS: u32 = 2;

/// How many more it tries before it gives up.
const RECLAIM_AT_LAST: u32 = 32;

/// Returns whether a call can be at all.
fn is_well_formed(c: &Call) -> bool {
    let nr_pages = pages_of_order(c.order);
    let fits = c.nr > 0 && c.first.checked_add(c.nr).is_some_and(|end| end <= nr_pages);
    c.order > 0 && fits && entry::fits(c.pfn) && (c.level == Level::Pte || c.nr == nr_pages)
}

/// Returns whether the kernel counts no mapping of the folio of a call by now. What the call has read may be of before
/// the end of the last remove: if that was in flight then, it was over when the grace period had passed.
fn is_unmapped(c: &Call, env: &impl Env) -> bool {
    env.kernel_of(c.pfn, c.order)
        .is_some_and(|kernel| kernel.large == 0)
}

impl Shard<'_> {
    /// Takes one rmap call, or one find of the fork walk.
    ///
    /// The state that the run before has left behind is evaluated first, unless the call continues
    /// that run. Constant time for whole-folio calls; for a part of a large folio some operations on
    /// the words of its bitmaps.
    pub fn call(&mut self, c: &Call, env: &impl Env) -> Outcome {
        self.state.counters.add(Counter::of_call(c.op, c.level));
        let found = self.find(c.pfn);
        if let Some(e) = found {
            match self.call_plain(e, c, env) {
                Ok(true) => return Outcome::Applied,
                Ok(false) => {}
                Err(fail) => return self.give_up(e, fail, env),
            }
        }
        self.call_other(found, c, env)
    }

    /// Takes a call that [`Self::call_plain`] does not.
    fn call_other(&mut self, found: Option<u32>, c: &Call, env: &impl Env) -> Outcome {
        let at_table = c.table.map(|_| self.call_at_table(found, c));
        let c = at_table.as_ref().unwrap_or(c);
        match found {
            None => self.call_absent(c, env),
            Some(e) => self
                .call_present(e, c, env)
                .unwrap_or_else(|fail| self.give_up(e, fail, env)),
        }
    }

    /// Returns whether a call is about parts of a folio that is larger than the bitmaps.
    ///
    /// Entire mappings need none: folios of any size are tracked as long as nothing maps a part.
    pub(crate) fn too_large(&self, c: &Call) -> bool {
        c.order > self.state.geometry.max_order && c.level == Level::Pte
    }

    /// Takes a call on a folio that has no entry.
    pub(crate) fn call_absent(&mut self, c: &Call, env: &impl Env) -> Outcome {
        if !is_well_formed(c) {
            return self.inconsistent(Inconsistency::Malformed);
        }
        if !matches!(c.op, Op::Add | Op::Touch) || !c.kernel_unmapped {
            return self.learn_absent(c, env);
        }
        if self.too_large(c) {
            self.state.counters.add(Counter::LostOrder);
            self.state.lacks = true;
            return Outcome::Lost(LostReason::Order);
        }
        if self.state.recent.may_be_in_flight(c.pfn, env) {
            self.state.counters.add(Counter::UntrackedInFlight);
            self.state.lacks = true;
            return self.learn_absent(c, env);
        }
        self.start(c, env)
    }

    /// Takes a call on a folio that has an entry; of page cache, calls may come in the wrong order.
    pub(crate) fn call_present(
        &mut self,
        e: u32,
        c: &Call,
        env: &impl Env,
    ) -> Result<Outcome, Fail> {
        if self.may_be_owed(c) && is_well_formed(c) {
            return self.pay(c, env);
        }
        match self.call_known(e, c, env) {
            Err(Fail::Inconsistent(Inconsistency::AddMapped)) if Self::may_be_early(c) => {
                self.owe(e, c, env)
            }
            result => result,
        }
    }

    /// Takes a call on a folio that has an entry.
    pub(crate) fn call_known(&mut self, e: u32, c: &Call, env: &impl Env) -> Result<Outcome, Fail> {
        let state = self.entry(e)?.state;
        if state == State::Lost {
            return self.call_lost(e, c, env);
        }
        if !is_well_formed(c) {
            return Err(Fail::Inconsistent(Inconsistency::Malformed));
        }
        if self.too_large(c) && state != State::Draining {
            return Err(Fail::Order);
        }
        if state == State::Learning {
            return self.call_learning(e, c, env);
        }
        if state == State::Draining {
            return self.call_draining(e, c, env);
        }
        if self.entry(e)?.order != c.order {
            return Err(Fail::Inconsistent(Inconsistency::OrderChanged));
        }
        self.take(e, c, env)?;
        Ok(Outcome::Applied)
    }

    /// Takes a call on a tracked folio of that order.
    fn take(&mut self, e: u32, c: &Call, env: &impl Env) -> Result<(), Fail> {
        // Where it was mapped, and in which page table, is what the add said.
        let debtor;
        let mut c = c;
        if c.base == NO_BASE {
            debtor = self.debtor(c)?;
            c = &debtor;
        }
        match c.op {
            _ if self.too_large(c) => Err(Fail::Order),
            Op::Touch | Op::Skip => self.refresh(e, c.pending, env),
            Op::Found => self.check_found(e, c),
            Op::Add | Op::Dup | Op::Remove => self.apply(e, c, env),
        }
    }

    /// Checks that mappings of a tracked folio that are in a page table are known.
    fn check_found(&self, e: u32, c: &Call) -> Result<(), Fail> {
        let part = Part {
            level: c.level,
            first: c.first,
            nr: c.nr,
        };
        // A record in the table may be that of another MM.
        let known = match self.lookup(e, c.mm, c.base)?.here {
            Some(r) => self.has_all(r, c.order, part)?,
            None => false,
        };
        if known {
            Ok(())
        } else {
            Err(Fail::Inconsistent(Inconsistency::FoundUnknown))
        }
    }

    /// Takes a call on a folio that was lost.
    ///
    /// An add that sees it unmapped, a grace period after the last call, starts afresh; and it may be
    /// learned again.
    fn call_lost(&mut self, e: u32, c: &Call, env: &impl Env) -> Result<Outcome, Fail> {
        if self.may_relearn(self.entry(e)?) {
            // An add that was known before the loss may still be in flight: what the kernel's counter
            // says now is no start.
            let quiet = env.gp_elapsed(self.entry(e)?.cookie);
            let (phase, _) = self.entry(e)?.loss();
            self.forget(e, env)?;
            // What is left of it may be where the look through page tables has been.
            self.state.lacks = true;
            let outcome = if quiet {
                self.call_absent(c, env)
            } else {
                self.learn_absent(c, env)
            };
            if phase == self.state.phase {
                self.note_relearned(c.pfn);
            }
            return Ok(outcome);
        }
        let starts = matches!(c.op, Op::Add | Op::Touch) && c.kernel_unmapped;
        if starts && env.gp_elapsed(self.entry(e)?.cookie) {
            self.forget(e, env)?;
            return Ok(self.call_absent(c, env));
        }
        self.refresh(e, c.pending, env)?;
        self.state.counters.add(Counter::UntrackedAfterLoss);
        Ok(self.untracked(c, env))
    }

    /// Takes a call on a folio without mappings.
    fn call_draining(&mut self, e: u32, c: &Call, env: &impl Env) -> Result<Outcome, Fail> {
        let FolioEntry {
            order,
            kind,
            cookie,
            ..
        } = *self.entry(e)?;
        let same_order = order == c.order;
        match c.op {
            Op::Skip => {
                self.refresh(e, c.pending, env)?;
                return Ok(Outcome::Applied);
            }
            Op::Found => return self.missed(e, c, env),
            Op::Remove | Op::Dup if !same_order => return self.missed(e, c, env),
            Op::Remove | Op::Dup => {}
            Op::Add | Op::Touch if c.kernel_unmapped => {
                if !same_order || kind != c.kind || env.gp_elapsed(cookie) {
                    return self.restart(e, c, env);
                }
            }
            Op::Add | Op::Touch => {
                let told = env.gp_elapsed(cookie) && !env.windows_lack();
                let settled = told && !self.is_pending(e, env)?;
                if same_order && settled && is_unmapped(c, env) {
                    return self.restart(e, c, env);
                }
                if !same_order || settled {
                    return self.missed(e, c, env);
                }
            }
        }
        self.take(e, c, env)?;
        Ok(Outcome::Applied)
    }

    /// Gives up a drained folio that is mapped after all: calls were missed.
    fn missed(&mut self, e: u32, c: &Call, env: &impl Env) -> Result<Outcome, Fail> {
        self.state.counters.add(Counter::Missed);
        self.state.lacks = true;
        self.forget(e, env)?;
        Ok(self.learn_absent(c, env))
    }

    /// Starts tracking a folio anew on the entry of a drained one: its history is another.
    fn restart(&mut self, e: u32, c: &Call, env: &impl Env) -> Result<Outcome, Fail> {
        self.evaluate(e, None, env)?;
        self.close_wrong(e, env)?;
        if self.too_large(c) {
            self.forget(e, env)?;
            return Ok(self.call_absent(c, env));
        }
        let entry = self.entry_mut(e)?;
        entry.order = c.order;
        entry.kind = c.kind;
        entry.change_flags(0, u8::MAX);
        entry.run = 0;
        self.drop_history(e)?;
        self.state.counters.add(Counter::Restarted);
        up(&mut self.state.figures.folios, c.kind);
        self.take(e, c, env)?;
        Ok(Outcome::Started)
    }

    /// Starts tracking a folio that the kernel says is unmapped.
    fn start(&mut self, c: &Call, env: &impl Env) -> Outcome {
        if !self.make_room(env) {
            return self.refuse(c, env);
        }
        let touch = c.op == Op::Touch;
        let state = if touch { State::Draining } else { State::Live };
        let Some(e) = self.new_entry((c.pfn, c.order, c.kind), state, env) else {
            return self.refuse(c, env);
        };
        self.state.counters.add(Counter::Started);
        up(&mut self.state.figures.folios, c.kind);
        match self.take(e, c, env) {
            Ok(()) => Outcome::Started,
            Err(fail) => self.give_up(e, fail, env),
        }
    }

    /// Takes back what is not needed any more; returns whether another folio can be tracked.
    ///
    /// Markers of lost folios tell why a folio is not tracked: they stay as long as there is room.
    pub(crate) fn make_room(&mut self, env: &impl Env) -> bool {
        self.reclaim(State::Draining, RECLAIM_ALWAYS, env);
        for state in [State::Draining, State::Lost] {
            if !self.has_room() {
                self.reclaim(state, RECLAIM_AT_LAST, env);
            }
        }
        let barred = self
            .state
            .no_start
            .is_some_and(|cookie| !env.gp_elapsed(cookie));
        if barred || !self.has_room() {
            return false;
        }
        self.state.no_start = None;
        true
    }

    /// Returns whether another folio can be tracked, and markers still find an entry.
    fn has_room(&self) -> bool {
        let all = narrow(self.entries.len());
        let reserve = (all >> 6).max(8).min(all >> 1);
        let used = self.state.counters.get(Counter::Entries);
        used < u64::from(all.saturating_sub(reserve))
    }

    /// Takes an entry for a folio.
    pub(crate) fn new_entry(
        &mut self,
        (pfn, order, kind): (u64, u8, Kind),
        state: State,
        env: &impl Env,
    ) -> Option<u32> {
        let e = self.alloc_entry()?;
        let seq = self.state.next_life();
        let entry = self.entry_mut(e).ok()?;
        entry.seq = seq;
        entry.set_pfn(pfn);
        entry.order = order;
        entry.kind = kind;
        entry.state = state;
        entry.cookie = env.gp_snapshot();
        self.hash_entry(e).ok()?;
        match state {
            State::Live => self.state.counters.add(Counter::Tracked),
            State::Learning => self.state.counters.add(Counter::Learning),
            _ => self.push_drained(e).ok()?,
        }
        Some(e)
    }

    /// Refuses to track a folio: for want of an entry, or because no marker could be left for
    /// another one.
    ///
    /// Leaves a marker; if there is no entry for that either, no folio of the shard starts for a
    /// grace period.
    pub(crate) fn refuse(&mut self, c: &Call, env: &impl Env) -> Outcome {
        let place = (c.pfn, c.order, c.kind);
        if self.new_entry(place, State::Lost, env).is_some() {
            self.note_loss(c.pfn, LostReason::NoMemory);
        } else {
            self.state.no_start = Some(env.gp_snapshot());
            self.state.lacks = true;
        }
        self.state.counters.add(Counter::LostNoMemory);
        Outcome::Lost(LostReason::NoMemory)
    }

    /// Notes why the folio of a marker was lost.
    pub(crate) fn note_loss(&mut self, pfn: u64, reason: LostReason) {
        let phase = self.state.phase;
        if let Some(e) = self.find(pfn) {
            if let Ok(entry) = self.entry_mut(e) {
                entry.set_loss(phase, reason);
            }
        }
    }

    /// Takes back entries that have been in this state, drained or lost, for a grace period, at most
    /// `max`.
    fn reclaim(&mut self, state: State, max: u32, env: &impl Env) {
        for _ in 0..max {
            let ends = if state == State::Lost {
                self.state.lost
            } else {
                self.state.drained
            };
            let Some(e) = position_of(ends.head) else {
                return;
            };
            match self.reclaim_one(e, env) {
                Ok(true) => self.state.lacks |= state == State::Lost,
                Ok(false) => return,
                Err(fail) => {
                    self.give_up(e, fail, env);
                    return;
                }
            }
        }
    }

    /// Takes back the longest waiting entry, or sends it to the back if a copy is still open that
    /// may hold mappings of it; returns false if it has not waited for a grace period.
    fn reclaim_one(&mut self, e: u32, env: &impl Env) -> Result<bool, Fail> {
        if !env.gp_elapsed(self.entry(e)?.cookie) {
            return Ok(false);
        }
        if self.is_pending(e, env)? {
            self.pull_drained(e)?;
            self.push_drained(e)?;
        } else {
            self.forget(e, env)?;
            self.state.counters.add(Counter::Reclaimed);
        }
        Ok(true)
    }

    /// Frees the entry of a folio that is drained or lost.
    fn forget(&mut self, e: u32, env: &impl Env) -> Result<(), Fail> {
        self.evaluate(e, None, env)?;
        self.close_wrong(e, env)?;
        self.drop_history(e)?;
        self.pull_drained(e)?;
        self.unhash_entry(e)?;
        self.free_entry(e)
    }

    /// Notes that a call on the folio is in flight, and the copy that it may be about.
    pub(crate) fn refresh(&mut self, e: u32, pending: u64, env: &impl Env) -> Result<(), Fail> {
        let entry = self.entry_mut(e)?;
        entry.cookie = env.gp_snapshot();
        entry.pending = entry.pending.max(pending);
        if matches!(entry.state, State::Draining | State::Lost) {
            // The lists are in the order of their cookies.
            self.pull_drained(e)?;
            self.push_drained(e)?;
        }
        Ok(())
    }

    /// Counts a call on a folio that is not tracked.
    pub(crate) fn untracked(&mut self, c: &Call, env: &impl Env) -> Outcome {
        self.state.counters.add(Counter::of_untracked(c.op));
        if matches!(c.op, Op::Add | Op::Touch) {
            self.state.recent.remember(c.pfn, env);
        }
        Outcome::Untracked
    }

    /// Counts a contradiction.
    fn inconsistent(&mut self, kind: Inconsistency) -> Outcome {
        self.state.counters.add(Counter::of_inconsistency(kind));
        Outcome::Inconsistent(kind)
    }

    /// Gives up a folio because an operation on it failed.
    pub(crate) fn give_up(&mut self, e: u32, fail: Fail, env: &impl Env) -> Outcome {
        match fail {
            Fail::NoMemory => {
                self.lose_entry(e, LostReason::NoMemory, env);
                Outcome::Lost(LostReason::NoMemory)
            }
            Fail::Order => {
                self.lose_entry(e, LostReason::Order, env);
                Outcome::Lost(LostReason::Order)
            }
            Fail::NotLinear => {
                self.lose_entry(e, LostReason::NotLinear, env);
                Outcome::Lost(LostReason::NotLinear)
            }
            // A copy or move that found no room for its window may have made it, or taken it along.
            Fail::Inconsistent(Inconsistency::RemoveNotMapped) if env.windows_lack() => {
                self.lose_entry(e, LostReason::Window, env);
                Outcome::Lost(LostReason::Window)
            }
            Fail::Inconsistent(kind) => {
                self.lose_entry(e, LostReason::Inconsistent, env);
                self.inconsistent(kind)
            }
        }
    }

    /// Forgets what is known about a folio, if it is tracked: it is lost for this reason.
    pub fn lose(&mut self, pfn: u64, reason: LostReason, env: &impl Env) {
        match self.find(pfn) {
            Some(e) if self.entry(e).is_ok_and(|entry| entry.state != State::Lost) => {
                self.lose_entry(e, reason, env);
            }
            // What it is lost by may be in flight, as any call on a marker. So may an add where the linear rule does not
            // hold be, of which nothing else is left.
            Some(e) => {
                if self.refresh(e, 0, env).is_err() {
                    self.state.counters.add(Counter::Corrupt);
                }
                if reason == LostReason::NotLinear {
                    self.note_loss(pfn, reason);
                }
            }
            None => {
                if reason == LostReason::NotLinear {
                    self.state.recent.remember(pfn, env);
                }
                self.state.lacks = true;
            }
        }
    }

    /// Returns whether a mapped folio may have no entry, not even a marker that says why: once no
    /// marker could be left, or was kept no longer, since the storage was given.
    pub fn may_lack(&self) -> bool {
        self.state.lacks
    }

    /// Returns whether another mapping of a mapped folio without entry was told since the storage was given: such
    /// a folio is not tracked until all of its mappings are gone, unless it is learned. Nothing marks it.
    pub fn has_left_out(&self) -> bool {
        self.state.left_out
    }

    /// Makes a marker of an entry.
    fn lose_entry(&mut self, e: u32, reason: LostReason, env: &impl Env) {
        self.state.counters.add(Counter::of_loss(reason));
        if self.make_marker(e, reason, env).is_err() {
            self.state.counters.add(Counter::Corrupt);
        }
    }

    /// Frees the records and page counts of an entry, and leaves a marker.
    fn make_marker(&mut self, e: u32, reason: LostReason, env: &impl Env) -> Result<(), Fail> {
        self.close_wrong(e, env)?;
        match self.entry(e)?.state {
            State::Live => self.state.counters.sub(Counter::Tracked),
            State::Learning => self.state.counters.sub(Counter::Learning),
            _ => self.pull_drained(e)?,
        }
        let order = self.entry(e)?.order;
        while let Some(r) = position_of(self.entry(e)?.first_record()) {
            self.drop_sets(r, order)?;
            self.drop_record(e, r)?;
        }
        self.drop_planes(e)?;
        self.drop_history(e)?;
        let old = *self.entries.get(index(e)).ok_or(CORRUPT)?;
        let phase = self.state.phase;
        let entry = self.entry_mut(e)?;
        *entry = FolioEntry {
            cookie: env.gp_snapshot(),
            pending: old.pending,
            seq: old.seq.wrapping_add(1),
            hash_next: old.hash_next,
            order,
            kind: old.kind,
            state: State::Lost,
            ..FolioEntry::default()
        };
        entry.set_pfn(old.pfn());
        entry.set_loss(phase, reason);
        self.push_drained(e)
    }
}
