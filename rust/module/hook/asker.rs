// SPDX-License-Identifier: GPL-2.0

//! Typed arguments of the functions that ask about a folio.
//!
//! The prototypes are those of `mm/memory.c`, `mm/huge_memory.c`, `mm/migrate.c`,
//! `mm/mempolicy.c`, `mm/rmap.c` and `mm/vmscan.c` of 7.2. What the kernel asks for only under a
//! condition is read only under that condition.

use fmi_model::{
    Asker,
    Asking,
    AskingPage, //
};
use kernel::bindings;

use super::args::Args;
use crate::raw;

/// Returns whether the hooked function runs with interrupts off.
#[inline]
pub(crate) fn irqs_off() -> bool {
    // SAFETY: May be called in any context.
    unsafe { raw::fmi_irqs_off() }
}

/// Says where `do_wp_page()` is, before it is hooked; 0 if it is not.
pub(crate) fn wp_is_at(ip: usize) {
    // SAFETY: May be called in any context.
    unsafe { raw::fmi_wp_is_at(ip) }
}

/// Reads what the function `asker` asks; `None` if it does not ask in this call, or not about a
/// folio that may be tracked.
///
/// Context: entry of the hooked function. Takes a PTL for a moment where the function is about to.
#[inline]
pub(crate) fn read(asker: Asker, args: &Args<'_>) -> Option<Asking> {
    let folio = match asker {
        Asker::WpPte | Asker::WpPmd | Asker::FreePmd | Asker::ColdPmd => {
            return read_entry(asker, args)
        }
        Asker::Migrate | Asker::RemoveMapping => args.get(1),
        Asker::MigrateMapping => args.get(2),
        Asker::LazyfreePmd => args.get(3),
        _ => args.get(0),
    } as *mut bindings::folio;
    let mut pfn = 0;
    // SAFETY: By the prototypes this is null or a folio, which the caller of the function keeps.
    if !unsafe { raw::fmi_asked_folio(folio, &mut pfn) } {
        return None;
    }
    asks(asker, folio, args).then_some(Asking {
        asker,
        pfn: pfn as u64,
        own: own(asker, args),
        page: None,
    })
}

/// Returns how many references to the folio the function, or its caller, holds itself.
fn own(asker: Asker, args: &Args<'_>) -> i32 {
    match asker {
        Asker::MigrateMapping => (args.get(3) as i32).saturating_add(1),
        Asker::Split
        | Asker::SplitUnmapped
        | Asker::Migrate
        | Asker::RemoveMapping
        | Asker::LazyfreePte
        | Asker::LazyfreePmd => 1,
        _ => 0,
    }
}

/// Returns whether the function asks about `folio`, which is large, in this call.
fn asks(asker: Asker, folio: *mut bindings::folio, args: &Args<'_>) -> bool {
    let vma = |n| args.get(n) as *const bindings::vm_area_struct;
    // SAFETY: The arguments are as in the prototypes. VMAs and faults are kept by the locks with
    // which the functions are called, the folio by its caller.
    unsafe {
        match asker {
            Asker::NumaFault => {
                let vmf = args.get(1) as *const bindings::vm_fault;
                raw::fmi_vma_shared(raw::fmi_fault_vma(vmf))
            }
            Asker::NumaPrepare => !raw::fmi_folio_swapbacked(folio) && raw::fmi_vma_exec(vma(1)),
            Asker::ProtNuma => raw::fmi_vma_cow(vma(1)),
            Asker::Mbind => !raw::fmi_mbind_move_all(args.get(2)),
            Asker::Referenced => {
                raw::fmi_folio_anon(folio)
                    && raw::fmi_folio_swapbacked(folio)
                    && raw::fmi_vma_reaped(vma(1))
            }
            Asker::DeferredSplit => {
                // The lowest byte is a bool.
                args.get(1) & 0xff != 0
                    && raw::fmi_folio_order(folio) > 1
                    && !raw::fmi_folio_swapcache(folio)
            }
            Asker::LazyfreePte => {
                raw::fmi_folio_anon(folio)
                    && !raw::fmi_folio_swapbacked(folio)
                    && raw::fmi_lazyfree_by_ptes(folio)
            }
            Asker::LazyfreePmd => raw::fmi_folio_anon(folio) && !raw::fmi_folio_swapbacked(folio),
            Asker::Split | Asker::SplitUnmapped => true,
            Asker::Migrate | Asker::MigrateMapping | Asker::RemoveMapping => true,
            // These have no folio among their arguments.
            Asker::WpPte | Asker::WpPmd | Asker::FreePmd | Asker::ColdPmd => false,
        }
    }
}

/// Reads what a function asks that finds the folio through a page-table entry.
fn read_entry(asker: Asker, args: &Args<'_>) -> Option<Asking> {
    let mut asked = raw::fmi_asked::default();
    let vmf = args.get(0) as *const bindings::vm_fault;
    // SAFETY: The arguments are as in the prototypes: faults are live, and the mmap lock or VMA lock
    // keeps VMA and PMD. No PTL is held at the entry of the functions that are about to take it.
    let found = unsafe {
        match asker {
            Asker::WpPte => raw::fmi_fault_pte(vmf, &mut asked),
            Asker::WpPmd => raw::fmi_fault_pmd(vmf, &mut asked),
            Asker::FreePmd => raw::fmi_pmd_folio(
                args.get(1) as *const _,
                args.get(2) as *mut _,
                &mut asked.pfn,
            ),
            Asker::ColdPmd => {
                let vma = raw::fmi_walked_vma(args.get(3));
                raw::fmi_pmd_folio(vma, args.get(0) as *mut _, &mut asked.pfn)
            }
            _ => false,
        }
    };
    let page = AskingPage {
        mm: asked.mm as u64,
        mm_id: asked.mm_id,
        index: asked.index,
        anon_exclusive: asked.anon_exclusive,
    };
    found.then_some(Asking {
        asker,
        pfn: asked.pfn as u64,
        own: 0,
        page: matches!(asker, Asker::WpPte | Asker::WpPmd).then_some(page),
    })
}
