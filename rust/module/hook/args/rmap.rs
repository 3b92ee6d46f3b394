// SPDX-License-Identifier: GPL-2.0

//! The functions that change a mapcount, and what a call of one says.

use core::{
    marker::PhantomData,
    ops::Deref, //
};

use kernel::{
    bindings,
    prelude::*, //
};

use super::Vma;
use crate::{
    raw,
    raw::fmi_site as Site, //
};

/// The functions that change a mapcount, or the identity of a mapped folio.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum RmapFunction {
    AddAnonPtes,
    AddAnonPmd,
    AddNewAnon,
    AddFilePtes,
    AddFilePmd,
    AddFilePud,
    RemovePtes,
    RemovePmd,
    RemovePud,
    MoveAnon,
    HugetlbAddAnon,
    HugetlbAddNewAnon,
}

impl RmapFunction {
    /// The symbols, in the order of [`Self::ALL`].
    pub(crate) const NAMES: &'static [&'static CStr; 12] = &[
        c"folio_add_anon_rmap_ptes",
        c"folio_add_anon_rmap_pmd",
        c"folio_add_new_anon_rmap",
        c"folio_add_file_rmap_ptes",
        c"folio_add_file_rmap_pmd",
        c"folio_add_file_rmap_pud",
        c"folio_remove_rmap_ptes",
        c"folio_remove_rmap_pmd",
        c"folio_remove_rmap_pud",
        c"folio_move_anon_rmap",
        c"hugetlb_add_anon_rmap",
        c"hugetlb_add_new_anon_rmap",
    ];

    const ALL: [Self; 12] = [
        Self::AddAnonPtes,
        Self::AddAnonPmd,
        Self::AddNewAnon,
        Self::AddFilePtes,
        Self::AddFilePmd,
        Self::AddFilePud,
        Self::RemovePtes,
        Self::RemovePmd,
        Self::RemovePud,
        Self::MoveAnon,
        Self::HugetlbAddAnon,
        Self::HugetlbAddNewAnon,
    ];

    /// Returns the function at a position of [`Self::NAMES`].
    pub(crate) fn at(position: usize) -> Option<Self> {
        Self::ALL.get(position).copied()
    }

    /// Returns whether the function takes mappings away.
    pub(crate) fn removes(self) -> bool {
        matches!(self, Self::RemovePtes | Self::RemovePmd | Self::RemovePud)
    }
}

/// The mappings that a running rmap call makes or unmakes.
///
/// # Invariants
///
/// The folio of the site, unless it is null, is valid for `'a` and stays a folio of the order that the site says.
#[derive(Clone, Copy)]
pub(crate) struct CallSite<'a>(&'a Site);

impl<'a> CallSite<'a> {
    /// # Safety
    ///
    /// The site must have been filled from the arguments of an rmap call, or be zero, and that call must not return
    /// within `'a`.
    #[inline]
    pub(in crate::hook) unsafe fn new(site: &'a Site) -> Self {
        // INVARIANT: The caller of an rmap function holds a reference to its folio, which keeps it from being split.
        Self(site)
    }
}

impl Deref for CallSite<'_> {
    type Target = Site;

    #[inline]
    fn deref(&self) -> &Site {
        self.0
    }
}

/// The arguments of an rmap function.
///
/// # Invariants
///
/// The first one is the folio, to which the caller of the function holds a reference for `'a`; the others are
/// as in the prototypes.
pub(crate) struct RmapArgs<'a>(
    pub(super) [usize; raw::FMI_RMAP_ARGS as usize],
    pub(super) PhantomData<&'a ()>,
);

/// Reads the arguments of an rmap function into `site`; returns it and the VMA of the call.
///
/// `dst` is the address for [`RmapFunction::MoveAnon`], which does not carry one.
#[inline]
pub(crate) fn read_rmap<'a>(
    function: RmapFunction,
    args: &RmapArgs<'a>,
    dst: usize,
    site: &'a mut Site,
) -> Option<(CallSite<'a>, Vma<'a>)> {
    const NONE: usize = usize::MAX;
    let RmapArgs([folio, a, b, c, d], _) = *args;
    // (page, nr, vma, address, new): arguments of the prototypes, in order.
    let (page, nr, vma, addr, new) = match function {
        RmapFunction::AddAnonPtes => (a, b, c, d, false),
        RmapFunction::AddAnonPmd => (a, 0, b, c, false),
        RmapFunction::AddNewAnon => (folio, 0, a, b, true),
        RmapFunction::AddFilePtes | RmapFunction::RemovePtes => (a, b, c, NONE, false),
        RmapFunction::AddFilePmd
        | RmapFunction::AddFilePud
        | RmapFunction::RemovePmd
        | RmapFunction::RemovePud => (a, 0, b, NONE, false),
        RmapFunction::MoveAnon => (folio, 0, a, dst, false),
        RmapFunction::HugetlbAddAnon | RmapFunction::HugetlbAddNewAnon => {
            (folio, 0, a, NONE, false)
        }
    };
    let vma = vma as *mut bindings::vm_area_struct;
    // SAFETY: By their type invariants and the prototypes of the hooked functions all pointers
    // are valid, and the PTL is held.
    unsafe {
        raw::fmi_site_of_call(
            folio as *mut bindings::folio,
            page as *mut bindings::page,
            nr as u32,
            vma,
            addr,
            new,
            site,
        );
    }
    if vma.is_null() {
        return None;
    }
    // SAFETY: `'a` is that of the arguments, which are there while the call is.
    // INVARIANT: An rmap function is called with a VMA whose range cannot change meanwhile.
    Some((unsafe { CallSite::new(site) }, Vma(vma, PhantomData)))
}
