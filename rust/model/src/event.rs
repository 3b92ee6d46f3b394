// SPDX-License-Identifier: GPL-2.0

//! What happens to a folio, as the hooks tell it, and what the model needs from outside.

use crate::{
    Disagreement,
    KernelCounts,
    Operation, //
};

/// What a call does to the mappings of a folio.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Makes mappings: `folio_add_*_rmap_*()`, `folio_add_new_anon_rmap()`.
    Add,
    /// Removes mappings: `folio_remove_rmap_*()`.
    Remove,
    /// A mapping that fork made and the watermark walk found. Never starts tracking.
    Dup,
    /// An add to a child VMA beyond the watermark of its copy: the walk will find the mapping.
    ///
    /// Starts or keeps tracking like an add, but makes no mapping. [`Call::pending`] should name
    /// the copy, so that the entry is kept until the walk has passed.
    Touch,
    /// A remove from a child VMA beyond the watermark: the walk will not find the mapping.
    ///
    /// Changes nothing, but a call is in flight.
    Skip,
    /// Mappings that somebody found in a page table, under its lock.
    ///
    /// Of a tracked folio they must be known. Those of another folio are taken in while the shard
    /// learns, see [`crate::Shard::begin_learning`]; mappings that are known already may be among them.
    Found,
}

/// The page-table level of the mappings of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// PTEs, one mapping per page.
    Pte,
    /// One PMD (or PUD) that maps the whole folio.
    Entire,
}

/// The type of a folio.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Kind {
    /// Anonymous memory.
    #[default]
    Anon,
    /// Page cache of a file system other than shmem.
    File,
    /// Page cache of shmem (memfd, tmpfs, shared anonymous).
    Shmem,
    /// A hugetlb folio, private or of hugetlbfs. Only with tracepoints: function hooks miss half of
    /// its calls.
    Hugetlb,
    /// A folio of a driver or of ZONE_DEVICE. Only with tracepoints: other calls have no address.
    Driver,
    /// A KSM page. KSM folios are small: always 0 in the tables.
    Ksm,
}

/// Number of [`Kind`]s.
pub const NR_KINDS: usize = 6;

impl Kind {
    /// All kinds, in the order of the tables.
    pub const ALL: [Kind; NR_KINDS] = [
        Kind::Anon,
        Kind::File,
        Kind::Shmem,
        Kind::Hugetlb,
        Kind::Driver,
        Kind::Ksm,
    ];

    /// Returns the name used in files.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Anon => "anon",
            Kind::File => "file",
            Kind::Shmem => "shmem",
            Kind::Hugetlb => "hugetlb",
            Kind::Driver => "driver",
            Kind::Ksm => "ksm",
        }
    }

    /// Returns the position in [`Kind::ALL`].
    pub const fn index(self) -> usize {
        match self {
            Kind::Anon => 0,
            Kind::File => 1,
            Kind::Shmem => 2,
            Kind::Hugetlb => 3,
            Kind::Driver => 4,
            Kind::Ksm => 5,
        }
    }
}

/// The page table that a hugetlb entry is in, if several MMs may share it.
///
/// A table of PMDs may be part of the page tables of several MMs
/// (`CONFIG_HUGETLB_PMD_PAGE_TABLE_SHARING`). Each of its entries is one mapping, whoever made it;
/// an MM comes and goes without a call, and any of them may remove it. So once a table was shared
/// its mappings are recorded under the table, and which MMs map the folio is not known until
/// nothing maps it.
///
/// Source: `huge_pmd_share()`, `__huge_pmd_unshare()` (`mm/hugetlb.c`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SharedTable {
    /// Identity of the table: its pfn.
    pub id: u64,
    /// The address of page 0 of the folio, counted from the first address of the table.
    pub base: u64,
    /// Whether several MMs share it now; read under the lock of the table.
    pub shared: bool,
}

/// One rmap call, or one find of the fork walk.
///
/// Addresses are in bytes, pages are counted from the first page of the folio.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// What the call does.
    pub op: Op,
    /// The level of the mappings.
    pub level: Level,
    /// The pfn of the first page of the folio.
    pub pfn: u64,
    /// The order of the folio; at least 1.
    pub order: u8,
    /// The type of the folio.
    pub kind: Kind,
    /// The first page that is mapped or unmapped; 0 for [`Level::Entire`].
    pub first: u32,
    /// How many pages; all of them for [`Level::Entire`].
    pub nr: u32,
    /// Identity of the MM.
    pub mm: u64,
    /// The kernel's id of the MM, `mm_struct::mm_id`: the lowest that was free when it was made.
    pub mm_id: u32,
    /// The address of page 0 of the folio under the linear rule of this VMA.
    ///
    /// Wrapping: an identity, it may be below the start of the VMA and even below 0.
    ///
    /// [`NO_BASE`] if the call does not tell, which only a remove may.
    pub base: u64,
    /// The page table, if other MMs may share it; only of [`Kind::Hugetlb`].
    pub table: Option<SharedTable>,
    /// Where the mapping may be recorded instead, because an mremap is under way.
    pub alt_base: Option<u64>,
    /// Identity of the VMA, used to tell runs apart only.
    pub vma: u64,
    /// Start of the VMA. `vma_start == vma_end` means that the range is not known.
    pub vma_start: u64,
    /// End of the VMA.
    pub vma_end: u64,
    /// Identity of the task, used to tell runs apart only.
    pub task: u64,
    /// Its thread id in the initial namespace, to be shown.
    pub pid: u32,
    /// What memory management was doing.
    pub operation: Operation,
    /// Identity of the caller, used to tell runs apart only.
    pub caller: u64,
    /// The kernel's `_large_mapcount` says unmapped at the entry of the call.
    ///
    /// May be read before the lock of the shard is taken: from there to the end of the call no grace
    /// period can begin and end, so what other calls do meanwhile is still remembered here. If it says mapped, that
    /// may be by a remove that had begun before and has ended since: one period may have gone on.
    pub kernel_unmapped: bool,
    /// The ticket of a fork copy that may have duplicated a removed mapping already, or that will
    /// find what a [`Op::Touch`] announces; 0 for none.
    pub pending: u64,
}

/// No base: the address of a remove is not known. Bases are addresses of pages.
///
/// Such a remove is about the only mapping of the MM that it can be about; if there are several, the
/// folio is lost.
pub const NO_BASE: u64 = 1;

/// What a call does to a folio, as a counter sees it that is kept by rmap calls.
///
/// `T` is the set of mappings of the folio before the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Whether mappings come, by an add or by fork; else they go.
    pub adds: bool,
    /// Whether fork made the mappings.
    pub fork: bool,
    /// Whether the call is part of a PMD split: PTE adds on an entire mapping, then its removal.
    pub split: bool,
    /// Whether the call is the first of its run.
    pub new_run: bool,
    /// The level of the mappings.
    pub level: Level,
    /// How many pages; N for [`Level::Entire`].
    pub nr: u32,
    /// Number of pages of the folio, N.
    pub nr_pages: u32,
    /// The order of the folio.
    pub order: u8,
    /// Order of a PMD of the running kernel.
    pub pmd_order: u8,
    /// The type of the folio.
    pub kind: Kind,
    /// Identity of the MM.
    pub mm: u64,
    /// The kernel's id of the MM.
    pub mm_id: u32,
    /// Identity of the VMA argument of the call.
    pub vma: u64,
    /// The address of page 0 of the folio, see [`Call::base`].
    pub base: u64,
    /// Whether the VMA, with its range at that moment, maps any page of the folio apart from the
    /// mappings of this call: before an add, after a remove.
    pub vma_maps: bool,
    /// Entire mappings in T.
    pub entire: u32,
    /// Mappings in T.
    pub total: u64,
}

/// Mappings that moved to another address without an rmap call: mremap, UFFDIO_MOVE.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// The pfn of the first page of the folio.
    pub pfn: u64,
    /// The order of the folio.
    pub order: u8,
    /// The MM in which the mappings move.
    pub mm: u64,
    /// The address of page 0 of the folio before the move, see [`Call::base`].
    pub old_base: u64,
    /// The address of page 0 of the folio after the move.
    pub new_base: u64,
    /// The page tables that the mappings were in and are in, see [`Call::table`].
    pub tables: [Option<SharedTable>; 2],
    /// The level of the mappings.
    pub level: Level,
    /// The first page that moved.
    pub first: u32,
    /// How many pages moved.
    pub nr: u32,
    /// Start of the VMA that the mappings are in now; equal to the end if not known.
    pub vma_start: u64,
    /// End of the VMA that the mappings are in now.
    pub vma_end: u64,
    /// The thread that moves them, see [`Call::pid`].
    pub pid: u32,
}

/// What happened to the end of a VMA.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edge {
    /// It is there now: a VMA was split, or shrank.
    Appeared,
    /// It is none any more: VMAs were merged, or one grew. Of a VMA that mapped nothing it is not known
    /// where it began or ended, so it is said what range there is now.
    Vanished {
        /// Where the VMA begins in which it was.
        start: u64,
        /// Where it ends.
        end: u64,
    },
}

/// The end of a VMA inside the range of a folio appeared or vanished.
#[derive(Clone, Copy, Debug)]
pub struct Boundary {
    /// The pfn of the first page of the folio.
    pub pfn: u64,
    /// The order of the folio.
    pub order: u8,
    /// The MM of the VMA.
    pub mm: u64,
    /// The address of page 0 of the folio, see [`Call::base`].
    pub base: u64,
    /// The first page behind the boundary; neither 0 nor the number of pages.
    pub at: u32,
    /// What happened to it.
    pub edge: Edge,
    /// The thread that changes the VMA, see [`Call::pid`].
    pub pid: u32,
}

/// Mappings that somebody found in a page table, to be checked against the shadow.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The pfn of the first page of the folio.
    pub pfn: u64,
    /// The order of the folio.
    pub order: u8,
    /// The MM whose page table it is.
    pub mm: u64,
    /// The address of page 0 of the folio, see [`Call::base`].
    pub base: u64,
    /// The page table, see [`Call::table`].
    pub table: Option<SharedTable>,
    /// The level of the mappings.
    pub level: Level,
    /// The first page that is mapped.
    pub first: u32,
    /// How many pages are mapped.
    pub nr: u32,
}

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The shadow of the folio took it in.
    Applied,
    /// The same, and tracking of the folio began with it.
    Started,
    /// The folio is not tracked.
    Untracked,
    /// The folio could not be tracked any longer, or not at all.
    Lost(LostReason),
    /// The event contradicts the shadow; the folio, if it was tracked, is lost.
    Inconsistent(Inconsistency),
}

/// Why a folio was given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LostReason {
    /// No free entry, record or chunk of bitmap.
    NoMemory,
    /// An event contradicted the shadow, see [`Inconsistency`].
    Inconsistent,
    /// A fork copy or an mremap was not seen to its end.
    Window,
    /// The folio is mapped where the linear rule does not hold.
    NotLinear,
    /// The kernel's counters differ, and that was reported.
    Mismatch,
    /// The order is larger than the bitmaps.
    Order,
    /// Mapped before tracking began, and not only by MMs that were looked through.
    UnseenMm,
}

impl LostReason {
    /// All reasons.
    pub const ALL: [LostReason; 7] = [
        LostReason::NoMemory,
        LostReason::Inconsistent,
        LostReason::Window,
        LostReason::NotLinear,
        LostReason::Mismatch,
        LostReason::Order,
        LostReason::UnseenMm,
    ];

    /// Returns the name used in files.
    pub const fn name(self) -> &'static str {
        match self {
            LostReason::NoMemory => "no_memory",
            LostReason::Inconsistent => "inconsistent",
            LostReason::Window => "window",
            LostReason::NotLinear => "not_linear",
            LostReason::Mismatch => "mismatch",
            LostReason::Order => "order",
            LostReason::UnseenMm => "unseen_mm",
        }
    }

    /// Returns the position in [`LostReason::ALL`].
    pub const fn index(self) -> usize {
        match self {
            LostReason::NoMemory => 0,
            LostReason::Inconsistent => 1,
            LostReason::Window => 2,
            LostReason::NotLinear => 3,
            LostReason::Mismatch => 4,
            LostReason::Order => 5,
            LostReason::UnseenMm => 6,
        }
    }
}

/// How an event contradicts the shadow: an event was missed, or the kernel has a bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inconsistency {
    /// An add of a mapping that is there already.
    AddMapped,
    /// A remove of a mapping that is not there.
    RemoveNotMapped,
    /// The order of a mapped folio changed.
    OrderChanged,
    /// A move of a mapping that is neither at its old nor at its new place.
    MoveNotMapped,
    /// A move of a mapping to where another one is.
    MoveOntoMapped,
    /// A mapping in a page table that is not known, of a tracked folio.
    FoundUnknown,
    /// The event itself is not possible: no pages, or pages beyond the end of the folio.
    Malformed,
    /// A link of the shadow points nowhere: a bug of the model. Counted, never assumed away.
    Corrupt,
}

/// What the model asks its surroundings, in the context of the operation at hand.
///
/// The kernel side answers from RCU, from its descriptors of open copies and moves, and from the
/// folio; the host tests simulate all of it.
pub trait Env {
    /// Returns a monotonic time in nanoseconds.
    fn now(&self) -> u64;

    /// Returns a cookie of the present state of RCU.
    fn gp_snapshot(&self) -> u64;

    /// Returns whether a full grace period has passed since the cookie was taken: no rmap call that
    /// had begun then is still running.
    fn gp_elapsed(&self, cookie: u64) -> bool;

    /// Returns whether any fork copy or mremap is under way; must be cheap.
    fn windows_open(&self) -> bool;

    /// Returns whether a copy or move is under way that nothing is known of, because there was no room for it.
    fn windows_lack(&self) -> bool {
        false
    }

    /// Returns whether an unfinished fork copy (the part of its source not yet walked) or an
    /// mremap overlaps `len` bytes from `base` (wrapping) of the MM.
    fn window_covers(&self, mm: u64, base: u64, len: u64) -> bool;

    /// Returns whether an unfinished move may have taken mappings of `len` bytes from `base`
    /// (wrapping) of the MM away, or brought some there; asked only while a window is open.
    fn move_covers(&self, _mm: u64, _base: u64, _len: u64) -> bool {
        false
    }

    /// Returns whether a copy or move with a number up to `ticket` is still under way.
    fn ticket_open(&self, ticket: u64) -> bool;

    /// Reads the kernel's own counters of the folio; returns false if that is not a large folio of this
    /// order that can be read.
    fn read_kernel(&self, pfn: u64, order: u8, counts: &mut KernelCounts) -> bool;

    /// Returns the kernel's own counters of the folio, read now; `None` where [`Env::read_kernel`] says
    /// false.
    fn kernel_of(&self, pfn: u64, order: u8) -> Option<KernelCounts> {
        let mut counts = KernelCounts::default();
        self.read_kernel(pfn, order, &mut counts).then_some(counts)
    }

    /// Returns whether the kernel has marked page `i` of a large anon folio as exclusive
    /// (`PageAnonExclusive()`); false if it cannot be read.
    fn anon_exclusive(&self, _pfn: u64, _order: u8, _i: u32) -> bool {
        false
    }

    /// Is told when definitions begin to be wrong about a folio; must be quick.
    fn disagree(&self, _d: Disagreement<'_>) {}

    /// Returns whether [`Env::disagree`] wants to be told each time: not only some of the cases of the
    /// same evaluation that come within 160 milliseconds.
    fn wants_all(&self) -> bool {
        true
    }
}
