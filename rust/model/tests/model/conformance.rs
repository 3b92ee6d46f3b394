// SPDX-License-Identifier: GPL-2.0

//! The worked examples of `Documentation/definitions.rst`, with the numbers that are written there.

use fmi_model::{
    Counter,
    Kind,
    DEFINITIONS, //
};

use crate::rig::{
    Size,
    PLENTY, //
};
use crate::world::World;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

impl World {
    /// Checks values of definitions, and everything else against the list of mappings.
    fn expect(&mut self, values: &[(&str, i64)]) {
        self.assert_all();
        let view = self.view(0).map(|view| (view, self.sketches(0)));
        for (name, value) in values {
            let d = DEFINITIONS.iter().find(|d| d.name == *name).expect(name);
            let ours = view.as_ref().map_or(0, |(view, s)| (d.value)(view, s));
            assert_eq!(ours, *value, "{name}");
        }
    }
}

/// Returns a world with one folio and one MM.
fn one(order: u8, kind: Kind) -> (World, u64) {
    let mut w = World::new(PLENTY);
    w.folio(order, kind);
    let mm = w.mm();
    (w, mm)
}

/// Returns a world with an anonymous THP that one MM maps by a PMD.
fn thp() -> (World, u64, u64) {
    let (mut w, mm) = one(9, Kind::Anon);
    let vma = w.whole_vma(mm, 0);
    w.map_entire(vma);
    (w, mm, vma)
}

#[test]
fn all_pages_mapped_once() {
    for order in 1..=9 {
        let (mut w, mm) = one(order, Kind::Anon);
        let vma = w.whole_vma(mm, 0);
        w.map(vma, 0, 1 << order);
        w.expect(&[("vma_pt", 1), ("vma", 1), ("mm", 1), ("total", 1 << order)]);
    }
}

#[test]
fn across_a_pmd_boundary() {
    // 256 KiB from 1.875 MiB to 2.125 MiB.
    let (mut w, mm) = one(6, Kind::Shmem);
    let base = w.slot() + 1920 * KIB;
    let vma = w.vma(mm, 0, base, base, 256 * KIB);
    w.map(vma, 0, 32);
    w.expect(&[("vma_pt", 1), ("vma", 1)]);
    w.map(vma, 32, 32);
    w.expect(&[("vma_pt", 2), ("vma", 1)]);
}

#[test]
fn the_same_inside_one_pmd() {
    let (mut w, mm) = one(6, Kind::Shmem);
    let base = w.slot() + 2176 * KIB;
    let vma = w.vma(mm, 0, base, base, 256 * KIB);
    w.map(vma, 0, 64);
    w.expect(&[("vma_pt", 1)]);
}

#[test]
fn pmd_split_with_the_vma_whole_again() {
    let (mut w, _, vma) = thp();
    w.expect(&[("vma_pt", 1), ("total", 1), ("entire", 1)]);
    let upper = w.split_vma(vma, w.get(vma).start + 4 * KIB);
    w.merge_vmas(vma, upper);
    w.expect(&[("vma_pt", 1), ("total", 512), ("entire", 0)]);
}

#[test]
fn pmd_split_by_uffd_write_protection() {
    let (mut w, _, vma) = thp();
    w.split_pmd(vma);
    w.expect(&[("vma_pt", 1), ("total", 512), ("entire", 0)]);
}

#[test]
fn a_folio_of_1_gib_split_to_ptes() {
    let mut w = World::new(Size {
        entries: 4,
        histories: 4,
        records: 4,
        chunks: 0,
        max_order: 18,
    });
    w.folio(18, Kind::Anon);
    let mm = w.mm();
    let vma = w.whole_vma(mm, 0);
    w.map_entire(vma);
    w.expect(&[("vma_pt", 1), ("total", 1), ("total_pages", 1 << 18)]);
    w.split_pmd(vma);
    assert_eq!(w.rig.counter(Counter::ChunksPeak), 0);
    let view = w.view(0).unwrap();
    assert_eq!((view.vma_pt, view.total, view.vma), (512, 1 << 18, 1));
    assert_eq!((view.max_page, view.min_page, view.full), (1, 1, 1));
}

#[test]
fn mprotect_of_the_first_page_of_a_thp() {
    let (mut w, _, vma) = thp();
    w.split_vma(vma, w.get(vma).start + 4 * KIB);
    w.expect(&[("vma", 2), ("vma_pt", 2), ("mm", 1), ("total", 512)]);
}

#[test]
fn mremap_of_a_part_of_a_thp() {
    let (mut w, _, vma) = thp();
    let p = w.get(vma).start;
    w.mremap(vma, p + 128 * KIB, p + 256 * KIB, p + 2 * MIB);
    w.expect(&[
        ("mm", 1),
        ("total", 512),
        ("vma", 3),
        ("vma_pt", 3),
        ("first_page", 1),
        ("max_page", 1),
    ]);
}

#[test]
fn dontneed_of_head_tail_and_middle() {
    let (mut w, _, vma) = thp();
    w.split_pmd(vma);
    w.unmap(vma, 0, 128);
    w.expect(&[("vma", 1), ("total", 384)]);
    w.unmap(vma, 384, 128);
    w.expect(&[("vma", 1), ("total", 256)]);
    w.unmap(vma, 128, 256);
    w.expect(&[("vma", 0), ("total", 0)]);
}

#[test]
fn pmd_split_of_a_memfd_thp_makes_no_ptes() {
    let (mut w, mm) = one(9, Kind::Shmem);
    let vma = w.whole_vma(mm, 0);
    w.map_entire(vma);
    w.expect(&[("total", 1), ("vma", 1)]);
    let upper = w.split_vma(vma, w.get(vma).start + 4 * KIB);
    w.expect(&[("total", 0), ("vma", 0)]);
    w.map(upper, 16, 16);
    w.expect(&[("total", 16), ("vma", 1)]);
}

#[test]
fn a_window_of_two_pages_into_a_file_folio() {
    let (mut w, mm) = one(4, Kind::File);
    let base = w.slot();
    let vma = w.vma(mm, 0, base, base + 4 * 4 * KIB, 2 * 4 * KIB);
    w.map(vma, 4, 1);
    w.expect(&[("vma", 1)]);
    w.map(vma, 5, 1);
    w.expect(&[("vma", 1)]);
    let last = w.split_vma(vma, base + 5 * 4 * KIB);
    w.zap(last);
    w.remove_vma(last);
    w.expect(&[("vma", 1)]);
    w.zap(vma);
    w.expect(&[("vma", 0)]);
}

#[test]
fn two_processes_or_two_page_tables() {
    let (mut w, a) = one(9, Kind::Anon);
    let b = w.mm();
    for mm in [a, b] {
        let vma = w.whole_vma(mm, 0);
        w.map_entire(vma);
    }
    w.expect(&[("vma_pt", 2), ("mm", 2)]);

    let (mut w, mm) = one(9, Kind::Shmem);
    let base = w.slot() + MIB;
    let vma = w.vma(mm, 0, base, base, 2 * MIB);
    w.map(vma, 0, 256);
    w.map(vma, 256, 256);
    w.expect(&[("vma_pt", 2), ("mm", 1)]);
}

#[test]
fn one_page_in_two_tasks_or_two_pages_in_one() {
    let (mut w, a) = one(4, Kind::Anon);
    let b = w.mm();
    for mm in [a, b] {
        let vma = w.whole_vma(mm, 0);
        w.map(vma, 1, 1);
    }
    w.expect(&[
        ("total", 2),
        ("mm", 2),
        ("first_page", 0),
        ("max_page", 2),
        ("nr_pages_mapped", 1),
    ]);

    let (mut w, mm) = one(4, Kind::Anon);
    let vma = w.whole_vma(mm, 0);
    w.map(vma, 0, 2);
    w.expect(&[
        ("total", 2),
        ("mm", 1),
        ("first_page", 1),
        ("max_page", 1),
        ("nr_pages_mapped", 2),
    ]);
}

#[test]
fn two_pmds_and_one_pte() {
    let (mut w, a) = one(9, Kind::Shmem);
    let (b, c) = (w.mm(), w.mm());
    for mm in [a, b] {
        let vma = w.whole_vma(mm, 0);
        w.map_entire(vma);
    }
    let vma = w.whole_vma(c, 0);
    w.map(vma, 7, 1);
    w.expect(&[
        ("total", 3),
        ("total_pages", 1025),
        ("entire", 2),
        ("max_page", 3),
    ]);
}

#[test]
fn a_thp_shared_by_fork_is_split_in_the_child() {
    let (mut w, mm, vma) = thp();
    let child = w.fork(mm);
    w.expect(&[("total", 2), ("entire", 2), ("mm", 2)]);
    let start = w.get(vma).start;
    let lower = w.vma_at(child, start);
    let upper = w.split_vma(lower, start + 4 * KIB);
    w.expect(&[("total", 513), ("entire", 1), ("vma", 3)]);
    w.zap(lower);
    w.zap(upper);
    w.expect(&[("total", 1), ("entire", 1), ("mm", 1)]);
}

#[test]
fn a_vma_split_between_two_pages_that_were_copied() {
    for child_exits in [true, false] {
        let (mut w, mm, vma) = thp();
        let child = w.fork(mm);
        // The parent writes to two adjacent pages: each gets a copy.
        w.split_pmd(vma);
        w.unmap(vma, 255, 1);
        w.unmap(vma, 256, 1);
        let start = w.get(vma).start;
        let others = if child_exits {
            let vma = w.vma_at(child, start);
            w.zap(vma);
            0
        } else {
            1
        };
        w.expect(&[("vma", 1 + others)]);
        let upper = w.split_vma(vma, start + MIB);
        w.expect(&[("vma", 2 + others), ("mm", 1 + others)]);
        w.zap(upper);
        w.expect(&[("vma", 1 + others)]);
    }
}
