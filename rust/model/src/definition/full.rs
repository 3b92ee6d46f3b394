// SPDX-License-Identifier: GPL-2.0

//! `full`: VMAs that map the whole folio.

use super::Definition;
use crate::{
    Answer,
    FolioView,
    Question, //
};

/// The number of VMAs that map all pages, in whatever way.
///
/// Source: Zi Yan, linux-mm, 2023-02-07 16:23 "How about having two, full_folio_mapcount and
/// partial_folio_mapcount?"; "entire_mapcount as full count" in Matthew Wilcox's mail of
/// 2023-08-10. That a mapping is the mapping by one VMA is our reading.
///
/// Readings: `mapped` is > 0, as for every count: no while only parts are mapped. The question that
/// needs both counts is asked here: `entire` is `full` > 0 and `partial` = 0 ("If
/// partial_folio_mapcount is 0, we can have a fast path without doing anything at page level"),
/// wrong when PTEs map all pages.
///
/// Cost: no state, nothing per event.
pub struct Full;

impl Definition for Full {
    const NAME: &'static str = "full";
    const FORMULA: &'static str = "number of VMAs that map all pages";
    const SOURCE: &'static str = "Zi Yan 2023-02-07; Wilcox 2023-08-10";
    const CLAIMS: &'static [Question] = &[Question::Mapped, Question::Entire];
    const PER_MM: bool = true;

    type State = ();

    fn value(v: &FolioView, _state: &()) -> i64 {
        i64::from(v.full)
    }

    fn answer(v: &FolioView, _state: &(), q: Question) -> Answer {
        match q {
            Question::Entire => Answer::from(v.full > 0 && v.partial == 0),
            _ => Answer::from(v.full > 0),
        }
    }
}
