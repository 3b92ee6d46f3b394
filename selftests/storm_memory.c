// SPDX-License-Identifier: GPL-2.0
/* What a process of the storm does to its mappings: fault, unmap, move, fork, reclaim. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_util.h"
#include "storm_worker.h"

static void map_anon(unsigned long va, unsigned long len)
{
	if (mmap((void *)va, len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != (void *)va)
		storm_broken("mmap");
}

static void map_file(unsigned long va, unsigned long len, int how, int fd, unsigned long offset)
{
	if (mmap((void *)va, len, PROT_READ | PROT_WRITE, how | MAP_FIXED, fd,
		 (off_t)offset) != (void *)va)
		storm_broken("mmap of a file");
}

void storm_memory_init(struct storm_worker *w)
{
	map_anon(w->anon, w->len);
	map_anon(w->source, w->len);
	map_anon(w->target, w->len);
	map_file(w->shared, w->len, MAP_SHARED, w->fd, 0);
	map_file(w->odd, w->len - pgsz, MAP_SHARED, w->common, pgsz);
}

unsigned long storm_private(struct storm_worker *w)
{
	switch (storm_rnd(w, 6)) {
	case 0:
		return w->source;
	case 1:
		return w->target;
	default:
		return w->anon;
	}
}

/* No plain access: another thread may have the range unmapped just now. */
static bool populate(struct storm_worker *w, unsigned long region)
{
	unsigned long len;
	unsigned long va = storm_range(w, region, &len);

	return madvise((void *)va, len,
		       storm_rnd(w, 2) ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) == 0;
}

static bool advise(struct storm_worker *w, unsigned long region, int advice)
{
	unsigned long len;
	unsigned long va = storm_range(w, region, &len);

	return madvise((void *)va, len, advice) == 0;
}

static bool op_touch(struct storm_worker *w)
{
	return populate(w, storm_rnd(w, 3) ? w->anon : w->source);
}

static bool op_touch_file(struct storm_worker *w)
{
	return populate(w, storm_rnd(w, 2) ? w->shared : w->odd);
}

static bool op_unmap(struct storm_worker *w)
{
	unsigned long len;
	unsigned long va = storm_range(w, w->anon, &len);

	munmap((void *)va, len);
	map_anon(va, len);
	return true;
}

static bool op_unmap_file(struct storm_worker *w)
{
	unsigned long len;
	unsigned long va = storm_range(w, w->shared, &len);

	munmap((void *)va, len);
	map_file(va, len, MAP_SHARED, w->fd, va - w->shared);
	return true;
}

static bool op_dontneed(struct storm_worker *w)
{
	return advise(w, storm_private(w), MADV_DONTNEED);
}

static bool op_dontneed_file(struct storm_worker *w)
{
	return advise(w, storm_rnd(w, 2) ? w->shared : w->odd, MADV_DONTNEED);
}

/* Away and back again, so that every region stays what it is. */
static bool op_mremap(struct storm_worker *w)
{
	const int how = MREMAP_MAYMOVE | MREMAP_FIXED;
	unsigned long len;
	unsigned long va = storm_range(w, w->anon, &len);
	unsigned long to = w->scratch + storm_rnd(w, (unsigned int)(w->len / 3 / pgsz)) * pgsz;

	/* Whole page tables now and then. */
	if (storm_rnd(w, 4) == 0) {
		va &= ~(pmd_size - 1);
		to &= ~(pmd_size - 1);
		len = pmd_size;
	}
	if (mremap((void *)va, len, len, how, (void *)to) != (void *)to)
		return false;
	if (mremap((void *)to, len, len, how, (void *)va) != (void *)va) {
		/*
		 * Of several VMAs some may have moved when KSM lets a pending signal interrupt the
		 * call: it is restarted, and does not find them. What is torn is made new.
		 */
		if (errno != EFAULT)
			storm_broken("mremap back");
		map_anon(va, len);
	}
	return true;
}

static bool op_pageout(struct storm_worker *w)
{
	return advise(w, storm_rnd(w, 4) ? storm_private(w) : w->shared, MADV_PAGEOUT);
}

static bool op_lazyfree(struct storm_worker *w)
{
	return advise(w, storm_private(w), MADV_FREE);
}

static bool op_mprotect(struct storm_worker *w)
{
	unsigned long len;
	unsigned long va = storm_range(w, w->anon, &len);

	mprotect((void *)va, len, PROT_READ);
	return mprotect((void *)va, len, PROT_READ | PROT_WRITE) == 0;
}

static bool op_punch_hole(struct storm_worker *w)
{
	const int how = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	unsigned long len;
	unsigned long offset = storm_range(w, 0, &len);
	int fd = w->fd;

	switch (storm_rnd(w, 3)) {
	case 0:
		fd = w->common;
		break;
	case 1:
		if (w->disk >= 0)
			fd = w->disk;
	}
	if (fallocate(fd, how, (off_t)offset, (off_t)len)) {
		/* A disk may be full. */
		if (fd != w->disk)
			storm_broken("fallocate");
		return false;
	}
	return true;
}

static bool op_collapse(struct storm_worker *w)
{
	unsigned long region = storm_rnd(w, 2) ? storm_private(w) : w->shared;
	unsigned long va = region + storm_rnd(w, (unsigned int)(w->len / pmd_size)) * pmd_size;

	return madvise((void *)va, pmd_size, MADV_COLLAPSE) == 0;
}

/* To another node of the machine. */
static bool has_nodes(void)
{
	return access("/sys/devices/system/node/node1", F_OK) == 0;
}

static bool op_move_pages(struct storm_worker *w)
{
	enum { MOST = 64 };
	int nodes[MOST], status[MOST], was[MOST];
	void *pages[MOST];
	unsigned long len, nr;
	unsigned long va = storm_range(w, storm_rnd(w, 3) ? storm_private(w) : w->shared, &len);
	int node = (int)storm_rnd(w, 2);

	nr = len / pgsz < MOST ? len / pgsz : MOST;
	for (unsigned long i = 0; i < nr; i++) {
		pages[i] = (void *)(va + i * pgsz);
		nodes[i] = node;
		status[i] = -1;
		was[i] = -1;
	}
	/* Without nodes it only says where they are. */
	if (syscall(SYS_move_pages, 0, nr, pages, NULL, was, 0) ||
	    syscall(SYS_move_pages, 0, nr, pages, nodes, status, 1 << 1 /* MPOL_MF_MOVE */) < 0)
		return false;
	for (unsigned long i = 0; i < nr; i++) {
		if (was[i] >= 0 && was[i] != node && status[i] == node)
			return true;
	}
	return false;
}

/* A piece of a file where its large folios are aligned to nothing; also twice in one process. */
static bool op_map_odd(struct storm_worker *w)
{
	unsigned int pages = (unsigned int)(w->len / pgsz);
	int how = storm_rnd(w, 4) ? MAP_SHARED : MAP_PRIVATE;
	unsigned long len;
	unsigned long va = storm_range(w, w->odd, &len);
	unsigned long offset = storm_rnd(w, pages - (unsigned int)(len / pgsz)) * pgsz;
	int fd = w->common;

	switch (storm_rnd(w, 3)) {
	case 0:
		fd = w->fd;
		break;
	case 1:
		if (w->disk >= 0)
			fd = w->disk;
	}
	map_file(va, len, how, fd, offset);
	return madvise((void *)va, len, storm_rnd(w, 2) ? MADV_POPULATE_WRITE :
							  MADV_POPULATE_READ) == 0;
}

void storm_race(struct storm_worker *w)
{
	unsigned long len;
	unsigned long va;

	switch (storm_rnd(w, 6)) {
	case 0:
		populate(w, w->shared);
		break;
	case 1:
		va = storm_range(w, w->anon, &len);
		madvise((void *)va, len, MADV_DONTNEED);
		break;
	case 2:
		populate(w, w->source);
		break;
	case 3:
		va = storm_range(w, storm_rnd(w, 4) ? w->target : w->source, &len);
		madvise((void *)va, len, MADV_DONTNEED);
		break;
	default:
		populate(w, w->anon);
	}
}

const struct storm_op storm_ops_memory[] = {
	{ "touch", 8, op_touch, NULL },
	{ "touch_file", 3, op_touch_file, NULL },
	{ "unmap", 2, op_unmap, NULL },
	{ "unmap_file", 2, op_unmap_file, NULL },
	{ "dontneed", 2, op_dontneed, NULL },
	{ "dontneed_file", 2, op_dontneed_file, NULL },
	{ "mremap", 4, op_mremap, NULL },
	{ "pageout", 2, op_pageout, NULL },
	{ "lazyfree", 1, op_lazyfree, NULL },
	{ "mprotect", 2, op_mprotect, NULL },
	{ "punch_hole", 1, op_punch_hole, NULL },
	{ "collapse", 1, op_collapse, NULL },
	{ "move_pages", 2, op_move_pages, has_nodes },
	{ "map_odd", 3, op_map_odd, NULL },
	{ "fork", 6, storm_fork, NULL },
};

const size_t nr_storm_ops_memory = ARRAY_SIZE(storm_ops_memory);
