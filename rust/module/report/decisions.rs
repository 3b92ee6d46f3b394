// SPDX-License-Identifier: GPL-2.0

//! `decisions`: where the kernel asks, and what would be decided there under each definition.

use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print, //
};

use fmi_model::{
    asked_index,
    Asked,
    AskedBy,
    Asker,
    Asks,
    Cell,
    Decision,
    DefinitionInfo,
    DECISIONS,
    DEFINITIONS,
    NR_ASKED,
    NR_ASKERS,
    PAIRS,
    TABLE_KIND, //
};

use super::tables;
use crate::{
    control::{
        Control,
        Group, //
    },
    debugfs::File,
    tracker::Tracker, //
};

/// `decisions`: for each site and each definition that claims its question.
pub(crate) struct Decisions;

/// The sums over all shards.
struct Sums {
    /// By type and order, the cells of all pairs.
    cells: KVVec<KVVec<Cell>>,
    asked: KVVec<Asked>,
    asks: KVVec<Asks>,
}

impl Sums {
    fn of(tracker: &Tracker) -> Result<Self> {
        let mut sums = Self {
            cells: KVVec::new(),
            asked: KVVec::from_elem(Asked::default(), NR_ASKED, GFP_KERNEL)?,
            asks: KVVec::from_elem(Asks::default(), NR_ASKERS, GFP_KERNEL)?,
        };
        for kind in TABLE_KIND {
            for order in 0..=tracker.table.geometry().max_order {
                let cells = tables::sums(tracker, |k, o| k == kind && o == order)?;
                sums.cells.push(cells, GFP_KERNEL)?;
            }
        }
        tracker.table.for_each_asked(|asked, asks| {
            for (sum, asked) in sums.asked.iter_mut().zip(asked) {
                sum.merge(asked);
            }
            for (sum, asks) in sums.asks.iter_mut().zip(asks) {
                sum.merge(asks);
            }
        });
        Ok(sums)
    }

    /// Returns the states of the folios that a site can ask about, as one definition answered.
    fn states(&self, d: &Decision, definition: &DefinitionInfo, pmd_order: u8) -> Cell {
        let mut sum = Cell::default();
        let pair = PAIRS
            .iter()
            .position(|(id, q)| *id == definition.id && *q == d.question);
        let Some(pair) = pair else {
            return sum;
        };
        let mut cells = self.cells.iter();
        let orders = self.cells.len() / TABLE_KIND.len();
        for kind in TABLE_KIND {
            for (order, cells) in (0..).zip(cells.by_ref().take(orders)) {
                if let Some(cell) = cells
                    .get(pair)
                    .filter(|_| d.applies(kind, order, pmd_order))
                {
                    sum.merge(cell);
                }
            }
        }
        sum
    }
}

/// Returns whether the function of an asker is hooked, and what there is to say about the site.
fn asked_by(tracker: &Tracker, d: &Decision) -> (Option<Asker>, &'static str) {
    match d.asked_by {
        AskedBy::Hook(asker, note) if tracker.asks(asker) => (Some(asker), note),
        AskedBy::Hook(..) => (None, "the function cannot be hooked in this kernel"),
        AskedBy::StateOnly(why) => (None, why),
    }
}

impl File<Control> for Decisions {
    const NAME: &'static CStr = c"decisions";
    const MODE: u16 = 0o400;
    const SIZE: usize = 1 << 17;

    fn show(control: &Control, m: &SeqFile) -> Result {
        let tracker = control.tracker();
        tables::settle(tracker, true);
        let sums = Sums::of(tracker)?;
        let pmd_order = tracker.table.geometry().pmd_order;
        seq_print!(m, "# since_ns: {}\n", control.since_ns(Group::Decisions));
        let since_ns = control.since_ns(Group::Disagreement);
        seq_print!(m, "# states_since_ns: {since_ns}\n");
        for d in &DECISIONS {
            let (asker, note) = asked_by(tracker, d);
            let asks = asker.and_then(|asker| sums.asks.get(asker.index()));
            match asks {
                Some(asks) => seq_print!(
                    m,
                    "# {}: judged={} untracked={} unsettled={}: {note}\n",
                    d.name,
                    asks.judged,
                    asks.untracked,
                    asks.unsettled
                ),
                None => seq_print!(m, "# {}: {note}\n", d.name),
            }
        }
        seq_print!(
            m,
            "site\tfunction\tquestion\tasked_by\tdefinition\tevaluated\tcompared\tflips\twrong\t\
             asked\tasked_differ\tasked_wrong\tasked_unknown\n"
        );
        for d in &DECISIONS {
            let (asker, _) = asked_by(tracker, d);
            for (n, definition) in DEFINITIONS.iter().enumerate() {
                if !definition.claims.contains(&d.question) {
                    continue;
                }
                let cell = sums.states(d, definition, pmd_order);
                let asked = asker
                    .and_then(|asker| sums.asked.get(asked_index(asker, n)))
                    .copied()
                    .unwrap_or_default();
                seq_print!(
                    m,
                    "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\n",
                    d.name,
                    d.function,
                    d.question.name(),
                    if asker.is_some() {
                        "hook"
                    } else {
                        "state-only"
                    },
                    definition.name,
                    cell.evaluated,
                    cell.compared,
                    cell.flips,
                    cell.false_yes.saturating_add(cell.false_no),
                    asked.asked,
                    asked.differ,
                    asked.wrong,
                    asked.unknown,
                );
            }
        }
        Ok(())
    }
}
