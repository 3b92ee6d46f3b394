# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Measuring in a guest.  Sourced by bench, bench-check, scaling and profile, after lib.sh.

# record_stock_only: numbers that are kept are those of the newest stock kernel.
record_stock_only() {
	[[ -z ${RECORD:-} || -z $KERNEL$RELEASE$FLAVOUR ]] ||
		die "RECORD=1 is for the newest stock kernel" "give no KERNEL=, RELEASE= or FLAVOUR= with it"
}

# has_place WHAT: the document has a place for what is to be recorded of $ARCH.
has_place() {
	grep -q "^\.\. begin $1 $ARCH\$" "$TOP/Documentation/costs.rst" ||
		die "Documentation/costs.rst has no place for '$1' of $ARCH"
}

# ebpf_program: builds the eBPF program and its loader. The loader needs no library: bpftool writes
# it as C; the program is for any kernel that has its types in BTF.
ebpf_program() {
	local cc log=$LOGDIR/ebpf-$SUITE-${WORK##*/}.log
	kit root "$SUITE" clang libbpf-dev bpftool
	cc=$TRIPLET-$(sed -n 's/^HOSTCC=//p' "$WORK/kmake.vars")
	mkdir -p "$LOGDIR"
	in_root make --no-print-directory -C "$TOP/samples" CC="$cc" OUT="$WORK/samples" EBPF="$WORK/ebpf" \
		"$WORK/samples/bench_ebpf" >"$log" 2>&1 || die "the eBPF program was not built" "the whole log: $log"
}

# enter_state STATE: the guest's commands that bring it into a state; $1 is then the option of
# samples/bench that belongs to it, and $source what events come from.
# shellcheck disable=SC2016 # expanded in the guest
enter_state() {
	case $1 in
	none | none+* | again) echo 'set --' ;;
	loaded) echo 'modprobe folio_mapcount || exit; set --' ;;
	nothing) echo 'insmod /fmi/nothing.ko selftest=0 scan=0 enable=1 || exit; set --' ;;
	enabled)
		echo 'modprobe folio_mapcount selftest=0 enable=1 || exit; set -- -c
			source=$(sed -n "s/^backend: //p" /sys/kernel/debug/folio_mapcount/stats)'
		;;
	enabled+*) echo 'modprobe folio_mapcount selftest=0 enable=1 mem_kb=65536 || exit; set -- -c' ;;
	polled) echo 'modprobe folio_mapcount selftest=0 enable=1 || exit; set -- -p' ;;
	ebpf)
		echo '/samples/bench_ebpf >/run/ebpf & ebpf=$!
			until grep -q attached /run/ebpf; do kill -0 $ebpf || exit; sleep 0.1; done
			set --'
		;;
	esac
}

# leave_state STATE: and those that bring it back.
# shellcheck disable=SC2016 # expanded in the guest
leave_state() {
	case $1 in
	none | none+* | again) ;;
	ebpf) echo 'kill $ebpf; wait $ebpf' ;;
	*) echo 'rmmod folio_mapcount || exit' ;;
	esac
}

# measure FILE STATES OPTION...: boots a guest, brings it into the states one after the other, and
# writes to FILE what samples/bench prints there, after a line that names kernel and state.
# In a state STATE+N so many other processes map the same, and these options do not count.
# $EXTRA: a directory laid over the guest's root.
measure() {
	local file=$1 states=$2 state options commands=''
	shift 2
	for state in $states; do
		options=$*
		if [[ $state == *+* ]]; then
			options="-k anon -m munmap,pte-dontneed -s 64K -r 3 -o ${state#*+}"
		fi
		# The eBPF program wants to know the kernel's types.
		commands+="if [ $state != ebpf ] || [ -e /sys/kernel/btf/vmlinux ]; then
			source=; $(enter_state "$state")
			echo \"# \$(uname -r) $ARCH $state \$source\"
			/samples/bench \"\$@\" $options || exit
			$(leave_state "$state")
		fi
		"
	done
	FMI_SKIP_BUILD=1 FMI_PROGRAMS=samples FMI_EXTRA=${EXTRA:-} FMI_ICOUNT=1 FMI_NAME=bench FMI_LIMIT=${FMI_LIMIT:-7200} \
		kit guest-run "$SUITE" "$ARCH" "$commands" >"$file"
}
