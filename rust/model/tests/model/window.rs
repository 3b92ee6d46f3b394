// SPDX-License-Identifier: GPL-2.0

//! What changes mappings without rmap calls: VMA split and merge, fork, mremap.

use fmi_model::{
    Boundary,
    Call,
    Edge,
    Level,
    Move,
    Op,
    Outcome, //
};

use crate::kernel::Change;
use crate::oracle::Mapping;
use crate::rig::{
    PAGE_SHIFT,
    PT_SHIFT, //
};
use crate::world::{
    Copying,
    Moving,
    Vma,
    What,
    World, //
};

impl World {
    /// Splits a VMA; an entire mapping across the address is split before. Returns the upper one.
    pub fn split_vma(&mut self, vma: u64, at: u64) -> u64 {
        let lower = self.get(vma);
        let pages = u64::from(self.folios[lower.folio].nr_pages());
        let distance = at.wrapping_sub(lower.base);
        let inside = 0 < distance && distance < pages << PAGE_SHIFT;
        if inside && self.has_entire(&lower) {
            self.split_pmd(vma);
        }
        let upper = self.vma(lower.mm, lower.folio, lower.base, at, lower.end - at);
        self.get_mut(vma).end = at;
        for m in &mut self.mappings {
            if m.vma == vma && m.va >= at {
                m.vma = upper;
            }
        }
        self.boundary(&lower, at, Edge::Appeared);
        self.tell(What::Split { vma, at, upper });
        upper
    }

    /// Merges a VMA with the one behind it, which must continue it.
    pub fn merge_vmas(&mut self, lower: u64, upper: u64) {
        let gone = self.get(upper);
        assert!(self.get(lower).end == gone.start && self.get(lower).base == gone.base);
        self.get_mut(lower).end = gone.end;
        self.vmas.retain(|v| v.id != upper);
        for m in &mut self.mappings {
            if m.vma == upper {
                m.vma = lower;
            }
        }
        let Vma { start, end, .. } = self.get(lower);
        self.boundary(&gone, gone.start, Edge::Vanished { start, end });
        self.tell(What::Merge { lower, upper });
    }

    /// Tells the shard about a VMA boundary, if it is inside the folio.
    fn boundary(&mut self, vma: &Vma, at: u64, edge: Edge) {
        let folio = &self.folios[vma.folio];
        let distance = at.wrapping_sub(vma.base);
        if distance == 0 || distance >= u64::from(folio.nr_pages()) << PAGE_SHIFT {
            return;
        }
        let boundary = Boundary {
            pfn: folio.pfn,
            order: folio.order,
            mm: vma.mm,
            base: vma.base,
            at: (distance >> PAGE_SHIFT) as u32,
            edge,
            pid: 0,
        };
        self.show_kernel();
        let changed = self
            .rig
            .with(|shard, env| shard.set_boundary(&boundary, env));
        self.finish_calls(|call| call.folio == vma.folio && call.change.mm == vma.mm);
        self.bound_twin(&boundary);
        self.tell(What::Boundary(boundary.pfn, changed));
        self.rig.assert_sound();
    }

    /// Returns whether a copy or move of the MM is under way.
    pub fn is_busy(&self, mm: u64) -> bool {
        let copies = self.copying.iter().flat_map(|c| [c.src, c.dst]);
        let moves = self.moving.iter().flat_map(|m| [m.old, m.new]);
        copies.chain(moves).any(|vma| self.get(vma).mm == mm)
    }

    /// Begins to copy a VMA into an MM.
    pub fn copy_begin(&mut self, src: u64, mm: u64) {
        let from = self.get(src);
        let dst = self.vma(mm, from.folio, from.base, from.start, from.end - from.start);
        self.copying.push(Copying {
            ticket: self.next_ticket,
            src,
            dst,
            copied: from.start,
            walked: from.start,
            end: from.end,
        });
        self.next_ticket += 1;
    }

    /// The kernel copies one page table more.
    pub fn copy_step(&mut self, copy: usize) {
        let c = self.copying[copy];
        let src = self.get(c.src);
        let huge = self.folios[src.folio].order > (PT_SHIFT - PAGE_SHIFT) as u8;
        let next_table = (c.copied >> PT_SHIFT).wrapping_add(1) << PT_SHIFT;
        let stop = if huge { c.end } else { next_table.min(c.end) };
        let dst_mm = self.get(c.dst).mm;
        self.finish_calls(|call| call.folio == src.folio && call.change.mm == src.mm);
        let copied: Vec<Mapping> = self
            .mappings
            .iter()
            .filter(|m| m.vma == c.src && (c.copied..stop).contains(&m.va))
            .map(|m| Mapping {
                mm: dst_mm,
                vma: c.dst,
                ..*m
            })
            .collect();
        let batches = self.batches(&src, c.copied, stop);
        let dst = self.get(c.dst);
        for (level, first, nr) in batches {
            let told = self.call_of(Op::Dup, &dst, level, first, nr);
            self.tell_twin(&told);
        }
        for m in &copied {
            self.folios[m.folio].kernel.apply(&Change {
                add: true,
                entire: m.entire,
                mm: dst_mm,
                first: m.page,
                nr: 1,
            });
        }
        self.mappings.extend(copied);
        self.copying[copy].copied = stop;
    }

    /// The walk looks at what was copied since the last time.
    pub fn copy_walk(&mut self, copy: usize) {
        let c = self.copying[copy];
        let dst = self.get(c.dst);
        for (level, first, nr) in self.batches(&dst, c.walked, c.copied) {
            let call = Call {
                task: 0,
                caller: 0,
                ..self.call_of(Op::Dup, &dst, level, first, nr)
            };
            self.send(&call);
        }
        self.copying[copy].walked = c.copied;
        self.show_kernel();
    }

    /// Finishes a copy.
    pub fn copy_end(&mut self, copy: usize) {
        while self.copying[copy].copied < self.copying[copy].end {
            self.copy_step(copy);
        }
        self.copy_walk(copy);
        self.copying.remove(copy);
        self.show_kernel();
    }

    /// Forks an MM: copies all of its VMAs, one after the other.
    pub fn fork(&mut self, mm: u64) -> u64 {
        let child = self.mm();
        let vmas: Vec<u64> = self
            .vmas
            .iter()
            .filter(|v| v.mm == mm)
            .map(|v| v.id)
            .collect();
        for vma in vmas {
            self.copy_begin(vma, child);
            self.copy_end(self.copying.len() - 1);
        }
        child
    }

    /// Returns what a VMA maps in a range, by batches that a page-table walk would find.
    pub fn batches(&self, vma: &Vma, start: u64, end: u64) -> Vec<(Level, u32, u32)> {
        let nr_pages = self.folios[vma.folio].nr_pages();
        let mut batches = Vec::new();
        if self.has_entire(vma) && (start..end).contains(&vma.base) {
            batches.push((Level::Entire, 0, nr_pages));
        }
        let mut batch: Option<(u32, u32)> = None;
        for page in 0..nr_pages {
            let va = vma.va(page);
            let wanted = vma.covers(page) && (start..end).contains(&va) && self.has_pte(vma, page);
            let new_table = va % (1 << PT_SHIFT) == 0;
            if !wanted || new_table {
                batches.extend(batch.take().map(|(first, nr)| (Level::Pte, first, nr)));
            }
            if wanted {
                let (first, nr) = batch.unwrap_or((page, 0));
                batch = Some((first, nr + 1));
            }
        }
        batches.extend(batch.map(|(first, nr)| (Level::Pte, first, nr)));
        batches
    }

    /// Begins to move `start..end` of a VMA to `to`.
    pub fn move_begin(&mut self, vma: u64, start: u64, end: u64, to: u64) {
        let old = self.get(vma);
        let delta = to.wrapping_sub(start);
        let base = old.base.wrapping_add(delta);
        let new = self.vma(old.mm, old.folio, base, to, end - start);
        self.moving.push(Moving {
            ticket: self.next_ticket,
            old: vma,
            new,
            delta,
            start,
            end,
            moved: start,
        });
        self.next_ticket += 1;
    }

    /// The kernel moves one page table more; an entire mapping only as a whole.
    pub fn move_step(&mut self, number: usize) {
        let w = self.moving[number];
        let old = self.get(w.old);
        let len = u64::from(self.folios[old.folio].nr_pages()) << PAGE_SHIFT;
        if self.has_entire(&old) {
            let inside = w.start <= old.base && old.base.wrapping_add(len) <= w.end;
            // `move_huge_pmd()` needs both addresses aligned.
            if !inside || w.delta % len != 0 {
                self.split_pmd(w.old);
            }
        }
        let mut stop = ((w.moved >> PT_SHIFT).wrapping_add(1) << PT_SHIFT).min(w.end);
        if self.has_entire(&old) {
            // A PUD spans several page tables: all of it has moved then.
            stop = stop.max(old.base.wrapping_add(len));
        }
        self.finish_calls(|call| call.folio == old.folio && call.change.mm == old.mm);
        self.move_twin(&w, w.moved, stop);
        for m in &mut self.mappings {
            if m.vma == w.old && (w.moved..stop).contains(&m.va) {
                m.va = m.va.wrapping_add(w.delta);
                m.vma = w.new;
            }
        }
        self.moving[number].moved = stop;
    }

    /// Finishes a move: re-keys what has arrived, and removes the old range.
    pub fn move_end(&mut self, number: usize) {
        while self.moving[number].moved < self.moving[number].end {
            self.move_step(number);
        }
        let w = self.moving[number];
        let new = self.get(w.new);
        let old = self.get(w.old);
        let folio = self.folios[new.folio].clone();
        for (level, first, nr) in self.batches(&new, new.start, new.end) {
            let m = Move {
                pfn: folio.pfn,
                order: folio.order,
                mm: new.mm,
                old_base: old.base,
                new_base: new.base,
                tables: [None; 2],
                level,
                first,
                nr,
                vma_start: new.start,
                vma_end: new.end,
                pid: 0,
            };
            self.show_kernel();
            self.tell(What::Move(m, new.id));
            let found = self.call_of(Op::Found, &new, level, first, nr);
            let deaf = self.deaf;
            let outcome = self.rig.with(|shard, env| {
                let outcome = shard.rekey(&m, env);
                if shard.learns() && !deaf {
                    let found = shard.call(&found, env);
                    assert!(matches!(found, Outcome::Applied | Outcome::Untracked));
                }
                outcome
            });
            let lost = matches!(outcome, Outcome::Lost(_) | Outcome::Untracked);
            assert!(
                outcome == Outcome::Applied || self.may_lose && lost,
                "{outcome:?}: {m:?}"
            );
            self.rig.assert_sound();
        }
        self.moving.remove(number);
        self.show_kernel();
        let mut vma = w.old;
        if old.start < w.start {
            vma = self.split_vma(vma, w.start);
        }
        if w.end < old.end {
            self.split_vma(vma, w.end);
        }
        self.remove_vma(vma);
    }

    /// Moves a range at once.
    pub fn mremap(&mut self, vma: u64, start: u64, end: u64, to: u64) {
        self.move_begin(vma, start, end, to);
        self.move_end(self.moving.len() - 1);
    }

    /// Returns whether an rmap walker may add a mapping at an address: not where a copy has not come
    /// to, and not where a move has left or not come to.
    pub fn may_add(&self, vma: &Vma, va: u64) -> bool {
        let copies = self
            .copying
            .iter()
            .all(|c| c.dst != vma.id || va < c.copied);
        let moves = self.moving.iter().all(|w| {
            let moved = w.start..w.moved;
            (w.old != vma.id || !moved.contains(&va))
                && (w.new != vma.id || moved.contains(&va.wrapping_sub(w.delta)))
        });
        copies && moves
    }
}
