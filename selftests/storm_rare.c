// SPDX-License-Identifier: GPL-2.0
/* What a process of the storm does by rarer interfaces: pins, UFFDIO_MOVE, KSM. */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_uffd.h"
#include "fmi_util.h"
#include "storm_worker.h"

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int new_uffd(void)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MOVE,
	};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api))
		close_fd(&fd);
	return fd;
}

static bool has_uffd_move(void)
{
	int fd = new_uffd();
	bool can = fd >= 0;

	close_fd(&fd);
	return can;
}

/* Nobody answers faults on the target: whoever touches it gets an error. */
static int open_uffd(const struct storm_worker *w)
{
	struct uffdio_register reg = {
		.range = { .start = w->target, .len = w->len },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = new_uffd();

	if (fd >= 0 && ioctl(fd, UFFDIO_REGISTER, &reg))
		close_fd(&fd);
	return fd;
}

void storm_rare_init(struct storm_worker *w)
{
	w->uffd = open_uffd(w);
}

/* These belong to the parent: its memory is not ours. */
void storm_rare_forked(struct storm_worker *w)
{
	close_fd(&w->uffd);
	close_fd(&w->uring);
	close_fd(&w->spliced[0]);
	close_fd(&w->spliced[1]);
	w->uffd = open_uffd(w);
}

/* A thread of the family zaps both sides meanwhile, see storm_race(). */
static bool op_uffd_move(struct storm_worker *w)
{
	struct uffdio_move move = { .mode = UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES };
	unsigned int pmds = (unsigned int)(w->len / pmd_size);

	if (w->uffd < 0)
		return false;
	move.dst = w->target + storm_rnd(w, pmds) * pmd_size;
	move.src = w->source + storm_rnd(w, pmds) * pmd_size;
	move.len = pmd_size;
	/* Into a hole, a fresh PMD half of the time; or pages, of which many cannot be moved. */
	madvise((void *)(unsigned long)move.dst, pmd_size, MADV_DONTNEED);
	if (storm_rnd(w, 2)) {
		madvise((void *)(unsigned long)move.src, pmd_size, MADV_DONTNEED);
		madvise((void *)(unsigned long)move.src, pmd_size, MADV_POPULATE_WRITE);
	}
	if (storm_rnd(w, 3) == 0) {
		unsigned long len;

		move.src = storm_range(w, w->source, &len);
		move.dst = w->target + (move.src - w->source);
		move.len = len;
	}
	ioctl(w->uffd, UFFDIO_MOVE, &move);
	return move.move > 0;
}

static int new_uring(void)
{
	char params[512]; /* struct io_uring_params is 120 bytes, all zero */

	memset(params, 0, sizeof(params));
	return (int)syscall(425 /* io_uring_setup */, 1, params);
}

static bool has_uring(void)
{
	int fd = new_uring();
	bool can = fd >= 0;

	close_fd(&fd);
	return can;
}

/* FOLL_PIN: fork copies such pages at once, and nothing migrates them. */
static bool op_pin(struct storm_worker *w)
{
	struct iovec iov;
	unsigned long len;

	if (w->uring >= 0) {
		close_fd(&w->uring);
		return true;
	}
	iov.iov_base = (void *)storm_range(w, storm_rnd(w, 3) ? w->anon : w->shared, &len);
	iov.iov_len = len;
	w->uring = new_uring();
	if (w->uring < 0)
		return false;
	if (syscall(427 /* io_uring_register */, w->uring, 0 /* IORING_REGISTER_BUFFERS */, &iov,
		    1)) {
		close_fd(&w->uring);
		return false;
	}
	return true;
}

/* References without a pin, in a pipe. */
static bool op_splice(struct storm_worker *w)
{
	struct iovec iov;
	unsigned long len;

	if (w->spliced[0] >= 0) {
		close_fd(&w->spliced[0]);
		close_fd(&w->spliced[1]);
		return true;
	}
	if (pipe2(w->spliced, O_CLOEXEC | O_NONBLOCK))
		storm_broken("pipe");
	iov.iov_base = (void *)storm_range(w, w->anon, &len);
	iov.iov_len = len;
	return vmsplice(w->spliced[1], &iov, 1, SPLICE_F_NONBLOCK) > 0;
}

static bool op_mergeable(struct storm_worker *w)
{
	unsigned long len;
	unsigned long va = storm_range(w, w->anon, &len);

	return madvise((void *)va, len, storm_rnd(w, 3) ? MADV_MERGEABLE : MADV_UNMERGEABLE) == 0;
}

const struct storm_op storm_ops_rare[] = {
	{ "uffd_move", 4, op_uffd_move, has_uffd_move },
	{ "pin", 2, op_pin, has_uring },
	{ "splice", 1, op_splice, NULL },
	{ "mergeable", 1, op_mergeable, storm_has_ksm },
};

const size_t nr_storm_ops_rare = ARRAY_SIZE(storm_ops_rare);
