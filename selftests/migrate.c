// SPDX-License-Identifier: GPL-2.0
/* Migration: the mappings leave one folio and come to another, page by page or as a PMD. */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

/* Moves everything actor `who` maps there to a node; the folio must be another one afterwards. */
static void migrate(struct fmi_scene *s, int who, int node, const char *what)
{
	struct fmi_expect old = s->e;
	unsigned long head, pfn;

	/* One page is enough: the folio moves as a whole. */
	p_move_pages(who, s->va, 1, node);
	pfn = pagemap_pfn(p_pid(who), s->va);
	fmi_assert(pfn, "%s: nothing mapped any more", what);
	fmi_eq(folio_order(pfn, &head), s->order, "order after migration");
	fmi_eq(head, pfn, "head after migration");
	s->e.pfn = pfn;
	s_check(s, what);
	if (pfn == old.pfn)
		return;
	old.nr_mappings = 0;
	ex_check_gone(&old, what);
}

static void need_nodes(void)
{
	if (access("/sys/devices/system/node/node1", F_OK))
		fmi_skip("one memory node only");
}

/*
 * To the other node and back. What PTEs map goes there only: 7.2 marks it as partially
 * mapped in the middle of its own migration, and splits it at the next.
 */
static void there_and_back(struct fmi_scene *s, int who)
{
	unsigned long first = s->e.pfn;

	migrate(s, who, 1, "moved to node 1");
	if (s->e.pfn == first)
		migrate(s, who, 0, "moved to node 0");
	fmi_assert(s->e.pfn != first, "the folio never moved");
	if (s->kind == FMI_ANON && s->e.mappings[0].page != EX_ENTIRE)
		return;
	migrate(s, who, 1, "moved again to node 1");
	migrate(s, who, 0, "moved again to node 0");
}

static void move_alone(struct fmi_scene *s)
{
	need_nodes();
	s_populate(s);
	there_and_back(s, 1);
}

static void move_shared_by_fork(struct fmi_scene *s)
{
	need_nodes();
	s_populate(s);
	s_fork(s, 1, 2);
	there_and_back(s, 1);
	s_cow(s, 2, 0);
	s_check(s, "the child wrote after it");
	s_exit(s, 1);
	s_check(s, "parent gone");
}

static void move_shared_file(struct fmi_scene *s)
{
	need_nodes();
	s_populate(s);
	p_start(2);
	s_map(s, 2, s->va, s->size, 0);
	p_read(2, s->va, s->nr);
	s_mapped_whole(s, 2, s->va);
	there_and_back(s, 2);
}

static void move_pte_mapped(struct fmi_scene *s)
{
	need_nodes();
	s_populate(s);
	/* A VMA boundary inside: PTEs for a PMD folio as well, all of them mapped. */
	p_mprotect(1, s->va, pgsz, PROT_READ);
	ex_vma_split(&s->e, 1, s_page(s, 1));
	ex_split(&s->e, 1, s->va, pgsz);
	s_check(s, "two VMAs");
	there_and_back(s, 1);
	p_mprotect(1, s->va, pgsz, PROT_READ | PROT_WRITE);
	ex_vma_merge(&s->e, 1, s_page(s, 1));
	s_check(s, "one VMA");
}

static void move_after_mremap(struct fmi_scene *s)
{
	unsigned long to = s->arena + 12 * pmd_size - s->size / 2;

	need_nodes();
	s_populate(s);
	p_mremap(1, s->va, s->size, to, 0);
	ex_move(&s->e, 1, s->va, s->size, to);
	s->va = to;
	s_check(s, "across two page tables");
	there_and_back(s, 1);
}

/* What is partly mapped may be split instead: whatever is there afterwards is right. */
static void move_partly_mapped(struct fmi_scene *s)
{
	need_nodes();
	s_populate(s);
	p_write(1, s->va, s->nr);
	s_dontneed(s, 1, 0, s->nr / 2);
	s_check(s, "half of it");
	p_move_pages(1, s_page(s, s->nr / 2), 1, 1);
	s_check_found(s, "moved to node 1");
	p_move_pages(1, s_page(s, s->nr / 2), 1, 0);
	s_check_found(s, "moved to node 0");
}

/* Again and again, whatever the kernel makes of it. */
static void move_many_times(struct fmi_scene *s)
{
	need_nodes();
	s_populate(s);
	p_write(1, s->va, s->nr);
	s_fork(s, 1, 2);
	for (int i = 0; i < 4; i++) {
		p_move_pages(1, s->va, 1, i % 2);
		s_check_found(s, "moved");
	}
	p_write(2, s->va, s->nr);
	s_check_found(s, "the child wrote");
}

static void move_by_compaction(struct fmi_scene *s)
{
	s_populate(s);
	s_fork(s, 1, 2);
	s_check(s, "before");
	fmi_assert(write_text("/proc/sys/vm/compact_memory", "1") > 0, "no compaction");
	s_check_found(s, "after compaction");
}

static const struct fmi_test tests[] = {
	{ "move_alone", move_alone, ON_EACH },
	{ "move_shared_by_fork", move_shared_by_fork, ON_ANON },
	{ "move_shared_file", move_shared_file, ON_SHMEM | ON_FILE },
	{ "move_pte_mapped", move_pte_mapped, ON_ANON },
	{ "move_after_mremap", move_after_mremap, ON_ANON },
	{ "move_partly_mapped", move_partly_mapped, ON_ANON },
	{ "move_many_times", move_many_times, ON_ANON },
	{ "move_by_compaction", move_by_compaction, ON_ANON },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
