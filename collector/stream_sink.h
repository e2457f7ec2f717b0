/* SPDX-License-Identifier: BSD-2-Clause */
/* What an engine says, written as records of the stream, with coverage and totals beside it. */
#ifndef MP_COLLECTOR_STREAM_SINK_H
#define MP_COLLECTOR_STREAM_SINK_H

#include <stdint.h>
#include <sys/types.h>

struct coverage;
struct engine_context;
struct engine_sink;
struct loss;
struct stream_sink;
struct trace_writer;

struct stream_sink_options {
	struct trace_writer *writer; /* borrowed, like all of these */
	struct coverage *coverage;
	struct loss *loss;
	uint32_t source;   /* id of SOURCE */
	uint64_t begin_ns; /* when the probes were in place */
	/* Asked before a request is settled with results missing: take what the kernel counted
	 * into account now. May be NULL. */
	void (*refresh)(void *ctx);
	void *ctx;
};

/* NULL: out of memory. */
struct stream_sink *stream_sink__new(const struct stream_sink_options *o);
/* Accepts NULL. */
void stream_sink__free(struct stream_sink *s);
/* The callbacks, for an engine. Borrows @s. Errors are the writer's, and -ENOMEM. */
struct engine_sink stream_sink__callbacks(struct stream_sink *s);

/* The contexts of process @pid are those of PROCESS number @process from now on. 0, -ENOMEM. */
int stream_sink__process(struct stream_sink *s, pid_t pid, uint32_t process);

/* What time it is for records that have no time of their own. */
void stream_sink__set_time(struct stream_sink *s, uint64_t now_ns);

/* A model that is known from its file before anything ran in it. It counts for nothing until the
 * engine says it, maybe otherwise. */
int stream_sink__preview(struct stream_sink *s, const struct engine_context *c);

/* Steps, and router results, that were handed over so far, whether written or dropped. */
uint64_t stream_sink__steps(const struct stream_sink *s);
uint64_t stream_sink__routes(const struct stream_sink *s);
/* Steps of replicas, which count for nothing: what they repeat is counted elsewhere. */
uint64_t stream_sink__replica_steps(const struct stream_sink *s);

/* COVERAGE of the rows of no known request, then END with @stop (enum trace_stop) and totals. */
int stream_sink__end(struct stream_sink *s, uint32_t stop, uint64_t now_ns);

#endif
