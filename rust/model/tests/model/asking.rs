// SPDX-License-Identifier: GPL-2.0

//! What is counted when a hooked function asks about a folio.

use fmi_model::{
    asked_index,
    Asked,
    AskedTable,
    Asker,
    Asking,
    AskingPage,
    Asks,
    Call,
    KernelCounts,
    LostReason,
    Op,
    DEFINITIONS,
    NR_ASKED,
    NR_ASKERS, //
};

use crate::calls::{
    call,
    mapped,
    pfn, //
};
use crate::rig::{
    Rig,
    PLENTY, //
};

/// The kernel's counters of the folio of [`call`] while `large` pages are mapped by PTEs.
fn counts(large: i32) -> KernelCounts {
    KernelCounts {
        large,
        nr_pages_mapped: large,
        per_page: true,
        refcount: large,
        expected_refs: large,
        anon: true,
        order: 4,
        ..KernelCounts::default()
    }
}

/// A shard, and the counts of what is asked.
struct Desk {
    rig: Rig,
    asked: Vec<Asked>,
    asks: Vec<Asks>,
}

impl Desk {
    /// Has the folio mapped as a whole by one MM.
    fn new() -> Self {
        let mut rig = Rig::new(PLENTY);
        rig.take(call(Op::Add, 0, 16));
        Self {
            rig,
            asked: vec![Asked::default(); NR_ASKED],
            asks: vec![Asks::default(); NR_ASKERS],
        }
    }

    /// Maps a page in another MM.
    fn share(&mut self) {
        self.rig.take(Call {
            mm: 8,
            ..mapped(call(Op::Add, 0, 1))
        });
    }

    /// Says what the kernel's counters are.
    fn kernel(&mut self, kernel: KernelCounts) {
        self.rig.env.kernel.borrow_mut().insert(pfn(1), kernel);
    }

    /// Asks.
    fn ask(&mut self, asking: Asking) {
        let (asked, asks) = (&mut self.asked, &mut self.asks);
        self.rig.with(|shard, env| {
            let mut table = AskedTable { asked, asks };
            shard.asking(&asking, &mut table, env);
        });
    }

    /// Returns the counts of a definition, each but those that were asked about.
    fn of(&self, asker: Asker, name: &str) -> [u64; 4] {
        let definition = DEFINITIONS.iter().position(|d| d.name == name).unwrap();
        let a = self.asked[asked_index(asker, definition)];
        [a.asked, a.differ, a.wrong, a.unknown]
    }

    /// Returns what became of the calls: judged, untracked, unsettled.
    fn calls(&self, asker: Asker) -> [u64; 3] {
        let a = self.asks[asker.index()];
        [a.judged, a.untracked, a.unsettled]
    }
}

/// A question of a function that holds no reference.
fn asking(asker: Asker) -> Asking {
    Asking {
        asker,
        pfn: pfn(1),
        own: 0,
        page: None,
    }
}

#[test]
fn answers_are_compared_with_truth_and_kernel() {
    let mut desk = Desk::new();
    // The kernel's bit is sticky.
    desk.kernel(KernelCounts {
        maybe_mapped_shared: true,
        ..counts(16)
    });
    desk.ask(asking(Asker::ProtNuma));
    assert_eq!(desk.of(Asker::ProtNuma, "mm"), [1, 1, 0, 0]);
    assert_eq!(desk.of(Asker::ProtNuma, "kernel"), [1, 0, 1, 0]);
    // first_page says no, like the truth.
    assert_eq!(desk.of(Asker::ProtNuma, "first_page"), [1, 1, 0, 0]);
    desk.share();
    desk.kernel(KernelCounts {
        maybe_mapped_shared: true,
        ..counts(17)
    });
    desk.ask(asking(Asker::ProtNuma));
    assert_eq!(desk.of(Asker::ProtNuma, "mm"), [2, 1, 0, 0]);
    assert_eq!(desk.of(Asker::ProtNuma, "kernel"), [2, 0, 1, 0]);
    // Nothing but the question of the site, at no other site.
    assert_eq!(desk.of(Asker::ProtNuma, "full"), [0; 4]);
    assert_eq!(desk.of(Asker::Mbind, "mm"), [0; 4]);
    assert_eq!(desk.calls(Asker::ProtNuma), [2, 0, 0]);
}

#[test]
fn a_deferred_split_is_a_yes_of_the_kernel() {
    let mut desk = Desk::new();
    desk.rig.take(mapped(call(Op::Remove, 3, 1)));
    // The flag is set after the question.
    desk.kernel(counts(15));
    desk.ask(asking(Asker::DeferredSplit));
    assert_eq!(desk.of(Asker::DeferredSplit, "kernel"), [1, 0, 0, 0]);
    assert_eq!(
        desk.of(Asker::DeferredSplit, "nr_pages_mapped"),
        [1, 0, 0, 0]
    );
}

#[test]
fn references_of_the_asker_are_explained() {
    let mut desk = Desk::new();
    let held = Asking {
        own: 1,
        ..asking(Asker::Split)
    };
    desk.kernel(KernelCounts {
        refcount: 17,
        ..counts(16)
    });
    desk.ask(held);
    assert_eq!(desk.of(Asker::Split, "kernel"), [1, 0, 0, 0]);
    // The kernel missed a mapping, and takes its reference for one that it cannot explain.
    desk.kernel(KernelCounts {
        large: 15,
        expected_refs: 15,
        refcount: 17,
        ..counts(15)
    });
    desk.ask(held);
    assert_eq!(desk.of(Asker::Split, "kernel"), [2, 0, 1, 0]);
}

#[test]
fn a_page_of_another_mm_is_not_reused() {
    let mut desk = Desk::new();
    desk.kernel(counts(16));
    let fault = |mm| Asking {
        page: Some(AskingPage {
            mm,
            mm_id: 1,
            index: 5,
            anon_exclusive: false,
        }),
        ..asking(Asker::WpPte)
    };
    // Mapped once, by this MM, and nothing else refers to the folio: the kernel says yes.
    desk.ask(fault(7));
    assert_eq!(desk.of(Asker::WpPte, "kernel"), [1, 0, 0, 0]);
    // Not by that one: it would be wrong to.
    desk.ask(fault(8));
    assert_eq!(desk.of(Asker::WpPte, "kernel"), [2, 0, 1, 0]);
}

#[test]
fn what_cannot_be_judged_is_counted() {
    let mut desk = Desk::new();
    // No counters.
    desk.ask(asking(Asker::Mbind));
    assert_eq!(desk.calls(Asker::Mbind), [0, 0, 1]);
    desk.kernel(counts(16));
    // A fork that removed what it will find, or not.
    desk.rig.open(3, 7, 0x10_0000, 0x11_0000);
    desk.rig.take(Call {
        pending: 3,
        ..mapped(call(Op::Remove, 0, 1))
    });
    desk.ask(asking(Asker::Mbind));
    assert_eq!(desk.calls(Asker::Mbind), [0, 0, 2]);
    desk.rig.close();
    desk.ask(asking(Asker::Mbind));
    assert_eq!(desk.calls(Asker::Mbind), [1, 0, 2]);
    // A folio that is not known, and one that was given up.
    desk.ask(Asking {
        pfn: pfn(2),
        ..asking(Asker::Mbind)
    });
    desk.rig
        .with(|shard, env| shard.lose(pfn(1), LostReason::Window, env));
    desk.ask(asking(Asker::Mbind));
    assert_eq!(desk.calls(Asker::Mbind), [1, 2, 2]);
    assert_eq!(desk.of(Asker::Mbind, "mm"), [1, 0, 0, 0]);
}
