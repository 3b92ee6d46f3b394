// SPDX-License-Identifier: GPL-2.0

//! Where the kernel asks, and what other definitions would have decided there.
//!
//! A *decision site* is a place in `mm/` or `fs/proc/` of 7.2 at which the kernel asks one of
//! [`Question`]s about a large folio and does one thing or another. What a definition would change is
//! counted in two ways:
//!
//! * *at each state change*: the states that were evaluated of folios about which the site can ask;
//!   [`Decision::applies`] says which. These are sums of [`crate::Cell`]s.
//! * *as it was asked*: the function is hooked, and the definitions are asked at the moment at which
//!   the kernel asks; [`Asked`] counts that.
//!
//! All 17 callers of `folio_maybe_mapped_shared()` are here, the write-fault reuse of anonymous
//! folios, the deferred split, and the checks that all references are explained.

use crate::answers::{
    KeptAnswer,
    Sets, //
};
use crate::{
    Kind,
    PairSet,
    Question,
    DEFINITIONS,
    NR_PAIRS, //
};

mod sites;

pub use self::sites::{
    DECISIONS,
    NR_DECISIONS, //
};

/// The orders of the folios that a site can ask about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Orders {
    /// This order or a larger one.
    From(u8),
    /// The order of a PMD, because the site looks at PMDs that map a folio.
    Pmd,
    /// None: the site does not ask about folios that can be tracked.
    None,
}

/// How it is known that a site asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AskedBy {
    /// The entry of a function is hooked; the text says what the hook cannot see.
    Hook(Asker, &'static str),
    /// It is not; the text says why.
    StateOnly(&'static str),
}

/// A site at which the kernel decides.
#[derive(Clone, Copy, Debug)]
pub struct Decision {
    /// Name in files.
    pub name: &'static str,
    /// The function of the kernel that asks.
    pub function: &'static str,
    /// What it asks.
    pub question: Question,
    /// About folios of which types.
    pub kinds: &'static [Kind],
    /// About folios of which orders.
    pub orders: Orders,
    /// How it is known that it asks.
    pub asked_by: AskedBy,
}

impl Decision {
    /// Returns whether the site can ask about folios of this type and order.
    ///
    /// The cells do not tell how a folio is mapped: that it must be mapped by a PMD, or by a VMA of
    /// some kind, is not looked at.
    pub fn applies(&self, kind: Kind, order: u8, pmd_order: u8) -> bool {
        let orders = match self.orders {
            Orders::From(least) => order >= least,
            Orders::Pmd => order == pmd_order,
            Orders::None => false,
        };
        orders && self.kinds.contains(&kind)
    }

    /// Returns the hooked function, if there is one.
    pub const fn asker(&self) -> Option<Asker> {
        match self.asked_by {
            AskedBy::Hook(asker, _) => Some(asker),
            AskedBy::StateOnly(_) => None,
        }
    }

    /// Returns what the hook cannot see, or why there is none.
    pub const fn note(&self) -> &'static str {
        match self.asked_by {
            AskedBy::Hook(_, note) | AskedBy::StateOnly(note) => note,
        }
    }
}

/// Declares the hooked functions.
macro_rules! askers {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// A function that asks and has the folio at hand when it is entered.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Asker {
            $($(#[$doc])* $variant,)*
        }

        /// Number of [`Asker`]s.
        pub const NR_ASKERS: usize = [$($name,)*].len();

        impl Asker {
            /// All askers, in the order of the tables.
            pub const ALL: [Asker; NR_ASKERS] = [$(Asker::$variant,)*];

            /// The symbols to be hooked, in the same order.
            pub const FUNCTIONS: [&'static core::ffi::CStr; NR_ASKERS] = [$($name,)*];
        }
    };
}

askers! {
    /// `numa_migrate_check(folio, vmf, ..)`.
    NumaFault => c"numa_migrate_check",
    /// `migrate_misplaced_folio_prepare(folio, vma, ..)`.
    NumaPrepare => c"migrate_misplaced_folio_prepare",
    /// `folio_can_map_prot_numa(folio, vma, ..)`.
    ProtNuma => c"folio_can_map_prot_numa",
    /// `migrate_folio_add(folio, .., flags)`.
    Mbind => c"migrate_folio_add",
    /// `madvise_free_huge_pmd(.., vma, pmd, ..)`.
    FreePmd => c"madvise_free_huge_pmd",
    /// `madvise_cold_or_pageout_pte_range(pmd, .., walk)`.
    ColdPmd => c"madvise_cold_or_pageout_pte_range",
    /// `folio_referenced_one(folio, vma, ..)`.
    Referenced => c"folio_referenced_one",
    /// `do_wp_page(vmf)`.
    WpPte => c"do_wp_page",
    /// `do_huge_pmd_wp_page(vmf)`.
    WpPmd => c"do_huge_pmd_wp_page",
    /// `deferred_split_folio(folio, partially_mapped)`.
    DeferredSplit => c"deferred_split_folio",
    /// `__folio_split(folio, ..)`.
    Split => c"__folio_split",
    /// `folio_split_unmapped(folio, ..)`.
    SplitUnmapped => c"folio_split_unmapped",
    /// `move_to_new_folio(dst, src, ..)`.
    Migrate => c"move_to_new_folio",
    /// `folio_migrate_mapping(.., folio, extra)`.
    MigrateMapping => c"folio_migrate_mapping",
    /// `__remove_mapping(.., folio, ..)`.
    RemoveMapping => c"__remove_mapping",
    /// `try_to_unmap_one(folio, vma, ..)`.
    LazyfreePte => c"try_to_unmap_one",
    /// `unmap_huge_pmd_locked(vma, .., folio)`.
    LazyfreePmd => c"unmap_huge_pmd_locked",
}

impl Asker {
    /// Returns the position in [`Asker::ALL`].
    #[inline]
    #[expect(clippy::as_conversions, reason = "an enum without fields has no From")]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns what is asked there.
    #[inline]
    pub(crate) fn question(self) -> Option<Question> {
        QUESTION_OF.get(self.index()).copied().flatten()
    }
}

/// What is asked at each of [`Asker::ALL`].
static QUESTION_OF: [Option<Question>; NR_ASKERS] = question_of();

/// Makes [`QUESTION_OF`].
#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "runs at compile time only"
)]
const fn question_of() -> [Option<Question>; NR_ASKERS] {
    let mut of = [None; NR_ASKERS];
    let mut d = 0;
    while d < NR_DECISIONS {
        if let Some(asker) = DECISIONS[d].asker() {
            of[asker.index()] = Some(DECISIONS[d].question);
        }
        d += 1;
    }
    of
}

/// The answers of one definition at one hooked function. Saturating.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Asked {
    /// How often it was asked.
    pub asked: u64,
    /// Of these: it answered, and differently from the kernel.
    pub differ: u64,
    /// Of these: it answered against the truth.
    pub wrong: u64,
    /// Of these: it could not tell.
    pub unknown: u64,
}

impl Asked {
    /// Adds other counts, such as those of another shard.
    #[inline]
    pub fn merge(&mut self, other: &Asked) {
        self.asked = self.asked.saturating_add(other.asked);
        self.differ = self.differ.saturating_add(other.differ);
        self.wrong = self.wrong.saturating_add(other.wrong);
        self.unknown = self.unknown.saturating_add(other.unknown);
    }
}

/// What became of the calls of one hooked function that asked about a large folio. Saturating.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Asks {
    /// The folio is tracked: the definitions were asked.
    pub judged: u64,
    /// The folio is not tracked.
    pub untracked: u64,
    /// A fork copy may hold mappings that are not known yet, or the kernel's counters cannot be
    /// read.
    pub unsettled: u64,
}

impl Asks {
    /// Adds the counts of another shard.
    pub fn merge(&mut self, other: &Asks) {
        self.judged = self.judged.saturating_add(other.judged);
        self.untracked = self.untracked.saturating_add(other.untracked);
        self.unsettled = self.unsettled.saturating_add(other.unsettled);
    }
}

/// Number of [`Asked`] counts of a shard.
pub const NR_ASKED: usize = NR_ASKERS * DEFINITIONS.len();

/// Returns the position of the counts of a definition (by position in [`DEFINITIONS`]) at a hooked
/// function.
pub fn asked_index(asker: Asker, definition: usize) -> usize {
    asker
        .index()
        .wrapping_mul(DEFINITIONS.len())
        .wrapping_add(definition)
}

/// The counts of one shard, lent for one operation.
pub struct AskedTable<'a> {
    /// [`NR_ASKED`] counts, see [`asked_index`].
    pub asked: &'a mut [Asked],
    /// One for each of [`Asker::ALL`].
    pub asks: &'a mut [Asks],
    /// [`NR_ANSWERS`] answers, which are not counted yet.
    ///
    /// [`NR_ANSWERS`]: crate::NR_ANSWERS
    pub kept: &'a mut [KeptAnswer],
}

impl AskedTable<'_> {
    /// Counts what became of a call.
    pub(crate) fn note(&mut self, asker: Asker, counter: fn(&mut Asks) -> &mut u64) {
        if let Some(asks) = self.asks.get_mut(asker.index()) {
            let counter = counter(asks);
            *counter = counter.saturating_add(1);
        }
    }

    /// Counts the answers of the pairs of one question, given so many times. Pairs that were not asked count
    /// for nothing.
    pub(crate) fn answers(&mut self, asker: Asker, sets: Sets, times: u64) {
        let [asked, differ, wrong, unknown] = sets;
        let first = asked_index(asker, 0);
        let end = first.wrapping_add(DEFINITIONS.len());
        let table = self.asked.get_mut(first..end).unwrap_or_default();
        let mut count = |pairs: PairSet, of: fn(&mut Asked) -> &mut u64| {
            for pair in pairs.and(asked).iter() {
                let definition = PAIR_DEFINITION.get(pair).copied().map(usize::from);
                if let Some(cell) = definition.and_then(|d| table.get_mut(d)) {
                    let number = of(cell);
                    *number = number.saturating_add(times);
                }
            }
        };
        count(asked, |cell| &mut cell.asked);
        count(differ, |cell| &mut cell.differ);
        count(wrong, |cell| &mut cell.wrong);
        count(unknown, |cell| &mut cell.unknown);
    }
}

/// The position in [`DEFINITIONS`] of each pair's definition.
const PAIR_DEFINITION: [u8; NR_PAIRS] = pair_definitions();

/// Makes [`PAIR_DEFINITION`]: pairs stand in the order of the definitions.
#[expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "runs at compile time only"
)]
const fn pair_definitions() -> [u8; NR_PAIRS] {
    assert!(DEFINITIONS.len() <= 256);
    let mut of = [0; NR_PAIRS];
    let mut pair = 0;
    let mut d = 0;
    while d < DEFINITIONS.len() {
        let mut q = 0;
        while q < DEFINITIONS[d].claims.len() {
            of[pair] = d as u8;
            pair += 1;
            q += 1;
        }
        d += 1;
    }
    of
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PAIRS;

    #[test]
    fn pairs_know_their_definition() {
        for ((id, _), d) in PAIRS.iter().zip(PAIR_DEFINITION) {
            let definition = DEFINITIONS.get(usize::from(d));
            assert_eq!(definition.map(|d| d.id), Some(*id));
        }
    }

    #[test]
    fn askers_know_their_place_and_question() {
        for (n, asker) in Asker::ALL.iter().enumerate() {
            assert_eq!(asker.index(), n);
            let site = DECISIONS.iter().find(|d| d.asker() == Some(*asker));
            assert_eq!(asker.question(), site.map(|d| d.question));
        }
    }

    #[test]
    fn counts_saturate() {
        let full = Asked {
            asked: u64::MAX,
            differ: u64::MAX,
            wrong: u64::MAX,
            unknown: u64::MAX,
        };
        let mut sum = full;
        sum.merge(&full);
        assert_eq!(sum, full);
    }
}
