// SPDX-License-Identifier: GPL-2.0
/*
 * The end of processes: exit, exec, SIGKILL at any moment, the OOM killer of a cgroup, the
 * reaper, which unmaps before the process does, and reclaim by the cgroup's limit.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_life.h"
#include "fmi_storm.h"
#include "fmi_util.h"

#ifndef SYS_process_mrelease
#define SYS_process_mrelease 448
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

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

static void killed_by_a_signal(struct fmi_scene *s)
{
	s_populate(s);
	second(s);
	p_kill(1);
	ex_exit(&s->e, 1);
	s_check(s, "one killed");
	p_kill(2);
	ex_exit(&s->e, 2);
	s_gone(s, "both killed");
}

static void another_program(struct fmi_scene *s)
{
	s_populate(s);
	second(s);
	p_exec(2);
	ex_exit(&s->e, 2);
	s_check(s, "one executed another program");
	p_exec(1);
	ex_exit(&s->e, 1);
	s_gone(s, "both did");
}

/* The reaper unmaps the private memory of a process that was killed and has not run since. */
static void reaped(struct fmi_scene *s)
{
	struct sched_param first = { .sched_priority = 1 };
	struct sched_param normal = { 0 };
	long long calls;
	int pidfd;
	long ret;

	s_populate(s);
	second(s);
	calls = fmi_stat("calls_zap_exit");
	pidfd = (int)syscall(SYS_pidfd_open, p_pid(2), 0);
	fmi_assert(pidfd >= 0, "pidfd_open: %s", strerror(errno));
	/* On the processor of both, the victim runs when this process sleeps. */
	fmi_assert(!sched_setscheduler(0, SCHED_FIFO, &first), "SCHED_FIFO: %s", strerror(errno));
	kill(p_pid(2), SIGKILL);
	ret = syscall(SYS_process_mrelease, pidfd, 0);
	fmi_assert(ret == 0, "process_mrelease: %s", strerror(errno));
	/* Shared memory is left to the process. */
	if (s->kind == FMI_ANON)
		fmi_assert(fmi_stat("calls_zap_exit") > calls, "nothing was reaped");
	fmi_assert(!sched_setscheduler(0, SCHED_OTHER, &normal), "SCHED_OTHER");
	fmi_audit("all");
	p_gone(2);
	close(pidfd);
	ex_exit(&s->e, 2);
	s_check(s, "reaped");
	s_exit(s, 1);
	s_gone(s, "both gone");
}

/* What processes do that are killed while they do it. */
struct victim {
	unsigned long arena;
	volatile int *running;
};

static void *populate_forever(void *arg)
{
	const struct victim *v = arg;

	for (unsigned int turn = 0;; turn++) {
		for (unsigned long i = 0; i < 8; i++) {
			unsigned long va = v->arena + i * pmd_size;

			*(volatile char *)(va + (turn * pgsz) % pmd_size) = 1;
		}
		madvise((void *)(v->arena + turn % 8 * pmd_size + pgsz), pmd_size / 2,
			MADV_DONTNEED);
		if (turn % 16 == 0)
			madvise((void *)v->arena, 8 * pmd_size, MADV_DONTNEED);
		*v->running = 1;
	}
	return NULL;
}

/* Ends this process with its parent, which may be gone already. */
static void ends_with(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
}

static void __attribute__((noreturn)) be_a_victim(struct victim *v)
{
	pid_t self = getpid(), child;
	pthread_t other;

	fmi_assert(mmap((void *)v->arena, 8 * pmd_size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED, "mmap");
	if (pthread_create(&other, NULL, populate_forever, v))
		populate_forever(v);
	child = fork();
	if (child == 0) {
		ends_with(self);
		populate_forever(v);
	}
	for (;;) {
		/* Forks while the other thread goes on; the children exit at once. */
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		if (pid > 0)
			waitpid(pid, NULL, 0);
	}
}

static void killed_at_any_moment(struct fmi_scene *s)
{
	int rounds = fmi_test_all() ? 300 : 25;
	struct victim v = { .arena = s->arena };
	volatile int *running = mmap(NULL, pgsz, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	pid_t self = getpid();

	fmi_assert(running != MAP_FAILED, "no memory");
	v.running = running;
	thp_also(FMI_ANON, pmd_order);
	thp_also(FMI_ANON, 4);
	for (int i = 0; i < rounds; i++) {
		pid_t pid;

		*running = 0;
		pid = fork();
		fmi_assert(pid >= 0, "fork: %s", strerror(errno));
		if (pid == 0) {
			setpgid(0, 0);
			/* The end of the case is not that of this group. */
			ends_with(self);
			be_a_victim(&v);
		}
		setpgid(pid, pid);
		while (!*running)
			msleep(1);
		for (volatile int j = 0; j < (i * 7919) % 50 * 10000; j++)
			;
		fmi_assert(!kill(-pid, SIGKILL), "kill: %s", strerror(errno));
		fmi_audit("all");
		while (waitpid(-1, NULL, 0) > 0)
			;
	}
	thp_never();
	storm_left_nothing();
}

static void cgroup_limit(unsigned long bytes)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu", bytes);
	cgroup_set("memory.max", text);
	if (!access("/sys/fs/cgroup/fmi-life/memory.swap.max", W_OK))
		cgroup_set("memory.swap.max", "0");
}

/* Writes until somebody ends it. */
static long do_eat(unsigned long va, unsigned long len, unsigned long c, unsigned long d)
{
	(void)c;
	(void)d;
	for (unsigned long at = va; at < va + len; at += pgsz)
		*(volatile char *)at = 1;
	return 0;
}

/* Actor 2 shares the folio and eats memory until its cgroup has it killed. */
static void oom_kill(struct fmi_scene *s)
{
	unsigned long len = 8 * pmd_size;

	cgroup_make();
	s_populate(s);
	second(s);
	if (s->kind != FMI_ANON)
		s_map_private(s, 2, s->va + pmd_size, s->size, 0);
	cgroup_enter(p_pid(2));
	cgroup_limit(4 * pmd_size);
	p_mmap(2, s->arena + 16 * pmd_size, len, PROT_READ | PROT_WRITE,
	       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	thp_only(FMI_ANON, thp_size_exists(FMI_ANON, s->order) ? s->order : 4, "always");
	p_tell(2, do_eat, s->arena + 16 * pmd_size, len, 0, 0);
	p_gone(2);
	thp_never();
	fmi_assert(cgroup_event("memory.events", "oom_kill") > 0, "nobody was killed");
	ex_exit(&s->e, 2);
	s_check(s, "the other one was killed");
	s_exit(s, 1);
	s_gone(s, "both gone");
	storm_left_nothing();
}

/* With memory.oom.group all of them are killed, whoever asked for the memory. */
static void oom_kill_of_a_group(struct fmi_scene *s)
{
	unsigned long len = 8 * pmd_size;

	cgroup_make();
	s_populate(s);
	s_fork(s, 1, 2);
	s_fork(s, 2, 3);
	s_check(s, "three processes");
	cgroup_enter(p_pid(2));
	cgroup_enter(p_pid(3));
	cgroup_set("memory.oom.group", "1");
	cgroup_limit(4 * pmd_size);
	p_mmap(3, s->arena + 16 * pmd_size, len, PROT_READ | PROT_WRITE,
	       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	thp_only(s->kind, s->order, "always");
	p_tell(3, do_eat, s->arena + 16 * pmd_size, len, 0, 0);
	/* Their parents are killed as well: all come to the case. */
	p_gone(2);
	fmi_assert(waitpid(p_pid(3), NULL, 0) == p_pid(3) || errno == ECHILD, "waitpid");
	thp_never();
	fmi_assert(cgroup_event("memory.events", "oom_group_kill") > 0, "no group was killed");
	ex_exit(&s->e, 2);
	ex_exit(&s->e, 3);
	s_check(s, "the others were killed");
	s_exit(s, 1);
	s_gone(s, "all gone");
	storm_left_nothing();
}

static const struct fmi_test tests[] = {
	{ "killed_by_a_signal", killed_by_a_signal, ON_EACH },
	{ "another_program", another_program, ON_EACH },
	{ "reaped", reaped, ON_EACH },
	{ "oom_kill", oom_kill, ON_EACH },
	{ "oom_kill_of_a_group", oom_kill_of_a_group, ON_ANON },
	{ "killed_at_any_moment", killed_at_any_moment, ON_ONCE | LONG },
};

int main(int argc, char **argv)
{
	int ret = fmi_run(argc, argv, tests, ARRAY_SIZE(tests));

	cgroup_remove();
	return ret;
}
