// SPDX-License-Identifier: GPL-2.0

//! The rules of the preview, against a list of mappings counted by hand and against the numbers
//! that a reader of the kernel's source would write down.

use fmi_model::preview::{
    mapped_pages,
    permille,
    pmd_mapped_pages,
    smaps,
    FolioCounts,
    Histogram,
    Mapped,
    Rule,
    Smaps,
    HISTOGRAM_BUCKETS,
    PSS_SHIFT, //
};
use fmi_model::{
    KernelCounts,
    ENTIRELY_MAPPED, //
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::kernel::{
    Change,
    Folio, //
};
use Rule::{
    NoPageMapcount,
    PageMapcount, //
};

const PAGE_SHIFT: u8 = 12;
const PAGE: u64 = 1 << (PAGE_SHIFT as u32 + PSS_SHIFT);

/// One mapping: an MM, and a page or all of the folio.
#[derive(Clone, Copy, Debug)]
struct Mapping {
    mm: u64,
    page: Option<u32>,
}

fn mapping(order: u8) -> impl Strategy<Value = Mapping> {
    let page = prop_oneof![1 => Just(None), 6 => (0..1u32 << order).prop_map(Some)];
    (1..5u64, page).prop_map(|(mm, page)| Mapping { mm, page })
}

fn mappings() -> impl Strategy<Value = (u8, Vec<Mapping>)> {
    (1..6u8).prop_flat_map(|order| (Just(order), vec(mapping(order), 0..80)))
}

/// The kernel's counters after these mappings were made.
fn folio(order: u8, mappings: &[Mapping]) -> Folio {
    let mut folio = Folio::new(order, true);
    for m in mappings {
        folio.apply(&Change {
            add: true,
            entire: m.page.is_none(),
            mm: m.mm,
            first: m.page.unwrap_or(0),
            nr: 1,
        });
    }
    folio
}

fn times(mappings: &[Mapping], page: u32) -> usize {
    let covers = |m: &&Mapping| m.page.is_none_or(|p| p == page);
    mappings.iter().filter(covers).count()
}

fn counts(large: i32, entire: i32, order: u8) -> FolioCounts {
    FolioCounts {
        order,
        large,
        entire,
        refcount: large + 1,
        shared: false,
    }
}

proptest! {
    #[test]
    fn the_average_is_the_rounded_mean((order, list) in mappings()) {
        let folio = folio(order, &list);
        let counts = FolioCounts::from(&folio.counts());
        let entire = list.iter().filter(|m| m.page.is_none()).count();
        let ptes = list.len() - entire;
        let mean = ptes as f64 / f64::from(1u32 << order);
        let rounded = (mean + 0.5).floor() as usize + entire;
        let want = if list.is_empty() { 0 } else { rounded.max(1) };
        prop_assert_eq!(counts.average_page_mapcount() as usize, want);
        // What it replaces is exact.
        for page in 0..1 << order {
            let precise = counts.kpagecount(folio.page_mapcount(page), PageMapcount);
            prop_assert_eq!(precise as usize, times(&list, page));
        }
    }

    #[test]
    fn evenly_mapped_folios_do_not_change(order in 1..6u8, whole in 0..5u64, entire in 0..5u64) {
        let mut list = Vec::new();
        for mm in 0..whole {
            list.extend((0..1 << order).map(|page| Mapping { mm: mm + 1, page: Some(page) }));
        }
        list.extend((0..entire).map(|mm| Mapping { mm: mm + 10, page: None }));
        let folio = folio(order, &list);
        let counts = FolioCounts::from(&folio.counts());
        for page in 0..1 << order {
            let page = folio.page_mapcount(page);
            prop_assert_eq!(
                counts.kpagecount(page, PageMapcount),
                counts.kpagecount(page, NoPageMapcount)
            );
        }
        let k = folio.counts();
        prop_assert_eq!(mapped_pages(&k, PageMapcount), mapped_pages(&k, NoPageMapcount));
        prop_assert!(!counts.certainly_partially_mapped());
    }

    #[test]
    fn statistics_count_pages_or_whole_folios((order, list) in mappings()) {
        let k = folio(order, &list).counts();
        let mapped = (0..1u32 << order).filter(|page| times(&list, *page) > 0).count();
        prop_assert_eq!(mapped_pages(&k, PageMapcount) as usize, mapped);
        let all = if list.is_empty() { 0 } else { 1u32 << order };
        prop_assert_eq!(mapped_pages(&k, NoPageMapcount), all);
        let pmd = list.iter().any(|m| m.page.is_none());
        prop_assert_eq!(pmd_mapped_pages(&k, order), if pmd { 1 << order } else { 0 });
        prop_assert_eq!(pmd_mapped_pages(&k, order + 1), 0);
    }

    #[test]
    fn what_is_certainly_partial_is_partial((order, list) in mappings()) {
        let counts = FolioCounts::from(&folio(order, &list).counts());
        let unmapped = (0..1u32 << order).filter(|page| times(&list, *page) == 0).count();
        let partial = unmapped > 0 && !list.is_empty();
        prop_assert!(partial || !counts.certainly_partially_mapped());
        // With one mapping a page at most, the rule misses nothing.
        if (0..1u32 << order).all(|page| times(&list, page) <= 1) {
            prop_assert_eq!(partial, counts.certainly_partially_mapped());
        }
    }

    /// All processes together: the precise shares add up to the mapped pages, and private is what
    /// nobody else maps.
    #[test]
    fn shares_and_private_pages((order, list) in mappings()) {
        let folio = folio(order, &list);
        let mut counts = FolioCounts::from(&folio.counts());
        // Somebody else holds a reference: no short cut.
        counts.refcount += 1;
        let mut total = 0;
        for m in &list {
            let pages = m.page.map_or(0..1 << order, |page| page..page + 1);
            for page in pages {
                let page_mapcount = folio.page_mapcount(page);
                let one = Mapped { nr: 1, page: page_mapcount, present: true };
                let now = smaps(&counts, &one, PAGE_SHIFT, PageMapcount);
                let n = times(&list, page) as u64;
                prop_assert_eq!(now, Smaps { pss: PAGE / n, private: u64::from(n == 1) });
                total += now.pss;
                let then = smaps(&counts, &one, PAGE_SHIFT, NoPageMapcount);
                let average = counts.average_page_mapcount() as u64;
                prop_assert_eq!(then.pss, PAGE / average);
                prop_assert_eq!(then.private, u64::from(!counts.shared));
                prop_assert_eq!(counts.exclusive(page_mapcount, PageMapcount), n == 1);
                prop_assert_eq!(counts.exclusive(page_mapcount, NoPageMapcount), !counts.shared);
                // The kernel never takes a folio for exclusive that two MMs map; what it then says
                // is more than today only where one MM maps a page twice.
                if then.private > now.private {
                    prop_assert!(list.iter().all(|other| other.mm == m.mm) && n > 1);
                }
            }
        }
        let mapped = (0..1u32 << order).filter(|page| times(&list, *page) > 0).count() as u64;
        // Division loses less than a unit for each mapping of a page.
        let lost = (list.len() << order) as u64;
        prop_assert!(total <= mapped * PAGE && total + lost >= mapped * PAGE);
    }

    #[test]
    fn one_reference_and_no_presence_decide_first(
        refcount in 1..3i32,
        present in any::<bool>(),
        page in -1..4i32,
        large in 0..9i32,
        shared in any::<bool>(),
        nr in 1..5u32,
    ) {
        let counts = FolioCounts { order: 2, large, entire: 0, refcount, shared };
        let m = Mapped { nr, page, present };
        for rule in Rule::BOTH {
            let got = smaps(&counts, &m, PAGE_SHIFT, rule);
            if refcount == 1 || !present {
                let private = if present { u64::from(nr) } else { 0 };
                prop_assert_eq!(got, Smaps { pss: u64::from(nr) * PAGE, private });
            }
        }
    }

    #[test]
    fn nothing_panics(
        order in any::<u8>(),
        large in any::<i32>(),
        entire in any::<i32>(),
        page in any::<i32>(),
        refcount in any::<i32>(),
        nr in any::<u32>(),
        shift in any::<u8>(),
    ) {
        let counts = FolioCounts { order, large, entire, refcount, shared: true };
        let k = KernelCounts { order, large, entire, nr_pages_mapped: page, ..Default::default() };
        for rule in Rule::BOTH {
            smaps(&counts, &Mapped { nr, page, present: true }, shift, rule);
            counts.kpagecount(page, rule);
            mapped_pages(&k, rule);
        }
        counts.certainly_partially_mapped();
    }

    #[test]
    fn every_error_is_in_its_bucket(errors in vec(any::<i64>(), 0..50)) {
        let mut h = Histogram::default();
        for error in &errors {
            h.add(*error, 1);
        }
        let mut sum = 0;
        let mut last = None;
        for (least, most, count) in h.iter() {
            let inside = errors.iter().filter(|e| (least..=most).contains(&(**e).max(-i64::MAX)));
            prop_assert_eq!(inside.count() as u64, count);
            prop_assert!(last.is_none_or(|last| last < least));
            last = Some(most);
            sum += count;
        }
        prop_assert_eq!(sum, errors.len() as u64);
    }
}

/// A THP of which half is unmapped: counted as a whole, average 1, noticed.
#[test]
fn half_a_thp() {
    let list: Vec<_> = (0..256)
        .map(|page| Mapping {
            mm: 1,
            page: Some(page),
        })
        .collect();
    let folio = folio(9, &list);
    let k = folio.counts();
    assert_eq!(mapped_pages(&k, PageMapcount), 256);
    assert_eq!(mapped_pages(&k, NoPageMapcount), 512);
    let counts = FolioCounts::from(&k);
    // Rounded up at exactly one half.
    assert_eq!(counts.average_page_mapcount(), 1);
    assert_eq!(counts.kpagecount(0, PageMapcount), 0);
    assert_eq!(counts.kpagecount(0, NoPageMapcount), 1);
    assert!(counts.certainly_partially_mapped());
}

/// Forked while PTE-mapped, then the child unmaps half, and the parent the same half: as many
/// mappings as pages, so nobody notices.
#[test]
fn half_of_a_shared_folio_goes_unnoticed() {
    let mut list = Vec::new();
    for mm in 1..=2 {
        list.extend((0..8).map(|page| Mapping {
            mm,
            page: Some(page),
        }));
    }
    let folio = folio(4, &list);
    let k = folio.counts();
    let counts = FolioCounts::from(&k);
    assert_eq!(k.large, 16);
    assert_eq!(mapped_pages(&k, PageMapcount), 8);
    assert!(!counts.certainly_partially_mapped());
    // Average 1 where it is 2: the share is twice what it was.
    let one = Mapped {
        nr: 1,
        page: 2,
        present: true,
    };
    assert_eq!(smaps(&counts, &one, PAGE_SHIFT, PageMapcount).pss, PAGE / 2);
    assert_eq!(smaps(&counts, &one, PAGE_SHIFT, NoPageMapcount).pss, PAGE);
}

/// The RFC's example: "512-page folio mapped through 2 PMDs and a single PTE".
#[test]
fn two_pmds_and_a_pte() {
    let counts = counts(3, 2, 9);
    assert_eq!(counts.average_page_mapcount(), 2);
    assert_eq!(counts.precise_page_mapcount(1), 3);
    assert_eq!(counts.precise_page_mapcount(0), 2);
}

/// A PMD of one process and one PTE of another: entirely mapped, and the PTE's page shared.
#[test]
fn a_pmd_hides_what_a_pte_shares() {
    let folio = folio(
        9,
        &[
            Mapping { mm: 1, page: None },
            Mapping {
                mm: 2,
                page: Some(5),
            },
        ],
    );
    let k = folio.counts();
    assert_eq!(k.nr_pages_mapped, ENTIRELY_MAPPED + 1);
    assert_eq!(mapped_pages(&k, PageMapcount), 512);
    let counts = FolioCounts::from(&k);
    assert!(counts.shared);
    assert_eq!(counts.average_page_mapcount(), 1);
    // pagemap looks at page 0 for all entries of the PMD.
    assert!(counts.exclusive(folio.page_mapcount(0), PageMapcount));
    assert!(!counts.exclusive(folio.page_mapcount(5), PageMapcount));
    assert!(!counts.exclusive(folio.page_mapcount(0), NoPageMapcount));
}

/// Small folios: the average is what is stored, page types included.
#[test]
fn small_folios() {
    let mapped = FolioCounts {
        order: 0,
        large: 3,
        entire: 0,
        refcount: 4,
        shared: true,
    };
    for rule in Rule::BOTH {
        assert_eq!(mapped.kpagecount(3, rule), 3);
        assert!(!mapped.exclusive(3, rule));
        let m = Mapped {
            nr: 1,
            page: 3,
            present: true,
        };
        let want = Smaps {
            pss: PAGE / 3,
            private: 0,
        };
        assert_eq!(smaps(&mapped, &m, PAGE_SHIFT, rule), want);
    }
    let typed = FolioCounts {
        large: -0x0a00_0000,
        ..FolioCounts::default()
    };
    assert_eq!(typed.kpagecount(0, PageMapcount), 0);
    assert_eq!(typed.kpagecount(0, NoPageMapcount), -0x0a00_0000);
    // Present, but in no rmap: not exclusive today.
    assert!(!FolioCounts::default().exclusive(0, PageMapcount));
    assert!(FolioCounts::default().exclusive(0, NoPageMapcount));
}

#[test]
fn inconsistent_counters_have_the_kernels_answer() {
    // A remove in flight has lowered the large mapcount and not yet the entire one.
    assert_eq!(counts(1, 2, 9).average_page_mapcount(), 2);
    assert_eq!(counts(0, 1, 9).average_page_mapcount(), 0);
    assert_eq!(counts(-1, 0, 9).average_page_mapcount(), 0);
    assert!(!counts(511, 1, 9).certainly_partially_mapped());
    assert!(!counts(512, 0, 9).certainly_partially_mapped());
    assert!(counts(511, 0, 9).certainly_partially_mapped());
}

#[test]
fn thousandths() {
    assert_eq!(permille(5, 10), 500);
    assert_eq!(permille(-5, 10), -500);
    assert_eq!(permille(1, 0), 0);
    assert_eq!(permille(i64::MAX, 1), i64::MAX);
    let mut h = Histogram::default();
    h.add(i64::MIN, 2);
    assert_eq!(h.under[HISTOGRAM_BUCKETS - 1], 2);
}
