// SPDX-License-Identifier: GPL-2.0
/*
 * Counters as their authors sketched them, kept at rmap calls only, in the situations
 * that the threads found for them: what they count, what they answer then, and what
 * they need to look at.
 */
#include <sys/mman.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_table.h"
#include "fmi_util.h"

#define WANT(s, what, name, value) ex_want(&(s)->e, what, name, value)

/* Three questions to vma_counter. */
struct asked {
	struct fmi_watch mapped, shared_vma, drift;
};

static void ask(struct asked *a, const struct fmi_scene *s)
{
	watch(&a->mapped, s, "vma_counter", "mapped");
	watch(&a->shared_vma, s, "vma_counter", "shared_vma");
	watch(&a->drift, s, "vma_counter", "drift");
}

static void answered(struct asked *a, const char *what, enum fmi_verdict mapped,
		     enum fmi_verdict shared_vma, enum fmi_verdict drift)
{
	became(&a->mapped, what, mapped);
	became(&a->shared_vma, what, shared_vma);
	became(&a->drift, what, drift);
}

static void counts(struct fmi_scene *s, const char *what, int vma, int vma_counter)
{
	s_check(s, what);
	WANT(s, what, "vma", vma);
	folio_has(s, what, "vma_counter", vma_counter);
}

/* Fork, and the parent copies two adjacent middle pages. */
static void cow_middle_pages(struct fmi_scene *s)
{
	s_populate(s);
	counts(s, "populated", 1, 1);
	s_fork(s, 1, 2);
	counts(s, "forked", 2, 2);
	s_cow(s, 1, s->nr / 2 - 1);
	s_cow(s, 1, s->nr / 2);
	counts(s, "the parent wrote two middle pages", 2, 2);
}

static void split_between(struct fmi_scene *s)
{
	p_mprotect(1, s->va, s->size / 2, PROT_READ);
	ex_vma_split(&s->e, 1, s_page(s, s->nr / 2));
}

/* Yin Fengwei, 2023-03-29 (4). */
static void vma_split_between_cowed_pages(struct fmi_scene *s)
{
	long long drifts, zeros;
	struct asked a;

	cow_middle_pages(s);
	s_exit(s, 2);
	counts(s, "child gone", 1, 1);
	drifts = question_value(4, "vma_counter_stale_episodes");
	zeros = question_value(4, "vma_counter_zero_while_mapped_episodes");
	ask(&a, s);
	split_between(s);
	counts(s, "VMA split between them", 2, 1);
	answered(&a, "VMA split between them", FMI_RIGHT, FMI_FALSE_NO, FMI_FALSE_NO);
	fmi_eq(question_value(4, "vma_counter_stale_episodes"), drifts + 1, "stale");
	fmi_eq(question_value(4, "vma_counter_zero_while_mapped_episodes"), zeros,
	       "0 while mapped");
	s_munmap(s, 1, 0, s->nr / 2);
	counts(s, "one side unmapped", 1, 0);
	answered(&a, "one side unmapped", FMI_FALSE_NO, FMI_RIGHT, FMI_FALSE_NO);
	fmi_eq(question_value(4, "vma_counter_stale_episodes"), drifts + 1, "still stale");
	fmi_eq(question_value(4, "vma_counter_zero_while_mapped_episodes"), zeros + 1,
	       "0 while mapped");
	s_munmap(s, 1, s->nr / 2, s->nr / 2);
	s_check(s, "the other side unmapped");
	answered(&a, "the other side unmapped", FMI_GONE, FMI_GONE, FMI_GONE);
}

static void vma_split_between_cowed_pages_child_alive(struct fmi_scene *s)
{
	struct asked a;

	cow_middle_pages(s);
	ask(&a, s);
	split_between(s);
	counts(s, "VMA split between them", 3, 2);
	answered(&a, "VMA split between them", FMI_RIGHT, FMI_RIGHT, FMI_FALSE_NO);
	s_munmap(s, 1, 0, s->nr / 2);
	counts(s, "one side unmapped", 2, 1);
	answered(&a, "one side unmapped", FMI_RIGHT, FMI_FALSE_NO, FMI_FALSE_NO);
	s_munmap(s, 1, s->nr / 2, s->nr / 2);
	counts(s, "the other side unmapped", 1, 0);
	answered(&a, "the other side unmapped", FMI_FALSE_NO, FMI_RIGHT, FMI_FALSE_NO);
	s_exit(s, 2);
	s_check(s, "child gone");
	answered(&a, "child gone", FMI_GONE, FMI_GONE, FMI_GONE);
}

/* A split at the edge of what is mapped, with nothing unmapped: one VMA more maps it. */
static void vma_split_and_merged_again(struct fmi_scene *s)
{
	struct asked a;

	s_populate(s);
	/* PTEs, whatever the fault made. */
	p_mprotect(1, s->va, pgsz, PROT_READ);
	p_mprotect(1, s->va, pgsz, PROT_READ | PROT_WRITE);
	ex_split(&s->e, 1, s->va, pgsz);
	counts(s, "PTEs", 1, 1);
	ask(&a, s);
	split_between(s);
	counts(s, "VMA split", 2, 1);
	answered(&a, "VMA split", FMI_RIGHT, FMI_FALSE_NO, FMI_FALSE_NO);
	p_mprotect(1, s->va, s->size / 2, PROT_READ | PROT_WRITE);
	ex_vma_merge(&s->e, 1, s_page(s, s->nr / 2));
	counts(s, "merged again", 1, 1);
	answered(&a, "merged again", FMI_RIGHT, FMI_RIGHT, FMI_RIGHT);
}

static void dontneed(struct fmi_scene *s, const char *what, unsigned long first, unsigned long nr,
		     int vma_counter, int vma_pt_counter)
{
	s_dontneed(s, 1, first, nr);
	counts(s, what, 1, vma_counter);
	folio_has(s, what, "vma_pt_counter", vma_pt_counter);
}

/*
 * DONTNEED of the first quarter, the last, then the rest (2021-12-16). vma_counter looks for
 * other mappings in its VMA each time, vma_pt_counter never does.
 */
static void dontneed_first_last_middle(struct fmi_scene *s)
{
	struct fmi_watch vma_drift, pt_drift, pt_mapped;
	long long quarter = (long long)s->nr / 4;
	long long entries, below, sum;

	s_populate(s);
	counts(s, "populated", 1, 1);
	folio_has(s, "populated", "vma_pt_counter", 1);
	fmi_assert(fmi_write("reset", "questions") > 0, "cannot reset questions");
	below = question_or_0(0, "vma_pt_counter_below_zero");
	sum = question_or_0(0, "vma_pt_counter_below_zero_sum");
	watch(&vma_drift, s, "vma_counter", "drift");
	watch(&pt_drift, s, "vma_pt_counter", "drift");
	watch(&pt_mapped, s, "vma_pt_counter", "mapped");
	dontneed(s, "first quarter", 0, s->nr / 4, 1, 0);
	became(&pt_drift, "first quarter", FMI_FALSE_NO);
	became(&pt_mapped, "first quarter", FMI_FALSE_NO);
	fmi_eq(question_value(3, "scans_remove"), 1, "scans");
	entries = question_value(3, "scans_remove_entries");
	fmi_eq(entries, quarter + 1, "entries up to the first mapped one");
	dontneed(s, "last quarter", s->nr - s->nr / 4, s->nr / 4, 1, -1);
	became(&pt_drift, "last quarter", FMI_FALSE_NO);
	became(&pt_mapped, "last quarter", FMI_FALSE_NO);
	became(&vma_drift, "last quarter", FMI_RIGHT);
	fmi_eq(question_value(3, "scans_remove"), 2, "scans");
	fmi_eq(question_value(3, "scans_remove_entries"), 2 * (quarter + 1), "entries");
	s_dontneed(s, 1, s->nr / 4, s->nr / 2);
	fmi_eq(s->e.nr_mappings, 0, "mappings left");
	s_check(s, "the rest");
	became(&pt_mapped, "the rest", FMI_GONE);
	became(&pt_drift, "the rest", FMI_GONE);
	became(&vma_drift, "the rest", FMI_GONE);
	/* What is left in the counters when nothing is mapped: -2, and 0. */
	fmi_eq(question_or_0(0, "vma_pt_counter_below_zero"), below + 1, "counters below 0");
	fmi_eq(question_or_0(0, "vma_pt_counter_below_zero_sum"), sum + 2, "and by how much");
	fmi_eq(question_or_0(0, "vma_counter_below_zero"), 0, "vma_counter below 0");
	fmi_eq(question_or_0(0, "vma_counter_left_over"), 0, "vma_counter left over");
	fmi_eq(question_value(3, "scans_remove"), 3, "scans");
	fmi_eq(question_value(3, "scans_remove_max"), (long long)s->nr, "nothing found");
	fmi_eq(question_value(3, "scans_remove_entries"), 2 * (quarter + 1) + (long long)s->nr,
	       "entries");
}

/*
 * UFFDIO_CONTINUE page by page, from the end of a folio of page cache to its beginning
 * (Houghton, 2023-02-08): each time, all entries from the beginning of the folio up to the
 * last one that was mapped. Two tasks take turns, so that every page is a run of its own.
 */
static void uffdio_continue_from_the_end(struct fmi_scene *s)
{
	long long n = (long long)s->nr;

	s_open(s, s->size);
	p_start(3);
	s_map(s, 3, s->va, s->size, 0);
	s_fault(s, 3, s->va);
	s_mapped_whole(s, 3, s->va);
	s_check(s, "in the page cache");
	p_start(1);
	s_map(s, 1, s->va, s->size, 0);
	p_uffd_minor(1, s->va, s->size);
	s_fork(s, 1, 2);
	/* The mapping of another task is of no use: the VMA is looked at. */
	fmi_assert(fmi_write("reset", "questions") > 0, "cannot reset questions");
	for (unsigned long i = s->nr; i-- > 0;) {
		p_uffd_continue(i % 2 ? 1 : 2, s_page(s, i), pgsz);
		ex_map(&s->e, 1, s_page(s, i), (int)i, 1);
		if (i == s->nr - 1 || i == s->nr / 2 || i == 0)
			counts(s, "continued", 2, 2);
	}
	fmi_eq(question_value(3, "scans_add"), n, "scans");
	/* The first finds nothing in n entries; page i finds page i + 1 at entry i + 2. */
	fmi_eq(question_value(3, "scans_add_entries"), n + n * (n + 1) / 2 - 1, "entries");
	fmi_eq(question_value(3, "scans_add_max"), n, "longest scan");
	/* +1 each time, and it never looks: one mapping by a PMD or all PTEs, and n pages. */
	folio_has(s, "continued", "vma_pt_counter", 1 + n);
}

static const struct fmi_test tests[] = {
	{ "vma_split_between_cowed_pages", vma_split_between_cowed_pages, ON_ANON | NOT_ORDER1 },
	{ "vma_split_between_cowed_pages_child_alive", vma_split_between_cowed_pages_child_alive,
	  ON_ANON | NOT_ORDER1 },
	{ "vma_split_and_merged_again", vma_split_and_merged_again, ON_ANON },
	{ "dontneed_first_last_middle", dontneed_first_last_middle, ON_ANON | NOT_ORDER1 },
	{ "uffdio_continue_from_the_end", uffdio_continue_from_the_end, ON_SHMEM },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
