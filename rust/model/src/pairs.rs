// SPDX-License-Identifier: GPL-2.0

//! Sets of pairs of a definition and a question that it claims.

use crate::bits::index;
use crate::NR_PAIRS;

/// A set of pairs of a definition and a question it claims, by position in [`crate::PAIRS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PairSet([u64; 2]);

const _: () = assert!(NR_PAIRS <= 96);

impl PairSet {
    /// Returns the set of no pair.
    pub const fn new() -> Self {
        Self([0; 2])
    }

    /// Returns the set of these words.
    #[inline]
    pub(crate) fn of_words(low: u64, high: u32) -> Self {
        Self([low, u64::from(high)])
    }

    /// Returns the words of the set.
    #[inline]
    pub(crate) fn words(self) -> (u64, u32) {
        let [low, high] = self.0;
        let [a, b, c, d, ..] = high.to_le_bytes();
        (low, u32::from_le_bytes([a, b, c, d]))
    }

    /// Returns a word in which all of the set is mixed.
    #[inline]
    pub(crate) fn mixed(self) -> u64 {
        let [low, high] = self.0;
        low ^ high.rotate_left(u32::BITS)
    }

    /// Returns the set with one more pair.
    #[inline]
    pub const fn with(self, pair: usize) -> Self {
        let [low, high] = self.0;
        match pair {
            0..64 => Self([low | (1 << pair), high]),
            64..128 => Self([low, high | (1 << pair.wrapping_sub(64))]),
            _ => self,
        }
    }

    /// Returns whether the pair is in the set.
    #[inline]
    pub fn contains(self, pair: usize) -> bool {
        self.and(Self::new().with(pair)) != Self::new()
    }

    /// Returns whether no pair is in the set.
    pub fn is_empty(self) -> bool {
        self == Self::new()
    }

    /// Returns the pairs in the set, in order.
    #[inline]
    pub fn iter(self) -> PairIter {
        PairIter(self)
    }

    /// Returns the pairs in both sets.
    #[inline]
    pub const fn and(self, other: Self) -> Self {
        let [a, b] = self.0;
        let [c, d] = other.0;
        Self([a & c, b & d])
    }

    /// Returns the pairs in either set.
    #[inline]
    pub const fn or(self, other: Self) -> Self {
        let [a, b] = self.0;
        let [c, d] = other.0;
        Self([a | c, b | d])
    }

    /// Returns the pairs in this set and not in the other.
    #[inline]
    pub const fn without(self, other: Self) -> Self {
        let [a, b] = self.0;
        let [c, d] = other.0;
        Self([a & !c, b & !d])
    }
}

/// The pairs of a [`PairSet`], in order.
#[derive(Clone, Debug)]
pub struct PairIter(PairSet);

impl Iterator for PairIter {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let [low, high] = &mut self.0 .0;
        if *low != 0 {
            let bit = low.trailing_zeros();
            *low &= low.wrapping_sub(1);
            Some(index(bit))
        } else if *high != 0 {
            let bit = high.trailing_zeros();
            *high &= high.wrapping_sub(1);
            Some(index(bit.wrapping_add(64)))
        } else {
            None
        }
    }
}

/// How the answers of one state compare with the truth.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Verdicts {
    /// The pairs that were asked.
    pub asked: PairSet,
    /// Answered yes, or too high a number, against the truth.
    pub false_yes: PairSet,
    /// Answered no, or too low a number, against the truth.
    pub false_no: PairSet,
    /// Could not tell.
    pub unknown: PairSet,
}

impl Verdicts {
    /// Returns the verdicts on these pairs only.
    #[must_use]
    pub fn only(self, pairs: PairSet) -> Self {
        Self {
            asked: self.asked.and(pairs),
            false_yes: self.false_yes.and(pairs),
            false_no: self.false_no.and(pairs),
            unknown: self.unknown.and(pairs),
        }
    }

    /// Returns the pairs that were answered wrongly.
    pub fn wrong(&self) -> PairSet {
        self.false_yes.or(self.false_no)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_pairs_of_both_words() {
        let set = PairSet::new().with(3).with(63).with(64).with(127);
        let pairs = [3, 63, 64, 127];
        assert!(set.iter().eq(pairs));
        assert!(set.contains(64) && !set.contains(65) && !set.contains(500));
        assert!(set.without(set).is_empty());
    }
}
