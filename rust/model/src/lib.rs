// SPDX-License-Identifier: GPL-2.0

//! The mapcount model: what the rmap calls of the kernel say about each large folio.
//!
//! Pure state: no kernel, no allocation, no `unsafe`, no way to panic. Kbuild compiles it into the
//! module (`rust/model/src/lib.o`), Cargo compiles the same files for the host tests.
//!
//! # Data flow
//!
//! ```text
//! rmap hook, fork walk      event::Call        one call, decoded: folio, pages, address, VMA
//!   -> Shard::call()        shard::*           finds the folio, ends the previous run:
//!        -> FolioView       view               the numbers of the state that the run left behind
//!        -> definitions     definition::*      what each definition answers to each question
//!        -> tables          disagree           compared with the truth and counted
//!      then applies the call to the folio's records
//! ```
//!
//! # Words
//!
//! The words of the kernel's memory management are used as in `Documentation/mm/transhuge.rst` and
//! `include/linux/rmap.h`: *folio*, *page of the folio*, *order*, *pfn*, *mapping* (a page-table
//! entry that maps pages of a folio), *entire mapping* (a PMD or PUD that maps all of it),
//! *PTE-mapped*, *mapcount*. Our own words:
//!
//! * *event*: something that changed, or may have changed, the mappings of a folio; a [`Call`] is
//!   the event of one rmap function.
//! * *shadow*: what the events say about a folio: a [`FolioEntry`] with its [`Record`]s. The set of
//!   mappings it stands for is called T, the truth.
//! * *record*: the mappings of one folio in one MM at one *base*, the address that page 0 of the
//!   folio has under the VMA's linear rule (wrapping; an identity, not always a valid address).
//! * *tuple*: a VMA and a PMD-sized slot of its addresses in which it maps at least one page.
//! * *run*: consecutive calls in one direction by one task and caller on one (VMA, page table); the
//!   state that a run leaves behind is *evaluated* when the next call does not belong to it.
//! * *definition*: a way to count the mappings of a folio, see [`definition`].
//! * *question*: what memory management asks about a folio, see [`Question`].
//! * *disagreement*: a definition answers a question differently from the truth, see [`Cell`].
//! * *draining*: a folio with no mapping left that calls in flight may still map again.
//! * *twin*: one of two shadows of the same folios, each fed by a backend of its own.
//! * *untracked*: a folio whose mappings began unseen; it is ignored until it is seen unmapped.
//! * *lost*: a folio whose shadow was given up, for a [`LostReason`]; then it is untracked.
//!
//! # Context
//!
//! A [`Shard`] is used under one lock of the caller, in the hooks with a page-table lock held:
//! nothing here sleeps, allocates or reads anything but its arguments and the [`Env`].

#![crate_name = "fmi_model"]
// Kbuild passes `no_std` itself (scripts/Makefile.build, `-Zcrate-attr=no_std`).
#![cfg_attr(not(CONFIG_RUST), no_std)]
#![forbid(unsafe_code)]

mod answers;
mod bits;
mod decision;
pub mod definition;
mod disagree;
mod event;
mod example;
mod figures;
mod kernel;
mod memo;
mod operation;
mod pairs;
mod planes;
pub mod preview;
mod question;
mod record;
mod shard;
mod slab;
mod stats;
mod tables;
mod twin;
mod view;

pub use answers::{
    KeptAnswer,
    NR_ANSWERS, //
};
pub use decision::{
    asked_index,
    Asked,
    AskedBy,
    AskedTable,
    Asker,
    Asks,
    Decision,
    Orders,
    DECISIONS,
    NR_ASKED,
    NR_ASKERS,
    NR_DECISIONS, //
};
pub use definition::{
    DefinitionId,
    DefinitionInfo,
    Shown,
    Sketches,
    DEFINITIONS,
    NR_PAIRS,
    PAIRS, //
};
pub use disagree::Disagreement;
pub use event::{
    Boundary,
    Call,
    Edge,
    Env,
    Event,
    Inconsistency,
    Kind,
    Level,
    LostReason,
    Move,
    Op,
    Outcome,
    Place,
    SharedTable,
    NO_BASE,
    NR_KINDS, //
};
pub use example::{
    Example,
    ExampleCell,
    ExampleCounts,
    ExampleSlot,
    ExampleState,
    Examples,
    Mapper,
    Names,
    EXAMPLE_MAPPERS, //
};
pub use figures::{
    ByKind,
    Figures,
    Rest,
    Scans,
    SCAN_CLASSES, //
};
pub use kernel::{
    Compare,
    Field,
    KernelCounts,
    Mismatch,
    ENTIRELY_MAPPED,
    NR_FIELDS, //
};
pub use memo::{
    Kept,
    NR_KEPT, //
};
pub use operation::{
    Operation,
    Site,
    VmaState,
    NR_OPERATIONS, //
};
pub use pairs::{
    PairIter,
    PairSet,
    Verdicts, //
};
pub use question::{
    Answer,
    Question,
    HALF_LIMIT,
    NR_QUESTIONS, //
};
pub use record::{
    Record,
    RecordView, //
};
pub use shard::{
    compare_twins,
    is_table,
    Adoption,
    Asking,
    AskingPage,
    FolioEntry,
    Geometry,
    History,
    MappingCheck,
    Plain,
    PlainMap,
    RecordIter,
    Shard,
    ShardState,
    Side,
    Standing,
    State,
    Suspect, //
};
pub use slab::Wants;
pub use stats::{
    Counter,
    Counters,
    COUNTERS,
    NR_COUNTERS, //
};
pub use tables::{
    Cell,
    Group,
    OperationCell,
    Tables,
    TABLE_KIND,
    TABLE_KINDS, //
};
pub use twin::{
    Twin,
    TwinDifference,
    TwinPlace,
    TwinSkip,
    TwinWhat, //
};
pub use view::{
    Ask,
    AskPage,
    FolioView, //
};
