// SPDX-License-Identifier: GPL-2.0

//! States of a sketch with the same digest get the same answers.

use fmi_model::definition::{
    creator::Creator,
    double_map::DoubleMap,
    mm_id::MmId,
    owner_vma::OwnerVma,
    partial_rule::PartialRule,
    rmap_id::RmapId,
    vma_counter::VmaCounter,
    vma_pt_counter::VmaPtCounter,
    vma_saturating_counter::VmaSaturatingCounter,
    Definition, //
};
use fmi_model::{
    Event,
    FolioView,
    Kind,
    Level, //
};
use proptest::prelude::*;

use crate::steps::config;

/// Returns an event on an order-2 folio, which is what a PMD maps here.
fn event() -> impl Strategy<Value = Event> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (
        flags,
        any::<bool>(),
        1u32..5,
        1u64..4,
        1u64..4,
        0u32..3,
        0u64..7,
    )
        .prop_map(
            |((adds, split, new_run, vma_maps), entire_call, nr, mm, vma, entire, total)| Event {
                adds,
                fork: false,
                split,
                new_run,
                level: if entire_call {
                    Level::Entire
                } else {
                    Level::Pte
                },
                nr: if entire_call { 4 } else { nr },
                nr_pages: 4,
                order: 2,
                pmd_order: 2,
                kind: Kind::Anon,
                mm,
                mm_id: mm as u32,
                vma,
                base: mm << 12,
                vma_maps,
                entire,
                total,
            },
        )
}

/// Returns a view of such a folio.
fn view() -> impl Strategy<Value = FolioView> {
    (0u64..7, 0u64..4, 0u32..4, 0u32..4, 0u32..5, 0u32..3).prop_map(
        |(total, asker, vma, vma_pt, nr_pages_mapped, max_page)| FolioView {
            order: 2,
            nr_pages: 4,
            kind: Kind::Anon,
            total,
            nr_pages_mapped,
            nr_pte_mapped: nr_pages_mapped,
            min_mapped_page: max_page.min(1),
            max_page,
            vma,
            vma_pt,
            pmd_order: 2,
            asker_mm: asker,
            asker_mm_id: asker as u32,
            asker_base: asker << 12,
            ..FolioView::default()
        },
    )
}

/// Compares two pasts of a definition about all of these views; returns how often the digests were
/// the same.
fn same<D: Definition>(a: &[Event], b: &[Event], views: &[FolioView]) -> usize {
    let state = |events: &[Event]| {
        let mut state = D::State::default();
        events.iter().for_each(|event| D::event(&mut state, event));
        state
    };
    let (a, b) = (state(a), state(b));
    let alike = views
        .iter()
        .filter(|v| D::digest(v, &a) == D::digest(v, &b));
    alike
        .map(|v| {
            for q in D::CLAIMS.iter().filter(|q| !q.needs_ask()) {
                let answers = (D::answer(v, &a, *q), D::answer(v, &b, *q));
                assert_eq!(answers.0, answers.1, "{} {}", D::NAME, q.name());
            }
        })
        .count()
}

proptest! {
    #![proptest_config(config(3000))]

    #[test]
    fn the_same_digest_means_the_same_answers(
        a in prop::collection::vec(event(), 0..6),
        b in prop::collection::vec(event(), 0..6),
        views in prop::collection::vec(view(), 16),
    ) {
        let alike = [
            same::<VmaPtCounter>(&a, &b, &views),
            same::<VmaCounter>(&a, &b, &views),
            same::<VmaSaturatingCounter>(&a, &b, &views),
            same::<PartialRule>(&a, &b, &views),
            same::<Creator>(&a, &b, &views),
            same::<OwnerVma>(&a, &b, &views),
            same::<DoubleMap>(&a, &b, &views),
            same::<RmapId>(&a, &b, &views),
            same::<MmId>(&a, &b, &views),
        ];
        prop_assert!(a != b || alike == [views.len(); 9]);
    }
}
