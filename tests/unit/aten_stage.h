/* SPDX-License-Identifier: BSD-2-Clause */
/* Contexts and steps of engine/aten with a small model, and what they hand over. Include cmocka.h
 * first. */
#ifndef MP_TESTS_ATEN_STAGE_H
#define MP_TESTS_ATEN_STAGE_H

#include "probe/engine/aten/step.h"
#include "tests/unit/aten_play.h"

#define EXPERTS 8u
#define K 2u
#define LAYERS 3u
#define VOCABULARY 1000u

/* What was handed over of a step. */
struct kept {
	uint32_t tgid, tid, computation, rows, layers, context, batch, length;
	uint32_t ordinal[8];
	uint16_t first_id[8];
	uint32_t tokens, positions;
	int64_t token[8], position[8];
	bool has_context;
	uint32_t said_layers; /* of the context, when the step came */
};

struct stage {
	struct model_folders folders;
	struct aten_contexts *contexts;
	struct aten_steps *steps;
	struct heard *heard;
	struct engine_sink sink;
	uint64_t now;
	size_t kept;
	struct kept step[128];
};

static inline int on_step(void *ctx, struct aten_step *s, struct aten_context *c,
			  const struct engine_sink *sink)
{
	struct stage *g = ctx;
	struct kept *k = &g->step[g->kept++];

	assert_true(g->kept <= 128 && s->layers <= 8);
	*k = (struct kept){ s->tgid,   s->tid,        s->computation, s->rows,
			    s->layers, c ? c->id : 0, s->batch,       s->length };
	for (uint32_t i = 0; i < s->layers; i++) {
		assert_int_equal(s->layer[i].rows, s->rows);
		k->ordinal[i] = s->layer[i].ordinal;
		k->first_id[i] = s->layer[i].ids[0];
	}
	k->tokens = s->token.count;
	k->positions = s->position.count;
	for (uint32_t i = 0; i < s->token.count && i < 8; i++)
		k->token[i] = s->token.value[i];
	for (uint32_t i = 0; i < s->position.count && i < 8; i++)
		k->position[i] = s->position.value[i];
	k->has_context = c;
	k->said_layers = g->heard->context.layers;
	return 0;
}

static bool tokens_follow; /* in the next stages */

static inline struct stage *stage__new(const struct model_folder *folder, size_t count,
				       bool gathers)
{
	struct stage *g = calloc(1, sizeof(*g));
	struct aten_steps_options o = { .step = on_step, .ctx = g, .position_scale = 0.5f };

	o.tokens_follow = tokens_follow;
	g->folders.count = count;
	for (size_t i = 0; i < count; i++)
		g->folders.item[i] = folder[i];
	g->heard = calloc(1, sizeof(*g->heard));
	g->sink = heard__sink(g->heard);
	assert_int_equal(aten_contexts__new(&g->contexts, &g->folders, gathers), 0);
	o.contexts = g->contexts;
	assert_int_equal(aten_steps__new(&g->steps, &o), 0);
	return g;
}

static inline struct stage *olmoe(void)
{
	struct model_folder f = folder_of("olmoe", EXPERTS, K, LAYERS, 1);

	return stage__new(&f, 1, false);
}

static inline struct stage *unknown(void)
{
	return stage__new(NULL, 0, false);
}

static inline void stage__free(struct stage *g)
{
	aten_steps__free(g->steps);
	aten_contexts__free(g->contexts);
	heard__free(g->heard);
	free(g);
}

static inline int give(struct stage *g, struct made m)
{
	struct made_capture c;
	int err;

	if (!m.time_ns)
		m.time_ns = g->now += 1000;
	err = aten_steps__tensor(g->steps, made__capture(&c, &m), &g->sink);
	made_capture__free(&c);
	return err;
}

static inline struct made tokens_of(uint32_t computation, uint32_t rows)
{
	static const int64_t token[] = { 10, 11, 12, 13, 14, 15, 16, 17 };

	return (struct made){ .role = MP_ROLE_TOKENS,
			      .dtype = ATEN_LONG,
			      .rows = rows,
			      .width = 1,
			      .size = { 1, rows },
			      .computation = computation,
			      .key = PLAY_KEY,
			      .key_first = VOCABULARY,
			      .key_dtype = ATEN_FLOAT,
			      .data = token };
}

static inline void begin(struct stage *g, uint32_t computation, uint32_t rows)
{
	assert_int_equal(give(g, tokens_of(computation, rows)), 0);
}

/* Scores of which expert 7 - @ordinal has the largest, and the one before it the next. */
static inline struct made scores_of(uint32_t computation, uint32_t ordinal, uint32_t rows)
{
	static float score[8][8][EXPERTS];

	for (uint32_t row = 0; row < rows; row++)
		for (uint32_t e = 0; e < EXPERTS; e++)
			score[ordinal % 8][row][e] = (float)((e + ordinal) % EXPERTS);
	return (struct made){ .role = MP_ROLE_SCORES,
			      .dtype = ATEN_FLOAT,
			      .rows = rows,
			      .width = EXPERTS,
			      .computation = computation,
			      .ordinal = ordinal,
			      .scalar = K,
			      .data = score[ordinal % 8] };
}

static inline void route(struct stage *g, uint32_t computation, uint32_t ordinal, uint32_t rows)
{
	assert_int_equal(give(g, scores_of(computation, ordinal, rows)), 0);
}

static inline void assert_quiet(const struct stage *g)
{
	assert_int_equal(heard__complaints(g->heard), 0);
}

/* Without a folder, and two computations ago: the router is known. */
static inline struct stage *learnt(void)
{
	struct stage *g = unknown();

	for (uint32_t computation = 101; computation <= 102; computation++) {
		begin(g, computation, 2);
		for (uint32_t i = 0; i < LAYERS; i++)
			route(g, computation, i, 2);
	}
	assert_int_equal(aten_steps__expire(g->steps, UINT64_MAX, &g->sink), 0);
	assert_int_equal(g->kept, 2);
	assert_int_equal(g->step[0].layers, LAYERS);
	assert_int_equal(g->step[1].layers, LAYERS);
	assert_quiet(g);
	g->kept = 0;
	return g;
}

#endif
