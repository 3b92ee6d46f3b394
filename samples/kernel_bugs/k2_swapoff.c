// SPDX-License-Identifier: GPL-2.0
/*
 * K2: swapoff maps one page of a large folio that was just swapped in and counts all its pages.
 * See Documentation/kernel/k2-swapoff-large-swapin.rst. With the argument "race" swapoff meets the
 * fault itself; without, it comes later and finds what a fault left behind. "cow": so does a fork.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bugs.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

#define THP "/sys/kernel/mm/transparent_hugepage/"
#define WHERE ((char *)(64UL << 30))
#define REGIONS 16
#define TRIES 20
#define ZRAM_BYTES (256UL << 20)

static size_t page;		/* bytes of a page */
static size_t size;		/* and of a folio */
static char swap_device[64];
static atomic_int go;		/* 1 + the region that the other thread shall touch */
static atomic_long touched_ns;

static long now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000L + ts.tv_nsec;
}

static char *region(int i)
{
	return WHERE + (size_t)i * size;
}

/* The largest size below the PMD's: it takes longest to read. */
static void only_one_size(void)
{
	char path[128], value[64];

	read_text(THP "hpage_pmd_size", value, sizeof(value));
	size = strtoul(value, NULL, 10);
	for (size_t bytes = 2 * page; bytes <= size; bytes *= 2) {
		snprintf(path, sizeof(path), THP "hugepages-%zukB/enabled", bytes >> 10);
		write_text(path, bytes == size / 2 ? "always" : "never");
	}
	size /= 2;
}

static void swap_on_zram(void)
{
	unsigned int words[3] = { 1 /* version */, 0, 0 };
	char number[16] = "", path[128], bytes[32];
	char *header = calloc(1, page);
	int fd;

	if (system("modprobe -q zram num_devices=0") ||
	    !read_text("/sys/class/zram-control/hot_add", number, sizeof(number)))
		die("no zram");
	number[strcspn(number, "\n")] = '\0';
	snprintf(path, sizeof(path), "/sys/block/zram%s/disksize", number);
	snprintf(bytes, sizeof(bytes), "%lu", ZRAM_BYTES);
	if (!write_text(path, bytes))
		die("no disk on zram");
	snprintf(swap_device, sizeof(swap_device), "/dev/zram%s", number);
	for (int i = 0; i < 100 && access(swap_device, F_OK); i++)
		usleep(20000);
	words[1] = (unsigned int)(ZRAM_BYTES / page) - 1;
	memcpy(header + 1024, words, sizeof(words));
	memcpy(header + page - 10, "SWAPSPACE2", 10);
	fd = open(swap_device, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || pwrite(fd, header, page, 0) != (ssize_t)page)
		die("cannot write to %s", swap_device);
	close(fd);
	free(header);
}

/* One folio in each region, with something to compress in every page; then all swapped out. */
static void fill_and_swap_out(void)
{
	unsigned int x = 1;

	madvise(WHERE, REGIONS * size, MADV_DONTNEED);
	for (size_t at = 0; at < REGIONS * size; at += sizeof(x)) {
		x = x * 1664525 + 1013904223;
		*(volatile unsigned int *)(WHERE + at) = at & 32 ? x : (unsigned int)at;
	}
	if (madvise(WHERE, REGIONS * size, MADV_PAGEOUT))
		die("MADV_PAGEOUT: %s", strerror(errno));
}

static void *toucher(void *arg)
{
	for (;;) {
		int i;
		long begin;

		while (!(i = atomic_load(&go)))
			sched_yield();
		if (i < 0)
			return arg;
		begin = now_ns();
		(void)*(volatile char *)region(i - 1);
		atomic_store(&touched_ns, now_ns() - begin);
		atomic_store(&go, 0);
	}
}

static void start_touch(int i)
{
	atomic_store(&go, i + 1);
}

static void wait_touch(void)
{
	while (atomic_load(&go))
		sched_yield();
}

/* How long it takes to swap in a whole folio. */
static long measure(void)
{
	start_touch(0);
	wait_touch();
	say("a folio of %zu kB is read in %ld us", size >> 10, atomic_load(&touched_ns) / 1000);
	return atomic_load(&touched_ns);
}

/*
 * A page fault on page 0 reads the folio; before it has taken the folio lock again, page 0 is
 * dropped. The fault finds its entry gone and leaves the folio in the swap cache, not yet anon.
 */
static int leave_one_in_the_cache(long longest, int *which)
{
	int left = 0;

	for (int i = 1; i < REGIONS; i++) {
		long long before = value_in("/proc/vmstat", "nr_swapcached ");
		long end;

		start_touch(i);
		end = now_ns() + longest * (rand() % 100) / 100;
		while (now_ns() < end)
			;
		madvise(region(i), page, MADV_DONTNEED);
		wait_touch();
		if (value_in("/proc/vmstat", "nr_swapcached ") > before) {
			left++;
			*which = i;
		}
	}
	return left;
}

/* Of a page of this process: a word of pagemap, or of kpagecount for the page that is there. */
static uint64_t word_of(const char *file, uint64_t index)
{
	uint64_t word;
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || pread(fd, &word, sizeof(word), (off_t)(index * 8)) != sizeof(word))
		die("cannot read %s", file);
	close(fd);
	return word;
}

static uint64_t mapcount(char *at)
{
	uint64_t entry = word_of("/proc/self/pagemap", (uintptr_t)at / page);

	if (!(entry >> 63))
		return 0;
	return word_of("/proc/kpagecount", entry & ((1ULL << 55) - 1));
}

static void show(const char *when)
{
	static const char *const stats[] = {
		"lost:", "inconsistent_add_mapped:", "mismatches:"
	};

	say("%s: AnonPages %lld kB, nr_swapcached %lld", when,
	    value_in("/proc/meminfo", "AnonPages:"), value_in("/proc/vmstat", "nr_swapcached "));
	module_stats(stats, ARRAY_SIZE(stats));
	kernel_log();
}

/* Only this process maps these pages, each once: whatever has more than one mapping is wrong. */
static int wrong_folios(void)
{
	static const char *const words[] = {
		"pfn", "order", "total:", "kernel_large_mapcount", "kernel_page_mapcounts",
		"page_mapcounts", "mapper:", "compare"
	};
	int wrong = 0;

	for (int i = 0; i < REGIONS; i++) {
		int twice = 0;

		for (size_t at = 0; at < size; at += page)
			twice += mapcount(region(i) + at) > 1;
		if (!twice)
			continue;
		say("region %d: kpagecount says of %d pages that two PTEs map them", i, twice);
		if (!wrong++)
			module_folio((unsigned long)region(i) + page, words, ARRAY_SIZE(words));
	}
	return wrong;
}

/* swapoff waits for the lock of a folio that is being read, and gets it before the fault does. */
static void swapoff_during_fault(long longest)
{
	struct sched_param param = { .sched_priority = 1 };
	struct timespec delay = { .tv_nsec = longest / 2 % 1000000000 };

	if (sched_setscheduler(0, SCHED_FIFO, &param))
		die("SCHED_FIFO: %s", strerror(errno));
	start_touch(1);
	nanosleep(&delay, NULL);
	if (swapoff(swap_device))
		die("swapoff: %s", strerror(errno));
	param.sched_priority = 0;
	sched_setscheduler(0, SCHED_OTHER, &param);
	wait_touch();
}

static void swapoff_after_faults(long longest)
{
	int which;
	int left = leave_one_in_the_cache(longest, &which);

	show("swapped in");
	say("folios that a fault left in the swap cache when it had lost its entry: %d", left);
	if (swapoff(swap_device))
		die("swapoff: %s", strerror(errno));
}

/* The child: tells what it reads in a page of two regions, whenever it is asked. */
static void child(int ask, int tell, volatile char *const *pages)
{
	char values[2], go_on;

	while (read(ask, &go_on, 1) == 1) {
		for (int i = 0; i < 2; i++)
			values[i] = *pages[i];
		if (write(tell, values, 2) != 2)
			break;
	}
	_exit(0);
}

static void ask_child(int ask, int answer, char *values)
{
	if (write(ask, "", 1) != 1 || read(answer, values, 2) != 2)
		die("the child is gone");
}

/*
 * The second page of the folio is not for children, the others are shared with one. swapoff maps
 * the second page first, and makes all pages of the folio exclusive by the entry of that one.
 * Returns whether the child saw what its parent wrote after the fork. The same is done to region
 * 0, whose folio was swapped in as it should be.
 */
static bool write_goes_to_the_child(long longest)
{
	static const char *const names[] = { "swapped in by the fault", "left to swapoff" };
	int to_child[2], from_child[2], regions[2] = { 0 };
	volatile char *pages[2];
	char before[2], after[2];
	pid_t pid;

	if (!leave_one_in_the_cache(longest, &regions[1])) {
		if (swapoff(swap_device))
			die("swapoff: %s", strerror(errno));
		return false;
	}
	for (int i = 0; i < 2; i++) {
		pages[i] = region(regions[i]) + 2 * page;
		if (madvise(region(regions[i]) + page, page, MADV_DONTFORK))
			die("MADV_DONTFORK: %s", strerror(errno));
	}
	if (pipe(to_child) || pipe(from_child))
		die("pipe: %s", strerror(errno));
	pid = fork();
	if (!pid) {
		close(to_child[1]);
		child(to_child[0], from_child[1], pages);
	}
	if (pid < 0 || swapoff(swap_device))
		die("fork or swapoff: %s", strerror(errno));
	ask_child(to_child[1], from_child[0], before);
	for (int i = 0; i < 2; i++)
		*pages[i] = (char)(before[i] + 1);
	ask_child(to_child[1], from_child[0], after);
	for (int i = 0; i < 2; i++)
		say("region %d, %s: the child read %d, the parent wrote %d to its private memory, "
		    "the child reads %d",
		    regions[i], names[i], before[i], before[i] + 1, after[i]);
	close(to_child[1]);
	waitpid(pid, NULL, 0);
	return after[1] != before[1] && after[0] == before[0];
}

int main(int argc, char **argv)
{
	bool race = argc > 1 && !strcmp(argv[1], "race");
	bool cow = argc > 1 && !strcmp(argv[1], "cow");
	pthread_t thread;
	cpu_set_t cpu;
	int wrong = 0;

	page = (size_t)sysconf(_SC_PAGESIZE);
	only_one_size();
	swap_on_zram();
	module_start();
	show("begin");
	if (mmap(WHERE, REGIONS * size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != WHERE)
		die("mmap: %s", strerror(errno));
	CPU_ZERO(&cpu);
	CPU_SET(0, &cpu);
	if (race && sched_setaffinity(0, sizeof(cpu), &cpu))
		die("no CPU 0");
	if (pthread_create(&thread, NULL, toucher, NULL))
		die("no second thread");
	for (int i = 0; i < TRIES && !wrong; i++) {
		long longest;

		if (swapon(swap_device, 0))
			die("swapon: %s", strerror(errno));
		fill_and_swap_out();
		longest = measure();
		if (race)
			swapoff_during_fault(longest);
		else if (cow)
			wrong = write_goes_to_the_child(longest);
		else
			swapoff_after_faults(longest);
		wrong += wrong_folios();
	}
	show("swapoff is done");
	module_audit();
	munmap(WHERE, REGIONS * size);
	show("unmapped");
	module_audit();
	kernel_log();
	atomic_store(&go, -1);
	pthread_join(thread, NULL);
	say("%s", wrong ? "REPRODUCED" : "not reproduced");
	return !wrong;
}
