// SPDX-License-Identifier: GPL-2.0

//! Windows: stretches of time in which mappings appear or move without an rmap call.
//!
//! * *copy*: fork copies a VMA. Its mark is the watermark: mappings of the child below
//!   it are in the shadow, those above it are not, whatever the kernel's counters already say.
//! * *move*: mremap moves page tables. A mapping may be met at the old or the new address. Its
//!   mark is an address of the new range: mappings below it have been re-keyed.
//! * *uffd*: UFFDIO_MOVE moves one PMD.
//!
//! A window is opened and closed by one task, at entry and exit of one kernel function, and
//! numbered by a *ticket* in the order of opening. Proofs: a call on a page table is before or after
//! the walk of that table, because both hold its PTL, and the watermark is moved under it.
//!
//! Windows are kept by MM, a copy by both of its MMs, so that a call looks only at those of its own MM,
//! and at a lock only if one of these is open.
//!
//! Lock order: PTL, then shard lock, then a lock in here.

use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Full,
        Relaxed, //
    }, //
};

use crate::compat::read_once;

mod bucket;
#[cfg(CONFIG_KUNIT = "y")]
mod kunit;

use bucket::{
    bucket_of,
    Bucket,
    NR_BUCKETS, //
};

/// fork copies one VMA.
#[derive(Clone, Copy)]
pub(crate) struct CopyWindow {
    src_mm: usize,
    dst_mm: usize,
    src_vma: usize,
    dst_vma: usize,
    mark: usize,
    end: usize,
}

impl CopyWindow {
    /// Returns the MMs copied from and to.
    pub(crate) fn mms(&self) -> (usize, usize) {
        (self.src_mm, self.dst_mm)
    }
}

/// What kind of window it is.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// fork copies a VMA.
    Copy(CopyWindow),
    /// mremap moves a range.
    Move {
        /// The MM.
        mm: usize,
        /// The VMA moved from.
        old_vma: usize,
        /// The VMA moved to.
        new_vma: usize,
        /// First address moved from.
        old_addr: usize,
        /// Address it moves to.
        new_addr: usize,
        /// Bytes.
        len: usize,
        /// What has moved to addresses below this one is re-keyed.
        mark: usize,
    },
    /// UFFDIO_MOVE moves a PMD.
    Uffd {
        /// The MM.
        mm: usize,
        /// Address moved to.
        dst_addr: usize,
        /// Address moved from.
        src_addr: usize,
    },
}

impl Kind {
    /// Returns the MMs whose mappings it is about, from and to.
    fn mms(&self) -> (usize, usize) {
        match *self {
            Self::Copy(copy) => copy.mms(),
            Self::Move { mm, .. } | Self::Uffd { mm, .. } => (mm, mm),
        }
    }

    /// A window for `copy_page_range()`, at its entry.
    pub(crate) fn copy(
        src_mm: usize,
        dst_mm: usize,
        src_vma: usize,
        dst_vma: usize,
        start: usize,
        end: usize,
    ) -> Self {
        Self::Copy(CopyWindow {
            src_mm,
            dst_mm,
            src_vma,
            dst_vma,
            mark: start,
            end,
        })
    }
}

/// One window.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    /// Names it.
    pub(crate) ticket: u64,
    task: usize,
    /// What it is.
    pub(crate) kind: Kind,
}

/// The running task's unfinished copy of a VMA.
///
/// Exists only while the window is open, so `copy_page_range()` has not returned and both VMAs are
/// valid; unless its exit was missed, see [`Self::vma_is_there`].
pub(crate) struct OpenCopy {
    /// The window, as it was.
    pub(crate) window: Window,
    /// The child's VMA, as an identity.
    pub(crate) dst_vma: usize,
    /// Everything below is in the shadow.
    pub(crate) mark: usize,
    /// End of the VMA.
    pub(crate) end: usize,
}

/// The running task's unfinished move.
///
/// Exists only while the window is open, so `move_page_tables()` has not returned and the VMA is
/// valid; unless its exit was missed, see [`Self::vma_is_there`].
pub(crate) struct OpenMove {
    /// The window, as it was; `None` if there was no room for one.
    pub(crate) window: Option<Window>,
    /// The VMA moved to, as an identity.
    pub(crate) new_vma: usize,
    /// Added to an old address, wrapping, gives the new one.
    pub(crate) delta: usize,
    /// What has moved to addresses below is re-keyed.
    pub(crate) mark: usize,
    /// End of the range moved to.
    pub(crate) end: usize,
}

/// How the open windows bear on one rmap call.
#[derive(Clone, Copy, Default)]
pub(crate) struct Judgement {
    /// The call is on the part of a child VMA that the walk has yet to reach: the walk will see its
    /// effect.
    pub(crate) unwalked: bool,
    /// Ticket of that copy, or of one that may have duplicated this mapping of the parent already;
    /// or 0.
    pub(crate) pending: u64,
    /// What to add to the folio's address to get the other place where the mapping may be recorded.
    pub(crate) alt_delta: Option<usize>,
}

/// What all windows share; on cache lines of its own.
struct Shared {
    /// Number of open windows, and of copies and mremaps under way that found no room.
    nr: Atomic<usize>,
    last_ticket: Atomic<u64>,
    /// Copies and mremaps under way that found no room: of what, is not known.
    roomless: Atomic<usize>,
    /// Tickets that are not to be counted.
    uncounted: Atomic<u64>,
    /// Windows that were not closed by the exit of the function that opened them.
    abnormal: Atomic<u64>,
    /// Windows that found no room.
    overflow: Atomic<u64>,
    /// Most page tables that were re-keyed at once.
    most_tables: Atomic<u64>,
}

/// Returns whether two ranges, each an address and a length, have an address in common.
///
/// Wrapping: the base of a folio may lie below its VMA, even below 0.
fn overlap(a: (usize, usize), b: (usize, usize)) -> bool {
    b.0.wrapping_sub(a.0) < a.1 || a.0.wrapping_sub(b.0) < b.1
}

/// All open windows.
#[pin_data]
pub(crate) struct Windows {
    buckets: KVec<Pin<KBox<Bucket>>>,
    shared: KBox<Shared>,
}

impl Windows {
    /// Creates the empty list, with room for [`bucket::MAX_WINDOWS`] in each bucket.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(|| {
            let mut buckets = KVec::with_capacity(NR_BUCKETS, GFP_KERNEL)?;
            for _ in 0..NR_BUCKETS {
                buckets.push(Bucket::new()?, GFP_KERNEL)?;
            }
            let shared = Shared {
                nr: Atomic::new(0),
                last_ticket: Atomic::new(0),
                roomless: Atomic::new(0),
                uncounted: Atomic::new(0),
                abnormal: Atomic::new(0),
                overflow: Atomic::new(0),
                most_tables: Atomic::new(0),
            };
            let shared = KBox::new(shared, GFP_KERNEL)?;
            Ok(try_pin_init!(Self { buckets, shared } ? Error))
        })
    }

    /// Returns whether any window is open.
    ///
    /// No stronger ordering is needed: a call that a window concerns is on a page table that the
    /// window's task locked after it had opened the window, or will lock later.
    #[inline]
    pub(crate) fn any_open(&self) -> bool {
        read_once(&self.shared.nr) != 0
    }

    /// Returns where windows of an MM are, or those of a task are counted. There always is one.
    #[inline]
    fn bucket(&self, id: usize) -> Option<&Bucket> {
        self.buckets.get(bucket_of(id)).map(|bucket| &**bucket)
    }

    /// Calls `f` with the bucket of each MM of a window, once with each, in the same order.
    fn for_each_bucket_of(&self, window: &Window, mut f: impl FnMut(&Bucket)) {
        let (from, to) = window.kind.mms();
        let (from, to) = (bucket_of(from), bucket_of(to));
        for i in [Some(from), (to != from).then_some(to)] {
            if let Some(bucket) = i.and_then(|i| self.buckets.get(i)) {
                f(bucket);
            }
        }
    }

    /// Opens a window for `task`; returns it, or `None` if there is no room.
    pub(crate) fn open(&self, task: usize, kind: Kind) -> Option<Window> {
        let shared = &self.shared;
        let ticket = shared.last_ticket.fetch_add(1, Relaxed).wrapping_add(1);
        let window = Window { ticket, task, kind };
        let mut room = true;
        self.for_each_bucket_of(&window, |bucket| room = room && bucket.put(window));
        #[cfg(fmi_faults)]
        if crate::faults::no_room() {
            room = false;
        }
        if room {
            if let Some(bucket) = self.bucket(task) {
                bucket.of_tasks.fetch_add(1, Relaxed);
            }
        } else {
            self.for_each_bucket_of(&window, |bucket| {
                bucket.take(ticket);
            });
            shared.uncounted.fetch_add(1, Relaxed);
            shared.overflow.fetch_add(1, Relaxed);
            // What UFFDIO_MOVE moves then is lost before it does.
            if matches!(kind, Kind::Uffd { .. }) {
                return None;
            }
            shared.roomless.fetch_add(1, Relaxed);
        }
        // ORDERING: Who sees a counter of the kernel that a copy has changed sees its window, in all
        // places.
        shared.nr.fetch_add(1, Full);
        room.then_some(window)
    }

    /// Closes a window; returns false, and does nothing, if somebody else does.
    pub(crate) fn close(&self, window: &Window) -> bool {
        // Who takes it out of the first bucket has closed it.
        let mut ours = None;
        self.for_each_bucket_of(window, |bucket| {
            let taken = bucket.take(window.ticket);
            ours.get_or_insert(taken);
        });
        let ours = ours == Some(true);
        if ours {
            if let Some(bucket) = self.bucket(window.task) {
                bucket.of_tasks.fetch_sub(1, Relaxed);
            }
            self.shared.nr.fetch_sub(1, Relaxed);
        }
        ours
    }

    /// Returns what `f` returns for the first window of `task` for which that is something.
    fn of_task<R>(&self, task: usize, mut f: impl FnMut(&Window) -> Option<R>) -> Option<R> {
        // The task itself, or a reader when it is gone, knows of its windows.
        if self.bucket(task)?.of_tasks.load(Relaxed) == 0 {
            return None;
        }
        let mut ours = |w: &Window| if w.task == task { f(w) } else { None };
        self.buckets
            .iter()
            .find_map(|bucket| bucket.find_map(&mut ours))
    }

    /// Returns the move or UFFDIO_MOVE window of `task`.
    pub(crate) fn any_move_of(&self, task: usize) -> Option<Window> {
        self.of_task(task, |w| (!matches!(w.kind, Kind::Copy(_))).then_some(*w))
    }

    /// Returns the unfinished copy of `task`.
    pub(crate) fn copy_of(&self, task: usize, dst_mm: usize) -> Option<OpenCopy> {
        self.bucket(dst_mm)?.find_map(|w| match w.kind {
            Kind::Copy(c) if w.task == task && c.dst_mm == dst_mm => Some(OpenCopy {
                window: *w,
                dst_vma: c.dst_vma,
                mark: c.mark,
                end: c.end,
            }),
            _ => None,
        })
    }

    /// Returns the unfinished move of `task` in this MM.
    pub(crate) fn move_of(&self, task: usize, in_mm: usize) -> Option<OpenMove> {
        self.bucket(in_mm)?.find_map(|w| match w.kind {
            Kind::Move {
                mm,
                new_vma,
                old_addr,
                new_addr,
                len,
                mark,
                ..
            } if w.task == task && in_mm == mm => Some(OpenMove {
                window: Some(*w),
                new_vma,
                delta: new_addr.wrapping_sub(old_addr),
                mark,
                end: new_addr.saturating_add(len),
            }),
            _ => None,
        })
    }

    /// Closes a window that `task` left open, and counts it.
    ///
    /// A task has one window at a time, so when it opens another none may be open.
    pub(crate) fn take_stale(&self, task: usize) -> Option<Window> {
        let stale = self.of_task(task, |w| Some(*w))?;
        if self.close(&stale) {
            self.shared.abnormal.fetch_add(1, Relaxed);
        }
        Some(stale)
    }

    /// Counts a call whose exit was missed and that needs no window.
    pub(crate) fn note_abnormal(&self) {
        self.shared.abnormal.fetch_add(1, Relaxed);
    }

    /// Returns ticket and task of the first window that was opened after this ticket.
    pub(crate) fn next_open(&self, ticket: u64) -> Option<(u64, usize)> {
        let first = |bucket: &Pin<KBox<Bucket>>| {
            let windows = bucket.lock();
            let later = windows.iter().filter(|w| w.ticket > ticket);
            later.map(|w| (w.ticket, w.task)).min()
        };
        if !self.any_open() {
            return None;
        }
        self.buckets.iter().filter_map(first).min()
    }

    /// Returns whether a copy or mremap is under way that found no room.
    pub(crate) fn lack(&self) -> bool {
        self.shared.roomless.load(Relaxed) != 0
    }

    /// Notes that a copy or mremap is over that found no room.
    pub(crate) fn close_overflow(&self) {
        let roomless = &self.shared.roomless;
        let mut nr = roomless.load(Relaxed);
        // One that is not known was forgotten by `clear()`.
        while let Some(less) = nr.checked_sub(1) {
            match roomless.cmpxchg(nr, less, Relaxed) {
                Ok(_) => {
                    self.shared.nr.fetch_sub(1, Relaxed);
                    return;
                }
                Err(other) => nr = other,
            }
        }
    }

    /// Returns where UFFDIO_MOVE of `task` moves a PMD: MM, from, to.
    pub(crate) fn uffd_of(&self, task: usize) -> Option<(usize, usize, usize)> {
        self.of_task(task, |w| match w.kind {
            Kind::Uffd {
                mm,
                dst_addr,
                src_addr,
            } => Some((mm, src_addr, dst_addr)),
            _ => None,
        })
    }

    /// Moves the mark of a copy or move; under the PTL of the page table that ends at `to`.
    ///
    /// In one bucket after the other: who looks meanwhile finds that the window has yet to come to a
    /// mapping that is known already, which does no harm; on the page table that it is about, nobody
    /// does.
    pub(crate) fn advance(&self, window: &Window, to: usize) {
        self.for_each_bucket_of(window, |bucket| {
            let mut windows = bucket.lock();
            if let Some(w) = windows.iter_mut().find(|w| w.ticket == window.ticket) {
                match &mut w.kind {
                    Kind::Copy(CopyWindow { mark, .. }) | Kind::Move { mark, .. } => {
                        *mark = to.max(*mark);
                    }
                    Kind::Uffd { .. } => {}
                }
            }
        });
    }

    /// Notes that so many page tables were re-keyed at once.
    pub(crate) fn note_tables(&self, nr: u64) {
        let most = &self.shared.most_tables;
        let mut known = most.load(Relaxed);
        while nr > known {
            match most.cmpxchg(known, nr, Relaxed) {
                Ok(_) => return,
                Err(other) => known = other,
            }
        }
    }

    /// Says how the open windows bear on a call on `vma`, of `mm`, at `va`; under the PTL of the call.
    #[inline]
    pub(crate) fn judge(&self, mm: usize, vma: usize, va: usize) -> Judgement {
        match self.bucket(mm) {
            Some(bucket) if !bucket.is_empty() => Self::judge_in(bucket, vma, va),
            _ => Judgement::default(),
        }
    }

    fn judge_in(bucket: &Bucket, vma: usize, va: usize) -> Judgement {
        let mut judgement = Judgement::default();
        for w in bucket.lock().iter() {
            match w.kind {
                Kind::Copy(c) if c.dst_vma == vma && va >= c.mark => {
                    judgement.unwalked = true;
                    judgement.pending = judgement.pending.max(w.ticket);
                }
                Kind::Copy(c) if c.src_vma == vma && va >= c.mark => {
                    judgement.pending = judgement.pending.max(w.ticket);
                }
                Kind::Move {
                    old_vma,
                    new_vma,
                    old_addr,
                    new_addr,
                    ..
                } if old_vma != new_vma => {
                    let delta = new_addr.wrapping_sub(old_addr);
                    if old_vma == vma {
                        judgement.alt_delta = Some(delta);
                    } else if new_vma == vma {
                        judgement.alt_delta = Some(delta.wrapping_neg());
                    }
                }
                _ => {}
            }
        }
        judgement
    }

    /// Returns whether a copy has yet to reach a part of this range of its source MM.
    pub(crate) fn covers(&self, mm: usize, base: usize, len: usize) -> bool {
        let covered = |w: &Window| match w.kind {
            Kind::Copy(c) if c.src_mm == mm => {
                overlap((c.mark, c.end.wrapping_sub(c.mark)), (base, len)).then_some(())
            }
            _ => None,
        };
        let bucket = self.bucket(mm);
        bucket.is_some_and(|bucket| bucket.find_map(covered).is_some()) || self.lack()
    }

    /// Returns whether an mremap or UFFDIO_MOVE moves a part of this range, or moves something to it,
    /// just now.
    ///
    /// Then mappings that the shadow has in the range may be at the other place already. Where it
    /// returns `false` under the lock of a shard, the positions that the shard has are those of
    /// the page tables: a window opens before its first mapping moves, and closes after the last
    /// has been re-keyed.
    pub(crate) fn moving(&self, mm: usize, base: usize, len: usize) -> bool {
        let Some(bucket) = self.bucket(mm) else {
            return false;
        };
        // Not only if there are any: without the lock this CPU may not know it yet.
        let windows = bucket.lock();
        windows.iter().any(|w| match w.kind {
            Kind::Move {
                mm: moved,
                old_addr,
                new_addr,
                len: bytes,
                ..
            } if moved == mm => {
                overlap((old_addr, bytes), (base, len)) || overlap((new_addr, bytes), (base, len))
            }
            Kind::Uffd {
                mm: moved,
                dst_addr,
                src_addr,
            } if moved == mm => {
                overlap((src_addr, 1), (base, len)) || overlap((dst_addr, 1), (base, len))
            }
            _ => false,
        })
    }

    /// Returns whether a copy that was opened no later than `ticket` is open.
    pub(crate) fn ticket_open(&self, ticket: u64) -> bool {
        let is_it =
            |w: &Window| (w.ticket <= ticket && matches!(w.kind, Kind::Copy(_))).then_some(());
        let mut buckets = self.buckets.iter();
        buckets.any(|bucket| bucket.find_map(is_it).is_some())
    }

    /// Forgets all windows; once no hook can open or close one. A reader may be closing one.
    pub(crate) fn clear(&self) {
        for bucket in &self.buckets {
            while let Some(window) = bucket.find_map(|w| Some(*w)) {
                self.close(&window);
            }
        }
        while self.lack() {
            self.close_overflow();
        }
    }

    /// Sets the statistics to zero.
    pub(crate) fn reset(&self) {
        self.shared.abnormal.store(0, Relaxed);
        self.shared.overflow.store(0, Relaxed);
        self.shared.most_tables.store(0, Relaxed);
    }

    /// Returns the most page tables that were re-keyed at once.
    pub(crate) fn most_tables(&self) -> u64 {
        self.shared.most_tables.load(Relaxed)
    }

    /// Begins anew to count windows: those that are open now are not counted as opened.
    pub(crate) fn uncount(&self) {
        let last = self.shared.last_ticket.load(Relaxed);
        self.shared.uncounted.store(last, Relaxed);
    }

    /// Returns `(opened, open, abnormal, overflow)`.
    pub(crate) fn counts(&self) -> (u64, u64, u64, u64) {
        let shared = &self.shared;
        let open = shared.nr.load(Relaxed);
        (
            shared
                .last_ticket
                .load(Relaxed)
                .saturating_sub(shared.uncounted.load(Relaxed)),
            open.saturating_sub(shared.roomless.load(Relaxed)) as u64,
            shared.abnormal.load(Relaxed),
            shared.overflow.load(Relaxed),
        )
    }
}
