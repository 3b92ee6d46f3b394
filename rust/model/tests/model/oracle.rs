// SPDX-License-Identifier: GPL-2.0

//! The truth: a list of mappings, counted by hand.

use std::collections::BTreeSet;

/// One mapping: a page-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The folio, by number.
    pub folio: usize,
    /// The MM.
    pub mm: u64,
    /// The address.
    pub va: u64,
    /// The page that is mapped; 0 for an entire mapping.
    pub page: u32,
    /// Whether the entry maps the whole folio.
    pub entire: bool,
    /// The VMA that the address is in.
    pub vma: u64,
}

/// Numbers of a folio, as `Documentation/definitions.rst` defines them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counts {
    pub nr_pages: u32,
    pub total: i64,
    pub entire: i64,
    pub page: Vec<i64>,
    pub nr_pages_mapped: i64,
    pub nr_pte_mapped: i64,
    pub vma_pt: i64,
    pub vma: i64,
    pub mm: i64,
    pub full: i64,
    pub partial: i64,
    pub total_pages: i64,
}

/// How a definition answers a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Says {
    Yes,
    No,
    Unknown,
    /// So many mappings.
    Times(i64),
    /// A counter, and what it should be.
    Counter(i64, i64),
}

impl From<bool> for Says {
    fn from(yes: bool) -> Self {
        if yes {
            Says::Yes
        } else {
            Says::No
        }
    }
}

impl Counts {
    /// Counts the mappings of a folio with so many pages; a page table maps `1 << pt_shift` bytes.
    pub fn of<'a>(
        mappings: impl Iterator<Item = &'a Mapping> + Clone,
        nr_pages: u32,
        pt_shift: u32,
    ) -> Self {
        let mut page = vec![0i64; nr_pages as usize];
        let mut pte = vec![0i64; nr_pages as usize];
        let mut vmas = BTreeSet::new();
        let mut tuples = BTreeSet::new();
        let mut mms = BTreeSet::new();
        let (mut total, mut entire, mut total_pages) = (0, 0, 0);
        for m in mappings.clone() {
            total += 1;
            if m.entire {
                entire += 1;
                total_pages += i64::from(nr_pages);
                page.iter_mut().for_each(|n| *n += 1);
            } else {
                total_pages += 1;
                page[m.page as usize] += 1;
                pte[m.page as usize] += 1;
            }
            vmas.insert(m.vma);
            tuples.insert((m.vma, m.va >> pt_shift));
            mms.insert(m.mm);
        }
        let is_full = |vma: &&u64| {
            let mut pages = vec![false; nr_pages as usize];
            for m in mappings.clone().filter(|m| m.vma == **vma) {
                if m.entire {
                    pages.fill(true);
                } else {
                    pages[m.page as usize] = true;
                }
            }
            pages.iter().all(|mapped| *mapped)
        };
        let full = vmas.iter().filter(is_full).count() as i64;
        Self {
            nr_pages,
            total,
            entire,
            nr_pages_mapped: page.iter().filter(|n| **n > 0).count() as i64,
            nr_pte_mapped: pte.iter().filter(|n| **n > 0).count() as i64,
            page,
            vma_pt: tuples.len() as i64,
            vma: vmas.len() as i64,
            mm: mms.len() as i64,
            full,
            partial: vmas.len() as i64 - full,
            total_pages,
        }
    }

    /// Returns the least count of a page that is mapped.
    pub fn min_mapped_page(&self) -> i64 {
        let mapped = self.page.iter().filter(|n| **n > 0);
        mapped.min().copied().unwrap_or(0)
    }

    /// Returns the largest number of mappings of a page.
    pub fn max_page(&self) -> i64 {
        *self.page.iter().max().unwrap()
    }

    /// Returns the value of a definition.
    pub fn value(&self, definition: &str) -> i64 {
        match definition {
            "total" => self.total,
            "entire" => self.entire,
            "page" => self.page.iter().sum(),
            "first_page" => self.page[0],
            "max_page" => self.max_page(),
            "nr_pages_mapped" => self.nr_pages_mapped,
            "vma_pt" => self.vma_pt,
            "vma" => self.vma,
            "mm" => self.mm,
            "full" => self.full,
            "partial" => self.partial,
            "total_pages" => self.total_pages,
            // Not read.
            "kernel" => -1,
            other => panic!("no definition {other}"),
        }
    }

    /// Returns whether [`Counts::says`] has the answer: for formulas over T.
    pub fn knows(definition: &str, question: &str) -> bool {
        const FORMULAS: [&str; 12] = [
            "total",
            "entire",
            "page",
            "first_page",
            "max_page",
            "nr_pages_mapped",
            "vma_pt",
            "vma",
            "mm",
            "full",
            "partial",
            "total_pages",
        ];
        FORMULAS.contains(&definition)
            && matches!(
                question,
                "mapped" | "shared" | "shared_vma" | "entire" | "partial" | "page"
            )
    }

    /// Returns what a definition says to a question it claims, by `Documentation/definitions.rst`.
    pub fn says(&self, definition: &str, question: &str) -> Says {
        let n = i64::from(self.nr_pages);
        let value = self.value(definition);
        match (definition, question) {
            (_, "mapped") => (value > 0).into(),
            ("vma_pt", "shared" | "shared_vma") => match value {
                0 | 1 => Says::No,
                2 => Says::Unknown,
                _ => Says::Yes,
            },
            ("mm" | "vma" | "first_page", "shared") | ("vma", "shared_vma") => (value > 1).into(),
            ("entire", "entire") => (value > 0).into(),
            ("full", "entire") => (self.full > 0 && self.partial == 0).into(),
            ("total_pages", "entire") => (self.total > 0 && value == self.total * n).into(),
            ("nr_pages_mapped" | "total_pages", "partial") => (0 < value && value < n).into(),
            ("partial", "partial") => (value > 0 && self.full == 0).into(),
            ("max_page", "page") => Says::Times(value),
            other => panic!("not claimed: {other:?}"),
        }
    }

    /// Returns the true answer; not for `page`.
    pub fn truth(&self, question: &str) -> bool {
        match question {
            "mapped" => self.total > 0,
            "shared" => self.mm > 1,
            "shared_vma" => self.vma > 1,
            "entire" => self.total > 0 && self.total == self.entire,
            "partial" => self.page.contains(&0) && self.page.iter().any(|n| *n > 0),
            other => panic!("no yes or no: {other}"),
        }
    }
}
