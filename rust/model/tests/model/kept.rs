// SPDX-License-Identifier: GPL-2.0

//! Evaluations that are kept change nothing: a shard that evaluates each state anew has the same.

use fmi_model::{
    Call,
    Counter,
    Kind,
    Op,
    NR_KEPT, //
};
use proptest::prelude::*;

use crate::calls::{
    call,
    mapped, //
};
use crate::rig::{
    Rig,
    PLENTY, //
};
use crate::steps::{
    config,
    deed,
    world,
    Deed, //
};
use crate::world::World;

/// Does the deeds three times over, so that states come again.
fn run(orders: &[u8], deeds: &[Deed], keeps: bool) -> World {
    let mut w = world(PLENTY, orders);
    if !keeps {
        w.rig.keep_nothing();
    }
    for (n, deed) in deeds.iter().cycle().take(3 * deeds.len()).enumerate() {
        w.perform(deed);
        w.rig.env.sleep(1 + (n as u64 * 7) % 13);
    }
    w.grace_period();
    w.rig.with(|shard, env| shard.settle(0, u32::MAX, env));
    w
}

proptest! {
    #![proptest_config(config(1200))]

    #[test]
    fn what_is_kept_is_what_would_be_worked_out(
        orders in prop::collection::vec(prop::sample::select(&[1u8, 2, 4, 7, 9][..]), 1..4),
        deeds in prop::collection::vec(deed(), 1..60),
    ) {
        let mut a = run(&orders, &deeds, true);
        let mut b = run(&orders, &deeds, false);
        let evaluated = a.rig.counter(Counter::Evaluated);
        prop_assert_eq!(evaluated > 0, a.rig.nr_kept() > 0);
        prop_assert_eq!(b.rig.nr_kept(), 0);
        prop_assert_eq!(a.rig.counters(), b.rig.counters());
        prop_assert_eq!(a.rig.cells(), b.rig.cells());
        prop_assert_eq!(a.rig.operations(), b.rig.operations());
        prop_assert_eq!(a.rig.groups(), b.rig.groups());
        let figures = |w: &mut World| w.rig.with(|shard, _| *shard.state.figures());
        prop_assert_eq!(figures(&mut a), figures(&mut b));
        for n in 0..64 {
            let wrong = |w: &mut World| w.rig.with(|shard, _| (shard.wrong(n), shard.view(n)));
            prop_assert_eq!(wrong(&mut a), wrong(&mut b));
        }
    }
}

#[test]
fn the_same_again_takes_no_more_room() {
    let mut rig = Rig::new(PLENTY);
    let mut kept = 0;
    for round in 0..50 {
        rig.take(call(Op::Add, 0, 16));
        rig.take(mapped(call(Op::Remove, 0, 16)));
        match round {
            0 => kept = rig.nr_kept(),
            _ => assert_eq!(rig.nr_kept(), kept),
        }
    }
    assert!(kept > 0);
    assert_eq!(rig.counter(Counter::Evaluated), 100);
    assert_eq!(rig.cell(0, Kind::Anon, 4).evaluated, 100);
}

#[test]
fn more_than_is_kept_is_counted_as_well() {
    let (mut a, mut b) = (Rig::new(PLENTY), Rig::new(PLENTY));
    b.keep_nothing();
    for rig in [&mut a, &mut b] {
        rig.take(call(Op::Add, 0, 1));
        // Another number of pages each time, more than once round.
        for n in 0..3 * NR_KEPT as u32 {
            let page = 1 + n % 15;
            let op = if n / 15 % 2 == 0 { Op::Add } else { Op::Remove };
            rig.env.sleep(5);
            rig.take(mapped(call(op, page, 1)));
            rig.with(|shard, env| shard.settle(0, 100, env));
        }
    }
    assert_eq!(a.cells(), b.cells());
    assert_eq!(a.operations(), b.operations());
}

#[test]
fn the_same_disagreement_is_told_four_times_and_then_each_160_milliseconds() {
    let mut rig = Rig::new(PLENTY);
    rig.env.patient.set(true);
    let mut again = |patient: bool| {
        rig.env.patient.set(patient);
        rig.take(call(Op::Add, 0, 16));
        rig.take(mapped(call(Op::Remove, 0, 16)));
        (rig.env.told.get(), rig.counter(Counter::ToldBefore))
    };
    for n in 1..=4 {
        assert_eq!(again(true), (n, 0));
    }
    assert_eq!(again(true), (4, 1));
    // Somebody listens.
    assert_eq!(again(false), (5, 1));
    assert_eq!(again(true), (5, 2));
    for (ns, told, before) in [(159_999_999, 5, 3), (1, 6, 3), (0, 6, 4)] {
        rig.env.sleep(ns);
        rig.take(call(Op::Add, 0, 16));
        rig.take(mapped(call(Op::Remove, 0, 16)));
        assert_eq!(rig.env.told.get(), told);
        assert_eq!(rig.counter(Counter::ToldBefore), before);
    }
    // What was told is forgotten.
    rig.with(|shard, _| shard.tables.tell_anew());
    for told in 7..=10 {
        rig.take(call(Op::Add, 0, 16));
        rig.take(mapped(call(Op::Remove, 0, 16)));
        assert_eq!(rig.env.told.get(), told);
    }
}

#[test]
fn a_folio_across_page_tables_is_another_state() {
    let (mut a, mut b) = (Rig::new(PLENTY), Rig::new(PLENTY));
    b.keep_nothing();
    for rig in [&mut a, &mut b] {
        for base in [0x10_0000, 0x1f_c000, 0x10_0000] {
            let at = |op| Call {
                base,
                vma_start: base,
                vma_end: base + 0x1_0000,
                ..call(op, 0, 16)
            };
            rig.take(at(Op::Add));
            rig.take(mapped(at(Op::Remove)));
        }
    }
    assert_eq!(a.cells(), b.cells());
    assert_eq!(a.operations(), b.operations());
}
