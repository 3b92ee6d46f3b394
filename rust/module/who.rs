// SPDX-License-Identifier: GPL-2.0

//! Names of threads and MMs, also under spinlocks: no lock but RCU is taken.
//!
//! C headers: [`include/linux/pid.h`](srctree/include/linux/pid.h),
//! [`include/linux/uaccess.h`](srctree/include/linux/uaccess.h)

use crate::raw;

/// The kernel's names.
pub(crate) struct KernelNames;

impl fmi_model::Names for KernelNames {
    fn comm(&self, pid: u32) -> [u8; 16] {
        let mut comm = [0; 16];
        // SAFETY: There is room for `FMI_COMM_LEN` bytes.
        unsafe { raw::fmi_comm_of_pid(pid as i32, comm.as_mut_ptr()) };
        comm
    }

    fn process_of(&self, mm: u64) -> u32 {
        // SAFETY: The pointer need not be valid.
        unsafe { raw::fmi_process_of_mm(mm as usize as *const _) as u32 }
    }
}

/// Returns whether there is a task with this identity.
pub(crate) fn task_exists(task: usize) -> bool {
    // SAFETY: The pointer is compared, not dereferenced.
    unsafe { raw::fmi_task_exists(task as *const _) }
}

/// Returns the number of tasks that exit hooks do not see.
pub(crate) fn blind_tasks() -> u32 {
    // SAFETY: Only reads tasks.
    unsafe { raw::fmi_blind_tasks() }
}

const _: () = assert!(raw::FMI_COMM_LEN == 16);
