// SPDX-License-Identifier: GPL-2.0

//! Comparisons: with page tables that somebody walked, and with the kernel's counters.

use super::apply::Part;
use super::entry::SUSPECT;
use super::{
    position_of,
    Fail,
    Shard,
    State,
    CORRUPT, //
};
use crate::bits::{
    index,
    pages_of_order, //
};
use crate::kernel::{
    mismatch,
    Expected, //
};
use crate::{
    Call,
    Compare,
    Counter,
    Env,
    FolioEntry,
    KernelCounts,
    Level,
    Mismatch,
    Op,
    Place, //
};

/// Most records that a call looks at to find out whether an open window involves the folio; with
/// more, it takes that for granted.
pub(crate) const WINDOW_SCAN: u32 = 16;

/// Number of suspects that a shard keeps.
const NR_SUSPECTS: usize = 16;

/// A folio whose counters differed in a quick check, to be compared again after a grace period.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Suspect {
    /// The pfn of the first page.
    pub pfn: u64,
    /// [`Shard::seq`] at the time; if it has changed since, there is nothing to compare again.
    pub seq: u32,
}

/// The suspects of a shard, oldest first.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Suspects {
    /// The suspects.
    ring: [Suspect; NR_SUSPECTS],
    /// Number of suspects ever taken out, wrapping.
    taken: u32,
    /// Number of suspects in the ring.
    len: usize,
}

impl Suspects {
    /// Returns the place that is `n` behind the oldest suspect.
    fn place(&mut self, n: usize) -> Option<&mut Suspect> {
        let at = index(self.taken).wrapping_add(n) & NR_SUSPECTS.wrapping_sub(1);
        self.ring.get_mut(at)
    }

    /// Puts a suspect in; returns false if there is no room.
    fn push(&mut self, suspect: Suspect) -> bool {
        let len = self.len;
        match self.place(len) {
            Some(place) if len < NR_SUSPECTS => {
                *place = suspect;
                self.len = len.wrapping_add(1);
                true
            }
            _ => false,
        }
    }

    /// Takes the oldest suspect out.
    fn pop(&mut self) -> Option<Suspect> {
        self.len = self.len.checked_sub(1)?;
        let suspect = self.place(0).copied();
        self.taken = self.taken.wrapping_add(1);
        suspect
    }
}

/// What the shadow says about mappings that somebody found in a page table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MappingCheck {
    /// The folio is not tracked.
    Untracked,
    /// All mappings are in the shadow.
    Ok,
    /// Mappings of so many pages are not.
    Missing {
        /// Number of pages.
        pages: u32,
    },
    /// The shadow has a folio of another order, or the mappings do not fit into it.
    WrongOrder,
}

/// Returns whether no copy or move is open, and none was that may hold mappings of the folio of which
/// nothing is known.
#[inline(always)]
fn calm(entry: &FolioEntry, env: &impl Env) -> bool {
    entry.pending == 0 && !env.windows_open()
}

impl Expected {
    /// Returns what the counters must be of a folio without a history.
    #[inline(always)]
    fn of_plain(entry: &FolioEntry) -> Self {
        let numbers = entry.numbers();
        let (total, pages) = (
            numbers.total(entry.order),
            numbers.nr_pte_mapped(entry.order),
        );
        Self::new(entry.kind, total, numbers.entire(), pages)
    }
}

impl Shard<'_> {
    /// Checks mappings that were found in a page table against the shadow.
    ///
    /// The caller holds off changes, or repeats the check: a call may be in flight.
    pub fn check_mapping(&self, p: &Place) -> MappingCheck {
        self.try_check_mapping(p)
            .unwrap_or(MappingCheck::Missing { pages: p.nr })
    }

    /// Does what [`Shard::check_mapping`] says.
    fn try_check_mapping(&self, p: &Place) -> Result<MappingCheck, Fail> {
        let Some(e) = self.find(p.pfn) else {
            return Ok(MappingCheck::Untracked);
        };
        let entry = self.entry(e)?;
        if matches!(entry.state, State::Lost | State::Learning) {
            return Ok(MappingCheck::Untracked);
        }
        let part = Part {
            level: p.level,
            first: p.first,
            nr: p.nr,
        };
        let nr_pages = pages_of_order(p.order);
        let fits = p.first.checked_add(p.nr).is_some_and(|end| end <= nr_pages);
        if entry.order != p.order || !fits {
            return Ok(MappingCheck::WrongOrder);
        }
        let (mm, base) = self.at_table(Some(e), (p.mm, p.base), p.table);
        let found = match (self.lookup(e, mm, base)?.here, part.level) {
            (None, _) => 0,
            (Some(r), Level::Entire) if self.record(r)?.entire() => part.nr,
            (Some(_), Level::Entire) => 0,
            (Some(r), Level::Pte) => self
                .pages_of(self.record(r)?, p.order)?
                .count(part.first, part.end()),
        };
        Ok(match part.nr.saturating_sub(found) {
            0 => MappingCheck::Ok,
            pages => MappingCheck::Missing { pages },
        })
    }

    /// Returns whether the kernel's counters of a folio stand still: no call in flight, no copy
    /// open that may hold unknown mappings, no copy or move open that overlaps a record.
    ///
    /// With more than `limit` records and any window open, it returns false.
    #[inline]
    pub(crate) fn quiescent(&self, e: u32, env: &impl Env, limit: u32) -> Result<bool, Fail> {
        Ok(env.gp_elapsed(self.entry(e)?.cookie) && self.unconcerned(e, env, limit)?)
    }

    /// The same without regard to calls in flight.
    #[inline]
    pub(crate) fn unconcerned(&self, e: u32, env: &impl Env, limit: u32) -> Result<bool, Fail> {
        if calm(self.entry(e)?, env) {
            return Ok(true);
        }
        self.unconcerned_by_any(e, env, limit)
    }

    /// The same where a copy or move is or was open.
    fn unconcerned_by_any(&self, e: u32, env: &impl Env, limit: u32) -> Result<bool, Fail> {
        let entry = self.entry(e)?;
        if self.is_pending(e, env)? {
            return Ok(false);
        }
        if !env.windows_open() {
            return Ok(true);
        }
        if self.counts(entry)?.nr_records > limit {
            return Ok(false);
        }
        let shift = u32::from(self.state.geometry.page_shift);
        let len = u64::from(pages_of_order(entry.order)).wrapping_shl(shift);
        let covered = self.find_record(entry.first_record(), |record| {
            env.window_covers(record.mm, record.base(), len)
        });
        Ok(covered.is_none())
    }

    /// Returns whether a copy is open that may hold mappings of the folio that are not yet known.
    pub(crate) fn is_pending(&self, e: u32, env: &impl Env) -> Result<bool, Fail> {
        let pending = self.entry(e)?.pending;
        Ok(pending != 0 && env.ticket_open(pending))
    }

    /// Does what [`Shard::quick_check`] says before a call.
    ///
    /// A copy that is found behind an open window has been counted by the kernel already, and the window
    /// covers what it was copied from: that need not be found out for each folio.
    #[inline]
    pub(crate) fn check_before<'k>(
        &mut self,
        e: u32,
        c: &Call,
        env: &impl Env,
        kernel: &'k mut KernelCounts,
    ) -> Option<&'k KernelCounts> {
        if c.op == Op::Dup && env.windows_open() {
            return None;
        }
        self.quick_check(e, env, kernel)
    }

    /// Reads the kernel's counters of a mapped folio into `kernel` and checks them, before a call changes
    /// them; `None` if they do not stand still.
    ///
    /// A difference makes the folio a suspect: it counts for nothing until it is confirmed.
    #[inline]
    pub(crate) fn quick_check<'k>(
        &mut self,
        e: u32,
        env: &impl Env,
        kernel: &'k mut KernelCounts,
    ) -> Option<&'k KernelCounts> {
        let entry = self.entry(e).ok()?;
        if !entry.is_mapped() || !env.gp_elapsed(entry.cookie) {
            return None;
        }
        if !(calm(entry, env) || self.unconcerned_by_any(e, env, WINDOW_SCAN).ok()?) {
            return None;
        }
        if !env.read_kernel(entry.pfn(), entry.order, kernel) || kernel.order != entry.order {
            return None;
        }
        let expected = match entry.history {
            0 => Expected::of_plain(entry),
            _ => self.expected(entry).ok()?,
        };
        // A copy that begins between the first look and the reading of the counters changes them;
        // it is still open, because it has to come by here to take its mappings into the shadow. A
        // call cannot have begun: it has to come by here, too.
        if !(calm(entry, env) || self.unconcerned_by_any(e, env, WINDOW_SCAN).ok()?) {
            return None;
        }
        self.state.counters.add(Counter::Checked);
        if !expected.holds(kernel) {
            self.suspect(e);
        }
        Some(kernel)
    }

    /// Returns what the kernel's counters of a folio must be.
    pub(crate) fn expected(&self, entry: &FolioEntry) -> Result<Expected, Fail> {
        let Some(h) = position_of(entry.history) else {
            return Ok(Expected::of_plain(entry));
        };
        let counts = &self.history.get(index(h)).ok_or(CORRUPT)?.counts;
        let pages = counts.nr_pte_mapped(entry.order);
        Ok(Expected::new(
            entry.kind,
            counts.total,
            counts.entire,
            pages,
        ))
    }

    /// Compares the kernel's counters of a folio, read now, with the shadow.
    ///
    /// [`Compare::NotQuiescent`] if calls may be in flight or a copy or move that involves the folio
    /// is open, and for a lost folio. A mapped folio that is not there any more differs in its order,
    /// which is -1 then; one without mappings cannot be compared then. Whether the folio at this pfn
    /// is still the one that was drained, the caller has to know. Under the same conditions the
    /// kernel's counts of pages are those of [`Shard::pages_pte`].
    pub fn compare(&self, entry: u32, env: &impl Env) -> Compare {
        self.try_compare(entry, env)
            .unwrap_or(Compare::NotQuiescent)
    }

    /// Does what [`Shard::compare`] says.
    fn try_compare(&self, e: u32, env: &impl Env) -> Result<Compare, Fail> {
        let view = self.view_of(e)?;
        let tracked = matches!(view.state, State::Live | State::Draining);
        if !tracked || !self.quiescent(e, env, u32::MAX)? {
            return Ok(Compare::NotQuiescent);
        }
        let m = match env.kernel_of(view.pfn, view.order) {
            Some(k) => mismatch(&view, &k),
            None if view.total > 0 => Mismatch::gone(view.order),
            None => return Ok(Compare::NotQuiescent),
        };
        // As in `quick_check()`: a copy that has begun meanwhile is still open.
        Ok(if m.is_empty() {
            Compare::Equal
        } else if self.quiescent(e, env, u32::MAX)? {
            Compare::Differs(m)
        } else {
            Compare::NotQuiescent
        })
    }

    /// Notes that the counters of a folio differ from the shadow.
    pub(crate) fn suspect(&mut self, e: u32) {
        let Ok(entry) = self.entry_mut(e) else {
            return;
        };
        if entry.has(SUSPECT) {
            return;
        }
        entry.change_flags(SUSPECT, 0);
        let suspect = Suspect {
            pfn: entry.pfn(),
            seq: entry.seq,
        };
        self.state.counters.add(Counter::Suspects);
        if !self.state.suspects.push(suspect) {
            self.state.counters.add(Counter::SuspectsDropped);
            if let Ok(entry) = self.entry_mut(e) {
                entry.change_flags(0, SUSPECT);
            }
        }
    }

    /// Takes the oldest suspect out of the ring.
    pub fn take_suspect(&mut self) -> Option<Suspect> {
        let suspect = self.state.suspects.pop()?;
        if let Some(e) = self.find(suspect.pfn) {
            if let Ok(entry) = self.entry_mut(e) {
                entry.change_flags(0, SUSPECT);
            }
        }
        Some(suspect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_oldest() {
        let mut ring = Suspects::default();
        let suspect = |pfn| Suspect { pfn, seq: 0 };
        assert_eq!(ring.pop(), None);
        for round in 0..5 {
            for pfn in 0..20 {
                assert_eq!(ring.push(suspect(pfn)), pfn < 16, "round {round}");
            }
            for pfn in 0..16 {
                assert_eq!(ring.pop(), Some(suspect(pfn)));
            }
            assert_eq!(ring.pop(), None);
        }
    }
}
