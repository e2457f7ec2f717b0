/* SPDX-License-Identifier: BSD-2-Clause */
/* Looking without probing: which processes could be attached to, and what is in the way. The
 * answer is a stream of PROCESS, CONTEXT, MODEL and FINDING records. */
#ifndef MP_COLLECTOR_INSPECT_H
#define MP_COLLECTOR_INSPECT_H

#include <stdint.h>
#include <sys/types.h>

struct ability;
struct broker_client;
struct error;
struct header_names;

struct inspect_options {
	struct broker_client *broker;    /* borrowed, like all of these */
	const struct ability *abilities; /* ABILITY_COUNT of them */
	pid_t pid;                       /* doctor: 0 for the machine alone */
	const struct error *no_process;  /* doctor: why nothing can be said of it, if set */
	uint32_t ring_bytes;
	const struct header_names *headers; /* doctor: of requests, that are to be read */
	int out;
};

/* Every process with a known engine: engine, model, port, predicted cost, or why it cannot be
 * attached to. */
int inspect__list(const struct inspect_options *o, struct error *e);
/* Rights and abilities; with a process also its engine, model and sites. What is missing is a
 * finding, and an error only where nothing could be said of the process. */
int inspect__doctor(const struct inspect_options *o, struct error *e);

#endif
