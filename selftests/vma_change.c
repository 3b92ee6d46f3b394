// SPDX-License-Identifier: GPL-2.0
/*
 * VMAs that split, merge, grow and shrink around a large folio, the heap, stacks, exec, and page
 * tables that go: no rmap call tells of any of it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* The program that exec starts is this one, and does nothing. */
#define EXECED "executed"

/* A file's PMD that was split left nothing: touch what is in the VMAs now. */
static void settle(struct fmi_scene *s, const char *what)
{
	if (s->e.nr_mappings == 0) {
		s_check(s, what);
		for (int i = 0; i < s->e.nr_vmas; i++) {
			const struct ex_vma *vma = &s->e.vmas[i];

			p_read(vma->who, vma->start, (vma->end - vma->start) / pgsz);
		}
		for (int who = 1; who < FMI_ACTORS; who++)
			if (p_pid(who))
				ex_learn(&s->e, who);
		fmi_assert(s->e.nr_mappings > 0, "%s: nothing faulted in again", what);
	}
	s_check(s, what);
}

static void map_flags(struct fmi_scene *s, unsigned long va, unsigned long len, int more)
{
	int flags = (s->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED) | more;

	p_mmap(1, va, len, PROT_READ | PROT_WRITE, flags, s->fd,
	       s->fd < 0 ? 0 : va - s->va);
}

/* A boundary at every page that is special: first, middle, last; by each way to make one. */
static void split_and_merge(struct fmi_scene *s, int way)
{
	const unsigned long at[] = { 1, s->nr / 2, s->nr - 1 };

	s_populate(s);
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		unsigned long va = s_page(s, at[i]), len = s->size - at[i] * pgsz;

		if (i && at[i] == at[i - 1])
			continue;
		if (way == 0)
			p_mprotect(1, va, len, PROT_READ);
		else
			p_madvise(1, va, len, way == 1 ? MADV_DONTFORK : MADV_NOHUGEPAGE);
		ex_vma_split(&s->e, 1, va);
		ex_split(&s->e, 1, va, len);
		settle(s, "split");
		/* A file folio read again is there with the pages that were touched. */
		if (s->nr > 2 && s->e.nr_mappings == (int)s->nr)
			ex_want(&s->e, "split", "vma", 2);
		if (way == 0)
			p_mprotect(1, va, len, PROT_READ | PROT_WRITE);
		else if (way == 1)
			p_madvise(1, va, len, MADV_DOFORK);
		else
			p_madvise(1, s->va, va - s->va, MADV_NOHUGEPAGE);
		ex_vma_merge(&s->e, 1, va);
		settle(s, "merged");
		ex_want(&s->e, "merged", "vma", 1);
		if (way == 2)
			break;
	}
}

static void split_by_mprotect(struct fmi_scene *s)
{
	split_and_merge(s, 0);
}

static void split_by_dontfork(struct fmi_scene *s)
{
	split_and_merge(s, 1);
}

static void split_by_nohugepage(struct fmi_scene *s)
{
	split_and_merge(s, 2);
}

/* A part of one VMA goes over to its neighbour: the boundary moves up, and down again. */
static void the_boundary_moves(struct fmi_scene *s)
{
	unsigned long quarter = s->size / 4, low = s->va + quarter, high = s->va + 2 * quarter;

	s_populate(s);
	p_mprotect(1, s->va, quarter, PROT_READ);
	ex_vma_split(&s->e, 1, low);
	ex_split(&s->e, 1, s->va, s->size);
	settle(s, "a quarter");
	for (int i = 0; i < 2; i++) {
		p_mprotect(1, low, quarter, PROT_READ);
		ex_vma_split(&s->e, 1, high);
		ex_vma_merge(&s->e, 1, low);
		settle(s, "the lower one took a quarter");
		if (s->e.nr_mappings == (int)s->nr)
			ex_want(&s->e, "two VMAs", "vma", 2);
		p_mprotect(1, low, quarter, PROT_READ | PROT_WRITE);
		ex_vma_split(&s->e, 1, low);
		ex_vma_merge(&s->e, 1, high);
		settle(s, "the upper one took it back");
	}
	p_mprotect(1, s->va, quarter, PROT_READ | PROT_WRITE);
	ex_vma_merge(&s->e, 1, low);
	settle(s, "merged");
	ex_want(&s->e, "merged", "vma", 1);
}

/* A VMA that fills a hole joins its neighbours: three become one. */
static void a_hole_is_filled(struct fmi_scene *s)
{
	unsigned long mid = s_page(s, s->nr / 2);

	s_populate(s);
	s_munmap(s, 1, s->nr / 2, 1);
	settle(s, "a hole");
	map_flags(s, mid, pgsz, 0);
	ex_vma(&s->e, 1, mid, mid + pgsz);
	ex_vma_merge(&s->e, 1, mid);
	if (s->nr > 2)
		ex_vma_merge(&s->e, 1, mid + pgsz);
	s_check(s, "filled");
	ex_want(&s->e, "filled", "vma", 1);
	p_write(1, mid, 1);
	if (s->kind != FMI_ANON)
		ex_learn(&s->e, 1);
	s_check(s, "and touched");
}

/* New VMAs in front of and behind the one of the folio. */
static void expanded_by_neighbours(struct fmi_scene *s)
{
	unsigned long half = s->size / 2;

	s_populate(s);
	if (s->kind == FMI_ANON) {
		map_flags(s, s->va + s->size, s->size, 0);
		s->e.vmas[0].end += s->size;
		s_check(s, "expanded upwards");
		map_flags(s, s->va - s->size, s->size, 0);
		s->e.vmas[0].start -= s->size;
		s_check(s, "expanded downwards");
	}
	s_munmap(s, 1, 0, s->nr / 2);
	if (s->kind == FMI_ANON) {
		settle(s, "the first half unmapped");
		map_flags(s, s->va, half, 0);
		ex_vma(&s->e, 1, s->va, s->va + half);
		ex_vma_merge(&s->e, 1, s->va);
		ex_vma_merge(&s->e, 1, s->va + half);
	} else {
		settle(s, "the first half unmapped");
		map_flags(s, s->va, half, 0);
		s->e.vmas[0].start = s->va;
	}
	s_check(s, "mapped again");
	ex_want(&s->e, "mapped again", "vma", 1);
	p_write(1, s->va, s->nr);
	if (s->kind != FMI_ANON)
		ex_learn(&s->e, 1);
	s_check(s, "and touched");
	ex_want(&s->e, "touched", "vma", 1);
}

/* MAP_FIXED over a part: the VMA splits, or shrinks, and the part is somebody else's. */
static void replaced_in_part(struct fmi_scene *s)
{
	unsigned long from = s_page(s, s->nr / 4), len = s->size / 2;

	s_populate(s);
	p_mmap(1, from, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ex_vma_cut(&s->e, 1, from, len);
	settle(s, "the middle replaced");
	p_mmap(1, s->va, s->size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ex_vma_cut(&s->e, 1, s->va, s->size);
	s_check(s, "all of it replaced");
}

/*
 * MAP_FIXED over several VMAs that lets what is before and behind become one again: more edges than
 * those of the two that merge are none any more.
 */
static void several_replaced(struct fmi_scene *s)
{
	const unsigned long nr = s->nr < 16 ? s->nr - 2 : 14;
	unsigned long from = s_page(s, 1), len = nr * pgsz;

	s_populate(s);
	for (unsigned long i = 1; i <= nr; i++)
		p_mprotect(1, s_page(s, i), pgsz, i % 2 ? PROT_READ : PROT_NONE);
	ex_split(&s->e, 1, from, len);
	p_mmap(1, from, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ex_vma_cut(&s->e, 1, from, len);
	ex_vma(&s->e, 1, from, from + len);
	ex_vma_merge(&s->e, 1, from);
	ex_vma_merge(&s->e, 1, from + len);
	s_check(s, "as if nothing had been between");
	ex_want(&s->e, "as if nothing had been between", "vma", 1);
	fmi_audit("all");
}

static long do_brk(unsigned long to, unsigned long b, unsigned long c, unsigned long d)
{
	(void)b;
	(void)c;
	(void)d;
	return to ? brk((void *)to) : (long)sbrk(0);
}

/* The VMA of an actor that ends there. */
static unsigned long start_of(int who, unsigned long end)
{
	unsigned long start = 0, from, to;
	char path[64], line[512];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/maps", p_pid(who));
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2 && to == end)
			start = from;
	}
	if (file)
		fclose(file);
	fmi_assert(start, "actor %d has no VMA that ends at 0x%lx", who, end);
	return start;
}

static void set_brk(struct fmi_scene *s, unsigned long to)
{
	fmi_assert(p_call(1, do_brk, to, 0, 0, 0) == 0, "brk: %s", strerror(errno));
	if (s->e.nr_vmas && to < s->e.vmas[0].end)
		ex_vma_cut(&s->e, 1, to, s->e.vmas[0].end - to);
	else if (s->e.nr_vmas)
		s->e.vmas[0].end = to;
}

static void the_heap(struct fmi_scene *s)
{
	unsigned long now;

	p_start(1);
	now = (unsigned long)p_call(1, do_brk, 0, 0, 0, 0);
	s->va = (now + 2 * s->size - 1) & ~(s->size - 1);
	set_brk(s, s->va + 2 * s->size);
	ex_vma(&s->e, 1, start_of(1, s->va + 2 * s->size), s->va + 2 * s->size);
	s_fault(s, 1, s->va);
	s_mapped_whole(s, 1, s->va);
	s_check(s, "a folio in the heap");
	set_brk(s, s->va + s->size);
	s_check(s, "the heap ends behind it");
	set_brk(s, s->va + s->size / 2);
	s_check(s, "the heap ends inside it");
	set_brk(s, s->va + 4 * s->size);
	s_check(s, "grown again");
	ex_want(&s->e, "grown again", "vma", 1);
	p_write(1, s_page(s, s->nr - 1), 1);
	s_check(s, "and touched");
}

/* A VMA that grows downwards when memory below it is touched, as a stack does. */
static void a_stack_grows(struct fmi_scene *s)
{
	unsigned long low = s->va - pmd_size;

	p_start(1);
	p_munmap(1, s->arena, 4 * pmd_size);
	p_mmap(1, s->va, 2 * s->size, PROT_READ | PROT_WRITE,
	       MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0);
	ex_vma(&s->e, 1, s->va, s->va + 2 * s->size);
	s_fault(s, 1, s->va);
	s_mapped_whole(s, 1, s->va);
	s_check(s, "a folio in a stack");
	p_write(1, s->va - pgsz, 1);
	s->e.vmas[0].start -= pgsz;
	s_check(s, "grown by a page");
	p_write(1, low, 1);
	s->e.vmas[0].start = low;
	s_check(s, "grown by a PMD");
	/* The stack ends inside the folio, and grows again. */
	p_munmap(1, low, s_page(s, s->nr / 2) - low);
	ex_vma_cut(&s->e, 1, low, s_page(s, s->nr / 2) - low);
	s_check(s, "its lower half unmapped");
	p_write(1, s->va, 1);
	s->e.vmas[0].start = s->va;
	s_check(s, "grown over the place of the other half");
	ex_want(&s->e, "grown", "vma", 1);
}

/* Of /proc/PID/status, kB. */
static long long page_tables(int who)
{
	char path[64], text[8192];

	snprintf(path, sizeof(path), "/proc/%d/status", p_pid(who));
	fmi_assert(read_text(path, text, sizeof(text)) > 0, "%s", path);
	return text_value(text, "VmPTE");
}

/*
 * A page table that MADV_DONTNEED has emptied from end to end is freed (PT_RECLAIM); it had one
 * half of the folio, the other half stays.
 */
static void an_emptied_page_table_goes(struct fmi_scene *s)
{
	unsigned long table = s->arena + 20 * pmd_size, va = table - s->size / 2;
	unsigned long len = 3 * pmd_size;
	long long before;

	if (s->kind != FMI_ANON)
		s_open(s, len);
	p_start(1);
	s_map(s, 1, s->va, len, 0);
	s_fault(s, 1, s->va);
	s_mapped_whole(s, 1, s->va);
	p_mremap(1, s->va, len, va, 0);
	ex_move(&s->e, 1, s->va, len, va);
	s->va = va;
	if (s->e.nr_mappings == 0) {
		p_read(1, va, s->nr);
		ex_learn(&s->e, 1);
	}
	s_check(s, "in two page tables");
	ex_want(&s->e, "in two page tables", "vma_pt", 2);
	before = page_tables(1);
	p_madvise(1, table, pmd_size, MADV_DONTNEED);
	ex_unmap(&s->e, 1, table, pmd_size);
	fmi_note("page tables: %lld kB, then %lld kB", before, page_tables(1));
	s_check(s, "the second table emptied");
	ex_want(&s->e, "the second table emptied", "vma_pt", 1);
	p_write(1, table, s->nr / 2);
	if (s->kind != FMI_ANON)
		ex_learn(&s->e, 1);
	s_check(s, "touched again");
	p_madvise(1, va, len, MADV_DONTNEED);
	ex_unmap(&s->e, 1, va, len);
	s_check(s, "all emptied");
}

static long do_madvise(unsigned long va, unsigned long len, unsigned long advice, unsigned long d)
{
	(void)d;
	return madvise((void *)va, len, (int)advice) ? errno : 0;
}

/* Collapses what actor 1 has at s->va; the folio there now is the scene's. */
static void collapse(struct fmi_scene *s, const char *what)
{
	unsigned long head, before = s->e.pfn;
	long err;

	thp_only(s->kind, pmd_order, "always");
	err = p_call(1, do_madvise, s->va, pmd_size, MADV_COLLAPSE, 0);
	thp_never();
	if (err)
		fmi_skip("%s: MADV_COLLAPSE: %s", what, strerror((int)err));
	s->e.pfn = pagemap_pfn(p_pid(1), s->va);
	if (!s->e.pfn) {
		p_read(1, s->va, 1);
		s->e.pfn = pagemap_pfn(p_pid(1), s->va);
	}
	if (s->e.pfn != before)
		s->e.max_mm = 0;
	fmi_eq(folio_order(s->e.pfn, &head), pmd_order, "order after MADV_COLLAPSE");
	fmi_eq(head, s->e.pfn, "head after MADV_COLLAPSE");
	for (int who = 1; who < FMI_ACTORS; who++)
		if (p_pid(who))
			ex_learn(&s->e, who);
	s_check(s, what);
}

/* The page tables of the others are taken away. */
static void retracted(struct fmi_scene *s, bool large)
{
	s_open(s, s->size);
	for (int who = 1; who <= 3; who++) {
		p_start(who);
		s_map(s, who, s->va, s->size, 0);
	}
	if (large) {
		/* PTEs of the very folio. */
		s_fault(s, 1, s->va);
		s->e.pfn = pagemap_pfn(p_pid(1), s->va);
		for (int who = 1; who <= 3; who++) {
			p_mprotect(who, s->va, pgsz, PROT_READ);
			p_read(who, s->va, s->nr);
			p_mprotect(who, s->va, pgsz, PROT_READ | PROT_WRITE);
			ex_learn(&s->e, who);
		}
		s_check(s, "by PTEs in three processes");
	} else {
		p_write(1, s->va, s->nr);
		p_write(2, s->va, s->nr);
		p_write(3, s->va, s->nr);
		fmi_eq(s_check_found(s, "small pages"), 0, "large folios");
	}
	collapse(s, "collapsed by one of them");
	ex_want(&s->e, "collapsed by one of them", "entire", 1);
	for (int who = 2; who <= 3; who++) {
		p_read(who, s->va, s->nr);
		ex_learn(&s->e, who);
		s_check(s, "touched by another one");
	}
	s_exit(s, 1);
	s_check(s, "the first is gone");
}

static void retracted_small(struct fmi_scene *s)
{
	retracted(s, false);
}

static void retracted_large(struct fmi_scene *s)
{
	retracted(s, true);
}

/* A child that shares the folio execs: its mappings go, and its new stack moves down. */
static long do_exec(unsigned long kb, unsigned long fork_only, unsigned long c, unsigned long d)
{
	char *args[32], *text = malloc(100 << 10), nothing[] = EXECED;
	unsigned long n = kb / 100;
	pid_t pid;
	int status;

	(void)c;
	(void)d;
	memset(text, 'x', (100 << 10) - 1);
	text[(100 << 10) - 1] = '\0';
	args[0] = nothing;
	args[1] = nothing;
	for (unsigned long i = 0; i < n; i++)
		args[2 + i] = text;
	args[2 + n] = NULL;
	pid = fork();
	if (pid == 0) {
		if (!fork_only)
			execv("/proc/self/exe", args);
		_exit(fork_only ? 0 : 127);
	}
	free(text);
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ?
	       WEXITSTATUS(status) : -1;
}

static void exec_with_large_arguments(struct fmi_scene *s)
{
	long long opened, forked;

	s_populate(s);
	thp_only(s->kind, s->order, "always");
	for (unsigned long kb = 100; kb <= 1600; kb *= 4) {
		opened = fmi_stat("windows_opened");
		fmi_eq(p_call(1, do_exec, kb, 1, 0, 0), 0, "exit status of the child");
		forked = fmi_stat("windows_opened") - opened;
		opened = fmi_stat("windows_opened");
		fmi_eq(p_call(1, do_exec, kb, 0, 0, 0), 0, "exit status of the program");
		/* The copies of the fork, and the stack. Tracepoints need no windows. */
		fmi_assert(fmi_tracepoints() || fmi_stat("windows_opened") > opened + forked,
			   "exec moved no stack");
		s_check(s, "a child has executed a program");
	}
	thp_never();
	fmi_eq(fmi_stat("windows_open"), 0, "windows_open");
}

/* munmap of much memory goes on with its lock downgraded, while audits read. */
static long do_munmaps(unsigned long ms, unsigned long len, unsigned long b, unsigned long c)
{
	double end = now_seconds() + (double)ms / 1000;
	long rounds = 0;

	(void)b;
	(void)c;
	while (now_seconds() < end) {
		char *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				 -1, 0);

		if (mem == MAP_FAILED)
			return -1;
		for (unsigned long i = 0; i < len; i += pgsz)
			mem[i] = 1;
		/* The middle first: two VMAs, and boundaries inside folios. */
		if (munmap(mem + len / 3 / pgsz * pgsz, 3 * pgsz) || munmap(mem, len))
			return -1;
		rounds++;
	}
	return rounds;
}

static void *munmaps(void *arg)
{
	return (void *)p_call(1, do_munmaps, (unsigned long)arg, 16 * pmd_size, 0, 0);
}

static void audits_during_munmap(struct fmi_scene *s)
{
	unsigned long seconds = fmi_test_all() ? 60 : 6;
	double end;
	pthread_t thread;
	char target[16];
	void *rounds;
	int audits = 0;

	p_start(1);
	snprintf(target, sizeof(target), "%d", p_pid(1));
	thp_only(s->kind, s->order, "always");
	end = now_seconds() + (double)seconds;
	fmi_assert(!pthread_create(&thread, NULL, munmaps, (void *)(seconds * 1000)), "no thread");
	while (now_seconds() < end) {
		fmi_audit(target);
		audits++;
	}
	pthread_join(thread, &rounds);
	thp_never();
	fmi_note("%ld rounds, %d audits", (long)rounds, audits);
	fmi_assert((long)rounds > 0 && audits > 0, "nothing happened");
	fmi_audit("all");
}

static const struct fmi_test tests[] = {
	{ "split_by_mprotect", split_by_mprotect, ON_EACH },
	{ "split_by_dontfork", split_by_dontfork, ON_EACH },
	{ "split_by_nohugepage", split_by_nohugepage, ON_EACH },
	{ "the_boundary_moves", the_boundary_moves, ON_EACH | NOT_ORDER1 },
	{ "a_hole_is_filled", a_hole_is_filled, ON_EACH | NOT_ORDER1 },
	{ "expanded_by_neighbours", expanded_by_neighbours, ON_EACH },
	{ "replaced_in_part", replaced_in_part, ON_EACH | NOT_ORDER1 },
	{ "several_replaced", several_replaced, ON_ANON | NOT_ORDER1 },
	{ "the_heap", the_heap, ON_ANON },
	{ "a_stack_grows", a_stack_grows, ON_ANON },
	{ "an_emptied_page_table_goes", an_emptied_page_table_goes, ON_EACH },
	{ "retracted_small", retracted_small, ON_SHMEM | PMD_ONLY },
	{ "retracted_large", retracted_large, ON_SHMEM | PMD_ONLY },
	{ "exec_with_large_arguments", exec_with_large_arguments, ON_ANON },
	{ "audits_during_munmap", audits_during_munmap, ON_ANON | LONG },
};

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], EXECED))
		return 0;
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
