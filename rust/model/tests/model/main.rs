// SPDX-License-Identifier: GPL-2.0

//! Tests of the model from outside: against a list of mappings, counted by hand.
//!
//! * [`oracle`] counts a list of mappings; it shares no code with the crate.
//! * [`kernel`] does what `mm/rmap.c` does to the counters of a folio.
//! * [`rig`] lends a shard its storage and simulates grace periods, time, windows.
//! * [`world`] has folios, MMs and VMAs, does what the kernel can do to them, and tells the shard
//!   what the hooks would see; [`window`] has what happens without calls, [`check`] the checks.
//! * [`steps`] turns random numbers into such deeds.
//! * [`naive`] keeps the tables by hand.
//!
//! The other modules are tests.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that goes wrong shall panic"
)]

mod calls;
mod check;
mod compare;
mod conformance;
mod exact;
mod illegal;
mod kernel;
mod lifecycle;
mod loss;
mod moves;
mod naive;
mod oracle;
mod pressure;
mod reading;
mod rig;
mod steps;
mod tables;
mod tickets;
mod window;
mod world;
