/* SPDX-License-Identifier: BSD-2-Clause */
/* A ring of 64 KiB: what was done is what was delivered plus what was counted as lost. */
#include <stdlib.h>

#include "tests/unit/bpf_play.h"

#define RING_BYTES (64u << 10)
#define HEAD sizeof(struct mp_event_route)

/* Rows of complete ROUTE captures, each compared with its seed; chunks of others are counted. */
static uint64_t rows_delivered(const struct heard *h, uint32_t k, uint64_t *incomplete)
{
	uint64_t rows = 0;

	*incomplete = 0;
	for (size_t i = 0; i < h->count; i++) {
		const struct mp_event *first = h->event[i];
		uint32_t seed = atoi(((const struct mp_event_route *)first)->name + 13);
		uint32_t chunks = 0, count = 0;

		if (first->kind != MP_EVENT_ROUTE || first->chunk)
			continue;
		for (size_t j = i; j < h->count && chunks < first->chunks; j++) {
			const struct mp_event *e = h->event[j];

			if (e->tid != first->tid || e->time_ns != first->time_ns)
				continue;
			assert_chunk(e, first, chunks++);
			assert_route_contents(e, seed, k, k + 3);
			count += e->count;
		}
		if (chunks == first->chunks) {
			assert_int_equal(count, first->total);
			rows += count;
		} else {
			(*incomplete)++;
		}
	}
	return rows;
}

/* Nobody reads: routes fill three quarters and no more, and other events still pass. */
static void a_quarter_is_left_to_the_rest(void **state)
{
	enum { CALLS = 997, THREADS = 2, RECORD = 256 + 8, FIT = RING_BYTES / 4 * 3 / RECORD };
	struct mp_counters c;
	uint64_t incomplete;
	struct heard h;

	SKIP_IF_UNABLE();
	play__do(&play, "flood 0 %d 8 1 %d", CALLS, THREADS);
	play__do(&play, "rows 5 8 0");
	play__do(&play, "line 1 2 3 slot ");
	play__do(&play, "tasks 1 1 8");
	h = play__listen();
	c = counted(MUL);
	assert_int_equal(c.hits, CALLS * THREADS);
	/* Both threads may have seen the last free place. */
	assert_in_range(c.events, FIT, FIT + THREADS - 1);
	assert_int_equal(c.dropped, CALLS * THREADS - c.events);
	assert_int_equal(c.dropped_rows, c.dropped);
	assert_int_equal(rows_delivered(&h, 8, &incomplete), c.events);
	assert_int_equal(incomplete, 0);
	assert_int_equal(h.count, c.events + 4);
	assert_counted(SET_INPUTS, .hits = 1, .matched = 1, .events = 1,
		       .bytes = h.event[h.count - 4]->size);
	counted(LOG);
	counted(POST);
	heard__free(&h);
}

/* The reader reads while threads write, never fast enough. */
static void lost_and_delivered_add_up(void **state)
{
	static const struct {
		unsigned calls, k, rows;
		int threads;
	} cases[] = {
		{ 1999, 8, 1, 3 }, { 499, 8, 40, 3 }, { 211, 8, 513, 4 }, { 307, 4, 600, 2 }
	};

	SKIP_IF_UNABLE();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t done = (uint64_t)cases[i].calls * cases[i].threads * cases[i].rows;
		uint64_t incomplete, delivered;
		struct mp_counters c;
		struct heard h = {};

		play__begin(&play, "flood 0 %u %u %u %d", cases[i].calls, cases[i].k, cases[i].rows,
			    cases[i].threads);
		while (!play__done(&play, 0))
			play__listen_more(&h);
		play__listen_more(&h);
		c = counted(MUL);
		delivered = rows_delivered(&h, cases[i].k, &incomplete);
		print_message("%u rows: %llu of %llu captures lost, %llu of them begun\n",
			      cases[i].rows, c.dropped, c.matched, (unsigned long long)incomplete);
		assert_int_equal(c.hits, (uint64_t)cases[i].calls * cases[i].threads);
		assert_int_equal(c.matched, c.hits);
		assert_int_equal(c.fault + c.shape, 0);
		assert_int_equal(c.events, h.count);
		assert_int_equal(c.bytes, bytes_heard(&h));
		assert_true(delivered > 0);
		assert_int_equal(delivered + c.dropped_rows, done);
		assert_int_equal(c.dropped_rows, c.dropped * cases[i].rows);
		heard__free(&h);
	}
}

/* What can never fit is refused before anything of it is written. */
static void a_route_larger_than_the_ring_is_one_loss(void **state)
{
	struct heard h;

	SKIP_IF_UNABLE();
	play__do(&play, "route 1 8 2048 64 8 1");
	h = play__listen();
	assert_int_equal(h.count, 0);
	assert_counted(MUL, .hits = 1, .matched = 1, .dropped = 1, .dropped_rows = 2048);
	play__do(&play, "route 1 8 700 64 8 1"); /* 250 + 250 + 200 rows */
	h = play__listen();
	assert_int_equal(h.count, 0);
	assert_counted(MUL, .hits = 1, .matched = 1, .dropped = 1, .dropped_rows = 700);
	play__do(&play, "route 1 8 520 64 8 1"); /* 250 + 250 + 20 */
	h = play__listen();
	assert_route(&h, 0, 1, 8, 520, 64);
	assert_counted(MUL, .hits = 1, .matched = 1, .events = 3, .bytes = 3 * HEAD + 520 * 64);
	heard__free(&h);
}

/* Rows and tokens write what fits; the whole capture is lost once. */
static void a_batch_larger_than_the_ring_is_lost_once(void **state)
{
	struct heard h;

	SKIP_IF_UNABLE();
	play__do(&play, "rows 1 16384 1");
	h = play__listen();
	assert_int_equal(h.count, 3);
	assert_counted(SET_INPUTS, .hits = 1, .matched = 1, .events = 3, .dropped = 1,
		       .dropped_rows = 16384, .bytes = bytes_heard(&h));
	heard__free(&h);
	play__do(&play, "tasks 1 1 20000");
	h = play__listen();
	assert_int_equal(h.count, 1 + 3);
	assert_counted(POST, .hits = 1, .matched = 1, .events = 4, .dropped = 1,
		       .dropped_rows = 20000, .bytes = bytes_heard(&h));
	heard__free(&h);
	play__do(&play, "rows 2 9 0"); /* and then it goes on */
	h = play__listen();
	assert_int_equal(h.count, 1);
	heard__free(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_quarter_is_left_to_the_rest),
		cmocka_unit_test(lost_and_delivered_add_up),
		cmocka_unit_test(a_route_larger_than_the_ring_is_one_loss),
		cmocka_unit_test(a_batch_larger_than_the_ring_is_lost_once),
	};

	return cmocka_run_group_tests_name("bpf: a small ring", tests, play__start_tiny,
					   play__stop_all);
}
