// SPDX-License-Identifier: GPL-2.0

//! With too little storage folios are lost, and nothing else goes wrong.

use fmi_model::{
    Call,
    Counter,
    Kind,
    Level,
    LostReason,
    Op,
    Operation,
    Outcome, //
};
use proptest::prelude::*;

use crate::rig::{
    Rig,
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

/// An add of page 0 of a folio, in some MM.
fn add(pfn: u64, order: u8, mm: u64) -> Call {
    Call {
        op: Op::Add,
        level: Level::Pte,
        pfn,
        order,
        kind: Kind::File,
        first: 0,
        nr: 1,
        mm,
        mm_id: 1,
        base: 0,
        table: None,
        alt_base: None,
        vma: mm,
        vma_start: 0,
        vma_end: 0,
        task: 0,
        pid: 0,
        operation: Operation::Fault,
        caller: 0,
        kernel_unmapped: true,
        pending: 0,
    }
}

/// Uses up all storage of a shard in which nothing is tracked; returns how much there was: records
/// and chunks (with large folios), records (with small ones), folios.
fn capacity(rig: &mut Rig, size: Size) -> [u64; 3] {
    let mut all = [0; 3];
    let orders = [size.max_order, 2];
    for (n, order) in orders.into_iter().enumerate() {
        let pfn = 1000 + n as u64;
        rig.env.grace_period();
        for mm in 0.. {
            let outcome = rig.with(|shard, env| shard.call(&add(pfn, order, mm), env));
            if !matches!(outcome, Outcome::Applied | Outcome::Started) {
                break;
            }
            all[n] += 1;
        }
        rig.env.grace_period();
    }
    // Drained and lost entries are taken back two at a time.
    for pfn in 2000.. {
        let outcome = rig.with(|shard, env| shard.call(&add(pfn, 2, 1), env));
        if outcome != Outcome::Started {
            break;
        }
        all[2] += 1;
    }
    all
}

/// Does the deeds with little storage.
fn run(size: Size, orders: &[u8], deeds: &[Deed]) -> u64 {
    let mut w = world(size, orders);
    w.may_lose = true;
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
    for vma in w.vmas.clone() {
        w.zap(vma.id);
    }
    w.assert_all();
    for counter in [Counter::Records, Counter::Chunks, Counter::Tracked] {
        assert_eq!(w.rig.counter(counter), 0);
    }
    assert!(w.rig.counter(Counter::Entries) <= size.entries as u64);
    let lost = w.rig.counter(Counter::LostNoMemory);
    for counter in [
        Counter::LostInconsistent,
        Counter::Suspects,
        Counter::Missed,
        Counter::Corrupt,
    ] {
        assert_eq!(w.rig.counter(counter), 0);
    }

    // All of the storage is there to be used again: as much as new storage would have.
    w.grace_period();
    w.rig.env.kernel.borrow_mut().clear();
    let used = capacity(&mut w.rig, size);
    assert_eq!(used, capacity(&mut Rig::new(size), size));
    lost
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn little_storage_loses_folios_and_nothing_else(
        orders in prop::collection::vec(order(), 1..6),
        deeds in prop::collection::vec(deed(), 1..80),
        entries in 2usize..12,
        histories in 0usize..12,
        records in 0usize..8,
        chunks in 0usize..8,
    ) {
        let max_order = *orders.iter().max().unwrap();
        let size = Size { entries, histories, records, chunks, max_order };
        run(size, &orders, &deeds);
    }
}

#[test]
fn a_folio_is_lost_when_records_run_out() {
    let deeds = [
        Deed::Map {
            vma: 0,
            first: 0,
            nr: 1,
        },
        Deed::Fork { vma: 0 },
        Deed::Fork { vma: 0 },
    ];
    let size = Size {
        entries: 4,
        histories: 4,
        records: 2,
        chunks: 0,
        max_order: 4,
    };
    assert_eq!(run(size, &[4], &deeds), 1);
}

#[test]
fn a_folio_is_lost_when_histories_run_out() {
    let mut rig = Rig::new(Size {
        histories: 1,
        ..PLENTY
    });
    let folio = |n: u64| Call {
        kind: Kind::Anon,
        vma_end: 1 << 40,
        ..add(100 + n, 4, 1)
    };
    let whole = |n: u64| Call { nr: 16, ..folio(n) };
    assert_eq!(rig.take(whole(1)), Outcome::Started);
    assert_eq!(rig.take(folio(2)), Outcome::Started);
    assert_eq!(rig.counter(Counter::Histories), 1);
    // A part of another folio, and a part of one that was mapped as a whole.
    let lost = Outcome::Lost(LostReason::NoMemory);
    assert_eq!(rig.take(folio(3)), lost);
    let remove = Call {
        op: Op::Remove,
        kernel_unmapped: false,
        ..folio(1)
    };
    assert_eq!(rig.take(remove), lost);
    assert_eq!(rig.counter(Counter::LostNoMemory), 2);
    assert_eq!(rig.counter(Counter::Records), 1);
    // Those that need none go on, and the one that is given back is used again.
    assert_eq!(rig.take(whole(4)), Outcome::Started);
    assert_eq!(rig.take(Call { pfn: 102, ..remove }), Outcome::Applied);
    assert_eq!(rig.counter(Counter::Histories), 0);
    assert_eq!(rig.take(folio(5)), Outcome::Started);
    rig.assert_sound();
}
