// SPDX-License-Identifier: GPL-2.0

//! A definition begins to answer a question about a folio wrongly.

use crate::{
    FolioView,
    Operation,
    PairSet,
    RecordIter,
    Sketches, //
};

/// A state of a folio about which pairs of a definition and a question are wrong that were right (or
/// unknown, or not asked) about the one before.
pub struct Disagreement<'a> {
    /// The state.
    pub view: &'a FolioView,
    /// The counters that authors sketched.
    pub sketches: &'a Sketches,
    /// The pairs that became wrong.
    pub opened: PairSet,
    /// Those of them that answered yes, or too high a number.
    pub too_high: PairSet,
    /// The operation that made the state.
    pub operation: Operation,
    /// The process id of the thread that made it, in the initial namespace.
    pub pid: u32,
    /// Who maps the folio.
    pub records: RecordIter<'a>,
}
