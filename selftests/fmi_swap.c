// SPDX-License-Identifier: GPL-2.0
#include "fmi_swap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_util.h"

#define ZRAM_BYTES "268435456"
#define LOOP_BYTES (64UL << 20)

char swap_device[64];
const char *swap_why_not = "";

/* Writes the header that mkswap(8) would. */
static int make_swap(const char *path, unsigned long bytes)
{
	unsigned int words[3] = { 1 /* version */, (unsigned int)(bytes / pgsz) - 1, 0 };
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	char *page = calloc(1, pgsz);
	int ret = -1;

	if (fd >= 0 && page) {
		memcpy(page + 1024, words, sizeof(words));
		memcpy(page + pgsz - 10, "SWAPSPACE2", 10);
		ret = pwrite(fd, page, pgsz, 0) == (ssize_t)pgsz ? 0 : -1;
	}
	free(page);
	if (fd >= 0)
		close(fd);
	return ret;
}

void swap_start(void)
{
	char text[16];
	char path[128];
	int ret;

	ret = system("modprobe zram num_devices=0 2>/dev/null");
	ret = read_text("/sys/class/zram-control/hot_add", text, sizeof(text));
	if (ret <= 0) {
		swap_why_not = "no zram";
		return;
	}
	text[strcspn(text, "\n")] = '\0';
	snprintf(path, sizeof(path), "/sys/block/zram%s/disksize", text);
	if (write_text(path, ZRAM_BYTES) < 0) {
		swap_why_not = "no zram disk";
		return;
	}
	snprintf(swap_device, sizeof(swap_device), "/dev/zram%s", text);
	for (int i = 0; i < 100 && access(swap_device, F_OK); i++)
		msleep(20);
	if (make_swap(swap_device, strtoul(ZRAM_BYTES, NULL, 10)) || swapon(swap_device, 0)) {
		swap_why_not = "no swap on zram";
		swap_device[0] = '\0';
	}
}

void swap_on(void)
{
	fmi_assert(!swapon(swap_device, SWAP_FLAG_PREFER | SWAP_FLAG_PRIO_MASK) || errno == EBUSY,
		   "swapon: %s", strerror(errno));
}

/* A loop device over a new memfd; it goes away when nobody uses it any more. */
static int make_loop(char *path, size_t size)
{
	struct loop_config config = { .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	int control, number, loop;

	if (system("modprobe -q loop"))
		return -1;
	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		return -1;
	number = ioctl(control, LOOP_CTL_GET_FREE);
	close(control);
	if (number < 0)
		return -1;
	snprintf(path, size, "/dev/loop%d", number);
	for (int i = 0; i < 100 && access(path, F_OK); i++)
		msleep(20);
	loop = open(path, O_RDWR | O_CLOEXEC);
	config.fd = (unsigned int)memfd_create("fmi-swap", MFD_CLOEXEC);
	if (loop < 0 || (int)config.fd < 0 || ftruncate((int)config.fd, LOOP_BYTES) ||
	    ioctl(loop, LOOP_CONFIGURE, &config)) {
		if (loop >= 0)
			close(loop);
		loop = -1;
	}
	if ((int)config.fd >= 0)
		close((int)config.fd);
	return loop;
}

static int loop_fd = -1;

void swap_start_slow(void)
{
	loop_fd = make_loop(swap_device, sizeof(swap_device));
	if (loop_fd < 0) {
		swap_why_not = "no loop device";
		swap_device[0] = '\0';
	} else if (make_swap(swap_device, LOOP_BYTES) ||
		   swapon(swap_device, SWAP_FLAG_PREFER | SWAP_FLAG_PRIO_MASK)) {
		swap_why_not = "no swap on a loop device";
		swap_device[0] = '\0';
	}
}

void swap_stop(void)
{
	if (loop_fd >= 0) {
		if (*swap_device)
			swapoff(swap_device);
		close(loop_fd);
		return;
	}
	if (!*swap_device)
		return;
	swapoff(swap_device);
	write_text("/sys/class/zram-control/hot_remove", swap_device + strlen("/dev/zram"));
}

bool swap_in_small(void)
{
	static const char zswap[] = "/sys/module/zswap/parameters/enabled";
	char was[8];

	if (read_text(zswap, was, sizeof(was)) <= 0)
		return false;
	if (was[0] == 'Y')
		return true;
	/* It is enough that there was a pool once. */
	return write_text(zswap, "Y") > 0 && write_text(zswap, "N") > 0;
}
