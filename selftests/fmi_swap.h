/* SPDX-License-Identifier: GPL-2.0 */
/* A swap device: on zram, or one that a folio is written to while it waits in the swap cache. */
#ifndef FMI_SWAP_H
#define FMI_SWAP_H

#include <stdbool.h>

extern char swap_device[64];		/* "" if there is none */
extern const char *swap_why_not;	/* and why */

void swap_start(void);
/*
 * On a loop device over memory instead: not synchronous, so that folios stay in the swap cache
 * until they are needed or reclaimed, and a block device, so that large folios are not split.
 */
void swap_start_slow(void);
/* Uses the device again if it was swapped off; fails the case if that is not possible. */
void swap_on(void);
void swap_stop(void);
/*
 * From now on until the next boot anonymous memory is swapped in by small folios, as on every
 * machine on which zswap was ever enabled. Returns false if that is not to be had.
 */
bool swap_in_small(void);

#endif
