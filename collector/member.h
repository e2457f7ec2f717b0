/* SPDX-License-Identifier: BSD-2-Clause */
/* One process of a service that takes part in a capture: its plan, its block of rows in the site
 * table, its probes. Runs in the reader; what needs rights is asked of the broker. */
#ifndef MP_COLLECTOR_MEMBER_H
#define MP_COLLECTOR_MEMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "probe/engine/engine.h"

struct broker_client;
struct error;
struct target;

/* A link, or why there is none, for each site of the plan. */
struct member_site {
	bool linked;
	char reason[512]; /* "" or why an optional one is not */
};

struct member {
	pid_t pid;
	struct target *target;
	int pidfd;        /* readable once it is gone; -1: it cannot be watched */
	uint32_t process; /* id in the stream, from 1 */
	uint32_t first;   /* row of plan.site[0] */
	bool gone;        /* exited, another program by now, or failed */
	bool failed;      /* could not be probed: it never took part */
	struct engine_plan plan;
	struct member_site site[ENGINE_SITES_MAX];
};

/* A member that runs @target (taken) and has the plan that the caller fills in. NULL: out of
 * memory. */
struct member *member__new(struct target *target);
/* Its probes must be gone. Accepts NULL. */
void member__free(struct member *m);

/* Its rows as planned, all of them disabled. */
void member__rows(const struct member *m, struct mp_site *rows);
/* Place its probes. A required one that fails is an error; others are noted in @site. */
int member__link(struct member *m, struct broker_client *broker, struct error *e);
/* Switch the rows of @program in @table on, where they are linked, or off. */
void member__enable(struct member *m, struct mp_site *table, enum mp_purpose purpose, bool on);

#endif
