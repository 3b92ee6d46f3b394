// SPDX-License-Identifier: GPL-2.0
/*
 * How many VMAs a walk over the reverse map visits: none of the kernel's own
 * walks is exported, and neither are the iterators of the interval trees.
 */
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/interval_tree_generic.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/sched.h>
#include "compat.h"
#include "rmapwalk.h"

/* Attempts to lock an anon_vma, a millisecond apart. */
#define ANON_VMA_TRIES	1000

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

/*
 * Locks the anon_vma of a locked folio for reading, as
 * folio_lock_anon_vma_read() does; __put_anon_vma() is not exported, so where
 * that would take a reference to sleep, this tries again.
 *
 * Return: NULL if the folio is not mapped, or -EAGAIN.
 */
static struct anon_vma *lock_anon_vma(struct folio *folio)
{
	int tries;

	for (tries = 0; tries < ANON_VMA_TRIES; tries++) {
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

static int anon_vmas(struct folio *folio, struct fmi_rmap_vmas *vmas)
{
	pgoff_t first = folio->index;
	pgoff_t last = first + folio_nr_pages(folio) - 1;
	struct anon_vma *anon_vma = lock_anon_vma(folio);
	struct anon_vma_chain *avc;

	if (IS_ERR(anon_vma))
		return PTR_ERR(anon_vma);
	if (!anon_vma)
		return -ENOENT;
	vmas->active = anon_vma->num_active_vmas;
	for (avc = fmi_avc_tree_iter_first(&anon_vma->rb_root, first, last);
	     avc; avc = fmi_avc_tree_iter_next(avc, first, last)) {
		vmas->nr++;
		cond_resched();
	}
	up_read(&anon_vma->root->rwsem);
	return 0;
}

static int file_vmas(struct folio *folio, struct fmi_rmap_vmas *vmas)
{
	pgoff_t first = folio->index;
	pgoff_t last = first + folio_nr_pages(folio) - 1;
	struct address_space *mapping = folio->mapping;
	struct vm_area_struct *vma;

	if (!mapping)
		return -ENOENT;
	i_mmap_lock_read(mapping);
	for (vma = fmi_vma_tree_iter_first(&mapping->i_mmap, first, last);
	     vma; vma = fmi_vma_tree_iter_next(vma, first, last)) {
		vmas->nr++;
		cond_resched();
	}
	i_mmap_unlock_read(mapping);
	return 0;
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
	struct page *page = pfn_to_online_page(pfn);
	struct folio *folio;
	int ret;

	memset(vmas, 0, sizeof(*vmas));
	if (!page)
		return -ENOENT;
	folio = page_folio(page);
	if (!folio_try_get(folio))
		return -ENOENT;
	ret = -ENOENT;
	if (page_folio(page) != folio)
		goto put;
	ret = folio_lock_killable(folio);
	if (ret)
		goto put;
	vmas->anon = folio_test_anon(folio);
	if (folio_order(folio) != order || folio_pfn(folio) != pfn)
		ret = -ENOENT;
	else if (folio_test_hugetlb(folio) || folio_test_ksm(folio) ||
		 folio_is_zone_device(folio))
		ret = -EINVAL;
	else if (vmas->anon)
		ret = anon_vmas(folio, vmas);
	else
		ret = file_vmas(folio, vmas);
	folio_unlock(folio);
put:
	folio_put(folio);
	return ret;
}
