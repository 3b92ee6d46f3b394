// SPDX-License-Identifier: GPL-2.0
/* The open questions: every one is there, and its figures are what the test did. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_questions.h"
#include "fmi_scene.h"
#include "fmi_util.h"

#define CYCLES 5

/* Like q_want(), for a line that has the type of the folio at its end. */
static void want_kind(const struct fmi_scene *s, const char *what, const char *name, long long want)
{
	char line[80];

	snprintf(line, sizeof(line), "%s_%s", name, kind_name(s->kind));
	q_want(what, line, want);
	/* Nobody else does anything with large folios. */
	q_want(what, name, want);
}

static void every_question_is_there(struct fmi_scene *s)
{
	static const char *const numbers[] = {
		"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "-",
	};
	const char *text;

	(void)s;
	q_begin();
	text = q_read();
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		size_t len = strlen(numbers[i]);

		fmi_assert(!strncmp(text, numbers[i], len) && !strncmp(text + len, ". ", 2),
			   "no question %s at '%.40s'", numbers[i], text);
		text = strchr(text, '\n') + 1;
		fmi_assert(!strncmp(text, "source: ", 8), "question %s: no source", numbers[i]);
		text = strchr(text, '\n') + 1;
		fmi_assert(!strncmp(text, "since_ns: ", 10) && strtoll(text + 10, NULL, 10) > 0,
			   "question %s: no time", numbers[i]);
		text = strstr(text, "\n\n");
		fmi_assert(text, "question %s does not end", numbers[i]);
		text += 2;
	}
	fmi_assert(!*text, "something at the end: '%.40s'", text);
}

/* 1, 3, 7: the first page goes and comes back, the others stay. */
static void partial_unmaps_are_counted(struct fmi_scene *s)
{
	s_populate(s);
	q_begin();
	for (int i = 0; i < CYCLES; i++) {
		p_madvise(1, s->va, pgsz, MADV_DONTNEED);
		p_read(1, s->va, 1);
	}
	s_check(s, "as before");
	q_read();
	want_kind(s, "cycles", "remove_runs", CYCLES);
	want_kind(s, "cycles", "remove_runs_tuple_left", CYCLES);
	want_kind(s, "cycles", "remove_runs_vma_left", CYCLES);
	want_kind(s, "cycles", "folios_ever_partial", 1);
	want_kind(s, "cycles", "folios_partial_now", 0);
	/* From page 0, which is absent, to page 1. */
	q_want("cycles", "scans_add", CYCLES);
	q_want("cycles", "scans_add_entries", CYCLES * 2);
	q_want("cycles", "scans_remove", CYCLES);
	q_want("cycles", "scans_remove_entries", CYCLES * 2);
	fmi_eq(q_figure("scans_add_max"), 2, "longest scan");
	s_exit(s, 1);
	q_read();
	want_kind(s, "gone", "remove_runs", CYCLES + 1);
	want_kind(s, "gone", "remove_runs_tuple_left", CYCLES);
	want_kind(s, "gone", "remove_runs_vma_left", CYCLES);
}

/* 1, 7: what goes with its VMA leaves nothing in it; what goes in two steps of one run neither. */
static void whole_unmaps_leave_nothing(struct fmi_scene *s)
{
	s_populate(s);
	q_begin();
	s_dontneed(s, 1, 0, s->nr / 2);
	q_read();
	want_kind(s, "first half", "remove_runs", 1);
	want_kind(s, "first half", "remove_runs_tuple_left", 1);
	want_kind(s, "first half", "remove_runs_vma_left", 1);
	want_kind(s, "first half", "folios_partial_now", 1);
	s_dontneed(s, 1, s->nr / 2, s->nr / 2);
	q_read();
	want_kind(s, "both", "remove_runs", 1);
	want_kind(s, "both", "remove_runs_tuple_left", 0);
	want_kind(s, "both", "remove_runs_vma_left", 0);
	want_kind(s, "both", "folios_partial_now", 0);
	want_kind(s, "both", "folios_ever_partial", 1);
	s_check(s, "gone");
}

/* 7: folios that processes share, and then more than two. */
static void sharing_is_counted(struct fmi_scene *s)
{
	s_populate(s);
	q_begin();
	s_fork(s, 1, 2);
	q_read();
	want_kind(s, "two", "folios_ever_shared", 1);
	want_kind(s, "two", "folios_ever_more_than_two_mms", 0);
	s_fork(s, 1, 3);
	s_exit(s, 2);
	q_read();
	want_kind(s, "three", "folios_ever_shared", 1);
	want_kind(s, "three", "folios_ever_more_than_two_mms", 1);
}

/* 2: half of it on either side of a PMD boundary. */
static void unaligned_mappings_are_counted(struct fmi_scene *s)
{
	unsigned long across = s->arena + 10 * pmd_size - s->size / 2;

	s_populate(s);
	q_begin();
	if (s->kind == FMI_ANON) {
		p_mremap(1, s->va, s->size, across, MREMAP_MAYMOVE | MREMAP_FIXED);
		ex_split(&s->e, 1, s->va, s->size);
		ex_move(&s->e, 1, s->va, s->size, across);
	} else {
		s_map(s, 1, across, s->size, 0);
		p_read(1, across, s->nr);
		ex_learn(&s->e, 1);
	}
	s_check(s, "across a PMD boundary");
	q_read();
	want_kind(s, "across", "folios_ever_unaligned", 1);
	want_kind(s, "across", "folios_unaligned_now", 1);
	p_munmap(1, across, s->size);
	ex_vma_cut(&s->e, 1, across, s->size);
	q_read();
	want_kind(s, "unmapped", "folios_ever_unaligned", 1);
	want_kind(s, "unmapped", "folios_unaligned_now", 0);
}

static void aligned_mappings_are_not(struct fmi_scene *s)
{
	q_begin();
	s_populate(s);
	s_fork(s, 1, 2);
	q_read();
	want_kind(s, "aligned", "folios", 1);
	want_kind(s, "aligned", "folios_now", 1);
	want_kind(s, "aligned", "folios_ever_unaligned", 0);
	want_kind(s, "aligned", "folios_unaligned_now", 0);
}

/* 5, 11, 12: half of the folio is not mapped any more. */
static void statistics_are_too_high(struct fmi_scene *s)
{
	bool anon = s->kind == FMI_ANON;
	const char *name = anon ? "nr_anon_mapped" : "nr_file_mapped";
	long long kb = (long long)s->size / 1024;
	char line[80], want[80];
	const char *change;

	s_populate(s);
	q_begin();
	s_munmap(s, 1, s->nr / 2, s->nr / 2);
	s_check(s, "half unmapped");
	q_read();
	want_kind(s, "half", "pages_mapped_now", -(long long)s->nr / 2);
	want_kind(s, "half", "pages_one_mapcount_now", 0);
	snprintf(line, sizeof(line), "%s_one_mapcount_error_kb", name);
	q_want("half", line, kb / 2);
	/* More of them than there is noise. */
	if (kb >= 1024) {
		long long got;

		snprintf(line, sizeof(line), "%s_regardless_error_kb", name);
		got = q_change(line);
		fmi_assert(got > kb / 4 && got < kb, "%s changed by %lld", line, got);
	}
	q_want("half", "nr_anon_thps_one_mapcount_error_kb",
	       anon && s->order == pmd_order ? kb : 0);
	q_want("half", anon ? "partial_anon_folios" : "partial_file_folios", 1);
	/* N/2 pages divided by the average, which is still at least 1: as it is. */
	q_want("half", "pss_over_kb", 0);
	change = strstr(q_read(), "\nchange_1:");
	fmi_assert(change, "no change 1");
	snprintf(line, sizeof(line), "%s_one_mapcount_error_kb", name);
	snprintf(want, sizeof(want), " %s=%lld ", anon ? "anon_pages_error_kb" : "mapped_error_kb",
		 fmi_page_mapcounts() ? q_figure(line) : 0);
	fmi_assert(strstr(change, want) && strstr(change, want) < strchr(change + 1, '\n'),
		   "no '%s' in '%.120s'", want, change);
	fmi_assert(strstr(change, " shmem_error_kb=0 "), "Shmem changes");
	for (int nr = 1; nr <= 7; nr++) {
		snprintf(want, sizeof(want), "change_%d", nr);
		fmi_assert(text_find(q_read(), want, line, sizeof(line)), "no %s", want);
	}
}

/*
 * 11: the average of a folio that two map in part divides what one maps alone. A kernel without
 * mapcounts per page does so already.
 */
static void pss_is_wrong(struct fmi_scene *s)
{
	long long kb = fmi_page_mapcounts() ? (long long)s->size / 1024 : 0;

	s_populate(s);
	s_fork(s, 1, 2);
	q_begin();
	s_munmap(s, 2, 0, s->nr / 4);
	q_read();
	/* 1.75 mappings of a page are 2: a quarter of the folio is halved. */
	q_want("parent", "pss_under_processes", kb > 0);
	q_want("parent", "pss_under_kb", -kb / 8);
	/* Private today, of a folio that is shared. */
	q_want("parent", "private_under_kb", -kb / 4);
	s_check(s, "the child has three quarters");
}

/* 9 */
static void references_are_counted(struct fmi_scene *s)
{
	long long mappings = s->order == pmd_order ? 1 : (long long)s->nr;
	long long refs, limit = (1LL << 31) - 1;

	q_begin();
	s_populate(s);
	q_read();
	q_want("one", "references_by_mappings_now", mappings);
	q_want("one", "references_by_one_a_folio_now", 1);
	s_fork(s, 1, 2);
	s_fork(s, 1, 3);
	q_read();
	q_want("three", "references_by_mappings_now", 3 * mappings);
	q_want("three", "references_by_one_a_folio_now", 1);
	fmi_eq(q_figure("most_mappings"), 3 * mappings, "most mappings");
	refs = q_figure("most_references");
	fmi_assert(refs >= 3 * mappings && refs < 3 * mappings + 64, "%lld references", refs);
	fmi_eq(q_figure("references_left"), limit - refs, "references left");
	fmi_eq(q_figure("vmas_left_pmd_sized_by_ptes"), (limit - refs) >> pmd_order, "VMAs left");
	s_exit(s, 2);
	s_exit(s, 3);
	q_read();
	q_want("one again", "references_by_mappings_now", mappings);
	fmi_eq(q_figure("most_mappings"), 3 * mappings, "most mappings");
}

static const struct fmi_test tests[] = {
	{ "every_question_is_there", every_question_is_there, ON_ONCE },
	{ "partial_unmaps_are_counted", partial_unmaps_are_counted,
	  ON_SHMEM | ON_FILE | PTE_ONLY },
	{ "whole_unmaps_leave_nothing", whole_unmaps_leave_nothing, ON_ANON },
	{ "sharing_is_counted", sharing_is_counted, ON_ANON },
	{ "unaligned_mappings_are_counted", unaligned_mappings_are_counted, ON_EACH },
	{ "aligned_mappings_are_not", aligned_mappings_are_not, ON_ANON },
	{ "statistics_are_too_high_anon", statistics_are_too_high, ON_ANON },
	{ "statistics_are_too_high_file", statistics_are_too_high, ON_SHMEM | ON_FILE | PTE_ONLY },
	{ "pss_is_wrong", pss_is_wrong, ON_ANON | NOT_ORDER1 },
	{ "references_are_counted", references_are_counted, ON_ANON },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
