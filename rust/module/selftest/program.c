// SPDX-License-Identifier: GPL-2.0
/*
 * The program of the self-test at load: does to a large folio what the hooks must
 * see, step by step, and waits after each until the module has looked. Built with
 * the module, kept inside it, run from memory; no C library.
 */
#include <asm/mman.h>
#include <asm/unistd.h>

#include "protocol.h"

/* The rest of the ABI: these headers of the kernel cannot be used uninstalled. */
enum {
	MAP_SHARED = 1,
	MAP_PRIVATE = 2,
	MREMAP_MAYMOVE = 1,
	MREMAP_FIXED = 2,
	PR_SET_PDEATHSIG = 1,
	PR_SET_NAME = 15,
	SIGKILL = 9,
	SIGCHLD = 17,
	EAGAIN = 11,
	EINVAL = 22,
	ENODEV = 19,
	MPOL_MF_MOVE = 2,
	UFFD_USER_MODE_ONLY = 1,
};

struct timespec {
	long sec;
	long nsec;
};

struct uffdio_api {
	unsigned long api;
	unsigned long features;
	unsigned long ioctls;
};

struct uffdio_register {
	unsigned long start;
	unsigned long len;
	unsigned long mode;
	unsigned long ioctls;
};

struct uffdio_move {
	unsigned long dst;
	unsigned long src;
	unsigned long len;
	unsigned long mode;
	long moved;
};

#define UFFDIO_API_NR		0xc018aa3fUL	/* _IOWR(0xaa, 0x3f, struct uffdio_api) */
#define UFFDIO_REGISTER_NR	0xc020aa00UL	/* _IOWR(0xaa, 0x00, struct uffdio_register) */
#define UFFDIO_MOVE_NR		0xc028aa05UL	/* _IOWR(0xaa, 0x05, struct uffdio_move) */
#define UFFD_API_VERSION	0xaaUL
#define UFFD_FEATURE_MOVE_BIT	(1UL << 16)
#define UFFDIO_REGISTER_MISSING	1UL

static volatile struct fmi_selftest_page *shared;
static unsigned long page_size;
static unsigned long pmd_size;

static long sys(long nr, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
	register long r10 asm("r10") = d;
	register long r8 asm("r8") = e;
	register long r9 asm("r9") = f;
	long ret;

	asm volatile("syscall"
		     : "=a"(ret)
		     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		     : "rcx", "r11", "memory");
	return ret;
#elif defined(__aarch64__)
	register long x8 asm("x8") = nr;
	register long x0 asm("x0") = a;
	register long x1 asm("x1") = b;
	register long x2 asm("x2") = c;
	register long x3 asm("x3") = d;
	register long x4 asm("x4") = e;
	register long x5 asm("x5") = f;

	asm volatile("svc #0"
		     : "+r"(x0)
		     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
		     : "memory");
	return x0;
#else
#error "no system calls for this architecture"
#endif
}

#define sys0(nr)		sys(nr, 0, 0, 0, 0, 0, 0)
#define sys1(nr, a)		sys(nr, a, 0, 0, 0, 0, 0)
#define sys2(nr, a, b)		sys(nr, a, b, 0, 0, 0, 0)
#define sys3(nr, a, b, c)	sys(nr, a, b, c, 0, 0, 0)

static void quit(int status)
{
	for (;;)
		sys1(__NR_exit_group, status);
}

static int failed(long ret)
{
	return ret < 0 && ret > -4096;
}

static void nap(void)
{
	struct timespec ms = { .nsec = 1000000 };

	sys2(__NR_nanosleep, (long)&ms, 0);
}

/* The module looks at the memory of all processes of the session now. */
static void stop(unsigned int step, long error)
{
	shared->error = failed(error) ? (int)error : 0;
	__atomic_store_n(&shared->done, step, __ATOMIC_RELEASE);
	while (__atomic_load_n(&shared->go, __ATOMIC_ACQUIRE) != step)
		nap();
}

static long map(unsigned long addr, unsigned long len, int prot, int flags, int fd)
{
	return sys(__NR_mmap, addr, len, prot, flags, fd, 0);
}

/* Returns an aligned address at which three PMDs are free. */
static long find_room(void)
{
	long addr = map(0, 4 * pmd_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	if (failed(addr))
		return addr;
	sys2(__NR_munmap, addr, 4 * pmd_size);
	return (addr + pmd_size - 1) & ~(pmd_size - 1);
}

static void write_pages(unsigned long addr, unsigned long len)
{
	for (unsigned long at = addr; at < addr + len; at += page_size)
		*(volatile char *)at = 1;
}

/* A folio of a PMD's size; that it stays what it is, the lock sees to. */
static long collapse(unsigned long addr)
{
	long ret;

	write_pages(addr, pmd_size);
	for (int i = 0; i < 100; i++) {
		ret = sys3(__NR_madvise, addr, pmd_size, MADV_COLLAPSE);
		/* A page is on its way through another processor's list. */
		if (ret != -EAGAIN)
			break;
		nap();
	}
	if (failed(ret))
		return ret;
	return sys2(__NR_mlock, addr, pmd_size);
}

static long anon_thp(unsigned long addr)
{
	long ret = map(addr, pmd_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1);

	return failed(ret) ? ret : collapse(addr);
}

static long start_child(void)
{
	long pid = sys(__NR_clone, SIGCHLD, 0, 0, 0, 0, 0);

	if (pid == 0)
		sys2(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static void child_wait(long pid)
{
	sys(__NR_wait4, pid, 0, 0, 0, 0, 0);
}

/* Parent and child in turn: only one of them runs, the other waits for it. */
static void fork_and_cow(unsigned long addr)
{
	long pid = start_child();

	if (pid < 0) {
		for (unsigned int step = FMI_STEP_FORK; step <= FMI_STEP_ZAP; step++)
			stop(step, pid);
		return;
	}
	if (pid == 0) {
		stop(FMI_STEP_FORK, 0);
		*(volatile char *)(addr + 3 * page_size) = 2;
		stop(FMI_STEP_COW, 0);
		sys2(__NR_munmap, addr, pmd_size);
		quit(0);
	}
	child_wait(pid);
	stop(FMI_STEP_ZAP, 0);
}

static void fork_ptes(unsigned long addr)
{
	long pid = start_child();

	if (pid == 0) {
		stop(FMI_STEP_FORK_PTES, 0);
		sys2(__NR_munmap, addr, pmd_size);
		quit(0);
	}
	if (pid < 0)
		stop(FMI_STEP_FORK_PTES, pid);
	else
		child_wait(pid);
}

static void file_steps(unsigned long addr)
{
	long fd = sys2(__NR_memfd_create, (long)"fmi", 0);
	long ret = fd;

	if (!failed(ret))
		ret = sys2(__NR_ftruncate, fd, pmd_size);
	if (!failed(ret))
		ret = map(addr, pmd_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd);
	if (!failed(ret))
		ret = collapse(addr);
	stop(FMI_STEP_MAP_FILE, ret);
	if (!failed(ret)) {
		/* A PMD of a file is not split but zapped. */
		sys2(__NR_munlock, addr, pmd_size);
		ret = sys3(__NR_mprotect, addr, page_size, PROT_READ);
	}
	if (!failed(ret))
		*(volatile char *)(addr + pmd_size / 2) = 3;
	stop(FMI_STEP_FAULT_FILE, ret);
	sys2(__NR_munmap, addr, pmd_size);
	if (!failed(fd))
		sys1(__NR_close, fd);
}

static long uffd_move(unsigned long dst, unsigned long src)
{
	struct uffdio_api api = { .api = UFFD_API_VERSION, .features = UFFD_FEATURE_MOVE_BIT };
	struct uffdio_register range = {
		.start = dst, .len = pmd_size, .mode = UFFDIO_REGISTER_MISSING,
	};
	struct uffdio_move move = { .dst = dst, .src = src, .len = pmd_size };
	long fd = sys1(__NR_userfaultfd, UFFD_USER_MODE_ONLY);
	long ret = fd;

	if (failed(fd))
		return fd;
	ret = sys3(__NR_ioctl, fd, UFFDIO_API_NR, (long)&api);
	if (!failed(ret))
		ret = map(dst, pmd_size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1);
	if (!failed(ret))
		ret = sys3(__NR_ioctl, fd, UFFDIO_REGISTER_NR, (long)&range);
	/* Source and destination must be locked alike. */
	if (!failed(ret))
		ret = sys2(__NR_munlock, src, pmd_size);
	if (!failed(ret))
		ret = sys3(__NR_ioctl, fd, UFFDIO_MOVE_NR, (long)&move);
	sys1(__NR_close, fd);
	return ret;
}

/* To node 0 and to node 1: one of them is another one. */
static long migrate(unsigned long addr)
{
	long ret = 0;

	for (int node = 0; node < 2; node++) {
		int status = -ENODEV;
		long page = addr;

		ret = sys(__NR_move_pages, 0, 1, (long)&page, (long)&node, (long)&status,
			  MPOL_MF_MOVE);
		if (!failed(ret) && status != node)
			ret = status < 0 ? status : -EAGAIN;
		if (failed(ret))
			break;
	}
	return ret;
}

static void pte_steps(unsigned long addr)
{
	unsigned long other = addr + 2 * pmd_size + 5 * page_size;
	unsigned long first = addr + 17 * page_size;
	long ret;

	ret = sys2(__NR_munmap, addr + 9 * page_size, page_size);
	stop(FMI_STEP_MUNMAP, ret);
	fork_ptes(addr);
	ret = sys3(__NR_mprotect, first, 4 * page_size, PROT_READ);
	stop(FMI_STEP_SPLIT_VMA, ret);
	ret = sys(__NR_mremap, first, 4 * page_size, 4 * page_size, MREMAP_MAYMOVE | MREMAP_FIXED,
		  other, 0);
	stop(FMI_STEP_MREMAP, ret);
	sys2(__NR_munlock, addr, 8 * page_size);
	ret = sys3(__NR_madvise, addr, 7 * page_size, MADV_DONTNEED);
	stop(FMI_STEP_DONTNEED, ret);
	sys2(__NR_munmap, addr, 3 * pmd_size);
}

static void steps(void)
{
	unsigned long addr;
	long ret;

	ret = find_room();
	if (failed(ret))
		goto none;
	addr = ret;
	ret = anon_thp(addr);
	if (failed(ret))
		goto none;
	stop(FMI_STEP_MAP, 0);
	fork_and_cow(addr);
	pte_steps(addr);
	file_steps(addr);
	ret = anon_thp(addr);
	if (!failed(ret))
		ret = uffd_move(addr + pmd_size, addr);
	stop(FMI_STEP_UFFD_MOVE, ret);
	ret = anon_thp(addr);
	if (!failed(ret))
		ret = migrate(addr);
	stop(FMI_STEP_MIGRATE, ret);
	sys2(__NR_munmap, addr, 3 * pmd_size);
	stop(FMI_STEP_END, 0);
	return;
none:
	/* Without a large folio there is nothing to see. */
	stop(FMI_STEP_MAP, ret);
}

__attribute__((used)) void program(void);
void program(void)
{
	long page = map(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, FMI_SELFTEST_PAGE_FD);

	if (failed(page))
		quit(1);
	shared = (volatile struct fmi_selftest_page *)page;
	page_size = shared->page_size;
	pmd_size = shared->pmd_size;
	sys0(__NR_setsid);
	sys2(__NR_prctl, PR_SET_NAME, (long)"fmi_selftest");
	shared->session = 1;
	steps();
	quit(0);
}

/* The stack pointer of a new program is aligned, that of a function is not. */
#if defined(__x86_64__)
asm(".globl _start\n_start:\n\txor %ebp, %ebp\n\tcall program\n");
#else
asm(".globl _start\n_start:\n\tmov x29, #0\n\tmov x30, #0\n\tb program\n");
#endif
