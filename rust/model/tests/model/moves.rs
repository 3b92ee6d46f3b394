// SPDX-License-Identifier: GPL-2.0

//! Single moves, legal and not; boundaries that nobody can have.

use fmi_model::{
    Boundary,
    Call,
    Counter,
    Edge,
    Inconsistency,
    Level,
    Move,
    Op,
    Outcome,
    State, //
};

use crate::calls::{
    call,
    mapped,
    pfn, //
};
use crate::rig::{
    Rig,
    PLENTY, //
};

/// A move of pages of the folio of [`call`] by 1 GiB.
fn shift(first: u32, nr: u32) -> Move {
    let c = call(Op::Add, first, nr);
    Move {
        pfn: c.pfn,
        order: c.order,
        mm: c.mm,
        old_base: c.base,
        new_base: c.base + (1 << 30),
        tables: [None; 2],
        level: Level::Pte,
        first,
        nr,
        vma_start: c.vma_start + (1 << 30),
        vma_end: c.vma_end + (1 << 30),
        pid: 0,
    }
}

impl Rig {
    /// Takes a move.
    fn rekey(&mut self, m: Move) -> Outcome {
        let outcome = self.with(|shard, env| shard.rekey(&m, env));
        self.assert_sound();
        outcome
    }

    /// Returns bases and numbers of pages of the records of folio 1.
    fn places(&mut self) -> Vec<(u64, u32)> {
        self.with(|shard, _| {
            let records = shard.records(shard.find(pfn(1)).unwrap());
            let mut places: Vec<_> = records.map(|r| (r.base, r.nr)).collect();
            places.sort_unstable();
            places
        })
    }
}

/// Returns a shard that knows 8 pages of folio 1.
fn eight_pages() -> Rig {
    let mut rig = Rig::new(PLENTY);
    assert_eq!(rig.take(call(Op::Add, 4, 8)), Outcome::Started);
    rig
}

#[test]
fn a_part_moves_and_the_rest_follows() {
    let (old, new) = (0x10_0000, 0x10_0000 + (1 << 30));
    let mut rig = eight_pages();
    let first = rig.seq(pfn(1)).unwrap();
    assert_eq!(rig.rekey(shift(6, 2)), Outcome::Applied);
    assert_eq!(rig.places(), [(old, 6), (new, 2)]);
    // Pages that are there already stay there.
    assert_eq!(rig.rekey(shift(4, 8)), Outcome::Applied);
    assert_eq!(rig.places(), [(new, 8)]);
    assert_eq!(rig.seq(pfn(1)), Some(first.wrapping_add(2)));
    // Nothing moves any more: no change, and nothing to evaluate.
    assert_eq!(rig.rekey(shift(4, 8)), Outcome::Applied);
    let m = Move {
        old_base: new,
        ..shift(4, 8)
    };
    assert_eq!(rig.rekey(m), Outcome::Applied);
    assert_eq!(rig.seq(pfn(1)), Some(first.wrapping_add(2)));
    // The state before the moves; they are one run.
    assert_eq!(rig.counter(Counter::Evaluated), 1);
    assert_eq!(rig.counter(Counter::Moves), 4);
}

#[test]
fn an_entire_mapping_moves_beside_ptes() {
    let mut rig = eight_pages();
    let entire = Call {
        level: Level::Entire,
        ..mapped(call(Op::Add, 0, 16))
    };
    assert_eq!(rig.take(entire), Outcome::Applied);
    let m = Move {
        level: Level::Entire,
        ..shift(0, 16)
    };
    assert_eq!(rig.rekey(m), Outcome::Applied);
    let (old, new) = (0x10_0000, 0x10_0000 + (1 << 30));
    assert_eq!(rig.places(), [(old, 8), (new, 0)]);
    assert_eq!(rig.rekey(shift(4, 8)), Outcome::Applied);
    assert_eq!(rig.places(), [(new, 8)]);
    assert_eq!(rig.total(pfn(1)), 9);
}

#[test]
fn a_move_that_cannot_be_loses_the_folio() {
    let not_mapped = Inconsistency::MoveNotMapped;
    let good = shift(4, 8);
    let bad = [
        (shift(3, 2), not_mapped),
        (Move { mm: 8, ..good }, not_mapped),
        (
            Move {
                level: Level::Entire,
                ..shift(0, 16)
            },
            not_mapped,
        ),
        (
            Move {
                new_base: good.old_base,
                ..shift(3, 2)
            },
            not_mapped,
        ),
        (
            Move {
                old_base: 0,
                new_base: 0,
                ..good
            },
            not_mapped,
        ),
        (Move { order: 5, ..good }, Inconsistency::OrderChanged),
        (Move { nr: 0, ..good }, Inconsistency::Malformed),
        (Move { nr: 13, ..good }, Inconsistency::Malformed),
        (
            Move {
                level: Level::Entire,
                ..good
            },
            Inconsistency::Malformed,
        ),
    ];
    for (m, kind) in bad {
        let mut rig = eight_pages();
        assert_eq!(rig.rekey(m), Outcome::Inconsistent(kind), "{m:?}");
        assert_eq!(rig.state(pfn(1)), Some(State::Lost));
        assert_eq!(rig.counter(Counter::Records), 0);
    }
}

#[test]
fn a_move_onto_another_mapping_loses_the_folio() {
    let mut rig = eight_pages();
    let there = Call {
        base: 0x10_0000 + (1 << 30),
        vma_start: 0,
        vma_end: 0,
        ..mapped(call(Op::Add, 11, 1))
    };
    assert_eq!(rig.take(there), Outcome::Applied);
    assert_eq!(rig.rekey(shift(4, 7)), Outcome::Applied);
    let onto = Outcome::Inconsistent(Inconsistency::MoveOntoMapped);
    assert_eq!(rig.rekey(shift(11, 1)), onto);
}

#[test]
fn a_move_of_what_is_not_tracked_is_counted() {
    let mut rig = Rig::new(PLENTY);
    assert_eq!(rig.rekey(shift(0, 1)), Outcome::Untracked);
    rig.take(call(Op::Add, 0, 4));
    rig.take(mapped(call(Op::Remove, 0, 4)));
    // Drained, and another folio at the pfn for all that is known.
    let other = Move {
        order: 5,
        ..shift(0, 1)
    };
    assert_eq!(rig.rekey(other), Outcome::Untracked);
    // The same folio has no mapping to move.
    let not_mapped = Outcome::Inconsistent(Inconsistency::MoveNotMapped);
    assert_eq!(rig.rekey(shift(0, 1)), not_mapped);
    assert_eq!(rig.rekey(shift(0, 1)), Outcome::Untracked);
    assert_eq!(rig.counter(Counter::UntrackedMove), 3);
}

#[test]
fn only_boundaries_inside_a_known_record_count() {
    let mut rig = eight_pages();
    let c = call(Op::Add, 0, 1);
    let good = Boundary {
        pfn: c.pfn,
        order: c.order,
        mm: c.mm,
        base: c.base,
        at: 6,
        edge: Edge::Appeared,
        pid: 0,
    };
    let vanished = |start, end| Boundary {
        edge: Edge::Vanished { start, end },
        ..good
    };
    let mut set = |b: Boundary| rig.with(|shard, env| shard.set_boundary(&b, env));
    for bad in [
        Boundary { pfn: 1, ..good },
        Boundary { order: 5, ..good },
        Boundary { mm: 8, ..good },
        Boundary { base: 0, ..good },
        Boundary { at: 0, ..good },
        Boundary { at: 16, ..good },
        // There is none, the VMA ends before it, and at it.
        vanished(c.vma_start, c.vma_end),
        vanished(c.vma_start, c.base + 0x5000),
        vanished(c.vma_start, c.base + 0x6000),
        vanished(c.vma_end, c.vma_start),
    ] {
        assert!(!set(bad), "{bad:?}");
    }
    assert!(set(good));
    assert!(!set(good));
    let gone = vanished(c.vma_start, c.vma_end);
    assert!(set(gone));
    assert!(!set(gone));
    assert_eq!(rig.counter(Counter::Boundaries), 2);
    assert_eq!(rig.counter(Counter::Evaluated), 2);
}

/// A VMA that mapped nothing takes over one that maps something: where it begins matters from then on.
#[test]
fn a_vma_that_grew_has_two_ends() {
    let page = |n: u64| 0x10_0000 + (n << 12);
    let in_vma = |c: Call, from: u64, end: u64| Call {
        vma: from,
        vma_start: page(from),
        vma_end: page(end),
        ..c
    };
    let merged = |rig: &mut Rig, at: u32, from: u64, end: u64| {
        let c = call(Op::Add, 0, 1);
        let b = Boundary {
            pfn: c.pfn,
            order: c.order,
            mm: c.mm,
            base: c.base,
            at,
            edge: Edge::Vanished {
                start: page(from),
                end: page(end),
            },
            pid: 0,
        };
        rig.with(|shard, env| shard.set_boundary(&b, env))
    };
    let mut rig = Rig::new(PLENTY);
    rig.take(in_vma(call(Op::Add, 7, 1), 4, 16));
    assert!(merged(&mut rig, 4, 3, 14));
    // That is known by now, in parts or as a whole.
    assert!(!merged(&mut rig, 4, 3, 14));
    // The call on page 0, and the merge of what is between, know nothing of page 3.
    rig.take(in_vma(mapped(call(Op::Add, 0, 1)), 0, 1));
    assert!(merged(&mut rig, 1, 0, 3));
    let view = rig.with(|shard, _| shard.view(shard.find(pfn(1)).unwrap()).unwrap());
    assert_eq!((view.vma, view.vma_pt, view.partial), (2, 2, 2));
}

#[test]
fn a_batch_that_a_move_has_torn_apart_must_be_complete() {
    let order_7 = |op: Op, base: u64, first: u32, nr: u32| Call {
        order: 7,
        base,
        alt_base: Some(0x20_0000),
        vma_start: 0,
        vma_end: 0,
        kernel_unmapped: first == 0,
        ..call(op, first, nr)
    };
    for (nr_there, outcome) in [
        (64, Outcome::Applied),
        (63, Outcome::Inconsistent(Inconsistency::RemoveNotMapped)),
    ] {
        let mut rig = Rig::new(PLENTY);
        rig.take(order_7(Op::Add, 0x10_0000, 0, 30));
        rig.take(order_7(Op::Add, 0x20_0000, 30, 10));
        rig.take(order_7(Op::Add, 0x10_0000, 40, 24));
        rig.take(order_7(Op::Add, 0x20_0000, 64, nr_there));
        assert_eq!(rig.take(order_7(Op::Remove, 0x10_0000, 0, 128)), outcome);
        assert_eq!(rig.counter(Counter::Records), 0);
        assert_eq!(rig.counter(Counter::Chunks), 0);
    }
}
