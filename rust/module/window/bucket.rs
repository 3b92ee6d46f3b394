// SPDX-License-Identifier: GPL-2.0

//! Where windows are kept: by MM.

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

use super::Window;
use crate::{
    compat::read_once,
    measure::{
        self,
        Locked,
        Step, //
    }, //
};

/// Most windows in one bucket: each is of a task inside fork or mremap.
pub(super) const MAX_WINDOWS: usize = 128;

/// Number of buckets: enough that two CPUs seldom want the same one.
pub(super) const NR_BUCKETS: usize = 16;

/// The windows of some MMs.
#[pin_data]
pub(super) struct Bucket {
    #[pin]
    windows: SpinLock<KVVec<Window>>,
    /// How many there are, for a look without the lock.
    pub(super) nr: Atomic<usize>,
    /// Windows, in whatever bucket, of the tasks that hash to this one.
    pub(super) of_tasks: Atomic<usize>,
}

impl Bucket {
    pub(super) fn new() -> Result<Pin<KBox<Self>>> {
        let windows = KVVec::with_capacity(MAX_WINDOWS, GFP_KERNEL)?;
        KBox::pin_init(
            pin_init!(Self {
                windows <- new_spinlock!(windows),
                nr: Atomic::new(0),
                of_tasks: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    #[inline]
    pub(super) fn lock(&self) -> Locked<'_, KVVec<Window>> {
        measure::lock(&self.windows, measure::Kind::Windows, Step::Other)
    }

    /// Returns whether no window is in it; ordered as [`super::Windows::any_open`] says.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        read_once(&self.nr) == 0
    }

    /// Returns whether there was room.
    pub(super) fn put(&self, window: Window) -> bool {
        let mut windows = self.lock();
        // Nothing is allocated.
        let put = windows.len() < MAX_WINDOWS && windows.push(window, GFP_NOWAIT).is_ok();
        self.nr.store(windows.len(), Relaxed);
        put
    }

    /// Returns whether the window was there.
    pub(super) fn take(&self, ticket: u64) -> bool {
        let mut windows = self.lock();
        let Some(i) = windows.iter().position(|w| w.ticket == ticket) else {
            return false;
        };
        let last = windows.len().saturating_sub(1);
        windows.swap(i, last);
        windows.truncate(last);
        self.nr.store(last, Relaxed);
        true
    }

    /// Returns what `f` returns for the first window for which that is something.
    pub(super) fn find_map<R>(&self, f: impl FnMut(&Window) -> Option<R>) -> Option<R> {
        if self.is_empty() {
            return None;
        }
        self.lock().iter().find_map(f)
    }
}

/// Which bucket it is, by the address of an MM or a task.
pub(super) fn bucket_of(id: usize) -> usize {
    let hash = (id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash >> (u64::BITS - NR_BUCKETS.ilog2())) as usize
}
