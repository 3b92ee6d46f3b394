/* SPDX-License-Identifier: GPL-2.0 */
/*
 * hugetlb: entries of all sizes, and tables of PMDs that several MMs share.
 */
#ifndef FMI_HUGETLB_H
#define FMI_HUGETLB_H

#include <linux/types.h>
#include "shims.h"

struct page;

void fmi_site_table(struct fmi_site *site, const struct vm_area_struct *vma,
		    unsigned long va);
void fmi_walk_hugetlb(const struct fmi_walk *walk, unsigned int *budget,
		      unsigned long *next);
unsigned int fmi_walk_table(struct mm_struct *mm, struct page *table,
			    void (*leaf)(void *ctx, const struct fmi_site *site),
			    void *ctx);

#endif
