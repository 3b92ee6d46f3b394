// SPDX-License-Identifier: GPL-2.0

//! What is kept about the past of a folio.

use crate::{
    Operation,
    Sketches, //
};

/// What an entry's folio has been through, beside [`crate::FolioEntry`]: one for each entry.
#[derive(Clone, Copy, Default, Debug)]
pub struct History {
    /// The counters that authors sketched.
    pub(crate) sketches: Sketches,
    /// The thread that made the last change.
    pub(crate) pid: u32,
    /// The operation that the last change belongs to.
    pub(crate) operation: Operation,
    /// A page table that several MMs share maps the folio, or did since it was unmapped.
    pub(crate) shared_table: bool,
}
