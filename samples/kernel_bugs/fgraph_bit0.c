// SPDX-License-Identifier: GPL-2.0
/*
 * The user of the graph tracer with index 0 is told of exits of functions that it did not enter.
 * See Documentation/kernel/fgraph-bit0.rst. Without argument that user is fprobe, which warns; with
 * "notrace" it is the function_graph tracer, which then traces what set_graph_notrace excludes.
 * Index 0 is given to the first user since boot: each works once. Needs no module.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bugs.h"

#define TRACING "/sys/kernel/tracing/"
#define OPENS 100

static void set(const char *file, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), TRACING "%s", file);
	if (!write_text(path, value))
		die("%s: '%s': %s", file, value, strerror(errno));
}

static void probe_exits_of(const char *function)
{
	char event[128];

	snprintf(event, sizeof(event), "f:fmi_bit0/probe %s%%return\n", function);
	set("dynamic_events", event);
	set("events/fmi_bit0/probe/enable", "1");
	say("fprobe: exits of %s()", function);
}

static void fork_once(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
}

static void read_once(void)
{
	char buf[16];

	if (!read_text("/proc/self/comm", buf, sizeof(buf)))
		die("/proc/self/comm: %s", strerror(errno));
}

static bool warns(void)
{
	static char log[1 << 20];
	int len = klogctl(3 /* SYSLOG_ACTION_READ_ALL */, log, sizeof(log) - 1);
	bool found;

	log[len > 0 ? len : 0] = '\0';
	found = strstr(log, "fprobe_return");
	kernel_log();
	return found;
}

static bool fprobe_first(void)
{
	bool before, after;

	probe_exits_of("copy_page_range");
	fork_once();
	read_once();
	before = warns();
	say("a fork and a read: the kernel %s", before ? "warns" : "says nothing");
	set("set_ftrace_filter", "vfs_read");
	set("current_tracer", "function_graph");
	say("function_graph: vfs_read() only");
	read_once();
	after = warns();
	say("a read: the kernel %s", after ? "warns" : "says nothing");
	return after && !before;
}

/* Counts calls of vfs_open() below do_sys_openat2(), which is excluded. */
static int opens_traced(void)
{
	int fds[OPENS];

	set("trace", "\n");
	set("tracing_on", "1");
	for (int i = 0; i < OPENS; i++) {
		fds[i] = open("/dev/null", O_RDONLY);
		if (fds[i] < 0)
			die("/dev/null: %s", strerror(errno));
	}
	set("tracing_on", "0");
	for (int i = 0; i < OPENS; i++)
		close(fds[i]);
	return trace_count("vfs_open");
}

static bool tracer_first(void)
{
	int before, after;

	/* Added, since the file is not truncated when it is opened. */
	set("set_ftrace_filter", "do_sys_openat2");
	set("set_ftrace_filter", "vfs_open");
	set("set_graph_notrace", "do_sys_openat2");
	set("current_tracer", "function_graph");
	say("function_graph: vfs_open(), and nothing below do_sys_openat2()");
	before = opens_traced();
	say("%d opens: vfs_open() is traced %d times", OPENS, before);
	probe_exits_of("alloc_empty_file");
	after = opens_traced();
	say("%d opens: vfs_open() is traced %d times", OPENS, after);
	if (warns())
		say("the kernel warns");
	return after && !before;
}

int main(int argc, char **argv)
{
	bool notrace = argc > 1 && !strcmp(argv[1], "notrace");
	bool shown;

	klogctl(5 /* SYSLOG_ACTION_CLEAR */, NULL, 0);
	shown = notrace ? tracer_first() : fprobe_first();
	set("events/fmi_bit0/probe/enable", "0");
	write_text(TRACING "set_graph_notrace", "\n");
	trace_stop();
	set("tracing_on", "1");
	set("dynamic_events", "-:fmi_bit0/probe\n");
	say("%s", shown ? "REPRODUCED" : "not reproduced");
	return !shown;
}
