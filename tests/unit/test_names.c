/* SPDX-License-Identifier: BSD-2-Clause */
/* Names and bindings that come after the beginning of a request: written, kept while there is no
 * room, never about a request that the stream does not name; and all that an engine may add to
 * models, requests, steps and routes. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
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
#include "collector/known_requests.h"
#include "collector/loss.h"
#include "collector/stream_sink.h"
#include "collector/trace/reader.h"
#include "collector/trace/writer.h"
#include "probe/engine/sink.h"

struct bench {
	int fd;
	struct trace_writer *writer;
	struct coverage *coverage;
	struct loss loss;
	struct stream_sink *sink;
	struct engine_sink say;
};

static const uint16_t layer_ids[1] = { 4 };

static void begin(struct bench *b, int fd, size_t queue_bytes)
{
	struct trace_writer_options options = { .queue_bytes = queue_bytes };
	struct stream_sink_options o = { .source = 1 };

	memset(b, 0, sizeof(*b));
	b->fd = fd;
	assert_int_equal(trace_writer__open(&b->writer, fd, "test", &options, NULL), 0);
	b->coverage = coverage__new();
	o.writer = b->writer;
	o.coverage = b->coverage;
	o.loss = &b->loss;
	b->sink = stream_sink__new(&o);
	assert_non_null(b->sink);
	b->say = stream_sink__callbacks(b->sink);
}

static void end(struct bench *b)
{
	stream_sink__free(b->sink);
	coverage__free(b->coverage);
	trace_writer__free(b->writer);
	close(b->fd);
}

static void say_begin(struct bench *b, uint32_t request, const struct engine_sampling *sampling)
{
	struct engine_request r = {
		.request = request,
		.context = 1,
		.sequence = request,
		.cached = 0,
		.prompt = 2,
		.client_id = "",
		.time_ns = 1,
		.sampling = sampling,
	};

	assert_int_equal(b->say.request_begin(b->say.ctx, &r), 0);
}

static void say_end(struct bench *b, uint32_t request)
{
	struct engine_request_end r = {
		.request = request,
		.tokens = ENGINE_UNKNOWN,
		.generated = 5,
		.finish = ENGINE_FINISH_LENGTH,
		.inferred = true,
		.time_ns = 9,
	};

	assert_int_equal(b->say.request_end(b->say.ctx, &r), 0);
}

static void say_info(struct bench *b, uint32_t request, const char *client_id, const char *labels)
{
	struct engine_request_info i = {
		.request = request,
		.origin = ENGINE_ORIGIN_HTTP_RESPONSE,
		.client_id = client_id,
		.labels = labels,
		.time_ns = 5,
	};

	assert_int_equal(b->say.request_info(b->say.ctx, &i), 0);
}

static void say_guess(struct bench *b, uint32_t request, const char *adapter)
{
	struct engine_request_info i = {
		.request = request,
		.origin = ENGINE_ORIGIN_ORDER,
		.inferred = true,
		.adapter = adapter,
		.time_ns = 5,
	};

	assert_int_equal(b->say.request_info(b->say.ctx, &i), 0);
}

static void say_bind(struct bench *b, uint32_t sequence, uint32_t request)
{
	struct engine_bind i = {
		.context = 1,
		.sequence = sequence,
		.request = request,
		.position = 3,
		.origin = ENGINE_ORIGIN_TOKENS,
		.inferred = true,
		.time_ns = 6,
	};

	assert_int_equal(b->say.bind(b->say.ctx, &i), 0);
}

static struct trace_reader *reread(struct bench *b)
{
	struct trace_reader *r;

	assert_int_equal(trace_writer__flush(b->writer, NULL), 0);
	assert_int_equal(lseek(b->fd, 0, SEEK_SET), 0);
	assert_int_equal(trace_reader__open(&r, b->fd, "test", NULL), 0);
	return r;
}

/* The next record of @type; others are passed over. */
static struct trace_item next(struct trace_reader *r, enum trace_type type)
{
	struct trace_item item;

	do {
		assert_int_equal(trace_reader__next(r, &item, NULL), 1);
	} while (item.type != type);
	return item;
}

static void assert_column(const struct trace_item *i, size_t column, const char *want)
{
	assert_int_equal(i->column[column].size, strlen(want));
	assert_memory_equal(i->column[column].bytes, want, strlen(want));
}

static void test_names_and_bindings(void **state)
{
	struct bench b;
	struct trace_reader *r;
	struct trace_item i;

	begin(&b, memfd_create("stream", 0), 0);
	say_begin(&b, 7, NULL);
	say_info(&b, 7, "chat-7", "task=x\n");
	say_bind(&b, 70, 7);
	say_bind(&b, 70, ENGINE_UNKNOWN);
	say_end(&b, 7);
	say_info(&b, 7, NULL, "user=y\n"); /* after its end */
	say_info(&b, 8, "chat-8", NULL);   /* of nobody */
	say_bind(&b, 70, 8);
	assert_int_equal(b.loss.unknown.of[TRACE_LOSS_INFO].count, 1);
	assert_int_equal(b.loss.part[0].context, 1);
	assert_int_equal(b.loss.part[0].of[TRACE_LOSS_INFO].count, 1);
	assert_int_equal(loss__write(&b.loss, b.writer, 1, 10), 0);
	r = reread(&b);
	i = next(r, TRACE_REQUEST_INFO);
	assert_int_equal(i.request_info->request, 7);
	assert_int_equal(i.request_info->origin, TRACE_ORIGIN_HTTP_RESPONSE);
	assert_int_equal(i.request_info->certainty, TRACE_EXACT);
	assert_column(&i, 0, "chat-7");
	assert_int_equal(i.column[1].size, 0);
	assert_column(&i, 4, "task=x\n");
	assert_int_equal(next(r, TRACE_SEQUENCE).sequence->sequence, 70);
	i = next(r, TRACE_BIND);
	assert_int_equal(i.bind->sequence, 70);
	assert_int_equal(i.bind->request, 7);
	assert_int_equal(i.bind->position, 3);
	assert_int_equal(i.bind->certainty, TRACE_INFERRED);
	assert_int_equal(i.bind->origin, TRACE_ORIGIN_TOKENS);
	assert_int_equal(next(r, TRACE_BIND).bind->request, TRACE_UNKNOWN);
	i = next(r, TRACE_REQUEST_END);
	assert_int_equal(i.request_end->finish, TRACE_FINISH_LENGTH);
	assert_int_equal(i.request_end->certainty, TRACE_INFERRED);
	assert_int_equal(i.request_end->prompt, TRACE_UNKNOWN);
	assert_int_equal(i.request_end->generated, 5);
	i = next(r, TRACE_REQUEST_INFO);
	assert_column(&i, 4, "user=y\n");
	i = next(r, TRACE_LOSS);
	assert_int_equal(i.loss->context, TRACE_UNKNOWN);
	assert_int_equal(i.loss->cause, TRACE_LOSS_INFO);
	assert_int_equal(next(r, TRACE_LOSS).loss->context, 1);
	trace_reader__free(r);
	end(&b);
}

/* Fill the queue until nothing more of @request fits. */
static void fill(struct bench *b, uint32_t request)
{
	char *long_name = calloc(1, 1001);

	memset(long_name, 'x', 1000);
	for (int i = 0; i < 1000; i++)
		say_info(b, request, long_name, NULL);
	for (int i = 0; i < 1000; i++)
		say_info(b, request, "xxxx", NULL);
	free(long_name);
}

static void drain(struct bench *b, int fd, int copy)
{
	char bytes[4096];
	ssize_t n;

	do {
		assert_int_equal(trace_writer__flush(b->writer, NULL), 0);
		while ((n = read(fd, bytes, sizeof(bytes))) > 0)
			assert_int_equal(write(copy, bytes, (size_t)n), n);
	} while (trace_writer__queued(b->writer));
}

/* What finds no room is kept, becomes one record, and is said when there is room again, or with the
 * end; a request that waits itself is named after its beginning. */
static void test_kept_without_room(void **state)
{
	struct engine_row row = { .sequence = 1, .request = 1, .position = 0 };
	struct engine_step step = { .context = 1, .step = 1, .rows = 1, .row = &row };
	struct engine_sampling sampling = { 0.5f, NAN, 40, ENGINE_UNKNOWN };
	struct trace_reader *r;
	struct trace_item i;
	struct bench b;
	int ends[2], copy = memfd_create("copy", 0);

	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	begin(&b, ends[1], 64 << 10);
	say_begin(&b, 1, NULL);
	fill(&b, 1);
	say_begin(&b, 2, &sampling); /* waits */
	say_info(&b, 1, "one", "a=1\n");
	say_guess(&b, 1, "lora");
	say_info(&b, 1, NULL, "b=2\n"); /* surer, but it does not make the guess so */
	say_info(&b, 2, "two", NULL);
	assert_int_equal(b.loss.total, 0);
	drain(&b, ends[0], copy);
	assert_int_equal(b.say.step(b.say.ctx, &step), 0);
	row.request = row.sequence = 2;
	step.step = 2;
	assert_int_equal(b.say.step(b.say.ctx, &step), 0);
	drain(&b, ends[0], copy);
	lseek(copy, 0, SEEK_SET);
	assert_int_equal(trace_reader__open(&r, copy, "copy", NULL), 0);
	do {
		i = next(r, TRACE_REQUEST_INFO);
	} while (i.column[0].size != 3);
	assert_column(&i, 0, "one");
	assert_column(&i, 3, "lora");
	assert_column(&i, 4, "a=1\nb=2\n");
	assert_int_equal(i.request_info->certainty, TRACE_INFERRED);
	assert_int_equal(i.request_info->origin, TRACE_ORIGIN_ORDER);
	assert_int_equal(next(r, TRACE_STEP).step->step, 1);
	i = next(r, TRACE_REQUEST_BEGIN);
	assert_int_equal(i.request_begin->request, 2);
	assert_true(i.request_begin->temperature == 0.5f && isnan(i.request_begin->top_p));
	assert_int_equal(i.request_begin->top_k, 40);
	assert_int_equal(i.request_begin->max_tokens, TRACE_UNKNOWN);
	i = next(r, TRACE_REQUEST_INFO);
	assert_int_equal(i.request_info->request, 2);
	assert_column(&i, 0, "two");
	assert_int_equal(i.request_info->certainty, TRACE_EXACT);
	assert_int_equal(next(r, TRACE_STEP).step->step, 2);
	trace_reader__free(r);
	close(copy);
	close(ends[0]);
	end(&b);
}

/* It ends before there was room: the end is said, its names are lost and counted. */
static void test_lost_with_the_end(void **state)
{
	struct bench b;
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	begin(&b, ends[1], 64 << 10);
	say_begin(&b, 1, NULL);
	fill(&b, 1);
	say_end(&b, 1);
	assert_int_equal(b.loss.unknown.of[TRACE_LOSS_INFO].count, 1);
	close(ends[0]);
	end(&b);
}

/* Ended requests are remembered for a while, those under way always. */
static void test_known_requests(void **state)
{
	struct known_requests *k = known_requests__new();

	assert_int_equal(known_requests__add(k, 1, false), 0);
	assert_false(known_requests__is_said(k, 1));
	assert_true(known_requests__is_open(k, 1));
	assert_int_equal(known_requests__begun(k), 0);
	known_requests__remove(k, 1);
	for (uint32_t i = 1; i <= 3000; i++)
		assert_int_equal(known_requests__add(k, i, true), 0);
	assert_int_equal(known_requests__begun(k), 3000);
	for (uint32_t i = 1; i <= 2000; i++)
		known_requests__end(k, i);
	assert_int_equal(known_requests__begun(k), 1000);
	assert_false(known_requests__is_said(k, 2000 - KNOWN_ENDED_MAX));
	assert_true(known_requests__is_said(k, 2001 - KNOWN_ENDED_MAX));
	assert_false(known_requests__is_open(k, 2000));
	assert_true(known_requests__is_said(k, 3000));
	known_requests__free(k);
	known_requests__free(NULL);
}

static void say_step(struct bench *b)
{
	static const uint16_t ids[4] = { 1, 0, 2, 3 };
	static const float weights[4] = { 3, 1, 4, 4 };
	static const uint8_t ties[2] = { 0, ENGINE_ROUTE_ROW_TIE };
	struct engine_row row[2] = {
		{ .sequence = 1, .request = 1, .output = 1, .flags = ENGINE_ROW_DRAFT },
		{ .sequence = 1,
		  .request = ENGINE_UNKNOWN,
		  .phase = ENGINE_PHASE_UNKNOWN,
		  .flags = ENGINE_ROW_PADDING | ENGINE_ROW_FINISHED },
	};
	struct engine_route route = {
		.layer = 4,
		.rows = 2,
		.k = 2,
		.ids = ids,
		.weights = weights,
		.flags = ENGINE_ROUTE_RAW | ENGINE_ROUTE_LOCAL | ENGINE_ROUTE_INFERRED | 7u << 28,
		.row_flags = ties,
	};
	struct engine_step s = {
		.context = 1,
		.step = 1,
		.rows = 2,
		.row = row,
		.routes = 1,
		.route = &route,
		.ubatch = 2,
		.ubatches = 3,
	};

	assert_int_equal(b->say.step(b->say.ctx, &s), 0);
}

static void test_models_and_steps(void **state)
{
	static const uint8_t digest[ENGINE_DIGEST_BYTES] = { 7, 8, [31] = 9 };
	struct engine_context model = {
		.context = 1,
		.architecture = "a",
		.layers = 1,
		.layer_ids = layer_ids,
		.gate = ENGINE_GATE_SIGMOID,
		.groups = 8,
		.groups_used = 4,
		.scale = 2.5f,
		.kv_type = "q8_0/f16",
		.tokenizer_digest = digest,
	};
	struct trace_reader *r;
	struct trace_item i;
	struct bench b;

	begin(&b, memfd_create("stream", 0), 0);
	assert_int_equal(b.say.context(b.say.ctx, &model), 0);
	model = (struct engine_context){ .context = 1, .layers = 1, .layer_ids = layer_ids };
	assert_int_equal(b.say.context(b.say.ctx, &model), 0);
	say_begin(&b, 1, NULL);
	say_step(&b);
	r = reread(&b);
	i = next(r, TRACE_MODEL);
	assert_int_equal(i.model->gate, TRACE_GATE_SIGMOID);
	assert_int_equal(i.model->groups, 8);
	assert_int_equal(i.model->groups_used, 4);
	assert_true(i.model->scale == 2.5f);
	assert_column(&i, 5, "q8_0/f16");
	assert_memory_equal(i.model->tokenizer_digest, digest, sizeof(digest));
	assert_int_equal(i.model->model_digest[0], 0);
	i = next(r, TRACE_MODEL);
	assert_int_equal(i.model->gate, TRACE_GATE_UNKNOWN);
	assert_int_equal(i.model->groups, TRACE_UNKNOWN);
	assert_true(isnan(i.model->scale));
	i = next(r, TRACE_REQUEST_BEGIN);
	assert_true(isnan(i.request_begin->temperature));
	assert_int_equal(i.request_begin->top_k, TRACE_UNKNOWN);
	i = next(r, TRACE_STEP);
	assert_int_equal(i.step->ubatch, 2);
	assert_int_equal(i.step->ubatches, 3);
	assert_memory_equal(i.column[4].bytes,
			    ((uint8_t[]){ TRACE_ROW_OUTPUT | TRACE_ROW_DRAFT,
					  TRACE_ROW_PADDING | TRACE_ROW_FINISHED }),
			    2);
	i = next(r, TRACE_ROUTE);
	assert_int_equal(i.head->flags, TRACE_ROUTE_ALL_ROWS | TRACE_ROUTE_WEIGHTS |
						TRACE_ROUTE_RAW | TRACE_ROUTE_LOCAL |
						TRACE_ROUTE_INFERRED | TRACE_ROUTE_ROW_FLAGS);
	assert_memory_equal(i.column[3].bytes, ((uint8_t[]){ 0, TRACE_ROUTE_ROW_TIE }), 2);
	trace_reader__free(r);
	end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_and_bindings), cmocka_unit_test(test_kept_without_room),
		cmocka_unit_test(test_lost_with_the_end),  cmocka_unit_test(test_known_requests),
		cmocka_unit_test(test_models_and_steps),
	};

	return cmocka_run_group_tests_name("names", tests, NULL, NULL);
}
