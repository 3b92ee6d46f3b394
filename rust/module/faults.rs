// SPDX-License-Identifier: GPL-2.0

//! Planted faults of a debug build, see `faults.c`.

/// Returns how often the shadow is told of the next rmap call on a tracked folio; `second`: the second
/// shadow, if there are two.
pub(crate) fn times(second: bool) -> u32 {
    // SAFETY: May be called in any context.
    unsafe { crate::raw::fmi_fault_times(second) }
}

/// Returns whether a walk behind fork, mremap or a VMA change shall leave out what it has found.
pub(crate) fn drops_walk() -> bool {
    // SAFETY: May be called in any context.
    unsafe { crate::raw::fmi_fault_drops_walk() }
}

/// Returns whether hooks with exit shall not see the running task, as if it had no return stack.
pub(crate) fn no_stack() -> bool {
    // SAFETY: May be called in any context.
    unsafe { crate::raw::fmi_fault_no_stack() }
}

/// Returns whether forks and moves shall find no room for their windows.
pub(crate) fn no_room() -> bool {
    // SAFETY: May be called in any context.
    unsafe { crate::raw::fmi_fault_no_room() }
}

/// Returns whether scans shall not look for MMs in the reverse maps of folios.
pub(crate) fn no_search() -> bool {
    // SAFETY: May be called in any context.
    unsafe { crate::raw::fmi_fault_no_search() }
}
