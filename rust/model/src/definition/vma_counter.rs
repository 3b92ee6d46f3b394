// SPDX-License-Identifier: GPL-2.0

//! `vma_counter`: a counter of VMAs that looks at its own VMA.

use super::{
    references,
    Definition, //
};
use crate::bits::bits_of;
use crate::{
    Answer,
    Event,
    FolioView,
    Plain,
    Question, //
};

/// The counter that is meant to hold [`super::vma::Vma`]: an add of all pages counts +1; a smaller
/// add +1 if the VMA of the call mapped nothing before; a remove -1 if it maps nothing afterwards.
///
/// Source: Matthew Wilcox, linux-mm, 2023-02-06 (the sketch of `folio_add_file_rmap_range()`),
/// 2023-02-07 23:08 (removal); the hole: Yin Fengwei, linux-mm, 2023-03-29, point 4: "during
/// split_vma/merge_vma operation, we need to update the mapcount if the split/merge happens in the
/// middle of folio".
///
/// Readings: the VMA is asked with the range that it has at the moment of the call. Nothing happens
/// at VMA split, merge or mremap, so the counter is stale after those: too low when a VMA was split
/// between mapped pages, even 0 while the folio is mapped. A PMD split is no event, as for
/// [`super::vma_pt_counter::VmaPtCounter`]. An add of several calls counts once by itself: from the
/// second call on the VMA maps something. Answers are those of the formula; `refs`: each counted
/// VMA holds a reference. `drift` compares it with the formula.
///
/// Cost: 4 bytes per folio; per call the question whether the VMA maps a page of the folio, which
/// is a scan of its page tables in a kernel and is known to the shadow.
pub struct VmaCounter;

/// Returns by how much a call changes the counter.
#[inline]
pub(super) fn change(e: &Event) -> i32 {
    let all = e.adds && e.nr >= e.nr_pages;
    match e.adds {
        _ if e.split => 0,
        true if all || !e.vma_maps => 1,
        false if !e.vma_maps => -1,
        _ => 0,
    }
}

impl Definition for VmaCounter {
    const NAME: &'static str = "vma_counter";
    const FORMULA: &'static str = "first adds - last removes by VMA, at the time of the calls";
    const SOURCE: &'static str = "Wilcox 2023-02-06, 2023-02-07 23:08; Yin 2023-03-29 (4)";
    const CLAIMS: &'static [Question] = &[
        Question::Mapped,
        Question::Shared,
        Question::SharedVma,
        Question::Refs,
        Question::Drift,
    ];
    const PER_MM: bool = true;

    type State = i32;

    #[inline]
    fn event(count: &mut i32, e: &Event) {
        *count = count.saturating_add(change(e));
    }

    fn rest(count: &i32) -> i64 {
        i64::from(*count)
    }

    fn plain(past: &Plain) -> i32 {
        past.nr()
    }

    fn digest(_v: &FolioView, count: &i32) -> u64 {
        u64::from(bits_of(*count))
    }

    fn value(_v: &FolioView, count: &i32) -> i64 {
        i64::from(*count)
    }

    fn answer(v: &FolioView, count: &i32, q: Question) -> Answer {
        match q {
            Question::Drift => Answer::Counter(i64::from(*count), i64::from(v.vma)),
            Question::Refs => references::explained(v, i64::from(*count)),
            Question::Mapped => Answer::from(*count > 0),
            _ => Answer::from(*count > 1),
        }
    }
}
