// SPDX-License-Identifier: GPL-2.0
/*
 * hugetlb folios of every size, page tables that processes share, and pages of
 * drivers: tracked where events have addresses (tracepoints), else counted.
 */
#include <dirent.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

#define SIZES "/sys/kernel/mm/hugepages"
#define MAX_SIZES 8
#define GIB (1UL << 30)
#define SHIFT_IN_FLAGS 26 /* MAP_HUGE_SHIFT, MFD_HUGE_SHIFT */

/* A number of a report; UNKNOWN for one that is not claimed. */
#define UNKNOWN (-1LL)

static struct pool {
	unsigned long size;
	char path[128];
	char before[32];
} pools[MAX_SIZES];
static int nr_pools;

static void find_pools(void)
{
	DIR *dir = opendir(SIZES);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)) && nr_pools < MAX_SIZES) {
		struct pool *pool = &pools[nr_pools];
		unsigned long kb;

		if (sscanf(entry->d_name, "hugepages-%lukB", &kb) != 1)
			continue;
		pool->size = kb * 1024;
		snprintf(pool->path, sizeof(pool->path), SIZES "/hugepages-%lukB/nr_hugepages", kb);
		if (read_text(pool->path, pool->before, sizeof(pool->before)) > 0)
			nr_pools++;
	}
	if (dir)
		closedir(dir);
}

/* Makes a pool hold so many free folios at least; false if there is no memory for that. */
static bool fill(const struct pool *pool, int nr)
{
	char text[32];

	snprintf(text, sizeof(text), "%d\n", atoi(pool->before) + nr);
	write_text(pool->path, text);
	read_text(pool->path, text, sizeof(text));
	if (atoi(text) >= atoi(pool->before) + nr)
		return true;
	write_text(pool->path, pool->before);
	return false;
}

/* What is in use stays until it is given back. */
static void drain(const struct pool *pool)
{
	write_text(pool->path, pool->before);
}

static unsigned long log2_of(unsigned long size)
{
	return (unsigned long)__builtin_ctzl(size);
}

/* Runs a case on each size of which the machine can give so many folios. */
static void on_each_size(int nr, void (*fn)(const struct pool *pool))
{
	int done = 0;

	find_pools();
	for (int i = 0; i < nr_pools; i++) {
		if (!fill(&pools[i], nr))
			continue;
		fmi_note("%lu kB", pools[i].size / 1024);
		fn(&pools[i]);
		drain(&pools[i]);
		done++;
	}
	if (!done)
		fmi_skip("no hugetlb folios of any size");
}

static const struct pool *pool_of(unsigned long size, int nr)
{
	find_pools();
	for (int i = 0; i < nr_pools; i++)
		if (pools[i].size == size && fill(&pools[i], nr))
			return &pools[i];
	fmi_skip("no hugetlb folios of %lu kB", size / 1024);
}

static void needs_tracepoints(void)
{
	if (!fmi_tracepoints())
		fmi_skip("the events have no addresses");
}

/* An address that is aligned to every size, and far from what a process maps. */
static unsigned long place(int n)
{
	return (64UL + 4 * (unsigned long)n) << 30;
}

static void map(int who, const struct pool *pool, int n, unsigned long folios, int flags, int fd)
{
	flags |= MAP_HUGETLB | MAP_NORESERVE | (int)(log2_of(pool->size) << SHIFT_IN_FLAGS);
	p_mmap(who, place(n), folios * pool->size, PROT_READ | PROT_WRITE, flags, fd, 0);
}

static unsigned long pfn_at(int who, unsigned long va)
{
	unsigned long pfn = pagemap_pfn(p_pid(who), va);

	fmi_assert(pfn, "nothing is mapped at %#lx of actor %d", va, who);
	return pfn;
}

static long long number(const char *report, const char *name)
{
	char text[32];

	fmi_assert(text_find(report, name, text, sizeof(text)), "no line '%s:'", name);
	return strcmp(text, "-") ? strtoll(text, NULL, 10) : UNKNOWN;
}

/* The folio has so many mappings, all of them entire, by so many MMs; UNKNOWN: nobody can tell. */
static void want(const char *what, unsigned long pfn, const char *type, long long total,
		 long long mms)
{
	const char *report = fmi_report_pfn(pfn);
	char text[64] = "";

	if (total == 0) {
		/* It may be free by now, and of no type. */
		text_find(report, "state", text, sizeof(text));
		fmi_assert(strcmp(text, "tracked"), "%s: still mapped:\n%s", what, report);
		return;
	}
	fmi_assert(text_find(report, "type", text, sizeof(text)) && !strcmp(text, type),
		   "%s: type %s, not %s", what, text, type);
	fmi_assert(text_find(report, "state", text, sizeof(text)) && !strcmp(text, "tracked"),
		   "%s: %s:\n%s", what, text, report);
	fmi_eq(number(report, "total"), total, what);
	fmi_eq(number(report, "entire"), total, what);
	fmi_eq(number(report, "max_page"), total, what);
	if (mms == UNKNOWN)
		fmi_assert(strstr(report, "\nanswer: shared truth=- ") &&
			   !strstr(report, "\nanswer: refs truth=yes") &&
			   !strstr(report, "\nanswer: refs truth=no"),
			   "%s: claimed:\n%s", what, report);
	fmi_eq(number(report, "mm"), mms, what);
	fmi_eq(number(report, "vma"), mms, what);
	fmi_eq(number(report, "vma_pt"), mms, what);
	fmi_assert(text_find(report, "compare", text, sizeof(text)) && !strcmp(text, "equal"),
		   "%s: the kernel's counters: %s\n%s", what, text, report);
}

static void private_memory(const struct pool *pool)
{
	unsigned long first, last, copy, far = place(1);

	p_start(1);
	map(1, pool, 0, 2, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	p_write(1, place(0), 1);
	p_write(1, place(0) + pool->size, 1);
	first = pfn_at(1, place(0));
	last = pfn_at(1, place(0) + pool->size);
	want("written", first, "hugetlb", 1, 1);
	p_fork(1, 2);
	want("forked", first, "hugetlb", 2, 2);
	want("forked", last, "hugetlb", 2, 2);
	fmi_audit("all");
	/* The child writes and gets a copy. */
	p_write(2, place(0), 1);
	copy = pfn_at(2, place(0));
	fmi_assert(copy != first, "no copy");
	want("copied", first, "hugetlb", 1, 1);
	want("the copy", copy, "hugetlb", 1, 1);
	/* One of two goes. */
	p_munmap(2, place(0) + pool->size, pool->size);
	want("unmapped by the child", last, "hugetlb", 1, 1);
	p_mremap(1, place(0), 2 * pool->size, far, 0);
	want("moved", first, "hugetlb", 1, 1);
	want("moved", last, "hugetlb", 1, 1);
	fmi_audit("all");
	p_madvise(1, far, pool->size, MADV_DONTNEED);
	want("given up", first, "hugetlb", 0, 0);
	p_exit(2);
	want("the child is gone", copy, "hugetlb", 0, 0);
	want("the other one stays", last, "hugetlb", 1, 1);
	p_exit(1);
	want("all are gone", last, "hugetlb", 0, 0);
}

static void private_is_tracked(struct fmi_scene *s)
{
	(void)s;
	needs_tracepoints();
	on_each_size(3, private_memory);
}

static int memfd_of(const struct pool *pool, unsigned long bytes)
{
	int fd = memfd_create("fmi", MFD_HUGETLB | (unsigned int)(log2_of(pool->size) <<
								  SHIFT_IN_FLAGS));

	fmi_assert(fd >= 0 && !ftruncate(fd, (off_t)bytes), "memfd: %s", strerror(errno));
	return fd;
}

static void shared_memory(const struct pool *pool)
{
	int fd = memfd_of(pool, 2 * pool->size);
	unsigned long pfn;

	p_start(1);
	p_start(2);
	/* Neither is as large as a page table: nothing is shared but the folios. */
	map(1, pool, 0, 2, MAP_SHARED, fd);
	map(2, pool, 1, 2, MAP_SHARED, fd);
	p_write(1, place(0), 1);
	pfn = pfn_at(1, place(0));
	want("written", pfn, "hugetlb", 1, 1);
	p_read(2, place(1), 1);
	want("read", pfn, "hugetlb", 2, 2);
	fmi_assert(fmi_report_va(p_pid(2), place(1) + pool->size - pgsz), "its last page: %s",
		   strerror(errno));
	/* The same once more, in the same MM. */
	map(2, pool, 2, 2, MAP_SHARED, fd);
	p_read(2, place(2), 1);
	fmi_eq(number(fmi_report_pfn(pfn), "total"), 3, "mapped twice by one");
	fmi_eq(number(fmi_report_pfn(pfn), "mm"), 2, "mapped twice by one");
	fmi_eq(number(fmi_report_pfn(pfn), "vma"), 3, "mapped twice by one");
	p_munmap(2, place(2), 2 * pool->size);
	fmi_audit("all");
	p_munmap(1, place(0), pool->size);
	want("unmapped", pfn, "hugetlb", 1, 1);
	/* Whoever maps it: there is no such page any more. */
	fmi_assert(!ftruncate(fd, 0), "ftruncate: %s", strerror(errno));
	want("truncated", pfn, "hugetlb", 0, 0);
	p_exit(1);
	p_exit(2);
	close(fd);
}

/* Two mappings of one folio in one table of PMDs, which other MMs might share. */
static void a_table_maps_it_twice(struct fmi_scene *s)
{
	const struct pool *pool;
	unsigned long pfn, size, va[3];
	int fd;

	(void)s;
	needs_tracepoints();
	pool = pool_of(pmd_size, 1);
	size = pool->size;
	fd = memfd_of(pool, size);
	for (unsigned long n = 0; n < ARRAY_SIZE(va); n++)
		va[n] = place(0) + 4 * n * size;
	p_start(1);
	for (int n = 0; n < 2; n++) {
		p_mmap(1, va[n], size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_HUGETLB | (int)(log2_of(size) << SHIFT_IN_FLAGS), fd, 0);
		p_write(1, va[n], 1);
	}
	pfn = pfn_at(1, va[0]);
	fmi_eq(pfn_at(1, va[1]), pfn, "the same folio");
	fmi_eq(number(fmi_report_pfn(pfn), "total"), 2, "mapped twice");
	fmi_eq(number(fmi_report_pfn(pfn), "mm"), 1, "mapped twice");
	fmi_eq(number(fmi_report_pfn(pfn), "vma"), 2, "mapped twice");
	fmi_audit("all");
	p_munmap(1, va[0], size);
	want("one is unmapped", pfn, "hugetlb", 1, 1);
	/* Elsewhere in the same table. */
	p_mremap(1, va[1], size, va[2], 0);
	want("moved", pfn, "hugetlb", 1, 1);
	fmi_audit("all");
	p_mmap(1, va[1], size, PROT_READ | PROT_WRITE,
	       MAP_SHARED | MAP_HUGETLB | (int)(log2_of(size) << SHIFT_IN_FLAGS), fd, 0);
	p_read(1, va[1], 1);
	fmi_eq(number(fmi_report_pfn(pfn), "total"), 2, "mapped where it was");
	p_exit(1);
	want("all are gone", pfn, "hugetlb", 0, 0);
	fmi_audit("all");
	close(fd);
	drain(pool);
}

static void shared_is_tracked(struct fmi_scene *s)
{
	(void)s;
	needs_tracepoints();
	on_each_size(2, shared_memory);
}

static void migration_is_tracked(struct fmi_scene *s)
{
	const struct pool *pool;
	unsigned long pfn, there = 0;
	char text[32];
	int status[1];

	(void)s;
	needs_tracepoints();
	if (read_text("/sys/devices/system/node/node1/cpulist", text, sizeof(text)) < 0)
		fmi_skip("one memory node");
	pool = pool_of(pmd_size, 4);
	p_start(1);
	map(1, pool, 0, 1, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	p_write(1, place(0), 1);
	pfn = pfn_at(1, place(0));
	for (int node = 0; node < 2 && !there; node++) {
		void *pages[1] = { (void *)place(0) };

		status[0] = -1;
		if (syscall(SYS_move_pages, p_pid(1), 1, pages, &node, status, 2) ||
		    status[0] != node)
			continue;
		if (pfn_at(1, place(0)) != pfn)
			there = pfn_at(1, place(0));
	}
	if (!there) {
		drain(pool);
		fmi_skip("no folio of that size on another node");
	}
	want("migrated", there, "hugetlb", 1, 1);
	want("where it was", pfn, "hugetlb", 0, 0);
	fmi_audit("all");
	p_exit(1);
	drain(pool);
}

/* Two processes map so much of a file that they use one page table for it. */
static void page_tables_are_shared(struct fmi_scene *s)
{
	const struct pool *pool;
	unsigned long first, second;
	long long shares;
	int fd;

	(void)s;
	needs_tracepoints();
	pool = pool_of(pmd_size, 4);
	fd = memfd_of(pool, GIB);
	shares = fmi_stat("events_pmd_share");
	p_start(1);
	p_start(2);
	p_start(3);
	map(1, pool, 0, GIB / pool->size, MAP_SHARED, fd);
	map(2, pool, 1, GIB / pool->size, MAP_SHARED, fd);
	p_write(1, place(0), 1);
	first = pfn_at(1, place(0));
	want("one process", first, "hugetlb", 1, 1);
	p_read(2, place(1), 1);
	if (fmi_stat("events_pmd_share") == shares) {
		p_exit(1);
		p_exit(2);
		drain(pool);
		fmi_skip("page tables are not shared");
	}
	fmi_eq(pfn_at(2, place(1)), first, "the same folio");
	want("shared", first, "hugetlb", 1, UNKNOWN);
	/* Made through the shared table. */
	p_write(2, place(1) + 3 * pool->size, 1);
	second = pfn_at(1, place(0) + 3 * pool->size);
	want("made by the second", second, "hugetlb", 1, UNKNOWN);
	/* A mapping that is too small has a table of its own. */
	p_mmap(3, place(2), pool->size, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	p_read(3, place(2), 1);
	want("and a third mapping", first, "hugetlb", 2, UNKNOWN);
	fmi_audit("all");
	fmi_covered();
	/* Who made the mapping leaves, without a call. */
	p_exit(1);
	want("the first is gone", first, "hugetlb", 2, UNKNOWN);
	want("the first is gone", second, "hugetlb", 1, UNKNOWN);
	fmi_audit("all");
	p_exit(3);
	want("the third is gone", first, "hugetlb", 1, UNKNOWN);
	/* Now it is alone, and a part goes by a call. */
	p_madvise(2, place(1), pool->size, MADV_DONTNEED);
	want("unmapped", first, "hugetlb", 0, 0);
	want("the other one stays", second, "hugetlb", 1, UNKNOWN);
	/* What is mapped anew has one process again. */
	p_read(2, place(1), 1);
	want("mapped again", first, "hugetlb", 1, 1);
	p_exit(2);
	want("all are gone", first, "hugetlb", 0, 0);
	want("all are gone", second, "hugetlb", 0, 0);
	close(fd);
	drain(pool);
}

/* Tracked from the middle: what is mapped, and through which table, is found by the scan. */
static void a_scan_finds_hugetlb(struct fmi_scene *s)
{
	const struct pool *pool;
	unsigned long pfn, shared;
	int fd;

	(void)s;
	needs_tracepoints();
	pool = pool_of(pmd_size, 4);
	fd = memfd_of(pool, GIB);
	p_start(1);
	p_start(2);
	map(1, pool, 0, 1, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	map(1, pool, 1, GIB / pool->size, MAP_SHARED, fd);
	map(2, pool, 1, GIB / pool->size, MAP_SHARED, fd);
	p_write(1, place(0), 1);
	p_write(1, place(1), 1);
	p_read(2, place(1), 1);
	pfn = pfn_at(1, place(0));
	shared = pfn_at(2, place(1));
	fmi_assert(fmi_write("enable", "0") > 0 && fmi_write("enable", "1") > 0, "enable");
	want("found", pfn, "hugetlb", 1, 1);
	fmi_eq(number(fmi_report_pfn(shared), "entire"), number(fmi_report_pfn(shared), "total"),
	       "found");
	fmi_covered();
	fmi_audit("all");
	p_exit(1);
	want("gone", pfn, "hugetlb", 0, 0);
	p_exit(2);
	want("gone", shared, "hugetlb", 0, 0);
	close(fd);
	drain(pool);
}

/* Without addresses: counted, and left alone. */
static void functions_count_only(struct fmi_scene *s)
{
	const struct pool *pool;
	const char *report;
	char text[64] = "";
	long long events;

	(void)s;
	if (fmi_tracepoints())
		fmi_skip("the events have addresses");
	pool = pool_of(pmd_size, 2);
	events = fmi_stat("events_hugetlb");
	p_start(1);
	map(1, pool, 0, 1, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	p_write(1, place(0), 1);
	fmi_eq(fmi_stat("events_hugetlb"), events + 1, "events_hugetlb");
	report = fmi_report_pfn(pfn_at(1, place(0)));
	fmi_assert(text_find(report, "state", text, sizeof(text)) && strcmp(text, "tracked"),
		   "tracked:\n%s", report);
	/* Nor does a scan take in what the hooks cannot follow. */
	fmi_assert(fmi_write("enable", "0") > 0 && fmi_write("enable", "1") > 0, "enable");
	report = fmi_report_pfn(pfn_at(1, place(0)));
	fmi_assert(text_find(report, "state", text, sizeof(text)) && strcmp(text, "tracked"),
		   "tracked by a scan:\n%s", report);
	fmi_covered();
	fmi_audit("all");
	p_exit(1);
	fmi_audit("all");
	drain(pool);
}

/* Maps the ring of a packet socket in the actor: pages of two folios of 16 pages. */
static long map_ring(unsigned long va, unsigned long len, unsigned long c, unsigned long d)
{
	struct tpacket_req req = {
		.tp_block_size = (unsigned int)(len / 2),
		.tp_block_nr = 2,
		.tp_frame_size = 2048,
		.tp_frame_nr = (unsigned int)(len / 2048),
	};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	(void)c;
	(void)d;
	if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)))
		return -errno;
	if (mmap((void *)va, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
	    MAP_FAILED)
		return -errno;
	return fd;
}

static void want_driver(const char *what, unsigned long pfn, long long total, long long mms)
{
	const char *report = fmi_report_pfn(pfn);
	char text[64] = "";

	fmi_assert(text_find(report, "type", text, sizeof(text)) && !strcmp(text, "driver"),
		   "%s: type %s", what, text);
	fmi_assert(text_find(report, "state", text, sizeof(text)), "%s: no state", what);
	fmi_eq(!strcmp(text, "tracked"), total > 0, what);
	if (!total)
		return;
	fmi_eq(number(report, "total"), total, what);
	fmi_eq(number(report, "mm"), mms, what);
	fmi_eq(number(report, "entire"), 0, what);
	fmi_assert(text_find(report, "compare", text, sizeof(text)) && !strcmp(text, "equal"),
		   "%s: the kernel's counters: %s\n%s", what, text, report);
}

static void driver_pages_are_tracked(struct fmi_scene *s)
{
	unsigned long len = 2 * 16 * pgsz, pfn;

	(void)s;
	needs_tracepoints();
	p_start(1);
	if (p_call(1, map_ring, place(0), len, 0, 0) < 0)
		fmi_skip("no packet ring");
	folio_order(pfn_at(1, place(0)), &pfn);
	want_driver("mapped", pfn, 16, 1);
	fmi_audit("all");
	p_fork(1, 2);
	want_driver("forked", pfn, 32, 2);
	/* Written to: the zap tells of these when the TLB is flushed, without an address. */
	p_write(2, place(0), 16);
	p_munmap(2, place(0), 3 * pgsz);
	want_driver("three pages unmapped", pfn, 29, 2);
	fmi_audit("all");
	p_mremap(2, place(0) + 3 * pgsz, 13 * pgsz, place(1), 0);
	want_driver("moved", pfn, 29, 2);
	fmi_audit("all");
	p_exit(1);
	want_driver("the first is gone", pfn, 13, 1);
	fmi_eq(number(fmi_report_pfn(pfn), "vma"), 1, "VMAs");
	/* Three VMAs, which do not become one again: such a VMA wants to know of its end. */
	p_mprotect(2, place(1) + 4 * pgsz, 4 * pgsz, PROT_READ);
	want_driver("protected in part", pfn, 13, 1);
	fmi_eq(number(fmi_report_pfn(pfn), "vma"), 3, "VMAs, protected in part");
	fmi_audit("all");
	p_exit(2);
}

static const struct fmi_test tests[] = {
	{ "functions_count_only", functions_count_only, ON_ONCE },
	{ "private_is_tracked", private_is_tracked, ON_ONCE },
	{ "shared_is_tracked", shared_is_tracked, ON_ONCE },
	{ "a_table_maps_it_twice", a_table_maps_it_twice, ON_ONCE },
	{ "migration_is_tracked", migration_is_tracked, ON_ONCE },
	{ "page_tables_are_shared", page_tables_are_shared, ON_ONCE },
	{ "a_scan_finds_hugetlb", a_scan_finds_hugetlb, ON_ONCE },
	{ "driver_pages_are_tracked", driver_pages_are_tracked, ON_ONCE },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
