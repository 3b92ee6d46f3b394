// SPDX-License-Identifier: GPL-2.0
/* Each rmap call belongs to the operation that made it: calls_* of `stats`. */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static const char *const operations[] = {
	"fault", "cow", "swapin", "uffd", "zap_exit", "zap_munmap", "zap_dontneed", "unmap",
	"migrate_out", "migrate_in", "pmd_split", "collapse", "swapoff", "fork", "move", "vma",
	"other",
};

static long long calls[ARRAY_SIZE(operations)];

static void look(long long *values)
{
	static char text[1 << 16];
	char name[32];

	fmi_assert(fmi_read("stats", text, sizeof(text)) > 0, "cannot read stats");
	for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
		snprintf(name, sizeof(name), "calls_%s", operations[i]);
		values[i] = text_value(text, name);
	}
}

static void begin(void)
{
	look(calls);
}

/* There were calls of these operations (at most two), and of no other. */
static void only(const char *one, const char *two)
{
	long long now[ARRAY_SIZE(operations)];

	look(now);
	for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
		bool wanted = !strcmp(operations[i], one) || (two && !strcmp(operations[i], two));

		if (wanted)
			fmi_assert(now[i] > calls[i], "no call of %s", operations[i]);
		else
			fmi_eq(now[i] - calls[i], 0, operations[i]);
	}
	fmi_eq(fmi_stat("operation_unknown"), 0, "unknown callers");
}

static void a_fault(struct fmi_scene *s)
{
	begin();
	s_populate(s);
	only("fault", NULL);
}

static void a_write_copies(struct fmi_scene *s)
{
	s_populate(s);
	s_fork(s, 1, 2);
	begin();
	s_cow(s, 2, 1);
	/* A PMD is split first. */
	only("cow", s->order == pmd_order ? "pmd_split" : NULL);
}

static void an_exit(struct fmi_scene *s)
{
	s_populate(s);
	begin();
	s_exit(s, 1);
	only("zap_exit", NULL);
}

static void a_munmap(struct fmi_scene *s)
{
	s_populate(s);
	begin();
	s_munmap(s, 1, 0, s->nr);
	only("zap_munmap", NULL);
}

static void a_mmap_over_it(struct fmi_scene *s)
{
	s_populate(s);
	begin();
	p_mmap(1, s->va, s->size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	only("zap_munmap", NULL);
}

/* What mremap moves away from, and what was where it moves to. */
static void an_mremap_over_it(struct fmi_scene *s)
{
	unsigned long from = s->arena + 8 * pmd_size;

	s_populate(s);
	p_mmap(1, from, s->size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	begin();
	p_mremap(1, from, s->size, s->va, 0);
	only("zap_munmap", NULL);
}

static void a_madvise(struct fmi_scene *s)
{
	s_populate(s);
	begin();
	p_madvise(1, s->va, s->size, MADV_DONTNEED);
	only("zap_dontneed", NULL);
}

static void a_truncation(struct fmi_scene *s)
{
	s_populate(s);
	begin();
	fmi_assert(!ftruncate(s->fd, 0), "ftruncate: %m");
	only("zap_dontneed", NULL);
}

/* A new folio takes the place of small pages. */
static void a_collapse(struct fmi_scene *s)
{
	char *p;

	thp_never();
	p = mmap((void *)s->va, s->size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	fmi_assert(p == (char *)s->va, "mmap: %m");
	memset(p, 1, s->size);
	begin();
	if (madvise(p, s->size, MADV_COLLAPSE))
		fmi_skip("MADV_COLLAPSE: %m");
	only("collapse", NULL);
}

/* The pages of a memfd, mapped by UFFDIO_CONTINUE. */
static void a_userfault(struct fmi_scene *s)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_MINOR_SHMEM };
	unsigned long va = s->arena + 8 * pmd_size;
	struct uffdio_register reg = {
		.range = { .start = va, .len = s->size },
		.mode = UFFDIO_REGISTER_MODE_MINOR,
	};
	struct uffdio_continue go = { .range = { .start = va, .len = s->size } };
	int uffd;

	s_populate(s);
	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		fmi_skip("no userfaultfd for minor faults: %m");
	fmi_assert(mmap((void *)va, s->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s->fd,
			0) == (void *)va, "mmap: %m");
	fmi_assert(!ioctl(uffd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER: %m");
	begin();
	fmi_assert(!ioctl(uffd, UFFDIO_CONTINUE, &go), "UFFDIO_CONTINUE: %m");
	only("uffd", NULL);
}

static const struct fmi_test tests[] = {
	{ "a_fault", a_fault, ON_EACH },
	{ "a_write_copies", a_write_copies, ON_ANON },
	{ "an_exit", an_exit, ON_EACH },
	{ "a_munmap", a_munmap, ON_EACH },
	{ "a_mmap_over_it", a_mmap_over_it, ON_EACH },
	{ "an_mremap_over_it", an_mremap_over_it, ON_EACH },
	{ "a_madvise", a_madvise, ON_EACH },
	{ "a_truncation", a_truncation, ON_SHMEM | ON_FILE },
	{ "a_collapse", a_collapse, ON_ANON | PMD_ONLY },
	{ "a_userfault", a_userfault, ON_SHMEM },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
