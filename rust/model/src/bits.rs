// SPDX-License-Identifier: GPL-2.0

//! Sets of pages of one folio, a bit per page, worked on by words.

/// Number of pages in a word, as a shift.
pub(crate) const WORD_SHIFT: u32 = 6;

/// Number of pages in a word.
pub(crate) const WORD_BITS: u32 = 64;

/// Returns the bits of a number with a sign.
#[inline]
pub(crate) fn bits_of(n: i32) -> u32 {
    u32::from_ne_bytes(n.to_ne_bytes())
}

/// Returns whether some numbers are the same. Comparing slices by `==` is a call, which takes longer.
#[inline]
pub(crate) fn same(a: &[u64], b: &[u64]) -> bool {
    let differ = |differ, (a, b): (&u64, &u64)| differ | (a ^ b);
    a.len() == b.len() && a.iter().zip(b).fold(0, differ) == 0
}

/// Returns a `u32` as an index.
///
/// Both architectures have 64-bit `usize`; elsewhere a value that does not fit becomes an index
/// that no slice has.
#[inline]
pub(crate) fn index(x: u32) -> usize {
    usize::try_from(x).unwrap_or(usize::MAX)
}

/// Returns an index as a `u32`; what does not fit becomes an index that no slice has.
#[inline]
pub(crate) fn narrow(x: usize) -> u32 {
    u32::try_from(x).unwrap_or(u32::MAX)
}

/// Returns 2 to the power of `order`, the number of pages of a folio.
#[inline]
pub(crate) fn pages_of_order(order: u8) -> u32 {
    1u32.checked_shl(u32::from(order)).unwrap_or(0)
}

/// Returns how many words a set of `nr` pages has.
#[inline]
pub(crate) fn words_of(nr: u32) -> u32 {
    nr.saturating_add(WORD_BITS.wrapping_sub(1)) >> WORD_SHIFT
}

/// Returns a word with the bits below `bit` set; all for 64 and more.
#[inline]
fn below(bit: u32) -> u64 {
    match 1u64.checked_shl(bit) {
        Some(x) => x.wrapping_sub(1),
        None => u64::MAX,
    }
}

/// Returns the bits of the pages `first..end` that fall into word number `word`.
#[inline]
pub(crate) fn mask_in(word: u32, first: u32, end: u32) -> u64 {
    let start = word.saturating_mul(WORD_BITS);
    below(end.saturating_sub(start)) & !below(first.saturating_sub(start))
}

/// Returns the numbers of the words that the pages `first..end` fall into.
#[inline]
pub(crate) fn words_in(first: u32, end: u32) -> core::ops::Range<u32> {
    if first >= end {
        return 0..0;
    }
    (first >> WORD_SHIFT)..words_of(end)
}

/// Sets the bits of the pages `first..end`; returns how many were clear.
pub(crate) fn set_range(words: &mut [u64], first: u32, end: u32) -> u32 {
    let mut changed = 0u32;
    for n in words_in(first, end) {
        if let Some(word) = words.get_mut(index(n)) {
            let mask = mask_in(n, first, end);
            changed = changed.saturating_add((mask & !*word).count_ones());
            *word |= mask;
        }
    }
    changed
}

/// Clears the bits of the pages `first..end`; returns how many were set.
pub(crate) fn clear_range(words: &mut [u64], first: u32, end: u32) -> u32 {
    let mut changed = 0u32;
    for n in words_in(first, end) {
        if let Some(word) = words.get_mut(index(n)) {
            let mask = mask_in(n, first, end);
            changed = changed.saturating_add((mask & *word).count_ones());
            *word &= !mask;
        }
    }
    changed
}

/// Returns the page of the lowest bit of word number `n`.
fn first_bit(n: u32, word: u64) -> Option<u32> {
    (word != 0).then(|| {
        n.saturating_mul(WORD_BITS)
            .saturating_add(word.trailing_zeros())
    })
}

/// A set of pages to look at: most are all or nothing and need no words.
#[derive(Clone, Copy)]
pub(crate) enum Pages<'a> {
    /// No page.
    None,
    /// Every page.
    All,
    /// At most 64 pages, in a word of its own.
    Word(u64),
    /// More than 64 pages.
    Words(&'a [u64]),
}

impl Pages<'_> {
    /// Returns word number `n` of the set; for [`Pages::All`] also bits beyond the folio.
    #[inline]
    pub(crate) fn word(&self, n: u32) -> u64 {
        match self {
            Pages::None => 0,
            Pages::All => u64::MAX,
            Pages::Word(word) if n == 0 => *word,
            Pages::Word(_) => 0,
            Pages::Words(words) => words.get(index(n)).copied().unwrap_or(0),
        }
    }

    /// Returns whether any of the pages `first..end` is in the set.
    pub(crate) fn any(&self, first: u32, end: u32) -> bool {
        match self {
            Pages::None => false,
            Pages::All => first < end,
            Pages::Word(word) => word & mask_in(0, first, end) != 0,
            _ => words_in(first, end).any(|n| self.word(n) & mask_in(n, first, end) != 0),
        }
    }

    /// Returns how many of the pages `first..end` are in the set.
    pub(crate) fn count(&self, first: u32, end: u32) -> u32 {
        match self {
            Pages::None => 0,
            Pages::All => end.saturating_sub(first),
            _ => words_in(first, end)
                .map(|n| (self.word(n) & mask_in(n, first, end)).count_ones())
                .fold(0, u32::saturating_add),
        }
    }

    /// Returns whether all of the pages `first..end` are in the set.
    pub(crate) fn all(&self, first: u32, end: u32) -> bool {
        match self {
            Pages::None => first >= end,
            Pages::All => true,
            _ => words_in(first, end).all(|n| {
                let mask = mask_in(n, first, end);
                self.word(n) & mask == mask
            }),
        }
    }

    /// Returns the first page of `from..end` that is not in the set, `end` if all are.
    pub(crate) fn next_gap(&self, from: u32, end: u32) -> u32 {
        words_in(from, end)
            .find_map(|n| first_bit(n, !self.word(n) & mask_in(n, from, end)))
            .unwrap_or(end)
    }

    /// Returns the last page of `0..end` that is in the set.
    pub(crate) fn last(&self, end: u32) -> Option<u32> {
        words_in(0, end).rev().find_map(|n| {
            let word = self.word(n) & mask_in(n, 0, end);
            let bit = word.checked_ilog2()?;
            Some(n.saturating_mul(WORD_BITS).saturating_add(bit))
        })
    }

    /// Returns the first page of `from..end` that is in the set.
    #[inline]
    pub(crate) fn next(&self, from: u32, end: u32) -> Option<u32> {
        match self {
            Pages::None => None,
            Pages::All => (from < end).then_some(from),
            Pages::Word(word) => first_bit(0, word & mask_in(0, from, end)),
            Pages::Words(_) => {
                words_in(from, end).find_map(|n| first_bit(n, self.word(n) & mask_in(n, from, end)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_split_ranges_at_words() {
        assert_eq!(mask_in(0, 0, 64), u64::MAX);
        assert_eq!(mask_in(0, 3, 5), 0b11000);
        assert_eq!(mask_in(0, 60, 70), 0xf << 60);
        assert_eq!(mask_in(1, 60, 70), 0x3f);
        assert_eq!(mask_in(2, 60, 70), 0);
        assert_eq!(mask_in(1, 128, 256), 0);
    }

    #[test]
    fn ranges_are_counted_and_found() {
        let mut words = [0u64; 3];
        assert_eq!(set_range(&mut words, 10, 140), 130);
        assert_eq!(set_range(&mut words, 0, 11), 10);
        assert_eq!(clear_range(&mut words, 64, 70), 6);
        let pages = Pages::Words(&words);
        assert_eq!(pages.count(0, 192), 134);
        assert!(pages.all(70, 140) && !pages.all(69, 140));
        assert!(!pages.any(64, 70) && pages.any(64, 71));
        assert_eq!(pages.next(64, 192), Some(70));
        assert_eq!(pages.next(140, 192), None);
        assert_eq!(pages.last(192), Some(139));
        assert_eq!(pages.last(70), Some(63));
        assert_eq!((pages.last(0), Pages::None.last(99)), (None, None));
        assert_eq!(Pages::All.last(65), Some(64));
        assert_eq!(pages.next_gap(0, 192), 64);
        assert_eq!(pages.next_gap(70, 140), 140);
        assert!(Pages::None.all(5, 5) && !Pages::All.any(5, 5));
    }

    #[test]
    fn few_pages_are_found_as_many_are() {
        let ends = [0, 1, 2, 31, 62, 63, 64, 65, 127, 128];
        for word in [0, 1, 1 << 63, 0x8000_0001_0000_0002, u64::MAX] {
            let words = [word, 0];
            let (few, many) = (Pages::Word(word), Pages::Words(&words));
            for (from, end) in ends.iter().flat_map(|a| ends.map(|b| (*a, b))) {
                assert_eq!(few.next(from, end), many.next(from, end));
                assert_eq!(few.any(from, end), many.any(from, end));
                let all = Pages::Words(&[u64::MAX; 2]).next(from, end);
                assert_eq!(Pages::All.next(from, end), all);
            }
        }
    }
}
