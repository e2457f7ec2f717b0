/* SPDX-License-Identifier: BSD-2-Clause */
/* analyzer/view/status: what stands beside the numbers names the cause that matters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <json-c/json.h>

#include "analyzer/state/state.h"
#include "analyzer/view/report.h"
#include "analyzer/view/status.h"
#include "analyzer/view/unread.h"
#include "collector/trace/reader.h"
#include "probe/base/error.h"

static void lose(struct state *s, uint32_t cause, uint64_t count)
{
	struct trace_loss loss = { .head.time_ns = 1,
				   .cause = cause,
				   .count = count,
				   .rows = UINT64_MAX,
				   .decisions = UINT64_MAX };
	struct trace_item item = { .type = TRACE_LOSS, .loss = &loss }; /* a union with the head */

	assert_int_equal(state__apply(s, &item), 0);
}

static char *line_of(const struct state *s)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	status__print_line(s, out);
	fclose(out);
	return text;
}

static void expect(const struct state *s, const char *in_line, const char *cause)
{
	struct status status;
	char *line = line_of(s);

	status__of(&status, s);
	assert_non_null(strstr(line, in_line));
	free(line);
	if (cause)
		assert_string_equal(status.loss_cause, cause);
	else
		assert_null(status.loss_cause);
}

static void test_largest_cause_is_named(void **unused)
{
	struct state *s;

	assert_int_equal(state__new(&s), 0);
	expect(s, " loss=0 invalid=0", NULL);
	lose(s, TRACE_LOSS_QUEUE, 3);
	expect(s, " loss=3 loss_cause=queue invalid=0",
	       "steps dropped: the reader of the stream was too slow");
	lose(s, TRACE_LOSS_RING_ROUTES, 4);
	expect(s, " loss=7 loss_cause=ring_routes invalid=0", "router results lost: ring full");
	lose(s, 999, 5); /* of a later version */
	expect(s, " loss=12 loss_cause=other invalid=0", "other causes");
	state__free(s);
}

/* What would have helped depends on what was lost where. */
static void test_advice_fits_the_cause(void **unused)
{
	static const struct {
		uint32_t cause;
		const char *remedy;
	} advice[] = {
		{ TRACE_LOSS_RING_ROUTES, "larger --ring" },
		{ TRACE_LOSS_RING_ROWS, "--ring" },
		{ TRACE_LOSS_RING_IDENTITY, "--ring" },
		{ TRACE_LOSS_QUEUE, "lower --detail" },
		{ TRACE_LOSS_CHUNKS, "attach again" },
		{ TRACE_LOSS_NO_STEP, "attach again" },
		{ TRACE_LOSS_LAYOUT, "let one request go by" },
		{ 999, "record again" },
	};

	for (size_t i = 0; i < sizeof(advice) / sizeof(*advice); i++) {
		struct error e = { 0 };
		struct status status;
		struct state *s;

		assert_int_equal(state__new(&s), 0);
		assert_int_equal(status__check_loss(s, 0, "report", &e), EXIT_OK);
		assert_int_equal(status__check_any(s, "process 1", &e), EXIT_OK);
		lose(s, advice[i].cause, 5);
		status__of(&status, s);
		assert_non_null(strstr(status.loss_remedy, advice[i].remedy));
		assert_int_equal(strstr(status.loss_remedy, "--ring") != NULL,
				 advice[i].cause <= TRACE_LOSS_RING_IDENTITY);
		assert_int_equal(status__check_loss(s, -1, "report", &e), EXIT_OK);
		assert_int_equal(status__check_loss(s, 100, "report", &e), EXIT_OK);
		assert_false(error__is_set(&e));
		/* Requests that were not described cost no decision. */
		if (advice[i].cause == TRACE_LOSS_RING_IDENTITY) {
			state__free(s);
			continue;
		}
		assert_int_equal(status__check_loss(s, 1, "report", &e), EXIT_LOSS);
		assert_int_equal(e.exit, EXIT_LOSS);
		assert_string_equal(e.remedy, status.loss_remedy);
		assert_non_null(strstr(e.what, "report: lost 100.00 % of the decisions"));
		assert_non_null(strstr(e.what, status.loss_cause));
		error__clear(&e);
		assert_int_equal(status__check_any(s, "process 1", &e), EXIT_LOSS);
		assert_non_null(strstr(e.what, "none could be shown"));
		assert_string_equal(e.remedy, status.loss_remedy);
		state__free(s);
	}
}

/* Whoever reads the live picture sees that something is missing. */
static void test_damage_is_named(void **unused)
{
	struct trace_unread unread = { .damaged_blocks = 2, .damaged_bytes = 12345 };
	char text[UNREAD_SIZE];
	struct state *s;
	char *line;

	assert_int_equal(state__new(&s), 0);
	expect(s, " invalid=0 slowdown=", NULL);
	state__set_unread(s, &unread);
	line = line_of(s);
	assert_non_null(strstr(line, " invalid=0 damaged_blocks=2 "));
	free(line);
	assert_string_equal(unread__damaged(text, &unread),
			    "damaged: 2 blocks (12,345 bytes) could not be read: the totals are "
			    "incomplete");
	unread.damaged_blocks = unread.records = unread.types = UINT32_MAX;
	unread.damaged_bytes = UINT64_MAX;
	assert_non_null(strstr(unread__damaged(text, &unread), "incomplete"));
	assert_non_null(strstr(unread__skipped(text, &unread), "does not know"));
	state__free(s);
}

static struct json_object *report_of(const struct state *s, char **text)
{
	struct json_object *json;
	struct report *report;
	char *in_json = NULL;
	size_t size;
	FILE *out;

	assert_int_equal(report__build(&report, s, "test"), 0);
	out = open_memstream(&in_json, &size);
	assert_int_equal(report__print_json(report, out), 0);
	fclose(out);
	json = json_tokener_parse(in_json);
	assert_non_null(json);
	free(in_json);
	out = open_memstream(text, &size);
	report__print(report, out);
	fclose(out);
	report__free(report);
	return json;
}

static double coverage_in(struct json_object *o)
{
	return json_object_get_double(json_object_object_get(o, "coverage"));
}

/* Of 100 rows 40 came from a cache and 10 were never computed: 45 of 50 is 90 %, everywhere. */
static void test_coverage_is_of_what_was_computed(void **unused)
{
	struct trace_request_begin begin = { .head.time_ns = 1, .request = 1, .context = 1 };
	struct error e = { 0 };
	struct trace_coverage coverage = {
		.head.time_ns = 1, .request = 1, .expected = 100, .seen = 45, .causes = 3
	};
	const uint64_t missing[] = { 40, 10, 5 };
	struct trace_item item = { .type = TRACE_REQUEST_BEGIN, .request_begin = &begin };
	struct json_object *json;
	struct status status;
	struct state *s;
	char *text;

	assert_int_equal(state__new(&s), 0);
	status__of(&status, s);
	assert_string_equal(status.coverage, "-");
	assert_int_equal(status__check_coverage(s, -1, "report", &e), EXIT_OK);
	assert_int_equal(status__check_coverage(s, 0, "report", &e), EXIT_LOSS);
	assert_non_null(strstr(e.what, "no request ended"));
	error__clear(&e);
	assert_int_equal(state__apply(s, &item), 0);
	item = (struct trace_item){ .type = TRACE_COVERAGE,
				    .coverage = &coverage,
				    .columns = 1,
				    .column = { { missing, sizeof(missing) } } };
	assert_int_equal(state__apply(s, &item), 0);
	status__of(&status, s);
	assert_string_equal(status.coverage, "90.0 %");
	assert_int_equal(status__check_coverage(s, 90, "report", &e), EXIT_OK);
	assert_int_equal(status__check_coverage(s, -1, "report", &e), EXIT_OK);
	assert_int_equal(status__check_coverage(s, 90.5, "report", &e), EXIT_LOSS);
	assert_non_null(strstr(e.what, "saw 90.00 % of ended requests, less than the 90.50 %"));
	assert_string_equal(status.missing, "cached 40.0 %, not computed 10.0 %, lost 5.0 %");
	json = report_of(s, &text);
	assert_float_equal(coverage_in(json_object_object_get(json, "capture")), 0.9, 1e-9);
	assert_float_equal(
		coverage_in(json_object_array_get_idx(json_object_object_get(json, "requests"), 0)),
		0.9, 1e-9);
	assert_non_null(strstr(text, "Coverage of ended requests: 90.0 %"));
	assert_non_null(strstr(text, "seen / (expected - cached - not computed)"));
	free(text);
	json_object_put(json);
	state__free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_largest_cause_is_named),
		cmocka_unit_test(test_advice_fits_the_cause),
		cmocka_unit_test(test_damage_is_named),
		cmocka_unit_test(test_coverage_is_of_what_was_computed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
