// SPDX-License-Identifier: GPL-2.0

//! Where VMAs begin and end inside the range of a folio, when `vma_adjust_trans_huge()` says that it changes.

use kernel::{
    prelude::*,
    sync::atomic::Relaxed, //
};

use fmi_model::{
    Boundary,
    Edge,
    LostReason, //
};

use super::Tracker;
use crate::{
    class,
    hook::{
        args::Vma,
        sites, //
    },
    mm::current_pid,
    raw::fmi_site as Site,
    walk::{
        Range,
        Visitor, //
    }, //
};

/// VMAs behind one end of a merge, and before the other, whose edges are looked for, with preemption off.
const MAX_SWALLOWED: usize = 16;

/// Functions that split a VMA, or shrink it.
const SPLITS: [&CStr; 2] = [c"__split_vma", c"vma_shrink"];

/// Functions that merge VMAs, or what `commit_merge()` may be inlined into.
const MERGES: [&CStr; 3] = [c"commit_merge", c"vma_merge_existing_range", c"vma_modify"];

impl Tracker {
    /// The range of `vma` is about to become `start..end`; large PMDs across an edge are split.
    ///
    /// `grows` says that the VMA behind it will begin at `end`, see [`Self::next_grows`].
    pub(super) fn vma_adjusted(&self, vma: &Vma<'_>, start: usize, end: usize, grows: bool) {
        if !self.armed() {
            return;
        }
        let (old_start, old_end) = (vma.start(), vma.end());
        if start != old_start {
            self.edge(vma, start, Edge::Appeared);
        }
        if end != old_end {
            self.edge(vma, end, Edge::Appeared);
        }
        // Edges that come to lie inside the VMA, or inside the next one, are none any more.
        if start < old_start && old_start < end {
            self.edge(vma, old_start, vanished(start, end));
        }
        if start < old_end && old_end < end {
            self.edge(vma, old_end, vanished(start, end));
        }
        if grows {
            let next = vma.find(old_end);
            let next_end = next.map_or(usize::MAX, |next| next.end());
            self.edge(vma, old_end, vanished(end, next_end));
        }
        self.swallow(vma, old_end, (start, end));
    }

    /// `vma` is about to grow from `old_end` to the end of `range`: the edges of VMAs in between are none any more.
    ///
    /// A merge swallows two VMAs at most, but there may be others between them, that are being replaced (`MAP_FIXED`) and
    /// map nothing any more: of these, edges matter for folios that are mapped before or behind all of them.
    fn swallow(&self, vma: &Vma<'_>, old_end: usize, range: (usize, usize)) {
        let (_, end) = range;
        if end <= old_end {
            return;
        }
        let last = vma.find(end.wrapping_sub(1));
        let behind = last.map_or(end, |last| last.start().min(end));
        let near = old_end.saturating_add(self.reach());
        let far = behind.saturating_sub(self.reach());
        self.forget_edges(vma, (old_end, end.min(near)), range);
        self.forget_edges(vma, (far.max(old_end), end), range);
    }

    /// Forgets the edges of VMAs from `start` on, up to `end`, without these: they are inside `range` now.
    fn forget_edges(&self, vma: &Vma<'_>, (start, end): (usize, usize), range: (usize, usize)) {
        let mut addr = start;
        for _ in 0..MAX_SWALLOWED {
            if addr >= end {
                return;
            }
            let Some(swallowed) = vma.find(addr) else {
                return;
            };
            for edge in [swallowed.start(), swallowed.end()] {
                if start < edge && edge < end {
                    self.edge(vma, edge, vanished(range.0, range.1));
                }
            }
            addr = swallowed.end();
        }
        if addr < end {
            self.lose_around(vma, addr);
        }
    }

    /// Returns how many bytes a folio has at most.
    fn reach(&self) -> usize {
        let g = self.table.geometry();
        1usize.wrapping_shl(u32::from(g.page_shift).wrapping_add(u32::from(g.max_order)))
    }

    /// Loses the folios around this address, whatever VMAs map them.
    pub(super) fn lose_around(&self, vma: &Vma<'_>, addr: usize) {
        let reach = self.reach();
        Range::of_hooked(vma, addr.saturating_sub(reach), addr.saturating_add(reach))
            .any_vma()
            .walk(&mut LoseVisitor(self));
    }

    /// Loses the folios around all edges that come or go when the range of `vma` becomes `start..end`.
    ///
    /// Of two VMAs that are merged into this one, the second one ends at `end`. Those in between map nothing any more.
    pub(super) fn lose_edges(&self, vma: &Vma<'_>, start: usize, end: usize) {
        let last = vma.find(end.wrapping_sub(1));
        let between = last.map_or(end, |last| last.start());
        for edge in [start, end, vma.start(), vma.end(), between] {
            self.lose_around(vma, edge);
        }
    }

    /// Something happens to the edge of a VMA at `at`: for the folios that straddle it.
    fn edge(&self, vma: &Vma<'_>, at: usize, edge: Edge) {
        self.visit(vma, at, Some(edge));
    }

    /// The same; if nobody knows what happens, they are lost.
    fn visit(&self, vma: &Vma<'_>, at: usize, edge: Option<Edge>) {
        let reach = self.reach();
        let mut visitor = EdgeVisitor {
            tracker: self,
            mm: vma.mm(),
            at,
            edge,
        };
        Range::of_hooked(vma, at.saturating_sub(reach), at.saturating_add(reach))
            .any_vma()
            .all(self.tracks_all())
            .walk(&mut visitor);
    }

    /// At the entry of `vma_adjust_trans_huge()`, returns whether the VMA behind this one is to begin at
    /// `end`, where this one ends then: a split has the same arguments, so the caller tells.
    ///
    /// A kretprobe on the function, for one, hides the caller. Then the folios at the old end are lost: it may
    /// be there still.
    pub(super) fn next_grows(
        &self,
        vma: &Vma<'_>,
        (start, end): (usize, usize),
        caller: usize,
    ) -> bool {
        if start != vma.start() || end >= vma.end() || self.split_caller.load(Relaxed) == caller {
            return false;
        }
        // The address behind the call may be another function's.
        let call = caller.wrapping_sub(1);
        if sites::is_in(call, &SPLITS) {
            self.split_caller.store(caller, Relaxed);
            return false;
        }
        let merges = sites::is_in(call, &MERGES);
        if !merges && self.armed() {
            self.visit(vma, vma.end(), None);
        }
        merges
    }
}

/// Returns what happens to an edge that is inside a VMA of this range from now on.
fn vanished(start: usize, end: usize) -> Edge {
    Edge::Vanished {
        start: start as u64,
        end: end as u64,
    }
}

/// Loses what is mapped.
pub(super) struct LoseVisitor<'a>(pub(super) &'a Tracker);

impl Visitor for LoseVisitor<'_> {
    fn leaf(&mut self, _va: usize, site: &Site) {
        self.0.lose(site.pfn as u64, LostReason::Window);
    }
}

struct EdgeVisitor<'a> {
    tracker: &'a Tracker,
    mm: usize,
    at: usize,
    edge: Option<Edge>,
}

impl Visitor for EdgeVisitor<'_> {
    fn leaf(&mut self, _va: usize, site: &Site) {
        let tracker = self.tracker;
        let shift = u32::from(tracker.page_shift());
        let at = self.at.wrapping_sub(site.base).wrapping_shr(shift);
        let nr_pages = 1usize.wrapping_shl(u32::from(site.order));
        if u32::from(site.class) != class::TRACK || at == 0 || at >= nr_pages {
            return;
        }
        #[cfg(fmi_faults)]
        if crate::faults::drops_walk() {
            return;
        }
        let pfn = site.pfn as u64;
        let Some(edge) = self.edge else {
            return tracker.lose(pfn, LostReason::Window);
        };
        tracker.table.with(pfn, |shard| {
            shard.set_boundary(
                &Boundary {
                    pfn,
                    order: site.order,
                    mm: self.mm as u64,
                    base: site.base as u64,
                    at: at as u32,
                    edge,
                    pid: current_pid(),
                },
                &tracker.env(),
            )
        });
    }
}
