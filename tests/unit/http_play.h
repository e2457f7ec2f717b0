/* SPDX-License-Identifier: BSD-2-Clause */
/* A connection of a server, and what was told of it, for the tests of engine/wire/http. */
#ifndef MP_TESTS_UNIT_HTTP_PLAY_H
#define MP_TESTS_UNIT_HTTP_PLAY_H

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
static inline void on_head(void *ctx, const struct http_response *r)
{
	struct told *t = ctx;

	assert_int_equal(t->heads++, t->ends);
}

static inline void on_body(void *ctx, const struct http_response *r)
{
	struct told *t = ctx;

	assert_true(t->bodies < MOST);
	t->body[t->bodies++] = *r;
}

static inline void on_end(void *ctx, const struct http_response *r)
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
static inline void send_cut(struct play *p, const char *bytes, size_t size, size_t room)
{
	size_t head = size <= room ? size : room / 2, tail = size <= room ? 0 : room - head;
	char *exact = malloc(head + 1), *end = malloc(tail + 1);
	struct wire_piece piece = {
		.time_ns = ++p->now_ns, .total = size, .head_size = head, .tail_size = tail
	};

	/* Copies of that size, so that a sanitizer sees a read behind them. */
	exact = realloc(exact, head ? head : 1);
	end = realloc(end, tail ? tail : 1);
	assert_true(head <= size && tail <= size);
	memcpy(exact, bytes, head);
	memcpy(end, bytes + (size - tail), tail);
	piece.head = (const uint8_t *)exact;
	piece.tail = tail ? (const uint8_t *)end : NULL;
	http_stream__piece(&p->stream, &piece, &EVENTS, &p->told);
	free(exact);
	free(end);
}

static inline void send_text(struct play *p, const char *text)
{
	send_cut(p, text, strlen(text), strlen(text));
}

/* One event as a chunk of its own. */
static inline void send_event(struct play *p, const char *data)
{
	char chunk[4096];

	snprintf(chunk, sizeof(chunk), "%zx\r\ndata: %s\n\n\r\n", strlen(data) + 8, data);
	send_text(p, chunk);
}

static inline void assert_usage(const struct http_response *r, uint64_t prompt, uint64_t completion)
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

static inline char *with_head(const char *json)
{
	char *text = malloc(sizeof(JSON_HEAD) + strlen(json) + 32);

	sprintf(text, JSON_HEAD, strlen(json));
	strcat(text, json);
	return text;
}

static inline void check_chat(const struct http_response *r)
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

static inline void check_stream(const struct http_response *r)
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

#endif
