// SPDX-License-Identifier: GPL-2.0
/* Migration: the mappings leave one folio and come to another, page by page or as a PMD. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_life.h"
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

static int by_pfn(const void *a, const void *b)
{
	const unsigned long *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/*
 * Fills memory with folios of this size, all on node 1, and gives back every other one of the upper
 * half of them. Compaction moves folios from the bottom of a zone to holes at its top; pageblocks
 * that are free as a whole are no holes.
 */
static long make_holes(unsigned long va, unsigned long len, unsigned long size, unsigned long d)
{
	const unsigned long nr = len / size, mask = 1UL << 1;
	unsigned long *pfns = calloc(nr, sizeof(*pfns)), *sorted = calloc(nr, sizeof(*sorted));
	long holes = 0;

	(void)d;
	if (!pfns || !sorted)
		return -ENOMEM;
	if (syscall(SYS_mbind, va, len, 2 /* MPOL_BIND */, &mask, 8 * sizeof(mask), 0))
		return -errno;
	for (unsigned long i = 0; i < nr; i++) {
		*(volatile char *)(va + i * size) = 1;
		pfns[i] = pagemap_pfn(getpid(), va + i * size);
		sorted[i] = pfns[i];
	}
	qsort(sorted, nr, sizeof(*sorted), by_pfn);
	for (unsigned long i = 0; i < nr; i++) {
		const unsigned long *at = bsearch(&pfns[i], sorted, nr, sizeof(*sorted), by_pfn);

		if (at - sorted < (long)nr / 2 || (at - sorted) % 2)
			continue;
		if (madvise((void *)(va + i * size), size, MADV_DONTNEED))
			return -errno;
		holes++;
	}
	free(pfns);
	free(sorted);
	return holes;
}

/* Compacts memory, and returns how many of the folios there are at another place, and the first. */
static unsigned long compact(struct fmi_scene *s, unsigned long len, unsigned long *first)
{
	const unsigned long pages = len / pgsz;
	unsigned long *was = calloc(pages, sizeof(*was)), *now = calloc(pages, sizeof(*now));
	unsigned long moved = 0, large = 0;

	fmi_assert(was && now && pagemap_pfns(p_pid(1), s->va, pages, was), "pagemap");
	fmi_assert(write_text("/proc/sys/vm/compact_memory", "1") > 0, "no compaction");
	fmi_assert(pagemap_pfns(p_pid(1), s->va, pages, now), "pagemap");
	for (unsigned long i = 0; i < pages; i += s->nr) {
		if (!was[i] || folio_order(now[i], NULL) != s->order)
			continue;
		large++;
		if (now[i] != was[i] && !moved++)
			*first = s->va + i * pgsz;
	}
	fmi_note("%lu folios, %lu of them moved", large, moved);
	free(was);
	free(now);
	return moved;
}

/* Of all these, which parent and child map, some move; one of them is looked at. */
static void move_by_compaction(struct fmi_scene *s)
{
	const unsigned long len = 40 * pmd_size, end = s->va + len;
	unsigned long found = 0;

	need_nodes();
	/* What the processors keep in lists of their own, compaction does not see as free. */
	fmi_assert(write_text("/proc/sys/vm/percpu_pagelist_high_fraction", "1000000") > 0,
		   "percpu_pagelist_high_fraction");
	/* The root filesystem may be on this node: then it moves first, as far as holes go. */
	for (int i = 0; i < 6 && !found; i++) {
		p_start(1);
		p_mmap(1, s->va, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		thp_only(s->kind, s->order, "always");
		fmi_assert(p_call(1, make_holes, s->va, len, s->size, 0) > 0, "no holes");
		thp_never();
		p_fork(1, 2);
		fmi_audit("all");
		if (compact(s, len, &found))
			break;
		fmi_audit("all");
		/* As large as a pageblock: compaction does not touch them. */
		if (s->order == pmd_order)
			return;
		p_exit(2);
		p_exit(1);
	}
	if (!found)
		fmi_skip("compaction moved no folio as a whole");
	fmi_assert(s->order < pmd_order, "a folio of a PMD was moved");
	for (int who = 1; who <= 2; who++) {
		if (found > s->va)
			p_munmap(who, s->va, found - s->va);
		if (found + s->size < end)
			p_munmap(who, found + s->size, end - found - s->size);
		ex_vma(&s->e, who, found, found + s->size);
	}
	fmi_eq(s_check_found(s, "moved by compaction"), 1, "folios that are left");
}

/* Nothing may have moved: the same folio, mapped by everybody as before, or by PTEs. */
static void stays(struct fmi_scene *s, unsigned long total, const char *what)
{
	fmi_eq(pagemap_pfn(p_pid(1), s->va), s->e.pfn, what);
	s_learn(s);
	s_check(s, what);
	fmi_eq(s_pages_of_order(s, s->order), total, what);
}

/*
 * A reference is noticed when everything has been unmapped: it is mapped again where it was.
 * A pin of anonymous memory is noticed while that is tried.
 */
static void fails(struct fmi_scene *s, bool pinned)
{
	int node = 0;

	need_nodes();
	s_populate(s);
	p_fill(1, s->va, s->nr, 2);
	if (s->kind == FMI_ANON && !pinned) {
		s_fork(s, 1, 2);
	} else {
		p_start(2);
		if (s->kind != FMI_ANON) {
			s_map(s, 2, s->va, s->size, 0);
			p_read(2, s->va, s->nr);
			s_mapped_whole(s, 2, s->va);
		}
	}
	s_check(s, "before");
	if (pinned)
		p_uring_pin(1, s_page(s, s->nr - 1), pgsz);
	else
		p_vmsplice(1, s_page(s, s->nr - 1), pgsz);
	s->e.pfn = pagemap_pfn(p_pid(1), s->va);
	s_check(s, "referenced");
	for (node = 0; node < 2; node++) {
		unsigned long pages = s_pages_of_order(s, s->order);
		int ret = p_try_move_page(1, s_page(s, s->nr / 2), node);

		fmi_assert(!ret || ret == -EAGAIN || ret == -EBUSY, "move_pages: %s",
			   strerror(-ret));
		/* It is there already, or it must fail. */
		stays(s, pages, "not moved");
	}
	p_verify(1, s->va, s->nr, 2);
	p_unpin(1);
	if (s->kind == FMI_ANON && !pinned)
		s_exit(s, 2);
	p_move_pages(1, s->va, 1, 1);
	p_move_pages(1, s->va, 1, 0);
	s_check_found(s, "moved without the reference");
	p_verify(1, s->va, s->nr, 2);
}

static void fails_referenced(struct fmi_scene *s)
{
	fails(s, false);
}

static void fails_pinned(struct fmi_scene *s)
{
	fails(s, true);
}

static void move_by_mbind(struct fmi_scene *s)
{
	need_nodes();
	s_populate(s);
	p_fill(1, s->va, s->nr, 2);
	for (int node = 1; node >= 0; node--) {
		int ret = p_try_mbind(1, s->va, s->size, node);

		fmi_assert(!ret, "mbind: %s", strerror(-ret));
		s_check_found(s, "bound to a node");
	}
	fmi_eq(p_try_mbind(1, s->va, s->size, -1), 0, "mbind");
	p_verify(1, s->va, s->nr, 2);
	s_fork(s, 1, 2);
	s_check_found(s, "forked");
}

/* All memory of a process to the other node, by another process. */
static void move_by_migrate_pages(struct fmi_scene *s)
{
	unsigned long node[2] = { 1, 2 };

	need_nodes();
	s_populate(s);
	p_fill(1, s->va, s->nr, 2);
	s_fork(s, 1, 2);
	for (int i = 0; i < 2; i++) {
		long ret = syscall(SYS_migrate_pages, p_pid(2), 8 * sizeof(node[0]), &node[i],
				   &node[1 - i]);

		fmi_assert(ret >= 0, "migrate_pages: %s", strerror(errno));
		s_check_found(s, "a process moved");
	}
	p_verify(1, s->va, s->nr, 2);
	p_verify(2, s->va, s->nr, 2);
	s_exit(s, 2);
	/* Alone, it goes. */
	for (int i = 0; i < 2; i++) {
		long ret = syscall(SYS_migrate_pages, p_pid(1), 8 * sizeof(node[0]), &node[i],
				   &node[1 - i]);

		fmi_assert(ret >= 0, "migrate_pages: %s", strerror(errno));
		s_check_found(s, "the other one moved");
	}
	p_verify(1, s->va, s->nr, 2);
}

/* Touches memory for that many milliseconds. */
static long do_use(unsigned long va, unsigned long pages, unsigned long ms, unsigned long d)
{
	double end = now_seconds() + (double)ms / 1000;

	(void)d;
	while (now_seconds() < end) {
		for (unsigned long i = 0; i < pages; i++)
			(void)*(volatile char *)(va + i * pgsz);
	}
	return 0;
}

/* Memory follows the process to the node on which it runs: that of the first processor. */
static void move_by_numa_balancing(struct fmi_scene *s)
{
	unsigned long pfn;

	need_nodes();
	if (access("/proc/sys/kernel/numa_balancing", W_OK))
		fmi_skip("no NUMA balancing");
	s_populate(s);
	p_fill(1, s->va, s->nr, 2);
	fmi_assert(!p_try_move_page(1, s->va, 1), "move_pages");
	s_check_found(s, "on node 1");
	pfn = pagemap_pfn(p_pid(1), s->va);
	/* Both are restored like the setting itself. */
	write_text("/sys/kernel/debug/sched/numa_balancing/scan_delay_ms", "10");
	write_text("/sys/kernel/debug/sched/numa_balancing/scan_period_min_ms", "50");
	fmi_assert(write_text("/proc/sys/kernel/numa_balancing", "1") > 0, "numa_balancing");
	for (int i = 0; i < 100 && pagemap_pfn(p_pid(1), s->va) == pfn; i++)
		p_call(1, do_use, s->va, s->nr, 100, 0);
	thp_quiet();
	s_check_found(s, "after NUMA balancing");
	p_verify(1, s->va, s->nr, 2);
	if (pagemap_pfn(p_pid(1), s->va) == pfn)
		fmi_skip("NUMA balancing moved nothing in 10 s");
	s_fork(s, 1, 2);
	s_check_found(s, "forked");
}

/* Migration entries that are zapped, or copied by a fork, make no calls of their own. */
static void move_while_forking(struct fmi_scene *s)
{
	unsigned long node[2] = { 1, 2 };
	int rounds = fmi_test_all() ? 200 : 15;
	pid_t mover;

	need_nodes();
	s_populate(s);
	p_fill(1, s->va, s->nr, 2);
	mover = fork();
	fmi_assert(mover >= 0, "fork: %s", strerror(errno));
	if (mover == 0) {
		cpu_set_t other;

		CPU_ZERO(&other);
		CPU_SET((size_t)sysconf(_SC_NPROCESSORS_ONLN) - 1, &other);
		sched_setaffinity(0, sizeof(other), &other);
		for (int i = 0;; i++)
			syscall(SYS_migrate_pages, p_pid(1), 8 * sizeof(node[0]), &node[i % 2],
				&node[1 - i % 2]);
	}
	for (int i = 0; i < rounds; i++) {
		p_fork(1, 2);
		p_madvise(2, s->va, s->size / 2, MADV_DONTNEED);
		p_fork(2, 3);
		p_exit(2);
		p_verify(3, s_page(s, s->nr / 2), s->nr - s->nr / 2, 2);
		p_exit(3);
	}
	kill(mover, SIGKILL);
	waitpid(mover, NULL, 0);
	p_verify(1, s->va, s->nr, 2);
	s_check_found(s, "after all of that");
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
	{ "move_by_mbind", move_by_mbind, ON_EACH | FEW_SIZES },
	{ "move_by_migrate_pages", move_by_migrate_pages, ON_ANON | FEW_SIZES },
	{ "move_by_numa_balancing", move_by_numa_balancing, ON_ANON | FEW_SIZES },
	{ "move_while_forking", move_while_forking, ON_ANON | FEW_SIZES | LONG },
	{ "fails_referenced", fails_referenced, ON_EACH },
	{ "fails_pinned", fails_pinned, ON_ANON | FEW_SIZES },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
