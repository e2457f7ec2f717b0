/* SPDX-License-Identifier: BSD-2-Clause */
/* Whose rows a step's are: runs, and the sequences of plain batches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/transformers_play.h"

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
	static const int64_t decode[] = { 7, 9, 7 }, texts[] = { 0, 1, 0, 1 };
	static const int64_t jumps[] = { 4, 1, 0, 1 }, late[] = { 0, 1, 5, 6 };

	RUNS(((struct batch){ 1, 4, token, straight }), { 0, 4, 0, 0 });
	/* Left padding, all of one position. */
	RUNS(((struct batch){ 2, 4, token, padded }), { 0, 1, 0, 1, true }, { 1, 1, 0, 1, true },
	     { 2, 2, 0, 0 }, { 4, 4, 1, 0 });
	RUNS(((struct batch){ 1, 4, token, zeros }), { 0, 1, 0, 0, true }, { 1, 1, 0, 0, true },
	     { 2, 2, 0, 0 });
	/* What jumps otherwise is somebody's. */
	RUNS(((struct batch){ 1, 4, token, texts }), { 0, 2, 0, 0 }, { 2, 2, 0, 0 });
	RUNS(((struct batch){ 1, 4, token, jumps }), { 0, 1, 0, 4 }, { 1, 1, 0, 1, true },
	     { 2, 2, 0, 0 });
	RUNS(((struct batch){ 1, 4, token, late }), { 0, 2, 0, 0 }, { 2, 2, 0, 5 });
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
	assert_true(!p->heard->begin[0].epoch && p->heard->begin[1].epoch == 1);
	assert_int_equal(p->heard->begin[1].slot, 0);
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

static void test_left_padding_is_said(void **state)
{
	static const int64_t position[] = { 1, 1, 0, 1, 0, 1, 2, 3 };
	struct play *p = play__new();
	const struct heard_step *s = play(p, (struct batch){ 2, 4, text, position });

	assert_int_equal(p->heard->begins, 2);
	assert_int_equal(s->step.rows, 8);
	assert_int_equal(s->route[0].rows, 8);
	for (uint32_t i = 0; i < 8; i++) {
		assert_int_equal(s->step.row[i].token, text[i]);
		assert_int_equal(s->step.row[i].flags, i < 2 ? ENGINE_ROW_PADDING : 0);
		assert_int_equal(s->step.row[i].output, i == 3 || i == 7);
		assert_int_equal(s->route[0].ids[K * i], i);
		if (i < 2) {
			assert_row(s, i, ENGINE_UNKNOWN, ENGINE_UNKNOWN, ENGINE_PHASE_UNKNOWN);
			assert_int_equal(s->step.row[i].sequence, ENGINE_UNKNOWN);
		} else {
			assert_row(s, i, i < 4 ? 1 : 2, i < 4 ? i - 2 : i - 4, ENGINE_PREFILL);
		}
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
	assert_true(p->heard->begin[0].inferred);
	s = play(p, (struct batch){ 1, 1, text, NULL });
	assert_row(s, 0, 1, 3, ENGINE_DECODE);
	s = play(p, (struct batch){ 1, 3, text, NULL });
	assert_row(s, 0, 2, 0, ENGINE_PREFILL);
	assert_int_equal(p->heard->ends, 1);
	play__free(p);
}

/* Computations were not read: where it began nobody knows, but it was not before us for certain. */
static void test_begun_while_layouts_were_found_out(void **state)
{
	struct play *p = play__new();
	const struct heard_step *s;

	transformers_sequences__missed(p->sequences);
	s = play(p, (struct batch){ 1, 1, text, (const int64_t[]){ 77 } });
	assert_false(p->heard->begin[0].before_attach);
	assert_int_equal(p->heard->begin[0].prompt, ENGINE_UNKNOWN);
	assert_int_equal(p->heard->begin[0].cached, ENGINE_UNKNOWN);
	assert_true(p->heard->begin[0].begin_ns == UINT64_MAX);
	assert_row(s, 0, 1, 77, ENGINE_PHASE_UNKNOWN);
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
	assert_row(s, 0, 1, 77, ENGINE_PHASE_UNKNOWN);
	s = play(p, (struct batch){ 1, 1, text, (const int64_t[]){ 78 } });
	assert_row(s, 0, 1, 78, ENGINE_DECODE);
	/* What nobody said was lost is no gap. */
	s = play(p, (struct batch){ 1, 1, text, (const int64_t[]){ 80 } });
	assert_row(s, 0, 2, 80, ENGINE_PHASE_UNKNOWN);
	assert_true(p->heard->begin[1].before_attach);
	for (int64_t i = 0; i < 8; i++)
		play(p, (struct batch){ 1, 1, text, (const int64_t[]){ 81 + i } });
	/* Late in a thread: a prompt of which all but one token was cached, or who knows. */
	play(p, (struct batch){ 1, 1, text, (const int64_t[]){ 96 } });
	assert_int_equal(p->heard->begins, 3);
	assert_false(p->heard->begin[2].before_attach);
	assert_int_equal(p->heard->begin[2].cached, ENGINE_UNKNOWN);
	assert_int_equal(p->heard->begin[2].prompt, ENGINE_UNKNOWN);
	assert_true(p->heard->begin[2].begin_ns == UINT64_MAX);
	play__free(p);
}

/* Over a lost step a text goes on, in its row of the batch. */
static void test_lost_steps(void **state)
{
	struct play *p = play__new();
	struct sequence_facts f;
	const struct heard_step *s;

	play(p, (struct batch){ 2, 2, text, (const int64_t[]){ 0, 1, 0, 1 } });
	p->computation += 2;
	s = play(p, (struct batch){ 2, 1, text, (const int64_t[]){ 4, 4 } });
	assert_row(s, 0, 1, 4, ENGINE_DECODE);
	assert_row(s, 1, 2, 4, ENGINE_DECODE);
	assert_int_equal(p->heard->begins, 2);
	assert_true(transformers_sequences__at(p->sequences, 0, &f));
	assert_true(f.generated == 3 && f.inferred);
	assert_int_equal(p->heard->binds, 2);
	assert_int_equal(p->heard->bind.position, 4);
	/* Not farther than what was lost. */
	p->computation++;
	s = play(p, (struct batch){ 2, 1, text, (const int64_t[]){ 6, 9 } });
	assert_row(s, 0, 1, 6, ENGINE_DECODE);
	assert_row(s, 1, 3, 9, ENGINE_PHASE_UNKNOWN);
	assert_false(p->heard->begin[2].before_attach);
	assert_int_equal(p->heard->begin[2].cached, ENGINE_UNKNOWN);
	play__free(p);
}

/* Where others of a prompt's rows may have been before the first that was seen, nothing is said of
 * them. */
static void test_in_the_middle_of_a_prompt(void **state)
{
	struct play *p = play__new();
	struct engine_request *begin = p->heard->begin;

	play(p, (struct batch){ 1, 3, text, (const int64_t[]){ 20, 21, 22 } });
	assert_false(begin[0].before_attach);
	assert_int_equal(begin[0].cached, ENGINE_UNKNOWN);
	assert_int_equal(begin[0].prompt, ENGINE_UNKNOWN);
	play(p, (struct batch){ 1, 2, text, (const int64_t[]){ 40, 41 } });
	assert_int_equal(begin[1].cached, 40);
	p->computation++;
	play(p, (struct batch){ 1, 3, text, (const int64_t[]){ 60, 61, 62 } });
	assert_int_equal(begin[2].cached, ENGINE_UNKNOWN);
	play(p, (struct batch){ 1, 2, text, (const int64_t[]){ 0, 1 } });
	assert_int_equal(begin[3].cached, 0);
	assert_int_equal(p->heard->begins, 4);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_runs),
		cmocka_unit_test(test_packed_runs),
		cmocka_unit_test(test_absurd_runs),
		cmocka_unit_test(test_a_text),
		cmocka_unit_test(test_short_and_cached_prompts),
		cmocka_unit_test(test_left_padding_is_said),
		cmocka_unit_test(test_finished_rows),
		cmocka_unit_test(test_alone_nothing_is_finished),
		cmocka_unit_test(test_unknown_positions),
		cmocka_unit_test(test_begun_before_us),
		cmocka_unit_test(test_begun_while_layouts_were_found_out),
		cmocka_unit_test(test_lost_steps),
		cmocka_unit_test(test_in_the_middle_of_a_prompt),
		cmocka_unit_test(test_absurd_tokens),
	};

	return cmocka_run_group_tests_name("transformers: plain batches", tests, NULL, NULL);
}
