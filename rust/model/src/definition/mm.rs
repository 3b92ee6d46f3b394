// SPDX-License-Identifier: GPL-2.0

//! `mm`: MMs.

use super::{
    references,
    Definition, //
};
use crate::{
    Answer,
    FolioView,
    Question, //
};

/// The number of MMs that map at least one page.
///
/// Source: Matthew Wilcox, linux-mm, 2021-12-16 15:54 "a count of the number of MMs mapping a page,
/// not the number of VMAs, PTEs or PMDs"; kept per folio here. To `shared` it is the truth;
/// `refs`: each MM holds a reference.
///
/// Cost: no state, nothing per event.
pub struct Mm;

impl Definition for Mm {
    const NAME: &'static str = "mm";
    const FORMULA: &'static str = "number of MMs that map >= 1 page";
    const SOURCE: &'static str = "Wilcox 2021-12-16";
    const CLAIMS: &'static [Question] = &[Question::Mapped, Question::Shared, Question::Refs];
    const PER_MM: bool = true;

    type State = ();

    fn value(v: &FolioView, _state: &()) -> i64 {
        i64::from(v.mm)
    }

    fn answer(v: &FolioView, state: &(), q: Question) -> Answer {
        match q {
            Question::Shared => Answer::from(v.mm > 1),
            Question::Refs => references::explained(v, Self::value(v, state)),
            _ => Answer::from(v.mm > 0),
        }
    }
}
