// SPDX-License-Identifier: GPL-2.0
/*
 * The census of question 10 against what the test maps itself: rings of drivers,
 * PFN mappings, zero pages, hugetlb, and folios of every kind.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_questions.h"
#include "fmi_scene.h"
#include "fmi_util.h"

static const char *line_of(const char *kind, unsigned int order)
{
	static char line[80];

	snprintf(line, sizeof(line), "census_%s_order_%u", kind, order);
	return line;
}

static const char *folio_line(const struct fmi_scene *s)
{
	char kind[32];

	snprintf(kind, sizeof(kind), "plain_normal_%s", kind_name(s->kind));
	return line_of(kind, s->order);
}

static void folios_are_counted(struct fmi_scene *s)
{
	bool pmd = s->order == pmd_order;
	long long entries = pmd ? 1 : (long long)s->nr;

	q_begin();
	s_populate(s);
	q_read();
	q_census_want("populated", folio_line(s), entries);
	q_want("populated", "census_entries_pmd", pmd);
	q_want("populated", "census_processes", 1);
	/* An anonymous PMD is split, one of a file goes. */
	s_munmap(s, 1, 0, s->nr / 2);
	s_check(s, "half unmapped");
	q_read();
	q_census_want("half", folio_line(s), pmd && s->kind != FMI_ANON ? 0 : (long long)s->nr / 2);
	q_want("half", "census_entries_pmd", 0);
	if (s->kind == FMI_ANON) {
		s_fork(s, 1, 2);
		q_read();
		q_census_want("forked", folio_line(s), (long long)s->nr);
		q_want("forked", "census_processes", 2);
		s_exit(s, 2);
	}
	s_exit(s, 1);
	q_read();
	q_census_want("gone", folio_line(s), 0);
	q_want("gone", "census_processes", 0);
}

static void zero_pages_are_counted(struct fmi_scene *s)
{
	p_start(1);
	p_mmap(1, s->va, 16 * pgsz, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	q_begin();
	p_read(1, s->va, 16);
	q_read();
	q_census_want("read", line_of("plain_special_zero", 0), 16);
	q_want("read", "census_of_zero", 16);
	q_want("read", "census_neither_file_nor_anon", 16);
	p_munmap(1, s->va, 16 * pgsz);
	q_read();
	q_want("unmapped", "census_of_zero", 0);
}

static void the_huge_zero_page_is_counted(struct fmi_scene *s)
{
	char use[8] = "";

	read_text("/sys/kernel/mm/transparent_hugepage/use_zero_page", use, sizeof(use));
	if (use[0] != '1' || !thp_size_exists(FMI_ANON, pmd_order))
		fmi_skip("no huge zero page");
	p_start(1);
	p_mmap(1, s->va, pmd_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	q_begin();
	thp_only(FMI_ANON, pmd_order, "always");
	p_read(1, s->va, 1);
	thp_never();
	q_read();
	q_census_want("read", line_of("plain_special_zero", pmd_order), 1);
	q_want("read", "census_entries_pmd", 1);
	/* Of the half that is left every page is the small zero page. */
	p_munmap(1, s->va, pmd_size / 2);
	q_read();
	q_census_want("half", line_of("plain_special_zero", pmd_order), 0);
	q_census_want("half", line_of("plain_special_zero", 0), (long long)(pmd_size / 2 / pgsz));
}

static char huge_before[32];

static void huge_restore(void)
{
	write_text("/proc/sys/vm/nr_hugepages", huge_before);
}

static void hugetlb_is_counted(struct fmi_scene *s)
{
	char line[64], value[32] = "";
	unsigned int order = 0;
	long kb = 0;
	FILE *meminfo = fopen("/proc/meminfo", "re");

	while (meminfo && fgets(line, sizeof(line), meminfo))
		sscanf(line, "Hugepagesize: %ld kB", &kb);
	if (meminfo)
		fclose(meminfo);
	if (!kb || read_text("/proc/sys/vm/nr_hugepages", huge_before, sizeof(huge_before)) <= 0)
		fmi_skip("no hugetlb");
	order = (unsigned int)__builtin_ctzl((unsigned long)kb * 1024 / pgsz);
	write_text("/proc/sys/vm/nr_hugepages", "8\n");
	read_text("/proc/sys/vm/nr_hugepages", value, sizeof(value));
	if (atoi(value) < 8 || (unsigned long)kb * 1024 != pmd_size) {
		huge_restore();
		fmi_skip("no hugetlb folios of the size of a PMD");
	}
	p_start(1);
	p_mmap(1, s->va, 3 * pmd_size, PROT_READ | PROT_WRITE,
	       MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	q_begin();
	/* The first and the last. */
	p_write(1, s->va, 1);
	p_write(1, s->va + 2 * pmd_size, 1);
	/* What is in use stays. */
	huge_restore();
	q_read();
	q_census_want("written", line_of("plain_normal_hugetlb", order), 2);
	q_want("written", "census_of_hugetlb", 2);
	q_want("written", "census_entries_pmd", 2);
	q_want("written", "census_neither_file_nor_anon", 0);
	p_exit(1);
	q_read();
	q_census_want("gone", line_of("plain_normal_hugetlb", order), 0);
}

/* The driver gives memory that it has from the buddy allocator: vm_insert_page(). */
static void packet_rings_are_counted(struct fmi_scene *s)
{
	unsigned long len = 2 * 16 * pgsz;
	struct tpacket_req req = {
		.tp_block_size = (unsigned int)(16 * pgsz),
		.tp_block_nr = 2,
		.tp_frame_size = 2048,
		.tp_frame_nr = (unsigned int)(len / 2048),
	};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	long long calls;
	void *ring;

	(void)s;
	if (fd < 0)
		fmi_skip("no packet sockets: %s", strerror(errno));
	fmi_assert(!setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)),
		   "PACKET_RX_RING: %s", strerror(errno));
	q_begin();
	ring = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	fmi_assert(ring != MAP_FAILED, "mmap: %s", strerror(errno));
	q_read();
	q_census_want("mapped", line_of("mixedmap_normal_driver", 4), 32);
	q_want("mapped", "census_in_mixedmap", 32);
	q_want("mapped", "census_of_driver", 32);
	q_want("mapped", "census_neither_file_nor_anon", 32);
	/* rmap is called for each, although it is no folio that rmap knows. */
	q_want("mapped", "events_not_rmappable", fmi_tracepoints() ? 0 : 32);
	fmi_eq(q_figure("events_not_rmappable"), fmi_stat("events_not_rmappable"), "stats");
	munmap(ring, len);
	q_read();
	q_census_want("unmapped", line_of("mixedmap_normal_driver", 4), 0);
	q_want("unmapped", "census_in_mixedmap", 0);
	calls = q_change("events_not_rmappable");
	if (fmi_tracepoints())
		fmi_eq(calls, 0, "calls that are left alone");
	else
		fmi_assert(calls > 32 && calls <= 64, "%lld calls", calls);
	close(fd);
}

static void uring_rings_are_counted(struct fmi_scene *s)
{
	struct io_uring_params params = { 0 };
	int fd = (int)syscall(__NR_io_uring_setup, 64, &params);
	unsigned long len, sqes;
	long long pages;
	void *ring, *queue;

	(void)s;
	if (fd < 0)
		fmi_skip("no io_uring: %s", strerror(errno));
	len = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
	sqes = params.sq_entries * sizeof(struct io_uring_sqe);
	q_begin();
	ring = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
		    IORING_OFF_SQ_RING);
	queue = mmap(NULL, sqes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
		     IORING_OFF_SQES);
	fmi_assert(ring != MAP_FAILED && queue != MAP_FAILED, "mmap: %s", strerror(errno));
	pages = (long long)((len + pgsz - 1) / pgsz + (sqes + pgsz - 1) / pgsz);
	q_read();
	/* Of whichever order. */
	fmi_eq(q_census_sum("census_mixedmap_normal_driver_order_"), pages, "pages of the rings");
	q_want("mapped", "census_in_mixedmap", pages);
	q_want("mapped", "census_of_driver", pages);
	munmap(ring, len);
	munmap(queue, sqes);
	close(fd);
	q_read();
	q_want("unmapped", "census_in_mixedmap", 0);
}

/* remap_pfn_range() of memory. */
static void perf_buffers_are_counted(struct fmi_scene *s)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.disabled = 1,
	};
	int fd = (int)syscall(__NR_perf_event_open, &attr, 0, -1, -1, 0);
	void *buffer;

	(void)s;
	if (fd < 0)
		fmi_skip("no perf events: %s", strerror(errno));
	q_begin();
	buffer = mmap(NULL, 9 * pgsz, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	fmi_assert(buffer != MAP_FAILED, "mmap: %s", strerror(errno));
	q_read();
	q_want("mapped", "census_in_pfnmap", 9);
	q_census_want("mapped", line_of("pfnmap_special_page", 0), 9);
	q_want("mapped", "census_neither_file_nor_anon", 9);
	munmap(buffer, 9 * pgsz);
	close(fd);
	q_read();
	q_want("unmapped", "census_in_pfnmap", 0);
}

/* Addresses where there is no memory: mapped, and never touched. */
static void pfns_without_pages_are_counted(struct fmi_scene *s)
{
	int fd = open("/dev/mem", O_RDONLY | O_CLOEXEC);
	void *mem;

	(void)s;
	if (fd < 0)
		fmi_skip("no /dev/mem: %s", strerror(errno));
	q_begin();
	mem = mmap(NULL, 4 * pgsz, PROT_READ, MAP_SHARED, fd, 0x3f00000000);
	if (mem == MAP_FAILED)
		fmi_skip("/dev/mem: %s", strerror(errno));
	q_read();
	q_want("mapped", "census_in_pfnmap", 4);
	q_census_want("mapped", line_of("pfnmap_special_no_page", 0), 4);
	munmap(mem, 4 * pgsz);
	close(fd);
	q_read();
	q_want("unmapped", "census_of_no_page", 0);
}

static const struct fmi_test tests[] = {
	{ "folios_are_counted", folios_are_counted, ON_EACH },
	{ "zero_pages_are_counted", zero_pages_are_counted, ON_ONCE },
	{ "the_huge_zero_page_is_counted", the_huge_zero_page_is_counted, ON_ONCE },
	{ "hugetlb_is_counted", hugetlb_is_counted, ON_ONCE },
	{ "packet_rings_are_counted", packet_rings_are_counted, ON_ONCE },
	{ "uring_rings_are_counted", uring_rings_are_counted, ON_ONCE },
	{ "perf_buffers_are_counted", perf_buffers_are_counted, ON_ONCE },
	{ "pfns_without_pages_are_counted", pfns_without_pages_are_counted, ON_ONCE },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
