// SPDX-License-Identifier: GPL-2.0

//! Adds of page cache that are told before the removes of what was mapped there.

use fmi_model::{
    Call,
    Counter,
    Inconsistency,
    Kind,
    Level,
    LostReason,
    Op,
    Outcome,
    State,
    NO_BASE, //
};
use proptest::prelude::*;

use crate::calls::{
    call,
    mapped,
    pfn, //
};
use crate::rig::{
    record_bits,
    Rig,
    PLENTY, //
};
use crate::steps::config;

fn file(op: Op, first: u32, nr: u32) -> Call {
    Call {
        kind: Kind::File,
        ..mapped(call(op, first, nr))
    }
}

fn file_of_64(op: Op, first: u32, nr: u32) -> Call {
    Call {
        order: 6,
        ..file(op, first, nr)
    }
}

/// Returns a shard that knows pages 0 to 8 of folio 1 of a file.
fn eight_pages() -> Rig {
    let mut rig = Rig::new(PLENTY);
    let first = Call {
        kernel_unmapped: true,
        ..file(Op::Add, 0, 8)
    };
    assert_eq!(rig.take(first), Outcome::Started);
    rig
}

#[test]
fn the_late_remove_is_left_alone() {
    let mut rig = eight_pages();
    // Two pages that are mapped, and two that are not.
    assert_eq!(rig.take(file(Op::Add, 6, 4)), Outcome::Applied);
    assert_eq!(rig.total(pfn(1)), 10);
    // The zap was of all that there was.
    assert_eq!(rig.take(file(Op::Remove, 0, 8)), Outcome::Applied);
    assert_eq!(rig.total(pfn(1)), 4);
    assert_eq!(rig.take(file(Op::Remove, 6, 4)), Outcome::Applied);
    assert_eq!(rig.total(pfn(1)), 0);
    assert_eq!(rig.state(pfn(1)), Some(State::Draining));
    assert_eq!(rig.counter(Counter::AddMapped), 0);
    assert_eq!(rig.counter(Counter::AddEarly), 1);
}

/// All of its mappings may be other ones, although there are as many where they were.
#[test]
fn debts_change_a_folio() {
    let mut rig = eight_pages();
    let first = rig.seq(pfn(1));
    assert_eq!(rig.take(file(Op::Add, 0, 8)), Outcome::Applied);
    let owed = rig.seq(pfn(1));
    assert_ne!(owed, first);
    assert_eq!(rig.take(file(Op::Remove, 0, 8)), Outcome::Applied);
    assert_ne!(rig.seq(pfn(1)), owed);
    assert_eq!(rig.total(pfn(1)), 8);
}

#[test]
fn what_is_owed_for_a_grace_period_never_comes() {
    let mut rig = eight_pages();
    assert_eq!(rig.take(file(Op::Add, 6, 1)), Outcome::Applied);
    rig.env.grace_period();
    // No remove is taken for that one any more.
    rig.take(file(Op::Remove, 6, 1));
    assert_eq!(rig.state(pfn(1)), Some(State::Lost));
    assert_eq!(rig.counter(Counter::AddMapped), 1);
}

#[test]
fn neither_anonymous_memory_nor_pmds_come_early() {
    let mut rig = Rig::new(PLENTY);
    assert_eq!(rig.take(call(Op::Add, 0, 8)), Outcome::Started);
    let again = rig.take(mapped(call(Op::Add, 6, 1)));
    assert_eq!(again, Outcome::Inconsistent(Inconsistency::AddMapped));
    let entire = |op| Call {
        level: Level::Entire,
        ..file(op, 0, 16)
    };
    let mut rig = eight_pages();
    assert_eq!(rig.take(entire(Op::Add)), Outcome::Applied);
    let again = rig.take(entire(Op::Add));
    assert_eq!(again, Outcome::Inconsistent(Inconsistency::AddMapped));
}

/// A contradiction it is not: they may all be right.
#[test]
fn more_than_can_be_noted_is_no_room() {
    let mut rig = eight_pages();
    let outcomes: Vec<Outcome> = (0..40).map(|_| rig.take(file(Op::Add, 0, 1))).collect();
    let last = Outcome::Lost(LostReason::NoMemory);
    assert_eq!(outcomes.iter().position(|o| *o == last), Some(32));
    assert_eq!(rig.counter(Counter::AddMapped), 0);
    assert_eq!(rig.state(pfn(1)), Some(State::Lost));
}

/// Faults that map a page each owe as much as one that maps all of them.
#[test]
fn neighbours_are_one_debt() {
    let pages = |op| (0..40).map(move |n| file_of_64(op, n, 1));
    let mut rig = Rig::new(PLENTY);
    let first = Call {
        kernel_unmapped: true,
        ..file_of_64(Op::Add, 0, 40)
    };
    assert_eq!(rig.take(first), Outcome::Started);
    for add in pages(Op::Add) {
        assert_eq!(rig.take(add), Outcome::Applied);
    }
    assert_eq!(rig.total(pfn(1)), 40);
    assert_eq!(rig.take(file_of_64(Op::Remove, 0, 40)), Outcome::Applied);
    assert_eq!(rig.total(pfn(1)), 40);
    for remove in pages(Op::Remove) {
        assert_eq!(rig.take(remove), Outcome::Applied);
    }
    assert_eq!(rig.total(pfn(1)), 0);
    assert_eq!(rig.counter(Counter::AddMapped), 0);
}

/// Removes of pages of drivers come without an address if they come late.
#[test]
fn a_late_remove_need_not_say_where() {
    let driver = |op, first, nr| Call {
        kind: Kind::Driver,
        ..mapped(call(op, first, nr))
    };
    let mut rig = Rig::new(PLENTY);
    let first = Call {
        kernel_unmapped: true,
        ..driver(Op::Add, 0, 8)
    };
    assert_eq!(rig.take(first), Outcome::Started);
    assert_eq!(rig.take(driver(Op::Add, 6, 2)), Outcome::Applied);
    let late = Call {
        base: NO_BASE,
        ..driver(Op::Remove, 0, 8)
    };
    assert_eq!(rig.take(late), Outcome::Applied);
    assert_eq!(rig.total(pfn(1)), 2);
    rig.env.grace_period();
    assert_eq!(rig.take(driver(Op::Remove, 6, 2)), Outcome::Applied);
    assert_eq!(rig.total(pfn(1)), 0);
    assert_eq!(rig.counter(Counter::AddMapped), 0);
}

proptest! {
    #![proptest_config(config(300))]

    /// Adds that come early, in pieces, and removes in other pieces: what is left is what is mapped.
    #[test]
    fn the_order_does_not_matter(
        adds in prop::collection::vec((0u32..16, 1u32..6), 1..5),
        cut in 1u32..6,
    ) {
        let mut rig = eight_pages();
        let mut now = [false; 16];
        for (first, nr) in adds {
            let end = (first + nr).min(16);
            // By the new page table nothing is mapped twice.
            let free: Vec<u32> = (first..end).filter(|page| !now[*page as usize]).collect();
            for run in free.chunk_by(|a, b| a + 1 == *b) {
                prop_assert_eq!(rig.take(file(Op::Add, run[0], run.len() as u32)), Outcome::Applied);
                run.iter().for_each(|page| now[*page as usize] = true);
            }
        }
        for first in (0..8).step_by(cut as usize) {
            let nr = cut.min(8 - first);
            prop_assert_eq!(rig.take(file(Op::Remove, first, nr)), Outcome::Applied);
        }
        let bits: Vec<bool> = rig.with(|shard, _| {
            let e = shard.find(pfn(1)).unwrap();
            let bits = record_bits(shard, e, 7, 0x10_0000);
            bits.into_iter().take(16).collect()
        });
        prop_assert_eq!(&bits[..], &now[..]);
    }
}
