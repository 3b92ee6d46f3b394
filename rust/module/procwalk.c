// SPDX-License-Identifier: GPL-2.0
/*
 * A walk that sees what smaps, pagemap and numa_maps see (fs/proc/task_mmu.c),
 * and the other counters that /proc and memory.stat show. None of the kernel's
 * own walkers is exported.
 */
#include <linux/cgroup.h>
#include <linux/hugetlb.h>
#include <linux/leafops.h>
#include <linux/memcontrol.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/nodemask.h>
#include <linux/pgtable.h>
#include <linux/sched.h>
#include <linux/vmstat.h>
#include "leafwalk.h"
#include "procwalk.h"
#include "shims.h"

/**
 * fmi_vma_has_rss - whether what a VMA maps is part of Rss and Pss
 * @vma: the VMA
 *
 * VM_PFNMAP is left out by the kernel's walker; hugetlb has fields of its own
 * in smaps, which do not depend on per-page counts.
 */
bool fmi_vma_has_rss(const struct vm_area_struct *vma)
{
	return !(vma->vm_flags & VM_PFNMAP) && !is_vm_hugetlb_page(vma);
}

/* vm_normal_page() of a special entry. */
static struct page *special_page(struct vm_area_struct *vma, unsigned long addr)
{
#ifdef CONFIG_FIND_NORMAL_PAGE
	if (vma->vm_ops && vma->vm_ops->find_normal_page)
		return vma->vm_ops->find_normal_page(vma, addr);
#endif
	return NULL;
}

static struct page *pte_page_of(struct vm_area_struct *vma, unsigned long addr,
				pte_t pte, struct fmi_mapped *m)
{
	softleaf_t entry;

	if (pte_present(pte)) {
		m->present = true;
		m->present_entry = true;
		return pte_special(pte) ? special_page(vma, addr) : pte_page(pte);
	}
	if (pte_none(pte))
		return NULL;
	entry = softleaf_from_pte(pte);
	if (!softleaf_has_pfn(entry))
		return NULL;
	m->present = softleaf_is_device_private(entry);
	return softleaf_to_page(entry);
}

static struct page *pmd_page_of(struct vm_area_struct *vma, unsigned long addr,
				pmd_t pmd, struct fmi_mapped *m)
{
	softleaf_t entry;

	if (pmd_present(pmd)) {
		m->present = true;
		m->present_entry = true;
		return pmd_special(pmd) ? special_page(vma, addr) : pmd_page(pmd);
	}
	if (pmd_none(pmd))
		return NULL;
	entry = softleaf_from_pmd(pmd);
	return softleaf_has_pfn(entry) ? softleaf_to_page(entry) : NULL;
}

static int page_mapcount_of(const struct page *page)
{
	int mapcount = atomic_read(&page->_mapcount) + 1;

	return page_mapcount_is_type(mapcount) ? 0 : mapcount;
}

static unsigned int kind_of(const struct folio *folio)
{
	if (folio_test_anon(folio))
		return folio_test_ksm(folio) ? FMI_KIND_KSM : FMI_KIND_ANON;
	return folio_test_swapbacked(folio) ? FMI_KIND_SHMEM : FMI_KIND_FILE;
}

/* The fields that are the same for all pages of a folio. */
static void read_folio(struct folio *folio, struct page *page, bool pmd,
		       struct fmi_mapped *m)
{
	m->pfn = folio_pfn(folio);
	m->order = folio_order(folio);
	m->kind = kind_of(folio);
	if (!m->present)
		return;
	if (folio_test_large(folio)) {
		m->large = folio_large_mapcount(folio);
		m->entire = folio_entire_mapcount(folio);
		m->nr_pages_mapped = atomic_read(&folio->_nr_pages_mapped);
	} else {
		m->large = atomic_read(&folio->_mapcount) + 1;
	}
	m->refcount = folio_ref_count(folio);
	m->shared = folio_maybe_mapped_shared(folio);
	m->numa = m->present_entry && !PageReserved(page) &&
		  (pmd || !folio_is_zone_device(folio)) &&
		  node_isset(folio_nid(folio), node_states[N_MEMORY]);
}

static void tell(const struct fmi_procwalk *w, const struct fmi_mapped *m)
{
	if (m->nr)
		w->mapped(w->ctx, m);
}

/* Neighbours that are alike are told at once. */
static void walk_ptes(void *ctx, pte_t *ptep, unsigned long addr,
		      unsigned long end)
{
	const struct fmi_procwalk *w = ctx;
	struct fmi_mapped run = {};
	struct folio *folio = NULL;

	for (; addr != end; addr += PAGE_SIZE, ptep++) {
		struct fmi_mapped m = {};
		struct page *page;

		page = pte_page_of(w->vma, addr, ptep_get(ptep), &m);
		if (!page)
			continue;
		m.page = m.present ? page_mapcount_of(page) : 0;
		if (page_folio(page) == folio && m.page == run.page &&
		    m.present == run.present &&
		    m.present_entry == run.present_entry) {
			run.nr++;
			run.mappings++;
			continue;
		}
		tell(w, &run);
		folio = page_folio(page);
		read_folio(folio, page, false, &m);
		m.looked = m.page;
		m.nr = 1;
		m.mappings = 1;
		run = m;
	}
	tell(w, &run);
}

static void walk_huge_pmd(void *ctx, pmd_t pmd, unsigned long addr)
{
	const struct fmi_procwalk *w = ctx;
	struct fmi_mapped m = {};
	struct page *page = pmd_page_of(w->vma, addr, pmd, &m);
	unsigned long i, nr;

	if (!page)
		return;
	read_folio(page_folio(page), page, true, &m);
	nr = compound_nr(page);
	m.mappings = 1;
	if (!m.present) {
		m.nr = nr;
		tell(w, &m);
		return;
	}
	m.looked = page_mapcount_of(page);
	m.page = m.looked;
	for (i = 0; i < nr; i++) {
		int mapcount = page_mapcount_of(page + i);

		if (mapcount != m.page) {
			tell(w, &m);
			m.page = mapcount;
			m.nr = 0;
			m.mappings = 0;
		}
		m.nr++;
	}
	tell(w, &m);
}

/**
 * fmi_procwalk_range - call back for each mapped page in a range of a VMA
 * @walk: what to walk; see struct fmi_procwalk
 *
 * Context: process context, the mmap lock is held. Takes the PTLs, for a part of
 * a page table at a time.
 *
 * Return: where to go on; @walk->end when all of it was walked.
 */
unsigned long fmi_procwalk_range(struct fmi_procwalk *walk)
{
	struct fmi_leafwalk leafwalk = {
		.vma = walk->vma,
		.start = walk->start,
		.end = walk->end,
		.budget = walk->budget,
		.ptes = walk_ptes,
		.pmd = walk_huge_pmd,
		.ctx = walk,
	};
	unsigned long next = fmi_leafwalk_range(&leafwalk);

	walk->budget = leafwalk.budget;
	return next;
}

bool fmi_has_page_mapcounts(void)
{
	return IS_ENABLED(CONFIG_PAGE_MAPCOUNT);
}

void fmi_cond_resched(void)
{
	cond_resched();
}

/* As exact as /proc/meminfo: what CPUs keep to themselves is missing. */
void fmi_read_vmstat(struct fmi_vmstat *vmstat)
{
	vmstat->anon_mapped = global_node_page_state(NR_ANON_MAPPED);
	vmstat->file_mapped = global_node_page_state(NR_FILE_MAPPED);
	vmstat->shmem = global_node_page_state(NR_SHMEM);
	vmstat->anon_thps = global_node_page_state(NR_ANON_THPS);
}

/**
 * fmi_folio_memcg - the memory cgroup that a folio is charged to
 * @pfn: head page
 * @order: order that the folio is expected to have
 * @ino: result: inode number of the cgroup
 * @path: result, or NULL: path of the cgroup in its hierarchy
 * @size: of @path
 *
 * Return: false if there is no folio of that order, or it is not charged.
 */
bool fmi_folio_memcg(unsigned long pfn, unsigned int order, u64 *ino, char *path,
		     size_t size)
{
#ifdef CONFIG_MEMCG
	struct page *page = pfn_to_online_page(pfn);
	struct mem_cgroup *memcg;

	if (!page || !PageHead(page) || folio_order((struct folio *)page) != order)
		return false;
	rcu_read_lock();
	/* Also valid if the page is none of a folio any more. */
	memcg = folio_memcg_check((struct folio *)page);
	if (memcg) {
		*ino = cgroup_ino(memcg->css.cgroup);
		if (path && cgroup_path(memcg->css.cgroup, path, size) < 0)
			strscpy(path, "?", size);
	}
	rcu_read_unlock();
	return memcg;
#else
	return false;
#endif
}
