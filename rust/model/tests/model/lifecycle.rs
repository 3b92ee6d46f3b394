// SPDX-License-Identifier: GPL-2.0

//! When tracking starts, drains and starts again.

use fmi_model::{
    Call,
    Counter,
    Kind,
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

#[test]
fn tracking_starts_with_an_add_that_sees_the_folio_unmapped() {
    let mut rig = Rig::new(PLENTY);
    assert_eq!(rig.take(mapped(call(Op::Add, 0, 1))), Outcome::Untracked);
    for op in [Op::Remove, Op::Dup, Op::Skip] {
        assert_eq!(rig.take(call(op, 0, 1)), Outcome::Untracked);
    }
    assert_eq!(rig.take(mapped(call(Op::Touch, 0, 1))), Outcome::Untracked);
    for counter in [
        Counter::UntrackedAdd,
        Counter::UntrackedRemove,
        Counter::UntrackedDup,
        Counter::UntrackedTouch,
        Counter::UntrackedSkip,
    ] {
        assert_eq!(rig.counter(counter), 1);
    }
    assert_eq!(rig.counter(Counter::Entries), 0);
    rig.env.grace_period();
    assert_eq!(rig.take(call(Op::Add, 0, 1)), Outcome::Started);
    assert_eq!(rig.take(mapped(call(Op::Add, 1, 1))), Outcome::Applied);
    assert_eq!(rig.total(pfn(1)), 2);
    assert_eq!(rig.counter(Counter::Tracked), 1);
}

#[test]
fn an_untracked_add_in_flight_forbids_to_start() {
    let mut rig = Rig::new(PLENTY);
    rig.take(mapped(call(Op::Add, 0, 1)));
    // The last mapping that was there before went meanwhile; the first add is still in flight.
    assert_eq!(rig.take(call(Op::Add, 1, 1)), Outcome::Untracked);
    assert_eq!(rig.counter(Counter::UntrackedInFlight), 1);
    // The refused one is in flight, too.
    rig.env.grace_period();
    assert_eq!(rig.take(call(Op::Add, 2, 1)), Outcome::Started);
}

#[test]
fn untracked_adds_to_many_folios_do_not_hide_each_other() {
    let mut rig = Rig::new(PLENTY);
    // More folios than are remembered.
    for n in 1..=200 {
        let c = mapped(call(Op::Add, 0, 1));
        rig.take(Call { pfn: pfn(n), ..c });
    }
    for n in 1..=200 {
        let c = Call {
            pfn: pfn(n),
            ..call(Op::Add, 1, 1)
        };
        assert_eq!(rig.take(c), Outcome::Untracked, "{n}");
    }
    rig.env.grace_period();
    let c = Call {
        pfn: pfn(77),
        ..call(Op::Add, 1, 1)
    };
    assert_eq!(rig.take(c), Outcome::Started);
}

#[test]
fn a_drained_folio_goes_on_while_calls_are_in_flight() {
    let mut rig = Rig::new(PLENTY);
    rig.take(call(Op::Add, 0, 4));
    rig.take(mapped(call(Op::Remove, 0, 4)));
    assert_eq!(rig.state(pfn(1)), Some(State::Draining));
    assert_eq!(
        (rig.counter(Counter::Drained), rig.counter(Counter::Tracked)),
        (1, 0)
    );
    // The remove is in flight: the kernel still says mapped.
    assert_eq!(rig.take(mapped(call(Op::Add, 2, 2))), Outcome::Applied);
    assert_eq!(rig.state(pfn(1)), Some(State::Live));
    assert_eq!(rig.total(pfn(1)), 2);
    assert_eq!(rig.counter(Counter::Tracked), 1);
}

#[test]
fn a_drained_folio_starts_afresh_after_a_grace_period() {
    let mut rig = Rig::new(PLENTY);
    rig.take(call(Op::Add, 0, 4));
    rig.take(mapped(call(Op::Remove, 0, 4)));
    rig.env.grace_period();
    rig.env.sleep(5);
    let c = Call {
        order: 6,
        kind: Kind::Shmem,
        ..call(Op::Add, 0, 64)
    };
    assert_eq!(rig.take(c), Outcome::Started);
    assert_eq!(rig.counter(Counter::Restarted), 1);
    let v = rig.with(|shard, _| shard.view(shard.find(pfn(1)).unwrap()).unwrap());
    assert_eq!((v.order, v.kind, v.total), (6, Kind::Shmem, 64));
    assert!(!v.ever_partial && !v.ever_shared);
}

#[test]
fn another_folio_at_the_pfn_starts_at_once() {
    let mut rig = Rig::new(PLENTY);
    rig.take(call(Op::Add, 0, 4));
    rig.take(mapped(call(Op::Remove, 0, 4)));
    // No grace period: but it is unmapped, and cannot be the one that was drained.
    let c = Call {
        order: 2,
        ..call(Op::Add, 0, 4)
    };
    assert_eq!(rig.take(c), Outcome::Started);
    assert_eq!(rig.total(pfn(1)), 4);
}

#[test]
fn a_drained_folio_that_is_mapped_was_missed() {
    for op in [Op::Add, Op::Touch] {
        let mut rig = Rig::new(PLENTY);
        rig.take(call(Op::Add, 0, 4));
        rig.take(mapped(call(Op::Remove, 0, 4)));
        rig.env.grace_period();
        assert_eq!(rig.take(mapped(call(op, 0, 4))), Outcome::Untracked);
        assert_eq!(rig.counter(Counter::Missed), 1);
        assert_eq!(rig.counter(Counter::Entries), 0);
    }
    // A folio of another order was mapped unseen.
    for op in [Op::Remove, Op::Dup, Op::Add] {
        let mut rig = Rig::new(PLENTY);
        rig.take(call(Op::Add, 0, 4));
        rig.take(mapped(call(Op::Remove, 0, 4)));
        let c = Call {
            order: 3,
            ..mapped(call(op, 0, 4))
        };
        assert_eq!(rig.take(c), Outcome::Untracked);
        assert_eq!(rig.counter(Counter::Missed), 1);
    }
}

/// What was copied without room for a window is not known: nothing was missed.
#[test]
fn a_copy_without_room_may_have_mapped_a_drained_folio() {
    let mut rig = Rig::new(PLENTY);
    rig.take(call(Op::Add, 0, 4));
    rig.take(mapped(call(Op::Remove, 0, 4)));
    rig.env.grace_period();
    rig.env.lacks.set(true);
    assert_eq!(rig.take(mapped(call(Op::Add, 0, 4))), Outcome::Applied);
    assert_eq!(rig.counter(Counter::Missed), 0);
    assert_eq!(rig.total(pfn(1)), 4);
}

/// Who looks twice has to see that it was another life of the folio.
#[test]
fn an_entry_that_was_given_back_begins_with_another_number() {
    let mut rig = Rig::new(PLENTY);
    rig.take(call(Op::Add, 0, 4));
    let first = rig.seq(pfn(1));
    rig.take(mapped(call(Op::Remove, 0, 4)));
    rig.env.grace_period();
    rig.take(Call {
        pfn: pfn(2),
        ..call(Op::Add, 0, 4)
    });
    assert_eq!(rig.seq(pfn(1)), None);
    assert_eq!(rig.take(call(Op::Add, 0, 4)), Outcome::Started);
    assert!(rig.seq(pfn(1)) != first && first.is_some());
}

/// What a call has read of the counter is as old as its beginning: the last remove may have been in flight.
#[test]
fn what_a_call_has_read_may_be_old() {
    for op in [Op::Add, Op::Touch] {
        let mut rig = Rig::new(PLENTY);
        rig.take(call(Op::Add, 0, 4));
        rig.take(mapped(call(Op::Remove, 0, 4)));
        rig.env.grace_period();
        let unmapped = crate::kernel::Folio::new(4, true).counts();
        rig.env.kernel.borrow_mut().insert(pfn(1), unmapped);
        assert_eq!(rig.take(mapped(call(op, 0, 4))), Outcome::Started);
        assert_eq!(rig.counter(Counter::Missed), 0);
        assert_eq!(rig.total(pfn(1)), if op == Op::Add { 4 } else { 0 });
    }
}

#[test]
fn entries_are_taken_back_oldest_first_and_late_calls_count() {
    let mut rig = Rig::new(PLENTY);
    for n in 1..=3 {
        let c = Call {
            pfn: pfn(n),
            ..call(Op::Add, 0, 4)
        };
        rig.take(c);
        rig.take(mapped(Call {
            op: Op::Remove,
            ..c
        }));
    }
    rig.env.grace_period();
    // A call on the first one: it is in flight.
    rig.take(mapped(call(Op::Skip, 0, 1)));
    rig.take(Call {
        pfn: pfn(4),
        ..call(Op::Add, 0, 4)
    });
    assert_eq!(rig.counter(Counter::Reclaimed), 2);
    assert_eq!(rig.state(pfn(1)), Some(State::Draining));
    assert_eq!((rig.state(pfn(2)), rig.state(pfn(3))), (None, None));
}
