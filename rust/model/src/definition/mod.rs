// SPDX-License-Identifier: GPL-2.0

//! Definitions: the ways to count the mappings of a folio that people used or proposed.
//!
//! One file per definition. To add one, write its file and one line in the list at the end of this
//! one: ids, names, pairs, tables and evaluation follow from the list. [`FolioView`] is where a
//! definition finds its numbers.

use crate::disagree::{
    PairSet,
    Verdicts, //
};
use crate::question::{
    judge,
    Verdict, //
};
use crate::{
    Answer,
    FolioView,
    Question, //
};

pub mod entire;
pub mod first_page;
pub mod full;
pub mod kernel;
pub mod max_page;
pub mod mm;
pub mod nr_pages_mapped;
pub mod page;
pub mod partial;
pub mod total;
pub mod total_pages;
pub mod vma;
pub mod vma_pt;

/// A way to count the mappings of a folio.
pub trait Definition {
    /// The name used in files.
    const NAME: &'static str;

    /// What is counted, in one line.
    const FORMULA: &'static str;

    /// Where the definition comes from: who and when, or which field of the kernel.
    const SOURCE: &'static str;

    /// The questions that the definition claims to answer.
    const CLAIMS: &'static [Question];

    /// Whether the definition reads the kernel's own counters: it has no answer while
    /// [`FolioView::kernel`] is `None`.
    const READS_KERNEL: bool = false;

    /// Returns the count.
    fn value(v: &FolioView) -> i64;

    /// Returns the answer to a question; asked only what the definition claims.
    fn answer(v: &FolioView, q: Question) -> Answer;
}

/// What there is to know about a definition without naming its type.
#[derive(Clone, Copy, Debug)]
pub struct DefinitionInfo {
    /// Its id.
    pub id: DefinitionId,
    /// The name used in files.
    pub name: &'static str,
    /// What is counted.
    pub formula: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// The questions that it claims to answer.
    pub claims: &'static [Question],
    /// Whether it reads the kernel's own counters.
    pub reads_kernel: bool,
    /// Returns the count.
    pub value: fn(&FolioView) -> i64,
    /// Returns the answer to a question that it claims.
    pub answer: fn(&FolioView, Question) -> Answer,
}

/// Declares the list of definitions and everything that follows from it.
macro_rules! definitions {
    ($($(#[$doc:meta])* $id:ident => $definition:ty,)*) => {
        /// The id of a definition.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum DefinitionId {
            $($(#[$doc])* $id,)*
        }

        /// All definitions, in the order of the tables.
        pub const DEFINITIONS: [DefinitionInfo; [$(DefinitionId::$id,)*].len()] = [$(
            DefinitionInfo {
                id: DefinitionId::$id,
                name: <$definition>::NAME,
                formula: <$definition>::FORMULA,
                source: <$definition>::SOURCE,
                claims: <$definition>::CLAIMS,
                reads_kernel: <$definition>::READS_KERNEL,
                value: <$definition>::value,
                answer: <$definition>::answer,
            },
        )*];

        /// Number of pairs of a definition and a question that it claims.
        pub const NR_PAIRS: usize = 0 $(+ <$definition>::CLAIMS.len())*;

        /// Judges all answers of all definitions on a state, with direct calls.
        pub(crate) fn verdicts(v: &FolioView) -> Verdicts {
            let mut verdicts = Verdicts::default();
            let mut pair = 0usize;
            $(
                for q in <$definition>::CLAIMS {
                    verdicts.note(pair, judge(v, *q, <$definition>::answer(v, *q)));
                    pair = pair.wrapping_add(1);
                }
            )*
            verdicts
        }
    };
}

impl Verdicts {
    /// Notes the verdict on the answer of a pair.
    #[inline]
    fn note(&mut self, pair: usize, verdict: Verdict) {
        let set = match verdict {
            Verdict::NotAsked => return,
            Verdict::Right => None,
            Verdict::FalseYes => Some(&mut self.false_yes),
            Verdict::FalseNo => Some(&mut self.false_no),
            Verdict::Unknown => Some(&mut self.unknown),
        };
        if let Some(set) = set {
            *set = set.with(pair);
        }
        self.asked = self.asked.with(pair);
    }
}

/// The pairs of a definition and a question that it claims, in the order of the tables.
pub const PAIRS: [(DefinitionId, Question); NR_PAIRS] = pairs();

/// The pairs whose definition reads the kernel's counters.
pub(crate) const KERNEL_PAIRS: PairSet = kernel_pairs();

/// Makes [`PAIRS`].
#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "runs at compile time only"
)]
const fn pairs() -> [(DefinitionId, Question); NR_PAIRS] {
    let mut pairs = [(DefinitionId::Total, Question::Mapped); NR_PAIRS];
    let mut pair = 0;
    let mut d = 0;
    while d < DEFINITIONS.len() {
        let mut q = 0;
        while q < DEFINITIONS[d].claims.len() {
            pairs[pair] = (DEFINITIONS[d].id, DEFINITIONS[d].claims[q]);
            pair += 1;
            q += 1;
        }
        d += 1;
    }
    pairs
}

/// Makes [`KERNEL_PAIRS`].
#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "runs at compile time only"
)]
const fn kernel_pairs() -> PairSet {
    let mut set = PairSet::new();
    let mut pair = 0;
    let mut d = 0;
    while d < DEFINITIONS.len() {
        let mut q = 0;
        while q < DEFINITIONS[d].claims.len() {
            if DEFINITIONS[d].reads_kernel {
                set = set.with(pair);
            }
            pair += 1;
            q += 1;
        }
        d += 1;
    }
    set
}

impl DefinitionId {
    /// Returns what there is to know about the definition.
    pub fn info(self) -> Option<&'static DefinitionInfo> {
        /// All definitions, with an address.
        static ALL: &[DefinitionInfo] = &DEFINITIONS;
        ALL.iter().find(|info| info.id == self)
    }
}

definitions! {
    /// See [`total::Total`].
    Total => total::Total,
    /// See [`entire::Entire`].
    Entire => entire::Entire,
    /// See [`page::Page`].
    Page => page::Page,
    /// See [`first_page::FirstPage`].
    FirstPage => first_page::FirstPage,
    /// See [`max_page::MaxPage`].
    MaxPage => max_page::MaxPage,
    /// See [`nr_pages_mapped::NrPagesMapped`].
    NrPagesMapped => nr_pages_mapped::NrPagesMapped,
    /// See [`vma_pt::VmaPt`].
    VmaPt => vma_pt::VmaPt,
    /// See [`vma::Vma`].
    Vma => vma::Vma,
    /// See [`mm::Mm`].
    Mm => mm::Mm,
    /// See [`full::Full`].
    Full => full::Full,
    /// See [`partial::Partial`].
    Partial => partial::Partial,
    /// See [`total_pages::TotalPages`].
    TotalPages => total_pages::TotalPages,
    /// See [`kernel::Kernel`].
    Kernel => kernel::Kernel,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_follow_the_claims() {
        let mut pairs = PAIRS.iter();
        for (n, d) in DEFINITIONS.iter().enumerate() {
            for q in d.claims {
                assert_eq!(pairs.next(), Some(&(d.id, *q)));
            }
            assert!(DEFINITIONS.iter().skip(n + 1).all(|e| e.name != d.name));
            assert_eq!(d.id.info().map(|d| d.name), Some(d.name));
        }
        assert_eq!(pairs.next(), None);
    }

    #[test]
    fn only_the_kernel_reads_the_kernel() {
        for (n, (id, _)) in PAIRS.iter().enumerate() {
            assert_eq!(KERNEL_PAIRS.contains(n), *id == DefinitionId::Kernel);
        }
    }

    #[test]
    fn every_question_is_claimed() {
        for q in Question::ALL {
            assert!(PAIRS.iter().any(|(_, claimed)| *claimed == q));
        }
    }
}
