// SPDX-License-Identifier: GPL-2.0

//! `stats`: first what was not seen.

use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print, //
};

use fmi_model::{
    Counters,
    COUNTERS, //
};

use crate::{
    backend::Backend,
    check,
    class,
    control::{
        Control,
        Group, //
    },
    debugfs::File,
    operation, //
};

/// `stats`: `name: value` lines.
pub(crate) struct Stats;

impl File<Control> for Stats {
    const NAME: &'static CStr = c"stats";
    const MODE: u16 = 0o400;

    fn show(control: &Control, m: &SeqFile) -> Result {
        let tracker = control.tracker();
        check::compare_suspects(tracker)?;
        let mut counters = Counters::new();
        tracker
            .table
            .for_each_state(|state| counters.merge(state.counters()));
        let sum = |prefix: &str| -> u64 {
            COUNTERS
                .iter()
                .filter(|(_, name)| name.starts_with(prefix))
                .fold(0, |sum, (counter, _)| {
                    u64::saturating_add(sum, counters.get(*counter))
                })
        };
        let (opened, open, abnormal, overflow) = tracker.windows.counts();
        let (unknown_sites, unreadable, blind) = tracker.not_understood();

        seq_print!(m, "version: 1\n");
        seq_print!(m, "enabled: {}\n", u8::from(control.session.enabled()));
        seq_print!(m, "since_ns: {}\n", control.since_ns(Group::Stats));
        // What was not seen comes first.
        seq_print!(m, "lost: {}\n", sum("lost_"));
        seq_print!(m, "inconsistent: {}\n", sum("inconsistent_"));
        seq_print!(m, "mismatches: {}\n", check::mismatches());
        seq_print!(m, "missed_calls: {}\n", control.session.missed());
        seq_print!(m, "windows_abnormal: {abnormal}\n");
        seq_print!(m, "windows_missed: {}\n", tracker.crosscheck.missed());
        seq_print!(m, "moves_unseen: {}\n", tracker.moves_unseen());
        seq_print!(m, "windows_overflow: {overflow}\n");
        seq_print!(m, "blind_calls: {blind}\n");
        seq_print!(m, "hooks_dead: {}\n", u8::from(tracker.hooks_dead()));
        seq_print!(m, "hooks_unknown_site: {unknown_sites}\n");
        seq_print!(m, "hooks_unreadable: {unreadable}\n");
        super::scan::stats(control, m);
        let choice = tracker.choice();
        let hooks = match choice.backend {
            _ if choice.second().is_some() => "ftrace,tracepoints",
            Backend::Functions => "ftrace",
            Backend::Tracepoints => "tracepoints,ftrace",
        };
        seq_print!(m, "hooks: {hooks}\n");
        seq_print!(m, "backend: {}\n", choice.name());
        seq_print!(m, "backend_reason: {choice}\n");
        let selftest = *control.selftest.lock();
        seq_print!(m, "selftest: {selftest}\n");
        let mut none = "none";
        seq_print!(m, "selftest_unreached: ");
        for (n, hook) in selftest.unreached().enumerate() {
            none = "";
            let separator = if n == 0 { "" } else { "," };
            seq_print!(m, "{separator}{}", hook.function());
        }
        seq_print!(m, "{none}\n");
        seq_print!(m, "asked_irqs_off: {}\n", tracker.asked_irqs_off());
        for (class, name) in class::NAMES {
            seq_print!(m, "{name}: {}\n", class::sum(class));
        }
        if choice.backend == Backend::Tracepoints {
            let (orders, shared, unshared) = tracker.others.counts();
            seq_print!(m, "events_order: {orders}\n");
            seq_print!(m, "events_pmd_share: {shared}\n");
            seq_print!(m, "events_pmd_unshare: {unshared}\n");
        }
        // The table of the model begins with what was not seen, too.
        for (counter, name) in COUNTERS {
            seq_print!(m, "{name}: {}\n", counters.get(counter));
        }
        operation::show(m);
        seq_print!(m, "windows_opened: {opened}\n");
        seq_print!(m, "windows_open: {open}\n");
        seq_print!(m, "moved_tables_most: {}\n", tracker.windows.most_tables());
        super::both::stats(control, m);
        super::examples::stats(control, m);
        seq_print!(m, "memory_kb: {}\n", control.session.bytes().div_ceil(1024));
        let background = control.background.totals();
        seq_print!(m, "background_rounds: {}\n", background.rounds);
        seq_print!(m, "background_differences: {}\n", background.differences);
        #[cfg(fmi_measure)]
        crate::measure::show(m);
        Ok(())
    }
}
