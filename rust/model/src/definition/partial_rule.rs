// SPDX-License-Identifier: GPL-2.0

//! `partial_rule`: the flag for partially mapped folios without per-page counts.

use super::Definition;
use crate::{
    Answer,
    Event,
    FolioView,
    Kind,
    Level,
    Question, //
};

/// PG_partially_mapped, as a kernel with CONFIG_NO_PAGE_MAPCOUNT sets it: 1 or 0.
///
/// Source: `__folio_remove_rmap()` of Linux 7.2 (`mm/rmap.c`) for CONFIG_NO_PAGE_MAPCOUNT, and
/// `deferred_split_folio()` (`mm/huge_memory.c`). A remove of PTEs sets the flag if mappings are
/// left, but fewer than the folio has pages, and none of them is entire; the remove of the last
/// entire mapping, if fewer mappings than pages are left. Only for anon folios of order > 1.
///
/// Readings: sticky until nothing is mapped any more. The kernel does not set it while the folio is
/// in the swap cache, which the calls do not tell; here it is set then, too. `partial` is the flag:
/// it misses what adds leave partial, and shared folios ("cannot detect partial mappings of shared
/// anonymous folios in all cases", RFC of April 2026); it keeps what became whole again. Each call
/// counts, so a folio that is unmapped page by page gets the flag on the way, as in the kernel.
///
/// Cost: a bit per folio (here a byte); a comparison per remove.
pub struct PartialRule;

impl Definition for PartialRule {
    const NAME: &'static str = "partial_rule";
    const FORMULA: &'static str = "some remove left 0 < total < N and no entire mapping";
    const SOURCE: &'static str = "__folio_remove_rmap() with CONFIG_NO_PAGE_MAPCOUNT";
    const CLAIMS: &'static [Question] = &[Question::Partial];
    const SOMETIMES: bool = true;

    type State = bool;

    #[inline]
    fn event(flag: &mut bool, e: &Event) {
        if e.adds || e.kind != Kind::Anon || e.order <= 1 {
            return;
        }
        let (nr, entire) = match e.level {
            Level::Pte => (e.nr, e.entire),
            Level::Entire => (1, e.entire.saturating_sub(1)),
        };
        let left = e.total.saturating_sub(u64::from(nr));
        *flag |= entire == 0 && 0 < left && left < u64::from(e.nr_pages);
    }

    fn digest(_v: &FolioView, flag: &bool) -> u64 {
        u64::from(*flag)
    }

    fn value(_v: &FolioView, flag: &bool) -> i64 {
        i64::from(*flag)
    }

    fn answer(v: &FolioView, flag: &bool, _q: Question) -> Answer {
        if v.kind != Kind::Anon || v.order <= 1 {
            return Answer::NotAsked;
        }
        Answer::from(*flag)
    }
}
