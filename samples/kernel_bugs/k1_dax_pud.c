// SPDX-License-Identifier: GPL-2.0
/*
 * K1: fork() copies a PUD that maps device-dax memory and counts neither mapping nor reference.
 * See Documentation/kernel/k1-dax-pud-fork.rst. Argument: a device-dax device of 1 GiB alignment
 * and at least 2 GiB; without one it is made of the legacy pmem that memmap=nG!nG reserves.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bugs.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

#define GIB (1UL << 30)
#define WHERE ((char *)(64 * GIB))
#define FREE "free_zone_device_folio"
#define BUS "/sys/bus/nd/"
#define SEED BUS "devices/dax0.0/"

static void set(const char *path, const char *value)
{
	if (!write_text(path, value))
		die("cannot write %s to %s: %s", value, path, strerror(errno));
}

/* What "ndctl create-namespace --force --mode=devdax --align=1G --map=mem" does. */
static const char *make_device(void)
{
	static const char *const modules[] = {
		"libnvdimm", "nd_e820", "nd_pmem", "dax_pmem", "device_dax"
	};
	static char path[64];
	char command[128];

	for (size_t i = 0; i < ARRAY_SIZE(modules); i++) {
		snprintf(command, sizeof(command), "modprobe -q %s", modules[i]);
		if (system(command))
			die("no module %s", modules[i]);
	}
	if (access(BUS "devices/namespace0.0", F_OK))
		die("no persistent memory: boot with memmap=3G!4G");
	write_text(BUS "drivers/nd_pmem/unbind", "namespace0.0");
	if (access(SEED, F_OK))
		die("no seed for a device-dax namespace");
	set(SEED "uuid", "3c6f1a52-96c8-4a5c-8d0e-7d5f0c6a1b01");
	set(SEED "mode", "ram");
	set(SEED "align", "1073741824");
	set(SEED "namespace", "namespace0.0");
	set(BUS "drivers/dax_pmem/bind", "dax0.0");
	snprintf(path, sizeof(path), "/dev/dax0.0");
	for (int i = 0; i < 100 && access(path, F_OK); i++)
		usleep(20000);
	return path;
}

static void counts(const char *when)
{
	static const char *const names[] = { "events_zone_device" };

	say("%s: Mapped %lld kB, %d calls of " FREE "()", when,
	    value_in("/proc/meminfo", "Mapped:"), trace_count(FREE));
	module_stats(names, ARRAY_SIZE(names));
	kernel_log();
}

/* A child that does nothing. */
static void fork_once(void)
{
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		die("fork: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	long long mapped;
	bool reproduced;
	const char *path;
	char *p;
	int fd;

	module_start();
	path = argc > 1 ? argv[1] : make_device();
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("cannot open %s: %s", path, strerror(errno));
	kernel_log();
	p = mmap(WHERE, 2 * GIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
	if (p != WHERE)
		die("cannot map 2 GiB of %s: %s", path, strerror(errno));

	trace_start(FREE);
	counts("mapped 2 GiB, nothing touched");
	p[0] = 1;
	counts("touched the first GiB: one PUD");
	mapped = value_in("/proc/meminfo", "Mapped:");
	fork_once();
	counts("control: forked, the child is gone; without guard regions fork copies nothing");
	if (madvise(p + GIB, (size_t)getpagesize(), MADV_GUARD_INSTALL))
		die("MADV_GUARD_INSTALL: %s", strerror(errno));
	counts("a guard page in the second GiB");
	fork_once();
	counts("forked, the child is gone: its exit removed a mapping that fork had not added");
	reproduced = value_in("/proc/meminfo", "Mapped:") < mapped - (long long)(GIB >> 11);
	fork_once();
	counts("and once more: the last reference is gone");
	say("the parent still maps it, and reads %d there", p[0]);
	if (munmap(p, 2 * GIB))
		die("munmap: %s", strerror(errno));
	counts("unmapped");
	trace_stop();
	say("%s", reproduced ? "REPRODUCED" : "not reproduced");
	return !reproduced;
}
