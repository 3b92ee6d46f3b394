// SPDX-License-Identifier: GPL-2.0

//! hugetlb folios in page tables that MMs share, against a list of tables.
//!
//! A file of folios, mapped by several MMs in slots of their address space, each slot as large as a
//! table of PMDs, with room for all of the file twice. An MM that has no table in a slot may get that of
//! another; it loses it without a call. Whoever is left removes what it maps.

use std::collections::BTreeSet;

use fmi_model::{
    Call,
    Compare,
    Counter,
    DefinitionId,
    KernelCounts,
    Kind,
    Level,
    Move,
    Op,
    Outcome,
    SharedTable,
    DEFINITIONS, //
};
use proptest::prelude::*;

use crate::calls::call;
use crate::rig::{
    Rig,
    PLENTY,
    PT_SHIFT, //
};
use crate::steps::config;

/// Folios of the file.
const FOLIOS: usize = 3;

/// Places in a table: the file, and once more the file.
const PLACES: usize = 2 * FOLIOS;

/// MMs, and slots of each.
const MMS: u64 = 4;
const SLOTS: u64 = 2;

/// What a table of PMDs maps, as a shift.
const TABLE_SHIFT: u32 = PT_SHIFT + 9;

/// Order of the folios.
const ORDER: u8 = 9;

/// A table: where it maps the folio that belongs there, and who uses it in which slot.
#[derive(Clone, Debug)]
struct Table {
    id: u64,
    maps: [bool; PLACES],
    users: Vec<(u64, u64)>,
    /// Whether it was shared while it mapped the folio there.
    shared: [bool; PLACES],
}

/// Everything, as the kernel has it.
struct Huge {
    rig: Rig,
    tables: Vec<Table>,
    next_id: u64,
    /// Some mapping of the folio was in a shared table since it was unmapped.
    ever_shared: [bool; FOLIOS],
    /// The shard is told of nothing.
    deaf: bool,
}

fn folio_at(place: usize) -> usize {
    place % FOLIOS
}

/// The other place of the same folio.
fn other(place: usize) -> usize {
    (place + FOLIOS) % PLACES
}

fn pfn(folio: usize) -> u64 {
    (folio as u64 + 1) << 20
}

impl Huge {
    fn new() -> Self {
        Self {
            rig: Rig::new(PLENTY),
            tables: Vec::new(),
            next_id: 1,
            ever_shared: [false; FOLIOS],
            deaf: false,
        }
    }

    fn table_of(&self, mm: u64, slot: u64) -> Option<usize> {
        self.tables
            .iter()
            .position(|t| t.users.contains(&(mm, slot)))
    }

    fn mappings(&self, folio: usize) -> usize {
        let maps = |t: &Table| [folio, other(folio)].map(|place| usize::from(t.maps[place]));
        self.tables.iter().flat_map(maps).sum()
    }

    fn in_table(&self, t: usize, place: usize) -> SharedTable {
        SharedTable {
            id: self.tables[t].id,
            base: (place as u64) << PT_SHIFT,
            shared: self.tables[t].users.len() > 1,
        }
    }

    /// Returns a call of an MM through its table.
    fn call(&self, op: Op, (mm, slot): (u64, u64), place: usize) -> Call {
        let t = self.table_of(mm, slot).unwrap();
        let half = (place / FOLIOS) as u64;
        let file = (FOLIOS as u64) << PT_SHIFT;
        let slot_start = (slot + 1) << TABLE_SHIFT;
        let start = slot_start + half * file;
        let folio = folio_at(place);
        Call {
            level: Level::Entire,
            kind: Kind::Hugetlb,
            order: ORDER,
            pfn: pfn(folio),
            first: 0,
            nr: 1 << ORDER,
            mm,
            mm_id: mm as u32,
            base: slot_start + ((place as u64) << PT_SHIFT),
            table: Some(self.in_table(t, place)),
            vma: (mm << 8) | (slot << 1) | half,
            vma_start: start,
            vma_end: start + file,
            task: mm,
            kernel_unmapped: self.mappings(folio) == 0,
            ..call(op, 0, 1)
        }
    }

    fn tell(&mut self, c: Call) {
        if self.deaf {
            return;
        }
        self.show_kernel();
        let outcome = self.rig.take(c);
        let unknown = self.learns() && outcome == Outcome::Untracked;
        assert!(
            unknown || matches!(outcome, Outcome::Started | Outcome::Applied),
            "{outcome:?} of {c:?}"
        );
    }

    /// An MM touches a folio: it may share a table, or make one, and map the folio.
    fn fault(&mut self, who: (u64, u64), place: usize, share: bool) {
        let t = match self.table_of(who.0, who.1) {
            Some(t) => t,
            None if share && !self.tables.is_empty() => {
                let t = self.next_id as usize % self.tables.len();
                self.share(t, who);
                t
            }
            None => {
                self.tables.push(Table {
                    id: self.next_id,
                    maps: [false; PLACES],
                    users: vec![who],
                    shared: [false; PLACES],
                });
                self.next_id += 1;
                self.tables.len() - 1
            }
        };
        if !self.tables[t].maps[place] {
            let c = self.call(Op::Add, who, place);
            self.tell(c);
            self.tables[t].maps[place] = true;
            self.note_shared(t);
        }
    }

    fn share(&mut self, t: usize, who: (u64, u64)) {
        self.tables[t].users.push(who);
        self.note_shared(t);
        self.show_kernel();
        for place in (0..PLACES).filter(|place| self.tables[t].maps[*place]) {
            let (table, pfn) = (self.in_table(t, place), pfn(folio_at(place)));
            if self.deaf {
                continue;
            }
            self.rig
                .with(|shard, env| shard.share_table(pfn, ORDER, table, env));
        }
        self.rig.assert_sound();
    }

    fn note_shared(&mut self, t: usize) {
        let table = &self.tables[t];
        let shared = table.users.len() > 1;
        for place in 0..PLACES {
            if table.maps[place] && (shared || table.shared[place]) {
                self.ever_shared[folio_at(place)] = true;
            }
        }
        let maps = self.tables[t].maps;
        let marks = &mut self.tables[t].shared;
        for (mark, maps) in marks.iter_mut().zip(maps) {
            *mark = maps && (*mark || shared);
        }
    }

    /// An MM unmaps a folio, or everything in its slot: a table that others use it just lets go.
    fn zap(&mut self, who: (u64, u64), place: Option<usize>) {
        let Some(t) = self.table_of(who.0, who.1) else {
            return;
        };
        if self.tables[t].users.len() > 1 {
            self.tables[t].users.retain(|user| *user != who);
            return;
        }
        for p in (0..PLACES).filter(|p| place.is_none_or(|place| place == *p)) {
            self.remove(t, who, p);
        }
        if place.is_none() {
            self.tables.remove(t);
        }
    }

    /// Takes out an entry of a table, through any of its users.
    fn remove(&mut self, t: usize, who: (u64, u64), place: usize) {
        if !self.tables[t].maps[place] {
            return;
        }
        let c = self.call(Op::Remove, who, place);
        self.tell(c);
        self.tables[t].maps[place] = false;
        self.tables[t].shared[place] = false;
        let folio = folio_at(place);
        if self.mappings(folio) == 0 {
            self.ever_shared[folio] = false;
        }
    }

    /// mremap: what an MM alone maps moves to another slot, into a table of its own.
    fn relocate(&mut self, who: (u64, u64), slot: u64) {
        let to = (who.0, slot);
        let Some(t) = self.table_of(who.0, who.1) else {
            return;
        };
        if self.tables[t].users.len() > 1 || self.table_of(to.0, to.1).is_some() {
            return;
        }
        self.tables.push(Table {
            id: self.next_id,
            maps: [false; PLACES],
            users: vec![to],
            shared: [false; PLACES],
        });
        self.next_id += 1;
        let new = self.tables.len() - 1;
        self.show_kernel();
        let maps = self.tables[t].maps;
        for place in (0..PLACES).filter(|place| maps[*place]) {
            let here = self.call(Op::Found, who, place);
            let there = self.call(Op::Found, to, place);
            self.tell_move(here, there);
        }
        self.tables[new].maps = self.tables[t].maps;
        self.tables.remove(t);
    }

    /// mremap: what an MM alone maps moves to the other place of the folio, in the same table.
    fn shift(&mut self, who: (u64, u64), place: usize) {
        let Some(t) = self.table_of(who.0, who.1) else {
            return;
        };
        let maps = self.tables[t].maps;
        if self.tables[t].users.len() > 1 || !maps[place] || maps[other(place)] {
            return;
        }
        self.show_kernel();
        let here = self.call(Op::Found, who, place);
        let there = self.call(Op::Found, who, other(place));
        self.tell_move(here, there);
        let table = &mut self.tables[t];
        table.maps.swap(place, other(place));
        table.shared.swap(place, other(place));
    }

    fn tell_move(&mut self, here: Call, there: Call) {
        let m = Move {
            pfn: here.pfn,
            order: ORDER,
            mm: here.mm,
            old_base: here.base,
            new_base: there.base,
            tables: [here.table, there.table],
            level: Level::Entire,
            first: 0,
            nr: here.nr,
            vma_start: there.vma_start,
            vma_end: there.vma_end,
            pid: 1,
        };
        if self.deaf {
            return;
        }
        let moved = self.rig.with(|shard, env| shard.rekey(&m, env));
        if self.learns() {
            // What was not known is at its new place.
            let found = Call {
                kernel_unmapped: false,
                ..there
            };
            self.rig.take(found);
        } else {
            assert_eq!(moved, Outcome::Applied);
        }
    }

    fn learns(&mut self) -> bool {
        self.rig.with(|shard, _| shard.learns())
    }

    fn show_kernel(&mut self) {
        for folio in 0..FOLIOS {
            let n = self.mappings(folio) as i32;
            let counts = KernelCounts {
                large: n,
                entire: n,
                per_page: true,
                order: ORDER,
                refcount: n,
                expected_refs: n,
                maybe_mapped_shared: n > 1,
                ..KernelCounts::default()
            };
            self.rig.env.kernel.borrow_mut().insert(pfn(folio), counts);
        }
    }

    /// Checks everything that is known about each folio.
    fn check(&mut self) {
        self.show_kernel();
        self.rig.env.grace_period();
        for folio in 0..FOLIOS {
            let total = self.mappings(folio) as u64;
            let users: Vec<_> = self
                .tables
                .iter()
                .flat_map(|t| [folio, other(folio)].map(|place| (t, place)))
                .filter(|(t, place)| t.maps[*place])
                .flat_map(|(t, _)| t.users.iter().copied())
                .collect();
            let mms: BTreeSet<u64> = users.iter().map(|(mm, _)| *mm).collect();
            let found = self.rig.with(|shard, env| {
                let e = shard.find(pfn(folio))?;
                Some((shard.view(e)?, shard.sketches(e), shard.compare(e, env)))
            });
            let Some((view, sketches, compare)) = found else {
                assert_eq!(total, 0);
                continue;
            };
            assert_eq!((view.total, u64::from(view.entire)), (total, total));
            assert_eq!(compare, Compare::Equal);
            assert_eq!(view.shared_table, self.ever_shared[folio]);
            for d in &DEFINITIONS {
                let claimed = d.value_of(&view, &sketches).is_some();
                assert_eq!(claimed, !(d.per_mm && view.shared_table), "{}", d.name);
            }
            let value = |id: DefinitionId| id.info().unwrap().value_of(&view, &sketches);
            assert_eq!(value(DefinitionId::Total), Some(total as i64));
            if !view.shared_table {
                assert_eq!(value(DefinitionId::Mm), Some(mms.len() as i64));
                assert_eq!(value(DefinitionId::Vma), Some(users.len() as i64));
                assert_eq!(value(DefinitionId::VmaPt), Some(users.len() as i64));
            }
        }
    }

    /// A scan looks into the page tables of an MM.
    fn find_all(&mut self, who: (u64, u64)) {
        self.show_kernel();
        if let Some(t) = self.table_of(who.0, who.1) {
            for place in (0..PLACES).filter(|place| self.tables[t].maps[*place]) {
                let found = Call {
                    kernel_unmapped: false,
                    ..self.call(Op::Found, who, place)
                };
                let outcome = self.rig.take(found);
                assert_eq!(outcome, Outcome::Applied);
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Fault((u64, u64), usize, bool),
    Zap((u64, u64), Option<usize>),
    /// Somebody who uses the table takes an entry out, shared or not.
    Remove((u64, u64), usize),
    Relocate((u64, u64), u64),
    Shift((u64, u64), usize),
    Rest,
}

fn deed() -> impl Strategy<Value = Deed> {
    let who = || (1..=MMS, 0..SLOTS);
    prop_oneof![
        8 => (who(), 0..PLACES, any::<bool>()).prop_map(|(w, p, s)| Deed::Fault(w, p, s)),
        3 => (who(), proptest::option::of(0..PLACES)).prop_map(|(w, p)| Deed::Zap(w, p)),
        2 => (who(), 0..PLACES).prop_map(|(w, p)| Deed::Remove(w, p)),
        2 => (who(), 0..SLOTS).prop_map(|(w, s)| Deed::Relocate(w, s)),
        2 => (who(), 0..PLACES).prop_map(|(w, p)| Deed::Shift(w, p)),
        2 => Just(Deed::Rest),
    ]
}

fn perform(w: &mut Huge, deed: Deed) {
    match deed {
        Deed::Fault(who, place, share) => w.fault(who, place, share),
        Deed::Zap(who, place) => w.zap(who, place),
        Deed::Remove(who, place) => {
            if let Some(t) = w.table_of(who.0, who.1) {
                w.remove(t, who, place);
            }
        }
        Deed::Relocate(who, slot) => w.relocate(who, slot),
        Deed::Shift(who, place) => w.shift(who, place),
        Deed::Rest => w.rig.env.grace_period(),
    }
}

fn exit_all(w: &mut Huge) {
    for mm in 1..=MMS {
        for slot in 0..SLOTS {
            w.zap((mm, slot), None);
        }
    }
    w.check();
    for counter in [Counter::Records, Counter::Tracked, Counter::Learning] {
        assert_eq!(w.rig.counter(counter), 0);
    }
    for counter in [Counter::LostInconsistent, Counter::RemoveElsewhere] {
        assert_eq!(w.rig.counter(counter), 0);
    }
}

/// Whatever tables MMs share and let go, the number of mappings is right, nothing is left behind, and
/// who maps a folio is only said if it is known.
fn run(deeds: &[Deed]) -> u64 {
    let mut w = Huge::new();
    for deed in deeds {
        perform(&mut w, *deed);
        w.check();
    }
    exit_all(&mut w);
    w.rig.counter(Counter::TableShared)
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn mappings_in_shared_tables_are_counted_once(deeds in prop::collection::vec(deed(), 1..80)) {
        run(&deeds);
    }

    /// What was there before tracking began is found, in whatever order MMs are looked at, while tables
    /// are shared and let go.
    #[test]
    fn shared_tables_are_learned(
        before in prop::collection::vec(deed(), 1..30),
        during in prop::collection::vec(deed(), 8),
        after in prop::collection::vec(deed(), 0..30),
        order in any::<u64>(),
    ) {
        let mut w = Huge::new();
        w.deaf = true;
        for deed in before {
            perform(&mut w, deed);
        }
        w.deaf = false;
        w.rig.with(|shard, _| shard.begin_learning());
        let all = MMS * SLOTS;
        for (n, deed) in (0..all).zip(during) {
            let n = (n * (1 + 2 * (order % 4)) + order) % all;
            w.find_all((1 + n / SLOTS, n % SLOTS));
            perform(&mut w, deed);
        }
        for mm in 1..=MMS {
            for slot in 0..SLOTS {
                w.find_all((mm, slot));
            }
        }
        w.show_kernel();
        w.rig.env.grace_period();
        for folio in 0..FOLIOS {
            w.rig.with(|shard, env| shard.adopt(pfn(folio), false, env));
        }
        w.rig.with(|shard, _| shard.stop_learning());
        prop_assert_eq!(w.rig.counter(Counter::Learning), 0);
        for deed in after {
            perform(&mut w, deed);
        }
        for folio in 0..FOLIOS {
            let total = w.mappings(folio) as u64;
            let known = w.rig.with(|shard, _| shard.view(shard.find(pfn(folio))?));
            prop_assert_eq!(known.map_or(0, |view| view.total), total);
        }
        for mm in 1..=MMS {
            for slot in 0..SLOTS {
                w.zap((mm, slot), None);
            }
        }
        prop_assert_eq!(w.rig.counter(Counter::Records), 0);
        prop_assert_eq!(w.rig.counter(Counter::LostInconsistent), 0);
    }
}

#[test]
fn deeds_share_tables() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(deed(), 40..80);
    let shared: u64 = (0..50)
        .map(|_| run(&strategy.new_tree(&mut runner).unwrap().current()))
        .sum();
    assert!(shared > 100, "{shared}");
}

/// An MM that made a mapping leaves; the other one, through the same table, removes it.
#[test]
fn the_last_one_removes_what_others_have_mapped() {
    let mut w = Huge::new();
    w.fault((1, 0), 0, false);
    w.check();
    w.fault((2, 0), 0, true);
    w.check();
    assert_eq!(w.rig.counter(Counter::TableShared), 1);
    w.zap((1, 0), None);
    w.check();
    // The first maps it again, in a table of its own, at the same address.
    w.fault((1, 0), 0, false);
    w.check();
    assert_eq!(w.rig.total(pfn(0)), 2);
    w.zap((2, 0), None);
    w.check();
    assert_eq!(w.rig.total(pfn(0)), 1);
    exit_all(&mut w);
}

/// A folio that an MM maps twice, in one table: two mappings, each of which moves and goes by itself.
#[test]
fn a_table_may_map_a_folio_twice() {
    let mut w = Huge::new();
    w.fault((1, 0), 0, false);
    w.fault((1, 0), other(0), false);
    w.check();
    assert_eq!(w.rig.total(pfn(0)), 2);
    w.zap((1, 0), Some(0));
    w.check();
    w.shift((1, 0), other(0));
    w.check();
    w.fault((1, 0), other(0), false);
    w.check();
    // Both are taken along when another MM comes to share the table.
    w.fault((2, 0), 1, true);
    w.check();
    assert_eq!(w.rig.counter(Counter::TableShared), 2);
    exit_all(&mut w);
}
