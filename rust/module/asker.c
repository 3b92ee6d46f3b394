// SPDX-License-Identifier: GPL-2.0
/*
 * Kernel inlines and macros made callable from Rust; see asker.h.
 */
#include <linux/hugetlb.h>
#include <linux/irqflags.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/oom.h>
#include <linux/page-flags.h>
#include <linux/pagewalk.h>
#include <linux/pgtable.h>
#include <linux/userfaultfd_k.h>
#include "asker.h"
#include "first.h"

/**
 * fmi_asked_folio - tell a folio that may be tracked
 * @folio: the folio, or NULL
 * @pfn: result, of the head page
 *
 * Return: false if @folio is none, small, or of a class that is not tracked.
 */
bool fmi_asked_folio(const struct folio *folio, unsigned long *pfn)
{
	if (!folio || !folio_test_large(folio) ||
	    !folio_test_large_rmappable(folio) || folio_test_hugetlb(folio) ||
	    folio_is_zone_device(folio))
		return false;
	*pfn = folio_pfn(folio);
	return true;
}

bool fmi_folio_anon(const struct folio *folio)
{
	return folio_test_anon(folio);
}

bool fmi_folio_swapbacked(const struct folio *folio)
{
	return folio_test_swapbacked(folio);
}

bool fmi_folio_swapcache(const struct folio *folio)
{
	return folio_test_swapcache(folio);
}

/*
 * Whether try_to_unmap_one() asks about PTEs of a lazily freed large folio. Up
 * to 7.2 it hands a PMD over to unmap_huge_pmd_locked(), which nobody calls
 * since 7.3: there the PMD is split, and its PTEs are next.
 */
bool fmi_lazyfree_by_ptes(const struct folio *folio)
{
#ifdef FMI_SINCE_7_3
	return true;
#else
	return !folio_entire_mapcount(folio);
#endif
}

unsigned int fmi_folio_order(const struct folio *folio)
{
	return folio_order(folio);
}

bool fmi_vma_shared(const struct vm_area_struct *vma)
{
	return vma->vm_flags & VM_SHARED;
}

bool fmi_vma_exec(const struct vm_area_struct *vma)
{
	return vma->vm_flags & VM_EXEC;
}

bool fmi_vma_cow(const struct vm_area_struct *vma)
{
	/* The kernel's helper for it has another name in each version. */
	return (vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE;
}

/* What folio_referenced_one() takes for a process that is about to go. */
bool fmi_vma_reaped(const struct vm_area_struct *vma)
{
	return !atomic_read(&vma->vm_mm->mm_users) ||
	       check_stable_address_space(vma->vm_mm);
}

struct vm_area_struct *fmi_fault_vma(const struct vm_fault *vmf)
{
	return vmf->vma;
}

static bool asked_page(struct page *page, const struct vm_area_struct *vma,
		       struct fmi_asked *asked)
{
	struct folio *folio = page_folio(page);

	if (!fmi_asked_folio(folio, &asked->pfn) || !folio_test_anon(folio))
		return false;
	asked->mm = (unsigned long)vma->vm_mm;
	asked->mm_id = vma->vm_mm->mm_id;
	asked->index = folio_page_idx(folio, page);
	asked->anon_exclusive = PageAnonExclusive(page);
	return true;
}

/* What has no struct page is special. Most pages are small: no more is asked of them. */
static __always_inline bool maps_large(pte_t pte)
{
	BUILD_BUG_ON(!IS_ENABLED(CONFIG_ARCH_HAS_PTE_SPECIAL));
	return pte_present(pte) && !pte_special(pte) && PageCompound(pte_page(pte));
}

static unsigned long wp_ip __read_mostly;

void fmi_wp_is_at(unsigned long ip)
{
	WRITE_ONCE(wp_ip, ip);
}

notrace void fmi_first_ask(unsigned long ip, unsigned long parent_ip,
			   struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	const struct vm_fault *vmf = (void *)ftrace_regs_get_argument(fregs, 0);

	if (ip != READ_ONCE(wp_ip) || maps_large(vmf->orig_pte))
		fmi_pass_on(ip, parent_ip, ops, fregs);
}

/**
 * fmi_fault_pte - the page that a write or unshare fault found write-protected
 * @vmf: argument of do_wp_page()
 * @asked: result
 *
 * Context: entry of do_wp_page(), under the PTL that keeps the page mapped.
 *
 * Return: false if the kernel does not ask: a shared mapping, no page of a
 * large anonymous folio.
 */
bool fmi_fault_pte(const struct vm_fault *vmf, struct fmi_asked *asked)
{
	const struct vm_area_struct *vma = vmf->vma;
	pte_t pte = vmf->orig_pte;

	if (!maps_large(pte))
		return false;
	if (vma->vm_flags & (VM_SHARED | VM_MAYSHARE | VM_PFNMAP))
		return false;
	/* The fault goes to user space; or, in asynchronous mode, goes on. */
	if (!(vmf->flags & FAULT_FLAG_UNSHARE) &&
	    userfaultfd_pte_wp((struct vm_area_struct *)vma, pte))
		return false;
	return asked_page(pte_page(pte), vma, asked);
}

/**
 * fmi_fault_pmd - the folio that a write or unshare fault found under a PMD
 * @vmf: argument of do_huge_pmd_wp_page()
 * @asked: result
 *
 * Context: entry of do_huge_pmd_wp_page(), no PTL held. Takes that of the PMD
 * for a moment.
 *
 * Return: false if the kernel does not ask: the PMD is another one now, or maps
 * no anonymous folio.
 */
bool fmi_fault_pmd(const struct vm_fault *vmf, struct fmi_asked *asked)
{
	const struct vm_area_struct *vma = vmf->vma;
	spinlock_t *ptl = pmd_lock(vma->vm_mm, vmf->pmd);
	pmd_t pmd = pmdp_get(vmf->pmd);
	bool found = false;

	if (pmd_same(pmd, vmf->orig_pmd) && pmd_present(pmd) &&
	    pmd_leaf(pmd) && !pmd_special(pmd))
		found = asked_page(pmd_page(pmd), vma, asked);
	spin_unlock(ptl);
	return found;
}

/* The VMA that a callback of walk_page_range() is in; @walk is its argument. */
const struct vm_area_struct *fmi_walked_vma(unsigned long walk)
{
	return ((const struct mm_walk *)walk)->vma;
}

/**
 * fmi_pmd_folio - the folio that a PMD maps
 * @vma: the VMA
 * @pmdp: the PMD
 * @pfn: result, of the head page
 *
 * Context: the mmap lock is held, no PTL. Takes that of the PMD for a moment.
 *
 * Return: false if the PMD maps no folio that may be tracked.
 */
bool fmi_pmd_folio(const struct vm_area_struct *vma, pmd_t *pmdp,
		   unsigned long *pfn)
{
	spinlock_t *ptl = pmd_lock(vma->vm_mm, pmdp);
	pmd_t pmd = pmdp_get(pmdp);
	bool found = false;

	if (pmd_present(pmd) && pmd_leaf(pmd) && !pmd_special(pmd))
		found = fmi_asked_folio(page_folio(pmd_page(pmd)), pfn);
	spin_unlock(ptl);
	return found;
}

bool fmi_mbind_move_all(unsigned long flags)
{
	return flags & MPOL_MF_MOVE_ALL;
}

/* Whether the hooked function runs with interrupts off. */
bool fmi_irqs_off(void)
{
	return irqs_disabled();
}
