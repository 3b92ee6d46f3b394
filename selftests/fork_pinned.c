// SPDX-License-Identifier: GPL-2.0
/* References that are no mappings: vmsplice takes one, io_uring pins; fork and COW see them. */
#include "fmi_ksft.h"
#include "fmi_proc.h"
#include "fmi_scene.h"
#include "fmi_util.h"

static void vmsplice_parent_copies_after_child(struct fmi_scene *s)
{
	s_populate(s);
	p_vmsplice(1, s_page(s, 0), pgsz);
	s_check(s, "a reference is no mapping");
	s_fork(s, 1, 2);
	s_check(s, "forked");
	s_exit(s, 2);
	s_check(s, "child gone");
	s_cow(s, 1, 0);
	s_check(s, "the reference forces a copy");
	p_unpin(1);
	s_write_in_place(s, 1, 1);
	s_check(s, "without it, reuse");
}

static void vmsplice_child_unmaps(struct fmi_scene *s)
{
	s_populate(s);
	s_fork(s, 1, 2);
	p_vmsplice(2, s_page(s, 1), pgsz);
	s_munmap(s, 2, 0, s->nr);
	s_check(s, "child holds only a reference");
	s_cow(s, 1, 1);
	s_check(s, "parent copies");
	s_exit(s, 2);
	s_check(s, "child gone");
}

/* A long-term pin takes the folio out of CMA and ZONE_MOVABLE: it may be another one then. */
static void uring_pin(struct fmi_scene *s, unsigned int page)
{
	unsigned long head, pfn;

	p_uring_pin(1, s_page(s, page), pgsz);
	pfn = pagemap_pfn(p_pid(1), s->va);
	fmi_assert(pfn, "nothing mapped any more");
	fmi_eq(folio_order(pfn, &head), s->order, "order of the pinned folio");
	fmi_eq(head, pfn, "head of the pinned folio");
	s->e.pfn = pfn;
}

static void uring_pinned_is_not_shared_by_fork(struct fmi_scene *s)
{
	s_populate(s);
	uring_pin(s, 1);
	s_check(s, "a pin is no mapping");
	p_fork(1, 2);
	/* The child has copies of all pages; a PMD of the parent is split. */
	ex_vma(&s->e, 2, s->va, s->va + s->size);
	ex_split(&s->e, 1, s->va, s->size);
	s_check(s, "forked while pinned");
	s_write_in_place(s, 1, 1);
	s_check(s, "parent writes in place");
	s_exit(s, 2);
	s_check(s, "child gone");
	p_unpin(1);
	s_fork(s, 1, 3);
	s_check(s, "forked without the pin");
	s_cow(s, 3, 0);
	s_check(s, "child wrote");
}

static void uring_pinned_partly_unmapped(struct fmi_scene *s)
{
	s_populate(s);
	uring_pin(s, 0);
	s_dontneed(s, 1, 0, 1);
	s_check(s, "pinned page unmapped");
	s_munmap(s, 1, s->nr / 2, s->nr / 2);
	s_check(s, "half of it unmapped");
	p_unpin(1);
	s_check(s, "unpinned");
}

static const struct fmi_test tests[] = {
	{ "vmsplice_parent_copies_after_child", vmsplice_parent_copies_after_child, ON_ANON },
	{ "vmsplice_child_unmaps", vmsplice_child_unmaps, ON_ANON },
	{ "uring_pinned_is_not_shared_by_fork", uring_pinned_is_not_shared_by_fork, ON_ANON },
	{ "uring_pinned_partly_unmapped", uring_pinned_partly_unmapped, ON_ANON | ON_SHMEM },
};

int main(int argc, char **argv)
{
	return fmi_run(argc, argv, tests, ARRAY_SIZE(tests));
}
