// SPDX-License-Identifier: GPL-2.0
/* Attaches rmap.bpf.c, says so, and keeps it until it is killed. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "rmap.lskel.h"

int main(void)
{
	struct rmap_bpf *rmap = rmap_bpf__open_and_load();

	if (!rmap) {
		fprintf(stderr, "bench_ebpf: not loaded: %s\n", strerror(errno));
		return 1;
	}
	if (rmap_bpf__attach(rmap) < 0) {
		fprintf(stderr, "bench_ebpf: not attached: %s\n", strerror(errno));
		return 1;
	}
	puts("attached");
	fflush(stdout);
	/* A signal ends it, and takes the programs away. */
	for (;;)
		pause();
}
