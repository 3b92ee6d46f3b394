// SPDX-License-Identifier: GPL-2.0

//! `entire`: PMD and PUD mappings.

use super::{
    references,
    Definition, //
};
use crate::{
    Answer,
    FolioView,
    Question, //
};

/// Number of mappings that map the folio as a whole, by a PMD or PUD.
///
/// Source: Kirill Shutemov, 2015, "compound_mapcount" (commit 53f9263baba6); David Hildenbrand,
/// linux-mm, 2023-07-02, (2) "Compound mapcount"; today's `_entire_mapcount`. "It's pmd_mapcount"
/// (Matthew Wilcox, linux-mm, 2023-08-10).
///
/// Readings: on its own, `mapped` is > 0 (as for every count), blind to PTEs, and `entire` is > 0,
/// wrong while PTEs map the folio, too; the kernel compares it with `total`, see
/// [`super::kernel::Kernel`]; `refs`: as if only entire mappings held references.
///
/// Cost: no state, nothing per event.
pub struct Entire;

impl Definition for Entire {
    const NAME: &'static str = "entire";
    const FORMULA: &'static str = "number of PMD and PUD mappings";
    const SOURCE: &'static str = "Shutemov 2015 (53f9263baba6); Hildenbrand 2023-07-02 (2); \
                                  _entire_mapcount";
    const CLAIMS: &'static [Question] = &[Question::Mapped, Question::Entire, Question::Refs];

    type State = ();

    fn value(v: &FolioView, _state: &()) -> i64 {
        i64::from(v.entire)
    }

    fn answer(v: &FolioView, state: &(), q: Question) -> Answer {
        match q {
            Question::Refs => references::explained(v, Self::value(v, state)),
            _ => Answer::from(v.entire > 0),
        }
    }
}
