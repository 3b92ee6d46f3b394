/* SPDX-License-Identifier: GPL-2.0 */
/*
 * C that exists only as inlines or macros in the kernel's headers, made
 * callable from Rust. One job a function; no policy here.
 */
#ifndef FMI_SHIMS_H
#define FMI_SHIMS_H

#include <linux/types.h>

struct folio;
struct ftrace_regs;
struct mm_struct;
struct page;
struct task_struct;
struct vm_area_struct;

/* What kind of folio an rmap call or a page-table entry concerns. */
enum fmi_class {
	FMI_CLASS_TRACK,	/* large folio at an address that is known */
	FMI_CLASS_NONLINEAR,	/* large rmappable, but the address is unknown */
	FMI_CLASS_HUGETLB,
	FMI_CLASS_ZONE_DEVICE,
	FMI_CLASS_NOT_RMAPPABLE,	/* driver compound page */
	FMI_CLASS_SMALL,	/* order-0 */
	FMI_NR_CLASSES,
};

enum fmi_kind {
	FMI_KIND_ANON,
	FMI_KIND_FILE,
	FMI_KIND_SHMEM,
	FMI_KIND_HUGETLB,
	FMI_KIND_DRIVER,	/* of a driver, or device memory */
	FMI_KIND_KSM,
};

/* No base: an address that is not known. Bases are addresses of pages. */
#define FMI_NO_BASE 1UL

/**
 * struct fmi_site - one mapping, or one batch of them, of a folio
 * @folio: it, while what the site was made of keeps it; NULL for hugetlb in a
 *	page table that is shared
 * @pfn: of the head page
 * @base: virtual address of page 0 of the folio under the VMA's linear rule;
 *	an identity, may wrap; FMI_NO_BASE if it is not known
 * @vma_start: first address of the VMA
 * @vma_end: first address after the VMA
 * @first: first page of the batch, counted from the head page
 * @nr: number of pages; all of the folio for an entire mapping
 * @order: of the folio
 * @kind: enum fmi_kind
 * @class: enum fmi_class; the fields above are complete for FMI_CLASS_TRACK,
 *	@folio, @pfn and @order also for FMI_CLASS_NONLINEAR
 * @entire: one entry maps the whole folio
 * @unmapped: the folio's large mapcount says unmapped
 * @table: pfn of the page table that a hugetlb entry is in, if other MMs may
 *	share it; else 0
 * @table_base: as @base, from the first address of @table; only with @table
 * @table_shared: other MMs share @table now; only with @table
 */
struct fmi_site {
	const struct folio *folio;
	unsigned long pfn;
	unsigned long base;
	unsigned long vma_start;
	unsigned long vma_end;
	u32 first;
	u32 nr;
	u8 order;
	u8 kind;
	u8 class;
	bool entire;
	bool unmapped;
	bool table_shared;
	unsigned long table;
	unsigned long table_base;
};

/**
 * struct fmi_counts - the kernel's own counters of a large folio, bias removed
 * @large: mappings, from _large_mapcount
 * @entire: entire mappings, from _entire_mapcount
 * @nr_pages_mapped: _nr_pages_mapped as stored
 * @refcount: folio_ref_count()
 * @mm_id: the two owner slots, 0 is unused
 * @mm_id_mapcount: mappings counted in each slot
 * @expected_refs: references by mappings, page cache, swap cache, PG_private:
 *                 what folio_expected_ref_count() says
 * @per_page: CONFIG_PAGE_MAPCOUNT, @nr_pages_mapped and _mapcount are kept
 * @shared_bit: the "maybe mapped shared" bit as stored
 * @maybe_mapped_shared: folio_maybe_mapped_shared()
 * @partially_mapped: PG_partially_mapped
 * @swapcache: in the swap cache
 * @anon: anonymous
 * @order: of the folio
 */
struct fmi_counts {
	int large;
	int entire;
	int nr_pages_mapped;
	int refcount;
	u32 mm_id[2];
	int mm_id_mapcount[2];
	int expected_refs;
	bool per_page;
	bool shared_bit;
	bool maybe_mapped_shared;
	bool partially_mapped;
	bool swapcache;
	bool anon;
	u8 order;
};

/* Geometry of the running kernel. */
unsigned int fmi_page_shift(void);
unsigned int fmi_pmd_order(void);
unsigned int fmi_max_order(void);
unsigned long fmi_totalram_pages(void);

/* Hook arguments. */
#define FMI_RMAP_ARGS 5
unsigned long fmi_arg(struct ftrace_regs *fregs, unsigned int n);
void fmi_rmap_args(struct ftrace_regs *fregs, unsigned long *args);
unsigned long fmi_ret(struct ftrace_regs *fregs);
void fmi_site_of_call(struct folio *folio, struct page *page, unsigned int nr,
		      struct vm_area_struct *vma, unsigned long addr,
		      bool new_anon, struct fmi_site *site);

void fmi_site_of_trace(struct folio *folio, struct page *page, unsigned int nr,
		       const struct vm_area_struct *vma, unsigned long addr,
		       bool entire, bool new_anon, struct fmi_site *site);

/* VMA fields. */
struct mm_struct *fmi_vma_mm(const struct vm_area_struct *vma);
unsigned long fmi_vma_start(const struct vm_area_struct *vma);
unsigned long fmi_vma_end(const struct vm_area_struct *vma);
bool fmi_vma_is_hugetlb(const struct vm_area_struct *vma);
bool fmi_fork_copies(const struct vm_area_struct *dst,
		     const struct vm_area_struct *src);

/* Classes that are counted and not tracked, per CPU. */
void fmi_class_add(unsigned int class);
u64 fmi_class_sum(unsigned int class);
void fmi_class_reset(void);

/* The kernel's counters. */
bool fmi_pfn_is_device(unsigned long pfn);
bool fmi_folio_counts(unsigned long pfn, unsigned int order,
		      struct fmi_counts *counts);
void fmi_counts_of(const struct folio *folio, unsigned int order,
		   struct fmi_counts *counts);
bool fmi_page_mapcounts(unsigned long pfn, unsigned int order,
			unsigned int first, int *counts, unsigned int nr);
bool fmi_page_anon_exclusive(unsigned long pfn, unsigned int order,
			     unsigned int i);
bool fmi_pfn_to_folio(unsigned long pfn, unsigned long *head_pfn,
		      unsigned int *order, unsigned int *class,
		      unsigned int *kind);

/* Tasks and MMs. */
struct fmi_caller {
	unsigned long mm;
	unsigned long task;
	u32 mm_id;
	u32 pid;
};

void fmi_caller_in(const struct vm_area_struct *vma, struct fmi_caller *caller);
struct task_struct *fmi_current(void);
int fmi_current_pid(void);
bool fmi_current_has_return_stack(void);
void fmi_stay_loaded(void);
size_t fmi_collect_mms(struct mm_struct **mms, size_t nr);
bool fmi_mmget_not_zero(struct mm_struct *mm);
void fmi_mmdrop(struct mm_struct *mm);

/**
 * struct fmi_owner - a process that uses an MM
 * @pid: of the process, in the initial namespace
 * @mm_id: the id that the kernel's owner slots use for the MM
 * @comm: name of the process
 */
struct fmi_owner {
	int pid;
	u32 mm_id;
	char comm[16];
};

bool fmi_mm_owner(const struct mm_struct *mm, struct fmi_owner *owner);
struct mm_struct *fmi_mm_of_pid(int pid);
int fmi_mmap_read_lock_killable(struct mm_struct *mm);
void fmi_mmap_read_unlock(struct mm_struct *mm);

/**
 * struct fmi_move - what move_page_tables() was asked to do
 * @old_vma: source VMA
 * @new_vma: destination VMA
 * @old_addr: first address to move from
 * @new_addr: address it moves to
 * @len: bytes
 */
struct fmi_move {
	struct vm_area_struct *old_vma;
	struct vm_area_struct *new_vma;
	unsigned long old_addr;
	unsigned long new_addr;
	unsigned long len;
};

bool fmi_read_move(unsigned long pmc, struct fmi_move *move);

struct fprobe;
unsigned long fmi_fprobe_addr(const struct fprobe *fp, unsigned int n);

/**
 * struct fmi_walk - a walk over the leaf entries of one MM
 * @mm: whose page tables
 * @vma: VMA that gives the linear rule; NULL: addresses count as they are
 * @start: first address
 * @end: first address after the range
 * @stop_pmd: stop before the range of this PMD entry, or NULL
 * @leaf: called for each batch of entries that map a large folio, PTL held
 * @mark: called when the range is known up to the given address, with the lock
 *	held that keeps mappings in the range before it from changing; may be
 *	NULL
 * @ctx: first argument of the callbacks
 * @resched: may sleep between page tables
 * @all: every large folio is one that is tracked, see fmi_site_of_entry()
 *
 * The callbacks must not sleep. The caller keeps the upper page-table levels
 * alive: it holds the mmap lock, or is the task that builds @mm at fork.
 */
struct fmi_walk {
	struct mm_struct *mm;
	struct vm_area_struct *vma;
	unsigned long start;
	unsigned long end;
	pmd_t *stop_pmd;
	void (*leaf)(void *ctx, unsigned long va, const struct fmi_site *site);
	void (*mark)(void *ctx, unsigned long start, unsigned long end);
	void *ctx;
	bool resched;
	bool all;
};

void fmi_walk_range(const struct fmi_walk *walk);
bool fmi_vma_is_at(struct mm_struct *mm, const struct vm_area_struct *vma,
		   unsigned long addr);
unsigned long fmi_walk_some(const struct fmi_walk *walk, unsigned int *budget);
unsigned long fmi_next_mapped(struct mm_struct *mm, unsigned long addr,
			      unsigned long end);
void fmi_site_of_entry(struct folio *folio, struct page *page, unsigned int nr,
		       const struct vm_area_struct *vma, unsigned long va,
		       bool entire, bool all, struct fmi_site *site);

#endif
