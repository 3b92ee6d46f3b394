// SPDX-License-Identifier: GPL-2.0
/*
 * hugetlb: entries of all sizes, and tables of PMDs that several MMs share.
 *
 * An entry may be a PUD, a PMD, a PTE or a group of PMDs or PTEs, always of one
 * folio: one mapping of all of it.
 */
#include <linux/fs.h>
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/pgtable.h>
#include <linux/sched.h>
#include "hugetlb.h"
#include "shims.h"

/* Entries that are looked at for one table of the budget. */
#define ENTRIES_PER_TABLE 64

#ifdef CONFIG_HUGETLB_PMD_PAGE_TABLE_SHARING
/* The PUD for @addr, or NULL. */
static pud_t *pud_of(struct mm_struct *mm, unsigned long addr)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;

	if (pgd_none(pgdp_get(pgd)) || pgd_bad(pgdp_get(pgd)))
		return NULL;
	p4d = p4d_offset(pgd, addr);
	if (p4d_none(p4dp_get(p4d)) || p4d_bad(p4dp_get(p4d)))
		return NULL;
	return pud_offset(p4d, addr);
}

static void site_in_table(struct fmi_site *site, struct page *table,
			  unsigned long va)
{
	site->table = page_to_pfn(table);
	site->table_base = va & ~PUD_MASK;
	site->table_shared = ptdesc_pmd_is_shared(page_ptdesc(table));
}

/**
 * fmi_site_table - note the table that a hugetlb entry is in, if others may
 *	share it
 * @site: the entry
 * @vma: its VMA
 * @va: its address
 *
 * Context: under the lock of the table, without which nobody unshares it.
 */
void fmi_site_table(struct fmi_site *site, const struct vm_area_struct *vma,
		    unsigned long va)
{
	pud_t *pudp, pud;

	site->table = 0;
	if (!(vma->vm_flags & VM_MAYSHARE) || site->order != PMD_SHIFT - PAGE_SHIFT)
		return;
	pudp = pud_of(vma->vm_mm, va);
	if (!pudp)
		return;
	pud = pudp_get(pudp);
	if (pud_present(pud) && !pud_leaf(pud))
		site_in_table(site, pud_page(pud), va);
}

/**
 * fmi_walk_table - call back for each entry of a table that is shared
 * @mm: one of the MMs that share it
 * @table: page of the table
 * @leaf: called for each present entry, under the lock of the table
 * @ctx: first argument of @leaf
 *
 * Context: atomic; the table stays, because one more MM was counted.
 *
 * Return: number of entries.
 */
unsigned int fmi_walk_table(struct mm_struct *mm, struct page *table,
			    void (*leaf)(void *ctx, const struct fmi_site *site),
			    void *ctx)
{
	pmd_t *pmd = page_address(table);
	spinlock_t *ptl = pmd_lockptr(mm, pmd);
	unsigned int i, nr = 0;

	spin_lock(ptl);
	for (i = 0; i < PTRS_PER_PMD; i++) {
		pmd_t val = pmdp_get(pmd + i);
		struct fmi_site site = {
			.order = PMD_SHIFT - PAGE_SHIFT,
			.nr = 1U << (PMD_SHIFT - PAGE_SHIFT),
			.kind = FMI_KIND_HUGETLB,
			.class = FMI_CLASS_TRACK,
			.entire = true,
		};

		if (!pmd_present(val) || !pmd_leaf(val))
			continue;
		site.pfn = pmd_pfn(val);
		site_in_table(&site, table, (unsigned long)i << PMD_SHIFT);
		leaf(ctx, &site);
		nr++;
	}
	spin_unlock(ptl);
	return nr;
}
#else
void fmi_site_table(struct fmi_site *site, const struct vm_area_struct *vma,
		    unsigned long va)
{
	site->table = 0;
}

unsigned int fmi_walk_table(struct mm_struct *mm, struct page *table,
			    void (*leaf)(void *ctx, const struct fmi_site *site),
			    void *ctx)
{
	return 0;
}
#endif

#ifdef CONFIG_HUGETLB_PAGE
/* The entry for @addr, or NULL: huge_pte_offset() is not exported. */
static pte_t *huge_entry(struct mm_struct *mm, unsigned long addr, unsigned long sz)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd;

	if (pgd_none(pgdp_get(pgd)) || pgd_bad(pgdp_get(pgd)))
		return NULL;
	p4d = p4d_offset(pgd, addr);
	if (p4d_none(p4dp_get(p4d)) || p4d_bad(p4dp_get(p4d)))
		return NULL;
	pud = pud_offset(p4d, addr);
	if (sz == PUD_SIZE)
		return (pte_t *)pud;
	if (!pud_present(pudp_get(pud)) || pud_leaf(pudp_get(pud)))
		return NULL;
	pmd = pmd_offset(pud, addr);
	if (sz >= PMD_SIZE)
		return (pte_t *)pmd;
	if (!pmd_present(pmdp_get(pmd)) || pmd_leaf(pmdp_get(pmd)))
		return NULL;
	return pte_offset_huge(pmd, addr);
}

static void walk_entry(const struct fmi_walk *w, struct hstate *h, unsigned long addr)
{
	struct mm_struct *mm = w->vma->vm_mm;
	unsigned long sz = huge_page_size(h);
	pte_t *ptep = huge_entry(mm, addr, sz);
	spinlock_t *ptl; /* of the table that the entry is in */
	pte_t pte;

	if (!ptep) {
		if (w->mark)
			w->mark(w->ctx, addr, addr + sz);
		return;
	}
	ptl = huge_pte_lock(h, mm, ptep);
	/* Of a group of entries the first one says what all of them map. */
	pte = READ_ONCE(*ptep);
	if (pte_present(pte)) {
		struct page *page = pte_page(pte);
		struct fmi_site site;

		fmi_site_of_entry(page_folio(page), page, 1U << huge_page_order(h),
				  w->vma, addr, true, w->all, &site);
		w->leaf(w->ctx, addr, &site);
	}
	if (w->mark)
		w->mark(w->ctx, addr, addr + sz);
	spin_unlock(ptl);
}

/**
 * fmi_walk_hugetlb - call back for each entry in a part of a hugetlb VMA
 * @walk: what to walk; @walk->vma is not NULL and maps hugetlb folios
 * @budget: tables to look into, counted down, or NULL for no limit
 * @next: where to go on; @walk->end when all of it was walked
 *
 * Context: process context, the mmap lock is held. Sleeps. Nobody unshares a
 * table without the lock of the mapping for write.
 */
void fmi_walk_hugetlb(const struct fmi_walk *walk, unsigned int *budget,
		      unsigned long *next)
{
	struct hstate *h = hstate_vma(walk->vma);
	struct address_space *mapping = walk->vma->vm_file->f_mapping;
	/* An entry in front of the range is told of with the range that it begins in. */
	unsigned long addr = ALIGN(walk->start, huge_page_size(h));
	unsigned int nr = 0;

	i_mmap_lock_read(mapping);
	for (; addr < walk->end; addr += huge_page_size(h)) {
		if (budget && !(nr++ % ENTRIES_PER_TABLE)) {
			if (!*budget)
				break;
			--*budget;
		}
		walk_entry(walk, h, addr);
		if (walk->resched)
			cond_resched();
	}
	i_mmap_unlock_read(mapping);
	*next = min(addr, walk->end);
}
#else
void fmi_walk_hugetlb(const struct fmi_walk *walk, unsigned int *budget,
		      unsigned long *next)
{
	*next = walk->end;
}
#endif
