// SPDX-License-Identifier: GPL-2.0

//! `vma_saturating`: no VMA, one, two, or many.

use super::{
    references,
    Definition, //
};
use crate::{
    Answer,
    FolioView,
    Question, //
};

/// The number of VMAs that map at least one page, told as 0, 1, 2 or many: 3.
///
/// Source: Matthew Wilcox, linux-mm, 2021: a count of VMAs that saturates, "many" being whatever is
/// above two. Counted over T; a counter that is kept by calls cannot come back from many, see
/// [`super::vma_saturating_counter::VmaSaturatingCounter`].
///
/// Readings: as for [`super::vma::Vma`]: many VMAs are more than one. `refs`: at most three
/// references stand for the mappings.
///
/// Cost: no state, nothing per event.
pub struct VmaSaturating;

/// What stands for many.
pub(super) const MANY: u8 = 3;

impl Definition for VmaSaturating {
    const NAME: &'static str = "vma_saturating";
    const FORMULA: &'static str = "min(vma, 3)";
    const SOURCE: &'static str = "Wilcox 2021 (0, 1, 2, many)";
    const CLAIMS: &'static [Question] = &[
        Question::Mapped,
        Question::Shared,
        Question::SharedVma,
        Question::Refs,
    ];
    const PER_MM: bool = true;

    type State = ();

    fn value(v: &FolioView, _state: &()) -> i64 {
        i64::from(v.vma.min(u32::from(MANY)))
    }

    fn answer(v: &FolioView, state: &(), q: Question) -> Answer {
        match q {
            Question::Mapped => Answer::from(v.vma > 0),
            Question::Refs => references::explained(v, Self::value(v, state)),
            _ => Answer::from(v.vma > 1),
        }
    }
}
