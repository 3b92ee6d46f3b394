// SPDX-License-Identifier: GPL-2.0

//! What the `kernel` crate offers under other names, or in another form, from version to version.

use core::borrow::Borrow;

use kernel::{
    bindings,
    sync::atomic::{
        Atomic,
        AtomicType, //
    }, //
};

/// Orders reads before it and reads behind it, as seen by other CPUs.
///
/// 7.2 has `smp_rmb()`, 7.3 `smp_mb(Read)`; below both is the same helper of the kernel.
#[inline]
pub(crate) fn smp_rmb() {
    // SAFETY: A barrier is safe to call anywhere.
    unsafe { bindings::smp_rmb() };
}

/// Loads a value, relaxed: what C's `READ_ONCE()` is.
///
/// `Atomic::load()` calls a helper of the kernel, which the event path can do without.
#[inline]
pub(crate) fn read_once<T: AtomicType + Copy>(value: &Atomic<T>) -> T {
    // SAFETY: The pointer is valid and aligned, and of no more than a word: a volatile read of it is
    // what the kernel takes for an atomic one. Whatever is stored is a value of the type.
    unsafe { value.as_ptr().read_volatile() }
}

/// Returns the value of a module parameter.
///
/// `ModuleParamAccess::value()` returns a reference in 7.2 and a copy in 7.3.
pub(crate) fn parameter<T: Copy>(value: impl Borrow<T>) -> T {
    *value.borrow()
}
