/* SPDX-License-Identifier: GPL-2.0 */
/* Which VMAs a walk over the reverse map of a folio visits, and of which MMs. */
#ifndef FMI_RMAPWALK_H
#define FMI_RMAPWALK_H

#include <linux/types.h>

struct folio;
struct mm_struct;

/**
 * struct fmi_rmap_vmas - what the reverse map of a folio says
 * @nr: VMAs that cover any of the folio's range, whether they map it or not
 * @active: anon_vma->num_active_vmas, only for an anonymous folio
 * @anon: the folio is anonymous
 */
struct fmi_rmap_vmas {
	unsigned long nr;
	unsigned long active;
	bool anon;
};

struct folio *fmi_folio_get(unsigned long pfn);
int fmi_rmap_vmas(unsigned long pfn, unsigned int order,
		  struct fmi_rmap_vmas *vmas);
int fmi_rmap_mms(unsigned long pfn, struct mm_struct **mms, size_t room,
		 size_t *found);

#endif
