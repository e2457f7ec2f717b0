/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Any raw events into llama's engine: it must not read outside them, and what it says must be
 * possible. The input is a list of {u8 how, u8 bytes, bytes}: the low bits of `how` choose an
 * event's kind, the bytes overlay a good event of that kind, so that the fuzzer need not guess
 * sizes to get deep; `how` & 0x80 hands the bytes over as they are.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "probe/abi/event.h"
#include "probe/base/buffer.h"
#include "probe/engine/engine.h"
#include "probe/engine/llama/llama.h"
#include "probe/engine/llama/model.h"
#include "probe/engine/sink.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define EXPERTS 8u
#define K 2u
#define LAYERS 3u
#define REQUESTS_MAX (1u << 16)

#define require(condition) \
	do { \
		if (!(condition)) \
			abort(); \
	} while (0)

enum { UNSAID, BEGUN, ENDED };

struct said {
	bool has_file;
	uint32_t contexts, requests;
	uint8_t request[REQUESTS_MAX];
	uint32_t sequence[REQUESTS_MAX];
	uint64_t steps[64];
};

static int on_context(void *ctx, const struct engine_context *c)
{
	struct said *s = ctx;

	require(c->context >= 1 && c->context <= s->contexts + 1);
	if (c->context > s->contexts)
		s->contexts = c->context;
	require(c->layers && c->k && c->k <= c->experts);
	for (uint32_t i = 1; i < c->layers; i++)
		require(c->layer_ids[i - 1] < c->layer_ids[i]);
	return 0;
}

static int on_begin(void *ctx, const struct engine_request *r)
{
	struct said *s = ctx;

	require(r->request == s->requests + 1 && r->request < REQUESTS_MAX);
	s->requests++;
	s->request[r->request] = BEGUN;
	s->sequence[r->request] = r->sequence;
	require(r->context == ENGINE_UNKNOWN || r->context <= (s->contexts ? s->contexts : 1));
	require(r->slot < 4096 && (r->task == ENGINE_UNKNOWN || r->task <= INT32_MAX));
	require(strlen(r->client_id) < MP_CLIENT_ID_SIZE);
	require(!r->client_id[0] || !strncmp(r->client_id, "chatcmpl-", 9));
	require(!(r->before_attach && r->inferred));
	require((r->prompt == ENGINE_UNKNOWN) == !r->tokens);
	require(r->cached == ENGINE_UNKNOWN || r->cached <= INT32_MAX);
	for (uint32_t i = 0; r->tokens && i < r->prompt; i++)
		((void)*(volatile const int32_t *)&r->tokens[i]);
	return 0;
}

static int on_end(void *ctx, const struct engine_request_end *r)
{
	struct said *s = ctx;

	require(r->request && r->request <= s->requests && s->request[r->request] == BEGUN);
	s->request[r->request] = ENDED;
	require(r->tokens == ENGINE_UNKNOWN || r->tokens <= INT32_MAX);
	return 0;
}

static void check_route(const struct said *s, const struct engine_step *step,
			const struct engine_route *r)
{
	require(r->rows && r->rows <= step->rows && r->k && r->k <= 64);
	require(!r->row == (r->rows == step->rows));
	require(!s->has_file || r->k == K || s->contexts > 1);
	for (uint32_t i = 0; i < r->rows; i++) {
		const uint16_t *ids = r->ids + i * r->k;
		const float *weights = r->weights + i * r->k;

		require(!r->row || (r->row[i] < step->rows && step->row[r->row[i]].output &&
				    (!i || r->row[i - 1] < r->row[i])));
		for (uint32_t j = 0; j < r->k; j++) {
			require(isfinite(weights[j]));
			require(!j || weights[j - 1] > weights[j] ||
				(weights[j - 1] == weights[j] && ids[j - 1] < ids[j]));
			for (uint32_t l = 0; l < j; l++)
				require(ids[l] != ids[j]);
		}
	}
}

static int on_step(void *ctx, const struct engine_step *step)
{
	struct said *s = ctx;

	require(step->context && step->context <= s->contexts && step->rows);
	if (step->context < 64)
		require(step->step == ++s->steps[step->context]);
	for (uint32_t i = 0; i < step->rows; i++) {
		const struct engine_row *row = &step->row[i];

		require(row->output <= 1 && row->position <= INT32_MAX && row->token >= -1);
		if (row->request == ENGINE_UNKNOWN)
			continue;
		require(row->request <= s->requests && s->request[row->request] != UNSAID);
		require(row->sequence == s->sequence[row->request]);
		require(row->phase == ENGINE_PREFILL || row->phase == ENGINE_DECODE);
	}
	for (uint32_t i = 0; i < step->routes; i++) {
		check_route(s, step, &step->route[i]);
		for (uint32_t j = 0; j < i; j++)
			require(step->route[j].layer != step->route[i].layer);
	}
	return 0;
}

static int on_invalid(void *ctx, uint32_t cause, uint64_t count)
{
	require(cause >= ENGINE_INVALID_SHAPE && cause <= ENGINE_INVALID_WARM_UP && count);
	return 0;
}

static int on_lost(void *ctx, uint32_t cause, uint64_t count, uint64_t rows)
{
	require((cause == ENGINE_LOSS_CHUNKS || cause == ENGINE_LOSS_NO_STEP) && count);
	return 0;
}

static struct engine *open_engine(bool with_file)
{
	uint32_t head[3] = { 1, 0, with_file };
	struct buffer saved = { 0 };
	struct llama_model m = { 0 };
	struct engine *g;

	m.gguf.experts = EXPERTS;
	m.gguf.experts_used = K;
	m.gguf.vocabulary = 1000;
	m.gguf.blocks = m.gguf.moe_layers = LAYERS;
	for (uint16_t i = 0; i < LAYERS; i++)
		m.gguf.layer_ids[i] = i;
	require(!buffer__append(&saved, head, sizeof(head)));
	if (with_file)
		require(!buffer__append(&saved, &m, sizeof(m)));
	require(!engine_llama.replay(&g, saved.data, saved.size, NULL));
	buffer__free(&saved);
	return g;
}

/* A good event of @kind for 2 rows (tokens) on thread 1; @turn counts its computations. */
static size_t good_event(uint8_t *bytes, uint32_t kind, uint32_t *turn)
{
	struct mp_event *ev = (struct mp_event *)bytes;

	*ev = (struct mp_event){ .kind = (uint16_t)kind,
				 .tid = 1,
				 .object = 7,
				 .chunks = 1,
				 .total = 2,
				 .count = 2,
				 .time_ns = 1000ull * ++*turn };
	if (kind == MP_EVENT_ROWS) {
		static const int32_t column[] = { 5, 6, 3, 4, 0, 0 };

		((struct mp_event_rows *)ev)->computation = ++turn[1];
		memcpy(bytes + 56, column, sizeof(column));
		memcpy(bytes + 80, "\0\1\0\0\0\0\0\0\1\1", 10);
		return 96;
	}
	if (kind == MP_EVENT_ROUTE) {
		static const int32_t ids[] = { 1, 2, 3, 4 };
		static const float weights[] = { 1, 2, 3, 4 };
		struct mp_event_route *r = (struct mp_event_route *)ev;

		r->k = K;
		r->experts = EXPERTS;
		r->computation = turn[1];
		memcpy(r->name, "ffn_moe_topk-0", 14);
		memcpy(bytes + sizeof(*r), ids, sizeof(ids));
		memcpy(bytes + sizeof(*r) + 16, weights, sizeof(weights));
		return sizeof(*r) + 32;
	}
	ev->total = ev->count = 1;
	if (kind == MP_EVENT_TEXT_LINE) {
		struct mp_event_line *l = (struct mp_event_line *)ev;

		strcpy(l->format, "slot %12.*s: id %2d | task %d | processing task, is_child = %d");
		strcpy(l->function, "launch_slot_with_task");
		return sizeof(*l);
	}
	ev->object = 9;
	ev->time_ns = 5;
	if (kind == MP_EVENT_TASK) {
		struct mp_event_task *t = (struct mp_event_task *)ev;

		t->span = 64;
		t->text_offset = 8;
		t->texts = 1;
		strcpy(t->client_id, "chatcmpl-fuzz");
		return sizeof(*t);
	}
	((struct mp_event_tokens *)ev)->offset = 16;
	return sizeof(struct mp_event_tokens) + 4;
}

static void one(struct engine *g, const struct engine_sink *sink, const uint8_t *from, size_t n,
		uint8_t how, uint32_t *turn)
{
	_Alignas(8) uint8_t bytes[512] = { 0 };
	size_t length = n;
	uint8_t *exact;

	if (how & 0x80) {
		memcpy(bytes, from, n);
	} else {
		length = good_event(bytes, 1 + how % 5, turn);
		if (how & 8) /* releases too */
			memcpy(bytes + 176, "release", 8);
		/* {where, value} pairs */
		for (size_t i = 0; i + 1 < n; i += 2)
			bytes[(how & 16 ? 256 : 0) + from[i]] = from[i + 1];
		((struct mp_event *)bytes)->size = (uint32_t)length;
		if (how & 64)
			length -= length / 4;
	}
	exact = malloc(length ? length : 1);
	require(exact);
	memcpy(exact, bytes, length);
	engine_llama.event(g, (const void *)exact, length, sink);
	free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct said said;
	struct engine_sink sink = { on_context, on_begin, on_end, on_step, on_invalid,
				    on_lost,    NULL,     NULL,   &said };
	uint32_t turn[2] = { 0 };
	struct engine *g;

	if (!size)
		return 0;
	memset(&said, 0, sizeof(said));
	said.has_file = data[0] & 1;
	g = open_engine(said.has_file);
	for (size_t at = 1; at + 2 <= size;) {
		uint8_t how = data[at], n = data[at + 1];

		at += 2;
		if (n > size - at)
			n = (uint8_t)(size - at);
		one(g, &sink, data + at, n, how, turn);
		if (how & 32)
			engine_llama.tick(g, 1000ull * *turn + 100000000000ull, &sink);
		at += n;
	}
	engine_llama.finish(g, 1, ENGINE_ENDING_CAPTURE_END, &sink);
	for (uint32_t i = 1; i <= said.requests; i++)
		require(said.request[i] == ENDED);
	engine_llama.free(g);
	return 0;
}
