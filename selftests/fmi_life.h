/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What ends or changes a folio: deeds of actors that may fail, the kernel's own requests
 * (split, compaction, KSM, memory failure), and memory cgroups.
 */
#ifndef FMI_LIFE_H
#define FMI_LIFE_H

#include <stdbool.h>

#include "fmi_proc.h"
#include "fmi_scene.h"

#ifndef MADV_FREE
#define MADV_FREE 8
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* All return 0 or -errno. */
int p_try_madvise(int who, unsigned long va, unsigned long len, int advice);
/* move_pages(2) of one page with MPOL_MF_MOVE_ALL: what became of that page. */
int p_try_move_page(int who, unsigned long va, int node);
/* mbind(2) to a node with MPOL_MF_MOVE_ALL and MPOL_MF_STRICT; node -1: to none. */
int p_try_mbind(int who, unsigned long va, unsigned long len, int node);

/* SIGKILL, and waits until it is gone. */
void p_kill(int who);
/* The actor executes another program, which ends at once. */
void p_exec(int who);
/* Each page gets contents of its own, so that nothing becomes the zero page; data != 0. */
void p_fill(int who, unsigned long va, unsigned long pages, unsigned int data);
/* Checks that; fails the case. */
void p_verify(int who, unsigned long va, unsigned long pages, unsigned int data);

/*
 * Asks the kernel to split what a range of an actor maps; at: the page of the folio that is
 * to be cut out, or -1 for even pieces. Skips the case if the kernel has no such file.
 */
void split_request(int who, unsigned long va, unsigned long len, unsigned int order, long at);

/* A memory cgroup for the case; skips the case if there is none. */
void cgroup_make(void);
/* After the last case. */
void cgroup_remove(void);
void cgroup_set(const char *file, const char *value);
long long cgroup_get(const char *file);
/* The value of a line "name value" of a file of it. */
long long cgroup_event(const char *file, const char *name);
void cgroup_enter(pid_t pid);
/* memory.reclaim; 0 or -errno. */
int cgroup_reclaim(unsigned long bytes);

/* What folios there are in the VMAs of the list, by size: pages in folios of this order. */
unsigned long s_pages_of_order(struct fmi_scene *s, unsigned int order);
/* Nothing of the folio of the list is mapped any more; its actors map no page of it. */
void s_gone(struct fmi_scene *s, const char *what);
/* The same folio, and what pagemap shows of it now. */
void s_learn(struct fmi_scene *s);

#endif
