// SPDX-License-Identifier: GPL-2.0

//! Hooks on kernel functions, and what their arguments mean.
//!
//! * [`entry`]: an own `ftrace_ops`, the cheapest clean mechanism, for functions that are called
//!   often;
//! * [`call`]: a `struct fprobe`, entry only or with exit, for less frequent functions;
//! * [`args`]: typed arguments of the hooked functions;
//! * [`asker`]: what the functions ask that ask about a folio;
//! * [`tracepoint`]: probes on the rmap tracepoints of a kernel that has them;
//! * [`sites`]: which function a hooked address belongs to.

#[expect(unsafe_code, reason = "reads registers of hooked functions")]
pub(crate) mod args;
#[expect(unsafe_code, reason = "reads arguments of hooked functions")]
pub(crate) mod asker;
#[expect(unsafe_code, reason = "registers a struct fprobe")]
pub(crate) mod call;
#[expect(unsafe_code, reason = "registers a struct ftrace_ops")]
pub(crate) mod entry;
#[expect(unsafe_code, reason = "asks kallsyms")]
pub(crate) mod sites;
#[expect(unsafe_code, reason = "registers probes")]
pub(crate) mod tracepoint;
