// SPDX-License-Identifier: GPL-2.0

//! The tracepoint `folio_mapcount:disagree`.
//!
//! C headers: [`include/linux/tracepoint.h`](srctree/include/linux/tracepoint.h)

use fmi_model::{
    Disagreement,
    Operation,
    Question,
    DEFINITIONS,
    PAIRS, //
};

use crate::raw;

/// Names and their ends fit into the fields.
const _: () = {
    let mut i = 0;
    while i < DEFINITIONS.len() {
        assert!(DEFINITIONS[i].name.len() < raw::FMI_DEFINITION_LEN as usize);
        i += 1;
    }
    i = 0;
    while i < Question::ALL.len() {
        assert!(Question::ALL[i].name().len() < raw::FMI_QUESTION_LEN as usize);
        i += 1;
    }
    i = 0;
    while i < Operation::ALL.len() {
        assert!(Operation::ALL[i].name().len() < raw::FMI_OPERATION_LEN as usize);
        i += 1;
    }
};

/// Returns whether anybody listens to the tracepoint.
#[inline]
pub(crate) fn disagree_wanted() -> bool {
    // SAFETY: Reads a static key.
    unsafe { raw::fmi_trace_disagree_enabled() }
}

/// Fires the tracepoint for each pair that became wrong, if anybody listens.
///
/// Runs on the event path: under a PTL and the lock of a shard.
pub(crate) fn disagree(d: &Disagreement<'_>) {
    if !disagree_wanted() {
        return;
    }
    let view = d.view;
    let mut event = raw::fmi_disagree {
        pfn: view.pfn,
        total: view.total,
        entire: view.entire,
        nr_pages_mapped: view.nr_pages_mapped,
        mm: view.mm,
        vma: view.vma,
        vma_pt: view.vma_pt,
        pid: d.pid as i32,
        order: view.order,
        type_: view.kind.index() as u8,
        operation: d.operation.index() as u8,
        ..raw::fmi_disagree::default()
    };
    copy_name(&mut event.operation_name, d.operation.name());
    for pair in d.opened.iter() {
        let Some((id, question)) = PAIRS.get(pair) else {
            continue;
        };
        let Some((n, definition)) = (0..).zip(&DEFINITIONS).find(|(_, info)| info.id == *id) else {
            continue;
        };
        event.definition = n;
        event.question = *question as u8;
        event.answer = u8::from(d.too_high.contains(pair));
        event.value = (definition.value)(view, d.sketches);
        copy_name(&mut event.definition_name, definition.name);
        copy_name(&mut event.question_name, question.name());
        // SAFETY: `event` is valid, and its names end.
        unsafe { raw::fmi_trace_disagree(&event) };
    }
}

/// Copies a name, with zeroes behind it.
fn copy_name(to: &mut [u8], name: &str) {
    let Some((end, room)) = to.split_last_mut() else {
        return;
    };
    let bytes = name.bytes().chain(core::iter::repeat(0));
    room.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
    *end = 0;
}
