/* SPDX-License-Identifier: GPL-2.0 */
/* Tasks, and names of threads and MMs that may be asked for under spinlocks. */
#ifndef FMI_WHO_H
#define FMI_WHO_H

#include <linux/types.h>

struct mm_struct;
struct task_struct;

enum {
	FMI_COMM_LEN = 16,
};

bool fmi_comm_of_pid(int pid, char *comm);
int fmi_process_of_mm(const struct mm_struct *mm);
unsigned int fmi_blind_tasks(void);
bool fmi_task_exists(const struct task_struct *task);
size_t fmi_collect_leaving(struct task_struct **tasks, size_t nr);
bool fmi_is_leaving(const struct task_struct *task);

#endif
