// SPDX-License-Identifier: GPL-2.0

//! The event path: turns hooked calls into calls of the model.
//!
//! Everything here runs in a hook: no sleeping, no allocation. The rmap hooks run under the PTL of
//! the call; the rare hooks run in the task that holds the mmap lock.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc, //
    }, //
};

use fmi_model::{
    Boundary,
    Call,
    Kind,
    Level,
    LostReason,
    Move,
    Op, //
};

use crate::{
    class,
    env::KernelEnv,
    hook::{
        args::{
            Args,
            Folio,
            ProgressCall,
            RareCall,
            RmapCall,
            RmapFunction,
            Vma, //
        },
        call,
        call::Saved,
        entry,
        sites,
        sites::{
            Addresses,
            Sites, //
        }, //
    },
    mm::{
        current_has_return_stack,
        current_task, //
    },
    raw::fmi_site as Site,
    table::Table,
    walk::{
        Range,
        Visitor, //
    },
    window,
    window::{
        OpenCopy,
        Windows, //
    }, //
};

/// The caller of mappings that fork made: they have no call site.
const CALLER_FORK: u64 = 1;

/// Shadow, windows and the switch between them and the hooks.
#[pin_data]
pub(crate) struct Tracker {
    /// The shadow.
    pub(crate) table: Table,
    #[pin]
    pub(crate) windows: Windows,
    armed: Atomic<bool>,
    rmap_sites: Sites<12>,
    rare_sites: Sites<5>,
    progress_sites: Sites<3>,
    unknown_sites: Atomic<u64>,
    unreadable: Atomic<u64>,
    blind: Atomic<u64>,
    /// Where `__split_vma()` calls `vma_adjust_trans_huge()`, once it has been seen.
    split_caller: Atomic<usize>,
}

impl Tracker {
    /// Creates a tracker that is not armed and has no storage.
    ///
    /// # Errors
    ///
    /// `ESRCH` or `ENOENT` if this kernel lacks a function that must be hooked, `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let mut names = KVec::new();
        names.extend_from_slice(RmapFunction::NAMES, GFP_KERNEL)?;
        names.extend_from_slice(RareCall::NAMES, GFP_KERNEL)?;
        for name in ProgressCall::NAMES {
            if !names.contains(name) {
                names.push(*name, GFP_KERNEL)?;
            }
        }
        let addresses = Addresses::find(&names)?;
        let rmap_sites = addresses.of(RmapFunction::NAMES)?;
        let rare_sites = addresses.of(RareCall::NAMES)?;
        let progress_sites = addresses.of(ProgressCall::NAMES)?;
        let table = Table::new()?;
        Arc::pin_init(
            try_pin_init!(Self {
                table,
                windows <- Windows::new(),
                armed: Atomic::new(false),
                rmap_sites,
                rare_sites,
                progress_sites,
                unknown_sites: Atomic::new(0),
                unreadable: Atomic::new(0),
                blind: Atomic::new(0),
                split_caller: Atomic::new(0),
            } ? Error),
            GFP_KERNEL,
        )
    }

    /// Returns where to hook: rmap functions, progress of forks, rare functions.
    pub(crate) fn sites(&self) -> (&Sites<12>, &Sites<3>, &Sites<5>) {
        (&self.rmap_sites, &self.progress_sites, &self.rare_sites)
    }

    /// Returns what the model asks of the kernel.
    pub(crate) fn env(&self) -> KernelEnv<'_> {
        KernelEnv::new(&self.windows)
    }

    /// Returns whether rmap calls reach the shadow.
    #[inline]
    pub(crate) fn armed(&self) -> bool {
        // ORDERING: Pairs with the release in `set_armed()`: storage is there before.
        self.armed.load(Acquire)
    }

    /// Lets rmap calls reach the shadow, or not.
    ///
    /// To be exact it must be switched on while no rmap call is running.
    pub(crate) fn set_armed(&self, armed: bool) {
        self.armed.store(armed, Release);
    }

    /// Returns how many hooked calls could not be understood: unknown address, arguments of an
    /// unknown layout, and made by a task that the exit hooks do not see.
    pub(crate) fn not_understood(&self) -> (u64, u64, u64) {
        (
            self.unknown_sites.load(Relaxed),
            self.unreadable.load(Relaxed),
            self.blind.load(Relaxed),
        )
    }

    /// Sets these to zero, and the statistics of table and windows.
    pub(crate) fn reset(&self) {
        self.table.reset(&self.env());
        self.windows.reset();
        self.unknown_sites.store(0, Relaxed);
        self.unreadable.store(0, Relaxed);
        self.blind.store(0, Relaxed);
    }

    fn rmap(&self, function: RmapFunction, folio: Folio<'_>, caller: usize, args: &Args<'_>) {
        if function == RmapFunction::MoveAnon {
            return self.move_anon(folio, args);
        }
        let Some(call) = RmapCall::read(function, folio, args, 0) else {
            return;
        };
        match u32::from(call.site.class) {
            class::TRACK => self.track(function, &call.site, &call.vma, caller),
            class::NONLINEAR => {
                class::count(class::NONLINEAR);
                self.lose(call.site.pfn as u64, LostReason::NotLinear);
            }
            other => class::count(other),
        }
    }

    fn track(&self, function: RmapFunction, site: &Site, vma: &Vma<'_>, caller: usize) {
        let mut op = if function.removes() {
            Op::Remove
        } else {
            Op::Add
        };
        let mut pending = 0;
        let mut alt_base = None;
        if self.windows.any_open() {
            let va = site
                .base
                .wrapping_add((site.first as usize) << self.page_shift());
            let judgement = self.windows.judge(vma.id(), va);
            if judgement.unwalked {
                op = if function.removes() {
                    Op::Skip
                } else {
                    Op::Touch
                };
            }
            if judgement.unwalked || function.removes() {
                pending = judgement.pending;
            }
            alt_base = judgement
                .alt_delta
                .map(|delta| site.base.wrapping_add(delta) as u64);
        }
        let call = Call {
            alt_base,
            pending,
            caller: caller as u64,
            ..call_of(op, site, vma)
        };
        self.table
            .with(call.pfn, |shard| shard.call(&call, &self.env()));
    }

    fn lose(&self, pfn: u64, reason: LostReason) {
        self.table
            .with(pfn, |shard| shard.lose(pfn, reason, &self.env()));
    }

    /// `folio_move_anon_rmap()`: with UFFDIO_MOVE of this task open, both PMD locks are held and
    /// neither PMD maps the folio, so no call on either position can be running.
    fn move_anon(&self, folio: Folio<'_>, args: &Args<'_>) {
        let Some((mm, src, dst)) = self.windows.uffd_of(current_task()) else {
            return;
        };
        let Some(RmapCall { site, .. }) = RmapCall::read(RmapFunction::MoveAnon, folio, args, dst)
        else {
            return;
        };
        if u32::from(site.class) == class::TRACK {
            self.rekey(mm, &site, src);
        }
    }

    /// The mappings in `site` were at `old_base` before.
    fn rekey(&self, mm: usize, site: &Site, old_base: usize) {
        let pfn = site.pfn as u64;
        self.table.with(pfn, |shard| {
            shard.rekey(
                &Move {
                    pfn,
                    order: site.order,
                    mm: mm as u64,
                    old_base: old_base as u64,
                    new_base: site.base as u64,
                    level: level_of(site),
                    first: site.first,
                    nr: site.nr,
                    vma_start: site.vma_start as u64,
                    vma_end: site.vma_end as u64,
                },
                &self.env(),
            )
        });
    }

    fn page_shift(&self) -> u8 {
        self.table.geometry().page_shift
    }

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
                    ticket: copy.ticket,
                });
        }
    }

    /// A copy that found no room among the windows: what it made is unknown, so the folios are lost.
    fn lose_range(&self, vma: &Vma<'_>) {
        Range::of_hooked(vma, vma.start(), vma.end()).walk(&mut LoseVisitor(self));
    }

    fn copy_begins(&self, dst: &Vma<'_>, src: &Vma<'_>) {
        let task = current_task();
        if self.windows.close_stale(task) {
            self.lose_range(src);
        }
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
                self.windows.close(copy.ticket);
            }
            None => {
                self.lose_range(dst);
                self.windows.close_overflow();
            }
        }
    }

    fn huge_pmd_copied(&self, dst_mm: usize, addr: usize, ret: usize) {
        if let Some(copy) = self.windows.copy_of(current_task(), dst_mm) {
            // On failure the PMD at `addr` is copied otherwise: it comes later.
            let done = if ret == 0 { self.pmd_size() } else { 0 };
            self.walk_copy(&copy, addr.saturating_add(done), 0);
        }
    }

    fn pmd_size(&self) -> usize {
        let g = self.table.geometry();
        1 << (g.page_shift + g.pmd_order)
    }

    /// Re-keys what a move brought to `new_addr..new_addr + moved`.
    fn moved(&self, new: &Vma<'_>, old_addr: usize, new_addr: usize, moved: usize) {
        if !self.armed() {
            return;
        }
        let mut visitor = MoveVisitor {
            tracker: self,
            mm: new.mm(),
            delta: new_addr.wrapping_sub(old_addr),
        };
        Range::of_hooked(new, new_addr, new_addr.saturating_add(moved)).walk(&mut visitor);
    }

    /// The range of `vma` is about to become `start..end`; large PMDs across an edge are split.
    ///
    /// `grows` says that the VMA behind it will begin at `end`, if that is before its old end.
    fn vma_adjusted(&self, vma: &Vma<'_>, start: usize, end: usize, grows: bool) {
        if !self.armed() {
            return;
        }
        let (old_start, old_end) = (vma.start(), vma.end());
        if start != old_start {
            self.edge(vma, start, true);
        }
        if end != old_end {
            self.edge(vma, end, true);
        }
        // Edges that come to lie inside the VMA, or inside the next one, are none any more.
        if start < old_start && old_start < end {
            self.edge(vma, old_start, false);
        }
        if start < old_end && old_end < end || grows && end < old_end {
            self.edge(vma, old_end, false);
        }
        let mut addr = old_end;
        // A merge swallows two VMAs at most; more are being replaced and map nothing any more.
        for _ in 0..2 {
            if addr >= end {
                break;
            }
            let Some(swallowed) = vma.find(addr) else {
                break;
            };
            for edge in [swallowed.start(), swallowed.end()] {
                if old_end < edge && edge < end {
                    self.edge(vma, edge, false);
                }
            }
            addr = swallowed.end();
        }
    }

    /// A VMA edge at `edge` appears or vanishes: for the folios that straddle it.
    fn edge(&self, vma: &Vma<'_>, edge: usize, present: bool) {
        let g = self.table.geometry();
        let reach = 1usize << (g.page_shift + g.max_order);
        let mut visitor = EdgeVisitor {
            tracker: self,
            mm: vma.mm(),
            edge,
            present,
        };
        Range::of_hooked(vma, edge.saturating_sub(reach), edge.saturating_add(reach))
            .any_vma()
            .walk(&mut visitor);
    }
}

fn level_of(site: &Site) -> Level {
    if site.entire {
        Level::Entire
    } else {
        Level::Pte
    }
}

fn kind_of(site: &Site) -> Kind {
    match u32::from(site.kind) {
        class::KIND_ANON => Kind::Anon,
        class::KIND_FILE => Kind::File,
        class::KIND_SHMEM => Kind::Shmem,
        class::KIND_KSM => Kind::Ksm,
        _ => Kind::Driver,
    }
}

fn call_of(op: Op, site: &Site, vma: &Vma<'_>) -> Call {
    Call {
        op,
        level: level_of(site),
        pfn: site.pfn as u64,
        order: site.order,
        kind: kind_of(site),
        first: site.first,
        nr: site.nr,
        mm: vma.mm() as u64,
        base: site.base as u64,
        alt_base: None,
        vma: vma.id() as u64,
        vma_start: site.vma_start as u64,
        vma_end: site.vma_end as u64,
        task: current_task() as u64,
        caller: CALLER_FORK,
        kernel_unmapped: site.unmapped,
        pending: 0,
    }
}

struct CopyVisitor<'a> {
    tracker: &'a Tracker,
    vma: Vma<'a>,
    ticket: u64,
}

impl Visitor for CopyVisitor<'_> {
    fn leaf(&mut self, _va: usize, site: &Site) {
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
        self.tracker.windows.advance(self.ticket, end);
    }
}

struct LoseVisitor<'a>(&'a Tracker);

impl Visitor for LoseVisitor<'_> {
    fn leaf(&mut self, _va: usize, site: &Site) {
        self.0.lose(site.pfn as u64, LostReason::Window);
    }
}

struct MoveVisitor<'a> {
    tracker: &'a Tracker,
    mm: usize,
    delta: usize,
}

impl Visitor for MoveVisitor<'_> {
    fn leaf(&mut self, _va: usize, site: &Site) {
        match u32::from(site.class) {
            class::TRACK => {
                self.tracker
                    .rekey(self.mm, site, site.base.wrapping_sub(self.delta));
            }
            class::NONLINEAR => self.tracker.lose(site.pfn as u64, LostReason::NotLinear),
            _ => {}
        }
    }
}

struct EdgeVisitor<'a> {
    tracker: &'a Tracker,
    mm: usize,
    edge: usize,
    present: bool,
}

impl Visitor for EdgeVisitor<'_> {
    fn leaf(&mut self, _va: usize, site: &Site) {
        let tracker = self.tracker;
        let at = self.edge.wrapping_sub(site.base) >> tracker.page_shift();
        if u32::from(site.class) != class::TRACK || at == 0 || at >= 1 << site.order {
            return;
        }
        let pfn = site.pfn as u64;
        tracker.table.with(pfn, |shard| {
            shard.set_boundary(
                &Boundary {
                    pfn,
                    order: site.order,
                    mm: self.mm as u64,
                    base: site.base as u64,
                    at: at as u32,
                    present: self.present,
                },
                &tracker.env(),
            )
        });
    }
}

/// Entry hooks on the rmap functions.
pub(crate) struct RmapHook(pub(crate) Arc<Tracker>);

impl entry::Handler for RmapHook {
    #[inline]
    fn entry(&self, ip: usize, caller: usize, args: Args<'_>) {
        let Some(folio) = args.large_folio() else {
            return;
        };
        if !self.0.armed() {
            return;
        }
        match self.0.rmap_sites.lookup(ip).and_then(RmapFunction::at) {
            Some(function) => self.0.rmap(function, folio, caller, &args),
            None => {
                self.0.unknown_sites.fetch_add(1, Relaxed);
            }
        }
    }
}

/// Entry hook that says how far a fork has come.
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
        let call = tracker
            .progress_sites
            .lookup(ip)
            .and_then(|position| ProgressCall::read(position, args));
        match call {
            Some(ProgressCall::PteAlloc { mm, pmd }) => {
                if !tracker.windows.any_open() {
                    return;
                }
                if let Some(copy) = tracker.windows.copy_of(current_task(), mm) {
                    // Everything before this PMD is copied: the forking task holds no PTL.
                    tracker.walk_copy(&copy, copy.end, pmd);
                }
            }
            Some(ProgressCall::Source(vma)) => {
                if !current_has_return_stack() {
                    // The exit hooks do not see this task, so what it copies or moves is not known.
                    tracker.blind.fetch_add(1, Relaxed);
                    tracker.lose_range(&vma);
                }
            }
            None => {
                tracker.unknown_sites.fetch_add(1, Relaxed);
            }
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
        let mut call = match RareCall::read(position, &args) {
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
                ..
            } => Some(window::Kind::Move {
                old_vma: old.id(),
                new_vma: new.id(),
                delta: new_addr.wrapping_sub(old_addr),
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
            RareCall::AdjustVma { ref mut grows, .. } => {
                *grows = !tracker.is_split(caller);
                None
            }
            RareCall::CopyHugePmd { .. } => None,
        };
        if let Some(kind) = kind {
            let task = current_task();
            tracker.windows.close_stale(task);
            tracker.windows.open(task, kind);
        }
        *saved = call.save();
        true
    }

    fn exit(&self, _ip: usize, saved: &Saved, ret: usize) {
        let tracker = &*self.0;
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
                tracker.moved(&new, old_addr, new_addr, ret.min(len));
                tracker.close_move();
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

impl Tracker {
    /// Returns whether `vma_adjust_trans_huge()` was called for a split: the arguments are those of
    /// a merge in which the next VMA takes over the end of this one.
    fn is_split(&self, caller: usize) -> bool {
        if self.split_caller.load(Relaxed) == caller {
            return true;
        }
        // Without a name for the caller, calls that follow put the boundaries right.
        let split = sites::is_in(caller, &[c"__split_vma", c"vma_shrink"]).unwrap_or(true);
        if split {
            self.split_caller.store(caller, Relaxed);
        }
        split
    }

    fn close_move(&self) {
        if let Some(ticket) = self.windows.ticket_of_move(current_task()) {
            self.windows.close(ticket);
        }
    }
}
