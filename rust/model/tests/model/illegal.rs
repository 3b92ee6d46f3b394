// SPDX-License-Identifier: GPL-2.0

//! Whatever the shard is told, it does not panic, and what it is told about one folio does not touch
//! another.

use fmi_model::{
    Boundary,
    Call,
    Counter,
    Edge,
    Kind,
    Level,
    LostReason,
    Move,
    Op,
    Operation,
    Place,
    SharedTable, //
};
use proptest::prelude::*;

use crate::rig::{
    Size,
    PLENTY, //
};
use crate::steps::{
    config,
    deed,
    world,
    Deed, //
};
use crate::world::World;

/// Something that nobody should tell a shard.
#[derive(Clone, Debug)]
enum Nonsense {
    Call(Call),
    Move(Move),
    Boundary(Boundary),
    Lose(u64),
    Share(u64, u8, SharedTable),
    Check(Place),
    Read(u32, u32, u64),
    Settle(u32, u32),
}

/// Returns pfns: a few, none that of a folio of the world.
fn pfn() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 1u64..5, 1 => Just(u64::MAX), 1 => any::<u64>()].prop_map(|pfn| {
        if pfn & 0xf_ffff == 0 {
            pfn | 1
        } else {
            pfn
        }
    })
}

/// Returns orders, also impossible ones.
fn any_order() -> impl Strategy<Value = u8> {
    prop_oneof![20 => 1u8..8, 2 => Just(9), 1 => any::<u8>()]
}

/// Returns page numbers.
fn page() -> impl Strategy<Value = u32> {
    prop_oneof![10 => 0u32..20, 4 => 0u32..520, 1 => any::<u32>()]
}

/// Returns addresses: a few, some of them close to the ends.
fn address() -> impl Strategy<Value = u64> {
    let some = prop::sample::select(
        &[
            0,
            0x1000,
            0x1f_f000,
            0x20_0000,
            0x2_0000_0000,
            0x2_0000_1000,
            u64::MAX - 0xfff,
        ][..],
    );
    prop_oneof![6 => some, 1 => any::<u64>()]
}

/// Returns levels.
fn level() -> impl Strategy<Value = Level> {
    prop_oneof![3 => Just(Level::Pte), 1 => Just(Level::Entire)]
}

/// Returns calls of all sorts, for entire mappings mostly with the right pages.
fn call() -> impl Strategy<Value = Call> {
    const OPS: [Op; 5] = [Op::Add, Op::Remove, Op::Dup, Op::Touch, Op::Skip];
    let what = (prop::sample::select(&OPS[..]), level(), pfn(), any_order());
    let pages = (page(), page(), any::<bool>());
    let place = (1u64..4, address(), prop::option::of(address()), 0u64..3);
    let vma = (address(), address());
    let rest = (
        any::<bool>(),
        0u64..3,
        0u64..2,
        prop::sample::select(&Kind::ALL[..]),
    );
    (what, pages, place, vma, rest).prop_map(
        |((op, level, pfn, order), (first, nr, fit), (mm, base, alt_base, vma), (s, e), rest)| {
            let (kernel_unmapped, pending, task, kind) = rest;
            let (first, nr) = if fit && level == Level::Entire && order < 32 {
                (0, 1 << order)
            } else if fit && order < 20 {
                let n = 1u32 << order;
                (first % n, 1 + nr % (n - first % n))
            } else {
                (first, nr)
            };
            Call {
                op,
                level,
                pfn,
                order,
                kind,
                first,
                nr,
                mm,
                mm_id: 1,
                base,
                table: alt_base.map(|base| SharedTable {
                    id: mm,
                    base,
                    shared: kernel_unmapped,
                }),
                alt_base,
                vma,
                vma_start: s.min(e),
                vma_end: s.max(e),
                task,
                pid: 0,
                operation: Operation::Fault,
                caller: 0,
                kernel_unmapped,
                pending,
            }
        },
    )
}

/// Returns nonsense.
fn nonsense() -> impl Strategy<Value = Nonsense> {
    let moves = call().prop_flat_map(|c| {
        address().prop_map(move |new_base| {
            Nonsense::Move(Move {
                pfn: c.pfn,
                order: c.order,
                mm: c.mm,
                old_base: c.base,
                new_base,
                tables: [c.table, None],
                level: c.level,
                first: c.first,
                nr: c.nr,
                vma_start: c.vma_start,
                vma_end: c.vma_end,
                pid: 0,
            })
        })
    });
    let boundaries = call().prop_map(|c| {
        Nonsense::Boundary(Boundary {
            pfn: c.pfn,
            order: c.order,
            mm: c.mm,
            base: c.base,
            at: c.first,
            edge: if c.kernel_unmapped {
                Edge::Appeared
            } else {
                let (start, end) = (c.vma_start, c.vma_end);
                Edge::Vanished { start, end }
            },
            pid: 0,
        })
    });
    let shares = call().prop_map(|c| {
        let table = SharedTable {
            id: c.mm,
            base: c.base,
            shared: true,
        };
        Nonsense::Share(c.pfn, c.order, table)
    });
    let checks = call().prop_map(|c| {
        Nonsense::Check(Place {
            pfn: c.pfn,
            order: c.order,
            mm: c.mm,
            base: c.base,
            table: c.table,
            level: c.level,
            first: c.first,
            nr: c.nr,
        })
    });
    let read = (page(), page(), address());
    prop_oneof![
        30 => call().prop_map(Nonsense::Call),
        5 => moves,
        5 => boundaries,
        1 => pfn().prop_map(Nonsense::Lose),
        2 => shares,
        2 => checks,
        2 => read.prop_map(|(entry, page, base)| Nonsense::Read(entry, page, base)),
        1 => (page(), page()).prop_map(|(cursor, max)| Nonsense::Settle(cursor, max)),
    ]
}

/// Tells the shard nonsense.
fn tell(w: &mut World, nonsense: &Nonsense) {
    w.show_kernel();
    w.rig.with(|shard, env| match nonsense {
        Nonsense::Call(c) => {
            shard.call(c, env);
        }
        Nonsense::Move(m) => {
            shard.rekey(m, env);
        }
        Nonsense::Boundary(b) => {
            shard.set_boundary(b, env);
        }
        Nonsense::Lose(pfn) => shard.lose(*pfn, LostReason::Window, env),
        Nonsense::Share(pfn, order, table) => {
            shard.share_table(*pfn, *order, *table, env);
        }
        Nonsense::Check(p) => {
            shard.check_mapping(p);
        }
        Nonsense::Read(entry, page, base) => {
            shard.view_with_kernel(*entry, env);
            shard.pages_pte(*entry, *page, &mut [1; 3]);
            shard.record_pages(*entry, 1, *base, &mut [1; 3]);
            shard.next_entry(*entry, *page);
            shard.record_at(*page);
            shard.nr_slots();
            shard.compare(*entry, env);
            shard.wrong(*entry);
            assert!(shard.records(*entry).count() < 1000);
            shard.take_suspect();
        }
        Nonsense::Settle(cursor, max) => {
            shard.settle(*cursor, *max, env);
        }
    });
    w.rig.assert_sound();
}

/// Mixes nonsense about some folios with deeds on others; those others must not notice.
fn run(size: Size, orders: &[u8], steps: &[(Nonsense, Option<Deed>)]) {
    let mut w = world(size, orders);
    w.may_lose = size.entries < PLENTY.entries;
    for (nonsense, deed) in steps {
        tell(&mut w, nonsense);
        if let Some(deed) = deed {
            w.perform(deed);
        }
        w.assert_all();
    }
    // What was made of nonsense can be taken away without rest, like anything else.
    let pfns: Vec<u64> = w.rig.with(|shard, _| {
        let mut pfns = Vec::new();
        let mut from = 0;
        while let Some(e) = shard.next_entry(from, u32::MAX) {
            pfns.push(shard.view(e).unwrap().pfn);
            from = e + 1;
        }
        pfns
    });
    for pfn in pfns {
        w.rig
            .with(|shard, env| shard.lose(pfn, LostReason::Mismatch, env));
    }
    for counter in [Counter::Records, Counter::Chunks, Counter::Tracked] {
        assert_eq!(w.rig.counter(counter), 0);
    }
    assert!(w.rig.cells().iter().all(|cell| cell.wrong_now == 0));
    w.rig.assert_sound();
}

proptest! {
    #![proptest_config(config(800))]

    #[test]
    fn nonsense_about_one_folio_does_not_touch_another(
        orders in prop::collection::vec(prop::sample::select(&[2u8, 4, 7, 9][..]), 1..3),
        steps in prop::collection::vec((nonsense(), prop::option::of(deed())), 1..100),
    ) {
        run(PLENTY, &orders, &steps);
    }

    #[test]
    fn nor_with_little_storage(
        steps in prop::collection::vec((nonsense(), prop::option::of(deed())), 1..100),
        entries in 2usize..12,
        records in 0usize..6,
        chunks in 0usize..6,
    ) {
        let size = Size { entries, records, histories: entries, chunks, max_order: 9 };
        run(size, &[4, 9], &steps);
    }
}
