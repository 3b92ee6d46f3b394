/* SPDX-License-Identifier: GPL-2.0 */
/* The tracepoint folio_mapcount:disagree, as Rust calls it. */
#ifndef FMI_DISAGREE_H
#define FMI_DISAGREE_H

#include <linux/types.h>

/* Room for the longest name with its end. */
enum {
	FMI_DEFINITION_LEN = 24,
	FMI_QUESTION_LEN = 12,
	FMI_OPERATION_LEN = 16,
};

/**
 * struct fmi_disagree - a definition begins to answer a question wrongly
 * @pfn: of the head page
 * @total: mappings, an entire one counts 1
 * @value: of the definition
 * @entire: entire mappings
 * @nr_pages_mapped: pages that are mapped
 * @mm: MMs that map at least one page
 * @vma: VMAs that do
 * @vma_pt: (VMA, page table) tuples that do
 * @pid: thread whose calls led to this state
 * @order: of the folio
 * @type: enum fmi_kind
 * @definition: position in the file "definitions"
 * @question: position in the list of questions
 * @answer: what was said wrongly: 0 no, or a number that is too low; 1 yes, or
 *	a number that is too high
 * @operation: position in the list of operations
 * @definition_name: as in the files
 * @question_name: as in the files
 * @operation_name: as in the files
 */
struct fmi_disagree {
	u64 pfn;
	u64 total;
	s64 value;
	u32 entire;
	u32 nr_pages_mapped;
	u32 mm;
	u32 vma;
	u32 vma_pt;
	int pid;
	u8 order;
	u8 type;
	u8 definition;
	u8 question;
	u8 answer;
	u8 operation;
	char definition_name[FMI_DEFINITION_LEN];
	char question_name[FMI_QUESTION_LEN];
	char operation_name[FMI_OPERATION_LEN];
};

bool fmi_trace_disagree_enabled(void);
void fmi_trace_disagree(const struct fmi_disagree *d);

#endif
