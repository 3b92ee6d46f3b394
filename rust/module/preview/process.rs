// SPDX-License-Identifier: GPL-2.0

//! What one process's page tables show: changes 2, 3, 5 and 6, and the part of change 1 that is
//! not tracked.

use kernel::prelude::*;

use fmi_model::preview::{
    mapped_pages,
    smaps,
    FolioCounts,
    Rule,
    PSS_SHIFT, //
};
use fmi_model::KernelCounts;

use super::Rules;
use crate::{
    class,
    mm::MmRef,
    procwalk::{
        self,
        Mapped, //
    },
    tracker::Tracker, //
};

/// VMAs that may be looked at under one hold of the mmap lock.
const MAX_VMAS: usize = 64;

/// Shares of all processes in what the statistics count; a page once, in fractions of a byte.
#[derive(Clone, Copy, Default)]
pub(super) struct Shares {
    /// Small folios.
    pub(super) small: u64,
    /// Large folios that are not tracked.
    pub(super) untracked: u64,
    /// How much more of those would be counted.
    pub(super) untracked_extra: u64,
}

/// One process, as it is and as it would be.
#[derive(Clone, Copy, Default)]
pub(crate) struct Process {
    /// Rss, in pages.
    pub(crate) rss: u64,
    /// Pss, in fractions of a byte, see [`PSS_SHIFT`].
    pub(crate) pss: [u64; 2],
    /// Private memory, in pages.
    pub(crate) private: [u64; 2],
    /// Entries with PM_MMAP_EXCLUSIVE.
    pub(crate) exclusive: [u64; 2],
    /// Entries that would lose it.
    pub(crate) lost: u64,
    /// Entries that would gain it.
    pub(crate) gained: u64,
    /// The largest mapmax of its VMAs.
    pub(crate) mapmax: [i32; 2],
    /// VMAs that map anything.
    pub(crate) vmas: u64,
    /// VMAs with a higher mapmax.
    pub(crate) mapmax_higher: u64,
    /// VMAs with a lower mapmax.
    pub(crate) mapmax_lower: u64,
}

impl Process {
    /// Returns the error of Pss in kB, and in thousandths.
    pub(crate) fn pss_error(&self) -> (i64, i64) {
        // Bytes in kB, as smaps has them.
        error(self.pss.map(|pss| pss >> PSS_SHIFT))
    }

    /// Returns the error of the private memory in kB, and in thousandths.
    pub(crate) fn private_error(&self, page_shift: u8) -> (i64, i64) {
        error(self.private.map(|pages| pages << page_shift))
    }

    /// Ends a VMA.
    fn end_vma(&mut self, mapmax: &mut Option<[i32; 2]>) {
        let Some([now, then]) = mapmax.take() else {
            return;
        };
        self.vmas += 1;
        self.mapmax_higher += u64::from(then > now);
        self.mapmax_lower += u64::from(then < now);
        for (most, value) in self.mapmax.iter_mut().zip([now, then]) {
            *most = (*most).max(value);
        }
    }
}

fn error([now, then]: [u64; 2]) -> (i64, i64) {
    let kb = |bytes: u64| (bytes >> 10) as i64;
    let permille = fmi_model::preview::permille((then as i64).saturating_sub(now as i64), now);
    (kb(then).saturating_sub(kb(now)), permille)
}

/// A walk over one process.
pub(super) struct Walk<'a> {
    /// The shadow, to tell what is tracked.
    pub(super) tracker: &'a Tracker,
    /// As it is, as it would be.
    pub(super) rules: Rules,
    /// Anon, then file.
    pub(super) shares: [Shares; 2],
    /// The last large folio that was looked up, and whether it is tracked.
    pub(super) last: Option<(u64, bool)>,
}

impl Walk<'_> {
    /// Walks one MM, a few page tables at a time: between them, its mmap lock is free.
    ///
    /// # Errors
    ///
    /// `EINTR`.
    pub(super) fn process(&mut self, mm: &MmRef) -> Result<Process> {
        let mut process = Process::default();
        self.last = None;
        // Of the VMA that the walk is in: where it began, and its mapmax.
        let mut vma_start = usize::MAX;
        let mut mapmax = None;
        let mut addr = 0;
        loop {
            procwalk::pause()?;
            let guard = mm.read_lock_killable()?;
            let mut budget = procwalk::BUDGET;
            for _ in 0..MAX_VMAS {
                let Some(vma) = guard.find_vma(addr) else {
                    process.end_vma(&mut mapmax);
                    return Ok(process);
                };
                if vma.start != vma_start {
                    process.end_vma(&mut mapmax);
                    vma_start = vma.start;
                }
                let start = vma.start.max(addr);
                addr = procwalk::walk_some(&guard, &vma, start, &mut budget, &mut |m: &Mapped| {
                    self.mapped(m, &mut process, &mut mapmax);
                });
                if addr < vma.end {
                    break;
                }
            }
        }
    }

    fn mapped(&mut self, m: &Mapped, process: &mut Process, mapmax: &mut Option<[i32; 2]>) {
        let nr = u64::from(m.nr);
        let counts = FolioCounts {
            order: m.order,
            large: m.large,
            entire: m.entire,
            refcount: m.refcount,
            shared: m.shared,
        };
        let pages = fmi_model::preview::Mapped {
            nr: m.nr,
            page: m.page,
            present: m.present,
        };
        let page_shift = self.tracker.table.geometry().page_shift;
        process.rss += nr;
        for (i, rule) in self.rules.into_iter().enumerate() {
            let smaps = smaps(&counts, &pages, page_shift, rule);
            if let (Some(pss), Some(private)) = (process.pss.get_mut(i), process.private.get_mut(i))
            {
                *pss += smaps.pss;
                *private += smaps.private;
            }
        }
        if m.present_entry {
            let exclusive = self.rules.map(|rule| counts.exclusive(m.looked, rule));
            for (sum, exclusive) in process.exclusive.iter_mut().zip(exclusive) {
                *sum += if exclusive { nr } else { 0 };
            }
            match exclusive {
                [true, false] => process.lost += nr,
                [false, true] => process.gained += nr,
                _ => {}
            }
        }
        if m.numa {
            let most = mapmax.get_or_insert([0; 2]);
            for (most, rule) in most.iter_mut().zip(self.rules) {
                *most = (*most).max(counts.page_mapcount(m.looked, rule));
            }
        }
        self.share(m, &counts, page_shift);
    }

    fn tracked(&mut self, pfn: u64) -> bool {
        match self.last {
            Some((last, tracked)) if last == pfn => tracked,
            _ => {
                let total = self.tracker.table.with(pfn, |shard| {
                    shard.find(pfn).and_then(|entry| shard.view(entry))
                });
                let tracked = total.flatten().is_some_and(|view| view.total > 0);
                self.last = Some((pfn, tracked));
                tracked
            }
        }
    }

    /// Adds the part of this mapping in the statistics, if the folio is not tracked.
    fn share(&mut self, m: &Mapped, counts: &FolioCounts, page_shift: u8) {
        if !m.present {
            return;
        }
        let anon = matches!(u32::from(m.kind), class::KIND_ANON | class::KIND_KSM);
        let tracked = m.order > 0 && self.tracked(m.pfn as u64);
        let Some(shares) = self.shares.get_mut(usize::from(!anon)) else {
            return;
        };
        let page = 1u64 << (u32::from(page_shift) + PSS_SHIFT);
        let part = |pages: u64, among: i32| match u64::try_from(among) {
            Ok(n) if n > 0 => pages.saturating_mul(page) / n,
            _ => 0,
        };
        if m.order == 0 {
            let [now, _] = self.rules;
            let once = part(u64::from(m.nr), counts.page_mapcount(m.page, now));
            shares.small = shares.small.saturating_add(once);
            return;
        }
        if tracked {
            return;
        }
        let k = KernelCounts {
            order: m.order,
            large: m.large,
            entire: m.entire,
            nr_pages_mapped: m.nr_pages_mapped,
            ..KernelCounts::default()
        };
        // What is counted of the folio as a whole is the share of each of its mappings.
        let whole = |pages: u32| part(u64::from(pages) * u64::from(m.mappings), m.large);
        let [now, then] = self.rules.map(|rule| mapped_pages(&k, rule));
        let once = match self.rules {
            [Rule::PageMapcount, _] => {
                let count = counts.page_mapcount(m.page, Rule::PageMapcount);
                part(u64::from(m.nr), count)
            }
            [Rule::NoPageMapcount, _] => whole(now),
        };
        shares.untracked = shares.untracked.saturating_add(once);
        let extra = whole(then.saturating_sub(now));
        shares.untracked_extra = shares.untracked_extra.saturating_add(extra);
    }
}
