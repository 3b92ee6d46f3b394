// SPDX-License-Identifier: GPL-2.0
#include "fmi_rmap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fmi_expect.h"
#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_tracers.h"
#include "fmi_util.h"

#define IN "instances/fmi_rmap/"
#define INSTANCE TRACEFS "instances/fmi_rmap"
#define NOWHERE (~0UL)
#define MAX_CPUS 64
#define MAX_RUNS 16

struct event {
	bool valid;
	pid_t pid;
	char op[16], level[16], mm[24], site[80];
	unsigned long folio, pfn, addr;
	long nr, mapcount;
	unsigned int order;
	bool anon;
	char line[512];
};

/* What a case follows. */
static struct mine {
	unsigned long pfn, nr, at[2];
	unsigned int order;
	bool anon;
	long mapcount, pages;	/* as the events say; pages: with all that a PMD maps */
} mine[2];
static int nr_mine;

/* The addresses of the case, and its processes. */
static unsigned long low, high;
static struct {
	pid_t pid;
	char mm[24];
} who_is[FMI_ACTORS];
static int child;

/* What was seen: the same thing several times is one run. */
static struct {
	char what[48];
	long sum;
} runs[MAX_RUNS];
static int nr_runs;
static const char *step = "start";

/* At once: the mapcounts below this one that were left. */
static long nr_left, overlaps;
static bool *left;

/* Names of functions, each behind a newline. Shared: each fork would copy anything else. */
static struct shared {
	long pairs;
	char symbols[32 << 20];
} *shared;

bool rmap_setup(void)
{
	char line[512], name[400], type;
	size_t len = 1;
	FILE *file;

	if (access(TRACEFS "events", F_OK))
		mount("tracefs", TRACEFS, "tracefs", 0, NULL);
	if (access(TRACEFS "events/rmap", F_OK))
		return false;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (shared == MAP_FAILED)
		exit(KSFT_FAIL);
	file = fopen("/proc/kallsyms", "re");
	*shared->symbols = '\n';
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%*x %c %399s", &type, name) != 2 || !strchr("tTwW", type))
			continue;
		if (len + sizeof(name) < sizeof(shared->symbols))
			len += (size_t)sprintf(shared->symbols + len, "%s\n", name);
	}
	if (file)
		fclose(file);
	return true;
}

long rmap_cleanup(void)
{
	if (rmdir(INSTANCE) && errno != ENOENT)
		printf("# %s: %s\n", INSTANCE, strerror(errno));
	return shared ? shared->pairs : 0;
}

static void clear(const char *path)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	fmi_assert(fd >= 0, "%s: %s", path, strerror(errno));
	close(fd);
}

void rmap_watch(unsigned long start, unsigned long len)
{
	char text[16];

	low = start;
	high = start + len;
	fmi_assert(!mkdir(INSTANCE, 0700) || errno == EEXIST, "%s: %s", INSTANCE, strerror(errno));
	tracer_set(IN "tracing_on", "0");
	tracer_set(IN "buffer_size_kb", "4096");
	tracer_set(IN "trace_clock", "global");
	tracer_set(IN "options/event-fork", "0");
	clear(INSTANCE "/set_event_pid");
	p_start(1);
	who_is[1].pid = p_pid(1);
	snprintf(text, sizeof(text), "%d", p_pid(1));
	tracer_set(IN "set_event_pid", text);
	tracer_set(IN "events/rmap/enable", "1");
	clear(INSTANCE "/trace");
	tracer_set(IN "tracing_on", "1");
}

void rmap_folio(unsigned long pfn, unsigned int order, bool anon, unsigned long at,
		unsigned long then)
{
	fmi_assert(pfn && nr_mine < (int)ARRAY_SIZE(mine), "nothing is mapped at %#lx", at);
	mine[nr_mine++] = (struct mine){
		.pfn = pfn, .nr = 1UL << order, .at = { at, then }, .order = order, .anon = anon,
	};
}

long rmap_mapcount(void)
{
	return mine[0].mapcount;
}

void rmap_at_once(void)
{
	nr_left = mine[0].mapcount;
	left = calloc((size_t)nr_left, sizeof(*left));
	fmi_assert(left, "no memory");
}

long rmap_overlaps(void)
{
	return overlaps;
}

static long do_nothing(unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
	(void)a;
	(void)b;
	(void)c;
	(void)d;
	return 0;
}

/* With the option on, a task is no longer followed when its memory goes. */
void rmap_fork(int from, int to)
{
	child = to;
	tracer_set(IN "options/event-fork", "1");
	p_fork(from, to);
	tracer_set(IN "options/event-fork", "0");
	who_is[to].pid = p_pid(to);
	/* All that it does by itself is done then. */
	p_call(to, do_nothing, 0, 0, 0, 0);
}

static unsigned long number(const char *line, const char *name)
{
	const char *at = strstr(line, name);

	fmi_assert(at, "%s: no '%s' in:\n%s", step, name, line);
	return strtoul(at + strlen(name), NULL, 0);
}

static void word(const char *line, const char *name, char *value, size_t size)
{
	const char *at = strstr(line, name);

	fmi_assert(at, "%s: no '%s' in:\n%s", step, name, line);
	at += strlen(name);
	snprintf(value, size, "%.*s", (int)strcspn(at, "\n "), at);
}

static void run(const char *what, long nr)
{
	if (nr_runs && !strcmp(runs[nr_runs - 1].what, what)) {
		runs[nr_runs - 1].sum += nr;
		return;
	}
	fmi_assert(nr_runs < MAX_RUNS, "%s: too many different events, now '%s'", step, what);
	snprintf(runs[nr_runs].what, sizeof(runs[0].what), "%s", what);
	runs[nr_runs++].sum = nr;
}

/* A function that uses a helper of the rmap, and is none. */
static void check_site(const struct event *ev)
{
	static const char *const helpers[] = { "folio_", "__folio_", "hugetlb_" };
	static char known[64][sizeof(ev->site)];
	static size_t nr_known;
	unsigned long at, size;
	char name[96];
	int len;

	for (size_t i = 0; i < nr_known; i++) {
		if (!strcmp(known[i], ev->site))
			return;
	}
	len = (int)strcspn(ev->site, "+");
	snprintf(name, sizeof(name), "\n%.*s\n", len, ev->site);
	fmi_assert(sscanf(ev->site + len, "+%lx/%lx", &at, &size) == 2 && at && at < size &&
		   strstr(shared->symbols, name), "%s: not called by a function:\n%s", step,
		   ev->line);
	for (size_t i = 0; i < ARRAY_SIZE(helpers); i++)
		fmi_assert(strncmp(ev->site, helpers[i], strlen(helpers[i])) ||
			   !strstr(name, "_rmap"), "%s: called by a helper:\n%s", step, ev->line);
	fmi_assert(nr_known < ARRAY_SIZE(known), "too many call sites");
	strcpy(known[nr_known++], ev->site);
}

/* Each changes its own memory; a dup is in the child's, and nothing else is done to that. */
static void check_mm(const struct event *ev, bool ours)
{
	bool dup = !strcmp(ev->op, "dup");
	int who = 1;

	while (who < FMI_ACTORS && who_is[who].pid != ev->pid)
		who++;
	fmi_assert(who < FMI_ACTORS, "%s: by nobody of us:\n%s", step, ev->line);
	if (dup)
		who = child;
	if ((dup || ours) && !*who_is[who].mm)
		strcpy(who_is[who].mm, ev->mm);
	for (int i = 1; i < FMI_ACTORS; i++)
		fmi_assert(strcmp(who_is[i].mm, ev->mm) ? i != who || !(dup || ours) : i == who,
			   "%s: %s in the wrong MM, actor %d has %s:\n%s", step, ev->op, i,
			   who_is[i].mm, ev->line);
}

static void check_place(const struct event *ev, const struct mine *m)
{
	unsigned long offset = (ev->pfn - m->pfn) * pgsz, nr = (unsigned long)ev->nr;
	bool pte = !strcmp(ev->level, "pte");

	fmi_assert(ev->pfn >= m->pfn && ev->pfn + nr <= m->pfn + m->nr && (pte || nr == m->nr) &&
		   ev->order == m->order && ev->anon == m->anon,
		   "%s: not as the folio is:\n%s", step, ev->line);
	/* Of dirty page cache that is zapped nobody knows the address. */
	if (ev->addr == NOWHERE && pte && !ev->anon && !strcmp(ev->op, "remove"))
		return;
	fmi_assert(ev->addr == m->at[0] + offset || (m->at[1] && ev->addr == m->at[1] + offset),
		   "%s: not where it is mapped:\n%s", step, ev->line);
}

static void pair(const struct event *begin, const struct event *end)
{
	bool ours = begin->addr >= low && begin->addr < high, pte = !strcmp(begin->level, "pte");
	long nr = pte ? begin->nr : 1, sign = strcmp(begin->op, "remove") ? 1 : -1;
	struct mine *m = NULL;
	char what[48];

	shared->pairs++;
	for (int i = 0; i < nr_mine; i++) {
		if (mine[i].pfn == begin->folio)
			m = &mine[i];
	}
	check_site(begin);
	check_mm(begin, ours || m);
	if (!ours && !m)
		return;
	snprintf(what, sizeof(what), "%s%s%s %s", m ? "" : "copy ",
		 begin->addr == NOWHERE ? "late " : "", begin->op, begin->level);
	run(what, nr);
	if (!m)
		return;
	check_place(begin, m);
	m->mapcount += sign * nr;
	m->pages += sign * (pte ? nr : (long)m->nr);
	if (!nr_left) {
		fmi_assert(end->mapcount == m->mapcount, "%s: mapcount %ld, not %ld:\n%s\n%s", step,
			   end->mapcount, m->mapcount, begin->line, end->line);
		return;
	}
	fmi_assert(end->mapcount >= 0 && end->mapcount < nr_left && !left[end->mapcount],
		   "%s: not the next mapcount, nor an earlier one:\n%s", step, end->line);
	left[end->mapcount] = true;
}

/* rmap_move, rmap_order, rmap_pmd_share and rmap_pmd_unshare, of the first folio. */
static void other(const char *text)
{
	struct mine *m = &mine[0];
	unsigned long from, to;
	char what[48], kind[16];

	if (!strncmp(text, "move", 4)) {
		from = number(text, " old_addr=");
		to = number(text, " new_addr=");
		fmi_assert(from - m->at[0] == to - m->at[1] || from - m->at[1] == to - m->at[0],
			   "%s: moved elsewhere:\n%s", step, text);
		word(text, ": ", kind, sizeof(kind));
		snprintf(what, sizeof(what), "move %s", kind);
		run(what, (long)(number(text, " len=") / pgsz));
	} else if (!strncmp(text, "order", 5)) {
		fmi_eq(m->mapcount, 0, "mappings of what is split");
		fmi_eq(number(text, " folio="), m->pfn, "what is split");
		m->order = (unsigned int)number(text, " new_order=");
		m->nr = 1UL << m->order;
		snprintf(what, sizeof(what), "order %lu to", number(text, " old_order="));
		run(what, m->order);
	} else {
		fmi_eq(number(text, " addr="), m->at[0], "where a table is shared");
		run(strncmp(text, "pmd_share", 9) ? "unshare" : "share", 1);
	}
}

/* "rmap_events-94 [000] ...1. 12.345678: rmap_begin: add level=pte ..." */
static void read_line(const char *line, struct event *open)
{
	const char *at = strchr(line, '['), *name = at ? strstr(at, ": rmap_") : NULL;
	int cpu = at ? atoi(at + 1) : 0;
	struct event ev = { .valid = true };

	fmi_assert(name && cpu < MAX_CPUS, "%s: no event:\n%s", step, line);
	while (at > line && at[-1] != '-')
		at--;
	name += strlen(": rmap_");
	if (strncmp(name, "begin:", 6) && strncmp(name, "end:", 4)) {
		other(name);
		return;
	}
	ev.pid = atoi(at);
	word(name, ": ", ev.op, sizeof(ev.op));
	word(name, " level=", ev.level, sizeof(ev.level));
	word(name, " mm=", ev.mm, sizeof(ev.mm));
	ev.folio = number(name, " folio=");
	ev.pfn = number(name, " pfn=");
	ev.nr = (long)number(name, " nr=");
	ev.addr = number(name, " addr=");
	snprintf(ev.line, sizeof(ev.line), "%s", line);
	if (*name == 'b') {
		word(name, " call_site=", ev.site, sizeof(ev.site));
		ev.order = (unsigned int)number(name, " order=");
		ev.anon = strstr(name, " type=anon ");
		fmi_assert(!open[cpu].valid, "%s: one within another:\n%s\n%s", step,
			   open[cpu].line, line);
		for (int i = 0; i < MAX_CPUS; i++)
			overlaps += open[i].valid && open[i].folio == ev.folio;
		open[cpu] = ev;
		return;
	}
	ev.mapcount = (long)number(name, " mapcount=");
	open += cpu;
	fmi_assert(open->valid, "%s: an end without a begin:\n%s", step, line);
	fmi_assert(!strcmp(ev.op, open->op) && !strcmp(ev.level, open->level) &&
		   !strcmp(ev.mm, open->mm) && ev.pid == open->pid && ev.folio == open->folio &&
		   ev.pfn == open->pfn && ev.nr == open->nr && ev.addr == open->addr,
		   "%s: no pair:\n%s\n%s", step, open->line, line);
	pair(open, &ev);
	open->valid = false;
}

/* How many are in the buffers of all CPUs; none was lost. */
static long entries(void)
{
	char path[96], text[1024];
	long sum = 0;

	for (int cpu = 0; cpu < MAX_CPUS; cpu++) {
		snprintf(path, sizeof(path), INSTANCE "/per_cpu/cpu%d/stats", cpu);
		if (read_text(path, text, sizeof(text)) <= 0)
			continue;
		fmi_assert(!text_value(text, "overrun") && !text_value(text, "commit overrun") &&
			   !text_value(text, "dropped events"), "%s: lost:\n%s", step, text);
		sum += text_value(text, "entries");
	}
	return sum;
}

static void read_trace(void)
{
	static struct event open[MAX_CPUS];
	FILE *file = fopen(INSTANCE "/trace", "re");
	char line[sizeof(open->line)];
	long want = entries(), nr = 0;

	fmi_assert(file, "trace: %s", strerror(errno));
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		if (*line == '#')
			continue;
		read_line(line, open);
		nr++;
	}
	fclose(file);
	for (int i = 0; i < MAX_CPUS; i++)
		fmi_assert(!open[i].valid, "%s: a begin without an end:\n%s", step, open[i].line);
	fmi_eq(nr, want, "events in the trace");
}

/* What /proc/kpagecount has of a folio. */
static uint64_t page_sum(const struct mine *m)
{
	static uint64_t counts[EX_PAGES];
	uint64_t sum = 0;

	page_counts(m->pfn, m->nr, counts);
	for (unsigned long i = 0; i < m->nr; i++)
		sum += counts[i];
	return sum;
}

void rmap_look(const char *what, const char *want)
{
	char got[MAX_RUNS * 64] = "-";
	size_t len = 0;

	step = what;
	tracer_set(IN "tracing_on", "0");
	read_trace();
	for (int i = 0; i < nr_runs; i++)
		len += (size_t)snprintf(got + len, sizeof(got) - len, "%s%s %ld", i ? ", " : "",
					runs[i].what, runs[i].sum);
	nr_runs = 0;
	fmi_assert(!strcmp(got, want), "%s: '%s', not '%s'", what, got, want);
	for (int i = 0; i < nr_mine; i++) {
		/* What is not mapped may be another one by now. */
		if (mine[i].mapcount && fmi_page_mapcounts())
			fmi_eq(page_sum(&mine[i]), mine[i].pages, what);
	}
	clear(INSTANCE "/trace");
	tracer_set(IN "tracing_on", "1");
}
