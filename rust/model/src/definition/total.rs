// SPDX-License-Identifier: GPL-2.0

//! `total`: all mappings.

use super::Definition;
use crate::{
    Answer,
    FolioView,
    Question, //
};

/// Number of mappings: page-table entries that map any part of the folio.
///
/// Source: David Hildenbrand, linux-mm, 2023-07-02, (1) "Total mapcount (compound + any sub-page):
/// page_mapped(), pagecount vs. refcount games"; today's `_large_mapcount`
/// (`include/linux/mm_types.h`). Claims `mapped`; `refs`, `stat` and `overflow` come with those
/// questions.
pub struct Total;

impl Definition for Total {
    const NAME: &'static str = "total";
    const FORMULA: &'static str = "number of mappings, an entire mapping counts 1";
    const SOURCE: &'static str = "Hildenbrand 2023-07-02 (1); _large_mapcount";
    const CLAIMS: &'static [Question] = &[Question::Mapped];

    fn value(v: &FolioView) -> i64 {
        i64::try_from(v.total).unwrap_or(i64::MAX)
    }

    fn answer(v: &FolioView, _q: Question) -> Answer {
        Answer::from(v.total > 0)
    }
}
