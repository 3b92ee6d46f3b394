// SPDX-License-Identifier: GPL-2.0
/* KSM: it splits the folios whose pages it merges; what is merged is no large folio any more. */
#include <errno.h>
#include <linux/kernel-page-flags.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_life.h"
#include "fmi_util.h"

#define KSM "/sys/kernel/mm/ksm/"

static char saved[4][32];
static const char *const settings[] = { "run", "pages_to_scan", "sleep_millisecs", "smart_scan" };

static void ksm_set(const char *name, const char *value)
{
	char path[64];

	snprintf(path, sizeof(path), KSM "%s", name);
	write_text(path, value);
}

static void ksm_save(void)
{
	char path[64];

	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		snprintf(path, sizeof(path), KSM "%s", settings[i]);
		read_text(path, saved[i], sizeof(saved[i]));
	}
	ksm_set("run", "0");
}

static void ksm_restore(void)
{
	/* What is still merged comes apart. */
	ksm_set("run", "2");
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		ksm_set(settings[i], saved[i]);
}

static bool is_ksm(int who, unsigned long va)
{
	unsigned long pfn = pagemap_pfn(p_pid(who), va);

	return pfn && (page_flags(pfn) >> KPF_KSM & 1);
}

static unsigned long merged(struct fmi_scene *s)
{
	unsigned long nr = 0;

	for (int i = 0; i < s->e.nr_vmas; i++) {
		const struct ex_vma *vma = &s->e.vmas[i];

		for (unsigned long va = vma->start; va < vma->end; va += pgsz)
			nr += is_ksm(vma->who, va);
	}
	return nr;
}

static void merge(struct fmi_scene *s, unsigned long want)
{
	if (access(KSM "run", W_OK))
		fmi_skip("no KSM");
	ksm_set("pages_to_scan", "20000");
	ksm_set("sleep_millisecs", "5");
	ksm_set("smart_scan", "0");
	ksm_set("run", "1");
	fmi_wait_until(merged(s) >= want, "KSM: %lu pages are to be the same, not %lu", want,
		       merged(s));
	ksm_set("run", "0");
	fmi_eq(merged(s), want, "merged pages");
}

/* Like p_fill(), with the same contents in every page of a kind. */
static long do_same(unsigned long va, unsigned long pages, unsigned long data, unsigned long d)
{
	(void)d;
	for (unsigned long i = 0; i < pages; i++)
		memset((void *)(va + i * pgsz), (int)data, pgsz);
	return 0;
}

static void same(int who, unsigned long va, unsigned long pages, int data)
{
	p_call(who, do_same, va, pages, (unsigned long)data, 0);
}

static void populate(struct fmi_scene *s)
{
	s_populate(s);
	p_fill(1, s->va, s->nr, 9);
}

/* Two pages of one folio: all of it is split. */
static void two_pages_of_a_folio(struct fmi_scene *s)
{
	populate(s);
	same(1, s_page(s, 1), 1, 0x55);
	same(1, s_page(s, s->nr - 1), 1, 0x55);
	p_madvise(1, s->va, s->size, MADV_MERGEABLE);
	s_check(s, "mergeable");
	merge(s, 2);
	s_gone(s, "merged");
	fmi_eq(s_pages_of_order(s, 0), s->nr, "single pages");
	s_check_found(s, "merged");
	p_write(1, s_page(s, 1), 1);
	fmi_eq(merged(s), 1, "merged pages");
	s_check_found(s, "written");
	p_verify(1, s->va, 1, 9);
}

/* A page in each of two processes' folios; the rest is shared by nobody. */
static void two_processes(struct fmi_scene *s)
{
	static struct fmi_expect other;

	populate(s);
	p_start(2);
	thp_only(s->kind, s->order, "always");
	p_mmap(2, s->va, s->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	p_fill(2, s->va, s->nr, 10);
	thp_never();
	ex_init(&other, s->kind, s->order, pagemap_pfn(p_pid(2), s->va));
	ex_vma(&other, 2, s->va, s->va + s->size);
	ex_learn(&other, 2);
	ex_check(&other, "another folio");
	same(1, s_page(s, s->nr / 2), 1, 0x66);
	same(2, s->va, 1, 0x66);
	p_madvise(1, s->va, s->size, MADV_MERGEABLE);
	p_madvise(2, s->va, s->size, MADV_MERGEABLE);
	s_check(s, "mergeable");
	ex_check(&other, "mergeable");
	ex_vma(&s->e, 2, s->va, s->va + s->size);
	merge(s, 2);
	s_gone(s, "merged");
	other.nr_mappings = 0;
	ex_check_gone(&other, "merged");
	fmi_eq(pagemap_pfn(p_pid(1), s_page(s, s->nr / 2)), pagemap_pfn(p_pid(2), s->va),
	       "the merged page");
	s_exit(s, 1);
	s_check_found(s, "one process gone");
	p_madvise(2, s->va, s->size, MADV_UNMERGEABLE);
	fmi_eq(merged(s), 0, "merged pages");
	s_check_found(s, "taken apart");
}

/* What both processes map: in each of them, page by page. */
static void shared_by_fork(struct fmi_scene *s)
{
	populate(s);
	same(1, s->va, 1, 0x77);
	same(1, s_page(s, 1), 1, 0x77);
	s_fork(s, 1, 2);
	p_madvise(1, s->va, s->size, MADV_MERGEABLE);
	s_check(s, "mergeable in the parent");
	/* Two in the parent; one of them is the child's, who did not ask for it. */
	merge(s, 3);
	s_check_found(s, "merged");
	p_write(2, s->va, s->nr);
	s_check_found(s, "the child wrote");
	s_exit(s, 1);
	s_check_found(s, "parent gone");
}

static const struct fmi_test tests[] = {
	{ "two_pages_of_a_folio", two_pages_of_a_folio, ON_ANON },
	{ "two_processes", two_processes, ON_ANON },
	{ "shared_by_fork", shared_by_fork, ON_ANON },
};

int main(int argc, char **argv)
{
	int ret;

	ksm_save();
	ret = fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
	ksm_restore();
	return ret;
}
