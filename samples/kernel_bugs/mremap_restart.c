// SPDX-License-Identifier: GPL-2.0
/*
 * mremap() of several VMAs is interrupted by a signal and restarted when some have moved.
 * See Documentation/kernel/mremap-restart.rst. KSM need not run.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "bugs.h"

#define KSM "/sys/kernel/mm/ksm/"
#define VMAS 64UL
#define VMA_PAGES 16UL
#define TRIES 2000

static unsigned long vma_len, len;
/* What the handler does, and has done: the call may be running. */
static volatile sig_atomic_t signals, reuse, reused;
static char *volatile source;

struct variant {
	const char *name;
	bool mergeable, restart, reuse, dontunmap;
	int expected; /* errno; 0: data are lost without an error */
};

/* Takes the address of the first VMA if it is free, as anything that allocates may. */
static void on_alarm(int sig)
{
	void *at;

	(void)sig;
	signals++;
	if (!reuse || reused)
		return;
	at = mmap(source, vma_len, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (at == MAP_FAILED)
		return;
	memset(at, 'H', vma_len);
	reused = 1;
}

static void arm(long us)
{
	struct itimerval in = { .it_value = { .tv_usec = us } };

	if (setitimer(ITIMER_REAL, &in, NULL))
		die("setitimer: %s", strerror(errno));
}

static long now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int move(char *from, char *to, int flags)
{
	return mremap(from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED | flags, to) == to ? 0 : errno;
}

/* Every second one can only be read, so that they are not merged. */
static void make(char *at, bool mergeable)
{
	if (mmap(at, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		 0) != at)
		die("mmap: %s", strerror(errno));
	if (madvise(at, len, MADV_NOHUGEPAGE) || (mergeable && madvise(at, len, MADV_MERGEABLE)))
		die("madvise: %s", strerror(errno));
	memset(at, 'D', len);
	for (unsigned long i = 1; i < VMAS; i += 2)
		if (mprotect(at + i * vma_len, vma_len, PROT_READ))
			die("mprotect: %s", strerror(errno));
}

static unsigned long vmas_at(char *place)
{
	unsigned char there[VMA_PAGES];
	unsigned long nr = 0;

	for (unsigned long i = 0; i < VMAS; i++)
		nr += !mincore(place + i * vma_len, vma_len, there);
	return nr;
}

static unsigned long vmas_lost(const char *place)
{
	unsigned long nr = 0;

	for (unsigned long i = 0; i < VMAS; i++)
		nr += place[i * vma_len] != 'D';
	return nr;
}

static void swap(char **a, char **b)
{
	char *was = *a;

	*a = *b;
	*b = was;
}

static bool shown(const struct variant *v, char *from, char *to)
{
	struct sigaction action = { .sa_handler = on_alarm };
	int flags = v->dontunmap ? MREMAP_DONTUNMAP : 0;
	long us;

	make(from, v->mergeable);
	us = now_us();
	if (move(from, to, flags) || move(to, from, flags))
		die("mremap: %s", strerror(errno));
	us = now_us() - us;
	action.sa_flags = v->restart ? SA_RESTART : 0;
	sigaction(SIGALRM, &action, NULL);
	signals = 0;
	for (int i = 1; i <= TRIES; i++) {
		unsigned long lost;
		int err;

		source = from;
		reused = 0;
		reuse = v->reuse;
		arm(1 + random() % us);
		err = move(from, to, flags);
		reuse = 0;
		arm(0);
		lost = err ? 0 : vmas_lost(to);
		if (err || lost) {
			say("%s: try %d: %s; %lu VMAs at the old place, %lu at the new one, "
			    "%lu lost",
			    v->name, i, err ? strerror(err) : "success", vmas_at(from),
			    vmas_at(to), lost);
			return err == v->expected;
		}
		/* What the handler has taken when all was moved. */
		if (reused)
			munmap(from, vma_len);
		swap(&from, &to);
	}
	say("%s: %d tries, %d signals: all VMAs moved in each, none lost", v->name, TRIES,
	    (int)signals);
	return false;
}

int main(void)
{
	static const struct variant variants[] = {
		{ "control, not mergeable", .restart = true },
		{ "control, not mergeable, MREMAP_DONTUNMAP", .restart = true, .dontunmap = true },
		{ "mergeable, SA_RESTART", .mergeable = true, .restart = true, .expected = EFAULT },
		{ "mergeable, no SA_RESTART", .mergeable = true, .expected = EINTR },
		{ "mergeable, SA_RESTART, the handler maps memory", .mergeable = true,
		  .restart = true, .reuse = true },
		{ "mergeable, SA_RESTART, MREMAP_DONTUNMAP", .mergeable = true, .restart = true,
		  .dontunmap = true },
	};
	unsigned long nr = 0;

	vma_len = VMA_PAGES * (unsigned long)sysconf(_SC_PAGESIZE);
	len = VMAS * vma_len;
	say("/sys/kernel/mm/ksm/run: %lld, pages_shared: %lld", value_in(KSM "run", ""),
	    value_in(KSM "pages_shared", ""));
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		char *area = mmap(NULL, 3 * len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (area == MAP_FAILED)
			die("mmap: %s", strerror(errno));
		munmap(area + 2 * len, len);
		nr += shown(&variants[i], area, area + len) == variants[i].mergeable;
		munmap(area, 2 * len);
	}
	say("%s", nr == ARRAY_SIZE(variants) ? "REPRODUCED" : "not reproduced");
	return nr != ARRAY_SIZE(variants);
}
