// SPDX-License-Identifier: GPL-2.0

//! Folios that were mapped before anybody listened: what is learned about them is never wrong, and
//! once everybody was looked at it is everything.

use fmi_model::{Adoption, Counter, Counters, LostReason, Op, Standing};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::rig::{
    record_bits,
    PAGE_SHIFT,
    PLENTY,
    PT_SHIFT, //
};
use crate::steps::{
    config,
    deed,
    order,
    world,
    Deed, //
};
use crate::world::World;

/// A scan of the page tables of some MMs: each, and how far it has come there.
struct Scan(Vec<(u64, u64)>);

impl Scan {
    /// Begins with all MMs that there are.
    fn of_all(w: &World) -> Self {
        let mut mms: Vec<(u64, u64)> = w.vmas.iter().map(|v| (v.mm, 0)).collect();
        mms.sort_unstable();
        mms.dedup();
        Self(mms)
    }

    /// Looks at the next page table of an MM whose VMAs stand still; returns whether it did.
    fn step(&mut self, w: &mut World, choice: usize) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let chosen = choice % self.0.len();
        let (mm, cursor) = self.0[chosen];
        if w.is_busy(mm) {
            return false;
        }
        let tables = w.mappings.iter().filter(|m| m.mm == mm);
        let tables = tables.map(|m| m.va >> PT_SHIFT).filter(|t| *t >= cursor);
        let Some(table) = tables.min() else {
            self.0.swap_remove(chosen);
            return true;
        };
        let vmas: Vec<_> = w.vmas.iter().filter(|v| v.mm == mm).copied().collect();
        for vma in vmas {
            let (start, end) = (table << PT_SHIFT, (table + 1) << PT_SHIFT);
            for (level, first, nr) in w.batches(&vma, start, end) {
                let found = w.call_of(Op::Found, &vma, level, first, nr);
                w.send(&found);
            }
        }
        self.0[chosen].1 = table + 1;
        true
    }
}

impl World {
    /// Checks that all that is known of a learning folio is so.
    pub fn assert_part(&mut self, folio: usize) {
        let of_folio = |m: &&crate::oracle::Mapping| m.folio == folio;
        let mappings: Vec<_> = self.mappings.iter().filter(of_folio).copied().collect();
        let pfn = self.folios[folio].pfn;
        let nr_pages = self.folios[folio].nr_pages();
        let moving = !self.moving.is_empty();
        let there = |mm: u64, base: u64, page: u32, entire: bool| {
            let va = base.wrapping_add(u64::from(page) << PAGE_SHIFT);
            mappings
                .iter()
                .any(|m| (m.mm, m.page, m.entire) == (mm, page, entire) && (moving || m.va == va))
        };
        let most = mappings.len() as u64;
        self.rig.with(|shard, _| {
            let e = shard.find(pfn).unwrap();
            assert!(shard.view(e).unwrap().total <= most);
            for r in shard.records(e) {
                assert!(!r.entire || there(r.mm, r.base, 0, true), "{r:?}");
                let bits = record_bits(shard, e, r.mm, r.base);
                for (page, bit) in (0..nr_pages).zip(bits) {
                    assert!(!bit || there(r.mm, r.base, page, false), "{page} {r:?}");
                }
            }
        });
    }

    /// Tries to adopt a folio; `stopped`: while no call is running.
    fn adopt(&mut self, folio: usize, stopped: bool) -> Adoption {
        if stopped {
            self.finish_calls(|_| true);
        }
        self.show_kernel();
        let pfn = self.folios[folio].pfn;
        let adoption = self.rig.with(|shard, env| shard.adopt(pfn, stopped, env));
        self.rig.assert_sound();
        adoption
    }

    fn standing(&mut self, folio: usize) -> Standing {
        let (pfn, order) = (self.folios[folio].pfn, self.folios[folio].order);
        self.rig.with(|shard, _| shard.standing(pfn, order))
    }
}

/// Deeds before anybody listens, deeds during the scan with a number that says what the scan does
/// meanwhile, and deeds after it. One MM is not scanned if `unseen`.
fn run(
    orders: &[u8],
    before: &[Deed],
    during: &[(Deed, u16)],
    after: &[Deed],
    unseen: bool,
) -> Counters {
    let mut w = world(PLENTY, orders);
    w.may_lose = true;
    w.deaf = true;
    for deed in before {
        w.perform(deed);
    }
    while !w.copying.is_empty() {
        w.copy_end(0);
    }
    while !w.moving.is_empty() {
        w.move_end(0);
    }
    w.grace_period();
    w.deaf = false;

    w.rig.with(|shard, _| shard.begin_learning());
    let mut scan = Scan::of_all(&w);
    if unseen && !scan.0.is_empty() {
        scan.0.swap_remove(before.len() % scan.0.len());
    }
    for (deed, choice) in during {
        w.perform(deed);
        let number = usize::from(choice / 8);
        match choice % 8 {
            0..=2 => {
                scan.step(&mut w, number);
            }
            3 => {
                w.adopt(number % w.folios.len(), false);
            }
            4 => {
                w.adopt(number % w.folios.len(), true);
            }
            _ => {}
        }
        w.assert_all();
    }
    while !w.copying.is_empty() {
        w.copy_end(0);
    }
    while !w.moving.is_empty() {
        w.move_end(0);
    }
    while scan.step(&mut w, 0) {}
    w.assert_all();
    w.grace_period();
    for folio in 0..w.folios.len() {
        let adoption = w.adopt(folio, false);
        let total = w.counts(folio).total;
        assert!(!matches!(adoption, Adoption::Busy | Adoption::Copied));
        match w.standing(folio) {
            Standing::Tracked => {}
            Standing::Unknown if total == 0 || unseen => {}
            other if unseen => {
                assert_eq!((other, adoption), (Standing::Learning, Adoption::Differs));
                let pfn = w.folios[folio].pfn;
                let mut lose = |reason| w.rig.with(|s, env| s.lose(pfn, reason, env));
                lose(LostReason::UnseenMm);
                assert_eq!(w.standing(folio), Standing::Lost(LostReason::UnseenMm));
            }
            other => panic!("{other:?} {adoption:?}"),
        }
    }
    w.rig.with(|shard, env| {
        shard.stop_learning();
        // What was kept for a copy, of folios that are no more.
        for e in 0..shard.nr_slots().0 {
            if let Some(pfn) = shard.learning_at(e) {
                assert_eq!(shard.adopt(pfn, false, env), Adoption::Gone);
            }
        }
    });
    assert_eq!(w.rig.counter(Counter::Learning), 0);
    w.assert_all();
    w.assert_equal_at_rest();
    assert_eq!(w.rig.counter(Counter::Suspects), 0);

    // All is as if it had been known from the start.
    w.may_lose = unseen;
    for deed in after {
        w.perform(deed);
        w.assert_all();
    }
    while !w.copying.is_empty() {
        w.copy_end(0);
    }
    while !w.moving.is_empty() {
        w.move_end(0);
    }
    w.assert_equal_at_rest();
    let counters = w.rig.counters();
    for vma in w.vmas.clone() {
        w.zap(vma.id);
    }
    w.assert_all();
    for counter in [Counter::Records, Counter::Chunks, Counter::Tracked] {
        assert_eq!(w.rig.counter(counter), 0);
    }
    counters
}

fn deeds(most: usize) -> impl Strategy<Value = Vec<Deed>> {
    prop::collection::vec(deed(), 1..most)
}

fn orders() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(order(), 1..4)
}

fn deeds_and_scans(most: usize) -> impl Strategy<Value = Vec<(Deed, u16)>> {
    prop::collection::vec((deed(), 0u16..), 1..most)
}

/// The deeds must reach what they are meant for, or the properties say little.
#[test]
fn random_scans_reach_everything() {
    let mut runner = TestRunner::deterministic();
    let strategy = (orders(), deeds(80), deeds_and_scans(80), deeds(10));
    let mut sum = Counters::new();
    for round in 0..300 {
        let (orders, before, during, after) = strategy.new_tree(&mut runner).unwrap().current();
        sum.merge(&run(&orders, &before, &during, &after, round % 3 == 0));
    }
    for counter in [
        Counter::FoundPte,
        Counter::FoundEntire,
        Counter::LearningStarted,
        Counter::LearningUnknown,
        Counter::LearningDropped,
        Counter::Adopted,
        Counter::LostUnseenMm,
        Counter::UntrackedMove,
        Counter::Moves,
        Counter::Boundaries,
    ] {
        assert!(sum.get(counter) >= 10, "{counter:?}: {}", sum.get(counter));
    }
    for counter in [
        Counter::AddMapped,
        Counter::RemoveNotMapped,
        Counter::OrderChanged,
        Counter::MoveNotMapped,
        Counter::MoveOntoMapped,
        Counter::FoundUnknown,
        Counter::LostInconsistent,
        Counter::LostNoMemory,
    ] {
        assert_eq!(sum.get(counter), 0, "{counter:?}");
    }
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn what_was_mapped_before_becomes_exact(
        orders in orders(),
        before in deeds(60),
        during in deeds_and_scans(60),
        after in deeds(20),
    ) {
        run(&orders, &before, &during, &after, false);
    }

    #[test]
    fn an_mm_that_was_not_seen_is_noticed(
        orders in prop::collection::vec(1u8..=4, 1..3),
        before in deeds(40),
        during in deeds_and_scans(100),
        after in deeds(20),
    ) {
        run(&orders, &before, &during, &after, true);
    }
}
