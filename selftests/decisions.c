// SPDX-License-Identifier: GPL-2.0
/* The `decisions` file: what the kernel really asks is counted at the function that asks. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

#define MPOL_BIND 2
#define MPOL_MF_MOVE (1 << 1)

static char text[1 << 18];

enum column { EVALUATED, COMPARED, FLIPS, WRONG, ASKED, DIFFER, ASKED_WRONG, UNKNOWN, NR_COLUMNS };

static void read_decisions(void)
{
	int ret = fmi_read("decisions", text, sizeof(text));

	fmi_assert(ret > 0, "read decisions: %s", strerror(-ret));
	fmi_assert(!strncmp(text, "# since_ns: ", 12), "decisions begins with '%.20s'", text);
}

/* Calls of a site's function about tracked folios; skips the case if it is not hooked here. */
static long long nr_judged(const char *site)
{
	char want[64];
	const char *line;

	read_decisions();
	snprintf(want, sizeof(want), "\n# %s: judged=", site);
	line = strstr(text, want);
	if (!line) {
		snprintf(want, sizeof(want), "\n# %s: ", site);
		fmi_assert(strstr(text, want), "no site %s", site);
		fmi_skip("the function is not hooked in this kernel");
	}
	return atoll(strchr(line, '=') + 1);
}

/* One value of the line of a site and a definition. */
static long long value(const char *site, const char *definition, enum column column)
{
	char copy[256], *at, *save, *word;

	read_decisions();
	for (char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		snprintf(copy, sizeof(copy), "%.*s", (int)strcspn(line, "\n"), line);
		at = copy;
		word = strtok_r(at, "\t", &save);
		if (!word || strcmp(word, site))
			continue;
		for (int i = 0; i < 3 && word; i++)
			word = strtok_r(NULL, "\t", &save);
		word = strtok_r(NULL, "\t", &save);
		if (!word || strcmp(word, definition))
			continue;
		for (int i = 0; i <= (int)column && word; i++)
			word = strtok_r(NULL, "\t", &save);
		fmi_assert(word, "%s, %s: too few columns", site, definition);
		return atoll(word);
	}
	fmi_fail("no line for %s and %s", site, definition);
}

static void start_anew(void)
{
	int ret = fmi_write("reset", "1");

	fmi_assert(ret > 0, "reset: %s", strerror(-ret));
}

static void need_nodes(void)
{
	if (access("/sys/devices/system/node/node1", F_OK))
		fmi_skip("one memory node only");
}

/* Memory of the case itself: one folio. */
static char *own_folio(struct fmi_scene *s, int flags, int fd)
{
	char *p;

	thp_only(s->kind, s->order, "always");
	p = mmap((void *)s->va, s->size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
	fmi_assert(p == (char *)s->va, "mmap: %m");
	*p = 1;
	fmi_eq(folio_order(pagemap_pfn(getpid(), s->va), &s->e.pfn), s->order, "order");
	thp_never();
	return p;
}

static char *own_anon(struct fmi_scene *s)
{
	return own_folio(s, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

/* A write fault on what fork shares: may it be reused? No, says everybody who counts MMs. */
static void write_fault(struct fmi_scene *s)
{
	const char *site = s->order == pmd_order ? "wp_reuse_pmd" : "wp_reuse_pte";
	long long before;

	s_populate(s);
	s_fork(s, 1, 2);
	before = nr_judged(site);
	s_cow(s, 1, 0);
	fmi_eq(nr_judged(site), before + 1, site);
	/* What is left is mapped by PTEs in both cases. */
	before = nr_judged("wp_reuse_pte");
	s_cow(s, 2, s->nr - 1);
	fmi_assert(nr_judged("wp_reuse_pte") > before, "the child's write was not counted");
	s_exit(s, 2);
	before = nr_judged("wp_reuse_pte");
	s_write_in_place(s, 1, s->nr / 2);
	/* The parent that is alone may reuse it, and was asked; a single page left is copied. */
	fmi_assert(nr_judged("wp_reuse_pte") > before, "the parent's write was not counted");
}

/* Nothing is asked where nothing is shared and nothing is protected. */
static void no_question(struct fmi_scene *s)
{
	start_anew();
	s_populate(s);
	p_write(1, s->va, s->nr);
	fmi_eq(nr_judged("wp_reuse_pte"), 0, "wp_reuse_pte");
	fmi_eq(nr_judged("wp_reuse_pmd"), 0, "wp_reuse_pmd");
	fmi_eq(nr_judged("deferred_split"), 0, "deferred_split");
	fmi_eq(nr_judged("madvise_free_pmd"), 0, "madvise_free_pmd");
}

static void madvise_free(struct fmi_scene *s)
{
	s_populate(s);
	start_anew();
	p_madvise(1, s->va, s->size, MADV_FREE);
	fmi_eq(nr_judged("madvise_free_pmd"), 1, "alone");
	fmi_eq(value("madvise_free_pmd", "mm", ASKED), 1, "mm was asked");
	fmi_eq(value("madvise_free_pmd", "mm", DIFFER), 0, "mm differs");
	fmi_eq(value("madvise_free_pmd", "kernel", ASKED_WRONG), 0, "the kernel is wrong");
	s_fork(s, 1, 2);
	p_madvise(2, s->va, s->size, MADV_FREE);
	fmi_eq(nr_judged("madvise_free_pmd"), 2, "shared");
	fmi_eq(value("madvise_free_pmd", "mm", ASKED), 2, "mm was asked");
	fmi_eq(value("madvise_free_pmd", "mm", ASKED_WRONG), 0, "mm is wrong");
	fmi_eq(value("madvise_free_pmd", "mm", DIFFER), 0, "mm differs");
}

static void madvise_cold(struct fmi_scene *s)
{
	s_populate(s);
	start_anew();
	p_madvise(1, s->va, s->size, MADV_COLD);
	fmi_eq(nr_judged("madvise_cold_pmd"), s->order == pmd_order, "asked about a PMD only");
	fmi_eq(value("madvise_cold_pmd", "mm", ASKED), s->order == pmd_order, "mm was asked");
	fmi_eq(value("madvise_cold_pmd", "mm", DIFFER), 0, "mm differs");
}

/* The kernel decides yes when a page goes; so does who counts mapped pages. */
static void deferred_split(struct fmi_scene *s)
{
	s_populate(s);
	p_write(1, s->va, s->nr);
	start_anew();
	s_dontneed(s, 1, 1, 1);
	fmi_eq(nr_judged("deferred_split"), 1, "the first page went");
	fmi_eq(value("deferred_split", "nr_pages_mapped", DIFFER), 0, "nr_pages_mapped differs");
	fmi_eq(value("deferred_split", "kernel", ASKED_WRONG), 0, "the kernel is wrong");
	/* It is on the list: no further question. */
	s_dontneed(s, 1, 2, 1);
	fmi_eq(nr_judged("deferred_split"), 1, "another page went");
}

static void split(struct fmi_scene *s)
{
	char range[80];
	int ret;

	s_populate(s);
	start_anew();
	snprintf(range, sizeof(range), "%d,0x%lx,0x%lx", p_pid(1), s->va, s->va + s->size);
	ret = write_text("/sys/kernel/debug/split_huge_pages", range);
	fmi_assert(ret > 0, "split_huge_pages: %s", strerror(-ret));
	fmi_assert(nr_judged("split") >= 1, "not counted");
}

static void migrate(struct fmi_scene *s)
{
	need_nodes();
	s_populate(s);
	start_anew();
	p_move_pages(1, s->va, 1, 1);
	p_move_pages(1, s->va, 1, 0);
	fmi_assert(nr_judged("migrate") >= 1, "not counted");
}

/* mbind(2) asks whether somebody else maps what it would move. */
static void mbind_moves(struct fmi_scene *s)
{
	unsigned long node = 1 << 1;
	long ret;

	need_nodes();
	start_anew();
	own_anon(s);
	ret = syscall(SYS_mbind, s->va, s->size, MPOL_BIND, &node, 8 * sizeof(node), MPOL_MF_MOVE);
	fmi_assert(!ret, "mbind: %m");
	node = 1 << 0;
	ret = syscall(SYS_mbind, s->va, s->size, MPOL_BIND, &node, 8 * sizeof(node), MPOL_MF_MOVE);
	fmi_assert(!ret, "mbind: %m");
	fmi_assert(nr_judged("mbind") >= 1, "not counted");
	fmi_eq(value("mbind", "mm", DIFFER), 0, "mm differs");
}

/* PMDs that were split since boot. */
static long long pmd_splits(void)
{
	fmi_assert(read_text("/proc/vmstat", text, sizeof(text)) > 0, "/proc/vmstat: %m");
	return strtoll(strstr(text, "thp_split_pmd ") + strlen("thp_split_pmd "), NULL, 10);
}

/*
 * What is lazily freed and reclaimed: are there references that nothing explains? A PMD is
 * discarded as a whole (7.2), or is split and its PTEs are discarded (7.3).
 */
static void reclaim_lazyfree(struct fmi_scene *s)
{
	long long splits;
	bool as_pmd;
	char *p;

	start_anew();
	p = own_anon(s);
	fmi_assert(!madvise(p, s->size, MADV_FREE), "MADV_FREE: %m");
	splits = pmd_splits();
	fmi_assert(!madvise(p, s->size, MADV_PAGEOUT), "MADV_PAGEOUT: %m");
	as_pmd = s->order == pmd_order && pmd_splits() == splits;
	fmi_assert(nr_judged(as_pmd ? "lazyfree_pmd" : "lazyfree_pte") >= 1, "not counted");
	if (!as_pmd)
		fmi_eq(nr_judged("lazyfree_pmd"), 0, "counted as a PMD");
}

/* NUMA balancing asks when it protects, and at the faults that follow. */
static void numa_balances(struct fmi_scene *s)
{
	static const char *const file = "/proc/sys/kernel/numa_balancing";
	bool anon = s->kind == FMI_ANON;
	const char *site = anon ? "prot_numa" : "numa_fault";
	char old[16];
	char *p;

	need_nodes();
	if (read_text(file, old, sizeof(old)) < 0)
		fmi_skip("no NUMA balancing");
	start_anew();
	if (anon) {
		p = own_anon(s);
	} else {
		int fd = memfd_create("fmi", 0);

		fmi_assert(fd >= 0 && !ftruncate(fd, s->size), "memfd: %m");
		p = own_folio(s, MAP_SHARED, fd);
	}
	fmi_assert(write_text(file, "1") > 0, "cannot switch NUMA balancing on");
	while (!nr_judged(site)) {
		fmi_waits_for("NUMA balancing to ask: %s", site);
		for (int n = 0; n < 1000; n++)
			for (unsigned long i = 0; i < s->nr; i++)
				((volatile char *)p)[i * pgsz]++;
	}
	fmi_goes_on();
	write_text(file, old);
	fmi_eq(value(site, "mm", DIFFER), 0, "mm differs");
}

/* The columns are there, and the states of a site are those of its types and orders. */
static void states_are_summed(struct fmi_scene *s)
{
	long long evaluated;

	start_anew();
	s_populate(s);
	s_fork(s, 1, 2);
	s_cow(s, 1, 0);
	s_exit(s, 2);
	evaluated = value("collapse_scan", "mm", EVALUATED);
	fmi_assert(evaluated > 0, "no state was evaluated");
	fmi_eq(value("prot_numa", "mm", EVALUATED) >= evaluated, 1, "all types and anon");
	fmi_eq(value("collapse_scan", "mm", WRONG), 0, "mm is wrong");
	fmi_eq(value("smaps_hugetlb", "mm", EVALUATED), 0, "hugetlb");
	if (s->order != pmd_order)
		fmi_eq(value("madvise_free_pmd", "mm", EVALUATED), 0, "PMD order only");
}

static const struct fmi_test tests[] = {
	{ "write_fault", write_fault, ON_ANON | NOT_ORDER1 },
	{ "no_question", no_question, ON_ANON },
	{ "madvise_free", madvise_free, ON_ANON | PMD_ONLY },
	{ "madvise_cold", madvise_cold, ON_ANON | ON_SHMEM },
	{ "deferred_split", deferred_split, ON_ANON | NOT_ORDER1 },
	{ "split", split, ON_ANON | ON_SHMEM },
	{ "migrate", migrate, ON_ANON | ON_SHMEM },
	{ "mbind_moves", mbind_moves, ON_ANON },
	{ "reclaim_lazyfree", reclaim_lazyfree, ON_ANON },
	{ "numa_balancing", numa_balances, ON_ANON | ON_SHMEM | ORDER4_ONLY },
	{ "states_are_summed", states_are_summed, ON_ANON | ORDER4_ONLY },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
