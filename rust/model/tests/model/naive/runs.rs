// SPDX-License-Identifier: GPL-2.0

//! Runs of calls on one record, and the figures that are made of them.

use std::collections::BTreeSet;

use fmi_model::{
    ByKind,
    Call,
    Kind,
    Level,
    Op, //
};

use super::{
    base_of,
    va,
    Naive,
    Run, //
};
use crate::oracle::Mapping;
use crate::rig::PT_SHIFT;

/// Figures that are kept by hand.
#[derive(Default)]
pub struct NaiveFigures {
    pub remove_runs: ByKind,
    pub tuple_left: ByKind,
    pub vma_left: ByKind,
    /// Lengths of scans at adds and at removes.
    pub scans: [Vec<u64>; 2],
}

impl Naive {
    /// Takes a call along in the figures, before it changes anything.
    ///
    /// Returns whether the call is the first of its run.
    pub(super) fn observe(&mut self, c: &Call, run: Run, again: bool) -> bool {
        let f = &self.folios[&c.pfn];
        let k = c.kind.index();
        let own = |m: &&Mapping| {
            let entire = c.level == Level::Entire;
            let pages = c.first..c.first + c.nr;
            m.entire == entire && (entire || pages.contains(&m.page))
        };
        let here: Vec<_> = f
            .mappings
            .iter()
            .filter(|m| m.mm == c.mm && base_of(m) == c.base)
            .collect();
        let others: Vec<_> = here.iter().filter(|m| !own(m)).collect();
        let table = va(c.base, c.first) >> PT_SHIFT;
        let at = (c.pfn, c.mm, c.base);
        if here.is_empty() {
            self.records.remove(&at);
        }
        let (old, mut tuple_left, mut vma_left) =
            self.records
                .get(&at)
                .copied()
                .unwrap_or((Run::None, false, false));
        let split = matches!(run, Run::Split { .. });
        if c.op == Op::Remove && !split {
            if old != run || again {
                self.figures.remove_runs[k] += 1;
            } else {
                self.figures.tuple_left[k] -= u64::from(tuple_left);
                self.figures.vma_left[k] -= u64::from(vma_left);
            }
            tuple_left = others
                .iter()
                .any(|m| m.vma == c.vma && m.va >> PT_SHIFT == table);
            vma_left = others.iter().any(|m| m.vma == c.vma);
            self.figures.tuple_left[k] += u64::from(tuple_left);
            self.figures.vma_left[k] += u64::from(vma_left);
        } else {
            (tuple_left, vma_left) = (false, false);
        }
        self.records.insert(at, (run, tuple_left, vma_left));

        if c.level == Level::Pte && c.nr < 1 << c.order && !split {
            let entire = others.iter().any(|m| m.entire);
            let pages: BTreeSet<u32> = others.iter().map(|m| m.page).collect();
            let mut tables: BTreeSet<u64> = others.iter().map(|m| m.va >> PT_SHIFT).collect();
            tables.insert(table);
            let mut entries = 0;
            let mut absent = None;
            for page in 0..1 << c.order {
                let at = va(c.base, page);
                if at.wrapping_sub(c.vma_start) >= c.vma_end - c.vma_start {
                    continue;
                }
                if !tables.contains(&(at >> PT_SHIFT)) {
                    entries += u64::from(absent != Some(at >> PT_SHIFT));
                    absent = Some(at >> PT_SHIFT);
                    continue;
                }
                entries += 1;
                if entire || pages.contains(&page) {
                    break;
                }
            }
            self.figures.scans[usize::from(c.op == Op::Remove)].push(entries);
        }
        old != run || again
    }

    /// Returns whether a call goes back, or leaves out what is mapped, so that it is none of the
    /// operation before.
    pub(super) fn starts_again(&mut self, c: &Call, run: Run) -> bool {
        let f = self.folios.get_mut(&c.pfn).unwrap();
        let here = |m: &&Mapping| (m.mm, base_of(m)) == (c.mm, c.base);
        let at = (c.mm, c.base);
        if !f.mappings.iter().any(|m| here(&m)) {
            f.ends.remove(&at);
        }
        let Some(end) = f.ends.insert(at, c.first + c.nr) else {
            return false;
        };
        let removes = c.op == Op::Remove;
        if matches!(run, Run::Split { .. })
            || c.level == Level::Entire
            || removes && f.kind != Kind::Anon
        {
            return false;
        }
        let between = |m: &&Mapping| !m.entire && (end..c.first).contains(&m.page);
        c.first < end || removes && f.mappings.iter().filter(here).any(|m| between(&m))
    }
}
