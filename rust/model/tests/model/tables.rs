// SPDX-License-Identifier: GPL-2.0

//! The tables are what one gets by evaluating, by hand, each state that a run left behind.

use fmi_model::{
    Cell,
    Counter,
    Kind,
    Question,
    DEFINITIONS,
    PAIRS, //
};
use proptest::prelude::*;

use crate::naive::{
    knows,
    Naive, //
};
use crate::rig::PLENTY;
use crate::steps::{
    config,
    deed,
    world,
    Deed, //
};
use crate::world::World;

/// Does the deeds, and compares the tables at the end, those of sketches of counters only if they
/// are kept by hand, too.
fn run(orders: &[u8], deeds: &[Deed], sketches: bool) {
    let mut w = world(PLENTY, orders);
    // Kernel pairs depend on what is in flight: they have tests of their own.
    w.blind = true;
    w.prompt = true;
    for (n, deed) in deeds.iter().enumerate() {
        w.perform(deed);
        // With removes during a copy there would be states that never were.
        while !w.copying.is_empty() {
            w.copy_end(0);
        }
        while !w.moving.is_empty() {
            w.move_end(0);
        }
        w.rig.env.sleep(1 + (n as u64 * 7) % 13);
    }
    let mut naive = Naive::new();
    naive.with_sketches = sketches;
    for told in &w.log {
        naive.take(told);
    }
    // Reading settles what is left.
    let now = w.rig.env.now.get();
    w.rig.with(|shard, env| {
        let mut cursor = Some(0);
        while let Some(at) = cursor {
            cursor = shard.settle(at, 5, env);
        }
    });
    for pfn in naive.folios.keys().copied().collect::<Vec<_>>() {
        naive.evaluate(pfn, now);
    }
    naive.assert_same(&mut w);
    w.rig.env.sleep(1000);
    naive.assert_same(&mut w);

    for (pfn, known) in &naive.folios {
        let found = w.rig.with(|shard, _| {
            let e = shard.find(*pfn)?;
            Some((shard.view(e)?, shard.sketches(e)))
        });
        let Some((view, ours)) = found.filter(|(view, _)| view.total > 0) else {
            continue;
        };
        for (name, value, fields) in known.sketched() {
            let d = DEFINITIONS.iter().find(|d| d.name == name).unwrap();
            assert_eq!((d.value)(&view, &ours), value, "{name}");
            let mut shown = Vec::new();
            (d.fields)(&view, &ours, &mut |field, n| shown.push((field, n)));
            assert_eq!(shown, fields, "{name}");
        }
    }

    // The bits of each folio are those that were counted.
    for (pfn, known) in &naive.folios {
        let wrong = w.rig.with(|shard, _| Some(shard.wrong(shard.find(*pfn)?)));
        for (pair, bit) in known.wrong.iter().enumerate() {
            let (id, question) = PAIRS[pair];
            if !knows(id, question) {
                continue;
            }
            assert_eq!(wrong.is_some_and(|wrong| wrong.contains(pair)), *bit);
        }
    }
}

proptest! {
    #![proptest_config(config(1600))]

    #[test]
    fn tables_are_those_made_by_hand(
        orders in prop::collection::vec(prop::sample::select(&[1u8, 2, 4, 6, 7, 9][..]), 1..4),
        deeds in prop::collection::vec(deed(), 1..80),
    ) {
        run(&orders, &deeds, false);
    }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn sketches_are_those_made_by_hand(
        orders in prop::collection::vec(prop::sample::select(&[1u8, 2, 4, 6, 7, 9][..]), 1..4),
        deeds in prop::collection::vec(deed(), 1..80),
    ) {
        run(&orders, &deeds, true);
    }
}

/// Returns the cell of a definition and question.
fn cell(w: &mut World, name: &str, q: Question, kind: Kind, order: u8) -> Cell {
    let pair = PAIRS
        .iter()
        .position(|(id, question)| id.info().unwrap().name == name && *question == q)
        .expect(name);
    w.rig.cell(pair, kind, order)
}

#[test]
fn a_wrong_answer_is_counted_while_it_lasts() {
    let mut w = World::new(PLENTY);
    let folio = w.folio(4, Kind::Anon);
    let mm = w.mm();
    let vma = w.whole_vma(mm, folio);
    w.map(vma, 1, 15);
    w.rig.env.sleep(100);
    // Another run: the state is evaluated, and the first page says that nothing is mapped.
    w.task = 2;
    w.unmap(vma, 14, 1);
    let first_page = |w: &mut World| cell(w, "first_page", Question::Mapped, Kind::Anon, 4);
    let c = first_page(&mut w);
    assert_eq!(
        (c.evaluated, c.false_no, c.episodes, c.wrong_now),
        (1, 1, 1, 1)
    );
    w.rig.env.sleep(10);
    // The run goes on: its states in between do not count.
    w.unmap(vma, 15, 1);
    assert_eq!(first_page(&mut w).evaluated, 1);
    w.task = 3;
    w.map(vma, 0, 1);
    assert_eq!(first_page(&mut w).false_no, 2);
    assert_eq!(first_page(&mut w).wrong_time(w.rig.env.now.get()), 10);
    w.rig.env.sleep(5);
    w.unmap(vma, 0, 14);
    let c = first_page(&mut w);
    // The state with page 0, and the empty one.
    assert_eq!(
        (c.evaluated, c.false_no, c.episodes, c.wrong_now),
        (4, 2, 1, 0)
    );
    assert_eq!(c.wrong_time(1 << 40), 15);
}

#[test]
fn a_pmd_split_is_one_run() {
    let mut w = World::new(PLENTY);
    let folio = w.folio(9, Kind::Anon);
    let mm = w.mm();
    let vma = w.whole_vma(mm, folio);
    w.map_entire(vma);
    w.split_pmd(vma);
    // Only the state before: the one with 513 mappings is none.
    assert_eq!(w.rig.counter(Counter::Evaluated), 1);
    w.unmap(vma, 0, 1);
    assert_eq!(w.rig.counter(Counter::Evaluated), 2);
    assert_eq!(
        cell(&mut w, "entire", Question::Entire, Kind::Anon, 9).false_yes,
        0
    );
}

#[test]
fn reset_starts_anew_from_what_is_wrong() {
    let mut w = World::new(PLENTY);
    let folio = w.folio(4, Kind::File);
    let mm = w.mm();
    let vma = w.whole_vma(mm, folio);
    w.map(vma, 1, 1);
    w.rig.with(|shard, env| shard.settle(0, 100, env));
    w.rig.env.sleep(50);
    w.rig.with(|shard, env| {
        shard.tables.restart(env);
        shard.state.reset_counters();
    });
    let c = cell(&mut w, "first_page", Question::Mapped, Kind::File, 4);
    assert_eq!(
        (c.evaluated, c.false_no, c.episodes, c.wrong_now),
        (0, 0, 0, 1)
    );
    assert_eq!(c.wrong_time(w.rig.env.now.get()), 0);
    assert_eq!(w.rig.counter(Counter::Started), 0);
    assert_eq!(w.rig.counter(Counter::Records), 1);
    w.rig.env.sleep(7);
    w.unmap(vma, 1, 1);
    let c = cell(&mut w, "first_page", Question::Mapped, Kind::File, 4);
    assert_eq!((c.wrong_now, c.wrong_time(1 << 50)), (0, 7));
}

#[test]
fn the_kernel_is_asked_once_a_state_stands_still() {
    let mut w = World::new(PLENTY);
    let folio = w.folio(4, Kind::Anon);
    let mm = w.mm();
    let vma = w.whole_vma(mm, folio);
    w.map(vma, 0, 16);
    let partial = |w: &mut World| cell(w, "kernel", Question::Partial, Kind::Anon, 4);
    let settle = |w: &mut World| w.rig.with(|shard, env| shard.settle(0, 100, env));
    // The call may be in flight: other definitions are evaluated, the kernel is not asked.
    settle(&mut w);
    assert_eq!(partial(&mut w).evaluated, 0);
    assert_eq!(w.rig.counter(Counter::Evaluated), 1);
    w.grace_period();
    settle(&mut w);
    assert_eq!(partial(&mut w).evaluated, 1);
    settle(&mut w);
    assert_eq!(partial(&mut w).evaluated, 1);
    assert_eq!(w.rig.counter(Counter::Evaluated), 1);
    // The bit is sticky: after the page has come back it is wrong.
    w.unmap(vma, 3, 1);
    w.grace_period();
    w.map(vma, 3, 1);
    assert_eq!(
        (partial(&mut w).evaluated, partial(&mut w).false_yes),
        (2, 0)
    );
    w.grace_period();
    settle(&mut w);
    assert_eq!(
        (partial(&mut w).evaluated, partial(&mut w).false_yes),
        (3, 1)
    );
    assert_eq!(partial(&mut w).wrong_now, 1);
    // Nothing is left to be wrong about.
    w.unmap(vma, 0, 16);
    assert_eq!(
        (partial(&mut w).evaluated, partial(&mut w).wrong_now),
        (3, 0)
    );
}

#[test]
fn what_a_folio_ever_was_is_kept() {
    let mut w = World::new(PLENTY);
    let folio = w.folio(4, Kind::Anon);
    let mm = w.mm();
    let vma = w.whole_vma(mm, folio);
    let ever = |w: &mut World| {
        w.rig.with(|shard, env| shard.settle(0, 100, env));
        let view = w.view(0).unwrap();
        (view.ever_shared, view.ever_partial)
    };
    w.map(vma, 0, 16);
    assert_eq!(ever(&mut w), (false, false));
    w.unmap(vma, 0, 16);
    assert_eq!(ever(&mut w), (false, false));
    // A run that ends with all pages mapped never left the folio partially mapped.
    w.map(vma, 0, 3);
    w.map(vma, 3, 13);
    assert_eq!(ever(&mut w), (false, false));
    w.unmap(vma, 5, 1);
    assert_eq!(ever(&mut w), (false, true));
    let child = w.fork(mm);
    assert_eq!(ever(&mut w), (true, true));
    let start = w.get(vma).start;
    w.zap(w.vma_at(child, start));
    w.zap(vma);
    assert_eq!(ever(&mut w), (true, true));
    // Another life is another story.
    w.grace_period();
    w.map(vma, 0, 16);
    assert_eq!(ever(&mut w), (false, false));
}
