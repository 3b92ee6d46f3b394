// SPDX-License-Identifier: GPL-2.0
/* Swap-out and swap-in on zram, of whole folios and of parts. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/swap.h>

#include "fmi_ksft.h"
#include "fmi_life.h"
#include "fmi_swap.h"
#include "fmi_util.h"

static void need_swap(void)
{
	if (!*swap_device)
		fmi_skip("%s", swap_why_not);
}

static void page_out(struct fmi_scene *s, int who, unsigned long first, unsigned long nr)
{
	p_madvise(who, s_page(s, first), nr * pgsz, MADV_PAGEOUT);
	for (unsigned long i = first; i < first + nr; i++) {
		fmi_assert(!pagemap_pfn(p_pid(who), s_page(s, i)), "page %lu is still mapped", i);
		if (s->kind == FMI_ANON)
			fmi_assert(pagemap_swapped(p_pid(who), s_page(s, i)),
				   "page %lu is not swapped out", i);
	}
}

static void out_and_in_as_pages(struct fmi_scene *s)
{
	need_swap();
	s_populate(s);
	page_out(s, 1, 0, s->nr);
	ex_unmap(&s->e, 1, s->va, s->size);
	ex_check_gone(&s->e, "swapped out");
	p_read(1, s->va, s->nr);
	s_check_found(s, "swapped in");
	p_write(1, s->va, s->nr);
	s_check_found(s, "written");
}

static void out_and_in_as_a_folio(struct fmi_scene *s)
{
	need_swap();
	s_populate(s);
	page_out(s, 1, 0, s->nr);
	ex_unmap(&s->e, 1, s->va, s->size);
	ex_check_gone(&s->e, "swapped out");
	thp_only(s->kind, s->order, "always");
	p_read(1, s->va, s->nr);
	thp_never();
	if (!s_check_found(s, "swapped in"))
		fmi_skip("swapped in as single pages");
	p_write(1, s->va, s->nr);
	s_check_found(s, "written");
	s_fork(s, 1, 2);
	s_check_found(s, "forked");
	p_write(2, s->va, 1);
	s_check_found(s, "child wrote");
}

static void out_then_fork(struct fmi_scene *s)
{
	need_swap();
	s_populate(s);
	page_out(s, 1, 0, s->nr);
	ex_unmap(&s->e, 1, s->va, s->size);
	s_fork(s, 1, 2);
	thp_only(s->kind, s->order, "always");
	p_read(2, s->va, s->nr);
	s_check_found(s, "swapped in by the child");
	p_read(1, s->va, s->nr);
	thp_never();
	s_check_found(s, "and by the parent");
	p_write(1, s->va, 1);
	s_check_found(s, "parent wrote");
	p_exit(2);
	ex_exit(&s->e, 2);
	s_check_found(s, "child gone");
}

static void a_part_is_paged_out(struct fmi_scene *s)
{
	need_swap();
	s_populate(s);
	/* The folio is split for that; pages full of zeros would become the zero page then. */
	p_write(1, s->va, s->nr);
	page_out(s, 1, 0, s->nr / 2);
	s_check_found(s, "half of it swapped out");
	p_read(1, s->va, s->nr);
	s_check_found(s, "swapped in");
}

static void a_shared_folio_stays(struct fmi_scene *s)
{
	need_swap();
	s_populate(s);
	s_fork(s, 1, 2);
	p_madvise(1, s->va, s->size, MADV_PAGEOUT);
	s_check(s, "shared: not paged out");
	s_exit(s, 2);
	page_out(s, 1, 0, s->nr);
	ex_unmap(&s->e, 1, s->va, s->size);
	ex_check_gone(&s->e, "paged out when alone");
}

static void swap_entries_dropped(struct fmi_scene *s)
{
	need_swap();
	s_populate(s);
	page_out(s, 1, 0, s->nr);
	p_madvise(1, s->va, s->size / 2, MADV_DONTNEED);
	thp_only(s->kind, s->order, "always");
	p_read(1, s->va, s->nr);
	thp_never();
	s_check_found(s, "half dropped while swapped out");
}

static void swapoff_brings_pages_in(struct fmi_scene *s)
{
	need_swap();
	s_populate(s);
	page_out(s, 1, 0, s->nr);
	ex_unmap(&s->e, 1, s->va, s->size);
	fmi_assert(!swapoff(swap_device), "swapoff: %s", strerror(errno));
	s_check_found(s, "after swapoff");
	fmi_assert(!swapon(swap_device, 0), "swapon: %s", strerror(errno));
}

/* One page comes back alone, the others stay out; then all at once. */
static void a_part_comes_in(struct fmi_scene *s)
{
	unsigned long page = s->nr / 2;

	need_swap();
	s_populate(s);
	p_fill(1, s->va, s->nr, 8);
	page_out(s, 1, 0, s->nr);
	ex_unmap(&s->e, 1, s->va, s->size);
	p_verify(1, s_page(s, page), 1, 8);
	s_check_found(s, "one page swapped in");
	fmi_assert(pagemap_pfn(p_pid(1), s_page(s, page)), "the page is not there");
	thp_only(s->kind, s->order, "always");
	p_verify(1, s->va, s->nr, 8);
	thp_never();
	s_check_found(s, "the others swapped in");
	p_fill(1, s->va, s->nr, 9);
	s_check_found(s, "written");
}

/* Two processes' folios are out, of each a part is in again: swapoff brings the rest. */
static void swapoff_of_shared(struct fmi_scene *s)
{
	bool ok;

	need_swap();
	s_populate(s);
	p_fill(1, s->va, s->nr, 8);
	page_out(s, 1, 0, s->nr);
	ex_unmap(&s->e, 1, s->va, s->size);
	s_fork(s, 1, 2);
	thp_only(s->kind, s->order, "always");
	p_verify(2, s_page(s, s->nr / 2), 1, 8);
	thp_never();
	s_check_found(s, "in by the child");
	ok = !swapoff(swap_device);
	fmi_assert(ok, "swapoff: %s", strerror(errno));
	ok = !swapon(swap_device, 0);
	fmi_assert(ok, "swapon: %s", strerror(errno));
	s_check_found(s, "after swapoff");
	p_verify(1, s->va, s->nr, 8);
	p_verify(2, s->va, s->nr, 8);
	s_check_found(s, "looked at");
	p_fill(1, s->va, s->nr, 9);
	p_verify(2, s->va, s->nr, 8);
	s_check_found(s, "written by the parent");
}

/* What two processes map, by the reclaim of their cgroup; then one of them takes it back. */
static void shared_folio_reclaimed(struct fmi_scene *s)
{
	need_swap();
	cgroup_make();
	if (s->kind != FMI_ANON)
		s_open(s, s->size);
	p_start(1);
	cgroup_enter(p_pid(1));
	s_map(s, 1, s->va, s->size, 0);
	s_fault(s, 1, s->va);
	s_mapped_whole(s, 1, s->va);
	p_fill(1, s->va, s->nr, 8);
	p_fork(1, 2);
	ex_vma(&s->e, 2, s->va, s->va + s->size);
	p_verify(2, s->va, s->nr, 8);
	s_learn(s);
	s_check(s, "shared");
	for (int i = 0; i < 100 && (pagemap_pfn(p_pid(1), s->va) || pagemap_pfn(p_pid(2), s->va));
	     i++)
		cgroup_reclaim(2 * s->size);
	s_check_found(s, "reclaimed");
	if (s_pages_of_order(s, s->order))
		fmi_skip("not reclaimed");
	s_gone(s, "reclaimed");
	thp_only(s->kind, s->order, "always");
	p_verify(2, s->va, s->nr, 8);
	thp_never();
	s_check_found(s, "in by the child");
	p_exit(2);
	ex_exit(&s->e, 2);
	p_verify(1, s->va, s->nr, 8);
	s_check_found(s, "in by the parent");
}

/* A reference keeps a folio in memory: reclaim unmaps it, and finds that out afterwards. */
static void a_referenced_folio(struct fmi_scene *s)
{
	need_swap();
	s_populate(s);
	p_fill(1, s->va, s->nr, 8);
	p_vmsplice(1, s_page(s, s->nr / 2), pgsz);
	p_madvise(1, s->va, s->size, MADV_PAGEOUT);
	s_check_found(s, "reclaim has tried");
	p_verify(1, s->va, s->nr, 8);
	s_check_found(s, "looked at");
	p_unpin(1);
	p_madvise(1, s->va, s->size, MADV_PAGEOUT);
	s_check_found(s, "without the reference");
	p_verify(1, s->va, s->nr, 8);
	s_check_found(s, "in again");
}

static const struct fmi_test tests[] = {
	{ "out_and_in_as_pages", out_and_in_as_pages, ON_ANON | ON_SHMEM },
	/* Anonymous folios of PMD size only come back as pages. */
	{ "out_and_in_as_a_folio", out_and_in_as_a_folio, ON_ANON | PTE_ONLY },
	{ "out_and_in_as_a_folio", out_and_in_as_a_folio, ON_SHMEM },
	{ "out_then_fork", out_then_fork, ON_ANON },
	{ "a_part_is_paged_out", a_part_is_paged_out, ON_ANON },
	{ "a_shared_folio_stays", a_shared_folio_stays, ON_ANON },
	{ "swap_entries_dropped", swap_entries_dropped, ON_ANON },
	{ "swapoff_brings_pages_in", swapoff_brings_pages_in, ON_ANON },
	{ "a_part_comes_in", a_part_comes_in, ON_ANON },
	{ "swapoff_of_shared", swapoff_of_shared, ON_ANON },
	{ "shared_folio_reclaimed", shared_folio_reclaimed, ON_ANON | ON_SHMEM | FEW_SIZES },
	{ "a_referenced_folio", a_referenced_folio, ON_ANON | ON_SHMEM | FEW_SIZES },
};

int main(int argc, char **argv)
{
	int ret;

	fmi_util_init();
	swap_start();
	ret = fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
	cgroup_remove();
	swap_stop();
	return ret;
}
