// SPDX-License-Identifier: GPL-2.0
/* What the shared files of the selftests report by, outside of a test. */
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "fmi_ksft.h"

void fmi_fail_at(const char *file, int line, const char *fmt, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "%s:%d: ", file, line);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	_exit(1);
}

void fmi_note(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
}

/* Nobody ends these programs for the time they take. */
void fmi_waits_for(const char *fmt, ...)
{
	(void)fmt;
}

void fmi_goes_on(void)
{
}

void fmi_skip(const char *fmt, ...)
{
	(void)fmt;
	_exit(KSFT_SKIP);
}
