/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The events of the rmap tracepoints (patches/), those of the actors, and what holds for all of
 * them: each begin has its end, and they say where, by whom, and what mapcount was left.
 */
#ifndef FMI_RMAP_H
#define FMI_RMAP_H

#include <stdbool.h>

/* Has this kernel the tracepoints? Before the cases. */
bool rmap_setup(void);
/* After them; how many pairs were seen. */
long rmap_cleanup(void);

/* Starts actor 1, and to trace it; a case uses these addresses. */
void rmap_watch(unsigned long start, unsigned long len);
/*
 * What a case follows (two folios at most): where it is mapped, and where it is moved to. Beside
 * that there are only copies of single pages.
 */
void rmap_folio(unsigned long pfn, unsigned int order, bool anon, unsigned long at,
		unsigned long then);
/* p_fork(); the child is traced, too. */
void rmap_fork(int from, int to);
/*
 * Since the last look there were these changes of what is followed, and of copies, in this order
 * and no others, as "dup pte 4, copy add_new pte 1" ("-": none; "late": without an address). Each
 * left its mapcount, and the last one what the kernel has now.
 */
void rmap_look(const char *what, const char *want);
/* The first folio's, after the last look. */
long rmap_mapcount(void);
/*
 * From now on two processes unmap at a time: each mapcount that is below is left by one of them.
 * How many changes began within another, so far.
 */
void rmap_at_once(void);
long rmap_overlaps(void);

#endif
