// SPDX-License-Identifier: GPL-2.0

//! What an evaluation depends on, as a few words.

use super::entry::{
    Numbers,
    ADOPTED, //
};
use crate::bits::bits_of;
use crate::memo::{
    Key,
    PLAIN_WORDS, //
};
use crate::{
    FolioEntry,
    FolioView,
    KernelCounts,
    Kind,
    Operation,
    Sketches, //
};

/// References from which on an evaluation is not kept: what depends on their number is near.
const MANY_REFERENCES: u32 = 1 << 28;

/// Returns the flags that the verdicts read of the kernel's counters.
#[inline]
fn kernel_flags(k: &KernelCounts) -> u32 {
    [
        k.per_page,
        k.maybe_mapped_shared,
        k.partially_mapped,
        k.swapcache,
        k.anon,
    ]
    .into_iter()
    .fold(1, |flags, flag| (flags << 1) | u32::from(flag))
}

/// Adds to a key what the verdicts read of the kernel's counters; returns whether it is to be kept.
#[inline]
fn add_kernel(key: &mut Key, total: u64, kernel: Option<&KernelCounts>) -> bool {
    let Some(k) = kernel else {
        return true;
    };
    let flags = kernel_flags(k);
    key.push_pair(bits_of(k.large), bits_of(k.entire));
    key.push_pair(bits_of(k.nr_pages_mapped), flags);
    k.refcount.unsigned_abs() <= MANY_REFERENCES && total <= u64::from(MANY_REFERENCES)
}

/// Returns the same for a plain folio without a look at its records, by its [`FolioEntry::numbers`], if no
/// page is mapped apart from others, and not by many.
#[inline]
pub(crate) fn plain_key(
    entry: &FolioEntry,
    numbers: Numbers,
    kernel: Option<&KernelCounts>,
    what: (bool, bool),
) -> Option<[u64; PLAIN_WORDS]> {
    // Each record is in an MM and a VMA of its own, and maps the whole folio.
    if entry.history != 0 {
        return None;
    }
    let entire = numbers.entire();
    let Numbers(numbers) = numbers;
    let (model, ask) = what;
    let flags = u64::from(model)
        | (u64::from(ask) << 1)
        | (u64::from(entry.has(ADOPTED)) << 2)
        | (u64::from(kernel.is_some()) << 3)
        | (1 << 4);
    let numbers = (flags << 48) | u64::from(numbers);
    let (order, kind, operation) = place_bytes(entry.order, entry.kind, entry.operation);
    let place = u64::from(u32::from_le_bytes([order, kind, operation, 1]));
    let Some(k) = kernel else {
        return Some([numbers, place, 0]);
    };
    // All counters are those of the state, or it is another key.
    let few = k.refcount.unsigned_abs() <= MANY_REFERENCES;
    let same = bits_of(k.entire) == entire;
    (few && same).then_some([
        numbers,
        place | (u64::from(bits_of(k.large)) << 32),
        u64::from(bits_of(k.nr_pages_mapped)) | (u64::from(kernel_flags(k)) << 32),
    ])
}

/// Returns order, type and operation as bytes.
#[inline]
fn place_bytes(order: u8, kind: Kind, operation: Operation) -> (u8, u8, u8) {
    let kind = u8::try_from(kind.index()).unwrap_or(u8::MAX);
    let operation = u8::try_from(operation.index()).unwrap_or(u8::MAX);
    (order, kind, operation)
}

/// Adds to a key all that an evaluation depends on that nobody asks for; returns whether it is to be
/// kept.
///
/// `what` says what is evaluated: the definitions, and those that read the kernel's counters.
pub(crate) fn add_state(
    key: &mut Key,
    v: &FolioView,
    sketches: &Sketches,
    operation: Operation,
    what: (bool, bool),
) -> bool {
    let (model, ask) = what;
    let flags = [
        false,
        model,
        ask,
        v.adopted,
        v.kernel.is_some(),
        v.shared_table,
        v.asker_mm == 0,
    ];
    let flags = flags
        .into_iter()
        .fold(1u32, |flags, flag| (flags << 1) | u32::from(flag));
    let (order, kind, operation) = place_bytes(v.order, v.kind, operation);
    key.push_pair(flags, u32::from_le_bytes([order, kind, operation, 0]));
    key.push(v.total);
    key.push_pair(v.entire, v.mm);
    key.push_pair(v.vma, v.vma_pt);
    key.push_pair(v.full, v.first_page);
    key.push_pair(v.nr_pages_mapped, v.nr_pte_mapped);
    key.push_pair(v.min_page, v.min_mapped_page);
    key.push(u64::from(v.max_page));
    let keep = add_kernel(key, v.total, v.kernel.as_ref());
    sketches.add_to(key, v);
    keep && key.is_whole()
}
