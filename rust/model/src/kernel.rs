// SPDX-License-Identifier: GPL-2.0

//! The kernel's own counters of a large folio, and what they must be.
//!
//! C header: `include/linux/mm_types.h` (`struct folio`), `include/linux/rmap.h`,
//! `mm/internal.h`.

use crate::{
    FolioView,
    Kind, //
};

/// What an entire mapping adds to `_nr_pages_mapped`, once: `ENTIRELY_MAPPED` of `mm/internal.h`.
pub const ENTIRELY_MAPPED: i32 = 0x80_0000;

/// The kernel's counters of a large folio, as counts: the bias of -1 is taken off.
///
/// The kernel side has C fill it in (`struct fmi_counts`), so its layout is C's.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KernelCounts {
    /// `_large_mapcount` + 1: mappings.
    pub large: i32,
    /// `_entire_mapcount` + 1: PMD and PUD mappings.
    pub entire: i32,
    /// `_nr_pages_mapped` as stored: pages with PTE mappings, plus [`ENTIRELY_MAPPED`].
    pub nr_pages_mapped: i32,
    /// The reference count.
    pub refcount: i32,
    /// `_mm_id[]`; 0 is a free slot.
    pub mm_id: [u32; 2],
    /// `_mm_id_mapcount[]` + 1: mappings that the slot accounts for.
    pub mm_id_mapcount: [i32; 2],
    /// `folio_expected_ref_count()`: references by mappings, page cache, swap cache and PG_private.
    pub expected_refs: i32,
    /// CONFIG_PAGE_MAPCOUNT: `_nr_pages_mapped` and the per-page mapcounts are maintained.
    pub per_page: bool,
    /// The "mapped shared" bit of `_mm_ids`.
    pub shared_bit: bool,
    /// `folio_maybe_mapped_shared()`.
    pub maybe_mapped_shared: bool,
    /// PG_partially_mapped.
    pub partially_mapped: bool,
    /// The folio is in the swap cache.
    pub swapcache: bool,
    /// The folio is anonymous.
    pub anon: bool,
    /// The order.
    pub order: u8,
}

/// A counter of the kernel, or an invariant of its mm id slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// The order of the folio.
    Order,
    /// `_large_mapcount` + 1 is the number of mappings.
    Large,
    /// `_entire_mapcount` + 1 is the number of entire mappings.
    Entire,
    /// `_nr_pages_mapped` is the number of PTE-mapped pages, plus [`ENTIRELY_MAPPED`].
    NrPagesMapped,
    /// At most as many mm id slots are in use as MMs map the folio (I1, I4); expected is the most.
    Slots,
    /// The slots together account for at most all mappings, and a slot in use for at least one
    /// (I1); expected is the limit that was broken.
    SlotCounts,
    /// The slots name different MMs (I3); expected is the other slot's id to differ from.
    SlotIds,
    /// "Mapped shared" is set if more than one MM maps the folio (I2), and clear if none (I4).
    SharedBit,
}

/// Number of [`Field`]s.
pub const NR_FIELDS: usize = 8;

impl Field {
    /// All fields, in the order of the checks.
    pub const ALL: [Field; NR_FIELDS] = [
        Field::Order,
        Field::Large,
        Field::Entire,
        Field::NrPagesMapped,
        Field::Slots,
        Field::SlotCounts,
        Field::SlotIds,
        Field::SharedBit,
    ];

    /// Returns the name used in files.
    pub const fn name(self) -> &'static str {
        match self {
            Field::Order => "order",
            Field::Large => "large_mapcount",
            Field::Entire => "entire_mapcount",
            Field::NrPagesMapped => "nr_pages_mapped",
            Field::Slots => "mm_id_slots",
            Field::SlotCounts => "mm_id_mapcount",
            Field::SlotIds => "mm_id",
            Field::SharedBit => "mapped_shared",
        }
    }
}

/// The fields in which the kernel differs from the shadow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mismatch {
    /// Expected and actual value by position in [`Field::ALL`], for those that differ.
    values: [Option<(i64, i64)>; NR_FIELDS],
}

impl Mismatch {
    /// Returns whether no field differs.
    pub fn is_empty(&self) -> bool {
        self.values.iter().all(Option::is_none)
    }

    /// Returns the fields that differ, with the expected and the actual value.
    pub fn iter(&self) -> impl Iterator<Item = (Field, i64, i64)> + '_ {
        Field::ALL
            .iter()
            .zip(&self.values)
            .filter_map(|(field, value)| value.map(|(expected, actual)| (*field, expected, actual)))
    }

    /// Returns the expected and the actual value of a field that differs.
    pub fn get(&self, field: Field) -> Option<(i64, i64)> {
        self.iter()
            .find(|(f, _, _)| *f == field)
            .map(|(_, expected, actual)| (expected, actual))
    }

    /// Returns that of a mapped folio that is not there.
    pub(crate) fn gone(order: u8) -> Self {
        let mut m = Self::default();
        m.note(Field::Order, false, i64::from(order), -1);
        m
    }

    /// Notes the values of a field unless the kernel is right.
    fn note(&mut self, field: Field, right: bool, expected: i64, actual: i64) {
        if right {
            return;
        }
        for (f, value) in Field::ALL.iter().zip(&mut self.values) {
            if *f == field {
                *value = Some((expected, actual));
            }
        }
    }
}

/// The result of a comparison with the kernel's counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compare {
    /// Calls may be in flight, or a copy or move that involves the folio is: nothing can be said.
    NotQuiescent,
    /// The counters are what the shadow says.
    Equal,
    /// They are not.
    Differs(Mismatch),
}

/// What the three counters must be that every rmap call changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Expected {
    /// `_large_mapcount` + 1.
    pub(crate) large: i64,
    /// `_entire_mapcount` + 1.
    pub(crate) entire: i64,
    /// `_nr_pages_mapped`.
    pub(crate) nr_pages_mapped: i64,
}

impl Expected {
    /// Returns what the counters must be of a folio of this type for these numbers of mappings, of
    /// entire mappings and of PTE-mapped pages.
    ///
    /// Of hugetlb only the first two are kept (`hugetlb_add_file_rmap()` and others,
    /// `include/linux/rmap.h`).
    #[inline(always)]
    pub(crate) fn new(kind: Kind, total: u64, entire: u32, nr_pte_mapped: u32) -> Self {
        let flag = if entire > 0 && kind != Kind::Hugetlb {
            ENTIRELY_MAPPED
        } else {
            0
        };
        Self {
            large: i64::try_from(total).unwrap_or(i64::MAX),
            entire: i64::from(entire),
            nr_pages_mapped: i64::from(nr_pte_mapped).saturating_add(i64::from(flag)),
        }
    }

    /// Returns whether the kernel's three counters are these.
    #[inline(always)]
    pub(crate) fn holds(&self, k: &KernelCounts) -> bool {
        self.large == i64::from(k.large)
            && self.entire == i64::from(k.entire)
            && (!k.per_page || self.nr_pages_mapped == i64::from(k.nr_pages_mapped))
    }
}

/// Compares everything that can be said about a quiescent folio.
///
/// Exact: order, large mapcount, entire mapcount and, with per-page mapcounts, nr_pages_mapped. The
/// mm id slots depend on the order in which CPUs got their lock, so only what holds for any order
/// is checked: I1 to I4, as far as they can be told without knowing which id
/// belongs to which MM. Of hugetlb slots and bit are not kept, and must be as in a new folio.
pub(crate) fn mismatch(v: &FolioView, k: &KernelCounts) -> Mismatch {
    let mut m = Mismatch::default();
    let expected = Expected::new(v.kind, v.total, v.entire, v.nr_pte_mapped);
    let mut exact = |field, expected: i64, actual: i64| {
        m.note(field, expected == actual, expected, actual);
    };
    exact(Field::Order, i64::from(v.order), i64::from(k.order));
    exact(Field::Large, expected.large, i64::from(k.large));
    exact(Field::Entire, expected.entire, i64::from(k.entire));
    if k.per_page {
        exact(
            Field::NrPagesMapped,
            expected.nr_pages_mapped,
            i64::from(k.nr_pages_mapped),
        );
    }

    let mut used = 0i64;
    let mut sum = 0i64;
    for (id, count) in k.mm_id.iter().zip(k.mm_id_mapcount) {
        let count = i64::from(count);
        let least = i64::from(*id != 0);
        let right = if *id != 0 { count >= 1 } else { count == 0 };
        m.note(Field::SlotCounts, right, least, count);
        used = used.saturating_add(least);
        sum = sum.saturating_add(count);
    }
    let nr_mms = match v.kind {
        Kind::Hugetlb => 0,
        _ => i64::from(v.mm),
    };
    m.note(Field::Slots, used <= nr_mms, nr_mms, used);
    m.note(
        Field::SlotCounts,
        sum <= expected.large,
        expected.large,
        sum,
    );
    let [a, b] = k.mm_id.map(i64::from);
    m.note(Field::SlotIds, a == 0 || a != b, a, b);
    let shared = i64::from(k.shared_bit);
    let right = match nr_mms {
        0 => shared == 0,
        1 => true,
        _ => shared == 1,
    };
    m.note(Field::SharedBit, right, i64::from(nr_mms > 1), shared);
    m
}
