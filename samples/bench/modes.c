// SPDX-License-Identifier: GPL-2.0
/*
 * What is measured: the modes of the benchmarks that the maintainers use for changes of mapcounts
 * (pte-mapped-folio-benchmarks.c), as we understand them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "fmi_ksft.h"
#include "fmi_util.h"

static bool any(const struct bench_cell *c)
{
	(void)c;
	return true;
}

static bool only_anon(const struct bench_cell *c)
{
	return c->kind == FMI_ANON;
}

/* A fault that maps a folio of 2M maps it by a PMD. */
static bool as_faulted(const struct bench_cell *c)
{
	return c->empty || c->order != pmd_order || c->by_pmd;
}

/* fork leaves PMDs of files to a fault of the child. */
static bool copied(const struct bench_cell *c)
{
	return c->kind == FMI_ANON || !c->by_pmd;
}

static bool without_memory(const struct bench_cell *c)
{
	return c->empty && c->kind == FMI_ANON;
}

static bool with_module(const struct bench_cell *c)
{
	return without_memory(c) && module_loaded();
}

/* A child that runs when its parent waits for it, and not before: FIFO has the only CPU. */
static pid_t child(void (*run)(struct bench_cell *c), struct bench_cell *c)
{
	pid_t pid = fork();

	if (pid == 0) {
		run(c);
		_exit(0);
	}
	fmi_assert(pid > 0, "fork: %s", strerror(errno));
	return pid;
}

static void wait_for(pid_t pid)
{
	int status;

	fmi_assert(waitpid(pid, &status, 0) == pid && status == 0, "the child failed");
}

static void nothing(struct bench_cell *c)
{
	(void)c;
}

/* A byte of the first page of each folio. */
static void write_bytes(struct bench_cell *c)
{
	begin();
	for (unsigned long i = 0; !c->empty && i < c->nr; i++)
		((volatile char *)c->mem)[i * c->size] = 3;
	end();
}

static void run_fork(struct bench_cell *c)
{
	pid_t pid;

	(void)c;
	begin();
	pid = fork();
	if (pid == 0)
		_exit(0);
	end();
	fmi_assert(pid > 0, "fork: %s", strerror(errno));
	wait_for(pid);
}

/* From the last moment of the child to the parent's return from waiting: the switch is in it. */
static void child_exit(struct bench_cell *c)
{
	(void)c;
	begin();
}

static void run_exit(struct bench_cell *c)
{
	wait_for(child(child_exit, c));
	end();
}

static void run_munmap(struct bench_cell *c)
{
	begin();
	munmap(c->mem, c->len);
	end();
	cell_unmap(c, c->mem);
}

static void move(struct bench_cell *c, char *from, char *to)
{
	char *got = mremap(from, c->len, c->len, MREMAP_MAYMOVE | MREMAP_FIXED, to);

	fmi_assert(got == to, "mremap: %s", strerror(errno));
}

/*
 * Moves single entries, not page tables: the place moved to is shifted by a folio, or by half of
 * one that fills a page table. PMDs can only move to an aligned place, as PMDs.
 */
static void run_remap(struct bench_cell *c)
{
	unsigned long shift = c->size < pmd_size ? c->size : pmd_size / 2;
	char *to = c->other + (c->by_pmd ? 0 : shift);

	begin();
	move(c, c->mem, to);
	end();
	move(c, to, c->mem);
}

static void run_cow(struct bench_cell *c)
{
	wait_for(child(write_bytes, c));
}

static void run_reuse(struct bench_cell *c)
{
	wait_for(child(nothing, c));
	write_bytes(c);
}

static void run_child_reuse(struct bench_cell *c)
{
	pid_t pid = child(write_bytes, c);

	cell_unmap(c, c->mem);
	wait_for(pid);
}

/* The first page of each folio, one call each. */
static void run_dontneed(struct bench_cell *c)
{
	begin();
	for (unsigned long i = 0; !c->empty && i < c->nr; i++)
		madvise(c->mem + i * c->size, pgsz, MADV_DONTNEED);
	end();
	cell_unmap(c, c->mem);
}

static void run_fault(struct bench_cell *c)
{
	begin();
	cell_touch(c);
	end();
	cell_unmap(c, c->mem);
}

/* Processes that live shortly, as in a build: each is forked, executes a program, and exits. */
static void run_mix(struct bench_cell *c)
{
	static const char script[] =
		"i=0; while [ $i -lt 30 ]; do /bin/busybox true;"
		" x=$(echo $i | /bin/busybox tr 0-9 a-j); echo $x >/tmp/mix; i=$((i + 1)); done";
	pid_t pid;

	(void)c;
	thp_also(FMI_ANON, 4);
	begin();
	pid = fork();
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", script, NULL);
		_exit(127);
	}
	wait_for(pid);
	end();
}

static void run_read(struct bench_cell *c)
{
	static char text[1 << 17];

	(void)c;
	begin();
	fmi_read("stats", text, sizeof(text));
	end();
}

const struct bench_mode modes[] = {
	{ "fork", copied, cell_populate, true, run_fork },
	{ "exit", only_anon, cell_populate, true, run_exit },
	{ "munmap", any, cell_populate, false, run_munmap },
	{ "remap", only_anon, cell_populate, true, run_remap },
	{ "cow-byte", only_anon, cell_populate, true, run_cow },
	{ "reuse-byte", only_anon, cell_populate, true, run_reuse },
	{ "child-reuse-byte", only_anon, cell_populate, false, run_child_reuse },
	{ "pte-dontneed", only_anon, cell_populate, false, run_dontneed },
	{ "fault", as_faulted, cell_map, false, run_fault },
	{ "mix", without_memory, NULL, false, run_mix },
	{ "read-stats", with_module, NULL, false, run_read },
};

const unsigned int nr_modes = ARRAY_SIZE(modes);
