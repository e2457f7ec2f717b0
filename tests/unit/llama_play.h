/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Raw events made by hand, and a sink that remembers, for the tests of engine/llama. The model is
 * small: LAYERS layers, EXPERTS experts, K of them chosen.
 */
#ifndef MP_TESTS_LLAMA_PLAY_H
#define MP_TESTS_LLAMA_PLAY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "probe/abi/event.h"
#include "probe/abi/site.h"
#include "probe/base/buffer.h"
#include "probe/base/error.h"
#include "probe/engine/engine.h"
#include "probe/engine/llama/llama.h"
#include "probe/engine/llama/model.h"
#include "probe/engine/sink.h"

#define LAYERS 3u
#define EXPERTS 8u
#define K 2u
#define VOCABULARY 1000u
#define KEPT 256
#define TASKS_SITE 3
#define THREAD 70u
#define GRAPH 0x7000u

struct kept_step {
	struct engine_step step;
	struct engine_row row[64];
	struct engine_route route[LAYERS + 1];
	uint32_t route_row[LAYERS + 1][64];
	uint16_t ids[LAYERS + 1][64 * K];
	float weights[LAYERS + 1][64 * K];
};

struct kept_request {
	struct engine_request request;
	char client_id[64];
};

/* One engine with everything that it said. */
struct play {
	struct engine *engine;
	struct engine_sink sink;
	struct mp_site table[MP_SITES];
	uint64_t now;
	uint32_t computation;
	uint32_t rows_flags; /* of the rows that come next */
	uint32_t contexts;
	struct engine_context context;
	size_t begins, ends, steps;
	struct kept_request begin[KEPT];
	struct engine_request_end end[KEPT];
	struct kept_step step[KEPT];
	uint64_t invalid[16], lost[16], lost_rows[16];
};

static inline int play__context(void *ctx, const struct engine_context *c)
{
	struct play *p = ctx;

	p->contexts++;
	p->context = *c;
	return 0;
}

static inline int play__begin(void *ctx, const struct engine_request *r)
{
	struct play *p = ctx;

	assert_true(p->begins < KEPT);
	assert_int_equal(r->request, p->begins + 1);
	p->begin[p->begins].request = *r;
	snprintf(p->begin[p->begins++].client_id, 64, "%s", r->client_id);
	return 0;
}

static inline int play__end(void *ctx, const struct engine_request_end *r)
{
	struct play *p = ctx;

	assert_true(p->ends < KEPT && r->request <= p->begins);
	p->end[p->ends++] = *r;
	return 0;
}

static inline int play__step(void *ctx, const struct engine_step *s)
{
	struct play *p = ctx;
	struct kept_step *k = &p->step[p->steps++];

	assert_true(p->steps <= KEPT && s->rows <= 64 && s->routes <= LAYERS + 1);
	k->step = *s;
	memcpy(k->row, s->row, s->rows * sizeof(*s->row));
	for (uint32_t i = 0; i < s->routes; i++) {
		const struct engine_route *r = &s->route[i];

		assert_true(r->rows <= s->rows && r->k == K);
		k->route[i] = *r;
		memcpy(k->ids[i], r->ids, r->rows * K * sizeof(*r->ids));
		memcpy(k->weights[i], r->weights, r->rows * K * sizeof(*r->weights));
		if (r->row)
			memcpy(k->route_row[i], r->row, r->rows * sizeof(*r->row));
	}
	return 0;
}

static inline int play__invalid(void *ctx, uint32_t cause, uint64_t count)
{
	((struct play *)ctx)->invalid[cause] += count;
	return 0;
}

static inline int play__lost(void *ctx, uint32_t cause, uint64_t count, uint64_t rows)
{
	((struct play *)ctx)->lost[cause] += count;
	((struct play *)ctx)->lost_rows[cause] += rows;
	return 0;
}

/* An engine as it is after open(): with the model file, or without one. */
static inline struct play *play__new(bool with_file)
{
	struct play *p = calloc(1, sizeof(*p));
	struct buffer saved = { 0 };
	uint32_t head[3] = { 4711, TASKS_SITE + 1, with_file };
	struct llama_model m = { 0 };

	m.gguf.experts = EXPERTS;
	m.gguf.experts_used = K;
	m.gguf.blocks = LAYERS;
	m.gguf.vocabulary = VOCABULARY;
	m.gguf.moe_layers = LAYERS;
	for (uint16_t i = 0; i < LAYERS; i++)
		m.gguf.layer_ids[i] = i;
	strcpy(m.gguf.name, "tiny");
	assert_int_equal(buffer__append(&saved, head, sizeof(head)), 0);
	if (with_file)
		assert_int_equal(buffer__append(&saved, &m, sizeof(m)), 0);
	assert_int_equal(engine_llama.replay(&p->engine, saved.data, saved.size, NULL), 0);
	buffer__free(&saved);
	p->sink = (struct engine_sink){ play__context, play__begin,   play__end,
					play__step,    play__invalid, play__lost,
					NULL,          NULL,          p };
	p->table[TASKS_SITE].program = MP_PROGRAM_TASKS;
	engine_llama.table(p->engine, 4711, p->table);
	p->now = 1000000;
	return p;
}

static inline void play__free(struct play *p)
{
	engine_llama.free(p->engine);
	free(p);
}

/* Give one event; its size and time are filled in. */
static inline int play__event(struct play *p, void *event, size_t size)
{
	struct mp_event *ev = event;
	void *copy = malloc(size); /* exactly as long as it says, for the sanitizers */
	int err;

	ev->size = (uint32_t)size;
	ev->tgid = 4711;
	if (!ev->time_ns)
		ev->time_ns = p->now += 1000;
	memcpy(copy, ev, size);
	err = engine_llama.event(p->engine, copy, size, &p->sink);
	free(copy);
	return err;
}

/* --- rows ------------------------------------------------------------------------------------- */

struct row {
	int32_t token, position, slot;
	uint8_t output, sequences;
};

#define ROW(token, position, slot, output) ((struct row){ token, position, slot, output, 1 })

/* Chunk @chunk of @chunks with rows @first .. @first + @count of @total. */
static inline int play__rows_chunk(struct play *p, uint32_t tid, const struct row *row,
				   uint32_t total, uint32_t first, uint32_t count, uint16_t chunk,
				   uint16_t chunks, uint64_t time_ns)
{
	static _Alignas(8) uint8_t bytes[1 << 16];
	const size_t ints = (count * 4 + 7) & ~7u, flags = (count + 7) & ~7u;
	struct mp_event_rows *e = (struct mp_event_rows *)bytes;
	uint8_t *at = bytes + sizeof(*e);

	memset(bytes, 0, sizeof(bytes));
	e->event = (struct mp_event){ .kind = MP_EVENT_ROWS,
				      .site = 1,
				      .tid = tid,
				      .object = GRAPH + tid,
				      .chunk = chunk,
				      .chunks = chunks,
				      .total = total,
				      .first = first,
				      .count = count,
				      .time_ns = time_ns };
	e->computation = p->computation;
	e->flags = p->rows_flags;
	for (uint32_t i = 0; i < count; i++) {
		memcpy(at + 4 * i, &row[first + i].token, 4);
		memcpy(at + ints + 4 * i, &row[first + i].position, 4);
		memcpy(at + 2 * ints + 4 * i, &row[first + i].slot, 4);
		at[3 * ints + i] = row[first + i].output;
		at[3 * ints + flags + i] = row[first + i].sequences;
	}
	return play__event(p, bytes, sizeof(*e) + 3 * ints + 2 * flags);
}

/* The next computation of @tid. */
static inline int play__rows_on(struct play *p, uint32_t tid, const struct row *row, uint32_t n)
{
	p->computation++;
	return play__rows_chunk(p, tid, row, n, 0, n, 0, 1, 0);
}

static inline void play__rows(struct play *p, const struct row *row, uint32_t n)
{
	assert_int_equal(play__rows_on(p, THREAD, row, n), 0);
}

/* --- routes ----------------------------------------------------------------------------------- */

struct router {
	uint32_t tid, computation, layer, k, stride;
	const int32_t *ids;   /* [count][k]; NULL: 0 .. k - 1 in each row */
	const float *weights; /* NULL: 0.5, 0.25, ... */
	const char *name;     /* NULL: made from layer */
	uint32_t total, first, count;
	uint16_t chunk, chunks;
	uint64_t time_ns;
};

static inline int play__router(struct play *p, struct router r)
{
	static _Alignas(8) uint8_t bytes[1 << 16];
	struct mp_event_route *e = (struct mp_event_route *)bytes;
	uint8_t *ids = bytes + sizeof(*e), *weights = ids + 4 * r.count * r.k;

	memset(bytes, 0, sizeof(bytes));
	e->event = (struct mp_event){ .kind = MP_EVENT_ROUTE,
				      .tid = r.tid,
				      .chunk = r.chunk,
				      .chunks = r.chunks ? r.chunks : 1,
				      .total = r.total,
				      .first = r.first,
				      .count = r.count,
				      .time_ns = r.time_ns };
	e->k = r.k;
	e->experts = r.stride;
	e->computation = r.computation;
	if (r.name)
		snprintf(e->name, sizeof(e->name), "%s", r.name);
	else
		snprintf(e->name, sizeof(e->name), "ffn_moe_topk-%u", r.layer);
	for (uint32_t i = 0; i < r.count * r.k; i++) {
		int32_t id = r.ids ? r.ids[i] : (int32_t)(i % r.k);
		float weight = r.weights ? r.weights[i] : 0.5f / (float)(1 + i % r.k);

		memcpy(ids + 4 * i, &id, 4);
		memcpy(weights + 4 * i, &weight, 4);
	}
	return play__event(p, bytes, sizeof(*e) + 8ul * r.count * r.k);
}

/* A good route of the current computation. */
static inline struct router route_of(const struct play *p, uint32_t layer, uint32_t rows)
{
	return (struct router){ .tid = THREAD,
				.computation = p->computation,
				.layer = layer,
				.k = K,
				.stride = EXPERTS,
				.total = rows,
				.count = rows };
}

/* All layers of a step with @rows rows, @outputs of them in the last. */
static inline void play__routes(struct play *p, uint32_t rows, uint32_t outputs)
{
	for (uint32_t layer = 0; layer < LAYERS; layer++) {
		uint32_t n = layer == LAYERS - 1 ? outputs : rows;

		if (n)
			assert_int_equal(play__router(p, route_of(p, layer, n)), 0);
	}
}

/* --- lines and tasks -------------------------------------------------------------------------- */

#define HEAD "slot %12.*s: id %2d | task %d | "

static inline int play__line_on(struct play *p, uint32_t tid, const char *function, int32_t slot,
				int32_t task, const char *format, int64_t argument)
{
	struct mp_event_line e = { .event = { .kind = MP_EVENT_TEXT_LINE,
					      .tid = tid,
					      .chunks = 1,
					      .total = 1,
					      .count = 1,
					      .site = 2 },
				   .slot = slot,
				   .task = task,
				   .args = { argument } };

	snprintf(e.format, sizeof(e.format), "%s", format);
	snprintf(e.function, sizeof(e.function), "%s", function);
	return play__event(p, &e, sizeof(e));
}

static inline void play__launch(struct play *p, int32_t slot, int32_t task)
{
	assert_int_equal(play__line_on(p, THREAD, "launch_slot_with_task", slot, task,
				       HEAD "processing task, is_child = %d\n", 0),
			 0);
}

static inline void play__release(struct play *p, int32_t slot, int32_t task, int32_t tokens)
{
	/* The upper half of an int's stack slot is whatever was there. */
	assert_int_equal(play__line_on(p, THREAD, "release", slot, task,
				       HEAD "stop processing: n_tokens = %d, truncated = %d\n",
				       0x5500000000 | tokens),
			 0);
}

struct queued {
	uint32_t tid;
	uint64_t queue;
	int32_t task;
	const char *client_id;
	uint32_t tasks, span, text_offset, texts;
	uint64_t time_ns; /* of both events, as the kernel does */
};

static inline struct queued queued_task(struct play *p, int32_t task, const char *client_id)
{
	return (struct queued){ .tid = 90,
				.queue = 0x9000,
				.task = task,
				.client_id = client_id,
				.span = 2352,
				.text_offset = 1968,
				.texts = 1,
				.time_ns = p->now += 1000 };
}

static inline void play__queue(struct play *p, struct queued q)
{
	struct mp_event_task e = {
		.event = { .kind = MP_EVENT_TASK,
			   .tid = q.tid,
			   .site = TASKS_SITE,
			   .chunks = 1,
			   .total = 1,
			   .count = 1,
			   .object = q.queue,
			   .time_ns = q.time_ns },
		.tasks = q.tasks,
		.span = q.span,
		.task = q.task,
		.text_offset = q.text_offset,
		.texts = q.texts,
	};

	snprintf(e.client_id, sizeof(e.client_id), "%s", q.client_id);
	assert_int_equal(play__event(p, &e, sizeof(e)), 0);
}

static inline void play__tokens(struct play *p, struct queued q, uint32_t offset,
				const int32_t *tokens, uint32_t n)
{
	static _Alignas(8) uint8_t bytes[1 << 16];
	struct mp_event_tokens *e = (struct mp_event_tokens *)bytes;

	memset(bytes, 0, sizeof(bytes));
	e->event = (struct mp_event){ .kind = MP_EVENT_TASK_TOKENS,
				      .tid = q.tid,
				      .site = TASKS_SITE,
				      .chunks = 1,
				      .total = n,
				      .count = n,
				      .object = q.queue,
				      .time_ns = q.time_ns };
	e->task = q.task;
	e->offset = offset;
	memcpy(bytes + sizeof(*e), tokens, n * 4);
	assert_int_equal(play__event(p, bytes, sizeof(*e) + n * 4), 0);
}

/* Rows @from .. @to of a prompt in @slot, token = 100 + position; output in the last if @ends. */
static inline void play__prompt_rows(struct play *p, int32_t slot, int32_t from, int32_t to,
				     bool ends)
{
	struct row row[64];
	uint32_t n = (uint32_t)(to - from);

	assert_true(n <= 64);
	for (uint32_t i = 0; i < n; i++)
		row[i] = ROW(100 + from + (int32_t)i, from + (int32_t)i, slot, ends && i == n - 1);
	play__rows(p, row, n);
	play__routes(p, n, ends);
}

/* One generated token. */
static inline void play__generated(struct play *p, int32_t slot, int32_t position)
{
	play__rows(p, &ROW(7, position, slot, 1), 1);
	play__routes(p, 1, 1);
}

#endif
