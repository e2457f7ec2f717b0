/* SPDX-License-Identifier: BSD-2-Clause */
/* From raw events to records, the same for a live capture and for a replayed raw log: engine,
 * sink, coverage and loss, fed with events, counters and time. */
#ifndef MP_COLLECTOR_ASSEMBLY_H
#define MP_COLLECTOR_ASSEMBLY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "collector/trace/records.h"

struct assembly;
struct engine;
struct engine_ops;
struct error;
struct mp_counters;
struct mp_site;
struct trace_writer;

struct assembly_options {
	struct trace_writer *writer; /* borrowed, like all of these */
	const struct engine_ops *ops;
	struct engine *engine;
	uint32_t source;
	uint64_t attached_ns; /* when all probes were there */
	uint64_t begin_ns;    /* time of the first records */
	/* Called when counters are wanted at once; it calls assembly__counters. May be NULL. */
	void (*refresh)(void *ctx);
	void *ctx;
};

int assembly__open(struct assembly **out, const struct assembly_options *o, struct error *e);
/* Accepts NULL. */
void assembly__free(struct assembly *a);

/* One raw event of @size bytes, untrusted. Errors end the capture. */
int assembly__event(struct assembly *a, const void *event, size_t size, struct error *e);
/* Process @pid, whose PROCESS was said as number @process, takes part, with @count rows (copied) of
 * the site table from @first on. With the first, says the model, where it is known already. */
int assembly__join(struct assembly *a, pid_t pid, uint32_t process, const struct mp_site *rows,
		   size_t first, size_t count, struct error *e);
/* It is no more; all its events and counters were given. */
int assembly__leave(struct assembly *a, pid_t pid, uint64_t now_ns, struct error *e);
/* What the kernel has counted until now in the first @rows rows. */
void assembly__counters(struct assembly *a, const struct mp_counters *now, size_t rows);
/* @events were delivered into the ring and could not be taken out. */
void assembly__missed(struct assembly *a, uint64_t events);
/* Time goes on: flush what has waited. */
int assembly__tick(struct assembly *a, uint64_t now_ns, struct error *e);
/* LOSS and INVALID of the last interval: about once a second. */
int assembly__report(struct assembly *a, uint64_t now_ns, struct error *e);
/* No more events: close requests, settle coverage, write END. */
int assembly__finish(struct assembly *a, enum trace_stop stop, uint64_t now_ns, struct error *e);

/* Router results said so far. */
uint64_t assembly__routes(const struct assembly *a);

#endif
