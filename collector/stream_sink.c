/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/stream_sink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "collector/context_list.h"
#include "collector/coverage.h"
#include "collector/known_requests.h"
#include "collector/loss.h"
#include "collector/model_record.h"
#include "collector/request_record.h"
#include "collector/step_record.h"
#include "collector/trace/records.h"
#include "collector/trace/writer.h"
#include "collector/waiting_requests.h"
#include "probe/base/buffer.h"
#include "probe/base/hash.h"
#include "probe/engine/sink.h"

#define FIRST_CONTEXT 1u /* engines count from it */

/* A sequence that was introduced to the reader; forgotten when its request ends. */
struct known_sequence {
	uint32_t sequence;
	uint32_t request;
	UT_hash_handle hh;
};

struct stream_sink {
	struct stream_sink_options o;
	struct context_list *contexts;
	struct known_sequence *sequences;
	struct waiting_request *waiting;
	struct known_requests *requests;
	uint32_t layers;       /* of the model with most: a request ends with so many COVERAGE */
	struct buffer columns; /* scratch for one record */
	uint64_t steps, routes_seen, replica_steps;
	uint64_t rows, routes, decisions, steps_written;
	uint64_t now_ns; /* of the session */
};

static struct trace_record head(const struct stream_sink *s, uint64_t time_ns, uint32_t flags)
{
	return (struct trace_record){ .time_ns = time_ns, .source = s->o.source, .flags = flags };
}

#define APPEND(s, type, record, column, columns) \
	trace_writer__append((s)->o.writer, (type), (record), sizeof(*(record)), (column), \
			     (columns))

/* --- models and sequences ------------------------------------------------------------------- */

/* A replica has no layers of its own: its model is that of the context which it repeats. */
static int on_context(void *ctx, const struct engine_context *c)
{
	struct stream_sink *s = ctx;
	int err;

	if (c->layers > s->layers)
		s->layers = c->layers;
	err = context_list__describe(s->contexts, head(s, s->now_ns, 0), c->context, c);
	if (err || c->replica_of)
		return err;
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

#define COVERAGE_BYTES (sizeof(struct trace_coverage) + TRACE_MISSING_COUNT * sizeof(uint64_t))

/* True if @bytes of the beginnings of @more requests fit, and room is left for their ends, and
 * those of all that are under way: what was said to begin is said to end. */
static bool requests_fit(const struct stream_sink *s, size_t bytes, size_t more)
{
	size_t end = sizeof(struct trace_request_end) + s->layers * COVERAGE_BYTES;

	return trace_writer__fits(s->o.writer, TRACE_SHARE_REQUESTS,
				  bytes + (known_requests__begun(s->requests) + more) * end);
}

/* Say what is kept of @request, if there is room. */
static int say_kept(struct stream_sink *s, uint32_t request, uint64_t time_ns)
{
	const struct engine_request_info *i = known_requests__kept(s->requests, request);
	int err;

	if (!i || !requests_fit(s, request_record__info_bytes(i), 0))
		return 0;
	err = request_record__info(s->o.writer, head(s, time_ns, 0), i);
	known_requests__forget(s->requests, request);
	return err;
}

static int say_begin(struct stream_sink *s, const struct engine_request *q, uint64_t time_ns)
{
	struct trace_sequence sequence = {
		.head = head(s, time_ns, 0),
		.sequence = q->sequence,
		.context = q->context,
		.slot = q->slot,
		.epoch = q->epoch,
	};
	struct engine_bind bind = {
		.sequence = q->sequence,
		.request = q->request,
		.position = q->cached == ENGINE_UNKNOWN || q->before_attach ? 0 : q->cached,
		.inferred = q->inferred,
	};
	int err = known_requests__add(s->requests, q->request, true);

	if (!err)
		err = context_list__introduce(s->contexts, head(s, s->now_ns, 0), q->context);
	if (!err)
		err = introduce_sequence(s, &sequence, q->request);
	if (!err)
		err = request_record__begin(s->o.writer, head(s, time_ns, 0), q);
	if (!err)
		err = request_record__bind(s->o.writer, head(s, time_ns, 0), &bind);
	return err ? err : say_kept(s, q->request, time_ns);
}

/* Say that @q, which waited, begins. */
static int say_late(struct stream_sink *s, const struct engine_request *q, uint64_t time_ns)
{
	int err = say_begin(s, q, time_ns);

	waiting_requests__remove(&s->waiting, q->request);
	return err;
}

static int on_request_begin(void *ctx, const struct engine_request *q)
{
	struct stream_sink *s = ctx;
	int err = coverage__begin(s->o.coverage, q);

	if (err)
		return err;
	if (requests_fit(s, request_record__begin_bytes(q), 1))
		return say_begin(s, q, q->time_ns);
	err = known_requests__add(s->requests, q->request, false);
	return err ? err : waiting_requests__add(&s->waiting, q);
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
		.causes = TRACE_MISSING_COUNT,
		.context = line->context,
	};
	struct trace_column missing = { line->missing, sizeof(line->missing) };

	return APPEND(out->sink, TRACE_COVERAGE, &r, &missing, 1);
}

/* @q ends before there was room to say that it began: no row of it was delivered. */
static int drop_request(struct stream_sink *s, const struct engine_request_end *q)
{
	uint32_t context = waiting_requests__find(s->waiting, q->request)->context;

	waiting_requests__remove(&s->waiting, q->request);
	known_requests__remove(s->requests, q->request);
	loss__add(s->o.loss, context, TRACE_LOSS_REQUESTS, (struct loss_of){ .count = 1 });
	return coverage__drop(s->o.coverage, q->request, q->tokens);
}

static int on_request_end(void *ctx, const struct engine_request_end *q)
{
	struct stream_sink *s = ctx;
	const struct engine_request *waits = waiting_requests__find(s->waiting, q->request);
	struct coverage_out out = { s, q->time_ns };
	uint32_t rows = coverage__rows(s->o.coverage, q->request);
	int err = 0;

	if (waits && !requests_fit(s, request_record__begin_bytes(waits), 1))
		return drop_request(s, q);
	if (waits)
		err = say_late(s, waits, q->time_ns);
	if (s->o.refresh && coverage__has_open(s->o.coverage, q->request))
		s->o.refresh(s->o.ctx);
	if (!err)
		err = say_kept(s, q->request, q->time_ns);
	if (known_requests__kept(s->requests, q->request))
		loss__add(s->o.loss, TRACE_UNKNOWN, TRACE_LOSS_INFO,
			  (struct loss_of){ .count = 1 });
	forget_sequences(s, q->request);
	known_requests__end(s->requests, q->request);
	if (!err)
		err = request_record__end(s->o.writer, head(s, q->time_ns, 0), q, rows);
	return err ? err
		   : coverage__end(s->o.coverage, q->request, q->tokens, write_coverage, &out);
}

static int on_request_info(void *ctx, const struct engine_request_info *i)
{
	struct stream_sink *s = ctx;
	bool said = known_requests__is_said(s->requests, i->request);
	int err;

	if (said && !known_requests__kept(s->requests, i->request) &&
	    requests_fit(s, request_record__info_bytes(i), 0))
		return request_record__info(s->o.writer, head(s, i->time_ns, 0), i);
	if (!known_requests__is_open(s->requests, i->request)) {
		loss__add(s->o.loss, TRACE_UNKNOWN, TRACE_LOSS_INFO,
			  (struct loss_of){ .count = 1 });
		return 0;
	}
	err = known_requests__keep(s->requests, i);
	return err || !said ? err : say_kept(s, i->request, i->time_ns);
}

static int on_bind(void *ctx, const struct engine_bind *b)
{
	struct stream_sink *s = ctx;
	struct trace_sequence sequence = {
		.head = head(s, b->time_ns, 0),
		.sequence = b->sequence,
		.context = b->context,
		.slot = TRACE_UNKNOWN,
		.epoch = TRACE_UNKNOWN,
	};
	bool said =
		b->request == ENGINE_UNKNOWN || known_requests__is_said(s->requests, b->request);
	int err;

	if (!said || !requests_fit(s, sizeof(sequence) + sizeof(struct trace_bind), 0)) {
		loss__add(s->o.loss, b->context, TRACE_LOSS_INFO, (struct loss_of){ .count = 1 });
		return 0;
	}
	err = context_list__introduce(s->contexts, head(s, s->now_ns, 0), b->context);
	if (!err)
		err = introduce_sequence(s, &sequence, b->request);
	return err ? err : request_record__bind(s->o.writer, head(s, b->time_ns, 0), b);
}

/* --- steps ---------------------------------------------------------------------------------- */

static int introduce_rows(struct stream_sink *s, const struct engine_step *step)
{
	uint32_t last = ENGINE_UNKNOWN;
	int err = context_list__introduce(s->contexts, head(s, s->now_ns, 0), step->context);

	for (uint32_t i = 0; i < step->rows && !err; i++) {
		const struct engine_row *row = &step->row[i];
		struct trace_sequence sequence = {
			.head = head(s, step->begin_ns, 0),
			.sequence = row->sequence,
			.context = step->context,
			.slot = TRACE_UNKNOWN,
			.epoch = TRACE_UNKNOWN,
		};

		if (row->sequence == last || row->sequence == ENGINE_UNKNOWN)
			continue;
		last = row->sequence;
		err = introduce_sequence(s, &sequence, row->request);
	}
	return err;
}

/* The request of row @i of @step, if it waits and is not that of the row before. */
static const struct engine_request *waits_at(const struct stream_sink *s,
					     const struct engine_step *step, uint32_t i)
{
	if (i && step->row[i].request == step->row[i - 1].request)
		return NULL;
	return waiting_requests__find(s->waiting, step->row[i].request);
}

/* A step and the beginnings of its rows' requests, which wait: both or none. */
static bool step_fits(const struct stream_sink *s, const struct engine_step *step)
{
	size_t bytes = step_record__bytes(step), requests = 0;

	for (uint32_t i = 0; s->waiting && i < step->rows; i++) {
		const struct engine_request *q = waits_at(s, step, i);

		requests += q != NULL;
		bytes += q ? request_record__begin_bytes(q) : 0;
	}
	return trace_writer__fits(s->o.writer, TRACE_SHARE_STEPS, bytes) &&
	       (!requests || requests_fit(s, bytes, requests));
}

static int write_step(struct stream_sink *s, const struct engine_step *step)
{
	int err = 0;

	for (uint32_t i = 0; s->waiting && i < step->rows && !err; i++) {
		const struct engine_request *q = waits_at(s, step, i);

		err = q ? say_late(s, q, step->begin_ns) : 0;
	}
	if (!err && known_requests__next_kept(s->requests))
		err = say_kept(s, known_requests__next_kept(s->requests), step->begin_ns);
	if (!err)
		err = introduce_rows(s, step);
	if (!err)
		err = step_record__step(s->o.writer, s->o.source, step, &s->columns);
	for (uint32_t i = 0; i < step->routes && !err; i++) {
		err = step_record__route(s->o.writer, s->o.source, step, i, &s->columns);
		s->routes += !err;
		s->decisions += err ? 0 : step->route[i].rows;
	}
	return err;
}

static void lose_step(struct stream_sink *s, const struct engine_step *step)
{
	struct loss_of of = { .count = 1, .rows = step->rows };

	for (uint32_t i = 0; i < step->routes; i++)
		of.decisions += step->route[i].rows;
	loss__add(s->o.loss, step->context, TRACE_LOSS_QUEUE, of);
}

static int on_step(void *ctx, const struct engine_step *step)
{
	struct stream_sink *s = ctx;
	bool fits = step_fits(s, step);
	int err;

	if (context_list__is_replica(s->contexts, step->context)) {
		s->replica_steps++;
		return 0;
	}
	s->steps++;
	s->routes_seen += step->routes;
	err = coverage__step(s->o.coverage, step, fits);
	if (err)
		return err;
	if (!fits) {
		lose_step(s, step);
		return 0;
	}
	err = write_step(s, step);
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

static int on_lost(void *ctx, uint32_t cause, uint64_t count, uint64_t decisions)
{
	struct stream_sink *s = ctx;

	loss__add(s->o.loss, TRACE_UNKNOWN, cause,
		  (struct loss_of){ count, LOSS_UNKNOWN, decisions });
	if (cause == TRACE_LOSS_CHUNKS)
		coverage__lost_routes(s->o.coverage, decisions);
	/* And with them the rows that they were of. */
	if (cause == TRACE_LOSS_LAYOUT)
		coverage__lost_steps(s->o.coverage, count);
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
		.request_info = on_request_info,
		.bind = on_bind,
		.ctx = s,
	};
}

struct stream_sink *stream_sink__new(const struct stream_sink_options *o)
{
	struct stream_sink *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->o = *o;
	s->contexts = context_list__new(o->writer);
	s->requests = known_requests__new();
	if (s->contexts && s->requests)
		return s;
	context_list__free(s->contexts);
	known_requests__free(s->requests);
	free(s);
	return NULL;
}

void stream_sink__free(struct stream_sink *s)
{
	struct known_sequence *sequence, *next_sequence;

	if (!s)
		return;
	HASH_ITER(hh, s->sequences, sequence, next_sequence)
	{
		HASH_DEL(s->sequences, sequence);
		free(sequence);
	}
	context_list__free(s->contexts);
	waiting_requests__free(&s->waiting);
	known_requests__free(s->requests);
	buffer__free(&s->columns);
	free(s);
}

int stream_sink__preview(struct stream_sink *s, const struct engine_context *c)
{
	uint32_t context = c->context ? c->context : FIRST_CONTEXT;
	int err = context_list__describe(s->contexts, head(s, s->now_ns, 0), context, c);

	s->layers = c->layers;
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

uint64_t stream_sink__replica_steps(const struct stream_sink *s)
{
	return s->replica_steps;
}

int stream_sink__process(struct stream_sink *s, pid_t pid, uint32_t process)
{
	return context_list__process(s->contexts, pid, process);
}

int stream_sink__end(struct stream_sink *s, uint32_t stop, uint64_t now_ns)
{
	struct coverage_out out = { s, now_ns };
	struct trace_end r = { .head = head(s, now_ns, 0), .stop = stop };
	struct trace_window window = {
		.head = head(s, now_ns, 0),
		.begin_ns = s->o.begin_ns,
		.end_ns = now_ns,
		.inclusion = 1,
		.reason = TRACE_REASON_CAPTURE,
		.context = TRACE_UNKNOWN,
	};
	int err;

	err = coverage__end(s->o.coverage, 0, ENGINE_UNKNOWN, write_coverage, &out);
	if (!err)
		err = APPEND(s, TRACE_WINDOW, &window, NULL, 0);
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
