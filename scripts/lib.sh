# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Functions shared by the scripts of the kit.  Sourced, never run.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
BUILD=$TOP/build
LOGDIR=$BUILD/log
JOBS=${JOBS:-$(nproc)}
[[ $JOBS =~ ^[1-9][0-9]*$ ]] || JOBS=$(nproc)
export LC_ALL=C.UTF-8 TZ=UTC

# A message for people goes to stderr: stdout belongs to the command run.
say() { printf '%s\n' "$*" >&2; }

die() {
	printf 'error: %s\n' "$1" >&2
	shift
	local line
	for line in "$@"; do
		printf '       %s\n' "$line" >&2
	done
	exit 1
}

# Neither make nor QEMU's options can quote these.
[[ $TOP != *[[:space:],:\'\"\$#%]* ]] || die "the kit cannot work in a directory with such a name: $TOP" \
	"move it to one without blanks, commas, colons and quotes"

need_root() {
	((EUID == 0)) || die "this needs root (chroot, mount, debootstrap), and you are uid $EUID" \
		"run it as root: sudo make ${FMI_GOAL:-...}"
}

check_suite() {
	case $1 in
	trixie | forky) ;;
	*) die "unknown SUITE '$1'" "use SUITE=trixie (default) or SUITE=forky" ;;
	esac
}

# Debian's name, the kernel's name and the compiler's prefix of an architecture.
check_arch() {
	case $1 in
	x86_64 | amd64) ARCH=x86_64 DEB_ARCH=amd64 KARCH=x86 TRIPLET=x86_64-linux-gnu ;;
	arm64 | aarch64) ARCH=arm64 DEB_ARCH=arm64 KARCH=arm64 TRIPLET=aarch64-linux-gnu ;;
	*) die "unknown ARCH '$1'" "use ARCH=x86_64 (default) or ARCH=arm64" ;;
	esac
	# shellcheck disable=SC2034 # KARCH, TRIPLET: for the scripts that source this.
	readonly ARCH DEB_ARCH KARCH TRIPLET
}

# The kernels that scripts/kernel builds.
KERNELS=(tracepoint debug nopagemapcount)

# Checks $KERNEL; "stock" is none of our own.
check_kernel() {
	KERNEL=${KERNEL:-}
	[[ $KERNEL != stock ]] || KERNEL=
	[[ -z $KERNEL || " ${KERNELS[*]} " == *" $KERNEL "* ]] || die "unknown KERNEL '$KERNEL'" \
		"use one of: ${KERNELS[*]}; or none, for the stock kernel"
	[[ -z $KERNEL || -z ${FLAVOUR:-} ]] || die "KERNEL=$KERNEL and FLAVOUR=$FLAVOUR exclude each other" \
		"FLAVOUR is one of Debian's kernels, KERNEL one of our own"
}

# Sets ROOT, SOURCE, WORK, KDIR, SLOW for a suite, an architecture, $RELEASE, and $FLAVOUR or $KERNEL.
# shellcheck disable=SC2034
set_paths() {
	check_suite "$1"
	check_arch "$2"
	check_kernel
	SUITE=$1
	FLAVOUR=${FLAVOUR:-}
	RELEASE=${RELEASE:-}
	[[ $RELEASE =~ ^([0-9]+(\.[0-9]+)+)?$ ]] || die "RELEASE=$RELEASE is not a version of Linux" \
		"give one like 7.2 (the newest that Debian has of it) or 7.2.12, or none for the newest of all"
	ROOT=$BUILD/$SUITE/root
	SOURCE=$BUILD/$SUITE/source${RELEASE:+-$RELEASE}
	WORK=$BUILD/$SUITE/$ARCH${RELEASE:+-$RELEASE}${FLAVOUR:+-$FLAVOUR}${KERNEL:+-$KERNEL}
	# How much longer things take in a guest with this kernel, for limits.
	SLOW=1
	[[ $KERNEL != debug ]] || SLOW=6
	KDIR=$WORK/kdir
	MODULE_DIR=$WORK/module
}

# kernel_release: the release of the kernel in $WORK.
kernel_release() { cat "$WORK/release"; }

# source_series: the series of Linux that $SOURCE is of, as 7.3.
source_series() { sed -nE 's/^(VERSION|PATCHLEVEL) = //p' "$SOURCE/Makefile" | paste -sd.; }

# series_patches: the patches for $SOURCE, in their order: those of its series of Linux, without the
# cover letter.
series_patches() {
	local series
	series=$(source_series)
	[[ -d $TOP/patches/$series ]] || die "there are no patches for Linux $series" \
		"there are some for: $(cd "$TOP/patches" && echo [0-9]*/ | tr -d /)"
	grep -ls '^diff ' "$TOP/patches/$series"/*.patch
}

# need_space MIB WHAT: asks for free space up front, not half way through.
need_space() {
	local free
	mkdir -p "$BUILD"
	free=$(df -Pm "$BUILD" | awk 'NR == 2 { print $4 }')
	((free >= $1)) || die "not enough disk space: $2 needs $1 MiB, $BUILD has $free MiB free" \
		"free some space there, then run the same command again: it continues where it stopped"
}

disk_full_hint() {
	local free
	free=$(df -Pm "$BUILD" | awk 'NR == 2 { print $4 }')
	((free >= 64)) || say "       the disk is full: $BUILD has $free MiB free"
}

# take_lock NAME: one at a time; a second run waits for the first and says so.
take_lock() {
	local file=$BUILD/.lock.$1
	mkdir -p "$BUILD"
	exec {LOCK_FD}>>"$file"
	if ! flock -n "$LOCK_FD"; then
		say "waiting: another run (process $(cat "$file" 2>/dev/null || echo '?')) is busy with $1"
		flock "$LOCK_FD"
	fi
	printf '%s\n' $$ >"$file"
}

drop_lock() { exec {LOCK_FD}>&-; }

# kit SCRIPT ARGUMENT...: runs another script of the kit; it ends when this one is ended.
kit() {
	local script=$1
	shift
	setpriv --pdeathsig TERM -- "$TOP/scripts/$script" "$@"
}

# step LOG MESSAGE CMD...: a long step. It says what it does, shows that it lives
# and how long it took; its output goes to build/log/LOG.log, which an error names.
step() {
	local log=$LOGDIR/$1.log message=$2 start=$SECONDS rc=0 pid ticker pause size
	shift 2
	mkdir -p "$LOGDIR"
	printf '==> %s ' "$message" >&2
	printf '### %s (%s)\n' "$message" "$(date)" >>"$log"
	size=$(stat -c %s "$log")

	# A process group of its own: an interrupted step can be ended whole.
	set -m
	(
		set -e
		"$@"
	) >>"$log" 2>&1 </dev/null &
	pid=$!
	set +m
	exec {pause}<> <(:)
	(while ! read -rt 5 -u "$pause"; do printf '.' >&2; done) &
	ticker=$!
	# shellcheck disable=SC2064 # expanded now
	trap "kill -TERM -- -$pid $ticker 2>/dev/null || true; wait $pid || true; say ' interrupted'; exit 130" INT TERM HUP
	wait "$pid" || rc=$?
	trap - INT TERM HUP
	kill "$ticker" 2>/dev/null || true
	wait "$ticker" 2>/dev/null || true
	exec {pause}<&-
	if ((rc != 0)); then
		printf ' FAILED after %d s\n' $((SECONDS - start)) >&2
		tail -c "+$((size + 1))" "$log" | tail -n 15 | sed 's/^/    | /' >&2
		explain_log < <(tail -c "+$((size + 1))" "$log")
		disk_full_hint
		die "$message: failed (exit status $rc)" "the whole log: $log"
	fi
	printf ' done (%d s)\n' $((SECONDS - start)) >&2
	tail -c "+$((size + 1))" "$log" | grep '^note:' >&2 || true
}

# explain_log <LOG: known causes, in words.
explain_log() {
	local tail
	tail=$(tail -n 60)
	case $tail in
	*'No space left on device'*) say "       cause: no space left on device" ;;
	*'Temporary failure resolving'* | *'Could not resolve'* | *'Failed getting release file'* | \
		*'Network is unreachable'* | *'Connection refused'* | *'Cannot initiate the connection'* | \
		*'Unable to connect'* | *'connection timed out'* | *'Invalid Release file'* | *'unable to resolve host'*)
		say "       cause: the Debian mirror was not reached: is there a network, a proxy (http_proxy)?"
		say "       run the same command again when it is: it continues where it stopped"
		;;
	*'Release file'*'expired'*) say "       cause: the mirror is frozen (expired Release file)" ;;
	*'Hash Sum mismatch'* | *'404  Not Found'*)
		say "       cause: the mirror changed under us: run 'make kdir UPDATE=1', then this again" ;;
	esac
}

# in_root CMD...: runs CMD in the tools chroot of $SUITE, in the current directory.
in_root() { "$TOP/scripts/enter" "$SUITE" "$@"; }

# Debian package versions of a package in the chroot's apt, newest first.
apt_versions() { in_root apt-cache madison "$1" | awk -F' *[|] *' 'NF >= 3 { print $2 }'; }

# apt_update: refreshes the package lists of the chroot; a frozen mirror is accepted
# knowingly: signatures are still checked, only the date of the index is not.
apt_update() {
	local log=$LOGDIR/apt-update-$SUITE.log opts=(-q -o APT::Update::Error-Mode=any -o Acquire::Retries=3)
	if in_root apt-get "${opts[@]}" update >"$log" 2>&1; then
		return 0
	fi
	if grep -qE 'Release file .*expired|is not valid yet|is expired' "$log"; then
		say "note: the mirror's Release file of $SUITE is expired (a frozen mirror, or a wrong clock here):"
		say "note: continuing without its date check; signatures are still verified"
		touch "$BUILD/$SUITE/mirror-expired"
		printf 'Acquire::Check-Valid-Until "false";\nAcquire::Check-Date "false";\n' \
			>"$ROOT/etc/apt/apt.conf.d/51fmi-expired"
		in_root apt-get "${opts[@]}" update >>"$log" 2>&1 && return 0
	fi
	cat "$log"
	return 1
}

# kmake ARGS...: the kernel's make, in the chroot, with the compiler of this kernel.
kmake() {
	local vars
	mapfile -t vars <"$WORK/kmake.vars"
	in_root make -j"$JOBS" "${vars[@]}" "$@"
}
