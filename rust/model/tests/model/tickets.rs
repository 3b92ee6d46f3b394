// SPDX-License-Identifier: GPL-2.0

//! Fork copies whose walk has not come to what they copied: tickets, touch and skip.

use fmi_model::{
    Answer,
    Call,
    Counter,
    DefinitionId,
    Op,
    Outcome,
    Question,
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
fn a_ticket_keeps_a_folio_that_a_copy_may_hold() {
    let mut rig = Rig::new(PLENTY);
    rig.take(call(Op::Add, 0, 4));
    rig.open(3, 7, 0x10_0000, 0x11_0000);
    // The parent's mappings go while the copy has not been walked: the child may have them.
    let c = Call {
        pending: 3,
        ..mapped(call(Op::Remove, 0, 4))
    };
    rig.take(c);
    assert_eq!(rig.state(pfn(1)), Some(State::Draining));
    rig.env.grace_period();
    // Other folios need entries: this one is not taken back.
    for n in 2..50 {
        let c = Call {
            pfn: pfn(n),
            ..call(Op::Add, 0, 4)
        };
        rig.take(c);
        rig.take(mapped(Call {
            op: Op::Remove,
            ..c
        }));
        rig.env.grace_period();
    }
    assert_eq!(rig.state(pfn(1)), Some(State::Draining));
    // An add that finds it mapped goes on: the child's mappings are still to come.
    let again = Call {
        mm: 9,
        ..mapped(call(Op::Add, 0, 1))
    };
    assert_eq!(rig.take(again), Outcome::Applied);
    rig.take(Call {
        op: Op::Remove,
        ..again
    });
    let dup = Call {
        mm: 8,
        ..mapped(call(Op::Dup, 0, 4))
    };
    assert_eq!(rig.take(dup), Outcome::Applied);
    rig.close();
    assert_eq!(rig.total(pfn(1)), 4);
    assert_eq!(rig.state(pfn(1)), Some(State::Live));
}

#[test]
fn a_state_is_not_evaluated_while_a_copy_may_hold_more() {
    let mut rig = Rig::new(PLENTY);
    rig.take(call(Op::Add, 0, 4));
    rig.open(3, 7, 0x10_0000, 0x11_0000);
    let remove = mapped(call(Op::Remove, 0, 4));
    rig.take(Call {
        pending: 3,
        ..remove
    });
    // The state before, but not the empty one, which never was.
    assert_eq!(rig.counter(Counter::Evaluated), 1);
    rig.take(Call {
        mm: 8,
        ..mapped(call(Op::Dup, 0, 4))
    });
    rig.close();
    rig.with(|shard, env| shard.settle(0, 100, env));
    assert_eq!(rig.counter(Counter::Evaluated), 2);
}

/// All pages go and come back while a copy may hold more: who was the first is not forgotten.
#[test]
fn what_comes_back_while_a_copy_is_open_has_its_past() {
    let mut rig = Rig::new(PLENTY);
    rig.take(call(Op::Add, 0, 16));
    rig.open(3, 7, 0x10_0000, 0x11_0000);
    rig.take(Call {
        pending: 3,
        ..mapped(call(Op::Remove, 0, 16))
    });
    rig.take(Call {
        caller: 2,
        ..mapped(call(Op::Add, 0, 16))
    });
    rig.close();
    rig.with(|shard, env| {
        shard.settle(0, 100, env);
        let e = shard.find(pfn(1)).unwrap();
        let (view, sketches) = (shard.view(e).unwrap(), shard.sketches(e));
        for id in [DefinitionId::Creator, DefinitionId::OwnerVma] {
            let info = id.info().unwrap();
            assert_eq!(info.value_of(&view, &sketches), Some(16), "{}", info.name);
            let shared = info.answer_of(&view, &sketches, Question::Shared);
            assert_eq!(shared, Answer::No, "{}", info.name);
        }
    });
}

#[test]
fn without_its_copy_a_ticket_holds_nothing() {
    let mut rig = Rig::new(PLENTY);
    rig.take(call(Op::Add, 0, 4));
    rig.open(3, 7, 0x10_0000, 0x11_0000);
    rig.take(Call {
        pending: 3,
        ..mapped(call(Op::Remove, 0, 4))
    });
    rig.close();
    // A later copy has a higher number.
    rig.open(4, 70, 0, 1);
    rig.env.grace_period();
    rig.take(Call {
        pfn: pfn(2),
        ..call(Op::Add, 0, 4)
    });
    assert_eq!(rig.state(pfn(1)), None);
    assert_eq!(rig.counter(Counter::Reclaimed), 1);
}

#[test]
fn touch_starts_or_keeps_and_skip_changes_nothing() {
    let mut rig = Rig::new(PLENTY);
    rig.open(5, 7, 0x10_0000, 0x11_0000);
    let touch = Call {
        pending: 5,
        ..call(Op::Touch, 0, 4)
    };
    assert_eq!(rig.take(touch), Outcome::Started);
    assert_eq!(rig.state(pfn(1)), Some(State::Draining));
    assert_eq!(rig.total(pfn(1)), 0);
    let first = rig.seq(pfn(1)).unwrap();
    assert_eq!(rig.take(mapped(touch)), Outcome::Applied);
    let skip = Call {
        op: Op::Skip,
        ..mapped(touch)
    };
    assert_eq!(rig.take(skip), Outcome::Applied);
    assert_eq!(rig.total(pfn(1)), 0);
    // The entry waits for the walk, however long that takes.
    rig.env.grace_period();
    assert_eq!(rig.take(mapped(touch)), Outcome::Applied);
    assert_eq!(rig.take(mapped(call(Op::Dup, 0, 4))), Outcome::Applied);
    assert_eq!(rig.total(pfn(1)), 4);
    assert_eq!(rig.take(skip), Outcome::Applied);
    assert_eq!(rig.total(pfn(1)), 4);
    assert_eq!(rig.seq(pfn(1)), Some(first.wrapping_add(1)));
    assert_eq!(
        (rig.counter(Counter::Touch), rig.counter(Counter::Skip)),
        (3, 2)
    );
}
