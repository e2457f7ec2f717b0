/* SPDX-License-Identifier: BSD-2-Clause */
/* Whose rows those of continuous batching are, and how sequences end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/transformers_play.h"

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
	assert_int_equal(p->heard->begin[1].slot, ENGINE_UNKNOWN);
	assert_int_equal(p->heard->begin[1].epoch, ENGINE_UNKNOWN);
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

/* Over a lost step the cache still tells who is who. */
static void test_lost_packed_steps(void **state)
{
	struct play *p = play__new();
	const struct heard_step *s;

	packed(p, 5, (const int64_t[]){ 0, 1, 0, 1, 2 }, (const int64_t[]){ 0, 1, 32, 33, 34 });
	p->computation++;
	/* The first now stands where the second was to go on. */
	s = packed(p, 2, (const int64_t[]){ 3, 4 }, (const int64_t[]){ 3, 36 });
	assert_row(s, 0, 1, 3, ENGINE_DECODE);
	assert_row(s, 1, 2, 4, ENGINE_DECODE);
	/* In another block, by position. */
	p->computation += 5;
	s = packed(p, 2, (const int64_t[]){ 9, 20 }, (const int64_t[]){ 65, 100 });
	assert_row(s, 0, 1, 9, ENGINE_DECODE);
	assert_row(s, 1, 3, 20, ENGINE_PHASE_UNKNOWN); /* farther than what was lost */
	assert_int_equal(p->heard->begins, 3);
	play__free(p);
}

/* At the beginning of a block of the cache the slot says nothing: the position decides, if it can.
 */
static void test_at_a_block_boundary(void **state)
{
	static const int64_t position[] = { 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6 };
	static const int64_t slot[] = { 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22 };
	struct play *p = play__new();
	const struct heard_step *s;

	packed(p, 15, position, slot);
	s = packed(p, 2, (const int64_t[]){ 8, 7 }, (const int64_t[]){ 48, 23 });
	assert_row(s, 0, 1, 8, ENGINE_DECODE);
	assert_row(s, 1, 2, 7, ENGINE_DECODE);
	assert_int_equal(p->heard->binds, 0);
	/* It was left out of a step: meanwhile it may have ended, and another begun behind it. */
	packed(p, 1, (const int64_t[]){ 9 }, (const int64_t[]){ 49 });
	s = packed(p, 2, (const int64_t[]){ 10, 8 }, (const int64_t[]){ 50, 64 });
	assert_row(s, 1, 2, 8, ENGINE_DECODE);
	assert_int_equal(p->heard->binds, 1);
	assert_int_equal(p->heard->bind.sequence, 2);
	assert_int_equal(p->heard->bind.request, 2);
	assert_int_equal(p->heard->bind.position, 8);
	assert_int_equal(p->heard->bind.origin, ENGINE_ORIGIN_ORDER);
	assert_true(p->heard->bind.inferred);
	/* Several rows are no text that goes on: they are behind a prefix from the cache. */
	s = packed(p, 3, (const int64_t[]){ 11, 9, 10 }, (const int64_t[]){ 51, 65, 66 });
	s = packed(p, 3, (const int64_t[]){ 12, 16, 17 }, (const int64_t[]){ 52, 80, 81 });
	assert_row(s, 1, 3, 16, ENGINE_PREFILL);
	assert_int_equal(p->heard->begin[2].cached, 16);
	play__free(p);
}

/* Two at one position, both at a boundary: which is which is a guess, and said to be. */
static void test_several_at_a_block_boundary(void **state)
{
	struct play *p = play__new();
	struct sequence_facts f;
	const struct heard_step *s;

	packed(p, 4, (const int64_t[]){ 0, 1, 0, 1 }, (const int64_t[]){ 200, 201, 300, 301 });
	s = packed(p, 2, (const int64_t[]){ 2, 2 }, (const int64_t[]){ 500, 600 });
	assert_row(s, 0, 1, 2, ENGINE_DECODE);
	assert_row(s, 1, 2, 2, ENGINE_DECODE);
	assert_true(transformers_sequences__at(p->sequences, 0, &f) && f.inferred);
	assert_int_equal(p->heard->binds, 2);
	/* And from there on by slot again: no other word on it. */
	s = packed(p, 2, (const int64_t[]){ 3, 3 }, (const int64_t[]){ 601, 501 });
	assert_row(s, 0, 2, 3, ENGINE_DECODE);
	assert_row(s, 1, 1, 3, ENGINE_DECODE);
	assert_int_equal(p->heard->binds, 2);
	play__free(p);
}

/* What another one wrote over does not go on. */
static void test_overwritten_sequences(void **state)
{
	struct play *p = play__new();
	const struct heard_step *s;

	packed(p, 2, (const int64_t[]){ 0, 1 }, (const int64_t[]){ 0, 1 });
	packed(p, 2, (const int64_t[]){ 0, 1 }, (const int64_t[]){ 0, 1 });
	assert_int_equal(p->heard->begins, 2);
	s = packed(p, 1, (const int64_t[]){ 2 }, (const int64_t[]){ 2 });
	assert_row(s, 0, 2, 2, ENGINE_DECODE);
	assert_int_equal(p->heard->binds, 0);
	assert_int_equal(p->heard->ends, 0); /* that is for its server to say, or time */
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

/* A prompt in pages that lie apart is one, if nothing else explains where it goes on. */
static void test_pages_apart(void **state)
{
	static const int64_t position[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 };
	static const int64_t slot[] = { 0, 1, 2, 3, 4, 5, 6, 7, 64, 65, 66 };
	static const int64_t apart[] = { 16, 17, 18, 19, 20, 21, 22, 23, 80, 81, 82 };
	static const int64_t theirs[] = { 24, 25, 26, 27, 28, 29, 30, 31, 96 };
	struct play *p = play__new();
	const struct heard_step *s;

	s = packed(p, 11, position, slot);
	assert_int_equal(p->heard->begins, 1);
	assert_int_equal(p->heard->begin[0].prompt, 11);
	assert_int_equal(p->heard->tokens[0], 11);
	assert_row(s, 10, 1, 10, ENGINE_PREFILL);
	assert_int_equal(p->heard->binds, 1);
	assert_int_equal(p->heard->bind.position, 8);
	/* The first page of one that goes on in a page of another: the cache tells. */
	s = packed(p, 9, (const int64_t[]){ 0, 1, 2, 3, 4, 5, 6, 7, 11 },
		   (const int64_t[]){ 16, 17, 18, 19, 20, 21, 22, 23, 67 });
	assert_row(s, 8, 1, 11, ENGINE_DECODE);
	assert_int_equal(p->heard->begins, 2);
	/* One that waits at the beginning of a page is a better explanation of one row. */
	s = packed(p, 9, position, theirs);
	assert_row(s, 7, 3, 7, ENGINE_PREFILL);
	assert_row(s, 8, 2, 8, ENGINE_DECODE);
	assert_int_equal(p->heard->bind.sequence, 2);
	assert_int_equal(p->heard->binds, 2);
	/* But not of several. */
	s = packed(p, 11, position, apart);
	assert_row(s, 10, 4, 10, ENGINE_PREFILL);
	assert_int_equal(p->heard->begins, 4);
	play__free(p);
}

/* Also in pieces of one row; and a text in a full step is no such piece. */
static void test_pieces_of_one_row(void **state)
{
	static const int64_t slot[] = { 0, 1, 2, 3, 4, 5, 6, 7 };
	struct play *p = play__new();
	const struct heard_step *s;
	struct batch full = { 1, 2, text, (const int64_t[]){ 0, 1 }, slot, .slots_bytes = 16 };

	play(p, full);
	full = (struct batch){ 1, 1, text, (const int64_t[]){ 2 }, slot + 2, .slots_bytes = 8 };
	s = play(p, full);
	assert_row(s, 0, 1, 2, ENGINE_PREFILL);
	assert_int_equal(s->step.row[0].output, 0);
	s = packed(p, 1, (const int64_t[]){ 3 }, slot + 3);
	assert_row(s, 0, 1, 3, ENGINE_PREFILL);
	assert_int_equal(s->step.row[0].output, 1);
	full.position = (const int64_t[]){ 4 };
	full.slot = slot + 4;
	s = play(p, full);
	assert_row(s, 0, 1, 4, ENGINE_DECODE);
	assert_int_equal(s->step.row[0].output, 1);
	s = packed(p, 1, (const int64_t[]){ 5 }, slot + 5);
	assert_row(s, 0, 1, 5, ENGINE_DECODE);
	assert_int_equal(p->heard->begins, 1);
	/* Behind a cut prompt and a lost step it may be either. */
	play(p, (struct batch){ 1, 2, text, (const int64_t[]){ 0, 1 }, (const int64_t[]){ 16, 17 },
				.slots_bytes = 16 });
	p->computation++;
	s = packed(p, 1, (const int64_t[]){ 4 }, (const int64_t[]){ 20 });
	assert_row(s, 0, 2, 4, ENGINE_PHASE_UNKNOWN);
	play__free(p);
}

/* --- ends ------------------------------------------------------------------------------------- */

/* A piece of a prompt begins one row before a page: two runs of one sequence, whose last row is the
 * second's. */
static void test_one_row_before_a_page(void **state)
{
	struct play *p = play__new();
	const struct heard_step *s;

	play(p, (struct batch){ 1, 7, text, (const int64_t[]){ 0, 1, 2, 3, 4, 5, 6 },
				(const int64_t[]){ 0, 1, 2, 3, 4, 5, 6 }, .slots_bytes = 56 });
	s = packed(p, 3, (const int64_t[]){ 7, 8, 9 }, (const int64_t[]){ 7, 64, 65 });
	assert_int_equal(p->heard->begins, 1);
	for (uint32_t i = 0; i < 3; i++) {
		assert_row(s, i, 1, 7 + i, ENGINE_PREFILL);
		assert_int_equal(s->step.row[i].output, i == 2);
	}
	play__free(p);
}

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

static void assert_ends(struct play *p, uint64_t before_ns, size_t ends)
{
	assert_int_equal(
		transformers_sequences__end(p->sequences, before_ns, 0, p->now, 0, &p->sink), 0);
	assert_int_equal(p->heard->ends, ends);
}

/* What waits for a slow step is not idle. */
static void test_slow_steps_end_nothing(void **state)
{
	struct play *p = play__new();
	struct aten_thread t = { PLAY_PID, PLAY_THREAD, true, 0 };

	play(p, (struct batch){ 1, 2, text, (const int64_t[]){ 0, 1 } });
	p->now += 30000000000ull;
	transformers_sequences__busy(p->sequences, &t, p->now);
	assert_ends(p, p->now - 10000000000ull, 0);
	t.context = 1;
	p->now += 30000000000ull;
	transformers_sequences__busy(p->sequences, &t, p->now);
	assert_ends(p, p->now - 10000000000ull, 0);
	/* Another model, another thread, another process: nothing of his. */
	p->now += 30000000000ull;
	t.context = 2;
	transformers_sequences__busy(p->sequences, &t, p->now);
	t = (struct aten_thread){ PLAY_PID, PLAY_THREAD + 1, true, 0 };
	transformers_sequences__busy(p->sequences, &t, p->now);
	t = (struct aten_thread){ PLAY_PID + 1, PLAY_THREAD, true, 0 };
	transformers_sequences__busy(p->sequences, &t, p->now);
	assert_ends(p, p->now - 10000000000ull, 1);
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
		cmocka_unit_test(test_continued_by_slot),
		cmocka_unit_test(test_lost_packed_steps),
		cmocka_unit_test(test_at_a_block_boundary),
		cmocka_unit_test(test_several_at_a_block_boundary),
		cmocka_unit_test(test_overwritten_sequences),
		cmocka_unit_test(test_prompts_in_pieces),
		cmocka_unit_test(test_pages_apart),
		cmocka_unit_test(test_pieces_of_one_row),
		cmocka_unit_test(test_one_row_before_a_page),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_slow_steps_end_nothing),
		cmocka_unit_test(test_absent_sequences_end),
		cmocka_unit_test(test_the_ring_wraps),
		cmocka_unit_test(test_a_step_larger_than_the_ring),
	};

	return cmocka_run_group_tests_name("transformers: packed batches", tests, NULL, NULL);
}
