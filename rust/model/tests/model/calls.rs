// SPDX-License-Identifier: GPL-2.0

//! Single calls on order-4 folios, for tests that need no world.

use fmi_model::{
    Call,
    Kind,
    Level,
    Op,
    Operation,
    Outcome,
    State, //
};

use crate::rig::{
    Rig,
    Window, //
};

/// The pfn of folio number `n`.
pub const fn pfn(n: u64) -> u64 {
    n << 10
}

/// A call on pages of an order-4 folio of which the kernel says that it is unmapped.
pub fn call(op: Op, first: u32, nr: u32) -> Call {
    Call {
        op,
        level: Level::Pte,
        pfn: pfn(1),
        order: 4,
        kind: Kind::Anon,
        first,
        nr,
        mm_id: 1,
        mm: 7,
        base: 0x10_0000,
        table: None,
        alt_base: None,
        vma: 1,
        vma_start: 0x10_0000,
        vma_end: 0x11_0000,
        task: 1,
        pid: 1,
        operation: Operation::Fault,
        caller: 1,
        kernel_unmapped: true,
        pending: 0,
    }
}

/// The same, of which the kernel says that it is mapped.
pub fn mapped(c: Call) -> Call {
    Call {
        kernel_unmapped: false,
        ..c
    }
}

impl Rig {
    /// Takes a call.
    pub fn take(&mut self, c: Call) -> Outcome {
        let outcome = self.with(|shard, env| shard.call(&c, env));
        self.assert_sound();
        outcome
    }

    /// Returns the state of a folio's entry.
    pub fn state(&mut self, pfn: u64) -> Option<State> {
        self.with(|shard, _| Some(shard.view(shard.find(pfn)?)?.state))
    }

    /// Returns the number of mappings of a folio.
    pub fn total(&mut self, pfn: u64) -> u64 {
        self.with(|shard, _| shard.view(shard.find(pfn).unwrap()).unwrap().total)
    }

    /// Returns the number of changes of a folio, if it has an entry.
    pub fn seq(&mut self, pfn: u64) -> Option<u32> {
        self.with(|shard, _| shard.find(pfn).map(|e| shard.seq(e)))
    }

    /// Opens a window.
    pub fn open(&self, ticket: u64, mm: u64, start: u64, end: u64) {
        self.env.windows.borrow_mut().push(Window {
            ticket,
            mm,
            ranges: [(start, end), (0, 0)],
        });
    }

    /// Closes all windows.
    pub fn close(&self) {
        self.env.windows.borrow_mut().clear();
    }
}
