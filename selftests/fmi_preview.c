// SPDX-License-Identifier: GPL-2.0
#include "fmi_preview.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

#define PM_PRESENT (1ULL << 63)
#define PM_MMAP_EXCLUSIVE (1ULL << 56)
#define PSS_UNIT 4096LL /* smaps counts in this fraction of a byte */
#define ATTEMPTS 20 /* the test's own small pages may change between two reads */

static char text[1 << 18];

const char *pv_read(void)
{
	int ret = fmi_read("preview", text, sizeof(text));

	fmi_assert(ret > 0, "read preview: %s", strerror(-ret));
	return text;
}

long long pv_figure(const char *name)
{
	return text_value(text, name);
}

long long pv_change(const char *name)
{
	char value[64];
	char *change;

	fmi_assert(text_find(text, name, value, sizeof(value)), "no line '%s:'", name);
	change = strchr(value, ' ');
	fmi_assert(change && (change[1] == '+' || change[1] == '-'), "%s: no change in '%s'", name,
		   value);
	return strtoll(change + 1, NULL, 10);
}

long long pv_process(pid_t pid, const char *name)
{
	char want[64];
	const char *line, *value;

	snprintf(want, sizeof(want), "\nprocess: pid=%d ", pid);
	line = strstr(text, want);
	fmi_assert(line, "no line of process %d", pid);
	snprintf(want, sizeof(want), " %s=", name);
	value = strstr(line + 1, want);
	fmi_assert(value && value < line + 1 + strcspn(line + 1, "\n"), "no %s of process %d", name,
		   pid);
	return strtoll(value + strlen(want), NULL, 10);
}

static void select_text(const char *what)
{
	int ret = fmi_write("preview", what);

	fmi_assert(ret > 0, "write '%s' to preview: %s", what, strerror(-ret));
}

void pv_begin(void)
{
	int ret = fmi_write("reset", "1\n");

	fmi_assert(ret > 0, "reset: %s", strerror(-ret));
	select_text("all\n");
}

static void read_rollup(pid_t pid, struct pv_proc *p)
{
	static char rollup[1 << 14];
	char path[64];
	int ret;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	ret = read_text(path, rollup, sizeof(rollup));
	fmi_assert(ret > 0, "%s: %s", path, strerror(-ret));
	p->rss = text_value(rollup, "Rss");
	p->pss = text_value(rollup, "Pss");
	p->private = text_value(rollup, "Private_Clean") + text_value(rollup, "Private_Dirty");
}

/* Entries with PM_MMAP_EXCLUSIVE in one range. */
static long long exclusive_in(int fd, unsigned long start, unsigned long end)
{
	static uint64_t entries[4096];
	long long nr = 0;

	while (start < end) {
		size_t want = (end - start) >> pgshift;
		ssize_t ret;

		if (want > ARRAY_SIZE(entries))
			want = ARRAY_SIZE(entries);
		ret = pread(fd, entries, want * 8, (off_t)((start >> pgshift) * 8));
		if (ret <= 0)
			break;
		for (ssize_t i = 0; i < ret / 8; i++)
			nr += (entries[i] & PM_PRESENT) && (entries[i] & PM_MMAP_EXCLUSIVE);
		start += (unsigned long)(ret / 8) << pgshift;
	}
	return nr;
}

static void read_pagemap(pid_t pid, struct pv_proc *p)
{
	char path[64], line[512];
	FILE *maps;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	fmi_assert(fd >= 0 && maps, "/proc/%d", pid);
	p->exclusive = 0;
	while (fgets(line, sizeof(line), maps)) {
		unsigned long start, end;

		/* The reserved arena is large and empty: only its VMAs with access count. */
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2 && !strstr(line, " ---p "))
			p->exclusive += exclusive_in(fd, start, end);
	}
	fclose(maps);
	close(fd);
}

static void read_numa(pid_t pid, struct pv_proc *p)
{
	char path[64], line[1024];
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/numa_maps", pid);
	maps = fopen(path, "re");
	p->mapmax = -1;
	if (!maps)
		return;
	while (fgets(line, sizeof(line), maps)) {
		const char *most = strstr(line, " mapmax=");
		bool pages = strstr(line, " N0=");
		long long value = most ? atoll(most + strlen(" mapmax=")) : pages;

		if (value > p->mapmax)
			p->mapmax = value;
	}
	fclose(maps);
}

void pv_read_proc(pid_t pid, struct pv_proc *p)
{
	read_rollup(pid, p);
	read_pagemap(pid, p);
	read_numa(pid, p);
}

bool pv_same(pid_t pid, const struct pv_proc *p, bool note)
{
	const struct {
		const char *name;
		long long want;
	} values[] = {
		{ "rss_kb", p->rss },		      { "pss_kb", p->pss },
		{ "private_kb", p->private },	      { "exclusive_pages", p->exclusive },
		{ "mapmax", p->mapmax },
	};
	bool ok = true;

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		long long got = pv_process(pid, values[i].name);

		if (values[i].want < 0 || got == values[i].want)
			continue;
		ok = false;
		if (note)
			fmi_note("process %d: %s=%lld, /proc says %lld", pid, values[i].name, got,
				 values[i].want);
	}
	return ok;
}

void pv_check_proc(pid_t pid, const char *what)
{
	struct pv_proc p;

	for (int i = 0; i < ATTEMPTS; i++) {
		pv_read();
		pv_read_proc(pid, &p);
		if (pv_same(pid, &p, i == ATTEMPTS - 1))
			return;
	}
	fmi_fail("%s: process %d as it is differs from /proc", what, pid);
}

void pv_check_meminfo(void)
{
	static const char *const names[][2] = {
		{ "anon_pages_kb", "AnonPages" },
		{ "mapped_kb", "Mapped" },
		{ "shmem_kb", "Shmem" },
		{ "anon_huge_pages_kb", "AnonHugePages" },
	};
	static char meminfo[1 << 13];

	for (int i = 0; i < ATTEMPTS; i++) {
		bool ok = true;

		write_text("/proc/sys/vm/stat_refresh", "1\n");
		pv_read();
		fmi_assert(read_text("/proc/meminfo", meminfo, sizeof(meminfo)) > 0, "meminfo");
		for (size_t j = 0; j < ARRAY_SIZE(names); j++) {
			long long got = pv_figure(names[j][0]);
			long long want = text_value(meminfo, names[j][1]);

			if (got != want && i == ATTEMPTS - 1)
				fmi_note("%s: %lld, /proc/meminfo says %lld", names[j][0], got,
					 want);
			ok = ok && got == want;
		}
		if (ok)
			return;
	}
	fmi_fail("the statistics differ from /proc/meminfo");
}

static int nr_wrong;

static void change(const char *what, const char *name, long long want)
{
	long long got = pv_change(name);

	if (got == want)
		return;
	nr_wrong++;
	fmi_note("%s: %s changed by %lld, want %lld", what, name, got, want);
}

long long pv_differs(long long nr)
{
	return fmi_page_mapcounts() ? nr : 0;
}

/* What one actor's mappings of the folio are, and would be. */
struct part {
	long long private, private_would; /* pages */
	long long exclusive, exclusive_would;
	long long lost, gained;
	long long pss_error; /* fractions of a byte */
};

static long long average(const struct fmi_expect *e, const struct ex_values *v)
{
	long long ptes = v->total - v->entire;
	long long rounded = (2 * ptes + e->nr) / (2LL * e->nr);

	if (!v->total)
		return 0;
	return v->entire + rounded > 0 ? v->entire + rounded : 1;
}

static void add_page(const struct fmi_expect *e, const struct ex_values *v, int page, int looked,
		     struct part *p)
{
	long long unit = (long long)pgsz * PSS_UNIT;
	bool per_page = fmi_page_mapcounts();
	bool shared = v->mm > 1;
	bool exclusive = per_page ? v->page[looked] == 1 : !shared;

	p->private += per_page ? v->page[page] == 1 : !shared;
	p->private_would += !shared;
	p->exclusive += exclusive;
	p->exclusive_would += !shared;
	p->lost += exclusive && shared;
	p->gained += !exclusive && !shared;
	p->pss_error += pv_differs(unit / average(e, v) - unit / v->page[page]);
}

static void count_actor(const struct fmi_expect *e, const struct ex_values *v, int who,
			struct part *p)
{
	memset(p, 0, sizeof(*p));
	for (int i = 0; i < e->nr_mappings; i++) {
		const struct ex_mapping *m = &e->mappings[i];

		if (m->who != who)
			continue;
		if (m->page != EX_ENTIRE)
			add_page(e, v, m->page, m->page, p);
		for (int page = 0; m->page == EX_ENTIRE && page < e->nr; page++)
			add_page(e, v, page, 0, p);
	}
}

/* VMAs whose mapmax would be another: 1 higher, -1 lower. */
static int mapmax_vmas(const struct fmi_expect *e, const struct ex_values *v, int sign)
{
	int nr = 0;

	for (int i = 0; i < e->nr_vmas; i++) {
		const struct ex_vma *vma = &e->vmas[i];
		long long most = 0;

		for (int j = 0; j < e->nr_mappings; j++) {
			const struct ex_mapping *m = &e->mappings[j];
			int page = m->page == EX_ENTIRE ? 0 : m->page;

			if (m->who == vma->who && m->va >= vma->start && m->va < vma->end &&
			    v->page[page] > most)
				most = v->page[page];
		}
		if (most && sign > 0)
			nr += average(e, v) > most;
		else if (most)
			nr += average(e, v) < most;
	}
	return (int)pv_differs(nr);
}

static void check_kpagecount(const struct fmi_expect *e, const struct ex_values *v,
			     const char *what)
{
	uint64_t counts[EX_PAGES];
	long long sum = 0, real = 0, higher = 0, lower = 0;
	long long would = average(e, v);

	page_counts(e->pfn, (unsigned long)e->nr, counts);
	for (int i = 0; i < e->nr; i++) {
		sum += would - pv_differs(would - v->page[i]);
		real += (long long)counts[i];
		higher += pv_differs(would > v->page[i]);
		lower += pv_differs(would < v->page[i]);
	}
	if (!v->total) /* the folio may be something else by now */
		return;
	fmi_eq(real, sum, "sum of /proc/kpagecount");
	change(what, "kpagecount_sum", sum);
	change(what, "kpagecount_would_sum", would * e->nr);
	change(what, "kpagecount_higher_pages", higher);
	change(what, "kpagecount_lower_pages", lower);
	change(what, "kpagecount_higher_folios", higher > 0);
	change(what, "kpagecount_lower_folios", lower > 0);
}

static void check_statistics(const struct fmi_expect *e, const struct ex_values *v,
			     const char *what)
{
	bool anon = e->kind == FMI_ANON;
	long long kb = (long long)pgsz / 1024;
	long long unmapped = v->total ? e->nr - v->nr_pages_mapped : 0;
	long long extra = pv_differs(unmapped);
	long long mapped = v->nr_pages_mapped + unmapped - extra;
	bool partial = unmapped > 0;
	bool certain = partial && !v->entire && v->total < e->nr;

	change(what, "tracked_folios", mapped > 0);
	change(what, "anon_pages_tracked_kb", anon ? mapped * kb : 0);
	change(what, "anon_pages_tracked_extra_kb", anon ? extra * kb : 0);
	change(what, "mapped_tracked_kb", anon ? 0 : mapped * kb);
	change(what, "mapped_tracked_extra_kb", anon ? 0 : extra * kb);
	change(what, "anon_huge_pages_tracked_kb", anon && v->entire ? e->nr * kb : 0);
	change(what, "partial_anon_folios", anon && partial);
	change(what, "partial_file_folios", !anon && partial);
	change(what, "partial_anon_certain_folios", anon && certain);
	change(what, "partial_anon_unnoticed_folios", anon && partial && !certain);
	change(what, "partial_anon_unnoticed_kb",
	       anon && partial && !certain ? unmapped * kb : 0);
	/* With a mapcount per page the kernel notices when a page goes. */
	if (e->order > 1)
		change(what, "partial_anon_flagged_folios",
		       anon && (fmi_page_mapcounts() ? partial : certain));
	fmi_eq(pv_figure("anon_pages_would_kb") - pv_figure("anon_pages_kb"),
	       pv_figure("anon_pages_tracked_extra_kb"), "AnonPages would be");
	fmi_eq(pv_figure("mapped_would_kb") - pv_figure("mapped_kb"),
	       pv_figure("mapped_tracked_extra_kb"), "Mapped would be");
	fmi_eq(pv_figure("shmem_would_kb"), pv_figure("shmem_kb"), "Shmem would be");
	fmi_eq(pv_figure("anon_huge_pages_would_kb"), pv_figure("anon_huge_pages_kb"),
	       "AnonHugePages would be");
}

static void value(const char *what, pid_t pid, const char *name, long long want, long long slack)
{
	long long got = pv_process(pid, name);

	if (got >= want - slack && got <= want + slack)
		return;
	nr_wrong++;
	fmi_note("%s: %s of process %d is %lld, want %lld", what, name, pid, got, want);
}

void pv_check(struct fmi_scene *s, const char *what)
{
	const struct fmi_expect *e = &s->e;
	long long kb = (long long)pgsz / 1024;
	struct part all = { 0 };
	long long over = 0, under = 0;
	static struct ex_values v;

	s_check(s, what);
	fmi_assert(e->max_mm <= 2, "%s: %d actors", what, e->max_mm);
	ex_count(e, &v);
	pv_read();
	nr_wrong = 0;
	for (int who = 1; who < FMI_ACTORS; who++) {
		struct part p;
		long long error;

		if (!p_pid(who))
			continue;
		count_actor(e, &v, who, &p);
		error = (p.private_would - p.private) * kb;
		value(what, p_pid(who), "private_error_kb", error, 0);
		value(what, p_pid(who), "exclusive_lost_pages", p.lost, 0);
		value(what, p_pid(who), "exclusive_gained_pages", p.gained, 0);
		/* A difference of two rounded numbers. */
		value(what, p_pid(who), "pss_error_kb", p.pss_error / PSS_UNIT / 1024,
		      p.pss_error ? 1 : 0);
		all.lost += p.lost;
		all.gained += p.gained;
		over += error > 0 ? error : 0;
		under += error < 0 ? error : 0;
	}
	change(what, "exclusive_lost_pages", all.lost);
	change(what, "exclusive_gained_pages", all.gained);
	change(what, "private_over_kb", over);
	change(what, "private_under_kb", under);
	change(what, "mapmax_higher_vmas", mapmax_vmas(e, &v, 1));
	change(what, "mapmax_lower_vmas", mapmax_vmas(e, &v, -1));
	check_kpagecount(e, &v, what);
	check_statistics(e, &v, what);
	fmi_assert(!nr_wrong, "%s: %d wrong figures", what, nr_wrong);
	for (int who = 1; who < FMI_ACTORS; who++) {
		if (p_pid(who))
			pv_check_proc(p_pid(who), what);
	}
}
