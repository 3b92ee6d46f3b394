// SPDX-License-Identifier: GPL-2.0

//! Folio mapcount introspection: module entry, composition and teardown order only.
//!
//! Data flow: hooked kernel functions ([`hook`]) -> [`tracker`] -> [`table`] (the shards of
//! `fmi_model`, one lock each) -> debugfs ([`report`]). [`window`] keeps what changes without calls,
//! [`walk`] and [`audit`] look at page tables themselves, [`preview`] at what `/proc` shows.

#![crate_name = "folio_mapcount"]
#![deny(unsafe_code)]

use kernel::{
    prelude::*,
    sync::Arc, //
};

mod audit;
mod backend;
#[expect(unsafe_code, reason = "delayed work")]
mod background;
mod both;
#[expect(unsafe_code, reason = "calls the walk of the census")]
mod census;
mod check;
#[expect(unsafe_code, reason = "per-CPU counters")]
mod class;
#[expect(unsafe_code, reason = "barriers and relaxed loads")]
mod compat;
mod control;
mod coverage;
#[expect(unsafe_code, reason = "owner-correct debugfs files")]
mod debugfs;
#[expect(
    unsafe_code,
    reason = "reads time, grace periods and counters of the kernel"
)]
mod env;
mod examples;
#[cfg(fmi_faults)]
#[expect(unsafe_code, reason = "asks for planted faults")]
mod faults;
mod hook;
#[cfg_attr(fmi_measure, expect(unsafe_code, reason = "measures in C"))]
mod measure;
#[expect(unsafe_code, reason = "references to MMs")]
mod mm;
#[expect(unsafe_code, reason = "reads the state of VMAs")]
mod operation;
mod preview;
#[expect(unsafe_code, reason = "calls the walk of a process's memory")]
mod procwalk;
#[expect(unsafe_code, reason = "grace periods and stop_machine")]
mod quiesce;
#[expect(unsafe_code, reason = "generated bindings")]
mod raw;
mod report;
#[expect(unsafe_code, reason = "calls the walk over the reverse map")]
mod rmapwalk;
mod scan;
mod selftest;
mod session;
#[expect(
    unsafe_code,
    reason = "lends one piece of memory as objects of two types"
)]
mod storage;
mod table;
#[expect(unsafe_code, reason = "fires the tracepoint")]
mod trace;
mod tracker;
#[expect(unsafe_code, reason = "calls the page-table walk")]
mod walk;
#[expect(unsafe_code, reason = "asks for names of threads and MMs")]
mod who;
mod window;

use control::Control;

module! {
    type: FolioMapcount,
    name: "folio_mapcount",
    authors: ["The folio_mapcount developers"],
    description: "Folio mapcounts under every proposed definition, beside the kernel's own",
    license: "GPL",
    params: {
        enable: u8 {
            default: 0,
            description: "Start tracking at load (0 or 1)",
        },
        scan: u8 {
            default: 1,
            description: "Look for what is mapped already when tracking is switched on (0 or 1)",
        },
        selftest: u8 {
            default: 1,
            description: "Test at load whether the hooks see everything (0 or 1)",
        },
        mem_kb: u64 {
            default: 0,
            description: "Bound of the shadow's memory in KiB (0: 1/256 of RAM, at least 8 MiB)",
        },
    },
}

/// The loaded module.
struct FolioMapcount {
    /// Dropped first: no reader is left when tracking is switched off.
    dir: Option<debugfs::Dir<Control>>,
    control: Arc<Control>,
}

impl kernel::Module for FolioMapcount {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Self::load().inspect_err(|_| hook::entry::wait_if_left())
    }
}

impl FolioMapcount {
    fn load() -> Result<Self> {
        let bytes = session::bound(compat::parameter(module_parameters::mem_kb.value()))
            .inspect_err(|_| {
                pr_err!("mem_kb is at least 256, at most half of the memory and 16 GiB\n")
            })?;
        let enable: u8 = compat::parameter(module_parameters::enable.value());
        if enable > 1 {
            pr_err!("the parameter enable is 0 or 1\n");
            return Err(EINVAL);
        }
        let scan: u8 = compat::parameter(module_parameters::scan.value());
        if scan > 1 {
            pr_err!("the parameter scan is 0 or 1\n");
            return Err(EINVAL);
        }
        let selftest: u8 = compat::parameter(module_parameters::selftest.value());
        if selftest > 1 {
            pr_err!("the parameter selftest is 0 or 1\n");
            return Err(EINVAL);
        }
        let choice = backend::Choice::of_parameter()?;
        let control = Control::new(bytes, scan == 1, choice)?;
        if enable == 1 {
            control
                .session
                .enable()
                .inspect_err(|e| pr_err!("tracking could not be enabled: {e:?}\n"))?;
        }
        if selftest == 1 {
            let outcome = selftest::run(&control)
                .inspect_err(|e| pr_err!("the self-test failed: {e:?}\n"))?;
            pr_info!("selftest: {outcome}\n");
            *control.selftest.lock() = outcome;
        }
        let dir = report::create(control.clone());
        match choice.backend {
            _ if choice.second().is_some() => {
                pr_info!(
                    "loaded: hooks by ftrace and fprobe, and probes on tracepoints beside them\n"
                );
            }
            backend::Backend::Functions => pr_info!("loaded: hooks by ftrace and fprobe\n"),
            backend::Backend::Tracepoints => pr_info!("loaded: probes on tracepoints\n"),
        }
        Ok(Self {
            dir: Some(dir),
            control,
        })
    }
}

impl Drop for FolioMapcount {
    fn drop(&mut self) {
        self.dir = None;
        self.control.session.disable();
        hook::entry::wait_if_left();
        pr_info!("unloaded\n");
    }
}
