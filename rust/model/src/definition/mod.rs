// SPDX-License-Identifier: GPL-2.0

//! Definitions: the ways to count the mappings of a folio that people used or proposed.
//!
//! One file per definition. To add one, write its file and one line in the list at the end of this
//! one: ids, names, pairs, tables and evaluation follow from the list. [`FolioView`] is where a
//! definition finds its numbers.

use crate::memo::Key;
use crate::pairs::{
    PairSet,
    Verdicts, //
};
use crate::question::{
    judge,
    Verdict, //
};
use crate::{
    Answer,
    Event,
    FolioView,
    Plain,
    Question,
    NR_QUESTIONS, //
};

pub mod avg_page;
pub mod creator;
pub mod double_map;
pub mod entire;
pub mod est_nr_mapped;
pub mod est_nr_pages;
pub mod est_one;
pub mod first_page;
pub mod full;
pub mod kernel;
pub mod max_page;
pub mod mm;
pub mod mm_id;
pub mod nr_pages_mapped;
pub mod owner_vma;
pub mod page;
pub mod page_vma;
pub mod partial;
pub mod partial_rule;
pub mod ref_once;
mod references;
pub mod rmap_id;
pub mod stat_any;
pub mod total;
pub mod total_pages;
pub mod vma;
pub mod vma_counter;
pub mod vma_pt;
pub mod vma_pt_counter;
pub mod vma_saturating;
pub mod vma_saturating_counter;

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

    /// Whether there are folios about which the definition is not asked, like those of a type.
    const SOMETIMES: bool = false;

    /// Whether the definition counts, or tells apart, MMs, VMAs or page tables: nobody knows which, of
    /// a folio that is mapped through a page table that several MMs share ([`crate::SharedTable`]).
    const PER_MM: bool = false;

    /// What a sketch of a counter keeps for each folio; `()` for a formula over T.
    ///
    /// The default is that of an unmapped folio.
    type State: Copy + Default + core::fmt::Debug;

    /// Takes a call along; called for each add, remove and fork of a tracked folio, before it
    /// changes T, but with what T will be in the VMA, see [`Event`].
    ///
    /// VMA split, merge, expand and mremap do not come here: they do not reach such a counter in a
    /// kernel either.
    #[inline]
    fn event(_state: &mut Self::State, _event: &Event) {}

    /// Returns what is left in the counter when T becomes empty: 0 if it is right. The state starts
    /// anew afterwards.
    #[inline]
    fn rest(_state: &Self::State) -> i64 {
        0
    }

    /// Returns the state of a folio of whose past no more is kept than its records, see [`Plain`]: what
    /// [`Definition::event`] made of the same.
    fn plain(_past: &Plain) -> Self::State {
        Self::State::default()
    }

    /// Returns all that [`Definition::answer`] reads of the state, as a number, if nobody asks
    /// ([`FolioView::ask`]): with the same view, states with the same number get the same answers.
    fn digest(_v: &FolioView, _state: &Self::State) -> u64 {
        0
    }

    /// Returns the count.
    fn value(v: &FolioView, state: &Self::State) -> i64;

    /// Tells each number that a single count does not show, with a name.
    fn fields(_v: &FolioView, _state: &Self::State, _tell: &mut dyn FnMut(&'static str, Shown)) {}

    /// Returns the answer to a question; asked only what the definition claims.
    fn answer(v: &FolioView, state: &Self::State, q: Question) -> Answer;
}

/// A number, in the form in which it is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// A count, or an id.
    Count(i64),
    /// A value without meaning as a count.
    Hex(u64),
    /// A flag: 0 or 1.
    Flag(bool),
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
    /// Whether there are folios about which it is not asked.
    pub sometimes: bool,
    /// Whether it depends on the past of the folio, see [`Definition::State`].
    pub keeps_state: bool,
    /// Whether it depends on who maps the folio, see [`Definition::PER_MM`].
    pub per_mm: bool,
    /// Returns the count.
    pub value: fn(&FolioView, &Sketches) -> i64,
    /// Tells the other numbers, see [`Definition::fields`].
    pub fields: fn(&FolioView, &Sketches, &mut dyn FnMut(&'static str, Shown)),
    /// Returns the answer to a question that it claims.
    pub answer: fn(&FolioView, &Sketches, Question) -> Answer,
}

/// Declares the list of definitions and everything that follows from it.
macro_rules! definitions {
    ($($(#[$doc:meta])* $id:ident => $definition:ty,)*) => {
        /// The id of a definition.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum DefinitionId {
            $($(#[$doc])* $id,)*
        }

        /// The states of all sketches for one folio.
        #[expect(non_snake_case, reason = "a field per definition, with its id")]
        #[derive(Clone, Copy, Default, Debug)]
        pub struct Sketches {
            $(
                /// That of this definition.
                $id: <$definition as Definition>::State,
            )*
        }

        impl Sketches {
            /// Takes a call along in all sketches, see [`Definition::event`].
            #[inline]
            pub(crate) fn event(&mut self, event: &Event) {
                $(<$definition>::event(&mut self.$id, event);)*
            }

            /// Returns the states of a folio of whose past no more is kept than its records.
            pub(crate) fn plain(past: &Plain) -> Self {
                Self {
                    $($id: <$definition>::plain(past),)*
                }
            }

            /// Adds to a key what evaluations depend on, see [`Definition::digest`].
            #[inline]
            pub(crate) fn add_to(&self, key: &mut Key, v: &FolioView) {
                $(
                    if size_of::<<$definition as Definition>::State>() > 0 {
                        key.push(<$definition>::digest(v, &self.$id));
                    }
                )*
            }

            /// Starts anew, because nothing is mapped any more; tells what was left in which
            /// counter, if anything.
            pub(crate) fn empty(&mut self, mut tell: impl FnMut(DefinitionId, i64)) {
                $(
                    let rest = <$definition>::rest(&self.$id);
                    if rest != 0 {
                        tell(DefinitionId::$id, rest);
                    }
                )*
                *self = Self::default();
            }
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
                sometimes: <$definition>::SOMETIMES,
                per_mm: <$definition>::PER_MM,
                keeps_state: size_of::<<$definition as Definition>::State>() > 0,
                value: |v, s| <$definition>::value(v, &s.$id),
                fields: |v, s, tell| <$definition>::fields(v, &s.$id, tell),
                answer: |v, s, q| <$definition>::answer(v, &s.$id, q),
            },
        )*];

        /// Number of pairs of a definition and a question that it claims.
        pub const NR_PAIRS: usize = 0 $(+ <$definition>::CLAIMS.len())*;

        /// Judges the answers of all definitions to some questions on a state, with direct calls; inlined, so
        /// that what is left is what `wanted` says.
        #[inline(always)]
        fn verdicts_if(
            v: &FolioView,
            s: &Sketches,
            wanted: impl Fn(Question) -> bool,
        ) -> Verdicts {
            let mut truths = [None; NR_QUESTIONS];
            for (q, truth) in Question::ALL.iter().zip(&mut truths) {
                if wanted(*q) {
                    *truth = q.truth(v);
                }
            }
            let mut verdicts = Verdicts::default();
            let mut pair = 0usize;
            $(
                for q in <$definition>::CLAIMS {
                    if wanted(*q) && (!q.needs_ask() || v.ask.is_some()) {
                        let answer = <$definition>::answer(v, &s.$id, *q);
                        let truth = truths.get(q.index()).copied().flatten();
                        verdicts.note(pair, judge(v, *q, truth, answer));
                    }
                    pair = pair.wrapping_add(1);
                }
            )*
            if v.adopted {
                verdicts = verdicts.not_claimed(STATE_PAIRS);
            }
            if v.shared_table {
                verdicts = verdicts.not_claimed(TABLE_PAIRS);
            }
            verdicts
        }
    };
}

/// Judges all answers of all definitions on a state.
pub(crate) fn verdicts(v: &FolioView, s: &Sketches) -> Verdicts {
    verdicts_if(v, s, |_| true)
}

/// Judges the answers of all definitions to one question, fastest one that a hooked function asks.
pub(crate) fn verdicts_on(v: &FolioView, s: &Sketches, q: Question) -> Verdicts {
    match q {
        Question::Shared => verdicts_if(v, s, |q| matches!(q, Question::Shared)),
        Question::Partial => verdicts_if(v, s, |q| matches!(q, Question::Partial)),
        Question::Refs => verdicts_if(v, s, |q| matches!(q, Question::Refs)),
        Question::Reuse => verdicts_if(v, s, |q| matches!(q, Question::Reuse)),
        _ => verdicts(v, s).only(QUESTION_PAIRS.get(q.index()).copied().unwrap_or_default()),
    }
}

impl Verdicts {
    /// Returns the verdicts on a folio of which something is not known: pairs that depend on it
    /// cannot tell.
    fn not_claimed(self, pairs: PairSet) -> Self {
        Self {
            asked: self.asked,
            false_yes: self.false_yes.without(pairs),
            false_no: self.false_no.without(pairs),
            unknown: self.unknown.or(self.asked.and(pairs)),
        }
    }

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

/// The pairs of each question, by [`Question::index`].
pub(crate) const QUESTION_PAIRS: [PairSet; NR_QUESTIONS] = question_pairs();

/// The pair that is the kernel's answer to each question, by [`Question::index`].
pub(crate) const KERNEL_PAIR: [Option<usize>; NR_QUESTIONS] = kernel_pair();

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

/// Returns the pairs of a question.
#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "runs at compile time only"
)]
const fn question_pairs() -> [PairSet; NR_QUESTIONS] {
    let mut sets = [PairSet::new(); NR_QUESTIONS];
    let mut pair = 0;
    while pair < NR_PAIRS {
        let question = PAIRS[pair].1.index();
        sets[question] = sets[question].with(pair);
        pair += 1;
    }
    sets
}

/// Makes [`KERNEL_PAIR`].
#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "runs at compile time only"
)]
const fn kernel_pair() -> [Option<usize>; NR_QUESTIONS] {
    let mut pairs = [None; NR_QUESTIONS];
    let mut pair = 0;
    while pair < NR_PAIRS {
        if matches!(PAIRS[pair].0, DefinitionId::Kernel) {
            pairs[PAIRS[pair].1.index()] = Some(pair);
        }
        pair += 1;
    }
    pairs
}

/// Defines a set of pairs by a condition on definition and question.
macro_rules! pair_sets {
    ($($(#[$doc:meta])* $name:ident = |$d:ident, $q:ident| $condition:expr;)*) => {$(
        $(#[$doc])*
        #[expect(clippy::indexing_slicing, reason = "runs at compile time only")]
        pub(crate) const $name: PairSet = {
            let mut set = PairSet::new();
            let mut pair = 0usize;
            let mut n = 0usize;
            while n < DEFINITIONS.len() {
                let $d = &DEFINITIONS[n];
                let mut c = 0usize;
                while c < $d.claims.len() {
                    let $q = $d.claims[c];
                    if $condition {
                        set = set.with(pair);
                    }
                    pair = pair.wrapping_add(1);
                    c = c.wrapping_add(1);
                }
                n = n.wrapping_add(1);
            }
            set
        };
    )*};
}

pair_sets! {
    /// The pairs whose definition reads the kernel's counters.
    KERNEL_PAIRS = |d, _q| d.reads_kernel;
    /// The pairs that are asked only if somebody asks, see [`Question::needs_ask`].
    ASK_PAIRS = |_d, q| q.needs_ask();
    /// The pairs whose definition depends on the past of the folio.
    STATE_PAIRS = |d, _q| d.keeps_state;
    /// The pairs that nobody can judge of a folio that is mapped through a page table that several
    /// MMs share: the definition depends on who maps it, or the question does.
    TABLE_PAIRS = |d, q| d.per_mm || q.is_about_mms();
    /// The pairs that are not asked about every state.
    SOMETIMES_PAIRS = |d, q| {
        d.reads_kernel || d.sometimes || q.needs_ask() || matches!(q, Question::Stat)
    };
}

impl DefinitionInfo {
    /// Returns the count; `None` if it depends on a past of the folio that is not known, or on who
    /// maps it and that is not known.
    pub fn value_of(&self, v: &FolioView, s: &Sketches) -> Option<i64> {
        let unknown = self.keeps_state && v.adopted || self.per_mm && v.shared_table;
        (!unknown).then(|| (self.value)(v, s))
    }

    /// Returns the answer to a question; [`Answer::Unknown`] if it, or the truth, depends on
    /// something about the folio that is not known.
    pub fn answer_of(&self, v: &FolioView, s: &Sketches, q: Question) -> Answer {
        let who = self.per_mm || q.is_about_mms();
        if self.keeps_state && v.adopted || who && v.shared_table {
            Answer::Unknown
        } else {
            (self.answer)(v, s, q)
        }
    }
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
    /// See [`avg_page::AvgPage`].
    AvgPage => avg_page::AvgPage,
    /// See [`nr_pages_mapped::NrPagesMapped`].
    NrPagesMapped => nr_pages_mapped::NrPagesMapped,
    /// See [`total_pages::TotalPages`].
    TotalPages => total_pages::TotalPages,
    /// See [`vma_pt::VmaPt`].
    VmaPt => vma_pt::VmaPt,
    /// See [`vma_pt_counter::VmaPtCounter`].
    VmaPtCounter => vma_pt_counter::VmaPtCounter,
    /// See [`vma::Vma`].
    Vma => vma::Vma,
    /// See [`vma_counter::VmaCounter`].
    VmaCounter => vma_counter::VmaCounter,
    /// See [`vma_saturating::VmaSaturating`].
    VmaSaturating => vma_saturating::VmaSaturating,
    /// See [`vma_saturating_counter::VmaSaturatingCounter`].
    VmaSaturatingCounter => vma_saturating_counter::VmaSaturatingCounter,
    /// See [`mm::Mm`].
    Mm => mm::Mm,
    /// See [`full::Full`].
    Full => full::Full,
    /// See [`partial::Partial`].
    Partial => partial::Partial,
    /// See [`partial_rule::PartialRule`].
    PartialRule => partial_rule::PartialRule,
    /// See [`creator::Creator`].
    Creator => creator::Creator,
    /// See [`owner_vma::OwnerVma`].
    OwnerVma => owner_vma::OwnerVma,
    /// See [`double_map::DoubleMap`].
    DoubleMap => double_map::DoubleMap,
    /// See [`rmap_id::RmapId`].
    RmapId => rmap_id::RmapId,
    /// See [`mm_id::MmId`].
    MmId => mm_id::MmId,
    /// See [`est_nr_pages::EstNrPages`].
    EstNrPages => est_nr_pages::EstNrPages,
    /// See [`est_nr_mapped::EstNrMapped`].
    EstNrMapped => est_nr_mapped::EstNrMapped,
    /// See [`est_one::EstOne`].
    EstOne => est_one::EstOne,
    /// See [`ref_once::RefOnce`].
    RefOnce => ref_once::RefOnce,
    /// See [`page_vma::PageVma`].
    PageVma => page_vma::PageVma,
    /// See [`stat_any::StatAny`].
    StatAny => stat_any::StatAny,
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
    fn one_question_is_judged_as_all_are() {
        let sketches = Sketches::default();
        for n in 0u32..512 {
            let bit = |i: u32| (n >> i) & 1;
            let view = FolioView {
                order: 2,
                nr_pages: 4,
                pmd_order: 9,
                total: u64::from(4 * bit(0) + 2 * bit(1)),
                nr_pages_mapped: 4 * bit(0).max(bit(1)) - 2 * (1 - bit(0)) * bit(1),
                max_page: bit(0) + bit(1),
                mm: bit(0) + bit(1),
                vma: bit(0) + bit(1) + bit(2),
                adopted: bit(3) > 0,
                shared_table: bit(4) > 0,
                kernel: (bit(5) > 0).then(Default::default),
                ask: (bit(6) > 0).then(|| crate::Ask {
                    own: 1,
                    page: (bit(7) > 0).then(Default::default),
                }),
                kind: if bit(8) > 0 {
                    crate::Kind::File
                } else {
                    crate::Kind::Anon
                },
                ..FolioView::default()
            };
            let all = verdicts(&view, &sketches);
            for q in Question::ALL {
                let pairs = QUESTION_PAIRS.get(q.index()).copied().unwrap_or_default();
                assert_eq!(verdicts_on(&view, &sketches, q), all.only(pairs));
            }
        }
    }

    #[test]
    fn every_question_is_claimed() {
        for q in Question::ALL {
            assert!(PAIRS.iter().any(|(_, claimed)| *claimed == q));
        }
    }
}
