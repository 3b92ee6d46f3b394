// SPDX-License-Identifier: GPL-2.0

//! Comparing two shadows of the same folio, that two backends feed.
//!
//! Each event reaches both, but not at once and not in the same order: one takes a fork's mappings in
//! when it walks behind it, the other in the kernel's order. They are comparable when nothing is on
//! its way to either: no call for a grace period, no copy or move open that concerns the folio. Who
//! compares holds the locks of both. An event that was told to one of them under a lock that is not
//! held for a grace period (a move of a PMD, an edge of a VMA) may still be missing in the other: so a
//! difference counts only if it is the same after a grace period, see [`TwinDifference::seqs`].

use super::{
    Fail,
    FolioEntry,
    Shard,
    State, //
};
use crate::bits::{
    mask_in,
    pages_of_order,
    words_in,
    WORD_SHIFT, //
};
use crate::twin::definitions_that_differ;
use crate::{
    Env,
    FolioView,
    Kind,
    LostReason,
    Record,
    Twin,
    TwinDifference,
    TwinPlace,
    TwinSkip,
    TwinWhat, //
};

/// One of two shadows: its shard, and the surroundings that its backend keeps.
pub struct Side<'a, E> {
    /// The shard.
    pub shard: &'a Shard<'a>,
    /// What it asks.
    pub env: &'a E,
}

/// What a side has of a folio.
struct Half<'a, E> {
    side: Side<'a, E>,
    /// Position of the entry, if it is tracked.
    e: Option<u32>,
    /// Its numbers, if anything is mapped.
    view: Option<FolioView>,
}

/// Compares the shadows that two backends have of a folio; under the locks of both shards.
///
/// `stopped` says that no call is running anywhere: then grace periods do not matter.
pub fn compare_twins<E: Env>(
    first: Side<'_, E>,
    second: Side<'_, E>,
    pfn: u64,
    stopped: bool,
) -> Twin {
    try_compare(first, second, pfn, stopped).unwrap_or(Twin::Deferred)
}

/// Does what [`compare_twins`] says.
fn try_compare<E: Env>(
    first: Side<'_, E>,
    second: Side<'_, E>,
    pfn: u64,
    stopped: bool,
) -> Result<Twin, Fail> {
    let (entry_a, entry_b) = (first.entry(pfn)?, second.entry(pfn)?);
    let by: [fn(LostReason) -> TwinSkip; 2] = [TwinSkip::LostByFirst, TwinSkip::LostBySecond];
    for (entry, lost) in [entry_a, entry_b].into_iter().zip(by) {
        let Some(entry) = entry else { continue };
        match (entry.state, entry.loss()) {
            (State::Learning, _) => return Ok(Twin::NotCompared(TwinSkip::Learning)),
            (State::Lost, (_, Some(reason))) => return Ok(Twin::NotCompared(lost(reason))),
            _ => {}
        }
    }
    let (a, b) = (first.half(pfn)?, second.half(pfn)?);
    if a.view.is_none() && b.view.is_none() {
        return Ok(Twin::NotCompared(TwinSkip::Unmapped));
    }
    if !rests(&a, &b, stopped)? {
        return Ok(Twin::Deferred);
    }
    let Some(place) = first_difference(&a, &b)? else {
        return Ok(Twin::Equal);
    };
    // What has begun since it was looked first is still open.
    if !rests(&a, &b, stopped)? {
        return Ok(Twin::Deferred);
    }
    if a.leaves_out(&b) || b.leaves_out(&a) {
        return Ok(Twin::NotCompared(TwinSkip::Absent));
    }
    Ok(Twin::Differs(TwinDifference {
        first: a.view,
        second: b.view,
        definitions: definitions_that_differ(&a.view, &b.view),
        place,
    }))
}

impl<'a, E: Env> Side<'a, E> {
    /// Returns the entry of a folio.
    fn entry(&self, pfn: u64) -> Result<Option<&'a FolioEntry>, Fail> {
        self.shard
            .find(pfn)
            .map(|e| self.shard.entry(e))
            .transpose()
    }

    /// Returns what is tracked of a folio.
    fn half(&self, pfn: u64) -> Result<Half<'a, E>, Fail> {
        let e = self.shard.find(pfn);
        let view = e.map(|e| self.shard.view_of(e)).transpose()?;
        Ok(Half {
            side: Side { ..*self },
            e,
            view: view.filter(|view| view.total > 0),
        })
    }
}

impl<E: Env> Half<'_, E> {
    /// Returns whether this side has nothing of what the other has, and may have left it out: it
    /// tracks no folios of that type, or has once left one out without a marker.
    fn leaves_out(&self, other: &Half<'_, E>) -> bool {
        // What the hooks on functions follow: the types whose addresses the linear rule gives.
        let followed = |kind| matches!(kind, Kind::Anon | Kind::File | Kind::Shmem | Kind::Ksm);
        let other_type = |view: &FolioView| !followed(view.kind);
        let untold = self.e.is_none() && self.side.shard.may_lack();
        self.view.is_none() && (untold || other.view.as_ref().is_some_and(other_type))
    }

    /// Returns whether no event of the folio is on its way to this side.
    fn rests(&self, stopped: bool) -> Result<bool, Fail> {
        let Some(e) = self.e else { return Ok(true) };
        let shard = self.side.shard;
        Ok(if stopped {
            shard.unconcerned(e, self.side.env, u32::MAX)?
        } else {
            shard.quiescent(e, self.side.env, u32::MAX)?
        })
    }

    /// Returns whether a move is open in these surroundings that concerns mappings of this side.
    fn moves(&self, env: &E) -> Result<bool, Fail> {
        let Some(e) = self.e else { return Ok(false) };
        let shard = self.side.shard;
        let entry = shard.entry(e)?;
        let shift = u32::from(shard.state.geometry.page_shift);
        let len = u64::from(pages_of_order(entry.order)).wrapping_shl(shift);
        let moving = |record: &Record| env.move_covers(record.mm, record.base(), len);
        Ok(shard.find_record(entry.first_record(), moving).is_some())
    }
}

/// Returns whether nothing is on its way to either side. A copy or move may be open for one of them
/// only; it may concern what only the other one has.
fn rests<E: Env>(a: &Half<'_, E>, b: &Half<'_, E>, stopped: bool) -> Result<bool, Fail> {
    if !a.rests(stopped)? || !b.rests(stopped)? {
        return Ok(false);
    }
    for env in [a.side.env, b.side.env] {
        if env.windows_open() && (a.moves(env)? || b.moves(env)? || copies(a, b, env)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns whether a copy of mappings of either side is open in these surroundings.
fn copies<E: Env>(a: &Half<'_, E>, b: &Half<'_, E>, env: &E) -> Result<bool, Fail> {
    for half in [a, b] {
        let Some(e) = half.e else { continue };
        if !half.side.shard.unconcerned(e, env, u32::MAX)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns where two sides differ first.
fn first_difference<E: Env>(a: &Half<'_, E>, b: &Half<'_, E>) -> Result<Option<TwinPlace>, Fail> {
    let (Some(view_a), Some(view_b)) = (&a.view, &b.view) else {
        return Ok(Some(TwinPlace::Folio));
    };
    let (Some(e_a), Some(e_b)) = (a.e, b.e) else {
        return Ok(Some(TwinPlace::Folio));
    };
    if view_a.order != view_b.order {
        return Ok(Some(TwinPlace::Folio));
    }
    let (shard_a, shard_b) = (a.side.shard, b.side.shard);
    for record in shard_a.records(e_a) {
        let what = record_differs(shard_a, e_a, shard_b, e_b, (record.mm, record.base))?;
        if let Some(what) = what {
            let (mm, base) = (record.mm, record.base);
            return Ok(Some(TwinPlace::Record { mm, base, what }));
        }
    }
    for record in shard_b.records(e_b) {
        let (mm, base) = (record.mm, record.base);
        if shard_a.lookup(e_a, mm, base)?.here.is_none() {
            let what = TwinWhat::OnlyInSecond;
            return Ok(Some(TwinPlace::Record { mm, base, what }));
        }
    }
    let differ =
        numbers(view_a) != numbers(view_b) || definitions_that_differ(&a.view, &b.view) != 0;
    Ok(differ.then_some(TwinPlace::Folio))
}

/// Returns the numbers that are counted over T, and the type.
fn numbers(v: &FolioView) -> (Kind, [u64; 3], [u32; 13]) {
    (
        v.kind,
        [v.total, v.total_pages, u64::from(v.nr_records)],
        [
            v.entire,
            v.nr_pages_mapped,
            v.nr_pte_mapped,
            v.first_page,
            v.min_page,
            v.min_mapped_page,
            v.max_page,
            v.mm,
            v.vma,
            v.vma_pt,
            v.full,
            v.partial,
            v.nr_pages,
        ],
    )
}

/// Returns what differs of a record that the first side has.
fn record_differs(
    shard_a: &Shard<'_>,
    e_a: u32,
    shard_b: &Shard<'_>,
    e_b: u32,
    (mm, base): (u64, u64),
) -> Result<Option<TwinWhat>, Fail> {
    let (Some(r_a), Some(r_b)) = (
        shard_a.lookup(e_a, mm, base)?.here,
        shard_b.lookup(e_b, mm, base)?.here,
    ) else {
        return Ok(Some(TwinWhat::OnlyInFirst));
    };
    let order = shard_a.entry(e_a)?.order;
    let (a, b) = (shard_a.record(r_a)?, shard_b.record(r_b)?);
    if a.entire() != b.entire() {
        return Ok(Some(TwinWhat::Entire));
    }
    let pages_a = shard_a.pages_of(a, order)?;
    let pages_b = shard_b.pages_of(b, order)?;
    let nr_pages = pages_of_order(order);
    for n in words_in(0, nr_pages) {
        let mask = mask_in(n, 0, nr_pages);
        let differ = (pages_a.word(n) ^ pages_b.word(n)) & mask;
        if differ != 0 {
            let page = n.wrapping_shl(WORD_SHIFT);
            let page = page.wrapping_add(differ.trailing_zeros());
            return Ok(Some(TwinWhat::Page(page)));
        }
    }
    let differ = shard_a.spread(r_a, order)? != shard_b.spread(r_b, order)?;
    Ok(differ.then_some(TwinWhat::Vmas))
}
