/* SPDX-License-Identifier: BSD-2-Clause */
/* The stages of a pipeline: which layers each has, and which of their steps are one forward pass.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "probe/engine/vllm/stages.h"
#include "probe/target/model_config.h"
#include "tests/unit/vllm_play.h"

/* What get_pp_indices of vLLM 0.32 gives; the first @dense layers have no router. */
static void stages(void **state)
{
	static const struct {
		uint32_t blocks, stages, dense, first[4], count[4];
	} cases[] = {
		{ 4, 2, 0, { 0, 2 }, { 2, 2 } },
		{ 5, 2, 0, { 0, 3 }, { 3, 2 } },
		{ 4, 4, 0, { 0, 1, 2, 3 }, { 1, 1, 1, 1 } },
		{ 6, 4, 0, { 0, 1, 3, 5 }, { 1, 2, 2, 1 } },
		{ 27, 4, 1, { 1, 7, 14, 21 }, { 6, 7, 7, 6 } },
		{ 4, 2, 3, { 0, 3 }, { 0, 1 } },
		{ MODEL_UNKNOWN, 2, 0, { 0, 0 }, { 8, 8 } },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct model_config c = { .blocks = cases[i].blocks };
		uint32_t blocks = c.blocks == MODEL_UNKNOWN ? 8 : c.blocks;

		for (uint32_t n = cases[i].dense; n < blocks; n++)
			c.layer_ids[c.moe_layers++] = (uint16_t)n;
		for (uint32_t stage = 0; stage < cases[i].stages; stage++) {
			uint16_t to[32];
			uint32_t count = vllm_stage__layers(to, &c, cases[i].stages, stage);

			assert_int_equal(count, cases[i].count[stage]);
			for (uint32_t n = 0; n < count; n++)
				assert_int_equal(to[n], cases[i].first[stage] + n);
		}
	}
}

/* The second stage sees the rows in another order; they are the same requests', counted once. */
static void stages_are_joined(void **state)
{
	struct play p;

	play__begin(&p);
	ask(&p, "i", "cmpl-x-0", "abc");
	ask(&p, "j", "cmpl-y-0", "de");
	run(&p, "abc", 0, 0);
	run(&p, "de", 0, 8);
	stage(&p, &p.context);
	assert_int_equal(p.heard.batch, 1);
	run(&p, "de", 0, 8);
	run(&p, "abc", 0, 0);
	stage(&p, &p.later);
	assert_int_equal(p.heard.batch, 1);
	assert_string_equal(owner(&p, 0), "cmpl-y");
	assert_string_equal(owner(&p, 2), "cmpl-x");
	assert_true(p.heard.row[1].output && p.heard.row[4].output && !p.heard.row[3].output);
	assert_int_equal(p.heard.row[2].sequence, p.heard.begin[0].sequence);
	give(&p, "i", "f", VLLM_RUNNING);
	give(&p, "j", "g", VLLM_RUNNING);
	/* Each on its own: both are under way at once. */
	run(&p, "f", 3, 3);
	stage(&p, &p.context);
	assert_int_equal(p.heard.batch, 2);
	run(&p, "g", 2, 10);
	stage(&p, &p.context);
	assert_int_equal(p.heard.batch, 3);
	run(&p, "f", 3, 3);
	stage(&p, &p.later);
	assert_int_equal(p.heard.batch, 2);
	assert_int_equal(p.heard.row[0].phase, ENGINE_DECODE);
	run(&p, "g", 2, 10);
	stage(&p, &p.later);
	assert_int_equal(p.heard.batch, 3);
	assert_string_equal(owner(&p, 0), "cmpl-y");
	assert_int_equal(p.heard.begins, 2);
	assert_int_equal(p.heard.binds, 0);
	play__end(&p);
}

/* A step that one stage lost shifts nothing in the others. */
static void stages_lose_steps(void **state)
{
	struct play p;

	play__begin(&p);
	ask(&p, "i", "cmpl-x-0", "abc");
	run(&p, "abc", 0, 0);
	stage(&p, &p.later); /* the first stage lost it, or gives it later */
	assert_int_equal(p.heard.batch, 1);
	assert_string_equal(owner(&p, 0), "cmpl-x");
	give(&p, "i", "d", VLLM_RUNNING);
	run(&p, "d", 3, 3);
	stage(&p, &p.context);
	assert_int_equal(p.heard.batch, 2);
	assert_string_equal(owner(&p, 0), "cmpl-x");
	give(&p, "i", "e", VLLM_RUNNING); /* the second lost that one */
	run(&p, "e", 4, 16);
	stage(&p, &p.context);
	run(&p, "e", 4, 16);
	stage(&p, &p.later);
	assert_int_equal(p.heard.batch, 3);
	assert_string_equal(owner(&p, 0), "cmpl-x");
	assert_int_equal(p.heard.begins, 1);
	run(&p, "e", 4, 16); /* once more: another pass */
	stage(&p, &p.later);
	assert_int_equal(p.heard.batch, 4);
	play__end(&p);
}

/* Who is corrected between two stages is so in both, also where both wait. */
static void stages_are_corrected(void **state)
{
	struct play p;

	play__begin(&p);
	ask(&p, "i", "cmpl-x-0", "ab");
	ask(&p, "j", "cmpl-y-0", "ab");
	run(&p, "ab", 0, 0);
	run(&p, "ab", 0, 8);
	stage(&p, &p.context);
	run(&p, "ab", 0, 8);
	run(&p, "ab", 0, 0);
	stage(&p, &p.later);
	assert_int_equal(p.heard.steps, 0);
	give_first(&p, "i", "d", 0);
	give_first(&p, "j", "c", 0);
	run(&p, "c", 2, 2);
	run(&p, "d", 2, 10);
	stage(&p, &p.context);
	run(&p, "d", 2, 10);
	run(&p, "c", 2, 2);
	stage(&p, &p.later);
	assert_int_equal(p.heard.steps, 4);
	assert_string_equal(owner_in(&p, 0, 0), "cmpl-y");
	assert_string_equal(owner_in(&p, 0, 2), "cmpl-x");
	assert_string_equal(owner_in(&p, 1, 0), "cmpl-x");
	assert_string_equal(owner_in(&p, 1, 2), "cmpl-y");
	assert_string_equal(owner_in(&p, 3, 0), "cmpl-x");
	assert_string_equal(owner_in(&p, 3, 1), "cmpl-y");
	assert_int_equal(p.heard.binds, 0);
	assert_false(p.heard.begin[0].inferred || p.heard.begin[1].inferred);
	play__end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stages),
		cmocka_unit_test(stages_are_joined),
		cmocka_unit_test(stages_lose_steps),
		cmocka_unit_test(stages_are_corrected),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
