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

#endif
