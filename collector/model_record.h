/* SPDX-License-Identifier: BSD-2-Clause */
/* CONTEXT and MODEL records of what an engine says about a model. */
#ifndef MP_COLLECTOR_MODEL_RECORD_H
#define MP_COLLECTOR_MODEL_RECORD_H

#include <stdint.h>

#include "collector/trace/records.h"

struct engine_context;
struct trace_writer;

/* @head: time and source. @context: the id in this stream, in CONTEXT that of @c. 0, or the
 * writer's error. */
int model_record__context(struct trace_writer *w, struct trace_record head, uint32_t process,
			  const struct engine_context *c);
int model_record__model(struct trace_writer *w, struct trace_record head, uint32_t context,
			const struct engine_context *c);

#endif
