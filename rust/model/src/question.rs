// SPDX-License-Identifier: GPL-2.0

//! What memory management asks about a folio, and the true answers.

use crate::FolioView;

/// A question about a folio; the truth is counted over T, the set of its mappings.
///
/// Whether all references are explained, COW reuse and vmstat need more than T (references,
/// the asker) and come with the definitions that claim them: a variant, a name and a truth each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Question {
    /// Is any page mapped? The kernel asks `folio_mapped()`.
    Mapped,
    /// It is mapped by me: does another MM map it, too? The kernel asks
    /// `folio_maybe_mapped_shared()`.
    Shared,
    /// It is mapped by my VMA: does another VMA map it, too? The kernel has no answer.
    SharedVma,
    /// Is it mapped as a whole only, by PMDs or PUDs? The kernel compares total and entire.
    Entire,
    /// Is some page mapped and another not? The kernel has PG_partially_mapped.
    Partial,
    /// How often is page i mapped? Asked of every page: a definition that has one number for all
    /// of them is right iff all are mapped that often. The kernel has `page->_mapcount`.
    Page,
}

/// Number of [`Question`]s.
pub const NR_QUESTIONS: usize = 6;

impl Question {
    /// All questions, in the order of the tables.
    pub const ALL: [Question; NR_QUESTIONS] = [
        Question::Mapped,
        Question::Shared,
        Question::SharedVma,
        Question::Entire,
        Question::Partial,
        Question::Page,
    ];

    /// Returns the name used in files.
    pub const fn name(self) -> &'static str {
        match self {
            Question::Mapped => "mapped",
            Question::Shared => "shared",
            Question::SharedVma => "shared_vma",
            Question::Entire => "entire",
            Question::Partial => "partial",
            Question::Page => "page",
        }
    }

    /// Returns the true answer; `None` for [`Question::Page`], whose answer is a number: every page
    /// is mapped [`FolioView::min_page`] to [`FolioView::max_page`] times.
    #[inline]
    pub fn truth(self, v: &FolioView) -> Option<bool> {
        match self {
            Question::Mapped => Some(v.total > 0),
            Question::Shared => Some(v.mm > 1),
            Question::SharedVma => Some(v.vma > 1),
            Question::Entire => Some(v.total > 0 && v.total == u64::from(v.entire)),
            Question::Partial => Some(0 < v.nr_pages_mapped && v.nr_pages_mapped < v.nr_pages),
            Question::Page => None,
        }
    }
}

/// The answer of a definition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Yes.
    Yes,
    /// No.
    No,
    /// The definition cannot tell; counted apart, neither right nor wrong.
    Unknown,
    /// This many mappings, of whatever page; the answer to [`Question::Page`].
    Count(u64),
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

/// Compares an answer with the truth; a number to a yes-or-no question means yes unless it is 0.
#[inline]
pub(crate) fn judge(v: &FolioView, q: Question, answer: Answer) -> Verdict {
    let (yes, count) = match answer {
        Answer::Unknown => return Verdict::Unknown,
        Answer::NotAsked => return Verdict::NotAsked,
        Answer::Yes => (true, 1),
        Answer::No => (false, 0),
        Answer::Count(count) => (count > 0, count),
    };
    match q.truth(v) {
        Some(truth) if truth == yes => Verdict::Right,
        Some(false) => Verdict::FalseYes,
        Some(true) => Verdict::FalseNo,
        None if count > u64::from(v.min_page) => Verdict::FalseYes,
        None if count < u64::from(v.max_page) => Verdict::FalseNo,
        None => Verdict::Right,
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
        let ask = |n| judge(&v, Question::Page, Answer::Count(n));
        assert_eq!(ask(0), Verdict::FalseNo);
        assert_eq!(ask(1), Verdict::FalseNo);
        assert_eq!(ask(2), Verdict::FalseYes);
        let even = FolioView {
            min_page: 2,
            max_page: 2,
            ..v
        };
        assert_eq!(
            judge(&even, Question::Page, Answer::Count(2)),
            Verdict::Right
        );
    }

    #[test]
    fn nothing_mapped_is_not_entire() {
        let v = FolioView::default();
        assert_eq!(judge(&v, Question::Entire, Answer::No), Verdict::Right);
    }
}
