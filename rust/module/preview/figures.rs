// SPDX-License-Identifier: GPL-2.0

//! The figures of the preview, by the number of the RFC's change.

use kernel::prelude::*;

use fmi_model::preview::Histogram;

/// Declares the figures: one line each, with the change and the name used in the file.
macro_rules! figures {
    ($($change:literal: $($variant:ident => $name:literal,)*)*) => {
        /// A figure of the whole machine.
        #[derive(Clone, Copy)]
        pub(crate) enum Figure {
            $($($variant,)*)*
        }

        /// All figures with their change and name, in the order of the file.
        pub(crate) const FIGURES: [(Figure, u8, &str); [$($($name,)*)*].len()] =
            [$($((Figure::$variant, $change, $name),)*)*];
    };
}

figures! {
    1:
    AnonPages => "anon_pages_kb",
    AnonPagesWould => "anon_pages_would_kb",
    AnonTracked => "anon_pages_tracked_kb",
    AnonTrackedExtra => "anon_pages_tracked_extra_kb",
    AnonSmall => "anon_pages_small_kb",
    AnonUntracked => "anon_pages_untracked_kb",
    AnonUntrackedExtra => "anon_pages_untracked_extra_kb",
    Mapped => "mapped_kb",
    MappedWould => "mapped_would_kb",
    MappedTracked => "mapped_tracked_kb",
    MappedTrackedExtra => "mapped_tracked_extra_kb",
    MappedSmall => "mapped_small_kb",
    MappedUntracked => "mapped_untracked_kb",
    MappedUntrackedExtra => "mapped_untracked_extra_kb",
    Shmem => "shmem_kb",
    ShmemWould => "shmem_would_kb",
    AnonHuge => "anon_huge_pages_kb",
    AnonHugeWould => "anon_huge_pages_would_kb",
    AnonHugeTracked => "anon_huge_pages_tracked_kb",
    TrackedFolios => "tracked_folios",
    TrackedGone => "tracked_folios_gone",
    Memcgs => "memcgs",
    MemcgsOverflow => "memcgs_overflow_folios",
    2:
    Vmas => "vmas",
    Mapmax => "mapmax",
    MapmaxWould => "mapmax_would",
    MapmaxHigher => "mapmax_higher_vmas",
    MapmaxLower => "mapmax_lower_vmas",
    3:
    Exclusive => "exclusive_pages",
    ExclusiveWould => "exclusive_would_pages",
    ExclusiveLost => "exclusive_lost_pages",
    ExclusiveGained => "exclusive_gained_pages",
    4:
    Kpagecount => "kpagecount_sum",
    KpagecountWould => "kpagecount_would_sum",
    KpagecountHigher => "kpagecount_higher_pages",
    KpagecountLower => "kpagecount_lower_pages",
    KpagecountHigherFolios => "kpagecount_higher_folios",
    KpagecountLowerFolios => "kpagecount_lower_folios",
    KpagecountMostOver => "kpagecount_error_max",
    KpagecountMostUnder => "kpagecount_error_min",
    5:
    Processes => "processes",
    Rss => "rss_kb",
    Pss => "pss_kb",
    PssWould => "pss_would_kb",
    PssOver => "pss_over_processes",
    PssUnder => "pss_under_processes",
    PssOverKb => "pss_over_kb",
    PssUnderKb => "pss_under_kb",
    PssMin => "pss_error_min_kb",
    PssMedian => "pss_error_median_kb",
    PssMax => "pss_error_max_kb",
    PssMinPermille => "pss_error_min_permille",
    PssMedianPermille => "pss_error_median_permille",
    PssMaxPermille => "pss_error_max_permille",
    6:
    Private => "private_kb",
    PrivateWould => "private_would_kb",
    PrivateOver => "private_over_processes",
    PrivateUnder => "private_under_processes",
    PrivateOverKb => "private_over_kb",
    PrivateUnderKb => "private_under_kb",
    PrivateMin => "private_error_min_kb",
    PrivateMedian => "private_error_median_kb",
    PrivateMax => "private_error_max_kb",
    PrivateMinPermille => "private_error_min_permille",
    PrivateMedianPermille => "private_error_median_permille",
    PrivateMaxPermille => "private_error_max_permille",
    7:
    PartialAnon => "partial_anon_folios",
    PartialFile => "partial_file_folios",
    PartialFlagged => "partial_anon_flagged_folios",
    PartialCertain => "partial_anon_certain_folios",
    PartialUnnoticed => "partial_anon_unnoticed_folios",
    PartialUnnoticedKb => "partial_anon_unnoticed_kb",
    PartialStale => "partial_anon_stale_flags",
}

/// What each change of the RFC is about, from change 1 on.
pub(crate) const CHANGES: [&str; 7] = [
    "AnonPages and Mapped count a whole folio as soon as one page is mapped",
    "mapmax of numa_maps is the average of each folio",
    "PM_MMAP_EXCLUSIVE of pagemap tells whether the folio is maybe mapped shared",
    "kpagecount is the average of each folio",
    "Pss divides by the average of each folio",
    "private memory (USS) is that of folios not maybe mapped shared",
    "partial mappings are noticed only where there are fewer mappings than pages",
];

/// Values of the figures; too many for the stack.
pub(crate) struct Figures(KVec<i64>);

impl Figures {
    /// All zero.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new() -> Result<Self> {
        Ok(Self(KVec::from_elem(0, FIGURES.len(), GFP_KERNEL)?))
    }

    /// Returns by how much these are more than others.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn since(&self, others: &Figures) -> Result<Self> {
        let mut changes = Self::new()?;
        for (change, (now, then)) in changes.0.iter_mut().zip(self.0.iter().zip(&others.0)) {
            *change = now.saturating_sub(*then);
        }
        Ok(changes)
    }

    /// Sets all to those of others.
    pub(super) fn copy_from(&mut self, others: &Figures) {
        for (here, there) in self.0.iter_mut().zip(&others.0) {
            *here = *there;
        }
    }

    /// Returns a value.
    pub(crate) fn get(&self, figure: Figure) -> i64 {
        self.0.get(figure as usize).copied().unwrap_or(0)
    }

    /// Sets a value.
    pub(crate) fn set(&mut self, figure: Figure, value: i64) {
        if let Some(slot) = self.0.get_mut(figure as usize) {
            *slot = value;
        }
    }

    /// Adds to a value.
    pub(crate) fn add(&mut self, figure: Figure, value: i64) {
        self.set(figure, self.get(figure).saturating_add(value));
    }

    /// Makes a value at least this.
    pub(crate) fn at_least(&mut self, figure: Figure, value: i64) {
        self.set(figure, self.get(figure).max(value));
    }

    /// Makes a value at most this.
    pub(crate) fn at_most(&mut self, figure: Figure, value: i64) {
        self.set(figure, self.get(figure).min(value));
    }
}

/// What a histogram is about.
#[derive(Clone, Copy)]
pub(crate) enum Spread {
    /// By how much kpagecount differs, by page of a tracked folio.
    Kpagecount,
    /// By how many kB Pss differs, by process.
    Pss,
    /// By how many kB the private memory differs, by process.
    Private,
}

/// The histograms, by [`Spread`].
pub(crate) struct Histograms(KVec<Histogram>);

impl Histograms {
    /// All empty.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new() -> Result<Self> {
        let nr = Spread::Private as usize + 1;
        Ok(Self(KVec::from_elem(Histogram::default(), nr, GFP_KERNEL)?))
    }

    /// Counts an error `nr` times.
    pub(super) fn add(&mut self, spread: Spread, error: i64, nr: u64) {
        if let Some(histogram) = self.0.get_mut(spread as usize) {
            histogram.add(error, nr);
        }
    }

    /// Returns one.
    pub(crate) fn get(&self, spread: Spread) -> Option<&Histogram> {
        self.0.get(spread as usize)
    }
}
