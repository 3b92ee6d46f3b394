// SPDX-License-Identifier: GPL-2.0

//! `examples`: the last few cases of each disagreement.

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
    Example,
    Kind,
    Mapper,
    Question,
    DEFINITIONS,
    PAIRS, //
};

use super::{
    folio::Comm,
    number, //
};
use crate::{
    control::{
        Control,
        Group, //
    },
    debugfs::Table,
    examples::Filter, //
};

impl Filter {
    fn passes(&self, pair: usize, example: &Example) -> bool {
        let Some((id, question)) = PAIRS.get(pair) else {
            return false;
        };
        self.definition.is_none_or(|definition| definition == *id)
            && self.question.is_none_or(|wanted| wanted == *question)
            && self.kind.is_none_or(|kind| kind == example.view.kind)
            && self.order.is_none_or(|order| order == example.view.order)
    }

    /// Returns this filter changed by text like `definition=first_page order=4`; `any` alone lists
    /// everything again.
    fn changed_by(mut self, text: &str) -> Result<Self> {
        if text == "any" {
            return Ok(Self::default());
        }
        let mut any = false;
        for word in text.split_ascii_whitespace() {
            any = true;
            match word.split_once('=').ok_or(EINVAL)? {
                ("definition", "any") => self.definition = None,
                ("definition", name) => {
                    let info = DEFINITIONS.iter().find(|info| info.name == name);
                    self.definition = Some(info.ok_or(EINVAL)?.id);
                }
                ("question", "any") => self.question = None,
                ("question", name) => {
                    let question = Question::ALL.into_iter().find(|q| q.name() == name);
                    self.question = Some(question.ok_or(EINVAL)?);
                }
                ("type", "any") => self.kind = None,
                ("type", name) => {
                    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
                    self.kind = Some(kind.ok_or(EINVAL)?);
                }
                ("order", "any") => self.order = None,
                ("order", n) => {
                    self.order = Some(u8::try_from(number(n)?).map_err(|_| EINVAL)?);
                }
                _ => return Err(EINVAL),
            }
        }
        any.then_some(self).ok_or(EINVAL)
    }
}

/// Who mapped what of the folio: `pid:mm_id:base:pages@first-last`, joined by semicolons.
struct Mappers<'a>(&'a Example);

impl Display for Mappers<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let nr = u32::from(self.0.nr_mappers);
        let named = self.0.mappers.iter().take(nr as usize);
        for (i, mapper) in named.enumerate() {
            let Mapper {
                pid,
                mm_id,
                base,
                nr,
                span: (first, last),
                entire,
            } = mapper;
            let semicolon = if i > 0 { ";" } else { "" };
            write!(f, "{semicolon}{pid}:{mm_id}:{base:#x}:")?;
            match (entire, nr) {
                (true, 0) => write!(f, "entire")?,
                (true, nr) => write!(f, "entire+{nr}@{first}-{last}")?,
                (false, nr) => write!(f, "{nr}@{first}-{last}")?,
            }
        }
        match self.0.view.nr_records.saturating_sub(nr) {
            0 if nr == 0 => write!(f, "-"),
            0 => Ok(()),
            more => write!(f, ";+{more} more"),
        }
    }
}

/// The value of every definition: `id=value`, joined by commas.
struct Values<'a>(&'a Example);

impl Display for Values<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Example { view, sketches, .. } = self.0;
        let known = DEFINITIONS
            .iter()
            .filter(|d| !d.reads_kernel || view.kernel.is_some());
        for (i, d) in known.enumerate() {
            let comma = if i > 0 { "," } else { "" };
            match d.value_of(view, sketches) {
                Some(value) => write!(f, "{comma}{}={value}", d.name)?,
                None => write!(f, "{comma}{}=-", d.name)?,
            }
        }
        Ok(())
    }
}

/// A line of the file.
struct Line<'a> {
    pair: usize,
    example: &'a Example,
}

impl Line<'_> {
    /// What was said wrongly.
    fn answer(&self, question: Question) -> &'static str {
        let number = matches!(question, Question::Page | Question::Stat | Question::Drift);
        match (number, self.example.too_high.contains(self.pair)) {
            (false, false) => "no",
            (false, true) => "yes",
            (true, false) => "low",
            (true, true) => "high",
        }
    }
}

impl Display for Line<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (e, v) = (self.example, &self.example.view);
        let Some((id, question)) = PAIRS.get(self.pair) else {
            return Ok(());
        };
        let comm = e.comm.split(|byte| *byte == 0).next().unwrap_or_default();
        writeln!(
            f,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            id.info().map_or("?", |d| d.name),
            question.name(),
            self.answer(*question),
            v.kind.name(),
            v.order,
            e.time,
            e.pid,
            Comm(if comm.is_empty() { b"-" } else { comm }),
            e.operation.name(),
            v.pfn,
            Mappers(e),
            Values(e),
        )
    }
}

impl kernel::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// `examples`: a line for each pair of a definition and a question, and case.
pub(crate) struct ExamplesFile;

impl Table<Control> for ExamplesFile {
    const NAME: &'static CStr = c"examples";
    const MODE: u16 = 0o600;

    fn header(control: &Control, m: &SeqFile) {
        super::tables::settle(control.tracker(), true);
        seq_print!(
            m,
            "definition\tquestion\tanswer\ttype\torder\ttime_ns\tpid\tcomm\toperation\tpfn\t\
             mappers\tvalues\n"
        );
    }

    fn seek(control: &Control, position: u64) -> Option<u64> {
        let store = &control.tracker().examples;
        let filter = store.reader.lock().filter;
        store
            .seek(position as usize, |pair, example| {
                filter.passes(pair, example)
            })
            .map(|position| position as u64)
    }

    fn line(control: &Control, m: &SeqFile, position: u64) {
        let store = &control.tracker().examples;
        store.with(position as usize, |filter, pair, example| {
            // Another one may be there by now.
            if filter.passes(pair, example) {
                seq_print!(m, "{}", Line { pair, example });
            }
        });
    }

    fn store(control: &Control, text: &str) -> Result {
        let mut reader = control.tracker().examples.reader.lock();
        reader.filter = reader.filter.changed_by(text)?;
        Ok(())
    }
}

/// Writes the lines of `stats` about them.
pub(super) fn stats(control: &Control, m: &SeqFile) {
    let (counts, contended) = control.tracker().examples.counts();
    seq_print!(
        m,
        "examples_since_ns: {}\n",
        control.since_ns(Group::Examples)
    );
    seq_print!(m, "examples: {}\n", counts.used);
    seq_print!(m, "examples_taken: {}\n", counts.taken);
    seq_print!(m, "examples_too_soon: {}\n", counts.too_soon);
    seq_print!(m, "examples_no_room: {}\n", counts.no_room);
    seq_print!(m, "examples_contended: {contended}\n");
}
