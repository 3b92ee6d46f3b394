// SPDX-License-Identifier: GPL-2.0

//! `partial`: VMAs that map a part of the folio.

use super::Definition;
use crate::{
    Answer,
    FolioView,
    Question, //
};

/// The number of VMAs that map at least one page, but not all.
///
/// Source: Zi Yan, linux-mm, 2023-02-07 16:23; before, Matthew Wilcox's "partial_mapcount", "which
/// would be <= mapcount", linux-mm, 2021-12-15 and 2021-12-16 13:56 (for the deferred split queue).
/// That a mapping is the mapping by one VMA is our reading.
///
/// Reading: `mapped` is > 0, as for every count: no while all VMAs map all pages. `partial` is > 0
/// while `full` is 0, wrong when several VMAs map all pages together. What else the pair of counts
/// answers is asked of [`super::full::Full`].
///
/// Cost: no state, nothing per event.
pub struct Partial;

impl Definition for Partial {
    const NAME: &'static str = "partial";
    const FORMULA: &'static str = "number of VMAs that map some pages, but not all";
    const SOURCE: &'static str = "Zi Yan 2023-02-07; Wilcox 2021-12-15, 2021-12-16";
    const CLAIMS: &'static [Question] = &[Question::Mapped, Question::Partial];
    const PER_MM: bool = true;

    type State = ();

    fn value(v: &FolioView, _state: &()) -> i64 {
        i64::from(v.partial)
    }

    fn answer(v: &FolioView, _state: &(), q: Question) -> Answer {
        match q {
            Question::Partial => Answer::from(v.partial > 0 && v.full == 0),
            _ => Answer::from(v.partial > 0),
        }
    }
}
