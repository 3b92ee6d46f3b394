// SPDX-License-Identifier: GPL-2.0

//! What memory management asks about a folio, and the true answers.

use crate::{
    FolioView,
    Kind, //
};

/// A question about a folio; the truth is counted over T, the set of its mappings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Question {
    /// Is any page mapped? The kernel asks `folio_mapped()`.
    Mapped,
    /// It is mapped by me: does another MM map it, too? The kernel asks
    /// `folio_maybe_mapped_shared()`. Who asks is [`FolioView::asker_mm`].
    Shared,
    /// It is mapped by my VMA: does another VMA map it, too? The kernel has no answer.
    SharedVma,
    /// Is it mapped as a whole only, by PMDs or PUDs? The kernel compares total and entire.
    Entire,
    /// Is some page mapped and another not? The kernel has PG_partially_mapped.
    Partial,
    /// Are all references explained? The kernel compares with `folio_expected_ref_count()`. Asked
    /// only by a reader or a hooked asker: references lead and lag mappings inside a call.
    Refs,
    /// A write or unshare fault of an MM on a page of an anon folio: may it be reused without a
    /// copy? Asked only by a reader or a hooked asker, see [`crate::Ask`].
    Reuse,
    /// How often is page i mapped? Asked of every page: a definition that has one number for all
    /// of them is right iff all are mapped that often. The kernel has `page->_mapcount`.
    Page,
    /// How many pages does the folio add to AnonPages or Mapped? True is the number of mapped pages.
    Stat,
    /// Is a counter past half of its limit of 2^31 - 1?
    Overflow,
    /// Does a counter that rmap calls keep say what it is meant to count?
    Drift,
}

/// Number of [`Question`]s.
pub const NR_QUESTIONS: usize = 11;

impl Question {
    /// All questions, in the order of the tables.
    pub const ALL: [Question; NR_QUESTIONS] = [
        Question::Mapped,
        Question::Shared,
        Question::SharedVma,
        Question::Entire,
        Question::Partial,
        Question::Refs,
        Question::Reuse,
        Question::Page,
        Question::Stat,
        Question::Overflow,
        Question::Drift,
    ];

    /// Returns the name used in files.
    pub const fn name(self) -> &'static str {
        match self {
            Question::Mapped => "mapped",
            Question::Shared => "shared",
            Question::SharedVma => "shared_vma",
            Question::Entire => "entire",
            Question::Partial => "partial",
            Question::Refs => "refs",
            Question::Reuse => "reuse",
            Question::Page => "page",
            Question::Stat => "stat",
            Question::Overflow => "overflow",
            Question::Drift => "drift",
        }
    }

    /// Returns the position in [`Question::ALL`].
    pub const fn index(self) -> usize {
        match self {
            Question::Mapped => 0,
            Question::Shared => 1,
            Question::SharedVma => 2,
            Question::Entire => 3,
            Question::Partial => 4,
            Question::Refs => 5,
            Question::Reuse => 6,
            Question::Page => 7,
            Question::Stat => 8,
            Question::Overflow => 9,
            Question::Drift => 10,
        }
    }

    /// Returns whether the question depends on who asks: it is answered only for an [`crate::Ask`].
    pub const fn needs_ask(self) -> bool {
        matches!(self, Question::Refs | Question::Reuse)
    }

    /// Returns whether the question is asked about folios of a type: [`Question::Stat`] is not about
    /// hugetlb, which is in no such statistics.
    pub fn is_asked_of(self, kind: Kind) -> bool {
        !matches!((self, kind), (Question::Stat, Kind::Hugetlb))
    }

    /// Returns whether the true answer depends on which MMs and VMAs map the folio.
    pub const fn is_about_mms(self) -> bool {
        matches!(
            self,
            Question::Shared | Question::SharedVma | Question::Refs | Question::Reuse
        )
    }

    /// Returns the true answer; `None` if it is a number, not known (of a folio in a page table that
    /// several MMs share), or if the question cannot be asked now.
    ///
    /// The true number of [`Question::Page`] is from [`FolioView::min_page`] to
    /// [`FolioView::max_page`], that of [`Question::Stat`] is [`FolioView::nr_pages_mapped`].
    #[inline]
    pub fn truth(self, v: &FolioView) -> Option<bool> {
        match self {
            q if v.shared_table && q.is_about_mms() => None,
            Question::Mapped => Some(v.total > 0),
            Question::Shared => Some(v.mm > 1),
            Question::SharedVma => Some(v.vma > 1),
            Question::Entire => Some(v.total > 0 && v.total == u64::from(v.entire)),
            Question::Partial => Some(0 < v.nr_pages_mapped && v.nr_pages_mapped < v.nr_pages),
            Question::Refs => v.unexplained_refs().map(|refs| refs == 0),
            Question::Reuse => {
                let page = v.ask?.page.filter(|_| v.kind == Kind::Anon)?;
                let refs = v.unexplained_refs()?;
                Some(page.count == 1 && page.mapped && refs == 0)
            }
            Question::Overflow => {
                let refs = v.kernel.map_or(0, |k| i64::from(k.refcount));
                Some(v.total > HALF_LIMIT || refs > i64::try_from(HALF_LIMIT).unwrap_or(i64::MAX))
            }
            Question::Page | Question::Stat | Question::Drift => None,
        }
    }
}

/// Half of what a 32-bit counter can hold.
pub const HALF_LIMIT: u64 = 1 << 30;

/// The answer of a definition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Yes.
    Yes,
    /// No.
    No,
    /// The definition cannot tell; counted apart, neither right nor wrong.
    Unknown,
    /// This many: mappings of whatever page, the answer to [`Question::Page`]; or pages, the answer
    /// to [`Question::Stat`].
    Count(u64),
    /// The value of a counter and what it is meant to count; the answer to [`Question::Drift`].
    Counter(i64, i64),
    /// The question could not be asked of this folio now: nothing is counted.
    NotAsked,
}

impl From<bool> for Answer {
    fn from(yes: bool) -> Self {
        if yes {
            Answer::Yes
        } else {
            Answer::No
        }
    }
}

/// How an answer compares with the truth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Right.
    Right,
    /// Yes, but the truth is no; or a number that is too high for some page.
    FalseYes,
    /// No, but the truth is yes; or a number that is too low for some page and too high for none.
    FalseNo,
    /// The definition cannot tell.
    Unknown,
    /// Not asked.
    NotAsked,
}

/// Compares an answer with the truth, see [`Question::truth`]; a number to a yes-or-no question means yes
/// unless it is 0. Inlined: the question is known at compile time.
#[inline(always)]
pub(crate) fn judge(v: &FolioView, q: Question, truth: Option<bool>, answer: Answer) -> Verdict {
    let (yes, count) = match answer {
        Answer::Unknown => return Verdict::Unknown,
        Answer::NotAsked => return Verdict::NotAsked,
        Answer::Counter(is, should) => return compare(is, should, should),
        Answer::Yes => (true, 1),
        Answer::No => (false, 0),
        Answer::Count(count) => (count > 0, i64::try_from(count).unwrap_or(i64::MAX)),
    };
    match q {
        _ if !q.is_asked_of(v.kind) => Verdict::NotAsked,
        Question::Page => compare(count, i64::from(v.min_page), i64::from(v.max_page)),
        Question::Stat => {
            let pages = i64::from(v.nr_pages_mapped);
            compare(count, pages, pages)
        }
        _ => match truth {
            Some(truth) if truth == yes => Verdict::Right,
            Some(false) => Verdict::FalseYes,
            Some(true) => Verdict::FalseNo,
            None if v.shared_table => Verdict::Unknown,
            None => Verdict::NotAsked,
        },
    }
}

/// Compares a number with the true one, which is from `least` to `most`.
fn compare(count: i64, least: i64, most: i64) -> Verdict {
    if count > least {
        Verdict::FalseYes
    } else if count < most {
        Verdict::FalseNo
    } else {
        Verdict::Right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_for_all_pages_is_judged_by_the_extremes() {
        let v = FolioView {
            min_page: 1,
            max_page: 2,
            ..FolioView::default()
        };
        let ask = |n| judge(&v, Question::Page, None, Answer::Count(n));
        assert_eq!(ask(0), Verdict::FalseNo);
        assert_eq!(ask(1), Verdict::FalseNo);
        assert_eq!(ask(2), Verdict::FalseYes);
        let even = FolioView {
            min_page: 2,
            max_page: 2,
            ..v
        };
        assert_eq!(
            judge(&even, Question::Page, None, Answer::Count(2)),
            Verdict::Right
        );
    }

    #[test]
    fn nothing_mapped_is_not_entire() {
        let v = FolioView::default();
        let q = Question::Entire;
        assert_eq!(judge(&v, q, q.truth(&v), Answer::No), Verdict::Right);
    }
}
