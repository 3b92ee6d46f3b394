// SPDX-License-Identifier: GPL-2.0

//! Both backends at once: two shadows of the same folios, and whether they are equal.
//!
//! With `backend=both` the hooks on functions feed the first shadow, which all files show, and the
//! tracepoints a second one, which is only compared: the kernel tells it of every mapping in its own
//! order. What is compared, and when, is `fmi_model`, `shard/twin.rs`; here is which folios, and how
//! often they are looked at.
//!
//! Lock order: the shard of the first, the same shard of the second, [`Both::found`]. Nobody else
//! holds locks of both shadows.

use kernel::{
    new_mutex,
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex,
        SpinLock, //
    }, //
};

use fmi_model::{
    compare_twins,
    Env,
    LostReason,
    Names,
    Side,
    State,
    Twin,
    TwinDifference,
    TwinPlace,
    TwinSkip, //
};

use crate::{
    compat::smp_rmb,
    env::{
        is_device,
        now_ns, //
    },
    quiesce,
    tracker::Tracker,
    who::KernelNames, //
};

/// Entries looked at under one hold of the lock of a shard.
const CHUNK: u32 = 64;

/// Folios looked at between two questions whether to go on.
const SOME: usize = 64;

/// Grace periods for which a folio is waited that is never quiet.
const MAX_LOOKS: u32 = 4;

/// Folios that are compared while the machine is stopped once.
const STOPPED: usize = 32;

/// Most times that the machine is stopped in a comparison.
const MAX_STOPS: usize = 64;

/// Differences that are kept in full.
const MAX_DETAILS: usize = 16;

/// Whether a comparison goes on; called often, with no lock held but mutexes. May sleep.
type GoOn<'a> = &'a dyn Fn() -> Result;

/// What comparisons found. A folio counts once in each.
#[derive(Clone, Copy, Default)]
pub(crate) struct Totals {
    /// Comparisons.
    pub(crate) rounds: u64,
    /// Folios of which both shadows are equal.
    pub(crate) equal: u64,
    /// Folios that differ.
    pub(crate) differences: u64,
    /// Folios that were never at rest: a call, copy or move was always under way.
    pub(crate) deferred: u64,
    /// Folios of which not all mappings are known yet to one of them.
    pub(crate) learning: u64,
    /// Folios that one has nothing of, and may have left out.
    pub(crate) absent: u64,
    /// Folios that the first has lost, by [`LostReason::index`].
    pub(crate) lost_first: [u64; LostReason::ALL.len()],
    /// Folios that the second has lost, likewise.
    pub(crate) lost_second: [u64; LostReason::ALL.len()],
    /// Times that the machine was stopped.
    pub(crate) stops: u64,
    /// Folios that were compared then.
    pub(crate) stopped: u64,
}

impl Totals {
    /// Returns how many folios were compared.
    pub(crate) fn compared(&self) -> u64 {
        self.equal + self.differences
    }

    /// Returns how many folios were lost by one of them.
    pub(crate) fn lost(&self) -> u64 {
        let sum = |lost: &[u64]| lost.iter().sum::<u64>();
        sum(&self.lost_first) + sum(&self.lost_second)
    }

    fn add(&mut self, other: &Self) {
        for (sum, n) in [
            (&mut self.rounds, other.rounds),
            (&mut self.equal, other.equal),
            (&mut self.differences, other.differences),
            (&mut self.deferred, other.deferred),
            (&mut self.learning, other.learning),
            (&mut self.absent, other.absent),
            (&mut self.stops, other.stops),
            (&mut self.stopped, other.stopped),
        ] {
            *sum = sum.saturating_add(n);
        }
        for (sums, ns) in [
            (&mut self.lost_first, &other.lost_first),
            (&mut self.lost_second, &other.lost_second),
        ] {
            for (sum, n) in sums.iter_mut().zip(ns) {
                *sum = sum.saturating_add(*n);
            }
        }
    }

    fn skip(&mut self, skip: TwinSkip) {
        let lost = match skip {
            TwinSkip::Learning => return self.learning += 1,
            TwinSkip::Absent => return self.absent += 1,
            // It was unmapped meanwhile.
            TwinSkip::Unmapped => return,
            TwinSkip::LostByFirst(reason) => self.lost_first.get_mut(reason.index()),
            TwinSkip::LostBySecond(reason) => self.lost_second.get_mut(reason.index()),
        };
        if let Some(lost) = lost {
            *lost += 1;
        }
    }
}

/// A difference, and what else was known at that moment.
#[derive(Clone, Copy)]
pub(crate) struct Detail {
    /// The difference.
    pub(crate) difference: TwinDifference,
    /// When, by the monotonic clock.
    pub(crate) time_ns: u64,
    /// A process of the MM whose record differs; 0 if none or not known.
    pub(crate) pid: u32,
    /// The kernel's count of mappings, if it could be read.
    pub(crate) kernel_large: Option<i32>,
    /// The machine was stopped.
    pub(crate) stopped: bool,
}

/// What is found while shard locks are held.
struct Found {
    /// The last differences; number `n` is at `n` modulo the length.
    details: KVVec<Detail>,
    /// Differences that were ever put in.
    nr: u64,
    /// The comparison that is under way.
    round: Totals,
}

impl Found {
    fn put(&mut self, detail: Detail) {
        let at = (self.nr % MAX_DETAILS as u64) as usize;
        match self.details.get_mut(at) {
            Some(slot) => *slot = detail,
            // Cannot fail: the room was allocated at the start.
            None => drop(self.details.push(detail, GFP_NOWAIT)),
        }
        self.nr += 1;
    }
}

/// How often what was compared.
#[derive(Clone, Copy, Default)]
struct Results {
    /// The last comparison.
    last: Totals,
    /// All of them since the last reset.
    all: Totals,
}

/// The second shadow, and what comparisons found.
#[pin_data]
pub(crate) struct Both {
    second: Option<Arc<Tracker>>,
    /// Held by the one that compares.
    #[pin]
    running: Mutex<()>,
    #[pin]
    found: SpinLock<Found>,
    #[pin]
    results: Mutex<Results>,
    /// Both have looked for all that was mapped before.
    alike: Atomic<bool>,
}

/// A folio to be compared.
#[derive(Clone, Copy)]
struct Wanted {
    pfn: u64,
    /// The states of both when they differed.
    seqs: Option<(u32, u32)>,
}

/// What became of a look at a folio.
enum Look {
    /// It is done.
    Done,
    /// It has to be looked at again; the states of both, if they differ.
    Again(Option<(u32, u32)>),
}

impl Both {
    /// Creates it; `second` is what the tracepoints feed beside the hooks on functions.
    pub(crate) fn new(second: Option<Arc<Tracker>>) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let details = KVVec::with_capacity(MAX_DETAILS, GFP_KERNEL)?;
            Ok(try_pin_init!(Self {
                second,
                running <- new_mutex!(()),
                found <- new_spinlock!(Found {
                    details,
                    nr: 0,
                    round: Totals::default(),
                }),
                results <- new_mutex!(Results::default()),
                alike: Atomic::new(false),
            } ? Error))
        })
    }

    /// Returns what the tracepoints feed, if both backends are in use.
    pub(crate) fn second(&self) -> Option<&Arc<Tracker>> {
        self.second.as_ref()
    }

    /// Returns what the last comparison found, and all of them since the last reset.
    pub(crate) fn totals(&self) -> (Totals, Totals) {
        let results = self.results.lock();
        (results.last, results.all)
    }

    /// Says whether both have looked for all that was mapped before: not from the beginning of the scan of
    /// one to the end of that of the other, nor when either has not come to its end.
    pub(crate) fn set_alike(&self, alike: bool) {
        // No ordering: what a scan finds is put into a shard under its lock, after it was said that they are
        // not alike. Who sees a folio there, under that lock, sees that, too.
        self.alike.store(alike, Relaxed);
    }

    /// Returns whether both have looked for all that was mapped before.
    pub(crate) fn alike(&self) -> bool {
        self.alike.load(Relaxed)
    }

    /// Forgets what was found.
    pub(crate) fn reset(&self) {
        *self.results.lock() = Results::default();
        let mut found = self.found.lock();
        found.details.truncate(0);
        found.nr = 0;
        found.round = Totals::default();
    }

    /// Calls `f` with the last differences and their numbers, oldest first, without a lock.
    pub(crate) fn for_each_detail(&self, mut f: impl FnMut(u64, &Detail)) {
        let mut n = self.found.lock().nr.saturating_sub(MAX_DETAILS as u64);
        loop {
            let found = self.found.lock();
            if n >= found.nr {
                break;
            }
            let at = (n % MAX_DETAILS as u64) as usize;
            let detail = found.details.get(at).copied();
            drop(found);
            if let Some(detail) = detail {
                f(n, &detail);
            }
            n += 1;
        }
    }

    /// Compares all folios that are tracked in either shadow.
    ///
    /// Folios that are never quiet are compared at last while the machine is stopped, a few at a time.
    /// A difference is kept, printed to the kernel log, and the second shadow of the folio is given
    /// up, so that it is found once.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is no second shadow or tracking is off, `ENOMEM`, and those of `go_on`.
    pub(crate) fn compare(&self, first: &Tracker, go_on: GoOn<'_>) -> Result {
        let second = self.second.as_deref().ok_or(ENODEV)?;
        let pair = Pair {
            first,
            second,
            both: self,
        };
        let _running = self.running.lock();
        self.found.lock().round = Totals::default();
        let result = pair.compare_all(go_on);
        let mut found = self.found.lock();
        found.round.rounds = 1;
        let round = found.round;
        drop(found);
        let mut results = self.results.lock();
        results.last = round;
        results.all.add(&round);
        drop(results);
        if round.differences != 0 {
            pr_warn!(
                "{} folios differ between both backends: see the file both\n",
                round.differences
            );
        }
        result
    }
}

/// Returns whether mappings of a folio in this state are known.
fn is_followed(state: State) -> bool {
    matches!(state, State::Live | State::Learning)
}

/// Drops what another shadow follows from the folios at positions from `from` on.
fn drop_followed(list: &mut KVVec<Wanted>, from: usize, other: &Tracker) {
    let mut kept = from;
    for i in from..list.len() {
        let Some(wanted) = list.get(i).copied() else {
            break;
        };
        let followed = other.table.with(wanted.pfn, |shard| {
            let view = shard.find(wanted.pfn).and_then(|entry| shard.view(entry));
            view.is_some_and(|view| is_followed(view.state))
        });
        if followed == Some(true) {
            continue;
        }
        if let Some(slot) = list.get_mut(kept) {
            *slot = wanted;
            kept += 1;
        }
    }
    list.truncate(kept);
}

/// Both shadows.
struct Pair<'a> {
    first: &'a Tracker,
    second: &'a Tracker,
    both: &'a Both,
}

impl Pair<'_> {
    fn armed(&self) -> bool {
        self.first.armed() && self.second.armed()
    }

    fn compare_all(&self, go_on: GoOn<'_>) -> Result {
        let mut list = self.folios(go_on)?;
        for _ in 0..MAX_LOOKS {
            if list.is_empty() {
                return Ok(());
            }
            go_on()?;
            self.first.settle();
            self.second.settle();
            quiesce::wait_for_calls();
            self.look_at(&mut list, go_on)?;
        }
        // What is still in the list is busy.
        for (n, some) in list.chunks(STOPPED).enumerate() {
            if n == MAX_STOPS {
                let left = list.len().saturating_sub(n * STOPPED);
                self.both.found.lock().round.deferred += left as u64;
                break;
            }
            go_on()?;
            if !self.armed() {
                return Err(ENODEV);
            }
            quiesce::while_stopped(&|| {
                for wanted in some {
                    self.look(wanted, true);
                }
            })?;
            let mut found = self.both.found.lock();
            found.round.stops += 1;
            found.round.stopped += some.len() as u64;
        }
        Ok(())
    }

    /// Looks at each folio of a list after a grace period; those to be looked at again stay in it.
    fn look_at(&self, list: &mut KVVec<Wanted>, go_on: GoOn<'_>) -> Result {
        let mut kept = 0;
        for i in 0..list.len() {
            if i % SOME == 0 {
                go_on()?;
                if !self.armed() {
                    return Err(ENODEV);
                }
            }
            let Some(mut wanted) = list.get(i).copied() else {
                break;
            };
            if let Look::Again(seqs) = self.look(&wanted, false) {
                wanted.seqs = seqs;
                if let Some(slot) = list.get_mut(kept) {
                    *slot = wanted;
                    kept += 1;
                }
            }
        }
        list.truncate(kept);
        Ok(())
    }

    /// Compares a folio, and notes what is final about it.
    fn look(&self, wanted: &Wanted, stopped: bool) -> Look {
        let (env_a, env_b) = (self.first.env(), self.second.env());
        let look = self.first.table.with(wanted.pfn, |a| {
            self.second.table.with(wanted.pfn, |b| {
                let first = Side {
                    shard: a,
                    env: &env_a,
                };
                let second = Side {
                    shard: b,
                    env: &env_b,
                };
                let difference = match compare_twins(first, second, wanted.pfn, stopped) {
                    Twin::Differs(difference) => difference,
                    Twin::Deferred if stopped => {
                        self.both.found.lock().round.deferred += 1;
                        return Look::Done;
                    }
                    Twin::Deferred => return Look::Again(None),
                    Twin::Equal => {
                        self.both.found.lock().round.equal += 1;
                        return Look::Done;
                    }
                    Twin::NotCompared(skip) => {
                        self.both.found.lock().round.skip(skip);
                        return Look::Done;
                    }
                };
                smp_rmb();
                // ORDERING: A call that was no longer taken by one of them, because tracking ends, has been
                // taken by the other under a lock that is held here. Then this sees that it ends.
                if !self.armed() {
                    return Look::Done;
                }
                if !stopped && wanted.seqs != Some(difference.seqs()) {
                    return Look::Again(Some(difference.seqs()));
                }
                // Memory of a device that drivers map as anonymous is only counted by the first.
                let mut absent = difference.first.is_none() && is_device(wanted.pfn);
                if !self.both.alike() {
                    // Not both were scanned: one may have found the folio, or have seen from a lower count that it was
                    // unmapped for a moment, when the other one was only told of another mapping. One that has an entry
                    // without mappings was told of all that there were.
                    absent |= match (&difference.first, &difference.second) {
                        (Some(view), None) => {
                            b.find(wanted.pfn).is_none() && (view.adopted || b.has_left_out())
                        }
                        (None, Some(view)) => {
                            a.find(wanted.pfn).is_none() && (view.adopted || a.has_left_out())
                        }
                        _ => false,
                    };
                }
                if absent {
                    self.both.found.lock().round.skip(TwinSkip::Absent);
                    return Look::Done;
                }
                self.note(&difference, stopped);
                b.lose(wanted.pfn, LostReason::Mismatch, &env_b);
                Look::Done
            })
        });
        look.flatten().unwrap_or(Look::Done)
    }

    /// Keeps a difference; under the locks of both shards.
    #[cold]
    fn note(&self, difference: &TwinDifference, stopped: bool) {
        let view = difference.first.or(difference.second);
        let kernel = view.and_then(|view| self.first.env().kernel_of(view.pfn, view.order));
        let pid = match difference.place {
            TwinPlace::Record { mm, .. } => KernelNames.process_of(mm),
            TwinPlace::Folio => 0,
        };
        let mut found = self.both.found.lock();
        found.round.differences += 1;
        found.put(Detail {
            difference: *difference,
            time_ns: now_ns(),
            pid,
            kernel_large: kernel.map(|counts| counts.large),
            stopped,
        });
    }

    /// Returns the folios of which either shadow has mappings.
    fn folios(&self, go_on: GoOn<'_>) -> Result<KVVec<Wanted>> {
        let mut list = KVVec::new();
        for shard in 0.. {
            if !self.add_some(shard, self.first, None, &mut list, go_on)? {
                return Ok(list);
            }
            self.add_some(shard, self.second, Some(self.first), &mut list, go_on)?;
        }
        Ok(list)
    }

    /// Adds the folios of one shard that are not tracked by another; returns whether there is such a
    /// shard.
    fn add_some(
        &self,
        shard: usize,
        of: &Tracker,
        but: Option<&Tracker>,
        list: &mut KVVec<Wanted>,
        go_on: GoOn<'_>,
    ) -> Result<bool> {
        let mut from = 0u32;
        loop {
            go_on()?;
            // Allocates without the lock.
            list.reserve(CHUNK as usize, GFP_KERNEL)?;
            let old = list.len();
            let more = of.table.with_shard(shard, |shard| {
                let end = shard.nr_slots().0.min(from.saturating_add(CHUNK));
                for view in (from..end).filter_map(|entry| shard.view(entry)) {
                    if is_followed(view.state) {
                        let (pfn, seqs) = (view.pfn, None);
                        // Cannot fail: there is room.
                        let _ = list.push(Wanted { pfn, seqs }, GFP_NOWAIT);
                    }
                }
                let more = from < end;
                from = end;
                more
            });
            if let Some(other) = but {
                // Without the lock: that of the other comes first.
                drop_followed(list, old, other);
            }
            match more {
                None => return Ok(false),
                Some(Some(true)) => {}
                Some(_) => return Ok(true),
            }
        }
    }
}
