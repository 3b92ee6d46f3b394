// SPDX-License-Identifier: GPL-2.0
#include "fmi_both.h"

#include <errno.h>
#include <string.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

char both_text[1 << 18];

void both_unload(void)
{
	int ret = module_loaded() ? module_unload() : 0;

	fmi_assert(ret == 0, "rmmod: %s", strerror(-ret));
}

/* With both backends and nothing counted yet. */
void both_ready(void)
{
	int ret;

	if (!module_loaded() || !fmi_both()) {
		both_unload();
		ret = module_load_file("backend=both");
		if (ret == -EOPNOTSUPP)
			fmi_skip("this kernel has no rmap tracepoints");
		fmi_assert(ret == 0, "backend=both: %s", strerror(-ret));
	}
	module_ready();
	fmi_assert(fmi_write("reset", "1") > 0, "reset");
}

/* Adds that the second shadow did not take before it was scanned for the last time. */
long long both_in_flight;

long long both_compare(const char *name)
{
	fmi_assert(fmi_write("both", "compare") > 0, "compare");
	fmi_assert(fmi_read("both", both_text, sizeof(both_text)) > 0, "cannot read both");
	return text_value(both_text, name);
}

/* All folios were compared, and are equal. */
void both_equal(const char *what)
{
	long long differences = both_compare("differences");

	if (differences)
		fmi_fail("%s: %lld differences:\n%s", what, differences, both_text);
	if (text_value(both_text, "deferred"))
		fmi_fail("%s: not all folios were compared:\n%s", what, both_text);
	fmi_second_complete(both_text, what, both_in_flight);
	fmi_eq(text_value(both_text, "compared"), text_value(both_text, "equal"), "compared");
}

/* So is the folio at this address of an actor: it is tracked in both. */
void both_is_compared(int who, unsigned long va, const char *what)
{
	const char *report = fmi_report_va(p_pid(who), va);
	char state[32];

	fmi_assert(report && text_find(report, "state", state, sizeof(state)), "%s: no report",
		   what);
	fmi_assert(!strcmp(state, "tracked"), "%s: the folio is %s", what, state);
	both_equal(what);
	fmi_assert(text_value(both_text, "equal") > 0, "%s: nothing was compared", what);
	fmi_assert(text_value(both_text, "second_tracked_folios") > 0, "%s: nothing in the second",
		   what);
}

/* A folio that actor 1 maps, and both know. */
void both_begin(struct fmi_scene *s)
{
	both_ready();
	s_populate(s);
	both_is_compared(1, s->va, "populated");
}
