// SPDX-License-Identifier: GPL-2.0

//! hugetlb folios of any size, and folios of drivers at any address.

use fmi_model::{
    Call,
    Compare,
    Counter,
    Inconsistency,
    KernelCounts,
    Kind,
    Level,
    LostReason,
    Move,
    Op,
    Outcome,
    Question,
    State,
    DEFINITIONS,
    NO_BASE,
    PAIRS, //
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

/// Order of a folio of 1 GiB: larger than any bitmap.
const GIGANTIC: u8 = 18;

/// Room for no folio larger than a PMD maps, and for no bitmap but one.
const LITTLE: Size = Size {
    entries: 64,
    histories: 64,
    records: 64,
    chunks: 1,
    max_order: 9,
};

/// Returns a call on an entire mapping of a hugetlb folio.
fn huge(op: Op, order: u8, mm: u64) -> Call {
    let base = mm << 40;
    Call {
        level: Level::Entire,
        kind: Kind::Hugetlb,
        order,
        first: 0,
        nr: 1 << order,
        mm,
        base,
        vma: mm,
        vma_start: base,
        vma_end: base + (4 << 30),
        ..call(op, 0, 1)
    }
}

/// Returns the counters of a hugetlb folio.
fn counters(order: u8, mappings: i32) -> KernelCounts {
    KernelCounts {
        large: mappings,
        entire: mappings,
        per_page: true,
        order,
        refcount: mappings,
        expected_refs: mappings,
        maybe_mapped_shared: mappings > 1,
        ..KernelCounts::default()
    }
}

/// Sets the kernel's counters, and compares with them after a grace period.
fn compare(rig: &mut Rig, k: KernelCounts) -> Compare {
    rig.env.kernel.borrow_mut().insert(pfn(1), k);
    rig.env.grace_period();
    rig.with(|shard, env| shard.compare(shard.find(pfn(1)).unwrap(), env))
}

#[test]
fn a_folio_of_any_size_needs_no_bitmap() {
    for order in [4, 9, 13, GIGANTIC] {
        let mut rig = Rig::new(LITTLE);
        assert_eq!(rig.take(huge(Op::Add, order, 1)), Outcome::Started);
        for mm in 2..=5 {
            assert_eq!(rig.take(mapped(huge(Op::Dup, order, mm))), Outcome::Applied);
        }
        assert_eq!(rig.counter(Counter::Chunks), 0);
        let view = rig.with(|shard, _| shard.view(shard.find(pfn(1)).unwrap()).unwrap());
        let n = 1u64 << order;
        assert_eq!((view.total, view.entire, view.mm), (5, 5, 5));
        assert_eq!((view.vma, view.vma_pt, view.full), (5, 5, 5));
        assert_eq!(
            (view.total_pages, view.max_page, view.min_page),
            (5 * n, 5, 5)
        );
        assert_eq!(u64::from(view.nr_pages_mapped), n);
        assert_eq!(compare(&mut rig, counters(order, 5)), Compare::Equal);
        for mm in 1..=5 {
            rig.take(mapped(huge(Op::Remove, order, mm)));
        }
        assert_eq!(rig.state(pfn(1)), Some(State::Draining));
        assert_eq!(rig.counter(Counter::Records), 0);
    }
}

#[test]
fn only_two_counters_are_kept_of_hugetlb() {
    let mut rig = Rig::new(PLENTY);
    rig.take(huge(Op::Add, 9, 1));
    rig.take(mapped(huge(Op::Add, 9, 2)));
    let right = counters(9, 2);
    assert_eq!(compare(&mut rig, right), Compare::Equal);
    for wrong in [
        KernelCounts { large: 1, ..right },
        KernelCounts { entire: 1, ..right },
        KernelCounts {
            nr_pages_mapped: 0x80_0000,
            ..right
        },
        KernelCounts {
            shared_bit: true,
            ..right
        },
        KernelCounts {
            mm_id: [1, 0],
            mm_id_mapcount: [1, 0],
            ..right
        },
    ] {
        let compare = compare(&mut rig, wrong);
        assert!(matches!(compare, Compare::Differs(_)), "{wrong:?}");
    }
    // The same counters are those of no other folio.
    let anon = |op, mm| Call {
        kind: Kind::Anon,
        ..huge(op, 9, mm)
    };
    let mut rig = Rig::new(PLENTY);
    rig.take(anon(Op::Add, 1));
    rig.take(mapped(anon(Op::Add, 2)));
    assert!(matches!(compare(&mut rig, right), Compare::Differs(_)));
}

#[test]
fn hugetlb_has_rows_and_no_statistics() {
    let mut rig = Rig::new(PLENTY);
    rig.take(huge(Op::Add, 9, 1));
    compare(&mut rig, counters(9, 1));
    rig.take(mapped(huge(Op::Dup, 9, 2)));
    rig.with(|shard, env| while shard.settle(0, u32::MAX, env).is_some() {});
    compare(&mut rig, counters(9, 2));
    rig.with(|shard, env| while shard.settle(0, u32::MAX, env).is_some() {});
    for (pair, (id, question)) in PAIRS.iter().enumerate() {
        let cell = rig.cell(pair, Kind::Hugetlb, 9);
        match question {
            Question::Stat => assert_eq!(cell.evaluated, 0, "{id:?}"),
            Question::Mapped if !id.info().unwrap().sometimes => {
                assert!(cell.evaluated >= 2, "{id:?}");
            }
            _ => {}
        }
        for kind in [Kind::Anon, Kind::File, Kind::Shmem, Kind::Driver] {
            assert!(rig.cell(pair, kind, 9).is_empty());
        }
    }
    assert_eq!(rig.counter(Counter::OtherKind), 0);
}

#[test]
fn parts_of_a_folio_without_bitmap_are_not_tracked() {
    let part = |op| Call {
        kind: Kind::Driver,
        order: GIGANTIC,
        ..call(op, 3, 2)
    };
    let mut rig = Rig::new(LITTLE);
    assert_eq!(rig.take(part(Op::Add)), Outcome::Lost(LostReason::Order));
    let entire = Call {
        kind: Kind::Driver,
        ..huge(Op::Add, GIGANTIC, 1)
    };
    assert_eq!(rig.take(entire), Outcome::Started);
    let lost = rig.take(mapped(part(Op::Add)));
    assert_eq!(lost, Outcome::Lost(LostReason::Order));
    assert_eq!(rig.state(pfn(1)), Some(State::Lost));
    rig.assert_sound();
}

#[test]
fn a_move_takes_the_whole_folio() {
    let mut rig = Rig::new(LITTLE);
    let c = huge(Op::Add, GIGANTIC, 1);
    rig.take(c);
    let there = c.base + (1 << 30);
    let m = Move {
        pfn: c.pfn,
        order: c.order,
        mm: c.mm,
        old_base: c.base,
        new_base: there,
        tables: [None; 2],
        level: Level::Entire,
        first: 0,
        nr: c.nr,
        vma_start: c.vma_start,
        vma_end: c.vma_end,
        pid: 1,
    };
    let moved = rig.with(|shard, env| shard.rekey(&m, env));
    assert_eq!(moved, Outcome::Applied);
    let gone = mapped(huge(Op::Remove, GIGANTIC, 1));
    let there = rig.take(Call {
        base: there,
        ..gone
    });
    assert_eq!(there, Outcome::Applied);
    assert_eq!(rig.state(pfn(1)), Some(State::Draining));
}

/// Returns a call on one page of a driver's order-4 folio.
fn driver(op: Op, page: u32, va: u64) -> Call {
    Call {
        kind: Kind::Driver,
        base: va.wrapping_sub(u64::from(page) << 12),
        vma_end: 0x20_0000,
        ..mapped(call(op, page, 1))
    }
}

#[test]
fn a_driver_maps_pages_wherever_it_wants() {
    let mut rig = Rig::new(PLENTY);
    // Backwards, and one of them twice.
    let places = [
        (0, 0x10_3000),
        (1, 0x10_2000),
        (2, 0x10_1000),
        (2, 0x10_0000),
    ];
    for (n, (page, va)) in places.into_iter().enumerate() {
        let c = driver(Op::Add, page, va);
        let c = Call {
            kernel_unmapped: n == 0,
            ..c
        };
        let outcome = rig.take(c);
        assert!(matches!(outcome, Outcome::Started | Outcome::Applied));
    }
    let view = rig.with(|shard, _| shard.view(shard.find(pfn(1)).unwrap()).unwrap());
    assert_eq!((view.total, view.nr_pages_mapped, view.max_page), (4, 3, 2));
    assert_eq!((view.mm, view.nr_records), (1, 4));
    for (page, va) in places {
        assert_eq!(rig.take(driver(Op::Remove, page, va)), Outcome::Applied);
    }
    assert_eq!(rig.counter(Counter::Records), 0);
}

#[test]
fn a_remove_without_an_address_is_about_what_it_can_be_about() {
    let no_address = |page| Call {
        base: NO_BASE,
        ..driver(Op::Remove, page, 0x10_0000)
    };
    let mut rig = Rig::new(PLENTY);
    let first = driver(Op::Add, 0, 0x10_3000);
    rig.take(Call {
        kernel_unmapped: true,
        ..first
    });
    rig.take(driver(Op::Add, 2, 0x10_1000));
    assert_eq!(rig.take(no_address(2)), Outcome::Applied);
    assert_eq!(rig.total(pfn(1)), 1);
    // Page 0 is mapped twice: nobody knows which of them goes.
    rig.take(driver(Op::Add, 0, 0x10_5000));
    let lost = Outcome::Lost(LostReason::NotLinear);
    assert_eq!(rig.take(no_address(0)), lost);
    // Page 3 is not mapped at all.
    let mut rig = Rig::new(PLENTY);
    rig.take(Call {
        kernel_unmapped: true,
        ..first
    });
    let missed = Outcome::Inconsistent(Inconsistency::RemoveNotMapped);
    assert_eq!(rig.take(no_address(3)), missed);
}

/// Definitions are told where the mappings were that go: in which page table, and in which VMA.
#[test]
fn a_remove_without_an_address_is_told_with_that_of_the_add() {
    let mut rig = Rig::new(PLENTY);
    // Half of the folio is in one page table, half in the next one; each half is in a VMA of its own.
    let half = |op, mm: u64, first: u32| Call {
        kind: Kind::Driver,
        mm,
        mm_id: mm as u32,
        base: if op == Op::Add { 0x1f_8000 } else { NO_BASE },
        vma: mm * 2 + u64::from(first / 8),
        vma_start: 0x1f_8000 + u64::from(first) * 0x1000,
        vma_end: 0x20_0000 + u64::from(first) * 0x1000,
        ..mapped(call(op, first, 8))
    };
    let values = |rig: &mut Rig| {
        rig.with(|shard, _| {
            let e = shard.find(pfn(1)).unwrap();
            let (v, s) = (shard.view(e).unwrap(), shard.sketches(e));
            let of = |name| DEFINITIONS.iter().find(|d| d.name == name).unwrap();
            ["vma_pt_counter", "vma_counter"].map(|name| of(name).value_of(&v, &s).unwrap())
        })
    };
    rig.take(Call {
        kernel_unmapped: true,
        ..half(Op::Add, 7, 0)
    });
    for (mm, first) in [(7, 8), (8, 0), (8, 8)] {
        assert_eq!(rig.take(half(Op::Add, mm, first)), Outcome::Applied);
    }
    assert_eq!(values(&mut rig), [4, 4]);
    assert_eq!(rig.take(half(Op::Remove, 7, 0)), Outcome::Applied);
    assert_eq!(values(&mut rig), [3, 3]);
    assert_eq!(rig.take(half(Op::Remove, 7, 8)), Outcome::Applied);
    assert_eq!(values(&mut rig), [2, 2]);
}

#[test]
fn what_depends_on_who_maps_says_so() {
    for d in &DEFINITIONS {
        let counts = ["mm", "vma", "owner", "creator", "rmap_id", "full"];
        let named = counts.iter().any(|name| d.name.starts_with(name));
        assert!(!named || d.per_mm, "{}", d.name);
        let total = [
            "total",
            "entire",
            "max_page",
            "first_page",
            "nr_pages_mapped",
        ];
        assert!(!total.contains(&d.name) || !d.per_mm, "{}", d.name);
    }
}
