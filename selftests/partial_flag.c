// SPDX-License-Identifier: GPL-2.0
/*
 * PG_partially_mapped, which follows removed mappings, against the mappings that are there:
 * Documentation/kernel/k5-partially-mapped.rst. A kernel that does better skips the case.
 */
#include <errno.h>
#include <linux/kernel-page-flags.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_swap.h"
#include "fmi_util.h"

#define TRIES 100

static void need_swap(void)
{
	if (!*swap_device)
		fmi_skip("%s", swap_why_not);
	swap_on();
}

/* How many folios of this size the kernel takes for partially mapped. */
static long long counted(const struct fmi_scene *s)
{
	char path[128], text[32];

	snprintf(path, sizeof(path),
		 "/sys/kernel/mm/transparent_hugepage/hugepages-%lukB/stats/nr_anon_partially_mapped",
		 s->size / 1024);
	fmi_assert(read_text(path, text, sizeof(text)) > 0, "no %s", path);
	return strtoll(text, NULL, 10);
}

/*
 * Is the folio partially mapped, by its mappings and by the kernel? Both ways to ask the kernel
 * must agree: the flag, and the sum over all folios, which was `before`.
 */
static void check_flag(struct fmi_scene *s, const char *what, bool truth, bool flag,
		       long long before)
{
	const char *report = fmi_report_pfn(s->e.pfn);
	char want[64];
	const char *line;
	long long got;

	snprintf(want, sizeof(want), "answer: partial truth=%s", truth ? "yes" : "no");
	line = strstr(report, want);
	fmi_assert(line, "%s: no '%s'", what, want);
	got = text_value(report, "kernel_partially_mapped");
	if (got != truth)
		fmi_note("%s, %lld of %lu pages mapped: %.*s", what,
			 text_value(report, "nr_pages_mapped"), s->nr, (int)strcspn(line, "\n"),
			 line);
	fmi_eq(counted(s) - before, got, "change of nr_anon_partially_mapped");
	if (got != flag && got == truth)
		fmi_skip("this kernel does not get it wrong");
	fmi_eq(got, flag, what);
}

/* The shrinker of the deferred split queue looks at everything that is on it. */
static void shrink(void)
{
	fmi_assert(write_text("/proc/sys/vm/drop_caches", "2") > 0, "no drop_caches");
}

static bool still_large(struct fmi_scene *s)
{
	unsigned long head;

	return folio_order(s->e.pfn, &head) == s->order && head == s->e.pfn;
}

/* Something in every page, because pages of zeros may become the zero page. */
static void populate(struct fmi_scene *s)
{
	s_populate(s);
	p_write(1, s->va, s->nr);
}

static void mapped_pages_are_zapped(struct fmi_scene *s)
{
	long long before = counted(s);

	populate(s);
	check_flag(s, "mapped as a whole", false, false, before);
	s_dontneed(s, 1, 0, s->nr / 2);
	s_check(s, "half of it");
	check_flag(s, "half of it", true, true, before);
	shrink();
	fmi_assert(!still_large(s), "the shrinker did not split it");
	fmi_eq(counted(s) - before, 0, "partially mapped after the split");
	s_check_found(s, "split");
}

/* The folio is unmapped and written to the device, and still in the swap cache. */
static void swap_out(struct fmi_scene *s)
{
	need_swap();
	populate(s);
	p_madvise(1, s->va, s->size, MADV_PAGEOUT);
	for (unsigned long i = 0; i < s->nr; i++)
		fmi_assert(pagemap_swapped(p_pid(1), s_page(s, i)), "page %lu is not swapped out",
			   i);
	ex_unmap(&s->e, 1, s->va, s->size);
}

/* Maps pages again; they must be the same. */
static void swap_in(struct fmi_scene *s, unsigned long first, unsigned long nr)
{
	p_read(1, s_page(s, first), nr);
	for (unsigned long i = first; i < first + nr; i++) {
		if (pagemap_pfn(p_pid(1), s_page(s, i)) != s->e.pfn + i)
			fmi_skip("the folio did not stay in the swap cache");
	}
	ex_map(&s->e, 1, s_page(s, first), (int)first, (int)nr);
}

static void swap_entries_are_zapped(struct fmi_scene *s)
{
	long long before = counted(s);

	swap_out(s);
	p_madvise(1, s->va, s->size / 2, MADV_DONTNEED);
	swap_in(s, s->nr / 2, s->nr / 2);
	s_check(s, "half of it swapped in");
	check_flag(s, "half of it swapped in", true, false, before);
	fmi_assert(!swapoff(swap_device), "swapoff: %s", strerror(errno));
	fmi_assert(!(page_flags(s->e.pfn) & (1ULL << KPF_SWAPCACHE)), "still in the swap cache");
	shrink();
	fmi_assert(still_large(s), "the shrinker split it");
	s_check(s, "out of the swap cache");
	check_flag(s, "out of the swap cache", true, false, before);
	/* The next page that is removed makes up for it. */
	if (s->nr > 4) {
		s_dontneed(s, 1, s->nr - 1, 1);
		s_check(s, "one page less");
		check_flag(s, "one page less", true, true, before);
	}
}

static void zapped_in_the_swap_cache(struct fmi_scene *s)
{
	long long before = counted(s);

	swap_out(s);
	swap_in(s, 0, s->nr);
	fmi_assert(page_flags(s->e.pfn) & (1ULL << KPF_SWAPCACHE), "not in the swap cache");
	s_check(s, "swapped in");
	s_dontneed(s, 1, 0, s->nr / 2);
	s_check(s, "half of it");
	check_flag(s, "half of it", true, false, before);
	fmi_assert(!swapoff(swap_device), "swapoff: %s", strerror(errno));
	fmi_assert(!(page_flags(s->e.pfn) & (1ULL << KPF_SWAPCACHE)), "still in the swap cache");
	shrink();
	fmi_assert(still_large(s), "the shrinker split it");
	s_check(s, "out of the swap cache");
	check_flag(s, "out of the swap cache", true, false, before);
}

static void need_nodes(void)
{
	if (access("/sys/devices/system/node/node1", F_OK))
		fmi_skip("one memory node only");
}

/* Another process moves the folio of actor 1 to a node. */
static pid_t start_move(struct fmi_scene *s, int node)
{
	pid_t pid = fork();

	fmi_assert(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		void *page = (void *)s->va;
		int status;

		syscall(SYS_move_pages, p_pid(1), 1UL, &page, &node, &status, 1 << 1);
		_exit(0);
	}
	return pid;
}

/* While the PMD is a migration entry, half of it goes: there is no mapping to remove. */
static void migration_entries_are_zapped(struct fmi_scene *s)
{
	need_nodes();
	populate(s);
	for (int i = 0; i < TRIES; i++) {
		long long before = counted(s);
		unsigned long last;
		bool met = false;
		pid_t pid = start_move(s, i % 2 ? 0 : 1);

		while (!met && !waitpid(pid, NULL, WNOHANG))
			met = pagemap_swapped(p_pid(1), s->va);
		p_madvise(1, s->va, s->size / 2, MADV_DONTNEED);
		waitpid(pid, NULL, 0);
		last = pagemap_pfn(p_pid(1), s_page(s, s->nr - 1));
		fmi_assert(last, "the other half is not mapped");
		s->e.nr_mappings = 0;
		s->e.pfn = last - s->nr + 1;
		if (still_large(s)) {
			ex_map(&s->e, 1, s_page(s, s->nr / 2), (int)s->nr / 2, (int)s->nr / 2);
			s_check(s, "half of it after migration");
			if (!text_value(fmi_report_pfn(s->e.pfn), "kernel_partially_mapped")) {
				check_flag(s, "half of it after migration", true, false, before);
				return;
			}
		}
		/* Too early or too late. Once more, with a new folio. */
		p_madvise(1, s->va, s->size, MADV_DONTNEED);
		s->e.nr_mappings = 0;
		s_fault(s, 1, s->va);
		p_write(1, s->va, s->nr);
	}
	fmi_skip("no zap met a migration entry, or this kernel does not get it wrong");
}

/* The reverse: PTEs become migration entries one by one, and the first makes it "partial". */
static void migration_sets_the_flag(struct fmi_scene *s)
{
	long long before = counted(s);

	need_nodes();
	populate(s);
	for (int node = 1; node >= 0; node--) {
		unsigned long pfn;

		p_move_pages(1, s->va, 1, node);
		pfn = pagemap_pfn(p_pid(1), s->va);
		if (pfn != s->e.pfn) {
			s->e.pfn = pfn;
			fmi_assert(still_large(s), "it was split");
			s_check(s, "moved");
			check_flag(s, "moved", false, true, before);
			shrink();
			fmi_assert(!still_large(s), "the shrinker did not split it");
			return;
		}
	}
	fmi_fail("the folio never moved");
}

static const struct fmi_test tests[] = {
	{ "mapped_pages_are_zapped", mapped_pages_are_zapped, ON_ANON | NOT_ORDER1 },
	{ "swap_entries_are_zapped", swap_entries_are_zapped, ON_ANON | NOT_ORDER1 },
	{ "zapped_in_the_swap_cache", zapped_in_the_swap_cache, ON_ANON | NOT_ORDER1 },
	{ "migration_entries_are_zapped", migration_entries_are_zapped, ON_ANON | PMD_ONLY },
	{ "migration_sets_the_flag", migration_sets_the_flag, ON_ANON | PTE_ONLY | NOT_ORDER1 },
};

int main(int argc, char **argv)
{
	int ret;

	fmi_util_init();
	swap_start_slow();
	ret = fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
	swap_stop();
	return ret;
}
