/* SPDX-License-Identifier: GPL-2.0 */
/* Tracers of ftrace, beside the module or before it. */
#ifndef FMI_TRACERS_H
#define FMI_TRACERS_H

#define TRACEFS "/sys/kernel/tracing/"

/* Writes to a file of tracefs. */
void tracer_set(const char *file, const char *value);

/* Nobody traces anything; skips if there is no tracefs. */
void nobody_traces(void);

/* Skips if there is no such tracer. */
void start_tracer(const char *name, const char *functions);

#endif
