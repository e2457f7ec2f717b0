/* SPDX-License-Identifier: BSD-2-Clause */
/* mp_tensors: what is copied of a tensor, in which pieces, and which tensors are turned away. */
#include "tests/unit/bpf_tensors.h"

#define ROW 0

static void fill_table(struct mp_site *t)
{
	t[ROW] = tensors_row(MP_MOMENT_ALWAYS, any_rule(1, MP_ROLE_SCORES, MP_COPY_ROWS));
}

static int start_group(void **state)
{
	static const struct stage stage = {
		.name = "aten_double",
		.ring_bytes = 16 << 20,
		.fill = fill_table,
		.places = 1,
		.place = { { "mp_tensors", "double_call_0" } },
	};

	return play__raise(&stage);
}

/* The row back as it was. */
static struct mp_tensor_rule *fresh_rule(uint8_t role, uint8_t copy)
{
	table[ROW] = tensors_row(MP_MOMENT_ALWAYS, any_rule(1, role, copy));
	return &table[ROW].tensors.rule[0];
}

static struct heard call(const char *arguments)
{
	play__do(&play, "call 0 1 %s", arguments);
	return play__listen();
}

/* --- copies ----------------------------------------------------------------------------------- */

/* A tensor, how it is copied, and what then arrives. */
struct copied {
	struct cast cast;
	uint8_t copy;
	uint32_t rows, length;
	bool flat;
};

static void assert_copied(struct copied c)
{
	size_t bytes = double_element_bytes(c.cast.dtype);
	uint32_t chunks;
	struct heard h;

	fresh_rule(MP_ROLE_SCORES, c.copy);
	cast__make(&c.cast);
	play__do(&play, "call 0 1 0 t%u", c.cast.number);
	h = play__listen();
	if (!h.count)
		print_error("%u dims, %ld x %ld x %ld, copy %u\n", c.cast.dims, c.cast.size[0],
			    c.cast.size[1], c.cast.size[2], c.copy);
	assert_true(h.count > 0);
	chunks = assert_capture(
		&h, 0,
		(struct capture_of){ &c.cast, MP_ROLE_SCORES, c.rows, c.length, c.flat, ROW });
	assert_int_equal(chunks, h.count);
	assert_counted(ROW, .hits = 1, .matched = 1, .events = chunks,
		       .bytes = chunks * TENSOR_HEAD + (uint64_t)c.rows * c.length * bytes);
	heard__free(&h);
}

static void rows_are_copied(void **state)
{
	static const struct copied cases[] = {
		{ { 1, FLOAT, 2, { 1, 8 } }, MP_COPY_ROWS, 1, 8 },
		{ { 1, FLOAT, 2, { 1, 32 } }, MP_COPY_ROWS, 1, 32 },
		{ { 1, FLOAT, 2, { 1, 33 } }, MP_COPY_ROWS, 1, 33 },
		{ { 1, FLOAT, 2, { 15, 32 } }, MP_COPY_ROWS, 15, 32 },
		{ { 1, FLOAT, 2, { 16, 32 } }, MP_COPY_ROWS, 16, 32 },
		{ { 1, BFLOAT16, 2, { 7, 60 }, {}, 13 }, MP_COPY_ROWS, 7, 60 },
		{ { 1, HALF, 2, { 3, 5 } }, MP_COPY_ROWS, 3, 5 },
		{ { 1, DOUBLE, 2, { 3, 129 } }, MP_COPY_ROWS, 3, 129 },
		{ { 1, LONG, 2, { 300, 8 } }, MP_COPY_ROWS, 300, 8 },
		{ { 1, BYTE, 2, { 9, 7 } }, MP_COPY_ROWS, 9, 7 },
		{ { 1, SHORT, 1, { 9 } }, MP_COPY_ROWS, 9, 1 },
		{ { 1, INT, 1, { 5000 } }, MP_COPY_ROWS, 5000, 1 },
		{ { 1, FLOAT, 3, { 2, 3, 5 } }, MP_COPY_ROWS, 6, 5 },
		{ { 1, FLOAT, 3, { 1, 3, 5 } }, MP_COPY_ROWS, 3, 5 },
		{ { 1, FLOAT, 3, { 4, 1, 5 } }, MP_COPY_ROWS, 4, 5 },
		/* Cut out of wider ones: of one row, of several, with an offset. */
		{ { 1, FLOAT, 2, { 1, 5 }, { 64, 1 }, 3 }, MP_COPY_ROWS, 1, 5 },
		{ { 1, FLOAT, 2, { 6, 5 }, { 64, 1 }, 3 }, MP_COPY_ROWS, 6, 5 },
		{ { 1, FLOAT, 2, { 6, 64 }, { 65, 1 } }, MP_COPY_ROWS, 6, 64 },
		{ { 1, INT, 1, { 20 }, { 3 }, 1 }, MP_COPY_ROWS, 20, 1 },
		{ { 1, FLOAT, 3, { 2, 3, 5 }, { 24, 8, 1 } }, MP_COPY_ROWS, 6, 5 },
		{ { 1, FLOAT, 3, { 1, 3, 5 }, { 999, 8, 1 } }, MP_COPY_ROWS, 3, 5 },
		/* At two distances. */
		{ { 1, FLOAT, 3, { 2, 3, 8 }, { 100, 8, 1 } }, MP_COPY_ROWS, 6, 8 },
		{ { 1, INT, 3, { 40, 50, 60 }, { 9999, 61, 1 } }, MP_COPY_ROWS, 2000, 60 },
		/* The middle size is 1: its stride is never walked, and may be anything. */
		{ { 1, FLOAT, 3, { 4, 1, 5 }, { 20, 1, 1 } }, MP_COPY_ROWS, 4, 5 },
		/* The last size is 1, and its stride likewise. */
		{ { 1, FLOAT, 2, { 4, 1 }, { 2, 77 } }, MP_COPY_ROWS, 4, 1 },
	};

	SKIP_IF_UNABLE();
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_copied(cases[i]);
}

static void columns_and_elements_are_copied(void **state)
{
	static const struct copied cases[] = {
		{ { 2, FLOAT, 2, { 9, 32 } }, MP_COPY_COLUMN, 9, 1 },
		{ { 2, FLOAT, 2, { 1, 32 } }, MP_COPY_COLUMN, 1, 1 },
		{ { 2, FLOAT, 2, { 9, 1 } }, MP_COPY_COLUMN, 9, 1 },
		{ { 2, FLOAT, 3, { 2, 9, 32 } }, MP_COPY_COLUMN, 18, 1 },
		{ { 2, FLOAT, 3, { 1, 7000, 8 } }, MP_COPY_COLUMN, 7000, 1 },
		/* Transposed: angles are made as [angle][row]. */
		{ { 2, FLOAT, 2, { 9, 32 }, { 1, 9 } }, MP_COPY_COLUMN, 9, 1 },
		{ { 2, FLOAT, 3, { 1, 9, 32 }, { 288, 1, 9 }, 5 }, MP_COPY_COLUMN, 9, 1 },
		{ { 2, FLOAT, 3, { 3, 1, 32 }, { 32, 1, 1 } }, MP_COPY_COLUMN, 3, 1 },
		{ { 2, FLOAT, 3, { 3, 9, 32 }, { 288, 1, 9 }, 5 }, MP_COPY_COLUMN, 27, 1 },
		{ { 2, FLOAT, 3, { 2, 6000, 4 }, { 24000, 1, 6000 } }, MP_COPY_COLUMN, 12000, 1 },
		{ { 2, INT, 2, { 3, 7 } }, MP_COPY_ELEMENTS, 21, 1, true },
		{ { 2, LONG, 2, { 1, 7 }, { 100, 1 } }, MP_COPY_ELEMENTS, 7, 1, true },
		{ { 2, LONG, 1, { 2500 } }, MP_COPY_ELEMENTS, 2500, 1, true },
		{ { 2, LONG, 2, { 40, 1 }, { 100, 1 } }, MP_COPY_ELEMENTS, 40, 1 },
		{ { 2, LONG, 2, { 3, 7 }, { 100, 1 } }, MP_COPY_ELEMENTS, 3, 7 },
		{ { 2, INT, 3, { 2, 3, 7 } }, MP_COPY_ELEMENTS, 42, 1, true },
		{ { 2, LONG, 2, { 1, 100000 } }, MP_COPY_ELEMENTS, 100000, 1, true },
	};

	SKIP_IF_UNABLE();
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_copied(cases[i]);
}

/* 7 rows to a record: 429 chunks, and the last one is smaller. */
static void large_captures_come_in_chunks(void **state)
{
	struct copied c = { { 3, FLOAT, 2, { 3000, 512 } }, MP_COPY_ROWS, 3000, 512 };

	SKIP_IF_UNABLE();
	assert_copied(c);
	c = (struct copied){ { 3, FLOAT, 2, { 16384, 2 } }, MP_COPY_ROWS, 16384, 2 };
	assert_copied(c);
	c = (struct copied){ { 3, FLOAT, 2, { 3000, 64 }, { 70, 1 } }, MP_COPY_ROWS, 3000, 64 };
	assert_copied(c);
}

/* No rows: an event without any, so that whoever counts computations is not left behind. */
static void empty_tensors_arrive(void **state)
{
	struct cast c = { 4, FLOAT, 2, { 0, 8 } };
	struct heard h;

	SKIP_IF_UNABLE();
	fresh_rule(MP_ROLE_SCORES, MP_COPY_ROWS);
	cast__make(&c);
	h = call("0 t4");
	assert_int_equal(h.count, 1);
	assert_int_equal(h.event[0]->total, 0);
	assert_int_equal(h.event[0]->chunks, 1);
	assert_int_equal(h.event[0]->size, TENSOR_HEAD);
	assert_counted(ROW, .hits = 1, .matched = 1, .events = 1, .bytes = TENSOR_HEAD);
	heard__free(&h);
}

/* Releases until 2.12. */
static void older_layout_is_read(void **state)
{
	struct copied c = { { 5, FLOAT, 2, { 4, 9 } }, MP_COPY_ROWS, 4, 9 };
	struct heard h;

	SKIP_IF_UNABLE();
	play__do(&play, "head %d", DOUBLE_HEAD_OLD);
	cast__make(&c.cast);
	play__do(&play, "head %d", DOUBLE_HEAD);
	fresh_rule(MP_ROLE_SCORES, MP_COPY_ROWS);
	table[ROW].tensors.head = DOUBLE_HEAD_OLD;
	h = call("0 t5");
	assert_int_equal(h.count, 1);
	assert_capture(&h, 0, (struct capture_of){ &c.cast, MP_ROLE_SCORES });
	heard__free(&h);
	counted(ROW);
}

/* How large the allocation of cache slots is goes along with them. */
static void slots_say_their_allocation(void **state)
{
	struct cast c = { 6, LONG, 1, { 10 }, { 1 }, 22 };
	struct heard h;

	SKIP_IF_UNABLE();
	fresh_rule(MP_ROLE_SLOTS, MP_COPY_ELEMENTS);
	cast__make(&c);
	h = call("0 t6");
	assert_int_equal(h.count, 1);
	assert_capture(&h, 0, (struct capture_of){ &c, MP_ROLE_SLOTS, 10, 1 });
	assert_int_equal(tensor_heard(&h, 0)->storage, 32 * 8);
	heard__free(&h);
	counted(ROW);
}

/* Several tensors of one call: one time, in the order of the rules, with the first one's identity.
 */
static void a_call_has_several_tensors(void **state)
{
	struct cast key = { 7, BFLOAT16, 2, { 50, 16 }, {}, 4 }, ids = { 8, LONG, 2, { 3, 2 } };
	struct cast scores = { 9, FLOAT, 2, { 3, 16 } };
	struct heard h;

	SKIP_IF_UNABLE();
	table[ROW] = tensors_row(MP_MOMENT_ALWAYS, any_rule(0, MP_ROLE_KEY, MP_COPY_NOTHING));
	tensors_row__add(&table[ROW], any_rule(8 + 1, MP_ROLE_IDS, MP_COPY_ROWS));
	tensors_row__add(&table[ROW], any_rule(8, MP_ROLE_SCORES, MP_COPY_ROWS));
	cast__make(&key);
	cast__make(&ids);
	cast__make(&scores);
	h = call("t7 0 0 0 0 0 t9 t8");
	assert_int_equal(h.count, 2);
	assert_capture(&h, 0, (struct capture_of){ &ids, MP_ROLE_IDS });
	assert_capture(&h, 1, (struct capture_of){ &scores, MP_ROLE_SCORES });
	for (size_t i = 0; i < 2; i++) {
		assert_true(tensor_heard(&h, i)->key != 0 && tensor_heard(&h, i)->data != 0);
		assert_int_equal(tensor_heard(&h, i)->key, tensor_heard(&h, 0)->key);
		assert_int_equal(tensor_heard(&h, i)->key_first, 50);
		assert_int_equal(tensor_heard(&h, i)->key_dtype, BFLOAT16);
	}
	assert_int_equal(h.event[0]->time_ns, h.event[1]->time_ns);
	assert_true(h.event[0]->object != h.event[1]->object);
	assert_counted(ROW, .hits = 1, .matched = 1, .events = 2, .bytes = bytes_heard(&h));
	heard__free(&h);
}

/* --- rules ------------------------------------------------------------------------------------ */

static void assert_silent(const char *arguments, struct mp_counters wanted)
{
	struct heard h = call(arguments);
	struct mp_counters is = counted(ROW);

	assert_int_equal(h.count, wanted.events);
	assert_counters_equal(&is, &wanted);
	heard__free(&h);
}

#define OTHER ((struct mp_counters){ .hits = 1 })
#define SHAPE ((struct mp_counters){ .hits = 1, .matched = 1, .shape = 1 })
#define FAULT ((struct mp_counters){ .hits = 1, .matched = 1, .fault = 1 })
#define UNREADABLE ((struct mp_counters){ .hits = 1, .unreadable = 1 })
#define UNGUARDED ((struct mp_counters){ .hits = 1, .unguarded = 1 })

static void rules_turn_away(void **state)
{
	struct cast vector = { 1, LONG, 1, { 8 } }, matrix = { 2, FLOAT, 2, { 3, 8 } };
	struct cast cube = { 3, FLOAT, 3, { 2, 3, 8 } };
	struct mp_tensor_rule *r;

	SKIP_IF_UNABLE();
	cast__make(&vector);
	cast__make(&matrix);
	cast__make(&cube);
#define REFUSED(arguments, change) \
	do { \
		r = fresh_rule(MP_ROLE_SCORES, MP_COPY_ROWS); \
		change; \
		assert_silent(arguments, OTHER); \
	} while (0)
	REFUSED("0 t1", r->dims_min = 2);
	REFUSED("0 t2", r->dims_max = 1);
	REFUSED("0 t2", r->dims_min = 3);
	REFUSED("0 t3", r->dims_max = 2);
	REFUSED("0 t2", r->dtypes = ~(1u << FLOAT));
	REFUSED("0 t1", r->dtypes = 1u << FLOAT);
	REFUSED("0 t2", r->first_min = 4);
	REFUSED("0 t2", r->first_max = 2);
	REFUSED("0 t2", r->last_min = 9);
	REFUSED("0 t2", r->last_max = 7);
	REFUSED("0 t1", r->last_min = 9); /* a vector's last size is its only one */
	REFUSED("0 t1", r->last_max = 7);
	REFUSED("0 t3", r->first_min = 3);
	r = fresh_rule(MP_ROLE_SCORES, MP_COPY_ROWS);
	r->dims_min = r->dims_max = 2;
	r->dtypes = 1u << FLOAT;
	r->first_min = r->first_max = 3;
	r->last_min = r->last_max = 8;
	assert_silent("0 t2",
		      (struct mp_counters){
			      .hits = 1, .matched = 1, .events = 1, .bytes = TENSOR_HEAD + 96 });
}

/* What the first rule takes and no copy can be made of, or what a later one does not take. */
static void shapes_give_captures_up(void **state)
{
	static const struct {
		struct cast cast;
		uint8_t copy;
	} cases[] = {
		{ { 1, FLOAT, 2, { 3, 8 }, { 1, 3 } }, MP_COPY_ROWS },
		{ { 1, FLOAT, 2, { 3, 8 }, { 16, 2 } }, MP_COPY_ELEMENTS },
		{ { 1, FLOAT, 2, { 16385, 1 } }, MP_COPY_ROWS },
		{ { 1, BYTE, 1, { (1 << 20) + 1 } }, MP_COPY_ELEMENTS },
		{ { 1, FLOAT, 2, { 3, 65 }, { 66, 1 } }, MP_COPY_ROWS }, /* wide and apart */
		{ { 1, FLOAT, 2, { 1, 4001 } }, MP_COPY_ROWS },          /* wider than a record */
		{ { 1, FLOAT, 3, { 2, 3, 8 }, { 0, 8, 1 } }, MP_COPY_ROWS }, /* the same twice */
	};
	struct cast good = { 2, FLOAT, 2, { 3, 8 } };

	SKIP_IF_UNABLE();
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct cast c = cases[i].cast;

		fresh_rule(MP_ROLE_SCORES, cases[i].copy);
		cast__make(&c);
		assert_silent("0 t1", SHAPE);
	}
	cast__make(&good);
	fresh_rule(MP_ROLE_SCORES, MP_COPY_ROWS);
	tensors_row__add(&table[ROW], any_rule(2, MP_ROLE_IDS, MP_COPY_ROWS));
	table[ROW].tensors.rule[1].last_max = 7;
	assert_silent("0 t2 t2", (struct mp_counters){ .hits = 1,
						       .matched = 1,
						       .shape = 1,
						       .events = 1,
						       .bytes = TENSOR_HEAD + 96 });
	/* Only where it lies is asked: how its elements lie does not matter. */
	fresh_rule(MP_ROLE_KEY, MP_COPY_NOTHING);
	good.size[0] = 3000;
	good.stride[0] = 1;
	good.stride[1] = 3000;
	cast__make(&good);
	assert_silent("0 t2", (struct mp_counters){ .hits = 1, .matched = 1 });
}

static void absurd_tensors_are_named(void **state)
{
	static const struct {
		const char *name;
		struct mp_counters wanted;
	} cases[] = {
#define COUNTED(...) { __VA_ARGS__ }
#define IS_OTHER COUNTED(.hits = 1)
#define IS_SHAPE COUNTED(.hits = 1, .matched = 1, .shape = 1)
#define IS_FAULT COUNTED(.hits = 1, .matched = 1, .fault = 1)
#define IS_UNREADABLE COUNTED(.hits = 1, .unreadable = 1)
		{ "null", IS_UNREADABLE },         { "garbage", IS_UNREADABLE },
		{ "kernel", IS_UNREADABLE },       { "cut", IS_UNREADABLE },
		{ "storage-null", IS_UNREADABLE }, { "storage-garbage", IS_UNREADABLE },
		{ "data-null", IS_FAULT },         { "data-garbage", IS_FAULT },
		{ "dims-zero", IS_OTHER },         { "dims-huge", IS_OTHER },
		{ "size-negative", IS_OTHER },     { "size-huge", IS_OTHER },
		{ "last-negative", IS_OTHER },     { "dtype-huge", IS_OTHER },
		{ "stride-negative", IS_SHAPE },   { "stride-huge", IS_SHAPE },
		{ "offset-huge", IS_FAULT },
	};

	SKIP_IF_UNABLE();
	fresh_rule(MP_ROLE_SCORES, MP_COPY_ROWS);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct cast c = { 1, FLOAT, 2, { 4, 8 } };

		cast__make(&c);
		play__do(&play, "odd 1 %s", cases[i].name);
		assert_silent("0 t1", cases[i].wanted);
	}
	assert_silent("0 !", UNREADABLE);
	assert_silent("0 0", UNREADABLE);
	/* A quantised type has no elements that are read, and all there is of it is its shape. */
	cast__make(&(struct cast){ 1, 12, 2, { 4, 8 } });
	assert_silent("0 t1", (struct mp_counters){
				      .hits = 1, .matched = 1, .events = 1, .bytes = TENSOR_HEAD });
}

/* A later tensor of a call that is ours: a capture given up. */
static void later_tensors_are_faults(void **state)
{
	static const char *const names[] = { "null", "garbage",         "kernel",
					     "cut",  "storage-garbage", "data-garbage" };
	struct cast good = { 2, FLOAT, 2, { 3, 8 } }, c = { 1, FLOAT, 2, { 4, 8 } };

	SKIP_IF_UNABLE();
	fresh_rule(MP_ROLE_SCORES, MP_COPY_ROWS);
	tensors_row__add(&table[ROW], any_rule(8, MP_ROLE_IDS, MP_COPY_ROWS));
	cast__make(&good);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		cast__make(&c);
		play__do(&play, "odd 1 %s", names[i]);
		assert_silent("0 t2 0 0 0 0 t1", (struct mp_counters){ .hits = 1,
								       .matched = 1,
								       .fault = 1,
								       .events = 1,
								       .bytes = TENSOR_HEAD + 96 });
	}
	cast__make(&c);
	play__do(&play, "odd 1 dims-huge");
	assert_silent("0 t2 0 0 0 0 t1", (struct mp_counters){ .hits = 1,
							       .matched = 1,
							       .shape = 1,
							       .events = 1,
							       .bytes = TENSOR_HEAD + 96 });
}

/* A model on a device: its tensors are named, and nothing of them read. */
static void device_tensors_have_no_rows(void **state)
{
	struct cast c = { 1, LONG, 2, { 2, 8 } };
	const struct mp_event_tensor *t;
	struct heard h;

	SKIP_IF_UNABLE();
	fresh_rule(MP_ROLE_TOKENS, MP_COPY_ELEMENTS);
	cast__make(&c);
	play__do(&play, "odd 1 device");
	play__do(&play, "odd 1 storage-garbage"); /* not looked at */
	h = call("0 t1");
	assert_int_equal(h.count, 1);
	t = tensor_heard(&h, 0);
	assert_int_equal(t->flags, MP_TENSOR_DEVICE);
	assert_int_equal(t->event.total, 0);
	assert_int_equal(t->row_bytes, 0);
	assert_int_equal(t->data, 0);
	assert_int_equal(t->size[1], 8);
	assert_counted(ROW, .hits = 1, .matched = 1, .events = 1, .bytes = TENSOR_HEAD);
	heard__free(&h);
}

/* --- scalars ---------------------------------------------------------------------------------- */

static void scalars_go_along_and_turn_away(void **state)
{
	struct cast c = { 1, FLOAT, 2, { 2, 8 } };
	struct heard h;

	SKIP_IF_UNABLE();
	fresh_rule(MP_ROLE_SCORES, MP_COPY_ROWS);
	table[ROW].tensors.scalar[0] = 2;
	table[ROW].tensors.scalar[1] = 5;
	table[ROW].tensors.scalar_min = 1;
	table[ROW].tensors.scalar_max = 64;
	cast__make(&c);
	h = call("0 t1 8 0 0 -77");
	assert_int_equal(h.count, 1);
	assert_int_equal(tensor_heard(&h, 0)->scalar[0], 8);
	assert_int_equal(tensor_heard(&h, 0)->scalar[1], -77);
	heard__free(&h);
	counted(ROW);
	assert_silent("0 t1 0", UNGUARDED);
	assert_silent("0 t1 65", UNGUARDED);
	assert_silent("0 t1 -1", UNGUARDED);
	assert_silent("0 t1 0x8000000000000008", UNGUARDED);
	assert_silent("0 t1 0x100000008", UNGUARDED);
	assert_silent("0 ! 65", UNGUARDED); /* not looked at */
	table[ROW].tensors.scalar[0] = MP_NO_ARGUMENT;
	h = call("0 t1 65");
	assert_int_equal(h.count, 1);
	assert_int_equal(tensor_heard(&h, 0)->scalar[0], 0);
	heard__free(&h);
	counted(ROW);
}

/* Only the lowest byte of a bool is said, and of that only the lowest bit means anything. */
static void a_bool_turns_away(void **state)
{
	static const char *const yes[] = { "0 t1 8 0 1", "0 t1 8 0 0xffffffffffffff01" };
	struct cast c = { 1, FLOAT, 2, { 2, 8 } };
	struct heard h;

	SKIP_IF_UNABLE();
	fresh_rule(MP_ROLE_SCORES, MP_COPY_ROWS);
	table[ROW].tensors.truth = 4;
	cast__make(&c);
	for (size_t i = 0; i < 2; i++) {
		h = call(yes[i]);
		assert_int_equal(h.count, 1);
		heard__free(&h);
		counted(ROW);
	}
	assert_silent("0 t1 8 0 0", UNGUARDED);
	assert_silent("0 t1 8 0 0xffffffffffffff00", UNGUARDED);
	assert_silent("0 ! 8 0 0", UNGUARDED); /* not looked at */
	table[ROW].tensors.truth = MP_STACK_ARGUMENT;
	assert_silent("0 t1 8 0 1", UNGUARDED); /* no register */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_are_copied),
		cmocka_unit_test(columns_and_elements_are_copied),
		cmocka_unit_test(large_captures_come_in_chunks),
		cmocka_unit_test(empty_tensors_arrive),
		cmocka_unit_test(older_layout_is_read),
		cmocka_unit_test(slots_say_their_allocation),
		cmocka_unit_test(a_call_has_several_tensors),
		cmocka_unit_test(rules_turn_away),
		cmocka_unit_test(shapes_give_captures_up),
		cmocka_unit_test(absurd_tensors_are_named),
		cmocka_unit_test(later_tensors_are_faults),
		cmocka_unit_test(device_tensors_have_no_rows),
		cmocka_unit_test(scalars_go_along_and_turn_away),
		cmocka_unit_test(a_bool_turns_away),
	};

	return cmocka_run_group_tests_name("bpf: tensors", tests, start_group, play__stop_all);
}
