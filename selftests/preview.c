// SPDX-License-Identifier: GPL-2.0
/*
 * The preview of CONFIG_NO_PAGE_MAPCOUNT: as it is = /proc; as it would be = computed from what
 * the test did.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_preview.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

/* Unmaps pages for good. */
static void unmap(struct fmi_scene *s, int who, unsigned long first, unsigned long nr)
{
	s_munmap(s, who, first, nr);
	if (s->kind == FMI_ANON || s->order != pmd_order)
		return;
	/* File memory whose PMD was split has no PTEs: fault in again what is left. */
	for (unsigned long i = 0; i < s->nr; i++) {
		if (ex_vma_at(&s->e, who, s_page(s, i)))
			p_read(who, s_page(s, i), 1);
	}
	ex_learn(&s->e, who);
}

static void begin(struct fmi_scene *s)
{
	pv_begin();
	s_populate(s);
	pv_check(s, "populated");
}

static void whole_and_forked(struct fmi_scene *s)
{
	begin(s);
	pv_check_meminfo();
	s_fork(s, 1, 2);
	/* Shared file memory is not copied by a fork. */
	if (s->kind != FMI_ANON) {
		p_read(2, s->va, s->nr);
		ex_learn(&s->e, 2);
	}
	pv_check(s, "forked");
	s_exit(s, 1);
	pv_check(s, "of the child alone");
	s_exit(s, 2);
	pv_check(s, "gone");
	pv_check_meminfo();
}

static void half_unmapped(struct fmi_scene *s)
{
	begin(s);
	unmap(s, 1, s->nr / 2, s->nr / 2);
	pv_check(s, "half unmapped");
	fmi_eq(pv_change(s->kind == FMI_ANON ? "anon_pages_tracked_extra_kb" :
					       "mapped_tracked_extra_kb"),
	       pv_differs((long long)(s->size / 2 / 1024)), "the other half would be counted");
	if (s->nr / 2 > 1) {
		unmap(s, 1, 0, s->nr / 2 - 1);
		pv_check(s, "all but one page unmapped");
	}
	pv_check_meminfo();
}

/* As many mappings as pages, half of the pages unmapped: the average sees nothing. */
static void unnoticed(struct fmi_scene *s)
{
	begin(s);
	s_fork(s, 1, 2);
	if (s->kind != FMI_ANON) {
		p_read(2, s->va, s->nr);
		ex_learn(&s->e, 2);
	}
	unmap(s, 2, 0, s->nr / 2);
	pv_check(s, "half unmapped by the child");
	unmap(s, 1, 0, s->nr / 2);
	pv_check(s, "half unmapped by both");
	fmi_eq(pv_change("partial_anon_unnoticed_folios"), s->kind == FMI_ANON, "unnoticed");
	unmap(s, 2, s->nr - 1, 1);
	pv_check(s, "one page more unmapped by the child");
	fmi_eq(pv_change("partial_anon_unnoticed_folios"), 0, "noticed at last");
}

static void copied_on_write(struct fmi_scene *s)
{
	begin(s);
	s_fork(s, 1, 2);
	for (unsigned long i = 0; i < s->nr; i += 3) {
		if (i == 0 && s->order == pmd_order)
			ex_split(&s->e, 2, s->va, s->size);
		s_cow(s, 2, i);
	}
	pv_check(s, "a third copied by the child");
	s_exit(s, 1);
	pv_check(s, "two thirds of the child");
}

/* One process maps pages twice: shared today, and not then. */
static void twice_in_one_process(struct fmi_scene *s)
{
	unsigned long again = s->va + 4 * pmd_size;

	begin(s);
	s_map(s, 1, again, s->size, 0);
	p_read(1, again, s->nr);
	ex_learn(&s->e, 1);
	pv_check(s, "mapped twice by one process");
	fmi_eq(pv_change("exclusive_gained_pages"), pv_differs(2 * (long long)s->nr),
	       "exclusive then");
	fmi_eq(pv_change("private_over_kb"), pv_differs(2 * (long long)s->size / 1024),
	       "private then");
}

/* The child maps one page of a folio that the parent maps by a PMD. */
static void pmd_and_one_pte(struct fmi_scene *s)
{
	begin(s);
	s_fork(s, 1, 2);
	s_munmap(s, 2, 1, s->nr - 1);
	pv_check(s, "a PMD, and a PTE of its first page");
	fmi_eq(pv_change("private_under_kb"),
	       pv_differs(-((long long)s->size - (long long)pgsz) / 1024),
	       "private of the parent");
	s_exit(s, 2);
	p_fork(1, 3);
	ex_fork(&s->e, 1, 3);
	s_munmap(s, 3, 0, 7);
	s_munmap(s, 3, 8, s->nr - 8);
	/* pagemap looks at the first page for the entries of a PMD. */
	pv_check(s, "a PMD, and a PTE of another page");
}

/* Most of all this needs no shadow. */
static void without_tracking(struct fmi_scene *s)
{
	long long kb = (long long)s->size / 1024;
	/* Half of the folio is not mapped. */
	long long counted = kb - pv_differs(kb / 2);

	begin(s);
	s_munmap(s, 1, 0, s->nr / 2);
	s_fork(s, 1, 2);
	fmi_assert(fmi_write("enable", "0\n") > 0, "disable");
	pv_read();
	fmi_eq(pv_figure("enabled"), 0, "enabled");
	fmi_eq(pv_figure("tracked_folios"), 0, "tracked_folios");
	fmi_eq(pv_change("anon_pages_tracked_kb"), 0, "tracked");
	fmi_eq(pv_change("anon_pages_untracked_kb"), counted, "untracked");
	fmi_eq(pv_change("anon_pages_untracked_extra_kb"), kb - counted, "untracked, in addition");
	/* 2 x half: the average is 1. */
	fmi_eq(pv_process(p_pid(1), "pss_error_kb"), pv_differs(kb / 4), "Pss");
	pv_check_proc(p_pid(1), "without tracking");
	pv_check_proc(p_pid(2), "without tracking");
	pv_check_meminfo();
	fmi_assert(fmi_write("enable", "1\n") > 0, "enable");
	pv_read();
	fmi_eq(pv_figure("enabled"), 1, "enabled");
	fmi_eq(pv_change("anon_pages_tracked_kb"), counted, "mapped before: found");
	fmi_eq(pv_change("anon_pages_untracked_extra_kb"), 0, "mapped before: untracked");
}

/* What is counted is there: small pages, tracked and untracked folios. */
static void the_parts_add_up(struct fmi_scene *s)
{
	static const char *const names[] = { "anon_pages", "mapped" };

	begin(s);
	s_munmap(s, 1, s->nr / 2, s->nr / 2);
	s_fork(s, 1, 2);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		long long all = 0, parts = 0;

		for (int j = 0; j < 20; j++) {
			char name[64];

			write_text("/proc/sys/vm/stat_refresh", "1\n");
			pv_read();
			snprintf(name, sizeof(name), "%s_kb", names[i]);
			all = pv_figure(name);
			snprintf(name, sizeof(name), "%s_tracked_kb", names[i]);
			parts = pv_figure(name);
			snprintf(name, sizeof(name), "%s_small_kb", names[i]);
			parts += pv_figure(name);
			snprintf(name, sizeof(name), "%s_untracked_kb", names[i]);
			parts += pv_figure(name);
			/* Shares are rounded down. */
			if (all >= parts && all - parts <= 4)
				break;
			parts = -1;
		}
		fmi_assert(parts >= 0, "%s: %lld kB are not what the parts add up to", names[i],
			   all);
	}
}

/* More page tables and more VMAs than the walk looks at without a pause. */
static void the_walk_pauses(struct fmi_scene *s)
{
	const unsigned long tables = 300, vmas = 150;
	unsigned long len = (tables + 1) * pmd_size;
	unsigned long va;
	void *mem;

	(void)s;
	pv_begin();
	mem = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	fmi_assert(mem != MAP_FAILED, "no address space: %s", strerror(errno));
	va = ((unsigned long)mem + pmd_size - 1) & ~(pmd_size - 1);
	p_start(1);
	p_mmap(1, va, tables * pmd_size, PROT_READ | PROT_WRITE,
	       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	for (unsigned long i = 0; i < tables; i++)
		p_write(1, va + i * pmd_size, 1);
	pv_check_proc(p_pid(1), "many page tables");
	fmi_assert(pv_process(p_pid(1), "private_kb") >= (long long)(tables * pgsz / 1024),
		   "less than was touched");
	p_write(1, va, 2 * vmas);
	for (unsigned long i = 0; i < vmas; i++)
		p_mprotect(1, va + 2 * i * pgsz, pgsz, PROT_READ);
	pv_check_proc(p_pid(1), "many VMAs");
	fmi_assert(pv_change("vmas") >= 2 * (long long)vmas, "%lld VMAs", pv_change("vmas"));
}

static char cgroup_dir[64], cgroup_group[128];

static bool cgroup_write(const char *dir, const char *file, const char *what)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return write_text(path, what) > 0;
}

static void cgroup_mount(void)
{
	snprintf(cgroup_dir, sizeof(cgroup_dir), "/tmp/fmi-cgroup.%d", getpid());
	if (mkdir(cgroup_dir, 0700) || mount("fmi", cgroup_dir, "cgroup2", 0, NULL))
		fmi_skip("cgroup2 cannot be mounted: %s", strerror(errno));
	if (!cgroup_write(cgroup_dir, "cgroup.subtree_control", "+memory"))
		fmi_skip("no memory controller in cgroup2");
}

static void cgroup_unmount(void)
{
	umount(cgroup_dir);
	rmdir(cgroup_dir);
}

static void cgroup_name(int nr)
{
	snprintf(cgroup_group, sizeof(cgroup_group), "%s/fmi.%d.%d", cgroup_dir, getpid(), nr);
}

/* Makes a group and moves a process into it. */
static void cgroup_make(pid_t pid, int nr)
{
	char number[16];

	cgroup_name(nr);
	fmi_assert(!mkdir(cgroup_group, 0700), "%s: %s", cgroup_group, strerror(errno));
	snprintf(number, sizeof(number), "%d", pid);
	fmi_assert(cgroup_write(cgroup_group, "cgroup.procs", number), "cgroup.procs");
}

static long long cgroup_stat(const char *name)
{
	static char stat[1 << 14];
	char path[256], want[64];
	const char *line;

	snprintf(path, sizeof(path), "%s/memory.stat", cgroup_group);
	fmi_assert(read_text(path, stat, sizeof(stat)) > 0, "memory.stat");
	snprintf(want, sizeof(want), "%s ", name);
	line = !strncmp(stat, want, strlen(want)) ? stat : strstr(stat, want);
	fmi_assert(line, "no %s in memory.stat", name);
	return strtoll(line + strlen(want), NULL, 10);
}

/*
 * Waits until memory.stat has changed by that. A read brings it up to date only if more than 64
 * pages for each CPU have changed since the last time (memcg_vmstats_needs_flush()); the work that
 * does it every two seconds may come between the unmap and the faults of the other half, of which
 * too few are left then. It comes again for them: the value must be exact at last.
 */
static void cgroup_changes(const char *name, long long before, long long want)
{
	long long change;

	fmi_wait_until((change = cgroup_stat(name) - before) == want,
		       "memory.stat of today: %s to change by %lld, not %lld", name, want, change);
}

static void by_cgroup(struct fmi_scene *s)
{
	const char *name = s->kind == FMI_ANON ? "anon" : "file_mapped";
	long long kb = (long long)s->size / 1024;
	long long lost = pv_differs(kb / 2);
	long long before, half;
	char want[256];
	struct stat st;

	pv_begin();
	if (s->kind != FMI_ANON)
		s_open(s, s->size);
	p_start(1);
	cgroup_mount();
	cgroup_make(p_pid(1), 0);
	s_map(s, 1, s->va, s->size, 0);
	before = cgroup_stat(name);
	s_fault(s, 1, s->va);
	s_mapped_whole(s, 1, s->va);
	pv_check(s, "populated in a cgroup");
	/* Page tables and the stack may have come, too. */
	half = cgroup_stat(name) - before;
	fmi_assert(half >= kb * 1024 && half < kb * 1024 + 64 * 1024, "memory.stat: %lld", half);
	unmap(s, 1, s->nr / 2, s->nr / 2);
	pv_check(s, "half unmapped in a cgroup");
	fmi_assert(!stat(cgroup_group, &st), "stat: %s", strerror(errno));
	snprintf(want, sizeof(want),
		 "\nmemcg: ino=%llu folios=1 anon_kb=%+lld file_mapped_kb=%+lld path=/fmi.%d.0\n",
		 (unsigned long long)st.st_ino,
		 s->kind == FMI_ANON ? kb / 2 : 0, s->kind == FMI_ANON ? 0 : kb / 2, getpid());
	fmi_eq(!!strstr(pv_read(), want), lost > 0, want + 1);
	cgroup_changes(name, before, half - lost * 1024);
	s_exit(s, 1);
	pv_check(s, "gone");
	fmi_assert(!strstr(pv_read(), want), "still '%s'", want + 1);
	rmdir(cgroup_group);
	cgroup_unmount();
}

/* One process, in one group after the other: each is charged for one folio. */
static void more_cgroups_than_room(struct fmi_scene *s)
{
	const int groups = 70, room = 64;
	const int differ = (int)pv_differs(groups);
	const int kept = differ < room ? differ : room;
	const char *line;
	int lines = 0;

	pv_begin();
	p_start(1);
	cgroup_mount();
	s_map(s, 1, s->va, (unsigned long)groups * s->size, 0);
	for (int i = 0; i < groups; i++) {
		unsigned long va = s->va + (unsigned long)i * s->size;

		cgroup_make(p_pid(1), i);
		s_fault(s, 1, va);
		p_madvise(1, va, s->size / 2, MADV_DONTNEED);
	}
	pv_read();
	fmi_eq(pv_change("tracked_folios"), groups, "tracked_folios");
	fmi_eq(pv_figure("memcgs"), kept, "memcgs");
	fmi_eq(pv_figure("memcgs_overflow_folios"), differ - kept, "memcgs_overflow_folios");
	for (line = pv_read(); (line = strstr(line, "\nmemcg: ino=")); line++)
		lines++;
	fmi_eq(lines, kept, "lines");
	p_exit(1);
	for (int i = 0; i < groups; i++) {
		cgroup_name(i);
		rmdir(cgroup_group);
	}
	cgroup_unmount();
}

static void refuse(const char *input, int error)
{
	int ret = fmi_write("preview", input);

	fmi_assert(ret == -error, "'%s': got %s, want %s", input,
		   ret < 0 ? strerror(-ret) : "success", strerror(error));
}

static bool selected(const char *want)
{
	char value[32];

	fmi_assert(text_find(pv_read(), "selected", value, sizeof(value)), "no line 'selected:'");
	return !strcmp(value, want);
}

static void selects(struct fmi_scene *s)
{
	char pid[32];

	(void)s;
	pv_begin();
	fmi_assert(selected("all"), "all");
	p_start(1);
	snprintf(pid, sizeof(pid), "%d", p_pid(1));
	fmi_assert(fmi_write("preview", pid) > 0, "write %s", pid);
	refuse("x", EINVAL);
	refuse("-1", EINVAL);
	refuse("1 2", EINVAL);
	refuse("0x", EINVAL);
	refuse("99999999999999999999", EINVAL);
	refuse("4194300", ESRCH);
	refuse("2", ESRCH); /* kthreadd */
	fmi_assert(selected(pid), "changed by bad input");
	fmi_assert(pv_process(p_pid(1), "rss_kb") > 0, "no Rss");
	fmi_assert(!strstr(strstr(pv_read(), "process: ") + 1, "process: "), "more than one");
	p_exit(1);
	fmi_assert(selected(pid), "changed by exit");
	fmi_assert(strstr(pv_read(), " gone=1\n"), "not said to be gone");
	/* Its writer, whoever reads. */
	fmi_assert(fmi_write("preview", "0\n") > 0, "write 0");
	snprintf(pid, sizeof(pid), "%d", getpid());
	fmi_assert(selected(pid), "not the writer");
	pv_check_proc(getpid(), "the writer");
	fmi_assert(fmi_write("preview", "\n") > 0, "write an empty line");
	fmi_assert(selected("none"), "not deselected");
	fmi_assert(!strstr(pv_read(), "process: "), "a process is shown");
	fmi_assert(fmi_write("preview", "all\n") > 0 && selected("all"), "all");
	fmi_assert(fmi_write("preview", "none\n") > 0 && selected("none"), "none");
}

static void baseline_moves(struct fmi_scene *s)
{
	long long since;

	begin(s);
	s_munmap(s, 1, 0, s->nr / 2);
	pv_read();
	since = pv_figure("since_ns");
	fmi_eq(pv_change("partial_anon_folios"), 1, "partial");
	pv_begin();
	pv_read();
	fmi_assert(pv_figure("since_ns") > since, "since_ns is the old one");
	fmi_assert(pv_figure("partial_anon_folios") >= 1, "no partial folio");
	fmi_eq(pv_change("partial_anon_folios"), 0, "partial since the reset");
	s_munmap(s, 1, s->nr / 2, s->nr / 2);
	pv_read();
	fmi_eq(pv_change("partial_anon_folios"), -1, "partial since the reset, unmapped");
}

static const struct fmi_test tests[] = {
	{ "whole_and_forked", whole_and_forked, ON_EACH },
	{ "half_unmapped", half_unmapped, ON_EACH },
	{ "unnoticed", unnoticed, ON_EACH },
	{ "copied_on_write", copied_on_write, ON_ANON },
	{ "twice_in_one_process", twice_in_one_process, ON_SHMEM | ON_FILE },
	{ "pmd_and_one_pte", pmd_and_one_pte, ON_ANON | PMD_ONLY },
	{ "without_tracking", without_tracking, ON_ANON | PMD_ONLY },
	{ "the_parts_add_up", the_parts_add_up, ON_ANON | ORDER4_ONLY },
	{ "the_walk_pauses", the_walk_pauses, ON_ONCE },
	{ "by_cgroup", by_cgroup, ON_ANON | ON_SHMEM | PMD_ONLY },
	{ "more_cgroups_than_room", more_cgroups_than_room, ON_ANON | ORDER4_ONLY },
	{ "selects", selects, ON_ONCE },
	{ "baseline_moves", baseline_moves, ON_ANON | ORDER4_ONLY },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
