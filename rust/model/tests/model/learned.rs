// SPDX-License-Identifier: GPL-2.0

//! Calls on a folio of which a part is known, one by one; see `learn.rs`.

use fmi_model::{
    Adoption,
    Answer,
    Call,
    Counter,
    Inconsistency,
    Kind,
    Level,
    LostReason,
    Op,
    Outcome,
    Shard,
    Standing,
    State,
    DEFINITIONS,
    NO_BASE, //
};

use crate::calls::{
    call,
    mapped,
    pfn, //
};
use crate::rig::{
    Rig,
    SimEnv,
    Size,
    PLENTY, //
};

/// Returns a shard that learns, and knows 8 of 16 pages of folio 1 in MM 1; another MM has them, too.
fn half_known() -> Rig {
    let mut rig = Rig::new(PLENTY);
    let found = mapped(call(Op::Found, 4, 8));
    assert_eq!(rig.take(found), Outcome::Untracked, "nobody learns yet");
    rig.with(|shard, _| shard.begin_learning());
    assert_eq!(rig.take(found), Outcome::Applied);
    assert_eq!(rig.state(pfn(1)), Some(State::Learning));
    rig
}

/// Makes the kernel count so many mappings of so many pages of folio 1.
fn kernel_counts(rig: &Rig, large: i32, nr_pages_mapped: i32) {
    let mut folio = crate::kernel::Folio::new(4, true).counts();
    folio.large = large;
    folio.nr_pages_mapped = nr_pages_mapped;
    rig.env.kernel.borrow_mut().insert(pfn(1), folio);
}

fn adopt(rig: &mut Rig, stopped: bool) -> Adoption {
    rig.with(|shard, env| shard.adopt(pfn(1), stopped, env))
}

#[test]
fn a_folio_is_adopted_when_the_numbers_are_equal_and_no_call_is_in_flight() {
    let mut rig = half_known();
    kernel_counts(&rig, 9, 9);
    assert_eq!(adopt(&mut rig, false), Adoption::Busy);
    rig.env.grace_period();
    assert_eq!(adopt(&mut rig, false), Adoption::Differs);
    kernel_counts(&rig, 8, 9);
    assert_eq!(adopt(&mut rig, false), Adoption::Differs);
    kernel_counts(&rig, 8, 8);
    assert_eq!(adopt(&mut rig, false), Adoption::Adopted);
    assert_eq!(adopt(&mut rig, false), Adoption::Gone);
    assert_eq!(rig.state(pfn(1)), Some(State::Live));
    assert_eq!(rig.counter(Counter::Tracked), 1);
    assert_eq!(rig.counter(Counter::Learning), 0);
}

#[test]
fn nobody_waits_for_a_grace_period_while_the_machine_stands_still() {
    let mut rig = half_known();
    // Nor is it asked whether a copy concerns the folio: what it has made would be counted.
    rig.open(3, 7, 0, 1 << 40);
    kernel_counts(&rig, 9, 8);
    assert_eq!(adopt(&mut rig, true), Adoption::Differs);
    kernel_counts(&rig, 8, 8);
    assert_eq!(adopt(&mut rig, true), Adoption::Adopted);
    rig.close();
}

#[test]
fn a_copy_that_concerns_it_is_waited_for_if_the_numbers_differ() {
    let mut rig = half_known();
    rig.env.grace_period();
    rig.open(3, 7, 0, 1 << 40);
    kernel_counts(&rig, 9, 8);
    assert_eq!(adopt(&mut rig, false), Adoption::Copied);
    rig.close();
    assert_eq!(adopt(&mut rig, false), Adoption::Differs);
    rig.open(3, 7, 0, 1 << 40);
    kernel_counts(&rig, 8, 8);
    assert_eq!(adopt(&mut rig, false), Adoption::Adopted);
    rig.close();
}

#[test]
fn a_call_adopts_too() {
    let mut rig = half_known();
    kernel_counts(&rig, 8, 8);
    rig.env.grace_period();
    let remove = mapped(call(Op::Remove, 4, 4));
    assert_eq!(rig.take(remove), Outcome::Applied);
    assert_eq!(rig.state(pfn(1)), Some(State::Live));
    assert_eq!(rig.total(pfn(1)), 4);
    // From then on nothing may be amiss.
    assert_eq!(
        rig.take(remove),
        Outcome::Inconsistent(Inconsistency::RemoveNotMapped)
    );
}

#[test]
fn removes_take_out_what_is_known() {
    let mut rig = half_known();
    assert_eq!(rig.take(mapped(call(Op::Remove, 0, 6))), Outcome::Applied);
    assert_eq!(rig.total(pfn(1)), 6);
    let entire = Call {
        level: Level::Entire,
        ..mapped(call(Op::Remove, 0, 16))
    };
    assert_eq!(rig.take(entire), Outcome::Applied);
    assert_eq!(rig.total(pfn(1)), 6);
    assert_eq!(rig.counter(Counter::LearningUnknown), 1);
    assert_eq!(rig.take(mapped(call(Op::Remove, 0, 16))), Outcome::Applied);
    assert_eq!(rig.state(pfn(1)), None, "nothing is known of it");
    assert_eq!(rig.counter(Counter::Learning), 0);
    assert_eq!(rig.counter(Counter::Entries), 0);
}

#[test]
fn a_known_mapping_does_not_come_again() {
    let mut rig = half_known();
    // The scan may find it twice, a call cannot make it twice.
    assert_eq!(rig.take(mapped(call(Op::Found, 0, 16))), Outcome::Applied);
    assert_eq!(rig.total(pfn(1)), 16);
    assert_eq!(
        rig.take(mapped(call(Op::Add, 3, 1))),
        Outcome::Inconsistent(Inconsistency::AddMapped)
    );
    let lost = |rig: &mut Rig| rig.with(|shard, _| shard.standing(pfn(1), 4));
    let reason = LostReason::Inconsistent;
    assert_eq!(lost(&mut rig), Standing::Lost(reason));
    // It was lost in this phase: it stays so, until learning begins anew.
    assert_eq!(rig.take(mapped(call(Op::Found, 0, 1))), Outcome::Untracked);
    rig.with(|shard, _| shard.begin_learning());
    assert_eq!(rig.take(mapped(call(Op::Found, 0, 1))), Outcome::Applied);
    assert_eq!(lost(&mut rig), Standing::Learning);
    // A fork that was not seen to its end is over some time.
    rig.with(|shard, env| shard.lose(pfn(1), LostReason::Window, env));
    assert_eq!(lost(&mut rig), Standing::Lost(LostReason::Window));
    assert_eq!(rig.take(mapped(call(Op::Found, 0, 1))), Outcome::Applied);
    assert_eq!(lost(&mut rig), Standing::Learning);
    // Some of it may be where the scan has been: if not all is found, that is why.
    let give_up = |rig: &mut Rig| rig.with(|shard, env| shard.give_up_learning(pfn(1), env));
    assert_eq!(give_up(&mut rig), LostReason::Window);
    assert_eq!(lost(&mut rig), Standing::Lost(LostReason::Window));
    rig.with(|shard, _| shard.begin_learning());
    assert_eq!(rig.take(mapped(call(Op::Found, 0, 1))), Outcome::Applied);
    assert_eq!(give_up(&mut rig), LostReason::UnseenMm);
    assert_eq!(lost(&mut rig), Standing::Lost(LostReason::UnseenMm));
}

#[test]
fn what_cannot_be_tracked_says_so_whatever_it_was_lost_for_before() {
    let mut rig = half_known();
    rig.with(|shard, env| shard.lose(pfn(1), LostReason::Mismatch, env));
    let bar = |shard: &mut Shard<'_>, env: &SimEnv| {
        shard.bar(pfn(1), (4, Kind::Anon), LostReason::NotLinear, env);
    };
    rig.with(|shard, env| {
        shard.begin_learning();
        bar(shard, env);
    });
    let reason = Standing::Lost(LostReason::NotLinear);
    assert_eq!(rig.with(|shard, _| shard.standing(pfn(1), 4)), reason);
    // Of this phase, so that mappings that could be followed do not begin with it again.
    assert_eq!(rig.take(mapped(call(Op::Found, 0, 1))), Outcome::Untracked);
    assert_eq!(rig.with(|shard, _| shard.standing(pfn(1), 4)), reason);
}

/// What goes by a call without an address may be any of the known mappings, or one that is not known.
#[test]
fn a_remove_without_address_does_not_leave_what_may_be_gone() {
    let without_address = |first, nr| Call {
        base: NO_BASE,
        ..mapped(call(Op::Remove, first, nr))
    };
    // Pages 4 to 11 are known.
    for (first, nr, outcome) in [
        (4, 8, Outcome::Applied),
        (0, 8, Outcome::Lost(LostReason::NotLinear)),
        (0, 4, Outcome::Applied),
    ] {
        let mut rig = half_known();
        assert_eq!(
            rig.take(without_address(first, nr)),
            outcome,
            "{first} {nr}"
        );
    }
}

/// A copy that is over between two looks at it leaves nothing that is tracked without a mapping.
#[test]
fn what_nothing_maps_is_not_adopted() {
    let mut rig = half_known();
    rig.open(3, 7, 0, 1 << 40);
    let remove = Call {
        pending: 3,
        ..mapped(call(Op::Remove, 4, 8))
    };
    assert_eq!(rig.take(remove), Outcome::Applied);
    kernel_counts(&rig, 0, 0);
    rig.env.grace_period();
    assert_eq!(adopt(&mut rig, false), Adoption::Copied);
    assert_eq!(adopt(&mut rig, true), Adoption::Copied);
    rig.close();
    assert_eq!(adopt(&mut rig, false), Adoption::Gone);
    assert_eq!(rig.counter(Counter::Entries), 0);
}

/// What is kept for an open copy alone may be another folio by the next call.
#[test]
fn an_entry_without_mappings_does_not_outlive_its_folio() {
    let another = [
        Call {
            order: 5,
            ..call(Op::Add, 0, 32)
        },
        Call {
            kind: Kind::File,
            ..call(Op::Add, 0, 16)
        },
        call(Op::Add, 0, 16),
    ];
    for c in another {
        let mut rig = half_known();
        rig.open(3, 7, 0, 1 << 40);
        let remove = Call {
            pending: 3,
            ..mapped(call(Op::Remove, 0, 16))
        };
        assert_eq!(rig.take(remove), Outcome::Applied);
        assert_eq!(rig.state(pfn(1)), Some(State::Learning), "the copy has it");
        assert_eq!(rig.take(c), Outcome::Started);
        let view = rig.with(|shard, _| shard.view(shard.find(pfn(1)).unwrap()).unwrap());
        assert_eq!((view.state, view.adopted), (State::Live, false));
        assert_eq!((view.order, view.kind), (c.order, c.kind));
        assert_eq!(rig.counter(Counter::Learning), 0);
    }
}

/// The marker of a folio that was just lost does not forget that calls are in flight.
#[test]
fn what_was_just_lost_does_not_start() {
    for quiet in [false, true] {
        let mut rig = Rig::new(PLENTY);
        assert_eq!(rig.take(call(Op::Add, 0, 4)), Outcome::Started);
        rig.with(|shard, _| shard.begin_learning());
        rig.with(|shard, env| shard.lose(pfn(1), LostReason::Window, env));
        if quiet {
            rig.env.grace_period();
        }
        // The first add has not reached the kernel's counter yet, or nothing is mapped any more.
        let outcome = rig.take(call(Op::Add, 8, 4));
        let state = rig.state(pfn(1));
        if quiet {
            assert_eq!((outcome, state), (Outcome::Started, Some(State::Live)));
        } else {
            assert_eq!((outcome, state), (Outcome::Applied, Some(State::Learning)));
        }
    }
}

#[test]
fn a_scan_notices_what_a_tracked_folio_lacks() {
    let mut rig = Rig::new(PLENTY);
    assert_eq!(rig.take(call(Op::Add, 4, 8)), Outcome::Started);
    rig.with(|shard, _| shard.begin_learning());
    assert_eq!(rig.take(mapped(call(Op::Found, 5, 3))), Outcome::Applied);
    assert_eq!(
        rig.take(mapped(call(Op::Found, 3, 2))),
        Outcome::Inconsistent(Inconsistency::FoundUnknown)
    );
}

#[test]
fn what_depends_on_the_past_cannot_tell() {
    let mut rig = half_known();
    kernel_counts(&rig, 8, 8);
    rig.env.grace_period();
    assert_eq!(adopt(&mut rig, false), Adoption::Adopted);
    let answers = |rig: &mut Rig| {
        rig.with(|shard, _| {
            let e = shard.find(pfn(1)).unwrap();
            let (v, s) = (shard.view(e).unwrap(), shard.sketches(e));
            for d in DEFINITIONS.iter().filter(|d| d.keeps_state) {
                let unknown = d.claims.iter().all(|q| {
                    let answer = d.answer_of(&v, &s, *q);
                    answer == Answer::Unknown
                });
                assert_eq!(unknown, v.adopted, "{}", d.name);
                assert_eq!(d.value_of(&v, &s).is_none(), v.adopted, "{}", d.name);
            }
            v.adopted
        })
    };
    assert!(answers(&mut rig));
    let pair = fmi_model::PAIRS
        .iter()
        .position(|(id, _)| id.info().is_some_and(|d| d.keeps_state))
        .unwrap();
    rig.take(mapped(call(Op::Remove, 4, 4)));
    let cell = rig.cell(pair, Kind::Anon, 4);
    assert_eq!((cell.evaluated, cell.unknown), (1, 1));
    // Its past begins when nothing maps it any more.
    rig.take(mapped(call(Op::Remove, 8, 4)));
    rig.take(mapped(call(Op::Add, 0, 16)));
    assert!(!answers(&mut rig));
}

/// Without room a folio is lost, and the marker says why as long as there is room for it.
#[test]
fn no_room_to_learn() {
    let mut rig = Rig::new(Size {
        entries: 16,
        records: 2,
        ..PLENTY
    });
    rig.with(|shard, _| shard.begin_learning());
    let found = |n: u64| Call {
        pfn: pfn(n),
        ..mapped(call(Op::Found, 0, 16))
    };
    assert_eq!(rig.take(found(1)), Outcome::Applied);
    assert_eq!(rig.take(found(2)), Outcome::Applied);
    let reason = LostReason::NoMemory;
    assert_eq!(rig.take(found(3)), Outcome::Lost(reason));
    rig.env.grace_period();
    let standing = rig.with(|shard, _| shard.standing(pfn(3), 4));
    assert_eq!(standing, Standing::Lost(reason));
    // Of a folio that nothing is known about as well.
    let bar = |rig: &mut Rig, n| {
        let place = (4, Kind::File);
        rig.with(|shard, env| shard.bar(pfn(n), place, LostReason::NotLinear, env));
        rig.with(|shard, _| shard.standing(pfn(n), 4))
    };
    for n in [1, 4] {
        assert_eq!(bar(&mut rig, n), Standing::Lost(LostReason::NotLinear));
    }
    let order = rig.with(|shard, _| shard.standing(pfn(5), 20));
    assert_eq!(order, Standing::Lost(LostReason::Order));
}
