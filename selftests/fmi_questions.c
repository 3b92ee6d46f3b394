// SPDX-License-Identifier: GPL-2.0
#include "fmi_questions.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fmi_ksft.h"
#include "fmi_util.h"

static char before[1 << 17], now[1 << 17];

static void read_into(char *text, size_t size)
{
	int ret;

	/* What the CPUs keep to themselves. */
	write_text("/proc/sys/vm/stat_refresh", "1\n");
	/* signal_pending() is true while io_uring has work for this task (TIF_NOTIFY_SIGNAL). */
	do {
		ret = fmi_read("questions", text, size);
	} while (ret == -EINTR);
	fmi_assert(ret > 0, "read questions: %s", strerror(-ret));
}

void q_mark(void)
{
	read_into(before, sizeof(before));
}

void q_begin(void)
{
	int ret = fmi_write("reset", "1\n");

	fmi_assert(ret > 0, "reset: %s", strerror(-ret));
	q_mark();
}

const char *q_read(void)
{
	read_into(now, sizeof(now));
	return now;
}

long long q_figure(const char *name)
{
	return text_value(now, name);
}

long long q_change(const char *name)
{
	return text_value(now, name) - text_value(before, name);
}

void q_want(const char *what, const char *name, long long want)
{
	long long got = q_change(name);

	fmi_assert(got == want, "%s: %s changed by %lld, want %lld", what, name, got, want);
}

static long long of_census(const char *text, const char *name)
{
	char value[64];

	return text_find(text, name, value, sizeof(value)) ? strtoll(value, NULL, 10) : 0;
}

long long q_census_change(const char *name)
{
	return of_census(now, name) - of_census(before, name);
}

void q_census_want(const char *what, const char *name, long long want)
{
	long long got = q_census_change(name);

	fmi_assert(got == want, "%s: %s changed by %lld, want %lld", what, name, got, want);
}

static long long sum_of(const char *text, const char *prefix)
{
	long long sum = 0;

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, prefix, strlen(prefix)))
			sum += strtoll(line + strcspn(line, ":\n") + 1, NULL, 10);
	}
	return sum;
}

long long q_census_sum(const char *prefix)
{
	return sum_of(now, prefix) - sum_of(before, prefix);
}
