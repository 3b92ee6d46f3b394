// SPDX-License-Identifier: GPL-2.0
/* The tables: filter, seeking in `folios`, reset, and `disagreement` with a known wrong answer. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

static char text[1 << 20];

static void set_filter(const char *filter)
{
	int ret = fmi_write("filter", filter);

	fmi_assert(ret > 0, "filter '%s': %s", filter, strerror(-ret));
}

static bool listed(unsigned long pfn)
{
	char want[32];
	int ret = fmi_read("folios", text, sizeof(text));

	fmi_assert(ret > 0, "read folios: %s", strerror(-ret));
	snprintf(want, sizeof(want), "\n%lu\t", pfn);
	return strstr(text, want);
}

static int lines(const char *table)
{
	int nr = 0;

	for (; *table; table++)
		nr += *table == '\n';
	return nr;
}

static void filter_selects(struct fmi_scene *s)
{
	char filter[64];

	s_populate(s);
	fmi_assert(fmi_read("filter", text, sizeof(text)) > 0, "read filter");
	fmi_assert(!strcmp(text, "order=any type=any disagreeing=0\n"), "filter reads '%s'", text);
	fmi_assert(listed(s->e.pfn), "not listed without a filter");
	snprintf(filter, sizeof(filter), "order=%u", s->order);
	set_filter(filter);
	fmi_assert(listed(s->e.pfn), "not listed by %s", filter);
	snprintf(filter, sizeof(filter), "order=%u type=%s", s->order, kind_name(s->kind));
	set_filter(filter);
	fmi_assert(listed(s->e.pfn), "not listed by %s", filter);
	fmi_assert(fmi_read("filter", text, sizeof(text)) > 0, "read filter");
	strcat(filter, " disagreeing=0\n");
	fmi_assert(!strcmp(text, filter), "filter reads '%s', want '%s'", text, filter);
	snprintf(filter, sizeof(filter), "order=%u", s->order == 4 ? 5 : 4);
	set_filter(filter);
	fmi_assert(!listed(s->e.pfn), "listed by %s", filter);
	set_filter(s->kind == FMI_ANON ? "order=any type=shmem" : "order=any type=anon");
	fmi_assert(!listed(s->e.pfn), "listed by the wrong type");
	set_filter("order=any type=any disagreeing=1");
	for (const char *line = strchr(text, '\n'); line && line[1]; line = strchr(line + 1, '\n'))
		fmi_assert(strncmp(line + strcspn(line + 1, "\n") - 1, "\t-", 2),
			   "listed without disagreement");
	set_filter("disagreeing=0");
	fmi_assert(listed(s->e.pfn), "not listed without a filter");
}

static bool line_has(unsigned long pfn, const char *word)
{
	char want[32];
	char *line, *end;

	if (!listed(pfn))
		return false;
	snprintf(want, sizeof(want), "\n%lu\t", pfn);
	line = strstr(text, want) + 1;
	end = strchr(line, '\n');
	*end = '\0';
	return strstr(line, word);
}

static void filter_selects_disagreeing(struct fmi_scene *s)
{
	s_populate(s);
	set_filter("order=any type=any disagreeing=1");
	fmi_assert(!line_has(s->e.pfn, "first_page:mapped"), "first_page is right about it");
	/* Now first_page says: not mapped. */
	s_dontneed(s, 1, 0, 1);
	fmi_assert(line_has(s->e.pfn, "first_page:mapped"), "first_page is wrong about it");
	set_filter("order=any type=any disagreeing=0");
	fmi_assert(line_has(s->e.pfn, "first_page:mapped"), "the same without the filter");
}

static char whole[1 << 20], part[1 << 20];

static bool same_twice(int *len)
{
	*len = fmi_read("folios", whole, sizeof(whole));
	return fmi_read("folios", part, sizeof(part)) == *len && !strcmp(whole, part);
}

/* Many folios, read in pieces of every size: the same lines as in one go. */
static void folios_is_seekable(struct fmi_scene *s)
{
	static const size_t pieces[] = { 1, 7, 100, 511, 4096, 5000 };
	const unsigned long many = 200;
	int fd, len;

	p_start(1);
	s_map(s, 1, s->va, many * s->size, 0);
	thp_only(s->kind, s->order, "always");
	for (unsigned long i = 0; i < many; i++)
		p_write(1, s->va + i * s->size, 1);
	thp_never();
	/* Let the time in `draining` of others pass: the same read twice. */
	fmi_wait_until(same_twice(&len), "two reads of folios that are the same, %d bytes", len);
	fmi_assert(lines(whole) > (int)many, "%d lines", lines(whole));
	fd = open(FMI_DIR "folios", O_RDONLY | O_CLOEXEC);
	fmi_assert(fd >= 0, "open: %s", strerror(errno));
	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		size_t done = 0;
		ssize_t ret;

		fmi_assert(lseek(fd, 0, SEEK_SET) == 0, "lseek: %s", strerror(errno));
		while ((ret = read(fd, part + done, pieces[i])) > 0)
			done += (size_t)ret;
		fmi_assert(ret == 0, "read: %s", strerror(errno));
		fmi_eq(done, len, "bytes read in pieces");
		fmi_assert(!memcmp(whole, part, done), "other text in pieces of %zu", pieces[i]);
	}
	for (off_t at = 0; at < len; at += 997) {
		ssize_t ret = pread(fd, part, 300, at);

		fmi_assert(ret > 0, "pread at %ld: %s", (long)at, strerror(errno));
		fmi_assert(!memcmp(whole + at, part, (size_t)ret), "pread at %ld", (long)at);
	}
	fmi_assert(lseek(fd, len / 2, SEEK_SET) == len / 2, "lseek: %s", strerror(errno));
	fmi_assert(read(fd, part, 100) > 0 && !memcmp(whole + len / 2, part, 100),
		   "read after lseek");
	fmi_eq(pread(fd, part, 100, len), 0, "read at the end");
	close(fd);
}

/* A cell of `disagreement`. */
static long long cell(const char *definition, const char *question, int column)
{
	char want[64];
	const char *line;
	int ret = fmi_read("disagreement", text, sizeof(text));

	fmi_assert(ret > 0, "read disagreement: %s", strerror(-ret));
	snprintf(want, sizeof(want), "\n%s\t%s\t", definition, question);
	line = strstr(text, want);
	fmi_assert(line, "no row for %s %s", definition, question);
	line += 1;
	for (; column > 0; column--)
		line += strcspn(line, "\t") + 1;
	return strtoll(line, NULL, 10);
}

enum { EVALUATED = 2, FALSE_YES, FALSE_NO, UNKNOWN, EPISODES, WRONG_NOW, TIME_WRONG };

static void first_page_misses_the_others(struct fmi_scene *s)
{
	long long evaluated, false_no, episodes, wrong_now, wrong_time;

	s_populate(s);
	evaluated = cell("first_page", "mapped", EVALUATED);
	false_no = cell("first_page", "mapped", FALSE_NO);
	episodes = cell("first_page", "mapped", EPISODES);
	wrong_now = cell("first_page", "mapped", WRONG_NOW);
	s_dontneed(s, 1, 0, 1);
	fmi_assert(cell("first_page", "mapped", EVALUATED) > evaluated, "not evaluated");
	fmi_assert(cell("first_page", "mapped", FALSE_NO) > false_no, "no false answer");
	fmi_eq(cell("first_page", "mapped", EPISODES), episodes + 1, "episodes");
	fmi_eq(cell("first_page", "mapped", WRONG_NOW), wrong_now + 1, "wrong now");
	wrong_time = cell("first_page", "mapped", TIME_WRONG);
	msleep(10);
	fmi_assert(cell("first_page", "mapped", TIME_WRONG) >= wrong_time + 10 * 1000 * 1000,
		   "time does not pass while wrong");
	/* The others are right about it. */
	fmi_eq(cell("total", "mapped", FALSE_NO) + cell("total", "mapped", FALSE_YES), 0, "total");
	fmi_eq(cell("mm", "shared", FALSE_NO) + cell("mm", "shared", FALSE_YES), 0, "mm");
	s_munmap(s, 1, 0, s->nr);
	fmi_eq(cell("first_page", "mapped", WRONG_NOW), wrong_now, "wrong now when unmapped");
	fmi_eq(cell("first_page", "mapped", EPISODES), episodes + 1, "episodes when unmapped");
}

static void vma_count_takes_two_vmas_for_sharing(struct fmi_scene *s)
{
	long long false_yes, wrong_now, unknown;

	s_populate(s);
	false_yes = cell("vma", "shared", FALSE_YES);
	wrong_now = cell("vma", "shared", WRONG_NOW);
	unknown = cell("vma_pt", "shared", UNKNOWN);
	p_mprotect(1, s->va, pgsz, PROT_READ);
	ex_vma_split(&s->e, 1, s_page(s, 1));
	ex_split(&s->e, 1, s->va, s->size);
	s_check(s, "two VMAs of one process");
	fmi_assert(cell("vma", "shared", FALSE_YES) > false_yes, "no false answer");
	fmi_eq(cell("vma", "shared", WRONG_NOW), wrong_now + 1, "wrong now");
	fmi_assert(cell("vma_pt", "shared", UNKNOWN) > unknown, "vma_pt does not know");
	p_mprotect(1, s->va, pgsz, PROT_READ | PROT_WRITE);
	fmi_eq(cell("vma", "shared", WRONG_NOW), wrong_now, "wrong now with one VMA");
}

static void first_page_misses_sharing(struct fmi_scene *s)
{
	long long false_no;

	s_populate(s);
	s_dontneed(s, 1, 0, 1);
	false_no = cell("first_page", "shared", FALSE_NO);
	s_fork(s, 1, 2);
	fmi_assert(cell("first_page", "shared", FALSE_NO) > false_no, "no false answer");
	s_check(s, "shared by fork without the first page");
}

static void reset_clears(struct fmi_scene *s)
{
	long long since;

	s_populate(s);
	s_dontneed(s, 1, 0, 1);
	fmi_assert(cell("first_page", "mapped", FALSE_NO) > 0, "no false answer");
	since = fmi_stat("since_ns");
	fmi_assert(fmi_write("reset", "1\n") > 0, "reset");
	fmi_assert(fmi_stat("since_ns") > since, "since_ns is the old one");
	fmi_eq(cell("first_page", "mapped", FALSE_YES), 0, "false_yes");
	/* What is wrong now is still wrong, and goes right later. */
	fmi_eq(cell("first_page", "mapped", WRONG_NOW), 1, "wrong now");
	s_check(s, "after reset");
	s_munmap(s, 1, 0, s->nr);
	fmi_eq(cell("first_page", "mapped", WRONG_NOW), 0, "wrong now when unmapped");
}

static const struct fmi_test tests[] = {
	{ "filter_selects", filter_selects, ON_ANON | ON_SHMEM },
	{ "filter_selects_disagreeing", filter_selects_disagreeing, ON_ANON | PMD_ONLY },
	{ "folios_is_seekable", folios_is_seekable, ON_ANON | ORDER4_ONLY },
	{ "first_page_misses_the_others", first_page_misses_the_others, ON_ANON },
	{ "vma_count_takes_two_vmas_for_sharing", vma_count_takes_two_vmas_for_sharing, ON_ANON },
	{ "first_page_misses_sharing", first_page_misses_sharing, ON_ANON },
	{ "reset_clears", reset_clears, ON_ANON | ORDER4_ONLY },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
