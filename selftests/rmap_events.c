// SPDX-License-Identifier: GPL-2.0
/*
 * The rmap tracepoints (patches/): what they say of each deed, also of two at a time. Needs no
 * module. What holds for all events, whatever is done, is in fmi_rmap.c.
 */
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_rmap.h"
#include "fmi_scene.h"
#include "fmi_uffd.h"
#include "fmi_util.h"

#define GIB (1UL << 30)
#define PLACE (64 * GIB) /* aligned to every size, and far from what a process maps */

static char pool_path[96], pool_was[32];

static void __attribute__((format(printf, 3, 4)))
look(const struct fmi_scene *s, const char *what, const char *fmt, ...)
{
	char want[256];
	va_list args;

	va_start(args, fmt);
	vsnprintf(want, sizeof(want), fmt, args);
	va_end(args);
	rmap_look(what, want);
	if (s->kind != FMI_NONE)
		fmi_eq(rmap_mapcount(), s->e.nr_mappings, what);
}

static void forked(struct fmi_scene *s)
{
	rmap_fork(1, 2);
	ex_fork(&s->e, 1, 2);
}

static unsigned long target(const struct fmi_scene *s)
{
	return s->arena + 12 * pmd_size;
}

static void moved(struct fmi_scene *s, unsigned long from, unsigned long nr, unsigned long to)
{
	p_mremap(1, from, nr * pgsz, to, 0);
	ex_move(&s->e, 1, from, nr * pgsz, to);
}

/* One mapping of the whole folio. */
static const char *whole(const struct fmi_scene *s)
{
	static char text[32];

	if (s->order == pmd_order)
		return "pmd 1";
	snprintf(text, sizeof(text), "pte %lu", s->nr);
	return text;
}

/* If that is a PMD, a change of a part begins with this. */
static const char *split(const struct fmi_scene *s)
{
	static char text[64];

	if (s->order != pmd_order)
		return "";
	snprintf(text, sizeof(text), "add pte %lu, remove pmd 1, ", s->nr);
	return text;
}

static void populate(struct fmi_scene *s, unsigned long then)
{
	if (s->kind != FMI_ANON)
		s_open(s, s->size);
	rmap_watch(s->arena, ARENA_PMDS * pmd_size);
	s_map(s, 1, s->va, s->size, 0);
	s_fault(s, 1, s->va);
	s_mapped_whole(s, 1, s->va);
	rmap_folio(s->e.pfn, s->order, s->kind == FMI_ANON, s->va, then);
	look(s, "populated", "%s %s", s->kind == FMI_ANON ? "add_new" : "add", whole(s));
}

static void anonymous(struct fmi_scene *s)
{
	/* In two page tables, if it is long. */
	const unsigned long to = target(s) + 3 * pgsz;

	populate(s, to);
	forked(s);
	look(s, "forked", "dup %s", whole(s));
	s_cow(s, 2, 0);
	look(s, "child wrote", "%scopy add_new pte 1, remove pte 1", split(s));
	s_dontneed(s, 1, 0, 2);
	look(s, "two pages dropped", "%sremove pte 2", split(s));
	s_munmap(s, 1, s->nr - 1, 1);
	look(s, "last page unmapped", "remove pte 1");
	s_munmap(s, 2, s->nr / 2, s->nr / 2);
	look(s, "child unmapped half", "remove pte %lu", s->nr / 2);
	moved(s, s->va, s->nr - 1, to);
	look(s, "moved", "move ptes %lu", s->nr - 1);
	s_exit(s, 2);
	look(s, "child gone", "copy remove pte 1, remove pte %lu", s->nr / 2 - 1);
	s_exit(s, 1);
	look(s, "all gone", "remove pte %lu", s->nr - 3);
}

static void pmds(struct fmi_scene *s)
{
	const unsigned long to = target(s);

	populate(s, to);
	forked(s);
	look(s, "forked", "dup pmd 1");
	s_munmap(s, 2, s->nr / 2, s->nr / 2);
	look(s, "child unmapped half", "%sremove pte %lu", split(s), s->nr / 2);
	moved(s, s->va, s->nr, to);
	look(s, "moved", "move pmd_leaf %lu", s->nr);
	p_mprotect(1, to, pgsz, PROT_READ);
	ex_split(&s->e, 1, to, pgsz);
	look(s, "first page protected", "add pte %lu, remove pmd 1", s->nr);
	p_mprotect(1, to, pgsz, PROT_READ | PROT_WRITE);
	look(s, "and back", "-");
	moved(s, to, s->nr, s->va);
	look(s, "moved back", "move pmd_table %lu", s->nr);
	s_exit(s, 1);
	look(s, "parent gone", "remove pte %lu", s->nr);
	s_exit(s, 2);
	look(s, "all gone", "remove pte %lu", s->nr / 2);
}

/* Of dirty page cache under PTEs nobody knows the address. */
static void shared_file(struct fmi_scene *s)
{
	const bool pmd = s->order == pmd_order;
	const char *late = s->kind == FMI_SHMEM && !pmd ? "late " : "";

	populate(s, 0);
	rmap_fork(1, 2);
	ex_vma(&s->e, 2, s->va, s->va + s->size);
	look(s, "nothing to copy", "-");
	p_read(2, s->va, s->nr);
	s_mapped_whole(s, 2, s->va);
	look(s, "child read", "add %s", whole(s));
	s_exit(s, 1);
	look(s, "parent gone", "%sremove %s", late, whole(s));
	s_dontneed(s, 2, 0, 2);
	look(s, "two pages dropped", pmd ? "remove pmd 1" : "%sremove pte 2", late);
	s_exit(s, 2);
	look(s, "child gone", pmd ? "-" : "%sremove pte %lu", late, s->nr - 2);
}

/* Of a private mapping that was written to fork copies what is in the page cache, too. */
static void private_file(struct fmi_scene *s)
{
	const bool pmd = s->order == pmd_order;
	const unsigned long va = target(s);

	populate(s, va);
	s_munmap(s, 1, 0, s->nr);
	look(s, "unmapped", "%sremove %s", s->kind == FMI_SHMEM && !pmd ? "late " : "", whole(s));
	s_map_private(s, 1, va, s->size, 0);
	p_read(1, va, s->nr);
	s_mapped_whole(s, 1, va);
	look(s, "read", "add %s", whole(s));
	p_write(1, va, 1);
	ex_unmap(&s->e, 1, va, pgsz);
	look(s, "first page written",
	     pmd ? "remove pmd 1, copy add_new pte 1" : "copy add_new pte 1, remove pte 1");
	p_read(1, va, s->nr);
	ex_learn(&s->e, 1);
	look(s, "read again", pmd ? "add pte %lu" : "-", s->nr - 1);
	forked(s);
	look(s, "forked", "copy dup pte 1, dup pte %lu", s->nr - 1);
	s_exit(s, 1);
	look(s, "parent gone", "copy remove pte 1, remove pte %lu", s->nr - 1);
	p_munmap(2, va, s->size / 2);
	ex_vma_cut(&s->e, 2, va, s->size / 2);
	look(s, "half unmapped", "copy remove pte 1, remove pte %lu", s->nr / 2 - 1);
	s_exit(s, 2);
	look(s, "child gone", "remove pte %lu", s->nr / 2);
}

static long do_split(unsigned long va, unsigned long len, unsigned long c, unsigned long d)
{
	char text[64];

	(void)c;
	(void)d;
	snprintf(text, sizeof(text), "%d,0x%lx,0x%lx", getpid(), va, va + len);
	return write_text("/sys/kernel/debug/split_huge_pages", text);
}

/* Into single pages; the first one is followed, the others are as copies. */
static void folio_split(struct fmi_scene *s)
{
	populate(s, 0);
	/* Of zeros only one page is left. */
	p_write(1, s->va, s->nr);
	if (p_call(1, do_split, s->va, s->size, 0, 0) < 0)
		fmi_skip("no split_huge_pages");
	s->e.nr_mappings = 1;
	look(s, "split", "remove %s, order %u to 0, add pte 1, copy add pte %lu", whole(s),
	     s->order, s->nr - 1);
	p_exit(1);
	s->e.nr_mappings = 0;
	look(s, "gone", "remove pte 1, copy remove pte %lu", s->nr - 1);
}

/* Begins when the other one does. */
static long do_unmap(unsigned long va, unsigned long nr, unsigned long begun, unsigned long d)
{
	long ret = 0;

	(void)d;
	__atomic_add_fetch((int *)begun, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n((int *)begun, __ATOMIC_SEQ_CST) < 2)
		;
	for (unsigned long i = 0; !ret && i < nr; i++)
		ret = madvise((void *)(va + i * pgsz), pgsz, MADV_DONTNEED);
	return ret;
}

/* Under two page tables' locks a folio changes on two processors at once. */
static void two_at_once(struct fmi_scene *s)
{
	const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int *begun = mmap(NULL, pgsz, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cpu_set_t other;

	fmi_assert(begun != MAP_FAILED, "no memory");
	if (cpus < 2)
		fmi_skip("one processor");
	populate(s, 0);
	forked(s);
	look(s, "forked", "dup %s", whole(s));
	for (int who = 1; who <= 2; who++) {
		s_dontneed(s, who, 0, 1);
		look(s, "a page dropped", "%sremove pte 1", split(s));
	}
	CPU_ZERO(&other);
	CPU_SET((size_t)cpus - 1, &other);
	fmi_assert(!sched_setaffinity(p_pid(2), sizeof(other), &other), "%s", strerror(errno));
	rmap_at_once();
	for (int who = 1; who <= 2; who++)
		p_tell(who, do_unmap, s_page(s, 1), s->nr - 1, (unsigned long)begun, 0);
	for (int who = 1; who <= 2; who++) {
		fmi_eq(p_answer(who), 0, "madvise");
		ex_unmap(&s->e, who, s->va, s->size);
	}
	look(s, "page by page", "remove pte %lu", 2 * (s->nr - 1));
	fmi_note("%ld of %lu changes began within another", rmap_overlaps(), 2 * (s->nr - 1));
}

/* Table by table, and by UFFDIO_MOVE: small folios, the first of which is followed. */
static void other_moves(struct fmi_scene *s)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	const int prot = PROT_READ | PROT_WRITE;
	const unsigned long to = PLACE + 4 * GIB;

	rmap_watch(PLACE, 8 * GIB);
	p_mmap(1, PLACE, GIB, prot, flags, -1, 0);
	p_write(1, PLACE, 4);
	rmap_folio(pagemap_pfn(p_pid(1), PLACE), 0, true, PLACE, to);
	look(s, "written", "add_new pte 1, copy add_new pte 3");
	p_mremap(1, PLACE, GIB, to, 0);
	look(s, "moved", "move pud_table %lu", GIB / pgsz);
	p_mmap(1, PLACE, pmd_size, prot, flags, -1, 0);
	p_uffd_move(1, PLACE, to, 4 * pgsz);
	look(s, "moved back", "move uffd 4");
	p_exit(1);
	look(s, "gone", "remove pte 1, copy remove pte 3");
}

/* So many free hugetlb folios of the size of a PMD. */
static void pool(int nr)
{
	char text[32];

	snprintf(text, sizeof(text), "%d", atoi(pool_was) + nr);
	if (write_text(pool_path, text) <= 0 || read_text(pool_path, text, sizeof(text)) <= 0 ||
	    atoi(text) < atoi(pool_was) + nr)
		fmi_skip("no hugetlb folios of %lu kB", pmd_size / 1024);
}

/* MAP_HUGE_SHIFT, MFD_HUGE_SHIFT */
static int size_flag(void)
{
	return __builtin_ctzl(pmd_size) << 26;
}

static void map_huge(unsigned long len, int flags, int fd)
{
	p_mmap(1, PLACE, len, PROT_READ | PROT_WRITE,
	       flags | MAP_HUGETLB | MAP_NORESERVE | size_flag(), fd, 0);
}

static int huge_file(unsigned long len)
{
	int fd = memfd_create("fmi", MFD_CLOEXEC | MFD_HUGETLB | (unsigned int)size_flag());

	fmi_assert(fd >= 0 && !ftruncate(fd, (off_t)len), "memfd: %s", strerror(errno));
	return fd;
}

static void follow_huge(bool anon, unsigned long va, unsigned long then)
{
	rmap_folio(pagemap_pfn(p_pid(1), va), pmd_order, anon, va, then);
}

static void hugetlb_anonymous(struct fmi_scene *s)
{
	const unsigned long second = PLACE + pmd_size, to = PLACE + 4 * GIB;

	pool(3);
	rmap_watch(PLACE, 8 * GIB);
	map_huge(2 * pmd_size, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	p_write(1, PLACE, 1);
	p_write(1, second, 1);
	follow_huge(true, PLACE, to);
	follow_huge(true, second, to + pmd_size);
	look(s, "written", "add_new hugetlb 2");
	rmap_fork(1, 2);
	look(s, "forked", "dup hugetlb 2");
	p_write(2, PLACE, 1);
	look(s, "child wrote", "remove hugetlb 1, copy add_new hugetlb 1");
	p_munmap(2, second, pmd_size);
	look(s, "child unmapped one", "remove hugetlb 1");
	p_mremap(1, PLACE, 2 * pmd_size, to, 0);
	look(s, "moved", "move hugetlb %lu", 2UL << pmd_order);
	p_exit(2);
	look(s, "child gone", "copy remove hugetlb 1");
	p_madvise(1, to, pmd_size, MADV_DONTNEED);
	look(s, "one dropped", "remove hugetlb 1");
	p_exit(1);
	look(s, "all gone", "remove hugetlb 1");
}

/* Of a private file one folio is read and one is written: fork copies both. */
static void hugetlb_private(struct fmi_scene *s)
{
	const unsigned long second = PLACE + pmd_size;
	int fd = huge_file(2 * pmd_size);

	pool(4);
	rmap_watch(PLACE, GIB);
	map_huge(pmd_size, MAP_SHARED, fd);
	p_write(1, PLACE, 1);
	follow_huge(false, PLACE, 0);
	look(s, "in the page cache", "add hugetlb 1");
	p_munmap(1, PLACE, pmd_size);
	look(s, "unmapped", "remove hugetlb 1");
	map_huge(2 * pmd_size, MAP_PRIVATE, fd);
	p_read(1, PLACE, 1);
	p_write(1, second, 1);
	follow_huge(true, second, 0);
	look(s, "one read, one written", "add hugetlb 1, add_new hugetlb 1");
	rmap_fork(1, 2);
	look(s, "forked", "dup hugetlb 2");
	p_write(2, PLACE, 1);
	look(s, "child wrote", "remove hugetlb 1, copy add_new hugetlb 1");
	p_exit(1);
	look(s, "parent gone", "remove hugetlb 2");
	p_exit(2);
	look(s, "child gone", "copy remove hugetlb 1, remove hugetlb 1");
}

/* A page table that is shared is no mapping more. */
static void hugetlb_table(struct fmi_scene *s)
{
	int fd = huge_file(GIB);

	pool(1);
	rmap_watch(PLACE, GIB);
	map_huge(GIB, MAP_SHARED, fd);
	p_write(1, PLACE, 1);
	follow_huge(false, PLACE, 0);
	look(s, "written", "add hugetlb 1");
	rmap_fork(1, 2);
	look(s, "nothing to copy", "-");
	p_read(2, PLACE, 1);
	look(s, "child read", "share 1");
	p_munmap(2, PLACE, GIB);
	look(s, "child unmapped all", "unshare 1");
	p_exit(1);
	look(s, "parent gone", "remove hugetlb 1");
}

#define ANON (ON_ANON | FEW_SIZES | NO_MODULE)
#define FILES (ON_SHMEM | ON_FILE | FEW_SIZES | NOT_ORDER1 | NO_MODULE)

static const struct fmi_test tests[] = {
	{ "anonymous", anonymous, ANON },
	{ "pmds", pmds, ANON | PMD_ONLY },
	{ "shared_file", shared_file, FILES },
	{ "private_file", private_file, FILES },
	{ "folio_split", folio_split, ANON },
	{ "two_at_once", two_at_once, ANON | PMD_ONLY },
	{ "other_moves", other_moves, ON_ONCE | NO_MODULE },
	{ "hugetlb_anonymous", hugetlb_anonymous, ON_ONCE | NO_MODULE },
	{ "hugetlb_private", hugetlb_private, ON_ONCE | NO_MODULE },
	{ "hugetlb_table", hugetlb_table, ON_ONCE | NO_MODULE },
};

int main(int argc, char **argv)
{
	int ret;

	fmi_util_init();
	if (geteuid() == 0 && !rmap_setup()) {
		printf("KTAP version 1\n1..0 # SKIP no tracepoints in the rmap of this kernel\n");
		return KSFT_SKIP;
	}
	snprintf(pool_path, sizeof(pool_path),
		 "/sys/kernel/mm/hugepages/hugepages-%lukB/nr_hugepages", pmd_size / 1024);
	read_text(pool_path, pool_was, sizeof(pool_was));
	ret = fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
	write_text(pool_path, pool_was);
	printf("# %ld pairs of rmap_begin and rmap_end\n", rmap_cleanup());
	return ret;
}
