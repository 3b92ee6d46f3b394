// SPDX-License-Identifier: GPL-2.0

//! Entry hooks, with or without exit hooks, by a `struct fprobe`.
//!
//! C header: [`include/linux/fprobe.h`](srctree/include/linux/fprobe.h)

use core::{
    marker::PhantomPinned,
    mem, //
};

use kernel::{
    bindings,
    container_of,
    error::to_result,
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

use super::{
    args::Args,
    sites::present, //
};
use crate::raw;

/// What the entry handler leaves for the exit handler: the arguments are gone by then.
pub(crate) type Saved = [usize; 6];

/// What an entry and exit hook does. Preemption is disabled in both handlers.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Whether the functions are hooked at their exit, too; without, the kernel takes a shorter way.
    const EXIT: bool;

    /// Runs when a hooked function is entered; returns whether to run [`Self::exit`] as well.
    ///
    /// `ip` is in the hooked function, `caller` is where it will return to.
    fn entry(&self, ip: usize, caller: usize, args: Args<'_>, saved: &mut Saved) -> bool;

    /// Runs when the function returns `ret`.
    fn exit(&self, ip: usize, saved: &Saved, ret: usize);
}

/// A registered hook on entry and exit of some functions; dropping it waits for running handlers.
///
/// # Invariants
///
/// `fprobe` is registered with the two callbacks below and does not move.
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<T: Handler> {
    handler: Arc<T>,
    #[pin]
    fprobe: Opaque<raw::fprobe>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: A probe may be unregistered from any thread.
unsafe impl<T: Handler> Send for Registration<T> {}
// SAFETY: `missed()` reads one word, the handler is `Sync`.
unsafe impl<T: Handler> Sync for Registration<T> {}

impl<T: Handler> Registration<T> {
    /// Hooks entry and exit of the functions at these addresses, see [`super::sites`]; 0 is none.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` if there is no function; `EBUSY` if ftrace is switched off.
    pub(crate) fn new<const N: usize>(
        ips: [usize; N],
        handler: Arc<T>,
    ) -> impl PinInit<Self, Error> {
        let (mut there, nr) = present(ips);
        try_pin_init!(Self {
            // Initialised first: the callbacks may run before `new()` returns.
            handler,
            fprobe <- Opaque::try_ffi_init(move |slot: *mut raw::fprobe| {
                let fprobe = raw::fprobe {
                    entry_handler: Some(Self::entry_callback),
                    exit_handler: if T::EXIT { Some(Self::exit_callback) } else { None },
                    entry_data_size: if T::EXIT { mem::size_of::<Saved>() } else { 0 },
                    ..pin_init::zeroed()
                };
                // SAFETY: `slot` is valid for writes.
                unsafe { slot.write(fprobe) };
                // SAFETY: `slot` is pinned and initialised, and `drop()` unregisters it.
                to_result(unsafe { raw::register_fprobe_ips(slot, there.as_mut_ptr(), nr as c_int) })
            }),
            _pin: PhantomPinned,
        } ? Error)
    }

    /// Returns how many calls the kernel admits it did not report.
    pub(crate) fn missed(&self) -> u64 {
        // SAFETY: The structure is initialised; the counter may change meanwhile.
        let missed = unsafe { (&raw const (*self.fprobe.get()).nmissed).read_volatile() };
        missed as u64
    }

    /// # Safety
    ///
    /// `fp` must be the `fprobe` of a live `Registration<T>`, `regs` and `data` must be valid.
    unsafe extern "C" fn entry_callback(
        fp: *mut raw::fprobe,
        entry_ip: c_ulong,
        ret_ip: c_ulong,
        regs: *mut bindings::ftrace_regs,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: By the safety requirements of this function.
        let this = unsafe { &*container_of!(Opaque::cast_from(fp), Self, fprobe) };
        let mut saved = Saved::default();
        // SAFETY: `regs` is valid until this function returns.
        let args = unsafe { Args::new(regs) };
        let exit = this.handler.entry(entry_ip, ret_ip, args, &mut saved);
        if T::EXIT && exit {
            // SAFETY: The kernel reserved `entry_data_size` bytes, aligned to a word.
            unsafe { data.cast::<Saved>().write(saved) };
        }
        // Anything but 0 cancels the exit handler.
        c_int::from(!exit)
    }

    /// # Safety
    ///
    /// As for [`Self::entry_callback`], which returned 0 for this call.
    unsafe extern "C" fn exit_callback(
        fp: *mut raw::fprobe,
        entry_ip: c_ulong,
        _ret_ip: c_ulong,
        regs: *mut bindings::ftrace_regs,
        data: *mut c_void,
    ) {
        // SAFETY: By the safety requirements of this function.
        let this = unsafe { &*container_of!(Opaque::cast_from(fp), Self, fprobe) };
        if data.is_null() {
            // A frame of an fprobe that is gone and was at the same address.
            return;
        }
        // SAFETY: `entry_callback()` wrote it.
        let saved = unsafe { data.cast::<Saved>().read() };
        // SAFETY: `regs` is valid until this function returns.
        let ret = unsafe { Args::new(regs) }.return_value();
        this.handler.exit(entry_ip, &saved, ret);
    }
}

#[pinned_drop]
impl<T: Handler> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant.
        unsafe { raw::unregister_fprobe(self.fprobe.get()) };
    }
}
