// SPDX-License-Identifier: GPL-2.0

//! Whatever happens, the shadow has the numbers of the list of mappings.

use fmi_model::{
    Counter,
    Counters,
    COUNTERS, //
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::rig::{
    Size,
    PLENTY, //
};
use crate::steps::{
    config,
    deed,
    order,
    world,
    Deed, //
};

/// Does the deeds, and checks everything after each; returns what was counted on the way.
fn run(orders: &[u8], deeds: &[Deed]) -> Counters {
    let mut w = world(PLENTY, orders);
    for deed in deeds {
        w.perform(deed);
        w.assert_all();
    }
    while !w.copying.is_empty() {
        w.copy_end(0);
    }
    while !w.moving.is_empty() {
        w.move_end(0);
    }
    w.assert_all();
    w.assert_equal_at_rest();
    assert_eq!(w.rig.counter(Counter::Suspects), 0);
    assert_eq!(w.rig.counter(Counter::RemoveElsewhere), 0);

    let counters = w.rig.counters();

    // Unmap everything: no record and no chunk may be left.
    for vma in w.vmas.clone() {
        w.zap(vma.id);
    }
    w.assert_all();
    w.assert_equal_at_rest();
    for counter in [Counter::Records, Counter::Chunks, Counter::Tracked] {
        assert_eq!(w.rig.counter(counter), 0);
    }
    counters
}

/// Where a VMA begins that mapped nothing is known as soon as it takes over one that does.
#[test]
fn what_maps_nothing_takes_over() {
    let split = |vma, at| Deed::SplitVma { vma, at };
    let map = |vma| Deed::Map {
        vma,
        first: 0,
        nr: 0,
    };
    // VMAs of pages 0, 1 to 2, 3, and 4 to 7, which are number 0, 2, 1 and 3.
    let deeds = [
        split(0, 3),
        split(0, 1),
        split(1, 1),
        map(3),
        Deed::MergeVmas { vma: 1 },
        map(0),
        Deed::MergeVmas { vma: 0 },
    ];
    run(&[3], &deeds);
}

/// An entire mapping that is larger than a page table moves in one step, and is split behind it.
#[test]
fn a_pud_moves_as_a_whole() {
    let new_vma = Deed::NewVma {
        folio: 0,
        mm: 0,
        shape: 0,
    };
    let deeds = [
        new_vma,
        Deed::MapEntire { vma: 7454 },
        Deed::MoveBegin {
            vma: 34382,
            first: 0,
            nr: 5468,
            to: 3080,
        },
        Deed::MoveStep { number: 0 },
        Deed::SplitPmd { vma: 8396 },
        Deed::Map {
            vma: 45687,
            first: 0,
            nr: 0,
        },
    ];
    run(&[11], &deeds);
}

/// The deeds must reach what they are meant for, or the properties say little.
#[test]
fn random_deeds_reach_everything() {
    let mut runner = TestRunner::deterministic();
    let strategy = (
        prop::collection::vec(order(), 1..3),
        prop::collection::vec(deed(), 100..200),
    );
    let mut sum = Counters::new();
    for _ in 0..200 {
        let (orders, deeds) = strategy.new_tree(&mut runner).unwrap().current();
        sum.merge(&run(&orders, &deeds));
    }
    for (counter, name) in COUNTERS {
        let never = [
            "untracked",
            "lost",
            "inconsistent",
            "missed",
            "suspects",
            "remove_elsewhere",
            "evaluated_other_kind",
            "found",
            "add_early",
            "learning",
            "adopted",
            "examples_alike",
            "table_shared",
        ];
        let times = sum.get(counter);
        if never.iter().any(|prefix| name.starts_with(prefix)) {
            assert_eq!(times, 0, "{name}");
        } else {
            assert!(times >= 10, "{name}: {times}");
        }
    }
}

proptest! {
    #![proptest_config(config(800))]

    #[test]
    fn every_number_is_that_of_the_oracle(
        orders in prop::collection::vec(order(), 1..3),
        deeds in prop::collection::vec(deed(), 1..60),
    ) {
        run(&orders, &deeds);
    }

    #[test]
    fn small_folios_with_many_deeds(
        orders in prop::collection::vec(1u8..=4, 1..3),
        deeds in prop::collection::vec(deed(), 50..200),
    ) {
        run(&orders, &deeds);
    }
}

/// A folio of 1 GiB, with as few mappings as it takes to cross words, page tables and halves.
#[test]
fn a_folio_of_order_18() {
    let size = Size {
        entries: 16,
        histories: 16,
        records: 16,
        chunks: 16,
        max_order: 18,
    };
    let mut w = world(size, &[18]);
    let (a, b) = (w.mm(), w.mm());
    let whole = w.whole_vma(a, 0);
    let slot = w.slot();
    // Askew: page 0 is the last of its page table.
    let askew = w.vma(b, 0, slot + (511 << 12), slot + (511 << 12), 1 << 30);
    for (vma, first, nr) in [
        (whole, 0, 1),
        (whole, 262_143, 1),
        (whole, 63, 2),
        (askew, 0, 1),
        (askew, 1, 512),
        (whole, 131_072, 512),
        (askew, 131_073, 512),
    ] {
        w.map(vma, first, nr);
        w.assert_all();
    }
    assert_eq!(w.view(0).unwrap().vma_pt, 3 + 3);
    w.unmap(askew, 131_073, 512);
    w.unmap(whole, 131_072, 512);
    w.assert_all();
    w.assert_equal_at_rest();
    w.zap(whole);
    w.zap(askew);
    w.assert_all();
    assert_eq!(w.rig.counter(Counter::Chunks), 0);
}
