/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/aten/column.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "probe/engine/aten/tensor.h"

#define WHOLE 0.01f /* a captured position is so near to a whole number */

static int column__reserve(struct aten_column *c, uint32_t count)
{
	int64_t *more;

	if (count <= c->capacity)
		return 0;
	more = realloc(c->value, count * sizeof(*more));
	if (!more)
		return -ENOMEM;
	c->value = more;
	c->capacity = count;
	return 0;
}

/* A whole number that was captured as @value of @scale; -1: it is none. */
static int64_t whole(float value, float scale)
{
	float number = scale > 0 ? value / scale : NAN, nearest = roundf(number);

	if (!(nearest >= 0 && nearest < (float)INT32_MAX) || fabsf(number - nearest) > WHOLE)
		return -1;
	return (int64_t)nearest;
}

int aten_column__fill(struct aten_column *c, const struct aten_tensor *t, float scale)
{
	uint64_t count = aten_tensor__count(t);
	float value;
	int err = column__reserve(c, (uint32_t)count);

	if (err)
		return err;
	c->count = 0;
	for (uint32_t row = 0; row < t->head.event.total; row++) {
		int64_t *to = c->value + (size_t)row * t->width;

		if (aten_tensor__integers(t, row, to))
			continue;
		if (t->width != 1 || !aten_tensor__floats(t, row, &value))
			return -EBADMSG;
		*to = whole(value, scale);
	}
	c->count = (uint32_t)count;
	return 0;
}
