// SPDX-License-Identifier: GPL-2.0
/*
 * Minutes of a storm with everything in it (FMI_STORM_MINUTES, 1 unless given). A minute blows,
 * is stopped and audited; blows on while tracking is switched off and on, is stopped and audited
 * again; then all processes end and nothing may be left. At the end each operation must have been
 * done. FMI_SEED repeats one. The first half of several minutes swaps large folios in; the second
 * half does swapoff instead, which a kernel bug forbids beside that.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_scene.h"
#include "fmi_storm.h"
#include "fmi_swap.h"
#include "fmi_util.h"
#include "storm_worker.h"

#define MAX_MINUTES 1000
#define STEADY_SECONDS 45
#define SWITCHING_SECONDS 15
/* So often at least: on an emulated machine each takes seconds. */
#define SWITCHES 3

enum { LOST, LOST_WINDOW, BLIND, WINDOWS_MISSED, MOVES_UNSEEN };

static const char *const must_stay[] = {
	[LOST] = "lost", [LOST_WINDOW] = "lost_window",
	[BLIND] = "blind_calls", [WINDOWS_MISSED] = "windows_missed",
	[MOVES_UNSEEN] = "moves_unseen",
	"lost_unseen_mm", "inconsistent", "mismatches", "missed",
	"missed_calls", "windows_abnormal", "windows_overflow", "hooks_unknown_site",
	"hooks_unreadable",
};

static char text[1 << 18];

/* Adds that the second shadow did not take until its last scan was done, see both_quiet(). */
static long long in_flight;

/* Lines of `stats` that say why something was lost or inconsistent. */
static void say_why(const char *stats)
{
	stats_say_lost(stats);
	for (const char *line = stats; (line = strstr(line, "\ninconsistent_")); line++) {
		if (atoll(line + strcspn(line, " ")))
			fmi_note("%.*s", (int)strcspn(line + 1, "\n"), line + 1);
	}
}

/* What stats must say; after tracking was switched, a process of before may have been lost. */
static void nothing_changed(const long long *before, const char *when, bool switched)
{
	long long blind = 0, lost_window = 0, missed = 0, unseen = 0;
	const char *stats = fmi_stats();

	if (switched) {
		/* A task that was being forked while hooks were placed is blind until it ends. */
		blind = text_value(stats, "blind_calls") - before[BLIND];
		lost_window = text_value(stats, "lost_window") - before[LOST_WINDOW];
		missed = text_value(stats, "windows_missed") - before[WINDOWS_MISSED];
		/* Nor can a UFFDIO_MOVE be waited for. */
		unseen = text_value(stats, "moves_unseen") - before[MOVES_UNSEEN];
		if (blind || unseen)
			fmi_note("%lld calls of tasks that were being forked, %lld UFFDIO_MOVE: "
				 "%lld folios lost", blind, unseen, lost_window);
		fmi_assert(fmi_excused(lost_window, blind, unseen) == lost_window,
			   "%s: %lld folios lost by %lld moves", when, lost_window, unseen);
		fmi_assert(missed <= blind, "%s: %lld windows were missed, %lld calls were blind",
			   when, missed, blind);
	}
	/* Without hooks nothing is found wrong. */
	fmi_eq(text_value(stats, "hooks_dead"), 0, "hooks_dead");
	for (size_t i = 0; i < ARRAY_SIZE(must_stay); i++) {
		long long want = before[i];

		if (i == BLIND)
			want += blind;
		else if (i == LOST || i == LOST_WINDOW)
			want += lost_window;
		else if (i == MOVES_UNSEEN)
			want += unseen;
		else if (i == WINDOWS_MISSED)
			want += missed;
		if (text_value(stats, must_stay[i]) != want) {
			say_why(stats);
			fmi_fail("%s: %s: got %lld, want %lld", when, must_stay[i],
				 text_value(stats, must_stay[i]), want);
		}
	}
}

static void remember(long long *before)
{
	const char *stats = fmi_stats();

	for (size_t i = 0; i < ARRAY_SIZE(must_stay); i++)
		before[i] = text_value(stats, must_stay[i]);
	if (fmi_both()) {
		fmi_assert(fmi_read("both", text, sizeof(text)) > 0, "cannot read both");
		in_flight = text_value(text, "second_untracked_in_flight");
	}
}

/*
 * So can both shadows of every folio, if both backends are in use: the audit has done that.
 * While the first is scanned the second does not learn yet: after tracking was `switched`, there
 * may be adds that it did not take because others were in flight to the same folios. Its scan did.
 */
static void both_quiet(const char *when, bool switched)
{
	if (!fmi_both())
		return;
	fmi_assert(fmi_read("both", text, sizeof(text)) > 0, "cannot read both");
	fmi_note("%s: both: %lld compared, %lld of them stopped, %lld lost, %lld absent, "
		 "%lld differences in %lld comparisons", when, text_value(text, "compared"),
		 text_value(text, "stopped"), text_value(text, "lost"), text_value(text, "absent"),
		 text_value(text, "all_differences"), text_value(text, "all_rounds"));
	fmi_assert(text_value(text, "compared") > 0, "%s: nothing was compared", when);
	fmi_eq(text_value(text, "deferred"), 0, "folios that could not be compared");
	fmi_eq(text_value(text, "learning"), 0, "folios that are not known yet");
	if (switched) {
		long long now = text_value(text, "second_untracked_in_flight");

		fmi_note("%s: both: %lld adds were in flight until the second was scanned", when,
			 now - in_flight);
		in_flight = now;
	}
	fmi_second_complete(text, when, in_flight);
	/* What the first has lost is in its own counters, which must_stay has. */
	fmi_eq(text_value(text, "lost"), text_value(text, "lost_by_first_window"), "lost");
}

/* Everything stands still: every folio can be compared. */
static void audit_quiet(const char *when, bool switched)
{
	fmi_audit("all");
	fmi_assert(fmi_read("audit", text, sizeof(text)) > 0, "cannot read audit");
	fmi_note("%s: %lld mappings, %lld records, %lld folios compared, %lld deferred", when,
		 text_value(text, "mappings"), text_value(text, "records"),
		 text_value(text, "compared"), text_value(text, "deferred"));
	fmi_eq(text_value(text, "deferred"), 0, "folios that could not be compared");
	fmi_eq(text_value(text, "records_unsettled"), 0, "records that were not found");
	fmi_assert(text_value(text, "compared") > 0, "%s: nothing was compared", when);
	fmi_eq(fmi_stat("windows_open"), 0, "windows_open");
	both_quiet(when, switched);
	/* What the scan has found is known for good, and nothing else is mapped. */
	fmi_eq(fmi_stat("learning_folios"), 0, "learning_folios");
	fmi_assert(fmi_covered() > 0, "%s: nothing is tracked", when);
}

/* Has everything happened that must have at the end? The background audit: once since `rounds`. */
static bool complete(long long rounds)
{
	const char *owed = storm_owed();

	if (!owed && fmi_stat("background_rounds") == rounds)
		owed = "the background audit";
	fmi_waits_for("%s, which was not done yet", owed ? owed : "nothing");
	return !owed;
}

/* The last minute goes on until everything has happened. */
static void blow(double seconds, bool last)
{
	const double end = now_seconds() + seconds;
	long long rounds = fmi_stat("background_rounds");
	double slowest = 0;
	long long seen = 0;
	int audits = 0;

	while (now_seconds() < end || (last && !complete(rounds))) {
		double start = now_seconds();

		/* In the middle calls may be in flight, but there is no difference. */
		fmi_audit("all");
		audits++;
		if (now_seconds() - start > slowest)
			slowest = now_seconds() - start;
		if (fmi_stat("tracked_folios") > seen)
			seen = fmi_stat("tracked_folios");
		msleep(500);
	}
	fmi_goes_on();
	fmi_note("%lu operations, %lld folios, %d audits of at most %.1f s", storm_ops(), seen,
		 audits, slowest);
	fmi_assert(seen > 0, "no folio was tracked");
}

static void switch_off_and_on(double seconds, unsigned int seed)
{
	double end = now_seconds() + seconds;
	int times;

	for (times = 0; times < SWITCHES || now_seconds() < end; times++) {
		fmi_assert(fmi_write("enable", "0") > 0, "disable");
		fmi_eq(fmi_stat("tracked_folios"), 0, "tracked_folios while disabled");
		msleep((unsigned int)rand_r(&seed) % 300);
		fmi_assert(fmi_write("enable", "1") > 0, "enable");
		msleep((unsigned int)rand_r(&seed) % 1000);
		fmi_audit("all");
	}
	fmi_note("switched off and on %d times", times);
}

static unsigned int first_seed;
static struct fmi_test tests[MAX_MINUTES];
static int minutes;

static void minute(struct fmi_scene *s)
{
	unsigned int seed = first_seed + (unsigned int)(fmi_case - tests);
	int families = (int)sysconf(_SC_NPROCESSORS_ONLN);
	bool last = fmi_case == &tests[minutes - 1];
	bool late = fmi_case - tests >= minutes / 2;
	long long before[ARRAY_SIZE(must_stay)];

	/* Of this process's own memory nothing is to become large; its children switch that on. */
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	remember(before);
	if (!storm_with_swapoff(late))
		fmi_note("no swapoff: large folios would be swapped in");
	storm_start_all(s, families < 2 ? 2 : families > 4 ? 4 : families, seed);
	/* Audits do not wait for their turn behind all of them: more of them in a minute. */
	fmi_assert(setpriority(PRIO_PROCESS, 0, -19) == 0, "setpriority");
	/* Beside those that are asked for, and not for nothing. */
	fmi_assert(fmi_write("audit_interval", "1000") > 0, "audit_interval");
	blow(STEADY_SECONDS, last);
	/* That ends a round that is under way. */
	fmi_assert(fmi_write("audit_interval", "0") > 0, "audit_interval");
	fmi_eq(fmi_stat("background_differences"), 0, "differences found in the background");
	storm_pause();
	nothing_changed(before, "stopped", false);
	audit_quiet("steady", false);
	nothing_changed(before, "steady", false);
	storm_coverage(last);

	storm_resume();
	switch_off_and_on(SWITCHING_SECONDS, seed);
	storm_pause();
	nothing_changed(before, "stopped again", true);
	audit_quiet("switched", true);
	nothing_changed(before, "switched", true);
	storm_end();
	storm_left_nothing();
	nothing_changed(before, "all processes are gone", true);
	if (fmi_both()) {
		fmi_assert(fmi_read("both", text, sizeof(text)) > 0, "cannot read both");
		fmi_second_complete(text, "all processes are gone", in_flight);
	}
}

int main(int argc, char **argv)
{
	static char names[MAX_MINUTES][16];
	const char *given = getenv("FMI_STORM_MINUTES");
	int ret;

	minutes = given && *given ? atoi(given) : 1;
	if (minutes < 1 || minutes > MAX_MINUTES) {
		fprintf(stderr, "FMI_STORM_MINUTES is 1 to %d\n", MAX_MINUTES);
		return KSFT_FAIL;
	}
	for (int i = 0; i < minutes; i++) {
		snprintf(names[i], sizeof(names[i]), "minute_%d", i + 1);
		tests[i] = (struct fmi_test){ names[i], minute, ON_ONCE | LONG };
	}
	first_seed = storm_seed();
	fmi_util_init();
	swap_start();
	storm_add_up();
	ret = fmi_run(argc, argv, tests, (size_t)minutes);
	/* A minute that failed has not. */
	fmi_write("audit_interval", "0");
	storm_system_stop();
	swap_stop();
	return ret;
}
