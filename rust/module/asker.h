/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the functions that ask about a folio were called with, as far as it
 * takes inlines and macros of the kernel's headers. One job a function; no
 * policy here.
 */
#ifndef FMI_ASKER_H
#define FMI_ASKER_H

#include <linux/types.h>

struct folio;
struct vm_area_struct;
struct vm_fault;

/**
 * struct fmi_asked - the folio, and the page of it, that somebody asks about
 * @pfn: of the head page
 * @mm: the MM that asks, as an identity
 * @mm_id: the kernel's id of @mm
 * @index: the page, counted from the head page
 * @anon_exclusive: PageAnonExclusive()
 */
struct fmi_asked {
	unsigned long pfn;
	unsigned long mm;
	u32 mm_id;
	u32 index;
	bool anon_exclusive;
};

/* Folios: the caller of the hooked function keeps them. */
bool fmi_asked_folio(const struct folio *folio, unsigned long *pfn);
bool fmi_folio_anon(const struct folio *folio);
bool fmi_folio_swapbacked(const struct folio *folio);
bool fmi_folio_swapcache(const struct folio *folio);
bool fmi_lazyfree_by_ptes(const struct folio *folio);
unsigned int fmi_folio_order(const struct folio *folio);

/* VMAs. */
bool fmi_vma_shared(const struct vm_area_struct *vma);
bool fmi_vma_exec(const struct vm_area_struct *vma);
bool fmi_vma_cow(const struct vm_area_struct *vma);
bool fmi_vma_reaped(const struct vm_area_struct *vma);

/* Faults and PMDs. */
struct vm_area_struct *fmi_fault_vma(const struct vm_fault *vmf);
bool fmi_fault_pte(const struct vm_fault *vmf, struct fmi_asked *asked);
bool fmi_fault_pmd(const struct vm_fault *vmf, struct fmi_asked *asked);
const struct vm_area_struct *fmi_walked_vma(unsigned long walk);
bool fmi_pmd_folio(const struct vm_area_struct *vma, pmd_t *pmd,
		   unsigned long *pfn);

/* mbind() wants every folio, not only those of one process. */
bool fmi_mbind_move_all(unsigned long flags);

bool fmi_irqs_off(void);

#endif
