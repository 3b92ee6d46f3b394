// SPDX-License-Identifier: GPL-2.0

//! Page tables that several MMs share.
//!
//! The mappings in such a table belong to no MM: one that shares it comes and goes without a call,
//! and whoever is left removes them. So they are recorded under the *table*, at the address inside
//! it. A mapping that was made while the table had one MM is recorded under that MM, with the table
//! beside it; it is found there and taken along when another MM comes to share the table.
//!
//! What is recorded under a table stays there when the table has one MM again: which one is not
//! known.
//!
//! Source: `huge_pmd_share()`, `__huge_pmd_unshare()` (`mm/hugetlb.c`).

use super::apply::Part;
use super::{
    Fail,
    Shard,
    State,
    CORRUPT, //
};
use crate::bits::pages_of_order;
use crate::planes::Step;
use crate::{
    Call,
    Counter,
    Env,
    KernelCounts,
    Level,
    Record,
    SharedTable, //
};

/// Set in the identity of a table that stands for an MM. Those of MMs are addresses of the kernel,
/// which have the topmost bit set, too, or are small.
const TABLE: u64 = 1 << 62;

/// The topmost bit.
const TOP: u64 = 1 << 63;

/// Returns the identity that stands for the MM of mappings in a shared table.
pub(crate) fn mm_of_table(table: SharedTable) -> u64 {
    (table.id & !TOP) | TABLE
}

/// Returns whether this is the identity of a page table in place of that of an MM: several MMs share
/// it, or did.
pub fn is_table(mm: u64) -> bool {
    mm & (TABLE | TOP) == TABLE
}

/// Returns a number for the table that fits into a record; 0 is none.
pub(crate) fn number_of(table: Option<SharedTable>) -> u32 {
    let [a, b, c, d, ..] = table.map_or(0, |table| table.id).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

impl Shard<'_> {
    /// Returns the MM and base under which the mapping of a folio in a table is recorded, or would be.
    pub(crate) fn at_table(
        &self,
        e: Option<u32>,
        (mm, base): (u64, u64),
        table: Option<SharedTable>,
    ) -> (u64, u64) {
        let Some(table) = table else {
            return (mm, base);
        };
        let under = (mm_of_table(table), table.base);
        if let Some(e) = e {
            if self
                .lookup(e, under.0, under.1)
                .is_ok_and(|l| l.here.is_some())
            {
                return under;
            }
            // When a table is shared, what the first MM had mapped by it goes where all find it.
            if !table.shared {
                return (mm, base);
            }
            if let Some(record) = self.record_in(e, table) {
                return (record.mm, record.base());
            }
        }
        if table.shared {
            under
        } else {
            (mm, base)
        }
    }

    /// Returns the record of a mapping that was made when the table had one MM.
    fn record_in(&self, e: u32, table: SharedTable) -> Option<Record> {
        let r = self.find_in(e, table)?;
        self.record(r).ok().copied()
    }

    /// Returns the position of that record. The table may map the folio at another place, too.
    fn find_in(&self, e: u32, table: SharedTable) -> Option<u32> {
        let number = number_of(Some(table));
        let first = self.entry(e).ok()?.first_record();
        let inside = self.table_size().wrapping_sub(1);
        self.find_record(first, |record| {
            let detail = self.detail(record);
            let in_table = detail.is_ok_and(|detail| detail.table == number);
            let there = record.base() & inside == table.base;
            in_table && there && record.entire() && !is_table(record.mm)
        })
    }

    /// Returns how much memory a table of PMDs maps: as many times what a table of PTEs maps as that has
    /// entries.
    fn table_size(&self) -> u64 {
        let geometry = self.state.geometry;
        let entries = u32::from(geometry.pmd_order);
        let shift = u32::from(geometry.page_shift).wrapping_add(entries.wrapping_mul(2));
        1u64.wrapping_shl(shift)
    }

    /// Returns a call as one on the mapping as it is recorded.
    pub(crate) fn call_at_table(&self, e: Option<u32>, c: &Call) -> Call {
        let (mm, base) = self.at_table(e, (c.mm, c.base), c.table);
        Call {
            mm,
            base,
            mm_id: if mm == c.mm { c.mm_id } else { 0 },
            ..*c
        }
    }

    /// Notes that another MM shares a page table that maps the folio.
    ///
    /// To be called for each entry of the table, under its lock, after the kernel has counted that MM.
    /// Returns whether the mapping was recorded under an MM until now.
    pub fn share_table(&mut self, pfn: u64, order: u8, table: SharedTable, env: &impl Env) -> bool {
        let mapped = |e: &u32| {
            self.entry(*e).is_ok_and(|entry| {
                matches!(entry.state, State::Live | State::Learning) && entry.order == order
            })
        };
        let Some(e) = self.find(pfn).filter(mapped) else {
            return false;
        };
        let Some(r) = self.find_in(e, table) else {
            return false;
        };
        match self.try_share(e, r, table, env) {
            Ok(()) => true,
            Err(fail) => {
                self.give_up(e, fail, env);
                false
            }
        }
    }

    /// Does what [`Shard::share_table`] says on a record.
    fn try_share(
        &mut self,
        e: u32,
        r: u32,
        table: SharedTable,
        env: &impl Env,
    ) -> Result<(), Fail> {
        let live = self.entry(e)?.state == State::Live;
        if live {
            let mut counts = KernelCounts::default();
            let kernel = self.quick_check(e, env, &mut counts);
            self.evaluate(e, kernel, env)?;
        }
        let part = Part {
            level: Level::Entire,
            first: 0,
            nr: pages_of_order(self.entry(e)?.order),
        };
        let lookup = self.lookup(e, mm_of_table(table), table.base)?;
        if lookup.here.is_some() {
            return Err(CORRUPT);
        }
        self.remember(e)?;
        let to = self.new_record(e, mm_of_table(table), table.base, lookup.elsewhere)?;
        self.note_owner(to, 0, number_of(Some(table)))?;
        self.edit(e, to, part, Step::Up, None)?;
        self.edit(e, r, part, Step::Down, None)?;
        self.state.counters.add(Counter::TableShared);
        if live {
            self.changed(e, 0, env)
        } else {
            let entry = self.entry_mut(e)?;
            entry.seq = entry.seq.wrapping_add(1);
            Ok(())
        }
    }
}
