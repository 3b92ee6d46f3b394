/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a test did, as a plain list: which actor maps which page of one folio at
 * which address, and in which VMAs. Every expected number is counted from it.
 */
#ifndef FMI_EXPECT_H
#define FMI_EXPECT_H

#include <stdbool.h>
#include <stddef.h>

#include "fmi_thp.h"

#define EX_ENTIRE (-1)
#define EX_MAPPINGS 16384
#define EX_VMAS 64
#define EX_PAGES 2048	/* a PMD of 16K pages */

struct ex_mapping {
	int who;
	unsigned long va;
	int page;	/* of the folio; EX_ENTIRE: a PMD */
};

struct ex_vma {
	int who;
	unsigned long start, end;
};

struct fmi_expect {
	enum fmi_kind kind;	/* of the folio */
	unsigned int order;
	int nr;			/* its pages */
	unsigned long pfn;
	int max_mm;		/* most actors that ever mapped it */
	int nr_mappings;
	int nr_vmas;
	/* Pages that are mapped and pagemap does not show: a device has them for itself. */
	int hidden, nr_hidden;
	struct ex_mapping mappings[EX_MAPPINGS];
	struct ex_vma vmas[EX_VMAS];
};

/* The definitions, by the words of the module. */
struct ex_values {
	int total, entire, first_page, max_page, nr_pages_mapped, vma_pt, vma, mm, full, partial;
	int total_pages;
	int nr_pte_mapped;	/* pages that a PTE maps */
	int page[EX_PAGES];	/* with entire */
	int pte[EX_PAGES];	/* without */
};

void ex_init(struct fmi_expect *e, enum fmi_kind kind, unsigned int order, unsigned long pfn);

/* VMAs. ex_vma_cut() is a munmap: mappings go as well. */
void ex_vma(struct fmi_expect *e, int who, unsigned long start, unsigned long end);
void ex_vma_split(struct fmi_expect *e, int who, unsigned long at);
void ex_vma_merge(struct fmi_expect *e, int who, unsigned long at);
void ex_vma_cut(struct fmi_expect *e, int who, unsigned long start, unsigned long len);

/* Mappings; va is where page `first` is mapped. */
void ex_map(struct fmi_expect *e, int who, unsigned long va, int first, int nr);
void ex_map_entire(struct fmi_expect *e, int who, unsigned long va);
/* A PMD split in this range: anon gets a PTE for every page, file and shmem nothing. */
void ex_split(struct fmi_expect *e, int who, unsigned long start, unsigned long len);
/* The pages in this range go (a PMD that is only partly in it is split first). */
void ex_unmap(struct fmi_expect *e, int who, unsigned long start, unsigned long len);
/* mremap() to a new place: mappings and VMAs. */
void ex_move(struct fmi_expect *e, int who, unsigned long from, unsigned long len,
	     unsigned long to);
void ex_fork(struct fmi_expect *e, int from, int to);
void ex_exit(struct fmi_expect *e, int who);
/* Everything of the folio that pagemap shows in this actor's VMAs. */
void ex_learn(struct fmi_expect *e, int who);

void ex_count(const struct fmi_expect *e, struct ex_values *v);
/* The VMA of an actor at an address, or NULL. */
const struct ex_vma *ex_vma_at(const struct fmi_expect *e, int who, unsigned long va);

/*
 * Compares the list with the page tables and VMAs of the actors, then the module
 * with the list: report, line in `folios`, kernel's counters, answers, audit.
 * With an empty list it is ex_check_gone().
 */
void ex_check(struct fmi_expect *e, const char *what);
/* The same without the audit, for one of many folios. */
void ex_check_folio(struct fmi_expect *e, const char *what);
/* Nothing maps the folio any more: the module may still know it, with zeros only. */
void ex_check_gone(const struct fmi_expect *e, const char *what);
/* One value, for the cases that have numbers of their own. */
void ex_want(const struct fmi_expect *e, const char *what, const char *definition, int want);

#endif
