// SPDX-License-Identifier: GPL-2.0
/*
 * The worked examples of the definitions that need anonymous memory, with the
 * numbers of Documentation/definitions: each is said twice, by the example and by
 * the test's own list, and the module must agree with both.
 */
#include <sys/mman.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

#define WANT(s, what, name, value) ex_want(&(s)->e, what, name, value)

#define KB(n) ((n) * 1024UL)

/* The examples with numbers of kilobytes. */
static void need_2_mib(void)
{
	if (pmd_size != 2UL << 20 || pmd_order != 9)
		fmi_skip("the example is about a THP of 2 MiB and 512 pages");
}

static void protect(struct fmi_scene *s, int who, unsigned long first, unsigned long nr, int prot)
{
	p_mprotect(who, s_page(s, first), nr * pgsz, prot);
}

/* All pages of F mapped once, by PTEs, by one VMA, within one page table. */
static void all_pages_by_ptes(struct fmi_scene *s)
{
	s_populate(s);
	if (s->order == pmd_order) {
		protect(s, 1, 0, 1, PROT_READ);
		protect(s, 1, 0, 1, PROT_READ | PROT_WRITE);
		ex_split(&s->e, 1, s->va, s->size);
	}
	s_check(s, "all PTEs");
	WANT(s, "all PTEs", "vma_pt", 1);
	WANT(s, "all PTEs", "vma", 1);
	WANT(s, "all PTEs", "mm", 1);
	WANT(s, "all PTEs", "total", (int)s->nr);
}

static void thp_pmd_split_vma_whole_again(struct fmi_scene *s)
{
	need_2_mib();
	s_populate(s);
	WANT(s, "THP", "vma_pt", 1);
	WANT(s, "THP", "total", 1);
	WANT(s, "THP", "entire", 1);
	protect(s, 1, 0, 1, PROT_READ);
	protect(s, 1, 0, 1, PROT_READ | PROT_WRITE);
	ex_split(&s->e, 1, s->va, s->size);
	s_check(s, "split");
	WANT(s, "split", "vma_pt", 1);
	WANT(s, "split", "vma", 1);
	WANT(s, "split", "total", 512);
	WANT(s, "split", "entire", 0);
}

static void thp_pmd_split_by_uffd_wp(struct fmi_scene *s)
{
	need_2_mib();
	s_populate(s);
	WANT(s, "THP", "vma_pt", 1);
	WANT(s, "THP", "total", 1);
	p_uffd_wp(1, s->va, s->size, s_page(s, 1), pgsz);
	ex_split(&s->e, 1, s->va, s->size);
	s_check(s, "split");
	WANT(s, "split", "vma_pt", 1);
	WANT(s, "split", "total", 512);
	WANT(s, "split", "entire", 0);
}

static void mprotect_first_4k_of_thp(struct fmi_scene *s)
{
	need_2_mib();
	s_populate(s);
	protect(s, 1, 0, 1, PROT_READ);
	ex_vma_split(&s->e, 1, s_page(s, 1));
	ex_split(&s->e, 1, s->va, s->size);
	s_check(s, "first 4 KiB protected");
	WANT(s, "first 4 KiB protected", "vma", 2);
	WANT(s, "first 4 KiB protected", "vma_pt", 2);
	WANT(s, "first 4 KiB protected", "mm", 1);
	WANT(s, "first 4 KiB protected", "total", 512);
}

static void mremap_128k_of_thp(struct fmi_scene *s)
{
	unsigned long from = s->va + KB(128);
	unsigned long to = s->va + pmd_size;

	need_2_mib();
	s_populate(s);
	/* The target is free. */
	p_munmap(1, to, pmd_size);
	p_mremap(1, from, KB(128), to, 0);
	ex_move(&s->e, 1, from, KB(128), to);
	s_check(s, "moved");
	WANT(s, "moved", "mm", 1);
	WANT(s, "moved", "total", 512);
	WANT(s, "moved", "vma", 3);
	WANT(s, "moved", "vma_pt", 3);
	WANT(s, "moved", "first_page", 1);
	WANT(s, "moved", "max_page", 1);
}

static void dontneed_first_last_middle_of_thp(struct fmi_scene *s)
{
	need_2_mib();
	s_populate(s);
	s_dontneed(s, 1, 0, 128);
	s_check(s, "first 512 KiB");
	WANT(s, "first 512 KiB", "vma", 1);
	WANT(s, "first 512 KiB", "total", 384);
	s_dontneed(s, 1, 384, 128);
	s_check(s, "last 512 KiB");
	WANT(s, "last 512 KiB", "vma", 1);
	WANT(s, "last 512 KiB", "total", 256);
	s_dontneed(s, 1, 128, 256);
	fmi_eq(s->e.nr_mappings, 0, "mappings left");
	s_check(s, "middle 1 MiB");
}

static void two_processes_two_tuples(struct fmi_scene *s)
{
	s_populate(s);
	s_fork(s, 1, 2);
	s_check(s, "two processes");
	WANT(s, "two processes", "vma_pt", 2);
	WANT(s, "two processes", "vma", 2);
	WANT(s, "two processes", "mm", 2);
}

static void one_process_two_page_tables(struct fmi_scene *s)
{
	unsigned long to = s->arena + 12 * pmd_size - s->size / 2;

	s_populate(s);
	p_mremap(1, s->va, s->size, to, 0);
	ex_move(&s->e, 1, s->va, s->size, to);
	s_check(s, "across two page tables");
	WANT(s, "across two page tables", "vma_pt", 2);
	WANT(s, "across two page tables", "vma", 1);
	WANT(s, "across two page tables", "mm", 1);
}

static void order4_page1_in_two_tasks(struct fmi_scene *s)
{
	s_populate(s);
	s_fork(s, 1, 2);
	for (int who = 1; who <= 2; who++) {
		s_dontneed(s, who, 0, 1);
		s_dontneed(s, who, 2, 14);
	}
	s_check(s, "page 1 in two tasks");
	WANT(s, "page 1 in two tasks", "total", 2);
	WANT(s, "page 1 in two tasks", "mm", 2);
	WANT(s, "page 1 in two tasks", "first_page", 0);
	WANT(s, "page 1 in two tasks", "max_page", 2);
	WANT(s, "page 1 in two tasks", "nr_pages_mapped", 1);
}

static void order4_pages_0_and_1_in_one_task(struct fmi_scene *s)
{
	s_populate(s);
	s_dontneed(s, 1, 2, 14);
	s_check(s, "pages 0 and 1 in one task");
	WANT(s, "pages 0 and 1 in one task", "total", 2);
	WANT(s, "pages 0 and 1 in one task", "mm", 1);
	WANT(s, "pages 0 and 1 in one task", "first_page", 1);
	WANT(s, "pages 0 and 1 in one task", "max_page", 1);
	WANT(s, "pages 0 and 1 in one task", "nr_pages_mapped", 2);
}

static void thp_child_split_and_unmapped(struct fmi_scene *s)
{
	need_2_mib();
	s_populate(s);
	s_fork(s, 1, 2);
	protect(s, 2, 0, 1, PROT_READ);
	ex_vma_split(&s->e, 2, s_page(s, 1));
	ex_split(&s->e, 2, s->va, s->size);
	s_check(s, "the child's PMD split");
	WANT(s, "the child's PMD split", "total", 513);
	WANT(s, "the child's PMD split", "entire", 1);
	s_munmap(s, 2, 0, s->nr);
	s_check(s, "the child's PTEs unmapped");
	WANT(s, "the child's PTEs unmapped", "total", 1);
	WANT(s, "the child's PTEs unmapped", "entire", 1);
	s_munmap(s, 1, 0, s->nr);
	s_check(s, "the parent's PMD unmapped");
}

/* Fork, the parent copies two adjacent middle pages, and its VMA is split between them. */
static void cow_middle_pages(struct fmi_scene *s)
{
	s_populate(s);
	s_fork(s, 1, 2);
	s_cow(s, 1, s->nr / 2 - 1);
	s_cow(s, 1, s->nr / 2);
	s_check(s, "the parent wrote two middle pages");
}

static void split_between(struct fmi_scene *s)
{
	protect(s, 1, 0, s->nr / 2, PROT_READ);
	ex_vma_split(&s->e, 1, s_page(s, s->nr / 2));
	s_check(s, "VMA split between them");
}

static void vma_split_between_cowed_pages(struct fmi_scene *s)
{
	cow_middle_pages(s);
	s_exit(s, 2);
	s_check(s, "child gone");
	split_between(s);
	WANT(s, "VMA split between them", "vma", 2);
	s_munmap(s, 1, 0, s->nr / 2);
	s_check(s, "one side unmapped");
	WANT(s, "one side unmapped", "vma", 1);
}

static void vma_split_between_cowed_pages_child_alive(struct fmi_scene *s)
{
	cow_middle_pages(s);
	split_between(s);
	WANT(s, "VMA split between them", "vma", 3);
	s_munmap(s, 1, 0, s->nr / 2);
	s_check(s, "one side unmapped");
	WANT(s, "one side unmapped", "vma", 2);
}

static const struct fmi_test tests[] = {
	{ "all_pages_by_ptes", all_pages_by_ptes, ON_ANON },
	{ "thp_pmd_split_vma_whole_again", thp_pmd_split_vma_whole_again, ON_ANON | PMD_ONLY },
	{ "thp_pmd_split_by_uffd_wp", thp_pmd_split_by_uffd_wp, ON_ANON | PMD_ONLY },
	{ "mprotect_first_4k_of_thp", mprotect_first_4k_of_thp, ON_ANON | PMD_ONLY },
	{ "mremap_128k_of_thp", mremap_128k_of_thp, ON_ANON | PMD_ONLY },
	{ "dontneed_first_last_middle_of_thp", dontneed_first_last_middle_of_thp,
	  ON_ANON | PMD_ONLY },
	{ "two_processes_two_tuples", two_processes_two_tuples, ON_ANON },
	{ "one_process_two_page_tables", one_process_two_page_tables, ON_ANON },
	{ "order4_page1_in_two_tasks", order4_page1_in_two_tasks, ON_ANON | ORDER4_ONLY },
	{ "order4_pages_0_and_1_in_one_task", order4_pages_0_and_1_in_one_task,
	  ON_ANON | ORDER4_ONLY },
	{ "thp_child_split_and_unmapped", thp_child_split_and_unmapped, ON_ANON | PMD_ONLY },
	{ "vma_split_between_cowed_pages", vma_split_between_cowed_pages, ON_ANON },
	{ "vma_split_between_cowed_pages_child_alive", vma_split_between_cowed_pages_child_alive,
	  ON_ANON },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
