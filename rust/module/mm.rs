// SPDX-License-Identifier: GPL-2.0

//! MMs and the tasks that use them.
//!
//! C headers: [`include/linux/sched/mm.h`](srctree/include/linux/sched/mm.h),
//! [`include/linux/mmap_lock.h`](srctree/include/linux/mmap_lock.h)

use core::ptr::NonNull;

use kernel::{
    bindings,
    error::to_result,
    prelude::*, //
};

use crate::raw;

/// A reference to the users of an MM: its page tables stay.
///
/// # Invariants
///
/// The pointer is valid and the reference is owned.
#[repr(transparent)]
pub(crate) struct MmRef(NonNull<bindings::mm_struct>);

// SAFETY: An MM may be used and put from any task.
unsafe impl Send for MmRef {}

impl MmRef {
    /// Returns the MM of a process, 0 for the caller's own.
    ///
    /// # Errors
    ///
    /// `ESRCH` if there is no such process or it has no MM.
    pub(crate) fn of_pid(pid: i32) -> Result<Self> {
        // SAFETY: Takes and gives back all references but the one it returns.
        let mm = unsafe { raw::fmi_mm_of_pid(pid) };
        // INVARIANT: The reference was just taken.
        NonNull::new(mm).map(Self).ok_or(ESRCH)
    }

    /// Returns the MMs of the processes of a session, each once, sorted by identity; of the first
    /// `room` processes, if there are more.
    ///
    /// # Safety
    ///
    /// `session` must be valid.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) unsafe fn of_session(
        session: *mut bindings::pid,
        room: usize,
    ) -> Result<KVVec<Self>> {
        let mut mms = KVVec::<Self>::with_capacity(room, GFP_KERNEL)?;
        // SAFETY: The PID is valid by the safety requirements of this function, there is room for
        // `room` references, and a reference is a pointer that is not null.
        unsafe {
            let nr = raw::fmi_session_mms(session, mms.as_mut_ptr().cast(), room);
            // INVARIANT: `fmi_session_mms()` took a reference for each.
            mms.inc_len(nr.min(room));
            // An array of pointers, which are compared as such.
            raw::sort(
                mms.as_mut_ptr().cast(),
                mms.len(),
                size_of::<Self>(),
                Some(compare_pointers),
                None,
            );
        }
        let mut unique = KVVec::with_capacity(mms.len(), GFP_KERNEL)?;
        for mm in mms {
            if unique.last().is_none_or(|last: &Self| last.0 != mm.0) {
                unique.push(mm, GFP_KERNEL)?;
            }
        }
        Ok(unique)
    }

    /// Returns the MM of every process, each once. None of them goes away before it is dropped.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn all() -> Result<KVVec<Self>> {
        let mms = MmStruct::all()?;
        let mut users = KVVec::with_capacity(mms.len(), GFP_KERNEL)?;
        for mm in mms.iter().filter_map(MmStruct::users) {
            users.push(mm, GFP_KERNEL)?;
        }
        Ok(users)
    }

    /// Returns the address of the structure as an identity.
    pub(crate) fn id(&self) -> usize {
        self.0.as_ptr() as usize
    }

    /// Waits until nobody changes the VMAs.
    ///
    /// # Errors
    ///
    /// `EINTR` if the caller was killed.
    pub(crate) fn wait_for_writers(&self) -> Result {
        // SAFETY: Valid by the type invariant.
        to_result(unsafe { raw::fmi_mmap_read_lock_killable(self.0.as_ptr()) })?;
        // SAFETY: The lock was taken.
        unsafe { raw::fmi_mmap_read_unlock(self.0.as_ptr()) };
        Ok(())
    }

    /// Locks the VMAs against changes; a caller that is killed does not wait.
    ///
    /// # Errors
    ///
    /// `EINTR` if the caller was killed.
    pub(crate) fn read_lock_killable(&self) -> Result<ReadGuard<'_>> {
        // SAFETY: Valid by the type invariant; the guard unlocks.
        to_result(unsafe { raw::fmi_mmap_read_lock_killable(self.0.as_ptr()) })?;
        Ok(ReadGuard(self))
    }
}

/// A reference to the structure of an MM only: its users may go, and its page tables with them.
///
/// # Invariants
///
/// The pointer is valid and the reference is owned.
pub(crate) struct MmStruct(NonNull<bindings::mm_struct>);

impl MmStruct {
    /// Returns the MM of every process, each once, sorted by identity.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn all() -> Result<KVVec<Self>> {
        // SAFETY: `fmi_collect_mms()` stores references, as many as there is room for, and returns how
        // many there would have been.
        unsafe { Self::collect(256, |mms, room| Ok(raw::fmi_collect_mms(mms, room))) }
    }

    /// Returns the MM of every VMA in the reverse map of a folio, each once, sorted by identity. A task need
    /// not have it; it need not map any page of the folio. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no folio at `pfn`, or it has no reverse map; `EAGAIN` if it is locked, or the
    /// lock of its reverse map could not be had; `ENOMEM`.
    pub(crate) fn all_of_folio(pfn: u64) -> Result<KVVec<Self>> {
        let collect = |mms, room| {
            let mut found = 0;
            // SAFETY: Any pfn may be asked for, and there is room for `room` pointers.
            to_result(unsafe { raw::fmi_rmap_mms(pfn as usize, mms, room, &mut found) })?;
            Ok(found)
        };
        // SAFETY: Where `fmi_rmap_mms()` succeeds, it stores references, as many as there is room for, and
        // says how many there would have been; where it fails, none.
        unsafe { Self::collect(64, collect) }
    }

    /// Returns what `collect` stores in an array with room for that many, each once, sorted by identity.
    ///
    /// # Safety
    ///
    /// `collect` must store that many valid pointers, each with a reference, as it returns, or as there is
    /// room for; none if it fails.
    unsafe fn collect(
        mut room: usize,
        collect: impl Fn(*mut *mut bindings::mm_struct, usize) -> Result<usize>,
    ) -> Result<KVVec<Self>> {
        loop {
            let mut found = KVVec::<*mut bindings::mm_struct>::with_capacity(room, GFP_KERNEL)?;
            let nr = collect(found.as_mut_ptr(), room)?;
            // SAFETY: That many were stored, by the safety requirements of this function.
            unsafe { found.inc_len(nr.min(room)) };
            // SAFETY: The elements are pointers, which are compared as such.
            unsafe {
                raw::sort(
                    found.as_mut_ptr().cast(),
                    found.len(),
                    size_of::<*mut bindings::mm_struct>(),
                    Some(compare_pointers),
                    None,
                )
            };
            let mut refs = KVVec::with_capacity(nr.min(room), GFP_KERNEL);
            for mm in found.iter().copied() {
                let Some(mm) = NonNull::new(mm) else { continue };
                // INVARIANT: `collect` took this reference.
                let mm = Self(mm);
                if let Ok(refs) = &mut refs {
                    // Cannot fail: the room is there.
                    let _ = refs.push(mm, GFP_KERNEL);
                }
            }
            let refs = refs?;
            if nr > room {
                room = nr.saturating_add(nr / 4);
                continue;
            }
            let mut unique = KVVec::with_capacity(refs.len(), GFP_KERNEL)?;
            for mm in refs {
                if unique.last().is_none_or(|last: &Self| last.0 != mm.0) {
                    unique.push(mm, GFP_KERNEL)?;
                }
            }
            return Ok(unique);
        }
    }

    /// Returns the address of the structure as an identity.
    pub(crate) fn id(&self) -> usize {
        self.0.as_ptr() as usize
    }

    /// Returns a reference to the users, unless they are gone.
    pub(crate) fn users(&self) -> Option<MmRef> {
        // SAFETY: Valid by the type invariant.
        let taken = unsafe { raw::fmi_mmget_not_zero(self.0.as_ptr()) };
        // INVARIANT: The reference was just taken. Made only then: what is dropped gives one back.
        taken.then(|| MmRef(self.0))
    }
}

impl Drop for MmStruct {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { raw::fmi_mmdrop(self.0.as_ptr()) };
    }
}

impl Drop for MmRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariant. The last put does not tear the MM down here.
        unsafe { raw::mmput_async(self.0.as_ptr()) };
    }
}

/// # Safety
///
/// `a` and `b` must point to pointers.
unsafe extern "C" fn compare_pointers(a: *const c_void, b: *const c_void) -> c_int {
    // SAFETY: By the safety requirements of this function.
    let (a, b) = unsafe { (*a.cast::<usize>(), *b.cast::<usize>()) };
    c_int::from(a > b) - c_int::from(a < b)
}

/// The mmap lock of an MM, held for reading.
#[must_use = "the lock unlocks immediately when the guard is unused"]
pub(crate) struct ReadGuard<'a>(&'a MmRef);

/// A VMA under the mmap lock.
///
/// # Invariants
///
/// The pointer is valid for `'a`.
pub(crate) struct LockedVma<'a> {
    ptr: *mut bindings::vm_area_struct,
    /// First address.
    pub(crate) start: usize,
    /// First address after the VMA.
    pub(crate) end: usize,
    /// Maps hugetlb folios.
    pub(crate) hugetlb: bool,
    _guard: core::marker::PhantomData<&'a ()>,
}

impl LockedVma<'_> {
    /// Returns whether the VMA maps folios that are tracked, as far as they are large; with `all`, every large
    /// folio is.
    pub(crate) fn is_looked_at(&self, all: bool) -> bool {
        !self.hugetlb || all
    }

    /// Returns the pointer, for the page-table walk.
    pub(crate) fn as_ptr(&self) -> *mut bindings::vm_area_struct {
        self.ptr
    }
}

impl ReadGuard<'_> {
    /// Returns the MM as an identity.
    pub(crate) fn mm(&self) -> usize {
        self.0.id()
    }

    /// Returns whether somebody waits for the lock.
    pub(crate) fn is_contended(&self) -> bool {
        // SAFETY: The MM is valid.
        unsafe { raw::fmi_mmap_lock_is_contended(self.0 .0.as_ptr()) }
    }

    /// Returns the first address from `addr` on that something may be mapped at, or `end`; passes over large ranges
    /// without page tables.
    pub(crate) fn next_mapped(&self, addr: usize, end: usize) -> usize {
        // SAFETY: The MM is valid and its mmap lock is held.
        unsafe { raw::fmi_next_mapped(self.0 .0.as_ptr(), addr, end) }
    }

    /// Returns the first VMA that ends after `addr`.
    pub(crate) fn find_vma(&self, addr: usize) -> Option<LockedVma<'_>> {
        // SAFETY: The MM is valid and its mmap lock is held.
        let ptr = unsafe { bindings::find_vma(self.0 .0.as_ptr(), addr) };
        if ptr.is_null() {
            return None;
        }
        // SAFETY: The lock keeps the VMA valid.
        let (start, end, hugetlb) = unsafe {
            (
                raw::fmi_vma_start(ptr),
                raw::fmi_vma_end(ptr),
                raw::fmi_vma_is_hugetlb(ptr),
            )
        };
        // INVARIANT: The lock is held for the lifetime of the guard.
        Some(LockedVma {
            ptr,
            start,
            end,
            hugetlb,
            _guard: core::marker::PhantomData,
        })
    }
}

impl Drop for ReadGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: Who made the guard took the lock.
        unsafe { raw::fmi_mmap_read_unlock(self.0 .0.as_ptr()) };
    }
}

/// A process that uses an MM.
pub(crate) struct Owner(raw::fmi_owner);

impl Owner {
    /// Returns a process whose MM has this identity.
    pub(crate) fn of(mm: usize) -> Option<Self> {
        let mut owner = raw::fmi_owner::default();
        // SAFETY: The pointer is dereferenced only while a task has that MM.
        unsafe { raw::fmi_mm_owner(mm as *const _, &mut owner) }.then_some(Self(owner))
    }

    /// Returns its PID in the initial namespace.
    pub(crate) fn pid(&self) -> i32 {
        self.0.pid
    }

    /// Returns the id that the kernel's owner slots use for its MM.
    pub(crate) fn mm_id(&self) -> u32 {
        self.0.mm_id
    }

    /// Returns its name.
    pub(crate) fn comm(&self) -> &[u8] {
        self.0
            .comm
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default()
    }
}

/// Returns whether exit hooks see the running task.
pub(crate) fn current_has_return_stack() -> bool {
    // SAFETY: Reads a field of the running task.
    unsafe { raw::fmi_current_has_return_stack() }
}

/// Returns the identity of the running task.
pub(crate) fn current_task() -> usize {
    // SAFETY: There is always a running task.
    unsafe { raw::fmi_current() as usize }
}

/// Returns the thread id of the running task in the initial namespace.
pub(crate) fn current_pid() -> u32 {
    // SAFETY: Only reads the running task.
    unsafe { raw::fmi_current_pid() as u32 }
}

#[kunit_tests(fmi_mm)]
mod tests {
    use super::*;

    #[test]
    fn each_mm_is_there_once() -> Result {
        let init = MmRef::of_pid(1)?;
        let mms = MmStruct::all()?;
        let mut nr = 0;
        for (i, mm) in mms.iter().enumerate() {
            nr += usize::from(mm.id() == init.id());
            assert!(mms.iter().skip(i + 1).all(|other| other.id() != mm.id()));
        }
        assert_eq!(nr, 1);
        Ok(())
    }

    #[test]
    fn thread_of_the_kernel_has_none() {
        // The test is one.
        assert!(MmRef::of_pid(0).is_err_and(|e| e == ESRCH));
        assert!(MmRef::of_pid(i32::MAX).is_err_and(|e| e == ESRCH));
    }
}
