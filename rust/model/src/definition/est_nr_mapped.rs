// SPDX-License-Identifier: GPL-2.0

//! `est_nr_mapped`: more mappings than mapped pages.

use super::Definition;
use crate::{
    Answer,
    FolioView,
    Question, //
};

/// An estimate of `shared`: 1 if there are more mappings than mapped pages.
///
/// Source: Yin Fengwei, linux-mm, 2023-07-03: "Considering the partial folio mapping, I suppose we
/// should use total_mapcount() > folio->_nr_pages_mapped as folio_estimated_sharers()."
///
/// Readings: some page is mapped more than once; entire mappings apart, of which one counts less
/// than the pages it maps. No while two MMs map different pages.
///
/// Cost: no state, nothing per event; a comparison when asked.
pub struct EstNrMapped;

impl Definition for EstNrMapped {
    const NAME: &'static str = "est_nr_mapped";
    const FORMULA: &'static str = "total > nr_pages_mapped";
    const SOURCE: &'static str = "Yin 2023-07-03";
    const CLAIMS: &'static [Question] = &[Question::Shared];

    type State = ();

    fn value(v: &FolioView, _state: &()) -> i64 {
        i64::from(v.total > u64::from(v.nr_pages_mapped))
    }

    fn answer(v: &FolioView, _state: &(), _q: Question) -> Answer {
        Answer::from(v.total > u64::from(v.nr_pages_mapped))
    }
}
