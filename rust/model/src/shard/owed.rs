// SPDX-License-Identifier: GPL-2.0

//! Removes that are told late.
//!
//! A zap of page cache tells of its removes after it has flushed the TLB (delayed rmap), in the critical
//! section of the page table. If that table is empty then, the zap takes it out of the PMD before
//! (PT_RECLAIM), and a fault may already map the same pages by another table, under another lock: its
//! add comes first. So an add of page cache that is mapped there already is *owed* a remove; it
//! comes before a grace period has passed, and is left alone.
//!
//! Source: `zap_pte_range()`, `tlb_flush_rmaps()`.

use super::apply::Part;
use super::{
    Fail,
    Shard, //
};
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

/// Most runs of pages of a shard that removes are owed for.
///
/// A page table of folios of two pages, faulted in while its removes are late, takes up to 30.
const NR_OWED: usize = 32;

/// A run of pages of one folio, MM and base. No pages: unused.
#[derive(Clone, Copy, Default, Debug)]
struct Owed {
    pfn: u64,
    mm: u64,
    base: u64,
    /// State of RCU at the add.
    cookie: u64,
    first: u32,
    end: u32,
}

impl Owed {
    fn is_used(&self) -> bool {
        self.first < self.end
    }

    fn is_of(&self, c: &Call) -> bool {
        self.is_used() && (self.pfn, self.mm, self.base) == (c.pfn, c.mm, c.base)
    }
}

/// All that is owed in a shard.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Debts {
    list: [Owed; NR_OWED],
    /// Number of those in use.
    nr: usize,
}

impl Debts {
    /// Notes a run that is owed from now on; returns false if there is no room.
    fn add(&mut self, owed: Owed) -> bool {
        let same = |a: &Owed| (a.pfn, a.mm, a.base) == (owed.pfn, owed.mm, owed.base);
        let beside =
            |a: &&mut Owed| a.is_used() && same(a) && (a.end == owed.first || a.first == owed.end);
        if let Some(beside) = self.list.iter_mut().find(beside) {
            beside.first = beside.first.min(owed.first);
            beside.end = beside.end.max(owed.end);
            beside.cookie = owed.cookie;
            return true;
        }
        self.put(owed)
    }

    /// Notes a run as one of its own; returns false if there is no room.
    fn put(&mut self, owed: Owed) -> bool {
        let Some(free) = self.list.iter_mut().find(|owed| !owed.is_used()) else {
            return false;
        };
        *free = owed;
        self.nr = self.nr.saturating_add(1);
        true
    }

    /// Returns where the run of pages from `at` on ends, all or none of which are owed to the call, and
    /// whether they are.
    fn run(&self, c: &Call, at: u32, end: u32) -> (u32, bool) {
        let mut stop = end;
        for owed in self.list.iter().filter(|owed| owed.is_of(c)) {
            if owed.first <= at && at < owed.end {
                return (owed.end.min(end), true);
            }
            if at < owed.first {
                stop = stop.min(owed.first);
            }
        }
        (stop, false)
    }

    /// Takes pages off that were removed now, all of one run.
    fn pay(&mut self, c: &Call, first: u32, end: u32) -> bool {
        let within = |owed: &&mut Owed| owed.is_of(c) && owed.first <= first && end <= owed.end;
        let Some(owed) = self.list.iter_mut().find(within) else {
            return false;
        };
        let behind = Owed {
            first: end,
            ..*owed
        };
        owed.end = first;
        if !owed.is_used() {
            self.nr = self.nr.saturating_sub(1);
        }
        !behind.is_used() || self.put(behind)
    }

    /// Takes out a run that has been owed for a grace period.
    fn expired(&mut self, env: &impl Env) -> Option<u64> {
        let late = |owed: &&mut Owed| owed.is_used() && env.gp_elapsed(owed.cookie);
        let owed = self.list.iter_mut().find(late)?;
        self.nr = self.nr.saturating_sub(1);
        Some(core::mem::take(owed).pfn)
    }
}

impl Shard<'_> {
    /// Returns whether an add may come before the removes of the mappings that were there.
    pub(crate) fn may_be_early(c: &Call) -> bool {
        matches!(c.kind, Kind::File | Kind::Shmem | Kind::Driver)
            && c.op == Op::Add
            && c.level == Level::Pte
    }

    /// Returns whether a remove may be owed.
    #[inline]
    pub(crate) fn may_be_owed(&self, c: &Call) -> bool {
        self.state.debts.nr != 0 && c.op == Op::Remove && c.level == Level::Pte
    }

    /// Loses the folios of which a remove is owed for too long: the add was of a mapping that is there.
    pub fn call_in(&mut self, env: &impl Env) {
        while let Some(pfn) = self.state.debts.expired(env) {
            self.lose(pfn, LostReason::Inconsistent, env);
            self.state
                .counters
                .add(Counter::of_inconsistency(Inconsistency::AddMapped));
        }
    }

    /// Takes a part of a call as a call of its own.
    fn call_part(&mut self, c: &Call, first: u32, end: u32, env: &impl Env) -> Result<(), Fail> {
        let part = Call {
            first,
            nr: end.wrapping_sub(first),
            ..*c
        };
        match self.find(c.pfn) {
            Some(e) => self.call_known(e, &part, env).map(|_| ()),
            None => {
                self.call_absent(&part, env);
                Ok(())
            }
        }
    }

    /// Takes an add of page cache some of which is mapped there already.
    ///
    /// # Errors
    ///
    /// [`Fail::NoMemory`]: there is no room to note what is owed.
    pub(crate) fn owe(&mut self, e: u32, c: &Call, env: &impl Env) -> Result<Outcome, Fail> {
        self.call_in(env);
        let none = Fail::Inconsistent(Inconsistency::AddMapped);
        let end = c.first.wrapping_add(c.nr);
        let mut at = c.first;
        while at < end {
            let r = self.lookup(e, c.mm, c.base)?.here.ok_or(none)?;
            let pages = self.pages_of(self.record(r)?, c.order)?;
            let known = pages.any(at, at.saturating_add(1));
            let stop = if known {
                pages.next_gap(at, end)
            } else {
                pages.next(at, end).unwrap_or(end)
            };
            if known {
                let owed = Owed {
                    pfn: c.pfn,
                    mm: c.mm,
                    base: c.base,
                    cookie: env.gp_snapshot(),
                    first: at,
                    end: stop,
                };
                if !self.state.debts.add(owed) {
                    return Err(Fail::NoMemory);
                }
                self.state.counters.add(Counter::AddEarly);
            } else {
                self.call_part(c, at, stop, env)?;
            }
            at = stop;
        }
        self.exchanged(e, c, env)?;
        Ok(Outcome::Applied)
    }

    /// Returns the call with the base that it is about, if it does not tell and that is known: the add said it.
    #[cold]
    #[inline(never)]
    pub(crate) fn debtor(&self, c: &Call) -> Result<Call, Fail> {
        let part = Part {
            level: c.level,
            first: c.first,
            nr: c.nr,
        };
        let mut debtor = *c;
        if let Some(e) = self.find(c.pfn).filter(|_| c.base == NO_BASE) {
            if let Some(r) = self.locate_elsewhere(e, c, part)? {
                debtor.base = self.record(r)?.base();
            }
        }
        Ok(debtor)
    }

    /// Takes a remove some of which may have been owed.
    ///
    /// # Errors
    ///
    /// [`Fail::NoMemory`]: there is no room for a debt that falls apart.
    pub(crate) fn pay(&mut self, c: &Call, env: &impl Env) -> Result<Outcome, Fail> {
        self.call_in(env);
        let end = c.first.wrapping_add(c.nr);
        let debtor = self.debtor(c)?;
        let mut at = c.first;
        while at < end {
            let (stop, owed) = self.state.debts.run(&debtor, at, end);
            if !owed {
                self.call_part(&debtor, at, stop, env)?;
            } else if !self.state.debts.pay(&debtor, at, stop) {
                return Err(Fail::NoMemory);
            }
            at = stop;
        }
        if let Some(e) = self.find(c.pfn) {
            self.exchanged(e, c, env)?;
        }
        Ok(Outcome::Applied)
    }

    /// Notes a call that left all counts as they are: the mappings are other ones all the same.
    fn exchanged(&mut self, e: u32, c: &Call, env: &impl Env) -> Result<(), Fail> {
        let entry = self.entry_mut(e)?;
        entry.seq = entry.seq.wrapping_add(1);
        self.refresh(e, c.pending, env)
    }
}
