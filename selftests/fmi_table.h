/* SPDX-License-Identifier: GPL-2.0 */
/* What definitions answered: cells of the tables, numbers of `questions`, lines of a report. */
#ifndef FMI_TABLE_H
#define FMI_TABLE_H

#include <stdbool.h>
#include <stddef.h>

struct fmi_scene;

/* Cell number `column` of a line, and the number of the column with that name, or -1. */
void table_cell(const char *line, int column, char *out, size_t size);
int table_column(const char *header, const char *name);

/*
 * The number in the line of a table that begins with these cells ("vma\tshared"); false if there
 * is no such line. No such table or column fails the case.
 */
bool table_find(const char *file, const char *key, const char *column, long long *value);
/* The same of a table that only has lines in which something happened: 0. */
long long table_value(const char *file, const char *key, const char *column);
/* The sum over all lines in whose columns these words are; a NULL column accepts all. */
long long table_sum(const char *file, const char *where, const char *is, const char *column);

/* States that were evaluated because of an operation, over all definitions and questions. */
long long operation_evaluated(const char *operation);

/*
 * A number of a block of `questions` (block 0: the one without a number), 0 without a line, and
 * that of anon, file or shmem.
 */
long long question_value(int block, const char *name);
long long question_or_0(int block, const char *name);
long long question_value_of(const struct fmi_scene *s, int block, const char *name);

/* The report of the scene's folio has this number ("vma_counter", "double_map.flag"). */
void folio_has(const struct fmi_scene *s, const char *what, const char *name, long long want);
/* A definition's answer to a question about it, and the truth ("truth"); false if there is none. */
bool folio_answer(const struct fmi_scene *s, const char *question, const char *definition,
		  char *out, size_t size);
/* Is the pair in column `wrong` of `folios`? */
bool folio_wrong(const struct fmi_scene *s, const char *definition, const char *question);

enum fmi_verdict { FMI_RIGHT, FMI_FALSE_YES, FMI_FALSE_NO, FMI_UNKNOWN, FMI_GONE };

/* The cells of a definition and a question for folios of the scene's type and order. */
struct fmi_row {
	long long evaluated, false_yes, false_no, unknown, episodes, wrong_now, time_wrong_ns;
};

struct fmi_watch {
	const struct fmi_scene *s;
	const char *definition, *question;
	bool wrong;
	struct fmi_row row;
};

void row_read(const struct fmi_scene *s, const char *definition, const char *question,
	      struct fmi_row *row);
/* From now on. */
void watch(struct fmi_watch *w, const struct fmi_scene *s, const char *definition,
	   const char *question);
/*
 * Since the last look the folio changed, and now the answer is this, without having been another
 * wrong one in between: compares the tables with that, column `wrong`, and the report.
 */
void became(struct fmi_watch *w, const char *what, enum fmi_verdict verdict);

#endif
