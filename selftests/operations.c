// SPDX-License-Identifier: GPL-2.0
/* The table of operations: each operation leaves rows of its own. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_swap.h"
#include "fmi_table.h"
#include "fmi_util.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* What an operation left until now. */
struct op_watch {
	const char *operation;
	long long evaluated;
};

static struct op_watch operation(const char *name)
{
	struct op_watch w = { name, operation_evaluated(name) };

	return w;
}

static void happened(const struct op_watch *w)
{
	long long now = operation_evaluated(w->operation);

	if (now <= w->evaluated)
		fmi_fail("%s: %lld states evaluated, %lld before", w->operation, now,
			 w->evaluated);
}

static void did_not_happen(const struct op_watch *w)
{
	fmi_eq(operation_evaluated(w->operation), w->evaluated, w->operation);
}

/* Wrong answers because of an operation: first_page does not see what is not page 0. */
static long long first_page_episodes(const char *name)
{
	char key[128] = "first_page\tmapped\t";

	return table_value("disagreement_operations", strcat(key, name), "episodes");
}

static void fault(struct fmi_scene *s)
{
	struct op_watch w = operation("fault");

	s_populate(s);
	happened(&w);
}

static void fork_and_exit(struct fmi_scene *s)
{
	struct op_watch w = operation("fork"), exited;

	s_populate(s);
	did_not_happen(&w);
	s_fork(s, 1, 2);
	s_check(s, "forked");
	happened(&w);
	exited = operation("zap_exit");
	s_exit(s, 2);
	s_check(s, "child gone");
	happened(&exited);
}

static void cow(struct fmi_scene *s)
{
	struct op_watch w = operation("cow");
	long long episodes;

	s_populate(s);
	s_fork(s, 1, 2);
	s_check(s, "forked");
	did_not_happen(&w);
	s_cow(s, 1, 0);
	s_check(s, "first page copied");
	happened(&w);
	/* The child's first page goes by a copy, too: now first_page sees nothing. */
	episodes = first_page_episodes("cow");
	s_cow(s, 2, 0);
	s_check(s, "first page copied by both");
	fmi_eq(first_page_episodes("cow"), episodes + 1, "episodes of first_page");
}

/* A file's PMD goes as a whole, and by a split if it is to go in part. */
static unsigned long first_pages(const struct fmi_scene *s)
{
	return s->kind != FMI_ANON && s->order == pmd_order ? s->nr : 1;
}

static void munmap_part(struct fmi_scene *s)
{
	struct op_watch w, other;
	long long episodes;

	s_populate(s);
	w = operation("zap_munmap");
	other = operation("zap_dontneed");
	episodes = first_page_episodes("zap_munmap");
	s_munmap(s, 1, 0, first_pages(s));
	s_check(s, "first page unmapped");
	happened(&w);
	did_not_happen(&other);
	if (s->e.nr_mappings)
		fmi_eq(first_page_episodes("zap_munmap"), episodes + 1, "episodes of first_page");
}

static void dontneed(struct fmi_scene *s)
{
	struct op_watch w, other;
	long long episodes;

	s_populate(s);
	w = operation("zap_dontneed");
	other = operation("zap_munmap");
	episodes = first_page_episodes("zap_dontneed");
	s_dontneed(s, 1, 0, first_pages(s));
	s_check(s, "first page dropped");
	happened(&w);
	did_not_happen(&other);
	if (s->e.nr_mappings)
		fmi_eq(first_page_episodes("zap_dontneed"), episodes + 1,
		       "episodes of first_page");
}

static void pmd_split(struct fmi_scene *s)
{
	struct op_watch w;

	s_populate(s);
	w = operation("pmd_split");
	p_mprotect(1, s->va, pgsz, PROT_READ);
	ex_vma_split(&s->e, 1, s_page(s, 1));
	ex_split(&s->e, 1, s->va, s->size);
	s_check(s, "split");
	happened(&w);
}

static void vma_split(struct fmi_scene *s)
{
	struct op_watch w;

	s_populate(s);
	w = operation("vma");
	p_mprotect(1, s->va, s->size / 2, PROT_READ);
	ex_vma_split(&s->e, 1, s_page(s, s->nr / 2));
	s_check(s, "VMA split");
	happened(&w);
	w = operation("vma");
	p_mprotect(1, s->va, s->size / 2, PROT_READ | PROT_WRITE);
	ex_vma_merge(&s->e, 1, s_page(s, s->nr / 2));
	s_check(s, "merged");
	happened(&w);
}

static void move(struct fmi_scene *s)
{
	unsigned long to = s->arena + 12 * pmd_size - s->size / 2;
	struct op_watch w;

	s_populate(s);
	w = operation("move");
	p_mremap(1, s->va, s->size, to, 0);
	ex_move(&s->e, 1, s->va, s->size, to);
	s_check(s, "across two page tables");
	happened(&w);
}

static void migrate(struct fmi_scene *s)
{
	struct op_watch out, in;
	unsigned long old;

	if (access("/sys/devices/system/node/node1", F_OK))
		fmi_skip("one memory node only");
	s_populate(s);
	old = s->e.pfn;
	out = operation("migrate_out");
	in = operation("migrate_in");
	p_move_pages(1, s->va, 1, 1);
	if (pagemap_pfn(p_pid(1), s->va) == old)
		p_move_pages(1, s->va, 1, 0);
	s->e.pfn = pagemap_pfn(p_pid(1), s->va);
	fmi_assert(s->e.pfn != old, "the folio never moved");
	s_check(s, "moved");
	happened(&out);
	happened(&in);
}

static void need_swap(void)
{
	if (!*swap_device)
		fmi_skip("%s", swap_why_not);
}

static void page_out(struct fmi_scene *s)
{
	need_swap();
	s_populate(s);
	p_write(1, s->va, s->nr);
	p_madvise(1, s->va, s->size, MADV_PAGEOUT);
	fmi_assert(pagemap_swapped(p_pid(1), s->va), "not swapped out");
	ex_unmap(&s->e, 1, s->va, s->size);
}

static void swapped_out_and_in(struct fmi_scene *s)
{
	struct op_watch out = operation("unmap"), in;

	page_out(s);
	happened(&out);
	in = operation("swapin");
	thp_only(s->kind, s->order, "always");
	p_read(1, s->va, s->nr);
	thp_never();
	if (!s_check_found(s, "swapped in"))
		fmi_skip("swapped in as single pages");
	happened(&in);
}

/* The child swaps the folio in as one; swapoff finds it in the swap cache for the parent. */
static void swapped_in_by_swapoff(struct fmi_scene *s)
{
	struct op_watch w;

	page_out(s);
	s_fork(s, 1, 2);
	thp_only(s->kind, s->order, "always");
	p_read(2, s->va, s->nr);
	thp_never();
	if (!s_check_found(s, "swapped in by the child"))
		fmi_skip("swapped in as single pages");
	if (!pagemap_swapped(p_pid(1), s->va))
		fmi_skip("the parent has it, too");
	w = operation("swapoff");
	fmi_assert(!swapoff(swap_device), "swapoff: %s", strerror(errno));
	/* For the cases that follow, whatever becomes of this one. */
	fmi_assert(!swapon(swap_device, 0), "swapon: %s", strerror(errno));
	s_check_found(s, "after swapoff");
	happened(&w);
}

static void uffd_continue(struct fmi_scene *s)
{
	struct op_watch w;

	s_populate_by(s, 2);
	p_start(1);
	s_map(s, 1, s->va, s->size, 0);
	p_uffd_minor(1, s->va, s->size);
	s_check(s, "registered");
	w = operation("uffd");
	p_uffd_continue(1, s_page(s, 1), pgsz);
	ex_map(&s->e, 1, s_page(s, 1), 1, 1);
	s_check(s, "page 1 mapped");
	happened(&w);
}

/* Small pages become a THP. */
static void collapse(struct fmi_scene *s)
{
	struct op_watch w;
	unsigned int order;

	p_start(1);
	s_map(s, 1, s->va, s->size, 0);
	p_write(1, s->va, s->nr);
	order = folio_order(pagemap_pfn(p_pid(1), s->va), NULL);
	fmi_eq(order, 0, "order before");
	w = operation("collapse");
	p_madvise(1, s->va, s->size, MADV_COLLAPSE);
	s->e.pfn = pagemap_pfn(p_pid(1), s->va);
	order = folio_order(s->e.pfn, NULL);
	if (order != s->order)
		fmi_skip("collapsed to order %u", order);
	s_mapped_whole(s, 1, s->va);
	s_check(s, "collapsed");
	happened(&w);
}

static const struct fmi_test tests[] = {
	{ "fault", fault, ON_EACH },
	{ "fork_and_exit", fork_and_exit, ON_ANON },
	{ "cow", cow, ON_ANON },
	{ "munmap_part", munmap_part, ON_EACH },
	{ "dontneed", dontneed, ON_EACH },
	{ "pmd_split", pmd_split, ON_ANON | PMD_ONLY },
	{ "vma_split", vma_split, ON_EACH | PTE_ONLY },
	{ "move", move, ON_ANON },
	{ "migrate", migrate, ON_EACH },
	{ "swapped_out_and_in", swapped_out_and_in, ON_ANON | PTE_ONLY },
	{ "swapped_in_by_swapoff", swapped_in_by_swapoff, ON_ANON | PTE_ONLY },
	{ "uffd_continue", uffd_continue, ON_SHMEM },
	{ "collapse", collapse, ON_ANON | PMD_ONLY },
};

int main(int argc, char **argv)
{
	int ret;

	fmi_util_init();
	swap_start();
	ret = fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
	swap_stop();
	return ret;
}
