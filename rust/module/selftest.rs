// SPDX-License-Identifier: GPL-2.0

//! The self-test at load: does this kernel tell the hooks everything?
//!
//! A compiler may inline a hooked function, and a call site may go round its symbol. So a program
//! ([`helper`]) does to a large folio what the hooks must see. After each step the page tables of its
//! processes are compared with the shadow and the folios with the kernel's counters, and every hook
//! that the step must reach must have seen a call of that program. The step cannot be taken
//! everywhere; what could not be tried is said.

use kernel::{
    bindings,
    fmt,
    prelude::*, //
};

use fmi_model::{
    Counters,
    Suspect,
    COUNTERS, //
};

use crate::{
    audit::Audit,
    backend::Backend,
    check,
    check::{
        Tally,
        Verdict, //
    },
    control::{
        Control,
        Group, //
    },
    hook::{
        args::{
            ProgressCall,
            RareCall,
            RmapFunction, //
        },
        tracepoint::TracePoint, //
    },
    mm::MmRef,
    raw::{
        fmi_step_FMI_NR_STEPS as NR_STEPS,
        fmi_step_FMI_STEP_DONTNEED as LAST_NEEDED,
        fmi_step_FMI_STEP_END as END, //
    },
    tracker::Tracker, //
};

#[expect(unsafe_code, reason = "starts and ends a process")]
mod helper;
#[expect(unsafe_code, reason = "asks for the session of a task")]
mod watch;

pub(crate) use watch::{
    is_blind,
    loses_exit,
    without_blind,
    Hook, //
};

use helper::{
    Ended,
    Program, //
};

/// How often folios are compared that do not stand still.
const MAX_COMPARISONS: usize = 50;

const fn rmap(function: RmapFunction) -> Hook {
    Hook::rmap(function as usize)
}

const fn trace(point: TracePoint) -> Hook {
    Hook::trace(point as usize)
}

const COPY_RANGE: Hook = Hook::rare(RareCall::COPY_RANGE);
const COPY_HUGE_PMD: Hook = Hook::rare(1);
const MOVE: Hook = Hook::rare(2);
const MOVE_HUGE_PMD: Hook = Hook::rare(3);
const ADJUST_VMA: Hook = Hook::rare(4);
const PTE_ALLOC: Hook = Hook::progress(0);
const COPY_RANGE_ENTRY: Hook = Hook::progress(ProgressCall::COPY_RANGE);
const MOVE_ENTRY: Hook = Hook::progress(2);
const MOVE_HUGE_PMD_ENTRY: Hook = Hook::progress(3);
const ADJUST_VMA_ENTRY: Hook = Hook::progress(4);

/// A step of the program.
struct Step {
    /// What it is called.
    name: &'static str,
    /// The hooks that it must reach.
    functions: &'static [Hook],
    /// What the tracepoints, and the hooks beside them, must tell of it.
    tracepoints: &'static [Hook],
}

impl Step {
    /// Returns what it must reach with this backend.
    fn hooks(&self, backend: Backend) -> &'static [Hook] {
        match backend {
            Backend::Functions => self.functions,
            Backend::Tracepoints => self.tracepoints,
        }
    }
}

const fn step(
    name: &'static str,
    functions: &'static [Hook],
    tracepoints: &'static [Hook],
) -> Step {
    Step {
        name,
        functions,
        tracepoints,
    }
}

/// The steps in the order of `enum fmi_step`.
///
/// Only what cannot be otherwise is said here: the kernel may COW a page or a PMD. What it did must
/// be in the shadow in any case.
const STEPS: [Step; NR_STEPS as usize] = [
    step("start", &[], &[]),
    step(
        "map",
        &[rmap(RmapFunction::AddNewAnon)],
        &[trace(TracePoint::AddNew)],
    ),
    step(
        "fork",
        &[COPY_RANGE, COPY_RANGE_ENTRY, COPY_HUGE_PMD, PTE_ALLOC],
        &[trace(TracePoint::DupPmd)],
    ),
    step("copy on write", &[], &[]),
    step("zap", &[], &[]),
    step(
        "munmap of a page",
        &[
            ADJUST_VMA,
            ADJUST_VMA_ENTRY,
            rmap(RmapFunction::AddAnonPtes),
            rmap(RmapFunction::RemovePmd),
            rmap(RmapFunction::RemovePtes),
        ],
        &[
            ADJUST_VMA,
            ADJUST_VMA_ENTRY,
            trace(TracePoint::AddPte),
            trace(TracePoint::RemovePmd),
            trace(TracePoint::RemovePte),
        ],
    ),
    step(
        "fork of PTEs",
        &[COPY_RANGE, COPY_RANGE_ENTRY, PTE_ALLOC],
        &[trace(TracePoint::DupPte)],
    ),
    step(
        "mprotect",
        &[ADJUST_VMA, ADJUST_VMA_ENTRY],
        &[ADJUST_VMA, ADJUST_VMA_ENTRY],
    ),
    step(
        "mremap",
        &[MOVE, MOVE_ENTRY],
        &[trace(TracePoint::MovePtes)],
    ),
    step("MADV_DONTNEED", &[], &[]),
    step(
        "map of a file",
        &[rmap(RmapFunction::AddFilePmd)],
        &[trace(TracePoint::AddPmd)],
    ),
    step(
        "fault on a file",
        &[
            rmap(RmapFunction::AddFilePtes),
            rmap(RmapFunction::RemovePmd),
        ],
        &[trace(TracePoint::AddPte), trace(TracePoint::RemovePmd)],
    ),
    step(
        "UFFDIO_MOVE",
        &[
            MOVE_HUGE_PMD,
            MOVE_HUGE_PMD_ENTRY,
            rmap(RmapFunction::MoveAnon),
        ],
        &[trace(TracePoint::MovePmdLeaf)],
    ),
    step("migration", &[], &[]),
    step("end", &[], &[]),
];

/// What the self-test found, unless the kernel is refused.
#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    /// The parameter says not to run it.
    Skipped,
    /// It could not be run: at which step or for which reason, with an errno or 0.
    NotRun(&'static str, i32),
    /// The hooks saw everything.
    Passed {
        /// The hooks that saw a call, by [`Hook::bit`].
        reached: u64,
        /// The backend that they are of.
        backend: Backend,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skipped => f.write_str("skipped"),
            Self::NotRun(why, 0) => write!(f, "not run ({why})"),
            Self::NotRun(why, error) => write!(f, "not run ({why}: error {error})"),
            Self::Passed { .. } => f.write_str("passed"),
        }
    }
}

impl Outcome {
    /// Returns the hooks that no step could reach, although the test passed.
    pub(crate) fn unreached(self) -> impl Iterator<Item = Hook> {
        let (reached, backend) = match self {
            Self::Passed { reached, backend } => (reached, backend),
            _ => (u64::MAX, Backend::Functions),
        };
        Hook::all(backend).filter(move |hook| reached & hook.bit() == 0)
    }
}

/// Runs the self-test, with tracking switched on for it; afterwards it is as it was, and the
/// statistics are those of a module that was just loaded.
///
/// # Errors
///
/// `EOPNOTSUPP` if a hook is blind; `EINTR` if the caller was killed; `ENOMEM`.
pub(crate) fn run(control: &Control) -> Result<Outcome> {
    let switched_on = match control.session.switch_on() {
        Ok(switched_on) => switched_on,
        Err(e) => return Ok(Outcome::NotRun("tracking cannot be enabled", e.to_errno())),
    };
    let outcome = test(control.tracker());
    if switched_on {
        control.session.disable();
    }
    for group in Group::ALL {
        // The preview has not been read yet: there is nothing that it shows a change since.
        if group != Group::Preview {
            control.reset(group)?;
        }
    }
    control.tracker().windows.uncount();
    outcome
}

fn test(tracker: &Tracker) -> Result<Outcome> {
    watch::forget();
    let program = match Program::start() {
        Ok(program) => program,
        Err(e) => {
            return Ok(Outcome::NotRun(
                "its program could not be started",
                e.to_errno(),
            ))
        }
    };
    let backend = tracker.choice().backend;
    let mut reached = 0;
    for (step, plan) in (0..).zip(&STEPS).skip(1) {
        let name = plan.name;
        let ended = match program.wait(step) {
            Err(e) if e == EINTR => return Err(e),
            Err(e) => return Ok(Outcome::NotRun(name, e.to_errno())),
            Ok(ended) => ended,
        };
        if let Ended::Refused(error) = ended {
            if step <= LAST_NEEDED {
                return Ok(Outcome::NotRun(name, error));
            }
        }
        let taken = matches!(ended, Ended::Taken);
        if let Some(outcome) = look(tracker, &program, name, taken && step != END)? {
            return Ok(outcome);
        }
        let mut blind = false;
        let hooks = plan.hooks(backend);
        for hook in hooks.iter().filter(|hook| taken && !hook.has_seen()) {
            blind = true;
            pr_err!(
                "selftest: after \"{name}\": the hook on {} ({}) saw nothing\n",
                hook.function(),
                hook.kind()
            );
        }
        if blind {
            return refuse();
        }
        for hook in Hook::all(backend).filter(|hook| hook.has_seen()) {
            reached |= hook.bit();
        }
        watch::forget();
        if let Err(e) = program.go_on(step) {
            return Ok(Outcome::NotRun(name, e.to_errno()));
        }
    }
    Ok(Outcome::Passed { reached, backend })
}

/// Looks whether everything that the program maps is in the shadow, and nothing else.
///
/// `mapped` says that it must map a large folio now. Returns why the test cannot go on.
fn look(
    tracker: &Tracker,
    program: &Program,
    name: &'static str,
    mapped: bool,
) -> Result<Option<Outcome>> {
    let not_run = |e: Error| Ok(Some(Outcome::NotRun(name, e.to_errno())));
    let mms = match program.mms() {
        Ok(mms) => mms,
        Err(e) => return not_run(e),
    };
    let audit = match Audit::of(tracker, &mms) {
        Ok(audit) => audit,
        Err(e) => return not_run(e),
    };
    let tally = match compare(tracker, &mms) {
        Ok(tally) => tally,
        Err(e) => return not_run(e),
    };
    let differences = audit.untracked + audit.differences() + tally.mismatches;
    if differences != 0 {
        if has_counted(tracker, "lost_no_memory") {
            return Ok(Some(Outcome::NotRun("mem_kb is too small", 0)));
        }
        // Others keep the shadow from following the program: that says nothing about the kernel.
        let (_, _, _, overflow) = tracker.windows.counts();
        if has_counted(tracker, "untracked_in_flight") || overflow > 0 {
            return Ok(Some(Outcome::NotRun("the machine is too busy", 0)));
        }
        for (nr, what) in [
            (audit.missing_in_shadow, "mappings are not in the shadow"),
            (
                audit.untracked,
                "mappings are of folios that are not tracked",
            ),
            (audit.not_in_page_table, "mappings of the shadow are gone"),
            (audit.wrong_vmas, "records have other VMAs"),
            (tally.mismatches, "folios have other counters"),
        ] {
            if nr != 0 {
                pr_err!("selftest: after \"{name}\": {nr} {what}\n");
            }
        }
        for hook in Hook::all(tracker.choice().backend).filter(|hook| hook.has_seen()) {
            pr_info!("selftest: seen: {} ({})\n", hook.function(), hook.kind());
        }
        return refuse().map(Some);
    }
    if mapped && audit.mappings == 0 {
        return Ok(Some(Outcome::NotRun("its folio was split", 0)));
    }
    if mapped && tally.compared == 0 {
        return Ok(Some(Outcome::NotRun("its folio is not at rest", 0)));
    }
    Ok(None)
}

fn refuse() -> Result<Outcome> {
    pr_err!("selftest: this kernel does not tell the hooks everything: not loaded\n");
    pr_err!("selftest: selftest=0 loads the module all the same, to look why\n");
    Err(Error::from_errno(-(bindings::EOPNOTSUPP as i32)))
}

fn has_counted(tracker: &Tracker, counter: &str) -> bool {
    let mut counters = Counters::new();
    tracker
        .table
        .for_each_state(|state| counters.merge(state.counters()));
    COUNTERS
        .into_iter()
        .any(|(one, name)| name == counter && counters.get(one) != 0)
}

/// Compares the folios that these MMs map with the kernel's counters, until none is left that was not
/// at rest.
fn compare(tracker: &Tracker, mms: &[MmRef]) -> Result<Tally> {
    let mut tally = Tally::default();
    for _ in 0..MAX_COMPARISONS {
        let list = folios_of(tracker, mms)?;
        tally = check::compare_list(tracker, &list, Verdict::Deferred, &mut 0, &|| Ok(()))?;
        if tally.deferred == 0 || tally.mismatches != 0 {
            break;
        }
    }
    Ok(tally)
}

/// Returns the folios of which one of these MMs has a record.
fn folios_of(tracker: &Tracker, mms: &[MmRef]) -> Result<KVVec<Suspect>> {
    let mut list = KVVec::new();
    for shard in 0.. {
        for slot in 0.. {
            let found = tracker.table.with_shard(shard, |shard| {
                let more = slot < shard.nr_slots().1;
                more.then(|| {
                    let (pfn, _, mm, _) = shard.record_at(slot)?;
                    let seq = shard.find(pfn).map_or(0, |entry| shard.seq(entry));
                    Some((mm as usize, Suspect { pfn, seq }))
                })
            });
            let Some(found) = found else { return Ok(list) };
            let Some(found) = found.flatten() else {
                break;
            };
            if let Some((mm, suspect)) = found {
                if mms.iter().any(|known| known.id() == mm) {
                    list.push(suspect, GFP_KERNEL)?;
                }
            }
        }
    }
    Ok(list)
}
