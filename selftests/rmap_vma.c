// SPDX-License-Identifier: GPL-2.0
/* rmap_vma: the VMAs that a walk over the reverse map visits, whether they map the folio or not. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

static void visits(struct fmi_scene *s, int rmap_vma, int active, const char *what)
{
	const char *report = fmi_report_pfn(s->e.pfn);
	char value[32];

	fmi_assert(report, "%s: no report", what);
	fmi_assert(text_value(report, "rmap_vma") == rmap_vma, "%s: rmap_vma: got %lld, want %d",
		   what, text_value(report, "rmap_vma"), rmap_vma);
	if (s->kind == FMI_ANON)
		fmi_assert(text_value(report, "num_active_vmas") == active,
			   "%s: num_active_vmas: got %lld, want %d", what,
			   text_value(report, "num_active_vmas"), active);
	else
		fmi_assert(!text_find(report, "num_active_vmas", value, sizeof(value)),
			   "%s: num_active_vmas of a file", what);
}

static void one_vma(struct fmi_scene *s)
{
	s_populate(s);
	visits(s, 1, 1, "mapped once");
	s_munmap(s, 1, s->nr - 1, 1);
	/* Page cache whose PMD was split is mapped nowhere, but the VMA is still there. */
	visits(s, 1, 1, "without the last page");
}

/* A hole in the middle makes two VMAs of one. */
static void two_vmas_of_a_process(struct fmi_scene *s)
{
	s_populate(s);
	s_munmap(s, 1, s->nr / 2, 1);
	visits(s, 2, 2, "without a page in the middle");
	s_munmap(s, 1, 0, s->nr / 2);
	visits(s, 1, 1, "without the first half");
}

/* The child's VMA stays on the list of the parent's anon_vma when it maps nothing any more. */
static void a_child_that_maps_nothing(struct fmi_scene *s)
{
	s_populate(s);
	s_fork(s, 1, 2);
	visits(s, 2, 1, "forked");
	s_dontneed(s, 2, 0, s->nr);
	s_check(s, "dropped by the child");
	visits(s, 2, 1, "dropped by the child");
	s_munmap(s, 2, 0, s->nr);
	visits(s, 1, 1, "unmapped by the child");
}

/* Anonymous folios are numbered in their own way, also where the VMA has a file's offset. */
static void private_zero(struct fmi_scene *s)
{
	s_populate_zero(s);
	visits(s, 1, 1, "mapped once");
	s_fork(s, 1, 2);
	visits(s, 2, 1, "forked");
}

static void a_process_that_never_touched_it(struct fmi_scene *s)
{
	s_populate(s);
	p_start(2);
	s_map(s, 2, s->va, s->size, 0);
	visits(s, 2, 0, "another VMA");
	s_check(s, "but no other mapping");
	s_exit(s, 2);
	visits(s, 1, 0, "gone again");
}

/* Only VMAs that cover a page of the folio count. */
static void a_vma_of_another_part_of_the_file(struct fmi_scene *s)
{
	unsigned long second = s->arena + 10 * pmd_size;

	s_open(s, 2 * s->size);
	p_start(1);
	s_map(s, 1, s->va, s->size, 0);
	s_fault(s, 1, s->va);
	s_mapped_whole(s, 1, s->va);
	s_map(s, 1, second, s->size, s->size);
	visits(s, 1, 0, "the part behind the folio");
	s_map(s, 1, second + 4 * pmd_size, 2 * pgsz, s->size - pgsz);
	visits(s, 2, 0, "a VMA that begins at its last page");
}

static void is_among_the_definitions(struct fmi_scene *s)
{
	static char text[1 << 16];

	(void)s;
	fmi_assert(fmi_read("definitions", text, sizeof(text)) > 0, "cannot read definitions");
	fmi_assert(strstr(text, "\nrmap_vma\t"), "not there");
}

static const struct fmi_test tests[] = {
	{ "one_vma", one_vma, ON_EACH },
	{ "two_vmas_of_a_process", two_vmas_of_a_process, ON_EACH | NOT_ORDER1 },
	{ "a_child_that_maps_nothing", a_child_that_maps_nothing, ON_ANON },
	{ "private_zero", private_zero, ON_ANON },
	{ "a_process_that_never_touched_it", a_process_that_never_touched_it, ON_SHMEM | ON_FILE },
	{ "a_vma_of_another_part_of_the_file", a_vma_of_another_part_of_the_file,
	  ON_SHMEM },
	{ "is_among_the_definitions", is_among_the_definitions, ON_ONCE },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
