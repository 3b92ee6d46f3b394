// SPDX-License-Identifier: GPL-2.0

//! The scan: everything that was mapped before anybody listened.
//!
//! The shards learn (`fmi_model`, `shard/learn.rs`) while the page tables of one MM after the other are
//! looked through, a limited number of them under one hold of the mmap lock. Whatever happens
//! meanwhile, what is known of a folio is a part of its mappings. At the end the numbers are compared
//! with the kernel's: of folios that stand still after a grace period, of those that do not while the
//! machine is stopped for a few of them. Equal: tracked from then on. Not: some MM was not seen.
//!
//! A child of fork need not be scanned: the walk behind fork takes in all that it maps. One that was
//! about to begin when the list of MMs was made is in the list of the next pass, or, like any MM that no
//! task leads to, in the reverse map of the folio that it maps.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Mutex, //
    },
    time::{
        Instant,
        Monotonic, //
    }, //
};

use fmi_model::{
    Adoption,
    LostReason, //
};

mod known;

use crate::{
    coverage::Coverage,
    env::{
        longest,
        now_ns, //
    },
    hook::args::Vma,
    mm::{
        MmStruct,
        ReadGuard, //
    },
    procwalk::{
        pause,
        BUDGET, //
    },
    quiesce,
    raw::fmi_site as Site,
    tracker::Tracker,
    walk::{
        walk_some,
        Visitor, //
    },
    who::Leaving, //
};

use known::Known;

/// Most times that a list of MMs is made.
const MAX_PASSES: u64 = 4;

/// Most times that all of it is done, while folios are lost that another one would find.
const MAX_ATTEMPTS: u64 = 3;

/// Most times that folios are tried whose counters did not stand still.
const MAX_ROUNDS: u32 = 64;

/// Rounds after which a folio whose counters differ is given up: each is a grace period, in which
/// somebody who still has the last reference to an MM without tasks may let it go.
const PATIENCE: u32 = 40;

/// Rounds from one look at the reverse maps of the folios that are still learning to the next.
const SEARCH_EVERY: u32 = 8;

/// Longest time, in milliseconds, that is waited for MMs that are taken down: no task has them any
/// more, and they still map what has not been zapped yet.
const LEAVING_MS: i64 = 20_000;

/// VMAs that may be looked at under one hold of the mmap lock.
const MAX_VMAS: usize = 64;

/// Folios that are compared while the machine is stopped once.
const STOPPED: usize = 32;

/// Entries looked at under one hold of the lock of a shard.
const CHUNK: u32 = 256;

/// Folios tried between two looks for a signal.
const SOME: usize = 64;

/// How the last scan ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There was none since tracking was switched on.
    Never,
    /// It goes through page tables.
    Scanning,
    /// It compares with the kernel's counters.
    Settling,
    /// It came to its end.
    Done,
    /// A signal ended it.
    Interrupted,
    /// Tracking was switched off meanwhile.
    Stopped,
    /// Memory ran out.
    Failed,
}

impl Progress {
    const ALL: [Self; 7] = [
        Self::Never,
        Self::Scanning,
        Self::Settling,
        Self::Done,
        Self::Interrupted,
        Self::Stopped,
        Self::Failed,
    ];

    /// Returns the name used in files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Scanning => "scanning",
            Self::Settling => "settling",
            Self::Done => "done",
            Self::Interrupted => "interrupted",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// Numbers of the last scan.
#[derive(Clone, Copy)]
pub(crate) struct Numbers {
    /// Times that all of it was done.
    pub(crate) attempts: u64,
    /// Lists of MMs that were made.
    pub(crate) passes: u64,
    /// MMs found in them.
    pub(crate) mms: u64,
    /// Those of them that are done.
    pub(crate) mms_done: u64,
    /// MMs found in reverse maps, because no task had led to them, and gone through.
    pub(crate) mms_by_rmap: u64,
    /// Page tables looked into.
    pub(crate) tables: u64,
    /// Times that the machine was stopped.
    pub(crate) stops: u64,
    /// Folios given up because some MM was not seen.
    pub(crate) unseen: u64,
    /// The longest that an mmap lock was held, in nanoseconds.
    pub(crate) longest_lock: u64,
    /// The longest that we kept the machine stopped, in nanoseconds.
    pub(crate) longest_stop: u64,
}

/// Keeps the longest time since `start`; there is one that scans.
fn raise(most: &Atomic<u64>, start: u64) {
    let mut ns = most.load(Relaxed);
    longest(&mut ns, start);
    most.store(ns, Relaxed);
}

/// The scan.
#[pin_data]
pub(crate) struct Scan {
    /// Held by the one that scans; what it found at last.
    #[pin]
    running: Mutex<()>,
    #[pin]
    coverage: Mutex<Option<Coverage>>,
    progress: Atomic<u32>,
    attempts: Atomic<u64>,
    passes: Atomic<u64>,
    mms: Atomic<u64>,
    mms_done: Atomic<u64>,
    mms_by_rmap: Atomic<u64>,
    tables: Atomic<u64>,
    stops: Atomic<u64>,
    unseen: Atomic<u64>,
    longest_lock: Atomic<u64>,
    longest_stop: Atomic<u64>,
}

impl Scan {
    /// Creates one that has not begun.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            running <- new_mutex!(()),
            coverage <- new_mutex!(None),
            progress: Atomic::new(0),
            attempts: Atomic::new(0),
            passes: Atomic::new(0),
            mms: Atomic::new(0),
            mms_done: Atomic::new(0),
            mms_by_rmap: Atomic::new(0),
            tables: Atomic::new(0),
            stops: Atomic::new(0),
            unseen: Atomic::new(0),
            longest_lock: Atomic::new(0),
            longest_stop: Atomic::new(0),
        })
    }

    /// Returns how far it is.
    pub(crate) fn progress(&self) -> Progress {
        let n = self.progress.load(Relaxed);
        let progress = Progress::ALL.get(n as usize).copied();
        progress.unwrap_or(Progress::Never)
    }

    fn set_progress(&self, progress: Progress) {
        self.progress.store(progress as u32, Relaxed);
    }

    /// Returns its numbers.
    pub(crate) fn numbers(&self) -> Numbers {
        Numbers {
            attempts: self.attempts.load(Relaxed),
            passes: self.passes.load(Relaxed),
            mms: self.mms.load(Relaxed),
            mms_done: self.mms_done.load(Relaxed),
            mms_by_rmap: self.mms_by_rmap.load(Relaxed),
            tables: self.tables.load(Relaxed),
            stops: self.stops.load(Relaxed),
            unseen: self.unseen.load(Relaxed),
            longest_lock: self.longest_lock.load(Relaxed),
            longest_stop: self.longest_stop.load(Relaxed),
        }
    }

    /// Calls `f` with what was found to be tracked when that was last looked at.
    pub(crate) fn with_coverage<R>(&self, f: impl FnOnce(Option<&Coverage>) -> R) -> R {
        f(self.coverage.lock().as_ref())
    }

    /// Looks again at what is tracked.
    ///
    /// # Errors
    ///
    /// See [`Coverage::take`].
    pub(crate) fn look(&self, tracker: &Tracker) -> Result {
        let coverage = Coverage::take(tracker)?;
        *self.coverage.lock() = Some(coverage);
        Ok(())
    }

    /// Forgets everything, because tracking begins anew.
    pub(crate) fn restart(&self) {
        for number in [
            &self.attempts,
            &self.passes,
            &self.mms,
            &self.mms_done,
            &self.mms_by_rmap,
            &self.tables,
            &self.stops,
            &self.unseen,
            &self.longest_lock,
            &self.longest_stop,
        ] {
            number.store(0, Relaxed);
        }
        self.set_progress(Progress::Never);
        *self.coverage.lock() = None;
    }

    /// Scans for what was mapped before the session [`Tracker::session`]; waits for another one that is
    /// under way.
    ///
    /// May take seconds. Ends early when tracking is switched off, which is no error.
    ///
    /// # Errors
    ///
    /// `EINTR` if a signal is pending, `ENOMEM`. What was learned until then is tracked as far as it
    /// is complete; the rest is lost, as folios of which an MM was not seen.
    pub(crate) fn run(&self, tracker: &Tracker, session: u64) -> Result {
        let running = self.running.lock();
        let walker = Walker {
            scan: self,
            tracker,
            session,
        };
        if walker.stopped() {
            return Ok(());
        }
        self.restart();
        let mut result = walker.attempt();
        for _ in 1..MAX_ATTEMPTS {
            let curable = |coverage: Option<&Coverage>| coverage.is_some_and(Coverage::is_curable);
            if walker.stopped() || result.is_err() || !self.with_coverage(curable) {
                break;
            }
            result = walker.attempt();
        }
        let stopped = walker.stopped();
        self.set_progress(match result {
            _ if stopped => Progress::Stopped,
            Ok(()) => Progress::Done,
            Err(e) if e == EINTR => Progress::Interrupted,
            Err(_) => Progress::Failed,
        });
        drop(running);
        if stopped {
            return Ok(());
        }
        result
    }
}

/// One scan of one session.
struct Walker<'a> {
    scan: &'a Scan,
    tracker: &'a Tracker,
    session: u64,
}

/// Takes in what page tables map.
struct Finder<'a> {
    tracker: &'a Tracker,
    vma: Vma<'a>,
}

impl Visitor for Finder<'_> {
    fn leaf(&mut self, _va: usize, site: &Site) {
        self.tracker.found(&self.vma, site);
    }
}

impl Walker<'_> {
    /// Returns whether tracking has ended.
    fn stopped(&self) -> bool {
        !self.tracker.armed() || self.tracker.session() != self.session
    }

    /// Learns, and looks what came of it.
    fn attempt(&self) -> Result {
        self.scan.attempts.fetch_add(1, Relaxed);
        let table = &self.tracker.table;
        table.for_each_shard(|shard| shard.begin_learning());
        let result = self.all();
        table.for_each_shard(|shard| shard.stop_learning());
        if self.stopped() {
            return result;
        }
        self.give_up_rest();
        result.and_then(|()| self.scan.look(self.tracker))
    }

    fn all(&self) -> Result {
        self.scan.set_progress(Progress::Scanning);
        let mut known = Known::default();
        for _ in 0..MAX_PASSES {
            self.scan.passes.fetch_add(1, Relaxed);
            let list = MmStruct::all()?;
            let nr = list.iter().filter(|mm| !known.has(mm)).count();
            self.scan.mms.fetch_add(nr as u64, Relaxed);
            let mut new = KVVec::with_capacity(nr, GFP_KERNEL)?;
            for mm in list {
                if known.has(&mm) {
                    continue;
                }
                if self.mm(&mm)? {
                    new.push(mm, GFP_KERNEL)?;
                }
                self.scan.mms_done.fetch_add(1, Relaxed);
                if self.stopped() {
                    return Ok(());
                }
            }
            if nr == 0 {
                break;
            }
            known.add(new)?;
        }
        self.scan.set_progress(Progress::Settling);
        self.settle(&mut known)
    }

    /// Goes through the page tables of an MM; returns `false` if nobody uses it any more: it is being taken
    /// down.
    fn mm(&self, mm: &MmStruct) -> Result<bool> {
        let Some(mm) = mm.users() else {
            return Ok(false);
        };
        let mut addr = 0;
        loop {
            pause()?;
            if self.stopped() {
                return Ok(true);
            }
            let guard = mm.read_lock_killable()?;
            let start = now_ns();
            let mut budget = BUDGET;
            let end = self.some_vmas(&guard, &mut addr, &mut budget);
            raise(&self.scan.longest_lock, start);
            let used = BUDGET.saturating_sub(budget);
            self.scan.tables.fetch_add(used.into(), Relaxed);
            if end {
                return Ok(true);
            }
        }
    }

    /// Goes on from `addr` as far as `budget` allows; returns whether that was the last VMA.
    fn some_vmas(&self, guard: &ReadGuard<'_>, addr: &mut usize, budget: &mut u32) -> bool {
        let all = self.tracker.tracks_all();
        for _ in 0..MAX_VMAS {
            let Some(vma) = guard.find_vma(*addr) else {
                return true;
            };
            if !vma.is_looked_at(all) {
                *addr = vma.end;
                continue;
            }
            let mut finder = Finder {
                tracker: self.tracker,
                vma: Vma::of_locked(&vma),
            };
            let start = vma.start.max(*addr);
            *addr = walk_some(guard, (&vma, all), start, budget, &mut finder);
            if *addr < vma.end {
                break;
            }
        }
        false
    }

    /// Returns the folios that are learning.
    fn learning(&self) -> Result<KVVec<u64>> {
        let mut list = KVVec::new();
        for i in 0.. {
            let mut from = 0u32;
            loop {
                // Allocates without the lock.
                list.reserve(CHUNK as usize, GFP_KERNEL)?;
                let next = self.tracker.table.with_shard(i, |shard| {
                    let end = shard.nr_slots().0.min(from.saturating_add(CHUNK));
                    for pfn in (from..end).filter_map(|entry| shard.learning_at(entry)) {
                        // Cannot fail: there is room.
                        let _ = list.push(pfn, GFP_NOWAIT);
                    }
                    let more = from < end;
                    from = end;
                    more.then_some(())
                });
                match next {
                    None => return Ok(list),
                    Some(Some(Some(()))) => {}
                    Some(_) => break,
                }
            }
        }
        Ok(list)
    }

    /// Adopts a folio, or gives it up if that cannot be and `hopeless` says so of why.
    fn adopt_or_lose(&self, pfn: u64, hopeless: impl Fn(Adoption) -> bool) -> Adoption {
        let env = self.tracker.env();
        let adoption = self.tracker.table.with(pfn, |shard| {
            let adoption = shard.adopt(pfn, false, &env);
            let given_up = hopeless(adoption) && !(shard.learns() && shard.was_relearned(pfn));
            if !matches!(adoption, Adoption::Adopted | Adoption::Gone) && given_up {
                if shard.give_up_learning(pfn, &env) == LostReason::UnseenMm {
                    self.scan.unseen.fetch_add(1, Relaxed);
                }
            }
            adoption
        });
        adoption.unwrap_or(Adoption::Gone)
    }

    /// Goes through the MMs that map folios which are still learning and that no task has led to; returns
    /// whether somebody may have mapped such a folio who is being taken down, or could not be looked for.
    ///
    /// Such MMs are those that a process uses without being of it, those of which the last task has gone, and those
    /// that a fork makes which began before its calls were seen: it may be held up for long before its
    /// task exists.
    fn search(&self, list: &[u64], known: &mut Known) -> Result<bool> {
        #[cfg(fmi_faults)]
        if crate::faults::no_search() {
            return Ok(false);
        }
        let mut wait = false;
        for pfn in list.iter().copied() {
            pause()?;
            if self.stopped() {
                break;
            }
            let mms = match MmStruct::all_of_folio(pfn) {
                Ok(mms) => mms,
                Err(e) if e == ENOMEM => return Err(e),
                Err(e) => {
                    wait |= e == EAGAIN;
                    continue;
                }
            };
            let mut new = KVVec::new();
            for mm in mms {
                if known.has(&mm) {
                    continue;
                }
                if self.mm(&mm)? {
                    self.scan.mms_by_rmap.fetch_add(1, Relaxed);
                    new.push(mm, GFP_KERNEL)?;
                } else {
                    wait = true;
                }
            }
            known.add(new)?;
        }
        Ok(wait)
    }

    /// Adopts what is known as a whole.
    ///
    /// A folio whose counters differ is given up; one that a copy is busy with is tried again.
    fn settle(&self, known: &mut Known) -> Result {
        // MMs that were scanned or that fork made later are known. So whoever maps unseen is leaving now, or
        // no task leads to it.
        let mut leaving = Leaving::now()?;
        let start = Instant::<Monotonic>::now();
        let (mut round, mut turn, mut goes) = (0u32, 0u32, false);
        while round < MAX_ROUNDS {
            let list = self.learning()?;
            if list.is_empty() || self.stopped() {
                break;
            }
            pause()?;
            turn = turn.wrapping_add(1);
            let search = turn % SEARCH_EVERY == 0;
            if search {
                goes = self.search(&list, known)?;
            }
            let late = start.elapsed().as_millis() >= LEAVING_MS;
            let wait = (leaving.any() || goes) && !late;
            round = if wait { 0 } else { round.saturating_add(1) };
            quiesce::wait_for_calls();
            let mut busy = KVVec::with_capacity(list.len(), GFP_KERNEL)?;
            for (i, pfn) in list.iter().copied().enumerate() {
                if i % SOME == 0 {
                    pause()?;
                }
                let hopeless = |why| round > PATIENCE && why == Adoption::Differs;
                if self.adopt_or_lose(pfn, hopeless) == Adoption::Busy {
                    busy.push(pfn, GFP_KERNEL)?;
                }
            }
            // Who waits for seconds does not stop the machine each time.
            if wait && turn > SEARCH_EVERY && !search {
                continue;
            }
            for some in busy.chunks(STOPPED) {
                if self.stopped() {
                    break;
                }
                pause()?;
                self.scan.stops.fetch_add(1, Relaxed);
                quiesce::while_stopped(&|| {
                    let start = now_ns();
                    let env = self.tracker.env();
                    for pfn in some.iter().copied() {
                        let table = &self.tracker.table;
                        table.with(pfn, |shard| shard.adopt(pfn, true, &env));
                    }
                    raise(&self.scan.longest_stop, start);
                })?;
            }
        }
        Ok(())
    }

    /// Gives up what is still not known as a whole.
    fn give_up_rest(&self) {
        // Without memory for a list, calls and the next scan still know which folios those are.
        let list = self.learning().unwrap_or_default();
        if list.is_empty() {
            return;
        }
        // A signal may have come before the calls were over that were running when they were found.
        quiesce::wait_for_calls();
        for pfn in list.iter().copied() {
            self.adopt_or_lose(pfn, |_| true);
        }
    }
}
