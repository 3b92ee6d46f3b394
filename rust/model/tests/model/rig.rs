// SPDX-License-Identifier: GPL-2.0

//! A shard with storage, and surroundings that are simulated.

use std::cell::{
    Cell as Var,
    RefCell, //
};
use std::collections::HashMap;

use fmi_model::{
    compare_twins,
    Cell,
    Counter,
    Counters,
    Disagreement,
    Env,
    FolioEntry,
    Geometry,
    Group,
    History,
    Kept,
    KernelCounts,
    Kind,
    Operation,
    OperationCell,
    Record,
    Shard,
    ShardState,
    Side,
    Tables,
    Twin,
    NR_KEPT,
    NR_OPERATIONS, //
};

/// Page size of the tests, as a shift.
pub const PAGE_SHIFT: u32 = 12;

/// Pages of a page table, as a shift.
pub const PMD_ORDER: u32 = 9;

/// What a page table maps, as a shift.
pub const PT_SHIFT: u32 = PAGE_SHIFT + PMD_ORDER;

/// An open fork copy or move, as the model may ask about it.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Its number.
    pub ticket: u64,
    /// The MM of the source.
    pub mm: u64,
    /// The part of the source that is not yet known, or what moves and where to.
    pub ranges: [(u64, u64); 2],
}

/// Simulated time, grace periods, windows and kernel counters.
#[derive(Default)]
pub struct SimEnv {
    pub now: Var<u64>,
    pub gp: Var<u64>,
    pub windows: RefCell<Vec<Window>>,
    pub kernel: RefCell<HashMap<u64, KernelCounts>>,
    /// A fork copy that begins, and adds a mapping, just when the counters are read.
    pub begins: Var<Option<Window>>,
    /// Not all disagreements are wanted, see [`Env::wants_all`].
    pub patient: Var<bool>,
    /// A copy is under way that found no room.
    pub lacks: Var<bool>,
    /// How many were told.
    pub told: Var<u64>,
}

impl SimEnv {
    /// Lets a grace period pass.
    pub fn grace_period(&self) {
        self.gp.set(self.gp.get() + 1);
    }

    /// Lets time pass.
    pub fn sleep(&self, ns: u64) {
        self.now.set(self.now.get() + ns);
    }
}

impl Env for SimEnv {
    fn now(&self) -> u64 {
        self.now.get()
    }

    fn gp_snapshot(&self) -> u64 {
        self.gp.get()
    }

    fn gp_elapsed(&self, cookie: u64) -> bool {
        self.gp.get() > cookie
    }

    fn windows_open(&self) -> bool {
        !self.windows.borrow().is_empty()
    }

    fn windows_lack(&self) -> bool {
        self.lacks.get()
    }

    fn window_covers(&self, mm: u64, base: u64, len: u64) -> bool {
        self.windows.borrow().iter().any(|w| {
            w.mm == mm
                && w.ranges.iter().any(|(start, end)| {
                    start < end
                        && (start.wrapping_sub(base) < len
                            || base.wrapping_sub(*start) < end - start)
                })
        })
    }

    fn move_covers(&self, mm: u64, base: u64, len: u64) -> bool {
        self.window_covers(mm, base, len)
    }

    fn ticket_open(&self, ticket: u64) -> bool {
        self.windows.borrow().iter().any(|w| w.ticket <= ticket)
    }

    fn disagree(&self, _d: Disagreement<'_>) {
        self.told.set(self.told.get() + 1);
    }

    fn wants_all(&self) -> bool {
        !self.patient.get()
    }

    fn read_kernel(&self, pfn: u64, order: u8, counts: &mut KernelCounts) -> bool {
        let kernel = self.kernel.borrow();
        let Some(found) = kernel.get(&pfn).filter(|k| k.order == order) else {
            return false;
        };
        *counts = *found;
        if let Some(window) = self.begins.take() {
            self.windows.borrow_mut().push(window);
            counts.large += 1;
        }
        true
    }
}

/// Sizes of the storage.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub entries: usize,
    pub histories: usize,
    pub records: usize,
    pub chunks: usize,
    pub max_order: u8,
}

/// Enough for every test that is not about too little.
pub const PLENTY: Size = Size {
    entries: 64,
    histories: 64,
    records: 512,
    chunks: 2048,
    max_order: 11,
};

/// Storage and surroundings of a shard.
pub struct Rig {
    pub env: SimEnv,
    state: ShardState,
    buckets: Vec<u32>,
    record_buckets: Vec<u32>,
    entries: Vec<FolioEntry>,
    records: Vec<Record>,
    words: Vec<u64>,
    history: Vec<History>,
    cells: Vec<Cell>,
    groups: Vec<Group>,
    operations: Vec<OperationCell>,
    operation_groups: Vec<u64>,
    kept: Vec<Kept>,
}

impl Rig {
    /// Forgets all folios, a few at a time.
    pub fn forget(&mut self) {
        let mut from = Some(0);
        while let Some(at) = from {
            from = self.with(|shard, env| shard.forget_some(at, 2, env));
        }
    }

    /// Makes zeroed storage. There are few buckets, so that chains are long.
    pub fn new(size: Size) -> Self {
        let geometry = Geometry {
            page_shift: PAGE_SHIFT as u8,
            pmd_order: PMD_ORDER as u8,
            max_order: size.max_order,
        };
        Self {
            env: SimEnv::default(),
            state: ShardState::new(geometry),
            buckets: vec![0; 4],
            record_buckets: vec![0; 8],
            entries: vec![FolioEntry::default(); size.entries],
            records: vec![Record::default(); size.records],
            words: vec![0; size.chunks * geometry.chunk_words()],
            history: vec![History::default(); size.histories],
            cells: vec![Cell::default(); Tables::nr_cells(size.max_order)],
            groups: vec![Group::default(); Tables::nr_groups(size.max_order)],
            operations: vec![OperationCell::default(); Tables::NR_OPERATION_CELLS],
            operation_groups: vec![0; NR_OPERATIONS],
            kept: vec![Kept::default(); NR_KEPT],
        }
    }

    /// Makes it evaluate each state anew: nothing that was evaluated is kept.
    pub fn keep_nothing(&mut self) {
        self.with(|shard, _| shard.tables.flush());
        self.kept.clear();
    }

    /// Returns how many evaluations are kept.
    pub fn nr_kept(&mut self) -> usize {
        self.with(|shard, _| shard.tables.nr_kept())
    }

    /// Returns the cells of operations as they are stored.
    pub fn operations(&mut self) -> &[OperationCell] {
        self.with(|shard, _| shard.tables.flush());
        &self.operations
    }

    /// Returns the groups as they are stored.
    pub fn groups(&mut self) -> &[Group] {
        self.with(|shard, _| shard.tables.flush());
        &self.groups
    }

    /// Does something with the shard and the surroundings.
    pub fn with<R>(&mut self, f: impl FnOnce(&mut Shard<'_>, &SimEnv) -> R) -> R {
        let mut shard = Shard {
            state: &mut self.state,
            buckets: &mut self.buckets,
            record_buckets: &mut self.record_buckets,
            entries: &mut self.entries,
            records: &mut self.records,
            words: &mut self.words,
            history: &mut self.history,
            tables: Tables {
                cells: &mut self.cells,
                groups: &mut self.groups,
                operations: &mut self.operations,
                operation_groups: &mut self.operation_groups,
                kept: &mut self.kept,
            },
        };
        f(&mut shard, &self.env)
    }

    /// Compares the shadow of a folio with that of another rig.
    pub fn compare(&mut self, other: &mut Rig, pfn: u64, stopped: bool) -> Twin {
        self.with(|a, env_a| {
            other.with(|b, env_b| {
                let first = Side {
                    shard: a,
                    env: env_a,
                };
                let second = Side {
                    shard: b,
                    env: env_b,
                };
                compare_twins(first, second, pfn, stopped)
            })
        })
    }

    /// Returns a counter.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.state.counters().get(counter)
    }

    /// Returns all counters.
    pub fn counters(&self) -> Counters {
        *self.state.counters()
    }

    /// Returns the cells as they are stored.
    pub fn cells(&mut self) -> &[Cell] {
        self.with(|shard, _| shard.tables.flush());
        &self.cells
    }

    /// Returns the cell of a pair, type and order.
    pub fn cell(&mut self, pair: usize, kind: Kind, order: u8) -> Cell {
        self.with(|shard, _| {
            shard.tables.flush();
            shard.tables.cell(pair, kind, order)
        })
    }

    /// Returns the cell of a pair and operation.
    pub fn operation(&mut self, pair: usize, operation: Operation) -> OperationCell {
        self.with(|shard, _| {
            shard.tables.flush();
            shard.tables.operation(pair, operation)
        })
    }

    /// Returns counters that must stay 0 whatever happens.
    pub fn assert_sound(&self) {
        assert_eq!(self.counter(Counter::Corrupt), 0, "a link is broken");
    }

    /// Gives new storage to the shard.
    pub fn replace_storage(&mut self) {
        self.state.restart();
        self.buckets.fill(0);
        self.record_buckets.fill(0);
        self.entries.fill(FolioEntry::default());
        self.records.fill(Record::default());
        self.words.fill(0);
        self.history.fill(History::default());
    }
}

/// Returns how many PTEs map each page of a folio, and what is said of pages that it has not.
pub fn page_counts(shard: &Shard<'_>, entry: u32) -> Vec<i64> {
    let nr = shard.view(entry).map_or(0, |view| view.nr_pages as usize);
    let mut counts = vec![7; nr + 3];
    shard.pages_pte(entry, 0, &mut counts);
    counts.into_iter().map(i64::from).collect()
}

/// Returns for each page whether a PTE of this MM maps it at this base; for pages that the folio has not, too.
pub fn record_bits(shard: &Shard<'_>, entry: u32, mm: u64, base: u64) -> Vec<bool> {
    let nr = shard.view(entry).map_or(0, |view| view.nr_pages as usize);
    let mut words = vec![7u64; nr / 64 + 2];
    shard.record_pages(entry, mm, base, &mut words);
    let bits = |word: u64| (0..64).map(move |bit| word & (1 << bit) != 0);
    words.into_iter().flat_map(bits).collect()
}
