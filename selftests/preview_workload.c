// SPDX-License-Identifier: GPL-2.0
/*
 * A workload that is the same wherever it runs, and after each of its steps the figures of the
 * preview beside those of the kernel: as it is, as it would be, what /proc says. Here the first and
 * the last must agree; scripts/preview-check compares what a kernel with mapcounts per page would
 * be with what one without them is.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kernel-page-flags.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_preview.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

#define MAX_FOLIOS 8
#define STEPS 10 /* after each the figures are told */
#define CALLS 4 /* in each step */
#define ATTEMPTS 20
#define HEADS 512 /* large folios that may be mapped at once */
#define SMALL 8192 /* small pages of all actors */

/* Two mappings of the same folios; the second one, private, only if they have a file. */
struct region {
	unsigned long va, pages;
};

static struct region regions[2];
static int nr_regions;
static unsigned int chance_state;
static char group_dir[64], group[96];

/* The same everywhere. */
static unsigned int chance(unsigned int below)
{
	chance_state = chance_state * 1103515245u + 12345u;
	return (chance_state >> 16) % below;
}

/* Machine-wide counters, as they were before anything was mapped. */
enum { ANON, MAPPED, SHMEM, ANON_HUGE, FLAGGED, COUNTERS };

static const struct {
	const char *name, *meminfo, *is, *would;
} counters[] = {
	[ANON] = { "AnonPages", "AnonPages", "anon_pages_kb", "anon_pages_would_kb" },
	[MAPPED] = { "Mapped", "Mapped", "mapped_kb", "mapped_would_kb" },
	[SHMEM] = { "Shmem", "Shmem", "shmem_kb", "shmem_would_kb" },
	[ANON_HUGE] = { "AnonHugePages", "AnonHugePages", "anon_huge_pages_kb",
			"anon_huge_pages_would_kb" },
};

static long long counters_before[COUNTERS];

/* Folios that are queued for the deferred split because a part of them is not mapped. */
static long long partially_mapped(void)
{
	long long sum = 0;

	for (unsigned int order = 2; order <= pmd_order; order++) {
		char path[128], text[32];

		snprintf(path, sizeof(path),
			 "/sys/kernel/mm/transparent_hugepage/hugepages-%lukB/stats/"
			 "nr_anon_partially_mapped", (pgsz << order) / 1024);
		if (read_text(path, text, sizeof(text)) > 0)
			sum += atoll(text);
	}
	return sum;
}

static void read_counters(long long *values)
{
	static char meminfo[1 << 13];

	fmi_assert(read_text("/proc/meminfo", meminfo, sizeof(meminfo)) > 0, "meminfo");
	for (int i = 0; i < FLAGGED; i++)
		values[i] = text_value(meminfo, counters[i].meminfo);
	values[FLAGGED] = partially_mapped();
}

static void group_write(const char *dir, const char *file, const char *what)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	fmi_assert(write_text(path, what) > 0, "write %s to %s", what, path);
}

static void group_enter(pid_t pid)
{
	char number[16];

	snprintf(group_dir, sizeof(group_dir), "/tmp/fmi-cgroup.%d", getpid());
	fmi_assert(!mkdir(group_dir, 0700) && !mount("fmi", group_dir, "cgroup2", 0, NULL),
		   "cgroup2: %s", strerror(errno));
	group_write(group_dir, "cgroup.subtree_control", "+memory");
	snprintf(group, sizeof(group), "%s/fmi.%d", group_dir, getpid());
	fmi_assert(!mkdir(group, 0700), "%s: %s", group, strerror(errno));
	snprintf(number, sizeof(number), "%d", pid);
	group_write(group, "cgroup.procs", number);
}

static void group_leave(void)
{
	rmdir(group);
	umount(group_dir);
	rmdir(group_dir);
}

/*
 * A read of memory.stat brings it up to date only if more than 64 pages for each CPU have changed
 * since the last time (memcg_vmstats_needs_flush()).
 */
static long stir(unsigned long pages, unsigned long b, unsigned long c, unsigned long d)
{
	void *mem = mmap(NULL, pages * pgsz, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	(void)b, (void)c, (void)d;
	if (mem == MAP_FAILED)
		return -errno;
	munmap(mem, pages * pgsz);
	return 0;
}

static long long group_stat(const char *name)
{
	static char stat[1 << 14];
	char path[160], want[64];
	const char *line;

	snprintf(path, sizeof(path), "%s/memory.stat", group);
	fmi_assert(read_text(path, stat, sizeof(stat)) > 0, "memory.stat");
	snprintf(want, sizeof(want), "%s ", name);
	line = !strncmp(stat, want, strlen(want)) ? stat : strstr(stat, want);
	fmi_assert(line, "no %s in memory.stat", name);
	return strtoll(line + strlen(want), NULL, 10) / 1024;
}

/* What the preview says memory.stat of the group would have more. */
static long long group_extra(const char *name)
{
	char id[64], want[64];
	const char *line, *at;
	struct stat st;

	fmi_assert(!stat(group, &st), "stat: %s", strerror(errno));
	snprintf(id, sizeof(id), "\nmemcg: ino=%llu ", (unsigned long long)st.st_ino);
	line = strstr(pv_read(), id);
	if (!line)
		return 0;
	snprintf(want, sizeof(want), " %s_kb=", name);
	at = strstr(line, want);
	fmi_assert(at, "no %s in the line of the group", name);
	return strtoll(at + strlen(want), NULL, 10);
}

static struct fmi_scene *scene;
static int step;

static void tell(int who, const char *figure, long long is, long long would, long long real)
{
	fmi_note("figure: %s %s %lukB %d %d %s %lld %lld %lld", fmi_case->name,
		 kind_name(scene->kind), scene->size / 1024, step, who, figure, is, would, real);
}

static void tell_process(int who, const struct pv_proc *p)
{
	pid_t pid = p_pid(who);

	tell(who, "Rss", pv_process(pid, "rss_kb"), pv_process(pid, "rss_kb"), p->rss);
	tell(who, "Pss", pv_process(pid, "pss_kb"), pv_process(pid, "pss_would_kb"), p->pss);
	tell(who, "Private", pv_process(pid, "private_kb"), pv_process(pid, "private_would_kb"),
	     p->private);
	tell(who, "exclusive", pv_process(pid, "exclusive_pages"),
	     pv_process(pid, "exclusive_would_pages"), p->exclusive);
	tell(who, "mapmax", pv_process(pid, "mapmax"), pv_process(pid, "mapmax_would"), p->mapmax);
}

/* The large folios that the actors map, in the order in which they are met. */
static unsigned long heads[HEADS];
static unsigned int orders[HEADS];
static int nr_heads;

/* The number of the large folio that a page is of; -1: of none. */
static int head_nr(unsigned long pfn)
{
	unsigned long head;
	unsigned int order;

	for (int i = 0; i < nr_heads; i++) {
		if (pfn >= heads[i] && pfn < heads[i] + (1UL << orders[i]))
			return i;
	}
	order = folio_order(pfn, &head);
	if (order == 0)
		return -1;
	fmi_assert(nr_heads < HEADS, "more than %d folios", HEADS);
	heads[nr_heads] = head;
	orders[nr_heads] = order;
	return nr_heads++;
}

/*
 * Finds them, and returns a number for who maps which page of which of them where, by its pages or
 * by a PMD: what it was is the same on both kernels, or nothing else can be compared.
 */
static long long find_folios(void)
{
	unsigned int hash = 2166136261u;

	nr_heads = 0;
	for (int who = 1; who < FMI_ACTORS; who++) {
		for (int r = 0; p_pid(who) && r < nr_regions; r++) {
			unsigned long pfns[MAX_FOLIOS * 512];
			unsigned long nr = regions[r].pages;

			fmi_assert(nr <= ARRAY_SIZE(pfns), "%lu pages", nr);
			pagemap_pfns(p_pid(who), regions[r].va, nr, pfns);
			for (unsigned long i = 0; i < nr; i++) {
				int head = pfns[i] ? head_nr(pfns[i]) : -2;
				unsigned long page = head < 0 ? 0 : pfns[i] - heads[head];
				unsigned long key = (unsigned long)(head + 2) << 16 | page;

				hash = (hash ^ (unsigned int)key) * 16777619u;
			}
			hash = (hash ^ (unsigned int)vma_pmd_kb(p_pid(who), regions[r].va)) *
			       16777619u;
		}
	}
	for (int i = 0; i < nr_heads; i++)
		hash = (hash ^ orders[i]) * 16777619u;
	return hash;
}

/* kpagecount of all their pages, and for each folio the number that it would be. */
static void tell_kpagecount(void)
{
	uint64_t counts[512];
	long long sum = 0;

	for (int i = 0; i < nr_heads; i++) {
		long long nr = 1LL << orders[i], least, most, would;
		char figure[32];

		fmi_assert(nr <= (long long)ARRAY_SIZE(counts), "order %u", orders[i]);
		page_counts(heads[i], (unsigned long)nr, counts);
		least = (long long)counts[0];
		most = least;
		for (long long page = 0; page < nr; page++) {
			long long count = (long long)counts[page];

			sum += count;
			least = count < least ? count : least;
			most = count > most ? count : most;
		}
		would = text_value(fmi_report_pfn(heads[i]), "avg_page");
		snprintf(figure, sizeof(figure), "kpagecount_least_%d", i);
		tell(0, figure, least, would, least);
		snprintf(figure, sizeof(figure), "kpagecount_most_%d", i);
		tell(0, figure, most, would, most);
	}
	tell(0, "kpagecount_sum", pv_change("kpagecount_sum"), pv_change("kpagecount_would_sum"),
	     sum);
}

/*
 * Is what the preview and /proc say of the same moment? What the test itself touched for the first
 * time since the statistics were brought up to date is not in them, but in the page tables.
 */
static bool settled(struct pv_proc *procs, long long *now)
{
	static const char *const both[] = { "anon_pages_kb", "anon_pages_small_kb" };
	long long before[ARRAY_SIZE(both)];
	bool same = true;

	for (int turn = 0; turn < 2; turn++) {
		write_text("/proc/sys/vm/stat_refresh", "1\n");
		pv_read();
		for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
			same = same && (!turn || before[i] == pv_figure(both[i]));
			before[i] = pv_figure(both[i]);
		}
	}
	read_counters(now);
	for (int i = 0; i < FLAGGED; i++)
		same = same && now[i] == pv_figure(counters[i].is);
	for (int who = 1; who < FMI_ACTORS; who++) {
		if (!p_pid(who))
			continue;
		pv_read_proc(p_pid(who), &procs[who]);
		same = same && pv_same(p_pid(who), &procs[who], false);
	}
	return same;
}

/*
 * Which of those that share a small page is the first to write to it, and so which page is charged
 * to whom, is a matter of scheduling. So what is told of AnonPages and of the cgroup is without
 * small pages; here those of the actors that are charged to the group.
 */
static int add_small(pid_t pid, uint64_t ino, unsigned long *found, int nr)
{
	static unsigned long pfns[MAX_FOLIOS * 512];
	static int kpagecgroup;
	char path[64], line[512];
	FILE *maps;

	if (!kpagecgroup)
		kpagecgroup = open("/proc/kpagecgroup", O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	fmi_assert(maps && kpagecgroup > 0, "/proc/kpagecgroup, %s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), maps)) {
		unsigned long start, end, pages;
		uint64_t group_ino;

		/* The reserved arena. */
		if (sscanf(line, "%lx-%lx ", &start, &end) != 2 || strstr(line, " ---p "))
			continue;
		pages = (end - start) / pgsz;
		fmi_assert(pages <= ARRAY_SIZE(pfns), "a VMA of %lu pages", pages);
		if (!pagemap_pfns(pid, start, pages, pfns))
			continue;
		for (unsigned long i = 0; i < pages; i++) {
			if (!pfns[i] || head_nr(pfns[i]) >= 0 ||
			    !((page_flags(pfns[i]) >> KPF_ANON) & 1) ||
			    pread(kpagecgroup, &group_ino, 8, (off_t)(pfns[i] * 8)) != 8 ||
			    group_ino != ino)
				continue;
			fmi_assert(nr < SMALL, "more than %d small pages", SMALL);
			found[nr++] = pfns[i];
		}
	}
	fclose(maps);
	return nr;
}

static int by_pfn(const void *a, const void *b)
{
	unsigned long one = *(const unsigned long *)a, other = *(const unsigned long *)b;

	return one < other ? -1 : one > other;
}

static long long small_kb(void)
{
	static unsigned long found[SMALL];
	long long different = 0;
	struct stat st;
	int nr = 0;

	fmi_assert(!stat(group, &st), "stat: %s", strerror(errno));
	for (int who = 1; who < FMI_ACTORS; who++) {
		if (p_pid(who))
			nr = add_small(p_pid(who), st.st_ino, found, nr);
	}
	qsort(found, (size_t)nr, sizeof(*found), by_pfn);
	for (int i = 0; i < nr; i++)
		different += i == 0 || found[i] != found[i - 1];
	return different * (long long)pgsz / 1024;
}

static void tell_group(void)
{
	long long anon, mapped;
	int someone = 1;

	while (!p_pid(someone))
		someone++;
	fmi_eq(p_call(someone, stir, 512, 0, 0, 0), 0, "stir");
	anon = group_stat("anon") - small_kb();
	tell(0, "memcg_anon", anon, anon + group_extra("anon"), anon);
	mapped = group_stat("file_mapped");
	tell(0, "memcg_file_mapped", mapped, mapped + group_extra("file_mapped"), mapped);
}

/* What is in large folios; what is in small ones is a sum of shares that are rounded down. */
static long long large_kb(long long all, long long small)
{
	long long page = (long long)pgsz / 1024;

	return (all - small) / page * page;
}

static void tell_counters(const long long *now)
{
	for (int i = 0; i < FLAGGED; i++) {
		long long small = pv_figure("anon_pages_small_kb");

		if (i == ANON)
			tell(0, counters[i].name, large_kb(pv_figure(counters[i].is), small),
			     large_kb(pv_figure(counters[i].would), small),
			     large_kb(now[i], small));
		else
			tell(0, counters[i].name, pv_change(counters[i].is),
			     pv_change(counters[i].would), now[i] - counters_before[i]);
	}
	if (scene->kind == FMI_ANON && scene->order > 1)
		tell(0, "partially_mapped", pv_change("partial_anon_flagged_folios"),
		     pv_change("partial_anon_folios") - pv_change("partial_anon_unnoticed_folios"),
		     now[FLAGGED] - counters_before[FLAGGED]);
}

static void tell_all(void)
{
	struct pv_proc procs[FMI_ACTORS];
	long long now[COUNTERS], layout;

	for (int i = 0; !settled(procs, now); i++)
		fmi_assert(i < ATTEMPTS, "step %d: as it is differs from /proc", step);
	layout = find_folios();
	tell(0, "layout", layout, layout, layout);
	for (int who = 1; who < FMI_ACTORS; who++) {
		if (p_pid(who))
			tell_process(who, &procs[who]);
	}
	tell_counters(now);
	tell_kpagecount();
	tell_group();
	step++;
}

/* Some folios, mapped by actor 1 in a cgroup of its own. */
static void begin(struct fmi_scene *s, unsigned long folios)
{
	unsigned long bytes = folios * s->size;

	scene = s;
	step = 0;
	chance_state = 2026u + s->order * 16u + s->kind;
	if (s->kind != FMI_ANON)
		s_open(s, bytes);
	for (unsigned long i = 1; s->kind == FMI_FILE && i < folios; i++) {
		char *data = calloc(1, s->size);

		fmi_assert(data && pwrite(s->fd, data, s->size, (off_t)(i * s->size)) ==
			   (ssize_t)s->size, "write: %s", strerror(errno));
		free(data);
	}
	write_text("/proc/sys/vm/stat_refresh", "1\n");
	read_counters(counters_before);
	pv_begin();
	p_start(1);
	group_enter(p_pid(1));
	regions[0] = (struct region){ s->va, folios * s->nr };
	s_map(s, 1, s->va, bytes, 0);
	nr_regions = 1;
	if (s->kind != FMI_ANON) {
		regions[1] = (struct region){ s->va + 16 * pmd_size, folios * s->nr };
		s_map_private(s, 1, regions[1].va, bytes, 0);
		nr_regions = 2;
	}
	s_fault(s, 1, s->va);
	/* Only there: what else the actors have stays small. */
	if (s->kind != FMI_FILE) {
		thp_only(s->kind, s->order, s->kind == FMI_ANON ? "madvise" : "advise");
		for (int r = 0; r < nr_regions; r++)
			p_madvise(1, regions[r].va, bytes, MADV_HUGEPAGE);
	}
	if (s->kind == FMI_FILE)
		p_read(1, s->va, folios * s->nr);
	else
		p_write(1, s->va, folios * s->nr);
	tell_all();
}

static void end(void)
{
	for (int who = 1; who < FMI_ACTORS; who++) {
		if (p_pid(who))
			p_exit(who);
	}
	group_leave();
}

/* Three children keep a page each of what the parent maps all of. */
static void kept_by_children(struct fmi_scene *s)
{
	begin(s, 2);
	for (int who = 2; who <= 4; who++) {
		unsigned long keep = (unsigned long)(who - 2) * (s->nr - 1) / 2;

		p_fork(1, who);
		/* Shared file memory is not copied by a fork. */
		if (s->kind != FMI_ANON)
			p_read(who, s->va, s->nr);
		if (keep)
			p_madvise(who, s->va, keep * pgsz, MADV_DONTNEED);
		if (keep + 1 < s->nr)
			p_madvise(who, s_page(s, keep + 1), (s->nr - keep - 1) * pgsz,
				  MADV_DONTNEED);
		tell_all();
	}
	p_exit(1);
	tell_all();
	end();
}

static int pick_actor(bool alive)
{
	int who = 0;

	for (int i = 1; i <= 4; i++) {
		if (!!p_pid(i) == alive && (!who || chance(2)))
			who = i;
	}
	return who;
}

static int alive(void)
{
	int nr = 0;

	for (int who = 1; who < FMI_ACTORS; who++)
		nr += !!p_pid(who);
	return nr;
}

/* One call of one actor: what, who and where is a matter of the seed. */
static void call(const struct fmi_scene *s)
{
	const struct region *r = &regions[chance((unsigned int)nr_regions)];
	unsigned long folio = chance((unsigned int)(r->pages / s->nr));
	unsigned long first = chance((unsigned int)s->nr);
	unsigned long nr = 1 + chance((unsigned int)(s->nr - first));
	unsigned long va = r->va + (folio * s->nr + first) * pgsz;
	int who = pick_actor(true);
	int other = pick_actor(false);

	switch (chance(8)) {
	case 0:
	case 1:
		if (!other)
			break;
		p_fork(who, other);
		/* Shared file memory is not copied by a fork. */
		if (s->kind != FMI_ANON)
			p_read(other, regions[0].va, regions[0].pages);
		break;
	case 2:
		if (alive() > 1)
			p_exit(who);
		break;
	case 3:
	case 4:
		p_madvise(who, va, nr * pgsz, MADV_DONTNEED);
		break;
	case 5:
		p_read(who, va, nr);
		break;
	case 6:
		p_write(who, va, nr);
		break;
	case 7:
		p_write(who, va, 1);
		break;
	}
}

static void by_chance(struct fmi_scene *s)
{
	begin(s, s->order == pmd_order ? 3 : MAX_FOLIOS);
	for (int i = 0; i < STEPS; i++) {
		for (int j = 0; j < CALLS; j++)
			call(s);
		tell_all();
	}
	end();
}

static const struct fmi_test tests[] = {
	{ "kept_by_children", kept_by_children, ON_EACH | FEW_SIZES },
	{ "by_chance", by_chance, ON_EACH | FEW_SIZES },
};

int main(int argc, char **argv)
{
	/* Small pages of the actors count as well: the same of them, at the same addresses. */
	int was = personality(0xffffffff);

	if (!(was & ADDR_NO_RANDOMIZE) &&
	    personality((unsigned long)was | ADDR_NO_RANDOMIZE) >= 0)
		execv("/proc/self/exe", argv);
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
