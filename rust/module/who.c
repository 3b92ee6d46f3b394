// SPDX-License-Identifier: GPL-2.0
/*
 * Tasks, and names of threads and MMs that may be asked for under spinlocks: no lock
 * but RCU is taken.
 */
#include <linux/mm_types.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/stddef.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include "who.h"

static_assert(sizeof_field(struct task_struct, comm) == FMI_COMM_LEN);

/**
 * fmi_comm_of_pid - the name of a thread
 * @pid: in the initial namespace
 * @comm: result, FMI_COMM_LEN bytes; all zero if there is no such thread
 *
 * Return: whether the thread is still there.
 */
bool fmi_comm_of_pid(int pid, char *comm)
{
	struct task_struct *task;

	memset(comm, 0, FMI_COMM_LEN);
	rcu_read_lock();
	task = pid_task(find_pid_ns(pid, &init_pid_ns), PIDTYPE_PID);
	if (task)
		strscpy(comm, task->comm, FMI_COMM_LEN);
	rcu_read_unlock();
	return task;
}

/**
 * fmi_process_of_mm - the process that an MM belongs to
 * @mm: need not be valid any more: an MM of which the last remove was missed
 *	is read without harm, but what is read means nothing then
 *
 * Return: the process of the owner in the initial namespace; 0 if there is
 * none, or the kernel keeps no owners (CONFIG_MEMCG).
 */
int fmi_process_of_mm(const struct mm_struct *mm)
{
	int pid = 0;
#ifdef CONFIG_MEMCG
	const struct task_struct *owner;

	/* The owner is freed after a grace period. */
	rcu_read_lock();
	if (get_kernel_nofault(owner, (const struct task_struct **)&mm->owner) ||
	    !owner || get_kernel_nofault(pid, &owner->tgid))
		pid = 0;
	rcu_read_unlock();
#endif
	return pid;
}

/* Whether a task is at this address; the pointer is compared only. */
bool fmi_task_exists(const struct task_struct *task)
{
	const struct task_struct *leader, *thread;
	bool exists = false;

	rcu_read_lock();
	for_each_process_thread(leader, thread) {
		if (thread == task) {
			exists = true;
			goto out;
		}
	}
out:
	rcu_read_unlock();
	return exists;
}

/**
 * fmi_blind_tasks - tasks that exit hooks do not see
 *
 * A task that was being forked when the first exit hook was placed has no return
 * stack, and does not get one unless all exit hooks go and come again.
 *
 * Return: their number.
 */
unsigned int fmi_blind_tasks(void)
{
	unsigned int nr = 0;
#ifdef CONFIG_FUNCTION_GRAPH_TRACER
	const struct task_struct *leader, *thread;

	rcu_read_lock();
	for_each_process_thread(leader, thread) {
		if (thread->mm && !READ_ONCE(thread->ret_stack))
			nr++;
	}
	rcu_read_unlock();
#endif
	return nr;
}

/**
 * fmi_is_leaving - a task that may be taking down an MM that it has no more
 * @task: with a reference, or under RCU
 *
 * At its end (exit_mm() to exit_notify()), or in execve(). Its MM is found with no
 * task, and may still map what it has not zapped yet.
 */
bool fmi_is_leaving(const struct task_struct *task)
{
	if (READ_ONCE(task->exit_state))
		return false;
	return task->in_execve ||
	       ((READ_ONCE(task->flags) & PF_EXITING) && !READ_ONCE(task->mm));
}

/**
 * fmi_collect_leaving - take a reference to every such task
 * @tasks: result
 * @nr: capacity of @tasks
 *
 * Return: the number found; only the first @nr are stored, each with a reference.
 */
size_t fmi_collect_leaving(struct task_struct **tasks, size_t nr)
{
	struct task_struct *leader, *thread;
	size_t found = 0;

	rcu_read_lock();
	for_each_process_thread(leader, thread) {
		if ((thread->flags & PF_KTHREAD) || !fmi_is_leaving(thread))
			continue;
		if (found < nr)
			tasks[found] = get_task_struct(thread);
		found++;
	}
	rcu_read_unlock();
	return found;
}
