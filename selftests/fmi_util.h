/* SPDX-License-Identifier: GPL-2.0 */
/* Probes: the module's debugfs files, and pagemap, kpageflags, kpagecount, smaps. */
#ifndef FMI_UTIL_H
#define FMI_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FMI_NAME "folio_mapcount"
#define FMI_DIR "/sys/kernel/debug/" FMI_NAME "/"

extern unsigned long pgsz;	/* bytes of a page */
extern unsigned int pgshift;
extern unsigned long pmd_size;	/* bytes a PMD maps */
extern unsigned int pmd_order;

void fmi_util_init(void);

/* Both return the length, or -errno; read_text() ends the text with a NUL. */
int write_text(const char *path, const char *text);
int read_text(const char *path, char *buf, size_t size);
/* The same for a file of the module. */
int fmi_write(const char *file, const char *text);
int fmi_read(const char *file, char *buf, size_t size);

/* The value of "name: value" in a text; the first of these fails the case if there is none. */
long long text_value(const char *text, const char *name);
bool text_find(const char *text, const char *name, char *value, size_t size);

/* One value of the `stats` file. */
long long fmi_stat(const char *name);
/* All of it, in a static buffer: values that are compared are of one text, unless all is quiet. */
const char *fmi_stats(void);
/*
 * How many of the folios that windows have lost may be: all if tasks are blind that were being
 * forked when hooks were placed; else one for each UFFDIO_MOVE that was under way then.
 */
long long fmi_excused(long long lost_window, long long blind_calls, long long moves_unseen);
/* Folios that were lost, but for those; and a line of diagnosis for each reason. */
long long stats_lost_by_error(const char *stats);
void stats_say_lost(const char *stats);
/* Fails the case if any was since the last reset. May be called while a storm blows. */
void fmi_lost_nothing(void);
/* Do events come from the kernel's tracepoints, so that all large folios are tracked? */
bool fmi_tracepoints(void);
/* Waits until a value of `stats` is this one, and returns true. */
bool fmi_wait_stat(const char *name, long long want);

/* The report of one folio, in a static buffer; by_va returns NULL and errno. */
const char *fmi_report_pfn(unsigned long pfn);
const char *fmi_report_va(pid_t pid, unsigned long va);
/*
 * Runs an audit ("all" or a pid) and fails the case if it found a difference. With both backends
 * in use an audit of all compares their shadows, too.
 */
void fmi_audit(const char *target);
/* Are both backends in use? */
bool fmi_both(void);
/* Fails the case if their shadows ever differed since the last reset; nothing without both. */
void fmi_both_equal(const char *when);
/*
 * In the text of `both`: the second shadow has left out nothing, and nothing is in one only.
 * `in_flight` adds were not taken before its last scan was done, which made up for them.
 */
void fmi_second_complete(const char *both, const char *when, long long in_flight);
/*
 * Fails the case unless everything that an independent walk finds mapped is tracked, but for what
 * may be lost, see fmi_excused(). Returns how much is tracked. May be called while a storm blows.
 */
long long fmi_covered(void);
/* Is every record of the shadow one of a process that still is? Those that exit take a while. */
bool fmi_nothing_left(void);

/* Page table entries from /proc/PID/pagemap: 0 if not present, else the pfn. */
bool pagemap_pfns(pid_t pid, unsigned long va, unsigned long nr, unsigned long *pfns);
unsigned long pagemap_pfn(pid_t pid, unsigned long va);
bool pagemap_swapped(pid_t pid, unsigned long va);
/* From /proc/kpageflags and /proc/kpagecount. */
uint64_t page_flags(unsigned long pfn);
void page_counts(unsigned long pfn, unsigned long nr, uint64_t *counts);
/* The head and order of the folio a page belongs to (order 0: not a compound page). */
unsigned int folio_order(unsigned long pfn, unsigned long *head);

/* Is there a VMA of exactly this range? */
bool vma_exists(pid_t pid, unsigned long start, unsigned long end);
/* kB mapped by PMDs in the VMA that starts there (anon, shmem and file). */
long vma_pmd_kb(pid_t pid, unsigned long start);

/*
 * Does the kernel keep mapcounts per page (CONFIG_PAGE_MAPCOUNT)? Said by its configuration; one
 * that does not show it is taken for one that does, as the stock kernels do.
 */
bool fmi_page_mapcounts(void);

void msleep(unsigned int ms);
double now_seconds(void);

/* The module itself: loaded, and from a file (FMI_MODULE, or beside the tests, or modprobe). */
bool module_loaded(void);
int module_load(const char *params);
int module_unload(void);
/* The same without modprobe, which hides the error; skips the case if there is no file. */
int module_load_file(const char *params);
/* Opens that file. */
int module_open(void);
/*
 * Has the module planted faults? No: skips the case, or fails it if the tests were told that it
 * has (FMI_FAULTS).
 */
void module_needs_faults(void);
/* Sets the parameter of a planted fault. */
void module_plant(const char *fault, unsigned int value);
bool module_uses_tracepoints(void);
void module_needs_windows(void);
/* Loads the module and enables it if necessary; fails the case if it cannot. */
void module_ready(void);

#endif
