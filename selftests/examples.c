// SPDX-License-Identifier: GPL-2.0
/* Known disagreements: each leaves an example with its numbers, and fires the tracepoint. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

#define TRACEFS "/sys/kernel/tracing"
/* An instance of our own: nobody else's events are in it. */
#define INSTANCE TRACEFS "/instances/fmi_examples"
#define EVENT INSTANCE "/events/folio_mapcount/disagree"

/*
 * A full cell takes one example in a millisecond, an evaluation that was told four times is
 * told again in 160.
 */
#define PAUSE_MS 170

static char text[1 << 24];

enum column {
	DEFINITION, QUESTION, ANSWER, TYPE, ORDER, TIME_NS, PID, COMM, OPERATION, PFN, MAPPERS,
	VALUES, NR_COLUMNS,
};

struct example {
	char *column[NR_COLUMNS];
};

static void write_examples(const char *filter)
{
	int ret = fmi_write("examples", filter);

	fmi_assert(ret > 0, "examples '%s': %s", filter, strerror(-ret));
}

static char *read_examples(void)
{
	int ret = fmi_read("examples", text, sizeof(text));

	fmi_assert(ret > 0, "read examples: %s", strerror(-ret));
	return strchr(text, '\n') + 1;
}

/* Cuts the next line into its columns; false at the end. */
static bool next_example(char **lines, struct example *ex)
{
	char *line = strsep(lines, "\n");

	if (!line || !*line)
		return false;
	for (int i = 0; i < NR_COLUMNS; i++)
		ex->column[i] = strsep(&line, "\t");
	fmi_assert(ex->column[VALUES] && !line, "not %d columns", NR_COLUMNS);
	return true;
}

static bool is(const struct example *ex, enum column which, const char *value)
{
	return !strcmp(ex->column[which], value);
}

/* The last example of a pair that is about a folio; false if there is none. */
static bool find_example(unsigned long pfn, const char *definition, const char *question,
			 struct example *found)
{
	char *lines = read_examples();
	struct example ex;
	bool any = false;

	while (next_example(&lines, &ex)) {
		if (is(&ex, DEFINITION, definition) && is(&ex, QUESTION, question) &&
		    strtoul(ex.column[PFN], NULL, 10) == pfn) {
			*found = ex;
			any = true;
		}
	}
	return any;
}

/* The number behind "name=" in a list that commas separate. */
static long value_of(const struct example *ex, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = ex->column[VALUES]; p; p = strchr(p, ',')) {
		p += *p == ',';
		if (!strncmp(p, name, len) && p[len] == '=')
			return strtol(p + len + 1, NULL, 10);
	}
	fmi_fail("no value of %s in '%s'", name, ex->column[VALUES]);
}

/* Whether a process is named as mapping these pages at this base. */
static bool has_mapper(const struct example *ex, pid_t pid, unsigned long base, unsigned long first,
		       unsigned long last)
{
	char copy[512], *rest = copy, *one;

	snprintf(copy, sizeof(copy), "%s", ex->column[MAPPERS]);
	while ((one = strsep(&rest, ";"))) {
		unsigned long at, pages, from, to;
		int who, mm_id;

		if (sscanf(one, "%d:%d:0x%lx:%lu@%lu-%lu", &who, &mm_id, &at, &pages, &from,
			   &to) != 6 || who != pid || mm_id <= 0 || at != base)
			continue;
		if (from == first && to == last && pages == last - first + 1)
			return true;
	}
	return false;
}

/* Examples of earlier cases may be about a folio at the same place. */
static void forget(void)
{
	fmi_assert(fmi_write("reset", "1") > 0, "reset");
}

/* After this first_page says that the folio is not mapped. */
static void make_first_page_wrong(struct fmi_scene *s)
{
	forget();
	s_populate(s);
	s_fork(s, 1, 2);
	s_dontneed(s, 2, 0, 1);
	s_check(s, "the child without page 0");
	s_dontneed(s, 1, 0, 1);
}

static void first_page_says_not_mapped(struct fmi_scene *s)
{
	struct example ex;

	make_first_page_wrong(s);
	fmi_assert(find_example(s->e.pfn, "first_page", "mapped", &ex), "no example");
	fmi_assert(is(&ex, ANSWER, "no"), "answer '%s'", ex.column[ANSWER]);
	fmi_assert(is(&ex, TYPE, "anon"), "type '%s'", ex.column[TYPE]);
	fmi_eq(atoi(ex.column[ORDER]), s->order, "order");
	fmi_assert(atoll(ex.column[TIME_NS]) > 0, "time '%s'", ex.column[TIME_NS]);
	fmi_eq(value_of(&ex, "total"), 2 * (s->nr - 1), "total");
	fmi_eq(value_of(&ex, "entire"), 0, "entire");
	fmi_eq(value_of(&ex, "first_page"), 0, "first_page");
	fmi_eq(value_of(&ex, "max_page"), 2, "max_page");
	fmi_eq(value_of(&ex, "nr_pages_mapped"), s->nr - 1, "nr_pages_mapped");
	fmi_eq(value_of(&ex, "mm"), 2, "mm");
	fmi_eq(value_of(&ex, "vma"), 2, "vma");
	for (int who = 1; who <= 2; who++)
		fmi_assert(has_mapper(&ex, p_pid(who), s->va, 1, s->nr - 1),
			   "process %d is not among '%s'", p_pid(who), ex.column[MAPPERS]);
	s_check(s, "nobody maps page 0");
}

/* It is evaluated when the file is read, but the work of the process that made it so. */
static void the_task_is_that_of_the_run(struct fmi_scene *s)
{
	struct example ex;
	char comm[16];

	make_first_page_wrong(s);
	fmi_assert(find_example(s->e.pfn, "first_page", "mapped", &ex), "no example");
	fmi_eq(atoi(ex.column[PID]), p_pid(1), "pid");
	/* The processes of a scene are forked from this one. */
	fmi_assert(!prctl(PR_GET_NAME, comm), "comm");
	fmi_assert(is(&ex, COMM, comm), "comm '%s', not '%s'", ex.column[COMM], comm);
}

static void the_operation_is_that_of_the_run(struct fmi_scene *s)
{
	struct example ex;

	make_first_page_wrong(s);
	fmi_assert(find_example(s->e.pfn, "first_page", "mapped", &ex), "no example");
	fmi_assert(is(&ex, OPERATION, "zap_dontneed"), "operation '%s'", ex.column[OPERATION]);
}

/* One process maps all of it once: first_page is right about all it claims. */
static void who_is_right_has_no_example(struct fmi_scene *s)
{
	struct example ex;

	forget();
	s_populate(s);
	fmi_assert(!find_example(s->e.pfn, "first_page", "mapped", &ex), "mapped");
	fmi_assert(!find_example(s->e.pfn, "first_page", "shared", &ex), "shared");
	fmi_assert(!find_example(s->e.pfn, "mm", "shared", &ex), "mm");
}

static void mappers_beyond_four_are_counted(struct fmi_scene *s)
{
	struct example ex;

	forget();
	s_populate(s);
	for (int who = 2; who < FMI_ACTORS; who++)
		s_fork(s, 1, who);
	for (int who = FMI_ACTORS - 1; who > 0; who--)
		s_dontneed(s, who, 0, 1);
	fmi_assert(find_example(s->e.pfn, "first_page", "mapped", &ex), "no example");
	fmi_eq(value_of(&ex, "mm"), FMI_ACTORS - 1, "mm");
	fmi_assert(strstr(ex.column[MAPPERS], ";+1 more"), "mappers '%s'", ex.column[MAPPERS]);
}

static void the_last_four_are_kept(struct fmi_scene *s)
{
	unsigned long pfn[6];
	struct example ex;
	char *lines;
	int nr = 0;

	forget();
	p_start(1);
	s_map(s, 1, s->va, ARRAY_SIZE(pfn) * s->size, 0);
	thp_only(s->kind, s->order, "always");
	for (size_t i = 0; i < ARRAY_SIZE(pfn); i++)
		p_write(1, s->va + i * s->size, 1);
	thp_never();
	for (size_t i = 0; i < ARRAY_SIZE(pfn); i++) {
		pfn[i] = pagemap_pfn(p_pid(1), s->va + i * s->size);
		fmi_assert(pfn[i], "folio %zu is not mapped", i);
		s_dontneed(s, 1, i * s->nr, 1);
		read_examples();
		msleep(PAUSE_MS);
	}
	write_examples("definition=first_page question=mapped type=anon");
	lines = read_examples();
	while (next_example(&lines, &ex)) {
		if ((unsigned int)atoi(ex.column[ORDER]) != s->order)
			continue;
		fmi_assert(nr < 4, "more than 4 examples");
		fmi_eq(strtoul(ex.column[PFN], NULL, 10), pfn[2 + nr], "pfn");
		nr++;
	}
	fmi_eq(nr, 4, "examples");
}

static void filter_selects(struct fmi_scene *s)
{
	char order[16], want[8];
	struct example ex;
	char *lines;
	int nr = 0;

	make_first_page_wrong(s);
	fmi_assert(find_example(s->e.pfn, "first_page", "mapped", &ex), "no example");
	snprintf(want, sizeof(want), "%u", s->order);
	snprintf(order, sizeof(order), "order=%s", want);
	write_examples("definition=first_page question=mapped type=anon");
	write_examples(order);
	lines = read_examples();
	for (; next_example(&lines, &ex); nr++)
		fmi_assert(is(&ex, DEFINITION, "first_page") && is(&ex, QUESTION, "mapped") &&
			   is(&ex, TYPE, "anon") && is(&ex, ORDER, want),
			   "%s %s %s %s passes", ex.column[DEFINITION], ex.column[QUESTION],
			   ex.column[TYPE], ex.column[ORDER]);
	fmi_assert(nr > 0 && nr <= 4, "%d examples", nr);
	write_examples("type=shmem");
	fmi_assert(!find_example(s->e.pfn, "first_page", "mapped", &ex), "not of shmem");
	write_examples("type=any definition=entire");
	fmi_assert(!find_example(s->e.pfn, "first_page", "mapped", &ex), "not of entire");
	write_examples("any");
	fmi_assert(find_example(s->e.pfn, "first_page", "mapped", &ex), "not without a filter");
}

static void reset_forgets(struct fmi_scene *s)
{
	struct example ex;

	make_first_page_wrong(s);
	fmi_assert(find_example(s->e.pfn, "first_page", "mapped", &ex), "no example");
	fmi_assert(fmi_stat("examples") > 0 && fmi_stat("examples_taken") > 0, "not counted");
	forget();
	fmi_assert(!find_example(s->e.pfn, "first_page", "mapped", &ex), "still there");
}

/* === Tracepoint === */

static void write_trace(const char *path, const char *value)
{
	int ret = write_text(path, value);

	fmi_assert(ret >= 0, "%s: '%s': %s", path, value, strerror(-ret));
}

static void trace_on(const char *filter)
{
	if (access(TRACEFS "/instances", F_OK) && mount("tracefs", TRACEFS, "tracefs", 0, NULL))
		fmi_skip("no tracefs");
	rmdir(INSTANCE);
	if (mkdir(INSTANCE, 0700))
		fmi_skip("no trace instance: %s", strerror(errno));
	write_trace(EVENT "/filter", filter);
	write_trace(EVENT "/enable", "1");
}

static void trace_off(void)
{
	write_text(EVENT "/enable", "0");
	rmdir(INSTANCE);
}

static void tracepoint_tells(struct fmi_scene *s)
{
	char filter[64], head[128], tail[128];
	struct example ex;
	const char *line;

	forget();
	s_populate(s);
	s_fork(s, 1, 2);
	s_dontneed(s, 2, 0, 1);
	s_check(s, "the child without page 0");
	snprintf(filter, sizeof(filter), "pfn == %lu", s->e.pfn);
	trace_on(filter);
	s_dontneed(s, 1, 0, 1);
	/* Evaluated now, at the latest. */
	fmi_assert(find_example(s->e.pfn, "first_page", "mapped", &ex), "no example");
	fmi_assert(read_text(INSTANCE "/trace", text, sizeof(text)) > 0, "cannot read the trace");
	trace_off();
	snprintf(head, sizeof(head),
		 "disagree: pfn=0x%lx order=%u type=anon definition=first_page question=mapped "
		 "answer=no value=0 ", s->e.pfn, s->order);
	snprintf(tail, sizeof(tail),
		 "total=%lu entire=0 nr_pages_mapped=%lu mm=2 vma=2 vma_pt=2 operation=",
		 2 * (s->nr - 1), s->nr - 1);
	line = strstr(text, head);
	fmi_assert(line, "no event '%s' in\n%.4000s", head, text);
	fmi_assert(!strncmp(line + strlen(head), tail, strlen(tail)), "event '%.300s'", line);
	/* One event per pair and episode. */
	fmi_assert(!strstr(line + 1, head), "the same event twice");
}

static void tracepoint_is_off_without_listeners(struct fmi_scene *s)
{
	trace_on("pfn != 0");
	write_trace(EVENT "/enable", "0");
	make_first_page_wrong(s);
	read_examples();
	fmi_assert(read_text(INSTANCE "/trace", text, sizeof(text)) > 0, "cannot read the trace");
	trace_off();
	fmi_assert(!strstr(text, "disagree:"), "an event:\n%.1000s", text);
}

/* The event goes with the module, and comes back with it. */
static void module_unloads_while_somebody_listens(struct fmi_scene *s)
{
	int ret;

	module_ready();
	trace_on("pfn != 0");
	make_first_page_wrong(s);
	ret = module_unload();
	fmi_assert(!ret, "cannot unload: %s", strerror(-ret));
	fmi_assert(access(EVENT, F_OK), "the event is still there");
	module_ready();
	fmi_assert(!access(EVENT, F_OK), "the event is not there");
	trace_off();
}

static const struct fmi_test tests[] = {
	{ "first_page_says_not_mapped", first_page_says_not_mapped, ON_ANON },
	{ "the_task_is_that_of_the_run", the_task_is_that_of_the_run, ON_ANON | ORDER4_ONLY },
	{ "the_operation_is_that_of_the_run", the_operation_is_that_of_the_run,
	  ON_ANON | ORDER4_ONLY },
	{ "who_is_right_has_no_example", who_is_right_has_no_example, ON_EACH },
	{ "mappers_beyond_four_are_counted", mappers_beyond_four_are_counted,
	  ON_ANON | ORDER4_ONLY },
	{ "the_last_four_are_kept", the_last_four_are_kept, ON_ANON },
	{ "filter_selects", filter_selects, ON_ANON | ORDER4_ONLY },
	{ "reset_forgets", reset_forgets, ON_ANON | ORDER4_ONLY },
	{ "tracepoint_tells", tracepoint_tells, ON_ANON },
	{ "tracepoint_is_off_without_listeners", tracepoint_is_off_without_listeners,
	  ON_ANON | ORDER4_ONLY },
	{ "module_unloads_while_somebody_listens", module_unloads_while_somebody_listens,
	  ON_ANON | ORDER4_ONLY | NO_MODULE },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
