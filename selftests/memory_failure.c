// SPDX-License-Identifier: GPL-2.0
/*
 * Memory failure: a page of a folio is taken out of use, softly (its contents move) or hard
 * (they are lost). Both split the folio first.
 */
#include <errno.h>
#include <linux/kernel-page-flags.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_life.h"
#include "fmi_util.h"

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif
#ifndef MADV_HWPOISON
#define MADV_HWPOISON 100
#endif

#define NR_HUGEPAGES "/proc/sys/vm/nr_hugepages"
#define MEMORY "/sys/devices/system/memory/"
#define UNPOISON "/sys/kernel/debug/hwpoison/unpoison-pfn"

static void need(const char *path)
{
	if (access(path, W_OK))
		fmi_skip("no %s", path);
}

static void populate(struct fmi_scene *s)
{
	need(MEMORY "soft_offline_page");
	s_populate(s);
	p_fill(1, s->va, s->nr, 4);
	if (s->kind != FMI_ANON)
		fmi_assert(!fsync(s->fd), "fsync: %s", strerror(errno));
}

static void second(struct fmi_scene *s)
{
	if (s->kind == FMI_ANON) {
		s_fork(s, 1, 2);
	} else {
		p_start(2);
		s_map(s, 2, s->va, s->size, 0);
		p_read(2, s->va, s->nr);
		s_mapped_whole(s, 2, s->va);
	}
	s_check(s, "two processes");
}

/* Puts one page out of use; 0 or -errno. */
static int offline(const char *how, unsigned long pfn)
{
	char path[64], text[32];
	int ret;

	snprintf(path, sizeof(path), MEMORY "%s_offline_page", how);
	snprintf(text, sizeof(text), "0x%lx", pfn * pgsz);
	ret = write_text(path, text);
	return ret < 0 ? ret : 0;
}

/* Everybody has left: gives the page back, where the kernel can. */
static void heal(unsigned long pfn)
{
	char text[32];

	for (int who = 1; who < FMI_ACTORS; who++) {
		if (p_pid(who))
			p_exit(who);
	}
	if (!(page_flags(pfn) >> KPF_HWPOISON & 1))
		return;
	snprintf(text, sizeof(text), "%lu", pfn);
	write_text(UNPOISON, text);
}

static void poisoned(unsigned long pfn)
{
	fmi_assert(page_flags(pfn) >> KPF_HWPOISON & 1, "page %lu is not out of use", pfn);
}

/* All pages but one are what they were, in the processes that there are. */
static void others_are_there(struct fmi_scene *s, unsigned long but)
{
	for (int who = 1; who <= 2; who++) {
		if (!p_pid(who))
			continue;
		p_verify(who, s->va, but, 4);
		p_verify(who, s_page(s, but + 1), s->nr - but - 1, 4);
	}
}

static void soft_with(struct fmi_scene *s, bool by_address)
{
	unsigned long page = s->nr / 2;
	unsigned long pfn = pagemap_pfn(p_pid(1), s_page(s, page));
	int ret;

	if (by_address)
		ret = p_try_madvise(1, s_page(s, page), pgsz, MADV_SOFT_OFFLINE);
	else
		ret = offline("soft", pfn);
	fmi_assert(!ret, "soft offline: %s", strerror(-ret));
	poisoned(pfn);
	s_gone(s, "taken softly");
	p_verify(1, s->va, s->nr, 4);
	others_are_there(s, page);
	fmi_assert(pagemap_pfn(p_pid(1), s_page(s, page)) != pfn, "still mapped");
	s_check_found(s, "taken softly");
	fmi_eq(s_pages_of_order(s, s->order), 0, "pages in folios of the old size");
	heal(pfn);
}

static void soft(struct fmi_scene *s)
{
	populate(s);
	soft_with(s, false);
}

static void soft_shared_by_address(struct fmi_scene *s)
{
	populate(s);
	second(s);
	soft_with(s, true);
}

/* What cannot be split stays in use. */
static void soft_pinned(struct fmi_scene *s)
{
	unsigned long pfn;
	int ret;

	populate(s);
	second(s);
	pfn = pagemap_pfn(p_pid(1), s_page(s, s->nr / 2));
	p_vmsplice(1, s->va, pgsz);
	ret = offline("soft", pfn);
	fmi_assert(ret < 0, "taken although it is pinned");
	s_check(s, "pinned: not taken");
	p_unpin(1);
	soft_with(s, false);
}

static void hard_with(struct fmi_scene *s, int ret, unsigned long page, unsigned long pfn)
{
	/* A page of a file comes anew if it was clean, dirty contents are lost. */
	fmi_assert(!ret || ret == -EBUSY, "hard offline: %s", strerror(-ret));
	poisoned(pfn);
	s_gone(s, "taken hard");
	s_check_found(s, "taken hard");
	others_are_there(s, page);
	for (int who = 1; who <= 2; who++) {
		if (p_pid(who))
			fmi_assert(pagemap_pfn(p_pid(who), s_page(s, page)) != pfn, "still mapped");
		if (p_pid(who) && s->kind == FMI_ANON)
			fmi_assert(!p_try_read(who, s_page(s, page)), "what is lost can be read");
	}
	s_check_found(s, "touched");
	fmi_eq(s_pages_of_order(s, s->order), 0, "pages in folios of the old size");
}

static void hard(struct fmi_scene *s)
{
	unsigned long page = s->nr / 2;
	unsigned long pfn;

	populate(s);
	pfn = pagemap_pfn(p_pid(1), s_page(s, page));
	hard_with(s, offline("hard", pfn), page, pfn);
	heal(pfn);
}

static volatile int killed;

static void was_killed(int sig)
{
	(void)sig;
	killed = 1;
}

/* The signal comes when the system call returns. */
static long do_poison(unsigned long va, unsigned long b, unsigned long c, unsigned long d)
{
	struct sigaction action = { .sa_handler = was_killed };
	struct sigaction before;
	long ret;

	(void)b;
	(void)c;
	(void)d;
	sigaction(SIGBUS, &action, &before);
	ret = madvise((void *)va, pgsz, MADV_HWPOISON);
	sigaction(SIGBUS, &before, NULL);
	return ret;
}

static void hard_shared_by_address(struct fmi_scene *s)
{
	unsigned long pfn;
	int ret;

	populate(s);
	second(s);
	pfn = pagemap_pfn(p_pid(1), s->va);
	ret = (int)p_call(1, do_poison, s->va, 0, 0, 0);
	hard_with(s, ret, 0, pfn);
	s_exit(s, 1);
	s_check_found(s, "one process gone");
	heal(pfn);
}

/* A failure in a folio that cannot be split: nobody can use the page, but it stays mapped. */
static void hard_pinned(struct fmi_scene *s)
{
	unsigned long pfn;
	int ret;

	populate(s);
	second(s);
	pfn = pagemap_pfn(p_pid(1), s_page(s, s->nr - 1));
	p_vmsplice(1, s->va, pgsz);
	ret = offline("hard", pfn);
	fmi_assert(ret < 0, "taken although it is pinned");
	s_check(s, "pinned: still mapped");
	poisoned(pfn);
	s_exit(s, 2);
	s_check(s, "one process gone");
	p_unpin(1);
	s_exit(s, 1);
	s_gone(s, "both gone");
	heal(pfn);
}

/* What the shadow knows of a folio: its mappings, 0 if it is not tracked. */
static long long known_mappings(unsigned long pfn)
{
	const char *report = fmi_report_pfn(pfn);
	char text[32] = "";

	if (!text_find(report, "state", text, sizeof(text)) || strcmp(text, "tracked"))
		return 0;
	return text_value(report, "total");
}

/* hugetlb has a function of its own for this, which unmaps the folio from everybody. */
static void hard_hugetlb(struct fmi_scene *s)
{
	const unsigned long va = 64UL << 30;
	unsigned long pfn;
	char before[32], value[32];
	int ret;

	(void)s;
	if (!fmi_tracepoints())
		fmi_skip("without tracepoints hugetlb is only counted");
	need(MEMORY "hard_offline_page");
	fmi_assert(read_text(NR_HUGEPAGES, before, sizeof(before)) > 0, "no " NR_HUGEPAGES);
	write_text(NR_HUGEPAGES, "2");
	p_start(1);
	if (read_text(NR_HUGEPAGES, value, sizeof(value)) <= 0 || atoi(value) < 1)
		fmi_skip("no folios of hugetlb");
	p_mmap(1, va, pmd_size, PROT_READ | PROT_WRITE,
	       MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	p_write(1, va, 1);
	p_fork(1, 2);
	p_read(2, va, 1);
	pfn = pagemap_pfn(p_pid(1), va);
	fmi_eq(known_mappings(pfn), 2, "mappings");
	ret = offline("hard", pfn);
	fmi_assert(!ret || ret == -EBUSY, "hard offline: %s", strerror(-ret));
	poisoned(pfn);
	fmi_eq(known_mappings(pfn), 0, "mappings after it was taken");
	fmi_assert(!p_try_read(2, va), "what is lost can be read");
	fmi_eq(fmi_stat("operation_unknown"), 0, "unknown callers");
	fmi_audit("all");
	heal(pfn);
	write_text(NR_HUGEPAGES, before);
}

static const struct fmi_test tests[] = {
	{ "soft", soft, ON_EACH | FEW_SIZES },
	{ "soft_shared_by_address", soft_shared_by_address, ON_EACH },
	{ "soft_pinned", soft_pinned, ON_EACH | FEW_SIZES },
	{ "hard", hard, ON_EACH },
	{ "hard_shared_by_address", hard_shared_by_address, ON_ANON },
	{ "hard_pinned", hard_pinned, ON_ANON | FEW_SIZES },
	{ "hard_hugetlb", hard_hugetlb, ON_ONCE },
};

int main(int argc, char **argv)
{
	/* For the way back; without it a few pages are lost. */
	int ret = system("modprobe hwpoison-inject 2>/dev/null");

	(void)ret;
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
