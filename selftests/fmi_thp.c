// SPDX-License-Identifier: GPL-2.0
#include "fmi_thp.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_util.h"

#define THP_DIR "/sys/kernel/mm/transparent_hugepage/"

/* What is switched off besides the sizes, and what to. */
static struct setting {
	const char *path;
	const char *off;
	char saved[64];
	bool exists;
} settings[] = {
	{ .path = THP_DIR "enabled", .off = "never" },
	{ .path = THP_DIR "shmem_enabled", .off = "never" },
	/* khugepaged: no page of a range may be missing, and a pause of hours after each scan. */
	{ .path = THP_DIR "khugepaged/defrag", .off = "0" },
	{ .path = THP_DIR "khugepaged/max_ptes_none", .off = "0" },
	{ .path = THP_DIR "khugepaged/max_ptes_swap", .off = "0" },
	{ .path = THP_DIR "khugepaged/max_ptes_shared", .off = "0" },
	{ .path = THP_DIR "khugepaged/pages_to_scan", .off = "1" },
	{ .path = THP_DIR "khugepaged/alloc_sleep_millisecs", .off = "60000" },
	{ .path = THP_DIR "khugepaged/scan_sleep_millisecs", .off = "100000000" },
	/* A fault maps what it is for, not the neighbourhood. */
	{ .path = "/sys/kernel/debug/fault_around_bytes", .off = "4096" },
	{ .path = "/proc/sys/kernel/numa_balancing", .off = "0" },
	{ .path = "/sys/kernel/debug/sched/numa_balancing/scan_delay_ms", .off = "1000" },
	{ .path = "/sys/kernel/debug/sched/numa_balancing/scan_period_min_ms", .off = "1000" },
	{ .path = "/proc/sys/vm/compaction_proactiveness", .off = "0" },
	{ .path = "/proc/sys/vm/percpu_pagelist_high_fraction", .off = "0" },
};

static struct size {
	bool exists;
	char saved[64];
} anon_sizes[FMI_MAX_ORDER + 1], shmem_sizes[FMI_MAX_ORDER + 1];

const char *kind_name(enum fmi_kind kind)
{
	static const char *const names[] = { "anon", "shmem", "file", "none" };

	return names[kind];
}

static const char *size_path(enum fmi_kind kind, unsigned int order)
{
	static char path[128];

	snprintf(path, sizeof(path), THP_DIR "hugepages-%lukB/%s", (pgsz << order) / 1024,
		 kind == FMI_ANON ? "enabled" : "shmem_enabled");
	return path;
}

static struct size *size_of(enum fmi_kind kind, unsigned int order)
{
	return kind == FMI_ANON ? &anon_sizes[order] : &shmem_sizes[order];
}

bool thp_size_exists(enum fmi_kind kind, unsigned int order)
{
	return order <= FMI_MAX_ORDER && access(size_path(kind, order), F_OK) == 0;
}

/* Reads a setting: the word in brackets, or the first word. */
static bool read_setting(const char *path, char *value, size_t size)
{
	char text[256];
	char *start;

	if (read_text(path, text, sizeof(text)) <= 0)
		return false;
	start = strchr(text, '[');
	start = start ? start + 1 : text;
	start[strcspn(start, "]\n ")] = '\0';
	snprintf(value, size, "%.*s", (int)size - 1, start);
	return true;
}

void thp_save(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		struct setting *s = &settings[i];

		s->exists = read_setting(s->path, s->saved, sizeof(s->saved));
	}
	for (unsigned int order = 1; order <= FMI_MAX_ORDER; order++) {
		for (enum fmi_kind kind = FMI_ANON; kind <= FMI_SHMEM; kind++) {
			struct size *size = size_of(kind, order);

			size->exists = read_setting(size_path(kind, order), size->saved,
						    sizeof(size->saved));
		}
	}
	thp_quiet();
}

void thp_quiet(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		if (settings[i].exists)
			write_text(settings[i].path, settings[i].off);
	}
	thp_never();
}

void thp_khugepaged(bool run)
{
	char shared[32] = "0";

	if (run)
		snprintf(shared, sizeof(shared), "%lu", pmd_size / pgsz - 1);
	write_text(THP_DIR "khugepaged/max_ptes_shared", shared);
	write_text(THP_DIR "khugepaged/defrag", run ? "1" : "0");
	write_text(THP_DIR "khugepaged/pages_to_scan", run ? "100000" : "1");
	write_text(THP_DIR "khugepaged/alloc_sleep_millisecs", "10");
	/* Written last: it wakes the daemon. */
	write_text(THP_DIR "khugepaged/scan_sleep_millisecs", run ? "10" : "100000000");
}

void thp_restore(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		if (settings[i].exists)
			write_text(settings[i].path, settings[i].saved);
	}
	for (unsigned int order = 1; order <= FMI_MAX_ORDER; order++) {
		for (enum fmi_kind kind = FMI_ANON; kind <= FMI_SHMEM; kind++) {
			if (size_of(kind, order)->exists)
				write_text(size_path(kind, order), size_of(kind, order)->saved);
		}
	}
}

void thp_never(void)
{
	for (unsigned int order = 1; order <= FMI_MAX_ORDER; order++) {
		for (enum fmi_kind kind = FMI_ANON; kind <= FMI_SHMEM; kind++) {
			if (thp_size_exists(kind, order))
				write_text(size_path(kind, order), "never");
		}
	}
}

void thp_only(enum fmi_kind kind, unsigned int order, const char *value)
{
	int ret;

	thp_never();
	ret = write_text(size_path(kind, order), value);
	fmi_assert(ret > 0, "cannot set %s to %s: %s", size_path(kind, order), value,
		   strerror(-ret));
}

void thp_also(enum fmi_kind kind, unsigned int order)
{
	if (thp_size_exists(kind, order))
		write_text(size_path(kind, order), "always");
}
