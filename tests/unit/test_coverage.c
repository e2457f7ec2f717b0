/* SPDX-License-Identifier: BSD-2-Clause */
/* Coverage adds up exactly, each term counted on its own: cases made by hand, every number
 * worked out here. A model of three MoE layers (1, 2, 3) of four blocks: layer 3 is the last. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "collector/coverage.h"
#include "probe/engine/sink.h"

#define LAYERS 3
#define U ENGINE_UNKNOWN

static const uint16_t layer_ids[LAYERS] = { 1, 2, 3 };

struct said {
	size_t count;
	struct coverage_line line[16];
};

static int keep(void *ctx, const struct coverage_line *line)
{
	struct said *s = ctx;
	uint64_t sum = line->seen;

	for (int i = 0; i < TRACE_MISSING_COUNT; i++)
		sum += line->missing[i];
	assert_int_equal(line->expected, sum);
	assert_true(s->count < 16);
	s->line[s->count++] = *line;
	return 0;
}

static struct said end(struct coverage *c, uint32_t request, uint32_t tokens)
{
	struct said s = { 0 };

	assert_int_equal(coverage__end(c, request, tokens, keep, &s), 0);
	return s;
}

struct want {
	uint64_t expected, seen, cached, not_computed, lost, invalid, before, not_routed;
};

static void check_with_after(const struct coverage_line *l, uint32_t layer, struct want w,
			     uint64_t after)
{
	assert_int_equal(l->layer, layer);
	assert_int_equal(l->expected, w.expected);
	assert_int_equal(l->seen, w.seen);
	assert_int_equal(l->missing[COVERAGE_CACHED], w.cached);
	assert_int_equal(l->missing[COVERAGE_NOT_COMPUTED], w.not_computed);
	assert_int_equal(l->missing[COVERAGE_LOST], w.lost);
	assert_int_equal(l->missing[COVERAGE_INVALID], w.invalid);
	assert_int_equal(l->missing[COVERAGE_BEFORE_ATTACH], w.before);
	assert_int_equal(l->missing[COVERAGE_NOT_ROUTED], w.not_routed);
	assert_int_equal(l->missing[COVERAGE_AFTER_DETACH], after);
}

static void check(const struct coverage_line *l, uint32_t layer, struct want w)
{
	check_with_after(l, layer, w, 0);
}

static void begin(struct coverage *c, uint32_t request, uint32_t cached, bool before)
{
	struct engine_request r = {
		.request = request,
		.context = 1,
		.cached = cached,
		.before_attach = before,
	};

	assert_int_equal(coverage__begin(c, &r), 0);
}

/* A step of @count rows of @request from @position; the last row alone asks for logits. Layers of
 * @mask (bit i: layer_ids[i]) arrive; the last one with the last row only. */
static void step_at(struct coverage *c, uint64_t begin_ns, uint32_t request, uint32_t position,
		    uint32_t count, unsigned mask, bool delivered)
{
	struct engine_row row[16] = { 0 };
	struct engine_route route[LAYERS];
	uint32_t last_row[1] = { count - 1 }, routes = 0;
	struct engine_step s = { .context = 1, .begin_ns = begin_ns, .rows = count };

	for (uint32_t i = 0; i < count; i++)
		row[i] = (struct engine_row){ .sequence = 1,
					      .request = request,
					      .position = position + i,
					      .output = i == count - 1 };
	for (int i = 0; i < LAYERS; i++) {
		if (!(mask & 1u << i))
			continue;
		route[routes++] = (struct engine_route){
			.layer = layer_ids[i],
			.rows = i == LAYERS - 1 ? 1 : count,
			.k = 2,
			.row = i == LAYERS - 1 ? last_row : NULL,
		};
	}
	s.row = row;
	s.routes = routes;
	s.route = route;
	assert_int_equal(coverage__step(c, &s, delivered), 0);
}

static void step(struct coverage *c, uint32_t request, uint32_t position, uint32_t count,
		 unsigned mask)
{
	step_at(c, 1000, request, position, count, mask, true);
}

static int setup(void **state)
{
	struct engine_context m = {
		.context = 1,
		.layers = LAYERS,
		.layer_ids = layer_ids,
		.blocks = 4,
		.experts = 8,
		.k = 2,
	};
	struct coverage *c = coverage__new();

	assert_non_null(c);
	coverage__attached(c, 100);
	assert_int_equal(coverage__model(c, &m), 0);
	*state = c;
	return 0;
}

static int teardown(void **state)
{
	coverage__free(*state);
	return 0;
}

/* 4 of 10 prompt tokens cached, 6 computed at once, then 3 decode steps. The server evaluates
 * 13 positions. In the last layer 1 + 3 rows are computed. */
static void test_whole_request(void **state)
{
	struct coverage *c = *state;
	struct said s;

	begin(c, 7, 4, false);
	step(c, 7, 4, 6, 7);
	for (uint32_t p = 10; p < 13; p++)
		step(c, 7, p, 1, 7);
	assert_int_equal(coverage__rows(c, 7), 9);
	assert_false(coverage__has_open(c, 7));
	s = end(c, 7, 13);
	assert_int_equal(s.count, LAYERS);
	check(&s.line[0], 1, (struct want){ 13, 9, 4, 0, 0, 0, 0, 0 });
	check(&s.line[1], 2, (struct want){ 13, 9, 4, 0, 0, 0, 0, 0 });
	check(&s.line[2], 3, (struct want){ 13, 4, 4, 5, 0, 0, 0, 0 });
	/* It is forgotten. */
	assert_int_equal(end(c, 7, 13).count, 0);
	assert_int_equal(coverage__rows(c, 7), 0);
}

/* A row of @request at @position in the layers of @context, of a model in two parts: 5, 6. */
static void step_of_part(struct coverage *c, uint32_t context, uint32_t request, uint32_t position)
{
	struct engine_row row = { .sequence = 1, .request = request, .position = position };
	struct engine_route route = { .layer = context, .rows = 1, .k = 2 };
	struct engine_step s = { .context = context,
				 .begin_ns = 1000,
				 .rows = 1,
				 .row = &row,
				 .routes = 1,
				 .route = &route };

	assert_int_equal(coverage__step(c, &s, true), 0);
}

/* Each part of a model has all of a request's positions; its rows are counted once. */
static void test_parts_of_a_model(void **state)
{
	struct coverage *c = *state;
	struct said s;

	for (uint16_t layer = 5; layer <= 6; layer++) {
		struct engine_context m = { .context = layer,
					    .model_key = 9,
					    .layers = 1,
					    .layer_ids = &layer,
					    .whole_last_layer = true };
		assert_int_equal(coverage__model(c, &m), 0);
	}
	coverage__lost_steps(c, 1);
	for (uint32_t request = 1; request <= 2; request++) {
		struct engine_request r = { .request = request, .context = 5, .cached = 4 };

		assert_int_equal(coverage__begin(c, &r), 0);
		for (uint32_t position = 4; position < 8; position++)
			step_of_part(c, 5, request, position);
		for (uint32_t position = 4; position < 7; position++)
			step_of_part(c, 6, request, position);
		assert_int_equal(coverage__rows(c, request), 4);
	}
	s = end(c, 1, 8);
	assert_int_equal(s.count, 2);
	check(&s.line[0], 5, (struct want){ 8, 4, 4, 0, 0, 0, 0, 0 });
	check(&s.line[1], 6, (struct want){ 8, 3, 4, 0, 1, 0, 0, 0 });
	assert_int_equal(end(c, 1, 8).count, 0);
	/* Another one goes unsaid: all of it is with the rows of nobody. */
	assert_int_equal(coverage__drop(c, 2, 8), 0);
	assert_int_equal(coverage__rows(c, 2), 0);
	assert_int_equal(end(c, 2, 8).count, 0);
}

/* Positions 6 to 8 never came: a step was lost, and of the decode steps the last two. */
static void test_gap_and_tail(void **state)
{
	struct coverage *c = *state;
	struct said s;

	begin(c, 1, 0, false);
	step(c, 1, 0, 6, 7);
	step(c, 1, 9, 1, 7);
	s = end(c, 1, 12);
	check(&s.line[0], 1, (struct want){ 12, 7, 0, 0, 5, 0, 0, 0 });
	check(&s.line[2], 3, (struct want){ 12, 2, 0, 5, 5, 0, 0, 0 });
}

/* The first rows of a request were lost; the server's count shows no tail. */
static void test_lost_beginning(void **state)
{
	struct coverage *c = *state;
	struct said s;

	begin(c, 1, 2, false);
	step(c, 1, 5, 1, 7);
	s = end(c, 1, 6);
	check(&s.line[0], 1, (struct want){ 6, 1, 2, 0, 3, 0, 0, 0 });
}

/* Nobody said where they begin: what is before the first row was cached, unless a step that did not
 * come may have had it. */
static void test_prefix_of_inferred_request(void **state)
{
	struct coverage *c = *state;
	struct said s;

	begin(c, 1, U, false);
	step(c, 1, 20, 2, 7);
	s = end(c, 1, U);
	check(&s.line[0], 1, (struct want){ 22, 2, 20, 0, 0, 0, 0, 0 });
	check(&s.line[2], 3, (struct want){ 22, 1, 20, 1, 0, 0, 0, 0 });
	coverage__invalid_steps(c, 1);
	begin(c, 2, U, false);
	step(c, 2, 20, 2, 7);
	s = end(c, 2, U);
	check(&s.line[0], 1, (struct want){ 22, 2, 0, 0, 0, 20, 0, 0 });
	coverage__lost_steps(c, 1);
	begin(c, 3, U, false);
	step(c, 3, 20, 2, 7);
	s = end(c, 3, U);
	check(&s.line[0], 1, (struct want){ 22, 2, 0, 0, 20, 0, 0, 0 });
}

/* Steps in the middle and at the end whose rows were impossible: invalid, not lost. */
static void test_invalid_steps(void **state)
{
	struct coverage *c = *state;
	struct said s;

	begin(c, 1, 0, false);
	step(c, 1, 0, 2, 7);
	coverage__invalid_steps(c, 1);
	step(c, 1, 5, 1, 7);
	s = end(c, 1, 8);
	check(&s.line[0], 1, (struct want){ 8, 3, 0, 0, 0, 5, 0, 0 });
	check(&s.line[2], 3, (struct want){ 8, 2, 0, 1, 0, 5, 0, 0 });
	begin(c, 2, 2, false);
	coverage__invalid_steps(c, 1);
	s = end(c, 2, 9);
	check(&s.line[0], 1, (struct want){ 9, 0, 2, 0, 0, 7, 0, 0 });
}

/* We came at position 20; the server's own count is not needed. */
static void test_before_attach(void **state)
{
	struct coverage *c = *state;
	struct said s;

	begin(c, 3, U, true);
	step(c, 3, 20, 1, 7);
	step(c, 3, 21, 1, 7);
	s = end(c, 3, U);
	check(&s.line[0], 1, (struct want){ 22, 2, 0, 0, 0, 0, 20, 0 });
	check(&s.line[2], 3, (struct want){ 22, 2, 0, 0, 0, 0, 20, 0 });
}

/* The step was under way when the probes came: its first layers are before us, not missing. */
static void test_attached_within_step(void **state)
{
	struct coverage *c = *state;
	struct said s;

	begin(c, 3, U, true);
	step_at(c, 50, 3, 8, 1, 4, true);
	step(c, 3, 9, 1, 7);
	s = end(c, 3, 10);
	check(&s.line[0], 1, (struct want){ 10, 1, 0, 0, 0, 0, 9, 0 });
	check(&s.line[2], 3, (struct want){ 10, 2, 0, 0, 0, 0, 8, 0 });
}

/* Layer 2 of a step of 4 rows: lost in the ring, as the counters say before the step comes;
 * layer 1 of another: known only at the end; layer 2 of a third: nobody knows. */
static void test_lost_results(void **state)
{
	struct coverage *c = *state;
	struct said s;

	begin(c, 1, 0, false);
	coverage__lost_routes(c, 4);
	step(c, 1, 0, 4, 5);
	assert_false(coverage__has_open(c, 1));
	step(c, 1, 4, 1, 6);
	assert_true(coverage__has_open(c, 1));
	coverage__lost_routes(c, 1);
	step(c, 1, 5, 1, 7);
	s = end(c, 1, 6);
	check(&s.line[0], 1, (struct want){ 6, 5, 0, 0, 1, 0, 0, 0 });
	check(&s.line[1], 2, (struct want){ 6, 2, 0, 0, 4, 0, 0, 0 });
	check(&s.line[2], 3, (struct want){ 6, 3, 0, 3, 0, 0, 0, 0 });

	begin(c, 2, 0, false);
	step(c, 2, 0, 2, 5);
	s = end(c, 2, 2);
	check(&s.line[1], 2, (struct want){ 2, 0, 0, 0, 0, 0, 0, 2 });
}

static void test_invalid_results(void **state)
{
	struct coverage *c = *state;
	struct said s;

	begin(c, 1, 0, false);
	coverage__invalid_routes(c, 1);
	step(c, 1, 0, 3, 6);
	step(c, 1, 3, 1, 7);
	s = end(c, 1, 4);
	check(&s.line[0], 1, (struct want){ 4, 1, 0, 0, 0, 3, 0, 0 });
	check(&s.line[1], 2, (struct want){ 4, 4, 0, 0, 0, 0, 0, 0 });
}

/* A step that the reader of the stream was too slow for: lost in every layer, the last too. */
static void test_dropped_step(void **state)
{
	struct coverage *c = *state;
	struct said s;

	begin(c, 1, 0, false);
	step_at(c, 1000, 1, 0, 4, 7, false);
	step(c, 1, 4, 1, 7);
	assert_int_equal(coverage__rows(c, 1), 1);
	s = end(c, 1, 5);
	check(&s.line[0], 1, (struct want){ 5, 1, 0, 0, 4, 0, 0, 0 });
	check(&s.line[2], 3, (struct want){ 5, 1, 0, 0, 4, 0, 0, 0 });
}

/* A prompt in two parts: the first has no row that asks for logits, so layer 3 does not come. */
static void test_no_output_rows(void **state)
{
	struct coverage *c = *state;
	struct engine_row row[2] = {
		{ .sequence = 1, .request = 1, .position = 0 },
		{ .sequence = 1, .request = 1, .position = 1 },
	};
	struct engine_route route[2] = { { .layer = 1, .rows = 2, .k = 2 },
					 { .layer = 2, .rows = 2, .k = 2 } };
	struct engine_step first = {
		.context = 1, .begin_ns = 1000, .rows = 2, .row = row, .routes = 2, .route = route
	};
	struct said s;

	begin(c, 1, 0, false);
	assert_int_equal(coverage__step(c, &first, true), 0);
	step(c, 1, 2, 2, 7);
	s = end(c, 1, 4);
	check(&s.line[1], 2, (struct want){ 4, 4, 0, 0, 0, 0, 0, 0 });
	check(&s.line[2], 3, (struct want){ 4, 1, 0, 3, 0, 0, 0, 0 });
}

/* A draft was rejected and its position computed again: rows, not positions, are expected. */
static void test_position_again(void **state)
{
	struct coverage *c = *state;
	struct said s;

	begin(c, 1, 0, false);
	step(c, 1, 0, 3, 7);
	step(c, 1, 1, 2, 7);
	s = end(c, 1, 3);
	check(&s.line[0], 1, (struct want){ 5, 5, 0, 0, 0, 0, 0, 0 });
}

/* Nothing of it was computed (it was turned away), or everything of it was lost. */
static void test_no_rows(void **state)
{
	struct coverage *c = *state;
	struct said s;

	begin(c, 1, 2, false);
	s = end(c, 1, 9);
	check(&s.line[0], 1, (struct want){ 2, 0, 2, 0, 0, 0, 0, 0 });
	begin(c, 2, 2, false);
	coverage__lost_steps(c, 1);
	s = end(c, 2, 9);
	check(&s.line[0], 1, (struct want){ 9, 0, 2, 0, 7, 0, 0, 0 });
}

/* Rows of no request are request 0: no positions are missing from what nobody announced. Rows of
 * two requests in one step are kept apart. */
static void test_unknown_and_mixed(void **state)
{
	struct coverage *c = *state;
	struct engine_row row[3] = {
		{ .sequence = 1, .request = 5, .position = 3, .output = 1 },
		{ .sequence = 2, .request = U, .position = 90, .output = 1 },
		{ .sequence = 3, .request = 6, .position = 0, .output = 0 },
	};
	uint32_t outputs[2] = { 0, 1 };
	struct engine_route route[3] = { { .layer = 1, .rows = 3, .k = 2 },
					 { .layer = 2, .rows = 3, .k = 2 },
					 { .layer = 3, .rows = 2, .k = 2, .row = outputs } };
	struct engine_step mixed = {
		.context = 1, .begin_ns = 1000, .rows = 3, .row = row, .routes = 3, .route = route
	};
	struct said s;

	begin(c, 5, 3, false);
	begin(c, 6, 0, false);
	assert_int_equal(coverage__step(c, &mixed, true), 0);
	s = end(c, 5, 4);
	check(&s.line[2], 3, (struct want){ 4, 1, 3, 0, 0, 0, 0, 0 });
	s = end(c, 6, 1);
	check(&s.line[0], 1, (struct want){ 1, 1, 0, 0, 0, 0, 0, 0 });
	check(&s.line[2], 3, (struct want){ 1, 0, 0, 1, 0, 0, 0, 0 });
	s = end(c, 0, U);
	assert_int_equal(s.count, LAYERS);
	check(&s.line[0], 1, (struct want){ 1, 1, 0, 0, 0, 0, 0, 0 });
	check(&s.line[2], 3, (struct want){ 1, 1, 0, 0, 0, 0, 0, 0 });
	assert_int_equal(end(c, 0, U).count, 0);
}

/* Without a model file layers become known as they come; one that comes late was not routed. */
/* The step in flight when the probes went: layers behind the last one that came are after us, one
 * in between is missing for another reason; a step before that was complete or not, as ever. */
static void test_under_way_at_detach(void **state)
{
	struct coverage *c = *state;
	struct said s;

	begin(c, 1, 0, false);
	step(c, 1, 0, 2, 5);
	coverage__detached(c);
	step(c, 1, 2, 2, 2);
	s = end(c, 1, U);
	assert_int_equal(s.count, 3);
	check(&s.line[0], 1, (struct want){ 4, 2, 0, 0, 0, 0, 0, 2 });
	check(&s.line[1], 2, (struct want){ 4, 2, 0, 0, 0, 0, 0, 2 });
	check_with_after(&s.line[2], 3, (struct want){ 4, 1, 0, 2, 0, 0, 0, 0 }, 1);
}

/* It may also have lost results: these were lost, the rest is after us. */
static void test_loss_at_detach(void **state)
{
	struct coverage *c = *state;
	struct said s;

	begin(c, 1, 0, false);
	coverage__lost_routes(c, 2);
	coverage__detached(c);
	step(c, 1, 0, 2, 1);
	s = end(c, 1, U);
	check(&s.line[0], 1, (struct want){ 2, 2, 0, 0, 0, 0, 0, 0 });
	check(&s.line[1], 2, (struct want){ 2, 0, 0, 0, 2, 0, 0, 0 });
	check_with_after(&s.line[2], 3, (struct want){ 2, 0, 0, 1, 0, 0, 0, 0 }, 1);
}

/* What was lost with a whole step explains nothing that is missing later. */
static void test_loss_is_spent(void **state)
{
	struct coverage *c = *state;
	struct said s;

	begin(c, 1, 0, false);
	step(c, 1, 0, 1, 7);
	coverage__lost_steps(c, 1);
	coverage__lost_routes(c, LAYERS);
	step(c, 1, 2, 1, 7); /* position 1 was lost with its step */
	s = end(c, 1, U);
	check(&s.line[0], 1, (struct want){ 3, 2, 0, 0, 1, 0, 0, 0 });
	begin(c, 2, 0, false);
	step(c, 2, 0, 1, 5);
	s = end(c, 2, U);
	check(&s.line[1], 2, (struct want){ 1, 0, 0, 0, 0, 0, 0, 1 });
}

static void test_late_layer(void **state)
{
	struct coverage *c = *state;
	struct engine_row row = { .sequence = 1, .request = 1, .output = 1 };
	struct engine_route route[2] = { { .layer = 0, .rows = 1, .k = 2 },
					 { .layer = 9, .rows = 1, .k = 2 } };
	struct engine_step s = {
		.context = 2, .begin_ns = 1000, .rows = 1, .row = &row, .routes = 1, .route = route
	};
	struct said said;

	assert_int_equal(coverage__step(c, &s, true), 0);
	row.position = 1;
	s.routes = 2;
	assert_int_equal(coverage__step(c, &s, true), 0);
	said = end(c, 1, 2);
	assert_int_equal(said.count, 2);
	check(&said.line[0], 0, (struct want){ 2, 2, 0, 0, 0, 0, 0, 0 });
	check(&said.line[1], 9, (struct want){ 2, 1, 0, 0, 0, 0, 0, 1 });
}

/* Positions and rows out of all bounds are counted, never followed. */
static void test_absurd(void **state)
{
	struct coverage *c = *state;
	struct engine_row row = {
		.sequence = 1, .request = 1, .position = UINT32_MAX - 1, .output = 1
	};
	uint32_t far[2] = { 0, 77 };
	struct engine_route route = { .layer = 1, .rows = 2, .k = 2, .row = far };
	struct engine_step s = {
		.context = 1, .begin_ns = 1000, .rows = 1, .row = &row, .routes = 1, .route = &route
	};
	struct said said;

	begin(c, 1, 0, false);
	assert_int_equal(coverage__step(c, &s, true), 0);
	said = end(c, 1, U);
	check(&said.line[0], 1, (struct want){ UINT32_MAX, 1, 0, 0, UINT32_MAX - 1, 0, 0, 0 });
	check(&said.line[2], 3, (struct want){ UINT32_MAX, 0, 0, 0, UINT32_MAX - 1, 0, 0, 1 });
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_whole_request, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gap_and_tail, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_beginning, setup, teardown),
		cmocka_unit_test_setup_teardown(test_prefix_of_inferred_request, setup, teardown),
		cmocka_unit_test_setup_teardown(test_invalid_steps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_before_attach, setup, teardown),
		cmocka_unit_test_setup_teardown(test_attached_within_step, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_results, setup, teardown),
		cmocka_unit_test_setup_teardown(test_invalid_results, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dropped_step, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_output_rows, setup, teardown),
		cmocka_unit_test_setup_teardown(test_position_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_rows, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unknown_and_mixed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_under_way_at_detach, setup, teardown),
		cmocka_unit_test_setup_teardown(test_loss_at_detach, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parts_of_a_model, setup, teardown),
		cmocka_unit_test_setup_teardown(test_loss_is_spent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_late_layer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_absurd, setup, teardown),
	};

	return cmocka_run_group_tests_name("coverage", tests, NULL, NULL);
}
