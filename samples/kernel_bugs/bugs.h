/* SPDX-License-Identifier: GPL-2.0 */
/* What the reproducers share: files, numbers, and what the kernel and the module say. */
#ifndef FMI_BUGS_H
#define FMI_BUGS_H

#include <stdbool.h>
#include <stddef.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Ends the program: 2, the situation could not be made here. */
__attribute__((noreturn, format(printf, 1, 2)))
void die(const char *fmt, ...);
/* A line of the protocol on standard output, at once. */
__attribute__((format(printf, 1, 2)))
void say(const char *fmt, ...);

bool read_text(const char *path, char *buf, size_t size);
bool write_text(const char *path, const char *text);
/* The number behind "NAME" in a file of such lines; -1 if there is none. */
long long value_in(const char *path, const char *name);

/* Loads and enables the module if it can be found; without it only the kernel is looked at. */
bool module_start(void);
/* Prints "name: value" of these lines of `stats`. */
void module_stats(const char *const *names, size_t nr);
/* Audits all processes, then prints what differs. */
void module_audit(void);
/*
 * Prints the lines of the module's report of the folio at an address of this process that begin
 * with these words.
 */
void module_folio(unsigned long va, const char *const *words, size_t nr);

/* Prints the first complaints that the kernel has logged since the last call, without times. */
void kernel_log(void);

/* Counts calls of a function of the kernel by the function tracer. */
void trace_start(const char *function);
int trace_count(const char *function);
void trace_stop(void);

#endif
