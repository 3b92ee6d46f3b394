// SPDX-License-Identifier: GPL-2.0
/*
 * A page-table walk for modules: none of the kernel's own walkers is exported.
 *
 * What counts as a mapping: a present entry that is not special, a
 * device-exclusive entry (the mapcount is kept), and a device-private entry
 * (of a ZONE_DEVICE folio, which is tracked with the tracepoints only).
 */
#include <linux/hugetlb.h>
#include <linux/leafops.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/sched.h>
#include "hugetlb.h"
#include "leafwalk.h"
#include "shims.h"

/* No VMA is beyond. An MM's task_size is no limit: a process may change its personality. */
#ifdef CONFIG_ARM64
#define USER_END TASK_SIZE_64
#else
#define USER_END TASK_SIZE_MAX
#endif

/*
 * Bits of an entry that are those of the pfn, whatever the size of a physical address. All others
 * have to be equal: flags, and what else belongs to the pfn there.
 */
#define PFN_BITS GENMASK_ULL(45, PAGE_SHIFT)

static void mark(const struct fmi_walk *w, unsigned long start, unsigned long end)
{
	if (w->mark)
		w->mark(w->ctx, start, end);
}

/*
 * An entry as it is. ptep_get() of arm64 reads all entries of a contiguous block, for each of them,
 * to know whether one is young or dirty; what an entry maps it says itself.
 *
 * Context: under the PTL.
 */
static __always_inline pte_t read_entry(const pte_t *ptep)
{
	return READ_ONCE(*ptep);
}

static __always_inline struct page *pte_mapped_page(pte_t pte)
{
	if (pte_present(pte))
		return pte_special(pte) ? NULL : pte_page(pte);
	if (!pte_none(pte)) {
		softleaf_t entry = softleaf_from_pte(pte);

		if (softleaf_is_device_exclusive(entry) ||
		    softleaf_is_device_private(entry))
			return softleaf_to_page(entry);
	}
	return NULL;
}

static void emit(const struct fmi_walk *w, struct page *page, unsigned int nr,
		 unsigned long va, bool entire)
{
	struct fmi_site site;

	fmi_site_of_entry(page_folio(page), page, nr, w->vma, va, entire,
			  w->all, &site);
	if (site.class != FMI_CLASS_SMALL)
		w->leaf(w->ctx, va, &site);
}

/*
 * By how much the entry of the next page differs from one that maps a page of a folio, in memory;
 * 0 if that is not known. A guest of Xen keeps other frames there than pte_val() says. Inside a
 * folio nothing is carried out of the bits that differ from page to page.
 */
static __always_inline pteval_t step_of(pte_t pte)
{
#ifdef CONFIG_X86
	if (cpu_feature_enabled(X86_FEATURE_XENPV))
		return 0;
#endif
	if (!pte_present(pte))
		return 0;
	return pte_val(pte_advance_pfn(pte, 1)) - pte.pte;
}

/* Whether the pfn of an entry is not kept inverted, as x86-64 does without access rights. */
static __always_inline bool is_upright(pte_t pte)
{
	return step_of(pte) == PAGE_SIZE;
}

/*
 * How many entries from @ptep on, at most @max, have the values @val, @val + @step, and so on.
 * Four at a time: the loop costs as much as an entry.
 */
static __always_inline unsigned int nr_alike(const pte_t *ptep, pteval_t val, pteval_t step,
					     unsigned int max)
{
	const pte_t *at = ptep, *end = ptep + max;

	for (; end - at >= 4; at += 4) {
		if (read_entry(at).pte != val)
			return at - ptep;
		val += step;
		if (read_entry(at + 1).pte != val)
			return at + 1 - ptep;
		val += step;
		if (read_entry(at + 2).pte != val)
			return at + 2 - ptep;
		val += step;
		if (read_entry(at + 3).pte != val)
			return at + 3 - ptep;
		val += step;
	}
	for (; at != end && read_entry(at).pte == val; at++)
		val += step;
	return at - ptep;
}

/*
 * How many entries from @ptep on, at most @max, map consecutive pages of the folio of
 * @page. Most have the same flags as the first, @pte; the others are looked at.
 */
static noinline unsigned int run_of(const pte_t *ptep, pte_t pte, struct page *page,
				    unsigned long max)
{
	struct folio *folio = page_folio(page);
	unsigned long left = folio_nr_pages(folio) - folio_page_idx(folio, page);
	pteval_t step = step_of(pte);
	unsigned int nr = 1;

	if (max > left)
		max = left;
	for (; nr < max; nr++) {
		if (step) {
			nr += nr_alike(ptep + nr, pte.pte + nr * step, step, max - nr);
			if (nr == max)
				break;
		}
		if (pte_mapped_page(read_entry(ptep + nr)) != page + nr)
			break;
	}
	return nr;
}

/**
 * fmi_pte_batches - call back for the mappings of large folios by some PTEs
 * @ptep: the first entry
 * @addr: its address
 * @end: address behind the last one
 * @batch: called for each run of entries that map consecutive pages of one
 *	folio, with the first page, the number of pages and the address
 * @ctx: first argument of the callback
 *
 * Context: under the PTL.
 */
void fmi_pte_batches(const pte_t *ptep, unsigned long addr, unsigned long end,
		     void (*batch)(void *ctx, struct page *page, unsigned int nr,
				   unsigned long va),
		     void *ctx)
{
	const pte_t *const end_ptep = ptep + ((end - addr) >> PAGE_SHIFT);
	const pte_t *const first = ptep;
	/* Beside those of the pfn no entry has all bits set: special, of every cache and key. */
	pteval_t known = ~0ULL;
	struct page *known_page = NULL;

	/* Its struct page is as far from another one as the pfn is. */
	BUILD_BUG_ON(!IS_ENABLED(CONFIG_SPARSEMEM_VMEMMAP));
	for (; ptep != end_ptep; ptep++) {
		pte_t pte = read_entry(ptep);
		struct page *page;
		unsigned int nr;

		if (pte_none(pte))
			continue;
		/* Most entries differ from an earlier one in the pfn only. */
		if (!((pte.pte ^ known) & ~PFN_BITS)) {
			page = known_page + ((s64)(pte.pte - known) >> PAGE_SHIFT);
			VM_WARN_ON_ONCE(page != pte_page(pte));
		} else {
			page = pte_mapped_page(pte);
			if (!page)
				continue;
			if (is_upright(pte)) {
				known = pte.pte;
				known_page = page;
			}
		}
		if (!PageCompound(page))
			continue;
		nr = run_of(ptep, pte, page, end_ptep - ptep);
		batch(ctx, page, nr, addr + (ptep - first) * PAGE_SIZE);
		ptep += nr - 1;
	}
}

static void emit_batch(void *ctx, struct page *page, unsigned int nr, unsigned long va)
{
	emit(ctx, page, nr, va, false);
}

static void walk_ptes(const struct fmi_walk *w, pte_t *ptep, unsigned long addr,
		      unsigned long end)
{
	fmi_pte_batches(ptep, addr, end, emit_batch, (void *)w);
}

/**
 * fmi_pmd_mapped_page - what a PMD maps as a whole
 * @val: value of the entry
 *
 * Return: the first page of a folio of that size, or NULL.
 */
struct page *fmi_pmd_mapped_page(pmd_t val)
{
	struct page *page;

	if (pmd_is_device_private_entry(val))
		page = softleaf_to_page(softleaf_from_pmd(val));
	else if (pmd_present(val) && pmd_leaf(val) && !pmd_special(val))
		page = pmd_page(val);
	else
		return NULL;
	if (!PageHead(page) || folio_order(page_folio(page)) != PMD_SHIFT - PAGE_SHIFT)
		return NULL;
	return page;
}

/**
 * fmi_pud_mapped_page - what a PUD maps as a whole
 * @val: value of the entry
 *
 * Return: the first page of a folio of that size, or NULL.
 */
struct page *fmi_pud_mapped_page(pud_t val)
{
	struct page *page;

	if (!pud_present(val) || !pud_leaf(val) || pud_special(val))
		return NULL;
	page = pud_page(val);
	if (!PageHead(page) || folio_order(page_folio(page)) != PUD_SHIFT - PAGE_SHIFT)
		return NULL;
	return page;
}

static void emit_pmd(const struct fmi_walk *w, pmd_t val, unsigned long addr)
{
	struct page *page = fmi_pmd_mapped_page(val);

	if (page)
		emit(w, page, 1U << (PMD_SHIFT - PAGE_SHIFT), addr & PMD_MASK, true);
}

/* A PMD that is no table: a leaf, a non-present entry or nothing. */
static bool walk_pmd_entry(const struct fmi_walk *w, pmd_t *pmd,
			   unsigned long addr, unsigned long end)
{
	spinlock_t *ptl = pmd_lock(w->mm, pmd);
	pmd_t val = pmdp_get(pmd);
	bool table = pmd_present(val) && !pmd_leaf(val);

	if (!table) {
		emit_pmd(w, val, addr);
		mark(w, addr, end);
	}
	spin_unlock(ptl);
	return !table;
}

/* Return: false if the entry is no table any more. */
static bool walk_pte_table(const struct fmi_walk *w, pmd_t *pmd,
			   unsigned long addr, unsigned long end)
{
	spinlock_t *ptl;	/* of the page table at val */
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
	ptl = pte_lockptr(w->mm, &val);
	spin_lock(ptl);
	same = pmd_same(val, pmdp_get_lockless(pmd));
	if (same) {
		walk_ptes(w, pte_offset_kernel(&val, addr), addr, end);
		mark(w, addr, end);
	}
	spin_unlock(ptl);
out:
	rcu_read_unlock();
	return same;
}

/*
 * @pud is not read again: a table that MMs share may go from there at any moment,
 * with hugetlb's own locks only. The table stays while preemption is off: it is
 * freed by RCU.
 * Return: true to stop.
 */
static bool walk_pmds(const struct fmi_walk *w, pud_t *pud, pud_t val,
		      unsigned long addr, unsigned long end)
{
	pmd_t *pmd = pmd_offset_lockless(pud, val, addr);
	unsigned long next;

	BUILD_BUG_ON(__is_defined(__PAGETABLE_PMD_FOLDED));
	for (; addr != end; addr = next, pmd++) {
		next = pmd_addr_end(addr, end);
		if (pmd == w->stop_pmd)
			return true;
		while (!walk_pte_table(w, pmd, addr, next) &&
		       !walk_pmd_entry(w, pmd, addr, next))
			cpu_relax();
		if (w->resched)
			cond_resched();
	}
	return false;
}

/*
 * Nothing below an upper entry: a new table can be installed only under
 * page_table_lock, so look again under it before saying so.
 */
static bool mark_absent(const struct fmi_walk *w, pud_t *pud, p4d_t *p4d,
			pgd_t *pgd, unsigned long addr, unsigned long end)
{
	bool absent;

	if (!w->mark)
		return true;
	spin_lock(&w->mm->page_table_lock);
	if (pud)
		absent = pud_none(pudp_get(pud));
	else if (p4d)
		absent = p4d_none(p4dp_get(p4d));
	else
		absent = pgd_none(pgdp_get(pgd));
	if (absent)
		w->mark(w->ctx, addr, end);
	spin_unlock(&w->mm->page_table_lock);
	return absent;
}

/* Return: false if the entry is no leaf any more. */
static bool walk_pud_leaf(const struct fmi_walk *w, pud_t *pud, unsigned long addr,
			  unsigned long end)
{
	spinlock_t *ptl = pud_lock(w->mm, pud);
	pud_t val = pudp_get(pud);
	bool leaf = pud_leaf(val);

	if (leaf) {
		struct page *page = fmi_pud_mapped_page(val);

		/* Who walks a part at a time is told once. */
		if (page && IS_ALIGNED(addr, PUD_SIZE))
			emit(w, page, 1U << (PUD_SHIFT - PAGE_SHIFT), addr, true);
		mark(w, addr, end);
	}
	spin_unlock(ptl);
	return leaf;
}

static bool walk_puds(const struct fmi_walk *w, p4d_t *p4d, unsigned long addr,
		      unsigned long end)
{
	pud_t *pud = pud_offset(p4d, addr);
	unsigned long next;

	for (; addr != end; addr = next, pud++) {
		next = pud_addr_end(addr, end);
		do {
			pud_t val;

			do
				val = pudp_get(pud);
			while (pud_leaf(val) && !walk_pud_leaf(w, pud, addr, next));
			if (pud_leaf(val))
				break;
			if (pud_none(val))
				continue;
			if (!pud_bad(val) && walk_pmds(w, pud, val, addr, next))
				return true;
			break;
		} while (!mark_absent(w, pud, NULL, NULL, addr, next));
	}
	return false;
}

static bool walk_p4ds(const struct fmi_walk *w, pgd_t *pgd, unsigned long addr,
		      unsigned long end)
{
	p4d_t *p4d = p4d_offset(pgd, addr);
	unsigned long next;

	for (; addr != end; addr = next, p4d++) {
		next = p4d_addr_end(addr, end);
		do {
			p4d_t val = p4dp_get(p4d);

			if (p4d_none(val))
				continue;
			if (!p4d_bad(val) && walk_puds(w, p4d, addr, next))
				return true;
			break;
		} while (!mark_absent(w, NULL, p4d, NULL, addr, next));
	}
	return false;
}

/**
 * fmi_walk_range - call back for each mapping of a large folio in a range
 * @walk: what to walk; see struct fmi_walk. What is beyond user space is left
 *	out.
 *
 * Context: process context; atomic unless @walk->resched. Takes the PTLs.
 */
void fmi_walk_range(const struct fmi_walk *walk)
{
	unsigned long addr = walk->start, next;
	unsigned long end = min(walk->end, USER_END);
	pgd_t *pgd;

	if (addr >= end)
		return;
	if (walk->vma && is_vm_hugetlb_page(walk->vma)) {
		fmi_walk_hugetlb(walk, NULL, &next);
		return;
	}
	pgd = pgd_offset(walk->mm, addr);
	for (; addr != end; addr = next, pgd++) {
		next = pgd_addr_end(addr, end);
		do {
			pgd_t val = pgdp_get(pgd);

			if (pgd_none(val))
				continue;
			if (!pgd_bad(val) && walk_p4ds(walk, pgd, addr, next))
				return;
			break;
		} while (!mark_absent(walk, NULL, NULL, pgd, addr, next));
	}
}

static void some_ptes(void *ctx, pte_t *ptep, unsigned long addr,
		      unsigned long end)
{
	walk_ptes(ctx, ptep, addr, end);
}

static void some_pud(void *ctx, pud_t pud, unsigned long addr)
{
	struct page *page = fmi_pud_mapped_page(pud);

	if (page)
		emit(ctx, page, 1U << (PUD_SHIFT - PAGE_SHIFT), addr & PUD_MASK, true);
}

static void some_pmd(void *ctx, pmd_t pmd, unsigned long addr)
{
	emit_pmd(ctx, pmd, addr);
}

/**
 * fmi_walk_some - the same for a VMA, as far as a budget goes
 * @walk: what to walk; @walk->vma is not NULL, and the range is inside it.
 *	There are no marks, and no stop.
 * @budget: page tables to look into; counted down
 *
 * Context: process context, the mmap lock is held. Takes the PTLs, sleeps
 * between page tables.
 *
 * Return: where to go on; @walk->end when all of it was walked.
 */
unsigned long fmi_walk_some(const struct fmi_walk *walk, unsigned int *budget)
{
	struct fmi_leafwalk leafwalk = {
		.vma = walk->vma,
		.start = walk->start,
		.end = walk->end,
		.budget = *budget,
		.ptes = some_ptes,
		.pmd = some_pmd,
		.pud = some_pud,
		.ctx = (void *)walk,
	};
	unsigned long next;

	if (is_vm_hugetlb_page(walk->vma)) {
		fmi_walk_hugetlb(walk, budget, &next);
		return next;
	}
	next = fmi_leafwalk_range(&leafwalk);
	*budget = leafwalk.budget;
	return next;
}

/**
 * fmi_vma_is_at - whether a VMA is in the tree of an MM
 * @mm: the MM
 * @vma: the VMA; compared only
 * @addr: an address
 *
 * Context: any; the MM is in use by the caller.
 *
 * Return: whether @addr is in @vma.
 */
bool fmi_vma_is_at(struct mm_struct *mm, const struct vm_area_struct *vma,
		   unsigned long addr)
{
	return mtree_load(&mm->mm_mt, addr) == vma;
}

/**
 * fmi_next_mapped - passes over what has no page tables
 * @mm: the MM
 * @addr: where to begin
 * @end: where to end
 *
 * Context: the mmap lock is held.
 *
 * Return: the first address from @addr on for which there is a table of PMDs, or a
 * PUD that maps something; @end if there is none.
 */
unsigned long fmi_next_mapped(struct mm_struct *mm, unsigned long addr,
			      unsigned long end)
{
	unsigned long next;

	for (; addr < end; addr = next) {
		pgd_t *pgd = pgd_offset(mm, addr);
		p4d_t *p4d;

		next = pgd_addr_end(addr, end);
		if (pgd_none(pgdp_get(pgd)))
			continue;
		p4d = p4d_offset(pgd, addr);
		next = p4d_addr_end(addr, end);
		if (p4d_none(p4dp_get(p4d)))
			continue;
		next = pud_addr_end(addr, end);
		if (!pud_none(pudp_get(pud_offset(p4d, addr))))
			return addr;
	}
	return end;
}
