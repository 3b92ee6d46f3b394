# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Counting results.  Sourced by whatever counts results: check, test, storm, bench-check, preview-check; after lib.sh.
#
# FMI_TALLY=FILE: the totals are also added to FILE, for a sum over several commands.

PASSED=0 FAILED=0 SKIPPED=0

# result ok|not-ok|skip NAME [WHY]: one test and what came of it.
result() {
	case $1 in
	ok) PASSED=$((PASSED + 1)) && printf 'ok - %s\n' "$2" ;;
	skip) SKIPPED=$((SKIPPED + 1)) && printf 'ok - %s # SKIP %s\n' "$2" "${3:-}" ;;
	*) FAILED=$((FAILED + 1)) && printf 'not ok - %s%s\n' "$2" "${3:+ ($3)}" ;;
	esac
}

# attempt NAME CMD...: a test that is one command; its output is shown if it fails.
attempt() {
	local name=$1 log
	shift
	log=$LOGDIR/check-${name//[^a-zA-Z0-9_]/-}.log
	mkdir -p "$LOGDIR"
	if "$@" >"$log" 2>&1; then
		result ok "$name"
	else
		tail -n 60 "$log" | sed 's/^/# /'
		result not-ok "$name" "log: $log"
	fi
}

# host_tests SUITE: the Rust workspace's own tests, each counted.
host_tests() {
	local log=$LOGDIR/host-tests-$1.log counts rc=0
	mkdir -p "$LOGDIR"
	printf '# host tests (cargo test, Debian %s)\n' "$1"
	kit cargo "$1" test --workspace 2>&1 | tee "$log" | grep -E '^(test |failures:|error|warning: unused|---- )' || true
	counts=$(awk '/^test result:/ { p += $4; f += $6; s += $8; n++ } END { print n + 0, p + 0, f + 0, s + 0 }' "$log")
	read -r n p f s <<<"$counts"
	# cargo's last word is in the log: a crate that does not compile has no result line.
	if grep -qE '^error' "$log" && ((f == 0)) || ((n == 0)); then
		tail -n 30 "$log" | sed 's/^/# /'
		rc=1
	fi
	PASSED=$((PASSED + p)) FAILED=$((FAILED + f)) SKIPPED=$((SKIPPED + s))
	if ((rc)); then
		result not-ok "host tests" "did not build or run; log: $log"
	fi
}

# tally_end: prints the total as the last line; fails if anything failed or nothing ran.
tally_end() {
	if [[ -n ${FMI_TALLY:-} ]]; then
		printf '%d %d %d\n' "$PASSED" "$FAILED" "$SKIPPED" >>"$FMI_TALLY"
	fi
	printf '%d passed, %d failed, %d skipped\n' "$PASSED" "$FAILED" "$SKIPPED"
	((FAILED == 0 && PASSED > 0))
}
