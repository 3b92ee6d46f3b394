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
//! * [`twin`] tells a second shadow the same in the kernel's order, and compares both.
//! * [`formulas`] are definitions by formula, by hand.
//! * [`driver`] feeds sketches of counters with the events of one folio, [`naive_sketches`] does them
//!   again by hand.
//!
//! * [`shared_tables`] is a world of its own: hugetlb folios in page tables that MMs share.
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

mod asking;
mod calls;
mod check;
mod compare;
mod conformance;
mod crowd;
mod definitions;
mod digest;
mod driver;
mod exact;
mod examples;
mod formulas;
mod hugetlb;
mod illegal;
mod kept;
mod kernel;
mod learn;
mod learned;
mod lifecycle;
mod loss;
mod moves;
mod naive;
mod naive_sketches;
mod oracle;
mod owed;
mod pressure;
mod preview;
mod reading;
mod rig;
mod shared_tables;
mod sketches;
mod steps;
mod tables;
mod tickets;
mod twin;
mod window;
mod world;
