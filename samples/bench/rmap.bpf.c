// SPDX-License-Identifier: GPL-2.0
/*
 * What somebody would write who wants to know how often each large folio is mapped and has no
 * module: a count for each folio in a hash map, kept by programs at the entry of the rmap
 * functions. It knows nothing of processes and VMAs, of which page is meant, nor of what fork maps.
 */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* Looked up in the BTF of the running kernel. */
enum pageflags { PG_head };

struct folio {
	unsigned long _flags_1;
} __attribute__((preserve_access_index));

#define PMD_ORDER 9

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 16);
	__type(key, __u64);
	__type(value, __s64);
} counts SEC(".maps");

/* The first word of a folio are its flags. */
static __always_inline bool is_large(const __u64 *folio)
{
	return *folio & (1ULL << bpf_core_enum_value(enum pageflags, PG_head));
}

static __always_inline int changed(const __u64 *folio, __s64 by)
{
	__u64 key = (__u64)folio;
	__s64 *count;

	if (!is_large(folio))
		return 0;
	count = bpf_map_lookup_elem(&counts, &key);
	if (!count) {
		if (by > 0)
			bpf_map_update_elem(&counts, &key, &by, BPF_NOEXIST);
		return 0;
	}
	if (__sync_fetch_and_add(count, by) + by <= 0)
		bpf_map_delete_elem(&counts, &key);
	return 0;
}

/* The third argument is a number of pages. */

SEC("fentry/folio_add_anon_rmap_ptes")
int add_anon_ptes(const __u64 **args)
{
	return changed(args[0], (int)(__u64)args[2]);
}

SEC("fentry/folio_add_file_rmap_ptes")
int add_file_ptes(const __u64 **args)
{
	return changed(args[0], (int)(__u64)args[2]);
}

SEC("fentry/folio_remove_rmap_ptes")
int remove_ptes(const __u64 **args)
{
	return changed(args[0], -(int)(__u64)args[2]);
}

/* These map or unmap all of it at once. */

SEC("fentry/folio_add_anon_rmap_pmd")
int add_anon_pmd(const __u64 **args)
{
	return changed(args[0], 1);
}

SEC("fentry/folio_add_file_rmap_pmd")
int add_file_pmd(const __u64 **args)
{
	return changed(args[0], 1);
}

SEC("fentry/folio_remove_rmap_pmd")
int remove_pmd(const __u64 **args)
{
	return changed(args[0], -1);
}

/* A new folio is mapped as a whole, by PTEs if it is smaller than a PMD. */
SEC("fentry/folio_add_new_anon_rmap")
int add_new_anon(const __u64 **args)
{
	unsigned int order;

	if (!is_large(args[0]))
		return 0;
	order = ((const struct folio *)args[0])->_flags_1 & 0xff;
	return changed(args[0], order < PMD_ORDER ? 1LL << order : 1);
}

char gpl[] SEC("license") = "GPL";
