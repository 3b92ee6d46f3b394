#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Runs the selftests that lie beside this script, as root on the machine under
# test (busybox sh is enough), and prints one KTAP stream: the cases of all
# programs, renumbered, the plan at the end. FMI_TEST_ALL=1: the long versions.
# FMI_TESTS='a b': only these programs. FMI_BACKEND=name: the module is loaded with
# backend=name; with "both" every audit compares both backends. Exit status: 0 passed, 1 failed, 4 all skipped.

dir=$(cd "$(dirname "$0")" && pwd)
thp=/sys/kernel/mm/transparent_hugepage
settings="$thp/enabled $thp/shmem_enabled $thp/hugepages-*/enabled $thp/hugepages-*/shmem_enabled"
work=/tmp/fmi_tests.$$
total=0
passed=0
failed=0
skipped=0

skip_all()
{
	echo "KTAP version 1"
	echo "1..0 # SKIP $1"
	exit 4
}

# The programs restore settings themselves; this is for those that are killed.
save_settings()
{
	for file in $settings; do
		[ -w "$file" ] || continue
		value=$(sed 's/.*\[\(.*\)\].*/\1/' "$file")
		echo "echo $value >$file"
	done >"$work/restore"
	file=$thp/khugepaged/scan_sleep_millisecs
	[ -w $file ] && echo "echo $(cat $file) >$file" >>"$work/restore"
	return 0
}

restore_settings()
{
	[ -f "$work/restore" ] && . "$work/restore" 2>/dev/null
	rm -rf "$work"
}

result()
{
	total=$((total + 1))
	case $1 in
	not*) failed=$((failed + 1)) ;;
	*"# SKIP"*) skipped=$((skipped + 1)) ;;
	*) passed=$((passed + 1)) ;;
	esac
}

# Renumbers one program's lines: "ok 3 name" becomes "ok 17 program: name".
renumber()
{
	plan=0
	seen=0
	while IFS= read -r line; do
		case $line in
		"ok "* | "not ok "*)
			word=${line%%ok *}ok
			rest=${line#"$word "}
			name=${rest#* }
			result "$line"
			seen=$((seen + 1))
			echo "$word $total $1: $name"
			;;
		"1..0 # SKIP"*)
			result "# SKIP"
			echo "ok $total $1 # SKIP ${line#*SKIP }"
			plan=1
			seen=1
			;;
		1..*) plan=${line#1..} ;;
		"KTAP version"* | "# Totals"*) ;;
		*) echo "$line" ;;
		esac
	done <"$work/pipe"
}

run()
{
	start=$(date +%s)
	echo "# $1"
	mkfifo "$work/pipe"
	"$dir/$1" >"$work/pipe" 2>&1 &
	pid=$!
	renumber "$1"
	wait $pid
	status=$?
	rm -f "$work/pipe"
	if [ "$seen" -ne "$plan" ] || { [ $status -ne 0 ] && [ $status -ne 1 ] && [ $status -ne 4 ]; }; then
		result "not ok"
		echo "not ok $total $1: ended with status $status after $seen of $plan cases"
	fi
	echo "# $1: $(($(date +%s) - start)) s"
}

[ "$(id -u)" = 0 ] || skip_all "not root"
[ -d $thp ] || skip_all "this kernel has no transparent huge pages"
[ -d /sys/kernel/debug ] || skip_all "no debugfs"
[ -n "$(ls /sys/kernel/debug 2>/dev/null)" ] || mount -t debugfs none /sys/kernel/debug ||
	skip_all "debugfs cannot be mounted"
mkdir -p "$work" || skip_all "no place for temporary files"
trap restore_settings EXIT
trap 'exit 1' INT TERM
save_settings

echo "KTAP version 1"
if [ ! -d /sys/module/folio_mapcount ] && [ -f "$dir/folio_mapcount.ko" ]; then
	insmod "$dir/folio_mapcount.ko" ${FMI_BACKEND:+backend="$FMI_BACKEND"} || exit 1
elif [ ! -d /sys/module/folio_mapcount ]; then
	modprobe folio_mapcount ${FMI_BACKEND:+backend="$FMI_BACKEND"} || { echo "Bail out! the module cannot be loaded"; exit 1; }
fi
for test in ${FMI_TESTS:-$(cat "$dir/fmi_tests.list")}; do
	run "$test"
done
echo "1..$total"
echo "# Totals: pass:$passed fail:$failed skip:$skipped"
[ $failed -eq 0 ] || exit 1
[ $passed -gt 0 ] || exit 4
