// SPDX-License-Identifier: GPL-2.0
/*
 * Planted faults (a module built with FMI_FAULTS=y): calls that the shadow is not told of, or
 * twice. Every check must notice. Any other module must have nothing of it.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

#define PARAM_DIR "/sys/module/" FMI_NAME "/parameters/"

static char text[1 << 18];

/* Without faults before, and with a shadow that knows of none. */
static void begin(struct fmi_scene *s)
{
	module_ready();
	fmi_assert(fmi_write("audit_interval", "0") > 0, "audit_interval");
	module_plant("fault_drop", 0);
	module_plant("fault_double", 0);
	module_plant("fault_drop_walk", 0);
	fmi_assert(fmi_write("enable", "0") > 0 && fmi_write("enable", "1") > 0, "enable anew");
	fmi_assert(fmi_write("reset", "1") > 0, "reset");
	s_populate(s);
	s_check(s, "before");
}

static void zap(const struct fmi_scene *s, unsigned long page)
{
	p_madvise(1, s_page(s, page), pgsz, MADV_DONTNEED);
}

/* The line of the audit's result. */
static long long audit(const char *name)
{
	fmi_assert(fmi_write("audit", "all") > 0, "audit");
	fmi_assert(fmi_read("audit", text, sizeof(text)) > 0, "cannot read audit");
	return text_value(text, name);
}

static void audit_notices_a_dropped_remove(struct fmi_scene *s)
{
	begin(s);
	/* No PMD: its split is many calls. */
	s_dontneed(s, 1, 0, 1);
	fmi_eq(audit("differences"), 0, "differences before");
	module_plant("fault_drop", 1);
	zap(s, 1);
	module_plant("fault_drop", 0);
	fmi_eq(audit("not_in_page_table"), 1, "not_in_page_table");
	fmi_eq(text_value(text, "missing_in_shadow"), 0, "missing_in_shadow");
	fmi_assert(text_value(text, "mismatches") > 0, "no mismatch");
}

static void audit_notices_a_dropped_add(struct fmi_scene *s)
{
	begin(s);
	s_dontneed(s, 1, 0, 2);
	module_plant("fault_drop", 1);
	p_read(1, s_page(s, 0), 2);
	module_plant("fault_drop", 0);
	fmi_eq(audit("missing_in_shadow"), 2, "missing_in_shadow");
	fmi_eq(text_value(text, "not_in_page_table"), 0, "not_in_page_table");
	fmi_assert(text_value(text, "mismatches") > 0, "no mismatch");
}

static void audit_notices_a_dropped_duplicate(struct fmi_scene *s)
{
	begin(s);
	module_needs_windows();
	module_plant("fault_drop_walk", 1);
	p_fork(1, 2);
	module_plant("fault_drop_walk", 0);
	fmi_assert(audit("missing_in_shadow") > 0, "nothing is missing");
	fmi_assert(text_value(text, "mismatches") > 0, "no mismatch");
}

static void audit_notices_a_dropped_move(struct fmi_scene *s)
{
	begin(s);
	module_needs_windows();
	module_plant("fault_drop_walk", 1);
	/* Where no VMA is, nothing is looked for: the old one stays. */
	p_mremap(1, s->va, s->size, s->va + 8 * pmd_size + 3 * pgsz,
		 MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP);
	module_plant("fault_drop_walk", 0);
	fmi_assert(audit("missing_in_shadow") > 0, "nothing is missing");
	fmi_assert(text_value(text, "not_in_page_table") > 0, "nothing is too much");
	fmi_eq(text_value(text, "mismatches"), 0, "mismatches");
}

/* Only where VMAs end is wrong: no counter of the kernel tells. */
static void audit_notices_a_dropped_edge(struct fmi_scene *s)
{
	begin(s);
	p_mprotect(1, s_page(s, 1), pgsz, PROT_READ);
	fmi_eq(audit("differences"), 0, "differences, a page protected");
	module_plant("fault_drop_walk", 1);
	p_mprotect(1, s_page(s, 1), pgsz, PROT_READ | PROT_WRITE);
	module_plant("fault_drop_walk", 0);
	fmi_eq(audit("wrong_vmas"), 1, "wrong_vmas");
	fmi_eq(text_value(text, "differences"), 1, "differences");
}

static void audit_notices_one_in_three(struct fmi_scene *s)
{
	begin(s);
	s_dontneed(s, 1, 0, 1);
	module_plant("fault_drop", 3);
	for (unsigned long i = 1; i < s->nr; i++)
		zap(s, i);
	module_plant("fault_drop", 0);
	fmi_assert(labs((long)audit("not_in_page_table") - (long)(s->nr - 1) / 3) <= 1,
		   "%lu removes, one in three dropped: not_in_page_table: %lld", s->nr - 1,
		   text_value(text, "not_in_page_table"));
}

/* Without an audit: a later call sees the kernel's counters, `stats` compares them. */
static void comparison_notices_a_dropped_call(struct fmi_scene *s)
{
	begin(s);
	s_dontneed(s, 1, 0, 1);
	module_plant("fault_drop", 1);
	zap(s, 1);
	module_plant("fault_drop", 0);
	/* Compared by the first call of another run, after a grace period without any. */
	p_fork(1, 2);
	fmi_assert(syscall(SYS_membarrier, 1 /* MEMBARRIER_CMD_GLOBAL */, 0, 0) == 0, "membarrier");
	if (s->kind == FMI_SHMEM)
		p_read(2, s_page(s, 2), 1);
	p_exit(2);
	fmi_assert(fmi_wait_stat("mismatches", 1), "mismatches: %lld", fmi_stat("mismatches"));
}

/* The shadow itself: what is unmapped cannot be unmapped, what is mapped not mapped again. */
static void shadow_notices_a_doubled_call(struct fmi_scene *s)
{
	const char *line, *reason;
	unsigned long head;
	char want[64];

	begin(s);
	s_dontneed(s, 1, 0, 1);
	folio_order(pagemap_pfn(p_pid(1), s_page(s, 2)), &head);
	fmi_eq(fmi_stat("inconsistent"), 0, "inconsistent before");
	module_plant("fault_double", 1);
	if (s->kind == FMI_SHMEM)
		p_read(1, s_page(s, 0), 1);
	else
		zap(s, 1);
	module_plant("fault_double", 0);
	/* A remove may be owed for an add of page cache, but not for longer than a grace period. */
	if (s->kind == FMI_SHMEM)
		fmi_assert(syscall(SYS_membarrier, 1 /* MEMBARRIER_CMD_GLOBAL */, 0, 0) == 0,
			   "membarrier");
	fmi_eq(fmi_stat("inconsistent"), 1, "inconsistent");
	fmi_eq(fmi_stat("lost_inconsistent"), 1, "lost_inconsistent");
	/* The folio is lost with it: the audit finds it untracked, and so does a look. */
	fmi_assert(audit("untracked_mappings") > 0, "nothing is untracked:\n%s", text);
	fmi_eq(text_value(text, "differences"), 0, "differences");
	fmi_assert(fmi_write("scan", "coverage") > 0, "coverage");
	fmi_assert(fmi_read("scan", text, sizeof(text)) > 0, "cannot read scan");
	fmi_assert(text_value(text, "coverage_inconsistent") > 0, "not counted:\n%s", text);
	snprintf(want, sizeof(want), "\nuntracked: pfn=%lu order=%u ", head, s->order);
	line = strstr(text, want);
	reason = line ? strstr(line, " reason=") : NULL;
	fmi_assert(reason && !strncmp(reason, " reason=inconsistent\n", 21),
		   "no line for pfn %lu in:\n%s", head, text);
}

static void background_audit_notices(struct fmi_scene *s)
{
	begin(s);
	s_dontneed(s, 1, 0, 1);
	fmi_assert(fmi_write("audit_interval", "100") > 0, "audit_interval");
	module_plant("fault_drop", 1);
	zap(s, 1);
	module_plant("fault_drop", 0);
	fmi_wait_until(fmi_stat("background_differences"), "a difference that the audit finds");
	fmi_assert(fmi_write("audit_interval", "0") > 0, "audit_interval");
}

/* Runs the storm beside this program, which must fail. */
static void storm_fails(const char *fault)
{
	char command[600];
	char line[512];
	ssize_t len = readlink("/proc/self/exe", line, sizeof(line) - 1);
	FILE *out;
	int status;

	fmi_assert(len > 0, "where am I?");
	line[len] = '\0';
	*strrchr(line, '/') = '\0';
	module_ready();
	fmi_assert(fmi_write("reset", "1") > 0, "reset");
	module_plant(fault, 500);
	snprintf(command, sizeof(command), "FMI_STORM_MINUTES=1 %s/storm", line);
	out = popen(command, "r");
	fmi_assert(out, "cannot start the storm");
	while (fgets(line, sizeof(line), out))
		/* Not as results of this program: "# " and two blanks would be a subtest. */
		fmi_note("| %s", line);
	status = pclose(out);
	module_plant(fault, 0);
	fmi_assert(WIFEXITED(status) && WEXITSTATUS(status) == KSFT_FAIL,
		   "the storm ended with status 0x%x", status);
	/* It failed because of the faults. */
	fmi_assert(fmi_stat("inconsistent") + fmi_stat("mismatches") +
		   audit("differences") > 0, "it failed for another reason");
	fmi_assert(fmi_write("enable", "0") > 0, "disable");
}

static void storm_fails_if_calls_are_dropped(struct fmi_scene *s)
{
	(void)s;
	storm_fails("fault_drop");
}

static void storm_fails_if_calls_are_doubled(struct fmi_scene *s)
{
	(void)s;
	storm_fails("fault_double");
}

static void leaves_no_fault(struct fmi_scene *s)
{
	(void)s;
	module_unload();
	module_ready();
}

static const char *const parameters[] = {
	"fault_drop", "fault_double", "fault_drop_walk", "fault_blind", "fault_blind_too",
	"fault_exit", "fault_no_stack", "fault_no_search", "fault_drop_second",
	"fault_full_stack", "fault_no_room",
};

static bool is_there(const char *parameter)
{
	char path[128];

	snprintf(path, sizeof(path), PARAM_DIR "%s", parameter);
	return access(path, F_OK) == 0;
}

static void are_there(struct fmi_scene *s)
{
	(void)s;
	module_ready();
	for (size_t i = 0; i < ARRAY_SIZE(parameters); i++)
		fmi_assert(is_there(parameters[i]), "there is no %s", parameters[i]);
}

/* Nor another one whose name says that it is a fault. */
static void are_absent(struct fmi_scene *s)
{
	struct dirent *entry;
	DIR *dir;

	(void)s;
	module_ready();
	for (size_t i = 0; i < ARRAY_SIZE(parameters); i++)
		fmi_assert(!is_there(parameters[i]), "there is %s", parameters[i]);
	dir = opendir(PARAM_DIR);
	while (dir && (entry = readdir(dir)))
		fmi_assert(strncmp(entry->d_name, "fault", 5), "there is %s", entry->d_name);
	if (dir)
		closedir(dir);
}

/* A PMD of a file is given up whole, that of anonymous memory is split. */
#define ANON (ON_ANON | NOT_ORDER1 | NO_MODULE)
#define SHMEM (ON_SHMEM | PTE_ONLY | NOT_ORDER1 | NO_MODULE)

static const struct fmi_test planted[] = {
	{ "are_there", are_there, ON_ONCE | NO_MODULE },
	{ "audit_notices_a_dropped_remove", audit_notices_a_dropped_remove, ANON },
	{ "audit_notices_a_dropped_remove", audit_notices_a_dropped_remove, SHMEM },
	{ "audit_notices_a_dropped_add", audit_notices_a_dropped_add, SHMEM },
	{ "audit_notices_a_dropped_duplicate", audit_notices_a_dropped_duplicate, ANON },
	{ "audit_notices_a_dropped_move", audit_notices_a_dropped_move, ANON },
	{ "audit_notices_a_dropped_edge", audit_notices_a_dropped_edge, ANON },
	{ "audit_notices_one_in_three", audit_notices_one_in_three, ANON },
	{ "comparison_notices_a_dropped_call", comparison_notices_a_dropped_call, ANON },
	{ "comparison_notices_a_dropped_call", comparison_notices_a_dropped_call, SHMEM },
	{ "shadow_notices_a_doubled_call", shadow_notices_a_doubled_call, ANON },
	{ "shadow_notices_a_doubled_call", shadow_notices_a_doubled_call, SHMEM },
	{ "background_audit_notices", background_audit_notices,
	  ON_ANON | ORDER4_ONLY | NO_MODULE },
	{ "storm_fails_if_calls_are_dropped", storm_fails_if_calls_are_dropped,
	  ON_ONCE | LONG | NO_MODULE },
	{ "storm_fails_if_calls_are_doubled", storm_fails_if_calls_are_doubled,
	  ON_ONCE | LONG | NO_MODULE },
	{ "leaves_no_fault", leaves_no_fault, ON_ONCE | NO_MODULE },
};

static const struct fmi_test absent[] = {
	{ "are_absent", are_absent, ON_ONCE | NO_MODULE },
};

int main(int argc, char **argv)
{
	if (!module_loaded())
		module_load("");
	/* Not what the module has: a module for use that has faults is to fail. */
	if (getenv("FMI_FAULTS"))
		return fmi_run(argc, argv, planted, ARRAY_SIZE(planted));
	return fmi_run(argc, argv, absent, ARRAY_SIZE(absent));
}
