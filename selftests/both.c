// SPDX-License-Identifier: GPL-2.0
/*
 * Both backends at once: the hooks on functions and the tracepoints feed a shadow each, which are
 * compared after whatever is done to a folio. Needs a kernel with the rmap tracepoints.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_life.h"
#include "fmi_scan.h"
#include "fmi_storm.h"
#include "fmi_swap.h"
#include "fmi_uffd.h"
#include "fmi_util.h"

static char text[1 << 18];

static void unload(void)
{
	int ret = module_loaded() ? module_unload() : 0;

	fmi_assert(ret == 0, "rmmod: %s", strerror(-ret));
}

/* With both backends and nothing counted yet. */
static void ready(void)
{
	int ret;

	if (!module_loaded() || !fmi_both()) {
		unload();
		ret = module_load_file("backend=both");
		if (ret == -EOPNOTSUPP)
			fmi_skip("this kernel has no rmap tracepoints");
		fmi_assert(ret == 0, "backend=both: %s", strerror(-ret));
	}
	module_ready();
	fmi_assert(fmi_write("reset", "1") > 0, "reset");
}

/* Adds that the second shadow did not take before it was scanned for the last time. */
static long long in_flight;

static long long compare(const char *name)
{
	fmi_assert(fmi_write("both", "compare") > 0, "compare");
	fmi_assert(fmi_read("both", text, sizeof(text)) > 0, "cannot read both");
	return text_value(text, name);
}

/* All folios were compared, and are equal. */
static void equal(const char *what)
{
	long long differences = compare("differences");

	if (differences)
		fmi_fail("%s: %lld differences:\n%s", what, differences, text);
	if (text_value(text, "deferred"))
		fmi_fail("%s: not all folios were compared:\n%s", what, text);
	fmi_second_complete(text, what, in_flight);
	fmi_eq(text_value(text, "compared"), text_value(text, "equal"), "compared");
}

/* So is the folio at this address of an actor: it is tracked in both. */
static void is_compared(int who, unsigned long va, const char *what)
{
	const char *report = fmi_report_va(p_pid(who), va);
	char state[32];

	fmi_assert(report && text_find(report, "state", state, sizeof(state)), "%s: no report",
		   what);
	fmi_assert(!strcmp(state, "tracked"), "%s: the folio is %s", what, state);
	equal(what);
	fmi_assert(text_value(text, "equal") > 0, "%s: nothing was compared", what);
	fmi_assert(text_value(text, "second_tracked_folios") > 0, "%s: nothing in the second",
		   what);
}

/* A folio that actor 1 maps, and both know. */
static void begin(struct fmi_scene *s)
{
	ready();
	s_populate(s);
	is_compared(1, s->va, "populated");
}

static unsigned long elsewhere(const struct fmi_scene *s)
{
	return s->arena + 16 * pmd_size;
}

static void fork_and_cow(struct fmi_scene *s)
{
	begin(s);
	p_fork(1, 2);
	is_compared(1, s->va, "forked");
	p_fork(2, 3);
	is_compared(1, s->va, "forked by the child");
	p_write(2, s_page(s, 1), 1);
	equal("the child wrote a page");
	p_write(1, s_page(s, s->nr / 2), 1);
	equal("the parent wrote another one");
	p_exit(2);
	equal("the child is gone");
	p_fork(1, 4);
	equal("forked with PTEs");
	p_exit(3);
	p_exit(4);
	p_exit(1);
	equal("all are gone");
}

static void parts_are_unmapped(struct fmi_scene *s)
{
	begin(s);
	p_fork(1, 2);
	p_madvise(1, s_page(s, 1), pgsz, MADV_DONTNEED);
	equal("MADV_DONTNEED of a page");
	p_munmap(2, s_page(s, 0), pgsz);
	equal("munmap of the first");
	p_munmap(2, s_page(s, s->nr / 2), pgsz);
	equal("munmap of one in the middle");
	p_read(1, s->va, s->nr);
	equal("read again");
	p_munmap(1, s->va, s->size);
	equal("munmap of all");
	p_exit(2);
	equal("the child is gone");
}

static void vmas_split_and_merge(struct fmi_scene *s)
{
	begin(s);
	p_mprotect(1, s_page(s, 1), pgsz, PROT_READ);
	equal("mprotect of a page");
	p_fork(1, 2);
	equal("forked");
	p_mprotect(1, s_page(s, 1), pgsz, PROT_READ | PROT_WRITE);
	equal("merged again");
	p_mprotect(2, s->va, s_page(s, s->nr / 2) - s->va, PROT_READ);
	equal("the child's first half");
	p_mprotect(2, s->va, s->size, PROT_READ);
	equal("and the other");
	p_exit(2);
	equal("the child is gone");
}

static void moves(struct fmi_scene *s)
{
	const unsigned long half = s->size / 2;
	const int flags = MREMAP_MAYMOVE | MREMAP_FIXED;

	begin(s);
	p_mremap(1, s->va, s->size, elsewhere(s), flags);
	is_compared(1, elsewhere(s), "moved");
	p_mremap(1, elsewhere(s), s->size, s->va + 2 * pmd_size + pgsz, flags);
	equal("moved by a page more");
	p_mremap(1, s->va + 2 * pmd_size + pgsz, half, elsewhere(s), flags);
	equal("half of it moved");
	p_fork(1, 2);
	equal("forked");
	p_mremap(2, elsewhere(s), half, elsewhere(s) + 3 * pmd_size + half, flags);
	equal("moved in the child");
	p_munmap(2, elsewhere(s) + 3 * pmd_size + half, pgsz);
	equal("a page unmapped where it went");
	p_exit(1);
	equal("the parent is gone");
	p_exit(2);
	equal("the child is gone");
}

static void uffd_moves(struct fmi_scene *s)
{
	begin(s);
	p_mmap(1, elsewhere(s), s->size, PROT_READ | PROT_WRITE,
	       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	p_uffd_move(1, elsewhere(s), s->va, s->size);
	is_compared(1, elsewhere(s), "moved");
	p_munmap(1, elsewhere(s), pgsz);
	equal("a page unmapped where it went");
	p_exit(1);
	equal("gone");
}

static void migrates(struct fmi_scene *s)
{
	if (access("/sys/devices/system/node/node1", F_OK))
		fmi_skip("one memory node only");
	begin(s);
	p_move_pages(1, s->va, 1, 1);
	equal("migrated");
	if (s->kind == FMI_ANON)
		p_fork(1, 2);
	p_munmap(1, s_page(s, 1), pgsz);
	p_try_move_page(1, s->va, 0);
	equal("a part migrated back");
	p_exit(1);
	equal("gone");
}

static void swaps(struct fmi_scene *s)
{
	if (!*swap_device)
		fmi_skip("%s", swap_why_not);
	begin(s);
	p_fill(1, s->va, s->nr, 3);
	p_madvise(1, s->va, s->size, MADV_PAGEOUT);
	equal("paged out");
	thp_only(s->kind, s->order, "always");
	p_read(1, s->va, s->nr);
	thp_never();
	equal("swapped in");
	p_fork(1, 2);
	equal("forked");
	p_madvise(1, s->va, s->size / 2, MADV_PAGEOUT);
	equal("a part paged out");
	p_verify(1, s->va, s->nr, 3);
	p_verify(2, s->va, s->nr, 3);
	equal("swapped in again");
	p_exit(1);
	p_exit(2);
	equal("gone");
}

static void splits(struct fmi_scene *s)
{
	begin(s);
	p_fill(1, s->va, s->nr, 7);
	if (s->kind == FMI_ANON)
		p_fork(1, 2);
	split_request(1, s->va, s->size, s->order > 2 ? 2 : 0, -1);
	equal("split");
	p_verify(1, s->va, s->nr, 7);
	equal("read");
	p_madvise(1, s_page(s, 1), pgsz, MADV_DONTNEED);
	equal("MADV_DONTNEED of a page");
	p_exit(1);
	equal("gone");
}

static void collapses(struct fmi_scene *s)
{
	ready();
	if (s->kind != FMI_ANON)
		s_open(s, pmd_size);
	p_start(1);
	s_map(s, 1, s->va, pmd_size, 0);
	thp_only(s->kind, s->order, "always");
	p_fill(1, s->va, pmd_size / pgsz, 5);
	thp_never();
	equal("folios of a size");
	p_fork(1, 2);
	p_exit(2);
	if (p_try_madvise(1, s->va, pmd_size, MADV_COLLAPSE))
		fmi_skip("MADV_COLLAPSE refuses");
	is_compared(1, s->va, "collapsed");
	p_exit(1);
	equal("gone");
}

/* Killed in the middle of everything, and while tracking is switched. */
static void storm_ends_equal(struct fmi_scene *s)
{
	ready();
	storm_start(s, 2);
	for (int i = 0; i < 4; i++) {
		msleep(2000);
		fmi_eq(compare("differences"), 0, "differences in the storm");
	}
	storm_pause();
	equal("paused");
	storm_resume();
	for (int i = 0; i < 3; i++) {
		fmi_assert(fmi_write("enable", "0") > 0, "disable");
		fmi_eq(fmi_write("both", "compare"), -ENODEV, "compare while disabled");
		fmi_assert(fmi_write("enable", "1") > 0, "enable");
		fmi_eq(compare("differences"), 0, "differences after switching");
		in_flight = text_value(text, "second_untracked_in_flight");
	}
	storm_pause();
	equal("switched");
	storm_end();
	equal("gone");
	fmi_eq(text_value(text, "all_differences"), 0, "all differences");
}

/* What one of them is not told is found, once, with its place. */
static void is_found(struct fmi_scene *s, const char *fault)
{
	unsigned long head;
	char want[64];

	ready();
	module_needs_faults();
	module_plant("fault_drop", 0);
	module_plant("fault_drop_second", 0);
	begin(s);
	/* No PMD: its split is many calls. */
	p_madvise(1, s_page(s, 0), pgsz, MADV_DONTNEED);
	equal("before");
	folio_order(pagemap_pfn(p_pid(1), s_page(s, 1)), &head);
	module_plant(fault, 1);
	p_madvise(1, s_page(s, 1), pgsz, MADV_DONTNEED);
	module_plant(fault, 0);
	fmi_eq(compare("differences"), 1, "differences");
	snprintf(want, sizeof(want), " pfn=%lu ", head);
	fmi_assert(strstr(text, "\ndifference: ") && strstr(text, want), "no%sin\n%s", want, text);
	fmi_assert(strstr(text, "what=page:1 ") && strstr(text, "values=total:"),
		   "not what differs:\n%s", text);
	fmi_eq(compare("differences"), 0, "the same again");
	fmi_eq(text_value(text, "all_differences"), 1, "all differences");
	fmi_eq(fmi_stat("both_differences"), 1, "both_differences");
}

/* Of a folio that one still has, and the other has no more, which is mapped by nobody. */
static void a_folio_that_is_gone(struct fmi_scene *s)
{
	unsigned long head;
	char want[64];

	ready();
	module_needs_faults();
	module_plant("fault_drop", 0);
	module_plant("fault_drop_second", 0);
	fmi_assert(fmi_write("enable", "0") > 0 && fmi_write("enable", "1") > 0, "enable anew");
	begin(s);
	folio_order(pagemap_pfn(p_pid(1), s->va), &head);
	module_plant("fault_drop_second", 1);
	p_munmap(1, s->va, s->size);
	module_plant("fault_drop_second", 0);
	fmi_eq(compare("differences"), 1, "differences");
	snprintf(want, sizeof(want), " pfn=%lu ", head);
	fmi_assert(strstr(text, want) && strstr(text, " place=folio ") &&
		   strstr(text, " total=0/"), "no%sin\n%s", want, text);
	fmi_eq(compare("differences"), 0, "the same again");
	fmi_assert(fmi_write("enable", "0") > 0 && fmi_write("reset", "1") > 0, "reset");
}

/* What was found is forgotten while a comparison is under way. */
static void a_reset_while_it_compares(struct fmi_scene *s)
{
	ready();
	module_needs_faults();
	begin(s);
	p_madvise(1, s_page(s, 0), pgsz, MADV_DONTNEED);
	for (int i = 0; i < 6; i++) {
		int status;
		pid_t pid;

		fmi_assert(fmi_write("enable", "0") > 0 && fmi_write("enable", "1") > 0, "enable");
		module_plant("fault_drop_second", 1);
		p_madvise(1, s_page(s, 1 + (unsigned long)i), pgsz, MADV_DONTNEED);
		module_plant("fault_drop_second", 0);
		fmi_eq(compare("differences"), 1, "differences");
		pid = fork();
		fmi_assert(pid >= 0, "fork: %s", strerror(errno));
		if (!pid) {
			msleep(1 + (unsigned int)i);
			_exit(fmi_write("reset", "1") <= 0);
		}
		compare("differences");
		fmi_assert(waitpid(pid, &status, 0) == pid && !status, "reset: %d", status);
		fmi_eq(compare("differences"), 0, "differences");
	}
	fmi_assert(fmi_write("enable", "0") > 0 && fmi_write("reset", "1") > 0, "reset");
}

/* What only one of them has looked for so far is no difference. */
static void compared_while_it_is_scanned(struct fmi_scene *s)
{
	int compared = 0;

	begin(s);
	scan_takes_longer(2);
	scan_takes_longer(3);
	for (int i = 0; i < 5; i++) {
		pid_t pid;

		fmi_assert(fmi_write("enable", "0") > 0, "disable");
		pid = fork();
		fmi_assert(pid >= 0, "fork: %s", strerror(errno));
		if (!pid)
			_exit(fmi_write("enable", "1") <= 0);
		while (!waitpid(pid, NULL, WNOHANG)) {
			int ret = fmi_write("both", "compare");

			fmi_assert(ret > 0 || ret == -ENODEV, "compare: %s", strerror(-ret));
			compared += ret > 0;
		}
		equal("scanned by both");
	}
	fmi_note("%d comparisons meanwhile", compared);
	fmi_assert(compared > 0, "none was made meanwhile");
	fmi_eq(text_value(text, "all_differences"), 0, "all differences");
	is_compared(1, s->va, "at the end");
}

/* A signal ends the scan of the first, and with it that of the second. */
static void an_interrupted_scan(struct fmi_scene *s)
{
	int nr = 0;

	begin(s);
	scan_takes_longer(2);
	scan_takes_longer(3);
	for (int i = 0; i < 12; i++) {
		pid_t pid;

		fmi_assert(fmi_write("enable", "0") > 0, "disable");
		pid = fork();
		fmi_assert(pid >= 0, "fork: %s", strerror(errno));
		if (!pid)
			_exit(fmi_write("enable", "1") <= 0);
		while (!waitpid(pid, NULL, WNOHANG)) {
			fmi_assert(fmi_read("scan", text, sizeof(text)) > 0, "cannot read scan");
			if (strstr(text, "state: scanning\n") && text_value(text, "mms_done") > i)
				kill(pid, SIGKILL);
		}
		fmi_assert(fmi_read("scan", text, sizeof(text)) > 0, "cannot read scan");
		nr += !!strstr(text, "state: interrupted\n");
		fmi_eq(compare("differences"), 0, "differences after it");
		fmi_eq(compare("differences"), 0, "differences, once more");
	}
	fmi_note("%d of 12 scans were interrupted", nr);
	fmi_assert(nr > 0, "no scan was interrupted");
	fmi_assert(fmi_write("scan", "1") > 0, "scan");
	is_compared(1, s->va, "scanned");
	fmi_eq(text_value(text, "all_differences"), 0, "all differences");
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

	fmi_assert(fmi_read("stats", text, sizeof(text)) > 0, "cannot read stats");
	fmi_assert(text_find(text, "backend", got, sizeof(got)) && !strcmp(got, backend),
		   "backend %s, not %s", got, backend);
	fmi_assert(text_find(text, "backend_reason", got, sizeof(got)) &&
		   !strncmp(got, reason, strlen(reason)),
		   "backend_reason '%s', not '%s'", got, reason);
}

/* The parameter forces either backend; what the kernel lacks is refused. */
static void either_is_forced(struct fmi_scene *s)
{
	const char *said = "the parameter backend says so";
	bool there;
	int ret;

	unload();
	ret = module_load_file("selftest=0");
	fmi_assert(ret == 0, "without backend=: %s", strerror(-ret));
	there = fmi_tracepoints();
	backend_is(there ? "tracepoints" : "functions",
		   there ? "this kernel has all rmap tracepoints" :
		   "this kernel has no tracepoint ");
	unload();
	ret = module_load_file("backend=tracepoints");
	fmi_eq(ret, there ? 0 : -EOPNOTSUPP, "backend=tracepoints");
	if (there) {
		backend_is("tracepoints", said);
		unload();
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
	unload();
	ret = module_load_file("backend=both selftest=0");
	if (ret == 0)
		fmi_skip("this kernel has the rmap tracepoints");
	fmi_eq(ret, -EOPNOTSUPP, "backend=both");
	fmi_assert(!module_loaded(), "it is loaded all the same");
	fmi_eq(module_load_file("backend=neither"), -EINVAL, "backend=neither");
	ret = module_load_file("");
	fmi_assert(ret == 0, "without backend=: %s", strerror(-ret));
	fmi_assert(fmi_read("both", text, sizeof(text)) > 0, "cannot read both");
	fmi_assert(!strcmp(text, "state: off\n"), "both says:\n%s", text);
	fmi_eq(fmi_write("both", "compare"), -ENODEV, "compare");
	fmi_assert(fmi_write("enable", "1") > 0, "enable");
	fmi_eq(fmi_write("both", "compare"), -ENODEV, "compare while enabled");
	fmi_eq(fmi_write("both", "1"), -EINVAL, "another word");
	fmi_audit("all");
	fmi_read("stats", text, sizeof(text));
	fmi_assert(!strstr(text, "\nboth_"), "stats speak of both");
}

/* Statistics are those of one backend: nothing is counted twice. */
static void counts_once(struct fmi_scene *s)
{
	long long adds, removes, forks, moved;

	begin(s);
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
	equal("at the end");
}

static void leaves_one_backend(struct fmi_scene *s)
{
	(void)s;
	unload();
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
	{ "compared_while_it_is_scanned", compared_while_it_is_scanned,
	  (ON_ANON | ON_SHMEM) | NO_MODULE | ORDER4_ONLY | LONG },
	{ "an_interrupted_scan", an_interrupted_scan,
	  (ON_ANON | ON_SHMEM) | NO_MODULE | ORDER4_ONLY | LONG },
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
