// SPDX-License-Identifier: GPL-2.0
/* The worked examples of the definitions that need memfd or file memory. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

#define WANT(s, what, name, value) ex_want(&(s)->e, what, name, value)

/* Makes the folio through an aligned mapping, which goes again: it stays in the page cache. */
static void make_folio(struct fmi_scene *s)
{
	unsigned long aligned = s->arena + 20 * pmd_size;

	s_open(s, s->size);
	p_start(1);
	s_map(s, 1, aligned, s->size, 0);
	s_fault(s, 1, aligned);
	p_munmap(1, aligned, s->size);
	ex_vma_cut(&s->e, 1, aligned, s->size);
}

/* "1.9-2.1 MB": one side of the boundary faulted in, then both. */
static void across_a_pmd_boundary(struct fmi_scene *s)
{
	unsigned long half = s->nr / 2;

	make_folio(s);
	s->va = s->arena + 8 * pmd_size - half * pgsz;
	s_map(s, 1, s->va, s->size, 0);
	p_read(1, s->va, half);
	ex_map(&s->e, 1, s->va, 0, (int)half);
	s_check(s, "one side");
	WANT(s, "one side", "vma_pt", 1);
	WANT(s, "one side", "vma", 1);
	p_read(1, s_page(s, half), s->nr - half);
	ex_map(&s->e, 1, s_page(s, half), (int)half, (int)(s->nr - half));
	s_check(s, "both sides");
	WANT(s, "both sides", "vma_pt", 2);
	WANT(s, "both sides", "vma", 1);
	WANT(s, "both sides", "mm", 1);
	WANT(s, "both sides", "total", (int)s->nr);
}

/* "2.1-2.3 MB" */
static void shifted_inside_one_pmd(struct fmi_scene *s)
{
	make_folio(s);
	s->va = s->arena + 8 * pmd_size + 25 * pgsz;
	s_map(s, 1, s->va, s->size, 0);
	p_read(1, s->va, s->nr);
	ex_map(&s->e, 1, s->va, 0, (int)s->nr);
	s_check(s, "inside one PMD");
	WANT(s, "inside one PMD", "vma_pt", 1);
	WANT(s, "inside one PMD", "vma", 1);
	WANT(s, "inside one PMD", "total", (int)s->nr);
}

static void thp_pmd_split_by_mprotect(struct fmi_scene *s)
{
	s_populate(s);
	WANT(s, "PMD-mapped", "total", 1);
	WANT(s, "PMD-mapped", "vma", 1);
	p_mprotect(1, s->va, pgsz, PROT_READ);
	ex_vma_split(&s->e, 1, s_page(s, 1));
	ex_split(&s->e, 1, s->va, s->size);
	fmi_eq(s->e.nr_mappings, 0, "mappings after the split");
	fmi_assert(!pagemap_pfn(p_pid(1), s->va), "a file's PMD split must leave no PTE");
	s_check(s, "split");
	WANT(s, "split", "total", 0);
	WANT(s, "split", "vma", 0);
	/* Each VMA holds a part only: page by page. */
	p_read(1, s->va, 3);
	ex_map(&s->e, 1, s->va, 0, 3);
	s_check(s, "refault");
	WANT(s, "refault", "total", 3);
	WANT(s, "refault", "vma", 2);
}

/* A VMA of two pages in the middle of the folio. */
static void two_page_window(struct fmi_scene *s)
{
	unsigned long first = s->nr / 2 - 1;

	make_folio(s);
	s_map(s, 1, s->va, 2 * pgsz, first * pgsz);
	p_read(1, s->va, 1);
	ex_map(&s->e, 1, s->va, (int)first, 1);
	s_check(s, "one page");
	WANT(s, "one page", "vma", 1);
	p_read(1, s->va + pgsz, 1);
	ex_map(&s->e, 1, s->va + pgsz, (int)first + 1, 1);
	s_check(s, "the other");
	WANT(s, "the other", "vma", 1);
	WANT(s, "the other", "total", 2);
	p_munmap(1, s->va + pgsz, pgsz);
	ex_vma_cut(&s->e, 1, s->va + pgsz, pgsz);
	s_check(s, "the last page unmapped");
	WANT(s, "the last page unmapped", "vma", 1);
	WANT(s, "the last page unmapped", "total", 1);
	fmi_assert(!ftruncate(s->fd, 0), "ftruncate: %s", strerror(errno));
	ex_unmap(&s->e, 1, s->va, pgsz);
	fmi_assert(!pagemap_pfn(p_pid(1), s->va), "still mapped after truncation");
	s_check(s, "truncated");
}

static void two_processes_two_tuples(struct fmi_scene *s)
{
	s_populate(s);
	p_start(2);
	s_map(s, 2, s->va, s->size, 0);
	p_read(2, s->va, s->nr);
	s_mapped_whole(s, 2, s->va);
	s_check(s, "two processes");
	WANT(s, "two processes", "vma_pt", 2);
	WANT(s, "two processes", "mm", 2);
}

/* A 512-page folio mapped by two PMDs and one PTE. */
static void two_pmds_and_one_pte(struct fmi_scene *s)
{
	unsigned long window = s->arena + 10 * pmd_size + pgsz;

	if (pmd_order != 9)
		fmi_skip("the example is about 512 pages");
	s_populate(s);
	p_start(2);
	s_map(s, 2, s->va, s->size, 0);
	p_read(2, s->va, 1);
	ex_map_entire(&s->e, 2, s->va);
	s_map(s, 1, window, pgsz, 7 * pgsz);
	p_read(1, window, 1);
	ex_map(&s->e, 1, window, 7, 1);
	s_check(s, "2 PMDs and 1 PTE");
	WANT(s, "2 PMDs and 1 PTE", "total", 3);
	WANT(s, "2 PMDs and 1 PTE", "total_pages", 1025);
	WANT(s, "2 PMDs and 1 PTE", "entire", 2);
	WANT(s, "2 PMDs and 1 PTE", "max_page", 3);
	WANT(s, "2 PMDs and 1 PTE", "first_page", 2);
}

/* The advised and the inherited ways to a large folio of shared memory. */
static void shmem_by(struct fmi_scene *s, const char *value, const char *top, int advice)
{
	s_open(s, s->size);
	p_start(1);
	s_map(s, 1, s->va, s->size, 0);
	if (advice)
		p_madvise(1, s->va, s->size, advice);
	thp_only(FMI_SHMEM, s->order, value);
	write_text("/sys/kernel/mm/transparent_hugepage/shmem_enabled", top);
	p_write(1, s->va, 1);
	write_text("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "never");
	thp_never();
	s->e.pfn = pagemap_pfn(p_pid(1), s->va);
	if (folio_order(s->e.pfn, NULL) != s->order)
		fmi_skip("the kernel gave a folio of order %u", folio_order(s->e.pfn, NULL));
	s_mapped_whole(s, 1, s->va);
	s_check(s, value);
	s_dontneed(s, 1, 0, 1);
	s_check(s, "first page dropped");
}

static void memfd_advise(struct fmi_scene *s)
{
	shmem_by(s, "advise", "never", MADV_HUGEPAGE);
}

static void memfd_inherit(struct fmi_scene *s)
{
	shmem_by(s, "inherit", "always", 0);
}

static const struct fmi_test tests[] = {
	{ "across_a_pmd_boundary", across_a_pmd_boundary, ON_SHMEM | ON_FILE },
	{ "shifted_inside_one_pmd", shifted_inside_one_pmd, ON_SHMEM | ON_FILE | PTE_ONLY },
	{ "thp_pmd_split_by_mprotect", thp_pmd_split_by_mprotect, ON_SHMEM | ON_FILE | PMD_ONLY },
	{ "two_page_window", two_page_window, ON_SHMEM | ON_FILE | NOT_ORDER1 },
	{ "two_processes_two_tuples", two_processes_two_tuples, ON_SHMEM | ON_FILE },
	{ "two_pmds_and_one_pte", two_pmds_and_one_pte, ON_SHMEM | ON_FILE | PMD_ONLY },
	{ "memfd_advise", memfd_advise, ON_SHMEM },
	{ "memfd_inherit", memfd_inherit, ON_SHMEM },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
