// SPDX-License-Identifier: GPL-2.0

//! When states are evaluated, and what is counted then.

use super::entry::{
    DIRTY,
    EVER_PARTIAL,
    EVER_SHARED,
    KERNEL_DIRTY, //
};
use super::{
    Fail,
    Shard,
    State, //
};
use crate::bits::{
    index,
    narrow,
    pages_of_order, //
};
use crate::definition::{
    verdicts,
    KERNEL_PAIRS, //
};
use crate::kernel::Expected;
use crate::{
    disagree,
    Counter,
    Env,
    KernelCounts,
    PairSet, //
};

/// Most records that a call looks at to find out whether an open window involves the folio; with
/// more, it takes that for granted.
const WINDOW_SCAN: u32 = 16;

impl Shard<'_> {
    /// Returns whether the kernel's counters of a folio stand still: no call in flight, no copy
    /// open that may hold unknown mappings, no copy or move open that overlaps a record.
    ///
    /// With more than `limit` records and any window open, it returns false.
    pub(crate) fn quiescent(&self, e: u32, env: &dyn Env, limit: u32) -> Result<bool, Fail> {
        let entry = self.entry(e)?;
        if !env.gp_elapsed(entry.cookie) || self.is_pending(e, env)? {
            return Ok(false);
        }
        if !env.windows_open() {
            return Ok(true);
        }
        if entry.nr_records > limit {
            return Ok(false);
        }
        let shift = u32::from(self.state.geometry.page_shift);
        let len = u64::from(pages_of_order(entry.order)).wrapping_shl(shift);
        let covered = self.find_record(entry.first_record, |record| {
            env.window_covers(record.mm, record.base, len)
        });
        Ok(covered.is_none())
    }

    /// Returns whether a copy is open that may hold mappings of the folio that are not yet known.
    pub(crate) fn is_pending(&self, e: u32, env: &dyn Env) -> Result<bool, Fail> {
        let pending = self.entry(e)?.pending;
        Ok(pending != 0 && env.ticket_open(pending))
    }

    /// Reads and checks the kernel's counters of a mapped folio before a call changes them; `None`
    /// if they do not stand still.
    ///
    /// A difference makes the folio a suspect: it counts for nothing until it is confirmed.
    pub(crate) fn quick_check(&mut self, e: u32, env: &dyn Env) -> Option<KernelCounts> {
        let entry = self.entry(e).ok()?;
        if entry.total == 0 || !self.quiescent(e, env, WINDOW_SCAN).ok()? {
            return None;
        }
        let kernel = env
            .kernel_of(entry.pfn, entry.order)
            .filter(|k| k.order == entry.order)?;
        let expected = Expected::new(entry.total, entry.entire, entry.nr_pte_mapped());
        // A copy that begins between the first look and the reading of the counters changes them;
        // it is still open, because it has to come by here to take its mappings into the shadow.
        if !self.quiescent(e, env, WINDOW_SCAN).ok()? {
            return None;
        }
        self.state.counters.add(Counter::Checked);
        if !expected.holds(&kernel) {
            self.suspect(e);
        }
        Some(kernel)
    }

    /// Evaluates the present state of a folio, unless that was done before.
    ///
    /// The kernel is asked once per state, too, as soon as its counters are given. While a copy is
    /// open that may hold unknown mappings, the shadow is no state that ever was: nothing is
    /// evaluated. A folio that nothing maps any more has nothing to be wrong about.
    pub(crate) fn evaluate(
        &mut self,
        e: u32,
        kernel: Option<&KernelCounts>,
        env: &dyn Env,
    ) -> Result<(), Fail> {
        let entry = self.entry(e)?;
        let model = entry.has(DIRTY);
        let ask = entry.has(KERNEL_DIRTY) && kernel.is_some() && entry.total > 0;
        if !(model || ask) || self.is_pending(e, env)? {
            return Ok(());
        }
        let (kind, order, old) = (entry.kind, entry.order, entry.wrong);
        let mut view = self.view_of(e)?;
        view.kernel = kernel.copied();
        let all = verdicts(&view);
        let mut pairs = PairSet::new();
        let mut flags = entry.flags;
        if model {
            pairs = all.asked.without(KERNEL_PAIRS);
            flags &= !DIRTY;
            flags |= if view.mm > 1 { EVER_SHARED } else { 0 };
            let partial = 0 < view.nr_pages_mapped && view.nr_pages_mapped < view.nr_pages;
            flags |= if partial { EVER_PARTIAL } else { 0 };
        }
        if ask {
            pairs = pairs.or(KERNEL_PAIRS);
            flags &= !KERNEL_DIRTY;
        }
        let all = all.only(pairs);
        let mut new = old.without(all.asked).or(all.wrong());
        if view.total == 0 {
            new = all.wrong();
            flags &= !KERNEL_DIRTY;
        }
        if model {
            self.state.counters.add(Counter::Evaluated);
        }
        if ask {
            self.state.counters.add(Counter::EvaluatedKernel);
        }
        disagree::count(self.cells, kind, order, &all);
        disagree::change(self.cells, kind, order, old, new, env);
        let entry = self.entry_mut(e)?;
        entry.flags = flags;
        entry.wrong = new;
        Ok(())
    }

    /// Ends all wrong answers about a folio: it is no longer tracked.
    pub(crate) fn close_wrong(&mut self, e: u32, env: &dyn Env) -> Result<(), Fail> {
        let entry = self.entry_mut(e)?;
        let (kind, order) = (entry.kind, entry.order);
        let old = core::mem::take(&mut entry.wrong);
        disagree::change(self.cells, kind, order, old, PairSet::new(), env);
        Ok(())
    }

    /// Evaluates the states that were not yet, before the tables are read.
    ///
    /// Looks at up to `max` entries from position `cursor` on; returns where to go on, `None` at the
    /// end. States that were evaluated while the kernel's counters did not stand still are asked
    /// about from the kernel, if they do now.
    pub fn settle(&mut self, cursor: u32, max: u32, env: &dyn Env) -> Option<u32> {
        let end = cursor.saturating_add(max).min(narrow(self.entries.len()));
        for e in cursor..end {
            let Some(entry) = self.entries.get(index(e)) else {
                break;
            };
            let tracked = matches!(entry.state, State::Live | State::Draining);
            if !tracked || !(entry.has(DIRTY) || entry.has(KERNEL_DIRTY)) {
                continue;
            }
            let kernel = if entry.has(KERNEL_DIRTY) {
                self.quick_check(e, env)
            } else {
                None
            };
            if let Err(fail) = self.evaluate(e, kernel.as_ref(), env) {
                self.give_up(e, fail, env);
            }
        }
        (index(end) < self.entries.len()).then_some(end)
    }

    /// Starts counters and tables anew.
    ///
    /// Numbers of what is there now stay, so do the wrong answers of the present: their time starts
    /// at 0.
    pub fn reset_tables(&mut self, env: &dyn Env) {
        self.state.counters.reset();
        disagree::restart(self.cells, env);
    }
}
