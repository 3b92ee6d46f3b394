// SPDX-License-Identifier: GPL-2.0

//! Which folios are lost when a copy or a move was not seen, or not to its end.
//!
//! The rule is conservative: whoever may be concerned is lost.

use kernel::sync::atomic::Relaxed;

use fmi_model::LostReason;

use super::{
    crosscheck::Found,
    Tracker, //
};
use crate::{
    quiesce,
    who::task_exists,
    window::{
        Kind,
        Window, //
    }, //
};

/// Records or folios looked at under one hold of a lock.
const CHUNK: u32 = 256;

impl Tracker {
    /// Loses the folios that have a record for which `which` holds, by MM and base.
    fn lose_records(&self, which: impl Fn(usize, usize) -> bool) {
        for i in 0..usize::MAX {
            let mut from = 0u32;
            loop {
                let more = self.table.with_shard(i, |shard| {
                    let end = shard.nr_slots().1.min(from.saturating_add(CHUNK));
                    for slot in from..end {
                        let Some((pfn, _, mm, base)) = shard.record_at(slot) else {
                            continue;
                        };
                        if which(mm as usize, base as usize) {
                            shard.lose(pfn, LostReason::Window, &self.env());
                        }
                    }
                    let more = from < end;
                    from = end;
                    more.then_some(())
                });
                match more {
                    None => return,
                    Some(Some(Some(()))) => {}
                    Some(_) => break,
                }
            }
        }
    }

    /// Loses the folios of which a mapping was removed where this copy, or a later one, had yet to
    /// come: it may have duplicated them.
    fn lose_pending(&self, ticket: u64) {
        for i in 0..usize::MAX {
            let mut from = 0u32;
            loop {
                let more = self.table.with_shard(i, |shard| {
                    let end = shard.nr_slots().0.min(from.saturating_add(CHUNK));
                    for entry in from..end {
                        if let Some(pfn) = shard.pending_since(entry, ticket) {
                            shard.lose(pfn, LostReason::Window, &self.env());
                        }
                    }
                    let more = from < end;
                    from = end;
                    more.then_some(())
                });
                match more {
                    None => return,
                    Some(Some(Some(()))) => {}
                    Some(_) => break,
                }
            }
        }
    }

    /// Loses every folio that this MM maps.
    pub(super) fn lose_mm(&self, mm: usize) {
        self.lose_records(|of, _| of == mm);
    }

    /// Loses the folio that this MM maps there.
    pub(super) fn lose_at(&self, mm: usize, base: usize) {
        self.lose_records(|of, at| of == mm && at == base);
    }

    /// Loses what a window concerns that was not closed by its exit.
    ///
    /// A copy may have duplicated whatever the source maps. What the source has unmapped since was
    /// told by a call on its VMA, which found the window open.
    fn lose_stale(&self, window: &Window) {
        match window.kind {
            Kind::Copy(copy) => {
                let (src, dst) = copy.mms();
                self.lose_records(|mm, _| mm == src || mm == dst);
                self.lose_pending(window.ticket);
            }
            Kind::Move { mm, .. } | Kind::Uffd { mm, .. } => self.lose_mm(mm),
        }
    }

    /// Closes windows that `task` left open, and loses what they concern.
    pub(super) fn close_stale(&self, task: usize) {
        while let Some(window) = self.windows.take_stale(task) {
            self.lose_stale(&window);
        }
    }

    /// Loses what earlier calls concern of which it was found out that they were missed, or their exit.
    pub(super) fn lose_earlier(&self, found: &Found) {
        if let Some(mm) = found.earlier {
            self.lose_mm(mm);
        }
        if let Some(mm) = found.unfinished {
            self.windows.note_abnormal();
            self.lose_mm(mm);
        }
    }

    /// Returns whether folios were lost since the last reset because a call was missed, or its exit.
    pub(crate) fn gave_up(&self) -> bool {
        self.crosscheck.missed() != 0
            || self.windows.counts().2 != 0
            || self.blind.load(Relaxed) != 0
    }

    /// Loses what calls concern that a hook has missed, or whose exit, as far as that is known only
    /// now. Sleeps.
    pub(crate) fn settle(&self) {
        let mut after = 0;
        while let Some((ticket, task)) = self.windows.next_open(after) {
            after = ticket;
            // Who is inside a function that opens a window is there.
            if !task_exists(task) {
                self.close_stale(task);
            }
        }
        // Without tracking, the exits of calls that go on are not seen.
        while self.armed() {
            let Some(mm) = self.crosscheck.gone(task_exists) else {
                break;
            };
            self.windows.note_abnormal();
            self.lose_mm(mm);
        }
        let session = self.session();
        let Some(seq) = self.crosscheck.unsettled() else {
            return;
        };
        quiesce::wait_for_calls();
        // Only if both hooks of these calls had to look: not if tracking was off for one of them.
        if !self.armed() || self.session() != session {
            return;
        }
        while let Some(mm) = self.crosscheck.settle(&seq) {
            self.lose_mm(mm);
        }
    }
}
