/* SPDX-License-Identifier: BSD-2-Clause */
/* HTTP responses as servers send them, whole, in pieces, twice, and hostile. */
#include "tests/unit/http_play.h"

static void reads_json(void **state)
{
	struct play p = { 0 };
	char *text = with_head(CHAT_JSON);
	char *body = strstr(text, "\r\n\r\n") + 4;

	send_cut(&p, text, body - text, 1984);
	assert_int_equal(p.told.heads, 1);
	assert_int_equal(p.told.bodies, 0);
	send_text(&p, body);
	assert_int_equal(p.told.bodies, 1);
	assert_int_equal(p.told.ends, 1);
	check_chat(&p.told.ended[0]);
	assert_int_equal(p.told.ended[0].head_ns, 1);
	assert_int_equal(p.told.ended[0].body_ns, 2);
	assert_int_equal(p.told.ended[0].last_ns, 2);
	assert_int_equal(http_stream__verdict(&p.stream), HTTP_YES);
	free(text);
}

static void reads_bytes_one_by_one(void **state)
{
	struct play p = { 0 };
	char *text = with_head(CHAT_JSON);

	for (int i = 0; i < 2; i++)
		for (size_t at = 0; text[at]; at++)
			send_cut(&p, text + at, 1, 1);
	assert_int_equal(p.told.ends, 2);
	check_chat(&p.told.ended[0]);
	check_chat(&p.told.ended[1]);
	free(text);
}

static void reads_pipelined_responses(void **state)
{
	static const char EMPTY[] = "HTTP/1.1 204 No Content\r\nserver: x\r\n\r\n";
	struct play p = { 0 };
	char *text = with_head(CHAT_JSON);
	char all[4096];

	snprintf(all, sizeof(all), "%s%sHTTP/1.1 100 Continue\r\n\r\n%s", text, EMPTY, text);
	send_text(&p, all);
	assert_int_equal(p.told.ends, 3);
	check_chat(&p.told.ended[0]);
	assert_int_equal(p.told.ended[1].status, 204);
	assert_int_equal(p.told.ended[1].flags, HTTP_COMPLETE);
	assert_int_equal(p.told.ended[1].answer.known, 0);
	check_chat(&p.told.ended[2]);
	free(text);
}

static void reads_event_streams(void **state)
{
	struct play p = { 0 };

	send_text(&p, EVENTS_HEAD);
	for (int i = 0; i < 3; i++)
		send_event(&p, STREAM[i]);
	assert_string_equal(p.told.body[0].answer.id, "abc");
	assert_false(p.told.body[0].answer.known & ANSWER_FINISH);
	send_event(&p, "[DONE]");
	assert_int_equal(p.told.ends, 0);
	send_text(&p, "0\r\n\r\n");
	assert_int_equal(p.told.ends, 1);
	check_stream(&p.told.ended[0]);
	assert_int_equal(p.told.ended[0].events, 3);
	assert_int_equal(p.told.ended[0].flags, HTTP_COMPLETE | HTTP_DONE);
	assert_int_equal(p.told.ended[0].body_ns, 2);
	assert_int_equal(p.told.ended[0].last_ns, 6);
}

/* Events over chunks over pieces, all of other sizes; line ends of every kind; comments. */
static void reads_events_however_split(void **state)
{
	char events[4096], wire[16384];

	snprintf(events, sizeof(events),
		 ": ping\r\n\r\ndata: %s\r\n\r\nevent: x\rid: 7\rdata:%s\r\rdata: %s\n\ndata: "
		 "[DONE]\n\n",
		 STREAM[0], STREAM[1], STREAM[2]);
	for (size_t chunk = 1; chunk < 40; chunk += 3) {
		for (size_t step = 1; step < 60; step += 7) {
			struct play p = { 0 };
			size_t size = sprintf(wire, "%s", EVENTS_HEAD), left = strlen(events);

			for (const char *e = events; left; left -= chunk < left ? chunk : left) {
				size_t n = chunk < left ? chunk : left;

				size += sprintf(wire + size, "%zX;ext=1\r\n%.*s\r\n", n, (int)n, e);
				e += n;
			}
			size += sprintf(wire + size, "000\r\nx-trailer: 1\r\n\r\n");
			for (size_t at = 0; at < size; at += step)
				send_cut(&p, wire + at, step < size - at ? step : size - at, step);
			assert_int_equal(p.told.ends, 1);
			check_stream(&p.told.ended[0]);
			assert_int_equal(p.told.ended[0].events, 3);
			assert_int_equal(p.told.ended[0].flags, HTTP_COMPLETE | HTTP_DONE);
			assert_int_equal(p.told.ended[0].body_bytes, strlen(events));
		}
	}
}

static void keeps_text_that_looks_like_a_head(void **state)
{
	struct play p = { 0 };

	send_text(&p, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 40\r\n\r\n");
	send_text(&p, "says: ");
	send_text(&p, "HTTP/1.1 200 OK\r\nx-request-id: evil");
	assert_int_equal(p.told.ends, 1);
	assert_string_equal(p.told.ended[0].request_id, "");
	assert_int_equal(p.told.ended[0].body, HTTP_BODY_OTHER);
	assert_int_equal(p.told.ended[0].body_bytes, 40);
}

static void finds_a_stream_that_began_before(void **state)
{
	struct play p = { 0 };

	send_event(&p, STREAM[1]);
	assert_int_equal(p.told.heads, 0);
	assert_int_equal(p.told.bodies, 1);
	send_event(&p, STREAM[2]);
	send_text(&p, "0\r\n\r\n");
	assert_int_equal(p.told.ends, 1);
	assert_int_equal(p.told.ended[0].flags, HTTP_NO_HEAD | HTTP_HAD_LOSS | HTTP_COMPLETE);
	assert_string_equal(p.told.ended[0].answer.id, "abc");
	assert_usage(&p.told.ended[0], 7, 5);
}

static void ends_with_the_connection(void **state)
{
	struct play p = { 0 };

	send_text(&p, "HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
	for (int i = 0; i < 3; i++) {
		char event[512];

		snprintf(event, sizeof(event), "data: %s\n\n", STREAM[i]);
		send_text(&p, event);
	}
	assert_int_equal(p.told.ends, 0);
	http_stream__close(&p.stream, 99, &EVENTS, &p.told);
	assert_int_equal(p.told.ends, 1);
	assert_int_equal(p.told.ended[0].flags, HTTP_COMPLETE);
	assert_int_equal(p.told.ended[0].events, 3);
	assert_usage(&p.told.ended[0], 7, 5);
	/* A client that left: what its framing promised did not come. */
	send_text(&p, EVENTS_HEAD);
	p.told.heads = p.told.ends;
	send_event(&p, STREAM[0]);
	http_stream__close(&p.stream, 100, &EVENTS, &p.told);
	assert_int_equal(p.told.ends, 2);
	assert_int_equal(p.told.ended[1].flags, 0);
	assert_int_equal(http_stream__verdict(&p.stream), HTTP_UNSURE);
}

static void says_what_is_not_http(void **state)
{
	struct play p = { 0 };

	for (int i = 0; i < HTTP_STRANGE_PIECES; i++) {
		assert_int_equal(http_stream__verdict(&p.stream), HTTP_UNSURE);
		send_text(&p, i % 2 ? "POST /v1 HTTP/1.1\r\n\r\n" : "\x16\x03\x01");
	}
	assert_int_equal(http_stream__verdict(&p.stream), HTTP_NO);
	send_event(&p, STREAM[0]);
	assert_int_equal(p.told.bodies, 0);
	send_text(&p, "HTTP/1.1 200 OK\r\ncontent-");
	send_text(&p, "length: 0\r\n\r\n");
	assert_int_equal(http_stream__verdict(&p.stream), HTTP_YES);
	assert_int_equal(p.told.ends, 1);
	assert_int_equal(p.told.ended[0].body, HTTP_BODY_NONE);
	send_text(&p, "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n");
	assert_int_equal(http_stream__verdict(&p.stream), HTTP_NO);
	assert_int_equal(p.told.ends, 1);
}

/* Short writes: the process offers the rest, or all of it, again. */
static void reads_what_is_offered_twice_once(void **state)
{
	struct play p = { 0 };
	char *text = with_head(CHAT_JSON);
	struct wire_piece piece = wire_piece__whole(text, strlen(text) - 40, 1);

	piece.address = 0x7f0000001000;
	http_stream__piece(&p.stream, &piece, &EVENTS, &p.told);
	http_stream__piece(&p.stream, &piece, &EVENTS, &p.told);
	piece.head += 300;
	piece.address += 300;
	piece.head_size = piece.total -= 300;
	http_stream__piece(&p.stream, &piece, &EVENTS, &p.told);
	piece.head += 20;
	piece.address += 20;
	piece.head_size = piece.total -= 20;
	http_stream__piece(&p.stream, &piece, &EVENTS, &p.told);
	piece = wire_piece__whole(text + strlen(text) - 40, 40, 2);
	piece.address = 0x7f0000005000;
	http_stream__piece(&p.stream, &piece, &EVENTS, &p.told);
	assert_int_equal(p.told.ends, 1);
	check_chat(&p.told.ended[0]);
	free(text);
}

/* The same token twice is the same bytes twice, often at the same place. */
static void counts_equal_events(void **state)
{
	struct play p = { 0 };
	char chunk[512];
	struct wire_piece piece;

	send_text(&p, EVENTS_HEAD);
	snprintf(chunk, sizeof(chunk), "%zx\r\ndata: %s\n\n\r\n", strlen(STREAM[1]) + 8, STREAM[1]);
	piece = wire_piece__whole(chunk, strlen(chunk), 2);
	piece.address = 0x7f0000001000;
	for (int i = 0; i < 3; i++)
		http_stream__piece(&p.stream, &piece, &EVENTS, &p.told);
	send_text(&p, "0\r\n\r\n");
	assert_int_equal(p.told.ended[0].events, 3);
}

static void marks_what_is_cut_or_encoded(void **state)
{
	struct play p = { 0 };
	char text[1024], id[201];
	const struct http_response *r = p.told.ended;

	memset(id, 'i', 200);
	id[200] = '\0';
	snprintf(text, sizeof(text),
		 "HTTP/1.1 200 OK\r\nx-request-id: %s\r\ncontent-type: "
		 "application/json\r\ncontent-length: 209\r\n\r\n{\"id\":\"%s\"}",
		 id, id);
	send_text(&p, text);
	assert_int_equal(r[0].flags, HTTP_COMPLETE | HTTP_ID_CUT);
	assert_int_equal(strlen(r[0].request_id), HTTP_ID_BYTES - 1);
	assert_int_equal(r[0].answer.known, ANSWER_ID | ANSWER_ID_CUT);
	assert_int_equal(strlen(r[0].answer.id), ANSWER_ID_BYTES - 1);
	send_text(&p, "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-type: "
		      "application/json\r\ncontent-length: 10\r\n\r\n{\"id\":\"a\"}");
	assert_int_equal(r[1].flags, HTTP_COMPLETE | HTTP_ENCODED);
	assert_int_equal(r[1].body, HTTP_BODY_OTHER);
	assert_int_equal(r[1].answer.known, 0);
	send_text(&p, "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
		      "content-length: 30\r\n\r\n{\"error\":{\"message\":\"\",\"id\":1}}");
	assert_int_equal(r[2].status, 400);
	assert_int_equal(r[2].answer.known, ANSWER_ERROR);
}

/* A JSON text on its own: its facts as "id|object|finish|prompt", with '-' for unknown. */
static void assert_facts(const char *json, const char *expected)
{
	char *text = with_head(json);
	struct play p = { 0 };
	const struct answer_facts *f = &p.told.ended[0].answer;
	char facts[256], prompt[32] = "-";

	send_text(&p, text);
	assert_int_equal(p.told.ends, 1);
	if (f->known & ANSWER_PROMPT)
		snprintf(prompt, sizeof(prompt), "%lu", (unsigned long)f->prompt_tokens);
	snprintf(facts, sizeof(facts), "%s|%s|%s|%s", f->known & ANSWER_ID ? f->id : "-",
		 f->known & ANSWER_OBJECT ? f->object : "-",
		 f->known & ANSWER_FINISH ? f->finish_reason : "-", prompt);
	assert_string_equal(facts, expected);
	free(text);
}

static void reads_json_as_it_is(void **state)
{
	assert_facts("{ \"id\" : \"a\\\"\\\\\\/\\n\\u00e9\\ud83d\\ude00\\ud83dx\\u0000\" }",
		     "a\"\\/?\xc3\xa9\xf0\x9f\x98\x80?x?|-|-|-");
	assert_facts("{\"x\":{\"id\":\"evil\"},\"y\":[{\"id\":\"evil\"}],\"id\":\"good\"}",
		     "good|-|-|-");
	assert_facts("{\"id\":\"first\",\"id\":\"second\"}", "first|-|-|-");
	assert_facts("{\"id\":7,\"usage\":{\"prompt_tokens\":-1},\"object\":[\"x\"]}", "-|-|-|-");
	assert_facts("{\"usage\":{\"prompt_tokens\":1.5}}", "-|-|-|-");
	assert_facts("{\"usage\":{\"prompt_tokens\":1e3}}", "-|-|-|-");
	assert_facts("{\"usage\":{\"prompt_tokens\":1234567890123456}}", "-|-|-|-");
	assert_facts("{\"usage\":{\"prompt_tokens\":12 }}", "-|-|-|12");
	assert_facts("{\"choices\":{\"finish_reason\":\"no\"}}", "-|-|-|-");
	assert_facts("{\"choices\":[[{\"finish_reason\":\"no\"}]]}", "-|-|-|-");
	assert_facts("{\"choices\":[],\"object\":\"o\"}", "-|o|-|-");
	assert_facts("{\"choices\":[{},{\"finish_reason\":\"a\"},{\"finish_reason\":\"b\"},"
		     "{\"finish_reason\":null}]}",
		     "-|-|b|-");
	assert_facts("[{\"id\":\"x\"}]", "-|-|-|-");
	assert_facts("{\"id\":\"a\"]", "a|-|-|-");
	assert_facts("{\"id\" \"a\"}", "-|-|-|-");
	assert_facts("{\"id\":\"\\x\"}", "-|-|-|-");
	assert_facts("{\"status\":\"ok\"}", "-|-|-|-");
	assert_facts("{\"id\":\"msg_1\",\"type\":\"message\",\"stop_reason\":\"end_turn\","
		     "\"usage\":{\"input_tokens\":6,\"output_tokens\":2}}",
		     "msg_1|-|end_turn|6");
}

static void survives_nonsense(void **state)
{
	static const char *const PIECES[] = {
		"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffff\r\n",
		"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
		"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
		"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
		"HTTP/1.1 2x0 OK\r\n\r\n",
		"HTTP/1.\r\n\r\n",
		"\r\n",
		"0\r\n\r\n",
	};
	struct play p = { 0 };
	struct wire_piece wrong = wire_piece__whole("HTTP", 4, 1);

	for (size_t i = 0; i < sizeof(PIECES) / sizeof(PIECES[0]); i++)
		send_text(&p, PIECES[i]);
	assert_int_equal(p.told.ends, 1); /* the first one's head was fine */
	assert_int_equal(p.told.ended[0].flags, HTTP_HAD_LOSS);
	wrong.total = 2;
	http_stream__piece(&p.stream, &wrong, &EVENTS, &p.told);
	wrong.total = 8;
	wrong.tail_size = 5;
	http_stream__piece(&p.stream, &wrong, &EVENTS, &p.told);
	/* A head without end is given up. */
	send_text(&p, "HTTP/1.1 200 OK\r\nx: ");
	for (int i = 0; i < 2 * HTTP_HEAD_LIMIT / 10; i++)
		send_text(&p, "aaaaaaaaaa");
	send_text(&p, "\r\ncontent-length: 0\r\n\r\n");
	assert_int_equal(p.told.heads, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_json),
		cmocka_unit_test(reads_bytes_one_by_one),
		cmocka_unit_test(reads_pipelined_responses),
		cmocka_unit_test(reads_event_streams),
		cmocka_unit_test(reads_events_however_split),
		cmocka_unit_test(keeps_text_that_looks_like_a_head),
		cmocka_unit_test(finds_a_stream_that_began_before),
		cmocka_unit_test(ends_with_the_connection),
		cmocka_unit_test(says_what_is_not_http),
		cmocka_unit_test(reads_what_is_offered_twice_once),
		cmocka_unit_test(counts_equal_events),
		cmocka_unit_test(marks_what_is_cut_or_encoded),
		cmocka_unit_test(reads_json_as_it_is),
		cmocka_unit_test(survives_nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
