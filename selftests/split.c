// SPDX-License-Identifier: GPL-2.0
/*
 * The split of folios: into all sizes, even and uneven, of what is mapped by PMDs or PTEs,
 * whole or in part, by one or two processes; by request, by the shrinker, and without success.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_life.h"
#include "fmi_util.h"

#define DROP_CACHES "/proc/sys/vm/drop_caches"

static void populate(struct fmi_scene *s)
{
	s_populate(s);
	p_fill(1, s->va, s->nr, 7);
	if (s->kind != FMI_ANON) {
		p_read(1, s->va, s->nr);
		fmi_assert(s->fd < 0 || s->kind == FMI_SHMEM || !fsync(s->fd), "fsync");
	}
}

/* A second process that maps all of it. */
static void second(struct fmi_scene *s)
{
	if (s->kind == FMI_ANON) {
		s_fork(s, 1, 2);
	} else {
		p_start(2);
		s_map(s, 2, s->va, s->size, 0);
		p_read(2, s->va, s->nr);
		s_mapped_whole(s, 2, s->va);
	}
	s_check(s, "two processes");
}

/* What a file loses by the split comes back by faults. */
static void refault(struct fmi_scene *s, unsigned int order, const char *what)
{
	unsigned long want = 0;

	for (int who = 1; who <= 2; who++) {
		if (!p_pid(who))
			continue;
		p_verify(who, s->va, s->nr, 7);
		want += s->nr;
	}
	s_check_found(s, what);
	fmi_eq(s_pages_of_order(s, order), want, "pages in folios of the new size");
	fmi_eq(s_pages_of_order(s, s->order), 0, "pages in folios of the old size");
}

static void into_pages(struct fmi_scene *s)
{
	populate(s);
	split_request(1, s->va, s->size, 0, -1);
	s_gone(s, "split");
	refault(s, 0, "split into pages");
}

static void into_pages_shared(struct fmi_scene *s)
{
	populate(s);
	second(s);
	split_request(2, s->va, s->size, 0, -1);
	s_gone(s, "split");
	refault(s, 0, "split into pages");
	s_exit(s, 1);
	s_check_found(s, "one process gone");
}

/* Down by one order at a time; anonymous folios of two pages do not exist. */
static void order_by_order(struct fmi_scene *s)
{
	populate(s);
	second(s);
	for (unsigned int order = s->order; order-- > 0;) {
		unsigned long was = s_pages_of_order(s, order + 1);

		if (order == 1 && s->kind == FMI_ANON)
			continue;
		split_request(1, s->va, s->size, order, -1);
		s_check_found(s, "split to the next order");
		p_verify(1, s->va, s->nr, 7);
		p_verify(2, s->va, s->nr, 7);
		s_check_found(s, "faulted in");
		fmi_eq(s_pages_of_order(s, order), 2 * s->nr, "pages in folios of that order");
		fmi_assert(was || order == 0, "there was nothing to split");
	}
}

/* Pieces of all sizes around one page. */
static void around_a_page(struct fmi_scene *s)
{
	unsigned long at = s->nr / 2 + 1;

	populate(s);
	second(s);
	/* One page only: what comes after it would be split as well. */
	split_request(1, s->va, pgsz, 0, (long)at);
	s_check_found(s, "split");
	p_verify(1, s->va, s->nr, 7);
	p_verify(2, s->va, s->nr, 7);
	s_check_found(s, "faulted in");
	fmi_eq(s_pages_of_order(s, s->order), 0, "pages in folios of the old size");
	/* Half of it stays in one piece, unless that would be an anonymous folio of two pages. */
	if (s->order > 2)
		fmi_eq(s_pages_of_order(s, s->order - 1), s->nr, "pages in the largest pieces");
	fmi_eq(folio_order(pagemap_pfn(p_pid(1), s_page(s, at)), NULL), 0, "order of that page");
}

static void partly_mapped(struct fmi_scene *s)
{
	unsigned int order = s->order > 3 ? s->order - 2 : 0;

	populate(s);
	second(s);
	s_munmap(s, 1, s->nr / 2, s->nr / 2);
	if (s->kind == FMI_ANON)
		s_cow(s, 2, 0);
	else
		p_read(2, s->va, 1);
	s_learn(s);
	s_check(s, "half in one process");
	split_request(2, s_page(s, 1), s->size - pgsz, order, -1);
	s_check_found(s, "split");
	p_verify(1, s->va, s->nr / 2, 7);
	p_verify(2, s_page(s, 1), s->nr - 1, 7);
	s_check_found(s, "faulted in");
	fmi_eq(s_pages_of_order(s, s->order), 0, "pages in folios of the old size");
}

static void across_page_tables(struct fmi_scene *s)
{
	unsigned long to = s->arena + 12 * pmd_size - s->size / 2;

	s_populate(s);
	p_write(1, s->va, s->nr);
	p_mremap(1, s->va, s->size, to, 0);
	ex_move(&s->e, 1, s->va, s->size, to);
	s->va = to;
	s_check(s, "in two page tables");
	split_request(1, s->va, s->size, s->order > 2 ? s->order - 1 : 0, -1);
	s_check_found(s, "split");
	fmi_eq(s_pages_of_order(s, s->order), 0, "pages in folios of the old size");
}

/* A folio of zeros: what is split off becomes the zero page, which nobody counts. */
static void zeros(struct fmi_scene *s)
{
	s_populate(s);
	p_write(1, s->va, 1);
	split_request(1, s->va, s->size, 0, -1);
	s_gone(s, "split");
	p_read(1, s->va, s->nr);
	fmi_eq(s_check_found(s, "zero pages"), 0, "large folios");
}

/* The shrinker splits what is partly mapped; what nothing maps any more is freed. */
static void by_the_shrinker(struct fmi_scene *s)
{
	unsigned long half = s->nr / 2;

	populate(s);
	s_munmap(s, 1, 0, half);
	s_check(s, "half of it unmapped");
	for (int i = 0; i < 20 && s_pages_of_order(s, s->order); i++)
		fmi_assert(write_text(DROP_CACHES, "2") > 0, "drop_caches");
	s_gone(s, "shrunk");
	p_verify(1, s_page(s, half), s->nr - half, 7);
	fmi_eq(s_check_found(s, "as pages"), 0, "large folios");
}

/* One that is whole, but has hardly any contents: the shrinker may split that as well. */
static void by_the_shrinker_underused(struct fmi_scene *s)
{
	if (access("/sys/kernel/mm/transparent_hugepage/shrink_underused", F_OK))
		fmi_skip("no splitting of underused folios");
	s_populate(s);
	p_write(1, s->va, 1);
	for (int i = 0; i < 20 && s_pages_of_order(s, s->order); i++)
		fmi_assert(write_text(DROP_CACHES, "2") > 0, "drop_caches");
	s_gone(s, "shrunk");
	p_read(1, s->va, s->nr);
	fmi_eq(s_check_found(s, "as pages"), 0, "large folios");
}

/* References that are there before are noticed at once: nothing happens. */
static void pinned(struct fmi_scene *s)
{
	populate(s);
	p_vmsplice(1, s_page(s, s->nr - 1), pgsz);
	split_request(1, s->va, s->size, 0, -1);
	s_check(s, "not split");
	second(s);
	split_request(1, s->va, s->size, 0, -1);
	s_check(s, "shared, not split");
	p_unpin(1);
	p_unpin(2);
	split_request(1, s->va, s->size, 0, -1);
	s_gone(s, "split after all");
	s_check_found(s, "split after all");
}

/* A thread of the actor that takes references to a page and drops them. */
static pthread_t thread;
static int stop_taking;

static void *take_references(void *page)
{
	struct iovec iov = { .iov_base = page, .iov_len = pgsz };
	cpu_set_t other;

	CPU_ZERO(&other);
	CPU_SET(1, &other);
	sched_setaffinity(0, sizeof(other), &other);
	while (!__atomic_load_n(&stop_taking, __ATOMIC_RELAXED)) {
		int ends[2];

		if (pipe(ends))
			break;
		vmsplice(ends[1], &iov, 1, 0);
		for (volatile int i = 0; i < 2000; i++)
			;
		close(ends[0]);
		close(ends[1]);
		for (volatile int i = 0; i < 2000; i++)
			;
	}
	return NULL;
}

static long start_taking(unsigned long page, unsigned long b, unsigned long c, unsigned long d)
{
	(void)b;
	(void)c;
	(void)d;
	stop_taking = 0;
	errno = pthread_create(&thread, NULL, take_references, (void *)page);
	return errno ? -1 : 0;
}

static long end_taking(unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
	(void)a;
	(void)b;
	(void)c;
	(void)d;
	__atomic_store_n(&stop_taking, 1, __ATOMIC_RELAXED);
	errno = pthread_join(thread, NULL);
	return errno ? -1 : 0;
}

/* A new folio, in three processes. */
static void three_processes(struct fmi_scene *s)
{
	s_map(s, 1, s->va, s->size, 0);
	s_fault(s, 1, s->va);
	s_mapped_whole(s, 1, s->va);
	p_fill(1, s->va, s->nr, 7);
	s_fork(s, 1, 2);
	s_fork(s, 2, 3);
	s_check(s, "three processes");
}

static long long removes(void)
{
	return fmi_stat("remove_pte") + fmi_stat("remove_entire");
}

/* Tries until it was split, or everything was unmapped and mapped again: true. */
static bool try_to_fail(struct fmi_scene *s)
{
	bool unmapped = false;

	/* The last process's mappings go last: there is time to take references there. */
	fmi_eq(p_call(3, start_taking, s_page(s, s->nr - 1), 0, 0, 0), 0, "thread");
	for (int i = 0; i < 200 && !unmapped; i++) {
		long long before = removes();

		split_request(1, s->va, pgsz, 0, -1);
		unmapped = removes() != before;
	}
	fmi_eq(p_call(3, end_taking, 0, 0, 0, 0), 0, "thread");
	fmi_assert(unmapped, "the split never began");
	return s_pages_of_order(s, s->order) > 0;
}

/*
 * A reference that comes when the split has begun: everything is unmapped by then, and is
 * mapped again, by PTEs.
 */
static void fails_in_the_middle(struct fmi_scene *s)
{
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		fmi_skip("one processor only");
	p_start(1);
	three_processes(s);
	for (int i = 0; i < 100; i++) {
		if (try_to_fail(s)) {
			s->e.nr_mappings = 0;
			for (int who = 1; who <= 3; who++)
				ex_map(&s->e, who, s->va, 0, (int)s->nr);
			s_check(s, "the split failed in the middle");
			p_verify(1, s->va, s->nr, 7);
			s_exit(s, 1);
			s_check(s, "one process gone");
			split_request(2, s->va, s->size, 0, -1);
			s_gone(s, "split after all");
			return;
		}
		/* The split was faster. */
		s_gone(s, "split");
		s_exit(s, 3);
		s_exit(s, 2);
		s_munmap(s, 1, 0, s->nr);
		three_processes(s);
	}
	fmi_skip("no split failed in the middle");
}

static const struct fmi_test tests[] = {
	{ "into_pages", into_pages, ON_EACH | FEW_SIZES },
	{ "into_pages_shared", into_pages_shared, ON_EACH },
	{ "order_by_order", order_by_order, ON_EACH | NOT_ORDER1 | FEW_SIZES },
	{ "around_a_page", around_a_page, ON_EACH | NOT_ORDER1 | FEW_SIZES },
	{ "partly_mapped", partly_mapped, ON_EACH | NOT_ORDER1 | FEW_SIZES },
	{ "across_page_tables", across_page_tables, ON_ANON | FEW_SIZES },
	{ "zeros", zeros, ON_ANON },
	{ "by_the_shrinker", by_the_shrinker, ON_ANON | FEW_SIZES },
	{ "by_the_shrinker_underused", by_the_shrinker_underused, ON_ANON | PMD_ONLY },
	{ "pinned", pinned, ON_EACH | FEW_SIZES },
	{ "fails_in_the_middle", fails_in_the_middle, ON_ANON | FEW_SIZES | LONG },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
