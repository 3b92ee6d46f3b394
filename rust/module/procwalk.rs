// SPDX-License-Identifier: GPL-2.0

//! What the kernel's own counters say, of page tables, statistics and cgroups; the work itself is
//! `procwalk.c`, made of header inlines.

use core::ptr;

use kernel::prelude::*;

use crate::{
    mm::{
        LockedVma,
        ReadGuard, //
    },
    raw, //
};

/// Pages of one folio that a process maps, with the folio's counters.
pub(crate) use raw::fmi_mapped as Mapped;

/// AnonPages, Mapped, Shmem and AnonHugePages, in pages.
pub(crate) use raw::fmi_vmstat as VmStat;

/// Page tables that may be looked into under one hold of the mmap lock.
pub(crate) const BUDGET: u32 = 128;

/// Longest path of a cgroup that is kept.
pub(crate) const PATH_LEN: usize = 96;

/// Calls back for what a VMA maps from `start` on, and returns the address to go on at: the end of
/// the VMA, or less when `budget` is used up.
///
/// `f` runs under the PTL: it must not sleep. A VMA that is not part of Rss has no pages here.
pub(crate) fn walk_some<F: FnMut(&Mapped)>(
    _guard: &ReadGuard<'_>,
    vma: &LockedVma<'_>,
    start: usize,
    budget: &mut u32,
    f: &mut F,
) -> usize {
    // SAFETY: The lock, which `LockedVma` borrows, keeps the VMA valid.
    if !unsafe { raw::fmi_vma_has_rss(vma.as_ptr()) } {
        return vma.end;
    }
    let mut walk = raw::fmi_procwalk {
        vma: vma.as_ptr(),
        start,
        end: vma.end,
        budget: *budget,
        mapped: Some(mapped::<F>),
        ctx: ptr::from_mut(f).cast(),
    };
    // SAFETY: As above; the callback takes the context that is passed.
    let next = unsafe { raw::fmi_procwalk_range(&mut walk) };
    *budget = walk.budget;
    next
}

/// # Safety
///
/// `ctx` must be a valid, unaliased `F` and `mapped` valid.
unsafe extern "C" fn mapped<F: FnMut(&Mapped)>(ctx: *mut c_void, mapped: *const Mapped) {
    // SAFETY: By the safety requirements of this function.
    let (f, mapped) = unsafe { (&mut *ctx.cast::<F>(), &*mapped) };
    f(mapped);
}

/// Returns whether this kernel has CONFIG_PAGE_MAPCOUNT.
pub(crate) fn has_page_mapcounts() -> bool {
    // SAFETY: Returns a constant.
    unsafe { raw::fmi_has_page_mapcounts() }
}

/// Returns the statistics that `/proc/meminfo` is made of.
pub(crate) fn vmstat() -> VmStat {
    let mut vmstat = VmStat::default();
    // SAFETY: The pointer is valid.
    unsafe { raw::fmi_read_vmstat(&mut vmstat) };
    vmstat
}

/// Lets others run.
///
/// # Errors
///
/// `EINTR` if a signal is pending.
pub(crate) fn pause() -> Result {
    // SAFETY: Process context, no lock is held but mutexes.
    unsafe { raw::fmi_cond_resched() };
    if kernel::current!().signal_pending() {
        return Err(EINTR);
    }
    Ok(())
}

/// Returns the inode number of the memory cgroup that a folio is charged to.
pub(crate) fn memcg_of(pfn: u64, order: u8) -> Option<u64> {
    let mut ino = 0;
    // SAFETY: `ino` is valid, no path is asked for; any pfn may be.
    unsafe { raw::fmi_folio_memcg(pfn as usize, u32::from(order), &mut ino, ptr::null_mut(), 0) }
        .then_some(ino)
}

/// Returns the same with the path of the cgroup, ended by a NUL.
pub(crate) fn memcg_path_of(pfn: u64, order: u8) -> Option<(u64, [u8; PATH_LEN])> {
    let (mut ino, mut path) = (0, [0; PATH_LEN]);
    // SAFETY: `ino` and `path`, of the length that is passed, are valid.
    unsafe {
        raw::fmi_folio_memcg(
            pfn as usize,
            u32::from(order),
            &mut ino,
            path.as_mut_ptr().cast(),
            PATH_LEN,
        )
    }
    .then_some((ino, path))
}
