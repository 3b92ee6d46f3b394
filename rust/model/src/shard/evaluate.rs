// SPDX-License-Identifier: GPL-2.0

//! When states are evaluated, and what is counted then.

use super::entry::{
    DIRTY,
    EVER_MANY,
    EVER_PARTIAL,
    EVER_SHARED,
    EVER_UNALIGNED,
    KERNEL_DIRTY, //
};
use super::key::{
    add_state,
    plain_key, //
};
use super::{
    position_of,
    Fail,
    Shard,
    State,
    CORRUPT, //
};
use crate::bits::{
    index,
    narrow,
    pages_of_order, //
};
use crate::definition::{
    verdicts,
    ASK_PAIRS, //
};
use crate::figures::up;
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
    PairSet,
    Record,
    Verdicts, //
};

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

impl Shard<'_> {
    /// Evaluates the present state of a folio, unless that was done before.
    ///
    /// The kernel is asked once per state, too, as soon as its counters are given. While a copy is
    /// open that may hold unknown mappings, the shadow is no state that ever was: nothing is
    /// evaluated. What is wrong about a folio that nothing maps any more is counted, but it is no
    /// episode: it is wrong for no time, since counters start anew.
    #[inline]
    pub(crate) fn evaluate(
        &mut self,
        e: u32,
        kernel: Option<&KernelCounts>,
        env: &impl Env,
    ) -> Result<(), Fail> {
        if !self.entry(e)?.has(DIRTY | KERNEL_DIRTY) {
            return Ok(());
        }
        self.evaluate_new(e, kernel, env)
    }

    /// Does so with a state that was not evaluated, or about which the kernel was not asked.
    pub(crate) fn evaluate_new(
        &mut self,
        e: u32,
        kernel: Option<&KernelCounts>,
        env: &impl Env,
    ) -> Result<(), Fail> {
        let entry = self.entry(e)?;
        let model = entry.has(DIRTY);
        let ask = entry.has(KERNEL_DIRTY) && kernel.is_some() && entry.is_mapped();
        if !(model || ask) || self.is_pending(e, env)? {
            return Ok(());
        }
        let (old, mapped) = (entry.wrong(), entry.is_mapped());
        let what = (model, ask);
        let known = plain_key(entry, entry.numbers(), kernel, what)
            .and_then(|words| self.tables.find_plain(&words, old))
            .map(|(at, _)| at);
        if let Some(kernel) = kernel {
            self.note_references(kernel);
        }
        match known {
            Some(at) => self.evaluate_kept(e, at, kernel, env)?,
            None => self.evaluate_other(e, kernel, what, env)?,
        }
        if !mapped {
            self.empty_past(e)?;
        }
        Ok(())
    }

    /// Evaluates a state of a folio that is not plain, or that is not kept.
    #[cold]
    fn evaluate_other(
        &mut self,
        e: u32,
        kernel: Option<&KernelCounts>,
        what: (bool, bool),
        env: &impl Env,
    ) -> Result<(), Fail> {
        let entry = self.entry(e)?;
        let (old, kind) = (entry.wrong(), entry.kind);
        let place = self.place(e)?;
        let mut key = Key::default();
        let mut keep = true;
        if let Some(words) = plain_key(entry, entry.numbers(), kernel, what) {
            words.iter().for_each(|word| key.push(*word));
        } else {
            let mut view = FolioView::default();
            self.fill_view_for(e, kernel, &mut view)?;
            keep = self.with_sketches(e, |sketches| {
                add_state(&mut key, &view, sketches, place.operation, what)
            })?;
            let known = keep.then(|| self.tables.find_kept(key.as_slice(), old));
            if let Some(at) = known.flatten() {
                return self.evaluate_kept(e, at, kernel, env);
            }
        }
        let result = self.work_out(e, kernel, what, old)?;
        // Nothing about a folio of another type is in the tables.
        if keep && TABLE_KIND.contains(&kind) {
            if let Some(at) = self.tables.keep(&key, place, &result) {
                return self.evaluate_kept(e, at, kernel, env);
            }
        }
        self.evaluate_once(e, &result, kernel, env)
    }

    /// Counts an evaluation that is not kept.
    fn evaluate_once(
        &mut self,
        e: u32,
        result: &Evaluation,
        kernel: Option<&KernelCounts>,
        env: &impl Env,
    ) -> Result<(), Fail> {
        let place = self.place(e)?;
        let entry = self.entry_mut(e)?;
        let first = result.ever & !entry.flags();
        entry.set_wrong(result.new);
        entry.change_flags(result.ever, result.done);
        let total = self.counts_of(e)?.total;
        if result.state {
            self.state.counters.add(Counter::Evaluated);
            if !TABLE_KIND.contains(&place.kind) {
                self.state.counters.add(Counter::OtherKind);
            }
            let most = &mut self.state.figures.most_mappings;
            *most = total.max(*most);
        }
        if result.asks {
            self.state.counters.add(Counter::EvaluatedKernel);
            self.tables.count_flips(place, &result.verdicts, 1);
        }
        self.tables.count(place, &result.counted(), result.state, 1);
        if result.changes {
            let now = u128::from(env.now());
            self.tables.change(place, result.old, result.new, 1, now);
        }
        self.note_first(e, first)?;
        let mut view = FolioView::default();
        self.fill_view_for(e, kernel, &mut view)?;
        self.tell(e, &view, result.opened(), result.verdicts.false_yes, env)
    }

    /// Tells which pairs became wrong with an evaluation that is kept.
    #[cold]
    pub(crate) fn tell_kept(
        &self,
        e: u32,
        at: usize,
        kernel: Option<&KernelCounts>,
        env: &impl Env,
    ) -> Result<(), Fail> {
        let result = self.tables.kept.get(at).ok_or(CORRUPT)?.result();
        let (opened, false_yes) = (result.opened(), result.verdicts.false_yes);
        let mut view = FolioView::default();
        self.fill_view_for(e, kernel, &mut view)?;
        self.tell(e, &view, opened, false_yes, env)
    }

    /// Stores the numbers of a folio with these counters of the kernel.
    fn fill_view_for(
        &self,
        e: u32,
        kernel: Option<&KernelCounts>,
        view: &mut FolioView,
    ) -> Result<(), Fail> {
        self.fill_view(e, view)?;
        view.kernel = kernel.copied();
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
        kernel: Option<&KernelCounts>,
        what: (bool, bool),
        old: PairSet,
    ) -> Result<Evaluation, Fail> {
        let (state, asks) = what;
        let mut view = FolioView::default();
        self.fill_view_for(e, kernel, &mut view)?;
        let view = &view;
        let mut result = Evaluation {
            state,
            asks,
            verdicts: self.with_sketches(e, |sketches| verdicts(view, sketches))?,
            old,
            ..Evaluation::default()
        };
        if view.total > 0 {
            // Else wrong for no time: no episode.
            let counted = result.counted();
            result.new = old.without(counted.asked).or(counted.wrong());
        }
        if state {
            result.ever = ever(view);
            result.done = DIRTY;
        }
        if asks || view.total == 0 {
            result.done |= KERNEL_DIRTY;
        }
        result.changes = result.new != old;
        result.opens = !result.opened().is_empty();
        Ok(result)
    }

    /// Tells which pairs became wrong, if any.
    fn tell(
        &self,
        e: u32,
        view: &FolioView,
        opened: PairSet,
        false_yes: PairSet,
        env: &impl Env,
    ) -> Result<(), Fail> {
        if opened.is_empty() {
            return Ok(());
        }
        let entry = self.entry(e)?;
        self.with_sketches(e, |sketches| {
            env.disagree(Disagreement {
                view,
                sketches,
                opened,
                too_high: opened.and(false_yes),
                operation: entry.operation,
                pid: entry.pid,
                records: self.records(e),
            });
        })
    }

    /// Notes in the figures what holds for the first time for a folio.
    pub(crate) fn note_first(&mut self, e: u32, first: u8) -> Result<(), Fail> {
        let kind = self.entry(e)?.kind;
        let figures = &mut self.state.figures;
        for (flag, folios) in [
            (EVER_SHARED, &mut figures.ever_shared),
            (EVER_MANY, &mut figures.ever_many),
            (EVER_PARTIAL, &mut figures.ever_partial),
            (EVER_UNALIGNED, &mut figures.ever_unaligned),
        ] {
            if first & flag != 0 {
                up(folios, kind);
            }
        }
        Ok(())
    }

    /// Returns which cells the present state of a folio belongs to.
    fn place(&self, e: u32) -> Result<Place, Fail> {
        let entry = self.entry(e)?;
        Ok(Place {
            kind: entry.kind,
            order: entry.order,
            operation: entry.operation,
        })
    }

    /// Counts the verdicts on some pairs, which are no new state, and tells what became wrong.
    fn judged(
        &mut self,
        e: u32,
        view: &FolioView,
        all: &Verdicts,
        pairs: PairSet,
        env: &impl Env,
    ) -> Result<(), Fail> {
        let place = self.place(e)?;
        let verdicts = all.only(pairs);
        let old = self.entry(e)?.wrong();
        let mut new = old.without(verdicts.asked).or(verdicts.wrong());
        if view.total == 0 {
            // Wrong for no time: no episode.
            new = PairSet::new();
        }
        self.tables.count(place, &verdicts, false, 1);
        self.tables
            .change(place, old, new, 1, u128::from(env.now()));
        self.entry_mut(e)?.set_wrong(new);
        self.tell(e, view, new.without(old), verdicts.false_yes, env)
    }

    /// Ends all wrong answers about a folio: it is no longer tracked.
    pub(crate) fn close_wrong(&mut self, e: u32, env: &impl Env) -> Result<(), Fail> {
        let place = self.place(e)?;
        let entry = self.entry_mut(e)?;
        let old = entry.wrong();
        entry.set_wrong(PairSet::new());
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
    pub fn settle(&mut self, cursor: u32, max: u32, env: &impl Env) -> Option<u32> {
        self.each(cursor, max, env, |shard, e| {
            let entry = shard.entry(e)?;
            if !(entry.has(DIRTY) || entry.has(KERNEL_DIRTY)) {
                return Ok(());
            }
            let mut counts = KernelCounts::default();
            let kernel = if entry.has(KERNEL_DIRTY) {
                shard.quick_check(e, env, &mut counts)
            } else {
                None
            };
            shard.evaluate(e, kernel, env)
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
    pub fn ask_all(&mut self, cursor: u32, max: u32, env: &impl Env) -> Option<u32> {
        self.each(cursor, max, env, |shard, e| {
            let mut counts = KernelCounts::default();
            let Some(kernel) = shard.quick_check(e, env, &mut counts) else {
                return Ok(());
            };
            let ask = shard.reader(e, env)?;
            let Some((view, verdicts)) = shard.judge(e, kernel, Some(ask)) else {
                return Ok(());
            };
            shard.note_references(kernel);
            shard.judged(e, &view, &verdicts, ASK_PAIRS, env)?;
            let place = shard.place(e)?;
            shard
                .tables
                .count_flips(place, &verdicts.only(ASK_PAIRS), 1);
            Ok(())
        })
    }

    /// Returns what a reader asks about a folio, see [`Shard::ask_all`].
    pub(crate) fn reader(&self, e: u32, env: &impl Env) -> Result<Ask, Fail> {
        let entry = self.entry(e)?;
        let (pfn, order) = (entry.pfn(), entry.order);
        let mut ask = Ask::default();
        if let Some(r) = position_of(entry.first_record()).filter(|_| entry.kind == Kind::Anon) {
            let record = self.record(r)?;
            let first = if record.entire() {
                0
            } else {
                let pages = self.pages_of(record, order)?;
                pages.next(0, pages_of_order(order)).unwrap_or(0)
            };
            let exclusive = env.anon_exclusive(pfn, order, first);
            let mm_id = self.detail(record)?.mm_id;
            ask.page = Some(self.ask_page(e, record.mm, mm_id, first, exclusive));
        }
        Ok(ask)
    }

    /// Calls `f` for the tracked folios among up to `max` entries from position `cursor` on; returns
    /// where to go on, `None` at the end.
    fn each(
        &mut self,
        cursor: u32,
        max: u32,
        env: &impl Env,
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
        let judged = self.with_sketches(entry, |sketches| verdicts(&view, sketches));
        Some((view, judged.ok()?))
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
