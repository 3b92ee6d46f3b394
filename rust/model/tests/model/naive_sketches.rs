// SPDX-License-Identifier: GPL-2.0

//! Sketches of counters, done again by hand: from lists of mappings before and after each call, and
//! from counters as the kernels of their time had them.

use std::collections::{
    BTreeMap,
    BTreeSet, //
};

use fmi_model::{
    Answer,
    Kind,
    Question,
    Shown, //
};

use crate::kernel;
use crate::oracle::{
    Counts,
    Mapping, //
};

/// One call.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    pub adds: bool,
    /// It is a part of a PMD split.
    pub split: bool,
    /// It is the first of its run.
    pub new_run: bool,
    pub mm: u64,
    pub mm_id: u32,
    pub vma: u64,
    /// The range of the VMA at this moment.
    pub range: (u64, u64),
    pub base: u64,
    /// All mappings of the folio before.
    pub before: &'a [Mapping],
    /// The same afterwards.
    pub after: &'a [Mapping],
}

/// Who asks whether the folio is shared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Asker {
    pub mm: u64,
    pub mm_id: u32,
    pub base: u64,
}

/// The sketches of one folio.
pub struct NaiveSketches {
    order: u8,
    pmd_order: u8,
    kind: Kind,
    vma_pt: i64,
    vma: i64,
    saturating: i64,
    creator: Option<u64>,
    owner: Option<(u64, u64, u64)>,
    own: i64,
    others: i64,
    compound_mapcount: i32,
    mapcount: Vec<i32>,
    double_map: bool,
    partially_mapped: bool,
    slots: kernel::Folio,
    ids: BTreeMap<u64, u32>,
    mappings: Vec<Mapping>,
}

impl NaiveSketches {
    /// Returns the sketches of an unmapped folio.
    pub fn new(order: u8, pmd_order: u8, kind: Kind) -> Self {
        Self {
            order,
            pmd_order,
            kind,
            vma_pt: 0,
            vma: 0,
            saturating: 0,
            creator: None,
            owner: None,
            own: 0,
            others: 0,
            compound_mapcount: -1,
            mapcount: vec![-1; 1 << order],
            double_map: false,
            partially_mapped: false,
            slots: kernel::Folio::new(order, kind == Kind::Anon),
            ids: BTreeMap::new(),
            mappings: Vec::new(),
        }
    }

    /// Takes a call.
    pub fn take(&mut self, s: &Step) {
        let n = 1usize << self.order;
        let (less, more) = if s.adds {
            (s.before, s.after)
        } else {
            (s.after, s.before)
        };
        let place = |m: &Mapping| (m.mm, m.va, m.entire);
        let known: BTreeSet<_> = less.iter().map(place).collect();
        let new = |m: &&Mapping| !known.contains(&place(m));
        let changed: Vec<Mapping> = more.iter().filter(new).copied().collect();
        let diff = changed.len() as i64;
        assert!(diff > 0);
        let entire = changed[0].entire;
        let sign = if s.adds { 1 } else { -1 };
        self.ids.insert(s.mm, s.mm_id);
        self.mappings = s.after.to_vec();

        if !s.split && s.new_run {
            self.vma_pt += sign;
        }

        if !s.split {
            // The VMA is asked before an add, and after a remove.
            let mapped_in_vma = less
                .iter()
                .any(|m| m.mm == s.mm && s.range.0 <= m.va && m.va < s.range.1);
            let whole_folio = s.adds && (entire || changed.len() == n);
            let change = if whole_folio || !mapped_in_vma {
                sign
            } else {
                0
            };
            self.vma += change;
            self.saturating = match self.saturating {
                3 => 3,
                count => count + change,
            };
        }

        if self.kind == Kind::Anon && s.before.is_empty() {
            self.creator = Some(s.mm);
        }
        if s.before.is_empty() {
            self.owner = Some((s.vma, s.mm, s.base));
        }
        if self.owner.unwrap().0 == s.vma {
            self.own += sign * diff;
        } else {
            self.others += sign * diff;
        }

        if self.kind == Kind::Anon && self.order == self.pmd_order {
            self.shutemov(s, entire, &changed);
        }

        // Without per-page mapcounts: only what is left counts.
        let left = s.after.len();
        let left_entire = s.after.iter().filter(|m| m.entire).count();
        let anon = self.kind == Kind::Anon && self.order > 1;
        if anon && !s.adds && left > 0 && left < n && left_entire == 0 {
            self.partially_mapped = true;
        }

        let first = changed.iter().map(|m| m.page).min().unwrap();
        self.slots.apply(&kernel::Change {
            add: s.adds,
            entire,
            mm: u64::from(s.mm_id),
            first,
            nr: diff as u32,
        });
    }

    /// Does what Linux 4.5 did to a THP, with its biases.
    fn shutemov(&mut self, s: &Step, entire: bool, changed: &[Mapping]) {
        if !entire {
            for m in changed {
                self.mapcount[m.page as usize] += if s.adds { 1 } else { -1 };
            }
            return;
        }
        if s.adds {
            self.compound_mapcount += 1;
            return;
        }
        if s.split && self.compound_mapcount + 1 > 1 && !self.double_map {
            self.double_map = true;
            self.mapcount.iter_mut().for_each(|n| *n += 1);
        }
        self.compound_mapcount -= 1;
        if self.compound_mapcount == -1 && self.double_map {
            self.double_map = false;
            self.mapcount.iter_mut().for_each(|n| *n -= 1);
        }
    }

    /// Starts anew, because nothing is mapped any more; returns what was left in which counter.
    pub fn empty(&mut self) -> Vec<(&'static str, i64)> {
        assert!(self.mappings.is_empty());
        assert!(self.mapcount.iter().all(|n| *n == -1));
        let rests = [
            ("vma_pt_counter", self.vma_pt),
            ("vma_counter", self.vma),
            // Many is not forgotten before.
            (
                "vma_saturating_counter",
                if self.saturating == 3 {
                    0
                } else {
                    self.saturating
                },
            ),
            ("owner_vma", self.own),
        ];
        *self = Self::new(self.order, self.pmd_order, self.kind);
        rests.into_iter().filter(|(_, rest)| *rest != 0).collect()
    }

    /// Returns how many mappings the creator has.
    fn created(&self) -> i64 {
        let by = |m: &&Mapping| Some(m.mm) == self.creator;
        self.mappings.iter().filter(by).count() as i64
    }

    /// Returns P and the number of sums of the order.
    fn rmap_ids(&self) -> Option<(u64, usize)> {
        match self.order {
            0..=2 => Some((4, 1)),
            3..=5 => Some((32, 2)),
            6..=9 => Some((512, 3)),
            10 => Some((1024, 4)),
            _ => None,
        }
    }

    /// Returns the sums over the ids of mappings.
    fn sums(&self, ids: impl Iterator<Item = u32>) -> Vec<u64> {
        let (p, nr) = self.rmap_ids().unwrap();
        let bits = 24 / nr;
        let mut sums = vec![0u64; nr];
        for id in ids {
            for bit in (0..24).filter(|bit| (id >> bit) & 1 == 1) {
                let power = (p + 1).wrapping_pow((bit % bits) as u32);
                sums[bit / bits] = sums[bit / bits].wrapping_add(power);
            }
        }
        sums
    }

    /// Returns the sums of all mappings.
    fn all_sums(&self) -> Vec<u64> {
        self.sums(self.mappings.iter().map(|m| self.ids[&m.mm]))
    }

    /// Returns whether the sums are those of an MM alone.
    fn alone(&self, mm_id: u32) -> bool {
        let total = self.mappings.len();
        total <= 1 << self.order && self.all_sums() == self.sums(std::iter::repeat_n(mm_id, total))
    }

    /// Returns the value of a sketch.
    pub fn value(&self, name: &str, asker: &Asker) -> i64 {
        match name {
            "vma_pt_counter" => self.vma_pt,
            "vma_counter" => self.vma,
            "vma_saturating_counter" => self.saturating,
            "creator" => self.created(),
            "owner_vma" => self.own,
            "double_map" => i64::from(self.compound_mapcount + 1),
            "partial_rule" => self.partially_mapped.into(),
            "rmap_id" => {
                let asked = !self.mappings.is_empty() && self.rmap_ids().is_some();
                i64::from(asked && self.alone(asker.mm_id))
            }
            "mm_id" => {
                let used = |id: &&u32| **id != 0;
                self.slots.counts().mm_id.iter().filter(used).count() as i64
            }
            other => panic!("no sketch {other}"),
        }
    }

    /// Returns the other numbers of a sketch.
    pub fn fields(&self, name: &str) -> Vec<(&'static str, Shown)> {
        let count = |n: i64| Shown::Count(n);
        match name {
            "creator" if self.kind == Kind::Anon => {
                let id = self.creator.map_or(0, |mm| self.ids[&mm]);
                let others = self.mappings.len() as i64 - self.created();
                vec![("mm_id", count(id.into())), ("others", count(others))]
            }
            "owner_vma" => vec![("others", count(self.others))],
            "double_map" if self.kind == Kind::Anon && self.order == self.pmd_order => {
                vec![("flag", Shown::Flag(self.double_map))]
            }
            "rmap_id" if self.rmap_ids().is_some() => {
                let names = ["sum0", "sum1", "sum2", "sum3"];
                let sums = self.all_sums().into_iter().map(Shown::Hex);
                names.into_iter().zip(sums).collect()
            }
            "mm_id" => {
                let k = self.slots.counts();
                vec![
                    ("id0", count(k.mm_id[0].into())),
                    ("count0", count(k.mm_id_mapcount[0].into())),
                    ("id1", count(k.mm_id[1].into())),
                    ("count1", count(k.mm_id_mapcount[1].into())),
                    ("shared", Shown::Flag(k.shared_bit)),
                ]
            }
            _ => Vec::new(),
        }
    }

    /// Returns the answer of a sketch; not for what somebody has to ask, like `refs`.
    pub fn answer(&self, name: &str, q: Question, counts: &Counts, asker: &Asker) -> Answer {
        let n = 1i64 << self.order;
        let value = self.value(name, asker);
        let anon = self.kind == Kind::Anon;
        match (name, q) {
            ("creator" | "partial_rule", _) if !anon => Answer::NotAsked,
            ("double_map", _) if !anon || self.order != self.pmd_order => Answer::NotAsked,
            ("rmap_id", _) if self.rmap_ids().is_none() => Answer::NotAsked,
            ("partial_rule", _) if self.order == 1 => Answer::NotAsked,
            ("creator" | "owner_vma" | "rmap_id", Question::Shared | Question::SharedVma)
                if asker.mm == 0 && counts.total > 0 =>
            {
                Answer::NotAsked
            }
            ("vma_pt_counter", Question::Drift) => Answer::Counter(value, counts.vma_pt),
            ("vma_counter", Question::Drift) => Answer::Counter(value, counts.vma),
            ("vma_saturating_counter", Question::Drift) => {
                Answer::Counter(value, counts.vma.min(3))
            }
            ("double_map", Question::Mapped) => {
                // With the offset of the flag, all pages look mapped; so they are, by PMDs.
                let page = self.mapcount.iter().any(|n| *n >= 0);
                (self.compound_mapcount >= 0 || page).into()
            }
            (_, Question::Mapped) => (value > 0).into(),
            ("vma_pt_counter", Question::Shared | Question::SharedVma) => match value {
                2 => Answer::Unknown,
                n => (n > 2).into(),
            },
            ("vma_counter", Question::Shared | Question::SharedVma) => (value > 1).into(),
            ("vma_saturating_counter", Question::Shared | Question::SharedVma) => match value {
                3 => Answer::Unknown,
                n => (n > 1).into(),
            },
            ("creator", Question::Shared) => {
                if self.creator.unwrap_or(0) == asker.mm {
                    (counts.total > value).into()
                } else if value > 0 {
                    Answer::Yes
                } else {
                    Answer::Unknown
                }
            }
            ("owner_vma", Question::Shared | Question::SharedVma) => {
                let owner = self.owner.map_or((0, 0), |(_, mm, base)| (mm, base));
                if owner == (asker.mm, asker.base) {
                    (self.others > 0).into()
                } else if self.own > 0 {
                    Answer::Yes
                } else {
                    Answer::Unknown
                }
            }
            ("double_map", Question::Entire) => {
                (self.compound_mapcount >= 0 && !self.double_map).into()
            }
            ("partial_rule", Question::Partial) => self.partially_mapped.into(),
            ("rmap_id", Question::Shared) => (counts.total > n || !self.alone(asker.mm_id)).into(),
            ("mm_id", Question::Shared) => self.slots.counts().maybe_mapped_shared.into(),
            ("mm_id", Question::Page) => {
                let shared = self.slots.counts().maybe_mapped_shared;
                let mapped = counts.page.iter().filter(|n| **n > 0);
                let (Some(least), most) = (mapped.min(), counts.max_page()) else {
                    return Answer::NotAsked;
                };
                // A holder of the counts of all pages would know: see who uses this.
                if shared {
                    Answer::Counter(2, 2.min(*least))
                } else {
                    Answer::Counter(1, 2.min(most))
                }
            }
            other => panic!("not claimed: {other:?}"),
        }
    }
}
