// SPDX-License-Identifier: GPL-2.0

//! The event path: turns hooked calls into calls of the model.
//!
//! Everything here runs in a hook under the PTL of an rmap call: no sleeping, no allocation. What
//! changes mappings without a call is in [`rare`].

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
    Asker,
    Call,
    Kind,
    Level,
    LostReason,
    Move,
    Op,
    Operation,
    SharedTable,
    NR_ASKERS, //
};

use crate::{
    backend::{
        Backend,
        Choice, //
    },
    class,
    env::KernelEnv,
    examples::Store,
    hook::{
        args::{
            read_rmap,
            Args,
            CallSite,
            ProgressCall,
            RareCall,
            RmapArgs,
            RmapFunction,
            Vma, //
        },
        entry,
        sites::{
            Addresses,
            Sites, //
        }, //
    },
    measure::{
        self,
        Step, //
    },
    mm::{
        current_pid,
        current_task, //
    },
    operation,
    raw::fmi_site as Site,
    selftest::Hook,
    table::Table,
    window::Windows, //
};

mod asked;
mod crosscheck;
mod edges;
mod losing;
mod rare;
mod traced;

pub(crate) use asked::AskHook;
use crosscheck::Crosscheck;
pub(crate) use rare::{
    ProgressHook,
    RareHook, //
};
pub(crate) use traced::{
    Others,
    TraceHook, //
};

/// The caller of mappings that fork made: they have no call site.
const CALLER_FORK: u64 = 1;

/// Who made an rmap call.
#[derive(Clone, Copy)]
enum Origin {
    /// The function that this return address is in.
    Caller(usize),
    /// fork, without a call.
    Fork,
}

/// Shadow, windows and the switch between them and the hooks.
#[pin_data]
pub(crate) struct Tracker {
    /// The shadow.
    pub(crate) table: Table,
    #[pin]
    pub(crate) windows: Windows,
    /// The last cases of each disagreement.
    #[pin]
    pub(crate) examples: Store,
    /// Calls that a hook with exit did not see.
    #[pin]
    pub(crate) crosscheck: Crosscheck,
    /// Events that change no mapping.
    pub(crate) others: Others,
    choice: Choice,
    /// The shadow is there to be compared only, see [`crate::both`]: the first one counts.
    second: bool,
    armed: Atomic<bool>,
    /// The hooks that close windows are there.
    ends_seen: Atomic<bool>,
    /// How often tracking was switched on.
    session: Atomic<u64>,
    rmap_sites: Sites<12>,
    rare_sites: Sites<5>,
    progress_sites: Sites<5>,
    ask_sites: Sites<NR_ASKERS>,
    unknown_sites: Atomic<u64>,
    unreadable: Atomic<u64>,
    blind: Atomic<u64>,
    moves_unseen: Atomic<u64>,
    asked_irqs_off: Atomic<u64>,
    /// Where `vma_adjust_trans_huge()` was called from for the last split.
    split_caller: Atomic<usize>,
}

impl Tracker {
    /// Creates a tracker that is not armed and has no storage; `bytes` bounds what it will have, `choice` says
    /// what its events come from.
    ///
    /// # Errors
    ///
    /// `ESRCH` or `ENOENT` if this kernel lacks a function that must be hooked, `ENOMEM`.
    pub(crate) fn new(bytes: usize, choice: Choice) -> Result<Arc<Self>> {
        Self::new_one(bytes, choice, false)
    }

    /// Creates another one, whose shadow is only compared with the first: what it sees counts for no
    /// statistics of the module.
    ///
    /// # Errors
    ///
    /// See [`Tracker::new`].
    pub(crate) fn new_second(choice: Choice) -> Result<Arc<Self>> {
        // No room for examples: there are none.
        Self::new_one(0, choice, true)
    }

    fn new_one(bytes: usize, choice: Choice, second: bool) -> Result<Arc<Self>> {
        let names = choice.backend.hooked()?;
        let addresses = Addresses::find_with(names, &Asker::FUNCTIONS)?;
        let rmap_sites = addresses.of_some(RmapFunction::NAMES);
        let rare_sites = addresses.of_some(RareCall::NAMES);
        let progress_sites = addresses.of_some(ProgressCall::NAMES);
        let ask_sites = addresses.of_some(&Asker::FUNCTIONS);
        let table = Table::new(second)?;
        let examples = Store::new(bytes)?;
        Arc::pin_init(
            try_pin_init!(Self {
                table,
                windows <- Windows::new(),
                examples <- examples,
                crosscheck <- Crosscheck::new(),
                others: Others::new(),
                choice,
                second,
                armed: Atomic::new(false),
                ends_seen: Atomic::new(true),
                session: Atomic::new(0),
                rmap_sites,
                rare_sites,
                progress_sites,
                ask_sites,
                unknown_sites: Atomic::new(0),
                unreadable: Atomic::new(0),
                blind: Atomic::new(0),
                moves_unseen: Atomic::new(0),
                asked_irqs_off: Atomic::new(0),
                split_caller: Atomic::new(0),
            } ? Error),
            GFP_KERNEL,
        )
    }

    /// Returns what its events come from.
    pub(crate) fn choice(&self) -> Choice {
        self.choice
    }

    /// Returns whether it tracks every large folio, because the address of each event is known: also hugetlb,
    /// pages of drivers and device memory.
    pub(crate) fn tracks_all(&self) -> bool {
        self.choice.backend == Backend::Tracepoints
    }

    /// Returns whether its shadow is only compared with the first.
    pub(crate) fn is_second(&self) -> bool {
        self.second
    }

    /// Returns where to hook: rmap functions, progress of forks, rare functions. Those that the backend does not
    /// need are missing.
    pub(crate) fn sites(&self) -> (&Sites<12>, &Sites<5>, &Sites<5>) {
        (&self.rmap_sites, &self.progress_sites, &self.rare_sites)
    }

    /// Returns where to hook the functions that ask; those that this kernel lacks are missing.
    pub(crate) fn ask_sites(&self) -> &Sites<NR_ASKERS> {
        &self.ask_sites
    }

    /// Returns whether the function of an asker is hooked.
    pub(crate) fn asks(&self, asker: Asker) -> bool {
        self.ask_sites.has(asker.index())
    }

    /// Returns what the model asks of the kernel.
    pub(crate) fn env(&self) -> KernelEnv<'_> {
        KernelEnv::new(&self.windows, (!self.second).then_some(&self.examples))
    }

    /// Returns whether rmap calls reach the shadow.
    #[inline]
    pub(crate) fn armed(&self) -> bool {
        // ORDERING: Pairs with the release in `set_armed()`: storage is there before.
        self.armed.load(Acquire)
    }

    /// Lets rmap calls reach the shadow, or not.
    ///
    /// To be exact it must be switched on while no rmap call is running. When it is switched off, calls
    /// may be between their two hooks: then what they leave behind says nothing.
    pub(crate) fn set_armed(&self, armed: bool) {
        if armed {
            self.crosscheck.clear();
        }
        self.armed.store(armed, Release);
    }

    /// Notes whether the ends of forks and moves are seen. While they are not, a window may be left open whose
    /// VMAs are gone.
    pub(crate) fn set_ends_seen(&self, seen: bool) {
        self.ends_seen.store(seen, Relaxed);
    }

    /// Notes that tracking is switched on.
    pub(crate) fn begin_session(&self) {
        self.session.fetch_add(1, Relaxed);
    }

    /// Returns how often tracking was switched on.
    pub(crate) fn session(&self) -> u64 {
        self.session.load(Relaxed)
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

    /// Returns whether ftrace has shut itself down, so that no hook is called any more. Sleeps.
    pub(crate) fn hooks_dead(&self) -> bool {
        let ips = self.rare_sites.ips();
        let mut ips = ips.into_iter().filter(|ip| *ip != 0);
        ips.next().is_some_and(entry::is_dead)
    }

    /// Returns how often an asker was not listened to, because interrupts were off.
    pub(crate) fn asked_irqs_off(&self) -> u64 {
        self.asked_irqs_off.load(Relaxed)
    }

    /// Returns how often UFFDIO_MOVE moved a folio of which no window told where from and where to.
    pub(crate) fn moves_unseen(&self) -> u64 {
        self.moves_unseen.load(Relaxed)
    }

    /// Sets these to zero, and the counters of table and windows.
    pub(crate) fn reset_counters(&self) {
        self.table.reset_counters();
        self.windows.reset();
        self.crosscheck.reset();
        self.others.reset();
        self.unknown_sites.store(0, Relaxed);
        self.unreadable.store(0, Relaxed);
        self.blind.store(0, Relaxed);
        self.moves_unseen.store(0, Relaxed);
        self.asked_irqs_off.store(0, Relaxed);
    }

    #[inline]
    fn rmap(&self, function: RmapFunction, caller: usize, args: &RmapArgs<'_>) {
        Hook::rmap(function as usize).saw();
        if function == RmapFunction::MoveAnon {
            return self.move_anon(caller, args);
        }
        let mut site = Site::default();
        let Some((site, vma)) = read_rmap(function, args, 0, &mut site) else {
            self.unreadable.fetch_add(1, Relaxed);
            return;
        };
        let op = if function.removes() {
            Op::Remove
        } else {
            Op::Add
        };
        self.take(op, site, &vma, Origin::Caller(caller));
    }

    /// Takes mappings that are made or unmade in a page table of `vma`, under its lock.
    fn take(&self, op: Op, site: CallSite<'_>, vma: &Vma<'_>, origin: Origin) {
        match u32::from(site.class) {
            class::TRACK => self.track(op, site, vma, origin),
            class::NONLINEAR => {
                self.count(class::NONLINEAR);
                self.lose(site.pfn as u64, LostReason::NotLinear);
            }
            other => self.count(other),
        }
    }

    /// Counts a call of a class, once for both shadows.
    fn count(&self, class: u32) {
        if !self.second {
            class::count(class);
        }
    }

    fn track(&self, op: Op, site: CallSite<'_>, vma: &Vma<'_>, origin: Origin) {
        #[cfg(fmi_faults)]
        match crate::faults::times(self.second) {
            0 => return,
            2 => self.track_once(op, site, vma, origin),
            _ => {}
        }
        self.track_once(op, site, vma, origin);
    }

    #[inline]
    fn track_once(&self, mut op: Op, site: CallSite<'_>, vma: &Vma<'_>, origin: Origin) {
        let removes = op == Op::Remove;
        let mut pending = 0;
        let mut alt_base = None;
        if self.windows.any_open() {
            let va = site
                .base
                .wrapping_add((site.first as usize).wrapping_shl(u32::from(self.page_shift())));
            let judgement = self.windows.judge(vma.mm(), vma.id(), va);
            if judgement.unwalked {
                op = if removes { Op::Skip } else { Op::Touch };
            }
            if judgement.unwalked || removes {
                pending = judgement.pending;
            }
            alt_base = judgement
                .alt_delta
                .map(|delta| site.base.wrapping_add(delta) as u64);
        }
        let (caller, operation) = match origin {
            // The first counts operations.
            Origin::Caller(caller) if self.second => (caller as u64, Operation::Other),
            Origin::Fork => (CALLER_FORK, Operation::Fork),
            Origin::Caller(caller) => made_by(caller, vma),
        };
        let call = Call {
            alt_base,
            pending,
            caller,
            operation,
            ..call_of(op, &site, vma)
        };
        let env = self.env().of_call(site);
        self.table.with(call.pfn, |shard| shard.call(&call, &env));
    }

    fn lose(&self, pfn: u64, reason: LostReason) {
        self.table
            .with(pfn, |shard| shard.lose(pfn, reason, &self.env()));
    }

    /// `folio_move_anon_rmap()`: with UFFDIO_MOVE of this task open, both PMD locks are held and
    /// neither PMD maps the folio, so no call on either position can be running.
    ///
    /// Without it, the call may be one of UFFDIO_MOVE all the same: of one that began before it was hooked, because
    /// it holds no lock that could be waited for, or whose beginning was missed.
    fn move_anon(&self, caller: usize, args: &RmapArgs<'_>) {
        let Some((mm, src, dst)) = self.windows.uffd_of(current_task()) else {
            if operation::is_move(caller) == Some(true) {
                self.lose_unseen_move(args);
            }
            return;
        };
        // The window may be left over from an exit that was not seen.
        if operation::is_move(caller) == Some(false) {
            return;
        }
        let mut site = Site::default();
        let read = read_rmap(RmapFunction::MoveAnon, args, dst, &mut site);
        let Some((site, vma)) = read else {
            return;
        };
        if u32::from(site.class) == class::TRACK && vma.mm() == mm {
            self.rekey(&vma, &site, src, None);
        }
    }

    /// Loses a folio that UFFDIO_MOVE moves from somewhere to somewhere else.
    fn lose_unseen_move(&self, args: &RmapArgs<'_>) {
        let mut site = Site::default();
        let read = read_rmap(RmapFunction::MoveAnon, args, 0, &mut site);
        if let Some((site, _)) = read {
            if matches!(u32::from(site.class), class::TRACK | class::NONLINEAR) {
                self.moves_unseen.fetch_add(1, Relaxed);
                self.lose(site.pfn as u64, LostReason::Window);
            }
        }
    }

    /// The mappings in `site`, of a page table of `vma`, were at `old_base` before.
    fn rekey(&self, vma: &Vma<'_>, site: &Site, old_base: usize, old: Option<SharedTable>) {
        let pfn = site.pfn as u64;
        self.table.with(pfn, |shard| {
            shard.rekey(
                &Move {
                    pfn,
                    order: site.order,
                    mm: vma.mm() as u64,
                    old_base: old_base as u64,
                    new_base: site.base as u64,
                    tables: [old, table_of(site)],
                    level: level_of(site),
                    first: site.first,
                    nr: site.nr,
                    vma_start: site.vma_start as u64,
                    vma_end: site.vma_end as u64,
                    pid: current_pid(),
                },
                &self.env(),
            );
            if shard.learns() {
                shard.call(&call_of(Op::Found, site, vma), &self.env());
            }
        });
    }

    /// Takes in mappings that a scan found in a page table of `vma`, under its lock.
    ///
    /// Once tracking has ended, calls are not taken in any more: what is mapped by one of them would contradict the
    /// shadow. Who made it had the lock of the page table.
    pub(crate) fn found(&self, vma: &Vma<'_>, site: &Site) {
        if !self.armed() {
            return;
        }
        let pfn = site.pfn as u64;
        let not_linear = match u32::from(site.class) {
            class::TRACK => false,
            class::NONLINEAR => true,
            _ => return,
        };
        self.table.with(pfn, |shard| {
            if not_linear {
                let place = (site.order, kind_of(site));
                shard.bar(pfn, place, LostReason::NotLinear, &self.env());
            } else {
                shard.call(&call_of(Op::Found, site, vma), &self.env());
            }
        });
    }

    fn page_shift(&self) -> u8 {
        self.table.geometry().page_shift
    }
}

/// Returns the identity of a caller, and what it does.
///
/// Compilers inline a function several times: the same code is at several addresses.
fn made_by(caller: usize, vma: &Vma<'_>) -> (u64, Operation) {
    match operation::of_call(caller, vma) {
        Operation::Other => (caller as u64, Operation::Other),
        known => (known.index() as u64, known),
    }
}

/// Returns the page table of a hugetlb entry, if other MMs may share it.
pub(crate) fn table_of(site: &Site) -> Option<SharedTable> {
    (site.table != 0).then_some(SharedTable {
        id: site.table as u64,
        base: site.table_base as u64,
        shared: site.table_shared,
    })
}

fn level_of(site: &Site) -> Level {
    if site.entire {
        Level::Entire
    } else {
        Level::Pte
    }
}

pub(crate) fn kind_of(site: &Site) -> Kind {
    match u32::from(site.kind) {
        class::KIND_ANON => Kind::Anon,
        class::KIND_FILE => Kind::File,
        class::KIND_SHMEM => Kind::Shmem,
        class::KIND_HUGETLB => Kind::Hugetlb,
        class::KIND_KSM => Kind::Ksm,
        _ => Kind::Driver,
    }
}

/// Returns a call of fork; other calls have a caller and an operation of their own.
fn call_of(op: Op, site: &Site, vma: &Vma<'_>) -> Call {
    let caller = vma.caller();
    Call {
        op,
        level: level_of(site),
        pfn: site.pfn as u64,
        order: site.order,
        kind: kind_of(site),
        first: site.first,
        nr: site.nr,
        mm: caller.mm as u64,
        mm_id: caller.mm_id,
        base: site.base as u64,
        table: table_of(site),
        alt_base: None,
        vma: vma.id() as u64,
        vma_start: site.vma_start as u64,
        vma_end: site.vma_end as u64,
        task: caller.task as u64,
        pid: caller.pid,
        operation: Operation::Fork,
        caller: CALLER_FORK,
        kernel_unmapped: site.unmapped,
        pending: 0,
    }
}
/// Entry hooks on the rmap functions.
pub(crate) struct RmapHook(pub(crate) Arc<Tracker>);

impl entry::Handler for RmapHook {
    const FIRST: entry::First = if cfg!(fmi_nothing) {
        entry::First::Nothing
    } else {
        entry::First::Rmap
    };

    #[inline]
    fn entry(&self, ip: usize, caller: usize, args: Args<'_>) {
        if cfg!(fmi_nothing) || !self.0.armed() {
            return;
        }
        match self.0.rmap_sites.lookup(ip).and_then(RmapFunction::at) {
            Some(function) => {
                let _timer = measure::step(Step::Rmap);
                self.0.rmap(function, caller, &args.of_rmap());
            }
            None => {
                self.0.unknown_sites.fetch_add(1, Relaxed);
            }
        }
    }
}
