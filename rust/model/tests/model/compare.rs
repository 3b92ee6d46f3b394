// SPDX-License-Identifier: GPL-2.0

//! Comparisons with the kernel: no false alarm, and no planted fault gets past.

use fmi_model::{
    Compare,
    Counter,
    Field,
    KernelCounts,
    Kind,
    Level,
    MappingCheck,
    Op,
    Place,
    Suspect, //
};
use proptest::prelude::*;

use crate::rig::{
    page_counts,
    Window,
    PLENTY, //
};
use crate::steps::{
    config,
    deed,
    order,
    world,
    Deed, //
};
use crate::world::World;

/// Returns a world with an order-4 anonymous folio, 8 pages of which one MM maps.
fn half_mapped() -> (World, u64) {
    let mut w = World::new(PLENTY);
    let folio = w.folio(4, Kind::Anon);
    let mm = w.mm();
    let vma = w.whole_vma(mm, folio);
    w.map(vma, 0, 8);
    (w, vma)
}

/// Compares folio 0 with the kernel.
fn compare(w: &mut World) -> Compare {
    w.show_kernel();
    let pfn = w.folios[0].pfn;
    w.rig
        .with(|shard, env| shard.compare(shard.find(pfn).unwrap(), env))
}

/// Compares folio 0 with the kernel's counters after they were falsified.
fn compare_with(w: &mut World, change: impl FnOnce(&mut KernelCounts)) -> Compare {
    w.show_kernel();
    let pfn = w.folios[0].pfn;
    change(w.rig.env.kernel.borrow_mut().get_mut(&pfn).unwrap());
    w.rig
        .with(|shard, env| shard.compare(shard.find(pfn).unwrap(), env))
}

#[test]
fn nothing_is_said_while_calls_may_be_in_flight() {
    let (mut w, vma) = half_mapped();
    assert_eq!(compare(&mut w), Compare::NotQuiescent);
    w.grace_period();
    assert_eq!(compare(&mut w), Compare::Equal);
    w.unmap(vma, 0, 1);
    assert_eq!(compare(&mut w), Compare::NotQuiescent);
    w.grace_period();
    assert_eq!(compare(&mut w), Compare::Equal);
    w.unmap(vma, 1, 7);
    w.grace_period();
    assert_eq!(compare(&mut w), Compare::Equal);
}

#[test]
fn nothing_is_said_about_a_folio_in_a_window() {
    let (mut w, vma) = half_mapped();
    w.grace_period();
    let other = w.folio(4, Kind::Anon);
    let mm = w.mm();
    let elsewhere = w.whole_vma(mm, other);
    let child = w.mm();
    w.copy_begin(elsewhere, child);
    assert_eq!(compare(&mut w), Compare::Equal);
    w.copy_end(0);
    w.copy_begin(vma, child);
    assert_eq!(compare(&mut w), Compare::NotQuiescent);
    w.copy_end(0);
    assert_eq!(compare(&mut w), Compare::NotQuiescent);
    w.grace_period();
    assert_eq!(compare(&mut w), Compare::Equal);
    let start = w.get(vma).start;
    w.move_begin(vma, start, start + (1 << 12), start + (1 << 30));
    assert_eq!(compare(&mut w), Compare::NotQuiescent);
    w.move_end(0);
    assert_eq!(compare(&mut w), Compare::Equal);
}

#[test]
fn nothing_is_said_while_a_ticket_is_open() {
    let (mut w, vma) = half_mapped();
    let child = w.mm();
    w.copy_begin(vma, child);
    w.copy_step(0);
    // The copy has 8 mappings, nobody knows; the parent's go.
    w.unmap(vma, 0, 8);
    w.grace_period();
    assert_eq!(compare(&mut w), Compare::NotQuiescent);
    w.copy_end(0);
    w.grace_period();
    assert_eq!(compare(&mut w), Compare::Equal);
}

#[test]
fn a_copy_that_begins_while_the_counters_are_read_is_no_alarm() {
    let begin = |w: &World, vma: u64| {
        let v = w.get(vma);
        w.rig.env.begins.set(Some(Window {
            ticket: 1,
            mm: v.mm,
            ranges: [(v.start, v.end), (0, 0)],
        }));
    };
    let (mut w, vma) = half_mapped();
    w.grace_period();
    begin(&w, vma);
    assert_eq!(compare(&mut w), Compare::NotQuiescent);
    assert_eq!(compare(&mut w), Compare::Equal);
    begin(&w, vma);
    w.map(vma, 8, 1);
    assert_eq!(w.rig.counter(Counter::Suspects), 0);
    assert_eq!(w.rig.counter(Counter::Checked), 0);
    assert_eq!(w.rig.counter(Counter::EvaluatedKernel), 0);
}

#[test]
fn with_many_records_a_call_does_not_look_for_windows() {
    let (mut w, vma) = half_mapped();
    let mut last = vma;
    for _ in 0..20 {
        let mm = w.mm();
        last = w.whole_vma(mm, 0);
        w.map(last, 0, 8);
    }
    w.grace_period();
    w.map(vma, 8, 1);
    w.grace_period();
    let checked = w.rig.counter(Counter::Checked);
    // The kernel has copied mappings that nobody knows of.
    let child = w.mm();
    w.copy_begin(last, child);
    w.copy_step(0);
    w.map(vma, 9, 1);
    assert_eq!(w.rig.counter(Counter::Checked), checked);
    w.copy_end(0);
    // Without windows it is checked.
    w.grace_period();
    w.map(vma, 10, 1);
    assert_eq!(w.rig.counter(Counter::Checked), checked + 1);
    assert_eq!(w.rig.counter(Counter::Suspects), 0);
    // With one elsewhere it is not; a comparison takes its time and looks at all records.
    w.grace_period();
    let other = w.folio(4, Kind::Anon);
    let mm = w.mm();
    let elsewhere = w.whole_vma(mm, other);
    w.copy_begin(elsewhere, child);
    assert_eq!(compare(&mut w), Compare::Equal);
    w.map(vma, 11, 1);
    assert_eq!(w.rig.counter(Counter::Checked), checked + 1);
}

#[test]
fn every_counter_is_compared() {
    type Fault = fn(&mut KernelCounts);
    let faults: [(Field, Fault); 11] = [
        (Field::Order, |k| k.order = 3),
        (Field::Large, |k| k.large += 1),
        (Field::Entire, |k| k.entire = 1),
        (Field::NrPagesMapped, |k| k.nr_pages_mapped -= 1),
        (Field::NrPagesMapped, |k| k.nr_pages_mapped += 0x80_0000),
        // Slots: a second MM, one without mappings, more mappings than there are, twice the same.
        (Field::Slots, |k| {
            k.mm_id[1] = 77;
            k.mm_id_mapcount = [1, 1];
        }),
        (Field::SlotCounts, |k| k.mm_id_mapcount[0] = 0),
        (Field::SlotCounts, |k| k.mm_id_mapcount[0] = 9),
        (Field::SlotCounts, |k| k.mm_id_mapcount[1] = 1),
        (Field::SlotIds, |k| k.mm_id[1] = k.mm_id[0]),
        (Field::Large, |k| k.large = 0),
    ];
    for (n, (field, fault)) in faults.into_iter().enumerate() {
        let (mut w, _) = half_mapped();
        w.grace_period();
        match compare_with(&mut w, fault) {
            // A folio of another order is not there at all.
            Compare::Differs(m) => assert!(m.get(field).is_some(), "{n}: {m:?}"),
            other => panic!("{n}: {other:?}"),
        }
    }
}

#[test]
fn mapped_exclusively_is_an_alarm_with_two_mms() {
    let (mut w, vma) = half_mapped();
    let mm = w.get(vma).mm;
    w.fork(mm);
    w.grace_period();
    assert_eq!(compare(&mut w), Compare::Equal);
    let Compare::Differs(m) = compare_with(&mut w, |k| k.shared_bit = false) else {
        panic!("the one that COW relies on");
    };
    assert!(m.iter().eq([(Field::SharedBit, 1, 0)]));
    // With one MM it may be set: the kernel errs on the side of shared.
    let (mut w, _) = half_mapped();
    w.grace_period();
    assert_eq!(
        compare_with(&mut w, |k| k.shared_bit = true),
        Compare::Equal
    );
    // Unmapped it must be clear.
    let (mut w, vma) = half_mapped();
    w.unmap(vma, 0, 8);
    w.grace_period();
    let Compare::Differs(m) = compare_with(&mut w, |k| k.shared_bit = true) else {
        panic!("still shared");
    };
    assert!(m.iter().eq([(Field::SharedBit, 0, 1)]));
}

#[test]
fn without_per_page_mapcounts_nr_pages_mapped_is_not_compared() {
    let (mut w, _) = half_mapped();
    w.grace_period();
    let none = |k: &mut KernelCounts| {
        k.per_page = false;
        k.nr_pages_mapped = 0;
    };
    assert_eq!(compare_with(&mut w, none), Compare::Equal);
}

#[test]
fn a_mapped_folio_that_is_gone_differs() {
    let (mut w, vma) = half_mapped();
    w.grace_period();
    let pfn = w.folios[0].pfn;
    w.rig.env.kernel.borrow_mut().remove(&pfn);
    let compared = w
        .rig
        .with(|shard, env| shard.compare(shard.find(pfn).unwrap(), env));
    let Compare::Differs(m) = compared else {
        panic!("{compared:?}");
    };
    assert!(m.iter().eq([(Field::Order, 4, -1)]));
    // One without mappings may go.
    w.unmap(vma, 0, 8);
    w.grace_period();
    w.rig.env.kernel.borrow_mut().remove(&pfn);
    let compared = w
        .rig
        .with(|shard, env| shard.compare(shard.find(pfn).unwrap(), env));
    assert_eq!(compared, Compare::NotQuiescent);
}

#[test]
fn the_next_call_finds_a_suspect_and_only_once() {
    let (mut w, vma) = half_mapped();
    w.grace_period();
    // The hooks miss a page.
    w.deaf = true;
    w.map(vma, 8, 1);
    w.deaf = false;
    w.grace_period();
    let pfn = w.folios[0].pfn;
    let seq = w.rig.seq(pfn).unwrap();
    w.map(vma, 9, 1);
    assert_eq!(w.rig.counter(Counter::Checked), 1);
    w.grace_period();
    w.map(vma, 10, 1);
    assert_eq!(
        (
            w.rig.counter(Counter::Checked),
            w.rig.counter(Counter::Suspects)
        ),
        (2, 1)
    );
    let suspect = w.rig.with(|shard, _| shard.take_suspect());
    assert_eq!(suspect, Some(Suspect { pfn, seq }));
    assert_eq!(w.rig.with(|shard, _| shard.take_suspect()), None);
    w.grace_period();
    w.map(vma, 11, 1);
    assert_eq!(w.rig.counter(Counter::Suspects), 2);
}

#[test]
fn a_full_ring_of_suspects_is_counted() {
    let mut w = World::new(PLENTY);
    let mm = w.mm();
    let mut vmas = Vec::new();
    for n in 0..20 {
        let folio = w.folio(4, Kind::File);
        vmas.push(w.whole_vma(mm, folio));
        w.map(vmas[n], 0, 1);
    }
    w.deaf = true;
    for vma in &vmas {
        w.map(*vma, 1, 1);
    }
    w.deaf = false;
    w.grace_period();
    for vma in &vmas {
        w.map(*vma, 2, 1);
    }
    assert_eq!(w.rig.counter(Counter::Suspects), 20);
    assert_eq!(w.rig.counter(Counter::SuspectsDropped), 4);
    for n in 0..16 {
        let suspect = w.rig.with(|shard, _| shard.take_suspect());
        assert_eq!(suspect.map(|s| s.pfn), Some(w.folios[n].pfn));
    }
    assert_eq!(w.rig.with(|shard, _| shard.take_suspect()), None);
}

#[test]
fn mappings_are_checked_against_the_shadow() {
    let (mut w, vma) = half_mapped();
    let v = w.get(vma);
    let pfn = w.folios[0].pfn;
    let place = Place {
        pfn,
        order: 4,
        mm: v.mm,
        base: v.base,
        table: None,
        level: Level::Pte,
        first: 6,
        nr: 4,
    };
    let mut check = |p: Place| w.rig.with(|shard, _| shard.check_mapping(&p));
    assert_eq!(check(place), MappingCheck::Missing { pages: 2 });
    assert_eq!(check(Place { nr: 2, ..place }), MappingCheck::Ok);
    assert_eq!(
        check(Place { mm: 99, ..place }),
        MappingCheck::Missing { pages: 4 }
    );
    assert_eq!(check(Place { pfn: 1, ..place }), MappingCheck::Untracked);
    assert_eq!(check(Place { order: 5, ..place }), MappingCheck::WrongOrder);
    assert_eq!(check(Place { nr: 11, ..place }), MappingCheck::WrongOrder);
    let entire = Place {
        level: Level::Entire,
        first: 0,
        nr: 16,
        ..place
    };
    assert_eq!(check(entire), MappingCheck::Missing { pages: 16 });
    w.rig
        .with(|shard, env| shard.lose(pfn, fmi_model::LostReason::Window, env));
    let lost = w.rig.with(|shard, _| shard.check_mapping(&place));
    assert_eq!(lost, MappingCheck::Untracked);
}

/// Does the deeds; then the hooks miss one call, and the comparison must see it.
fn miss_one_call(orders: &[u8], deeds: &[Deed], choice: usize) -> bool {
    let mut w = world(PLENTY, orders);
    for deed in deeds {
        w.perform(deed);
    }
    while !w.copying.is_empty() {
        w.copy_end(0);
    }
    while !w.moving.is_empty() {
        w.move_end(0);
    }
    w.assert_equal_at_rest();
    let ptes: Vec<_> = w.mappings.iter().filter(|m| !m.entire).copied().collect();
    let Some(m) = ptes.get(choice % ptes.len().max(1)) else {
        return false;
    };
    if w.counts(m.folio).total < 2 {
        return false;
    }
    let pfn = w.folios[m.folio].pfn;
    w.deaf = true;
    w.unmap(m.vma, m.page, 1);
    w.deaf = false;
    w.grace_period();
    let compare = |w: &mut World| {
        w.rig
            .with(|shard, env| shard.compare(shard.find(pfn).unwrap(), env))
    };
    assert!(matches!(compare(&mut w), Compare::Differs(_)));
    // It comes back, as another page if that is free: then only the pages differ.
    let v = w.get(m.vma);
    let nr_pages = w.folios[m.folio].nr_pages();
    let other =
        (0..nr_pages).find(|page| *page != m.page && v.covers(*page) && !w.has_pte(&v, *page));
    w.deaf = true;
    w.map(m.vma, other.unwrap_or(m.page), 1);
    w.deaf = false;
    w.grace_period();
    let kernel = w.folios[m.folio].kernel.clone();
    let pages_equal = w.rig.with(|shard, _| {
        let e = shard.find(pfn).unwrap();
        let pages = page_counts(shard, e);
        (0..nr_pages).all(|i| pages[i as usize] == i64::from(kernel.page_mapcount(i)))
    });
    assert_eq!(pages_equal, other.is_none());
    true
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn a_missed_call_is_found(
        orders in prop::collection::vec(order(), 1..3),
        deeds in prop::collection::vec(deed(), 1..50),
        choice in 0usize..1000,
    ) {
        miss_one_call(&orders, &deeds, choice);
    }
}

#[test]
fn a_missed_call_is_found_at_least_here() {
    let deeds = [Deed::Map {
        vma: 0,
        first: 3,
        nr: 9,
    }];
    assert!(miss_one_call(&[5], &deeds, 1));
    assert_eq!(Op::Add, Op::Add);
}
