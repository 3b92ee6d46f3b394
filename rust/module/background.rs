// SPDX-License-Identifier: GPL-2.0

//! The background audit: everything is audited again and again, at a chosen rate.
//!
//! A round goes on until it is done, or the interval is changed, or tracking ends. Rounds never
//! overlap; the next one begins an interval after the last one has ended.

use core::ptr::NonNull;

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
    audit::{
        Audit,
        Difference,
        Held, //
    },
    procwalk,
    raw,
    tracker::Tracker, //
};

/// Shortest interval: a machine that does nothing but audit is of no use.
const MIN_INTERVAL_MS: u32 = 10;

/// Longest interval, a day.
const MAX_INTERVAL_MS: u32 = 24 * 60 * 60 * 1000;

/// What all rounds found.
#[derive(Clone, Copy, Default)]
pub(crate) struct Totals {
    /// Rounds that were completed.
    pub(crate) rounds: u64,
    /// Rounds that were not: tracking ended, or there was no memory.
    pub(crate) unfinished: u64,
    /// Mappings that were looked at.
    pub(crate) mappings: u64,
    /// Records that were looked for.
    pub(crate) records: u64,
    /// Folios that were compared.
    pub(crate) compared: u64,
    /// Differences of all kinds.
    pub(crate) differences: u64,
    /// The last one between page tables and shadow.
    pub(crate) last: Option<Difference>,
    /// The longest that locks were held.
    pub(crate) held: Held,
    /// The longest that a round took, in nanoseconds.
    pub(crate) took: u64,
}

impl Totals {
    fn add(&mut self, audit: &Audit) {
        self.rounds += 1;
        self.mappings += audit.mappings;
        self.records += audit.records;
        self.compared += audit.tally.compared;
        self.differences += audit.differences();
        self.last = audit.details.last().copied().or(self.last);
        self.held = self.held.most(&audit.held);
        self.took = self.took.max(audit.took);
    }
}

#[pin_data]
struct Inner {
    tracker: Arc<Tracker>,
    /// Milliseconds between rounds, 0 for none.
    interval_ms: Atomic<u32>,
    /// The round that runs shall end.
    stop: Atomic<bool>,
    #[pin]
    totals: Mutex<Totals>,
}

impl Inner {
    fn go_on(&self) -> Result {
        if self.stop.load(Relaxed) || !self.tracker.armed() {
            return Err(EINTR);
        }
        procwalk::pause()
    }

    /// One round; returns when to begin the next, 0 for never.
    fn round(&self) -> u32 {
        if self.go_on().is_err() {
            // Enabling begins anew.
            return 0;
        }
        match Audit::run(&self.tracker, None, &|| self.go_on()) {
            Ok(audit) => {
                if audit.differences() > 0 {
                    pr_warn!(
                        "the background audit found {} differences\n",
                        audit.differences()
                    );
                }
                self.totals.lock().add(&audit);
            }
            Err(_) => self.totals.lock().unfinished += 1,
        }
        self.interval_ms.load(Relaxed)
    }
}

/// The rounds, and what they found.
///
/// # Invariants
///
/// `work` is valid and calls [`Background::run`] with a pointer to `inner`.
#[pin_data(PinnedDrop)]
pub(crate) struct Background {
    inner: Arc<Inner>,
    work: NonNull<raw::fmi_background>,
    /// Held while the interval is changed.
    #[pin]
    changing: Mutex<()>,
}

// SAFETY: The work may be queued and cancelled from any thread.
unsafe impl Send for Background {}
// SAFETY: As above, also from several at a time.
unsafe impl Sync for Background {}

impl Background {
    /// Creates it; no rounds are made.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(tracker: Arc<Tracker>) -> Result<impl PinInit<Self>> {
        let inner = Arc::pin_init(
            pin_init!(Inner {
                tracker,
                interval_ms: Atomic::new(0),
                stop: Atomic::new(false),
                totals <- new_mutex!(Totals::default()),
            }),
            GFP_KERNEL,
        )?;
        let data = Arc::as_ptr(&inner).cast_mut().cast();
        // SAFETY: `inner` lives until the work has been freed.
        let work = unsafe { raw::fmi_background_new(Some(Self::run), data) };
        let work = NonNull::new(work).ok_or(ENOMEM)?;
        // INVARIANT: As was just made.
        Ok(pin_init!(Self {
            inner,
            work,
            changing <- new_mutex!(()),
        }))
    }

    /// # Safety
    ///
    /// `data` must point to an [`Inner`].
    unsafe extern "C" fn run(data: *mut c_void) -> c_uint {
        // SAFETY: By the safety requirements of this function.
        unsafe { &*data.cast::<Inner>() }.round()
    }

    /// Returns the milliseconds between rounds, 0 for none.
    pub(crate) fn interval_ms(&self) -> u32 {
        self.inner.interval_ms.load(Relaxed)
    }

    /// Returns what all rounds found since the last reset.
    pub(crate) fn totals(&self) -> Totals {
        *self.inner.totals.lock()
    }

    /// Forgets what rounds found.
    pub(crate) fn reset(&self) {
        *self.inner.totals.lock() = Totals::default();
    }

    /// Sets the milliseconds between rounds, 0 for none. A round that runs is ended first.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is too short or too long.
    pub(crate) fn set_interval(&self, ms: u32) -> Result {
        if ms != 0 && !(MIN_INTERVAL_MS..=MAX_INTERVAL_MS).contains(&ms) {
            return Err(EINVAL);
        }
        let _changing = self.changing.lock();
        self.inner.stop.store(true, Relaxed);
        // SAFETY: Valid by the type invariant; nothing that the work needs is locked.
        unsafe { raw::fmi_background_cancel(self.work.as_ptr()) };
        self.inner.interval_ms.store(ms, Relaxed);
        self.inner.stop.store(false, Relaxed);
        self.queue();
        Ok(())
    }

    /// Begins with rounds if there is an interval; when tracking has been enabled.
    pub(crate) fn enabled(&self) {
        let _changing = self.changing.lock();
        self.queue();
    }

    fn queue(&self) {
        let ms = self.interval_ms();
        if ms != 0 {
            // SAFETY: Valid by the type invariant.
            unsafe { raw::fmi_background_queue(self.work.as_ptr(), ms) };
        }
    }
}

#[pinned_drop]
impl PinnedDrop for Background {
    fn drop(self: Pin<&mut Self>) {
        self.inner.stop.store(true, Relaxed);
        // SAFETY: Valid by the type invariant, and not used any more. `inner` is still there.
        unsafe { raw::fmi_background_free(self.work.as_ptr()) };
    }
}
