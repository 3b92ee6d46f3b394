// SPDX-License-Identifier: GPL-2.0

//! Entry hooks by an own `struct ftrace_ops`.
//!
//! With neither `FTRACE_OPS_FL_RECURSION` nor `FTRACE_OPS_FL_RCU` the patched function reaches the
//! callback through a trampoline of its own, without a lookup. `FTRACE_OPS_FL_PERMANENT` keeps
//! `kernel.ftrace_enabled=0` from switching the hook off unnoticed.
//!
//! C header: [`include/linux/ftrace.h`](srctree/include/linux/ftrace.h)

use core::{
    marker::PhantomPinned,
    mem, //
};

use kernel::{
    bindings,
    container_of,
    error::to_result,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    types::Opaque, //
};

use super::{
    args::Args,
    sites::present, //
};
use crate::raw;

/// A hook could not be removed: the module must not go.
static LEFT: Atomic<bool> = Atomic::new(false);

/// What ftrace calls instead of the handler: C code that knows at once of most calls that there is nothing to
/// do, and passes on all others, with the arguments that it got (`first.h`).
pub(crate) enum First {
    /// The handler itself.
    Nothing,
    /// For rmap functions: only calls on large folios are passed on, all others are counted.
    Rmap,
    /// For functions that ask: of `do_wp_page()`, only faults on pages of large folios are passed on.
    Ask,
}

impl First {
    const fn callback(self) -> bindings::ftrace_func_t {
        match self {
            Self::Nothing => None,
            Self::Rmap => Some(raw::fmi_first_rmap),
            Self::Ask => Some(raw::fmi_first_ask),
        }
    }
}

/// What an entry hook does.
pub(crate) trait Handler: Send + Sync + 'static {
    /// What comes before the handler.
    const FIRST: First = First::Nothing;

    /// Runs when a hooked function is entered.
    ///
    /// `ip` is in the hooked function, `caller` is where it was called from. The context is that of
    /// the hooked function: do not sleep unless all of them may.
    fn entry(&self, ip: usize, caller: usize, args: Args<'_>);
}

/// A hook on the entry of some functions.
#[pin_data]
struct Inner<T: Handler> {
    handler: Arc<T>,
    /// One of the functions.
    ip: usize,
    #[pin]
    ops: Opaque<bindings::ftrace_ops>,
    #[pin]
    _pin: PhantomPinned,
}

/// A registered hook on the entry of some functions; dropping it waits for running handlers.
///
/// If ftrace has shut itself down, it removes no hook any more, but those that are there are called: then
/// hook and handler stay, and so does the module.
///
/// # Invariants
///
/// `ops` is registered with [`Inner::callback`], or with what passes calls on to it ([`First`]), and does not
/// move. The box is there until it is dropped.
pub(crate) struct Registration<T: Handler>(Option<Pin<KBox<Inner<T>>>>);

// SAFETY: A hook may be unregistered from any thread.
unsafe impl<T: Handler> Send for Registration<T> {}
// SAFETY: There are no methods that take `&self`.
unsafe impl<T: Handler> Sync for Registration<T> {}

impl<T: Handler> Registration<T> {
    /// Hooks the entry of the functions at these addresses, see [`super::sites`]; 0 is none.
    ///
    /// # Errors
    ///
    /// `EBUSY` if ftrace is switched off, `ENOENT` if there is no function, `ENOMEM`.
    pub(crate) fn new<const N: usize>(ips: [usize; N], handler: Arc<T>) -> Result<Self> {
        let (mut there, nr) = present(ips);
        // Without a filter, every function would be hooked.
        let first = there.first().filter(|_| nr > 0).ok_or(ENOENT)?;
        let inner = KBox::pin_init(Inner::new(handler, *first), GFP_KERNEL)?;
        let ops = inner.ops.get();
        // SAFETY: The ops is pinned, initialised and not registered.
        let result = to_result(unsafe {
            raw::ftrace_set_filter_ips(ops, there.as_mut_ptr(), nr as c_uint, 0, 1)
        })
        // SAFETY: As above; on success `drop()` unregisters it.
        .and_then(|()| to_result(unsafe { bindings::register_ftrace_function(ops) }));
        let Err(e) = result else {
            return Ok(Self(Some(inner)));
        };
        // SAFETY: The ops is initialised; the registration has returned, and what may still call it does not change
        // the flags.
        if unsafe { (*ops).flags } & bindings::FTRACE_OPS_FL_ENABLED as usize != 0 {
            // ftrace shut itself down while it patched the functions.
            inner.leave();
        } else {
            // SAFETY: The ops is not registered; this only frees its filter.
            unsafe { bindings::ftrace_free_filter(ops) };
        }
        Err(e)
    }
}

impl<T: Handler> Drop for Registration<T> {
    fn drop(&mut self) {
        let Some(inner) = self.0.take() else {
            return;
        };
        let ops = inner.ops.get();
        // SAFETY: By the type invariant. This waits for tasks inside the trampoline.
        let result = to_result(unsafe { bindings::unregister_ftrace_function(ops) });
        // ftrace may shut itself down while it does so, too, and say nothing.
        if result.is_ok() && !is_dead(inner.ip) {
            // SAFETY: The ops is no longer registered.
            unsafe { bindings::ftrace_free_filter(ops) };
        } else {
            pr_err!("a hook could not be removed: ftrace has shut itself down\n");
            inner.leave();
        }
    }
}

/// Returns only if every hook could be removed: to be called when the module is about to go.
///
/// Sleeps for good otherwise: a hook that is called after that would end the machine.
pub(crate) fn wait_if_left() {
    if LEFT.load(Relaxed) {
        pr_err!("ftrace still calls this module, which cannot be unloaded: reboot\n");
    }
    while LEFT.load(Relaxed) {
        // SAFETY: Loading and unloading a module is process context, without a lock that forbids to sleep.
        unsafe { bindings::msleep(10_000) };
    }
}

impl<T: Handler> Inner<T> {
    fn new(handler: Arc<T>, ip: usize) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            handler,
            ip,
            ops <- Opaque::try_ffi_init(|slot: *mut bindings::ftrace_ops| {
                let ops = bindings::ftrace_ops {
                    func: T::FIRST.callback().or(Some(Self::callback)),
                    private: Self::callback as *mut c_void,
                    flags: bindings::FTRACE_OPS_FL_PERMANENT as usize,
                    ..pin_init::zeroed()
                };
                // SAFETY: `slot` is valid for writes.
                unsafe { slot.write(ops) };
                Ok::<(), Error>(())
            }),
            _pin: PhantomPinned,
        } ? Error)
    }

    /// Leaves a hook that may be called where it is, and the module that it is in.
    fn leave(self: Pin<KBox<Self>>) {
        // SAFETY: It only adds a reference to this module, whose code is running.
        unsafe { raw::fmi_stay_loaded() };
        LEFT.store(true, Relaxed);
        mem::forget(self);
    }

    /// # Safety
    ///
    /// `ops` must be that of a live `Inner<T>`, and `fregs` must be valid: as ftrace passes them, directly or
    /// through a function of [`First`].
    unsafe extern "C" fn callback(
        ip: c_ulong,
        parent_ip: c_ulong,
        ops: *mut bindings::ftrace_ops,
        fregs: *mut bindings::ftrace_regs,
    ) {
        // SAFETY: By the safety requirements of this function.
        let this = unsafe { &*container_of!(Opaque::cast_from(ops), Self, ops) };

        // SAFETY: `fregs` is valid until this function returns.
        let args = unsafe { Args::new(fregs) };
        this.handler.entry(ip, parent_ip, args);
    }
}

/// Returns whether ftrace has shut itself down after a failure of its own: then it places and removes none any
/// more, and part of the hooks may be called no more.
///
/// `ip` is the address of any function that can be hooked. Sleeps.
pub(crate) fn is_dead(ip: usize) -> bool {
    let ops = Opaque::new(pin_init::zeroed::<bindings::ftrace_ops>());
    // SAFETY: The ops is initialised and not registered, so nobody else knows it; the filter that it
    // is given is freed. A filter is refused for that reason only.
    unsafe {
        let mut ip = ip as c_ulong;
        let result = to_result(raw::ftrace_set_filter_ips(ops.get(), &mut ip, 1, 0, 1));
        bindings::ftrace_free_filter(ops.get());
        result == Err(ENODEV)
    }
}
