// SPDX-License-Identifier: GPL-2.0
/*
 * A fork that fails when it has copied a part: everything of the child goes again, the parent
 * has what it had. Refused memory accounting fails it between two VMAs, a memory cgroup
 * without room for page tables inside of one, and SIGKILL wherever it hits.
 */
#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_life.h"
#include "fmi_storm.h"
#include "fmi_util.h"

#define VM "/proc/sys/vm/"

static char saved_mode[32], saved_kb[32], saved_ratio[32];

static void overcommit_save(void)
{
	read_text(VM "overcommit_memory", saved_mode, sizeof(saved_mode));
	read_text(VM "overcommit_kbytes", saved_kb, sizeof(saved_kb));
	read_text(VM "overcommit_ratio", saved_ratio, sizeof(saved_ratio));
}

static void overcommit_restore(void)
{
	write_text(VM "overcommit_memory", saved_mode);
	if (atol(saved_kb))
		write_text(VM "overcommit_kbytes", saved_kb);
	else
		write_text(VM "overcommit_ratio", saved_ratio);
}

/* Allows as much memory as is promised to somebody already, and this. */
static void allow_only(unsigned long bytes)
{
	char text[4096];
	long long kb;

	fmi_assert(read_text("/proc/meminfo", text, sizeof(text)) > 0, "no meminfo");
	kb = text_value(text, "Committed_AS") + (long long)(bytes / 1024);
	snprintf(text, sizeof(text), "%lld", kb);
	fmi_assert(write_text(VM "overcommit_kbytes", text) > 0, "overcommit_kbytes");
	fmi_assert(write_text(VM "overcommit_memory", "2") > 0, "overcommit_memory");
}

static long long copied(void)
{
	return fmi_stat("dup_pte") + fmi_stat("dup_entire");
}

/* A private mapping of a file is copied if it has pages of its own: the last one. */
static void populate(struct fmi_scene *s)
{
	if (s->kind == FMI_ANON) {
		s_populate(s);
		return;
	}
	s_open(s, s->size);
	p_start(1);
	s_map(s, 1, s->va, s->size, 0);
	s_fault(s, 1, s->va);
	s_mapped_whole(s, 1, s->va);
	s_check(s, "mapped shared");
	s_map_private(s, 1, s->va + pmd_size, s->size, 0);
	p_read(1, s->va + pmd_size, s->nr);
	s_learn(s);
	/* That splits a PMD, which leaves nothing of a file mapped. */
	p_write(1, s->va + pmd_size + s->size - pgsz, 1);
	p_read(1, s->va + pmd_size, s->nr);
	s_learn(s);
	s_check(s, "mapped shared and private");
}

/* The VMA behind the folio's needs more memory than may be promised. */
static void refused_after_the_copy(struct fmi_scene *s)
{
	unsigned long len = 32 * pmd_size;
	unsigned long va = s->arena + 8 * pmd_size;
	long long before, tracked, undone;
	bool ok;

	populate(s);
	p_mmap(1, va, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	before = copied();
	tracked = fmi_stat("tracked_folios");
	undone = fmi_stat("calls_zap_exit");
	allow_only(len / 2);
	ok = p_try_fork(1, 2);
	overcommit_restore();
	fmi_assert(!ok, "the fork succeeded");
	fmi_assert(copied() > before, "nothing was copied");
	fmi_assert(fmi_stat("calls_zap_exit") > undone, "nothing was undone");
	s_check(s, "the fork failed");
	fmi_eq(fmi_stat("tracked_folios"), tracked, "tracked folios");
	s_fork(s, 1, 2);
	if (s->kind == FMI_ANON)
		s_check(s, "forked");
	else
		s_check_found(s, "forked");
	p_exit(2);
	ex_exit(&s->e, 2);
	s_learn(s);
	s_check(s, "child gone");
}

/* One folio, and VMA, in every other PMD: the child needs a page table for each. */
#define SLOTS 20

static unsigned long slot(const struct fmi_scene *s, unsigned long i)
{
	return s->arena + (8 + 2 * i) * pmd_size;
}

static void fill_slots(struct fmi_scene *s)
{
	p_start(1);
	thp_only(s->kind, s->order, "always");
	for (unsigned long i = 0; i < SLOTS; i++) {
		s_map(s, 1, slot(s, i), s->size, 0);
		p_fill(1, slot(s, i), s->nr, 6);
	}
	thp_never();
	if (s_pages_of_order(s, s->order) < SLOTS * s->nr)
		fmi_skip("the kernel gave other folios");
}

/*
 * A fork whose child only waits for its end; the child. Everything has been copied when the kernel
 * writes to `tid`, which is before either of them runs again (kernel_clone()).
 */
static long do_fork(unsigned long tid, unsigned long b, unsigned long c, unsigned long d)
{
	struct clone_args args = {
		.flags = CLONE_PARENT_SETTID, .parent_tid = tid, .exit_signal = SIGCHLD,
	};
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	(void)b;
	(void)c;
	(void)d;
	if (pid == 0) {
		for (;;)
			pause();
	}
	return pid;
}

static long do_reap(unsigned long pid, unsigned long b, unsigned long c, unsigned long d)
{
	(void)b;
	(void)c;
	(void)d;
	kill((pid_t)pid, SIGKILL);
	return waitpid((pid_t)pid, NULL, 0);
}

/* Written to by do_fork(). It stays in memory, and the cgroup has no part in it. */
static volatile pid_t *tid_page(void)
{
	volatile pid_t *tid = mmap(NULL, pgsz, PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);

	fmi_assert(tid != MAP_FAILED, "no page: %s", strerror(errno));
	return tid;
}

/* Forks with so many pages left in the cgroup: the child, which is gone again, or -errno. */
static long fork_with_room(unsigned long pages, volatile pid_t *tid)
{
	char text[32];
	long pid;

	/* The kernel must not need a page table for it. */
	p_write(1, (unsigned long)tid, 1);
	*tid = 0;
	/* Charges that a processor has in stock would be used first: this drains them. */
	cgroup_set("memory.high", "0");
	cgroup_set("memory.high", "max");
	snprintf(text, sizeof(text), "%lld", cgroup_get("memory.current") +
		 (long long)(pages * pgsz));
	cgroup_set("memory.max", text);
	p_tell(1, do_fork, (unsigned long)tid, 0, 0, 0);
	/* After a fork that succeeds both need a page to go on; one that fails takes its time. */
	while (!*tid && !p_answered(1, 20))
		fmi_waits_for("a fork with room for %lu pages to succeed or to fail", pages);
	fmi_goes_on();
	cgroup_set("memory.max", "max");
	pid = p_answer(1);
	if (pid > 0)
		fmi_eq(p_call(1, do_reap, (unsigned long)pid, 0, 0, 0), pid, "waitpid");
	return pid;
}

static void no_room_for_page_tables(struct fmi_scene *s)
{
	int in_the_middle = 0;
	volatile pid_t *tid;
	long long tracked;
	char text[64];
	long ret = -1;

	tid = tid_page();
	cgroup_make();
	fill_slots(s);
	s_check_found(s, "populated");
	cgroup_enter(p_pid(1));
	/* Without somebody to kill the charge fails, and with it the fork. */
	snprintf(text, sizeof(text), "/proc/%d/oom_score_adj", p_pid(1));
	fmi_assert(write_text(text, "-1000") > 0, "%s", text);
	tracked = fmi_stat("tracked_folios");
	for (unsigned long room = 16; ret < 0 && room < 2048; room += 8) {
		long long before = copied();

		ret = fork_with_room(room, tid);
		if (ret > 0 || copied() == before)
			continue;
		fmi_eq(ret, -ENOMEM, "fork");
		in_the_middle++;
		fmi_eq(fmi_stat("tracked_folios"), tracked, "tracked folios");
		s_check_found(s, "the fork failed in the middle");
	}
	fmi_assert(ret > 0, "no fork succeeded");
	fmi_assert(in_the_middle > 0, "no fork failed in the middle");
	s_check_found(s, "a fork succeeded");
	p_verify(1, slot(s, SLOTS - 1), s->nr, 6);
}

/* A process that forks all the time, killed in the middle of it. */
static void __attribute__((noreturn)) fork_forever(unsigned long va, unsigned long len,
						   volatile int *running)
{
	for (unsigned long at = va; at < va + len; at += pgsz)
		*(volatile char *)at = 1;
	for (;;) {
		pid_t pid;

		*running = 1;
		pid = fork();
		if (pid == 0)
			_exit(0);
		if (pid > 0)
			waitpid(pid, NULL, 0);
	}
}

static void killed_while_forking(struct fmi_scene *s)
{
	int rounds = fmi_test_all() ? 400 : 20;
	volatile int *running = mmap(NULL, pgsz, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned long len = 8 * pmd_size;
	cpu_set_t other;

	fmi_assert(running != MAP_FAILED, "no memory");
	thp_also(FMI_ANON, 4);
	for (int i = 0; i < rounds; i++) {
		pid_t pid;

		*running = 0;
		pid = fork();
		fmi_assert(pid >= 0, "fork: %s", strerror(errno));
		if (pid == 0) {
			CPU_ZERO(&other);
			CPU_SET((size_t)sysconf(_SC_NPROCESSORS_ONLN) - 1, &other);
			sched_setaffinity(0, sizeof(other), &other);
			fmi_assert(mmap((void *)s->arena, len, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
				   MAP_FAILED, "mmap");
			/* Many VMAs: between two of them a fork looks for a signal. */
			for (unsigned long at = s->arena; at < s->arena + len; at += 32 * pgsz)
				mprotect((void *)at, 16 * pgsz, PROT_READ | PROT_WRITE | PROT_EXEC);
			fork_forever(s->arena, len, running);
		}
		while (!*running)
			msleep(1);
		for (volatile int j = 0; j < (i * 7919) % 97 * 10000; j++)
			;
		fmi_assert(!kill(pid, SIGKILL), "kill: %s", strerror(errno));
		while (waitpid(-1, NULL, 0) > 0)
			;
	}
	thp_never();
	storm_left_nothing();
}

static const struct fmi_test tests[] = {
	{ "refused_after_the_copy", refused_after_the_copy, ON_EACH },
	{ "no_room_for_page_tables", no_room_for_page_tables, ON_ANON | PMD_ONLY },
	{ "no_room_for_page_tables", no_room_for_page_tables, ON_ANON | ORDER4_ONLY },
	{ "killed_while_forking", killed_while_forking, ON_ONCE | LONG },
};

int main(int argc, char **argv)
{
	int ret;

	overcommit_save();
	ret = fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
	cgroup_remove();
	overcommit_restore();
	return ret;
}
