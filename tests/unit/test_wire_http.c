/* SPDX-License-Identifier: BSD-2-Clause */
/* HTTP responses as servers send them, whole, in pieces, with gaps, with losses, and hostile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "probe/engine/wire/http.h"

enum { MOST = 8 };

/* What a stream told. */
struct told {
	int heads, bodies, ends;
	struct http_response ended[MOST];
	struct http_response body[MOST]; /* as it was when its first piece had been read */
};

static void on_head(void *ctx, const struct http_response *r)
{
	struct told *t = ctx;

	assert_int_equal(t->heads++, t->ends);
}

static void on_body(void *ctx, const struct http_response *r)
{
	struct told *t = ctx;

	assert_true(t->bodies < MOST);
	t->body[t->bodies++] = *r;
}

static void on_end(void *ctx, const struct http_response *r)
{
	struct told *t = ctx;

	assert_true(t->ends < MOST);
	t->ended[t->ends++] = *r;
}

static const struct http_events EVENTS = { on_head, on_body, on_end };

struct play {
	struct http_stream stream;
	struct told told;
	uint64_t now_ns;
};

/* A piece of @size bytes of which at most @room are captured: half at each end. */
static void send_cut(struct play *p, const char *bytes, size_t size, size_t room)
{
	size_t head = size <= room ? size : room / 2, tail = size <= room ? 0 : room - head;
	char *exact = malloc(head + 1), *end = malloc(tail + 1);
	struct wire_piece piece = {
		.time_ns = ++p->now_ns, .total = size, .head_size = head, .tail_size = tail
	};

	/* Copies of that size, so that a sanitizer sees a read behind them. */
	exact = realloc(exact, head ? head : 1);
	end = realloc(end, tail ? tail : 1);
	memcpy(exact, bytes, head);
	memcpy(end, bytes + size - tail, tail);
	piece.head = (const uint8_t *)exact;
	piece.tail = tail ? (const uint8_t *)end : NULL;
	http_stream__piece(&p->stream, &piece, &EVENTS, &p->told);
	free(exact);
	free(end);
}

static void send_text(struct play *p, const char *text)
{
	send_cut(p, text, strlen(text), strlen(text));
}

/* One event as a chunk of its own. */
static void send_event(struct play *p, const char *data)
{
	char chunk[4096];

	snprintf(chunk, sizeof(chunk), "%zx\r\ndata: %s\n\n\r\n", strlen(data) + 8, data);
	send_text(p, chunk);
}

static void assert_usage(const struct http_response *r, uint64_t prompt, uint64_t completion)
{
	assert_true(r->answer.known & ANSWER_PROMPT && r->answer.known & ANSWER_COMPLETION);
	assert_int_equal(r->answer.prompt_tokens, prompt);
	assert_int_equal(r->answer.completion_tokens, completion);
	if (r->answer.known & ANSWER_TOTAL)
		assert_int_equal(r->answer.total_tokens, prompt + completion);
}

#define CHAT_JSON \
	"{\"id\":\"my-req-42\",\"choices\":[{\"finish_reason\":\"length\",\"index\":0," \
	"\"message\":{\"content\":\"\\\"id\\\":\\\"evil\\\",\\\"usage\\\":{\\\"prompt_tokens\\\"" \
	":1} \\\\\",\"role\":\"assistant\"}}],\"created\":1754300000,\"model\":\"m\"," \
	"\"object\":\"chat.completion\",\"usage\":{\"completion_tokens\":8,\"prompt_tokens\":13," \
	"\"total_tokens\":21}}"

static const char JSON_HEAD[] = "HTTP/1.1 200 OK\r\ndate: Tue, 04 Aug 2026 10:00:00 GMT\r\n"
				"server: uvicorn\r\ncontent-length: %zu\r\n"
				"content-type: application/json\r\n"
				"x-request-id: my-req-42\r\n\r\n";
static const char EVENTS_HEAD[] =
	"HTTP/1.1 200 OK\r\ndate: Tue, 04 Aug 2026 10:00:00 GMT\r\nserver: uvicorn\r\n"
	"content-type: text/event-stream; charset=utf-8\r\nX-Request-Id:  abc \r\n"
	"traceparent: 00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01\r\n"
	"transfer-encoding: chunked\r\n\r\n";

static char *with_head(const char *json)
{
	char *text = malloc(sizeof(JSON_HEAD) + strlen(json) + 32);

	sprintf(text, JSON_HEAD, strlen(json));
	strcat(text, json);
	return text;
}

static void check_chat(const struct http_response *r)
{
	assert_int_equal(r->status, 200);
	assert_int_equal(r->flags, HTTP_COMPLETE);
	assert_int_equal(r->body, HTTP_BODY_JSON);
	assert_string_equal(r->request_id, "my-req-42");
	assert_string_equal(r->answer.id, "my-req-42");
	assert_string_equal(r->answer.object, "chat.completion");
	assert_string_equal(r->answer.finish_reason, "length");
	assert_usage(r, 13, 8);
	assert_int_equal(r->answer.inferred, 0);
	assert_false(r->answer.known & (ANSWER_CACHED | ANSWER_ERROR | ANSWER_ID_CUT));
	assert_int_equal(r->body_bytes, strlen(CHAT_JSON));
}

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

static const char *const STREAM[] = {
	"{\"id\":\"abc\",\"choices\":[{\"delta\":{\"role\":\"assistant\"},\"index\":0}],"
	"\"created\":1,\"model\":\"m\",\"object\":\"chat.completion.chunk\","
	"\"system_fingerprint\":\"\"}",
	"{\"id\":\"abc\",\"choices\":[{\"delta\":{\"content\":\"data: {\\n\\n\"},\"index\":0,"
	"\"finish_reason\":null}],\"object\":\"chat.completion.chunk\",\"usage\":null}",
	"{\"id\":\"abc\",\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\",\"index\":0}],"
	"\"object\":\"chat.completion.chunk\",\"usage\":{\"completion_tokens\":5,"
	"\"prompt_tokens\":7,\"total_tokens\":12,\"prompt_tokens_details\":"
	"{\"cached_tokens\":4}}}",
};

static void check_stream(const struct http_response *r)
{
	assert_int_equal(r->body, HTTP_BODY_EVENTS);
	assert_string_equal(r->request_id, "abc");
	assert_string_equal(r->trace_id, "0af7651916cd43dd8448eb211c80319c");
	assert_string_equal(r->answer.id, "abc");
	assert_string_equal(r->answer.object, "chat.completion.chunk");
	assert_string_equal(r->answer.finish_reason, "stop");
	assert_usage(r, 7, 5);
	assert_true(r->answer.known & ANSWER_CACHED);
	assert_int_equal(r->answer.cached_tokens, 4);
	assert_int_equal(r->answer.inferred, 0);
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
		cmocka_unit_test(reads_behind_a_gap),
		cmocka_unit_test(never_believes_text_behind_a_gap),
		cmocka_unit_test(reads_a_long_json_in_chunks),
		cmocka_unit_test(reads_events_around_a_gap),
		cmocka_unit_test(reads_an_event_with_a_gap),
		cmocka_unit_test(goes_on_after_a_loss),
		cmocka_unit_test(does_not_join_two_responses_over_a_loss),
		cmocka_unit_test(goes_on_at_the_next_head),
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
