// SPDX-License-Identifier: GPL-2.0
/* mremap moves mappings without any rmap call: totals stay, VMAs and page tables change. */
#include <sys/mman.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

static unsigned long target(const struct fmi_scene *s)
{
	return s->arena + 12 * pmd_size;
}

static void move(struct fmi_scene *s, int who, unsigned long first, unsigned long nr,
		 unsigned long to)
{
	p_mremap(who, s_page(s, first), nr * pgsz, to, 0);
	ex_move(&s->e, who, s_page(s, first), nr * pgsz, to);
}

/* A file's PMD that had to be split left nothing: touch what is where it should be. */
static void check(struct fmi_scene *s, const char *what)
{
	if (s->e.nr_mappings == 0) {
		s_check(s, what);
		for (int i = 0; i < s->e.nr_vmas; i++) {
			const struct ex_vma *vma = &s->e.vmas[i];

			p_read(vma->who, vma->start, (vma->end - vma->start) / pgsz);
		}
		ex_learn(&s->e, 1);
		fmi_assert(s->e.nr_mappings > 0, "%s: nothing faulted in again", what);
	}
	s_check(s, what);
}

static void move_whole(struct fmi_scene *s)
{
	s_populate(s);
	move(s, 1, 0, s->nr, target(s));
	check(s, "moved");
	p_mremap(1, target(s), s->size, s->va, 0);
	ex_move(&s->e, 1, target(s), s->size, s->va);
	check(s, "and back");
}

static void move_whole_unaligned(struct fmi_scene *s)
{
	s_populate(s);
	move(s, 1, 0, s->nr, target(s) + 3 * pgsz);
	check(s, "moved to an odd address");
	s_fork(s, 1, 2);
	if (s->kind != FMI_ANON)
		ex_learn(&s->e, 2);
	check(s, "and forked");
}

static void move_across_page_tables(struct fmi_scene *s)
{
	s_populate(s);
	move(s, 1, 0, s->nr, target(s) - s->size / 2);
	check(s, "half of it in each of two page tables");
	if (s->e.nr_mappings == (int)s->nr)
		ex_want(&s->e, "two page tables", "vma_pt", 2);
}

static void move_tail(struct fmi_scene *s)
{
	s_populate(s);
	move(s, 1, s->nr / 2, s->nr / 2, target(s));
	check(s, "second half moved");
	p_munmap(1, target(s), pgsz);
	ex_vma_cut(&s->e, 1, target(s), pgsz);
	check(s, "the first moved page unmapped");
}

static void move_middle(struct fmi_scene *s)
{
	unsigned long nr = s->nr >= 4 ? s->nr / 4 : 1;

	s_populate(s);
	move(s, 1, s->nr / 4, nr, target(s));
	check(s, "a quarter moved");
	s_munmap(s, 1, 0, s->nr);
	check(s, "the rest unmapped");
}

static void move_single_pages(struct fmi_scene *s)
{
	s_populate(s);
	for (unsigned long i = 0; i < 4 && i < s->nr; i++)
		move(s, 1, i, 1, target(s) + 2 * i * pgsz);
	check(s, "four pages moved apart");
}

static void move_in_the_child(struct fmi_scene *s)
{
	s_populate(s);
	s_fork(s, 1, 2);
	move(s, 2, 0, s->nr / 2, target(s));
	check(s, "the child moved the first half");
	p_write(2, target(s), 1);
	ex_unmap(&s->e, 2, target(s), pgsz);
	check(s, "and wrote to it");
	s_exit(s, 1);
	check(s, "parent gone");
}

static void move_partly_unmapped(struct fmi_scene *s)
{
	s_populate(s);
	s_dontneed(s, 1, 0, 1);
	s_dontneed(s, 1, s->nr / 2, 1);
	move(s, 1, 0, s->nr, target(s));
	check(s, "moved without two pages");
}

static void dontunmap_leaves_an_empty_vma(struct fmi_scene *s)
{
	s_populate(s);
	p_mremap(1, s->va, s->size, target(s), MREMAP_DONTUNMAP);
	ex_move(&s->e, 1, s->va, s->size, target(s));
	ex_vma(&s->e, 1, s->va, s->va + s->size);
	check(s, "moved, the old VMA stays");
	/* The old place gets other memory. */
	p_write(1, s->va, s->nr);
	check(s, "the old VMA is used for something else");
}

static const struct fmi_test tests[] = {
	{ "move_whole", move_whole, ON_EACH },
	{ "move_whole_unaligned", move_whole_unaligned, ON_EACH },
	{ "move_across_page_tables", move_across_page_tables, ON_EACH },
	{ "move_tail", move_tail, ON_EACH },
	{ "move_middle", move_middle, ON_EACH },
	{ "move_single_pages", move_single_pages, ON_EACH },
	{ "move_in_the_child", move_in_the_child, ON_ANON },
	{ "move_partly_unmapped", move_partly_unmapped, ON_ANON },
	{ "dontunmap_leaves_an_empty_vma", dontunmap_leaves_an_empty_vma, ON_ANON },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
