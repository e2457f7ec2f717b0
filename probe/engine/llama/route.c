/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/llama/route.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "probe/abi/site.h"
#include "probe/engine/llama/layout.h"
#include "probe/engine/sink.h"

#define EXPERTS_MAX 65536u /* ids fit 16 bits */

/* The digits behind the prefix; -EBADMSG if there is anything else. */
static int layer_of(uint32_t *layer, const char name[MP_NAME_SIZE])
{
	const size_t prefix = sizeof(LLAMA_TENSOR_PREFIX) - 1;
	size_t length = strnlen(name, MP_NAME_SIZE);
	uint32_t value = 0;

	*layer = 0;
	if (length == MP_NAME_SIZE || length <= prefix || length > prefix + 5 ||
	    memcmp(name, LLAMA_TENSOR_PREFIX, prefix))
		return -EBADMSG;
	for (size_t i = prefix; i < length; i++) {
		if (name[i] < '0' || name[i] > '9')
			return -EBADMSG;
		value = value * 10 + (uint32_t)(name[i] - '0');
	}
	if (value > UINT16_MAX)
		return -EBADMSG;
	*layer = value;
	return 0;
}

int llama_route__head(struct llama_route_head *out, const struct capture *c)
{
	struct mp_event_route head;

	memset(out, 0, sizeof(*out));
	if (c->chunk[0]->size < sizeof(head))
		return -EBADMSG;
	memcpy(&head, c->chunk[0], sizeof(head));
	out->computation = head.computation;
	out->rows = head.event.total;
	out->k = head.k;
	out->stride = head.experts;
	if (!out->rows || out->rows > MP_ROWS_MAX || !out->k || out->k > MP_TOP_K ||
	    out->stride < out->k || out->stride > EXPERTS_MAX)
		return -EBADMSG;
	for (size_t i = 0; i < c->chunks; i++) {
		const struct mp_event *ev = c->chunk[i];
		struct mp_event_route part;

		if (ev->size < sizeof(part))
			return -EBADMSG;
		memcpy(&part, ev, sizeof(part));
		if (part.k != head.k || part.experts != head.experts ||
		    part.computation != head.computation ||
		    memcmp(part.name, head.name, sizeof(head.name)) ||
		    (uint64_t)ev->size < sizeof(part) + (uint64_t)ev->count * head.k * 8)
			return -EBADMSG;
	}
	return layer_of(&out->layer, head.name);
}

struct choice {
	int32_t id;
	float weight;
};

static bool comes_before(const struct choice *a, const struct choice *b)
{
	return a->weight > b->weight || (a->weight == b->weight && a->id < b->id);
}

/* Check and sort one row of @k choices: by insertion, k is small. 0 or the cause. */
static uint32_t row__decode(uint16_t *ids, float *weights, const uint8_t *raw_ids,
			    const uint8_t *raw_weights, uint32_t k, uint32_t experts)
{
	struct choice row[MP_TOP_K];

	for (uint32_t j = 0; j < k; j++) {
		struct choice c;
		uint32_t at = j;

		memcpy(&c.id, raw_ids + 4 * j, 4);
		memcpy(&c.weight, raw_weights + 4 * j, 4);
		if (c.id < 0 || (uint32_t)c.id >= experts)
			return ENGINE_INVALID_EXPERT_RANGE;
		if (!isfinite(c.weight))
			return ENGINE_INVALID_WEIGHT;
		for (uint32_t i = 0; i < j; i++)
			if (row[i].id == c.id)
				return ENGINE_INVALID_EXPERT_REPEATED;
		for (; at && comes_before(&c, &row[at - 1]); at--)
			row[at] = row[at - 1];
		row[at] = c;
	}
	for (uint32_t j = 0; j < k; j++) {
		ids[j] = (uint16_t)row[j].id;
		weights[j] = row[j].weight;
	}
	return 0;
}

uint32_t llama_route__decode(uint16_t *ids, float *weights, const struct capture *c,
			     const struct llama_route_head *h, uint32_t experts)
{
	for (size_t i = 0; i < c->chunks; i++) {
		const struct mp_event *ev = c->chunk[i];
		const uint8_t *raw = (const uint8_t *)ev + sizeof(struct mp_event_route);

		for (uint32_t n = 0; n < ev->count; n++) {
			size_t from = (size_t)n * h->k, to = (size_t)(ev->first + n) * h->k;
			uint32_t cause;

			cause = row__decode(ids + to, weights + to, raw + 4 * from,
					    raw + 4 * ((size_t)ev->count * h->k + from), h->k,
					    experts);
			if (cause)
				return cause;
		}
	}
	return 0;
}
