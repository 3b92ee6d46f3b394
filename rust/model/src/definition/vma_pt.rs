// SPDX-License-Identifier: GPL-2.0

//! `vma_pt`: tuples of a VMA and a page table.

use super::{
    references,
    Definition, //
};
use crate::{
    Answer,
    FolioView,
    Question, //
};

/// The number of (VMA, page table) tuples that map at least one page.
///
/// A tuple is keyed by the VMA and the address in units of what a page table maps; an entire
/// mapping is one tuple, a PUD, too, which becomes 512 when it is split to PTEs.
///
/// Source: Matthew Wilcox, linux-mm, 2023-01-24 "the number of (vma, page table) tuples which have
/// a reference to any pages in this folio", and 2023-02-02 with the examples.
///
/// Readings, from his mail of 2023-02-06: `mapped` is > 0; `shared` (and `shared_vma` likewise):
/// "if the mapcount is 1, it's definitely only mapped by us. If it's more than 2, it's definitely
/// mapped by somebody else. If it's 2, maybe". More than 2 is still wrong for one MM with several
/// VMAs, and for a folio larger than a PMD. `refs`: each tuple holds a reference.
///
/// Cost: no state, nothing per event.
pub struct VmaPt;

impl Definition for VmaPt {
    const NAME: &'static str = "vma_pt";
    const FORMULA: &'static str = "number of (VMA, va >> PMD_SHIFT) tuples that map >= 1 page";
    const SOURCE: &'static str = "Wilcox 2023-01-24, 2023-02-02";
    const CLAIMS: &'static [Question] = &[
        Question::Mapped,
        Question::Shared,
        Question::SharedVma,
        Question::Refs,
    ];
    const PER_MM: bool = true;

    type State = ();

    fn value(v: &FolioView, _state: &()) -> i64 {
        i64::from(v.vma_pt)
    }

    fn answer(v: &FolioView, state: &(), q: Question) -> Answer {
        match (q, v.vma_pt) {
            (Question::Refs, _) => references::explained(v, Self::value(v, state)),
            (Question::Mapped, n) => Answer::from(n > 0),
            (_, 2) => Answer::Unknown,
            (_, n) => Answer::from(n > 2),
        }
    }
}
