// SPDX-License-Identifier: GPL-2.0
/*
 * Folios about which proposed definitions disagree, as the threads found them, and
 * folios about which they must not.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_table.h"
#include "fmi_util.h"

#define WANT(s, what, name, value) ex_want(&(s)->e, what, name, value)

#define MAX_WATCHES 16

struct expected {
	const char *definition, *question;
	enum fmi_verdict verdict;
};

static struct fmi_watch watches[MAX_WATCHES];

static void watch_all(const struct fmi_scene *s, const struct expected *expected, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		watch(&watches[i], s, expected[i].definition, expected[i].question);
}

static void all_became(const char *what, const struct expected *expected, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		became(&watches[i], what, expected[i].verdict);
}

static void all_gone(size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		became(&watches[i], "unmapped", FMI_GONE);
}

/* Wilcox, 2023-07-04: two mappings of one page, by two tasks. */
static void order4_page1_in_two_tasks(struct fmi_scene *s)
{
	static const struct expected expected[] = {
		{ "first_page", "mapped", FMI_FALSE_NO },
		{ "first_page", "shared", FMI_FALSE_NO },
		{ "est_nr_pages", "shared", FMI_FALSE_NO },
		{ "est_nr_mapped", "shared", FMI_RIGHT },
		{ "est_one", "shared", FMI_RIGHT },
		{ "avg_page", "shared", FMI_FALSE_NO },
		{ "vma", "shared", FMI_RIGHT },
		{ "vma_pt", "shared", FMI_UNKNOWN },
		{ "rmap_id", "shared", FMI_RIGHT },
		{ "mm_id", "shared", FMI_RIGHT },
	};

	s_populate(s);
	s_fork(s, 1, 2);
	watch_all(s, expected, ARRAY_SIZE(expected));
	for (int who = 1; who <= 2; who++) {
		s_dontneed(s, who, 0, 1);
		s_dontneed(s, who, 2, s->nr - 2);
	}
	s_check(s, "page 1 in two tasks");
	WANT(s, "page 1 in two tasks", "total", 2);
	WANT(s, "page 1 in two tasks", "mm", 2);
	WANT(s, "page 1 in two tasks", "first_page", 0);
	WANT(s, "page 1 in two tasks", "max_page", 2);
	WANT(s, "page 1 in two tasks", "nr_pages_mapped", 1);
	all_became("page 1 in two tasks", expected, ARRAY_SIZE(expected));
	s_exit(s, 1);
	s_exit(s, 2);
	all_gone(ARRAY_SIZE(expected));
}

/* And of two pages, by one task: also 2, and not shared. */
static void order4_pages_0_and_1_in_one_task(struct fmi_scene *s)
{
	static const struct expected expected[] = {
		{ "first_page", "mapped", FMI_RIGHT },
		{ "first_page", "shared", FMI_RIGHT },
		{ "est_nr_pages", "shared", FMI_RIGHT },
		{ "est_nr_mapped", "shared", FMI_RIGHT },
		{ "est_one", "shared", FMI_FALSE_YES },
		{ "avg_page", "shared", FMI_RIGHT },
		{ "vma", "shared", FMI_RIGHT },
		{ "vma_pt", "shared", FMI_RIGHT },
		{ "rmap_id", "shared", FMI_RIGHT },
		{ "mm_id", "shared", FMI_RIGHT },
	};

	s_populate(s);
	watch_all(s, expected, ARRAY_SIZE(expected));
	s_dontneed(s, 1, 2, s->nr - 2);
	s_check(s, "pages 0 and 1 in one task");
	WANT(s, "pages 0 and 1 in one task", "total", 2);
	WANT(s, "pages 0 and 1 in one task", "mm", 1);
	WANT(s, "pages 0 and 1 in one task", "first_page", 1);
	WANT(s, "pages 0 and 1 in one task", "max_page", 1);
	WANT(s, "pages 0 and 1 in one task", "nr_pages_mapped", 2);
	all_became("pages 0 and 1 in one task", expected, ARRAY_SIZE(expected));
	s_exit(s, 1);
	all_gone(ARRAY_SIZE(expected));
}

static void double_map_is(struct fmi_scene *s, const char *what, int flag, int compound)
{
	s_check(s, what);
	folio_has(s, what, "double_map.flag", flag);
	folio_has(s, what, "double_map", compound);
}

/*
 * Shutemov and Marchand, 2015: the flag that a shared THP gets when one of its PMDs is split
 * stays when no PTE maps it any more.
 */
static void double_map_flag_is_sticky(struct fmi_scene *s)
{
	struct fmi_watch w;
	long long episodes, time;

	if (pmd_order != 9)
		fmi_skip("double_map is about THPs of 512 pages");
	s_populate(s);
	double_map_is(s, "populated", 0, 1);
	s_fork(s, 1, 2);
	double_map_is(s, "forked", 0, 2);
	watch(&w, s, "double_map", "entire");
	episodes = question_value(8, "double_map_outlives_episodes");
	p_mprotect(2, s->va, pgsz, PROT_READ);
	ex_vma_split(&s->e, 2, s_page(s, 1));
	ex_split(&s->e, 2, s->va, s->size);
	double_map_is(s, "the child's PMD split", 1, 1);
	became(&w, "the child's PMD split", FMI_RIGHT);
	s_munmap(s, 2, 0, s->nr);
	double_map_is(s, "the child's PTEs unmapped", 1, 1);
	WANT(s, "the child's PTEs unmapped", "total", 1);
	WANT(s, "the child's PTEs unmapped", "entire", 1);
	became(&w, "the child's PTEs unmapped", FMI_FALSE_NO);
	fmi_eq(question_value(8, "double_map_outlives_episodes"), episodes + 1,
	       "flags that outlived all PTEs");
	time = question_value(8, "double_map_outlives_time_ns");
	msleep(10);
	fmi_assert(question_value(8, "double_map_outlives_time_ns") >= time + 10 * 1000 * 1000,
		   "no time passes while the flag stays");
	s_munmap(s, 1, 0, s->nr);
	s_check(s, "the parent's PMD unmapped");
	became(&w, "the parent's PMD unmapped", FMI_GONE);
	time = question_value(8, "double_map_outlives_time_ns");
	msleep(10);
	fmi_eq(question_value(8, "double_map_outlives_time_ns"), time,
	       "time after the last compound mapping");
}

/* Not shared: the split clears the compound count, and there is nothing to remember. */
static void double_map_flag_of_an_unshared_thp(struct fmi_scene *s)
{
	if (pmd_order != 9)
		fmi_skip("double_map is about THPs of 512 pages");
	s_populate(s);
	p_mprotect(1, s->va, pgsz, PROT_READ);
	ex_vma_split(&s->e, 1, s_page(s, 1));
	ex_split(&s->e, 1, s->va, s->size);
	double_map_is(s, "split", 0, 0);
}

/* Half of the folio on each side of a PMD boundary: the second half is not mapped yet. */
static void map_across(struct fmi_scene *s)
{
	unsigned long half = s->nr / 2;
	unsigned long aligned = s->va;

	/* Its way into the page cache: an aligned mapping, which goes again. */
	s_open(s, s->size);
	p_start(1);
	s_map(s, 1, aligned, s->size, 0);
	s_fault(s, 1, aligned);
	p_munmap(1, aligned, s->size);
	ex_vma_cut(&s->e, 1, aligned, s->size);
	s->va = s->arena + 8 * pmd_size - half * pgsz;
	s_map(s, 1, s->va, s->size, 0);
	p_read(1, s->va, half);
	ex_map(&s->e, 1, s->va, 0, (int)half);
}

/* Xu, 2023-02-07: one VMA, and more (VMA, page table) tuples than that. */
static void across_a_pmd_boundary(struct fmi_scene *s)
{
	unsigned long half = s->nr / 2;
	unsigned long window = s->arena + 12 * pmd_size;
	struct fmi_watch shared, shared_vma;
	long long ever, now;

	map_across(s);
	s_check(s, "one side");
	WANT(s, "one side", "vma_pt", 1);
	WANT(s, "one side", "vma", 1);
	ever = question_value_of(s, 2, "folios_ever_unaligned");
	now = question_value_of(s, 2, "folios_unaligned_now");
	watch(&shared, s, "vma_pt", "shared");
	watch(&shared_vma, s, "vma_pt", "shared_vma");
	p_read(1, s_page(s, half), half);
	ex_map(&s->e, 1, s_page(s, half), (int)half, (int)half);
	s_check(s, "both sides");
	WANT(s, "both sides", "vma_pt", 2);
	WANT(s, "both sides", "vma", 1);
	became(&shared, "both sides", FMI_UNKNOWN);
	became(&shared_vma, "both sides", FMI_UNKNOWN);
	fmi_eq(question_value_of(s, 2, "folios_ever_unaligned"), ever + 1, "ever unaligned");
	fmi_eq(question_value_of(s, 2, "folios_unaligned_now"), now + 1, "unaligned now");
	/* A third tuple, of a second VMA of the same process. */
	s_map(s, 1, window, pgsz, 0);
	p_read(1, window, 1);
	ex_map(&s->e, 1, window, 0, 1);
	s_check(s, "three tuples");
	WANT(s, "three tuples", "vma_pt", 3);
	WANT(s, "three tuples", "vma", 2);
	WANT(s, "three tuples", "mm", 1);
	became(&shared, "three tuples", FMI_FALSE_YES);
	became(&shared_vma, "three tuples", FMI_RIGHT);
	p_munmap(1, window, pgsz);
	ex_vma_cut(&s->e, 1, window, pgsz);
	s_munmap(s, 1, half, half);
	s_check(s, "one side again");
	fmi_eq(question_value_of(s, 2, "folios_ever_unaligned"), ever + 1, "ever unaligned");
	fmi_eq(question_value_of(s, 2, "folios_unaligned_now"), now, "unaligned now");
	s_exit(s, 1);
	became(&shared, "unmapped", FMI_GONE);
	became(&shared_vma, "unmapped", FMI_GONE);
}

/* Anonymous folios get there by mremap only: both halves at once. */
static void moved_across_a_pmd_boundary(struct fmi_scene *s)
{
	unsigned long to = s->arena + 12 * pmd_size - s->size / 2;
	struct fmi_watch shared, shared_vma;
	long long ever, now;

	s_populate(s);
	ever = question_value_of(s, 2, "folios_ever_unaligned");
	now = question_value_of(s, 2, "folios_unaligned_now");
	watch(&shared, s, "vma_pt", "shared");
	watch(&shared_vma, s, "vma_pt", "shared_vma");
	p_mremap(1, s->va, s->size, to, 0);
	ex_move(&s->e, 1, s->va, s->size, to);
	s_check(s, "across two page tables");
	WANT(s, "across two page tables", "vma_pt", 2);
	became(&shared, "across two page tables", FMI_UNKNOWN);
	became(&shared_vma, "across two page tables", FMI_UNKNOWN);
	fmi_eq(question_value_of(s, 2, "folios_ever_unaligned"), ever + 1, "ever unaligned");
	fmi_eq(question_value_of(s, 2, "folios_unaligned_now"), now + 1, "unaligned now");
	s_exit(s, 1);
	fmi_eq(question_value_of(s, 2, "folios_ever_unaligned"), ever + 1, "ever unaligned");
	fmi_eq(question_value_of(s, 2, "folios_unaligned_now"), now, "unaligned now");
}

static const struct fmi_test tests[] = {
	{ "order4_page1_in_two_tasks", order4_page1_in_two_tasks, ON_ANON | ORDER4_ONLY },
	{ "order4_pages_0_and_1_in_one_task", order4_pages_0_and_1_in_one_task,
	  ON_ANON | ORDER4_ONLY },
	{ "double_map_flag_is_sticky", double_map_flag_is_sticky, ON_ANON | PMD_ONLY },
	{ "double_map_flag_of_an_unshared_thp", double_map_flag_of_an_unshared_thp,
	  ON_ANON | PMD_ONLY },
	{ "across_a_pmd_boundary", across_a_pmd_boundary, ON_SHMEM | ON_FILE },
	{ "moved_across_a_pmd_boundary", moved_across_a_pmd_boundary, ON_ANON },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
