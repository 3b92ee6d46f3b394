// SPDX-License-Identifier: GPL-2.0
/*
 * Both backends at once, and what was mapped before: each is scanned, one after the other, and they
 * are compared meanwhile. Needs a kernel with the rmap tracepoints.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmi_both.h"
#include "fmi_ksft.h"
#include "fmi_scan.h"
#include "fmi_scene.h"
#include "fmi_util.h"

/* What only one of them has looked for so far is no difference. */
static void compared_while_it_is_scanned(struct fmi_scene *s)
{
	int compared = 0;

	/* The scan goes from the oldest process to the youngest: it comes to the folio last. */
	both_ready();
	for (int who = 2; who <= 4; who++)
		scan_takes_longer(who);
	both_begin(s);
	/* At least once one of them has it, and the other not. */
	for (int i = 0; i < 5 || !text_value(both_text, "all_absent"); i++) {
		pid_t pid;

		fmi_waits_for("a comparison between two scans: %d so far", compared);
		fmi_assert(fmi_write("enable", "0") > 0, "disable");
		pid = fork();
		fmi_assert(pid >= 0, "fork: %s", strerror(errno));
		if (!pid)
			_exit(fmi_write("enable", "1") <= 0);
		while (!waitpid(pid, NULL, WNOHANG)) {
			int ret = fmi_write("both", "compare");

			fmi_assert(ret > 0 || ret == -ENODEV, "compare: %s", strerror(-ret));
			compared += ret > 0;
		}
		both_equal("scanned by both");
		fmi_eq(text_value(both_text, "scanned_alike"), 1, "scanned_alike");
	}
	fmi_note("%d comparisons meanwhile", compared);
	fmi_eq(text_value(both_text, "all_differences"), 0, "all differences");
	both_is_compared(1, s->va, "at the end");
}

/* A scan that outlives its session says nothing about the next one. */
static void scanned_while_it_is_switched(struct fmi_scene *s)
{
	both_begin(s);
	scan_takes_longer(2);
	for (int i = 0; i < 12; i++) {
		pid_t pid = fork();
		int status;

		fmi_assert(pid >= 0, "fork: %s", strerror(errno));
		if (!pid)
			_exit((int)-fmi_write("scan", "1") & 0x7f);
		msleep((unsigned int)i * 5);
		fmi_assert(fmi_write("enable", "0") > 0 && fmi_write("enable", "1") > 0, "enable");
		fmi_eq(both_compare("differences"), 0, "differences");
		fmi_assert(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "writer");
		status = WEXITSTATUS(status);
		fmi_assert(status == (-1 & 0x7f) || status == ENODEV, "scan: %d", status);
		both_equal("switched");
		fmi_eq(text_value(both_text, "scanned_alike"), 1, "scanned_alike");
	}
	both_is_compared(1, s->va, "at the end");
}

/* A signal ends the scan of the first, and with it that of the second. */
static void an_interrupted_scan(struct fmi_scene *s)
{
	static char scan[1 << 16];
	int nr = 0;

	both_begin(s);
	scan_takes_longer(2);
	scan_takes_longer(3);
	for (int i = 0; i < 12; i++) {
		pid_t pid;

		fmi_assert(fmi_write("enable", "0") > 0, "disable");
		pid = fork();
		fmi_assert(pid >= 0, "fork: %s", strerror(errno));
		if (!pid)
			_exit(fmi_write("enable", "1") <= 0);
		while (!waitpid(pid, NULL, WNOHANG)) {
			fmi_assert(fmi_read("scan", scan, sizeof(scan)) > 0, "cannot read scan");
			if (strstr(scan, "state: scanning\n") && text_value(scan, "mms_done") > i)
				kill(pid, SIGKILL);
		}
		fmi_assert(fmi_read("scan", scan, sizeof(scan)) > 0, "cannot read scan");
		nr += !!strstr(scan, "state: interrupted\n");
		fmi_eq(both_compare("differences"), 0, "differences after it");
		if (strstr(scan, "state: interrupted\n"))
			fmi_eq(text_value(both_text, "scanned_alike"), 0, "scanned_alike");
	}
	fmi_note("%d of 12 scans were interrupted", nr);
	fmi_assert(nr > 0, "no scan was interrupted");
	fmi_assert(fmi_write("scan", "1") > 0, "scan");
	both_is_compared(1, s->va, "scanned");
	fmi_eq(text_value(both_text, "all_differences"), 0, "all differences");
}

static void leaves_one_backend(struct fmi_scene *s)
{
	(void)s;
	both_unload();
	module_ready();
}

#define EACH (ON_ANON | ON_SHMEM | NO_MODULE | ORDER4_ONLY | LONG)

static const struct fmi_test tests[] = {
	{ "compared_while_it_is_scanned", compared_while_it_is_scanned, EACH },
	{ "scanned_while_it_is_switched", scanned_while_it_is_switched, EACH },
	{ "an_interrupted_scan", an_interrupted_scan, EACH },
	{ "leaves_one_backend", leaves_one_backend, ON_ONCE | NO_MODULE },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
