// SPDX-License-Identifier: GPL-2.0

//! Feeds sketches with the events of one folio, without a shard, and compares them with
//! [`NaiveSketches`] after each.

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
    Answer,
    Event,
    FolioView,
    Kind,
    Level,
    Question,
    Shown, //
};

use crate::naive_sketches::{
    Asker,
    NaiveSketches,
    Step, //
};
use crate::oracle::{
    Counts,
    Mapping, //
};

const PAGE_SHIFT: u32 = 12;
const PT_SHIFT: u32 = 21;
const PMD_ORDER: u8 = 9;

/// Declares the states of sketches, and how to feed and ask them.
macro_rules! states {
    ($($field:ident: $definition:ty,)*) => {
        /// The states of all sketches.
        #[derive(Default)]
        pub struct States {
            $(pub $field: <$definition as Definition>::State,)*
        }

        impl States {
            fn event(&mut self, e: &Event) {
                $(<$definition>::event(&mut self.$field, e);)*
            }

            /// Returns what is left in which counter, and starts anew.
            fn empty(&mut self) -> Vec<(&'static str, i64)> {
                let rests = [$((<$definition>::NAME, <$definition>::rest(&self.$field)),)*];
                *self = Self::default();
                rests.into_iter().filter(|(_, rest)| *rest != 0).collect()
            }

            /// Returns the value of a sketch.
            pub fn value(&self, name: &str, v: &FolioView) -> i64 {
                match name {
                    $(<$definition>::NAME => <$definition>::value(v, &self.$field),)*
                    other => panic!("no sketch {other}"),
                }
            }

            /// Returns the answer of a sketch.
            pub fn answer(&self, name: &str, v: &FolioView, q: Question) -> Answer {
                match name {
                    $(<$definition>::NAME => <$definition>::answer(v, &self.$field, q),)*
                    other => panic!("no sketch {other}"),
                }
            }

            fn fields(&self, name: &str, v: &FolioView) -> Vec<(&'static str, Shown)> {
                let mut fields = Vec::new();
                let tell: &mut dyn FnMut(&'static str, Shown) =
                    &mut |name, shown| fields.push((name, shown));
                match name {
                    $(<$definition>::NAME => <$definition>::fields(v, &self.$field, tell),)*
                    other => panic!("no sketch {other}"),
                }
                fields
            }
        }

        /// The names of all sketches and what they claim.
        pub const SKETCHES: &[(&str, &[Question])] =
            &[$((<$definition>::NAME, <$definition>::CLAIMS),)*];
    };
}

states! {
    vma_pt: VmaPtCounter,
    vma: VmaCounter,
    saturating: VmaSaturatingCounter,
    creator: Creator,
    owner: OwnerVma,
    double_map: DoubleMap,
    partial: PartialRule,
    rmap_id: RmapId,
    mm_id: MmId,
}

/// A VMA that may map the folio.
#[derive(Clone, Copy, Debug)]
pub struct Vma {
    pub id: u64,
    pub mm: u64,
    /// The address of page 0.
    pub base: u64,
    pub start: u64,
    pub end: u64,
}

/// Calls in one direction, of a task, on a VMA and page table.
type Run = (u8, u64, u64, u64);

/// One folio, and who maps it.
pub struct Driver {
    order: u8,
    kind: Kind,
    pub vmas: Vec<Vma>,
    pub mappings: Vec<Mapping>,
    pub states: States,
    naive: NaiveSketches,
    ids: Vec<(u64, u32)>,
    run: Option<Run>,
    /// Who runs.
    pub task: u64,
    next: u64,
    adders: Vec<(u64, u64)>,
    /// What was left in counters when nothing was mapped, by times.
    pub rests: Vec<Vec<(&'static str, i64)>>,
}

impl Driver {
    pub fn new(order: u8, kind: Kind) -> Self {
        Self {
            order,
            kind,
            vmas: Vec::new(),
            mappings: Vec::new(),
            states: States::default(),
            naive: NaiveSketches::new(order, PMD_ORDER, kind),
            ids: Vec::new(),
            run: None,
            task: 1,
            next: 1,
            adders: Vec::new(),
            rests: Vec::new(),
        }
    }

    fn nr_pages(&self) -> u32 {
        1 << self.order
    }

    fn unique(&mut self) -> u64 {
        self.next += 1;
        self.next << 8
    }

    /// Returns an address that is far from all others.
    pub fn place(&mut self) -> u64 {
        self.unique() << 32
    }

    /// Makes an MM with this id, or with the lowest that is free.
    pub fn mm(&mut self, id: Option<u32>) -> u64 {
        let mm = self.unique();
        let used = |id: u32| self.ids.iter().any(|(_, used)| *used == id);
        let id = id.filter(|id| !used(*id));
        let id = id.unwrap_or_else(|| (1..).find(|id| !used(*id)).unwrap());
        self.ids.push((mm, id));
        mm
    }

    fn id_of(&self, mm: u64) -> u32 {
        let found = self.ids.iter().find(|(other, _)| *other == mm);
        found.map_or(0, |(_, id)| *id)
    }

    /// Makes a VMA that covers the pages `first..end` with page 0 at `base`.
    pub fn vma(&mut self, mm: u64, base: u64, first: u32, end: u32) -> u64 {
        let id = self.unique();
        let va = |page: u32| base + (u64::from(page) << PAGE_SHIFT);
        self.vmas.push(Vma {
            id,
            mm,
            base,
            start: va(first),
            end: va(end),
        });
        id
    }

    /// Makes an MM with a VMA that covers the folio, aligned.
    pub fn whole(&mut self) -> u64 {
        let mm = self.mm(None);
        self.vma(mm, 1 << 30, 0, self.nr_pages())
    }

    pub fn get(&self, vma: u64) -> Vma {
        *self.vmas.iter().find(|v| v.id == vma).unwrap()
    }

    /// Returns the pages that a VMA covers.
    pub fn covers(&self, vma: u64) -> std::ops::Range<u32> {
        let v = self.get(vma);
        let page = |va: u64| va.saturating_sub(v.base) >> PAGE_SHIFT;
        let end = page(v.end).min(u64::from(self.nr_pages()));
        page(v.start) as u32..end as u32
    }

    fn mapping(&self, vma: &Vma, page: u32, entire: bool) -> Mapping {
        Mapping {
            folio: 0,
            mm: vma.mm,
            va: vma.base + (u64::from(page) << PAGE_SHIFT),
            page,
            entire,
            vma: vma.id,
        }
    }

    /// Returns which pages a VMA maps by PTEs.
    fn mapped_by(&self, vma: u64) -> Vec<bool> {
        let mut pages = vec![false; self.nr_pages() as usize];
        for m in self.mappings.iter().filter(|m| m.vma == vma && !m.entire) {
            pages[m.page as usize] = true;
        }
        pages
    }

    pub fn maps_entire(&self, vma: u64) -> bool {
        self.mappings
            .contains(&self.mapping(&self.get(vma), 0, true))
    }

    /// Makes one call.
    fn call(&mut self, adds: bool, fork: bool, split: bool, vma: u64, pages: &[u32]) {
        let v = self.get(vma);
        let entire = pages.is_empty();
        let before = self.mappings.clone();
        let all = if entire { &[0][..] } else { pages };
        if adds {
            let new = all.iter().map(|page| self.mapping(&v, *page, entire));
            self.mappings.extend(new.collect::<Vec<_>>());
        } else {
            let gone = |m: &Mapping| (m.vma, m.entire) == (vma, entire) && all.contains(&m.page);
            self.mappings.retain(|m| !gone(m));
            assert_eq!(before.len() - self.mappings.len(), all.len());
        }
        let first = all[0];
        let table = (v.base + (u64::from(first) << PAGE_SHIFT)) >> PT_SHIFT;
        let run = match (split, fork) {
            (true, _) => (3, self.task, vma, table),
            (_, true) => (2, 0, vma, table),
            _ => (u8::from(adds), self.task, vma, table),
        };
        let new_run = self.run != Some(run);
        self.run = Some(run);
        if adds {
            self.adders.push((v.mm, v.base));
        }
        let others = if adds { &before } else { &self.mappings };
        let in_vma = |m: &Mapping| m.mm == v.mm && v.start <= m.va && m.va < v.end;
        let event = Event {
            adds,
            fork,
            split,
            new_run,
            level: if entire { Level::Entire } else { Level::Pte },
            nr: if entire {
                self.nr_pages()
            } else {
                pages.len() as u32
            },
            nr_pages: self.nr_pages(),
            order: self.order,
            pmd_order: PMD_ORDER,
            kind: self.kind,
            mm: v.mm,
            mm_id: self.id_of(v.mm),
            vma,
            base: v.base,
            vma_maps: others.iter().any(in_vma),
            entire: before.iter().filter(|m| m.entire).count() as u32,
            total: before.len() as u64,
        };
        self.states.event(&event);
        self.naive.take(&Step {
            adds,
            split,
            new_run,
            mm: v.mm,
            mm_id: event.mm_id,
            vma,
            range: (v.start, v.end),
            base: v.base,
            before: &before,
            after: &self.mappings,
        });
        if self.mappings.is_empty() {
            let rests = self.states.empty();
            assert_eq!(rests, self.naive.empty());
            self.rests.push(rests);
            self.run = None;
            self.adders.clear();
        }
        self.check();
    }

    /// Maps or unmaps pages of a VMA by PTEs, a call for each page table or, if `single`, page: so
    /// many pages, for large folios.
    fn change(&mut self, adds: bool, fork: bool, vma: u64, pages: &[u32], single: bool) {
        let base = self.get(vma).base;
        let table = |page: u32| (base + (u64::from(page) << PAGE_SHIFT)) >> PT_SHIFT;
        let few = if single {
            (self.nr_pages() / 32).max(1)
        } else {
            u32::MAX
        };
        let calls =
            pages.chunk_by(|a, b| a + 1 == *b && a / few == b / few && table(*a) == table(*b));
        for call in calls {
            self.call(adds, fork, false, vma, call);
        }
    }

    /// Maps those of the pages that are covered and not mapped there.
    pub fn map(&mut self, vma: u64, pages: std::ops::Range<u32>, single: bool) {
        if self.maps_entire(vma) {
            return;
        }
        let covers = self.covers(vma);
        let mapped = self.mapped_by(vma);
        let free = |page: &u32| covers.contains(page) && !mapped[*page as usize];
        let pages: Vec<u32> = pages.filter(free).collect();
        self.change(true, false, vma, &pages, single);
    }

    /// Unmaps those of the pages that the VMA maps.
    pub fn unmap(&mut self, vma: u64, pages: std::ops::Range<u32>, single: bool) {
        let mapped = self.mapped_by(vma);
        let pages: Vec<u32> = pages.filter(|page| mapped[*page as usize]).collect();
        self.change(false, false, vma, &pages, single);
    }

    /// Maps the folio by a PMD, if that can be.
    pub fn map_entire(&mut self, vma: u64) {
        let v = self.get(vma);
        let maps = |m: &Mapping| m.mm == v.mm && m.va.wrapping_sub(v.base) < 1 << PT_SHIFT;
        if self.order == PMD_ORDER
            && self.covers(vma) == (0..self.nr_pages())
            && v.base % (1 << PT_SHIFT) == 0
            && !self.mappings.iter().any(maps)
        {
            self.call(true, false, false, vma, &[]);
        }
    }

    pub fn unmap_entire(&mut self, vma: u64) {
        if self.maps_entire(vma) {
            self.call(false, false, false, vma, &[]);
        }
    }

    /// Splits a PMD; for a file folio, this only unmaps.
    pub fn split_pmd(&mut self, vma: u64) {
        if !self.maps_entire(vma) {
            return;
        }
        let anon = self.kind == Kind::Anon;
        if anon {
            let pages: Vec<u32> = (0..self.nr_pages()).collect();
            self.call(true, false, true, vma, &pages);
        }
        self.call(false, false, anon, vma, &[]);
    }

    /// Copies an MM, with up to so many pages in a call; returns the new one.
    pub fn fork(&mut self, mm: u64, single: bool) -> u64 {
        let child = self.mm(None);
        for v in self.vmas.clone().iter().filter(|v| v.mm == mm) {
            let id = self.unique();
            self.vmas.push(Vma {
                id,
                mm: child,
                ..*v
            });
            if self.maps_entire(v.id) {
                self.call(true, true, false, id, &[]);
            }
            let mapped = self.mapped_by(v.id);
            let maps = |page: &u32| mapped[*page as usize];
            let pages: Vec<u32> = self.covers(v.id).filter(maps).collect();
            self.change(true, true, id, &pages, single);
        }
        child
    }

    /// Unmaps all and ends an MM.
    pub fn exit(&mut self, mm: u64, single: bool) {
        for v in self.vmas.clone().iter().filter(|v| v.mm == mm) {
            self.unmap_entire(v.id);
            self.unmap(v.id, self.covers(v.id), single);
        }
        self.vmas.retain(|v| v.mm != mm);
        self.ids.retain(|(other, _)| *other != mm);
    }

    /// Splits a VMA before a page; the upper part is another VMA, which is returned.
    pub fn split_vma(&mut self, vma: u64, page: u32) -> u64 {
        let covers = self.covers(vma);
        if !(covers.start < page && page < covers.end) {
            return vma;
        }
        self.split_pmd(vma);
        let id = self.unique();
        let v = self.vmas.iter_mut().find(|v| v.id == vma).unwrap();
        let at = v.base + (u64::from(page) << PAGE_SHIFT);
        let upper = Vma {
            id,
            start: at,
            ..*v
        };
        v.end = at;
        self.vmas.push(upper);
        for m in &mut self.mappings {
            if m.vma == vma && m.va >= at {
                m.vma = id;
            }
        }
        self.check();
        id
    }

    /// Merges a VMA with the one above it, if there is one.
    pub fn merge_vma(&mut self, vma: u64) {
        let v = self.get(vma);
        let above = |u: &&Vma| (u.mm, u.base, u.start) == (v.mm, v.base, v.end);
        let Some(upper) = self.vmas.iter().find(above).copied() else {
            return;
        };
        self.vmas.retain(|u| u.id != upper.id);
        self.vmas.iter_mut().find(|u| u.id == vma).unwrap().end = upper.end;
        for m in &mut self.mappings {
            if m.vma == upper.id {
                m.vma = vma;
            }
        }
        self.check();
    }

    /// Moves a VMA with its mappings to another address; it becomes another VMA.
    ///
    /// Nothing happens if another VMA of the MM is there: mremap would unmap it first.
    pub fn move_vma(&mut self, vma: u64, distance: u64) {
        let v = *self.vmas.iter().find(|v| v.id == vma).unwrap();
        let (start, end) = (v.start + distance, v.end + distance);
        let is_there = |o: &Vma| o.mm == v.mm && o.id != vma && o.start < end && start < o.end;
        if self.vmas.iter().any(is_there) {
            return;
        }
        self.split_pmd(vma);
        let id = self.unique();
        let v = self.vmas.iter_mut().find(|v| v.id == vma).unwrap();
        v.id = id;
        v.base += distance;
        v.start += distance;
        v.end += distance;
        for m in &mut self.mappings {
            if m.vma == vma {
                m.vma = id;
                m.va += distance;
            }
        }
        self.check();
    }

    /// Returns the one that mapped the folio last and still does.
    pub fn asker(&self) -> Asker {
        let bases = |mm: u64| {
            let mappings = self.mappings.iter().filter(move |m| m.mm == mm);
            mappings.map(|m| m.va - (u64::from(m.page) << PAGE_SHIFT))
        };
        let maps = |(mm, _): &&(u64, u64)| bases(*mm).next().is_some();
        let Some((mm, base)) = self.adders.iter().rev().find(maps) else {
            return Asker::default();
        };
        // It may have moved.
        let there = bases(*mm).find(|b| b == base).or(bases(*mm).next());
        Asker {
            mm: *mm,
            mm_id: self.id_of(*mm),
            base: there.unwrap(),
        }
    }

    pub fn counts(&self) -> Counts {
        Counts::of(self.mappings.iter(), self.nr_pages(), PT_SHIFT)
    }

    /// Returns the numbers that a definition reads.
    pub fn view(&self) -> FolioView {
        let counts = self.counts();
        let asker = self.asker();
        FolioView {
            asker_mm: asker.mm,
            asker_mm_id: asker.mm_id,
            asker_base: asker.base,
            ..view_of(&counts, self.order, PMD_ORDER, self.kind)
        }
    }

    /// Compares all sketches.
    fn check(&self) {
        let (counts, asker, view) = (self.counts(), self.asker(), self.view());
        for (name, claims) in SKETCHES {
            let value = self.states.value(name, &view);
            assert_eq!(value, self.naive.value(name, &asker), "{name}");
            let fields = self.states.fields(name, &view);
            assert_eq!(fields, self.naive.fields(name), "{name}");
            for q in claims.iter().filter(|q| !q.needs_ask()) {
                let ours = self.states.answer(name, &view, *q);
                let naive = self.naive.answer(name, *q, &counts, &asker);
                let unsure = ours == Answer::NotAsked && counts.page.contains(&0);
                if (*name, *q, unsure) == ("mm_id", Question::Page, true) {
                    // The counts of all pages together did not tell.
                    assert!(naive != Answer::Counter(1, 1), "{counts:?}");
                    continue;
                }
                assert_eq!(ours, naive, "{name} {q:?}");
            }
        }
    }

    /// Checks values of sketches, or of formulas over the mappings.
    pub fn expect(&self, values: &[(&str, i64)]) {
        let view = self.view();
        for (name, value) in values {
            let ours = if SKETCHES.iter().any(|(sketch, _)| sketch == name) {
                self.states.value(name, &view)
            } else {
                let d = fmi_model::DEFINITIONS.iter().find(|d| d.name == *name);
                (d.expect(name).value)(&view, &fmi_model::Sketches::default())
            };
            assert_eq!(ours, *value, "{name}");
        }
    }
}

/// Returns what the numbers of a folio are to a definition.
pub fn view_of(counts: &Counts, order: u8, pmd_order: u8, kind: Kind) -> FolioView {
    let number = |n: i64| n as u32;
    FolioView {
        order,
        pmd_order,
        kind,
        nr_pages: counts.nr_pages,
        total: counts.total as u64,
        entire: number(counts.entire),
        nr_pages_mapped: number(counts.nr_pages_mapped),
        nr_pte_mapped: number(counts.nr_pte_mapped),
        first_page: number(counts.page[0]),
        min_page: number(*counts.page.iter().min().unwrap()),
        min_mapped_page: number(counts.min_mapped_page()),
        max_page: number(counts.max_page()),
        mm: number(counts.mm),
        vma: number(counts.vma),
        vma_pt: number(counts.vma_pt),
        full: number(counts.full),
        partial: number(counts.partial),
        total_pages: counts.total_pages as u64,
        ..FolioView::default()
    }
}
