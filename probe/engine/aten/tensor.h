/* SPDX-License-Identifier: BSD-2-Clause */
/* One captured libtorch tensor: checked, and its elements as numbers. */
#ifndef MP_ATEN_TENSOR_H
#define MP_ATEN_TENSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "probe/engine/capture.h"

/* c10::ScalarType, as far as it is read. Never renumbered. */
enum aten_dtype {
	ATEN_BYTE = 0,
	ATEN_SHORT = 2,
	ATEN_INT = 3,
	ATEN_LONG = 4,
	ATEN_HALF = 5,
	ATEN_FLOAT = 6,
	ATEN_DOUBLE = 7,
	ATEN_BFLOAT16 = 15,
};

/* Plain data; borrows the capture. */
struct aten_tensor {
	struct mp_event_tensor head; /* of its first chunk */
	const struct capture *capture;
	uint32_t chunk_rows;    /* in every chunk but the last */
	uint32_t element_bytes; /* 0: no elements were delivered */
	uint32_t width;         /* elements a row */
};

/* 0, or -EBADMSG: sizes contradict each other, or the elements are of a type that is not read. */
int aten_tensor__open(struct aten_tensor *t, const struct capture *c);

/* Elements that were delivered: rows x width. */
uint64_t aten_tensor__count(const struct aten_tensor *t);
/* Row @row < head.event.total as numbers, @out[width]. false: not of that kind (integers for the
 * one, floating point for the other). */
bool aten_tensor__integers(const struct aten_tensor *t, uint32_t row, int64_t *out);
bool aten_tensor__floats(const struct aten_tensor *t, uint32_t row, float *out);

#endif
