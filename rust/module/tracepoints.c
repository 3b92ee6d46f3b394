// SPDX-License-Identifier: GPL-2.0
/*
 * Probes on the rmap tracepoints, found by name when the module is loaded: the
 * same source serves kernels with and without them.
 */
#include <linux/errno.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/string.h>
#include <linux/tracepoint.h>
#include "shims.h"
#include "tracepoints.h"

#if defined(CONFIG_DEBUG_RMAP_TRACE) && __has_include("linux/rmap_trace.h")
#include <linux/rmap_trace.h>
#include <trace/events/rmap.h>
#define FMI_KERNEL_HAS_RMAP_TRACE 1
#endif

#ifdef FMI_KERNEL_HAS_RMAP_TRACE
static_assert((int)FMI_TP_ADD == (int)RMAP_TRACE_ADD);
static_assert((int)FMI_TP_ADD_NEW == (int)RMAP_TRACE_ADD_NEW);
static_assert((int)FMI_TP_REMOVE == (int)RMAP_TRACE_REMOVE);
static_assert((int)FMI_TP_DUP == (int)RMAP_TRACE_DUP);
static_assert((int)FMI_TP_PTE == (int)RMAP_TRACE_PTE);
static_assert((int)FMI_TP_PMD == (int)RMAP_TRACE_PMD);
static_assert((int)FMI_TP_PUD == (int)RMAP_TRACE_PUD);
static_assert((int)FMI_TP_HUGETLB == (int)RMAP_TRACE_HUGETLB);
static_assert((int)FMI_TP_MOVE_PTES == (int)RMAP_TRACE_MOVE_PTES);
static_assert((int)FMI_TP_MOVE_PMD_LEAF == (int)RMAP_TRACE_MOVE_PMD_LEAF);
static_assert((int)FMI_TP_MOVE_PMD_TABLE == (int)RMAP_TRACE_MOVE_PMD_TABLE);
static_assert((int)FMI_TP_MOVE_PUD_TABLE == (int)RMAP_TRACE_MOVE_PUD_TABLE);
static_assert((int)FMI_TP_MOVE_PUD_LEAF == (int)RMAP_TRACE_MOVE_PUD_LEAF);
static_assert((int)FMI_TP_MOVE_HUGETLB == (int)RMAP_TRACE_MOVE_HUGETLB);
static_assert((int)FMI_TP_MOVE_UFFD == (int)RMAP_TRACE_MOVE_UFFD);
static_assert(FMI_TP_NO_ADDR == RMAP_TRACE_NO_ADDR);
#endif

static char *backend = "auto";
module_param(backend, charp, 0400);
MODULE_PARM_DESC(backend,
		 "How rmap calls are seen: auto, tracepoints, functions, or both (compared)");

/* Return: enum fmi_backend, or -EINVAL for another word. */
int fmi_backend_param(void)
{
	static const char *const words[] = {
		[FMI_BACKEND_AUTO] = "auto",
		[FMI_BACKEND_TRACEPOINTS] = "tracepoints",
		[FMI_BACKEND_FUNCTIONS] = "functions",
		[FMI_BACKEND_BOTH] = "both",
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(words); i++)
		if (sysfs_streq(backend, words[i]))
			return i;
	return -EINVAL;
}

/* Not inline: what is not large shall not pay for the frame. */
static noinline void large_begin(const struct fmi_tp_handlers *handlers,
				 struct folio *folio, struct page *page, int nr_pages,
				 struct vm_area_struct *vma, unsigned long addr,
				 unsigned int op, unsigned int level,
				 unsigned long call_site)
{
	struct fmi_tp_call call = {
		.op = op,
		.level = level,
		.vma = vma,
		.addr = addr,
		.call_site = call_site,
	};

	fmi_site_of_trace(folio, page, nr_pages, vma, addr, level != FMI_TP_PTE,
			  op == FMI_TP_ADD_NEW, &call.site);
	handlers->call(handlers->ctx, &call);
}

static void probe_begin(void *data, struct folio *folio, struct page *page,
			int nr_pages, struct vm_area_struct *vma,
			unsigned long addr, unsigned int op, unsigned int level,
			unsigned long call_site)
{
	const struct fmi_tp_handlers *handlers = data;

	if (folio_test_large(folio))
		large_begin(handlers, folio, page, nr_pages, vma, addr, op, level,
			    call_site);
	else if (handlers->counts_small)
		fmi_class_add(FMI_CLASS_SMALL);
}

static void probe_move(void *data, struct vm_area_struct *old_vma,
		       struct vm_area_struct *new_vma, unsigned long old_addr,
		       unsigned long new_addr, unsigned long len,
		       const void *entry, unsigned int kind)
{
	const struct fmi_tp_handlers *handlers = data;
	const struct fmi_tp_move move = {
		.old_vma = old_vma,
		.new_vma = new_vma,
		.old_addr = old_addr,
		.new_addr = new_addr,
		.len = len,
		.entry = entry,
		.kind = kind,
	};

	handlers->move(handlers->ctx, &move);
}

static void probe_order(void *data, struct folio *folio, unsigned int old_order,
			unsigned int new_order)
{
	const struct fmi_tp_handlers *handlers = data;

	handlers->order(handlers->ctx, folio_pfn(folio), old_order, new_order);
}

static void share(const struct fmi_tp_handlers *handlers,
		  struct vm_area_struct *vma, unsigned long addr,
		  struct page *table, bool shares)
{
	const struct fmi_tp_share event = {
		.vma = vma,
		.addr = addr,
		.table = table,
		.shares = shares,
	};

	handlers->share(handlers->ctx, &event);
}

static void probe_pmd_share(void *data, struct vm_area_struct *vma,
			    unsigned long addr, struct page *table)
{
	share(data, vma, addr, table, true);
}

static void probe_pmd_unshare(void *data, struct vm_area_struct *vma,
			      unsigned long addr, struct page *table)
{
	share(data, vma, addr, table, false);
}

#ifdef FMI_KERNEL_HAS_RMAP_TRACE
/* Never called: the compiler compares the prototypes. */
static void __maybe_unused check_prototypes(void)
{
	check_trace_callback_type_rmap_begin(probe_begin);
	check_trace_callback_type_rmap_move(probe_move);
	check_trace_callback_type_rmap_order(probe_order);
	check_trace_callback_type_rmap_pmd_share(probe_pmd_share);
	check_trace_callback_type_rmap_pmd_unshare(probe_pmd_unshare);
}
#endif

/*
 * rmap_end is not probed: a call is taken in when it begins, before the
 * kernel's counters change, and the end of all calls is known by a grace period.
 */
static const struct {
	const char *name;
	void *probe;
} probes[] = {
	{ "rmap_begin", probe_begin },
	{ "rmap_move", probe_move },
	{ "rmap_order", probe_order },
	{ "rmap_pmd_share", probe_pmd_share },
	{ "rmap_pmd_unshare", probe_pmd_unshare },
};

struct search {
	struct tracepoint *found[ARRAY_SIZE(probes)];
};

static void look_at(struct tracepoint *tp, void *priv)
{
	struct search *search = priv;
	int i;

	for (i = 0; i < ARRAY_SIZE(probes); i++)
		if (!strcmp(tp->name, probes[i].name))
			search->found[i] = tp;
}

/**
 * fmi_tp_missing - what keeps the tracepoints from being used
 *
 * Context: may sleep.
 *
 * Return: the name of the first tracepoint that this kernel lacks, or NULL if
 * it has all of them.
 */
const char *fmi_tp_missing(void)
{
	struct search search = {};
	int i;

	for_each_kernel_tracepoint(look_at, &search);
	for (i = 0; i < ARRAY_SIZE(probes); i++)
		if (!search.found[i])
			return probes[i].name;
	return NULL;
}

static void unregister(const struct search *search, int nr, void *data)
{
	while (nr--)
		WARN_ON_ONCE(tracepoint_probe_unregister(search->found[nr],
							 probes[nr].probe, data));
	tracepoint_synchronize_unregister();
}

/**
 * fmi_tp_register - have events reported
 * @handlers: who is told; must stay until fmi_tp_unregister()
 *
 * Context: may sleep.
 *
 * Return: 0; -ENOENT if this kernel lacks a tracepoint; -ENOMEM.
 */
int fmi_tp_register(struct fmi_tp_handlers *handlers)
{
	struct search search = {};
	int i, ret = 0;

	for_each_kernel_tracepoint(look_at, &search);
	for (i = 0; i < ARRAY_SIZE(probes) && !ret; i++) {
		if (!search.found[i])
			ret = -ENOENT;
		else
			ret = tracepoint_probe_register(search.found[i], probes[i].probe,
							handlers);
		if (ret)
			unregister(&search, i, handlers);
	}
	return ret;
}

/**
 * fmi_tp_unregister - have no more events reported
 * @handlers: what was registered
 *
 * Context: may sleep. No handler is running when it returns.
 */
void fmi_tp_unregister(struct fmi_tp_handlers *handlers)
{
	struct search search = {};

	for_each_kernel_tracepoint(look_at, &search);
	unregister(&search, ARRAY_SIZE(probes), handlers);
}
