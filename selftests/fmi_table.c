// SPDX-License-Identifier: GPL-2.0
#include "fmi_table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fmi_ksft.h"
#include "fmi_scene.h"
#include "fmi_util.h"

static char text[1 << 20];

static const char *load(const char *file)
{
	int ret = fmi_read(file, text, sizeof(text));

	fmi_assert(ret > 0, "cannot read %s: %s", file, strerror(-ret));
	return text;
}

static const char *next_line(const char *line)
{
	line += strcspn(line, "\n");
	return line + (*line == '\n');
}

void table_cell(const char *line, int column, char *out, size_t size)
{
	size_t len;

	for (; column > 0; column--) {
		line += strcspn(line, "\t\n");
		line += *line == '\t';
	}
	len = strcspn(line, "\t\n");
	snprintf(out, size, "%.*s", (int)len, line);
}

int table_column(const char *header, const char *name)
{
	char cell[64];
	int columns = 1;

	for (const char *p = header; *p && *p != '\n'; p++)
		columns += *p == '\t';
	for (int i = 0; i < columns; i++) {
		table_cell(header, i, cell, sizeof(cell));
		if (!strcmp(cell, name))
			return i;
	}
	return -1;
}

static int need_column(const char *file, const char *header, const char *name)
{
	int column = table_column(header, name);

	fmi_assert(column >= 0, "%s has no column '%s'", file, name);
	return column;
}

static long long number_in(const char *file, const char *line, int column)
{
	char cell[64];
	char *end;
	long long value;

	table_cell(line, column, cell, sizeof(cell));
	value = strtoll(cell, &end, 10);
	fmi_assert(end != cell && !*end, "%s: '%s' is not a number", file, cell);
	return value;
}

static bool find_in(const char *table, const char *file, const char *key, const char *column,
		    long long *value)
{
	int at = need_column(file, table, column);
	size_t len = strlen(key);

	for (const char *line = next_line(table); *line; line = next_line(line)) {
		if (!strncmp(line, key, len) && line[len] == '\t') {
			*value = number_in(file, line, at);
			return true;
		}
	}
	return false;
}

bool table_find(const char *file, const char *key, const char *column, long long *value)
{
	return find_in(load(file), file, key, column, value);
}

long long table_value(const char *file, const char *key, const char *column)
{
	long long value = 0;

	return table_find(file, key, column, &value) ? value : 0;
}

long long table_sum(const char *file, const char *where, const char *is, const char *column)
{
	const char *table = load(file);
	int at = need_column(file, table, column);
	int condition = where ? need_column(file, table, where) : -1;
	long long sum = 0;
	char cell[64];

	for (const char *line = next_line(table); *line; line = next_line(line)) {
		if (where) {
			table_cell(line, condition, cell, sizeof(cell));
			if (strcmp(cell, is))
				continue;
		}
		sum += number_in(file, line, at);
	}
	return sum;
}

long long operation_evaluated(const char *operation)
{
	return table_sum("disagreement_operations", "operation", operation, "evaluated");
}

/* The lines of a block of `questions`, 0: the one without a number; it ends with an empty line. */
static const char *block_of(int block)
{
	const char *line = load("questions");
	static char lines[1 << 14];
	char number_of[16];
	size_t len = 0;

	snprintf(number_of, sizeof(number_of), block ? "%d. " : "-. ", block);
	while (*line && strncmp(line, number_of, strlen(number_of)))
		line = next_line(line);
	fmi_assert(*line, "questions: no block %d", block);
	for (; *line && *line != '\n'; line = next_line(line)) {
		size_t n = strcspn(line, "\n") + 1;

		fmi_assert(len + n < sizeof(lines), "questions: block %d is too long", block);
		memcpy(lines + len, line, n);
		len += n;
	}
	lines[len] = '\0';
	return lines;
}

long long question_value(int block, const char *name)
{
	return text_value(block_of(block), name);
}

long long question_or_0(int block, const char *name)
{
	const char *lines = block_of(block);
	char value[64];

	return text_find(lines, name, value, sizeof(value)) ? text_value(lines, name) : 0;
}

long long question_value_of(const struct fmi_scene *s, int block, const char *name)
{
	char full[64];

	snprintf(full, sizeof(full), "%s_%s", name, kind_name(s->kind));
	return question_value(block, full);
}

static const char *report_of(const struct fmi_scene *s, const char *what)
{
	const char *report = fmi_report_pfn(s->e.pfn);

	fmi_assert(report, "%s: no report of pfn %lu: %s", what, s->e.pfn, strerror(errno));
	return report;
}

void folio_has(const struct fmi_scene *s, const char *what, const char *name, long long want)
{
	const char *report = report_of(s, what);
	long long got = text_value(report, name);

	if (got == want)
		return;
	fmi_note("the report of the module:\n%s", report);
	fmi_fail("%s: %s: got %lld, want %lld", what, name, got, want);
}

bool folio_answer(const struct fmi_scene *s, const char *question, const char *definition,
		  char *out, size_t size)
{
	const char *report = report_of(s, question);
	size_t len = strlen(definition);
	char begin[64];

	snprintf(begin, sizeof(begin), "answer: %s ", question);
	while (*report && strncmp(report, begin, strlen(begin)))
		report = next_line(report);
	if (!*report)
		return false;
	report += strlen(begin);
	while (*report && *report != '\n') {
		if (!strncmp(report, definition, len) && report[len] == '=') {
			report += len + 1;
			snprintf(out, size, "%.*s", (int)strcspn(report, " \t\n"), report);
			return true;
		}
		report += strcspn(report, " \t\n");
		report += strspn(report, " \t");
	}
	return false;
}

bool folio_wrong(const struct fmi_scene *s, const char *definition, const char *question)
{
	const char *table = load("folios");
	int column = need_column("folios", table, "wrong");
	static char cell[1 << 12];
	char key[32], pair[80];
	char *save;

	snprintf(key, sizeof(key), "%lu", s->e.pfn);
	snprintf(pair, sizeof(pair), "%s:%s", definition, question);
	for (const char *line = next_line(table); *line; line = next_line(line)) {
		if (strncmp(line, key, strlen(key)) || line[strlen(key)] != '\t')
			continue;
		table_cell(line, column, cell, sizeof(cell));
		for (char *p = strtok_r(cell, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
			if (!strcmp(p, pair))
				return true;
		}
		return false;
	}
	return false;
}

/* A line appears in `disagreement_orders` with the first evaluation; the pair must be claimed. */
void row_read(const struct fmi_scene *s, const char *definition, const char *question,
	      struct fmi_row *row)
{
	const struct { const char *column; long long *value; } cells[] = {
		{ "evaluated", &row->evaluated }, { "false_yes", &row->false_yes },
		{ "false_no", &row->false_no }, { "unknown", &row->unknown },
		{ "episodes", &row->episodes }, { "wrong_now", &row->wrong_now },
		{ "time_wrong_ns", &row->time_wrong_ns },
	};
	static const char file[] = "disagreement_orders";
	const char *table;
	char key[128];
	long long value;

	snprintf(key, sizeof(key), "%s\t%s", definition, question);
	fmi_assert(table_find("disagreement", key, "evaluated", &value),
		   "disagreement: no line for %s %s", definition, question);
	snprintf(key, sizeof(key), "%s\t%s\t%s\t%u", definition, question, kind_name(s->kind),
		 s->order);
	table = load(file);
	memset(row, 0, sizeof(*row));
	for (size_t i = 0; i < ARRAY_SIZE(cells); i++)
		find_in(table, file, key, cells[i].column, cells[i].value);
}

void watch(struct fmi_watch *w, const struct fmi_scene *s, const char *definition,
	   const char *question)
{
	w->s = s;
	w->definition = definition;
	w->question = question;
	row_read(s, definition, question, &w->row);
	w->wrong = folio_wrong(s, definition, question);
}

static void counted(const struct fmi_watch *w, const char *what, const char *column,
		    long long by, bool wanted)
{
	if (wanted ? by <= 0 : by != 0)
		fmi_fail("%s: %s %s: %s grew by %lld", what, w->definition, w->question, column,
			 by);
}

static void check_report(const struct fmi_watch *w, const char *what, enum fmi_verdict verdict)
{
	char truth[16], answer[16];
	enum fmi_verdict got;

	/* Questions about numbers have no true answer in the report. */
	if (!folio_answer(w->s, w->question, "truth", truth, sizeof(truth)) ||
	    (strcmp(truth, "yes") && strcmp(truth, "no")))
		return;
	fmi_assert(folio_answer(w->s, w->question, w->definition, answer, sizeof(answer)),
		   "%s: no answer of %s to %s", what, w->definition, w->question);
	if (!strcmp(answer, "unknown"))
		got = FMI_UNKNOWN;
	else if (!strcmp(answer, truth))
		got = FMI_RIGHT;
	else
		got = !strcmp(answer, "yes") ? FMI_FALSE_YES : FMI_FALSE_NO;
	if (got != verdict)
		fmi_fail("%s: %s answers %s with %s, the truth is %s", what, w->definition,
			 w->question, answer, truth);
}

void became(struct fmi_watch *w, const char *what, enum fmi_verdict verdict)
{
	bool wrong = verdict == FMI_FALSE_YES || verdict == FMI_FALSE_NO;
	struct fmi_row old = w->row;
	char name[128];

	row_read(w->s, w->definition, w->question, &w->row);
	snprintf(name, sizeof(name), "%s: %s %s: %s", what, w->definition, w->question,
		 "wrong_now");
	fmi_eq(w->row.wrong_now - old.wrong_now, wrong - w->wrong, name);
	if (verdict != FMI_GONE) {
		bool in_folios = folio_wrong(w->s, w->definition, w->question);

		check_report(w, what, verdict);
		counted(w, what, "evaluated", w->row.evaluated - old.evaluated, true);
		counted(w, what, "false_yes", w->row.false_yes - old.false_yes,
			verdict == FMI_FALSE_YES);
		counted(w, what, "false_no", w->row.false_no - old.false_no,
			verdict == FMI_FALSE_NO);
		counted(w, what, "unknown", w->row.unknown - old.unknown, verdict == FMI_UNKNOWN);
		snprintf(name, sizeof(name), "%s: %s:%s in column wrong", what, w->definition,
			 w->question);
		fmi_eq(in_folios, wrong, name);
	}
	snprintf(name, sizeof(name), "%s: %s %s: episodes", what, w->definition, w->question);
	fmi_eq(w->row.episodes - old.episodes, wrong && !w->wrong, name);
	if (wrong && w->wrong)
		fmi_assert(w->row.time_wrong_ns > old.time_wrong_ns,
			   "%s: %s %s: no time passes while wrong", what, w->definition,
			   w->question);
	w->wrong = wrong;
}
