/* SPDX-License-Identifier: GPL-2.0 */
/* Several processes that do everything at once to large folios they share. */
#ifndef FMI_STORM_H
#define FMI_STORM_H

/* Starts that many families on a region of the scene's arena; sizes are switched to "always". */
struct fmi_scene;
void storm_start(struct fmi_scene *s, int families);
/* Stops them: all are alive, none does anything. Fails the case if that takes too long. */
void storm_pause(void);
/* Ends all of them and waits until they are gone. */
void storm_end(void);
/* Operations so far. */
unsigned long storm_ops(void);

#endif
