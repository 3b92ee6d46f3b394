// SPDX-License-Identifier: GPL-2.0

//! The MMs that a scan has gone through.

use kernel::prelude::*;

use crate::mm::MmStruct;

/// MMs, each with a reference: their addresses do not become those of others.
#[derive(Default)]
pub(super) struct Known(KVec<KVVec<MmStruct>>);

impl Known {
    /// Returns whether an MM is among them.
    pub(super) fn has(&self, mm: &MmStruct) -> bool {
        let within =
            |list: &KVVec<MmStruct>| list.binary_search_by_key(&mm.id(), MmStruct::id).is_ok();
        self.0.iter().any(within)
    }

    /// Adds MMs that are sorted by identity.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn add(&mut self, list: KVVec<MmStruct>) -> Result {
        if !list.is_empty() {
            self.0.push(list, GFP_KERNEL)?;
        }
        Ok(())
    }
}
