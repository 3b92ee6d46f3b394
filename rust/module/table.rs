// SPDX-License-Identifier: GPL-2.0

//! The shadow of all folios: the model's shards, each behind a spinlock, with storage that is
//! allocated when tracking is enabled and freed when it is disabled.
//!
//! Nothing is allocated under a lock or in a hook. The locks are plain spinlocks: rmap calls are
//! never made from interrupts.

use kernel::{
    prelude::*,
    static_lock_class,
    sync::SpinLock, //
};

use fmi_model::{
    Asked,
    AskedTable,
    Asks,
    Cell,
    Env,
    Geometry,
    Group,
    Kept,
    KeptAnswer,
    OperationCell,
    Shard,
    ShardState,
    Tables,
    NR_ANSWERS,
    NR_ASKED,
    NR_ASKERS,
    NR_KEPT,
    NR_OPERATIONS, //
};

use crate::{
    env::geometry,
    measure::{
        self,
        Kind,
        Locked,
        Step, //
    },
    storage::{
        enough,
        zeroed,
        Storage, //
    }, //
};

/// Number of shards: enough that two CPUs seldom want the same one.
const NR_SHARDS: usize = 16;

/// Positions at which folios are forgotten under one hold of the lock of a shard: up to 9000
/// instructions each, if all definitions are wrong.
const FORGOTTEN: u32 = 8;

/// The storage of a shard's tables.
struct TableStorage {
    cells: KVVec<Cell>,
    groups: KVVec<Group>,
    operations: KVVec<OperationCell>,
    operation_groups: KVVec<u64>,
    kept: KVVec<Kept>,
}

impl TableStorage {
    fn new(geometry: Geometry) -> Result<Self> {
        Ok(Self {
            cells: zeroed(Tables::nr_cells(geometry.max_order))?,
            groups: zeroed(Tables::nr_groups(geometry.max_order))?,
            operations: zeroed(Tables::NR_OPERATION_CELLS)?,
            operation_groups: zeroed(NR_OPERATIONS)?,
            kept: zeroed(NR_KEPT)?,
        })
    }

    fn tables(&mut self) -> Tables<'_> {
        Tables {
            cells: &mut self.cells,
            groups: &mut self.groups,
            operations: &mut self.operations,
            operation_groups: &mut self.operation_groups,
            kept: &mut self.kept,
        }
    }

    fn bytes(&self) -> usize {
        size_of::<Cell>() * self.cells.len()
            + size_of::<Group>() * self.groups.len()
            + size_of::<OperationCell>() * self.operations.len()
            + size_of::<u64>() * self.operation_groups.len()
            + size_of::<Kept>() * self.kept.len()
    }
}

struct Slot {
    state: ShardState,
    tables: TableStorage,
    asked: KVVec<Asked>,
    asks: KVVec<Asks>,
    answers: KVVec<KeptAnswer>,
    storage: Option<Storage>,
    /// The folios are being forgotten: nobody else is to find them.
    forgetting: bool,
}

impl Slot {
    /// Returns the counts of what was asked.
    fn asked_table(&mut self) -> AskedTable<'_> {
        AskedTable {
            asked: &mut self.asked,
            asks: &mut self.asks,
            kept: &mut self.answers,
        }
    }

    fn shard(&mut self) -> Option<Shard<'_>> {
        self.parts().map(|(shard, _)| shard)
    }

    /// The shard, and the counts of what was asked about its folios.
    fn parts(&mut self) -> Option<(Shard<'_>, AskedTable<'_>)> {
        if self.forgetting {
            return None;
        }
        self.lend()
    }

    /// The same, also for the one who forgets.
    fn lend(&mut self) -> Option<(Shard<'_>, AskedTable<'_>)> {
        let storage = self.storage.as_mut()?;
        if self.state.wants_more() {
            storage.extend(self.state.take_wants());
        }
        let lent = storage.lend();
        let shard = Shard {
            state: &mut self.state,
            buckets: lent.buckets,
            record_buckets: lent.record_buckets,
            entries: lent.entries,
            history: lent.history,
            records: lent.records,
            words: lent.words,
            tables: self.tables.tables(),
        };
        let asked = AskedTable {
            asked: &mut self.asked,
            asks: &mut self.asks,
            kept: &mut self.answers,
        };
        Some((shard, asked))
    }
}

/// All shards. Statistics live as long as the table, shadows as long as their storage.
pub(crate) struct Table {
    shards: KVec<Pin<KBox<SpinLock<Slot>>>>,
    geometry: Geometry,
}

impl Table {
    /// Creates the shards without storage.
    ///
    /// The locks of the second table, if there are two, are taken under those of the first.
    pub(crate) fn new(second: bool) -> Result<Self> {
        let (name, class) = if second {
            (c"fmi_second_shard", static_lock_class!())
        } else {
            (c"fmi_shard", static_lock_class!())
        };
        let geometry = geometry();
        let mut shards = KVec::with_capacity(NR_SHARDS, GFP_KERNEL)?;
        for _ in 0..NR_SHARDS {
            let tables = TableStorage::new(geometry)?;
            let asked = zeroed(NR_ASKED)?;
            let asks = zeroed(NR_ASKERS)?;
            let answers = zeroed(NR_ANSWERS)?;
            let slot = KBox::pin_init(
                SpinLock::new(
                    Slot {
                        state: ShardState::new(geometry),
                        tables,
                        asked,
                        asks,
                        answers,
                        storage: None,
                        forgetting: false,
                    },
                    name,
                    class,
                ),
                GFP_KERNEL,
            )?;
            shards.push(slot, GFP_KERNEL)?;
        }
        Ok(Self { shards, geometry })
    }

    #[inline]
    #[cfg_attr(fmi_measure, track_caller)]
    fn lock(shard: &SpinLock<Slot>, step: Step) -> Locked<'_, Slot> {
        measure::lock(shard, Kind::Shard, step)
    }

    /// Returns the geometry of the running kernel.
    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Gives every shard its part of `bytes` of storage, the table being one of `tables` that share the
    /// bound. It must have none.
    pub(crate) fn attach(&self, bytes: usize, tables: usize) -> Result {
        let enough = enough() / tables / NR_SHARDS;
        for shard in &self.shards {
            let storage = Storage::new(bytes / NR_SHARDS, enough, self.geometry)?;
            let mut slot = Self::lock(shard, Step::Shard);
            slot.state.restart();
            slot.storage = Some(storage);
        }
        Ok(())
    }

    /// Forgets all folios and frees the storage.
    pub(crate) fn detach(&self, env: &impl Env) {
        for shard in &self.shards {
            let mut from = Some(0);
            while let Some(at) = from {
                let mut slot = Self::lock(shard, Step::Forget);
                slot.forgetting = true;
                from = slot
                    .lend()
                    .and_then(|(mut shard, _)| shard.forget_some(at, FORGOTTEN, env));
            }
            let mut slot = Self::lock(shard, Step::Forget);
            slot.forgetting = false;
            slot.state.restart();
            let storage = slot.storage.take();
            // Freed without the lock.
            drop(slot);
            drop(storage);
        }
    }

    /// Returns the bytes of storage and of statistics.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |slot: &Slot| {
            size_of::<Slot>()
                + slot.tables.bytes()
                + slot.asked.len() * size_of::<Asked>()
                + slot.asks.len() * size_of::<Asks>()
                + slot.answers.len() * size_of::<KeptAnswer>()
                + slot.storage.as_ref().map_or(0, Storage::bytes)
        };
        self.shards
            .iter()
            .map(|shard| bytes(&Self::lock(shard, Step::Shard)))
            .sum()
    }

    /// Calls `f` with the shard that a folio belongs to, if there is storage.
    ///
    /// `f` runs under a spinlock.
    #[inline]
    #[cfg_attr(fmi_measure, track_caller)]
    pub(crate) fn with<R>(&self, pfn: u64, f: impl FnOnce(&mut Shard<'_>) -> R) -> Option<R> {
        let mut slot = Self::lock(self.shards.get(shard_of(pfn))?, Step::Folio);
        let mut shard = slot.shard()?;
        Some(f(&mut shard))
    }

    /// The same with the counts of what was asked about the folios of the shard.
    pub(crate) fn with_asked(&self, pfn: u64, f: impl FnOnce(&mut Shard<'_>, &mut AskedTable<'_>)) {
        let Some(shard) = self.shards.get(shard_of(pfn)) else {
            return;
        };
        if let Some((mut shard, mut asked)) = Self::lock(shard, Step::Asked).parts() {
            f(&mut shard, &mut asked);
        }
    }

    /// Calls `f` with the counts of what was asked, shard by shard.
    pub(crate) fn for_each_asked(&self, mut f: impl FnMut(&[Asked], &[Asks])) {
        for shard in &self.shards {
            let mut slot = Self::lock(shard, Step::Shard);
            slot.asked_table().flush();
            f(&slot.asked, &slot.asks);
        }
    }

    /// Calls `f` with shard `i`; `None` if there is no such shard.
    ///
    /// The inner `None` says that the shard has no storage. `f` runs under a spinlock.
    #[cfg_attr(fmi_measure, track_caller)]
    pub(crate) fn with_shard<R>(
        &self,
        i: usize,
        f: impl FnOnce(&mut Shard<'_>) -> R,
    ) -> Option<Option<R>> {
        let mut slot = Self::lock(self.shards.get(i)?, Step::Part);
        Some(slot.shard().as_mut().map(f))
    }

    /// Calls `f` with each shard that has storage, under its spinlock.
    #[cfg_attr(fmi_measure, track_caller)]
    pub(crate) fn for_each_shard(&self, mut f: impl FnMut(&mut Shard<'_>)) {
        for shard in &self.shards {
            let mut slot = Self::lock(shard, Step::Shard);
            if let Some(mut shard) = slot.shard() {
                f(&mut shard);
            }
        }
    }

    /// Calls `f` with counters and figures of each shard, under its spinlock.
    #[cfg_attr(fmi_measure, track_caller)]
    pub(crate) fn for_each_state(&self, mut f: impl FnMut(&ShardState)) {
        for shard in &self.shards {
            f(&Self::lock(shard, Step::Shard).state);
        }
    }

    /// Has evaluations that are kept told as if nobody had been told of them.
    pub(crate) fn tell_anew(&self) {
        for shard in &self.shards {
            Self::lock(shard, Step::Shard).tables.tables().tell_anew();
        }
    }

    /// Calls `f` with the tables of each shard, under its spinlock. The evaluations that are kept are in
    /// them: without those a folio may have become right that had not become wrong.
    pub(crate) fn for_each_table(&self, mut f: impl FnMut(&Tables<'_>)) {
        for shard in &self.shards {
            let mut slot = Self::lock(shard, Step::Flush);
            let mut tables = slot.tables.tables();
            tables.flush();
            f(&tables);
        }
    }

    /// Sets the counters of all shards to zero; numbers of what is there now stay.
    pub(crate) fn reset_counters(&self) {
        for shard in &self.shards {
            Self::lock(shard, Step::Shard).state.reset_counters();
        }
    }

    /// Sets the figures of all shards to zero.
    pub(crate) fn reset_figures(&self) {
        for shard in &self.shards {
            Self::lock(shard, Step::Shard).state.reset_figures();
        }
    }

    /// Sets the counts of what was asked to zero.
    pub(crate) fn reset_asked(&self) {
        for shard in &self.shards {
            Self::lock(shard, Step::Shard).asked_table().reset();
        }
    }

    /// Starts the tables of all shards anew; what is wrong now stays so, counted from now.
    pub(crate) fn reset_tables(&self, env: &impl Env) {
        for shard in &self.shards {
            Self::lock(shard, Step::Shard).tables.tables().restart(env);
        }
    }
}

/// Which shard a folio belongs to.
fn shard_of(pfn: u64) -> usize {
    // Multiplicative hashing: large folios have head pfns with many low zero bits.
    let hash = pfn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash >> (u64::BITS - NR_SHARDS.ilog2())) as usize
}

#[kunit_tests(fmi_table)]
mod tests {
    use super::*;
    use crate::{
        env::KernelEnv,
        window::Windows, //
    };
    use fmi_model::{
        Call,
        Kind,
        Level,
        Op,
        Operation,
        Outcome, //
    };

    /// An add of one page of the folio at a pfn, which the kernel says was unmapped.
    fn add(pfn: u64) -> Call {
        Call {
            op: Op::Add,
            level: Level::Pte,
            pfn,
            order: 2,
            kind: Kind::Anon,
            first: 1,
            nr: 1,
            mm: 1,
            mm_id: 1,
            base: 0x10_0000,
            table: None,
            alt_base: None,
            vma: 1,
            vma_start: 0x10_0000,
            vma_end: 0x20_0000,
            task: 1,
            pid: 1,
            operation: Operation::Fault,
            caller: 1,
            kernel_unmapped: true,
            pending: 0,
        }
    }

    #[test]
    fn folios_of_each_order_spread_over_the_shards() {
        const FOLIOS: u64 = 64 * NR_SHARDS as u64;
        for order in 0..=13 {
            let mut nr = [0u64; NR_SHARDS];
            for folio in 0..FOLIOS {
                if let Some(nr) = nr.get_mut(shard_of(folio << order)) {
                    *nr += 1;
                }
            }
            assert_eq!(nr.iter().sum::<u64>(), FOLIOS);
            assert!(nr.iter().all(|nr| (16..=128).contains(nr)));
        }
    }

    #[test]
    fn storage_is_within_the_bound() -> Result {
        // From the smallest part of a shard on.
        for bytes in (16 << 10..64 << 10).step_by(1000) {
            for enough in [0, bytes / 2, bytes] {
                let taken = Storage::new(bytes, enough, geometry())?.bytes();
                assert!(taken <= bytes && taken >= bytes - bytes / 64);
            }
        }
        Ok(())
    }

    #[test]
    fn storage_is_counted_while_it_is_there() -> Result {
        let table = Table::new(false)?;
        let windows = KBox::pin_init(Windows::new(), GFP_KERNEL)?;
        let env = KernelEnv::new(&windows, None);
        let without = table.bytes();
        table.attach(256 << 10, 1)?;
        let taken = table.bytes() - without;
        assert!(taken <= 256 << 10 && taken >= 128 << 10);
        table.detach(&env);
        assert_eq!(table.bytes(), without);
        Ok(())
    }

    #[test]
    fn what_is_detached_is_forgotten() -> Result {
        let table = Table::new(false)?;
        let windows = KBox::pin_init(Windows::new(), GFP_KERNEL)?;
        let env = KernelEnv::new(&windows, None);
        // No folio has this pfn: the kernel's counters of it cannot be read.
        let pfn = 1 << 50;
        assert!(table.with(pfn, |_| ()).is_none());
        assert!(table.with_shard(0, |_| ()).is_some_and(|r| r.is_none()));
        assert!(table.with_shard(NR_SHARDS, |_| ()).is_none());
        table.attach(256 << 10, 1)?;
        let outcome = table.with(pfn, |shard| shard.call(&add(pfn), &env));
        assert_eq!(outcome, Some(Outcome::Started));
        assert!(table.with(pfn, |shard| shard.find(pfn)).flatten().is_some());
        // The shard of the folio has it, and no other.
        let mut nr = 0;
        table.for_each_shard(|shard| nr += usize::from(shard.find(pfn).is_some()));
        assert_eq!(nr, 1);
        table.detach(&env);
        assert!(table.with(pfn, |_| ()).is_none());
        table.attach(256 << 10, 1)?;
        assert_eq!(table.with(pfn, |shard| shard.find(pfn)), Some(None));
        table.detach(&env);
        Ok(())
    }
}
