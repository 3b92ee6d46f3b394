// SPDX-License-Identifier: GPL-2.0
#include "fmi_swap.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/swap.h>
#include <unistd.h>

#include "fmi_util.h"

#define ZRAM_BYTES "268435456"

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

void swap_stop(void)
{
	if (!*swap_device)
		return;
	swapoff(swap_device);
	write_text("/sys/class/zram-control/hot_remove", swap_device + strlen("/dev/zram"));
}
