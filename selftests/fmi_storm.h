/* SPDX-License-Identifier: GPL-2.0 */
/* Several processes that do everything at once to large folios they share. */
#ifndef FMI_STORM_H
#define FMI_STORM_H

#include <stdbool.h>

struct fmi_scene;

/*
 * Starts that many families on regions of the scene's arena; sizes are switched to "always".
 * The seed is that of the environment (FMI_SEED) or of the clock, and is printed.
 */
void storm_start(struct fmi_scene *s, int families);
/* The same with this seed, and with what shakes the whole machine beside them (storm_system.c). */
void storm_start_all(struct fmi_scene *s, int families, unsigned int seed);
/* FMI_SEED, or one from the clock. */
unsigned int storm_seed(void);
/* Stops them: all are alive, none does anything. */
void storm_pause(void);
/* Goes on after a pause. */
void storm_resume(void);
/* Ends all of them and waits until they are gone. */
void storm_end(void);
/* Waits until no folio is left over; those of other programs are none of it. */
void storm_left_nothing(void);
/* Operations so far. */
unsigned long storm_ops(void);
/*
 * From now on operations count that were done in an earlier storm, of another case, too. To be
 * called before the first case.
 */
void storm_add_up(void);
/* An operation that this machine can do and that was not done yet, or NULL. */
const char *storm_owed(void);
/* Prints how often each was done; fails the case if all must have been and one was not. */
void storm_coverage(bool complete);

#endif
