/* SPDX-License-Identifier: BSD-2-Clause */
/* The stage for mp_tensors: tests/tools/aten_double.c, a row for each of its functions, and what a
 * tensor of known contents must arrive as. */
#ifndef TESTS_UNIT_BPF_TENSORS_H
#define TESTS_UNIT_BPF_TENSORS_H

#include <stdlib.h>
#include <string.h>

#include "tests/tools/aten_double.h"
#include "tests/unit/bpf_play.h"

/* Tables of cases name what differs; the rest is 0. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

#define TENSOR_HEAD sizeof(struct mp_event_tensor)
/* c10::ScalarType */
enum { BYTE = 0, CHAR = 1, SHORT = 2, INT = 3, LONG = 4, HALF = 5, FLOAT = 6, DOUBLE = 7 };
enum { BOOL = 11, BFLOAT16 = 15 };

/* A tensor of the double. Strides that are all 0: contiguous. */
struct cast {
	unsigned number, dtype, dims;
	long size[3], stride[3], offset;
};

/* Tell the double to make it; the strides are filled in. */
static inline void cast__make(struct cast *c)
{
	if (!c->stride[0] && !c->stride[1] && !c->stride[2]) {
		c->stride[c->dims - 1] = 1;
		for (unsigned i = c->dims - 1; i; i--)
			c->stride[i - 1] = c->stride[i] * c->size[i];
	}
	play__do(&play, "tensor %u %u %u %ld %ld %ld %ld %ld %ld %ld", c->number, c->dtype, c->dims,
		 c->size[0], c->size[1], c->size[2], c->stride[0], c->stride[1], c->stride[2],
		 c->offset);
}

/* Where element @at of row @row is in the storage, in elements. */
static inline size_t cast__element(const struct cast *c, uint32_t row, uint32_t at)
{
	if (c->dims == 1)
		return c->offset + row * c->stride[0];
	if (c->dims == 2)
		return c->offset + row * c->stride[0] + at * c->stride[1];
	return c->offset + row / c->size[1] * c->stride[0] + row % c->size[1] * c->stride[1] +
	       at * c->stride[2];
}

static inline uint32_t cast__rows(const struct cast *c)
{
	return c->dims == 3 ? c->size[0] * c->size[1] : c->size[0];
}

/* Elements of a row; a vector is a column. */
static inline uint32_t cast__length(const struct cast *c)
{
	return c->dims == 1 ? 1 : c->size[c->dims - 1];
}

/* One chunk holds rows of @length elements; @flat: rows are elements, however many a row of @c has.
 */
static inline void assert_cast_chunk(const struct cast *c, const struct mp_event *e,
				     uint32_t length, bool flat)
{
	const uint8_t *at = (const uint8_t *)e + TENSOR_HEAD;
	size_t bytes = double_element_bytes(c->dtype);

	assert_int_equal(((const struct mp_event_tensor *)e)->row_bytes, length * bytes);
	assert_int_equal(e->size, TENSOR_HEAD + (size_t)e->count * length * bytes);
	for (uint32_t i = 0; i < e->count * length; i++) {
		uint32_t row = e->first + i / length, column = i % length;

		if (flat) {
			column = row % cast__length(c);
			row = row / cast__length(c);
		}
		for (size_t j = 0; j < bytes; j++)
			if (*at++ !=
			    double_byte(c->number, cast__element(c, row, column) * bytes + j))
				fail_msg("tensor %u: row %u, element %u, byte %zu", c->number, row,
					 column, j);
	}
}

/* What a whole capture of @c is to be. */
struct capture_of {
	const struct cast *cast;
	uint32_t role;
	uint32_t rows, length; /* of elements; rows 0: as @c is */
	bool flat;
	uint32_t site;
};

static inline uint32_t assert_capture(const struct heard *h, size_t at, struct capture_of w)
{
	const struct mp_event *first = h->event[at];
	uint32_t next = 0;

	w.rows = w.rows ? w.rows : cast__rows(w.cast);
	w.length = w.length ? w.length : cast__length(w.cast);
	assert_int_equal(first->kind, MP_EVENT_TENSOR);
	assert_int_equal(first->site, w.site);
	assert_int_equal(first->total, w.rows);
	assert_true(at + first->chunks <= h->count);
	for (uint16_t i = 0; i < first->chunks; i++) {
		const struct mp_event_tensor *t = (const void *)h->event[at + i];

		assert_chunk(&t->event, first, i);
		assert_int_equal(t->event.first, next);
		assert_int_equal(t->role, w.role);
		assert_int_equal(t->dtype, w.cast->dtype);
		assert_int_equal(t->dims, w.cast->dims);
		assert_int_equal(t->flags, 0);
		for (unsigned j = 0; j < 3; j++)
			assert_int_equal(t->size[j], j < w.cast->dims ? w.cast->size[j] : 0);
		assert_cast_chunk(w.cast, &t->event, w.length, w.flat);
		next += t->event.count;
	}
	assert_int_equal(next, w.rows);
	return first->chunks;
}

static inline const struct mp_event_tensor *tensor_heard(const struct heard *h, size_t at)
{
	assert_true(at < h->count);
	assert_int_equal(h->event[at]->kind, MP_EVENT_TENSOR);
	return (const struct mp_event_tensor *)h->event[at];
}

/* --- rows of the table ------------------------------------------------------------------------ */

/* A rule that any tensor fits. */
static inline struct mp_tensor_rule any_rule(uint8_t argument, uint8_t role, uint8_t copy)
{
	return (struct mp_tensor_rule){
		.argument = argument,
		.role = role,
		.copy = copy,
		.dims_min = 1,
		.dims_max = 3,
		.dtypes = UINT32_MAX,
		.first_max = UINT32_MAX,
		.last_max = UINT32_MAX,
	};
}

static inline struct mp_site tensors_row(uint8_t moment, struct mp_tensor_rule first)
{
	struct mp_site s = { .program = MP_PROGRAM_TENSORS, .tgid = play.pid, .enabled = 1 };

	s.tensors.storage = DOUBLE_STORAGE;
	s.tensors.head = DOUBLE_HEAD;
	s.tensors.data = DOUBLE_DATA;
	s.tensors.moment = moment;
	s.tensors.rules = 1;
	s.tensors.scalar[0] = s.tensors.scalar[1] = MP_NO_ARGUMENT;
	s.tensors.rule[0] = first;
	return s;
}

static inline void tensors_row__add(struct mp_site *s, struct mp_tensor_rule rule)
{
	s->tensors.rule[s->tensors.rules++] = rule;
}

#endif
