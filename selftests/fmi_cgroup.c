// SPDX-License-Identifier: GPL-2.0
#include "fmi_cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_util.h"

#define PRINTK "/proc/sys/kernel/printk"

static char top[64], group[96], printk_was[64];
static const char *why_not;
static int kmsg = -1;

static int put(const char *dir, const char *file, const char *text)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return write_text(path, text);
}

void cg_start(void)
{
	snprintf(top, sizeof(top), "/tmp/fmi-cgroup.%d", getpid());
	if (mkdir(top, 0700) || mount("fmi", top, "cgroup2", 0, NULL))
		why_not = "cgroup2 cannot be mounted";
	else if (put(top, "cgroup.subtree_control", "+memory") < 0)
		why_not = "no memory controller in cgroup2";
	if (read_text(PRINTK, printk_was, sizeof(printk_was)) > 0)
		write_text(PRINTK, "1");
}

void cg_stop(void)
{
	if (printk_was[0])
		write_text(PRINTK, printk_was);
	umount(top);
	rmdir(top);
}

void cg_enter(pid_t pid)
{
	char number[16], path[64];

	if (why_not)
		fmi_skip("%s", why_not);
	snprintf(group, sizeof(group), "%s/fmi.%d", top, getpid());
	snprintf(number, sizeof(number), "%d", pid);
	fmi_assert(!mkdir(group, 0700), "%s: %s", group, strerror(errno));
	fmi_assert(put(group, "cgroup.procs", number) > 0, "cgroup.procs");
	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", pid);
	fmi_assert(write_text(path, "-1000") > 0, "%s", path);
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	fmi_assert(kmsg >= 0 && lseek(kmsg, 0, SEEK_END) >= 0, "/dev/kmsg: %s", strerror(errno));
}

void cg_limit(long pages)
{
	char text[32];

	if (pages < 0)
		snprintf(text, sizeof(text), "max");
	else
		snprintf(text, sizeof(text), "%ld", pages * (long)pgsz);
	fmi_assert(put(group, "memory.max", text) > 0, "memory.max");
}

void cg_no_warning(void)
{
	static const char *const bad[] = { "WARNING:", "BUG:", "Bad page", "Bad rss" };
	char line[8192];
	ssize_t len;

	while ((len = read(kmsg, line, sizeof(line) - 1)) > 0 || (len < 0 && errno == EPIPE)) {
		line[len > 0 ? len : 0] = '\0';
		for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
			fmi_assert(!strstr(line, bad[i]), "kernel log: %s", line);
	}
}
