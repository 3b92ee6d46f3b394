// SPDX-License-Identifier: GPL-2.0
/* What is mapped before tracking is switched on: found, exact, whatever happens meanwhile. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scan.h"
#include "fmi_scene.h"
#include "fmi_storm.h"
#include "fmi_swap.h"
#include "fmi_util.h"

static char text[1 << 16];

static void enabled(struct fmi_scene *s, const char *what)
{
	long long adopted = fmi_stat("adopted");
	const char *report;

	scan_switch("1");
	scan_ended("done");
	fmi_assert(fmi_stat("adopted") > adopted, "%s: nothing was adopted", what);
	fmi_assert(fmi_covered() > 0, "nothing is tracked");
	fmi_assert(scan_number("longest_mmap_lock_us") > 0, "no mmap lock was held");
	/* How far it is, and what it found, is in `stats`, too. */
	fmi_assert(fmi_read("stats", text, sizeof(text)) > 0, "stats cannot be read");
	fmi_assert(strstr(text, "\nscan: done\n"), "stats:\n%s", text);
	fmi_eq(text_value(text, "scan_mms_done"), text_value(text, "scan_mms"), "scan_mms_done");
	fmi_eq(text_value(text, "coverage_tracked"), scan_number("coverage_tracked"), "tracked");
	s_check(s, what);
	report = fmi_report_pfn(s->e.pfn);
	fmi_eq(text_value(report, "adopted"), 1, "adopted");
	/* What depends on the past has no value. */
	fmi_assert(strstr(report, "\ncreator: -\n"), "%s", report);
	fmi_audit("all");
}

static void whole(struct fmi_scene *s)
{
	scan_mapped_before(s);
	enabled(s, "switched on");
	s_munmap(s, 1, 0, 1);
	s_check(s, "first page unmapped");
	if (s->nr > 2)
		s_dontneed(s, 1, 1, 1);
	s_check(s, "second page unmapped");
	/* Its past begins when it has been unmapped; then it is a folio like any other. */
	s_exit(s, 1);
	s_check(s, "gone");
}

static void forked_before(struct fmi_scene *s)
{
	scan_mapped_before(s);
	s_fork(s, 1, 2);
	if (s->kind != FMI_ANON)
		ex_learn(&s->e, 2);
	s_fork(s, 1, 3);
	if (s->kind != FMI_ANON)
		ex_learn(&s->e, 3);
	if (s->kind == FMI_ANON)
		s_cow(s, 2, s->nr - 1);
	else
		s_munmap(s, 2, s->nr - 1, 1);
	enabled(s, "switched on");
	s_exit(s, 1);
	s_check(s, "the parent is gone");
	if (s->e.nr_mappings && p_pid(3)) {
		s_fork(s, 3, 4);
		if (s->kind != FMI_ANON)
			ex_learn(&s->e, 4);
		s_check(s, "forked again");
	}
}

static void moved_before(struct fmi_scene *s)
{
	const unsigned long to = s->arena + 12 * pmd_size + 3 * pgsz;
	const unsigned long nr = s->nr / 2;

	scan_mapped_before(s);
	p_mremap(1, s_page(s, 0), nr * pgsz, to, 0);
	ex_move(&s->e, 1, s_page(s, 0), nr * pgsz, to);
	p_mremap(1, s_page(s, s->nr - 1), pgsz, to + nr * pgsz + 5 * pgsz, 0);
	ex_move(&s->e, 1, s_page(s, s->nr - 1), pgsz, to + nr * pgsz + 5 * pgsz);
	p_read(1, to, nr);
	ex_learn(&s->e, 1);
	enabled(s, "switched on");
	p_mremap(1, to, nr * pgsz, s_page(s, 0), 0);
	ex_move(&s->e, 1, to, nr * pgsz, s_page(s, 0));
	ex_vma_merge(&s->e, 1, s_page(s, nr));
	s_check(s, "moved back");
}

/* Page cache of several processes, each at another odd address, some of it twice. */
static void shared_at_odd_places(struct fmi_scene *s)
{
	scan_mapped_before(s);
	for (int who = 2; who < FMI_ACTORS; who++) {
		const unsigned long va = s->arena + (unsigned long)(10 + who) * pmd_size +
					 (unsigned long)who * pgsz;
		const unsigned long offset = (unsigned long)who % s->nr * pgsz;

		p_start(who);
		s_map(s, who, va, s->size - offset, offset);
		p_read(who, va, (s->size - offset) / pgsz);
		s_map(s, who, va + 4 * pmd_size, pgsz, offset);
		p_read(who, va + 4 * pmd_size, 1);
		ex_learn(&s->e, who);
	}
	enabled(s, "switched on");
	for (int who = 1; who < FMI_ACTORS; who++) {
		s_exit(s, who);
		s_check(s, "one less");
	}
}

static long long most(long long a, long long b)
{
	return a > b ? a : b;
}

/* Switched on in the middle: nothing may be missed, and nothing taken twice. */
static void in_a_storm(struct fmi_scene *s)
{
	const int rounds = fmi_test_all() ? 100 : 6;
	long long adopted = 0, stops = 0, held = 0, stopped = 0;

	fmi_assert(fmi_write("reset", "stats") > 0, "reset");
	scan_switch("0");
	storm_start(s, 2);
	for (int i = 0; i < rounds; i++) {
		msleep(500);
		fmi_assert(fmi_write("reset", "stats") > 0, "reset");
		scan_switch("1");
		scan_ended("done");
		fmi_eq(scan_number("unseen_mm"), 0, "unseen_mm");
		fmi_covered();
		adopted += fmi_stat("adopted");
		stops += scan_number("stops");
		held = most(held, scan_number("longest_mmap_lock_us"));
		stopped = most(stopped, scan_number("longest_stop_us"));
		fmi_audit("all");
		fmi_lost_nothing();
		fmi_eq(fmi_stat("inconsistent"), 0, "inconsistent");
		fmi_eq(fmi_stat("mismatches"), 0, "mismatches");
		if (i < rounds - 1)
			scan_switch("0");
	}
	storm_pause();
	fmi_assert(fmi_covered() > 0, "nothing is tracked");
	fmi_audit("all");
	fmi_note("%lld folios adopted, machine stopped %lld times for at most %lld us",
		 adopted, stops, stopped);
	fmi_note("an mmap lock was held for at most %lld us", held);
	fmi_assert(adopted > 0, "nothing was adopted");
	/* What is known already is found again. */
	fmi_assert(fmi_write("scan", "1") > 0, "scan");
	fmi_eq(fmi_stat("inconsistent"), 0, "inconsistent");
	fmi_assert(fmi_covered() > 0, "nothing is tracked");
	storm_end();
	/* What blind tasks have lost is none of the next case. */
	fmi_assert(fmi_write("reset", "stats") > 0, "reset");
}

static void nothing_is_left(struct fmi_scene *s)
{
	(void)s;
	storm_left_nothing();
	fmi_eq(fmi_stat("learning_folios"), 0, "learning_folios");
}

/* A scan that a signal ends leaves a state from which another one is complete. */
static void killed(struct fmi_scene *s)
{
	unsigned int seed = 1;
	int nr = 0;

	scan_mapped_before(s);
	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			for (;;) {
				fmi_write("enable", "0");
				fmi_write("enable", "1");
			}
		}
		msleep(10 + (unsigned int)rand_r(&seed) % 700);
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		fmi_assert(fmi_read("scan", text, sizeof(text)) > 0, "scan cannot be read");
		nr += !!strstr(text, "state: interrupted");
		fmi_eq(fmi_stat("learning_folios"), 0, "learning_folios");
	}
	fmi_note("%d of 20 scans were interrupted", nr);
	fmi_assert(nr > 0, "no scan was interrupted");
	scan_switch("1");
	fmi_assert(fmi_write("scan", "1") > 0, "scan");
	scan_ended("done");
	fmi_assert(fmi_covered() > 0, "nothing is tracked");
	s_check(s, "after all");
	scan_switch("0");
	scan_switch("1");
}

/* What a scan has found of which nothing is missing is tracked, however soon a signal ends it. */
static void ended_by_a_signal(struct fmi_scene *s)
{
	const int others = 3;
	int nr = 0;

	scan_mapped_before(s);
	for (int i = 0; i < 12; i++) {
		const long long lost = fmi_stat("lost");
		bool found = false;
		pid_t pid;

		/* One of them is likely to be scanned after the one that maps the folio. */
		for (int who = 2; who < 2 + others; who++)
			scan_takes_longer(who);
		scan_switch("0");
		pid = fork();
		fmi_assert(pid >= 0, "fork: %s", strerror(errno));
		if (pid == 0)
			_exit(fmi_write("enable", "1") != 1);
		while (waitpid(pid, NULL, WNOHANG) == 0) {
			if (found)
				continue;
			found = fmi_stat("learning_folios") > 0;
			if (found)
				kill(pid, SIGKILL);
		}
		for (int who = 2; who < 2 + others; who++)
			p_exit(who);
		fmi_assert(fmi_read("scan", text, sizeof(text)) > 0, "scan cannot be read");
		if (!found || !strstr(text, "state: interrupted"))
			continue;
		nr++;
		fmi_eq(fmi_stat("learning_folios"), 0, "learning_folios");
		fmi_assert(fmi_stat("lost") == lost, "lost:\n%s", text);
		s_check(s, "found before the signal");
	}
	fmi_note("%d of 12 scans were interrupted when they had found it", nr);
	fmi_assert(nr > 0, "no scan was interrupted");
}

static void on_alarm(int sig)
{
	(void)sig;
}

/* Who writes `scan` and catches a signal is told that it was not done; the next one is. */
static void a_signal_interrupts_it(struct fmi_scene *s)
{
	struct sigaction action = { .sa_handler = on_alarm };
	struct itimerval timer = { .it_interval.tv_usec = 700, .it_value.tv_usec = 700 };
	int ret = 0;

	scan_mapped_before(s);
	scan_takes_longer(2);
	scan_switch("1");
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	for (int i = 0; i < 1000 && ret != -EINTR; i++)
		ret = fmi_write("scan", "1");
	timer.it_value.tv_usec = 0;
	setitimer(ITIMER_REAL, &timer, NULL);
	fmi_eq(ret, -EINTR, "the scan's result");
	scan_ended("interrupted");
	fmi_eq(fmi_stat("learning_folios"), 0, "learning_folios");
	fmi_assert(fmi_write("scan", "1") > 0, "scan");
	scan_ended("done");
	fmi_assert(fmi_covered() > 0, "nothing is tracked");
	s_check(s, "scanned again");
}

/* Writes to `scan` in another process, which has begun to. */
static pid_t begin_to_write(const char *what)
{
	volatile int *begun = mmap(NULL, pgsz, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
				   -1, 0);
	pid_t pid;

	fmi_assert(begun != MAP_FAILED, "no memory");
	pid = fork();
	fmi_assert(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		*begun = 1;
		_exit((int)-fmi_write("scan", what) & 0x7f);
	}
	while (!*begun)
		;
	munmap((void *)begun, pgsz);
	return pid;
}

/*
 * Tracking is switched off in the middle of a scan, or of a look at what is tracked, at one moment
 * after the other: what was found so far is gone with the shadow, and nothing is said about folios
 * that there was no shadow of.
 */
static void switched_off_meanwhile(struct fmi_scene *s)
{
	int stopped = 0, looked = 0, not_looked = 0;

	scan_mapped_before(s);
	for (int who = 2; who <= 4; who++)
		scan_takes_longer(who);
	for (unsigned int i = 0; i < 200 && !(stopped && looked && not_looked > 2); i++) {
		const bool looks = i % 2;
		int status;
		pid_t pid;

		scan_switch("1");
		pid = begin_to_write(looks ? "coverage" : "1");
		do {
			usleep(looks ? i * 500 : 1000);
			fmi_assert(fmi_read("scan", text, sizeof(text)) > 0, "scan cannot be read");
		} while (!looks && !strstr(text, "state: scanning\n") &&
			 !waitpid(pid, &status, WNOHANG));
		scan_switch("0");
		fmi_assert(waitpid(pid, &status, 0) == pid || errno == ECHILD, "waitpid");
		fmi_assert(WIFEXITED(status), "the writer: %d", status);
		status = WEXITSTATUS(status);
		fmi_assert(fmi_read("scan", text, sizeof(text)) > 0, "scan cannot be read");
		if (looks) {
			looked += status != ENODEV;
			not_looked += status == ENODEV;
		} else {
			stopped += !!strstr(text, "state: stopped\n");
		}
		fmi_assert(!strstr(text, "reason=unknown"), "after %u:\n%s", i, text);
		fmi_eq(fmi_stat("coverage_unknown"), 0, "coverage_unknown");
		fmi_eq(fmi_stat("inconsistent"), 0, "inconsistent");
		fmi_eq(fmi_stat("missed"), 0, "missed");
	}
	fmi_note("%d scans and %d looks were stopped, %d were not", stopped, not_looked, looked);
	fmi_assert(stopped && not_looked, "none was stopped");
	scan_switch("1");
	fmi_assert(fmi_covered() > 0, "nothing is tracked");
	s_check(s, "switched on again");
	fmi_audit("all");
}

static void refused(struct fmi_scene *s)
{
	static const char *const bad[] = { "", "0", "2", "all", "1 1" };

	(void)s;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		fmi_eq(fmi_write("scan", bad[i]), -EINVAL, bad[i]);
	scan_switch("0");
	fmi_eq(fmi_write("scan", "1"), -ENODEV, "switched off");
	scan_switch("1");
}

struct flutter {
	int stop, began;
};

/* Unmaps and maps a page until it shall stop. */
static long do_flutter(unsigned long va, unsigned long with, unsigned long c, unsigned long d)
{
	volatile struct flutter *f = (struct flutter *)with;
	long times = 0;

	(void)c;
	(void)d;
	while (!f->stop) {
		if (madvise((void *)va, pgsz, MADV_DONTNEED))
			return -errno;
		(void)*(volatile char *)va;
		if (!times++)
			__atomic_fetch_add(&f->began, 1, __ATOMIC_SEQ_CST);
	}
	return times;
}

/*
 * A folio of the page cache that is never quiet, as the C library of a busy machine: what maps it
 * can be known for sure only while the machine is stopped.
 */
static void never_quiet(struct fmi_scene *s)
{
	volatile struct flutter *f = mmap(NULL, pgsz, PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	long long longest = 0;
	const char *report;
	int stops = 0;

	fmi_assert(f != MAP_FAILED, "no memory");
	scan_mapped_before(s);
	for (int who = 2; who <= 4; who++) {
		p_start(who);
		s_map(s, who, s->va, s->size, 0);
		p_read(who, s->va, s->nr);
		ex_learn(&s->e, who);
	}
	for (int i = 0; i < 5 && !stops; i++) {
		f->stop = 0;
		f->began = 0;
		for (int who = 2; who <= 4; who++)
			p_tell(who, do_flutter, s_page(s, (unsigned long)who % s->nr),
			       (unsigned long)f, 0, 0);
		while (f->began < 3)
			msleep(1);
		scan_switch("1");
		scan_ended("done");
		stops = (int)scan_number("stops");
		longest = scan_number("longest_stop_us");
		fmi_eq(scan_number("unseen_mm"), 0, "unseen_mm");
		report = fmi_report_pfn(s->e.pfn);
		fmi_assert(report, "not tracked");
		fmi_eq(text_value(report, "adopted"), 1, "adopted");
		f->stop = 1;
		for (int who = 2; who <= 4; who++)
			fmi_assert(p_answer(who) > 0, "actor %d did nothing", who);
		s_check(s, "at rest");
		fmi_audit("all");
		scan_switch("0");
	}
	fmi_assert(stops > 0, "the machine was never stopped");
	fmi_assert(longest > 0, "it was stopped for no time");
	scan_switch("1");
	s_check(s, "once more");
}

static void run_on(pid_t pid, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	fmi_assert(!sched_setaffinity(pid, sizeof(set), &set), "processor %d: %s", cpu,
		   strerror(errno));
}

/* What is zapped first when the process exits. */
static long do_map_below(unsigned long va, unsigned long len, unsigned long b, unsigned long c)
{
	char *mem = mmap((void *)va, len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	(void)b;
	(void)c;
	if (mem == MAP_FAILED)
		return -errno;
	madvise(mem, len, MADV_NOHUGEPAGE);
	for (unsigned long at = 0; at < len; at += pgsz)
		mem[at] = 1;
	return 0;
}

/* The state of a process that has no MM any more: R until it is at its end; 0 if it has one. */
static char state_without_mm(pid_t pid)
{
	char path[64], state;

	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	if (read_text(path, text, sizeof(text)) <= 0 || strncmp(text, "0 ", 2))
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fmi_assert(read_text(path, text, sizeof(text)) > 0 &&
		   sscanf(text, "%*d (%*[^)]) %c", &state) == 1, "%s cannot be read", path);
	return state;
}

/* Lets the exiting process go on when the scan has waited for it for a while. */
static void __attribute__((noreturn)) let_go(pid_t other)
{
	for (;;) {
		msleep(20);
		if (fmi_read("scan", text, sizeof(text)) > 0 && strstr(text, "state: settling"))
			break;
	}
	msleep(4000);
	kill(other, SIGKILL);
	_exit(0);
}

/* A process that exits has no MM any more, and may map for long what it has not got round to. */
static void exiting(struct fmi_scene *s)
{
	volatile int *runs = mmap(NULL, pgsz, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
				  -1, 0);
	pid_t other, helper;
	char state;

	fmi_assert(runs != MAP_FAILED, "no memory");
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		fmi_skip("one processor");
	scan_mapped_before(s);
	p_start(2);
	s_map(s, 2, s->va, s->size, 0);
	p_read(2, s->va, 1);
	ex_learn(&s->e, 2);
	fmi_eq(p_call(2, do_map_below, 1UL << 32, 256UL << 20, 0, 0), 0, "mmap");
	/*
	 * It shares a processor with another one and gets a seventieth of it: its exit takes
	 * seconds, and is seen however seldom this process looks. Then it gets next to nothing.
	 */
	run_on(0, 0);
	run_on(p_pid(2), 1);
	fmi_assert(!setpriority(PRIO_PROCESS, (id_t)p_pid(2), 19), "nice: %s", strerror(errno));
	other = fork();
	fmi_assert(other >= 0, "fork: %s", strerror(errno));
	if (!other) {
		run_on(0, 1);
		for (;;)
			*runs = 1;
	}
	while (!*runs)
		msleep(1);
	kill(p_pid(2), SIGKILL);
	while (!(state = state_without_mm(p_pid(2))))
		;
	setpriority(PRIO_PROCESS, (id_t)other, -5);
	fmi_assert(state == 'R', "it has left: %.160s", text);
	helper = fork();
	fmi_assert(helper >= 0, "fork: %s", strerror(errno));
	if (!helper)
		let_go(other);

	scan_switch("1");
	fmi_eq(waitpid(helper, NULL, WNOHANG), helper, "the scan did not wait: its helper");
	waitpid(other, NULL, 0);
	scan_ended("done");
	fmi_eq(scan_number("unseen_mm"), 0, "unseen_mm");
	fmi_eq(scan_number("attempts"), 1, "attempts");
	p_gone(2);
	ex_exit(&s->e, 2);
	fmi_assert(fmi_covered() > 0, "nothing is tracked");
	s_check(s, "the process is gone");
}

static const struct fmi_test tests[] = {
	{ "whole", whole, ON_EACH },
	{ "forked_before", forked_before, ON_EACH },
	{ "moved_before", moved_before, ON_EACH | NOT_ORDER1 },
	{ "shared_at_odd_places", shared_at_odd_places, (ON_SHMEM | ON_FILE) | NOT_ORDER1 },
	{ "killed", killed, ON_ANON | PMD_ONLY },
	{ "ended_by_a_signal", ended_by_a_signal, (ON_ANON | ON_SHMEM) | ORDER4_ONLY | LONG },
	{ "a_signal_interrupts_it", a_signal_interrupts_it, ON_ANON | ORDER4_ONLY },
	{ "switched_off_meanwhile", switched_off_meanwhile,
	  (ON_ANON | ON_SHMEM) | ORDER4_ONLY | LONG },
	{ "never_quiet", never_quiet, (ON_SHMEM | ON_FILE) | ORDER4_ONLY | LONG },
	{ "exiting", exiting, ON_SHMEM | ORDER4_ONLY | LONG },
	{ "refused", refused, ON_ONCE },
	{ "in_a_storm", in_a_storm, ON_ONCE | LONG },
	{ "nothing_is_left", nothing_is_left, ON_ONCE },
};

int main(int argc, char **argv)
{
	int ret;

	fmi_util_init();
	swap_start();
	ret = fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
	swap_stop();
	return ret;
}
