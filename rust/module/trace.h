/* SPDX-License-Identifier: GPL-2.0 */
/* Our own tracepoint; what its fields mean is said in disagree.h. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM folio_mapcount

#if !defined(FMI_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define FMI_TRACE_H

#include <linux/tracepoint.h>
#include "disagree.h"

TRACE_EVENT(disagree,

	TP_PROTO(const struct fmi_disagree *d),

	TP_ARGS(d),

	TP_STRUCT__entry(
		__field(u64,	pfn)
		__field(u64,	total)
		__field(s64,	value)
		__field(u32,	entire)
		__field(u32,	nr_pages_mapped)
		__field(u32,	mm)
		__field(u32,	vma)
		__field(u32,	vma_pt)
		__field(int,	pid)
		__field(u8,	order)
		__field(u8,	type)
		__field(u8,	definition)
		__field(u8,	question)
		__field(u8,	answer)
		__field(u8,	operation)
		__array(char,	definition_name, FMI_DEFINITION_LEN)
		__array(char,	question_name, FMI_QUESTION_LEN)
		__array(char,	operation_name, FMI_OPERATION_LEN)
	),

	TP_fast_assign(
		__entry->pfn = d->pfn;
		__entry->total = d->total;
		__entry->value = d->value;
		__entry->entire = d->entire;
		__entry->nr_pages_mapped = d->nr_pages_mapped;
		__entry->mm = d->mm;
		__entry->vma = d->vma;
		__entry->vma_pt = d->vma_pt;
		__entry->pid = d->pid;
		__entry->order = d->order;
		__entry->type = d->type;
		__entry->definition = d->definition;
		__entry->question = d->question;
		__entry->answer = d->answer;
		__entry->operation = d->operation;
		memcpy(__entry->definition_name, d->definition_name,
		       FMI_DEFINITION_LEN);
		memcpy(__entry->question_name, d->question_name,
		       FMI_QUESTION_LEN);
		memcpy(__entry->operation_name, d->operation_name,
		       FMI_OPERATION_LEN);
	),

	TP_printk("pfn=0x%llx order=%u type=%s definition=%s question=%s answer=%s value=%lld total=%llu entire=%u nr_pages_mapped=%u mm=%u vma=%u vma_pt=%u operation=%s pid=%d",
		  __entry->pfn, __entry->order,
		  __print_symbolic(__entry->type,
				   { 0, "anon" },
				   { 1, "file" },
				   { 2, "shmem" },
				   { 3, "hugetlb" },
				   { 4, "driver" }),
		  __entry->definition_name, __entry->question_name,
		  __print_symbolic(__entry->answer,
				   { 0, "no" },
				   { 1, "yes" }),
		  __entry->value, __entry->total, __entry->entire,
		  __entry->nr_pages_mapped, __entry->mm, __entry->vma,
		  __entry->vma_pt, __entry->operation_name, __entry->pid)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
