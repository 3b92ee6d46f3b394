/* SPDX-License-Identifier: GPL-2.0 */
/* Between the story (demo.c) and what is printed about it (demo_show.c). */
#ifndef FMI_DEMO_H
#define FMI_DEMO_H

#include <stdbool.h>
#include <stddef.h>

#define DEBUGFS "/sys/kernel/debug/folio_mapcount/"

/* Ends the demo with a message (exit status 1) after `cleanup`, if that is set. */
extern void (*cleanup)(void);
__attribute__((noreturn, format(printf, 1, 2)))
void die(const char *fmt, ...);

bool read_text(const char *path, char *buf, size_t size);
bool write_text(const char *path, const char *text);

/* Makes sure that the module is loaded and enabled. */
void enable_module(void);

/*
 * Prints one step: what was done, why the numbers are what they are, and what the module reports
 * about the folio that this process maps at `va`.
 */
__attribute__((format(printf, 3, 4)))
void show_step(unsigned long va, const char *what, const char *why, ...);
/* Prints all steps again as one table; true if shadow and kernel agreed in each. */
bool show_summary(void);

#endif
