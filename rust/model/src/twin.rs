// SPDX-License-Identifier: GPL-2.0

//! Two shadows of the same folio, fed by different backends: what a comparison of them says.

use crate::{
    DefinitionInfo,
    FolioView,
    LostReason,
    Sketches,
    DEFINITIONS, //
};

const _: () = assert!(DEFINITIONS.len() <= 64);

/// What a comparison of two shadows of a folio says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives on the stack of one reader"
)]
pub enum Twin {
    /// Both have the same mappings, and all formulas the same values.
    Equal,
    /// An event may have reached one of them only: a call, a copy or a move is under way.
    Deferred,
    /// One of them does not follow the folio.
    NotCompared(TwinSkip),
    /// They differ.
    Differs(TwinDifference),
}

/// Why two shadows of a folio are not compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TwinSkip {
    /// Only some of the mappings are known to one of them.
    Learning,
    /// The first has lost the folio.
    LostByFirst(LostReason),
    /// The second has lost the folio.
    LostBySecond(LostReason),
    /// One has nothing of the folio, and may have left it out without a marker, see
    /// [`crate::Shard::may_lack`].
    Absent,
    /// Neither maps anything.
    Unmapped,
}

/// Where two shadows of a folio differ first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TwinPlace {
    /// The numbers of the folio.
    Folio,
    /// The record of this MM at this base.
    Record {
        /// The MM.
        mm: u64,
        /// The address of page 0, see [`crate::Call::base`].
        base: u64,
        /// What differs of it.
        what: TwinWhat,
    },
}

/// What differs of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TwinWhat {
    /// Only the first has it.
    OnlyInFirst,
    /// Only the second has it.
    OnlyInSecond,
    /// This page is mapped by a PTE in one of them only.
    Page(u32),
    /// One of them only has an entire mapping.
    Entire,
    /// The numbers of VMAs or of (VMA, page table) tuples.
    Vmas,
}

impl TwinWhat {
    /// Returns the name used in files.
    pub const fn name(self) -> &'static str {
        match self {
            TwinWhat::OnlyInFirst => "only_in_first",
            TwinWhat::OnlyInSecond => "only_in_second",
            TwinWhat::Page(_) => "page",
            TwinWhat::Entire => "entire",
            TwinWhat::Vmas => "vmas",
        }
    }
}

/// A difference between two shadows of a folio.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TwinDifference {
    /// The numbers of the first; `None` if it has nothing of the folio.
    pub first: Option<FolioView>,
    /// The numbers of the second.
    pub second: Option<FolioView>,
    /// The definitions whose values differ: a bit for each, by position in [`DEFINITIONS`].
    pub definitions: u64,
    /// Where they differ first.
    pub place: TwinPlace,
}

impl TwinDifference {
    /// Returns the pfn of the folio.
    pub fn pfn(&self) -> u64 {
        self.first.or(self.second).map_or(0, |view| view.pfn)
    }

    /// Returns the numbers of changes to both shadows: those of a difference that lasts stay.
    pub fn seqs(&self) -> (u32, u32) {
        let seq = |view: Option<FolioView>| view.map_or(0, |view| view.seq);
        (seq(self.first), seq(self.second))
    }

    /// Returns each definition whose values differ, with the value of each shadow; 0 stands for
    /// a shadow that has nothing.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, i64, i64)> + '_ {
        let named = DEFINITIONS.iter().zip(0u32..);
        named
            .filter(|(_, n)| self.definitions & bit(*n) != 0)
            .map(|(d, _)| (d.name, value(d, &self.first), value(d, &self.second)))
    }
}

/// Returns the bit of a definition.
const fn bit(n: u32) -> u64 {
    1u64.wrapping_shl(n)
}

/// Returns the value of a formula in a shadow; 0 if it has nothing of the folio.
fn value(d: &DefinitionInfo, view: &Option<FolioView>) -> i64 {
    let none = Sketches::default();
    view.as_ref().map_or(0, |view| (d.value)(view, &none))
}

/// Returns the formulas over T whose values differ, a bit for each. Sketches of counters are left
/// out: they depend on the order of events. So are the kernel's counters: both have the same.
pub(crate) fn definitions_that_differ(
    first: &Option<FolioView>,
    second: &Option<FolioView>,
) -> u64 {
    let mut differ = 0;
    let mut this = bit(0);
    for d in &DEFINITIONS {
        if !d.keeps_state && !d.reads_kernel && value(d, first) != value(d, second) {
            differ |= this;
        }
        this = this.wrapping_shl(1);
    }
    differ
}
