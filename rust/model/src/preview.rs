// SPDX-License-Identifier: GPL-2.0

//! What `/proc` and the memory statistics say about a folio on a kernel with CONFIG_PAGE_MAPCOUNT,
//! and what they would say with CONFIG_NO_PAGE_MAPCOUNT.
//!
//! Each rule is that of Linux 7.2 and 7.3, whose source is named beside it, integer arithmetic
//! included. The seven changes are those of the RFC of 2026-04-12,
//! `20260412-mapcount-v1-0-05e8dfab52e0@kernel.org`. Here is arithmetic on counters that somebody
//! else read: nothing of the shadow.

use crate::bits::pages_of_order;
use crate::{
    KernelCounts,
    ENTIRELY_MAPPED, //
};

/// Fraction bits of a proportional share: `PSS_SHIFT` of `fs/proc/task_mmu.c`.
pub const PSS_SHIFT: u32 = 12;

/// Which of the two kernels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// CONFIG_PAGE_MAPCOUNT: every page has a mapcount.
    PageMapcount,
    /// CONFIG_NO_PAGE_MAPCOUNT: folios have.
    NoPageMapcount,
}

impl Rule {
    /// Both, as-is first.
    pub const BOTH: [Rule; 2] = [Rule::PageMapcount, Rule::NoPageMapcount];
}

/// The counters of a folio that the rules read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FolioCounts {
    /// The order; 0 is a small folio.
    pub order: u8,
    /// `folio_large_mapcount()`; of a small folio `_mapcount` + 1, page types included.
    pub large: i32,
    /// `folio_entire_mapcount()`; 0 for a small folio.
    pub entire: i32,
    /// `folio_ref_count()`.
    pub refcount: i32,
    /// `folio_maybe_mapped_shared()`.
    pub shared: bool,
}

impl From<&KernelCounts> for FolioCounts {
    fn from(k: &KernelCounts) -> Self {
        Self {
            order: k.order,
            large: k.large,
            entire: k.entire,
            refcount: k.refcount,
            shared: k.maybe_mapped_shared,
        }
    }
}

impl FolioCounts {
    /// Returns how often a page is mapped, given `page->_mapcount` + 1 (0 for a page type).
    ///
    /// Source: `folio_precise_page_mapcount()`, `fs/proc/internal.h`.
    #[inline]
    pub fn precise_page_mapcount(&self, page: i32) -> i32 {
        if self.order > 0 {
            page.saturating_add(self.entire)
        } else {
            page
        }
    }

    /// Returns how often each page is mapped on average: rounded, at least 1 while any is mapped.
    ///
    /// A small folio's count is returned as it is stored: for an order-0 page with a page type
    /// (page table, slab, free page) that is a negative number, unlike that of
    /// [`Self::precise_page_mapcount`].
    ///
    /// Source: `folio_average_page_mapcount()`, `fs/proc/internal.h`.
    #[inline]
    pub fn average_page_mapcount(&self) -> i32 {
        if self.order == 0 {
            return self.large;
        }
        if self.large <= 0 {
            return 0;
        }
        if self.large <= self.entire {
            return self.entire;
        }
        let ptes = i64::from(self.large).saturating_sub(i64::from(self.entire));
        let nr = i64::from(pages_of_order(self.order));
        let average = ptes.saturating_add(nr >> 1) >> self.order.min(31);
        let all = average.saturating_add(i64::from(self.entire)).max(1);
        i32::try_from(all).unwrap_or(i32::MAX)
    }

    /// Returns what the kernel takes for the mapcount of a page, given `page->_mapcount` + 1.
    #[inline]
    pub fn page_mapcount(&self, page: i32, rule: Rule) -> i32 {
        match rule {
            Rule::PageMapcount => self.precise_page_mapcount(page),
            Rule::NoPageMapcount => self.average_page_mapcount(),
        }
    }

    /// Returns the number in `/proc/kpagecount`, which is unsigned there: change 4.
    ///
    /// Source: `get_kpage_count()`, `fs/proc/page.c`.
    #[inline]
    pub fn kpagecount(&self, page: i32, rule: Rule) -> i64 {
        i64::from(self.page_mapcount(page, rule))
    }

    /// Returns whether a present entry has PM_MMAP_EXCLUSIVE in `/proc/PID/pagemap`: change 3.
    ///
    /// `looked` is `page->_mapcount` + 1 of the page that pagemap looks at, which for every entry
    /// of a PMD is the first page of the folio.
    ///
    /// Source: `__folio_page_mapped_exclusively()`, `pagemap_pmd_range_thp()`, `fs/proc/task_mmu.c`.
    #[inline]
    pub fn exclusive(&self, looked: i32, rule: Rule) -> bool {
        match rule {
            Rule::PageMapcount => self.precise_page_mapcount(looked) == 1,
            Rule::NoPageMapcount => !self.shared,
        }
    }

    /// Returns whether the folio is partially mapped for certain: no entire mapping, and fewer
    /// mappings than pages.
    ///
    /// It is looked at when a mapping goes, and the folio, if it is anonymous, is queued for the
    /// deferred split: change 7.
    ///
    /// Source: `__folio_remove_rmap()`, `mm/rmap.c`.
    #[inline]
    pub fn certainly_partially_mapped(&self) -> bool {
        let nr = i64::from(pages_of_order(self.order));
        0 < self.large && i64::from(self.large) < nr && self.entire <= 0
    }
}

/// Pages of one folio that a process maps, equal in all that counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mapped {
    /// Number of pages.
    pub nr: u32,
    /// `page->_mapcount` + 1 of each.
    pub page: i32,
    /// The entry is present, or a PTE of device-private memory.
    pub present: bool,
}

/// A contribution to `/proc/PID/smaps`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Smaps {
    /// Pss, in bytes shifted by [`PSS_SHIFT`].
    pub pss: u64,
    /// Private_Clean and Private_Dirty (USS), in pages.
    pub private: u64,
}

/// Returns what pages of a folio add to Pss and to the private memory of a process: changes 5 and 6.
///
/// A folio with one reference and an entry that is not present are not looked at any closer: all of
/// it counts, as private if it is present.
///
/// Source: `smaps_account()`, `smaps_page_accumulate()`, `fs/proc/task_mmu.c`.
#[inline]
pub fn smaps(folio: &FolioCounts, m: &Mapped, page_shift: u8, rule: Rule) -> Smaps {
    let nr = u64::from(m.nr);
    let page = 1u64
        .checked_shl(u32::from(page_shift).saturating_add(PSS_SHIFT))
        .unwrap_or(0);
    if folio.refcount == 1 || !m.present {
        return Smaps {
            pss: nr.saturating_mul(page),
            private: if m.present { nr } else { 0 },
        };
    }
    let mapcount = folio.page_mapcount(m.page, rule);
    let private = match rule {
        Rule::PageMapcount => mapcount < 2,
        Rule::NoPageMapcount => !folio.shared,
    };
    let share = match u64::try_from(mapcount) {
        Ok(n) if n >= 2 => page.checked_div(n).unwrap_or(page),
        _ => page,
    };
    Smaps {
        pss: nr.saturating_mul(share),
        private: if private { nr } else { 0 },
    }
}

/// Returns how many pages of a folio are in NR_ANON_MAPPED or NR_FILE_MAPPED: change 1.
///
/// They are AnonPages and Mapped of `/proc/meminfo`, and anon and file_mapped of memory.stat.
/// NR_SHMEM, by the way, is counted by the page cache: nothing changes.
///
/// Source: `__folio_add_rmap()`, `__folio_remove_rmap()`, `mm/rmap.c`.
#[inline]
pub fn mapped_pages(k: &KernelCounts, rule: Rule) -> u32 {
    let nr = pages_of_order(k.order);
    let some = match rule {
        Rule::PageMapcount if k.entire > 0 => nr,
        Rule::PageMapcount => {
            let stored = k.nr_pages_mapped & ENTIRELY_MAPPED.wrapping_sub(1);
            u32::try_from(stored).unwrap_or(0)
        }
        Rule::NoPageMapcount if k.large > 0 => nr,
        Rule::NoPageMapcount => 0,
    };
    some.min(nr)
}

/// Returns how many pages of a folio are in NR_ANON_THPS (AnonHugePages) if it is anonymous: the
/// same under both rules.
///
/// Source: as of [`mapped_pages`].
#[inline]
pub fn pmd_mapped_pages(k: &KernelCounts, pmd_order: u8) -> u32 {
    if k.entire > 0 && k.order == pmd_order {
        pages_of_order(k.order)
    } else {
        0
    }
}

/// Number of [`Histogram`] buckets on either side of 0.
pub const HISTOGRAM_BUCKETS: usize = 16;

/// Errors by size: 0, and 1, 2-3, 4-7 ... on either side; the last bucket has no end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Histogram {
    /// No error.
    pub none: u64,
    /// Too low.
    pub under: [u64; HISTOGRAM_BUCKETS],
    /// Too high.
    pub over: [u64; HISTOGRAM_BUCKETS],
}

impl Histogram {
    /// Counts an error `nr` times.
    #[inline]
    pub fn add(&mut self, error: i64, nr: u64) {
        let side = match error {
            0 => {
                self.none = self.none.saturating_add(nr);
                return;
            }
            1.. => &mut self.over,
            _ => &mut self.under,
        };
        let log = usize::try_from(error.unsigned_abs().ilog2()).unwrap_or(0);
        if let Some(bucket) = side.get_mut(log.min(HISTOGRAM_BUCKETS.wrapping_sub(1))) {
            *bucket = bucket.saturating_add(nr);
        }
    }

    /// Returns the buckets that are not empty, the lowest error first: the smallest and the largest
    /// error of each, and its count. The open ends reach as far as numbers do.
    pub fn iter(&self) -> impl Iterator<Item = (i64, i64, u64)> + '_ {
        let under = self
            .under
            .iter()
            .zip(0..HISTOGRAM_BUCKETS)
            .rev()
            .map(|(count, log)| {
                let (least, most) = Self::bounds(log);
                (most.saturating_neg(), least.saturating_neg(), *count)
            });
        let over = self
            .over
            .iter()
            .zip(0..HISTOGRAM_BUCKETS)
            .map(|(count, log)| {
                let (least, most) = Self::bounds(log);
                (least, most, *count)
            });
        under
            .chain(core::iter::once((0, 0, self.none)))
            .chain(over)
            .filter(|(_, _, count)| *count > 0)
    }

    fn bounds(log: usize) -> (i64, i64) {
        let shift = u32::try_from(log).unwrap_or(u32::MAX);
        let least = 1i64.checked_shl(shift).unwrap_or(i64::MAX);
        let most = if log.saturating_add(1) == HISTOGRAM_BUCKETS {
            i64::MAX
        } else {
            least.saturating_mul(2).saturating_sub(1)
        };
        (least, most)
    }
}

/// Returns an error in thousandths of the value that is right; 0 if that is 0.
pub fn permille(error: i64, right: u64) -> i64 {
    let right = i64::try_from(right).unwrap_or(i64::MAX);
    error.saturating_mul(1000).checked_div(right).unwrap_or(0)
}
