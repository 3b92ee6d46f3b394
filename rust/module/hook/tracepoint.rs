// SPDX-License-Identifier: GPL-2.0

//! Probes on the rmap tracepoints of a kernel that has them.
//!
//! The prototypes are checked where the probes are, in `tracepoints.c`, against the kernel that the module is
//! built for.
//!
//! C header: [`include/linux/tracepoint.h`](srctree/include/linux/tracepoint.h)

use core::marker::PhantomPinned;

use kernel::{
    error::to_result,
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

use super::args::{
    CallSite,
    Vma, //
};
use crate::{
    backend::Asked,
    raw,
    raw::fmi_site as Site, //
};

/// What an rmap call does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum TraceOp {
    /// Makes mappings.
    Add,
    /// Maps an anonymous folio for the first time.
    AddNew,
    /// Removes mappings.
    Remove,
    /// fork duplicates mappings.
    Dup,
}

/// `rmap_begin`: an rmap call, or a duplicate made by fork, before the kernel's counters change.
pub(crate) struct TraceCall<'a>(&'a raw::fmi_tp_call);

impl<'a> TraceCall<'a> {
    /// Returns what the call does; `None` if this kernel says something unheard of.
    pub(crate) fn op(&self) -> Option<TraceOp> {
        Some(match self.0.op {
            raw::fmi_tp_op_FMI_TP_ADD => TraceOp::Add,
            raw::fmi_tp_op_FMI_TP_ADD_NEW => TraceOp::AddNew,
            raw::fmi_tp_op_FMI_TP_REMOVE => TraceOp::Remove,
            raw::fmi_tp_op_FMI_TP_DUP => TraceOp::Dup,
            _ => return None,
        })
    }

    /// Returns what is mapped or unmapped where.
    pub(crate) fn site(&self) -> CallSite<'_> {
        // SAFETY: The probe runs inside the call.
        unsafe { CallSite::new(&self.0.site) }
    }

    /// Returns the VMA of the page table: of a duplicate, the child's.
    pub(crate) fn vma(&self) -> Vma<'a> {
        // INVARIANT: The caller of an rmap function keeps the VMA and its range.
        // SAFETY: See above.
        unsafe { Vma::from_raw(self.0.vma) }
    }

    /// Returns the return address of the call of the rmap function.
    pub(crate) fn caller(&self) -> usize {
        self.0.call_site
    }

    /// Returns the position of what was seen in [`TracePoint::NAMES`].
    pub(crate) fn point(&self) -> Option<TracePoint> {
        use TracePoint as P;

        let level = self.0.level;
        if level == raw::fmi_tp_level_FMI_TP_HUGETLB {
            return Some(P::Hugetlb);
        }
        let pte = level == raw::fmi_tp_level_FMI_TP_PTE;
        Some(match (self.op()?, pte) {
            (TraceOp::Add, true) => P::AddPte,
            (TraceOp::Add, false) => P::AddPmd,
            (TraceOp::AddNew, _) => P::AddNew,
            (TraceOp::Remove, true) => P::RemovePte,
            (TraceOp::Remove, false) => P::RemovePmd,
            (TraceOp::Dup, true) => P::DupPte,
            (TraceOp::Dup, false) => P::DupPmd,
        })
    }
}

/// `rmap_move`: mappings are at another address; both page-table locks are held.
pub(crate) struct TraceMove<'a>(&'a raw::fmi_tp_move);

impl<'a> TraceMove<'a> {
    /// Returns the VMA moved to.
    pub(crate) fn vma(&self) -> Vma<'a> {
        // INVARIANT: Both VMAs are locked during the move.
        // SAFETY: See above.
        unsafe { Vma::from_raw(self.0.new_vma) }
    }

    /// Returns what to add to an old address, wrapping, to get the new one.
    pub(crate) fn delta(&self) -> usize {
        self.0.new_addr.wrapping_sub(self.0.old_addr)
    }

    /// Calls `leaf` for each batch of mappings of a large folio that has moved, by its new address; returns how
    /// many page tables that went through.
    ///
    /// A page table that moved as a whole is locked meanwhile.
    pub(crate) fn walk<F: FnMut(&Site)>(&self, mut leaf: F) -> u64 {
        // SAFETY: The event is that of the running probe; `callback` gets the closure that is passed, which
        // outlives the call.
        let tables = unsafe {
            raw::fmi_walk_moved(
                self.0,
                Some(callback::<F>),
                core::ptr::from_mut(&mut leaf).cast(),
            )
        };
        tables as u64
    }

    /// Returns the page table that mappings were in, if they are of hugetlb; nothing else is known of that place.
    pub(crate) fn old_place(&self, site: &Site) -> Site {
        let mut old = Site {
            order: site.order,
            ..Site::default()
        };
        // SAFETY: The event is that of the running probe, `old` is valid.
        unsafe { raw::fmi_moved_from(self.0, &mut old) };
        old
    }

    /// Returns the position of what was seen in [`TracePoint::NAMES`]; `None` if this kernel says something
    /// unheard of.
    pub(crate) fn point(&self) -> Option<TracePoint> {
        Some(match self.0.kind {
            raw::fmi_tp_kind_FMI_TP_MOVE_PTES => TracePoint::MovePtes,
            raw::fmi_tp_kind_FMI_TP_MOVE_PMD_LEAF => TracePoint::MovePmdLeaf,
            raw::fmi_tp_kind_FMI_TP_MOVE_PMD_TABLE => TracePoint::MovePmdTable,
            raw::fmi_tp_kind_FMI_TP_MOVE_PUD_TABLE => TracePoint::MovePudTable,
            raw::fmi_tp_kind_FMI_TP_MOVE_PUD_LEAF => TracePoint::MovePudLeaf,
            raw::fmi_tp_kind_FMI_TP_MOVE_HUGETLB => TracePoint::MoveHugetlb,
            raw::fmi_tp_kind_FMI_TP_MOVE_UFFD => TracePoint::MoveUffd,
            _ => return None,
        })
    }
}

/// # Safety
///
/// `ctx` must be a valid, unaliased `F` and `site` valid.
unsafe extern "C" fn callback<F: FnMut(&Site)>(ctx: *mut c_void, site: *const Site) {
    // SAFETY: By the safety requirements of this function.
    let (leaf, site) = unsafe { (&mut *ctx.cast::<F>(), &*site) };
    leaf(site);
}

/// `rmap_pmd_share`, `rmap_pmd_unshare`: a VMA begins, or ceases, to use a page table of hugetlb that others
/// use.
pub(crate) struct Sharing<'a>(&'a raw::fmi_tp_share);

impl Sharing<'_> {
    /// Returns whether the VMA begins to use it.
    pub(crate) fn begins(&self) -> bool {
        self.0.shares
    }

    /// Calls `leaf` for each folio that the table maps, under the lock of the table.
    pub(crate) fn walk<F: FnMut(&Site)>(&self, mut leaf: F) {
        // SAFETY: The event is that of the running probe, so VMA and table are valid; `callback` gets the
        // closure that is passed, which outlives the call.
        unsafe {
            raw::fmi_walk_table(
                raw::fmi_vma_mm(self.0.vma),
                self.0.table,
                Some(callback::<F>),
                core::ptr::from_mut(&mut leaf).cast(),
            )
        };
    }
}

/// What is told apart of what the tracepoints say, for the self-test and `stats`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum TracePoint {
    AddPte,
    AddPmd,
    AddNew,
    RemovePte,
    RemovePmd,
    DupPte,
    DupPmd,
    Hugetlb,
    MovePtes,
    MovePmdLeaf,
    MovePmdTable,
    MovePudTable,
    MovePudLeaf,
    MoveHugetlb,
    MoveUffd,
    Order,
    PmdShare,
    PmdUnshare,
}

impl TracePoint {
    /// Event and case, in the order of the enum.
    pub(crate) const NAMES: &'static [&'static CStr; 18] = &[
        c"rmap_begin:add_pte",
        c"rmap_begin:add_pmd",
        c"rmap_begin:add_new",
        c"rmap_begin:remove_pte",
        c"rmap_begin:remove_pmd",
        c"rmap_begin:dup_pte",
        c"rmap_begin:dup_pmd",
        c"rmap_begin:hugetlb",
        c"rmap_move:ptes",
        c"rmap_move:pmd_leaf",
        c"rmap_move:pmd_table",
        c"rmap_move:pud_table",
        c"rmap_move:pud_leaf",
        c"rmap_move:hugetlb",
        c"rmap_move:uffd",
        c"rmap_order",
        c"rmap_pmd_share",
        c"rmap_pmd_unshare",
    ];
}

/// Who is told of the events. Preemption is disabled in all of them: do not sleep.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Returns whether calls on small folios are counted: not if another hook counts them.
    fn counts_small(&self) -> bool;

    /// An rmap call on a large folio begins.
    fn call(&self, call: &TraceCall<'_>);

    /// Mappings move.
    fn moved(&self, event: &TraceMove<'_>);

    /// `rmap_order`: a folio that nothing maps has another order from now on; it is frozen.
    ///
    /// Interrupts are off, and locks are held that interrupts take: the lock of a shard must not be waited for,
    /// its holder may be interrupted.
    fn order(&self);

    /// A VMA begins or ceases to share a page table.
    fn sharing(&self, event: &Sharing<'_>);
}

/// Registered probes; dropping it waits for running handlers.
///
/// # Invariants
///
/// `handlers` is registered with the callbacks below and the address of `handler`'s `T`, and does not move.
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<T: Handler> {
    handler: Arc<T>,
    #[pin]
    handlers: Opaque<raw::fmi_tp_handlers>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: Probes may be unregistered from any thread.
unsafe impl<T: Handler> Send for Registration<T> {}
// SAFETY: There are no methods that take `&self`.
unsafe impl<T: Handler> Sync for Registration<T> {}

impl<T: Handler> Registration<T> {
    /// Registers the probes.
    ///
    /// # Errors
    ///
    /// `ENOENT` if this kernel lacks a tracepoint, `ENOMEM`.
    pub(crate) fn new(handler: Arc<T>) -> impl PinInit<Self, Error> {
        let ctx = core::ptr::from_ref(&*handler).cast_mut().cast();
        let counts_small = handler.counts_small();
        try_pin_init!(Self {
            handler,
            handlers <- Opaque::try_ffi_init(move |slot: *mut raw::fmi_tp_handlers| {
                let handlers = raw::fmi_tp_handlers {
                    call: Some(Self::call),
                    move_: Some(Self::moved),
                    order: Some(Self::order),
                    share: Some(Self::sharing),
                    ctx,
                    counts_small,
                };
                // SAFETY: `slot` is valid for writes.
                unsafe { slot.write(handlers) };
                // SAFETY: `slot` is pinned and initialised, and `drop()` unregisters it.
                to_result(unsafe { raw::fmi_tp_register(slot) })
            }),
            _pin: PhantomPinned,
        } ? Error)
    }

    /// # Safety
    ///
    /// `ctx` must be the handler of a live `Registration<T>`, and `call` valid.
    unsafe extern "C" fn call(ctx: *mut c_void, call: *const raw::fmi_tp_call) {
        // SAFETY: By the safety requirements of this function.
        let (handler, call) = unsafe { (&*ctx.cast::<T>(), &*call) };
        handler.call(&TraceCall(call));
    }

    /// # Safety
    ///
    /// As for [`Self::call`].
    unsafe extern "C" fn moved(ctx: *mut c_void, event: *const raw::fmi_tp_move) {
        // SAFETY: By the safety requirements of this function.
        let (handler, event) = unsafe { (&*ctx.cast::<T>(), &*event) };
        handler.moved(&TraceMove(event));
    }

    /// # Safety
    ///
    /// As for [`Self::call`].
    unsafe extern "C" fn order(ctx: *mut c_void, _pfn: c_ulong, _old: c_uint, _new: c_uint) {
        // SAFETY: By the safety requirements of this function.
        let handler = unsafe { &*ctx.cast::<T>() };
        handler.order();
    }

    /// # Safety
    ///
    /// As for [`Self::call`].
    unsafe extern "C" fn sharing(ctx: *mut c_void, event: *const raw::fmi_tp_share) {
        // SAFETY: By the safety requirements of this function.
        let (handler, event) = unsafe { (&*ctx.cast::<T>(), &*event) };
        handler.sharing(&Sharing(event));
    }
}

#[pinned_drop]
impl<T: Handler> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant. This waits for running probes.
        unsafe { raw::fmi_tp_unregister(self.handlers.get()) };
    }
}

/// Returns the name of the first tracepoint that this kernel lacks; `None` if it has all of them. Sleeps.
pub(crate) fn missing() -> Option<&'static CStr> {
    // SAFETY: May be called in process context.
    let name = unsafe { raw::fmi_tp_missing() };
    // SAFETY: It is null or a string constant of the module.
    (!name.is_null()).then(|| unsafe { CStr::from_char_ptr(name) })
}

/// Returns what the parameter `backend` asks for.
///
/// # Errors
///
/// `EINVAL` if it is none of its words.
pub(crate) fn asked() -> Result<Asked> {
    const TRACEPOINTS: c_int = raw::fmi_backend_FMI_BACKEND_TRACEPOINTS as c_int;
    const FUNCTIONS: c_int = raw::fmi_backend_FMI_BACKEND_FUNCTIONS as c_int;
    const BOTH: c_int = raw::fmi_backend_FMI_BACKEND_BOTH as c_int;
    const AUTO: c_int = raw::fmi_backend_FMI_BACKEND_AUTO as c_int;

    // SAFETY: Reads a parameter.
    match unsafe { raw::fmi_backend_param() } {
        AUTO => Ok(Asked::Auto),
        TRACEPOINTS => Ok(Asked::Tracepoints),
        FUNCTIONS => Ok(Asked::Functions),
        BOTH => Ok(Asked::Both),
        _ => Err(EINVAL),
    }
}

#[kunit_tests(fmi_tracepoint)]
mod tests {
    use super::*;

    /// Returns the name of an event of this operation and level.
    fn name_of_call(op: u32, level: u32) -> Option<&'static CStr> {
        let call = raw::fmi_tp_call {
            op,
            level,
            ..Default::default()
        };
        let point = TraceCall(&call).point()?;
        TracePoint::NAMES.get(point as usize).copied()
    }

    #[test]
    fn calls_have_their_names() {
        const ADD: u32 = raw::fmi_tp_op_FMI_TP_ADD;
        const NEW: u32 = raw::fmi_tp_op_FMI_TP_ADD_NEW;
        const REMOVE: u32 = raw::fmi_tp_op_FMI_TP_REMOVE;
        const DUP: u32 = raw::fmi_tp_op_FMI_TP_DUP;
        const PTE: u32 = raw::fmi_tp_level_FMI_TP_PTE;

        assert_eq!(name_of_call(ADD, PTE), Some(c"rmap_begin:add_pte"));
        assert_eq!(name_of_call(NEW, PTE), Some(c"rmap_begin:add_new"));
        assert_eq!(name_of_call(REMOVE, PTE), Some(c"rmap_begin:remove_pte"));
        assert_eq!(name_of_call(DUP, PTE), Some(c"rmap_begin:dup_pte"));
        // A PUD that maps is told apart from a PMD by nothing that follows.
        for level in [
            raw::fmi_tp_level_FMI_TP_PMD,
            raw::fmi_tp_level_FMI_TP_PUD, //
        ] {
            assert_eq!(name_of_call(ADD, level), Some(c"rmap_begin:add_pmd"));
            assert_eq!(name_of_call(NEW, level), Some(c"rmap_begin:add_new"));
            assert_eq!(name_of_call(REMOVE, level), Some(c"rmap_begin:remove_pmd"));
            assert_eq!(name_of_call(DUP, level), Some(c"rmap_begin:dup_pmd"));
        }
        for op in [ADD, NEW, REMOVE, DUP] {
            let level = raw::fmi_tp_level_FMI_TP_HUGETLB;
            assert_eq!(name_of_call(op, level), Some(c"rmap_begin:hugetlb"));
        }
        assert_eq!(name_of_call(DUP + 1, PTE), None);
    }

    #[test]
    fn moves_have_their_names_and_distance() {
        let mut event = raw::fmi_tp_move {
            old_addr: 0x7000,
            new_addr: 0x3000,
            ..Default::default()
        };
        assert_eq!(TraceMove(&event).delta(), 0usize.wrapping_sub(0x4000));
        let first = TracePoint::MovePtes as usize;
        for kind in 0..raw::fmi_tp_kind_FMI_TP_NR_KINDS {
            event.kind = kind;
            let point = TraceMove(&event).point().map(|point| point as usize);
            // Both enums name them in the same order.
            assert_eq!(point, Some(first + kind as usize));
        }
        event.kind = raw::fmi_tp_kind_FMI_TP_NR_KINDS;
        assert!(TraceMove(&event).point().is_none());
        assert_eq!(
            TracePoint::NAMES.get(first + raw::fmi_tp_kind_FMI_TP_MOVE_UFFD as usize),
            Some(&c"rmap_move:uffd")
        );
    }
}
