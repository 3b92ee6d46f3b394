// SPDX-License-Identifier: GPL-2.0

//! Entry hooks by an own `struct ftrace_ops`.
//!
//! With neither `FTRACE_OPS_FL_RECURSION` nor `FTRACE_OPS_FL_RCU` the patched function reaches the
//! callback through a trampoline of its own, without a lookup. `FTRACE_OPS_FL_PERMANENT` keeps
//! `kernel.ftrace_enabled=0` from switching the hook off unnoticed.
//!
//! C header: [`include/linux/ftrace.h`](srctree/include/linux/ftrace.h)

use core::marker::PhantomPinned;

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

/// What an entry hook does.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Runs when a hooked function is entered.
    ///
    /// `ip` is in the hooked function, `caller` is where it was called from. The context is that of
    /// the hooked function: do not sleep unless all of them may.
    fn entry(&self, ip: usize, caller: usize, args: Args<'_>);
}

/// A registered hook on the entry of some functions; dropping it waits for running handlers.
///
/// # Invariants
///
/// `ops` is registered with [`Self::callback`] and does not move.
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<T: Handler> {
    handler: Arc<T>,
    #[pin]
    ops: Opaque<bindings::ftrace_ops>,
    #[pin]
    _pin: PhantomPinned,
}

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
    pub(crate) fn new<const N: usize>(
        ips: [usize; N],
        handler: Arc<T>,
    ) -> impl PinInit<Self, Error> {
        let (mut there, nr) = present(ips);
        try_pin_init!(Self {
            // Initialised first: the callback may run before `new()` returns.
            handler,
            ops <- Opaque::try_ffi_init(move |slot: *mut bindings::ftrace_ops| {
                let ops = bindings::ftrace_ops {
                    func: Some(Self::callback),
                    flags: bindings::FTRACE_OPS_FL_PERMANENT as usize,
                    ..pin_init::zeroed()
                };
                // SAFETY: `slot` is valid for writes.
                unsafe { slot.write(ops) };
                if nr == 0 {
                    // Without a filter, every function would be hooked.
                    return Err(ENOENT);
                }
                // SAFETY: `slot` is pinned and initialised; on success `drop()` unregisters it.
                let result = to_result(unsafe {
                    raw::ftrace_set_filter_ips(slot, there.as_mut_ptr(), nr as c_uint, 0, 1)
                })
                // SAFETY: As above.
                .and_then(|()| to_result(unsafe { bindings::register_ftrace_function(slot) }));
                if result.is_err() {
                    // SAFETY: The ops is not registered; this only frees its filter.
                    unsafe { bindings::ftrace_free_filter(slot) };
                }
                result
            }),
            _pin: PhantomPinned,
        } ? Error)
    }

    /// # Safety
    ///
    /// `ops` must be that of a live `Registration<T>`, and `fregs` must be valid.
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

/// Returns whether ftrace has shut itself down after a failure of its own: then hooks are registered and
/// never called.
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

#[pinned_drop]
impl<T: Handler> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant. This waits for tasks inside the trampoline.
        let result = to_result(unsafe { bindings::unregister_ftrace_function(self.ops.get()) });
        match result {
            // SAFETY: The ops is no longer registered.
            Ok(()) => unsafe { bindings::ftrace_free_filter(self.ops.get()) },
            // ftrace has shut itself down after a failure of its own.
            Err(e) => pr_err!("a hook could not be removed: {e:?}\n"),
        }
    }
}
