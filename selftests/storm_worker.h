/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of the storm share: one process of it, and what it can do. */
#ifndef STORM_WORKER_H
#define STORM_WORKER_H

#include <stdbool.h>
#include <stddef.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

struct storm_worker {
	/* Regions of `len` bytes each, PMD-aligned; there is room behind each of them. */
	unsigned long anon;	/* private memory */
	unsigned long shared;	/* the family's memfd, from its beginning */
	unsigned long scratch;	/* where mappings are moved, and back from there */
	unsigned long odd;	/* parts of files at offsets that no large folio is aligned to */
	unsigned long source;	/* private memory that UFFDIO_MOVE takes */
	unsigned long target;	/* where it puts it */
	unsigned long len;
	int fd;			/* the family's memfd */
	int common;		/* a memfd of all families */
	int disk;		/* a file on a filesystem with large folios, or -1 */
	int uffd;		/* registered on target, or -1 */
	int uring;		/* pins memory, or -1 */
	int spliced[2];		/* a pipe that refers to memory, or -1 */
	unsigned int seed;
	int depth;
	int children;
	long left;		/* operations until it exits; -1: never */
};

/* One kind of operation; returns whether it was done. */
struct storm_op {
	const char *name;
	unsigned int weight;
	bool (*fn)(struct storm_worker *w);
	/* Can this machine do it? Then it must have been done; NULL: every machine can. */
	bool (*possible)(void);
};

extern const struct storm_op storm_ops_memory[], storm_ops_rare[], storm_ops_system[];
extern const size_t nr_storm_ops_memory, nr_storm_ops_rare, nr_storm_ops_system;

unsigned int storm_rnd(struct storm_worker *w, unsigned int limit);
/* A random range of pages in a region: mostly small, sometimes large. */
unsigned long storm_range(struct storm_worker *w, unsigned long region, unsigned long *len);
/* A region of private memory. */
unsigned long storm_private(struct storm_worker *w);
/* Ends the process, and the storm fails: something that must work did not. */
__attribute__((noreturn)) void storm_broken(const char *what);
/* Is somebody waiting for this process to do nothing? */
bool storm_stopping(void);
/* Sleeps, but not beyond a stop. */
void storm_sleep(unsigned int ms);

/* Maps what a region begins with; and what a forked child does first. */
void storm_memory_init(struct storm_worker *w);
void storm_rare_init(struct storm_worker *w);
void storm_rare_forked(struct storm_worker *w);
/* Faults and zaps against everything else, from a second thread. */
void storm_race(struct storm_worker *w);
bool storm_fork(struct storm_worker *w);

/* Has this machine KSM? */
bool storm_has_ksm(void);
/*
 * Whether swapoff is among the operations, for storms that start from now on. It must not meet
 * large folios that were swapped in and are not anon yet (Documentation/kernel/k2-*.rst), so with
 * swapoff anonymous memory is swapped in by small folios. Returns false if it cannot be.
 */
bool storm_with_swapoff(bool with);
/* Settings of the machine while a storm blows, and back. */
void storm_system_start(void);
void storm_system_stop(void);

#endif
