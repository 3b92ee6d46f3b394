// SPDX-License-Identifier: GPL-2.0

//! `kernel`: what the running kernel answers from its own counters.

use super::{
    references,
    Definition, //
};
use crate::preview::FolioCounts;
use crate::{
    Answer,
    FolioView,
    KernelCounts,
    Kind,
    Question,
    ENTIRELY_MAPPED,
    HALF_LIMIT, //
};

/// The answers of the running kernel. The value is its large mapcount, -1 if it was not read.
///
/// Source, Linux 7.2: `mapped` is `folio_mapped()` (`include/linux/mm.h`); `shared` is
/// `folio_maybe_mapped_shared()` (`include/linux/mm.h`), which errs on the side of yes; `entire`
/// compares `folio_large_mapcount()` with `folio_entire_mapcount()`; `partial` is
/// PG_partially_mapped (`__folio_remove_rmap()`, `mm/rmap.c`), sticky, and asked only where the
/// kernel keeps it: anon folios of order > 1 that are neither hugetlb nor in the swap cache; `refs` compares the
/// reference count with `folio_expected_ref_count()` and the asker's own (`include/linux/mm.h`);
/// `reuse` is PageAnonExclusive, and without it `__wp_can_reuse_large_anon_folio()` (`mm/memory.c`)
/// or `do_huge_pmd_wp_page()` (`mm/huge_memory.c`), on the large mapcount, the entire mapcount, the
/// "mapped shared" bit and the reference count; `page` is `page->_mapcount` of each page, which is
/// that of T or a mismatch that comparisons report, without per-page mapcounts
/// `folio_average_page_mapcount()` (`fs/proc/internal.h`); `stat` is what `_nr_pages_mapped` has put into
/// vmstat (`__folio_mod_stat()`, `mm/rmap.c`), without per-page mapcounts the whole folio while it
/// is mapped; `overflow`: large mapcount or reference count are past half of their limit.
///
/// Asked only while the counters are quiescent: no call in flight, no copy or move open that
/// involves the folio.
///
/// Cost: no state, nothing per event; the counters are read when they are compared.
pub struct Kernel;

impl Kernel {
    /// Returns the kernel's answer, given its counters.
    fn of(v: &FolioView, k: &KernelCounts, q: Question) -> Answer {
        match q {
            Question::Mapped => Answer::from(k.large > 0),
            Question::Shared => Answer::from(k.maybe_mapped_shared),
            Question::Entire => Answer::from(k.large > 0 && k.large == k.entire),
            Question::Partial
                if k.anon && k.order > 1 && !k.swapcache && v.kind != Kind::Hugetlb =>
            {
                Answer::from(k.partially_mapped)
            }
            Question::Refs => v.ask.map_or(Answer::NotAsked, |ask| {
                let expected = i64::from(k.expected_refs).saturating_add(i64::from(ask.own));
                Answer::from(i64::from(k.refcount) == expected)
            }),
            Question::Reuse => references::wanted(v).map_or(Answer::NotAsked, |w| {
                let (total, entire) = (i64::from(k.large), i64::from(k.entire));
                let may = references::may_reuse(total, entire, k.shared_bit, w.refs);
                Answer::from(w.page.anon_exclusive || may)
            }),
            // Each page has its own count, which is T's: a difference would be a mismatch.
            Question::Page if k.per_page => {
                let sum = i64::try_from(v.total_pages).unwrap_or(i64::MAX);
                Answer::Counter(sum, sum)
            }
            Question::Page => {
                let average = FolioCounts::from(k).average_page_mapcount();
                Answer::Count(u64::try_from(average).unwrap_or(0))
            }
            Question::Stat => Answer::Count(Self::mapped_pages(v.nr_pages, k)),
            Question::Overflow => {
                let limit = i64::try_from(HALF_LIMIT).unwrap_or(i64::MAX);
                Answer::from(i64::from(k.large.max(k.refcount)) > limit)
            }
            _ => Answer::NotAsked,
        }
    }

    /// Returns how many pages of the folio the kernel has counted as mapped.
    fn mapped_pages(nr_pages: u32, k: &KernelCounts) -> u64 {
        let all = if k.per_page {
            k.nr_pages_mapped >= ENTIRELY_MAPPED
        } else {
            k.large > 0
        };
        match u64::try_from(k.nr_pages_mapped) {
            _ if all => u64::from(nr_pages),
            Ok(pages) if k.per_page => pages,
            _ => 0,
        }
    }
}

impl Definition for Kernel {
    const NAME: &'static str = "kernel";
    const FORMULA: &'static str = "the kernel's own counters; shown is _large_mapcount + 1";
    const SOURCE: &'static str = "struct folio, folio_maybe_mapped_shared(), PG_partially_mapped";
    const CLAIMS: &'static [Question] = &[
        Question::Mapped,
        Question::Shared,
        Question::Entire,
        Question::Partial,
        Question::Refs,
        Question::Reuse,
        Question::Page,
        Question::Stat,
        Question::Overflow,
    ];
    const READS_KERNEL: bool = true;

    type State = ();

    fn value(v: &FolioView, _state: &()) -> i64 {
        v.kernel.map_or(-1, |k| i64::from(k.large))
    }

    fn answer(v: &FolioView, _state: &(), q: Question) -> Answer {
        v.kernel
            .as_ref()
            .map_or(Answer::NotAsked, |k| Self::of(v, k, q))
    }
}
