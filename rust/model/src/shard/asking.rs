// SPDX-License-Identifier: GPL-2.0

//! What the definitions answer when the kernel really asks.

use super::{
    Fail,
    Shard,
    State, //
};
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
        table.answers(
            asking.asker,
            [asked, differ, wrong, asked.and(verdicts.unknown)],
        );
        Ok(true)
    }
}
