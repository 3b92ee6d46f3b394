// SPDX-License-Identifier: GPL-2.0

//! Examples: the last few cases in which each definition answered each question wrongly.
//!
//! A case is kept once, in a slot of a pool, and referred to by the cell of every pair that became
//! wrong with it. A cell refers to the last [`KEEP`] cases; the slot of a case that no cell refers
//! to any more is free.
//!
//! All operations take a number of steps per pair that does not depend on the size of the pool.

use crate::bits::{
    index,
    narrow, //
};
use crate::shard::{
    link_to,
    position_of, //
};
use crate::{
    Disagreement,
    FolioView,
    Kind,
    Operation,
    PairSet,
    Sketches,
    NR_PAIRS,
    TABLE_KIND,
    TABLE_KINDS, //
};

/// Number of cases that a cell refers to.
const KEEP: usize = 4;

/// Number of [`Mapper`]s that an example names.
pub const EXAMPLE_MAPPERS: usize = 4;

const _: () = assert!(KEEP.is_power_of_two());

/// No case is taken while all its cells are full and have one that is younger, in nanoseconds.
const PAUSE: u64 = 1_000_000;

/// Who mapped what of a folio.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mapper {
    /// The process id, in the initial namespace; 0 if it is not known.
    pub pid: u32,
    /// The kernel's id of the MM.
    pub mm_id: u32,
    /// The address of page 0 of the folio, see [`crate::Call::base`].
    pub base: u64,
    /// How many pages are mapped by PTEs.
    pub nr: u32,
    /// The first and the last of them.
    pub span: (u32, u32),
    /// Whether one entry maps the whole folio.
    pub entire: bool,
}

/// A case of wrong answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Example {
    /// When it was noticed, by [`crate::Env::now`].
    pub time: u64,
    /// The thread that made it, in the initial namespace.
    pub pid: u32,
    /// The name of the thread, with zeroes behind it; all zero if it was gone.
    pub comm: [u8; 16],
    /// What memory management did.
    pub operation: Operation,
    /// The numbers of the folio.
    pub view: FolioView,
    /// The sketches of counters.
    pub sketches: Sketches,
    /// The pairs that became wrong.
    pub wrong: PairSet,
    /// Those of them that said yes, or a number that is too high.
    pub too_high: PairSet,
    /// Who mapped the folio; [`FolioView::nr_records`] says how many there were in all.
    pub mappers: [Mapper; EXAMPLE_MAPPERS],
    /// How many of [`Self::mappers`] there are.
    pub nr_mappers: u8,
}

/// Room for an [`Example`]; zeroed storage is free.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExampleSlot {
    /// Number of cells that refer to it.
    refs: u32,
    /// Link of the next free slot.
    free: u32,
    /// The case.
    example: Example,
}

/// The last cases of one pair, type and order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExampleCell {
    /// Links of slots, a ring.
    links: [u32; KEEP],
    /// Where the ring goes on: the oldest one if it is full.
    next: u32,
}

impl ExampleCell {
    /// Returns the link that the next case replaces, 0 if the ring is not full.
    fn oldest(&self) -> u32 {
        self.links.get(index(self.next)).copied().unwrap_or(0)
    }

    /// Returns the link of the last case, 0 if there is none.
    fn newest(&self) -> u32 {
        let last = index(self.next).wrapping_add(KEEP).wrapping_sub(1) % KEEP;
        self.links.get(last).copied().unwrap_or(0)
    }

    /// Returns the link of case number `age`, the oldest first.
    fn link(&self, age: usize) -> Option<u32> {
        let at = index(self.next).wrapping_add(age) % KEEP;
        self.links.get(at).copied().filter(|link| *link != 0)
    }

    /// Forgets a case; returns whether it was there.
    fn remove(&mut self, link: u32) -> bool {
        let old = *self;
        if !old.links.contains(&link) {
            return false;
        }
        *self = Self::default();
        for age in 0..KEEP {
            if let Some(kept) = old.link(age).filter(|kept| *kept != link) {
                self.push(kept);
            }
        }
        true
    }

    /// Refers to one more case, instead of the oldest one.
    fn push(&mut self, link: u32) {
        let at = index(self.next);
        if let Some(place) = self.links.get_mut(at) {
            *place = link;
        }
        self.next = narrow(at.wrapping_add(1) % KEEP);
    }
}

/// What became of the cases so far. Saturating.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExampleCounts {
    /// Kept, for some time at least.
    pub taken: u64,
    /// Not taken, because all cells concerned have a very recent one.
    pub too_soon: u64,
    /// Not taken, because there was no free slot.
    pub no_room: u64,
    /// Slots in use now.
    pub used: u64,
}

/// The plain state beside the slices.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExampleState {
    /// Link of the first free slot.
    free: u32,
    /// Number of slots that were ever used.
    fresh: u32,
    /// The slot that is given up next for a cell that has no case yet.
    hand: u32,
    /// What became of the cases.
    counts: ExampleCounts,
}

impl ExampleState {
    /// Returns what became of the cases so far.
    pub fn counts(&self) -> ExampleCounts {
        self.counts
    }
}

/// Who threads and MMs are. Asked with locks held: must not sleep.
pub trait Names {
    /// Returns the name of a thread with zeroes behind it, all zero if there is none.
    fn comm(&self, pid: u32) -> [u8; 16];

    /// Returns the id of a process that has an MM, 0 if that is not known.
    fn process_of(&self, mm: u64) -> u32;
}

/// The examples with their storage, borrowed for one operation under the caller's lock.
///
/// The slices are those of the operation before, unchanged; at first they are zero.
pub struct Examples<'a> {
    /// The plain state.
    pub state: &'a mut ExampleState,
    /// The pool.
    pub slots: &'a mut [ExampleSlot],
    /// By type, order and pair: [`Examples::nr_cells`].
    pub cells: &'a mut [ExampleCell],
}

impl Examples<'_> {
    /// Returns the number of cells for folios up to this order.
    pub fn nr_cells(max_order: u8) -> usize {
        usize::from(max_order)
            .wrapping_add(1)
            .wrapping_mul(TABLE_KINDS)
            .wrapping_mul(NR_PAIRS)
    }

    /// Returns the number of positions at which there may be an example, see [`Self::next`].
    pub fn nr_positions(max_order: u8) -> usize {
        Self::nr_cells(max_order).wrapping_mul(KEEP)
    }

    /// Returns where the cells of a type and order begin; the last order also takes larger ones.
    fn cells_of(&self, kind: Kind, order: u8) -> Option<usize> {
        let kind = TABLE_KIND.iter().position(|k| *k == kind)?;
        let groups = self.cells.len().checked_div(NR_PAIRS)?;
        let orders = groups.checked_div(TABLE_KINDS)?;
        let order = usize::from(order).min(orders.wrapping_sub(1));
        let group = kind.wrapping_mul(orders).wrapping_add(order);
        Some(group.wrapping_mul(NR_PAIRS))
    }

    /// Takes a case in, unless it comes too soon after others or there is no room.
    pub fn add(&mut self, d: Disagreement<'_>, now: u64, names: &dyn Names) {
        let Some(first) = self.cells_of(d.view.kind, d.view.order) else {
            return;
        };
        if !self.wanted(d.opened, first, now) {
            let counts = &mut self.state.counts;
            counts.too_soon = counts.too_soon.saturating_add(1);
            return;
        }
        // Those that are replaced make room first.
        self.each_oldest(d.opened, first, Self::unref);
        let mut slot = self.take();
        if slot.is_none() {
            // Nothing was freed by it, so all that was let go is still there.
            self.each_oldest(d.opened, first, Self::reref);
            if self.any_empty(d.opened, first) {
                self.give_up_one();
                self.each_oldest(d.opened, first, Self::unref);
                slot = self.take();
            }
        }
        let Some(slot) = slot else {
            let counts = &mut self.state.counts;
            counts.no_room = counts.no_room.saturating_add(1);
            return;
        };
        let mut refs = 0u32;
        for pair in d.opened.iter() {
            if let Some(cell) = self.cells.get_mut(first.wrapping_add(pair)) {
                cell.push(link_to(slot));
                refs = refs.saturating_add(1);
            }
        }
        if let Some(slot) = self.slots.get_mut(index(slot)) {
            slot.refs = refs;
            fill(&mut slot.example, d, now, names);
        }
        let counts = &mut self.state.counts;
        counts.taken = counts.taken.saturating_add(1);
        counts.used = counts.used.saturating_add(1);
    }

    /// Returns whether one of these cells has no case yet.
    fn any_empty(&self, pairs: PairSet, first: usize) -> bool {
        let mut cells = pairs
            .iter()
            .filter_map(|pair| self.cells.get(first.wrapping_add(pair)));
        cells.any(|cell| cell.newest() == 0)
    }

    /// Frees a slot, one after the other, so that a cell that has no case yet gets its first: cells
    /// that have many must not keep it from that.
    fn give_up_one(&mut self) {
        let position = self.state.hand;
        let Some(slot) = self.slots.get(index(position)) else {
            self.state.hand = 0;
            return;
        };
        let (wrong, kind, order) = (
            slot.example.wrong,
            slot.example.view.kind,
            slot.example.view.order,
        );
        let next = position.wrapping_add(1);
        self.state.hand = if index(next) < self.slots.len() {
            next
        } else {
            0
        };
        let Some(first) = self.cells_of(kind, order) else {
            return;
        };
        for pair in wrong.iter() {
            let cell = self.cells.get_mut(first.wrapping_add(pair));
            if cell.is_some_and(|cell| cell.remove(link_to(position))) {
                self.unref(position);
            }
        }
    }

    /// Returns whether a case of these pairs is wanted now.
    fn wanted(&self, pairs: PairSet, first: usize, now: u64) -> bool {
        pairs
            .iter()
            .filter_map(|pair| self.cells.get(first.wrapping_add(pair)))
            .any(|cell| {
                let newest = self.slot(cell.newest());
                cell.oldest() == 0
                    || newest.is_none_or(|slot| now.wrapping_sub(slot.example.time) >= PAUSE)
            })
    }

    /// Calls `f` with the slot of the case that each cell lets go of next.
    fn each_oldest(&mut self, pairs: PairSet, first: usize, f: fn(&mut Self, u32)) {
        for pair in pairs.iter() {
            let oldest = match self.cells.get(first.wrapping_add(pair)) {
                Some(cell) => cell.oldest(),
                None => 0,
            };
            if let Some(slot) = position_of(oldest) {
                f(self, slot);
            }
        }
    }

    /// A cell no longer refers to a slot.
    fn unref(&mut self, position: u32) {
        let Some(slot) = self.slots.get_mut(index(position)) else {
            return;
        };
        slot.refs = slot.refs.saturating_sub(1);
        if slot.refs == 0 {
            slot.free = self.state.free;
            self.state.free = link_to(position);
            let used = &mut self.state.counts.used;
            *used = used.saturating_sub(1);
        }
    }

    /// A cell refers to a slot as before [`Self::unref`], which did not free it.
    fn reref(&mut self, position: u32) {
        if let Some(slot) = self.slots.get_mut(index(position)) {
            slot.refs = slot.refs.saturating_add(1);
        }
    }

    /// Takes a free slot.
    fn take(&mut self) -> Option<u32> {
        if let Some(position) = position_of(self.state.free) {
            self.state.free = self.slots.get(index(position))?.free;
            return Some(position);
        }
        let position = self.state.fresh;
        self.slots.get(index(position))?;
        self.state.fresh = position.checked_add(1)?;
        Some(position)
    }

    /// Returns the slot that a link points to.
    fn slot(&self, link: u32) -> Option<&ExampleSlot> {
        self.slots.get(index(position_of(link)?))
    }

    /// Returns the first position in `from..end` at which there is an example.
    ///
    /// A position stands for a cell and an age; what is there changes when a case is taken in.
    pub fn next(&self, from: usize, end: usize) -> Option<usize> {
        let mut position = from;
        while position < end {
            let cell = self.cells.get(position.wrapping_div(KEEP))?;
            if *cell == ExampleCell::default() {
                // Nothing at any age.
                position |= KEEP.wrapping_sub(1);
            } else if self.get(position).is_some() {
                return Some(position);
            }
            position = position.wrapping_add(1);
        }
        None
    }

    /// Returns the example at a position, and the pair that it is an example of.
    pub fn get(&self, position: usize) -> Option<(usize, &Example)> {
        let n = position.wrapping_div(KEEP);
        let cell = self.cells.get(n)?;
        let slot = self.slot(cell.link(position % KEEP)?)?;
        Some((n % NR_PAIRS, &slot.example))
    }

    /// Forgets all examples, and what became of others.
    pub fn clear(&mut self) {
        self.cells.fill(ExampleCell::default());
        *self.state = ExampleState::default();
    }
}

/// Writes down a case.
fn fill(example: &mut Example, d: Disagreement<'_>, now: u64, names: &dyn Names) {
    example.time = now;
    example.pid = d.pid;
    example.comm = names.comm(d.pid);
    example.operation = d.operation;
    example.view = *d.view;
    example.sketches = *d.sketches;
    example.wrong = d.opened;
    example.too_high = d.too_high;
    example.nr_mappers = 0;
    for (mapper, record) in example.mappers.iter_mut().zip(d.records) {
        *mapper = Mapper {
            pid: names.process_of(record.mm),
            mm_id: record.mm_id,
            base: record.base,
            nr: record.nr,
            span: (record.first, record.last),
            entire: record.entire,
        };
        example.nr_mappers = example.nr_mappers.saturating_add(1);
    }
}
