/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/aten/layers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe/engine/aten/step.h"

/* Room for @rows x @k choices: weights, ids and flags in one block. */
static int layer__reserve(struct aten_layer *l, uint32_t rows, uint32_t k)
{
	size_t choices = (size_t)rows * k, bytes;
	uint8_t *block;

	if (choices > l->capacity) {
		bytes = choices * (sizeof(*l->weights) + sizeof(*l->ids) + sizeof(*l->flags));
		block = malloc(bytes);
		if (!block)
			return -ENOMEM;
		free(l->weights);
		l->weights = (float *)block;
		l->capacity = choices;
	}
	l->ids = (uint16_t *)(l->weights + l->capacity);
	l->flags = (uint8_t *)(l->ids + l->capacity);
	l->rows = rows;
	l->k = k;
	return 0;
}

int aten_layers__next(struct aten_step *s, uint32_t rows, uint32_t k, struct aten_layer **out)
{
	struct aten_layer *more;
	uint32_t capacity;

	if (s->layers == s->layer_capacity) {
		capacity = s->layer_capacity ? 2 * s->layer_capacity : 16;
		more = realloc(s->layer, capacity * sizeof(*more));
		if (!more)
			return -ENOMEM;
		memset(more + s->layer_capacity, 0, (capacity - s->layer_capacity) * sizeof(*more));
		s->layer = more;
		s->layer_capacity = capacity;
	}
	*out = &s->layer[s->layers];
	return layer__reserve(*out, rows, k);
}

bool aten_layer__has_flags(const struct aten_layer *l)
{
	for (uint32_t i = 0; i < l->rows; i++)
		if (l->flags[i])
			return true;
	return false;
}

void aten_layers__free(struct aten_step *s)
{
	for (uint32_t i = 0; i < s->layer_capacity; i++)
		free(s->layer[i].weights);
	free(s->layer);
}
