// SPDX-License-Identifier: GPL-2.0

//! What is kept of the past of a folio.

use super::entry::Counts;
use crate::Sketches;

/// What a folio is and has been through, beside [`crate::FolioEntry`]: for those whose records do not
/// say it, see `shard/plain.rs`. All bytes zero is a free one.
#[derive(Clone, Copy, Default, Debug)]
pub struct History {
    /// How the folio is mapped.
    pub(crate) counts: Counts,
    /// The counters that authors sketched; of no meaning if the past is not known.
    pub(crate) sketches: Sketches,
}

const _: () = assert!(size_of::<History>() <= 184);

impl History {
    /// Returns a free one before another.
    pub(crate) fn free(next: u32) -> Self {
        let counts = Counts {
            planes: next,
            ..Counts::default()
        };
        Self {
            counts,
            ..Self::default()
        }
    }

    /// Returns the link of the one behind a free one.
    pub(crate) fn next(&self) -> u32 {
        self.counts.planes
    }
}
