/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/stream_sink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "collector/coverage.h"
#include "collector/loss.h"
#include "collector/model_record.h"
#include "collector/trace/records.h"
#include "collector/trace/writer.h"
#include "probe/base/buffer.h"
#include "probe/base/hash.h"
#include "probe/engine/sink.h"

/* Engines do not know the stream; their numbers are its numbers. */
#define SAME(name) \
	_Static_assert((unsigned)ENGINE_##name == (unsigned)TRACE_##name, "sink.h, records.h")
SAME(ENDING_UNKNOWN);
SAME(ENDING_RELEASED);
SAME(ENDING_REPLACED);
SAME(ENDING_TARGET_GONE);
SAME(ENDING_CAPTURE_END);
SAME(LOSS_CHUNKS);
SAME(LOSS_NO_STEP);
SAME(INVALID_SHAPE);
SAME(INVALID_EXPERT_RANGE);
SAME(INVALID_EXPERT_REPEATED);
SAME(INVALID_WEIGHT);
SAME(INVALID_ROW);
SAME(INVALID_ROW_COUNT);
SAME(INVALID_IDENTITY);
SAME(INVALID_WARM_UP);
SAME(PREFILL);
SAME(DECODE);
SAME(PHASE_UNKNOWN);
SAME(UNKNOWN);
#undef SAME

#define STRING_MAX 4096u      /* bytes of a string column: names, paths */
#define FIRST_CONTEXT 1u      /* engines count from it */
#define TOKENS_MAX (1u << 20) /* of a prompt */

/* A sequence that was introduced to the reader; forgotten when its request ends. */
struct known_sequence {
	uint32_t sequence;
	uint32_t request;
	UT_hash_handle hh;
};

struct known_context {
	uint32_t context;
	uint64_t key; /* 0 while it is not known */
	UT_hash_handle hh;
};

struct stream_sink {
	struct stream_sink_options o;
	struct known_context *contexts;
	struct known_sequence *sequences;
	struct buffer columns; /* scratch for one record */
	uint64_t steps, routes_seen;
	uint64_t rows, routes, decisions, steps_written;
	uint64_t now_ns; /* of the session */
};

static struct trace_record head(const struct stream_sink *s, uint64_t time_ns, uint32_t flags)
{
	return (struct trace_record){ .time_ns = time_ns, .source = s->o.source, .flags = flags };
}

static struct trace_column text_column(const char *text, uint16_t *length)
{
	size_t n = text ? strnlen(text, STRING_MAX) : 0;

	*length = (uint16_t)n;
	return (struct trace_column){ text, n };
}

#define APPEND(s, type, record, column, columns) \
	trace_writer__append((s)->o.writer, (type), (record), sizeof(*(record)), (column), \
			     (columns))

/* --- models and sequences ------------------------------------------------------------------- */

/* Say @context the first time, and again once its key is known. */
static int introduce_context(struct stream_sink *s, uint32_t context, uint64_t key)
{
	struct known_context *known;

	HASH_FIND(hh, s->contexts, &context, sizeof(context), known);
	if (known && (known->key || !key))
		return 0;
	if (!known) {
		known = calloc(1, sizeof(*known));
		if (!known)
			return -ENOMEM;
		known->context = context;
		HASH_ADD(hh, s->contexts, context, sizeof(known->context), known);
		if (!hash__has(known)) {
			free(known);
			return -ENOMEM;
		}
	}
	known->key = key;
	return model_record__context(s->o.writer, head(s, s->now_ns, 0), context, s->o.process,
				     key);
}

static int on_context(void *ctx, const struct engine_context *c)
{
	struct stream_sink *s = ctx;
	int err;

	err = introduce_context(s, c->context, c->key);
	if (!err)
		err = coverage__model(s->o.coverage, c);
	return err ? err : model_record__model(s->o.writer, head(s, s->now_ns, 0), c->context, c);
}

static int introduce_sequence(struct stream_sink *s, const struct trace_sequence *wanted,
			      uint32_t request)
{
	struct trace_sequence r = *wanted;
	struct known_sequence *known;

	HASH_FIND(hh, s->sequences, &r.sequence, sizeof(r.sequence), known);
	if (known) {
		known->request = request;
		return 0;
	}
	known = calloc(1, sizeof(*known));
	if (!known)
		return -ENOMEM;
	known->sequence = r.sequence;
	known->request = request;
	HASH_ADD(hh, s->sequences, sequence, sizeof(known->sequence), known);
	if (!hash__has(known)) {
		free(known);
		return -ENOMEM;
	}
	return APPEND(s, TRACE_SEQUENCE, &r, NULL, 0);
}

/* Sequences of a request that ended will not come again under this id. */
static void forget_sequences(struct stream_sink *s, uint32_t request)
{
	struct known_sequence *known, *next;

	HASH_ITER(hh, s->sequences, known, next)
	{
		if (known->request != request)
			continue;
		HASH_DEL(s->sequences, known);
		free(known);
	}
}

/* --- requests ------------------------------------------------------------------------------- */

static int write_begin(struct stream_sink *s, const struct engine_request *q)
{
	struct trace_request_begin r = {
		.head = head(s, q->time_ns, q->before_attach ? TRACE_REQUEST_BEFORE_ATTACH : 0),
		.request = q->request,
		.context = q->context,
		.sequence = q->sequence,
		.slot = q->slot,
		.task = q->task,
		.cached = q->cached,
		.prompt = q->prompt,
		.begin_ns = q->before_attach ? UINT64_MAX : q->begin_ns,
	};
	struct trace_column column[2] = {
		text_column(q->client_id, &r.client_id_length),
	};

	if (q->tokens && q->prompt != ENGINE_UNKNOWN && q->prompt <= TOKENS_MAX) {
		r.prompt_known = q->prompt;
		column[1] = (struct trace_column){ q->tokens, q->prompt * sizeof(*q->tokens) };
	}
	return APPEND(s, TRACE_REQUEST_BEGIN, &r, column, 2);
}

static int on_request_begin(void *ctx, const struct engine_request *q)
{
	struct stream_sink *s = ctx;
	struct trace_sequence sequence = {
		.head = head(s, q->time_ns, 0),
		.sequence = q->sequence,
		.context = q->context,
		.slot = q->slot,
		.epoch = q->epoch,
	};
	struct trace_bind bind = {
		.head = head(s, q->time_ns, 0),
		.sequence = q->sequence,
		.request = q->request,
		.position = q->cached == ENGINE_UNKNOWN || q->before_attach ? 0 : q->cached,
		.certainty = q->inferred ? TRACE_INFERRED : TRACE_EXACT,
	};
	int err;

	err = introduce_context(s, q->context, 0);
	if (!err)
		err = coverage__begin(s->o.coverage, q);
	if (!err)
		err = introduce_sequence(s, &sequence, q->request);
	if (!err)
		err = write_begin(s, q);
	return err ? err : APPEND(s, TRACE_BIND, &bind, NULL, 0);
}

struct coverage_out {
	struct stream_sink *sink;
	uint64_t time_ns;
};

static int write_coverage(void *ctx, const struct coverage_line *line)
{
	const struct coverage_out *out = ctx;
	struct trace_coverage r = {
		.head = head(out->sink, out->time_ns, 0),
		.request = line->request,
		.layer = line->layer,
		.expected = line->expected,
		.seen = line->seen,
	};

	memcpy(r.missing, line->missing, sizeof(r.missing));
	return APPEND(out->sink, TRACE_COVERAGE, &r, NULL, 0);
}

static int on_request_end(void *ctx, const struct engine_request_end *q)
{
	struct stream_sink *s = ctx;
	struct coverage_out out = { s, q->time_ns };
	struct trace_request_end r = {
		.head = head(s, q->time_ns, 0),
		.request = q->request,
		.ending = q->ending,
		.rows = coverage__rows(s->o.coverage, q->request),
		.tokens = q->tokens,
	};
	int err;

	if (s->o.refresh && coverage__has_open(s->o.coverage, q->request))
		s->o.refresh(s->o.ctx);
	forget_sequences(s, q->request);
	err = APPEND(s, TRACE_REQUEST_END, &r, NULL, 0);
	return err ? err
		   : coverage__end(s->o.coverage, q->request, q->tokens, write_coverage, &out);
}

/* --- steps ---------------------------------------------------------------------------------- */

/* Bytes that @step and its routes take at most, heads and padding included. */
static size_t step_bytes(const struct engine_step *step)
{
	size_t bytes = sizeof(struct trace_step) + (size_t)step->rows * 18 + 48;

	for (uint32_t i = 0; i < step->routes; i++) {
		const struct engine_route *r = &step->route[i];

		bytes += sizeof(struct trace_route) + 24 + (size_t)r->rows * (4 + (size_t)r->k * 6);
	}
	return bytes;
}

static int introduce_rows(struct stream_sink *s, const struct engine_step *step)
{
	uint32_t last = ENGINE_UNKNOWN;
	int err = introduce_context(s, step->context, 0);

	for (uint32_t i = 0; i < step->rows && !err; i++) {
		const struct engine_row *row = &step->row[i];
		struct trace_sequence sequence = {
			.head = head(s, step->begin_ns, 0),
			.sequence = row->sequence,
			.context = step->context,
			.slot = TRACE_UNKNOWN,
		};

		if (i && row->sequence == last)
			continue;
		last = row->sequence;
		err = introduce_sequence(s, &sequence, row->request);
	}
	return err;
}

/* Room for a column in the scratch: where it begins. An offset, since the buffer moves. */
static int lay_column(struct buffer *b, size_t bytes, size_t *offset)
{
	*offset = b->size;
	return buffer__extend(b, (bytes + 7) & ~(size_t)7) ? 0 : -ENOMEM;
}

static int write_step(struct stream_sink *s, const struct engine_step *step)
{
	static const uint8_t width[6] = { 4, 4, 4, 1, 1, 4 };
	struct trace_step r = {
		.head = head(s, step->begin_ns, TRACE_STEP_TOKENS),
		.step = step->step,
		.begin_ns = step->begin_ns,
		.end_ns = step->end_ns,
		.context = step->context,
		.rows = step->rows,
	};
	struct trace_column column[6];
	size_t at[6];
	uint8_t *base;

	s->columns.size = 0;
	for (int i = 0; i < 6; i++)
		if (lay_column(&s->columns, (size_t)width[i] * step->rows, &at[i]))
			return -ENOMEM;
	base = s->columns.data;
	for (uint32_t i = 0; i < step->rows; i++) {
		const struct engine_row *row = &step->row[i];

		((uint32_t *)(base + at[0]))[i] = row->sequence;
		((uint32_t *)(base + at[1]))[i] = row->request;
		((uint32_t *)(base + at[2]))[i] = row->position;
		base[at[3] + i] = row->phase;
		base[at[4] + i] = row->output ? TRACE_ROW_OUTPUT : 0;
		((int32_t *)(base + at[5]))[i] = row->token;
	}
	for (int i = 0; i < 6; i++)
		column[i] = (struct trace_column){ base + at[i], (size_t)width[i] * step->rows };
	return APPEND(s, TRACE_STEP, &r, column, 6);
}

/* Expert ids as one byte each where they fit. */
static int lay_ids(struct stream_sink *s, const struct engine_route *route, size_t n,
		   struct trace_column *column, uint32_t *flags)
{
	uint16_t largest = 0;
	size_t at;

	for (size_t i = 0; i < n; i++)
		if (route->ids[i] > largest)
			largest = route->ids[i];
	if (largest > UINT8_MAX) {
		*flags |= TRACE_ROUTE_IDS_16;
		*column = (struct trace_column){ route->ids, n * sizeof(*route->ids) };
		return 0;
	}
	s->columns.size = 0;
	if (lay_column(&s->columns, n, &at))
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		s->columns.data[at + i] = (uint8_t)route->ids[i];
	*column = (struct trace_column){ s->columns.data + at, n };
	return 0;
}

static int write_route(struct stream_sink *s, const struct engine_step *step,
		       const struct engine_route *route)
{
	size_t n = (size_t)route->rows * route->k;
	struct trace_route r = {
		.head = head(s, step->end_ns, 0),
		.step = step->step,
		.context = step->context,
		.layer = route->layer,
		.rows = route->rows,
		.k = route->k,
	};
	struct trace_column column[3] = {
		{ route->row, route->row ? route->rows * sizeof(*route->row) : 0 },
		{ NULL, 0 },
		{ route->weights, route->weights ? n * sizeof(*route->weights) : 0 },
	};
	int err;

	if (!route->row)
		r.head.flags |= TRACE_ROUTE_ALL_ROWS;
	if (route->weights)
		r.head.flags |= TRACE_ROUTE_WEIGHTS;
	err = lay_ids(s, route, n, &column[1], &r.head.flags);
	if (!err)
		err = APPEND(s, TRACE_ROUTE, &r, column, 3);
	if (err)
		return err;
	s->routes++;
	s->decisions += route->rows;
	return 0;
}

static int on_step(void *ctx, const struct engine_step *step)
{
	struct stream_sink *s = ctx;
	bool fits = trace_writer__step_fits(s->o.writer, step_bytes(step));
	int err;

	s->steps++;
	s->routes_seen += step->routes;
	err = coverage__step(s->o.coverage, step, fits);
	if (err)
		return err;
	if (!fits) {
		loss__add(s->o.loss, TRACE_LOSS_QUEUE, 1, step->rows);
		return 0;
	}
	err = introduce_rows(s, step);
	if (!err)
		err = write_step(s, step);
	for (uint32_t i = 0; i < step->routes && !err; i++)
		err = write_route(s, step, &step->route[i]);
	if (err)
		return err;
	s->steps_written++;
	s->rows += step->rows;
	return 0;
}

/* --- loss ----------------------------------------------------------------------------------- */

static int on_invalid(void *ctx, uint32_t cause, uint64_t count)
{
	struct stream_sink *s = ctx;

	loss__add_invalid(s->o.loss, cause, count);
	switch (cause) {
	case TRACE_INVALID_SHAPE:
	case TRACE_INVALID_EXPERT_RANGE:
	case TRACE_INVALID_EXPERT_REPEATED:
	case TRACE_INVALID_WEIGHT:
	case TRACE_INVALID_ROW_COUNT:
		coverage__invalid_routes(s->o.coverage, count);
		break;
	case TRACE_INVALID_ROW:
		coverage__invalid_steps(s->o.coverage, count);
		break;
	}
	return 0;
}

static int on_lost(void *ctx, uint32_t cause, uint64_t count, uint64_t rows)
{
	struct stream_sink *s = ctx;

	loss__add(s->o.loss, cause, count, rows);
	if (cause == TRACE_LOSS_CHUNKS)
		coverage__lost_routes(s->o.coverage, rows);
	return 0;
}

/* --- life ----------------------------------------------------------------------------------- */

void stream_sink__set_time(struct stream_sink *s, uint64_t now_ns)
{
	s->now_ns = now_ns;
}

struct engine_sink stream_sink__callbacks(struct stream_sink *s)
{
	return (struct engine_sink){
		.context = on_context,
		.request_begin = on_request_begin,
		.request_end = on_request_end,
		.step = on_step,
		.invalid = on_invalid,
		.lost = on_lost,
		.ctx = s,
	};
}

struct stream_sink *stream_sink__new(const struct stream_sink_options *o)
{
	struct stream_sink *s = calloc(1, sizeof(*s));

	if (s)
		s->o = *o;
	return s;
}

void stream_sink__free(struct stream_sink *s)
{
	struct known_sequence *sequence, *next_sequence;
	struct known_context *context, *next_context;

	if (!s)
		return;
	HASH_ITER(hh, s->sequences, sequence, next_sequence)
	{
		HASH_DEL(s->sequences, sequence);
		free(sequence);
	}
	HASH_ITER(hh, s->contexts, context, next_context)
	{
		HASH_DEL(s->contexts, context);
		free(context);
	}
	buffer__free(&s->columns);
	free(s);
}

int stream_sink__preview(struct stream_sink *s, const struct engine_context *c)
{
	uint32_t context = c->context ? c->context : FIRST_CONTEXT;
	int err = introduce_context(s, context, c->key);

	return err ? err : model_record__model(s->o.writer, head(s, s->now_ns, 0), context, c);
}

uint64_t stream_sink__steps(const struct stream_sink *s)
{
	return s->steps;
}

uint64_t stream_sink__routes(const struct stream_sink *s)
{
	return s->routes_seen;
}

int stream_sink__end(struct stream_sink *s, uint32_t stop, uint64_t now_ns)
{
	struct coverage_out out = { s, now_ns };
	struct trace_end r = { .head = head(s, now_ns, 0), .stop = stop };
	int err;

	err = coverage__end(s->o.coverage, 0, ENGINE_UNKNOWN, write_coverage, &out);
	if (!err)
		err = loss__write(s->o.loss, s->o.writer, s->o.source, now_ns);
	if (err)
		return err;
	r.records = trace_writer__records(s->o.writer);
	r.steps = s->steps_written;
	r.rows = s->rows;
	r.routes = s->routes;
	r.decisions = s->decisions;
	r.lost = s->o.loss->total;
	r.invalid = s->o.loss->total_invalid;
	return APPEND(s, TRACE_END, &r, NULL, 0);
}
