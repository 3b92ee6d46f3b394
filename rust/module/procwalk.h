/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of fs/proc look at: the entries of one process's page tables,
 * with the counters of the folios they map.
 */
#ifndef FMI_PROCWALK_H
#define FMI_PROCWALK_H

#include <linux/types.h>

struct mm_struct;
struct vm_area_struct;

/**
 * struct fmi_mapped - entries that map pages of one folio, alike in all fields
 * @pfn: of the folio's head page
 * @nr: number of pages
 * @mappings: number of mappings; the pages of one PMD are told in several
 *	parts, of which the first has 1 and the others 0
 * @page: page->_mapcount of each of the pages, bias removed, 0 for a type
 * @looked: the same of the page that pagemap and numa_maps look at: each page
 *	itself, for a PMD the first one of the folio
 * @large: _large_mapcount, bias removed; of a small folio its _mapcount, bias
 *	removed, whatever it says
 * @entire: _entire_mapcount, bias removed; 0 for a small folio
 * @nr_pages_mapped: _nr_pages_mapped as stored; 0 for a small folio
 * @refcount: folio_ref_count()
 * @order: of the folio
 * @kind: enum fmi_kind
 * @shared: folio_maybe_mapped_shared()
 * @present: as smaps means it: present, or a PTE of device-private memory. If
 *	not, no counter is read.
 * @present_entry: as pagemap means it: the entry itself is present
 * @numa: numa_maps counts it
 *
 * The counters are read one after the other, without a lock that would keep
 * them from changing, like fs/proc does.
 */
struct fmi_mapped {
	unsigned long pfn;
	u32 nr;
	u32 mappings;
	int page;
	int looked;
	int large;
	int entire;
	int nr_pages_mapped;
	int refcount;
	u8 order;
	u8 kind;
	bool shared;
	bool present;
	bool present_entry;
	bool numa;
};

/**
 * struct fmi_procwalk - a walk over a part of one VMA
 * @vma: the VMA; its MM's mmap lock is held
 * @start: first address, inside the VMA
 * @end: first address after the range
 * @budget: page tables to look into before the walk pauses; counted down
 * @mapped: called back, under the PTL: must not sleep
 * @ctx: its first argument
 */
struct fmi_procwalk {
	struct vm_area_struct *vma;
	unsigned long start;
	unsigned long end;
	unsigned int budget;
	void (*mapped)(void *ctx, const struct fmi_mapped *mapped);
	void *ctx;
};

bool fmi_vma_has_rss(const struct vm_area_struct *vma);
unsigned long fmi_procwalk_range(struct fmi_procwalk *walk);

/* Pages, as in /proc/vmstat. */
struct fmi_vmstat {
	unsigned long anon_mapped;
	unsigned long file_mapped;
	unsigned long shmem;
	unsigned long anon_thps;
};

bool fmi_has_page_mapcounts(void);
void fmi_cond_resched(void);
void fmi_read_vmstat(struct fmi_vmstat *vmstat);
bool fmi_folio_memcg(unsigned long pfn, unsigned int order, u64 *ino, char *path,
		     size_t size);

#endif
