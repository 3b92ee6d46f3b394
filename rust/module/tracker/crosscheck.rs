// SPDX-License-Identifier: GPL-2.0

//! Calls that one of two hooks on the same function did not see.
//!
//! Hooks with exit depend on much that may fail unseen: the task's shadow stack may be missing or
//! full, the tracer of function graphs stopped. The functions that they are on have a second hook, at
//! entry only, by another mechanism. Both run one after the other when a function is entered, with
//! preemption off between them; a call that only the second one sees was missed.
//!
//! Which of them runs first is decided by the order in which the kernel placed them. Normally
//! the hook with exit is first, and the other one knows at once. If it is not (somebody else traced
//! function graphs before), a call is known to be missed when the same task makes the next one, or
//! when a grace period has passed.
//!
//! Calls of `vma_adjust_trans_huge()`, which open no window, leave another mark until their exit is seen:
//! if it is still there when the task makes the next call, or is gone, the exit was missed.
//!
//! Marks are kept by task, so that tasks do not wait for each other.

use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        SpinLock, //
    }, //
};

use crate::measure::{
    self,
    Step, //
};

/// Number of lists: enough that two CPUs seldom want the same one.
const NR_LISTS: usize = 16;

/// Most calls between their two hooks in a list: one for each CPU, and what was left over.
const MAX_MARKS: usize = 128;

/// One hook was here, the other not yet.
#[derive(Clone, Copy)]
struct Mark {
    task: usize,
    /// Position of the function in `RareCall::NAMES`.
    function: usize,
    /// The MM concerned; 0 if the hook with exit was here.
    mm: usize,
    seq: u64,
}

/// A call whose exit was not seen yet.
#[derive(Clone, Copy)]
struct Open {
    task: usize,
    /// The MM concerned.
    mm: usize,
    seq: u64,
}

/// The marks of some tasks.
struct Marks {
    list: KVVec<Mark>,
    open: KVVec<Open>,
    last_seq: u64,
}

impl Marks {
    /// Takes the mark of a task.
    fn take(&mut self, task: usize) -> Option<Mark> {
        let at = self.list.iter().position(|mark| mark.task == task)?;
        self.remove(at)
    }

    fn remove(&mut self, at: usize) -> Option<Mark> {
        let mark = *self.list.get(at)?;
        let last = self.list.len().saturating_sub(1);
        self.list.swap(at, last);
        self.list.truncate(last);
        Some(mark)
    }

    /// Takes the call that a task has not returned from; returns the MM.
    fn take_open(&mut self, task: usize) -> Option<usize> {
        self.take_first(|open| open.task == task)
    }

    fn take_first(&mut self, is_it: impl Fn(&Open) -> bool) -> Option<usize> {
        let at = self.open.iter().position(is_it)?;
        let open = *self.open.get(at)?;
        let last = self.open.len().saturating_sub(1);
        self.open.swap(at, last);
        self.open.truncate(last);
        Some(open.mm)
    }

    /// Notes a call that a task has to return from; returns the MM of one that had to go for it.
    fn open(&mut self, task: usize, mm: usize) -> Option<usize> {
        let full = self.open.len() >= MAX_MARKS;
        let oldest = self.open.iter().map(|open| open.seq).min();
        let gone = oldest
            .filter(|_| full)
            .and_then(|seq| self.take_first(|open| open.seq == seq));
        self.last_seq = self.last_seq.wrapping_add(1);
        let seq = self.last_seq;
        // Cannot fail: there is room, nothing is allocated.
        let _ = self.open.push(Open { task, mm, seq }, GFP_NOWAIT);
        gone
    }

    /// Leaves a mark; returns one that had to go for it.
    fn leave(&mut self, task: usize, function: usize, mm: usize) -> Option<Mark> {
        let oldest = (self.list.len() >= MAX_MARKS).then(|| {
            let marks = (0..MAX_MARKS).zip(self.list.iter());
            let oldest = marks.min_by_key(|(_, mark)| mark.seq);
            oldest.map_or(0, |(at, _)| at)
        });
        let gone = oldest.and_then(|at| self.remove(at));
        self.last_seq = self.last_seq.wrapping_add(1);
        let mark = Mark {
            task,
            function,
            mm,
            seq: self.last_seq,
        };
        // Cannot fail: there is room, nothing is allocated.
        let _ = self.list.push(mark, GFP_NOWAIT);
        gone
    }
}

/// What the entry hook finds.
#[derive(Default)]
pub(super) struct Found {
    /// The hook with exit did not see this call.
    pub(super) missed: bool,
    /// The MM of an earlier call that it did not see.
    pub(super) earlier: Option<usize>,
    /// The MM of an earlier call whose exit it did not see.
    pub(super) unfinished: Option<usize>,
}

/// A list of marks.
#[pin_data]
struct List {
    #[pin]
    marks: SpinLock<Marks>,
    /// Number of marks, for a look without the lock.
    nr: Atomic<usize>,
    /// Number of calls whose exit was not seen, likewise.
    nr_open: Atomic<usize>,
}

impl List {
    fn new() -> Result<Pin<KBox<Self>>> {
        let list = KVVec::with_capacity(MAX_MARKS, GFP_KERNEL)?;
        let open = KVVec::with_capacity(MAX_MARKS, GFP_KERNEL)?;
        KBox::pin_init(
            pin_init!(Self {
                marks <- new_spinlock!(Marks { list, open, last_seq: 0 }),
                nr: Atomic::new(0),
                nr_open: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// Calls `f` with the marks under their lock.
    fn with<R>(&self, f: impl FnOnce(&mut Marks) -> R) -> R {
        let mut marks = measure::lock(&self.marks, measure::Kind::Marks, Step::Other);
        let result = f(&mut marks);
        self.nr.store(marks.list.len(), Relaxed);
        self.nr_open.store(marks.open.len(), Relaxed);
        result
    }
}

/// Which list the marks of a task are in.
fn list_of(task: usize) -> usize {
    let hash = (task as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash >> (u64::BITS - NR_LISTS.ilog2())) as usize
}

/// The last marks that were made, of each list.
pub(super) struct Sequence([u64; NR_LISTS]);

/// The marks that the hooks leave each other.
#[pin_data]
pub(crate) struct Crosscheck {
    lists: KVec<Pin<KBox<List>>>,
    /// The hook with exit runs first: it was seen to. Written only if it was not known.
    exit_first: Atomic<bool>,
    missed: Atomic<u64>,
}

impl Crosscheck {
    /// Creates it without marks.
    pub(super) fn new() -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(|| {
            let mut lists = KVec::with_capacity(NR_LISTS, GFP_KERNEL)?;
            for _ in 0..NR_LISTS {
                lists.push(List::new()?, GFP_KERNEL)?;
            }
            Ok(try_pin_init!(Self {
                lists,
                exit_first: Atomic::new(false),
                missed: Atomic::new(0),
            } ? Error))
        })
    }

    /// Returns the list of a task. There always is one.
    fn list(&self, task: usize) -> Option<&List> {
        self.lists.get(list_of(task)).map(|list| &**list)
    }

    fn set_exit_first(&self, first: bool) {
        if self.exit_first.load(Relaxed) != first {
            self.exit_first.store(first, Relaxed);
        }
    }

    /// The hook with exit sees a call of this function; `opens` is the MM of one that is to be seen to
    /// return. Returns what was found out about earlier calls of the task.
    pub(super) fn with_exit(&self, task: usize, function: usize, opens: Option<usize>) -> Found {
        let mut found = Found::default();
        let Some(list) = self.list(task) else {
            return found;
        };
        let left = list.with(|marks| {
            found.unfinished = marks.take_open(task);
            if let Some(gone) = opens.and_then(|mm| marks.open(task, mm)) {
                found.unfinished.get_or_insert(gone);
            }
            let earlier = marks.take(task);
            if earlier.is_some_and(|mark| mark.mm != 0 && mark.function == function) {
                self.set_exit_first(false);
                return None;
            }
            let gone = marks.leave(task, function, 0);
            earlier.or(gone)
        });
        found.earlier = self.count(left);
        found
    }

    /// The hook with exit sees a checked call return.
    ///
    /// If the other hook did not come after it, it came before, or not at all: nothing is known at once
    /// until it comes after it again.
    pub(super) fn returns(&self, task: usize) {
        let idle = |list: &&List| list.nr.load(Relaxed) == 0 && list.nr_open.load(Relaxed) == 0;
        let Some(list) = self.list(task).filter(|list| !idle(list)) else {
            return;
        };
        list.with(|marks| {
            marks.take_open(task);
            let mut ours = marks.list.iter();
            if let Some(at) = ours.position(|mark| mark.task == task && mark.mm == 0) {
                marks.remove(at);
                self.set_exit_first(false);
            }
        });
    }

    /// The other hook sees a call of this function, about this MM.
    pub(super) fn at_entry(&self, task: usize, function: usize, mm: usize) -> Found {
        let mut found = Found::default();
        let Some(list) = self.list(task) else {
            return found;
        };
        let left = list.with(|marks| {
            let earlier = marks.take(task);
            if earlier.is_some_and(|mark| mark.mm == 0 && mark.function == function) {
                self.set_exit_first(true);
                return None;
            }
            let gone = if self.exit_first.load(Relaxed) {
                found.missed = true;
                found.unfinished = marks.take_open(task);
                self.missed.fetch_add(1, Relaxed);
                None
            } else {
                marks.leave(task, function, mm)
            };
            earlier.or(gone)
        });
        found.earlier = self.count(left);
        found
    }

    /// Counts a mark that was left over, if it is of a call that was missed; returns the MM.
    fn count(&self, mark: Option<Mark>) -> Option<usize> {
        let mm = mark.map(|mark| mark.mm).filter(|mm| *mm != 0)?;
        self.missed.fetch_add(1, Relaxed);
        Some(mm)
    }

    /// Returns what to give to [`Self::settle`] after a grace period; `None` if there is nothing to
    /// settle.
    pub(super) fn unsettled(&self) -> Option<Sequence> {
        if self.lists.iter().all(|list| list.nr.load(Relaxed) == 0) {
            return None;
        }
        let mut last = [0; NR_LISTS];
        for (last, list) in last.iter_mut().zip(&self.lists) {
            *last = list.with(|marks| marks.last_seq);
        }
        Some(Sequence(last))
    }

    /// Returns the MM of a call that was missed, of those up to `last`; more may follow.
    pub(super) fn settle(&self, last: &Sequence) -> Option<usize> {
        let mut lists = self.lists.iter().zip(last.0);
        let mark = lists.find_map(|(list, seq)| {
            list.with(|marks| {
                let mut old = marks.list.iter();
                let at = old.position(|mark| mark.mm != 0 && mark.seq <= seq)?;
                marks.remove(at)
            })
        });
        self.count(mark)
    }

    /// Returns the MM of a call whose exit was missed, of a task for which `exists` does not hold; more may
    /// follow. `exists` may sleep.
    pub(super) fn gone(&self, exists: impl Fn(usize) -> bool) -> Option<usize> {
        for list in &self.lists {
            let mut at = 0;
            while let Some(open) = list.with(|marks| marks.open.get(at).copied()) {
                if !exists(open.task) {
                    // Unless it has gone meanwhile.
                    let taken = list.with(|marks| marks.take_first(|o| o.seq == open.seq));
                    if taken.is_some() {
                        return taken;
                    }
                }
                at = at.saturating_add(1);
            }
        }
        None
    }

    /// Forgets all marks, and which hook is first; while no call is between its hooks.
    pub(crate) fn clear(&self) {
        for list in &self.lists {
            list.with(|marks| {
                marks.list.truncate(0);
                marks.open.truncate(0);
            });
        }
        self.exit_first.store(false, Relaxed);
    }

    /// Returns how many calls were missed.
    pub(crate) fn missed(&self) -> u64 {
        self.missed.load(Relaxed)
    }

    /// Sets the count to zero.
    pub(super) fn reset(&self) {
        self.missed.store(0, Relaxed);
    }
}

#[kunit_tests(fmi_crosscheck)]
mod tests {
    use super::*;

    const FORK: usize = 0;
    const MOVE: usize = 2;
    const ADJUST: usize = 4;

    fn crosscheck() -> Result<Pin<KBox<Crosscheck>>> {
        KBox::pin_init(Crosscheck::new(), GFP_KERNEL)
    }

    #[test]
    fn both_hooks_in_either_order() -> Result {
        let check = crosscheck()?;
        for _ in 0..2 {
            assert_eq!(check.with_exit(5, FORK, None).earlier, None);
            let found = check.at_entry(5, FORK, 1);
            assert!(!found.missed && found.earlier.is_none());
            check.returns(5);
        }
        check.clear();
        for _ in 0..2 {
            let found = check.at_entry(5, FORK, 1);
            assert!(!found.missed && found.earlier.is_none());
            assert_eq!(check.with_exit(5, FORK, None).earlier, None);
            check.returns(5);
        }
        assert!(check.unsettled().is_none());
        assert_eq!(check.missed(), 0);
        Ok(())
    }

    #[test]
    fn missed_call_is_known_at_once() -> Result {
        let check = crosscheck()?;
        assert_eq!(check.with_exit(5, FORK, None).earlier, None);
        assert!(!check.at_entry(5, FORK, 1).missed);
        check.returns(5);
        assert!(check.at_entry(5, MOVE, 1).missed);
        assert!(check.at_entry(6, MOVE, 2).missed);
        assert_eq!(check.missed(), 2);
        check.reset();
        assert_eq!(check.missed(), 0);
        Ok(())
    }

    #[test]
    fn missed_call_is_known_by_the_next() -> Result {
        let check = crosscheck()?;
        assert!(!check.at_entry(5, FORK, 7).missed);
        // Another function of the same task, and another task.
        let found = check.at_entry(5, MOVE, 8);
        assert!(!found.missed);
        assert_eq!(found.earlier, Some(7));
        assert_eq!(check.with_exit(6, MOVE, None).earlier, None);
        assert_eq!(check.with_exit(5, FORK, None).earlier, Some(8));
        assert_eq!(check.missed(), 2);
        Ok(())
    }

    #[test]
    fn missed_call_is_settled() -> Result {
        let check = crosscheck()?;
        check.at_entry(5, FORK, 7);
        let seq = check.unsettled().ok_or(ENOENT)?;
        check.at_entry(6, FORK, 8);
        assert_eq!(check.settle(&seq), Some(7));
        assert_eq!(check.settle(&seq), None);
        assert_eq!(check.missed(), 1);
        assert!(check.unsettled().is_some());
        check.clear();
        assert!(check.unsettled().is_none());
        Ok(())
    }

    #[test]
    fn without_room_the_oldest_mark_goes() -> Result {
        let check = crosscheck()?;
        // Tasks of one list.
        let mut tasks = (0..).filter(|task| list_of(*task) == list_of(0));
        let mut task = || tasks.next().ok_or(ENOENT);
        let (first, second) = (task()?, task()?);
        check.at_entry(first, FORK, 1);
        check.at_entry(second, FORK, 2);
        for mm in 3..=MAX_MARKS {
            assert_eq!(check.at_entry(task()?, FORK, mm).earlier, None);
        }
        assert_eq!(check.at_entry(task()?, FORK, 5000).earlier, Some(1));
        assert_eq!(check.with_exit(task()?, FORK, None).earlier, Some(2));
        assert_eq!(check.missed(), 2);
        // Of the first two nothing is known any more.
        assert_eq!(check.with_exit(first, FORK, None).earlier, Some(3));
        Ok(())
    }

    #[test]
    fn tasks_of_another_list_have_room() -> Result {
        let check = crosscheck()?;
        let ours = (0..).filter(|task| list_of(*task) == list_of(0));
        for (task, mm) in ours.zip(1..=MAX_MARKS) {
            check.at_entry(task, FORK, mm);
        }
        let mut others = (0..).filter(|task| list_of(*task) != list_of(0));
        let other = others.next().ok_or(ENOENT)?;
        assert_eq!(check.at_entry(other, FORK, 5000).earlier, None);
        assert_eq!(check.missed(), 0);
        // All of them are settled.
        let seq = check.unsettled().ok_or(ENOENT)?;
        let mut settled = 0;
        while check.settle(&seq).is_some() {
            settled += 1;
        }
        assert_eq!(settled, MAX_MARKS + 1);
        assert!(check.unsettled().is_none());
        Ok(())
    }

    #[test]
    fn missed_exit_is_known_by_the_next_call_or_when_the_task_is_gone() -> Result {
        let check = crosscheck()?;
        assert_eq!(check.with_exit(5, ADJUST, Some(7)).unfinished, None);
        assert!(!check.at_entry(5, ADJUST, 7).missed);
        check.returns(5);
        assert_eq!(check.with_exit(5, ADJUST, Some(7)).unfinished, None);
        check.at_entry(5, ADJUST, 7);
        // Of another task nothing is known.
        assert_eq!(check.with_exit(6, ADJUST, Some(8)).unfinished, None);
        assert_eq!(check.with_exit(5, FORK, None).unfinished, Some(7));
        assert_eq!(check.with_exit(5, FORK, None).unfinished, None);
        assert_eq!(check.gone(|task| task == 6), None);
        assert_eq!(check.gone(|task| task != 6), Some(8));
        assert_eq!(check.gone(|task| task != 6), None);
        Ok(())
    }

    #[test]
    fn without_room_the_oldest_open_call_goes() -> Result {
        let check = crosscheck()?;
        let mut tasks = (0..).filter(|task| list_of(*task) == list_of(0));
        let mut task = || tasks.next().ok_or(ENOENT);
        let second = {
            check.with_exit(task()?, ADJUST, Some(1));
            task()?
        };
        for mm in 2..=MAX_MARKS {
            let task = if mm == 2 { second } else { task()? };
            assert_eq!(check.with_exit(task, ADJUST, Some(mm)).unfinished, None);
            check.at_entry(task, ADJUST, mm);
        }
        // The last takes the place of one that returns.
        check.returns(second);
        assert_eq!(check.with_exit(second, ADJUST, Some(2)).unfinished, None);
        for (mm, gone) in [(5000, 1), (5001, 3)] {
            let found = check.with_exit(task()?, ADJUST, Some(mm));
            assert_eq!(found.unfinished, Some(gone));
        }
        Ok(())
    }

    #[test]
    fn call_that_is_missed_ends_the_one_before() -> Result {
        let check = crosscheck()?;
        check.with_exit(5, ADJUST, Some(7));
        assert_eq!(check.at_entry(5, ADJUST, 7).unfinished, None);
        let found = check.at_entry(5, ADJUST, 7);
        assert!(found.missed);
        assert_eq!(found.unfinished, Some(7));
        Ok(())
    }
}
