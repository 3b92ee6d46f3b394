// SPDX-License-Identifier: GPL-2.0
/*
 * Allocations that fail (failslab, fail_page_alloc; CONFIG_FAULT_INJECTION): each one in turn while
 * the module is loaded, switched on, read and told to look through page tables, then all over the
 * machine. What cannot be done is refused with ENOMEM, and what is tracked stays exact.
 *
 * An fprobe of our own is there all the time: if the first one runs out of memory, the kernel
 * registers none any more until it is booted again (Documentation/kernel/fgraph-enomem.rst).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

#define DEBUGFS "/sys/kernel/debug/"
#define TRACEFS "/sys/kernel/tracing/"
/* Allocation number n of the thread fails; reads as what is left of n. */
#define NTH "/proc/thread-self/fail-nth"
/* No more allocations than this are tried. */
#define MOST 100000

static const char *const faults[] = { "failslab", "fail_page_alloc" };
/* Open before anything fails: opening them allocates. -1: not in this kernel. */
static int probability[ARRAY_SIZE(faults)];

static char text[1 << 16];

static void set(const char *fault, const char *name, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), DEBUGFS "%s/%s", fault, name);
	fmi_assert(write_text(path, value) > 0, "cannot write %s to %s", value, path);
}

static void open_faults(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		snprintf(text, sizeof(text), DEBUGFS "%s/probability", faults[i]);
		probability[i] = open(text, O_WRONLY | O_CLOEXEC);
	}
}

/* Nothing fails any more. Needs no memory. */
static void end_faults(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++)
		fmi_assert(probability[i] < 0 || write(probability[i], "0", 1) == 1,
			   "%s goes on: %s", faults[i], strerror(errno));
}

static void keep_an_fprobe(void)
{
	if (access(TRACEFS "dynamic_events", F_OK) &&
	    mount("tracefs", TRACEFS, "tracefs", 0, NULL))
		fmi_skip("no tracefs");
	if (write_text(TRACEFS "dynamic_events", "f:fmi_kept/exit vfs_fsync%return") <= 0)
		fmi_skip("no fprobe events");
	fmi_assert(write_text(TRACEFS "events/fmi_kept/exit/enable", "1") > 0, "cannot probe");
}

static void drop_the_fprobe(void)
{
	write_text(TRACEFS "events/fmi_kept/exit/enable", "0");
	write_text(TRACEFS "dynamic_events", "-:fmi_kept/exit");
}

/* Allocations of any kind and size may fail. */
static void begin_faults(void)
{
	end_faults();
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		if (probability[i] < 0)
			fmi_skip("no %s in this kernel", faults[i]);
		set(faults[i], "ignore-gfp-wait", "N");
		set(faults[i], "task-filter", "N");
		set(faults[i], "space", "0");
		/* A line each is enough: what allocates is known. */
		set(faults[i], "verbose", "1");
	}
	set("fail_page_alloc", "min-order", "0");
	set("fail_page_alloc", "ignore-gfp-highmem", "N");
	if (access(NTH, F_OK))
		fmi_skip("no fail-nth in this kernel");
	/* The case before this one may have left it. */
	drop_the_fprobe();
	keep_an_fprobe();
}

static int nth = -1;

/* From here on allocation number n of this thread fails, if n is not 0. */
static void arm(unsigned int n)
{
	char number[16];
	int len = snprintf(number, sizeof(number), "%u", n);

	if (nth < 0)
		nth = open(NTH, O_RDWR | O_CLOEXEC);
	fmi_assert(nth >= 0 && pwrite(nth, number, (size_t)len, 0) == len, "fail-nth: %s",
		   strerror(errno));
}

/* Did it fail? Nothing fails from here on. */
static bool disarm(void)
{
	char number[16] = "";
	bool failed;

	fmi_assert(pread(nth, number, sizeof(number) - 1, 0) > 0, "fail-nth: %s", strerror(errno));
	failed = atoi(number) == 0;
	arm(0);
	return failed;
}

/* One after the other, then in steps: an allocation that is made often is met all the same. */
static unsigned int next(unsigned int n)
{
	return n + 1 + n / 8;
}

static int open_file(const char *name, int flags)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), FMI_DIR "%s", name);
	fd = open(path, flags | O_CLOEXEC);
	fmi_assert(fd >= 0, "open %s: %s", path, strerror(errno));
	return fd;
}

/* 0 or -errno. */
static int write_fd(int fd, const char *what)
{
	ssize_t len = (ssize_t)strlen(what);

	return write(fd, what, (size_t)len) == len ? 0 : -errno;
}

static int read_fd(int fd)
{
	ssize_t ret;

	if (lseek(fd, 0, SEEK_SET))
		return -errno;
	while ((ret = read(fd, text, sizeof(text))) > 0)
		;
	return ret < 0 ? -errno : 0;
}

static void only_for_want_of_memory(int ret, const char *what, unsigned int n)
{
	fmi_assert(!ret || ret == -ENOMEM, "%s, allocation %u failed: %s", what, n,
		   strerror(-ret));
}

static void enabled_is(bool want)
{
	fmi_assert(fmi_read("enable", text, sizeof(text)) > 0, "cannot read enable");
	fmi_eq(*text == '1', want, "enable");
}

/* Exact: what an actor does now, and all that is mapped. */
static void is_exact(struct fmi_scene *s)
{
	fmi_eq(fmi_stat("inconsistent"), 0, "inconsistent");
	fmi_eq(fmi_stat("mismatches"), 0, "mismatches");
	fmi_audit("all");
	fmi_covered();
	s_populate(s);
	s_check(s, "afterwards");
	s_fork(s, 1, 2);
	s_check(s, "forked");
	s_cow(s, 2, 0);
	s_check(s, "written");
}

static void ready(void)
{
	begin_faults();
	module_ready();
	fmi_assert(fmi_write("enable", "0") > 0 && fmi_write("enable", "1") > 0, "enable anew");
	fmi_assert(fmi_write("reset", "1") > 0, "reset");
}

static void load_fails(const char *params)
{
	unsigned int n, failed = 0;
	int ret;

	if (module_loaded())
		fmi_assert(!module_unload(), "cannot unload");
	for (n = 1; n < MOST; n = next(n)) {
		int fd = module_open();
		bool hit;

		arm(n);
		ret = syscall(SYS_finit_module, fd, params, 0) ? -errno : 0;
		hit = disarm();
		close(fd);
		only_for_want_of_memory(ret, "load", n);
		fmi_eq(module_loaded(), !ret, "loaded");
		failed += !!ret;
		if (!ret)
			fmi_assert(!module_unload(), "cannot unload");
		if (!hit)
			break;
	}
	fmi_assert(n < MOST && failed, "%u loads failed", failed);
	fmi_note("load with '%s': fewer than %u allocations, %u loads failed", params, n, failed);
}

static void load_fails_at_each_allocation(struct fmi_scene *s)
{
	const char *backend = getenv("FMI_BACKEND");
	const char *of = backend && *backend ? " backend=" : "";
	char params[64];

	begin_faults();
	snprintf(params, sizeof(params), "selftest=0%s%s", of, *of ? backend : "");
	load_fails(params);
	snprintf(params, sizeof(params), "enable=1%s%s", of, *of ? backend : "");
	load_fails(params);
	module_ready();
	is_exact(s);
}

static void enable_fails_at_each_allocation(struct fmi_scene *s)
{
	unsigned int n, failed = 0;
	bool hit = true;
	int fd;

	ready();
	fd = open_file("enable", O_WRONLY);
	for (n = 1; n < MOST && hit; n = next(n)) {
		int ret;

		fmi_assert(!write_fd(fd, "0"), "disable: %s", strerror(errno));
		arm(n);
		ret = write_fd(fd, "1");
		hit = disarm();
		only_for_want_of_memory(ret, "enable", n);
		failed += !!ret;
		enabled_is(!ret);
		if (!ret)
			fmi_audit("all");
	}
	fmi_assert(!hit && failed, "%u of %u failed", failed, n);
	fmi_note("enable: fewer than %u allocations, %u times it failed", n, failed);
	is_exact(s);
}

/* Whoever runs out of memory can still be rid of it. */
static void disable_does_not_fail(struct fmi_scene *s)
{
	bool hit = true;
	int fd;

	ready();
	fd = open_file("enable", O_WRONLY);
	for (unsigned int n = 1; n < MOST && hit; n = next(n)) {
		int ret;

		arm(n);
		ret = write_fd(fd, "0");
		hit = disarm();
		fmi_assert(!ret, "disable, allocation %u failed: %s", n, strerror(-ret));
		enabled_is(false);
		fmi_assert(!write_fd(fd, "1"), "enable: %s", strerror(errno));
	}
	fmi_assert(!hit, "no end");
	is_exact(s);
}

static void reading_fails_at_each_allocation(struct fmi_scene *s)
{
	static const char *const names[] = {
		"enable", "stats", "definitions", "disagreement", "disagreement_orders",
		"disagreement_operations", "questions", "preview", "decisions", "folios",
		"examples", "filter", "folio", "audit", "scan", "audit_interval",
	};

	ready();
	s_populate(s);
	s_fork(s, 1, 2);
	s_cow(s, 2, 0);
	fmi_audit("all");
	/* The folio of the file that shows one. */
	snprintf(text, sizeof(text), "%d %#lx", p_pid(1), s->va);
	fmi_assert(fmi_write("folio", text) > 0, "folio");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		int fd = open_file(names[i], O_RDONLY);
		unsigned int n, failed = 0;
		bool hit = true;

		for (n = 1; n < MOST && hit; n = next(n)) {
			int ret;

			arm(n);
			ret = read_fd(fd);
			hit = disarm();
			only_for_want_of_memory(ret, names[i], n);
			failed += !!ret;
			ret = read_fd(fd);
			fmi_assert(!ret, "%s: %s", names[i], strerror(-ret));
		}
		fmi_assert(!hit, "%s: no end", names[i]);
		fmi_note("%s: fewer than %u allocations, %u readings failed", names[i], n, failed);
		close(fd);
	}
	s_check(s, "afterwards");
	fmi_audit("all");
}

static void looking_fails_at_each_allocation(struct fmi_scene *s)
{
	static const struct {
		const char *file, *what;
	} looks[] = {
		{ "audit", "all" }, { "audit", "1" }, { "scan", "1" }, { "scan", "coverage" },
		{ "reset", "1" },
	};

	ready();
	s_populate(s);
	for (size_t i = 0; i < ARRAY_SIZE(looks); i++) {
		int fd = open_file(looks[i].file, O_WRONLY);
		unsigned int n, hits = 0, failed = 0;
		bool hit = true;

		for (n = 1; n < MOST && hit; n = next(n)) {
			int ret;

			arm(n);
			ret = write_fd(fd, looks[i].what);
			hit = disarm();
			only_for_want_of_memory(ret, looks[i].file, n);
			hits += hit;
			failed += !!ret;
			fmi_audit("all");
		}
		/* What has another way to get memory (kvmalloc()) does not fail. */
		fmi_assert(!hit && hits, "%s: %u of %u hit", looks[i].file, hits, n);
		fmi_note("%s to %s: fewer than %u allocations, %u hit, %u failed", looks[i].what,
			 looks[i].file, n, hits, failed);
		close(fd);
	}
	s_check(s, "afterwards");
	fmi_eq(fmi_stat("inconsistent"), 0, "inconsistent");
	fmi_eq(fmi_stat("mismatches"), 0, "mismatches");
}

/* So many failures are allowed. */
#define TIMES 1000000

/* How many there were since that was written. */
static long injected(const char *fault)
{
	char path[128], left[32];

	snprintf(path, sizeof(path), DEBUGFS "%s/times", fault);
	fmi_assert(read_text(path, left, sizeof(left)) > 0, "cannot read %s", path);
	return TIMES - atol(left);
}

/* Maps, forks, moves and unmaps for ever; what fails is left out. */
static void __attribute__((noreturn)) busy(struct fmi_scene *s)
{
	unsigned long len = 4 * pmd_size;
	unsigned int seed = (unsigned int)getpid();

	for (;;) {
		char *p, *to;
		pid_t pid;

		p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			continue;
		for (unsigned long at = 0; at < len; at += s->size)
			p[at] = 1;
		pid = fork();
		if (pid == 0) {
			for (unsigned long at = 0; at < len; at += 3 * s->size)
				p[at] = 2;
			munmap(p + (unsigned int)rand_r(&seed) % 512 * pgsz, 64 * pgsz);
			_exit(0);
		}
		madvise(p + pmd_size, (1 + (unsigned int)rand_r(&seed) % 512) * pgsz,
			MADV_DONTNEED);
		to = mremap(p, 2 * pmd_size, 2 * pmd_size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
		if (to != MAP_FAILED)
			munmap(to, 2 * pmd_size);
		munmap(p, len);
		if (pid > 0)
			waitpid(pid, NULL, 0);
	}
}

static void fails_everywhere(struct fmi_scene *s, size_t which, const char *interval)
{
	const char *fault = faults[which];
	static const char *const reads[] = {
		"stats", "folios", "disagreement", "examples", "preview",
	};
	unsigned int done = 0, failed = 0;
	double end;
	pid_t pids[3];

	fmi_assert(fmi_write("reset", "stats") > 0, "reset");
	thp_only(FMI_ANON, s->order, "always");
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		pids[i] = fork();
		fmi_assert(pids[i] >= 0, "fork: %s", strerror(errno));
		if (!pids[i])
			busy(s);
	}
	set(fault, "interval", interval);
	snprintf(text, sizeof(text), "%d", TIMES);
	set(fault, "times", text);
	fmi_assert(write(probability[which], "100", 3) == 3, "%s: %s", fault, strerror(errno));
	end = now_seconds() + 30;
	for (unsigned int i = 0; now_seconds() < end; i++) {
		int rets[] = {
			fmi_write("audit", "all"), fmi_write("scan", "1"),
			fmi_read(reads[i % ARRAY_SIZE(reads)], text, sizeof(text)),
			i % 4 == 3 ? fmi_write("enable", "0") : 0,
			i % 4 == 3 ? fmi_write("enable", "1") : 0,
		};

		for (size_t j = 0; j < ARRAY_SIZE(rets); j++) {
			done++;
			failed += rets[j] < 0;
			/* Switched off, because switching on failed: no audit, no scan. */
			if (rets[j] < 0 && rets[j] != -ENOMEM && rets[j] != -ENODEV) {
				end_faults();
				fmi_fail("%s: %zu: %s", fault, j, strerror(-rets[j]));
			}
		}
	}
	end_faults();
	fmi_note("%s: one allocation in %s: %ld failed, and %u of %u requests", fault, interval,
		 injected(fault), failed, done);
	fmi_assert(injected(fault) > 0, "no allocation failed");
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++)
		kill(pids[i], SIGSTOP);
	module_ready();
	fmi_audit("all");
	fmi_covered();
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	thp_never();
}

static void memory_fails_everywhere(struct fmi_scene *s)
{
	ready();
	/* Primes: an operation is not hit at the same place always. */
	fails_everywhere(s, 0, "211");
	fails_everywhere(s, 1, "61");
	is_exact(s);
}

static const struct fmi_test tests[] = {
	{ "load_fails_at_each_allocation", load_fails_at_each_allocation,
	  ON_ANON | ORDER4_ONLY | LONG | NO_MODULE },
	{ "enable_fails_at_each_allocation", enable_fails_at_each_allocation,
	  ON_ANON | ORDER4_ONLY | LONG | NO_MODULE },
	{ "disable_does_not_fail", disable_does_not_fail,
	  ON_ANON | ORDER4_ONLY | LONG | NO_MODULE },
	{ "reading_fails_at_each_allocation", reading_fails_at_each_allocation,
	  ON_ANON | ORDER4_ONLY | LONG | NO_MODULE },
	{ "looking_fails_at_each_allocation", looking_fails_at_each_allocation,
	  ON_ANON | ORDER4_ONLY | LONG | NO_MODULE },
	{ "memory_fails_everywhere", memory_fails_everywhere,
	  ON_ANON | ORDER4_ONLY | LONG | NO_MODULE },
};

int main(int argc, char **argv)
{
	int status;

	open_faults();
	status = fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
	/* A case that was ended has not. */
	end_faults();
	drop_the_fprobe();
	return status;
}
