// SPDX-License-Identifier: GPL-2.0

//! Counters as their authors sketched them: the worked examples of `Documentation/definitions.rst`,
//! random events against [`crate::naive_sketches`], and what must hold for any events.

use fmi_model::definition::{
    vma_counter::VmaCounter,
    Definition, //
};
use fmi_model::{
    Answer,
    Event,
    Kind,
    Level,
    Question, //
};
use proptest::prelude::*;

use crate::driver::{
    Driver,
    SKETCHES, //
};

/// Returns an anonymous THP that one VMA maps by a PMD.
fn thp() -> (Driver, u64) {
    let mut d = Driver::new(9, Kind::Anon);
    let vma = d.whole();
    d.map_entire(vma);
    (d, vma)
}

/// Returns the answer of a sketch.
fn says(d: &Driver, name: &str, q: Question) -> Answer {
    d.states.answer(name, &d.view(), q)
}

#[test]
fn dontneed_in_three_steps() {
    let (mut d, vma) = thp();
    d.expect(&[("vma", 1), ("vma_counter", 1), ("vma_pt_counter", 1)]);
    d.split_pmd(vma);
    d.expect(&[("total", 512), ("vma_counter", 1), ("vma_pt_counter", 1)]);
    d.unmap(vma, 0..128, false);
    d.expect(&[("vma", 1), ("vma_counter", 1), ("vma_pt_counter", 0)]);
    d.task = 2;
    d.unmap(vma, 384..512, false);
    d.expect(&[("vma", 1), ("vma_counter", 1), ("vma_pt_counter", -1)]);
    d.task = 3;
    d.unmap(vma, 128..384, false);
    d.expect(&[("vma", 0), ("total", 0)]);
    // Nothing is mapped any more: the counter that is right was 0, the other starts anew.
    assert_eq!(d.rests, [vec![("vma_pt_counter", -2)]]);
    d.expect(&[("vma_counter", 0), ("vma_pt_counter", 0)]);
}

#[test]
fn the_split_of_a_pmd_is_no_event() {
    let (mut d, vma) = thp();
    d.expect(&[("vma_pt_counter", 1), ("vma_counter", 1)]);
    d.split_pmd(vma);
    d.expect(&[("vma_pt_counter", 1), ("vma_counter", 1), ("entire", 0)]);
    d.expect(&[("creator", 512), ("owner_vma", 512), ("mm_id", 1)]);
}

#[test]
fn the_split_of_a_file_pmd_unmaps() {
    let mut d = Driver::new(9, Kind::Shmem);
    let vma = d.whole();
    d.map_entire(vma);
    let other = d.whole();
    d.map_entire(other);
    d.expect(&[("vma_pt_counter", 2), ("vma_counter", 2)]);
    d.split_pmd(vma);
    d.expect(&[("vma_pt_counter", 1), ("vma_counter", 1), ("total", 1)]);
}

#[test]
fn a_vma_is_split_between_two_copied_pages() {
    // 2023-03-29, point 4.
    let mut d = Driver::new(9, Kind::Anon);
    let vma = d.whole();
    let mm = d.get(vma).mm;
    d.map(vma, 0..512, false);
    let child = d.fork(mm, false);
    d.expect(&[("vma", 2), ("vma_counter", 2), ("vma_pt_counter", 2)]);
    d.unmap(vma, 255..257, false);
    d.expect(&[("vma", 2), ("vma_counter", 2), ("vma_pt_counter", 1)]);
    let upper = d.split_vma(vma, 256);
    d.expect(&[("vma", 3), ("vma_counter", 2)]);
    d.exit(child, false);
    d.expect(&[("vma", 2), ("vma_counter", 1)]);
    assert_eq!(
        says(&d, "vma_counter", Question::Drift),
        Answer::Counter(1, 2)
    );
    d.unmap(vma, 0..256, false);
    d.expect(&[("vma", 1), ("vma_counter", 0)]);
    assert_eq!(says(&d, "vma_counter", Question::Mapped), Answer::No);
    d.unmap(upper, 256..512, false);
    // One VMA was counted, two went: both counters are too low.
    let rest = |name| d.rests[0].iter().find(|(n, _)| *n == name).map(|r| r.1);
    assert_eq!(rest("vma_counter"), Some(-1));
    // The upper part has another pointer: what it unmapped was never counted as that of others.
    assert_eq!(rest("owner_vma"), Some(255));
}

#[test]
fn counters_may_fall_to_minus_many() {
    let mut d = Driver::new(3, Kind::Anon);
    let vma = d.whole();
    d.map(vma, 0..8, false);
    let parts = [1, 2, 3].map(|page| d.split_vma(vma, 4 - page));
    d.unmap(vma, 0..8, false);
    for part in parts {
        d.unmap(part, 0..8, false);
    }
    let rest = |name| d.rests[0].iter().find(|(n, _)| *n == name).map(|r| r.1);
    for name in ["vma_counter", "vma_saturating_counter", "vma_pt_counter"] {
        assert_eq!(rest(name), Some(-3), "{name}");
    }
}

#[test]
fn an_add_run_that_maps_all_counts_once() {
    for single in [false, true] {
        let mut d = Driver::new(4, Kind::File);
        let vma = d.whole();
        d.map(vma, 0..16, single);
        d.expect(&[("vma_counter", 1), ("vma_pt_counter", 1)]);
        d.unmap(vma, 0..16, single);
        assert_eq!(d.rests, [vec![]]);
    }
}

#[test]
fn an_add_of_all_pages_asks_nobody() {
    let event = Event {
        adds: true,
        fork: false,
        split: false,
        new_run: true,
        level: Level::Pte,
        nr: 16,
        nr_pages: 16,
        order: 4,
        pmd_order: 9,
        kind: Kind::Anon,
        mm: 1,
        mm_id: 1,
        vma: 1,
        base: 0,
        vma_maps: true,
        entire: 0,
        total: 3,
    };
    let mut count = 1;
    VmaCounter::event(&mut count, &event);
    assert_eq!(count, 2);
    VmaCounter::event(&mut count, &Event { nr: 15, ..event });
    assert_eq!(count, 2);
}

#[test]
fn a_fork_page_by_page_counts_once() {
    let mut d = Driver::new(4, Kind::Anon);
    let vma = d.whole();
    d.map(vma, 0..16, false);
    d.fork(d.get(vma).mm, true);
    d.expect(&[("vma_counter", 2), ("vma_pt_counter", 2), ("total", 32)]);
}

#[test]
fn two_page_tables() {
    let mut d = Driver::new(9, Kind::Shmem);
    let mm = d.mm(None);
    // 1.9 MB to 2.1 MB, and so on for its 2 MB.
    let vma = d.vma(mm, (1 << 30) + (256 << 12), 0, 512);
    d.map(vma, 0..100, false);
    d.expect(&[("vma_pt", 1), ("vma_pt_counter", 1)]);
    d.map(vma, 100..512, false);
    // The rest of the first page table is the same run.
    d.expect(&[("vma_pt", 2), ("vma_pt_counter", 2), ("vma_counter", 1)]);
    d.unmap(vma, 0..512, false);
    assert_eq!(d.rests, [vec![]]);
}

#[test]
fn many_stays_many() {
    let mut d = Driver::new(4, Kind::Anon);
    let vma = d.whole();
    let mm = d.get(vma).mm;
    d.map(vma, 0..16, false);
    let name = "vma_saturating_counter";
    assert_eq!(says(&d, name, Question::Shared), Answer::No);
    let a = d.fork(mm, false);
    assert_eq!(says(&d, name, Question::Shared), Answer::Yes);
    let b = d.fork(mm, false);
    let c = d.fork(mm, false);
    d.expect(&[(name, 3), ("vma", 4), ("vma_saturating", 3)]);
    assert_eq!(says(&d, name, Question::Shared), Answer::Unknown);
    for child in [a, b, c] {
        d.exit(child, false);
    }
    d.expect(&[(name, 3), ("vma", 1), ("vma_saturating", 1)]);
    assert_eq!(says(&d, name, Question::Shared), Answer::Unknown);
    assert_eq!(says(&d, name, Question::Drift), Answer::Counter(3, 1));
    d.unmap(vma, 0..16, false);
    assert_eq!(d.rests, [vec![]]);
    d.map(vma, 0..16, false);
    d.expect(&[(name, 1)]);
}

#[test]
fn the_creator_leaves() {
    let mut d = Driver::new(4, Kind::Anon);
    let vma = d.whole();
    let mm = d.get(vma).mm;
    d.map(vma, 0..16, false);
    assert_eq!(says(&d, "creator", Question::Shared), Answer::No);
    let child = d.fork(mm, false);
    d.expect(&[("creator", 16), ("owner_vma", 16)]);
    // The child asks, it was the last to map: the creator is still there.
    assert_eq!(says(&d, "creator", Question::Shared), Answer::Yes);
    d.unmap(vma, 0..15, false);
    assert_eq!(says(&d, "creator", Question::Shared), Answer::Yes);
    d.unmap(vma, 15..16, false);
    d.expect(&[("creator", 0), ("owner_vma", 0), ("mm", 1)]);
    for name in ["creator", "owner_vma"] {
        assert_eq!(says(&d, name, Question::Shared), Answer::Unknown);
        assert_eq!(says(&d, name, Question::Mapped), Answer::No);
    }
    // It is back, and asks.
    d.map(vma, 3..4, false);
    assert_eq!(says(&d, "creator", Question::Shared), Answer::Yes);
    d.exit(child, false);
    assert_eq!(says(&d, "creator", Question::Shared), Answer::No);
    // Another one is the first, the next time.
    d.unmap(vma, 3..4, false);
    let other = d.whole();
    d.map(other, 0..1, false);
    d.map(vma, 1..3, false);
    d.expect(&[("creator", 1), ("owner_vma", 1)]);
}

#[test]
fn the_flag_outlives_all_ptes() {
    let (mut d, vma) = thp();
    let mm = d.get(vma).mm;
    let child = d.fork(mm, false);
    d.expect(&[("double_map", 2)]);
    let theirs = d.vmas.iter().find(|v| v.mm == child).unwrap().id;
    d.split_pmd(theirs);
    d.expect(&[("double_map", 1), ("total", 513)]);
    assert!(says(&d, "double_map", Question::Entire) == Answer::No);
    d.unmap(theirs, 0..512, false);
    // The only mapping is entire, but the flag says otherwise.
    d.expect(&[("double_map", 1), ("total", 1), ("entire", 1)]);
    assert!(says(&d, "double_map", Question::Entire) == Answer::No);
    d.unmap_entire(vma);
    d.map_entire(vma);
    assert!(says(&d, "double_map", Question::Entire) == Answer::Yes);
}

#[test]
fn a_pmd_that_goes_sets_no_flag() {
    let (mut d, vma) = thp();
    let child = d.fork(d.get(vma).mm, false);
    d.unmap_entire(vma);
    d.expect(&[("double_map", 1), ("total", 1)]);
    assert!(says(&d, "double_map", Question::Entire) == Answer::Yes);
    d.exit(child, false);
    assert_eq!(d.rests, [vec![]]);
}

#[test]
fn a_single_pmd_that_is_split_sets_no_flag() {
    let (mut d, vma) = thp();
    d.split_pmd(vma);
    let child = d.whole();
    // Not what fork would do, but a swapped-in THP may be mapped so.
    d.map_entire(child);
    d.expect(&[("double_map", 1), ("total", 513)]);
    assert!(says(&d, "double_map", Question::Entire) == Answer::Yes);
}

#[test]
fn the_partial_rule_sees_removes_only() {
    let mut d = Driver::new(4, Kind::Anon);
    let vma = d.whole();
    d.map(vma, 0..8, false);
    assert_eq!(says(&d, "partial_rule", Question::Partial), Answer::No);
    d.map(vma, 8..16, false);
    d.unmap(vma, 3..4, false);
    assert_eq!(says(&d, "partial_rule", Question::Partial), Answer::Yes);
    // Sticky.
    d.map(vma, 3..4, false);
    assert_eq!(says(&d, "partial_rule", Question::Partial), Answer::Yes);
    d.unmap(vma, 0..16, false);
    d.map(vma, 0..16, false);
    // Shared: page 3 is not mapped any more, but there are more mappings than pages.
    let child = d.fork(d.get(vma).mm, false);
    let theirs = d.vmas.iter().find(|v| v.mm == child).unwrap().id;
    d.unmap(vma, 3..4, false);
    d.unmap(theirs, 3..4, false);
    d.expect(&[("nr_pages_mapped", 15), ("total", 30)]);
    assert_eq!(says(&d, "partial_rule", Question::Partial), Answer::No);
}

#[test]
fn a_third_mm_makes_the_bit_wrong() {
    let mut d = Driver::new(4, Kind::Anon);
    let vma = d.whole();
    let mm = d.get(vma).mm;
    d.map(vma, 0..16, false);
    assert_eq!(says(&d, "mm_id", Question::Shared), Answer::No);
    let a = d.fork(mm, false);
    let b = d.fork(mm, false);
    assert_eq!(says(&d, "mm_id", Question::Shared), Answer::Yes);
    // The first two leave: the third had no slot.
    d.exit(mm, false);
    d.exit(a, false);
    d.expect(&[("mm", 1), ("mm_id", 0)]);
    assert_eq!(says(&d, "mm_id", Question::Mapped), Answer::No);
    assert_eq!(says(&d, "mm_id", Question::Shared), Answer::Yes);
    assert_eq!(
        says(&d, "mm_id", Question::Page),
        Answer::Counter(2, 1),
        "USS counts no page"
    );
    d.exit(b, false);
    assert_eq!(d.rests, [vec![]]);
}

#[test]
fn ids_look_alike_when_sums_wrap() {
    // 2 x (513 - 1)^7 = 2^64: multiplied out, 2, -14, 42, -70, 70, -42, 14, -2 times the powers of
    // 513. Bits 1, 3, 5, 7 in that many mappings stand for bits 0, 2, 4, 6.
    let mut d = Driver::new(7, Kind::Shmem);
    let crowd = [(0xaa, 0..2), (0x2b, 2..14), (0x69, 14..42), (0x4d, 42..70)];
    for (id, pages) in crowd {
        let mm = d.mm(Some(id));
        let vma = d.vma(mm, 1 << 30, 0, 128);
        d.map(vma, pages, false);
    }
    let mm = d.mm(Some(0x55));
    let vma = d.vma(mm, 1 << 30, 0, 128);
    d.map(vma, 70..71, false);
    d.expect(&[("mm", 5), ("total", 71), ("rmap_id", 1)]);
    assert_eq!(says(&d, "rmap_id", Question::Shared), Answer::No);
    // One mapping more of somebody else, and they differ again.
    let other = d.whole();
    d.map(other, 71..72, false);
    d.map(vma, 72..73, false);
    assert_eq!(says(&d, "rmap_id", Question::Shared), Answer::Yes);
}

#[test]
fn a_sum_of_ids_overflows() {
    assert_eq!(513u64.pow(7).checked_mul(512), None);
    let mut d = Driver::new(9, Kind::Anon);
    let mm = d.mm(Some(0x80));
    let vma = d.vma(mm, 1 << 30, 0, 512);
    d.map(vma, 0..512, false);
    // Alone, whatever wraps.
    d.expect(&[("rmap_id", 1)]);
    let mut sums = Vec::new();
    for sum in d.states.rmap_id {
        sums.push(sum);
    }
    assert_eq!(sums, [513u64.pow(7).wrapping_mul(512), 0, 0, 0]);
    d.unmap(vma, 0..512, true);
    assert_eq!(d.rests, [vec![]]);
}

#[test]
fn a_page_mapped_twice_by_one_mm_looks_shared() {
    let mut d = Driver::new(1, Kind::File);
    let mm = d.mm(None);
    let vma = d.vma(mm, 1 << 30, 0, 2);
    let other = d.vma(mm, 1 << 31, 0, 2);
    d.map(vma, 0..2, false);
    d.map(other, 0..1, false);
    d.expect(&[("mm", 1), ("total", 3)]);
    assert_eq!(says(&d, "rmap_id", Question::Shared), Answer::Yes);
}

#[test]
fn states_are_as_small_as_written() {
    let size = |name: &str| match name {
        "vma_pt_counter" => size_of_val(&Driver::new(1, Kind::Anon).states.vma_pt),
        "vma_counter" => size_of_val(&Driver::new(1, Kind::Anon).states.vma),
        "vma_saturating_counter" => size_of_val(&Driver::new(1, Kind::Anon).states.saturating),
        "creator" => size_of_val(&Driver::new(1, Kind::Anon).states.creator),
        "owner_vma" => size_of_val(&Driver::new(1, Kind::Anon).states.owner),
        "double_map" => size_of_val(&Driver::new(1, Kind::Anon).states.double_map),
        "partial_rule" => size_of_val(&Driver::new(1, Kind::Anon).states.partial),
        "rmap_id" => size_of_val(&Driver::new(1, Kind::Anon).states.rmap_id),
        "mm_id" => size_of_val(&Driver::new(1, Kind::Anon).states.mm_id),
        other => panic!("{other}"),
    };
    let sizes = SKETCHES.iter().map(|(name, _)| size(name));
    assert_eq!(sizes.collect::<Vec<_>>(), [4, 4, 4, 16, 32, 8, 1, 32, 20]);
}

/// Something that happens to the folio, by random numbers.
type Deed = (u8, u8, u16, u16, bool);

/// Returns a range of pages.
fn range(order: u8, a: u16, b: u16) -> std::ops::Range<u32> {
    let n = 1u32 << order;
    let (a, b) = (u32::from(a) % n, u32::from(b) % n);
    a.min(b)..a.max(b) + 1
}

/// Does something; without `moves` nothing that a counter is not told.
fn perform(d: &mut Driver, order: u8, deed: &Deed, moves: bool) {
    let (what, which, a, b, single) = *deed;
    let pages = range(order, a, b);
    let pick = |d: &Driver| {
        let nr = d.vmas.len().max(1);
        d.vmas.get(usize::from(which) % nr).copied()
    };
    let anon = d.view().kind == Kind::Anon;
    d.task = u64::from(which % 3);
    let Some(v) = pick(d).filter(|_| what % 13 != 0 || d.vmas.len() >= 6) else {
        // Ids of many bits, and of few.
        let id = (u32::from(a) << (which % 9)).max(1);
        let mm = match pick(d) {
            Some(v) if !anon && single => v.mm,
            _ => d.mm(Some(id).filter(|_| which % 2 == 0)),
        };
        let base = d.place();
        let base = if b % 3 == 0 {
            base + (u64::from(b) << 12)
        } else {
            base
        };
        let covers = if a % 2 == 0 { 0..1 << order } else { pages };
        d.vma(mm, base, covers.start, covers.end);
        return;
    };
    match what % 13 {
        1 | 2 => d.map(v.id, pages, single),
        3 => d.map(v.id, 0..1 << order, single),
        4 => d.unmap(v.id, pages, single),
        5 => d.unmap(v.id, 0..1 << order, single),
        6 => d.map_entire(v.id),
        7 if single => d.unmap_entire(v.id),
        8 => d.split_pmd(v.id),
        9 if d.vmas.len() < 6 => drop(d.fork(v.mm, single)),
        10 if single => d.exit(v.mm, a % 2 == 0),
        11 if moves => drop(d.split_vma(v.id, pages.start)),
        12 if moves && single => d.merge_vma(v.id),
        // Page-aligned, and sometimes by whole page tables.
        12 if moves => {
            let shift = if b % 2 == 0 { 21 } else { 12 };
            d.move_vma(v.id, (u64::from(a) + 1) << shift);
        }
        _ => {}
    }
}

/// Returns the deeds of a test.
fn deeds(most: usize) -> impl Strategy<Value = Vec<Deed>> {
    prop::collection::vec(any::<Deed>(), 1..most)
}

/// Returns a type of folio that can be mapped by rmap.
fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(&[Kind::Anon, Kind::File, Kind::Shmem][..])
}

/// Returns an order; few are so large that a run of the test takes long.
fn order() -> impl Strategy<Value = u8> {
    prop::sample::select(&[1u8, 2, 2, 3, 4, 4, 5, 6, 7, 9, 9, 10, 11][..])
}

/// Returns how many cases are tried.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 250 },
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    /// Values, fields and answers are compared after each call, see [`Driver::check`].
    #[test]
    fn sketches_are_those_made_by_hand(order in order(), kind in kind(), deeds in deeds(60)) {
        let mut d = Driver::new(order, kind);
        for deed in &deeds {
            perform(&mut d, order, deed, true);
        }
        for mm in d.vmas.iter().map(|v| v.mm).collect::<Vec<_>>() {
            d.exit(mm, false);
        }
        prop_assert_eq!(d.mappings.len(), 0);
    }

    /// As long as no VMA changes, a counter that looks at its VMA counts VMAs, and owners are
    /// right.
    #[test]
    fn without_changes_of_vmas_counters_are_right(
        order in order(), kind in kind(), deeds in deeds(60),
    ) {
        let mut d = Driver::new(order, kind);
        for deed in &deeds {
            perform(&mut d, order, deed, false);
            let (v, counts) = (d.view(), d.counts());
            prop_assert_eq!(d.states.value("vma_counter", &v), counts.vma);
            let many = d.states.value("vma_saturating_counter", &v);
            prop_assert!(many == counts.vma || (many == 3 && counts.vma != 0));
            let owner = d.states.answer("owner_vma", &v, Question::SharedVma);
            if owner != Answer::Unknown {
                prop_assert_eq!(owner, Answer::from(counts.vma > 1));
            }
        }
    }

    /// What holds in any case.
    #[test]
    fn what_a_sketch_may_not_get_wrong(order in order(), kind in kind(), deeds in deeds(60)) {
        let mut d = Driver::new(order, kind);
        for deed in &deeds {
            perform(&mut d, order, deed, true);
            let (v, counts) = (d.view(), d.counts());
            let shared = |name| d.states.answer(name, &v, Question::Shared);
            // The bit says "maybe": no is certain.
            if shared("mm_id") == Answer::No {
                prop_assert!(counts.mm <= 1);
            }
            // The creator is an MM: what it says is certain, unless it cannot tell.
            match shared("creator") {
                Answer::Yes => prop_assert!(counts.mm > 1),
                Answer::No => prop_assert!(counts.mm <= 1),
                _ => {}
            }
            // Ids never take one MM for several; several for one only if sums wrap.
            let fits = counts.total <= i64::from(counts.nr_pages);
            let wraps = (6..=9).contains(&order);
            match shared("rmap_id") {
                Answer::Yes if fits => prop_assert!(counts.mm > 1),
                Answer::No if !wraps => prop_assert!(counts.mm <= 1),
                _ => {}
            }
            if kind == Kind::Anon {
                // Each page of an MM is mapped once: more mappings than pages are more MMs than
                // one.
                prop_assert!(fits || counts.mm > 1);
            }
        }
    }
}
