// SPDX-License-Identifier: GPL-2.0

//! Tables kept by hand: each state that a run left behind, evaluated from a list of mappings.

use std::collections::BTreeMap;

use fmi_model::{
    cell_index,
    Call,
    Cell,
    Counter,
    DefinitionId,
    Kind,
    Level,
    Op,
    DEFINITIONS,
    PAIRS, //
};

use crate::oracle::{
    Counts,
    Mapping,
    Says, //
};
use crate::rig::{
    PAGE_SHIFT,
    PT_SHIFT, //
};
use crate::world::{
    Told,
    What,
    World, //
};

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
    run: Run,
    dirty: bool,
    pub wrong: Vec<bool>,
}

/// Tables that are kept by hand.
pub struct Naive {
    pub folios: BTreeMap<u64, Known>,
    cells: BTreeMap<usize, Cell>,
    /// Time that was wrong, by cell and for each time something is wrong: since when.
    open: BTreeMap<(usize, u64), u64>,
    wrong_time: BTreeMap<usize, u64>,
    evaluated: u64,
}

/// Returns the address of the mapping of a page.
fn va(base: u64, page: u32) -> u64 {
    base.wrapping_add(u64::from(page) << PAGE_SHIFT)
}

impl Naive {
    pub fn new() -> Self {
        Self {
            folios: BTreeMap::new(),
            cells: BTreeMap::new(),
            open: BTreeMap::new(),
            wrong_time: BTreeMap::new(),
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
            if *id == DefinitionId::Kernel {
                continue;
            }
            let at = cell_index(pair, f.kind, f.order);
            let cell = self.cells.entry(at).or_default();
            cell.evaluated += 1;
            let says = counts.says(d.name, q.name());
            let (high, low) = match says {
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
            let wrong = high || low;
            if wrong && !f.wrong[pair] {
                cell.episodes += 1;
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
    fn begin(&mut self, pfn: u64, run: Run, now: u64) {
        if run == Run::None || self.folios[&pfn].run != run {
            self.evaluate(pfn, now);
        }
        let f = self.folios.get_mut(&pfn).unwrap();
        f.run = run;
        f.dirty = true;
    }

    /// Ends an event: nothing mapped is evaluated at once.
    fn end(&mut self, pfn: u64, now: u64) {
        if self.folios[&pfn].mappings.is_empty() {
            self.evaluate(pfn, now);
        }
    }

    /// Takes a call.
    fn call(&mut self, c: &Call, now: u64) {
        let f = self.folios.entry(c.pfn).or_insert_with(|| Known {
            order: c.order,
            kind: c.kind,
            mappings: Vec::new(),
            run: Run::None,
            dirty: false,
            wrong: vec![false; PAIRS.len()],
        });
        if f.mappings.is_empty() {
            f.order = c.order;
            f.kind = c.kind;
        }
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
        self.begin(c.pfn, run, now);
        let mappings = &mut self.folios.get_mut(&c.pfn).unwrap().mappings;
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
        self.end(c.pfn, now);
    }

    /// Takes one thing that the shard was told.
    pub fn take(&mut self, told: &Told) {
        let now = told.now;
        match told.what {
            What::Call(c) => self.call(&c, now),
            What::Move(m, vma) => {
                let distance = m.new_base.wrapping_sub(m.old_base);
                self.begin(m.pfn, Run::Move { mm: m.mm, distance }, now);
                let pages = m.first..m.first + m.nr;
                for n in &mut self.folios.get_mut(&m.pfn).unwrap().mappings {
                    let moved = n.mm == m.mm
                        && n.va == va(m.old_base, n.page)
                        && n.entire == (m.level == Level::Entire)
                        && pages.contains(&n.page);
                    if moved {
                        n.va = va(m.new_base, n.page);
                        n.vma = vma;
                    }
                }
            }
            What::Boundary(pfn, true) => self.begin(pfn, Run::None, now),
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
    pub fn assert_same(&self, w: &World) {
        let now = w.rig.env.now.get();
        assert_eq!(w.rig.counter(Counter::Evaluated), self.evaluated);
        for (pair, (id, q)) in PAIRS.iter().enumerate() {
            for kind in Kind::ALL {
                for order in 0..20 {
                    let at = cell_index(pair, kind, order);
                    let ours = w.rig.cells()[at];
                    let mut naive = self.cells.get(&at).copied().unwrap_or_default();
                    naive.time = ours.time;
                    assert_eq!(ours, naive, "{id:?} {q:?} {kind:?} {order}");
                    let open = self.open.iter().filter(|((cell, _), _)| *cell == at);
                    let time = open.map(|(_, since)| now - since).sum::<u64>()
                        + self.wrong_time.get(&at).copied().unwrap_or(0);
                    assert_eq!(ours.wrong_time(now), time, "{id:?} {q:?} {kind:?} {order}");
                }
            }
        }
    }
}
