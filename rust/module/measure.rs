// SPDX-License-Identifier: GPL-2.0

//! How long preemption is off, and who waits for a lock, see `measure.c`.
//!
//! Measured is only in a debug build (`FMI_MEASURE=y`); otherwise nothing of it is left.

use kernel::sync::{
    SpinLock,
    SpinLockGuard, //
};

/// What keeps preemption off, from its beginning to its end.
#[cfg_attr(not(fmi_measure), expect(dead_code, reason = "nobody looks"))]
#[derive(Clone, Copy)]
pub(crate) enum Step {
    /// The hook on an rmap function.
    Rmap,
    /// The probe on a tracepoint.
    Trace,
    /// The hook at the entry of a function of `RareCall::NAMES`.
    Entry(usize),
    /// The hook at its exit.
    Exit(usize),
    /// The hook on a function of `ProgressCall::NAMES`.
    Progress(usize),
    /// What runs while the machine is stopped.
    Stopped,
    /// Under the lock of a shard: about one folio.
    Folio,
    /// About a question of the kernel.
    Asked,
    /// About a number of folios.
    Part,
    /// A reader or a switch, about all of the shard.
    Shard,
    /// Evaluations are brought into the tables.
    Flush,
    /// All folios are forgotten.
    Forget,
    /// Under another lock of ours.
    Other,
}

/// Which locks are counted together.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// A shard of the table.
    Shard,
    /// Open windows.
    Windows,
    /// Calls between their two hooks.
    Marks,
}

#[cfg(not(fmi_measure))]
mod measured {
    use super::*;

    /// Nothing.
    pub(crate) struct Timer;

    /// Does nothing.
    #[inline]
    pub(crate) fn step(_step: Step) -> Timer {
        Timer
    }

    /// A lock that is held.
    pub(crate) type Locked<'a, T> = SpinLockGuard<'a, T>;

    /// Takes a lock.
    #[inline]
    pub(crate) fn lock<T>(lock: &SpinLock<T>, _kind: Kind, _step: Step) -> Locked<'_, T> {
        lock.lock()
    }
}

#[cfg(fmi_measure)]
mod measured {
    use core::{
        ops::{
            Deref,
            DerefMut, //
        },
        panic::Location,
        ptr, //
    };

    use kernel::{
        prelude::*,
        seq_file::SeqFile,
        seq_print, //
    };

    use super::*;
    use crate::{
        hook::args::{
            ProgressCall,
            RareCall, //
        },
        raw, //
    };

    const NAMES: [&str; 11] = [
        "page_table",
        "rmap",
        "trace",
        "stopped",
        "folio",
        "asked",
        "part",
        "shard",
        "flush",
        "forget",
        "other",
    ];

    const LOCKS: [&str; 3] = ["shard", "windows", "marks"];

    impl Step {
        fn index(self) -> u32 {
            let index = match self {
                Self::Rmap => 1,
                Self::Trace => 2,
                Self::Stopped => 3,
                Self::Folio => 4,
                Self::Asked => 5,
                Self::Part => 6,
                Self::Shard => 7,
                Self::Flush => 8,
                Self::Forget => 9,
                Self::Other => 10,
                Self::Entry(position) => NAMES.len() + position,
                Self::Exit(position) => NAMES.len() + RareCall::NAMES.len() + position,
                Self::Progress(position) => NAMES.len() + 2 * RareCall::NAMES.len() + position,
            };
            index as u32
        }
    }

    /// A step that is not over; dropping it ends it.
    pub(crate) struct Timer {
        timer: raw::fmi_timer,
        kind: Step,
        place: &'static Location<'static>,
    }

    /// Begins a step; preemption must be off until it is over.
    #[track_caller]
    pub(crate) fn step(kind: Step) -> Timer {
        let mut timer = raw::fmi_timer::default();
        // SAFETY: `timer` is valid.
        unsafe { raw::fmi_timer_begin(&mut timer) };
        Timer {
            timer,
            kind,
            place: Location::caller(),
        }
    }

    impl Drop for Timer {
        fn drop(&mut self) {
            let place = ptr::from_ref(self.place).expose_provenance();
            // SAFETY: `timer` is valid.
            unsafe { raw::fmi_timer_end(&self.timer, self.kind.index(), place) };
        }
    }

    /// A lock that is held.
    pub(crate) struct Locked<'a, T> {
        /// Dropped before the guard.
        _timer: Timer,
        guard: SpinLockGuard<'a, T>,
    }

    impl<T> Deref for Locked<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.guard
        }
    }

    impl<T: Unpin> DerefMut for Locked<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.guard
        }
    }

    /// Takes a lock.
    #[track_caller]
    pub(crate) fn lock<T>(lock: &SpinLock<T>, kind: Kind, what: Step) -> Locked<'_, T> {
        let (guard, waited) = match lock.try_lock() {
            Some(guard) => (guard, false),
            None => (lock.lock(), true),
        };
        // SAFETY: An index of `LOCKS`; the lock keeps the caller on its CPU, whose number it is.
        unsafe { raw::fmi_lock_taken(kind as u32, waited) };
        Locked {
            _timer: step(what),
            guard,
        }
    }

    fn show_steps(m: &SeqFile, index: usize, kind: &str, name: &str) {
        let mut sum = raw::fmi_timers::default();
        // SAFETY: `sum` is valid.
        unsafe { raw::fmi_timers_sum(index as u32, &mut sum) };
        if sum.times == 0 {
            return;
        }
        let (longest, times, interrupted) = (sum.longest, sum.times, sum.interrupted);
        let place = ptr::with_exposed_provenance::<Location<'static>>(sum.place);
        // SAFETY: Null, or what `Timer::drop()` gave.
        let (file, line) = unsafe { place.as_ref() }.map_or(("-", 0), |p| (p.file(), p.line()));
        seq_print!(
            m,
            "longest_{kind}{name}: {longest} ns, {times} times, {interrupted} interrupted, {file}:{line}\n"
        );
    }

    /// Prints the longest steps, and how often somebody waited for a lock.
    pub(crate) fn show(m: &SeqFile) {
        for (i, name) in NAMES.iter().enumerate() {
            show_steps(m, i, "", name);
        }
        let hooks: [(&str, &[&CStr]); 3] = [
            ("entry_", RareCall::NAMES),
            ("exit_", RareCall::NAMES),
            ("progress_", ProgressCall::NAMES),
        ];
        let mut index = NAMES.len();
        for (kind, names) in hooks {
            for name in names {
                show_steps(m, index, kind, name.to_str().unwrap_or("?"));
                index += 1;
            }
        }
        for (i, name) in LOCKS.iter().enumerate() {
            let mut sum = raw::fmi_locks::default();
            // SAFETY: `sum` is valid.
            unsafe { raw::fmi_locks_sum(i as u32, &mut sum) };
            let (times, waited) = (sum.times, sum.waited);
            seq_print!(m, "lock_{name}: {times} times, {waited} waited\n");
        }
    }

    /// Begins anew.
    pub(crate) fn reset() {
        // SAFETY: Takes no pointer; the numbers are always there.
        unsafe { raw::fmi_measure_reset() };
    }
}

pub(crate) use measured::*;
