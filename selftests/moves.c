// SPDX-License-Identifier: GPL-2.0
/*
 * mremap beyond the plain move: what is refused, resizing, duplicates, whole page tables,
 * failures that are rolled back. After each the positions are where the test says.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

#define MOVE (MREMAP_MAYMOVE | MREMAP_FIXED)

static unsigned long target(const struct fmi_scene *s)
{
	return s->arena + 12 * pmd_size;
}

/* mremap(2) with all its arguments, in an actor: 0, or the error. */
struct remap {
	unsigned long from, old_len, new_len, to;
	int flags;
};

static long do_remap(unsigned long from, unsigned long lens, unsigned long to, unsigned long flags)
{
	unsigned long old_len = (lens >> 32) * pgsz;
	unsigned long new_len = (lens & 0xffffffff) * pgsz;
	void *want = (void *)(flags & MREMAP_FIXED ? to : from);
	void *got = mremap((void *)from, old_len, new_len, (int)flags, (void *)to);

	if (got == MAP_FAILED)
		return errno;
	return got == want ? 0 : ENOTRECOVERABLE;
}

static int remap(int who, struct remap r)
{
	unsigned long lens = (r.old_len / pgsz) << 32 | r.new_len / pgsz;

	return (int)p_call(who, do_remap, r.from, lens, r.to, (unsigned long)r.flags);
}

static void must(int who, struct remap r, const char *what)
{
	int err = remap(who, r);

	fmi_assert(err == 0, "%s: mremap: %s", what, strerror(err));
}

static void refused(struct fmi_scene *s, struct remap r, int want, const char *what)
{
	long long opened = fmi_stat("windows_opened");
	int err = remap(1, r);

	fmi_assert(err == want, "%s: got '%s', want '%s'", what, strerror(err), strerror(want));
	fmi_eq(fmi_stat("windows_opened"), opened, "windows_opened");
	s_check(s, what);
}

/* After a PMD of a file was split nothing is mapped: touch all of an actor's memory. */
static void settle(struct fmi_scene *s, const char *what)
{
	if (s->e.nr_mappings == 0) {
		s_check(s, what);
		for (int i = 0; i < s->e.nr_vmas; i++) {
			const struct ex_vma *vma = &s->e.vmas[i];

			p_read(vma->who, vma->start, (vma->end - vma->start) / pgsz);
		}
		ex_learn(&s->e, 1);
		fmi_assert(s->e.nr_mappings > 0, "%s: nothing faulted in again", what);
	}
	s_check(s, what);
}

static void nothing_refused_changes_anything(struct fmi_scene *s)
{
	unsigned long half = s->size / 2;

	s_populate(s);
	refused(s, (struct remap){ s->va, s->size, s->size, s->va, MOVE }, EINVAL,
		"onto itself");
	refused(s, (struct remap){ s->va, s->size, s->size, s->va + pgsz, MOVE }, EINVAL,
		"one page up");
	refused(s, (struct remap){ s->va, s->size, s->size, s->va - pgsz, MOVE }, EINVAL,
		"one page down");
	refused(s, (struct remap){ s->va, half, s->size, s->va - half, MOVE }, EINVAL,
		"the new range reaches into the old one");
	refused(s, (struct remap){ s->va, s->size, s->size, target(s) + 1, MOVE }, EINVAL,
		"to the middle of a page");
	refused(s, (struct remap){ s->va, s->size, s->size, target(s), MREMAP_FIXED }, EINVAL,
		"fixed, but not to be moved");
	refused(s, (struct remap){ s->va, s->size, half, target(s), MOVE | MREMAP_DONTUNMAP },
		EINVAL, "DONTUNMAP with another length");
	refused(s, (struct remap){ s->arena, 0, s->size, target(s), MOVE }, EINVAL,
		"a duplicate of private memory");
	refused(s, (struct remap){ s->va, s->size, 0, target(s), MOVE }, EINVAL, "no length");
	/* In place it could not grow: the arena begins behind it. */
	refused(s, (struct remap){ s->va, s->size, 2 * s->size, 0, 0 }, ENOMEM,
		"no room to grow in place");
}

/* Each third apart to a place with another alignment, then together again. */
static void parts_and_back(struct fmi_scene *s)
{
	unsigned long cut[4] = { 0, s->nr / 3, s->nr * 2 / 3, s->nr };

	s_populate(s);
	for (int i = 0; i < 3; i++) {
		unsigned long from = s_page(s, cut[i]);
		unsigned long len = (cut[i + 1] - cut[i]) * pgsz;
		unsigned long to = target(s) + (unsigned long)i * (s->size + 3 * pgsz) + pgsz;

		if (!len)
			continue;
		must(1, (struct remap){ from, len, len, to, MOVE }, "a third away");
		ex_move(&s->e, 1, from, len, to);
		settle(s, "a third is elsewhere");
	}
	for (int i = 2; i >= 0; i--) {
		unsigned long to = s_page(s, cut[i]);
		unsigned long len = (cut[i + 1] - cut[i]) * pgsz;
		unsigned long from = target(s) + (unsigned long)i * (s->size + 3 * pgsz) + pgsz;

		if (!len)
			continue;
		must(1, (struct remap){ from, len, len, to, MOVE }, "a third back");
		ex_move(&s->e, 1, from, len, to);
		if (cut[i + 1] != s->nr)
			ex_vma_merge(&s->e, 1, to + len);
		settle(s, "a third is back");
	}
	ex_want(&s->e, "all of it is back", "vma", 1);
}

/* What comes back has another protection: one place, but two VMAs until it has the same again. */
static void back_but_not_merged(struct fmi_scene *s)
{
	unsigned long mid = s->nr / 2, from = s_page(s, mid), len = s->size - mid * pgsz;

	s_populate(s);
	must(1, (struct remap){ from, len, len, target(s) + pgsz, MOVE }, "half away");
	ex_move(&s->e, 1, from, len, target(s) + pgsz);
	settle(s, "half is elsewhere");
	p_mprotect(1, target(s) + pgsz, len, PROT_READ);
	must(1, (struct remap){ target(s) + pgsz, len, len, from, MOVE }, "half back");
	ex_move(&s->e, 1, target(s) + pgsz, len, from);
	settle(s, "half is back, read-only");
	ex_want(&s->e, "one record in two VMAs", "vma", 2);
	p_mprotect(1, from, len, PROT_READ | PROT_WRITE);
	ex_vma_merge(&s->e, 1, from);
	settle(s, "merged");
	ex_want(&s->e, "merged", "vma", 1);
}

static void shrink_and_grow_in_place(struct fmi_scene *s)
{
	unsigned long half = s->size / 2;

	s_populate(s);
	must(1, (struct remap){ s->va, s->size, half, 0, 0 }, "shrink");
	ex_vma_cut(&s->e, 1, s->va + half, half);
	settle(s, "shrunk to half of it");
	p_munmap(1, s->va + half, 4 * s->size);
	must(1, (struct remap){ s->va, half, 2 * s->size, 0, 0 }, "grow");
	s->e.nr_vmas = 0;
	ex_vma(&s->e, 1, s->va, s->va + 2 * s->size);
	s_check(s, "grown to twice of it");
	if (s->kind == FMI_ANON)
		return;
	/* The other half of the folio is in the VMA again. */
	p_read(1, s->va, s->nr);
	ex_learn(&s->e, 1);
	s_check(s, "and touched");
	ex_want(&s->e, "one VMA", "vma", 1);
	ex_want(&s->e, "all pages", "nr_pages_mapped", (int)s->nr);
}

static void shrink_while_moving(struct fmi_scene *s)
{
	unsigned long half = s->size / 2;

	s_populate(s);
	must(1, (struct remap){ s->va, s->size, half, target(s), MOVE }, "move and shrink");
	ex_vma_cut(&s->e, 1, s->va + half, half);
	ex_move(&s->e, 1, s->va, half, target(s));
	settle(s, "half of it moved, half of it unmapped");
}

static void grow_while_moving(struct fmi_scene *s)
{
	s_populate(s);
	must(1, (struct remap){ s->va, s->size, 2 * s->size, target(s), MOVE }, "move and grow");
	ex_move(&s->e, 1, s->va, s->size, target(s));
	s->e.vmas[0].end += s->size;
	s_check(s, "moved into a larger VMA");
}

static void dontunmap(struct fmi_scene *s)
{
	s_populate(s);
	must(1, (struct remap){ s->va, s->size, s->size, target(s), MOVE | MREMAP_DONTUNMAP },
	     "DONTUNMAP");
	ex_move(&s->e, 1, s->va, s->size, target(s));
	ex_vma(&s->e, 1, s->va, s->va + s->size);
	s_check(s, "moved, the old VMA stays");
	p_read(1, s->va, s->nr);
	if (s->kind != FMI_ANON)
		ex_learn(&s->e, 1);
	s_check(s, "the old VMA touched");
	if (s->kind != FMI_ANON)
		ex_want(&s->e, "mapped at both places", "vma", 2);
	p_munmap(1, target(s), s->size);
	ex_vma_cut(&s->e, 1, target(s), s->size);
	s_check(s, "unmapped where it went");
}

static void dontunmap_a_part(struct fmi_scene *s)
{
	unsigned long half = s->size / 2, from = s->va + half;

	s_populate(s);
	must(1, (struct remap){ from, half, half, target(s) + pgsz, MOVE | MREMAP_DONTUNMAP },
	     "DONTUNMAP");
	ex_split(&s->e, 1, from, half);
	for (int i = 0; i < s->e.nr_mappings; i++) {
		if (s->e.mappings[i].va >= from)
			s->e.mappings[i].va += target(s) + pgsz - from;
	}
	ex_vma(&s->e, 1, target(s) + pgsz, target(s) + pgsz + half);
	settle(s, "half moved, the old VMA stays whole");
}

/* An old length of 0 duplicates a shared mapping: nothing moves. */
static void duplicate(struct fmi_scene *s)
{
	s_populate(s);
	must(1, (struct remap){ s->va, 0, s->size, target(s) + pgsz, MOVE }, "duplicate");
	ex_vma(&s->e, 1, target(s) + pgsz, target(s) + pgsz + s->size);
	s_check(s, "a second VMA that maps nothing");
	p_read(1, target(s) + pgsz, s->nr);
	ex_learn(&s->e, 1);
	s_check(s, "and touched");
	ex_want(&s->e, "mapped twice", "max_page", 2);
}

/* One call moves all VMAs of a range. */
static void several_vmas_at_once(struct fmi_scene *s)
{
	unsigned long mid = s->nr / 2;

	s_populate(s);
	p_mprotect(1, s_page(s, mid), pgsz, PROT_READ);
	ex_vma_split(&s->e, 1, s_page(s, mid));
	ex_vma_split(&s->e, 1, s_page(s, mid + 1));
	ex_split(&s->e, 1, s_page(s, mid), pgsz);
	settle(s, "several VMAs");
	must(1, (struct remap){ s->va, s->size, s->size, target(s) + pgsz, MOVE }, "all of them");
	ex_move(&s->e, 1, s->va, s->size, target(s) + pgsz);
	settle(s, "all of them moved");
}

/* Other processes that map the folio, too, keep it where it is; each moves its own elsewhere. */
static void shared_by_several(struct fmi_scene *s)
{
	s_populate(s);
	for (int who = 2; who <= 4; who++) {
		s_fork(s, 1, who);
		if (s->kind != FMI_ANON) {
			p_read(who, s->va, s->nr);
			ex_learn(&s->e, who);
		}
	}
	s_check(s, "four processes");
	must(2, (struct remap){ s->va, s->size, s->size, target(s), MOVE }, "whole");
	ex_move(&s->e, 2, s->va, s->size, target(s));
	s_check(s, "one moved it");
	must(3, (struct remap){ s->va, s->size, s->size, target(s) + pgsz, MOVE }, "unaligned");
	ex_move(&s->e, 3, s->va, s->size, target(s) + pgsz);
	s_check(s, "another one to an odd place");
	must(4, (struct remap){ s->va, pgsz, pgsz, target(s) - pgsz, MOVE }, "one page");
	ex_move(&s->e, 4, s->va, pgsz, target(s) - pgsz);
	s_check(s, "and one a single page");
	s_exit(s, 1);
	s_check(s, "the first is gone");
	/* The PMD of a file that had to be split left nothing. */
	ex_want(&s->e, "the others", "mm", s->kind != FMI_ANON && s->order == pmd_order ? 1 : 3);
}

/* Another folio than the scene's is where the test says, once. */
static void is_at(struct fmi_scene *s, unsigned long va, bool by_pmd, const char *what)
{
	const char *report = fmi_report_va(p_pid(1), va);
	char base[32];

	fmi_assert(report, "%s: no report of the folio at 0x%lx", what, va);
	fmi_eq(text_value(report, "total"), by_pmd ? 1 : (long long)s->nr, what);
	fmi_eq(text_value(report, "vma_pt"), va / pmd_size == (va + s->size - 1) / pmd_size ? 1 : 2,
	       what);
	fmi_eq(text_value(report, "mappers"), 1, what);
	snprintf(base, sizeof(base), " base=0x%lx ", va);
	fmi_assert(strstr(report, base), "%s: the folio is not at %s", what, base);
}

/* Page tables full of PTEs go as a whole if both places are aligned to them. */
static void whole_page_tables(struct fmi_scene *s)
{
	unsigned long len = 4 * pmd_size, from = s->va, to = target(s);

	if (s->kind != FMI_ANON)
		s_open(s, len);
	p_start(1);
	s_map(s, 1, from, len, 0);
	s_fault(s, 1, from);
	thp_only(s->kind, s->order, "always");
	p_write(1, from, len / pgsz);
	thp_never();
	if (s->order == pmd_order) {
		/* PTEs, without a trace among the VMAs. */
		for (int i = 0; i < 4; i++) {
			unsigned long at = from + (unsigned long)i * pmd_size + pgsz;

			p_mprotect(1, at, pgsz, PROT_READ);
			p_mprotect(1, at, pgsz, PROT_READ | PROT_WRITE);
		}
	}
	ex_learn(&s->e, 1);
	s_check(s, "populated");
	must(1, (struct remap){ from, len, len, to, MOVE }, "four page tables");
	ex_move(&s->e, 1, from, len, to);
	s_check(s, "four page tables moved");
	for (unsigned long at = 0; at < len; at += pmd_size / 2 + s->size)
		is_at(s, to + at / s->size * s->size, s->e.nr_mappings == 1, "moved");
	must(1, (struct remap){ to + pmd_size, pmd_size, pmd_size, from, MOVE }, "one");
	ex_move(&s->e, 1, to + pmd_size, pmd_size, from);
	s_check(s, "one of them back");
	is_at(s, from + pmd_size - s->size, s->e.nr_mappings == 1, "back");
	is_at(s, to + 2 * pmd_size, s->e.nr_mappings == 1, "not moved again");
}

/*
 * Folios in a range of more than the size of a PUD, which moves as a whole (x86-64, arm64) if both
 * places are aligned to it, and by PMDs otherwise.
 */
static void more_than_a_pud(struct fmi_scene *s)
{
	const unsigned long pud = pmd_size * (pgsz / 8), len = pud + 2 * pmd_size;
	unsigned long from, to, at[4] = { 0, pud / 2, pud - pmd_size, pud };
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	unsigned long room = 8 * pud;
	void *mem = mmap(NULL, room, PROT_NONE, flags, -1, 0);

	if (mem == MAP_FAILED)
		fmi_skip("no 8 PUDs of address space: %s", strerror(errno));
	from = ((unsigned long)mem + pud - 1) & ~(pud - 1);
	to = from + 3 * pud;
	p_start(1);
	p_mmap(1, from, len, PROT_READ | PROT_WRITE, flags, -1, 0);
	ex_vma(&s->e, 1, from, from + len);
	for (int i = 3; i >= 0; i--)
		s_fault(s, 1, from + at[i]);
	/* The first of them is the one that is looked at closely, if it is the only PMD there. */
	s->va = from;
	s_mapped_whole(s, 1, s->va);
	for (int i = 0; i < 3; i++) {
		static const char *const what[] = { "a PUD up", "by PMDs", "by PTEs" };
		static const unsigned long odd[] = { 0, 2, 0 };
		unsigned long next = i == 2 ? to + pgsz : to + odd[i] * pmd_size;

		must(1, (struct remap){ from, len, len, next, MOVE }, what[i]);
		ex_move(&s->e, 1, from, len, next);
		if (s->e.mappings[0].page != EX_ENTIRE)
			s_check(s, what[i]);
		fmi_audit("all");
		for (int j = 0; j < 4; j++)
			is_at(s, next + at[j], s->order == pmd_order && i < 2, what[i]);
		to = from;
		from = next;
	}
}

static const struct fmi_test tests[] = {
	{ "nothing_refused_changes_anything", nothing_refused_changes_anything, ON_ANON },
	{ "parts_and_back", parts_and_back, ON_EACH },
	{ "back_but_not_merged", back_but_not_merged, ON_EACH },
	{ "shrink_and_grow_in_place", shrink_and_grow_in_place, ON_EACH },
	{ "shrink_while_moving", shrink_while_moving, ON_EACH },
	{ "grow_while_moving", grow_while_moving, ON_EACH },
	{ "dontunmap", dontunmap, ON_EACH },
	{ "dontunmap_a_part", dontunmap_a_part, ON_EACH },
	{ "duplicate", duplicate, ON_SHMEM | ON_FILE },
	{ "several_vmas_at_once", several_vmas_at_once, ON_EACH },
	{ "shared_by_several", shared_by_several, ON_EACH },
	{ "whole_page_tables", whole_page_tables, ON_ANON },
	{ "whole_page_tables", whole_page_tables, ON_SHMEM | PTE_ONLY },
	{ "more_than_a_pud", more_than_a_pud, ON_ANON },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
