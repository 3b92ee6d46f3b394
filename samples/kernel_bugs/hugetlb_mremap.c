// SPDX-License-Identifier: GPL-2.0
/*
 * mremap() of shared hugetlb memory to where its page table could be shared waits for itself.
 * See Documentation/kernel/hugetlb-mremap.rst. Leaves a process behind that cannot be killed.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bugs.h"

#define PUD (1UL << 30)
#define PMD (2UL << 20)
#define SECONDS 10

/* Addresses of their own: a GiB from an aligned one on, and room for as much behind it. */
static char *area(void)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	char *p = mmap(NULL, 3 * PUD, PROT_NONE, flags, -1, 0);

	if (p == MAP_FAILED)
		die("no address space: %s", strerror(errno));
	return (char *)(((unsigned long)p + PUD - 1) & ~(PUD - 1));
}

/* Maps a GiB of hugetlb memory of its own there, touches two pages, and moves it. */
static void __attribute__((noreturn)) move(unsigned long from, unsigned long to)
{
	int fd = memfd_create("bug", MFD_HUGETLB), prot = PROT_READ | PROT_WRITE;
	char *target = area() + to, *p;

	if (fd < 0 || ftruncate(fd, PUD))
		die("memfd: %s", strerror(errno));
	p = mmap(area() + from, PUD, prot, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED)
		die("cannot map hugetlb memory: %s", strerror(errno));
	p[0] = 1;
	p[PMD] = 2;
	p = mremap(p, PUD, PUD, MREMAP_MAYMOVE | MREMAP_FIXED, target);
	_exit(p == target && p[0] == 1 && p[PMD] == 2 ? 0 : 1);
}

/* Does the move end? Otherwise says where it is. */
static bool ends(const char *what, unsigned long from, unsigned long to)
{
	char path[64], stack[4096];
	int status;
	pid_t pid = fork();

	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (pid == 0)
		move(from, to);
	for (int i = 0; i < 10 * SECONDS; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid) {
			if (!WIFEXITED(status) || WEXITSTATUS(status) == 2)
				die("the move could not be tried");
			say("%s: %s", what, WEXITSTATUS(status) ? "failed" : "moved");
			return true;
		}
		usleep(100000);
	}
	kill(pid, SIGKILL);
	usleep(500000);
	say("%s: not back after %d s, and %s", what, SECONDS,
	    waitpid(pid, &status, WNOHANG) == pid ? "killed" : "not to be killed");
	snprintf(path, sizeof(path), "/proc/%d/stack", (int)pid);
	if (read_text(path, stack, sizeof(stack)))
		for (char *line = strtok(stack, "\n"); line; line = strtok(NULL, "\n"))
			say("    %s", line);
	return false;
}

int main(void)
{
	bool hangs;

	if (!write_text("/proc/sys/vm/nr_hugepages", "8") ||
	    value_in("/proc/meminfo", "Hugepagesize:") != (long long)(PMD >> 10))
		die("no hugetlb pages of 2 MiB");
	if (!ends("control, to 2 MiB behind a multiple of a GiB", 0, PMD))
		die("even this hangs");
	hangs = !ends("to a multiple of a GiB", 0, 0);
	hangs |= !ends("to a multiple of a GiB, from behind one", PMD, 0);
	say(hangs ? "REPRODUCED" : "not reproduced");
	return 0;
}
