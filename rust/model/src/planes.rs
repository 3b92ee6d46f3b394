// SPDX-License-Identifier: GPL-2.0

//! How often each page is mapped by records that map only a part of the folio.
//!
//! The counts are kept *vertically*: plane k is a bitmap with bit k of every page's count. A batch of
//! mappings is added like one number, 64 pages at a time, so that a call costs a few operations per
//! word and plane, however many records the folio has; there are 1 + log2(count) planes.
//!
//! Records whose PTEs map all pages are not in here (they are counted beside), so most
//! folios have no planes at all. A chunk holds up to [`PLANES_PER_CHUNK`] planes of a folio that is
//! smaller than the largest; chunks are linked in the order of the planes.

use crate::bits::{
    index,
    mask_in,
    narrow,
    pages_of_order,
    words_in,
    words_of,
    WORD_SHIFT, //
};
use crate::shard::{
    position_of,
    Fail,
    CORRUPT, //
};
use crate::Shard;

/// Most planes in one chunk.
const PLANES_PER_CHUNK: usize = 8;

/// Most planes of a folio: counts are below 2^32, since there are no more records.
const MAX_PLANES: usize = 32;

/// Whether mappings come or go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Counts go up.
    Up,
    /// Counts go down.
    Down,
}

impl Shard<'_> {
    /// Returns how many planes of a folio of this order a chunk holds, and the words of each.
    #[inline]
    fn plane_layout(&self, order: u8) -> (usize, u32) {
        let words = words_of(pages_of_order(order));
        let planes = self.state.bitmap_words >> words.trailing_zeros();
        (planes.clamp(1, PLANES_PER_CHUNK), words)
    }

    /// Counts the mappings of the pages `first..end`.
    pub(crate) fn count_range(
        &mut self,
        e: u32,
        first: u32,
        end: u32,
        step: Step,
    ) -> Result<(), Fail> {
        words_in(first, end).try_for_each(|n| self.count_word(e, n, mask_in(n, first, end), step))
    }

    /// Counts the mappings of a record that maps a part of the folio; up only if that has more than 64 pages, see
    /// [`Self::count_few`].
    pub(crate) fn count_record(&mut self, e: u32, r: u32, step: Step) -> Result<(), Fail> {
        if step == Step::Up && self.counts_ref(e)?.planes == 0 {
            return self.count_first(e, r);
        }
        let order = self.entry(e)?.order;
        let nr_pages = pages_of_order(order);
        words_in(0, nr_pages).try_for_each(|n| {
            let mask = self.pages_of(self.record(r)?, order)?.word(n);
            self.count_word(e, n, mask & mask_in(n, 0, nr_pages), step)
        })
    }

    /// The same if it is the first such record: the lowest plane is its set of pages.
    fn count_first(&mut self, e: u32, r: u32) -> Result<(), Fail> {
        let order = self.entry(e)?.order;
        let nr = self.nr_pages_of(self.record(r)?, order)?;
        let link = self.alloc_chunk(0)?;
        let lowest = self.chunk_start(link)?;
        self.copy_pages(r, order, lowest)?;
        self.begin_planes(e, link, nr)
    }

    /// Counts the mappings of a record that maps these pages of a folio of at most 64.
    pub(crate) fn count_few(&mut self, e: u32, pages: u64) -> Result<(), Fail> {
        if self.counts_ref(e)?.planes != 0 {
            return self.count_word(e, 0, pages, Step::Up);
        }
        let link = self.alloc_chunk(0)?;
        let lowest = self.chunk_start(link)?;
        *self.words.get_mut(lowest).ok_or(CORRUPT)? = pages;
        self.begin_planes(e, link, pages.count_ones())
    }

    /// Notes the first planes of a folio, with so many pages in the lowest.
    fn begin_planes(&mut self, e: u32, link: u32, nr: u32) -> Result<(), Fail> {
        let counts = self.counts_mut(e)?;
        counts.planes = link;
        counts.part_pages = counts.part_pages.wrapping_add(nr);
        Ok(())
    }

    /// Counts one mapping of each page of `mask` in word number `n`, like adding or subtracting
    /// numbers with carry.
    fn count_word(&mut self, e: u32, n: u32, mask: u64, step: Step) -> Result<(), Fail> {
        if mask == 0 {
            return Ok(());
        }
        let entry = self.entry(e)?;
        let (planes, words) = self.plane_layout(entry.order);
        let mut link = self.counts_ref(e)?.planes;
        let mut last = 0;
        let mut carry = mask;
        // Pages whose other planes show that their count is not 0, before adding or afterwards.
        let mut mapped = 0u64;
        while carry != 0 || mask & !mapped != 0 {
            if link == 0 {
                if carry == 0 {
                    break;
                }
                if step == Step::Down {
                    return Err(CORRUPT);
                }
                link = self.alloc_chunk(0)?;
                if last == 0 {
                    self.counts_mut(e)?.planes = link;
                } else {
                    self.set_chunk_link(last, link)?;
                }
            }
            let chunk = self.chunk_mut(link)?;
            let mut at = index(n);
            for _ in 0..planes {
                let Some(word) = chunk.get_mut(at) else {
                    break;
                };
                at = at.wrapping_add(index(words));
                let old = *word;
                *word = old ^ carry;
                match step {
                    Step::Up => {
                        mapped |= old;
                        carry &= old;
                    }
                    Step::Down => {
                        mapped |= *word;
                        carry &= !old;
                    }
                }
            }
            last = link;
            link = self.chunk_link(link)?;
        }
        let changed = (mask & !mapped).count_ones();
        if changed == 0 {
            return Ok(());
        }
        let pages = &mut self.counts_mut(e)?.part_pages;
        *pages = match step {
            Step::Up => pages.wrapping_add(changed),
            Step::Down => pages.wrapping_sub(changed),
        };
        Ok(())
    }

    /// Frees the planes of a folio.
    pub(crate) fn drop_planes(&mut self, e: u32) -> Result<(), Fail> {
        if self.entry(e)?.history == 0 {
            return Ok(());
        }
        let counts = self.counts_mut(e)?;
        counts.part_pages = 0;
        let mut link = core::mem::replace(&mut counts.planes, 0);
        while link != 0 {
            let next = self.chunk_link(link)?;
            self.free_chunk(link)?;
            link = next;
        }
        Ok(())
    }

    /// Returns the link of the first planes of a folio, 0 if it has none, and how many records are
    /// counted in them.
    fn plane_link(&self, e: u32) -> Result<(u32, u32), Fail> {
        Ok(match position_of(self.entry(e)?.history) {
            None => (0, 0),
            Some(h) => {
                let counts = &self.history.get(index(h)).ok_or(CORRUPT)?.counts;
                (counts.planes, counts.parts)
            }
        })
    }

    /// Finds the planes of a folio, up to the highest one that has a bit set.
    fn find_planes(&self, e: u32, planes: &mut Planes) -> Result<(), Fail> {
        let (mut link, parts) = self.plane_link(e)?;
        if parts == 1 && link != 0 {
            // The lowest plane is the set of pages of the record.
            let [lowest, ..] = &mut planes.starts;
            *lowest = narrow(self.chunk_start(link)?);
            planes.nr = 1;
            return Ok(());
        }
        let (per_chunk, words) = self.plane_layout(self.entry(e)?.order);
        let len = per_chunk.wrapping_mul(index(words));
        let mut nr = 0usize;
        while link != 0 {
            let start = self.chunk_start(link)?;
            let chunk = self.words.get(start..start.wrapping_add(len));
            let mut numbered = chunk.unwrap_or_default().iter().zip(0..len);
            let last = numbered.rfind(|(word, _)| **word != 0);
            let used = last.map_or(0, |(_, last)| {
                (last >> words.trailing_zeros()).wrapping_add(1)
            });
            let mut start = narrow(start);
            for plane in planes.starts.iter_mut().skip(nr).take(per_chunk) {
                *plane = start;
                start = start.wrapping_add(words);
            }
            if used > 0 {
                planes.nr = nr.wrapping_add(used);
            }
            nr = nr.wrapping_add(per_chunk);
            link = self.chunk_link(link)?;
        }
        Ok(())
    }

    /// Returns the least and the largest count of any page, the least that is not 0, and that of the
    /// first page.
    pub(crate) fn part_counts(&self, e: u32) -> Result<PartCounts, Fail> {
        let (link, parts) = self.plane_link(e)?;
        if parts == 1 && link != 0 {
            return self.single_counts(link);
        }
        let nr_pages = pages_of_order(self.entry(e)?.order);
        let mut planes = Planes::default();
        self.find_planes(e, &mut planes)?;
        if planes.nr <= 1 {
            return Ok(planes.one(self.words, nr_pages));
        }
        let mut counts = PartCounts {
            least: u32::MAX,
            least_mapped: u32::MAX,
            most: 0,
            first: planes.count(self.words, 0),
        };
        for n in words_in(0, nr_pages) {
            let mut top = mask_in(n, 0, nr_pages);
            let mut bottom = top;
            let (mut least, mut most) = (0u32, 0u32);
            // From the highest plane on, keep the pages with the most and with the fewest so far.
            for plane in planes.words(self.words, n) {
                let (with, without) = (top & plane, bottom & !plane);
                most = (most << 1) | u32::from(with != 0);
                least = (least << 1) | u32::from(without == 0);
                top = if with != 0 { with } else { top };
                bottom = if without != 0 { without } else { bottom };
            }
            counts.least = counts.least.min(least);
            if least > 0 {
                counts.least_mapped = counts.least_mapped.min(least);
            } else if most > 0 {
                let mapped = planes
                    .words(self.words, n)
                    .fold(0, |any, plane| any | plane);
                let mut bottom = mapped & mask_in(n, 0, nr_pages);
                for plane in planes.words(self.words, n) {
                    let without = bottom & !plane;
                    least = (least << 1) | u32::from(without == 0);
                    bottom = if without != 0 { without } else { bottom };
                }
                counts.least_mapped = counts.least_mapped.min(least);
            }
            counts.most = counts.most.max(most);
        }
        Ok(counts)
    }

    /// The same if there is one such record, whose set of pages begins the chunk at this link: some
    /// pages are in it, and others are not.
    fn single_counts(&self, link: u32) -> Result<PartCounts, Fail> {
        let word = self.words.get(self.chunk_start(link)?).ok_or(CORRUPT)?;
        Ok(PartCounts {
            least: 0,
            least_mapped: 1,
            most: 1,
            first: u32::from(word & 1 != 0),
        })
    }

    /// Adds the counts of the pages from `first` on to `counts`.
    pub(crate) fn add_part_counts(&self, e: u32, first: u32, counts: &mut [u32]) {
        if self.plane_link(e).is_ok_and(|(link, _)| link == 0) {
            return;
        }
        let mut planes = Planes::default();
        if self.find_planes(e, &mut planes).is_err() {
            return;
        }
        for (i, count) in counts.iter_mut().enumerate() {
            let page = first.wrapping_add(narrow(i));
            *count = count.saturating_add(planes.count(self.words, page));
        }
    }
}

/// Counts of pages over the records that map only a part of the folio.
#[derive(Clone, Copy, Default)]
pub(crate) struct PartCounts {
    /// The least of all pages.
    pub(crate) least: u32,
    /// The least that is not 0, of all pages.
    pub(crate) least_mapped: u32,
    /// The largest of all pages.
    pub(crate) most: u32,
    /// That of page 0.
    pub(crate) first: u32,
}

/// Where the planes of a folio are among the words of a shard, lowest first.
#[derive(Default)]
struct Planes {
    /// The first word of each.
    starts: [u32; MAX_PLANES],
    /// How many there are.
    nr: usize,
}

impl Planes {
    /// Returns the same as [`Shard::part_counts`] if there is at most one plane: no count is above 1.
    fn one(&self, words: &[u64], nr_pages: u32) -> PartCounts {
        let [start, ..] = self.starts;
        let (mut any, mut all) = (false, true);
        for n in words_in(0, nr_pages) {
            let at = index(start.wrapping_add(n));
            let word = words.get(at).copied().filter(|_| self.nr > 0);
            let mask = mask_in(n, 0, nr_pages);
            let mapped = word.unwrap_or(0) & mask;
            any |= mapped != 0;
            all &= mapped == mask;
        }
        PartCounts {
            least: u32::from(all),
            least_mapped: if any { 1 } else { u32::MAX },
            most: u32::from(any),
            first: self.count(words, 0),
        }
    }

    /// Returns word number `n` of each plane, highest first.
    fn words<'a>(&'a self, words: &'a [u64], n: u32) -> impl Iterator<Item = u64> + 'a {
        let starts = self.starts.iter().take(self.nr).rev();
        starts.map(move |start| {
            let at = start.wrapping_add(n);
            words.get(index(at)).copied().unwrap_or(0)
        })
    }

    /// Returns the count of one page.
    fn count(&self, words: &[u64], page: u32) -> u32 {
        let n = page >> WORD_SHIFT;
        let bit = mask_in(n, page, page.saturating_add(1));
        self.words(words, n)
            .fold(0, |count, plane| (count << 1) | u32::from(plane & bit != 0))
    }
}
