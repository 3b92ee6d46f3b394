// SPDX-License-Identifier: GPL-2.0

//! `definitions`, `disagreement`, `disagreement_orders` and `disagreement_operations`.

use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print, //
};

use fmi_model::{
    Cell,
    DefinitionId,
    Operation,
    OperationCell,
    Question,
    DEFINITIONS,
    NR_OPERATIONS,
    NR_PAIRS,
    PAIRS,
    TABLE_KIND, //
};

use crate::{
    control::{
        Control,
        Group, //
    },
    debugfs::{
        File,
        Table, //
    },
    env::now_ns,
    rmapwalk,
    tracker::Tracker, //
};

/// Folios whose state is brought up to date under one hold of a lock.
const SETTLE: u32 = 64;

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
        seq_print!(
            m,
            "{}\t{}\t\t{}\n",
            rmapwalk::NAME,
            rmapwalk::FORMULA,
            rmapwalk::SOURCE
        );
        Ok(())
    }
}

/// Evaluates the states of all folios that have not been evaluated since they changed; with `ask`
/// also asks the questions that need somebody who asks.
pub(super) fn settle(tracker: &Tracker, ask: bool) {
    let env = tracker.env();
    for i in 0.. {
        let mut cursor = 0;
        loop {
            let next = tracker
                .table
                .with_shard(i, |shard| shard.settle(cursor, SETTLE, &env));
            if ask {
                tracker
                    .table
                    .with_shard(i, |shard| shard.ask_all(cursor, SETTLE, &env));
            }
            match next {
                None => return,
                Some(Some(Some(next))) => cursor = next,
                Some(_) => break,
            }
        }
    }
}

fn name_of(id: DefinitionId) -> &'static str {
    id.info().map_or("?", |d| d.name)
}

/// The columns of a cell.
const CELL_COLUMNS: &str = "evaluated\tfalse_yes\tfalse_no\tunknown\tepisodes\twrong_now\t\
                            time_wrong_ns\tcompared\tflips\tsince_ns";

fn print_cell(m: &SeqFile, cell: &Cell, now: u64, since: u64) {
    seq_print!(
        m,
        "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\n",
        cell.evaluated,
        cell.false_yes,
        cell.false_no,
        cell.unknown,
        cell.episodes,
        cell.wrong_now,
        cell.wrong_time(now),
        cell.compared,
        cell.flips,
        since,
    );
}

/// Returns the cells of all pairs for the orders and types that are wanted, summed.
pub(super) fn sums(
    tracker: &Tracker,
    wanted: impl Fn(fmi_model::Kind, u8) -> bool,
) -> Result<KVVec<Cell>> {
    let mut sums = KVVec::from_elem(Cell::default(), NR_PAIRS, GFP_KERNEL)?;
    let max_order = tracker.table.geometry().max_order;
    tracker.table.for_each_table(|tables| {
        for kind in TABLE_KIND {
            for order in (0..=max_order).filter(|order| wanted(kind, *order)) {
                for (pair, sum) in sums.iter_mut().enumerate() {
                    sum.merge(&tables.cell(pair, kind, order));
                }
            }
        }
    });
    Ok(sums)
}

/// `disagreement`: how often and how long each definition is wrong about what it claims.
pub(crate) struct Disagreement;

impl File<Control> for Disagreement {
    const NAME: &'static CStr = c"disagreement";
    const MODE: u16 = 0o400;
    // A reading counts what it asks: it must not be made twice.
    const SIZE: usize = 1 << 16;

    fn show(control: &Control, m: &SeqFile) -> Result {
        let tracker = control.tracker();
        settle(tracker, true);
        let sums = sums(tracker, |_, _| true)?;
        let now = now_ns();
        let since = control.since_ns(Group::Disagreement);
        seq_print!(m, "definition\tquestion\t{CELL_COLUMNS}\n");
        for ((id, question), cell) in PAIRS.iter().zip(&sums) {
            seq_print!(m, "{}\t{}\t", name_of(*id), question.name());
            print_cell(m, cell, now, since);
        }
        Ok(())
    }
}

/// `disagreement_orders`: the same by type and order of the folio.
pub(crate) struct DisagreementOrders;

/// Returns the pair, type and order of a line.
fn place_of(tracker: &Tracker, line: u64) -> Option<(usize, fmi_model::Kind, u8)> {
    let orders = usize::from(tracker.table.geometry().max_order) + 1;
    let line = usize::try_from(line).ok()?;
    let kind = TABLE_KIND.get(line / orders % TABLE_KIND.len())?;
    let pair = line / orders / TABLE_KIND.len();
    (pair < NR_PAIRS).then_some((pair, *kind, (line % orders) as u8))
}

fn cell_at(tracker: &Tracker, line: u64) -> Option<(usize, fmi_model::Kind, u8, Cell)> {
    let (pair, kind, order) = place_of(tracker, line)?;
    let mut sum = Cell::default();
    tracker
        .table
        .for_each_table(|tables| sum.merge(&tables.cell(pair, kind, order)));
    Some((pair, kind, order, sum))
}

impl Table<Control> for DisagreementOrders {
    const NAME: &'static CStr = c"disagreement_orders";

    fn header(control: &Control, m: &SeqFile) {
        settle(control.tracker(), true);
        seq_print!(m, "definition\tquestion\ttype\torder\t{CELL_COLUMNS}\n");
    }

    fn seek(control: &Control, position: u64) -> Option<u64> {
        for line in position.. {
            let (_, _, _, cell) = cell_at(control.tracker(), line)?;
            if !cell.is_empty() {
                return Some(line);
            }
        }
        None
    }

    fn line(control: &Control, m: &SeqFile, position: u64) {
        let Some((pair, kind, order, cell)) = cell_at(control.tracker(), position) else {
            return;
        };
        let Some((id, question)) = PAIRS.get(pair) else {
            return;
        };
        seq_print!(m, "{}\t{}\t", name_of(*id), question.name());
        seq_print!(m, "{}\t{order}\t", kind.name());
        let since = control.since_ns(Group::Disagreement);
        print_cell(m, &cell, now_ns(), since);
    }
}

/// `disagreement_operations`: the same by the operation that made the state.
pub(crate) struct DisagreementOperations;

fn operation_at(
    tracker: &Tracker,
    line: u64,
) -> Option<(DefinitionId, Question, Operation, OperationCell)> {
    let line = usize::try_from(line).ok()?;
    let pair = line / NR_OPERATIONS;
    let (id, question) = PAIRS.get(pair)?;
    let operation = Operation::ALL.get(line % NR_OPERATIONS)?;
    let mut sum = OperationCell::default();
    tracker
        .table
        .for_each_table(|tables| sum.merge(&tables.operation(pair, *operation)));
    Some((*id, *question, *operation, sum))
}

impl Table<Control> for DisagreementOperations {
    const NAME: &'static CStr = c"disagreement_operations";

    fn header(control: &Control, m: &SeqFile) {
        settle(control.tracker(), true);
        seq_print!(
            m,
            "definition\tquestion\toperation\tevaluated\twrong\tepisodes\tsince_ns\n"
        );
    }

    fn seek(control: &Control, position: u64) -> Option<u64> {
        for line in position.. {
            let (_, _, _, cell) = operation_at(control.tracker(), line)?;
            if cell.evaluated > 0 || cell.episodes > 0 {
                return Some(line);
            }
        }
        None
    }

    fn line(control: &Control, m: &SeqFile, position: u64) {
        let Some((id, question, operation, cell)) = operation_at(control.tracker(), position)
        else {
            return;
        };
        seq_print!(
            m,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\n",
            name_of(id),
            question.name(),
            operation.name(),
            cell.evaluated,
            cell.wrong,
            cell.episodes,
            control.since_ns(Group::Disagreement),
        );
    }
}
