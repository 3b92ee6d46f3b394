// SPDX-License-Identifier: GPL-2.0

//! Tables kept by hand: each state that a run left behind, evaluated from a list of mappings.

use std::collections::BTreeMap;

use fmi_model::{
    Answer,
    Call,
    Cell,
    Counter,
    DefinitionId,
    Kind,
    Level,
    Op,
    Operation,
    OperationCell,
    Question,
    Shown,
    DEFINITIONS,
    PAIRS,
    TABLE_KIND, //
};

use crate::naive_sketches::{
    Asker,
    NaiveSketches,
    Step, //
};
use crate::oracle::{
    Counts,
    Mapping,
    Says, //
};
use crate::rig::{
    PAGE_SHIFT,
    PLENTY,
    PMD_ORDER,
    PT_SHIFT, //
};
use crate::world::{
    Told,
    What,
    World, //
};

mod runs;

use self::runs::NaiveFigures;

/// Which run an event belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Run {
    None,
    Calls {
        add: bool,
        task: u64,
        caller: u64,
        vma: u64,
        table: u64,
    },
    Split {
        task: u64,
        vma: u64,
        table: u64,
    },
    Fork {
        vma: u64,
        table: u64,
    },
    Move {
        mm: u64,
        distance: u64,
    },
}

/// A folio as the events tell it.
pub struct Known {
    order: u8,
    kind: Kind,
    mappings: Vec<Mapping>,
    /// The MM and base of each record, the newest first.
    order_of_records: Vec<(u64, u64)>,
    ids: BTreeMap<u64, u32>,
    sketches: Option<NaiveSketches>,
    /// The page behind the last one of the last call, by MM and base.
    ends: BTreeMap<(u64, u64), u32>,
    run: Run,
    operation: Operation,
    dirty: bool,
    pub wrong: Vec<bool>,
}

/// Pair, type and order.
type Place = (usize, usize, u8);

impl Known {
    /// Returns who asks: the newest mapper.
    fn asker(&self) -> Asker {
        let newest = self.order_of_records.first();
        newest.map_or(Asker::default(), |(mm, base)| Asker {
            mm: *mm,
            mm_id: self.ids[mm],
            base: *base,
        })
    }

    /// Keeps the list of records, after mappings of an MM have changed or moved between two bases.
    fn keep_records(&mut self, mm: u64, from: u64, to: u64) {
        let has = |base| {
            self.mappings
                .iter()
                .any(|m| m.mm == mm && base_of(m) == base)
        };
        let (old, new) = (has(from), has(to));
        let at = |base| self.order_of_records.iter().position(|r| *r == (mm, base));
        match (at(from), at(to)) {
            (Some(at), None) if new && !old => self.order_of_records[at].1 = to,
            (_, None) if new => self.order_of_records.insert(0, (mm, to)),
            _ => {}
        }
        let records = &self.mappings;
        self.order_of_records
            .retain(|(mm, base)| records.iter().any(|m| m.mm == *mm && base_of(m) == *base));
    }

    /// Returns the values and other numbers of all sketches.
    pub fn sketched(&self) -> Vec<(&'static str, i64, Fields)> {
        let (Some(sketches), asker) = (&self.sketches, self.asker()) else {
            return Vec::new();
        };
        SKETCHES
            .iter()
            .map(|name| (*name, sketches.value(name, &asker), sketches.fields(name)))
            .collect()
    }
}

/// The other numbers of a definition, by name.
type Fields = Vec<(&'static str, Shown)>;

/// The definitions that keep a state.
pub const SKETCHES: [&str; 9] = [
    "vma_pt_counter",
    "vma_counter",
    "vma_saturating_counter",
    "creator",
    "owner_vma",
    "double_map",
    "partial_rule",
    "rmap_id",
    "mm_id",
];

/// Tables that are kept by hand.
pub struct Naive {
    /// Sketches are kept, too.
    pub with_sketches: bool,
    pub folios: BTreeMap<u64, Known>,
    cells: BTreeMap<Place, Cell>,
    operations: BTreeMap<(usize, usize), OperationCell>,
    /// Time that was wrong, by cell and for each time something is wrong: since when.
    open: BTreeMap<(Place, u64), u64>,
    wrong_time: BTreeMap<Place, u64>,
    /// The run of each record, by folio, MM and base: what it is, and if it removes, whether pages
    /// of its VMA and page table, and of its VMA, are left.
    records: BTreeMap<(u64, u64, u64), (Run, bool, bool)>,
    figures: NaiveFigures,
    /// Leaks and underflows of sketches: how often, and how much.
    rests: BTreeMap<&'static str, (u64, u64, u64, u64)>,
    evaluated: u64,
}

/// Returns whether the oracle has the answer of a definition: those that are formulas over T.
pub fn knows(id: DefinitionId, q: Question) -> bool {
    let d = id.info().unwrap();
    !d.reads_kernel && !d.sometimes && !q.needs_ask() && Counts::knows(d.name, q.name())
}

/// Returns the address of the mapping of a page.
fn va(base: u64, page: u32) -> u64 {
    base.wrapping_add(u64::from(page) << PAGE_SHIFT)
}

/// Returns whether the answers of a definition depend on what it has kept.
fn sketched(id: DefinitionId, q: Question) -> bool {
    !q.needs_ask() && SKETCHES.contains(&id.info().unwrap().name)
}

/// Returns the base of the record that a mapping belongs to.
fn base_of(m: &Mapping) -> u64 {
    m.va.wrapping_sub(u64::from(m.page) << PAGE_SHIFT)
}

impl Naive {
    pub fn new() -> Self {
        Self {
            with_sketches: false,
            folios: BTreeMap::new(),
            cells: BTreeMap::new(),
            operations: BTreeMap::new(),
            open: BTreeMap::new(),
            wrong_time: BTreeMap::new(),
            records: BTreeMap::new(),
            figures: NaiveFigures::default(),
            rests: BTreeMap::new(),
            evaluated: 0,
        }
    }

    /// Evaluates the state of a folio, if it is new.
    pub fn evaluate(&mut self, pfn: u64, now: u64) {
        let f = self.folios.get_mut(&pfn).unwrap();
        if !std::mem::take(&mut f.dirty) {
            return;
        }
        self.evaluated += 1;
        let counts = Counts::of(f.mappings.iter(), 1 << f.order, PT_SHIFT);
        for (pair, (id, q)) in PAIRS.iter().enumerate() {
            let d = DEFINITIONS.iter().find(|d| d.id == *id).unwrap();
            let sketch = self.with_sketches && sketched(*id, *q);
            if !knows(*id, *q) && !sketch {
                continue;
            }
            let says = if sketch {
                let sketches = f.sketches.as_ref().unwrap();
                match sketches.answer(d.name, *q, &counts, &f.asker()) {
                    Answer::NotAsked => continue,
                    Answer::Yes => Says::Yes,
                    Answer::No => Says::No,
                    Answer::Unknown => Says::Unknown,
                    Answer::Counter(is, should) => Says::Counter(is, should),
                    Answer::Count(n) => Says::Times(n as i64),
                }
            } else {
                counts.says(d.name, q.name())
            };
            let at = (pair, f.kind.index(), f.order);
            let operation = f.operation.index();
            let by_operation = self.operations.entry((pair, operation)).or_default();
            by_operation.evaluated += 1;
            let cell = self.cells.entry(at).or_default();
            cell.evaluated += 1;
            let (high, low) = match says {
                Says::Counter(is, should) => (is > should, is < should),
                Says::Times(n) => (
                    counts.page.iter().any(|page| n > *page),
                    counts.page.iter().any(|page| n < *page),
                ),
                Says::Yes => (!counts.truth(q.name()), false),
                Says::No => (false, counts.truth(q.name())),
                Says::Unknown => {
                    cell.unknown += 1;
                    (false, false)
                }
            };
            if high {
                cell.false_yes += 1;
            } else if low {
                cell.false_no += 1;
            }
            // What is wrong about an unmapped folio is wrong for no time: no episode.
            let wrong = (high || low) && counts.total > 0;
            by_operation.wrong += u64::from(high || low);
            if wrong && !f.wrong[pair] {
                cell.episodes += 1;
                by_operation.episodes += 1;
                cell.wrong_now += 1;
                self.open.insert((at, pfn), now);
            } else if !wrong && f.wrong[pair] {
                cell.wrong_now -= 1;
                *self.wrong_time.entry(at).or_default() +=
                    now - self.open.remove(&(at, pfn)).unwrap();
            }
            f.wrong[pair] = wrong;
        }
    }

    /// Begins an event: ends the run before if it is another.
    fn begin(&mut self, pfn: u64, run: Run, operation: Operation, now: u64) {
        if run == Run::None || self.folios[&pfn].run != run {
            self.evaluate(pfn, now);
        }
        let f = self.folios.get_mut(&pfn).unwrap();
        f.run = run;
        f.operation = operation;
        f.dirty = true;
    }

    /// Ends an event: nothing mapped is evaluated at once.
    fn end(&mut self, pfn: u64, now: u64) {
        if self.folios[&pfn].mappings.is_empty() {
            self.evaluate(pfn, now);
            // Counters start anew: what was wrong is right again.
            let f = self.folios.get_mut(&pfn).unwrap();
            for (name, left) in f.sketches.take().map_or(Vec::new(), |mut s| s.empty()) {
                let rest = self.rests.entry(name).or_default();
                rest.0 += u64::from(left > 0);
                rest.1 += left.max(0) as u64;
                rest.2 += u64::from(left < 0);
                rest.3 += left.min(0).unsigned_abs();
            }
            // Nothing is wrong any more, asked or not.
            for (pair, wrong) in f.wrong.iter_mut().enumerate() {
                if std::mem::take(wrong) {
                    let at = (pair, f.kind.index(), f.order);
                    self.cells.get_mut(&at).unwrap().wrong_now -= 1;
                    let since = self.open.remove(&(at, pfn)).unwrap();
                    *self.wrong_time.entry(at).or_default() += now - since;
                }
            }
        }
    }

    /// Takes a call.
    fn call(&mut self, c: &Call, now: u64) {
        let f = self.folios.entry(c.pfn).or_insert_with(|| Known {
            order: c.order,
            kind: c.kind,
            mappings: Vec::new(),
            order_of_records: Vec::new(),
            ids: BTreeMap::new(),
            sketches: None,
            ends: BTreeMap::new(),
            run: Run::None,
            operation: Operation::Other,
            dirty: false,
            wrong: vec![false; PAIRS.len()],
        });
        if f.mappings.is_empty() {
            f.order = c.order;
            f.kind = c.kind;
        }
        if self.with_sketches && f.sketches.is_none() {
            f.sketches = Some(NaiveSketches::new(c.order, PMD_ORDER as u8, c.kind));
        }
        f.ids.insert(c.mm, c.mm_id);
        let here = |m: &&Mapping| {
            m.mm == c.mm && m.va.wrapping_sub(u64::from(m.page) << PAGE_SHIFT) == c.base
        };
        let ptes = f.mappings.iter().filter(here).any(|m| !m.entire);
        let entire = f.mappings.iter().filter(here).any(|m| m.entire);
        let table = va(c.base, c.first) >> PT_SHIFT;
        let (task, caller, vma) = (c.task, c.caller, c.vma);
        let run = match (c.op, c.level) {
            (Op::Dup, _) => Run::Fork { vma, table },
            (Op::Add, Level::Pte) if entire => Run::Split { task, vma, table },
            (Op::Remove, Level::Entire) if ptes => Run::Split { task, vma, table },
            (op, _) => Run::Calls {
                add: op == Op::Add,
                task,
                caller,
                vma,
                table,
            },
        };
        let again = self.starts_again(c, run);
        if again {
            self.evaluate(c.pfn, now);
        }
        self.begin(c.pfn, run, c.operation, now);
        let new_run = self.observe(c, run, again);
        let f = self.folios.get_mut(&c.pfn).unwrap();
        let before = f.sketches.is_some().then(|| f.mappings.clone());
        let mappings = &mut f.mappings;
        let entire = c.level == Level::Entire;
        let pages = if entire {
            0..1
        } else {
            c.first..c.first + c.nr
        };
        for page in pages {
            let m = Mapping {
                folio: 0,
                mm: c.mm,
                va: va(c.base, page),
                page,
                entire,
                vma: c.vma,
            };
            if c.op == Op::Remove {
                let at = mappings
                    .iter()
                    .position(|n| (n.mm, n.va, n.entire) == (m.mm, m.va, m.entire));
                mappings.remove(at.unwrap());
            } else {
                mappings.push(m);
            }
        }
        f.keep_records(c.mm, c.base, c.base);
        if let (Some(sketches), Some(before)) = (&mut f.sketches, before) {
            sketches.take(&Step {
                adds: c.op != Op::Remove,
                split: matches!(run, Run::Split { .. }),
                new_run,
                mm: c.mm,
                mm_id: c.mm_id,
                vma: c.vma,
                range: (c.vma_start, c.vma_end),
                base: c.base,
                before: &before,
                after: &f.mappings,
            });
        }
        self.end(c.pfn, now);
    }

    /// Takes one thing that the shard was told.
    pub fn take(&mut self, told: &Told) {
        let now = told.now;
        match told.what {
            What::Call(c) => self.call(&c, now),
            What::Move(m, vma) => {
                let distance = m.new_base.wrapping_sub(m.old_base);
                self.begin(
                    m.pfn,
                    Run::Move { mm: m.mm, distance },
                    Operation::Move,
                    now,
                );
                let pages = m.first..m.first + m.nr;
                for base in [m.old_base, m.new_base] {
                    self.records.remove(&(m.pfn, m.mm, base));
                }
                let f = self.folios.get_mut(&m.pfn).unwrap();
                for n in &mut f.mappings {
                    let moved = n.mm == m.mm
                        && n.va == va(m.old_base, n.page)
                        && n.entire == (m.level == Level::Entire)
                        && pages.contains(&n.page);
                    if moved {
                        n.va = va(m.new_base, n.page);
                        n.vma = vma;
                    }
                }
                f.keep_records(m.mm, m.old_base, m.new_base);
                for base in [m.old_base, m.new_base] {
                    f.ends.remove(&(m.mm, base));
                }
            }
            What::Boundary(pfn, true) => self.begin(pfn, Run::None, Operation::Vma, now),
            What::Boundary(_, false) => {}
            What::Split { vma, at, upper } => {
                for n in self.folios.values_mut().flat_map(|f| &mut f.mappings) {
                    if n.vma == vma && n.va >= at {
                        n.vma = upper;
                    }
                }
            }
            What::Merge { lower, upper } => {
                for n in self.folios.values_mut().flat_map(|f| &mut f.mappings) {
                    if n.vma == upper {
                        n.vma = lower;
                    }
                }
            }
        }
    }

    /// Compares with the tables of the shard.
    pub fn assert_same(&self, w: &mut World) {
        let now = w.rig.env.now.get();
        assert_eq!(w.rig.counter(Counter::Evaluated), self.evaluated);
        let ours = w.rig.with(|shard, _| *shard.state.figures());
        let naive = &self.figures;
        assert_eq!(ours.remove_runs, naive.remove_runs);
        assert_eq!(ours.remove_runs_tuple_left, naive.tuple_left);
        assert_eq!(ours.remove_runs_vma_left, naive.vma_left);
        for (ours, naive) in [ours.scans_add, ours.scans_remove].iter().zip(&naive.scans) {
            assert_eq!(ours.scans, naive.len() as u64);
            assert_eq!(ours.entries, naive.iter().sum::<u64>());
            assert_eq!(ours.most, naive.iter().copied().max().unwrap_or(0));
        }
        for name in SKETCHES.iter().filter(|_| self.with_sketches) {
            let d = DEFINITIONS.iter().find(|d| d.name == *name).unwrap();
            let rest = ours.rest(d.id);
            let naive = self.rests.get(name).copied().unwrap_or_default();
            let ours = (rest.leaks, rest.leaked, rest.underflows, rest.underflown);
            assert_eq!(ours, naive, "{name}");
        }
        for (pair, (id, q)) in PAIRS.iter().enumerate() {
            if !(knows(*id, *q) || self.with_sketches && sketched(*id, *q)) {
                continue;
            }
            for kind in TABLE_KIND {
                for order in 0..=PLENTY.max_order {
                    let at = (pair, kind.index(), order);
                    let ours = w.rig.cell(pair, kind, order);
                    let mut naive = self.cells.get(&at).copied().unwrap_or_default();
                    naive.time = ours.time;
                    assert_eq!(ours, naive, "{id:?} {q:?} {kind:?} {order}");
                    let open = self.open.iter().filter(|((cell, _), _)| *cell == at);
                    let time = open.map(|(_, since)| now - since).sum::<u64>()
                        + self.wrong_time.get(&at).copied().unwrap_or(0);
                    assert_eq!(ours.wrong_time(now), time, "{id:?} {q:?} {kind:?} {order}");
                }
            }
            for operation in Operation::ALL {
                let ours = w.rig.operation(pair, operation);
                let naive = self.operations.get(&(pair, operation.index()));
                assert_eq!(ours, naive.copied().unwrap_or_default(), "{id:?} {q:?}");
            }
        }
    }
}
