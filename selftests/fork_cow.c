// SPDX-License-Identifier: GPL-2.0
/* Copy on write after fork: who writes, who exits first, three generations, private files. */
#include <stdio.h>
#include <sys/mman.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

static void fork_shares_every_page(struct fmi_scene *s)
{
	s_populate(s);
	s_fork(s, 1, 2);
	s_check(s, "forked");
	s_exit(s, 2);
	s_check(s, "child gone");
}

static void parent_writes(struct fmi_scene *s)
{
	s_populate(s);
	s_fork(s, 1, 2);
	s_cow(s, 1, 0);
	s_check(s, "parent wrote the first page");
	s_cow(s, 1, s->nr - 1);
	s_check(s, "parent wrote the last page");
	s_exit(s, 2);
	s_check(s, "child gone");
	s_write_in_place(s, 1, s->nr / 2);
	s_check(s, "parent reuses a middle page");
}

static void child_writes(struct fmi_scene *s)
{
	s_populate(s);
	s_fork(s, 1, 2);
	s_cow(s, 2, s->nr / 2);
	s_check(s, "child wrote a middle page");
	s_cow(s, 2, s->nr / 2 - 1);
	s_check(s, "child wrote the page before it");
	s_exit(s, 2);
	s_check(s, "child gone");
}

static void both_write_other_pages(struct fmi_scene *s)
{
	s_populate(s);
	s_fork(s, 1, 2);
	s_cow(s, 1, 1);
	s_cow(s, 2, 2);
	s_check(s, "parent wrote page 1, child page 2");
	s_cow(s, 1, 2);
	s_check(s, "nobody maps page 2");
}

static void child_writes_all_pages(struct fmi_scene *s)
{
	s_populate(s);
	s_fork(s, 1, 2);
	for (unsigned long i = 0; i < s->nr; i++)
		s_cow(s, 2, i);
	s_check(s, "child has copies only");
	s_write_in_place(s, 1, 0);
	s_check(s, "parent is the only one again");
}

static void parent_exits_first(struct fmi_scene *s)
{
	s_populate(s);
	s_fork(s, 1, 2);
	s_cow(s, 1, 0);
	s_exit(s, 1);
	s_check(s, "parent gone");
	s_write_in_place(s, 2, 0);
	s_check(s, "child reuses");
	s_exit(s, 2);
	s_check(s, "child gone");
}

static void child_exits_first(struct fmi_scene *s)
{
	s_populate(s);
	s_fork(s, 1, 2);
	s_cow(s, 2, 0);
	s_exit(s, 2);
	s_check(s, "child gone");
	s_exit(s, 1);
	s_check(s, "parent gone");
}

static void three_generations(struct fmi_scene *s)
{
	s_populate(s);
	s_fork(s, 1, 2);
	s_fork(s, 2, 3);
	s_check(s, "three of them");
	s_cow(s, 3, 0);
	s_cow(s, 2, 1);
	s_cow(s, 1, 2);
	s_check(s, "each wrote a page");
	s_exit(s, 2);
	s_check(s, "the middle one gone");
	s_fork(s, 3, 4);
	s_check(s, "a fourth from the third");
	s_exit(s, 1);
	s_check(s, "the first gone");
	s_exit(s, 3);
	s_check(s, "only the fourth left");
	s_exit(s, 4);
	s_check(s, "all gone");
}

static void fork_after_partial_unmap(struct fmi_scene *s)
{
	s_populate(s);
	s_dontneed(s, 1, 1, 1);
	s_fork(s, 1, 2);
	s_check(s, "forked without page 1");
	s_dontneed(s, 2, 0, 1);
	s_check(s, "child dropped page 0");
	s_fork(s, 2, 3);
	s_check(s, "grandchild has neither");
}

/* Anonymous folios in a VMA that has a file and a file's offset. */
static void private_zero(struct fmi_scene *s)
{
	s_populate_zero(s);
	s_fork(s, 1, 2);
	s_cow(s, 2, 0);
	s_check(s, "forked, and child wrote page 0");
	s_dontneed(s, 1, s->nr - 1, 1);
	s_check(s, "parent dropped the last page");
	s_munmap(s, 2, 0, s->nr / 2);
	s_check(s, "child unmapped the first half");
	s_exit(s, 1);
	s_check(s, "parent gone");
	s_exit(s, 2);
	s_check(s, "child gone");
}

/* A private mapping of a file that was written to is copied by fork, others are not. */
static void private_file(struct fmi_scene *s)
{
	unsigned long other = s->arena + 8 * pmd_size;

	s_open(s, s->size);
	p_start(1);
	s_map(s, 1, other, s->size, 0);
	s_fault(s, 1, other);
	p_munmap(1, other, s->size);
	ex_vma_cut(&s->e, 1, other, s->size);

	s_map_private(s, 1, s->va, s->size, 0);
	p_read(1, s->va, s->nr);
	s_mapped_whole(s, 1, s->va);
	s_check(s, "read");
	p_fork(1, 2);
	ex_vma(&s->e, 2, s->va, s->va + s->size);
	s_check(s, "nothing to copy");
	p_read(2, s->va, s->nr);
	s_mapped_whole(s, 2, s->va);
	s_check(s, "child read");
	s_exit(s, 2);

	/* A write copies the page; a PMD is split first, which leaves no PTE. */
	s_cow(s, 1, 1);
	s_check(s, "wrote page 1");
	p_read(1, s->va, s->nr);
	ex_learn(&s->e, 1);
	fmi_eq(s->e.nr_mappings, s->nr - 1, "pages read again");
	s_check(s, "read again");
	s_fork(s, 1, 2);
	s_check(s, "fork copied the PTEs");
	s_cow(s, 2, 0);
	s_cow(s, 1, s->nr - 1);
	s_check(s, "both wrote");
	s_exit(s, 1);
	s_check(s, "parent gone");
	s_exit(s, 2);
	s_check(s, "child gone");
}

/* Shared memory is not copied: the child maps what it touches, and a write stays in place. */
static void shared_file(struct fmi_scene *s)
{
	s_populate(s);
	p_fork(1, 2);
	ex_vma(&s->e, 2, s->va, s->va + s->size);
	s_check(s, "nothing to copy");
	p_write(2, s->va, s->nr);
	s_mapped_whole(s, 2, s->va);
	s_check(s, "child wrote");
	p_write(1, s->va, s->nr);
	s_check(s, "parent wrote");
	s_exit(s, 1);
	s_check(s, "parent gone");
	s_exit(s, 2);
	s_check(s, "child gone");
}

/* A guard page has fork copy the page tables of a mapping that it would leave to page faults. */
static void guarded_file(struct fmi_scene *s)
{
	s_populate(s);
	p_madvise(1, s_page(s, s->nr - 1), pgsz, MADV_GUARD_INSTALL);
	/* A PMD was split first, which left no PTE. */
	p_read(1, s->va, s->nr - 1);
	ex_learn(&s->e, 1);
	fmi_eq(s->e.nr_mappings, s->nr - 1, "pages beside the guard page");
	s_check(s, "guarded");
	s_fork(s, 1, 2);
	s_check(s, "fork copied the PTEs");
	s_dontneed(s, 2, 0, 2);
	s_check(s, "child dropped two pages");
	s_exit(s, 1);
	s_check(s, "parent gone");
	s_exit(s, 2);
	s_check(s, "child gone");
}

/* PTEs also for a folio of a PMD: a VMA ends behind the first page, for a moment. */
static void map_by_ptes(struct fmi_scene *s)
{
	p_mprotect(1, s->va, pgsz, PROT_READ);
	ex_vma_split(&s->e, 1, s_page(s, 1));
	ex_split(&s->e, 1, s->va, pgsz);
	p_mprotect(1, s->va, pgsz, PROT_READ | PROT_WRITE);
	ex_vma_merge(&s->e, 1, s_page(s, 1));
	s_check(s, "mapped by PTEs");
}

/* What a fork and a move copy is seen in page tables: here entries of one folio are not alike. */
static void entries_that_differ(struct fmi_scene *s)
{
	const unsigned long to = s->arena + 12 * pmd_size + pgsz;
	char path[64];

	s_populate(s);
	map_by_ptes(s);
	snprintf(path, sizeof(path), "/proc/%d/clear_refs", p_pid(1));
	fmi_assert(write_text(path, "1") > 0, "clear_refs");
	/* Not young, young, dirty, in runs of one to seven pages. */
	for (unsigned long i = 0, run = 1; i < s->nr; i += run, run = run % 7 + 1) {
		if (run % 3 == 1)
			p_read(1, s_page(s, i), run < s->nr - i ? run : s->nr - i);
		if (run % 3 == 2)
			p_write(1, s_page(s, i), run < s->nr - i ? run : s->nr - i);
	}
	s_check(s, "written here and there");
	s_fork(s, 1, 2);
	s_check(s, "forked");
	s_cow(s, 2, 1);
	s_cow(s, 2, s->nr - 2);
	s_check(s, "the child has two pages of its own");
	p_fork(2, 3);
	ex_fork(&s->e, 2, 3);
	s_check(s, "the child forked");
	p_mremap(1, s->va, s->size, to, 0);
	ex_move(&s->e, 1, s->va, s->size, to);
	s_check(s, "moved by a page");
}

/* On x86-64 the frame number of an entry that gives no access is kept inverted. */
static void no_access(struct fmi_scene *s)
{
	const unsigned long to = s->arena + 12 * pmd_size + pgsz;

	s_populate(s);
	map_by_ptes(s);
	p_mprotect(1, s->va, s->size, PROT_NONE);
	s_check(s, "no access");
	s_fork(s, 1, 2);
	s_check(s, "forked");
	p_mremap(1, s->va, s->size, to, 0);
	ex_move(&s->e, 1, s->va, s->size, to);
	s_check(s, "moved by a page");
	p_mprotect(2, s->va, s->size, PROT_READ | PROT_WRITE);
	s_check(s, "access again");
	s_cow(s, 2, 0);
	s_check(s, "the child wrote");
}

static const struct fmi_test tests[] = {
	{ "fork_shares_every_page", fork_shares_every_page, ON_ANON },
	{ "parent_writes", parent_writes, ON_ANON },
	{ "child_writes", child_writes, ON_ANON },
	{ "both_write_other_pages", both_write_other_pages, ON_ANON },
	{ "child_writes_all_pages", child_writes_all_pages, ON_ANON },
	{ "parent_exits_first", parent_exits_first, ON_ANON },
	{ "child_exits_first", child_exits_first, ON_ANON },
	{ "three_generations", three_generations, ON_ANON },
	{ "fork_after_partial_unmap", fork_after_partial_unmap, ON_ANON },
	{ "entries_that_differ", entries_that_differ, ON_ANON },
	{ "no_access", no_access, ON_ANON },
	{ "private_zero", private_zero, ON_ANON },
	{ "private_file", private_file, ON_SHMEM | ON_FILE },
	{ "shared_file", shared_file, ON_SHMEM | ON_FILE },
	{ "guarded_file", guarded_file, ON_SHMEM | ON_FILE },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
