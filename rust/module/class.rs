// SPDX-License-Identifier: GPL-2.0

//! Calls on folios that are not tracked, counted per class and CPU.

use crate::raw;

pub(crate) use crate::raw::{
    fmi_class_FMI_CLASS_HUGETLB as HUGETLB,
    fmi_class_FMI_CLASS_NONLINEAR as NONLINEAR,
    fmi_class_FMI_CLASS_NOT_RMAPPABLE as NOT_RMAPPABLE,
    fmi_class_FMI_CLASS_SMALL as SMALL,
    fmi_class_FMI_CLASS_TRACK as TRACK,
    fmi_class_FMI_CLASS_ZONE_DEVICE as ZONE_DEVICE,
    fmi_kind_FMI_KIND_ANON as KIND_ANON,
    fmi_kind_FMI_KIND_FILE as KIND_FILE,
    fmi_kind_FMI_KIND_HUGETLB as KIND_HUGETLB,
    fmi_kind_FMI_KIND_KSM as KIND_KSM,
    fmi_kind_FMI_KIND_SHMEM as KIND_SHMEM, //
};

/// Names of the classes in `stats`.
pub(crate) const NAMES: [(u32, &str); 5] = [
    (NONLINEAR, "events_nonlinear"),
    (HUGETLB, "events_hugetlb"),
    (ZONE_DEVICE, "events_zone_device"),
    (NOT_RMAPPABLE, "events_not_rmappable"),
    (SMALL, "events_small"),
];

/// Counts a call; preemption must be off.
pub(crate) fn count(class: u32) {
    // SAFETY: Preemption is off in a hook under the PTL.
    unsafe { raw::fmi_class_add(class) };
}

/// Returns the sum over all CPUs.
pub(crate) fn sum(class: u32) -> u64 {
    // SAFETY: Only reads counters.
    unsafe { raw::fmi_class_sum(class) }
}

/// Sets all counts to zero.
pub(crate) fn reset() {
    // SAFETY: Only writes counters.
    unsafe { raw::fmi_class_reset() };
}
