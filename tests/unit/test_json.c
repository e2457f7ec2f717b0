/* SPDX-License-Identifier: BSD-2-Clause */
/* docs/dump-json.md: each type of record as the very line that is promised. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <json-c/json.h>

#include "analyzer/view/json.h"
#include "collector/trace/reader.h"

#define HEAD .head = { .time_ns = 7, .source = 1 }
#define HEAD_FLAGS(bits) .head = { .time_ns = 7, .source = 1, .flags = (bits) }

static char *shown(const struct trace_item *item, struct json_context *c,
		   int (*print)(FILE *, const struct trace_item *, struct json_context *))
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	assert_int_equal(print(f, item, c), 0);
	fclose(f);
	assert_true(size && text[size - 1] == '\n');
	text[size - 1] = '\0';
	assert_null(strchr(text, '\n'));
	return text;
}

static struct trace_item item_of(enum trace_type type, const void *fixed)
{
	return (struct trace_item){ .type = type, .fixed = fixed };
}

static void column(struct trace_item *item, const void *bytes, size_t size)
{
	item->column[item->columns].bytes = bytes;
	item->column[item->columns++].size = size;
}

/* Compares and frees. */
static void assert_text(char *got, const char *want)
{
	assert_string_equal(got, want);
	free(got);
}

static void assert_json(const struct trace_item *item, const char *want)
{
	assert_text(shown(item, NULL, json_view__print), want);
}

static void test_identities(void **state)
{
	struct trace_source source = { HEAD, .id = 3, .tool_length = 4 };
	struct trace_process process = { HEAD,
					 .process = 1,
					 .pid = 42,
					 .parent = TRACE_UNKNOWN,
					 .rank_tensor = TRACE_UNKNOWN,
					 .rank_pipeline = 3,
					 .start_ticks = 99,
					 .build_id = { 0xab, 1 } };
	struct trace_context context = { HEAD, .context = 2, .process = 1, .key = UINT64_MAX };
	struct trace_sequence sequence = { HEAD, 1, 2, 3, 4 };
	struct trace_bind bind = {
		HEAD, 1, TRACE_UNKNOWN, 3, TRACE_INFERRED, TRACE_ORIGIN_TOKENS, 0
	};
	struct trace_item item = item_of(TRACE_SOURCE, &source);

	column(&item, "tool", 4);
	column(&item, NULL, 0);
	assert_json(&item, "{\"type\":\"source\",\"time_ns\":7,\"source\":1,\"id\":3,"
			   "\"tool\":\"tool\",\"host\":null}");
	item = item_of(TRACE_PROCESS, &process);
	column(&item, "llama.cpp", 9);
	column(&item, NULL, 0);
	column(&item, "a", 1);
	column(&item, "worker", 6);
	assert_json(&item,
		    "{\"type\":\"process\",\"time_ns\":7,\"source\":1,\"process\":1,\"pid\":42,"
		    "\"parent\":null,\"rank_tensor\":null,\"rank_pipeline\":3,\"rank_data\":0,"
		    "\"rank_expert\":0,\"start_ticks\":99,\"pid_namespace_inode\":null,"
		    "\"build_id\":\"ab01000000000000000000000000000000000000\","
		    "\"engine\":\"llama.cpp\",\"version\":null,\"command\":\"a\","
		    "\"role\":\"worker\"}");
	item = item_of(TRACE_CONTEXT, &context);
	assert_json(&item, "{\"type\":\"context\",\"time_ns\":7,\"source\":1,\"context\":2,"
			   "\"process\":1,\"key\":\"0xffffffffffffffff\",\"model_key\":\"0x0\","
			   "\"replica_of\":0}");
	item = item_of(TRACE_SEQUENCE, &sequence);
	assert_json(&item, "{\"type\":\"sequence\",\"time_ns\":7,\"source\":1,\"sequence\":1,"
			   "\"context\":2,\"slot\":3,\"epoch\":4}");
	sequence.slot = sequence.epoch = TRACE_UNKNOWN;
	assert_json(&item, "{\"type\":\"sequence\",\"time_ns\":7,\"source\":1,\"sequence\":1,"
			   "\"context\":2,\"slot\":null,\"epoch\":null}");
	item = item_of(TRACE_BIND, &bind);
	assert_json(&item, "{\"type\":\"bind\",\"time_ns\":7,\"source\":1,\"sequence\":1,"
			   "\"request\":null,\"position\":3,\"certainty\":\"inferred\","
			   "\"origin\":\"tokens\"}");
}

static void test_model(void **state)
{
	static const uint16_t layers[] = { 1, 300 };
	struct trace_model model = { HEAD_FLAGS(TRACE_MODEL_FROM_FILE),
				     .context = 1,
				     .layers = 2,
				     .experts = 64,
				     .k = 8,
				     .shared_experts = TRACE_UNKNOWN,
				     .vocabulary = 50304,
				     .blocks = 16,
				     .normalised = 0,
				     .gate = TRACE_GATE_SIGMOID,
				     .groups = 8,
				     .groups_used = TRACE_UNKNOWN,
				     .scale = 2.5f,
				     .tokenizer_digest = { 0xab, [31] = 1 } };
	struct trace_item item = item_of(TRACE_MODEL, &model);

	column(&item, layers, 4);
	column(&item, "olmoe", 5);
	column(&item, "a\"b/c", 5);
	column(&item, NULL, 0);
	column(&item, "F16", 3);
	column(&item, "q8_0", 4);
	assert_json(&item, "{\"type\":\"model\",\"time_ns\":7,\"source\":1,\"context\":1,"
			   "\"layers\":2,\"experts\":64,\"k\":8,\"shared_experts\":null,"
			   "\"vocab\":50304,\"blocks\":16,\"normalised\":false,"
			   "\"gate\":\"sigmoid\",\"groups\":8,\"groups_used\":null,\"scale\":2.5,"
			   "\"from_file\":true,\"ordinals\":false,\"layer_ids\":[1,300],"
			   "\"architecture\":\"olmoe\",\"name\":\"a\\\"b/c\",\"path\":null,"
			   "\"quantisation\":\"F16\",\"kv_type\":\"q8_0\","
			   "\"model_digest\":null,\"tokenizer_digest\":\"ab00000000000000"
			   "000000000000000000000000000000000000000000000001\"}");
}

static void test_request(void **state)
{
	static const int32_t tokens[] = { 17, -1 };
	struct trace_request_begin begin = { HEAD,
					     .request = 9,
					     .context = 1,
					     .sequence = 2,
					     .slot = 3,
					     .task = 4,
					     .cached = 0,
					     .prompt = 2,
					     .prompt_known = 2,
					     .begin_ns = UINT64_MAX,
					     .temperature = 0.5f,
					     .top_p = NAN,
					     .top_k = 40,
					     .max_tokens = TRACE_UNKNOWN };
	struct trace_request_end end = { HEAD,
					 .request = 9,
					 .ending = 1,
					 .rows = 5,
					 .tokens = TRACE_UNKNOWN,
					 .finish = TRACE_FINISH_LENGTH,
					 .prompt = 2,
					 .generated = TRACE_UNKNOWN };
	struct trace_item item = item_of(TRACE_REQUEST_BEGIN, &begin);
	struct trace_item ends = item_of(TRACE_REQUEST_END, &end);
	struct json_context *c = json_context__new();

	column(&item, "id-1", 4);
	column(&item, tokens, 8);
	assert_text(shown(&item, c, json_view__print),
		    "{\"type\":\"request\",\"event\":\"begin\",\"time_ns\":7,\"source\":1,"
		    "\"request\":9,\"context\":1,\"sequence\":2,\"slot\":3,\"task\":4,"
		    "\"cached\":0,\"prompt\":2,\"begin_ns\":null,\"temperature\":0.5,\"top_p\":"
		    "null,\"top_k\":40,\"max_tokens\":null,\"client_id\":\"id-1\","
		    "\"before_attach\":false,\"prompt_tokens\":[17,-1]}");
	assert_text(shown(&ends, c, json_view__print),
		    "{\"type\":\"request\",\"event\":\"end\",\"time_ns\":7,\"source\":1,"
		    "\"request\":9,\"ending\":\"released\",\"rows_seen\":5,\"tokens\":null,"
		    "\"finish\":\"length\",\"prompt\":2,\"generated\":null,\"certainty\":\"exact\","
		    "\"slot\":3,\"task\":4,\"client_id\":\"id-1\",\"cached\":0}");
	/* Said once; and a request that began before the stream is unknown. */
	assert_text(shown(&ends, c, json_view__print),
		    "{\"type\":\"request\",\"event\":\"end\",\"time_ns\":7,\"source\":1,"
		    "\"request\":9,\"ending\":\"released\",\"rows_seen\":5,\"tokens\":null,"
		    "\"finish\":\"length\",\"prompt\":2,\"generated\":null,\"certainty\":\"exact\","
		    "\"slot\":null,\"task\":null,\"client_id\":null,\"cached\":null}");
	begin.head.flags = TRACE_REQUEST_BEFORE_ATTACH;
	begin.task = begin.cached = begin.prompt = TRACE_UNKNOWN;
	begin.prompt_known = 0;
	item.column[0].size = item.column[1].size = 0;
	assert_text(shown(&item, c, json_view__print),
		    "{\"type\":\"request\",\"event\":\"begin\",\"time_ns\":7,\"source\":1,"
		    "\"request\":9,\"context\":1,\"sequence\":2,\"slot\":3,\"task\":null,"
		    "\"cached\":null,\"prompt\":null,\"begin_ns\":null,\"temperature\":0.5,\"top_"
		    "p\":null,\"top_k\":40,\"max_tokens\":null,\"client_id\":null,"
		    "\"before_attach\":true,\"prompt_tokens\":null}");
	json_context__free(c); /* with a request still open */
	json_context__free(NULL);
}

static void test_step(void **state)
{
	static const uint32_t sequence[] = { 1, 2 }, request[] = { 5, TRACE_UNKNOWN };
	static const uint32_t position[] = { 0, 70000 };
	static const uint8_t phase[] = { 0, 1 },
			     flags[] = { TRACE_ROW_DRAFT | TRACE_ROW_REJECTED, TRACE_ROW_OUTPUT };
	static const int32_t token[] = { 17, -1 };
	struct trace_step step = {
		HEAD_FLAGS(TRACE_STEP_TOKENS), 3, 8, 9, 1, 2, 1, TRACE_UNKNOWN, 1ull << 40
	};
	struct trace_item item = item_of(TRACE_STEP, &step);

	column(&item, sequence, 8);
	column(&item, request, 8);
	column(&item, position, 8);
	column(&item, phase, 2);
	column(&item, flags, 2);
	column(&item, token, 8);
	assert_json(&item, "{\"type\":\"step\",\"time_ns\":7,\"source\":1,\"step\":3,\"context\":1,"
			   "\"begin_ns\":8,\"end_ns\":9,\"ubatch\":1,\"ubatches\":null,"
			   "\"batch\":1099511627776,\"rows\":["
			   "{\"sequence\":1,\"request\":5,\"position\":0,\"phase\":\"prefill\","
			   "\"token\":17,\"output\":false,\"padding\":false,\"draft\":true,"
			   "\"rejected\":true,\"finished\":false},"
			   "{\"sequence\":2,\"request\":null,\"position\":70000,"
			   "\"phase\":\"decode\",\"token\":null,\"output\":true,\"padding\":false,"
			   "\"draft\":false,\"rejected\":false,\"finished\":false}]}");
	step.rows = 1;
	step.batch = UINT64_MAX;
	step.head.flags = 0;
	item.column[5].size = 0;
	item.column[3].bytes = (uint8_t[]){ TRACE_PHASE_UNKNOWN };
	item.column[4].bytes = (uint8_t[]){ TRACE_ROW_PADDING | TRACE_ROW_FINISHED };
	assert_json(&item, "{\"type\":\"step\",\"time_ns\":7,\"source\":1,\"step\":3,\"context\":1,"
			   "\"begin_ns\":8,\"end_ns\":9,\"ubatch\":1,\"ubatches\":null,"
			   "\"batch\":null,\"rows\":["
			   "{\"sequence\":1,\"request\":5,\"position\":0,\"phase\":null,"
			   "\"token\":null,\"output\":false,\"padding\":true,\"draft\":false,"
			   "\"rejected\":false,\"finished\":true}]}");
}

static void test_route(void **state)
{
	static const uint32_t row[] = { 0, 7 };
	static const uint8_t narrow[] = { 3, 200, 1, 0 };
	static const uint16_t wide[] = { 300, 2, 1, 0 };
	static const float weight[] = { 0.1f, 1.0f, 3.4028235e38f, 1e-45f };
	struct trace_route route = { HEAD_FLAGS(TRACE_ROUTE_WEIGHTS),
				     .step = 4,
				     .context = 1,
				     .layer = 15,
				     .rows = 2,
				     .k = 2 };
	struct trace_item item = item_of(TRACE_ROUTE, &route);

	column(&item, row, 8);
	column(&item, narrow, 4);
	column(&item, weight, 16);
	assert_json(&item, "{\"type\":\"route\",\"time_ns\":7,\"source\":1,\"step\":4,"
			   "\"context\":1,\"layer\":15,\"rows\":[0,7],"
			   "\"experts\":[[3,200],[1,0]],"
			   "\"weights\":[[0.100000001,1],[3.40282347e+38,1.40129846e-45]],"
			   "\"inferred\":false,\"raw\":false,\"ids\":\"logical\",\"ties\":null}");
	route.head.flags = TRACE_ROUTE_ALL_ROWS | TRACE_ROUTE_IDS_16 | TRACE_ROUTE_INFERRED |
			   TRACE_ROUTE_RAW | TRACE_ROUTE_LOCAL | TRACE_ROUTE_ROW_FLAGS;
	column(&item, ((uint8_t[]){ 2, TRACE_ROUTE_ROW_TIE }), 2);
	item.column[0].size = item.column[2].size = 0;
	item.column[1].bytes = wide;
	item.column[1].size = 8;
	assert_json(&item, "{\"type\":\"route\",\"time_ns\":7,\"source\":1,\"step\":4,"
			   "\"context\":1,\"layer\":15,\"rows\":[0,1],"
			   "\"experts\":[[300,2],[1,0]],\"weights\":null,\"inferred\":true,"
			   "\"raw\":true,\"ids\":\"local\",\"ties\":[1]}");
}

/* Every finite binary32 comes back from its text. */
static void test_weights_round_trip(void **state)
{
	struct trace_counts counts = { HEAD_FLAGS(TRACE_COUNTS_GATE), .experts = 1 };
	uint32_t count = 1, bits = 1;
	float weight, back;

	for (int i = 0; i < 20000; i++) {
		struct trace_item item = item_of(TRACE_COUNTS, &counts);
		struct json_object *o, *gate;

		bits = bits * 1664525 + 1013904223;
		memcpy(&weight, &bits, sizeof(weight));
		column(&item, &count, 4);
		column(&item, &weight, 4);
		o = json_view__record(&item, NULL);
		gate = json_object_array_get_idx(json_object_object_get(o, "gate"), 0);
		if ((bits & 0x7f800000) == 0x7f800000) {
			assert_null(gate);
		} else {
			back = strtof(json_object_to_json_string(gate), NULL);
			assert_memory_equal(&back, &weight, sizeof(back));
		}
		json_object_put(o);
	}
}

static void test_losses(void **state)
{
	struct trace_loss loss = { HEAD,
				   .cause = TRACE_LOSS_RING_ROUTES,
				   .context = 4,
				   .count = 5,
				   .rows = UINT64_MAX,
				   .decisions = 40,
				   .since_ns = 2 };
	struct trace_invalid invalid = { HEAD, .cause = 77, .count = UINT64_MAX };
	struct trace_coverage coverage = { HEAD, 0, 2, 10, 3, 9, 5 };
	const uint64_t missing[] = { 1, 1, 1, 1, 1, 1, 0, 0, 1 };
	struct trace_cost cost = { HEAD, 1, 2, 3, 4, 5, TRACE_UNKNOWN, 12 };
	struct trace_item item = item_of(TRACE_LOSS, &loss);

	assert_json(&item, "{\"type\":\"loss\",\"time_ns\":7,\"source\":1,"
			   "\"cause\":\"ring_routes\",\"context\":4,\"count\":5,\"rows\":null,"
			   "\"decisions\":40,\"since_ns\":2}");
	item = item_of(TRACE_INVALID, &invalid);
	assert_json(&item, "{\"type\":\"invalid\",\"time_ns\":7,\"source\":1,\"cause\":77,"
			   "\"count\":18446744073709551615}");
	item = item_of(TRACE_COVERAGE, &coverage);
	column(&item, missing, sizeof(missing));
	assert_json(
		&item,
		"{\"type\":\"coverage\",\"time_ns\":7,\"source\":1,\"request\":null,"
		"\"layer\":2,\"context\":5,\"expected\":10,\"seen\":3,\"missing\":{\"cached\":1,"
		"\"not_computed\":1,\"lost\":1,\"invalid\":1,\"before_attach\":1,"
		"\"not_routed\":1,\"after_detach\":0,\"governor\":0,\"9\":1}}");
	item = item_of(TRACE_COST, &cost);
	assert_json(&item, "{\"type\":\"cost\",\"time_ns\":7,\"source\":1,\"interval_ns\":1,"
			   "\"hits\":2,\"hit_ns\":3,\"collector_cpu_ns\":4,\"resident_bytes\":5,"
			   "\"threads\":null,\"slowdown_ppm\":12}");
}

static void test_the_rest(void **state)
{
	static const uint32_t count[] = { 2, 0 };
	static const float gate[] = { 1.5f, 0 };
	struct trace_clock clock = { HEAD, 1, 2, 3 };
	struct trace_end end = { HEAD, TRACE_STOP_TARGET_EXIT, 0, 1, 2, 3, 4, 5, 6, 7 };
	struct trace_counts counts = {
		HEAD_FLAGS(TRACE_COUNTS_GATE), 1, 2, 3, TRACE_DECODE, 2, 2, TRACE_UNKNOWN, 1, 6, 9
	};
	struct trace_request_info info = { HEAD, .request = 9,
					   .origin = TRACE_ORIGIN_HTTP_RESPONSE };
	struct trace_window window = { HEAD, 1, 2, 0.25, TRACE_REASON_GOVERNOR, TRACE_UNKNOWN };
	struct trace_finding finding = { HEAD, TRACE_STATUS_WARN, 0, 4, 1, 0, 3 };
	struct trace_item item = item_of(TRACE_CLOCK, &clock);

	assert_json(&item, "{\"type\":\"clock\",\"time_ns\":7,\"source\":1,\"monotonic_ns\":1,"
			   "\"boot_ns\":2,\"real_ns\":3}");
	item = item_of(TRACE_END, &end);
	assert_json(&item, "{\"type\":\"end\",\"time_ns\":7,\"source\":1,\"stop\":\"target_exit\","
			   "\"records\":1,\"steps\":2,\"rows\":3,\"routes\":4,\"decisions\":5,"
			   "\"lost\":6,\"invalid\":7}");
	item = item_of(TRACE_COUNTS, &counts);
	column(&item, count, 8);
	column(&item, gate, 8);
	assert_json(&item, "{\"type\":\"counts\",\"time_ns\":7,\"source\":1,\"request\":1,"
			   "\"context\":2,\"layer\":3,\"phase\":\"decode\",\"rows\":2,"
			   "\"experts\":2,\"first_position\":null,\"k\":1,\"sequence\":6,"
			   "\"last_position\":9,\"count\":[2,0],\"gate\":[1.5,0],"
			   "\"ids\":\"logical\"}");
	counts.head.flags = TRACE_COUNTS_PHYSICAL;
	counts.first_position = 3;
	item.column[1].size = 0;
	assert_json(&item, "{\"type\":\"counts\",\"time_ns\":7,\"source\":1,\"request\":1,"
			   "\"context\":2,\"layer\":3,\"phase\":\"decode\",\"rows\":2,"
			   "\"experts\":2,\"first_position\":3,\"k\":1,\"sequence\":6,"
			   "\"last_position\":9,\"count\":[2,0],\"gate\":null,"
			   "\"ids\":\"physical\"}");
	item = item_of(TRACE_WINDOW, &window);
	assert_json(&item, "{\"type\":\"window\",\"time_ns\":7,\"source\":1,\"context\":null,"
			   "\"begin_ns\":1,\"end_ns\":2,\"inclusion\":0.25,"
			   "\"reason\":\"governor\"}");
	item = item_of(TRACE_REQUEST_INFO, &info);
	column(&item, "chat", 4);
	column(&item, NULL, 0);
	column(&item, "4bf9", 4);
	column(&item, NULL, 0);
	column(&item, "task=a=b\nx\x1b=1\ny", 15);
	assert_json(&item, "{\"type\":\"request_info\",\"time_ns\":7,\"source\":1,"
			   "\"request\":9,\"certainty\":\"exact\",\"origin\":\"http_response\","
			   "\"client_id\":\"chat\",\"request_id\":null,\"trace_id\":\"4bf9\","
			   "\"adapter\":null,\"labels\":{\"task\":\"a=b\",\"x\\\\x1b\":\"1\","
			   "\"y\":null}}");
	item = item_of(TRACE_FINDING, &finding);
	column(&item, "site", 4);
	column(&item, "x", 1);
	column(&item, NULL, 0);
	column(&item, "do!", 3);
	assert_json(&item, "{\"type\":\"finding\",\"time_ns\":7,\"source\":1,\"status\":\"warn\","
			   "\"pid\":null,\"area\":\"site\",\"name\":\"x\",\"value\":null,"
			   "\"remedy\":\"do!\"}");
}

/* Bytes of the target cannot drive a terminal or break the JSON. */
static void test_hostile_text(void **state)
{
	static const char hostile[] = "a\x1b[2J\n\xff\xc3\xa9\xc2\x9b\xe2\x80\xae\\\0z";
	struct trace_source source = { HEAD, .id = 3, .tool_length = sizeof(hostile) - 1 };
	struct trace_item item = item_of(TRACE_SOURCE, &source);
	struct json_object *o;
	char *line;

	column(&item, hostile, sizeof(hostile) - 1);
	column(&item, "\xf0\x9f\x98", 3);
	line = shown(&item, NULL, json_view__print);
	for (char *p = line; *p; p++)
		assert_true((unsigned char)*p >= 0x20);
	o = json_tokener_parse(line);
	assert_string_equal(json_object_get_string(json_object_object_get(o, "tool")),
			    "a\\x1b[2J\\x0a\\xff\xc3\xa9\\xc2\\x9b\\xe2\\x80\\xae\\\\x00z");
	assert_string_equal(json_object_get_string(json_object_object_get(o, "host")),
			    "\\xf0\\x9f\\x98");
	json_object_put(o);
	free(line);
}

static void test_text(void **state)
{
	struct trace_loss loss = {
		HEAD,         .cause = TRACE_LOSS_QUEUE, .context = TRACE_UNKNOWN,
		.count = 5,   .rows = UINT64_MAX,        .decisions = 6,
		.since_ns = 2
	};
	struct trace_item item = item_of(TRACE_LOSS, &loss);

	assert_text(shown(&item, NULL, text_view__print),
		    "loss time_ns=7 source=1 cause=\"queue\" context=- count=5 rows=- decisions=6 "
		    "since_ns=2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identities),   cmocka_unit_test(test_model),
		cmocka_unit_test(test_request),      cmocka_unit_test(test_step),
		cmocka_unit_test(test_route),        cmocka_unit_test(test_weights_round_trip),
		cmocka_unit_test(test_losses),       cmocka_unit_test(test_the_rest),
		cmocka_unit_test(test_hostile_text), cmocka_unit_test(test_text),
	};

	return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
