/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The rmap tracepoints of a kernel that has them. The numbers are those of its
 * include/linux/rmap_trace.h.
 */
#ifndef FMI_TRACEPOINTS_H
#define FMI_TRACEPOINTS_H

#include <linux/types.h>
#include "shims.h"

enum fmi_tp_op {
	FMI_TP_ADD,
	FMI_TP_ADD_NEW,
	FMI_TP_REMOVE,
	FMI_TP_DUP,
};

enum fmi_tp_level {
	FMI_TP_PTE,
	FMI_TP_PMD,
	FMI_TP_PUD,
	FMI_TP_HUGETLB,
};

enum fmi_tp_kind {
	FMI_TP_MOVE_PTES,
	FMI_TP_MOVE_PMD_LEAF,
	FMI_TP_MOVE_PMD_TABLE,
	FMI_TP_MOVE_PUD_TABLE,
	FMI_TP_MOVE_PUD_LEAF,
	FMI_TP_MOVE_HUGETLB,
	FMI_TP_MOVE_UFFD,
	FMI_TP_NR_KINDS,
};

/* What the parameter "backend" asks for. */
enum fmi_backend {
	FMI_BACKEND_AUTO,
	FMI_BACKEND_TRACEPOINTS,
	FMI_BACKEND_FUNCTIONS,
	FMI_BACKEND_BOTH,
};

/* The address is not known to the caller of the rmap function. */
#define FMI_TP_NO_ADDR (~0UL)

/**
 * struct fmi_tp_call - rmap_begin: an rmap call, or a duplicate made by fork
 * @op: enum fmi_tp_op
 * @level: enum fmi_tp_level
 * @site: what is mapped or unmapped where
 * @vma: VMA of the page table; the child's for a duplicate
 * @addr: address of the mapping as the tracepoint says it, or FMI_TP_NO_ADDR
 * @call_site: return address of the call of the rmap function, or an address in
 *	the function that an inline one is in
 */
struct fmi_tp_call {
	unsigned int op;
	unsigned int level;
	struct fmi_site site;
	struct vm_area_struct *vma;
	unsigned long addr;
	unsigned long call_site;
};

/**
 * struct fmi_tp_move - rmap_move: mappings are at another address from now on
 * @old_vma: VMA moved from
 * @new_vma: VMA moved to
 * @old_addr: first address moved from
 * @new_addr: address it has moved to
 * @len: bytes
 * @entry: entries or value that has moved, see fmi_walk_moved()
 * @kind: enum fmi_tp_kind
 */
struct fmi_tp_move {
	struct vm_area_struct *old_vma;
	struct vm_area_struct *new_vma;
	unsigned long old_addr;
	unsigned long new_addr;
	unsigned long len;
	const void *entry;
	unsigned int kind;
};

/**
 * struct fmi_tp_share - rmap_pmd_share, rmap_pmd_unshare: a hugetlb PMD table
 * @vma: VMA that begins, or ceases, to use a table of others
 * @addr: address in it
 * @table: first page of the table
 * @shares: begins
 */
struct fmi_tp_share {
	struct vm_area_struct *vma;
	unsigned long addr;
	struct page *table;
	bool shares;
};

/**
 * struct fmi_tp_handlers - who is told of the events
 * @call: of rmap_begin on a large folio; preemption is off
 * @move: of rmap_move; both page-table locks are held
 * @order: of rmap_order: a folio that nothing maps has another order; it is
 *	frozen, interrupts are off
 * @share: of rmap_pmd_share and rmap_pmd_unshare
 * @ctx: first argument of the callbacks
 * @counts_small: count calls on small folios
 *
 * The callbacks must not sleep.
 */
struct fmi_tp_handlers {
	void (*call)(void *ctx, const struct fmi_tp_call *call);
	void (*move)(void *ctx, const struct fmi_tp_move *move);
	void (*order)(void *ctx, unsigned long pfn, unsigned int old_order,
		      unsigned int new_order);
	void (*share)(void *ctx, const struct fmi_tp_share *share);
	void *ctx;
	bool counts_small;
};

int fmi_backend_param(void);
void fmi_moved_from(const struct fmi_tp_move *move, struct fmi_site *site);
const char *fmi_tp_missing(void);
int fmi_tp_register(struct fmi_tp_handlers *handlers);
void fmi_tp_unregister(struct fmi_tp_handlers *handlers);
unsigned long fmi_walk_moved(const struct fmi_tp_move *move,
			     void (*leaf)(void *ctx, const struct fmi_site *site),
			     void *ctx);

#endif
