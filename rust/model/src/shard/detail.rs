// SPDX-License-Identifier: GPL-2.0

//! What a record has that is not short, see [`Record`].

use super::shared::number_of;
use super::{
    link_to,
    position_of,
    Fail,
    Shard,
    CORRUPT, //
};
use crate::bits::pages_of_order;
use crate::record::{
    Detail,
    TUPLE_LEFT,
    VMA_LEFT, //
};
use crate::{
    Call,
    Record, //
};

use super::apply::Part;

/// What is to be noted of a call on a record, once its mappings are changed.
#[derive(Clone, Copy)]
pub(crate) struct Noted {
    /// The run.
    run: u32,
    /// The mappings of the call.
    part: Part,
    /// The kernel's id of the MM.
    mm_id: u32,
    /// The page table, if several MMs may share it.
    table: u32,
    /// The call is of a run of removes.
    removes: bool,
    /// Pages are left that the (VMA, page table) of the call maps, and the VMA.
    left: (bool, bool),
}

impl Noted {
    /// Returns what is to be noted of a call; `removes` and what is `left` are of its run.
    pub(crate) fn new(c: &Call, part: Part, run: u32, removes: bool, left: (bool, bool)) -> Self {
        Self {
            run,
            part,
            mm_id: c.mm_id,
            table: number_of(c.table),
            removes,
            left,
        }
    }
}

impl Shard<'_> {
    /// Returns the detail of a record, or what a short one stands for.
    #[inline]
    pub(crate) fn detail(&self, record: &Record) -> Result<Detail, Fail> {
        Ok(match self.unit(record)? {
            Some(unit) => Detail::of(unit),
            None => record.implied(),
        })
    }

    /// Returns where the detail of a record is, if it has one.
    #[inline]
    pub(crate) fn unit(&self, record: &Record) -> Result<Option<&Record>, Fail> {
        match record.detail() {
            Some(link) => Ok(Some(self.record(position_of(link).ok_or(CORRUPT)?)?)),
            None => Ok(None),
        }
    }

    /// Returns where the detail of a record is, to be changed; it has one.
    #[inline]
    pub(crate) fn unit_mut(&mut self, r: u32) -> Result<&mut Record, Fail> {
        let link = self.record(r)?.detail().ok_or(CORRUPT)?;
        self.record_mut(position_of(link).ok_or(CORRUPT)?)
    }

    /// Changes the detail of a record, which it has.
    pub(crate) fn with_detail<R>(
        &mut self,
        r: u32,
        change: impl FnOnce(&mut Detail) -> R,
    ) -> Result<R, Fail> {
        let unit = self.unit_mut(r)?;
        let mut detail = Detail::of(unit);
        let result = change(&mut detail);
        *unit = detail.stored();
        Ok(result)
    }

    /// Makes a detail of a record that is short.
    #[inline]
    pub(crate) fn need_detail(&mut self, r: u32) -> Result<(), Fail> {
        let record = self.record(r)?;
        if record.detail().is_none() {
            let link = self.alloc_detail(record.implied())?;
            self.record_mut(r)?.attach(link);
        }
        Ok(())
    }

    /// Makes a record short; the last call was of this run, 0 for none.
    fn shorten(&mut self, r: u32, mm_id: u32, run: u32) -> Result<(), Fail> {
        let detail = self.record(r)?.detail();
        self.record_mut(r)?.shorten(mm_id, run);
        detail.map_or(Ok(()), |link| self.free_detail(link))
    }

    /// Makes a record short if nothing is noted of it.
    pub(crate) fn try_shorten(&mut self, r: u32) -> Result<(), Fail> {
        let record = self.record(r)?;
        let detail = self.detail(record)?;
        let noted = detail.bounds | u64::from(detail.run | detail.last_end | detail.table);
        if record.detail().is_some() && record.is_simple() && noted == 0 {
            self.shorten(r, detail.mm_id, 0)?;
        }
        Ok(())
    }

    /// Returns whether the last call on a record was of this run, which is one of adds or another.
    pub(crate) fn was_of_run(&self, record: &Record, run: u32, adds: bool) -> Result<bool, Fail> {
        Ok(match self.unit(record)? {
            Some(unit) => unit.run() == run,
            None => adds && record.may_be_of_run(run),
        })
    }

    /// Notes a call on a record of a folio whose mappings it has changed; it may be gone.
    pub(crate) fn note(&mut self, e: u32, r: u32, noted: &Noted) -> Result<(), Fail> {
        let record = self.record(r)?;
        if record.entry != link_to(e) {
            return Ok(());
        }
        let nr_pages = pages_of_order(self.entry(e)?.order);
        let short = record.is_simple()
            && !noted.removes
            && noted.part.end() == nr_pages
            && noted.table == 0
            && self.unit(record)?.is_none_or(|unit| unit.bounds() == 0);
        if short {
            return self.shorten(r, noted.mm_id, noted.run);
        }
        self.need_detail(r)?;
        let (run, mm_id, table) = (noted.run, noted.mm_id, noted.table);
        self.unit_mut(r)?.note(run, mm_id, table, noted.part.end());
        let (tuple_left, vma_left) = noted.left;
        let record = self.record_mut(r)?;
        record.put(TUPLE_LEFT, noted.removes && tuple_left);
        record.put(VMA_LEFT, noted.removes && vma_left);
        Ok(())
    }

    /// Notes whose mappings a record has, without a call: the kernel's id of the MM, and the number
    /// of the page table.
    pub(crate) fn note_owner(&mut self, r: u32, mm_id: u32, table: u32) -> Result<(), Fail> {
        let record = self.record_mut(r)?;
        if table == 0 && record.detail().is_none() {
            record.set_mm_id(mm_id);
            return Ok(());
        }
        self.need_detail(r)?;
        self.with_detail(r, |detail| {
            detail.mm_id = mm_id;
            detail.table = table;
        })
    }

    /// Ends the run of a record: its mappings move.
    pub(crate) fn end_run(&mut self, r: u32) -> Result<(), Fail> {
        let record = self.record_mut(r)?;
        if record.detail().is_none() {
            record.forget_run();
            return Ok(());
        }
        self.with_detail(r, |detail| {
            detail.run = 0;
            detail.last_end = 0;
        })?;
        self.record_mut(r)?.put(TUPLE_LEFT | VMA_LEFT, false);
        Ok(())
    }
}
