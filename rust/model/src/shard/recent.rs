// SPDX-License-Identifier: GPL-2.0

//! Adds to folios that have no entry.

use crate::Env;

/// Number of untracked adds that are remembered.
const NR_RECENT: usize = 32;

/// No folio.
const NONE: u64 = u64::MAX;

/// Several folios, each of which an add may be in flight to.
const SEVERAL: u64 = NONE - 1;

/// The latest adds to untracked folios.
///
/// Such an add may be in flight while the last mapping of the folio goes and another add sees it
/// unmapped: that one must not start tracking, it would miss the first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recent {
    /// The pfn, [`NONE`] or [`SEVERAL`], and the state of RCU at the latest add, by a hash of the pfn.
    adds: [(u64, u64); NR_RECENT],
}

impl Recent {
    /// Returns the memory of nothing.
    pub(crate) fn new() -> Self {
        Self {
            adds: [(NONE, 0); NR_RECENT],
        }
    }

    /// Returns whether an add to a folio that was not tracked may still be in flight.
    pub(crate) fn may_be_in_flight(&mut self, pfn: u64, env: &impl Env) -> bool {
        self.slot(pfn).is_some_and(|(known, cookie)| {
            (*known == pfn || *known == SEVERAL) && !env.gp_elapsed(*cookie)
        })
    }

    /// Remembers an add to a folio that is not tracked.
    pub(crate) fn remember(&mut self, pfn: u64, env: &impl Env) {
        if let Some((known, cookie)) = self.slot(pfn) {
            if *known != pfn {
                let in_use = *known != NONE && !env.gp_elapsed(*cookie);
                *known = if in_use { SEVERAL } else { pfn };
            }
            *cookie = env.gp_snapshot();
        }
    }

    /// Returns where an add to a folio is remembered.
    fn slot(&mut self, pfn: u64) -> Option<&mut (u64, u64)> {
        let hash = pfn.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_shr(40);
        let slot = usize::try_from(hash).unwrap_or(0) & NR_RECENT.wrapping_sub(1);
        self.adds.get_mut(slot)
    }
}
