/* SPDX-License-Identifier: GPL-2.0 */
/* A swap device on zram. */
#ifndef FMI_SWAP_H
#define FMI_SWAP_H

extern char swap_device[64];		/* "" if there is none */
extern const char *swap_why_not;	/* and why */

void swap_start(void);
void swap_stop(void);

#endif
