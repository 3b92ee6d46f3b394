// SPDX-License-Identifier: GPL-2.0

//! What definitions say about references, with their count in place of the number of mappings.

use crate::{
    Answer,
    Ask,
    AskPage,
    FolioView,
    KernelCounts, //
};

/// Answers [`crate::Question::Refs`] for a kernel that takes `count` references for the mappings of
/// the folio, instead of one for each.
///
/// Source: Yin Fengwei, linux-mm, 2023-03-29, point 2: "The folio refcount update needs be changed
/// to match mapcount change."
///
/// The reference count and what is expected of it change alike, so the answer stays as right as it
/// is today, with one exception: if no reference is left, those of the asker apart, then the folio
/// was freed while it was mapped. Whatever is said about it then is wrong.
pub(super) fn explained(v: &FolioView, count: i64) -> Answer {
    let (Some(unexplained), Some((ask, k))) = (v.unexplained_refs(), v.ask.zip(v.kernel)) else {
        return Answer::NotAsked;
    };
    let freed = v.total > 0 && in_place(v, &ask, &k, count) <= 0;
    Answer::from((unexplained == 0) != freed)
}

/// Returns the reference count if the mappings held `count` references together, and without those
/// of the asker.
fn in_place(v: &FolioView, ask: &Ask, k: &KernelCounts, count: i64) -> i64 {
    i64::from(k.refcount)
        .saturating_sub(i64::from(ask.own))
        .saturating_sub(i64::try_from(v.total).unwrap_or(i64::MAX))
        .saturating_add(count)
}

/// What [`crate::Question::Reuse`] is about.
pub(super) struct Wanted {
    /// The page.
    pub(super) page: AskPage,
    /// The reference count, without the asker's own and those of the swap cache.
    pub(super) refs: i64,
}

/// Returns what [`crate::Question::Reuse`] is about; `None` if it is not asked.
///
/// The swap cache is taken as freed, as `folio_free_swap()` does before the references are counted.
/// That it fails while some swap entry refers to the folio cannot be told from the counters.
pub(super) fn wanted(v: &FolioView) -> Option<Wanted> {
    let ask = v.ask?;
    let (page, kernel) = (ask.page?, v.kernel?);
    let swap = if kernel.swapcache { v.nr_pages } else { 0 };
    let refs = i64::from(kernel.refcount)
        .saturating_sub(i64::from(ask.own))
        .saturating_sub(i64::from(swap));
    Some(Wanted { page, refs })
}

/// Answers [`crate::Question::Reuse`] as Linux 7.2 does for a page that is not marked exclusive,
/// from the numbers of mappings and of entire mappings and the bit for "mapped shared".
///
/// PTE-mapped: `__wp_can_reuse_large_anon_folio()` (`mm/memory.c`), which copies the last page that
/// is mapped, too, to be rid of the folio. PMD-mapped: `do_huge_pmd_wp_page()`
/// (`mm/huge_memory.c`).
pub(super) fn may_reuse(total: i64, entire: i64, shared_bit: bool, refs: i64) -> bool {
    if entire > 0 {
        refs == 1
    } else {
        total > 1 && !shared_bit && total == refs
    }
}

/// Returns whether the folio is mapped, but it is not known who asks [`crate::Question::Shared`].
pub(super) fn nobody_asks(v: &FolioView) -> bool {
    v.asker_mm == 0 && v.total > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Question;

    /// Returns a folio with so many mappings and references, asked about by a reader that holds
    /// one.
    fn view(total: u64, refcount: i32) -> FolioView {
        let large = i32::try_from(total).unwrap_or(0);
        FolioView {
            total,
            kernel: Some(KernelCounts {
                large,
                refcount: refcount.saturating_add(1),
                expected_refs: large,
                ..KernelCounts::default()
            }),
            ask: Some(Ask { own: 1, page: None }),
            ..FolioView::default()
        }
    }

    #[test]
    fn a_count_that_is_too_low_frees_the_folio() {
        for (total, refcount, count, right) in [
            (3, 3, 3, true),
            (3, 3, 1, true),
            (3, 3, 0, false),
            (3, 3, -1, false),
            (3, 4, 0, true),
            (3, 4, -1, false),
            (0, 0, 0, true),
        ] {
            let v = view(total, refcount);
            let truth = Question::Refs.truth(&v);
            assert_eq!(truth, Some(u64::try_from(refcount) == Ok(v.total)));
            let says = explained(&v, count);
            let is_right = truth.map(Answer::from) == Some(says);
            assert_eq!(is_right, right, "{total} {refcount} {count}");
        }
    }

    #[test]
    fn nobody_asks() {
        let v = FolioView {
            ask: None,
            ..view(3, 3)
        };
        assert_eq!(explained(&v, 3), Answer::NotAsked);
        assert!(wanted(&v).is_none());
    }
}
