// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_uffd.h"

/* In the actor; the kernel asks to try again if somebody was in the way. */
static long do_move(unsigned long dst, unsigned long src, unsigned long len, unsigned long d)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_MOVE };
	struct uffdio_register reg = {
		.range = { .start = dst, .len = len },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_move m = { .dst = dst, .src = src, .len = len };
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	int ret = 0;

	(void)d;
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		return -EOPNOTSUPP;
	while (!ret && ioctl(uffd, UFFDIO_MOVE, &m)) {
		if (errno != EAGAIN)
			ret = -errno;
		m.move = 0;
	}
	close(uffd);
	return ret;
}

void p_uffd_move(int who, unsigned long dst, unsigned long src, unsigned long len)
{
	long ret = p_call(who, do_move, dst, src, len, 0);

	if (ret == -EOPNOTSUPP)
		fmi_skip("no UFFDIO_MOVE");
	fmi_assert(ret == 0, "UFFDIO_MOVE: %s", strerror((int)-ret));
}
