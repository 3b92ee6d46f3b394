// SPDX-License-Identifier: GPL-2.0

//! `scan`, and what `stats` says of it.

use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print, //
};

use fmi_model::{
    LostReason,
    Standing, //
};

use crate::{
    control::Control,
    coverage::Coverage,
    debugfs::File, //
};

/// `scan`: what was mapped before tracking began; write `1` to scan, `coverage` to look what is tracked.
pub(crate) struct ScanFile;

fn reason(standing: Standing) -> &'static str {
    match standing {
        Standing::Tracked => "tracked",
        Standing::Learning => "learning",
        Standing::Lost(reason) => reason.name(),
        Standing::Unknown => "unknown",
    }
}

fn coverage(m: &SeqFile, coverage: &Coverage) {
    seq_print!(m, "coverage_found: {}\n", coverage.found);
    seq_print!(m, "coverage_tracked: {}\n", coverage.tracked);
    seq_print!(m, "coverage_learning: {}\n", coverage.learning);
    for (reason, nr) in LostReason::ALL.iter().zip(coverage.lost) {
        seq_print!(m, "coverage_{}: {nr}\n", reason.name());
    }
    seq_print!(m, "coverage_unknown: {}\n", coverage.unknown);
}

/// Writes the lines of `stats`.
pub(super) fn stats(control: &Control, m: &SeqFile) {
    let scan = control.session.scan();
    seq_print!(m, "scan: {}\n", scan.progress().name());
    let numbers = scan.numbers();
    seq_print!(m, "scan_mms: {}\n", numbers.mms);
    seq_print!(m, "scan_mms_done: {}\n", numbers.mms_done);
    scan.with_coverage(|found| match found {
        Some(found) => coverage(m, found),
        None => coverage(m, &Coverage::default()),
    });
}

impl File<Control> for ScanFile {
    const NAME: &'static CStr = c"scan";
    const MODE: u16 = 0o600;
    const SIZE: usize = 4096;

    fn store(control: &Control, text: &str) -> Result {
        if !control.session.enabled() {
            return Err(ENODEV);
        }
        match text {
            "1" => control.session.rescan(),
            "coverage" => control.session.scan().look(control.tracker()),
            _ => Err(EINVAL),
        }
    }

    fn show(control: &Control, m: &SeqFile) -> Result {
        let scan = control.session.scan();
        let numbers = scan.numbers();
        seq_print!(m, "state: {}\n", scan.progress().name());
        for (name, value) in [
            ("attempts", numbers.attempts),
            ("passes", numbers.passes),
            ("mms", numbers.mms),
            ("mms_done", numbers.mms_done),
            ("mms_by_rmap", numbers.mms_by_rmap),
            ("page_tables", numbers.tables),
            ("stops", numbers.stops),
            ("unseen_mm", numbers.unseen),
            ("longest_mmap_lock_us", numbers.longest_lock.div_ceil(1000)),
            ("longest_stop_us", numbers.longest_stop.div_ceil(1000)),
        ] {
            seq_print!(m, "{name}: {value}\n");
        }
        scan.with_coverage(|found| {
            let Some(found) = found else { return };
            for (name, value) in [
                ("mms", found.mms),
                ("steps", found.steps),
                ("longest_mmap_lock_us", found.longest_lock.div_ceil(1000)),
            ] {
                seq_print!(m, "coverage_{name}: {value}\n");
            }
            coverage(m, found);
            for folio in found.list.iter() {
                seq_print!(
                    m,
                    "untracked: pfn={} order={} type={} reason={}\n",
                    folio.pfn,
                    folio.order,
                    folio.kind.name(),
                    reason(folio.standing)
                );
            }
            if found.more > 0 {
                seq_print!(m, "untracked_more: {}\n", found.more);
            }
        });
        Ok(())
    }
}
