// SPDX-License-Identifier: GPL-2.0

//! `total_pages`: mapped pages over all mappings.

use super::{
    references,
    Definition, //
};
use crate::{
    Answer,
    FolioView,
    Question, //
};

/// The sum over all mappings of the pages they map: an entire mapping counts N.
///
/// Source: David Hildenbrand's RFC of April 2026: a "512-page folio mapped through 2 PMDs and a
/// single PTE has mapcount == 3 and 1025 total mapped pages".
///
/// Readings: `mapped` is > 0; `entire` is `total_pages` = `total` x N, which holds iff every
/// mapping maps all pages; `partial` is > 0 and < N, wrong when pages are mapped several times and
/// others not at all; `refs`: as if each mapping held a reference for each of its pages; `stat`:
/// the whole folio with the first mapping, until the last ("AnonPages/Mapped/Shmem" in that RFC).
///
/// Cost: no state, nothing per event.
pub struct TotalPages;

impl Definition for TotalPages {
    const NAME: &'static str = "total_pages";
    const FORMULA: &'static str = "sum over mappings of the pages they map";
    const SOURCE: &'static str = "Hildenbrand RFC 2026-04";
    const CLAIMS: &'static [Question] = &[
        Question::Mapped,
        Question::Entire,
        Question::Partial,
        Question::Refs,
        Question::Stat,
    ];

    type State = ();

    fn value(v: &FolioView, _state: &()) -> i64 {
        i64::try_from(v.total_pages).unwrap_or(i64::MAX)
    }

    fn answer(v: &FolioView, state: &(), q: Question) -> Answer {
        let pages = v.total_pages;
        let nr_pages = u64::from(v.nr_pages);
        match q {
            Question::Entire => {
                Answer::from(pages > 0 && pages == v.total.saturating_mul(nr_pages))
            }
            Question::Refs => references::explained(v, Self::value(v, state)),
            Question::Stat if pages > 0 => Answer::Count(nr_pages),
            Question::Stat => Answer::Count(0),
            Question::Partial => Answer::from(pages > 0 && pages < nr_pages),
            _ => Answer::from(pages > 0),
        }
    }
}
