// SPDX-License-Identifier: GPL-2.0

//! `both`: whether the shadows of both backends are equal.

use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print, //
};

use fmi_model::{
    Counters,
    FolioView,
    LostReason,
    TwinPlace,
    TwinWhat,
    COUNTERS, //
};

use crate::{
    both::{
        Detail,
        Totals, //
    },
    control::Control,
    debugfs::File,
    procwalk,
    tracker::Tracker, //
};

/// `both`: write `compare` to compare.
pub(crate) struct BothFile;

/// What the second shadow has left out, by the beginning of the names of its counters.
const LEFT_OUT: [&str; 5] = [
    "lost_",
    "inconsistent_",
    "missed",
    "untracked_in_flight",
    "corrupt",
];

/// Compares both shadows.
///
/// # Errors
///
/// `ENODEV` if there are not two, or tracking is off; `ENOMEM`, `EINTR`.
pub(super) fn compare(control: &Control) -> Result {
    if !control.session.enabled() {
        return Err(ENODEV);
    }
    let both = control.session.both();
    both.compare(control.tracker(), &procwalk::pause)
}

/// Writes the lines of `stats`: none if there is one shadow.
pub(super) fn stats(control: &Control, m: &SeqFile) {
    let both = control.session.both();
    if both.second().is_some() {
        let (_, all) = both.totals();
        show_totals(&all, "both_", m);
    }
}

impl File<Control> for BothFile {
    const NAME: &'static CStr = c"both";
    const MODE: u16 = 0o600;
    const SIZE: usize = 1 << 15;

    fn store(control: &Control, text: &str) -> Result {
        match text {
            "compare" => compare(control),
            _ => Err(EINVAL),
        }
    }

    fn show(control: &Control, m: &SeqFile) -> Result {
        let both = control.session.both();
        let Some(second) = both.second() else {
            seq_print!(m, "state: off\n");
            return Ok(());
        };
        seq_print!(m, "state: on\n");
        seq_print!(m, "first: functions\nsecond: tracepoints\n");
        seq_print!(m, "scanned_alike: {}\n", u8::from(both.alike()));
        let (last, all) = both.totals();
        show_totals(&last, "", m);
        for (reasons, which) in [(&last.lost_first, "first"), (&last.lost_second, "second")] {
            for (reason, nr) in LostReason::ALL.iter().zip(reasons) {
                seq_print!(m, "lost_by_{which}_{}: {nr}\n", reason.name());
            }
        }
        show_totals(&all, "all_", m);
        show_second(second, m);
        both.for_each_detail(|n, detail| show_detail(n, detail, m));
        Ok(())
    }
}

fn show_totals(totals: &Totals, prefix: &str, m: &SeqFile) {
    for (name, value) in [
        ("rounds", totals.rounds),
        ("compared", totals.compared()),
        ("equal", totals.equal),
        ("differences", totals.differences),
        ("deferred", totals.deferred),
        ("learning", totals.learning),
        ("lost", totals.lost()),
        ("absent", totals.absent),
        ("stops", totals.stops),
        ("stopped", totals.stopped),
    ] {
        seq_print!(m, "{prefix}{name}: {value}\n");
    }
}

/// What the second shadow has not followed: the first tells that in `stats`.
fn show_second(second: &Tracker, m: &SeqFile) {
    let mut counters = Counters::new();
    second
        .table
        .for_each_state(|state| counters.merge(state.counters()));
    for (counter, name) in COUNTERS {
        let shown = name == "tracked_folios" || LEFT_OUT.iter().any(|of| name.starts_with(of));
        if shown {
            seq_print!(m, "second_{name}: {}\n", counters.get(counter));
        }
    }
    let (unknown, unreadable, _) = second.not_understood();
    seq_print!(
        m,
        "second_unreadable: {}\n",
        unknown.saturating_add(unreadable)
    );
}

/// Numbers of a folio that differences are found in, by name.
fn numbers(view: Option<FolioView>) -> [(&'static str, u64); 8] {
    let view = view.unwrap_or_default();
    [
        ("order", view.order.into()),
        ("total", view.total),
        ("entire", view.entire.into()),
        ("nr_pages_mapped", view.nr_pages_mapped.into()),
        ("mm", view.mm.into()),
        ("vma", view.vma.into()),
        ("vma_pt", view.vma_pt.into()),
        ("records", view.nr_records.into()),
    ]
}

/// One difference in a line: what there is in the first, then in the second.
fn show_detail(n: u64, detail: &Detail, m: &SeqFile) {
    let d = &detail.difference;
    let view = d.first.or(d.second).unwrap_or_default();
    seq_print!(
        m,
        "difference: {n} time_ns={} pfn={} type={} stopped={}",
        detail.time_ns,
        d.pfn(),
        view.kind.name(),
        u8::from(detail.stopped)
    );
    match detail.kernel_large {
        Some(large) => seq_print!(m, " kernel_large={large}"),
        None => seq_print!(m, " kernel_large=unknown"),
    }
    match d.place {
        TwinPlace::Folio => seq_print!(m, " place=folio"),
        TwinPlace::Record { base, what, .. } => {
            seq_print!(m, " place=record pid={} base={base:#x}", detail.pid);
            seq_print!(m, " what={}", what.name());
            if let TwinWhat::Page(page) = what {
                seq_print!(m, ":{page}");
            }
        }
    }
    for ((name, first), (_, second)) in numbers(d.first).into_iter().zip(numbers(d.second)) {
        seq_print!(m, " {name}={first}/{second}");
    }
    let mut separator = " values=";
    for (name, first, second) in d.values() {
        seq_print!(m, "{separator}{name}:{first}/{second}");
        separator = ",";
    }
    seq_print!(m, "\n");
}
