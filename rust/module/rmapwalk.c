// SPDX-License-Identifier: GPL-2.0
/*
 * The VMAs that a walk over the reverse map visits, and their MMs: none of the
 * kernel's own walks is exported, and neither are the iterators of the interval
 * trees.
 */
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/interval_tree_generic.h>
#include <linux/memory_hotplug.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include "compat.h"
#include "rmapwalk.h"

/* Attempts to lock an anon_vma, a millisecond apart: for a report; for one folio of many. */
#define ANON_VMA_TRIES	1000
#define ANON_VMA_FEW	4

static inline unsigned long fmi_vma_first(struct vm_area_struct *vma)
{
	return vma->vm_pgoff;
}

INTERVAL_TREE_DEFINE(struct vm_area_struct, shared.rb, unsigned long,
		     shared.rb_subtree_last, fmi_vma_first, vma_last_pgoff,
		     static inline, fmi_vma_tree)

static inline unsigned long fmi_avc_first(struct anon_vma_chain *avc)
{
	return fmi_vma_anon_pgoff(avc->vma);
}

static inline unsigned long fmi_avc_last(struct anon_vma_chain *avc)
{
	return fmi_vma_anon_pgoff(avc->vma) + vma_pages(avc->vma) - 1;
}

INTERVAL_TREE_DEFINE(struct anon_vma_chain, rb, unsigned long,
		     rb_subtree_last, fmi_avc_first, fmi_avc_last,
		     static inline, fmi_avc_tree)

/* What is done with each VMA, under the lock of the anon_vma or i_mmap. */
struct fmi_rmap_visitor {
	void (*visit)(struct fmi_rmap_visitor *v, struct vm_area_struct *vma);
	unsigned long active;	/* anon_vma->num_active_vmas */
	int tries;		/* to lock the anon_vma */
	bool try_i_mmap;	/* do not wait for the i_mmap */
};

/*
 * Locks the anon_vma of a locked folio for reading, as
 * folio_lock_anon_vma_read() does; __put_anon_vma() is not exported, so where
 * that would take a reference to sleep, this tries again.
 *
 * Return: NULL if the folio is not mapped, or -EAGAIN.
 */
static struct anon_vma *lock_anon_vma(struct folio *folio, int tries)
{
	for (; tries > 0; tries--) {
		struct anon_vma *anon_vma, *root;
		unsigned long mapping;

		rcu_read_lock();
		mapping = (unsigned long)READ_ONCE(folio->mapping);
		if ((mapping & FOLIO_MAPPING_FLAGS) != FOLIO_MAPPING_ANON ||
		    !folio_mapped(folio)) {
			rcu_read_unlock();
			return NULL;
		}
		anon_vma = (void *)(mapping - FOLIO_MAPPING_ANON);
		root = READ_ONCE(anon_vma->root);
		if (down_read_trylock(&root->rwsem)) {
			/* Still mapped: it cannot go away, see anon_vma_free(). */
			if (!folio_mapped(folio)) {
				up_read(&root->rwsem);
				anon_vma = NULL;
			}
			rcu_read_unlock();
			return anon_vma;
		}
		rcu_read_unlock();
		if (fatal_signal_pending(current))
			break;
		fsleep(USEC_PER_MSEC);
	}
	return ERR_PTR(-EAGAIN);
}

static int anon_vmas(struct folio *folio, struct fmi_rmap_visitor *v)
{
	pgoff_t first = folio->index;
	pgoff_t last = first + folio_nr_pages(folio) - 1;
	struct anon_vma *anon_vma = lock_anon_vma(folio, v->tries);
	struct anon_vma_chain *avc;

	if (IS_ERR(anon_vma))
		return PTR_ERR(anon_vma);
	if (!anon_vma)
		return -ENOENT;
	v->active = anon_vma->num_active_vmas;
	for (avc = fmi_avc_tree_iter_first(&anon_vma->rb_root, first, last);
	     avc; avc = fmi_avc_tree_iter_next(avc, first, last)) {
		v->visit(v, avc->vma);
		cond_resched();
	}
	up_read(&anon_vma->root->rwsem);
	return 0;
}

static int file_vmas(struct folio *folio, struct fmi_rmap_visitor *v)
{
	pgoff_t first = folio->index;
	pgoff_t last = first + folio_nr_pages(folio) - 1;
	struct address_space *mapping = folio->mapping;
	struct vm_area_struct *vma;

	if (!mapping)
		return -ENOENT;
	if (!i_mmap_trylock_read(mapping)) {
		if (v->try_i_mmap)
			return -EAGAIN;
		i_mmap_lock_read(mapping);
	}
	for (vma = fmi_vma_tree_iter_first(&mapping->i_mmap, first, last);
	     vma; vma = fmi_vma_tree_iter_next(vma, first, last)) {
		v->visit(v, vma);
		cond_resched();
	}
	i_mmap_unlock_read(mapping);
	return 0;
}

/* Visits the VMAs of a folio that is locked. */
static int visit_vmas(struct folio *folio, struct fmi_rmap_visitor *v)
{
	return folio_test_anon(folio) ? anon_vmas(folio, v) : file_vmas(folio, v);
}

/* Of pages in which a device keeps its struct pages there is no struct page that is initialised. */
static bool is_reserved(struct dev_pagemap *pgmap, unsigned long pfn)
{
	struct vmem_altmap *altmap = pgmap_altmap(pgmap);

	return altmap && pfn < altmap->base_pfn + vmem_altmap_offset(altmap);
}

/**
 * fmi_folio_get - find the folio that a page belongs to, and take a reference
 * @pfn: any page frame number, also of memory of a device
 *
 * Return: NULL if there is no such page, or it is free.
 */
struct folio *fmi_folio_get(unsigned long pfn)
{
	struct page *page = pfn_to_online_page(pfn);
	struct dev_pagemap *pgmap = NULL;
	struct folio *folio;

	if (!page) {
		pgmap = get_dev_pagemap(pfn);
		if (!pgmap)
			return NULL;
		if (is_reserved(pgmap, pfn)) {
			put_dev_pagemap(pgmap);
			return NULL;
		}
		page = pfn_to_page(pfn);
	}
	folio = page_folio(page);
	if (folio_try_get(folio)) {
		if (page_folio(page) != folio) {
			folio_put(folio);
			folio = NULL;
		}
	} else {
		folio = NULL;
	}
	put_dev_pagemap(pgmap);
	return folio;
}

struct counting {
	struct fmi_rmap_visitor v;
	unsigned long nr;
};

static void count_vma(struct fmi_rmap_visitor *v, struct vm_area_struct *vma)
{
	container_of(v, struct counting, v)->nr++;
}

/**
 * fmi_rmap_vmas - count the VMAs in the reverse map of a folio
 * @pfn: head page
 * @order: order that the folio is expected to have
 * @vmas: result
 *
 * Context: may sleep; locks the folio, then its anon_vma or i_mmap for reading.
 * Return: -ENOENT if there is no such folio, or it is not mapped; -EINVAL if
 * its reverse map is of another kind (hugetlb, KSM, device memory); -EAGAIN if
 * its anon_vma was always being changed; -EINTR.
 */
int fmi_rmap_vmas(unsigned long pfn, unsigned int order,
		  struct fmi_rmap_vmas *vmas)
{
	struct counting c = { .v.visit = count_vma, .v.tries = ANON_VMA_TRIES };
	struct folio *folio = fmi_folio_get(pfn);
	int ret;

	memset(vmas, 0, sizeof(*vmas));
	if (!folio)
		return -ENOENT;
	ret = folio_lock_killable(folio);
	if (ret)
		goto put;
	vmas->anon = folio_test_anon(folio);
	if (folio_order(folio) != order || folio_pfn(folio) != pfn)
		ret = -ENOENT;
	else if (folio_test_hugetlb(folio) || folio_test_ksm(folio) ||
		 folio_is_zone_device(folio))
		ret = -EINVAL;
	else
		ret = visit_vmas(folio, &c.v);
	vmas->nr = c.nr;
	vmas->active = c.v.active;
	folio_unlock(folio);
put:
	folio_put(folio);
	return ret;
}

struct collecting {
	struct fmi_rmap_visitor v;
	struct mm_struct **mms;
	size_t room;
	size_t found;
};

/* A VMA that is in a reverse map has an MM. */
static void collect_mm(struct fmi_rmap_visitor *v, struct vm_area_struct *vma)
{
	struct collecting *c = container_of(v, struct collecting, v);

	if (c->found < c->room) {
		mmgrab(vma->vm_mm);
		c->mms[c->found] = vma->vm_mm;
	}
	c->found++;
}

/**
 * fmi_rmap_mms - take a reference to each MM in the reverse map of a folio
 * @pfn: a page of the folio
 * @mms: result; the same MM may appear more than once
 * @room: capacity of @mms
 * @found: result, the number found; only the first @room are stored, each with a
 *	reference on the structure
 *
 * These are the MMs of VMAs that cover any of the folio's range: among them all that
 * map it, whether a task has them or not.
 *
 * Context: may sleep; takes the locks of fmi_rmap_vmas(), that of the folio, and of a
 * hugetlb folio that of the i_mmap, only if nobody else has it.
 * Return: 0; -EAGAIN if one could not be had, or the anon_vma was being changed;
 * -ENOENT if there is no folio, or it has no reverse map.
 */
int fmi_rmap_mms(unsigned long pfn, struct mm_struct **mms, size_t room,
		 size_t *found)
{
	struct collecting c = {
		.v.visit = collect_mm, .v.tries = ANON_VMA_FEW,
		.mms = mms, .room = room,
	};
	struct folio *folio = fmi_folio_get(pfn);
	int ret = -EAGAIN;

	*found = 0;
	if (!folio)
		return -ENOENT;
	if (folio_trylock(folio)) {
		/* Of hugetlb folios the lock of the folio comes last (mm/rmap.c). */
		c.v.try_i_mmap = folio_test_hugetlb(folio);
		ret = folio_test_ksm(folio) ? -ENOENT : visit_vmas(folio, &c.v);
		folio_unlock(folio);
	}
	*found = c.found;
	folio_put(folio);
	return ret;
}
