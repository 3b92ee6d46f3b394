// SPDX-License-Identifier: GPL-2.0
/*
 * How much memory the shadow takes: for each folio that is mapped, and for each further process
 * that maps it. The module is loaded with the budget for this machine as its bound (`mem_kb`), and
 * most of the memory is mapped, in folios of one size. If nothing is lost, it fits; otherwise what
 * was tracked is what fits.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_thp.h"
#include "fmi_util.h"

#define MAX_CHILDREN 200

static char *mem;

/* The module with this bound, tracking; the bytes of its storage. */
static double start(unsigned long kb)
{
	char params[64];
	long long tables;

	if (module_loaded())
		fmi_assert(!module_unload(), "cannot unload the module");
	snprintf(params, sizeof(params), "selftest=0 mem_kb=%lu", kb);
	fmi_assert(!module_load(params), "cannot load the module with %s", params);
	tables = fmi_stat("memory_kb");
	fmi_assert(fmi_write("enable", "1") > 0, "enable");
	return 1024.0 * (double)(fmi_stat("memory_kb") - tables);
}

static unsigned long meminfo_kb(const char *name)
{
	static char text[1 << 14];

	fmi_assert(read_text("/proc/meminfo", text, sizeof(text)) > 0, "no meminfo");
	return (unsigned long)text_value(text, name);
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

/*
 * Children that map all folios, or all but the first half of each, are added until something is
 * lost; returns the bytes for each folio and child.
 */
static double per_process(double storage, double first, unsigned long nr, unsigned long size,
			  bool partial)
{
	pid_t pids[MAX_CHILDREN];
	double children;
	int n = 0, pipes[2];
	char byte;

	fmi_assert(!pipe(pipes), "pipe");
	while (n < MAX_CHILDREN && fmi_stat("lost") == 0) {
		pids[n] = fork();
		fmi_assert(pids[n] >= 0, "fork: %s", strerror(errno));
		if (pids[n] == 0) {
			for (unsigned long i = 0; partial && i < nr; i++)
				madvise(mem + i * size, size / 2, MADV_DONTNEED);
			(void)!write(pipes[1], "", 1);
			pause();
		}
		n++;
		fmi_assert(read(pipes[0], &byte, 1) == 1, "the child says nothing");
	}
	fmi_assert(n < MAX_CHILDREN, "%d children fit: map more folios", n);
	/* The last one did not fit. */
	children = n - 0.5;
	while (n--) {
		kill(pids[n], SIGKILL);
		waitpid(pids[n], NULL, 0);
	}
	close(pipes[0]);
	close(pipes[1]);
	return (storage - first * (double)nr) / ((double)nr * children);
}

static void report(const char *name, unsigned long size, double share)
{
	unsigned long total = meminfo_kb("MemTotal");
	unsigned long kb = (unsigned long)((double)total * share);
	unsigned long nr = meminfo_kb("MemAvailable") / 10 * 8 / (size / 1024);
	double storage, tracked, lost, each;

	thp_only(FMI_ANON, (unsigned int)__builtin_ctzl(size / pgsz), "always");
	storage = start(kb);
	map_folios(nr, size);
	tracked = (double)fmi_stat("tracked_folios");
	lost = (double)fmi_stat("lost");
	each = storage / tracked;
	printf("%s\tfolios %lu\tshare_of_ram %.0f%%\tbound_kb %lu\ttracked %.0f\tlost %.0f\t"
	       "bytes_per_folio %s%.0f\tshare %s%.3f%%\tbudget %.3f%%\n", name, nr,
	       100.0 * (double)nr * (double)size / 1024 / (double)total, kb, tracked, lost,
	       lost ? "" : "at most ", each, lost ? "" : "at most ", 100 * each / (double)size,
	       100 * share);
	unmap_folios(nr, size);
	if (!lost) {
		printf("%s\tit fits: what a folio takes is not known better\n", name);
		return;
	}
	nr = (unsigned long)tracked / 16;
	for (int partial = 0; partial < 2; partial++) {
		storage = start(kb);
		map_folios(nr, size);
		printf("%s\t%s\tbytes_per_further_process %.0f\tbudget %lu\n", name,
		       partial ? "partial" : "whole",
		       per_process(storage, each, nr, size, partial),
		       40 + (partial ? size / pgsz / 8 : 0));
		unmap_folios(nr, size);
	}
}

int main(void)
{
	fmi_util_init();
	setvbuf(stdout, NULL, _IOLBF, 0);
	thp_save();
	report("64K", 65536, 0.002);
	report("2M", 2UL << 20, 0.0005);
	thp_restore();
	return 0;
}
