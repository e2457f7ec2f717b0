/* SPDX-License-Identifier: BSD-2-Clause */
/* HTTP responses in hostile pieces. Input: per piece a byte of flags, two of size, one of how much
 * of it lies in the gap, then its bytes. Every answer must hold what its header says. */
#include <stdlib.h>
#include <string.h>

#include "probe/engine/wire/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define require(condition) \
	do { \
		if (!(condition)) \
			abort(); \
	} while (0)

enum { PIECE_LOST = 1, PIECE_CLOSES = 2, PIECE_ADDRESS = 4, PIECE_HEADER = 4 };

struct told {
	bool is_open, has_body;
};

static void check(const struct http_response *r)
{
	const struct answer_facts *f = &r->answer;

	require(strnlen(r->request_id, sizeof(r->request_id)) < sizeof(r->request_id));
	require(r->trace_id[0] == '\0' || strlen(r->trace_id) == HTTP_TRACE_BYTES - 1);
	require(strnlen(f->id, sizeof(f->id)) < sizeof(f->id));
	require(strnlen(f->object, sizeof(f->object)) < sizeof(f->object));
	require(strnlen(f->finish_reason, sizeof(f->finish_reason)) < sizeof(f->finish_reason));
	require(!(f->inferred & ~f->known));
	require(!(f->inferred & (ANSWER_ID | ANSWER_ID_CUT)));
	require(!f->inferred || r->flags & (HTTP_HAS_GAP | HTTP_HAD_LOSS));
	require(r->flags & HTTP_NO_HEAD ? !r->status && !r->head_ns : r->status >= 200);
	require(r->events <= r->body_bytes + 1);
}

static void on_head(void *ctx, const struct http_response *r)
{
	struct told *t = ctx;

	check(r);
	require(!t->is_open && !(r->flags & HTTP_NO_HEAD));
	t->is_open = true;
	t->has_body = false;
}

static void on_body(void *ctx, const struct http_response *r)
{
	struct told *t = ctx;

	check(r);
	require(t->is_open || r->flags & HTTP_NO_HEAD);
	require(!t->has_body || r->flags & HTTP_NO_HEAD);
	t->has_body = t->is_open = true;
}

static void on_end(void *ctx, const struct http_response *r)
{
	struct told *t = ctx;

	check(r);
	require(t->is_open || r->flags & HTTP_NO_HEAD);
	t->is_open = false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct http_events EVENTS = { on_head, on_body, on_end };
	struct http_stream h = { 0 };
	struct told told = { 0 };
	uint64_t now_ns = 1;

	while (size >= PIECE_HEADER) {
		size_t n = data[1] | (size_t)data[2] << 8, gap;
		const uint8_t flags = data[0], share = data[3];
		struct wire_piece p = { .time_ns = now_ns++ };

		data += PIECE_HEADER;
		size -= PIECE_HEADER;
		n = n < size ? n : size;
		gap = n * share / 512;
		p.total = n;
		p.head = data;
		p.head_size = gap ? (n - gap) / 2 : n;
		p.tail_size = gap ? n - gap - p.head_size : 0;
		p.tail = p.tail_size ? data + n - p.tail_size : NULL;
		p.address = flags & PIECE_ADDRESS ? (uintptr_t)data : 0;
		data += n;
		size -= n;
		if (flags & PIECE_LOST)
			http_stream__lost(&h);
		http_stream__piece(&h, &p, &EVENTS, &told);
		if (flags & PIECE_CLOSES)
			http_stream__close(&h, now_ns, &EVENTS, &told);
	}
	http_stream__close(&h, now_ns, &EVENTS, &told);
	require(!told.is_open);
	return 0;
}
