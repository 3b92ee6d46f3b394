/* SPDX-License-Identifier: GPL-2.0 */
/* How long preemption is off, and who waits for a lock: a debug build only (FMI_MEASURE=y). */
#ifndef FMI_MEASURE_H
#define FMI_MEASURE_H

#include <linux/types.h>

#ifdef FMI_MEASURE

#define FMI_NR_TIMERS 64
#define FMI_NR_LOCKS 4

/* One page table, under its lock, by who walks in process context. */
#define FMI_TIMER_PAGE_TABLE 0

/**
 * struct fmi_timer - a step that is being measured
 * @from: when it began, in nanoseconds
 * @irqs: changes when this CPU is interrupted
 */
struct fmi_timer {
	u64 from;
	unsigned long irqs;
};

/**
 * struct fmi_timers - all steps of a kind
 * @times: how many there were
 * @interrupted: and how many of them are left out, because of an interrupt
 * @longest: the longest of the others, in nanoseconds
 * @place: what fmi_timer_end() was given for that one
 */
struct fmi_timers {
	u64 times;
	u64 interrupted;
	u64 longest;
	unsigned long place;
};

/**
 * struct fmi_locks - all locks of a kind
 * @times: how often one was taken
 * @waited: and how often somebody else had it
 */
struct fmi_locks {
	u64 times;
	u64 waited;
};

void fmi_timer_begin(struct fmi_timer *timer);
void fmi_timer_end(const struct fmi_timer *timer, unsigned int kind, unsigned long place);
void fmi_timers_sum(unsigned int kind, struct fmi_timers *sum);
void fmi_lock_taken(unsigned int kind, bool waited);
void fmi_locks_sum(unsigned int kind, struct fmi_locks *sum);
void fmi_measure_reset(void);

#else

struct fmi_timer {
};

static inline void fmi_timer_begin(struct fmi_timer *timer)
{
}

static inline void fmi_timer_end(const struct fmi_timer *timer, unsigned int kind,
				 unsigned long place)
{
}

#define FMI_TIMER_PAGE_TABLE 0

#endif

#endif
