/* SPDX-License-Identifier: BSD-2-Clause */
/* STEP and ROUTE records of what an engine says about a step. */
#ifndef MP_COLLECTOR_STEP_RECORD_H
#define MP_COLLECTOR_STEP_RECORD_H

#include <stddef.h>
#include <stdint.h>

struct buffer;
struct engine_step;
struct trace_writer;

/* Bytes that @step and its routes take at most, with the SEQUENCE and CONTEXT that may have to
 * introduce them. */
size_t step_record__bytes(const struct engine_step *step);
/* Write @step without its routes, and its route number @index. @scratch: for columns, kept by the
 * caller. 0, -ENOMEM, or the writer's error. */
int step_record__step(struct trace_writer *w, uint32_t source, const struct engine_step *step,
		      struct buffer *scratch);
int step_record__route(struct trace_writer *w, uint32_t source, const struct engine_step *step,
		       uint32_t index, struct buffer *scratch);

#endif
