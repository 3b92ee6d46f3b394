// SPDX-License-Identifier: GPL-2.0
#include "fmi_scan.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

char scan_text[1 << 16];

void scan_switch(const char *to)
{
	int ret = fmi_write("enable", to);

	fmi_assert(ret > 0, "enable %s: %s", to, strerror(-ret));
}

long long scan_number(const char *name)
{
	fmi_assert(fmi_read("scan", scan_text, sizeof(scan_text)) > 0, "scan cannot be read");
	return text_value(scan_text, name);
}

void scan_ended(const char *want)
{
	char state[32];

	fmi_assert(fmi_read("scan", scan_text, sizeof(scan_text)) > 0, "scan cannot be read");
	fmi_assert(text_find(scan_text, "state", state, sizeof(state)) && !strcmp(state, want),
		   "the scan is not %s:\n%s", want, scan_text);
}

void scan_mapped_before(struct fmi_scene *s)
{
	scan_switch("0");
	s_populate_unchecked(s);
}

/* A page table for each PMD. */
static long do_map_tables(unsigned long len, unsigned long a, unsigned long b, unsigned long c)
{
	volatile char *mem = mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)a;
	(void)b;
	(void)c;
	if (mem == MAP_FAILED)
		return -errno;
	madvise((void *)mem, len, MADV_NOHUGEPAGE);
	for (unsigned long at = 0; at < len; at += pmd_size)
		(void)mem[at];
	return 0;
}

void scan_takes_longer(int who)
{
	p_start(who);
	fmi_eq(p_call(who, do_map_tables, 1024 * pmd_size, 0, 0, 0), 0, "mmap");
}
