// SPDX-License-Identifier: GPL-2.0
/*
 * The KUnit suites of the module, which run when it is loaded into a kernel with CONFIG_KUNIT:
 * their results, each as one of this program.
 */
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_util.h"

#define KUNIT_DIR "/sys/kernel/debug/kunit/"
#define KUNIT_ENABLE "/sys/module/kunit/parameters/enable"
/* How deep the results of a suite's cases are indented. */
#define INDENT "    "

static const char *const suites[] = {
	"fmi_args", "fmi_crosscheck", "fmi_examples", "fmi_mm", "fmi_operation", "fmi_session",
	"fmi_sites", "fmi_storage", "fmi_table", "fmi_tracepoint", "fmi_window",
};

static int nr_done, nr_failed, nr_skipped;

static void result(bool ok, const char *suite, const char *name)
{
	nr_done++;
	nr_failed += !ok;
	nr_skipped += ok && strstr(name, "# SKIP");
	printf("%s %d %s%s%s\n", ok ? "ok" : "not ok", nr_done, suite, *name ? "." : "", name);
}

/* The line "ok 3 name" of a case; false if it is another one. */
static bool case_result(const char *suite, const char *line)
{
	bool ok = !strncmp(line, "ok ", 3);

	if (!ok && strncmp(line, "not ok ", 7))
		return false;
	line += ok ? 3 : 7;
	line += strspn(line, "0123456789 ");
	result(ok, suite, line);
	return true;
}

static void report(const char *suite)
{
	char path[128];
	char line[512];
	int planned = -1;
	int seen = 0;
	FILE *file;

	snprintf(path, sizeof(path), KUNIT_DIR "%s/results", suite);
	file = fopen(path, "re");
	if (!file) {
		printf("# cannot open %s\n", path);
		result(false, suite, "");
		return;
	}
	while (fgets(line, sizeof(line), file)) {
		const char *text = line + strlen(INDENT);

		line[strcspn(line, "\n")] = '\0';
		/* The other lines are about the suite as a whole. */
		if (strncmp(line, INDENT, strlen(INDENT)))
			continue;
		if (case_result(suite, text))
			seen++;
		else if (sscanf(text, "1..%d", &planned) != 1 &&
			 strncmp(text, "KTAP version", 12) && strncmp(text, "# Subtest", 9))
			printf("# %s\n", text + strspn(text, "# "));
	}
	fclose(file);
	if (!planned || seen != planned) {
		printf("# %d results of %d cases\n", seen, planned);
		result(false, suite, "");
	}
}

/* Suites of the module that are not among these would go unseen. */
static void all_are_known(void)
{
	struct dirent *entry;
	DIR *dir = opendir(KUNIT_DIR);

	if (!dir) {
		printf("# cannot open " KUNIT_DIR "\n");
		result(false, "suites", "");
		return;
	}
	while ((entry = readdir(dir))) {
		bool known = strncmp(entry->d_name, "fmi_", 4);

		for (size_t i = 0; i < ARRAY_SIZE(suites); i++)
			known |= !strcmp(entry->d_name, suites[i]);
		if (!known) {
			printf("# %s is not known\n", entry->d_name);
			result(false, "suites", "");
		}
	}
	closedir(dir);
}

int main(void)
{
	char enabled[8] = "";

	printf("KTAP version 1\n");
	if (access(KUNIT_DIR, F_OK)) {
		printf("1..0 # SKIP no KUnit in this kernel\n");
		return KSFT_SKIP;
	}
	if (read_text(KUNIT_ENABLE, enabled, sizeof(enabled)) > 0 && *enabled != 'Y') {
		printf("1..0 # SKIP KUnit is switched off\n");
		return KSFT_SKIP;
	}
	module_ready();
	for (size_t i = 0; i < ARRAY_SIZE(suites); i++)
		report(suites[i]);
	all_are_known();
	printf("1..%d\n", nr_done);
	printf("# Totals: pass:%d fail:%d skip:%d\n", nr_done - nr_failed - nr_skipped, nr_failed,
	       nr_skipped);
	return nr_failed ? KSFT_FAIL : KSFT_PASS;
}
