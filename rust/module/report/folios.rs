// SPDX-License-Identifier: GPL-2.0

//! `folios` and `filter`.

use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print, //
};

use fmi_model::{
    Env,
    FolioView,
    Kind,
    PairSet,
    Shard,
    DEFINITIONS,
    PAIRS, //
};

use super::number;
use crate::{
    control::{
        Control,
        Filter, //
    },
    debugfs::{
        File,
        Table, //
    },
    env::KernelEnv, //
};

impl Filter {
    fn passes(&self, view: &FolioView, wrong: PairSet) -> bool {
        view.total > 0
            && self.order.is_none_or(|order| order == view.order)
            && self.kind.is_none_or(|kind| kind == view.kind)
            && (!self.disagreeing || !wrong.is_empty())
    }

    /// Returns this filter changed by text like `order=9 type=anon disagreeing=1`.
    fn changed_by(mut self, text: &str) -> Result<Self> {
        let mut any = false;
        for word in text.split_ascii_whitespace() {
            any = true;
            let (name, value) = word.split_once('=').ok_or(EINVAL)?;
            match (name, value) {
                ("order", "any") => self.order = None,
                ("order", n) => {
                    self.order = Some(u8::try_from(number(n)?).map_err(|_| EINVAL)?);
                }
                ("type", "any") => self.kind = None,
                ("type", name) => {
                    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
                    self.kind = Some(kind.ok_or(EINVAL)?);
                }
                ("disagreeing", "0") => self.disagreeing = false,
                ("disagreeing", "1") => self.disagreeing = true,
                _ => return Err(EINVAL),
            }
        }
        any.then_some(self).ok_or(EINVAL)
    }
}

/// `filter`: which folios are listed.
pub(crate) struct FilterFile;

impl File<Control> for FilterFile {
    const NAME: &'static CStr = c"filter";
    const MODE: u16 = 0o600;

    fn show(control: &Control, m: &SeqFile) -> Result {
        let filter = *control.filter.lock();
        match filter.order {
            Some(order) => seq_print!(m, "order={order} "),
            None => seq_print!(m, "order=any "),
        }
        seq_print!(
            m,
            "type={} disagreeing={}\n",
            filter.kind.map_or("any", Kind::name),
            u8::from(filter.disagreeing)
        );
        Ok(())
    }

    fn store(control: &Control, text: &str) -> Result {
        let mut filter = control.filter.lock();
        *filter = filter.changed_by(text)?;
        Ok(())
    }
}

/// `folios`: a line per tracked folio.
///
/// A line's position is made of the number of its shard and its place in it, so that a reader who
/// seeks or comes back finds the same folio there.
pub(crate) struct Folios;

const SHARD_SHIFT: u32 = 32;

/// Positions looked at under one hold of the lock of a shard.
const STEP: u32 = 64;

fn split(position: u64) -> (usize, u32) {
    ((position >> SHARD_SHIFT) as usize, position as u32)
}

fn row(shard: &Shard<'_>, entry: u32, filter: &Filter) -> Option<(FolioView, PairSet)> {
    let view = shard.view(entry)?;
    let wrong = shard.wrong(entry);
    filter.passes(&view, wrong).then_some((view, wrong))
}

/// Returns how many of a folio's records a move may be about that is open now: where they are is not
/// certain. Records change their place under the lock of the shard, which the caller holds.
fn moving(shard: &Shard<'_>, entry: u32, view: &FolioView, env: &KernelEnv<'_>) -> usize {
    if !env.windows_open() {
        return 0;
    }
    let len = u64::from(view.nr_pages) << shard.state.geometry().page_shift;
    let records = shard.records(entry);
    records
        .filter(|record| env.move_covers(record.mm, record.base, len))
        .count()
}

impl Table<Control> for Folios {
    const NAME: &'static CStr = c"folios";

    fn header(control: &Control, m: &SeqFile) {
        super::tables::settle(control.tracker(), false);
        seq_print!(m, "pfn\torder\ttype\tstate");
        for d in DEFINITIONS.iter().filter(|d| !d.reads_kernel) {
            seq_print!(m, "\t{}", d.name);
        }
        seq_print!(
            m,
            "\tkernel_large\tkernel_entire\tkernel_nr_pages_mapped\tkernel_shared\t\
             kernel_partially_mapped\twrong\tmoving\n"
        );
    }

    fn seek(control: &Control, position: u64) -> Option<u64> {
        let filter = *control.filter.lock();
        let (mut shard, mut from) = split(position);
        loop {
            let end = from.saturating_add(STEP);
            let found = control.tracker().table.with_shard(shard, |shard| {
                let used = |from: &u32| shard.next_entry(*from, end);
                let next = |entry: &u32| shard.next_entry(entry.saturating_add(1), end);
                let found = core::iter::successors(used(&from), next)
                    .find(|entry| row(shard, *entry, &filter).is_some());
                (found, end < shard.nr_slots().0)
            })?;
            match found {
                Some((Some(entry), _)) => {
                    return Some((shard as u64) << SHARD_SHIFT | u64::from(entry));
                }
                Some((None, true)) => from = end,
                Some((None, false)) | None => {
                    shard += 1;
                    from = 0;
                }
            }
        }
    }

    fn line(control: &Control, m: &SeqFile, position: u64) {
        let tracker = control.tracker();
        let filter = *control.filter.lock();
        let env = tracker.env();
        let (shard, entry) = split(position);
        let found = tracker.table.with_shard(shard, |shard| {
            let (view, wrong) = row(shard, entry, &filter)?;
            Some((
                view,
                shard.sketches(entry),
                wrong,
                env.kernel_of(view.pfn, view.order),
                moving(shard, entry, &view, &env),
            ))
        });
        let Some((view, sketches, wrong, kernel, moving)) = found.flatten().flatten() else {
            return;
        };
        seq_print!(
            m,
            "{}\t{}\t{}\t{}",
            view.pfn,
            view.order,
            view.kind.name(),
            view.state.name()
        );
        for d in DEFINITIONS.iter().filter(|d| !d.reads_kernel) {
            match d.value_of(&view, &sketches) {
                Some(value) => seq_print!(m, "\t{value}"),
                None => seq_print!(m, "\t-"),
            }
        }
        match kernel {
            Some(k) => {
                seq_print!(m, "\t{}\t{}", k.large, k.entire);
                if k.per_page {
                    seq_print!(m, "\t{}", k.nr_pages_mapped);
                } else {
                    seq_print!(m, "\t-");
                }
                seq_print!(
                    m,
                    "\t{}\t{}\t",
                    u8::from(k.maybe_mapped_shared),
                    u8::from(k.partially_mapped)
                );
            }
            None => seq_print!(m, "\t-\t-\t-\t-\t-\t"),
        }
        if wrong.is_empty() {
            seq_print!(m, "-");
        }
        for (i, pair) in wrong.iter().enumerate() {
            if let Some((id, question)) = PAIRS.get(pair) {
                let comma = if i > 0 { "," } else { "" };
                let name = id.info().map_or("?", |d| d.name);
                seq_print!(m, "{comma}{name}:{}", question.name());
            }
        }
        seq_print!(m, "\t{moving}\n");
    }
}
