// SPDX-License-Identifier: GPL-2.0

//! The preview of CONFIG_NO_PAGE_MAPCOUNT: `/proc` and statistics as they are and as they would be,
//! by the rules of [`fmi_model::preview`], on the counters of the running kernel.
//!
//! [`process`] walks page tables and needs no shadow; [`tracked`] adds up over the folios that are
//! tracked. Both pass once for a reading, taking one lock at a time and none for long, so a reading
//! of a busy machine is not one moment.

use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex, //
};

use fmi_model::preview::{
    Rule,
    PSS_SHIFT, //
};

use crate::{
    env::now_ns,
    mm::{
        MmRef,
        MmStruct,
        Owner, //
    },
    procwalk,
    tracker::Tracker, //
};

mod figures;
mod memcg;
mod process;
mod tracked;

pub(crate) use figures::{
    Figure,
    Figures,
    Histograms,
    Spread,
    CHANGES,
    FIGURES, //
};
pub(crate) use memcg::Memcg;
pub(crate) use process::Process;

use process::Walk;
use tracked::Tracked;

/// As it is on this kernel, and as it would be.
type Rules = [Rule; 2];

/// Processes that are shown one by one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selection {
    /// None.
    None,
    /// All.
    All,
    /// This one.
    Pid(i32),
}

/// A process that is shown.
pub(crate) struct Shown {
    /// Its PID and name, if a task still had the MM.
    pub(crate) owner: Option<Owner>,
    /// Its numbers.
    pub(crate) process: Process,
}

/// What one pass over the machine found.
pub(crate) struct Reading {
    /// The figures.
    pub(crate) figures: Figures,
    /// The processes that were selected.
    pub(crate) shown: KVVec<Shown>,
    /// Cgroups with folios that are counted differently.
    pub(crate) memcgs: KVVec<Memcg>,
    /// How errors are spread.
    pub(crate) histograms: Histograms,
}

/// The figures at an earlier time.
struct Baseline {
    since_ns: u64,
    figures: Figures,
}

/// What a reader of the file gets.
pub(crate) struct View {
    /// What there is now.
    pub(crate) reading: Reading,
    /// Which processes were asked for.
    pub(crate) selection: Selection,
    /// Since when the changes count.
    pub(crate) since_ns: u64,
    /// How the figures have changed since then.
    pub(crate) changes: Figures,
}

struct State {
    selection: Selection,
    baseline: Option<Baseline>,
}

/// What the `preview` file shows, and what it compares with.
#[pin_data]
pub(crate) struct Preview {
    #[pin]
    state: Mutex<State>,
}

impl Preview {
    /// Nothing is selected; the first reading becomes the baseline.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            state <- new_mutex!(State {
                selection: Selection::None,
                baseline: None,
            }),
        })
    }

    /// Chooses the processes that are shown.
    pub(crate) fn select(&self, selection: Selection) {
        self.state.lock().selection = selection;
    }

    /// Makes the present figures the baseline.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINTR` if a signal is pending. The baseline is the old one then.
    pub(crate) fn rebase(&self, tracker: &Tracker) -> Result {
        let since_ns = now_ns();
        let figures = Reading::take(tracker, Selection::None)?.figures;
        self.state.lock().baseline = Some(Baseline { since_ns, figures });
        Ok(())
    }

    /// Reads the machine; with what is selected, and the baseline.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINTR` if a signal is pending.
    pub(crate) fn read(&self, tracker: &Tracker) -> Result<View> {
        let selection = self.state.lock().selection;
        let since_ns = now_ns();
        let reading = Reading::take(tracker, selection)?;
        let mut first = Figures::new()?;
        first.copy_from(&reading.figures);
        let mut state = self.state.lock();
        let baseline = state.baseline.get_or_insert(Baseline {
            since_ns,
            figures: first,
        });
        let since_ns = baseline.since_ns;
        let changes = reading.figures.since(&baseline.figures)?;
        drop(state);
        Ok(View {
            reading,
            selection,
            since_ns,
            changes,
        })
    }
}

/// Errors of all processes, the lowest first.
struct Errors {
    kb: KVVec<i64>,
    permille: KVVec<i64>,
}

fn insert(sorted: &mut KVVec<i64>, value: i64) -> Result {
    sorted.reserve(1, GFP_KERNEL)?;
    let at = sorted.partition_point(|other| *other < value);
    // Cannot fail: there is room.
    let _ = sorted.insert_within_capacity(at, value);
    Ok(())
}

impl Errors {
    fn new() -> Self {
        Self {
            kb: KVVec::new(),
            permille: KVVec::new(),
        }
    }

    fn add(&mut self, (kb, permille): (i64, i64)) -> Result {
        insert(&mut self.kb, kb)?;
        insert(&mut self.permille, permille)
    }

    /// Sets ten figures from the first of them on: processes and kB over and under, then least,
    /// median and largest error in kB and in thousandths.
    fn summarize(&self, figures: &mut Figures, ids: [Figure; 10]) {
        let side = |sign: i64| self.kb.iter().filter(move |kb| kb.signum() == sign);
        let sum = |sign| side(sign).fold(0i64, |sum, kb| sum.saturating_add(*kb));
        let count = |sign| side(sign).count() as i64;
        let of = |sorted: &KVVec<i64>| {
            let at = |i: usize| sorted.get(i).copied().unwrap_or(0);
            [
                at(0),
                at(sorted.len() / 2),
                sorted.last().copied().unwrap_or(0),
            ]
        };
        let ([a, b, c], [d, e, f]) = (of(&self.kb), of(&self.permille));
        let values = [count(1), count(-1), sum(1), sum(-1), a, b, c, d, e, f];
        for (figure, value) in ids.into_iter().zip(values) {
            figures.set(figure, value);
        }
    }
}

impl Reading {
    fn take(tracker: &Tracker, selection: Selection) -> Result<Self> {
        let now = if procwalk::has_page_mapcounts() {
            Rule::PageMapcount
        } else {
            Rule::NoPageMapcount
        };
        let rules = [now, Rule::NoPageMapcount];
        let mut figures = Figures::new()?;
        let mut histograms = Histograms::new()?;
        let tracked = Tracked::take(tracker, rules, &mut figures, &mut histograms)?;
        let sums = (tracked.mapped, tracked.extra, tracked.huge);
        let (unnoticed, memcgs) = (tracked.unnoticed, tracked.memcgs);
        let mut reading = Self {
            figures,
            shown: KVVec::new(),
            memcgs: memcgs.list,
            histograms,
        };
        let mut walk = Walk {
            tracker,
            rules,
            shares: Default::default(),
            last: None,
        };
        reading.processes(&mut walk, selection)?;
        reading.statistics(&walk, sums, unnoticed);
        let nr = reading.memcgs.len() as i64;
        reading.figures.set(Figure::Memcgs, nr);
        reading
            .figures
            .set(Figure::MemcgsOverflow, memcgs.overflow as i64);
        Ok(reading)
    }

    fn processes(&mut self, walk: &mut Walk<'_>, selection: Selection) -> Result {
        let page_shift = walk.tracker.table.geometry().page_shift;
        let wanted = match selection {
            // It may be gone.
            Selection::Pid(pid) => MmRef::of_pid(pid).ok().map(|mm| mm.id()),
            _ => None,
        };
        let (mut pss, mut private) = (Errors::new(), Errors::new());
        for mm in MmStruct::all()? {
            // One that has exited since maps nothing.
            let Some(mm) = mm.users() else { continue };
            let process = walk.process(&mm)?;
            if selection == Selection::All || wanted == Some(mm.id()) {
                let owner = Owner::of(mm.id());
                self.shown.push(Shown { owner, process }, GFP_KERNEL)?;
            }
            self.add(&process, page_shift);
            let (pss_error, private_error) =
                (process.pss_error(), process.private_error(page_shift));
            self.histograms.add(Spread::Pss, pss_error.0, 1);
            self.histograms.add(Spread::Private, private_error.0, 1);
            pss.add(pss_error)?;
            private.add(private_error)?;
        }
        pss.summarize(
            &mut self.figures,
            [
                Figure::PssOver,
                Figure::PssUnder,
                Figure::PssOverKb,
                Figure::PssUnderKb,
                Figure::PssMin,
                Figure::PssMedian,
                Figure::PssMax,
                Figure::PssMinPermille,
                Figure::PssMedianPermille,
                Figure::PssMaxPermille,
            ],
        );
        private.summarize(
            &mut self.figures,
            [
                Figure::PrivateOver,
                Figure::PrivateUnder,
                Figure::PrivateOverKb,
                Figure::PrivateUnderKb,
                Figure::PrivateMin,
                Figure::PrivateMedian,
                Figure::PrivateMax,
                Figure::PrivateMinPermille,
                Figure::PrivateMedianPermille,
                Figure::PrivateMaxPermille,
            ],
        );
        Ok(())
    }

    fn add(&mut self, p: &Process, page_shift: u8) {
        let figures = &mut self.figures;
        let kb = |pages: u64| (pages << page_shift >> 10) as i64;
        let ([pss, pss_would], [private, private_would]) = (p.pss, p.private);
        let ([exclusive, exclusive_would], [mapmax, mapmax_would]) = (p.exclusive, p.mapmax);
        for (figure, value) in [
            (Figure::Processes, 1),
            (Figure::Rss, kb(p.rss)),
            (Figure::Pss, (pss >> PSS_SHIFT >> 10) as i64),
            (Figure::PssWould, (pss_would >> PSS_SHIFT >> 10) as i64),
            (Figure::Private, kb(private)),
            (Figure::PrivateWould, kb(private_would)),
            (Figure::Exclusive, exclusive as i64),
            (Figure::ExclusiveWould, exclusive_would as i64),
            (Figure::ExclusiveLost, p.lost as i64),
            (Figure::ExclusiveGained, p.gained as i64),
            (Figure::Vmas, p.vmas as i64),
            (Figure::MapmaxHigher, p.mapmax_higher as i64),
            (Figure::MapmaxLower, p.mapmax_lower as i64),
        ] {
            figures.add(figure, value);
        }
        figures.at_least(Figure::Mapmax, i64::from(mapmax));
        figures.at_least(Figure::MapmaxWould, i64::from(mapmax_would));
    }

    /// Change 1, whose parts are complete now.
    fn statistics(
        &mut self,
        walk: &Walk<'_>,
        (mapped, extra, huge): ([i64; 2], [i64; 2], i64),
        unnoticed: i64,
    ) {
        let page_shift = walk.tracker.table.geometry().page_shift;
        let kb = |pages: i64| (pages << page_shift) >> 10;
        let share = |fraction: u64| (fraction >> PSS_SHIFT >> 10) as i64;
        let stat = procwalk::vmstat();
        let [anon_mapped, file_mapped] = mapped;
        let [anon_extra, file_extra] = extra;
        let [anon, file] = walk.shares;
        let huge_now = stat.anon_thps as i64;
        for (figure, value) in [
            (Figure::AnonPages, kb(stat.anon_mapped as i64)),
            (
                Figure::AnonPagesWould,
                kb(stat.anon_mapped as i64 + anon_extra),
            ),
            (Figure::AnonTracked, kb(anon_mapped)),
            (Figure::AnonTrackedExtra, kb(anon_extra)),
            (Figure::AnonSmall, share(anon.small)),
            (Figure::AnonUntracked, share(anon.untracked)),
            (Figure::AnonUntrackedExtra, share(anon.untracked_extra)),
            (Figure::Mapped, kb(stat.file_mapped as i64)),
            (
                Figure::MappedWould,
                kb(stat.file_mapped as i64 + file_extra),
            ),
            (Figure::MappedTracked, kb(file_mapped)),
            (Figure::MappedTrackedExtra, kb(file_extra)),
            (Figure::MappedSmall, share(file.small)),
            (Figure::MappedUntracked, share(file.untracked)),
            (Figure::MappedUntrackedExtra, share(file.untracked_extra)),
            (Figure::Shmem, kb(stat.shmem as i64)),
            (Figure::ShmemWould, kb(stat.shmem as i64)),
            (Figure::AnonHuge, kb(huge_now)),
            (Figure::AnonHugeWould, kb(huge_now)),
            (Figure::AnonHugeTracked, kb(huge)),
            (Figure::PartialUnnoticedKb, kb(unnoticed)),
        ] {
            self.figures.set(figure, value);
        }
    }
}
