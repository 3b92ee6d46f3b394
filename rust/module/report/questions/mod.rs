// SPDX-License-Identifier: GPL-2.0

//! `questions`: what the mailing-list threads left open, answered with figures.
//!
//! [`blocks`] has the questions, [`walked`] those of their answers that come from page tables and
//! from the kernel's own counters.

use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print, //
};

use fmi_model::{
    Cell,
    Figures, //
};

use super::tables;
use crate::{
    census::{
        self,
        Census,
        PageCounts, //
    },
    control::{
        Control,
        Group, //
    },
    debugfs::File,
    env::now_ns,
    preview,
    quiesce,
    tracker::Tracker, //
};

mod blocks;
mod now;
mod walked;

use now::Now;

/// `questions`: a block for each.
pub(crate) struct Questions;

/// What the blocks are made of.
struct Facts {
    figures: KBox<Figures>,
    now: Now,
    cells: KVVec<Cell>,
    order_4: KVVec<Cell>,
    time: u64,
    census: Census,
    pages: PageCounts,
    preview: preview::View,
    page_shift: u8,
}

/// One question.
struct Block {
    number: &'static str,
    text: &'static str,
    source: &'static str,
    /// Whose reset its counts start from.
    group: Group,
    print: fn(&SeqFile, &Facts),
}

/// Returns the figures of all shards; too large for the stack of a reader.
#[inline(never)]
fn figures_of(tracker: &Tracker) -> Result<KBox<Figures>> {
    let mut figures = KBox::new(Figures::default(), GFP_KERNEL)?;
    tracker
        .table
        .for_each_state(|state| figures.merge(state.figures()));
    Ok(figures)
}

impl File<Control> for Questions {
    const NAME: &'static CStr = c"questions";
    const MODE: u16 = 0o400;
    const SIZE: usize = 1 << 16;

    fn show(control: &Control, m: &SeqFile) -> Result {
        let tracker = control.tracker();
        // Of folios that nobody has mapped or unmapped meanwhile, the kernel's counters stand still.
        quiesce::wait_for_calls();
        tables::settle(tracker, true);
        let facts = Facts {
            figures: figures_of(tracker)?,
            now: Now::of(tracker),
            cells: tables::sums(tracker, |_, _| true)?,
            order_4: tables::sums(tracker, |_, order| order == 4)?,
            time: now_ns(),
            census: Census::take()?,
            pages: census::page_counts(),
            preview: control.preview.read(tracker)?,
            page_shift: tracker.table.geometry().page_shift,
        };
        for block in blocks::BLOCKS {
            seq_print!(m, "{}. {}\n", block.number, block.text);
            seq_print!(m, "source: {}\n", block.source);
            let since_ns = match block.group {
                // What its figures have changed by is counted from the first reading.
                Group::Preview => facts.preview.since_ns,
                group => control.since_ns(group),
            };
            seq_print!(m, "since_ns: {since_ns}\n");
            (block.print)(m, &facts);
            seq_print!(m, "\n");
        }
        Ok(())
    }
}
