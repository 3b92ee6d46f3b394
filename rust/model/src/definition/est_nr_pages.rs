// SPDX-License-Identifier: GPL-2.0

//! `est_nr_pages`: more mappings than pages.

use super::Definition;
use crate::{
    Answer,
    FolioView,
    Question, //
};

/// An estimate of `shared`: 1 if there are more mappings than the folio has pages.
///
/// Source: Zi Yan, linux-mm, 2023-07-02 19:51: "I wonder if we can use a different estimation like
/// total_mapcount() > folio_nr_pages()"; Yin Fengwei, 2023-07-04: "if the rough estimate is
/// enough". To which Matthew Wilcox, 2023-07-04: "That's definitely not enough for deciding whether
/// we need to COW a page or not."
///
/// Readings: no while sharers map less than all of it, and while PMDs do.
///
/// Cost: no state, nothing per event; a comparison when asked.
pub struct EstNrPages;

impl Definition for EstNrPages {
    const NAME: &'static str = "est_nr_pages";
    const FORMULA: &'static str = "total > N";
    const SOURCE: &'static str = "Zi Yan 2023-07-02; Yin 2023-07-04";
    const CLAIMS: &'static [Question] = &[Question::Shared];

    type State = ();

    fn value(v: &FolioView, _state: &()) -> i64 {
        i64::from(v.total > u64::from(v.nr_pages))
    }

    fn answer(v: &FolioView, _state: &(), _q: Question) -> Answer {
        Answer::from(v.total > u64::from(v.nr_pages))
    }
}
