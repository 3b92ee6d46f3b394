// SPDX-License-Identifier: GPL-2.0

//! Planted faults of a debug build, see `faults.c`.

/// Returns how often the shadow is told of the next rmap call on a tracked folio.
pub(crate) fn times() -> u32 {
    // SAFETY: May be called in any context.
    unsafe { crate::raw::fmi_fault_times() }
}
