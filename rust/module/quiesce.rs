// SPDX-License-Identifier: GPL-2.0

//! Moments at which no rmap call is running.
//!
//! Every rmap call is made under a spinlock, hence with preemption off.
//!
//! C headers: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h),
//! [`include/linux/stop_machine.h`](srctree/include/linux/stop_machine.h)

use core::ptr;

use kernel::{
    bindings,
    error::to_result,
    prelude::*, //
};

use crate::{
    measure,
    raw, //
};

/// Waits until every rmap call that has begun is over.
pub(crate) fn wait_for_calls() {
    // SAFETY: Called in process context, where sleeping is allowed.
    unsafe { bindings::synchronize_rcu() };
}

/// Runs `f` on one CPU while all others do nothing: no rmap call is running anywhere.
pub(crate) fn while_stopped<F: Fn() + Sync>(f: &F) -> Result {
    // SAFETY: `run::<F>` takes a pointer to an `F`, which outlives this synchronous call.
    to_result(unsafe {
        raw::stop_machine(
            Some(run::<F>),
            ptr::from_ref(f).cast_mut().cast(),
            ptr::null(),
        )
    })
}

/// # Safety
///
/// `data` must point to an `F`.
unsafe extern "C" fn run<F: Fn()>(data: *mut c_void) -> c_int {
    // SAFETY: By the safety requirements of this function.
    let f = unsafe { &*data.cast::<F>() };
    let _timer = measure::step(measure::Step::Stopped);
    f();
    0
}
