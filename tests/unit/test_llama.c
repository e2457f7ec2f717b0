/* SPDX-License-Identifier: BSD-2-Clause */
/* Rows and routes become steps, or are refused by the right name (assemble, rows, route, context).
 */
#include "tests/unit/llama_play.h"

#include <errno.h>
#include <math.h>

/* A request with a prompt of 4 and 2 generated tokens, every number of it. */
static void one_request_from_end_to_end(void **state)
{
	struct play *p = play__new(true);

	play__launch(p, 2, 17);
	play__prompt_rows(p, 2, 0, 4, true);
	play__generated(p, 2, 4);
	play__release(p, 2, 17, 5);

	assert_int_equal(p->contexts, 1);
	assert_string_equal(p->context.name, "tiny");
	assert_int_equal(p->context.pid, 4711);
	assert_int_equal(p->context.context, 1);
	assert_int_equal(p->begins, 1);
	assert_int_equal(p->begin[0].request.slot, 2);
	assert_int_equal(p->begin[0].request.task, 17);
	assert_int_equal(p->begin[0].request.cached, 0);
	assert_int_equal(p->begin[0].request.prompt, ENGINE_UNKNOWN);
	assert_false(p->begin[0].request.before_attach || p->begin[0].request.inferred);
	assert_int_equal(p->steps, 2);
	assert_int_equal(p->step[0].step.step, 1);
	assert_int_equal(p->step[0].step.rows, 4);
	assert_int_equal(p->step[0].step.routes, LAYERS);
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(p->step[0].row[i].request, 1);
		assert_int_equal(p->step[0].row[i].position, i);
		assert_int_equal(p->step[0].row[i].token, 100 + i);
		assert_int_equal(p->step[0].row[i].phase, ENGINE_PREFILL);
		assert_int_equal(p->step[0].row[i].output, i == 3);
	}
	assert_null(p->step[0].route[0].row);
	assert_int_equal(p->step[0].route[0].rows, 4);
	assert_non_null(p->step[0].route[2].row);
	assert_int_equal(p->step[0].route[2].rows, 1);
	assert_int_equal(p->step[0].route_row[2][0], 3);
	assert_int_equal(p->step[1].row[0].phase, ENGINE_DECODE);
	assert_int_equal(p->ends, 1);
	assert_int_equal(p->end[0].ending, ENGINE_ENDING_RELEASED);
	assert_int_equal(p->end[0].tokens, 5);
	play__free(p);
}

static void choices_come_in_gate_order(void **state)
{
	struct play *p = play__new(true);
	const int32_t ids[] = { 5, 1, 6, 3, 2, 4 };
	const float weights[] = { 0.25f, 0.75f, 0.5f, 0.5f, 1.5f, -1.0f };
	struct router r;

	play__rows(p, (struct row[]){ ROW(1, 0, 0, 0), ROW(1, 1, 0, 0), ROW(1, 2, 0, 1) }, 3);
	r = route_of(p, 0, 3);
	r.ids = ids;
	r.weights = weights;
	assert_int_equal(play__router(p, r), 0);
	engine_llama.finish(p->engine, p->now, ENGINE_ENDING_CAPTURE_END, &p->sink);
	assert_int_equal(p->steps, 1);
	assert_memory_equal(p->step[0].ids[0], ((uint16_t[]){ 1, 5, 3, 6, 2, 4 }), 12);
	assert_memory_equal(p->step[0].weights[0],
			    ((float[]){ 0.75f, 0.25f, 0.5f, 0.5f, 1.5f, -1.0f }), 24);
	play__free(p);
}

/* Route of 5 rows in three chunks; @without is left out (3: none). */
static void chunked(struct play *p, uint16_t without)
{
	const uint32_t first[] = { 0, 2, 4, 5 };
	uint64_t at = p->now += 1000;

	for (uint16_t i = 0; i < 3; i++) {
		struct router r = route_of(p, 0, 5);
		int32_t ids[4] = { i, 7, i, 7 };

		r.chunk = i;
		r.chunks = 3;
		r.first = first[i];
		r.count = first[i + 1] - first[i];
		r.ids = ids;
		r.time_ns = at;
		if (i != without)
			assert_int_equal(play__router(p, r), 0);
	}
}

static void chunks_become_one_route(void **state)
{
	for (uint16_t without = 0; without <= 3; without++) {
		struct play *p = play__new(true);
		struct row row[5];

		for (int32_t i = 0; i < 5; i++)
			row[i] = ROW(1, i, 0, i == 4);
		play__rows(p, row, 5);
		chunked(p, without);
		assert_int_equal(play__router(p, route_of(p, 1, 5)), 0);
		assert_int_equal(play__router(p, route_of(p, 2, 1)), 0);
		assert_int_equal(p->steps, 1);
		/* Without the last one the kernel gave it up, and counted it. */
		assert_int_equal(p->lost[ENGINE_LOSS_CHUNKS], without < 2);
		assert_int_equal(p->lost_rows[ENGINE_LOSS_CHUNKS], without < 2 ? 5 : 0);
		assert_int_equal(p->step[0].step.routes, without < 3 ? 2 : 3);
		if (without == 3)
			assert_memory_equal(p->step[0].ids[0],
					    ((uint16_t[]){ 0, 7, 0, 7, 1, 7, 1, 7, 2, 7 }), 20);
		play__free(p);
	}
}

static void chunked_rows_become_one_step(void **state)
{
	struct play *p = play__new(true);
	struct row row[24];

	for (int32_t i = 0; i < 24; i++)
		row[i] = ROW(i, i, 1, i == 23);
	p->computation++;
	p->now += 1000;
	assert_int_equal(play__rows_chunk(p, THREAD, row, 24, 0, 8, 0, 3, p->now), 0);
	assert_int_equal(play__rows_chunk(p, THREAD, row, 24, 8, 8, 1, 3, p->now), 0);
	assert_int_equal(play__rows_chunk(p, THREAD, row, 24, 16, 8, 2, 3, p->now), 0);
	play__routes(p, 24, 1);
	assert_int_equal(p->steps, 1);
	assert_int_equal(p->step[0].step.rows, 24);
	for (uint32_t i = 0; i < 24; i++)
		assert_int_equal(p->step[0].row[i].token, i);
	play__free(p);
}

/* Rows of embeddings have no tokens; what stands in the column is nothing. */
static void rows_without_tokens_say_so(void **state)
{
	struct play *p = play__new(true);

	p->rows_flags = MP_ROWS_NO_TOKENS;
	play__rows(
		p,
		(struct row[]){ ROW(VOCABULARY + 7, 0, 0, 0), ROW(-9, 1, 0, 0), ROW(3, 2, 0, 1) },
		3);
	play__routes(p, 3, 1);
	assert_int_equal(p->steps, 1);
	assert_int_equal(p->step[0].row[0].token, -1);
	assert_int_equal(p->step[0].row[1].token, -1);
	assert_int_equal(p->step[0].row[1].position, 1);
	assert_int_equal(p->invalid[ENGINE_INVALID_ROW], 0);
	play__free(p);
}

/* Rows that were lost must not lend their routes to the step before. */
static void routes_without_rows_are_lost(void **state)
{
	struct play *p = play__new(true);
	struct router r;

	r = route_of(p, 0, 1);
	r.computation = 0; /* before the first rows that we could see: no loss */
	assert_int_equal(play__router(p, r), 0);
	assert_int_equal(p->lost[ENGINE_LOSS_NO_STEP], 0);

	play__rows(p, &ROW(1, 9, 0, 1), 1);
	assert_int_equal(play__router(p, route_of(p, 0, 1)), 0);
	p->computation++; /* its rows do not arrive */
	assert_int_equal(play__router(p, route_of(p, 1, 1)), 0);
	assert_int_equal(play__router(p, route_of(p, 2, 1)), 0);
	assert_int_equal(p->lost[ENGINE_LOSS_NO_STEP], 2);
	assert_int_equal(p->lost_rows[ENGINE_LOSS_NO_STEP], 2);
	play__rows(p, &ROW(1, 11, 0, 1), 1);
	assert_int_equal(p->steps, 1);
	assert_int_equal(p->step[0].step.routes, 1);
	play__free(p);
}

/* The kernel read the rows and refused them: that is not a loss. */
static void routes_of_refused_rows_are_invalid(void **state)
{
	struct play *p = play__new(true);
	struct router r;

	play__launch(p, 0, 1);
	play__prompt_rows(p, 0, 0, 4, false);
	p->computation++;
	r = route_of(p, 0, 1);
	r.computation |= MP_COMPUTATION_REFUSED;
	assert_int_equal(play__router(p, r), 0);
	assert_int_equal(p->invalid[ENGINE_INVALID_ROW], 1);
	assert_int_equal(p->lost[ENGINE_LOSS_NO_STEP], 0);
	play__launch(p, 1, 2);
	play__prompt_rows(p, 1, 0, 4, true);
	assert_int_equal(p->begin[1].request.cached, 0);
	play__free(p);
}

static void a_layer_comes_once(void **state)
{
	struct play *p = play__new(true);

	play__rows(p, &ROW(1, 9, 0, 1), 1);
	assert_int_equal(play__router(p, route_of(p, 0, 1)), 0);
	assert_int_equal(play__router(p, route_of(p, 0, 1)), 0);
	assert_int_equal(p->lost[ENGINE_LOSS_NO_STEP], 1);
	play__free(p);
}

static void another_number_of_rows_is_refused(void **state)
{
	struct play *p = play__new(true);

	play__rows(p, (struct row[]){ ROW(1, 0, 0, 0), ROW(1, 1, 0, 0), ROW(1, 2, 0, 1) }, 3);
	assert_int_equal(play__router(p, route_of(p, 0, 2)), 0);
	assert_int_equal(p->invalid[ENGINE_INVALID_ROW_COUNT], 1);
	assert_int_equal(play__router(p, route_of(p, 1, 3)), 0);
	assert_int_equal(play__router(p, route_of(p, 2, 1)), 0);
	assert_int_equal(p->steps, 1);
	assert_int_equal(p->step[0].step.routes, 2);
	play__free(p);
}

static void impossible_choices_are_refused(void **state)
{
	static const struct {
		int32_t ids[K];
		float weights[K];
		uint32_t cause;
	} bad[] = {
		{ { 0, EXPERTS }, { 1, 1 }, ENGINE_INVALID_EXPERT_RANGE },
		{ { -1, 1 }, { 1, 1 }, ENGINE_INVALID_EXPERT_RANGE },
		{ { INT32_MIN, 1 }, { 1, 1 }, ENGINE_INVALID_EXPERT_RANGE },
		{ { 3, 3 }, { 1, 1 }, ENGINE_INVALID_EXPERT_REPEATED },
		{ { 3, 4 }, { NAN, 1 }, ENGINE_INVALID_WEIGHT },
		{ { 3, 4 }, { 1, INFINITY }, ENGINE_INVALID_WEIGHT },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct play *p = play__new(true);
		struct router r;

		play__rows(p, &ROW(1, 9, 0, 1), 1);
		r = route_of(p, 1, 1);
		r.ids = bad[i].ids;
		r.weights = bad[i].weights;
		assert_int_equal(play__router(p, r), 0);
		assert_int_equal(p->invalid[bad[i].cause], 1);
		assert_int_equal(play__router(p, route_of(p, 2, 1)), 0);
		assert_int_equal(p->step[0].step.routes, 1);
		assert_int_equal(p->step[0].route[0].layer, 2);
		play__free(p);
	}
}

static void impossible_shapes_are_refused(void **state)
{
	static const char *const names[] = { "ffn_moe_topk-",
					     "ffn_moe_topk-1x",
					     "ffn_moe_topk-65536",
					     "ffn_moe_topk-4294967297",
					     "ffn_moe_topk- 1",
					     "ffn_moe_topk-999",
					     "x",
					     "" };
	struct play *p = play__new(true);
	struct router r;

	play__rows(p, &ROW(1, 9, 0, 1), 1);
	assert_int_equal(play__router(p, route_of(p, 0, 1)), 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		r = route_of(p, 1, 1);
		r.name = names[i];
		assert_int_equal(play__router(p, r), 0);
		assert_int_equal(p->invalid[ENGINE_INVALID_SHAPE], i + 1);
	}
	play__free(p);
}

static void impossible_rows_are_refused(void **state)
{
	static const struct row bad[] = {
		{ 1, 0, 0, 2, 1 },          { 1, 0, 0, 255, 1 }, { 1, -1, 0, 1, 1 },
		{ 1, 0, 4096, 1, 1 },       { 1, 0, -1, 1, 1 },  { 1, 0, 0, 1, 0 },
		{ VOCABULARY, 0, 0, 1, 1 }, { -2, 0, 0, 1, 1 },  { 1, 1 << 24, 0, 1, 1 },
	};
	const size_t n = sizeof(bad) / sizeof(*bad);
	struct play *p = play__new(true);

	play__rows(p, &ROW(1, 9, 0, 1), 1); /* the layout has proved right: never fatal */
	for (size_t i = 0; i < n; i++) {
		struct row two[2] = { ROW(1, 0, 0, 1), bad[i] };

		assert_int_equal(play__rows_on(p, THREAD, two, 2), 0);
		assert_int_equal(p->invalid[ENGINE_INVALID_ROW], 2 * i + 1);
		assert_int_equal(play__router(p, route_of(p, 0, 2)), 0); /* not lost: refused */
		assert_int_equal(p->invalid[ENGINE_INVALID_ROW], 2 * i + 2);
	}
	assert_int_equal(p->lost[ENGINE_LOSS_NO_STEP], 0);
	play__free(p);
}

static void an_unknown_row_layout_is_an_error_by_name(void **state)
{
	struct play *p = play__new(true);

	for (int i = 0; i < 7; i++)
		assert_int_equal(play__rows_on(p, THREAD, &ROW(1, 0, 0, 255), 1), 0);
	assert_int_equal(play__rows_on(p, THREAD, &ROW(1, 0, 0, 255), 1), -EPROTO);
	assert_non_null(strstr(engine_llama.failure(p->engine)->what,
			       "layout check failed: rows with impossible"));
	assert_int_equal(engine_llama.failure(p->engine)->exit, EXIT_UNSUPPORTED);
	assert_int_equal(play__rows_on(p, THREAD, &ROW(1, 0, 0, 1), 1), -EPROTO);
	assert_int_equal(p->steps + p->begins, 0);
	play__free(p);
}

static void another_geometry_than_the_file_is_an_error_by_name(void **state)
{
	struct play *p = play__new(true);

	for (int i = 0; i < 64; i++) {
		struct router r;

		play__rows(p, &ROW(1, 9 + i, 0, 1), 1);
		r = route_of(p, 0, 1);
		r.stride = EXPERTS * 2;
		assert_int_equal(play__router(p, r), i < 63 ? 0 : -EPROTO);
	}
	assert_non_null(strstr(engine_llama.failure(p->engine)->what, "numbers of experts"));
	assert_int_equal(p->steps + p->begins + p->contexts, 0);
	play__free(p);
}

static void geometry_is_learnt_without_a_file(void **state)
{
	struct play *p = play__new(false);

	assert_null(engine_llama.model(p->engine));
	play__prompt_rows(p, 0, 0, 4, true);
	assert_int_equal(p->contexts, 3); /* once for each layer that was new */
	assert_int_equal(p->context.layers, 3);
	assert_int_equal(p->context.experts, EXPERTS);
	assert_int_equal(p->context.k, K);
	assert_int_equal(p->context.vocabulary, ENGINE_UNKNOWN);
	assert_false(p->context.from_file);
	assert_int_equal(p->steps, 0); /* which layer is the last is not known */
	play__generated(p, 0, 4);
	assert_int_equal(p->steps, 1);
	assert_int_equal(p->contexts, 3);
	play__free(p);
}

static void warm_up_is_dropped(void **state)
{
	struct play *p = play__new(true);
	const int32_t all[EXPERTS] = { 0, 1, 2, 3, 4, 5, 6, 7 };
	const float even[EXPERTS] = { 1, 1, 1, 1, 1, 1, 1, 1 };
	struct router r;

	/* With all experts. */
	play__rows(p, (struct row[]){ ROW(1, 0, 0, 0), ROW(2, 1, 0, 0), ROW(3, 2, 0, 1) }, 3);
	r = route_of(p, 0, 1);
	r.k = EXPERTS;
	r.ids = all;
	r.weights = even;
	assert_int_equal(play__router(p, r), 0);
	/* With k: two tokens at the start of a context in which nothing has been served. */
	play__rows(p, (struct row[]){ ROW(1, 0, 0, 0), ROW(2, 1, 0, 1) }, 2);
	assert_int_equal(p->invalid[ENGINE_INVALID_WARM_UP], 1);
	play__routes(p, 2, 1);
	play__launch(p, 0, 0);
	assert_int_equal(p->invalid[ENGINE_INVALID_WARM_UP], 2);
	assert_int_equal(p->contexts + p->steps + p->begins, 0);
	play__prompt_rows(p, 0, 0, 2, true); /* the same two tokens, of a request */
	assert_int_equal(p->steps, 1);
	assert_int_equal(p->begin[0].request.cached, 0);
	play__free(p);
}

/* A context computes with several graph objects; a thread is another server. */
static void contexts_are_threads(void **state)
{
	struct play *p = play__new(true);
	uint32_t computation;

	play__launch(p, 0, 0);
	play__prompt_rows(p, 0, 0, 4, false);
	play__prompt_rows(p, 0, 4, 8, true);
	assert_int_equal(p->contexts, 1);
	assert_int_equal(p->begins, 1);

	computation = p->computation;
	p->computation = 0;
	assert_int_equal(play__line_on(p, THREAD + 1, "launch_slot_with_task", 0, 0,
				       HEAD "processing task, is_child = %d\n", 0),
			 0);
	assert_int_equal(play__rows_on(p, THREAD + 1, &ROW(9, 0, 0, 1), 1), 0);
	for (uint32_t layer = 0; layer < LAYERS; layer++) {
		struct router r = route_of(p, layer, 1);

		r.tid = THREAD + 1;
		assert_int_equal(play__router(p, r), 0);
	}
	assert_int_equal(p->contexts, 2);
	assert_int_equal(p->context.context, 2);
	assert_int_equal(p->begins, 2);
	assert_int_equal(p->begin[1].request.context, 2);
	assert_int_equal(p->step[p->steps - 1].step.context, 2);
	assert_int_equal(p->step[p->steps - 1].step.step, 1);
	p->computation = computation;
	play__generated(p, 0, 8);
	assert_int_equal(p->step[p->steps - 1].row[0].request, 1);
	play__free(p);
}

/* A dense draft model computes on the same thread, for the same slots. */
static void what_never_routes_touches_no_request(void **state)
{
	struct play *p = play__new(true);

	play__launch(p, 0, 0);
	play__prompt_rows(p, 0, 0, 4, true);
	for (int i = 0; i < 5; i++) {
		static _Alignas(8) uint8_t bytes[sizeof(struct mp_event_rows) + 40];
		struct mp_event_rows *e = (struct mp_event_rows *)bytes;

		memset(bytes, 0, sizeof(bytes));
		e->event = (struct mp_event){ .kind = MP_EVENT_ROWS,
					      .tid = THREAD,
					      .chunks = 1,
					      .object = 0xd4af7,
					      .total = 1,
					      .count = 1 };
		e->computation = ++p->computation;
		bytes[sizeof(*e) + 24] = 1;
		bytes[sizeof(*e) + 32] = 1;
		assert_int_equal(play__event(p, bytes, sizeof(bytes)), 0);
	}
	play__generated(p, 0, 4);
	play__release(p, 0, 0, 5);
	assert_int_equal(p->steps, 2);
	assert_int_equal(p->begins, 1);
	assert_int_equal(p->ends, 1);
	assert_int_equal(p->end[0].ending, ENGINE_ENDING_RELEASED);
	play__free(p);
}

static void a_step_whose_end_is_lost_is_said(void **state)
{
	struct play *p = play__new(true);

	play__launch(p, 0, 0);
	play__prompt_rows(p, 0, 0, 4, true);
	play__rows(p, &ROW(1, 4, 0, 1), 1); /* and none of its routes */
	assert_int_equal(p->steps, 1);
	assert_int_equal(engine_llama.tick(p->engine, p->now + 3600000000000ull, &p->sink), 0);
	assert_int_equal(p->steps, 2);
	assert_int_equal(p->step[1].step.routes, 0);
	assert_int_equal(p->step[1].row[0].request, 1);
	play__free(p);
}

static void short_events_are_refused(void **state)
{
	struct play *p = play__new(true);
	_Alignas(8) uint8_t bytes[512];

	for (uint16_t kind = 0; kind < 8; kind++) {
		for (size_t size = 0; size < 300; size++) {
			struct mp_event *ev = (struct mp_event *)bytes;
			uint8_t *copy = malloc(size ? size : 1);

			memset(bytes, 1, sizeof(bytes));
			*ev = (struct mp_event){ .kind = kind,
						 .chunks = 1,
						 .total = 1,
						 .count = 1,
						 .size = (uint32_t)size,
						 .tid = 1 };
			memcpy(copy, bytes, size);
			if (engine_llama.event(p->engine, (void *)copy, size, &p->sink) ==
			    -EPROTO) {
				play__free(p);
				p = play__new(true);
			}
			free(copy);
		}
	}
	assert_int_equal(p->steps, 0);
	play__free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_request_from_end_to_end),
		cmocka_unit_test(choices_come_in_gate_order),
		cmocka_unit_test(chunks_become_one_route),
		cmocka_unit_test(chunked_rows_become_one_step),
		cmocka_unit_test(rows_without_tokens_say_so),
		cmocka_unit_test(routes_without_rows_are_lost),
		cmocka_unit_test(routes_of_refused_rows_are_invalid),
		cmocka_unit_test(a_layer_comes_once),
		cmocka_unit_test(another_number_of_rows_is_refused),
		cmocka_unit_test(impossible_choices_are_refused),
		cmocka_unit_test(impossible_shapes_are_refused),
		cmocka_unit_test(impossible_rows_are_refused),
		cmocka_unit_test(an_unknown_row_layout_is_an_error_by_name),
		cmocka_unit_test(another_geometry_than_the_file_is_an_error_by_name),
		cmocka_unit_test(geometry_is_learnt_without_a_file),
		cmocka_unit_test(warm_up_is_dropped),
		cmocka_unit_test(contexts_are_threads),
		cmocka_unit_test(what_never_routes_touches_no_request),
		cmocka_unit_test(a_step_whose_end_is_lost_is_said),
		cmocka_unit_test(short_events_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
