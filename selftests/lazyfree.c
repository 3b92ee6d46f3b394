// SPDX-License-Identifier: GPL-2.0
/* MADV_FREE, and what reclaim makes of it: discarded as a PMD, in batches of PTEs, or kept. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_life.h"
#include "fmi_util.h"

static void populate(struct fmi_scene *s)
{
	s_populate(s);
	p_fill(1, s->va, s->nr, 3);
}

static void reclaim(int who, unsigned long va, unsigned long len)
{
	p_madvise(who, va, len, MADV_PAGEOUT);
}

static void not_mapped(struct fmi_scene *s, int who, unsigned long first, unsigned long nr)
{
	for (unsigned long i = first; i < first + nr; i++)
		fmi_assert(!pagemap_pfn(p_pid(who), s_page(s, i)), "page %lu is still mapped", i);
}

static void discarded(struct fmi_scene *s)
{
	populate(s);
	p_madvise(1, s->va, s->size, MADV_FREE);
	s_check(s, "free, and still there");
	p_verify(1, s->va, s->nr, 3);
	reclaim(1, s->va, s->size);
	not_mapped(s, 1, 0, s->nr);
	s_gone(s, "discarded");
	p_read(1, s->va, s->nr);
	fmi_eq(s_check_found(s, "zero pages"), 0, "large folios");
}

static void discarded_by_ptes(struct fmi_scene *s)
{
	populate(s);
	p_mprotect(1, s->va, pgsz, PROT_READ);
	ex_vma_split(&s->e, 1, s_page(s, 1));
	ex_split(&s->e, 1, s->va, pgsz);
	p_mprotect(1, s->va, pgsz, PROT_READ | PROT_WRITE);
	ex_vma_merge(&s->e, 1, s_page(s, 1));
	/* Entries that differ are no batch, for which MADV_FREE splits the folio. */
	p_fill(1, s->va, s->nr, 3);
	s_check(s, "mapped by PTEs");
	p_madvise(1, s->va, s->size, MADV_FREE);
	s_check_found(s, "free");
	if (!s_pages_of_order(s, s->order))
		fmi_skip("MADV_FREE split the folio");
	s_check(s, "free, and still there");
	reclaim(1, s->va, s->size);
	not_mapped(s, 1, 0, s->nr);
	s_gone(s, "discarded");
}

static void written_again(struct fmi_scene *s)
{
	populate(s);
	p_madvise(1, s->va, s->size, MADV_FREE);
	p_fill(1, s_page(s, s->nr - 1), 1, 3);
	s_learn(s);
	s_check(s, "one page written");
	reclaim(1, s->va, s->size);
	s_check_found(s, "reclaim has tried");
	fmi_assert(pagemap_pfn(p_pid(1), s_page(s, s->nr - 1)), "a dirty page was discarded");
	p_verify(1, s_page(s, s->nr - 1), 1, 3);
	reclaim(1, s->va, s->size);
	s_check_found(s, "and again");
	p_verify(1, s_page(s, s->nr - 1), 1, 3);
}

static void a_part(struct fmi_scene *s)
{
	unsigned long half = s->nr / 2;

	populate(s);
	p_madvise(1, s->va, half * pgsz, MADV_FREE);
	s_check_found(s, "half of it is free");
	reclaim(1, s->va, half * pgsz);
	not_mapped(s, 1, 0, half);
	p_verify(1, s_page(s, half), s->nr - half, 3);
	s_check_found(s, "half of it discarded");
	fmi_eq(s_pages_of_order(s, s->order), 0, "pages in folios of the old size");
}

static void shared_by_fork(struct fmi_scene *s)
{
	populate(s);
	s_fork(s, 1, 2);
	p_madvise(1, s->va, s->size, MADV_FREE);
	s_check(s, "shared: not freed");
	reclaim(1, s->va, s->size);
	s_check(s, "shared: not reclaimed");
	p_verify(1, s->va, s->nr, 3);
	p_verify(2, s->va, s->nr, 3);
	s_exit(s, 1);
	p_madvise(2, s->va, s->size, MADV_FREE);
	s_check(s, "alone");
	reclaim(2, s->va, s->size);
	not_mapped(s, 2, 0, s->nr);
	s_gone(s, "discarded");
}

/* Freed, then forked: both lose it. Only the reclaim of a cgroup takes what is shared. */
static void freed_then_forked(struct fmi_scene *s)
{
	long long before;

	cgroup_make();
	p_start(1);
	cgroup_enter(p_pid(1));
	s_map(s, 1, s->va, s->size, 0);
	s_fault(s, 1, s->va);
	s_mapped_whole(s, 1, s->va);
	p_fill(1, s->va, s->nr, 3);
	p_madvise(1, s->va, s->size, MADV_FREE);
	s_fork(s, 1, 2);
	s_check(s, "free and shared");
	before = fmi_stat("remove_pte") + fmi_stat("remove_entire");
	for (int i = 0; i < 100 && pagemap_pfn(p_pid(1), s->va); i++)
		cgroup_reclaim(s->size);
	fmi_assert(fmi_stat("remove_pte") + fmi_stat("remove_entire") > before, "no reclaim");
	s_check_found(s, "reclaimed");
	not_mapped(s, 1, 0, s->nr);
	not_mapped(s, 2, 0, s->nr);
	s_gone(s, "reclaimed");
}

/* A reference keeps it: all is unmapped, and mapped again. */
static void kept_for_a_reference(struct fmi_scene *s)
{
	populate(s);
	p_madvise(1, s->va, s->size, MADV_FREE);
	p_vmsplice(1, s_page(s, s->nr / 2), pgsz);
	s_check(s, "free and referenced");
	reclaim(1, s->va, s->size);
	s_learn(s);
	s_check(s, "kept");
	fmi_eq(s_pages_of_order(s, s->order), s->nr, "pages of the folio");
	p_verify(1, s->va, s->nr, 3);
	p_unpin(1);
	p_madvise(1, s->va, s->size, MADV_FREE);
	reclaim(1, s->va, s->size);
	not_mapped(s, 1, 0, s->nr);
	s_gone(s, "discarded");
}

static const struct fmi_test tests[] = {
	{ "discarded", discarded, ON_ANON },
	{ "discarded_by_ptes", discarded_by_ptes, ON_ANON | PMD_ONLY },
	{ "written_again", written_again, ON_ANON },
	{ "a_part", a_part, ON_ANON },
	{ "shared_by_fork", shared_by_fork, ON_ANON },
	{ "freed_then_forked", freed_then_forked, ON_ANON },
	{ "kept_for_a_reference", kept_for_a_reference, ON_ANON },
};

int main(int argc, char **argv)
{
	int ret = fmi_run(argc, argv, tests, ARRAY_SIZE(tests));

	cgroup_remove();
	return ret;
}
