/* SPDX-License-Identifier: BSD-2-Clause */
/* The life of one attach: look, load, link, pump until something ends it, detach, say the end. */
#ifndef MP_COLLECTOR_ATTACH_SESSION_H
#define MP_COLLECTOR_ATTACH_SESSION_H

#include <stdint.h>
#include <sys/types.h>

struct broker_client;
struct error;
struct header_names;

struct attach_session_options {
	struct broker_client *broker; /* borrowed, like the descriptors */
	pid_t pid;
	uint32_t ring_bytes;
	uint64_t duration_ns;               /* 0: until stopped */
	int out;                            /* the stream */
	int statm;                          /* our own memory, see struct cost */
	int cpus;                           /* processors, see counters__open() */
	int raw_log;                        /* -1: none */
	const struct header_names *headers; /* of requests, that become labels */
};

/*
 * Run it. 0: it ended as asked, by duration, or because the target ended. SIGINT, SIGTERM and
 * SIGHUP must be blocked: they are taken as "stop". Errors: whatever kept it from attaching
 * (nothing was written then), or what ended it early (END says so).
 */
int attach_session__run(const struct attach_session_options *o, struct error *e);

#endif
