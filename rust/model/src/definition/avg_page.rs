// SPDX-License-Identifier: GPL-2.0

//! `avg_page`: mappings of the average page.

use super::{
    references,
    Definition, //
};
use crate::{
    Answer,
    FolioView,
    Question, //
};

/// Entire mappings plus the rounded average of PTE mappings per page, at least 1 while mapped.
///
/// Source: `folio_average_page_mapcount()` of Linux 7.2 (`fs/proc/internal.h`), which
/// CONFIG_NO_PAGE_MAPCOUNT uses for `/proc/kpagecount`, PSS and `mapmax`.
///
/// Readings: `mapped` is > 0; `shared` is > 1; `page` is this number, whatever the page; `refs` as
/// if each of the mappings counted held a reference.
///
/// Cost: no state, nothing per event; a shift when asked.
pub struct AvgPage;

impl Definition for AvgPage {
    const NAME: &'static str = "avg_page";
    const FORMULA: &'static str = "entire + (PTE mappings + N/2) / N, at least 1 while mapped";
    const SOURCE: &'static str = "folio_average_page_mapcount(), fs/proc/internal.h";
    const CLAIMS: &'static [Question] = &[
        Question::Mapped,
        Question::Shared,
        Question::Page,
        Question::Refs,
    ];

    type State = ();

    fn value(v: &FolioView, _state: &()) -> i64 {
        i64::try_from(Self::average(v)).unwrap_or(i64::MAX)
    }

    fn answer(v: &FolioView, state: &(), q: Question) -> Answer {
        let average = Self::average(v);
        match q {
            Question::Shared => Answer::from(average > 1),
            Question::Page => Answer::Count(average),
            Question::Refs => references::explained(v, Self::value(v, state)),
            _ => Answer::from(average > 0),
        }
    }
}

impl AvgPage {
    /// Returns the average.
    fn average(v: &FolioView) -> u64 {
        let entire = u64::from(v.entire);
        let ptes = v.total.saturating_sub(entire);
        let half = u64::from(v.nr_pages >> 1);
        let rounded = ptes
            .saturating_add(half)
            .checked_shr(u32::from(v.order))
            .unwrap_or(0);
        let least = u64::from(v.total > 0);
        entire.saturating_add(rounded).max(least)
    }
}
