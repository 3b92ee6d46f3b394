// SPDX-License-Identifier: GPL-2.0
#include "fmi_scene.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kernel-page-flags.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_util.h"

void scene_init(struct fmi_scene *s, enum fmi_kind kind, unsigned int order)
{
	unsigned long len = (ARENA_PMDS + 1) * pmd_size;
	void *mem = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	fmi_assert(mem != MAP_FAILED, "no address space: %s", strerror(errno));
	s->kind = kind;
	s->order = order;
	s->nr = 1UL << order;
	s->size = pgsz << order;
	s->arena = ((unsigned long)mem + pmd_size - 1) & ~(pmd_size - 1);
	s->va = s->arena + 4 * pmd_size;
	s->fd = -1;
	ex_init(&s->e, kind, order, 0);
	p_init();
}

static void open_file(struct fmi_scene *s, unsigned long bytes)
{
	const char *dir = getenv("FMI_FILE_DIR");
	char path[256];
	char *data;
	ssize_t ret;

	snprintf(path, sizeof(path), "%s/fmi-XXXXXX", dir ? dir : "/mnt/xfs");
	s->fd = mkostemp(path, O_CLOEXEC);
	if (s->fd < 0)
		fmi_skip("no filesystem with large folios at %s (FMI_FILE_DIR)",
			 dir ? dir : "/mnt/xfs");
	unlink(path);
	data = malloc(s->size);
	fmi_assert(data, "no memory");
	memset(data, 1, s->size);
	/* One write makes one folio; the rest of the file stays a hole. */
	ret = pwrite(s->fd, data, s->size, 0);
	fmi_assert(ret == (ssize_t)s->size, "write %s: %s", path, strerror(errno));
	free(data);
	if (bytes > s->size)
		fmi_assert(!ftruncate(s->fd, (off_t)bytes), "truncate: %s", strerror(errno));
	fmi_assert(!fsync(s->fd), "fsync: %s", strerror(errno));
}

void s_open(struct fmi_scene *s, unsigned long bytes)
{
	if (s->kind == FMI_FILE) {
		open_file(s, bytes);
		return;
	}
	s->fd = memfd_create("fmi", MFD_CLOEXEC);
	fmi_assert(s->fd >= 0, "memfd_create: %s", strerror(errno));
	fmi_assert(!ftruncate(s->fd, (off_t)bytes), "truncate: %s", strerror(errno));
}

void s_map(struct fmi_scene *s, int who, unsigned long va, unsigned long len, unsigned long offset)
{
	int flags = s->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;

	p_mmap(who, va, len, PROT_READ | PROT_WRITE, flags, s->fd, s->fd < 0 ? 0 : offset);
	ex_vma(&s->e, who, va, va + len);
}

void s_map_private(struct fmi_scene *s, int who, unsigned long va, unsigned long len,
		   unsigned long offset)
{
	p_mmap(who, va, len, PROT_READ | PROT_WRITE, MAP_PRIVATE, s->fd, offset);
	ex_vma(&s->e, who, va, va + len);
}

void s_fault(struct fmi_scene *s, int who, unsigned long va)
{
	unsigned long pfn, head;
	unsigned int order;

	if (s->kind == FMI_FILE) {
		p_read(who, va, 1);
	} else {
		thp_only(s->kind, s->order, "always");
		p_write(who, va, 1);
		thp_never();
	}
	pfn = pagemap_pfn(p_pid(who), va);
	fmi_assert(pfn, "nothing mapped at 0x%lx", va);
	order = folio_order(pfn, &head);
	if (order != s->order)
		fmi_skip("the kernel gave a folio of order %u", order);
	fmi_eq(head, pfn, "head of the folio");
	s->e.pfn = pfn;
}

void s_mapped_whole(struct fmi_scene *s, int who, unsigned long va)
{
	if (s->order == pmd_order)
		ex_map_entire(&s->e, who, va);
	else
		ex_map(&s->e, who, va, 0, (int)s->nr);
}

void s_populate_by(struct fmi_scene *s, int who)
{
	if (s->kind != FMI_ANON)
		s_open(s, s->size);
	p_start(who);
	s_map(s, who, s->va, s->size, 0);
	s_fault(s, who, s->va);
	s_mapped_whole(s, who, s->va);
}

void s_populate_unchecked(struct fmi_scene *s)
{
	s_populate_by(s, 1);
}

void s_populate(struct fmi_scene *s)
{
	s_populate_unchecked(s);
	s_check(s, "populated");
}

void s_populate_zero(struct fmi_scene *s)
{
	s->fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	fmi_assert(s->fd >= 0, "/dev/zero: %s", strerror(errno));
	p_start(1);
	s_map_private(s, 1, s->va, s->size, 16 * pmd_size + pgsz);
	s_fault(s, 1, s->va);
	s_mapped_whole(s, 1, s->va);
	s_check(s, "populated");
}

unsigned long s_page(const struct fmi_scene *s, unsigned long page)
{
	return s->va + page * pgsz;
}

void s_fork(struct fmi_scene *s, int from, int to)
{
	p_fork(from, to);
	ex_fork(&s->e, from, to);
}

void s_exit(struct fmi_scene *s, int who)
{
	p_exit(who);
	ex_exit(&s->e, who);
}

void s_munmap(struct fmi_scene *s, int who, unsigned long first, unsigned long nr)
{
	p_munmap(who, s_page(s, first), nr * pgsz);
	ex_vma_cut(&s->e, who, s_page(s, first), nr * pgsz);
}

void s_dontneed(struct fmi_scene *s, int who, unsigned long first, unsigned long nr)
{
	p_madvise(who, s_page(s, first), nr * pgsz, MADV_DONTNEED);
	ex_unmap(&s->e, who, s_page(s, first), nr * pgsz);
}

void s_cow(struct fmi_scene *s, int who, unsigned long page)
{
	p_write(who, s_page(s, page), 1);
	ex_unmap(&s->e, who, s_page(s, page), pgsz);
}

void s_write_in_place(struct fmi_scene *s, int who, unsigned long page)
{
	p_write(who, s_page(s, page), 1);
}

void s_check(struct fmi_scene *s, const char *what)
{
	ex_check(&s->e, what);
}

static void check_found(const struct fmi_scene *s, unsigned long head, unsigned int order,
			const char *what)
{
	static struct fmi_expect e;
	bool anon = page_flags(head) & (1ULL << KPF_ANON);

	ex_init(&e, anon ? FMI_ANON : s->kind, order, head);
	e.nr_vmas = s->e.nr_vmas;
	memcpy(e.vmas, s->e.vmas, sizeof(e.vmas));
	for (int who = 1; who < FMI_ACTORS; who++) {
		if (p_pid(who))
			ex_learn(&e, who);
	}
	ex_check_folio(&e, what);
}

int s_check_found(struct fmi_scene *s, const char *what)
{
	unsigned long head = 0;
	unsigned int order = 0;
	int found = 0;

	for (int i = 0; i < s->e.nr_vmas; i++) {
		const struct ex_vma *vma = &s->e.vmas[i];

		for (unsigned long va = vma->start; va < vma->end; va += pgsz) {
			unsigned long pfn = pagemap_pfn(p_pid(vma->who), va);

			/* Of the pages of a folio that come one after the other only the first. */
			if (!pfn || (order && pfn >= head && pfn < head + (1UL << order)))
				continue;
			order = folio_order(pfn, &head);
			if (order == 0)
				continue;
			/* Of very many every eighth: the audit looks at all. */
			if (found < 8 || found % 8 == 0 || fmi_test_all())
				check_found(s, head, order, what);
			found++;
		}
	}
	fmi_audit("all");
	return found;
}
