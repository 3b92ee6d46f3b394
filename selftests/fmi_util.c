// SPDX-License-Identifier: GPL-2.0
#include "fmi_util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kernel-page-flags.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fmi_ksft.h"

#define PM_PRESENT (1ULL << 63)
#define PM_SWAP (1ULL << 62)
#define PM_PFN ((1ULL << 55) - 1)

unsigned long pgsz;
unsigned int pgshift;
unsigned long pmd_size;
unsigned int pmd_order;

static char report[1 << 18];

void fmi_util_init(void)
{
	char text[64];

	pgsz = (unsigned long)getpagesize();
	pgshift = (unsigned int)__builtin_ctzl(pgsz);
	pmd_size = 2UL << 20;
	if (read_text("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", text, sizeof(text)) > 0)
		pmd_size = strtoul(text, NULL, 10);
	pmd_order = (unsigned int)__builtin_ctzl(pmd_size) - pgshift;
	/* The cases, which are children, then know. */
	fmi_page_mapcounts();
}

int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t ret;
	int err;

	if (fd < 0)
		return -errno;
	ret = write(fd, text, strlen(text));
	err = errno;
	close(fd);
	return ret < 0 ? -err : (int)ret;
}

int read_text(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t ret;

	if (fd < 0)
		return -errno;
	do {
		ret = read(fd, buf + len, size - 1 - len);
		if (ret > 0)
			len += (size_t)ret;
	} while (ret > 0 && len < size - 1);
	buf[len] = '\0';
	if (ret < 0)
		ret = -errno;
	close(fd);
	return ret < 0 ? (int)ret : (int)len;
}

int fmi_write(const char *file, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), FMI_DIR "%s", file);
	return write_text(path, text);
}

int fmi_read(const char *file, char *buf, size_t size)
{
	char path[128];

	snprintf(path, sizeof(path), FMI_DIR "%s", file);
	return read_text(path, buf, size);
}

bool text_find(const char *text, const char *name, char *value, size_t size)
{
	size_t len = strlen(name);
	const char *line = text;

	while (line && *line) {
		if (!strncmp(line, name, len) && line[len] == ':') {
			const char *start = line + len + 1;
			size_t n;

			start += strspn(start, " \t");
			n = strcspn(start, "\n");
			if (n >= size)
				n = size - 1;
			memcpy(value, start, n);
			value[n] = '\0';
			return true;
		}
		line = strchr(line, '\n');
		if (line)
			line++;
	}
	return false;
}

long long text_value(const char *text, const char *name)
{
	char value[64];
	char *end;
	long long ret;

	fmi_assert(text_find(text, name, value, sizeof(value)), "no line '%s:'", name);
	ret = strtoll(value, &end, 0);
	fmi_assert(end != value, "'%s: %s' is not a number", name, value);
	return ret;
}

long long fmi_stat(const char *name)
{
	int ret = fmi_read("stats", report, sizeof(report));

	fmi_assert(ret > 0, "cannot read stats: %s", strerror(-ret));
	return text_value(report, name);
}

const char *fmi_stats(void)
{
	static char stats[1 << 16];
	int ret = fmi_read("stats", stats, sizeof(stats));

	fmi_assert(ret > 0, "cannot read stats: %s", strerror(-ret));
	return stats;
}

long long fmi_excused(long long lost_window, long long blind_calls, long long moves_unseen)
{
	return blind_calls > 0 || lost_window < moves_unseen ? lost_window : moves_unseen;
}

/* Of what windows have lost in a text of `stats`. */
static long long excused_in(const char *stats)
{
	return fmi_excused(text_value(stats, "lost_window"), text_value(stats, "blind_calls"),
			   text_value(stats, "moves_unseen"));
}

long long stats_lost_by_error(const char *stats)
{
	return text_value(stats, "lost") - excused_in(stats);
}

void stats_say_lost(const char *stats)
{
	for (const char *line = stats; (line = strstr(line, "\nlost_")); line++) {
		if (atoll(line + strcspn(line, " ")))
			fmi_note("%.*s", (int)strcspn(line + 1, "\n"), line + 1);
	}
}

void fmi_lost_nothing(void)
{
	const char *stats = fmi_stats();

	if (stats_lost_by_error(stats)) {
		stats_say_lost(stats);
		fmi_fail("lost: %lld, of which %lld may be: %lld blind calls, %lld moves unseen",
			 text_value(stats, "lost"), excused_in(stats),
			 text_value(stats, "blind_calls"), text_value(stats, "moves_unseen"));
	}
	if (text_value(stats, "lost"))
		fmi_note("%lld calls of tasks that were being forked, %lld UFFDIO_MOVE: "
			 "%lld folios lost", text_value(stats, "blind_calls"),
			 text_value(stats, "moves_unseen"), text_value(stats, "lost"));
}

bool fmi_tracepoints(void)
{
	char backend[32] = "";

	return text_find(fmi_stats(), "backend", backend, sizeof(backend)) &&
	       !strcmp(backend, "tracepoints");
}

bool fmi_wait_stat(const char *name, long long want)
{
	long long now;

	fmi_wait_until((now = fmi_stat(name)) == want, "%s to be %lld, not %lld", name, want, now);
	return true;
}

static const char *read_report(const char *target)
{
	int ret = fmi_write("folio", target);

	if (ret < 0) {
		errno = -ret;
		return NULL;
	}
	ret = fmi_read("folio", report, sizeof(report));
	if (ret < 0) {
		errno = -ret;
		return NULL;
	}
	return report;
}

const char *fmi_report_pfn(unsigned long pfn)
{
	char target[32];

	snprintf(target, sizeof(target), "%lu\n", pfn);
	return read_report(target);
}

const char *fmi_report_va(pid_t pid, unsigned long va)
{
	char target[64];

	snprintf(target, sizeof(target), "%d 0x%lx\n", pid, va);
	return read_report(target);
}

void fmi_audit(const char *target)
{
	int ret = fmi_write("audit", target);

	fmi_assert(ret > 0, "audit %s: %s", target, strerror(-ret));
	ret = fmi_read("audit", report, sizeof(report));
	fmi_assert(ret > 0, "cannot read audit: %s", strerror(-ret));
	if (text_value(report, "differences") != 0) {
		fmi_note("audit %s:\n%s", target, report);
		fmi_fail("audit %s: %lld differences", target, text_value(report, "differences"));
	}
	if (!strcmp(target, "all"))
		fmi_both_equal("audit all");
}

bool fmi_both(void)
{
	return fmi_read("both", report, sizeof(report)) > 0 && strstr(report, "state: on\n");
}

void fmi_second_complete(const char *both, const char *when, long long in_flight)
{
	/* The hook on VMA changes does not see a task that was being forked when it was placed. */
	bool blind = fmi_stat("blind_calls") > 0;

	for (const char *line = both; (line = strstr(line, "\nsecond_")); line++) {
		const char *value = strchr(line, ':');

		if (!strncmp(line, "\nsecond_tracked_folios:", 23) ||
		    !strncmp(line, "\nsecond_untracked_in_flight:", 28) ||
		    (blind && !strncmp(line, "\nsecond_lost_window:", 20)))
			continue;
		if (value && atoll(value + 1))
			fmi_fail("%s: of the second shadow: %.*s", when,
				 (int)strcspn(line + 1, "\n"), line + 1);
	}
	fmi_eq(text_value(both, "second_untracked_in_flight"), in_flight, "adds in flight");
	fmi_eq(text_value(both, "absent"), 0, "folios that one shadow has nothing of");
}

/*
 * The second shadow has lost nothing, and met no contradiction, that the first has not: what is
 * lost is compared no more, so a call that one backend missed would go unnoticed.
 */
static void second_keeps_up(const char *both, const char *when)
{
	char name[64];

	for (const char *line = both; (line = strstr(line, "\nsecond_")); line++) {
		const char *of = line + strlen("\nsecond_");
		size_t len = strcspn(of, ":\n");
		long long second = of[len] == ':' ? atoll(of + len + 1) : 0;

		/* That is about what a scan found, and each shadow has its own. */
		if (!strncmp(of, "lost_unseen_mm:", 15))
			continue;
		if (!second || len >= sizeof(name) ||
		    (strncmp(of, "lost_", 5) && strncmp(of, "inconsistent_", 13) &&
		     strncmp(of, "missed", 6)))
			continue;
		memcpy(name, of, len);
		name[len] = 0;
		if (second > fmi_stat(name))
			fmi_fail("%s: %s is %lld in the second shadow, %lld in the first", when,
				 name, second, fmi_stat(name));
	}
}

void fmi_both_equal(const char *when)
{
	static char both[sizeof(report)];
	static bool told;

	if (!fmi_both())
		return;
	memcpy(both, report, sizeof(both));
	if (text_value(both, "all_differences")) {
		fmi_note("%s: both:\n%s", when, both);
		fmi_fail("%s: %lld folios differ between both backends", when,
			 text_value(both, "all_differences"));
	}
	second_keeps_up(both, when);
	/* scripts/test looks for this: nothing differs where nothing is compared. */
	if (!told && text_value(both, "all_compared") > 0) {
		told = true;
		fmi_note("both backends: folios were compared");
	}
}

long long fmi_covered(void)
{
	long long found, tracked, lost = 0;
	const char *stats;
	int ret = fmi_write("scan", "coverage");

	fmi_assert(ret > 0, "no look at the coverage: %s", strerror(-ret));
	ret = fmi_read("scan", report, sizeof(report));
	fmi_assert(ret > 0, "scan cannot be read: %s", strerror(-ret));
	found = text_value(report, "coverage_found");
	tracked = text_value(report, "coverage_tracked");
	/* Read after that: why something was lost is known before it is. */
	stats = fmi_stats();
	if (excused_in(stats) && excused_in(stats) == text_value(stats, "lost_window"))
		lost = text_value(report, "coverage_window");
	fmi_assert(tracked + lost == found,
		   "%lld of %lld tracked, %lld blind calls, %lld moves unseen, %lld lost:\n%s",
		   tracked, found, text_value(stats, "blind_calls"),
		   text_value(stats, "moves_unseen"), text_value(stats, "lost_window"), report);
	if (lost)
		fmi_note("%lld of %lld are tracked, %lld blind calls, %lld moves unseen", tracked,
			 found, text_value(stats, "blind_calls"),
			 text_value(stats, "moves_unseen"));
	return tracked;
}

bool fmi_nothing_left(void)
{
	char left[32];

	/* Nothing is left of a case that has switched tracking off. */
	if (fmi_write("audit", "all") <= 0)
		return true;
	return fmi_read("audit", report, sizeof(report)) > 0 &&
	       text_find(report, "records_without_process", left, sizeof(left)) &&
	       !strcmp(left, "0");
}

static bool read_at(int fd, void *buf, size_t size, unsigned long offset)
{
	return fd >= 0 && pread(fd, buf, size, (off_t)offset) == (ssize_t)size;
}

static bool pagemap_read(pid_t pid, unsigned long va, unsigned long nr, uint64_t *entries)
{
	char path[64];
	bool ok;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ok = read_at(fd, entries, nr * sizeof(*entries), (va >> pgshift) * 8);
	if (fd >= 0)
		close(fd);
	return ok;
}

bool pagemap_pfns(pid_t pid, unsigned long va, unsigned long nr, unsigned long *pfns)
{
	uint64_t *entries = calloc(nr, sizeof(*entries));
	bool ok = entries && pagemap_read(pid, va, nr, entries);

	for (unsigned long i = 0; ok && i < nr; i++)
		pfns[i] = entries[i] & PM_PRESENT ? (unsigned long)(entries[i] & PM_PFN) : 0;
	free(entries);
	return ok;
}

unsigned long pagemap_pfn(pid_t pid, unsigned long va)
{
	unsigned long pfn = 0;

	return pagemap_pfns(pid, va, 1, &pfn) ? pfn : 0;
}

bool pagemap_swapped(pid_t pid, unsigned long va)
{
	uint64_t entry = 0;

	return pagemap_read(pid, va, 1, &entry) && (entry & PM_SWAP);
}

/* Entries past the end of memory are 0. */
static void read_pages(const char *path, int *fd, unsigned long pfn, unsigned long nr,
		       uint64_t *out)
{
	ssize_t ret;

	if (*fd <= 0)
		*fd = open(path, O_RDONLY | O_CLOEXEC);
	memset(out, 0, nr * sizeof(*out));
	ret = pread(*fd, out, nr * sizeof(*out), (off_t)(pfn * sizeof(*out)));
	fmi_assert(ret >= 0, "cannot read %s at pfn %lu: %s", path, pfn, strerror(errno));
}

uint64_t page_flags(unsigned long pfn)
{
	static int fd;
	uint64_t flags;

	read_pages("/proc/kpageflags", &fd, pfn, 1, &flags);
	return flags;
}

void page_counts(unsigned long pfn, unsigned long nr, uint64_t *counts)
{
	static int fd;

	read_pages("/proc/kpagecount", &fd, pfn, nr, counts);
}

bool fmi_page_mapcounts(void)
{
	static int found;

	if (!found)
		found = system("exec 2>/dev/null; { zcat /proc/config.gz ||"
			       " cat /boot/config-$(uname -r); } |"
			       " grep -qx CONFIG_NO_PAGE_MAPCOUNT=y") ? 1 : 2;
	return found == 1;
}

unsigned int folio_order(unsigned long pfn, unsigned long *head)
{
	const uint64_t is_head = 1ULL << KPF_COMPOUND_HEAD;
	const uint64_t is_tail = 1ULL << KPF_COMPOUND_TAIL;
	unsigned long first = pfn;
	unsigned int order = 0;

	while (page_flags(first) & is_tail)
		first--;
	if (head)
		*head = first;
	if (!(page_flags(first) & is_head))
		return 0;
	/* A folio is aligned and of a power of two: the first page that may not belong to it. */
	while (page_flags(first + (1UL << order)) & is_tail)
		order++;
	fmi_assert(page_flags(first + (1UL << order) - 1) & is_tail, "a strange folio");
	return order;
}

bool vma_exists(pid_t pid, unsigned long start, unsigned long end)
{
	char path[64];
	char line[512];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	file = fopen(path, "re");
	while (file && !found && fgets(line, sizeof(line), file)) {
		unsigned long from, to;

		found = sscanf(line, "%lx-%lx ", &from, &to) == 2 && from == start && to == end;
	}
	if (file)
		fclose(file);
	return found;
}

long vma_pmd_kb(pid_t pid, unsigned long start)
{
	char path[64];
	char line[512];
	bool here = false;
	long sum = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		unsigned long from, to;
		long kb;

		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			here = from == start;
		else if (here && (sscanf(line, "AnonHugePages: %ld", &kb) == 1 ||
				  sscanf(line, "ShmemPmdMapped: %ld", &kb) == 1 ||
				  sscanf(line, "FilePmdMapped: %ld", &kb) == 1))
			sum += kb;
	}
	if (file)
		fclose(file);
	return sum;
}

void msleep(unsigned int ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	nanosleep(&ts, NULL);
}

double now_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}
