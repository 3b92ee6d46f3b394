// SPDX-License-Identifier: GPL-2.0

//! The counters of one large folio, changed as `mm/rmap.c` and `include/linux/rmap.h` of Linux 7.2
//! change them, with their biases.

use fmi_model::KernelCounts;

/// One rmap call, as the kernel's counters see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    pub add: bool,
    pub entire: bool,
    pub mm: u64,
    pub first: u32,
    pub nr: u32,
}

/// The counters.
#[derive(Clone, Debug)]
pub struct Folio {
    pub order: u8,
    pub anon: bool,
    large_mapcount: i32,
    entire_mapcount: i32,
    nr_pages_mapped: i32,
    mapcount: Vec<i32>,
    mm_id: [u32; 2],
    mm_id_mapcount: [i32; 2],
    shared: bool,
    partially_mapped: bool,
}

impl Folio {
    /// Returns the counters of a new folio.
    pub fn new(order: u8, anon: bool) -> Self {
        Self {
            order,
            anon,
            large_mapcount: -1,
            entire_mapcount: -1,
            nr_pages_mapped: 0,
            mapcount: vec![-1; 1 << order],
            mm_id: [0; 2],
            mm_id_mapcount: [-1; 2],
            shared: false,
            partially_mapped: false,
        }
    }

    /// Returns whether `_large_mapcount` says unmapped.
    pub fn unmapped(&self) -> bool {
        self.large_mapcount == -1
    }

    /// Returns `page->_mapcount` + 1.
    pub fn page_mapcount(&self, page: u32) -> i32 {
        self.mapcount[page as usize] + 1
    }

    /// Does all that a call does.
    pub fn apply(&mut self, c: &Change) {
        self.apply_first(c);
        self.apply_second(c);
    }

    /// Does what a call does first: an add changes the per-page counts, a remove the large one.
    pub fn apply_first(&mut self, c: &Change) {
        if c.add {
            self.change_pages(c);
        } else {
            self.change_large(c);
        }
    }

    /// Does the rest.
    pub fn apply_second(&mut self, c: &Change) {
        if c.add {
            self.change_large(c);
        } else {
            self.change_pages(c);
        }
    }

    /// `_entire_mapcount`, `_nr_pages_mapped`, `page->_mapcount`.
    fn change_pages(&mut self, c: &Change) {
        const ENTIRELY_MAPPED: i32 = 0x80_0000;
        let step = if c.add { 1 } else { -1 };
        if c.entire {
            self.entire_mapcount += step;
            let first = c.add && self.entire_mapcount == 0;
            let last = !c.add && self.entire_mapcount == -1;
            if first || last {
                self.nr_pages_mapped += step * ENTIRELY_MAPPED;
            }
        } else {
            for page in c.first..c.first + c.nr {
                let count = &mut self.mapcount[page as usize];
                *count += step;
                if (c.add && *count == 0) || (!c.add && *count == -1) {
                    self.nr_pages_mapped += step;
                }
            }
        }
        let nr = self.nr_pages_mapped;
        if !c.add && self.anon && self.order > 1 && 0 < nr && nr < 1 << self.order {
            self.partially_mapped = true;
        }
    }

    /// `_large_mapcount` and the mm id slots: `folio_add_return_large_mapcount()`,
    /// `folio_sub_return_large_mapcount()`.
    fn change_large(&mut self, c: &Change) {
        let diff = if c.entire { 1 } else { c.nr as i32 };
        let id = c.mm as u32;
        if c.add {
            self.large_mapcount += diff;
            if self.mm_id[0] == id {
                self.mm_id_mapcount[0] += diff;
            } else if self.mm_id[1] == id {
                self.mm_id_mapcount[1] += diff;
            } else if self.mm_id[0] == 0 {
                self.mm_id[0] = id;
                self.mm_id_mapcount[0] = diff - 1;
                // We might have other mappings already.
                if self.large_mapcount != diff - 1 {
                    self.shared = true;
                }
            } else if self.mm_id[1] == 0 {
                self.mm_id[1] = id;
                self.mm_id_mapcount[1] = diff - 1;
                self.shared = true;
            }
            return;
        }
        self.large_mapcount -= diff;
        for slot in 0..2 {
            if self.mm_id[slot] == id {
                self.mm_id_mapcount[slot] -= diff;
                if self.mm_id_mapcount[slot] >= 0 {
                    return;
                }
                self.mm_id_mapcount[slot] = -1;
                self.mm_id[slot] = 0;
                break;
            }
        }
        if self.mm_id_mapcount.contains(&self.large_mapcount) {
            self.shared = false;
        }
    }

    /// Returns the counters without their biases.
    pub fn counts(&self) -> KernelCounts {
        KernelCounts {
            large: self.large_mapcount + 1,
            entire: self.entire_mapcount + 1,
            nr_pages_mapped: self.nr_pages_mapped,
            per_page: true,
            mm_id: self.mm_id,
            mm_id_mapcount: self.mm_id_mapcount.map(|n| n + 1),
            shared_bit: self.shared,
            maybe_mapped_shared: self.large_mapcount > 0 && self.shared,
            partially_mapped: self.partially_mapped,
            swapcache: false,
            refcount: self.large_mapcount + 2,
            expected_refs: self.large_mapcount + 2,
            anon: self.anon,
            order: self.order,
        }
    }
}
