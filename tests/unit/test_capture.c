/* SPDX-License-Identifier: BSD-2-Clause */
/* Captures in chunks, of which some do not come: dropped whole, and counted by one side only; the
 * kernel's when it gave the capture up, ours when we did. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/coverage.h"
#include "collector/loss.h"
#include "collector/stream_sink.h"
#include "collector/trace/reader.h"
#include "collector/trace/writer.h"
#include "probe/engine/capture.h"
#include "tests/unit/llama_play.h"

#define CHUNKS 4u
#define CHUNK_ROWS 10u

/* Chunk @chunk of a capture of @chunks; 1, 0 or -errno as captures__add() gives it. */
static int give(struct captures *c, uint32_t tid, uint64_t time_ns, uint16_t chunk, uint16_t chunks,
		uint32_t bytes)
{
	struct mp_event *ev = calloc(1, bytes);
	struct capture out;
	int got;

	*ev = (struct mp_event){
		.kind = MP_EVENT_ROUTE,
		.tid = tid,
		.time_ns = time_ns,
		.size = bytes,
		.chunk = chunk,
		.chunks = chunks,
		.total = chunks * CHUNK_ROWS,
		.first = chunk * CHUNK_ROWS,
		.count = CHUNK_ROWS,
	};
	got = captures__add(c, ev, &out);
	if (got == 1)
		assert_int_equal(out.chunks, chunks);
	free(ev);
	return got;
}

static int give_small(struct captures *c, uint32_t tid, uint64_t time_ns, uint16_t chunk)
{
	return give(c, tid, time_ns, chunk, CHUNKS, sizeof(struct mp_event));
}

static void assert_dropped(struct captures *c, uint64_t captures, uint64_t rows)
{
	uint64_t got_rows, got = captures__take_dropped(c, &got_rows);

	assert_int_equal(got, captures);
	assert_int_equal(got_rows, rows);
}

/* The thread goes on with its next capture, or with none. */
static void test_given_up_by_the_kernel(void **state)
{
	struct captures *c;

	assert_int_equal(captures__new(&c), 0);
	assert_int_equal(give_small(c, 1, 100, 0), 0);
	assert_int_equal(give_small(c, 1, 100, 1), 0);
	assert_int_equal(give(c, 1, 200, 0, 1, 64), 1);
	assert_int_equal(give_small(c, 1, 300, 0), 0);
	for (uint16_t i = 0; i < CHUNKS; i++)
		assert_int_equal(give_small(c, 1, 400, i), i + 1 == CHUNKS);
	assert_int_equal(give_small(c, 2, 500, 0), 0);
	captures__expire(c, UINT64_MAX);
	assert_dropped(c, 0, 0);
	captures__free(c);
}

/* It was only late, or a chunk is missing in the middle of what goes on: counted, once. */
static void test_given_up_by_us(void **state)
{
	struct captures *c;

	assert_int_equal(captures__new(&c), 0);
	assert_int_equal(give_small(c, 1, 100, 0), 0);
	captures__expire(c, 101);
	assert_dropped(c, 0, 0);
	assert_int_equal(give_small(c, 1, 100, 1), 0);
	assert_int_equal(give_small(c, 1, 100, 2), 0);
	assert_dropped(c, 1, CHUNKS * CHUNK_ROWS);
	assert_int_equal(give_small(c, 1, 100, 3), 0);
	assert_int_equal(give_small(c, 1, 200, 0), 0);
	assert_int_equal(give_small(c, 1, 200, 2), 0);
	assert_int_equal(give_small(c, 1, 200, 3), 0);
	assert_dropped(c, 1, CHUNKS * CHUNK_ROWS);
	for (uint16_t i = 0; i < CHUNKS; i++)
		assert_int_equal(give_small(c, 1, 300, i), i + 1 == CHUNKS);
	assert_dropped(c, 0, 0);
	captures__free(c);
}

/* More than we keep at once. */
static void test_limits(void **state)
{
	const uint32_t third = 11u << 20;
	struct captures *c;

	assert_int_equal(captures__new(&c), 0);
	assert_int_equal(give(c, 1, 100, 0, 2, third), 0);
	assert_int_equal(give(c, 2, 100, 0, 2, third), 0);
	assert_int_equal(give(c, 3, 100, 0, 2, third), 0);
	assert_dropped(c, 1, 2 * CHUNK_ROWS);
	assert_int_equal(give(c, 3, 100, 1, 2, 64), 0);
	assert_int_equal(give(c, 1, 100, 1, 2, 64), 1);
	assert_dropped(c, 0, 0);
	captures__expire(c, UINT64_MAX);
	for (uint32_t tid = 10; tid < 10 + 256; tid++)
		assert_int_equal(give_small(c, tid, 200, 0), 0);
	assert_dropped(c, 0, 0); /* those that made room had expired */
	assert_int_equal(give_small(c, 999, 200, 0), 0);
	assert_dropped(c, 1, CHUNKS * CHUNK_ROWS);
	captures__free(c);
}

/* --- as far as the stream --------------------------------------------------------------------- */

/* What a stream says of a step of 5 rows in 3 layers whose layer 0 did not come whole. */
struct said {
	uint64_t lost[LOSS_CAUSES], decisions[LOSS_CAUSES], invalid[LOSS_INVALIDS];
	uint64_t routes, expected, seen, missing[TRACE_MISSING_COUNT];
};

static void take(struct said *s, const struct trace_item *i)
{
	if (i->type == TRACE_LOSS) {
		s->lost[i->loss->cause] += i->loss->count;
		s->decisions[i->loss->cause] += i->loss->decisions;
	} else if (i->type == TRACE_INVALID) {
		s->invalid[i->invalid->cause] += i->invalid->count;
	} else if (i->type == TRACE_COVERAGE) {
		s->expected += i->coverage->expected;
		s->seen += i->coverage->seen;
		for (int j = 0; j < TRACE_MISSING_COUNT; j++)
			s->missing[j] += ((const uint64_t *)i->column[0].bytes)[j];
	} else if (i->type == TRACE_ROUTE) {
		s->routes++;
	}
}

/* As the reader does: the kernel counted @counters until the events are taken. */
static void count(struct loss *l, struct coverage *c, const struct mp_counters *counters)
{
	const struct mp_site site = { .program = MP_PROGRAM_ROUTE };
	struct loss_news news = loss__take(l, counters, &site, 1);

	coverage__lost_routes(c, news.route_rows);
	coverage__invalid_routes(c, news.invalid_captures);
}

/* Layer 0 in chunks of one row, of which those of @come (bit i: chunk i) come. */
static void play_step(struct play *p, unsigned come)
{
	static const int32_t ids[K] = { 0, 1 };
	struct row row[5];
	uint64_t at;

	for (int32_t i = 0; i < 5; i++)
		row[i] = ROW(1, i, 0, i == 4);
	play__rows(p, row, 5);
	at = p->now += 1000;
	for (uint16_t i = 0; i < 5; i++) {
		struct router r = route_of(p, 0, 5);

		r.ids = ids;
		r.chunk = i;
		r.chunks = 5;
		r.first = i;
		r.count = 1;
		r.time_ns = at;
		if (come & 1u << i)
			assert_int_equal(play__router(p, r), 0);
	}
	assert_int_equal(play__router(p, route_of(p, 1, 5)), 0);
	assert_int_equal(play__router(p, route_of(p, 2, 1)), 0);
}

static struct said stream_of(const struct mp_counters *counters, unsigned come)
{
	struct trace_writer_options options = { 0 };
	struct stream_sink_options o = { .source = 1 };
	int fd = memfd_create("stream", MFD_CLOEXEC);
	struct play *p = play__new(true);
	struct loss loss = { 0 };
	struct stream_sink *sink;
	struct trace_reader *r;
	struct trace_item item;
	struct said s = { 0 };

	assert_int_equal(trace_writer__open(&o.writer, fd, "test", &options, NULL), 0);
	o.coverage = coverage__new();
	o.loss = &loss;
	sink = stream_sink__new(&o);
	p->sink = stream_sink__callbacks(sink);
	count(&loss, o.coverage, counters);
	play_step(p, come);
	engine_llama.finish(p->engine, p->now, ENGINE_ENDING_CAPTURE_END, &p->sink);
	assert_int_equal(stream_sink__end(sink, TRACE_STOP_ASKED, p->now), 0);
	assert_int_equal(trace_writer__flush(o.writer, NULL), 0);
	lseek(fd, 0, SEEK_SET);
	assert_int_equal(trace_reader__open(&r, fd, "test", NULL), 0);
	while (trace_reader__next(r, &item, NULL) == 1)
		take(&s, &item);
	assert_true(trace_reader__complete(r));
	trace_reader__free(r);
	stream_sink__free(sink);
	coverage__free(o.coverage);
	trace_writer__free(o.writer);
	play__free(p);
	close(fd);
	return s;
}

/* 5 rows in 3 layers, in the last one only 1 is computed: layer 1 and 2 were seen. */
static void assert_covered(const struct said *s, enum coverage_cause missing, uint64_t rows)
{
	assert_int_equal(s->routes, 3 - (rows > 0));
	assert_int_equal(s->expected, 15);
	assert_int_equal(s->seen, 11 - rows);
	for (unsigned i = 0; i < TRACE_MISSING_COUNT; i++)
		assert_int_equal(s->missing[i], i == (unsigned)COVERAGE_NOT_COMPUTED ? 4
						: i == (unsigned)missing             ? rows
										     : 0);
}

static void assert_counted_once(const struct said *s, uint32_t loss, uint32_t invalid)
{
	for (uint32_t i = 1; i < LOSS_CAUSES; i++) {
		assert_int_equal(s->lost[i], i == loss);
		assert_int_equal(s->decisions[i], i == loss ? 5 : 0);
	}
	for (uint32_t i = 1; i < LOSS_INVALIDS; i++)
		assert_int_equal(s->invalid[i], i == invalid);
}

static void test_counted_once(void **state)
{
	static const struct mp_counters full = { .dropped = 1, .dropped_rows = 5 };
	static const struct mp_counters fault = { .fault = 1 }, none = { 0 };
	struct said s;

	s = stream_of(&none, 31);
	assert_covered(&s, COVERAGE_LOST, 0);
	assert_counted_once(&s, 0, 0);
	/* The kernel gave it up before, or after, each chunk. */
	for (unsigned chunks = 0; chunks < 5; chunks++) {
		s = stream_of(&full, (1u << chunks) - 1);
		assert_covered(&s, COVERAGE_LOST, 5);
		assert_counted_once(&s, TRACE_LOSS_RING_ROUTES, 0);
		s = stream_of(&fault, (1u << chunks) - 1);
		assert_covered(&s, COVERAGE_INVALID, 5);
		assert_counted_once(&s, 0, TRACE_INVALID_FAULT);
	}
	/* It did not, and yet one is missing: ours. */
	for (unsigned without = 0; without < 4; without++) {
		s = stream_of(&none, 31 & ~(1u << without));
		assert_covered(&s, COVERAGE_LOST, 5);
		assert_counted_once(&s, TRACE_LOSS_CHUNKS, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_given_up_by_the_kernel),
		cmocka_unit_test(test_given_up_by_us),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_counted_once),
	};

	return cmocka_run_group_tests_name("capture", tests, NULL, NULL);
}
