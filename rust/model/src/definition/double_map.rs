// SPDX-License-Identifier: GPL-2.0

//! `double_map`: a flag for pages that are mapped in both ways.

use super::{
    Definition,
    Shown, //
};
use crate::{
    Answer,
    Event,
    FolioView,
    Kind,
    Level,
    Plain,
    PlainMap,
    Question, //
};

/// Entire mappings, counts per page, and the flag PG_double_map that says that the latter are one
/// too high.
///
/// Source: Kirill Shutemov, 2015, commit 53f9263baba6: "When we split THP PMD for the first time
/// and there's other PMD mapping left we offset up ->_mapcount in all subpages by one and set
/// PG_double_map on the compound page. These additional references go away with last
/// compound_mapcount." To Jerome Marchand's remark (linux-mm, 2015-07-31) that it "stays even if
/// all PTE mappings goes": "it shouldn't happen often enough to care".
///
/// Readings: anon folios of the order of a PMD only. Set by the removal of the entire mapping in a
/// PMD split if there is another one; a split to migration entries maps no PTE and is no split
/// here. Cleared with the last entire mapping. The value is `compound_mapcount`; the counts per
/// page, less the offset, are those of [`super::page::Page`], so `mapped` is `compound_mapcount` >
/// 0 or any of them > 0. `entire` is `compound_mapcount` > 0 and no flag: wrong while the flag
/// outlives the PTEs.
///
/// Cost: 8 bytes per folio, besides a count per page; per call a comparison, but the split that
/// sets the flag, and the last remove after it, change all counts per page.
pub struct DoubleMap;

/// What the compound page knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Doubled {
    /// `compound_mapcount`: entire mappings.
    compound: u32,
    /// PG_double_map.
    flag: bool,
}

impl Definition for DoubleMap {
    const NAME: &'static str = "double_map";
    const FORMULA: &'static str = "compound_mapcount, counts per page, PG_double_map";
    const SOURCE: &'static str = "Shutemov, Marchand 2015 (53f9263baba6)";
    const CLAIMS: &'static [Question] = &[Question::Mapped, Question::Entire];
    const SOMETIMES: bool = true;

    type State = Doubled;

    #[inline]
    fn event(s: &mut Doubled, e: &Event) {
        if e.kind != Kind::Anon || e.order != e.pmd_order || e.level != Level::Entire {
            return;
        }
        if e.adds {
            s.compound = s.compound.saturating_add(1);
            return;
        }
        if e.split && s.compound > 1 {
            s.flag = true;
        }
        s.compound = s.compound.saturating_sub(1);
        if s.compound == 0 {
            s.flag = false;
        }
    }

    fn rest(s: &Doubled) -> i64 {
        i64::from(s.compound)
    }

    fn plain(past: &Plain) -> Doubled {
        if past.kind != Kind::Anon || past.order != past.pmd_order {
            return Doubled::default();
        }
        let entire = |map: Option<PlainMap>| u32::from(map.is_some_and(|map| map.entire));
        Doubled {
            compound: entire(past.first()).saturating_add(entire(past.second())),
            flag: false,
        }
    }

    fn digest(_v: &FolioView, s: &Doubled) -> u64 {
        u64::from(s.compound > 0) | (u64::from(s.flag) << 1)
    }

    fn value(_v: &FolioView, s: &Doubled) -> i64 {
        i64::from(s.compound)
    }

    fn fields(v: &FolioView, s: &Doubled, tell: &mut dyn FnMut(&'static str, Shown)) {
        if Self::applies(v) {
            tell("flag", Shown::Flag(s.flag));
        }
    }

    fn answer(v: &FolioView, s: &Doubled, q: Question) -> Answer {
        match q {
            _ if !Self::applies(v) => Answer::NotAsked,
            Question::Entire => Answer::from(s.compound > 0 && !s.flag),
            _ => Answer::from(s.compound > 0 || v.nr_pte_mapped > 0),
        }
    }
}

impl DoubleMap {
    /// Returns whether there could be a double map.
    fn applies(v: &FolioView) -> bool {
        v.kind == Kind::Anon && v.order == v.pmd_order
    }
}
