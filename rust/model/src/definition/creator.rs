// SPDX-License-Identifier: GPL-2.0

//! `creator`: mappings of the MM that mapped the folio first.

use super::{
    references,
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
    Question, //
};

/// The first MM that mapped the anon folio since it was unmapped, and the number of its mappings;
/// `others` is the rest of `total`.
///
/// Source: David Hildenbrand, linux-mm, 2023-07-02: "(1) Page/folio creator (MM
/// pointer/identification) (2) Page/folio creator mapcount"; 2023-07-03 21:09 with the test for
/// reuse.
///
/// Readings: anon only, "For anon pages". The creator stays while anything is mapped, even when its
/// own count is 0 and the MM is gone. `mapped`: its count is > 0, as for every count. `shared`: an
/// asker that is the creator knows, `others` > 0; another asker knows that it is shared if the
/// creator's count is > 0, and cannot tell otherwise. `reuse` is "f->creator != mm || page_count(f)
/// != f->creators_mapcount" turned around, with the swap cache freed before, as then and today.
/// Each call counts, in a PMD split, too; an entire mapping is one.
///
/// Cost: 16 bytes per folio (a pointer and a count would do); a comparison and an addition per
/// call.
pub struct Creator;

/// The creator of a folio.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Created {
    /// Identity of the MM; 0 if nothing was mapped yet.
    mm: u64,
    /// The kernel's id of it.
    mm_id: u32,
    /// Its mappings.
    count: u32,
}

impl Definition for Creator {
    const NAME: &'static str = "creator";
    const FORMULA: &'static str = "mappings by the first MM since unmapped; others = total - these";
    const SOURCE: &'static str = "Hildenbrand 2023-07-02, 2023-07-03 21:09";
    const CLAIMS: &'static [Question] = &[Question::Mapped, Question::Shared, Question::Reuse];
    const SOMETIMES: bool = true;
    const PER_MM: bool = true;

    type State = Created;

    #[inline]
    fn event(s: &mut Created, e: &Event) {
        if e.kind != Kind::Anon {
            return;
        }
        if e.adds && s.mm == 0 {
            s.mm = e.mm;
            s.mm_id = e.mm_id;
        }
        if s.mm == e.mm {
            let nr = if e.level == Level::Entire { 1 } else { e.nr };
            s.count = match e.adds {
                true => s.count.saturating_add(nr),
                false => s.count.saturating_sub(nr),
            };
        }
    }

    fn rest(s: &Created) -> i64 {
        i64::from(s.count)
    }

    fn plain(past: &Plain) -> Created {
        match past.first() {
            Some(first) if past.kind == Kind::Anon => Created {
                mm: first.mm,
                mm_id: first.mm_id,
                count: first.nr,
            },
            _ => Created::default(),
        }
    }

    fn digest(v: &FolioView, s: &Created) -> u64 {
        let asks = u64::from(s.mm == v.asker_mm);
        u64::from(s.count).wrapping_shl(1) | asks
    }

    fn value(_v: &FolioView, s: &Created) -> i64 {
        i64::from(s.count)
    }

    fn fields(v: &FolioView, s: &Created, tell: &mut dyn FnMut(&'static str, Shown)) {
        if v.kind == Kind::Anon {
            tell("mm_id", Shown::Count(i64::from(s.mm_id)));
            tell("others", Shown::Count(Self::others(v, s)));
        }
    }

    fn answer(v: &FolioView, s: &Created, q: Question) -> Answer {
        if v.kind != Kind::Anon {
            return Answer::NotAsked;
        }
        match q {
            Question::Mapped => Answer::from(s.count > 0),
            Question::Reuse => references::wanted(v).map_or(Answer::NotAsked, |w| {
                Answer::from(s.mm == w.page.mm && w.refs == i64::from(s.count))
            }),
            _ if references::nobody_asks(v) => Answer::NotAsked,
            _ if s.mm == v.asker_mm => Answer::from(Self::others(v, s) > 0),
            _ if s.count > 0 => Answer::Yes,
            _ => Answer::Unknown,
        }
    }
}

impl Creator {
    /// Returns the mappings that are not the creator's.
    fn others(v: &FolioView, s: &Created) -> i64 {
        let total = i64::try_from(v.total).unwrap_or(i64::MAX);
        total.saturating_sub(i64::from(s.count))
    }
}
