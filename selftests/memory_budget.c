// SPDX-License-Identifier: GPL-2.0
/*
 * How much memory the shadow takes: for each folio that is mapped, and for each further process
 * that maps it. Most of the guest is mapped in folios of one size, with as much storage (`mem_kb`)
 * as the budget allows for so many.
 */
#include <errno.h>
#include <linux/mempolicy.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_thp.h"
#include "fmi_util.h"

/* 0.2 % of 64 KiB, 0.05 % of 2 MiB. */
#define BUDGET_64K 131
#define BUDGET_2M 1048
/* For each further process that maps the whole folio. */
#define BUDGET_PROCESS 40

#define LEAST_KB 256

static char *mem;

/* The module with this bound, tracking; the bytes of its storage. */
static double start(unsigned long kb)
{
	char params[64];
	long long tables;

	if (module_loaded())
		fmi_assert(!module_unload(), "cannot unload the module");
	snprintf(params, sizeof(params), "selftest=0 scan=0 mem_kb=%lu", kb);
	fmi_assert(!module_load(params), "cannot load the module with %s", params);
	tables = fmi_stat("memory_kb");
	fmi_assert(fmi_write("enable", "1") > 0, "enable");
	return 1024.0 * (double)(fmi_stat("memory_kb") - tables);
}

static unsigned long available(unsigned long size)
{
	static char text[1 << 14];

	fmi_assert(read_text("/proc/meminfo", text, sizeof(text)) > 0, "no meminfo");
	return (unsigned long)text_value(text, "MemAvailable") / (size / 1024);
}

/* Maps so many folios, each by one fault. */
static void map_folios(unsigned long nr, unsigned long size)
{
	char *all = mmap(NULL, nr * size + pmd_size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	fmi_assert(all != MAP_FAILED, "mmap: %s", strerror(errno));
	mem = (char *)(((uintptr_t)all + pmd_size - 1) & ~(pmd_size - 1));
	for (unsigned long i = 0; i < nr; i++)
		mem[i * size] = 1;
}

static void unmap_folios(unsigned long nr, unsigned long size)
{
	munmap(mem, nr * size);
}

static void only(unsigned long size)
{
	unsigned int order = (unsigned int)__builtin_ctzl(size / pgsz);

	if (!thp_size_exists(FMI_ANON, order))
		fmi_skip("no folios of %lu KiB", size / 1024);
	thp_only(FMI_ANON, order, "always");
}

/* A fault takes a large folio of any node, not only of its own. */
static void everywhere(void)
{
	unsigned long nodes = 0xff;

	write_text("/proc/sys/vm/compact_memory", "1");
	syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, &nodes, 8 * sizeof(nodes));
}

/* A child that maps the same, or gives back the first half of each folio, until it is killed. */
static pid_t child(unsigned long nr, unsigned long size, bool partial)
{
	int pipes[2];
	pid_t pid;
	char byte;

	fmi_assert(!pipe(pipes), "pipe");
	pid = fork();
	fmi_assert(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		for (unsigned long i = 0; partial && i < nr; i++)
			madvise(mem + i * size, size / 2, MADV_DONTNEED);
		(void)!write(pipes[1], "", 1);
		pause();
		_exit(0);
	}
	fmi_assert(read(pipes[0], &byte, 1) == 1, "a process says nothing");
	close(pipes[0]);
	close(pipes[1]);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* So many folios, mapped by one process or by two, get all that the budget has for them. */
static void fits(unsigned long size, unsigned long budget, bool two)
{
	unsigned long nr = available(size) / 10 * 8, kb = nr * budget / 1024;
	long long tracked, records, lost;
	double storage;
	pid_t pid = 0;

	only(size);
	everywhere();
	if (kb < LEAST_KB)
		fmi_skip("%lu folios are too few", nr);
	storage = start(kb);
	map_folios(nr, size);
	if (two)
		pid = child(nr, size, false);
	tracked = fmi_stat("tracked_folios");
	records = fmi_stat("records");
	lost = fmi_stat("lost");
	if (two)
		end(pid);
	unmap_folios(nr, size);
	fmi_note("%lu KiB: folios %lu mem_kb %lu storage_kb %.0f", size / 1024, nr, kb,
		 storage / 1024);
	fmi_note("tracked %lld records %lld lost %lld", tracked, records, lost);
	fmi_assert(storage <= 1024.0 * (double)kb, "%.0f bytes of storage for %lu KiB",
		   storage, kb);
	fmi_eq(lost, 0, "lost");
	/* The rest was not to be had in one piece. */
	fmi_assert(tracked >= (long long)(nr / 10 * 9), "%lld of %lu folios are tracked", tracked,
		   nr);
	fmi_assert(records >= (two ? 2 : 1) * (long long)(nr / 10 * 9),
		   "%lld records of %lu folios", records, nr);
}

static void folios_of_64k(struct fmi_scene *s)
{
	(void)s;
	fits(65536, BUDGET_64K, false);
}

static void folios_of_2m(struct fmi_scene *s)
{
	(void)s;
	fits(2UL << 20, BUDGET_2M, false);
}

static void further_processes(struct fmi_scene *s)
{
	(void)s;
	fits(65536, BUDGET_64K + BUDGET_PROCESS, true);
}

/* A process that maps a part has a record that is not short. */
static void mapped_in_part(struct fmi_scene *s)
{
	unsigned long size = 65536, nr = 80;
	long long records, details;
	pid_t pid;

	(void)s;
	only(size);
	/* Whatever shards they fall into, there are histories for all of them. */
	start(8192);
	map_folios(nr, size);
	records = fmi_stat("records");
	details = fmi_stat("details");
	pid = child(nr, size, true);
	records = fmi_stat("records") - records;
	details = fmi_stat("details") - details;
	end(pid);
	fmi_note("%lu folios mapped in part: %lld records %lld details", nr, records, details);
	fmi_eq(fmi_stat("lost"), 0, "lost");
	fmi_eq(records, (long long)nr, "records");
	fmi_eq(details, (long long)nr, "details");
}

static void loads_with_the_defaults_again(struct fmi_scene *s)
{
	(void)s;
	if (module_loaded())
		fmi_assert(!module_unload(), "cannot unload the module");
	fmi_assert(!module_load(""), "cannot load the module");
	module_ready();
}

static const struct fmi_test tests[] = {
	{ "folios_of_2m", folios_of_2m, ON_ONCE | NO_MODULE },
	{ "folios_of_64k", folios_of_64k, ON_ONCE | NO_MODULE },
	{ "further_processes", further_processes, ON_ONCE | NO_MODULE },
	{ "mapped_in_part", mapped_in_part, ON_ONCE | NO_MODULE },
	{ "loads_with_the_defaults_again", loads_with_the_defaults_again, ON_ONCE | NO_MODULE },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
