/* SPDX-License-Identifier: BSD-2-Clause */
/* One engine in one process, probed: from a process id to events in a ring. Runs in the reader;
 * what needs rights is asked of the broker. */
#ifndef MP_COLLECTOR_ATTACHMENT_H
#define MP_COLLECTOR_ATTACHMENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "probe/engine/engine.h"
#include "probe/target/opener.h"

struct broker_client;
struct error;
struct target;

/* A link, or why there is none, for each site of the plan. */
struct attachment_site {
	int linked;       /* 1 while it is */
	char reason[512]; /* "" or why an optional one is not */
};

struct attachment {
	struct broker_client *broker; /* borrowed */
	struct opener opener;
	struct target *target;
	const struct engine_ops *ops;
	struct engine *engine;
	struct engine_plan plan; /* row i of the site table is plan.site[i].row */
	struct attachment_site site[ENGINE_SITES_MAX];
	int ring_fd, counters_fd;
	struct mp_site *table; /* shared with the kernel: MP_SITES rows; NULL before load */
	uint64_t attached_ns;  /* when all links were there */
};

/* Look at process @pid: who it is, its engine, sites and model. No trace in the target yet. The
 * caller closes, also after an error. */
int attachment__open(struct attachment *a, struct broker_client *broker, pid_t pid,
		     struct error *e);
/* Load the kernel programs with a ring of @ring_bytes and write the site table. */
int attachment__load(struct attachment *a, uint32_t ring_bytes, struct error *e);
/* Place the probes. A required one that fails is an error; others are noted in @site. */
int attachment__link(struct attachment *a, struct error *e);
/* Take the probes away. 0 or -errno (the broker is gone, and they with it). */
int attachment__unlink(struct attachment *a);
/* Rows of the site table as planned; returns their number. */
size_t attachment__rows(const struct attachment *a, struct mp_site *rows);
/* Frees everything. Accepts a zeroed struct. */
void attachment__close(struct attachment *a);

#endif
