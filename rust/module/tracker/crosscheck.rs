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

/// Most calls between their two hooks: one for each CPU, and what was left over.
const MAX_MARKS: usize = 1024;

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

struct Marks {
    list: KVVec<Mark>,
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

    /// Leaves a mark; returns one that had to go for it.
    fn leave(&mut self, task: usize, function: usize, mm: usize) -> Option<Mark> {
        let oldest = (self.list.len() >= MAX_MARKS).then(|| {
            let marks = self.list.iter().enumerate();
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
}

/// The marks that the hooks leave each other.
#[pin_data]
pub(crate) struct Crosscheck {
    #[pin]
    marks: SpinLock<Marks>,
    /// Number of marks, for a look without the lock.
    nr: Atomic<usize>,
    /// The hook with exit runs first: it was seen to.
    exit_first: Atomic<bool>,
    missed: Atomic<u64>,
}

impl Crosscheck {
    /// Creates it without marks.
    pub(super) fn new() -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(|| {
            let list = KVVec::with_capacity(MAX_MARKS, GFP_KERNEL)?;
            Ok(try_pin_init!(Self {
                marks <- new_spinlock!(Marks { list, last_seq: 0 }),
                nr: Atomic::new(0),
                exit_first: Atomic::new(false),
                missed: Atomic::new(0),
            } ? Error))
        })
    }

    /// The hook with exit sees a call of this function. Returns the MM of an earlier call of the task
    /// that it did not see.
    pub(super) fn with_exit(&self, task: usize, function: usize) -> Option<usize> {
        let mut marks = self.marks.lock();
        let earlier = marks.take(task);
        let matched = earlier.is_some_and(|mark| mark.mm != 0 && mark.function == function);
        if matched {
            self.exit_first.store(false, Relaxed);
        }
        let gone = if matched {
            None
        } else {
            marks.leave(task, function, 0)
        };
        self.nr.store(marks.list.len(), Relaxed);
        let missed = earlier.filter(|_| !matched).or(gone);
        self.count(missed)
    }

    /// The hook with exit sees a checked call return.
    ///
    /// If the other hook did not come after it, it came before, or not at all: nothing is known at once
    /// until it comes after it again.
    pub(super) fn returns(&self, task: usize) {
        if self.nr.load(Relaxed) == 0 {
            return;
        }
        let mut marks = self.marks.lock();
        let mut ours = marks.list.iter();
        if let Some(at) = ours.position(|mark| mark.task == task && mark.mm == 0) {
            marks.remove(at);
            self.exit_first.store(false, Relaxed);
        }
        self.nr.store(marks.list.len(), Relaxed);
    }

    /// The other hook sees a call of this function, about this MM.
    pub(super) fn at_entry(&self, task: usize, function: usize, mm: usize) -> Found {
        let mut marks = self.marks.lock();
        let earlier = marks.take(task);
        let matched = earlier.is_some_and(|mark| mark.mm == 0 && mark.function == function);
        let mut found = Found::default();
        if matched {
            self.exit_first.store(true, Relaxed);
        } else {
            let gone = if self.exit_first.load(Relaxed) {
                found.missed = true;
                self.missed.fetch_add(1, Relaxed);
                None
            } else {
                marks.leave(task, function, mm)
            };
            found.earlier = self.count(earlier.or(gone));
        }
        self.nr.store(marks.list.len(), Relaxed);
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
    pub(super) fn unsettled(&self) -> Option<u64> {
        (self.nr.load(Relaxed) != 0).then(|| self.marks.lock().last_seq)
    }

    /// Returns the MM of a call that was missed, of those up to `seq`; more may follow.
    pub(super) fn settle(&self, seq: u64) -> Option<usize> {
        let mut marks = self.marks.lock();
        let mut old = marks.list.iter();
        let at = old.position(|mark| mark.mm != 0 && mark.seq <= seq)?;
        let mark = marks.remove(at);
        self.nr.store(marks.list.len(), Relaxed);
        self.count(mark)
    }

    /// Forgets all marks, and which hook is first; while no call is between its hooks.
    pub(super) fn clear(&self) {
        self.marks.lock().list.truncate(0);
        self.nr.store(0, Relaxed);
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

    fn crosscheck() -> Result<Pin<KBox<Crosscheck>>> {
        KBox::pin_init(Crosscheck::new(), GFP_KERNEL)
    }

    #[test]
    fn both_hooks_in_either_order() -> Result {
        let check = crosscheck()?;
        for _ in 0..2 {
            assert_eq!(check.with_exit(5, FORK), None);
            let found = check.at_entry(5, FORK, 1);
            assert!(!found.missed && found.earlier.is_none());
            check.returns(5);
        }
        check.clear();
        for _ in 0..2 {
            let found = check.at_entry(5, FORK, 1);
            assert!(!found.missed && found.earlier.is_none());
            assert_eq!(check.with_exit(5, FORK), None);
            check.returns(5);
        }
        assert_eq!(check.unsettled(), None);
        assert_eq!(check.missed(), 0);
        Ok(())
    }

    #[test]
    fn missed_call_is_known_at_once() -> Result {
        let check = crosscheck()?;
        assert_eq!(check.with_exit(5, FORK), None);
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
        assert_eq!(check.with_exit(6, MOVE), None);
        assert_eq!(check.with_exit(5, FORK), Some(8));
        assert_eq!(check.missed(), 2);
        Ok(())
    }

    #[test]
    fn missed_call_is_settled() -> Result {
        let check = crosscheck()?;
        check.at_entry(5, FORK, 7);
        let seq = check.unsettled().ok_or(ENOENT)?;
        check.at_entry(6, FORK, 8);
        assert_eq!(check.settle(seq), Some(7));
        assert_eq!(check.settle(seq), None);
        assert_eq!(check.missed(), 1);
        assert!(check.unsettled().is_some());
        check.clear();
        assert_eq!(check.unsettled(), None);
        Ok(())
    }

    #[test]
    fn without_room_the_oldest_mark_goes() -> Result {
        let check = crosscheck()?;
        for task in 0..MAX_MARKS {
            assert_eq!(check.at_entry(task, FORK, task + 1).earlier, None);
        }
        assert_eq!(check.at_entry(MAX_MARKS, FORK, 5000).earlier, Some(1));
        assert_eq!(check.with_exit(MAX_MARKS + 1, FORK), Some(2));
        assert_eq!(check.missed(), 2);
        // Of the first two nothing is known any more.
        assert_eq!(check.with_exit(0, FORK), Some(3));
        Ok(())
    }
}
