/* SPDX-License-Identifier: GPL-2.0 */
/* A memory cgroup whose limit stops the kernel from allocating page tables. */
#ifndef FMI_CGROUP_H
#define FMI_CGROUP_H

#include <sys/types.h>

/* Mounts cgroup2 and silences the console, which the OOM killer would fill; and the way back. */
void cg_start(void);
void cg_stop(void);
/*
 * Moves a process, which the OOM killer then spares, into a new group; skips the case if there are
 * none. What it has is charged elsewhere.
 */
void cg_enter(pid_t pid);
/* Pages that may be charged to the group; -1: any number. */
void cg_limit(long pages);
/* Fails the case if the kernel log has a warning in it since cg_enter(). */
void cg_no_warning(void);

#endif
