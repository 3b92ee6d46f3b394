// SPDX-License-Identifier: GPL-2.0
/*
 * What mremap moves: the argument of move_page_tables(), and what rmap_move of a
 * kernel with tracepoints points at.
 */
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include "hugetlb.h"
#include "leafwalk.h"
#include "shims.h"
#include "tracepoints.h"

/*
 * struct pagetable_move_control of mm/internal.h, which headers packages lack.
 * Read-only; what is read is checked below.
 */
struct fmi_pagetable_move_control {
	struct vm_area_struct *old;
	struct vm_area_struct *new;
	unsigned long old_addr;
	unsigned long old_end;
	unsigned long new_addr;
	unsigned long len_in;
	bool need_rmap_locks;
	bool for_stack;
};

/**
 * fmi_read_move - read the argument of move_page_tables()
 * @pmc: the argument
 * @move: result
 *
 * Return: false if it does not look like one (another kernel's layout).
 */
bool fmi_read_move(unsigned long pmc, struct fmi_move *move)
{
	const struct fmi_pagetable_move_control *c = (void *)pmc;

	if (c->old_end - c->old_addr != c->len_in || !c->old || !c->new ||
	    c->old->vm_mm != c->new->vm_mm ||
	    ((c->old_addr | c->old_end | c->new_addr) & ~PAGE_MASK))
		return false;
	move->old_vma = c->old;
	move->new_vma = c->new;
	move->old_addr = c->old_addr;
	move->new_addr = c->new_addr;
	move->len = c->len_in;
	return true;
}

/*
 * The mover holds two locks of PMD tables, the second one with
 * SINGLE_DEPTH_NESTING; those of PTE tables are in the same class.
 */
#define MOVED_NESTING	(SINGLE_DEPTH_NESTING + 1)

struct moved {
	const struct fmi_tp_move *move;
	void (*leaf)(void *ctx, const struct fmi_site *site);
	void *ctx;
	unsigned long tables;
};

static void moved_leaf(const struct moved *m, struct page *page, unsigned int nr,
		       unsigned long va, bool entire)
{
	struct fmi_site site = {};

	fmi_site_of_trace(page_folio(page), page, nr, m->move->new_vma, va, entire,
			  false, &site);
	m->leaf(m->ctx, &site);
}

static void moved_batch(void *ctx, struct page *page, unsigned int nr, unsigned long va)
{
	moved_leaf(ctx, page, nr, va, false);
}

static void moved_pmd(const struct moved *m, pmd_t val, unsigned long va)
{
	struct page *page = fmi_pmd_mapped_page(val);

	if (page)
		moved_leaf(m, page, 0, va & PMD_MASK, true);
}

/* Return: whether the lock has to be given back. */
static bool lock_moved(const struct moved *m, spinlock_t *ptl)
{
	/* Without split locks there is only this one, and the mover holds it. */
	if (ptl == &m->move->new_vma->vm_mm->page_table_lock)
		return false;
	spin_lock_nested(ptl, MOVED_NESTING);
	return true;
}

static void moved_pte_table(struct moved *m, pmd_t val, unsigned long va)
{
	spinlock_t *ptl = pte_lockptr(m->move->new_vma->vm_mm, &val);
	bool locked = lock_moved(m, ptl);

	m->tables++;
	fmi_pte_batches(pte_offset_kernel(&val, va), va, va + PMD_SIZE, moved_batch, m);
	if (locked)
		spin_unlock(ptl);
}

/* Return: false if the entry has become a table. */
static bool moved_pmd_entry(struct moved *m, pmd_t *pmd, unsigned long va)
{
	spinlock_t *ptl = pmd_lockptr(m->move->new_vma->vm_mm, pmd);
	bool locked = lock_moved(m, ptl);
	pmd_t val = pmdp_get(pmd);
	bool table = pmd_present(val) && !pmd_leaf(val);

	if (!table)
		moved_pmd(m, val, va);
	if (locked)
		spin_unlock(ptl);
	return !table;
}

static void moved_pmd_table(struct moved *m, pud_t val, unsigned long va)
{
	pmd_t *pmd = pud_pgtable(val);
	int i;

	for (i = 0; i < PTRS_PER_PMD; i++, pmd++, va += PMD_SIZE) {
		pmd_t pmdval = pmdp_get_lockless(pmd);

		if (pmd_none(pmdval))
			continue;
		if (!pmd_present(pmdval) || pmd_leaf(pmdval)) {
			if (moved_pmd_entry(m, pmd, va))
				continue;
			pmdval = pmdp_get_lockless(pmd);
		}
		/* Where the mover holds the lock of this level nobody frees a table. */
		if (!pmd_bad(pmdval))
			moved_pte_table(m, pmdval, va);
	}
}

/* Of ZONE_DEVICE only. */
static void moved_pud(const struct moved *m, pud_t val, unsigned long va)
{
	struct page *page = fmi_pud_mapped_page(val);

	if (page)
		moved_leaf(m, page, 0, va & PUD_MASK, true);
}

static void moved_hugetlb(const struct moved *m, pte_t val)
{
	struct page *page;

	if (!pte_present(val))
		return;
	page = pte_page(val);
	moved_leaf(m, page, 0, m->move->new_addr, true);
}

/**
 * fmi_moved_from - note the table that a hugetlb entry was in before it moved
 * @move: what the tracepoint has said
 * @site: the entry; its table is that of the old address afterwards
 *
 * Context: the probe of rmap_move, both page-table locks are held.
 */
void fmi_moved_from(const struct fmi_tp_move *move, struct fmi_site *site)
{
	if (move->kind == FMI_TP_MOVE_HUGETLB)
		fmi_site_table(site, move->old_vma, move->old_addr);
}

/**
 * fmi_walk_moved - call back for each mapping of a large folio that has moved
 * @move: what the tracepoint has said. @move->entry points at entries that are
 *	at the new address already (PTEs, of hugetlb one), or at the value of an
 *	entry that maps a folio or a table
 * @leaf: called for each of them, with the new address; must not sleep
 * @ctx: first argument of the callback
 *
 * Of a table that is moving nobody changes an entry: the mover holds the mmap
 * lock for writing, and the rmap locks. Its own lock is taken all the same, for
 * those who found a table of PTEs before and go by no other lock.
 *
 * Context: the probe of rmap_move, both page-table locks are held.
 *
 * Return: the number of tables that were walked.
 */
unsigned long fmi_walk_moved(const struct fmi_tp_move *move,
			     void (*leaf)(void *ctx, const struct fmi_site *site),
			     void *ctx)
{
	struct moved m = { .move = move, .leaf = leaf, .ctx = ctx };

	switch (move->kind) {
	case FMI_TP_MOVE_PTES:
	case FMI_TP_MOVE_UFFD:
		fmi_pte_batches(move->entry, move->new_addr, move->new_addr + move->len,
				moved_batch, &m);
		break;
	case FMI_TP_MOVE_PMD_LEAF:
		moved_pmd(&m, *(const pmd_t *)move->entry, move->new_addr);
		break;
	case FMI_TP_MOVE_PMD_TABLE:
		moved_pte_table(&m, *(const pmd_t *)move->entry, move->new_addr);
		break;
	case FMI_TP_MOVE_PUD_TABLE:
		moved_pmd_table(&m, *(const pud_t *)move->entry, move->new_addr);
		break;
	case FMI_TP_MOVE_HUGETLB:
		moved_hugetlb(&m, *(const pte_t *)move->entry);
		break;
	case FMI_TP_MOVE_PUD_LEAF:
		moved_pud(&m, *(const pud_t *)move->entry, move->new_addr);
		break;
	default:
		break;
	}
	return m.tables;
}
