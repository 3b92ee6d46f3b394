// SPDX-License-Identifier: GPL-2.0
#include "fmi_proc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_util.h"

#define MPOL_MF_MOVE_ALL_ 4

enum opcode {
	OP_EXIT, OP_FORK, OP_WAIT, OP_MMAP, OP_MUNMAP, OP_READ, OP_WRITE, OP_MADVISE,
	OP_MPROTECT, OP_MREMAP, OP_VMSPLICE, OP_URING, OP_UNPIN, OP_UFFD_WP, OP_MOVE_PAGES,
	OP_UFFD_MINOR, OP_UFFD_CONTINUE, OP_CALL,
};

static const char *const op_names[] = {
	"exit", "fork", "wait", "mmap", "munmap", "read", "write", "madvise", "mprotect",
	"mremap", "vmsplice", "io_uring", "unpin", "userfaultfd", "move_pages",
	"userfaultfd", "UFFDIO_CONTINUE", "call",
};

struct op {
	enum opcode code;
	unsigned long a, b, c, d, e;
};

struct reply {
	long ret;
	int err;
};

static struct actor {
	int order[2];	/* pipe: what to do */
	int answer[2];	/* pipe: what came out */
	pid_t pid;
	int parent;
} actors[FMI_ACTORS];

/* What only the actor itself uses. */
static sigjmp_buf on_fault;
static int spliced[2] = { -1, -1 };
static int uring = -1;
static int uffd = -1;

void p_init(void)
{
	for (int i = 1; i < FMI_ACTORS; i++) {
		fmi_assert(!pipe(actors[i].order) && !pipe(actors[i].answer), "no pipes");
		actors[i].pid = 0;
	}
	/* Who loses its parent becomes a child of the case. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
}

pid_t p_pid(int who)
{
	return who == 0 ? getpid() : actors[who].pid;
}

static void fault_handler(int sig)
{
	siglongjmp(on_fault, sig);
}

static long do_touch(const struct op *op)
{
	if (sigsetjmp(on_fault, 1)) {
		errno = EFAULT;
		return -1;
	}
	for (unsigned long i = 0; i < op->b; i++) {
		volatile char *p = (volatile char *)(op->a + i * pgsz);

		if (op->code == OP_WRITE)
			*p = 1;
		else
			(void)*p;
	}
	return 0;
}

static long do_vmsplice(const struct op *op)
{
	struct iovec iov = { .iov_base = (void *)op->a, .iov_len = op->b };

	if (pipe(spliced))
		return -1;
	return vmsplice(spliced[1], &iov, 1, 0) == (ssize_t)op->b ? 0 : -1;
}

static long do_uring(const struct op *op)
{
	struct iovec iov = { .iov_base = (void *)op->a, .iov_len = op->b };
	char params[512]; /* struct io_uring_params is 120 bytes, all zero */

	memset(params, 0, sizeof(params));
	uring = (int)syscall(425 /* io_uring_setup */, 1, params);
	if (uring < 0)
		return -1;
	return syscall(427 /* io_uring_register */, uring, 0 /* IORING_REGISTER_BUFFERS */, &iov,
		       1);
}

static long do_unpin(void)
{
	if (spliced[0] >= 0) {
		close(spliced[0]);
		close(spliced[1]);
		spliced[0] = -1;
		spliced[1] = -1;
	}
	if (uring >= 0) {
		long ret = syscall(427, uring, 1 /* IORING_UNREGISTER_BUFFERS */, NULL, 0);

		close(uring);
		uring = -1;
		return ret;
	}
	return 0;
}

static long do_uffd_wp(const struct op *op)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP };
	struct uffdio_register reg = {
		.range = { .start = op->a, .len = op->b },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect wp = {
		.range = { .start = op->c, .len = op->d },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		return -1;
	return ioctl(uffd, UFFDIO_WRITEPROTECT, &wp);
}

static long do_uffd_minor(const struct op *op)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_MINOR_SHMEM };
	struct uffdio_register reg = {
		.range = { .start = op->a, .len = op->b },
		.mode = UFFDIO_REGISTER_MODE_MINOR,
	};

	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		return -1;
	return ioctl(uffd, UFFDIO_REGISTER, &reg);
}

static long do_uffd_continue(const struct op *op)
{
	struct uffdio_continue cont = { .range = { .start = op->a, .len = op->b } };

	return ioctl(uffd, UFFDIO_CONTINUE, &cont);
}

static long do_move_pages(const struct op *op)
{
	void **pages = calloc(op->b, sizeof(*pages));
	int *nodes = calloc(op->b, sizeof(*nodes));
	int *status = calloc(op->b, sizeof(*status));
	long ret = -1;

	for (unsigned long i = 0; pages && nodes && status && i < op->b; i++) {
		pages[i] = (void *)(op->a + i * pgsz);
		nodes[i] = (int)op->c;
		status[i] = -1;
	}
	if (pages && nodes && status)
		ret = syscall(SYS_move_pages, 0, op->b, pages, nodes, status, MPOL_MF_MOVE_ALL_);
	for (unsigned long i = 0; ret == 0 && i < op->b; i++) {
		if (status[i] != (int)op->c) {
			errno = status[i] < 0 ? -status[i] : EBUSY;
			ret = -1;
		}
	}
	free(pages);
	free(nodes);
	free(status);
	return ret;
}

static void serve(int who) __attribute__((noreturn));

static long do_op(const struct op *op)
{
	pid_t pid;

	switch (op->code) {
	case OP_EXIT:
		_exit(0);
	case OP_FORK:
		pid = fork();
		if (pid == 0)
			serve((int)op->a);
		return pid;
	case OP_WAIT:
		return waitpid((pid_t)op->a, NULL, 0);
	case OP_MMAP:
		return mmap((void *)op->a, op->b, (int)(op->c & 0xff), (int)(op->c >> 8),
			    (int)op->d, (off_t)op->e) == (void *)op->a ? 0 : -1;
	case OP_MUNMAP:
		return munmap((void *)op->a, op->b);
	case OP_READ:
	case OP_WRITE:
		return do_touch(op);
	case OP_MADVISE:
		return madvise((void *)op->a, op->b, (int)op->c);
	case OP_MPROTECT:
		return mprotect((void *)op->a, op->b, (int)op->c);
	case OP_MREMAP:
		return mremap((void *)op->a, op->b, op->b, (int)op->d, (void *)op->c) ==
		       (void *)op->c ? 0 : -1;
	case OP_VMSPLICE:
		return do_vmsplice(op);
	case OP_URING:
		return do_uring(op);
	case OP_UNPIN:
		return do_unpin();
	case OP_UFFD_WP:
		return do_uffd_wp(op);
	case OP_MOVE_PAGES:
		return do_move_pages(op);
	case OP_UFFD_MINOR:
		return do_uffd_minor(op);
	case OP_UFFD_CONTINUE:
		return do_uffd_continue(op);
	case OP_CALL:
		return ((p_fn)op->a)(op->b, op->c, op->d, op->e);
	}
	errno = ENOSYS;
	return -1;
}

static void serve(int who)
{
	struct sigaction fault = { .sa_handler = fault_handler };
	struct reply reply;
	struct op op;

	sigaction(SIGSEGV, &fault, NULL);
	sigaction(SIGBUS, &fault, NULL);
	while (read(actors[who].order[0], &op, sizeof(op)) == sizeof(op)) {
		errno = 0;
		reply.ret = do_op(&op);
		reply.err = errno;
		if (write(actors[who].answer[1], &reply, sizeof(reply)) != sizeof(reply))
			break;
	}
	_exit(1);
}

static void tell(int who, struct op op)
{
	fmi_assert(actors[who].pid > 0, "actor %d is not there to %s", who, op_names[op.code]);
	fmi_assert(write(actors[who].order[1], &op, sizeof(op)) == sizeof(op), "pipe");
}

static long answer(int who)
{
	struct reply reply;

	/* An actor that dies leaves us here: the time limit of the case ends it. */
	fmi_assert(read(actors[who].answer[0], &reply, sizeof(reply)) == sizeof(reply), "pipe");
	errno = reply.err;
	return reply.ret;
}

static long ask(int who, struct op op)
{
	tell(who, op);
	return answer(who);
}

static void must(int who, struct op op)
{
	long ret = ask(who, op);

	if (ret < 0)
		fmi_fail("actor %d: %s(0x%lx, 0x%lx, 0x%lx, 0x%lx): %s", who, op_names[op.code],
			 op.a, op.b, op.c, op.d, strerror(errno));
}

void p_start(int who)
{
	pid_t pid = fork();

	fmi_assert(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0)
		serve(who);
	actors[who].pid = pid;
	actors[who].parent = 0;
}

bool p_try_fork(int from, int to)
{
	long pid = ask(from, (struct op){ .code = OP_FORK, .a = (unsigned long)to });

	if (pid < 0)
		return false;
	actors[to].pid = (pid_t)pid;
	actors[to].parent = from;
	return true;
}

void p_fork(int from, int to)
{
	fmi_assert(p_try_fork(from, to), "fork of actor %d: %s", from, strerror(errno));
}

void p_gone(int who)
{
	pid_t pid = actors[who].pid;
	int parent = actors[who].parent;

	if (parent && actors[parent].pid)
		must(parent, (struct op){ .code = OP_WAIT, .a = (unsigned long)pid });
	else
		fmi_assert(waitpid(pid, NULL, 0) == pid, "waitpid: %s", strerror(errno));
	for (int i = 1; i < FMI_ACTORS; i++) {
		if (actors[i].parent == who)
			actors[i].parent = 0;
	}
	actors[who].pid = 0;
}

void p_exit(int who)
{
	tell(who, (struct op){ .code = OP_EXIT });
	p_gone(who);
}

void p_tell(int who, p_fn fn, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
	tell(who, (struct op){ OP_CALL, (unsigned long)fn, a, b, c, d });
}

bool p_answered(int who, int ms)
{
	struct pollfd answer = { .fd = actors[who].answer[0], .events = POLLIN };

	return poll(&answer, 1, ms) == 1;
}

long p_answer(int who)
{
	long ret = answer(who);

	return ret < 0 ? -errno : ret;
}

long p_call(int who, p_fn fn, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
	p_tell(who, fn, a, b, c, d);
	return p_answer(who);
}

void p_mmap(int who, unsigned long va, unsigned long len, int prot, int flags, int fd,
	    unsigned long offset)
{
	struct op op = { .code = OP_MMAP, .a = va, .b = len, .d = (unsigned long)fd, .e = offset };

	op.c = (unsigned long)prot | (unsigned long)(flags | MAP_FIXED) << 8;
	must(who, op);
}

void p_munmap(int who, unsigned long va, unsigned long len)
{
	must(who, (struct op){ .code = OP_MUNMAP, .a = va, .b = len });
}

void p_read(int who, unsigned long va, unsigned long pages)
{
	must(who, (struct op){ .code = OP_READ, .a = va, .b = pages });
}

void p_write(int who, unsigned long va, unsigned long pages)
{
	must(who, (struct op){ .code = OP_WRITE, .a = va, .b = pages });
}

bool p_try_read(int who, unsigned long va)
{
	return ask(who, (struct op){ .code = OP_READ, .a = va, .b = 1 }) == 0;
}

void p_madvise(int who, unsigned long va, unsigned long len, int advice)
{
	must(who, (struct op){ .code = OP_MADVISE, .a = va, .b = len, .c = (unsigned long)advice });
}

void p_mprotect(int who, unsigned long va, unsigned long len, int prot)
{
	must(who, (struct op){ .code = OP_MPROTECT, .a = va, .b = len, .c = (unsigned long)prot });
}

void p_mremap(int who, unsigned long from, unsigned long len, unsigned long to, int flags)
{
	struct op op = { .code = OP_MREMAP, .a = from, .b = len, .c = to };

	op.d = (unsigned long)(flags | MREMAP_MAYMOVE | MREMAP_FIXED);
	must(who, op);
}

void p_vmsplice(int who, unsigned long va, unsigned long len)
{
	must(who, (struct op){ .code = OP_VMSPLICE, .a = va, .b = len });
}

void p_uring_pin(int who, unsigned long va, unsigned long len)
{
	struct op op = { .code = OP_URING, .a = va, .b = len };

	if (ask(who, op) < 0) {
		if (errno == ENOSYS || errno == EPERM)
			fmi_skip("no io_uring: %s", strerror(errno));
		fmi_fail("io_uring registered buffer: %s", strerror(errno));
	}
}

void p_unpin(int who)
{
	must(who, (struct op){ .code = OP_UNPIN });
}

void p_uffd_wp(int who, unsigned long va, unsigned long len, unsigned long first, unsigned long n)
{
	struct op op = { .code = OP_UFFD_WP, .a = va, .b = len, .c = first, .d = n };

	if (ask(who, op) < 0)
		fmi_skip("no write protection by userfaultfd: %s", strerror(errno));
}

void p_uffd_minor(int who, unsigned long va, unsigned long len)
{
	struct op op = { .code = OP_UFFD_MINOR, .a = va, .b = len };

	if (ask(who, op) < 0)
		fmi_skip("no minor faults by userfaultfd: %s", strerror(errno));
}

void p_uffd_continue(int who, unsigned long va, unsigned long len)
{
	must(who, (struct op){ .code = OP_UFFD_CONTINUE, .a = va, .b = len });
}

void p_move_pages(int who, unsigned long va, unsigned long pages, int node)
{
	struct op op = { .code = OP_MOVE_PAGES, .a = va, .b = pages, .c = (unsigned long)node };

	must(who, op);
}
