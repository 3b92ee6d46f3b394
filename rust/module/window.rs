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
//! Lock order: PTL, then shard lock, then the lock in here.

use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        SpinLock, //
    }, //
};

use crate::compat::read_once;

#[cfg(CONFIG_KUNIT = "y")]
mod kunit;

/// Most windows that can be open at the same time: one for each task inside fork or mremap.
const MAX_WINDOWS: usize = 1024;

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
/// valid.
pub(crate) struct OpenCopy {
    /// Names the window.
    pub(crate) ticket: u64,
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
/// valid.
pub(crate) struct OpenMove {
    /// Names the window.
    pub(crate) ticket: u64,
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

struct Open {
    windows: KVVec<Window>,
    last_ticket: u64,
    /// Most page tables that were re-keyed at once.
    most_tables: u64,
    /// Copies under way that found no room: of what, is not known.
    roomless: usize,
}

impl Open {
    fn nr(&self) -> usize {
        self.windows.len().saturating_add(self.roomless)
    }
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
    #[pin]
    open: SpinLock<Open>,
    /// The last ticket of windows that are not to be counted any more.
    uncounted: Atomic<u64>,
    /// Length of the list, for a look without the lock.
    nr: Atomic<usize>,
    /// Windows that were not closed by the exit of the function that opened them.
    abnormal: Atomic<u64>,
    /// Windows that found no room.
    overflow: Atomic<u64>,
}

impl Windows {
    /// Creates the empty list, with room for [`MAX_WINDOWS`].
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(|| {
            let windows = KVVec::with_capacity(MAX_WINDOWS, GFP_KERNEL)?;
            Ok(try_pin_init!(Self {
                open <- new_spinlock!(Open { windows, last_ticket: 0, most_tables: 0, roomless: 0 }),
                uncounted: Atomic::new(0),
                nr: Atomic::new(0),
                abnormal: Atomic::new(0),
                overflow: Atomic::new(0),
            } ? Error))
        })
    }

    /// Returns whether any window is open.
    ///
    /// No stronger ordering is needed: a call that a window concerns is on a page table that the
    /// window's task locked after it had opened the window, or will lock later.
    #[inline]
    pub(crate) fn any_open(&self) -> bool {
        read_once(&self.nr) != 0
    }

    /// Opens a window for `task`; returns its ticket, or `None` if there is no room.
    pub(crate) fn open(&self, task: usize, kind: Kind) -> Option<u64> {
        let mut open = self.open.lock();
        if open.windows.len() >= MAX_WINDOWS {
            self.overflow.fetch_add(1, Relaxed);
            if matches!(kind, Kind::Copy(_)) {
                open.roomless = open.roomless.saturating_add(1);
                self.nr.store(open.nr(), Relaxed);
            }
            return None;
        }
        open.last_ticket = open.last_ticket.wrapping_add(1);
        let ticket = open.last_ticket;
        // Cannot fail: the room was checked, nothing is allocated.
        open.windows
            .push(Window { ticket, task, kind }, GFP_NOWAIT)
            .ok()?;
        self.nr.store(open.nr(), Relaxed);
        Some(ticket)
    }

    /// Closes a window.
    pub(crate) fn close(&self, ticket: u64) {
        let mut open = self.open.lock();
        if let Some(i) = open.windows.iter().position(|w| w.ticket == ticket) {
            let last = open.windows.len().saturating_sub(1);
            open.windows.swap(i, last);
            open.windows.truncate(last);
        }
        self.nr.store(open.nr(), Relaxed);
    }

    /// Returns the ticket of a window of `task` for which `which` holds.
    fn find(&self, task: usize, which: impl Fn(&Kind) -> bool) -> Option<u64> {
        let open = self.open.lock();
        let window = open
            .windows
            .iter()
            .find(|w| w.task == task && which(&w.kind));
        window.map(|w| w.ticket)
    }

    /// Returns the ticket of the move or UFFDIO_MOVE window of `task`.
    pub(crate) fn ticket_of_move(&self, task: usize) -> Option<u64> {
        self.find(task, |kind| !matches!(kind, Kind::Copy(_)))
    }

    /// Returns the unfinished copy of `task`.
    pub(crate) fn copy_of(&self, task: usize, dst_mm: usize) -> Option<OpenCopy> {
        let open = self.open.lock();
        open.windows.iter().find_map(|w| match w.kind {
            Kind::Copy(c) if w.task == task && c.dst_mm == dst_mm => Some(OpenCopy {
                ticket: w.ticket,
                dst_vma: c.dst_vma,
                mark: c.mark,
                end: c.end,
            }),
            _ => None,
        })
    }

    /// Returns the unfinished move of `task` in this MM, or in whatever MM.
    pub(crate) fn move_of(&self, task: usize, in_mm: Option<usize>) -> Option<OpenMove> {
        let open = self.open.lock();
        open.windows.iter().find_map(|w| match w.kind {
            Kind::Move {
                mm,
                new_vma,
                old_addr,
                new_addr,
                len,
                mark,
                ..
            } if w.task == task && in_mm.is_none_or(|of| of == mm) => Some(OpenMove {
                ticket: w.ticket,
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
        let open = self.open.lock();
        let stale = open.windows.iter().find(|w| w.task == task).copied();
        drop(open);
        let stale = stale?;
        self.close(stale.ticket);
        self.abnormal.fetch_add(1, Relaxed);
        Some(stale)
    }

    /// Returns ticket and task of the first window that was opened after this ticket.
    pub(crate) fn next_open(&self, ticket: u64) -> Option<(u64, usize)> {
        if !self.any_open() {
            return None;
        }
        let open = self.open.lock();
        let later = open.windows.iter().filter(|w| w.ticket > ticket);
        later.map(|w| (w.ticket, w.task)).min()
    }

    /// Notes that a copy is over that found no room.
    pub(crate) fn close_overflow(&self) {
        let mut open = self.open.lock();
        open.roomless = open.roomless.saturating_sub(1);
        self.nr.store(open.nr(), Relaxed);
    }

    /// Returns where UFFDIO_MOVE of `task` moves a PMD: MM, from, to.
    pub(crate) fn uffd_of(&self, task: usize) -> Option<(usize, usize, usize)> {
        let open = self.open.lock();
        open.windows.iter().find_map(|w| match w.kind {
            Kind::Uffd {
                mm,
                dst_addr,
                src_addr,
            } if w.task == task => Some((mm, src_addr, dst_addr)),
            _ => None,
        })
    }

    /// Moves the mark of a copy or move; under the PTL of the page table that ends at `to`.
    pub(crate) fn advance(&self, ticket: u64, to: usize) {
        let mut open = self.open.lock();
        if let Some(w) = open.windows.iter_mut().find(|w| w.ticket == ticket) {
            match &mut w.kind {
                Kind::Copy(CopyWindow { mark, .. }) | Kind::Move { mark, .. } => {
                    *mark = to.max(*mark);
                }
                Kind::Uffd { .. } => {}
            }
        }
    }

    /// Notes that so many page tables were re-keyed at once.
    pub(crate) fn note_tables(&self, nr: u64) {
        let mut open = self.open.lock();
        open.most_tables = open.most_tables.max(nr);
    }

    /// Says how the open windows bear on a call on `vma` at `va`; under the PTL of the call.
    pub(crate) fn judge(&self, vma: usize, va: usize) -> Judgement {
        let mut judgement = Judgement::default();
        let open = self.open.lock();
        for w in open.windows.iter() {
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
        let open = self.open.lock();
        let any = open.windows.iter().any(|w| match w.kind {
            Kind::Copy(c) if c.src_mm == mm => {
                overlap((c.mark, c.end.wrapping_sub(c.mark)), (base, len))
            }
            _ => false,
        });
        any || open.roomless > 0
    }

    /// Returns whether an mremap or UFFDIO_MOVE moves a part of this range, or moves something to it,
    /// just now.
    ///
    /// Then mappings that the shadow has in the range may be at the other place already. Where it
    /// returns `false` under the lock of a shard, the positions that the shard has are those of
    /// the page tables: a window opens before its first mapping moves, and closes after the last
    /// has been re-keyed.
    pub(crate) fn moving(&self, mm: usize, base: usize, len: usize) -> bool {
        // Not only if `any_open()`: without the lock this CPU may not know it yet.
        let open = self.open.lock();
        open.windows.iter().any(|w| match w.kind {
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
        let open = self.open.lock();
        open.windows
            .iter()
            .any(|w| w.ticket <= ticket && matches!(w.kind, Kind::Copy(_)))
    }

    /// Forgets all windows; once no hook can open or close one.
    pub(crate) fn clear(&self) {
        let mut open = self.open.lock();
        open.windows.truncate(0);
        open.roomless = 0;
        self.nr.store(0, Relaxed);
    }

    /// Sets the statistics to zero.
    pub(crate) fn reset(&self) {
        self.abnormal.store(0, Relaxed);
        self.overflow.store(0, Relaxed);
        self.open.lock().most_tables = 0;
    }

    /// Returns the most page tables that were re-keyed at once.
    pub(crate) fn most_tables(&self) -> u64 {
        self.open.lock().most_tables
    }

    /// Begins anew to count windows: those that are open now are not counted as opened.
    pub(crate) fn uncount(&self) {
        self.uncounted.store(self.open.lock().last_ticket, Relaxed);
    }

    /// Returns `(opened, open, abnormal, overflow)`.
    pub(crate) fn counts(&self) -> (u64, u64, u64, u64) {
        let open = self.open.lock();
        (
            open.last_ticket
                .saturating_sub(self.uncounted.load(Relaxed)),
            open.windows.len() as u64,
            self.abnormal.load(Relaxed),
            self.overflow.load(Relaxed),
        )
    }
}
