/* SPDX-License-Identifier: GPL-2.0 */
/* The self-test at load: its program, and the session that the program leads. */
#ifndef FMI_SELFTEST_H
#define FMI_SELFTEST_H

#include <linux/types.h>
#include "selftest/protocol.h"

struct file;
struct mm_struct;
struct pid;

extern const u8 fmi_selftest_program[];
extern const u8 fmi_selftest_program_end[];

const u8 *fmi_selftest_image(size_t *len);
struct file *fmi_selftest_file(const char *name, loff_t size);
bool fmi_current_in_session(const struct pid *pid);
size_t fmi_session_mms(struct pid *session, struct mm_struct **mms, size_t nr);
bool fmi_session_alive(struct pid *session);
bool fmi_killed(void);

#ifdef FMI_FAULTS
bool fmi_fault_blind(int hook);
int fmi_fault_exit(void);
#endif

#endif
