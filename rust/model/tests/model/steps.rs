// SPDX-License-Identifier: GPL-2.0

//! Deeds with random choices, made fit for the world they are done in.

use fmi_model::Kind;
use proptest::prelude::*;

use crate::rig::{
    Size,
    PAGE_SHIFT,
    PT_SHIFT, //
};
use crate::world::{
    Vma,
    World, //
};

/// Returns how properties are tested: with so many random cases, or as many as the environment
/// variable PROPTEST_CASES says, and nothing left behind on disk.
pub fn config(cases: u32) -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    config.failure_persistence = None;
    config
}

/// Something that can be done; numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
pub enum Deed {
    /// Make a VMA for a folio: aligned, askew, across page tables, a part only, below address 0.
    NewVma { mm: u16, folio: u16, shape: u16 },
    /// Map pages by PTEs, as far as they are not mapped.
    Map { vma: u16, first: u16, nr: u16 },
    /// Unmap pages.
    Unmap { vma: u16, first: u16, nr: u16 },
    /// Unmap everything of a VMA.
    Zap { vma: u16 },
    /// Unmap a folio everywhere.
    UnmapFolio { folio: u16 },
    /// Map the folio as a whole.
    MapEntire { vma: u16 },
    /// Remove an entire mapping.
    UnmapEntire { vma: u16 },
    /// Split an entire mapping.
    SplitPmd { vma: u16 },
    /// Split a VMA.
    SplitVma { vma: u16, at: u16 },
    /// Merge two VMAs.
    MergeVmas { vma: u16 },
    /// Begin to copy a VMA into a new MM.
    CopyBegin { vma: u16 },
    /// The kernel copies on.
    CopyStep { copy: u16 },
    /// The walk goes on.
    CopyWalk { copy: u16 },
    /// Finish a copy.
    CopyEnd { copy: u16 },
    /// Fork an MM at once.
    Fork { vma: u16 },
    /// Begin to move a part of a VMA.
    MoveBegin {
        vma: u16,
        first: u16,
        nr: u16,
        to: u16,
    },
    /// The kernel moves on.
    MoveStep { number: u16 },
    /// Finish a move.
    MoveEnd { number: u16 },
    /// Let the kernel's side of a call go on.
    KernelStep { choice: u16 },
    /// Let a grace period pass.
    GracePeriod,
    /// Free an unmapped folio and make another one.
    Reuse { folio: u16, order: u16 },
    /// Another task, another caller.
    Switch { task: u16 },
}

/// Returns deeds, all kinds of them.
pub fn deed() -> impl Strategy<Value = Deed> {
    let n = || 0u16..;
    prop_oneof![
        6 => (n(), n(), n()).prop_map(|(mm, folio, shape)| Deed::NewVma { mm, folio, shape }),
        14 => (n(), n(), n()).prop_map(|(vma, first, nr)| Deed::Map { vma, first, nr }),
        10 => (n(), n(), n()).prop_map(|(vma, first, nr)| Deed::Unmap { vma, first, nr }),
        3 => n().prop_map(|vma| Deed::Zap { vma }),
        2 => n().prop_map(|folio| Deed::UnmapFolio { folio }),
        5 => n().prop_map(|vma| Deed::MapEntire { vma }),
        2 => n().prop_map(|vma| Deed::UnmapEntire { vma }),
        3 => n().prop_map(|vma| Deed::SplitPmd { vma }),
        4 => (n(), n()).prop_map(|(vma, at)| Deed::SplitVma { vma, at }),
        3 => n().prop_map(|vma| Deed::MergeVmas { vma }),
        2 => n().prop_map(|vma| Deed::CopyBegin { vma }),
        3 => n().prop_map(|copy| Deed::CopyStep { copy }),
        3 => n().prop_map(|copy| Deed::CopyWalk { copy }),
        3 => n().prop_map(|copy| Deed::CopyEnd { copy }),
        2 => n().prop_map(|vma| Deed::Fork { vma }),
        2 => (n(), n(), n(), n())
            .prop_map(|(vma, first, nr, to)| Deed::MoveBegin { vma, first, nr, to }),
        3 => n().prop_map(|number| Deed::MoveStep { number }),
        3 => n().prop_map(|number| Deed::MoveEnd { number }),
        5 => n().prop_map(|choice| Deed::KernelStep { choice }),
        4 => Just(Deed::GracePeriod),
        2 => (n(), n()).prop_map(|(folio, order)| Deed::Reuse { folio, order }),
        4 => n().prop_map(|task| Deed::Switch { task }),
    ]
}

/// Orders that the random tests use.
const ORDERS: [u8; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11];

/// Returns an order.
pub fn order() -> impl Strategy<Value = u8> {
    prop::sample::select(&ORDERS[..])
}

/// Returns a world with folios of these orders.
pub fn world(size: Size, orders: &[u8]) -> World {
    let mut w = World::new(size);
    for (n, order) in orders.iter().enumerate() {
        let folio = w.folio(*order, [Kind::Anon, Kind::Shmem, Kind::File][n % 3]);
        let mm = w.mm();
        w.whole_vma(mm, folio);
    }
    w
}

impl World {
    /// Returns the VMA that a number chooses.
    fn choose(&self, choice: u16) -> Option<Vma> {
        (!self.vmas.is_empty()).then(|| self.vmas[choice as usize % self.vmas.len()])
    }

    /// Returns a batch of pages from one that a number chooses on: covered, inside one page table,
    /// all as wanted.
    fn batch(
        &self,
        vma: &Vma,
        first: u16,
        nr: u16,
        wanted: impl Fn(u32) -> bool,
    ) -> Option<(u32, u32)> {
        let nr_pages = self.folios[vma.folio].nr_pages();
        let ok = |page: u32| page < nr_pages && vma.covers(page) && wanted(page);
        let from = u32::from(first) % nr_pages;
        let first = (from..nr_pages).chain(0..from).find(|page| ok(*page))?;
        // Mostly few pages, or all there are.
        let limit = match nr % 4 {
            0 => u32::MAX,
            1 => 1 + u32::from(nr / 4) % nr_pages,
            _ => 1 + u32::from(nr / 4) % 8,
        };
        let mut end = first + 1;
        while end - first < limit && ok(end) && vma.va(end) % (1 << PT_SHIFT) != 0 {
            end += 1;
        }
        Some((first, end - first))
    }

    /// Does a deed, if it can be done.
    pub fn perform(&mut self, deed: &Deed) {
        match *deed {
            Deed::NewVma { mm, folio, shape } => self.new_vma(mm, folio, shape),
            Deed::Map { vma, first, nr } => {
                let Some(v) = self.choose(vma) else { return };
                let free = |page| !self.has_pte(&v, page) && self.may_add(&v, v.va(page));
                if let Some((first, nr)) = self.batch(&v, first, nr, free) {
                    // Where an entire mapping is, PTEs are made by a split only.
                    if !self.has_entire(&v) {
                        self.map(v.id, first, nr);
                    }
                }
            }
            Deed::Unmap { vma, first, nr } => {
                let Some(v) = self.choose(vma) else { return };
                let mapped = |page| self.has_pte(&v, page);
                if let Some((first, nr)) = self.batch(&v, first, nr, mapped) {
                    self.unmap(v.id, first, nr);
                }
            }
            Deed::Zap { vma } => {
                if let Some(v) = self.choose(vma) {
                    self.zap(v.id);
                }
            }
            Deed::UnmapFolio { folio } => self.unmap_folio(folio as usize % self.folios.len()),
            Deed::MapEntire { vma } => {
                let Some(v) = self.choose(vma) else { return };
                let len = u64::from(self.folios[v.folio].nr_pages()) << PAGE_SHIFT;
                let fits = v.base % len == 0 && v.start <= v.base && v.base + len <= v.end;
                let empty = self.mappings.iter().all(|m| m.vma != v.id);
                let moving = self.moving.iter().any(|w| [w.old, w.new].contains(&v.id));
                if fits && empty && !moving && self.may_add(&v, v.base) {
                    self.map_entire(v.id);
                }
            }
            Deed::UnmapEntire { vma } => {
                if let Some(v) = self.choose(vma).filter(|v| self.has_entire(v)) {
                    self.unmap_entire(v.id);
                }
            }
            Deed::SplitPmd { vma } => {
                if let Some(v) = self.choose(vma).filter(|v| self.has_entire(v)) {
                    self.split_pmd(v.id);
                }
            }
            Deed::SplitVma { vma, at } => {
                let Some(v) = self.choose(vma).filter(|v| !self.is_busy(v.mm)) else {
                    return;
                };
                let pages = (v.end - v.start) >> PAGE_SHIFT;
                let at = v.start + ((u64::from(at) % pages) << PAGE_SHIFT);
                if at > v.start {
                    self.split_vma(v.id, at);
                }
            }
            Deed::MergeVmas { vma } => {
                let Some(v) = self.choose(vma).filter(|v| !self.is_busy(v.mm)) else {
                    return;
                };
                let behind = |u: &&Vma| u.mm == v.mm && u.start == v.end && u.base == v.base;
                if let Some(upper) = self.vmas.iter().find(behind).map(|u| u.id) {
                    self.merge_vmas(v.id, upper);
                }
            }
            _ => self.perform_rare(deed),
        }
    }

    /// Does one of the other deeds.
    fn perform_rare(&mut self, deed: &Deed) {
        let pick = |choice: u16, len: usize| (len > 0).then(|| choice as usize % len.max(1));
        match *deed {
            Deed::CopyBegin { vma } => {
                if let Some(v) = self.choose(vma).filter(|v| !self.is_busy(v.mm)) {
                    if self.mappings.len() < 20_000 {
                        let child = self.mm();
                        self.copy_begin(v.id, child);
                    }
                }
            }
            Deed::CopyStep { copy } => {
                if let Some(copy) = pick(copy, self.copying.len()) {
                    self.copy_step(copy);
                }
            }
            Deed::CopyWalk { copy } => {
                if let Some(copy) = pick(copy, self.copying.len()) {
                    self.copy_walk(copy);
                }
            }
            Deed::CopyEnd { copy } => {
                if let Some(copy) = pick(copy, self.copying.len()) {
                    self.copy_end(copy);
                }
            }
            Deed::Fork { vma } => {
                if let Some(v) = self.choose(vma).filter(|v| !self.is_busy(v.mm)) {
                    if self.mappings.len() < 20_000 {
                        self.fork(v.mm);
                    }
                }
            }
            Deed::MoveBegin { vma, first, nr, to } => self.begin_move(vma, first, nr, to),
            Deed::MoveStep { number } => {
                if let Some(number) = pick(number, self.moving.len()) {
                    self.move_step(number);
                }
            }
            Deed::MoveEnd { number } => {
                if let Some(number) = pick(number, self.moving.len()) {
                    self.move_end(number);
                }
            }
            Deed::KernelStep { choice } => self.kernel_step(choice as usize),
            Deed::GracePeriod => self.grace_period(),
            Deed::Reuse {
                folio,
                order: choice,
            } => {
                let folio = folio as usize % self.folios.len();
                let mut vmas = self.vmas.iter().filter(|v| v.folio == folio);
                let open = vmas.any(|v| self.is_busy(v.mm));
                if !open {
                    self.unmap_folio(folio);
                    let order = ORDERS[choice as usize / 2 % ORDERS.len()];
                    let max = self.folios.iter().map(|f| f.order).max().unwrap();
                    let kind = [Kind::Anon, Kind::File][order as usize % 2];
                    self.reuse(folio, order.min(max), kind, choice % 2 == 0);
                    let mm = self.mm();
                    self.whole_vma(mm, folio);
                }
            }
            Deed::Switch { task } => {
                self.task = 1 + u64::from(task % 3);
                self.caller = 1 + u64::from(task / 3 % 3);
            }
            _ => unreachable!("not a rare deed"),
        }
    }

    /// Unmaps a folio everywhere.
    fn unmap_folio(&mut self, folio: usize) {
        for vma in self.vmas.clone() {
            if vma.folio == folio {
                self.zap(vma.id);
            }
        }
    }

    /// Makes a VMA of a shape that a number chooses.
    fn new_vma(&mut self, mm: u16, folio: u16, shape: u16) {
        let folio = folio as usize % self.folios.len();
        let nr_pages = u64::from(self.folios[folio].nr_pages());
        let mms: std::collections::BTreeSet<u64> = self.vmas.iter().map(|v| v.mm).collect();
        let mut mm = match mms.iter().nth(mm as usize % 4) {
            Some(mm) if mms.len() >= 3 || shape % 2 == 0 => *mm,
            _ => self.mm(),
        };
        if self.is_busy(mm) {
            mm = self.mm();
        }
        let slot = self.slot();
        let askew = u64::from(shape / 8);
        let page = |n: u64| n << PAGE_SHIFT;
        let (base, first, pages) = match shape % 8 {
            // Aligned, just the folio.
            0..=2 => (slot, 0, nr_pages),
            // Askew, mostly across a page table.
            3 => (slot + page(513 - askew % nr_pages.min(513)), 0, nr_pages),
            // A window into the folio.
            4 => (
                slot + page(askew % 700),
                askew % nr_pages,
                1 + askew % (nr_pages * 2),
            ),
            // More than the folio.
            5 => (slot + page(askew % 512), 0, nr_pages + askew % 300),
            6 => {
                let base = slot + page(511);
                self.vma(
                    mm,
                    folio,
                    base,
                    base - page(askew % 300),
                    page(nr_pages + 400),
                );
                return;
            }
            // Page 0 would be below address 0: only once per MM.
            _ => {
                let below = 1 + askew % (nr_pages - 1).max(1);
                let base = 0u64.wrapping_sub(page(below));
                if self.vmas.iter().all(|v| v.mm != mm || v.start >= 1 << 32) && below < nr_pages {
                    self.vma(mm, folio, base, 0, page(nr_pages - below));
                }
                return;
            }
        };
        self.vma(mm, folio, base, base + page(first), page(pages));
    }

    /// Begins to move a part of a VMA that numbers choose.
    fn begin_move(&mut self, vma: u16, first: u16, nr: u16, to: u16) {
        let Some(v) = self.choose(vma).filter(|v| !self.is_busy(v.mm)) else {
            return;
        };
        let pages = (v.end - v.start) >> PAGE_SHIFT;
        let (first, nr) = if nr % 2 == 0 {
            (0, pages)
        } else {
            let first = u64::from(first) % pages;
            (first, 1 + u64::from(nr / 2) % (pages - first))
        };
        let start = v.start + (first << PAGE_SHIFT);
        let end = start + (nr << PAGE_SHIFT);
        // An entire mapping across an edge is split before; one inside may move as it is.
        let len = u64::from(self.folios[v.folio].nr_pages()) << PAGE_SHIFT;
        let cut = |edge: u64| edge.wrapping_sub(v.base) < len && edge != v.base;
        if self.has_entire(&v) && (cut(start) || cut(end)) {
            self.split_pmd(v.id);
        }
        let askew = if to % 2 == 0 {
            0
        } else {
            u64::from(to / 2) % 600
        };
        let to = self.slot() + (v.start % (1 << 30)) + (askew << PAGE_SHIFT);
        self.move_begin(v.id, start, end, to);
    }
}
