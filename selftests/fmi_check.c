// SPDX-License-Identifier: GPL-2.0
/* The comparisons of ex_check(): list against kernel, module against list. */
#include <errno.h>
#include <linux/kernel-page-flags.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fmi_check.h"
#include "fmi_expect.h"
#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_util.h"

static int differences;

void differs(const char *fmt, ...)
{
	char line[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	if (differences++ < 16)
		fmi_note("  %s", line);
}

static void same(const char *what, long long got, long long want)
{
	if (got != want)
		differs("%s: got %lld, want %lld", what, got, want);
}

/* Not in the page table that pagemap shows. */
static bool hidden(const struct fmi_expect *e, int page)
{
	return page >= e->hidden && page < e->hidden + e->nr_hidden;
}

/* 1. The list against the page tables, the VMAs and the page flags. */
static void check_vma(const struct fmi_expect *e, const struct ex_vma *vma)
{
	unsigned long nr = (vma->end - vma->start) >> pgshift;
	unsigned long *pfns = calloc(nr, sizeof(*pfns));
	unsigned long *want = calloc(nr, sizeof(*want));
	bool others = false;
	long entire = 0;
	long kb;

	if (!vma_exists(p_pid(vma->who), vma->start, vma->end))
		differs("actor %d has no VMA 0x%lx-0x%lx", vma->who, vma->start, vma->end);
	fmi_assert(pfns && want, "no memory");
	if (!pagemap_pfns(p_pid(vma->who), vma->start, nr, pfns))
		differs("no pagemap of actor %d", vma->who);
	for (int i = 0; i < e->nr_mappings; i++) {
		const struct ex_mapping *m = &e->mappings[i];
		unsigned long at = (m->va - vma->start) >> pgshift;

		if (m->who != vma->who || m->va < vma->start || m->va >= vma->end)
			continue;
		if (m->page != EX_ENTIRE) {
			want[at] = e->pfn + (unsigned long)m->page;
			continue;
		}
		entire++;
		for (unsigned long j = 0; j < (unsigned long)e->nr && at + j < nr; j++)
			want[at + j] = e->pfn + j;
	}
	for (unsigned long j = 0; j < nr; j++) {
		bool ours = pfns[j] >= e->pfn && pfns[j] < e->pfn + (unsigned long)e->nr;

		others |= pfns[j] && !ours;
		if (want[j] && !pfns[j] && hidden(e, (int)(want[j] - e->pfn)))
			continue;
		if (want[j] ? pfns[j] != want[j] : ours)
			differs("page table of actor %d at 0x%lx: pfn %lu, the test believes %lu",
				vma->who, vma->start + j * pgsz, pfns[j], want[j]);
	}
	if (e->order == pmd_order) {
		/* A PMD of another folio counts there as well. */
		kb = vma_pmd_kb(p_pid(vma->who), vma->start);
		if (!others || kb < entire * (long)(pmd_size / 1024))
			same("kB mapped by PMDs (smaps)", kb, entire * (long)(pmd_size / 1024));
	}
	free(pfns);
	free(want);
}

/* What a kernel without CONFIG_PAGE_MAPCOUNT says of each page: rounded, at least 1 if mapped. */
static int average(const struct fmi_expect *e, const struct ex_values *v)
{
	long long ptes = v->total - v->entire;
	long long rounded = v->entire + (2 * ptes + e->nr) / (2LL * e->nr);

	if (!v->total)
		return 0;
	return rounded > 0 ? (int)rounded : 1;
}

static void check_kernel(const struct fmi_expect *e, const struct ex_values *v)
{
	uint64_t counts[EX_PAGES];
	unsigned long head;

	same("order of the folio (kpageflags)", folio_order(e->pfn, &head), e->order);
	same("head of the folio (kpageflags)", (long long)head, (long long)e->pfn);
	same("anon (kpageflags)", (page_flags(e->pfn) >> KPF_ANON) & 1, e->kind == FMI_ANON);
	page_counts(e->pfn, (unsigned long)e->nr, counts);
	for (int i = 0; i < e->nr; i++) {
		int want = fmi_page_mapcounts() ? v->page[i] : average(e, v);

		if (counts[i] != (uint64_t)want)
			differs("kpagecount of page %d: got %llu, want %d", i,
				(unsigned long long)counts[i], want);
	}
}

/* "0-14:1 15:0" */
static void runs(char *buf, size_t size, const int *count, int nr)
{
	size_t len = 0;

	for (int i = 0; i < nr && len < size;) {
		int end = i;

		while (end + 1 < nr && count[end + 1] == count[i])
			end++;
		len += (size_t)snprintf(buf + len, size - len, i ? " %d" : "%d", i);
		if (end > i && len < size)
			len += (size_t)snprintf(buf + len, size - len, "-%d", end);
		if (len < size)
			len += (size_t)snprintf(buf + len, size - len, ":%d", count[i]);
		i = end + 1;
	}
}

static void same_text(const char *report, const char *name, const char *want)
{
	static char got[1 << 15];

	if (!text_find(report, name, got, sizeof(got)))
		differs("no line '%s:'", name);
	else if (strcmp(got, want))
		differs("%s: got '%s', want '%s'", name, got, want);
}

/* 2. One record of the module for each (actor, where page 0 would be). */
struct record {
	int who;
	unsigned long base;
	int entire, vmas, tuples;
	bool page[EX_PAGES];
};

static unsigned long base_of(const struct ex_mapping *m)
{
	return m->page == EX_ENTIRE ? m->va : m->va - (unsigned long)m->page * pgsz;
}

static void fill_record(const struct fmi_expect *e, struct record *r)
{
	struct { const struct ex_vma *vma; unsigned long slot; } seen[16];
	int nr = 0;

	for (int i = 0; i < e->nr_mappings; i++) {
		const struct ex_mapping *m = &e->mappings[i];
		const struct ex_vma *vma = ex_vma_at(e, m->who, m->va);
		bool new_vma = true;
		bool new_tuple = true;

		if (m->who != r->who || base_of(m) != r->base)
			continue;
		if (m->page == EX_ENTIRE)
			r->entire++;
		else
			r->page[m->page] = true;
		for (int j = 0; j < nr; j++) {
			new_vma &= seen[j].vma != vma;
			new_tuple &= seen[j].vma != vma || seen[j].slot != m->va / pmd_size;
		}
		r->vmas += new_vma;
		r->tuples += new_tuple;
		if (new_tuple && nr < 16) {
			seen[nr].vma = vma;
			seen[nr++].slot = m->va / pmd_size;
		}
	}
}

static void check_record(const struct fmi_expect *e, const char *report, struct record *r)
{
	static char want[1 << 14];
	char id[64];
	const char *line = report;
	size_t len = 0;

	fill_record(e, r);
	for (int i = 0; i < e->nr && len < sizeof(want) - 32;) {
		int end = i;

		if (!r->page[i]) {
			i++;
			continue;
		}
		while (end + 1 < e->nr && r->page[end + 1])
			end++;
		len += (size_t)sprintf(want + len, len ? ",%d" : "%d", i);
		if (end > i)
			len += (size_t)sprintf(want + len, "-%d", end);
		i = end + 1;
	}
	if (!len)
		len += (size_t)sprintf(want, "-");
	sprintf(want + len, " entire=%d vmas=%d tuples=%d", r->entire, r->vmas, r->tuples);
	snprintf(id, sizeof(id), "mapper: pid=%d ", p_pid(r->who));
	while (line) {
		size_t n = strcspn(line, "\n");
		char base[32];
		const char *at;

		snprintf(base, sizeof(base), " base=0x%lx pages=", r->base);
		at = strstr(line, base);
		if (!strncmp(line, id, strlen(id)) && at && at < line + n) {
			at += strlen(base);
			len = n - (size_t)(at - line);
			if (strlen(want) != len || strncmp(at, want, len))
				differs("mapper actor %d: got '%.*s', want 'pages=%s'", r->who,
					(int)n, line, want);
			return;
		}
		line = strchr(line, '\n');
		if (line)
			line++;
	}
	differs("no mapper line for actor %d (pid %d) base 0x%lx", r->who, p_pid(r->who), r->base);
}

static void check_records(const struct fmi_expect *e, const char *report)
{
	static struct record records[32];
	int nr = 0;

	for (int i = 0; i < e->nr_mappings; i++) {
		const struct ex_mapping *m = &e->mappings[i];
		int j;

		for (j = 0; j < nr; j++) {
			if (records[j].who == m->who && records[j].base == base_of(m))
				break;
		}
		if (j < nr)
			continue;
		fmi_assert(nr < 32, "too many records");
		memset(&records[nr], 0, sizeof(records[nr]));
		records[nr].who = m->who;
		records[nr++].base = base_of(m);
	}
	same("mappers", text_value(report, "mappers"), nr);
	same("moving", text_value(report, "moving"), 0);
	for (int j = 0; j < nr; j++)
		check_record(e, report, &records[j]);
}

/* 3. The values. */
static const struct { const char *name; size_t offset; } definitions[] = {
#define VALUE(name) { #name, offsetof(struct ex_values, name) }
	VALUE(total), VALUE(entire), VALUE(first_page), VALUE(max_page), VALUE(nr_pages_mapped),
	VALUE(vma_pt), VALUE(vma), VALUE(mm), VALUE(full), VALUE(partial), VALUE(total_pages),
#undef VALUE
	/* Shown is the sum over all pages. */
	{ "page", offsetof(struct ex_values, total_pages) },
};

static int value_of(const struct ex_values *v, size_t i)
{
	return *(const int *)((const char *)v + definitions[i].offset);
}

bool ex_value(const struct ex_values *v, const char *definition, int *value)
{
	for (size_t i = 0; i < ARRAY_SIZE(definitions); i++) {
		if (!strcmp(definition, definitions[i].name)) {
			*value = value_of(v, i);
			return true;
		}
	}
	return false;
}

static void check_values(const struct fmi_expect *e, const struct ex_values *v, const char *report)
{
	static char text[1 << 15];
	const long long entirely_mapped = 0x800000;

	same("pfn", text_value(report, "pfn"), (long long)e->pfn);
	same("order", text_value(report, "order"), e->order);
	same("nr_pages", text_value(report, "nr_pages"), e->nr);
	same_text(report, "type", kind_name(e->kind));
	for (size_t i = 0; i < ARRAY_SIZE(definitions); i++)
		same(definitions[i].name, text_value(report, definitions[i].name), value_of(v, i));
	runs(text, sizeof(text), v->page, e->nr);
	same_text(report, "page_mapcounts", text);
	runs(text, sizeof(text), v->pte, e->nr);
	same_text(report, "kernel_page_mapcounts", fmi_page_mapcounts() ? text : "-");
	same("kernel_large_mapcount", text_value(report, "kernel_large_mapcount"), v->total);
	same("kernel_entire_mapcount", text_value(report, "kernel_entire_mapcount"), v->entire);
	if (fmi_page_mapcounts())
		same("kernel_nr_pages_mapped", text_value(report, "kernel_nr_pages_mapped"),
		     v->nr_pte_mapped + (v->entire ? entirely_mapped : 0));
	else
		same_text(report, "kernel_nr_pages_mapped", "-");
	if (e->max_mm <= 2) {
		long long slot[2] = { 0, 0 };

		same("kernel_maybe_mapped_shared", text_value(report, "kernel_maybe_mapped_shared"),
		     v->mm > 1);
		text_find(report, "kernel_mm_id_mapcount", text, sizeof(text));
		sscanf(text, "%lld %lld", &slot[0], &slot[1]);
		same("sum of kernel_mm_id_mapcount", slot[0] + slot[1], v->total);
	} else if (v->mm > 1) {
		same("kernel_maybe_mapped_shared", text_value(report, "kernel_maybe_mapped_shared"),
		     1);
	}
	same_text(report, "compare", "equal");
}

/* By the page frame number and by a process and address in turn: it must be the same folio. */
static const char *any_report(const struct fmi_expect *e)
{
	const struct ex_mapping *m = &e->mappings[e->nr_mappings / 2];
	static int turn;

	if (turn++ % 2)
		return fmi_report_va(p_pid(m->who), m->va);
	return fmi_report_pfn(e->pfn);
}

static const char *report_of(const struct fmi_expect *e)
{
	const char *report;
	char text[64];

	/* "deferred" only means that calls were in flight a moment ago. */
	fmi_wait_until(!(report = any_report(e)) ||
		       !text_find(report, "compare", text, sizeof(text)) ||
		       strcmp(text, "deferred"),
		       "the comparison of pfn %lu, which is deferred", e->pfn);
	return report;
}

void ex_check_gone(const struct fmi_expect *e, const char *what)
{
	char state[32], order[32], want[32];
	const char *report;

	fmi_audit("all");
	report = fmi_report_pfn(e->pfn);
	snprintf(want, sizeof(want), "%u", e->order);
	/* It may have been freed, split, or be something else by now. */
	if (!report || !text_find(report, "order", order, sizeof(order)) || strcmp(order, want) ||
	    !text_find(report, "state", state, sizeof(state)) || !strcmp(state, "untracked"))
		return;
	differences = 0;
	same_text(report, "state", "draining");
	for (size_t i = 0; i < ARRAY_SIZE(definitions); i++)
		same(definitions[i].name, text_value(report, definitions[i].name), 0);
	if (differences)
		fmi_fail("%s: unmapped, but %d differences", what, differences);
}

void ex_check(struct fmi_expect *e, const char *what)
{
	ex_check_folio(e, what);
	if (e->nr_mappings)
		fmi_audit("all");
}

void ex_check_folio(struct fmi_expect *e, const char *what)
{
	static struct ex_values v;
	const char *report;

	differences = 0;
	ex_count(e, &v);
	for (int i = 0; i < e->nr_vmas; i++)
		check_vma(e, &e->vmas[i]);
	if (e->nr_mappings)
		check_kernel(e, &v);
	if (differences)
		fmi_fail("%s: the test's list is not what the kernel has", what);
	if (e->nr_mappings == 0) {
		ex_check_gone(e, what);
		return;
	}
	report = report_of(e);
	if (!report)
		fmi_fail("%s: no report of pfn %lu: %s", what, e->pfn, strerror(errno));
	same_text(report, "state", "tracked");
	if (!differences) {
		check_values(e, &v, report);
		check_records(e, report);
		check_answers(e, &v, report);
	}
	if (differences) {
		fmi_note("the report of the module:\n%s", report);
		fmi_fail("%s: %d differences", what, differences);
	}
	check_folios(e, &v);
	if (differences)
		fmi_fail("%s: %d differences in the table of folios", what, differences);
}

void ex_want(const struct fmi_expect *e, const char *what, const char *definition, int want)
{
	static struct ex_values v;
	const char *report = fmi_report_pfn(e->pfn);
	int value = -1;

	fmi_assert(report, "%s: no report: %s", what, strerror(errno));
	if (text_value(report, definition) != want)
		fmi_fail("%s: %s: the module says %lld, the definition %d", what, definition,
			 text_value(report, definition), want);
	ex_count(e, &v);
	if (!ex_value(&v, definition, &value) || value != want)
		fmi_fail("%s: %s: the test counts %d, the definition says %d", what, definition,
			 value, want);
}
