/* SPDX-License-Identifier: BSD-2-Clause */
/* HTTP responses of which parts were not captured, or whole pieces lost. */
#include "tests/unit/http_play.h"

/* As vLLM: finish reason and usage behind the text, further keys behind them. */
static char *long_answer(const char *filler, size_t times)
{
	static const char BEGIN[] =
		"{\"id\":\"chatcmpl-my-req-42\",\"object\":\"chat.completion\",\"created\":1,"
		"\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
		"\"content\":\"";
	static const char END[] =
		"\",\"refusal\":null,\"tool_calls\":[]},\"logprobs\":null,\"finish_reason\":"
		"\"stop\",\"stop_reason\":null}],\"service_tier\":null,\"usage\":"
		"{\"prompt_tokens\":5,\"total_tokens\":905,\"completion_tokens\":900,"
		"\"prompt_tokens_details\":{\"cached_tokens\":0}},\"prompt_logprobs\":null,"
		"\"kv_transfer_params\":null}";
	char *json = malloc(sizeof(BEGIN) + sizeof(END) + strlen(filler) * times);
	char *at = stpcpy(json, BEGIN);

	for (size_t i = 0; i < times; i++)
		at = stpcpy(at, filler);
	strcpy(at, END);
	return json;
}

/* Generated text that would like to be a usage, with every cut of backslashes and quotes. */
static const char EVIL[] = "\\\",\\\"usage\\\":{\\\"prompt_tokens\\\":66}}],\\\\\\\"usage\\\":"
			   "{\\\"prompt_tokens\\\":66},\\\\\\\\";

static void reads_behind_a_gap(void **state)
{
	char *json = long_answer(EVIL, 1000), *text = with_head(json);
	size_t size = strlen(text), ends = strlen(strstr(json, "\",\"refusal"));

	for (size_t room = 2 * 300; room < 2 * 1200; room++) {
		struct play p = { 0 };
		const struct http_response *r = &p.told.ended[0];

		send_cut(&p, text, size, room);
		assert_int_equal(p.told.ends, 1);
		assert_int_equal(r->flags, HTTP_COMPLETE | HTTP_HAS_GAP);
		assert_int_equal(r->body_bytes, strlen(json));
		assert_string_equal(r->answer.id, "chatcmpl-my-req-42");
		assert_string_equal(r->answer.object, "chat.completion");
		assert_false(r->answer.inferred & (ANSWER_ID | ANSWER_OBJECT));
		if (room - room / 2 <= ends)
			continue;
		assert_usage(r, 5, 900);
		assert_string_equal(r->answer.finish_reason, "stop");
		assert_int_equal(r->answer.cached_tokens, 0);
		assert_int_equal(r->answer.inferred, ANSWER_PROMPT | ANSWER_COMPLETION |
							     ANSWER_TOTAL | ANSWER_CACHED |
							     ANSWER_FINISH);
	}
	free(text);
	free(json);
}

/* Wherever the tail begins, it says what the answer says, or nothing. */
static void never_believes_text_behind_a_gap(void **state)
{
	char *json = long_answer(EVIL, 20), *text = with_head(json);
	size_t size = strlen(text);

	for (size_t tail = 1; tail < strlen(json) - 200; tail++) {
		struct play p = { 0 };
		const struct http_response *r = &p.told.ended[0];
		struct wire_piece piece = { .total = size,
					    .head = (const uint8_t *)text,
					    .head_size = size - strlen(json) + 150,
					    .tail = (const uint8_t *)text + size - tail,
					    .tail_size = tail };

		http_stream__piece(&p.stream, &piece, &EVENTS, &p.told);
		assert_int_equal(p.told.ends, 1);
		if (r->answer.known & ANSWER_PROMPT)
			assert_int_equal(r->answer.prompt_tokens, 5);
		if (r->answer.known & ANSWER_FINISH)
			assert_string_equal(r->answer.finish_reason, "stop");
	}
	free(text);
	free(json);
}

static void reads_a_long_json_in_chunks(void **state)
{
	struct play p = { 0 };
	char *json = long_answer("text ", 30000), *chunk = malloc(strlen(json) + 32);

	send_text(&p, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
		      "Transfer-Encoding: Chunked\r\n\r\n");
	sprintf(chunk, "%zx\r\n%s\r\n", strlen(json), json);
	send_cut(&p, chunk, strlen(chunk), 1984);
	send_text(&p, "0\r\n\r\n");
	assert_int_equal(p.told.ends, 1);
	assert_usage(&p.told.ended[0], 5, 900);
	assert_int_equal(p.told.ended[0].flags, HTTP_COMPLETE | HTTP_HAS_GAP);
	free(chunk);
	free(json);
}

/* Several events in one chunk, and several chunks in one piece, longer than what is captured. */
static void reads_events_around_a_gap(void **state)
{
	for (int chunks = 1; chunks <= 40; chunks += 39) {
		struct play p = { 0 };
		char events[20000] = "", wire[30000] = "";
		char *at = events, *out = wire;

		send_text(&p, EVENTS_HEAD);
		for (int i = 0; i < 41; i++) {
			char event[512];
			int n = sprintf(event, "data: %s\n\n", STREAM[i == 40 ? 2 : i ? 1 : 0]);

			at = stpcpy(at, event);
			if (chunks > 1)
				out += sprintf(out, "%x\r\n%s\r\n", n, event);
		}
		if (chunks == 1)
			out += sprintf(out, "%zx\r\n%s\r\n", strlen(events), events);
		send_cut(&p, wire, strlen(wire), 1984);
		send_text(&p, "0\r\n\r\n");
		assert_int_equal(p.told.ends, 1);
		check_stream(&p.told.ended[0]);
		assert_true(p.told.ended[0].flags & HTTP_HAS_GAP);
		assert_true(p.told.ended[0].flags & HTTP_COMPLETE);
		assert_in_range(p.told.ended[0].events, 6, 40);
	}
}

static void reads_an_event_with_a_gap(void **state)
{
	static const char BEGIN[] = "{\"type\":\"response.completed\",\"response\":{\"id\":"
				    "\"resp_1\",\"object\":\"response\",\"output\":[\"";
	static const char END[] = "\"],\"status\":\"completed\",\"usage\":{\"input_tokens\":3,"
				  "\"output_tokens\":9}},\"sequence_number\":12}";
	struct play p = { 0 };
	char event[8192], *chunk = malloc(8300);

	memset(event, 'x', sizeof(event));
	memcpy(event, BEGIN, sizeof(BEGIN) - 1);
	memcpy(event + sizeof(event) - sizeof(END), END, sizeof(END));
	send_text(&p, EVENTS_HEAD);
	sprintf(chunk, "%zx\r\ndata: %s\n\n\r\n0\r\n\r\n", strlen(event) + 8, event);
	send_cut(&p, chunk, strlen(chunk), 1984);
	assert_int_equal(p.told.ends, 1);
	assert_string_equal(p.told.ended[0].answer.id, "resp_1");
	assert_string_equal(p.told.ended[0].answer.object, "response");
	assert_string_equal(p.told.ended[0].answer.finish_reason, "completed");
	assert_usage(&p.told.ended[0], 3, 9);
	assert_true(p.told.ended[0].answer.inferred & ANSWER_PROMPT);
	free(chunk);
}

static void goes_on_after_a_loss(void **state)
{
	struct play p = { 0 };
	const struct http_response *r = &p.told.ended[0];

	send_text(&p, EVENTS_HEAD);
	send_event(&p, STREAM[0]);
	http_stream__lost(&p.stream);
	send_event(&p, STREAM[2]);
	send_text(&p, "0\r\n\r\n");
	assert_int_equal(p.told.ends, 1);
	check_stream(r);
	assert_int_equal(r->events, 2);
	assert_int_equal(r->flags, HTTP_COMPLETE | HTTP_HAD_LOSS);
}

static void does_not_join_two_responses_over_a_loss(void **state)
{
	struct play p = { 0 };

	send_text(&p, EVENTS_HEAD);
	send_event(&p, STREAM[0]);
	http_stream__lost(&p.stream); /* the end of the one, the head of another */
	send_event(&p, "{\"id\":\"other\",\"choices\":[{\"finish_reason\":\"length\"}]}");
	send_text(&p, "0\r\n\r\n");
	assert_int_equal(p.told.ends, 2);
	assert_string_equal(p.told.ended[0].answer.id, "abc");
	assert_int_equal(p.told.ended[0].flags, HTTP_HAD_LOSS);
	assert_int_equal(p.told.ended[0].events, 1);
	assert_false(p.told.ended[0].answer.known & ANSWER_FINISH);
	assert_string_equal(p.told.ended[1].answer.id, "other");
	assert_string_equal(p.told.ended[1].answer.finish_reason, "length");
	assert_int_equal(p.told.ended[1].flags, HTTP_NO_HEAD | HTTP_HAD_LOSS | HTTP_COMPLETE);
	assert_int_equal(p.told.ended[1].events, 1);
	assert_int_equal(p.told.ended[1].status, 0);
}

static void goes_on_at_the_next_head(void **state)
{
	struct play p = { 0 };
	char *text = with_head(CHAT_JSON);

	send_cut(&p, text, strlen(text) - 10, 4096);
	http_stream__lost(&p.stream);
	send_text(&p, "x\":{}}");
	send_text(&p, text);
	assert_int_equal(p.told.ends, 2);
	assert_int_equal(p.told.ended[0].flags, HTTP_HAD_LOSS);
	check_chat(&p.told.ended[1]);
	/* A connection that ended unseen, and its number in use again. */
	send_cut(&p, text, strlen(text) - 10, 4096);
	send_text(&p, text);
	assert_int_equal(p.told.ends, 4);
	assert_int_equal(p.told.ended[2].flags, 0);
	check_chat(&p.told.ended[3]);
	/* An answer to HEAD: a length, and no body. */
	send_cut(&p, text, strlen(text) - strlen(CHAT_JSON), 4096);
	send_text(&p, text);
	check_chat(&p.told.ended[5]);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_behind_a_gap),
		cmocka_unit_test(never_believes_text_behind_a_gap),
		cmocka_unit_test(reads_a_long_json_in_chunks),
		cmocka_unit_test(reads_events_around_a_gap),
		cmocka_unit_test(reads_an_event_with_a_gap),
		cmocka_unit_test(goes_on_after_a_loss),
		cmocka_unit_test(does_not_join_two_responses_over_a_loss),
		cmocka_unit_test(goes_on_at_the_next_head),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
