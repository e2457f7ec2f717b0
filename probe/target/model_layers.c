/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Layers count from 0. A layer has a router unless one of the rules in the file says otherwise:
 *
 *   moe_layers               list of the layers that have one
 *   interleave_moe_layer_step  every n-th, the n-th first; no rule where there is that list
 *   mlp_layer_types          "sparse" or "dense" for each layer
 *   first_k_dense_replace, num_dense_layers  the first n have none; no rule where there are types
 *   mlp_only_layers          list of layers that have none
 *   decoder_sparse_step      every n-th, the n-th first
 *   moe_layer_freq           every n-th, layer 0 first; or a list of 0 and 1 for each layer
 *   expert_layer_period, expert_layer_offset  layer modulo period is offset
 *   moe_layer_interval, moe_layer_start_index, moe_layer_end_index  every n-th, the n-th first,
 *                            from start to end, which -1 means the last
 *
 * A step of 0 means none.
 */
#include "probe/target/model_layers.h"

#include <stdbool.h>
#include <string.h>

#include <json-c/json.h>

#include "probe/target/model_config.h"

struct rules {
	struct json_object *const *section;
	size_t count;
	uint32_t blocks;
	bool has_router[MODEL_LAYERS_MAX];
};

static struct json_object *find(const struct rules *r, const char *key, enum json_type type)
{
	struct json_object *value;

	for (size_t i = 0; i < r->count; i++)
		if (json_object_object_get_ex(r->section[i], key, &value) &&
		    json_object_is_type(value, type))
			return value;
	return NULL;
}

/* False if there is no such number. A negative one is -1, a large one the limit of layers. */
static bool find_number(const struct rules *r, const char *key, int64_t *out)
{
	struct json_object *value = find(r, key, json_type_int);

	if (!value)
		return false;
	*out = json_object_get_int64(value);
	if (*out < 0)
		*out = -1;
	if (*out > MODEL_LAYERS_MAX)
		*out = MODEL_LAYERS_MAX;
	return true;
}

/* Keep layers of which (layer + @shift) is a multiple of @step. */
static void keep_every(struct rules *r, int64_t step, uint32_t shift)
{
	for (uint32_t i = 0; i < r->blocks; i++)
		r->has_router[i] &= step > 0 && (i + shift) % step == 0;
}

static void drop_first(struct rules *r, const char *key)
{
	int64_t n;

	if (find_number(r, key, &n))
		for (uint32_t i = 0; i < r->blocks && i < n; i++)
			r->has_router[i] = false;
}

/* Mark the layers that the list at @key names. False: there is no list. */
static bool mark_listed(const struct rules *r, const char *key, bool *listed)
{
	struct json_object *list = find(r, key, json_type_array);
	size_t n = list ? json_object_array_length(list) : 0;

	memset(listed, 0, MODEL_LAYERS_MAX * sizeof(*listed));
	for (size_t i = 0; i < n; i++) {
		struct json_object *value = json_object_array_get_idx(list, i);
		int64_t layer = json_object_is_type(value, json_type_int)
					? json_object_get_int64(value)
					: -1;

		if (layer >= 0 && layer < MODEL_LAYERS_MAX)
			listed[layer] = true;
	}
	return list;
}

static void apply_lists(struct rules *r)
{
	bool listed[MODEL_LAYERS_MAX];
	int64_t step;

	if (mark_listed(r, "moe_layers", listed)) {
		for (uint32_t i = 0; i < r->blocks; i++)
			r->has_router[i] &= listed[i];
	} else if (find_number(r, "interleave_moe_layer_step", &step)) {
		keep_every(r, step, 1);
	}
	mark_listed(r, "mlp_only_layers", listed);
	for (uint32_t i = 0; i < r->blocks; i++)
		r->has_router[i] &= !listed[i];
}

static void apply_types(struct rules *r)
{
	struct json_object *list = find(r, "mlp_layer_types", json_type_array);
	size_t n = list ? json_object_array_length(list) : 0;

	if (!list) {
		drop_first(r, "first_k_dense_replace");
		drop_first(r, "num_dense_layers");
	}
	for (uint32_t i = 0; i < r->blocks && i < n; i++) {
		struct json_object *type = json_object_array_get_idx(list, i);

		if (json_object_is_type(type, json_type_string))
			r->has_router[i] &= !strcmp(json_object_get_string(type), "sparse");
	}
}

static void apply_frequency(struct rules *r)
{
	struct json_object *list = find(r, "moe_layer_freq", json_type_array);
	size_t n = list ? json_object_array_length(list) : 0;
	int64_t step;

	for (uint32_t i = 0; i < r->blocks && i < n; i++)
		r->has_router[i] &= json_object_get_int64(json_object_array_get_idx(list, i)) != 0;
	if (!list && find_number(r, "moe_layer_freq", &step))
		keep_every(r, step, 0);
	if (find_number(r, "decoder_sparse_step", &step))
		keep_every(r, step, 1);
}

static void apply_ranges(struct rules *r)
{
	int64_t period, offset = 0, first, last;

	if (find_number(r, "expert_layer_period", &period)) {
		find_number(r, "expert_layer_offset", &offset);
		for (uint32_t i = 0; i < r->blocks; i++)
			r->has_router[i] &= period > 0 && i % period == offset;
	}
	if (find_number(r, "moe_layer_interval", &period))
		keep_every(r, period, 1);
	drop_first(r, "moe_layer_start_index");
	if (find_number(r, "moe_layer_end_index", &last) && last >= 0)
		for (first = last + 1; first < r->blocks; first++)
			r->has_router[first] = false;
}

uint32_t model_layers__find(uint16_t *ids, uint32_t blocks, struct json_object *const *section,
			    size_t count)
{
	struct rules r = { .section = section, .count = count, .blocks = blocks };
	uint32_t n = 0;

	if (r.blocks > MODEL_LAYERS_MAX)
		r.blocks = MODEL_LAYERS_MAX;
	memset(r.has_router, true, sizeof(r.has_router));
	apply_lists(&r);
	apply_types(&r);
	apply_frequency(&r);
	apply_ranges(&r);
	for (uint32_t i = 0; i < r.blocks; i++)
		if (r.has_router[i])
			ids[n++] = (uint16_t)i;
	return n;
}
