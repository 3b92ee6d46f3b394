// SPDX-License-Identifier: GPL-2.0
/* Audits in the background, audits that are interrupted, and how long locks are held. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

static char text[1 << 16];

static void interval(const char *ms)
{
	fmi_assert(fmi_write("audit_interval", ms) > 0, "audit_interval: %s", ms);
	fmi_assert(fmi_read("audit_interval", text, sizeof(text)) > 0, "cannot read it");
	text[strcspn(text, "\n")] = '\0';
	fmi_assert(!strcmp(text, ms), "audit_interval: got '%s', want '%s'", text, ms);
}

static void wait_for_rounds(long long nr)
{
	long long before = fmi_stat("background_rounds");

	fmi_wait_until(fmi_stat("background_rounds") >= before + nr,
		       "rounds in the background: %lld of %lld",
		       fmi_stat("background_rounds") - before, nr);
}

static void no_more_rounds(const char *when)
{
	long long before = fmi_stat("background_rounds");

	msleep(500);
	fmi_eq(fmi_stat("background_rounds"), before, when);
}

static void runs_until_it_is_switched_off(struct fmi_scene *s)
{
	fmi_assert(fmi_write("reset", "stats") > 0, "reset");
	s_populate(s);
	no_more_rounds("rounds, before any was asked for");
	interval("20");
	wait_for_rounds(3);
	fmi_assert(fmi_read("audit", text, sizeof(text)) > 0, "cannot read audit");
	fmi_assert(text_value(text, "background_mappings") >= 3 * s->e.nr_mappings,
		   "background_mappings: %lld", text_value(text, "background_mappings"));
	fmi_assert(text_value(text, "background_records") >= 3, "no records");
	fmi_eq(text_value(text, "background_differences"), 0, "background_differences");
	interval("0");
	no_more_rounds("rounds, switched off");
}

static void ends_with_tracking_and_begins_again(struct fmi_scene *s)
{
	(void)s;
	interval("10");
	wait_for_rounds(1);
	for (int i = 0; i < 5; i++) {
		fmi_assert(fmi_write("enable", "0") > 0, "disable");
		no_more_rounds("rounds, disabled");
		fmi_assert(fmi_write("enable", "1") > 0, "enable");
		wait_for_rounds(1);
	}
	interval("0");
}

static void refuses_what_makes_no_sense(struct fmi_scene *s)
{
	static const char *const bad[] = {
		"", "x", "-1", "1", "9", "86400001", "4294967296", "20 30",
	};

	(void)s;
	interval("1000");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int ret = fmi_write("audit_interval", bad[i]);

		/* Nothing is written by an empty write. */
		fmi_assert(ret == -EINVAL || (!*bad[i] && ret == 0), "'%s': %d", bad[i], ret);
	}
	fmi_assert(fmi_read("audit_interval", text, sizeof(text)) > 0, "cannot read it");
	fmi_eq(atoi(text), 1000, "audit_interval");
	interval("0");
}

static void is_no_obstacle_to_unloading(struct fmi_scene *s)
{
	(void)s;
	for (int i = 0; i < 5; i++) {
		module_ready();
		interval("10");
		wait_for_rounds(i % 2);
		fmi_eq(module_unload(), 0, "rmmod");
	}
	module_ready();
}

static void on_alarm(int sig)
{
	(void)sig;
}

static void a_signal_interrupts_it(struct fmi_scene *s)
{
	struct sigaction action = { .sa_handler = on_alarm };
	struct itimerval timer = { .it_interval.tv_usec = 700, .it_value.tv_usec = 700 };
	int ret = 0;

	s_populate(s);
	for (int who = 2; who < 6; who++)
		p_fork(1, who);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	for (int i = 0; i < 1000 && ret != -EINTR; i++)
		ret = fmi_write("audit", "all");
	timer.it_value.tv_usec = 0;
	setitimer(ITIMER_REAL, &timer, NULL);
	fmi_eq(ret, -EINTR, "the audit's result");
	fmi_audit("all");
}

/* In an actor. */
static long reserve(unsigned long len, unsigned long b, unsigned long c, unsigned long d)
{
	(void)b;
	(void)c;
	(void)d;
	return (long)mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static void says_how_long_locks_were_held(struct fmi_scene *s)
{
	static const char *const names[] = {
		"longest_mmap_lock_us", "longest_table_lock_us", "longest_lock_us",
	};

	s_populate(s);
	s_fork(s, 1, 2);
	fmi_audit("all");
	fmi_assert(fmi_read("audit", text, sizeof(text)) > 0, "cannot read audit");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		fmi_assert(text_value(text, names[i]) > 0, "%s: 0", names[i]);
	fmi_note("%lld us mmap lock, %lld us page table, %lld us shard", text_value(text, names[0]),
		 text_value(text, names[1]), text_value(text, names[2]));
	fmi_assert(text_value(text, names[1]) <= text_value(text, names[0]),
		   "a page table is locked for longer than its mmap lock");
	fmi_assert(text_value(text, "took_ms") * 1000 + 1000 >= text_value(text, names[0]),
		   "it took %lld ms", text_value(text, "took_ms"));
}

/* Looks what is tracked; returns in how many steps. `text` is what `scan` says then. */
static long long covered_in(void)
{
	fmi_assert(fmi_covered() > 0, "nothing is tracked");
	fmi_assert(fmi_read("scan", text, sizeof(text)) > 0, "cannot read scan");
	fmi_assert(text_value(text, "coverage_steps") > 0, "looked in no step");
	return text_value(text, "coverage_steps");
}

/* Address space that is only reserved costs nothing, however much it is; all else is seen. */
static void passes_over_a_reservation(struct fmi_scene *s)
{
	/* All page tables below the table of PMDs that has the one of a page, four in a step. */
	const long long few = (long long)pgsz / 8 / 4 + 8;
	const unsigned long len = 1UL << 46;
	long long mappings, steps, coverage_steps;
	void *mem;

	s_populate(s);
	fmi_audit("all");
	fmi_assert(fmi_read("audit", text, sizeof(text)) > 0, "cannot read audit");
	mappings = text_value(text, "mappings");
	steps = text_value(text, "steps");
	fmi_assert(steps > 0, "an audit without a step");
	coverage_steps = covered_in();
	p_fork(1, 2);
	mem = (void *)p_call(2, reserve, len, 0, 0, 0);
	if (mem == MAP_FAILED)
		fmi_skip("no %lu bytes of address space", len);
	p_read(2, (unsigned long)mem + len - pgsz, 1);
	fmi_audit("all");
	fmi_assert(fmi_read("audit", text, sizeof(text)) > 0, "cannot read audit");
	fmi_assert(text_value(text, "mappings") > mappings, "what was forked was not found");
	/* Its page tables, and those of what was forked; 8 million if nothing is passed over. */
	fmi_assert(text_value(text, "steps") <= 2 * steps + few, "got %lld steps, had %lld",
		   text_value(text, "steps"), steps);
	fmi_assert(covered_in() <= 2 * coverage_steps + few, "got %lld steps, had %lld",
		   text_value(text, "coverage_steps"), coverage_steps);
	p_exit(2);
}

static const struct fmi_test tests[] = {
	{ "runs_until_it_is_switched_off", runs_until_it_is_switched_off, ON_ANON | ORDER4_ONLY },
	{ "ends_with_tracking_and_begins_again", ends_with_tracking_and_begins_again, ON_ONCE },
	{ "refuses_what_makes_no_sense", refuses_what_makes_no_sense, ON_ONCE },
	{ "is_no_obstacle_to_unloading", is_no_obstacle_to_unloading, ON_ONCE | NO_MODULE },
	{ "a_signal_interrupts_it", a_signal_interrupts_it, ON_ANON | ORDER4_ONLY },
	{ "says_how_long_locks_were_held", says_how_long_locks_were_held, ON_ANON | ORDER4_ONLY },
	{ "passes_over_a_reservation", passes_over_a_reservation, ON_ANON | ORDER4_ONLY },
};

int main(int argc, char **argv)
{
	int ret = fmi_run(argc, argv, tests, ARRAY_SIZE(tests));

	/* A case that was ended has not. */
	fmi_write("audit_interval", "0");
	return ret;
}
