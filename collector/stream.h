/* SPDX-License-Identifier: BSD-2-Clause */
/* The stream that this collector writes, and the records that are not an engine's: who writes,
 * what time it is, which process is read, what was found. */
#ifndef MP_COLLECTOR_STREAM_H
#define MP_COLLECTOR_STREAM_H

#include <stdint.h>

#include "collector/trace/records.h"

struct error;
struct stream;
struct engine_plan;
struct target_info;
struct trace_writer;

#define STREAM_SOURCE 1u /* the one source of our stream */

/* Begin a stream on @fd (borrowed): SOURCE and CLOCK are its first records. A file is written
 * compressed; on pipes and sockets steps wait for a slow reader in a queue of @queue_bytes, and
 * requests in half as much more. */
int stream__open(struct stream **out, int fd, uint32_t queue_bytes, struct error *e);
/* Drops what was not flushed. Accepts NULL. */
void stream__free(struct stream *s);
struct trace_writer *stream__writer(struct stream *s);

/* CLOCK_MONOTONIC. */
uint64_t stream__now_ns(void);

/* Each: 0, or the writer's error. */
int stream__clock(struct stream *s);

/* A PROCESS as plain data, which raw logs hold too. Strings are NUL-terminated, "" if unknown. */
struct stream_process {
	uint32_t process;     /* id in the stream, from 1 */
	uint32_t pid, parent; /* parent 0: unknown */
	uint32_t rank_tensor, rank_pipeline, rank_data, rank_expert;
	char engine[32], version[64], command[64], role[32];
	uint8_t build_id[20];
	uint64_t start_ticks, pid_namespace_inode;
};
/* What @info and @plan say of process number @process. */
struct stream_process stream_process__of(uint32_t process, const char *engine,
					 const struct target_info *info,
					 const struct engine_plan *plan);
int stream__process(struct stream *s, const struct stream_process *p);

/* A FINDING about process @pid (0: the machine). @remedy may be NULL. */
int stream__finding(struct stream *s, enum trace_status status, uint32_t pid, const char *area,
		    const char *name, const char *remedy, const char *value, ...)
	__attribute__((format(printf, 7, 8)));

/* END with no totals: for what is no capture. Then wait for the reader to take all. */
int stream__close(struct stream *s, enum trace_stop stop, struct error *e);

#endif
