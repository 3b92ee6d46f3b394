// SPDX-License-Identifier: GPL-2.0

//! What the `kernel` crate offers under other names, or in another form, from version to version.

use core::borrow::Borrow;

use kernel::bindings;

/// Orders reads before it and reads behind it, as seen by other CPUs.
///
/// 7.2 has `smp_rmb()`, 7.3 `smp_mb(Read)`; below both is the same helper of the kernel.
#[inline]
pub(crate) fn smp_rmb() {
    // SAFETY: A barrier is safe to call anywhere.
    unsafe { bindings::smp_rmb() };
}

/// Returns the value of a module parameter.
///
/// `ModuleParamAccess::value()` returns a reference in 7.2 and a copy in 7.3.
pub(crate) fn parameter<T: Copy>(value: impl Borrow<T>) -> T {
    *value.borrow()
}
