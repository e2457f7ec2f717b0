/* SPDX-License-Identifier: BSD-2-Clause */
/* Which model a computation is of: by its folder, without one, among several. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/aten_stage.h"

static struct aten_context *fit(struct stage *g, uint64_t key, uint32_t vocabulary,
				uint32_t experts, uint32_t k)
{
	struct aten_identity id = { PLAY_PID, key, vocabulary, experts, k };

	return aten_contexts__fit(g->contexts, &id);
}

/* --- folders ---------------------------------------------------------------------------------- */

static void test_the_only_folder(void **state)
{
	struct stage *g = olmoe();
	struct aten_context *c = fit(g, 1, VOCABULARY, EXPERTS, K);

	assert_non_null(c);
	assert_ptr_equal(c->folder, &g->folders.item[0]);
	assert_true(c->layers_known);
	assert_int_equal(c->layers, LAYERS);
	assert_int_equal(c->layer_id[0], 1);
	assert_int_equal(c->gate.final, ATEN_AS_IS);
	assert_ptr_equal(fit(g, 1, VOCABULARY, EXPERTS, K), c);
	assert_non_null(fit(g, 2, 0, EXPERTS, K)); /* its vocabulary is not known */
	/* Of no model that is there. */
	assert_null(fit(g, 3, VOCABULARY, EXPERTS, K + 1));
	assert_null(fit(g, 3, VOCABULARY, EXPERTS + 1, K));
	assert_null(fit(g, 3, VOCABULARY + 1, EXPERTS, K));
	assert_null(fit(g, 1, VOCABULARY, EXPERTS, K + 1));
	assert_ptr_equal(aten_contexts__find(g->contexts, PLAY_PID, 1), c);
	assert_null(aten_contexts__find(g->contexts, PLAY_PID + 1, 1));
	stage__free(g);
}

static void test_several_folders(void **state)
{
	struct model_folder f[4] = { folder_of("olmoe", 64, 8, 16, 0),
				     folder_of("mixtral", 8, 2, 32, 0),
				     folder_of("qwen3_moe", 64, 8, 24, 0),
				     folder_of("deepseek_v3", 256, 8, 58, 3) };
	struct aten_context *c;
	struct stage *g;

	f[2].config.vocabulary = 2000;
	g = stage__new(f, 4, false);
	assert_ptr_equal(fit(g, 1, 1000, 8, 2)->folder, &g->folders.item[1]);
	assert_ptr_equal(fit(g, 2, 1000, 64, 8)->folder, &g->folders.item[0]);
	assert_ptr_equal(fit(g, 3, 2000, 64, 8)->folder, &g->folders.item[2]);
	/* Two fit: a model, but nobody knows which. */
	c = fit(g, 4, 0, 64, 8);
	assert_non_null(c);
	assert_null(c->folder);
	assert_int_equal(c->gate.final, ATEN_RAW);
	assert_false(c->layers_known);
	/* Read at top-k, where this one's weights are not. */
	c = fit(g, 5, 1000, 256, 8);
	assert_int_equal(c->gate.final, ATEN_RAW);
	assert_true(c->layers_known);
	assert_null(aten_contexts__preview(g->contexts, 7));
	stage__free(g);
	/* What a folder does not say fits. */
	f[0].config.k = f[0].config.vocabulary = MODEL_UNKNOWN;
	g = stage__new(f, 1, false);
	assert_ptr_equal(fit(g, 1, 77, 64, 3)->folder, &g->folders.item[0]);
	assert_int_equal(aten_contexts__preview(g->contexts, 7)->k, ENGINE_UNKNOWN);
	assert_int_equal(aten_contexts__preview(g->contexts, 7)->layers, 16);
	assert_false(aten_contexts__preview(g->contexts, 7)->ordinals);
	stage__free(g);
}

static void test_what_is_said(void **state)
{
	struct model_folder f = folder_of("qwen3_moe", EXPERTS, K, LAYERS, 1);
	struct aten_context *c;
	struct stage *g;

	f.config.weights_normalised = 1;
	f.config.shared_experts = 3;
	g = stage__new(&f, 1, false);
	c = fit(g, 0x77, VOCABULARY, EXPERTS, K);
	assert_int_equal(aten_contexts__say(g->contexts, c, &g->sink), 0);
	assert_int_equal(aten_contexts__say(g->contexts, c, &g->sink), 0);
	assert_int_equal(g->heard->contexts, 1); /* once */
	assert_int_equal(c->id, 1);
	assert_int_equal(g->heard->context.pid, PLAY_PID);
	assert_true(g->heard->context.key == 0x77);
	assert_string_equal(g->heard->context.architecture, "qwen3_moe");
	assert_int_equal(g->heard->context.normalised, 1);
	assert_int_equal(g->heard->context.shared_experts, 3);
	assert_true(g->heard->context.from_file && g->heard->context.whole_last_layer);
	stage__free(g);
	g = unknown();
	c = fit(g, 0x78, 0, 16, 4);
	assert_int_equal(aten_contexts__say(g->contexts, c, &g->sink), 0);
	assert_string_equal(g->heard->context.architecture, "");
	assert_int_equal(g->heard->context.experts, 16);
	assert_int_equal(g->heard->context.k, 4);
	assert_int_equal(g->heard->context.vocabulary, ENGINE_UNKNOWN);
	assert_int_equal(g->heard->context.normalised, ENGINE_UNKNOWN);
	assert_false(g->heard->context.from_file);
	stage__free(g);
}

static void test_ranges(void **state)
{
	struct model_folders m = { .count = 2 };
	struct aten_range r;

	m.item[0] = folder_of("olmoe", 64, 8, 16, 0);
	m.item[1] = folder_of("mixtral", 8, 2, 32, 0);
	m.item[1].config.vocabulary = 32000;
	r = aten_range__of(&m);
	assert_int_equal(r.experts_min, 8);
	assert_int_equal(r.experts_max, 64);
	assert_int_equal(r.k_min, 2);
	assert_int_equal(r.k_max, 8);
	assert_int_equal(r.vocabulary_min, 1000);
	assert_int_equal(r.vocabulary_max, 32000);
	m.item[1].config.k = MODEL_UNKNOWN;
	m.item[1].config.vocabulary = 0;
	r = aten_range__of(&m);
	assert_int_equal(r.k_min, 1);
	assert_int_equal(r.k_max, MP_TOP_K);
	assert_int_equal(r.vocabulary_min, 2);
	assert_int_equal(r.vocabulary_max, INT32_MAX);
	m.count = 0;
	r = aten_range__of(&m);
	assert_int_equal(r.experts_min, 2);
	assert_int_equal(r.k_max, MP_TOP_K);
}

/* --- as steps come ---------------------------------------------------------------------------- */

/* Without a folder layers are as many as a step had, and said before the step is. */
static void test_layers_grow(void **state)
{
	struct stage *g = learnt();

	begin(g, 1, 2);
	for (uint32_t i = 0; i < 4; i++)
		route(g, 1, i, 2);
	begin(g, 2, 2);
	assert_int_equal(g->kept, 1);
	assert_int_equal(g->step[0].layers, 4);
	assert_int_equal(g->step[0].said_layers, 4);
	route(g, 2, 0, 2); /* one was lost, the rest with a cut */
	route(g, 2, 2, 2);
	begin(g, 3, 2);
	assert_int_equal(g->step[1].said_layers, 4);
	for (uint32_t i = 0; i < 6; i++)
		route(g, 3, i, 2);
	assert_int_equal(aten_steps__expire(g->steps, UINT64_MAX, &g->sink), 0);
	assert_int_equal(g->step[2].said_layers, 6);
	assert_int_equal(g->step[2].context, 1);
	assert_int_equal(g->heard->context.layers, 6);
	assert_int_equal(g->heard->context.layer_ids[5], 5);
	assert_true(g->heard->context.ordinals);
	assert_quiet(g);
	stage__free(g);
}

/* Two models in one process, by turns: the embedding tells them apart. */
static void test_two_models(void **state)
{
	struct model_folder f[2] = { folder_of("olmoe", EXPERTS, K, LAYERS, 0),
				     folder_of("olmoe", EXPERTS, K, LAYERS - 1, 0) };
	struct stage *g;

	f[1].config.vocabulary = 2000;
	g = stage__new(f, 2, false);
	for (uint32_t computation = 1; computation <= 4; computation++) {
		struct made m = tokens_of(computation, 2);
		bool second = computation % 2;

		if (second) {
			m.key++;
			m.key_first = 2000;
		}
		assert_int_equal(give(g, m), 0);
		for (uint32_t i = 0; i < LAYERS - second; i++)
			route(g, computation, i, 2);
	}
	assert_int_equal(g->kept, 4);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(g->step[i].context, i % 2 + 1);
		assert_int_equal(g->step[i].layers, LAYERS - !(i % 2));
	}
	assert_int_equal(g->heard->contexts, 2);
	assert_quiet(g);
	stage__free(g);
}

/* A step is of one model: another router in the middle of it is none of its layers, and whoever
 * shows another one twice is another model. */
static void test_another_router(void **state)
{
	struct stage *g = learnt();
	struct made m;

	begin(g, 1, 2);
	route(g, 1, 0, 2);
	m = scores_of(1, 1, 2);
	m.scalar = K + 1;
	assert_int_equal(give(g, m), 0);
	assert_int_equal(g->heard->invalid[ENGINE_INVALID_SHAPE], 1);
	route(g, 1, 2, 2);
	for (uint32_t computation = 2; computation <= 4; computation++) {
		begin(g, computation, 2);
		m.computation = computation;
		m.ordinal = 0;
		assert_int_equal(give(g, m), 0);
	}
	assert_int_equal(g->step[0].layers, 2);
	assert_int_equal(g->step[0].context, 1);
	assert_false(g->step[1].has_context || g->step[2].has_context);
	begin(g, 5, 2);
	assert_int_equal(g->step[3].context, 2);
	assert_int_equal(g->heard->context.k, K + 1);
	assert_int_equal(g->heard->invalid[ENGINE_INVALID_SHAPE], 3);
	assert_int_equal(heard__complaints(g->heard), 3);
	stage__free(g);
}

/* A layer's router as some families have it: among 4 groups, then among the experts. */
static void grouped_layer(struct stage *g, uint32_t computation, uint32_t layer, bool experts)
{
	struct made m = scores_of(computation, 2 * layer, 2);

	m.width = 4;
	assert_int_equal(give(g, m), 0);
	if (experts)
		route(g, computation, 2 * layer + 1, 2);
}

/* The choice among most candidates is the router's, and layers are counted by it alone. */
static void test_a_grouped_router(void **state)
{
	struct stage *g = unknown();

	for (uint32_t computation = 1; computation <= 4; computation++) {
		begin(g, computation, 2);
		for (uint32_t i = 0; i < LAYERS; i++)
			grouped_layer(g, computation, i, computation != 4 || i != 1);
	}
	route(g, 4, 2 * LAYERS, 2); /* where no router is */
	begin(g, 5, 2);
	assert_int_equal(g->kept, 4);
	for (size_t i = 0; i < 4; i++)
		assert_true(g->step[i].has_context);
	assert_int_equal(g->heard->invalid[ENGINE_INVALID_SHAPE], 1);
	assert_int_equal(heard__complaints(g->heard), 1);
	assert_int_equal(g->step[0].layers, LAYERS); /* it waited for the second */
	assert_int_equal(g->step[0].ordinal[LAYERS - 1], LAYERS - 1);
	assert_int_equal(g->step[2].layers, LAYERS);
	for (uint32_t i = 0; i < LAYERS; i++)
		assert_int_equal(g->step[2].ordinal[i], i);
	assert_int_equal(g->step[2].said_layers, LAYERS);
	assert_int_equal(g->step[3].layers, 2); /* one was lost: the rest is not shifted */
	assert_int_equal(g->step[3].ordinal[1], 2);
	assert_int_equal(g->heard->context.experts, EXPERTS);
	assert_int_equal(g->heard->context.layers, LAYERS);
	stage__free(g);
}

/* Nothing is said while computations do not agree; losses make them differ, and what no other one
 * agrees with is lost too. */
static void test_no_agreement(void **state)
{
	struct stage *g = unknown();

	begin(g, 1, 2);
	route(g, 1, 0, 2);
	route(g, 1, 1, 2);
	begin(g, 2, 2);
	route(g, 2, 1, 2); /* the first was lost */
	route(g, 2, 2, 2);
	begin(g, 3, 2);
	route(g, 3, 0, 2);
	route(g, 3, 2, 2);
	begin(g, 4, 2);
	assert_int_equal(g->heard->contexts, 0);
	assert_int_equal(g->heard->lost[ENGINE_LOSS_NO_STEP], 4);
	assert_int_equal(g->kept, 2);
	for (uint32_t computation = 4; computation <= 6; computation++) {
		begin(g, computation, 2);
		route(g, computation, 0, 2);
		route(g, computation, 1, 2);
	}
	begin(g, 7, 2);
	assert_int_equal(g->heard->contexts, 1);
	assert_int_equal(g->heard->lost[ENGINE_LOSS_NO_STEP], 6);
	assert_int_equal(heard__complaints(g->heard), 6);
	assert_int_equal(g->kept, 6);
	for (size_t i = 0; i < 6; i++) {
		assert_int_equal(g->step[i].computation, i + 1);
		assert_int_equal(g->step[i].has_context, i >= 3);
	}
	stage__free(g);
}

/* What waits for another computation is not kept for ever. */
static void test_only_one_computation(void **state)
{
	for (int leaves = 0; leaves < 2; leaves++) {
		struct stage *g = unknown();

		begin(g, 1, 2);
		route(g, 1, 0, 2);
		assert_int_equal(aten_steps__expire(g->steps, g->now + 1, &g->sink), 0);
		assert_int_equal(g->kept, 0);
		assert_quiet(g);
		assert_int_equal(leaves ? aten_steps__leave(g->steps, PLAY_PID, &g->sink)
					: aten_steps__expire(g->steps, UINT64_MAX, &g->sink),
				 0);
		assert_int_equal(g->kept, 1);
		assert_false(g->step[0].has_context);
		assert_int_equal(g->heard->lost[ENGINE_LOSS_NO_STEP], 1);
		assert_int_equal(g->heard->lost_rows[ENGINE_LOSS_NO_STEP], 2);
		stage__free(g);
	}
}

/* The context of a step that is under way became another one: its results are lost, not another
 * model's. */
static void test_a_context_that_is_gone(void **state)
{
	struct stage *g = learnt();

	begin(g, 1, 2);
	route(g, 1, 0, 2);
	route(g, 1, 1, 2);
	assert_non_null(fit(g, PLAY_KEY, VOCABULARY, EXPERTS, K + 1));
	route(g, 1, 2, 2);
	assert_int_equal(g->heard->invalid[ENGINE_INVALID_SHAPE], 1);
	begin(g, 2, 2);
	assert_int_equal(g->kept, 1);
	assert_false(g->step[0].has_context);
	assert_int_equal(g->heard->lost[ENGINE_LOSS_NO_STEP], 2);
	assert_int_equal(g->heard->lost_rows[ENGINE_LOSS_NO_STEP], 4);
	stage__free(g);
}

/* More models than are remembered: the one that was silent longest makes room. */
static void test_many_contexts(void **state)
{
	struct stage *g = unknown();

	for (uint64_t key = 1; key <= ATEN_CONTEXTS_MAX; key++)
		assert_non_null(fit(g, key, 0, 8, 2));
	fit(g, 1, 0, 8, 2);
	assert_non_null(fit(g, 1000, 0, 8, 2));
	assert_non_null(aten_contexts__find(g->contexts, PLAY_PID, 1));
	assert_null(aten_contexts__find(g->contexts, PLAY_PID, 2));
	assert_non_null(aten_contexts__find(g->contexts, PLAY_PID, 1000));
	stage__free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_only_folder),
		cmocka_unit_test(test_several_folders),
		cmocka_unit_test(test_what_is_said),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_layers_grow),
		cmocka_unit_test(test_two_models),
		cmocka_unit_test(test_another_router),
		cmocka_unit_test(test_a_grouped_router),
		cmocka_unit_test(test_no_agreement),
		cmocka_unit_test(test_only_one_computation),
		cmocka_unit_test(test_a_context_that_is_gone),
		cmocka_unit_test(test_many_contexts),
	};

	return cmocka_run_group_tests_name("aten: contexts", tests, NULL, NULL);
}
