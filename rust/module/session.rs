// SPDX-License-Identifier: GPL-2.0

//! Tracking on and off.
//!
//! Enabling: storage, then the hooks or probes of the backend, those that open and close windows first; their calls
//! are not yet taken. Then everything that began without them is waited for: rmap calls by a grace
//! period, forks and mremaps by taking the mmap lock of every MM once. At last the calls are let
//! through at a moment at which none is running, so that no folio is tracked from the middle of a
//! call.

use core::mem::size_of_val;

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    }, //
};

use crate::{
    backend::Hooks,
    both::Both,
    check,
    class,
    env::ram_bytes,
    operation,
    quiesce,
    scan::Scan,
    tracker::Tracker, //
};

/// Smallest bound of the shadow's memory.
const MIN_BYTES: usize = 8 << 20;

/// The shadow's share of memory if no bound is given.
const RAM_SHARE: usize = 256;

/// Least and largest bound that may be asked for; of the latter no array reaches 2 GiB.
const BOUNDS: core::ops::RangeInclusive<usize> = 256 << 10..=16 << 30;

/// Returns the bound of the shadow's memory in bytes for the module parameter `mem_kb`.
///
/// # Errors
///
/// `EINVAL` if it is too small to track anything, more than half of the machine's memory, or more than 16 GiB.
pub(crate) fn bound(mem_kb: u64) -> Result<usize> {
    if mem_kb == 0 {
        return Ok((ram_bytes() / RAM_SHARE).clamp(MIN_BYTES, *BOUNDS.end()));
    }
    let bytes = usize::try_from(mem_kb)
        .ok()
        .and_then(|kb| kb.checked_mul(1024));
    bytes
        .filter(|bytes| BOUNDS.contains(bytes) && *bytes <= ram_bytes() / 2)
        .ok_or(EINVAL)
}

struct State {
    /// Those of the first shadow; without them tracking is off.
    hooks: Option<Hooks>,
    /// Those of the second shadow, if there is one.
    second: Option<Hooks>,
    /// What earlier hooks missed since the last reset.
    missed: u64,
    /// What the present hooks had missed at the last reset.
    missed_before: u64,
}

impl State {
    /// Returns what the present hooks have missed.
    fn missed_now(&self) -> u64 {
        let hooks = [&self.hooks, &self.second];
        let missed = hooks.into_iter().flatten().map(Hooks::missed);
        missed.fold(0, u64::saturating_add)
    }
}

/// The switch.
#[pin_data]
pub(crate) struct Session {
    tracker: Arc<Tracker>,
    bytes: usize,
    #[pin]
    state: Mutex<State>,
    #[pin]
    scan: Scan,
    /// The second shadow, if both backends are in use.
    #[pin]
    both: Both,
    #[pin]
    second_scan: Scan,
    /// Held by the one that scans, for the first and for the second.
    #[pin]
    scanning: Mutex<()>,
    /// Scan when tracking is switched on.
    scans: bool,
}

impl Session {
    /// Creates a session that is off; `bytes` bounds the shadow's memory, see [`bound`]; `scans`: what
    /// is mapped already is looked for when tracking is switched on.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(
        tracker: Arc<Tracker>,
        second: Option<Arc<Tracker>>,
        bytes: usize,
        scans: bool,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            tracker,
            bytes,
            state <- new_mutex!(State {
                hooks: None,
                second: None,
                missed: 0,
                missed_before: 0,
            }),
            scan <- Scan::new(),
            both <- Both::new(second),
            second_scan <- Scan::new(),
            scanning <- new_mutex!(()),
            scans,
        } ? Error)
    }

    /// Returns shadow and windows.
    pub(crate) fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    /// Returns whether tracking is on.
    pub(crate) fn enabled(&self) -> bool {
        self.state.lock().hooks.is_some()
    }

    /// Returns the scan.
    pub(crate) fn scan(&self) -> &Scan {
        &self.scan
    }

    /// Returns the comparison of both shadows.
    pub(crate) fn both(&self) -> &Both {
        &self.both
    }

    /// Looks once more for what is mapped and not tracked. Waits for another one that does.
    ///
    /// # Errors
    ///
    /// `ENODEV` if tracking is off; see [`Scan::run`].
    pub(crate) fn rescan(&self) -> Result {
        let _scanning = self.scanning.lock();
        // From here on it is about this session: it ends with it, whatever comes after.
        let session = {
            let state = self.state.lock();
            if state.hooks.is_none() {
                return Err(ENODEV);
            }
            self.both.set_alike(false);
            self.tracker.session()
        };
        let first = self.scan.run(&self.tracker, session);
        // Even if that has failed: each has what it has found.
        let result = match self.both.second() {
            Some(second) => first.and(self.second_scan.run(second, session)),
            None => first,
        };
        let state = self.state.lock();
        if state.hooks.is_some() && self.tracker.session() == session {
            self.both.set_alike(result.is_ok());
        }
        result
    }

    /// Switches tracking on, and scans. May take seconds: it waits for other tasks.
    ///
    /// If the scan fails, tracking is on all the same.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; what ftrace says if a function cannot be hooked. Nothing is changed then.
    pub(crate) fn enable(&self) -> Result {
        if self.switch_on()? && self.scans {
            match self.rescan() {
                // It is switched off again.
                Ok(()) | Err(ENODEV) => {}
                Err(e) => pr_warn!("the scan has not come to its end: {e:?}\n"),
            }
        }
        Ok(())
    }

    /// Switches tracking on without a scan; returns false if it is on.
    ///
    /// # Errors
    ///
    /// See [`Session::enable`].
    pub(crate) fn switch_on(&self) -> Result<bool> {
        let mut state = self.state.lock();
        if state.hooks.is_some() {
            return Ok(false);
        }
        let result = self.start();
        match result {
            Ok((hooks, second, missed)) => {
                state.hooks = Some(hooks);
                state.second = second;
                state.missed_before = missed;
                Ok(true)
            }
            Err(e) => {
                for tracker in self.trackers() {
                    tracker.table.detach(&tracker.env());
                    tracker.windows.clear();
                }
                Err(e)
            }
        }
    }

    /// Returns the shadows: one, or two if both backends are in use.
    fn trackers(&self) -> impl Iterator<Item = &Arc<Tracker>> {
        [Some(&self.tracker), self.both.second()]
            .into_iter()
            .flatten()
    }

    /// Places the hooks and has them listened to; returns them, and how many calls they had missed by then: fprobe
    /// counts those, too, that came while it placed one hook after the other.
    fn start(&self) -> Result<(Hooks, Option<Hooks>, u64)> {
        let second = self.both.second();
        // The bound is that of all shadows together.
        let tables = self.trackers().count();
        for tracker in self.trackers() {
            tracker.table.attach(self.bytes / tables, tables)?;
        }
        let hooks = Hooks::place(&self.tracker)?;
        let second = second.map(Hooks::place).transpose()?;
        self.scan.restart();
        self.second_scan.restart();
        self.both.set_alike(false);
        self.trackers().for_each(|tracker| tracker.begin_session());
        let missed = Atomic::new(0u64);
        quiesce::while_stopped(&|| {
            self.trackers().for_each(|tracker| tracker.set_armed(true));
            let others = second.as_ref().map_or(0, Hooks::missed);
            missed.store(hooks.missed().saturating_add(others), Relaxed);
        })?;
        Ok((hooks, second, missed.load(Relaxed)))
    }

    /// Switches tracking off and drops the shadow; statistics stay.
    pub(crate) fn disable(&self) {
        let mut state = self.state.lock();
        if state.hooks.is_none() {
            return;
        }
        self.both.set_alike(false);
        self.trackers().for_each(|tracker| tracker.set_armed(false));
        let missed = state.missed_now().saturating_sub(state.missed_before);
        let hooks = (state.hooks.take(), state.second.take());
        state.missed = state.missed.saturating_add(missed);
        state.missed_before = 0;
        // From here on the shadow would be out of date: nobody shall read it.
        for tracker in self.trackers() {
            tracker.table.detach(&tracker.env());
        }
        // Waits for running handlers.
        drop(hooks);
        for tracker in self.trackers() {
            tracker.windows.clear();
            tracker.crosscheck.clear();
        }
    }

    /// Sets the counters of `stats` to zero.
    pub(crate) fn reset_counters(&self) {
        let mut state = self.state.lock();
        self.trackers().for_each(|tracker| tracker.reset_counters());
        #[cfg(fmi_measure)]
        crate::measure::reset();
        self.both.reset();
        check::reset();
        class::reset();
        operation::reset();
        state.missed_before = state.missed_now();
        state.missed = 0;
    }

    /// Returns the bytes that the module holds for shadow and statistics.
    pub(crate) fn bytes(&self) -> usize {
        self.trackers().fold(0, |bytes, tracker| {
            bytes
                .saturating_add(tracker.table.bytes())
                .saturating_add(tracker.examples.bytes())
                .saturating_add(size_of_val(&**tracker))
        })
    }

    /// Returns how many rare calls the kernel admits it did not report.
    pub(crate) fn missed(&self) -> u64 {
        let state = self.state.lock();
        let now = state.missed_now().saturating_sub(state.missed_before);
        state.missed.saturating_add(now)
    }
}

#[kunit_tests(fmi_session)]
mod tests {
    use super::*;

    #[test]
    fn bound_is_refused_or_kept() {
        assert_eq!(bound(256), Ok(256 << 10));
        assert_eq!(bound(8192), Ok(8 << 20));
        let half = ram_bytes() as u64 / 2048;
        for mem_kb in [1, 255, half + 1, 17 << 20, u64::MAX / 1024, u64::MAX] {
            assert_eq!(bound(mem_kb), Err(EINVAL));
        }
        assert!(bound(0).is_ok_and(|bytes| BOUNDS.contains(&bytes) && bytes >= MIN_BYTES));
    }
}
