/* SPDX-License-Identifier: BSD-2-Clause */
/* Messages and steps of a vLLM service of our own making, and what is said of them. Include
 * cmocka.h first. */
#ifndef MP_TESTS_VLLM_PLAY_H
#define MP_TESTS_VLLM_PLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "probe/engine/sink.h"
#include "probe/engine/vllm/batches.h"
#include "probe/engine/vllm/held.h"
#include "probe/engine/vllm/requests.h"

#define BLOCK 4 /* slots of a block of the cache */
#define ROWS_MAX 32
#define STEPS_MAX 128

/* --- what is said --------------------------------------------------------------------------------
 */

struct heard {
	struct engine_request begin[16];
	char client_id[16][128];
	struct engine_request_end end[16];
	struct engine_bind bind[16];
	size_t begins, ends, binds, infos, invalid, steps;
	struct said {
		struct engine_row row[ROWS_MAX];
		uint32_t rows;
		size_t begins; /* said before it */
	} step[STEPS_MAX];
	struct engine_row *row; /* of the last one, and */
	uint32_t context;
	uint64_t batch;
};

static inline int on_begin(void *ctx, const struct engine_request *r)
{
	struct heard *h = ctx;

	strcpy(h->client_id[h->begins], r->client_id);
	h->begin[h->begins++] = *r;
	return 0;
}

static inline int on_end(void *ctx, const struct engine_request_end *r)
{
	struct heard *h = ctx;

	h->end[h->ends++] = *r;
	return 0;
}

static inline int on_bind(void *ctx, const struct engine_bind *b)
{
	struct heard *h = ctx;

	h->bind[h->binds++] = *b;
	return 0;
}

static inline int on_info(void *ctx, const struct engine_request_info *i)
{
	((struct heard *)ctx)->infos += !i->inferred;
	return 0;
}

static inline int on_step(void *ctx, const struct engine_step *s)
{
	struct heard *h = ctx;
	struct said *to = &h->step[h->steps++];

	assert_in_range(h->steps, 1, STEPS_MAX);
	memcpy(to->row, s->row, s->rows * sizeof(*h->row));
	to->rows = s->rows;
	to->begins = h->begins;
	h->row = to->row;
	h->context = s->context;
	h->batch = s->batch;
	return 0;
}

static inline int on_invalid(void *ctx, uint32_t cause, uint64_t count)
{
	((struct heard *)ctx)->invalid++;
	return 0;
}

/* --- a service of our own
 * ------------------------------------------------------------------------- */

struct play {
	struct vllm_requests *requests;
	struct vllm_held *held;
	struct vllm_batches *batches;
	struct aten_context context, later; /* the other stage of a pipeline */
	struct heard heard;
	struct engine_sink heard_by, sink;
	int64_t column[4][ROWS_MAX + 1]; /* token, position, slot, start */
	uint32_t rows, runs, computation;
	bool no_slots; /* in the next step they are not captured */
	uint64_t now_ns;
};

static inline void play__begin(struct play *p)
{
	memset(p, 0, sizeof(*p));
	assert_int_equal(vllm_requests__new(&p->requests), 0);
	assert_int_equal(vllm_held__new(&p->held), 0);
	assert_int_equal(vllm_batches__new(&p->batches, p->requests, p->held), 0);
	p->context.id = 1;
	p->later.id = 2;
	p->heard_by = (struct engine_sink){ .request_begin = on_begin,
					    .request_end = on_end,
					    .bind = on_bind,
					    .request_info = on_info,
					    .step = on_step,
					    .invalid = on_invalid,
					    .ctx = &p->heard };
	p->sink = vllm_held__sink(p->held, &p->heard_by);
}

static inline void play__end(struct play *p)
{
	vllm_batches__free(p->batches);
	vllm_held__free(p->held);
	vllm_requests__free(p->requests);
}

static inline struct vllm_text text(const char *s)
{
	return (struct vllm_text){ s, (uint32_t)strlen(s) };
}

/* Tokens below 128: one byte each in MessagePack. */
static inline struct vllm_tokens tokens(const char *t)
{
	return (struct vllm_tokens){ (uint32_t)strlen(t), false, msgpack__over(t, strlen(t), 0) };
}

static inline void ask(struct play *p, const char *id, const char *external, const char *prompt)
{
	struct vllm_request r = { .id = text(id),
				  .external = text(external),
				  .prompt = tokens(prompt),
				  .is_whole = true };

	assert_int_equal(vllm_requests__asked(p->requests, ++p->now_ns, &r, &p->sink), 0);
}

/* With its first output it is told how much of a prompt was in the cache. */
static inline void give_first(struct play *p, const char *id, const char *generated,
			      uint32_t cached)
{
	struct vllm_output o = { .id = text(id),
				 .tokens = tokens(generated),
				 .finish = VLLM_RUNNING,
				 .is_whole = true,
				 .has_prefill = true,
				 .cached_tokens = cached };

	assert_int_equal(vllm_requests__output(p->requests, ++p->now_ns, &o, &p->sink), 0);
}

static inline void give(struct play *p, const char *id, const char *generated,
			enum vllm_finish finish)
{
	struct vllm_output o = {
		.id = text(id), .tokens = tokens(generated), .finish = finish, .is_whole = true
	};

	assert_int_equal(vllm_requests__output(p->requests, ++p->now_ns, &o, &p->sink), 0);
}

/* Rows of one request in the next step: @t at @position on, in cache slots from @slot on. */
static inline void run(struct play *p, const char *t, uint32_t position, int64_t slot)
{
	for (uint32_t i = 0; t[i]; i++, p->rows++) {
		p->column[0][p->rows] = t[i];
		p->column[1][p->rows] = position + i;
		p->column[2][p->rows] = slot + i;
	}
	p->column[3][++p->runs] = p->rows;
}

static inline void step_of(struct play *p, struct aten_context *c, struct aten_context *home)
{
	struct aten_step s = {
		.computation = ++p->computation,
		.begin_ns = ++p->now_ns,
		.end_ns = ++p->now_ns,
		.scalar = BLOCK,
		.rows = p->rows,
		.token = { p->rows, p->rows, p->column[0] },
		.position = { p->rows, p->rows, p->column[1] },
		.slot = { p->no_slots ? 0 : p->rows, p->rows, p->column[2] },
		.start = { p->runs + 1, p->runs + 1, p->column[3] },
	};

	assert_int_equal(vllm_batches__step(p->batches, &s, c, home, &p->sink), 0);
	p->rows = p->runs = 0;
	p->no_slots = false;
}

static inline void step(struct play *p)
{
	step_of(p, &p->context, NULL);
}

/* The step as @c, a stage of a pipeline, shows it. */
static inline void stage(struct play *p, struct aten_context *c)
{
	step_of(p, c, &p->context);
}

static inline const char *name_of(const struct play *p, uint32_t request)
{
	for (size_t n = 0; n < p->heard.begins; n++)
		if (p->heard.begin[n].request == request)
			return p->heard.client_id[n];
	return "";
}

/* The request of row @i of step @number, by the client's id: said to begin before that. */
static inline const char *owner_in(const struct play *p, size_t number, uint32_t i)
{
	const struct said *s = &p->heard.step[number];

	assert_true(number < p->heard.steps && i < s->rows);
	for (size_t n = 0; n < s->begins; n++)
		if (p->heard.begin[n].request == s->row[i].request)
			return p->heard.client_id[n];
	return "";
}

/* Of the last step. */
static inline const char *owner(const struct play *p, uint32_t i)
{
	assert_true(p->heard.steps > 0);
	return owner_in(p, p->heard.steps - 1, i);
}

static inline const struct engine_request *begin_of(const struct play *p, const char *client_id)
{
	for (size_t n = 0; n < p->heard.begins; n++)
		if (!strcmp(p->heard.client_id[n], client_id))
			return &p->heard.begin[n];
	fail_msg("%s did not begin", client_id);
	return NULL;
}

#endif
