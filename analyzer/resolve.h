/* SPDX-License-Identifier: BSD-2-Clause */
/* The server that --name or --port means. */
#ifndef MP_ANALYZER_RESOLVE_H
#define MP_ANALYZER_RESOLVE_H

#include <sys/types.h>

struct error;
struct identity;
struct options;

/*
 * Ask the collector for its list and pick the one that fits. A child process without rights reads
 * the list; only a number comes back. None fits: EXIT_NO_TARGET; several: EXIT_USAGE, by pid.
 */
int resolve__server(pid_t *out, const struct identity *id, const struct options *o,
		    struct error *e);

#endif
