// SPDX-License-Identifier: GPL-2.0

//! Runs, settling, listing, forgetting.

use fmi_model::{
    Call,
    Counter,
    Env,
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
    record_bits,
    Rig,
    PLENTY, //
};

#[test]
fn runs_are_told_apart() {
    let base = mapped(call(Op::Add, 1, 1));
    let others = [
        Call { task: 2, ..base },
        Call { caller: 2, ..base },
        Call { vma: 2, ..base },
        Call {
            op: Op::Remove,
            first: 0,
            ..base
        },
        // The next page table.
        Call {
            base: base.base + (1 << 21),
            vma_start: 0,
            vma_end: 0,
            ..base
        },
        Call {
            op: Op::Dup,
            ..base
        },
    ];
    for (n, other) in others.iter().enumerate() {
        let mut rig = Rig::new(PLENTY);
        rig.take(call(Op::Add, 0, 1));
        rig.take(base);
        assert_eq!(rig.counter(Counter::Evaluated), 0, "{n}");
        rig.take(Call {
            first: if n == 3 { 0 } else { 2 },
            ..*other
        });
        assert_eq!(rig.counter(Counter::Evaluated), 1, "{n}");
    }
    // Finds of one walk in one VMA and page table are a run, whoever forks.
    let mut rig = Rig::new(PLENTY);
    rig.take(call(Op::Add, 0, 1));
    for page in 1..5 {
        let task = u64::from(page);
        rig.take(Call {
            first: page,
            task,
            mm: 8,
            ..mapped(call(Op::Dup, 0, 1))
        });
    }
    assert_eq!(rig.counter(Counter::Evaluated), 1);
}

#[test]
fn settle_looks_at_a_few_entries_at_a_time() {
    let mut rig = Rig::new(PLENTY);
    for n in 1..=10 {
        rig.take(Call {
            pfn: pfn(n),
            ..call(Op::Add, 0, 1)
        });
    }
    let settle = |rig: &mut Rig, at| rig.with(|shard, env| shard.settle(at, 4, env));
    assert_eq!(settle(&mut rig, 0), Some(4));
    assert_eq!(rig.counter(Counter::Evaluated), 4);
    assert_eq!(settle(&mut rig, 8), Some(12));
    assert_eq!(rig.counter(Counter::Evaluated), 6);
    assert_eq!(settle(&mut rig, 60), None);
    assert_eq!(settle(&mut rig, 1000), None);
}

#[test]
fn everything_can_be_forgotten_and_started_anew() {
    let mut rig = Rig::new(PLENTY);
    for n in 1..=5 {
        rig.take(Call {
            pfn: pfn(n),
            ..call(Op::Add, 1, 1)
        });
    }
    rig.forget();
    // Evaluated on the way; nothing is wrong any more.
    assert_eq!(rig.counter(Counter::Evaluated), 5);
    let cells = rig.cells();
    assert!(cells.iter().any(|cell| cell.false_no == 5));
    assert!(cells.iter().all(|cell| cell.wrong_now == 0));
    rig.replace_storage();
    for counter in [
        Counter::Tracked,
        Counter::Entries,
        Counter::Records,
        Counter::Chunks,
    ] {
        assert_eq!(rig.counter(counter), 0);
    }
    assert_eq!(rig.counter(Counter::Started), 5);
    assert_eq!(rig.take(call(Op::Add, 1, 1)), Outcome::Started);
}

#[test]
fn entries_and_records_are_listed() {
    let mut rig = Rig::new(PLENTY);
    for n in 1..=3 {
        rig.take(Call {
            pfn: pfn(n),
            mm: n,
            ..call(Op::Add, 0, 1)
        });
        rig.take(Call {
            pfn: pfn(n),
            mm: n + 10,
            ..mapped(call(Op::Add, 0, 1))
        });
    }
    rig.with(|shard, env| shard.lose(pfn(2), LostReason::Window, env));
    let (entries, records) = rig.with(|shard, _| {
        let mut entries = Vec::new();
        let mut from = 0;
        while let Some(e) = shard.next_entry(from, u32::MAX) {
            entries.push((shard.view(e).unwrap().pfn, shard.view(e).unwrap().state));
            from = e + 1;
        }
        let mut records = Vec::new();
        let (nr_entries, nr_records) = shard.nr_slots();
        assert!((0..nr_entries)
            .rev()
            .all(|e| shard.next_entry(e, u32::MAX).is_some()));
        assert_eq!(shard.next_entry(nr_entries, u32::MAX), None);
        for from in 0..=nr_entries {
            let next = shard.next_entry(from, u32::MAX);
            for end in 0..=nr_entries + 1 {
                let before = next.filter(|e| *e < end);
                assert_eq!(shard.next_entry(from, end), before, "{from}..{end}");
            }
        }
        assert_eq!((nr_records..1000).find_map(|r| shard.record_at(r)), None);
        for (pfn, order, mm, base) in (0..nr_records).filter_map(|r| shard.record_at(r)) {
            assert_eq!((order, base), (4, 0x10_0000));
            records.push((pfn, mm));
        }
        (entries, records)
    });
    let (live, lost) = (State::Live, State::Lost);
    assert_eq!(entries, [(pfn(1), live), (pfn(2), lost), (pfn(3), live)]);
    assert_eq!(
        records,
        [(pfn(1), 1), (pfn(1), 11), (pfn(3), 3), (pfn(3), 13)]
    );
    assert!(rig.with(|shard, _| shard.view(3).is_none() && shard.view(1 << 20).is_none()));
    let bits = rig.with(|shard, _| record_bits(shard, 1 << 20, 1, 0x10_0000));
    assert!(!bits.contains(&true));
    assert!(rig.env.gp_elapsed(0) || rig.env.gp.get() == 0);
}
