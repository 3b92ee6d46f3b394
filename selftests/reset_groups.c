// SPDX-License-Identifier: GPL-2.0
/* The groups of files that `reset` starts anew, one by one and all together. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_table.h"
#include "fmi_util.h"

static const char *const groups[] = {
	"stats", "disagreement", "decisions", "questions", "examples", "preview",
};

#define NR_GROUPS ARRAY_SIZE(groups)

struct since {
	long long ns[NR_GROUPS];
};

static char text[1 << 20];

/*
 * When a group began: a line "since_ns: N" of the file with its name, or a column of that; of
 * `examples`, which may be empty, a line in `stats`.
 */
static long long since_of(const char *group)
{
	const char *p;
	char value[32];
	int column, ret;

	if (!strcmp(group, "examples"))
		return fmi_stat("examples_since_ns");
	ret = fmi_read(group, text, sizeof(text));
	p = strstr(text, "since_ns: ");
	fmi_assert(ret > 0, "cannot read %s: %s", group, strerror(-ret));
	if (p)
		return strtoll(p + strlen("since_ns: "), NULL, 10);
	column = table_column(text, "since_ns");
	fmi_assert(column >= 0, "%s does not say since when", group);
	table_cell(strchr(text, '\n') + 1, column, value, sizeof(value));
	return strtoll(value, NULL, 10);
}

static void read_since(struct since *since)
{
	for (size_t i = 0; i < NR_GROUPS; i++)
		since->ns[i] = since_of(groups[i]);
}

static void reset_group(const char *what)
{
	int ret = fmi_write("reset", what);

	fmi_assert(ret > 0, "reset %s: %s", what, strerror(-ret));
}

static void since_of_one_group(struct fmi_scene *s)
{
	struct since before, after;

	(void)s;
	for (size_t i = 0; i < NR_GROUPS; i++) {
		read_since(&before);
		msleep(2);
		reset_group(groups[i]);
		read_since(&after);
		for (size_t j = 0; j < NR_GROUPS; j++) {
			if (i == j)
				fmi_assert(after.ns[j] > before.ns[j] + 1000 * 1000,
					   "%s: since %lld, before %lld", groups[j], after.ns[j],
					   before.ns[j]);
			else
				fmi_eq(after.ns[j], before.ns[j], groups[j]);
		}
	}
}

static void since_of_all_groups(struct fmi_scene *s)
{
	struct since before, after;

	(void)s;
	read_since(&before);
	msleep(2);
	reset_group("1\n");
	read_since(&after);
	for (size_t i = 0; i < NR_GROUPS; i++)
		fmi_assert(after.ns[i] > before.ns[i] + 1000 * 1000, "%s: since %lld, before %lld",
			   groups[i], after.ns[i], before.ns[i]);
}

/* Some blocks only show what `disagreement` has counted. */
static void blocks_have_the_since_of_their_group(struct fmi_scene *s)
{
	static const int own[] = { 1, 2, 3, 7 };
	static const int of_disagreement[] = { 4, 5, 6, 8 };
	long long questions, disagreement;

	(void)s;
	reset_group("questions");
	msleep(2);
	reset_group("disagreement");
	questions = since_of("questions");
	disagreement = since_of("disagreement");
	fmi_assert(questions < disagreement, "since: %lld, %lld", questions, disagreement);
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		fmi_eq(question_value(own[i], "since_ns"), questions, "since");
	for (size_t i = 0; i < ARRAY_SIZE(of_disagreement); i++)
		fmi_eq(question_value(of_disagreement[i], "since_ns"), disagreement, "since");
}

static void bad_groups_are_refused(struct fmi_scene *s)
{
	static const char *const bad[] = {
		"", "\n", "0", "2", "11", "stat", "statss", "Stats", "stats bogus",
		"stats,questions", "disagreement_orders", "all", "-", "1 1",
	};
	struct since before, after;

	(void)s;
	read_since(&before);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int ret = fmi_write("reset", bad[i]);

		/* Nothing written is no call at all. */
		if (*bad[i])
			fmi_eq(ret, -EINVAL, bad[i]);
	}
	read_since(&after);
	fmi_assert(!memcmp(&before, &after, sizeof(before)), "a refused word had an effect");
	for (size_t i = 0; i < NR_GROUPS; i++) {
		char line[32];

		snprintf(line, sizeof(line), "%s\n", groups[i]);
		reset_group(line);
	}
}

/* By the clock of the module. */
static long long now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (long long)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Counts go, what is wrong now stays wrong, from now on. */
static void reset_of_disagreement(struct fmi_scene *s)
{
	const char *const pair = "first_page\tmapped";
	const char *const row = "first_page\tmapped\tzap_dontneed";
	long long since_reset, stat;
	struct fmi_watch w;
	struct fmi_row old;

	s_populate(s);
	watch(&w, s, "first_page", "mapped");
	s_dontneed(s, 1, 0, 1);
	s_check(s, "without the first page");
	became(&w, "without the first page", FMI_FALSE_NO);
	fmi_assert(table_value("disagreement_operations", row, "episodes") > 0, "no episode");
	old = w.row;
	msleep(50);
	stat = fmi_stat("add_pte") + fmi_stat("evaluated");
	since_reset = -now_ns();
	reset_group("disagreement");
	row_read(s, "first_page", "mapped", &w.row);
	since_reset += now_ns();
	fmi_assert(old.false_no > 0 && w.row.false_no == 0, "false_no: %lld", w.row.false_no);
	fmi_eq(w.row.false_yes, 0, "false_yes");
	fmi_eq(w.row.evaluated, 0, "evaluated");
	fmi_eq(w.row.episodes, 0, "episodes");
	fmi_eq(w.row.wrong_now, old.wrong_now, "wrong_now");
	/* For each folio that is wrong now. */
	fmi_assert(w.row.time_wrong_ns <= old.wrong_now * since_reset,
		   "time_wrong_ns: %lld since a reset %lld ns ago", w.row.time_wrong_ns,
		   since_reset);
	fmi_eq(table_value("disagreement", pair, "false_no"), 0, "false_no of all orders");
	fmi_eq(table_value("disagreement", pair, "episodes"), 0, "episodes of all orders");
	fmi_assert(table_value("disagreement", pair, "wrong_now") >= 1, "wrong now of all orders");
	fmi_eq(table_value("disagreement_operations", row, "episodes"), 0, "episodes by dontneed");
	fmi_eq(table_value("disagreement_operations", row, "wrong"), 0, "wrong by dontneed");
	fmi_assert(fmi_stat("add_pte") + fmi_stat("evaluated") >= stat,
		   "the statistics were reset, too");
	/* It is still the same wrong answer, and goes right when the page comes back. */
	s_check(s, "after reset");
	s_munmap(s, 1, 1, 1);
	s_check(s, "one page less");
	became(&w, "one page less", FMI_FALSE_NO);
	s_munmap(s, 1, 0, s->nr);
	became(&w, "unmapped", FMI_GONE);
}

static void reset_of_others_keeps_disagreement(struct fmi_scene *s)
{
	struct fmi_row before, after;

	s_populate(s);
	s_dontneed(s, 1, 0, 1);
	row_read(s, "first_page", "mapped", &before);
	for (size_t i = 0; i < NR_GROUPS; i++) {
		if (strcmp(groups[i], "disagreement"))
			reset_group(groups[i]);
	}
	row_read(s, "first_page", "mapped", &after);
	fmi_eq(after.evaluated, before.evaluated, "evaluated");
	fmi_eq(after.false_no, before.false_no, "false_no");
	fmi_eq(after.episodes, before.episodes, "episodes");
	fmi_eq(after.wrong_now, before.wrong_now, "wrong_now");
	fmi_assert(after.time_wrong_ns >= before.time_wrong_ns, "time_wrong_ns");
}

/* Totals start anew, what is so now stays. */
static void reset_of_questions(struct fmi_scene *s)
{
	unsigned long to = s->arena + 12 * pmd_size - s->size / 2;

	s_populate(s);
	p_mremap(1, s->va, s->size, to, 0);
	ex_move(&s->e, 1, s->va, s->size, to);
	s_check(s, "across two page tables");
	s->va = to;
	s_munmap(s, 1, 0, 1);
	s_check(s, "a page less");
	fmi_assert(question_value(7, "remove_runs") > 0, "no remove run");
	fmi_eq(question_value(2, "folios_unaligned_now_anon"), 1, "unaligned now");
	reset_group("questions");
	fmi_eq(question_value(1, "remove_runs"), 0, "remove runs (1)");
	fmi_eq(question_value(7, "remove_runs"), 0, "remove runs (7)");
	fmi_eq(question_value(3, "scans_remove"), 0, "scans");
	fmi_eq(question_value(3, "scans_remove_max"), 0, "longest scan");
	fmi_eq(question_value(2, "folios_unaligned_now_anon"), 1, "unaligned now");
	s_munmap(s, 1, 1, 1);
	s_check(s, "one more page less");
	fmi_eq(question_value(1, "remove_runs"), 1, "remove runs (1)");
	fmi_eq(question_value(7, "remove_runs"), 1, "remove runs (7)");
}

static const struct fmi_test tests[] = {
	{ "since_of_one_group", since_of_one_group, ON_ONCE },
	{ "since_of_all_groups", since_of_all_groups, ON_ONCE },
	{ "blocks_have_the_since_of_their_group", blocks_have_the_since_of_their_group, ON_ONCE },
	{ "bad_groups_are_refused", bad_groups_are_refused, ON_ONCE },
	{ "reset_of_disagreement", reset_of_disagreement, ON_EACH | ORDER4_ONLY },
	{ "reset_of_others_keeps_disagreement", reset_of_others_keeps_disagreement,
	  ON_EACH | ORDER4_ONLY },
	{ "reset_of_questions", reset_of_questions, ON_ANON | ORDER4_ONLY },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
