/* SPDX-License-Identifier: BSD-2-Clause */
/* What reaches a file at each detail: nothing that it must not hold, and the same counts. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "analyzer/reduce.h"
#include "analyzer/state/state.h"
#include "probe/base/error.h"
#include "tests/unit/synthetic.h"

#define EXPERTS 8
static const uint8_t prefill_choice[] = { 3, 1 };
static const uint8_t decode_choice[] = { 5, 1 };
static const float weights[] = { 0.75f, 0.25f };

/* One request: 100 rows of prompt in two steps, then 70 rows of decode, in both layers. */
static void write_request(struct synthetic *s)
{
	uint64_t step;

	synthetic__begin(s, EXPERTS, 2);
	synthetic__request(s, 1, 0);
	for (uint32_t i = 0; i < 2; i++) {
		step = synthetic__step(s, 1, 50, i * 50, TRACE_PREFILL);
		synthetic__route(s, step, 1, 50, 2, prefill_choice, weights);
		synthetic__route(s, step, 2, 50, 2, prefill_choice, weights);
	}
	for (uint32_t i = 0; i < 70; i++) {
		s->now_ns += 1000;
		step = synthetic__step(s, 1, 1, 100 + i, TRACE_DECODE);
		synthetic__route(s, step, 1, 1, 2, decode_choice, weights);
		synthetic__route(s, step, 2, 1, 2, decode_choice, weights);
	}
	synthetic__finish_request(s, 1, 170);
}

struct reducing {
	struct reducer *reducer;
	struct error error;
};

static int reduce_item(void *ctx, const struct trace_item *item)
{
	struct reducing *r = ctx;

	return reducer__apply(r->reducer, item, &r->error);
}

/* The stream of @from at @detail, ready to be read; closes @from. */
static enum reducer_outcome outcome; /* of the last one that was reduced */

static int reduce(int from, enum detail detail, uint64_t *dropped)
{
	struct trace_writer_options options = { .codec = TRACE_CODEC_ZSTD };
	struct reducing r = { .reducer = NULL };
	struct trace_writer *w;
	int fd = memfd_create("reduced", 0);

	assert_int_equal(trace_writer__open(&w, fd, "reduced", &options, NULL), 0);
	assert_int_equal(reducer__new(&r.reducer, detail, w), 0);
	assert_true(synthetic__read(from, reduce_item, &r) > 0);
	assert_int_equal(reducer__finish(r.reducer, &r.error), 0);
	assert_false(error__is_set(&r.error));
	outcome = reducer__outcome(r.reducer);
	if (dropped)
		*dropped = reducer__dropped(r.reducer);
	reducer__free(r.reducer);
	trace_writer__free(w);
	lseek(fd, 0, SEEK_SET);
	close(from);
	return fd;
}

/* What a reduced stream holds. */
struct seen {
	uint32_t of_type[32];
	uint32_t last_type;
	bool tokens, prompt;
	uint32_t counts_rows[2][2]; /* [layer - 1][phase] */
	uint32_t block_rows[64];    /* of each COUNTS, in order */
	uint32_t first_position[64];
	double gate[EXPERTS];
	uint32_t count[EXPERTS];
	uint32_t stop;
};

static int look(void *ctx, const struct trace_item *item)
{
	struct seen *s = ctx;

	if (item->type == TRACE_STEP)
		s->tokens |=
			item->column[5].size > 0 || (item->head->flags & TRACE_STEP_TOKENS) != 0;
	if (item->type == TRACE_REQUEST_BEGIN)
		s->prompt |= item->request_begin->prompt_known > 0;
	if (item->type == TRACE_END)
		s->stop = item->end->stop;
	if (item->type == TRACE_COUNTS) {
		const struct trace_counts *n = item->counts;

		s->counts_rows[n->layer - 1][n->phase] += n->rows;
		s->block_rows[s->of_type[TRACE_COUNTS] % 64] = n->rows;
		s->first_position[s->of_type[TRACE_COUNTS] % 64] = n->first_position;
		for (uint32_t x = 0; x < EXPERTS; x++) {
			s->count[x] += ((const uint32_t *)item->column[0].bytes)[x];
			s->gate[x] += (double)((const float *)item->column[1].bytes)[x];
		}
	}
	s->of_type[item->type]++;
	s->last_type = item->type;
	return 0;
}

static int count_types(void *ctx, const struct trace_item *item)
{
	((struct seen *)ctx)->of_type[item->type]++;
	return 0;
}

static struct seen look_at(int fd)
{
	struct seen s = { 0 };

	assert_true(synthetic__read(fd, look, &s) > 0);
	assert_int_equal(s.last_type, TRACE_END);
	assert_int_equal(s.of_type[TRACE_END], 1);
	close(fd);
	return s;
}

/* Places where no expert was chosen are in no count. */
static void test_no_choice(void **unused)
{
	static const uint8_t ids[] = { 3, 1, 5, TRACE_NO_EXPERT_8 };
	static const float gates[] = { 0.75f, 0.25f, 0.5f, 0 };
	struct trace_route route = { .context = 1, .layer = 1, .rows = 2, .k = 2 };
	struct synthetic s;
	struct seen seen;
	uint64_t dropped;

	synthetic__begin(&s, EXPERTS, 2);
	synthetic__request(&s, 1, 0);
	route.step = synthetic__step(&s, 1, 2, 0, TRACE_PREFILL);
	route.head = synthetic__head(&s, TRACE_ROUTE_ALL_ROWS | TRACE_ROUTE_WEIGHTS |
						 TRACE_ROUTE_NO_CHOICE);
	synthetic__add(
		&s, TRACE_ROUTE, &route, sizeof(route),
		(struct trace_column[]){ { NULL, 0 }, { ids, 4 }, { gates, 16 }, { NULL, 0 } }, 4);
	synthetic__finish_request(&s, 1, 2);
	synthetic__end(&s);
	assert_int_equal(synthetic__done(&s), 0);
	seen = look_at(reduce(s.fd, DETAIL_REQUESTS, &dropped));
	assert_int_equal(dropped, 0);
	assert_int_equal(seen.counts_rows[0][TRACE_PREFILL], 2);
	assert_memory_equal(seen.count, ((uint32_t[EXPERTS]){ [3] = 1, [1] = 1, [5] = 1 }),
			    sizeof(seen.count));
	assert_true(seen.gate[5] == 0.5);
}

static void test_tokens_keeps_everything(void **unused)
{
	struct synthetic s;
	struct seen seen;

	write_request(&s);
	synthetic__end(&s);
	assert_int_equal(synthetic__done(&s), 0);
	seen = look_at(reduce(s.fd, DETAIL_TOKENS, NULL));
	assert_true(seen.tokens);
	assert_true(seen.prompt);
	assert_int_equal(seen.of_type[TRACE_STEP], 72);
	assert_int_equal(seen.of_type[TRACE_ROUTE], 144);
	assert_int_equal(seen.of_type[TRACE_COUNTS], 0);
	assert_int_equal(seen.stop, TRACE_STOP_ASKED);
	assert_int_equal(outcome, REDUCER_WHOLE);
}

static void test_routes_has_no_tokens(void **unused)
{
	struct synthetic s;
	struct seen seen;

	write_request(&s);
	synthetic__end(&s);
	assert_int_equal(synthetic__done(&s), 0);
	seen = look_at(reduce(s.fd, DETAIL_ROUTES, NULL));
	assert_false(seen.tokens);
	assert_false(seen.prompt);
	assert_int_equal(seen.of_type[TRACE_STEP], 72);
	assert_int_equal(seen.of_type[TRACE_ROUTE], 144);
}

static void test_requests_keeps_counts_only(void **unused)
{
	struct synthetic s;
	struct seen seen;
	uint64_t dropped;

	write_request(&s);
	synthetic__end(&s);
	assert_int_equal(synthetic__done(&s), 0);
	seen = look_at(reduce(s.fd, DETAIL_REQUESTS, &dropped));
	assert_int_equal(dropped, 0);
	assert_int_equal(seen.of_type[TRACE_STEP] + seen.of_type[TRACE_ROUTE], 0);
	assert_false(seen.prompt);
	assert_int_equal(seen.of_type[TRACE_REQUEST_BEGIN], 1);
	assert_int_equal(seen.of_type[TRACE_REQUEST_END], 1);
	/* Per layer: 100 rows of prefill at once, 64 and 6 of decode. */
	assert_int_equal(seen.of_type[TRACE_COUNTS], 6);
	for (int layer = 0; layer < 2; layer++) {
		assert_int_equal(seen.counts_rows[layer][TRACE_PREFILL], 100);
		assert_int_equal(seen.counts_rows[layer][TRACE_DECODE], 70);
		assert_int_equal(seen.block_rows[layer], 100);
		assert_int_equal(seen.block_rows[2 + layer], 64);
		assert_int_equal(seen.first_position[2 + layer], 100);
		assert_int_equal(seen.block_rows[4 + layer], 6);
		assert_int_equal(seen.first_position[4 + layer], 164);
	}
	assert_int_equal(seen.count[3], 200);
	assert_int_equal(seen.count[5], 140);
	assert_int_equal(seen.count[1], 340);
	assert_int_equal(seen.count[0], 0);
	assert_float_equal(seen.gate[3], 150, 1e-6);
	assert_float_equal(seen.gate[1], 85, 1e-6);
}

static int apply(void *ctx, const struct trace_item *item)
{
	return state__apply(ctx, item);
}

static struct state *state_of(int fd)
{
	struct state *s;

	assert_int_equal(state__new(&s), 0);
	assert_true(synthetic__read(fd, apply, s) > 0);
	close(fd);
	return s;
}

/* The picture is the same, whatever the detail. */
static void test_same_picture(void **unused)
{
	struct synthetic full, reduced;
	struct state *a, *b;
	const struct grid *x, *y;

	write_request(&full);
	write_request(&reduced);
	synthetic__end(&full);
	synthetic__end(&reduced);
	assert_int_equal(synthetic__done(&full), 0);
	assert_int_equal(synthetic__done(&reduced), 0);
	a = state_of(full.fd);
	b = state_of(reduce(reduced.fd, DETAIL_REQUESTS, NULL));
	x = state__context(a, 0)->grid;
	y = state__context(b, 0)->grid;
	for (uint32_t layer = 0; layer < 2; layer++)
		for (uint32_t i = 0; i < EXPERTS; i++)
			for (int p = 0; p <= STATE_BOTH; p++) {
				assert_int_equal(grid__count(x, STATE_WINDOW_WHOLE, p, layer, i),
						 grid__count(y, STATE_WINDOW_WHOLE, p, layer, i));
				assert_float_equal(grid__gate(x, p, layer, i),
						   grid__gate(y, p, layer, i), 1e-5);
			}
	assert_int_equal(state__summary(a)->decisions, state__summary(b)->decisions);
	assert_memory_equal(state__summary(a)->rows, state__summary(b)->rows,
			    sizeof(state__summary(a)->rows));
	assert_int_equal(request_table__older(state__requests(b), NULL)->rows[STATE_DECODE], 70);
	assert_int_equal(request_table__older(state__requests(b), NULL)->position, 169);
	assert_true(state__summary(b)->has_counts);
	assert_false(state__summary(b)->has_routes);
	assert_int_equal(state__steps(a), 72);
	assert_int_equal(state__steps(b), 72);
	state__free(a);
	state__free(b);
}

/* The collector died: what waits is written, and END says how it ended. */
static void test_stream_without_end(void **unused)
{
	struct synthetic s;
	struct seen seen;
	uint64_t step;

	synthetic__begin(&s, EXPERTS, 2);
	synthetic__request(&s, 1, 0);
	step = synthetic__step(&s, 1, 3, 0, TRACE_PREFILL);
	synthetic__route(&s, step, 1, 3, 2, prefill_choice, NULL);
	assert_int_equal(synthetic__done(&s), 0);
	seen = look_at(reduce(s.fd, DETAIL_REQUESTS, NULL));
	assert_int_equal(seen.stop, TRACE_STOP_FAILED);
	assert_int_equal(outcome, REDUCER_BROKEN_OFF);
	assert_int_equal(seen.counts_rows[0][TRACE_PREFILL], 3);
}

static void test_what_fits_nothing_is_counted(void **unused)
{
	static const uint8_t bad[] = { 200, 1 };
	struct synthetic s;
	struct seen seen;
	uint64_t step, dropped;

	synthetic__begin(&s, EXPERTS, 2);
	step = synthetic__step(&s, 1, 2, 0, TRACE_PREFILL);
	synthetic__route(&s, step, 1, 2, 2, bad, NULL);                /* 2 ids out of range */
	synthetic__route(&s, step, 2, 5, 2, prefill_choice, NULL);     /* 3 rows too many */
	synthetic__route(&s, step + 1, 2, 7, 2, prefill_choice, NULL); /* no such step */
	synthetic__end(&s);
	assert_int_equal(synthetic__done(&s), 0);
	seen = look_at(reduce(s.fd, DETAIL_REQUESTS, &dropped));
	assert_int_equal(dropped, 2 + 3 + 7);
	assert_int_equal(seen.counts_rows[0][TRACE_PREFILL], 2);
	assert_int_equal(seen.counts_rows[1][TRACE_PREFILL], 2);
}

static void bind(struct synthetic *s, uint32_t request, uint32_t position)
{
	struct trace_bind b = { .head = synthetic__head(s, 0),
				.sequence = 3,
				.request = request,
				.position = position };

	synthetic__add(s, TRACE_BIND, &b, sizeof(b), NULL, 0);
}

struct block_seen {
	uint32_t request, rows, first, last, flags, sequence;
};

struct blocks_seen {
	size_t count;
	struct block_seen block[16];
};

static int look_at_blocks(void *ctx, const struct trace_item *item)
{
	const struct trace_counts *n = item->counts;
	struct blocks_seen *b = ctx;

	if (item->type == TRACE_COUNTS && n->layer == 1)
		b->block[b->count++] =
			(struct block_seen){ n->request,       n->rows,       n->first_position,
					     n->last_position, n->head.flags, n->sequence };
	return 0;
}

/* Blocks are runs of 64 rows or more, of which only the last is shorter; each says where it lies,
 * whether its weights are final, and whose it is by the last word before it is written. */
static void test_blocks(void **unused)
{
	static const struct block_seen want[] = {
		{ 7, 64, 0, 63, TRACE_COUNTS_GATE, 3 },
		{ 7, 70, 64, 133, 0, 3 },
		{ 7, 5, 134, 138, TRACE_COUNTS_GATE, 3 },
		{ TRACE_UNKNOWN, 2, 139, 140, TRACE_COUNTS_GATE, 3 },
	};
	struct blocks_seen seen = { 0 };
	struct synthetic s;
	uint64_t step;
	int fd;

	synthetic__begin(&s, EXPERTS, 2);
	synthetic__request(&s, 7, 0);
	for (uint32_t i = 0; i < 63; i++) {
		step = synthetic__step(&s, TRACE_UNKNOWN, 1, i, TRACE_DECODE);
		synthetic__route(&s, step, 1, 1, 2, decode_choice, weights);
	}
	bind(&s, 7, 0); /* so far it was nobody's */
	step = synthetic__step(&s, TRACE_UNKNOWN, 1, 63, TRACE_DECODE);
	synthetic__route(&s, step, 1, 1, 2, decode_choice, weights);
	step = synthetic__step(&s, 7, 70, 64, TRACE_DECODE);
	synthetic__route(&s, step, 1, 70, 2, decode_choice, NULL);
	step = synthetic__step(&s, 7, 5, 134, TRACE_DECODE);
	synthetic__route(&s, step, 1, 5, 2, decode_choice, weights);
	bind(&s, TRACE_UNKNOWN, 139);
	step = synthetic__step(&s, TRACE_UNKNOWN, 2, 139, TRACE_DECODE);
	synthetic__route(&s, step, 1, 2, 2, decode_choice, weights);
	synthetic__finish_request(&s, 7, 139);
	synthetic__end(&s);
	assert_int_equal(synthetic__done(&s), 0);
	fd = reduce(s.fd, DETAIL_REQUESTS, NULL);
	assert_true(synthetic__read(fd, look_at_blocks, &seen) > 0);
	close(fd);
	assert_int_equal(seen.count, 4);
	assert_memory_equal(seen.block, want, sizeof(want));
}

/* Whatever a collector sends, what comes out can be read. */
static void test_any_content_is_survived(void **unused)
{
	struct synthetic s;

	for (int d = DETAIL_REQUESTS; d <= DETAIL_TOKENS; d++) {
		struct seen seen = { 0 };
		int fd;

		synthetic__begin(&s, EXPERTS, 2);
		synthetic__noise(&s, 5000);
		assert_int_equal(synthetic__done(&s), 0);
		fd = reduce(s.fd, (enum detail)d, NULL);
		assert_true(synthetic__read(fd, count_types, &seen) > 1000);
		assert_true(d != DETAIL_REQUESTS || !seen.of_type[TRACE_ROUTE]);
		close(fd);
	}
}

static void test_full_disk_is_named(void **unused)
{
	struct trace_writer_options options = { .codec = TRACE_CODEC_NONE };
	struct reducing r = { .reducer = NULL };
	struct trace_writer *w;
	struct synthetic s;
	int fds[2], err;

	write_request(&s);
	synthetic__end(&s);
	assert_int_equal(synthetic__done(&s), 0);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(trace_writer__open(&w, fds[1], "the pipe", &options, NULL), 0);
	close(fds[0]);
	assert_int_equal(reducer__new(&r.reducer, DETAIL_TOKENS, w), 0);
	err = synthetic__read(s.fd, reduce_item, &r);
	if (err > 0)
		err = reducer__finish(r.reducer, &r.error);
	assert_int_equal(err, -EPIPE);
	assert_int_equal(r.error.exit, EXIT_FAILED);
	assert_non_null(strstr(r.error.what, "'the pipe'"));
	assert_int_equal(reducer__outcome(r.reducer), REDUCER_NOT_WRITTEN);
	reducer__free(r.reducer);
	trace_writer__free(w);
	close(fds[1]);
	close(s.fd);
}

/* A file that may not grow (as on a full disk) ends with whole blocks and an END that says why. */
static void test_full_file_stays_readable(void **unused)
{
	struct trace_writer_options options = { .codec = TRACE_CODEC_NONE };
	struct rlimit before, small = { 150000, RLIM_INFINITY };
	struct reducing r = { .reducer = NULL };
	struct trace_writer *w;
	struct synthetic s;
	struct seen seen;
	int fd = memfd_create("full", 0), err;

	synthetic__begin(&s, EXPERTS, 2);
	for (int i = 0; i < 1000; i++)
		synthetic__step(&s, 1, 30, 0, TRACE_DECODE);
	synthetic__end(&s);
	assert_int_equal(synthetic__done(&s), 0);
	assert_int_equal(trace_writer__open(&w, fd, "the file", &options, NULL), 0);
	assert_int_equal(reducer__new(&r.reducer, DETAIL_TOKENS, w), 0);
	getrlimit(RLIMIT_FSIZE, &before);
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &small);
	err = synthetic__read(s.fd, reduce_item, &r);
	assert_int_equal(err, -EFBIG);
	assert_int_equal(trace_writer__cut_back(w), 0);
	assert_int_equal(reducer__abandon(r.reducer, NULL), 0);
	assert_int_equal(reducer__outcome(r.reducer), REDUCER_NOT_WRITTEN);
	setrlimit(RLIMIT_FSIZE, &before);
	lseek(fd, 0, SEEK_SET);
	seen = look_at(fd);
	assert_int_equal(seen.stop, TRACE_STOP_OUTPUT);
	assert_in_range(seen.of_type[TRACE_STEP], 50, 300);
	reducer__free(r.reducer);
	trace_writer__free(w);
	close(s.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_choice),
		cmocka_unit_test(test_tokens_keeps_everything),
		cmocka_unit_test(test_routes_has_no_tokens),
		cmocka_unit_test(test_requests_keeps_counts_only),
		cmocka_unit_test(test_same_picture),
		cmocka_unit_test(test_stream_without_end),
		cmocka_unit_test(test_what_fits_nothing_is_counted),
		cmocka_unit_test(test_blocks),
		cmocka_unit_test(test_any_content_is_survived),
		cmocka_unit_test(test_full_disk_is_named),
		cmocka_unit_test(test_full_file_stays_readable),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("reduce", tests, NULL, NULL);
}
