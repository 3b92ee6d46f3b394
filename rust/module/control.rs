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
}

impl Control {
    /// Creates it with tracking off; `bytes` bounds the shadow's memory.
    pub(crate) fn new(bytes: usize) -> Result<Arc<Self>> {
        let tracker = Tracker::new()?;
        Arc::pin_init(
            pin_init!(Self {
                session <- Session::new(tracker, bytes),
                filter <- new_mutex!(Filter::default()),
                selected <- new_mutex!(None),
                audit <- new_mutex!(None),
            }),
            GFP_KERNEL,
        )
    }

    /// Returns shadow and windows.
    pub(crate) fn tracker(&self) -> &Tracker {
        self.session.tracker()
    }
}
