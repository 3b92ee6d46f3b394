// SPDX-License-Identifier: GPL-2.0

//! Page-table walks; the walk itself is `walk.c`, made of header inlines.

use core::{
    marker::PhantomData,
    ptr, //
};

use kernel::{
    bindings,
    prelude::*, //
};

use crate::{
    hook::args::Vma,
    mm::{
        LockedVma,
        ReadGuard, //
    },
    raw,
    raw::fmi_site as Site, //
};

/// What a walk calls back. All callbacks run under the PTL: they must not sleep.
pub(crate) trait Visitor {
    /// A batch of entries from `va` on maps pages of a large folio.
    fn leaf(&mut self, va: usize, site: &Site);

    /// All mappings in `start..end` were reported, and none can change before this returns.
    fn mark(&mut self, _start: usize, _end: usize) {}
}

/// What to walk.
///
/// # Invariants
///
/// The MM is valid during the walk and its upper page-table levels cannot be freed.
pub(crate) struct Range<'a> {
    mm: *mut bindings::mm_struct,
    vma: *mut bindings::vm_area_struct,
    start: usize,
    end: usize,
    stop_pmd: usize,
    resched: bool,
    all: bool,
    /// The VMA or the lock that the range was made of.
    _held: PhantomData<&'a ()>,
}

impl<'a> Range<'a> {
    /// A part of a VMA that a hooked function was called with, by the linear rule of that VMA.
    ///
    /// The callers of these functions hold the mmap lock for write.
    pub(crate) fn of_hooked(vma: &'a Vma<'_>, start: usize, end: usize) -> Self {
        // INVARIANT: The MM of a VMA is valid as long as the VMA; the mmap lock is held.
        Self {
            mm: vma.mm() as *mut _,
            vma: vma.as_ptr(),
            start,
            end,
            stop_pmd: 0,
            resched: false,
            all: false,
            _held: PhantomData,
        }
    }

    /// The same without the linear rule: entries count at the address where they are.
    pub(crate) fn any_vma(mut self) -> Self {
        self.vma = ptr::null_mut();
        self
    }

    /// With `all`, every large folio is one that is tracked: also hugetlb, device memory and pages of
    /// drivers. Where that is not said, they are not.
    pub(crate) fn all(mut self, all: bool) -> Self {
        self.all = all;
        self
    }

    /// Stops before this PMD entry.
    pub(crate) fn stop_at(mut self, pmd: usize) -> Self {
        self.stop_pmd = pmd;
        self
    }

    /// A part of the address space whose mmap lock is held; may sleep between page tables.
    pub(crate) fn of_locked(
        guard: &'a ReadGuard<'_>,
        vma: Option<&LockedVma<'_>>,
        start: usize,
        end: usize,
    ) -> Self {
        // INVARIANT: The mmap lock is held and the users of the MM are referenced.
        Self {
            mm: guard.mm() as *mut _,
            vma: vma.map_or(ptr::null_mut(), LockedVma::as_ptr),
            start,
            end,
            stop_pmd: 0,
            resched: true,
            all: false,
            _held: PhantomData,
        }
    }

    /// Walks, calling back `visitor`.
    pub(crate) fn walk<V: Visitor>(&self, visitor: &mut V) {
        let walk = self.raw(visitor);
        // SAFETY: By the type invariant; the callbacks take the context that is passed.
        unsafe { raw::fmi_walk_range(&walk) };
    }

    fn raw<V: Visitor>(&self, visitor: &mut V) -> raw::fmi_walk {
        raw::fmi_walk {
            mm: self.mm,
            vma: self.vma,
            start: self.start,
            end: self.end,
            stop_pmd: self.stop_pmd as *mut _,
            leaf: Some(leaf::<V>),
            mark: Some(mark::<V>),
            ctx: ptr::from_mut(visitor).cast(),
            resched: self.resched,
            all: self.all,
        }
    }
}

/// Walks the part of a VMA from `start` on as far as `budget` goes, which is counted down by page
/// table; returns where to go on, the end of the VMA at last. [`Visitor::mark`] is not called. `all` as in
/// [`Range::all`].
pub(crate) fn walk_some<V: Visitor>(
    guard: &ReadGuard<'_>,
    (vma, all): (&LockedVma<'_>, bool),
    start: usize,
    budget: &mut u32,
    visitor: &mut V,
) -> usize {
    let range = Range::of_locked(guard, Some(vma), start, vma.end).all(all);
    let walk = range.raw(visitor);
    // SAFETY: The lock keeps the VMA valid; the callbacks take the context that is passed.
    unsafe { raw::fmi_walk_some(&walk, budget) }
}

/// # Safety
///
/// `ctx` must be a valid, unaliased `V` and `site` valid.
unsafe extern "C" fn leaf<V: Visitor>(ctx: *mut c_void, va: c_ulong, site: *const Site) {
    // SAFETY: By the safety requirements of this function.
    let (visitor, site) = unsafe { (&mut *ctx.cast::<V>(), &*site) };
    visitor.leaf(va, site);
}

/// # Safety
///
/// `ctx` must be a valid, unaliased `V`.
unsafe extern "C" fn mark<V: Visitor>(ctx: *mut c_void, start: c_ulong, end: c_ulong) {
    // SAFETY: By the safety requirements of this function.
    unsafe { &mut *ctx.cast::<V>() }.mark(start, end);
}
