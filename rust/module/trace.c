// SPDX-License-Identifier: GPL-2.0
/* The tracepoint, which exists as macros only. */
#include <linux/build_bug.h>
#include <linux/mm.h>

#include "shims.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

/* Names of the types that TP_printk() shows. */
static_assert(FMI_KIND_ANON == 0 && FMI_KIND_FILE == 1 && FMI_KIND_SHMEM == 2 &&
	      FMI_KIND_HUGETLB == 3 && FMI_KIND_DRIVER == 4);

/* Whether anybody listens: a static branch. */
bool fmi_trace_disagree_enabled(void)
{
	return trace_disagree_enabled();
}

/**
 * fmi_trace_disagree - fire the tracepoint
 * @d: its fields
 *
 * Context: any.
 */
void fmi_trace_disagree(const struct fmi_disagree *d)
{
	trace_disagree(d);
}
