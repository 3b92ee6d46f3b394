// SPDX-License-Identifier: GPL-2.0

//! `vma`: VMAs.

use super::{
    references,
    Definition, //
};
use crate::{
    Answer,
    FolioView,
    Question, //
};

/// The number of VMAs that map at least one page.
///
/// Source: Matthew Wilcox, linux-mm, 2021-12-15 "the number of VMAs which contain a reference to
/// any page in this folio"; 2023-02-06 "How many VMAs have one-or-more pages of this folio mapped";
/// 2023-02-08 with an example. Counted over T: what his sketch of a counter would hold is another
/// definition, [`super::vma_counter::VmaCounter`].
///
/// Readings: `mapped` is > 0; `shared` is > 1, from "I have it mapped, does anybody else?"
/// (2023-02-06), wrong for two VMAs of one MM; `shared_vma` is > 1; `refs`: each VMA holds a
/// reference (Yin Fengwei, 2023-03-29, point 2).
///
/// Cost: no state, nothing per event.
pub struct Vma;

impl Definition for Vma {
    const NAME: &'static str = "vma";
    const FORMULA: &'static str = "number of VMAs that map >= 1 page";
    const SOURCE: &'static str = "Wilcox 2021-12-15, 2023-02-06, 2023-02-08";
    const CLAIMS: &'static [Question] = &[
        Question::Mapped,
        Question::Shared,
        Question::SharedVma,
        Question::Refs,
    ];
    const PER_MM: bool = true;

    type State = ();

    fn value(v: &FolioView, _state: &()) -> i64 {
        i64::from(v.vma)
    }

    fn answer(v: &FolioView, state: &(), q: Question) -> Answer {
        match q {
            Question::Refs => references::explained(v, Self::value(v, state)),
            Question::Mapped => Answer::from(v.vma > 0),
            _ => Answer::from(v.vma > 1),
        }
    }
}
