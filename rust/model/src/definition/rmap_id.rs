// SPDX-License-Identifier: GPL-2.0

//! `rmap_id`: sums of ids that tell one MM from several.

use super::{
    references,
    Definition,
    Shown, //
};
use crate::bits::{
    index,
    same, //
};
use crate::{
    Answer,
    Event,
    FolioView,
    Level,
    Plain,
    Question, //
};

/// Sums over all mappings of numbers made of the id of their MM: if they are what one MM makes them
/// with that many mappings, the folio is mapped by it alone.
///
/// Source: David Hildenbrand, linux-mm, 2023-11-24 (rmap IDs, WIP series); "Every Mapping Counts in
/// Large Amounts: Folio Accounting", USENIX ATC 2024.
///
/// Readings: ids are the lowest that is free, from 1, of 24 bits, which is what the kernel's
/// `mm_struct::mm_id` is. By order, the id is cut into pieces, lowest bits first, and each has a
/// sum: up to order 2 one of 24 bits with P = 4, up to 5 two of 12 with P = 32, up to 9 three of 8
/// with P = 512, at 10 four of 6 with P = 1024; larger folios are not asked. A piece counts as the
/// sum of (P + 1)^b over the bits b that are set in it: while there are at most P mappings each bit
/// has a digit of its own. An entire mapping is one. Each call counts, in a PMD split, too. All
/// sums wrap: 513^7 x 512 does not fit, so that for P = 512 the digits are not always apart. As
/// (513 - 1)^7 is 2^63, twice that is nothing; multiplied out, the signs of its terms tell which
/// ids look alike, from 71 mappings on.
///
/// `shared`: yes if there are more mappings than pages, else unless the sums are those of the
/// asker. `reuse`: not shared, and no more references than mappings, with the swap cache freed
/// before. The value is 1 if the asker maps the folio alone, by this.
///
/// Cost: 32 bytes per folio (8 up to order 2, 16 up to 5, 24 up to 9); per call up to 4
/// multiplications and additions, after a step for each bit of the id, which a kernel does once per
/// MM.
pub struct RmapId;

/// The sums, as many as the order has pieces.
type Sums = [u64; 4];

/// Bits of an id.
const ID_BITS: u32 = 24;

/// How an id is cut for an order.
#[derive(Clone, Copy)]
struct Cut {
    /// How many pieces.
    pieces: u32,
    /// Their base, P + 1.
    base: u64,
}

impl Cut {
    /// Returns how ids are cut; `None` for folios that are too large.
    fn of(order: u8) -> Option<Self> {
        let (pieces, base) = match order {
            0..=2 => (1, 5),
            3..=5 => (2, 33),
            6..=9 => (3, 513),
            10 => (4, 1025),
            _ => return None,
        };
        Some(Self { pieces, base })
    }

    /// Returns what `nr` mappings of an MM add to the sums.
    fn sums(self, mm_id: u32, nr: u64) -> Sums {
        let mut sums = Sums::default();
        let bits = ID_BITS.checked_div(self.pieces).unwrap_or(0);
        let mut id = mm_id;
        for sum in sums.iter_mut().take(index(self.pieces)) {
            let mut piece = id & !u32::MAX.wrapping_shl(bits);
            let mut digit = 1u64;
            while piece != 0 {
                if piece & 1 != 0 {
                    *sum = sum.wrapping_add(digit);
                }
                digit = digit.wrapping_mul(self.base);
                piece >>= 1;
            }
            *sum = sum.wrapping_mul(nr);
            id = id.wrapping_shr(bits);
        }
        sums
    }
}

impl Definition for RmapId {
    const NAME: &'static str = "rmap_id";
    const FORMULA: &'static str =
        "sums of (P + 1)^b over the bits b of ids; shown is 1 if one MM's";
    const SOURCE: &'static str = "Hildenbrand 2023-11-24; USENIX ATC 2024";
    const CLAIMS: &'static [Question] = &[Question::Shared, Question::Reuse];
    const SOMETIMES: bool = true;
    const PER_MM: bool = true;

    type State = Sums;

    #[inline]
    fn event(s: &mut Sums, e: &Event) {
        let Some(cut) = Cut::of(e.order) else {
            return;
        };
        let nr = if e.level == Level::Entire { 1 } else { e.nr };
        for (sum, change) in s.iter_mut().zip(cut.sums(e.mm_id, u64::from(nr))) {
            *sum = match e.adds {
                true => sum.wrapping_add(change),
                false => sum.wrapping_sub(change),
            };
        }
    }

    fn rest(s: &Sums) -> i64 {
        i64::from(s.iter().any(|sum| *sum != 0))
    }

    fn plain(past: &Plain) -> Sums {
        let mut all = Sums::default();
        let Some(cut) = Cut::of(past.order) else {
            return all;
        };
        for map in [past.first(), past.second()].into_iter().flatten() {
            let sums = cut.sums(map.mm_id, u64::from(map.nr));
            for (sum, more) in all.iter_mut().zip(sums) {
                *sum = sum.wrapping_add(more);
            }
        }
        all
    }

    fn digest(v: &FolioView, s: &Sums) -> u64 {
        u64::from(Self::exclusive(v, s, v.asker_mm_id) == Some(true))
    }

    fn value(v: &FolioView, s: &Sums) -> i64 {
        i64::from(v.total > 0 && Self::exclusive(v, s, v.asker_mm_id) == Some(true))
    }

    fn fields(v: &FolioView, s: &Sums, tell: &mut dyn FnMut(&'static str, Shown)) {
        let pieces = Cut::of(v.order).map_or(0, |cut| cut.pieces);
        let names = ["sum0", "sum1", "sum2", "sum3"];
        for (name, sum) in names.iter().zip(s).take(index(pieces)) {
            tell(name, Shown::Hex(*sum));
        }
    }

    fn answer(v: &FolioView, s: &Sums, q: Question) -> Answer {
        let wanted = references::wanted(v);
        let (id, refs) = match (q, &wanted) {
            (Question::Reuse, Some(w)) => (w.page.mm_id, u64::try_from(w.refs).ok()),
            (Question::Reuse, None) => return Answer::NotAsked,
            _ if references::nobody_asks(v) => return Answer::NotAsked,
            _ => (v.asker_mm_id, None),
        };
        match (Self::exclusive(v, s, id), q) {
            (None, _) => Answer::NotAsked,
            (Some(exclusive), Question::Reuse) => Answer::from(exclusive && refs == Some(v.total)),
            (Some(exclusive), _) => Answer::from(!exclusive),
        }
    }
}

impl RmapId {
    /// Returns whether the sums are those of an MM alone; `None` for folios that are too large.
    fn exclusive(v: &FolioView, s: &Sums, mm_id: u32) -> Option<bool> {
        let cut = Cut::of(v.order)?;
        Some(v.total <= u64::from(v.nr_pages) && same(s, &cut.sums(mm_id, v.total)))
    }
}
