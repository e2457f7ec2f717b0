/* SPDX-License-Identifier: BSD-2-Clause */
/* Tensor events made by hand, and a sink that remembers, for the tests of engine/aten and
 * engine/transformers. Include cmocka.h first. */
#ifndef MP_TESTS_ATEN_PLAY_H
#define MP_TESTS_ATEN_PLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "probe/abi/event.h"
#include "probe/abi/site.h"
#include "probe/engine/aten/context.h"
#include "probe/engine/aten/tensor.h"
#include "probe/engine/capture.h"
#include "probe/engine/sink.h"
#include "probe/target/model_folder.h"

#define PLAY_PID 4711u
#define PLAY_THREAD 70u
#define PLAY_KEY 0x7f0000001000u

/* Tables of cases name what differs; the rest is 0. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

/* --- tensors ---------------------------------------------------------------------------------- */

/* What a test says of a tensor; what is 0 is filled in: one chunk, PLAY_PID, PLAY_THREAD, two
 * dimensions of rows x width. */
struct made {
	uint8_t role, dtype, dims, flags;
	uint32_t tgid, tid, computation, ordinal, rows, width, chunk_rows;
	uint32_t size[3];
	uint64_t time_ns, key, storage;
	uint32_t key_first, key_dtype;
	int64_t scalar;
	const void *data; /* [rows][width]; NULL: zeros */
};

static inline uint32_t made__element_bytes(uint8_t dtype)
{
	static const uint8_t bytes[] = { 1, 1, 2, 4, 8, 2, 4, 8, [11] = 1, [15] = 2 };

	return dtype < sizeof(bytes) ? bytes[dtype] : 1;
}

static inline uint32_t made__chunks(const struct made *m)
{
	uint32_t step = m->chunk_rows ? m->chunk_rows : m->rows;

	return step ? (m->rows + step - 1) / step : 1;
}

/* Chunk @at as an event exactly as long as it says, for the sanitizers. The caller frees. */
static inline struct mp_event *made__event(const struct made *m, uint32_t at)
{
	uint32_t step = m->chunk_rows ? m->chunk_rows : m->rows, first = at * step;
	uint32_t count = m->rows - first < step ? m->rows - first : step;
	uint32_t row_bytes = m->width * made__element_bytes(m->dtype);
	size_t bytes = sizeof(struct mp_event_tensor) + (size_t)count * row_bytes;
	struct mp_event_tensor *e = calloc(1, bytes);

	e->event = (struct mp_event){ .kind = MP_EVENT_TENSOR,
				      .tgid = m->tgid ? m->tgid : PLAY_PID,
				      .tid = m->tid ? m->tid : PLAY_THREAD,
				      .size = (uint32_t)bytes,
				      .time_ns = m->time_ns,
				      .object = 0x7f0000002000,
				      .chunk = (uint16_t)at,
				      .chunks = (uint16_t)made__chunks(m),
				      .total = m->rows,
				      .first = first,
				      .count = count };
	e->role = m->role;
	e->dtype = m->dtype;
	e->flags = m->flags;
	e->computation = m->computation;
	e->row_bytes = row_bytes;
	e->key = m->key;
	e->key_first = m->key_first;
	e->key_dtype = m->key_dtype;
	e->storage = m->storage;
	e->ordinal = m->ordinal;
	e->scalar[0] = m->scalar;
	e->dims = m->dims ? m->dims : 2;
	memcpy(e->size, m->size, sizeof(e->size));
	if (!m->size[0]) {
		e->size[0] = m->rows;
		e->size[1] = m->width;
	}
	if (m->data)
		memcpy(e + 1, (const uint8_t *)m->data + (size_t)first * row_bytes,
		       (size_t)count * row_bytes);
	return &e->event;
}

/* All chunks of one tensor. */
struct made_capture {
	struct capture capture;
	struct mp_event *chunk[64];
};

static inline struct capture *made__capture(struct made_capture *c, const struct made *m)
{
	uint32_t chunks = made__chunks(m);

	assert_true(chunks <= 64);
	for (uint32_t i = 0; i < chunks; i++)
		c->chunk[i] = made__event(m, i);
	c->capture.chunks = chunks;
	c->capture.chunk = (const struct mp_event *const *)c->chunk;
	return &c->capture;
}

static inline void made_capture__free(struct made_capture *c)
{
	for (size_t i = 0; i < c->capture.chunks; i++)
		free(c->chunk[i]);
}

/* --- a sink that remembers -------------------------------------------------------------------- */

#define HEARD_MAX 8192
#define HEARD_ROUTES 16

struct heard_step {
	struct engine_step step; /* @row and the routes' arrays are copies */
	struct engine_route route[HEARD_ROUTES];
};

struct heard {
	uint32_t contexts;
	struct engine_context context; /* the last one */
	size_t begins, ends, steps;
	struct engine_request begin[HEARD_MAX]; /* tokens and client_id are not kept */
	uint32_t tokens[HEARD_MAX];             /* how many of them there were */
	struct engine_request_end end[HEARD_MAX];
	struct heard_step step[64];
	size_t binds;
	struct engine_bind bind; /* the last one */
	uint64_t invalid[16], lost[16], lost_rows[16];
};

static inline void *heard__copy(const void *from, size_t bytes)
{
	void *copy = from ? malloc(bytes ? bytes : 1) : NULL;

	if (copy)
		memcpy(copy, from, bytes);
	return copy;
}

static inline int heard__context(void *ctx, const struct engine_context *c)
{
	struct heard *h = ctx;

	assert_true(c->context >= 1);
	h->contexts++;
	h->context = *c;
	return 0;
}

static inline int heard__begin(void *ctx, const struct engine_request *r)
{
	struct heard *h = ctx;

	assert_true(h->begins < HEARD_MAX);
	assert_int_equal(r->request, h->begins + 1);
	h->tokens[h->begins] = r->tokens ? r->prompt : 0;
	h->begin[h->begins] = *r;
	h->begin[h->begins++].tokens = NULL;
	return 0;
}

static inline int heard__end(void *ctx, const struct engine_request_end *r)
{
	struct heard *h = ctx;

	assert_true(h->ends < HEARD_MAX && r->request <= h->begins);
	h->end[h->ends++] = *r;
	return 0;
}

static inline int heard__step(void *ctx, const struct engine_step *s)
{
	struct heard *h = ctx;
	struct heard_step *k = &h->step[h->steps++];

	assert_true(h->steps <= 64 && s->routes <= HEARD_ROUTES && s->context >= 1);
	k->step = *s;
	k->step.row = heard__copy(s->row, s->rows * sizeof(*s->row));
	for (uint32_t i = 0; i < s->routes; i++) {
		const struct engine_route *r = &s->route[i];
		size_t choices = (size_t)r->rows * r->k;

		assert_true(r->rows <= s->rows);
		k->route[i] = *r;
		k->route[i].ids = heard__copy(r->ids, choices * sizeof(*r->ids));
		k->route[i].weights = heard__copy(r->weights, choices * sizeof(*r->weights));
		k->route[i].row_flags = heard__copy(r->row_flags, r->rows);
	}
	return 0;
}

static inline int heard__invalid(void *ctx, uint32_t cause, uint64_t count)
{
	((struct heard *)ctx)->invalid[cause] += count;
	return 0;
}

static inline int heard__lost(void *ctx, uint32_t cause, uint64_t count, uint64_t rows)
{
	((struct heard *)ctx)->lost[cause] += count;
	((struct heard *)ctx)->lost_rows[cause] += rows;
	return 0;
}

static inline int heard__bind(void *ctx, const struct engine_bind *b)
{
	struct heard *h = ctx;

	assert_true(b->request <= h->begins);
	h->binds++;
	h->bind = *b;
	return 0;
}

static inline struct engine_sink heard__sink(struct heard *h)
{
	return (struct engine_sink){ heard__context, heard__begin,   heard__end,
				     heard__step,    heard__invalid, heard__lost,
				     NULL,           heard__bind,    h };
}

static inline void heard__forget_steps(struct heard *h)
{
	for (size_t i = 0; i < h->steps; i++) {
		free((void *)h->step[i].step.row);
		for (uint32_t j = 0; j < h->step[i].step.routes; j++) {
			free((void *)h->step[i].route[j].ids);
			free((void *)h->step[i].route[j].weights);
			free((void *)h->step[i].route[j].row_flags);
		}
	}
	h->steps = 0;
}

static inline void heard__free(struct heard *h)
{
	if (h)
		heard__forget_steps(h);
	free(h);
}

static inline uint64_t heard__complaints(const struct heard *h)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < 16; i++)
		sum += h->invalid[i] + h->lost[i];
	return sum;
}

/* --- models ----------------------------------------------------------------------------------- */

/* A folder of @family with @layers MoE layers, numbered from @first_layer on. */
static inline struct model_folder folder_of(const char *family, uint32_t experts, uint32_t k,
					    uint32_t layers, uint16_t first_layer)
{
	struct model_folder f = { .tensor_experts = MODEL_UNKNOWN };
	struct model_config *c = &f.config;

	strncpy(c->model_type, family, sizeof(c->model_type) - 1);
	strncpy(f.name, family, sizeof(f.name) - 1);
	c->shared_experts = c->groups = c->groups_used = c->weights_normalised = MODEL_UNKNOWN;
	c->bos = c->pad = MODEL_UNKNOWN;
	c->rope_factor = c->routed_scaling = (double)__builtin_nanf("");
	c->vocabulary = 1000;
	c->experts = experts;
	c->k = k;
	c->moe_layers = layers;
	c->blocks = layers + first_layer;
	for (uint32_t i = 0; i < layers; i++)
		c->layer_ids[i] = (uint16_t)(first_layer + i);
	return f;
}

#endif
