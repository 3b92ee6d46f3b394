/* SPDX-License-Identifier: GPL-2.0 */
/* Between the measuring frame (bench.c), memory (memory.c) and what is measured (modes.c). */
#ifndef FMI_BENCH_H
#define FMI_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "fmi_thp.h"

/* One cell of the table: memory of one kind, in folios of one size, mapped by PTEs or PMDs. */
struct bench_cell {
	enum fmi_kind kind;
	unsigned int order;
	bool by_pmd;
	/* Nothing is mapped: what the mode costs without folios. */
	bool empty;
	unsigned long size;	/* bytes of a folio */
	unsigned long nr;	/* folios */
	unsigned long len;	/* bytes: all folios */
	int fd;
	char *mem;		/* aligned to a PMD; room for another range of the length behind */
	char *other;
};

/* Reserves addresses; makes the page cache of a file or memfd. */
void cell_open(struct bench_cell *c);
void cell_close(struct bench_cell *c);
/* Maps the range; touches every folio; ends the program if they are not of the size. */
void cell_map(struct bench_cell *c);
void cell_touch(const struct bench_cell *c);
void cell_populate(struct bench_cell *c);
/* Gives the range back, or one that was moved elsewhere. */
void cell_unmap(struct bench_cell *c, char *where);

struct bench_mode {
	const char *name;
	/* Is there such a cell? */
	bool (*has)(const struct bench_cell *c);
	/* Before each round; if a round keeps all as it was, before the first. NULL: nothing. */
	void (*prepare)(struct bench_cell *c);
	bool keeps;
	/* Does it once, and calls begin() and end() around what counts. */
	void (*run)(struct bench_cell *c);
};

extern const struct bench_mode modes[];
extern const unsigned int nr_modes;

/* Around what is measured, in any process. */
void begin(void);
void end(void);

/* Is it in a list that commas separate? Everything is in no list. */
bool wanted(const char *list, const char *name);

#endif
