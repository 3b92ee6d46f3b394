// SPDX-License-Identifier: GPL-2.0
/*
 * Controls: a folio about which all definitions agree leaves no trace in the tables, and the
 * tables agree with each other.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_table.h"
#include "fmi_util.h"

/*
 * What is wrong by definition: no VMA maps a part of a folio that one PMD maps, so "VMAs that map
 * a part" says that it is not mapped; "mapped or not" counts a folio that nothing maps any more.
 */
static const struct { const char *definition, *question; } blind[] = {
	{ "partial", "mapped" }, { "stat_any", "stat" },
};

static char text[1 << 20], orders[1 << 20], operations[1 << 20], again[1 << 20];

static void load(const char *file, char *buf)
{
	int ret = fmi_read(file, buf, sizeof(text));

	fmi_assert(ret > 0, "cannot read %s: %s", file, strerror(-ret));
}

static const char *next_line(const char *line)
{
	line += strcspn(line, "\n");
	return line + (*line == '\n');
}

static long long cell(const char *table, const char *line, const char *column)
{
	int at = table_column(table, column);
	char value[64];

	fmi_assert(at >= 0, "no column '%s'", column);
	table_cell(line, at, value, sizeof(value));
	return strtoll(value, NULL, 10);
}

static bool cell_is(const char *table, const char *line, const char *column, const char *want)
{
	int at = table_column(table, column);
	char value[64];

	fmi_assert(at >= 0, "no column '%s'", column);
	table_cell(line, at, value, sizeof(value));
	return !strcmp(value, want);
}

static bool is_blind(const char *table, const char *line)
{
	for (size_t i = 0; i < ARRAY_SIZE(blind); i++) {
		if (cell_is(table, line, "definition", blind[i].definition) &&
		    cell_is(table, line, "question", blind[i].question))
			return true;
	}
	return false;
}

/* The sum of columns of all lines about folios like this one, without what is blind to it. */
static long long sum_of(const struct fmi_scene *s, const char *const *columns, size_t nr)
{
	char order[16];
	long long sum = 0;

	load("disagreement_orders", text);
	snprintf(order, sizeof(order), "%u", s->order);
	for (const char *line = next_line(text); *line; line = next_line(line)) {
		if (!cell_is(text, line, "type", kind_name(s->kind)) ||
		    !cell_is(text, line, "order", order) || is_blind(text, line))
			continue;
		for (size_t i = 0; i < nr; i++)
			sum += cell(text, line, columns[i]);
	}
	return sum;
}

/* Wrong answers about folios like this one until now. */
static long long disagreements(const struct fmi_scene *s)
{
	static const char *const columns[] = { "false_yes", "false_no", "episodes" };

	return sum_of(s, columns, ARRAY_SIZE(columns));
}

/* And answers that were none. About what is not mapped some have none. */
static long long unknowns(const struct fmi_scene *s)
{
	static const char *const columns[] = { "unknown" };

	return sum_of(s, columns, ARRAY_SIZE(columns));
}

static bool same_halves(const char *word, char between)
{
	const char *half = strchr(word, between);
	size_t len = half ? (size_t)(half - word) : 0;

	return half && strlen(half + 1) == len && !strncmp(word, half + 1, len);
}

/* A yes or no or number as it should be; a counter as "is/should", a true number as "from-to". */
static bool right(const char *answer, const char *truth)
{
	if (strchr(answer, '/'))
		return same_halves(answer, '/');
	if (strchr(truth, '-'))
		return same_halves(truth, '-') && !strncmp(answer, truth, strlen(answer)) &&
		       truth[strlen(answer)] == '-';
	return !strcmp(answer, truth);
}

/* All wrong answers in the report of the folio, and how many answers there are. */
static int wrong_answers(const struct fmi_scene *s, int *answers)
{
	const char *line = fmi_report_pfn(s->e.pfn);
	int wrong = 0;

	fmi_assert(line, "no report of pfn %lu: %s", s->e.pfn, strerror(errno));
	*answers = 0;
	for (; *line; line = next_line(line)) {
		char words[4096], question[32], truth[32] = "";
		char *save;

		if (sscanf(line, "answer: %31s", question) != 1)
			continue;
		snprintf(words, sizeof(words), "%.*s", (int)strcspn(line, "\n"), line);
		strtok_r(words, " ", &save);
		strtok_r(NULL, " ", &save);
		for (char *p = strtok_r(NULL, " ", &save); p; p = strtok_r(NULL, " ", &save)) {
			char *answer = strchr(p, '=');

			fmi_assert(answer, "answer %s: '%s'", question, p);
			*answer++ = '\0';
			if (!strcmp(p, "truth")) {
				snprintf(truth, sizeof(truth), "%s", answer);
				continue;
			}
			++*answers;
			if (right(answer, truth) || (!strcmp(p, blind[0].definition) &&
						     !strcmp(question, blind[0].question)))
				continue;
			fmi_note("answer %s: %s says %s, the truth is %s", question, p, answer,
				 truth);
			wrong++;
		}
	}
	return wrong;
}

/* Lines of `examples` about this folio, without what is blind to it; remarks may come first. */
static int examples_of(unsigned long pfn)
{
	const char *table = text;
	char want[32];
	int nr = 0;

	load("examples", text);
	while (*table == '#')
		table = next_line(table);
	snprintf(want, sizeof(want), "%lu", pfn);
	for (const char *line = next_line(table); *line; line = next_line(line))
		nr += cell_is(table, line, "pfn", want) && !is_blind(table, line);
	return nr;
}

/* One PMD, one VMA, one process: every count is 1, and every answer right. */
static void one_pmd_is_agreed_about(struct fmi_scene *s)
{
	long long before = disagreements(s), unknown = unknowns(s);
	int answers;

	fmi_assert(fmi_write("reset", "examples") > 0, "cannot reset examples");
	s_populate(s);
	p_read(1, s->va, s->nr);
	s_check(s, "read");
	fmi_eq(disagreements(s), before, "disagreements");
	fmi_eq(unknowns(s), unknown, "no answers");
	fmi_eq(wrong_answers(s, &answers), 0, "wrong answers");
	fmi_assert(answers > 20, "only %d answers in the report", answers);
	fmi_eq(examples_of(s->e.pfn), 0, "examples");
	p_mprotect(1, s->va, s->size, PROT_READ);
	p_mprotect(1, s->va, s->size, PROT_READ | PROT_WRITE);
	s_check(s, "protected as a whole, and not");
	fmi_eq(disagreements(s), before, "disagreements");
	fmi_eq(unknowns(s), unknown, "no answers");
	s_munmap(s, 1, 0, s->nr);
	s_check(s, "unmapped");
	fmi_eq(disagreements(s), before, "disagreements when unmapped");
	fmi_eq(examples_of(s->e.pfn), 0, "examples");
}

/* The same folio without its first page: what the control looks at is able to differ. */
static void one_page_less_is_not(struct fmi_scene *s)
{
	long long before = disagreements(s);
	int answers;

	fmi_assert(fmi_write("reset", "examples") > 0, "cannot reset examples");
	s_populate(s);
	fmi_eq(disagreements(s), before, "disagreements");
	/* An example that follows another at once is not kept. */
	msleep(10);
	if (s->kind == FMI_ANON) {
		s_dontneed(s, 1, 0, 1);
	} else {
		/* A file's PMD goes as a whole, and comes back if its VMA is whole. */
		p_mprotect(1, s->va, pgsz, PROT_READ);
		ex_vma_split(&s->e, 1, s_page(s, 1));
		ex_split(&s->e, 1, s->va, pgsz);
		p_read(1, s_page(s, 1), s->nr - 1);
		ex_learn(&s->e, 1);
	}
	s_check(s, "without the first page");
	fmi_assert(disagreements(s) > before, "no disagreement");
	fmi_assert(wrong_answers(s, &answers) > 0, "no wrong answer");
	fmi_assert(examples_of(s->e.pfn) > 0, "it is not in examples");
}

/*
 * What the tables have in common; time goes on while they are read. Questions about references
 * are asked by each read, of whatever is mapped then.
 */
static const char *const common[] = {
	"evaluated", "false_yes", "false_no", "unknown", "episodes", "wrong_now", "compared",
	"flips",
};

static bool asked_by_reading(const char *line)
{
	return cell_is(text, line, "question", "refs") || cell_is(text, line, "question", "reuse");
}

static bool same_tables(const char *a, const char *b)
{
	for (; *a && *b; a = next_line(a), b = next_line(b)) {
		for (size_t i = 0; i < ARRAY_SIZE(common); i++) {
			if (!asked_by_reading(a) &&
			    cell(text, a, common[i]) != cell(text, b, common[i]))
				return false;
		}
	}
	return *a == *b;
}

static long long sum_of_pair(const char *table, const char *pair, const char *column)
{
	long long sum = 0;

	for (const char *line = next_line(table); *line; line = next_line(line)) {
		if (!strncmp(line, pair, strlen(pair)))
			sum += cell(table, line, column);
	}
	return sum;
}

/* All three tables; was nothing else evaluated meanwhile? */
static bool load_tables(void)
{
	load("disagreement", text);
	load("disagreement_orders", orders);
	load("disagreement_operations", operations);
	load("disagreement", again);
	return same_tables(next_line(text), next_line(again));
}

static void tables_have_the_same_sums(struct fmi_scene *s)
{
	int pairs = 0;

	fmi_assert(fmi_write("reset", "disagreement") > 0, "cannot reset");
	s_populate(s);
	s_fork(s, 1, 2);
	s_dontneed(s, 1, 0, 1);
	s_cow(s, 2, s->nr - 1);
	s_check(s, "some of everything");
	s_exit(s, 1);
	s_check(s, "child alone");
	fmi_wait_until(load_tables(), "the tables to stand still");
	for (const char *line = next_line(text); *line; line = next_line(line)) {
		char definition[64], question[64], pair[160];
		long long wrong = cell(text, line, "false_yes") + cell(text, line, "false_no");

		if (asked_by_reading(line))
			continue;
		table_cell(line, 0, definition, sizeof(definition));
		table_cell(line, 1, question, sizeof(question));
		snprintf(pair, sizeof(pair), "%s\t%s\t", definition, question);
		for (size_t i = 0; i < ARRAY_SIZE(common); i++) {
			char what[192];

			snprintf(what, sizeof(what), "orders: %s %s %s", definition, question,
				 common[i]);
			fmi_eq(sum_of_pair(orders, pair, common[i]), cell(text, line, common[i]),
			       what);
		}
		fmi_eq(sum_of_pair(operations, pair, "evaluated"), cell(text, line, "evaluated"),
		       pair);
		fmi_eq(sum_of_pair(operations, pair, "wrong"), wrong, pair);
		fmi_eq(sum_of_pair(operations, pair, "episodes"), cell(text, line, "episodes"),
		       pair);
		pairs++;
	}
	fmi_assert(pairs > 20, "only %d pairs", pairs);
}

/* KSM folios are small, and drivers' folios are not rmappable on a stock kernel. */
static void no_ksm_and_no_driver(struct fmi_scene *s)
{
	static const char *const columns[] = { "evaluated", "wrong_now" };

	(void)s;
	/* The tables have no place for them: what is evaluated about any is counted. */
	fmi_assert(fmi_stat("evaluated") > 0, "nothing was evaluated");
	fmi_eq(fmi_stat("evaluated_other_kind"), 0, "states of ksm and driver folios");
	load("disagreement_orders", orders);
	for (const char *line = next_line(orders); *line; line = next_line(line)) {
		fmi_assert(!cell_is(orders, line, "type", "ksm") &&
			   !cell_is(orders, line, "type", "driver"), "'%.*s'",
			   (int)strcspn(line, "\n"), line);
		fmi_assert(cell(orders, line, columns[0]) > 0 || cell(orders, line, columns[1]) > 0,
			   "an empty line: '%.*s'", (int)strcspn(line, "\n"), line);
	}
}

static const struct fmi_test tests[] = {
	{ "one_pmd_is_agreed_about", one_pmd_is_agreed_about, ON_EACH | PMD_ONLY },
	{ "one_page_less_is_not", one_page_less_is_not, ON_EACH | PMD_ONLY },
	{ "tables_have_the_same_sums", tables_have_the_same_sums, ON_ANON },
	{ "no_ksm_and_no_driver", no_ksm_and_no_driver, ON_ONCE },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
