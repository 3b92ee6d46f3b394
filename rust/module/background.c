// SPDX-License-Identifier: GPL-2.0
/*
 * Delayed work that can be cancelled: the kernel crate's cannot.
 */
#include <linux/jiffies.h>
#include <linux/mmap_lock.h>
#include <linux/slab.h>
#include <linux/workqueue.h>
#include "background.h"

struct fmi_background {
	struct delayed_work work;
	fmi_background_fn fn;
	void *data;
};

static void run(struct work_struct *work)
{
	struct fmi_background *b = container_of(to_delayed_work(work),
						struct fmi_background, work);
	unsigned int ms = b->fn(b->data);

	if (ms)
		fmi_background_queue(b, ms);
}

/**
 * fmi_background_new - make work that is not queued
 * @fn: what to do; runs in a worker of its own, may take long and sleep
 * @data: its argument
 *
 * Return: the work, or NULL without memory.
 */
struct fmi_background *fmi_background_new(fmi_background_fn fn, void *data)
{
	struct fmi_background *b = kzalloc(sizeof(*b), GFP_KERNEL);

	if (b) {
		INIT_DELAYED_WORK(&b->work, run);
		b->fn = fn;
		b->data = data;
	}
	return b;
}

/**
 * fmi_background_queue - run the work after a while, however it was queued before
 * @b: the work
 * @ms: milliseconds
 */
void fmi_background_queue(struct fmi_background *b, unsigned int ms)
{
	mod_delayed_work(system_dfl_long_wq, &b->work, msecs_to_jiffies(ms));
}

/**
 * fmi_background_cancel - the work is neither queued nor running any more
 * @b: the work
 *
 * Context: process context; waits for a run to end.
 */
void fmi_background_cancel(struct fmi_background *b)
{
	cancel_delayed_work_sync(&b->work);
}

/**
 * fmi_background_free - cancel the work and free it
 * @b: the work
 */
void fmi_background_free(struct fmi_background *b)
{
	fmi_background_cancel(b);
	kfree(b);
}

bool fmi_mmap_lock_is_contended(struct mm_struct *mm)
{
	return mmap_lock_is_contended(mm);
}
