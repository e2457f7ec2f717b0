/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Any raw events into transformers' engine: it must not read outside them, and what it says must be
 * possible. The input is {u8 model, {u8 how, u8 size, bytes}...}: the low bits of `how` choose an
 * event, the bytes change single ones of a good event of that kind ({where, value} pairs), so that
 * the fuzzer need not guess sizes to get deep; with RAW in `how` they are the event.
 */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "probe/abi/event.h"
#include "probe/base/buffer.h"
#include "probe/base/header_name.h"
#include "probe/engine/aten/layout.h"
#include "probe/engine/engine.h"
#include "probe/engine/sink.h"
#include "probe/engine/transformers/transformers.h"
#include "probe/target/model_folder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define EXPERTS 8u
#define K 2u
#define LAYERS 3u
#define ROWS_MAX 15u
#define REQUESTS_MAX (1u << 18)
#define CONTEXTS_MAX 4096u

/* Bits of the first byte. */
enum { HAS_FOLDER = 1, GATHERS = 2, TWO_FOLDERS = 4, LINEAR = 8, PRESUMED = 16 };
/* Bits of `how`. */
enum { KIND = 7, OTHER_THREAD = 8, MANY_ROWS = 16, IN_CHUNKS = 32, PACKED = 64, RAW = 128 };
/* Kinds. */
enum { BEGIN, SCORES, IDS, WEIGHTS, POSITIONS, SLOTS, OTHER, TIME };

#define require(condition) \
	do { \
		if (!(condition)) \
			abort(); \
	} while (0)

enum { UNSAID, BEGUN, ENDED };

struct said {
	uint32_t contexts, requests;
	uint8_t request[REQUESTS_MAX];
	uint32_t experts[CONTEXTS_MAX], k[CONTEXTS_MAX];
	uint64_t steps[CONTEXTS_MAX];
};

/* --- what is said ----------------------------------------------------------------------------- */

static int on_context(void *ctx, const struct engine_context *c)
{
	struct said *s = ctx;

	require(c->context >= 1 && c->context <= s->contexts + 1 && c->context < CONTEXTS_MAX);
	require(c->k && c->k <= c->experts && c->k <= 64 && c->experts <= 65535);
	for (uint32_t i = 1; i < c->layers; i++)
		require(c->layer_ids[i - 1] < c->layer_ids[i]);
	if (c->context <= s->contexts)
		require(s->k[c->context] == c->k && s->experts[c->context] == c->experts);
	else
		s->contexts = c->context;
	s->k[c->context] = c->k;
	s->experts[c->context] = c->experts;
	return 0;
}

static int on_begin(void *ctx, const struct engine_request *r)
{
	struct said *s = ctx;

	require(r->request == s->requests + 1 && r->request < REQUESTS_MAX);
	require(r->sequence == r->request && r->context && r->context <= s->contexts);
	s->requests++;
	s->request[r->request] = BEGUN;
	require(r->cached == ENGINE_UNKNOWN || r->cached <= INT32_MAX);
	require(!r->before_attach || r->prompt == ENGINE_UNKNOWN);
	require(!r->tokens || r->prompt != ENGINE_UNKNOWN);
	for (uint32_t i = 0; r->tokens && i < r->prompt; i++)
		require(r->tokens[i] >= 0);
	return 0;
}

static int on_end(void *ctx, const struct engine_request_end *r)
{
	struct said *s = ctx;

	require(r->request && r->request <= s->requests && s->request[r->request] == BEGUN);
	s->request[r->request] = ENDED;
	return 0;
}

static int on_info(void *ctx, const struct engine_request_info *i)
{
	struct said *s = ctx;

	require(i->request && i->request <= s->requests && s->request[i->request] != UNSAID);
	return 0;
}

static int on_bind(void *ctx, const struct engine_bind *b)
{
	struct said *s = ctx;

	require(b->request == ENGINE_UNKNOWN || (b->request && b->request <= s->requests));
	return 0;
}

static void check_route(const struct said *s, const struct engine_step *step,
			const struct engine_route *r)
{
	require(r->rows == step->rows && !r->row && r->k == s->k[step->context]);
	for (uint32_t i = 0; i < r->rows; i++) {
		const uint16_t *ids = r->ids + i * r->k;
		const float *weights = r->weights + i * r->k;

		require(!r->row_flags || r->row_flags[i] <= ENGINE_ROUTE_ROW_TIE);
		for (uint32_t j = 0; j < r->k; j++) {
			require(isfinite(weights[j]) && ids[j] < s->experts[step->context]);
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

	require(step->context && step->context <= s->contexts && step->rows && step->routes);
	require(step->step == ++s->steps[step->context]);
	for (uint32_t i = 0; i < step->rows; i++) {
		const struct engine_row *row = &step->row[i];

		require(row->output <= 1 && row->token >= -1);
		require(row->position <= INT32_MAX || row->position == ENGINE_UNKNOWN);
		if (row->request == ENGINE_UNKNOWN)
			continue;
		require(row->request <= s->requests && s->request[row->request] == BEGUN);
		require(row->sequence == row->request && row->position <= INT32_MAX);
		require(row->phase == ENGINE_PREFILL || row->phase == ENGINE_DECODE ||
			row->phase == ENGINE_PHASE_UNKNOWN);
	}
	for (uint32_t i = 0; i < step->routes; i++) {
		check_route(s, step, &step->route[i]);
		require(!i || step->route[i - 1].layer < step->route[i].layer);
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
	require(cause == ENGINE_LOSS_CHUNKS || cause == ENGINE_LOSS_NO_STEP ||
		cause == ENGINE_LOSS_LAYOUT);
	require(count);
	return 0;
}

/* --- the engine ------------------------------------------------------------------------------- */

static void fill_folder(struct model_folder *f, const char *family, uint32_t layers, bool linear)
{
	struct model_config *c = &f->config;

	strcpy(c->model_type, family);
	c->shared_experts = c->groups = c->groups_used = c->weights_normalised = MODEL_UNKNOWN;
	c->bos = c->pad = f->tensor_experts = MODEL_UNKNOWN;
	c->rope_factor = c->routed_scaling = NAN;
	c->vocabulary = 1000;
	c->experts = EXPERTS;
	c->k = K;
	c->blocks = c->moe_layers = layers;
	c->eos_count = 1;
	c->eos[0] = 3;
	for (uint16_t i = 0; i < layers; i++)
		c->layer_ids[i] = i;
	if (linear) {
		strcpy(c->rope_type, "linear");
		c->rope_factor = 2;
	}
}

static struct engine *open_engine(uint8_t model)
{
	static struct model_folders m;
	struct header_names headers = { 0 };
	struct buffer saved = { 0 };
	uint32_t pid = 1, head = ATEN_HEAD_NEW;
	struct engine *g;

	memset(&m, 0, sizeof(m));
	m.count = model & HAS_FOLDER ? 1 + !!(model & TWO_FOLDERS) : 0;
	fill_folder(&m.item[0], model & GATHERS ? "deepseek_v3" : "olmoe", LAYERS, model & LINEAR);
	fill_folder(&m.item[1], "qwen3_moe", LAYERS + 1, false);
	m.item[1].config.vocabulary = 2000;
	require(!buffer__append(&saved, &pid, sizeof(pid)));
	require(!model_folders__save(&m, &saved));
	if (model & PRESUMED)
		require(!buffer__append(&saved, &head, sizeof(head)));
	require(!engine_transformers.replay(&g, saved.data, saved.size, NULL));
	require(!header_names__add(&headers, "x-request-id"));
	engine_transformers.headers(g, &headers);
	buffer__free(&saved);
	return g;
}

/* --- events ----------------------------------------------------------------------------------- */

/* One input's play: what the process is in the middle of. */
struct play {
	struct engine *engine;
	uint64_t pieces; /* requests and responses in turn */
	struct engine_sink sink;
	uint64_t now;
	uint32_t computation, ordinal, rows, position;
};

enum { LONG = 4, FLOAT = 6 }; /* c10::ScalarType */

static const struct {
	uint8_t role, dtype, width;
} kinds[] = {
	[BEGIN] = { MP_ROLE_TOKENS, LONG, 1 },
	[SCORES] = { MP_ROLE_SCORES, FLOAT, EXPERTS },
	[IDS] = { MP_ROLE_IDS, LONG, K },
	[WEIGHTS] = { MP_ROLE_WEIGHTS, FLOAT, K },
	[POSITIONS] = { MP_ROLE_POSITIONS, FLOAT, 1 },
	[SLOTS] = { MP_ROLE_SLOTS, LONG, 1 },
};

static uint32_t element_bytes(unsigned kind)
{
	return kinds[kind].dtype == LONG ? 8 : 4;
}

static void fill_elements(uint8_t *at, const struct play *p, unsigned kind, uint32_t rows)
{
	uint32_t count = rows * kinds[kind].width;

	for (uint32_t i = 0; i < count; i++, at += element_bytes(kind)) {
		int64_t integer = kind == BEGIN ? 10 + i
				  : kind == IDS ? (i + i / K) % EXPERTS
						: p->position + i;
		float real = kind == POSITIONS ? (float)(p->position + i)
					       : (float)((i * 7 + p->ordinal) % 11) / 11;

		if (kinds[kind].dtype == LONG)
			memcpy(at, &integer, sizeof(integer));
		else
			memcpy(at, &real, sizeof(real));
	}
}

static size_t good_tensor(uint8_t *bytes, struct play *p, unsigned kind, uint8_t how)
{
	struct mp_event_tensor *t = (struct mp_event_tensor *)bytes;
	bool begins = kind == BEGIN;

	if (begins) {
		p->position = how & MANY_ROWS ? 0 : p->position + p->rows;
		p->rows = how & MANY_ROWS ? ROWS_MAX : 1;
		p->computation++;
		p->ordinal = 0;
	}
	if (kind == SCORES && p->ordinal < 64)
		t->ordinal = p->ordinal++;
	if (kind == IDS || kind == WEIGHTS)
		t->ordinal = p->ordinal;
	if (kind != WEIGHTS)
		p->now += 1000;
	t->event = (struct mp_event){ .kind = MP_EVENT_TENSOR,
				      .tgid = 1,
				      .tid = how & OTHER_THREAD ? 2 : 1,
				      .time_ns = p->now,
				      .object = 7,
				      .chunks = 1,
				      .total = p->rows,
				      .count = p->rows };
	t->role = kinds[kind].role;
	t->dtype = kinds[kind].dtype;
	t->dims = 2;
	t->size[0] = begins ? 1 : p->rows;
	t->size[1] = begins ? p->rows : kinds[kind].width;
	t->row_bytes = element_bytes(kind) * kinds[kind].width;
	t->computation = p->computation;
	t->scalar[0] = K;
	t->key = begins || kind == WEIGHTS ? 0x1000 : 0;
	t->key_first = begins ? 1000 : kind == WEIGHTS ? EXPERTS : 0;
	t->key_dtype = begins ? 15 : 0;
	t->storage = how & PACKED ? 4096 : 0;
	fill_elements(bytes + sizeof(*t), p, kind, p->rows);
	return sizeof(*t) + (size_t)p->rows * t->row_bytes;
}

static size_t good_bytes(uint8_t *bytes, struct play *p)
{
	static const char text[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
				   "Transfer-Encoding: chunked\r\n\r\n27\r\ndata: {\"id\":"
				   "\"chatcmpl-1\",\"object\":\"x\"}\n\n\r\n";
	static const char head[] =
		"POST / HTTP/1.1\r\nX-Request-Id: 7\r\nContent-Length: 0\r\n\r\n";
	struct mp_event_bytes *b = (struct mp_event_bytes *)bytes;
	bool received = ++p->pieces % 2;
	uint32_t n = received ? sizeof(head) - 1 : sizeof(text) - 1;

	b->event = (struct mp_event){ .kind = MP_EVENT_BYTES,
				      .tgid = 1,
				      .tid = 3,
				      .time_ns = p->now += 1000,
				      .object = received ? p->pieces / 2 * n : 9,
				      .chunks = 1,
				      .total = n,
				      .count = n };
	b->length = n;
	b->channel = 5;
	b->flags = received ? MP_BYTES_RECEIVED | MP_BYTES_BEGINS | MP_BYTES_ENDS : 0;
	memcpy(bytes + sizeof(*b), received ? head : text, n);
	return sizeof(*b) + n;
}

/* As many bytes as it says, exactly, for the sanitizers. */
static void give(struct play *p, const uint8_t *bytes, size_t length)
{
	uint8_t *exact = malloc(length ? length : 1);

	require(exact);
	memcpy(exact, bytes, length);
	engine_transformers.event(p->engine, (const void *)exact, length, &p->sink);
	free(exact);
}

/* The first rows, and then the rest. */
static void give_halves(struct play *p, const uint8_t *bytes, size_t length)
{
	_Alignas(8) uint8_t half[1024];
	struct mp_event whole, *ev = (struct mp_event *)half;
	size_t head = sizeof(struct mp_event_tensor), row, first;

	memcpy(&whole, bytes, sizeof(whole));
	row = whole.count ? (length - head) / whole.count : 0;
	first = (whole.count + 1) / 2;
	memcpy(half, bytes, head + first * row);
	ev->chunks = 2;
	ev->count = (uint32_t)first;
	ev->size = (uint32_t)(head + first * row);
	give(p, half, ev->size);
	ev->chunk = 1;
	ev->first = (uint32_t)first;
	ev->count = whole.count - (uint32_t)first;
	ev->size = (uint32_t)(length - first * row);
	memcpy(half + head, bytes + head + first * row, length - head - first * row);
	give(p, half, ev->size);
}

static void pass_time(struct play *p, uint8_t how)
{
	p->now += how & MANY_ROWS ? 61000000000ull : 1000000;
	engine_transformers.tick(p->engine, p->now, &p->sink);
	if (how & IN_CHUNKS)
		engine_transformers.leave(p->engine, 1, p->now, ENGINE_ENDING_TARGET_GONE,
					  &p->sink);
}

static void one(struct play *p, const uint8_t *from, size_t n, uint8_t how)
{
	_Alignas(8) uint8_t bytes[1024] = { 0 };
	unsigned kind = how & KIND;
	size_t length = n;

	if (how & RAW) {
		give(p, from, n);
		return;
	}
	if (kind == TIME) {
		pass_time(p, how);
		return;
	}
	length = kind == OTHER ? good_bytes(bytes, p) : good_tensor(bytes, p, kind, how);
	((struct mp_event *)bytes)->size = (uint32_t)length;
	for (size_t i = 0; i + 1 < n; i += 2)
		bytes[from[i]] = from[i + 1];
	if (how & IN_CHUNKS && kind != OTHER && ((struct mp_event *)bytes)->count == p->rows)
		give_halves(p, bytes, length);
	else
		give(p, bytes, length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct said said;
	struct play p = { .sink = { on_context, on_begin, on_end, on_step, on_invalid, on_lost,
				    on_info, on_bind, &said },
			  .rows = 1 };

	if (!size)
		return 0;
	memset(said.request, 0, said.requests + 1);
	memset(said.steps, 0, sizeof(said.steps));
	said.contexts = said.requests = 0;
	p.engine = open_engine(data[0]);
	for (size_t at = 1; at + 2 <= size;) {
		uint8_t how = data[at], n = data[at + 1];

		at += 2;
		if (n > size - at)
			n = (uint8_t)(size - at);
		one(&p, data + at, n, how);
		at += n;
	}
	engine_transformers.finish(p.engine, p.now, ENGINE_ENDING_CAPTURE_END, &p.sink);
	for (uint32_t i = 1; i <= said.requests; i++)
		require(said.request[i] == ENDED);
	engine_transformers.free(p.engine);
	return 0;
}
