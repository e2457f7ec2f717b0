/* SPDX-License-Identifier: BSD-2-Clause */
/* analyzer/state: exact counts, windows on stream time, bounds against a hostile stream. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "analyzer/metric/utilisation.h"
#include "analyzer/state/printable.h"
#include "analyzer/state/state.h"
#include "analyzer/state/window.h"
#include "tests/unit/synthetic.h"

#define EXPERTS 8
static const uint8_t first_two[] = { 3, 1 };
static const float weights[] = { 0.75f, 0.25f };

static int apply(void *ctx, const struct trace_item *item)
{
	return state__apply(ctx, item);
}

static struct state *read_state(struct synthetic *s)
{
	struct state *state;

	assert_int_equal(synthetic__done(s), 0);
	assert_int_equal(state__new(&state), 0);
	assert_true(synthetic__read(s->fd, apply, state) > 0);
	close(s->fd);
	return state;
}

static void test_model_and_process(void **unused)
{
	struct synthetic s;
	struct state *state;
	const struct state_context *c;

	synthetic__begin(&s, EXPERTS, 2);
	state = read_state(&s);
	assert_int_equal(state__contexts(state), 1);
	c = state__context(state, 0);
	assert_int_equal(c->experts, EXPERTS);
	assert_int_equal(c->layers, 2);
	assert_int_equal(c->k, 2);
	assert_int_equal(c->shared_experts, TRACE_UNKNOWN);
	assert_string_equal(c->architecture, "olmoe");
	assert_string_equal(c->name, "tiny?[31m"); /* the escape is gone */
	assert_string_equal(c->quantisation, "F32");
	assert_true(c->from_file);
	assert_int_equal(c->layer_ids[1], 2);
	assert_int_equal(state__process(state, 7)->pid, 1234);
	assert_string_equal(state__process(state, 7)->engine, "llama.cpp");
	assert_null(state__process(state, 8));
	state__free(state);
}

static void test_counts_by_phase(void **unused)
{
	struct synthetic s;
	struct state *state;
	const struct state_context *c;
	const struct state_request *r;
	uint64_t step;

	synthetic__begin(&s, EXPERTS, 2);
	synthetic__request(&s, 1, 0);
	step = synthetic__step(&s, 1, 5, 0, TRACE_PREFILL);
	synthetic__route(&s, step, 1, 5, 2, first_two, weights);
	synthetic__route(&s, step, 2, 5, 2, first_two, weights);
	s.now_ns += SECOND;
	step = synthetic__step(&s, 1, 1, 5, TRACE_DECODE);
	synthetic__route(&s, step, 1, 1, 2, first_two, weights);
	synthetic__route(&s, step, 2, 1, 2, first_two, weights);
	state = read_state(&s);
	c = state__context(state, 0);
	assert_int_equal(grid__count(c->grid, STATE_WINDOW_WHOLE, STATE_PREFILL, 0, 3), 5);
	assert_int_equal(grid__count(c->grid, STATE_WINDOW_WHOLE, STATE_DECODE, 0, 3), 1);
	assert_int_equal(grid__count(c->grid, STATE_WINDOW_WHOLE, STATE_BOTH, 1, 1), 6);
	assert_int_equal(grid__count(c->grid, STATE_WINDOW_WHOLE, STATE_BOTH, 1, 0), 0);
	assert_float_equal(grid__gate(c->grid, STATE_BOTH, 0, 3), 6 * 0.75, 1e-9);
	assert_float_equal(grid__gate(c->grid, STATE_DECODE, 0, 1), 0.25, 1e-9);
	assert_int_equal(state__summary(state)->steps, 2);
	assert_int_equal(state__summary(state)->routes, 4);
	assert_int_equal(state__summary(state)->decisions, 12);
	assert_int_equal(state__summary(state)->rows[STATE_PREFILL], 5);
	assert_int_equal(state__summary(state)->rows[STATE_DECODE], 1);
	assert_int_equal(state__summary(state)->out_of_range, 0);
	assert_true(state__summary(state)->has_tokens);
	r = request_table__older(state__requests(state), NULL);
	assert_int_equal(r->request, 1);
	assert_int_equal(r->position, 5);
	assert_int_equal(r->phase, STATE_DECODE);
	assert_int_equal(r->rows[STATE_PREFILL], 5);
	assert_int_equal(r->cached, 2);
	assert_int_equal(r->task, 41);
	assert_string_equal(r->client_id, "chatcmpl-x");
	assert_null(request_table__older(state__requests(state), r));
	assert_float_equal(state__steps_per_second(state), 2.0, 1e-9);
	assert_float_equal(state__rows_per_second(state, STATE_BOTH), 6.0, 1e-9);
	state__free(state);
}

/* Two processes have half of the layers each: a row is one row, and a decision in each layer. */
static void test_rows_of_parts_count_once(void **unused)
{
	static const uint16_t first[] = { 1, 2 }, second[] = { 3, 4 };
	struct synthetic s;
	struct state *state;
	uint64_t step;

	synthetic__begin(&s, EXPERTS, 2);
	s.model_key = 5;
	synthetic__model(&s, 2, 2, second, EXPERTS, 2);
	synthetic__model(&s, 1, 2, first, EXPERTS, 2);
	synthetic__request(&s, 1, 3);
	for (s.context = 1; s.context <= 2; s.context++) {
		step = synthetic__step(&s, 1, 5, 0, TRACE_PREFILL);
		synthetic__route(&s, step, s.context * 2 - 1, 5, 2, first_two, weights);
		synthetic__route(&s, step, s.context * 2, 5, 2, first_two, weights);
	}
	state = read_state(&s);
	assert_int_equal(state__summary(state)->steps, 2);
	assert_int_equal(state__summary(state)->rows[STATE_PREFILL], 5);
	assert_int_equal(state__summary(state)->decisions, 20);
	assert_int_equal(request_table__older(state__requests(state), NULL)->rows[STATE_PREFILL],
			 5);
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(grid__count(state__context(state, i)->grid, STATE_WINDOW_WHOLE,
					     STATE_PREFILL, 1, 3),
				 5);
	state__free(state);
}

/* The whole keeps what the windows forget. */
static void test_windows_follow_stream_time(void **unused)
{
	struct synthetic s;
	struct state *state;
	const struct grid *g;
	uint64_t step;

	synthetic__begin(&s, EXPERTS, 2);
	step = synthetic__step(&s, TRACE_UNKNOWN, 3, 0, TRACE_DECODE);
	synthetic__route(&s, step, 1, 3, 2, first_two, NULL);
	s.now_ns += 9 * SECOND;
	step = synthetic__step(&s, TRACE_UNKNOWN, 1, 3, TRACE_DECODE);
	synthetic__route(&s, step, 1, 1, 2, first_two, NULL);
	s.now_ns += SECOND;
	step = synthetic__step(&s, TRACE_UNKNOWN, 1, 4, TRACE_DECODE);
	synthetic__route(&s, step, 1, 1, 2, first_two, NULL);
	state = read_state(&s);
	g = state__context(state, 0)->grid;
	assert_int_equal(grid__count(g, STATE_WINDOW_WHOLE, STATE_BOTH, 0, 3), 5);
	assert_int_equal(grid__count(g, STATE_WINDOW_10S, STATE_BOTH, 0, 3), 2);
	assert_int_equal(grid__count(g, STATE_WINDOW_1MIN, STATE_BOTH, 0, 3), 5);
	assert_int_equal(grid__layer_count(g, STATE_WINDOW_10S, STATE_BOTH, 0), 4);
	assert_int_equal(grid__layer_count(g, STATE_WINDOW_10S, STATE_BOTH, 1), 0);
	assert_int_equal(request_table__live(state__requests(state)), 0);
	state__free(state);
}

static void test_window_jumps(void **unused)
{
	struct window w;

	assert_int_equal(window__init(&w, 10, 3, 2), 0);
	window__advance(&w, 5);
	window__add(&w, 1, 7);
	window__advance(&w, 25);
	window__add(&w, 1, 1);
	assert_int_equal(window__sum(&w, 1), 8);
	assert_int_equal(window__span_ns(&w, 25), 20);
	window__advance(&w, 30);
	assert_int_equal(window__sum(&w, 1), 1);
	window__advance(&w, 8); /* never goes back */
	assert_int_equal(window__sum(&w, 1), 1);
	window__advance(&w, UINT64_MAX);
	assert_int_equal(window__sum(&w, 1), 0);
	window__add(&w, 0, UINT32_MAX);
	window__add(&w, 0, 5); /* saturates: what is taken off is what was added */
	assert_int_equal(window__sum(&w, 0), UINT32_MAX);
	window__add(&w, 2, 1); /* no such cell */
	window__free(&w);
}

/* Ids outside the model, layers that it does not have, steps that were not announced. */
static void test_out_of_range(void **unused)
{
	static const uint8_t bad[] = { 200, 1 };
	struct synthetic s;
	struct state *state;
	uint64_t step;

	synthetic__begin(&s, EXPERTS, 2);
	step = synthetic__step(&s, 1, 1, 0, TRACE_PREFILL);
	synthetic__route(&s, step, 1, 1, 2, bad, NULL);
	synthetic__route(&s, step, 77, 1, 2, first_two, NULL);
	synthetic__route(&s, step, 2, 3, 2, first_two, NULL); /* more rows than the step */
	synthetic__route(&s, step + 5, 2, 1, 2, first_two, NULL);
	state = read_state(&s);
	assert_int_equal(state__summary(state)->out_of_range, 1 + 1 + 2);
	assert_int_equal(
		grid__count(state__context(state, 0)->grid, STATE_WINDOW_WHOLE, STATE_BOTH, 0, 1),
		1);
	assert_int_equal(
		grid__count(state__context(state, 0)->grid, STATE_WINDOW_WHOLE, STATE_OTHER, 1, 3),
		1);
	state__free(state);
}

static void test_too_large_models(void **unused)
{
	static uint16_t ids[1000];
	struct synthetic s;
	struct state *state;

	for (uint16_t i = 0; i < 1000; i++)
		ids[i] = i;
	synthetic__begin(&s, EXPERTS, 2);
	synthetic__model(&s, 2, 1000, ids, 60000, 2);
	for (uint32_t context = 3; context < 40; context++)
		synthetic__model(&s, context, 1, ids, 4, 2);
	state = read_state(&s);
	assert_int_equal(state__contexts(state), STATE_CONTEXTS_MAX);
	assert_null(state__context(state, 1)->grid);
	assert_non_null(state__context(state, 2)->grid);
	assert_true(state__summary(state)->out_of_range > 0);
	state__free(state);
}

/* A model described again with one more layer keeps what was counted. */
static void test_model_grows(void **unused)
{
	static const uint16_t more[] = { 0, 1, 2 };
	struct synthetic s;
	struct state *state;
	const struct state_context *c;
	uint64_t step;

	synthetic__begin(&s, EXPERTS, 2);
	step = synthetic__step(&s, 1, 4, 0, TRACE_PREFILL);
	synthetic__route(&s, step, 1, 4, 2, first_two, weights);
	synthetic__model(&s, 1, 3, more, EXPERTS, 2);
	synthetic__route(&s, step, 0, 4, 2, first_two, weights);
	state = read_state(&s);
	c = state__context(state, 0);
	assert_int_equal(grid__layers(c->grid), 3);
	assert_int_equal(grid__count(c->grid, STATE_WINDOW_WHOLE, STATE_PREFILL, 1, 3), 4);
	assert_int_equal(grid__count(c->grid, STATE_WINDOW_WHOLE, STATE_PREFILL, 0, 3), 4);
	assert_int_equal(grid__count(c->grid, STATE_WINDOW_WHOLE, STATE_PREFILL, 2, 3), 0);
	assert_float_equal(grid__gate(c->grid, STATE_PREFILL, 1, 3), 3.0, 1e-9);
	state__free(state);
}

static void test_requests_are_bounded(void **unused)
{
	struct synthetic s;
	struct state *state;
	const struct state_request *r = NULL;
	uint32_t seen = 0;

	synthetic__begin(&s, EXPERTS, 2);
	synthetic__request(&s, 1, 0); /* never ends, but is older than all */
	for (uint32_t i = 2; i < 2 + STATE_REQUESTS_MAX; i++) {
		synthetic__request(&s, i, 0);
		if (i > 2)
			synthetic__finish_request(&s, i, 3);
	}
	state = read_state(&s);
	while ((r = request_table__older(state__requests(state), r)))
		seen++;
	assert_int_equal(seen, STATE_REQUESTS_MAX);
	assert_int_equal(request_table__evicted(state__requests(state)), 1);
	assert_int_equal(request_table__finished(state__requests(state)), STATE_REQUESTS_MAX - 1);
	/* The live ones outlive finished ones that are younger. */
	assert_int_equal(request_table__live(state__requests(state)), 2);
	state__free(state);
}

/* What ends with the capture after a moment is counted, and is no rate; nor is the processor time
 * of attaching, which the first one has. */
static void test_rates_of_cost(void **unused)
{
	static const struct trace_cost costs[] = {
		{ .interval_ns = SECOND, .collector_cpu_ns = SECOND / 2, .slowdown_ppm = 3 },
		{ .interval_ns = SECOND, .collector_cpu_ns = 5000000, .slowdown_ppm = 100 },
		{ .interval_ns = 1000, .collector_cpu_ns = 900, .slowdown_ppm = 7 },
	};
	const struct state_cost *c;
	struct state *state;

	assert_int_equal(state__new(&state), 0);
	c = &state__summary(state)->cost;
	for (size_t i = 0; i < 3; i++) {
		struct trace_cost one = costs[i];

		one.head.time_ns = i + 1;
		assert_int_equal(state__apply(state, &(struct trace_item){ .type = TRACE_COST,
									   .cost = &one }),
				 0);
		assert_int_equal(c->slowdown_ppm, i ? 100 : 3);
		assert_true(c->collector_ppm == (i ? 5000 : TRACE_UNKNOWN));
	}
	assert_int_equal(c->collector_cpu_ns, SECOND / 2 + 5000900);
	state__free(state);
}

static void test_loss_invalid_cost_coverage(void **unused)
{
	struct synthetic s;
	struct state *state;
	const struct state_summary *m;
	struct trace_loss loss = {
		.cause = TRACE_LOSS_RING_ROUTES, .count = 2, .rows = UINT64_MAX, .decisions = 30
	};
	struct trace_invalid invalid = { .cause = 999, .count = 4 };
	struct trace_cost cost = { .interval_ns = SECOND,
				   .hits = 100,
				   .hit_ns = 200000,
				   .collector_cpu_ns = 5000000,
				   .resident_bytes = 7,
				   .threads = 2,
				   .slowdown_ppm = 100 };
	struct trace_coverage coverage = {
		.request = 1, .layer = 2, .expected = 100, .seen = 60, .causes = 9, .context = 1
	};
	/* The last one is of a later writer. */
	const uint64_t missing[9] = { 10, 5, 18, 3, 1, 0, 0, 1, 2 };
	uint64_t step;

	synthetic__begin(&s, EXPERTS, 2);
	synthetic__request(&s, 1, 0);
	step = synthetic__step(&s, 1, 10, 0, TRACE_PREFILL);
	synthetic__route(&s, step, 1, 10, 2, first_two, NULL);
	loss.head = invalid.head = cost.head = coverage.head = synthetic__head(&s, 0);
	synthetic__add(&s, TRACE_LOSS, &loss, sizeof(loss), NULL, 0);
	synthetic__add(&s, TRACE_INVALID, &invalid, sizeof(invalid), NULL, 0);
	synthetic__add(&s, TRACE_COST, &cost, sizeof(cost), NULL, 0);
	cost.hit_ns = UINT64_MAX; /* not calibrated: must not count as time */
	synthetic__add(&s, TRACE_COST, &cost, sizeof(cost), NULL, 0);
	synthetic__finish_request(&s, 1, 10);
	synthetic__add(&s, TRACE_COVERAGE, &coverage, sizeof(coverage),
		       &(struct trace_column){ missing, sizeof(missing) }, 1);
	synthetic__end(&s);
	state = read_state(&s);
	m = state__summary(state);
	assert_int_equal(m->lost, 2);
	assert_int_equal(m->loss[TRACE_LOSS_RING_ROUTES].decisions, 30);
	assert_int_equal(m->invalid, 4);
	assert_int_equal(m->invalid_by[0], 4);
	assert_int_equal(m->cost.collector_ppm, 5000);
	assert_int_equal(m->cost.slowdown_ppm, 100);
	assert_int_equal(m->cost.hits, 200);
	assert_int_equal(m->cost.timed_hits, 100);
	assert_int_equal(m->cost.hit_ns, 200000);
	assert_int_equal(m->cost.timed_ns, SECOND);
	assert_int_equal(m->coverage.expected, 100);
	assert_int_equal(m->coverage.missing[TRACE_MISSING_LOST - 1], 18);
	assert_int_equal(m->coverage.missing[TRACE_MISSING_GOVERNOR - 1], 1);
	assert_int_equal(m->coverage.missing[STATE_MISSING_OTHER], 2);
	assert_int_equal(state__context(state, 0)->coverage[1].seen, 60);
	assert_int_equal(request_table__older(state__requests(state), NULL)->coverage.seen, 60);
	/* 30 of 40 by the loss records, 18 of 100 by coverage: the larger counts. */
	assert_float_equal(state__lost_share(state), 0.75, 1e-9);
	assert_true(m->ended);
	assert_int_equal(m->end.stop, TRACE_STOP_ASKED);
	state__free(state);
}

/* Records of a right layout with any content, as a hostile collector could send them. */
static void test_any_content_is_survived(void **unused)
{
	struct synthetic s;
	struct state *state;

	synthetic__begin(&s, EXPERTS, 2);
	synthetic__noise(&s, 20000);
	state = read_state(&s);
	assert_true(state__summary(state)->records > 10000);
	assert_true(state__contexts(state) <= STATE_CONTEXTS_MAX);
	assert_true(request_table__live(state__requests(state)) <= STATE_REQUESTS_MAX);
	(void)state__lost_share(state);
	(void)state__rows_per_second(state, STATE_BOTH);
	state__free(state);
}

static void test_utilisation(void **unused)
{
	struct grid *g;
	struct utilisation u;

	assert_int_equal(grid__new(&g, 2, 4), 0);
	u = utilisation__of(g, STATE_WINDOW_WHOLE, STATE_BOTH, 0);
	assert_int_equal(u.total, 0);
	grid__add(g, 0, 2, STATE_DECODE, 6, 0);
	grid__add(g, 0, 0, STATE_PREFILL, 1, 0);
	grid__add(g, 0, 3, STATE_DECODE, 1, 0);
	u = utilisation__of(g, STATE_WINDOW_WHOLE, STATE_BOTH, 0);
	assert_int_equal(u.total, 8);
	assert_int_equal(u.never, 1);
	assert_float_equal(u.max_over_mean, 3.0, 1e-9);
	assert_int_equal(u.busy, 3);
	assert_int_equal(u.busiest[0].expert, 2);
	assert_int_equal(u.busiest[1].expert, 0); /* ties by id */
	assert_int_equal(u.busiest[2].expert, 3);
	assert_float_equal(u.entropy_bits, 1.0612781244591328, 1e-9);
	assert_float_equal(u.evenness, 0.5306390622295664, 1e-9);
	grid__add(g, 1, 0, STATE_DECODE, 3, 0);
	u = utilisation__of(g, STATE_WINDOW_WHOLE, STATE_BOTH, 1);
	assert_float_equal(u.entropy_bits, 0, 0);
	assert_int_equal(grid__add(g, 2, 0, STATE_DECODE, 1, 0), -ERANGE);
	assert_int_equal(grid__add(g, 0, 4, STATE_DECODE, 1, 0), -ERANGE);
	grid__free(g);
}

static void test_printable(void **unused)
{
	char out[16];

	printable__copy(out, sizeof(out), "a\033[2J\n", 6);
	assert_string_equal(out, "a?[2J?");
	printable__copy(out, sizeof(out), "gr\xc3\xbc\xc3\x9f", 6);
	assert_string_equal(out, "gr\xc3\xbc\xc3\x9f");
	printable__copy(out, sizeof(out), "\xff\xc3", 2);
	assert_string_equal(out, "??");
	printable__copy(out, sizeof(out), "x\xe2\x80\xaey", 5); /* right-to-left override */
	assert_string_equal(out, "x?y");
	printable__copy(out, sizeof(out), "\xc0\xaf", 2); /* overlong */
	assert_string_equal(out, "??");
	printable__copy(out, 4, "ab\xc3\xbc", 4); /* no half a character */
	assert_string_equal(out, "ab");
	printable__copy(out, sizeof(out), NULL, 0);
	assert_string_equal(out, "");
}

static double share_of(uint32_t cause, uint64_t count, uint64_t rows, uint64_t decisions)
{
	struct trace_loss loss = {
		.cause = cause, .count = count, .rows = rows, .decisions = decisions
	};
	struct trace_request_end end = { .request = 1, .ending = TRACE_ENDING_CAPTURE_END };
	struct synthetic s;
	struct state *state;
	uint64_t step;
	double share;

	synthetic__begin(&s, EXPERTS, 2);
	synthetic__request(&s, 1, 0);
	step = synthetic__step(&s, 1, 5, 0, TRACE_PREFILL);
	synthetic__route(&s, step, 1, 5, 2, first_two, weights);
	synthetic__route(&s, step, 2, 5, 2, first_two, weights);
	loss.head = end.head = synthetic__head(&s, 0);
	synthetic__add(&s, TRACE_LOSS, &loss, sizeof(loss), NULL, 0);
	synthetic__add(&s, TRACE_REQUEST_END, &end, sizeof(end), NULL, 0);
	state = read_state(&s);
	assert_int_equal(request_table__finished(state__requests(state)), 0);
	assert_int_equal(request_table__cut_off(state__requests(state)), 1);
	share = state__lost_share(state);
	state__free(state);
	return share;
}

/* Ten decisions were seen, in two layers; each cause counts in decisions. */
static void test_loss_is_in_decisions(void **unused)
{
	assert_float_equal(share_of(TRACE_LOSS_RING_ROUTES, 1, UINT64_MAX, 10), 0.5, 1e-9);
	assert_float_equal(share_of(TRACE_LOSS_RING_ROWS, 1, 5, UINT64_MAX), 0.5, 1e-9);
	assert_float_equal(share_of(TRACE_LOSS_RING_IDENTITY, 9, 9, 9), 0, 1e-9);
	assert_float_equal(share_of(TRACE_LOSS_CHUNKS, 1, UINT64_MAX, 10), 0.5, 1e-9);
	assert_float_equal(share_of(TRACE_LOSS_QUEUE, 1, 5, 10), 0.5, 1e-9);
	assert_float_equal(share_of(TRACE_LOSS_NO_STEP, 1, UINT64_MAX, 10), 0.5, 1e-9);
	assert_float_equal(share_of(TRACE_LOSS_LAYOUT, 10, UINT64_MAX, UINT64_MAX), 0.5, 1e-9);
	assert_float_equal(share_of(TRACE_LOSS_REQUESTS, 3, 0, 0), 0, 1e-9);
	/* Neither is known: one each at least. */
	assert_float_equal(share_of(TRACE_LOSS_CHUNKS, 10, UINT64_MAX, UINT64_MAX), 0.5, 1e-9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rates_of_cost),
		cmocka_unit_test(test_model_and_process),
		cmocka_unit_test(test_counts_by_phase),
		cmocka_unit_test(test_rows_of_parts_count_once),
		cmocka_unit_test(test_windows_follow_stream_time),
		cmocka_unit_test(test_window_jumps),
		cmocka_unit_test(test_out_of_range),
		cmocka_unit_test(test_too_large_models),
		cmocka_unit_test(test_model_grows),
		cmocka_unit_test(test_requests_are_bounded),
		cmocka_unit_test(test_loss_is_in_decisions),
		cmocka_unit_test(test_loss_invalid_cost_coverage),
		cmocka_unit_test(test_any_content_is_survived),
		cmocka_unit_test(test_utilisation),
		cmocka_unit_test(test_printable),
	};

	return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
