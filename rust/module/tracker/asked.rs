// SPDX-License-Identifier: GPL-2.0

//! The functions that ask about a folio: what other definitions would have answered.
//!
//! Their hooks run in process context, some under a PTL, the folio lock or the LRU's; the shard lock
//! is innermost here, too.

use kernel::sync::{
    atomic::Relaxed,
    Arc, //
};

use fmi_model::Asker;

use super::Tracker;
use crate::hook::{
    args::Args,
    asker,
    entry, //
};

/// Entry hooks on the functions that ask.
pub(crate) struct AskHook(Arc<Tracker>);

impl AskHook {
    /// Creates the handler; the hook on `do_wp_page()` is the one of the tracker's functions.
    pub(crate) fn new(tracker: Arc<Tracker>) -> Self {
        let ips = tracker.ask_sites.ips();
        asker::wp_is_at(ips.get(Asker::WpPte.index()).copied().unwrap_or(0));
        Self(tracker)
    }
}

impl entry::Handler for AskHook {
    const FIRST: entry::First = entry::First::Ask;

    #[inline]
    fn entry(&self, ip: usize, _caller: usize, args: Args<'_>) {
        let tracker = &*self.0;
        if !tracker.armed() {
            return;
        }
        if asker::irqs_off() {
            // Under a lock that interrupts take, the shard lock must not be waited for: its holder
            // may be interrupted.
            tracker.asked_irqs_off.fetch_add(1, Relaxed);
            return;
        }
        let position = tracker.ask_sites.lookup(ip);
        let Some(asker) = position.and_then(|n| Asker::ALL.get(n).copied()) else {
            tracker.unknown_sites.fetch_add(1, Relaxed);
            return;
        };
        if let Some(asking) = asker::read(asker, &args) {
            tracker.table.with_asked(asking.pfn, |shard, asked| {
                shard.asking(&asking, asked, &tracker.env());
            });
        }
    }
}
