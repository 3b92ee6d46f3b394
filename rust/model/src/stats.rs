// SPDX-License-Identifier: GPL-2.0

//! Counters of a shard: what was seen, and first of all what was not.

use crate::{
    Inconsistency,
    Level,
    LostReason,
    Op, //
};

/// Declares the counters: one line each, with the name used in files.
macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// A counter of a shard.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Counter {
            $($(#[$doc])* $variant,)*
        }

        /// Number of [`Counter`]s.
        pub const NR_COUNTERS: usize = [$($name,)*].len();

        /// All counters with their names, in the order of the files.
        pub const COUNTERS: [(Counter, &str); NR_COUNTERS] =
            [$((Counter::$variant, $name),)*];
    };
}

counters! {
    /// Adds to a folio that is not tracked.
    UntrackedAdd => "untracked_add",
    /// Removes from a folio that is not tracked.
    UntrackedRemove => "untracked_remove",
    /// Finds of the fork walk, or of a scan that has ended, on a folio that is not tracked.
    UntrackedDup => "untracked_dup",
    /// Adds beyond a watermark on a folio that is not tracked.
    UntrackedTouch => "untracked_touch",
    /// Removes beyond a watermark on a folio that is not tracked.
    UntrackedSkip => "untracked_skip",
    /// Calls on a folio that is lost; also counted as untracked.
    UntrackedAfterLoss => "untracked_after_loss",
    /// Adds to an unmapped folio that could not start tracking, because an untracked add to it may
    /// be in flight; also counted as untracked.
    UntrackedInFlight => "untracked_in_flight",
    /// Moves of mappings of a folio that is not tracked.
    UntrackedMove => "untracked_move",
    /// Drained folios that turned out to be mapped: calls were missed; also counted as untracked.
    Missed => "missed",
    /// Folios lost for want of an entry, a record or a chunk.
    LostNoMemory => "lost_no_memory",
    /// Folios lost because an event contradicted the shadow.
    LostInconsistent => "lost_inconsistent",
    /// Folios lost because a copy or move was not seen to its end.
    LostWindow => "lost_window",
    /// Folios lost because they are mapped where the linear rule does not hold.
    LostNotLinear => "lost_not_linear",
    /// Folios lost because the kernel's counters differed.
    LostMismatch => "lost_mismatch",
    /// Adds to a folio that is larger than the bitmaps.
    LostOrder => "lost_order",
    /// Folios lost because an MM maps them that the scan did not see.
    LostUnseenMm => "lost_unseen_mm",
    /// Adds of a mapping that was there already.
    AddMapped => "inconsistent_add_mapped",
    /// Removes of a mapping that was not there.
    RemoveNotMapped => "inconsistent_remove_not_mapped",
    /// Mapped folios whose order changed.
    OrderChanged => "inconsistent_order_changed",
    /// Moves of a mapping that was not there.
    MoveNotMapped => "inconsistent_move_not_mapped",
    /// Moves of a mapping to where another one was.
    MoveOntoMapped => "inconsistent_move_onto_mapped",
    /// Mappings of a tracked folio that the scan found and the shadow did not know.
    FoundUnknown => "inconsistent_found_unknown",
    /// Events that cannot be.
    Malformed => "inconsistent_malformed",
    /// Broken links: bugs of the model.
    Corrupt => "inconsistent_corrupt",
    /// Adds of PTE mappings.
    AddPte => "add_pte",
    /// Adds of an entire mapping.
    AddEntire => "add_entire",
    /// Removes of PTE mappings.
    RemovePte => "remove_pte",
    /// Removes of an entire mapping.
    RemoveEntire => "remove_entire",
    /// PTE mappings found by the fork walk, in batches.
    DupPte => "dup_pte",
    /// Entire mappings found by the fork walk.
    DupEntire => "dup_entire",
    /// Adds beyond a watermark.
    Touch => "touch",
    /// Removes beyond a watermark.
    Skip => "skip",
    /// PTE mappings found by the scan, in batches.
    FoundPte => "found_pte",
    /// Entire mappings found by the scan.
    FoundEntire => "found_entire",
    /// Folios that were mapped before they were known, and of which mappings were taken in.
    LearningStarted => "learning_started",
    /// Removes of a mapping that was not known yet, of such folios.
    LearningUnknown => "learning_remove_unknown",
    /// Such folios all of whose known mappings went.
    LearningDropped => "learning_dropped",
    /// Such folios all of whose mappings became known: they are tracked from then on.
    Adopted => "adopted",
    /// Adds of page cache that came before the removes of what was mapped there.
    AddEarly => "add_early",
    /// Moves of mappings.
    Moves => "moves",
    /// Mappings whose page table came to be shared by another MM.
    TableShared => "table_shared",
    /// VMA boundaries that appeared or vanished inside a mapped folio, told by an event of the VMA.
    Boundaries => "boundaries",
    /// Removes that found their mapping at the other end of an open move.
    RemoveAtAlternative => "remove_at_alternative",
    /// Removes that found their mapping at another base of the same VMA.
    RemoveElsewhere => "remove_elsewhere",
    /// Folios that tracking began with.
    Started => "started",
    /// Folios that tracking began with anew, on the entry of a drained or lost one.
    Restarted => "restarted",
    /// Folios whose last mapping was removed.
    Drained => "drained",
    /// Entries of drained or lost folios that were taken back.
    Reclaimed => "reclaimed",
    /// States that were evaluated.
    Evaluated => "evaluated",
    /// States for which the kernel was asked, too.
    EvaluatedKernel => "evaluated_kernel",
    /// States of folios that no table has a place for: KSM. Always 0.
    OtherKind => "evaluated_other_kind",
    /// Disagreements that nobody was told of: four of the same evaluation had been told, the last one
    /// less than 160 milliseconds before.
    ToldBefore => "examples_alike",
    /// Comparisons of the kernel's counters in a call.
    Checked => "checked",
    /// Differences found by them, to be checked again.
    Suspects => "suspects",
    /// Differences that found no room in the ring of suspects.
    SuspectsDropped => "suspects_dropped",
    /// Folios that are tracked and mapped.
    Tracked => "tracked_folios",
    /// Folios some of whose mappings are known.
    Learning => "learning_folios",
    /// Entries in use.
    Entries => "entries",
    /// Records in use.
    Records => "records",
    /// Details of records in use, each of which takes the place of a record.
    Details => "details",
    /// Folios of which more is kept than their records say.
    Histories => "histories",
    /// Chunks of bitmap in use.
    Chunks => "chunks",
    /// Most entries ever in use.
    EntriesPeak => "entries_peak",
    /// Most records ever in use.
    RecordsPeak => "records_peak",
    /// Most histories ever in use.
    HistoriesPeak => "histories_peak",
    /// Most chunks ever in use.
    ChunksPeak => "chunks_peak",
}

impl Counter {
    /// Returns the position in [`COUNTERS`].
    #[expect(clippy::as_conversions, reason = "an enum without fields has no From")]
    const fn index(self) -> usize {
        self as usize
    }

    /// Returns the counter of calls of this kind.
    pub(crate) fn of_call(op: Op, level: Level) -> Self {
        match (op, level) {
            (Op::Add, Level::Pte) => Self::AddPte,
            (Op::Add, Level::Entire) => Self::AddEntire,
            (Op::Remove, Level::Pte) => Self::RemovePte,
            (Op::Remove, Level::Entire) => Self::RemoveEntire,
            (Op::Dup, Level::Pte) => Self::DupPte,
            (Op::Dup, Level::Entire) => Self::DupEntire,
            (Op::Touch, _) => Self::Touch,
            (Op::Skip, _) => Self::Skip,
            (Op::Found, Level::Pte) => Self::FoundPte,
            (Op::Found, Level::Entire) => Self::FoundEntire,
        }
    }

    /// Returns the counter of calls of this kind on untracked folios.
    pub(crate) fn of_untracked(op: Op) -> Self {
        match op {
            Op::Add => Self::UntrackedAdd,
            Op::Remove => Self::UntrackedRemove,
            Op::Dup | Op::Found => Self::UntrackedDup,
            Op::Touch => Self::UntrackedTouch,
            Op::Skip => Self::UntrackedSkip,
        }
    }

    /// Returns the counter of folios lost for this reason.
    pub(crate) fn of_loss(reason: LostReason) -> Self {
        match reason {
            LostReason::NoMemory => Self::LostNoMemory,
            LostReason::Inconsistent => Self::LostInconsistent,
            LostReason::Window => Self::LostWindow,
            LostReason::NotLinear => Self::LostNotLinear,
            LostReason::Mismatch => Self::LostMismatch,
            LostReason::Order => Self::LostOrder,
            LostReason::UnseenMm => Self::LostUnseenMm,
        }
    }

    /// Returns the counter of contradictions of this kind.
    pub(crate) fn of_inconsistency(kind: Inconsistency) -> Self {
        match kind {
            Inconsistency::AddMapped => Self::AddMapped,
            Inconsistency::RemoveNotMapped => Self::RemoveNotMapped,
            Inconsistency::OrderChanged => Self::OrderChanged,
            Inconsistency::MoveNotMapped => Self::MoveNotMapped,
            Inconsistency::MoveOntoMapped => Self::MoveOntoMapped,
            Inconsistency::FoundUnknown => Self::FoundUnknown,
            Inconsistency::Malformed => Self::Malformed,
            Inconsistency::Corrupt => Self::Corrupt,
        }
    }

    /// Returns whether the counter is a present number, which a reset leaves alone.
    const fn is_gauge(self) -> bool {
        matches!(
            self,
            Self::Tracked
                | Self::Learning
                | Self::Entries
                | Self::Records
                | Self::Details
                | Self::Histories
                | Self::Chunks
        )
    }

    /// Returns the counter that keeps the highest value of a gauge.
    const fn peak(self) -> Option<Self> {
        match self {
            Self::Entries => Some(Self::EntriesPeak),
            Self::Records => Some(Self::RecordsPeak),
            Self::Histories => Some(Self::HistoriesPeak),
            Self::Chunks => Some(Self::ChunksPeak),
            _ => None,
        }
    }
}

const _: () = assert!(Counter::ChunksPeak.index() + 1 == NR_COUNTERS);

/// The counters of one shard, or their sums over several. Saturating.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counters {
    /// By [`Counter::index`].
    values: [u64; NR_COUNTERS],
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

impl Counters {
    /// Returns counters that are all 0.
    pub const fn new() -> Self {
        Self {
            values: [0; NR_COUNTERS],
        }
    }

    /// Returns the value of a counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.values.get(counter.index()).copied().unwrap_or(0)
    }

    /// Adds all counters of `other`: gauges and peaks add up, too.
    pub fn merge(&mut self, other: &Counters) {
        for (value, more) in self.values.iter_mut().zip(&other.values) {
            *value = value.saturating_add(*more);
        }
    }

    /// Adds 1 to a counter; a gauge takes its peak along.
    #[inline]
    pub(crate) fn add(&mut self, counter: Counter) {
        if let Some(value) = self.values.get_mut(counter.index()) {
            *value = value.saturating_add(1);
        }
        if let Some(peak) = counter.peak() {
            let now = self.get(counter);
            if let Some(value) = self.values.get_mut(peak.index()) {
                *value = now.max(*value);
            }
        }
    }

    /// Takes 1 off a gauge.
    #[inline]
    pub(crate) fn sub(&mut self, counter: Counter) {
        if let Some(value) = self.values.get_mut(counter.index()) {
            *value = value.saturating_sub(1);
        }
    }

    /// Sets the gauges to 0: the storage is another.
    pub(crate) fn clear_gauges(&mut self) {
        for (value, (counter, _)) in self.values.iter_mut().zip(&COUNTERS) {
            if counter.is_gauge() {
                *value = 0;
            }
        }
    }

    /// Sets everything to 0 but the gauges; peaks start from them.
    pub(crate) fn reset(&mut self) {
        for (value, (counter, _)) in self.values.iter_mut().zip(&COUNTERS) {
            if !counter.is_gauge() {
                *value = 0;
            }
        }
        for (counter, _) in &COUNTERS {
            if let Some(peak) = counter.peak() {
                let now = self.get(*counter);
                if let Some(value) = self.values.get_mut(peak.index()) {
                    *value = now;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_the_counters() {
        for (n, (counter, name)) in COUNTERS.iter().enumerate() {
            assert_eq!(counter.index(), n);
            assert!(name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_'));
        }
    }

    #[test]
    fn reset_keeps_gauges_and_restarts_peaks() {
        let mut c = Counters::new();
        c.add(Counter::Records);
        c.add(Counter::Records);
        c.sub(Counter::Records);
        c.add(Counter::Started);
        assert_eq!(c.get(Counter::RecordsPeak), 2);
        c.reset();
        assert_eq!(c.get(Counter::Records), 1);
        assert_eq!(c.get(Counter::RecordsPeak), 1);
        assert_eq!(c.get(Counter::Started), 0);
    }
}
