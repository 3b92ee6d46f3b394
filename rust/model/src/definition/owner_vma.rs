// SPDX-License-Identifier: GPL-2.0

//! `owner_vma`: mappings of the VMA that mapped the folio first.

use super::{
    references,
    Definition,
    Shown, //
};
use crate::{
    Answer,
    Event,
    FolioView,
    Level,
    Plain,
    Question, //
};

/// The VMA of the first add since the folio was unmapped, the number of its mappings, and the
/// number of those of others.
///
/// Source: Linus Torvalds, linux-mm, 2023-11-24: "pointer to owner vma, and a simple counter of
/// non-owners".
///
/// Readings: a pointer, as he says: a call belongs to the owner if its VMA argument is that one.
/// After a VMA split, a merge or an mremap calls come with another pointer; then both counts drift,
/// `others` even below 0, while their sum stays right. The owner stays while anything is mapped. As
/// for [`super::creator::Creator`], its own mappings are counted, too, and `shared` (and
/// `shared_vma` likewise) is `others` > 0 for an asker that is the owner; another asker knows that
/// it is shared if the owner's count is > 0, and cannot tell otherwise. An asker is the owner if
/// its MM and base are those of the owner's first add. `mapped`: the owner's count is > 0, as for
/// every count. All types of folios, each call, in a PMD split, too.
///
/// Cost: 32 bytes per folio (a pointer and two counts would do); a comparison and an addition per
/// call.
pub struct OwnerVma;

/// The owner of a folio.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Owned {
    /// Identity of the VMA; 0 if nothing was mapped yet.
    vma: u64,
    /// Identity of its MM.
    mm: u64,
    /// The address of page 0 of the folio at its first add.
    base: u64,
    /// Its mappings.
    count: i32,
    /// Mappings of others.
    others: i32,
}

impl Definition for OwnerVma {
    const NAME: &'static str = "owner_vma";
    const FORMULA: &'static str = "mappings by the VMA of the first add; others are counted apart";
    const SOURCE: &'static str = "Torvalds 2023-11-24";
    const CLAIMS: &'static [Question] = &[Question::Mapped, Question::Shared, Question::SharedVma];
    const SOMETIMES: bool = true;
    const PER_MM: bool = true;

    type State = Owned;

    #[inline]
    fn event(s: &mut Owned, e: &Event) {
        if e.adds && s.vma == 0 {
            s.vma = e.vma;
            s.mm = e.mm;
            s.base = e.base;
        }
        let nr = if e.level == Level::Entire { 1 } else { e.nr };
        let nr = i32::try_from(nr).unwrap_or(i32::MAX);
        let count = if s.vma == e.vma {
            &mut s.count
        } else {
            &mut s.others
        };
        *count = match e.adds {
            true => count.saturating_add(nr),
            false => count.saturating_sub(nr),
        };
    }

    fn rest(s: &Owned) -> i64 {
        i64::from(s.count)
    }

    fn plain(past: &Plain) -> Owned {
        let count = |nr: u32| i32::try_from(nr).unwrap_or(i32::MAX);
        past.first().map_or(Owned::default(), |first| Owned {
            vma: u64::from(past.vma),
            mm: first.mm,
            base: first.base,
            count: count(first.nr),
            others: past.second().map_or(0, |second| count(second.nr)),
        })
    }

    fn digest(v: &FolioView, s: &Owned) -> u64 {
        // Only the signs of the counts are read.
        let asks = v.asker_mm == s.mm && v.asker_base == s.base;
        [s.count > 0, s.others > 0, asks]
            .into_iter()
            .fold(0, |bits, bit| (bits << 1) | u64::from(bit))
    }

    fn value(_v: &FolioView, s: &Owned) -> i64 {
        i64::from(s.count)
    }

    fn fields(_v: &FolioView, s: &Owned, tell: &mut dyn FnMut(&'static str, Shown)) {
        tell("others", Shown::Count(i64::from(s.others)));
    }

    fn answer(v: &FolioView, s: &Owned, q: Question) -> Answer {
        if q == Question::Mapped {
            return Answer::from(s.count > 0);
        }
        if references::nobody_asks(v) {
            return Answer::NotAsked;
        }
        if v.asker_mm == s.mm && v.asker_base == s.base {
            return Answer::from(s.others > 0);
        }
        if s.count > 0 {
            Answer::Yes
        } else {
            Answer::Unknown
        }
    }
}
