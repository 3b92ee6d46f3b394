// SPDX-License-Identifier: GPL-2.0
/*
 * Planted faults: what a tracer that misses calls, or sees them twice, would do.
 * Tests must notice. Built with FMI_FAULTS=y only, see scripts/module.
 */
#include <linux/atomic.h>
#include <linux/compiler.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>
#include "faults.h"

static unsigned int fault_drop;
module_param(fault_drop, uint, 0600);
MODULE_PARM_DESC(fault_drop, "Drop one rmap call on a tracked folio in so many (0: none)");

static unsigned int fault_double;
module_param(fault_double, uint, 0600);
MODULE_PARM_DESC(fault_double, "Take one rmap call on a tracked folio in so many twice (0: none)");

static unsigned int fault_drop_second;
module_param(fault_drop_second, uint, 0600);
MODULE_PARM_DESC(fault_drop_second,
		 "Drop one event of the second backend in so many (0: none), with backend=both");

static unsigned int fault_drop_walk;
module_param(fault_drop_walk, uint, 0600);
MODULE_PARM_DESC(fault_drop_walk,
		 "Drop one find in so many of the walks behind fork, mremap and VMA changes (0: none)");

static unsigned int fault_no_stack;
module_param(fault_no_stack, uint, 0600);
MODULE_PARM_DESC(fault_no_stack,
		 "The process of this pid has no return stack: hooks with exit do not see it (0: none)");

static unsigned int fault_no_search;
module_param(fault_no_search, uint, 0600);
MODULE_PARM_DESC(fault_no_search,
		 "Scans do not look for MMs in the reverse maps of folios (0: they do)");

static unsigned int fault_no_room;
module_param(fault_no_room, uint, 0600);
MODULE_PARM_DESC(fault_no_room,
		 "Forks and moves find no room for their windows (0: they do)");

/**
 * fmi_fault_no_room - whether windows shall find no room
 *
 * Context: any.
 */
bool fmi_fault_no_room(void)
{
	return READ_ONCE(fault_no_room);
}

/**
 * fmi_fault_drops_walk - whether a walk shall leave out what it has found
 *
 * Context: any.
 */
bool fmi_fault_drops_walk(void)
{
	static atomic_t finds = ATOMIC_INIT(0);
	unsigned int drop = READ_ONCE(fault_drop_walk);

	return drop && (unsigned int)atomic_inc_return(&finds) % drop == 0;
}

/**
 * fmi_fault_no_search - whether scans shall not look for MMs in reverse maps
 *
 * Context: any.
 */
bool fmi_fault_no_search(void)
{
	return READ_ONCE(fault_no_search);
}

/**
 * fmi_fault_no_stack - whether hooks with exit shall not see the running task
 *
 * Context: any.
 */
bool fmi_fault_no_stack(void)
{
	unsigned int pid = READ_ONCE(fault_no_stack);

	return pid && (unsigned int)current->tgid == pid;
}

static unsigned int fmi_fault_times_second(void)
{
	static atomic_t calls = ATOMIC_INIT(0);
	unsigned int drop = READ_ONCE(fault_drop_second);

	return drop && (unsigned int)atomic_inc_return(&calls) % drop == 0 ? 0 : 1;
}

/**
 * fmi_fault_times - how often the shadow is told of the next rmap call
 * @second: the second shadow, which has a parameter of its own
 *
 * Context: any.
 * Return: 1, or 0 or 2 for one call in as many as the parameters say.
 */
unsigned int fmi_fault_times(bool second)
{
	static atomic_t calls = ATOMIC_INIT(0);
	unsigned int drop = READ_ONCE(fault_drop);
	unsigned int twice = READ_ONCE(fault_double);
	unsigned int nr;

	if (second)
		return fmi_fault_times_second();
	if (!drop && !twice)
		return 1;
	nr = (unsigned int)atomic_inc_return(&calls);
	if (drop && nr % drop == 0)
		return 0;
	return twice && nr % twice == 0 ? 2 : 1;
}
