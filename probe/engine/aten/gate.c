/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/aten/gate.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "probe/engine/aten/tensor.h"
#include "probe/target/model_config.h"

/* What is done with the chosen scores; BY_CONFIG: normalised if norm_topk_prob says so. */
enum rule { AS_IS, NORMALISED, SOFTMAX, BY_CONFIG };

static const struct family {
	const char *model_type;
	enum rule rule;
	uint32_t normalised; /* BY_CONFIG, where config.json does not say: the family's default */
	float scale;         /* routed_scaling_factor, where it does not say; 0: not scaled */
	bool gathered;
	bool rounded; /* to the model's type, before they are multiplied */
} families[] = {
	{ "olmoe", BY_CONFIG, 0, 0, false, true },
	{ "qwen2_moe", BY_CONFIG, 0, 0, false, true },
	{ "qwen3_moe", BY_CONFIG, 0, 0, false, true },
	{ "mixtral", NORMALISED, 0, 0, false, false },
	{ "gpt_oss", SOFTMAX, 0, 0, false, true },
	{ "deepseek_v2", AS_IS, 0, 1, false, false },
	{ "deepseek_v3", BY_CONFIG, 1, 2.5f, true, false },
};

static enum aten_final final_of(const struct family *f, const struct model_config *c)
{
	uint32_t normalised =
		c->weights_normalised == MODEL_UNKNOWN ? f->normalised : c->weights_normalised;

	switch (f->rule) {
	case AS_IS:
		return ATEN_AS_IS;
	case NORMALISED:
		return ATEN_NORMALISED;
	case SOFTMAX:
		return ATEN_SOFTMAX;
	case BY_CONFIG:
		return normalised ? ATEN_NORMALISED : ATEN_AS_IS;
	}
	return ATEN_RAW;
}

struct aten_gate aten_gate__of(const struct model_config *c)
{
	struct aten_gate g = { ATEN_RAW, 1, false, false, false };

	for (size_t i = 0; c && i < sizeof(families) / sizeof(*families); i++) {
		if (strcmp(families[i].model_type, c->model_type))
			continue;
		g.final = final_of(&families[i], c);
		g.gathered = families[i].gathered;
		g.rounded = families[i].rounded;
		if (families[i].scale > 0)
			g.scale = isfinite(c->routed_scaling) ? (float)c->routed_scaling
							      : families[i].scale;
	}
	return g;
}

#define HALF_LEAST 0x1p-14f /* below it numbers of the type lie at one distance */
#define HALF_STEP 0x1p-24f

/* To the nearest number of the type, ties to even; gate weights are not beyond the largest. */
static float rounded(float value, uint8_t dtype)
{
	unsigned drop = dtype == ATEN_BFLOAT16 ? 16 : dtype == ATEN_HALF ? 13 : 0;
	uint32_t bits;

	if (!drop || !isfinite(value))
		return value;
	if (dtype == ATEN_HALF && fabsf(value) < HALF_LEAST)
		return rintf(value / HALF_STEP) * HALF_STEP;
	memcpy(&bits, &value, sizeof(bits));
	bits += (1u << (drop - 1)) - 1 + (bits >> drop & 1);
	bits &= ~((1u << drop) - 1);
	memcpy(&value, &bits, sizeof(value));
	return value;
}

void aten_gate__share(const float *logits, uint32_t count, float *chosen, uint32_t k)
{
	float most = -INFINITY;
	double sum = 0;

	for (uint32_t i = 0; i < count; i++)
		most = fmaxf(most, logits[i]);
	for (uint32_t i = 0; i < count; i++)
		sum += exp((double)logits[i] - most);
	for (uint32_t i = 0; i < k; i++)
		chosen[i] = (float)(exp((double)chosen[i] - most) / sum);
}

void aten_gate__finish(const struct aten_gate *g, float *scores, uint32_t k, uint8_t dtype)
{
	float most = -INFINITY;
	double sum = 0;

	if (g->final == ATEN_SOFTMAX) {
		for (uint32_t i = 0; i < k; i++)
			most = fmaxf(most, scores[i]);
		for (uint32_t i = 0; i < k; i++)
			scores[i] = expf(scores[i] - most);
	}
	for (uint32_t i = 0; i < k; i++)
		sum += scores[i];
	for (uint32_t i = 0; i < k; i++) {
		if (g->final == ATEN_NORMALISED || g->final == ATEN_SOFTMAX)
			scores[i] = (float)(scores[i] / sum);
		scores[i] *= g->scale;
		if (g->rounded)
			scores[i] = rounded(scores[i], dtype);
	}
}
