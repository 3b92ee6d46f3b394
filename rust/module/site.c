// SPDX-License-Identifier: GPL-2.0
/*
 * What a folio is, and where a VMA maps it: fills struct fmi_site, see shims.h.
 */
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include "compat.h"
#include "hugetlb.h"
#include "rmapwalk.h"
#include "shims.h"

/* The type of a folio of FMI_CLASS_TRACK. */
static __always_inline unsigned int tracked_kind(const struct folio *folio)
{
	if (folio_test_anon(folio))
		return folio_test_ksm(folio) ? FMI_KIND_KSM : FMI_KIND_ANON;
	return folio_test_swapbacked(folio) ? FMI_KIND_SHMEM : FMI_KIND_FILE;
}

/* The type of any folio. */
static unsigned int folio_kind(const struct folio *folio)
{
	if (folio_test_hugetlb(folio))
		return FMI_KIND_HUGETLB;
	if (folio_test_anon(folio))
		return tracked_kind(folio);
	if (folio_is_zone_device(folio) ||
	    (folio_test_large(folio) && !folio_test_large_rmappable(folio)))
		return FMI_KIND_DRIVER;
	return tracked_kind(folio);
}

static unsigned int folio_class(const struct folio *folio)
{
	if (!folio_test_large(folio))
		return FMI_CLASS_SMALL;
	if (folio_test_hugetlb(folio))
		return FMI_CLASS_HUGETLB;
	if (folio_is_zone_device(folio))
		return FMI_CLASS_ZONE_DEVICE;
	if (!folio_test_large_rmappable(folio))
		return FMI_CLASS_NOT_RMAPPABLE;
	return FMI_CLASS_TRACK;
}

/*
 * The same where events of all large folios come with their address: then hugetlb,
 * device memory and pages of drivers are tracked, too.
 */
static unsigned int folio_class_at(const struct folio *folio, bool all)
{
	unsigned int class = folio_class(folio);

	return all && class != FMI_CLASS_SMALL ? FMI_CLASS_TRACK : class;
}

/*
 * Whether the pages of @folio are in @vma at vm_start + (index - the page offset
 * of the VMA): true for anon and for the page cache of the mapped file, not for
 * pages that a driver inserted.
 */
static bool folio_linear_in_vma(const struct folio *folio,
				const struct vm_area_struct *vma)
{
	return folio_test_anon(folio) ||
	       (vma->vm_file && vma->vm_file->f_mapping == folio->mapping);
}

static unsigned long folio_base_in_vma(const struct folio *folio,
				       const struct vm_area_struct *vma)
{
	pgoff_t start = folio_test_anon(folio) ? fmi_vma_anon_pgoff(vma) : vma->vm_pgoff;

	return vma->vm_start + ((folio->index - start) << PAGE_SHIFT);
}

static __always_inline void site_fill(struct folio *folio, unsigned int kind, unsigned int first,
				      unsigned int nr, const struct vm_area_struct *vma,
				      struct fmi_site *site)
{
	site->folio = folio;
	site->pfn = folio_pfn(folio);
	site->order = folio_large_order(folio);
	site->kind = kind;
	site->first = first;
	site->nr = nr;
	site->unmapped = folio_large_mapcount(folio) == 0;
	site->table = 0;
	if (vma) {
		site->vma_start = vma->vm_start;
		site->vma_end = vma->vm_end;
	} else {
		site->vma_start = 0;
		site->vma_end = ULONG_MAX;
	}
}

static bool site_inside_vma(const struct fmi_site *site)
{
	unsigned long va = site->base + ((unsigned long)site->first << PAGE_SHIFT);

	return va >= site->vma_start && va < site->vma_end;
}

/**
 * fmi_site_of_call - describe one rmap call at its entry
 * @folio: large folio of the call
 * @page: first page of the call
 * @nr: pages, or 0 for an entire mapping
 * @vma: VMA of the call
 * @addr: address of @page if the call carries one, else ~0UL: the linear rule
 *	gives it
 * @new_anon: the call is folio_add_new_anon_rmap(): @folio has neither anon
 *	mapping nor index yet, all of it is mapped at @addr, by a PMD if it is
 *	PMD-mappable
 * @site: result
 *
 * Context: entry of an rmap function, under the PTL.
 */
void fmi_site_of_call(struct folio *folio, struct page *page, unsigned int nr,
		      struct vm_area_struct *vma, unsigned long addr,
		      bool new_anon, struct fmi_site *site)
{
	bool entire = !nr;
	unsigned int first;

	site->class = folio_class(folio);
	if (site->class != FMI_CLASS_TRACK)
		return;

	if (new_anon)
		entire = folio_test_pmd_mappable(folio);
	site->entire = entire;
	if (new_anon || entire) {
		first = 0;
		nr = folio_nr_pages(folio);
	} else {
		first = folio_page_idx(folio, page);
	}
	site_fill(folio, new_anon ? FMI_KIND_ANON : tracked_kind(folio), first, nr, vma, site);

	if (!new_anon && !folio_linear_in_vma(folio, vma))
		site->class = FMI_CLASS_NONLINEAR;
	else if (addr != ~0UL)
		site->base = addr - ((unsigned long)first << PAGE_SHIFT);
	else
		site->base = folio_base_in_vma(folio, vma);

	if (site->class == FMI_CLASS_TRACK && !site_inside_vma(site))
		site->class = FMI_CLASS_NONLINEAR;
}

/**
 * fmi_site_of_trace - the same for an event of a tracepoint, which has an address
 * @folio: large folio of any class
 * @page: first page
 * @nr: pages; ignored for an entire mapping
 * @vma: VMA of the page table
 * @addr: address of @page, or ~0UL if it is not known: only of a remove
 * @entire: one entry maps the whole folio
 * @new_anon: @folio has neither anon mapping nor index yet, all of it is mapped
 *	at @addr
 * @site: result
 *
 * Without an address the linear rule gives it, where it holds: else it stays
 * unknown.
 *
 * Context: under the PTL.
 */
void fmi_site_of_trace(struct folio *folio, struct page *page, unsigned int nr,
		       const struct vm_area_struct *vma, unsigned long addr,
		       bool entire, bool new_anon, struct fmi_site *site)
{
	unsigned int first = 0, class = folio_class(folio);

	site->class = folio_class_at(folio, true);
	if (site->class != FMI_CLASS_TRACK)
		return;

	if (new_anon && class != FMI_CLASS_HUGETLB)
		entire = folio_test_pmd_mappable(folio);
	site->entire = entire;
	if (new_anon || entire)
		nr = folio_nr_pages(folio);
	else
		first = folio_page_idx(folio, page);
	site_fill(folio, folio_kind(folio), first, nr, vma, site);
	if (new_anon && class != FMI_CLASS_HUGETLB)
		site->kind = FMI_KIND_ANON;

	if (addr != ~0UL)
		site->base = addr - ((unsigned long)first << PAGE_SHIFT);
	else if (class == FMI_CLASS_TRACK && folio_linear_in_vma(folio, vma))
		site->base = folio_base_in_vma(folio, vma);
	else
		site->base = FMI_NO_BASE;

	if (site->base != FMI_NO_BASE && !site_inside_vma(site))
		site->class = FMI_CLASS_NONLINEAR;
	else if (class == FMI_CLASS_HUGETLB && addr != ~0UL)
		fmi_site_table(site, vma, addr);
}

/**
 * fmi_site_of_entry - describe entries that were found in a page table
 * @folio: folio that the entries map
 * @page: page that the first entry maps
 * @nr: number of entries
 * @vma: VMA the entries belong to, or NULL if that is not known
 * @va: address of the first entry
 * @entire: the entry is a PMD
 * @all: every large folio is one that is tracked
 * @site: result
 *
 * Context: under the PTL, which keeps the folio mapped.
 */
void fmi_site_of_entry(struct folio *folio, struct page *page, unsigned int nr,
		       const struct vm_area_struct *vma, unsigned long va,
		       bool entire, bool all, struct fmi_site *site)
{
	unsigned int first = folio_page_idx(folio, page);

	site->class = folio_class_at(folio, all);
	if (site->class == FMI_CLASS_SMALL)
		return;
	site->entire = entire;
	site_fill(folio, folio_kind(folio), first, nr, vma, site);
	site->base = va - ((unsigned long)first << PAGE_SHIFT);
	if (vma && site->kind == FMI_KIND_HUGETLB)
		fmi_site_table(site, vma, va);
	if (all)
		return;
	if (site->class == FMI_CLASS_TRACK && vma &&
	    !(folio_linear_in_vma(folio, vma) &&
	      folio_base_in_vma(folio, vma) == site->base))
		site->class = FMI_CLASS_NONLINEAR;
}

/**
 * fmi_pfn_to_folio - which folio a page belongs to
 * @pfn: any page
 * @head_pfn: its folio's head page
 * @order: the folio's order
 * @class: enum fmi_class
 * @kind: enum fmi_kind
 *
 * Return: false if there is no such page, or it is free.
 */
bool fmi_pfn_to_folio(unsigned long pfn, unsigned long *head_pfn,
		      unsigned int *order, unsigned int *class,
		      unsigned int *kind)
{
	struct folio *folio = fmi_folio_get(pfn);

	if (!folio)
		return false;
	*head_pfn = folio_pfn(folio);
	*order = folio_order(folio);
	*class = folio_class(folio);
	*kind = folio_kind(folio);
	folio_put(folio);
	return true;
}
