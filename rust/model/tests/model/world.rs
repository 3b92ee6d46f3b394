// SPDX-License-Identifier: GPL-2.0

//! Folios, MMs, VMAs and their page tables, and what the hooks see of them.
//!
//! Whatever is done here, the kernel can do, too. Calls reach the shard when they are made; the
//! kernel's counters follow later, in two steps, at the latest before the next call on the same MM
//! and folio, or when a grace period passes.

use std::cell::RefMut;

use fmi_model::{
    Call,
    FolioView,
    Kind,
    Level,
    Move,
    Op,
    Operation,
    Outcome,
    Shard,
    Sketches, //
};

use crate::kernel::{
    Change,
    Folio as KernelFolio, //
};
use crate::oracle::{
    Counts,
    Mapping, //
};
use crate::rig::{
    Rig,
    Size,
    Window,
    PAGE_SHIFT,
    PT_SHIFT, //
};
use crate::twin::Twin;

/// A folio.
#[derive(Clone, Debug)]
pub struct Folio {
    pub pfn: u64,
    pub order: u8,
    pub kind: Kind,
    pub kernel: KernelFolio,
}

impl Folio {
    /// Returns the number of pages.
    pub fn nr_pages(&self) -> u32 {
        1 << self.order
    }
}

/// A VMA. It maps a part of one folio, and may be larger.
#[derive(Clone, Copy, Debug)]
pub struct Vma {
    pub id: u64,
    pub mm: u64,
    pub start: u64,
    pub end: u64,
    pub folio: usize,
    /// The address that page 0 of the folio has or would have.
    pub base: u64,
}

impl Vma {
    /// Returns the address of a page.
    pub fn va(&self, page: u32) -> u64 {
        self.base.wrapping_add(u64::from(page) << PAGE_SHIFT)
    }

    /// Returns whether the VMA covers a page.
    pub fn covers(&self, page: u32) -> bool {
        (self.start..self.end).contains(&self.va(page))
    }
}

/// A call whose kernel side is not done.
#[derive(Clone, Copy, Debug)]
pub struct InFlight {
    /// The call as it is told in the kernel's order.
    pub call: Call,
    pub folio: usize,
    pub change: Change,
    pub half_done: bool,
}

/// A fork copy of one VMA.
#[derive(Clone, Copy, Debug)]
pub struct Copying {
    pub ticket: u64,
    pub src: u64,
    pub dst: u64,
    /// How far the kernel has copied.
    pub copied: u64,
    /// How far the walk has come.
    pub walked: u64,
    pub end: u64,
}

/// An mremap.
#[derive(Clone, Copy, Debug)]
pub struct Moving {
    pub ticket: u64,
    pub old: u64,
    pub new: u64,
    pub delta: u64,
    pub start: u64,
    pub end: u64,
    /// How far the page tables have moved.
    pub moved: u64,
}

/// Something that the shard was told, or that the tests know about VMAs, and when.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    pub now: u64,
    pub what: What,
}

/// What it was.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// A call.
    Call(Call),
    /// A move, into this VMA.
    Move(Move, u64),
    /// A VMA boundary in this folio; whether the shard took it for a change.
    Boundary(u64, bool),
    /// A VMA was split at an address; the upper part is another.
    Split { vma: u64, at: u64, upper: u64 },
    /// A VMA was merged into the one below it.
    Merge { lower: u64, upper: u64 },
}

/// Everything there is.
pub struct World {
    pub rig: Rig,
    /// The second shadow, if there is one: told in the kernel's own order.
    pub twin: Option<Twin>,
    pub folios: Vec<Folio>,
    pub vmas: Vec<Vma>,
    pub mappings: Vec<Mapping>,
    pub copying: Vec<Copying>,
    pub moving: Vec<Moving>,
    /// Task that does things now, and the caller.
    pub task: u64,
    pub caller: u64,
    /// Folios may be lost: memory is short.
    pub may_lose: bool,
    /// The kernel's counters change with the calls.
    pub prompt: bool,
    /// The kernel's counters cannot be read.
    pub blind: bool,
    /// Calls are not sent: the hooks are off.
    pub deaf: bool,
    /// All that the shard was told.
    pub log: Vec<Told>,
    pub in_flight: Vec<InFlight>,
    pub next_id: u64,
    pub next_ticket: u64,
    pub next_mm: u64,
    pub next_slot: u64,
    pub next_pfn: u64,
}

/// Returns an operation that depends on who makes a call.
fn operation_of(op: Op, task: u64, caller: u64) -> Operation {
    match op {
        Op::Dup => Operation::Fork,
        _ => Operation::ALL[((task * 5 + caller * 3) % 13) as usize],
    }
}

impl World {
    /// Returns a world without folios.
    pub fn new(size: Size) -> Self {
        Self {
            rig: Rig::new(size),
            twin: None,
            folios: Vec::new(),
            vmas: Vec::new(),
            mappings: Vec::new(),
            copying: Vec::new(),
            moving: Vec::new(),
            task: 1,
            caller: 1,
            may_lose: false,
            prompt: false,
            blind: false,
            deaf: false,
            log: Vec::new(),
            in_flight: Vec::new(),
            next_id: 1,
            next_ticket: 1,
            next_mm: 1,
            next_slot: 1,
            next_pfn: 0,
        }
    }

    /// Makes a folio; returns its number.
    pub fn folio(&mut self, order: u8, kind: Kind) -> usize {
        let number = self.folios.len();
        self.next_pfn += 1;
        self.folios.push(Folio {
            pfn: self.next_pfn << 20,
            order,
            kind,
            kernel: KernelFolio::new(order, kind == Kind::Anon),
        });
        number
    }

    /// Makes an MM.
    pub fn mm(&mut self) -> u64 {
        self.next_mm += 1;
        self.next_mm - 1
    }

    /// Returns an address that nothing is near of, aligned to 4 GiB.
    pub fn slot(&mut self) -> u64 {
        self.next_slot += 1;
        self.next_slot << 32
    }

    /// Makes a VMA over so many bytes from `start`, in which page 0 of the folio is at `base`.
    pub fn vma(&mut self, mm: u64, folio: usize, base: u64, start: u64, len: u64) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.vmas.push(Vma {
            id,
            mm,
            start,
            end: start + len,
            folio,
            base,
        });
        id
    }

    /// Makes a VMA that just covers the folio, aligned to its size.
    pub fn whole_vma(&mut self, mm: u64, folio: usize) -> u64 {
        let base = self.slot();
        let len = u64::from(self.folios[folio].nr_pages()) << PAGE_SHIFT;
        self.vma(mm, folio, base, base, len)
    }

    /// Returns a VMA by its id.
    pub fn get(&self, id: u64) -> Vma {
        *self.vmas.iter().find(|v| v.id == id).expect("a VMA")
    }

    /// Returns a VMA by its id, to be changed.
    pub fn get_mut(&mut self, id: u64) -> &mut Vma {
        self.vmas.iter_mut().find(|v| v.id == id).expect("a VMA")
    }

    /// Returns whether a page is mapped by a PTE in a VMA.
    pub fn has_pte(&self, vma: &Vma, page: u32) -> bool {
        self.mappings
            .iter()
            .any(|m| !m.entire && m.mm == vma.mm && m.va == vma.va(page) && m.folio == vma.folio)
    }

    /// Returns whether the folio is mapped as a whole in a VMA.
    pub fn has_entire(&self, vma: &Vma) -> bool {
        self.mappings.iter().any(|m| m.entire && m.vma == vma.id)
    }

    /// Returns the numbers of a folio, counted by hand.
    pub fn counts(&self, folio: usize) -> Counts {
        let mappings = self.mappings.iter().filter(|m| m.folio == folio);
        Counts::of(mappings, self.folios[folio].nr_pages(), PT_SHIFT)
    }

    /// Returns the shadow's numbers of a folio, if it has an entry.
    pub fn view(&mut self, folio: usize) -> Option<FolioView> {
        let pfn = self.folios[folio].pfn;
        self.rig.with(|shard, _| shard.view(shard.find(pfn)?))
    }

    /// Returns the counters that authors sketched, of a folio.
    pub fn sketches(&mut self, folio: usize) -> Sketches {
        let pfn = self.folios[folio].pfn;
        let find = |shard: &Shard<'_>| Some(shard.sketches(shard.find(pfn)?));
        self.rig.with(|shard, _| find(shard)).unwrap_or_default()
    }

    /// Maps pages by PTEs.
    pub fn map(&mut self, vma: u64, first: u32, nr: u32) -> Outcome {
        let vma = self.get(vma);
        let outcome = self.rmap(Op::Add, &vma, Level::Pte, first, nr);
        for page in first..first + nr {
            self.mappings.push(Mapping {
                folio: vma.folio,
                mm: vma.mm,
                va: vma.va(page),
                page,
                entire: false,
                vma: vma.id,
            });
        }
        outcome
    }

    /// Unmaps pages that are mapped by PTEs.
    pub fn unmap(&mut self, vma: u64, first: u32, nr: u32) -> Outcome {
        let vma = self.get(vma);
        let outcome = self.rmap(Op::Remove, &vma, Level::Pte, first, nr);
        let pages = first..first + nr;
        self.mappings.retain(|m| {
            let page = m.folio == vma.folio && !m.entire && pages.contains(&m.page);
            !(page && m.mm == vma.mm && m.va == vma.va(m.page))
        });
        outcome
    }

    /// Maps the folio as a whole.
    pub fn map_entire(&mut self, vma: u64) -> Outcome {
        let vma = self.get(vma);
        let nr_pages = self.folios[vma.folio].nr_pages();
        let outcome = self.rmap(Op::Add, &vma, Level::Entire, 0, nr_pages);
        self.mappings.push(Mapping {
            folio: vma.folio,
            mm: vma.mm,
            va: vma.base,
            page: 0,
            entire: true,
            vma: vma.id,
        });
        outcome
    }

    /// Removes an entire mapping.
    pub fn unmap_entire(&mut self, vma: u64) -> Outcome {
        let vma = self.get(vma);
        let nr_pages = self.folios[vma.folio].nr_pages();
        let outcome = self.rmap(Op::Remove, &vma, Level::Entire, 0, nr_pages);
        self.mappings
            .retain(|m| !(m.entire && m.folio == vma.folio && m.mm == vma.mm && m.va == vma.base));
        outcome
    }

    /// Splits an entire mapping: for an anonymous folio into PTEs, else into nothing.
    pub fn split_pmd(&mut self, vma: u64) {
        let folio = &self.folios[self.get(vma).folio];
        if folio.kind == Kind::Anon {
            let nr_pages = folio.nr_pages();
            self.map(vma, 0, nr_pages);
        }
        self.unmap_entire(vma);
    }

    /// Makes an rmap call: the shard at once, the kernel's counters later.
    fn rmap(&mut self, op: Op, vma: &Vma, level: Level, first: u32, nr: u32) -> Outcome {
        self.finish_calls(|call| call.folio == vma.folio && call.change.mm == vma.mm);
        let va = vma.va(first);
        let mut call = self.call_of(op, vma, level, first, nr);
        let told = call;
        for copy in &self.copying {
            let unwalked = va >= copy.walked;
            if copy.dst == vma.id && unwalked {
                call.op = if op == Op::Add { Op::Touch } else { Op::Skip };
                call.pending = copy.ticket;
            } else if copy.src == vma.id && unwalked && op == Op::Remove {
                call.pending = copy.ticket;
            }
        }
        for window in &self.moving {
            if window.old == vma.id {
                call.alt_base = Some(vma.base.wrapping_add(window.delta));
            } else if window.new == vma.id {
                call.alt_base = Some(vma.base.wrapping_sub(window.delta));
            }
        }
        let outcome = self.send(&call);
        self.in_flight.push(InFlight {
            call: told,
            folio: vma.folio,
            change: Change {
                add: op == Op::Add,
                entire: level == Level::Entire,
                mm: vma.mm,
                first,
                nr,
            },
            half_done: false,
        });
        if self.prompt {
            self.finish_calls(|_| true);
        }
        outcome
    }

    /// Returns a call as the hook would decode it.
    pub fn call_of(&self, op: Op, vma: &Vma, level: Level, first: u32, nr: u32) -> Call {
        let folio = &self.folios[vma.folio];
        Call {
            op,
            level,
            pfn: folio.pfn,
            order: folio.order,
            kind: folio.kind,
            first,
            nr,
            mm: vma.mm,
            mm_id: vma.mm as u32,
            base: vma.base,
            table: None,
            alt_base: None,
            vma: vma.id,
            vma_start: vma.start,
            vma_end: vma.end,
            task: self.task,
            pid: self.task as u32,
            operation: operation_of(op, self.task, self.caller),
            caller: self.caller,
            kernel_unmapped: folio.kernel.unmapped(),
            pending: 0,
        }
    }

    /// Notes what the shard is told.
    pub fn tell(&mut self, what: What) {
        let now = self.rig.env.now.get();
        self.log.push(Told { now, what });
    }

    /// Sends a call to the shard and checks that it was taken.
    pub fn send(&mut self, call: &Call) -> Outcome {
        self.show_kernel();
        if self.deaf {
            return Outcome::Untracked;
        }
        self.tell(What::Call(*call));
        let outcome = self.rig.with(|shard, env| shard.call(call, env));
        let taken = matches!(outcome, Outcome::Applied | Outcome::Started);
        let lost = matches!(outcome, Outcome::Lost(_) | Outcome::Untracked);
        assert!(taken || self.may_lose && lost, "{outcome:?}: {call:?}");
        self.rig.assert_sound();
        outcome
    }

    /// Shows the kernel's counters to the surroundings of the shard.
    pub fn show_kernel(&mut self) {
        let windows = self.copying.iter().map(|c| Window {
            ticket: c.ticket,
            mm: self.get(c.src).mm,
            ranges: [(c.walked, c.end), (0, 0)],
        });
        let moves = self.moving.iter().map(|m| Window {
            ticket: m.ticket,
            mm: self.get(m.new).mm,
            ranges: [
                (m.start, m.end),
                (m.start.wrapping_add(m.delta), m.end.wrapping_add(m.delta)),
            ],
        });
        let windows = windows.chain(moves).collect();
        self.rig.env.windows.replace(windows);
        let mut kernel: RefMut<'_, _> = self.rig.env.kernel.borrow_mut();
        for folio in self.folios.iter().filter(|_| !self.blind) {
            kernel.insert(folio.pfn, folio.kernel.counts());
        }
    }

    /// Does the next half of the kernel side of the calls that match.
    pub fn advance_calls(&mut self, matches: impl Fn(&InFlight) -> bool) {
        let calls = std::mem::take(&mut self.in_flight);
        for mut call in calls {
            if !matches(&call) {
                self.in_flight.push(call);
                continue;
            }
            if !call.half_done {
                self.tell_twin(&call.call);
            }
            let kernel = &mut self.folios[call.folio].kernel;
            if call.half_done {
                kernel.apply_second(&call.change);
            } else {
                kernel.apply_first(&call.change);
                call.half_done = true;
                self.in_flight.push(call);
            }
        }
    }

    /// Does all of the kernel side of the calls that match.
    pub fn finish_calls(&mut self, matches: impl Fn(&InFlight) -> bool) {
        self.advance_calls(&matches);
        self.advance_calls(&matches);
    }

    /// Lets the kernel side of one call in flight go on.
    pub fn kernel_step(&mut self, choice: usize) {
        if !self.in_flight.is_empty() {
            let chosen = choice % self.in_flight.len();
            let n = std::cell::Cell::new(0);
            self.advance_calls(|_| n.replace(n.get() + 1) == chosen);
        }
    }

    /// Lets a grace period pass: no call is in flight afterwards.
    pub fn grace_period(&mut self) {
        self.finish_calls(|_| true);
        self.rig.env.grace_period();
        if let Some(twin) = &self.twin {
            twin.rig.env.grace_period();
        }
        self.show_kernel();
    }

    /// Removes a VMA that maps nothing.
    pub fn remove_vma(&mut self, vma: u64) {
        assert!(self.mappings.iter().all(|m| m.vma != vma));
        self.vmas.retain(|v| v.id != vma);
    }

    /// Returns the VMA of an MM that covers an address.
    pub fn vma_at(&self, mm: u64, va: u64) -> u64 {
        let covers = |v: &&Vma| v.mm == mm && (v.start..v.end).contains(&va);
        self.vmas.iter().find(covers).expect("a VMA").id
    }

    /// Frees an unmapped folio and makes another one, at the same pfn or where there was none.
    pub fn reuse(&mut self, folio: usize, order: u8, kind: Kind, same_pfn: bool) {
        assert_eq!(self.counts(folio).total, 0);
        self.finish_calls(|call| call.folio == folio);
        assert!(self.folios[folio].kernel.unmapped());
        self.vmas.retain(|v| v.folio != folio);
        self.next_pfn += u64::from(!same_pfn);
        let f = &mut self.folios[folio];
        self.rig.env.kernel.borrow_mut().remove(&f.pfn);
        f.pfn = if same_pfn { f.pfn } else { self.next_pfn << 20 };
        f.order = order;
        f.kind = kind;
        f.kernel = KernelFolio::new(order, kind == Kind::Anon);
    }

    /// Unmaps everything of a VMA.
    pub fn zap(&mut self, vma: u64) {
        let v = self.get(vma);
        for (level, first, nr) in self.batches(&v, v.start, v.end) {
            match level {
                Level::Entire => self.unmap_entire(vma),
                Level::Pte => self.unmap(vma, first, nr),
            };
        }
    }
}
