// SPDX-License-Identifier: GPL-2.0
/* The files in debugfs: names, modes, headers, and what can be read from each. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

static char text[1 << 24];

static const struct {
	const char *name;
	unsigned int mode;
	const char *header;
} files[] = {
	{ "enable", 0600, NULL },
	{ "reset", 0200, NULL },
	{ "stats", 0400, NULL },
	{ "definitions", 0400, "id\tformula\tclaims\tsource" },
	{ "disagreement", 0400, "definition\tquestion\tevaluated\tfalse_yes\tfalse_no\tunknown\t"
				"episodes\twrong_now\ttime_wrong_ns\tcompared\tflips\tsince_ns" },
	{ "disagreement_orders", 0400,
	  "definition\tquestion\ttype\torder\tevaluated\tfalse_yes\tfalse_no\tunknown\t"
	  "episodes\twrong_now\ttime_wrong_ns\tcompared\tflips\tsince_ns" },
	{ "disagreement_operations", 0400,
	  "definition\tquestion\toperation\tevaluated\twrong\tepisodes\tsince_ns" },
	{ "questions", 0400, NULL },
	{ "preview", 0600, NULL },
	{ "decisions", 0400, NULL },
	{ "folios", 0400,
	  "pfn\torder\ttype\tstate\ttotal\tentire\tpage\tfirst_page\tmax_page\tavg_page\t"
	  "nr_pages_mapped\ttotal_pages\tvma_pt\tvma_pt_counter\tvma\tvma_counter\t"
	  "vma_saturating\tvma_saturating_counter\tmm\tfull\tpartial\tpartial_rule\tcreator\t"
	  "owner_vma\tdouble_map\trmap_id\tmm_id\test_nr_pages\test_nr_mapped\test_one\tref_once\t"
	  "page_vma\tstat_any\tkernel_large\tkernel_entire\tkernel_nr_pages_mapped\t"
	  "kernel_shared\tkernel_partially_mapped\twrong\tmoving" },
	{ "examples", 0600, "definition\tquestion\tanswer\ttype\torder\ttime_ns\tpid\tcomm\t"
			    "operation\tpfn\tmappers\tvalues" },
	{ "filter", 0600, NULL },
	{ "folio", 0600, NULL },
	{ "audit", 0600, NULL },
	{ "scan", 0600, NULL },
	{ "audit_interval", 0600, NULL },
	{ "both", 0600, NULL },
};

static void read_all(const char *name)
{
	int ret = fmi_read(name, text, sizeof(text));

	fmi_assert(ret >= 0, "read %s: %s", name, strerror(-ret));
}

static void every_file_has_its_mode(struct fmi_scene *s)
{
	(void)s;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		char path[128];
		struct stat st;

		snprintf(path, sizeof(path), FMI_DIR "%s", files[i].name);
		fmi_assert(!stat(path, &st), "no file %s: %s", path, strerror(errno));
		fmi_assert(S_ISREG(st.st_mode), "%s is no file", path);
		fmi_assert((st.st_mode & 0777) == files[i].mode, "%s: mode %o, want %o", path,
			   st.st_mode & 0777, files[i].mode);
		fmi_eq(st.st_uid, 0, "owner");
	}
}

static void tables_have_their_header(struct fmi_scene *s)
{
	(void)s;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		const char *line;
		int tabs = 0;

		if (!files[i].header)
			continue;
		read_all(files[i].name);
		fmi_assert(!strncmp(text, files[i].header, strlen(files[i].header)) &&
			   text[strlen(files[i].header)] == '\n',
			   "%s begins with '%.*s'", files[i].name, (int)strcspn(text, "\n"), text);
		for (const char *p = files[i].header; *p; p++)
			tabs += *p == '\t';
		for (line = text; *line; line += strcspn(line, "\n") + 1) {
			int here = 0;

			fmi_assert(strchr(line, '\n'), "%s: last line has no end", files[i].name);
			for (const char *p = line; *p != '\n'; p++)
				here += *p == '\t';
			fmi_eq(here, tabs, files[i].name);
		}
	}
}

static void definitions_are_all_there(struct fmi_scene *s)
{
	static const char *const ids[] = {
		"total", "entire", "page", "first_page", "max_page", "nr_pages_mapped", "vma_pt",
		"vma", "mm", "full", "partial", "total_pages", "kernel",
	};
	char want[64];

	(void)s;
	read_all("definitions");
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		snprintf(want, sizeof(want), "\n%s\t", ids[i]);
		fmi_assert(strstr(text, want), "no definition '%s'", ids[i]);
	}
}

static void stats_begin_with_what_was_not_seen(struct fmi_scene *s)
{
	/* In this order; others may be between them. */
	static const char *const names[] = {
		"since_ns", "lost", "inconsistent", "mismatches", "missed_calls",
		"windows_abnormal", "windows_overflow", "hooks_unknown_site", "hooks_unreadable",
		"events_nonlinear", "events_hugetlb", "events_zone_device",
		"events_not_rmappable", "events_small", "untracked_add", "untracked_remove",
		"missed", "add_pte", "checked", "suspects", "tracked_folios", "records",
		"windows_opened", "windows_open", "examples", "memory_kb",
	};
	size_t next = 0;
	const char *line;

	(void)s;
	read_all("stats");
	fmi_eq(text_value(text, "version"), 1, "version");
	for (line = text; *line; line += strcspn(line, "\n") + 1) {
		char name[64], value[64];

		fmi_assert(sscanf(line, "%63[a-z0-9_]: %63s", name, value) == 2, "stats: '%.*s'",
			   (int)strcspn(line, "\n"), line);
		if (next < ARRAY_SIZE(names) && !strcmp(name, names[next]))
			next++;
	}
	fmi_assert(next == ARRAY_SIZE(names), "no '%s', or in another order", names[next]);
	fmi_assert(fmi_stat("since_ns") > 0, "since_ns is 0");
	fmi_assert(fmi_stat("windows_opened") >= fmi_stat("windows_open"), "windows");
}

static void audit_result_is_complete(struct fmi_scene *s)
{
	static const char *const names[] = {
		"mms", "mappings", "untracked_mappings", "records", "compared",
		"missing_in_shadow", "not_in_page_table", "wrong_vmas", "mismatches", "deferred",
		"differences",
	};
	char self[32];

	s_populate(s);
	snprintf(self, sizeof(self), "%d", p_pid(1));
	fmi_audit(self);
	read_all("audit");
	fmi_assert(text_find(text, "target", text, 16) && !strcmp(text, self), "target '%s'", text);
	read_all("audit");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		text_value(text, names[i]);
	fmi_eq(text_value(text, "mms"), 1, "mms");
	fmi_assert(text_value(text, "mappings") >= s->e.nr_mappings, "mappings: %lld, at least %d",
		   text_value(text, "mappings"), s->e.nr_mappings);
	fmi_eq(text_value(text, "differences"), text_value(text, "missing_in_shadow") +
	       text_value(text, "not_in_page_table") + text_value(text, "wrong_vmas") +
	       text_value(text, "mismatches"), "sum");
	fmi_audit("all");
	read_all("audit");
	fmi_assert(text_value(text, "mms") > 1, "one process only");
	fmi_assert(text_value(text, "compared") >= 1, "nothing compared");
}

static void pid_0_is_the_writer(struct fmi_scene *s)
{
	s_populate(s);
	fmi_assert(fmi_report_va(p_pid(1), s->va), "the actor maps it: %s", strerror(errno));
	fmi_assert(!fmi_report_va(0, s->va) && errno == ENOENT, "the writer maps nothing there");
	fmi_assert(fmi_write("audit", "0") > 0, "audit of the writer");
	read_all("audit");
	fmi_eq(text_value(text, "mms"), 1, "mms");
	fmi_eq(text_value(text, "differences"), 0, "differences");
}

static void enable_reads_and_writes(struct fmi_scene *s)
{
	(void)s;
	read_all("enable");
	fmi_assert(!strcmp(text, "1\n"), "enable reads '%s'", text);
	fmi_assert(fmi_write("enable", "0\n") > 0, "cannot disable");
	read_all("enable");
	fmi_assert(!strcmp(text, "0\n"), "enable reads '%s'", text);
	fmi_assert(fmi_write("enable", "0") > 0, "cannot disable twice");
	fmi_eq(fmi_write("audit", "all"), -ENODEV, "audit while disabled");
	fmi_eq(fmi_stat("tracked_folios"), 0, "tracked_folios while disabled");
	fmi_assert(fmi_write("enable", "y") > 0, "cannot enable by y");
	read_all("enable");
	fmi_assert(!strcmp(text, "1\n"), "enable reads '%s'", text);
	fmi_assert(fmi_write("enable", "n") > 0, "cannot disable by n");
	fmi_assert(fmi_write("enable", "1") > 0, "cannot enable");
	fmi_assert(fmi_write("enable", "1") > 0, "cannot enable twice");
}

static void disabling_forgets(struct fmi_scene *s)
{
	s_populate(s);
	s_fork(s, 1, 2);
	s_check(s, "forked");
	fmi_assert(fmi_stat("tracked_folios") >= 1, "nothing tracked");
	fmi_assert(fmi_stat("records") >= 2, "no records");
	fmi_assert(fmi_write("enable", "0") > 0, "cannot disable");
	fmi_eq(fmi_stat("tracked_folios"), 0, "tracked_folios while disabled");
	fmi_eq(fmi_stat("records"), 0, "records while disabled");
	read_all("folios");
	fmi_assert(strchr(text, '\n') && !strchr(text, '\n')[1], "folios listed while disabled");
	fmi_assert(fmi_write("enable", "1") > 0, "cannot enable");
	fmi_eq(fmi_stat("tracked_folios"), 1, "tracked_folios when just enabled");
	fmi_eq(text_value(fmi_report_pfn(s->e.pfn), "adopted"), 1, "adopted");
	s_check(s, "found again");
}

static void reload(const char *params)
{
	int ret = module_unload();

	fmi_assert(!ret, "rmmod: %s", strerror(-ret));
	ret = module_load(params);
	fmi_assert(!ret, "insmod %s: %s", params, strerror(-ret));
}

/* Without a scan, what was mapped before is not tracked, and said so; what is mapped later is. */
static void enabled_in_the_middle(struct fmi_scene *s)
{
	const char *report;
	char state[32];
	long long before;

	s_populate(s);
	s_fork(s, 1, 2);
	reload("scan=0 enable=1");
	report = fmi_report_pfn(s->e.pfn);
	fmi_assert(report && text_find(report, "state", state, sizeof(state)), "no report");
	fmi_assert(!strcmp(state, "untracked"), "state '%s'", state);
	fmi_eq(text_value(report, "kernel_large_mapcount"), s->e.nr_mappings, "kernel's count");
	before = fmi_stat("untracked_remove");
	s_munmap(s, 1, 0, s->nr);
	fmi_assert(fmi_stat("untracked_remove") > before, "the removal is not counted");
	fmi_audit("all");
	s_munmap(s, 2, 0, s->nr);
	s->va += 8 * pmd_size;
	s_map(s, 1, s->va, s->size, 0);
	s_fault(s, 1, s->va);
	s->e.nr_mappings = 0;
	s_mapped_whole(s, 1, s->va);
	s_check(s, "mapped while enabled");
	reload("enable=1");
	s_check(s, "found");
}

static const struct fmi_test tests[] = {
	{ "every_file_has_its_mode", every_file_has_its_mode, ON_ONCE },
	{ "tables_have_their_header", tables_have_their_header, ON_ONCE },
	{ "definitions_are_all_there", definitions_are_all_there, ON_ONCE },
	{ "stats_begin_with_what_was_not_seen", stats_begin_with_what_was_not_seen, ON_ONCE },
	{ "audit_result_is_complete", audit_result_is_complete, ON_ANON | ORDER4_ONLY },
	{ "pid_0_is_the_writer", pid_0_is_the_writer, ON_ANON | ORDER4_ONLY },
	{ "enable_reads_and_writes", enable_reads_and_writes, ON_ONCE },
	{ "disabling_forgets", disabling_forgets, ON_ANON | ORDER4_ONLY },
	{ "enabled_in_the_middle", enabled_in_the_middle, ON_ANON },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
