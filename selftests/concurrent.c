// SPDX-License-Identifier: GPL-2.0
/* A storm on shared large folios; afterwards nothing may be wrong, lost or left over. */
#include "fmi_ksft.h"
#include "fmi_scene.h"
#include "fmi_storm.h"
#include "fmi_swap.h"
#include "fmi_util.h"

static const char *const must_stay[] = {
	"lost", "inconsistent", "mismatches", "missed", "missed_calls", "windows_abnormal",
	"windows_overflow", "hooks_unknown_site", "hooks_unreadable",
};

static void storm(struct fmi_scene *s, int families, double seconds)
{
	long long before[ARRAY_SIZE(must_stay)];
	double start = now_seconds();
	double end = start + seconds;
	double slowest = 0;
	double before_audit;
	long long seen = 0;
	int audits = 0;

	for (size_t i = 0; i < ARRAY_SIZE(must_stay); i++)
		before[i] = fmi_stat(must_stay[i]);
	storm_start(s, families);
	while (now_seconds() < end) {
		long long tracked = fmi_stat("tracked_folios");

		seen = tracked > seen ? tracked : seen;
		/* An audit in the middle may find calls in flight, but no difference. */
		before_audit = now_seconds();
		fmi_audit("all");
		audits++;
		if (now_seconds() - before_audit > slowest)
			slowest = now_seconds() - before_audit;
		msleep(500);
	}
	storm_pause();
	if (fmi_stat("tracked_folios") > seen)
		seen = fmi_stat("tracked_folios");
	fmi_note("%lu operations in %.0f s, up to %lld tracked folios, %d audits of at most %.1f s",
		 storm_ops(), now_seconds() - start, seen, audits, slowest);
	fmi_audit("all");
	for (size_t i = 0; i < ARRAY_SIZE(must_stay); i++)
		fmi_eq(fmi_stat(must_stay[i]), before[i], must_stay[i]);
	fmi_eq(fmi_stat("windows_open"), 0, "windows_open");
	fmi_assert(seen > 0, "no folio was tracked");
	storm_end();
	fmi_audit("all");
	for (size_t i = 0; i < ARRAY_SIZE(must_stay); i++)
		fmi_eq(fmi_stat(must_stay[i]), before[i], must_stay[i]);
}

static void two_families(struct fmi_scene *s)
{
	storm(s, 2, fmi_test_all() ? 60 : 10);
}

static void four_families(struct fmi_scene *s)
{
	storm(s, 4, fmi_test_all() ? 60 : 5);
}

static void nothing_is_left(struct fmi_scene *s)
{
	(void)s;
	storm_left_nothing();
}

static const struct fmi_test tests[] = {
	{ "two_families", two_families, ON_ONCE | LONG },
	{ "four_families", four_families, ON_ONCE | LONG },
	{ "nothing_is_left", nothing_is_left, ON_ONCE },
};

int main(int argc, char **argv)
{
	int ret;

	fmi_util_init();
	swap_start();
	ret = fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
	swap_stop();
	return ret;
}
