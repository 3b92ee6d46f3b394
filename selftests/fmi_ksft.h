/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KTAP output, and the frame every test binary runs in: each case is a process
 * of its own (and all processes it makes), so that a failed one leaves nothing.
 */
#ifndef FMI_KSFT_H
#define FMI_KSFT_H

#include <stdbool.h>
#include <stddef.h>

#define KSFT_PASS 0
#define KSFT_FAIL 1
#define KSFT_SKIP 4

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

struct fmi_scene;

/* What a case runs on; a case with ON_EACH bits runs once for every size of that kind. */
#define ON_ANON 0x01u	/* anonymous memory, every size with an "enabled" file */
#define ON_SHMEM 0x02u	/* memfd, every size with a "shmem_enabled" file */
#define ON_FILE 0x04u	/* a filesystem with large folios, the same sizes */
#define ON_EACH (ON_ANON | ON_SHMEM | ON_FILE)
#define ON_ONCE 0x08u	/* once, without a size */
#define PMD_ONLY 0x10u	/* only the PMD size */
#define PTE_ONLY 0x20u	/* all but the PMD size */
#define ORDER4_ONLY 0x40u /* only 16 pages */
#define LONG 0x80u	/* the case has its own time limit */
#define NO_MODULE 0x100u /* the case loads the module itself */
#define NOT_ORDER1 0x200u /* more than two pages */
#define FEW_SIZES 0x400u /* 4 and 16 pages and the PMD size; the long versions: all sizes */

struct fmi_test {
	const char *name;
	void (*fn)(struct fmi_scene *s);
	unsigned int on;
};

/* Runs all cases (argv[1]: only those whose full name contains it); the exit status. */
int fmi_run(int argc, char **argv, const struct fmi_test *tests, size_t nr);

/* The case that runs. */
extern const struct fmi_test *fmi_case;

/* Ends the case. */
__attribute__((noreturn, format(printf, 3, 4)))
void fmi_fail_at(const char *file, int line, const char *fmt, ...);
__attribute__((noreturn, format(printf, 1, 2)))
void fmi_skip(const char *fmt, ...);
/* A line of diagnosis. */
__attribute__((format(printf, 1, 2)))
void fmi_note(const char *fmt, ...);

/*
 * Nothing has a limit of its own but the case as a whole, which is for what would never end: how
 * long things take says nothing. If that limit ends the case, this is what it was waiting for.
 */
__attribute__((format(printf, 1, 2)))
void fmi_waits_for(const char *fmt, ...);
/* It has come. */
void fmi_goes_on(void);

/* Waits until a condition holds. Needs fmi_util.h. */
#define fmi_wait_until(cond, ...)					\
	do {								\
		while (!(cond)) {					\
			fmi_waits_for(__VA_ARGS__);			\
			msleep(20);					\
		}							\
		fmi_goes_on();						\
	} while (0)

#define fmi_fail(...) fmi_fail_at(__FILE__, __LINE__, __VA_ARGS__)

#define fmi_assert(cond, ...)						\
	do {								\
		if (!(cond))						\
			fmi_fail_at(__FILE__, __LINE__, __VA_ARGS__);	\
	} while (0)

#define fmi_eq(got, want, what)						\
	do {								\
		long long got_ = (long long)(got);			\
		long long want_ = (long long)(want);			\
									\
		if (got_ != want_)					\
			fmi_fail_at(__FILE__, __LINE__,			\
				    "%s: got %lld, want %lld",		\
				    what, got_, want_);			\
	} while (0)

/* FMI_TEST_ALL=1: the long versions. */
bool fmi_test_all(void);

#endif
