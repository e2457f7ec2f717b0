/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Model families name the same thing differently, and each names only what it varies. So a field
 * is looked for under all names that are known for it, and a layer has a router if none of the
 * rules that the file states says otherwise.
 */
#include "probe/target/model_config.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <json-c/json.h>

#include "probe/base/error.h"
#include "probe/target/model_layers.h"

#define DEPTH_MAX 32
#define NAMES_MAX 8

/* X(field, names of it, the usual one first) */
#define NUMBERS(X) \
	X(blocks, "num_hidden_layers", "n_layers", "num_layers") \
	X(experts, "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts") \
	X(k, "num_experts_per_tok", "num_experts_per_token", "moe_k", "experts_per_token", \
	  "moe_topk", "top_k_experts", "moe_top_k") \
	X(shared_experts, "n_shared_experts", "num_shared_experts", "moe_num_shared_experts", \
	  "num_shared_expert") \
	X(groups, "n_group", "num_expert_group") \
	X(groups_used, "topk_group") \
	X(vocabulary, "vocab_size")

#define TEXTS(X) \
	X(dtype, "dtype", "torch_dtype") \
	X(scoring, "scoring_func", "score_func", "moe_router_activation_func") \
	X(topk_method, "topk_method")

struct names {
	size_t offset, size;
	const char *name[NAMES_MAX]; /* NULL behind the last */
};

#define X(field, ...) \
	{ offsetof(struct model_config, field), \
	  sizeof(((struct model_config *)0)->field), \
	  { __VA_ARGS__ } },
static const struct names numbers[] = { NUMBERS(X) };
static const struct names texts[] = { TEXTS(X) };
#undef X

#define LENGTH(a) (sizeof(a) / sizeof((a)[0]))

/* Where values are looked for, in this order: the part that writes, the whole, the part of dbrx. */
#define SECTIONS_MAX 3

struct sections {
	struct json_object *at[SECTIONS_MAX];
	size_t count;
};

static void copy_text(char *out, size_t size, struct json_object *value)
{
	const char *text = json_object_get_string(value);
	size_t n = (size_t)json_object_get_string_len(value);

	if (n >= size)
		n = size - 1;
	for (size_t i = 0; i < n; i++)
		out[i] = (unsigned char)text[i] < ' ' || text[i] == 0x7f ? '?' : text[i];
	out[n] = '\0';
}

/* The value of @key in @object if it is of @type; NULL. */
static struct json_object *get(struct json_object *object, const char *key, enum json_type type)
{
	struct json_object *value;

	return json_object_is_type(object, json_type_object) &&
			       json_object_object_get_ex(object, key, &value) &&
			       json_object_is_type(value, type)
		       ? value
		       : NULL;
}

static struct json_object *find(const struct sections *s, const char *key, enum json_type type)
{
	struct json_object *value = NULL;

	for (size_t i = 0; i < s->count && !value; i++)
		value = get(s->at[i], key, type);
	return value;
}

static uint32_t to_number(struct json_object *value)
{
	int64_t n = json_object_get_int64(value);

	return n < 0 || n >= MODEL_UNKNOWN ? MODEL_UNKNOWN : (uint32_t)n;
}

/* What a list with one entry for each layer says of all of them. */
static uint32_t to_common_number(struct json_object *list)
{
	size_t n = json_object_array_length(list);
	uint32_t common = MODEL_UNKNOWN;

	for (size_t i = 0; i < n; i++) {
		struct json_object *value = json_object_array_get_idx(list, i);

		if (!json_object_is_type(value, json_type_int) || (i && to_number(value) != common))
			return MODEL_UNKNOWN;
		common = to_number(value);
	}
	return common;
}

static uint32_t find_number(const struct sections *s, const char *const *names)
{
	for (; *names; names++) {
		struct json_object *value = find(s, *names, json_type_int);

		if (value)
			return to_number(value);
		value = find(s, *names, json_type_array);
		if (value)
			return to_common_number(value);
	}
	return MODEL_UNKNOWN;
}

static double find_real(const struct sections *s, const char *key)
{
	struct json_object *value = find(s, key, json_type_double);
	double real;

	if (!value)
		value = find(s, key, json_type_int);
	real = value ? json_object_get_double(value) : NAN;
	return isfinite(real) ? real : NAN;
}

static uint32_t find_boolean(const struct sections *s, const char *key)
{
	struct json_object *value = find(s, key, json_type_boolean);

	return value ? (uint32_t)(json_object_get_boolean(value) != 0) : MODEL_UNKNOWN;
}

/* "rope_scaling", or since version 5 of transformers "rope_parameters", where kinds of attention
 * may have their own. */
static void read_rope(struct model_config *out, const struct sections *s)
{
	struct sections rope = { .count = 1 };
	struct json_object *type, *full;

	rope.at[0] = find(s, "rope_scaling", json_type_object);
	if (!rope.at[0])
		rope.at[0] = find(s, "rope_parameters", json_type_object);
	if (!rope.at[0])
		return;
	full = get(rope.at[0], "full_attention", json_type_object);
	if (full)
		rope.at[0] = full;
	type = find(&rope, "rope_type", json_type_string);
	if (!type)
		type = find(&rope, "type", json_type_string);
	if (type)
		copy_text(out->rope_type, sizeof(out->rope_type), type);
	out->rope_factor = find_real(&rope, "factor");
}

static void add_eos(struct model_config *out, struct json_object *value)
{
	uint32_t token =
		json_object_is_type(value, json_type_int) ? to_number(value) : MODEL_UNKNOWN;

	if (token == MODEL_UNKNOWN || out->eos_count == MODEL_EOS_MAX)
		return;
	for (uint32_t i = 0; i < out->eos_count; i++)
		if (out->eos[i] == token)
			return;
	out->eos[out->eos_count++] = token;
}

/* Called for generation_config.json first: what it says overrides bos and pad. */
static void read_tokens(struct model_config *out, const struct sections *s)
{
	static const char *const bos[] = { "bos_token_id", NULL }, *const pad[] = { "pad_token_id",
										    NULL };
	struct json_object *list = find(s, "eos_token_id", json_type_array);
	size_t n = list ? json_object_array_length(list) : 0;

	if (out->bos == MODEL_UNKNOWN)
		out->bos = find_number(s, bos);
	if (out->pad == MODEL_UNKNOWN)
		out->pad = find_number(s, pad);
	for (size_t i = 0; i < n; i++)
		add_eos(out, json_object_array_get_idx(list, i));
	add_eos(out, find(s, "eos_token_id", json_type_int));
}

/* Some families say how wide the shared expert is instead of how many there are. */
static void read_shared(struct model_config *out, const struct sections *s)
{
	static const char *const widths[] = { "shared_expert_intermediate_size",
					      "shared_intermediate_size", NULL };
	uint32_t width;

	if (out->shared_experts != MODEL_UNKNOWN)
		return;
	width = find_number(s, widths);
	if (width != MODEL_UNKNOWN)
		out->shared_experts = width > 0;
}

static void read_fields(struct model_config *out, const struct sections *s)
{
	for (size_t i = 0; i < LENGTH(numbers); i++)
		*(uint32_t *)((char *)out + numbers[i].offset) = find_number(s, numbers[i].name);
	for (size_t i = 0; i < LENGTH(texts); i++) {
		struct json_object *value = NULL;

		for (const char *const *name = texts[i].name; *name && !value; name++)
			value = find(s, *name, json_type_string);
		if (value)
			copy_text((char *)out + texts[i].offset, texts[i].size, value);
	}
	out->weights_normalised = find_boolean(s, "norm_topk_prob");
	if (out->weights_normalised == MODEL_UNKNOWN)
		out->weights_normalised = find_boolean(s, "moe_renormalize");
	out->routed_scaling = find_real(s, "routed_scaling_factor");
	read_shared(out, s);
	read_rope(out, s);
}

/* Of the whole: what the part that writes says of itself is narrower ("qwen3_vl_moe_text"). */
static void read_identity(struct model_config *out, struct json_object *root)
{
	struct json_object *type = get(root, "model_type", json_type_string), *method, *name = NULL;
	struct json_object *list = get(root, "architectures", json_type_array);

	if (type)
		copy_text(out->model_type, sizeof(out->model_type), type);
	if (list && json_object_array_length(list))
		name = json_object_array_get_idx(list, 0);
	if (json_object_is_type(name, json_type_string))
		copy_text(out->architecture, sizeof(out->architecture), name);
	method = get(get(root, "quantization_config", json_type_object), "quant_method",
		     json_type_string);
	if (method)
		copy_text(out->quantisation, sizeof(out->quantisation), method);
}

static struct sections sections_of(struct json_object *root)
{
	static const char *const inner[] = { "text_config", "language_config", "llm_config" };
	struct sections s = { 0 };
	struct json_object *part = NULL;

	for (size_t i = 0; i < LENGTH(inner) && !part; i++)
		part = get(root, inner[i], json_type_object);
	if (part)
		s.at[s.count++] = part;
	s.at[s.count++] = root;
	part = get(root, "ffn_config", json_type_object);
	if (part)
		s.at[s.count++] = part;
	return s;
}

/* The object that @bytes are; NULL. *@err: 0, -EINVAL, -ENOMEM. The caller puts it. */
static struct json_object *parse_object(const void *bytes, size_t size, int *err)
{
	struct json_tokener *tokener;
	struct json_object *root;

	*err = -EINVAL;
	if (size > MODEL_CONFIG_BYTES_MAX)
		return NULL;
	tokener = json_tokener_new_ex(DEPTH_MAX);
	if (!tokener) {
		*err = -ENOMEM;
		return NULL;
	}
	root = json_tokener_parse_ex(tokener, bytes, (int)size);
	json_tokener_free(tokener);
	if (json_object_is_type(root, json_type_object)) {
		*err = 0;
		return root;
	}
	json_object_put(root);
	return NULL;
}

static void clear(struct model_config *c)
{
	memset(c, 0, sizeof(*c));
	for (size_t i = 0; i < LENGTH(numbers); i++)
		*(uint32_t *)((char *)c + numbers[i].offset) = MODEL_UNKNOWN;
	c->weights_normalised = c->bos = c->pad = MODEL_UNKNOWN;
	c->rope_factor = c->routed_scaling = NAN;
}

/* What is wrong with the numbers; NULL. */
static const char *find_fault(const struct model_config *c)
{
	if (c->blocks != MODEL_UNKNOWN && c->blocks > MODEL_LAYERS_MAX)
		return "it has more layers than are supported";
	if (c->experts != MODEL_UNKNOWN && c->experts > MODEL_EXPERTS_MAX)
		return "it has more experts than are supported";
	if (model_config__is_moe(c) && c->k != MODEL_UNKNOWN && (!c->k || c->k > c->experts))
		return "it chooses more experts than it has, or none";
	return NULL;
}

static int refuse(struct model_config *out, int err, const char *name, const char *why,
		  struct error *e)
{
	clear(out);
	return error__set(e, EXIT_UNSUPPORTED, -err,
			  "check that the model folder is whole and that this engine loads it",
			  "model: failed to read '%s': %s", name, why);
}

static void read_generation(struct model_config *out, const void *bytes, size_t size)
{
	struct sections s = { .count = 1 };
	int err;

	s.at[0] = parse_object(bytes, size, &err);
	if (!s.at[0])
		return;
	read_tokens(out, &s);
	json_object_put(s.at[0]);
}

int model_config__parse(struct model_config *out, const char *name, const void *bytes, size_t size,
			const void *generation, size_t generation_size, struct error *e)
{
	struct json_object *root;
	struct sections s;
	const char *why;
	int err;

	clear(out);
	root = parse_object(bytes, size, &err);
	if (err == -ENOMEM)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL,
				  "model: failed to read '%s': out of memory", name);
	if (!root)
		return refuse(out, -EINVAL, name, "it is broken, or no JSON object", e);
	s = sections_of(root);
	read_identity(out, root);
	read_fields(out, &s);
	if (generation)
		read_generation(out, generation, generation_size);
	read_tokens(out, &s);
	why = find_fault(out);
	if (!why && model_config__is_moe(out) && out->blocks != MODEL_UNKNOWN)
		out->moe_layers = model_layers__find(out->layer_ids, out->blocks, s.at, s.count);
	json_object_put(root);
	if (why)
		return refuse(out, -EINVAL, name, why, e);
	if (!out->model_type[0] && !out->architecture[0])
		return refuse(out, -ENODATA, name, "it is not of a model", e);
	return 0;
}

bool model_config__is_moe(const struct model_config *c)
{
	return c->experts != MODEL_UNKNOWN && c->experts >= 2;
}

static bool is_text(const char *text, size_t size)
{
	return strnlen(text, size) < size;
}

bool model_config__is_sane(const struct model_config *c)
{
	for (size_t i = 0; i < LENGTH(texts); i++)
		if (!is_text((const char *)c + texts[i].offset, texts[i].size))
			return false;
	if (!is_text(c->model_type, sizeof(c->model_type)) ||
	    !is_text(c->architecture, sizeof(c->architecture)) ||
	    !is_text(c->quantisation, sizeof(c->quantisation)) ||
	    !is_text(c->rope_type, sizeof(c->rope_type)))
		return false;
	if (find_fault(c) || c->eos_count > MODEL_EOS_MAX || c->moe_layers > MODEL_LAYERS_MAX ||
	    (c->weights_normalised > 1 && c->weights_normalised != MODEL_UNKNOWN) ||
	    isinf(c->rope_factor) || isinf(c->routed_scaling))
		return false;
	for (uint32_t i = 0; i < c->moe_layers; i++)
		if (c->layer_ids[i] >= MODEL_LAYERS_MAX ||
		    (i && c->layer_ids[i - 1] >= c->layer_ids[i]))
			return false;
	return true;
}
