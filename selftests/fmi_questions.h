/* SPDX-License-Identifier: GPL-2.0 */
/* The `questions` file, and what its figures change by. */
#ifndef FMI_QUESTIONS_H
#define FMI_QUESTIONS_H

/* Resets all counts and reads the file: what later readings are compared with. */
void q_begin(void);
/* The same without the reset. */
void q_mark(void);
/* Reads the file; the text stays until the next call. */
const char *q_read(void);
/* A figure of the last reading, and what it changed by; both fail if there is no such line. */
long long q_figure(const char *name);
long long q_change(const char *name);
/* Fails the case if a figure has changed by something else. */
void q_want(const char *what, const char *name, long long want);
/* Lines of the census come and go with what they count: 0 if there is none. */
long long q_census_change(const char *name);
void q_census_want(const char *what, const char *name, long long want);
/* The sum of the changes of lines that begin so. */
long long q_census_sum(const char *prefix);

#endif
