// SPDX-License-Identifier: GPL-2.0
#include "fmi_storm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_scene.h"
#include "fmi_thp.h"
#include "fmi_util.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* PMDs of anonymous memory; as much shared memory comes after it. */
#define REGION_PMDS (pmd_size > (4UL << 20) ? 1 : 4)
#define MAX_DEPTH 3
#define MAX_FAMILIES 8

/* One page that all of them share. */
static struct control {
	int stop;	/* do nothing any more */
	int quit;	/* exit */
	int alive;	/* threads that must stop */
	int paused;	/* threads that have */
	unsigned long ops;
} *control;

struct worker {
	unsigned long anon, shared, scratch;
	unsigned long len;
	int fd;
	unsigned int seed;
	int depth;
	int children;
	long left;	/* operations until it exits; -1: never */
};

static pid_t families[MAX_FAMILIES];
static int nr_families;

static int flag(const int *where)
{
	return __atomic_load_n(where, __ATOMIC_ACQUIRE);
}

static void add(int *where, int n)
{
	__atomic_add_fetch(where, n, __ATOMIC_ACQ_REL);
}

static unsigned int rnd(struct worker *w, unsigned int limit)
{
	w->seed = w->seed * 1103515245u + 12345u;
	return (w->seed >> 12) % limit;
}

/* A random range of pages in a region: mostly small, sometimes large. */
static unsigned long range(struct worker *w, unsigned long region, unsigned long *len)
{
	unsigned int pages = (unsigned int)(w->len / pgsz);
	unsigned int nr = 1 + rnd(w, rnd(w, 4) ? 24 : pages / 2);
	unsigned int first = rnd(w, pages - nr);

	*len = nr * pgsz;
	return region + first * pgsz;
}

static bool reap_one(struct worker *w)
{
	if (waitpid(-1, NULL, WNOHANG) <= 0)
		return false;
	w->children--;
	add(&control->alive, -1);
	return true;
}

static void __attribute__((noreturn)) pause_here(struct worker *w)
{
	add(&control->paused, 1);
	while (!flag(&control->quit)) {
		/* A child may have been about to exit. */
		if (w && w->children)
			reap_one(w);
		usleep(2000);
	}
	_exit(0);
}

static void reap(struct worker *w, bool all)
{
	while (w->children > 0) {
		if (reap_one(w))
			continue;
		if (!all)
			return;
		/* A child that pauses does not end: then neither do we. */
		if (flag(&control->stop))
			pause_here(w);
		usleep(1000);
	}
}

static void fork_one(struct worker *w)
{
	pid_t pid;

	reap(w, false);
	if (w->depth >= MAX_DEPTH || w->children >= 2)
		return;
	add(&control->alive, 1);
	pid = fork();
	if (pid == 0) {
		w->depth++;
		w->children = 0;
		w->seed ^= (unsigned int)getpid() * 2654435761u;
		w->left = 20 + rnd(w, 100);
	} else if (pid > 0) {
		w->children++;
	} else {
		add(&control->alive, -1);
	}
}

static void map_anon(unsigned long va, unsigned long len)
{
	if (mmap((void *)va, len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != (void *)va)
		_exit(2);
}

static void map_shared(const struct worker *w, unsigned long va, unsigned long len)
{
	if (mmap((void *)va, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, w->fd,
		 (off_t)(va - w->shared)) != (void *)va)
		_exit(2);
}

static void touch(struct worker *w, unsigned long region)
{
	unsigned long len;
	unsigned long va = range(w, region, &len);

	/* No plain access: another thread may have the range unmapped just now. */
	madvise((void *)va, len, rnd(w, 2) ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
}

/* Away and back again, so that every region stays what it is. */
static void move(unsigned long va, unsigned long len, unsigned long to)
{
	const int how = MREMAP_MAYMOVE | MREMAP_FIXED;

	if (mremap((void *)va, len, len, how, (void *)to) != (void *)to)
		return;
	if (mremap((void *)to, len, len, how, (void *)va) != (void *)va)
		_exit(2);
}

/* To a node of the machine; without a second one nothing moves. */
static void migrate(struct worker *w, unsigned long va, unsigned long len)
{
	enum { MOST = 64 };
	int nodes[MOST], status[MOST];
	unsigned long nr = len / pgsz < MOST ? len / pgsz : MOST;
	void *pages[MOST];
	int node = (int)rnd(w, 2);

	for (unsigned long i = 0; i < nr; i++) {
		pages[i] = (void *)(va + i * pgsz);
		nodes[i] = node;
	}
	syscall(SYS_move_pages, 0, nr, pages, nodes, status, 1 << 1 /* MPOL_MF_MOVE */);
}

static void one_op(struct worker *w)
{
	unsigned long len;
	unsigned long va = range(w, w->anon, &len);
	unsigned long sva = range(w, w->shared, &len);

	switch (rnd(w, 20)) {
	case 0 ... 3:
		touch(w, w->anon);
		break;
	case 4:
		touch(w, w->shared);
		break;
	case 5:
		va = range(w, w->anon, &len);
		munmap((void *)va, len);
		map_anon(va, len);
		break;
	case 6:
		munmap((void *)sva, len);
		map_shared(w, sva, len);
		break;
	case 7:
		va = range(w, w->anon, &len);
		madvise((void *)va, len, MADV_DONTNEED);
		break;
	case 8:
		madvise((void *)sva, len, MADV_DONTNEED);
		break;
	case 9 ... 10:
		va = range(w, w->anon, &len);
		move(va, len, w->scratch + rnd(w, 600) * pgsz);
		break;
	case 11:
		va = range(w, w->anon, &len);
		madvise((void *)va, len, MADV_PAGEOUT);
		break;
	case 12:
		va = range(w, w->anon, &len);
		mprotect((void *)va, len, PROT_READ);
		mprotect((void *)va, len, PROT_READ | PROT_WRITE);
		break;
	case 13:
		if (rnd(w, 4) == 0 && fallocate(w->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
						(off_t)(sva - w->shared), (off_t)len))
			_exit(2);
		break;
	case 14:
		if (rnd(w, 8) == 0)
			madvise((void *)(rnd(w, 2) ? w->anon : w->shared), pmd_size, MADV_COLLAPSE);
		break;
	case 15:
		va = range(w, w->anon, &len);
		migrate(w, va, len);
		break;
	default:
		fork_one(w);
	}
}

static void work(struct worker *w)
{
	while (w->left != 0) {
		if (flag(&control->stop))
			pause_here(w);
		one_op(w);
		__atomic_add_fetch(&control->ops, 1, __ATOMIC_RELAXED);
		if (w->left > 0)
			w->left--;
	}
	reap(w, true);
	_exit(0);
}

/* A second thread of a family's first process: faults and zaps against everything else. */
static void *helper(void *arg)
{
	struct worker w = *(struct worker *)arg;

	w.seed = ~w.seed;
	while (!flag(&control->stop)) {
		unsigned long len;
		unsigned long va = range(&w, w.anon, &len);

		touch(&w, rnd(&w, 4) ? w.anon : w.shared);
		if (rnd(&w, 4) == 0)
			madvise((void *)va, len, MADV_DONTNEED);
	}
	pause_here(NULL);
}

static void __attribute__((noreturn)) family(struct worker *w)
{
	pthread_t thread;

	map_anon(w->anon, w->len);
	w->fd = memfd_create("storm", MFD_CLOEXEC);
	if (w->fd < 0 || ftruncate(w->fd, (off_t)w->len))
		_exit(2);
	map_shared(w, w->shared, w->len);
	if (pthread_create(&thread, NULL, helper, w))
		add(&control->alive, -1);
	work(w);
	_exit(0);
}

void storm_start(struct fmi_scene *s, int nr)
{
	static const unsigned int orders[] = { 2, 4, 6 };
	const char *given = getenv("FMI_SEED");
	unsigned int seed = given ? (unsigned int)strtoul(given, NULL, 10) :
				    (unsigned int)(now_seconds() * 1e6);

	control = mmap(NULL, pgsz, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fmi_assert(control != MAP_FAILED && nr <= MAX_FAMILIES, "no control page");
	thp_never();
	for (enum fmi_kind kind = FMI_ANON; kind <= FMI_SHMEM; kind++) {
		for (size_t i = 0; i < ARRAY_SIZE(orders); i++)
			thp_also(kind, orders[i]);
		thp_also(kind, pmd_order);
	}
	fmi_note("seed %u", seed);
	nr_families = 0;
	for (int i = 0; i < nr; i++) {
		struct worker w = {
			.anon = s->va,
			.shared = s->va + (REGION_PMDS + 1) * pmd_size,
			.scratch = s->va + 2 * (REGION_PMDS + 1) * pmd_size,
			.len = REGION_PMDS * pmd_size,
			.seed = seed + (unsigned int)i * 7919u,
			.left = -1,
		};
		pid_t pid;

		add(&control->alive, 2);
		fflush(stdout);
		pid = fork();
		fmi_assert(pid >= 0, "fork: %s", strerror(errno));
		if (pid == 0)
			family(&w);
		families[nr_families++] = pid;
	}
}

unsigned long storm_ops(void)
{
	return __atomic_load_n(&control->ops, __ATOMIC_RELAXED);
}

void storm_pause(void)
{
	thp_never();
	__atomic_store_n(&control->stop, 1, __ATOMIC_RELEASE);
	for (int i = 0; i < 6000; i++) {
		if (flag(&control->paused) == flag(&control->alive))
			return;
		msleep(10);
	}
	fmi_fail("the storm does not stop: %d of %d threads", flag(&control->paused),
		 flag(&control->alive));
}

void storm_end(void)
{
	int status;

	__atomic_store_n(&control->quit, 1, __ATOMIC_RELEASE);
	while (waitpid(-1, &status, 0) > 0 || errno == EINTR)
		fmi_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0,
			   "a process of the storm ended with status 0x%x", status);
	munmap(control, pgsz);
	control = NULL;
}
