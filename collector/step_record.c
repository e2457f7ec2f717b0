/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/step_record.h"

#include <errno.h>
#include <stdbool.h>

#include "collector/trace/records.h"
#include "collector/trace/writer.h"
#include "probe/base/buffer.h"
#include "probe/engine/sink.h"

size_t step_record__bytes(const struct engine_step *step)
{
	size_t bytes = sizeof(struct trace_context) + sizeof(struct trace_step) +
		       (size_t)step->rows * 18 + 48;

	for (uint32_t i = 0; i < step->rows; i++)
		if (!i || step->row[i].sequence != step->row[i - 1].sequence)
			bytes += sizeof(struct trace_sequence);
	for (uint32_t i = 0; i < step->routes; i++) {
		const struct engine_route *r = &step->route[i];

		bytes += sizeof(struct trace_route) + 32 +
			 (size_t)r->rows * ((r->row ? 4 : 0) + (size_t)r->k * (r->weights ? 6 : 2) +
					    (r->row_flags ? 1 : 0));
	}
	return bytes;
}

/* What an engine may say of a route; the other flags are about the record. */
#define ROUTE_FLAGS \
	(TRACE_ROUTE_INFERRED | TRACE_ROUTE_RAW | TRACE_ROUTE_PHYSICAL | TRACE_ROUTE_LOCAL | \
	 TRACE_ROUTE_NO_CHOICE)

/* Room for a column in the scratch: where it begins. An offset, since the buffer moves. */
static int lay_column(struct buffer *b, size_t bytes, size_t *offset)
{
	*offset = b->size;
	return buffer__extend(b, (bytes + 7) & ~(size_t)7) ? 0 : -ENOMEM;
}

int step_record__step(struct trace_writer *w, uint32_t source, const struct engine_step *step,
		      struct buffer *scratch)
{
	static const uint8_t width[6] = { 4, 4, 4, 1, 1, 4 };
	struct trace_step r = {
		.head = { .time_ns = step->begin_ns, .source = source, .flags = TRACE_STEP_TOKENS },
		.step = step->step,
		.begin_ns = step->begin_ns,
		.end_ns = step->end_ns,
		.context = step->context,
		.rows = step->rows,
		.ubatch = step->ubatches ? step->ubatch : TRACE_UNKNOWN,
		.ubatches = step->ubatches ? step->ubatches : TRACE_UNKNOWN,
		.batch = step->batch ? step->batch : UINT64_MAX,
	};
	struct trace_column column[6];
	size_t at[6];
	uint8_t *base;

	scratch->size = 0;
	for (int i = 0; i < 6; i++)
		if (lay_column(scratch, (size_t)width[i] * step->rows, &at[i]))
			return -ENOMEM;
	base = scratch->data;
	for (uint32_t i = 0; i < step->rows; i++) {
		const struct engine_row *row = &step->row[i];

		((uint32_t *)(base + at[0]))[i] = row->sequence;
		((uint32_t *)(base + at[1]))[i] = row->request;
		((uint32_t *)(base + at[2]))[i] = row->position;
		base[at[3] + i] = row->phase;
		base[at[4] + i] = (uint8_t)(row->flags | (row->output ? TRACE_ROW_OUTPUT : 0));
		((int32_t *)(base + at[5]))[i] = row->token;
	}
	for (int i = 0; i < 6; i++)
		column[i] = (struct trace_column){ base + at[i], (size_t)width[i] * step->rows };
	return trace_writer__append(w, TRACE_STEP, &r, sizeof(r), column, 6);
}

/* Expert ids as one byte each where they fit. No expert is the largest number in both widths. */
static int lay_ids(const struct engine_route *route, size_t n, struct buffer *scratch,
		   struct trace_column *column, uint32_t *flags)
{
	bool gaps = route->flags & ENGINE_ROUTE_NO_CHOICE;
	uint16_t largest = 0;
	size_t at;

	for (size_t i = 0; i < n; i++)
		if (route->ids[i] > largest && !(gaps && route->ids[i] == ENGINE_NO_EXPERT))
			largest = route->ids[i];
	if (largest > UINT8_MAX - gaps) {
		*flags |= TRACE_ROUTE_IDS_16;
		*column = (struct trace_column){ route->ids, n * sizeof(*route->ids) };
		return 0;
	}
	scratch->size = 0;
	if (lay_column(scratch, n, &at))
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		scratch->data[at + i] = (uint8_t)route->ids[i];
	*column = (struct trace_column){ scratch->data + at, n };
	return 0;
}

int step_record__route(struct trace_writer *w, uint32_t source, const struct engine_step *step,
		       uint32_t index, struct buffer *scratch)
{
	const struct engine_route *route = &step->route[index];
	size_t n = (size_t)route->rows * route->k;
	struct trace_route r = {
		.head = { .time_ns = step->end_ns,
			  .source = source,
			  .flags = route->flags & ROUTE_FLAGS },
		.step = step->step,
		.context = step->context,
		.layer = route->layer,
		.rows = route->rows,
		.k = route->k,
	};
	struct trace_column column[4] = {
		{ route->row, route->row ? route->rows * sizeof(*route->row) : 0 },
		{ NULL, 0 },
		{ route->weights, route->weights ? n * sizeof(*route->weights) : 0 },
		{ route->row_flags, route->row_flags ? route->rows : 0 },
	};
	int err;

	if (!route->row)
		r.head.flags |= TRACE_ROUTE_ALL_ROWS;
	if (route->weights)
		r.head.flags |= TRACE_ROUTE_WEIGHTS;
	if (route->row_flags)
		r.head.flags |= TRACE_ROUTE_ROW_FLAGS;
	err = lay_ids(route, n, scratch, &column[1], &r.head.flags);
	return err ? err : trace_writer__append(w, TRACE_ROUTE, &r, sizeof(r), column, 4);
}
