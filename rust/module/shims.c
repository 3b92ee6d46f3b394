// SPDX-License-Identifier: GPL-2.0
/*
 * Kernel inlines and macros made callable from Rust; see shims.h.
 */
#include <linux/fprobe.h>
#include <linux/ftrace.h>
#include <linux/huge_mm.h>
#include <linux/hugetlb.h>
#include <linux/memory_hotplug.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/percpu.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include "compat.h"
#include "faults.h"
#include "first.h"
#include "shims.h"

/* === Geometry === */

unsigned int fmi_page_shift(void)
{
	return PAGE_SHIFT;
}

unsigned int fmi_pmd_order(void)
{
	return PMD_SHIFT - PAGE_SHIFT;
}

/* The largest folio that is mapped through rmap: anon and file alike. */
unsigned int fmi_max_order(void)
{
	return max_t(unsigned int, PMD_SHIFT - PAGE_SHIFT, MAX_PAGECACHE_ORDER);
}

unsigned long fmi_totalram_pages(void)
{
	return totalram_pages();
}

/* === Hook arguments === */

unsigned long fmi_arg(struct ftrace_regs *fregs, unsigned int n)
{
	return ftrace_regs_get_argument(fregs, n);
}

/* The first FMI_RMAP_ARGS arguments. */
void fmi_rmap_args(struct ftrace_regs *fregs, unsigned long *args)
{
	args[0] = ftrace_regs_get_argument(fregs, 0);
	args[1] = ftrace_regs_get_argument(fregs, 1);
	args[2] = ftrace_regs_get_argument(fregs, 2);
	args[3] = ftrace_regs_get_argument(fregs, 3);
	args[4] = ftrace_regs_get_argument(fregs, 4);
}

unsigned long fmi_ret(struct ftrace_regs *fregs)
{
	return ftrace_regs_get_return_value(fregs);
}

static DEFINE_PER_CPU(u64 [FMI_NR_CLASSES], fmi_class_events);

notrace void fmi_first_rmap(unsigned long ip, unsigned long parent_ip,
			    struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	const struct folio *folio = (void *)ftrace_regs_get_argument(fregs, 0);

	if (folio_test_large(folio))
		fmi_pass_on(ip, parent_ip, ops, fregs);
	else
		this_cpu_inc(fmi_class_events[FMI_CLASS_SMALL]);
}

/* The @n-th address of a registered fprobe, as ftrace has it. */
unsigned long fmi_fprobe_addr(const struct fprobe *fp, unsigned int n)
{
	const struct fprobe_hlist *list = fp->hlist_array;

	return n < list->size ? list->array[n].addr : 0;
}

/* === VMA fields === */

struct mm_struct *fmi_vma_mm(const struct vm_area_struct *vma)
{
	return vma->vm_mm;
}

unsigned long fmi_vma_start(const struct vm_area_struct *vma)
{
	return vma->vm_start;
}

unsigned long fmi_vma_end(const struct vm_area_struct *vma)
{
	return vma->vm_end;
}

bool fmi_vma_is_hugetlb(const struct vm_area_struct *vma)
{
	return is_vm_hugetlb_page(vma);
}

/**
 * fmi_fork_copies - whether copy_page_range() may copy entries of a VMA
 * @dst: the child's VMA
 * @src: the parent's VMA
 *
 * vma_needs_copy() leaves alone what page faults bring back. hugetlb is left out,
 * which is not tracked where this is asked.
 *
 * Context: both mmap locks are held for writing, which keep @src from getting an
 * anon_vma; nobody else can reach @dst to change its flags.
 */
bool fmi_fork_copies(const struct vm_area_struct *dst,
		     const struct vm_area_struct *src)
{
	if (is_vm_hugetlb_page(src))
		return false;
	return fmi_flags_copy(dst) || src->anon_vma;
}

/* === Events that are counted, not tracked === */

/* Context: preemption off. */
void fmi_class_add(unsigned int class)
{
	if (class < FMI_NR_CLASSES)
		this_cpu_inc(fmi_class_events[class]);
}

u64 fmi_class_sum(unsigned int class)
{
	u64 sum = 0;
	int cpu;

	if (class >= FMI_NR_CLASSES)
		return 0;
	for_each_possible_cpu(cpu)
		sum += READ_ONCE(per_cpu(fmi_class_events, cpu)[class]);
	return sum;
}

/* Counts that race with the reset on another CPU may survive it. */
void fmi_class_reset(void)
{
	int cpu, class;

	for_each_possible_cpu(cpu)
		for (class = 0; class < FMI_NR_CLASSES; class++)
			WRITE_ONCE(per_cpu(fmi_class_events, cpu)[class], 0);
}

/* Something that cannot be undone may call this module: it is not to be unloaded. */
void fmi_stay_loaded(void)
{
	__module_get(THIS_MODULE);
}

/* === The kernel's counters === */

/*
 * Without a reference a folio may be freed, and become a part of another one, at
 * any moment. So nothing here may ask by the kernel's accessors: with
 * CONFIG_DEBUG_VM they check what they are asked about.
 */

/*
 * The folio whose head page is @pfn, if it is one of order @order now. The pages of a
 * device may go: they stay until put_dev_pagemap(@pgmap).
 */
static struct folio *folio_at(unsigned long pfn, unsigned int order,
			      struct dev_pagemap **pgmap)
{
	struct folio *folio = (struct folio *)pfn_to_online_page(pfn);

	*pgmap = NULL;
	if (unlikely(!folio)) {
		*pgmap = get_dev_pagemap(pfn);
		if (!*pgmap)
			return NULL;
		folio = (struct folio *)pfn_to_page(pfn);
	}
	if (test_bit(PG_head, &folio->flags.f) && folio_large_order(folio) == order)
		return folio;
	put_dev_pagemap(*pgmap);
	return NULL;
}

/**
 * fmi_pfn_is_device - whether a page is memory of a device (ZONE_DEVICE)
 * @pfn: any page frame number
 *
 * Context: any.
 */
bool fmi_pfn_is_device(unsigned long pfn)
{
	struct dev_pagemap *pgmap = pfn_to_online_page(pfn) ? NULL : get_dev_pagemap(pfn);

	put_dev_pagemap(pgmap);
	return pgmap;
}

static bool in_swapcache(const struct folio *folio)
{
	return test_bit(PG_swapbacked, &folio->flags.f) &&
	       test_bit(PG_swapcache, &folio->flags.f);
}

/* What folio_expected_ref_count() says. */
static int expected_refs(const struct folio *folio, unsigned int order, int mapcount,
			 bool swapcache)
{
	int refs = mapcount;

	refs += swapcache << order;
	if (!folio_test_anon(folio)) {
		refs += !!READ_ONCE(folio->mapping) << order;
		refs += test_bit(PG_private, &folio->flags.f);
	}
	return refs;
}

/* What folio_maybe_mapped_shared() says. */
static bool maybe_mapped_shared(const struct folio *folio, int mapcount)
{
	return mapcount > 1 &&
	       (folio_test_hugetlb(folio) ||
		test_bit(FOLIO_MM_IDS_SHARED_BITNUM, &folio->_mm_ids));
}

/**
 * fmi_counts_of - read the kernel's counters of a folio
 * @folio: large folio; it may go at any time, unless a running rmap call keeps it
 * @order: its order
 * @counts: result
 *
 * Lockless: the values are consistent with each other only if no rmap call on
 * the folio is in flight. Who saw a counter that a copy has changed sees its
 * window afterwards.
 */
void fmi_counts_of(const struct folio *folio, unsigned int order,
		   struct fmi_counts *counts)
{
	int i;

	counts->large = atomic_read(&folio->_large_mapcount) + 1;
	counts->entire = atomic_read(&folio->_entire_mapcount) + 1;
	counts->per_page = IS_ENABLED(CONFIG_PAGE_MAPCOUNT);
	counts->nr_pages_mapped = atomic_read(&folio->_nr_pages_mapped);
	counts->refcount = folio_ref_count(folio);
	counts->swapcache = in_swapcache(folio);
	counts->expected_refs = expected_refs(folio, order, counts->large, counts->swapcache);
	for (i = 0; i < 2; i++) {
		counts->mm_id[i] = READ_ONCE(folio->_mm_id[i]) & MM_ID_MASK;
		counts->mm_id_mapcount[i] = READ_ONCE(folio->_mm_id_mapcount[i]) + 1;
	}
	counts->shared_bit = test_bit(FOLIO_MM_IDS_SHARED_BITNUM, &folio->_mm_ids);
	counts->maybe_mapped_shared = maybe_mapped_shared(folio, counts->large);
	counts->partially_mapped = test_bit(PG_partially_mapped,
					    &folio_page(folio, 1)->flags.f);
	counts->anon = folio_test_anon(folio);
	counts->order = order;
	/* Who looks for open windows afterwards looks after this. */
	smp_rmb();
}

/**
 * fmi_folio_counts - the same of the folio at a place, which nobody need hold
 * @pfn: head page
 * @order: order that the folio is expected to have
 * @counts: result
 *
 * Return: false if there is no folio of that order there.
 */
bool fmi_folio_counts(unsigned long pfn, unsigned int order,
		      struct fmi_counts *counts)
{
	struct dev_pagemap *pgmap;
	struct folio *folio = folio_at(pfn, order, &pgmap);

	if (!folio)
		return false;
	fmi_counts_of(folio, order, counts);
	put_dev_pagemap(pgmap);
	return true;
}

/**
 * fmi_page_mapcounts - read page->_mapcount of pages of a folio
 * @pfn: head page
 * @order: order that the folio is expected to have
 * @first: first page
 * @counts: result, bias removed: mappings by PTE
 * @nr: number of pages
 *
 * Return: false if there is no such folio or these counts are not maintained:
 * with CONFIG_NO_PAGE_MAPCOUNT, and of hugetlb.
 */
bool fmi_page_mapcounts(unsigned long pfn, unsigned int order,
			unsigned int first, int *counts, unsigned int nr)
{
	struct dev_pagemap *pgmap;
	struct folio *folio;
	unsigned int i;
	bool there;

	if (!IS_ENABLED(CONFIG_PAGE_MAPCOUNT) || first >= 1U << order ||
	    nr > (1U << order) - first)
		return false;
	folio = folio_at(pfn, order, &pgmap);
	if (!folio)
		return false;
	there = !folio_test_hugetlb(folio);
	for (i = 0; there && i < nr; i++)
		counts[i] = atomic_read(&folio_page(folio, first + i)->_mapcount) + 1;
	put_dev_pagemap(pgmap);
	return there;
}

/**
 * fmi_page_anon_exclusive - whether a page is marked as exclusive to its MM
 * @pfn: head page
 * @order: order that the folio is expected to have
 * @i: page, counted from the head; 0 if a PMD maps the folio
 *
 * Return: PageAnonExclusive(), which must not be asked of other pages; false
 * if there is no such anonymous folio.
 */
bool fmi_page_anon_exclusive(unsigned long pfn, unsigned int order,
			     unsigned int i)
{
	struct dev_pagemap *pgmap;
	struct folio *folio = folio_at(pfn, order, &pgmap);
	bool exclusive;

	if (!folio)
		return false;
	exclusive = folio_test_anon(folio) && i < 1U << order &&
		    test_bit(PG_anon_exclusive, &folio_page(folio, i)->flags.f);
	put_dev_pagemap(pgmap);
	return exclusive;
}

/* === Tasks and MMs === */

struct task_struct *fmi_current(void)
{
	return current;
}

/* The thread id in the initial namespace. */
int fmi_current_pid(void)
{
	return task_pid_nr(current);
}

/*
 * The MM of @vma with the id that the kernel's owner slots use for it, and the
 * running task with its thread id in the initial namespace.
 */
void fmi_caller_in(const struct vm_area_struct *vma, struct fmi_caller *caller)
{
	struct mm_struct *mm = vma->vm_mm;

	caller->mm = (unsigned long)mm;
	caller->mm_id = mm->mm_id;
	caller->task = (unsigned long)current;
	caller->pid = task_pid_nr(current);
}

/*
 * Whether the exit hooks see the running task: one that was being forked when
 * they were placed has no return stack, for life.
 */
bool fmi_current_has_return_stack(void)
{
#ifdef FMI_FAULTS
	if (fmi_fault_no_stack())
		return false;
#endif
	return current->ret_stack;
}

/**
 * fmi_collect_mms - take a reference to the MM of every process
 * @mms: result; the same MM may appear more than once
 * @nr: capacity of @mms
 *
 * Return: the number found; only the first @nr are stored, each with a
 * reference on the structure.
 */
size_t fmi_collect_mms(struct mm_struct **mms, size_t nr)
{
	struct task_struct *p, *t;
	size_t found = 0;

	rcu_read_lock();
	for_each_process(p) {
		for_each_thread(p, t) {
			struct mm_struct *mm = NULL;

			task_lock(t);
			if (t->mm && !(t->flags & PF_KTHREAD)) {
				mm = t->mm;
				if (found < nr)
					mmgrab(mm);
			}
			task_unlock(t);
			if (mm) {
				if (found < nr)
					mms[found] = mm;
				found++;
				break;
			}
		}
	}
	rcu_read_unlock();
	return found;
}

/* Take a reference to the users of an MM, if there are any left. */
bool fmi_mmget_not_zero(struct mm_struct *mm)
{
	return mmget_not_zero(mm);
}

void fmi_mmdrop(struct mm_struct *mm)
{
	mmdrop(mm);
}

/**
 * fmi_mm_owner - a process that uses an MM
 * @mm: compared as a pointer, never dereferenced unless a task has it
 * @owner: result
 *
 * Return: false if no process uses it.
 */
bool fmi_mm_owner(const struct mm_struct *mm, struct fmi_owner *owner)
{
	struct task_struct *p, *t;
	bool found = false;

	rcu_read_lock();
	for_each_process_thread(p, t) {
		if (READ_ONCE(t->mm) != mm || (t->flags & PF_KTHREAD))
			continue;
		task_lock(t);
		found = t->mm == mm;
		if (found)
			owner->mm_id = mm->mm_id;
		task_unlock(t);
		if (!found)
			continue;
		owner->pid = task_tgid_nr(t);
		strscpy(owner->comm, p->comm, sizeof(owner->comm));
		goto out;
	}
out:
	rcu_read_unlock();
	return found;
}

/* The MM of a process, with a reference; @pid 0 is the caller. */
struct mm_struct *fmi_mm_of_pid(int pid)
{
	struct mm_struct *mm = NULL;
	struct task_struct *task;
	struct pid *p;

	if (!pid)
		return get_task_mm(current);
	p = find_get_pid(pid);
	task = get_pid_task(p, PIDTYPE_PID);
	if (task) {
		mm = get_task_mm(task);
		put_task_struct(task);
	}
	put_pid(p);
	return mm;
}

int fmi_mmap_read_lock_killable(struct mm_struct *mm)
{
	return mmap_read_lock_killable(mm);
}

void fmi_mmap_read_unlock(struct mm_struct *mm)
{
	mmap_read_unlock(mm);
}
