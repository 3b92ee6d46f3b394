// SPDX-License-Identifier: GPL-2.0

//! Answers from page tables and from the kernel's own counters.

use kernel::{
    seq_file::SeqFile,
    seq_print, //
};

use fmi_model::{
    ByKind,
    Kind, //
};

use super::{
    super::preview::histogram,
    Facts, //
};
use crate::{
    census::{
        AREAS,
        LEVELS,
        WHATS, //
    },
    class,
    preview::{
        Figure,
        Spread,
        CHANGES,
        FIGURES, //
    },
    procwalk, //
};

/// `name: value` with the error against what is right, in kB.
fn versus(m: &SeqFile, name: &str, right: i64, other: &str, value: i64) {
    let error = value.saturating_sub(right);
    seq_print!(m, "{name}_{other}_kb: {value}\n");
    seq_print!(m, "{name}_{other}_error_kb: {error:+}\n");
}

/// Question 5, of the whole machine: the statistics, what they would be with one mapcount per folio
/// (of tracked folios: the others are as they are), and what with pages counted "regardless they are
/// mapped or not".
pub(super) fn statistics(m: &SeqFile, facts: &Facts) {
    let kb = |pages: i64| pages.saturating_mul(1 << facts.page_shift) >> 10;
    let figure = |figure| facts.preview.reading.figures.get(figure);
    let anon = |counts: &ByKind| counts.get(Kind::Anon.index()).copied().unwrap_or(0) as i64;
    let sum = |counts: &ByKind| counts.iter().fold(0u64, |sum, n| sum.saturating_add(*n)) as i64;
    // By how many pages the whole of the folios is more than what is mapped of them.
    let now = &facts.now;
    let more_anon = anon(&now.whole).saturating_sub(anon(&now.pages));
    let more_all = sum(&now.whole).saturating_sub(sum(&now.pages));
    let more_huge = kb(anon(&now.pmd_sized).saturating_sub(anon(&now.pmd_mapped)));
    for (name, as_it_is, more, all) in [
        (
            "nr_anon_mapped",
            figure(Figure::AnonPages),
            more_anon,
            facts.pages.anon,
        ),
        (
            "nr_file_mapped",
            figure(Figure::Mapped),
            more_all.saturating_sub(more_anon),
            facts.pages.file,
        ),
    ] {
        seq_print!(m, "{name}_kb: {as_it_is}\n");
        let one = if procwalk::has_page_mapcounts() {
            as_it_is.saturating_add(kb(more))
        } else {
            // It has one for a folio.
            as_it_is
        };
        let mapped = one.saturating_sub(kb(more));
        versus(m, name, mapped, "one_mapcount", one);
        versus(m, name, mapped, "regardless", kb(all as i64));
    }
    // A folio as large as a PMD is the same for both: nothing else counts those.
    let huge = figure(Figure::AnonHuge);
    seq_print!(m, "nr_anon_thps_kb: {huge}\n");
    for other in ["one_mapcount", "regardless"] {
        versus(
            m,
            "nr_anon_thps",
            huge,
            other,
            huge.saturating_add(more_huge),
        );
    }
}

/// Question 10.
pub(super) fn census(m: &SeqFile, facts: &Facts) {
    let census = &facts.census;
    seq_print!(m, "census_processes: {}\n", census.processes);
    seq_print!(m, "census_entries: {}\n", census.sum(|_| true));
    for (name, entries) in LEVELS.iter().zip(census.levels) {
        seq_print!(m, "census_entries_{name}: {entries}\n");
    }
    for (area, name) in AREAS.iter().enumerate() {
        let sum = census.sum(|group| group.area == area);
        seq_print!(m, "census_in_{name}: {sum}\n");
    }
    for (what, (name, _)) in WHATS.iter().enumerate() {
        let sum = census.sum(|group| group.what == what);
        seq_print!(m, "census_of_{name}: {sum}\n");
    }
    let counted = |what: usize| WHATS.get(what).is_some_and(|(_, counted)| *counted);
    let neither = census.sum(|group| !counted(group.what));
    seq_print!(m, "census_neither_file_nor_anon: {neither}\n");
    for group in census.iter() {
        let (Some(area), Some((what, _))) = (AREAS.get(group.area), WHATS.get(group.what)) else {
            continue;
        };
        let (bit, order, entries) = (group.bit, group.order, group.entries);
        seq_print!(m, "census_{area}_{bit}_{what}_order_{order}: {entries}\n");
    }
    // The small ones are those of all small folios.
    for (class, name) in class::NAMES {
        if class != class::SMALL {
            seq_print!(m, "{name}: {}\n", class::sum(class));
        }
    }
}

/// Prints the figures of one change as `preview` does.
fn figures(m: &SeqFile, facts: &Facts, nr: u8) {
    for (figure, _, name) in FIGURES.iter().filter(|(_, change, _)| *change == nr) {
        let now = facts.preview.reading.figures.get(*figure);
        let change = facts.preview.changes.get(*figure);
        seq_print!(m, "{name}: {now} {change:+}\n");
    }
}

/// Question 11.
pub(super) fn shares(m: &SeqFile, facts: &Facts) {
    let histograms = &facts.preview.reading.histograms;
    figures(m, facts, 5);
    histogram(m, "pss_error_kb_processes", histograms.get(Spread::Pss));
    figures(m, facts, 6);
    histogram(
        m,
        "private_error_kb_processes",
        histograms.get(Spread::Private),
    );
    // Whose shares these are.
    for figure in [Figure::PartialAnon, Figure::PartialFile] {
        let (now, change) = (
            facts.preview.reading.figures.get(figure),
            facts.preview.changes.get(figure),
        );
        let name = FIGURES.iter().find(|(f, _, _)| *f as u8 == figure as u8);
        let name = name.map_or("", |(_, _, name)| *name);
        seq_print!(m, "{name}: {now} {change:+}\n");
    }
}

/// Question 12: a line for each change.
pub(super) fn changes(m: &SeqFile, facts: &Facts) {
    let figure = |figure| facts.preview.reading.figures.get(figure);
    let error = |would: Figure, now: Figure| figure(would).saturating_sub(figure(now));
    let anon = error(Figure::AnonPagesWould, Figure::AnonPages);
    let file = error(Figure::MappedWould, Figure::Mapped);
    let shmem = error(Figure::ShmemWould, Figure::Shmem);
    let none: &[(&str, i64)] = &[];
    for (nr, about) in (1u8..).zip(&CHANGES) {
        let line: &[(&str, i64)] = match nr {
            1 => &[
                ("anon_pages_error_kb", anon),
                ("mapped_error_kb", file),
                ("shmem_error_kb", shmem),
                (
                    "anon_pages_untracked_extra_kb",
                    figure(Figure::AnonUntrackedExtra),
                ),
                (
                    "mapped_untracked_extra_kb",
                    figure(Figure::MappedUntrackedExtra),
                ),
                ("memcgs", figure(Figure::Memcgs)),
            ],
            2 => &[
                ("mapmax_higher_vmas", figure(Figure::MapmaxHigher)),
                ("mapmax_lower_vmas", figure(Figure::MapmaxLower)),
            ],
            3 => &[
                ("exclusive_lost_pages", figure(Figure::ExclusiveLost)),
                ("exclusive_gained_pages", figure(Figure::ExclusiveGained)),
            ],
            4 => &[
                ("kpagecount_higher_pages", figure(Figure::KpagecountHigher)),
                ("kpagecount_lower_pages", figure(Figure::KpagecountLower)),
            ],
            5 => &[
                ("pss_over_kb", figure(Figure::PssOverKb)),
                ("pss_under_kb", figure(Figure::PssUnderKb)),
            ],
            6 => &[
                ("private_over_kb", figure(Figure::PrivateOverKb)),
                ("private_under_kb", figure(Figure::PrivateUnderKb)),
            ],
            7 => &[
                ("partial_anon_folios", figure(Figure::PartialAnon)),
                (
                    "partial_anon_unnoticed_folios",
                    figure(Figure::PartialUnnoticed),
                ),
            ],
            _ => none,
        };
        seq_print!(m, "change_{nr}:");
        for (name, value) in line {
            seq_print!(m, " {name}={value}");
        }
        seq_print!(m, " # {about}\n");
    }
}
