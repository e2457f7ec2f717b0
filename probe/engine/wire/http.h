/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The HTTP/1.1 responses that a server sends on one connection, from the pieces that it sends.
 *
 * Of each response: what names the request, when it began and ended, and the facts of its answer
 * (answer.h); no text. Anything may be missing: a middle of a piece (its gap), whole pieces
 * (http_stream__lost()), the beginning (attached late). What is then known is said by the flags
 * below, and reading goes on at the next piece that begins with a status line, or, in a body by
 * chunks, at the next piece that is made of whole chunks. A stream of events that began unseen is
 * found by its chunks too: a response without a head.
 *
 * A status line at the beginning of a piece is always the next response, for a connection may
 * have ended unseen and its number be in use again; but not inside a body that may be anything,
 * which is neither JSON nor events.
 */
#ifndef MP_ENGINE_WIRE_HTTP_H
#define MP_ENGINE_WIRE_HTTP_H

#include "probe/engine/wire/answer.h"
#include "probe/engine/wire/piece.h"
#include "probe/engine/wire/sse.h"

enum {
	HTTP_ID_BYTES = 128,   /* with the final NUL */
	HTTP_TRACE_BYTES = 33, /* 32 hexadecimal digits and NUL */
	HTTP_VALUE_BYTES = 128,
	HTTP_NAME_BYTES = 20,
	HTTP_STRANGE_PIECES = 8, /* that look like nothing, until a connection is not HTTP */
	HTTP_HEAD_LIMIT = 65536, /* bytes of one response's head */
};

enum http_body { HTTP_BODY_NONE, HTTP_BODY_JSON, HTTP_BODY_EVENTS, HTTP_BODY_OTHER };

/* Bits of http_response.flags. */
enum http_flag {
	HTTP_NO_HEAD = 1 << 0,  /* began unseen: status, headers and head_ns are unknown */
	HTTP_HAS_GAP = 1 << 1,  /* bytes of it were not captured: @events is a lower bound */
	HTTP_HAD_LOSS = 1 << 2, /* pieces of it may be missing; as HTTP_HAS_GAP */
	HTTP_COMPLETE = 1 << 3, /* its end was seen, as its framing says */
	HTTP_DONE = 1 << 4,     /* "data: [DONE]" was there */
	HTTP_ENCODED = 1 << 5,  /* compressed: the body cannot be read */
	HTTP_ID_CUT = 1 << 6,   /* @request_id holds only the first bytes of a longer one */
};

/* Plain data. Strings as in answer.h; "" where unknown. */
struct http_response {
	uint64_t head_ns;    /* of the piece that began it; 0 with HTTP_NO_HEAD */
	uint64_t body_ns;    /* of the piece with the first byte of its body; 0: none yet */
	uint64_t last_ns;    /* of the last piece */
	uint64_t body_bytes; /* of the content, without those lost */
	uint32_t events;     /* of an event stream: those with data, without "[DONE]" */
	uint16_t status;     /* 200, ...; 0 with HTTP_NO_HEAD */
	uint8_t flags;       /* http_flag */
	uint8_t body;        /* http_body */
	char request_id[HTTP_ID_BYTES];  /* x-request-id */
	char trace_id[HTTP_TRACE_BYTES]; /* of traceparent, in lower case */
	struct answer_facts answer;
};

/* What the owner of a stream is told, in this order; @r is valid during the call. Any may be
 * NULL. Of a response with HTTP_NO_HEAD no head is told, of one without content no body; responses
 * 1xx are not told. */
struct http_events {
	void (*head)(void *ctx, const struct http_response *r); /* the headers are read */
	void (*body)(void *ctx, const struct http_response *r); /* the first piece of the body is */
	void (*end)(void *ctx, const struct http_response *r);  /* complete, or given up */
};

enum http_verdict { HTTP_UNSURE, HTTP_YES, HTTP_NO };

/* One connection. Opaque; zero-initialise. Holds no memory of its own, needs no free. */
struct http_stream {
	struct http_response response;
	struct wire_repeat repeat;
	uint64_t left;   /* of the body or chunk; in a chunk's size: the size so far */
	uint64_t now_ns; /* of the piece that is read */
	uint8_t state, verdict, strange;
	uint8_t digits; /* of a chunk's size */
	bool is_active; /* @response has begun and not ended */
	bool is_chunked, has_length, body_told;
	uint32_t head_bytes;
	union {
		struct { /* while a head is read */
			uint8_t name_size, matched;
			bool in_value, is_first;
			uint16_t value_size;
			char name[HTTP_NAME_BYTES], value[HTTP_VALUE_BYTES];
		} line;
		struct sse_scan events; /* HTTP_BODY_EVENTS; HTTP_BODY_JSON: its @json */
	} u;
};

_Static_assert(sizeof(struct http_stream) < 1024, "a connection costs less than 1 KiB");

/* The next piece of the connection. */
void http_stream__piece(struct http_stream *h, const struct wire_piece *p,
			const struct http_events *events, void *ctx);
/* Pieces are missing before the next one. */
void http_stream__lost(struct http_stream *h);
/* The connection is over, at @time_ns: ends a response, also one whose end is just that. The
 * stream may then be used for another connection. */
void http_stream__close(struct http_stream *h, uint64_t time_ns, const struct http_events *events,
			void *ctx);
/* Whether it carries responses. HTTP_NO after HTTP_STRANGE_PIECES pieces that do not look like
 * it: its pieces need not be captured; should one begin with a status line, it is HTTP_YES. */
enum http_verdict http_stream__verdict(const struct http_stream *h);

#endif
