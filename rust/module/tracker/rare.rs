// SPDX-License-Identifier: GPL-2.0

//! What changes mappings without an rmap call: fork, mremap, UFFDIO_MOVE, VMA ranges.
//!
//! Everything here runs in a hook on a rare function, in the task that holds the mmap lock, with
//! preemption off: no sleeping, no allocation.

use kernel::sync::{
    atomic::Relaxed,
    Arc, //
};

use fmi_model::{
    LostReason,
    Op, //
};

use super::{
    call_of,
    edges::LoseVisitor,
    Tracker, //
};
use crate::{
    class,
    hook::{
        args::{
            Args,
            CheckedCall,
            ProgressCall,
            RareCall,
            Vma, //
        },
        call,
        call::Saved, //
    },
    measure::{
        self,
        Step, //
    },
    mm::{
        current_has_return_stack,
        current_task, //
    },
    raw::fmi_site as Site,
    selftest::{
        loses_exit,
        Hook, //
    },
    walk::{
        Range,
        Visitor, //
    },
    window,
    window::{
        OpenCopy,
        OpenMove,
        Window, //
    }, //
};

impl Tracker {
    /// Takes the child's mappings from the watermark up to `end` or `stop_pmd` into the shadow.
    fn walk_copy(&self, copy: &OpenCopy, end: usize, stop_pmd: usize) {
        let vma = Vma::of_open_copy(copy);
        let end = end.min(copy.end);
        if copy.mark < end {
            Range::of_hooked(&vma, copy.mark, end)
                .stop_at(stop_pmd)
                .walk(&mut CopyVisitor {
                    tracker: self,
                    vma,
                    window: &copy.window,
                });
        }
    }

    /// A copy that found no room among the windows: what it made is unknown, so the folios are lost.
    fn lose_range(&self, vma: &Vma<'_>) {
        Range::of_hooked(vma, vma.start(), vma.end()).walk(&mut LoseVisitor(self));
    }

    fn copy_begins(&self, dst: &Vma<'_>, src: &Vma<'_>) {
        let task = current_task();
        self.close_stale(task);
        let kind = window::Kind::copy(
            src.mm(),
            dst.mm(),
            src.id(),
            dst.id(),
            dst.start(),
            dst.end(),
        );
        self.windows.open(task, kind);
    }

    fn copy_ends(&self, dst: &Vma<'_>) {
        match self.windows.copy_of(current_task(), dst.mm()) {
            Some(copy) => {
                self.walk_copy(&copy, copy.end, 0);
                self.windows.close(&copy.window);
            }
            None => {
                self.lose_range(dst);
                self.windows.close_overflow();
            }
        }
    }

    fn huge_pmd_copied(&self, dst_mm: usize, addr: usize, ret: usize) {
        let copy = self.windows.copy_of(current_task(), dst_mm);
        if let Some(copy) = copy.filter(|copy| copy.vma_is_there(dst_mm)) {
            // On failure the PMD at `addr` is copied otherwise: it comes later.
            let done = if ret == 0 { self.pmd_size() } else { 0 };
            self.walk_copy(&copy, addr.saturating_add(done), 0);
        }
    }

    fn pmd_size(&self) -> usize {
        let g = self.table.geometry();
        1usize.wrapping_shl(u32::from(g.page_shift).wrapping_add(u32::from(g.pmd_order)))
    }

    /// Re-keys what a move has brought to its new range, from its mark up to `end` or `stop_pmd`.
    ///
    /// What is at a new address stays there until the window closes, and calls on it name the new
    /// VMA: it does not matter how early it is re-keyed. The task must hold no PTL.
    fn moved(&self, open: &OpenMove, end: usize, stop_pmd: usize) {
        if !self.armed() {
            return;
        }
        let vma = Vma::of_open_move(open);
        let mut visitor = MoveVisitor {
            tracker: self,
            vma,
            delta: open.delta,
            window: open.window.as_ref(),
            tables: 0,
        };
        Range::of_hooked(&vma, open.mark, end)
            .stop_at(stop_pmd)
            .walk(&mut visitor);
        self.windows.note_tables(visitor.tables);
    }

    /// Loses what a call concerns, at its entry, if the hook with exit does not see it.
    fn check_seen(&self, call: &CheckedCall<'_>) {
        if !self.armed() {
            return;
        }
        let mut found = self
            .crosscheck
            .at_entry(current_task(), call.function(), call.mm());
        self.lose_earlier(&found);
        if !current_has_return_stack() {
            // This is the reason, if it was missed: known at once in any case.
            self.blind.fetch_add(1, Relaxed);
            found.missed = true;
        }
        if !found.missed {
            return;
        }
        // This task is in no other call: a window that it has left open is over.
        self.close_stale(current_task());
        match call {
            CheckedCall::Move(vma) if vma.is_hugetlb() => {}
            CheckedCall::Copy(vma) | CheckedCall::Move(vma) => self.lose_range(vma),
            // The PMD lock is held.
            CheckedCall::UffdMove { mm, src_addr } => self.lose_at(*mm, *src_addr),
            CheckedCall::AdjustVma { vma, start, end } => {
                self.lose_edges(vma, *start, *end);
            }
        }
    }

    fn close_move(&self) {
        if let Some(window) = self.windows.any_move_of(current_task()) {
            self.windows.close(&window);
        }
    }
}

struct CopyVisitor<'a> {
    tracker: &'a Tracker,
    vma: Vma<'a>,
    window: &'a Window,
}

impl Visitor for CopyVisitor<'_> {
    fn leaf(&mut self, _va: usize, site: &Site) {
        #[cfg(fmi_faults)]
        if crate::faults::drops_walk() {
            return;
        }
        let tracker = self.tracker;
        match u32::from(site.class) {
            class::TRACK if tracker.armed() => {
                let call = call_of(Op::Dup, site, &self.vma);
                tracker
                    .table
                    .with(call.pfn, |shard| shard.call(&call, &tracker.env()));
            }
            class::NONLINEAR => tracker.lose(site.pfn as u64, LostReason::NotLinear),
            _ => {}
        }
    }

    fn mark(&mut self, _start: usize, end: usize) {
        self.tracker.windows.advance(self.window, end);
    }
}

struct MoveVisitor<'a> {
    tracker: &'a Tracker,
    vma: Vma<'a>,
    delta: usize,
    window: Option<&'a Window>,
    /// Page tables, and ranges without any, that were walked.
    tables: u64,
}

impl Visitor for MoveVisitor<'_> {
    fn leaf(&mut self, _va: usize, site: &Site) {
        #[cfg(fmi_faults)]
        if crate::faults::drops_walk() {
            return;
        }
        match u32::from(site.class) {
            class::TRACK => {
                self.tracker
                    .rekey(&self.vma, site, site.base.wrapping_sub(self.delta), None);
            }
            class::NONLINEAR => self.tracker.lose(site.pfn as u64, LostReason::NotLinear),
            _ => {}
        }
    }

    fn mark(&mut self, _start: usize, end: usize) {
        self.tables = self.tables.saturating_add(1);
        if let Some(window) = self.window {
            self.tracker.windows.advance(window, end);
        }
    }
}

/// Entry hook that says how far a fork or mremap has come.
pub(crate) struct ProgressHook(pub(crate) Arc<Tracker>);

impl call::Handler for ProgressHook {
    const EXIT: bool = false;

    fn entry(&self, ip: usize, _caller: usize, args: Args<'_>, _saved: &mut Saved) -> bool {
        self.progress(ip, &args);
        false
    }

    fn exit(&self, _ip: usize, _saved: &Saved, _ret: usize) {}
}

impl ProgressHook {
    fn progress(&self, ip: usize, args: &Args<'_>) {
        let tracker = &*self.0;
        let Some(position) = tracker.progress_sites.lookup(ip) else {
            tracker.unknown_sites.fetch_add(1, Relaxed);
            return;
        };
        let _timer = measure::step(Step::Progress(position));
        Hook::progress(position).saw();
        if ProgressCall::is_idle(position, args) {
            return;
        }
        match ProgressCall::read(position, args) {
            Some(ProgressCall::PteAlloc { mm, pmd }) => {
                if !tracker.windows.any_open() || !tracker.ends_seen.load(Relaxed) {
                    return;
                }
                let task = current_task();
                // A window whose exit was missed looks as if it were open: then the VMA may be gone.
                if let Some(copy) = tracker.windows.copy_of(task, mm) {
                    if copy.vma_is_there(mm) {
                        // Everything before this PMD is copied: the forking task holds no PTL.
                        tracker.walk_copy(&copy, copy.end, pmd);
                    }
                } else if let Some(open) = tracker.windows.move_of(task, mm) {
                    if open.vma_is_there(mm) {
                        // Everything before this PMD has moved.
                        tracker.moved(&open, open.end, pmd);
                    }
                }
            }
            Some(ProgressCall::Rare(call)) => tracker.check_seen(&call),
            None => {}
        }
    }
}

/// Entry and exit hooks on the functions that copy and move mappings without rmap calls.
pub(crate) struct RareHook(pub(crate) Arc<Tracker>);

impl call::Handler for RareHook {
    const EXIT: bool = true;

    fn entry(&self, ip: usize, caller: usize, args: Args<'_>, saved: &mut Saved) -> bool {
        let tracker = &*self.0;
        let Some(position) = tracker.rare_sites.lookup(ip) else {
            tracker.unknown_sites.fetch_add(1, Relaxed);
            return false;
        };
        #[cfg(fmi_faults)]
        if crate::faults::no_stack() {
            return false;
        }
        let _timer = measure::step(Step::Entry(position));
        if RareCall::is_idle(position, &args) {
            // This task is in no other call: a window that it has left open is over.
            tracker.close_stale(current_task());
            // Without its exit hook the kernel could warn of one that it has called for nothing, see
            // Documentation/kernel/fgraph-bit0.rst.
            *saved = RareCall::IDLE;
            return true;
        }
        let read = RareCall::read(position, &args);
        if RareCall::is_checked(position) && tracker.armed() {
            let opens = match &read {
                Ok(Some(RareCall::AdjustVma { vma, .. })) => Some(vma.mm()),
                _ => None,
            };
            let found = tracker
                .crosscheck
                .with_exit(current_task(), position, opens);
            tracker.lose_earlier(&found);
        }
        let mut call = match read {
            Ok(Some(call)) => call,
            Ok(None) => return false,
            Err(_) => {
                tracker.unreadable.fetch_add(1, Relaxed);
                return false;
            }
        };
        let kind = match call {
            RareCall::CopyRange { dst, src } => {
                tracker.copy_begins(&dst, &src);
                None
            }
            RareCall::Move {
                old,
                new,
                old_addr,
                new_addr,
                len,
            } => Some(window::Kind::Move {
                mm: old.mm(),
                old_vma: old.id(),
                new_vma: new.id(),
                old_addr,
                new_addr,
                len,
                mark: new_addr,
            }),
            RareCall::UffdMove {
                mm,
                dst_addr,
                src_addr,
            } => Some(window::Kind::Uffd {
                mm,
                dst_addr,
                src_addr,
            }),
            RareCall::AdjustVma {
                vma,
                start,
                end,
                ref mut grows,
            } => {
                *grows = tracker.next_grows(&vma, (start, end), caller);
                None
            }
            RareCall::CopyHugePmd { .. } => None,
        };
        if let Some(kind) = kind {
            let task = current_task();
            tracker.close_stale(task);
            let opened = tracker.windows.open(task, kind);
            if let (None, window::Kind::Uffd { mm, src_addr, .. }) = (opened, kind) {
                // Nobody will know where it has moved to.
                tracker.lose_at(mm, src_addr);
            }
        }
        *saved = call.save();
        true
    }

    fn exit(&self, ip: usize, saved: &Saved, ret: usize) {
        if *saved == RareCall::IDLE {
            return;
        }
        let tracker = &*self.0;
        let position = tracker.rare_sites.lookup(ip);
        let _timer = measure::step(Step::Exit(position.unwrap_or(0)));
        if let Some(position) = position {
            if loses_exit(Hook::rare(position)) {
                return;
            }
            Hook::rare(position).saw();
            if RareCall::is_checked(position) {
                tracker.crosscheck.returns(current_task());
            }
        }
        match RareCall::restore(saved) {
            Some(RareCall::CopyRange { dst, .. }) => tracker.copy_ends(&dst),
            Some(RareCall::CopyHugePmd { dst_mm, addr }) => {
                tracker.huge_pmd_copied(dst_mm, addr, ret);
            }
            Some(RareCall::Move {
                new,
                old_addr,
                new_addr,
                len,
                ..
            }) => {
                let end = new_addr.saturating_add(ret.min(len));
                // Without room for a window nothing has been re-keyed yet.
                let roomless = OpenMove {
                    window: None,
                    new_vma: new.id(),
                    delta: new_addr.wrapping_sub(old_addr),
                    mark: new_addr,
                    end,
                };
                match tracker.windows.move_of(current_task(), new.mm()) {
                    Some(open) => {
                        tracker.moved(&open, end, 0);
                        tracker.close_move();
                    }
                    None => {
                        tracker.moved(&roomless, end, 0);
                        tracker.windows.close_overflow();
                    }
                }
            }
            Some(RareCall::UffdMove { .. }) => tracker.close_move(),
            Some(RareCall::AdjustVma {
                vma,
                start,
                end,
                grows,
            }) => tracker.vma_adjusted(&vma, start, end, grows),
            None => {}
        }
    }
}
