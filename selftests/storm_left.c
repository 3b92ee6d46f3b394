// SPDX-License-Identifier: GPL-2.0
#include "fmi_storm.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fmi_ksft.h"
#include "fmi_util.h"

static char text[1 << 18];

/* What is left over, and a line of what is not. */
static char left[512], other[256];

/*
 * While sizes are switched on, other programs get large folios, too (a shell's heap). Those are
 * not left over: every mapper lives. Returns how many records such a folio has, 0 if it is not one.
 */
static int records_of_others(unsigned long pfn)
{
	const char *report = fmi_report_pfn(pfn);
	int nr = 0;

	if (!report)
		return 0;
	for (const char *p = report; (p = strstr(p, "\nmapper: pid=")); p++) {
		int pid = atoi(p + strlen("\nmapper: pid="));

		if (pid <= 0 || kill(pid, 0))
			return 0;
		nr++;
	}
	if (nr)
		snprintf(other, sizeof(other), "pfn %lu%.*s", pfn,
			 (int)strcspn(strstr(report, "\nmapper: ") + 1, "\n") + 1,
			 strstr(report, "\nmapper: "));
	return nr;
}

/* Is all that is tracked mapped by others? Those come and go meanwhile. */
static bool only_others(void)
{
	long long folios = 0, records = 0;
	const char *stats;

	other[0] = '\0';
	fmi_assert(fmi_read("folios", text, sizeof(text)) > 0, "cannot read folios");
	/* Behind the header, each line begins with the pfn. */
	for (const char *line = strchr(text, '\n'); line && line[1];
	     line = strchr(line + 1, '\n')) {
		int nr = records_of_others(strtoul(line + 1, NULL, 10));

		if (!nr) {
			snprintf(left, sizeof(left), "%.*s", (int)strcspn(line + 1, "\n"),
				 line + 1);
			return false;
		}
		folios++;
		records += nr;
	}
	stats = fmi_stats();
	snprintf(left, sizeof(left), "%lld tracked folios, %lld records; of others: %lld, %lld",
		 text_value(stats, "tracked_folios"), text_value(stats, "records"), folios,
		 records);
	return text_value(stats, "tracked_folios") == folios &&
	       text_value(stats, "records") == records;
}

void storm_left_nothing(void)
{
	fmi_wait_until(only_others(), "what is left over to go: %s", left);
	if (*other)
		fmi_note("mapped by others: %s", other);
	fmi_audit("all");
}
