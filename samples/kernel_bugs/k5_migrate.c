// SPDX-License-Identifier: GPL-2.0
/*
 * K5: migration makes folios "partially mapped" of which nothing is unmapped.
 * See Documentation/kernel/k5-partially-mapped.rst; what is missed instead is shown by the
 * selftest partial_flag. Needs two memory nodes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bugs.h"

#define KIB 64UL
#define ALL "/sys/kernel/mm/transparent_hugepage/"
#define THP ALL "hugepages-64kB/"
#define BYTES (16UL << 20)
#define MPOL_MF_MOVE (1 << 1)
#define MPOL_BIND 2

static unsigned long page, pages;
static char *memory;

static long long stat_of(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), THP "stats/%s", name);
	return value_in(path, "");
}

static void only_one_size(void)
{
	char path[128], value[64];
	unsigned long largest;

	if (!write_text(THP "enabled", "always") ||
	    !read_text(ALL "hpage_pmd_size", value, sizeof(value)))
		die("no folios of %lu kB", KIB);
	largest = strtoul(value, NULL, 10) >> 10;
	for (unsigned long kib = 2 * page >> 10; kib <= largest; kib *= 2) {
		snprintf(path, sizeof(path), ALL "hugepages-%lukB/enabled", kib);
		if (kib != KIB)
			write_text(path, "never");
	}
}

static void show(const char *when)
{
	say("%s: nr_anon %lld, nr_anon_partially_mapped %lld, split %lld", when, stat_of("nr_anon"),
	    stat_of("nr_anon_partially_mapped"), stat_of("split"));
}

static void move_to(int node)
{
	void **at = calloc(pages, sizeof(*at));
	int *nodes = calloc(pages, sizeof(*nodes)), *status = calloc(pages, sizeof(*status));

	for (unsigned long i = 0; i < pages; i++) {
		at[i] = memory + i * page;
		nodes[i] = node;
	}
	if (syscall(SYS_move_pages, 0, pages, at, nodes, status, MPOL_MF_MOVE) < 0)
		die("move_pages: %s", strerror(errno));
	free(at);
	free(nodes);
	free(status);
}

int main(void)
{
	static const char *const words[] = {
		"order", "nr_pages_mapped", "kernel_partially_mapped", "compare", "answer: partial"
	};
	long long before, after;
	unsigned long node0 = 1;

	page = (unsigned long)sysconf(_SC_PAGESIZE);
	pages = BYTES / page;
	if (access("/sys/devices/system/node/node1", F_OK))
		die("one memory node only");
	module_start();
	only_one_size();
	memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	if (syscall(SYS_set_mempolicy, MPOL_BIND, &node0, 8 * sizeof(node0)))
		die("set_mempolicy: %s", strerror(errno));
	memset(memory, 1, BYTES);
	show("touched");
	before = stat_of("nr_anon_partially_mapped");
	move_to(1);
	show("migrated; every page is still mapped");
	after = stat_of("nr_anon_partially_mapped");
	module_folio((unsigned long)memory + BYTES / 2, words, ARRAY_SIZE(words));
	move_to(0);
	show("and back");
	say("%s", after > before ? "REPRODUCED" : "not reproduced");
	return after <= before;
}
