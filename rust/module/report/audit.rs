// SPDX-License-Identifier: GPL-2.0

//! `audit`.

use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print, //
};

use super::pid;
use crate::{
    audit::{
        Audit,
        DifferenceKind, //
    },
    control::Control,
    debugfs::File, //
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
        let audit = Audit::run(control.tracker(), pid)?;
        *control.audit.lock() = Some(audit);
        Ok(())
    }

    fn show(control: &Control, m: &SeqFile) -> Result {
        let last = control.audit.lock();
        let Some(audit) = last.as_ref() else {
            return Ok(());
        };
        match audit.pid {
            None => seq_print!(m, "target: all\n"),
            Some(pid) => seq_print!(m, "target: {pid}\n"),
        }
        for (name, value) in [
            ("mms", audit.mms),
            ("mappings", audit.mappings),
            ("untracked_mappings", audit.untracked),
            ("records", audit.records),
            ("records_without_process", audit.without_process),
            ("compared", audit.tally.compared),
            ("deferred", audit.tally.deferred),
            ("missing_in_shadow", audit.missing_in_shadow),
            ("not_in_page_table", audit.not_in_page_table),
            ("mismatches", audit.tally.mismatches),
            ("differences", audit.differences()),
        ] {
            seq_print!(m, "{name}: {value}\n");
        }
        for d in audit.details.iter() {
            let kind = match d.kind {
                DifferenceKind::MissingInShadow => "missing_in_shadow",
                DifferenceKind::NotInPageTable => "not_in_page_table",
            };
            let entire = u8::from(d.entire);
            seq_print!(m, "difference: {kind} pfn={} order={} ", d.pfn, d.order);
            seq_print!(
                m,
                "first={} nr={} entire={entire} va={:#x}\n",
                d.first,
                d.nr,
                d.va
            );
        }
        Ok(())
    }
}
