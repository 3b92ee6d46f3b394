// SPDX-License-Identifier: GPL-2.0

//! The table of the sites at which the kernel decides.

use super::{
    AskedBy,
    Asker,
    Decision,
    Orders, //
};
use crate::{
    Kind,
    Question, //
};

/// Anonymous folios.
const ANON: &[Kind] = &[Kind::Anon];

/// Page cache of any file system.
const CACHE: &[Kind] = &[Kind::File, Kind::Shmem];

/// hugetlb.
const HUGE: &[Kind] = &[Kind::Hugetlb];

/// Everything that is tracked by function hooks.
const ANY: &[Kind] = &[Kind::Anon, Kind::File, Kind::Shmem];

/// Folios of order 1 and more: all that are tracked.
const LARGE: Orders = Orders::From(1);

/// Why a site is not hooked: the function walks page tables or lists, and finds folios itself.
const WALKS: AskedBy = AskedBy::StateOnly("finds the folio itself, in a walk");

/// Why a site is not hooked: the function has no symbol.
const INLINED: AskedBy = AskedBy::StateOnly("inlined in the stock kernels");

/// Why a site does not ask.
const HUGETLB: AskedBy = AskedBy::StateOnly("asks about hugetlb only: not hooked");

/// Why a site does not ask.
const NO_PAGE_MAPCOUNT: AskedBy =
    AskedBy::StateOnly("asks with CONFIG_NO_PAGE_MAPCOUNT only; else looks at page->_mapcount");

/// Makes a row of the table.
const fn site(
    name: &'static str,
    function: &'static str,
    question: Question,
    about: (&'static [Kind], Orders),
    asked_by: AskedBy,
) -> Decision {
    let (kinds, orders) = about;
    Decision {
        name,
        function,
        question,
        kinds,
        orders,
        asked_by,
    }
}

/// Number of [`Decision`]s.
pub const NR_DECISIONS: usize = 39;

/// The sites at which the kernel decides, in the order of the files.
pub static DECISIONS: [Decision; NR_DECISIONS] = {
    use AskedBy::{
        Hook,
        StateOnly, //
    };
    use Question::{
        Partial,
        Refs,
        Reuse,
        Shared, //
    };
    [
        // folio_maybe_mapped_shared()
        site(
            "numa_fault",
            "numa_migrate_check",
            Shared,
            (CACHE, LARGE),
            Hook(Asker::NumaFault, "counted where it matters: VM_SHARED"),
        ),
        site(
            "numa_exec",
            "migrate_misplaced_folio_prepare",
            Shared,
            (&[Kind::File], LARGE),
            Hook(Asker::NumaPrepare, "VM_EXEC and page cache not of shmem"),
        ),
        site(
            "prot_numa",
            "folio_can_map_prot_numa",
            Shared,
            (ANY, LARGE),
            Hook(Asker::ProtNuma, "private writable VMAs"),
        ),
        site(
            "mbind",
            "migrate_folio_add",
            Shared,
            (ANY, LARGE),
            Hook(Asker::Mbind, "without MPOL_MF_MOVE_ALL"),
        ),
        site(
            "mbind_hugetlb",
            "queue_folios_hugetlb",
            Shared,
            (HUGE, LARGE),
            HUGETLB,
        ),
        site(
            "move_pages",
            "__add_folio_for_migration",
            Shared,
            (ANY, LARGE),
            INLINED,
        ),
        site(
            "madvise_free_pmd",
            "madvise_free_huge_pmd",
            Shared,
            (ANON, Orders::Pmd),
            Hook(Asker::FreePmd, "the PMD may change before it is locked"),
        ),
        site(
            "madvise_free_pte",
            "madvise_free_pte_range",
            Shared,
            (ANON, LARGE),
            WALKS,
        ),
        site(
            "madvise_cold_pmd",
            "madvise_cold_or_pageout_pte_range",
            Shared,
            (ANY, Orders::Pmd),
            Hook(Asker::ColdPmd, "the PMD may change before it is locked"),
        ),
        site(
            "madvise_cold_pte",
            "madvise_cold_or_pageout_pte_range",
            Shared,
            (ANY, LARGE),
            WALKS,
        ),
        site(
            "collapse_scan",
            "collapse_scan_pmd",
            Shared,
            (ANON, LARGE),
            INLINED,
        ),
        site(
            "collapse_isolate",
            "__collapse_huge_page_isolate",
            Shared,
            (ANON, LARGE),
            INLINED,
        ),
        site(
            "referenced_exiting",
            "folio_referenced_one",
            Shared,
            (ANON, LARGE),
            Hook(Asker::Referenced, "swap-backed, MM exiting or reaped"),
        ),
        site(
            "smaps",
            "smaps_account",
            Shared,
            (ANY, LARGE),
            NO_PAGE_MAPCOUNT,
        ),
        site(
            "smaps_hugetlb",
            "smaps_hugetlb_range",
            Shared,
            (HUGE, LARGE),
            HUGETLB,
        ),
        site(
            "pagemap",
            "__folio_page_mapped_exclusively",
            Shared,
            (ANY, LARGE),
            NO_PAGE_MAPCOUNT,
        ),
        site(
            "pagemap_hugetlb",
            "pagemap_hugetlb_range",
            Shared,
            (HUGE, LARGE),
            HUGETLB,
        ),
        // May it be written to without a copy?
        site(
            "wp_reuse_pte",
            "wp_can_reuse_anon_folio",
            Reuse,
            (ANON, LARGE),
            Hook(Asker::WpPte, "at do_wp_page(), private VMAs"),
        ),
        site(
            "wp_reuse_pmd",
            "do_huge_pmd_wp_page",
            Reuse,
            (ANON, Orders::Pmd),
            Hook(Asker::WpPmd, "if the PMD is unchanged"),
        ),
        // Is it worth a split?
        site(
            "deferred_split",
            "__folio_remove_rmap",
            Partial,
            (ANON, Orders::From(2)),
            Hook(
                Asker::DeferredSplit,
                "only where the kernel decides yes; each remove asks, so see the states",
            ),
        ),
        // Are all references explained?
        site(
            "split",
            "__folio_split",
            Refs,
            (ANY, LARGE),
            Hook(Asker::Split, "also calls that fail before they ask"),
        ),
        site(
            "split_unmapped",
            "folio_split_unmapped",
            Refs,
            (ANON, LARGE),
            Hook(Asker::SplitUnmapped, "unmapped by then"),
        ),
        site(
            "split_debugfs",
            "split_huge_pages_pid",
            Refs,
            (ANY, LARGE),
            INLINED,
        ),
        site(
            "migrate",
            "__migrate_folio",
            Refs,
            (ANY, LARGE),
            Hook(
                Asker::Migrate,
                "at move_to_new_folio(); unmapped by then; also __buffer_migrate_folio()",
            ),
        ),
        site(
            "migrate_mapping",
            "folio_migrate_mapping",
            Refs,
            (ANY, LARGE),
            Hook(Asker::MigrateMapping, "unmapped by then"),
        ),
        site(
            "migrate_hugetlb",
            "migrate_huge_page_move_mapping",
            Refs,
            (HUGE, LARGE),
            HUGETLB,
        ),
        site(
            "migrate_device",
            "migrate_vma_check_page",
            Refs,
            (ANY, LARGE),
            INLINED,
        ),
        site(
            "compaction",
            "isolate_migratepages_block",
            Refs,
            (ANON, LARGE),
            WALKS,
        ),
        site(
            "remove_mapping",
            "__remove_mapping",
            Refs,
            (ANY, LARGE),
            Hook(Asker::RemoveMapping, "unmapped by then"),
        ),
        site(
            "lazyfree_pte",
            "try_to_unmap_one",
            Refs,
            (ANON, LARGE),
            Hook(
                Asker::LazyfreePte,
                "lazyfree; counted once per call, asked once per batch",
            ),
        ),
        site(
            "lazyfree_pmd",
            "__discard_anon_folio_pmd_locked",
            Refs,
            (ANON, Orders::Pmd),
            Hook(
                Asker::LazyfreePmd,
                "lazyfree; also calls that find it dirty",
            ),
        ),
        site(
            "swap_split",
            "shrink_folio_list",
            Refs,
            (ANON, LARGE),
            WALKS,
        ),
        site(
            "collapse_scan_refs",
            "collapse_scan_pmd",
            Refs,
            (ANON, LARGE),
            INLINED,
        ),
        site(
            "collapse_isolate_refs",
            "__collapse_huge_page_isolate",
            Refs,
            (ANON, LARGE),
            INLINED,
        ),
        site(
            "collapse_file_refs",
            "collapse_scan_file",
            Refs,
            (CACHE, LARGE),
            INLINED,
        ),
        site(
            "longterm_pin",
            "collect_longterm_unpinnable_folios",
            Refs,
            (ANY, LARGE),
            WALKS,
        ),
        site(
            "memfd_seal",
            "memfd_wait_for_pins",
            Refs,
            (&[Kind::Shmem], LARGE),
            WALKS,
        ),
        site("uprobe", "__uprobe_write", Refs, (ANON, LARGE), WALKS),
        site(
            "jfs",
            "__metapage_migrate_folio",
            Refs,
            (&[Kind::File], LARGE),
            StateOnly("asked of the pages of JFS metadata, which nothing maps"),
        ),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::NR_ASKERS;

    #[test]
    fn names_are_unique() {
        for (n, d) in DECISIONS.iter().enumerate() {
            assert!(DECISIONS.iter().skip(n + 1).all(|e| e.name != d.name));
            assert!(!d.note().is_empty(), "{}", d.name);
            assert!(!d.kinds.is_empty(), "{}", d.name);
        }
    }

    #[test]
    fn each_asker_has_one_site() {
        for asker in Asker::ALL {
            let sites = DECISIONS.iter().filter(|d| d.asker() == Some(asker));
            assert_eq!(sites.count(), 1, "{asker:?}");
            assert!(asker.index() < NR_ASKERS);
        }
    }

    #[test]
    fn all_callers_of_maybe_mapped_shared_are_there() {
        let shared = DECISIONS.iter().filter(|d| d.question == Question::Shared);
        assert_eq!(shared.count(), 17);
    }

    #[test]
    fn sites_apply_to_types_and_orders() {
        let applies = |name: &str, kind, order| {
            let mut sites = DECISIONS.iter().filter(|d| d.name == name);
            sites.next().map(|d| d.applies(kind, order, 9))
        };
        assert_eq!(applies("madvise_free_pmd", Kind::Anon, 9), Some(true));
        assert_eq!(applies("madvise_free_pmd", Kind::Anon, 8), Some(false));
        assert_eq!(applies("madvise_free_pmd", Kind::Shmem, 9), Some(false));
        assert_eq!(applies("deferred_split", Kind::Anon, 1), Some(false));
        assert_eq!(applies("deferred_split", Kind::Anon, 2), Some(true));
        assert_eq!(applies("prot_numa", Kind::File, 1), Some(true));
        assert_eq!(applies("smaps_hugetlb", Kind::Anon, 9), Some(false));
        for d in &DECISIONS {
            for kind in [Kind::Ksm, Kind::Driver] {
                assert!(!d.applies(kind, 9, 9));
            }
            let huge = d.name.contains("hugetlb");
            assert_eq!(d.applies(Kind::Hugetlb, 9, 9), huge, "{}", d.name);
        }
    }
}
