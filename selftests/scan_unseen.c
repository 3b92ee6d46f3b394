// SPDX-License-Identifier: GPL-2.0
/* MMs that no task leads to when tracking is switched on: the folios that they map lead there. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scan.h"
#include "fmi_scene.h"
#include "fmi_util.h"

/* A page at which whoever touches it waits. */
struct barrier {
	int uffd;
	void *page;
};

static long do_barrier(unsigned long page, unsigned long a, unsigned long b, unsigned long c)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { .start = page, .len = pgsz },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int uffd;

	(void)a;
	(void)b;
	(void)c;
	if (mmap((void *)page, pgsz, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		return -errno;
	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		return -errno;
	return uffd;
}

static struct barrier barrier_at(struct fmi_scene *s, int who)
{
	struct barrier b = { .page = (void *)(s->arena + 12 * pmd_size) };
	long fd;

	if (!who) {
		b.uffd = (int)do_barrier((unsigned long)b.page, 0, 0, 0);
	} else {
		int pidfd = (int)syscall(SYS_pidfd_open, p_pid(who), 0);

		fmi_assert(pidfd >= 0, "pidfd_open: %s", strerror(errno));
		fd = p_call(who, do_barrier, (unsigned long)b.page, 0, 0, 0);
		if (fd < 0)
			fmi_skip("no userfaultfd");
		b.uffd = (int)syscall(SYS_pidfd_getfd, pidfd, (int)fd, 0);
		fmi_assert(b.uffd >= 0, "pidfd_getfd: %s", strerror(errno));
		close(pidfd);
	}
	if (b.uffd < 0)
		fmi_skip("no userfaultfd");
	return b;
}

/* Somebody has come to it. */
static void barrier_reached(const struct barrier *b)
{
	struct pollfd fd = { .fd = b->uffd, .events = POLLIN };
	struct uffd_msg msg;

	fmi_waits_for("somebody to touch the page");
	fmi_assert(poll(&fd, 1, -1) == 1, "poll: %s", strerror(errno));
	fmi_goes_on();
	fmi_assert(read(b->uffd, &msg, sizeof(msg)) == sizeof(msg), "no fault: %s",
		   strerror(errno));
	fmi_eq(msg.event, UFFD_EVENT_PAGEFAULT, "event");
}

static void barrier_open(const struct barrier *b)
{
	struct uffdio_zeropage zero = {
		.range = { .start = (unsigned long)b->page, .len = pgsz },
	};

	fmi_assert(!ioctl(b->uffd, UFFDIO_ZEROPAGE, &zero), "UFFDIO_ZEROPAGE: %s",
		   strerror(errno));
	close(b->uffd);
}

struct reader {
	int pagemap;
	struct barrier barrier;
	unsigned long at;
	pthread_t thread;
};

static void *read_pagemap(void *arg)
{
	struct reader *r = arg;

	/* The MM is referenced until the result has been stored. */
	if (pread(r->pagemap, r->barrier.page, 8, (off_t)(r->at / pgsz * 8)) != 8)
		perror("# pagemap");
	return NULL;
}

/* Process 2 maps the folio, too, and ends; its MM stays, because somebody reads its pagemap. */
static struct reader left_behind(struct fmi_scene *s)
{
	static struct reader r;
	char path[64];

	r.at = s->va;
	scan_mapped_before(s);
	if (s->kind == FMI_ANON) {
		s_fork(s, 1, 2);
	} else {
		p_start(2);
		s_map(s, 2, s->va, s->size, 0);
		p_read(2, s->va, 1);
		ex_learn(&s->e, 2);
	}
	r.barrier = barrier_at(s, 0);
	snprintf(path, sizeof(path), "/proc/%d/pagemap", p_pid(2));
	r.pagemap = open(path, O_RDONLY | O_CLOEXEC);
	fmi_assert(r.pagemap >= 0, "%s: %s", path, strerror(errno));
	fmi_assert(!pthread_create(&r.thread, NULL, read_pagemap, &r), "pthread_create");
	/* Until the fault is there, the reader has not begun. */
	barrier_reached(&r.barrier);
	p_exit(2);
	return r;
}

static void gone(struct fmi_scene *s, struct reader *r)
{
	barrier_open(&r->barrier);
	pthread_join(r->thread, NULL);
	close(r->pagemap);
	ex_exit(&s->e, 2);
}

/* Two MMs map the folio, all of it. */
static void mapped_by_two(struct fmi_scene *s)
{
	const char *report = fmi_report_pfn(s->e.pfn);

	fmi_assert(report, "the folio is not tracked");
	fmi_eq(text_value(report, "mm"), 2, "mm");
	fmi_eq(text_value(report, "kernel_large_mapcount"),
	       text_value(report, "total"), "total");
}

/* An MM that somebody uses, and no task has any more. */
static void mm_without_a_task(struct fmi_scene *s)
{
	struct reader r = left_behind(s);

	scan_switch("1");
	scan_ended("done");
	fmi_eq(scan_number("unseen_mm"), 0, "unseen_mm");
	fmi_assert(scan_number("mms_by_rmap") > 0, "no MM was found by its folio:\n%s", scan_text);
	fmi_assert(fmi_covered() > 0, "nothing is tracked");
	mapped_by_two(s);
	gone(s, &r);
	s_check(s, "the MM is gone");
	fmi_audit("all");
}

/* A fork that reports its pidfd to a page at which it waits; the child sleeps. */
static long do_slow_fork(unsigned long page, unsigned long a, unsigned long b, unsigned long c)
{
	struct clone_args args = {
		.flags = CLONE_PIDFD, .pidfd = (uint64_t)page, .exit_signal = SIGCHLD,
	};
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	(void)a;
	(void)b;
	(void)c;
	if (!pid) {
		for (;;)
			pause();
	}
	return pid < 0 ? -errno : pid;
}

static long do_kill(unsigned long pid, unsigned long a, unsigned long b, unsigned long c)
{
	(void)a;
	(void)b;
	(void)c;
	if (kill((pid_t)pid, SIGKILL) || waitpid((pid_t)pid, NULL, 0) != (pid_t)pid)
		return -errno;
	return 0;
}

/* A fork that began before: it has copied everything, and its task does not exist for long. */
static void being_forked(struct fmi_scene *s)
{
	struct barrier b;
	long pid;

	scan_mapped_before(s);
	b = barrier_at(s, 1);
	p_tell(1, do_slow_fork, (unsigned long)b.page, 0, 0, 0);
	barrier_reached(&b);
	scan_switch("1");
	scan_ended("done");
	fmi_eq(scan_number("unseen_mm"), 0, "unseen_mm");
	fmi_assert(scan_number("mms_by_rmap") > 0, "no MM was found by its folio:\n%s", scan_text);
	mapped_by_two(s);
	barrier_open(&b);
	pid = p_answer(1);
	fmi_assert(pid > 0, "clone3: %s", strerror((int)-pid));
	fmi_assert(fmi_covered() > 0, "nothing is tracked");
	/* The child's page tables are those of a process now. */
	fmi_audit("all");
	fmi_eq(p_call(1, do_kill, (unsigned long)pid, 0, 0, 0), 0, "the child's end");
	s_check(s, "the child is gone");
}

/* As without a task, but nobody looks who maps the folio: it is given up, and that is said. */
static void given_up(struct fmi_scene *s)
{
	struct reader r;
	long long lost;
	char line[128];

	if (module_loaded())
		fmi_assert(module_unload() == 0, "rmmod");
	fmi_assert(module_load("selftest=0") == 0, "load");
	module_needs_faults();
	module_plant("fault_no_search", 1);
	r = left_behind(s);
	lost = fmi_stat("lost_unseen_mm");
	scan_switch("1");
	scan_ended("done");
	fmi_eq(scan_number("unseen_mm"), 1, "unseen_mm");
	snprintf(line, sizeof(line), "untracked: pfn=%lu order=%u type=%s reason=unseen_mm\n",
		 s->e.pfn, s->order, kind_name(s->kind));
	fmi_assert(strstr(scan_text, line), "no line '%s' in\n%s", line, scan_text);
	fmi_assert(scan_number("coverage_unseen_mm") > 0, "%s", scan_text);
	fmi_eq(fmi_stat("lost_unseen_mm"), lost + 1, "lost_unseen_mm");
	gone(s, &r);
	/* Now that the MM is gone, the next scan finds all there is. */
	fmi_assert(fmi_write("scan", "1") > 0, "scan");
	fmi_eq(scan_number("unseen_mm"), 0, "unseen_mm");
	fmi_assert(fmi_covered() > 0, "nothing is tracked");
	s_check(s, "the MM is gone");
	fmi_assert(fmi_write("reset", "stats") > 0, "reset");
	fmi_assert(module_unload() == 0, "rmmod");
}

static const struct fmi_test tests[] = {
	{ "mm_without_a_task", mm_without_a_task, ON_EACH },
	{ "being_forked", being_forked, ON_ANON },
	{ "given_up", given_up, ON_SHMEM | ORDER4_ONLY | NO_MODULE },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
