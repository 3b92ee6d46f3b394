// SPDX-License-Identifier: GPL-2.0
/*
 * Collapse: pages or smaller folios become one folio, by MADV_COLLAPSE (a PMD) and by
 * khugepaged (every size). The size of a case is that of the folios before, with khugepaged
 * that of the folio that comes out.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_life.h"
#include "fmi_swap.h"
#include "fmi_util.h"

/* Actor 1 maps one PMD's worth of memory, of a file that has `bytes` already. */
static void region(struct fmi_scene *s)
{
	if (s->kind != FMI_ANON)
		s_open(s, pmd_size);
	p_start(1);
	s_map(s, 1, s->va, pmd_size, 0);
}

/* As pages. */
static void small_pages(struct fmi_scene *s)
{
	char *page;

	region(s);
	if (s->kind == FMI_FILE) {
		/* Its first folio is there from the beginning: other pages, one by one. */
		fmi_assert(!ftruncate(s->fd, 0) && !ftruncate(s->fd, (off_t)pmd_size), "ftruncate");
		page = (char *)mmap(NULL, pgsz, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		fmi_assert(page != MAP_FAILED, "no memory");
		for (unsigned long i = 0; i < pmd_size / pgsz; i++)
			fmi_assert(pwrite(s->fd, page, pgsz, (off_t)(i * pgsz)) == (ssize_t)pgsz,
				   "write");
	}
	p_fill(1, s->va, pmd_size / pgsz, 5);
	fmi_assert(s->kind != FMI_FILE || !fsync(s->fd), "fsync");
	fmi_eq(s_pages_of_order(s, 0), pmd_size / pgsz, "single pages");
	s_check_found(s, "single pages");
}

/* As folios of the case's size, all over the region. */
static void fill_with_folios(struct fmi_scene *s)
{
	region(s);
	if (s->kind == FMI_FILE) {
		static char data[1 << 21];

		for (unsigned long at = s->size; at < pmd_size; at += s->size)
			fmi_assert(pwrite(s->fd, data, s->size, (off_t)at) == (ssize_t)s->size,
				   "write");
		p_fill(1, s->va, pmd_size / pgsz, 5);
		fmi_assert(!fsync(s->fd), "fsync");
	} else {
		thp_only(s->kind, s->order, "always");
		p_fill(1, s->va, pmd_size / pgsz, 5);
		thp_never();
	}
	if (s_pages_of_order(s, s->order) != pmd_size / pgsz)
		fmi_skip("the kernel gave folios of order %u",
			 folio_order(pagemap_pfn(p_pid(1), s->va), NULL));
	s_check_found(s, "folios of the case's size");
}

/* The list, from now on, is about the PMD that maps all of it. */
static void check_collapsed(struct fmi_scene *s, const char *what)
{
	struct ex_vma vmas[EX_VMAS];
	int nr_vmas = s->e.nr_vmas;
	unsigned long head = 0;
	unsigned long pfn = pagemap_pfn(p_pid(1), s->va);

	fmi_assert(pfn, "%s: nothing mapped", what);
	fmi_eq(folio_order(pfn, &head), pmd_order, what);
	memcpy(vmas, s->e.vmas, sizeof(vmas));
	ex_init(&s->e, s->kind, pmd_order, pfn);
	memcpy(s->e.vmas, vmas, sizeof(vmas));
	s->e.nr_vmas = nr_vmas;
	s_learn(s);
	s_check(s, what);
	fmi_eq(s->e.nr_mappings, 1, "mappings of the collapsed folio");
	p_verify(1, s->va, pmd_size / pgsz, 5);
}

static void collapse(struct fmi_scene *s, const char *what)
{
	int ret = p_try_madvise(1, s->va, pmd_size, MADV_COLLAPSE);

	fmi_assert(!ret, "%s: MADV_COLLAPSE: %s", what, strerror(-ret));
	check_collapsed(s, what);
}

static void pages_to_pmd(struct fmi_scene *s)
{
	small_pages(s);
	collapse(s, "collapsed");
	s_fork(s, 1, 2);
	if (s->kind == FMI_ANON)
		s_check(s, "forked");
	else
		s_check_found(s, "forked");
}

static void folios_to_pmd(struct fmi_scene *s)
{
	fill_with_folios(s);
	collapse(s, "collapsed");
}

static void half_of_the_folios_to_pmd(struct fmi_scene *s)
{
	fill_with_folios(s);
	/* Holes, and a folio that is mapped in part. */
	p_madvise(1, s->va + pgsz, pmd_size / 2, MADV_DONTNEED);
	s_check_found(s, "half dropped");
	p_fill(1, s->va, pmd_size / pgsz / 4, 5);
	s_check_found(s, "a quarter again");
	fmi_eq(p_try_madvise(1, s->va, pmd_size, MADV_COLLAPSE), 0, "MADV_COLLAPSE");
	fmi_eq(s_pages_of_order(s, pmd_order), pmd_size / pgsz, "pages of the PMD");
	s_check_found(s, "collapsed");
}

/* The child goes on with the old folios. */
static void shared_folios_to_pmd(struct fmi_scene *s)
{
	fill_with_folios(s);
	p_fork(1, 2);
	ex_vma(&s->e, 2, s->va, s->va + pmd_size);
	s_check_found(s, "forked");
	fmi_eq(p_try_madvise(1, s->va, pmd_size, MADV_COLLAPSE), 0, "MADV_COLLAPSE");
	fmi_eq(s_pages_of_order(s, pmd_order), pmd_size / pgsz, "pages of the PMD");
	fmi_eq(s_pages_of_order(s, s->order), pmd_size / pgsz, "pages of the child");
	s_check_found(s, "the parent collapsed");
	p_verify(2, s->va, pmd_size / pgsz, 5);
	fmi_eq(p_try_madvise(2, s->va, pmd_size, MADV_COLLAPSE), 0, "MADV_COLLAPSE");
	fmi_eq(s_pages_of_order(s, pmd_order), 2 * pmd_size / pgsz, "pages of two PMDs");
	s_check_found(s, "both collapsed");
}

/* Everybody else's mappings of a file's folios go, and theirs come back by faults. */
static void shared_file_to_pmd(struct fmi_scene *s)
{
	fill_with_folios(s);
	p_start(2);
	s_map(s, 2, s->va, pmd_size, 0);
	p_read(2, s->va, pmd_size / pgsz);
	s_check_found(s, "two processes");
	fmi_eq(p_try_madvise(1, s->va, pmd_size, MADV_COLLAPSE), 0, "MADV_COLLAPSE");
	s_check_found(s, "collapsed");
	p_verify(2, s->va, pmd_size / pgsz, 5);
	fmi_eq(s_pages_of_order(s, pmd_order), 2 * pmd_size / pgsz, "pages of the PMD");
	s_check_found(s, "faulted in by the other");
}

/* The same folio, first by PTEs, then by a PMD: in between nothing maps it. */
static void the_same_folio(struct fmi_scene *s)
{
	s_populate(s);
	p_fill(1, s->va, s->nr, 5);
	p_madvise(1, s->va, s->size, MADV_NOHUGEPAGE);
	p_madvise(1, s->va, s->size, MADV_DONTNEED);
	p_read(1, s->va, s->nr);
	s_learn(s);
	s_check(s, "mapped by PTEs");
	fmi_assert(s->e.nr_mappings == (int)s->nr, "mapped by %d PTEs", s->e.nr_mappings);
	s_dontneed(s, 1, s->nr / 2, 1);
	p_read(1, s_page(s, s->nr / 2), 1);
	s_learn(s);
	s_check(s, "one page anew");
	p_madvise(1, s->va, s->size, MADV_HUGEPAGE);
	collapse(s, "collapsed");
}

static void a_pinned_page(struct fmi_scene *s)
{
	fill_with_folios(s);
	p_vmsplice(1, s->va + pmd_size / 2, pgsz);
	fmi_assert(p_try_madvise(1, s->va, pmd_size, MADV_COLLAPSE) < 0,
		   "collapsed what is pinned");
	p_verify(1, s->va, pmd_size / pgsz, 5);
	fmi_eq(s_pages_of_order(s, pmd_order), 0, "pages of a PMD");
	s_check_found(s, "not collapsed");
	p_unpin(1);
	collapse(s, "collapsed after all");
}

static void swapped_out(struct fmi_scene *s)
{
	if (!*swap_device)
		fmi_skip("%s", swap_why_not);
	fill_with_folios(s);
	p_madvise(1, s->va, pmd_size / 2, MADV_PAGEOUT);
	s_check_found(s, "half swapped out");
	fmi_assert(!pagemap_pfn(p_pid(1), s->va), "not swapped out");
	collapse(s, "swapped in and collapsed");
}

/* Waits for the daemon. */
static void khugepaged(struct fmi_scene *s, unsigned int order, unsigned long pages,
		       const char *what)
{
	thp_khugepaged(true);
	while (s_pages_of_order(s, order) < pages) {
		fmi_waits_for("the daemon: %lu pages of order %u, not %lu", pages, order,
			      s_pages_of_order(s, order));
		msleep(50);
		/* What a file's collapse unmaps comes back by a fault. */
		if (s->kind != FMI_ANON)
			p_read(1, s->va, 1);
	}
	fmi_goes_on();
	thp_quiet();
	fmi_eq(s_pages_of_order(s, order), pages, what);
	s_check_found(s, what);
}

static void by_khugepaged(struct fmi_scene *s)
{
	unsigned long pages = pmd_size / pgsz;

	small_pages(s);
	if (s->kind == FMI_FILE)
		write_text("/sys/kernel/mm/transparent_hugepage/enabled", "madvise");
	else
		thp_only(s->kind, s->order, s->kind == FMI_SHMEM ? "advise" : "madvise");
	p_madvise(1, s->va, pmd_size, MADV_HUGEPAGE);
	khugepaged(s, s->order, pages, "collapsed by khugepaged");
	p_verify(1, s->va, pages, 5);
	s_check_found(s, "looked at");
}

/* Smaller folios, too; with some of them shared, which stay what they are. */
static void by_khugepaged_in_part(struct fmi_scene *s)
{
	unsigned long pages = pmd_size / pgsz;

	small_pages(s);
	p_fork(1, 2);
	ex_vma(&s->e, 2, s->va, s->va + pmd_size);
	p_fill(1, s->va, pages / 2, 5);
	p_munmap(2, s->va, pmd_size / 2);
	ex_vma_cut(&s->e, 2, s->va, pmd_size / 2);
	s_check_found(s, "half of it shared");
	thp_only(s->kind, s->order, "madvise");
	p_madvise(1, s->va, pmd_size, MADV_HUGEPAGE);
	khugepaged(s, s->order, pages / 2, "collapsed by khugepaged");
	p_verify(1, s->va, pages, 5);
	p_verify(2, s->va + pmd_size / 2, pages / 2, 5);
}

static const struct fmi_test tests[] = {
	{ "pages_to_pmd", pages_to_pmd, ON_EACH | PMD_ONLY },
	{ "folios_to_pmd", folios_to_pmd, ON_EACH | PTE_ONLY },
	{ "half_of_the_folios_to_pmd", half_of_the_folios_to_pmd,
	  ON_ANON | ON_SHMEM | PTE_ONLY | FEW_SIZES },
	{ "shared_folios_to_pmd", shared_folios_to_pmd, ON_ANON | PTE_ONLY },
	{ "shared_file_to_pmd", shared_file_to_pmd, ON_SHMEM | ON_FILE | PTE_ONLY | FEW_SIZES },
	{ "the_same_folio", the_same_folio, ON_SHMEM | ON_FILE | PMD_ONLY },
	{ "a_pinned_page", a_pinned_page, ON_EACH | PTE_ONLY | FEW_SIZES },
	{ "swapped_out", swapped_out, ON_ANON | ON_SHMEM | PTE_ONLY | FEW_SIZES },
	{ "by_khugepaged", by_khugepaged, ON_ANON },
	{ "by_khugepaged", by_khugepaged, ON_SHMEM | ON_FILE | PMD_ONLY },
	{ "by_khugepaged_in_part", by_khugepaged_in_part, ON_ANON | PTE_ONLY | FEW_SIZES },
};

int main(int argc, char **argv)
{
	int ret;

	fmi_util_init();
	swap_start();
	ret = fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
	swap_stop();
	return ret;
}
