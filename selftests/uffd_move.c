// SPDX-License-Identifier: GPL-2.0
/*
 * UFFDIO_MOVE moves a PMD without an rmap call, under the page-table locks only; a folio that PTEs
 * map is split first. Right after each ioctl the position is the new one.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_uffd.h"
#include "fmi_util.h"

/* An actor's. */
static int uffd = -1;

static unsigned long target(const struct fmi_scene *s)
{
	return s->arena + 16 * pmd_size;
}

static long do_ready(unsigned long a, unsigned long len_a, unsigned long b, unsigned long len_b)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_MOVE };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		return errno;
	reg.range.start = a;
	reg.range.len = len_a;
	if (ioctl(uffd, UFFDIO_REGISTER, &reg))
		return errno;
	reg.range.start = b;
	reg.range.len = len_b;
	return len_b && ioctl(uffd, UFFDIO_REGISTER, &reg) ? errno : 0;
}

/* The error, or 0; the kernel asks to try again if somebody was in the way. */
static long do_move(unsigned long dst, unsigned long src, unsigned long len, unsigned long mode)
{
	struct uffdio_move m = { .dst = dst, .src = src, .len = len, .mode = mode };

	while (ioctl(uffd, UFFDIO_MOVE, &m)) {
		if (errno != EAGAIN)
			return errno;
		if (m.move > 0) {
			m.dst += (__u64)m.move;
			m.src += (__u64)m.move;
			m.len -= (__u64)m.move;
		}
		m.move = 0;
	}
	return 0;
}

static int move(unsigned long dst, unsigned long src, unsigned long len)
{
	return (int)p_call(1, do_move, dst, src, len, 0);
}

static void must_move(unsigned long dst, unsigned long src, unsigned long len, const char *what)
{
	int err = move(dst, src, len);

	fmi_assert(err == 0, "%s: UFFDIO_MOVE: %s", what, strerror(err));
}

/* The folio at s->va, in a VMA of its own; the target is another one, and what moves goes there. */
static void ready(struct fmi_scene *s, unsigned long nr_folios)
{
	unsigned long len = nr_folios * s->size;
	int err;

	p_start(1);
	s_map(s, 1, s->va, len, 0);
	s_map(s, 1, target(s), 2 * len, 0);
	for (unsigned long i = nr_folios - 1; i + 1 > 0; i--)
		s_fault(s, 1, s->va + i * s->size);
	s_mapped_whole(s, 1, s->va);
	err = (int)p_call(1, do_ready, target(s), 2 * len, s->va, len);
	if (err)
		fmi_skip("no UFFDIO_MOVE: %s", strerror(err));
	if (nr_folios == 1)
		s_check(s, "populated");
}

/* Mappings only: both VMAs stay. */
static void moved(struct fmi_scene *s, unsigned long dst, unsigned long src, unsigned long len)
{
	for (int i = 0; i < s->e.nr_mappings; i++) {
		struct ex_mapping *m = &s->e.mappings[i];

		if (m->who == 1 && m->va >= src && m->va < src + len)
			m->va += dst - src;
	}
}

static void pmd_there_and_back(struct fmi_scene *s)
{
	long long opened, rekeyed;

	ready(s, 1);
	opened = fmi_stat("windows_opened");
	rekeyed = fmi_stat("moves");
	for (int i = 0; i < 8; i++) {
		unsigned long to = i % 2 ? s->va : target(s) + pmd_size;
		unsigned long from = i % 2 ? target(s) + pmd_size : s->va;

		must_move(to, from, s->size, "a PMD");
		moved(s, to, from, s->size);
		s_check(s, i % 2 ? "back" : "there");
	}
	fmi_eq(fmi_stat("windows_opened"), opened + (module_uses_tracepoints() ? 0 : 8),
	       "windows_opened");
	fmi_eq(fmi_stat("moves"), rekeyed + 8, "moves");
	must_move(target(s), s->va, s->size, "once more");
	moved(s, target(s), s->va, s->size);
	p_munmap(1, target(s), pgsz);
	ex_vma_cut(&s->e, 1, target(s), pgsz);
	s_check(s, "its first page unmapped where it went");
}

/* One of several folios is there, by a PMD. */
static void is_at(unsigned long va, const char *what)
{
	static const char *const ones[] = {
		"total", "entire", "mm", "vma", "vma_pt", "full", "mappers",
	};
	const char *report = fmi_report_va(p_pid(1), va);
	char base[32];

	fmi_assert(report, "%s: no report of what is at 0x%lx", what, va);
	for (size_t i = 0; i < ARRAY_SIZE(ones); i++)
		fmi_assert(text_value(report, ones[i]) == 1, "%s: 0x%lx: %s: %lld", what, va,
			   ones[i], text_value(report, ones[i]));
	snprintf(base, sizeof(base), " base=0x%lx ", va);
	fmi_assert(strstr(report, base), "%s: not at%s:\n%s", what, base, report);
}

static void are_at(const unsigned long *va, int nr, const char *what)
{
	for (int i = 0; i < nr; i++)
		is_at(va[i], what);
	fmi_audit("all");
}

static void several_pmds(struct fmi_scene *s)
{
	unsigned long to = target(s) + pmd_size;
	unsigned long at[3] = { s->va, s->va + pmd_size, s->va + 2 * pmd_size };

	ready(s, 3);
	are_at(at, 3, "populated");
	must_move(to, s->va, 3 * s->size, "three PMDs");
	for (int i = 0; i < 3; i++)
		at[i] += to - s->va;
	are_at(at, 3, "all moved");
	/* The middle one stays behind. */
	must_move(s->va, to, s->size, "the first");
	must_move(s->va + 2 * pmd_size, to + 2 * pmd_size, s->size, "the last");
	at[0] = s->va;
	at[2] = s->va + 2 * pmd_size;
	are_at(at, 3, "two went back");
}

/* Only memory of one process moves. */
static void shared_with_a_child(struct fmi_scene *s)
{
	ready(s, 1);
	s_fork(s, 1, 2);
	s_check(s, "forked");
	fmi_eq(move(target(s), s->va, s->size), EBUSY, "UFFDIO_MOVE of shared memory");
	s_check(s, "refused while the child has it");
	s_exit(s, 2);
	s_check(s, "the child is gone");
	/* A write makes it exclusive again: folio_move_anon_rmap() without a move. */
	p_write(1, s->va, 1);
	s_check(s, "written");
	must_move(target(s), s->va, s->size, "exclusive again");
	moved(s, target(s), s->va, s->size);
	s_check(s, "moved");
}

static void a_pinned_folio(struct fmi_scene *s)
{
	int err;

	ready(s, 1);
	p_uring_pin(1, s->va, pgsz);
	fmi_eq(move(target(s), s->va, s->size), EBUSY, "UFFDIO_MOVE of a pinned folio");
	s_check(s, "refused while it is pinned");
	p_unpin(1);
	/* The ring is freed by a worker. */
	fmi_wait_until(!(err = move(target(s), s->va, s->size)), "the folio to be unpinned: %s",
		       strerror(err));
	moved(s, target(s), s->va, s->size);
	s_check(s, "moved");
}

static void occupied(struct fmi_scene *s)
{
	const unsigned long at[2] = { s->va, target(s) };

	ready(s, 2);
	must_move(target(s), s->va + s->size, s->size, "the second");
	fmi_eq(move(target(s), s->va, s->size), EEXIST, "UFFDIO_MOVE onto something");
	are_at(at, 2, "refused");
}

/* Gone as a large folio: the pages that moved and the others are small. */
static void split_by_the_move(struct fmi_scene *s, unsigned long dst, unsigned long first,
			      unsigned long nr)
{
	struct fmi_expect gone;

	must_move(dst, s_page(s, first), nr * pgsz, "a part");
	gone = s->e;
	gone.nr_mappings = 0;
	ex_check_gone(&gone, "split by the move");
	fmi_eq(s_check_found(s, "after the move"), 0, "large folios");
	for (unsigned long i = 0; i < s->nr; i++) {
		bool away = i >= first && i < first + nr;
		unsigned long va = away ? dst + (i - first) * pgsz : s_page(s, i);

		fmi_assert(pagemap_pfn(p_pid(1), va), "page %lu is not where it should be", i);
	}
}

static void a_part_splits_the_folio(struct fmi_scene *s)
{
	ready(s, 1);
	split_by_the_move(s, target(s) + pgsz, s->nr / 2, s->nr / 2);
}

static void one_page_splits_the_folio(struct fmi_scene *s)
{
	ready(s, 1);
	split_by_the_move(s, target(s), 0, 1);
}

static void ptes_are_split_even_if_all_move(struct fmi_scene *s)
{
	ready(s, 1);
	split_by_the_move(s, target(s), 0, s->nr);
}

static void unaligned_splits_the_folio(struct fmi_scene *s)
{
	ready(s, 1);
	split_by_the_move(s, target(s) + pgsz, 0, s->nr);
}

/* In the actor: one thread moves PMDs, others are in its way. */
static struct race {
	unsigned long src, dst;
	volatile int stop;
	unsigned long moves, refused;
	int node;
} race;

static void *drops_the_destination(void *arg)
{
	(void)arg;
	while (!race.stop) {
		madvise((void *)race.dst, pmd_size, MADV_DONTNEED);
		madvise((void *)race.dst, pgsz, MADV_DONTNEED);
	}
	return NULL;
}

static void *migrates_either(void *arg)
{
	void *pages[2] = { (void *)race.src, (void *)race.dst };
	int nodes[2], status[2];

	(void)arg;
	while (!race.stop) {
		nodes[0] = race.node;
		nodes[1] = race.node;
		race.node = !race.node;
		syscall(SYS_move_pages, 0, 2UL, pages, nodes, status, 2 /* MPOL_MF_MOVE */);
	}
	return NULL;
}

static long do_race(unsigned long src, unsigned long dst, unsigned long ms, unsigned long both)
{
	double end = now_seconds() + (double)ms / 1000;
	pthread_t threads[2];

	race.src = src;
	race.dst = dst;
	if (pthread_create(&threads[0], NULL, drops_the_destination, NULL) ||
	    (both && pthread_create(&threads[1], NULL, migrates_either, NULL)))
		return -1;
	while (now_seconds() < end) {
		/* Writing would make a small page if the rest is there still. */
		madvise((void *)src, pmd_size, MADV_DONTNEED);
		*(volatile char *)src = 1;
		if (do_move(dst, src, pmd_size, UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES))
			race.refused++;
		else
			race.moves++;
	}
	race.stop = 1;
	pthread_join(threads[0], NULL);
	if (both)
		pthread_join(threads[1], NULL);
	return race.moves ? (long)race.moves : -1;
}

static void race_with(struct fmi_scene *s, bool both)
{
	unsigned long seconds = fmi_test_all() ? 60 : 8;
	long long rekeyed;
	long moves;

	p_start(1);
	s_map(s, 1, s->va, s->size, 0);
	s_map(s, 1, target(s), s->size, 0);
	moves = p_call(1, do_ready, target(s), s->size, 0, 0);
	if (moves)
		fmi_skip("no UFFDIO_MOVE: %s", strerror((int)moves));
	thp_only(s->kind, s->order, "always");
	rekeyed = fmi_stat("moves");
	moves = p_call(1, do_race, s->va, target(s), seconds * 1000, both);
	thp_never();
	fmi_assert(moves > 0, "nothing moved");
	fmi_note("%ld moves, %lld of a large folio", moves, fmi_stat("moves") - rekeyed);
	fmi_assert(fmi_stat("moves") > rekeyed, "no PMD moved");
	fmi_eq(fmi_stat("windows_open"), 0, "windows_open");
	s_check_found(s, "afterwards");
}

static void race_with_dontneed(struct fmi_scene *s)
{
	race_with(s, false);
}

static void race_with_migration(struct fmi_scene *s)
{
	if (access("/sys/devices/system/node/node1", F_OK))
		fmi_skip("one memory node only");
	race_with(s, true);
}

static const struct fmi_test tests[] = {
	{ "pmd_there_and_back", pmd_there_and_back, ON_ANON | PMD_ONLY },
	{ "several_pmds", several_pmds, ON_ANON | PMD_ONLY },
	{ "shared_with_a_child", shared_with_a_child, ON_ANON | PMD_ONLY },
	{ "a_pinned_folio", a_pinned_folio, ON_ANON | PMD_ONLY },
	{ "occupied", occupied, ON_ANON | PMD_ONLY },
	{ "a_part_splits_the_folio", a_part_splits_the_folio, ON_ANON },
	{ "one_page_splits_the_folio", one_page_splits_the_folio, ON_ANON },
	{ "ptes_are_split_even_if_all_move", ptes_are_split_even_if_all_move,
	  ON_ANON | PTE_ONLY },
	{ "unaligned_splits_the_folio", unaligned_splits_the_folio, ON_ANON | PMD_ONLY },
	{ "race_with_dontneed", race_with_dontneed, ON_ANON | PMD_ONLY | LONG },
	{ "race_with_migration", race_with_migration, ON_ANON | PMD_ONLY | LONG },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
