/* SPDX-License-Identifier: BSD-2-Clause */
/* Records of what an engine says about a request: its beginning, end, names, and sequences. */
#ifndef MP_COLLECTOR_REQUEST_RECORD_H
#define MP_COLLECTOR_REQUEST_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "collector/trace/records.h"

struct engine_bind;
struct engine_request;
struct engine_request_end;
struct engine_request_info;
struct trace_writer;

/* What the beginning of @q, with the records that introduce it, takes at most. */
size_t request_record__begin_bytes(const struct engine_request *q);
size_t request_record__info_bytes(const struct engine_request_info *i);

/* @head: time and source; flags are set here. @rows: of the request that were seen. Each: 0, or the
 * writer's error. */
int request_record__begin(struct trace_writer *w, struct trace_record head,
			  const struct engine_request *q);
int request_record__info(struct trace_writer *w, struct trace_record head,
			 const struct engine_request_info *i);
int request_record__bind(struct trace_writer *w, struct trace_record head,
			 const struct engine_bind *b);
int request_record__end(struct trace_writer *w, struct trace_record head,
			const struct engine_request_end *q, uint32_t rows);

#endif
