/* SPDX-License-Identifier: BSD-2-Clause */
/* What one captured tensor says of each row of a step: tokens, positions, cache slots. */
#ifndef MP_ATEN_COLUMN_H
#define MP_ATEN_COLUMN_H

#include <stdint.h>

struct aten_tensor;

/* Integers of a step; what is not one (a position that is no whole number) is -1. */
struct aten_column {
	uint32_t count; /* 0: not captured */
	uint32_t capacity;
	int64_t *value;
};

/* Make @c what @t holds; a floating-point number is one captured as @scale of it. 0, -ENOMEM, or
 * -EBADMSG: no numbers. */
int aten_column__fill(struct aten_column *c, const struct aten_tensor *t, float scale);

#endif
