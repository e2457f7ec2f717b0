/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/aten/choice.h"

#include <math.h>
#include <stdbool.h>

#include "probe/abi/site.h"
#include "probe/engine/aten/select.h"
#include "probe/engine/sink.h"

#define EXPERTS_MAX 4096 /* of scores that are read: a row fits into one record */

/* Sort one row of choices into gate order, and check it: by insertion, k is small. */
static uint32_t row__settle(const struct aten_choices *out, uint32_t row, const int64_t *id,
			    const float *weight)
{
	uint16_t *ids = out->ids + (size_t)row * out->k;
	float *weights = out->weights + (size_t)row * out->k;

	for (uint32_t j = 0; j < out->k; j++) {
		uint32_t at = j;

		if (id[j] < 0 || id[j] >= (int64_t)out->experts)
			return ENGINE_INVALID_EXPERT_RANGE;
		if (!isfinite(weight[j]))
			return ENGINE_INVALID_WEIGHT;
		for (uint32_t i = 0; i < j; i++)
			if (ids[i] == id[j])
				return ENGINE_INVALID_EXPERT_REPEATED;
		for (; at && (weight[j] > weights[at - 1] ||
			      (weight[j] == weights[at - 1] && id[j] < ids[at - 1]));
		     at--) {
			weights[at] = weights[at - 1];
			ids[at] = ids[at - 1];
		}
		weights[at] = weight[j];
		ids[at] = (uint16_t)id[j];
	}
	return 0;
}

uint32_t aten_choice__select(struct aten_choices *out, const struct aten_tensor *scores,
			     const struct aten_gate *gate)
{
	static _Thread_local struct scored queue[EXPERTS_MAX];
	float score[EXPERTS_MAX], weight[MP_TOP_K];
	int64_t id[MP_TOP_K];

	if (scores->width != out->experts || out->experts > EXPERTS_MAX || out->k > MP_TOP_K ||
	    out->k > out->experts)
		return ENGINE_INVALID_SHAPE;
	for (uint32_t row = 0; row < scores->head.event.total; row++) {
		uint32_t cause;

		if (!aten_tensor__floats(scores, row, score))
			return ENGINE_INVALID_SHAPE;
		for (uint32_t i = 0; i < out->experts; i++)
			queue[i] = (struct scored){ score[i], i };
		out->flags[row] =
			select__top(queue, out->experts, out->k) ? ENGINE_ROUTE_ROW_TIE : 0;
		for (uint32_t j = 0; j < out->k; j++) {
			id[j] = queue[j].index;
			weight[j] = queue[j].score;
		}
		if (gate->logits)
			aten_gate__share(score, out->experts, weight, out->k);
		aten_gate__finish(gate, weight, out->k, out->dtype);
		cause = row__settle(out, row, id, weight);
		if (cause)
			return cause;
	}
	return 0;
}

uint32_t aten_choice__gather(struct aten_choices *out, const int64_t *ids,
			     const struct aten_tensor *scores, const struct aten_gate *gate)
{
	bool final = scores->head.role == MP_ROLE_WEIGHTS;
	float score[EXPERTS_MAX], weight[MP_TOP_K];

	if (scores->width != (final ? out->k : out->experts) || scores->width > EXPERTS_MAX ||
	    out->k > MP_TOP_K)
		return ENGINE_INVALID_SHAPE;
	for (uint32_t row = 0; row < scores->head.event.total; row++) {
		const int64_t *id = ids + (size_t)row * out->k;
		uint32_t cause;

		if (!aten_tensor__floats(scores, row, score))
			return ENGINE_INVALID_SHAPE;
		for (uint32_t j = 0; j < out->k; j++) {
			if (id[j] < 0 || id[j] >= (int64_t)out->experts)
				return ENGINE_INVALID_EXPERT_RANGE;
			weight[j] = score[final ? j : id[j]];
		}
		if (!final)
			aten_gate__finish(gate, weight, out->k, out->dtype);
		out->flags[row] = 0;
		cause = row__settle(out, row, id, weight);
		if (cause)
			return cause;
	}
	return 0;
}
