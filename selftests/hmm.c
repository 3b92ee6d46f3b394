// SPDX-License-Identifier: GPL-2.0
/*
 * Heterogeneous memory, with the kernel's own pretended device (lib/test_hmm.c): entries that give
 * the device a page for itself keep the mapping (device-exclusive); memory that moves to the device
 * is mapped there (device-private). Of such folios rmap calls are seen like of others, but only the
 * tracepoints give their addresses.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/types.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_life.h"
#include "fmi_util.h"

#define DEVICE "/dev/hmm_dmirror0"

/* As in lib/test_hmm_uapi.h, which is not exported. */
struct mirror_command {
	__u64 addr;
	__u64 ptr;	/* where the device's data is copied to */
	__u64 npages;
	__u64 cpages;	/* pages that were copied */
	__u64 faults;
};

#define MIRROR_TO_DEVICE _IOWR('H', 0x02, struct mirror_command)
#define MIRROR_TO_SYSTEM _IOWR('H', 0x03, struct mirror_command)
#define MIRROR_EXCLUSIVE _IOWR('H', 0x05, struct mirror_command)

static void need_device(void)
{
	int ret = access(DEVICE, F_OK) ? system("modprobe test_hmm 2>/dev/null") : 0;

	if (ret || access(DEVICE, R_OK | W_OK))
		fmi_skip("no test_hmm in this kernel");
}

/* In the actor: 0 or -errno. The device belongs to the MM that opened it, until that is gone. */
static long mirror(unsigned long request, unsigned long va, unsigned long pages,
		   unsigned long unused)
{
	struct mirror_command command = { .addr = va, .npages = pages };
	static int fd = -1;
	static pid_t owner;
	long ret = 0;
	void *data;

	(void)unused;
	if (owner != getpid()) {
		fd = open(DEVICE, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		owner = getpid();
	}
	data = mmap(NULL, pages * pgsz, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (data == MAP_FAILED)
		return -errno;
	command.ptr = (unsigned long)data;
	if (ioctl(fd, request, &command))
		ret = -errno;
	else if (command.cpages != pages)
		ret = -EAGAIN;
	munmap(data, pages * pgsz);
	return ret;
}

static void take(struct fmi_scene *s, unsigned long request, unsigned long first,
		 unsigned long nr)
{
	long ret = p_call(1, mirror, request, s_page(s, first), nr, 0);

	fmi_assert(!ret, "the device cannot have pages %lu to %lu: %s", first, first + nr - 1,
		   strerror((int)-ret));
}

/* Two pages are the device's own. */
static void exclusive(struct fmi_scene *s)
{
	need_device();
	s_populate(s);
	p_fill(1, s->va, s->nr, 3);
	take(s, MIRROR_EXCLUSIVE, 1, 2);
	/* A PMD is split for it. */
	ex_split(&s->e, 1, s->va, pgsz);
	fmi_assert(!pagemap_pfn(p_pid(1), s_page(s, 1)), "page 1 is still the process's");
	s->e.hidden = 1;
	s->e.nr_hidden = 2;
}

static void exclusive_is_mapped(struct fmi_scene *s)
{
	exclusive(s);
	s_check(s, "exclusive");
	fmi_audit("all");
	p_verify(1, s->va, s->nr, 3);
	s->e.nr_hidden = 0;
	s_check(s, "the process has them back");
	fmi_audit("all");
}

/* fork takes them back first. */
static void exclusive_is_forked(struct fmi_scene *s)
{
	exclusive(s);
	s_fork(s, 1, 2);
	s->e.nr_hidden = 0;
	s_check(s, "forked");
	fmi_audit("all");
	p_verify(2, s->va, s->nr, 3);
	s_exit(s, 1);
	s_check(s, "the parent is gone");
	fmi_audit("all");
}

static void exclusive_is_moved(struct fmi_scene *s)
{
	unsigned long to = s->arena + 12 * pmd_size - s->size / 2;

	exclusive(s);
	p_mremap(1, s->va, s->size, to, 0);
	ex_move(&s->e, 1, s->va, s->size, to);
	s->va = to;
	s_check(s, "moved");
	fmi_audit("all");
	p_read(1, s->va, s->nr);
	s->e.nr_hidden = 0;
	s_check(s, "the process has them back");
}

static void exclusive_is_zapped(struct fmi_scene *s)
{
	exclusive(s);
	s_dontneed(s, 1, 1, 1);
	s_check(s, "page 1 is gone");
	fmi_audit("all");
	s_exit(s, 1);
	s_check(s, "all is gone");
}

/* The file `folio` finds the device's folio by any of its pages, and the kernel agrees. */
static void is_reported(void)
{
	static char folios[1 << 18];
	char mapper[48];

	snprintf(mapper, sizeof(mapper), "\nmapper: pid=%d ", p_pid(1));
	snprintf(folios, sizeof(folios), "order=%u", pmd_order);
	fmi_assert(fmi_write("filter", folios) > 0, "filter");
	fmi_assert(fmi_read("folios", folios, sizeof(folios)) > 0, "cannot read folios");
	fmi_assert(fmi_write("filter", "order=any") > 0, "filter");
	for (const char *line = strchr(folios, '\n'); line && line[1];
	     line = strchr(line + 1, '\n')) {
		unsigned long pfn, order;
		const char *report;

		if (sscanf(line, "%lu %lu", &pfn, &order) != 2 || order != pmd_order)
			continue;
		report = fmi_report_pfn(pfn + 3);
		if (!report || !strstr(report, mapper))
			continue;
		fmi_wait_until(!(report = fmi_report_pfn(pfn + 3)) ||
			       !strstr(report, "\ncompare: deferred\n"),
			       "the comparison of pfn %lu", pfn);
		fmi_assert(report, "the report is gone");
		fmi_eq(text_value(report, "pfn"), (long long)pfn, "pfn");
		fmi_eq(text_value(report, "total"), 1, "total");
		fmi_assert(strstr(report, "\ncompare: equal\n"), "%s", report);
		return;
	}
	fmi_fail("no report of the device's folio in:\n%s", folios);
}

/* All of the folio goes to the device; how many folios are tracked then, if any is. */
static long long to_device(struct fmi_scene *s)
{
	long long before;

	need_device();
	s_populate(s);
	p_fill(1, s->va, s->nr, 5);
	before = fmi_stat("tracked_folios");
	take(s, MIRROR_TO_DEVICE, 0, s->nr);
	s_gone(s, "gone to the device");
	fmi_audit("all");
	/* test_hmm has folios of the size of a PMD, and small ones. */
	if (fmi_tracepoints() && s->order == pmd_order) {
		fmi_eq(fmi_stat("tracked_folios"), before, "tracked, with the device's folio");
		is_reported();
	} else {
		fmi_assert(fmi_stat("tracked_folios") < before,
			   "the device's small pages are tracked");
	}
	return before;
}

/* A touch brings it back, into whatever folios. */
static void back_again(struct fmi_scene *s, int who)
{
	p_verify(who, s->va, s->nr, 5);
	s_check_found(s, "back again");
	fmi_audit("all");
}

static void private_and_back(struct fmi_scene *s)
{
	to_device(s);
	back_again(s, 1);
}

static void private_is_forked(struct fmi_scene *s)
{
	to_device(s);
	p_fork(1, 2);
	ex_fork(&s->e, 1, 2);
	fmi_audit("all");
	p_exit(1);
	ex_exit(&s->e, 1);
	fmi_audit("all");
	back_again(s, 2);
}

/* A part moves: the PMD is split, and with it the folio's mapping. */
static void private_is_moved(struct fmi_scene *s)
{
	unsigned long to = s->arena + 12 * pmd_size, half = s->size / 2;

	to_device(s);
	p_mremap(1, s->va, half, to, 0);
	fmi_audit("all");
	p_read(1, to, s->nr / 2);
	fmi_audit("all");
	p_munmap(1, s->va + half, half);
	fmi_audit("all");
}

static void private_is_zapped(struct fmi_scene *s)
{
	to_device(s);
	p_madvise(1, s_page(s, 1), pgsz, MADV_DONTNEED);
	fmi_audit("all");
	p_munmap(1, s->va, s->size);
	fmi_audit("all");
	p_exit(1);
	fmi_wait_until(fmi_nothing_left(), "records of processes that are gone to go");
}

/* Found there when tracking begins. */
static void private_is_scanned(struct fmi_scene *s)
{
	long long before = to_device(s);

	fmi_assert(fmi_write("enable", "0") > 0 && fmi_write("enable", "1") > 0, "enable");
	fmi_covered();
	if (fmi_tracepoints() && s->order == pmd_order)
		fmi_assert(fmi_stat("tracked_folios") >= before,
			   "the device's folio was not found");
	fmi_audit("all");
	back_again(s, 1);
}

#define EACH (ON_ANON | FEW_SIZES | NOT_ORDER1)

static const struct fmi_test tests[] = {
	{ "exclusive_is_mapped", exclusive_is_mapped, EACH },
	{ "exclusive_is_forked", exclusive_is_forked, EACH },
	{ "exclusive_is_moved", exclusive_is_moved, EACH },
	{ "exclusive_is_zapped", exclusive_is_zapped, EACH },
	{ "private_and_back", private_and_back, EACH },
	{ "private_is_forked", private_is_forked, EACH },
	{ "private_is_moved", private_is_moved, EACH },
	{ "private_is_zapped", private_is_zapped, EACH },
	{ "private_is_scanned", private_is_scanned, EACH },
};

int main(int argc, char **argv)
{
	fmi_util_init();
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
