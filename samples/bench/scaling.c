// SPDX-License-Identifier: GPL-2.0
/*
 * How much several processors get done at once: each has a process that faults, unmaps or forks
 * folios again and again, folios of its own, such as all have, or one that all have. Tracking is
 * off and on in turn.
 *
 * scaling [-m CELL,...] [-n PROCESSORS,...] [-r ROUNDS] [-t MS]: a line for each round: what is
 * done, the size of the folios and whose they are, off or on, processes, and how many times a
 * second all of them together did it (fault, munmap: how many folios). Where time is a count of
 * instructions, a second is 10^9 of them.
 */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "fmi_ksft.h"
#include "fmi_util.h"

#define MAX_CPUS 64
#define MIB (1UL << 20)

/* What a process did; on cache lines of its own. */
struct worker {
	double folios, forks, fault_ns, munmap_ns, fork_ns;
} __attribute__((aligned(256)));

struct flag {
	bool set;
} __attribute__((aligned(256)));

static struct {
	int ready;
	struct flag go, stop;
	struct worker worker[MAX_CPUS];
} *all;

enum whose {
	OWN,	/* each process has folios of its own */
	SHARED,	/* all have the same */
	ONE,	/* all have one and the same */
};

static const char *const whose_name[] = { "own", "shared", "one" };

struct cell {
	const char *name;
	bool forks;
	unsigned long size;
	enum whose whose;
};

static const struct cell cells[] = {
	{ "touch-64K-own", false, 65536, OWN },
	{ "touch-64K-shared", false, 65536, SHARED },
	{ "touch-64K-one", false, 65536, ONE },
	{ "touch-2M-own", false, 2 * MIB, OWN },
	{ "touch-2M-shared", false, 2 * MIB, SHARED },
	{ "touch-2M-one", false, 2 * MIB, ONE },
	{ "fork-64K-own", true, 65536, OWN },
	{ "fork-64K-shared", true, 65536, SHARED },
	{ "fork-64K-one", true, 65536, ONE },
	{ "fork-2M-own", true, 2 * MIB, OWN },
	{ "fork-2M-shared", true, 2 * MIB, SHARED },
	{ "fork-2M-one", true, 2 * MIB, ONE },
};

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Maps all folios with one fault each, and gives them back. */
static void touch(const struct bench_cell *c, struct worker *w)
{
	int flags = c->kind == FMI_ANON ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	double from, between, to;
	char *mem;

	mem = mmap(c->mem, c->len, PROT_READ | PROT_WRITE, flags | MAP_FIXED, c->fd, 0);
	fmi_assert(mem == c->mem, "mmap: %s", strerror(errno));
	from = now_ns();
	cell_touch(c);
	between = now_ns();
	munmap(mem, c->len);
	to = now_ns();
	w->folios += (double)c->nr;
	w->fault_ns += between - from;
	w->munmap_ns += to - between;
}

/* From the call until the child, which does nothing, is gone. */
static void fork_once(struct worker *w)
{
	double from = now_ns();
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	fmi_assert(pid > 0 && waitpid(pid, NULL, 0) == pid, "fork: %s", strerror(errno));
	w->forks++;
	w->fork_ns += now_ns() - from;
}

static void work(const struct cell *cell, struct bench_cell *c, int cpu)
{
	struct worker *w = &all->worker[cpu];
	cpu_set_t set;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	fmi_assert(!sched_setaffinity(0, sizeof(set), &set), "there is no processor %d", cpu);
	if (cell->forks && cell->whose == OWN)
		cell_populate(c);
	__atomic_add_fetch(&all->ready, 1, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&all->go.set, __ATOMIC_ACQUIRE))
		sched_yield();
	while (!__atomic_load_n(&all->stop.set, __ATOMIC_ACQUIRE)) {
		if (cell->forks)
			fork_once(w);
		else
			touch(c, w);
	}
	_exit(0);
}

/* That many processes do it for some time. */
static void run(const struct cell *cell, struct bench_cell *c, int nr, unsigned int ms)
{
	pid_t pids[MAX_CPUS];
	int status;

	memset(all, 0, sizeof(*all));
	for (int i = 0; i < nr; i++) {
		pids[i] = fork();
		fmi_assert(pids[i] >= 0, "fork: %s", strerror(errno));
		if (!pids[i])
			work(cell, c, i);
	}
	while (__atomic_load_n(&all->ready, __ATOMIC_SEQ_CST) < nr)
		msleep(1);
	__atomic_store_n(&all->go.set, true, __ATOMIC_RELEASE);
	msleep(ms);
	__atomic_store_n(&all->stop.set, true, __ATOMIC_RELEASE);
	for (int i = 0; i < nr; i++)
		fmi_assert(waitpid(pids[i], &status, 0) == pids[i] && !status, "a process failed");
}

static void print(const struct cell *cell, const char *what, const char *state, int nr, double each)
{
	printf("%s\t%s\t%s\t%s\t%d\t%.1f\n", what, cell->size < MIB ? "64K" : "2M",
	       whose_name[cell->whose], state, nr, each);
}

static void report(const struct cell *cell, const char *state, int nr)
{
	double fault = 0, munmap = 0, both = 0, forks = 0;

	for (int i = 0; i < nr; i++) {
		struct worker *w = &all->worker[i];

		fmi_assert(w->folios + w->forks > 0, "%s: process %d got nothing done", cell->name,
			   i);
		fault += 1e9 * w->folios / w->fault_ns;
		munmap += 1e9 * w->folios / w->munmap_ns;
		both += 1e9 * w->folios / (w->fault_ns + w->munmap_ns);
		forks += 1e9 * w->forks / w->fork_ns;
	}
	if (cell->forks) {
		print(cell, "fork", state, nr, forks);
	} else {
		print(cell, "fault", state, nr, fault);
		print(cell, "munmap", state, nr, munmap);
		print(cell, "both", state, nr, both);
	}
	fflush(stdout);
}

static void open_cell(const struct cell *cell, struct bench_cell *c)
{
	*c = (struct bench_cell){
		.kind = cell->forks || cell->whose == OWN ? FMI_ANON : FMI_SHMEM,
		.size = cell->size,
		.len = cell->whose == ONE ? cell->size : cell->size < MIB ? 2 * MIB : 8 * MIB,
		.order = (unsigned int)__builtin_ctzl(cell->size / pgsz),
		.by_pmd = cell->size == pmd_size,
	};
	c->nr = c->len / c->size;
	cell_open(c);
	/* The folios are of that size. */
	cell_populate(c);
	if (!cell->forks || cell->whose == OWN)
		cell_unmap(c, c->mem);
}

int main(int argc, char **argv)
{
	const char *only = NULL, *cpus = "1,2,4";
	unsigned int ms = 100;
	int opt, rounds = 5;

	while ((opt = getopt(argc, argv, "m:n:r:t:")) != -1) {
		if (opt == 'm')
			only = optarg;
		else if (opt == 'n')
			cpus = optarg;
		else if (opt == 'r')
			rounds = atoi(optarg);
		else if (opt == 't')
			ms = (unsigned int)atoi(optarg);
		else
			return 2;
	}
	fmi_util_init();
	fmi_assert(rounds > 0 && ms > 0, "-r and -t are numbers");
	fmi_assert(module_loaded(), "load the module");
	all = mmap(NULL, sizeof(*all), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fmi_assert(all != MAP_FAILED, "no memory");
	thp_save();
	for (size_t i = 0; i < ARRAY_SIZE(cells); i++) {
		struct bench_cell c;

		if (!wanted(only, cells[i].name))
			continue;
		open_cell(&cells[i], &c);
		/* off, on, on, off, off, on ...: what changes slowly is the same for both. */
		for (int turn = 0; turn < 2 * rounds; turn++) {
			bool on = (turn + 1) / 2 % 2;

			fmi_assert(fmi_write("enable", on ? "1" : "0") > 0, "enable");
			for (int nr = 1; nr <= MAX_CPUS; nr++) {
				char name[8];

				snprintf(name, sizeof(name), "%d", nr);
				if (wanted(cpus, name)) {
					run(&cells[i], &c, nr, ms);
					report(&cells[i], on ? "on" : "off", nr);
				}
			}
		}
		cell_close(&c);
	}
	fmi_write("enable", "0");
	thp_restore();
	return 0;
}
