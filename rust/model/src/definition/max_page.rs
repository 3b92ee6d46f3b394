// SPDX-License-Identifier: GPL-2.0

//! `max_page`: mappings of the page with most of them.

use super::{
    references,
    Definition, //
};
use crate::{
    Answer,
    FolioView,
    Question, //
};

/// The largest `page[i]`.
///
/// Source: `page_trans_huge_mapcount()`, named by Matthew Wilcox, linux-mm, 2021-12-16 15:54;
/// `mapmax` of `/proc/PID/numa_maps`.
///
/// Readings: `mapped` is > 0, as for every count; `page` is this number, whatever the page, so it
/// is too high for every page that is mapped less often; `refs`: as if its mappings held the
/// references; `reuse` is = 1: "If the return value is one, even if different processes are mapping
/// different subpages of the transparent hugepage, they can all reuse it" (quoted by David
/// Hildenbrand, 2021-12-16 16:45). References are not looked at: wrong while something else holds
/// one.
///
/// Cost: no state, nothing per event.
pub struct MaxPage;

impl Definition for MaxPage {
    const NAME: &'static str = "max_page";
    const FORMULA: &'static str = "largest page[i]";
    const SOURCE: &'static str = "page_trans_huge_mapcount(); Wilcox 2021-12-16; numa_maps mapmax";
    const CLAIMS: &'static [Question] = &[
        Question::Mapped,
        Question::Page,
        Question::Refs,
        Question::Reuse,
    ];

    type State = ();

    fn value(v: &FolioView, _state: &()) -> i64 {
        i64::from(v.max_page)
    }

    fn answer(v: &FolioView, state: &(), q: Question) -> Answer {
        match q {
            Question::Page => Answer::Count(u64::from(v.max_page)),
            Question::Refs => references::explained(v, Self::value(v, state)),
            Question::Reuse => {
                references::wanted(v).map_or(Answer::NotAsked, |_| Answer::from(v.max_page == 1))
            }
            _ => Answer::from(v.max_page > 0),
        }
    }
}
