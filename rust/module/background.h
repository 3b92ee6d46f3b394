/* SPDX-License-Identifier: GPL-2.0 */
/* Work that is done again and again, and locks as an audit sees them. */
#ifndef FMI_BACKGROUND_H
#define FMI_BACKGROUND_H

#include <linux/types.h>

struct fmi_background;
struct mm_struct;

/* Returns after how many milliseconds it wants to be called again, 0 for never. */
typedef unsigned int (*fmi_background_fn)(void *data);

struct fmi_background *fmi_background_new(fmi_background_fn fn, void *data);
void fmi_background_queue(struct fmi_background *b, unsigned int ms);
void fmi_background_cancel(struct fmi_background *b);
void fmi_background_free(struct fmi_background *b);

bool fmi_mmap_lock_is_contended(struct mm_struct *mm);

#endif
