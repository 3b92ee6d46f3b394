// SPDX-License-Identifier: GPL-2.0
/*
 * Both backends at once: the hooks on functions and the tracepoints feed a shadow each, which are
 * compared after whatever is done to a folio. Needs a kernel with the rmap tracepoints.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmi_both.h"
#include "fmi_ksft.h"
#include "fmi_life.h"
#include "fmi_storm.h"
#include "fmi_swap.h"
#include "fmi_uffd.h"
#include "fmi_util.h"

static unsigned long elsewhere(const struct fmi_scene *s)
{
	return s->arena + 16 * pmd_size;
}

static void fork_and_cow(struct fmi_scene *s)
{
	both_begin(s);
	p_fork(1, 2);
	both_is_compared(1, s->va, "forked");
	p_fork(2, 3);
	both_is_compared(1, s->va, "forked by the child");
	p_write(2, s_page(s, 1), 1);
	both_equal("the child wrote a page");
	p_write(1, s_page(s, s->nr / 2), 1);
	both_equal("the parent wrote another one");
	p_exit(2);
	both_equal("the child is gone");
	p_fork(1, 4);
	both_equal("forked with PTEs");
	p_exit(3);
	p_exit(4);
	p_exit(1);
	both_equal("all are gone");
}

static void parts_are_unmapped(struct fmi_scene *s)
{
	both_begin(s);
	p_fork(1, 2);
	p_madvise(1, s_page(s, 1), pgsz, MADV_DONTNEED);
	both_equal("MADV_DONTNEED of a page");
	p_munmap(2, s_page(s, 0), pgsz);
	both_equal("munmap of the first");
	p_munmap(2, s_page(s, s->nr / 2), pgsz);
	both_equal("munmap of one in the middle");
	p_read(1, s->va, s->nr);
	both_equal("read again");
	p_munmap(1, s->va, s->size);
	both_equal("munmap of all");
	p_exit(2);
	both_equal("the child is gone");
}

static void vmas_split_and_merge(struct fmi_scene *s)
{
	both_begin(s);
	p_mprotect(1, s_page(s, 1), pgsz, PROT_READ);
	both_equal("mprotect of a page");
	p_fork(1, 2);
	both_equal("forked");
	p_mprotect(1, s_page(s, 1), pgsz, PROT_READ | PROT_WRITE);
	both_equal("merged again");
	p_mprotect(2, s->va, s_page(s, s->nr / 2) - s->va, PROT_READ);
	both_equal("the child's first half");
	p_mprotect(2, s->va, s->size, PROT_READ);
	both_equal("and the other");
	p_exit(2);
	both_equal("the child is gone");
}

static void moves(struct fmi_scene *s)
{
	const unsigned long half = s->size / 2;
	const int flags = MREMAP_MAYMOVE | MREMAP_FIXED;

	both_begin(s);
	p_mremap(1, s->va, s->size, elsewhere(s), flags);
	both_is_compared(1, elsewhere(s), "moved");
	p_mremap(1, elsewhere(s), s->size, s->va + 2 * pmd_size + pgsz, flags);
	both_equal("moved by a page more");
	p_mremap(1, s->va + 2 * pmd_size + pgsz, half, elsewhere(s), flags);
	both_equal("half of it moved");
	p_fork(1, 2);
	both_equal("forked");
	p_mremap(2, elsewhere(s), half, elsewhere(s) + 3 * pmd_size + half, flags);
	both_equal("moved in the child");
	p_munmap(2, elsewhere(s) + 3 * pmd_size + half, pgsz);
	both_equal("a page unmapped where it went");
	p_exit(1);
	both_equal("the parent is gone");
	p_exit(2);
	both_equal("the child is gone");
}

static void uffd_moves(struct fmi_scene *s)
{
	both_begin(s);
	p_mmap(1, elsewhere(s), s->size, PROT_READ | PROT_WRITE,
	       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	p_uffd_move(1, elsewhere(s), s->va, s->size);
	both_is_compared(1, elsewhere(s), "moved");
	p_munmap(1, elsewhere(s), pgsz);
	both_equal("a page unmapped where it went");
	p_exit(1);
	both_equal("gone");
}

static void migrates(struct fmi_scene *s)
{
	if (access("/sys/devices/system/node/node1", F_OK))
		fmi_skip("one memory node only");
	both_begin(s);
	p_move_pages(1, s->va, 1, 1);
	both_equal("migrated");
	if (s->kind == FMI_ANON)
		p_fork(1, 2);
	p_munmap(1, s_page(s, 1), pgsz);
	p_try_move_page(1, s->va, 0);
	both_equal("a part migrated back");
	p_exit(1);
	both_equal("gone");
}

static void swaps(struct fmi_scene *s)
{
	if (!*swap_device)
		fmi_skip("%s", swap_why_not);
	both_begin(s);
	p_fill(1, s->va, s->nr, 3);
	p_madvise(1, s->va, s->size, MADV_PAGEOUT);
	both_equal("paged out");
	thp_only(s->kind, s->order, "always");
	p_read(1, s->va, s->nr);
	thp_never();
	both_equal("swapped in");
	p_fork(1, 2);
	both_equal("forked");
	p_madvise(1, s->va, s->size / 2, MADV_PAGEOUT);
	both_equal("a part paged out");
	p_verify(1, s->va, s->nr, 3);
	p_verify(2, s->va, s->nr, 3);
	both_equal("swapped in again");
	p_exit(1);
	p_exit(2);
	both_equal("gone");
}

static void splits(struct fmi_scene *s)
{
	both_begin(s);
	p_fill(1, s->va, s->nr, 7);
	if (s->kind == FMI_ANON)
		p_fork(1, 2);
	split_request(1, s->va, s->size, s->order > 2 ? 2 : 0, -1);
	both_equal("split");
	p_verify(1, s->va, s->nr, 7);
	both_equal("read");
	p_madvise(1, s_page(s, 1), pgsz, MADV_DONTNEED);
	both_equal("MADV_DONTNEED of a page");
	p_exit(1);
	both_equal("gone");
}

static void collapses(struct fmi_scene *s)
{
	both_ready();
	if (s->kind != FMI_ANON)
		s_open(s, pmd_size);
	p_start(1);
	s_map(s, 1, s->va, pmd_size, 0);
	thp_only(s->kind, s->order, "always");
	p_fill(1, s->va, pmd_size / pgsz, 5);
	thp_never();
	both_equal("folios of a size");
	p_fork(1, 2);
	p_exit(2);
	if (p_try_madvise(1, s->va, pmd_size, MADV_COLLAPSE))
		fmi_skip("MADV_COLLAPSE refuses");
	both_is_compared(1, s->va, "collapsed");
	p_exit(1);
	both_equal("gone");
}

/* Killed in the middle of everything, and while tracking is switched. */
static void storm_ends_equal(struct fmi_scene *s)
{
	both_ready();
	storm_start(s, 2);
	for (int i = 0; i < 4; i++) {
		msleep(2000);
		fmi_eq(both_compare("differences"), 0, "differences in the storm");
	}
	storm_pause();
	both_equal("paused");
	storm_resume();
	for (int i = 0; i < 3; i++) {
		fmi_assert(fmi_write("enable", "0") > 0, "disable");
		fmi_eq(fmi_write("both", "compare"), -ENODEV, "compare while disabled");
		fmi_assert(fmi_write("enable", "1") > 0, "enable");
		fmi_eq(both_compare("differences"), 0, "differences after switching");
		both_in_flight = text_value(both_text, "second_untracked_in_flight");
	}
	storm_pause();
	both_equal("switched");
	storm_end();
	both_equal("gone");
	fmi_eq(text_value(both_text, "all_differences"), 0, "all differences");
}

/* What one of them is not told is found, once, with its place. */
static void is_found(struct fmi_scene *s, const char *fault)
{
	unsigned long head;
	char want[64];

	both_ready();
	module_needs_faults();
	module_plant("fault_drop", 0);
	module_plant("fault_drop_second", 0);
	both_begin(s);
	/* No PMD: its split is many calls. */
	p_madvise(1, s_page(s, 0), pgsz, MADV_DONTNEED);
	both_equal("before");
	folio_order(pagemap_pfn(p_pid(1), s_page(s, 1)), &head);
	module_plant(fault, 1);
	p_madvise(1, s_page(s, 1), pgsz, MADV_DONTNEED);
	module_plant(fault, 0);
	fmi_eq(both_compare("differences"), 1, "differences");
	snprintf(want, sizeof(want), " pfn=%lu ", head);
	fmi_assert(strstr(both_text, "\ndifference: ") && strstr(both_text, want), "no%sin\n%s",
		   want, both_text);
	fmi_assert(strstr(both_text, "what=page:1 ") && strstr(both_text, "values=total:"),
		   "not what differs:\n%s", both_text);
	fmi_eq(both_compare("differences"), 0, "the same again");
	fmi_eq(text_value(both_text, "all_differences"), 1, "all differences");
	fmi_eq(fmi_stat("both_differences"), 1, "both_differences");
}

/* Of a folio that one still has, and the other has no more, which is mapped by nobody. */
static void a_folio_that_is_gone(struct fmi_scene *s)
{
	unsigned long head;
	char want[64];

	both_ready();
	module_needs_faults();
	module_plant("fault_drop", 0);
	module_plant("fault_drop_second", 0);
	fmi_assert(fmi_write("enable", "0") > 0 && fmi_write("enable", "1") > 0, "enable anew");
	both_begin(s);
	folio_order(pagemap_pfn(p_pid(1), s->va), &head);
	module_plant("fault_drop_second", 1);
	p_munmap(1, s->va, s->size);
	module_plant("fault_drop_second", 0);
	fmi_eq(both_compare("differences"), 1, "differences");
	snprintf(want, sizeof(want), " pfn=%lu ", head);
	fmi_assert(strstr(both_text, want) && strstr(both_text, " place=folio ") &&
		   strstr(both_text, " total=0/"), "no%sin\n%s", want, both_text);
	fmi_eq(both_compare("differences"), 0, "the same again");
	fmi_assert(fmi_write("enable", "0") > 0 && fmi_write("reset", "1") > 0, "reset");
}

/* What was found is forgotten while a comparison is under way, at one moment after the other. */
static void a_reset_while_it_compares(struct fmi_scene *s)
{
	const int moments = 12;

	both_ready();
	module_needs_faults();
	both_begin(s);
	p_madvise(1, s_page(s, 0), pgsz, MADV_DONTNEED);
	for (int i = 0; i < moments; i++) {
		long long left = 0;
		double start;
		int status;
		pid_t pid;

		fmi_assert(fmi_write("enable", "0") > 0 && fmi_write("enable", "1") > 0, "enable");
		start = now_seconds();
		fmi_eq(both_compare("differences"), 0, "differences");
		start = now_seconds() - start;
		module_plant("fault_drop_second", 1);
		p_madvise(1, s_page(s, 1 + (unsigned long)i), pgsz, MADV_DONTNEED);
		module_plant("fault_drop_second", 0);
		pid = fork();
		fmi_assert(pid >= 0, "fork: %s", strerror(errno));
		if (!pid) {
			usleep((unsigned int)(start * 1e6) * (unsigned int)i / moments);
			_exit(fmi_write("reset", "1") <= 0);
		}
		both_compare("differences");
		fmi_assert(waitpid(pid, &status, 0) == pid && !status, "reset: %d", status);
		/* It was found before the reset, and is forgotten, or after it. */
		fmi_eq(both_compare("differences"), 0, "differences");
		for (const char *line = both_text; (line = strstr(line, "\ndifference: ")); line++)
			left++;
		fmi_eq(text_value(both_text, "all_differences"), left, "all differences");
	}
	fmi_assert(fmi_write("enable", "0") > 0 && fmi_write("reset", "1") > 0, "reset");
}

static void a_call_that_the_second_missed(struct fmi_scene *s)
{
	is_found(s, "fault_drop_second");
	/* The first, and so what all files show, is right. */
	fmi_eq(fmi_stat("mismatches"), 0, "mismatches");
	fmi_assert(fmi_write("reset", "1") > 0, "reset");
	fmi_audit("all");
}

static void a_call_that_the_first_missed(struct fmi_scene *s)
{
	is_found(s, "fault_drop");
	fmi_assert(fmi_write("enable", "0") > 0 && fmi_write("reset", "1") > 0, "reset");
}

static void backend_is(const char *backend, const char *reason)
{
	char got[128];

	fmi_assert(fmi_read("stats", both_text, sizeof(both_text)) > 0, "cannot read stats");
	fmi_assert(text_find(both_text, "backend", got, sizeof(got)) && !strcmp(got, backend),
		   "backend %s, not %s", got, backend);
	fmi_assert(text_find(both_text, "backend_reason", got, sizeof(got)) &&
		   !strncmp(got, reason, strlen(reason)),
		   "backend_reason '%s', not '%s'", got, reason);
}

/* The parameter forces either backend; what the kernel lacks is refused. */
static void either_is_forced(struct fmi_scene *s)
{
	const char *said = "the parameter backend says so";
	bool there;
	int ret;

	both_unload();
	ret = module_load_file("selftest=0");
	fmi_assert(ret == 0, "without backend=: %s", strerror(-ret));
	there = fmi_tracepoints();
	backend_is(there ? "tracepoints" : "functions",
		   there ? "this kernel has all rmap tracepoints" :
		   "this kernel has no tracepoint ");
	both_unload();
	ret = module_load_file("backend=tracepoints");
	fmi_eq(ret, there ? 0 : -EOPNOTSUPP, "backend=tracepoints");
	if (there) {
		backend_is("tracepoints", said);
		both_unload();
	}
	fmi_assert(!module_loaded(), "it is loaded all the same");
	ret = module_load_file("backend=functions");
	fmi_assert(ret == 0, "backend=functions: %s", strerror(-ret));
	backend_is("functions", said);
	module_ready();
	s_populate(s);
	s_fork(s, 1, 2);
	s_cow(s, 2, 1);
	s_check(s, "with functions");
	fmi_audit("all");
}

/* Without the tracepoints: a clear refusal, and everything else as ever. */
static void refused_without_tracepoints(struct fmi_scene *s)
{
	int ret;

	(void)s;
	both_unload();
	ret = module_load_file("backend=both selftest=0");
	if (ret == 0)
		fmi_skip("this kernel has the rmap tracepoints");
	fmi_eq(ret, -EOPNOTSUPP, "backend=both");
	fmi_assert(!module_loaded(), "it is loaded all the same");
	fmi_eq(module_load_file("backend=neither"), -EINVAL, "backend=neither");
	ret = module_load_file("");
	fmi_assert(ret == 0, "without backend=: %s", strerror(-ret));
	fmi_assert(fmi_read("both", both_text, sizeof(both_text)) > 0, "cannot read both");
	fmi_assert(!strcmp(both_text, "state: off\n"), "both says:\n%s", both_text);
	fmi_eq(fmi_write("both", "compare"), -ENODEV, "compare");
	fmi_assert(fmi_write("enable", "1") > 0, "enable");
	fmi_eq(fmi_write("both", "compare"), -ENODEV, "compare while enabled");
	fmi_eq(fmi_write("both", "1"), -EINVAL, "another word");
	fmi_audit("all");
	fmi_read("stats", both_text, sizeof(both_text));
	fmi_assert(!strstr(both_text, "\nboth_"), "stats speak of both");
}

/* Statistics are those of one backend: nothing is counted twice. */
static void counts_once(struct fmi_scene *s)
{
	long long adds, removes, forks, moved;

	both_begin(s);
	p_madvise(1, s_page(s, 0), pgsz, MADV_DONTNEED);
	adds = fmi_stat("add_pte");
	removes = fmi_stat("remove_pte");
	forks = fmi_stat("calls_fork");
	moved = fmi_stat("moves");
	p_madvise(1, s_page(s, 1), pgsz, MADV_DONTNEED);
	p_madvise(1, s_page(s, 2), pgsz, MADV_DONTNEED);
	fmi_eq(fmi_stat("remove_pte") - removes, 2, "remove_pte");
	fmi_assert(fmi_stat("add_pte") == adds, "add_pte: %lld more", fmi_stat("add_pte") - adds);
	fmi_eq(fmi_stat("calls_fork"), forks, "calls_fork");
	fmi_eq(fmi_stat("moves"), moved, "moves");
	both_equal("at the end");
}

static void leaves_one_backend(struct fmi_scene *s)
{
	(void)s;
	both_unload();
	module_ready();
}

#define EACH (ON_EACH | NO_MODULE | FEW_SIZES | NOT_ORDER1)

static const struct fmi_test tests[] = {
	{ "refused_without_tracepoints", refused_without_tracepoints, ON_ONCE | NO_MODULE },
	{ "either_is_forced", either_is_forced, ON_ANON | ORDER4_ONLY | NO_MODULE },
	{ "fork_and_cow", fork_and_cow, EACH },
	{ "parts_are_unmapped", parts_are_unmapped, EACH },
	{ "vmas_split_and_merge", vmas_split_and_merge, EACH },
	{ "moves", moves, EACH },
	{ "uffd_moves", uffd_moves, ON_ANON | PMD_ONLY | NO_MODULE },
	{ "migrates", migrates, (EACH & ~ON_FILE) },
	{ "swaps", swaps, ON_ANON | NO_MODULE | FEW_SIZES | NOT_ORDER1 },
	{ "splits", splits, EACH },
	{ "collapses", collapses, ON_ANON | ON_SHMEM | PTE_ONLY | NO_MODULE | ORDER4_ONLY },
	{ "counts_once", counts_once, ON_ANON | NO_MODULE | ORDER4_ONLY },
	{ "storm_ends_equal", storm_ends_equal, ON_ONCE | LONG | NO_MODULE },
	{ "a_call_that_the_second_missed", a_call_that_the_second_missed,
	  ON_ANON | NO_MODULE | FEW_SIZES | NOT_ORDER1 },
	{ "a_call_that_the_first_missed", a_call_that_the_first_missed,
	  ON_ANON | NO_MODULE | ORDER4_ONLY },
	{ "a_folio_that_is_gone", a_folio_that_is_gone,
	  (ON_ANON | ON_SHMEM) | NO_MODULE | ORDER4_ONLY },
	{ "a_reset_while_it_compares", a_reset_while_it_compares,
	  ON_ANON | NO_MODULE | ORDER4_ONLY },
	{ "leaves_one_backend", leaves_one_backend, ON_ONCE | NO_MODULE },
};

int main(int argc, char **argv)
{
	int ret;

	fmi_util_init();
	swap_start();
	ret = fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
	swap_stop();
	return ret;
}
