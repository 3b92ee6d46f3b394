// SPDX-License-Identifier: GPL-2.0

//! What the definitions answer when the kernel really asks.

use super::key::plain_key;
use super::{
    position_of,
    Fail,
    Shard,
    State, //
};
use crate::answers::AnswerKey;
use crate::bits::bits_of;
use crate::decision::{
    AskedTable,
    Asker, //
};
use crate::definition::{
    verdicts_on,
    KERNEL_PAIR, //
};
use crate::tables::flips;
use crate::{
    Ask,
    Env,
    FolioView,
    KernelCounts,
    PairSet, //
};

/// Somebody who asks about a folio: a hooked function was entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asking {
    /// The function.
    pub asker: Asker,
    /// The pfn of the first page of the folio.
    pub pfn: u64,
    /// References to the folio that the asker holds itself.
    pub own: i32,
    /// The page that a write or unshare fault is about.
    pub page: Option<AskingPage>,
}

/// The page that a write or unshare fault is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AskingPage {
    /// The MM of the fault.
    pub mm: u64,
    /// The kernel's id of that MM.
    pub mm_id: u32,
    /// The page, counted from the first of the folio.
    pub index: u32,
    /// Whether the kernel has marked the page as exclusive.
    pub anon_exclusive: bool,
}

impl Shard<'_> {
    /// Asks all definitions that claim the question of the asker's site, and the kernel's counters
    /// as they are now, and counts the answers.
    ///
    /// The kernel asks without waiting for calls in flight, so its counters are taken as they are.
    pub fn asking(&mut self, asking: &Asking, table: &mut AskedTable<'_>, env: &impl Env) {
        let asker = asking.asker;
        let tracked = self.find(asking.pfn).filter(|e| {
            self.entry(*e)
                .is_ok_and(|entry| matches!(entry.state, State::Live | State::Draining))
        });
        let Some(e) = tracked else {
            return table.note(asker, |asks| &mut asks.untracked);
        };
        match self.try_asking(e, asking, table, env) {
            Ok(true) => table.note(asker, |asks| &mut asks.judged),
            Ok(false) => table.note(asker, |asks| &mut asks.unsettled),
            Err(fail) => {
                self.give_up(e, fail, env);
            }
        }
    }

    /// The same for the tracked folio at a position; returns whether there was an answer.
    fn try_asking(
        &self,
        e: u32,
        asking: &Asking,
        table: &mut AskedTable<'_>,
        env: &impl Env,
    ) -> Result<bool, Fail> {
        let (pfn, order) = (self.entry(e)?.pfn(), self.entry(e)?.order);
        let Some(mut kernel) = env.kernel_of(pfn, order) else {
            return Ok(false);
        };
        // After the counters were read: a copy that changed them is open still.
        if self.is_pending(e, env)? {
            return Ok(false);
        }
        let Some(question) = asking.asker.question() else {
            return Ok(false);
        };
        if asking.asker == Asker::DeferredSplit {
            // It was just decided; the flag follows.
            kernel.partially_mapped = true;
        }
        let plain = self.plain_question(e, asking, &kernel)?;
        if plain.is_some_and(|plain| table.again(&plain)) {
            return Ok(true);
        }
        let page = asking
            .page
            .map(|p| self.ask_page(e, p.mm, p.mm_id, p.index, p.anon_exclusive));
        let ask = Ask {
            own: asking.own,
            page,
        };
        let mut view = FolioView::default();
        self.fill_view(e, &mut view)?;
        view.kernel = Some(kernel);
        view.ask = Some(ask);
        let verdicts = self.with_sketches(e, |sketches| verdicts_on(&view, sketches, question))?;
        let (asked, wrong) = (verdicts.asked, verdicts.wrong());
        let known = |pair: &usize| asked.contains(*pair) && !verdicts.unknown.contains(*pair);
        let kernel = KERNEL_PAIR.get(question.index()).copied().flatten();
        let differ = kernel.filter(known).map_or(PairSet::new(), |kernel| {
            flips(asked, wrong, verdicts.unknown, kernel)
        });
        let sets = [asked, differ, wrong, asked.and(verdicts.unknown)];
        match plain {
            Some(plain) => table.keep(asking.asker, &plain, sets),
            None => table.answers(asking.asker, sets, 1),
        }
        Ok(true)
    }

    /// Returns everything that the answers to a question depend on, if the folio is plain and mapped, its
    /// past is known, and the page that is asked about is one that the MM maps.
    ///
    /// Each of the one or two records maps all of the folio, so that all numbers of it follow from those of
    /// the entry, and what the sketches have come to from these, the ids of the MMs, and which of them one
    /// entry maps. All pages are alike, so which one is asked about does not matter; which of the MMs asks does.
    fn plain_question(
        &self,
        e: u32,
        asking: &Asking,
        kernel: &KernelCounts,
    ) -> Result<Option<AnswerKey>, Fail> {
        let entry = self.entry(e)?;
        let Some(r) = position_of(entry.first_record()).filter(|_| entry.is_known()) else {
            return Ok(None);
        };
        let Some([state, place, counters]) =
            plain_key(entry, entry.mapped_numbers(), Some(kernel), (false, false))
        else {
            return Ok(None);
        };
        let last = self.record(r)?;
        let mut ids = u64::from(last.mm_id());
        let mut own = asking.page.is_none_or(|page| page.mm == last.mm);
        let mut whose = u64::from(own);
        if let Some(r) = position_of(last.next) {
            let first = self.record(r)?;
            ids |= u64::from(first.mm_id()) << u32::BITS;
            if !own && asking.page.is_some_and(|page| page.mm == first.mm) {
                (own, whose) = (true, 2);
            }
        }
        let (paged, exclusive, id) = match asking.page {
            Some(page) => (true, page.anon_exclusive, page.mm_id),
            None => (false, false, 0),
        };
        let site = u64::try_from(asking.asker.index()).unwrap_or(u64::MAX);
        let flags = [paged, exclusive, kernel.shared_bit, last.entire()];
        let who = flags
            .into_iter()
            .fold(site, |who, flag| (who << 1) | u64::from(flag));
        Ok(own.then_some([
            state,
            place,
            counters,
            u64::from(bits_of(kernel.refcount))
                | (u64::from(bits_of(kernel.expected_refs)) << u32::BITS),
            ids,
            (who << 2) | whose | (u64::from(id) << u32::BITS),
            u64::from(bits_of(asking.own)),
        ]))
    }
}
