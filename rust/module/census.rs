// SPDX-License-Identifier: GPL-2.0

//! A census of all page tables: what is mapped, in which kind of VMA, whether rmap hears of it or
//! not. The work itself is `census.c`, made of header inlines.
//!
//! Asked for by Wilcox, 2024-01-29: pages that are neither file nor anonymous, VM_PFNMAP and
//! VM_MIXEDMAP.

use core::ptr;

use kernel::prelude::*;

use crate::{
    mm::{
        LockedVma,
        MmRef,
        MmStruct,
        ReadGuard, //
    },
    procwalk,
    raw::{
        self,
        fmi_area_FMI_AREA_MIXEDMAP as MIXEDMAP,
        fmi_area_FMI_AREA_PFNMAP as PFNMAP,
        fmi_area_FMI_AREA_PLAIN as PLAIN,
        fmi_leaves,
        fmi_level_FMI_LEVEL_PMD as PMD,
        fmi_level_FMI_LEVEL_PTE as PTE,
        fmi_level_FMI_LEVEL_PUD as PUD,
        fmi_what_FMI_WHAT_ANON as ANON,
        fmi_what_FMI_WHAT_DRIVER as DRIVER,
        fmi_what_FMI_WHAT_FILE as FILE,
        fmi_what_FMI_WHAT_HUGETLB as HUGETLB,
        fmi_what_FMI_WHAT_KSM as KSM,
        fmi_what_FMI_WHAT_NO_PAGE as NO_PAGE,
        fmi_what_FMI_WHAT_PAGE as PAGE,
        fmi_what_FMI_WHAT_SHMEM as SHMEM,
        fmi_what_FMI_WHAT_ZERO as ZERO,
        fmi_what_FMI_WHAT_ZONE_DEVICE as ZONE_DEVICE, //
    }, //
};

/// Pages that are there, mapped or not.
pub(crate) use raw::fmi_page_counts as PageCounts;

/// Page tables that are looked into before the walk pauses.
const BUDGET: u32 = 128;

/// VMAs that are looked at before the walk pauses: most cost nothing worth a pause.
const VMAS: u32 = 64;

/// Orders are below this: a PUD of 4K pages maps order 18.
const ORDERS: usize = 24;

/// Names of the kinds of VMA.
pub(crate) const AREAS: [&str; 3] = ["plain", "mixedmap", "pfnmap"];
const _: () = assert!(PLAIN == 0 && MIXEDMAP == 1 && PFNMAP == 2);

/// Without and with the special bit.
const BITS: [&str; 2] = ["normal", "special"];

/// Names of the levels of page tables.
pub(crate) const LEVELS: [&str; 3] = ["pte", "pmd", "pud"];
const _: () = assert!(PTE == 0 && PMD == 1 && PUD == 2);

/// Names of what is mapped, and whether it is what rmap counts for: file, anonymous or hugetlb.
pub(crate) const WHATS: [(&str, bool); 10] = [
    ("anon", true),
    ("ksm", true),
    ("file", true),
    ("shmem", true),
    ("hugetlb", true),
    ("zero", false),
    ("zone_device", false),
    ("driver", false),
    ("page", false),
    ("no_page", false),
];
const _: () = assert!(ANON == 0 && KSM == 1 && FILE == 2 && SHMEM == 3 && HUGETLB == 4);
const _: () = assert!(ZERO == 5 && ZONE_DEVICE == 6 && DRIVER == 7 && PAGE == 8 && NO_PAGE == 9);

/// Entries that are alike.
pub(crate) struct Group {
    /// Position in [`AREAS`].
    pub(crate) area: usize,
    /// "normal" or "special".
    pub(crate) bit: &'static str,
    /// Position in [`WHATS`].
    pub(crate) what: usize,
    /// Order of the folio, or of the entry where the folio was not looked at.
    pub(crate) order: usize,
    /// How many entries.
    pub(crate) entries: u64,
}

/// What one pass over all page tables found.
pub(crate) struct Census {
    /// By kind of VMA, special bit, what is mapped and order.
    groups: KVVec<u64>,
    /// Entries by level.
    pub(crate) levels: [u64; LEVELS.len()],
    /// MMs that were walked.
    pub(crate) processes: u64,
}

impl Census {
    /// Walks all MMs, a few page tables at a time: between them, the mmap lock is free. So what is
    /// found is not one moment.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINTR` if a signal is pending.
    pub(crate) fn take() -> Result<Self> {
        let nr = AREAS.len() * BITS.len() * WHATS.len() * ORDERS;
        let mut census = Self {
            groups: KVVec::from_elem(0, nr, GFP_KERNEL)?,
            levels: [0; LEVELS.len()],
            processes: 0,
        };
        for mm in MmStruct::all()? {
            // One that has exited since has nothing mapped.
            let Some(mm) = mm.users() else { continue };
            census.walk(&mm)?;
            census.processes += 1;
        }
        Ok(census)
    }

    fn walk(&mut self, mm: &MmRef) -> Result {
        let mut addr = 0;
        loop {
            procwalk::pause()?;
            let guard = mm.read_lock_killable()?;
            let mut budget = BUDGET;
            for _ in 0..VMAS {
                let Some(vma) = guard.find_vma(addr) else {
                    return Ok(());
                };
                let start = vma.start.max(addr);
                addr = walk_some(&guard, &vma, start, &mut budget, &mut |leaves| {
                    self.add(leaves)
                });
                if addr < vma.end {
                    break;
                }
            }
        }
    }

    fn add(&mut self, leaves: &fmi_leaves) {
        let nr = u64::from(leaves.nr);
        let at = usize::from(leaves.area) * BITS.len() + usize::from(leaves.special);
        let at = at * WHATS.len() + usize::from(leaves.what);
        let at = at * ORDERS + usize::from(leaves.order).min(ORDERS - 1);
        if let Some(entries) = self.groups.get_mut(at) {
            *entries = entries.saturating_add(nr);
        }
        if let Some(entries) = self.levels.get_mut(usize::from(leaves.level)) {
            *entries = entries.saturating_add(nr);
        }
    }

    /// Returns what there is any of.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Group> + '_ {
        let found = self.groups.iter().enumerate().filter(|(_, n)| **n > 0);
        found.map(|(at, entries)| {
            let (kind, order) = (at / ORDERS, at % ORDERS);
            let (kind, what) = (kind / WHATS.len(), kind % WHATS.len());
            Group {
                area: kind / BITS.len(),
                bit: if kind % BITS.len() == 0 {
                    BITS[0]
                } else {
                    BITS[1]
                },
                what,
                order,
                entries: *entries,
            }
        })
    }

    /// Returns how many entries of some groups there are.
    pub(crate) fn sum(&self, of: impl Fn(&Group) -> bool) -> u64 {
        let groups = self.iter().filter(|group| of(group));
        groups.fold(0, |sum, group| sum.saturating_add(group.entries))
    }
}

/// Calls back for what a VMA maps from `start` on, and returns the address to go on at; takes from
/// the budget of page tables.
///
/// `f` may run under the PTL: it must not sleep.
fn walk_some<F: FnMut(&fmi_leaves)>(
    _guard: &ReadGuard<'_>,
    vma: &LockedVma<'_>,
    start: usize,
    budget: &mut u32,
    f: &mut F,
) -> usize {
    let mut census = raw::fmi_census {
        vma: vma.as_ptr(),
        start,
        end: vma.end,
        budget: *budget,
        leaves: Some(leaves::<F>),
        ctx: ptr::from_mut(f).cast(),
    };
    // SAFETY: The lock, which `LockedVma` borrows, keeps the VMA valid; the callback takes the
    // context that is passed.
    let next = unsafe { raw::fmi_census_range(&mut census) };
    *budget = census.budget;
    next
}

/// # Safety
///
/// `ctx` must be a valid, unaliased `F` and `leaves` valid.
unsafe extern "C" fn leaves<F: FnMut(&fmi_leaves)>(ctx: *mut c_void, leaves: *const fmi_leaves) {
    // SAFETY: By the safety requirements of this function.
    let (f, leaves) = unsafe { (&mut *ctx.cast::<F>(), &*leaves) };
    f(leaves);
}

/// Returns how many pages AnonPages and Mapped would count if they counted mapped or not, as Zi Yan
/// asked on 2023-07-01.
pub(crate) fn page_counts() -> PageCounts {
    let mut counts = PageCounts::default();
    // SAFETY: The pointer is valid.
    unsafe { raw::fmi_count_pages(&mut counts) };
    counts
}
