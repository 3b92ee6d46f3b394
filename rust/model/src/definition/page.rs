// SPDX-License-Identifier: GPL-2.0

//! `page[i]`: mappings of each page.

use super::Definition;
use crate::{
    Answer,
    FolioView,
    Question, //
};

/// For each page, the number of mappings that cover it: its PTE mappings plus all entire mappings.
///
/// Source: Kirill Shutemov, linux-mm, 2015-07-31 "page_mapcount() counts both: PTE and PMD
/// mappings of the page" (commit 53f9263baba6); today's `page->_mapcount`, which counts PTEs only,
/// plus `_entire_mapcount`.
///
/// The counts themselves are read with [`crate::Shard::page`]; the value here is their sum. Claims
/// `mapped`: some `page[i]` > 0. To `page` it is the truth.
///
/// Cost: no state, nothing per event.
pub struct Page;

impl Definition for Page {
    const NAME: &'static str = "page";
    const FORMULA: &'static str = "page[i]: number of mappings that cover page i; shown is the sum";
    const SOURCE: &'static str = "Shutemov 2015-07-31 (53f9263baba6); page->_mapcount + \
                                  _entire_mapcount";
    const CLAIMS: &'static [Question] = &[Question::Mapped];

    type State = ();

    fn value(v: &FolioView, _state: &()) -> i64 {
        i64::try_from(v.total_pages).unwrap_or(i64::MAX)
    }

    fn answer(v: &FolioView, _state: &(), _q: Question) -> Answer {
        Answer::from(v.max_page > 0)
    }
}
