// SPDX-License-Identifier: GPL-2.0

//! `vma`: VMAs.

use super::Definition;
use crate::{
    Answer,
    FolioView,
    Question, //
};

/// The number of VMAs that map at least one page.
///
/// Source: Matthew Wilcox, linux-mm, 2021-12-15 "the number of VMAs which contain a reference to any
/// page in this folio"; 2023-02-06 "How many VMAs have one-or-more pages of this folio mapped";
/// 2023-02-08 with an example. Counted over T: what his sketch of a counter would hold is another
/// definition.
///
/// Readings: `mapped` is > 0; `shared` is > 1, from "I have it mapped, does anybody else?"
/// (2023-02-06), wrong for two VMAs of one MM; `shared_vma` is > 1.
pub struct Vma;

impl Definition for Vma {
    const NAME: &'static str = "vma";
    const FORMULA: &'static str = "number of VMAs that map >= 1 page";
    const SOURCE: &'static str = "Wilcox 2021-12-15, 2023-02-06, 2023-02-08";
    const CLAIMS: &'static [Question] = &[Question::Mapped, Question::Shared, Question::SharedVma];

    fn value(v: &FolioView) -> i64 {
        i64::from(v.vma)
    }

    fn answer(v: &FolioView, q: Question) -> Answer {
        match q {
            Question::Mapped => Answer::from(v.vma > 0),
            _ => Answer::from(v.vma > 1),
        }
    }
}
