// SPDX-License-Identifier: GPL-2.0

//! The numbers of one folio at one moment, as definitions read them.

use crate::{
    KernelCounts,
    Kind,
    State, //
};

/// The numbers of a folio's shadow at one moment: everything is counted over T, the set of its
/// mappings.
///
/// `page[i]` stands for the number of mappings that cover page i.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FolioView {
    /// The pfn of the first page.
    pub pfn: u64,
    /// The order.
    pub order: u8,
    /// Number of pages, N.
    pub nr_pages: u32,
    /// The type.
    pub kind: Kind,
    /// Whether the folio is mapped, drained or lost.
    pub state: State,
    /// Mappings; an entire mapping counts 1.
    pub total: u64,
    /// Entire (PMD, PUD) mappings.
    pub entire: u32,
    /// Pages with `page[i]` > 0.
    pub nr_pages_mapped: u32,
    /// Pages with at least one PTE mapping.
    pub nr_pte_mapped: u32,
    /// `page[0]`.
    pub first_page: u32,
    /// The least `page[i]`.
    pub min_page: u32,
    /// The largest `page[i]`.
    pub max_page: u32,
    /// MMs that map at least one page.
    pub mm: u32,
    /// VMAs that map at least one page.
    pub vma: u32,
    /// (VMA, page table) tuples that map at least one page.
    pub vma_pt: u32,
    /// VMAs that map all pages.
    pub full: u32,
    /// VMAs that map some pages, but not all.
    pub partial: u32,
    /// Sum of `page[i]`: an entire mapping counts N.
    pub total_pages: u64,
    /// Records of the folio: pairs of an MM and a base.
    pub nr_records: u32,
    /// When tracking began, by [`crate::Env::now`].
    pub since: u64,
    /// Number of changes to the shadow, wrapping.
    pub seq: u32,
    /// An evaluated state had more than one MM.
    pub ever_shared: bool,
    /// An evaluated state had some pages mapped and others not.
    pub ever_partial: bool,
    /// The kernel's own counters, if they were asked for, could be read and are quiescent.
    pub kernel: Option<KernelCounts>,
}
