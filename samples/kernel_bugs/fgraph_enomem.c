// SPDX-License-Identifier: GPL-2.0
/*
 * If the graph tracer runs out of memory while it is registered, whoever registered it cannot do so
 * again until the machine is booted: no exit of a function can be probed any more.
 * See Documentation/kernel/fgraph-enomem.rst. Needs a kernel with fault injection; needs no module.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <unistd.h>

#include "bugs.h"

#define TRACING "/sys/kernel/tracing/"
#define EVENT "fmi_enomem/probe"
#define NTH "/proc/thread-self/fail-nth"
#define MOST 10000

static int event, nth;

static void arm(int n)
{
	char number[16];
	int len = snprintf(number, sizeof(number), "%d", n);

	if (pwrite(nth, number, (size_t)len, 0) != len)
		die("fail-nth: %s", strerror(errno));
}

/* Returns whether the allocation has failed. */
static bool disarm(void)
{
	char left[16] = "";

	if (pread(nth, left, sizeof(left) - 1, 0) <= 0)
		die("fail-nth: %s", strerror(errno));
	arm(0);
	return atoi(left) == 0;
}

/* 0, or what it failed with. */
static int enable(const char *value)
{
	return write(event, value, 1) == 1 ? 0 : errno;
}

/* Probes exits of a function while allocation number n fails, unless there are fewer. */
static bool first_time(int n, int *error)
{
	arm(n);
	*error = enable("1");
	return disarm();
}

int main(void)
{
	int error = 0, harmless = 0;
	bool shown = false;

	nth = open(NTH, O_RDWR | O_CLOEXEC);
	if (nth < 0)
		die("no fail-nth: %s", strerror(errno));
	write_text("/sys/kernel/debug/failslab/ignore-gfp-wait", "N");
	write_text("/sys/kernel/debug/failslab/verbose", "0");
	write_text("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N");
	write_text("/sys/kernel/debug/fail_page_alloc/verbose", "0");
	if (!write_text(TRACING "dynamic_events", "f:" EVENT " vfs_fsync%return"))
		die("dynamic_events: %s", strerror(errno));
	event = open(TRACING "events/" EVENT "/enable", O_WRONLY | O_CLOEXEC);
	if (event < 0)
		die("enable: %s", strerror(errno));
	klogctl(5 /* SYSLOG_ACTION_CLEAR */, NULL, 0);
	for (int n = 1; n < MOST && first_time(n, &error); n++) {
		int again = error ? enable("1") : 0;

		if (again) {
			say("allocation %d fails: %s; the next time, nothing fails: %s", n,
			    strerror(error), strerror(again));
			kernel_log();
			shown = true;
			break;
		}
		harmless += !!error;
		enable("0");
	}
	say("%d failures before were without consequences", harmless);
	enable("0");
	write_text(TRACING "dynamic_events", "-:" EVENT);
	say("%s", shown ? "REPRODUCED" : "not reproduced");
	return !shown;
}
