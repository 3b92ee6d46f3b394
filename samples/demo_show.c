// SPDX-License-Identifier: GPL-2.0
#include "demo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MAX_STEPS 16

/* The definitions in the order of the table, each with what it counts. */
static const struct {
	const char *id;
	const char *counts;
} definitions[] = {
	{ "total", "page table entries that map any part of it" },
	{ "entire", "entries that map all of it at once (PMDs)" },
	{ "total_pages", "mapped pages, a PMD counts all pages" },
	{ "nr_pages_mapped", "pages of it that are mapped at all" },
	{ "max_page", "mappings of its most mapped page" },
	{ "first_page", "mappings of its first page" },
	{ "mm", "processes that map any part of it" },
	{ "vma", "VMAs that map any part of it" },
	{ "vma_pt", "(VMA, page table) pairs that map any part" },
	{ "full", "VMAs that map all of it" },
	{ "partial", "VMAs that map only a part" },
};

/* Why a definition answers a question wrongly, or with "unknown". */
static const struct {
	const char *id, *question, *answer, *why;
} reasons[] = {
	{ "first_page", "mapped", "no", "nothing maps page 0, and it looks no further" },
	{ "first_page", "shared", "no", "it looks at page 0 only" },
	{ "vma", "shared", "yes", "one process can have several VMAs on a folio" },
	{ "vma_pt", "shared", "unknown", "two pairs can be of one process or of two" },
	{ "vma_pt", "shared", "yes", "one process can have more than two pairs" },
	{ "vma_pt", "shared_vma", "unknown", "one VMA can reach into two page tables" },
	{ "entire", "entire", "yes", "there is a PMD, but there are PTEs as well" },
	{ "full", "entire", "yes", "every VMA maps all of it, but by PTEs" },
	{ "partial", "partial", "yes", "each VMA maps a part, together they map all" },
	{ "total_pages", "partial", "no", "it adds up the pages of all processes" },
	{ "kernel", "shared", "yes", "the kernel follows no more than two processes exactly" },
	{ "kernel", "partial", "yes", "the kernel does not take its flag back" },
	{ "kernel", "partial", "no", "the kernel sets its flag at an unmap only" },
	/* Whatever the question. */
	{ "vma_pt_counter", NULL, NULL, "it counts each unmapping, whatever is left mapped" },
	{ "vma_counter", NULL, NULL, "it is not told when VMAs split or mappings move" },
	{ "vma_saturating", NULL, NULL, "one process can have several VMAs on a folio" },
	{ "vma_saturating_counter", NULL, NULL, "it is not told when VMAs split or mappings move" },
	{ "owner_vma", NULL, NULL, "VMAs of the owner's process count as others" },
	{ "creator", NULL, NULL, "it knows the mappings of the first process only" },
	{ "est_one", NULL, NULL, "one process has several mappings if PTEs map it" },
	{ "est_nr_pages", NULL, NULL, "two processes can have fewer mappings than it has pages" },
	{ "est_nr_mapped", NULL, NULL, "two processes can map different pages" },
	{ "avg_page", NULL, NULL, "the average hides the pages that are mapped more often" },
	{ "mm_id", NULL, NULL, "it follows no more than two processes exactly" },
	{ "partial_rule", NULL, NULL, "it looks at the number of mappings at an unmap only" },
	{ "double_map", NULL, NULL, "its flag stays until the last PMD is gone" },
};

static struct {
	long long values[ARRAY_SIZE(definitions)];
	long long kernel_large, kernel_entire, kernel_pages;
	int wrong;
	bool equal;
} steps[MAX_STEPS];
static int nr_steps;

void (*cleanup)(void);

void die(const char *fmt, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "demo: ");
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\n");
	if (cleanup)
		cleanup();
	_exit(1);
}

bool read_text(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t ret = -1;

	if (fd < 0)
		return false;
	while (len < size - 1 && (ret = read(fd, buf + len, size - 1 - len)) > 0)
		len += (size_t)ret;
	buf[len] = '\0';
	close(fd);
	return ret >= 0;
}

bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return ok;
}

void enable_module(void)
{
	char text[8];

	if (geteuid() != 0)
		die("only root can look at mapcounts; try again as root");
	if (access("/sys/kernel/debug/sched", F_OK) && access(DEBUGFS, F_OK))
		mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	if (access(DEBUGFS, F_OK)) {
		pid_t pid = fork();

		if (pid == 0) {
			execlp("modprobe", "modprobe", "folio_mapcount", NULL);
			_exit(127);
		}
		waitpid(pid, NULL, 0);
	}
	if (!read_text(DEBUGFS "enable", text, sizeof(text)))
		die("%s is not there: load the module folio_mapcount first", DEBUGFS);
	if (*text != '1' && !write_text(DEBUGFS "enable", "1"))
		die("cannot write to %senable: %s", DEBUGFS, strerror(errno));
}

static const char *line_of(const char *report, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = report; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, name, len) && line[len] == ':')
			return line + len + 1 + strspn(line + len + 1, " \t");
	}
	die("the report of the module has no line '%s'", name);
}

static long long value_of(const char *report, const char *name)
{
	return strtoll(line_of(report, name), NULL, 0);
}

static bool is(const char *report, const char *name, const char *want)
{
	const char *value = line_of(report, name);
	size_t len = strcspn(value, "\n");

	return len == strlen(want) && !strncmp(value, want, len);
}

static const char *reason(const char *id, const char *question, const char *answer)
{
	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
		if (strcmp(reasons[i].id, id))
			continue;
		if (!reasons[i].question || (!strcmp(reasons[i].question, question) &&
					     !strcmp(reasons[i].answer, answer)))
			return reasons[i].why;
	}
	return "its count does not tell this case from others";
}

static const char *words(const char *question)
{
	static const char *const all[][2] = {
		{ "mapped", "anything maps it" },
		{ "shared", "several processes map it" },
		{ "shared_vma", "several VMAs map it" },
		{ "entire", "it is only mapped as a whole" },
		{ "partial", "only a part of it is mapped" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		if (!strcmp(question, all[i][0]))
			return all[i][1];
	}
	return NULL;
}

/* These count one kind of mapping each; that there is none of it is no news. */
static bool counts_one_kind(const char *id)
{
	return !strcmp(id, "entire") || !strcmp(id, "full") || !strcmp(id, "partial");
}

/* One "answer:" line: prints who is wrong or cannot tell. */
static int show_answers(const char *line)
{
	char text[512], *save, *question, *pair, *truth;
	int wrong = 0;

	snprintf(text, sizeof(text), "%.*s", (int)strcspn(line, "\n"), line);
	question = strtok_r(text, " \t", &save);
	truth = question ? strtok_r(NULL, " \t", &save) : NULL;
	if (!truth || strncmp(truth, "truth=", 6) || !words(question))
		return 0;
	truth += 6;
	while ((pair = strtok_r(NULL, " \t", &save))) {
		char *answer = strchr(pair, '=');
		const char *verb;

		if (!answer)
			continue;
		*answer++ = '\0';
		if (!strcmp(answer, truth))
			continue;
		if (counts_one_kind(pair) && !strcmp(question, "mapped"))
			continue;
		if (!strcmp(answer, "yes"))
			verb = "says wrongly that";
		else if (!strcmp(answer, "no"))
			verb = "denies that";
		else if (!strcmp(answer, "unknown"))
			verb = "cannot tell if";
		else
			continue;
		printf("      %s %s %s: %s\n", pair, verb, words(question),
		       reason(pair, question, answer));
		wrong++;
	}
	return wrong;
}

static const char *report_of(int pid, unsigned long va)
{
	static char report[1 << 17];
	char target[64];

	snprintf(target, sizeof(target), "%d 0x%lx", pid, va);
	for (int i = 0; i < 100; i++) {
		if (!write_text(DEBUGFS "folio", target) ||
		    !read_text(DEBUGFS "folio", report, sizeof(report)))
			die("no report of the folio at %s: %s", target, strerror(errno));
		if (!is(report, "state", "tracked"))
			die("the folio is not tracked");
		/* Deferred: calls were in flight a moment ago. */
		if (!is(report, "compare", "deferred"))
			break;
		usleep(20000);
	}
	return report;
}

void show_step(unsigned long va, const char *what, const char *why, ...)
{
	const long long entirely_mapped = 0x800000;
	const char *report = report_of(getpid(), va);
	long long pages;
	int n = nr_steps++;
	va_list args;

	if (n >= MAX_STEPS)
		die("too many steps");
	printf("\n%d. %s\n   ", n + 1, what);
	va_start(args, why);
	vprintf(why, args);
	va_end(args);
	printf("\n     ");
	for (size_t i = 0; i < ARRAY_SIZE(definitions); i++) {
		steps[n].values[i] = value_of(report, definitions[i].id);
		printf(" %s=%lld", definitions[i].id, steps[n].values[i]);
		if (i == 5)
			printf("\n     ");
	}
	steps[n].kernel_large = value_of(report, "kernel_large_mapcount");
	steps[n].kernel_entire = value_of(report, "kernel_entire_mapcount");
	pages = value_of(report, "kernel_nr_pages_mapped");
	steps[n].kernel_pages = pages;
	steps[n].equal = is(report, "compare", "equal");
	printf("\n   kernel: _large_mapcount=%lld _entire_mapcount=%lld _nr_pages_mapped=%lld%s",
	       steps[n].kernel_large, steps[n].kernel_entire, pages & (entirely_mapped - 1),
	       pages & entirely_mapped ? "+PMD" : "");
	printf("\n           maybe_mapped_shared=%lld partially_mapped=%lld: %s\n",
	       value_of(report, "kernel_maybe_mapped_shared"),
	       value_of(report, "kernel_partially_mapped"),
	       steps[n].equal ? "agrees with the shadow" : "DIFFERS FROM THE SHADOW");
	printf("   who disagrees:\n");
	for (const char *line = report; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, "answer:", 7))
			steps[n].wrong += show_answers(line + 7);
	}
	if (!steps[n].wrong)
		printf("      nobody\n");
	fflush(stdout);
}

static void row(const char *name, const char *counts, size_t offset)
{
	printf("%-17s", name);
	for (int i = 0; i < nr_steps; i++)
		printf("%5lld", *(const long long *)((const char *)&steps[i] + offset));
	printf("  %s\n", counts);
}

bool show_summary(void)
{
	bool equal = true;

	printf("\nAll steps together:\n\n%-17s", "step");
	for (int i = 0; i < nr_steps; i++)
		printf("%5d", i + 1);
	printf("\n");
	for (size_t i = 0; i < ARRAY_SIZE(definitions); i++)
		row(definitions[i].id, definitions[i].counts,
		    (size_t)((char *)&steps[0].values[i] - (char *)&steps[0]));
	row("kernel: large", "the kernel's own count: the same as total",
	    (size_t)((char *)&steps[0].kernel_large - (char *)&steps[0]));
	row("kernel: entire", "the same as entire",
	    (size_t)((char *)&steps[0].kernel_entire - (char *)&steps[0]));
	printf("%-17s", "who disagrees");
	for (int i = 0; i < nr_steps; i++) {
		printf("%5d", steps[i].wrong);
		equal = equal && steps[i].equal &&
			steps[i].kernel_large == steps[i].values[0] &&
			steps[i].kernel_entire == steps[i].values[1];
	}
	printf("  wrong or unknown answers (not: entire, full, partial = 0)\n\n%s\n", equal ?
	       "The shadow agreed with the kernel's counters in every step." :
	       "THE SHADOW DID NOT AGREE WITH THE KERNEL'S COUNTERS.");
	return equal;
}
