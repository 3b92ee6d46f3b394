/* SPDX-License-Identifier: GPL-2.0 */
/* Transparent huge page settings: every size apart, and what else would disturb a test. */
#ifndef FMI_THP_H
#define FMI_THP_H

#include <stdbool.h>

enum fmi_kind { FMI_ANON, FMI_SHMEM, FMI_FILE, FMI_NONE };

const char *kind_name(enum fmi_kind kind);

/* Remembers the settings and switches all of it off; and the way back. */
void thp_save(void);
void thp_restore(void);
/* Switches all of it off again. */
void thp_quiet(void);
/* khugepaged scans without a pause, or not at all. */
void thp_khugepaged(bool run);
/* All sizes to "never", for both kinds. */
void thp_never(void);
/* Only this size to `value` ("always", "advise", ...), for this kind. */
void thp_only(enum fmi_kind kind, unsigned int order, const char *value);
/* This size to "always" as well, if it exists. */
void thp_also(enum fmi_kind kind, unsigned int order);

/* Does the machine offer this size for this kind (file: as for shmem)? */
bool thp_size_exists(enum fmi_kind kind, unsigned int order);
#define FMI_MAX_ORDER 12

#endif
