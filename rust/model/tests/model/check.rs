// SPDX-License-Identifier: GPL-2.0

//! Checks of the shadow of a world's folios against the list of mappings and the kernel's counters.

use fmi_model::{
    Answer,
    Compare,
    FolioView,
    Level,
    MappingCheck,
    Place,
    Sketches,
    State,
    DEFINITIONS, //
};

use crate::naive::knows;
use crate::oracle::{
    Counts,
    Mapping,
    Says, //
};
use crate::rig::{
    page_counts,
    record_bits,
    PAGE_SHIFT,
    PT_SHIFT, //
};
use crate::world::{
    Folio,
    World, //
};

impl World {
    /// Checks that nothing that the kernel's counters say is taken for a difference.
    pub fn assert_no_false_alarm(&mut self) {
        self.show_kernel();
        for folio in &self.folios {
            let pfn = folio.pfn;
            let compared = self
                .rig
                .with(|shard, env| Some(shard.compare(shard.find(pfn)?, env)));
            assert!(
                !matches!(compared, Some(Compare::Differs(_))),
                "{compared:?}"
            );
        }
    }

    /// Returns the mappings of a folio that the hooks can know of: not those that a copy has made
    /// where the walk has not been.
    fn known(&self, folio: usize) -> Vec<Mapping> {
        let unknown = |m: &Mapping| {
            let mut copies = self.copying.iter();
            copies.any(|c| c.dst == m.vma && m.va >= c.walked)
        };
        let of_folio = self.mappings.iter().filter(|m| m.folio == folio);
        of_folio.filter(|m| !unknown(m)).copied().collect()
    }

    /// Checks a folio's shadow against the list of mappings, if it is tracked.
    ///
    /// While a move is under way it is not settled where mappings are, only which.
    pub fn assert_exact(&mut self, folio: usize) {
        let known = self.known(folio);
        let counts = Counts::of(known.iter(), self.folios[folio].nr_pages(), PT_SHIFT);
        let placed = self.moving.is_empty();
        let Some(v) = self.view(folio).filter(|v| v.state != State::Lost) else {
            assert!(counts.total == 0 || self.may_lose, "not tracked");
            return;
        };
        if v.total == 0 && self.may_lose {
            return;
        }
        if v.state == State::Learning {
            return self.assert_part(folio);
        }
        let ours = Counts {
            nr_pages: v.nr_pages,
            total: v.total as i64,
            entire: v.entire.into(),
            page: counts.page.clone(),
            nr_pages_mapped: v.nr_pages_mapped.into(),
            nr_pte_mapped: v.nr_pte_mapped.into(),
            vma_pt: if placed {
                v.vma_pt.into()
            } else {
                counts.vma_pt
            },
            vma: if placed { v.vma.into() } else { counts.vma },
            mm: v.mm.into(),
            full: if placed { v.full.into() } else { counts.full },
            partial: if placed {
                v.partial.into()
            } else {
                counts.partial
            },
            total_pages: v.total_pages as i64,
        };
        if counts.total == 0 {
            // It may have been another folio that was drained.
            assert_eq!(v.total, 0);
            return;
        }
        assert_eq!(ours, counts);
        assert_eq!(v.state, State::Live);
        assert_eq!(v.order, self.folios[folio].order);
        assert_eq!(i64::from(v.max_page), counts.max_page());
        assert_eq!(i64::from(v.min_page), *counts.page.iter().min().unwrap());
        assert_eq!(i64::from(v.min_mapped_page), counts.min_mapped_page());
        assert_eq!(i64::from(v.first_page), counts.page[0]);
        self.assert_pages(folio, &counts);
        if placed {
            let sketches = self.sketches(folio);
            assert_definitions(&v, &sketches, &counts);
            self.assert_records(folio, &known);
        }
    }

    /// Checks the count of each page.
    fn assert_pages(&mut self, folio: usize, counts: &Counts) {
        let pfn = self.folios[folio].pfn;
        let (pages, odd) = self.rig.with(|shard, _| {
            let e = shard.find(pfn).unwrap();
            let (mut odd, first) = ([7; 3], counts.nr_pages - 1);
            shard.pages_pte(e, first, &mut odd);
            (page_counts(shard, e), odd)
        });
        for (i, page) in counts.page.iter().enumerate() {
            assert_eq!(pages[i], page - counts.entire, "page {i}");
        }
        let nr = counts.page.len();
        assert!(pages[nr..].iter().all(|n| *n == 0), "there is no such page");
        assert_eq!(odd.map(i64::from), [pages[nr - 1], 0, 0]);
    }

    /// Checks the records of a folio both ways.
    fn assert_records(&mut self, folio: usize, mappings: &[Mapping]) {
        let Folio { pfn, order, .. } = self.folios[folio];
        let base_of = |m: &Mapping| m.va.wrapping_sub(u64::from(m.page) << PAGE_SHIFT);
        self.rig.with(|shard, _| {
            let e = shard.find(pfn).unwrap();
            for m in mappings {
                let check = shard.check_mapping(&Place {
                    pfn,
                    order,
                    mm: m.mm,
                    base: base_of(m),
                    table: None,
                    level: if m.entire { Level::Entire } else { Level::Pte },
                    first: m.page,
                    nr: if m.entire { 1 << order } else { 1 },
                });
                assert_eq!(check, MappingCheck::Ok, "{m:?}");
                let bits = record_bits(shard, e, m.mm, base_of(m));
                assert!(m.entire || bits[m.page as usize]);
            }
            let mut nr_records = 0;
            for r in shard.records(e) {
                nr_records += 1;
                let bits = record_bits(shard, e, r.mm, r.base);
                assert!(!bits[1 << order..].contains(&true), "no such page");
                let here = mappings
                    .iter()
                    .filter(|m| m.mm == r.mm && base_of(m) == r.base);
                let counts = Counts::of(here, 1 << order, PT_SHIFT);
                assert_eq!(i64::from(r.nr), counts.total - counts.entire, "{r:?}");
                assert_eq!(i64::from(r.entire), counts.entire, "{r:?}");
                assert_eq!(i64::from(r.vmas), counts.vma, "{r:?}");
                assert_eq!(i64::from(r.tuples), counts.vma_pt, "{r:?}");
                assert!(counts.total > 0, "{r:?}");
            }
            assert_eq!(shard.view(e).unwrap().nr_records, nr_records);
        });
    }

    /// Checks everything.
    pub fn assert_all(&mut self) {
        self.assert_no_false_alarm();
        for folio in 0..self.folios.len() {
            self.assert_exact(folio);
        }
    }

    /// Checks that, once everything has come to rest, the kernel's counters are equal.
    pub fn assert_equal_at_rest(&mut self) {
        assert!(self.copying.is_empty() && self.moving.is_empty());
        self.grace_period();
        for Folio { pfn, kernel, .. } in self.folios.clone() {
            self.rig.with(|shard, env| {
                let tracked = |e: &u32| {
                    let state = shard.view(*e).map(|v| v.state);
                    matches!(state, Some(State::Live | State::Draining))
                };
                let Some(e) = shard.find(pfn).filter(tracked) else {
                    return;
                };
                let view = shard.view(e).unwrap();
                if view.total == 0 && kernel.order != view.order {
                    return;
                }
                assert_eq!(shard.compare(e, env), Compare::Equal);
                for (i, count) in (0..view.nr_pages).zip(page_counts(shard, e)) {
                    assert_eq!(count, i64::from(kernel.page_mapcount(i)), "page {i}");
                }
                assert_eq!(
                    shard.view_with_kernel(e, env).unwrap().kernel,
                    Some(kernel.counts())
                );
            });
        }
    }
}

/// Checks the value and all answers of every definition.
pub fn assert_definitions(v: &FolioView, s: &Sketches, counts: &Counts) {
    for d in &DEFINITIONS {
        for q in d.claims {
            if !knows(d.id, *q) {
                continue;
            }
            let value = d.value_of(v, s);
            assert_eq!(value, Some(counts.value(d.name)), "{}", d.name);
            let answer = d.answer_of(v, s, *q);
            let says = match answer {
                Answer::NotAsked => {
                    assert!(d.reads_kernel && v.kernel.is_none());
                    continue;
                }
                Answer::Yes => Says::Yes,
                Answer::No => Says::No,
                Answer::Unknown => Says::Unknown,
                Answer::Count(n) => Says::Times(n as i64),
                Answer::Counter(..) => panic!("{} is no counter", d.name),
            };
            assert_eq!(
                says,
                counts.says(d.name, q.name()),
                "{} {}",
                d.name,
                q.name()
            );
            if let Some(truth) = q.truth(v) {
                assert_eq!(truth, counts.truth(q.name()));
            }
        }
    }
}
