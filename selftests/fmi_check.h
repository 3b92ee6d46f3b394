/* SPDX-License-Identifier: GPL-2.0 */
/* Between the two halves of ex_check(). */
#ifndef FMI_CHECK_H
#define FMI_CHECK_H

#include <stdbool.h>

#include "fmi_expect.h"

/* One more difference, with a line of diagnosis. */
__attribute__((format(printf, 1, 2)))
void differs(const char *fmt, ...);

/* The value of a definition by its name; false if these tests do not know it. */
bool ex_value(const struct ex_values *v, const char *definition, int *value);

/* The "answer:" lines of a report. */
void check_answers(const struct fmi_expect *e, const struct ex_values *v, const char *report);
/* The folio's line in `folios`. */
void check_folios(const struct fmi_expect *e, const struct ex_values *v);

#endif
