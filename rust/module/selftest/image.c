// SPDX-License-Identifier: GPL-2.0
/* The program of the self-test, as Kbuild made it, and what starting it needs. */
#include <linux/err.h>
#include <linux/mm_types.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include "../selftest.h"

asm("\t.pushsection .rodata, \"a\"\n"
	"\t.globl fmi_selftest_program\n"
	"fmi_selftest_program:\n"
	"\t.incbin \"" FMI_SELFTEST_PROGRAM "\"\n"
	"\t.globl fmi_selftest_program_end\n"
	"fmi_selftest_program_end:\n"
	"\t.popsection\n");

const u8 *fmi_selftest_image(size_t *len)
{
	*len = fmi_selftest_program_end - fmi_selftest_program;
	return fmi_selftest_program;
}

/* The type of the flags changes; none are wanted. */
struct file *fmi_selftest_file(const char *name, loff_t size)
{
	return shmem_kernel_file_setup(name, size, EMPTY_VMA_FLAGS);
}

/* Whether the running task is in the session that @pid leads. */
bool fmi_current_in_session(const struct pid *pid)
{
	return task_session(current) == pid;
}

/**
 * fmi_session_mms - the MMs of the processes of a session
 * @session: PID of the task that leads it
 * @mms: where to put them; each may be there more than once
 * @nr: most of them
 *
 * Return: how many were put there, each with a reference to its users.
 */
size_t fmi_session_mms(struct pid *session, struct mm_struct **mms, size_t nr)
{
	struct task_struct *task;
	size_t found = 0;

	rcu_read_lock();
	do_each_pid_task(session, PIDTYPE_SID, task) {
		struct mm_struct *mm = found < nr ? get_task_mm(task) : NULL;

		if (mm)
			mms[found++] = mm;
	} while_each_pid_task(session, PIDTYPE_SID, task);
	rcu_read_unlock();
	return found;
}

/* Whether the task, or one of the session that it leads, is still there. */
bool fmi_session_alive(struct pid *session)
{
	bool alive;

	rcu_read_lock();
	alive = pid_task(session, PIDTYPE_PID) || pid_task(session, PIDTYPE_SID);
	rcu_read_unlock();
	return alive;
}

bool fmi_killed(void)
{
	return fatal_signal_pending(current);
}
