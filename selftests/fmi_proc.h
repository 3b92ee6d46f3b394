/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Actors: processes that do one thing at a time when they are told to. The case
 * itself is number 0; it maps no large folio and only gives orders and looks.
 */
#ifndef FMI_PROC_H
#define FMI_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define FMI_ACTORS 6 /* 1 .. FMI_ACTORS - 1 */

/* Before the first p_start(): makes the pipes. */
void p_init(void);
/* Starts an actor as a child of the case / as a child of another actor. */
void p_start(int who);
void p_fork(int from, int to);
/* Like p_fork(); false if the fork failed. */
bool p_try_fork(int from, int to);
/* Ends an actor and waits until it is gone; its children stay. */
void p_exit(int who);
/* Waits for an actor that ends, or has ended, without being told by p_exit(). */
void p_gone(int who);
/* Has an actor run a function; what it returns, or -errno if that is negative. */
typedef long (*p_fn)(unsigned long a, unsigned long b, unsigned long c, unsigned long d);
long p_call(int who, p_fn fn, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
/* The same, and does not wait for it. p_answer() does. */
void p_tell(int who, p_fn fn, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
long p_answer(int who);
/* Has it answered? Waits for that at most so long. */
bool p_answered(int who, int ms);
pid_t p_pid(int who);	/* 0: not running */

/* Maps memory at a fixed place; fd -1: anonymous. */
void p_mmap(int who, unsigned long va, unsigned long len, int prot, int flags, int fd,
	    unsigned long offset);
void p_munmap(int who, unsigned long va, unsigned long len);
/* Touch the first byte of every page; the p_try_ forms tell whether it was possible. */
void p_read(int who, unsigned long va, unsigned long pages);
void p_write(int who, unsigned long va, unsigned long pages);
bool p_try_read(int who, unsigned long va);
void p_madvise(int who, unsigned long va, unsigned long len, int advice);
void p_mprotect(int who, unsigned long va, unsigned long len, int prot);
void p_mremap(int who, unsigned long from, unsigned long len, unsigned long to, int flags);
/* A reference taken by vmsplice(2), and the pipe closed again. */
void p_vmsplice(int who, unsigned long va, unsigned long len);
/* A long-term pin by a registered buffer of io_uring; skips the case if there is none. */
void p_uring_pin(int who, unsigned long va, unsigned long len);
void p_unpin(int who);
/* userfaultfd: register a range for write protection, protect pages; skips if not possible. */
void p_uffd_wp(int who, unsigned long va, unsigned long len, unsigned long first, unsigned long n);
/* userfaultfd: register a range of shared memory for minor faults; skips if not possible. */
void p_uffd_minor(int who, unsigned long va, unsigned long len);
/*
 * UFFDIO_CONTINUE: maps what the page cache has at these addresses. A child of the actor that
 * registered has its file descriptor, and maps into the memory of that actor.
 */
void p_uffd_continue(int who, unsigned long va, unsigned long len);
/* move_pages(2) of the whole range to a node; errors fail the case. */
void p_move_pages(int who, unsigned long va, unsigned long pages, int node);

#endif
