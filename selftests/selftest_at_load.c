// SPDX-License-Identifier: GPL-2.0
/* The test that the module makes of its own hooks when it is loaded. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_scene.h"
#include "fmi_util.h"

/*
 * Hooks, in the order of selftest/watch.rs: 12 rmap functions, 5 with exit, 5 at entry,
 * and 18 things that tracepoints tell. With them one function is hooked, with exit and at entry.
 */
#define NR_FUNCTIONS 22
#define NR_HOOKS (NR_FUNCTIONS + 18)
#define VMA_EXIT 16
#define VMA_ENTRY 21

static bool is_of_backend(int hook, bool tracepoints)
{
	if (!tracepoints)
		return hook < NR_FUNCTIONS;
	return hook >= NR_FUNCTIONS || hook == VMA_EXIT || hook == VMA_ENTRY;
}

static char text[1 << 16];

/* The module's file, to load it without modprobe, which hides the error. */
static int module_file(void)
{
	const char *given = getenv("FMI_MODULE");
	struct utsname uts;
	char path[512];
	int fd;

	if (given && *given) {
		fd = open(given, O_RDONLY | O_CLOEXEC);
	} else {
		fmi_assert(!uname(&uts), "uname: %s", strerror(errno));
		snprintf(path, sizeof(path), "/lib/modules/%s/updates/" FMI_NAME ".ko",
			 uts.release);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	if (fd < 0)
		fmi_skip("the file of the module was not found");
	return fd;
}

static int load_file(const char *params)
{
	int fd = module_file();
	int ret = syscall(SYS_finit_module, fd, params, 0) ? -errno : 0;

	close(fd);
	return ret;
}

static void unload(void)
{
	int ret = module_loaded() ? module_unload() : 0;

	fmi_assert(ret == 0, "rmmod: %s", strerror(-ret));
}

static void load_anew(const char *params)
{
	int ret;

	unload();
	ret = module_load(params);
	fmi_assert(ret == 0, "loading with '%s': %s", params, strerror(-ret));
}

static void outcome(char *value, size_t size)
{
	const char *line;
	int ret = fmi_read("stats", text, sizeof(text));

	fmi_assert(ret > 0, "stats: %s", strerror(-ret));
	line = strstr(text, "\nselftest: ");
	fmi_assert(line, "no line 'selftest' in stats");
	line += strlen("\nselftest: ");
	snprintf(value, size, "%.*s", (int)strcspn(line, "\n"), line);
}

static void outcome_is(const char *want)
{
	char value[128];

	outcome(value, sizeof(value));
	fmi_assert(!strcmp(value, want), "selftest: '%s', want '%s'", value, want);
}

/* No process of this name is there. */
static void no_process(const char *name)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	fmi_assert(proc, "/proc: %s", strerror(errno));
	while ((entry = readdir(proc))) {
		char path[300], comm[64] = "";

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		read_text(path, comm, sizeof(comm));
		comm[strcspn(comm, "\n")] = '\0';
		fmi_assert(strcmp(comm, name), "%s is still there: pid %s", name, entry->d_name);
	}
	closedir(proc);
}

/* What counts calls is as if there had been none; the rest of the machine maps small pages. */
static void leaves_no_trace(void)
{
	static const char *const zero[] = {
		"lost", "inconsistent", "mismatches", "missed_calls", "windows_abnormal",
		"windows_overflow", "blind_calls", "missed", "add_pte", "add_entire", "remove_pte",
		"remove_entire", "dup_pte", "dup_entire", "evaluated", "checked", "tracked_folios",
		"records", "examples", "windows_opened", "windows_open", "events_small",
	};

	for (size_t i = 0; i < ARRAY_SIZE(zero); i++)
		fmi_eq(fmi_stat(zero[i]), 0, zero[i]);
	no_process("fmi_selftest");
}

static void passes_and_leaves_no_trace(struct fmi_scene *s)
{
	(void)s;
	/* What other programs map already is no trace: no scan. */
	load_anew("scan=0");
	outcome_is("passed");
	fmi_eq(fmi_stat("enabled"), 0, "enabled");
	leaves_no_trace();
	fmi_assert(fmi_write("enable", "1") > 0, "enable");
	fmi_audit("all");
	fmi_eq(fmi_stat("tracked_folios"), 0, "tracked_folios");
	unload();
}

static void with_tracking_from_the_start(struct fmi_scene *s)
{
	(void)s;
	load_anew("enable=1 scan=0");
	outcome_is("passed");
	fmi_eq(fmi_stat("enabled"), 1, "enabled");
	fmi_eq(fmi_stat("add_entire"), 0, "add_entire");
	fmi_eq(fmi_stat("records"), 0, "records");
	fmi_audit("all");
	no_process("fmi_selftest");
	unload();
}

static void is_skipped(struct fmi_scene *s)
{
	(void)s;
	load_anew("selftest=0");
	outcome_is("skipped");
	leaves_no_trace();
	unload();
	fmi_eq(load_file("selftest=2"), -EINVAL, "selftest=2");
	fmi_assert(!module_loaded(), "loaded with selftest=2");
}

/* The program is executed by a path in /proc: without, the module is loaded all the same. */
static void not_run_without_proc(struct fmi_scene *s)
{
	int fd = module_file();
	int ret;

	(void)s;
	unload();
	fmi_assert(!mount("none", "/proc", "tmpfs", 0, NULL), "mount: %s", strerror(errno));
	ret = syscall(SYS_finit_module, fd, "", 0) ? errno : 0;
	fmi_assert(!umount("/proc"), "umount: %s", strerror(errno));
	close(fd);
	fmi_assert(ret == 0, "loading without /proc: %s", strerror(ret));
	outcome_is("not run (its program could not be started: error -2)");
	leaves_no_trace();
	unload();
}

/* What the self-test can reach it must miss; what it cannot reach it names. */
static void every_blind_hook_is_refused(struct fmi_scene *s)
{
	int refused = 0, passed = 0, unreached = 0;
	char params[64], names[1024];
	bool tracepoints;

	(void)s;
	load_anew("");
	module_needs_faults();
	outcome_is("passed");
	fmi_assert(text_find(text, "selftest_unreached", names, sizeof(names)), "not in stats");
	fmi_note("not reached: %s", names);
	tracepoints = module_uses_tracepoints();
	for (char *at = strtok(names, ","); at; at = strtok(NULL, ","))
		unreached += strcmp(at, "none") != 0;
	for (int hook = 0; hook < NR_HOOKS; hook++) {
		int ret;

		if (!is_of_backend(hook, tracepoints))
			continue;
		unload();
		snprintf(params, sizeof(params), "fault_blind=%d", hook);
		ret = load_file(params);
		if (ret == -EOPNOTSUPP) {
			fmi_assert(!module_loaded(), "hook %d: refused, and loaded", hook);
			no_process("fmi_selftest");
			refused++;
			continue;
		}
		fmi_assert(ret == 0, "hook %d: %s", hook, strerror(-ret));
		outcome_is("passed");
		passed++;
	}
	unload();
	fmi_note("%d refused, %d not", refused, passed);
	fmi_eq(passed, unreached, "blind hooks that were not found");
}

/* The hooks see the calls, and the shadow is not told: what it knows is not what is mapped. */
static void a_wrong_shadow_is_refused(struct fmi_scene *s)
{
	static const char *const dropped[] = {
		"fault_drop=1", "fault_drop=3", "fault_drop_walk=1",
	};

	(void)s;
	load_anew("selftest=0");
	module_needs_faults();
	for (size_t i = 0; i < ARRAY_SIZE(dropped); i++) {
		/* Nothing is looked for where tracepoints tell. */
		if (strstr(dropped[i], "walk") && module_uses_tracepoints())
			continue;
		unload();
		fmi_eq(load_file(dropped[i]), -EOPNOTSUPP, dropped[i]);
		fmi_assert(!module_loaded(), "%s: refused, and loaded", dropped[i]);
		no_process("fmi_selftest");
		load_anew("selftest=0");
	}
	unload();
}

static const struct fmi_test tests[] = {
	{ "passes_and_leaves_no_trace", passes_and_leaves_no_trace, ON_ONCE | NO_MODULE | LONG },
	{ "with_tracking_from_the_start", with_tracking_from_the_start,
	  ON_ONCE | NO_MODULE | LONG },
	{ "is_skipped", is_skipped, ON_ONCE | NO_MODULE | LONG },
	{ "not_run_without_proc", not_run_without_proc, ON_ONCE | NO_MODULE | LONG },
	{ "every_blind_hook_is_refused", every_blind_hook_is_refused,
	  ON_ONCE | NO_MODULE | LONG },
	{ "a_wrong_shadow_is_refused", a_wrong_shadow_is_refused, ON_ONCE | NO_MODULE | LONG },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
