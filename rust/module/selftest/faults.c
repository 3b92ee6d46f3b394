// SPDX-License-Identifier: GPL-2.0
/* Faults for tests of the self-test; only built with FMI_FAULTS=y. */
#include <linux/module.h>
#include "../selftest.h"

static int fault_blind = -1;
module_param(fault_blind, int, 0400);
MODULE_PARM_DESC(fault_blind, "Position of a hook that is left out (-1: none)");

static int fault_blind_too = -1;
module_param(fault_blind_too, int, 0400);
MODULE_PARM_DESC(fault_blind_too, "Position of a second hook that is left out (-1: none)");

static int fault_exit = -1;
module_param(fault_exit, int, 0400);
MODULE_PARM_DESC(fault_exit, "Position of a hook whose exits are not taken (-1: none)");

int fmi_fault_exit(void)
{
	return fault_exit;
}

bool fmi_fault_blind(int hook)
{
	return hook == fault_blind || hook == fault_blind_too;
}
