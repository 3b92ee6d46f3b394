// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_tracers.h"
#include "fmi_util.h"

void tracer_set(const char *file, const char *value)
{
	char path[128];
	int ret;

	snprintf(path, sizeof(path), TRACEFS "%s", file);
	ret = write_text(path, value);
	fmi_assert(ret > 0, "%s: '%s': %s", file, value, strerror(-ret));
}

/* What tracers trace; written without O_TRUNC, it would be added to what was there. */
static void only(const char *functions)
{
	int fd = open(TRACEFS "set_ftrace_filter", O_WRONLY | O_TRUNC | O_CLOEXEC);

	fmi_assert(fd >= 0, "set_ftrace_filter: %s", strerror(errno));
	fmi_assert(write(fd, functions, strlen(functions)) >= 0, "set_ftrace_filter: %s: %s",
		   functions, strerror(errno));
	close(fd);
}

/* Also what a case before this one may have left. */
void nobody_traces(void)
{
	int fd;

	if (access(TRACEFS "current_tracer", F_OK) &&
	    mount("tracefs", TRACEFS, "tracefs", 0, NULL))
		fmi_skip("no tracefs");
	tracer_set("current_tracer", "nop");
	only(" ");
	write_text(TRACEFS "events/fmi_users/enable", "0");
	/* Opened like that, it forgets all. */
	fd = open(TRACEFS "dynamic_events", O_WRONLY | O_TRUNC | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
}

void start_tracer(const char *name, const char *functions)
{
	only(functions);
	if (write_text(TRACEFS "current_tracer", name) <= 0)
		fmi_skip("no tracer '%s'", name);
}
