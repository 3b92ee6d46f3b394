/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What ftrace calls first where most calls are about small folios: it returns at once for these,
 * without saving a register of its own, and passes all others on to the handler of the hook
 * (hook/entry.rs). Each has the arguments of an ftrace_func_t.
 *
 * Context: that of the hooked function.
 */
#ifndef FMI_FIRST_H
#define FMI_FIRST_H

#include <linux/ftrace.h>

static inline void fmi_pass_on(unsigned long ip, unsigned long parent_ip,
			       struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	ftrace_func_t handler = ops->private;

	handler(ip, parent_ip, ops, fregs);
}

/* Rmap functions: counts the calls on order-0 folios. */
void fmi_first_rmap(unsigned long ip, unsigned long parent_ip,
		    struct ftrace_ops *ops, struct ftrace_regs *fregs);

/*
 * Functions that ask: of do_wp_page(), which each copy of a small folio calls, only the faults
 * that found a page of a large one. That has no hook of its own, because each more makes all
 * functions slower that have two.
 */
void fmi_first_ask(unsigned long ip, unsigned long parent_ip,
		   struct ftrace_ops *ops, struct ftrace_regs *fregs);
/* Says where do_wp_page() is, or 0: before the hook is placed. */
void fmi_wp_is_at(unsigned long ip);

#endif
