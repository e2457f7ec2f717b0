/* SPDX-License-Identifier: BSD-2-Clause */
/* mp_tensors: which hits count, whose computation they belong to, and what a full ring costs. */
#include "tests/unit/bpf_tensors.h"

enum { BEGIN, ROUTE, FIRST, FIRST_TOO, REMEMBER, ALWAYS, ROWS };

#define ROUTE_BYTES 64u /* of the scores */
#define REFUSED MP_COMPUTATION_REFUSED

/* The cast: 1 the embedding, 2 tokens, 3 scores, 4 positions, 5 and 6 buffers of tokens. */
static struct cast embedding = { 1, BFLOAT16, 2, { 100, 4 } }, tokens = { 2, LONG, 2, { 1, 2 } };
static struct cast scores = { 3, FLOAT, 2, { 2, 8 } }, positions = { 4, FLOAT, 2, { 1, 16 } };
static struct cast buffer = { 5, LONG, 1, { 50 } }, narrow = { 6, INT, 1, { 50 }, { 1 }, 3 };

static void fill_table(struct mp_site *t)
{
	t[BEGIN] = tensors_row(MP_MOMENT_BEGIN, any_rule(0, MP_ROLE_KEY, MP_COPY_NOTHING));
	tensors_row__add(&t[BEGIN], any_rule(1, MP_ROLE_TOKENS, MP_COPY_ELEMENTS));
	t[ROUTE] = tensors_row(MP_MOMENT_ROUTE, any_rule(1, MP_ROLE_SCORES, MP_COPY_ROWS));
	t[FIRST] = tensors_row(MP_MOMENT_FIRST, any_rule(1, MP_ROLE_POSITIONS, MP_COPY_COLUMN));
	t[FIRST_TOO] = t[FIRST];
	t[REMEMBER] = tensors_row(MP_MOMENT_REMEMBER, any_rule(0, MP_ROLE_TOKENS, MP_COPY_NOTHING));
	t[ALWAYS] = tensors_row(MP_MOMENT_ALWAYS, any_rule(1, MP_ROLE_SCORES, MP_COPY_ROWS));
}

static const struct stage stage = {
	.name = "aten_double",
	.fill = fill_table,
	.places = ROWS,
	.place = { { "mp_tensors", "double_call_0" },
		   { "mp_tensors", "double_call_1" },
		   { "mp_tensors", "double_call_2" },
		   { "mp_tensors", "double_call_3" },
		   { "mp_tensors", "double_call_4" },
		   { "mp_tensors", "double_call_5" } },
};

static int start(uint32_t ring_bytes)
{
	struct stage s = stage;
	int err;

	s.ring_bytes = ring_bytes;
	err = play__raise(&s);
	if (err || play__skip_reason())
		return err;
	cast__make(&embedding);
	cast__make(&tokens);
	cast__make(&scores);
	cast__make(&positions);
	cast__make(&buffer);
	cast__make(&narrow);
	return 0;
}

static int start_large(void **state)
{
	return start(16 << 20);
}

static int start_tiny(void **state)
{
	return start(64 << 10);
}

/* One word a hit, on the main thread. */
static void play_hits(const char *hits)
{
	static const char *const calls[] = {
		['b'] = "0 1 t1 t2",  ['r'] = "1 1 0 t3", ['f'] = "2 1 0 t4", ['g'] = "3 1 0 t4",
		['m'] = "4 1 t5",     ['n'] = "4 1 t6",   ['a'] = "5 1 0 t3", ['B'] = "0 1 t1 !",
		['R'] = "1 1 0 t3 0", ['x'] = "0 1 ! t2",
	};

	for (; *hits; hits++)
		play__do(&play, "call %s", calls[(unsigned)*hits]);
}

static void forget_counts(void)
{
	for (uint32_t i = 0; i < ROWS; i++)
		counted(i);
}

/* The computation of this thread, whatever was before: its next one gets the number after it. */
static uint32_t begin(void)
{
	struct heard h;
	uint32_t number;

	play_hits("b");
	h = play__listen();
	assert_int_equal(h.count, 1);
	number = tensor_heard(&h, 0)->computation;
	heard__free(&h);
	forget_counts();
	return number;
}

/* Event @at is of row @site and computation @number. */
static const struct mp_event_tensor *assert_event(const struct heard *h, size_t at, uint32_t site,
						  uint32_t number)
{
	const struct mp_event_tensor *t = tensor_heard(h, at);

	assert_int_equal(t->event.site, site);
	assert_int_equal(t->computation, number);
	return t;
}

/* --- computations ----------------------------------------------------------------------------- */

static void nothing_is_first_before_the_beginning(void **state)
{
	struct heard h;

	SKIP_IF_UNABLE();
	play_hits("f");
	h = play__listen();
	assert_int_equal(h.count, 0);
	assert_counted(FIRST, .hits = 1, .unguarded = 1);
	play_hits("ra"); /* a result of no computation is delivered and says so */
	h = play__listen();
	assert_int_equal(h.count, 2);
	assert_event(&h, 0, ROUTE, 0);
	assert_event(&h, 1, ALWAYS, 0);
	heard__free(&h);
	forget_counts();
}

static void moments_follow_the_computation(void **state)
{
	static const struct {
		uint32_t site, after, ordinal;
	} wanted[] = {
		{ BEGIN, 1, 0 }, { FIRST, 1, 0 },  { FIRST_TOO, 1, 0 }, { ROUTE, 1, 0 },
		{ ROUTE, 1, 1 }, { ALWAYS, 1, 0 }, { ROUTE, 1, 2 },     { BEGIN, 2, 0 },
		{ ROUTE, 2, 0 }, { FIRST, 2, 0 },  { ROUTE, 2, 1 },
	};
	uint32_t before;
	struct heard h;

	SKIP_IF_UNABLE();
	before = begin();
	play_hits("bffgrfgrarbrffr");
	h = play__listen();
	assert_int_equal(h.count, sizeof(wanted) / sizeof(*wanted));
	for (size_t i = 0; i < h.count; i++) {
		const struct mp_event_tensor *t =
			assert_event(&h, i, wanted[i].site, before + wanted[i].after);

		assert_int_equal(t->ordinal, wanted[i].ordinal);
		assert_int_equal(t->key_first, wanted[i].site == BEGIN ? 100 : 0);
		assert_int_equal(t->key_dtype, wanted[i].site == BEGIN ? BFLOAT16 : 0);
	}
	assert_counted(BEGIN, .hits = 2, .matched = 2, .events = 2,
		       .bytes = 2 * (TENSOR_HEAD + 16));
	assert_counted(ROUTE, .hits = 5, .matched = 5, .events = 5,
		       .bytes = 5 * (TENSOR_HEAD + ROUTE_BYTES));
	assert_counted(FIRST, .hits = 5, .unguarded = 3, .matched = 2, .events = 2,
		       .bytes = 2 * (TENSOR_HEAD + 4));
	assert_counted(FIRST_TOO, .hits = 2, .unguarded = 1, .matched = 1, .events = 1,
		       .bytes = TENSOR_HEAD + 4);
	assert_counted(ALWAYS, .hits = 1, .matched = 1, .events = 1,
		       .bytes = TENSOR_HEAD + ROUTE_BYTES);
	heard__free(&h);
}

static void threads_have_their_own_computations(void **state)
{
	uint32_t before;
	struct heard h;

	SKIP_IF_UNABLE();
	before = begin();
	play__do(&play, "thread 0 3 t1 t2");
	play_hits("r");
	h = play__listen();
	assert_int_equal(h.count, 4);
	for (uint32_t i = 0; i < 3; i++) {
		assert_event(&h, i, BEGIN, i + 1);
		assert_int_equal(h.event[i]->tid, h.event[0]->tid);
	}
	assert_event(&h, 3, ROUTE, before);
	assert_true(h.event[3]->tid != h.event[0]->tid);
	assert_int_equal(h.event[3]->tgid, h.event[0]->tgid);
	heard__free(&h);
	forget_counts();
}

/* Its rows were there and could not be read: results say so, until the next one begins. */
static void a_beginning_that_fails_refuses_its_results(void **state)
{
	uint32_t before;
	struct heard h;

	SKIP_IF_UNABLE();
	before = begin();
	play_hits("Brfbr");
	h = play__listen();
	assert_int_equal(h.count, 4);
	assert_event(&h, 0, ROUTE, (before + 1) | REFUSED);
	assert_event(&h, 1, FIRST, (before + 1) | REFUSED);
	assert_event(&h, 2, BEGIN, before + 2);
	assert_event(&h, 3, ROUTE, before + 2);
	assert_counted(BEGIN, .hits = 2, .matched = 2, .fault = 1, .events = 1,
		       .bytes = TENSOR_HEAD + 16);
	heard__free(&h);
	/* What is no beginning changes nothing. */
	play_hits("xr");
	h = play__listen();
	assert_int_equal(h.count, 1);
	assert_event(&h, 0, ROUTE, before + 2);
	assert_counted(BEGIN, .hits = 1, .unreadable = 1);
	heard__free(&h);
	forget_counts();
}

/* A result that was given up counts as one of its computation. */
static void ordinals_count_what_is_given_up(void **state)
{
	struct cast hidden = { 7, FLOAT, 2, { 2, 8 } },
		    slanted = { 8, FLOAT, 2, { 2, 8 }, { 1, 2 } };
	uint32_t before;
	struct heard h;

	SKIP_IF_UNABLE();
	cast__make(&hidden);
	cast__make(&slanted);
	play__do(&play, "odd 7 data-garbage");
	before = begin();
	play_hits("r");
	play__do(&play, "call 1 1 0 t7");
	play_hits("r");
	play__do(&play, "call 1 2 0 t8");
	play__do(&play, "call 1 1 0 !"); /* may be any call */
	play_hits("r");
	h = play__listen();
	assert_int_equal(h.count, 3);
	assert_int_equal(assert_event(&h, 0, ROUTE, before)->ordinal, 0);
	assert_int_equal(assert_event(&h, 1, ROUTE, before)->ordinal, 2);
	assert_int_equal(assert_event(&h, 2, ROUTE, before)->ordinal, 5);
	assert_counted(ROUTE, .hits = 7, .matched = 6, .unreadable = 1, .fault = 1, .shape = 2,
		       .events = 3, .bytes = 3 * (TENSOR_HEAD + ROUTE_BYTES));
	heard__free(&h);
}

/* --- what was remembered ---------------------------------------------------------------------- */

static void the_first_result_recalls(void **state)
{
	struct cast recalled = { 5, LONG, 1, { 2 }, { 1 } };
	uint32_t before;
	struct heard h;

	SKIP_IF_UNABLE();
	before = begin();
	play_hits("mbrrbr");
	h = play__listen();
	assert_int_equal(h.count, 2 + 3 + 2);
	for (size_t i = 0; i < 2; i++) {
		size_t at = i ? 5 : 1;

		assert_event(&h, at, ROUTE, before + 1 + i);
		assert_event(&h, at + 1, ROUTE, before + 1 + i);
		assert_int_equal(h.event[at]->time_ns, h.event[at + 1]->time_ns);
		assert_capture(&h, at,
			       (struct capture_of){ &scores, MP_ROLE_SCORES, .site = ROUTE });
		assert_capture(&h, at + 1,
			       (struct capture_of){ &recalled, MP_ROLE_TOKENS, .site = ROUTE });
	}
	assert_counted(REMEMBER, .hits = 1, .matched = 1);
	heard__free(&h);
	/* Another buffer, of 32 bits; the last word counts. */
	recalled = (struct cast){ 6, INT, 1, { 2 }, { 1 }, 3 };
	play_hits("mnmnbr");
	h = play__listen();
	assert_int_equal(h.count, 3);
	assert_capture(&h, 2, (struct capture_of){ &recalled, MP_ROLE_TOKENS, .site = ROUTE });
	heard__free(&h);
	forget_counts();
}

/* What cannot be delivered as it lies is forgotten; what is gone when it is due is a fault. */
static void what_cannot_be_recalled(void **state)
{
	static const char *const odd[] = { "device", "data-null" };
	struct cast c;
	struct heard h;

	SKIP_IF_UNABLE();
	for (size_t i = 0; i < 2; i++) {
		c = (struct cast){ 9, LONG, 1, { 50 } };
		cast__make(&c);
		play__do(&play, "odd 9 %s", odd[i]);
		begin();
		play__do(&play, "call 4 1 t9");
		play_hits("r");
		h = play__listen();
		assert_int_equal(h.count, 1);
		assert_event(&h, 0, ROUTE, tensor_heard(&h, 0)->computation);
		assert_counted(ROUTE, .hits = 1, .matched = 1, .events = 1, .fault = i,
			       .bytes = TENSOR_HEAD + ROUTE_BYTES);
		heard__free(&h);
		forget_counts();
	}
	c = (struct cast){ 9, LONG, 1, { 50 }, { 2 } };
	cast__make(&c);
	play_hits("m");
	begin();
	play__do(&play, "call 4 1 t9");
	assert_counted(REMEMBER, .hits = 1, .matched = 1, .shape = 1);
	play_hits("r");
	h = play__listen();
	assert_int_equal(h.count, 1);
	heard__free(&h);
	forget_counts();
}

/* --- before the layout is known --------------------------------------------------------------- */

static void raw_bytes_before_the_layout_is_known(void **state)
{
	struct cast again = embedding;
	uint32_t before;
	struct heard h;
	uint64_t dims;

	SKIP_IF_UNABLE();
	before = begin();
	table[BEGIN].tensors.head = table[FIRST].tensors.head = 0;
	play_hits("bff");
	h = play__listen();
	assert_int_equal(h.count, 4);
	for (size_t i = 0; i < h.count; i++) {
		const struct mp_event_tensor *t = assert_event(&h, i, i < 2 ? BEGIN : FIRST, 0);

		assert_int_equal(t->flags, MP_TENSOR_RAW);
		assert_int_equal(t->event.total, 1);
		assert_int_equal(t->row_bytes, MP_TENSOR_RAW_BYTES);
		assert_int_equal(t->event.size, TENSOR_HEAD + MP_TENSOR_RAW_BYTES);
		memcpy(&dims, (const uint8_t *)(t + 1) + DOUBLE_HEAD, sizeof(dims));
		assert_int_equal(dims, 2);
	}
	assert_int_equal(tensor_heard(&h, 0)->role, MP_ROLE_KEY);
	assert_int_equal(tensor_heard(&h, 1)->role, MP_ROLE_TOKENS);
	heard__free(&h);
	assert_counted(BEGIN, .hits = 1, .matched = 1, .events = 2, .bytes = 2 * 320);
	/* Nothing there, and less than that. */
	play_hits("x");
	assert_counted(BEGIN, .hits = 1, .matched = 1);
	play__do(&play, "odd 1 cut");
	play_hits("b");
	assert_counted(BEGIN, .hits = 1, .matched = 1, .fault = 1);
	cast__make(&again);
	table[BEGIN].tensors.head = table[FIRST].tensors.head = DOUBLE_HEAD;
	assert_int_equal(begin(), before + 1);
}

/* The bytes come before what was read by the offset that they are to confirm. */
static void raw_bytes_beside_what_is_presumed(void **state)
{
	static const uint8_t flags[] = { MP_TENSOR_RAW, MP_TENSOR_RAW, 0 };
	struct heard h;
	uint32_t before;
	uint64_t dims;

	SKIP_IF_UNABLE();
	before = begin();
	table[BEGIN].tensors.head = DOUBLE_HEAD | MP_TENSOR_RAW;
	play_hits("b");
	h = play__listen();
	assert_int_equal(h.count, 3);
	for (size_t i = 0; i < h.count; i++)
		assert_int_equal(tensor_heard(&h, i)->flags, flags[i]);
	memcpy(&dims, (const uint8_t *)(tensor_heard(&h, 1) + 1) + DOUBLE_HEAD, sizeof(dims));
	assert_int_equal(dims, 2);
	assert_int_equal(tensor_heard(&h, 2)->role, MP_ROLE_TOKENS);
	assert_int_equal(tensor_heard(&h, 2)->computation, before + 1);
	assert_int_equal(tensor_heard(&h, 2)->event.time_ns, tensor_heard(&h, 0)->event.time_ns);
	heard__free(&h);
	forget_counts();
	/* Nothing is there at the offset: only the bytes come. */
	table[BEGIN].tensors.head = (DOUBLE_HEAD + 64) | MP_TENSOR_RAW;
	play_hits("b");
	h = play__listen();
	assert_int_equal(h.count, 2);
	heard__free(&h);
	forget_counts();
	table[BEGIN].tensors.head = DOUBLE_HEAD;
	assert_int_equal(begin(), before + 2);
}

static void strangers_are_left_alone(void **state)
{
	struct play stranger;
	struct heard h;

	SKIP_IF_UNABLE();
	play__start(&stranger);
	for (unsigned i = 0; i < ROWS; i++)
		play__do(&stranger, "call %u 7 ! !", i);
	play__stop(&stranger);
	h = play__listen();
	assert_int_equal(h.count, 0);
	for (unsigned i = 0; i < ROWS; i++)
		assert_counted(i, .foreign = 7);
}

/* --- a full ring ------------------------------------------------------------------------------ */

/* Nobody reads: results fill three quarters, and the rest still passes. */
static void a_quarter_is_left_to_the_rest(void **state)
{
	enum { CALLS = 300, RECORD = 256 + 8, FIT = (64 << 10) / 4 * 3 / RECORD };
	uint32_t before;
	struct heard h;

	SKIP_IF_UNABLE();
	before = begin();
	play__do(&play, "call 1 %d 0 t3", CALLS);
	play_hits("fbr");
	h = play__listen();
	assert_int_equal(h.count, FIT + 2);
	assert_event(&h, FIT, FIRST, before);
	assert_event(&h, FIT + 1, BEGIN, before + 1);
	assert_counted(ROUTE, .hits = CALLS + 1, .matched = CALLS + 1, .events = FIT,
		       .dropped = CALLS + 1 - FIT, .dropped_rows = 2 * (CALLS + 1 - FIT),
		       .bytes = FIT * (TENSOR_HEAD + ROUTE_BYTES));
	heard__free(&h);
	/* The lost one was the first of its computation. */
	play_hits("r");
	h = play__listen();
	assert_int_equal(assert_event(&h, 0, ROUTE, before + 1)->ordinal, 1);
	heard__free(&h);
	forget_counts();
}

/* Records of one size: what it takes is known before the first is written. */
static void large_results_leave_a_quarter_too(void **state)
{
	struct cast wide = { 7, FLOAT, 2, { 9, 1024 } }; /* 3 rows a record: 3 records of 16 KiB */
	struct heard h;

	SKIP_IF_UNABLE();
	begin();
	cast__make(&wide);
	play__do(&play, "call 1 1 0 t7");
	h = play__listen();
	assert_int_equal(h.count, 0);
	assert_counted(ROUTE, .hits = 1, .matched = 1, .dropped = 1, .dropped_rows = 9);
	wide.size[0] = 6;
	cast__make(&wide);
	play__do(&play, "call 1 2 0 t7");
	h = play__listen();
	assert_int_equal(h.count, 2);
	assert_capture(&h, 0, (struct capture_of){ &wide, MP_ROLE_SCORES, .site = ROUTE });
	assert_counted(ROUTE, .hits = 2, .matched = 2, .events = 2, .dropped = 1, .dropped_rows = 6,
		       .bytes = bytes_heard(&h));
	heard__free(&h);
}

/* Rows write what fits: the computation is without them, and its results say so. */
static void rows_that_do_not_fit_refuse_the_computation(void **state)
{
	struct cast prompt = { 7, LONG, 2, { 1, 9000 } }; /* 2000 a record */
	uint32_t before;
	struct heard h;

	SKIP_IF_UNABLE();
	before = begin();
	cast__make(&prompt);
	play__do(&play, "call 0 1 t1 t7");
	h = play__listen();
	assert_int_equal(h.count, 3);
	assert_int_equal(h.event[0]->chunks, 5);
	assert_counted(BEGIN, .hits = 1, .matched = 1, .events = 3, .dropped = 1,
		       .dropped_rows = 9000, .bytes = bytes_heard(&h));
	heard__free(&h);
	play_hits("rbr");
	h = play__listen();
	assert_int_equal(h.count, 3);
	assert_event(&h, 0, ROUTE, (before + 1) | REFUSED);
	assert_event(&h, 1, BEGIN, before + 2);
	assert_event(&h, 2, ROUTE, before + 2);
	heard__free(&h);
	forget_counts();
}

int main(void)
{
	const struct CMUnitTest large[] = {
		cmocka_unit_test(nothing_is_first_before_the_beginning),
		cmocka_unit_test(moments_follow_the_computation),
		cmocka_unit_test(threads_have_their_own_computations),
		cmocka_unit_test(a_beginning_that_fails_refuses_its_results),
		cmocka_unit_test(ordinals_count_what_is_given_up),
		cmocka_unit_test(the_first_result_recalls),
		cmocka_unit_test(what_cannot_be_recalled),
		cmocka_unit_test(raw_bytes_before_the_layout_is_known),
		cmocka_unit_test(raw_bytes_beside_what_is_presumed),
		cmocka_unit_test(strangers_are_left_alone),
	};
	const struct CMUnitTest tiny[] = {
		cmocka_unit_test(a_quarter_is_left_to_the_rest),
		cmocka_unit_test(large_results_leave_a_quarter_too),
		cmocka_unit_test(rows_that_do_not_fit_refuse_the_computation),
	};
	int failed =
		cmocka_run_group_tests_name("bpf: moments", large, start_large, play__stop_all);

	return failed + cmocka_run_group_tests_name("bpf: moments, a small ring", tiny, start_tiny,
						    play__stop_all);
}
