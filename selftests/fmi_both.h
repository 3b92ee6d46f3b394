/* SPDX-License-Identifier: GPL-2.0 */
/* Both backends at once, and what a comparison of their shadows says. */
#ifndef FMI_BOTH_H
#define FMI_BOTH_H

struct fmi_scene;

/* The `both` file as it was when one of the functions below read it last. */
extern char both_text[1 << 18];
/* Adds that the second shadow did not take before it was scanned for the last time. */
extern long long both_in_flight;

/* Without the module. */
void both_unload(void);
/* With both backends, and nothing counted yet. Skips the case on a kernel without tracepoints. */
void both_ready(void);
/* Compares; a number of what was found. */
long long both_compare(const char *name);
/* All folios are compared, and are equal. */
void both_equal(const char *what);
/* So is the folio at this address of an actor: it is tracked in both. */
void both_is_compared(int who, unsigned long va, const char *what);
/* both_ready(), and a folio that actor 1 maps and both know. */
void both_begin(struct fmi_scene *s);

#endif
