// SPDX-License-Identifier: GPL-2.0

//! The last few cases of each disagreement: storage and lock of the model's examples.
//!
//! The event path never waits for the lock: a case that finds it taken is counted and left out.
//! Lock order: the lock of a shard, then this one.

use kernel::{
    new_mutex,
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Mutex,
        SpinLock, //
    }, //
};

use fmi_model::{
    DefinitionId,
    Disagreement,
    Example,
    ExampleCell,
    ExampleCounts,
    ExampleSlot,
    ExampleState,
    Examples,
    Kind,
    Question, //
};

use crate::{
    env::geometry,
    who::KernelNames, //
};

/// Most cases that are kept at a time.
const MAX_SLOTS: usize = 1024;

/// The share of the shadow's memory that the cases may take, on top of it.
const SHARE: usize = 16;

/// Positions that are looked at under one hold of the lock.
const SCAN: usize = 1024;

/// Which examples are listed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Filter {
    /// Only this definition.
    pub(crate) definition: Option<DefinitionId>,
    /// Only this question.
    pub(crate) question: Option<Question>,
    /// Only this type.
    pub(crate) kind: Option<Kind>,
    /// Only this order.
    pub(crate) order: Option<u8>,
}

struct Inner {
    state: ExampleState,
    slots: KVVec<ExampleSlot>,
    cells: KVVec<ExampleCell>,
}

impl Inner {
    fn examples(&mut self) -> Examples<'_> {
        Examples {
            state: &mut self.state,
            slots: &mut self.slots,
            cells: &mut self.cells,
        }
    }
}

/// What a reader works on.
#[derive(Default)]
pub(crate) struct Reader {
    /// Which examples are listed.
    pub(crate) filter: Filter,
    /// A copy of the example that is being printed: it is too large for the stack.
    example: Example,
}

/// The examples. They live as long as the statistics.
#[pin_data]
pub(crate) struct Store {
    #[pin]
    inner: SpinLock<Inner>,
    contended: Atomic<u64>,
    #[pin]
    pub(crate) reader: Mutex<Reader>,
    nr_positions: usize,
    bytes: usize,
}

impl Store {
    /// Allocates the storage; `bytes` bounds the shadow's memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(bytes: usize) -> Result<impl PinInit<Self>> {
        let nr = (bytes / SHARE / size_of::<ExampleSlot>()).min(MAX_SLOTS);
        let slots = KVVec::from_elem(ExampleSlot::default(), nr, GFP_KERNEL)?;
        let max_order = geometry().max_order;
        let nr_cells = Examples::nr_cells(max_order);
        let cells = KVVec::from_elem(ExampleCell::default(), nr_cells, GFP_KERNEL)?;
        let bytes = size_of_val(slots.as_slice()).saturating_add(size_of_val(cells.as_slice()));
        Ok(pin_init!(Self {
            inner <- new_spinlock!(Inner {
                state: ExampleState::default(),
                slots,
                cells,
            }),
            contended: Atomic::new(0),
            reader <- new_mutex!(Reader::default()),
            nr_positions: Examples::nr_positions(max_order),
            bytes,
        }))
    }

    /// Returns the bytes of the storage.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a case in, if nobody holds the lock.
    ///
    /// Runs on the event path: under a PTL and the lock of a shard.
    pub(crate) fn add(&self, d: Disagreement<'_>, now: u64) {
        match self.inner.try_lock() {
            Some(mut inner) => inner.examples().add(d, now, &KernelNames),
            None => {
                self.contended.fetch_add(1, Relaxed);
            }
        }
    }

    /// Forgets all examples and counts.
    pub(crate) fn clear(&self) {
        self.inner.lock().examples().clear();
        self.contended.store(0, Relaxed);
    }

    /// Returns what became of the cases, and how many found the lock taken.
    pub(crate) fn counts(&self) -> (ExampleCounts, u64) {
        (
            self.inner.lock().state.counts(),
            self.contended.load(Relaxed),
        )
    }

    /// Returns the first position from `from` on at which there is an example that passes `f`.
    ///
    /// `f` gets the number of the pair and runs under a spinlock.
    pub(crate) fn seek(&self, from: usize, f: impl Fn(usize, &Example) -> bool) -> Option<usize> {
        let mut from = from;
        while from < self.nr_positions {
            let end = from + SCAN;
            let mut inner = self.inner.lock();
            let examples = inner.examples();
            while let Some(position) = examples.next(from, end) {
                if examples.get(position).is_some_and(|(pair, e)| f(pair, e)) {
                    return Some(position);
                }
                from = position + 1;
            }
            from = end;
        }
        None
    }

    /// Calls `f` with a copy of the example at a position and the number of its pair, without the
    /// spinlock.
    pub(crate) fn with(&self, position: usize, f: impl FnOnce(&Filter, usize, &Example)) {
        let mut reader = self.reader.lock();
        let mut inner = self.inner.lock();
        let examples = inner.examples();
        let Some((pair, example)) = examples.get(position) else {
            return;
        };
        reader.example = *example;
        drop(inner);
        f(&reader.filter, pair, &reader.example);
    }
}

#[kunit_tests(fmi_examples)]
mod tests {
    use super::*;
    use crate::table::Table;
    use fmi_model::{
        FolioView,
        Operation,
        PairSet,
        Sketches, //
    };

    /// More than the time for which full cells take no case, in nanoseconds.
    const LATER: u64 = 1 << 30;

    /// Tells the store that pair 0 is wrong about the folio at a pfn.
    fn tell(store: &Store, table: &Table, pfn: u64) -> Result {
        let view = FolioView {
            pfn,
            kind: Kind::Anon,
            order: 4,
            ..FolioView::default()
        };
        let told = table.with(pfn, |shard| {
            let wrong = Disagreement {
                view: &view,
                sketches: &Sketches::default(),
                opened: PairSet::new().with(0),
                too_high: PairSet::new(),
                operation: Operation::Fork,
                pid: 0,
                records: shard.records(0),
            };
            store.add(wrong, pfn * LATER);
        });
        told.ok_or(ENOENT)
    }

    #[test]
    fn cases_are_kept_listed_and_cleared() -> Result {
        let table = KBox::new(Table::new(false)?, GFP_KERNEL)?;
        table.attach(256 << 10, 1)?;
        let store = KBox::pin_init(Store::new(8 << 20)?, GFP_KERNEL)?;
        assert_eq!(store.seek(0, |_, _| true), None);
        for pfn in 1..=3 {
            tell(&store, &table, pfn)?;
        }
        assert_eq!(store.counts().0.used, 3);
        // Two positions, one of which passes.
        let at = store.seek(0, |pair, e| pair == 0 && e.view.pfn == 2);
        let at = at.ok_or(ENOENT)?;
        let mut shown = 0;
        store.with(at, |_, pair, e| {
            shown = if pair == 0 { e.view.pfn } else { 0 }
        });
        assert_eq!(shown, 2);
        assert_eq!(store.seek(0, |_, e| e.view.pfn == 4), None);
        store.clear();
        assert_eq!(store.counts().0.used, 0);
        assert_eq!(store.seek(0, |_, _| true), None);
        Ok(())
    }

    #[test]
    fn event_path_does_not_wait() -> Result {
        let table = KBox::new(Table::new(false)?, GFP_KERNEL)?;
        table.attach(256 << 10, 1)?;
        let store = KBox::pin_init(Store::new(8 << 20)?, GFP_KERNEL)?;
        let held = store.inner.lock();
        tell(&store, &table, 1)?;
        drop(held);
        let (counts, contended) = store.counts();
        assert_eq!((counts.used, contended), (0, 1));
        tell(&store, &table, 2)?;
        assert_eq!(store.counts().0.used, 1);
        store.clear();
        assert_eq!(store.counts().1, 0);
        Ok(())
    }
}
