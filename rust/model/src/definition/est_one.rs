// SPDX-License-Identifier: GPL-2.0

//! `est_one`: more mappings than one.

use super::Definition;
use crate::{
    Answer,
    FolioView,
    Question, //
};

/// An estimate of `shared`: 1 if there is more than one mapping.
///
/// Source: Matthew Wilcox, linux-mm, 2023-02-07 04:08, of `madvise_cold_or_pageout_pte_range()`:
/// "Do not interfere with other mappings of this page", which was `page_mapcount(page) != 1`.
///
/// Readings: yes as soon as a second PTE maps anything.
///
/// Cost: no state, nothing per event; a comparison when asked.
pub struct EstOne;

impl Definition for EstOne {
    const NAME: &'static str = "est_one";
    const FORMULA: &'static str = "total > 1";
    const SOURCE: &'static str = "Wilcox 2023-02-07 04:08";
    const CLAIMS: &'static [Question] = &[Question::Shared];

    type State = ();

    fn value(v: &FolioView, _state: &()) -> i64 {
        i64::from(v.total > 1)
    }

    fn answer(v: &FolioView, _state: &(), _q: Question) -> Answer {
        Answer::from(v.total > 1)
    }
}
