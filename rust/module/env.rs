// SPDX-License-Identifier: GPL-2.0

//! What the model asks of the kernel: time, grace periods, counters, open windows.

use core::{
    cell::Cell,
    mem::offset_of,
    ptr, //
};

use kernel::bindings;

use fmi_model::{
    Disagreement,
    Env,
    Geometry,
    KernelCounts, //
};

use crate::{
    examples::Store,
    hook::args::CallSite,
    raw,
    trace,
    window::Windows, //
};

/// The kernel as the model sees it.
pub(crate) struct KernelEnv<'a> {
    windows: &'a Windows,
    /// Where examples go; `None` for a shadow whose disagreements are told nobody.
    examples: Option<&'a Store>,
    /// The mappings that the one call is about that is being taken in.
    site: Option<CallSite<'a>>,
    /// When it was taken in, once somebody has asked; 0 before.
    now: Cell<u64>,
}

impl<'a> KernelEnv<'a> {
    /// Creates the view with these windows; disagreements are told, and go to the store, if there is
    /// one.
    pub(crate) fn new(windows: &'a Windows, examples: Option<&'a Store>) -> Self {
        Self {
            windows,
            examples,
            site: None,
            now: Cell::new(0),
        }
    }

    /// The same while one call is taken in: its folio need not be looked for, and all of it happens at
    /// one time.
    #[inline]
    pub(crate) fn of_call(self, site: CallSite<'a>) -> Self {
        Self {
            site: Some(site),
            ..self
        }
    }
}

/// Returns the page sizes of the running kernel.
pub(crate) fn geometry() -> Geometry {
    // SAFETY: These return constants of the running kernel.
    unsafe {
        Geometry {
            page_shift: raw::fmi_page_shift() as u8,
            pmd_order: raw::fmi_pmd_order() as u8,
            max_order: raw::fmi_max_order() as u8,
        }
    }
}

/// Returns the size of the machine's memory.
pub(crate) fn ram_bytes() -> usize {
    // SAFETY: These only read numbers.
    unsafe { raw::fmi_totalram_pages() << raw::fmi_page_shift() }
}

/// Returns the monotonic time in nanoseconds.
pub(crate) fn now_ns() -> u64 {
    // SAFETY: May be called in any context.
    unsafe { bindings::ktime_get_mono_fast_ns() }
}

/// Keeps the longest time since `start`.
pub(crate) fn longest(most: &mut u64, start: u64) {
    *most = (*most).max(now_ns().saturating_sub(start));
}

/// C fills in the model's counters: each is where C has it.
const _: () = {
    macro_rules! same {
        ($($field:ident)*) => {
            $(assert!(offset_of!(KernelCounts, $field) == offset_of!(raw::fmi_counts, $field));)*
        };
    }
    same!(large entire nr_pages_mapped refcount mm_id mm_id_mapcount expected_refs per_page shared_bit);
    same!(maybe_mapped_shared partially_mapped swapcache anon order);
    assert!(size_of::<KernelCounts>() == size_of::<raw::fmi_counts>());
    assert!(align_of::<KernelCounts>() == align_of::<raw::fmi_counts>());
};

impl Env for KernelEnv<'_> {
    #[inline]
    fn now(&self) -> u64 {
        match self.now.get() {
            0 => {
                let now = now_ns();
                if self.site.is_some() {
                    self.now.set(now);
                }
                now
            }
            now => now,
        }
    }

    fn gp_snapshot(&self) -> u64 {
        // SAFETY: May be called in any context.
        unsafe { bindings::get_state_synchronize_rcu() as u64 }
    }

    fn gp_elapsed(&self, cookie: u64) -> bool {
        // SAFETY: May be called in any context.
        unsafe { bindings::poll_state_synchronize_rcu(cookie as usize) }
    }

    fn windows_open(&self) -> bool {
        self.windows.any_open()
    }

    fn windows_lack(&self) -> bool {
        self.windows.lack()
    }

    fn window_covers(&self, mm: u64, base: u64, len: u64) -> bool {
        self.windows
            .covers(mm as usize, base as usize, len as usize)
    }

    fn move_covers(&self, mm: u64, base: u64, len: u64) -> bool {
        self.windows
            .moving(mm as usize, base as usize, len as usize)
    }

    fn ticket_open(&self, ticket: u64) -> bool {
        self.windows.any_open() && self.windows.ticket_open(ticket)
    }

    fn disagree(&self, d: Disagreement<'_>) {
        if let Some(examples) = self.examples {
            trace::disagree(&d);
            examples.add(d, self.now());
        }
    }

    fn wants_all(&self) -> bool {
        self.examples.is_some() && trace::disagree_wanted()
    }

    #[inline]
    fn read_kernel(&self, pfn: u64, order: u8, counts: &mut KernelCounts) -> bool {
        let c = ptr::from_mut(counts).cast::<raw::fmi_counts>();
        let is_it = |site: &CallSite<'_>| {
            site.pfn as u64 == pfn && site.order == order && !site.folio.is_null()
        };
        // ORDERING: Both end with a barrier: who saw a counter that a copy has changed sees its window afterwards.
        if let Some(site) = self.site.filter(is_it) {
            // SAFETY: `c` is valid, for both have one layout, and so is the folio by the invariant of `CallSite`.
            unsafe { raw::fmi_counts_of(site.folio, u32::from(order), c) };
            return true;
        }
        // SAFETY: `c` is valid, for both have one layout; any pfn may be asked for.
        unsafe { raw::fmi_folio_counts(pfn as usize, u32::from(order), c) }
    }

    fn anon_exclusive(&self, pfn: u64, order: u8, i: u32) -> bool {
        // SAFETY: Any pfn may be asked for.
        unsafe { raw::fmi_page_anon_exclusive(pfn as usize, u32::from(order), i) }
    }
}

/// Reads `page->_mapcount` (bias removed) of pages `first..` of a folio into `counts`.
///
/// Returns whether these counts exist.
pub(crate) fn page_mapcounts(pfn: u64, order: u8, first: u32, counts: &mut [i32]) -> bool {
    // SAFETY: `counts` has the length that is passed; any pfn may be asked for.
    unsafe {
        raw::fmi_page_mapcounts(
            pfn as usize,
            u32::from(order),
            first,
            counts.as_mut_ptr(),
            counts.len() as u32,
        )
    }
}

/// Returns whether a page is memory of a device (ZONE_DEVICE).
pub(crate) fn is_device(pfn: u64) -> bool {
    // SAFETY: Any pfn may be asked for.
    unsafe { raw::fmi_pfn_is_device(pfn as usize) }
}

/// What a page belongs to.
pub(crate) struct PageInfo {
    /// Head page of the folio.
    pub(crate) head_pfn: u64,
    /// Order of the folio.
    pub(crate) order: u8,
    /// `enum fmi_class`.
    pub(crate) class: u32,
    /// `enum fmi_kind`.
    pub(crate) kind: u32,
}

/// Returns the folio that a page belongs to, if there is such a page and it is in use.
pub(crate) fn page_info(pfn: u64) -> Option<PageInfo> {
    let (mut head, mut order, mut class, mut kind) = (0, 0, 0, 0);
    // SAFETY: All pointers are valid; any pfn may be asked for.
    unsafe { raw::fmi_pfn_to_folio(pfn as usize, &mut head, &mut order, &mut class, &mut kind) }
        .then_some(PageInfo {
            head_pfn: head as u64,
            order: order as u8,
            class,
            kind,
        })
}
