// SPDX-License-Identifier: GPL-2.0

//! Compares the shadow with the kernel's counters, without false alarms.
//!
//! A folio's counters are comparable if no call on it is in flight: its shadow has not changed since
//! before a grace period, and no fork copy concerns it. A call that begins after that must take the
//! shard lock before it touches a counter. A true difference is reported once, with everything that
//! is known about the folio, which is then lost.

use core::fmt::{
    self,
    Write, //
};

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        }, //
    }, //
};

use fmi_model::{
    Compare,
    LostReason,
    Mismatch,
    Shard,
    State,
    Suspect, //
};

use crate::{
    compat::smp_rmb,
    env::{
        now_ns,
        page_mapcounts, //
    },
    quiesce,
    report::folio::Report,
    tracker::Tracker, //
};

/// Differences that were reported since the last reset.
static MISMATCHES: Atomic<u64> = Atomic::new(0);

/// Differences that are written to the kernel log; more are only counted, until the next reset.
const MAX_REPORTS: u64 = 16;

/// Most suspects taken from one shard at a time.
const MAX_SUSPECTS: usize = 16;

/// Folios compared between two questions whether to go on.
const SOME: usize = 64;

/// Pages whose counters are read at a time.
const PAGES: usize = 64;

/// How comparisons ended.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    /// Folios whose counters were compared.
    pub(crate) compared: u64,
    /// Folios that could not be compared: calls in flight.
    pub(crate) deferred: u64,
    /// Folios whose counters differ.
    pub(crate) mismatches: u64,
}

/// What a comparison says.
#[derive(Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives on the stack of one reader"
)]
pub(crate) enum Verdict {
    /// All counters are what the shadow says.
    Equal,
    /// Calls are in flight.
    Deferred,
    /// They differ, in these counters or in that of a page.
    Differs(Mismatch, Option<Page>),
}

/// A page whose counter differs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    nr: u32,
    kernel: i32,
}

impl Verdict {
    /// Returns the name used in files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Deferred => "deferred",
            Self::Differs(..) => "differs",
        }
    }
}

/// Returns how many differences were reported.
pub(crate) fn mismatches() -> u64 {
    MISMATCHES.load(Relaxed)
}

/// Sets that to zero.
pub(crate) fn reset() {
    MISMATCHES.store(0, Relaxed);
}

/// Compares a folio with the kernel's counters; under the shard lock.
pub(crate) fn compare(tracker: &Tracker, shard: &Shard<'_>, entry: u32) -> Verdict {
    let verdict = compare_counters(tracker, shard, entry);
    smp_rmb();
    // ORDERING: A call that was no longer taken, because tracking ends, may have changed a counter.
    // Then this load sees that it ends.
    if matches!(verdict, Verdict::Differs(..)) && !tracker.armed() {
        return Verdict::Deferred;
    }
    verdict
}

fn compare_counters(tracker: &Tracker, shard: &Shard<'_>, entry: u32) -> Verdict {
    let env = tracker.env();
    let Some(view) = shard.view(entry) else {
        return Verdict::Deferred;
    };
    match shard.compare(entry, &env) {
        Compare::Differs(mismatch) => return Verdict::Differs(mismatch, None),
        Compare::NotQuiescent => return Verdict::Deferred,
        Compare::Equal => {}
    }
    // Of a larger one nothing is mapped but the whole: it has no mappings of single pages.
    if view.order > tracker.table.geometry().max_order {
        return Verdict::Equal;
    }
    let (mut counts, mut expected) = ([0i32; PAGES], [0u32; PAGES]);
    for first in (0..view.nr_pages).step_by(PAGES) {
        let nr = PAGES.min((view.nr_pages - first) as usize);
        let Some(counts) = counts.get_mut(..nr) else {
            break;
        };
        if !page_mapcounts(view.pfn, view.order, first, counts) {
            break;
        }
        shard.pages_pte(entry, first, &mut expected);
        for ((i, count), expected) in (first..).zip(counts.iter()).zip(expected) {
            if i64::from(*count) != i64::from(expected) {
                // A copy that has begun since the first comparison is still open.
                let page = Page {
                    nr: i,
                    kernel: *count,
                };
                return match shard.compare(entry, &env) {
                    Compare::NotQuiescent => Verdict::Deferred,
                    Compare::Differs(mismatch) => Verdict::Differs(mismatch, Some(page)),
                    Compare::Equal => Verdict::Differs(Mismatch::default(), Some(page)),
                };
            }
        }
    }
    Verdict::Equal
}

/// Compares the folios in `list` after a grace period.
///
/// What to say of a folio that has changed meanwhile is `changed`. `longest` is raised to the longest
/// hold of a shard lock, in nanoseconds. `go_on` is asked now and then, without a lock.
///
/// # Errors
///
/// Those of `go_on`.
pub(crate) fn compare_list(
    tracker: &Tracker,
    list: &[Suspect],
    changed: Verdict,
    longest: &mut u64,
    go_on: &dyn Fn() -> Result,
) -> Result<Tally> {
    let mut tally = Tally::default();
    if list.is_empty() {
        return Ok(tally);
    }
    // What a missed call concerns is lost first: it differs, but not unexpectedly.
    tracker.settle();
    let given_up = tracker.gave_up();
    quiesce::wait_for_calls();
    for (i, suspect) in list.iter().enumerate() {
        // What was found is told: nobody would find it again.
        if i % SOME == 0 && tally.mismatches == 0 {
            go_on()?;
        }
        let verdict = tracker.table.with(suspect.pfn, |shard| {
            let entry = shard.find(suspect.pfn)?;
            if shard.seq(entry) != suspect.seq {
                let lost = shard
                    .view(entry)
                    .is_some_and(|view| view.state == State::Lost);
                return Some(if lost && given_up {
                    Verdict::Deferred
                } else {
                    changed
                });
            }
            let start = now_ns();
            let verdict = compare(tracker, shard, entry);
            *longest = (*longest).max(now_ns().saturating_sub(start));
            Some(verdict)
        });
        match verdict.flatten() {
            Some(Verdict::Equal) => tally.compared += 1,
            Some(Verdict::Deferred) | None => tally.deferred += 1,
            Some(Verdict::Differs(mismatch, page)) => {
                tally.compared += 1;
                tally.mismatches += 1;
                report(tracker, suspect.pfn, &mismatch, page);
            }
        }
    }
    Ok(tally)
}

/// Compares again the folios that calls found suspicious.
///
/// A call looks at the counters only if they stand still, so what it saw is true even if the folio
/// has changed since.
pub(crate) fn compare_suspects(tracker: &Tracker) -> Result<Tally> {
    tracker.settle();
    let mut list = KVVec::new();
    for shard in 0.. {
        // Allocates without the lock.
        list.reserve(MAX_SUSPECTS, GFP_KERNEL)?;
        let found = tracker.table.with_shard(shard, |shard| {
            shard.call_in(&tracker.env());
            for _ in 0..MAX_SUSPECTS {
                let Some(suspect) = shard.take_suspect() else {
                    break;
                };
                // Cannot fail: there is room.
                let _ = list.push(suspect, GFP_NOWAIT);
            }
        });
        if found.is_none() {
            break;
        }
    }
    let seen = Verdict::Differs(Mismatch::default(), None);
    compare_list(tracker, &list, seen, &mut 0, &|| Ok(()))
}

/// Reports a difference and gives the folio up.
#[cold]
fn report(tracker: &Tracker, pfn: u64, mismatch: &Mismatch, page: Option<Page>) {
    let env = tracker.env();
    let lose = || {
        tracker
            .table
            .with(pfn, |shard| shard.lose(pfn, LostReason::Mismatch, &env))
    };
    if MISMATCHES.fetch_add(1, Relaxed) >= MAX_REPORTS {
        lose();
        return;
    }
    pr_warn!("the kernel's counters of the folio at pfn {pfn} differ from its mappings:\n");
    for (field, expected, actual) in mismatch.iter() {
        pr_warn!("  {}: expected {expected}, is {actual}\n", field.name());
    }
    if let Some(Page { nr, kernel }) = page {
        pr_warn!("  page {nr}: the kernel says mapped {kernel} times by PTEs\n");
    }
    if mismatch.is_empty() && page.is_none() {
        pr_warn!("  a call saw that; the folio has changed since and may be another one:\n");
    }
    match Report::new(tracker, pfn) {
        Ok(report) => {
            let _ = write!(Lines::default(), "{report}");
        }
        Err(e) => pr_warn!("it could not be read: {e:?}\n"),
    }
    lose();
}

/// Writes text to the kernel log, a message a line.
struct Lines {
    line: [u8; 240],
    len: usize,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            line: [0; 240],
            len: 0,
        }
    }
}

impl Write for Lines {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                let line = self.line.get(..self.len).unwrap_or_default();
                pr_warn!("  {}\n", core::str::from_utf8(line).unwrap_or("?"));
                self.len = 0;
            } else if let Some(slot) = self.line.get_mut(self.len) {
                // What does not fit in a line is left out.
                *slot = byte;
                self.len += 1;
            }
        }
        Ok(())
    }
}
