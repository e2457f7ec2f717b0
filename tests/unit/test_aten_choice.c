/* SPDX-License-Identifier: BSD-2-Clause */
/* From scores to choices: torch's top-k redone, the families' gates, and what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "probe/engine/aten/choice.h"
#include "probe/engine/aten/select.h"
#include "tests/unit/aten_play.h"

/* --- torch's top-k ---------------------------------------------------------------------------- */

static int by_index(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static bool ranks_before(float a, float b)
{
	return (isnan(a) && !isnan(b)) || a > b;
}

/* Is some score that was not chosen as good as one that was? */
static bool has_tie(const float *score, uint32_t n, const uint32_t *chosen, uint32_t k)
{
	static bool is_chosen[4096];
	bool tie = false;

	memset(is_chosen, 0, sizeof(is_chosen));
	for (uint32_t i = 0; i < k; i++)
		is_chosen[chosen[i]] = true;
	for (uint32_t i = 0; i < k; i++)
		for (uint32_t j = 0; j < n; j++) {
			assert_true(is_chosen[j] || !ranks_before(score[j], score[chosen[i]]));
			tie |= !is_chosen[j] && !ranks_before(score[chosen[i]], score[j]);
		}
	return tie;
}

static bool read_case(FILE *from, float *score, uint32_t *n, uint32_t *wanted, uint32_t *k)
{
	if (fscanf(from, "%u %u", n, k) != 2)
		return false;
	assert_true(*n <= 4096 && *k <= 64);
	for (uint32_t i = 0; i < *n; i++) {
		uint32_t bits;

		assert_int_equal(fscanf(from, "%x", &bits), 1);
		memcpy(&score[i], &bits, sizeof(bits));
	}
	for (uint32_t i = 0; i < *k; i++)
		assert_int_equal(fscanf(from, "%u", &wanted[i]), 1);
	return true;
}

/* The tool was built beside the tests: <build>/tests/{unit/test_x,tools/std_select}. */
static FILE *run_tool(unsigned seed)
{
	char self[400] = "", command[512];
	FILE *from;

	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	*strrchr(self, '/') = '\0';
	snprintf(command, sizeof(command), "'%s/../tools/std_select' %u", self, seed);
	from = popen(command, "r");
	assert_non_null(from);
	return from;
}

static void test_as_the_standard_library(void **state)
{
	static struct scored queue[4096];
	static float score[4096];
	uint32_t n, k, wanted[64], chosen[64], cases = 0, ties = 0;

	for (unsigned seed = 1; seed <= 2; seed++) {
		FILE *from = run_tool(seed);

		while (read_case(from, score, &n, wanted, &k)) {
			bool tie;

			for (uint32_t i = 0; i < n; i++)
				queue[i] = (struct scored){ score[i], i };
			tie = select__top(queue, n, k);
			for (uint32_t i = 0; i < k; i++)
				chosen[i] = queue[i].index;
			qsort(chosen, k, sizeof(*chosen), by_index);
			if (memcmp(chosen, wanted, k * sizeof(*chosen)))
				fail_msg("case %u: %u of %u are not those", cases, k, n);
			assert_int_equal(tie, has_tie(score, n, chosen, k));
			cases++;
			ties += tie;
		}
		assert_int_equal(pclose(from), 0);
	}
	print_message("%u cases, %u with ties\n", cases, ties);
	assert_true(cases > 2000 && ties > 300 && ties < cases);
}

/* --- gates ------------------------------------------------------------------------------------ */

static struct aten_gate gate_of(const char *family, uint32_t normalised, double scale)
{
	struct model_folder f = folder_of(family, 8, 2, 1, 0);

	f.config.weights_normalised = normalised;
	f.config.routed_scaling = scale;
	return aten_gate__of(&f.config);
}

static void test_families(void **state)
{
	static const struct {
		const char *family;
		uint32_t normalised;
		double scale;
		struct aten_gate wanted;
	} cases[] = {
		{ "olmoe", MODEL_UNKNOWN, NAN, { ATEN_AS_IS, 1, false, true } },
		{ "olmoe", 1, NAN, { ATEN_NORMALISED, 1, false, true } },
		{ "qwen2_moe", 0, NAN, { ATEN_AS_IS, 1, false, true } },
		{ "qwen2_moe", MODEL_UNKNOWN, NAN, { ATEN_AS_IS, 1, false, true } },
		{ "qwen3_moe", 1, 7, { ATEN_NORMALISED, 1, false, true } },
		{ "qwen3_moe", MODEL_UNKNOWN, NAN, { ATEN_AS_IS, 1, false, true } },
		{ "mixtral", MODEL_UNKNOWN, NAN, { ATEN_NORMALISED, 1, false, false } },
		{ "mixtral", 0, NAN, { ATEN_NORMALISED, 1, false, false } },
		{ "gpt_oss", MODEL_UNKNOWN, NAN, { ATEN_SOFTMAX, 1, false, true } },
		{ "deepseek_v2", MODEL_UNKNOWN, NAN, { ATEN_AS_IS, 1, false, false } },
		{ "deepseek_v2", 1, 16, { ATEN_AS_IS, 16, false, false } },
		{ "deepseek_v3", MODEL_UNKNOWN, NAN, { ATEN_NORMALISED, 2.5f, true, false } },
		{ "deepseek_v3", 0, 1.5, { ATEN_AS_IS, 1.5f, true, false } },
		{ "dbrx", 1, 2, { ATEN_RAW, 1, false, false } },
		{ "olmoe2", 1, NAN, { ATEN_RAW, 1, false, false } },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct aten_gate g = gate_of(cases[i].family, cases[i].normalised, cases[i].scale);

		assert_int_equal(g.final, cases[i].wanted.final);
		assert_true(g.scale == cases[i].wanted.scale);
		assert_int_equal(g.gathered, cases[i].wanted.gathered);
		assert_int_equal(g.rounded, cases[i].wanted.rounded);
	}
	assert_int_equal(aten_gate__of(NULL).final, ATEN_RAW);
}

static void assert_near(float is, double wanted)
{
	if (fabs(is - wanted) > fabs(wanted) * 2e-7)
		fail_msg("%.9g is not %.9g", is, wanted);
}

static void test_finished_weights(void **state)
{
	static const float scores[] = { 0.5f, 0.25f, 0.125f }, logits[] = { 3, 1, 2 };
	struct aten_gate g = gate_of("deepseek_v2", 0, 16);
	float w[3];

	memcpy(w, scores, sizeof(w));
	aten_gate__finish(&g, w, 3, ATEN_FLOAT);
	for (int i = 0; i < 3; i++)
		assert_near(w[i], 16 * scores[i]);
	g = gate_of("deepseek_v3", 1, 2.5);
	memcpy(w, scores, sizeof(w));
	aten_gate__finish(&g, w, 3, ATEN_FLOAT);
	for (int i = 0; i < 3; i++)
		assert_near(w[i], 2.5 * scores[i] / 0.875);
	g = gate_of("gpt_oss", 0, NAN);
	memcpy(w, logits, sizeof(w));
	aten_gate__finish(&g, w, 3, ATEN_FLOAT);
	for (int i = 0; i < 3; i++)
		assert_near(w[i], exp(logits[i]) / (exp(3) + exp(1) + exp(2)));
	/* Large logits do not overflow. */
	w[0] = 3000;
	w[1] = 2999;
	aten_gate__finish(&g, w, 2, ATEN_FLOAT);
	assert_near(w[0], 1 / (1 + exp(-1)));
	/* Raw ones stay. */
	g = aten_gate__of(NULL);
	memcpy(w, logits, sizeof(w));
	aten_gate__finish(&g, w, 3, ATEN_BFLOAT16);
	assert_memory_equal(w, logits, sizeof(w));
}

/* Of a number that takes more than the type has: to the nearest one, of two to the even one. */
static void test_rounding(void **state)
{
	static const struct {
		uint8_t dtype;
		float from, to;
	} cases[] = {
		{ ATEN_BFLOAT16, 0x1.01p0f, 0x1.00p0f },     /* half way, down to even */
		{ ATEN_BFLOAT16, 0x1.03p0f, 0x1.04p0f },     /* half way, up to even */
		{ ATEN_BFLOAT16, 0x1.010002p0f, 0x1.02p0f }, /* a little more than half way */
		{ ATEN_BFLOAT16, 0x1.fffffep-3f, 0x1p-2f },  /* into the next exponent */
		{ ATEN_BFLOAT16, 0x1.028p-40f, 0x1.02p-40f },
		{ ATEN_HALF, 0x1.002p0f, 0x1p0f },
		{ ATEN_HALF, 0x1.006p0f, 0x1.008p0f },
		{ ATEN_HALF, 0x1.002002p0f, 0x1.004p0f },
		{ ATEN_HALF, 0x1.fffffep-14f, 0x1p-13f },
		/* Below 2^-14 a half has fewer bits. */
		{ ATEN_HALF, 0x1.4bp-20f, 0x1.5p-20f },
		{ ATEN_HALF, 0x1.48p-20f, 0x1.4p-20f },
		{ ATEN_HALF, 0x1.8p-25f, 0x1p-24f },
		{ ATEN_HALF, 0x1p-25f, 0 },
		{ ATEN_HALF, 0x1.ff8p-15f, 0x1.ff8p-15f },
		{ ATEN_FLOAT, 0x1.234566p0f, 0x1.234566p0f },
	};
	struct aten_gate g = gate_of("olmoe", 0, NAN);

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		float is = cases[i].from;

		aten_gate__finish(&g, &is, 1, cases[i].dtype);
		if (is != cases[i].to)
			fail_msg("case %zu: %a, not %a", i, is, cases[i].to);
	}
	for (unsigned dtype = ATEN_HALF; dtype <= ATEN_BFLOAT16;
	     dtype += ATEN_BFLOAT16 - ATEN_HALF) {
		uint32_t bits = 0x7fffffff; /* adding to it must not make a number */
		float is;

		memcpy(&is, &bits, sizeof(is));
		aten_gate__finish(&g, &is, 1, (uint8_t)dtype);
		assert_true(isnan(is));
		is = INFINITY;
		aten_gate__finish(&g, &is, 1, (uint8_t)dtype);
		assert_true(isinf(is));
	}
}

/* --- choices ---------------------------------------------------------------------------------- */

static uint16_t ids[64];
static float weights[64];
static uint8_t flags[64];

static struct aten_choices choices(uint32_t k, uint32_t experts)
{
	return (struct aten_choices){ ids, weights, flags, k, experts, ATEN_FLOAT };
}

static const struct aten_gate raw = { ATEN_RAW, 1, false, false };

static uint32_t select_from(const float *scores, uint32_t rows, uint32_t experts, uint32_t k)
{
	struct made m = { .role = MP_ROLE_SCORES,
			  .dtype = ATEN_FLOAT,
			  .rows = rows,
			  .width = experts,
			  .data = scores };
	struct aten_choices out = choices(k, experts);
	struct made_capture c;
	struct aten_tensor t;
	uint32_t cause;

	assert_int_equal(aten_tensor__open(&t, made__capture(&c, &m)), 0);
	cause = aten_choice__select(&out, &t, &raw);
	made_capture__free(&c);
	return cause;
}

/* Of logits: the chosen ones' shares in the softmax over all. */
static void test_logits(void **state)
{
	static const float logit[8] = { 1, -2, 3, 0.5f, 2, -90, 3, 88 };
	double sum = 0;

	for (int n = 7; n <= 8; n++) {
		const float from[2] = { logit[4], logit[n - 1] };
		float chosen[2] = { from[0], from[1] };

		sum = 0;
		for (int i = 0; i < n; i++)
			sum += exp(logit[i]);
		aten_gate__share(logit, n, chosen, 2);
		for (int i = 0; i < 2; i++)
			assert_float_equal(chosen[i], exp(from[i]) / sum, 1e-7);
		assert_true(chosen[1] > chosen[0]);
	}
}

static void test_selected_in_gate_order(void **state)
{
	static const float scores[3][5] = { { 1, 5, 3, 4, 2 },
					    { 2, 2, 2, 1, 0 },
					    { 7, 7, 1, 1, 0 } };

	assert_int_equal(select_from(&scores[0][0], 3, 5, 2), 0);
	assert_int_equal(ids[0], 1);
	assert_int_equal(ids[1], 3);
	assert_true(weights[0] == 5 && weights[1] == 4);
	assert_int_equal(flags[0], 0);
	assert_int_equal(flags[1], ENGINE_ROUTE_ROW_TIE);
	assert_true(weights[2] == 2 && weights[3] == 2 && ids[2] < ids[3]);
	/* Equal ones that were both chosen are no tie, and in order of their ids. */
	assert_int_equal(flags[2], 0);
	assert_int_equal(ids[4], 0);
	assert_int_equal(ids[5], 1);
}

static void test_scores_that_are_none(void **state)
{
	float scores[4] = { 1, NAN, 2, 3 };

	assert_int_equal(select_from(scores, 1, 4, 1), ENGINE_INVALID_WEIGHT);
	scores[1] = INFINITY;
	assert_int_equal(select_from(scores, 1, 4, 2), ENGINE_INVALID_WEIGHT);
	scores[1] = -INFINITY; /* masked out, and not chosen */
	assert_int_equal(select_from(scores, 1, 4, 3), 0);
	assert_int_equal(select_from(scores, 1, 4, 4), ENGINE_INVALID_WEIGHT);
}

static uint32_t gather(const int64_t *id, uint8_t role, uint8_t dtype, const void *scores,
		       uint32_t width, uint32_t k, const struct aten_gate *gate)
{
	struct made m = { .role = role, .dtype = dtype, .rows = 1, .width = width, .data = scores };
	struct aten_choices out = choices(k, 8);
	struct made_capture c;
	struct aten_tensor t;
	uint32_t cause;

	assert_int_equal(aten_tensor__open(&t, made__capture(&c, &m)), 0);
	cause = aten_choice__gather(&out, id, &t, gate);
	made_capture__free(&c);
	return cause;
}

static void test_gathered(void **state)
{
	static const float scores[8] = { 0, .1f, .2f, .3f, .4f, .5f, .6f, .7f };
	static const float final[2] = { 1.5f, 2.5f };
	const struct aten_gate v3 = gate_of("deepseek_v3", 1, 2.5);
	static const int64_t id[2] = { 2, 6 }, twice[2] = { 3, 3 }, below[2] = { -1, 3 };
	static const int64_t above[2] = { 3, 8 }, far[2] = { 3, 65536 + 4 };

	assert_int_equal(gather(id, MP_ROLE_SCORES, ATEN_FLOAT, scores, 8, 2, &v3), 0);
	assert_int_equal(ids[0], 6);
	assert_int_equal(ids[1], 2);
	assert_near(weights[0], 2.5 * .6f / ((double).2f + .6f));
	assert_int_equal(flags[0], 0);
	/* Final weights are taken as they are. */
	assert_int_equal(gather(id, MP_ROLE_WEIGHTS, ATEN_FLOAT, final, 2, 2, &v3), 0);
	assert_int_equal(ids[0], 6);
	assert_true(weights[0] == 2.5f && weights[1] == 1.5f);
#define REFUSED(why, id, role, dtype, width) \
	assert_int_equal(gather(id, role, dtype, scores, width, 2, &raw), ENGINE_INVALID_##why)
	REFUSED(EXPERT_REPEATED, twice, MP_ROLE_SCORES, ATEN_FLOAT, 8);
	REFUSED(EXPERT_REPEATED, twice, MP_ROLE_WEIGHTS, ATEN_FLOAT, 2);
	REFUSED(EXPERT_RANGE, below, MP_ROLE_SCORES, ATEN_FLOAT, 8);
	REFUSED(EXPERT_RANGE, above, MP_ROLE_SCORES, ATEN_FLOAT, 8);
	REFUSED(EXPERT_RANGE, far, MP_ROLE_WEIGHTS, ATEN_FLOAT, 2);
	REFUSED(SHAPE, id, MP_ROLE_SCORES, ATEN_FLOAT, 7);
	REFUSED(SHAPE, id, MP_ROLE_WEIGHTS, ATEN_FLOAT, 3);
	REFUSED(SHAPE, id, MP_ROLE_SCORES, ATEN_INT, 8);
	assert_int_equal(gather(id, MP_ROLE_WEIGHTS, ATEN_BYTE, scores, 1, 1, &raw),
			 ENGINE_INVALID_SHAPE);
}

/* All scores 0: divided by their sum they are no numbers. */
static void test_nothing_to_normalise(void **state)
{
	static const float scores[8] = { 0 };
	static const int64_t id[2] = { 2, 6 };
	const struct aten_gate g = gate_of("qwen3_moe", 1, NAN);

	assert_int_equal(gather(id, MP_ROLE_SCORES, ATEN_FLOAT, scores, 8, 2, &g),
			 ENGINE_INVALID_WEIGHT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_the_standard_library),
		cmocka_unit_test(test_families),
		cmocka_unit_test(test_finished_weights),
		cmocka_unit_test(test_rounding),
		cmocka_unit_test(test_logits),
		cmocka_unit_test(test_selected_in_gate_order),
		cmocka_unit_test(test_scores_that_are_none),
		cmocka_unit_test(test_gathered),
		cmocka_unit_test(test_nothing_to_normalise),
	};

	return cmocka_run_group_tests_name("aten: choices", tests, NULL, NULL);
}
