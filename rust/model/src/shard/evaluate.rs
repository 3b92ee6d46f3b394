// SPDX-License-Identifier: GPL-2.0

//! When states are evaluated, and what is counted then.

use super::entry::{
    ADOPTED,
    DIRTY,
    EVER_MANY,
    EVER_PARTIAL,
    EVER_SHARED,
    EVER_UNALIGNED,
    KERNEL_DIRTY, //
};
use super::{
    position_of,
    Fail,
    Shard,
    State,
    CORRUPT, //
};
use crate::bits::{
    bits_of,
    index,
    narrow,
    pages_of_order, //
};
use crate::definition::{
    verdicts,
    ASK_PAIRS, //
};
use crate::figures::up;
use crate::kernel::Expected;
use crate::memo::{
    Evaluation,
    Key, //
};
use crate::tables::{
    Place,
    TABLE_KIND, //
};
use crate::{
    Ask,
    AskPage,
    Counter,
    Disagreement,
    Env,
    FolioView,
    KernelCounts,
    Kind,
    Operation,
    PairSet,
    Record,
    Sketches,
    Verdicts, //
};

/// Most records that a call looks at to find out whether an open window involves the folio; with
/// more, it takes that for granted.
pub(crate) const WINDOW_SCAN: u32 = 16;

/// References from which on an evaluation is not kept: what depends on their number is near.
const MANY_REFERENCES: u32 = 1 << 28;

/// Returns the flags of what holds for a state, of those that stay.
fn ever(view: &FolioView) -> u8 {
    let partial = 0 < view.nr_pages_mapped && view.nr_pages_mapped < view.nr_pages;
    [
        (EVER_SHARED, view.mm > 1),
        (EVER_MANY, view.mm > 2),
        (EVER_PARTIAL, partial),
        (EVER_UNALIGNED, view.vma_pt > view.vma),
    ]
    .into_iter()
    .filter(|(_, holds)| *holds)
    .fold(0, |flags, (flag, _)| flags | flag)
}

/// Returns all that an evaluation depends on that nobody asks for; `None` if it is not to be kept.
///
/// `what` says what is evaluated: the definitions, and those that read the kernel's counters.
pub(crate) fn key_of(
    v: &FolioView,
    sketches: &Sketches,
    operation: Operation,
    what: (bool, bool),
) -> Option<Key> {
    let (model, ask) = what;
    let mut flags = 1u32;
    let mut flag = |holds: bool| flags = flags.wrapping_shl(1) | u32::from(holds);
    flag(model);
    flag(ask);
    flag(v.adopted);
    flag(v.shared_table);
    flag(v.asker_mm == 0);
    flag(v.kernel.is_some());
    if let Some(k) = &v.kernel {
        if k.refcount.unsigned_abs() > MANY_REFERENCES || v.total > u64::from(MANY_REFERENCES) {
            return None;
        }
        flag(k.per_page);
        flag(k.maybe_mapped_shared);
        flag(k.partially_mapped);
        flag(k.swapcache);
        flag(k.anon);
    }
    let mut key = Key::default();
    let operation = u8::try_from(operation.index()).ok()?;
    let kind = u8::try_from(v.kind.index()).ok()?;
    key.push_pair(flags, u32::from_le_bytes([v.order, kind, operation, 0]));
    key.push(v.total);
    key.push_pair(v.entire, v.mm);
    key.push_pair(v.vma, v.vma_pt);
    key.push_pair(v.full, v.first_page);
    key.push_pair(v.nr_pages_mapped, v.nr_pte_mapped);
    key.push_pair(v.min_page, v.min_mapped_page);
    key.push(u64::from(v.max_page));
    if let Some(k) = &v.kernel {
        key.push_pair(bits_of(k.large), bits_of(k.entire));
        key.push(u64::from(bits_of(k.nr_pages_mapped)));
    }
    sketches.add_to(&mut key, v);
    key.is_whole().then_some(key)
}

impl Shard<'_> {
    /// Returns whether the kernel's counters of a folio stand still: no call in flight, no copy
    /// open that may hold unknown mappings, no copy or move open that overlaps a record.
    ///
    /// With more than `limit` records and any window open, it returns false.
    pub(crate) fn quiescent(&self, e: u32, env: &dyn Env, limit: u32) -> Result<bool, Fail> {
        Ok(env.gp_elapsed(self.entry(e)?.cookie) && self.unconcerned(e, env, limit)?)
    }

    /// The same without regard to calls in flight.
    pub(crate) fn unconcerned(&self, e: u32, env: &dyn Env, limit: u32) -> Result<bool, Fail> {
        let entry = self.entry(e)?;
        if self.is_pending(e, env)? {
            return Ok(false);
        }
        if !env.windows_open() {
            return Ok(true);
        }
        if entry.nr_records > limit {
            return Ok(false);
        }
        let shift = u32::from(self.state.geometry.page_shift);
        let len = u64::from(pages_of_order(entry.order)).wrapping_shl(shift);
        let covered = self.find_record(entry.first_record, |record| {
            env.window_covers(record.mm, record.base, len)
        });
        Ok(covered.is_none())
    }

    /// Returns whether a copy is open that may hold mappings of the folio that are not yet known.
    pub(crate) fn is_pending(&self, e: u32, env: &dyn Env) -> Result<bool, Fail> {
        let pending = self.entry(e)?.pending;
        Ok(pending != 0 && env.ticket_open(pending))
    }

    /// Reads and checks the kernel's counters of a mapped folio before a call changes them; `None`
    /// if they do not stand still.
    ///
    /// A difference makes the folio a suspect: it counts for nothing until it is confirmed.
    pub(crate) fn quick_check(&mut self, e: u32, env: &dyn Env) -> Option<KernelCounts> {
        let entry = self.entry(e).ok()?;
        if entry.total == 0 || !self.quiescent(e, env, WINDOW_SCAN).ok()? {
            return None;
        }
        let kernel = env
            .kernel_of(entry.pfn, entry.order)
            .filter(|k| k.order == entry.order)?;
        let expected = Expected::new(entry.kind, entry.total, entry.entire, entry.nr_pte_mapped());
        // A copy that begins between the first look and the reading of the counters changes them;
        // it is still open, because it has to come by here to take its mappings into the shadow.
        if !self.quiescent(e, env, WINDOW_SCAN).ok()? {
            return None;
        }
        self.state.counters.add(Counter::Checked);
        if !expected.holds(&kernel) {
            self.suspect(e);
        }
        Some(kernel)
    }

    /// Evaluates the present state of a folio, unless that was done before.
    ///
    /// The kernel is asked once per state, too, as soon as its counters are given. While a copy is
    /// open that may hold unknown mappings, the shadow is no state that ever was: nothing is
    /// evaluated. What is wrong about a folio that nothing maps any more is counted, but it is no
    /// episode: it is wrong for no time, since counters start anew.
    pub(crate) fn evaluate(
        &mut self,
        e: u32,
        kernel: Option<&KernelCounts>,
        env: &dyn Env,
    ) -> Result<(), Fail> {
        let entry = self.entry(e)?;
        let model = entry.has(DIRTY);
        let ask = entry.has(KERNEL_DIRTY) && kernel.is_some() && entry.total > 0;
        if !(model || ask) || self.is_pending(e, env)? {
            return Ok(());
        }
        let old = entry.wrong;
        let mut view = self.view_of(e)?;
        view.kernel = kernel.copied();
        if let Some(kernel) = kernel {
            self.note_references(kernel);
        }
        let place = self.place(e)?;
        let key = key_of(
            &view,
            &self.past(e)?.sketches,
            place.operation,
            (model, ask),
        );
        let known = key.and_then(|key| self.tables.find_kept(&key, old));
        let result = match known.and_then(|at| self.tables.kept.get(at)) {
            Some(kept) => *kept.result(),
            None => self.work_out(e, &view, (model, ask), old)?,
        };
        let kept = known.or_else(|| self.tables.keep(key?, place, result));
        self.take_result(e, &view, &result, kept, env)?;
        if view.total == 0 {
            // From here on its past is known.
            self.empty_sketches(e)?;
            self.entry_mut(e)?.flags &= !ADOPTED;
            self.past_mut(e)?.shared_table = false;
        }
        Ok(())
    }

    /// Notes how many references the kernel shows.
    fn note_references(&mut self, kernel: &KernelCounts) {
        let most = &mut self.state.figures.most_references;
        *most = (*most).max(u64::try_from(kernel.refcount).unwrap_or(0));
    }

    /// Evaluates a state that is not kept.
    ///
    /// `what` says what is evaluated: the definitions, and those that read the kernel's counters.
    fn work_out(
        &self,
        e: u32,
        view: &FolioView,
        what: (bool, bool),
        old: PairSet,
    ) -> Result<Evaluation, Fail> {
        let (state, asks) = what;
        let mut result = Evaluation {
            state,
            asks,
            verdicts: verdicts(view, &self.past(e)?.sketches),
            old,
            new: PairSet::new(),
            ever: ever(view),
        };
        if view.total > 0 {
            // Else wrong for no time: no episode.
            let counted = result.counted();
            result.new = old.without(counted.asked).or(counted.wrong());
        }
        Ok(result)
    }

    /// Counts an evaluation, and tells what became wrong.
    fn take_result(
        &mut self,
        e: u32,
        view: &FolioView,
        result: &Evaluation,
        kept: Option<usize>,
        env: &dyn Env,
    ) -> Result<(), Fail> {
        let entry = self.entry_mut(e)?;
        entry.wrong = result.new;
        if result.state {
            let first = result.ever & !entry.flags;
            entry.flags = (entry.flags | result.ever) & !DIRTY;
            self.note_state(view, first);
        }
        if result.asks {
            self.state.counters.add(Counter::EvaluatedKernel);
        }
        if result.asks || view.total == 0 {
            self.entry_mut(e)?.flags &= !KERNEL_DIRTY;
        }
        let opened = result.opened();
        if let Some(at) = kept {
            let counted = self.tables.count_kept(at, || env.now());
            let (kept, now) = counted.ok_or(CORRUPT)?;
            if opened.is_empty() {
                return Ok(());
            }
            if kept.told_before(now) && !env.wants_all() {
                self.state.counters.add(Counter::ToldBefore);
                return Ok(());
            }
            kept.tell(now);
        } else {
            let place = self.place(e)?;
            let now = u128::from(env.now());
            self.tables.count(place, &result.counted(), result.state, 1);
            self.tables.change(place, result.old, result.new, 1, now);
            if result.asks {
                self.tables.count_flips(place, &result.verdicts, 1);
            }
        }
        self.tell(e, view, opened, result.verdicts.false_yes, env)
    }

    /// Tells which pairs became wrong, if any.
    fn tell(
        &self,
        e: u32,
        view: &FolioView,
        opened: PairSet,
        false_yes: PairSet,
        env: &dyn Env,
    ) -> Result<(), Fail> {
        if opened.is_empty() {
            return Ok(());
        }
        let past = self.past(e)?;
        env.disagree(Disagreement {
            view,
            sketches: &past.sketches,
            opened,
            too_high: opened.and(false_yes),
            operation: past.operation,
            pid: past.pid,
            records: self.records(e),
        });
        Ok(())
    }

    /// Notes what holds for a new state in counters and figures; `first` has the flags of what holds
    /// for the first time for this folio.
    fn note_state(&mut self, view: &FolioView, first: u8) {
        self.state.counters.add(Counter::Evaluated);
        if !TABLE_KIND.contains(&view.kind) {
            self.state.counters.add(Counter::OtherKind);
        }
        let figures = &mut self.state.figures;
        figures.most_mappings = figures.most_mappings.max(view.total);
        if first == 0 {
            return;
        }
        for (flag, folios) in [
            (EVER_SHARED, &mut figures.ever_shared),
            (EVER_MANY, &mut figures.ever_many),
            (EVER_PARTIAL, &mut figures.ever_partial),
            (EVER_UNALIGNED, &mut figures.ever_unaligned),
        ] {
            if first & flag != 0 {
                up(folios, view.kind);
            }
        }
    }

    /// Returns which cells the present state of a folio belongs to.
    fn place(&self, e: u32) -> Result<Place, Fail> {
        let entry = self.entry(e)?;
        Ok(Place {
            kind: entry.kind,
            order: entry.order,
            operation: self.past(e)?.operation,
        })
    }

    /// Counts the verdicts on some pairs, which are no new state, and tells what became wrong.
    fn judged(
        &mut self,
        e: u32,
        view: &FolioView,
        all: &Verdicts,
        pairs: PairSet,
        env: &dyn Env,
    ) -> Result<(), Fail> {
        let place = self.place(e)?;
        let verdicts = all.only(pairs);
        let old = self.entry(e)?.wrong;
        let mut new = old.without(verdicts.asked).or(verdicts.wrong());
        if view.total == 0 {
            // Wrong for no time: no episode.
            new = PairSet::new();
        }
        self.tables.count(place, &verdicts, false, 1);
        self.tables
            .change(place, old, new, 1, u128::from(env.now()));
        self.entry_mut(e)?.wrong = new;
        self.tell(e, view, new.without(old), verdicts.false_yes, env)
    }

    /// Ends all wrong answers about a folio: it is no longer tracked.
    pub(crate) fn close_wrong(&mut self, e: u32, env: &dyn Env) -> Result<(), Fail> {
        let place = self.place(e)?;
        let old = core::mem::take(&mut self.entry_mut(e)?.wrong);
        if !old.is_empty() {
            let now = u128::from(env.now());
            self.tables.change(place, old, PairSet::new(), 1, now);
        }
        Ok(())
    }

    /// Evaluates the states that were not yet, before the tables are read.
    ///
    /// Looks at up to `max` entries from position `cursor` on; returns where to go on, `None` at the
    /// end. States that were evaluated while the kernel's counters did not stand still are asked
    /// about from the kernel, if they do now.
    pub fn settle(&mut self, cursor: u32, max: u32, env: &dyn Env) -> Option<u32> {
        self.each(cursor, max, env, |shard, e| {
            let entry = shard.entry(e)?;
            if !(entry.has(DIRTY) || entry.has(KERNEL_DIRTY)) {
                return Ok(());
            }
            let kernel = if entry.has(KERNEL_DIRTY) {
                shard.quick_check(e, env)
            } else {
                None
            };
            shard.evaluate(e, kernel.as_ref(), env)
        })
    }

    /// Asks the questions that need somebody who asks ([`Question::needs_ask`]) about all mapped
    /// folios whose counters stand still, as a reader would who holds no reference.
    ///
    /// [`Question::Reuse`] is asked for the first page that the MM maps that mapped the folio last.
    /// To be called as [`Shard::settle`], and after it.
    ///
    /// [`Question::needs_ask`]: crate::Question::needs_ask
    /// [`Question::Reuse`]: crate::Question::Reuse
    pub fn ask_all(&mut self, cursor: u32, max: u32, env: &dyn Env) -> Option<u32> {
        self.each(cursor, max, env, |shard, e| {
            let Some(kernel) = shard.quick_check(e, env) else {
                return Ok(());
            };
            let ask = shard.reader(e, env)?;
            let Some((view, verdicts)) = shard.judge(e, &kernel, Some(ask)) else {
                return Ok(());
            };
            shard.note_references(&kernel);
            shard.judged(e, &view, &verdicts, ASK_PAIRS, env)?;
            let place = shard.place(e)?;
            shard
                .tables
                .count_flips(place, &verdicts.only(ASK_PAIRS), 1);
            Ok(())
        })
    }

    /// Returns what a reader asks about a folio, see [`Shard::ask_all`].
    pub(crate) fn reader(&self, e: u32, env: &dyn Env) -> Result<Ask, Fail> {
        let entry = self.entry(e)?;
        let (pfn, order) = (entry.pfn, entry.order);
        let mut ask = Ask::default();
        if let Some(r) = position_of(entry.first_record).filter(|_| entry.kind == Kind::Anon) {
            let record = self.record(r)?;
            let first = if record.entire() {
                0
            } else {
                let pages = self.pages_of(record, order)?;
                pages.next(0, pages_of_order(order)).unwrap_or(0)
            };
            let exclusive = env.anon_exclusive(pfn, order, first);
            ask.page = Some(self.ask_page(e, record.mm, record.mm_id, first, exclusive));
        }
        Ok(ask)
    }

    /// Calls `f` for the tracked folios among up to `max` entries from position `cursor` on; returns
    /// where to go on, `None` at the end.
    fn each(
        &mut self,
        cursor: u32,
        max: u32,
        env: &dyn Env,
        f: impl Fn(&mut Self, u32) -> Result<(), Fail>,
    ) -> Option<u32> {
        let end = cursor.saturating_add(max).min(narrow(self.entries.len()));
        for e in cursor..end {
            let Some(entry) = self.entries.get(index(e)) else {
                break;
            };
            if matches!(entry.state, State::Live | State::Draining) {
                if let Err(fail) = f(self, e) {
                    self.give_up(e, fail, env);
                }
            }
        }
        (index(end) < self.entries.len()).then_some(end)
    }

    /// Returns the state of the tracked folio at a position as it is now, with these counters of the
    /// kernel and for somebody who asks, and how all answers compare with the truth.
    ///
    /// Counts nothing. `None` if the folio is not tracked.
    pub fn judge(
        &self,
        entry: u32,
        kernel: &KernelCounts,
        ask: Option<Ask>,
    ) -> Option<(FolioView, Verdicts)> {
        let mut view = self.view(entry)?;
        if !matches!(view.state, State::Live | State::Draining) {
            return None;
        }
        view.kernel = Some(*kernel);
        view.ask = ask;
        let verdicts = verdicts(&view, &self.past(entry).ok()?.sketches);
        Some((view, verdicts))
    }

    /// Returns what there is to know about page `i` for an MM that wants to reuse it.
    pub fn ask_page(
        &self,
        entry: u32,
        mm: u64,
        mm_id: u32,
        i: u32,
        anon_exclusive: bool,
    ) -> AskPage {
        let maps = |record: &Record, order: u8| {
            let pages = self.pages_of(record, order);
            record.entire() || pages.is_ok_and(|pages| pages.any(i, i.saturating_add(1)))
        };
        let mapped = self.entry(entry).is_ok_and(|e| {
            self.find_of_mm(entry, mm, |record| maps(record, e.order))
                .is_some()
        });
        AskPage {
            mm,
            mm_id,
            index: i,
            count: self.page(entry, i),
            mapped,
            anon_exclusive,
        }
    }
}
