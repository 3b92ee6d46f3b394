// SPDX-License-Identifier: GPL-2.0

//! How rmap calls are seen: by the tracepoints of a kernel that has them, else by hooks on its functions.
//!
//! With tracepoints, every mapping that fork duplicates and every one that moves is told of as such, under the
//! locks of the page tables: no windows are needed. What has no tracepoint is hooked in both cases:
//! `vma_adjust_trans_huge()`, and the functions that ask.

use kernel::{
    bindings,
    fmt,
    prelude::*,
    sync::Arc, //
};

use crate::{
    hook::{
        args::{
            ProgressCall,
            RareCall,
            RmapFunction, //
        },
        call,
        entry,
        tracepoint, //
    },
    mm::MmRef,
    quiesce,
    selftest::{
        without_blind,
        Hook, //
    },
    tracker::{
        AskHook,
        ProgressHook,
        RareHook,
        RmapHook,
        TraceHook,
        Tracker, //
    },
    who::blind_tasks, //
};

/// Most times that the hooks with exit are placed anew.
const MAX_PLACINGS: u32 = 4;

/// What the parameter `backend` asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Tracepoints if there are any.
    Auto,
    /// Tracepoints only.
    Tracepoints,
    /// Hooks on functions in any case.
    Functions,
    /// Both at the same time, each with a shadow of its own, see [`crate::both`].
    Both,
}

/// How rmap calls are seen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// By hooks on functions.
    Functions,
    /// By tracepoints.
    Tracepoints,
}

impl Backend {
    /// Returns the name used in files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Functions => "functions",
            Self::Tracepoints => "tracepoints",
        }
    }

    /// Returns the names of the functions that are hooked, but for those that ask.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn hooked(self) -> Result<KVec<&'static CStr>> {
        let mut names = KVec::new();
        match self {
            Self::Functions => {
                names.extend_from_slice(RmapFunction::NAMES, GFP_KERNEL)?;
                names.extend_from_slice(RareCall::NAMES, GFP_KERNEL)?;
                for name in ProgressCall::NAMES {
                    if !names.contains(name) {
                        names.push(*name, GFP_KERNEL)?;
                    }
                }
            }
            Self::Tracepoints => names.push(RareCall::WITHOUT_TRACEPOINT, GFP_KERNEL)?,
        }
        Ok(names)
    }
}

/// A backend, and why it is this one.
#[derive(Clone, Copy)]
pub(crate) struct Choice {
    /// The backend.
    pub(crate) backend: Backend,
    asked: Asked,
    /// The first tracepoint that is missing; not looked for if functions were asked for.
    missing: Option<&'static CStr>,
}

impl Choice {
    /// Chooses what the parameter says.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it says nothing that is known; `EOPNOTSUPP` if it asks for tracepoints that this kernel
    /// lacks. The kernel log says so.
    pub(crate) fn of_parameter() -> Result<Self> {
        let asked = tracepoint::asked().inspect_err(|_| {
            pr_err!("the parameter backend is auto, tracepoints, functions or both\n")
        })?;
        if asked == Asked::Functions {
            return Ok(Self {
                backend: Backend::Functions,
                asked,
                missing: None,
            });
        }
        let missing = tracepoint::missing();
        let backend = match missing {
            None if asked != Asked::Both => Backend::Tracepoints,
            _ => Backend::Functions,
        };
        if let Some(name) = missing.filter(|_| asked != Asked::Auto) {
            let asked = match asked {
                Asked::Both => "both",
                _ => "tracepoints",
            };
            pr_err!("backend={asked}: this kernel has no tracepoint {name}\n");
            return Err(Error::from_errno(-(bindings::EOPNOTSUPP as i32)));
        }
        Ok(Self {
            backend,
            asked,
            missing,
        })
    }
}

impl Choice {
    /// Returns what feeds the second shadow, if both backends are in use; this is what feeds the first.
    pub(crate) fn second(self) -> Option<Self> {
        (self.asked == Asked::Both).then_some(Self {
            backend: Backend::Tracepoints,
            ..self
        })
    }

    /// Returns the name used in files.
    pub(crate) fn name(self) -> &'static str {
        match self.asked {
            Asked::Both => "both",
            _ => self.backend.name(),
        }
    }
}

impl fmt::Display for Choice {
    /// Writes why it is this backend.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.asked, self.missing) {
            (Asked::Auto, None) => f.write_str("this kernel has all rmap tracepoints"),
            (Asked::Auto, Some(name)) => {
                let name = name.to_str().unwrap_or("?");
                write!(f, "this kernel has no tracepoint {name}")
            }
            (Asked::Tracepoints | Asked::Functions | Asked::Both, _) => {
                f.write_str("the parameter backend says so")
            }
        }
    }
}

/// What tells of rmap calls. Held for its destructor.
enum Source {
    Functions {
        _rmap: entry::Registration<RmapHook>,
    },
    Tracepoints {
        _probes: Pin<KBox<tracepoint::Registration<TraceHook>>>,
    },
}

impl Source {
    fn new(tracker: &Arc<Tracker>) -> Result<Self> {
        Ok(match tracker.choice().backend {
            Backend::Functions => Self::Functions {
                _rmap: entry::Registration::new(
                    without_blind(Hook::rmap(0), tracker.sites().0.ips()),
                    Arc::new(RmapHook(tracker.clone()), GFP_KERNEL)?,
                )?,
            },
            Backend::Tracepoints => Self::Tracepoints {
                _probes: KBox::pin_init(
                    tracepoint::Registration::new(Arc::new(
                        TraceHook(tracker.clone()),
                        GFP_KERNEL,
                    )?),
                    GFP_KERNEL,
                )?,
            },
        })
    }
}

/// The registered hooks.
///
/// Fields are dropped in declaration order: no more questions, no more events, then no more progress of windows, then
/// no more windows.
pub(crate) struct Hooks {
    _ask: Option<entry::Registration<AskHook>>,
    _source: Source,
    progress: Option<Pin<KBox<call::Registration<ProgressHook>>>>,
    /// `None` while it is placed anew.
    rare: Option<Pin<KBox<call::Registration<RareHook>>>>,
}

impl Hooks {
    /// Places the hooks of the tracker's backend, and waits until nothing is under way that began without them.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EINTR`; what ftrace says if a function cannot be hooked.
    pub(crate) fn place(tracker: &Arc<Tracker>) -> Result<Self> {
        let mut hooks = Self::new(tracker)?;
        wait_for_all()?;
        hooks.see_all_tasks(tracker)?;
        Ok(hooks)
    }

    fn new(tracker: &Arc<Tracker>) -> Result<Self> {
        let (_, progress_sites, _) = tracker.sites();
        // What is placed later runs earlier: the hooks with exit run first, see `crosscheck`.
        let progress = register(
            without_blind(Hook::progress(0), progress_sites.ips()),
            Arc::new(ProgressHook(tracker.clone()), GFP_KERNEL)?,
        )?;
        let rare = Self::rare(tracker)?;
        // Not if they could not be placed anew the last time.
        tracker.set_ends_seen(true);
        let source = Source::new(tracker)?;
        let ask = if cfg!(fmi_nothing) || tracker.is_second() || tracker.ask_sites().is_empty() {
            None
        } else {
            Some(entry::Registration::new(
                tracker.ask_sites().ips(),
                Arc::new(AskHook::new(tracker.clone()), GFP_KERNEL)?,
            )?)
        };
        Ok(Self {
            _ask: ask,
            _source: source,
            progress,
            rare,
        })
    }

    fn rare(tracker: &Arc<Tracker>) -> Result<Option<Pin<KBox<call::Registration<RareHook>>>>> {
        let (_, _, rare_sites) = tracker.sites();
        register(
            without_blind(Hook::rare(0), rare_sites.ips()),
            Arc::new(RareHook(tracker.clone()), GFP_KERNEL)?,
        )
    }

    /// Places the hooks with exit anew while there are tasks that were being forked when that was done:
    /// the first of such hooks, if nobody else has any, gives a return stack to all tasks that there are.
    ///
    /// To be called when the forks of that time are over.
    fn see_all_tasks(&mut self, tracker: &Arc<Tracker>) -> Result {
        for _ in 0..MAX_PLACINGS {
            if blind_tasks() == 0 {
                break;
            }
            // Of those that are open, nobody sees the end: what they say is not to be believed.
            tracker.set_ends_seen(false);
            self.rare = None;
            tracker.windows.clear();
            self.rare = Self::rare(tracker)?;
            tracker.set_ends_seen(true);
            wait_for_all()?;
        }
        Ok(())
    }

    /// Returns how many calls the kernel admits it did not report.
    pub(crate) fn missed(&self) -> u64 {
        let rare = self.rare.as_ref().map_or(0, |rare| rare.missed());
        let progress = self.progress.as_ref().map_or(0, |hook| hook.missed());
        rare.saturating_add(progress)
    }
}

/// Hooks the functions at these addresses, unless there is none: a test may leave out the only one; or
/// this is the module whose hooks do nothing, which are those on rmap functions.
fn register<T: call::Handler, const N: usize>(
    ips: [usize; N],
    handler: Arc<T>,
) -> Result<Option<Pin<KBox<call::Registration<T>>>>> {
    if cfg!(fmi_nothing) || ips.iter().all(|ip| *ip == 0) {
        return Ok(None);
    }
    KBox::pin_init(call::Registration::new(ips, handler), GFP_KERNEL).map(Some)
}

/// Waits for what has begun and was not seen to begin: rmap calls, and what is done under the mmap lock: changes of
/// VMAs, and, if functions are hooked, forks and mremaps.
fn wait_for_all() -> Result {
    quiesce::wait_for_calls();
    for mm in MmRef::all()? {
        mm.wait_for_writers()?;
    }
    Ok(())
}
