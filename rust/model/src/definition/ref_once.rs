// SPDX-License-Identifier: GPL-2.0

//! `ref_once`: one reference for all mappings.

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

/// The references that mappings hold if all of them together hold one: 1 while the folio is mapped.
///
/// Source: Matthew Wilcox, linux-mm, 2023-07-02 12:26: "having a 64-bit mapcount stored in a tail
/// page, but having mapcount only contribute 1 to refcount instead of refcount being incremented
/// for every mapcount"; 2024-01-29: "Are we in danger of overflowing page refcount too easily?"
///
/// Readings: `refs` with this number in place of `total`; `overflow`: the reference count without
/// those of the mappings but one is past half of its limit. Its mapcount has 64 bits and no limit,
/// so it says no where today's counters are near theirs; that is a difference, and the point.
///
/// Cost: no state, nothing per event.
pub struct RefOnce;

impl Definition for RefOnce {
    const NAME: &'static str = "ref_once";
    const FORMULA: &'static str = "1 if total > 0";
    const SOURCE: &'static str = "Wilcox 2023-07-02 12:26, 2024-01-29";
    const CLAIMS: &'static [Question] = &[Question::Refs, Question::Overflow];

    type State = ();

    fn value(v: &FolioView, _state: &()) -> i64 {
        i64::from(v.total > 0)
    }

    fn answer(v: &FolioView, state: &(), q: Question) -> Answer {
        let count = Self::value(v, state);
        if q == Question::Refs {
            return references::explained(v, count);
        }
        let refcount = v.kernel.map_or(0, |k| i64::from(k.refcount));
        let refs = refcount
            .saturating_sub(i64::try_from(v.total).unwrap_or(i64::MAX))
            .saturating_add(count);
        Answer::from(refs > i64::try_from(HALF_LIMIT).unwrap_or(i64::MAX))
    }
}
