// SPDX-License-Identifier: GPL-2.0

//! `rmap_vma`, the definition that is counted on demand: what a walk over the reverse map visits.
//!
//! C header: [`include/linux/rmap.h`](srctree/include/linux/rmap.h)

use kernel::{
    error::to_result,
    prelude::*, //
};

use crate::raw;

/// The name used in files.
pub(crate) const NAME: &str = "rmap_vma";

/// What is counted.
pub(crate) const FORMULA: &str =
    "VMAs that cover the folio's range, mapped or not; on demand, in the file folio";

/// Where the definition comes from.
pub(crate) const SOURCE: &str = "Wilcox/Zi Yan 2023-02-08; Zi Yan 2023-07-02";

/// What the reverse map of a folio says.
pub(crate) struct RmapVmas {
    /// VMAs that cover any of the folio's range.
    pub(crate) nr: usize,
    /// `anon_vma->num_active_vmas`, of an anonymous folio.
    pub(crate) active: Option<usize>,
}

impl RmapVmas {
    /// Counts the VMAs for the folio with this head page. Sleeps: takes the locks of the walk.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such folio of this order, or nothing maps it; `EINVAL` if its reverse
    /// map is of another kind; `EAGAIN` if it was always being changed; `EINTR` if the caller was
    /// killed.
    pub(crate) fn of(pfn: u64, order: u8) -> Result<Self> {
        let mut vmas = raw::fmi_rmap_vmas::default();
        // SAFETY: `vmas` is valid; any pfn may be asked for; reports are made in process context.
        to_result(unsafe { raw::fmi_rmap_vmas(pfn as usize, u32::from(order), &mut vmas) })?;
        Ok(Self {
            nr: vmas.nr,
            active: vmas.anon.then_some(vmas.active),
        })
    }
}
