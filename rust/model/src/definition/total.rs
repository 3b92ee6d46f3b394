// SPDX-License-Identifier: GPL-2.0

//! `total`: all mappings.

use super::{
    references,
    Definition, //
};
use crate::{
    Answer,
    FolioView,
    Question,
    HALF_LIMIT, //
};

/// Number of mappings: page-table entries that map any part of the folio.
///
/// Source: David Hildenbrand, linux-mm, 2023-07-02, (1) "Total mapcount (compound + any sub-page):
/// page_mapped(), pagecount vs. refcount games"; today's `_large_mapcount`
/// (`include/linux/mm_types.h`).
///
/// Readings: `mapped` is > 0; `refs`: one reference for each mapping, as it is today; `stat`:
/// without more to know than that count, the whole folio is counted as mapped with the first
/// mapping, until the last (Zi Yan, 2023-07-01: "A single mapcount is a mix of per-page mapcount
/// and entire_mapcount and kernel is not able to recover the necessary information"); `overflow`:
/// it is past half of the limit, blind to other references.
///
/// Cost: no state, nothing per event.
pub struct Total;

impl Definition for Total {
    const NAME: &'static str = "total";
    const FORMULA: &'static str = "number of mappings, an entire mapping counts 1";
    const SOURCE: &'static str = "Hildenbrand 2023-07-02 (1); _large_mapcount";
    const CLAIMS: &'static [Question] = &[
        Question::Mapped,
        Question::Refs,
        Question::Stat,
        Question::Overflow,
    ];

    type State = ();

    fn value(v: &FolioView, _state: &()) -> i64 {
        i64::try_from(v.total).unwrap_or(i64::MAX)
    }

    fn answer(v: &FolioView, state: &(), q: Question) -> Answer {
        match q {
            Question::Refs => references::explained(v, Self::value(v, state)),
            Question::Stat if v.total > 0 => Answer::Count(u64::from(v.nr_pages)),
            Question::Stat => Answer::Count(0),
            Question::Overflow => Answer::from(v.total > HALF_LIMIT),
            _ => Answer::from(v.total > 0),
        }
    }
}
