/* SPDX-License-Identifier: BSD-2-Clause */
/* What is read out of the config.json of real models, and what is made of impossible ones. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "probe/base/error.h"
#include "probe/target/model_config.h"
#include "tests/unit/model_configs.h"

/* From memory of exactly this size, so that sanitizers see a read outside. */
static int parse(struct model_config *c, const char *text, size_t n, struct error *e)
{
	char *exact = malloc(n ? n : 1);
	int err;

	memcpy(exact, text, n);
	err = model_config__parse(c, "file", exact, n, NULL, 0, e);
	free(exact);
	assert_true(model_config__is_sane(c));
	return err;
}

static struct model_config read_config(const char *text)
{
	struct model_config c;
	struct error e = { 0 };

	assert_int_equal(parse(&c, text, strlen(text), &e), 0);
	assert_false(error__is_set(&e));
	return c;
}

static void check_layers(const struct model_config *c, uint32_t first, uint32_t count)
{
	assert_int_equal(c->moe_layers, count);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(c->layer_ids[i], first + i);
}

static void check_geometry(const struct model_config *c, uint32_t blocks, uint32_t experts,
			   uint32_t k, uint32_t shared, uint32_t vocabulary)
{
	assert_int_equal(c->blocks, blocks);
	assert_int_equal(c->experts, experts);
	assert_int_equal(c->k, k);
	assert_int_equal(c->shared_experts, shared);
	assert_int_equal(c->vocabulary, vocabulary);
	assert_true(model_config__is_moe(c));
}

static void reads_olmoe(void **state)
{
	struct model_config c = read_config(config_olmoe);

	assert_string_equal(c.model_type, "olmoe");
	assert_string_equal(c.architecture, "OlmoeForCausalLM");
	assert_string_equal(c.dtype, "bfloat16");
	assert_string_equal(c.quantisation, "");
	assert_string_equal(c.scoring, "");
	assert_string_equal(c.topk_method, "");
	assert_string_equal(c.rope_type, "default");
	assert_true(isnan(c.rope_factor) && isnan(c.routed_scaling));
	check_geometry(&c, 16, 64, 8, MODEL_UNKNOWN, 50304);
	check_layers(&c, 0, 16);
	assert_int_equal(c.weights_normalised, 0);
	assert_int_equal(c.groups, MODEL_UNKNOWN);
	assert_int_equal(c.groups_used, MODEL_UNKNOWN);
	assert_int_equal(c.bos, MODEL_UNKNOWN);
	assert_int_equal(c.pad, 1);
	assert_int_equal(c.eos_count, 1);
	assert_int_equal(c.eos[0], 50279);
}

static void reads_other_families(void **state)
{
	struct model_config c = read_config(config_qwen3_moe);

	assert_string_equal(c.model_type, "qwen3_moe");
	check_geometry(&c, 24, 128, 8, MODEL_UNKNOWN, 151936);
	check_layers(&c, 0, 24);
	assert_int_equal(c.weights_normalised, 0);
	assert_int_equal(c.eos_count, 0);

	c = read_config(config_mixtral);
	assert_string_equal(c.architecture, ""); /* saved without weights */
	check_geometry(&c, 32, 8, 2, MODEL_UNKNOWN, 32000);
	check_layers(&c, 0, 32);
	assert_int_equal(c.weights_normalised, MODEL_UNKNOWN);
	assert_int_equal(c.bos, 1);
	assert_int_equal(c.eos[0], 2);

	c = read_config(config_gpt_oss);
	assert_string_equal(c.model_type, "gpt_oss");
	check_geometry(&c, 36, 128, 4, MODEL_UNKNOWN, 201088);
	check_layers(&c, 0, 36);
	assert_string_equal(c.rope_type, "yarn");
	assert_true(c.rope_factor == 32.0);
}

static void reads_deepseek(void **state)
{
	struct model_config c = read_config(config_deepseek_v2);

	check_geometry(&c, 32, 64, MODEL_UNKNOWN, 2, 102400);
	check_layers(&c, 0, 32);
	assert_string_equal(c.topk_method, "greedy");

	c = read_config(config_deepseek_v2_lite);
	check_geometry(&c, 27, 64, 6, 2, 102400);
	check_layers(&c, 1, 26);
	assert_string_equal(c.scoring, "softmax");
	assert_string_equal(c.rope_type, "yarn");
	assert_true(c.rope_factor == 40.0 && c.routed_scaling == 1.0);
	assert_int_equal(c.groups, 1);

	c = read_config(config_deepseek_v3);
	check_geometry(&c, 61, 256, 8, 1, 129280);
	check_layers(&c, 3, 58);
	assert_int_equal(c.groups, 8);
	assert_int_equal(c.groups_used, 4);
	assert_int_equal(c.weights_normalised, 1);
	assert_true(c.routed_scaling == 2.5);

	c = read_config(config_deepseek_v3_fp8);
	check_layers(&c, 3, 58);
	assert_string_equal(c.quantisation, "fp8");
	assert_string_equal(c.scoring, "sigmoid");
	assert_string_equal(c.topk_method, "noaux_tc");
	assert_string_equal(c.dtype, "bfloat16");
}

/* The part that sees has layers too, and they are not meant. */
static void reads_the_part_that_writes(void **state)
{
	struct model_config c = read_config(config_qwen3_vl_moe);

	assert_string_equal(c.model_type, "qwen3_vl_moe");
	check_geometry(&c, 4, 60, 4, MODEL_UNKNOWN, 151936);
	check_layers(&c, 0, 4);
}

static void a_dense_model_is_no_error(void **state)
{
	struct model_config c = read_config(config_llama);

	assert_int_equal(c.blocks, 32);
	assert_int_equal(c.experts, MODEL_UNKNOWN);
	assert_int_equal(c.moe_layers, 0);
	assert_false(model_config__is_moe(&c));
	c = read_config("{\"model_type\":\"x\",\"num_hidden_layers\":4,\"num_experts\":0}");
	assert_false(model_config__is_moe(&c));
	c = read_config("{\"model_type\":\"x\",\"num_hidden_layers\":4,\"num_experts\":1}");
	assert_false(model_config__is_moe(&c));
	c = read_config("{\"model_type\":\"x\",\"n_routed_experts\":null}");
	assert_false(model_config__is_moe(&c));
}

#define SIX "{\"model_type\":\"x\",\"num_hidden_layers\":6,\"num_experts\":4"

/* Which of six layers have a router, as digits. */
static void follows_rules_of_layers(void **state)
{
	static const struct {
		const char *rule, *layers;
	} cases[] = {
		{ "", "012345" },
		{ ",\"first_k_dense_replace\":2", "2345" },
		{ ",\"first_k_dense_replace\":-1", "012345" },
		{ ",\"num_dense_layers\":1", "12345" },
		{ ",\"first_k_dense_replace\":1,\"moe_layer_freq\":2", "24" },
		{ ",\"moe_layer_freq\":[0,1,1,0]", "1245" },
		{ ",\"moe_layer_freq\":0", "" },
		{ ",\"decoder_sparse_step\":2", "135" },
		{ ",\"decoder_sparse_step\":2,\"mlp_only_layers\":[3,99,-1,\"x\"]", "15" },
		{ ",\"interleave_moe_layer_step\":3", "25" },
		{ ",\"interleave_moe_layer_step\":0", "" },
		{ ",\"interleave_moe_layer_step\":3,\"moe_layers\":[0,4,6,1e3]", "04" },
		{ ",\"moe_layers\":null,\"interleave_moe_layer_step\":2", "135" },
		{ ",\"mlp_layer_types\":[\"dense\",\"sparse\",\"sparse\",\"dense\",\"sparse\","
		  "\"sparse\"],\"first_k_dense_replace\":3",
		  "1245" },
		{ ",\"expert_layer_period\":2,\"expert_layer_offset\":1", "135" },
		{ ",\"expert_layer_period\":3", "03" },
		{ ",\"moe_layer_start_index\":1,\"moe_layer_end_index\":4,\"moe_layer_interval\":1",
		  "1234" },
		{ ",\"moe_layer_start_index\":1,\"moe_layer_end_index\":-1,\"moe_layer_interval\":"
		  "2",
		  "135" },
		{ ",\"decoder_sparse_step\":9223372036854775807", "" },
		{ ",\"first_k_dense_replace\":99999999999999999999", "" },
		{ ",\"decoder_sparse_step\":\"2\"", "012345" },
		{ ",\"text_config\":{\"num_hidden_layers\":3,\"first_k_dense_replace\":1}", "12" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct model_config c;
		char text[512], layers[16] = "";

		snprintf(text, sizeof(text), SIX "%s}", cases[i].rule);
		c = read_config(text);
		for (uint32_t j = 0; j < c.moe_layers; j++)
			layers[j] = (char)('0' + c.layer_ids[j]);
		assert_string_equal(layers, cases[i].layers);
	}
}

static void knows_other_names(void **state)
{
	struct model_config c;

	c = read_config("{\"model_type\":\"hunyuan\",\"num_hidden_layers\":2,\"num_experts\":8,"
			"\"moe_topk\":[4,4],\"num_shared_expert\":[1,1]}");
	check_geometry(&c, 2, 8, 4, 1, MODEL_UNKNOWN);
	c = read_config("{\"model_type\":\"x\",\"num_hidden_layers\":2,\"num_experts\":8,"
			"\"moe_topk\":[4,3]}");
	assert_int_equal(c.k, MODEL_UNKNOWN);
	c = read_config("{\"model_type\":\"dbrx\",\"n_layers\":2,\"ffn_config\":"
			"{\"moe_num_experts\":16,\"moe_top_k\":4}}");
	check_geometry(&c, 2, 16, 4, MODEL_UNKNOWN, MODEL_UNKNOWN);
	c = read_config(SIX ",\"shared_expert_intermediate_size\":512}");
	assert_int_equal(c.shared_experts, 1);
	c = read_config(SIX ",\"shared_expert_intermediate_size\":0}");
	assert_int_equal(c.shared_experts, 0);
	c = read_config(SIX ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2},"
			    "\"rope_parameters\":{\"rope_type\":\"default\"}}");
	assert_string_equal(c.rope_type, "linear");
	assert_true(c.rope_factor == 2.0);
	c = read_config(SIX ",\"rope_parameters\":{\"full_attention\":"
			    "{\"rope_type\":\"yarn\",\"factor\":4.5}}}");
	assert_string_equal(c.rope_type, "yarn");
	assert_true(c.rope_factor == 4.5);
}

static void merges_token_ids(void **state)
{
	static const char config[] = SIX ",\"bos_token_id\":7,\"pad_token_id\":8,"
					 "\"eos_token_id\":3}";
	static const char generation[] = "{\"bos_token_id\":9,\"eos_token_id\":[1,2,1,-1,null]}";
	struct model_config c;

	assert_int_equal(model_config__parse(&c, "f", config, strlen(config), generation,
					     strlen(generation), NULL),
			 0);
	assert_int_equal(c.bos, 9);
	assert_int_equal(c.pad, 8);
	assert_int_equal(c.eos_count, 3);
	assert_int_equal(c.eos[0], 1);
	assert_int_equal(c.eos[1], 2);
	assert_int_equal(c.eos[2], 3);
	assert_int_equal(model_config__parse(&c, "f", config, strlen(config), "{\"bos", 5, NULL),
			 0);
	assert_int_equal(c.bos, 7);
	c = read_config(SIX ",\"eos_token_id\":[1,2,3,4,5,6,7,8,9,10]}");
	assert_int_equal(c.eos_count, MODEL_EOS_MAX);
}

/* Values of other types and sizes are as if they were not there. */
static void absurd_values_are_unknown(void **state)
{
	struct model_config c;

	c = read_config("{\"model_type\":[],\"architectures\":[\"A\\u001b[31m\",2],"
			"\"num_hidden_layers\":\"6\",\"num_experts\":{},\"num_local_experts\":16,"
			"\"num_experts_per_tok\":2.0,\"vocab_size\":-1,\"norm_topk_prob\":\"no\","
			"\"scoring_func\":7,\"routed_scaling_factor\":Infinity,"
			"\"rope_scaling\":[1],\"quantization_config\":\"fp8\","
			"\"eos_token_id\":\"x\",\"bos_token_id\":4294967295,"
			"\"n_group\":18446744073709551616,\"torch_dtype\":null}");
	assert_string_equal(c.model_type, "");
	assert_string_equal(c.architecture, "A?[31m");
	assert_int_equal(c.blocks, MODEL_UNKNOWN);
	assert_int_equal(c.experts, 16);
	assert_int_equal(c.k, MODEL_UNKNOWN);
	assert_int_equal(c.vocabulary, MODEL_UNKNOWN);
	assert_int_equal(c.weights_normalised, MODEL_UNKNOWN);
	assert_true(isnan(c.routed_scaling));
	assert_string_equal(c.quantisation, "");
	assert_string_equal(c.dtype, "");
	assert_int_equal(c.eos_count, 0);
	assert_int_equal(c.bos, MODEL_UNKNOWN);
	assert_int_equal(c.groups, MODEL_UNKNOWN);
	assert_int_equal(c.moe_layers, 0);
}

static void refuse(const char *text, size_t n, int err, const char *why)
{
	struct error e = { 0 };
	struct model_config c;

	assert_int_equal(parse(&c, text, n, &e), err);
	assert_int_equal(e.exit, EXIT_UNSUPPORTED);
	assert_true(strstr(e.what, "model: failed to read 'file': ") == e.what);
	assert_string_equal(e.what + strlen("model: failed to read 'file': "), why);
	assert_int_equal(c.experts, MODEL_UNKNOWN);
	assert_int_equal(c.moe_layers, 0);
}

static void refuse_text(const char *text, int err, const char *why)
{
	refuse(text, strlen(text), err, why);
}

static void refuses_what_cannot_be(void **state)
{
	static const char broken[] = "it is broken, or no JSON object";
	static char deep[200000];

	refuse_text("", -EINVAL, broken);
	refuse_text("[1]", -EINVAL, broken);
	refuse_text("null", -EINVAL, broken);
	refuse("\0{}", 3, -EINVAL, broken);
	refuse_text("{}", -ENODATA, "it is not of a model");
	refuse_text("{\"auths\":{\"x\":1}}", -ENODATA, "it is not of a model");
	refuse_text("{\"model_type\":\"x\",\"num_hidden_layers\":1025}", -EINVAL,
		    "it has more layers than are supported");
	refuse_text("{\"model_type\":\"x\",\"num_experts\":1000000000}", -EINVAL,
		    "it has more experts than are supported");
	refuse_text("{\"model_type\":\"x\",\"num_experts\":4,\"num_experts_per_tok\":5}", -EINVAL,
		    "it chooses more experts than it has, or none");
	refuse_text("{\"model_type\":\"x\",\"num_experts\":4,\"num_experts_per_tok\":0}", -EINVAL,
		    "it chooses more experts than it has, or none");
	memset(deep, '[', sizeof(deep));
	refuse(deep, sizeof(deep), -EINVAL, broken);
	for (size_t i = 0; i + 5 <= sizeof(deep); i += 5)
		memcpy(deep + i, "{\"a\":", 5);
	refuse(deep, sizeof(deep), -EINVAL, broken);
}

static void refuses_every_cut(void **state)
{
	struct model_config c;

	for (size_t n = 0; n < strlen(config_gpt_oss); n++)
		assert_int_equal(parse(&c, config_gpt_oss, n, NULL), -EINVAL);
}

static void bounds_the_size(void **state)
{
	size_t n = MODEL_CONFIG_BYTES_MAX + 1;
	char *text = malloc(n);
	struct model_config c;

	memset(text, ' ', n);
	memcpy(text, SIX "}", strlen(SIX "}"));
	assert_int_equal(model_config__parse(&c, "f", text, n - 1, NULL, 0, NULL), 0);
	assert_int_equal(model_config__parse(&c, "f", text, n, NULL, 0, NULL), -EINVAL);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_olmoe),
		cmocka_unit_test(reads_other_families),
		cmocka_unit_test(reads_deepseek),
		cmocka_unit_test(reads_the_part_that_writes),
		cmocka_unit_test(a_dense_model_is_no_error),
		cmocka_unit_test(follows_rules_of_layers),
		cmocka_unit_test(knows_other_names),
		cmocka_unit_test(merges_token_ids),
		cmocka_unit_test(absurd_values_are_unknown),
		cmocka_unit_test(refuses_what_cannot_be),
		cmocka_unit_test(refuses_every_cut),
		cmocka_unit_test(bounds_the_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
