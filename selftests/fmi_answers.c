// SPDX-License-Identifier: GPL-2.0
/* What each definition must answer to each question, and the table of folios. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fmi_check.h"
#include "fmi_ksft.h"
#include "fmi_table.h"
#include "fmi_util.h"

static const char *yes_no(bool yes)
{
	return yes ? "yes" : "no";
}

/* The truth about a question, or NULL if these tests do not know it. */
static const char *truth(const struct fmi_expect *e, const struct ex_values *v,
			 const char *question)
{
	if (!strcmp(question, "mapped"))
		return yes_no(v->total > 0);
	if (!strcmp(question, "shared"))
		return yes_no(v->mm > 1);
	if (!strcmp(question, "shared_vma"))
		return yes_no(v->vma > 1);
	if (!strcmp(question, "entire") && v->total > 0)
		return yes_no(v->entire == v->total);
	if (!strcmp(question, "partial"))
		return yes_no(v->nr_pages_mapped > 0 && v->nr_pages_mapped < e->nr);
	return NULL;
}

/* The answer that a definition's value means. */
static const char *answer(const struct fmi_expect *e, const struct ex_values *v,
			  const char *question, const char *definition, int value)
{
	if (v->total == 0)
		return strcmp(question, "mapped") ? NULL : "no";
	if (!strcmp(question, "mapped"))
		return yes_no(value > 0);
	if (!strcmp(question, "shared")) {
		if (!strcmp(definition, "vma_pt"))
			return value == 2 ? "unknown" : yes_no(value > 2);
		return yes_no(value > 1);
	}
	if (!strcmp(question, "shared_vma"))
		return strcmp(definition, "vma_pt") ? yes_no(value > 1) : NULL;
	if (!strcmp(question, "entire")) {
		if (!strcmp(definition, "entire"))
			return yes_no(value > 0);
		if (!strcmp(definition, "full") || !strcmp(definition, "partial"))
			return yes_no(v->full > 0 && v->partial == 0);
		if (!strcmp(definition, "total_pages"))
			return yes_no(v->total_pages == v->total * e->nr);
	}
	if (!strcmp(question, "partial")) {
		if (!strcmp(definition, "nr_pages_mapped") || !strcmp(definition, "total_pages"))
			return yes_no(value > 0 && value < e->nr);
		if (!strcmp(definition, "partial"))
			return yes_no(v->partial > 0 && v->full == 0);
	}
	return NULL;
}

static void check_answer(const struct fmi_expect *e, const struct ex_values *v,
			 const char *question, char *pairs)
{
	char *save;

	for (char *pair = strtok_r(pairs, " \t", &save); pair;
	     pair = strtok_r(NULL, " \t", &save)) {
		char *got = strchr(pair, '=');
		const char *want;
		int value;

		if (!got) {
			differs("answer %s: '%s' has no '='", question, pair);
			continue;
		}
		*got++ = '\0';
		if (!strcmp(pair, "truth"))
			want = truth(e, v, question);
		else if (ex_value(v, pair, &value))
			want = answer(e, v, question, pair, value);
		else if (!strcmp(pair, "kernel") && !strcmp(question, "mapped"))
			want = yes_no(v->total > 0);
		else
			want = NULL;
		if (want && strcmp(got, want))
			differs("answer %s: %s=%s, want %s", question, pair, got, want);
	}
}

void check_answers(const struct fmi_expect *e, const struct ex_values *v, const char *report)
{
	static const char *const questions[] = {
		"mapped", "shared", "shared_vma", "entire", "partial",
	};
	bool seen[ARRAY_SIZE(questions)] = { false };
	const char *line = report;

	while (line && *line) {
		char question[32], text[512];
		size_t len = strcspn(line, "\n");

		if (len < sizeof(text) && sscanf(line, "answer: %31s", question) == 1) {
			memcpy(text, line, len);
			text[len] = '\0';
			check_answer(e, v, question,
				     text + strlen("answer: ") + strlen(question));
			for (size_t i = 0; i < ARRAY_SIZE(questions); i++)
				seen[i] |= !strcmp(question, questions[i]);
		}
		line = strchr(line, '\n');
		if (line)
			line++;
	}
	for (size_t i = 0; i < ARRAY_SIZE(questions); i++) {
		if (!seen[i])
			differs("no line 'answer: %s ...'", questions[i]);
	}
}

void check_folios(const struct fmi_expect *e, const struct ex_values *v)
{
	static const char *const columns[] = {
		"total", "entire", "page", "nr_pages_mapped", "first_page", "max_page", "mm",
		"vma", "vma_pt", "full", "partial", "total_pages",
	};
	static char table[1 << 19];
	int ret = fmi_read("folios", table, sizeof(table));
	char text[64], want[64];
	const char *line;

	fmi_assert(ret > 0, "cannot read folios: %s", strerror(-ret));
	snprintf(want, sizeof(want), "\n%lu\t", e->pfn);
	line = strstr(table, want);
	if (!line) {
		differs("no line for pfn %lu in folios", e->pfn);
		return;
	}
	line++;
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
		int value = 0;

		ex_value(v, columns[i], &value);
		table_cell(line, table_column(table, columns[i]), text, sizeof(text));
		snprintf(want, sizeof(want), "%d", value);
		if (strcmp(text, want))
			differs("folios: %s: got '%s', want %s", columns[i], text, want);
	}
	table_cell(line, table_column(table, "order"), text, sizeof(text));
	if (atoi(text) != (int)e->order)
		differs("folios: order: got '%s', want %u", text, e->order);
	table_cell(line, table_column(table, "type"), text, sizeof(text));
	if (strcmp(text, kind_name(e->kind)))
		differs("folios: type: got '%s', want %s", text, kind_name(e->kind));
}
