/* SPDX-License-Identifier: GPL-2.0 */
/* The usual beginning of a case: one folio of the wanted kind and size, mapped by actor 1. */
#ifndef FMI_SCENE_H
#define FMI_SCENE_H

#include "fmi_expect.h"
#include "fmi_thp.h"

#define ARENA_PMDS 48

struct fmi_scene {
	enum fmi_kind kind;
	unsigned int order;
	unsigned long nr;	/* pages of the folio */
	unsigned long size;	/* bytes of the folio */
	unsigned long arena;	/* reserved addresses, PMD-aligned; actors map over them */
	unsigned long va;	/* where the folio goes: 4 PMDs into the arena */
	int fd;			/* of shmem and file folios, which begin at offset 0 */
	struct fmi_expect e;
};

void scene_init(struct fmi_scene *s, enum fmi_kind kind, unsigned int order);

/* A memfd or file of this many bytes; a file's first s->size bytes are one folio already. */
void s_open(struct fmi_scene *s, unsigned long bytes);
/* Maps readable and writable memory there (shared if it has a file) and notes the VMA. */
void s_map(struct fmi_scene *s, int who, unsigned long va, unsigned long len, unsigned long offset);
/* The same, MAP_PRIVATE of the file. */
void s_map_private(struct fmi_scene *s, int who, unsigned long va, unsigned long len,
		   unsigned long offset);
/* Faults the folio in by a touch at va (the folio's first page); skips if it has another order. */
void s_fault(struct fmi_scene *s, int who, unsigned long va);
/* What the fault of a whole folio maps: a PMD, or all PTEs. */
void s_mapped_whole(struct fmi_scene *s, int who, unsigned long va);
/* All of it: actor 1 maps the whole folio at s->va, in a VMA of exactly its size. */
void s_populate(struct fmi_scene *s);
/* The same by another actor, unchecked. */
void s_populate_by(struct fmi_scene *s, int who);
/* The same while tracking is off: nothing can be checked. */
void s_populate_unchecked(struct fmi_scene *s);
/*
 * Actor 1 maps the whole folio at s->va: anonymous memory in a VMA that has a file, MAP_PRIVATE of
 * /dev/zero, and an offset that is not its address.
 */
void s_populate_zero(struct fmi_scene *s);
/* Address of a page. */
unsigned long s_page(const struct fmi_scene *s, unsigned long page);

/* Order, then the same in the list. */
void s_fork(struct fmi_scene *s, int from, int to);
void s_exit(struct fmi_scene *s, int who);
void s_munmap(struct fmi_scene *s, int who, unsigned long first, unsigned long nr);
void s_dontneed(struct fmi_scene *s, int who, unsigned long first, unsigned long nr);
/* A write that must copy the page: the folio loses it in this actor. */
void s_cow(struct fmi_scene *s, int who, unsigned long page);
/* A write that must not. */
void s_write_in_place(struct fmi_scene *s, int who, unsigned long page);
void s_check(struct fmi_scene *s, const char *what);
/*
 * The same for whatever large folios are in the VMAs now (after a split, migration or swap-in,
 * where the kernel chooses): each is listed from pagemap and checked. Returns how many.
 */
int s_check_found(struct fmi_scene *s, const char *what);

#endif
