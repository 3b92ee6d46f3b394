// SPDX-License-Identifier: GPL-2.0

//! Typed arguments of the hooked functions.
//!
//! The tables of names below are in the order of the enums; the prototypes are those of
//! `mm/rmap.c`, `mm/memory.c`, `mm/huge_memory.c` and `mm/mremap.c`.

use core::marker::PhantomData;

use kernel::{
    bindings,
    prelude::*, //
};

use super::call::Saved;
use crate::{
    mm::LockedVma,
    raw,
    window::{
        OpenCopy,
        OpenMove, //
    }, //
};

#[cfg(CONFIG_KUNIT = "y")]
mod kunit;
mod rmap;

pub(crate) use rmap::{
    read_rmap,
    CallSite,
    RmapArgs,
    RmapFunction, //
};

/// Registers of a hooked call.
///
/// # Invariants
///
/// The pointer is valid for `'a`.
pub(crate) struct Args<'a>(*mut bindings::ftrace_regs, PhantomData<&'a ()>);

impl<'a> Args<'a> {
    /// # Safety
    ///
    /// `fregs` must be valid for `'a`.
    pub(super) unsafe fn new(fregs: *mut bindings::ftrace_regs) -> Self {
        // INVARIANT: By the safety requirements of this function.
        Self(fregs, PhantomData)
    }

    /// Returns argument `n`, counted from 0.
    pub(super) fn get(&self, n: u32) -> usize {
        // SAFETY: The pointer is valid by the type invariant.
        unsafe { raw::fmi_arg(self.0, n) }
    }

    /// Returns the arguments of an rmap function.
    ///
    /// Only for functions of [`RmapFunction::NAMES`].
    #[inline]
    pub(crate) fn of_rmap(&self) -> RmapArgs<'a> {
        let mut args = [0; raw::FMI_RMAP_ARGS as usize];
        // SAFETY: The pointer is valid by the type invariant, and `args` has room for them.
        unsafe { raw::fmi_rmap_args(self.0, args.as_mut_ptr()) };
        // INVARIANT: By the prototypes of the hooked functions.
        RmapArgs(args, PhantomData)
    }

    /// Returns what the hooked function returned; only at its exit.
    pub(super) fn return_value(&self) -> usize {
        // SAFETY: The pointer is valid by the type invariant.
        unsafe { raw::fmi_ret(self.0) }
    }
}

/// A VMA that a hooked function was called with.
///
/// # Invariants
///
/// The pointer is valid for `'a`, and the locks that the hooked function asks for keep its range
/// from changing.
#[derive(Clone, Copy)]
pub(crate) struct Vma<'a>(*mut bindings::vm_area_struct, PhantomData<&'a ()>);

impl<'a> Vma<'a> {
    /// # Safety
    ///
    /// The pointer must be valid for `'a`, and the range of the VMA must not change meanwhile.
    pub(super) unsafe fn from_raw(vma: *mut bindings::vm_area_struct) -> Self {
        // INVARIANT: By the safety requirements of this function.
        Self(vma, PhantomData)
    }

    /// Returns the child's VMA of a copy that the running task has not finished.
    pub(crate) fn of_open_copy(copy: &'a OpenCopy) -> Self {
        // INVARIANT: `copy_page_range()` has not returned, so the VMA is valid and write-locked; or the VMA is in
        // the tree of an MM that the task is using.
        Self(copy.dst_vma as *mut _, PhantomData)
    }

    /// Returns a VMA whose mmap lock is held.
    pub(crate) fn of_locked(vma: &'a LockedVma<'_>) -> Self {
        // INVARIANT: The lock, which `LockedVma` borrows, keeps the VMA and its range.
        Self(vma.as_ptr(), PhantomData)
    }

    /// Returns the VMA that the running task has not finished to move to.
    pub(crate) fn of_open_move(open: &'a OpenMove) -> Self {
        // INVARIANT: `move_page_tables()` has not returned, so the VMA is valid and write-locked; or
        // the VMA is in the tree of an MM that the task is using.
        Self(open.new_vma as *mut _, PhantomData)
    }

    /// Returns the address of the structure as an identity.
    pub(crate) fn id(&self) -> usize {
        self.0 as usize
    }

    /// Returns the pointer, for the page-table walk.
    pub(crate) fn as_ptr(&self) -> *mut bindings::vm_area_struct {
        self.0
    }

    /// Returns the MM as an identity.
    pub(crate) fn mm(&self) -> usize {
        // SAFETY: Valid by the type invariant.
        unsafe { raw::fmi_vma_mm(self.0) as usize }
    }

    /// Returns who makes a call: the MM and the running task, as identities and with their ids.
    #[inline]
    pub(crate) fn caller(&self) -> raw::fmi_caller {
        let mut caller = raw::fmi_caller::default();
        // SAFETY: Valid by the type invariant, and so is its MM.
        unsafe { raw::fmi_caller_in(self.0, &mut caller) };
        caller
    }

    /// Returns the first address.
    pub(crate) fn start(&self) -> usize {
        // SAFETY: Valid by the type invariant.
        unsafe { raw::fmi_vma_start(self.0) }
    }

    /// Returns the first address after the VMA.
    pub(crate) fn end(&self) -> usize {
        // SAFETY: Valid by the type invariant.
        unsafe { raw::fmi_vma_end(self.0) }
    }

    /// Returns whether this is a hugetlb VMA.
    pub(crate) fn is_hugetlb(&self) -> bool {
        // SAFETY: Valid by the type invariant.
        unsafe { raw::fmi_vma_is_hugetlb(self.0) }
    }

    /// Returns the next VMA of the same MM that ends after `addr`.
    ///
    /// Only where the mmap lock is held and the VMA tree is that of this MM, which is not so for
    /// the child of a fork in progress.
    pub(crate) fn find(&self, addr: usize) -> Option<Self> {
        // SAFETY: Valid by the type invariant; the callers of the hooked functions that lend a
        // `Vma` for this hold the mmap lock for write.
        let vma = unsafe { bindings::find_vma(raw::fmi_vma_mm(self.0), addr) };
        // INVARIANT: The mmap lock keeps the VMA in the tree.
        (!vma.is_null()).then_some(Self(vma, PhantomData))
    }
}

/// Returns whether a VMA ends at `end`, in the MM that the running task is changing page tables of.
fn vma_ends_at(mm: usize, vma: usize, end: usize) -> bool {
    let last = end.wrapping_sub(1);
    // SAFETY: The task uses the MM. The VMA is compared only.
    unsafe { raw::fmi_vma_is_at(mm as *mut _, vma as *const _, last) }
}

impl OpenCopy {
    /// Returns whether the child's VMA is where it shall be copied to, in its MM, which the running task is
    /// changing page tables of: fork puts a VMA there before it copies what is in it.
    pub(crate) fn vma_is_there(&self, mm: usize) -> bool {
        vma_ends_at(mm, self.dst_vma, self.end)
    }
}

impl OpenMove {
    /// Returns whether the VMA moved to is where the move ends, in the MM that the running task is
    /// changing page tables of.
    pub(crate) fn vma_is_there(&self, mm: usize) -> bool {
        vma_ends_at(mm, self.new_vma, self.end)
    }
}

/// A call of a rare function with entry and exit hook.
#[derive(Clone, Copy)]
pub(crate) enum RareCall<'a> {
    /// `copy_page_range(dst_vma, src_vma)`, by fork.
    CopyRange {
        /// The child's VMA.
        dst: Vma<'a>,
        /// The parent's VMA.
        src: Vma<'a>,
    },
    /// `copy_huge_pmd(dst_mm, src_mm, dst_pmd, src_pmd, addr, ..)`, by fork.
    CopyHugePmd {
        /// The child's MM, as an identity.
        dst_mm: usize,
        /// Address of the PMD.
        addr: usize,
    },
    /// `move_page_tables(pmc)`, by mremap.
    Move {
        /// The VMA moved from.
        old: Vma<'a>,
        /// The VMA moved to.
        new: Vma<'a>,
        /// First address moved from.
        old_addr: usize,
        /// Address it moves to.
        new_addr: usize,
        /// Bytes.
        len: usize,
    },
    /// `move_pages_huge_pmd(mm, .., dst_addr, src_addr)`, by UFFDIO_MOVE.
    UffdMove {
        /// The MM, as an identity.
        mm: usize,
        /// Address moved to.
        dst_addr: usize,
        /// Address moved from.
        src_addr: usize,
    },
    /// `vma_adjust_trans_huge(vma, start, end, next)`, by every change of a VMA's range that can
    /// cut or join mappings of one folio.
    AdjustVma {
        /// The VMA, with its old range.
        vma: Vma<'a>,
        /// Its new first address.
        start: usize,
        /// Its new end.
        end: usize,
        /// Whether the VMA behind it will begin at `end`; not in the arguments, see the handler.
        grows: bool,
    },
}

impl<'a> RareCall<'a> {
    /// The symbols.
    pub(crate) const NAMES: &'static [&'static CStr; 5] = &[
        c"copy_page_range",
        c"copy_huge_pmd",
        c"move_page_tables",
        c"move_pages_huge_pmd",
        c"vma_adjust_trans_huge",
    ];

    /// Returns whether a call of the function at this position of [`Self::NAMES`] copies nothing that is
    /// tracked: most VMAs of files, whose mappings page faults bring back.
    ///
    /// Both hooks on the function leave such a call alone first of all, and what they look at does not change in
    /// between. hugetlb is left alone, too: [`Self::read`] does not look for it again.
    #[inline]
    pub(crate) fn is_idle(position: usize, args: &Args<'_>) -> bool {
        if position != Self::COPY_RANGE {
            return false;
        }
        let (dst, src) = (args.get(0), args.get(1));
        // SAFETY: `copy_page_range()` is called with two valid VMAs.
        !unsafe { raw::fmi_fork_copies(dst as *const _, src as *const _) }
    }

    /// The position of `copy_page_range()`.
    pub(crate) const COPY_RANGE: usize = 0;

    /// The function that does what no tracepoint tells.
    pub(crate) const WITHOUT_TRACEPOINT: &'static CStr = c"vma_adjust_trans_huge";

    /// Reads the arguments of the function at this position of [`Self::NAMES`].
    ///
    /// Returns `None` for a call that moves or copies nothing that is tracked, and an error for one
    /// whose arguments do not make sense.
    pub(crate) fn read(position: usize, args: &Args<'a>) -> Result<Option<Self>> {
        // INVARIANT: The hooked functions are called with the mmap lock held, which keeps their
        // VMAs valid for the duration of the call.
        let vma = |n| Vma(args.get(n) as *mut _, PhantomData);
        Ok(Some(match position {
            Self::COPY_RANGE => Self::CopyRange {
                dst: vma(0),
                src: vma(1),
            },
            1 => Self::CopyHugePmd {
                dst_mm: args.get(0),
                addr: args.get(4),
            },
            2 => return Self::read_move(args),
            3 => Self::UffdMove {
                mm: args.get(0),
                dst_addr: args.get(6),
                src_addr: args.get(7),
            },
            4 => Self::AdjustVma {
                vma: vma(0),
                start: args.get(1),
                end: args.get(2),
                grows: false,
            },
            _ => return Err(EINVAL),
        }))
    }

    /// Returns from which VMA to which one is moved, and the rest; `None` if it makes no sense.
    fn move_of(args: &Args<'a>) -> Option<(Vma<'a>, Vma<'a>, raw::fmi_move)> {
        let mut found = raw::fmi_move::default();
        // SAFETY: The argument of move_page_tables() is a structure that begins like the one the
        // shim reads, and it is live during the call.
        if !unsafe { raw::fmi_read_move(args.get(0), &mut found) } {
            return None;
        }
        // INVARIANT: Both VMAs are write-locked during the call.
        let old = Vma(found.old_vma, PhantomData);
        let new = Vma(found.new_vma, PhantomData);
        Some((old, new, found))
    }

    fn read_move(args: &Args<'a>) -> Result<Option<Self>> {
        let (old, new, found) = Self::move_of(args).ok_or(EINVAL)?;
        Ok((found.len != 0 && !old.is_hugetlb()).then_some(Self::Move {
            old,
            new,
            old_addr: found.old_addr,
            new_addr: found.new_addr,
            len: found.len,
        }))
    }

    /// Returns whether the function at this position has a second hook, see [`CheckedCall`].
    ///
    /// What `copy_huge_pmd()` copies is found at the end of the copy of the VMA at the latest.
    pub(crate) fn is_checked(position: usize) -> bool {
        position != 1
    }

    /// What is kept of a call that is idle, see [`Self::is_idle`]: [`Self::restore`] makes nothing of it.
    pub(crate) const IDLE: Saved = [usize::MAX, 0, 0, 0, 0, 0];

    /// Packs the call for its exit handler.
    pub(crate) fn save(&self) -> Saved {
        match *self {
            Self::CopyRange { dst, src } => [0, dst.id(), src.id(), 0, 0, 0],
            Self::CopyHugePmd { dst_mm, addr } => [1, dst_mm, addr, 0, 0, 0],
            Self::Move {
                old,
                new,
                old_addr,
                new_addr,
                len,
            } => [2, old.id(), new.id(), old_addr, new_addr, len],
            Self::UffdMove {
                mm,
                dst_addr,
                src_addr,
            } => [3, mm, dst_addr, src_addr, 0, 0],
            Self::AdjustVma {
                vma,
                start,
                end,
                grows,
            } => [4, vma.id(), start, end, usize::from(grows), 0],
        }
    }

    /// Unpacks what [`Self::save`] packed at the entry of the same call.
    pub(crate) fn restore(saved: &'a Saved) -> Option<Self> {
        // INVARIANT: The hooked function has not returned to its caller yet, so the locks that keep
        // its VMAs valid are still held.
        let vma = |id: usize| Vma(id as *mut _, PhantomData);
        let [tag, a, b, c, d, e] = *saved;
        Some(match tag {
            0 => Self::CopyRange {
                dst: vma(a),
                src: vma(b),
            },
            1 => Self::CopyHugePmd { dst_mm: a, addr: b },
            2 => Self::Move {
                old: vma(a),
                new: vma(b),
                old_addr: c,
                new_addr: d,
                len: e,
            },
            3 => Self::UffdMove {
                mm: a,
                dst_addr: b,
                src_addr: c,
            },
            4 => Self::AdjustVma {
                vma: vma(a),
                start: b,
                end: c,
                grows: d != 0,
            },
            _ => return None,
        })
    }
}

/// A call with an entry hook only.
pub(crate) enum ProgressCall<'a> {
    /// `__pte_alloc(mm, pmd)`: a new page table is about to be installed.
    PteAlloc {
        /// The MM, as an identity.
        mm: usize,
        /// The PMD entry that the table will hang from, as an identity.
        pmd: usize,
    },
    /// A function that is hooked with exit, too.
    Rare(CheckedCall<'a>),
}

/// A call at whose entry is checked whether the hook with exit sees it.
pub(crate) enum CheckedCall<'a> {
    /// `copy_page_range()`: from this VMA.
    Copy(Vma<'a>),
    /// `move_page_tables()`: from this VMA.
    Move(Vma<'a>),
    /// `move_pages_huge_pmd()`.
    UffdMove {
        /// The MM, as an identity.
        mm: usize,
        /// Address moved from.
        src_addr: usize,
    },
    /// `vma_adjust_trans_huge()`: the VMA, and the range that it will have.
    AdjustVma {
        /// The VMA, with its old range.
        vma: Vma<'a>,
        /// Its new first address.
        start: usize,
        /// Its new end.
        end: usize,
    },
}

impl CheckedCall<'_> {
    /// Returns the position of the function in [`RareCall::NAMES`].
    pub(crate) fn function(&self) -> usize {
        match self {
            Self::Copy(_) => RareCall::COPY_RANGE,
            Self::Move(_) => 2,
            Self::UffdMove { .. } => 3,
            Self::AdjustVma { .. } => 4,
        }
    }

    /// Returns the MM whose mappings are copied or moved, as an identity.
    pub(crate) fn mm(&self) -> usize {
        match self {
            Self::Copy(vma) | Self::Move(vma) | Self::AdjustVma { vma, .. } => vma.mm(),
            Self::UffdMove { mm, .. } => *mm,
        }
    }
}

impl<'a> ProgressCall<'a> {
    /// As [`RareCall::is_idle`], for a position of [`Self::NAMES`].
    #[inline]
    pub(crate) fn is_idle(position: usize, args: &Args<'_>) -> bool {
        position == Self::COPY_RANGE && RareCall::is_idle(RareCall::COPY_RANGE, args)
    }

    /// The position of `copy_page_range()`.
    pub(crate) const COPY_RANGE: usize = 1;

    /// The symbols.
    pub(crate) const NAMES: &'static [&'static CStr; 5] = &[
        c"__pte_alloc",
        c"copy_page_range",
        c"move_page_tables",
        c"move_pages_huge_pmd",
        c"vma_adjust_trans_huge",
    ];

    /// Reads the arguments of the function at this position of [`Self::NAMES`].
    ///
    /// Returns `None` for one whose arguments do not make sense; the hook with exit counts it.
    pub(crate) fn read(position: usize, args: &Args<'a>) -> Option<Self> {
        // INVARIANT: As in `RareCall::read()`.
        let vma = |n| Vma(args.get(n) as *mut _, PhantomData);
        Some(Self::Rare(match position {
            0 => {
                return Some(Self::PteAlloc {
                    mm: args.get(0),
                    pmd: args.get(1),
                })
            }
            Self::COPY_RANGE => CheckedCall::Copy(vma(1)),
            2 => CheckedCall::Move(RareCall::move_of(args)?.0),
            3 => CheckedCall::UffdMove {
                mm: args.get(0),
                src_addr: args.get(7),
            },
            4 => CheckedCall::AdjustVma {
                vma: vma(0),
                start: args.get(1),
                end: args.get(2),
            },
            _ => return None,
        }))
    }
}
