// SPDX-License-Identifier: GPL-2.0

//! `page_vma`: VMAs that map a page.

use super::{
    references,
    Definition, //
};
use crate::{
    Answer,
    FolioView,
    Question, //
};

/// For each page, the number of VMAs that map it; the value is the largest.
///
/// Source: Jason Gunthorpe, linux-mm, 2021-12-16 17:01: "if we can know the number of VMAs is 1
/// then we are safe to allow wp_page_reuse()", "if we knew how many anonymous VMA's pointed at an
/// anonymous page (at a 4k granularity) that would replace mapcount for COW?"
///
/// Readings: a VMA has one address for a page of a folio, so this is `page[i]`, but for a PMD split
/// on its way, which is never evaluated. `reuse`: the page that is asked about has one VMA,
/// references are not looked at: wrong while something else holds one. `page`: the largest number,
/// whatever the page, is what [`super::max_page::MaxPage`] claims already.
///
/// Cost: no state, nothing per event; in a kernel a count per page, and work for each page.
pub struct PageVma;

impl Definition for PageVma {
    const NAME: &'static str = "page_vma";
    const FORMULA: &'static str = "number of VMAs that map page i; shown is the largest";
    const SOURCE: &'static str = "Gunthorpe 2021-12-16";
    const CLAIMS: &'static [Question] = &[Question::Mapped, Question::Reuse];
    const PER_MM: bool = true;

    type State = ();

    fn value(v: &FolioView, _state: &()) -> i64 {
        i64::from(v.max_page)
    }

    fn answer(v: &FolioView, _state: &(), q: Question) -> Answer {
        match q {
            Question::Reuse => {
                references::wanted(v).map_or(Answer::NotAsked, |w| Answer::from(w.page.count == 1))
            }
            _ => Answer::from(v.max_page > 0),
        }
    }
}
