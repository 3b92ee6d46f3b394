/* SPDX-License-Identifier: GPL-2.0 */
/* What the kernel's headers have under other names, or not at all, from version to version. */
#ifndef FMI_COMPAT_H
#define FMI_COMPAT_H

#include <linux/mm.h>

/*
 * The page offset that anonymous folios in @vma are numbered from. Since Linux
 * 7.3 it is not that of the file where a private VMA has one (/dev/zero).
 */
static inline pgoff_t fmi_vma_anon_pgoff(const struct vm_area_struct *vma)
{
#ifdef FMI_HAS_ANON_PGOFF
	return vma_start_anon_pgoff(vma);
#else
	return vma->vm_pgoff;
#endif
}

/*
 * Whether the flags of a child's VMA have fork copy its page tables, see
 * vma_needs_copy(). Where the kernel has no name for these flags, all are taken
 * for copied.
 */
static inline bool fmi_flags_copy(const struct vm_area_struct *vma)
{
#ifdef VM_COPY_ON_FORK
	return vma->vm_flags & VM_COPY_ON_FORK;
#else
	return true;
#endif
}

#endif
