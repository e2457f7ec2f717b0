/* SPDX-License-Identifier: BSD-2-Clause */
/* Where a TensorImpl keeps its sizes, and what captured elements mean. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "probe/engine/aten/layout.h"
#include "tests/unit/aten_play.h"

/* --- the layout ------------------------------------------------------------------------------- */

/* A TensorImpl as a release has it: pointers and flags around {dims, sizes, strides, ...}. */
struct impl {
	_Alignas(8) uint8_t bytes[MP_TENSOR_RAW_BYTES];
};

static void put(struct impl *i, unsigned at, int64_t value)
{
	memcpy(i->bytes + at, &value, sizeof(value));
}

static struct impl impl_of(unsigned head, int64_t dims, const int64_t *size, uint16_t dtype)
{
	const int8_t device[2] = { 0, -1 };
	struct impl i = { { 0 } };
	int64_t numel = 1;

	put(&i, 0, 0x7f1122334450);  /* virtual functions */
	put(&i, 8, 0x100000001);     /* counts of references */
	put(&i, 16, 0x55aa00112230); /* storage */
	put(&i, 40, 7);              /* version counter, or what is there */
	if (head > 56)
		put(&i, 56, 0x55aa00998870);
	put(&i, head, dims);
	for (int64_t d = dims - 1; d >= 0; d--) {
		put(&i, head + 8 + 8 * (unsigned)d, size[d]);
		put(&i, head + 48 + 8 * (unsigned)d, numel);
		numel *= size[d];
	}
	put(&i, head + 96, numel);
	memcpy(i.bytes + head + 104, &dtype, sizeof(dtype));
	memcpy(i.bytes + head + 106, device, sizeof(device));
	return i;
}

static const int64_t weights[] = { 50304, 2048 }, tokens[] = { 2, 17 }, vector[] = { 17 };
static const int64_t angles[] = { 2, 17, 64 };

static void test_found(void **state)
{
	for (unsigned head = 56; head <= 64; head += 8) {
		struct aten_layout l = { 0 };
		struct impl i = impl_of(head, 2, weights, ATEN_BFLOAT16);

		assert_int_equal(aten_layout__see(&l, i.bytes), 0);
		i = impl_of(head, 2, tokens, ATEN_LONG);
		assert_int_equal(aten_layout__see(&l, i.bytes), 0);
		assert_int_equal(l.head, 0);
		i = impl_of(head, 3, angles, ATEN_FLOAT);
		assert_int_equal(aten_layout__see(&l, i.bytes), 1);
		assert_int_equal(l.head, head);
		/* And then nothing changes it. */
		assert_int_equal(aten_layout__see(&l, (const uint8_t[MP_TENSOR_RAW_BYTES]){ 0 }),
				 1);
		assert_int_equal(l.head, head);
	}
}

/* What has no dimensions, more than five, or is no tensor at all, says nothing. */
static void test_passed_over(void **state)
{
	struct impl scalar = impl_of(56, 0, NULL, ATEN_FLOAT), junk, good;
	struct impl many = impl_of(56, 1, vector, ATEN_FLOAT);
	struct aten_layout l = { 0 };

	memset(&junk, 0xa5, sizeof(junk));
	put(&many, 56, 6);
	put(&many, 64, 0x55aa00776650); /* sizes in an allocation of their own */
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(aten_layout__see(&l, scalar.bytes), 0);
		assert_int_equal(aten_layout__see(&l, junk.bytes), 0);
		assert_int_equal(aten_layout__see(&l, many.bytes), 0);
	}
	good = impl_of(56, 2, weights, ATEN_FLOAT);
	assert_int_equal(aten_layout__see(&l, good.bytes), 0);
	assert_int_equal(aten_layout__see(&l, scalar.bytes), 0);
	good = impl_of(56, 1, vector, ATEN_INT);
	assert_int_equal(aten_layout__see(&l, good.bytes), 0);
	assert_int_equal(aten_layout__see(&l, good.bytes), 1);
	assert_int_equal(l.head, 56);
}

static void test_contradiction(void **state)
{
	struct impl a = impl_of(56, 2, weights, ATEN_FLOAT), b = impl_of(64, 2, tokens, ATEN_LONG);
	struct aten_layout l = { 0 };

	assert_int_equal(aten_layout__see(&l, a.bytes), 0);
	assert_int_equal(aten_layout__see(&l, b.bytes), -EPROTO);
}

/* Two offsets that read as tensors, always; and none that ever does. */
static void test_never_decided(void **state)
{
	struct impl both = impl_of(56, 1, (const int64_t[]){ 1 }, ATEN_BYTE), junk;
	struct aten_layout l = { 0 }, none = { 0 };
	int last = 0;

	memset(&junk, 0xff, sizeof(junk));
	put(&both, 64, 1);      /* size, and dimensions */
	put(&both, 72, 1);      /* and size */
	put(&both, 72 + 88, 1); /* numel of the other */
	put(&both, 72 + 96, 0);
	for (unsigned i = 0; i < 256; i++)
		assert_int_equal(aten_layout__see(&l, both.bytes), 0);
	assert_int_equal(aten_layout__see(&l, both.bytes), -EPROTO);
	assert_int_equal(l.head, 0);
	for (unsigned i = 0; i < 300 && !last; i++)
		last = aten_layout__see(&none, junk.bytes);
	assert_int_equal(last, -EPROTO);
	assert_int_equal(none.head, 0);
}

/* Each number that a tensor cannot have. */
static void test_absurd_numbers(void **state)
{
	static const struct {
		unsigned at;
		int64_t value;
	} cases[] = {
		{ 0, -1 },         { 0, 6 },    { 8, -2 },         { 8, 1ll << 41 },
		{ 16, INT64_MAX }, { 48, -1 },  { 88, -1 },        { 96, 0 },
		{ 96, 35 },        { 104, 48 }, { 104, 0x210006 }, { 104, 0xfe000006 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct impl good = impl_of(56, 2, tokens, ATEN_LONG), bad = good;
		struct aten_layout l = { 0 };

		put(&bad, 56 + cases[i].at, cases[i].value);
		for (unsigned n = 0; n < 4; n++)
			assert_int_equal(aten_layout__see(&l, bad.bytes), 0);
		assert_int_equal(aten_layout__see(&l, good.bytes), 0);
		assert_int_equal(aten_layout__see(&l, good.bytes), 0);
		assert_int_equal(aten_layout__see(&l, good.bytes), 1);
	}
}

/* --- elements --------------------------------------------------------------------------------- */

static void test_integers(void **state)
{
	static const uint8_t bytes[2] = { 255, 1 };
	static const int16_t shorts[2] = { -2, 32767 };
	static const int32_t ints[2] = { INT32_MIN, 7 };
	static const int64_t longs[2] = { INT64_MIN, -1 };
	static const struct {
		uint8_t dtype;
		const void *data;
		int64_t wanted[2];
	} cases[] = { { ATEN_BYTE, bytes, { 255, 1 } },
		      { ATEN_SHORT, shorts, { -2, 32767 } },
		      { ATEN_INT, ints, { INT32_MIN, 7 } },
		      { ATEN_LONG, longs, { INT64_MIN, -1 } } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		/* In one row, and in two rows that come in a chunk each. */
		for (uint32_t width = 1; width <= 2; width++) {
			struct made m = { .dtype = cases[i].dtype,
					  .rows = 2 / width,
					  .width = width,
					  .chunk_rows = 1,
					  .data = cases[i].data };
			struct made_capture c;
			struct aten_tensor t;
			int64_t is[2];
			float f[2];

			assert_int_equal(aten_tensor__open(&t, made__capture(&c, &m)), 0);
			assert_int_equal(aten_tensor__count(&t), 2);
			for (uint32_t row = 0; row < m.rows; row++)
				assert_true(aten_tensor__integers(&t, row, is + row));
			assert_memory_equal(is, cases[i].wanted, sizeof(is));
			assert_false(aten_tensor__floats(&t, m.rows - 1, f));
			made_capture__free(&c);
		}
	}
}

static void read_floats(uint8_t dtype, const void *data, uint32_t n, float *out)
{
	struct made m = { .dtype = dtype, .rows = n, .width = 1, .chunk_rows = 3, .data = data };
	struct made_capture c;
	struct aten_tensor t;
	int64_t integer;

	assert_int_equal(aten_tensor__open(&t, made__capture(&c, &m)), 0);
	for (uint32_t i = 0; i < n; i++)
		assert_true(aten_tensor__floats(&t, i, &out[i]));
	assert_false(aten_tensor__integers(&t, 0, &integer));
	made_capture__free(&c);
}

static void test_floats(void **state)
{
	static const float floats[] = { 1.5f, -0.0f, INFINITY, 0x1p-149f };
	static const double doubles[] = { 1.5, 1e-320, -INFINITY, 0.1 };
	float is[4];

	read_floats(ATEN_FLOAT, floats, 4, is);
	assert_memory_equal(is, floats, sizeof(floats));
	read_floats(ATEN_DOUBLE, doubles, 4, is);
	assert_true(is[0] == 1.5f && is[1] == 0 && is[2] == -INFINITY && is[3] == 0.1f);
}

static void test_narrow_floats(void **state)
{
	static const struct {
		uint8_t dtype;
		uint16_t bits;
		float wanted;
	} cases[] = {
		{ ATEN_HALF, 0x3c00, 1 },
		{ ATEN_HALF, 0xc000, -2 },
		{ ATEN_HALF, 0x7bff, 65504 },
		{ ATEN_HALF, 0x0400, 0x1p-14f },
		{ ATEN_HALF, 0x03ff, 0x1.ff8p-15f },
		{ ATEN_HALF, 0x0001, 0x1p-24f },
		{ ATEN_HALF, 0x8001, -0x1p-24f },
		{ ATEN_HALF, 0x0000, 0 },
		{ ATEN_HALF, 0x7c00, INFINITY },
		{ ATEN_HALF, 0xfc00, -INFINITY },
		{ ATEN_HALF, 0x3555, 0x1.554p-2f },
		{ ATEN_BFLOAT16, 0x3f80, 1 },
		{ ATEN_BFLOAT16, 0xc040, -3 },
		{ ATEN_BFLOAT16, 0x7f80, INFINITY },
		{ ATEN_BFLOAT16, 0xff80, -INFINITY },
		{ ATEN_BFLOAT16, 0x7f7f, 0x1.fep127f },
		{ ATEN_BFLOAT16, 0x0001, 0x1p-133f },
		{ ATEN_BFLOAT16, 0x8000, -0.0f },
	};
	static const uint16_t none[] = { 0x7c01, 0xffff }, none_b[] = { 0x7f81, 0xffff };
	float is[2];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		read_floats(cases[i].dtype, &cases[i].bits, 1, is);
		if (is[0] != cases[i].wanted || signbit(is[0]) != signbit(cases[i].wanted))
			fail_msg("%u %#x: %a", cases[i].dtype, cases[i].bits, is[0]);
	}
	read_floats(ATEN_HALF, none, 2, is);
	assert_true(isnan(is[0]) && isnan(is[1]));
	read_floats(ATEN_BFLOAT16, none_b, 2, is);
	assert_true(isnan(is[0]) && isnan(is[1]));
}

/* --- contradictions --------------------------------------------------------------------------- */

static int open_with(struct made m, void (*spoil)(struct mp_event_tensor *e, uint32_t chunk))
{
	struct made_capture c;
	struct aten_tensor t;
	int err;

	made__capture(&c, &m);
	for (size_t i = 0; spoil && i < c.capture.chunks; i++)
		spoil((struct mp_event_tensor *)c.chunk[i], (uint32_t)i);
	err = aten_tensor__open(&t, &c.capture);
	made_capture__free(&c);
	return err;
}

#define SPOIL(name, change) \
	static void name(struct mp_event_tensor *e, uint32_t chunk) \
	{ \
		if (chunk == 1) \
			change; \
	}
SPOIL(other_role, e->role = MP_ROLE_IDS)
SPOIL(other_dtype, e->dtype = ATEN_FLOAT)
SPOIL(other_dims, e->dims = 3)
SPOIL(other_flags, e->flags = MP_TENSOR_DEVICE)
SPOIL(other_computation, e->computation = 8)
SPOIL(other_row_bytes, e->row_bytes = 4)
SPOIL(other_size, e->size[1] = 9)
SPOIL(fewer_rows, e->event.count = 1)
SPOIL(cut, e->event.size -= 1)
SPOIL(headless, e->event.size = sizeof(struct mp_event))

/* One row in the first chunk and the rest in the last: rows are not where they are looked for. */
static void uneven(struct mp_event_tensor *e, uint32_t chunk)
{
	if (!chunk)
		e->event.count = 1;
}

static void odd_bytes(struct mp_event_tensor *e, uint32_t chunk)
{
	e->row_bytes = 7;
}

static void more_dims(struct mp_event_tensor *e, uint32_t chunk)
{
	e->dims = 4;
}

static void no_bytes(struct mp_event_tensor *e, uint32_t chunk)
{
	e->row_bytes = 0;
}

static void test_contradictions(void **state)
{
	static void (*const spoils[])(struct mp_event_tensor * e, uint32_t chunk) = {
		other_role,      other_dtype, other_dims, other_flags, other_computation,
		other_row_bytes, other_size,  fewer_rows, cut,         headless,
		uneven,          odd_bytes,   more_dims,  no_bytes,
	};
	struct made m = { .role = MP_ROLE_SCORES,
			  .dtype = ATEN_LONG,
			  .rows = 6,
			  .width = 2,
			  .chunk_rows = 2,
			  .computation = 7 };

	assert_int_equal(open_with(m, NULL), 0);
	for (size_t i = 0; i < sizeof(spoils) / sizeof(*spoils); i++)
		if (open_with(m, spoils[i]) != -EBADMSG)
			fail_msg("contradiction %zu", i);
	m.chunk_rows = 4; /* the last one has fewer */
	assert_int_equal(open_with(m, NULL), 0);
	/* In two chunks, 1 and 5: seen in an event that says so, and is as long. */
	m.chunk_rows = 3;
	assert_int_equal(open_with(m, uneven), -EBADMSG);
	for (uint8_t dtype = 0; dtype < 20; dtype++) {
		bool known = dtype == ATEN_BYTE || (dtype >= ATEN_SHORT && dtype <= ATEN_DOUBLE) ||
			     dtype == ATEN_BFLOAT16;

		m.dtype = dtype;
		assert_int_equal(open_with(m, NULL), known ? 0 : -EBADMSG);
	}
}

/* Nothing was delivered of them: no elements, and no complaint. */
static void test_without_elements(void **state)
{
	struct made m = { .dtype = ATEN_LONG, .flags = MP_TENSOR_DEVICE };
	struct made_capture c;
	struct aten_tensor t;

	assert_int_equal(aten_tensor__open(&t, made__capture(&c, &m)), 0);
	assert_int_equal(t.element_bytes, 0);
	assert_int_equal(aten_tensor__count(&t), 0);
	made_capture__free(&c);
	m = (struct made){ .dtype = 77, .width = 4 };
	assert_int_equal(open_with(m, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_found),          cmocka_unit_test(test_passed_over),
		cmocka_unit_test(test_contradiction),  cmocka_unit_test(test_never_decided),
		cmocka_unit_test(test_absurd_numbers), cmocka_unit_test(test_integers),
		cmocka_unit_test(test_floats),         cmocka_unit_test(test_narrow_floats),
		cmocka_unit_test(test_contradictions), cmocka_unit_test(test_without_elements),
	};

	return cmocka_run_group_tests_name("aten: tensors", tests, NULL, NULL);
}
