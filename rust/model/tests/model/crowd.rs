// SPDX-License-Identifier: GPL-2.0

//! Counts of pages that are mapped more often than one chunk has planes for.

use fmi_model::{
    Call,
    Op, //
};

use crate::calls::{
    call,
    mapped,
    pfn, //
};
use crate::rig::{
    page_counts,
    Rig,
    Size,
    PLENTY, //
};

/// Maps or unmaps one page in an MM.
fn one(op: Op, order: u8, page: u32, mm: u64) -> Call {
    Call {
        order,
        mm: 1000 + mm,
        mm_id: mm as u32 + 1,
        vma: mm + 1,
        vma_end: 0x10_0000 + (0x1000 << order),
        ..mapped(call(op, page, 1))
    }
}

/// The numbers of pages 0 and 1, the largest and the least that is not 0.
fn check(rig: &mut Rig, counts: [i64; 2], most: u32, least_mapped: u32) {
    rig.with(|shard, _| {
        let entry = shard.find(pfn(1)).unwrap();
        assert_eq!(page_counts(shard, entry)[..3], [counts[0], counts[1], 0]);
        let view = shard.view(entry).unwrap();
        assert_eq!((view.max_page, view.min_page), (most, 0));
        assert_eq!(view.min_mapped_page, least_mapped);
        assert_eq!(i64::from(view.first_page), counts[0]);
    });
}

#[test]
fn hundreds_of_processes_map_a_page() {
    // A folio of order 4 has 8 planes in a chunk, one of order 9 one: the planes below the highest
    // are empty when all counts are 256. With two chunks that one is at the beginning of the words.
    for (order, chunks) in [(4, 2), (7, PLENTY.chunks), (9, PLENTY.chunks)] {
        let mut rig = Rig::new(Size {
            records: 1024,
            chunks,
            ..PLENTY
        });
        let start = Call {
            kernel_unmapped: true,
            ..one(Op::Add, order, 0, 0)
        };
        rig.with(|shard, env| shard.call(&start, env));
        for mm in 1..300 {
            rig.with(|shard, env| shard.call(&one(Op::Add, order, 0, mm), env));
        }
        check(&mut rig, [300, 0], 300, 300);
        for mm in 0..256 {
            rig.with(|shard, env| shard.call(&one(Op::Add, order, 1, mm), env));
        }
        check(&mut rig, [300, 256], 300, 256);
        for mm in 256..300 {
            rig.with(|shard, env| shard.call(&one(Op::Remove, order, 0, mm), env));
        }
        check(&mut rig, [256, 256], 256, 256);
        rig.with(|shard, env| shard.call(&one(Op::Remove, order, 1, 3), env));
        check(&mut rig, [256, 255], 256, 255);
        rig.assert_sound();
    }
}

#[test]
fn one_process_is_left() {
    // With one record the counts are not worked out from the planes: it maps page 0, or it does not.
    for (order, page) in [(2, 0), (2, 1), (4, 0), (4, 1), (7, 1), (9, 0), (9, 1)] {
        let mut rig = Rig::new(PLENTY);
        let start = Call {
            kernel_unmapped: true,
            ..one(Op::Add, order, page, 0)
        };
        rig.with(|shard, env| shard.call(&start, env));
        let (first, second) = (i64::from(page == 0), i64::from(page == 1));
        check(&mut rig, [first, second], 1, 1);
        for mm in 1..6 {
            rig.with(|shard, env| shard.call(&one(Op::Add, order, 0, mm), env));
        }
        let least = if page == 0 { 6 } else { 1 };
        check(&mut rig, [5 + first, second], 5 + first as u32, least);
        for mm in 1..6 {
            rig.with(|shard, env| shard.call(&one(Op::Remove, order, 0, mm), env));
        }
        check(&mut rig, [first, second], 1, 1);
        let asked = [0, 1, 1 << order];
        let pages = rig.with(|shard, _| {
            let entry = shard.find(pfn(1)).unwrap();
            asked.map(|i| shard.ask_page(entry, 1000, 1, i, false).count)
        });
        assert_eq!(pages.map(i64::from), [first, second, 0]);
        rig.assert_sound();
    }
}
