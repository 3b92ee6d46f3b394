/* SPDX-License-Identifier: GPL-2.0 */
/* What bindgen reads; only what the kernel's own bindings lack is taken. */
#include <linux/fprobe.h>	/* entry and exit hooks */
#include <linux/kallsyms.h>	/* how long a symbol may be */
#include <linux/mm_types.h>	/* for the types in shims.h */
#include <linux/pgtable.h>	/* pmd_t */
#include <linux/sort.h>	/* core's sort has panic paths */
#include <linux/stop_machine.h>	/* arming */
#include "asker.h"
#include "background.h"
#include "census.h"
#include "operation.h"
#include "faults.h"
#include "first.h"
#include "measure.h"
#include "procwalk.h"
#include "disagree.h"
#include "rmapwalk.h"
#include "selftest.h"
#include "hugetlb.h"
#include "shims.h"
#include "tracepoints.h"
#include "who.h"

/* bindgen does not evaluate the macro. */
enum {
	FMI_KSYM_SYMBOL_LEN = KSYM_SYMBOL_LEN,
};
