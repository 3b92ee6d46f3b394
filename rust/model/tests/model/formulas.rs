// SPDX-License-Identifier: GPL-2.0

//! Definitions by formula, and what all definitions say about references: counted by hand, from a
//! list of mappings and the kernel's counters.

use fmi_model::{
    Answer,
    FolioView,
    Question, //
};

use crate::oracle::{
    Counts,
    Says, //
};

/// Returns the value of a definition by formula.
pub fn value(counts: &Counts, name: &str) -> i64 {
    let n = i64::from(counts.nr_pages);
    let yes = |yes: bool| i64::from(yes);
    match name {
        "vma_saturating" => match counts.vma {
            few @ 0..=2 => few,
            _many => 3,
        },
        "avg_page" => match (counts.total, counts.total - counts.entire) {
            (0, _) => 0,
            // Rounded: half a page's worth is one.
            (_, ptes) => (counts.entire + (2 * ptes + n) / (2 * n)).max(1),
        },
        "est_nr_pages" => yes(counts.total > n),
        "est_nr_mapped" => yes(counts.total > counts.nr_pages_mapped),
        "est_one" => yes(counts.total > 1),
        "ref_once" => yes(counts.total > 0),
        "page_vma" => counts.max_page(),
        "stat_any" => n,
        other => counts.value(other),
    }
}

/// Who holds how many references.
#[derive(Clone, Copy, Debug)]
pub struct References {
    /// One for each mapping.
    pub mappings: i64,
    /// Page cache, swap cache, PG_private.
    pub explained: i64,
    /// The one who asks.
    pub asker: i64,
    /// Whoever else.
    pub others: i64,
}

impl References {
    /// Answers [`Question::Refs`] if the mappings held `count` references.
    pub fn says(&self, count: i64) -> Answer {
        let right = self.others == 0;
        let lives = self.mappings == 0 || count + self.explained + self.others > 0;
        (if lives { right } else { !right }).into()
    }
}

/// Returns the answer of a definition by formula to a question that nobody has to ask.
pub fn answer(counts: &Counts, v: &FolioView, name: &str, q: Question) -> Answer {
    let n = i64::from(counts.nr_pages);
    let count = value(counts, name);
    let pages = |n: i64| Answer::Count(n as u64);
    match (name, q) {
        ("total" | "total_pages", Question::Stat) => pages(if counts.total > 0 { n } else { 0 }),
        ("stat_any", Question::Stat) => pages(n),
        ("avg_page", Question::Page) => pages(count),
        ("total", Question::Overflow) => (counts.total > 1 << 30).into(),
        ("ref_once", Question::Overflow) => {
            let refcount = v.kernel.map_or(0, |k| i64::from(k.refcount));
            (refcount - counts.total + count > 1 << 30).into()
        }
        ("vma_saturating" | "avg_page", Question::Shared | Question::SharedVma) => {
            (count > 1).into()
        }
        ("est_nr_pages" | "est_nr_mapped" | "est_one", Question::Shared) => (count > 0).into(),
        ("vma_saturating" | "avg_page" | "page_vma", Question::Mapped) => (count > 0).into(),
        _ => match counts.says(name, q.name()) {
            Says::Yes => Answer::Yes,
            Says::No => Answer::No,
            Says::Unknown => Answer::Unknown,
            Says::Times(n) => pages(n),
            Says::Counter(is, should) => Answer::Counter(is, should),
        },
    }
}

/// Returns whether a kernel reuses page `i` for an MM, given that it is not marked exclusive.
///
/// `swap` is the number of references of the swap cache, which go first.
pub fn kernel_reuses(counts: &Counts, shared_bit: bool, refs: &References, swap: i64) -> bool {
    let refcount = refs.mappings + refs.explained - swap + refs.others;
    if counts.entire > 0 {
        return refcount == 1;
    }
    counts.total > 1 && !shared_bit && refcount == counts.total
}
