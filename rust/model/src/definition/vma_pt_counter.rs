// SPDX-License-Identifier: GPL-2.0

//! `vma_pt_counter`: adds less removes of runs.

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

/// The counter that is meant to hold [`super::vma_pt::VmaPt`]: +1 for each add run, -1 for each
/// remove run, with no look at what else is mapped.
///
/// Source: Matthew Wilcox, linux-mm, 2023-01-24: "That gives us one call to page_add_*_rmap() per
/// (vma, page table) tuple", and under "Concerns": "map three pages, unmap two; we shouldn't
/// decrement the mapcount, but I don't think we can know that. But does this ever happen?"
///
/// Readings: what he calls a call is a run here, because today's kernel calls page by page where he
/// meant one call; fork is one run per tuple. A PMD split "would not change the mapcount": it is no
/// event; for a file folio it only unmaps, so that it is a remove. The counter is signed: two
/// removes of a tuple take it below 0. What it answers is what the formula answers; `refs`: each
/// counted tuple holds a reference. `drift` compares it with the formula.
///
/// Cost: 4 bytes per folio; an addition per run.
pub struct VmaPtCounter;

impl Definition for VmaPtCounter {
    const NAME: &'static str = "vma_pt_counter";
    const FORMULA: &'static str = "add runs - remove runs";
    const SOURCE: &'static str = "Wilcox 2023-01-24 (Implementation sketch, Concerns)";
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
        if e.new_run && !e.split {
            *count = count.saturating_add(if e.adds { 1 } else { -1 });
        }
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
        match (q, *count) {
            (Question::Drift, n) => Answer::Counter(i64::from(n), i64::from(v.vma_pt)),
            (Question::Refs, n) => references::explained(v, i64::from(n)),
            (Question::Mapped, n) => Answer::from(n > 0),
            (_, 2) => Answer::Unknown,
            (_, n) => Answer::from(n > 2),
        }
    }
}
