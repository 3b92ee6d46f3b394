// SPDX-License-Identifier: GPL-2.0
/*
 * What happens to the mapcounts of a large folio: a story in ten steps. A process
 * forks, writes, protects, moves and unmaps; after each step the module tells what
 * every definition of "mapcount" says, and what the kernel's own counters say.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "demo.h"

#define THP "/sys/kernel/mm/transparent_hugepage/"
#define KB 1024UL

static unsigned long page, pmd;
static int to_child[2], from_child[2];
static pid_t child;

/* Settings are changed for a moment only, or for the demo; all of them come back. */
static struct setting {
	char path[96];
	char saved[32];
} settings[8];
static int nr_settings;

static void restore(void)
{
	if (child > 0)
		kill(child, SIGKILL);
	while (nr_settings-- > 0)
		write_text(settings[nr_settings].path, settings[nr_settings].saved);
}

static struct setting *save(const char *path)
{
	struct setting *s = &settings[nr_settings];
	char line[128];
	char *word;

	if (!read_text(path, line, sizeof(line)))
		die("%s cannot be read: this kernel has no folios of that size", path);
	word = strchr(line, '[');
	word = word ? word + 1 : line;
	word[strcspn(word, "]\n")] = '\0';
	snprintf(s->path, sizeof(s->path), "%s", path);
	snprintf(s->saved, sizeof(s->saved), "%.31s", word);
	nr_settings++;
	return s;
}

static struct setting *save_size(unsigned long bytes)
{
	char path[96];

	snprintf(path, sizeof(path), THP "hugepages-%lukB/enabled", bytes / KB);
	return save(path);
}

static void set(const struct setting *s, const char *value)
{
	if (!write_text(s->path, value))
		die("cannot write '%s' to %s: %s", value, s->path, strerror(errno));
}

static char *map(char *at, unsigned long len)
{
	char *mem = mmap(at, len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0), -1, 0);

	if (mem == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	return mem;
}

/* One folio of this size at that place, between other addresses. */
static void make_folio(char *at, unsigned long bytes, const struct setting *size)
{
	map(at, bytes);
	set(size, "always");
	*at = 1;
	set(size, "never");
}

static void drop(char *at, unsigned long len)
{
	if (madvise(at, len, MADV_DONTNEED))
		die("madvise: %s", strerror(errno));
}

/* The child does what a letter says, and answers with the same letter. */
static void child_loop(char *folio)
{
	char order;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(to_child[0], &order, 1) == 1) {
		if (order == 'w')
			folio[7 * page] = 2;
		if (order == 'd' && (madvise(folio, page, MADV_DONTNEED) ||
				     madvise(folio + 2 * page, 14 * page, MADV_DONTNEED)))
			_exit(1);
		if (write(from_child[1], &order, 1) != 1)
			break;
	}
	_exit(0);
}

static void start_child(char *folio)
{
	if (pipe(to_child) || pipe(from_child))
		die("pipe: %s", strerror(errno));
	fflush(stdout);
	child = fork();
	if (child < 0)
		die("fork: %s", strerror(errno));
	if (child == 0) {
		close(to_child[1]);
		close(from_child[0]);
		child_loop(folio);
	}
	close(to_child[0]);
	close(from_child[1]);
}

static void tell_child(char order)
{
	char answer;

	if (write(to_child[1], &order, 1) != 1 || read(from_child[0], &answer, 1) != 1)
		die("the child is gone");
}

static void end_child(void)
{
	close(to_child[1]);
	close(from_child[0]);
	waitpid(child, NULL, 0);
	child = 0;
}

static void huge_folio(char *thp, const struct setting *size)
{
	const unsigned long va = (unsigned long)thp;
	const unsigned long part = pmd / 16;
	const unsigned long nr = pmd / page;
	char what[80];

	make_folio(thp, pmd, size);
	snprintf(what, sizeof(what), "A process touches %lu MiB of new memory.", pmd / KB / KB);
	show_step(va, what, "The kernel gives it one folio of %lu pages and maps it with one "
		  "entry, a PMD.", nr);

	start_child(thp);
	show_step(va, "It forks.", "The child maps the folio with a PMD of its own: two mappings, "
		  "%lu mapped pages.", 2 * nr);

	tell_child('w');
	show_step(va, "The child writes one byte.", "It gets a copy of that page; its PMD becomes "
		  "%lu single entries (PTEs), all but page 7.", nr - 1);

	if (mprotect(thp, page, PROT_READ))
		die("mprotect: %s", strerror(errno));
	show_step(va, "The parent makes its first page read-only.", "That cuts its VMA in two and "
		  "its PMD into %lu PTEs: three VMAs, still two processes.", nr);

	if (mremap(thp + part, part, part, MREMAP_MAYMOVE | MREMAP_FIXED, thp + 2 * pmd) !=
	    thp + 2 * pmd)
		die("mremap: %s", strerror(errno));
	snprintf(what, sizeof(what), "The parent moves %lu KiB elsewhere with mremap.", part / KB);
	show_step(va, what, "Nothing is mapped more or less often, but the parent now has four "
		  "VMAs on the folio.");

	end_child();
	show_step(va, "The child exits.", "Only one process is left. Counts of VMAs still look "
		  "like sharing.");

	drop(thp, page);
	show_step(va + page, "The parent gives the first page back (MADV_DONTNEED).", "%lu pages "
		  "stay mapped, but who only looks at the first page sees nothing.", nr - 1);

	munmap(thp, part);
	munmap(thp + 2 * part + page, pmd - 2 * part - page);
	munmap(thp + 2 * pmd, part);
	show_step(va + 2 * part, "The parent unmaps all but one page.", "One page of %lu keeps "
		  "%lu MiB in use; the kernel calls that partially mapped.", nr, pmd / KB / KB);
	munmap(thp + 2 * part, page);
}

static void small_folios(char *folio, const struct setting *size)
{
	const unsigned long va = (unsigned long)folio;

	make_folio(folio, 16 * page, size);
	start_child(folio);
	tell_child('d');
	drop(folio, page);
	drop(folio + 2 * page, 14 * page);
	show_step(va + page, "Another folio, of 16 pages: two processes map it, both page 1 only.",
		  "Two mappings of one page by two processes ...");
	end_child();
	munmap(folio, 16 * page);

	folio += pmd;
	make_folio(folio, 16 * page, size);
	drop(folio + 2 * page, 14 * page);
	show_step(va + pmd, "One more of 16 pages: one process maps pages 0 and 1 of it.",
		  "... and two mappings of two pages by one: total cannot tell them apart.");
	munmap(folio, 16 * page);
}

int main(void)
{
	struct setting *huge, *medium;
	char size[32];
	char *mem;
	bool ok;

	enable_module();
	page = (unsigned long)getpagesize();
	if (!read_text(THP "hpage_pmd_size", size, sizeof(size)))
		die("this kernel has no transparent huge pages");
	pmd = strtoul(size, NULL, 10);
	cleanup = restore;
	huge = save_size(pmd);
	medium = save_size(16 * page);
	/* So that khugepaged does not tidy up behind us. */
	set(save(THP "enabled"), "never");
	set(huge, "never");
	set(medium, "never");

	/* Addresses of our own, with nothing mapped: neighbours would merge with our VMAs. */
	mem = mmap(NULL, 9 * pmd, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	mem = (char *)(((unsigned long)mem + 2 * pmd - 1) & ~(pmd - 1));

	printf("Shadow mapcounts of large folios: what several definitions of \"how often is it\n"
	       "mapped?\" say about the same folio, beside the kernel's own counters.\n\n"
	       "A folio is a group of pages that the kernel manages as one. A process maps it with\n"
	       "page table entries: a PTE maps one page, a PMD maps %lu pages at once. A VMA is a\n"
	       "range of a process's addresses with one set of permissions.\n", pmd / page);
	huge_folio(mem, huge);
	small_folios(mem + 4 * pmd, medium);
	ok = show_summary();
	restore();
	return ok ? 0 : 1;
}
