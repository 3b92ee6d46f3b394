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
    KeptAnswer,
    KernelCounts,
    Kind,
    Level,
    LostReason,
    Op,
    DEFINITIONS,
    NR_ANSWERS,
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
    kept: Vec<KeptAnswer>,
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
            kept: vec![KeptAnswer::default(); NR_ANSWERS],
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
        self.ask_later(asking);
        self.flush();
    }

    /// Asks; the answers are counted when [`Self::flush`] is called.
    fn ask_later(&mut self, asking: Asking) {
        let (asked, asks, kept) = (&mut self.asked, &mut self.asks, &mut self.kept);
        self.rig.with(|shard, env| {
            let mut table = AskedTable { asked, asks, kept };
            shard.asking(&asking, &mut table, env);
        });
    }

    /// Counts the answers that are kept.
    fn flush(&mut self) {
        let (asked, asks, kept) = (&mut self.asked, &mut self.asks, &mut self.kept);
        AskedTable { asked, asks, kept }.flush();
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

/// Asks two desks the same, one of which keeps no answer.
struct Twins([Desk; 2]);

impl Twins {
    /// Nothing was asked.
    fn new() -> Self {
        let mut forgetful = Desk::new();
        forgetful.kept.clear();
        Self([Desk::new(), forgetful])
    }

    /// Does the same with both.
    fn both(&mut self, mut f: impl FnMut(&mut Desk)) {
        self.0.iter_mut().for_each(&mut f);
    }

    /// Counts, and compares.
    fn agree(&mut self) {
        self.both(Desk::flush);
        let [a, b] = &self.0;
        assert_eq!(a.asked, b.asked);
        assert_eq!(a.asks, b.asks);
    }
}

/// How many values each number of a [`Case`] has.
const VALUES: [u64; 21] = [
    2, 2, 2, 2, 3, 3, 4, 2, 2, 2, 2, 2, 2, 2, 2, 6, 3, 2, 2, 3, 4,
];

/// A folio, what the kernel counts of it, and a question: a number for each thing that may differ.
#[derive(Clone, Copy)]
struct Case([u64; VALUES.len()]);

impl Case {
    /// Maps folio number `n`, asks, and unmaps it.
    fn ask(&self, desk: &mut Desk, n: u64) {
        let [kind, order, place, first, second, who, id, index, exclusive, bit, maybe, partial, per_page, swap, apart, refs, expected, own, ids, asker, large] =
            self.0;
        let kind = [Kind::Anon, Kind::File][kind as usize];
        let (order, nr) = [(4, 16), (3, 8)][order as usize];
        // In one page table, or in two.
        let base = [0x10_0000, 0x1f_c000][place as usize];
        // One MM maps the folio, or two do: by PTEs, or by one entry.
        let map = |mm: u64, op, by: u64| Call {
            pfn: pfn(n),
            order,
            kind,
            mm,
            mm_id: 3 * mm as u32 - 20 + 5 * ids as u32,
            vma: mm,
            vma_end: 0x30_0000,
            base,
            level: [Level::Pte, Level::Entire][by as usize],
            ..call(op, 0, nr)
        };
        desk.rig.take(map(7, Op::Add, first));
        if second > 0 {
            desk.rig.take(mapped(map(8, Op::Dup, second - 1)));
        }
        let nr = nr as i32;
        let mappings = |by: u64| if by == 0 { nr } else { 1 };
        let total = mappings(first) + if second > 0 { mappings(second - 1) } else { 0 };
        let kernel = KernelCounts {
            entire: first as i32 + i32::from(second == 2),
            nr_pages_mapped: nr + apart as i32,
            refcount: [1, nr - 1, nr, total, total + 1, total + nr][refs as usize],
            expected_refs: [total, total + 1, total + nr][expected as usize],
            per_page: per_page > 0,
            shared_bit: bit > 0,
            maybe_mapped_shared: maybe > 0,
            partially_mapped: partial > 0,
            swapcache: swap > 0,
            anon: kind == Kind::Anon,
            order,
            ..counts([nr, nr + 1, 2 * nr, total][large as usize])
        };
        desk.rig.env.kernel.borrow_mut().insert(pfn(n), kernel);
        desk.ask_later(Asking {
            pfn: pfn(n),
            own: own as i32,
            page: (who > 0).then_some(AskingPage {
                mm: 6 + who,
                mm_id: [1, 4, 6, 9][id as usize],
                index: 3 + index as u32,
                anon_exclusive: exclusive > 0,
            }),
            ..asking([Asker::WpPte, Asker::Split, Asker::ProtNuma][asker as usize])
        });
        if second > 0 {
            desk.rig.take(mapped(map(8, Op::Remove, second - 1)));
        }
        desk.rig.take(mapped(map(7, Op::Remove, first)));
        desk.rig.env.grace_period();
    }
}

#[test]
fn answers_that_are_kept_are_those_that_are_worked_out() {
    let mut twins = Twins::new();
    // Deterministic.
    let mut seed = 1u64;
    let mut next = |n: u64| {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (seed >> 33) % n
    };
    let mut folio = 2;
    for _ in 0..3000 {
        let case = Case(VALUES.map(&mut next));
        // Each one that differs in one number: when it is asked, the answers to the first are kept.
        for (at, values) in VALUES.into_iter().enumerate() {
            for value in 0..values {
                let mut other = case;
                other.0[at] = value;
                twins.both(|desk| {
                    case.ask(desk, folio);
                    other.ask(desk, folio + 1);
                });
                folio += 2;
                twins.agree();
            }
        }
    }
    let [kept, _] = &twins.0;
    let [judged, untracked, unsettled] = kept.calls(Asker::WpPte);
    assert!(judged > 10_000 && untracked + unsettled == 0);
}

#[test]
fn answers_that_are_kept_are_counted_when_they_are_read() {
    let mut desk = Desk::new();
    desk.kernel(counts(16));
    for _ in 0..3 {
        desk.ask_later(asking(Asker::ProtNuma));
    }
    assert_eq!(desk.of(Asker::ProtNuma, "mm"), [0; 4]);
    assert!(desk.kept.iter().any(|kept| kept.times() == 3));
    desk.flush();
    desk.flush();
    assert_eq!(desk.of(Asker::ProtNuma, "mm"), [3, 0, 0, 0]);
    // What was not counted yet is forgotten, too.
    desk.ask_later(asking(Asker::ProtNuma));
    let Desk {
        asked, asks, kept, ..
    } = &mut desk;
    AskedTable { asked, asks, kept }.reset();
    desk.flush();
    assert_eq!(desk.of(Asker::ProtNuma, "mm"), [0; 4]);
    assert_eq!(desk.calls(Asker::ProtNuma), [0; 3]);
    desk.ask(asking(Asker::ProtNuma));
    assert_eq!(desk.of(Asker::ProtNuma, "mm"), [1, 0, 0, 0]);
}
