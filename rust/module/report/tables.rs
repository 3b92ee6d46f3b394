// SPDX-License-Identifier: GPL-2.0

//! `definitions` and `disagreement`.

use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print, //
};

use fmi_model::{
    cell_index,
    Cell,
    Kind,
    DEFINITIONS,
    NR_PAIRS,
    ORDER_SLOTS,
    PAIRS, //
};

use crate::{
    control::Control,
    debugfs::File,
    env::now_ns,
    tracker::Tracker, //
};

/// Folios whose state is brought up to date under one hold of a lock.
const SETTLE: u32 = 256;

/// `definitions`: what is counted, and who said so.
pub(crate) struct Definitions;

impl File<Control> for Definitions {
    const NAME: &'static CStr = c"definitions";
    const MODE: u16 = 0o400;

    fn show(_control: &Control, m: &SeqFile) -> Result {
        seq_print!(m, "id\tformula\tclaims\tsource\n");
        for d in &DEFINITIONS {
            seq_print!(m, "{}\t{}\t", d.name, d.formula);
            for (i, question) in d.claims.iter().enumerate() {
                let comma = if i > 0 { "," } else { "" };
                seq_print!(m, "{comma}{}", question.name());
            }
            seq_print!(m, "\t{}\n", d.source);
        }
        Ok(())
    }
}

/// Evaluates the states of all folios that have not been evaluated since they changed.
pub(super) fn settle(tracker: &Tracker) {
    let env = tracker.env();
    for i in 0.. {
        let mut cursor = 0;
        loop {
            match tracker
                .table
                .with_shard(i, |shard| shard.settle(cursor, SETTLE, &env))
            {
                None => return,
                Some(Some(Some(next))) => cursor = next,
                Some(_) => break,
            }
        }
    }
}

/// `disagreement`: how often and how long each definition is wrong about what it claims.
pub(crate) struct Disagreement;

impl File<Control> for Disagreement {
    const NAME: &'static CStr = c"disagreement";
    const MODE: u16 = 0o400;

    fn show(control: &Control, m: &SeqFile) -> Result {
        let tracker = control.tracker();
        settle(tracker);
        let mut sums = [Cell::default(); NR_PAIRS];
        tracker.table.for_each_state(|_, cells| {
            for (pair, sum) in sums.iter_mut().enumerate() {
                for kind in Kind::ALL {
                    for order in 0..ORDER_SLOTS as u8 {
                        if let Some(cell) = cells.get(cell_index(pair, kind, order)) {
                            sum.merge(cell);
                        }
                    }
                }
            }
        });
        let now = now_ns();
        seq_print!(
            m,
            "definition\tquestion\tevaluated\tfalse_yes\tfalse_no\tunknown\tepisodes\twrong_now\t\
             time_wrong_ns\n"
        );
        for ((id, question), cell) in PAIRS.iter().zip(&sums) {
            seq_print!(
                m,
                "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\n",
                id.info().map_or("?", |d| d.name),
                question.name(),
                cell.evaluated,
                cell.false_yes,
                cell.false_no,
                cell.unknown,
                cell.episodes,
                cell.wrong_now,
                cell.wrong_time(now),
            );
        }
        Ok(())
    }
}
