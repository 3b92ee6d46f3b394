// SPDX-License-Identifier: GPL-2.0
#include "fmi_ksft.h"

#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmi_scene.h"
#include "fmi_thp.h"
#include "fmi_util.h"

/* What takes longer will never end: nothing else may depend on these. See scripts/test, too. */
#define CASE_SECONDS 600
#define LONG_SECONDS 3600

/* What the case tells; shared with it. */
static struct told {
	char skip[256];		/* why it is skipped */
	char waits[768];	/* what it waits for */
} outside, *told = &outside;

static int nr_done, nr_failed, nr_skipped, nr_hung;
static volatile pid_t running;
static volatile sig_atomic_t hung;
const struct fmi_test *fmi_case;

bool fmi_test_all(void)
{
	const char *all = getenv("FMI_TEST_ALL");

	return all && !strcmp(all, "1");
}

static void note(const char *fmt, va_list args)
{
	static char text[1 << 14];
	char *save;

	vsnprintf(text, sizeof(text), fmt, args);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		printf("# %s\n", line);
	fflush(stdout);
}

void fmi_note(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	note(fmt, args);
	va_end(args);
}

void fmi_fail_at(const char *file, int line, const char *fmt, ...)
{
	va_list args;

	printf("# %s:%d: ", file, line);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	_exit(KSFT_FAIL);
}

void fmi_skip(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(told->skip, sizeof(told->skip), fmt, args);
	va_end(args);
	_exit(KSFT_SKIP);
}

void fmi_waits_for(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(told->waits, sizeof(told->waits), fmt, args);
	va_end(args);
}

void fmi_goes_on(void)
{
	told->waits[0] = '\0';
}

/*
 * The memory of the tests themselves is not to become large folios, not even before main():
 * starts the program again with that switched off, until all sizes are.
 */
static void __attribute__((constructor)) start_small(int argc, char **argv)
{
	char path[512];
	ssize_t len;

	(void)argc;
	if (prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) != 0)
		return;
	/* By its own path: the name of the process comes from it. */
	len = readlink("/proc/self/exe", path, sizeof(path) - 1);
	if (len <= 0 || prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0))
		return;
	path[len] = '\0';
	execv(path, argv);
}

static void restore_and_die(int sig)
{
	thp_restore();
	signal(sig, SIG_DFL);
	raise(sig);
}

static void nothing_lost_by_error(long long before)
{
	const char *stats = fmi_stats();
	long long lost = stats_lost_by_error(stats);

	if (lost <= before)
		return;
	stats_say_lost(stats);
	fmi_fail("lost: %lld, before: %lld", lost, before);
}

/* FMI_SLOW: how much longer things take here than in a guest with a stock kernel. */
static unsigned int slowness(void)
{
	const char *slow = getenv("FMI_SLOW");

	return slow && atoi(slow) > 1 ? (unsigned int)atoi(slow) : 1;
}

/* Where one case hangs, all of them may; the program has failed anyway. */
static unsigned int time_limit(const struct fmi_test *test)
{
	unsigned int seconds = test->on & LONG ? LONG_SECONDS : CASE_SECONDS;

	return seconds * slowness() / (nr_hung ? 5 : 1);
}

static void end_group(int sig)
{
	/* Not those that the case has started, which have this handler, too. */
	if (getpid() == getpgrp())
		kill(0, SIGKILL);
	signal(sig, SIG_DFL);
	raise(sig);
}

static void end_case(int sig)
{
	(void)sig;
	hung = 1;
	kill(-running, SIGKILL);
}

static void __attribute__((noreturn))
run_case(const struct fmi_test *test, enum fmi_kind kind, unsigned int order)
{
	static const char *const must_stay[] = { "inconsistent", "mismatches" };
	static struct fmi_scene scene;
	long long before[ARRAY_SIZE(must_stay)] = { 0 }, lost = 0;
	bool module = !(test->on & NO_MODULE);
	cpu_set_t first;

	setpgid(0, 0);
	signal(SIGINT, SIG_DFL);
	signal(SIGALRM, SIG_DFL);
	/* Nobody else would end the group if the parent were killed. */
	signal(SIGTERM, end_group);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (!(test->on & LONG)) {
		/* On one CPU the kernel's per-CPU batches hold no surprises. */
		CPU_ZERO(&first);
		CPU_SET(0, &first);
		sched_setaffinity(0, sizeof(first), &first);
	}
	scene_init(&scene, kind, order);
	if (module) {
		module_ready();
		for (size_t i = 0; i < ARRAY_SIZE(must_stay); i++)
			before[i] = fmi_stat(must_stay[i]);
		lost = stats_lost_by_error(fmi_stats());
	}
	fmi_case = test;
	test->fn(&scene);
	if (module) {
		for (size_t i = 0; i < ARRAY_SIZE(must_stay); i++)
			fmi_eq(fmi_stat(must_stay[i]), before[i], must_stay[i]);
		nothing_lost_by_error(lost);
	}
	fflush(stdout);
	_exit(KSFT_PASS);
}

static void result(const char *name, int status)
{
	nr_done++;
	if (WIFEXITED(status) && WEXITSTATUS(status) == KSFT_PASS) {
		printf("ok %d %s\n", nr_done, name);
	} else if (WIFEXITED(status) && WEXITSTATUS(status) == KSFT_SKIP) {
		nr_skipped++;
		printf("ok %d %s # SKIP %s\n", nr_done, name, told->skip);
	} else {
		nr_failed++;
		if (WIFSIGNALED(status) && !hung)
			printf("# ended by %s\n", strsignal(WTERMSIG(status)));
		printf("not ok %d %s\n", nr_done, name);
	}
	fflush(stdout);
}

/* Here and not in the case: it may have a use for the timer, and be unable to end itself. */
static int run_to_the_end(const struct fmi_test *test, enum fmi_kind kind, unsigned int order)
{
	unsigned int seconds = time_limit(test);
	int status;
	pid_t pid;

	pid = fork();
	if (pid == 0)
		run_case(test, kind, order);
	setpgid(pid, pid);
	running = pid;
	hung = 0;
	alarm(pid > 0 ? seconds : 0);
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		perror("# fork");
		exit(KSFT_FAIL);
	}
	alarm(0);
	kill(-pid, SIGKILL);
	if (WIFEXITED(status))
		hung = 0;
	if (hung) {
		nr_hung++;
		fmi_note("ended by the time limit of %u s%s%s", seconds,
			 *told->waits ? ", waiting for " : "", told->waits);
	}
	return status;
}

/* What a process leaves goes when its memory does, which may take a while, too. */
static bool nothing_left(unsigned int seconds)
{
	double end = now_seconds() + seconds;

	while (!fmi_nothing_left()) {
		if (now_seconds() > end) {
			nr_hung++;
			return false;
		}
		msleep(20);
	}
	return true;
}

static void one(const struct fmi_test *test, enum fmi_kind kind, unsigned int order,
		const char *name)
{
	int status;

	fflush(stdout);
	memset(told, 0, sizeof(*told));
	status = run_to_the_end(test, kind, order);
	/* Their memory goes before the next case begins. */
	while (waitpid(-1, NULL, 0) > 0)
		;
	thp_quiet();
	if (WIFEXITED(status) && WEXITSTATUS(status) == KSFT_PASS &&
	    !nothing_left(time_limit(test))) {
		printf("# records of processes that are gone\n");
		status = W_EXITCODE(KSFT_FAIL, 0);
	}
	result(name, status);
}

static bool runs_on(const struct fmi_test *test, enum fmi_kind kind, unsigned int order)
{
	if (test->on & ON_ONCE)
		return kind == FMI_NONE && order == 0;
	if (kind == FMI_NONE || !(test->on & (1u << kind)) || !thp_size_exists(kind, order))
		return false;
	if (order > pmd_order || ((test->on & PMD_ONLY) && order != pmd_order))
		return false;
	if ((test->on & FEW_SIZES) && !fmi_test_all() && order != 2 && order != 4 &&
	    order != pmd_order)
		return false;
	return !((test->on & PTE_ONLY) && order == pmd_order) &&
	       !((test->on & ORDER4_ONLY) && order != 4) &&
	       !((test->on & NOT_ORDER1) && order == 1);
}

/* Goes through all cases; counts those whose name contains `only`, and runs them if asked. */
static int all(const struct fmi_test *tests, size_t nr, const char *only, bool run)
{
	char name[128];
	int count = 0;

	for (size_t i = 0; i < nr; i++) {
		for (enum fmi_kind kind = FMI_ANON; kind <= FMI_NONE; kind++) {
			for (unsigned int order = 0; order <= FMI_MAX_ORDER; order++) {
				if (!runs_on(&tests[i], kind, order))
					continue;
				if (kind == FMI_NONE)
					snprintf(name, sizeof(name), "%s", tests[i].name);
				else
					snprintf(name, sizeof(name), "%s %s %lukB", tests[i].name,
						 kind_name(kind), (pgsz << order) / 1024);
				if (only && !strstr(name, only))
					continue;
				count++;
				if (run)
					one(&tests[i], kind, order, name);
			}
		}
	}
	return count;
}

int fmi_run(int argc, char **argv, const struct fmi_test *tests, size_t nr)
{
	const char *only = argc > 1 ? argv[1] : NULL;
	void *shared;
	int plan;

	fmi_util_init();
	shared = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		return KSFT_FAIL;
	told = shared;
	printf("KTAP version 1\n");
	if (geteuid() != 0) {
		printf("1..0 # SKIP not root\n");
		return KSFT_SKIP;
	}
	/* Orphaned actors become children of this process. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	thp_save();
	prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
	signal(SIGINT, restore_and_die);
	signal(SIGTERM, restore_and_die);
	signal(SIGALRM, end_case);
	plan = all(tests, nr, only, false);
	printf("1..%d\n", plan);
	all(tests, nr, only, true);
	thp_restore();
	printf("# Totals: pass:%d fail:%d skip:%d\n", nr_done - nr_failed - nr_skipped, nr_failed,
	       nr_skipped);
	if (nr_failed)
		return KSFT_FAIL;
	return nr_done == nr_skipped ? KSFT_SKIP : KSFT_PASS;
}
