// SPDX-License-Identifier: GPL-2.0

//! Evaluations that were made before.
//!
//! What all definitions answer is a function of a few numbers ([`Key`]), and most folios are in a few
//! states. So the result of an evaluation is kept, and an evaluation that is the same again adds one
//! to a number: the cells of the tables that it belongs to are made up for before they are read, and
//! when something else takes the place, see [`Tables::flush`].

use crate::bits::same;
use crate::definition::KERNEL_PAIRS;
use crate::pairs::{
    PairSet,
    Verdicts, //
};
use crate::tables::{
    Place,
    Tables, //
};

/// Number of evaluations that a shard keeps: a power of two.
pub const NR_KEPT: usize = 64;

/// Number of words of a [`Key`].
pub(crate) const KEY_WORDS: usize = 20;

/// Number of words of the key of a plain folio, see `shard/plain.rs`.
pub(crate) const PLAIN_WORDS: usize = 3;

/// As many tellings of one evaluation fill all cells of examples that it belongs to.
const TOLD_ENOUGH: u32 = 4;

/// For so many nanoseconds nobody wants to be told of it again then: with 16 shards it is told once in ten
/// milliseconds, if it happens all the time.
const PAUSE: u64 = 160_000_000;

/// Everything that an evaluation depends on. The first word is never 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Key {
    /// The numbers; those behind [`Self::len`] are 0.
    words: [u64; KEY_WORDS],
    /// How many there are.
    len: usize,
}

impl Key {
    /// Adds a word. A key that is too long is no key, see [`Self::is_whole`].
    #[inline]
    pub(crate) fn push(&mut self, word: u64) {
        if let Some(place) = self.words.get_mut(self.len) {
            *place = word;
        }
        self.len = self.len.wrapping_add(1);
    }

    /// Adds two numbers.
    #[inline]
    pub(crate) fn push_pair(&mut self, a: u32, b: u32) {
        self.push(u64::from(a) | u64::from(b).wrapping_shl(u32::BITS));
    }

    /// Returns whether all words found room.
    #[inline]
    pub(crate) fn is_whole(&self) -> bool {
        self.len <= KEY_WORDS
    }

    /// Returns the words.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u64] {
        self.words.get(..self.len).unwrap_or_default()
    }
}

/// Returns where an evaluation is looked for first that was made before these answers were wrong; the
/// other place is its neighbour.
#[inline]
fn place_of(words: &[u64], old: PairSet) -> usize {
    let hash = words.iter().fold(old.mixed(), |hash, word| {
        (hash ^ word)
            .rotate_left(25)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    usize::try_from(hash.wrapping_shr(32)).unwrap_or(0) & NR_KEPT.wrapping_sub(1)
}

/// What an evaluation results in, beside the numbers in the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Evaluation {
    /// The state is counted as a new one.
    pub(crate) state: bool,
    /// The kernel is asked, too.
    pub(crate) asks: bool,
    /// All verdicts.
    pub(crate) verdicts: Verdicts,
    /// The pairs that answered the state before wrongly.
    pub(crate) old: PairSet,
    /// The pairs that answer this one wrongly.
    pub(crate) new: PairSet,
    /// Flags of the entry that the state sets.
    pub(crate) ever: u8,
    /// Flags of the entry that are cleared.
    pub(crate) done: u8,
    /// Answers become wrong or right.
    pub(crate) changes: bool,
    /// Answers become wrong.
    pub(crate) opens: bool,
}

impl Evaluation {
    /// Returns the verdicts that are counted.
    pub(crate) fn counted(&self) -> Verdicts {
        let mut pairs = PairSet::new();
        if self.state {
            pairs = self.verdicts.asked.without(KERNEL_PAIRS);
        }
        if self.asks {
            pairs = pairs.or(KERNEL_PAIRS);
        }
        self.verdicts.only(pairs)
    }

    /// Returns the pairs that became wrong.
    pub(crate) fn opened(&self) -> PairSet {
        self.new.without(self.old)
    }
}

/// An evaluation, and how often it was made since its numbers were last in the tables. All bytes
/// zero is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    /// What it depends on.
    key: Key,
    /// Which cells it belongs to.
    place: Place,
    /// What it results in.
    result: Evaluation,
    /// How often it was made.
    times: u64,
    /// Sum of the times at which it was made, wrapping; kept if wrong answers came or went.
    when: u128,
    /// How often somebody was told of it, and when last.
    told: (u32, u64),
}

impl Kept {
    /// Returns the result.
    #[inline]
    pub(crate) fn result(&self) -> &Evaluation {
        &self.result
    }

    /// Counts it once more; at what time matters if answers become wrong or right.
    #[inline]
    pub(crate) fn count(&mut self, now: u64) {
        self.times = self.times.wrapping_add(1);
        self.when = self.when.wrapping_add(u128::from(now));
    }

    /// Returns whether it depends on these words, and on these wrong answers.
    #[inline]
    fn is_plain(&self, words: &[u64; PLAIN_WORDS], old: PairSet) -> bool {
        // Word by word: comparing arrays is a call.
        let ([a, b, c], [x, y, z, ..]) = (*words, self.key.words);
        (x == a && y == b && z == c) && (self.key.len == PLAIN_WORDS && self.result.old == old)
    }

    /// Returns whether nobody wants to be told of it now, having been told of the same just before.
    pub(crate) fn told_before(&self, now: u64) -> bool {
        let (times, last) = self.told;
        times >= TOLD_ENOUGH && now.wrapping_sub(last) < PAUSE
    }

    /// Notes that somebody is told of it.
    pub(crate) fn tell(&mut self, now: u64) {
        let (times, last) = &mut self.told;
        *times = times.saturating_add(1);
        *last = now;
    }
}

impl Tables<'_> {
    /// Returns where an evaluation is kept that depends on the same and was made before the same
    /// answers were wrong.
    #[inline]
    pub(crate) fn find_kept(&self, words: &[u64], old: PairSet) -> Option<usize> {
        let is_it = |at: usize| {
            self.kept
                .get(at)
                .is_some_and(|kept| same(kept.key.as_slice(), words) && kept.result.old == old)
        };
        let first = place_of(words, old);
        if is_it(first) {
            return Some(first);
        }
        is_it(first ^ 1).then_some(first ^ 1)
    }

    /// The same for a key of [`PLAIN_WORDS`]; also lends what is kept there.
    #[inline]
    pub(crate) fn find_plain(
        &mut self,
        words: &[u64; PLAIN_WORDS],
        old: PairSet,
    ) -> Option<(usize, &mut Kept)> {
        let mut at = place_of(words, old);
        if !self.kept.get(at)?.is_plain(words, old) {
            at ^= 1;
            if !self.kept.get(at)?.is_plain(words, old) {
                return None;
            }
        }
        Some((at, self.kept.get_mut(at)?))
    }

    /// Keeps an evaluation, which is not counted yet; returns where, `None` if there is no room.
    pub(crate) fn keep(&mut self, key: &Key, place: Place, result: &Evaluation) -> Option<usize> {
        let first = place_of(key.as_slice(), result.old);
        let is_free = |at: &usize| self.kept.get(*at).is_some_and(|kept| kept.key.len == 0);
        // Of two that are in the way, the one goes that was made less often lately.
        let times = |at: usize| self.kept.get(at).map_or(0, |kept| kept.times);
        let at = [first, first ^ 1].into_iter().find(is_free).unwrap_or(
            if times(first) <= times(first ^ 1) {
                first
            } else {
                first ^ 1
            },
        );
        self.flush_one(at);
        // The one that stays has to prove itself again.
        self.flush_one(at ^ 1);
        *self.kept.get_mut(at)? = Kept {
            key: *key,
            place,
            result: *result,
            ..Kept::default()
        };
        Some(at)
    }

    /// Brings the numbers of all evaluations that are kept into the tables: to be called before they
    /// are read.
    pub fn flush(&mut self) {
        for at in 0..self.kept.len() {
            self.flush_one(at);
        }
    }

    /// Has each evaluation told as if nobody had been told of it: to be called when what was told is
    /// forgotten.
    pub fn tell_anew(&mut self) {
        for kept in &mut *self.kept {
            kept.told = (0, 0);
        }
    }

    /// Brings the numbers of an evaluation into the tables.
    fn flush_one(&mut self, at: usize) {
        let Some(kept) = self.kept.get_mut(at).filter(|kept| kept.times > 0) else {
            return;
        };
        let times = core::mem::take(&mut kept.times);
        let when = core::mem::take(&mut kept.when);
        let (place, result) = (kept.place, kept.result);
        self.count(place, &result.counted(), result.state, times);
        self.change(place, result.old, result.new, times, when);
        if result.asks {
            self.count_flips(place, &result.verdicts, times);
        }
    }

    /// Returns how many evaluations are kept.
    pub fn nr_kept(&self) -> usize {
        self.kept
            .iter()
            .filter(|kept| kept.key.len > 0)
            .fold(0, |nr: usize, _| nr.wrapping_add(1))
    }
}

/// The neighbour of a place is one, too.
const _: () = assert!(NR_KEPT.is_power_of_two() && NR_KEPT > 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_too_long_is_none() {
        let mut key = Key::default();
        for n in 0..20 {
            key.push_pair(n, 7);
            assert!(key.is_whole());
            assert_eq!(key.as_slice().last(), Some(&(u64::from(n) | (7 << 32))));
        }
        key.push(1);
        assert!(!key.is_whole());
    }
}
