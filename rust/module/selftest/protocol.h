/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the module and the program of its self-test say to each other: a page of
 * memory that both see, and steps that both know.
 */
#ifndef FMI_SELFTEST_PROTOCOL_H
#define FMI_SELFTEST_PROTOCOL_H

/* Where the program finds its own image and the shared page. */
enum {
	FMI_SELFTEST_IMAGE_FD,
	FMI_SELFTEST_PAGE_FD,
};

/* What the program does to its memory, in this order; selftest.rs names them. */
enum fmi_step {
	FMI_STEP_NONE,
	FMI_STEP_MAP,		/* a large folio, by a PMD */
	FMI_STEP_FORK,		/* a child maps it, too */
	FMI_STEP_COW,		/* the child writes a page */
	FMI_STEP_ZAP,		/* the child gives it back and is gone */
	FMI_STEP_MUNMAP,	/* a page in the middle */
	FMI_STEP_FORK_PTES,	/* a child maps the rest */
	FMI_STEP_SPLIT_VMA,	/* mprotect() of some pages */
	FMI_STEP_MREMAP,	/* of some pages, to an address of another alignment */
	FMI_STEP_DONTNEED,	/* for some pages */
	FMI_STEP_MAP_FILE,	/* shared memory, by a PMD */
	FMI_STEP_FAULT_FILE,	/* its PMD is zapped, a fault maps pages */
	FMI_STEP_UFFD_MOVE,	/* of a PMD */
	FMI_STEP_MIGRATE,	/* a folio mapped by a PMD to each memory node */
	FMI_STEP_END,		/* everything is unmapped */
	FMI_NR_STEPS,
};

/**
 * struct fmi_selftest_page - what the two sides write to each other
 * @page_size: of the running kernel, in bytes; by the module, like the next two
 * @pmd_size: what a PMD maps, in bytes
 * @go: the last step that the module has looked at
 * @done: the last step that the program has taken; written last
 * @error: a negative errno if @done could not be taken, or 0
 * @session: the program leads a session of its own
 *
 * After each step the program waits until @go is @done.
 */
struct fmi_selftest_page {
	unsigned long page_size;
	unsigned long pmd_size;
	unsigned int go;
	unsigned int done;
	int error;
	unsigned int session;
};

#endif
