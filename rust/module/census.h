/* SPDX-License-Identifier: GPL-2.0 */
/* Every present leaf entry under a VMA, whatever the VMA is and whatever is there. */
#ifndef FMI_CENSUS_H
#define FMI_CENSUS_H

#include <linux/types.h>

struct vm_area_struct;

/* What kind of VMA: VM_PFNMAP, VM_MIXEDMAP, or neither. */
enum fmi_area {
	FMI_AREA_PLAIN,
	FMI_AREA_MIXEDMAP,
	FMI_AREA_PFNMAP,
	FMI_NR_AREAS,
};

/* What an entry maps. */
enum fmi_what {
	FMI_WHAT_ANON,
	FMI_WHAT_KSM,
	FMI_WHAT_FILE,
	FMI_WHAT_SHMEM,
	FMI_WHAT_HUGETLB,
	FMI_WHAT_ZERO,		/* the zero page or the huge one */
	FMI_WHAT_ZONE_DEVICE,
	FMI_WHAT_DRIVER,	/* the entry holds a reference, none of the above */
	FMI_WHAT_PAGE,		/* a page that the entry holds no reference to */
	FMI_WHAT_NO_PAGE,	/* no struct page, or not of memory that is online */
	FMI_NR_WHATS,
};

enum fmi_level {
	FMI_LEVEL_PTE,
	FMI_LEVEL_PMD,
	FMI_LEVEL_PUD,
	FMI_NR_LEVELS,
};

/**
 * struct fmi_leaves - entries that are alike
 * @nr: number of entries
 * @area: enum fmi_area
 * @what: enum fmi_what
 * @order: of the folio; of the entry where there is no folio to look at
 * @level: enum fmi_level; a group of contiguous entries of a hugetlb folio is
 *	one entry
 * @special: the special bit is set
 */
struct fmi_leaves {
	u32 nr;
	u8 area;
	u8 what;
	u8 order;
	u8 level;
	bool special;
};

/**
 * struct fmi_census - a part of one VMA
 * @vma: the VMA; its MM's mmap lock is held
 * @start: first address, inside the VMA
 * @end: first address after the range
 * @budget: page tables to look into before the walk pauses
 * @leaves: called back, maybe under the PTL: must not sleep
 * @ctx: its first argument
 */
struct fmi_census {
	struct vm_area_struct *vma;
	unsigned long start;
	unsigned long end;
	unsigned int budget;
	void (*leaves)(void *ctx, const struct fmi_leaves *leaves);
	void *ctx;
};

unsigned long fmi_census_range(struct fmi_census *census);

/**
 * struct fmi_page_counts - pages that are there, mapped or not
 * @anon: anonymous pages, with those in the swap cache
 * @file: page cache, with shmem, without the swap cache
 */
struct fmi_page_counts {
	long anon;
	long file;
};

void fmi_count_pages(struct fmi_page_counts *counts);

#endif
