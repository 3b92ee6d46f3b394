// SPDX-License-Identifier: GPL-2.0

//! What a call means to counters that are kept by rmap calls, and to the figures.

use super::apply::{
    low,
    Part,
    Run, //
};
use super::detail::Noted;
use super::plain::identity;
use super::{
    Fail,
    Shard, //
};
use crate::bits::{
    pages_of_order,
    Pages, //
};
use crate::figures::{
    down,
    up, //
};
use crate::record::{
    Slots,
    TUPLE_LEFT,
    VMA_LEFT, //
};
use crate::{
    Call,
    Event,
    Level,
    Op, //
};

/// The mappings of a record apart from those of a call.
struct Apart<'a> {
    /// The pages that PTEs map.
    pages: Pages<'a>,
    /// The mappings of the call.
    part: Part,
}

impl Apart<'_> {
    /// Returns the first page of `from..end` that a PTE maps that is not the call's.
    fn next(&self, from: u32, end: u32) -> Option<u32> {
        let Part { first, level, .. } = self.part;
        if level == Level::Entire {
            return self.pages.next(from, end);
        }
        let behind = from.max(self.part.end());
        self.pages
            .next(from, end.min(first))
            .or_else(|| self.pages.next(behind, end))
    }

    /// Returns whether a PTE maps any page of `from..end` that is not the call's; `found` is the first
    /// such page of a range that this one is in.
    fn any(&self, found: Option<u32>, from: u32, end: u32) -> bool {
        match found {
            None => false,
            Some(page) if page >= from => page < end,
            Some(_) => self.next(from, end).is_some(),
        }
    }

    /// Returns how many entries a scan for mappings in `from..end` looks at, until it finds one: the
    /// first of them is `found`.
    ///
    /// A page table in which the folio has no mapping is taken for absent and counts 1, unless it is
    /// the one of the call. Source: James Houghton, linux-mm, 2023-02-08 (the scan), and Matthew
    /// Wilcox's answer ("if it's p*d_none(), then definitely none of the pages are mapped").
    fn scan(&self, slots: &Slots, found: Option<u32>, from: u32, end: u32) -> u32 {
        let table = slots.start_of(self.part.first);
        let mut entries = 0u32;
        let mut page = from;
        while page < end {
            let stop = slots.end_of(page).min(end);
            if let Some(found) = found.filter(|found| *found < stop) {
                return entries.saturating_add(found.wrapping_sub(page).wrapping_add(1));
            }
            let start = slots.start_of(page);
            let whole = slots.end_of(page).min(slots.nr_pages);
            let present = start == table || self.next(start, whole).is_some();
            let cost = if present { stop.wrapping_sub(page) } else { 1 };
            entries = entries.saturating_add(cost);
            page = stop;
        }
        entries
    }
}

impl Shard<'_> {
    /// Takes a call on a record along, before it changes anything; returns what is to be noted
    /// afterwards.
    ///
    /// `vma` is the range of pages that the VMA covers; if it is not known, all of them. Constant
    /// time for whole-folio calls; for parts a look at the words of the record's bitmap.
    pub(crate) fn observe(
        &mut self,
        e: u32,
        r: u32,
        c: &Call,
        part: Part,
        vma: Option<(u32, u32)>,
        run: Run,
    ) -> Result<Noted, Fail> {
        let Run { key, split, again } = run;
        let entry = self.entry(e)?;
        let (order, kind) = (entry.order, entry.kind);
        let counts = self.counts_ref(e)?;
        let (entire, total) = (counts.entire, counts.total);
        let nr_pages = pages_of_order(order);
        let geometry = self.state.geometry;
        let (from, end) = vma.unwrap_or((0, nr_pages));
        let record = self.record(r)?;
        let slots = Slots::new(
            record.base(),
            order,
            geometry.page_shift,
            geometry.pmd_order,
        );
        let apart = Apart {
            pages: self.pages_of(record, order)?,
            part,
        };
        // An entire mapping is at page 0.
        let pmd_apart = record.entire() && part.level == Level::Pte && from == 0;
        let found = apart.next(from, end);
        let vma_maps = pmd_apart || found.is_some();
        let adds = c.op != Op::Remove;
        let run = low(key);
        let new_run = again || !self.was_of_run(record, run, adds && !split)?;

        let scan = (part.level == Level::Pte && part.nr < nr_pages && !split).then(|| {
            if pmd_apart {
                1
            } else {
                apart.scan(&slots, found, from, end)
            }
        });
        let table = (
            slots.start_of(part.first).max(from),
            slots.end_of(part.first).min(end),
        );
        let table_pmd = pmd_apart && slots.start_of(part.first) == 0;
        let table_maps = table_pmd || apart.any(found, table.0, table.1);
        let (tuple_was_left, vma_was_left) = (
            record.has(TUPLE_LEFT) && !new_run,
            record.has(VMA_LEFT) && !new_run,
        );
        let removes = !adds && !split;

        let figures = &mut self.state.figures;
        if let Some(entries) = scan {
            if adds {
                figures.scans_add.count(entries);
            } else {
                figures.scans_remove.count(entries);
            }
        }
        if removes {
            if new_run {
                up(&mut figures.remove_runs, kind);
            }
            // A run is counted by what it has left so far: more calls may come.
            match (tuple_was_left, table_maps) {
                (false, true) => up(&mut figures.remove_runs_tuple_left, kind),
                (true, false) => down(&mut figures.remove_runs_tuple_left, kind),
                _ => {}
            }
            match (vma_was_left, vma_maps) {
                (false, true) => up(&mut figures.remove_runs_vma_left, kind),
                (true, false) => down(&mut figures.remove_runs_vma_left, kind),
                _ => {}
            }
        }

        let event = Event {
            adds,
            fork: c.op == Op::Dup,
            split,
            new_run,
            level: part.level,
            nr: part.nr,
            nr_pages,
            order,
            pmd_order: geometry.pmd_order,
            kind,
            mm: c.mm,
            mm_id: c.mm_id,
            vma: u64::from(identity(c.vma)),
            base: c.base,
            vma_maps,
            entire,
            total,
        };
        if let Some(past) = self.past_mut(e)? {
            past.sketches.event(&event);
        }
        Ok(Noted::new(c, part, run, removes, (table_maps, vma_maps)))
    }
}
