// SPDX-License-Identifier: GPL-2.0

//! Answers that were given before.
//!
//! As in `memo.rs`, what all definitions answer to a question of the kernel is a function of a few
//! numbers, if the folio is plain (`shard/plain.rs`): the same question about folios in the same state
//! adds one to a number. The counts are made up for before they are read, see [`AskedTable::flush`].

use crate::bits::same;
use crate::decision::{
    AskedTable,
    Asker, //
};
use crate::PairSet;

/// Number of answers that a shard keeps: a power of two.
pub const NR_ANSWERS: usize = 16;

/// Everything that the answers to a question about a plain folio depend on. The first word is never 0.
pub(crate) type AnswerKey = [u64; 7];

/// The pairs of one question: those that were asked, and of these those that differ from the kernel's
/// answer, that are wrong, and that could not tell.
pub(crate) type Sets = [PairSet; 4];

/// The answers to a question, and how often they were given since they were last counted. All bytes
/// zero is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeptAnswer {
    /// What they depend on.
    question: AnswerKey,
    /// The hooked function, by [`Asker::index`].
    asker: usize,
    /// The answers.
    sets: Sets,
    /// How often they were given.
    times: u64,
}

impl KeptAnswer {
    /// Returns how often it was given since it was last counted.
    pub fn times(&self) -> u64 {
        self.times
    }
}

/// Returns where the answers to a question are looked for first; the other place is its neighbour.
#[inline]
fn place_of(question: &AnswerKey) -> usize {
    let hash = question.iter().fold(0u64, |hash, word| {
        (hash ^ word)
            .rotate_left(25)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    usize::try_from(hash.wrapping_shr(32)).unwrap_or(0) & NR_ANSWERS.wrapping_sub(1)
}

impl AskedTable<'_> {
    /// Counts the answers to a question once more, if they are kept; returns whether they are.
    #[inline]
    pub(crate) fn again(&mut self, question: &AnswerKey) -> bool {
        let first = place_of(question);
        for at in [first, first ^ 1] {
            let kept = self.kept.get_mut(at);
            if let Some(kept) = kept.filter(|kept| same(&kept.question, question)) {
                kept.times = kept.times.saturating_add(1);
                return true;
            }
        }
        false
    }

    /// Counts the answers to a question once, and keeps them in place of those of two that were given
    /// less often lately.
    pub(crate) fn keep(&mut self, asker: Asker, question: &AnswerKey, sets: Sets) {
        let first = place_of(question);
        let times = |at: usize| self.kept.get(at).map_or(0, |kept| kept.times);
        let at = if times(first) <= times(first ^ 1) {
            first
        } else {
            first ^ 1
        };
        // The one that stays has to prove itself again.
        self.flush_one(first);
        self.flush_one(first ^ 1);
        match self.kept.get_mut(at) {
            Some(kept) => {
                *kept = KeptAnswer {
                    question: *question,
                    asker: asker.index(),
                    sets,
                    times: 1,
                }
            }
            None => self.answers(asker, sets, 1),
        }
    }

    /// Brings all answers that are kept into the counts: to be called before they are read.
    pub fn flush(&mut self) {
        for at in 0..self.kept.len() {
            self.flush_one(at);
        }
    }

    /// Sets all counts to zero.
    pub fn reset(&mut self) {
        self.kept.fill(KeptAnswer::default());
        self.asked.fill(Default::default());
        self.asks.fill(Default::default());
    }

    /// Brings the answers to a question into the counts.
    fn flush_one(&mut self, at: usize) {
        let Some(kept) = self.kept.get_mut(at) else {
            return;
        };
        let times = core::mem::take(&mut kept.times);
        let (asker, sets) = (kept.asker, kept.sets);
        if let Some(asker) = Asker::ALL.get(asker).filter(|_| times > 0) {
            self.answers(*asker, sets, times);
        }
    }
}

/// The neighbour of a place is one, too.
const _: () = assert!(NR_ANSWERS.is_power_of_two() && NR_ANSWERS > 1);
