// SPDX-License-Identifier: GPL-2.0
/* VMA splits and merges inside a folio; a PMD there is split into PTEs (file: into nothing). */
#include <sys/mman.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

/* mprotect of a part splits the VMA, and the PMD if there is one. */
static void protect(struct fmi_scene *s, int who, unsigned long first, unsigned long nr)
{
	p_mprotect(who, s_page(s, first), nr * pgsz, PROT_READ);
	ex_vma_split(&s->e, who, s_page(s, first));
	ex_vma_split(&s->e, who, s_page(s, first + nr));
	if (nr < s->nr)
		ex_split(&s->e, who, s_page(s, first), nr * pgsz);
}

static void unprotect(struct fmi_scene *s, int who, unsigned long first, unsigned long nr)
{
	p_mprotect(who, s_page(s, first), nr * pgsz, PROT_READ | PROT_WRITE);
	if (first)
		ex_vma_merge(&s->e, who, s_page(s, first));
	if (first + nr < s->nr)
		ex_vma_merge(&s->e, who, s_page(s, first + nr));
}

static void check(struct fmi_scene *s, const char *what)
{
	if (s->e.nr_mappings) {
		s_check(s, what);
		return;
	}
	/* A file's PMD: touching it again maps PTEs if a VMA boundary is inside. */
	s_check(s, what);
	p_read(1, s->va, s->nr);
	ex_learn(&s->e, 1);
	fmi_assert(s->e.nr_mappings > 0, "%s: nothing faulted in again", what);
	s_check(s, "faulted in again");
}

static void mprotect_first_page_and_back(struct fmi_scene *s)
{
	s_populate(s);
	protect(s, 1, 0, 1);
	check(s, "first page protected: two VMAs");
	unprotect(s, 1, 0, 1);
	check(s, "one VMA again");
}

static void mprotect_middle_and_back(struct fmi_scene *s)
{
	unsigned long nr = s->nr >= 4 ? s->nr / 4 : 1;

	s_populate(s);
	protect(s, 1, s->nr / 2, nr);
	check(s, "the middle protected");
	unprotect(s, 1, s->nr / 2, nr);
	check(s, "one VMA again");
}

static void mprotect_all_keeps_it(struct fmi_scene *s)
{
	s_populate(s);
	p_mprotect(1, s->va, s->size, PROT_READ);
	s_check(s, "all protected");
	p_mprotect(1, s->va, s->size, PROT_READ | PROT_WRITE);
	s_check(s, "and back");
}

static void madvise_splits_the_vma(struct fmi_scene *s)
{
	s_populate(s);
	p_madvise(1, s->va, s->size / 2, MADV_DONTDUMP);
	ex_vma_split(&s->e, 1, s->va + s->size / 2);
	ex_split(&s->e, 1, s->va, s->size);
	check(s, "half of it not to be dumped");
	p_madvise(1, s->va, s->size / 2, MADV_DODUMP);
	ex_vma_merge(&s->e, 1, s->va + s->size / 2);
	check(s, "and back");
}

static void many_vmas(struct fmi_scene *s)
{
	unsigned long step = s->nr >= 16 ? s->nr / 8 : 2;

	s_populate(s);
	for (unsigned long i = 0; i < s->nr; i += step)
		protect(s, 1, i, 1);
	check(s, "every few pages a VMA");
	s_dontneed(s, 1, 0, 1);
	s_check(s, "the first of them empty");
	for (unsigned long i = step; i < s->nr; i += step)
		unprotect(s, 1, i, 1);
	s_check(s, "most merged");
}

static void childs_pmd_split(struct fmi_scene *s)
{
	s_populate(s);
	s_fork(s, 1, 2);
	protect(s, 2, 0, 1);
	s_check(s, "the child protected its first page");
	protect(s, 1, s->nr - 1, 1);
	s_check(s, "the parent its last");
	unprotect(s, 2, 0, 1);
	s_exit(s, 1);
	s_check(s, "parent gone");
}

static void fork_with_two_vmas(struct fmi_scene *s)
{
	s_populate(s);
	protect(s, 1, 0, s->nr / 2);
	s_check(s, "two VMAs");
	s_fork(s, 1, 2);
	s_check(s, "two VMAs each");
	unprotect(s, 1, 0, s->nr / 2);
	s_check(s, "the parent's merged");
	s_munmap(s, 2, 0, s->nr / 2);
	s_check(s, "the child's first one unmapped");
}

static void uffd_write_protects_a_page(struct fmi_scene *s)
{
	s_populate(s);
	p_uffd_wp(1, s->va, s->size, s_page(s, 1), pgsz);
	if (s->nr > 1)
		ex_split(&s->e, 1, s_page(s, 1), pgsz);
	s_check(s, "page 1 write-protected");
	p_read(1, s->va, s->nr);
	s_check(s, "read");
}

/*
 * A VMA that maps nothing takes over one that maps a page: where it begins was of no interest until
 * then. What is mapped before it is in another VMA, also when the VMAs between them merge.
 */
static void merged_with_what_maps_nothing(struct fmi_scene *s)
{
	const unsigned long rest = s->size - 3 * pgsz;

	/* The folio as a whole, by another process. */
	s_populate_by(s, 2);
	p_start(1);
	s_map(s, 1, s->va, s->size, 0);
	p_madvise(1, s_page(s, 2), s->size - 2 * pgsz, MADV_DONTDUMP);
	ex_vma_split(&s->e, 1, s_page(s, 2));
	p_mprotect(1, s_page(s, 1), pgsz, PROT_READ);
	ex_vma_split(&s->e, 1, s_page(s, 1));
	p_mprotect(1, s_page(s, 3), rest, PROT_READ);
	ex_vma_split(&s->e, 1, s_page(s, 3));
	s_check(s, "four VMAs");
	p_read(1, s_page(s, 3), 1);
	ex_map(&s->e, 1, s_page(s, 3), 3, 1);
	s_check(s, "a page of the last one");
	p_mprotect(1, s_page(s, 3), rest, PROT_READ | PROT_WRITE);
	ex_vma_merge(&s->e, 1, s_page(s, 3));
	s_check(s, "merged with the one before it");
	p_read(1, s->va, 1);
	ex_map(&s->e, 1, s->va, 0, 1);
	s_check(s, "a page of the first one");
	/* The second one takes over the first one: where it ends does not change. */
	p_mprotect(1, s->va, pgsz, PROT_READ);
	ex_vma_merge(&s->e, 1, s_page(s, 1));
	s_check(s, "nothing is between them any more");
}

static const struct fmi_test tests[] = {
	{ "mprotect_first_page_and_back", mprotect_first_page_and_back, ON_EACH },
	{ "mprotect_middle_and_back", mprotect_middle_and_back, ON_EACH },
	{ "mprotect_all_keeps_it", mprotect_all_keeps_it, ON_EACH },
	{ "madvise_splits_the_vma", madvise_splits_the_vma, ON_EACH },
	{ "many_vmas", many_vmas, ON_ANON },
	{ "childs_pmd_split", childs_pmd_split, ON_ANON },
	{ "fork_with_two_vmas", fork_with_two_vmas, ON_ANON },
	{ "uffd_write_protects_a_page", uffd_write_protects_a_page, ON_ANON },
	{ "merged_with_what_maps_nothing", merged_with_what_maps_nothing,
	  ON_SHMEM | ON_FILE | NOT_ORDER1 },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
