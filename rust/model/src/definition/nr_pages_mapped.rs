// SPDX-License-Identifier: GPL-2.0

//! `nr_pages_mapped`: pages that are mapped at all.

use super::{
    references,
    Definition, //
};
use crate::{
    Answer,
    FolioView,
    Question, //
};

/// The number of pages with `page[i]` > 0.
///
/// Source: today's `_nr_pages_mapped` (Hugh Dickins, November 2022, `subpages_mapcount`). The
/// kernel's low 23 bits count pages with PTE mappings only, plus 0x800000 while there are entire
/// mappings: equal to this value only while there are none.
///
/// Readings: `mapped` is > 0; `partial` is > 0 and less than all pages, as the deferred split queue
/// wants to know (`__folio_remove_rmap()`, `mm/rmap.c`); `refs`: as if each mapped page held a
/// reference.
///
/// Cost: no state, nothing per event.
pub struct NrPagesMapped;

impl Definition for NrPagesMapped {
    const NAME: &'static str = "nr_pages_mapped";
    const FORMULA: &'static str = "number of i with page[i] > 0";
    const SOURCE: &'static str = "_nr_pages_mapped; Dickins 2022-11";
    const CLAIMS: &'static [Question] = &[Question::Mapped, Question::Partial, Question::Refs];

    type State = ();

    fn value(v: &FolioView, _state: &()) -> i64 {
        i64::from(v.nr_pages_mapped)
    }

    fn answer(v: &FolioView, state: &(), q: Question) -> Answer {
        match q {
            Question::Partial => {
                Answer::from(v.nr_pages_mapped > 0 && v.nr_pages_mapped < v.nr_pages)
            }
            Question::Refs => references::explained(v, Self::value(v, state)),
            _ => Answer::from(v.nr_pages_mapped > 0),
        }
    }
}
