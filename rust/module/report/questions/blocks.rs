// SPDX-License-Identifier: GPL-2.0

//! The questions, each with its source and its figures.

use kernel::{
    seq_file::SeqFile,
    seq_print, //
};

use fmi_model::{
    ByKind,
    Cell,
    Kind,
    Question,
    Rest,
    Scans,
    DEFINITIONS,
    PAIRS,
    TABLE_KIND,
    TABLE_KINDS, //
};

use super::{
    walked,
    Block, //
};
use crate::control::Group;

/// Types that have a line of their own whatever there is: anonymous memory, files and shmem.
const ALWAYS_SHOWN: usize = 3;

fn by_kind(m: &SeqFile, name: &str, counts: &ByKind) {
    let sum = counts.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
    seq_print!(m, "{name}: {sum}\n");
    for (i, (kind, n)) in TABLE_KIND.iter().zip(counts).enumerate() {
        // Types that function hooks do not track have a line where there are any.
        if i >= ALWAYS_SHOWN && *n == 0 {
            continue;
        }
        seq_print!(m, "{name}_{}: {n}\n", kind.name());
    }
}

fn scans(m: &SeqFile, name: &str, s: &Scans) {
    seq_print!(m, "scans_{name}: {}\n", s.scans);
    seq_print!(m, "scans_{name}_entries: {}\n", s.entries);
    seq_print!(m, "scans_{name}_max: {}\n", s.most);
    seq_print!(m, "scans_{name}_by_entries:");
    let mut most = 1u32;
    for (class, n) in s.classes.iter().enumerate() {
        if class + 1 == s.classes.len() {
            seq_print!(m, " more:{n}\n");
        } else {
            seq_print!(m, " {most}:{n}");
            most <<= 1;
        }
    }
}

/// Returns the cell of a definition and a question, summed over orders and types.
fn cell_of(cells: &[Cell], definition: &str, question: Question) -> Cell {
    let pair = PAIRS
        .iter()
        .position(|(id, q)| *q == question && id.info().is_some_and(|d| d.name == definition));
    pair.and_then(|pair| cells.get(pair).copied())
        .unwrap_or_default()
}

fn print_cell(m: &SeqFile, name: &str, cell: &Cell, now: u64) {
    seq_print!(m, "{name}_evaluated: {}\n", cell.evaluated);
    seq_print!(m, "{name}_false_yes: {}\n", cell.false_yes);
    seq_print!(m, "{name}_false_no: {}\n", cell.false_no);
    seq_print!(m, "{name}_episodes: {}\n", cell.episodes);
    seq_print!(m, "{name}_now: {}\n", cell.wrong_now);
    seq_print!(m, "{name}_time_ns: {}\n", cell.wrong_time(now));
}

/// The questions, by number.
pub(super) const BLOCKS: &[Block] = &[
    Block {
        number: "1",
        text: "Map three pages, unmap two of them: does this ever happen? (runs of removes that \
               leave pages of their VMA and page table mapped)",
        source: "Wilcox 2023-01-24",
        group: Group::Questions,
        print: |m, facts| {
            by_kind(m, "remove_runs", &facts.figures.remove_runs);
            let left = &facts.figures.remove_runs_tuple_left;
            by_kind(m, "remove_runs_tuple_left", left);
        },
    },
    Block {
        number: "2",
        text: "Is unaligned mapping for a folio common? (more page tables than VMAs)",
        source: "Xu 2023-02-07",
        group: Group::Questions,
        print: |m, facts| {
            by_kind(m, "folios", &facts.figures.folios);
            by_kind(m, "folios_ever_unaligned", &facts.figures.ever_unaligned);
            by_kind(m, "folios_now", &facts.now.folios);
            by_kind(m, "folios_unaligned_now", &facts.now.unaligned);
        },
    },
    Block {
        number: "3",
        text:
            "What does a count of VMAs cost per partial add or remove? (page-table entries to look \
               at until a mapped one is found, or all)",
        source: "Houghton 2023-02-07, 2023-02-08",
        group: Group::Questions,
        print: |m, facts| {
            scans(m, "add", &facts.figures.scans_add);
            scans(m, "remove", &facts.figures.scans_remove);
        },
    },
    Block {
        number: "4",
        text:
            "A VMA is split between two COWed pages: how do we detect that the count of VMAs must \
               change? (how often the counter is stale, or 0 while the folio is mapped)",
        source: "Yin 2023-03-29 (4)",
        group: Group::Disagreement,
        print: |m, facts| {
            let stale = cell_of(&facts.cells, "vma_counter", Question::Drift);
            print_cell(m, "vma_counter_stale", &stale, facts.time);
            let zero = cell_of(&facts.cells, "vma_counter", Question::Mapped);
            print_cell(m, "vma_counter_zero_while_mapped", &zero, facts.time);
        },
    },
    Block {
        number: "5",
        text: "AnonPages, Mapped and AnonHugePages from one mapcount, or regardless of what is \
               mapped: how wrong are they? (pages of tracked folios)",
        source: "Zi Yan 2023-07-01",
        group: Group::Disagreement,
        print: |m, facts| {
            by_kind(m, "pages_mapped_now", &facts.now.pages);
            by_kind(m, "pages_one_mapcount_now", &facts.now.whole);
            let anon = Kind::Anon.index();
            let of = |counts: &ByKind| counts.get(anon).copied().unwrap_or(0);
            let (mapped, sized) = (of(&facts.now.pmd_mapped), of(&facts.now.pmd_sized));
            seq_print!(m, "pages_pmd_mapped_now_anon: {mapped}\n");
            seq_print!(m, "pages_pmd_one_mapcount_now_anon: {sized}\n");
            for d in ["total", "stat_any", "total_pages"] {
                let cell = cell_of(&facts.cells, d, Question::Stat);
                seq_print!(m, "{d}_stat_evaluated: {}\n", cell.evaluated);
                seq_print!(m, "{d}_stat_too_high: {}\n", cell.false_yes);
            }
            walked::statistics(m, facts);
        },
    },
    Block {
        number: "6",
        text: "Page 1 of an order-4 folio in two tasks, or pages 0 and 1 in one: which estimates \
               confuse them, and how often?",
        source: "Wilcox 2023-07-04",
        group: Group::Disagreement,
        print: |m, facts| {
            for (order, cells) in [("order_4", &facts.order_4), ("all", &facts.cells)] {
                for d in [
                    "est_nr_pages",
                    "est_nr_mapped",
                    "est_one",
                    "first_page",
                    "avg_page",
                ] {
                    let cell = cell_of(cells, d, Question::Shared);
                    seq_print!(m, "{d}_{order}_evaluated: {}\n", cell.evaluated);
                    seq_print!(m, "{d}_{order}_false_yes: {}\n", cell.false_yes);
                    seq_print!(m, "{d}_{order}_false_no: {}\n", cell.false_no);
                }
            }
        },
    },
    Block {
        number: "7",
        text: "Are partial unmaps common? (runs of removes that leave pages of their VMA mapped)",
        source: "Xu 2023-08-10",
        group: Group::Questions,
        print: |m, facts| {
            by_kind(m, "remove_runs", &facts.figures.remove_runs);
            by_kind(
                m,
                "remove_runs_vma_left",
                &facts.figures.remove_runs_vma_left,
            );
            by_kind(m, "folios", &facts.figures.folios);
            by_kind(m, "folios_ever_partial", &facts.figures.ever_partial);
            by_kind(m, "folios_partial_now", &facts.now.partial);
            by_kind(m, "folios_ever_shared", &facts.figures.ever_shared);
            by_kind(m, "folios_ever_more_than_two_mms", &facts.figures.ever_many);
        },
    },
    Block {
        number: "8",
        text: "PG_double_map stays although all PTE mappings are gone: how often does that happen?",
        source: "Marchand, Shutemov 2015-07-31",
        group: Group::Disagreement,
        print: |m, facts| {
            let cell = cell_of(&facts.cells, "double_map", Question::Entire);
            print_cell(m, "double_map_outlives", &cell, facts.time);
        },
    },
    Block {
        number: "9",
        text: "Are we in danger of overflowing page refcount too easily?",
        source: "Wilcox 2024-01-29",
        group: Group::Questions,
        print: |m, facts| {
            let limit = (1u64 << 31) - 1;
            let most = facts.figures.most_mappings.max(facts.now.most_mappings);
            let refs = facts.figures.most_references;
            seq_print!(m, "references_by_mappings_now: {}\n", facts.now.mappings);
            seq_print!(m, "references_by_one_a_folio_now: {}\n", {
                let folios = facts.now.folios.iter();
                folios.fold(0u64, |sum, n| sum.saturating_add(*n))
            });
            seq_print!(m, "most_mappings: {most}\n");
            seq_print!(m, "most_references: {refs}\n");
            let left = limit.saturating_sub(refs.max(most));
            seq_print!(m, "references_left: {left}\n");
            seq_print!(m, "vmas_left_pmd_sized_by_ptes: {}\n", left >> pmd_order());
        },
    },
    Block {
        number: "10",
        text:
            "How do we need to track pages mapped to user space that are neither file-backed nor \
               anonymous, and what do VM_PFNMAP and VM_MIXEDMAP imply? (a census of all page \
               tables, now; calls of rmap for large folios that are not tracked, since then)",
        source: "Wilcox 2024-01-29",
        group: Group::Stats,
        print: walked::census,
    },
    Block {
        number: "11",
        text: "How expressive is PSS when large folios are only partially mapped? (its error, and \
               that of USS, over all processes; by process: preview)",
        source: "Hildenbrand 2024-01-29",
        group: Group::Preview,
        print: walked::shares,
    },
    Block {
        number: "12",
        text:
            "Mapcounts without CONFIG_PAGE_MAPCOUNT: what would its functional changes change on \
               this machine, now? (details: preview)",
        source: "Hildenbrand 2026-04-12",
        group: Group::Preview,
        print: walked::changes,
    },
    Block {
        number: "-",
        text: "What is left in the counters that authors sketched when nothing maps a folio any \
               more: leaks and underflows",
        source: "definitions",
        group: Group::Questions,
        print: |m, facts| {
            for d in DEFINITIONS.iter() {
                let rest = facts.figures.rest(d.id);
                if rest != Rest::default() {
                    seq_print!(m, "{}_left_over: {}\n", d.name, rest.leaks);
                    seq_print!(m, "{}_left_over_sum: {}\n", d.name, rest.leaked);
                    seq_print!(m, "{}_below_zero: {}\n", d.name, rest.underflows);
                    seq_print!(m, "{}_below_zero_sum: {}\n", d.name, rest.underflown);
                }
            }
        },
    },
];

fn pmd_order() -> u32 {
    u32::from(crate::env::geometry().pmd_order)
}

const _: () = assert!(TABLE_KINDS >= ALWAYS_SHOWN);
