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

    /// The same, and those of `wanted` that exist and can be hooked.
    ///
    /// # Errors
    ///
    /// As [`Self::find`], for `names` only.
    pub(crate) fn find_with(
        mut names: KVec<&'static CStr>,
        wanted: &[&'static CStr],
    ) -> Result<Self> {
        let nr = names.len();
        names.extend_from_slice(wanted, GFP_KERNEL)?;
        // One pass over all symbols if all are there.
        if let Ok(all) = Self::find(&names) {
            return Ok(all);
        }
        names.truncate(nr);
        let mut found = Self::find(&names)?;
        for site in Self::find_some(wanted)?.0 {
            found.0.push(site, GFP_KERNEL)?;
        }
        Ok(found)
    }

    /// Finds those that exist and can be hooked.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn find_some(names: &[&'static CStr]) -> Result<Self> {
        let mut all = Self(KVec::with_capacity(names.len(), GFP_KERNEL)?);
        // A half that has a missing one is tried again by halves: a missing name costs as many
        // passes as the number of names has bits, twice.
        let mut parts = KVec::new();
        parts.push((0, names.len()), GFP_KERNEL)?;
        while let Some((start, end)) = parts.pop() {
            let Some(part) = names.get(start..end).filter(|part| !part.is_empty()) else {
                continue;
            };
            match Self::find(part) {
                Ok(found) => {
                    for site in found.0 {
                        all.0.push(site, GFP_KERNEL)?;
                    }
                }
                Err(ENOMEM) => return Err(ENOMEM),
                Err(_) if part.len() == 1 => {}
                Err(_) => {
                    let middle = start + part.len() / 2;
                    parts.push((start, middle), GFP_KERNEL)?;
                    parts.push((middle, end), GFP_KERNEL)?;
                }
            }
        }
        Ok(all)
    }

    /// Returns the table for those of these functions that were found.
    pub(crate) fn of_some<const N: usize>(&self, names: &[&'static CStr; N]) -> Sites<N> {
        let mut sites = Sites::new();
        for (position, name) in names.iter().enumerate() {
            let found = self.0.iter().find(|(n, _)| n.to_bytes() == name.to_bytes());
            if let Some((_, ip)) = found {
                sites.enter(position, *ip);
            }
        }
        sites
    }
}

impl<const N: usize> Sites<N> {
    /// Returns the table of no function.
    fn new() -> Self {
        Self {
            ips: [0; N],
            slots: [0; SLOTS],
        }
    }

    /// Enters the function at this position of the list of names.
    fn enter(&mut self, position: usize, ip: usize) {
        let free = (0..SLOTS)
            .map(|probe| slot_of(ip, probe))
            .find(|slot| self.slots.get(*slot) == Some(&0));
        let slot = free.and_then(|slot| self.slots.get_mut(slot));
        let (Some(slot), Some(known)) = (slot, self.ips.get_mut(position)) else {
            return;
        };
        if let Ok(position) = u8::try_from(position + 1) {
            *slot = position;
            *known = ip;
        }
    }

    /// Returns whether there is a function at this position of the list of names.
    pub(crate) fn has(&self, position: usize) -> bool {
        self.ips.get(position).is_some_and(|ip| *ip != 0)
    }

    /// Returns whether there is no function.
    pub(crate) fn is_empty(&self) -> bool {
        self.ips.iter().all(|ip| *ip == 0)
    }

    /// Returns the addresses, in the order of the names; 0 for a function that is not there.
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

/// Returns the addresses that are not 0, and how many they are.
pub(super) fn present<const N: usize>(ips: [usize; N]) -> ([usize; N], usize) {
    let mut there = [0; N];
    let mut nr = 0;
    for (to, ip) in there.iter_mut().zip(ips.into_iter().filter(|ip| *ip != 0)) {
        *to = ip;
        nr += 1;
    }
    (there, nr)
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

/// Returns whether `ip` is in one of these functions, or in a part or clone of one (`.isra.0`).
pub(crate) fn is_in(ip: usize, names: &[&CStr]) -> bool {
    let mut buffer = [0; raw::FMI_KSYM_SYMBOL_LEN as usize];
    let symbol = symbol_at(ip, &mut buffer).unwrap_or_default();
    let name = symbol.split(|byte| *byte == b'.').next();
    names.iter().any(|known| name == Some(known.to_bytes()))
}

/// Calls `f` with the name of the function that `ip` is in; a number is given for what has no name.
///
/// Returns the default if the name is no string.
pub(crate) fn with_symbol<R>(ip: usize, f: impl FnOnce(&[u8]) -> R) -> R
where
    R: Default,
{
    let mut buffer = [0; raw::FMI_KSYM_SYMBOL_LEN as usize];
    symbol_at(ip, &mut buffer).map_or_else(R::default, f)
}

fn symbol_at(ip: usize, buffer: &mut [u8; raw::FMI_KSYM_SYMBOL_LEN as usize]) -> Option<&[u8]> {
    // SAFETY: The buffer has the size that sprint_symbol_no_offset() asks for.
    unsafe { bindings::sprint_symbol_no_offset(buffer.as_mut_ptr().cast::<c_char>(), ip) };
    CStr::from_bytes_until_nul(buffer).ok().map(CStr::to_bytes)
}

#[kunit_tests(fmi_sites)]
mod tests {
    use super::*;

    const THERE: &CStr = c"copy_page_range";
    const THERE_TOO: &CStr = c"folio_remove_rmap_ptes";
    const MISSING: &CStr = c"fmi_no_such_function";

    #[test]
    fn addresses_are_told_apart_that_share_a_slot() {
        let mut sites = Sites::<3>::new();
        assert!(sites.is_empty() && sites.lookup(0x1000).is_none());
        let (a, b) = (0x1000, 0x1000 + 16 * SLOTS);
        sites.enter(0, a);
        sites.enter(2, b);
        assert_eq!(slot_of(a, 0), slot_of(b, 0));
        assert_eq!((sites.lookup(a), sites.lookup(b)), (Some(0), Some(2)));
        assert_eq!(sites.lookup(0x1000 + 32 * SLOTS), None);
        assert!(sites.has(0) && !sites.has(1) && sites.has(2) && !sites.has(3));
        assert_eq!(present(sites.ips()), ([a, b, 0], 2));
    }

    #[test]
    fn table_wraps_round() {
        let mut sites = Sites::<2>::new();
        let last = 16 * (SLOTS - 1);
        sites.enter(0, last);
        sites.enter(1, last + 16 * SLOTS);
        assert_eq!(sites.lookup(last), Some(0));
        assert_eq!(sites.lookup(last + 16 * SLOTS), Some(1));
    }

    #[test]
    fn functions_are_found_by_name() -> Result {
        let found = Addresses::find(&[THERE, THERE_TOO])?;
        let sites = found.of_some(&[THERE_TOO, THERE]);
        let [too, there] = sites.ips();
        assert!(there != 0 && too != 0 && there != too);
        assert_eq!((sites.lookup(too), sites.lookup(there)), (Some(0), Some(1)));
        assert!(with_symbol(there, |name| name == THERE.to_bytes()));
        assert!(!is_in(too, &[THERE]));
        assert!(is_in(too, &[THERE, THERE_TOO]));
        assert!(!is_in(1, &[THERE]));
        Ok(())
    }

    #[test]
    fn missing_function_is_missed() -> Result {
        assert!(Addresses::find(&[MISSING]).is_err());
        let mut needed = KVec::new();
        needed.push(THERE, GFP_KERNEL)?;
        let found = Addresses::find_with(needed, &[MISSING, THERE_TOO])?;
        let sites = found.of_some(&[THERE, MISSING, THERE_TOO]);
        assert!(sites.has(0) && !sites.has(1) && sites.has(2));
        Ok(())
    }
}
