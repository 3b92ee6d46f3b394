// SPDX-License-Identifier: GPL-2.0

//! What the tracepoints tell.
//!
//! Each event is taken in under the locks of the page tables that it is about, and nothing else changes
//! mappings: the shadow is exact at any time, without windows.

use kernel::sync::{
    atomic::{
        Atomic,
        Relaxed, //
    },
    Arc, //
};

use fmi_model::{
    LostReason,
    Op, //
};

use super::{
    table_of,
    Origin,
    Tracker, //
};
use crate::{
    class,
    hook::tracepoint::{
        self,
        Sharing,
        TraceCall,
        TraceMove,
        TraceOp,
        TracePoint, //
    },
    measure::{
        self,
        Step, //
    },
    selftest::{
        is_blind,
        Hook, //
    }, //
};

/// Events that change no mapping of a folio that is tracked.
pub(crate) struct Others {
    orders: Atomic<u64>,
    shared: Atomic<u64>,
    unshared: Atomic<u64>,
}

impl Others {
    /// Creates it with no event counted.
    pub(super) fn new() -> Self {
        Self {
            orders: Atomic::new(0),
            shared: Atomic::new(0),
            unshared: Atomic::new(0),
        }
    }

    /// Returns how many folios changed their order, and how often a page table of hugetlb was shared, and
    /// ceased to be.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        (
            self.orders.load(Relaxed),
            self.shared.load(Relaxed),
            self.unshared.load(Relaxed),
        )
    }

    /// Sets the counts to zero.
    pub(super) fn reset(&self) {
        for count in [&self.orders, &self.shared, &self.unshared] {
            count.store(0, Relaxed);
        }
    }
}

/// Probes on the tracepoints.
pub(crate) struct TraceHook(pub(crate) Arc<Tracker>);

impl tracepoint::Handler for TraceHook {
    fn counts_small(&self) -> bool {
        !self.0.is_second()
    }

    fn call(&self, call: &TraceCall<'_>) {
        let _timer = measure::step(Step::Trace);
        if self.0.listens(call.point()) {
            self.0.called(call);
        }
    }

    fn moved(&self, event: &TraceMove<'_>) {
        let _timer = measure::step(Step::Trace);
        if self.0.listens(event.point()) {
            self.0.has_moved(event);
        }
    }

    /// The shadow of the folio has no mapping, and the next add starts anew: there is nothing to be done.
    fn order(&self) {
        if self.0.listens(Some(TracePoint::Order)) {
            self.0.others.orders.fetch_add(1, Relaxed);
        }
    }

    fn sharing(&self, event: &Sharing<'_>) {
        let point = if event.begins() {
            TracePoint::PmdShare
        } else {
            TracePoint::PmdUnshare
        };
        if self.0.listens(Some(point)) {
            self.0.table_shared(event);
        }
    }
}

impl Tracker {
    /// Returns whether an event is to be taken in; `None` is one that nothing is known of.
    fn listens(&self, point: Option<TracePoint>) -> bool {
        if !self.armed() {
            return false;
        }
        let Some(point) = point else {
            self.unreadable.fetch_add(1, Relaxed);
            return false;
        };
        let hook = Hook::trace(point as usize);
        if is_blind(hook) {
            return false;
        }
        hook.saw();
        true
    }

    /// An rmap call, or a duplicate made by fork: `rmap_begin`.
    fn called(&self, call: &TraceCall<'_>) {
        let (op, origin) = match call.op() {
            Some(TraceOp::Add | TraceOp::AddNew) => (Op::Add, Origin::Caller(call.caller())),
            Some(TraceOp::Remove) => (Op::Remove, Origin::Caller(call.caller())),
            Some(TraceOp::Dup) => (Op::Dup, Origin::Fork),
            None => return,
        };
        self.take(op, call.site(), &call.vma(), origin);
    }

    /// Mappings are at another address: `rmap_move`.
    fn has_moved(&self, event: &TraceMove<'_>) {
        let (vma, delta) = (event.vma(), event.delta());
        let tables = event.walk(|site| match u32::from(site.class) {
            class::TRACK => {
                let old = table_of(&event.old_place(site));
                self.rekey(&vma, site, site.base.wrapping_sub(delta), old);
            }
            class::NONLINEAR => self.lose(site.pfn as u64, LostReason::NotLinear),
            _ => {}
        });
        if tables > 0 {
            self.windows.note_tables(tables);
        }
    }

    /// A VMA begins or ceases to use a page table of hugetlb that others use: `rmap_pmd_share`,
    /// `rmap_pmd_unshare`.
    fn table_shared(&self, event: &Sharing<'_>) {
        let count = if event.begins() {
            &self.others.shared
        } else {
            &self.others.unshared
        };
        count.fetch_add(1, Relaxed);
        if event.begins() {
            event.walk(|site| {
                let (pfn, order) = (site.pfn as u64, site.order);
                if let Some(table) = table_of(site) {
                    self.table.with(pfn, |shard| {
                        shard.share_table(pfn, order, table, &self.env());
                    });
                }
            });
        }
    }
}
