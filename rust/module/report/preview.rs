// SPDX-License-Identifier: GPL-2.0

//! `preview`.

use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print, //
};

use fmi_model::preview::{
    Histogram,
    PSS_SHIFT, //
};

use super::{
    folio::Comm,
    pid, //
};
use crate::{
    control::Control,
    debugfs::File,
    mm::{
        MmRef,
        Owner, //
    },
    preview::{
        Selection,
        Shown,
        Spread,
        CHANGES,
        FIGURES, //
    },
    procwalk, //
};

/// `preview`: what CONFIG_NO_PAGE_MAPCOUNT would change.
pub(crate) struct PreviewFile;

impl File<Control> for PreviewFile {
    const NAME: &'static CStr = c"preview";
    const MODE: u16 = 0o600;
    const SIZE: usize = 1 << 18;

    fn store(control: &Control, text: &str) -> Result {
        let selection = match text {
            "" | "none" => Selection::None,
            "all" => Selection::All,
            text => {
                let pid = pid(text)?;
                let mm = MmRef::of_pid(pid)?;
                match pid {
                    // The reader may be another process.
                    0 => Selection::Pid(Owner::of(mm.id()).ok_or(ESRCH)?.pid()),
                    pid => Selection::Pid(pid),
                }
            }
        };
        control.preview.select(selection);
        Ok(())
    }

    fn show(control: &Control, m: &SeqFile) -> Result {
        let tracker = control.tracker();
        let view = control.preview.read(tracker)?;
        let reading = &view.reading;
        seq_print!(m, "version: 1\n");
        let enabled = u8::from(control.session.enabled());
        seq_print!(m, "enabled: {enabled}\n");
        let per_page = u8::from(procwalk::has_page_mapcounts());
        seq_print!(m, "page_mapcount: {per_page}\n");
        seq_print!(m, "since_ns: {}\n", view.since_ns);
        match view.selection {
            Selection::None => seq_print!(m, "selected: none\n"),
            Selection::All => seq_print!(m, "selected: all\n"),
            Selection::Pid(pid) => seq_print!(m, "selected: {pid}\n"),
        }
        let page_shift = tracker.table.geometry().page_shift;
        for (nr, about) in (1u8..).zip(&CHANGES) {
            seq_print!(m, "change_{nr}: {about}\n");
            for (figure, _, name) in FIGURES.iter().filter(|(_, change, _)| *change == nr) {
                let (value, change) = (reading.figures.get(*figure), view.changes.get(*figure));
                seq_print!(m, "{name}: {value} {change:+}\n");
            }
            match nr {
                1 => {
                    for memcg in reading.memcgs.iter() {
                        let kb = |pages: i64| (pages << page_shift) >> 10;
                        seq_print!(
                            m,
                            "memcg: ino={} folios={} anon_kb={:+} file_mapped_kb={:+} path={}\n",
                            memcg.ino,
                            memcg.folios,
                            kb(memcg.anon),
                            kb(memcg.file),
                            Comm(memcg.path())
                        );
                    }
                }
                4 => histogram(
                    m,
                    "kpagecount_error_pages",
                    reading.histograms.get(Spread::Kpagecount),
                ),
                5 => histogram(
                    m,
                    "pss_error_kb_processes",
                    reading.histograms.get(Spread::Pss),
                ),
                6 => histogram(
                    m,
                    "private_error_kb_processes",
                    reading.histograms.get(Spread::Private),
                ),
                _ => {}
            }
        }
        for shown in reading.shown.iter() {
            process(m, shown, page_shift);
        }
        if let (Selection::Pid(pid), true) = (view.selection, reading.shown.is_empty()) {
            seq_print!(m, "process: pid={pid} gone=1\n");
        }
        Ok(())
    }
}

/// `name: -3..-2=17 0=5 1=2`: errors from and to, and how many there are.
pub(super) fn histogram(m: &SeqFile, name: &str, histogram: Option<&Histogram>) {
    seq_print!(m, "{name}:");
    for (least, most, count) in histogram.into_iter().flat_map(Histogram::iter) {
        match (least, most) {
            (least, most) if least == most => seq_print!(m, " {least}={count}"),
            (least, i64::MAX) => seq_print!(m, " {least}..={count}"),
            (least, most) if least == -i64::MAX => seq_print!(m, " ..{most}={count}"),
            (least, most) => seq_print!(m, " {least}..{most}={count}"),
        }
    }
    seq_print!(m, "\n");
}

fn process(m: &SeqFile, shown: &Shown, page_shift: u8) {
    let p = &shown.process;
    let pid = shown.owner.as_ref().map_or(0, Owner::pid);
    let comm = shown.owner.as_ref().map_or(&b"-"[..], Owner::comm);
    let kb = |pages: u64| pages << page_shift >> 10;
    let ([pss, pss_would], [private, private_would]) =
        (p.pss.map(|pss| pss >> PSS_SHIFT >> 10), p.private.map(kb));
    let (pss_error, pss_permille) = p.pss_error();
    let (private_error, private_permille) = p.private_error(page_shift);
    let ([exclusive, exclusive_would], [mapmax, mapmax_would]) = (p.exclusive, p.mapmax);
    seq_print!(
        m,
        "process: pid={pid} comm={} rss_kb={}",
        Comm(comm),
        kb(p.rss)
    );
    seq_print!(
        m,
        " pss_kb={pss} pss_would_kb={pss_would} pss_error_kb={pss_error:+} \
         pss_error_permille={pss_permille:+}"
    );
    seq_print!(
        m,
        " private_kb={private} private_would_kb={private_would} private_error_kb={private_error:+} \
         private_error_permille={private_permille:+}"
    );
    seq_print!(
        m,
        " exclusive_pages={exclusive} exclusive_would_pages={exclusive_would} \
         exclusive_lost_pages={} exclusive_gained_pages={}",
        p.lost,
        p.gained
    );
    seq_print!(
        m,
        " mapmax={mapmax} mapmax_would={mapmax_would} mapmax_higher_vmas={} mapmax_lower_vmas={}\n",
        p.mapmax_higher,
        p.mapmax_lower
    );
}
