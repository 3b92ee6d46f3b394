// SPDX-License-Identifier: GPL-2.0

//! `first_page`: mappings of the first page.

use super::{
    references,
    Definition, //
};
use crate::{
    Answer,
    FolioView,
    Question, //
};

/// `page[0]`: the number of mappings that cover the first page.
///
/// Source: David Hildenbrand, linux-mm, 2023-07-02, (3) "Mapcount of first (or any other) subpage
/// (compount+subpage): for folio_estimated_sharers()" (commit 078517573f3a and after, until
/// `folio_likely_mapped_shared()`).
///
/// Readings: `shared` is > 1, as `folio_estimated_sharers(folio) > 1` was used; `mapped` is > 0, as
/// for every count. Both are wrong when the first page is mapped less than others. `refs`: as if
/// only its mappings held references.
///
/// Cost: no state, nothing per event.
pub struct FirstPage;

impl Definition for FirstPage {
    const NAME: &'static str = "first_page";
    const FORMULA: &'static str = "page[0]";
    const SOURCE: &'static str = "Hildenbrand 2023-07-02 (3); folio_estimated_sharers()";
    const CLAIMS: &'static [Question] = &[Question::Mapped, Question::Shared, Question::Refs];

    type State = ();

    fn value(v: &FolioView, _state: &()) -> i64 {
        i64::from(v.first_page)
    }

    fn answer(v: &FolioView, state: &(), q: Question) -> Answer {
        match q {
            Question::Shared => Answer::from(v.first_page > 1),
            Question::Refs => references::explained(v, Self::value(v, state)),
            _ => Answer::from(v.first_page > 0),
        }
    }
}
