/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of columns. A record type is its struct in records.h, a row here, and its section in
 * docs/trace-format.md. */
#include "collector/trace/layout.h"

#include <string.h>

/* clang-format off */
#define FIELD(type, field) \
	{ offsetof(struct trace_##type, field), sizeof(((struct trace_##type *)0)->field) }
#define ARRAY(type, name, width, count, ...) { name, width, FIELD(type, count), __VA_ARGS__ }
#define STRING(type, field) { #field, 1, FIELD(type, field##_length) }
#define RECORD(type, first_size, flags, ...) \
	{ #type, first_size, sizeof(struct trace_##type), flags, { __VA_ARGS__ } }
#define PLAIN(type, first_size) { #type, first_size, sizeof(struct trace_##type) }
/* clang-format on */

static const struct trace_layout layouts[] = {
	[TRACE_SOURCE] = RECORD(source, 32, 0, STRING(source, tool), STRING(source, host)),
	[TRACE_PROCESS] = RECORD(process, 96, 0, STRING(process, engine), STRING(process, version),
				 STRING(process, command), STRING(process, role)),
	[TRACE_CONTEXT] = PLAIN(context, 56),
	[TRACE_MODEL] = RECORD(model, 152, TRACE_MODEL_FROM_FILE | TRACE_MODEL_ORDINALS,
			       ARRAY(model, "layer_ids", 2, layers), STRING(model, architecture),
			       STRING(model, name), STRING(model, path),
			       STRING(model, quantisation), STRING(model, kv_type)),
	[TRACE_SEQUENCE] = PLAIN(sequence, 40),
	[TRACE_BIND] = PLAIN(bind, 48),
	[TRACE_REQUEST_BEGIN] = RECORD(request_begin, 88, TRACE_REQUEST_BEFORE_ATTACH,
				       STRING(request_begin, client_id),
				       ARRAY(request_begin, "tokens", 4, prompt_known)),
	[TRACE_REQUEST_END] = PLAIN(request_end, 56),
	[TRACE_STEP] = RECORD(step, 72, TRACE_STEP_TOKENS, ARRAY(step, "sequence", 4, rows),
			      ARRAY(step, "request", 4, rows), ARRAY(step, "position", 4, rows),
			      ARRAY(step, "phase", 1, rows), ARRAY(step, "row_flags", 1, rows),
			      ARRAY(step, "token", 4, rows, .if_set = TRACE_STEP_TOKENS)),
	[TRACE_ROUTE] = RECORD(
		route, 48,
		TRACE_ROUTE_ALL_ROWS | TRACE_ROUTE_WEIGHTS | TRACE_ROUTE_IDS_16 |
			TRACE_ROUTE_INFERRED | TRACE_ROUTE_RAW | TRACE_ROUTE_PHYSICAL |
			TRACE_ROUTE_LOCAL | TRACE_ROUTE_ROW_FLAGS | TRACE_ROUTE_NO_CHOICE,
		ARRAY(route, "row", 4, rows, .if_clear = TRACE_ROUTE_ALL_ROWS),
		ARRAY(route, "expert", 1, rows, FIELD(route, k), .if_wide = TRACE_ROUTE_IDS_16),
		ARRAY(route, "weight", 4, rows, FIELD(route, k), .if_set = TRACE_ROUTE_WEIGHTS),
		ARRAY(route, "row_flags", 1, rows, .if_set = TRACE_ROUTE_ROW_FLAGS)),
	[TRACE_CLOCK] = PLAIN(clock, 48),
	[TRACE_LOSS] = PLAIN(loss, 64),
	[TRACE_INVALID] = PLAIN(invalid, 40),
	[TRACE_COST] = PLAIN(cost, 72),
	[TRACE_COVERAGE] = RECORD(coverage, 56, 0, ARRAY(coverage, "missing", 8, causes)),
	[TRACE_END] = PLAIN(end, 88),
	[TRACE_COUNTS] =
		RECORD(counts, 64, TRACE_COUNTS_GATE | TRACE_COUNTS_PHYSICAL | TRACE_COUNTS_LOCAL,
		       ARRAY(counts, "count", 4, experts),
		       ARRAY(counts, "gate", 4, experts, .if_set = TRACE_COUNTS_GATE)),
	[TRACE_FINDING] = RECORD(finding, 40, 0, STRING(finding, area), STRING(finding, name),
				 STRING(finding, value), STRING(finding, remedy)),
	[TRACE_REQUEST_INFO] =
		RECORD(request_info, 48, 0, STRING(request_info, client_id),
		       STRING(request_info, request_id), STRING(request_info, trace_id),
		       STRING(request_info, adapter), STRING(request_info, labels)),
	[TRACE_WINDOW] = PLAIN(window, 56),
};

/* Fixed parts are copied out of blocks and columns follow them, so both are multiples of 8. */
#define X(id, name, suffix) _Static_assert(sizeof(struct trace_##suffix) % 8 == 0, "file format");
TRACE_RECORDS(X)
#undef X

const struct trace_layout *trace_layout__find(unsigned type)
{
	if (type >= sizeof(layouts) / sizeof(layouts[0]) || !layouts[type].size)
		return NULL;
	return &layouts[type];
}

static uint64_t field_value(const uint8_t *fixed, struct trace_field f)
{
	uint32_t wide = 1;
	uint16_t narrow;

	if (f.bytes == sizeof(narrow)) {
		memcpy(&narrow, fixed + f.offset, sizeof(narrow));
		return narrow;
	}
	if (f.bytes == sizeof(wide))
		memcpy(&wide, fixed + f.offset, sizeof(wide));
	return wide;
}

static uint64_t column_bytes(const struct trace_column_layout *c, const uint8_t *fixed,
			     uint32_t flags)
{
	uint64_t count = field_value(fixed, c->count), times = field_value(fixed, c->times), bytes;

	if ((c->if_set && !(flags & c->if_set)) || (c->if_clear && flags & c->if_clear))
		return 0;
	/* Rows without a choice would be rows that no byte of the record bounds. */
	if (count && !times)
		return UINT64_MAX;
	if (__builtin_mul_overflow(count, times, &bytes) || bytes > TRACE_BLOCK_MAX)
		return UINT64_MAX;
	return bytes * c->width * (c->if_wide && flags & c->if_wide ? 2 : 1);
}

uint64_t trace_layout__measure(const struct trace_layout *l, const void *fixed,
			       uint64_t size[TRACE_COLUMNS_MAX], size_t *columns)
{
	const struct trace_record *head = fixed;
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < TRACE_COLUMNS_MAX && l->column[i].name; i++) {
		size[i] = column_bytes(&l->column[i], fixed, head->flags);
		if (size[i] > TRACE_BLOCK_MAX)
			return *columns = 0, UINT64_MAX;
		sum += trace_pad(size[i]);
	}
	*columns = i;
	return sum;
}
