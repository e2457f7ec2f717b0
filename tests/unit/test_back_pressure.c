/* SPDX-License-Identifier: BSD-2-Clause */
/* A reader that stands still, crawls, and goes on: steps and requests come all the while, nothing
 * waits, memory stays bounded, and what arrives is a stream whose sums with what it says it lost
 * are what there was, exactly. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
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
#include "probe/engine/sink.h"

#define QUEUE (64u << 10)
#define LAYERS 2
#define SLOTS 5
#define PROMPT 6 /* rows of the first step of a request; one of its tokens more is cached */
#define REQUESTS_MAX 20000
#define NEWS_EVERY 10 /* steps */
#define NEWS 512

struct slot {
	uint32_t request, position, left; /* request 0: none; left: steps */
};

/* What there was, and how it is written. */
struct load {
	int in, kept; /* the reader's end; what it read */
	size_t most_queued;
	struct trace_writer *writer;
	struct coverage *coverage;
	struct loss loss;
	struct stream_sink *sink;
	struct engine_sink say;
	uint32_t random;
	uint64_t now_ns, news_held;
	struct slot slot[SLOTS];
	uint64_t steps, rows;
	uint32_t requests;
};

static const uint16_t layer_ids[LAYERS] = { 0, 1 };

static uint32_t pick(struct load *l, uint32_t below)
{
	l->random = l->random * 1664525 + 1013904223;
	return (l->random >> 8) % below;
}

static void load_begin(struct load *l)
{
	struct trace_writer_options options = { .queue_bytes = QUEUE };
	struct stream_sink_options o = { .source = 1 };
	struct engine_context model = {
		.context = 1,
		.architecture = "a",
		.name = "n",
		.path = "p",
		.quantisation = "q",
		.layers = LAYERS,
		.layer_ids = layer_ids,
		.experts = 8,
		.k = 2,
		.blocks = LAYERS,
	};
	int ends[2];

	memset(l, 0, sizeof(*l));
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	fcntl(ends[1], F_SETPIPE_SZ, 4096);
	l->in = ends[0];
	l->kept = memfd_create("kept", MFD_CLOEXEC);
	assert_int_equal(trace_writer__open(&l->writer, ends[1], "pipe", &options, NULL), 0);
	l->coverage = coverage__new();
	o.writer = l->writer;
	o.coverage = l->coverage;
	o.loss = &l->loss;
	l->sink = stream_sink__new(&o);
	l->say = stream_sink__callbacks(l->sink);
	l->now_ns = 1000;
	assert_int_equal(l->say.context(l->say.ctx, &model), 0);
}

static void begin_request(struct load *l, uint32_t slot)
{
	static const int32_t tokens[PROMPT + 1] = { 1, 2, 3, 4, 5, 6, 7 };
	struct engine_request q = {
		.request = ++l->requests,
		.context = 1,
		.sequence = l->requests,
		.slot = slot,
		.cached = 1,
		.prompt = PROMPT + 1,
		.tokens = tokens,
		.client_id = "chatcmpl-0123456789",
		.begin_ns = l->now_ns,
		.time_ns = l->now_ns,
	};

	l->slot[slot] = (struct slot){ l->requests, 1, 1 + pick(l, 40) };
	assert_int_equal(l->say.request_begin(l->say.ctx, &q), 0);
}

static void end_request(struct load *l, uint32_t slot)
{
	struct engine_request_end q = {
		.request = l->slot[slot].request,
		.ending = ENGINE_ENDING_RELEASED,
		.tokens = l->slot[slot].position,
		.time_ns = l->now_ns,
	};

	l->slot[slot].request = 0;
	assert_int_equal(l->say.request_end(l->say.ctx, &q), 0);
}

static void say_step(struct load *l, const struct engine_row *row, uint32_t rows)
{
	static const uint16_t ids[2 * PROMPT * SLOTS];
	static const float weights[2 * PROMPT * SLOTS];
	struct engine_route route[LAYERS] = {
		{ .layer = 0, .rows = rows, .k = 2, .ids = ids, .weights = weights },
		{ .layer = 1, .rows = rows, .k = 2, .ids = ids, .weights = weights },
	};
	struct engine_step s = {
		.context = 1,
		.step = ++l->steps,
		.begin_ns = l->now_ns,
		.end_ns = l->now_ns,
		.rows = rows,
		.row = row,
		.routes = LAYERS,
		.route = route,
	};

	l->rows += rows;
	assert_int_equal(l->say.step(l->say.ctx, &s), 0);
}

/* One computation for all slots; requests that are through end, others begin. */
static void load_step(struct load *l)
{
	struct engine_row row[SLOTS * PROMPT] = { 0 };
	uint32_t rows = 0;

	l->now_ns += 1000;
	stream_sink__set_time(l->sink, l->now_ns);
	for (uint32_t i = 0; i < SLOTS; i++) {
		struct slot *s = &l->slot[i];
		uint32_t count;

		if (s->request && !s->left)
			end_request(l, i);
		if (!s->request)
			begin_request(l, i);
		count = s->position == 1 ? PROMPT : 1;
		s->left--;
		for (uint32_t j = 0; j < count; j++)
			row[rows++] = (struct engine_row){ .sequence = s->request,
							   .request = s->request,
							   .position = s->position++,
							   .output = 1 };
	}
	say_step(l, row, rows);
}

/* The reader takes up to @bytes. */
static void read_some(struct load *l, size_t bytes)
{
	uint8_t part[4096];
	ssize_t n = 1;

	while (bytes && n > 0) {
		n = read(l->in, part, bytes < sizeof(part) ? bytes : sizeof(part));
		if (n <= 0)
			break;
		assert_int_equal(write(l->kept, part, (size_t)n), n);
		bytes -= (size_t)n;
	}
}

/* @steps of load against a reader that takes up to @bytes after each. */
static void load_run(struct load *l, uint64_t steps, size_t bytes)
{
	size_t queued;

	for (uint64_t i = 1; i <= steps; i++) {
		load_step(l);
		if (i % NEWS_EVERY == 0) {
			if (trace_writer__fits(l->writer, TRACE_SHARE_NEWS, NEWS))
				assert_int_equal(loss__write(&l->loss, l->writer, 1, l->now_ns), 0);
			else
				l->news_held++;
		}
		assert_int_equal(trace_writer__flush(l->writer, NULL), 0);
		queued = trace_writer__queued(l->writer);
		l->most_queued = queued > l->most_queued ? queued : l->most_queued;
		read_some(l, bytes);
	}
}

/* All ends; the reader takes what is left. */
static void load_end(struct load *l)
{
	for (uint32_t i = 0; i < SLOTS; i++)
		if (l->slot[i].request)
			end_request(l, i);
	coverage__detached(l->coverage);
	assert_int_equal(stream_sink__end(l->sink, TRACE_STOP_ASKED, l->now_ns), 0);
	do
		read_some(l, SIZE_MAX);
	while (trace_writer__drain(l->writer, 0, NULL) == -ETIMEDOUT);
	read_some(l, SIZE_MAX);
	assert_int_equal(trace_writer__queued(l->writer), 0);
	stream_sink__free(l->sink);
	coverage__free(l->coverage);
	trace_writer__free(l->writer);
}

/* --- what arrived ----------------------------------------------------------------------------- */

enum state { UNSAID, BEGUN, ENDED };

struct arrived {
	enum state state[REQUESTS_MAX];
	uint32_t rows_of[REQUESTS_MAX], lines_of[REQUESTS_MAX];
	bool sequence[REQUESTS_MAX];
	uint64_t step; /* last one */
	uint64_t records, begins, late, steps, rows, routes, decisions;
	uint64_t losses, lost[LOSS_CAUSES], lost_rows[LOSS_CAUSES];
	uint64_t expected, cached, missing; /* in layer 0 */
	struct trace_end end;
};

static void take_step(struct arrived *a, const struct trace_item *i)
{
	const uint32_t *sequence = i->column[0].bytes, *request = i->column[1].bytes;

	assert_true(i->step->step > a->step);
	a->step = i->step->step;
	a->steps++;
	a->rows += i->step->rows;
	for (uint32_t row = 0; row < i->step->rows; row++) {
		assert_true(a->sequence[sequence[row]]);
		assert_int_equal(a->state[request[row]], BEGUN);
		a->rows_of[request[row]]++;
	}
}

static void take_coverage(struct arrived *a, const struct trace_item *i)
{
	const struct trace_coverage *c = i->coverage;
	const uint64_t *missing = i->column[0].bytes;
	uint64_t sum = c->seen;

	for (int j = 0; j < TRACE_MISSING_COUNT; j++)
		sum += missing[j];
	assert_int_equal(c->expected, sum);
	assert_int_equal(c->expected, c->seen + missing[COVERAGE_CACHED] + missing[COVERAGE_LOST]);
	if (c->request) {
		assert_int_equal(a->state[c->request], ENDED);
		assert_int_equal(c->seen, a->rows_of[c->request]);
		a->lines_of[c->request]++;
	} else {
		assert_int_equal(c->seen, 0);
	}
	if (c->layer)
		return;
	a->expected += c->expected;
	a->cached += missing[COVERAGE_CACHED];
	a->missing += missing[COVERAGE_LOST];
}

static void take_request(struct arrived *a, const struct trace_item *i)
{
	if (i->type == TRACE_REQUEST_BEGIN) {
		assert_int_equal(a->state[i->request_begin->request], UNSAID);
		assert_true(a->sequence[i->request_begin->sequence]);
		assert_int_equal(i->column[0].size, 19);
		a->state[i->request_begin->request] = BEGUN;
		a->begins++;
		a->late += !i->request_begin->prompt_known;
	} else if (i->type == TRACE_BIND) {
		assert_int_equal(a->state[i->bind->request], BEGUN);
	} else {
		assert_int_equal(a->state[i->request_end->request], BEGUN);
		assert_int_equal(i->request_end->rows, a->rows_of[i->request_end->request]);
		a->state[i->request_end->request] = ENDED;
	}
}

static void take(struct arrived *a, const struct trace_item *i)
{
	switch (i->type) {
	case TRACE_SEQUENCE:
		a->sequence[i->sequence->sequence] = true;
		break;
	case TRACE_REQUEST_BEGIN:
	case TRACE_BIND:
	case TRACE_REQUEST_END:
		take_request(a, i);
		break;
	case TRACE_STEP:
		take_step(a, i);
		break;
	case TRACE_ROUTE:
		assert_int_equal(i->route->step, a->step);
		a->routes++;
		a->decisions += i->route->rows;
		break;
	case TRACE_COVERAGE:
		take_coverage(a, i);
		break;
	case TRACE_LOSS:
		a->losses++;
		a->lost[i->loss->cause] += i->loss->count;
		a->lost_rows[i->loss->cause] += i->loss->rows;
		break;
	case TRACE_END:
		a->end = *i->end;
		assert_int_equal(i->end->records, a->records);
		break;
	default:
		break;
	}
	a->records++;
}

/* Read what was kept; whatever holds of every stream is checked here. */
static struct arrived *arrived_of(struct load *l)
{
	struct arrived *a = calloc(1, sizeof(*a));
	struct trace_reader *r;
	struct trace_item item;
	int got;

	assert_true(l->requests < REQUESTS_MAX);
	lseek(l->kept, 0, SEEK_SET);
	assert_int_equal(trace_reader__open(&r, l->kept, "kept", NULL), 0);
	while ((got = trace_reader__next(r, &item, NULL)) == 1)
		take(a, &item);
	assert_int_equal(got, 0);
	assert_true(trace_reader__complete(r));
	trace_reader__free(r);
	close(l->kept);
	close(l->in);
	for (uint32_t i = 1; i <= l->requests; i++) {
		assert_true(a->state[i] != BEGUN);
		assert_int_equal(a->lines_of[i], a->state[i] == ENDED ? LAYERS : 0);
	}
	assert_int_equal(a->end.steps, a->steps);
	assert_int_equal(a->end.rows, a->rows);
	assert_int_equal(a->end.routes, a->routes);
	assert_int_equal(a->end.decisions, a->decisions);
	assert_int_equal(a->decisions, LAYERS * a->rows);
	/* Delivered and lost are all that there was. */
	assert_int_equal(a->steps + a->lost[TRACE_LOSS_QUEUE], l->steps);
	assert_int_equal(a->rows + a->lost_rows[TRACE_LOSS_QUEUE], l->rows);
	assert_int_equal(a->begins + a->lost[TRACE_LOSS_REQUESTS], l->requests);
	assert_int_equal(a->end.lost, a->lost[TRACE_LOSS_QUEUE] + a->lost[TRACE_LOSS_REQUESTS]);
	assert_int_equal(a->lost_rows[TRACE_LOSS_REQUESTS], 0);
	assert_int_equal(a->expected, l->rows + l->requests);
	assert_int_equal(a->cached, l->requests);
	assert_int_equal(a->missing, a->lost_rows[TRACE_LOSS_QUEUE]);
	/* The queue with its reserve, and heads of blocks. */
	assert_true(l->most_queued <= QUEUE / 2 * 3 + 4096);
	return a;
}

/* --- tests ------------------------------------------------------------------------------------ */

static void test_quick_reader(void **state)
{
	struct load l;
	struct arrived *a;

	load_begin(&l);
	load_run(&l, 500, SIZE_MAX);
	load_end(&l);
	a = arrived_of(&l);
	assert_int_equal(a->end.lost, 0);
	assert_int_equal(a->late, 0);
	assert_int_equal(l.news_held, 0);
	free(a);
}

/* It stands still for longer than all shares last, twice, and goes on each time. */
static void test_reader_stands_still(void **state)
{
	struct load l;
	struct arrived *a;

	load_begin(&l);
	load_run(&l, 100, SIZE_MAX);
	load_run(&l, 10000, 0);
	assert_true(l.most_queued > QUEUE / 2 * 3 - 4096);
	assert_true(l.news_held > 500);
	load_run(&l, 300, SIZE_MAX);
	load_run(&l, 5000, 0);
	load_run(&l, 300, SIZE_MAX);
	load_end(&l);
	a = arrived_of(&l);
	print_message("%llu of %u requests dropped, %llu late; %llu of %llu steps dropped; at most "
		      "%zu bytes waited\n",
		      (unsigned long long)a->lost[TRACE_LOSS_REQUESTS], l.requests,
		      (unsigned long long)a->late, (unsigned long long)a->lost[TRACE_LOSS_QUEUE],
		      (unsigned long long)l.steps, l.most_queued);
	assert_true(a->lost[TRACE_LOSS_REQUESTS] > 500);
	assert_in_range(a->late, SLOTS, 2 * SLOTS); /* under way each time it went on */
	assert_true(a->steps >= 700 && a->steps < 2000);
	free(a);
}

/* It never goes on: the end is said even so. */
static void test_ends_while_it_stands_still(void **state)
{
	struct load l;
	struct arrived *a;

	load_begin(&l);
	load_run(&l, 5000, 0);
	load_end(&l);
	a = arrived_of(&l);
	assert_true(a->lost[TRACE_LOSS_REQUESTS] > 100);
	assert_int_equal(a->late, 0);
	free(a);
}

/* It takes less than comes: what it takes is steps, and yet it learns of loss and requests. */
static void test_reader_crawls(void **state)
{
	struct load l;
	struct arrived *a;

	load_begin(&l);
	load_run(&l, 10000, 200);
	load_end(&l);
	a = arrived_of(&l);
	assert_true(a->lost[TRACE_LOSS_QUEUE] > 1000);
	assert_true(a->losses > 400);
	assert_int_equal(a->lost[TRACE_LOSS_REQUESTS], 0);
	free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quick_reader),
		cmocka_unit_test(test_reader_stands_still),
		cmocka_unit_test(test_ends_while_it_stands_still),
		cmocka_unit_test(test_reader_crawls),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("back pressure", tests, NULL, NULL);
}
