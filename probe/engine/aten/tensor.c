/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/aten/tensor.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "probe/abi/site.h"

static uint32_t bytes_of(uint8_t dtype)
{
	switch (dtype) {
	case ATEN_BYTE:
		return 1;
	case ATEN_SHORT:
	case ATEN_HALF:
	case ATEN_BFLOAT16:
		return 2;
	case ATEN_INT:
	case ATEN_FLOAT:
		return 4;
	case ATEN_LONG:
	case ATEN_DOUBLE:
		return 8;
	default:
		return 0;
	}
}

/* A later chunk says the same of the tensor as the first. */
static bool belongs(const struct mp_event_tensor *a, const struct mp_event_tensor *b)
{
	return a->role == b->role && a->dtype == b->dtype && a->dims == b->dims &&
	       a->flags == b->flags && a->computation == b->computation &&
	       a->row_bytes == b->row_bytes && !memcmp(a->size, b->size, sizeof(a->size));
}

int aten_tensor__open(struct aten_tensor *t, const struct capture *c)
{
	memset(t, 0, sizeof(*t));
	t->capture = c;
	for (size_t i = 0; i < c->chunks; i++) {
		const struct mp_event *ev = c->chunk[i];
		struct mp_event_tensor head;

		if (ev->size < sizeof(head))
			return -EBADMSG;
		memcpy(&head, ev, sizeof(head));
		if (!i)
			t->head = head;
		if (!belongs(&t->head, &head) ||
		    (uint64_t)ev->size < sizeof(head) + (uint64_t)ev->count * head.row_bytes ||
		    ev->count > t->head.event.count ||
		    (i + 1 < c->chunks && ev->count != t->head.event.count))
			return -EBADMSG;
	}
	if (t->head.dims > sizeof(t->head.size) / sizeof(*t->head.size))
		return -EBADMSG;
	t->chunk_rows = t->head.event.count;
	if (t->head.flags & (MP_TENSOR_RAW | MP_TENSOR_DEVICE) || !t->head.event.total)
		return 0;
	t->element_bytes = bytes_of(t->head.dtype);
	if (!t->element_bytes || !t->head.row_bytes || t->head.row_bytes % t->element_bytes ||
	    !t->chunk_rows || t->head.event.total > MP_ELEMENTS_MAX)
		return -EBADMSG;
	t->width = t->head.row_bytes / t->element_bytes;
	return t->width > MP_ELEMENTS_MAX ? -EBADMSG : 0;
}

uint64_t aten_tensor__count(const struct aten_tensor *t)
{
	return (uint64_t)t->head.event.total * t->width;
}

static const uint8_t *row_bytes(const struct aten_tensor *t, uint32_t row)
{
	const struct mp_event *ev = t->capture->chunk[row / t->chunk_rows];

	return (const uint8_t *)ev + sizeof(struct mp_event_tensor) +
	       (size_t)(row % t->chunk_rows) * t->head.row_bytes;
}

bool aten_tensor__integers(const struct aten_tensor *t, uint32_t row, int64_t *out)
{
	const uint8_t *at = row_bytes(t, row);

	for (uint32_t i = 0; i < t->width; i++, at += t->element_bytes) {
		int16_t narrow;
		int32_t word;

		switch (t->head.dtype) {
		case ATEN_BYTE:
			out[i] = *at;
			break;
		case ATEN_SHORT:
			memcpy(&narrow, at, sizeof(narrow));
			out[i] = narrow;
			break;
		case ATEN_INT:
			memcpy(&word, at, sizeof(word));
			out[i] = word;
			break;
		case ATEN_LONG:
			memcpy(&out[i], at, sizeof(*out));
			break;
		default:
			return false;
		}
	}
	return true;
}

static float from_bits(uint32_t bits)
{
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* IEEE 754 binary16. */
static float from_half(uint16_t bits)
{
	uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023;
	float value;

	if (exponent == 31)
		value = fraction ? NAN : INFINITY;
	else if (exponent)
		value = ldexpf((float)(1024 + fraction), (int)exponent - 25);
	else
		value = ldexpf((float)fraction, -24);
	return bits >> 15 ? -value : value;
}

bool aten_tensor__floats(const struct aten_tensor *t, uint32_t row, float *out)
{
	const uint8_t *at = row_bytes(t, row);

	if (t->head.dtype == ATEN_FLOAT) {
		memcpy(out, at, (size_t)t->width * sizeof(*out));
		return true;
	}
	if (t->head.dtype != ATEN_DOUBLE && t->head.dtype != ATEN_BFLOAT16 &&
	    t->head.dtype != ATEN_HALF)
		return false;
	for (uint32_t i = 0; i < t->width; i++, at += t->element_bytes) {
		uint16_t narrow;
		double wide;

		if (t->head.dtype == ATEN_DOUBLE) {
			memcpy(&wide, at, sizeof(wide));
			out[i] = (float)wide;
			continue;
		}
		memcpy(&narrow, at, sizeof(narrow));
		out[i] = t->head.dtype == ATEN_HALF ? from_half(narrow)
						    : from_bits((uint32_t)narrow << 16);
	}
	return true;
}
