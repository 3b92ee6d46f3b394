// SPDX-License-Identifier: GPL-2.0

//! The tables: how often, and for how long, definitions answer wrongly.
//!
//! Two of them: by type and order of the folio, and by operation. Most pairs of a definition and a
//! question are asked about every state: for them the states are counted once, in a [`Group`], and
//! an evaluation touches the cells of those pairs only that are wrong or do not know.

use crate::definition::{
    KERNEL_PAIR,
    KERNEL_PAIRS,
    QUESTION_PAIRS,
    SOMETIMES_PAIRS, //
};
use crate::pairs::{
    PairSet,
    Verdicts, //
};
use crate::{
    Env,
    Kept,
    Kind,
    Operation,
    Question,
    NR_OPERATIONS,
    NR_PAIRS,
    NR_QUESTIONS,
    PAIRS, //
};

/// Number of types that the tables tell apart: all but KSM.
pub const TABLE_KINDS: usize = 5;

/// The types that the tables tell apart.
///
/// KSM folios are small: what is evaluated about any is counted in [`crate::Counter::OtherKind`],
/// which stays 0.
pub const TABLE_KIND: [Kind; TABLE_KINDS] = [
    Kind::Anon,
    Kind::File,
    Kind::Shmem,
    Kind::Hugetlb,
    Kind::Driver,
];

/// The answers of one definition to one question for folios of one type and order. Saturating.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cell {
    /// States for which the question was answered.
    ///
    /// In storage only for pairs that are not asked about every state, see [`Tables::cell`].
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
    /// Wrapping: only [`Cell::wrong_time`] makes a time of it. A sum over a million folios does not
    /// fit into 64 bits after some hours.
    pub time: u128,
    /// States for which the kernel's own answer to the question was known, too; in storage as
    /// [`Cell::evaluated`].
    pub compared: u64,
    /// Of these: the definition knew an answer, and it was another than the kernel's.
    pub flips: u64,
}

const _: () = assert!(size_of::<Cell>() == 80);

impl Cell {
    /// Returns the nanoseconds that folios were answered wrongly, summed over folios, up to `now`;
    /// saturating.
    pub fn wrong_time(&self, now: u64) -> u64 {
        let open = u128::from(self.wrong_now).wrapping_mul(u128::from(now));
        u64::try_from(self.time.wrapping_add(open)).unwrap_or(u64::MAX)
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
        self.compared = self.compared.saturating_add(other.compared);
        self.flips = self.flips.saturating_add(other.flips);
    }

    /// Returns whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        self.evaluated == 0 && self.wrong_now == 0
    }

    /// So many folios became wrong, at times with this sum.
    fn open(&mut self, folios: u64, when: u128) {
        self.episodes = self.episodes.saturating_add(folios);
        self.wrong_now = self.wrong_now.wrapping_add(folios);
        self.time = self.time.wrapping_sub(when);
    }

    /// So many folios became right, or are no longer there to be wrong about.
    ///
    /// Wrapping: it may be told before those are that became wrong.
    fn close(&mut self, folios: u64, when: u128) {
        self.wrong_now = self.wrong_now.wrapping_sub(folios);
        self.time = self.time.wrapping_add(when);
    }

    /// Starts anew; folios that are wrong stay wrong, from now on.
    fn restart(&mut self, now: u64) {
        *self = Self {
            wrong_now: self.wrong_now,
            time: u128::from(self.wrong_now)
                .wrapping_mul(u128::from(now))
                .wrapping_neg(),
            ..Self::default()
        };
    }
}

/// What holds for all pairs that are asked about every state of folios of one type and order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Group {
    /// States that were evaluated.
    evaluated: u64,
    /// States for which the kernel's answer was known, by question.
    compared: [u64; NR_QUESTIONS],
}

/// The answers of one definition to one question after one operation. Saturating.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OperationCell {
    /// States for which the question was answered; in storage as [`Cell::evaluated`].
    pub evaluated: u64,
    /// Of these: answered wrongly.
    pub wrong: u64,
    /// How often a folio went from right (or unknown) to wrong.
    pub episodes: u64,
}

impl OperationCell {
    /// Adds the cell of another shard.
    pub fn merge(&mut self, other: &OperationCell) {
        self.evaluated = self.evaluated.saturating_add(other.evaluated);
        self.wrong = self.wrong.saturating_add(other.wrong);
        self.episodes = self.episodes.saturating_add(other.episodes);
    }
}

/// Which cells a state belongs to.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Place {
    /// The type of the folio.
    pub(crate) kind: Kind,
    /// The order of the folio.
    pub(crate) order: u8,
    /// The operation that made the state.
    pub(crate) operation: Operation,
}

/// The tables of a shard, lent for an operation. All bytes zero are empty tables.
pub struct Tables<'a> {
    /// By type, order and pair: [`Tables::nr_cells`].
    pub cells: &'a mut [Cell],
    /// By type and order: [`Tables::nr_groups`].
    pub groups: &'a mut [Group],
    /// By operation and pair: [`Tables::NR_OPERATION_CELLS`].
    pub operations: &'a mut [OperationCell],
    /// States evaluated, by operation: [`NR_OPERATIONS`].
    pub operation_groups: &'a mut [u64],
    /// Evaluations whose numbers are not in the tables yet: [`crate::NR_KEPT`].
    pub kept: &'a mut [Kept],
}

/// Adds to a counter, if it is there.
#[inline]
fn bump(counter: Option<&mut u64>, times: u64) {
    if let Some(counter) = counter {
        *counter = counter.saturating_add(times);
    }
}

impl Tables<'_> {
    /// Number of cells by operation and pair.
    pub const NR_OPERATION_CELLS: usize = NR_OPERATIONS.wrapping_mul(NR_PAIRS);

    /// Returns the number of groups for folios up to this order.
    pub const fn nr_groups(max_order: u8) -> usize {
        // No widening conversion is const.
        let mut orders = 1usize;
        let mut order = 0;
        while order < max_order {
            orders = orders.wrapping_add(1);
            order = order.wrapping_add(1);
        }
        orders.wrapping_mul(TABLE_KINDS)
    }

    /// Returns the number of cells for folios up to this order.
    pub const fn nr_cells(max_order: u8) -> usize {
        Self::nr_groups(max_order).wrapping_mul(NR_PAIRS)
    }

    /// Returns the position of the group of a type and order; the last order also takes larger ones.
    #[inline]
    fn group_at(&self, kind: Kind, order: u8) -> Option<usize> {
        let kind = TABLE_KIND.iter().position(|k| *k == kind)?;
        let orders = self.groups.len().checked_div(TABLE_KINDS)?;
        let order = usize::from(order).min(orders.wrapping_sub(1));
        Some(kind.wrapping_mul(orders).wrapping_add(order))
    }

    /// Returns the cells of a type and order; those of the pairs follow each other, so that an
    /// evaluation touches adjacent memory.
    #[inline]
    fn cells_mut(&mut self, kind: Kind, order: u8) -> &mut [Cell] {
        let Some(group) = self.group_at(kind, order) else {
            return &mut [];
        };
        let start = group.wrapping_mul(NR_PAIRS);
        self.cells
            .get_mut(start..start.wrapping_add(NR_PAIRS))
            .unwrap_or_default()
    }

    /// Returns the cell of a pair (see [`PAIRS`]) for folios of a type and order, with the states
    /// that are counted for all pairs together. After [`Self::flush`] it is up to date.
    pub fn cell(&self, pair: usize, kind: Kind, order: u8) -> Cell {
        let found = || -> Option<Cell> {
            let at = self.group_at(kind, order)?;
            let group = self.groups.get(at)?;
            let mut cell = *self
                .cells
                .get(at.wrapping_mul(NR_PAIRS).wrapping_add(pair))?;
            let (_, question) = PAIRS.get(pair)?;
            if !SOMETIMES_PAIRS.contains(pair) {
                cell.evaluated = group.evaluated;
                cell.compared = *group.compared.get(question.index())?;
            }
            Some(cell)
        };
        found().unwrap_or_default()
    }

    /// Returns the cell of a pair for an operation. After [`Self::flush`] it is up to date.
    pub fn operation(&self, pair: usize, operation: Operation) -> OperationCell {
        let found = || -> Option<OperationCell> {
            let at = operation.index();
            let mut cell = *self
                .operations
                .get(at.wrapping_mul(NR_PAIRS).wrapping_add(pair))?;
            if !SOMETIMES_PAIRS.contains(pair) {
                cell.evaluated = *self.operation_groups.get(at)?;
            }
            Some(cell)
        };
        found().unwrap_or_default()
    }

    /// Returns the cells of an operation.
    #[inline]
    fn operation_mut(&mut self, operation: Operation) -> &mut [OperationCell] {
        let start = operation.index().wrapping_mul(NR_PAIRS);
        self.operations
            .get_mut(start..start.wrapping_add(NR_PAIRS))
            .unwrap_or_default()
    }

    /// Counts the verdicts on a state, which there was so many times.
    ///
    /// `state` says that it is counted as a new state; else only pairs are that are not asked about
    /// every state.
    pub(crate) fn count(&mut self, place: Place, verdicts: &Verdicts, state: bool, times: u64) {
        let Place {
            kind,
            order,
            operation,
        } = place;
        if state {
            let at = self.group_at(kind, order);
            let group = at.and_then(|at| self.groups.get_mut(at));
            bump(group.map(|group| &mut group.evaluated), times);
            bump(self.operation_groups.get_mut(operation.index()), times);
        }
        let sometimes = verdicts.asked.and(SOMETIMES_PAIRS);
        let cells = self.cells_mut(kind, order);
        for pair in sometimes.iter() {
            bump(cells.get_mut(pair).map(|cell| &mut cell.evaluated), times);
        }
        for pair in verdicts.false_yes.iter() {
            bump(cells.get_mut(pair).map(|cell| &mut cell.false_yes), times);
        }
        for pair in verdicts.false_no.iter() {
            bump(cells.get_mut(pair).map(|cell| &mut cell.false_no), times);
        }
        for pair in verdicts.unknown.iter() {
            bump(cells.get_mut(pair).map(|cell| &mut cell.unknown), times);
        }
        let cells = self.operation_mut(operation);
        for pair in sometimes.iter() {
            bump(cells.get_mut(pair).map(|cell| &mut cell.evaluated), times);
        }
        for pair in verdicts.wrong().iter() {
            bump(cells.get_mut(pair).map(|cell| &mut cell.wrong), times);
        }
    }

    /// Counts where the answers of a state, which there was so many times, differ from the
    /// kernel's, for the questions that the kernel answered.
    pub(crate) fn count_flips(&mut self, place: Place, verdicts: &Verdicts, times: u64) {
        let Place { kind, order, .. } = place;
        let wrong = verdicts.wrong();
        for ((question, pairs), kernel) in Question::ALL.iter().zip(QUESTION_PAIRS).zip(KERNEL_PAIR)
        {
            let Some(kernel) = kernel.filter(|kernel| verdicts.asked.contains(*kernel)) else {
                continue;
            };
            let at = self.group_at(kind, order);
            let group = at.and_then(|at| self.groups.get_mut(at));
            bump(
                group.and_then(|group| group.compared.get_mut(question.index())),
                times,
            );
            let asked = pairs.and(verdicts.asked).without(KERNEL_PAIRS);
            let flips = flips(asked, wrong, verdicts.unknown, kernel);
            let cells = self.cells_mut(kind, order);
            for pair in asked.and(SOMETIMES_PAIRS).iter() {
                bump(cells.get_mut(pair).map(|cell| &mut cell.compared), times);
            }
            for pair in flips.iter() {
                bump(cells.get_mut(pair).map(|cell| &mut cell.flips), times);
            }
        }
    }

    /// Notes that so many folios were answered wrongly by `old` and are by `new`, since times with
    /// this sum.
    pub(crate) fn change(
        &mut self,
        place: Place,
        old: PairSet,
        new: PairSet,
        folios: u64,
        when: u128,
    ) {
        if old == new {
            return;
        }
        let opened = new.without(old);
        let cells = self.cells_mut(place.kind, place.order);
        for pair in opened.iter() {
            if let Some(cell) = cells.get_mut(pair) {
                cell.open(folios, when);
            }
        }
        for pair in old.without(new).iter() {
            if let Some(cell) = cells.get_mut(pair) {
                cell.close(folios, when);
            }
        }
        let cells = self.operation_mut(place.operation);
        for pair in opened.iter() {
            bump(cells.get_mut(pair).map(|cell| &mut cell.episodes), folios);
        }
    }

    /// Starts all tables anew; folios that are wrong stay wrong, from now on.
    pub fn restart(&mut self, env: &impl Env) {
        let now = env.now();
        self.flush();
        for cell in &mut *self.cells {
            cell.restart(now);
        }
        self.groups.fill(Group::default());
        self.operations.fill(OperationCell::default());
        self.operation_groups.fill(0);
    }
}

/// Returns the pairs of a yes-or-no question whose answer is another than that of pair `kernel`.
pub(crate) fn flips(asked: PairSet, wrong: PairSet, unknown: PairSet, kernel: usize) -> PairSet {
    let known = asked.without(unknown);
    if wrong.contains(kernel) {
        known.without(wrong)
    } else {
        known.and(wrong)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec;

    use super::*;

    #[test]
    fn time_restarts_with_those_that_are_wrong_now() {
        let mut cell = Cell::default();
        cell.open(1, 10);
        cell.open(1, 30);
        cell.close(1, 40);
        assert_eq!(cell.wrong_time(50), 40 + 10);
        cell.restart(100);
        assert_eq!((cell.episodes, cell.wrong_now), (0, 1));
        assert_eq!(cell.wrong_time(130), 30);
        cell.close(1, 150);
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
                compared: 5 * n,
                flips: 6 * n,
                ..Cell::default()
            };
            cell.open(1, u128::from(10 * n));
            sum.merge(&cell);
        }
        let counts = [sum.evaluated, sum.false_yes, sum.false_no, sum.unknown];
        assert_eq!(counts, [6, 12, 18, 24]);
        assert_eq!((sum.compared, sum.flips), (30, 36));
        assert_eq!((sum.episodes, sum.wrong_now), (3, 3));
        assert_eq!(sum.wrong_time(100), 90 + 80 + 70);
    }

    #[test]
    fn an_answer_differs_from_the_kernels_if_one_of_both_is_wrong() {
        let set = |pairs: &[usize]| pairs.iter().fold(PairSet::new(), |s, p| s.with(*p));
        let (asked, unknown) = (set(&[1, 2, 3]), set(&[3]));
        // Pair 9 is the kernel's.
        assert_eq!(flips(asked, set(&[2]), unknown, 9), set(&[2]));
        assert_eq!(flips(asked, set(&[2, 9]), unknown, 9), set(&[1]));
    }

    #[test]
    fn cells_of_types_and_orders_are_distinct() {
        let max_order = 5;
        let mut cells = vec![Cell::default(); Tables::nr_cells(max_order)];
        let mut groups = vec![Group::default(); Tables::nr_groups(max_order)];
        let mut operations = vec![OperationCell::default(); Tables::NR_OPERATION_CELLS];
        let mut tables = Tables {
            cells: &mut cells,
            groups: &mut groups,
            operations: &mut operations,
            operation_groups: &mut [0; NR_OPERATIONS],
            kept: &mut [],
        };
        for kind in TABLE_KIND {
            for order in 0..=max_order {
                let slots = tables.cells_mut(kind, order);
                assert_eq!(slots.len(), NR_PAIRS);
                for cell in slots {
                    cell.episodes += 1;
                }
            }
        }
        assert!(tables.cells_mut(Kind::Ksm, 1).is_empty());
        assert!(cells.iter().all(|cell| cell.episodes == 1));
    }
}
