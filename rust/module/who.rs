// SPDX-License-Identifier: GPL-2.0

//! Tasks, and names of threads and MMs, these also under spinlocks: no lock but RCU is taken.
//!
//! C headers: [`include/linux/pid.h`](srctree/include/linux/pid.h),
//! [`include/linux/sched/signal.h`](srctree/include/linux/sched/signal.h),
//! [`include/linux/uaccess.h`](srctree/include/linux/uaccess.h)

use core::ptr::NonNull;

use kernel::{
    bindings,
    prelude::*,
    sync::aref::ARef,
    task::Task, //
};

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

/// The tasks that, at one moment, may have been taking down an MM that they had no more: those at
/// their end or in execve().
pub(crate) struct Leaving(KVVec<ARef<Task>>);

impl Leaving {
    /// Returns those of now.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn now() -> Result<Self> {
        let mut room = 64;
        loop {
            let mut found = KVVec::<*mut bindings::task_struct>::with_capacity(room, GFP_KERNEL)?;
            let mut tasks = KVVec::with_capacity(room, GFP_KERNEL)?;
            // SAFETY: There is room for `room` pointers.
            let nr = unsafe { raw::fmi_collect_leaving(found.as_mut_ptr(), room) };
            // SAFETY: That many were stored.
            unsafe { found.inc_len(nr.min(room)) };
            for task in found.iter().filter_map(|task| NonNull::new(*task)) {
                // SAFETY: `fmi_collect_leaving()` took this reference; `Task` is transparent.
                let task = unsafe { ARef::from_raw(task.cast::<Task>()) };
                // Cannot fail: the room is there.
                let _ = tasks.push(task, GFP_KERNEL);
            }
            if nr <= room {
                return Ok(Self(tasks));
            }
            room = nr.saturating_add(nr / 4);
        }
    }

    /// Returns whether any of them still may.
    pub(crate) fn any(&mut self) -> bool {
        while let Some(task) = self.0.last() {
            // SAFETY: The reference keeps the task.
            if unsafe { raw::fmi_is_leaving(task.as_ptr()) } {
                return true;
            }
            self.0.pop();
        }
        false
    }
}

const _: () = assert!(raw::FMI_COMM_LEN == 16);
