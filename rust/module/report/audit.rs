// SPDX-License-Identifier: GPL-2.0

//! `audit`.

use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print, //
};

use super::{
    number,
    pid, //
};
use crate::{
    audit::{
        Audit,
        Difference,
        DifferenceKind,
        Held, //
    },
    control::Control,
    debugfs::File,
    procwalk, //
};

/// `audit`: page tables against shadow against counters.
pub(crate) struct AuditFile;

impl File<Control> for AuditFile {
    const NAME: &'static CStr = c"audit";
    const MODE: u16 = 0o600;

    fn store(control: &Control, text: &str) -> Result {
        let pid = match text {
            "all" => None,
            text => Some(pid(text)?),
        };
        if !control.session.enabled() {
            return Err(ENODEV);
        }
        let audit = Audit::run(control.tracker(), pid, &procwalk::pause)?;
        *control.audit.lock() = Some(audit);
        match pid {
            None if control.session.both().second().is_some() => super::both::compare(control),
            _ => Ok(()),
        }
    }

    fn show(control: &Control, m: &SeqFile) -> Result {
        if let Some(audit) = control.audit.lock().as_ref() {
            show_audit(audit, m);
        }
        show_background(control, m);
        Ok(())
    }
}

fn show_audit(audit: &Audit, m: &SeqFile) {
    match audit.pid {
        None => seq_print!(m, "target: all\n"),
        Some(pid) => seq_print!(m, "target: {pid}\n"),
    }
    for (name, value) in [
        ("mms", audit.mms),
        ("steps", audit.steps),
        ("mappings", audit.mappings),
        ("untracked_mappings", audit.untracked),
        ("records", audit.records),
        ("records_without_process", audit.without_process),
        ("records_of_shared_tables", audit.shared_tables),
        ("compared", audit.tally.compared),
        ("deferred", audit.tally.deferred),
        ("missing_in_shadow", audit.missing_in_shadow),
        ("not_in_page_table", audit.not_in_page_table),
        ("wrong_vmas", audit.wrong_vmas),
        ("mismatches", audit.tally.mismatches),
        ("differences", audit.differences()),
        ("records_again", audit.again),
        ("records_unsettled", audit.unsettled),
        ("took_ms", audit.took / 1_000_000),
    ] {
        seq_print!(m, "{name}: {value}\n");
    }
    show_held(&audit.held, "", m);
    for d in audit.details.iter() {
        show_difference(d, "difference", m);
    }
}

fn show_held(held: &Held, prefix: &str, m: &SeqFile) {
    for (name, ns) in [
        ("mmap_lock", held.mmap),
        ("table_lock", held.table),
        ("lock", held.shard),
    ] {
        seq_print!(m, "{prefix}longest_{name}_us: {}\n", ns.div_ceil(1000));
    }
}

fn show_difference(d: &Difference, name: &str, m: &SeqFile) {
    let kind = match d.kind {
        DifferenceKind::MissingInShadow => "missing_in_shadow",
        DifferenceKind::NotInPageTable => "not_in_page_table",
        DifferenceKind::WrongVmas => "wrong_vmas",
    };
    let entire = u8::from(d.entire);
    seq_print!(m, "{name}: {kind} pfn={} order={} ", d.pfn, d.order);
    seq_print!(
        m,
        "first={} nr={} entire={entire} va={:#x}\n",
        d.first,
        d.nr,
        d.va
    );
}

/// Nothing if there never was a background audit.
fn show_background(control: &Control, m: &SeqFile) {
    let totals = control.background.totals();
    let interval_ms = control.background.interval_ms();
    if interval_ms == 0 && totals.rounds + totals.unfinished == 0 {
        return;
    }
    for (name, value) in [
        ("interval_ms", u64::from(interval_ms)),
        ("rounds", totals.rounds),
        ("unfinished", totals.unfinished),
        ("mappings", totals.mappings),
        ("records", totals.records),
        ("compared", totals.compared),
        ("differences", totals.differences),
        ("longest_took_ms", totals.took / 1_000_000),
    ] {
        seq_print!(m, "background_{name}: {value}\n");
    }
    show_held(&totals.held, "background_", m);
    if let Some(d) = totals.last {
        show_difference(&d, "background_difference", m);
    }
}

/// `audit_interval`: milliseconds between audits in the background.
pub(crate) struct AuditInterval;

impl File<Control> for AuditInterval {
    const NAME: &'static CStr = c"audit_interval";
    const MODE: u16 = 0o600;

    fn show(control: &Control, m: &SeqFile) -> Result {
        seq_print!(m, "{}\n", control.background.interval_ms());
        Ok(())
    }

    fn store(control: &Control, text: &str) -> Result {
        let ms = u32::try_from(number(text)?).map_err(|_| EINVAL)?;
        control.background.set_interval(ms)
    }
}
