// SPDX-License-Identifier: GPL-2.0
#include "fmi_life.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_util.h"

#define MPOL_DEFAULT_ 0
#define MPOL_BIND_ 2
#define MPOL_MF_STRICT_ 1
#define MPOL_MF_MOVE_ 2
#define MPOL_MF_MOVE_ALL_ 4

#define SPLIT_FILE "/sys/kernel/debug/split_huge_pages"
#define CGROUP_ROOT "/sys/fs/cgroup"
#define CGROUP CGROUP_ROOT "/fmi-life"

static long do_madvise(unsigned long va, unsigned long len, unsigned long advice, unsigned long d)
{
	(void)d;
	return madvise((void *)va, len, (int)advice);
}

int p_try_madvise(int who, unsigned long va, unsigned long len, int advice)
{
	return (int)p_call(who, do_madvise, va, len, (unsigned long)advice, 0);
}

static long do_move_page(unsigned long va, unsigned long node, unsigned long c, unsigned long d)
{
	void *page = (void *)va;
	int to = (int)node;
	int status = -ENODATA;
	long left;

	(void)c;
	(void)d;
	left = syscall(SYS_move_pages, 0, 1, &page, &to, &status, MPOL_MF_MOVE_ALL_);
	if (left < 0)
		return -1;
	if (status == to)
		return 0;
	/* Pages that could not be moved are only counted. */
	if (left > 0) {
		errno = EAGAIN;
		return -1;
	}
	errno = status < 0 ? -status : EBUSY;
	return -1;
}

int p_try_move_page(int who, unsigned long va, int node)
{
	return (int)p_call(who, do_move_page, va, (unsigned long)node, 0, 0);
}

static long do_mbind(unsigned long va, unsigned long len, unsigned long node, unsigned long d)
{
	unsigned long mask = 0;

	(void)d;
	if ((long)node < 0)
		return syscall(SYS_mbind, va, len, MPOL_DEFAULT_, NULL, 0, 0);
	mask = 1UL << node;
	return syscall(SYS_mbind, va, len, MPOL_BIND_, &mask, 8 * sizeof(mask),
		       MPOL_MF_MOVE_ALL_ | MPOL_MF_STRICT_);
}

int p_try_mbind(int who, unsigned long va, unsigned long len, int node)
{
	return (int)p_call(who, do_mbind, va, len, (unsigned long)node, 0);
}

void p_kill(int who)
{
	fmi_assert(!kill(p_pid(who), SIGKILL), "kill: %s", strerror(errno));
	p_gone(who);
}

static long do_exec(unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
	(void)a;
	(void)b;
	(void)c;
	(void)d;
	execl("/bin/sh", "sh", "-c", "exit 0", (char *)NULL);
	return -1;
}

void p_exec(int who)
{
	p_tell(who, do_exec, 0, 0, 0, 0);
	p_gone(who);
}

static unsigned long contents(unsigned long page, unsigned long data)
{
	return data << 48 | (page + 1);
}

static long do_fill(unsigned long va, unsigned long pages, unsigned long data, unsigned long d)
{
	(void)d;
	for (unsigned long i = 0; i < pages; i++)
		*(volatile unsigned long *)(va + i * pgsz) = contents(va / pgsz + i, data);
	return 0;
}

void p_fill(int who, unsigned long va, unsigned long pages, unsigned int data)
{
	fmi_eq(p_call(who, do_fill, va, pages, data, 0), 0, "fill");
}

static long do_verify(unsigned long va, unsigned long pages, unsigned long data, unsigned long d)
{
	(void)d;
	for (unsigned long i = 0; i < pages; i++) {
		if (*(volatile unsigned long *)(va + i * pgsz) != contents(va / pgsz + i, data))
			return (long)i + 1;
	}
	return 0;
}

void p_verify(int who, unsigned long va, unsigned long pages, unsigned int data)
{
	long ret = p_call(who, do_verify, va, pages, data, 0);

	fmi_assert(ret == 0, "actor %d: page %ld has other contents", who, ret - 1);
}

void split_request(int who, unsigned long va, unsigned long len, unsigned int order, long at)
{
	char text[128];
	int ret;

	if (access(SPLIT_FILE, W_OK))
		fmi_skip("no %s", SPLIT_FILE);
	if (at < 0)
		snprintf(text, sizeof(text), "%d,0x%lx,0x%lx,%u", p_pid(who), va, va + len, order);
	else
		snprintf(text, sizeof(text), "%d,0x%lx,0x%lx,%u,%ld", p_pid(who), va, va + len,
			 order, at);
	ret = write_text(SPLIT_FILE, text);
	fmi_assert(ret > 0, "split_huge_pages: %s", strerror(-ret));
}

void cgroup_make(void)
{
	int ret;

	if (access(CGROUP_ROOT "/cgroup.controllers", F_OK))
		fmi_skip("cgroup2 is not mounted");
	write_text(CGROUP_ROOT "/cgroup.subtree_control", "+memory");
	/* What an earlier case left. */
	cgroup_remove();
	ret = mkdir(CGROUP, 0700);
	fmi_assert(!ret, "%s: %s", CGROUP, strerror(errno));
	if (access(CGROUP "/memory.max", W_OK)) {
		cgroup_remove();
		fmi_skip("no memory controller in cgroup2");
	}
}

void cgroup_remove(void)
{
	rmdir(CGROUP);
}

void cgroup_set(const char *file, const char *value)
{
	char path[128];
	int ret;

	snprintf(path, sizeof(path), CGROUP "/%s", file);
	ret = write_text(path, value);
	fmi_assert(ret > 0, "%s: %s", path, strerror(-ret));
}

long long cgroup_get(const char *file)
{
	char path[128], text[64];
	int ret;

	snprintf(path, sizeof(path), CGROUP "/%s", file);
	ret = read_text(path, text, sizeof(text));
	fmi_assert(ret > 0, "%s: %s", path, strerror(-ret));
	return strtoll(text, NULL, 10);
}

long long cgroup_event(const char *file, const char *name)
{
	static char text[1 << 14];
	char path[128];
	size_t len = strlen(name);

	snprintf(path, sizeof(path), CGROUP "/%s", file);
	fmi_assert(read_text(path, text, sizeof(text)) > 0, "cannot read %s", path);
	for (char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, name, len) && line[len] == ' ')
			return strtoll(line + len + 1, NULL, 10);
	}
	fmi_fail("no line '%s' in %s", name, path);
}

void cgroup_enter(pid_t pid)
{
	char text[32];

	snprintf(text, sizeof(text), "%d", pid);
	cgroup_set("cgroup.procs", text);
}

int cgroup_reclaim(unsigned long bytes)
{
	char text[32];
	int ret;

	snprintf(text, sizeof(text), "%lu", bytes);
	ret = write_text(CGROUP "/memory.reclaim", text);
	return ret < 0 ? ret : 0;
}

unsigned long s_pages_of_order(struct fmi_scene *s, unsigned int order)
{
	unsigned long found = 0;
	unsigned long head = 0;
	unsigned int last = 0;

	for (int i = 0; i < s->e.nr_vmas; i++) {
		const struct ex_vma *vma = &s->e.vmas[i];
		unsigned long nr = (vma->end - vma->start) >> pgshift;
		unsigned long *pfns = calloc(nr, sizeof(*pfns));

		fmi_assert(pfns && pagemap_pfns(p_pid(vma->who), vma->start, nr, pfns), "pagemap");
		for (unsigned long j = 0; j < nr; j++) {
			if (!pfns[j])
				continue;
			if (!last || pfns[j] < head || pfns[j] >= head + (1UL << last))
				last = folio_order(pfns[j], &head);
			found += last == order;
		}
		free(pfns);
	}
	return found;
}

void s_gone(struct fmi_scene *s, const char *what)
{
	for (int i = 0; i < s->e.nr_vmas; i++) {
		const struct ex_vma *vma = &s->e.vmas[i];

		for (unsigned long va = vma->start; p_pid(vma->who) && va < vma->end; va += pgsz) {
			unsigned long pfn = pagemap_pfn(p_pid(vma->who), va);

			if (pfn >= s->e.pfn && pfn < s->e.pfn + s->nr &&
			    folio_order(pfn, NULL) == s->order)
				fmi_fail("%s: actor %d still maps 0x%lx", what, vma->who, va);
		}
	}
	s->e.nr_mappings = 0;
	ex_check_gone(&s->e, what);
}

void s_learn(struct fmi_scene *s)
{
	for (int who = 1; who < FMI_ACTORS; who++) {
		if (p_pid(who))
			ex_learn(&s->e, who);
	}
}
