// SPDX-License-Identifier: GPL-2.0
/*
 * mremap that fails in the middle, because a page table at the new place cannot be allocated, and
 * moves back what it had moved: two windows, and everything is where it was.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "fmi_cgroup.h"
#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

/* Limits of the group that are tried, in pages: a mremap needs some for its VMA. */
#define MOST_PAGES 24

static long do_remap(unsigned long from, unsigned long len, unsigned long to, unsigned long d)
{
	(void)d;
	return mremap((void *)from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)to) ==
	       MAP_FAILED ? errno : 0;
}

/*
 * Moves the range under one limit after the other until it works. `before`: what an attempt does
 * to the folio, whether it fails or not.
 */
static void under_limits(struct fmi_scene *s, unsigned long len, unsigned long to,
			 void (*before)(struct fmi_scene *s))
{
	int in_the_middle = 0, at_once = 0;
	long long opened;
	long err = ENOMEM;

	/* They tell whether anything was moved. */
	module_needs_windows();
	/*
	 * Of its stack, and where it keeps errno, the actor may have copied nothing since a
	 * fork. It cannot be killed, so to copy it under a limit would take forever.
	 */
	fmi_eq(p_call(1, do_remap, s->va, 0, to, 0), EINVAL, "mremap of nothing");
	cg_enter(p_pid(1));
	for (long pages = 0; err && pages <= MOST_PAGES; pages++) {
		cg_limit(pages);
		opened = fmi_stat("windows_opened");
		err = p_call(1, do_remap, s->va, len, to, 0);
		cg_limit(-1);
		if (!err)
			break;
		fmi_assert(err == ENOMEM, "mremap: %s", strerror((int)err));
		opened = fmi_stat("windows_opened") - opened;
		if (opened) {
			fmi_eq(opened, 2, "windows of a move that was undone");
			if (before && !in_the_middle)
				before(s);
			in_the_middle++;
		} else {
			at_once++;
		}
		s_check(s, opened ? "moved back" : "never moved");
	}
	cg_no_warning();
	fmi_assert(err == 0, "mremap fails even with %d pages", MOST_PAGES);
	fmi_note("%d moves undone, %d not begun", in_the_middle, at_once);
	fmi_assert(in_the_middle, "no move was undone");
	ex_move(&s->e, 1, s->va, len, to);
	s_check(s, "moved at last");
	fmi_eq(fmi_stat("windows_open"), 0, "windows_open");
}

static void split_pmd(struct fmi_scene *s)
{
	ex_split(&s->e, 1, s->va, s->size);
}

/* To two page tables, of which only the first is there: half of the folio comes back. */
static void half_of_it_comes_back(struct fmi_scene *s)
{
	unsigned long to = s->arena + 20 * pmd_size - s->size / 2;

	s_populate(s);
	p_mmap(1, to - 2 * pgsz, pgsz, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	p_write(1, to - 2 * pgsz, 1);
	under_limits(s, s->size, to, s->order == pmd_order ? split_pmd : NULL);
}

/* The same while others map it. */
static void half_of_it_comes_back_in_a_child(struct fmi_scene *s)
{
	unsigned long to = s->arena + 20 * pmd_size - s->size / 2;

	s_populate(s);
	p_mmap(1, to - 2 * pgsz, pgsz, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	p_write(1, to - 2 * pgsz, 1);
	s_fork(s, 1, 2);
	if (s->kind != FMI_ANON)
		ex_learn(&s->e, 2);
	s_check(s, "forked");
	under_limits(s, s->size, to, s->order == pmd_order ? split_pmd : NULL);
	s_exit(s, 2);
	s_check(s, "the child is gone");
}

/* The PMD moves, the single page behind it cannot: the PMD comes back. */
static void a_pmd_comes_back(struct fmi_scene *s)
{
	unsigned long to = s->arena + 20 * pmd_size, len = s->size + pgsz;

	if (s->kind != FMI_ANON)
		s_open(s, len);
	p_start(1);
	s_map(s, 1, s->va, len, 0);
	s_fault(s, 1, s->va);
	s_mapped_whole(s, 1, s->va);
	p_write(1, s->va + s->size, 1);
	s_check(s, "populated");
	under_limits(s, len, to, NULL);
}

static const struct fmi_test tests[] = {
	{ "half_of_it_comes_back", half_of_it_comes_back, ON_ANON },
	{ "half_of_it_comes_back", half_of_it_comes_back, ON_SHMEM | ON_FILE | PTE_ONLY },
	{ "half_of_it_comes_back_in_a_child", half_of_it_comes_back_in_a_child,
	  ON_ANON },
	{ "a_pmd_comes_back", a_pmd_comes_back, ON_ANON | ON_SHMEM | PMD_ONLY },
};

int main(int argc, char **argv)
{
	int ret;

	fmi_util_init();
	cg_start();
	ret = fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
	cg_stop();
	return ret;
}
