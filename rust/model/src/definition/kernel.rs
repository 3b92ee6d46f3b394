// SPDX-License-Identifier: GPL-2.0

//! `kernel`: what the running kernel answers from its own counters.

use super::Definition;
use crate::{
    Answer,
    FolioView,
    KernelCounts,
    Question, //
};

/// The answers of the running kernel. The value is its large mapcount, -1 if it was not read.
///
/// Source, Linux 7.2: `mapped` is `folio_mapped()` (`include/linux/mm.h`); `shared` is
/// `folio_maybe_mapped_shared()` (`include/linux/mm.h`), which errs on the side of yes; `entire`
/// compares `folio_large_mapcount()` with `folio_entire_mapcount()`; `partial` is
/// PG_partially_mapped (`__folio_remove_rmap()`, `mm/rmap.c`), sticky, and asked only where the
/// kernel keeps it: anon folios of order > 1 that are not in the swap cache.
///
/// Asked only while the counters are quiescent: no call in flight, no copy or move open that
/// involves the folio.
pub struct Kernel;

impl Kernel {
    /// Returns the kernel's answer, given its counters.
    fn of(k: &KernelCounts, q: Question) -> Answer {
        match q {
            Question::Mapped => Answer::from(k.large > 0),
            Question::Shared => Answer::from(k.maybe_mapped_shared),
            Question::Entire => Answer::from(k.large > 0 && k.large == k.entire),
            Question::Partial if k.anon && k.order > 1 && !k.swapcache => {
                Answer::from(k.partially_mapped)
            }
            _ => Answer::NotAsked,
        }
    }
}

impl Definition for Kernel {
    const NAME: &'static str = "kernel";
    const FORMULA: &'static str = "the kernel's own counters; shown is _large_mapcount + 1";
    const SOURCE: &'static str = "struct folio, folio_maybe_mapped_shared(), PG_partially_mapped";
    const CLAIMS: &'static [Question] = &[
        Question::Mapped,
        Question::Shared,
        Question::Entire,
        Question::Partial,
    ];
    const READS_KERNEL: bool = true;

    fn value(v: &FolioView) -> i64 {
        v.kernel.map_or(-1, |k| i64::from(k.large))
    }

    fn answer(v: &FolioView, q: Question) -> Answer {
        v.kernel
            .as_ref()
            .map_or(Answer::NotAsked, |k| Self::of(k, q))
    }
}
