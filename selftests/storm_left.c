// SPDX-License-Identifier: GPL-2.0
#include "fmi_storm.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fmi_ksft.h"
#include "fmi_util.h"

static char text[1 << 18];

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
		fmi_note("mapped by others: pfn %lu%.*s", pfn,
			 (int)strcspn(strstr(report, "\nmapper: ") + 1, "\n") + 1,
			 strstr(report, "\nmapper: "));
	return nr;
}

void storm_left_nothing(void)
{
	long long folios = 0, records = 0;

	if (!fmi_wait_stat("tracked_folios", 0)) {
		fmi_assert(fmi_read("folios", text, sizeof(text)) > 0, "cannot read folios");
		/* Behind the header, each line begins with the pfn. */
		for (const char *line = strchr(text, '\n'); line && line[1];
		     line = strchr(line + 1, '\n')) {
			int nr = records_of_others(strtoul(line + 1, NULL, 10));

			if (!nr)
				fmi_fail("left over: %.*s", (int)strcspn(line + 1, "\n"), line + 1);
			folios++;
			records += nr;
		}
	}
	fmi_eq(fmi_stat("tracked_folios"), folios, "tracked_folios");
	fmi_eq(fmi_stat("records"), records, "records");
	fmi_audit("all");
}

/* Says of each reason for which folios are lost how many were. */
static void say_why(void)
{
	fmi_assert(fmi_read("stats", text, sizeof(text)) > 0, "cannot read stats");
	for (const char *line = text; (line = strstr(line, "\nlost_")); line++)
		if (atoll(strchr(line, ' ')))
			fmi_note("%.*s", (int)strcspn(line + 1, "\n"), line + 1);
}

void storm_lost_nothing(void)
{
	long long blind = fmi_stat("blind_calls");
	long long lost = 0;

	if (blind)
		lost = fmi_stat("lost_window");
	if (fmi_stat("lost") != lost)
		say_why();
	fmi_eq(fmi_stat("lost"), lost, "lost");
	if (blind)
		fmi_note("%lld calls of tasks that were being forked: %lld folios lost", blind,
			 lost);
}
