// SPDX-License-Identifier: GPL-2.0
/*
 * How long preemption is off, and who waits for a lock. Built with FMI_MEASURE=y only.
 *
 * In a guest whose time is a count of instructions (FMI_ICOUNT, scripts/boot) a nanosecond is an
 * instruction. Some fifty of them, for reading the clock, are in each step.
 */
#include <linux/hardirq.h>
#include <linux/kernel_stat.h>
#include <linux/percpu.h>
#include <linux/string.h>
#include <linux/timekeeping.h>
#include "measure.h"

static DEFINE_PER_CPU(struct fmi_timers [FMI_NR_TIMERS], steps);
static DEFINE_PER_CPU(struct fmi_locks [FMI_NR_LOCKS], locks);

/*
 * Something that changes with each interrupt of this CPU. x86 counts some kinds on their own, in a
 * structure that is not the same in all versions.
 */
static unsigned long irqs(void)
{
	unsigned long sum = raw_cpu_read(kstat.irqs_sum);
#ifdef CONFIG_X86
	const unsigned int *word = (const void *)raw_cpu_ptr(&irq_stat);

	for (size_t i = 0; i < sizeof(irq_stat) / sizeof(*word); i++)
		sum += READ_ONCE(word[i]);
#endif
	return sum;
}

/* Context: preemption off until fmi_timer_end(). */
void fmi_timer_begin(struct fmi_timer *timer)
{
	timer->irqs = irqs();
	timer->from = ktime_get_mono_fast_ns();
}

/**
 * fmi_timer_end - a step is over
 * @timer: what fmi_timer_begin() filled in
 * @kind: of step
 * @place: where in the code it was, or 0; kept for the longest
 */
void fmi_timer_end(const struct fmi_timer *timer, unsigned int kind, unsigned long place)
{
	u64 took = ktime_get_mono_fast_ns() - timer->from;
	struct fmi_timers *all;

	if (kind >= FMI_NR_TIMERS)
		return;
	all = raw_cpu_ptr(&steps[kind]);
	all->times++;
	if (irqs() != timer->irqs) {
		all->interrupted++;
	} else if (took > all->longest) {
		all->longest = took;
		all->place = place;
	}
}

void fmi_timers_sum(unsigned int kind, struct fmi_timers *sum)
{
	int cpu;

	memset(sum, 0, sizeof(*sum));
	for_each_possible_cpu(cpu) {
		const struct fmi_timers *one = &per_cpu(steps, cpu)[kind];

		sum->times += one->times;
		sum->interrupted += one->interrupted;
		if (one->longest > sum->longest) {
			sum->longest = one->longest;
			sum->place = one->place;
		}
	}
}

/* Context: the lock is held. */
void fmi_lock_taken(unsigned int kind, bool waited)
{
	struct fmi_locks *all = raw_cpu_ptr(&locks[kind]);

	all->times++;
	all->waited += waited;
}

void fmi_locks_sum(unsigned int kind, struct fmi_locks *sum)
{
	int cpu;

	memset(sum, 0, sizeof(*sum));
	for_each_possible_cpu(cpu) {
		sum->times += per_cpu(locks, cpu)[kind].times;
		sum->waited += per_cpu(locks, cpu)[kind].waited;
	}
}

/* What is measured meanwhile may survive. */
void fmi_measure_reset(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		memset(per_cpu(steps, cpu), 0, sizeof(steps));
		memset(per_cpu(locks, cpu), 0, sizeof(locks));
	}
}
