// SPDX-License-Identifier: GPL-2.0

//! The debugfs directory: which files there are, and what each prints and takes.
//!
//! The files are an interface; `Documentation/debugfs.rst` describes them.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    control::Control,
    debugfs::Dir, //
};

mod audit;
mod both;
mod decisions;
mod examples;
pub(crate) mod folio;
mod folios;
mod preview;
mod questions;
mod scan;
mod stats;
mod switch;
mod tables;

/// Creates the directory and its files.
pub(crate) fn create(control: Arc<Control>) -> Dir<Control> {
    Dir::new(c"folio_mapcount", control)
        .file::<switch::Enable>()
        .file::<switch::Reset>()
        .file::<stats::Stats>()
        .file::<tables::Definitions>()
        .file::<tables::Disagreement>()
        .table::<tables::DisagreementOrders>()
        .table::<tables::DisagreementOperations>()
        .file::<questions::Questions>()
        .file::<decisions::Decisions>()
        .table::<examples::ExamplesFile>()
        .table::<folios::Folios>()
        .file::<folios::FilterFile>()
        .file::<folio::Folio>()
        .file::<audit::AuditFile>()
        .file::<scan::ScanFile>()
        .file::<audit::AuditInterval>()
        .file::<preview::PreviewFile>()
        .file::<both::BothFile>()
}

/// Reads a decimal or `0x` hexadecimal number.
fn number(text: &str) -> Result<u64> {
    let parsed = match text.strip_prefix("0x") {
        // from_str_radix() would take a sign.
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16),
        None if !text.starts_with('+') => text.parse(),
        _ => return Err(EINVAL),
    };
    parsed.map_err(|_| EINVAL)
}

/// Reads a process id; 0 is the caller.
fn pid(text: &str) -> Result<i32> {
    i32::try_from(number(text)?).map_err(|_| EINVAL)
}
