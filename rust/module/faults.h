/* SPDX-License-Identifier: GPL-2.0 */
/* Planted faults, in a debug build only (FMI_FAULTS=y). */
#ifndef FMI_FAULTS_H
#define FMI_FAULTS_H

#include <linux/types.h>

unsigned int fmi_fault_times(bool second);
bool fmi_fault_drops_walk(void);
bool fmi_fault_no_stack(void);
bool fmi_fault_no_search(void);
bool fmi_fault_no_room(void);

#endif
