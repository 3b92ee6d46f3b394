// SPDX-License-Identifier: GPL-2.0

//! Debugfs files that keep the module loaded while they are open.
//!
//! [`kernel::debugfs`] leaves `file_operations::owner` null, so closing a file after `rmmod` reads
//! freed module memory (`full_proxy_release()`). These set it.
//!
//! C headers: [`include/linux/debugfs.h`](srctree/include/linux/debugfs.h),
//! [`include/linux/seq_file.h`](srctree/include/linux/seq_file.h)

use core::{
    marker::PhantomData,
    ptr, //
};

use kernel::{
    bindings,
    error::from_result,
    ffi,
    prelude::*,
    seq_file::SeqFile,
    sync::Arc,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

/// Longest text that may be written to a file.
const MAX_WRITE: usize = 128;

/// A file: small text that is made whole by one call.
pub(crate) trait File<T>: 'static {
    /// Name in the directory.
    const NAME: &'static CStr;
    /// Permissions.
    const MODE: u16;
    /// Bytes of text to expect, if it is much: text that does not fit is made once more.
    const SIZE: usize = 0;

    /// Writes the content; an error becomes the result of `read(2)`.
    fn show(_data: &T, _m: &SeqFile) -> Result {
        Ok(())
    }

    /// Takes what was written, without white space at either end; an error becomes the result of
    /// `write(2)`.
    fn store(_data: &T, _text: &str) -> Result {
        Err(EINVAL)
    }
}

/// A file with any number of lines, made one at a time.
pub(crate) trait Table<T>: 'static {
    /// Name in the directory.
    const NAME: &'static CStr;
    /// Permissions.
    const MODE: u16 = 0o400;

    /// Writes the header line.
    fn header(data: &T, m: &SeqFile);

    /// Returns the first line at `position` or later.
    fn seek(data: &T, position: u64) -> Option<u64>;

    /// Writes the line at `position`; nothing if it is gone.
    fn line(data: &T, m: &SeqFile, position: u64);

    /// Takes what was written, as [`File::store`] does.
    fn store(_data: &T, _text: &str) -> Result {
        Err(EINVAL)
    }
}

struct FileOps<T, F>(PhantomData<(T, F)>);

impl<T: Send + Sync + 'static, F: File<T>> FileOps<T, F> {
    const OPS: bindings::file_operations = bindings::file_operations {
        owner: (&raw const bindings::__this_module).cast_mut(),
        open: Some(Self::open),
        read: Some(bindings::seq_read),
        write: Some(Self::write),
        llseek: Some(bindings::seq_lseek),
        release: Some(bindings::single_release),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `inode` and `file` must be valid, and `i_private` must point to a live `T`.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: By the safety requirements of this function.
        unsafe {
            let data = (*inode).i_private;
            match F::SIZE {
                0 => bindings::single_open(file, Some(Self::show), data),
                size => bindings::single_open_size(file, Some(Self::show), data, size),
            }
        }
    }

    /// # Safety
    ///
    /// `seq` must be valid, and its `private` must point to a live `T`.
    unsafe extern "C" fn show(seq: *mut bindings::seq_file, _v: *mut c_void) -> c_int {
        // SAFETY: By the safety requirements of this function.
        let data = unsafe { &*(*seq).private.cast::<T>() };
        // SAFETY: `seq` is valid and only this task uses it during the call.
        let m = unsafe { SeqFile::from_raw(seq) };
        from_result(|| F::show(data, m).map(|()| 0))
    }

    /// # Safety
    ///
    /// `file` must have been opened by [`Self::open`], and `pos` must be valid.
    unsafe extern "C" fn write(
        file: *mut bindings::file,
        buf: *const ffi::c_char,
        len: usize,
        pos: *mut bindings::loff_t,
    ) -> isize {
        // SAFETY: `single_open()` made a seq_file with a live `T` as its private data.
        let data = unsafe {
            &*(*(*file).private_data.cast::<bindings::seq_file>())
                .private
                .cast::<T>()
        };
        // SAFETY: By the safety requirements of this function.
        let pos = unsafe { &mut *pos };
        take_text(buf, len, pos, |text| F::store(data, text))
    }
}

/// Calls `f` with what was written, without white space at either end.
fn take_text(
    buf: *const ffi::c_char,
    len: usize,
    pos: &mut bindings::loff_t,
    f: impl FnOnce(&str) -> Result,
) -> isize {
    from_result(|| {
        let mut text = [0u8; MAX_WRITE];
        let text = text.get_mut(..len).ok_or(EINVAL)?;
        UserSlice::new(UserPtr::from_ptr(buf.cast_mut().cast()), len)
            .reader()
            .read_slice(text)?;
        let text = core::str::from_utf8(text).map_err(|_| EINVAL)?;
        f(text.trim())?;
        *pos += len as bindings::loff_t;
        Ok(len as isize)
    })
}

struct TableOps<T, F>(PhantomData<(T, F)>);

impl<T: Send + Sync + 'static, F: Table<T>> TableOps<T, F> {
    const OPS: bindings::file_operations = bindings::file_operations {
        owner: (&raw const bindings::__this_module).cast_mut(),
        open: Some(Self::open),
        read: Some(bindings::seq_read),
        write: Some(Self::write),
        llseek: Some(bindings::seq_lseek),
        release: Some(bindings::seq_release),
        ..pin_init::zeroed()
    };

    const SEQ_OPS: bindings::seq_operations = bindings::seq_operations {
        start: Some(Self::start),
        stop: Some(Self::stop),
        next: Some(Self::next),
        show: Some(Self::show),
    };

    /// # Safety
    ///
    /// `inode` and `file` must be valid, and `i_private` must point to a live `T`.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: By the safety requirements of this function; on success `private_data` is a
        // seq_file.
        unsafe {
            let rc = bindings::seq_open(file, &Self::SEQ_OPS);
            if rc == 0 {
                (*(*file).private_data.cast::<bindings::seq_file>()).private = (*inode).i_private;
            }
            rc
        }
    }

    /// # Safety
    ///
    /// `file` must have been opened by [`Self::open`], and `pos` must be valid.
    unsafe extern "C" fn write(
        file: *mut bindings::file,
        buf: *const ffi::c_char,
        len: usize,
        pos: *mut bindings::loff_t,
    ) -> isize {
        // SAFETY: `open()` made a seq_file with a live `T` as its private data.
        let data = unsafe {
            &*(*(*file).private_data.cast::<bindings::seq_file>())
                .private
                .cast::<T>()
        };
        // SAFETY: By the safety requirements of this function.
        let pos = unsafe { &mut *pos };
        take_text(buf, len, pos, |text| F::store(data, text))
    }

    /// # Safety
    ///
    /// `seq` and `pos` must be valid, and `private` must point to a live `T`.
    unsafe fn seek(seq: *mut bindings::seq_file, pos: *mut bindings::loff_t) -> *mut c_void {
        // SAFETY: By the safety requirements of this function.
        let (data, position) = unsafe { (&*(*seq).private.cast::<T>(), &mut *pos) };
        // Position 0 is the header, line n is at n + 1.
        if *position > 0 {
            match F::seek(data, (*position - 1) as u64) {
                Some(line) => *position = line as bindings::loff_t + 1,
                None => return ptr::null_mut(),
            }
        }
        pos.cast()
    }

    /// # Safety
    ///
    /// As for [`Self::seek`].
    unsafe extern "C" fn start(
        seq: *mut bindings::seq_file,
        pos: *mut bindings::loff_t,
    ) -> *mut c_void {
        // SAFETY: By the safety requirements of this function.
        unsafe { Self::seek(seq, pos) }
    }

    /// # Safety
    ///
    /// As for [`Self::seek`].
    unsafe extern "C" fn next(
        seq: *mut bindings::seq_file,
        _v: *mut c_void,
        pos: *mut bindings::loff_t,
    ) -> *mut c_void {
        // SAFETY: By the safety requirements of this function.
        unsafe {
            *pos += 1;
            Self::seek(seq, pos)
        }
    }

    extern "C" fn stop(_seq: *mut bindings::seq_file, _v: *mut c_void) {}

    /// # Safety
    ///
    /// `seq` must be valid, its `private` must point to a live `T`, and `v` to a position.
    unsafe extern "C" fn show(seq: *mut bindings::seq_file, v: *mut c_void) -> c_int {
        // SAFETY: By the safety requirements of this function.
        let (data, position) =
            unsafe { (&*(*seq).private.cast::<T>(), *v.cast::<bindings::loff_t>()) };
        // SAFETY: `seq` is valid and only this task uses it during the call.
        let m = unsafe { SeqFile::from_raw(seq) };
        if position == 0 {
            F::header(data, m);
        } else {
            F::line(data, m, (position - 1) as u64);
        }
        0
    }
}

/// A directory and its files; they go away when it is dropped.
///
/// # Invariants
///
/// `dentry` is null, an error pointer or a live directory that this value owns.
pub(crate) struct Dir<T> {
    dentry: *mut bindings::dentry,
    data: Arc<T>,
}

// SAFETY: A dentry may be used and removed from any thread.
unsafe impl<T: Send + Sync> Send for Dir<T> {}
// SAFETY: The methods that take `&self` only create files, which debugfs locks itself.
unsafe impl<T: Send + Sync> Sync for Dir<T> {}

impl<T: Send + Sync + 'static> Dir<T> {
    /// Creates the directory `name` for files that show and change `data`.
    ///
    /// Like everything about debugfs, failure to create it is not an error.
    pub(crate) fn new(name: &CStr, data: Arc<T>) -> Self {
        // SAFETY: `name` is a valid C string and a null parent means the root.
        let dentry = unsafe { bindings::debugfs_create_dir(name.as_char_ptr(), ptr::null_mut()) };
        // INVARIANT: The directory was just created.
        Self { dentry, data }
    }

    fn create(&self, name: &CStr, mode: u16, ops: &'static bindings::file_operations) {
        // SAFETY: `debugfs_create_file_full()` accepts error pointers as parent. `drop()` removes
        // the file before `data` is released, and `ops` expects a `T` as private data.
        unsafe {
            bindings::debugfs_create_file_full(
                name.as_char_ptr(),
                mode,
                self.dentry,
                Arc::as_ptr(&self.data).cast_mut().cast(),
                ptr::null(),
                ops,
            )
        };
    }

    /// Adds a file.
    pub(crate) fn file<F: File<T>>(self) -> Self {
        self.create(F::NAME, F::MODE, &FileOps::<T, F>::OPS);
        self
    }

    /// Adds a table.
    pub(crate) fn table<F: Table<T>>(self) -> Self {
        self.create(F::NAME, F::MODE, &TableOps::<T, F>::OPS);
        self
    }
}

impl<T> Drop for Dir<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; this waits for running readers and writers.
        unsafe { bindings::debugfs_remove(self.dentry) };
    }
}
