/* SPDX-License-Identifier: GPL-2.0 */
/* UFFDIO_MOVE. */
#ifndef FMI_UFFD_H
#define FMI_UFFD_H

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

/* Of linux/userfaultfd.h since 6.8; the compiler's headers may be older. */
#ifndef UFFDIO_MOVE
struct uffdio_move {
	__u64 dst;
	__u64 src;
	__u64 len;
	__u64 mode;
	__s64 move;
};

#define UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES ((__u64)1 << 1)
#define UFFDIO_MOVE _IOWR(UFFDIO, 0x05, struct uffdio_move)
#define UFFD_FEATURE_MOVE (1 << 16)
#endif

/* Lets an actor move a range of its memory to another, where nothing is. */
void p_uffd_move(int who, unsigned long dst, unsigned long src, unsigned long len);

#endif
