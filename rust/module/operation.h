/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a VMA says about the operation that an rmap call belongs to, from
 * inlines of the kernel's headers. One job a function; no policy here.
 */
#ifndef FMI_OPERATION_H
#define FMI_OPERATION_H

#include <linux/types.h>

struct vm_area_struct;

/* Context: entry of an rmap function, which keeps the VMA. */
bool fmi_vma_exiting(const struct vm_area_struct *vma);
bool fmi_vma_detached(const struct vm_area_struct *vma);
bool fmi_vma_write_locked(const struct vm_area_struct *vma);

/* Calls on tracked folios by operation, per CPU. */
#define FMI_MAX_OPERATIONS 32
void fmi_operation_add(unsigned int operation);
u64 fmi_operation_sum(unsigned int operation);
void fmi_operation_reset(void);

#endif
