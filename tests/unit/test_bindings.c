/* SPDX-License-Identifier: BSD-2-Clause */
/* The picture of a stream whose requests are named and bound after the fact, whose losses are of
 * several models, and whose decisions are not all alike. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "analyzer/state/labels.h"
#include "analyzer/state/sequences.h"
#include "analyzer/state/state.h"
#include "analyzer/view/report.h"
#include "tests/unit/synthetic.h"

#define EXPERTS 8
static const uint8_t choice[] = { 3, 1 };
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

static const struct state_request *request_of(const struct state *s, uint32_t request)
{
	const struct state_request *r = NULL;

	while ((r = request_table__older(state__requests(s), r)))
		if (r->request == request)
			return r;
	fail_msg("no request %u", request);
	return NULL;
}

static void bind(struct synthetic *s, uint32_t request, uint32_t position)
{
	struct trace_bind b = {
		.head = synthetic__head(s, 0),
		.sequence = 3, /* that of all steps */
		.request = request,
		.position = position,
		.certainty = TRACE_INFERRED,
	};

	synthetic__add(s, TRACE_BIND, &b, sizeof(b), NULL, 0);
}

static void assert_rows(const struct state *s, uint32_t request, uint64_t prefill, uint64_t decode)
{
	const struct state_request *r = request_of(s, request);

	assert_int_equal(r->rows[STATE_PREFILL], prefill);
	assert_int_equal(r->rows[STATE_DECODE], decode);
}

/* Ten rows of a prompt and five generated ones whose request is not known; what is bound later
 * gets those behind the position. */
static void test_bound_later(void **unused)
{
	static const struct {
		uint32_t position, prefill, decode;
	} cases[] = { { 0, 10, 5 }, { 4, 6, 5 }, { 10, 0, 5 }, { 12, 0, 3 }, { 15, 0, 0 } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct synthetic s;
		struct state *state;

		synthetic__begin(&s, EXPERTS, 2);
		synthetic__step(&s, TRACE_UNKNOWN, 10, 0, TRACE_PREFILL);
		synthetic__step(&s, TRACE_UNKNOWN, 5, 10, TRACE_DECODE);
		synthetic__request(&s, 1, 0);
		bind(&s, 1, cases[i].position);
		state = read_state(&s);
		assert_rows(state, 1, cases[i].prefill, cases[i].decode);
		assert_true(request_of(state, 1)->inferred);
		assert_int_equal(request_of(state, 1)->position,
				 cases[i].decode ? 14 : TRACE_UNKNOWN);
		assert_int_equal(state__summary(state)->rows[STATE_PREFILL], 10);
		state__free(state);
	}
}

/* A wrong binding is corrected, rows that come then follow it, and unbinding ends it. */
static void test_corrected(void **unused)
{
	struct synthetic s;
	struct state *state;

	synthetic__begin(&s, EXPERTS, 2);
	synthetic__request(&s, 1, 0);
	synthetic__request(&s, 2, 0);
	synthetic__step(&s, 1, 10, 0, TRACE_PREFILL);
	bind(&s, 2, 0);
	synthetic__step(&s, TRACE_UNKNOWN, 1, 10, TRACE_DECODE);
	bind(&s, 77, 0); /* that nobody announced */
	synthetic__step(&s, TRACE_UNKNOWN, 1, 11, TRACE_DECODE);
	bind(&s, TRACE_UNKNOWN, 12);
	synthetic__step(&s, TRACE_UNKNOWN, 1, 12, TRACE_DECODE);
	synthetic__step(&s, 1, 1, 13, TRACE_DECODE); /* the step knows better */
	state = read_state(&s);
	assert_rows(state, 1, 0, 1);
	assert_rows(state, 2, 10, 2);
	assert_int_equal(request_of(state, 2)->position, 11);
	state__free(state);
}

/* Blocks of counts move whole. */
static void test_counts_are_bound(void **unused)
{
	const uint32_t count[EXPERTS] = { 128 };
	struct trace_counts n = {
		.request = TRACE_UNKNOWN,
		.context = 1,
		.layer = 1,
		.phase = TRACE_PREFILL,
		.rows = 64,
		.experts = EXPERTS,
		.k = 2,
		.sequence = 3,
		.last_position = 63,
	};
	struct synthetic s;
	struct state *state;

	synthetic__begin(&s, EXPERTS, 2);
	n.head = synthetic__head(&s, 0);
	synthetic__add(&s, TRACE_COUNTS, &n, sizeof(n),
		       (struct trace_column[]){ { count, sizeof(count) }, { NULL, 0 } }, 2);
	synthetic__request(&s, 1, 0);
	bind(&s, 1, 0);
	state = read_state(&s);
	assert_rows(state, 1, 64, 0);
	assert_int_equal(request_of(state, 1)->position, 63);
	state__free(state);
}

static void test_sequences_are_bounded(void **unused)
{
	struct sequences *q = sequences__new();
	struct sequence_rows rows = { .rows = { [STATE_PREFILL] = 1 } }, moved;
	uint32_t from = 9;

	for (rows.sequence = 0; rows.sequence <= STATE_SEQUENCES_MAX; rows.sequence++)
		assert_int_equal(sequences__add(q, &rows), 0);
	assert_int_equal(sequences__bind(q, 0, 1, 0, &moved, &from), 0); /* forgotten */
	assert_int_equal(sequences__bind(q, STATE_SEQUENCES_MAX, 1, 0, &moved, &from), 1);
	assert_int_equal(moved.rows[STATE_PREFILL], 1);
	assert_int_equal(from, 0);
	sequences__free(q);
	sequences__free(NULL);
}

static void info(struct synthetic *s, const char *client_id, const char *trace, const char *labels)
{
	struct trace_request_info i = {
		.head = synthetic__head(s, 0),
		.request = 1,
		.certainty = client_id ? TRACE_INFERRED : TRACE_EXACT,
		.client_id_length = (uint16_t)(client_id ? strlen(client_id) : 0),
		.trace_id_length = (uint16_t)(trace ? strlen(trace) : 0),
		.labels_length = (uint16_t)strlen(labels),
	};

	synthetic__add(s, TRACE_REQUEST_INFO, &i, sizeof(i),
		       (struct trace_column[]){ { client_id, i.client_id_length },
						{ NULL, 0 },
						{ trace, i.trace_id_length },
						{ NULL, 0 },
						{ labels, i.labels_length } },
		       5);
}

/* The last word counts, and an empty one is none. */
static void test_names(void **unused)
{
	struct synthetic s;
	struct state *state;
	const struct state_request *r;

	synthetic__begin(&s, EXPERTS, 2);
	info(&s, "too early", NULL, "");
	synthetic__request(&s, 1, 0);
	info(&s, "second", "4bf9", "task=a\nuser=\033u\n");
	state = read_state(&s);
	r = request_of(state, 1);
	assert_string_equal(r->client_id, "second");
	assert_string_equal(r->trace_id, "4bf9");
	assert_string_equal(r->labels, "task=a\nuser=?u");
	assert_true(r->named_by_inference);
	state__free(state);

	synthetic__begin(&s, EXPERTS, 2);
	synthetic__request(&s, 1, 0);
	info(&s, "second", NULL, "task=a\nuser=u\n");
	info(&s, NULL, "4bf9", "task=b");
	synthetic__finish_request(&s, 1, 0);
	info(&s, NULL, NULL, "late=1\n");
	state = read_state(&s);
	r = request_of(state, 1);
	assert_string_equal(r->client_id, "second");
	assert_string_equal(r->trace_id, "4bf9");
	assert_string_equal(r->labels, "user=u\ntask=b\nlate=1");
	assert_false(r->named_by_inference);
	state__free(state);
}

static char *report_of(const struct state *s, bool json)
{
	struct report *report;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	assert_int_equal(report__build(&report, s, "s"), 0);
	if (json)
		assert_int_equal(report__print_json(report, out), 0);
	else
		report__print(report, out);
	report__free(report);
	fclose(out);
	return text;
}

static void assert_shown(const struct state *s, bool json, const char *shown)
{
	char *text = report_of(s, json);

	if (!strstr(text, shown))
		fail_msg("no '%s' in:\n%s", shown, text);
	free(text);
}

/* A name is marked where it is inferred; what has no name is named in no way. */
static void test_inferred_name_is_shown(void **unused)
{
	struct synthetic s;
	struct state *state;

	synthetic__begin(&s, EXPERTS, 2);
	synthetic__request(&s, 1, 0);
	info(&s, "second", "4bf9", "user=u\n");
	state = read_state(&s);
	assert_shown(state, false, "~second");
	assert_shown(state, false, "~user=u\n");
	assert_shown(state, false, "~: the name is inferred");
	assert_shown(state, true, "\"client_id\":\"second\"");
	assert_shown(state, true, "\"named\":\"inferred\"");
	state__free(state);

	synthetic__begin(&s, EXPERTS, 2);
	synthetic__step(&s, 1, 10, 0, TRACE_PREFILL);
	state = read_state(&s);
	assert_shown(state, true, "\"client_id\":null");
	assert_shown(state, true, "\"named\":null");
	state__free(state);
}

/* A request whose end was not seen has no duration, but a last row. */
static void test_open_request(void **unused)
{
	struct synthetic s;
	struct state *state;
	uint64_t step;

	synthetic__begin(&s, EXPERTS, 2);
	synthetic__request(&s, 1, 0);
	step = synthetic__step(&s, 1, 10, 0, TRACE_PREFILL);
	synthetic__route(&s, step, 1, 10, 2, choice, weights);
	state = read_state(&s);
	assert_shown(state, true, "\"seconds\":null");
	assert_shown(state, true, "\"silent_seconds\":0");
	assert_shown(state, true, "\"ending\":\"open\"");
	assert_shown(state, false, "open: its end was not seen");
	assert_true(request__is_open(request_of(state, 1)));
	assert_int_equal(
		request__silent_ns(request_of(state, 1), request_of(state, 1)->last_row_ns + 7), 7);
	state__free(state);

	synthetic__begin(&s, EXPERTS, 2);
	synthetic__request(&s, 1, 0);
	synthetic__finish_request(&s, 1, 10);
	state = read_state(&s);
	assert_false(request__is_open(request_of(state, 1)));
	assert_true(request__silent_ns(request_of(state, 1), 7) == UINT64_MAX);
	state__free(state);
}

static void test_labels(void **unused)
{
	char labels[32] = "";

	assert_int_equal(labels__take(labels, sizeof(labels), "a=1\nb\n\n=x\nab=2", 14), 0);
	assert_string_equal(labels, "a=1\nb\nab=2");
	assert_int_equal(strncmp(labels__find(labels, "a"), "1\n", 2), 0);
	assert_string_equal(labels__find(labels, "ab"), "2");
	assert_null(labels__find(labels, "b"));
	assert_null(labels__find(labels, "c"));
	assert_int_equal(labels__take(labels, sizeof(labels), "a=3\nb=4", 7), 0);
	assert_string_equal(labels, "ab=2\na=3\nb=4");
	assert_int_equal(labels__take(labels, sizeof(labels), "c=12345678901234567890123\nd=5", 29),
			 1);
	assert_string_equal(labels, "ab=2\na=3\nb=4\nd=5");
	labels__take(labels, sizeof(labels), NULL, 0);
}

static void lose(struct synthetic *s, uint32_t context, uint32_t cause, uint64_t rows)
{
	struct trace_loss l = { .head = synthetic__head(s, 0),
				.cause = cause,
				.context = context,
				.count = 1,
				.rows = rows,
				.decisions = UINT64_MAX };

	synthetic__add(s, TRACE_LOSS, &l, sizeof(l), NULL, 0);
}

/* Two models of 2 and 20 layers: rows that were lost of the small one are no rows of the large. */
static void test_loss_of_the_small_model(void **unused)
{
	static const uint16_t ids[20] = { 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,
					  10, 11, 12, 13, 14, 15, 16, 17, 18, 19 };
	struct synthetic s;
	struct state *state;
	uint64_t step;

	synthetic__begin(&s, EXPERTS, 2);
	synthetic__model(&s, 2, 20, ids, EXPERTS, 2);
	step = synthetic__step(&s, 1, 10, 0, TRACE_PREFILL);
	synthetic__route(&s, step, 1, 10, 2, choice, weights);
	synthetic__route(&s, step, 2, 10, 2, choice, weights);
	lose(&s, 1, TRACE_LOSS_QUEUE, 10);
	state = read_state(&s);
	assert_float_equal(state__lost_share(state), 0.5, 1e-9); /* 20 of 40 */
	assert_int_equal(state__summary(state)->loss[TRACE_LOSS_QUEUE].rows, 10);
	state__free(state);

	/* Of which model is not known: as many layers as the rows that were seen had. */
	synthetic__begin(&s, EXPERTS, 2);
	synthetic__model(&s, 2, 20, ids, EXPERTS, 2);
	step = synthetic__step(&s, 1, 10, 0, TRACE_PREFILL);
	synthetic__route(&s, step, 1, 10, 2, choice, weights);
	synthetic__route(&s, step, 2, 10, 2, choice, weights);
	lose(&s, TRACE_UNKNOWN, TRACE_LOSS_RING_ROWS, 10);
	lose(&s, 2, TRACE_LOSS_INFO, 0);
	state = read_state(&s);
	assert_float_equal(state__lost_share(state), 0.5, 1e-9);
	state__free(state);
}

static void route(struct synthetic *s, uint64_t step, uint32_t flags)
{
	const uint8_t ids[] = { 3, flags & TRACE_ROUTE_NO_CHOICE ? TRACE_NO_EXPERT_8 : 1 };
	static const uint8_t ties[] = { TRACE_ROUTE_ROW_TIE };
	struct trace_route r = {
		.head = synthetic__head(s, flags | TRACE_ROUTE_ALL_ROWS | TRACE_ROUTE_WEIGHTS |
						   TRACE_ROUTE_ROW_FLAGS),
		.step = step,
		.context = 1,
		.layer = 1,
		.rows = 1,
		.k = 2,
	};

	synthetic__add(
		s, TRACE_ROUTE, &r, sizeof(r),
		(struct trace_column[]){ { NULL, 0 }, { ids, 2 }, { weights, 8 }, { ties, 1 } }, 4);
}

static void test_exceptions(void **unused)
{
	struct trace_window w = { .begin_ns = 5, .end_ns = 9, .inclusion = 0.5 };
	struct synthetic s;
	struct state *state;
	const struct state_summary *m;
	const struct grid *g;

	synthetic__begin(&s, EXPERTS, 2);
	route(&s, synthetic__step(&s, 1, 1, 0, TRACE_PREFILL), 0);
	route(&s, synthetic__step(&s, 1, 1, 1, TRACE_PREFILL), TRACE_ROUTE_RAW);
	route(&s, synthetic__step(&s, 1, 1, 2, TRACE_PREFILL), TRACE_ROUTE_LOCAL);
	route(&s, synthetic__step(&s, 1, 1, 3, TRACE_PREFILL), TRACE_ROUTE_NO_CHOICE);
	w.head = synthetic__head(&s, 0);
	synthetic__add(&s, TRACE_WINDOW, &w, sizeof(w), NULL, 0);
	state = read_state(&s);
	m = state__summary(state);
	g = state__context(state, 0)->grid;
	assert_int_equal(m->decisions, 4);
	assert_int_equal(m->out_of_range, 0);
	assert_int_equal(m->raw, 1);
	assert_int_equal(m->other_ids, 1);
	assert_int_equal(m->ties, 4);
	assert_int_equal(m->windows, 1);
	assert_int_equal(m->watched_ns, 4);
	assert_int_equal(grid__count(g, STATE_WINDOW_WHOLE, STATE_BOTH, 0, 3), 3);
	assert_int_equal(grid__count(g, STATE_WINDOW_WHOLE, STATE_BOTH, 0, 1), 2);
	assert_float_equal(grid__gate(g, STATE_BOTH, 0, 3), 1.5, 1e-9);
	state__free(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bound_later),
		cmocka_unit_test(test_corrected),
		cmocka_unit_test(test_counts_are_bound),
		cmocka_unit_test(test_sequences_are_bounded),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_inferred_name_is_shown),
		cmocka_unit_test(test_open_request),
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_loss_of_the_small_model),
		cmocka_unit_test(test_exceptions),
	};

	return cmocka_run_group_tests_name("bindings", tests, NULL, NULL);
}
