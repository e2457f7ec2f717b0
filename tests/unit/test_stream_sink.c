/* SPDX-License-Identifier: BSD-2-Clause */
/* What an engine says comes out of the stream as records, in the order that the format promises,
 * and what does not fit is dropped whole and counted. */
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
#include "probe/base/error.h"
#include "probe/engine/sink.h"

#define U ENGINE_UNKNOWN

struct bench {
	int fd;
	struct trace_writer *writer;
	struct coverage *coverage;
	struct loss loss;
	struct stream_sink *sink;
	struct engine_sink say;
	int refreshed;
};

static void on_refresh(void *ctx)
{
	struct bench *b = ctx;

	b->refreshed++;
	coverage__lost_routes(b->coverage, 1);
}

static void begin(struct bench *b, int fd, size_t queue_bytes)
{
	struct trace_writer_options options = { .queue_bytes = queue_bytes };
	struct stream_sink_options o = { .source = 3, .begin_ns = 77 };
	struct error e = { 0 };

	memset(b, 0, sizeof(*b));
	b->fd = fd;
	assert_int_equal(trace_writer__open(&b->writer, fd, "test", &options, &e), 0);
	b->coverage = coverage__new();
	o.writer = b->writer;
	o.coverage = b->coverage;
	o.loss = &b->loss;
	o.refresh = on_refresh;
	o.ctx = b;
	b->sink = stream_sink__new(&o);
	assert_non_null(b->sink);
	b->say = stream_sink__callbacks(b->sink);
	stream_sink__set_time(b->sink, 500);
	assert_int_equal(stream_sink__process(b->sink, 77, 9), 0);
}

static void end(struct bench *b)
{
	stream_sink__free(b->sink);
	coverage__free(b->coverage);
	trace_writer__free(b->writer);
	close(b->fd);
}

static const uint16_t layer_ids[2] = { 0, 1 };
static const struct engine_context model = {
	.context = 1,
	.pid = 77,
	.key = 0x1234,
	.architecture = "olmoe",
	.name = "n",
	.path = "/p",
	.quantisation = "F32",
	.layers = 2,
	.layer_ids = layer_ids,
	.experts = 300,
	.k = 2,
	.shared_experts = 0,
	.vocabulary = 10,
	.blocks = 2,
	.normalised = U,
	.from_file = true,
};

static int say_begin(struct bench *b, uint32_t request, uint32_t sequence)
{
	static const int32_t tokens[3] = { 5, 6, 7 };
	struct engine_request r = {
		.request = request,
		.context = 1,
		.sequence = sequence,
		.slot = 2,
		.epoch = 4,
		.task = 11,
		.cached = 1,
		.prompt = 3,
		.tokens = tokens,
		.client_id = "chat-1",
		.begin_ns = 600,
		.time_ns = 700,
	};

	return b->say.request_begin(b->say.ctx, &r);
}

/* Two rows of positions 1 and 2; ids of layer 0 fit a byte, those of layer 1 do not. */
static int say_step_of(struct bench *b, uint32_t context, uint64_t number, uint32_t request)
{
	static const uint16_t small[4] = { 1, 0, 255, 2 }, large[2] = { 299, 7 };
	static const float weights[4] = { 0.75f, 0.25f, 0.5f, 0.5f };
	static const uint32_t last[1] = { 1 };
	struct engine_row row[2] = {
		{ .sequence = 21, .request = request, .position = 1, .token = 6 },
		{ .sequence = 21,
		  .request = request,
		  .position = 2,
		  .token = 7,
		  .output = 1,
		  .phase = ENGINE_DECODE },
	};
	struct engine_route route[2] = {
		{ .layer = 0, .rows = 2, .k = 2, .ids = small, .weights = weights },
		{ .layer = 1, .rows = 1, .k = 2, .row = last, .ids = large },
	};
	struct engine_step s = {
		.context = context,
		.step = number,
		.begin_ns = 800,
		.end_ns = 900,
		.rows = 2,
		.row = row,
		.routes = 2,
		.route = route,
		.batch = number == 1 ? 1234567890123 : 0,
	};

	return b->say.step(b->say.ctx, &s);
}

static int say_step(struct bench *b, uint64_t number, uint32_t request)
{
	return say_step_of(b, 1, number, request);
}

static int say_end(struct bench *b, uint32_t request, uint32_t tokens)
{
	struct engine_request_end r = {
		.request = request,
		.ending = ENGINE_ENDING_RELEASED,
		.tokens = tokens,
		.time_ns = 1000,
	};

	return b->say.request_end(b->say.ctx, &r);
}

static struct trace_reader *reread(struct bench *b)
{
	struct trace_reader *r;
	struct error e = { 0 };

	assert_int_equal(trace_writer__flush(b->writer, &e), 0);
	assert_int_equal(lseek(b->fd, 0, SEEK_SET), 0);
	assert_int_equal(trace_reader__open(&r, b->fd, "test", &e), 0);
	return r;
}

static struct trace_item next(struct trace_reader *r, enum trace_type type)
{
	struct trace_item item;
	struct error e = { 0 };

	assert_int_equal(trace_reader__next(r, &item, &e), 1);
	assert_int_equal(item.type, type);
	assert_int_equal(item.head->source, 3);
	return item;
}

static void check_step(struct trace_reader *r)
{
	struct trace_item i = next(r, TRACE_STEP);

	assert_int_equal(i.step->step, 1);
	assert_int_equal(i.step->begin_ns, 800);
	assert_int_equal(i.step->ubatch, TRACE_UNKNOWN);
	assert_true(i.step->batch == 1234567890123);
	assert_int_equal(i.step->head.flags, TRACE_STEP_TOKENS);
	assert_memory_equal(i.column[2].bytes, ((uint32_t[]){ 1, 2 }), 8);
	assert_memory_equal(i.column[3].bytes, ((uint8_t[]){ TRACE_PREFILL, TRACE_DECODE }), 2);
	assert_memory_equal(i.column[4].bytes, ((uint8_t[]){ 0, TRACE_ROW_OUTPUT }), 2);
	assert_memory_equal(i.column[5].bytes, ((int32_t[]){ 6, 7 }), 8);
	i = next(r, TRACE_ROUTE);
	assert_int_equal(i.route->head.flags, TRACE_ROUTE_ALL_ROWS | TRACE_ROUTE_WEIGHTS);
	assert_int_equal(i.route->layer, 0);
	assert_memory_equal(i.column[1].bytes, ((uint8_t[]){ 1, 0, 255, 2 }), 4);
	assert_memory_equal(i.column[2].bytes, ((float[]){ 0.75f, 0.25f, 0.5f, 0.5f }), 16);
	i = next(r, TRACE_ROUTE);
	assert_int_equal(i.route->head.flags, TRACE_ROUTE_IDS_16);
	assert_memory_equal(i.column[0].bytes, ((uint32_t[]){ 1 }), 4);
	assert_memory_equal(i.column[1].bytes, ((uint16_t[]){ 299, 7 }), 4);
	assert_int_equal(i.column[2].size, 0);
}

static uint64_t missing(const struct trace_item *coverage, enum coverage_cause cause)
{
	assert_int_equal(coverage->coverage->causes, TRACE_MISSING_COUNT);
	return ((const uint64_t *)coverage->column[0].bytes)[cause];
}

static void test_records(void **state)
{
	struct bench b;
	struct trace_reader *r;
	struct trace_item i;

	begin(&b, memfd_create("stream", 0), 0);
	assert_int_equal(stream_sink__preview(b.sink, &model), 0);
	assert_int_equal(b.say.context(b.say.ctx, &model), 0);
	assert_int_equal(say_begin(&b, 5, 21), 0);
	assert_int_equal(say_step(&b, 1, 5), 0);
	assert_int_equal(say_end(&b, 5, 3), 0);
	assert_int_equal(b.refreshed, 0);
	assert_int_equal(stream_sink__end(b.sink, TRACE_STOP_DURATION, 2000), 0);
	r = reread(&b);
	i = next(r, TRACE_CONTEXT);
	assert_int_equal(i.context->key, 0x1234);
	assert_int_equal(i.context->process, 9);
	i = next(r, TRACE_MODEL);
	assert_int_equal(i.model->experts, 300);
	assert_int_equal(i.model->head.flags, TRACE_MODEL_FROM_FILE);
	assert_memory_equal(i.column[1].bytes, "olmoe", 5);
	next(r, TRACE_MODEL);
	i = next(r, TRACE_SEQUENCE);
	assert_int_equal(i.sequence->slot, 2);
	assert_int_equal(i.sequence->epoch, 4);
	i = next(r, TRACE_REQUEST_BEGIN);
	assert_int_equal(i.request_begin->prompt_known, 3);
	assert_memory_equal(i.column[0].bytes, "chat-1", 6);
	assert_memory_equal(i.column[1].bytes, ((int32_t[]){ 5, 6, 7 }), 12);
	i = next(r, TRACE_BIND);
	assert_int_equal(i.bind->position, 1);
	assert_int_equal(i.bind->certainty, TRACE_EXACT);
	check_step(r);
	i = next(r, TRACE_REQUEST_END);
	assert_int_equal(i.request_end->rows, 2);
	i = next(r, TRACE_COVERAGE);
	assert_int_equal(i.coverage->expected, 3);
	assert_int_equal(i.coverage->seen, 2);
	i = next(r, TRACE_COVERAGE);
	assert_int_equal(i.coverage->seen, 1);
	assert_int_equal(missing(&i, COVERAGE_NOT_COMPUTED), 1);
	i = next(r, TRACE_WINDOW);
	assert_int_equal(i.window->begin_ns, 77);
	assert_int_equal(i.window->end_ns, 2000);
	assert_true(i.window->inclusion == 1);
	i = next(r, TRACE_END);
	assert_int_equal(i.end->stop, TRACE_STOP_DURATION);
	assert_int_equal(i.end->records, 13);
	assert_int_equal(i.end->steps, 1);
	assert_int_equal(i.end->rows, 2);
	assert_int_equal(i.end->routes, 2);
	assert_int_equal(i.end->decisions, 3);
	trace_reader__free(r);
	end(&b);
}

/* No expert is the largest number of the width, which is then no id of an expert. */
static void test_no_choice(void **state)
{
	static const uint16_t small[4] = { 254, 1, 0, ENGINE_NO_EXPERT };
	static const uint16_t large[4] = { 255, 1, ENGINE_NO_EXPERT, ENGINE_NO_EXPERT };
	static const struct engine_row row[2] = { { 21, ENGINE_UNKNOWN, 0, 1, 0, 1, 0 },
						  { 21, ENGINE_UNKNOWN, 1, 1, 0, 1, 0 } };
	static const struct engine_route route[2] = {
		{ .layer = 0, .rows = 2, .k = 2, .ids = small, .flags = ENGINE_ROUTE_NO_CHOICE },
		{ .layer = 1, .rows = 2, .k = 2, .ids = large, .flags = ENGINE_ROUTE_NO_CHOICE },
	};
	struct engine_step s = {
		.context = 1, .step = 1, .rows = 2, .row = row, .routes = 2, .route = route
	};
	const uint32_t flags = TRACE_ROUTE_ALL_ROWS | TRACE_ROUTE_NO_CHOICE;
	struct trace_reader *r;
	struct trace_item i;
	struct bench b;

	begin(&b, memfd_create("stream", 0), 0);
	assert_int_equal(b.say.context(b.say.ctx, &model), 0);
	assert_int_equal(b.say.step(b.say.ctx, &s), 0);
	r = reread(&b);
	next(r, TRACE_CONTEXT);
	next(r, TRACE_MODEL);
	next(r, TRACE_SEQUENCE);
	next(r, TRACE_STEP);
	i = next(r, TRACE_ROUTE);
	assert_int_equal(i.head->flags, flags);
	assert_memory_equal(i.column[1].bytes, ((uint8_t[]){ 254, 1, 0, 255 }), 4);
	assert_int_equal(trace_item__expert(&i, 0), 254);
	assert_int_equal(trace_item__expert(&i, 3), TRACE_UNKNOWN);
	i = next(r, TRACE_ROUTE);
	assert_int_equal(i.head->flags, flags | TRACE_ROUTE_IDS_16);
	assert_memory_equal(i.column[1].bytes, large, 8);
	assert_int_equal(trace_item__expert(&i, 0), 255);
	assert_int_equal(trace_item__expert(&i, 2), TRACE_UNKNOWN);
	trace_reader__free(r);
	end(&b);
}

/* Rows of no announced sequence or request are introduced, once; the key of a context that was
 * not known comes later. */
static void test_introductions(void **state)
{
	struct bench b;
	struct trace_reader *r;
	struct trace_item i;

	begin(&b, memfd_create("stream", 0), 0);
	assert_int_equal(say_step(&b, 1, U), 0);
	assert_int_equal(say_step(&b, 2, U), 0);
	assert_int_equal(b.say.context(b.say.ctx, &model), 0);
	assert_int_equal(stream_sink__end(b.sink, TRACE_STOP_ASKED, 2000), 0);
	r = reread(&b);
	assert_int_equal(next(r, TRACE_CONTEXT).context->key, 0);
	i = next(r, TRACE_SEQUENCE);
	assert_int_equal(i.sequence->sequence, 21);
	assert_int_equal(i.sequence->slot, TRACE_UNKNOWN);
	check_step(r);
	assert_int_equal(next(r, TRACE_STEP).step->step, 2);
	next(r, TRACE_ROUTE);
	next(r, TRACE_ROUTE);
	assert_int_equal(next(r, TRACE_CONTEXT).context->key, 0x1234);
	next(r, TRACE_MODEL);
	i = next(r, TRACE_COVERAGE);
	assert_int_equal(i.coverage->request, 0);
	assert_int_equal(i.coverage->expected, 4);
	assert_int_equal(i.coverage->seen, 4);
	trace_reader__free(r);
	end(&b);
}

static void begin_two_more(struct bench *b)
{
	begin(b, memfd_create("stream", 0), 0);
	assert_int_equal(stream_sink__process(b->sink, 78, 10), 0);
	assert_int_equal(stream_sink__process(b->sink, 79, 11), 0);
}

/* Two processes that play tensor-parallel ranks of one model compute the same: the second is named
 * as a replica, has no model of its own, and nothing of it is counted. A third, data-parallel one
 * computes other rows, and counts. */
static void test_ranks(void **state)
{
	struct engine_context replica = model, other = model;
	struct trace_reader *r;
	struct trace_item i;
	struct bench b;

	replica.context = 2;
	replica.pid = 78;
	replica.model_key = other.model_key = 0x55;
	replica.replica_of = 1;
	other.context = 3;
	other.pid = 79;
	begin_two_more(&b);
	assert_int_equal(b.say.context(b.say.ctx, &model), 0);
	assert_int_equal(b.say.context(b.say.ctx, &replica), 0);
	assert_int_equal(b.say.context(b.say.ctx, &other), 0);
	assert_int_equal(say_begin(&b, 5, 21), 0);
	assert_int_equal(say_step_of(&b, 1, 1, 5), 0);
	assert_int_equal(say_step_of(&b, 2, 1, 5), 0);
	assert_int_equal(say_step_of(&b, 3, 1, U), 0);
	assert_int_equal(say_end(&b, 5, 3), 0);
	assert_int_equal(stream_sink__steps(b.sink), 2);
	assert_int_equal(stream_sink__routes(b.sink), 4);
	assert_int_equal(stream_sink__replica_steps(b.sink), 1);
	assert_int_equal(stream_sink__end(b.sink, TRACE_STOP_ASKED, 2000), 0);
	r = reread(&b);
	assert_int_equal(next(r, TRACE_CONTEXT).context->process, 9);
	next(r, TRACE_MODEL);
	i = next(r, TRACE_CONTEXT);
	assert_int_equal(i.context->context, 2);
	assert_int_equal(i.context->process, 10);
	assert_int_equal(i.context->replica_of, 1);
	assert_int_equal(i.context->model_key, 0x55);
	i = next(r, TRACE_CONTEXT);
	assert_int_equal(i.context->context, 3);
	assert_int_equal(i.context->process, 11);
	assert_int_equal(i.context->replica_of, 0);
	assert_int_equal(next(r, TRACE_MODEL).model->context, 3);
	next(r, TRACE_SEQUENCE);
	next(r, TRACE_REQUEST_BEGIN);
	next(r, TRACE_BIND);
	check_step(r);
	assert_int_equal(next(r, TRACE_STEP).step->context, 3);
	next(r, TRACE_ROUTE);
	next(r, TRACE_ROUTE);
	assert_int_equal(next(r, TRACE_REQUEST_END).request_end->rows, 2);
	i = next(r, TRACE_COVERAGE);
	assert_int_equal(i.coverage->seen, 2); /* not four */
	next(r, TRACE_COVERAGE);
	next(r, TRACE_COVERAGE); /* the rows of no request, in context 3 */
	next(r, TRACE_COVERAGE);
	next(r, TRACE_WINDOW);
	i = next(r, TRACE_END);
	assert_int_equal(i.end->steps, 2);
	assert_int_equal(i.end->rows, 4);
	assert_int_equal(i.end->decisions, 6);
	trace_reader__free(r);
	end(&b);
}

/* A request that ends with results missing: the counters are looked at once more. */
static void test_refresh(void **state)
{
	struct bench b;
	struct engine_row row = { .sequence = 21, .request = 5, .position = 1, .output = 1 };
	struct engine_step s = { .context = 1, .step = 1, .rows = 1, .row = &row };
	struct trace_reader *r;
	struct trace_item i;

	begin(&b, memfd_create("stream", 0), 0);
	assert_int_equal(b.say.context(b.say.ctx, &model), 0);
	assert_int_equal(say_begin(&b, 5, 21), 0);
	assert_int_equal(b.say.step(b.say.ctx, &s), 0);
	assert_int_equal(say_end(&b, 5, 2), 0);
	assert_int_equal(b.refreshed, 1);
	r = reread(&b);
	do
		assert_int_equal(trace_reader__next(r, &i, NULL), 1);
	while (i.type != TRACE_COVERAGE);
	assert_int_equal(missing(&i, COVERAGE_LOST), 1);
	assert_int_equal(missing(&i, COVERAGE_NOT_ROUTED), 0);
	i = next(r, TRACE_COVERAGE);
	assert_int_equal(missing(&i, COVERAGE_LOST), 0);
	assert_int_equal(missing(&i, COVERAGE_NOT_ROUTED), 1);
	trace_reader__free(r);
	end(&b);
}

/* Nobody reads: steps are refused whole, counted as loss and in coverage; nothing blocks. */
static void test_slow_reader(void **state)
{
	struct bench b;
	int ends[2];
	uint64_t lost;

	assert_int_equal(pipe(ends), 0);
	begin(&b, ends[1], 4096);
	for (uint64_t n = 1; n <= 2000; n++) {
		assert_int_equal(say_step(&b, n, U), 0);
		trace_writer__flush(b.writer, NULL);
	}
	lost = b.loss.total;
	assert_true(lost > 0 && lost < 2000);
	assert_int_equal(b.loss.part[0].of[TRACE_LOSS_QUEUE].count, lost);
	assert_int_equal(b.loss.part[0].of[TRACE_LOSS_QUEUE].rows, 2 * lost);
	assert_int_equal(stream_sink__steps(b.sink), 2000);
	assert_int_equal(stream_sink__routes(b.sink), 4000);
	close(ends[0]);
	/* And then it is gone: the error stays. */
	for (int n = 0; n < 100000; n++)
		if (stream_sink__end(b.sink, TRACE_STOP_ASKED, 2000))
			break;
	assert_int_equal(trace_writer__flush(b.writer, NULL), -EPIPE);
	end(&b);
}

static void test_kernel_losses(void **state)
{
	struct mp_site site[3] = { { .program = MP_PROGRAM_ROUTE },
				   { .program = MP_PROGRAM_ROWS },
				   { .program = MP_PROGRAM_LINE } };
	struct mp_counters now[3] = {
		{ .dropped = 2, .dropped_rows = 9, .fault = 1, .unreadable = 3 },
		{ .dropped = 1, .dropped_rows = 4, .shape = 5 },
		{ .dropped = 7 },
	};
	struct loss l = { 0 };
	struct loss_news news = loss__take(&l, now, site, 3);

	assert_int_equal(news.route_rows, 9);
	assert_int_equal(news.steps, 1);
	assert_int_equal(news.invalid_captures, 1);
	now[0].dropped_rows = 12;
	now[0].dropped = 3;
	now[0].unreadable = 4;
	news = loss__take(&l, now, site, 3);
	assert_int_equal(news.route_rows, 3);
	assert_int_equal(news.steps, 0);
	assert_int_equal(news.invalid_captures, 0);
	assert_int_equal(l.invalid[TRACE_INVALID_UNREADABLE], 4);
	assert_int_equal(l.unknown.of[TRACE_LOSS_RING_ROUTES].count, 3);
	assert_int_equal(l.unknown.of[TRACE_LOSS_RING_ROUTES].decisions, 12);
	assert_true(l.unknown.of[TRACE_LOSS_RING_ROUTES].rows == LOSS_UNKNOWN);
	assert_int_equal(l.unknown.of[TRACE_LOSS_RING_ROWS].count, 1);
	assert_int_equal(l.unknown.of[TRACE_LOSS_RING_ROWS].rows, 4);
	assert_true(l.unknown.of[TRACE_LOSS_RING_ROWS].decisions == LOSS_UNKNOWN);
	assert_int_equal(l.unknown.of[TRACE_LOSS_RING_IDENTITY].count, 7);
	assert_int_equal(l.invalid[TRACE_INVALID_FAULT], 1);
	assert_int_equal(l.invalid[TRACE_INVALID_SHAPE], 5);
	assert_int_equal(l.total, 11);
	assert_int_equal(l.total_invalid, 10);
	loss__add(&l, 1, 0, (struct loss_of){ 1, 1, 1 });
	loss__add(&l, 1, 99, (struct loss_of){ 1, 1, 1 });
	loss__add_invalid(&l, 99, 1);
	assert_int_equal(l.total, 11);
}

#define LARGE_LAYERS 94
#define LARGE_ROWS 4096
#define LARGE_K 8

/* A step of a large model and batch takes more than the queue: it is delivered to whoever keeps up,
 * and refused only while much waits. */
static void test_step_larger_than_the_queue(void **state)
{
	static struct engine_row row[LARGE_ROWS];
	static struct engine_route route[LARGE_LAYERS];
	static uint16_t ids[LARGE_ROWS * LARGE_K], layers[LARGE_LAYERS];
	static float weights[LARGE_ROWS * LARGE_K];
	static char drained[1 << 20];
	struct engine_context large = model;
	struct engine_step step = {
		.context = 1,
		.begin_ns = 1000,
		.end_ns = 2000,
		.rows = LARGE_ROWS,
		.row = row,
		.routes = LARGE_LAYERS,
		.route = route,
	};
	struct bench b;
	int ends[2];

	for (uint16_t i = 0; i < LARGE_LAYERS; i++) {
		layers[i] = i;
		route[i] = (struct engine_route){
			.layer = i, .rows = LARGE_ROWS, .k = LARGE_K, .ids = ids, .weights = weights
		};
	}
	for (uint32_t i = 0; i < LARGE_ROWS; i++)
		row[i] = (struct engine_row){ 1, ENGINE_UNKNOWN, i, 1, ENGINE_PREFILL, 1, 0 };
	large.layers = LARGE_LAYERS;
	large.layer_ids = layers;
	large.blocks = LARGE_LAYERS;
	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	begin(&b, ends[1], 8u << 20);
	assert_int_equal(b.say.context(b.say.ctx, &large), 0);
	for (step.step = 1; step.step <= 3; step.step++) {
		assert_int_equal(b.say.step(b.say.ctx, &step), 0);
		assert_int_equal(b.loss.part[0].of[TRACE_LOSS_QUEUE].count, step.step > 1);
		if (step.step == 1)
			continue;
		while (trace_writer__queued(b.writer)) {
			assert_int_equal(trace_writer__flush(b.writer, NULL), 0);
			while (read(ends[0], drained, sizeof(drained)) > 0)
				;
		}
	}
	assert_int_equal(stream_sink__steps(b.sink), 3);
	assert_int_equal(stream_sink__end(b.sink, TRACE_STOP_ASKED, 3000), 0);
	end(&b);
	close(ends[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_step_larger_than_the_queue),
		cmocka_unit_test(test_records),
		cmocka_unit_test(test_no_choice),
		cmocka_unit_test(test_introductions),
		cmocka_unit_test(test_ranks),
		cmocka_unit_test(test_refresh),
		cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_kernel_losses),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("stream_sink", tests, NULL, NULL);
}
