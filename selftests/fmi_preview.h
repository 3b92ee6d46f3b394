/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The `preview` file against /proc (as it is) and against numbers that are
 * computed here from the list of what the test did (as it would be).
 */
#ifndef FMI_PREVIEW_H
#define FMI_PREVIEW_H

#include <stdbool.h>
#include <sys/types.h>

struct fmi_scene;

/* Reads `preview`; the text stays until the next call. */
const char *pv_read(void);
/* A figure, and what it changed by since the baseline. */
long long pv_figure(const char *name);
long long pv_change(const char *name);
/* A value of the line of a process; fails the case if there is none. */
long long pv_process(pid_t pid, const char *name);
/* Takes the baseline. Nothing of the scene's folio is mapped yet. */
void pv_begin(void);
/*
 * Checks everything: s_check(), then the figures' changes, then each actor's
 * line. At most two actors have ever mapped the folio: then the kernel knows for
 * certain whether it is mapped shared.
 */
void pv_check(struct fmi_scene *s, const char *what);
/* By how much a figure would be another: by nothing, where the kernel is built so already. */
long long pv_differs(long long nr);
/* What /proc says about a process. */
struct pv_proc {
	long long rss, pss, private; /* kB */
	long long exclusive;	     /* entries */
	long long mapmax;	     /* -1: this kernel has no numa_maps */
};

/* From smaps_rollup, pagemap, numa_maps. */
void pv_read_proc(pid_t pid, struct pv_proc *p);
/* Does what pv_read() has read say the same? Notes what differs, if told to. */
bool pv_same(pid_t pid, const struct pv_proc *p, bool note);
/* Checks one process as it is: smaps_rollup, pagemap, numa_maps. */
void pv_check_proc(pid_t pid, const char *what);
/* The same for /proc/meminfo. */
void pv_check_meminfo(void);

#endif
