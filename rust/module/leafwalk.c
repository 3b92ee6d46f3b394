// SPDX-License-Identifier: GPL-2.0
/*
 * The way down the page tables under one VMA, one lock at a time. None of the
 * kernel's own walkers is exported.
 */
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/sched.h>
#include "leafwalk.h"
#include "measure.h"

/* Entries looked at under one hold of the lock of a page table. */
#define MAX_PTES 128

/* PMD entries without a table that cost as much as one with. */
#define MAX_HOLES 64

/* Return: false if the entry is no table any more. */
static bool walk_ptes(const struct fmi_leafwalk *w, pmd_t *pmd,
		      unsigned long addr, unsigned long end)
{
	struct mm_struct *mm = w->vma->vm_mm;
	spinlock_t *ptl;	/* of the page table at val */
	struct fmi_timer timer;
	bool same = false;
	pmd_t val;

	/* RCU keeps a table that is read here until its lock has been taken. */
	rcu_read_lock();
	val = pmdp_get_lockless(pmd);
	if (!pmd_present(val) || pmd_leaf(val))
		goto out;
	if (pmd_bad(val)) {
		same = true;
		goto out;
	}
	ptl = pte_lockptr(mm, &val);
	spin_lock(ptl);
	fmi_timer_begin(&timer);
	same = pmd_same(val, pmdp_get_lockless(pmd));
	if (same)
		w->ptes(w->ctx, pte_offset_kernel(&val, addr), addr, end);
	fmi_timer_end(&timer, FMI_TIMER_PAGE_TABLE, 0);
	spin_unlock(ptl);
out:
	rcu_read_unlock();
	return same;
}

/* Return: false if the entry has become a table. */
static bool walk_pmd(const struct fmi_leafwalk *w, pmd_t *pmd, unsigned long addr)
{
	spinlock_t *ptl = pmd_lock(w->vma->vm_mm, pmd);
	pmd_t val = pmdp_get(pmd);
	bool table = pmd_present(val) && !pmd_leaf(val);

	if (!table)
		w->pmd(w->ctx, val, addr);
	spin_unlock(ptl);
	return !table;
}

static void walk_pud(const struct fmi_leafwalk *w, pud_t *pud, unsigned long addr)
{
	spinlock_t *ptl = pud_lock(w->vma->vm_mm, pud);
	pud_t val = pudp_get(pud);

	if (pud_present(val) && pud_leaf(val))
		w->pud(w->ctx, val, addr);
	spin_unlock(ptl);
}

/* A part of a table at a time; or the entry as a whole, once it is no table any more. */
static void walk_entry(const struct fmi_leafwalk *w, pmd_t *pmd, unsigned long addr,
		       unsigned long end)
{
	while (addr < end) {
		unsigned long next = min(end, (addr | (MAX_PTES * PAGE_SIZE - 1)) + 1);

		if (walk_ptes(w, pmd, addr, next)) {
			addr = next;
			continue;
		}
		if (walk_pmd(w, pmd, addr))
			break;
		cpu_relax();
	}
}

/* The entry for @addr, or NULL: then nothing is left to look at before @next. */
static pmd_t *find_pmd(const struct fmi_leafwalk *w, unsigned long addr,
		       unsigned long *next)
{
	pgd_t *pgd = pgd_offset(w->vma->vm_mm, addr);
	pud_t *pud, val;
	p4d_t *p4d;

	*next = pgd_addr_end(addr, w->end);
	if (pgd_none(pgdp_get(pgd)) || pgd_bad(pgdp_get(pgd)))
		return NULL;
	p4d = p4d_offset(pgd, addr);
	*next = p4d_addr_end(addr, w->end);
	if (p4d_none(p4dp_get(p4d)) || p4d_bad(p4dp_get(p4d)))
		return NULL;
	pud = pud_offset(p4d, addr);
	*next = pud_addr_end(addr, w->end);
	val = pudp_get(pud);
	if (pud_none(val))
		return NULL;
	if (pud_leaf(val)) {
		if (w->pud)
			walk_pud(w, pud, addr);
		return NULL;
	}
	if (pud_bad(val))
		return NULL;
	/* A table of PMDs stays while the mmap lock is held. */
	*next = pmd_addr_end(addr, w->end);
	return pmd_offset(pud, addr);
}

/**
 * fmi_leafwalk_range - call back for all entries in a range of a VMA
 * @walk: what to walk; see struct fmi_leafwalk
 *
 * Context: process context, the mmap lock is held. Takes the PTLs, for a part of
 * a page table at a time.
 *
 * Return: where to go on; @walk->end when all of it was walked.
 */
unsigned long fmi_leafwalk_range(struct fmi_leafwalk *walk)
{
	unsigned long addr, next;
	unsigned int holes = 0;

	for (addr = walk->start; addr < walk->end; addr = next) {
		pmd_t *pmd = find_pmd(walk, addr, &next);
		bool hole;

		/* No table of PMDs: at least a gigabyte, with pages of 4 KiB. */
		if (!pmd) {
			cond_resched();
			continue;
		}
		hole = pmd_none(pmdp_get_lockless(pmd));
		if (!hole || ++holes == MAX_HOLES) {
			if (!walk->budget)
				return addr;
			walk->budget--;
			holes = 0;
		}
		if (hole) {
			cond_resched();
			continue;
		}
		walk_entry(walk, pmd, addr, next);
		cond_resched();
	}
	return walk->end;
}
