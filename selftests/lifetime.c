// SPDX-License-Identifier: GPL-2.0
/* Load, enable, disable, unload at any moment of a storm; an open file refuses the unload. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_storm.h"
#include "fmi_util.h"

static char text[1 << 19];

static int kmsg = -1;

/* From here on the kernel log is watched. */
static void watch_log(void)
{
	if (kmsg < 0)
		kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	fmi_assert(kmsg >= 0, "/dev/kmsg: %s", strerror(errno));
	fmi_assert(lseek(kmsg, 0, SEEK_END) >= 0, "/dev/kmsg: %s", strerror(errno));
}

/* What the kernel prints when something is badly wrong. To be called before the log wraps. */
static void no_splats(void)
{
	static const char *const words[] = {
		"BUG:", "WARNING:", "Oops", "Bad page", "Call trace:", "Call Trace:",
		"general protection", "scheduling while atomic", "Unable to handle",
	};
	ssize_t len;

	while ((len = read(kmsg, text, sizeof(text) - 1)) > 0) {
		text[len] = '\0';
		for (size_t i = 0; i < ARRAY_SIZE(words); i++)
			fmi_assert(!strstr(text, words[i]), "in the kernel log: %s", text);
	}
	fmi_assert(errno == EAGAIN, "/dev/kmsg: %s", strerror(errno));
}

static void unload(void)
{
	int ret = module_unload();

	fmi_assert(ret == 0, "rmmod: %s", strerror(-ret));
	fmi_assert(!module_loaded(), "still loaded");
	fmi_assert(access(FMI_DIR, F_OK), FMI_DIR " is still there");
}

static void load(const char *params)
{
	int ret = module_load(params);

	fmi_assert(ret == 0, "insmod: %s", strerror(-ret));
}

static void settled(void)
{
	fmi_eq(fmi_stat("windows_open"), 0, "windows_open");
	fmi_eq(fmi_stat("mismatches"), 0, "mismatches");
	fmi_eq(fmi_stat("inconsistent"), 0, "inconsistent");
	fmi_assert(fmi_stat("windows_missed") <= fmi_stat("blind_calls"), "windows_missed: %lld",
		   fmi_stat("windows_missed"));
	fmi_lost_nothing();
	fmi_eq(fmi_stat("missed"), 0, "missed");
}

static void under_a_storm(struct fmi_scene *s)
{
	int rounds = fmi_test_all() ? 200 : 20;
	unsigned int seed = 1;

	if (module_loaded())
		unload();
	watch_log();
	storm_start(s, fmi_test_all() ? 2 : 1);
	for (int i = 0; i < rounds; i++) {
		/* The self-test at load takes its time. */
		load(i == 0 ? "enable=1" : i == 1 ? "" :
		     i % 3 == 0 ? "enable=1 selftest=0" : "selftest=0");
		if (i % 3 == 0)
			fmi_assert(fmi_read("enable", text, 8) > 0 && *text == '1', "not enabled");
		else
			fmi_assert(fmi_write("enable", "1") > 0, "enable");
		msleep((unsigned int)rand_r(&seed) % 200);
		if (i % 4 == 1)
			fmi_audit("all");
		if (i % 3 == 1)
			fmi_assert(fmi_write("enable", "0") > 0, "disable");
		if (i % 6 == 4) {
			fmi_assert(fmi_write("enable", "1") > 0, "enable again");
			msleep((unsigned int)rand_r(&seed) % 50);
		}
		unload();
		no_splats();
	}
	load("enable=1");
	msleep(500);
	storm_pause();
	fmi_audit("all");
	settled();
	storm_end();
	storm_left_nothing();
	settled();
	unload();
	no_splats();
}

/* The enable file switched on and off without unloading. */
static void enable_and_disable_under_a_storm(struct fmi_scene *s)
{
	int rounds = fmi_test_all() ? 100 : 10;
	unsigned int seed = 2;

	watch_log();
	module_ready();
	storm_start(s, fmi_test_all() ? 2 : 1);
	for (int i = 0; i < rounds; i++) {
		fmi_assert(fmi_write("enable", "0") > 0, "disable");
		fmi_eq(fmi_stat("tracked_folios"), 0, "tracked_folios while disabled");
		fmi_assert(fmi_write("enable", "1") > 0, "enable");
		/* That has scanned. */
		fmi_lost_nothing();
		msleep((unsigned int)rand_r(&seed) % 100);
		no_splats();
	}
	storm_pause();
	fmi_audit("all");
	settled();
	storm_end();
	storm_left_nothing();
	no_splats();
}

static void an_open_file_refuses_rmmod(struct fmi_scene *s)
{
	static const char *const names[] = {
		"enable", "stats", "definitions", "disagreement", "folios", "filter", "folio",
		"audit", "decisions", "examples", "questions", "preview",
		"disagreement_orders", "disagreement_operations", "audit_interval", "scan",
		"both",
	};

	(void)s;
	/* The page that another case has chosen in `folio` may be free by now. */
	if (module_loaded())
		unload();
	module_ready();
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char path[128];
		int fd, ret;

		snprintf(path, sizeof(path), FMI_DIR "%s", names[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		fmi_assert(fd >= 0, "open %s: %s", names[i], strerror(errno));
		ret = module_unload();
		fmi_assert(ret == -EAGAIN || ret == -EWOULDBLOCK, "%s open: rmmod: %s", names[i],
			   ret ? strerror(-ret) : "success");
		fmi_assert(module_loaded(), "gone although %s is open", names[i]);
		fmi_assert(read(fd, text, sizeof(text)) >= 0, "read %s: %s", names[i],
			   strerror(errno));
		close(fd);
		fmi_audit("all");
	}
	unload();
	load("enable=1");
	fmi_audit("all");
}

static void unload_while_mapped(struct fmi_scene *s)
{
	module_ready();
	s_populate(s);
	s_fork(s, 1, 2);
	s_check(s, "before");
	unload();
	s_cow(s, 2, 0);
	load("enable=1");
	s_munmap(s, 1, 0, s->nr);
	s_exit(s, 2);
	fmi_audit("all");
	settled();
}

static void leaves_it_loaded(struct fmi_scene *s)
{
	(void)s;
	module_ready();
	fmi_audit("all");
}

static const struct fmi_test tests[] = {
	{ "an_open_file_refuses_rmmod", an_open_file_refuses_rmmod, ON_ONCE | LONG | NO_MODULE },
	{ "unload_while_mapped", unload_while_mapped, ON_ANON | NO_MODULE },
	{ "under_a_storm", under_a_storm, ON_ONCE | LONG | NO_MODULE },
	{ "enable_and_disable_under_a_storm", enable_and_disable_under_a_storm,
	  ON_ONCE | LONG | NO_MODULE },
	{ "leaves_it_loaded", leaves_it_loaded, ON_ONCE | NO_MODULE },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
