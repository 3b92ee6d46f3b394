// SPDX-License-Identifier: GPL-2.0
/*
 * Hooks with exit that do not see a call, or not its exit, and windows that find no room: the
 * folios concerned are lost and counted. Needs a module with planted faults.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_tracers.h"
#include "fmi_uffd.h"
#include "fmi_util.h"

/* Loads a module with a fault; the positions of hooks are those of selftest/watch.rs. */
static void load_with(const char *fault)
{
	char params[96];
	int ret;

	ret = module_loaded() ? module_unload() : 0;
	fmi_assert(ret == 0, "rmmod: %s", strerror(-ret));
	ret = module_load("selftest=0");
	fmi_assert(ret == 0, "load: %s", strerror(-ret));
	module_needs_faults();
	fmi_assert(module_unload() == 0, "rmmod");
	snprintf(params, sizeof(params), "selftest=0 enable=1 %s", fault);
	ret = module_load(params);
	fmi_assert(ret == 0, "load with '%s': %s", params, strerror(-ret));
	/* Another hook with exit has been seen to run before its second one. */
	p_start(5);
	p_exit(5);
}

static void counted_and_lost(const char *counter)
{
	fmi_assert(fmi_stat(counter) > 0, "%s is 0", counter);
	fmi_assert(fmi_stat("lost_window") > 0, "lost_window is 0");
	fmi_eq(fmi_stat("mismatches"), 0, "mismatches");
	fmi_eq(fmi_stat("inconsistent"), 0, "inconsistent");
	fmi_audit("all");
	fmi_assert(module_unload() == 0, "rmmod");
}

static void fork_blindly(struct fmi_scene *s)
{
	load_with("fault_blind=12");
	module_needs_windows();
	s_populate(s);
	p_fork(1, 2);
	p_write(2, s->va, 1);
	p_fork(2, 3);
	p_exit(1);
	p_exit(2);
	counted_and_lost("windows_missed");
}

static void missed_fork(struct fmi_scene *s)
{
	nobody_traces();
	fork_blindly(s);
}

/* The other order of the two hooks: what was missed is known later. */
static void missed_fork_behind_a_tracer(struct fmi_scene *s)
{
	nobody_traces();
	/* Not what only it would trace then. */
	start_tracer("function_graph", "vma_adjust_trans_huge");
	fork_blindly(s);
	nobody_traces();
}

static void missed_mremap(struct fmi_scene *s)
{
	nobody_traces();
	load_with("fault_blind=14");
	module_needs_windows();
	s_populate(s);
	p_mremap(1, s->va, s->size, s->va + 8 * pmd_size + 3 * pgsz, MREMAP_MAYMOVE | MREMAP_FIXED);
	p_munmap(1, s->va + 8 * pmd_size + 3 * pgsz, pgsz);
	counted_and_lost("windows_missed");
}

static void missed_vma_split(struct fmi_scene *s)
{
	nobody_traces();
	load_with("fault_blind=16");
	s_populate(s);
	p_mprotect(1, s->va + 3 * pgsz, pgsz, PROT_READ);
	counted_and_lost("windows_missed");
}

/* Where the folio of s->va is moved to by UFFDIO_MOVE. */
static unsigned long uffd_target(const struct fmi_scene *s)
{
	return s->arena + 16 * pmd_size;
}

static void uffd_move_blindly(struct fmi_scene *s, const char *fault)
{
	nobody_traces();
	load_with(fault);
	module_needs_windows();
	s_populate(s);
	p_mmap(1, uffd_target(s), s->size, PROT_READ | PROT_WRITE,
	       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	p_uffd_move(1, uffd_target(s), s->va, s->size);
}

static void missed_uffd_move(struct fmi_scene *s)
{
	uffd_move_blindly(s, "fault_blind=15");
	counted_and_lost("windows_missed");
}

/* As one that began before the hooks were placed: that it moves a folio is seen, not from where. */
static void unseen_uffd_move(struct fmi_scene *s)
{
	uffd_move_blindly(s, "fault_blind=15 fault_blind_too=20");
	fmi_eq(fmi_stat("windows_missed"), 0, "windows_missed");
	counted_and_lost("moves_unseen");
}

static void uffd_move_without_exit(struct fmi_scene *s)
{
	uffd_move_blindly(s, "fault_exit=15");
	fmi_audit("all");
	p_fork(1, 2);
	p_exit(2);
	counted_and_lost("windows_abnormal");
}

/* The first of two splits is found by the second one, that when the task is gone. */
static void vma_split_without_exit(struct fmi_scene *s)
{
	long long found;

	nobody_traces();
	load_with("fault_exit=16");
	s_populate(s);
	p_mprotect(1, s->va + 3 * pgsz, pgsz, PROT_READ);
	found = fmi_stat("windows_abnormal");
	fmi_assert(found > 0, "nobody noticed");
	p_exit(1);
	fmi_audit("all");
	fmi_assert(fmi_stat("windows_abnormal") > found, "nobody noticed, the task is gone");
	counted_and_lost("windows_abnormal");
}

/* An actor is as a task that the kernel left without a return stack; 0: none is. */
static void no_stack(int who)
{
	module_plant("fault_no_stack", who ? (unsigned int)p_pid(who) : 0);
}

static void no_return_stack(struct fmi_scene *s)
{
	nobody_traces();
	load_with("");
	module_needs_windows();
	s_populate(s);
	no_stack(1);
	p_fork(1, 2);
	p_write(2, s->va, 1);
	p_mremap(1, s->va, s->size, s->va + 8 * pmd_size + 3 * pgsz, MREMAP_MAYMOVE | MREMAP_FIXED);
	p_munmap(1, s->va + 8 * pmd_size + 3 * pgsz, pgsz);
	p_exit(1);
	p_exit(2);
	counted_and_lost("blind_calls");
}

static long do_full_stack(unsigned long va, unsigned long len, unsigned long c, unsigned long d)
{
	char text[64];

	(void)c;
	(void)d;
	snprintf(text, sizeof(text), "%lx %lx", va, len);
	return write_text("/sys/module/" FMI_NAME "/parameters/fault_full_stack", text);
}

/* The kernel finds no room there for a call that splits a VMA. */
static void full_return_stack(struct fmi_scene *s)
{
	long ret;

	nobody_traces();
	load_with("");
	s_populate(s);
	fmi_eq(fmi_stat("windows_missed"), 0, "windows_missed before");
	ret = p_call(1, do_full_stack, s_page(s, 3), pgsz, 0, 0);
	fmi_assert(ret > 0, "fault_full_stack: %s", strerror((int)-ret));
	fmi_eq(pagemap_pfn(p_pid(1), s_page(s, 3)), 0, "a page that was unmapped");
	counted_and_lost("windows_missed");
}

/*
 * A write fault that makes a folio exclusive again is no move, though its task has a window open,
 * and a VMA in which it could be one.
 */
static void uffd_window_left_over(struct fmi_scene *s)
{
	unsigned long from = s->arena + 20 * pmd_size, other = uffd_target(s) + s->size;

	nobody_traces();
	load_with("fault_exit=15");
	module_needs_windows();
	s_populate(s);
	p_mmap(1, uffd_target(s), 2 * s->size, PROT_READ | PROT_WRITE,
	       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	s_fault(s, 1, other);
	p_fork(1, 2);
	p_exit(2);
	p_mmap(1, from, s->size, PROT_READ | PROT_WRITE,
	       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	s_fault(s, 1, from);
	p_uffd_move(1, uffd_target(s), from, s->size);
	fmi_assert(fmi_stat("windows_open") > 0, "no window is left over");
	p_write(1, other, 1);
	fmi_eq(fmi_stat("lost"), 0, "lost");
	fmi_audit("all");
	p_fork(1, 2);
	p_exit(2);
	counted_and_lost("windows_abnormal");
}

/* The window is found open at the next fork of the task, or when the task is gone. */
static void fork_without_exit(struct fmi_scene *s)
{
	long long left;

	nobody_traces();
	load_with("fault_exit=12");
	module_needs_windows();
	s_populate(s);
	p_fork(1, 2);
	p_munmap(1, s->va, pgsz);
	p_fork(1, 3);
	p_write(2, s->va + pgsz, 1);
	p_exit(3);
	p_exit(2);
	left = fmi_stat("windows_open");
	p_exit(1);
	fmi_audit("all");
	fmi_eq(fmi_stat("windows_open"), left - 1, "windows_open after the task is gone");
	counted_and_lost("windows_abnormal");
}

static void mremap_without_exit(struct fmi_scene *s)
{
	nobody_traces();
	load_with("fault_exit=14");
	module_needs_windows();
	s_populate(s);
	p_mremap(1, s->va, s->size, s->va + 8 * pmd_size + 3 * pgsz, MREMAP_MAYMOVE | MREMAP_FIXED);
	p_fork(1, 2);
	fmi_audit("all");
	p_munmap(1, s->va + 8 * pmd_size + 3 * pgsz, pgsz);
	p_exit(1);
	p_exit(2);
	counted_and_lost("windows_abnormal");
}

/*
 * A task without a return stack merges three VMAs, each longer than a folio may be: where the
 * second one ended is an edge no more, and far from all that the call says.
 */
static void missed_vma_merge(struct fmi_scene *s)
{
	const unsigned long first = s->arena + 16 * pmd_size, second = first + 2 * pmd_size;
	const unsigned long third = second + 2 * pmd_size + s->size / 2;
	long long lost;

	nobody_traces();
	load_with("");
	p_start(1);
	p_mmap(1, first, 8 * pmd_size, PROT_READ | PROT_WRITE,
	       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	s_fault(s, 1, third - s->size / 2);
	p_mprotect(1, second, third - second, PROT_READ);
	fmi_audit("all");
	lost = fmi_stat("lost_window");
	no_stack(1);
	p_mprotect(1, second, third - second, PROT_READ | PROT_WRITE);
	no_stack(0);
	fmi_assert(fmi_stat("lost_window") > lost, "nothing was lost");
	counted_and_lost("blind_calls");
}

/* As long as something is under way that found no room, no folio is compared. */
static void nothing_is_under_way(struct fmi_scene *s)
{
	static char text[1 << 16];

	p_mmap(1, uffd_target(s), s->size, PROT_READ | PROT_WRITE,
	       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	s_fault(s, 1, uffd_target(s));
	fmi_audit("all");
	fmi_assert(fmi_read("audit", text, sizeof(text)) > 0, "cannot read audit");
	fmi_assert(text_value(text, "compared") > 0, "nothing was compared");
	fmi_eq(text_value(text, "deferred"), 0, "deferred");
}

/* A fork that finds no room for its window: what it copies is lost, all else is exact. */
static void fork_without_room(struct fmi_scene *s)
{
	nobody_traces();
	load_with("");
	module_needs_windows();
	s_populate(s);
	module_plant("fault_no_room", 1);
	p_fork(1, 2);
	module_plant("fault_no_room", 0);
	nothing_is_under_way(s);
	p_write(2, s->va, 1);
	p_exit(2);
	counted_and_lost("windows_overflow");
}

/* What mremap moves then is found when it returns. */
static void mremap_without_room(struct fmi_scene *s)
{
	const unsigned long to = s->va + 8 * pmd_size + 3 * pgsz;

	nobody_traces();
	load_with("");
	module_needs_windows();
	s_populate(s);
	module_plant("fault_no_room", 1);
	p_mremap(1, s->va, s->size, to, MREMAP_MAYMOVE | MREMAP_FIXED);
	module_plant("fault_no_room", 0);
	fmi_assert(fmi_stat("windows_overflow") > 0, "windows_overflow is 0");
	nothing_is_under_way(s);
	p_munmap(1, to, pgsz);
	fmi_audit("all");
	fmi_eq(fmi_stat("lost"), 0, "lost");
	fmi_eq(fmi_stat("inconsistent"), 0, "inconsistent");
	fmi_assert(module_unload() == 0, "rmmod");
}

#define ONE_SIZE (ON_ANON | ORDER4_ONLY)
#define OF_PMDS (ON_ANON | PMD_ONLY)

static const struct fmi_test tests[] = {
	{ "missed_fork", missed_fork, ONE_SIZE | NO_MODULE },
	{ "missed_fork", missed_fork, OF_PMDS | NO_MODULE },
	{ "missed_fork_behind_a_tracer", missed_fork_behind_a_tracer, ONE_SIZE | NO_MODULE },
	{ "missed_fork_behind_a_tracer", missed_fork_behind_a_tracer, OF_PMDS | NO_MODULE },
	{ "missed_mremap", missed_mremap, ONE_SIZE | NO_MODULE },
	{ "missed_mremap", missed_mremap, OF_PMDS | NO_MODULE },
	{ "no_return_stack", no_return_stack, ONE_SIZE | NO_MODULE },
	{ "no_return_stack", no_return_stack, OF_PMDS | NO_MODULE },
	{ "full_return_stack", full_return_stack, ONE_SIZE | NO_MODULE },
	{ "full_return_stack", full_return_stack, OF_PMDS | NO_MODULE },
	{ "fork_without_exit", fork_without_exit, ONE_SIZE | NO_MODULE },
	{ "fork_without_exit", fork_without_exit, OF_PMDS | NO_MODULE },
	{ "mremap_without_exit", mremap_without_exit, ONE_SIZE | NO_MODULE },
	{ "mremap_without_exit", mremap_without_exit, OF_PMDS | NO_MODULE },
	{ "missed_uffd_move", missed_uffd_move, OF_PMDS | NO_MODULE },
	{ "unseen_uffd_move", unseen_uffd_move, OF_PMDS | NO_MODULE },
	{ "uffd_move_without_exit", uffd_move_without_exit, OF_PMDS | NO_MODULE },
	{ "uffd_window_left_over", uffd_window_left_over, OF_PMDS | NO_MODULE },
	{ "missed_vma_split", missed_vma_split, ONE_SIZE | NO_MODULE },
	{ "vma_split_without_exit", vma_split_without_exit, ONE_SIZE | NO_MODULE },
	{ "vma_split_without_exit", vma_split_without_exit, OF_PMDS | NO_MODULE },
	{ "missed_vma_merge", missed_vma_merge, ONE_SIZE | NO_MODULE },
	{ "fork_without_room", fork_without_room, ONE_SIZE | NO_MODULE },
	{ "fork_without_room", fork_without_room, OF_PMDS | NO_MODULE },
	{ "mremap_without_room", mremap_without_room, ONE_SIZE | NO_MODULE },
	{ "mremap_without_room", mremap_without_room, OF_PMDS | NO_MODULE },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
