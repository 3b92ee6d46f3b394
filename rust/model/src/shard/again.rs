// SPDX-License-Identifier: GPL-2.0

//! What is counted when a state is evaluated again: the result is kept, see `memo.rs`.

use super::entry::{
    Numbers,
    ADOPTED,
    DIRTY,
    KERNEL_DIRTY, //
};
use super::key::plain_key;
use super::{
    position_of,
    Fail,
    Shard,
    ShardState,
    CORRUPT, //
};
use crate::bits::index;
use crate::memo::Kept;
use crate::{
    Counter,
    Env,
    FolioEntry,
    KernelCounts, //
};

/// What is left to do after an evaluation that is kept was counted.
struct Left {
    /// Flags of the entry that hold for the first time.
    first: u8,
    /// It is to be told.
    tells: bool,
}

impl Left {
    /// Counts an evaluation of a folio with this number of mappings.
    #[inline(always)]
    fn of(
        entry: &mut FolioEntry,
        kept: &mut Kept,
        state: &mut ShardState,
        total: u64,
        env: &impl Env,
    ) -> Self {
        let result = kept.result();
        let first = result.ever & !entry.flags();
        entry.set_wrong(result.new);
        entry.change_flags(result.ever, result.done);
        if result.state {
            state.counters.add(Counter::Evaluated);
            let most = &mut state.figures.most_mappings;
            *most = total.max(*most);
        }
        if result.asks {
            state.counters.add(Counter::EvaluatedKernel);
        }
        if !result.changes {
            kept.count(0);
            return Self {
                first,
                tells: false,
            };
        }
        let opens = result.opens;
        let now = env.now();
        kept.count(now);
        let tells = opens && (!kept.told_before(now) || env.wants_all());
        if tells {
            kept.tell(now);
        } else if opens {
            state.counters.add(Counter::ToldBefore);
        }
        Self { first, tells }
    }
}

impl Shard<'_> {
    /// Counts an evaluation that is kept.
    pub(crate) fn evaluate_kept(
        &mut self,
        e: u32,
        at: usize,
        kernel: Option<&KernelCounts>,
        env: &impl Env,
    ) -> Result<(), Fail> {
        let entry = self.entries.get_mut(index(e)).ok_or(CORRUPT)?;
        let kept = self.tables.kept.get_mut(at).ok_or(CORRUPT)?;
        let total = match position_of(entry.history) {
            None => entry.total(),
            Some(h) => self.history.get(index(h)).ok_or(CORRUPT)?.counts.total,
        };
        let left = Left::of(entry, kept, self.state, total, env);
        self.finish(e, at, left, kernel, env)
    }

    /// Does what is left to do after an evaluation that is kept was counted.
    #[inline]
    fn finish(
        &mut self,
        e: u32,
        at: usize,
        left: Left,
        kernel: Option<&KernelCounts>,
        env: &impl Env,
    ) -> Result<(), Fail> {
        if left.tells {
            self.tell_kept(e, at, kernel, env)?;
        }
        if left.first != 0 {
            self.note_first(e, left.first)?;
        }
        Ok(())
    }

    /// Does what [`Self::evaluate`] does, for a plain folio, which is mapped as a rule.
    #[inline]
    pub(crate) fn evaluate_plain(
        &mut self,
        e: u32,
        kernel: Option<&KernelCounts>,
        env: &impl Env,
    ) -> Result<(), Fail> {
        let entry = self.entries.get_mut(index(e)).ok_or(CORRUPT)?;
        let what = (
            entry.has(DIRTY),
            entry.has(KERNEL_DIRTY) && kernel.is_some(),
        );
        if what == (false, false) {
            return Ok(());
        }
        if entry.pending != 0 || entry.is_listed() {
            return self.evaluate_new(e, kernel, env);
        }
        let numbers = entry.mapped_numbers();
        let words = plain_key(entry, numbers, kernel, what);
        let Some((at, kept)) =
            words.and_then(|words| self.tables.find_plain(&words, entry.wrong()))
        else {
            return self.evaluate_new(e, kernel, env);
        };
        if let Some(kernel) = kernel {
            let most = &mut self.state.figures.most_references;
            *most = (*most).max(u64::try_from(kernel.refcount).unwrap_or(0));
        }
        let total = numbers.total(entry.order);
        let left = Left::of(entry, kept, self.state, total, env);
        self.finish(e, at, left, kernel, env)
    }

    /// Does the same for a plain folio that nothing maps any more, and ends its past.
    #[inline]
    pub(crate) fn evaluate_gone(&mut self, e: u32, env: &impl Env) -> Result<(), Fail> {
        let entry = self.entries.get_mut(index(e)).ok_or(CORRUPT)?;
        if entry.pending != 0 {
            return self.evaluate(e, None, env);
        }
        let words = plain_key(entry, Numbers::default(), None, (true, false));
        let Some((_, kept)) = words.and_then(|words| self.tables.find_plain(&words, entry.wrong()))
        else {
            return self.evaluate(e, None, env);
        };
        // Nothing is wrong about it any more: nothing is left to be told.
        let left = Left::of(entry, kept, self.state, 0, env);
        entry.change_flags(0, ADOPTED);
        if left.first != 0 {
            self.note_first(e, left.first)?;
        }
        Ok(())
    }
}
