/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a VMA says about the operation that an rmap call belongs to, from
 * inlines of the kernel's headers. One job a function; no policy here.
 */
#ifndef FMI_OPERATION_H
#define FMI_OPERATION_H

#include <linux/types.h>

struct vm_area_struct;

struct fmi_vma_state {
	bool exiting;
	bool detached;
	bool write_locked;
};

/* Context: entry of an rmap function, which keeps the VMA. */
void fmi_vma_state_of(const struct vm_area_struct *vma,
		      struct fmi_vma_state *state);

/* Calls on tracked folios by operation, per CPU. */
#define FMI_MAX_OPERATIONS 32
void fmi_operation_add(unsigned int operation);
u64 fmi_operation_sum(unsigned int operation);
void fmi_operation_reset(void);

#endif
