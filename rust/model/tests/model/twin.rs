// SPDX-License-Identifier: GPL-2.0

//! Two shadows of the same folios: one is told what the function hooks see, with windows for fork and
//! mremap; the other what the kernel does, in its own order. Whenever they can be compared they are
//! equal, and what one of them was not told is found.

use fmi_model::{
    Boundary,
    Call,
    Kind,
    LostReason,
    Move,
    Outcome,
    TwinDifference,
    TwinPlace,
    TwinSkip,
    TwinWhat, //
};
use proptest::prelude::*;

use crate::rig::{
    Rig,
    Size,
    PAGE_SHIFT,
    PLENTY, //
};
use crate::steps::{
    config,
    deed,
    order,
    world,
    Deed, //
};
use crate::world::{
    Moving,
    World, //
};

type Compared = fmi_model::Twin;

/// The second shadow.
pub struct Twin {
    pub rig: Rig,
    /// So many events from now, one is not told; counts down to 0.
    pub drop_in: u32,
    /// The folio of the event that was not told.
    pub dropped: Option<u64>,
}

impl Twin {
    /// Returns whether the next event is told.
    fn hears(&mut self, pfn: u64) -> bool {
        if self.drop_in == 0 {
            return true;
        }
        self.drop_in -= 1;
        if self.drop_in == 0 {
            self.dropped = Some(pfn);
        }
        self.drop_in != 0
    }
}

impl World {
    /// Makes a second shadow, before anything is mapped.
    fn with_twin(mut self, size: Size) -> Self {
        self.twin = Some(Twin {
            rig: Rig::new(size),
            drop_in: 0,
            dropped: None,
        });
        self
    }

    /// Shows the kernel's counters to the second shadow: it has no windows.
    fn twin_with_kernel(&mut self, pfn: u64) -> Option<&mut Twin> {
        let counts = self.folios.iter().find(|f| f.pfn == pfn)?.kernel.counts();
        let twin = self.twin.as_mut()?;
        twin.rig.env.kernel.borrow_mut().insert(pfn, counts);
        twin.hears(pfn).then_some(twin)
    }

    /// Tells the second shadow of a call.
    pub fn tell_twin(&mut self, call: &Call) {
        let folio = self.folios.iter().find(|f| f.pfn == call.pfn);
        let kernel_unmapped = folio.is_some_and(|f| f.kernel.unmapped());
        let Some(twin) = self.twin_with_kernel(call.pfn) else {
            return;
        };
        let call = Call {
            kernel_unmapped,
            ..*call
        };
        let outcome = twin.rig.with(|shard, env| shard.call(&call, env));
        let taken = matches!(outcome, Outcome::Applied | Outcome::Started);
        assert!(taken || twin.dropped.is_some(), "{outcome:?}: {call:?}");
        twin.rig.assert_sound();
    }

    /// Tells the second shadow of a VMA boundary.
    pub fn bound_twin(&mut self, boundary: &Boundary) {
        if let Some(twin) = self.twin_with_kernel(boundary.pfn) {
            twin.rig
                .with(|shard, env| shard.set_boundary(boundary, env));
        }
    }

    /// Tells the second shadow of what moves, page table by page table.
    pub fn move_twin(&mut self, w: &Moving, from: u64, end: u64) {
        if self.twin.is_none() {
            return;
        }
        let (old, new) = (self.get(w.old), self.get(w.new));
        let folio = self.folios[new.folio].clone();
        for (level, first, nr) in self.batches(&old, from, end) {
            let m = Move {
                pfn: folio.pfn,
                order: folio.order,
                mm: new.mm,
                old_base: old.base,
                new_base: new.base,
                level,
                first,
                nr,
                vma_start: new.start,
                vma_end: new.end,
                pid: 0,
                tables: [None; 2],
            };
            if let Some(twin) = self.twin_with_kernel(folio.pfn) {
                let outcome = twin.rig.with(|shard, env| shard.rekey(&m, env));
                let taken = outcome == Outcome::Applied || twin.dropped.is_some();
                assert!(taken, "{outcome:?}: {m:?}");
            }
        }
    }

    /// Compares both shadows of a folio.
    fn compare_twins(&mut self, pfn: u64, stopped: bool) -> Compared {
        self.show_kernel();
        let twin = self.twin.as_mut().expect("a second shadow");
        self.rig.compare(&mut twin.rig, pfn, stopped)
    }

    /// Compares all folios; returns how many were equal, and what differs.
    fn compare_all_twins(&mut self) -> (u32, Vec<TwinDifference>) {
        let mut equal = 0;
        let mut differences = Vec::new();
        for folio in self.folios.clone() {
            match self.compare_twins(folio.pfn, false) {
                Compared::Equal => equal += 1,
                Compared::Differs(d) => differences.push(d),
                Compared::Deferred | Compared::NotCompared(_) => {}
            }
        }
        (equal, differences)
    }

    /// Ends all copies and moves, and all calls.
    fn rest(&mut self) {
        while !self.copying.is_empty() {
            self.copy_end(0);
        }
        while !self.moving.is_empty() {
            self.move_end(0);
        }
        self.grace_period();
    }
}

/// Does the deeds, and compares after each; returns how often folios were equal, and how often while
/// a copy or move was open.
fn run(orders: &[u8], deeds: &[Deed]) -> (u32, u32) {
    let mut w = world(PLENTY, orders).with_twin(PLENTY);
    let (mut equal, mut in_windows) = (0, 0);
    for deed in deeds {
        w.perform(deed);
        let (n, differences) = w.compare_all_twins();
        assert!(differences.is_empty(), "{deed:?}: {differences:?}");
        equal += n;
        if !(w.copying.is_empty() && w.moving.is_empty()) {
            in_windows += n;
        }
    }
    w.rest();
    for folio in w.folios.clone() {
        let compared = w.compare_twins(folio.pfn, false);
        let unmapped = Compared::NotCompared(TwinSkip::Unmapped);
        assert!(
            compared == Compared::Equal || compared == unmapped,
            "{compared:?}"
        );
    }
    (equal, in_windows)
}

proptest! {
    #![proptest_config(config(800))]

    #[test]
    fn both_orders_lead_to_the_same(
        orders in prop::collection::vec(order(), 1..3),
        deeds in prop::collection::vec(deed(), 1..60),
    ) {
        run(&orders, &deeds);
    }

    #[test]
    fn small_folios_with_many_deeds(
        orders in prop::collection::vec(1u8..=4, 1..3),
        deeds in prop::collection::vec(deed(), 50..200),
    ) {
        run(&orders, &deeds);
    }

    /// Whatever event of a call the second is not told, it is never equal while the folio is mapped by
    /// what that call mapped or unmapped.
    #[test]
    fn an_event_that_one_was_not_told_is_found(
        orders in prop::collection::vec(order(), 1..2),
        deeds in prop::collection::vec(deed(), 1..40),
        last in (any::<u16>(), any::<u16>()),
    ) {
        let mut w = world(PLENTY, &orders).with_twin(PLENTY);
        for deed in &deeds {
            w.perform(deed);
        }
        w.rest();
        w.twin.as_mut().unwrap().drop_in = 1;
        let (vma, first) = last;
        w.perform(&Deed::Map { vma, first, nr: 1 });
        w.grace_period();
        if let Some(pfn) = w.twin.as_ref().unwrap().dropped {
            let compared = w.compare_twins(pfn, false);
            prop_assert!(matches!(compared, Compared::Differs(_)), "{:?}", compared);
        }
    }
}

/// The random deeds must reach comparisons, also of folios that stand still while a copy or move of
/// others is open.
#[test]
fn comparisons_take_place() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = (
        prop::collection::vec(order(), 2..3),
        prop::collection::vec(deed(), 100..200),
    );
    let (mut equal, mut in_windows) = (0, 0);
    for _ in 0..100 {
        let (orders, deeds) = strategy.new_tree(&mut runner).unwrap().current();
        let (e, w) = run(&orders, &deeds);
        equal += e;
        in_windows += w;
    }
    assert!(equal > 1000, "{equal}");
    assert!(in_windows > 100, "{in_windows}");
}

/// A world with one folio of order 9 that one MM maps by PTEs; the folio and its VMA.
fn one() -> (World, u64, u64) {
    let mut w = World::new(PLENTY).with_twin(PLENTY);
    let folio = w.folio(9, Kind::Anon);
    let mm = w.mm();
    let vma = w.whole_vma(mm, folio);
    w.map(vma, 0, 512);
    w.grace_period();
    let pfn = w.folios[folio].pfn;
    assert_eq!(w.compare_twins(pfn, false), Compared::Equal);
    (w, pfn, vma)
}

fn difference(w: &mut World, pfn: u64) -> TwinDifference {
    match w.compare_twins(pfn, false) {
        Compared::Differs(d) => d,
        other => panic!("{other:?}"),
    }
}

fn drop_next(w: &mut World) {
    w.twin.as_mut().unwrap().drop_in = 1;
}

fn values_of(d: &TwinDifference) -> Vec<(&'static str, i64, i64)> {
    d.values().collect()
}

#[test]
fn a_remove_that_one_was_not_told() {
    let (mut w, pfn, vma) = one();
    drop_next(&mut w);
    w.unmap(vma, 7, 3);
    assert_eq!(w.compare_twins(pfn, false), Compared::Deferred);
    w.grace_period();
    let d = difference(&mut w, pfn);
    assert_eq!(d.pfn(), pfn);
    let v = w.get(vma);
    let what = TwinWhat::Page(7);
    let (mm, base) = (v.mm, v.base);
    assert_eq!(d.place, TwinPlace::Record { mm, base, what });
    let values = values_of(&d);
    assert!(values.contains(&("total", 509, 512)), "{values:?}");
    assert!(values.contains(&("nr_pages_mapped", 509, 512)));
    assert!(values.contains(&("partial", 1, 0)) && values.contains(&("full", 0, 1)));
    assert!(values.iter().all(|(name, ..)| *name != "mm"));
    // It lasts: nothing has changed meanwhile.
    w.grace_period();
    assert_eq!(difference(&mut w, pfn).seqs(), d.seqs());
    assert!(matches!(w.compare_twins(pfn, true), Compared::Differs(_)));
}

#[test]
fn mappings_of_fork_that_one_was_not_told() {
    let (mut w, pfn, vma) = one();
    drop_next(&mut w);
    let mm = w.get(vma).mm;
    let child = w.fork(mm);
    w.grace_period();
    let d = difference(&mut w, pfn);
    let base = w.get(vma).base;
    let what = TwinWhat::OnlyInFirst;
    assert_eq!(
        d.place,
        TwinPlace::Record {
            mm: child,
            base,
            what
        }
    );
    assert!(values_of(&d).contains(&("mm", 2, 1)));
}

#[test]
fn a_move_that_one_was_not_told() {
    let (mut w, pfn, vma) = one();
    drop_next(&mut w);
    let v = w.get(vma);
    let to = w.slot();
    w.mremap(vma, v.start, v.end, to);
    w.grace_period();
    let d = difference(&mut w, pfn);
    // All counts are the same: only where it is mapped differs.
    assert_eq!(values_of(&d), vec![]);
    let what = TwinWhat::OnlyInFirst;
    let mm = v.mm;
    assert_eq!(d.place, TwinPlace::Record { mm, base: to, what });
}

#[test]
fn a_boundary_that_one_was_not_told() {
    let (mut w, pfn, vma) = one();
    drop_next(&mut w);
    let v = w.get(vma);
    w.split_vma(vma, v.start + (5 << PAGE_SHIFT));
    let d = difference(&mut w, pfn);
    let what = TwinWhat::Vmas;
    let (mm, base) = (v.mm, v.base);
    assert_eq!(d.place, TwinPlace::Record { mm, base, what });
    assert!(values_of(&d).contains(&("vma", 2, 1)));
}

#[test]
fn a_folio_that_one_was_not_told() {
    let mut w = World::new(PLENTY).with_twin(PLENTY);
    let folio = w.folio(4, Kind::File);
    let mm = w.mm();
    let vma = w.whole_vma(mm, folio);
    drop_next(&mut w);
    w.map(vma, 0, 16);
    w.grace_period();
    let pfn = w.folios[folio].pfn;
    let d = difference(&mut w, pfn);
    assert_eq!((d.place, d.second), (TwinPlace::Folio, None));
    assert!(values_of(&d).contains(&("total", 16, 0)));
    // Where folios are left out without a marker it cannot be told.
    let absent = Compared::NotCompared(TwinSkip::Absent);
    let twin = w.twin.as_mut().unwrap();
    let elsewhere = pfn + (1 << 30);
    let lose = |shard: &mut fmi_model::Shard<'_>, env: &crate::rig::SimEnv| {
        shard.lose(elsewhere, LostReason::NotLinear, env);
    };
    twin.rig.with(lose);
    assert_eq!(w.compare_twins(pfn, false), absent);
}

/// Who was told of one mapping of a mapped folio says that there is something left out.
#[test]
fn a_mapping_of_a_folio_that_is_left_out() {
    let mut w = World::new(PLENTY).with_twin(PLENTY);
    let folio = w.folio(4, Kind::File);
    let mm = w.mm();
    let vma = w.whole_vma(mm, folio);
    let left_out = |w: &mut World| {
        let first = w.rig.with(|shard, _| shard.has_left_out());
        let twin = w.twin.as_mut().unwrap();
        (first, twin.rig.with(|shard, _| shard.has_left_out()))
    };
    drop_next(&mut w);
    w.map(vma, 0, 1);
    w.grace_period();
    assert_eq!(left_out(&mut w), (false, false));
    w.map(vma, 1, 1);
    w.grace_period();
    assert_eq!(left_out(&mut w), (false, true));
    let twin = w.twin.as_mut().unwrap();
    twin.rig.replace_storage();
    assert_eq!(left_out(&mut w), (false, false));
}

#[test]
fn what_is_lost_is_not_compared() {
    let (mut w, pfn, _) = one();
    let reason = LostReason::Window;
    w.rig.with(|shard, env| shard.lose(pfn, reason, env));
    let skip = TwinSkip::LostByFirst(reason);
    assert_eq!(w.compare_twins(pfn, false), Compared::NotCompared(skip));
    let (mut w, pfn, _) = one();
    let twin = w.twin.as_mut().unwrap();
    twin.rig.with(|shard, env| shard.lose(pfn, reason, env));
    let skip = TwinSkip::LostBySecond(reason);
    assert_eq!(w.compare_twins(pfn, false), Compared::NotCompared(skip));
}

/// Between the kernel's copy and the walk behind it one knows more than the other.
#[test]
fn an_open_copy_is_waited_for() {
    let (mut w, pfn, vma) = one();
    let child = w.mm();
    w.copy_begin(vma, child);
    assert_eq!(w.compare_twins(pfn, false), Compared::Deferred);
    w.copy_step(0);
    w.grace_period();
    assert_eq!(w.compare_twins(pfn, false), Compared::Deferred);
    assert_eq!(w.compare_twins(pfn, true), Compared::Deferred);
    // The source goes: what is left is in the child, which the walk has not reached.
    w.unmap(vma, 0, 512);
    w.grace_period();
    assert_eq!(w.compare_twins(pfn, false), Compared::Deferred);
    w.copy_end(0);
    w.grace_period();
    assert_eq!(w.compare_twins(pfn, false), Compared::Equal);
}

/// So it is while mappings move.
#[test]
fn an_open_move_is_waited_for() {
    let (mut w, pfn, vma) = one();
    let v = w.get(vma);
    let to = w.slot();
    w.move_begin(vma, v.start, v.end, to);
    w.move_step(0);
    w.grace_period();
    assert_eq!(w.compare_twins(pfn, false), Compared::Deferred);
    assert_eq!(w.compare_twins(pfn, true), Compared::Deferred);
    w.move_end(0);
    w.grace_period();
    assert_eq!(w.compare_twins(pfn, false), Compared::Equal);
    // With nothing mapped there is nothing to compare.
    let moved = w.vmas[0].id;
    w.zap(moved);
    w.grace_period();
    let unmapped = Compared::NotCompared(TwinSkip::Unmapped);
    assert_eq!(w.compare_twins(pfn, false), unmapped);
}

/// What only one level tells.
#[test]
fn an_entire_mapping_that_one_was_not_told() {
    let mut w = World::new(PLENTY).with_twin(PLENTY);
    let folio = w.folio(9, Kind::Shmem);
    let (a, b) = (w.mm(), w.mm());
    let (a, b) = (w.whole_vma(a, folio), w.whole_vma(b, folio));
    w.map_entire(a);
    w.map(b, 0, 5);
    w.grace_period();
    drop_next(&mut w);
    w.map_entire(b);
    w.grace_period();
    let pfn = w.folios[folio].pfn;
    let d = difference(&mut w, pfn);
    let v = w.get(b);
    let what = TwinWhat::Entire;
    let (mm, base) = (v.mm, v.base);
    assert_eq!(d.place, TwinPlace::Record { mm, base, what });
    assert!(values_of(&d).contains(&("entire", 2, 1)));
}
