// SPDX-License-Identifier: GPL-2.0

//! The program of the self-test as a process: started from memory, led step by step, ended.
//!
//! It is a user mode helper whose file and whose page are in shared memory of the kernel; no code of
//! this module runs in it but the callback that gives it both, before it starts.
//!
//! C headers: [`include/linux/umh.h`](srctree/include/linux/umh.h),
//! [`include/linux/shmem_fs.h`](srctree/include/linux/shmem_fs.h)

use core::{
    mem::{
        offset_of,
        size_of, //
    },
    ptr::{
        self,
        NonNull, //
    },
    slice, //
};

use kernel::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

use super::watch;
use crate::{
    compat::smp_rmb,
    env::{
        geometry,
        now_ns, //
    },
    mm::MmRef,
    raw,
    raw::fmi_selftest_page as Page, //
};

/// How long a step may take, in nanoseconds.
const PATIENCE_NS: u64 = 20_000_000_000;

/// How often is looked whether a step is done.
const POLL: Delta = Delta::from_millis(1);

/// Most processes of the program at the same time, and their references.
const MAX_MMS: usize = 8;

/// How a step ended.
pub(super) enum Ended {
    /// It was taken.
    Taken,
    /// It could not be taken: a negative errno.
    Refused(i32),
}

/// A file in shared memory.
///
/// # Invariants
///
/// The pointer is valid and the reference is owned.
struct File(NonNull<bindings::file>);

impl File {
    fn new(name: &CStr, len: usize) -> Result<Self> {
        // SAFETY: The name is a string.
        let file = from_err_ptr(unsafe { raw::fmi_selftest_file(name.as_char_ptr(), len as i64) })?;
        // INVARIANT: It is new, and the reference is ours.
        NonNull::new(file).map(Self).ok_or(ENOMEM)
    }

    fn write(&self, bytes: &[u8], at: usize) -> Result {
        let mut pos = at as bindings::loff_t;
        // SAFETY: The file is valid by the type invariant, and `bytes` has that length.
        let written = unsafe {
            bindings::kernel_write(
                self.0.as_ptr(),
                bytes.as_ptr().cast(),
                bytes.len(),
                &mut pos,
            )
        };
        to_result(written.min(0) as c_int)?;
        (written as usize == bytes.len()).then_some(()).ok_or(EIO)
    }

    fn read(&self, bytes: &mut [u8]) -> Result {
        let mut pos = 0;
        // SAFETY: As in `write()`.
        let read = unsafe {
            bindings::kernel_read(
                self.0.as_ptr(),
                bytes.as_mut_ptr().cast(),
                bytes.len(),
                &mut pos,
            )
        };
        to_result(read.min(0) as c_int)?;
        (read as usize == bytes.len()).then_some(()).ok_or(EIO)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::fput(self.0.as_ptr()) };
    }
}

/// The running program. Dropped, it is ended and waited for.
///
/// # Invariants
///
/// The reference to the PID is owned.
pub(super) struct Program {
    pid: NonNull<bindings::pid>,
    page: File,
}

/// What the callback in the new process takes and gives.
struct Launch<'a> {
    image: &'a File,
    page: &'a File,
    pid: *mut bindings::pid,
}

impl Program {
    /// Starts the program; its calls are watched from now on.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being executed: `ENOENT` without `/proc`, `EBUSY` without user mode
    /// helpers, `ENOMEM`, ...
    pub(super) fn start() -> Result<Self> {
        let mut len = 0;
        // SAFETY: The image has the length that is written to `len`.
        let bytes = unsafe {
            let image = raw::fmi_selftest_image(&mut len);
            slice::from_raw_parts(image, len)
        };
        let image = File::new(c"fmi_selftest", 0)?;
        image.write(bytes, 0)?;
        let shift = geometry().page_shift;
        let page = File::new(c"fmi_selftest_page", 1 << shift)?;
        page.write(
            bytes_of(&Page {
                page_size: 1 << shift,
                pmd_size: 1 << (shift + geometry().pmd_order),
                ..Page::default()
            }),
            0,
        )?;
        let mut launch = Launch {
            image: &image,
            page: &page,
            pid: ptr::null_mut(),
        };
        let path = c"/proc/self/fd/0";
        let mut argv = [c"fmi_selftest".as_char_ptr().cast_mut(), ptr::null_mut()];
        let mut envp = [ptr::null_mut()];
        // SAFETY: All pointers are valid until the call of `call_usermodehelper_exec()` is over: it
        // waits until the program is executed.
        let result = unsafe {
            let info = bindings::call_usermodehelper_setup(
                path.as_char_ptr(),
                argv.as_mut_ptr(),
                envp.as_mut_ptr(),
                bindings::GFP_KERNEL,
                Some(in_new_process),
                None,
                (&raw mut launch).cast(),
            );
            if info.is_null() {
                return Err(ENOMEM);
            }
            to_result(bindings::call_usermodehelper_exec(
                info,
                bindings::UMH_WAIT_EXEC as c_int,
            ))
        };
        let pid = NonNull::new(launch.pid);
        // INVARIANT: The callback took the reference. If there was an error, it is given back here.
        let program = pid.map(|pid| Self { pid, page });
        result?;
        program.ok_or(ESRCH)
    }

    /// Waits until the program has taken this step.
    ///
    /// # Errors
    ///
    /// `ESRCH` if the program is gone, `ETIMEDOUT` if it takes too long, `EINTR` if the caller
    /// was killed.
    pub(super) fn wait(&self, step: u32) -> Result<Ended> {
        let start = now_ns();
        loop {
            if self.read()?.done == step {
                smp_rmb();
                // ORDERING: The step is done, so what was written before that is seen.
                return Ok(match self.read()?.error {
                    error if error < 0 => Ended::Refused(error),
                    _ => Ended::Taken,
                });
            }
            if !self.alive() {
                return Err(ESRCH);
            }
            // SAFETY: Reads the running task.
            if unsafe { raw::fmi_killed() } {
                return Err(EINTR);
            }
            if now_ns().saturating_sub(start) > PATIENCE_NS {
                return Err(ETIMEDOUT);
            }
            fsleep(POLL);
        }
    }

    /// Lets the program go on after this step.
    pub(super) fn go_on(&self, step: u32) -> Result {
        self.page.write(&step.to_ne_bytes(), offset_of!(Page, go))
    }

    /// Returns the MMs of all its processes, each once, sorted by identity.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn mms(&self) -> Result<KVVec<MmRef>> {
        // SAFETY: The reference is owned by the type invariant.
        unsafe { MmRef::of_session(self.pid.as_ptr(), MAX_MMS) }
    }

    fn read(&self) -> Result<Page> {
        let mut bytes = [0; size_of::<Page>()];
        self.page.read(&mut bytes)?;
        // SAFETY: The structure consists of integers.
        Ok(unsafe { bytes.as_ptr().cast::<Page>().read_unaligned() })
    }

    fn alive(&self) -> bool {
        // SAFETY: The reference is owned by the type invariant.
        unsafe { raw::fmi_session_alive(self.pid.as_ptr()) }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // After its last step it ends by itself; killed, it takes its child with it.
        // SAFETY: The reference is owned by the type invariant.
        unsafe { bindings::kill_pid(self.pid.as_ptr(), bindings::SIGKILL as c_int, 1) };
        let start = now_ns();
        while self.alive() && now_ns().saturating_sub(start) < PATIENCE_NS {
            fsleep(POLL);
        }
        watch::watch(ptr::null_mut());
        // SAFETY: As above; given back here.
        unsafe { bindings::put_pid(self.pid.as_ptr()) };
    }
}

fn bytes_of(page: &Page) -> &[u8] {
    // SAFETY: The structure consists of integers without padding.
    unsafe { slice::from_raw_parts(ptr::from_ref(page).cast(), size_of::<Page>()) }
}

/// Gives the new process its files.
///
/// # Safety
///
/// The data of `info` must be a [`Launch`] that nobody else uses during the call.
unsafe extern "C" fn in_new_process(
    info: *mut bindings::subprocess_info,
    _new: *mut bindings::cred,
) -> c_int {
    // SAFETY: By the safety requirements of this function.
    let launch = unsafe { &mut *(*info).data.cast::<Launch<'_>>() };
    for (file, wanted) in [
        (launch.image, raw::FMI_SELFTEST_IMAGE_FD),
        (launch.page, raw::FMI_SELFTEST_PAGE_FD),
    ] {
        // SAFETY: This is a new process with a table of files; the descriptor is installed or given
        // back, with a reference of its own to the file.
        unsafe {
            let fd = bindings::get_unused_fd_flags(0);
            if fd < 0 {
                return fd;
            }
            if fd as u32 != wanted {
                // The process was given other files.
                bindings::put_unused_fd(fd as u32);
                return EBADF.to_errno();
            }
            bindings::fd_install(fd as u32, bindings::get_file(file.0.as_ptr()));
        }
    }
    // SAFETY: The running task is valid; who launches gives the reference back.
    let pid = unsafe { bindings::get_task_pid(raw::fmi_current(), bindings::pid_type_PIDTYPE_PID) };
    launch.pid = pid;
    watch::watch(pid);
    0
}
