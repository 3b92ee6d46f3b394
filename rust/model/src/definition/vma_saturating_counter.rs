// SPDX-License-Identifier: GPL-2.0

//! `vma_saturating_counter`: a counter of VMAs that sticks at many.

use super::{
    references,
    vma_counter,
    vma_saturating::MANY,
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

/// The counter that is meant to hold [`super::vma_saturating::VmaSaturating`]: 0, 1, 2, many.
///
/// Source: Matthew Wilcox, linux-mm, 2021: from many there is no way back but by a walk of the
/// rmap.
///
/// Readings: changed by the same rule as [`super::vma_counter::VmaCounter`]. Many (3) stays until
/// nothing is mapped any more; no walk is made. Nothing keeps it from falling below 0, for the same
/// reasons. `shared` and `shared_vma`: > 1, and unknown at many, because all but one may have left.
/// References are the count, at most three. `drift` compares it with the formula: after many, it is
/// too high. Many is no leak when the folio is unmapped.
///
/// Cost: 4 bytes per folio (2 bits would do, but for underflows); per call what
/// [`super::vma_counter::VmaCounter`] does.
pub struct VmaSaturatingCounter;

impl Definition for VmaSaturatingCounter {
    const NAME: &'static str = "vma_saturating_counter";
    const FORMULA: &'static str = "vma_counter until it is 3, then 3 until unmapped";
    const SOURCE: &'static str = "Wilcox 2021 (0, 1, 2, many)";
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
        if *count < i32::from(MANY) {
            *count = count.saturating_add(vma_counter::change(e));
        }
    }

    fn rest(count: &i32) -> i64 {
        if *count == i32::from(MANY) {
            0
        } else {
            i64::from(*count)
        }
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
        let n = i64::from(*count);
        match q {
            Question::Drift => Answer::Counter(n, i64::from(v.vma.min(u32::from(MANY)))),
            Question::Refs => references::explained(v, n),
            Question::Mapped => Answer::from(n > 0),
            _ if *count >= i32::from(MANY) => Answer::Unknown,
            _ => Answer::from(n > 1),
        }
    }
}
