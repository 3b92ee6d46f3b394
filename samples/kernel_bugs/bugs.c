// SPDX-License-Identifier: GPL-2.0
#include "bugs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <unistd.h>

#define DEBUGFS "/sys/kernel/debug/folio_mapcount/"
#define TRACING "/sys/kernel/tracing/"
#define LOG_BYTES (4 << 20)
#define LOG_LINES 8 /* that are printed at a time */

static char text[LOG_BYTES];

void die(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	va_start(ap, fmt);
	fprintf(stderr, "cannot be shown here: ");
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(2);
}

void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

bool read_text(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		return false;
	while (len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) > 0)
		len += (size_t)n;
	buf[len] = '\0';
	close(fd);
	return true;
}

bool write_text(const char *path, const char *what)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = write(fd, what, strlen(what));
	close(fd);
	return n == (ssize_t)strlen(what);
}

long long value_in(const char *path, const char *name)
{
	size_t len = strlen(name);

	if (!read_text(path, text, sizeof(text)))
		return -1;
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		if (!strncmp(line, name, len))
			return strtoll(line + len, NULL, 10);
	return -1;
}

bool module_start(void)
{
	bool on;

	if (access(DEBUGFS "stats", F_OK) && system("modprobe -q folio_mapcount"))
		say("no module folio_mapcount here: only the kernel is looked at");
	on = write_text(DEBUGFS "enable", "1");
	klogctl(5 /* SYSLOG_ACTION_CLEAR */, NULL, 0);
	return on;
}

static bool begins_with_one_of(const char *line, const char *const *words, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if (!strncmp(line, words[i], strlen(words[i])))
			return true;
	return false;
}

static void print_lines(const char *path, const char *const *words, size_t nr)
{
	if (!read_text(path, text, sizeof(text)))
		return;
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		if (begins_with_one_of(line, words, nr))
			say("    module: %s", line);
}

void module_stats(const char *const *names, size_t nr)
{
	print_lines(DEBUGFS "stats", names, nr);
}

void module_audit(void)
{
	static const char *const words[] = {
		"missing_in_shadow", "not_in_page_table", "mismatches", "differences", "difference"
	};

	if (!write_text(DEBUGFS "audit", "all"))
		return;
	print_lines(DEBUGFS "audit", words, ARRAY_SIZE(words));
}

void module_folio(unsigned long va, const char *const *words, size_t nr)
{
	char which[64];

	snprintf(which, sizeof(which), "%d 0x%lx", getpid(), va);
	if (write_text(DEBUGFS "folio", which))
		print_lines(DEBUGFS "folio", words, nr);
	else if (!access(DEBUGFS "folio", F_OK))
		say("    module: no folio at 0x%lx: %s", va, strerror(errno));
}

/* What is worth showing of a kernel log: not the modules, registers and stacks. */
static bool worth_showing(const char *line)
{
	static const char *const words[] = {
		"BUG:", "WARNING:", "page dumped because", "page does not match", "folio_mapcount:"
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strstr(line, words[i]))
			return true;
	return false;
}

void kernel_log(void)
{
	int len = klogctl(4 /* SYSLOG_ACTION_READ_CLEAR */, text, sizeof(text) - 1);
	int lines = 0, bad_pages = 0;

	if (len < 0)
		return;
	text[len] = '\0';
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		char *end = strchr(line, ']');

		if (*line != '<' || !end || !worth_showing(end))
			continue;
		bad_pages += !!strstr(end, "BUG: Bad page state");
		if (++lines <= LOG_LINES)
			say("    kernel:%s", end + 1);
	}
	if (lines > LOG_LINES && bad_pages)
		say("    kernel: ... in all %d x \"BUG: Bad page state\"", bad_pages);
	else if (lines > LOG_LINES)
		say("    kernel: ... and %d more lines", lines - LOG_LINES);
}

void trace_start(const char *function)
{
	if (!write_text(TRACING "set_ftrace_filter", function) ||
	    !write_text(TRACING "current_tracer", "function"))
		say("no function tracer: calls of %s() are not counted", function);
}

int trace_count(const char *function)
{
	int calls = 0;

	if (!read_text(TRACING "trace", text, sizeof(text)))
		return 0;
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		calls += *line != '#' && strstr(line, function);
	return calls;
}

void trace_stop(void)
{
	write_text(TRACING "current_tracer", "nop");
	write_text(TRACING "set_ftrace_filter", "\n");
}
