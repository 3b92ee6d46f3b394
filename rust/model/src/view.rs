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
    /// The least `page[i]` that is not 0; 0 if no page is mapped.
    pub min_mapped_page: u32,
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
    /// Number of changes to the shadow, wrapping.
    pub seq: u32,
    /// An evaluated state had more than one MM.
    pub ever_shared: bool,
    /// An evaluated state had some pages mapped and others not.
    pub ever_partial: bool,
    /// An evaluated state had more (VMA, page table) tuples than VMAs.
    pub ever_unaligned: bool,
    /// The folio was mapped before it was tracked: its past, and so what depends on it
    /// ([`crate::DefinitionInfo::keeps_state`]), is not known until it is unmapped.
    pub adopted: bool,
    /// A page table that several MMs share maps the folio, or did since it was unmapped: who maps it,
    /// and so what depends on that ([`crate::DefinitionInfo::per_mm`],
    /// [`crate::Question::is_about_mms`]), is not known until it is unmapped.
    pub shared_table: bool,
    /// The kernel's own counters, if they were asked for, could be read and are quiescent.
    pub kernel: Option<KernelCounts>,
    /// Order of a PMD of the running kernel.
    pub pmd_order: u8,
    /// The MM for which `shared` is answered: the one that mapped the folio last and still maps it;
    /// 0 if none does.
    pub asker_mm: u64,
    /// The kernel's id of that MM.
    pub asker_mm_id: u32,
    /// The address of page 0 of the folio in that MM, see [`crate::Call::base`].
    pub asker_base: u64,
    /// What depends on who asks: only for an asker that was hooked, and for a reader.
    pub ask: Option<Ask>,
}

impl FolioView {
    /// Returns how many references to the folio nothing explains: neither its mappings nor page
    /// cache, swap cache, PG_private and the asker; `None` if nobody asks or the kernel's counters
    /// are not at hand.
    ///
    /// Negative if references are missing. Those of LRU batches, isolation, pins and mmu_gather are
    /// not explained, by design of `folio_expected_ref_count()`.
    #[inline]
    pub fn unexplained_refs(&self) -> Option<i64> {
        let (ask, k) = (self.ask?, self.kernel?);
        let total = i64::try_from(self.total).unwrap_or(i64::MAX);
        let others = i64::from(k.expected_refs)
            .saturating_sub(i64::from(k.large))
            .saturating_add(i64::from(ask.own));
        let expected = others.saturating_add(total);
        Some(i64::from(k.refcount).saturating_sub(expected))
    }
}

/// Somebody who asks whether all references are explained, or whether a page may be reused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ask {
    /// References to the folio that the asker holds itself.
    pub own: i32,
    /// The page that a write or unshare fault is about; `None` asks about references only.
    pub page: Option<AskPage>,
}

/// The page that somebody wants to reuse without a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AskPage {
    /// The MM of the fault.
    pub mm: u64,
    /// The kernel's id of that MM.
    pub mm_id: u32,
    /// The page, counted from the first of the folio.
    pub index: u32,
    /// `page[i]` of that page: mappings that cover it.
    pub count: u32,
    /// Whether one of them is of that MM.
    pub mapped: bool,
    /// Whether the kernel has marked the page (the first, if a PMD maps it) as exclusive:
    /// `PageAnonExclusive()`.
    pub anon_exclusive: bool,
}
