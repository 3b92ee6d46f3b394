// SPDX-License-Identifier: GPL-2.0
#include "fmi_expect.h"

#include <stdlib.h>
#include <string.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_util.h"

void ex_init(struct fmi_expect *e, enum fmi_kind kind, unsigned int order, unsigned long pfn)
{
	e->kind = kind;
	e->order = order;
	e->nr = 1 << order;
	e->pfn = pfn;
	e->max_mm = 0;
	e->nr_mappings = 0;
	e->nr_vmas = 0;
	fmi_assert(e->nr <= EX_PAGES, "order %u is too large for these tests", order);
}

void ex_vma(struct fmi_expect *e, int who, unsigned long start, unsigned long end)
{
	fmi_assert(e->nr_vmas < EX_VMAS, "too many VMAs");
	e->vmas[e->nr_vmas++] = (struct ex_vma){ .who = who, .start = start, .end = end };
}

const struct ex_vma *ex_vma_at(const struct fmi_expect *e, int who, unsigned long va)
{
	for (int i = 0; i < e->nr_vmas; i++) {
		if (e->vmas[i].who == who && va >= e->vmas[i].start && va < e->vmas[i].end)
			return &e->vmas[i];
	}
	return NULL;
}

void ex_vma_split(struct fmi_expect *e, int who, unsigned long at)
{
	struct ex_vma *vma = (struct ex_vma *)ex_vma_at(e, who, at);
	unsigned long end;

	if (!vma || vma->start == at)
		return;
	end = vma->end;
	vma->end = at;
	ex_vma(e, who, at, end);
}

void ex_vma_merge(struct fmi_expect *e, int who, unsigned long at)
{
	struct ex_vma *low = (struct ex_vma *)ex_vma_at(e, who, at - 1);
	struct ex_vma *high = (struct ex_vma *)ex_vma_at(e, who, at);

	fmi_assert(low && high && low != high, "no two VMAs meet at 0x%lx", at);
	low->end = high->end;
	*high = e->vmas[--e->nr_vmas];
}

static void drop_mapping(struct fmi_expect *e, int i)
{
	e->mappings[i] = e->mappings[--e->nr_mappings];
}

static unsigned long mapping_len(const struct ex_mapping *m)
{
	return m->page == EX_ENTIRE ? pmd_size : pgsz;
}

static int count_mms(const struct fmi_expect *e)
{
	bool seen[FMI_ACTORS] = { false };
	int nr = 0;

	for (int i = 0; i < e->nr_mappings; i++) {
		nr += !seen[e->mappings[i].who];
		seen[e->mappings[i].who] = true;
	}
	return nr;
}

static void note_mms(struct fmi_expect *e)
{
	int nr = count_mms(e);

	if (nr > e->max_mm)
		e->max_mm = nr;
	if (nr == 0)
		e->max_mm = 0;
}

static void add_mapping(struct fmi_expect *e, int who, unsigned long va, int page)
{
	fmi_assert(e->nr_mappings < EX_MAPPINGS, "too many mappings");
	e->mappings[e->nr_mappings++] = (struct ex_mapping){ .who = who, .va = va, .page = page };
}

void ex_map(struct fmi_expect *e, int who, unsigned long va, int first, int nr)
{
	for (int i = 0; i < nr; i++)
		add_mapping(e, who, va + (unsigned long)i * pgsz, first + i);
	note_mms(e);
}

void ex_map_entire(struct fmi_expect *e, int who, unsigned long va)
{
	add_mapping(e, who, va, EX_ENTIRE);
	note_mms(e);
}

void ex_split(struct fmi_expect *e, int who, unsigned long start, unsigned long len)
{
	for (int i = e->nr_mappings - 1; i >= 0; i--) {
		struct ex_mapping m = e->mappings[i];

		if (m.who != who || m.page != EX_ENTIRE)
			continue;
		if (m.va >= start + len || m.va + pmd_size <= start)
			continue;
		drop_mapping(e, i);
		if (e->kind == FMI_ANON)
			ex_map(e, who, m.va, 0, e->nr);
	}
	note_mms(e);
}

void ex_unmap(struct fmi_expect *e, int who, unsigned long start, unsigned long len)
{
	for (int i = 0; i < e->nr_mappings; i++) {
		struct ex_mapping m = e->mappings[i];

		if (m.who == who && m.page == EX_ENTIRE && m.va < start + len &&
		    m.va + pmd_size > start && (m.va < start || m.va + pmd_size > start + len)) {
			ex_split(e, who, m.va, pmd_size);
			break;
		}
	}
	for (int i = e->nr_mappings - 1; i >= 0; i--) {
		const struct ex_mapping *m = &e->mappings[i];

		if (m->who == who && m->va >= start && m->va + mapping_len(m) <= start + len)
			drop_mapping(e, i);
	}
	note_mms(e);
}

void ex_vma_cut(struct fmi_expect *e, int who, unsigned long start, unsigned long len)
{
	ex_vma_split(e, who, start);
	ex_vma_split(e, who, start + len);
	ex_unmap(e, who, start, len);
	for (int i = e->nr_vmas - 1; i >= 0; i--) {
		const struct ex_vma *vma = &e->vmas[i];

		if (vma->who == who && vma->start >= start && vma->end <= start + len)
			e->vmas[i] = e->vmas[--e->nr_vmas];
	}
}

void ex_move(struct fmi_expect *e, int who, unsigned long from, unsigned long len,
	     unsigned long to)
{
	ex_vma_split(e, who, from);
	ex_vma_split(e, who, from + len);
	for (int i = 0; i < e->nr_mappings; i++) {
		struct ex_mapping m = e->mappings[i];

		if (m.who == who && m.page == EX_ENTIRE && m.va < from + len &&
		    m.va + pmd_size > from && (m.va < from || m.va + pmd_size > from + len ||
					       ((m.va + to - from) & (pmd_size - 1)))) {
			ex_split(e, who, m.va, pmd_size);
			break;
		}
	}
	for (int i = 0; i < e->nr_mappings; i++) {
		struct ex_mapping *m = &e->mappings[i];

		if (m->who == who && m->va >= from && m->va < from + len)
			m->va += to - from;
	}
	for (int i = 0; i < e->nr_vmas; i++) {
		struct ex_vma *vma = &e->vmas[i];

		if (vma->who == who && vma->start >= from && vma->end <= from + len) {
			vma->start += to - from;
			vma->end += to - from;
		}
	}
}

void ex_fork(struct fmi_expect *e, int from, int to)
{
	int nr_mappings = e->nr_mappings;
	int nr_vmas = e->nr_vmas;

	for (int i = 0; i < nr_vmas; i++) {
		if (e->vmas[i].who == from)
			ex_vma(e, to, e->vmas[i].start, e->vmas[i].end);
	}
	for (int i = 0; i < nr_mappings; i++) {
		if (e->mappings[i].who == from)
			add_mapping(e, to, e->mappings[i].va, e->mappings[i].page);
	}
	note_mms(e);
}

void ex_exit(struct fmi_expect *e, int who)
{
	for (int i = e->nr_mappings - 1; i >= 0; i--) {
		if (e->mappings[i].who == who)
			drop_mapping(e, i);
	}
	for (int i = e->nr_vmas - 1; i >= 0; i--) {
		if (e->vmas[i].who == who)
			e->vmas[i] = e->vmas[--e->nr_vmas];
	}
	note_mms(e);
}

void ex_learn(struct fmi_expect *e, int who)
{
	for (int i = e->nr_mappings - 1; i >= 0; i--) {
		if (e->mappings[i].who == who)
			drop_mapping(e, i);
	}
	for (int i = 0; i < e->nr_vmas; i++) {
		const struct ex_vma *vma = &e->vmas[i];
		unsigned long nr = (vma->end - vma->start) >> pgshift;
		unsigned long *pfns;

		if (vma->who != who)
			continue;
		pfns = calloc(nr, sizeof(*pfns));
		fmi_assert(pfns && pagemap_pfns(p_pid(who), vma->start, nr, pfns), "pagemap");
		for (unsigned long j = 0; j < nr; j++) {
			unsigned long va = vma->start + j * pgsz;

			if (pfns[j] < e->pfn || pfns[j] >= e->pfn + (unsigned long)e->nr)
				continue;
			if (e->order == pmd_order && pfns[j] == e->pfn && !(va & (pmd_size - 1)) &&
			    va + pmd_size <= vma->end && vma_pmd_kb(p_pid(who), vma->start) > 0) {
				add_mapping(e, who, va, EX_ENTIRE);
				j += (unsigned long)e->nr - 1;
			} else {
				add_mapping(e, who, va, (int)(pfns[j] - e->pfn));
			}
		}
		free(pfns);
	}
	note_mms(e);
}

/* The VMA's part of the counting. */
static void count_vma(const struct fmi_expect *e, const struct ex_vma *vma, struct ex_values *v)
{
	unsigned long slots[8];
	int nr_slots = 0;
	int ptes = 0;
	int entire = 0;

	for (int i = 0; i < e->nr_mappings; i++) {
		const struct ex_mapping *m = &e->mappings[i];
		unsigned long slot = m->va / pmd_size;
		int j;

		if (m->who != vma->who || m->va < vma->start || m->va >= vma->end)
			continue;
		entire += m->page == EX_ENTIRE;
		ptes += m->page != EX_ENTIRE;
		for (j = 0; j < nr_slots && slots[j] != slot; j++)
			;
		if (j == nr_slots) {
			fmi_assert(nr_slots < 8, "a folio in more than 8 page tables");
			slots[nr_slots++] = slot;
		}
	}
	if (!ptes && !entire)
		return;
	v->vma++;
	v->vma_pt += nr_slots;
	if (entire || ptes == e->nr)
		v->full++;
	else
		v->partial++;
}

void ex_count(const struct fmi_expect *e, struct ex_values *v)
{
	memset(v, 0, sizeof(*v));
	v->total = e->nr_mappings;
	v->mm = count_mms(e);
	for (int i = 0; i < e->nr_mappings; i++) {
		if (e->mappings[i].page == EX_ENTIRE)
			v->entire++;
		else
			v->pte[e->mappings[i].page]++;
	}
	v->total_pages = v->entire * e->nr + (v->total - v->entire);
	for (int i = 0; i < e->nr; i++) {
		v->page[i] = v->pte[i] + v->entire;
		v->nr_pte_mapped += v->pte[i] > 0;
		v->nr_pages_mapped += v->page[i] > 0;
		if (v->page[i] > v->max_page)
			v->max_page = v->page[i];
	}
	v->first_page = v->page[0];
	for (int i = 0; i < e->nr_vmas; i++)
		count_vma(e, &e->vmas[i], v);
}
