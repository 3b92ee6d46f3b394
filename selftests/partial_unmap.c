// SPDX-License-Identifier: GPL-2.0
/* Partial unmaps: munmap and MADV_DONTNEED of head, tail, middle and single pages. */
#include <sys/mman.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

/* File memory whose PMD was split has no PTEs: nothing is left to check, so touch the rest. */
static void settle(struct fmi_scene *s, unsigned long first, unsigned long nr, const char *what)
{
	if (s->e.nr_mappings == 0) {
		s_check(s, what);
		p_read(1, s_page(s, first), nr);
		ex_learn(&s->e, 1);
		fmi_assert(s->e.nr_mappings > 0, "%s: nothing faulted in again", what);
	}
	s_check(s, what);
}

static unsigned long quarter(const struct fmi_scene *s)
{
	return s->nr >= 4 ? s->nr / 4 : 1;
}

static void munmap_head(struct fmi_scene *s)
{
	unsigned long nr = quarter(s);

	s_populate(s);
	s_munmap(s, 1, 0, nr);
	settle(s, nr, s->nr - nr, "a quarter at the beginning unmapped");
	s_munmap(s, 1, nr, 1);
	s_check(s, "one page more");
}

static void munmap_tail(struct fmi_scene *s)
{
	unsigned long nr = quarter(s);

	s_populate(s);
	s_munmap(s, 1, s->nr - nr, nr);
	settle(s, 0, s->nr - nr, "a quarter at the end unmapped");
	s_munmap(s, 1, s->nr - nr - 1, 1);
	s_check(s, "one page more");
}

static void munmap_middle(struct fmi_scene *s)
{
	unsigned long nr = quarter(s);

	s_populate(s);
	s_munmap(s, 1, s->nr / 2 - nr / 2, nr);
	settle(s, 0, 1, "the middle unmapped: two VMAs");
}

static void munmap_all(struct fmi_scene *s)
{
	s_populate(s);
	s_munmap(s, 1, 0, s->nr);
	s_check(s, "all unmapped");
}

static void dontneed_head(struct fmi_scene *s)
{
	unsigned long nr = quarter(s);

	s_populate(s);
	s_dontneed(s, 1, 0, nr);
	settle(s, nr, s->nr - nr, "a quarter at the beginning dropped");
}

static void dontneed_tail(struct fmi_scene *s)
{
	unsigned long nr = quarter(s);

	s_populate(s);
	s_dontneed(s, 1, s->nr - nr, nr);
	settle(s, 0, s->nr - nr, "a quarter at the end dropped");
}

static void dontneed_middle(struct fmi_scene *s)
{
	unsigned long nr = quarter(s);

	s_populate(s);
	s_dontneed(s, 1, s->nr / 2 - nr / 2, nr);
	settle(s, 0, 1, "the middle dropped");
}

static void dontneed_every_other_page(struct fmi_scene *s)
{
	s_populate(s);
	/* From above, so that page 0 is still there when a file folio is read again. */
	for (unsigned long i = s->nr - 1; i < s->nr; i -= 2)
		s_dontneed(s, 1, i, 1);
	settle(s, 0, 1, "the odd pages dropped");
	for (unsigned long i = 0; i < s->nr; i += 2)
		s_dontneed(s, 1, i, 1);
	s_check(s, "the even pages dropped");
}

static void dontneed_all_but_one(struct fmi_scene *s)
{
	s_populate(s);
	s_dontneed(s, 1, 0, s->nr / 2);
	if (s->nr > 2)
		s_dontneed(s, 1, s->nr / 2 + 1, s->nr / 2 - 1);
	settle(s, s->nr / 2, 1, "one page in the middle is left");
}

static void dropped_file_pages_come_back(struct fmi_scene *s)
{
	s_populate(s);
	s_dontneed(s, 1, 0, 1);
	p_read(1, s_page(s, 0), 1);
	ex_learn(&s->e, 1);
	s_check(s, "the first page is back");
	p_read(1, s->va, s->nr);
	ex_learn(&s->e, 1);
	s_check(s, "all pages are back");
	s_exit(s, 1);
	s_check(s, "gone");
}

static void two_processes_unmap_different_parts(struct fmi_scene *s)
{
	s_populate(s);
	s_fork(s, 1, 2);
	s_munmap(s, 1, 0, 1);
	s_check(s, "parent without the first page");
	s_dontneed(s, 2, s->nr - 1, 1);
	s_check(s, "child without the last page");
	s_dontneed(s, 2, 0, 1);
	s_check(s, "nobody maps the first page");
	s_munmap(s, 1, 0, s->nr);
	s_check(s, "parent without any");
	s_exit(s, 2);
	s_check(s, "gone");
}

static void two_processes_map_a_file(struct fmi_scene *s)
{
	s_populate(s);
	p_start(2);
	s_map(s, 2, s->va, s->size, 0);
	p_read(2, s->va, s->nr);
	s_mapped_whole(s, 2, s->va);
	s_check(s, "second process");
	s_munmap(s, 2, 0, 1);
	s_check(s, "second process without the first page");
	s_exit(s, 1);
	s_check(s, "first process gone");
}

static void one_process_maps_it_twice(struct fmi_scene *s)
{
	unsigned long second = s->arena + 10 * pmd_size;

	s_populate(s);
	s_map(s, 1, second, s->size, 0);
	p_read(1, second, s->nr);
	s_mapped_whole(s, 1, second);
	s_check(s, "two VMAs of one process");
	p_munmap(1, second, pgsz);
	ex_vma_cut(&s->e, 1, second, pgsz);
	s_check(s, "the second without the first page");
	s_munmap(s, 1, 0, s->nr);
	s_check(s, "only the second");
}

static const struct fmi_test tests[] = {
	{ "munmap_head", munmap_head, ON_EACH },
	{ "munmap_tail", munmap_tail, ON_EACH },
	{ "munmap_middle", munmap_middle, ON_EACH },
	{ "munmap_all", munmap_all, ON_EACH },
	{ "dontneed_head", dontneed_head, ON_EACH },
	{ "dontneed_tail", dontneed_tail, ON_EACH },
	{ "dontneed_middle", dontneed_middle, ON_EACH },
	{ "dontneed_every_other_page", dontneed_every_other_page, ON_EACH },
	{ "dontneed_all_but_one", dontneed_all_but_one, ON_EACH },
	{ "dropped_file_pages_come_back", dropped_file_pages_come_back, ON_SHMEM | ON_FILE },
	{ "two_processes_unmap_different_parts", two_processes_unmap_different_parts, ON_ANON },
	{ "two_processes_map_a_file", two_processes_map_a_file, ON_SHMEM | ON_FILE },
	{ "one_process_maps_it_twice", one_process_maps_it_twice, ON_SHMEM | ON_FILE },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
