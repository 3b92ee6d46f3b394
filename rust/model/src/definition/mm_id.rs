// SPDX-License-Identifier: GPL-2.0

//! `mm_id`: two MMs with their mappings, and a bit for more.

use super::{
    references,
    Definition,
    Shown, //
};
use crate::{
    Answer,
    Event,
    FolioView,
    Level,
    Plain,
    PlainMap,
    Question, //
};

/// Two slots, each with an MM and the number of its mappings, and the bit "maybe mapped shared".
///
/// Source: `folio_add_return_large_mapcount()` and `folio_sub_return_large_mapcount()` of Linux 7.2
/// (`include/linux/rmap.h`; David Hildenbrand, March 2025), for 64 bit. Done again here in the
/// order of the events, which is not always that in which CPUs got the kernel's lock: the real
/// slots are beside it in [`crate::KernelCounts`].
///
/// Readings: a new MM takes a free slot, none if both are in use; its later mappings are counted
/// only in a slot. The bit is set when a slot is taken while others map the folio, and cleared when
/// one slot has all mappings. Each call counts, in a PMD split, too; an entire mapping is one. The
/// value is the number of slots in use.
///
/// `mapped`: a slot is in use; wrong once the MMs that had one are gone. `shared` is
/// `folio_maybe_mapped_shared()`: more than one mapping, and the bit. `page` is what
/// PM_MMAP_EXCLUSIVE and USS make of it without per-page counts: not shared means that each mapped
/// page is mapped once, shared that each is mapped more than once. They look only at pages that are
/// mapped, and so does the truth that is compared with: 1 or, for more, 2; a count too high means
/// that a page counts as shared that is not, too low the opposite. `reuse` is what the
/// kernel does for a page that is not marked exclusive, with this bit.
///
/// Cost: 20 bytes per folio; per call two comparisons, an addition and, for removes, a comparison
/// of both slots with the total.
pub struct MmId;

/// A slot; free if the id is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Slot {
    /// The kernel's id of the MM.
    id: u32,
    /// Mappings that it accounts for; 0 if it is free.
    count: u32,
}

/// The slots and the bit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Slots {
    /// Both slots.
    slots: [Slot; 2],
    /// The bit.
    shared: bool,
}

impl Slots {
    /// Takes in `nr` more mappings of an MM; `total` is the new number of all of them.
    fn add(&mut self, id: u32, nr: u32, total: u64) {
        let [a, b] = &mut self.slots;
        if a.id == id {
            a.count = a.count.saturating_add(nr);
        } else if b.id == id {
            b.count = b.count.saturating_add(nr);
        } else if a.id == 0 {
            *a = Slot { id, count: nr };
            self.shared |= total != u64::from(nr);
        } else if b.id == 0 {
            *b = Slot { id, count: nr };
            self.shared = true;
        }
    }

    /// Takes out `nr` mappings of an MM; `total` is the new number of all of them.
    fn remove(&mut self, id: u32, nr: u32, total: u64) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.id == id) {
            slot.count = slot.count.saturating_sub(nr);
            if slot.count > 0 {
                return;
            }
            // Fewer than there are: it also had mappings before it got the slot.
            *slot = Slot::default();
        }
        if self.slots.iter().any(|slot| u64::from(slot.count) == total) {
            self.shared = false;
        }
    }
}

impl Definition for MmId {
    const NAME: &'static str = "mm_id";
    const FORMULA: &'static str = "two MM slots and a bit, by calls; shown is the slots in use";
    const SOURCE: &'static str = "include/linux/rmap.h (Linux 7.2); Hildenbrand 2025-03";
    const CLAIMS: &'static [Question] = &[
        Question::Mapped,
        Question::Shared,
        Question::Page,
        Question::Reuse,
    ];
    const SOMETIMES: bool = true;
    const PER_MM: bool = true;

    type State = Slots;

    #[inline]
    fn event(s: &mut Slots, e: &Event) {
        let nr = if e.level == Level::Entire { 1 } else { e.nr };
        let change = u64::from(nr);
        if e.adds {
            s.add(e.mm_id, nr, e.total.saturating_add(change));
        } else {
            s.remove(e.mm_id, nr, e.total.saturating_sub(change));
        }
    }

    fn rest(s: &Slots) -> i64 {
        let [a, b] = s.slots.map(|slot| i64::from(slot.count));
        a.saturating_add(b)
    }

    fn plain(past: &Plain) -> Slots {
        let slot = |map: Option<PlainMap>| {
            map.map_or(Slot::default(), |map| Slot {
                id: map.mm_id,
                count: map.nr,
            })
        };
        Slots {
            slots: [slot(past.first()), slot(past.second())],
            shared: past.second().is_some(),
        }
    }

    fn digest(_v: &FolioView, s: &Slots) -> u64 {
        let used = s.slots.iter().any(|slot| slot.id != 0);
        u64::from(used) | (u64::from(s.shared) << 1)
    }

    fn value(_v: &FolioView, s: &Slots) -> i64 {
        let [a, b] = s.slots.map(|slot| i64::from(slot.id != 0));
        a.saturating_add(b)
    }

    fn fields(_v: &FolioView, s: &Slots, tell: &mut dyn FnMut(&'static str, Shown)) {
        let names = [("id0", "count0"), ("id1", "count1")];
        for (slot, (id, count)) in s.slots.iter().zip(names) {
            tell(id, Shown::Count(i64::from(slot.id)));
            tell(count, Shown::Count(i64::from(slot.count)));
        }
        tell("shared", Shown::Flag(s.shared));
    }

    fn answer(v: &FolioView, s: &Slots, q: Question) -> Answer {
        let shared = v.total > 1 && s.shared;
        match q {
            Question::Mapped => Answer::from(s.slots.iter().any(|slot| slot.id != 0)),
            Question::Page => Self::page(v, shared),
            Question::Reuse => references::wanted(v).map_or(Answer::NotAsked, |w| {
                let total = i64::try_from(v.total).unwrap_or(i64::MAX);
                let entire = i64::from(v.entire);
                Answer::from(references::may_reuse(total, entire, s.shared, w.refs))
            }),
            _ => Answer::from(shared),
        }
    }
}

impl MmId {
    /// Compares what is said about each mapped page, once (1) or more often (2), with the page
    /// about which it is wrong, if there is one.
    fn page(v: &FolioView, shared: bool) -> Answer {
        if v.nr_pages_mapped == 0 {
            return Answer::NotAsked;
        }
        if shared {
            Answer::Counter(2, i64::from(v.min_mapped_page.min(2)))
        } else {
            Answer::Counter(1, i64::from(v.max_page.min(2)))
        }
    }
}
