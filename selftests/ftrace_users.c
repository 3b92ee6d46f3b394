// SPDX-License-Identifier: GPL-2.0
/*
 * Others who trace the hooked functions, and ftrace switched off: everything is exact, or the
 * folios concerned are lost and counted.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_tracers.h"
#include "fmi_util.h"

#define FUNCTIONS "folio_*_rmap_* copy_page_range copy_huge_pmd move_page_tables " \
		  "vma_adjust_trans_huge __pte_alloc"

/*
 * The graph tracer's users with index 0 are told of the exits of functions that only others
 * traced, and fprobe warns of that once (Documentation/kernel/fgraph-bit0.rst): only functions
 * that both trace.
 */
static const char *graphed(void)
{
	return fmi_tracepoints() ?
		       "vma_adjust_trans_huge" :
		       "copy_page_range copy_huge_pmd move_page_tables vma_adjust_trans_huge";
}

static void add_event(const char *definition)
{
	if (write_text(TRACEFS "dynamic_events", definition) <= 0)
		fmi_skip("no event '%s'", definition);
	tracer_set("events/fmi_users/enable", "1");
}

/* Fork, copy on write, partial unmap, a VMA split, exit: the list knows what must be there. */
static void work(struct fmi_scene *s)
{
	s_fork(s, 1, 2);
	s_check(s, "forked");
	s_cow(s, 2, 1);
	s_check(s, "child wrote a page");
	s_munmap(s, 1, 3, 2);
	s_check(s, "parent unmapped two pages in the middle");
	s_fork(s, 1, 3);
	s_check(s, "forked with holes");
	s_exit(s, 2);
	s_dontneed(s, 3, 6, 1);
	s_check(s, "second child dropped a page");
	s_exit(s, 3);
	s_check(s, "children gone");
}

static const char *const losses[] = {
	"missed_calls", "windows_missed", "windows_abnormal", "blind_calls", "hooks_dead", "missed",
};

static long long before[ARRAY_SIZE(losses)];

static void again(struct fmi_scene *s)
{
	(void)s;
	fmi_assert(fmi_write("enable", "0") > 0, "disable");
	fmi_assert(fmi_write("enable", "1") > 0, "enable");
	for (size_t i = 0; i < ARRAY_SIZE(losses); i++)
		before[i] = fmi_stat(losses[i]);
}

static void nothing_missed(void)
{
	fmi_audit("all");
	for (size_t i = 0; i < ARRAY_SIZE(losses); i++)
		fmi_eq(fmi_stat(losses[i]), before[i], losses[i]);
}

static void beside(struct fmi_scene *s)
{
	s_populate(s);
	work(s);
	nobody_traces();
	nothing_missed();
}

static void function_tracer(struct fmi_scene *s)
{
	nobody_traces();
	again(s);
	start_tracer("function", FUNCTIONS);
	beside(s);
}

static void function_graph(struct fmi_scene *s)
{
	nobody_traces();
	again(s);
	start_tracer("function_graph", graphed());
	beside(s);
}

/* Its hooks are placed before ours, and stay when ours go. */
static void function_graph_first(struct fmi_scene *s)
{
	nobody_traces();
	start_tracer("function_graph", graphed());
	again(s);
	s_populate(s);
	work(s);
	nothing_missed();
	again(s);
	/* It goes while ours are there. */
	nobody_traces();
	s_exit(s, 1);
	nothing_missed();
}

/*
 * Which index of the shadow stack fprobe gets goes round, and with index 0 it is told of the exit
 * of each call that function_graph traces: also of those that copy nothing. The kernel warns of an
 * exit that fprobe did not ask for.
 */
static void function_graph_at_each_index(struct fmi_scene *s)
{
	nobody_traces();
	start_tracer("function_graph", graphed());
	again(s);
	s_populate(s);
	for (int i = 0; i < 17; i++) {
		again(s);
		p_fork(1, 2);
		p_exit(2);
		nothing_missed();
	}
	nobody_traces();
	s_exit(s, 1);
}

static void kprobes(struct fmi_scene *s)
{
	nobody_traces();
	again(s);
	add_event("p:fmi_users/remove folio_remove_rmap_ptes");
	add_event("p:fmi_users/add folio_add_anon_rmap_ptes");
	add_event("r:fmi_users/copied copy_page_range");
	add_event("p:fmi_users/copy copy_page_range");
	beside(s);
}

/*
 * A kretprobe puts an address of its own in the place of the caller's. Who calls tells a split
 * from a merge: if that is hidden, the folio at the edge in question is lost; nothing is wrong.
 */
static void kretprobe_hides_the_caller(struct fmi_scene *s)
{
	const unsigned long half = s->size / 2;
	long long lost;

	nobody_traces();
	again(s);
	lost = fmi_stat("lost_window");
	add_event("r:fmi_users/adjusted vma_adjust_trans_huge");
	s_populate(s);
	p_mprotect(1, s->va + half, half, PROT_READ);
	ex_vma_split(&s->e, 1, s->va + half);
	ex_split(&s->e, 1, s->va, s->size);
	s_check(s, "two VMAs");
	/* As if the second one began here now. */
	p_mprotect(1, s->va, half / 2, PROT_READ);
	ex_vma_split(&s->e, 1, s->va + half / 2);
	fmi_audit("all");
	lost = fmi_stat("lost_window") - lost;
	fmi_note("%lld folios lost", lost);
	fmi_assert(lost <= 1, "too many");
	if (!lost)
		s_check(s, "three VMAs");
	s_exit(s, 1);
	nobody_traces();
	nothing_missed();
	/* This loss is none by error. */
	fmi_assert(fmi_write("reset", "stats") > 0, "reset");
}

static void fprobes(struct fmi_scene *s)
{
	nobody_traces();
	add_event("f:fmi_users/copy copy_page_range");
	add_event("f:fmi_users/copied copy_page_range%return");
	again(s);
	add_event("f:fmi_users/removed folio_remove_rmap_ptes%return");
	beside(s);
}

static void ftrace_switched_off(struct fmi_scene *s)
{
	static const char knob[] = "/proc/sys/kernel/ftrace_enabled";
	char value[8];
	bool for_good;
	int ret;

	nobody_traces();
	again(s);
	ret = write_text(knob, "0");
	/* Since 7.3 nobody can switch it off, hooks or not. */
	for_good = ret == -EOPNOTSUPP;
	if (!for_good)
		fmi_eq(ret, -EBUSY, "ftrace switched off under the hooks");
	fmi_assert(read_text(knob, value, sizeof(value)) > 0 && *value == '1', "it is off");
	s_populate(s);
	work(s);
	nothing_missed();
	s_exit(s, 1);
	fmi_assert(fmi_write("enable", "0") > 0, "disable");
	if (for_good) {
		fmi_eq(write_text(knob, "0"), -EOPNOTSUPP, "ftrace switched off without hooks");
		again(s);
		return;
	}
	fmi_assert(write_text(knob, "0") > 0, "cannot switch ftrace off");
	ret = fmi_write("enable", "1");
	fmi_assert(write_text(knob, "1") > 0, "cannot switch ftrace on");
	fmi_eq(ret, -EBUSY, "enabled without ftrace");
	fmi_eq(fmi_stat("enabled"), 0, "enabled");
	fmi_eq(fmi_stat("tracked_folios"), 0, "tracked_folios");
	again(s);
}

/* Does somebody hook a function? */
static bool is_hooked(const char *function)
{
	static char text[1 << 16];
	const size_t len = strlen(function);

	if (read_text(TRACEFS "enabled_functions", text, sizeof(text)) < 0)
		fmi_skip("no enabled_functions");
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, function, len) && line[len] == ' ')
			return true;
	}
	return false;
}

/* While tracking is off nothing is called, and costs nothing. */
static void no_hook_while_disabled(struct fmi_scene *s)
{
	static const char *const functions[] = {
		"folio_add_new_anon_rmap", "folio_add_anon_rmap_ptes", "folio_remove_rmap_ptes",
		"copy_page_range", "move_page_tables", "__pte_alloc", "vma_adjust_trans_huge",
		"do_wp_page", "deferred_split_folio",
	};
	int hooked = 0;

	nobody_traces();
	again(s);
	for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
		hooked += is_hooked(functions[i]);
	fmi_note("%d of %zu functions are hooked", hooked, ARRAY_SIZE(functions));
	/* With tracepoints only those that have none. */
	fmi_assert(hooked >= (fmi_tracepoints() ? 1 : 7), "they are not hooked");
	fmi_assert(fmi_write("enable", "0") > 0, "disable");
	for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
		fmi_assert(!is_hooked(functions[i]), "%s is hooked", functions[i]);
	again(s);
}

#define ONE_SIZE (ON_ANON | ORDER4_ONLY)
#define OF_PMDS (ON_ANON | PMD_ONLY)

static const struct fmi_test tests[] = {
	{ "function_tracer", function_tracer, ONE_SIZE },
	{ "function_tracer", function_tracer, OF_PMDS },
	{ "function_graph", function_graph, ONE_SIZE },
	{ "function_graph", function_graph, OF_PMDS },
	{ "function_graph_first", function_graph_first, ONE_SIZE },
	{ "function_graph_first", function_graph_first, OF_PMDS },
	{ "function_graph_at_each_index", function_graph_at_each_index, ONE_SIZE },
	{ "kprobes", kprobes, ONE_SIZE },
	{ "kprobes", kprobes, OF_PMDS },
	{ "kretprobe_hides_the_caller", kretprobe_hides_the_caller, ONE_SIZE },
	{ "kretprobe_hides_the_caller", kretprobe_hides_the_caller, OF_PMDS },
	{ "fprobes", fprobes, ONE_SIZE },
	{ "fprobes", fprobes, OF_PMDS },
	{ "ftrace_switched_off", ftrace_switched_off, ONE_SIZE },
	{ "no_hook_while_disabled", no_hook_while_disabled, ONE_SIZE },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
