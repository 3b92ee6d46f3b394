// SPDX-License-Identifier: GPL-2.0

//! What is kept of the past of a folio.

use crate::Sketches;

/// What a folio has been through, beside [`crate::FolioEntry`]: for those whose records do not say
/// it, see `shard/plain.rs`. All bytes zero is a free one.
#[derive(Clone, Copy, Default, Debug)]
pub struct History {
    /// The counters that authors sketched.
    pub(crate) sketches: Sketches,
    /// Link of the next free one.
    pub(crate) next: u32,
}
