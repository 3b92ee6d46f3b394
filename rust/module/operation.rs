// SPDX-License-Identifier: GPL-2.0

//! Which operation an rmap call belongs to, by the symbol of its caller.
//!
//! Symbols are looked up once per call site; there are some thirty. What is known of a site is kept
//! in a fixed table without locks, by return address. A symbol that the model does not know is
//! [`Operation::Other`]; its calls are counted and `stats` names it.

use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

use fmi_model::{
    Operation,
    Site,
    VmaState,
    NR_OPERATIONS, //
};

use crate::{
    compat::read_once,
    hook::{
        args::Vma,
        sites, //
    },
    raw, //
};

/// Places of the table: a power of two, several times the number of call sites.
const PLACES: usize = 128;

/// Places that are tried for an address.
const PROBES: usize = 8;

/// Most unknown callers that `stats` names.
const MAX_NAMED: u32 = 16;

/// The site has no symbol that the model knows.
const UNKNOWN: u32 = 256;

/// A call site.
struct Place {
    /// The return address of its calls, 0 if the place is free. Never changes once it is set.
    address: Atomic<usize>,
    /// What is known of it: [`Site::pack`] or [`UNKNOWN`]; 0 is not known yet.
    site: Atomic<u32>,
    /// Calls of an unknown site.
    calls: Atomic<u64>,
}

static PLACE: [Place; PLACES] = [const {
    Place {
        address: Atomic::new(0),
        site: Atomic::new(0),
        calls: Atomic::new(0),
    }
}; PLACES];

const _: () = assert!(NR_OPERATIONS <= raw::FMI_MAX_OPERATIONS as usize);

/// Calls whose caller is unknown.
static UNKNOWN_CALLS: Atomic<u64> = Atomic::new(0);

/// Calls whose site found no place: [`Operation::Other`].
static OVERFLOW: Atomic<u64> = Atomic::new(0);

/// Returns the operation of the rmap call that returns to `caller` and is about `vma`, and counts
/// the call.
///
/// Context: entry of the rmap function, under the PTL. Takes no lock, except that a symbol is looked
/// up when a caller is first seen.
#[inline]
pub(crate) fn of_call(caller: usize, vma: &Vma<'_>) -> Operation {
    let operation = match site_of(caller) {
        Some(site) if site.needs_vma() => site.operation(state_of(vma)),
        Some(site) => site.operation(VmaState::default()),
        None => Operation::Other,
    };
    // SAFETY: Preemption is off under the PTL.
    unsafe { raw::fmi_operation_add(operation.index() as u32) };
    operation
}

/// Returns whether the call of `folio_move_anon_rmap()` that returns to `caller` is one of UFFDIO_MOVE; `None` if
/// the caller is not known.
///
/// Context: as [`of_call`].
pub(crate) fn is_move(caller: usize) -> Option<bool> {
    site_of(caller).map(|site| site == Site::Is(Operation::Move))
}

fn state_of(vma: &Vma<'_>) -> VmaState {
    let mut state = raw::fmi_vma_state::default();
    // SAFETY: A `Vma` is valid, and so is its MM.
    unsafe { raw::fmi_vma_state_of(vma.as_ptr(), &mut state) };
    VmaState {
        exiting: state.exiting,
        detached: state.detached,
        write_locked: state.write_locked,
    }
}

#[inline]
fn site_of(caller: usize) -> Option<Site> {
    if caller == 0 {
        // That is what a free place has.
        return None;
    }
    let Some(place) = place_of(caller) else {
        // A symbol is too dear to be looked up each time.
        OVERFLOW.fetch_add(1, Relaxed);
        return None;
    };
    let mut packed = read_once(&place.site);
    if packed == 0 {
        packed = look_up(caller);
        place.site.store(packed, Relaxed);
    }
    let site = Site::unpack(packed);
    if site.is_none() {
        place.calls.fetch_add(1, Relaxed);
        UNKNOWN_CALLS.fetch_add(1, Relaxed);
    }
    site
}

/// Returns the place of a call site, which takes a free one if it has none; `None` if there is no
/// room.
#[inline]
fn place_of(caller: usize) -> Option<&'static Place> {
    // Addresses of one function differ in low bits, on some architectures not in the lowest two.
    let hash = (caller as u64)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_shr(u64::BITS - PLACES.ilog2()) as usize;
    for probe in 0..PROBES {
        let place = PLACE.get(hash.wrapping_add(probe) % PLACES)?;
        // ORDERING: The address stands for itself.
        let mut address = read_once(&place.address);
        if address == 0 {
            address = match place.address.cmpxchg(0, caller, Relaxed) {
                Ok(_) => caller,
                Err(other) => other,
            };
        }
        if address == caller {
            return Some(place);
        }
    }
    None
}

fn look_up(caller: usize) -> u32 {
    // The call may be the last instruction of its function.
    sites::with_symbol(caller.wrapping_sub(1), |symbol| {
        Site::of_symbol(symbol).map_or(UNKNOWN, Site::pack)
    })
}

/// Writes the lines of `stats`.
pub(crate) fn show(m: &SeqFile) {
    for operation in Operation::ALL {
        // SAFETY: Only reads counters.
        let calls = unsafe { raw::fmi_operation_sum(operation.index() as u32) };
        seq_print!(m, "calls_{}: {calls}\n", operation.name());
    }
    seq_print!(
        m,
        "operation_unknown: {}\noperation_overflow: {}\noperation_unknown_callers:",
        UNKNOWN_CALLS.load(Relaxed),
        OVERFLOW.load(Relaxed)
    );
    let unknown = PLACE.iter().filter(|p| p.site.load(Relaxed) == UNKNOWN);
    let (mut named, mut more) = (0, 0);
    for place in unknown {
        let calls = place.calls.load(Relaxed);
        if calls == 0 {
            continue;
        }
        if named == MAX_NAMED {
            more += 1;
            continue;
        }
        named += 1;
        let address = place.address.load(Relaxed).wrapping_sub(1);
        sites::with_symbol(address, |symbol| {
            let name = core::str::from_utf8(symbol).unwrap_or("?");
            seq_print!(m, " {name}={calls}");
        });
    }
    match (named, more) {
        (0, _) => seq_print!(m, " none\n"),
        (_, 0) => seq_print!(m, "\n"),
        _ => seq_print!(m, " and {more} more\n"),
    }
}

/// Sets the counts to zero; what is known of call sites stays.
pub(crate) fn reset() {
    for place in &PLACE {
        place.calls.store(0, Relaxed);
    }
    // SAFETY: Only writes counters.
    unsafe { raw::fmi_operation_reset() };
    UNKNOWN_CALLS.store(0, Relaxed);
    OVERFLOW.store(0, Relaxed);
}

#[kunit_tests(fmi_operation)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_known_by_their_symbol() -> Result {
        let names = [c"folio_remove_rmap_ptes", c"copy_page_range"];
        let found = sites::Addresses::find(&names)?;
        let [remove, copy] = found.of_some(&names).ips();
        // As return addresses: behind the first byte of the function.
        assert_eq!(look_up(remove + 1), UNKNOWN);
        let site = Site::unpack(look_up(copy + 1));
        let operation = site.map(|site| site.operation(VmaState::default()));
        assert_eq!(operation, Some(Operation::Fork));
        // What is in no function has a number for a name.
        assert_eq!(look_up(2), UNKNOWN);
        assert!(Site::unpack(UNKNOWN).is_none());
        Ok(())
    }
}
