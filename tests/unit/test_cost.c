/* SPDX-License-Identifier: BSD-2-Clause */
/* What the probes cost the target: from hits, captures and bytes to thread time, by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "collector/cost.h"
#include "collector/trace/reader.h"
#include "collector/trace/records.h"
#include "collector/trace/writer.h"
#include "probe/abi/site.h"
#include "probe/attach/calibrate.h"
#include "probe/engine/engine.h"
#include "probe/engine/sink.h"

#define ROW_BYTES 64

static const struct hit_costs costs = {
	.hit = { [SITE_EMULATED] = 1000, [SITE_STEPPED] = 9000 },
	.away = 10,
	.capture = 2000,
	.row = 100,
	.row_bytes = ROW_BYTES,
};

/* Write @n COST records for @f and give them back. */
struct play {
	int fd[2];
	struct trace_writer *writer;
	struct trace_reader *reader;
	struct cost cost;
};

static void play__begin(struct play *p)
{
	const struct trace_writer_options o = { .codec = TRACE_CODEC_NONE };

	memset(p, 0, sizeof(*p));
	assert_int_equal(pipe(p->fd), 0);
	assert_int_equal(trace_writer__open(&p->writer, p->fd[1], "pipe", &o, NULL), 0);
	assert_int_equal(trace_reader__open(&p->reader, p->fd[0], "pipe", NULL), 0);
}

static struct trace_cost play__write(struct play *p, const struct cost_facts *f)
{
	struct trace_item item;
	struct trace_cost r;

	assert_int_equal(cost__write(&p->cost, p->writer, f), 0);
	assert_int_equal(trace_writer__flush(p->writer, NULL), 0);
	assert_int_equal(trace_reader__next(p->reader, &item, NULL), 1);
	assert_int_equal(item.head->type, TRACE_COST);
	memcpy(&r, item.head, sizeof(r));
	return r;
}

static void play__end(struct play *p)
{
	trace_writer__free(p->writer);
	trace_reader__free(p->reader);
	close(p->fd[0]);
	close(p->fd[1]);
}

/* Two threads reach the router's place 10 times each; the first captures, 10 rows in all. */
static void time_is_hits_captures_and_rows(void **state)
{
	struct mp_counters counters[2] = {
		{ .hits = 20, .unguarded = 10, .matched = 4, .bytes = 10 * ROW_BYTES },
		{ .hits = 2, .foreign = 1, .matched = 0 },
	};
	const struct cost_row row[2] = {
		{ MP_PROGRAM_ROUTE, MP_PURPOSE_ROUTER, SITE_EMULATED, 1, ENGINE_UNKNOWN },
		{ MP_PROGRAM_LINE, MP_PURPOSE_IDENTITY, SITE_STEPPED, 1, ENGINE_UNKNOWN },
	};
	struct cost_facts f = {
		.row = row,
		.counters = counters,
		.rows = 2,
		.costs = &costs,
		.now_ns = 1000000,
	};
	struct trace_cost r;
	struct play p;

	play__begin(&p);
	r = play__write(&p, &f);
	assert_int_equal(r.hits, 23);
	assert_int_equal(r.hit_ns,
			 20 * 1000 + 16 * 10 + 4 * 2000 + (10 - 4) * 100 + 3 * 9000 + 2 * 10);
	assert_int_equal(r.threads, 2);
	assert_int_equal(r.interval_ns, 1000000);
	assert_int_equal(r.slowdown_ppm, r.hit_ns / 2); /* of a millisecond, in millionths */

	/* The next interval counts what is new. */
	counters[0].hits += 2;
	counters[0].unguarded += 1;
	counters[0].matched += 1;
	counters[0].bytes += ROW_BYTES;
	f.now_ns += 500000;
	r = play__write(&p, &f);
	assert_int_equal(r.hits, 2);
	assert_int_equal(r.hit_ns, 2 * 1000 + 10 + 2000);
	assert_int_equal(r.interval_ns, 500000);
	play__end(&p);
}

/* Of a service of two processes with two and three threads, the slowdown is that of five; one that
 * does nothing, or has left, slows nobody down. */
static void threads_of_all_processes(void **state)
{
	const struct mp_counters counters[4] = {
		{ .hits = 20, .unguarded = 10 },
		{ .hits = 1 },
		{ .hits = 0 },
		{ .hits = 30, .unguarded = 20 },
	};
	const struct cost_row row[4] = {
		{ MP_PROGRAM_ROUTE, MP_PURPOSE_ROUTER, SITE_EMULATED, 1, ENGINE_UNKNOWN },
		{ MP_PROGRAM_ROWS, MP_PURPOSE_ROWS, SITE_EMULATED, 1, ENGINE_UNKNOWN },
		{ MP_PROGRAM_ROUTE, MP_PURPOSE_ROUTER, SITE_EMULATED, 2, ENGINE_UNKNOWN },
		{ MP_PROGRAM_ROUTE, MP_PURPOSE_ROUTER, SITE_EMULATED, 3, 64 },
	};
	const struct cost_facts f = {
		.row = row, .counters = counters, .rows = 4, .costs = &costs, .now_ns = 1000000
	};
	struct trace_cost r;
	struct play p;

	play__begin(&p);
	r = play__write(&p, &f);
	assert_int_equal(r.hits, 51);
	assert_int_equal(r.threads, 5);
	assert_int_equal(r.slowdown_ppm, (51 * 1000 + 51 * 10) / 5);
	play__end(&p);
}

/* What libtorch's top-k is called for besides routers is turned away: other calls of the same
 * thread, not other threads. */
static void turned_away_in_one_thread(void **state)
{
	const struct mp_counters counters[2] = {
		{ .hits = 30, .unguarded = 20, .matched = 10, .bytes = 10 * ROW_BYTES },
		{ .hits = 40, .unguarded = 39, .matched = 1 },
	};
	const struct cost_row row[2] = {
		{ MP_PROGRAM_TENSORS, MP_PURPOSE_ROUTER, SITE_EMULATED, 1, 1 },
		{ MP_PROGRAM_TENSORS, MP_PURPOSE_ROWS, SITE_EMULATED, 1, 1 },
	};
	const struct cost_facts f = {
		.row = row, .counters = counters, .rows = 2, .costs = &costs, .now_ns = 1000000
	};
	struct trace_cost r;
	struct play p;

	play__begin(&p);
	r = play__write(&p, &f);
	assert_int_equal(r.hits, 70);
	assert_int_equal(r.hit_ns, 70 * 1000 + 11 * 2000 + 59 * 10);
	assert_int_equal(r.threads, 1);
	assert_int_equal(r.slowdown_ppm, r.hit_ns);
	play__end(&p);
}

/* What was not measured is unknown, not free. */
static void unmeasured_is_unknown(void **state)
{
	static const struct hit_costs nothing, no_captures = { .hit = { 1000, 9000 } };
	struct mp_counters counters[1] = { { .hits = 20 } };
	const struct cost_row row = { MP_PROGRAM_ROUTE, MP_PURPOSE_ROUTER, SITE_EMULATED, 1, 1 };
	struct cost_facts f = { .row = &row, .counters = counters, .rows = 1, .costs = &nothing };
	struct trace_cost r;
	struct play p;

	play__begin(&p);
	f.now_ns = 1000;
	r = play__write(&p, &f);
	assert_true(r.hit_ns == UINT64_MAX);
	assert_true(r.slowdown_ppm == TRACE_UNKNOWN);
	f.now_ns = 2000;
	r = play__write(&p, &f); /* nothing was hit: nothing was spent */
	assert_int_equal(r.hit_ns, 0);
	f.costs = &no_captures;
	f.now_ns = 3000;
	counters[0].hits += 10;
	r = play__write(&p, &f);
	assert_int_equal(r.hit_ns, 10000);
	f.now_ns = 4000;
	counters[0].hits += 1;
	counters[0].matched += 1;
	r = play__write(&p, &f);
	assert_true(r.hit_ns == UINT64_MAX);
	play__end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(time_is_hits_captures_and_rows),
		cmocka_unit_test(threads_of_all_processes),
		cmocka_unit_test(turned_away_in_one_thread),
		cmocka_unit_test(unmeasured_is_unknown),
	};

	return cmocka_run_group_tests_name("cost", tests, NULL, NULL);
}
