// SPDX-License-Identifier: GPL-2.0
/* The storm's processes: how they start, pause, go on and end. What they do is in storm_*.c. */
#include "fmi_storm.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_scene.h"
#include "fmi_thp.h"
#include "fmi_util.h"
#include "storm_worker.h"

/* PMDs of a region. */
#define REGION_PMDS (pmd_size > (4UL << 20) ? 1 : 4)
#define MAX_DEPTH 3
#define MAX_OPS 64
#define MAX_STARTED 32

/* One page that all of them share. */
static struct control {
	int stop;	/* do nothing any more */
	int quit;	/* exit */
	int alive;	/* threads that must stop */
	int paused;	/* threads that have */
	unsigned long ops;
	unsigned int done[MAX_OPS], tried[MAX_OPS];
	char broken[128];	/* why a process gave up */
} *control;

/* How often each operation was done in the storms before, if somebody adds them up. */
static unsigned int *before;

static unsigned int weights[MAX_OPS];
static struct {
	pid_t pid;
	const char *name;
} started[MAX_STARTED];
static size_t nr_started;
static bool with_system;

static int flag(const int *where)
{
	return __atomic_load_n(where, __ATOMIC_ACQUIRE);
}

static void add(int *where, int n)
{
	__atomic_add_fetch(where, n, __ATOMIC_ACQ_REL);
}

unsigned int storm_rnd(struct storm_worker *w, unsigned int limit)
{
	w->seed = w->seed * 1103515245u + 12345u;
	return (w->seed >> 12) % limit;
}

unsigned long storm_range(struct storm_worker *w, unsigned long region, unsigned long *len)
{
	unsigned int pages = (unsigned int)(w->len / pgsz);
	unsigned int nr = 1 + storm_rnd(w, storm_rnd(w, 4) ? 24 : pages / 2);
	unsigned int first = storm_rnd(w, pages - nr);

	*len = nr * pgsz;
	return region + first * pgsz;
}

bool storm_stopping(void)
{
	return flag(&control->stop);
}

void storm_sleep(unsigned int ms)
{
	for (unsigned int i = 0; i < ms && !storm_stopping(); i += 5)
		msleep(5);
}

void storm_broken(const char *what)
{
	if (!control->broken[0])
		snprintf(control->broken, sizeof(control->broken), "%s: %s", what,
			 strerror(errno));
	_exit(2);
}

static bool reap_one(struct storm_worker *w)
{
	int status;

	if (waitpid(-1, &status, WNOHANG) <= 0)
		return false;
	if (!control->broken[0] && (!WIFEXITED(status) || WEXITSTATUS(status)))
		snprintf(control->broken, sizeof(control->broken),
			 "a child ended with status 0x%x", status);
	w->children--;
	add(&control->alive, -1);
	return true;
}

/* Does nothing until the storm goes on. */
static void pause_here(struct storm_worker *w)
{
	add(&control->paused, 1);
	while (flag(&control->stop)) {
		/* A child may have been about to exit. */
		if (w && w->children)
			reap_one(w);
		if (flag(&control->quit))
			_exit(0);
		usleep(2000);
	}
	add(&control->paused, -1);
}

static void reap(struct storm_worker *w, bool all)
{
	while (w->children > 0) {
		if (reap_one(w))
			continue;
		if (!all)
			return;
		/* A child that pauses does not end: then neither do we. */
		if (storm_stopping())
			pause_here(w);
		usleep(1000);
	}
}

bool storm_fork(struct storm_worker *w)
{
	pid_t pid;

	reap(w, false);
	if (w->depth >= MAX_DEPTH || w->children >= 2)
		return false;
	add(&control->alive, 1);
	pid = fork();
	if (pid == 0) {
		w->depth++;
		w->children = 0;
		w->seed ^= (unsigned int)getpid() * 2654435761u;
		w->left = 20 + storm_rnd(w, 100);
		storm_rare_forked(w);
	} else if (pid > 0) {
		w->children++;
	} else {
		add(&control->alive, -1);
	}
	return pid >= 0;
}

/* Operation number i of all that there are. */
static const struct storm_op *op_at(size_t i)
{
	if (i < nr_storm_ops_memory)
		return &storm_ops_memory[i];
	i -= nr_storm_ops_memory;
	if (i < nr_storm_ops_rare)
		return &storm_ops_rare[i];
	i -= nr_storm_ops_rare;
	return i < nr_storm_ops_system ? &storm_ops_system[i] : NULL;
}

static void run_op(size_t i, struct storm_worker *w)
{
	__atomic_add_fetch(&control->tried[i], 1, __ATOMIC_RELAXED);
	if (op_at(i)->fn(w))
		__atomic_add_fetch(&control->done[i], 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&control->ops, 1, __ATOMIC_RELAXED);
}

/* FMI_STORM_OPS='fork uffd_move': only these. */
static bool wanted(const char *name)
{
	const char *only = getenv("FMI_STORM_OPS");
	size_t len = strlen(name);

	for (const char *p = only; p && (p = strstr(p, name)); p += len) {
		if ((p == only || p[-1] == ' ') && (p[len] == '\0' || p[len] == ' '))
			return true;
	}
	return !only || !*only;
}

static void choose(void)
{
	for (size_t i = 0; op_at(i); i++)
		weights[i] = wanted(op_at(i)->name) ? op_at(i)->weight : 0;
}

static void one_op(struct storm_worker *w)
{
	const size_t nr = nr_storm_ops_memory + nr_storm_ops_rare;
	unsigned int sum = 0, at;

	for (size_t i = 0; i < nr; i++)
		sum += weights[i];
	if (!sum) {
		storm_sleep(1);
		return;
	}
	at = storm_rnd(w, sum);
	for (size_t i = 0; i < nr; i++) {
		if (at < weights[i]) {
			run_op(i, w);
			return;
		}
		at -= weights[i];
	}
}

static void __attribute__((noreturn)) work(struct storm_worker *w)
{
	while (w->left != 0) {
		if (storm_stopping())
			pause_here(w);
		one_op(w);
		if (w->left > 0)
			w->left--;
	}
	reap(w, true);
	_exit(0);
}

static void *helper(void *arg)
{
	struct storm_worker w = *(struct storm_worker *)arg;

	w.seed = ~w.seed;
	for (;;) {
		if (storm_stopping())
			pause_here(NULL);
		storm_race(&w);
	}
	return NULL;
}

static void __attribute__((noreturn)) family(struct storm_worker *w)
{
	pthread_t thread;

	w->fd = memfd_create("storm", MFD_CLOEXEC);
	if (w->fd < 0 || ftruncate(w->fd, (off_t)w->len))
		storm_broken("memfd");
	storm_memory_init(w);
	storm_rare_init(w);
	if (pthread_create(&thread, NULL, helper, w))
		add(&control->alive, -1);
	work(w);
}

/* A process that does one thing to the whole machine, again and again. */
static void __attribute__((noreturn)) system_process(size_t i, struct storm_worker *w)
{
	for (;;) {
		if (storm_stopping())
			pause_here(NULL);
		run_op(i, w);
	}
}

unsigned int storm_seed(void)
{
	const char *given = getenv("FMI_SEED");

	return given && *given ? (unsigned int)strtoul(given, NULL, 10) :
				 (unsigned int)(now_seconds() * 1e6);
}

static void sizes_on(void)
{
	static const unsigned int orders[] = { 2, 4, 6 };

	thp_never();
	for (enum fmi_kind kind = FMI_ANON; kind <= FMI_SHMEM; kind++) {
		for (size_t i = 0; i < ARRAY_SIZE(orders); i++)
			thp_also(kind, orders[i]);
		thp_also(kind, pmd_order);
	}
}

static pid_t start_process(const char *name, int threads)
{
	pid_t pid;

	fmi_assert(nr_started < MAX_STARTED, "too many processes");
	add(&control->alive, threads);
	fflush(stdout);
	pid = fork();
	fmi_assert(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0)
		prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
	started[nr_started].pid = pid;
	started[nr_started++].name = name;
	return pid;
}

/* A file on a filesystem with large folios, without a name. */
static int disk_file(unsigned long len)
{
	const char *dir = getenv("FMI_FILE_DIR");
	int fd = open(dir && *dir ? dir : "/mnt/xfs", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 && ftruncate(fd, (off_t)len)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static void start(struct fmi_scene *s, int families, unsigned int seed)
{
	const unsigned long room = (REGION_PMDS + 2) * pmd_size;
	struct storm_worker w = {
		.anon = s->va,
		.shared = s->va + room,
		.scratch = s->va + 2 * room,
		.odd = s->va + 3 * room,
		.source = s->va + 4 * room,
		.target = s->va + 5 * room,
		.len = REGION_PMDS * pmd_size,
		.fd = -1, .uffd = -1, .uring = -1, .spliced = { -1, -1 },
		.left = -1,
	};

	control = mmap(NULL, pgsz, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fmi_assert(control != MAP_FAILED, "no control page");
	fmi_assert(nr_storm_ops_memory + nr_storm_ops_rare + nr_storm_ops_system <= MAX_OPS,
		   "too many operations");
	w.common = memfd_create("common", MFD_CLOEXEC);
	fmi_assert(w.common >= 0 && !ftruncate(w.common, (off_t)w.len), "memfd: %s",
		   strerror(errno));
	w.disk = disk_file(w.len);
	choose();
	nr_started = 0;
	sizes_on();
	fmi_note("seed %u", seed);
	for (int i = 0; i < families; i++) {
		w.seed = seed + (unsigned int)i * 7919u;
		if (start_process("family", 2) == 0)
			family(&w);
	}
	for (size_t i = 0; with_system && i < nr_storm_ops_system; i++) {
		size_t nr = nr_storm_ops_memory + nr_storm_ops_rare + i;

		w.seed = ~seed + (unsigned int)i;
		if (weights[nr] && start_process(op_at(nr)->name, 1) == 0)
			system_process(nr, &w);
	}
	close(w.common);
	if (w.disk >= 0)
		close(w.disk);
}

void storm_start(struct fmi_scene *s, int families)
{
	with_system = false;
	start(s, families, storm_seed());
}

void storm_start_all(struct fmi_scene *s, int families, unsigned int seed)
{
	with_system = true;
	storm_system_start();
	start(s, families, seed);
}

unsigned long storm_ops(void)
{
	return __atomic_load_n(&control->ops, __ATOMIC_RELAXED);
}

void storm_add_up(void)
{
	before = mmap(NULL, MAX_OPS * sizeof(*before), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fmi_assert(before != MAP_FAILED, "no room to add up: %s", strerror(errno));
}

static size_t nr_ops(void)
{
	return nr_storm_ops_memory + nr_storm_ops_rare + (with_system ? nr_storm_ops_system : 0);
}

/* Never done, though this machine can do it. */
static bool is_owed(size_t i)
{
	const struct storm_op *op = op_at(i);

	return weights[i] && !control->done[i] && !(before && before[i]) &&
	       (!op->possible || op->possible());
}

const char *storm_owed(void)
{
	for (size_t i = 0; i < nr_ops(); i++) {
		if (is_owed(i))
			return op_at(i)->name;
	}
	return NULL;
}

void storm_coverage(bool complete)
{
	const size_t nr = nr_ops();
	char line[1024] = "";
	size_t len = 0;

	for (size_t i = 0; i < nr && len < sizeof(line); i++)
		len += (size_t)snprintf(line + len, sizeof(line) - len, " %s %u/%u",
					op_at(i)->name, control->done[i], control->tried[i]);
	fmi_note("done of tried:%s", line);
	for (size_t i = 0; complete && i < nr; i++) {
		fmi_assert(!is_owed(i), "%s was never done", op_at(i)->name);
		if (weights[i] && !control->done[i] && !(before && before[i]))
			fmi_note("this machine cannot do: %s", op_at(i)->name);
	}
}

static bool all_paused(void)
{
	if (control->broken[0])
		fmi_fail("a process of the storm gave up: %s", control->broken);
	return flag(&control->paused) == flag(&control->alive);
}

void storm_pause(void)
{
	thp_never();
	__atomic_store_n(&control->stop, 1, __ATOMIC_RELEASE);
	fmi_wait_until(all_paused(), "the storm to stop: %d of %d threads have",
		       flag(&control->paused), flag(&control->alive));
	if (with_system)
		storm_system_stop();
}

void storm_resume(void)
{
	sizes_on();
	if (with_system)
		storm_system_start();
	__atomic_store_n(&control->stop, 0, __ATOMIC_RELEASE);
	/* The next pause must not count those of this one. */
	while (flag(&control->paused))
		msleep(2);
}

void storm_end(void)
{
	int status;

	__atomic_store_n(&control->quit, 1, __ATOMIC_RELEASE);
	for (size_t i = 0; i < nr_started; i++) {
		fmi_waits_for("process %d of the storm (%s) to end", started[i].pid,
			      started[i].name);
		while (waitpid(started[i].pid, &status, 0) < 0 && errno == EINTR)
			;
		fmi_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0,
			   "process %d of the storm (%s) ended with status 0x%x", started[i].pid,
			   started[i].name, status);
	}
	fmi_goes_on();
	fmi_assert(!control->broken[0], "a process of the storm gave up: %s", control->broken);
	for (size_t i = 0; before && i < nr_ops(); i++)
		before[i] += control->done[i];
	munmap(control, pgsz);
	control = NULL;
}
