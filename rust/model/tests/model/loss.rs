// SPDX-License-Identifier: GPL-2.0

//! Contradictions, lost folios, markers.

use fmi_model::{
    Call,
    Counter,
    Inconsistency,
    Level,
    LostReason,
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
    Size,
    PLENTY, //
};

/// What a copy or move has done that found no room for its window is not known until it is over.
#[test]
fn what_was_not_noted_for_want_of_room_is_no_contradiction() {
    for (lacks, outcome) in [
        (false, Outcome::Inconsistent(Inconsistency::RemoveNotMapped)),
        (true, Outcome::Lost(LostReason::Window)),
    ] {
        let mut rig = Rig::new(PLENTY);
        rig.take(call(Op::Add, 0, 4));
        rig.env.lacks.set(lacks);
        assert_eq!(rig.take(mapped(call(Op::Remove, 4, 4))), outcome);
        assert_eq!(rig.state(pfn(1)), Some(State::Lost));
    }
}

#[test]
fn a_mapped_folio_cannot_change_its_order() {
    let mut rig = Rig::new(PLENTY);
    rig.take(call(Op::Add, 0, 4));
    let c = Call {
        order: 3,
        ..call(Op::Add, 0, 4)
    };
    let changed = Outcome::Inconsistent(Inconsistency::OrderChanged);
    assert_eq!(rig.take(c), changed);
    assert_eq!(rig.state(pfn(1)), Some(State::Lost));
    assert_eq!(rig.counter(Counter::OrderChanged), 1);
    assert_eq!(rig.counter(Counter::LostInconsistent), 1);
    assert_eq!(rig.counter(Counter::Records), 0);
}

#[test]
fn a_lost_folio_starts_again_when_nothing_is_in_flight() {
    let mut rig = Rig::new(PLENTY);
    rig.take(call(Op::Add, 0, 4));
    rig.with(|shard, env| shard.lose(pfn(1), LostReason::NotLinear, env));
    rig.with(|shard, env| shard.lose(pfn(1), LostReason::NotLinear, env));
    rig.with(|shard, env| shard.lose(pfn(9), LostReason::NotLinear, env));
    assert_eq!(rig.counter(Counter::LostNotLinear), 1);
    assert_eq!(rig.counter(Counter::Tracked), 0);
    // In flight, although the kernel's counter says unmapped.
    assert_eq!(rig.take(call(Op::Add, 5, 1)), Outcome::Untracked);
    rig.env.grace_period();
    assert_eq!(rig.take(mapped(call(Op::Remove, 5, 1))), Outcome::Untracked);
    // That one is, now.
    assert_eq!(rig.take(call(Op::Add, 5, 1)), Outcome::Untracked);
    assert_eq!(rig.counter(Counter::UntrackedAfterLoss), 3);
    rig.env.grace_period();
    assert_eq!(rig.take(mapped(call(Op::Add, 5, 1))), Outcome::Untracked);
    rig.env.grace_period();
    assert_eq!(rig.take(call(Op::Add, 5, 1)), Outcome::Started);
    assert_eq!(rig.total(pfn(1)), 1);
}

/// Mappings where the linear rule does not hold may be in flight, and the kernel has not counted them.
#[test]
fn a_loss_may_be_in_flight_as_well() {
    let mut rig = Rig::new(PLENTY);
    let lose = |rig: &mut Rig| {
        rig.with(|shard, env| shard.lose(pfn(1), LostReason::NotLinear, env));
    };
    lose(&mut rig);
    assert_eq!(rig.take(call(Op::Add, 0, 4)), Outcome::Untracked);
    assert_eq!(rig.counter(Counter::UntrackedInFlight), 1);
    rig.env.grace_period();
    assert_eq!(rig.take(call(Op::Add, 0, 4)), Outcome::Started);

    lose(&mut rig);
    rig.env.grace_period();
    lose(&mut rig);
    assert_eq!(rig.take(call(Op::Add, 0, 4)), Outcome::Untracked);
    rig.env.grace_period();
    assert_eq!(rig.take(call(Op::Add, 0, 4)), Outcome::Started);
    assert_eq!(rig.counter(Counter::LostNotLinear), 1);

    // A window is over, or was never seen: nothing more of it is in flight than of any other folio.
    rig.with(|shard, env| shard.lose(pfn(2), LostReason::Window, env));
    let other = Call {
        pfn: pfn(2),
        ..call(Op::Add, 0, 4)
    };
    assert_eq!(rig.take(other), Outcome::Started);
}

#[test]
fn a_remove_of_what_is_not_there_loses_the_folio() {
    let mut rig = Rig::new(PLENTY);
    rig.take(call(Op::Add, 0, 4));
    let missing = Outcome::Inconsistent(Inconsistency::RemoveNotMapped);
    assert_eq!(rig.take(mapped(call(Op::Remove, 3, 2))), missing);
    assert_eq!(rig.state(pfn(1)), Some(State::Lost));

    rig.env.grace_period();
    assert_eq!(rig.take(call(Op::Add, 0, 4)), Outcome::Started);
    let twice = Outcome::Inconsistent(Inconsistency::AddMapped);
    assert_eq!(rig.take(mapped(call(Op::Add, 3, 2))), twice);

    rig.env.grace_period();
    assert_eq!(rig.take(call(Op::Add, 0, 4)), Outcome::Started);
    assert_eq!(rig.take(mapped(call(Op::Remove, 0, 4))), Outcome::Applied);
    assert_eq!(rig.take(mapped(call(Op::Remove, 0, 4))), missing);
}

#[test]
fn a_remove_is_found_at_another_base_of_the_vma_if_there_is_only_one() {
    let at = |base: u64| Call {
        base,
        vma_start: 0x10_0000,
        vma_end: 0x20_0000,
        ..mapped(call(Op::Remove, 2, 2))
    };
    for (bases, outcome) in [
        (&[0x11_0000][..], Outcome::Applied),
        (
            &[0x11_0000, 0x12_0000][..],
            Outcome::Inconsistent(Inconsistency::RemoveNotMapped),
        ),
        // Outside the VMA.
        (
            &[0x30_0000][..],
            Outcome::Inconsistent(Inconsistency::RemoveNotMapped),
        ),
    ] {
        let mut rig = Rig::new(PLENTY);
        for (n, base) in bases.iter().enumerate() {
            let c = Call {
                op: Op::Add,
                kernel_unmapped: n == 0,
                vma_start: *base,
                vma_end: base + 0x1_0000,
                ..at(*base)
            };
            rig.take(c);
        }
        assert_eq!(rig.take(at(0x10_0000)), outcome);
    }
}

#[test]
fn markers_have_a_reserve_and_without_one_nothing_starts() {
    let mut rig = Rig::new(Size {
        entries: 20,
        ..PLENTY
    });
    let add = |n: u64| Call {
        pfn: pfn(n),
        ..call(Op::Add, 0, 1)
    };
    for n in 1..=12 {
        assert_eq!(rig.take(add(n)), Outcome::Started);
    }
    // 8 entries are left for markers.
    let lost = Outcome::Lost(LostReason::NoMemory);
    for n in 13..=20 {
        assert_eq!(rig.take(add(n)), lost);
        assert_eq!(rig.state(pfn(n)), Some(State::Lost));
    }
    assert_eq!(rig.take(add(21)), lost);
    assert_eq!(rig.state(pfn(21)), None);
    assert_eq!(rig.counter(Counter::LostNoMemory), 9);
    // Half of the folios go, and may be reused at once; but the add to the last one is in flight.
    for n in 1..=6 {
        rig.with(|shard, env| shard.lose(pfn(n), LostReason::Mismatch, env));
    }
    assert_eq!(rig.take(add(21)), lost);
    rig.env.grace_period();
    assert_eq!(rig.take(add(21)), Outcome::Started);
    assert_eq!(rig.take(add(22)), Outcome::Started);
    rig.env.grace_period();
    // A marker does not keep an entry of the reserve for a folio.
    for n in 30..40 {
        rig.take(add(n));
        rig.env.grace_period();
    }
    assert_eq!(rig.counter(Counter::Tracked), 12);
    assert_eq!(rig.take(add(39)), lost);
}

#[test]
fn a_folio_larger_than_the_bitmaps_is_lost() {
    let mut rig = Rig::new(PLENTY);
    let c = Call {
        order: 12,
        ..call(Op::Add, 0, 1)
    };
    assert_eq!(rig.take(c), Outcome::Lost(LostReason::Order));
    assert_eq!(rig.counter(Counter::LostOrder), 1);
    // Nor does it start on the entry of a drained one.
    rig.take(call(Op::Add, 0, 4));
    rig.take(mapped(call(Op::Remove, 0, 4)));
    assert_eq!(rig.take(c), Outcome::Lost(LostReason::Order));
    assert_eq!(rig.state(pfn(1)), None);
}

#[test]
fn a_call_that_cannot_be_is_reported() {
    let malformed = Outcome::Inconsistent(Inconsistency::Malformed);
    let good = call(Op::Add, 0, 4);
    let bad = [
        Call { nr: 0, ..good },
        Call { first: 16, ..good },
        Call {
            first: 14,
            nr: 3,
            ..good
        },
        Call {
            first: u32::MAX,
            nr: 2,
            ..good
        },
        Call {
            order: 0,
            nr: 1,
            ..good
        },
        Call { order: 40, ..good },
        Call {
            level: Level::Entire,
            ..good
        },
    ];
    for c in bad {
        let mut rig = Rig::new(PLENTY);
        assert_eq!(rig.take(c), malformed);
        assert_eq!(rig.counter(Counter::Entries), 0);
        rig.take(good);
        assert_eq!(rig.take(c), malformed);
        assert_eq!(rig.state(pfn(1)), Some(State::Lost));
        assert_eq!(rig.counter(Counter::Malformed), 2);
    }
}

#[test]
fn new_storage_has_no_bars() {
    let mut rig = Rig::new(Size {
        entries: 2,
        ..PLENTY
    });
    let add = |n: u64| Call {
        pfn: pfn(n),
        ..call(Op::Add, 0, 1)
    };
    assert_eq!(rig.take(add(1)), Outcome::Started);
    let lost = Outcome::Lost(LostReason::NoMemory);
    // The first leaves a marker, the second bars the shard.
    assert_eq!(rig.take(add(2)), lost);
    assert_eq!(rig.take(add(3)), lost);
    // And this add is in flight.
    assert_eq!(rig.take(mapped(add(4))), Outcome::Untracked);
    rig.forget();
    rig.replace_storage();
    assert_eq!(rig.take(add(4)), Outcome::Started);
}
