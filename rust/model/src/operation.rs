// SPDX-License-Identifier: GPL-2.0

//! Which operation of memory management an rmap call belongs to.
//!
//! The return address of a call is in the function that made it. Which function that is depends on
//! what the compiler inlined, so the table below has every function between an operation and the
//! rmap function that may be the one, those of the stock kernels of both architectures and those
//! that another compiler may leave (`mm/` of 7.2). Where operations share the function, the state of
//! the VMA tells them apart, see [`Site::Zap`] and [`Site::Map`].

/// What memory management was doing when mappings changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Operation {
    /// A page fault mapped a page; also faults of GUP, of drivers and of populate, and the PMD that
    /// MADV_COLLAPSE maps over page cache which was collapsed before.
    Fault,
    /// A write fault copied a page: the old one is unmapped, the copy mapped.
    Cow,
    /// A page fault mapped what was swapped out.
    SwapIn,
    /// Userfaultfd filled a page: UFFDIO_COPY, UFFDIO_CONTINUE, UFFDIO_ZEROPAGE.
    Uffd,
    /// The MM goes away: exit, exec, the OOM killer, a fork that failed.
    Exit,
    /// A range is unmapped: munmap, mmap over it, the old range of mremap.
    Munmap,
    /// Page-table entries are dropped, the VMA stays: MADV_DONTNEED, truncation, hole punch,
    /// invalidation.
    DontNeed,
    /// A folio is unmapped everywhere: reclaim, memory failure, split of page cache, collapse of
    /// page cache.
    Unmap,
    /// A folio is unmapped to be migrated, or split (anonymous folios).
    MigrateOut,
    /// A folio is mapped again after migration or split.
    MigrateIn,
    /// A PMD or PUD is split: its folio is mapped by PTEs then, or not at all (page cache).
    PmdSplit,
    /// Small pages are replaced by a large folio: khugepaged, MADV_COLLAPSE.
    Collapse,
    /// Swapoff maps what was swapped out.
    SwapOff,
    /// Fork mapped the page in the child.
    Fork,
    /// Mappings moved: mremap, UFFDIO_MOVE.
    Move,
    /// The range of a VMA changed.
    Vma,
    /// Something else: KSM, uprobes, drivers, DAX, or a caller that is not known.
    #[default]
    Other,
}

/// Number of [`Operation`]s.
pub const NR_OPERATIONS: usize = 17;

impl Operation {
    /// All operations, in the order of the tables.
    pub const ALL: [Operation; NR_OPERATIONS] = [
        Operation::Fault,
        Operation::Cow,
        Operation::SwapIn,
        Operation::Uffd,
        Operation::Exit,
        Operation::Munmap,
        Operation::DontNeed,
        Operation::Unmap,
        Operation::MigrateOut,
        Operation::MigrateIn,
        Operation::PmdSplit,
        Operation::Collapse,
        Operation::SwapOff,
        Operation::Fork,
        Operation::Move,
        Operation::Vma,
        Operation::Other,
    ];

    /// Returns the name used in files.
    pub const fn name(self) -> &'static str {
        match self {
            Operation::Fault => "fault",
            Operation::Cow => "cow",
            Operation::SwapIn => "swapin",
            Operation::Uffd => "uffd",
            Operation::Exit => "zap_exit",
            Operation::Munmap => "zap_munmap",
            Operation::DontNeed => "zap_dontneed",
            Operation::Unmap => "unmap",
            Operation::MigrateOut => "migrate_out",
            Operation::MigrateIn => "migrate_in",
            Operation::PmdSplit => "pmd_split",
            Operation::Collapse => "collapse",
            Operation::SwapOff => "swapoff",
            Operation::Fork => "fork",
            Operation::Move => "move",
            Operation::Vma => "vma",
            Operation::Other => "other",
        }
    }

    /// Returns the position in [`Operation::ALL`].
    pub const fn index(self) -> usize {
        match self {
            Operation::Fault => 0,
            Operation::Cow => 1,
            Operation::SwapIn => 2,
            Operation::Uffd => 3,
            Operation::Exit => 4,
            Operation::Munmap => 5,
            Operation::DontNeed => 6,
            Operation::Unmap => 7,
            Operation::MigrateOut => 8,
            Operation::MigrateIn => 9,
            Operation::PmdSplit => 10,
            Operation::Collapse => 11,
            Operation::SwapOff => 12,
            Operation::Fork => 13,
            Operation::Move => 14,
            Operation::Vma => 15,
            Operation::Other => 16,
        }
    }
}

/// What is known of a call from the function that made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Site {
    /// One operation only.
    Is(Operation),
    /// Page-table entries are dropped: [`Operation::Exit`], [`Operation::Munmap`] or
    /// [`Operation::DontNeed`].
    Zap,
    /// A new anonymous folio is mapped: [`Operation::Fault`] or [`Operation::Collapse`].
    Map,
}

/// What the VMA of a call says about the operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VmaState {
    /// The MM has no users left, or was given up by the OOM killer or by a fork that failed.
    pub exiting: bool,
    /// The VMA is in the tree of its MM no longer.
    pub detached: bool,
    /// The VMA is write-locked: no page fault is possible in it.
    pub write_locked: bool,
}

/// What it takes to be [`Site::Is`] of an operation: the caller is one of these functions.
type Row = (Site, &'static [&'static str]);

/// The callers of the rmap functions.
///
/// Truncation may zap a VMA at the moment it is being unmapped, or its MM is exiting: it counts as
/// that.
const CALLERS: [Row; 15] = [
    (
        Site::Zap,
        &[
            "__zap_vma_range",
            "unmap_page_range",
            "zap_pmd_range",
            "zap_pte_range",
            "do_zap_pte_range",
            "zap_present_ptes",
            "zap_present_folio_ptes",
            "zap_nonpresent_ptes",
            // Delayed rmap: still under the PTL of the zap that queued it.
            "tlb_flush_rmaps",
            "tlb_flush_rmap_batch",
            "zap_huge_pmd",
            "zap_huge_pmd_folio",
            "zap_huge_pud",
            "__unmap_hugepage_range",
        ],
    ),
    (
        Site::Map,
        &["map_anon_folio_pte_nopf", "map_anon_folio_pmd_nopf"],
    ),
    (
        Site::Is(Operation::Fault),
        &[
            "set_pte_range",
            "do_set_pmd",
            "finish_fault",
            "do_anonymous_page",
            "do_huge_pmd_anonymous_page",
            "__do_huge_pmd_anonymous_page",
            "map_anon_folio_pte_pf",
            "map_anon_folio_pmd_pf",
            "filemap_map_pages",
            "filemap_map_pmd",
            "filemap_map_folio_range",
            "filemap_map_order0_folio",
            "hugetlb_fault",
            "hugetlb_no_page",
        ],
    ),
    (
        Site::Is(Operation::Cow),
        &[
            "do_wp_page",
            "wp_page_copy",
            "do_huge_pmd_wp_page",
            "do_huge_zero_wp_pmd",
            "hugetlb_wp",
        ],
    ),
    (Site::Is(Operation::SwapIn), &["do_swap_page"]),
    (
        Site::Is(Operation::Uffd),
        &[
            "mfill_atomic_install_pte",
            "mfill_atomic_pte_continue",
            "hugetlb_mfill_atomic_pte",
        ],
    ),
    (
        Site::Is(Operation::Unmap),
        &[
            "try_to_unmap_one",
            "try_to_unmap_poisoned_hugetlb_one",
            "unmap_huge_pmd_locked",
            "__discard_anon_folio_pmd_locked",
        ],
    ),
    (
        Site::Is(Operation::MigrateOut),
        &[
            "try_to_migrate_one",
            "set_pmd_migration_entry",
            "migrate_vma_collect_pmd",
        ],
    ),
    (
        Site::Is(Operation::MigrateIn),
        &[
            "remove_migration_pte",
            "remove_migration_pmd",
            "__migrate_device_pages",
            "migrate_vma_insert_page",
            "migrate_vma_insert_huge_pmd_page",
        ],
    ),
    (
        Site::Is(Operation::PmdSplit),
        &[
            "__split_huge_pmd_locked",
            "split_huge_pmd_locked",
            "__split_huge_pmd",
            "__split_huge_pud_locked",
            "__split_huge_pud",
        ],
    ),
    (
        Site::Is(Operation::Collapse),
        &[
            "collapse_huge_page",
            "__collapse_huge_page_copy",
            "__collapse_huge_page_copy_succeeded",
            "try_collapse_pte_mapped_thp",
            "set_huge_pmd",
        ],
    ),
    (
        Site::Is(Operation::SwapOff),
        &[
            "unuse_pte",
            "unuse_pte_range",
            "unuse_mm",
            "unuse_vma",
            "try_to_unuse",
        ],
    ),
    (
        Site::Is(Operation::Fork),
        &[
            "copy_page_range",
            "copy_present_page",
            "copy_present_ptes",
            "copy_nonpresent_pte",
            "copy_pte_range",
            "copy_huge_pmd",
            "copy_hugetlb_page_range",
            "hugetlb_install_folio",
        ],
    ),
    // Of folio_move_anon_rmap(), which changes no mapcount.
    (
        Site::Is(Operation::Move),
        &[
            "move_pages_huge_pmd",
            "move_present_ptes",
            "move_pages_ptes",
        ],
    ),
    (
        Site::Is(Operation::Other),
        &[
            "try_to_merge_one_page",
            "replace_page",
            "uprobe_write",
            "__uprobe_write",
            "insert_page_into_pte_locked",
            "insert_pmd",
            "insert_pud",
        ],
    ),
];

impl Site {
    /// Returns what is known from a caller's symbol; `None` if that is none that calls rmap
    /// functions.
    ///
    /// What compilers append to the names of parts and clones (`.cold`, `.part.0`, `.isra.0`,
    /// `.constprop.0`, `.llvm.1`) does not matter: no C function has a dot in its name.
    pub fn of_symbol(symbol: &[u8]) -> Option<Self> {
        let name = symbol.split(|byte| *byte == b'.').next()?;
        CALLERS
            .iter()
            .find(|(_, names)| names.iter().any(|n| n.as_bytes() == name))
            .map(|(site, _)| *site)
    }

    /// Returns the operation, given the state of the VMA that a call is about.
    pub fn operation(self, vma: VmaState) -> Operation {
        match self {
            Site::Is(operation) => operation,
            Site::Zap if vma.exiting => Operation::Exit,
            Site::Zap if vma.detached => Operation::Munmap,
            Site::Zap => Operation::DontNeed,
            Site::Map if vma.write_locked => Operation::Collapse,
            Site::Map => Operation::Fault,
        }
    }

    /// Returns whether the state of the VMA matters.
    pub const fn needs_vma(self) -> bool {
        !matches!(self, Site::Is(_))
    }

    /// Returns a number for [`Site::unpack`], not 0 and below 256.
    pub fn pack(self) -> u32 {
        match self {
            Site::Zap => 1,
            Site::Map => 2,
            Site::Is(operation) => u32::try_from(operation.index())
                .unwrap_or(0)
                .wrapping_add(3),
        }
    }

    /// Returns the site that was packed, `None` for a number that is none.
    pub fn unpack(packed: u32) -> Option<Self> {
        match packed {
            0 => None,
            1 => Some(Site::Zap),
            2 => Some(Site::Map),
            n => Operation::ALL
                .get(usize::try_from(n).ok()?.wrapping_sub(3))
                .map(|operation| Site::Is(*operation)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_names_are_unique() {
        for (n, operation) in Operation::ALL.iter().enumerate() {
            assert_eq!(operation.index(), n);
            let later = Operation::ALL.iter().skip(n + 1);
            assert!(later.clone().all(|o| o.name() != operation.name()));
        }
    }

    #[test]
    fn no_caller_stands_twice() {
        let names = || CALLERS.iter().flat_map(|(_, names)| names.iter());
        for name in names() {
            assert_eq!(names().filter(|other| *other == name).count(), 1, "{name}");
            assert!(!name.contains('.'), "{name}");
        }
    }

    #[test]
    fn compilers_suffixes_do_not_matter() {
        let cow = Some(Site::Is(Operation::Cow));
        for symbol in [
            "do_wp_page",
            "do_wp_page.cold",
            "do_wp_page.isra.0",
            "do_wp_page.constprop.0.isra.0",
            "wp_page_copy.part.0",
            "wp_page_copy.llvm.123456",
        ] {
            assert_eq!(Site::of_symbol(symbol.as_bytes()), cow, "{symbol}");
        }
        for symbol in ["", ".cold", "0xffffffff81000000", "do_wp_page_not", "do_wp"] {
            assert_eq!(Site::of_symbol(symbol.as_bytes()), None, "{symbol}");
        }
    }

    #[test]
    fn zaps_are_told_apart_by_the_vma() {
        let zap = Site::of_symbol(b"__zap_vma_range").map(|site| {
            [(false, false), (false, true), (true, false), (true, true)].map(
                |(exiting, detached)| {
                    site.operation(VmaState {
                        exiting,
                        detached,
                        write_locked: detached,
                    })
                },
            )
        });
        let exit = Operation::Exit;
        assert_eq!(
            zap,
            Some([Operation::DontNeed, Operation::Munmap, exit, exit])
        );
        // A delayed rmap is the zap that queued it.
        assert_eq!(Site::of_symbol(b"tlb_flush_rmap_batch"), Some(Site::Zap));
    }

    #[test]
    fn a_collapse_maps_into_a_locked_vma() {
        let locked = VmaState {
            write_locked: true,
            ..VmaState::default()
        };
        let site = Site::of_symbol(b"map_anon_folio_pmd_nopf");
        assert_eq!(
            site.map(|site| site.operation(locked)),
            Some(Operation::Collapse)
        );
        assert_eq!(
            site.map(|site| site.operation(VmaState::default())),
            Some(Operation::Fault)
        );
    }

    #[test]
    fn packed_sites_come_back() {
        let sites = Operation::ALL.map(Site::Is);
        for site in sites.into_iter().chain([Site::Zap, Site::Map]) {
            assert!(site.pack() > 0 && site.pack() < 256);
            assert_eq!(Site::unpack(site.pack()), Some(site));
        }
        assert_eq!(Site::unpack(0), None);
        assert_eq!(Site::unpack(200), None);
    }
}
