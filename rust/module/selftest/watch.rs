// SPDX-License-Identifier: GPL-2.0

//! Which hooks saw the program of the self-test.

use core::ptr;

use kernel::{
    bindings,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

use crate::{
    backend::Backend,
    compat::read_once,
    hook::{
        args::{
            ProgressCall,
            RareCall,
            RmapFunction, //
        },
        tracepoint::TracePoint, //
    },
    raw,
};

/// The PID of the session whose calls are noted, as an identity; 0: none.
static SESSION: Atomic<usize> = Atomic::new(0);

/// For each hook, whether it saw a call of that session.
static SEEN: [Atomic<u32>; Hook::NR] = [const { Atomic::new(0) }; Hook::NR];

const _: () = assert!(Hook::NR <= u64::BITS as usize);

/// A function with the hook on it, or a tracepoint and one of the things that it says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hook(usize);

impl Hook {
    const RARE: usize = RmapFunction::NAMES.len();
    const PROGRESS: usize = Self::RARE + RareCall::NAMES.len();

    const TRACE: usize = Self::PROGRESS + ProgressCall::NAMES.len();

    /// Number of hooks.
    pub(crate) const NR: usize = Self::TRACE + TracePoint::NAMES.len();

    /// Returns the hook on the rmap function at this position of [`RmapFunction::NAMES`].
    pub(crate) const fn rmap(position: usize) -> Self {
        Self(position)
    }

    /// Returns the hook on the exit of the function at this position of [`RareCall::NAMES`].
    pub(crate) const fn rare(position: usize) -> Self {
        Self(Self::RARE + position)
    }

    /// Returns the hook on the entry of the function at this position of [`ProgressCall::NAMES`].
    pub(crate) const fn progress(position: usize) -> Self {
        Self(Self::PROGRESS + position)
    }

    /// Returns the probe that sees what is at this position of [`TracePoint::NAMES`].
    pub(crate) const fn trace(position: usize) -> Self {
        Self(Self::TRACE + position)
    }

    /// Returns all hooks of a backend.
    pub(crate) fn all(backend: Backend) -> impl Iterator<Item = Self> {
        let without_tracepoint = |hook: &Self| hook.function() == RareCall::WITHOUT_TRACEPOINT;
        (0..Self::NR).map(Self).filter(move |hook| match backend {
            Backend::Functions => hook.0 < Self::TRACE,
            Backend::Tracepoints => hook.0 >= Self::TRACE || without_tracepoint(hook),
        })
    }

    /// Returns a bit of its own for each hook.
    pub(crate) fn bit(self) -> u64 {
        1 << self.0
    }

    /// Returns the name of the function, or of the tracepoint and what it says.
    pub(crate) fn function(self) -> &'static CStr {
        let names: [&[&'static CStr]; 4] = [
            RmapFunction::NAMES,
            RareCall::NAMES,
            ProgressCall::NAMES,
            TracePoint::NAMES,
        ];
        let mut names = names.into_iter().flatten();
        names.nth(self.0).copied().unwrap_or(c"?")
    }

    /// Returns which of the hooks on that function it is.
    pub(crate) fn kind(self) -> &'static str {
        match self.0 {
            n if n < Self::RARE => "call",
            n if n < Self::PROGRESS => "exit",
            n if n < Self::TRACE => "entry",
            _ => "tracepoint",
        }
    }

    /// Notes a call, if it is of the session that is watched. Any context.
    #[inline]
    pub(crate) fn saw(self) {
        let session = read_once(&SESSION);
        if session != 0 {
            self.saw_in(session);
        }
    }

    #[cold]
    fn saw_in(self, session: usize) {
        // SAFETY: The pointer is compared, not dereferenced.
        let watched = unsafe { raw::fmi_current_in_session(ptr::with_exposed_provenance(session)) };
        if let Some(seen) = SEEN.get(self.0).filter(|_| watched) {
            seen.store(1, Relaxed);
        }
    }

    /// Returns whether it saw a call since the last [`forget`].
    pub(crate) fn has_seen(self) -> bool {
        SEEN.get(self.0).is_some_and(|seen| seen.load(Relaxed) != 0)
    }
}

/// Begins to note the calls of the session that this PID leads or will lead; null: ends it.
pub(super) fn watch(session: *mut bindings::pid) {
    SESSION.store(session.expose_provenance(), Relaxed);
}

/// Forgets the calls that were noted.
pub(super) fn forget() {
    for seen in &SEEN {
        seen.store(0, Relaxed);
    }
}

/// Removes the hooks that a test wants to be blind from the addresses to be hooked; 0 is none.
///
/// `hook` is the hook at the first address.
#[cfg(fmi_faults)]
pub(crate) fn without_blind<const N: usize>(hook: Hook, mut ips: [usize; N]) -> [usize; N] {
    for (position, ip) in ips.iter_mut().enumerate() {
        if is_blind(Hook(hook.0 + position)) {
            *ip = 0;
        }
    }
    ips
}

/// Returns the addresses to be hooked.
#[cfg(not(fmi_faults))]
pub(crate) fn without_blind<const N: usize>(_hook: Hook, ips: [usize; N]) -> [usize; N] {
    ips
}

/// Returns whether a test wants this probe to be blind.
#[cfg(fmi_faults)]
pub(crate) fn is_blind(hook: Hook) -> bool {
    // SAFETY: Reads parameters.
    unsafe { raw::fmi_fault_blind(hook.0 as c_int) }
}

/// Returns whether a test wants this probe to be blind: there is no such test.
#[cfg(not(fmi_faults))]
#[inline]
pub(crate) fn is_blind(_hook: Hook) -> bool {
    false
}

/// Returns whether a test wants this hook not to see exits.
#[cfg(fmi_faults)]
pub(crate) fn loses_exit(hook: Hook) -> bool {
    // SAFETY: Reads a parameter.
    usize::try_from(unsafe { raw::fmi_fault_exit() }) == Ok(hook.0)
}

/// Returns whether a test wants this hook not to see exits: there is no such test.
#[cfg(not(fmi_faults))]
pub(crate) fn loses_exit(_hook: Hook) -> bool {
    false
}
