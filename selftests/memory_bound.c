// SPDX-License-Identifier: GPL-2.0
/* The memory bound: what does not fit is lost and counted, the rest stays right. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

#define BOUND_KB 512
#define LEAST_KB 256

static void reload(const char *params)
{
	int ret;

	if (module_loaded()) {
		ret = module_unload();
		fmi_assert(!ret, "cannot unload: %s", strerror(-ret));
	}
	ret = module_load(params);
	fmi_assert(!ret, "cannot load with '%s': %s", params, strerror(-ret));
}

/* The bound is for the shadow; the tables of statistics are there without it. */
static long long start_bounded(void)
{
	long long tables;

	reload("mem_kb=512");
	tables = fmi_stat("memory_kb");
	fmi_assert(fmi_write("enable", "1") > 0, "enable");
	return tables;
}

static void within(long long tables, long long bound)
{
	long long shadow = fmi_stat("memory_kb") - tables;

	fmi_assert(shadow > 0 && shadow <= bound, "the shadow takes %lld KiB", shadow);
}

static void within_bound(long long tables)
{
	within(tables, BOUND_KB);
}

static void the_least_bound_is_kept(struct fmi_scene *s)
{
	long long tables;

	reload("mem_kb=256");
	tables = fmi_stat("memory_kb");
	fmi_assert(fmi_write("enable", "1") > 0, "enable");
	within(tables, LEAST_KB);
	s_populate(s);
	s_check(s, "tracked");
	within(tables, LEAST_KB);
}

static void map_many(struct fmi_scene *s, unsigned long va, unsigned long nr)
{
	p_mmap(1, va, nr * s->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	thp_only(s->kind, s->order, "always");
	for (unsigned long i = 0; i < nr; i++)
		p_write(1, va + i * s->size, 1);
	thp_never();
}

static void too_many_are_lost_and_counted(struct fmi_scene *s)
{
	unsigned long many = (ARENA_PMDS - 8) * pmd_size / s->size;
	unsigned long va = s->arena + 8 * pmd_size;
	long long tables;

	tables = start_bounded();
	p_start(1);
	map_many(s, va, many);
	for (int who = 2; who < FMI_ACTORS; who++)
		p_fork(1, who);
	within_bound(tables);
	fmi_assert(fmi_stat("lost") > 0, "%lu folios in %d KiB: nothing lost", many, BOUND_KB);
	fmi_assert(fmi_stat("tracked_folios") > 0, "nothing tracked");
	fmi_eq(fmi_stat("inconsistent"), 0, "inconsistent");
	fmi_eq(fmi_stat("mismatches"), 0, "mismatches");
	fmi_audit("all");
	/* All gone: what is mapped next is tracked again. */
	for (int who = 2; who < FMI_ACTORS; who++)
		p_exit(who);
	p_munmap(1, va, many * s->size);
	fmi_audit("all");
	fmi_assert(fmi_write("enable", "0") > 0 && fmi_write("enable", "1") > 0, "enable again");
	s_map(s, 1, s->va, s->size, 0);
	s_fault(s, 1, s->va);
	s_mapped_whole(s, 1, s->va);
	s_check(s, "tracked again");
	s_fork(s, 1, 2);
	s_check(s, "forked");
	s_cow(s, 2, 0);
	s_check(s, "written");
}

static void without_a_pause(struct fmi_scene *s)
{
	unsigned long many = (ARENA_PMDS - 8) * pmd_size / s->size;
	unsigned long va = s->arena + 8 * pmd_size;
	long long tables, lost;

	tables = start_bounded();
	p_start(1);
	for (int round = 0; round < 3; round++) {
		map_many(s, va, many);
		for (int who = 2; who < FMI_ACTORS; who++)
			p_fork(1, who);
		fmi_audit("all");
		for (int who = 2; who < FMI_ACTORS; who++)
			p_exit(who);
		p_munmap(1, va, many * s->size);
		within_bound(tables);
	}
	fmi_audit("all");
	lost = fmi_stat("lost");
	fmi_assert(lost > 0, "nothing lost");
	fmi_eq(fmi_stat("inconsistent"), 0, "inconsistent");
	fmi_eq(fmi_stat("mismatches"), 0, "mismatches");
}

static void loads_with_the_defaults_again(struct fmi_scene *s)
{
	(void)s;
	reload("");
	module_ready();
	fmi_audit("all");
}

static void refuses_bad_parameters(struct fmi_scene *s)
{
	static const char *const bad[] = {
		"mem_kb=x", "enable=x", "mem_kb=-1", "enable=7", "mem_kb=255",
		"mem_kb=100000000",
	};

	(void)s;
	if (module_loaded())
		fmi_assert(!module_unload(), "cannot unload");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		fmi_assert(module_load(bad[i]) < 0 && !module_loaded(), "loaded with %s", bad[i]);
}

static const struct fmi_test tests[] = {
	{ "too_many_are_lost_and_counted", too_many_are_lost_and_counted,
	  ON_ANON | NO_MODULE | ORDER4_ONLY },
	{ "without_a_pause", without_a_pause, ON_ANON | NO_MODULE | ORDER4_ONLY },
	{ "the_least_bound_is_kept", the_least_bound_is_kept, ON_ANON | NO_MODULE | ORDER4_ONLY },
	{ "refuses_bad_parameters", refuses_bad_parameters, ON_ONCE | NO_MODULE },
	{ "loads_with_the_defaults_again", loads_with_the_defaults_again, ON_ONCE | NO_MODULE },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
