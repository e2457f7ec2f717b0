/* SPDX-License-Identifier: BSD-2-Clause */
/* Whose rows a step's are: runs, the sequences that they go on with, and how those end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

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
};

static struct play *play__new(void)
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

static void play__free(struct play *p)
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

static struct aten_step step_of(const struct batch *b)
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
static const struct heard_step *play(struct play *p, struct batch b)
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
	s.begin_ns = p->now += 1000000;
	s.end_ns = p->now += 1000000;
	s.layers = s.layer_capacity = 1;
	s.layer = &layer;
	heard__forget_steps(p->heard);
	assert_int_equal(transformers_sequences__step(p->sequences, &s, &p->context, &p->sink), 0);
	return p->heard->steps ? &p->heard->step[0] : NULL;
}

static void assert_row(const struct heard_step *s, uint32_t row, uint32_t request,
		       uint32_t position, uint8_t phase)
{
	assert_true(row < s->step.rows);
	assert_int_equal(s->step.row[row].request, request);
	assert_int_equal(s->step.row[row].position, position);
	assert_int_equal(s->step.row[row].phase, phase);
}

/* --- runs ------------------------------------------------------------------------------------- */

struct wanted_run {
	uint32_t first, rows, batch_row, position;
	bool padding, unplaced;
};

static void assert_runs(struct batch b, const struct wanted_run *wanted, uint32_t count)
{
	struct aten_step s = step_of(&b);
	struct run run[64];

	assert_int_equal(transformers_runs__most(&s), b.batch * b.length);
	assert_int_equal(transformers_runs__cut(run, &s), count);
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(run[i].first, wanted[i].first);
		assert_int_equal(run[i].rows, wanted[i].rows);
		assert_int_equal(run[i].batch_row, wanted[i].batch_row);
		assert_int_equal(run[i].position, wanted[i].position);
		assert_int_equal(run[i].padding, wanted[i].padding);
		assert_int_equal(run[i].unplaced, wanted[i].unplaced);
		assert_int_equal(run[i].packed, b.slot != NULL);
		assert_int_equal(run[i].sequence, 0);
	}
}

#define RUNS(batch, ...) \
	do { \
		const struct wanted_run wanted_[] = { __VA_ARGS__ }; \
		assert_runs(batch, wanted_, sizeof(wanted_) / sizeof(*wanted_)); \
	} while (0)

static void test_plain_runs(void **state)
{
	static const int64_t token[12] = { 0 }, straight[] = { 0, 1, 2, 3 };
	static const int64_t padded[] = { 1, 1, 0, 1, 0, 1, 2, 3 }, zeros[] = { 0, 0, 0, 1 };
	static const int64_t decode[] = { 7, 9, 7 };

	RUNS(((struct batch){ 1, 4, token, straight }), { 0, 4, 0, 0 });
	/* Left padding, all of one position. */
	RUNS(((struct batch){ 2, 4, token, padded }), { 0, 1, 0, 1, true }, { 1, 1, 0, 1, true },
	     { 2, 2, 0, 0 }, { 4, 4, 1, 0 });
	RUNS(((struct batch){ 1, 4, token, zeros }), { 0, 1, 0, 0, true }, { 1, 1, 0, 0, true },
	     { 2, 2, 0, 0 });
	/* One row of positions for all batch rows. */
	RUNS(((struct batch){ 3, 4, token, straight, .positions = 4 }), { 0, 4, 0, 0 },
	     { 4, 4, 1, 0 }, { 8, 4, 2, 0 });
	RUNS(((struct batch){ 3, 1, token, decode }), { 0, 1, 0, 7 }, { 1, 1, 1, 9 },
	     { 2, 1, 2, 7 });
	RUNS(((struct batch){ 3, 1, token, decode, .positions = 1 }), { 0, 1, 0, 7 },
	     { 1, 1, 1, 7 }, { 2, 1, 2, 7 });
	/* Rows that no position goes with. */
	RUNS(((struct batch){ 2, 3, token, NULL }), { 0, 3, 0, 0, false, true },
	     { 3, 3, 1, 0, false, true });
	RUNS(((struct batch){ 2, 3, token, decode, .positions = 2 }), { 0, 3, 0, 0, false, true },
	     { 3, 3, 1, 0, false, true });
}

static void test_packed_runs(void **state)
{
	static const int64_t token[8] = { 0 }, position[] = { 0, 1, 2, 0, 1, 40, 8, 9 };
	static const int64_t slot[] = { 0, 1, 2, 32, 33, 71, 100, 101 };
	struct batch b = { 1, 8, token, position, slot, .slots_bytes = 64 };
	struct aten_step s;
	struct run run[8];

	RUNS(b, { 0, 3, 0, 0 }, { 3, 2, 0, 0 }, { 5, 1, 0, 40 }, { 6, 2, 0, 8 });
	/* A full step: the last run may go on in the next one. */
	s = step_of(&b);
	assert_int_equal(transformers_runs__cut(run, &s), 4);
	assert_true(run[3].cut && !run[2].cut);
	assert_int_equal(run[3].slot, 100);
	assert_int_equal(run[3].last_slot, 101);
	b.slots_bytes = 65 * 8;
	s = step_of(&b);
	assert_int_equal(transformers_runs__cut(run, &s), 4);
	assert_false(run[3].cut);
}

/* Numbers that are no positions: not known, rather than wrapped around. */
static void test_absurd_runs(void **state)
{
	static const int64_t token[4] = { 0 };
	static const int64_t position[] = { 1ll << 32, -1, INT64_MAX, INT64_MIN };
	struct aten_step s;
	struct run run[4];

	RUNS(((struct batch){ 1, 4, token, position }), { 0, 4, 0, 0, false, true });
	RUNS(((struct batch){ 4, 1, token, position }), { 0, 1, 0, 0, false, true },
	     { 1, 1, 1, 0, false, true }, { 2, 1, 2, 0, false, true }, { 3, 1, 3, 0, false, true });
	/* Sizes whose product wraps around to the number of rows. */
	s = step_of(&(struct batch){ 1, 4, token, position });
	s.length = (1u << 30) + 1;
	s.batch = 4;
	assert_int_equal(transformers_runs__cut(run, &s), 1);
	assert_int_equal(run[0].rows, 4);
}

/* --- sequences of plain batches --------------------------------------------------------------- */

static const int64_t text[16] = { 10, 11, 12, 13, 14, 15, 16, 17 };

static void test_a_text(void **state)
{
	struct play *p = play__new();
	const struct heard_step *s;

	s = play(p, (struct batch){ 1, 4, text, (const int64_t[]){ 0, 1, 2, 3 } });
	assert_int_equal(p->heard->begins, 1);
	assert_int_equal(p->heard->begin[0].prompt, 4);
	assert_int_equal(p->heard->begin[0].cached, 0);
	assert_int_equal(p->heard->tokens[0], 4);
	assert_false(p->heard->begin[0].before_attach || p->heard->begin[0].inferred);
	assert_int_equal(s->step.step, 1);
	assert_int_equal(s->route[0].layer, 5);
	for (uint32_t i = 0; i < 4; i++) {
		assert_row(s, i, 1, i, ENGINE_PREFILL);
		assert_int_equal(s->step.row[i].token, 10 + i);
		assert_int_equal(s->step.row[i].output, i == 3);
	}
	for (int64_t at = 4; at < 7; at++) {
		s = play(p, (struct batch){ 1, 1, &text[at], &at });
		assert_row(s, 0, 1, (uint32_t)at, ENGINE_DECODE);
		assert_int_equal(s->step.row[0].output, 1);
	}
	assert_int_equal(p->heard->begins, 1);
	/* The next call of generate() on this thread: the old one is over. */
	s = play(p, (struct batch){ 1, 2, text, (const int64_t[]){ 0, 1 } });
	assert_row(s, 0, 2, 0, ENGINE_PREFILL);
	assert_int_equal(p->heard->ends, 1);
	assert_int_equal(p->heard->end[0].request, 1);
	assert_int_equal(p->heard->end[0].ending, ENGINE_ENDING_RELEASED);
	/* One on another thread ends nothing here. */
	p->tid++;
	s = play(p, (struct batch){ 1, 2, text, (const int64_t[]){ 0, 1 } });
	assert_row(s, 0, 3, 0, ENGINE_PREFILL);
	p->tid--;
	s = play(p, (struct batch){ 1, 1, text, (const int64_t[]){ 2 } });
	assert_row(s, 0, 2, 2, ENGINE_DECODE);
	assert_int_equal(p->heard->ends, 1);
	play__free(p);
}

/* A prompt of one token, and then one that goes on where a cache ends. */
static void test_short_and_cached_prompts(void **state)
{
	struct play *p = play__new();

	play(p, (struct batch){ 1, 1, text, (const int64_t[]){ 0 } });
	assert_int_equal(p->heard->begin[0].prompt, 1);
	play(p, (struct batch){ 1, 1, text, (const int64_t[]){ 1 } });
	assert_int_equal(p->heard->begins, 1);
	play(p, (struct batch){ 1, 3, text, (const int64_t[]){ 20, 21, 22 } });
	assert_int_equal(p->heard->begins, 2);
	assert_int_equal(p->heard->begin[1].cached, 20);
	assert_int_equal(p->heard->begin[1].prompt, 23);
	assert_int_equal(p->heard->tokens[1], 0);
	assert_false(p->heard->begin[1].before_attach);
	play__free(p);
}

static void test_left_padding_is_dropped(void **state)
{
	static const int64_t position[] = { 1, 1, 0, 1, 0, 1, 2, 3 };
	struct play *p = play__new();
	const struct heard_step *s = play(p, (struct batch){ 2, 4, text, position });
	static const uint32_t from[] = { 2, 3, 4, 5, 6, 7 };

	assert_int_equal(p->heard->begins, 2);
	assert_int_equal(s->step.rows, 6);
	assert_int_equal(s->route[0].rows, 6);
	for (uint32_t i = 0; i < 6; i++) {
		assert_row(s, i, i < 2 ? 1 : 2, i < 2 ? i : i - 2, ENGINE_PREFILL);
		assert_int_equal(s->step.row[i].token, 10 + from[i]);
		assert_int_equal(s->route[0].ids[K * i], from[i]);
		assert_true(s->route[0].weights[K * i] == (float)(from[i] + 2));
	}
	assert_int_equal(p->heard->begin[0].slot, 0);
	assert_int_equal(p->heard->begin[1].slot, 1);
	/* Each batch row goes on with its own. */
	s = play(p, (struct batch){ 2, 1, text, (const int64_t[]){ 2, 4 } });
	assert_row(s, 0, 1, 2, ENGINE_DECODE);
	assert_row(s, 1, 2, 4, ENGINE_DECODE);
	assert_int_equal(p->heard->begins, 2);
	play__free(p);
}

/* Behind the end of its text a batch row is computed on, for nobody. */
static void test_finished_rows(void **state)
{
	static const int64_t token[] = { 10, EOS }, prompts[] = { EOS, 11, 12, 13 };
	struct play *p = play__new();
	struct sequence_facts f;
	const struct heard_step *s;

	s = play(p, (struct batch){ 2, 2, prompts, (const int64_t[]){ 0, 1, 0, 1 } });
	assert_int_equal(s->step.row[0].flags, 0); /* a prompt may hold one */
	play(p, (struct batch){ 2, 1, text, (const int64_t[]){ 2, 2 } });
	s = play(p, (struct batch){ 2, 1, token, (const int64_t[]){ 3, 3 } });
	assert_row(s, 0, 1, 3, ENGINE_DECODE);
	assert_row(s, 1, ENGINE_UNKNOWN, 3, ENGINE_PHASE_UNKNOWN);
	assert_int_equal(s->step.row[1].flags, ENGINE_ROW_FINISHED);
	assert_int_equal(s->step.row[1].sequence, 2);
	s = play(p, (struct batch){ 2, 1, text, (const int64_t[]){ 4, 4 } });
	assert_row(s, 1, ENGINE_UNKNOWN, 4, ENGINE_PHASE_UNKNOWN);
	assert_true(transformers_sequences__at(p->sequences, 0, &f));
	assert_int_equal(f.generated, 3);
	assert_int_equal(f.prompt, 2);
	assert_true(transformers_sequences__at(p->sequences, 1, &f));
	assert_int_equal(f.generated, 1);
	assert_false(transformers_sequences__at(p->sequences, 2, &f));
	play__free(p);
}

/* Alone in its batch a text that is fed an end goes on: somebody wants it so. */
static void test_alone_nothing_is_finished(void **state)
{
	struct play *p = play__new();
	const struct heard_step *s;

	play(p, (struct batch){ 1, 2, text, (const int64_t[]){ 0, 1 } });
	s = play(p, (struct batch){ 1, 1, (const int64_t[]){ EOS }, (const int64_t[]){ 2 } });
	assert_row(s, 0, 1, 2, ENGINE_DECODE);
	play__free(p);
}

static void test_unknown_positions(void **state)
{
	struct play *p = play__new();
	const struct heard_step *s;

	/* In the middle of what began before us: of nobody, nowhere. */
	s = play(p, (struct batch){ 2, 1, text, NULL });
	assert_int_equal(p->heard->begins, 0);
	assert_row(s, 0, ENGINE_UNKNOWN, ENGINE_UNKNOWN, ENGINE_PHASE_UNKNOWN);
	assert_int_equal(s->step.row[0].token, 10);
	/* A prompt begins at its first row, and what follows goes on: by order only. */
	s = play(p, (struct batch){ 1, 3, text, NULL });
	assert_row(s, 2, 1, 2, ENGINE_PREFILL);
	assert_false(p->heard->begin[0].inferred);
	s = play(p, (struct batch){ 1, 1, text, NULL });
	assert_row(s, 0, 1, 3, ENGINE_DECODE);
	s = play(p, (struct batch){ 1, 3, text, NULL });
	assert_row(s, 0, 2, 0, ENGINE_PREFILL);
	assert_int_equal(p->heard->ends, 1);
	play__free(p);
}

static void test_begun_before_us(void **state)
{
	struct play *p = play__new();
	const struct heard_step *s;

	s = play(p, (struct batch){ 1, 1, text, (const int64_t[]){ 77 } });
	assert_int_equal(p->heard->begins, 1);
	assert_true(p->heard->begin[0].before_attach);
	assert_int_equal(p->heard->begin[0].prompt, ENGINE_UNKNOWN);
	assert_int_equal(p->heard->begin[0].cached, ENGINE_UNKNOWN);
	assert_true(p->heard->begin[0].begin_ns == UINT64_MAX);
	assert_row(s, 0, 1, 77, ENGINE_DECODE);
	s = play(p, (struct batch){ 1, 1, text, (const int64_t[]){ 78 } });
	assert_row(s, 0, 1, 78, ENGINE_DECODE);
	/* A row was lost: what comes now goes on with nothing that is known. */
	s = play(p, (struct batch){ 1, 1, text, (const int64_t[]){ 80 } });
	assert_row(s, 0, 2, 80, ENGINE_DECODE);
	play__free(p);
}

/* Tokens that no vocabulary has are not known. */
static void test_absurd_tokens(void **state)
{
	static const int64_t token[] = { -7, 1ll << 31, INT64_MIN, 5 };
	struct play *p = play__new();
	const struct heard_step *s =
		play(p, (struct batch){ 1, 4, token, (const int64_t[]){ 0, 1, 2, 3 } });

	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(s->step.row[i].token, i == 3 ? 5 : -1);
	assert_int_equal(p->heard->tokens[0], 0);
	s = play(p, (struct batch){ 1, 2, NULL, (const int64_t[]){ 0, 1 } });
	assert_int_equal(s->step.row[1].token, -1);
	play__free(p);
}

/* --- packed batches --------------------------------------------------------------------------- */

static const struct heard_step *packed(struct play *p, uint32_t rows, const int64_t *position,
				       const int64_t *slot)
{
	return play(p, (struct batch){ 1, rows, text, position, slot, .slots_bytes = 4096 });
}

static void test_continued_by_slot(void **state)
{
	struct play *p = play__new();
	const struct heard_step *s;

	/* Two prompts of the same length: only the cache tells them apart. */
	packed(p, 4, (const int64_t[]){ 0, 1, 0, 1 }, (const int64_t[]){ 0, 1, 32, 33 });
	assert_int_equal(p->heard->begins, 2);
	s = packed(p, 2, (const int64_t[]){ 2, 2 }, (const int64_t[]){ 34, 2 });
	assert_row(s, 0, 2, 2, ENGINE_DECODE);
	assert_row(s, 1, 1, 2, ENGINE_DECODE);
	/* One that joins does not disturb the others, and ends none. */
	s = packed(p, 4, (const int64_t[]){ 3, 0, 1, 3 }, (const int64_t[]){ 3, 64, 65, 35 });
	assert_row(s, 0, 1, 3, ENGINE_DECODE);
	assert_row(s, 1, 3, 0, ENGINE_PREFILL);
	assert_row(s, 3, 2, 3, ENGINE_DECODE);
	assert_int_equal(p->heard->ends, 0);
	for (size_t i = 0; i < 3; i++)
		assert_false(p->heard->begin[i].inferred);
	play__free(p);
}

/* At the beginning of a block of the cache the slot says nothing: the position decides, if it can.
 */
static void test_at_a_block_boundary(void **state)
{
	struct play *p = play__new();
	struct sequence_facts f;
	const struct heard_step *s;

	packed(p, 5, (const int64_t[]){ 0, 1, 0, 1, 2 }, (const int64_t[]){ 30, 31, 61, 62, 63 });
	s = packed(p, 2, (const int64_t[]){ 3, 2 }, (const int64_t[]){ 96, 128 });
	assert_row(s, 0, 2, 3, ENGINE_DECODE);
	assert_row(s, 1, 1, 2, ENGINE_DECODE);
	assert_true(transformers_sequences__at(p->sequences, 0, &f) && !f.inferred);
	/* Two at one position, both at a boundary: which is which is a guess, and said to be. */
	packed(p, 4, (const int64_t[]){ 0, 1, 0, 1 }, (const int64_t[]){ 200, 201, 300, 301 });
	s = packed(p, 2, (const int64_t[]){ 2, 2 }, (const int64_t[]){ 500, 600 });
	assert_row(s, 0, 3, 2, ENGINE_DECODE);
	assert_row(s, 1, 4, 2, ENGINE_DECODE);
	assert_true(transformers_sequences__at(p->sequences, 2, &f) && f.inferred);
	/* And from there on by slot again. */
	s = packed(p, 2, (const int64_t[]){ 3, 3 }, (const int64_t[]){ 601, 501 });
	assert_row(s, 0, 4, 3, ENGINE_DECODE);
	assert_row(s, 1, 3, 3, ENGINE_DECODE);
	play__free(p);
}

/* A prompt that was cut by a full step goes on in the next one. */
static void test_prompts_in_pieces(void **state)
{
	struct play *p = play__new();
	const struct heard_step *s;

	s = play(p, (struct batch){ 1, 4, text, (const int64_t[]){ 0, 1, 2, 3 },
				    (const int64_t[]){ 0, 1, 2, 3 }, .slots_bytes = 32 });
	assert_int_equal(p->heard->begin[0].prompt, ENGINE_UNKNOWN);
	assert_int_equal(p->heard->tokens[0], 0);
	assert_int_equal(s->step.row[3].output, 0);
	s = packed(p, 3, (const int64_t[]){ 4, 5, 6 }, (const int64_t[]){ 4, 5, 6 });
	assert_row(s, 0, 1, 4, ENGINE_PREFILL);
	assert_int_equal(s->step.row[2].output, 1);
	assert_int_equal(p->heard->begins, 1);
	play__free(p);
}

/* --- ends ------------------------------------------------------------------------------------- */

static void test_ends(void **state)
{
	struct play *p = play__new();
	struct engine_request_end end = { .request = 1, .ending = ENGINE_ENDING_RELEASED };

	play(p, (struct batch){ 2, 2, text, (const int64_t[]){ 0, 1, 0, 1 } });
	assert_int_equal(transformers_sequences__end(p->sequences, p->now, 0, p->now, 1, &p->sink),
			 0);
	assert_int_equal(p->heard->ends, 0); /* their last row was then, not before */
	assert_int_equal(transformers_sequences__finished(p->sequences, &end, &p->sink), 0);
	assert_int_equal(transformers_sequences__finished(p->sequences, &end, &p->sink), 0);
	assert_int_equal(p->heard->ends, 1);
	assert_int_equal(transformers_sequences__end(p->sequences, UINT64_MAX, PLAY_PID + 1, p->now,
						     1, &p->sink),
			 0);
	assert_int_equal(p->heard->ends, 1); /* of another process */
	assert_int_equal(transformers_sequences__end(p->sequences, UINT64_MAX, PLAY_PID, p->now,
						     ENGINE_ENDING_TARGET_GONE, &p->sink),
			 0);
	assert_int_equal(p->heard->ends, 2);
	assert_int_equal(p->heard->end[1].request, 2);
	assert_int_equal(p->heard->end[1].ending, ENGINE_ENDING_TARGET_GONE);
	/* Nothing goes on with what is over. */
	play(p, (struct batch){ 2, 1, text, (const int64_t[]){ 2, 2 } });
	assert_int_equal(p->heard->begins, 4);
	play__free(p);
}

/* Of continuous batching: without a row in many steps, and for long. */
static void test_absent_sequences_end(void **state)
{
	struct play *p = play__new();

	packed(p, 3, (const int64_t[]){ 0, 1, 0 }, (const int64_t[]){ 0, 1, 32 });
	for (int64_t i = 0; i < 70; i++)
		packed(p, 1, (const int64_t[]){ 2 + i }, (const int64_t[]){ 2 + i });
	assert_int_equal(p->heard->ends, 0); /* not for long */
	p->now += 3000000000ull;
	packed(p, 1, (const int64_t[]){ 72 }, (const int64_t[]){ 72 });
	assert_int_equal(p->heard->ends, 1);
	assert_int_equal(p->heard->end[0].request, 2);
	play__free(p);
}

/* The oldest of 4096 makes room, and ends. */
static void test_the_ring_wraps(void **state)
{
	static int64_t position[4096], slot[4096];
	struct play *p = play__new();
	struct sequence_facts f;
	const struct heard_step *s;

	for (int64_t i = 0; i < 4096; i++)
		slot[i] = 10 * i;
	play(p, (struct batch){ 1, 4096, NULL, position, slot, .slots_bytes = 1 << 20 });
	assert_int_equal(p->heard->begins, 4096);
	assert_int_equal(p->heard->ends, 0);
	packed(p, 2, (const int64_t[]){ 0, 0 }, (const int64_t[]){ 90000, 90010 });
	assert_int_equal(p->heard->ends, 2);
	assert_int_equal(p->heard->end[0].request, 1);
	assert_int_equal(p->heard->end[1].request, 2);
	assert_true(transformers_sequences__at(p->sequences, 0, &f));
	assert_int_equal(f.request, 3);
	assert_true(transformers_sequences__at(p->sequences, 4095, &f));
	assert_int_equal(f.request, 4098);
	s = packed(p, 2, (const int64_t[]){ 1, 1 }, (const int64_t[]){ 21, 90011 });
	assert_row(s, 0, 3, 1, ENGINE_DECODE);
	assert_row(s, 1, 4098, 1, ENGINE_DECODE);
	transformers_sequences__named(p->sequences, 1); /* is no more */
	transformers_sequences__named(p->sequences, 4098);
	assert_true(transformers_sequences__at(p->sequences, 4095, &f) && f.named);
	play__free(p);
}

/* More in one step than are remembered: those that had to go have their rows, but no names. */
static void test_a_step_larger_than_the_ring(void **state)
{
	static int64_t position[ROWS_MAX], slot[ROWS_MAX];
	struct play *p = play__new();
	const struct heard_step *s;

	for (int64_t i = 0; i < ROWS_MAX; i++) {
		slot[i] = 10 * (i / 2) + i % 2;
		position[i] = i % 2; /* runs of two rows */
	}
	s = play(p, (struct batch){ 1, ROWS_MAX, NULL, position, slot, .slots_bytes = 1 << 20 });
	assert_int_equal(s->step.rows, ROWS_MAX);
	assert_int_equal(s->route[0].rows, ROWS_MAX);
	assert_int_equal(p->heard->begins, ROWS_MAX / 2);
	assert_int_equal(p->heard->ends, ROWS_MAX / 2 - 4096);
	assert_row(s, 1, ENGINE_UNKNOWN, ENGINE_UNKNOWN, ENGINE_PHASE_UNKNOWN);
	assert_row(s, ROWS_MAX - 1, ROWS_MAX / 2, 1, ENGINE_PREFILL);
	play__free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_runs),
		cmocka_unit_test(test_packed_runs),
		cmocka_unit_test(test_absurd_runs),
		cmocka_unit_test(test_a_text),
		cmocka_unit_test(test_short_and_cached_prompts),
		cmocka_unit_test(test_left_padding_is_dropped),
		cmocka_unit_test(test_finished_rows),
		cmocka_unit_test(test_alone_nothing_is_finished),
		cmocka_unit_test(test_unknown_positions),
		cmocka_unit_test(test_begun_before_us),
		cmocka_unit_test(test_absurd_tokens),
		cmocka_unit_test(test_continued_by_slot),
		cmocka_unit_test(test_at_a_block_boundary),
		cmocka_unit_test(test_prompts_in_pieces),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_absent_sequences_end),
		cmocka_unit_test(test_the_ring_wraps),
		cmocka_unit_test(test_a_step_larger_than_the_ring),
	};

	return cmocka_run_group_tests_name("transformers: sequences", tests, NULL, NULL);
}
