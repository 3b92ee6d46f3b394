// SPDX-License-Identifier: GPL-2.0
/*
 * Kernel inlines made callable from Rust; see operation.h.
 */
#include <linux/mm.h>
#include <linux/mm_types.h>
#include <linux/mmap_lock.h>
#include <linux/percpu.h>
#include <linux/sched/coredump.h>
#include "operation.h"

/*
 * Whether the MM has no users left (exit, exec), is reaped by the OOM killer,
 * or is being taken down by a fork that failed.
 */
static bool vma_exiting(const struct vm_area_struct *vma)
{
	struct mm_struct *mm = vma->vm_mm;

	return !atomic_read(&mm->mm_users) ||
	       mm_flags_test(MMF_UNSTABLE, mm) ||
	       mm_flags_test(MMF_OOM_SKIP, mm);
}

/*
 * Whether the VMA has left the tree of its MM: vms_gather_munmap_vmas() marks
 * it so before the page tables are cleared. Never without per-VMA locks.
 */
static bool vma_detached(const struct vm_area_struct *vma)
{
#ifdef CONFIG_PER_VMA_LOCK
	return !refcount_read(&vma->vm_refcnt);
#else
	return false;
#endif
}

/*
 * Whether anybody has the VMA write-locked; page faults in it wait then. Never
 * without per-VMA locks. Lockless, unlike __is_vma_write_locked(): the mmap
 * lock may be held by others, or for read only.
 */
static bool vma_write_locked(const struct vm_area_struct *vma)
{
#ifdef CONFIG_PER_VMA_LOCK
	return READ_ONCE(vma->vm_lock_seq) ==
	       READ_ONCE(vma->vm_mm->mm_lock_seq.sequence);
#else
	return false;
#endif
}

void fmi_vma_state_of(const struct vm_area_struct *vma,
		      struct fmi_vma_state *state)
{
	state->exiting = vma_exiting(vma);
	state->detached = vma_detached(vma);
	state->write_locked = vma_write_locked(vma);
}

static DEFINE_PER_CPU(u64 [FMI_MAX_OPERATIONS], fmi_operation_calls);

/* Context: preemption off. */
void fmi_operation_add(unsigned int operation)
{
	if (operation < FMI_MAX_OPERATIONS)
		this_cpu_inc(fmi_operation_calls[operation]);
}

u64 fmi_operation_sum(unsigned int operation)
{
	u64 sum = 0;
	int cpu;

	if (operation >= FMI_MAX_OPERATIONS)
		return 0;
	for_each_possible_cpu(cpu)
		sum += READ_ONCE(per_cpu(fmi_operation_calls, cpu)[operation]);
	return sum;
}

/* Counts that race with the reset on another CPU may survive it. */
void fmi_operation_reset(void)
{
	int cpu, i;

	for_each_possible_cpu(cpu)
		for (i = 0; i < FMI_MAX_OPERATIONS; i++)
			WRITE_ONCE(per_cpu(fmi_operation_calls, cpu)[i], 0);
}
