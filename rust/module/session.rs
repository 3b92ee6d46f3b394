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
        Arc,
        Mutex, //
    }, //
};

use crate::{
    backend::Hooks,
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
/// `EINVAL` if it is too small to track anything, or more than half of the machine's memory.
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
    hooks: Option<Hooks>,
    /// What earlier hooks missed since the last reset.
    missed: u64,
    /// What the present hooks had missed at the last reset.
    missed_before: u64,
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
    /// Scan when tracking is switched on.
    scans: bool,
}

impl Session {
    /// Creates a session that is off; `bytes` bounds the shadow's memory, see [`bound`]; `scans`: what
    /// is mapped already is looked for when tracking is switched on.
    pub(crate) fn new(tracker: Arc<Tracker>, bytes: usize, scans: bool) -> impl PinInit<Self> {
        pin_init!(Self {
            tracker,
            bytes,
            state <- new_mutex!(State {
                hooks: None,
                missed: 0,
                missed_before: 0,
            }),
            scan <- Scan::new(),
            scans,
        })
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

    /// Looks once more for what is mapped and not tracked.
    ///
    /// # Errors
    ///
    /// See [`Scan::run`].
    pub(crate) fn rescan(&self) -> Result {
        self.scan.run(&self.tracker)
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
            if let Err(e) = self.scan.run(&self.tracker) {
                pr_warn!("the scan has not come to its end: {e:?}\n");
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
            Ok(hooks) => {
                state.hooks = Some(hooks);
                Ok(true)
            }
            Err(e) => {
                self.tracker.table.detach(&self.tracker.env());
                self.tracker.windows.clear();
                Err(e)
            }
        }
    }

    fn start(&self) -> Result<Hooks> {
        self.tracker.table.attach(self.bytes)?;
        let hooks = Hooks::place(&self.tracker)?;
        self.scan.restart();
        self.tracker.begin_session();
        quiesce::while_stopped(&|| self.tracker.set_armed(true))?;
        Ok(hooks)
    }

    /// Switches tracking off and drops the shadow; statistics stay.
    pub(crate) fn disable(&self) {
        let mut state = self.state.lock();
        let Some(hooks) = state.hooks.take() else {
            return;
        };
        self.tracker.set_armed(false);
        let missed = hooks.missed().saturating_sub(state.missed_before);
        state.missed = state.missed.saturating_add(missed);
        state.missed_before = 0;
        // From here on the shadow would be out of date: nobody shall read it.
        self.tracker.table.detach(&self.tracker.env());
        // Waits for running handlers.
        drop(hooks);
        self.tracker.windows.clear();
    }

    /// Sets the counters of `stats` to zero.
    pub(crate) fn reset_counters(&self) {
        let mut state = self.state.lock();
        self.tracker.reset_counters();
        check::reset();
        class::reset();
        operation::reset();
        let missed = state.hooks.as_ref().map_or(0, |hooks| hooks.missed());
        state.missed_before = missed;
        state.missed = 0;
    }

    /// Returns the bytes that the module holds for shadow and statistics.
    pub(crate) fn bytes(&self) -> usize {
        self.tracker
            .table
            .bytes()
            .saturating_add(self.tracker.examples.bytes())
            .saturating_add(size_of_val(&*self.tracker))
    }

    /// Returns how many rare calls the kernel admits it did not report.
    pub(crate) fn missed(&self) -> u64 {
        let state = self.state.lock();
        let now = state.hooks.as_ref().map_or(0, |hooks| hooks.missed());
        state
            .missed
            .saturating_add(now.saturating_sub(state.missed_before))
    }
}
