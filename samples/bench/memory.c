// SPDX-License-Identifier: GPL-2.0
/* Memory in folios of one size. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "fmi_ksft.h"
#include "fmi_util.h"

static char *reserve(unsigned long len)
{
	char *mem = mmap(NULL, len + pmd_size, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	fmi_assert(mem != MAP_FAILED, "no address space: %s", strerror(errno));
	return (char *)(((uintptr_t)mem + pmd_size - 1) & ~(pmd_size - 1));
}

/* One write makes one folio; xfs gives it the size of the write, if it is within one extent. */
static void write_file(struct bench_cell *c)
{
	const char *dir = getenv("FMI_FILE_DIR");
	char path[256];
	char *data = malloc(c->size);

	snprintf(path, sizeof(path), "%s/bench-XXXXXX", dir ? dir : "/mnt/xfs");
	c->fd = mkostemp(path, O_CLOEXEC);
	fmi_assert(c->fd >= 0 && data, "%s: %s", path, strerror(errno));
	unlink(path);
	fmi_assert(!fallocate(c->fd, 0, 0, (off_t)(c->len + pgsz)), "fallocate: %s",
		   strerror(errno));
	memset(data, 1, c->size);
	for (unsigned long at = 0; at < c->len; at += c->size)
		fmi_assert(pwrite(c->fd, data, c->size, (off_t)at) == (ssize_t)c->size,
			   "%s: %s", path, strerror(errno));
	fmi_assert(pwrite(c->fd, data, pgsz, (off_t)c->len) == (ssize_t)pgsz, "%s: %s", path,
		   strerror(errno));
	/* Clean pages: nothing is written back while we measure. */
	fmi_assert(!fsync(c->fd), "fsync: %s", strerror(errno));
	free(data);
}

static void fill_memfd(struct bench_cell *c)
{
	char *mem;

	c->fd = memfd_create("bench", MFD_CLOEXEC);
	fmi_assert(c->fd >= 0, "memfd_create: %s", strerror(errno));
	fmi_assert(!ftruncate(c->fd, (off_t)(c->len + pgsz)), "ftruncate: %s", strerror(errno));
	mem = mmap(c->other, c->len + pgsz, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		   c->fd, 0);
	fmi_assert(mem != MAP_FAILED, "mmap: %s", strerror(errno));
	for (unsigned long at = 0; at <= c->len; at += c->size)
		mem[at] = 1;
	cell_unmap(c, c->other);
}

void cell_open(struct bench_cell *c)
{
	char bytes[32];

	c->fd = -1;
	c->mem = reserve(4 * c->len + 4 * pmd_size);
	c->other = c->mem + 2 * c->len + 2 * pmd_size;
	/*
	 * One fault of a file maps one folio: not its neighbours, and no less than all of it. The
	 * program itself is a file, too, so that a child should map no more than it needs.
	 */
	snprintf(bytes, sizeof(bytes), "%lu", c->kind == FMI_ANON ? pgsz : c->size);
	write_text("/sys/kernel/debug/fault_around_bytes", bytes);
	if (c->order && c->kind != FMI_FILE)
		thp_only(c->kind, c->order, "always");
	else
		thp_never();
	if (c->kind == FMI_FILE)
		write_file(c);
	else if (c->kind == FMI_SHMEM)
		fill_memfd(c);
}

void cell_close(struct bench_cell *c)
{
	munmap(c->mem, 4 * c->len + 4 * pmd_size);
	if (c->fd >= 0)
		close(c->fd);
	thp_never();
}

void cell_map(struct bench_cell *c)
{
	int flags = MAP_PRIVATE | MAP_FIXED | (c->kind == FMI_ANON ? MAP_ANONYMOUS : 0);
	char *mem = mmap(c->mem, c->kind == FMI_ANON ? c->len : c->len + pgsz,
			 PROT_READ | PROT_WRITE, flags, c->fd, 0);

	fmi_assert(mem == c->mem, "mmap: %s", strerror(errno));
	/* fork copies the page tables of a file's VMA only if it has anonymous pages. */
	if (c->kind != FMI_ANON)
		mem[c->len] = 2;
}

void cell_touch(const struct bench_cell *c)
{
	if (c->empty)
		return;
	for (unsigned long i = 0; i < c->nr; i++) {
		char *folio = c->mem + i * c->size;

		if (c->kind == FMI_ANON)
			*(volatile char *)folio = 1;
		else
			(void)*(volatile char *)folio;
	}
}

static void check_sizes(const struct bench_cell *c)
{
	long pmd_kb = vma_pmd_kb(getpid(), (uintptr_t)c->mem);

	for (unsigned long i = 0; i < c->nr; i++) {
		unsigned long head, first = (uintptr_t)c->mem + i * c->size;
		unsigned long pfn = pagemap_pfn(getpid(), first);
		unsigned int order = pfn ? folio_order(pfn, &head) : 0;

		fmi_assert(pfn, "folio %lu is not mapped", i);
		fmi_assert(order == c->order && (!order || head == pfn),
			   "folio %lu is of order %u, not %u", i, order, c->order);
		fmi_assert(pagemap_pfn(getpid(), first + c->size - pgsz),
			   "folio %lu is not mapped as a whole", i);
	}
	fmi_assert((pmd_kb > 0) == c->by_pmd, "%ld KiB are mapped by PMDs", pmd_kb);
}

/*
 * Puts the folios faulted in last on the LRU. Until then the CPU's batch of up to 31 keeps them,
 * and what unmaps them does not free them: how many these are differs from round to round.
 * MADV_COLD does it first, whatever it is asked for; here that is memory where nothing is mapped.
 */
static void drain_lru_batch(void)
{
	static char *nothing;

	if (!nothing) {
		nothing = mmap(NULL, pgsz, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		fmi_assert(nothing != MAP_FAILED, "mmap: %s", strerror(errno));
	}
	fmi_assert(!madvise(nothing, pgsz, MADV_COLD), "MADV_COLD: %s", strerror(errno));
}

void cell_populate(struct bench_cell *c)
{
	cell_map(c);
	cell_touch(c);
	/* The VMA is cut for a moment, and with it each PMD becomes PTEs; none is unmapped. */
	if (c->order == pmd_order && !c->by_pmd) {
		for (unsigned long at = 0; at < c->len; at += pmd_size)
			fmi_assert(!mprotect(c->mem + at, pgsz, PROT_READ), "mprotect");
		fmi_assert(!mprotect(c->mem, c->len, PROT_READ | PROT_WRITE), "mprotect");
	}
	if (!c->empty)
		check_sizes(c);
	drain_lru_batch();
}

/* The addresses stay reserved. */
void cell_unmap(struct bench_cell *c, char *where)
{
	unsigned long len = c->len + (c->kind == FMI_ANON ? 0 : pgsz);

	fmi_assert(!munmap(where, len), "munmap: %s", strerror(errno));
}

bool wanted(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = list; at; at = strchr(at, ',')) {
		at += *at == ',';
		if (!strncmp(at, name, len) && (!at[len] || at[len] == ','))
			return true;
	}
	return !list;
}
