// SPDX-License-Identifier: GPL-2.0
/*
 * munmap() while the return stack is full: what is called then, hooks with exit do not see. It is
 * filled by a function with such a hook that calls itself. Only built with FMI_FAULTS=y.
 */
#include <linux/atomic.h>
#include <linux/fprobe.h>
#include <linux/mm.h>
#include <linux/module.h>

/* A call takes more than 15 words of the return stack, which has 512. */
#define DEPTH 40

struct request {
	unsigned long start;
	unsigned long len;
	int ret;
};

static atomic_t exits;

static noinline __noclone void fmi_deep_munmap(struct request *request, int depth)
{
	if (depth)
		fmi_deep_munmap(request, depth - 1);
	else
		request->ret = vm_munmap(request->start, request->len);
	/* The call above is none in the place of the return. */
	barrier();
}

static void count_exit(struct fprobe *fp, unsigned long ip, unsigned long ret_ip,
		       struct ftrace_regs *fregs, void *data)
{
	atomic_inc(&exits);
}

static int munmap_deeply(struct request *request)
{
	struct fprobe probe = {
		.exit_handler = count_exit,
		.entry_data_size = MAX_FPROBE_DATA_SIZE,
	};
	unsigned long address = (unsigned long)fmi_deep_munmap;
	int ret = register_fprobe_ips(&probe, &address, 1);

	if (ret)
		return ret;
	atomic_set(&exits, 0);
	fmi_deep_munmap(request, DEPTH - 1);
	unregister_fprobe(&probe);
	/* Else the stack was not full. */
	if (!atomic_read(&exits) || atomic_read(&exits) == DEPTH)
		return -ENOSPC;
	return request->ret;
}

/* "START LENGTH", in hexadecimal: of the writer's own memory. */
static int set_full_stack(const char *value, const struct kernel_param *param)
{
	struct request request;

	if (sscanf(value, "%lx %lx", &request.start, &request.len) != 2)
		return -EINVAL;
	return munmap_deeply(&request);
}

static const struct kernel_param_ops full_stack_ops = {
	.set = set_full_stack,
};

module_param_cb(fault_full_stack, &full_stack_ops, NULL, 0200);
MODULE_PARM_DESC(fault_full_stack, "Unmap memory of the writer with a full return stack");
