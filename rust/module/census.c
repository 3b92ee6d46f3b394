// SPDX-License-Identifier: GPL-2.0
/*
 * Every present leaf entry under a VMA. PFN mappings and pages that drivers
 * insert never reach rmap, or reach it as pages that nobody tracks: only the
 * page tables know them.
 */
#include <linux/hugetlb.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/sched.h>
#include <linux/vmstat.h>
#include "census.h"
#include "leafwalk.h"

static const u8 level_order[] = {
	[FMI_LEVEL_PTE] = 0,
	[FMI_LEVEL_PMD] = PMD_SHIFT - PAGE_SHIFT,
	[FMI_LEVEL_PUD] = PUD_SHIFT - PAGE_SHIFT,
};

static unsigned int area_of(const struct vm_area_struct *vma)
{
	if (vma->vm_flags & VM_PFNMAP)
		return FMI_AREA_PFNMAP;
	return vma->vm_flags & VM_MIXEDMAP ? FMI_AREA_MIXEDMAP : FMI_AREA_PLAIN;
}

/* The entry is not special: it keeps the folio, and its lock keeps the entry. */
static unsigned int what_is_folio(const struct folio *folio)
{
	if (is_zero_folio(folio))
		return FMI_WHAT_ZERO;
	if (folio_is_zone_device(folio))
		return FMI_WHAT_ZONE_DEVICE;
	if (folio_test_hugetlb(folio))
		return FMI_WHAT_HUGETLB;
	/* The mapping of such a page may be something else. */
	if (page_has_type(&folio->page))
		return FMI_WHAT_DRIVER;
	if (folio_test_anon(folio))
		return folio_test_ksm(folio) ? FMI_WHAT_KSM : FMI_WHAT_ANON;
	if (!folio->mapping)
		return FMI_WHAT_DRIVER;
	return folio_test_swapbacked(folio) ? FMI_WHAT_SHMEM : FMI_WHAT_FILE;
}

/*
 * Nothing keeps the page of a special entry, so it is not looked at. In a VMA
 * that is neither, only the zero pages are mapped so (vm_normal_page_pmd());
 * the huge one's address is not exported.
 */
static unsigned int what_is_special(unsigned int area, unsigned long pfn,
				    unsigned int level)
{
	if (level == FMI_LEVEL_PTE ? is_zero_pfn(pfn) : area == FMI_AREA_PLAIN)
		return FMI_WHAT_ZERO;
	return pfn_to_online_page(pfn) ? FMI_WHAT_PAGE : FMI_WHAT_NO_PAGE;
}

static struct fmi_leaves leaf_of(const struct fmi_census *c, bool special,
				 unsigned long pfn, unsigned int level)
{
	struct fmi_leaves leaf = {
		.nr = 1,
		.area = area_of(c->vma),
		.order = level_order[level],
		.level = level,
		.special = special,
	};

	if (special || !pfn_valid(pfn)) {
		leaf.what = what_is_special(leaf.area, pfn, level);
	} else {
		const struct folio *folio = page_folio(pfn_to_page(pfn));

		leaf.what = what_is_folio(folio);
		leaf.order = folio_order(folio);
	}
	return leaf;
}

/* Neighbours that are alike are told at once. */
static void census_ptes(void *ctx, pte_t *ptep, unsigned long addr,
			unsigned long end)
{
	const struct fmi_census *c = ctx;
	struct fmi_leaves run = {};

	for (; addr != end; addr += PAGE_SIZE, ptep++) {
		pte_t pte = ptep_get(ptep);
		struct fmi_leaves leaf;

		if (!pte_present(pte))
			continue;
		leaf = leaf_of(c, pte_special(pte), pte_pfn(pte), FMI_LEVEL_PTE);
		if (run.nr && leaf.what == run.what && leaf.order == run.order &&
		    leaf.special == run.special) {
			run.nr++;
			continue;
		}
		if (run.nr)
			c->leaves(c->ctx, &run);
		run = leaf;
	}
	if (run.nr)
		c->leaves(c->ctx, &run);
}

static void census_pmd(void *ctx, pmd_t pmd, unsigned long addr)
{
	const struct fmi_census *c = ctx;
	struct fmi_leaves leaf;

	if (!pmd_present(pmd))
		return;
	leaf = leaf_of(c, pmd_special(pmd), pmd_pfn(pmd), FMI_LEVEL_PMD);
	c->leaves(c->ctx, &leaf);
}

static void census_pud(void *ctx, pud_t pud, unsigned long addr)
{
	const struct fmi_census *c = ctx;
	struct fmi_leaves leaf;

	leaf = leaf_of(c, pud_special(pud), pud_pfn(pud), FMI_LEVEL_PUD);
	c->leaves(c->ctx, &leaf);
}

#ifdef CONFIG_HUGETLB_PAGE
/* Return: enum fmi_level of the entry that is present, or FMI_NR_LEVELS. */
static unsigned int hugetlb_level(struct mm_struct *mm, unsigned long addr)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;
	pud_t *pudp, pud;
	pmd_t pmd;

	if (pgd_none(pgdp_get(pgd)) || pgd_bad(pgdp_get(pgd)))
		return FMI_NR_LEVELS;
	p4d = p4d_offset(pgd, addr);
	if (p4d_none(p4dp_get(p4d)) || p4d_bad(p4dp_get(p4d)))
		return FMI_NR_LEVELS;
	pudp = pud_offset(p4d, addr);
	pud = pudp_get(pudp);
	if (!pud_present(pud))
		return FMI_NR_LEVELS;
	if (pud_leaf(pud))
		return FMI_LEVEL_PUD;
	if (pud_bad(pud))
		return FMI_NR_LEVELS;
	pmd = pmdp_get_lockless(pmd_offset_lockless(pudp, pud, addr));
	if (!pmd_present(pmd))
		return FMI_NR_LEVELS;
	if (pmd_leaf(pmd))
		return FMI_LEVEL_PMD;
	if (pmd_bad(pmd) || !pte_present(ptep_get_lockless(pte_offset_kernel(&pmd, addr))))
		return FMI_NR_LEVELS;
	return FMI_LEVEL_PTE;
}

/*
 * Tables of PMDs may be shared, and be unshared without this MM's lock: who
 * does so interrupts all CPUs before the table can be freed
 * (huge_pmd_unshare_flush()). Only whether an entry is there matters.
 */
static unsigned long census_hugetlb(const struct fmi_census *c)
{
	struct hstate *h = hstate_vma(c->vma);
	unsigned int steps = c->budget * PTRS_PER_PTE / 8;
	unsigned long addr;

	for (addr = c->start; addr < c->end; addr += huge_page_size(h)) {
		struct fmi_leaves leaf = {
			.nr = 1,
			.area = area_of(c->vma),
			.what = FMI_WHAT_HUGETLB,
			.order = huge_page_order(h),
		};

		if (!steps--)
			return addr;
		local_irq_disable();
		leaf.level = hugetlb_level(c->vma->vm_mm, addr);
		local_irq_enable();
		if (leaf.level != FMI_NR_LEVELS)
			c->leaves(c->ctx, &leaf);
		cond_resched();
	}
	return c->end;
}
#else
static unsigned long census_hugetlb(const struct fmi_census *c)
{
	return c->end;
}
#endif

/**
 * fmi_census_range - call back for each present leaf entry in a range of a VMA
 * @census: what to walk; see struct fmi_census
 *
 * Context: process context, the mmap lock is held. Takes the PTLs, for a part of
 * a page table at a time.
 *
 * Return: where to go on; @census->end when all of it was walked.
 */
unsigned long fmi_census_range(struct fmi_census *census)
{
	struct fmi_leafwalk leafwalk = {
		.vma = census->vma,
		.start = census->start,
		.end = census->end,
		.budget = census->budget,
		.ptes = census_ptes,
		.pmd = census_pmd,
		.pud = census_pud,
		.ctx = census,
	};
	unsigned long next;

	if (is_vm_hugetlb_page(census->vma))
		return census_hugetlb(census);
	next = fmi_leafwalk_range(&leafwalk);
	census->budget = leafwalk.budget;
	return next;
}

/**
 * fmi_count_pages - count what AnonPages and Mapped would count without mapcounts
 * @counts: result
 *
 * There is no counter of all anonymous pages. But every page of the page cache,
 * of the swap cache and of anonymous memory is on an LRU list or isolated from
 * one: the anonymous pages are those that are not in the page cache. What waits
 * in the LRU batches of the CPUs is missing, and shmem in the swap cache is
 * taken for anonymous memory.
 *
 * As exact as /proc/meminfo: what CPUs keep to themselves is missing, too.
 */
void fmi_count_pages(struct fmi_page_counts *counts)
{
	long lru = global_node_page_state(NR_ISOLATED_ANON) +
		   global_node_page_state(NR_ISOLATED_FILE);
	enum lru_list list;

	for_each_lru(list)
		lru += global_node_page_state(NR_LRU_BASE + list);
	counts->file = global_node_page_state(NR_FILE_PAGES);
#ifdef CONFIG_SWAP
	counts->file -= global_node_page_state(NR_SWAPCACHE);
#endif
	counts->anon = lru - counts->file;
}
