/* SPDX-License-Identifier: GPL-2.0 */
/* What is mapped before tracking is switched on, and the scan that finds it. */
#ifndef FMI_SCAN_H
#define FMI_SCAN_H

struct fmi_scene;

/* Writes to `enable`. */
void scan_switch(const char *to);
/* The `scan` file as it was when one of the functions below read it last. */
extern char scan_text[1 << 16];
/* A number in `scan`. */
long long scan_number(const char *name);
/* The last scan has ended like this. */
void scan_ended(const char *want);
/* Actor 1 maps the folio of the scene whole, and tracking is off. */
void scan_mapped_before(struct fmi_scene *s);
/* Starts an actor that maps so many page tables that a scan of them takes a while. */
void scan_takes_longer(int who);

#endif
