/* SPDX-License-Identifier: BSD-2-Clause */
/* Steps by hand for the tests of engine/transformers. Include cmocka.h first. */
#ifndef MP_TESTS_TRANSFORMERS_PLAY_H
#define MP_TESTS_TRANSFORMERS_PLAY_H

#include "probe/engine/transformers/runs.h"
#include "probe/engine/transformers/sequences.h"
#include "tests/unit/aten_play.h"

#define ROWS_MAX 10000
#define K 2u
#define EOS 999

/* A step by hand. Columns that are NULL were not captured. */
struct play {
	struct transformers_sequences *sequences;
	struct heard *heard;
	struct engine_sink sink;
	struct model_folder folder;
	struct aten_context context;
	uint64_t now;
	uint32_t tid;
	uint32_t computation; /* of the last step; add to it what was lost */
};

static inline struct play *play__new(void)
{
	struct play *p = calloc(1, sizeof(*p));

	assert_int_equal(transformers_sequences__new(&p->sequences), 0);
	p->heard = calloc(1, sizeof(*p->heard));
	p->sink = heard__sink(p->heard);
	p->folder = folder_of("olmoe", 8, K, 1, 0);
	p->folder.config.eos_count = 1;
	p->folder.config.eos[0] = EOS;
	p->context = (struct aten_context){
		.id = 1, .folder = &p->folder, .layers = 1, .layer_id = { 5 }
	};
	p->tid = PLAY_THREAD;
	return p;
}

static inline void play__free(struct play *p)
{
	transformers_sequences__free(p->sequences);
	heard__free(p->heard);
	free(p);
}

struct batch {
	uint32_t batch, length;
	const int64_t *token, *position, *slot;
	uint32_t positions; /* 0: as many as rows */
	uint64_t slots_bytes;
};

static inline struct aten_step step_of(const struct batch *b)
{
	uint32_t rows = b->batch * b->length;
	struct aten_step s = { .tgid = PLAY_PID,
			       .batch = b->batch,
			       .length = b->length,
			       .slots_bytes = b->slots_bytes,
			       .rows = rows };

	if (b->token)
		s.token = (struct aten_column){ rows, rows, (int64_t *)b->token };
	if (b->slot)
		s.slot = (struct aten_column){ rows, rows, (int64_t *)b->slot };
	if (b->position)
		s.position = (struct aten_column){ b->positions ? b->positions : rows, rows,
						   (int64_t *)b->position };
	return s;
}

/* Say it with one layer, in which row i chose experts i and i + 1 with weights i + 2 and i + 1. */
static inline const struct heard_step *play(struct play *p, struct batch b)
{
	static uint16_t ids[ROWS_MAX * K];
	static float weights[ROWS_MAX * K];
	static uint8_t flags[ROWS_MAX];
	struct aten_step s = step_of(&b);
	struct aten_layer layer = {
		.rows = s.rows, .k = K, .weights = weights, .ids = ids, .flags = flags
	};

	assert_true(s.rows <= ROWS_MAX);
	for (uint32_t i = 0; i < s.rows; i++) {
		ids[K * i] = (uint16_t)i;
		ids[K * i + 1] = (uint16_t)(i + 1);
		weights[K * i] = (float)(i + 2);
		weights[K * i + 1] = (float)(i + 1);
	}
	s.tid = p->tid;
	s.key = PLAY_KEY;
	s.computation = ++p->computation;
	s.begin_ns = p->now += 1000000;
	s.end_ns = p->now += 1000000;
	s.layers = s.layer_capacity = 1;
	s.layer = &layer;
	heard__forget_steps(p->heard);
	assert_int_equal(transformers_sequences__step(p->sequences, &s, &p->context, &p->sink), 0);
	return p->heard->steps ? &p->heard->step[0] : NULL;
}

static inline void assert_row(const struct heard_step *s, uint32_t row, uint32_t request,
			      uint32_t position, uint8_t phase)
{
	assert_true(row < s->step.rows);
	assert_int_equal(s->step.row[row].request, request);
	assert_int_equal(s->step.row[row].position, position);
	assert_int_equal(s->step.row[row].phase, phase);
}

static const int64_t text[64] = { 10, 11, 12, 13, 14, 15, 16, 17 };

#endif
