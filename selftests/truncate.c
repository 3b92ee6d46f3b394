// SPDX-License-Identifier: GPL-2.0
/* Truncation and hole punching of files: pages go without their processes doing anything. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

static void truncate_to(struct fmi_scene *s, unsigned long pages)
{
	fmi_assert(!ftruncate(s->fd, (off_t)(pages * pgsz)), "ftruncate: %s", strerror(errno));
}

static void punch(struct fmi_scene *s, unsigned long first, unsigned long nr)
{
	fmi_assert(!fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (off_t)(first * pgsz), (off_t)(nr * pgsz)),
		   "fallocate: %s", strerror(errno));
}

static void two_processes(struct fmi_scene *s)
{
	s_populate(s);
	p_start(2);
	s_map(s, 2, s->va, s->size, 0);
	p_read(2, s->va, s->nr);
	s_mapped_whole(s, 2, s->va);
	s_check(s, "two processes");
}

static void nothing_left(struct fmi_scene *s, const char *what)
{
	for (int who = 1; who <= 2; who++) {
		for (unsigned long i = 0; p_pid(who) && i < s->nr; i++)
			fmi_assert(!pagemap_pfn(p_pid(who), s_page(s, i)),
				   "%s: actor %d still maps page %lu", what, who, i);
	}
	s->e.nr_mappings = 0;
	ex_check_gone(&s->e, what);
}

static void truncate_all(struct fmi_scene *s)
{
	two_processes(s);
	truncate_to(s, 0);
	nothing_left(s, "truncated to nothing");
	fmi_assert(!p_try_read(1, s->va), "a read beyond the end must fail");
	truncate_to(s, s->nr);
	p_read(1, s->va, s->nr);
	s_check_found(s, "grown again, other pages");
}

static void truncate_half(struct fmi_scene *s)
{
	two_processes(s);
	truncate_to(s, s->nr / 2);
	s_check_found(s, "truncated to half");
	p_read(1, s->va, s->nr / 2);
	p_read(2, s->va, s->nr / 2);
	s_check_found(s, "the rest faulted in");
	for (unsigned long i = s->nr / 2; i < s->nr; i++)
		fmi_assert(!pagemap_pfn(p_pid(1), s_page(s, i)), "page %lu is still mapped", i);
}

/*
 * A reference keeps the folio of a memfd from being split: its second half stays in it, mapped
 * by nobody until a fault maps the whole folio again by a PMD. A clean one of a file is dropped.
 */
static void truncate_half_referenced(struct fmi_scene *s)
{
	two_processes(s);
	p_vmsplice(1, s->va, pgsz);
	s_check(s, "referenced");
	truncate_to(s, s->nr / 2);
	for (unsigned long i = s->nr / 2; i < s->nr; i++)
		fmi_assert(!pagemap_pfn(p_pid(1), s_page(s, i)), "page %lu is still mapped", i);
	s_check_found(s, "truncated to half");
	p_read(1, s->va, s->nr / 2);
	p_read(2, s->va, s->nr / 2);
	if (s->kind == FMI_SHMEM)
		fmi_eq(folio_order(pagemap_pfn(p_pid(1), s->va), NULL), s->order,
		       "order of the folio");
	s_check_found(s, "the rest faulted in");
	p_unpin(1);
	punch(s, 0, 1);
	s_check_found(s, "punched without the reference");
	p_read(2, s->va, s->nr / 2);
	s_check_found(s, "faulted in again");
}

static void punch_all(struct fmi_scene *s)
{
	two_processes(s);
	punch(s, 0, s->nr);
	nothing_left(s, "a hole of the folio's size");
	p_read(2, s->va, s->nr);
	s_check_found(s, "faulted in again");
}

static void punch_middle(struct fmi_scene *s)
{
	unsigned long nr = s->nr >= 4 ? s->nr / 4 : 1;

	two_processes(s);
	punch(s, s->nr / 2, nr);
	for (unsigned long i = s->nr / 2; i < s->nr / 2 + nr; i++)
		fmi_assert(!pagemap_pfn(p_pid(1), s_page(s, i)), "page %lu is still mapped", i);
	s_check_found(s, "a hole in the middle");
	p_read(1, s->va, s->nr);
	p_read(2, s->va, s->nr);
	s_check_found(s, "faulted in again");
}

static void punch_first_page(struct fmi_scene *s)
{
	two_processes(s);
	punch(s, 0, 1);
	s_check_found(s, "the first page punched");
	p_read(2, s->va, s->nr);
	s_check_found(s, "faulted in again");
	s_exit(s, 1);
	s_check_found(s, "one process gone");
}

/* The copies of a private mapping outlive the file's pages (truncation takes them, too). */
static void private_copies(struct fmi_scene *s)
{
	s_populate(s);
	p_start(2);
	s_map_private(s, 2, s->va, s->size, 0);
	p_read(2, s->va, s->nr);
	s_mapped_whole(s, 2, s->va);
	s_check(s, "shared and private");
	s_cow(s, 2, 0);
	s_check(s, "private page written");
	punch(s, 0, s->nr);
	s_exit(s, 1);
	fmi_assert(pagemap_pfn(p_pid(2), s->va), "the private copy is gone");
	ex_unmap(&s->e, 2, s->va, s->size);
	ex_check_gone(&s->e, "punched");
}

static const struct fmi_test tests[] = {
	{ "truncate_all", truncate_all, ON_SHMEM | ON_FILE },
	{ "truncate_half", truncate_half, ON_SHMEM | ON_FILE },
	{ "truncate_half_referenced", truncate_half_referenced, ON_SHMEM | ON_FILE | FEW_SIZES },
	{ "punch_all", punch_all, ON_SHMEM | ON_FILE },
	{ "punch_middle", punch_middle, ON_SHMEM | ON_FILE },
	{ "punch_first_page", punch_first_page, ON_SHMEM | ON_FILE },
	{ "private_copies", private_copies, ON_SHMEM | ON_FILE },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
