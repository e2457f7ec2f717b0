/* SPDX-License-Identifier: BSD-2-Clause */
/* From tensors to steps, and whose they are: what is lost, odd, late or of another model. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/aten_stage.h"

/* --- steps ------------------------------------------------------------------------------------ */

static void test_closed_with_its_last_layer(void **state)
{
	struct stage *g = olmoe();

	begin(g, 1, 4);
	for (uint32_t i = 0; i < LAYERS; i++) {
		assert_int_equal(g->kept, 0);
		route(g, 1, i, 4);
	}
	assert_int_equal(g->kept, 1);
	assert_int_equal(g->step[0].layers, LAYERS);
	assert_int_equal(g->step[0].rows, 4);
	assert_int_equal(g->step[0].batch, 1);
	assert_int_equal(g->step[0].length, 4);
	for (uint32_t i = 0; i < LAYERS; i++)
		assert_int_equal(g->step[0].first_id[i], 7 - i);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(g->step[0].token[i], 10 + i);
	/* A sampler, and whatever comes behind: of no step, and no loss. */
	route(g, 1, LAYERS, 1);
	route(g, 1, LAYERS + 1, 4);
	begin(g, 2, 1);
	assert_int_equal(g->kept, 1);
	assert_quiet(g);
	assert_int_equal(g->heard->contexts, 1);
	assert_int_equal(g->heard->context.layers, LAYERS);
	stage__free(g);
}

static void test_missing_layers(void **state)
{
	struct stage *g = olmoe();

	begin(g, 1, 2);
	route(g, 1, 0, 2);
	route(g, 1, 2, 2); /* 1 was lost */
	assert_int_equal(g->kept, 1);
	assert_int_equal(g->step[0].layers, 2);
	assert_int_equal(g->step[0].ordinal[0], 0);
	assert_int_equal(g->step[0].ordinal[1], 2);
	assert_int_equal(g->step[0].first_id[1], 5);
	begin(g, 2, 2);
	route(g, 2, 1, 2); /* the last one was lost */
	begin(g, 3, 2);
	assert_int_equal(g->kept, 2);
	assert_int_equal(g->step[1].layers, 1);
	assert_int_equal(g->step[1].ordinal[0], 1);
	assert_quiet(g);
	stage__free(g);
}

/* Results of a computation whose beginning did not come, or could not be read. */
static void test_without_a_beginning(void **state)
{
	struct stage *g = olmoe();

	route(g, 1, 0, 5);
	begin(g, 2, 2);
	route(g, 2, 0, 2);
	route(g, 3, 0, 7); /* the beginning of 3 was lost: 2 is over */
	assert_int_equal(g->kept, 1);
	assert_int_equal(g->step[0].computation, 2);
	route(g, 3, 1, 7);
	route(g, 4 | MP_COMPUTATION_REFUSED, 0, 3);
	assert_int_equal(g->heard->lost[ENGINE_LOSS_NO_STEP], 4);
	assert_int_equal(g->heard->lost_rows[ENGINE_LOSS_NO_STEP], 5 + 7 + 7 + 3);
	/* Under way at attach: numbered 0, and nobody's. */
	route(g, 0, 0, 3);
	assert_int_equal(heard__complaints(g->heard), 4);
	begin(g, 5, 2);
	for (uint32_t i = 0; i < LAYERS; i++)
		route(g, 5, i, 2);
	assert_int_equal(g->kept, 2);
	stage__free(g);
}

/* Behind a closed step only what comes behind its layers is none: not the results of a step that
 * was refused and has its number (the kernel forgot the thread and counts anew). */
static void test_behind_a_closed_step(void **state)
{
	struct stage *g = olmoe();

	begin(g, 1, 2);
	for (uint32_t i = 0; i < LAYERS; i++)
		route(g, 1, i, 2);
	route(g, 1, LAYERS, 2);
	assert_quiet(g);
	for (uint32_t i = 0; i <= LAYERS; i++)
		route(g, 1 | MP_COMPUTATION_REFUSED, i, 4);
	assert_int_equal(g->heard->lost[ENGINE_LOSS_NO_STEP], LAYERS + 1);
	assert_int_equal(g->heard->lost_rows[ENGINE_LOSS_NO_STEP], 4 * (LAYERS + 1));
	route(g, 1, LAYERS - 1, 3);
	assert_int_equal(g->heard->lost[ENGINE_LOSS_NO_STEP], LAYERS + 2);
	assert_int_equal(g->kept, 1);
	stage__free(g);
}

/* Under way at attach was one computation a thread: what goes on like that is a model of which no
 * beginning can be seen, and is missing. */
static void test_beginnings_that_nobody_sees(void **state)
{
	struct stage *g = olmoe();

	for (uint32_t i = 0; i < 256; i++)
		route(g, 0, i % LAYERS, 3);
	assert_quiet(g);
	for (uint32_t i = 0; i < 6; i++)
		route(g, 0, i % LAYERS, 3);
	assert_int_equal(g->heard->lost[ENGINE_LOSS_NO_STEP], 6);
	assert_int_equal(g->heard->lost_rows[ENGINE_LOSS_NO_STEP], 18);
	assert_int_equal(give(g, tokens_of(0, 2)), 0); /* no result, and no loss */
	assert_int_equal(heard__complaints(g->heard), 6);
	assert_int_equal(g->kept, 0);
	stage__free(g);
}

static void test_odd_results(void **state)
{
	struct stage *g = olmoe();
	struct made m;

	begin(g, 1, 4);
	route(g, 1, 0, 3); /* rows that nobody announced */
	assert_int_equal(g->heard->invalid[ENGINE_INVALID_ROW_COUNT], 1);
	route(g, 1, 1, 4);
	route(g, 1, 1, 4); /* twice the same */
	route(g, 1, 0, 4); /* backwards */
	route(g, 1, LAYERS, 4);
	assert_int_equal(g->heard->invalid[ENGINE_INVALID_SHAPE], 3);
	m = scores_of(1, 2, 4);
	m.scalar = 0;
	assert_int_equal(give(g, m), 0);
	m.scalar = 65;
	assert_int_equal(give(g, m), 0);
	m.scalar = EXPERTS + 1;
	assert_int_equal(give(g, m), 0);
	m.scalar = 1ll << 32;
	assert_int_equal(give(g, m), 0);
	m.scalar = K + 1; /* another router than the model's */
	assert_int_equal(give(g, m), 0);
	assert_int_equal(g->heard->invalid[ENGINE_INVALID_SHAPE], 8);
	/* A sampler's choice among all tokens is not even looked at. */
	m = (struct made){ .role = MP_ROLE_SCORES,
			   .dtype = ATEN_FLOAT,
			   .rows = 1,
			   .width = VOCABULARY,
			   .computation = 1,
			   .ordinal = 2,
			   .scalar = 50 };
	assert_int_equal(give(g, m), 0);
	assert_int_equal(heard__complaints(g->heard), 9);
	route(g, 1, 2, 4);
	assert_int_equal(g->kept, 1);
	assert_int_equal(g->step[0].layers, 2);
	stage__free(g);
}

/* Without tokens the first result says how many rows there are; later ones, and tokens, agree. */
static void test_rows_that_disagree(void **state)
{
	struct stage *g = olmoe();
	struct made m = { .role = MP_ROLE_STARTS,
			  .dtype = ATEN_INT,
			  .rows = 2,
			  .width = 1,
			  .computation = 1,
			  .key = PLAY_KEY };

	assert_int_equal(give(g, m), 0);
	route(g, 1, 0, 3);
	route(g, 1, 1, 5);
	assert_int_equal(g->heard->invalid[ENGINE_INVALID_ROW_COUNT], 1);
	assert_int_equal(give(g, tokens_of(1, 5)), -EBADMSG);
	assert_int_equal(give(g, tokens_of(1, 2)), -EBADMSG);
	assert_int_equal(give(g, tokens_of(1, 3)), 0);
	route(g, 1, 2, 3);
	assert_int_equal(g->kept, 1);
	assert_int_equal(g->step[0].rows, 3);
	assert_int_equal(g->step[0].tokens, 3);
	stage__free(g);
}

/* A step of which only the result tells the rows, and behind it, of the same hit, the tokens. */
static void begin_with_starts(struct stage *g, uint32_t computation)
{
	struct made m = { .role = MP_ROLE_STARTS,
			  .dtype = ATEN_INT,
			  .rows = 2,
			  .width = 1,
			  .computation = computation };

	assert_int_equal(give(g, m), 0);
}

static void follow(struct stage *g, uint32_t computation)
{
	struct made m = tokens_of(computation, 3);

	m.key = m.key_first = m.key_dtype = 0;
	assert_int_equal(give(g, m), 0);
}

/* A model, or a part of one, of one layer: its last result is its first. */
static void test_one_layer(void **state)
{
	struct model_folder f = folder_of("olmoe", EXPERTS, K, 1, 0);
	struct stage *g;

	tokens_follow = true;
	g = stage__new(&f, 1, false);
	tokens_follow = false;
	for (uint32_t i = 1; i <= 2; i++) {
		begin_with_starts(g, i);
		route(g, i, 0, 3);
		assert_int_equal(g->kept, i - 1);
		follow(g, i);
		assert_int_equal(g->kept, i);
		assert_int_equal(g->step[i - 1].tokens, 3);
		assert_int_equal(g->step[i - 1].layers, 1);
	}
	/* They were lost: it is closed by the next one, or a little later. */
	begin_with_starts(g, 3);
	route(g, 3, 0, 3);
	begin_with_starts(g, 4);
	assert_int_equal(g->kept, 3);
	route(g, 4, 0, 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(aten_steps__expire(g->steps, 0, &g->sink), 0);
	assert_int_equal(g->kept, 4);
	assert_int_equal(g->step[3].tokens, 0);
	/* Where none come any more no step waits. */
	begin_with_starts(g, 5);
	route(g, 5, 0, 3);
	begin_with_starts(g, 6);
	route(g, 6, 0, 3);
	assert_int_equal(g->kept, 6);
	follow(g, 6);
	begin_with_starts(g, 7);
	route(g, 7, 0, 3);
	assert_int_equal(g->kept, 6);
	follow(g, 7);
	assert_int_equal(g->kept, 7);
	assert_int_equal(g->step[6].tokens, 3);
	assert_quiet(g);
	stage__free(g);
}

/* The first result of two was lost in the ring: tokens come with the other, the last. */
static void test_tokens_behind_the_last_result(void **state)
{
	struct model_folder f = folder_of("olmoe", EXPERTS, K, 2, 0);
	struct stage *g;

	tokens_follow = true;
	g = stage__new(&f, 1, false);
	tokens_follow = false;
	begin_with_starts(g, 1);
	route(g, 1, 1, 3);
	follow(g, 1);
	assert_int_equal(g->kept, 1);
	assert_int_equal(g->step[0].tokens, 3);
	assert_int_equal(g->step[0].layers, 1);
	stage__free(g);
}

/* --- results in two tensors ------------------------------------------------------------------- */

static struct made ids_of(uint32_t computation, uint32_t ordinal, uint32_t rows)
{
	static const int64_t id[8][K] = { { 1, 2 }, { 3, 4 }, { 5, 6 }, { 7, 0 } };

	return (struct made){ .role = MP_ROLE_IDS,
			      .dtype = ATEN_LONG,
			      .rows = rows,
			      .width = K,
			      .computation = computation,
			      .ordinal = ordinal,
			      .data = id };
}

static struct stage *deepseek(void)
{
	struct model_folder f = folder_of("deepseek_v3", EXPERTS, K, LAYERS, 1);

	return stage__new(&f, 1, true);
}

/* Both of one hit: with one time. */
static void gathered(struct stage *g, uint32_t computation, uint32_t ordinal, uint32_t ids,
		     uint32_t rows)
{
	struct made a = ids_of(computation, ordinal, ids),
		    b = scores_of(computation, ordinal, rows);

	a.time_ns = b.time_ns = g->now += 1000;
	if (ids)
		assert_int_equal(give(g, a), 0);
	if (rows)
		assert_int_equal(give(g, b), 0);
}

static void test_gathered(void **state)
{
	struct stage *g = deepseek();

	begin(g, 1, 3);
	gathered(g, 1, 0, 3, 3);
	gathered(g, 1, 1, 3, 2); /* of another number of rows */
	assert_int_equal(g->heard->invalid[ENGINE_INVALID_ROW_COUNT], 1);
	gathered(g, 1, 1, 3, 0); /* the scores were given up: the kernel counted that */
	gathered(g, 1, 2, 3, 3);
	assert_int_equal(g->kept, 1);
	assert_int_equal(g->step[0].layers, 2);
	assert_int_equal(g->step[0].ordinal[1], 2);
	assert_int_equal(g->step[0].first_id[0], 2);
	/* Of a computation that is not known: one loss, though it is two tensors. */
	gathered(g, 3, 0, 4, 4);
	assert_int_equal(g->heard->lost[ENGINE_LOSS_NO_STEP], 1);
	assert_int_equal(g->heard->lost_rows[ENGINE_LOSS_NO_STEP], 4);
	gathered(g, 3, 1, 0, 4);
	assert_int_equal(g->heard->lost[ENGINE_LOSS_NO_STEP], 2);
	stage__free(g);
}

/* Final weights, whose number of experts the key says; without their ids nothing. */
static void test_final_weights(void **state)
{
	static const float weight[2][K] = { { .25f, .75f }, { .5f, .5f } };
	struct made w = { .role = MP_ROLE_WEIGHTS,
			  .dtype = ATEN_FLOAT,
			  .rows = 2,
			  .width = K,
			  .computation = 1,
			  .key = 0x5000,
			  .key_first = EXPERTS,
			  .data = weight };
	struct made ids = ids_of(1, 0, 2);
	struct stage *g = unknown();

	begin(g, 1, 2);
	assert_int_equal(give(g, w), 0);
	assert_quiet(g);
	for (uint32_t computation = 1; computation <= 3; computation++) {
		begin(g, computation, 2);
		ids.computation = w.computation = computation;
		ids.time_ns = w.time_ns = g->now += 1000;
		assert_int_equal(give(g, ids), 0);
		assert_int_equal(give(g, w), 0);
	}
	ids.ordinal = w.ordinal = 1;
	ids.time_ns = w.time_ns = g->now += 1000;
	w.key_first = 1u << 20; /* of more experts than ids can name */
	assert_int_equal(give(g, ids), 0);
	assert_int_equal(give(g, w), 0);
	assert_int_equal(g->heard->invalid[ENGINE_INVALID_SHAPE], 1);
	assert_int_equal(aten_steps__expire(g->steps, UINT64_MAX, &g->sink), 0);
	assert_int_equal(g->kept, 3);
	assert_int_equal(g->step[2].layers, 1);
	assert_int_equal(g->step[2].first_id[0], 2);
	stage__free(g);
}

/* --- columns ---------------------------------------------------------------------------------- */

static struct made positions_of(uint32_t computation, const float *angle, uint32_t rows)
{
	return (struct made){ .role = MP_ROLE_POSITIONS,
			      .dtype = ATEN_FLOAT,
			      .rows = rows,
			      .width = 1,
			      .size = { 1, rows, 16 },
			      .dims = 3,
			      .computation = computation,
			      .data = angle };
}

/* Half of the position is what is captured. */
static void test_positions(void **state)
{
	static const float angle[] = { 0, 3.5f, 2.502f, 2.25f, -1, 5e9f, NAN, 100 };
	static const int64_t wanted[] = { 0, 7, 5, -1, -1, -1, -1, 200 };
	struct stage *g = olmoe();

	begin(g, 1, 8);
	assert_int_equal(give(g, positions_of(1, angle, 8)), 0);
	for (uint32_t i = 0; i < LAYERS; i++)
		route(g, 1, i, 8);
	assert_int_equal(g->kept, 1);
	assert_int_equal(g->step[0].positions, 8);
	for (int i = 0; i < 8; i++)
		assert_int_equal(g->step[0].position[i], wanted[i]);
	stage__free(g);
}

/* Where positions are made before tokens are looked up they belong to the step that comes. */
static void test_positions_ahead(void **state)
{
	static const float first[] = { 1, 2 }, second[] = { 3, 4 };
	struct stage *g = olmoe();

	begin(g, 1, 2);
	route(g, 1, 0, 2);
	assert_int_equal(give(g, positions_of(1, first, 2)), 0); /* behind a result of 1 */
	begin(g, 2, 2);
	for (uint32_t i = 0; i < LAYERS; i++)
		route(g, 2, i, 2);
	assert_int_equal(give(g, positions_of(2, second, 2)), 0); /* behind the last one of 2 */
	begin(g, 3, 2);
	begin(g, 4, 2);
	begin(g, 5, 2);
	assert_int_equal(g->kept, 4);
	assert_int_equal(g->step[0].positions, 0);
	assert_int_equal(g->step[1].positions, 2);
	assert_int_equal(g->step[1].position[1], 4);
	assert_int_equal(g->step[2].positions, 2);
	assert_int_equal(g->step[2].position[0], 6);
	assert_int_equal(g->step[3].positions, 0); /* not twice */
	assert_quiet(g);
	stage__free(g);
}

/* --- threads ---------------------------------------------------------------------------------- */

static void test_threads_apart(void **state)
{
	struct stage *g = olmoe();

	for (uint32_t tid = 1; tid <= 2; tid++) {
		struct made m = tokens_of(tid, tid);

		m.tid = tid;
		assert_int_equal(give(g, m), 0);
	}
	for (uint32_t i = 0; i < LAYERS; i++)
		for (uint32_t tid = 1; tid <= 2; tid++) {
			struct made m = scores_of(tid, i, tid);

			m.tid = tid;
			assert_int_equal(give(g, m), 0);
		}
	assert_int_equal(g->kept, 2);
	assert_int_equal(g->step[0].tid, 1);
	assert_int_equal(g->step[1].tid, 2);
	assert_int_equal(g->step[1].rows, 2);
	assert_quiet(g);
	stage__free(g);
}

/* More threads than are followed: the one that was silent longest makes room, and takes nothing of
 * its own along. */
static void test_more_threads_than_are_followed(void **state)
{
	static const float angle[] = { 1, 2 };
	struct stage *g = olmoe();
	struct made m;

	begin(g, 1, 2);
	route(g, 1, 0, 2);
	assert_int_equal(give(g, positions_of(1, angle, 2)), 0);
	for (uint32_t tid = 1000; tid < 1064; tid++) {
		m = tokens_of(1, 2);
		m.tid = tid;
		assert_int_equal(give(g, m), 0);
	}
	assert_int_equal(g->kept, 1);
	assert_int_equal(g->step[0].tid, PLAY_THREAD);
	assert_int_equal(aten_steps__expire(g->steps, UINT64_MAX, &g->sink), 0);
	assert_int_equal(g->kept, 65);
	for (size_t i = 1; i < g->kept; i++)
		assert_int_equal(g->step[i].positions, 0);
	stage__free(g);
}

static void test_expire_and_leave(void **state)
{
	struct stage *g = olmoe();
	struct made m = tokens_of(1, 2);

	begin(g, 1, 2); /* at 1000 */
	m.tid = 2;
	m.tgid = 9;
	assert_int_equal(give(g, m), 0); /* at 2000 */
	assert_int_equal(aten_steps__expire(g->steps, 1000, &g->sink), 0);
	assert_int_equal(g->kept, 0);
	assert_int_equal(aten_steps__expire(g->steps, 1001, &g->sink), 0);
	assert_int_equal(g->kept, 1);
	assert_int_equal(g->step[0].tgid, PLAY_PID);
	assert_false(g->step[0].has_context);
	route(g, 1, 0, 2); /* late */
	assert_int_equal(g->heard->lost[ENGINE_LOSS_NO_STEP], 1);
	assert_int_equal(aten_steps__leave(g->steps, 8, &g->sink), 0);
	assert_int_equal(g->kept, 1);
	assert_int_equal(aten_steps__leave(g->steps, 9, &g->sink), 0);
	assert_int_equal(g->kept, 2);
	assert_int_equal(aten_steps__leave(g->steps, 9, &g->sink), 0);
	assert_int_equal(g->kept, 2);
	stage__free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_closed_with_its_last_layer),
		cmocka_unit_test(test_missing_layers),
		cmocka_unit_test(test_without_a_beginning),
		cmocka_unit_test(test_behind_a_closed_step),
		cmocka_unit_test(test_beginnings_that_nobody_sees),
		cmocka_unit_test(test_odd_results),
		cmocka_unit_test(test_rows_that_disagree),
		cmocka_unit_test(test_one_layer),
		cmocka_unit_test(test_tokens_behind_the_last_result),
		cmocka_unit_test(test_gathered),
		cmocka_unit_test(test_final_weights),
		cmocka_unit_test(test_positions),
		cmocka_unit_test(test_positions_ahead),
		cmocka_unit_test(test_threads_apart),
		cmocka_unit_test(test_more_threads_than_are_followed),
		cmocka_unit_test(test_expire_and_leave),
	};

	return cmocka_run_group_tests_name("aten: steps", tests, NULL, NULL);
}
