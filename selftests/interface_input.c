// SPDX-License-Identifier: GPL-2.0
/* Bad input gets the right error and changes nothing. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

#define NO_SUCH_PID "4194300"

/* A line of this length is longer than any input that makes sense. */
static char too_long[5000];

struct bad {
	const char *input;
	int error;
};

/* Writes each, expects its error, and the same content of the file afterwards. */
static void refuses(const char *file, const struct bad *bad, size_t nr, bool readable)
{
	static char before[1 << 16], after[1 << 16];

	if (readable)
		fmi_assert(fmi_read(file, before, sizeof(before)) >= 0, "cannot read %s", file);
	for (size_t i = 0; i < nr; i++) {
		int ret = fmi_write(file, bad[i].input);

		if (ret != -bad[i].error)
			fmi_fail("%s: '%.40s': got %s, want %s", file, bad[i].input,
				 ret < 0 ? strerror(-ret) : "success", strerror(bad[i].error));
		if (!readable)
			continue;
		fmi_assert(fmi_read(file, after, sizeof(after)) >= 0, "cannot read %s", file);
		fmi_assert(!strcmp(before, after), "%s changed after '%.40s': '%s'", file,
			   bad[i].input, after);
	}
}

static void enable_refuses(struct fmi_scene *s)
{
	const struct bad bad[] = {
		{ "2", EINVAL }, { "-1", EINVAL }, { "\n", EINVAL },
		{ "yes please", EINVAL }, { "1 1", EINVAL }, { "0x1", EINVAL },
		{ too_long, EINVAL },
	};

	(void)s;
	refuses("enable", bad, ARRAY_SIZE(bad), true);
}

static void reset_refuses(struct fmi_scene *s)
{
	const struct bad bad[] = {
		{ "0", EINVAL }, { "2", EINVAL }, { "x", EINVAL }, { "1 1", EINVAL },
		{ too_long, EINVAL },
	};
	long long since = fmi_stat("since_ns");

	(void)s;
	refuses("reset", bad, ARRAY_SIZE(bad), false);
	fmi_eq(fmi_stat("since_ns"), since, "since_ns");
}

static void filter_refuses(struct fmi_scene *s)
{
	const struct bad bad[] = {
		{ "order", EINVAL }, { "order=", EINVAL }, { "order=x", EINVAL },
		{ "order=-1", EINVAL }, { "order=400", EINVAL }, { "type=bogus", EINVAL },
		{ "type=", EINVAL }, { "disagreeing=2", EINVAL }, { "disagreeing", EINVAL },
		{ "colour=red", EINVAL }, { "order=4 type=bogus", EINVAL },
		{ "order=4,type=anon", EINVAL }, { too_long, EINVAL },
	};

	(void)s;
	fmi_assert(fmi_write("filter", "order=any type=any disagreeing=0") > 0, "filter");
	refuses("filter", bad, ARRAY_SIZE(bad), true);
	fmi_assert(fmi_write("filter", "order=9 type=shmem disagreeing=1") > 0, "filter");
	refuses("filter", bad, ARRAY_SIZE(bad), true);
	fmi_assert(fmi_write("filter", "order=any type=any disagreeing=0") > 0, "filter");
}

static void examples_refuses(struct fmi_scene *s)
{
	const struct bad bad[] = {
		{ "definition", EINVAL }, { "definition=", EINVAL }, { "definition=bogus", EINVAL },
		{ "question=bogus", EINVAL }, { "type=bogus", EINVAL }, { "order=x", EINVAL },
		{ "order=400", EINVAL }, { "any any", EINVAL }, { "any=any", EINVAL },
		{ "definition=mm question=bogus", EINVAL }, { "\n", EINVAL }, { too_long, EINVAL },
	};

	(void)s;
	/* Nothing passes: what other folios do changes nothing. */
	fmi_assert(fmi_write("examples", "definition=mm question=shared") > 0, "examples");
	refuses("examples", bad, ARRAY_SIZE(bad), true);
	fmi_assert(fmi_write("examples", "any") > 0, "examples");
}

static void folio_refuses(struct fmi_scene *s)
{
	static char report[1 << 16];
	char no_process[64], nothing_there[64];
	const struct bad bad[] = {
		{ "x", EINVAL }, { "1 2 3", EINVAL }, { "-1", EINVAL }, { "0xzz", EINVAL },
		{ "1 x", EINVAL }, { "99999999999999999999999", EINVAL }, { "\n", EINVAL },
		{ too_long, EINVAL },
		/* Far beyond any memory. */
		{ "0x3ffffffffff", ENOENT },
		{ no_process, ESRCH }, { nothing_there, ENOENT },
	};

	s_populate(s);
	fmi_assert(fmi_report_pfn(s->e.pfn), "no report");
	snprintf(no_process, sizeof(no_process), NO_SUCH_PID " 0x%lx", s->va);
	snprintf(nothing_there, sizeof(nothing_there), "%d 0x%lx", p_pid(1), s->va + s->size);
	refuses("folio", bad, ARRAY_SIZE(bad), false);
	/* The selection is still the folio. */
	fmi_assert(fmi_read("folio", report, sizeof(report)) > 0, "cannot read folio");
	fmi_eq(text_value(report, "pfn"), s->e.pfn, "selected pfn");
}

static void audit_refuses(struct fmi_scene *s)
{
	const struct bad bad[] = {
		{ "x", EINVAL }, { "-1", EINVAL }, { "all 1", EINVAL }, { "ALL", EINVAL },
		{ "1 2", EINVAL }, { "\n", EINVAL }, { too_long, EINVAL },
		{ NO_SUCH_PID, ESRCH },
	};

	(void)s;
	fmi_audit("all");
	refuses("audit", bad, ARRAY_SIZE(bad), true);
}

static void read_only_files_refuse(struct fmi_scene *s)
{
	static const char *const names[] = { "stats", "definitions", "disagreement", "decisions",
					     "folios" };
	char text[16];

	(void)s;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		fmi_assert(fmi_write(names[i], "1") < 0, "%s can be written", names[i]);
	fmi_assert(fmi_read("reset", text, sizeof(text)) <= 0, "reset has something to say");
}

/* Only root: another user cannot even open them. */
static void others_cannot_open(struct fmi_scene *s)
{
	static const char *const names[] = {
		"enable", "reset", "stats", "definitions", "disagreement", "folios", "filter",
		"folio", "audit", "decisions", "examples", "questions", "preview",
		"disagreement_orders", "disagreement_operations",
	};

	(void)s;
	fmi_assert(!setgid(65534) && !setuid(65534), "cannot become nobody");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char path[128];

		snprintf(path, sizeof(path), FMI_DIR "%s", names[i]);
		fmi_assert(open(path, O_RDONLY) < 0 && open(path, O_WRONLY) < 0, "%s", path);
	}
}

static const struct fmi_test tests[] = {
	{ "enable_refuses", enable_refuses, ON_ONCE },
	{ "reset_refuses", reset_refuses, ON_ONCE },
	{ "filter_refuses", filter_refuses, ON_ONCE },
	{ "examples_refuses", examples_refuses, ON_ONCE },
	{ "folio_refuses", folio_refuses, ON_ANON | ORDER4_ONLY },
	{ "audit_refuses", audit_refuses, ON_ONCE },
	{ "read_only_files_refuse", read_only_files_refuse, ON_ONCE },
	{ "others_cannot_open", others_cannot_open, ON_ONCE | NO_MODULE },
};

int main(int argc, char **argv)
{
	memset(too_long, '1', sizeof(too_long) - 1);
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
