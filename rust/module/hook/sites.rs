// SPDX-License-Identifier: GPL-2.0

//! Where the hooked functions are.
//!
//! `kallsyms_lookup_name()` is not exported, and `ftrace_set_filter()` goes through all functions of
//! the kernel for each name. A disabled `fprobe` resolves all names in one pass; its list of
//! addresses is read, and the name of each is asked for, so that nothing depends on their order.
//!
//! C headers: [`include/linux/fprobe.h`](srctree/include/linux/fprobe.h),
//! [`include/linux/kallsyms.h`](srctree/include/linux/kallsyms.h)

use kernel::{
    bindings,
    error::to_result,
    ffi::c_char,
    prelude::*, //
};

use crate::raw;

/// Slots of the table: a power of two, several times the number of functions.
const SLOTS: usize = 64;

/// The addresses of some functions, as hooks report them, and which function each belongs to.
#[derive(Clone)]
pub(crate) struct Sites<const N: usize> {
    ips: [usize; N],
    /// Open addressing by address: position in the list of names plus 1, 0 is free.
    slots: [u8; SLOTS],
}

fn slot_of(ip: usize, probe: usize) -> usize {
    (ip >> 4).wrapping_add(probe) % SLOTS
}

/// Addresses by name.
pub(crate) struct Addresses(KVec<(&'static CStr, usize)>);

impl Addresses {
    /// Finds the functions with these names, each of which stands there once.
    ///
    /// # Errors
    ///
    /// `ESRCH` or `ENOENT` if a function does not exist in this kernel or cannot be hooked, `ENOMEM`.
    pub(crate) fn find(names: &[&'static CStr]) -> Result<Self> {
        let mut found = KVec::with_capacity(names.len(), GFP_KERNEL)?;
        for ip in resolve(names)? {
            let mut buffer = [0; raw::FMI_KSYM_SYMBOL_LEN as usize];
            let symbol = symbol_at(ip, &mut buffer).ok_or(ENOENT)?;
            let name = names.iter().find(|name| name.to_bytes() == symbol);
            found.push((*name.ok_or(ENOENT)?, ip), GFP_KERNEL)?;
        }
        Ok(Self(found))
    }

    /// Returns the table for some of these functions.
    ///
    /// # Errors
    ///
    /// `ENOENT` if one is not among them.
    pub(crate) fn of<const N: usize>(&self, names: &[&'static CStr; N]) -> Result<Sites<N>> {
        let mut sites = Sites {
            ips: [0; N],
            slots: [0; SLOTS],
        };
        for ((position, name), known) in (1..).zip(names).zip(sites.ips.iter_mut()) {
            let found = self.0.iter().find(|(n, _)| n.to_bytes() == name.to_bytes());
            let (_, ip) = *found.ok_or(ENOENT)?;
            *known = ip;
            let free = (0..SLOTS)
                .map(|probe| slot_of(ip, probe))
                .find(|slot| sites.slots.get(*slot) == Some(&0));
            let slot = free.and_then(|slot| sites.slots.get_mut(slot));
            *slot.ok_or(ENOENT)? = position;
        }
        Ok(sites)
    }
}

impl<const N: usize> Sites<N> {
    /// Returns the addresses, in the order of the names.
    pub(crate) fn ips(&self) -> [usize; N] {
        self.ips
    }

    /// Returns the position in the list of names of the function that was hooked at `ip`.
    #[inline]
    pub(crate) fn lookup(&self, ip: usize) -> Option<usize> {
        for probe in 0..SLOTS {
            let position = usize::from(*self.slots.get(slot_of(ip, probe))?).checked_sub(1)?;
            if self.ips.get(position) == Some(&ip) {
                return Some(position);
            }
        }
        None
    }
}

/// Returns the addresses of the functions with these names, in any order.
fn resolve(names: &[&'static CStr]) -> Result<KVec<usize>> {
    let fprobe = raw::fprobe {
        flags: raw::FPROBE_FL_DISABLED,
        entry_handler: Some(nothing),
        ..pin_init::zeroed()
    };
    let mut fprobe = KBox::new(fprobe, GFP_KERNEL)?;
    // The kernel sorts the array of names.
    let mut pointers = KVec::with_capacity(names.len(), GFP_KERNEL)?;
    for name in names {
        pointers.push(name.as_char_ptr(), GFP_KERNEL)?;
    }
    let mut ips = KVec::with_capacity(names.len(), GFP_KERNEL)?;
    // SAFETY: The fprobe is initialised and stays where it is until it is unregistered below.
    to_result(unsafe {
        raw::register_fprobe_syms(&mut *fprobe, pointers.as_mut_ptr(), names.len() as c_int)
    })?;
    for i in 0..names.len() {
        // SAFETY: The fprobe is registered with that many functions.
        let ip = unsafe { raw::fmi_fprobe_addr(&*fprobe, i as u32) };
        // Cannot fail: there is room.
        let _ = ips.push(ip, GFP_KERNEL);
    }
    // SAFETY: It is registered; nobody else uses it.
    to_result(unsafe { raw::unregister_fprobe(&mut *fprobe) })?;
    Ok(ips)
}

/// Handler of an fprobe that is disabled: never called.
extern "C" fn nothing(
    _fp: *mut raw::fprobe,
    _entry_ip: c_ulong,
    _ret_ip: c_ulong,
    _regs: *mut bindings::ftrace_regs,
    _data: *mut c_void,
) -> c_int {
    0
}

/// Returns whether `ip` is in one of these functions; `None` if it is in none that has a name.
pub(crate) fn is_in(ip: usize, names: &[&CStr]) -> Option<bool> {
    let mut buffer = [0; raw::FMI_KSYM_SYMBOL_LEN as usize];
    let symbol = symbol_at(ip, &mut buffer)?;
    // A number is printed for what has no name.
    (!symbol.starts_with(b"0x")).then(|| names.iter().any(|name| name.to_bytes() == symbol))
}

fn symbol_at(ip: usize, buffer: &mut [u8; raw::FMI_KSYM_SYMBOL_LEN as usize]) -> Option<&[u8]> {
    // SAFETY: The buffer has the size that sprint_symbol_no_offset() asks for.
    unsafe { bindings::sprint_symbol_no_offset(buffer.as_mut_ptr().cast::<c_char>(), ip) };
    CStr::from_bytes_until_nul(buffer).ok().map(CStr::to_bytes)
}
