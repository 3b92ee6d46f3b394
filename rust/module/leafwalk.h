/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The way down the page tables under one VMA: what is told about the entries
 * at the end of it is up to the caller.
 */
#ifndef FMI_LEAFWALK_H
#define FMI_LEAFWALK_H

#include <linux/pgtable.h>

struct vm_area_struct;

/**
 * struct fmi_leafwalk - a walk over a part of one VMA
 * @vma: the VMA, which does not map hugetlb folios; its MM's mmap lock is held
 * @start: first address, inside the VMA
 * @end: first address after the range
 * @budget: tables and huge entries to look into before the walk pauses; goes
 *	down. 64 PMDs without a table count as one
 * @ptes: called back for the entries of a table from one address to another
 * @pmd: called back for a PMD that is no table: a leaf, not present, or none
 * @pud: the same for a present leaf PUD; may be NULL
 * @ctx: first argument of all three, which run under the PTL: must not sleep
 */
struct fmi_leafwalk {
	struct vm_area_struct *vma;
	unsigned long start;
	unsigned long end;
	unsigned int budget;
	void (*ptes)(void *ctx, pte_t *ptep, unsigned long addr, unsigned long end);
	void (*pmd)(void *ctx, pmd_t pmd, unsigned long addr);
	void (*pud)(void *ctx, pud_t pud, unsigned long addr);
	void *ctx;
};

unsigned long fmi_leafwalk_range(struct fmi_leafwalk *walk);
void fmi_pte_batches(const pte_t *ptep, unsigned long addr, unsigned long end,
		     void (*batch)(void *ctx, struct page *page, unsigned int nr,
				   unsigned long va),
		     void *ctx);
struct page *fmi_pmd_mapped_page(pmd_t val);
struct page *fmi_pud_mapped_page(pud_t val);

#endif
