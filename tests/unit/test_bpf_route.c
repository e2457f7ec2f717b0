/* SPDX-License-Identifier: BSD-2-Clause */
/* mp_route and the way to a row of the table, on a process whose every byte is known. */
#include <stdlib.h>

#include "tests/unit/bpf_play.h"

#define HEAD sizeof(struct mp_event_route)

static void all_routes_arrive_whole(void)
{
	static const struct {
		uint32_t k, rows, experts, stride, chunks;
	} cases[] = {
		{ 1, 1, 1, 1, 1 },     { 8, 1, 64, 8, 1 },    { 20, 1, 60, 20, 1 },
		{ 21, 1, 22, 30, 1 },  { 64, 1, 512, 64, 1 }, { 4, 2, 16, 4, 1 },
		{ 8, 26, 64, 8, 1 },   { 8, 27, 64, 9, 1 },   { 8, 250, 8, 8, 1 },
		{ 8, 251, 128, 8, 2 }, { 4, 513, 16, 4, 2 },  { 8, 2048, 128, 8, 9 },
		{ 7, 2048, 7, 11, 8 }, { 1, 16384, 3, 1, 9 }, { 64, 16384, 65, 64, 529 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t seed = 100 + i, k = cases[i].k, rows = cases[i].rows;
		struct heard h;

		play__do(&play, "route %u %u %u %u %u 1", seed, k, rows, cases[i].experts,
			 cases[i].stride);
		h = play__listen();
		assert_int_equal(h.count, cases[i].chunks);
		assert_route(&h, 0, seed, k, rows, cases[i].experts);
		assert_counted(MUL, .hits = 1, .matched = 1, .events = cases[i].chunks,
			       .bytes = HEAD * cases[i].chunks + 8ull * k * rows);
		heard__free(&h);
	}
}

static void route_arrives_whole(void **state)
{
	SKIP_IF_UNABLE();
	all_routes_arrive_whole();
	table[MUL].route.tensor = play__layout(true);
	all_routes_arrive_whole();
	table[MUL].route.tensor = play__layout(false);
}

static void only_thread_zero_is_read(void **state)
{
	struct heard h;

	SKIP_IF_UNABLE();
	play__do(&play, "route 7 8 5 64 8 13");
	h = play__listen();
	assert_int_equal(h.count, 1);
	assert_route(&h, 0, 7, 8, 5, 64);
	assert_int_equal(h.event[0]->site, MUL);
	assert_counted(MUL, .hits = 13, .unguarded = 12, .matched = 1, .events = 1,
		       .bytes = bytes_heard(&h));
	heard__free(&h);
}

static void guard_may_be_behind_a_pointer(void **state)
{
	struct heard h;

	SKIP_IF_UNABLE();
	table[MUL].enabled = 0;
	table[MUL_BEHIND].enabled = 1;
	play__do(&play, "route 8 8 1 64 8 3");
	table[MUL].enabled = 1;
	table[MUL_BEHIND].enabled = 0;
	h = play__listen();
	assert_int_equal(h.count, 1);
	assert_route(&h, 0, 8, 8, 1, 64);
	assert_int_equal(h.event[0]->site, MUL_BEHIND);
	assert_counted(MUL, .hits = 0);
	assert_counted(MUL_BEHIND, .hits = 3, .unguarded = 2, .matched = 1, .events = 1,
		       .bytes = HEAD + 64);
	heard__free(&h);
}

static void all_absurd_routes_are_named(void)
{
	static const struct {
		const char *name;
		struct mp_counters wanted;
	} cases[] = {
#define SHAPE .hits = 1, .matched = 1, .shape = 1
#define FAULT .hits = 1, .matched = 1, .fault = 1
#define UNREADABLE .hits = 1, .unreadable = 1 /* it may be any multiplication */
		{ "k-zero", { SHAPE } },
		{ "k-huge", { SHAPE } },
		{ "k-negative", { SHAPE } },
		{ "rows-zero", { SHAPE } },
		{ "rows-negative", { SHAPE } },
		{ "rows-huge", { SHAPE } },
		{ "rows-differ", { SHAPE } },
		{ "third-dimension", { SHAPE } },
		{ "type", { SHAPE } },
		{ "weights-type", { SHAPE } },
		{ "stride-small", { SHAPE } },
		{ "stride-huge", { SHAPE } },
		{ "stride-odd", { SHAPE } },
		{ "no-source", { .hits = 1 } },
		{ "no-ids", { .hits = 1 } },
		{ "other-name", { .hits = 1 } },
		{ "no-weights", { FAULT } },
		{ "garbage-source", { UNREADABLE } },
		{ "garbage-ids", { UNREADABLE } },
		{ "garbage-weights", { FAULT } },
		{ "kernel-ids", { UNREADABLE } },
		{ "data-null", { FAULT } },
		{ "data-hole", { FAULT } },
		{ "weights-hole", { FAULT } },
		{ "name-hole", { UNREADABLE } },
		{ "params-null", { UNREADABLE } },
		{ "second-chunk-hole", { FAULT, .events = 1, .bytes = HEAD + 16000 } },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mp_counters is;
		struct heard h;

		play__do(&play, "bad %s", cases[i].name);
		h = play__listen();
		is = counted(MUL);
		if (h.count != cases[i].wanted.events)
			fail_msg("%s: %zu events", cases[i].name, h.count);
		assert_counters_equal(&is, &cases[i].wanted);
		heard__free(&h);
	}
}

static void absurd_routes_are_named(void **state)
{
	SKIP_IF_UNABLE();
	all_absurd_routes_are_named();
	table[MUL].route.tensor = play__layout(true);
	all_absurd_routes_are_named();
	table[MUL].route.tensor = play__layout(false);
}

static void unterminated_name_is_cut(void **state)
{
	const struct mp_event_route *r;
	struct heard h;

	SKIP_IF_UNABLE();
	play__do(&play, "bad name-unterminated");
	h = play__listen();
	assert_int_equal(h.count, 1);
	r = (const void *)h.event[0];
	assert_int_equal(r->name[MP_NAME_SIZE - 1], '\0');
	assert_string_equal(r->name, "ffn_moe_topk-xxxxxxxxxxxxxxxxxx");
	assert_counted(MUL, .hits = 1, .matched = 1, .events = 1, .bytes = HEAD + 2 * 4 * 8 * 4);
	heard__free(&h);
}

static void strangers_and_disabled_rows_are_left_alone(void **state)
{
	struct play stranger;
	struct heard h;

	SKIP_IF_UNABLE();
	play__start(&stranger);
	play__do(&stranger, "flood 1 23 8 1 1");
	play__do(&stranger, "rows 1 8 0");
	play__do(&stranger, "line 1 2 3 slot");
	play__do(&stranger, "tasks 1 1 8");
	play__do(&stranger, "empty 5");
	play__stop(&stranger);
	table[MUL].enabled = 0;
	play__do(&play, "flood 1 7 8 1 1");
	table[MUL].enabled = 1;
	h = play__listen();
	assert_int_equal(h.count, 0);
	assert_counted(MUL, .foreign = 23);
	assert_counted(SET_INPUTS, .foreign = 1);
	assert_counted(LOG, .foreign = 1);
	assert_counted(POST, .foreign = 1);
	assert_counted(NOTHING, .foreign = 5);
}

/* Five threads, each its own context, on fewer CPUs: captures must not mix. */
static void threads_do_not_mix(void **state)
{
	enum { THREADS = 5, CALLS = 499, ROWS = 3, K = 6 };
	unsigned seen[THREADS] = {};
	struct heard h;

	SKIP_IF_UNABLE();
	play__do(&play, "flood 0 %d %d %d %d", CALLS, K, ROWS, THREADS);
	h = play__listen();
	assert_int_equal(h.count, THREADS * CALLS);
	for (size_t i = 0; i < h.count; i++) {
		unsigned seed = atoi(((struct mp_event_route *)h.event[i])->name + 13);

		assert_in_range(seed / 1000000, 0, THREADS - 1);
		assert_int_equal(seed % 1000000, seen[seed / 1000000]++);
		assert_route(&h, i, seed, K, ROWS, K + 3);
	}
	assert_counted(MUL, .hits = THREADS * CALLS, .matched = THREADS * CALLS,
		       .events = THREADS * CALLS, .bytes = bytes_heard(&h));
	heard__free(&h);
}

static uint32_t computation_of(const struct mp_event *e)
{
	return e->kind == MP_EVENT_ROWS ? ((const struct mp_event_rows *)e)->computation
					: ((const struct mp_event_route *)e)->computation;
}

/* Routes name their computation also where its rows could not be read, and say so. */
static void routes_name_their_computation(void **state)
{
	static const uint32_t wanted[] = {
		1, 1, 1, 1, 2 | MP_COMPUTATION_REFUSED, 3 | MP_COMPUTATION_REFUSED, 4, 4, 4
	};
	struct heard h;

	SKIP_IF_UNABLE();
	play__do(&play, "step 1 2 4 3");
	play__do(&play, "badrows none");
	play__do(&play, "bad nothing");
	play__do(&play, "badrows lists-hole");
	play__do(&play, "bad nothing");
	play__do(&play, "step 2 1 4 2");
	h = play__listen();
	assert_int_equal(h.count, sizeof(wanted) / sizeof(*wanted));
	assert_int_equal(h.event[0]->kind, MP_EVENT_ROWS);
	assert_int_equal(h.event[6]->kind, MP_EVENT_ROWS);
	for (size_t i = 0; i < h.count; i++) {
		assert_int_equal(h.event[i]->tid, h.event[0]->tid);
		assert_int_equal(computation_of(h.event[i]), wanted[i]);
	}
	assert_counted(SET_INPUTS, .hits = 4, .matched = 4, .shape = 1, .fault = 1, .events = 2,
		       .bytes = h.event[0]->size + h.event[6]->size);
	counted(MUL);
	heard__free(&h);
	/* Another thread has its own numbers. */
	play__do(&play, "route 1 4 1 4 4 1");
	h = play__listen();
	assert_int_equal(computation_of(h.event[0]), 0);
	heard__free(&h);
}

static void empty_counts_only(void **state)
{
	SKIP_IF_UNABLE();
	play__do(&play, "empty 1009");
	assert_counted(NOTHING, .hits = 1009);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(route_arrives_whole),
		cmocka_unit_test(only_thread_zero_is_read),
		cmocka_unit_test(guard_may_be_behind_a_pointer),
		cmocka_unit_test(absurd_routes_are_named),
		cmocka_unit_test(unterminated_name_is_cut),
		cmocka_unit_test(strangers_and_disabled_rows_are_left_alone),
		cmocka_unit_test(threads_do_not_mix),
		cmocka_unit_test(routes_name_their_computation),
		cmocka_unit_test(empty_counts_only),
	};

	return cmocka_run_group_tests_name("bpf: routes", tests, play__start_large, play__stop_all);
}
