// SPDX-License-Identifier: GPL-2.0

//! Examples: the store against a queue per cell.

use std::collections::VecDeque;

use fmi_model::{
    Call,
    Disagreement,
    ExampleCell,
    ExampleSlot,
    ExampleState,
    Examples,
    FolioView,
    Kind,
    Names,
    Op,
    Operation,
    PairSet,
    Sketches,
    NR_PAIRS, //
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

/// Largest order of the tests.
const MAX_ORDER: u8 = 9;

/// A millisecond: full cells take no more than one case in that time.
const MS: u64 = 1_000_000;

/// Threads have their number as name, MMs theirs as process.
struct Numbers;

impl Names for Numbers {
    fn comm(&self, pid: u32) -> [u8; 16] {
        [pid as u8; 16]
    }

    fn process_of(&self, mm: u64) -> u32 {
        mm as u32
    }
}

/// Any number for a pair, a type and an order.
fn cell_of(pair: usize, kind: Kind, order: u8) -> usize {
    (kind.index() * (usize::from(MAX_ORDER) + 1) + usize::from(order)) * NR_PAIRS + pair
}

struct Store {
    state: ExampleState,
    slots: Vec<ExampleSlot>,
    cells: Vec<ExampleCell>,
}

impl Store {
    fn new(slots: usize) -> Self {
        Self {
            state: ExampleState::default(),
            slots: vec![ExampleSlot::default(); slots],
            cells: vec![ExampleCell::default(); Examples::nr_cells(MAX_ORDER)],
        }
    }

    fn examples(&mut self) -> Examples<'_> {
        Examples {
            state: &mut self.state,
            slots: &mut self.slots,
            cells: &mut self.cells,
        }
    }

    /// Adds a case about folio number `pfn` with the pairs of a bit mask.
    fn add(&mut self, pfn: u64, kind: Kind, order: u8, pairs: u64, now: u64) {
        let opened = (0..64)
            .filter(|pair| pairs & (1 << pair) != 0)
            .fold(PairSet::new(), PairSet::with);
        let view = FolioView {
            pfn,
            kind,
            order,
            ..FolioView::default()
        };
        Rig::new(PLENTY).with(|shard, _| {
            let d = Disagreement {
                view: &view,
                sketches: &Sketches::default(),
                opened,
                too_high: PairSet::new(),
                operation: Operation::Fork,
                pid: pfn as u32,
                records: shard.records(0),
            };
            self.examples().add(d, now, &Numbers);
        });
    }

    /// Returns pair, type, order and pfn of all examples.
    fn all(&mut self) -> Vec<(usize, Kind, u8, u64)> {
        let examples = self.examples();
        let mut all = Vec::new();
        let mut from = 0;
        while let Some(position) = examples.next(from, Examples::nr_positions(MAX_ORDER)) {
            if let Some((pair, example)) = examples.get(position) {
                let v = &example.view;
                assert!(example.wrong.contains(pair));
                all.push((pair, v.kind, v.order, v.pfn));
            }
            from = position + 1;
        }
        all
    }

    /// Checks that the slots in use are those of the examples that can be read.
    fn check(&mut self) {
        let mut found: Vec<u64> = self.all().iter().map(|(.., pfn)| *pfn).collect();
        found.sort_unstable();
        found.dedup();
        let used = self.state.counts().used;
        assert_eq!(used, found.len() as u64);
        assert!(used <= self.slots.len() as u64);
    }
}

#[test]
fn the_last_four_are_kept() {
    let mut rig = Store::new(16);
    for n in 1..=6 {
        rig.add(n, Kind::Anon, 9, 0b10, n * MS);
    }
    let pfns: Vec<u64> = rig.all().iter().map(|(.., pfn)| *pfn).collect();
    assert_eq!(pfns, [3, 4, 5, 6]);
    rig.check();
    assert_eq!(rig.state.counts().taken, 6);
}

#[test]
fn a_slot_is_free_when_its_last_cell_lets_go() {
    let mut rig = Store::new(5);
    // Case 1 is an example of two pairs; pair 0 then lets go of it, pair 1 does not.
    for n in 1..=5 {
        rig.add(n, Kind::File, 4, if n == 1 { 0b11 } else { 0b01 }, n * MS);
    }
    rig.check();
    assert_eq!(rig.state.counts().used, 5);
    // All of pair 1 goes but for the present: case 1 is gone.
    for n in 6..=9 {
        rig.add(n, Kind::File, 4, 0b11, n * MS);
    }
    rig.check();
    assert!(rig.all().iter().all(|(.., pfn)| *pfn >= 6));
    assert_eq!(rig.all().len(), 8);
    assert_eq!(rig.state.counts().no_room, 0);
}

#[test]
fn without_room_nothing_changes() {
    let mut rig = Store::new(4);
    for n in 1..=4 {
        rig.add(n, Kind::Anon, 4, 0b11, n * MS);
    }
    let before = rig.all();
    // Pair 1 still needs all four.
    rig.add(6, Kind::Anon, 4, 0b01, 6 * MS);
    assert_eq!(rig.all(), before);
    assert_eq!(rig.state.counts().no_room, 1);
    rig.check();
    // Replacing it everywhere frees it.
    rig.add(7, Kind::Anon, 4, 0b11, 7 * MS);
    assert_eq!(rig.state.counts().taken, 5);
    rig.check();
}

#[test]
fn the_first_case_of_a_cell_finds_room() {
    let mut rig = Store::new(4);
    for n in 1..=4 {
        rig.add(n, Kind::Anon, 4, 0b11, n * MS);
    }
    // Another order has cells of its own.
    rig.add(5, Kind::Anon, 5, 0b01, 5 * MS);
    rig.add(6, Kind::File, 4, 0b10, 6 * MS);
    rig.check();
    assert_eq!(rig.state.counts().no_room, 0);
    assert_eq!(rig.state.counts().used, 4);
    let pfns: Vec<u64> = rig.all().iter().map(|(.., pfn)| *pfn).collect();
    assert_eq!(pfns, [3, 4, 3, 4, 5, 6]);
    // It goes on behind the last one that was given up, whoever had it.
    for n in 7..=12 {
        rig.add(n, Kind::Shmem, n as u8 % 8, 0b01, n * MS);
        rig.check();
        assert!(rig.all().iter().any(|(.., pfn)| *pfn == n));
    }
}

#[test]
fn full_cells_pause() {
    let mut rig = Store::new(16);
    for n in 1..=4 {
        rig.add(n, Kind::Shmem, 2, 0b1, 10);
    }
    rig.add(5, Kind::Shmem, 2, 0b1, 9 + MS);
    assert_eq!(rig.state.counts().too_soon, 1);
    // A cell that is not full takes it, and so do the others then.
    rig.add(6, Kind::Shmem, 2, 0b11, 9 + MS);
    rig.add(7, Kind::Shmem, 2, 0b1, 9 + 2 * MS);
    let of_pair_0 = rig.all().into_iter().filter(|(pair, ..)| *pair == 0);
    let pfns: Vec<u64> = of_pair_0.map(|(.., pfn)| pfn).collect();
    assert_eq!(pfns, [3, 4, 6, 7]);
    rig.check();
}

#[test]
fn ksm_folios_have_no_cells() {
    let mut rig = Store::new(4);
    rig.add(1, Kind::Ksm, 4, 0b1, MS);
    assert_eq!(rig.all(), []);
    assert_eq!(rig.state.counts().used, 0);
}

#[test]
fn orders_beyond_the_last_share_its_cells() {
    let mut rig = Store::new(16);
    rig.add(1, Kind::Shmem, MAX_ORDER, 0b1, MS);
    rig.add(2, Kind::Shmem, MAX_ORDER + 7, 0b1, 2 * MS);
    assert_eq!(rig.all().len(), 2);
    assert_eq!(
        rig.examples().next(0, usize::MAX),
        rig.examples().next(0, 1 << 20)
    );
    rig.check();
}

#[test]
fn mappers_beyond_the_room_are_left_out() {
    let mut folio = Rig::new(PLENTY);
    for mm in 1..=6 {
        let add = call(Op::Add, 0, 1);
        folio.take(Call {
            mm: mm + 100,
            mm_id: mm as u32,
            ..if mm > 1 { mapped(add) } else { add }
        });
    }
    let mut rig = Store::new(4);
    folio.with(|shard, _| {
        let entry = shard.find(pfn(1)).unwrap();
        let view = shard.view(entry).unwrap();
        assert_eq!(view.nr_records, 6);
        let d = Disagreement {
            view: &view,
            sketches: &Sketches::default(),
            opened: PairSet::new().with(3),
            too_high: PairSet::new().with(3),
            operation: Operation::Cow,
            pid: 77,
            records: shard.records(entry),
        };
        rig.examples().add(d, MS, &Numbers);
    });
    let examples = rig.examples();
    let (pair, example) = examples.get(examples.next(0, usize::MAX).unwrap()).unwrap();
    assert_eq!((pair, example.pid, example.comm), (3, 77, [77; 16]));
    assert_eq!(example.nr_mappers, 4);
    for mapper in example.mappers {
        assert_eq!(mapper.pid, mapper.mm_id + 100);
        assert_eq!((mapper.nr, mapper.entire), (1, false));
    }
    assert!(example.too_high.contains(3));
}

proptest::proptest! {
    /// With room for all of them, each cell has its last four; with little, all that is there
    /// is consistent.
    #[test]
    fn cells_keep_what_a_queue_keeps(
        cases in proptest::collection::vec((0usize..3, 1u8..4, 1u64..64), 1..200),
        slots in 1usize..40,
    ) {
        let mut rig = Store::new(slots);
        let mut roomy = Store::new(1000);
        let mut naive: Vec<VecDeque<u64>> = vec![VecDeque::new(); Examples::nr_cells(MAX_ORDER)];
        for (n, (kind, order, pairs)) in (1..).zip(cases) {
            let kind = Kind::ALL[kind];
            rig.add(n, kind, order, pairs, n * MS);
            roomy.add(n, kind, order, pairs, n * MS);
            for pair in (0..6).filter(|pair| pairs & (1 << pair) != 0) {
                let queue = &mut naive[cell_of(pair, kind, order)];
                queue.push_back(n);
                if queue.len() > 4 {
                    queue.pop_front();
                }
            }
            rig.check();
        }
        roomy.check();
        let mut kept = vec![VecDeque::new(); Examples::nr_cells(MAX_ORDER)];
        for (pair, kind, order, pfn) in roomy.all() {
            kept[cell_of(pair, kind, order)].push_back(pfn);
        }
        proptest::prop_assert_eq!(kept, naive);
        rig.examples().clear();
        proptest::prop_assert!(rig.all().is_empty());
        rig.add(1, Kind::Anon, 1, 1, MS);
        rig.check();
    }
}
