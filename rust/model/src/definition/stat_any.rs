// SPDX-License-Identifier: GPL-2.0

//! `stat_any`: pages that are counted as mapped, mapped or not.

use super::Definition;
use crate::{
    Answer,
    FolioView,
    Question, //
};

/// The pages that a folio adds to AnonPages or Mapped if all its pages are counted "regardless they
/// are mapped or not": N.
///
/// Source: Zi Yan, linux-mm, 2023-07-01: "Can we just count anonymous pages and file pages
/// regardless they are mapped or not instead. Does userspace really want to know the mapped pages?"
///
/// Readings: `stat` is N, always; how wrong it is for folios that nobody maps is not seen here,
/// since they are not tracked.
///
/// Cost: no state, nothing per event.
pub struct StatAny;

impl Definition for StatAny {
    const NAME: &'static str = "stat_any";
    const FORMULA: &'static str = "N, mapped or not";
    const SOURCE: &'static str = "Zi Yan 2023-07-01";
    const CLAIMS: &'static [Question] = &[Question::Stat];

    type State = ();

    fn value(v: &FolioView, _state: &()) -> i64 {
        i64::from(v.nr_pages)
    }

    fn answer(v: &FolioView, _state: &(), _q: Question) -> Answer {
        Answer::Count(u64::from(v.nr_pages))
    }
}
