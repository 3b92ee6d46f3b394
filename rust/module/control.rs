// SPDX-License-Identifier: GPL-2.0

//! What the debugfs files show and change.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

use fmi_model::Kind;

use crate::{
    audit::Audit,
    backend::Choice,
    background::Background,
    env::now_ns,
    preview::Preview,
    selftest::Outcome,
    session::Session,
    tracker::Tracker, //
};

/// Which folios the `folios` file lists.
#[derive(Clone, Copy, Default)]
pub(crate) struct Filter {
    /// Only this order.
    pub(crate) order: Option<u8>,
    /// Only this type.
    pub(crate) kind: Option<Kind>,
    /// Only folios about which a definition is wrong now.
    pub(crate) disagreeing: bool,
}

/// Statistics that start anew together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// `stats`.
    Stats,
    /// `disagreement`, `disagreement_orders` and `disagreement_operations`.
    Disagreement,
    /// What was asked, in `decisions`; its states are those of [`Group::Disagreement`].
    Decisions,
    /// `questions`.
    Questions,
    /// `examples`.
    Examples,
    /// `preview`: what it shows the change since.
    Preview,
}

/// Number of [`Group`]s.
const NR_GROUPS: usize = 6;

impl Group {
    /// All groups.
    pub(crate) const ALL: [Self; NR_GROUPS] = [
        Self::Stats,
        Self::Disagreement,
        Self::Decisions,
        Self::Questions,
        Self::Examples,
        Self::Preview,
    ];

    /// Returns the name that is written to `reset`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stats => "stats",
            Self::Disagreement => "disagreement",
            Self::Decisions => "decisions",
            Self::Questions => "questions",
            Self::Examples => "examples",
            Self::Preview => "preview",
        }
    }
}

/// Everything behind the debugfs directory.
#[pin_data]
pub(crate) struct Control {
    #[pin]
    pub(crate) session: Session,
    #[pin]
    pub(crate) filter: Mutex<Filter>,
    /// The page that the `folio` file shows.
    #[pin]
    pub(crate) selected: Mutex<Option<u64>>,
    /// The last audit.
    #[pin]
    pub(crate) audit: Mutex<Option<Audit>>,
    /// Audits in the background.
    #[pin]
    pub(crate) background: Background,
    /// Since when each group counts, by position in [`Group::ALL`].
    #[pin]
    since_ns: Mutex<[u64; NR_GROUPS]>,
    /// How the self-test at load ended.
    #[pin]
    pub(crate) selftest: Mutex<Outcome>,
    /// What the `preview` file shows and compares with.
    #[pin]
    pub(crate) preview: Preview,
}

impl Control {
    /// Creates it with tracking off; `bytes` bounds the shadow's memory, `scans`: see [`Session::new`];
    /// `choice` says what the events come from.
    pub(crate) fn new(bytes: usize, scans: bool, choice: Choice) -> Result<Arc<Self>> {
        let tracker = Tracker::new(bytes, choice)?;
        let second = choice.second().map(Tracker::new_second).transpose()?;
        let background = Background::new(tracker.clone())?;
        Arc::pin_init(
            try_pin_init!(Self {
                session <- Session::new(tracker, second, bytes, scans),
                filter <- new_mutex!(Filter::default()),
                selected <- new_mutex!(None),
                audit <- new_mutex!(None),
                background <- background,
                since_ns <- new_mutex!([now_ns(); NR_GROUPS]),
                selftest <- new_mutex!(Outcome::Skipped),
                preview <- Preview::new(),
            } ? Error),
            GFP_KERNEL,
        )
    }

    /// Returns shadow and windows.
    pub(crate) fn tracker(&self) -> &Tracker {
        self.session.tracker()
    }

    /// Starts a group of statistics anew.
    ///
    /// # Errors
    ///
    /// For [`Group::Preview`], which is read: `ENOMEM`, `EINTR`.
    pub(crate) fn reset(&self, group: Group) -> Result {
        let tracker = self.tracker();
        match group {
            Group::Stats => {
                self.session.reset_counters();
                self.background.reset();
            }
            Group::Disagreement => tracker.table.reset_tables(&tracker.env()),
            Group::Decisions => tracker.table.reset_asked(),
            Group::Questions => tracker.table.reset_figures(),
            Group::Examples => {
                tracker.examples.clear();
                tracker.table.tell_anew();
            }
            Group::Preview => self.preview.rebase(tracker)?,
        }
        let mut since_ns = self.since_ns.lock();
        for (since_ns, _) in since_ns
            .iter_mut()
            .zip(Group::ALL)
            .filter(|(_, g)| *g == group)
        {
            *since_ns = now_ns();
        }
        Ok(())
    }

    /// Returns since when a group counts, by the monotonic clock.
    pub(crate) fn since_ns(&self, group: Group) -> u64 {
        let since_ns = self.since_ns.lock();
        let mut groups = since_ns.iter().zip(Group::ALL);
        groups
            .find(|(_, g)| *g == group)
            .map_or(0, |(since_ns, _)| *since_ns)
    }
}
