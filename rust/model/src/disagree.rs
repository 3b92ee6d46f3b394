// SPDX-License-Identifier: GPL-2.0

//! The tables: how often, and for how long, definitions answer wrongly.

use crate::bits::index;
use crate::{
    Env,
    Kind,
    NR_KINDS,
    NR_PAIRS, //
};

/// Number of orders that the tables tell apart: 0 to 19.
pub const ORDER_SLOTS: usize = 20;

/// Number of [`Cell`]s of a shard.
pub const CELLS: usize = NR_PAIRS * NR_KINDS * ORDER_SLOTS;

/// A set of pairs of a definition and a question it claims, by position in [`crate::PAIRS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PairSet([u64; 2]);

const _: () = assert!(NR_PAIRS <= 128);

impl PairSet {
    /// Returns the set of no pair.
    pub const fn new() -> Self {
        Self([0; 2])
    }

    /// Returns the set with one more pair.
    #[inline]
    pub(crate) const fn with(self, pair: usize) -> Self {
        let [low, high] = self.0;
        match pair {
            0..64 => Self([low | (1 << pair), high]),
            64..128 => Self([low, high | (1 << pair.wrapping_sub(64))]),
            _ => self,
        }
    }

    /// Returns whether the pair is in the set.
    pub fn contains(self, pair: usize) -> bool {
        self.and(Self::new().with(pair)) != Self::new()
    }

    /// Returns whether no pair is in the set.
    pub fn is_empty(self) -> bool {
        self == Self::new()
    }

    /// Returns the pairs in the set, in order.
    pub fn iter(self) -> PairIter {
        PairIter(self)
    }

    /// Returns the pairs in both sets.
    #[inline]
    pub(crate) fn and(self, other: Self) -> Self {
        let [a, b] = self.0;
        let [c, d] = other.0;
        Self([a & c, b & d])
    }

    /// Returns the pairs in either set.
    #[inline]
    pub(crate) fn or(self, other: Self) -> Self {
        let [a, b] = self.0;
        let [c, d] = other.0;
        Self([a | c, b | d])
    }

    /// Returns the pairs in this set and not in the other.
    #[inline]
    pub(crate) fn without(self, other: Self) -> Self {
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
        for (word, first) in [(low, 0u32), (high, 64)] {
            if *word != 0 {
                let bit = word.trailing_zeros();
                *word &= word.wrapping_sub(1);
                return Some(index(first.wrapping_add(bit)));
            }
        }
        None
    }
}

/// The answers of one definition to one question for folios of one type and order. Saturating.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cell {
    /// States for which the question was answered.
    pub evaluated: u64,
    /// Of these: answered yes (or a number too high) against the truth.
    pub false_yes: u64,
    /// Of these: answered no (or a number too low) against the truth.
    pub false_no: u64,
    /// Of these: the definition could not tell.
    pub unknown: u64,
    /// How often a folio went from right (or unknown) to wrong.
    pub episodes: u64,
    /// Folios that are answered wrongly now.
    pub wrong_now: u64,
    /// Sum of the times at which folios became right, minus that at which they became wrong.
    ///
    /// Wrapping: only [`Cell::wrong_time`] makes a time of it.
    pub time: u64,
}

const _: () = assert!(size_of::<Cell>() == 56);

impl Cell {
    /// Returns the nanoseconds that folios were answered wrongly, summed over folios, up to `now`.
    pub fn wrong_time(&self, now: u64) -> u64 {
        self.time.wrapping_add(self.wrong_now.wrapping_mul(now))
    }

    /// Adds the cell of another shard.
    pub fn merge(&mut self, other: &Cell) {
        self.evaluated = self.evaluated.saturating_add(other.evaluated);
        self.false_yes = self.false_yes.saturating_add(other.false_yes);
        self.false_no = self.false_no.saturating_add(other.false_no);
        self.unknown = self.unknown.saturating_add(other.unknown);
        self.episodes = self.episodes.saturating_add(other.episodes);
        self.wrong_now = self.wrong_now.saturating_add(other.wrong_now);
        self.time = self.time.wrapping_add(other.time);
    }

    /// A folio becomes wrong.
    fn open(&mut self, now: u64) {
        self.episodes = self.episodes.saturating_add(1);
        self.wrong_now = self.wrong_now.saturating_add(1);
        self.time = self.time.wrapping_sub(now);
    }

    /// A folio becomes right, or is no longer there to be wrong about.
    fn close(&mut self, now: u64) {
        self.wrong_now = self.wrong_now.saturating_sub(1);
        self.time = self.time.wrapping_add(now);
    }

    /// Starts anew; folios that are wrong stay wrong, from now on.
    fn restart(&mut self, now: u64) {
        *self = Self {
            wrong_now: self.wrong_now,
            time: self.wrong_now.wrapping_mul(now).wrapping_neg(),
            ..Self::default()
        };
    }
}

/// Returns where the cells of folios of a type and order begin; those of the pairs follow each
/// other, so that an evaluation touches adjacent memory.
#[inline]
fn cells_of(kind: Kind, order: u8) -> usize {
    let order = usize::from(order).min(ORDER_SLOTS.wrapping_sub(1));
    kind.index()
        .wrapping_mul(ORDER_SLOTS)
        .wrapping_add(order)
        .wrapping_mul(NR_PAIRS)
}

/// Returns the position of the cell of a pair (see [`crate::PAIRS`]) for folios of a type and order.
pub fn cell_index(pair: usize, kind: Kind, order: u8) -> usize {
    cells_of(kind, order).wrapping_add(pair)
}

/// How the answers of one state compare with the truth.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Verdicts {
    /// The pairs that were asked.
    pub(crate) asked: PairSet,
    /// Answered yes against the truth.
    pub(crate) false_yes: PairSet,
    /// Answered no against the truth.
    pub(crate) false_no: PairSet,
    /// Could not tell.
    pub(crate) unknown: PairSet,
}

impl Verdicts {
    /// Returns the verdicts on these pairs only.
    pub(crate) fn only(self, pairs: PairSet) -> Self {
        Self {
            asked: self.asked.and(pairs),
            false_yes: self.false_yes.and(pairs),
            false_no: self.false_no.and(pairs),
            unknown: self.unknown.and(pairs),
        }
    }

    /// Returns the pairs that were answered wrongly.
    pub(crate) fn wrong(&self) -> PairSet {
        self.false_yes.or(self.false_no)
    }
}

/// Counts the verdicts on a state in the cells of folios of this type and order.
pub(crate) fn count(cells: &mut [Cell], kind: Kind, order: u8, verdicts: &Verdicts) {
    let mut each = |pairs: PairSet, counter: fn(&mut Cell) -> &mut u64| {
        for pair in pairs.iter() {
            if let Some(cell) = cells.get_mut(cell_index(pair, kind, order)) {
                let counter = counter(cell);
                *counter = counter.saturating_add(1);
            }
        }
    };
    each(verdicts.asked, |cell| &mut cell.evaluated);
    each(verdicts.false_yes, |cell| &mut cell.false_yes);
    each(verdicts.false_no, |cell| &mut cell.false_no);
    each(verdicts.unknown, |cell| &mut cell.unknown);
}

/// Notes that a folio of this type and order was answered wrongly by `old` and is by `new` now.
pub(crate) fn change(
    cells: &mut [Cell],
    kind: Kind,
    order: u8,
    old: PairSet,
    new: PairSet,
    env: &dyn Env,
) {
    if old == new {
        return;
    }
    let now = env.now();
    for pair in new.without(old).iter() {
        if let Some(cell) = cells.get_mut(cell_index(pair, kind, order)) {
            cell.open(now);
        }
    }
    for pair in old.without(new).iter() {
        if let Some(cell) = cells.get_mut(cell_index(pair, kind, order)) {
            cell.close(now);
        }
    }
}

/// Starts all cells anew.
pub(crate) fn restart(cells: &mut [Cell], env: &dyn Env) {
    let now = env.now();
    for cell in cells {
        cell.restart(now);
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

    #[test]
    fn cells_are_distinct_and_in_range() {
        let mut seen = [false; CELLS];
        for kind in Kind::ALL {
            for order in 0..20 {
                for pair in 0..NR_PAIRS {
                    let cell = seen.get_mut(cell_index(pair, kind, order));
                    assert_eq!(cell.map(|seen| core::mem::replace(seen, true)), Some(false));
                }
            }
        }
        assert!(seen.iter().all(|seen| *seen));
    }

    #[test]
    fn time_restarts_with_those_that_are_wrong_now() {
        let mut cell = Cell::default();
        cell.open(10);
        cell.open(30);
        cell.close(40);
        assert_eq!(cell.wrong_time(50), 40 + 10);
        cell.restart(100);
        assert_eq!((cell.episodes, cell.wrong_now), (0, 1));
        assert_eq!(cell.wrong_time(130), 30);
        cell.close(150);
        assert_eq!(cell.wrong_time(500), 50);
    }

    #[test]
    fn cells_of_shards_add_up() {
        let mut sum = Cell::default();
        for n in 1..=3u64 {
            let mut cell = Cell {
                evaluated: n,
                false_yes: 2 * n,
                false_no: 3 * n,
                unknown: 4 * n,
                ..Cell::default()
            };
            cell.open(10 * n);
            sum.merge(&cell);
        }
        let counts = [sum.evaluated, sum.false_yes, sum.false_no, sum.unknown];
        assert_eq!(counts, [6, 12, 18, 24]);
        assert_eq!((sum.episodes, sum.wrong_now), (3, 3));
        assert_eq!(sum.wrong_time(100), 90 + 80 + 70);
    }
}
