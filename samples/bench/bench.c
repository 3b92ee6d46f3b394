// SPDX-License-Identifier: GPL-2.0
/*
 * Counts the instructions that the kernel takes for each folio that it forks, unmaps, moves, copies
 * or faults in. To be run in a guest whose time is a count of instructions (FMI_ICOUNT=1, see
 * scripts/boot); elsewhere the numbers are nanoseconds, or ticks.
 *
 * bench [-m MODE,...] [-k KIND,...] [-s SIZE,...] [-r ROUNDS] [-c] [-p] [-o OTHERS]: a line for
 * each cell: mode, kind, size, folios, instructions per folio, (most - least) of the rounds per
 * folio, and with -c, if the module is on, rmap calls per folio. From each cell is subtracted what
 * the mode costs with nothing mapped: that is the line of size "none", for all folios together.
 * -o: so many other processes map the same folios, 2 MiB of them, if the mode unmaps any.
 * -p: another process reads the module's `stats` whenever we do not measure. -v: all rounds.
 */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "fmi_ksft.h"
#include "fmi_util.h"

#define MIB (1UL << 20)

/* What happens once in a while must not fall on a few; there is not always page cache for more. */
#define FEWEST(kind) ((kind) == FMI_ANON ? 128 : 32)
#define MAX_ROUNDS 99
#define MAX_OTHERS 4000

/* Shared with the children. */
static struct {
	uint64_t from, to;
	double calls_from, calls_to;
	bool count_calls;
} *now;

static const char *only_modes, *only_kinds, *only_sizes;
static int rounds = 5;
static int others;
static pid_t other[MAX_OTHERS];
static bool with_calls, verbose;

/* The counter itself, whatever the clocksource: with -icount it counts instructions. */
static uint64_t ticks(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
	uint64_t freq, count;

	asm volatile("mrs %0, cntfrq_el0" : "=r" (freq));
	asm volatile("isb; mrs %0, cntvct_el0" : "=r" (count) : : "memory");
	return count * (1000000000 / freq);
#else
#error "no counter is known for this architecture"
#endif
}

/* All rmap calls that the module has seen: on tracked classes, and on others. */
static double all_calls(void)
{
	static char text[1 << 17];
	double sum = 0;

	if (fmi_read("stats", text, sizeof(text)) <= 0)
		return 0;
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		const char *value = strchr(line, ':');

		if (value && (!strncmp(line, "calls_", 6) || !strncmp(line, "events_", 7)))
			sum += strtod(value + 1, NULL);
	}
	return sum;
}

void begin(void)
{
	if (now->count_calls) {
		/* The first time, a child gets its copy of what this writes to. */
		all_calls();
		now->calls_from = all_calls();
	}
	now->from = ticks();
}

void end(void)
{
	now->to = ticks();
	if (now->count_calls)
		now->calls_to = all_calls();
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/*
 * Sleeps until a tick of the timer has just passed: what takes less than until the next one is
 * measured without any. What others have to do, they do now: FIFO leaves them nothing later.
 */
static void wait_for_tick(void)
{
	const long tick = 1000000000 / 250, behind = tick / 16;
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += 5 * tick - t.tv_nsec % tick + behind;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

/* Processes that map what we do, and do nothing. */
static void prepare(const struct bench_mode *mode, struct bench_cell *c)
{
	mode->prepare(c);
	for (int i = 0; i < others && !mode->keeps; i++) {
		other[i] = fork();
		fmi_assert(other[i] >= 0, "fork: %s", strerror(errno));
		if (!other[i])
			for (;;)
				pause();
	}
}

static void end_others(void)
{
	for (int i = 0; i < others && other[i]; i++) {
		kill(other[i], SIGKILL);
		waitpid(other[i], NULL, 0);
		other[i] = 0;
	}
}

/*
 * The median of the rounds: now and then something else falls on one of them, or what falls on all
 * others does not. Some more come first that nobody looks at: many with nothing mapped, which is
 * quickly done, and what all others are measured against.
 */
static uint64_t measure(const struct bench_mode *mode, struct bench_cell *c, uint64_t *spread)
{
	int first = c->empty && mode->prepare ? -20 : -2;
	uint64_t got[MAX_ROUNDS];

	for (int i = first; i < rounds; i++) {
		if (mode->prepare && (i == first || !mode->keeps))
			prepare(mode, c);
		wait_for_tick();
		mode->run(c);
		end_others();
		if (verbose)
			fprintf(stderr, " %llu", (unsigned long long)(now->to - now->from));
		if (i >= 0)
			got[i] = now->to - now->from;
	}
	if (verbose)
		fprintf(stderr, " %s\n", mode->name);
	qsort(got, (size_t)rounds, sizeof(got[0]), compare);
	*spread = got[rounds - 1] - got[0];
	return got[rounds / 2];
}

static double count_calls(const struct bench_mode *mode, struct bench_cell *c)
{
	if (mode->prepare && !mode->keeps)
		prepare(mode, c);
	now->count_calls = true;
	mode->run(c);
	now->count_calls = false;
	end_others();
	return now->calls_to - now->calls_from;
}

struct result {
	double cost, calls;
};

/* Measures a cell, and prints it, less `fixed`, if somebody wants it. */
static struct result bench_cell(const struct bench_mode *mode, struct bench_cell *c,
				const char *size, struct result fixed)
{
	double nr = c->empty ? 1 : (double)c->nr;
	struct result got = { 0 };
	uint64_t spread;

	got.cost = (double)measure(mode, c, &spread);
	if (with_calls)
		got.calls = count_calls(mode, c);
	if (!wanted(only_sizes, size))
		return got;
	printf("%s\t%s\t%s\t%.0f\t%.1f\t%.1f", mode->name, kind_name(c->kind), size, nr,
	       (got.cost - fixed.cost) / nr, (double)spread / nr);
	if (with_calls)
		printf("\t%.3f", (got.calls - fixed.calls) / nr);
	putchar('\n');
	fflush(stdout);
	return got;
}

static void bench_mode(const struct bench_mode *mode, enum fmi_kind kind)
{
	static const struct {
		const char *name;
		unsigned long bytes;
		bool by_pmd;
	} sizes[] = {
		{ "none", 0, false }, { "4K", 4096, false }, { "16K", 16384, false },
		{ "64K", 65536, false }, { "256K", 262144, false }, { "1M", MIB, false },
		{ "2M", 2 * MIB, false }, { "pmd", 2 * MIB, true },
	};
	struct result fixed = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct bench_cell c = {
			.kind = kind,
			.len = (others ? 2 : 8) * MIB,
			.empty = i == 0,
		};

		c.size = c.empty ? pgsz : sizes[i].bytes;
		if (!others && c.len < FEWEST(kind) * c.size)
			c.len = FEWEST(kind) * c.size;
		c.nr = c.len / c.size;
		c.order = (unsigned int)__builtin_ctzl(c.size) - pgshift;
		c.by_pmd = sizes[i].by_pmd;
		/* A file has its 2M folios mapped by PMDs, whatever the mode. */
		if (kind != FMI_ANON && c.order == pmd_order && !c.by_pmd)
			continue;
		if (!mode->has(&c) || (i && !wanted(only_sizes, sizes[i].name)))
			continue;
		if (c.order && kind != FMI_FILE && !thp_size_exists(kind, c.order))
			continue;
		cell_open(&c);
		if (c.empty)
			fixed = bench_cell(mode, &c, "none", fixed);
		else
			bench_cell(mode, &c, sizes[i].name, fixed);
		cell_close(&c);
	}
}

/* Reads `stats` whenever the CPU is free. */
static void start_reader(void)
{
	static char text[1 << 17];
	pid_t pid = fork();

	fmi_assert(pid >= 0, "fork: %s", strerror(errno));
	if (pid)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (getppid() != 1) {
		fmi_assert(fmi_read("stats", text, sizeof(text)) > 0, "stats cannot be read");
		msleep(1);
	}
	_exit(0);
}

static void be_alone(void)
{
	struct sched_param param = { .sched_priority = 1 };

	fmi_assert(!sched_setscheduler(0, SCHED_FIFO, &param), "sched_setscheduler");
	write_text("/proc/sys/kernel/sched_rt_runtime_us", "-1");
}

int main(int argc, char **argv)
{
	static const enum fmi_kind kinds[] = { FMI_ANON, FMI_FILE, FMI_SHMEM };
	int opt;

	if (!(personality(0xffffffff) & ADDR_NO_RANDOMIZE)) {
		personality(ADDR_NO_RANDOMIZE);
		execv("/proc/self/exe", argv);
	}
	while ((opt = getopt(argc, argv, "m:k:s:r:o:cpv")) != -1) {
		if (opt == 'm')
			only_modes = optarg;
		else if (opt == 'k')
			only_kinds = optarg;
		else if (opt == 's')
			only_sizes = optarg;
		else if (opt == 'r')
			rounds = atoi(optarg);
		else if (opt == 'o')
			others = atoi(optarg);
		else if (opt == 'c')
			with_calls = true;
		else if (opt == 'p')
			start_reader();
		else if (opt == 'v')
			verbose = true;
		else
			return 2;
	}
	fmi_assert(rounds > 0 && rounds <= MAX_ROUNDS, "-r is from 1 to %d", MAX_ROUNDS);
	fmi_assert(others >= 0 && others <= MAX_OTHERS, "-o is from 0 to %d", MAX_OTHERS);
	fmi_util_init();
	now = mmap(NULL, pgsz, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fmi_assert(now != MAP_FAILED, "no memory");
	thp_save();
	be_alone();
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		for (unsigned int m = 0; m < nr_modes; m++) {
			if (wanted(only_modes, modes[m].name) &&
			    wanted(only_kinds, kind_name(kinds[k])))
				bench_mode(&modes[m], kinds[k]);
		}
	}
	thp_restore();
	return 0;
}
