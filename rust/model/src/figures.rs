// SPDX-License-Identifier: GPL-2.0

//! Figures that answer questions which the mailing-list threads left open.

use crate::{
    tables::TABLE_KINDS,
    DefinitionId,
    Kind,
    DEFINITIONS, //
};

/// Number of classes of scan lengths: 1, up to 2, 4, ... entries, and more than 1024.
pub const SCAN_CLASSES: usize = 12;

/// Scans of page-table entries that `vma_counter` needs to see whether a VMA maps the folio.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scans {
    /// Number of scans.
    pub scans: u64,
    /// Entries looked at, in all of them.
    pub entries: u64,
    /// Most entries of one scan.
    pub most: u64,
    /// Scans by length: class i has more than 2^(i-1), up to 2^i entries.
    pub classes: [u64; SCAN_CLASSES],
}

impl Scans {
    /// Counts a scan of so many entries.
    pub(crate) fn count(&mut self, entries: u32) {
        self.scans = self.scans.saturating_add(1);
        self.entries = self.entries.saturating_add(u64::from(entries));
        self.most = self.most.max(u64::from(entries));
        let class = entries.max(1).wrapping_sub(1).checked_ilog2();
        let class = class.map_or(0, |log| log.wrapping_add(1));
        let class = usize::try_from(class).unwrap_or(usize::MAX);
        let class = class.min(SCAN_CLASSES.wrapping_sub(1));
        if let Some(count) = self.classes.get_mut(class) {
            *count = count.saturating_add(1);
        }
    }

    /// Adds the scans of another shard.
    fn merge(&mut self, other: &Self) {
        self.scans = self.scans.saturating_add(other.scans);
        self.entries = self.entries.saturating_add(other.entries);
        self.most = self.most.max(other.most);
        for (count, more) in self.classes.iter_mut().zip(&other.classes) {
            *count = count.saturating_add(*more);
        }
    }
}

/// What was left in the counter of a sketch whenever nothing mapped the folio any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rest {
    /// How often it was above 0: a leak.
    pub leaks: u64,
    /// Sum of those.
    pub leaked: u64,
    /// How often it was below 0: an underflow.
    pub underflows: u64,
    /// Sum of those, without the sign.
    pub underflown: u64,
}

/// A number for each type of folio, as in [`crate::TABLE_KIND`].
pub type ByKind = [u64; TABLE_KINDS];

/// The figures of a shard, or their sums over several. Saturating.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Figures {
    /// Runs of removes, PMD splits apart.
    pub remove_runs: ByKind,
    /// Of these: pages of that VMA and page table are still mapped.
    pub remove_runs_tuple_left: ByKind,
    /// Of these: pages of that VMA are still mapped.
    pub remove_runs_vma_left: ByKind,
    /// Folios that tracking began with.
    pub folios: ByKind,
    /// Of these: some page was mapped and another not, in an evaluated state.
    pub ever_partial: ByKind,
    /// Of these: more (VMA, page table) tuples than VMAs mapped the folio.
    pub ever_unaligned: ByKind,
    /// Of these: more than one MM.
    pub ever_shared: ByKind,
    /// Of these: more than two MMs.
    pub ever_many: ByKind,
    /// Scans at adds.
    pub scans_add: Scans,
    /// Scans at removes.
    pub scans_remove: Scans,
    /// Most mappings that an evaluated state had.
    pub most_mappings: u64,
    /// Largest reference count that the kernel showed.
    pub most_references: u64,
    /// By definition.
    rests: [Rest; DEFINITIONS.len()],
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            remove_runs: [0; TABLE_KINDS],
            remove_runs_tuple_left: [0; TABLE_KINDS],
            remove_runs_vma_left: [0; TABLE_KINDS],
            folios: [0; TABLE_KINDS],
            ever_partial: [0; TABLE_KINDS],
            ever_unaligned: [0; TABLE_KINDS],
            ever_shared: [0; TABLE_KINDS],
            ever_many: [0; TABLE_KINDS],
            scans_add: Scans::default(),
            scans_remove: Scans::default(),
            most_mappings: 0,
            most_references: 0,
            rests: [Rest::default(); DEFINITIONS.len()],
        }
    }
}

/// Adds to the number of a type of folio.
pub(crate) fn up(counts: &mut ByKind, kind: Kind) {
    if let Some(count) = counts.get_mut(kind.index()) {
        *count = count.saturating_add(1);
    }
}

/// Takes back what was counted for a type of folio.
pub(crate) fn down(counts: &mut ByKind, kind: Kind) {
    if let Some(count) = counts.get_mut(kind.index()) {
        *count = count.saturating_sub(1);
    }
}

impl Figures {
    /// Adds the figures of another shard.
    pub fn merge(&mut self, other: &Self) {
        for (counts, more) in [
            (&mut self.remove_runs, &other.remove_runs),
            (
                &mut self.remove_runs_tuple_left,
                &other.remove_runs_tuple_left,
            ),
            (&mut self.remove_runs_vma_left, &other.remove_runs_vma_left),
            (&mut self.folios, &other.folios),
            (&mut self.ever_partial, &other.ever_partial),
            (&mut self.ever_unaligned, &other.ever_unaligned),
            (&mut self.ever_shared, &other.ever_shared),
            (&mut self.ever_many, &other.ever_many),
        ] {
            for (count, more) in counts.iter_mut().zip(more) {
                *count = count.saturating_add(*more);
            }
        }
        self.scans_add.merge(&other.scans_add);
        self.scans_remove.merge(&other.scans_remove);
        self.most_mappings = self.most_mappings.max(other.most_mappings);
        self.most_references = self.most_references.max(other.most_references);
        for (rest, more) in self.rests.iter_mut().zip(&other.rests) {
            rest.leaks = rest.leaks.saturating_add(more.leaks);
            rest.leaked = rest.leaked.saturating_add(more.leaked);
            rest.underflows = rest.underflows.saturating_add(more.underflows);
            rest.underflown = rest.underflown.saturating_add(more.underflown);
        }
    }

    /// Returns what was left in the counter of a definition.
    pub fn rest(&self, id: DefinitionId) -> Rest {
        DEFINITIONS
            .iter()
            .position(|d| d.id == id)
            .and_then(|at| self.rests.get(at).copied())
            .unwrap_or_default()
    }

    /// Notes what was left in the counter of a definition.
    pub(crate) fn note_rest(&mut self, id: DefinitionId, left: i64) {
        let at = DEFINITIONS.iter().position(|d| d.id == id);
        let Some(rest) = at.and_then(|at| self.rests.get_mut(at)) else {
            return;
        };
        if left > 0 {
            rest.leaks = rest.leaks.saturating_add(1);
            rest.leaked = rest.leaked.saturating_add(left.unsigned_abs());
        } else {
            rest.underflows = rest.underflows.saturating_add(1);
            rest.underflown = rest.underflown.saturating_add(left.unsigned_abs());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_fall_into_classes() {
        let mut scans = Scans::default();
        for entries in [1, 2, 3, 4, 5, 8, 512, 513, 5000] {
            scans.count(entries);
        }
        assert_eq!(scans.classes, [1, 1, 2, 2, 0, 0, 0, 0, 0, 1, 1, 1]);
        assert_eq!((scans.scans, scans.most), (9, 5000));
        assert_eq!(scans.entries, 1 + 2 + 3 + 4 + 5 + 8 + 512 + 513 + 5000);
    }

    #[test]
    fn rests_keep_their_sign() {
        let mut figures = Figures::default();
        figures.note_rest(DefinitionId::Vma, 2);
        figures.note_rest(DefinitionId::Vma, -3);
        let sum = &mut Figures::default();
        sum.merge(&figures);
        sum.merge(&figures);
        let rest = sum.rest(DefinitionId::Vma);
        assert_eq!((rest.leaks, rest.leaked), (2, 4));
        assert_eq!((rest.underflows, rest.underflown), (2, 6));
        assert_eq!(sum.rest(DefinitionId::Mm), Rest::default());
    }
}
