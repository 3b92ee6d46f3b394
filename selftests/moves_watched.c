// SPDX-License-Identifier: GPL-2.0
/*
 * mremap while others look, or change the same memory: totals are right all the time, a position
 * is right or marked (`moving`), and afterwards all is right.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
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
#include "fmi_table.h"
#include "fmi_util.h"

/* Shared by all processes of a case. */
static struct control {
	unsigned long seq;	/* odd: a mremap is under way */
	unsigned long at;	/* where the range is if not */
	int hold;	/* stand still between two of them */
	int still;	/* that is done */
	int stop;
	unsigned long ops;
} *control;

static unsigned long seconds(unsigned long n)
{
	return fmi_test_all() ? 60 : n;
}

static void share_control(void)
{
	control = mmap(NULL, pgsz, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fmi_assert(control != MAP_FAILED, "no memory");
}

static unsigned long get(unsigned long *where)
{
	return __atomic_load_n(where, __ATOMIC_SEQ_CST);
}

static bool stopped(void)
{
	return __atomic_load_n(&control->stop, __ATOMIC_SEQ_CST);
}

/* An order that runs until control->stop, in a thread of the case. */
struct order {
	int who;
	p_fn fn;
	unsigned long a, b, c, d;
	long ret;
	pthread_t thread;
};

static void *give(void *arg)
{
	struct order *o = arg;

	o->ret = p_call(o->who, o->fn, o->a, o->b, o->c, o->d);
	return NULL;
}

static void start(struct order *o)
{
	fmi_assert(!pthread_create(&o->thread, NULL, give, o), "no thread");
}

static void stop(struct order *o, int nr)
{
	__atomic_store_n(&control->stop, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < nr; i++) {
		pthread_join(o[i].thread, NULL);
		fmi_assert(o[i].ret >= 0, "order %d failed", i);
	}
}

static bool holds(void)
{
	return __atomic_load_n(&control->hold, __ATOMIC_SEQ_CST) && !stopped();
}

static bool stands_still(void)
{
	return __atomic_load_n(&control->still, __ATOMIC_SEQ_CST) || stopped();
}

static void hold(bool on)
{
	__atomic_store_n(&control->hold, on, __ATOMIC_SEQ_CST);
	fmi_wait_until(stands_still() == on || stopped(), "the mover to %s",
		       on ? "stand still" : "go on");
}

/* Between two places; stands still when it is told to. */
static long do_back_and_forth(unsigned long from, unsigned long to, unsigned long len,
			      unsigned long d)
{
	(void)d;
	while (!stopped()) {
		unsigned long next = control->at == from ? to : from;
		void *ret;

		__atomic_add_fetch(&control->seq, 1, __ATOMIC_SEQ_CST);
		ret = mremap((void *)control->at, len, len, MREMAP_MAYMOVE | MREMAP_FIXED,
			     (void *)next);
		if (ret != (void *)next) {
			__atomic_store_n(&control->stop, 1, __ATOMIC_SEQ_CST);
			return -1;
		}
		__atomic_store_n(&control->at, next, __ATOMIC_SEQ_CST);
		__atomic_add_fetch(&control->seq, 1, __ATOMIC_SEQ_CST);
		control->ops++;
		if (!holds())
			continue;
		__atomic_store_n(&control->still, 1, __ATOMIC_SEQ_CST);
		while (holds())
			usleep(1000);
		__atomic_store_n(&control->still, 0, __ATOMIC_SEQ_CST);
	}
	return 0;
}

/* The base of a mapper line, the n-th one. */
static unsigned long base_of(const char *report, int n)
{
	const char *line = report;
	unsigned long base;

	for (int i = 0; i <= n; i++) {
		line = strstr(line + 1, "\nmapper: ");
		fmi_assert(line, "no mapper %d:\n%s", i, report);
	}
	line = strstr(line, " base=");
	fmi_assert(line && sscanf(line, " base=%lx", &base) == 1, "no base");
	return base;
}

static int tuples(const struct fmi_scene *s, unsigned long va)
{
	return va / pmd_size == (va + s->size - 1) / pmd_size ? 1 : 2;
}

/*
 * A long range, full of PTEs, goes back and forth; the folio is in the middle of it. Whoever reads
 * about the folio meanwhile sees all its pages, and where they are, or the mark.
 */
static void marked_while_it_moves(struct fmi_scene *s)
{
	const unsigned long len = 128UL << 20, offset = len / 2 / s->size * s->size;
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	void *mem = mmap(NULL, 4 * len, PROT_NONE, flags, -1, 0);
	unsigned long from, to, marked = 0, listed = 0, still = 0;
	struct order mover = { .who = 1, .fn = do_back_and_forth };
	char key[32];
	double end;

	fmi_assert(mem != MAP_FAILED, "no address space");
	from = ((unsigned long)mem + pmd_size - 1) & ~(pmd_size - 1);
	to = from + len + 2 * pmd_size + pgsz;
	share_control();
	control->at = from;
	p_start(1);
	p_mmap(1, from, len, PROT_READ | PROT_WRITE, flags, -1, 0);
	ex_vma(&s->e, 1, from, from + len);
	s->va = from + offset;
	s_fault(s, 1, s->va);
	s_mapped_whole(s, 1, s->va);
	/* Zero pages: page tables full of entries that move one by one, and no memory. */
	p_read(1, from, len / pgsz);
	if (s->order == pmd_order) {
		/* It moves to where a PMD cannot be. */
		p_mremap(1, from, len, to, 0);
		p_mremap(1, to, len, from, 0);
		ex_split(&s->e, 1, s->va, s->size);
	}
	s_check(s, "populated");
	module_needs_windows();
	mover.a = from;
	mover.b = to;
	mover.c = len;
	start(&mover);
	end = now_seconds() + (double)seconds(0);
	for (unsigned long turn = 0; now_seconds() < end || marked < 4 || listed < 2 || still < 4;
	     turn++) {
		unsigned long before, at;
		long long moving, mappers;
		const char *report;
		bool quiet;

		if (turn % 4 == 3)
			hold(true);
		if (stopped())
			break;
		fmi_waits_for("reads while it moves, %lu and %lu, and while it does not, %lu",
			      marked, listed, still);
		before = get(&control->seq);
		at = get(&control->at);
		report = fmi_report_pfn(s->e.pfn);
		quiet = !(before & 1) && before == get(&control->seq);
		fmi_assert(report, "no report");
		moving = text_value(report, "moving");
		mappers = text_value(report, "mappers");
		fmi_eq(text_value(report, "total"), (long long)s->nr, "total");
		fmi_eq(text_value(report, "nr_pages_mapped"), (long long)s->nr, "nr_pages_mapped");
		fmi_eq(text_value(report, "mm"), 1, "mm");
		/* Marked: at one of the places, or at both. */
		fmi_assert(mappers == 1 || (mappers == 2 && moving), "%lld mappers:\n%s", mappers,
			   report);
		for (int i = 0; i < mappers; i++) {
			unsigned long base = base_of(report, i);

			fmi_assert(base == from + offset || base == to + offset, "at 0x%lx", base);
		}
		if (!moving) {
			fmi_eq(text_value(report, "vma"), 1, "vma");
			fmi_eq(text_value(report, "vma_pt"), tuples(s, base_of(report, 0)),
			       "vma_pt");
		}
		if (quiet) {
			fmi_eq(moving, 0, "moving, without a mremap");
			fmi_eq(base_of(report, 0), at + offset, "base");
			still++;
		}
		marked += moving > 0;
		snprintf(key, sizeof(key), "%lu", s->e.pfn);
		before = get(&control->seq);
		moving = table_value("folios", key, "moving");
		quiet = !(before & 1) && before == get(&control->seq);
		fmi_assert(!quiet || !moving, "marked in folios, without a mremap");
		listed += moving > 0;
		if (turn % 4 == 3)
			hold(false);
	}
	stop(&mover, 1);
	fmi_goes_on();
	fmi_note("%lu mremaps; read %lu times while it moved, %lu times between", control->ops,
		 marked, still);
	if (control->at == to) {
		ex_move(&s->e, 1, from, len, to);
		s->va = to + offset;
	}
	s_check(s, "it has stopped");
}

/*
 * Positions follow while the range moves, a page table at a time, if the kernel allocates the page
 * tables that it moves to; where it moves whole tables, at the end.
 */
static void followed_as_it_moves(struct fmi_scene *s)
{
	const unsigned long tables = 12, len = tables * pmd_size;
	unsigned long from = s->arena, to = s->arena + 20 * pmd_size;

	module_needs_windows();
	s->va = from + 3 * pmd_size;
	p_start(1);
	p_mmap(1, from, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ex_vma(&s->e, 1, from, from + len);
	s_fault(s, 1, s->va);
	s_mapped_whole(s, 1, s->va);
	p_read(1, from, len / pgsz);
	s_check(s, "populated");
	fmi_assert(fmi_write("reset", "stats") > 0, "reset");
	p_mremap(1, from, len, to + pgsz, 0);
	ex_move(&s->e, 1, from, len, to + pgsz);
	s_check(s, "moved by PTEs");
	fmi_assert(fmi_stat("moved_tables_most") >= 1 && fmi_stat("moved_tables_most") <= 2,
		   "%lld page tables at once", fmi_stat("moved_tables_most"));
	p_mremap(1, to + pgsz, len, from + pgsz, 0);
	ex_move(&s->e, 1, to + pgsz, len, from + pgsz);
	s_check(s, "moved by page tables");
	fmi_assert(fmi_stat("moved_tables_most") >= (long long)tables - 1,
		   "%lld page tables at the end", fmi_stat("moved_tables_most"));
}

static unsigned int rnd(unsigned int *seed, unsigned int limit)
{
	*seed = *seed * 1103515245u + 12345u;
	return (*seed >> 12) % limit;
}

/* Parts of a region go from place to place; what stays behind is filled again. */
static long do_moves(unsigned long region, unsigned long len, unsigned long places,
		     unsigned long fd)
{
	const int flags = (int)fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	unsigned int seed = 7, pages = (unsigned int)(len / pgsz);

	while (!stopped()) {
		/* Odd distances between the places: mostly by PTEs. */
		unsigned long from = region, n = 1 + rnd(&seed, pages);
		unsigned long first = rnd(&seed, pages - (unsigned int)n + 1);
		unsigned long at = places + rnd(&seed, 2) * (len + pmd_size) +
				   rnd(&seed, 3) * pgsz;
		int keep = rnd(&seed, 3) ? 0 : MREMAP_DONTUNMAP;

		from += first * pgsz;
		if (mremap((void *)from, n * pgsz, n * pgsz,
			   MREMAP_MAYMOVE | MREMAP_FIXED | keep, (void *)(at + first * pgsz)) ==
		    MAP_FAILED)
			return -1;
		/* Back again, into the hole or onto what came there meanwhile. */
		if (mremap((void *)(at + first * pgsz), n * pgsz, n * pgsz,
			   MREMAP_MAYMOVE | MREMAP_FIXED, (void *)from) == MAP_FAILED)
			return -1;
		if (!rnd(&seed, 16)) {
			if (mmap((void *)region, len, PROT_READ | PROT_WRITE, flags | MAP_FIXED,
				 (int)fd, 0) == MAP_FAILED)
				return -1;
			for (unsigned long i = 0; i < len; i += pgsz)
				*(volatile char *)(region + i) = 1;
		}
		__atomic_add_fetch(&control->ops, 1, __ATOMIC_SEQ_CST);
	}
	return 0;
}

/* A second thread of the same process, which cannot know what is where. */
static unsigned long drop_region, drop_places, drop_len;

static void *drops(void *arg)
{
	unsigned int seed = 3;

	(void)arg;
	while (!stopped()) {
		unsigned long at = rnd(&seed, 2) ? drop_region :
				   drop_places + rnd(&seed, 2) * (drop_len + pmd_size);
		unsigned long first = rnd(&seed, (unsigned int)(drop_len / pgsz) - 16) * pgsz;

		madvise((void *)(at + first), (1 + rnd(&seed, 16)) * pgsz, MADV_DONTNEED);
		usleep(rnd(&seed, 2000));
	}
	return NULL;
}

static long do_moves_and_drops(unsigned long region, unsigned long len, unsigned long places,
			       unsigned long fd)
{
	pthread_t thread;
	long ret;

	drop_region = region;
	drop_places = places;
	drop_len = len;
	if (pthread_create(&thread, NULL, drops, NULL))
		return -1;
	ret = do_moves(region, len, places, fd);
	pthread_join(thread, NULL);
	return ret;
}

/*
 * Migrates what actor 1 has: looks pages up, which an mremap makes it wait for, and walks all page
 * tables that map them afterwards, when the next one may be under way.
 */
static long do_migrate(unsigned long region, unsigned long len, unsigned long nodes,
		       unsigned long pid)
{
	enum { BATCH = 256 };
	void *pages[BATCH];
	int to[BATCH], status[BATCH];
	unsigned int seed = 5;

	while (!stopped()) {
		unsigned int node = rnd(&seed, (unsigned int)nodes);

		for (int i = 0; i < BATCH; i++) {
			pages[i] = (void *)(region + rnd(&seed, (unsigned int)(len / pgsz)) * pgsz);
			to[i] = (int)node;
		}
		syscall(SYS_move_pages, (pid_t)pid, (long)BATCH, pages, to, status,
			4 /* MOVE_ALL */);
	}
	return 0;
}

/* Pages go from the file: everybody's page tables are walked, by i_mmap. */
static long do_punch(unsigned long region, unsigned long len, unsigned long fd, unsigned long d)
{
	unsigned int seed = 11, pages = (unsigned int)(len / pgsz);

	(void)d;
	while (!stopped()) {
		unsigned long first = rnd(&seed, pages), n = 1 + rnd(&seed, 16);

		if (first + n > pages)
			n = pages - first;
		fallocate((int)fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  (off_t)(first * pgsz), (off_t)(n * pgsz));
		for (unsigned long i = 0; i < 4; i++)
			*(volatile char *)(region + rnd(&seed, pages) * pgsz) = 1;
	}
	return 0;
}

static void raced(struct fmi_scene *s)
{
	static const char *const must_stay[] = {
		"missed", "missed_calls", "windows_abnormal", "windows_overflow",
		"hooks_unknown_site", "hooks_unreadable",
	};
	bool nodes = !access("/sys/devices/system/node/node1", F_OK);
	unsigned long len = 4 * pmd_size, places = s->va + 8 * pmd_size;
	struct order orders[3] = {
		{ .who = 1, .fn = do_moves_and_drops, s->va, len, places, (unsigned long)-1, 0, 0 },
		{ .who = 2, .fn = do_migrate, s->va, len, nodes ? 2 : 1, 0, 0, 0 },
		{ .who = 3, .fn = do_punch, s->va, len, 0, 0, 0, 0 },
	};
	long long before[ARRAY_SIZE(must_stay)];
	int nr = s->kind == FMI_ANON ? 2 : 3;
	double end;

	for (size_t i = 0; i < ARRAY_SIZE(must_stay); i++)
		before[i] = fmi_stat(must_stay[i]);
	share_control();
	if (s->kind != FMI_ANON)
		s_open(s, len);
	orders[0].d = (unsigned long)s->fd;
	orders[2].c = (unsigned long)s->fd;
	thp_only(s->kind, s->order, "always");
	p_start(1);
	s_map(s, 1, s->va, len, 0);
	p_write(1, s->va, len / pgsz);
	for (int who = 2; who <= nr; who++) {
		p_fork(1, who);
		if (s->kind != FMI_ANON)
			p_read(who, s->va, len / pgsz);
	}
	orders[1].d = (unsigned long)p_pid(1);
	for (int i = 0; i < nr; i++)
		start(&orders[i]);
	end = now_seconds() + (double)seconds(6);
	while (now_seconds() < end) {
		fmi_audit("all");
		msleep(500);
	}
	stop(orders, nr);
	thp_never();
	fmi_note("%lu moves", control->ops);
	fmi_audit("all");
	for (size_t i = 0; i < ARRAY_SIZE(must_stay); i++)
		fmi_eq(fmi_stat(must_stay[i]), before[i], must_stay[i]);
	fmi_eq(fmi_stat("windows_open"), 0, "windows_open");
	p_munmap(1, s->arena, ARENA_PMDS * pmd_size);
	fmi_audit("all");
}

static const struct fmi_test tests[] = {
	{ "marked_while_it_moves", marked_while_it_moves, ON_ANON | LONG },
	{ "followed_as_it_moves", followed_as_it_moves, ON_ANON },
	{ "raced", raced, ON_ANON | ON_SHMEM | LONG },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
