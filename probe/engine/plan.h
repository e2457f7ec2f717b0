/* SPDX-License-Identifier: BSD-2-Clause */
/* What an engine wants to have probed in a process, and what it says of that process. */
#ifndef MP_ENGINE_PLAN_H
#define MP_ENGINE_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/abi/site.h"
#include "probe/attach/site.h"

struct mapping;

/* One probed place: the kernel's row, and where it is. */
struct engine_site {
	const char *purpose;           /* "router", "rows", "requests": for doctor */
	const struct mapping *library; /* borrowed from the target */
	struct site place;
	struct mp_site row;
	unsigned required; /* 0: attach goes on without it, @without says what is lost */
	const char *without;
};

#define ENGINE_SITES_MAX 20

/* What an engine found in a process. Plain data; pointers borrowed from engine and target. */
struct engine_plan {
	size_t sites;
	struct engine_site site[ENGINE_SITES_MAX];
	char role[32]; /* in its service: "server", "api server", "worker"; "" if unknown */
	/* Its place in each kind of parallelism; ENGINE_UNKNOWN where it has none. */
	uint32_t rank_tensor, rank_pipeline, rank_data, rank_expert;
	char version[64];     /* of the engine, "" if unknown */
	uint8_t build_id[20]; /* of the library with the router */
	bool serves_http;     /* it answers requests of clients, whose headers may be read */
	uint32_t threads;     /* that run the router operator, ENGINE_UNKNOWN */
	/* Predicted hits of one step: by each of those threads, and by all; < 0: unknown. */
	double hits_per_step_thread, hits_per_step;
};

/* Nothing found: no sites, threads, hits and ranks unknown. */
void engine_plan__clear(struct engine_plan *plan);

#endif
