// SPDX-License-Identifier: GPL-2.0

//! `folio`: everything about one folio.

use core::fmt::{
    self,
    Display,
    Formatter, //
};

use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print, //
};

use fmi_model::{
    Answer,
    Env,
    FolioView,
    KernelCounts,
    Kind,
    Question,
    RecordView,
    Shard,
    Shown,
    Sketches,
    DEFINITIONS, //
};

use super::{
    number,
    pid, //
};
use crate::{
    check,
    check::Verdict,
    class,
    control::Control,
    debugfs::File,
    env::{
        page_info,
        page_mapcounts, //
    },
    mm::{
        MmRef,
        Owner, //
    },
    quiesce,
    raw::fmi_site as Site,
    rmapwalk,
    rmapwalk::RmapVmas,
    tracker::Tracker,
    walk::{
        Range,
        Visitor, //
    }, //
};

/// A multiple of the size of each hugetlb page.
const LARGEST_HUGETLB: usize = 1 << 34;

/// Most mappers that are listed; the rest is only counted.
const MAX_MAPPERS: usize = 256;

/// `folio`: write a pfn, or a process and an address; read about the folio there.
pub(crate) struct Folio;

impl File<Control> for Folio {
    const NAME: &'static CStr = c"folio";
    const MODE: u16 = 0o600;
    // Some hundred mappers: what finds no room is looked for once more, after another grace period.
    const SIZE: usize = 1 << 15;

    fn store(control: &Control, text: &str) -> Result {
        let mut words = text.split_ascii_whitespace();
        let pfn = match (words.next(), words.next(), words.next()) {
            (Some(pfn), None, None) => {
                let pfn = number(pfn)?;
                page_info(pfn).map(|_| pfn).ok_or(ENOENT)?
            }
            (Some(process), Some(va), None) => {
                let all = control.tracker().tracks_all();
                mapped_at(&MmRef::of_pid(pid(process)?)?, number(va)? as usize, all)?
            }
            _ => return Err(EINVAL),
        };
        *control.selected.lock() = Some(pfn);
        Ok(())
    }

    fn show(control: &Control, m: &SeqFile) -> Result {
        let Some(pfn) = *control.selected.lock() else {
            return Ok(());
        };
        // So that the counters are comparable if nothing happens to the folio meanwhile.
        quiesce::wait_for_calls();
        seq_print!(m, "{}", Report::new(control.tracker(), pfn)?);
        Ok(())
    }
}

/// Returns a page of the large folio that is mapped at an address; in a hugetlb VMA with `all` only.
fn mapped_at(mm: &MmRef, va: usize, all: bool) -> Result<u64> {
    /// The page at an address.
    struct Find(usize, Option<u64>);

    impl Visitor for Find {
        fn leaf(&mut self, va: usize, site: &Site) {
            let page = self.0.wrapping_sub(va) / kernel::page::PAGE_SIZE;
            if page < site.nr as usize {
                self.1 = Some(site.pfn as u64);
            }
        }
    }

    let guard = mm.read_lock_killable()?;
    let vma = guard
        .find_vma(va)
        .filter(|vma| vma.start <= va && vma.is_looked_at(all));
    let vma = vma.ok_or(ENOENT)?;
    let mut find = Find(va, None);
    let page = va & !(kernel::page::PAGE_SIZE - 1);
    let mut look = |start: usize| {
        Range::of_locked(&guard, Some(&vma), start, page + kernel::page::PAGE_SIZE)
            .all(all)
            .walk(&mut find);
        find.1
    };
    let mut found = look(page);
    if found.is_none() && vma.hugetlb {
        // The walk tells of an entry where it begins.
        found = look(vma.start.max(page & !(LARGEST_HUGETLB - 1)));
    }
    found.ok_or(ENOENT)
}

struct Mapper {
    record: RecordView,
    /// An mremap moves mappings from or to its range: they may be at the other place already.
    moving: bool,
    /// Which pages PTEs map.
    pages: KVVec<u64>,
}

/// The shadow of a folio at one moment.
struct Shadow {
    view: FolioView,
    sketches: Sketches,
    pages: KVVec<u32>,
    mappers: KVVec<Mapper>,
    verdict: Verdict,
}

impl Shadow {
    /// Allocates for a folio of `nr_pages` pages and `nr_records` records.
    fn with_room(view: FolioView) -> Result<Self> {
        let nr_pages = view.nr_pages as usize;
        let nr = (view.nr_records as usize).min(MAX_MAPPERS);
        // A folio of a gigabyte that is mapped as a whole needs none for each of its mappers.
        let words = if view.nr_pte_mapped > 0 {
            nr_pages.div_ceil(64)
        } else {
            0
        };
        let mut mappers = KVVec::with_capacity(nr, GFP_KERNEL)?;
        for _ in 0..nr {
            let mapper = Mapper {
                record: RecordView::default(),
                moving: false,
                pages: KVVec::from_elem(0, words, GFP_KERNEL)?,
            };
            mappers.push(mapper, GFP_KERNEL)?;
        }
        Ok(Self {
            view,
            sketches: Sketches::default(),
            pages: KVVec::from_elem(0, nr_pages, GFP_KERNEL)?,
            mappers,
            verdict: Verdict::Deferred,
        })
    }

    /// Fills it under the shard lock; `false` if the room does not suffice.
    fn fill(&mut self, tracker: &Tracker, shard: &Shard<'_>, entry: u32) -> bool {
        let Some(view) = shard.view_with_kernel(entry, &tracker.env()) else {
            return false;
        };
        let wanted = (view.nr_records as usize).min(MAX_MAPPERS);
        if view.nr_pages as usize != self.pages.len() || wanted > self.mappers.len() {
            return false;
        }
        let no_words = |mapper: &Mapper| mapper.pages.is_empty();
        if view.nr_pte_mapped > 0 && self.mappers.iter().any(no_words) {
            return false;
        }
        self.view = view;
        self.sketches = shard.sketches(entry);
        if view.nr_pte_mapped == 0 {
            // Folios that are mapped as a whole only may be too large for a look at each page.
            self.pages.fill(view.entire);
        } else {
            shard.pages_pte(entry, 0, &mut self.pages);
            for page in self.pages.iter_mut() {
                *page = page.saturating_add(view.entire);
            }
        }
        self.mappers.truncate(wanted);
        for (mapper, record) in self.mappers.iter_mut().zip(shard.records(entry)) {
            if record.nr > 0 {
                shard.record_pages(entry, record.mm, record.base, &mut mapper.pages);
            }
            let len = (view.nr_pages as usize) << tracker.table.geometry().page_shift;
            mapper.moving = tracker
                .windows
                .moving(record.mm as usize, record.base as usize, len);
            mapper.record = record;
        }
        self.verdict = check::compare(tracker, shard, entry);
        true
    }

    /// Takes a copy of the shadow of the folio at `pfn`, if it is tracked.
    fn read(tracker: &Tracker, pfn: u64) -> Result<Option<Self>> {
        loop {
            let view = tracker
                .table
                .with(pfn, |shard| shard.view(shard.find(pfn)?))
                .flatten();
            let Some(view) = view else { return Ok(None) };
            let mut shadow = Self::with_room(view)?;
            let filled = tracker.table.with(pfn, |shard| {
                shard
                    .find(pfn)
                    .map(|entry| shadow.fill(tracker, shard, entry))
            });
            match filled.flatten() {
                Some(true) => return Ok(Some(shadow)),
                Some(false) => {}
                None => return Ok(None),
            }
        }
    }
}

/// The report on one folio.
pub(crate) struct Report {
    pfn: u64,
    order: u8,
    kind: &'static str,
    shadow: Option<Shadow>,
    kernel: Option<KernelCounts>,
    kernel_pages: KVVec<i32>,
    rmap: Option<RmapVmas>,
}

impl Report {
    /// Reads about the folio that the page at `pfn` belongs to.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such page or it is free, `ENOMEM`.
    pub(crate) fn new(tracker: &Tracker, pfn: u64) -> Result<Self> {
        let info = page_info(pfn).ok_or(ENOENT)?;
        let (pfn, order) = (info.head_pfn, info.order);
        let shadow = Shadow::read(tracker, pfn)?.filter(|shadow| shadow.view.order == order);
        let (kernel, kernel_pages) = if info.class == class::SMALL {
            (None, KVVec::new())
        } else {
            let mut pages = KVVec::from_elem(0, 1 << order, GFP_KERNEL)?;
            if !page_mapcounts(pfn, order, 0, &mut pages) {
                pages.truncate(0);
            }
            (tracker.env().kernel_of(pfn, order), pages)
        };
        let kind = match info.kind {
            class::KIND_ANON => Kind::Anon,
            class::KIND_FILE => Kind::File,
            class::KIND_SHMEM => Kind::Shmem,
            class::KIND_HUGETLB => Kind::Hugetlb,
            class::KIND_KSM => Kind::Ksm,
            _ => Kind::Driver,
        };
        Ok(Self {
            pfn,
            order,
            kind: kind.name(),
            shadow,
            kernel,
            kernel_pages,
            rmap: RmapVmas::of(pfn, order).ok(),
        })
    }
}

impl kernel::fmt::Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// Equal values in a row: `0-14:1 15:0`.
struct Runs<'a, T>(&'a [T]);

impl<T: PartialEq + Display> Display for Runs<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut first = 0;
        for run in self.0.chunk_by(|a, b| a == b) {
            let last = first + run.len() - 1;
            let blank = if first == 0 { "" } else { " " };
            if let Some(value) = run.first() {
                if first == last {
                    write!(f, "{blank}{first}:{value}")?;
                } else {
                    write!(f, "{blank}{first}-{last}:{value}")?;
                }
            }
            first = last + 1;
        }
        Ok(())
    }
}

/// The set bits of a bitmap: `0-14,16`.
struct Ranges<'a>(&'a [u64], u32);

impl Ranges<'_> {
    fn bit(&self, i: u32) -> bool {
        let word = self.0.get(i as usize / 64).copied().unwrap_or(0);
        i < self.1 && word & (1 << (i % 64)) != 0
    }
}

impl Display for Ranges<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut any = false;
        let mut i = 0;
        while i < self.1 {
            if !self.bit(i) {
                i += 1;
                continue;
            }
            let first = i;
            while self.bit(i) {
                i += 1;
            }
            f.write_str(if any { "," } else { "" })?;
            any = true;
            if i - first == 1 {
                write!(f, "{first}")?;
            } else {
                write!(f, "{first}-{}", i - 1)?;
            }
        }
        if any {
            Ok(())
        } else {
            f.write_str("-")
        }
    }
}

impl Display for Mapper {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let r = &self.record;
        let owner = Owner::of(r.mm as usize);
        let (pid, mm_id) = owner.as_ref().map_or((0, 0), |o| (o.pid(), o.mm_id()));
        let comm = owner.as_ref().map_or(&b"-"[..], Owner::comm);
        let pages = (self.pages.len() as u32 * 64).min(1 << r.order);
        write!(
            f,
            "mapper: pid={pid} comm={} mm_id={mm_id} base={:#x} pages={} entire={} vmas={} tuples={}",
            Comm(comm),
            r.base,
            Ranges(&self.pages, pages),
            u8::from(r.entire),
            r.vmas,
            r.tuples,
        )?;
        if r.shared_table {
            f.write_str(" shared_table=1")?;
        }
        writeln!(f, "{}", if self.moving { " moving=1" } else { "" })
    }
}

/// The name of a process without blanks and control characters.
pub(super) struct Comm<'a>(pub(super) &'a [u8]);

impl kernel::fmt::Display for Comm<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl Display for Comm<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            let shown = if byte.is_ascii_graphic() { *byte } else { b'_' };
            write!(f, "{}", char::from(shown))?;
        }
        Ok(())
    }
}

impl Display for Shadow {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (v, s) = (&self.view, &self.sketches);
        for d in DEFINITIONS.iter().filter(|d| !d.reads_kernel) {
            let Some(value) = d.value_of(v, s) else {
                writeln!(f, "{}: -", d.name)?;
                continue;
            };
            writeln!(f, "{}: {value}", d.name)?;
            let mut result = Ok(());
            (d.fields)(v, s, &mut |field, shown| {
                let line = match shown {
                    Shown::Count(n) => writeln!(f, "{}.{field}: {n}", d.name),
                    Shown::Hex(n) => writeln!(f, "{}.{field}: {n:#x}", d.name),
                    Shown::Flag(yes) => writeln!(f, "{}.{field}: {}", d.name, u8::from(yes)),
                };
                result = result.and(line);
            });
            result?;
        }
        writeln!(f, "page_mapcounts: {}", Runs(&self.pages))?;
        writeln!(f, "mappers: {}", v.nr_records)?;
        let moving = self.mappers.iter().filter(|mapper| mapper.moving).count();
        writeln!(f, "moving: {moving}")?;
        self.mappers.iter().try_for_each(|mapper| mapper.fmt(f))
    }
}

impl Shadow {
    /// Writes what each definition answers to each question.
    fn answers(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (v, s) = (&self.view, &self.sketches);
        for question in Question::ALL {
            if question.needs_ask() && question.truth(v).is_none() || !question.is_asked_of(v.kind)
            {
                continue;
            }
            write!(f, "answer: {} truth=", question.name())?;
            match (question, question.truth(v)) {
                (_, Some(truth)) => f.write_str(yes_no(truth))?,
                (Question::Page, None) => write!(f, "{}-{}", v.min_page, v.max_page)?,
                (Question::Stat, None) => write!(f, "{}", v.nr_pages_mapped)?,
                (_, None) => f.write_str("-")?,
            }
            for d in DEFINITIONS.iter().filter(|d| d.claims.contains(&question)) {
                match d.answer_of(v, s, question) {
                    Answer::Yes => write!(f, " {}=yes", d.name)?,
                    Answer::No => write!(f, " {}=no", d.name)?,
                    Answer::Unknown => write!(f, " {}=unknown", d.name)?,
                    Answer::Count(n) => write!(f, " {}={n}", d.name)?,
                    Answer::Counter(is, should) => write!(f, " {}={is}/{should}", d.name)?,
                    Answer::NotAsked => {}
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn yes_no(yes: bool) -> &'static str {
    if yes {
        "yes"
    } else {
        "no"
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let state = self
            .shadow
            .as_ref()
            .map_or("untracked", |s| s.view.state.name());
        writeln!(f, "pfn: {}", self.pfn)?;
        writeln!(f, "order: {}", self.order)?;
        writeln!(f, "nr_pages: {}", 1u64 << self.order)?;
        writeln!(f, "type: {}", self.kind)?;
        writeln!(f, "state: {state}")?;
        let adopted = self.shadow.as_ref().is_some_and(|s| s.view.adopted);
        writeln!(f, "adopted: {}", u8::from(adopted))?;
        if let Some(shadow) = &self.shadow {
            write!(f, "{shadow}")?;
        }
        if let Some(rmap) = &self.rmap {
            writeln!(f, "{}: {}", rmapwalk::NAME, rmap.nr)?;
            if let Some(active) = rmap.active {
                writeln!(f, "num_active_vmas: {active}")?;
            }
        }
        if let Some(k) = &self.kernel {
            writeln!(f, "kernel_large_mapcount: {}", k.large)?;
            writeln!(f, "kernel_entire_mapcount: {}", k.entire)?;
            if k.per_page {
                writeln!(f, "kernel_nr_pages_mapped: {}", k.nr_pages_mapped)?;
                writeln!(f, "kernel_page_mapcounts: {}", Runs(&self.kernel_pages))?;
            } else {
                // What a kernel without CONFIG_PAGE_MAPCOUNT has there is not about mappings.
                writeln!(f, "kernel_nr_pages_mapped: -")?;
                writeln!(f, "kernel_page_mapcounts: -")?;
            }
            let ([a, b], [n, m]) = (k.mm_id, k.mm_id_mapcount);
            writeln!(f, "kernel_mm_id: {a} {b}")?;
            writeln!(f, "kernel_mm_id_mapcount: {n} {m}")?;
            writeln!(f, "kernel_shared_bit: {}", u8::from(k.shared_bit))?;
            for (name, value) in [
                ("kernel_maybe_mapped_shared", k.maybe_mapped_shared),
                ("kernel_partially_mapped", k.partially_mapped),
                ("kernel_swapcache", k.swapcache),
            ] {
                writeln!(f, "{name}: {}", u8::from(value))?;
            }
            writeln!(f, "kernel_refcount: {}", k.refcount)?;
        }
        if let Some(shadow) = &self.shadow {
            writeln!(f, "compare: {}", shadow.verdict.name())?;
            shadow.answers(f)?;
        }
        Ok(())
    }
}
