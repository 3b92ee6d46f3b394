// SPDX-License-Identifier: GPL-2.0
/* What shakes the whole machine while the storm blows; each is a process of its own. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_swap.h"
#include "fmi_util.h"
#include "storm_worker.h"

#define KSM_DIR "/sys/kernel/mm/ksm/"
#define KHUGEPAGED_DIR "/sys/kernel/mm/transparent_hugepage/khugepaged/"
#define CGROUP "/sys/fs/cgroup/fmi_storm"

/* thp_restore() puts back what the settings of THPs were before the tests. */
static const struct {
	const char *path, *on, *off;
} settings[] = {
	{ KSM_DIR "pages_to_scan", "1000", "100" },
	{ KSM_DIR "sleep_millisecs", "10", "20" },
	{ KSM_DIR "run", "1", "0" },
	{ KHUGEPAGED_DIR "defrag", "1", "0" },
	{ KHUGEPAGED_DIR "max_ptes_none", "511", "0" },
	{ KHUGEPAGED_DIR "max_ptes_swap", "64", "0" },
	{ KHUGEPAGED_DIR "max_ptes_shared", "256", "0" },
	{ KHUGEPAGED_DIR "pages_to_scan", "2048", "1" },
	{ KHUGEPAGED_DIR "scan_sleep_millisecs", "50", "100000000" },
};

bool storm_has_ksm(void)
{
	return access(KSM_DIR "run", W_OK) == 0;
}

static bool with_swapoff;

bool storm_with_swapoff(bool with)
{
	with_swapoff = with && *swap_device && swap_in_small();
	return with_swapoff || !with;
}

static bool can_swapoff(void)
{
	return with_swapoff;
}

/* A cgroup that may have a limit of its own. */
static bool has_limits(void)
{
	char text[256];

	return read_text("/sys/fs/cgroup/cgroup.controllers", text, sizeof(text)) > 0 &&
	       strstr(text, "memory");
}

void storm_system_start(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		write_text(settings[i].path, settings[i].on);
	/* A minute that failed may have left it off. */
	if (*swap_device)
		swapon(swap_device, 0);
}

void storm_system_stop(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		write_text(settings[i].path, settings[i].off);
}

static bool op_swapoff(struct storm_worker *w)
{
	bool done;

	if (!can_swapoff()) {
		storm_sleep(1000);
		return false;
	}
	storm_sleep(500 + storm_rnd(w, 2000));
	done = swapoff(swap_device) == 0;
	storm_sleep(storm_rnd(w, 100));
	if (done && swapon(swap_device, 0))
		storm_broken("swapon");
	return done;
}

/* A counter of the machine; 0 if the kernel does not have it. */
static long long machine_count(const char *name)
{
	static char text[1 << 16];
	const size_t len = strlen(name);

	if (read_text("/proc/vmstat", text, sizeof(text)) <= 0)
		return 0;
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, name, len) && line[len] == ' ')
			return strtoll(line + len, NULL, 10);
	}
	return 0;
}

/* It does nothing if nothing can be moved. */
static bool op_compact(struct storm_worker *w)
{
	long long before;

	storm_sleep(500 + storm_rnd(w, 1000));
	before = machine_count("compact_isolated");
	return write_text("/proc/sys/vm/compact_memory", "1") > 0 &&
	       machine_count("compact_isolated") > before;
}

static long long number(const char *path)
{
	char text[32];

	return read_text(path, text, sizeof(text)) > 0 ? strtoll(text, NULL, 10) : 0;
}

static bool has_khugepaged(void)
{
	return access(KHUGEPAGED_DIR "pages_collapsed", R_OK) == 0;
}

/* It works all the time; here it is watched. */
static bool op_khugepaged(struct storm_worker *w)
{
	const char *path = KHUGEPAGED_DIR "pages_collapsed";
	long long before = number(path);

	storm_sleep(500 + storm_rnd(w, 500));
	return number(path) > before;
}

/* Merges go on all the time; here all of them are undone. */
static bool op_unmerge(struct storm_worker *w)
{
	bool done;

	storm_sleep(2000 + storm_rnd(w, 3000));
	if (storm_stopping())
		return false;
	done = number(KSM_DIR "pages_sharing") > 0;
	done &= write_text(KSM_DIR "run", "2") > 0;
	write_text(KSM_DIR "run", "1");
	return done;
}

/* Folios of the families, at two places: the kernel takes them from who is killed. */
static void map_common(const struct storm_worker *w)
{
	for (unsigned int how = MAP_SHARED; how <= MAP_PRIVATE; how++) {
		unsigned long at = how == MAP_PRIVATE ? pgsz : 0;
		unsigned long len = w->len - at;
		void *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, (int)how, w->common, (off_t)at);

		/* Who maps nothing of theirs does not count as killed. */
		if (mem == MAP_FAILED || madvise(mem, len, MADV_POPULATE_READ))
			_exit(3);
	}
}

static void __attribute__((noreturn)) hog(const struct storm_worker *w, unsigned long bytes,
					  unsigned int how)
{
	char *mem;

	signal(SIGBUS, SIG_DFL);
	if (write_text(CGROUP "/cgroup.procs", "0") < 0)
		_exit(3);
	map_common(w);
	mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		   how ? MAP_SHARED | MAP_ANONYMOUS : MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		_exit(3);
	for (unsigned long i = 0; i < bytes; i += pgsz) {
		mem[i] = 1;
		/* A part goes by itself, a child maps the rest. */
		if (i == bytes / 4) {
			madvise(mem, i / 2 + pgsz, MADV_DONTNEED);
			if (fork() < 0)
				_exit(3);
		}
	}
	_exit(0);
}

/* More than its cgroup may have: first swapped, then killed. Nobody else is short of memory. */
static bool op_oom(struct storm_worker *w)
{
	const unsigned long limit = 16 * pmd_size;
	bool ended = false;
	char text[32];
	int status;
	pid_t pid;

	storm_sleep(500 + storm_rnd(w, 1500));
	write_text("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	mkdir(CGROUP, 0755);
	snprintf(text, sizeof(text), "%lu", limit);
	if (storm_stopping() || write_text(CGROUP "/memory.max", text) < 0)
		return false;
	write_text(CGROUP "/memory.swap.max", storm_rnd(w, 2) ? "0" : text);
	pid = fork();
	if (pid == 0)
		hog(w, 3 * limit, storm_rnd(w, 2));
	if (pid < 0)
		return false;
	/* It may have much to swap: nobody waits for that. */
	while (!ended && waitpid(pid, &status, WNOHANG) != pid) {
		ended = storm_stopping();
		if (!ended)
			msleep(5);
	}
	if (ended) {
		kill(pid, SIGKILL);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	/* Its child is in the same cgroup; it ends as well, or is ended here. */
	write_text(CGROUP "/cgroup.kill", "1");
	while (rmdir(CGROUP) && errno == EBUSY)
		msleep(10);
	return !ended && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

#define RECLAIM "/sys/fs/cgroup/memory.reclaim"

static bool can_reclaim(void)
{
	return *swap_device && access(RECLAIM, W_OK) == 0;
}

/* Everybody is short of memory: the kernel takes what was not used lately from whom it likes. */
static bool op_reclaim(struct storm_worker *w)
{
	long long before;
	char text[32];

	storm_sleep(500 + storm_rnd(w, 2000));
	if (storm_stopping())
		return false;
	snprintf(text, sizeof(text), "%luK", (1 + storm_rnd(w, 16)) * pmd_size / 2048);
	before = machine_count("pgsteal_proactive");
	/* It may fail because there is not as much as that. */
	return write_text(RECLAIM, text) > 0 || machine_count("pgsteal_proactive") > before;
}

const struct storm_op storm_ops_system[] = {
	{ "reclaim", 1, op_reclaim, can_reclaim },
	{ "swapoff", 1, op_swapoff, can_swapoff },
	{ "compact", 1, op_compact, NULL },
	{ "khugepaged", 1, op_khugepaged, has_khugepaged },
	{ "unmerge", 1, op_unmerge, storm_has_ksm },
	{ "oom", 1, op_oom, has_limits },
};

const size_t nr_storm_ops_system = ARRAY_SIZE(storm_ops_system);
