// SPDX-License-Identifier: GPL-2.0

//! Definitions by formula, and questions about references, reuse, statistics and overflow, for
//! lists of mappings without a shard.

use fmi_model::{
    Answer,
    Ask,
    AskPage,
    FolioView,
    KernelCounts,
    Kind,
    Question,
    Sketches,
    DEFINITIONS,
    ENTIRELY_MAPPED, //
};
use proptest::prelude::*;

use crate::driver::{
    view_of,
    Driver,
    SKETCHES, //
};
use crate::formulas::{
    self,
    References, //
};
use crate::oracle::{
    Counts,
    Mapping, //
};

/// Returns the answer of a definition that keeps nothing.
fn says(v: &FolioView, name: &str, q: Question) -> Answer {
    let d = DEFINITIONS.iter().find(|d| d.name == name).expect(name);
    assert!(d.claims.contains(&q), "{name} {q:?}");
    (d.answer)(v, &Sketches::default(), q)
}

/// Returns the value of a definition that keeps nothing.
fn value(v: &FolioView, name: &str) -> i64 {
    let d = DEFINITIONS.iter().find(|d| d.name == name).expect(name);
    (d.value)(v, &Sketches::default())
}

/// Returns the counts of (MM, page) mappings; page `None` is an entire one.
fn counts(order: u8, mappings: &[(u64, Option<u32>)]) -> Counts {
    let mappings: Vec<Mapping> = mappings
        .iter()
        .map(|(mm, page)| Mapping {
            folio: 0,
            mm: *mm,
            va: (1 << 30) + (u64::from(page.unwrap_or(0)) << 12),
            page: page.unwrap_or(0),
            entire: page.is_none(),
            vma: *mm,
        })
        .collect();
    Counts::of(mappings.iter(), 1 << order, 21)
}

/// Returns what is known about an anon folio whose references are these.
fn asked(counts: &Counts, order: u8, refs: &References, swap: bool, ask: AskPage) -> FolioView {
    let refcount = refs.mappings + refs.explained + refs.asker + refs.others;
    FolioView {
        kernel: Some(KernelCounts {
            large: counts.total as i32,
            entire: counts.entire as i32,
            refcount: refcount as i32,
            expected_refs: (refs.mappings + refs.explained) as i32,
            swapcache: swap,
            shared_bit: counts.mm > 1,
            anon: true,
            order,
            per_page: true,
            nr_pages_mapped: counts.nr_pte_mapped as i32
                + if counts.entire > 0 {
                    ENTIRELY_MAPPED
                } else {
                    0
                },
            ..KernelCounts::default()
        }),
        ask: Some(Ask {
            own: refs.asker as i32,
            page: Some(ask),
        }),
        ..view_of(counts, order, 9, Kind::Anon)
    }
}

#[test]
fn page_1_in_two_tasks_and_two_pages_in_one() {
    // 2023-07-04.
    let two = view_of(&counts(4, &[(1, Some(1)), (2, Some(1))]), 4, 9, Kind::Anon);
    let one = view_of(&counts(4, &[(1, Some(0)), (1, Some(1))]), 4, 9, Kind::Anon);
    for (name, of_two, of_one) in [
        ("total", 2, 2),
        ("mm", 2, 1),
        ("first_page", 0, 1),
        ("max_page", 2, 1),
        ("nr_pages_mapped", 1, 2),
        ("est_nr_pages", 0, 0),
        ("est_nr_mapped", 1, 0),
        ("est_one", 1, 1),
        ("avg_page", 1, 1),
        ("page_vma", 2, 1),
        ("vma_saturating", 2, 1),
        ("ref_once", 1, 1),
        ("stat_any", 16, 16),
    ] {
        assert_eq!(value(&two, name), of_two, "{name}");
        assert_eq!(value(&one, name), of_one, "{name}");
    }
    let shared = |v, name| says(v, name, Question::Shared);
    assert_eq!(shared(&two, "est_nr_pages"), Answer::No);
    assert_eq!(shared(&two, "est_nr_mapped"), Answer::Yes);
    assert_eq!(shared(&one, "est_nr_mapped"), Answer::No);
    assert_eq!(shared(&one, "est_one"), Answer::Yes);
}

#[test]
fn two_pmds_and_one_pte() {
    // RFC of April 2026.
    let counts = counts(9, &[(1, None), (2, None), (3, Some(7))]);
    let v = view_of(&counts, 9, 9, Kind::Anon);
    for (name, n) in [
        ("total", 3),
        ("total_pages", 1025),
        ("avg_page", 2),
        ("est_nr_pages", 0),
    ] {
        assert_eq!(value(&v, name), n, "{name}");
    }
    assert_eq!(says(&v, "est_nr_pages", Question::Shared), Answer::No);
    assert_eq!(says(&v, "avg_page", Question::Shared), Answer::Yes);
    assert_eq!(says(&v, "avg_page", Question::Page), Answer::Count(2));
}

#[test]
fn the_average_is_rounded_and_at_least_one() {
    for (ptes, average) in [(0, 0), (1, 1), (15, 1), (23, 1), (24, 2), (39, 2), (40, 3)] {
        let mappings: Vec<_> = (0..ptes).map(|n| (1, Some(n % 16))).collect();
        let v = view_of(&counts(4, &mappings), 4, 9, Kind::File);
        assert_eq!(value(&v, "avg_page"), average, "{ptes}");
    }
}

#[test]
fn statistics_by_the_first_and_the_last_mapping() {
    let stat = |v: &FolioView, name| says(v, name, Question::Stat);
    let none = view_of(&counts(4, &[]), 4, 9, Kind::Anon);
    let one = view_of(&counts(4, &[(1, Some(3))]), 4, 9, Kind::Anon);
    for (name, of_none) in [("total", 0), ("total_pages", 0), ("stat_any", 16)] {
        assert_eq!(stat(&none, name), Answer::Count(of_none));
        assert_eq!(stat(&one, name), Answer::Count(16));
    }
    for (nr_pages_mapped, per_page, pages) in [
        (3, true, 3),
        (ENTIRELY_MAPPED, true, 16),
        (ENTIRELY_MAPPED + 3, true, 16),
        (0, false, 16),
    ] {
        let v = FolioView {
            kernel: Some(KernelCounts {
                large: 4,
                nr_pages_mapped,
                per_page,
                ..KernelCounts::default()
            }),
            ..one
        };
        assert_eq!(stat(&v, "kernel"), Answer::Count(pages));
    }
}

#[test]
fn overflow_is_told_by_the_count_that_overflows() {
    let v = |total: i32, refcount: i32| FolioView {
        total: total as u64,
        kernel: Some(KernelCounts {
            large: total,
            refcount,
            ..KernelCounts::default()
        }),
        ..FolioView::default()
    };
    let half = 1 << 30;
    for (total, refcount, truth, by_total, by_once) in [
        (half, half, false, false, false),
        (half + 1, half + 1, true, true, false),
        (9, half + 1, true, false, false),
        (1, half + 1, true, false, true),
        (2, half + 1, true, false, false),
    ] {
        let v = v(total, refcount);
        let says = |name| says(&v, name, Question::Overflow);
        assert_eq!(Question::Overflow.truth(&v), Some(truth));
        assert_eq!(says("kernel"), truth.into());
        assert_eq!(says("total"), by_total.into(), "{total} {refcount}");
        assert_eq!(says("ref_once"), by_once.into(), "{total} {refcount}");
    }
}

/// A folio for a question about reuse.
struct Case {
    what: &'static str,
    mappings: Vec<(u64, Option<u32>)>,
    /// The page that MM 1 wants.
    page: u32,
    others: i64,
    swap: bool,
    truth: bool,
    kernel: bool,
    max_page: bool,
    page_vma: bool,
}

#[test]
fn who_would_reuse_a_page() {
    let all = |mm| (0..16).map(move |page| (mm, Some(page)));
    let alone: Vec<_> = all(1).collect();
    let both: Vec<_> = all(1).chain(all(2)).collect();
    // The child has copied page 3, all others are shared.
    let copied: Vec<_> = all(1)
        .chain(all(2).filter(|(_, page)| *page != Some(3)))
        .collect();
    let case = |what, mappings: &[(u64, Option<u32>)], answers: [bool; 4]| Case {
        what,
        mappings: mappings.to_vec(),
        page: 3,
        others: 0,
        swap: false,
        truth: answers[0],
        kernel: answers[1],
        max_page: answers[2],
        page_vma: answers[3],
    };
    let cases = [
        case("alone", &alone, [true, true, true, true]),
        case("shared", &both, [false, false, false, false]),
        case("copied", &copied, [true, false, false, true]),
        case("last page", &alone[3..4], [true, false, true, true]),
        case("PMD", &[(1, None)], [true, true, true, true]),
        case("two PMDs", &[(1, None), (2, None)], [false; 4]),
        Case {
            others: 1,
            ..case("pinned", &alone, [false, false, true, true])
        },
        Case {
            others: 1,
            ..case("pinned PMD", &[(1, None)], [false, false, true, true])
        },
        Case {
            swap: true,
            ..case("swap cache", &alone, [true, true, true, true])
        },
        Case {
            swap: true,
            ..case("swap cache, PMD", &[(1, None)], [true, true, true, true])
        },
    ];
    for c in &cases {
        for own in [0, 1] {
            let counts = counts(4, &c.mappings);
            let refs = References {
                mappings: counts.total,
                explained: if c.swap { 16 } else { 0 },
                asker: own,
                others: c.others,
            };
            let here = |m: &&(u64, Option<u32>)| m.1.is_none_or(|page| page == c.page);
            let ask = AskPage {
                mm: 1,
                mm_id: 1,
                index: c.page,
                count: c.mappings.iter().filter(here).count() as u32,
                mapped: c.mappings.iter().filter(here).any(|m| m.0 == 1),
                anon_exclusive: false,
            };
            let v = asked(&counts, 4, &refs, c.swap, ask);
            assert_eq!(Question::Reuse.truth(&v), Some(c.truth), "{}", c.what);
            let says = |name| says(&v, name, Question::Reuse);
            assert_eq!(says("kernel"), c.kernel.into(), "{}", c.what);
            assert_eq!(says("max_page"), c.max_page.into(), "{}", c.what);
            assert_eq!(says("page_vma"), c.page_vma.into(), "{}", c.what);
            let swap = if c.swap { 16 } else { 0 };
            let by_hand = formulas::kernel_reuses(&counts, counts.mm > 1, &refs, swap);
            assert_eq!(by_hand, c.kernel, "{}", c.what);
            // Marked as exclusive, it is reused in any case.
            let marked = AskPage {
                anon_exclusive: true,
                ..ask
            };
            let v = asked(&counts, 4, &refs, c.swap, marked);
            let kernel = DEFINITIONS.iter().find(|d| d.name == "kernel").unwrap();
            let answer = (kernel.answer)(&v, &Sketches::default(), Question::Reuse);
            assert_eq!(answer, Answer::Yes);
        }
    }
}

#[test]
fn nobody_asks_about_references() {
    let counts = counts(4, &[(1, Some(3))]);
    let v = view_of(&counts, 4, 9, Kind::Anon);
    for d in &DEFINITIONS {
        for q in d.claims.iter().filter(|q| q.needs_ask()) {
            let answer = (d.answer)(&v, &Sketches::default(), *q);
            assert_eq!(answer, Answer::NotAsked, "{} {q:?}", d.name);
        }
    }
}

#[test]
fn sketches_would_reuse_what_their_owner_maps() {
    let mut d = Driver::new(4, Kind::Anon);
    let vma = d.whole();
    let mm = d.get(vma).mm;
    d.map(vma, 0..16, false);
    let reuse = |d: &Driver, name: &str, mm: u64, mm_id: u32, others: i64| {
        let refs = References {
            mappings: d.counts().total,
            explained: 0,
            asker: 0,
            others,
        };
        let ask = AskPage {
            mm,
            mm_id,
            ..AskPage::default()
        };
        let v = FolioView {
            asker_mm: mm,
            asker_mm_id: mm_id,
            ..asked(&d.counts(), 4, &refs, false, ask)
        };
        d.states.answer(name, &v, Question::Reuse)
    };
    let names = ["creator", "rmap_id", "mm_id"];
    for name in names {
        assert_eq!(reuse(&d, name, mm, 1, 0), Answer::Yes, "{name}");
        assert_eq!(reuse(&d, name, mm, 1, 1), Answer::No, "{name}: pinned");
    }
    // Somebody else, who does not even map it.
    assert_eq!(reuse(&d, "creator", mm + 1, 2, 0), Answer::No);
    assert_eq!(reuse(&d, "rmap_id", mm + 1, 2, 0), Answer::No);
    let child = d.fork(mm, false);
    for name in names {
        assert_eq!(reuse(&d, name, mm, 1, 0), Answer::No, "{name}: shared");
    }
    d.exit(mm, false);
    // Only the child is left: the creator is gone, the others know.
    for (name, answer) in names
        .into_iter()
        .zip([Answer::No, Answer::Yes, Answer::Yes])
    {
        assert_eq!(reuse(&d, name, child, 2, 0), answer, "{name}: child");
    }
}

/// Returns how many cases are tried.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 8 } else { 2000 },
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn formulas_are_those_made_by_hand(
        order in prop::sample::select(&[1u8, 2, 4, 6, 9, 10][..]),
        ptes in prop::collection::vec((1u64..5, any::<u32>(), 1u32..600), 0..6),
        entire in 0u64..3,
        explained in 0i64..3,
        others in -1i64..2,
        asker in 0i64..2,
    ) {
        let n = 1u32 << order;
        let mut mappings: Vec<_> = (0..entire).map(|mm| (mm + 1, None)).collect();
        for (mm, first, nr) in ptes {
            let first = first % n;
            for page in first..(first + nr).min(n) {
                if !mappings.contains(&(mm, Some(page))) {
                    mappings.push((mm, Some(page)));
                }
            }
        }
        let counts = counts(order, &mappings);
        let others = if counts.total + explained + others < 0 { 0 } else { others };
        let refs = References { mappings: counts.total, explained, asker, others };
        let v = asked(&counts, order, &refs, false, AskPage::default());
        let by_formula = |name: &str| {
            name != "kernel" && SKETCHES.iter().all(|(sketch, _)| *sketch != name)
        };
        for d in DEFINITIONS.iter().filter(|d| by_formula(d.name)) {
            let count = formulas::value(&counts, d.name);
            prop_assert_eq!(value(&v, d.name), count, "{}", d.name);
            for q in d.claims {
                let by_hand = match q {
                    Question::Refs => refs.says(count),
                    Question::Reuse => continue,
                    q => formulas::answer(&counts, &v, d.name, *q),
                };
                prop_assert_eq!(says(&v, d.name, *q), by_hand, "{} {:?}", d.name, q);
            }
        }
        prop_assert_eq!(says(&v, "kernel", Question::Refs), (others == 0).into());
        let mapped = Answer::Count(counts.nr_pages_mapped as u64);
        prop_assert_eq!(says(&v, "kernel", Question::Stat), mapped);
        prop_assert_eq!(Question::Refs.truth(&v), Some(others == 0));
    }
}
