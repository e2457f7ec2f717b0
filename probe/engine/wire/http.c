/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/wire/http_internal.h"

#include <string.h>

enum state {
	IDLE, /* where a response may begin */
	HEAD,
	LENGTH, /* in a body of known length */
	TILL_CLOSE,
	CHUNK_SIZE,
	CHUNK_EXTENSION, /* behind the size */
	CHUNK_DATA,
	CHUNK_END, /* behind the data */
	TRAILER,
	LOST, /* in a body, but not where */
};

enum { CHUNK_DIGITS = 8, MAX_CHAINS = 64 };

/* Whom to tell. */
struct listener {
	const struct http_events *events;
	void *ctx;
};

/* --- a response begins and ends ------------------------------------------------------------- */

static void tell_body(struct http_stream *h, const struct listener *to)
{
	if (!h->is_active || h->body_told || !h->response.body_ns)
		return;
	h->body_told = true;
	if (to->events->body)
		to->events->body(to->ctx, &h->response);
}

/* Ends the response, if there is one; @flags is HTTP_COMPLETE or 0. */
static void end_response(struct http_stream *h, uint8_t flags, const struct listener *to)
{
	tell_body(h, to);
	h->state = IDLE;
	if (!h->is_active)
		return;
	h->response.flags |= flags;
	h->is_active = false;
	if (to->events->end)
		to->events->end(to->ctx, &h->response);
}

static void complete(struct http_stream *h, const struct listener *to)
{
	h->response.last_ns = h->now_ns;
	end_response(h, HTTP_COMPLETE, to);
}

static void begin_head(struct http_stream *h)
{
	http_head__begin(h);
	h->response.head_ns = h->now_ns;
	h->state = HEAD;
}

/* A stream of events whose beginning was not seen. */
static void begin_headless(struct http_stream *h)
{
	http_head__begin(h);
	memset(&h->u, 0, sizeof(h->u));
	h->response.flags = HTTP_NO_HEAD | HTTP_HAD_LOSS;
	h->response.body = HTTP_BODY_EVENTS;
	h->is_chunked = true;
	h->is_active = true;
	h->verdict = HTTP_YES;
}

static void head_ended(struct http_stream *h, const struct listener *to)
{
	struct http_response *r = &h->response;
	bool is_switch = r->status == 101;

	h->verdict = is_switch ? HTTP_NO : HTTP_YES;
	h->strange = 0;
	h->state = IDLE;
	if (r->status < 200)
		return;
	memset(&h->u, 0, sizeof(h->u));
	if (h->is_chunked)
		h->left = 0;
	h->digits = 0;
	h->is_active = true;
	r->last_ns = h->now_ns;
	if (r->status == 204 || r->status == 304 || (h->has_length && !h->is_chunked && !h->left))
		r->body = HTTP_BODY_NONE;
	else if (r->body == HTTP_BODY_NONE || r->flags & HTTP_ENCODED)
		r->body = HTTP_BODY_OTHER;
	if (r->body == HTTP_BODY_JSON)
		answer__begin(&h->u.events.json);
	h->state = h->is_chunked ? CHUNK_SIZE : h->has_length ? LENGTH : TILL_CLOSE;
	if (to->events->head)
		to->events->head(to->ctx, r);
	if (r->body == HTTP_BODY_NONE)
		complete(h, to);
}

/* --- bodies --------------------------------------------------------------------------------- */

/* The event that is read has another id: it belongs to a response whose head was not seen, as do
 * the @rest bytes of the body that come next. */
static void change_response(struct http_stream *h, size_t rest, const struct listener *to)
{
	struct sse_scan scan = h->u.events;
	struct answer_facts *f = &h->response.answer;
	uint8_t state = h->state;
	uint64_t left = h->left;

	scan.events = 1;
	scan.json.other_id = false;
	if (h->response.events)
		h->response.events--;
	h->response.body_bytes -= rest;
	end_response(h, 0, to);
	begin_headless(h);
	h->state = state;
	h->left = left;
	h->u.events = scan;
	h->response.body_ns = h->now_ns;
	h->response.body_bytes = rest;
	memcpy(f->id, scan.json.text, sizeof(f->id));
	f->known = ANSWER_ID | (scan.json.text_size >= sizeof(f->id) ? ANSWER_ID_CUT : 0);
}

static void feed_events(struct http_stream *h, const uint8_t *bytes, size_t size,
			const struct listener *to)
{
	size_t at = 0;

	while (at < size) {
		at += sse__feed(&h->u.events, &h->response.answer, bytes + at, size - at);
		h->response.events = h->u.events.events;
		if (h->u.events.json.other_id)
			change_response(h, size - at, to);
	}
	if (h->u.events.done)
		h->response.flags |= HTTP_DONE;
}

static void feed_body(struct http_stream *h, const uint8_t *bytes, size_t size,
		      const struct listener *to)
{
	struct answer_scan *json = &h->u.events.json;

	if (!h->response.body_ns)
		h->response.body_ns = h->now_ns;
	h->response.body_bytes += size;
	if (h->response.body == HTTP_BODY_EVENTS)
		feed_events(h, bytes, size, to);
	else if (h->response.body == HTTP_BODY_JSON && answer__is_cut(json))
		answer__tail(json, &h->response.answer, bytes, size);
	else if (h->response.body == HTTP_BODY_JSON)
		answer__feed(json, &h->response.answer, bytes, size);
}

static void cut_body(struct http_stream *h)
{
	if (h->response.body == HTTP_BODY_EVENTS)
		sse__gap(&h->u.events);
	else if (h->response.body == HTTP_BODY_JSON)
		answer__gap(&h->u.events.json);
}

/* --- framing: each takes bytes and returns how many, or 0 where they make no sense ----------- */

static size_t take_head(struct http_stream *h, const uint8_t *bytes, size_t size,
			const struct listener *to)
{
	for (size_t i = 0; i < size; i++) {
		enum http_head_end end = http_head__feed(h, bytes[i]);

		if (end == HEAD_NONSENSE)
			return 0;
		if (end == HEAD_ENDED) {
			head_ended(h, to);
			return i + 1;
		}
	}
	return size;
}

static size_t take_data(struct http_stream *h, const uint8_t *bytes, size_t size,
			const struct listener *to)
{
	if (size > h->left)
		size = h->left;
	feed_body(h, bytes, size, to);
	h->left -= size;
	if (!h->left && h->state == LENGTH)
		complete(h, to);
	else if (!h->left)
		h->state = CHUNK_END;
	return size;
}

static int digit_of(uint8_t c)
{
	uint8_t lower = c | 0x20;

	if (c >= '0' && c <= '9')
		return c - '0';
	return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static size_t take_chunk_size(struct http_stream *h, uint8_t c)
{
	int digit = digit_of(c);

	if (c == '\n' && h->digits) {
		h->state = h->left ? CHUNK_DATA : TRAILER;
		h->digits = 0;
		return 1;
	}
	if (h->state == CHUNK_EXTENSION)
		return c != '\n';
	if (digit >= 0 && h->digits < CHUNK_DIGITS) {
		h->left = h->left << 4 | digit;
		h->digits++;
		return 1;
	}
	if (!h->digits || (c != '\r' && c != ';' && c != ' '))
		return 0;
	h->state = CHUNK_EXTENSION;
	return 1;
}

static size_t take_chunk_end(struct http_stream *h, uint8_t c)
{
	if (c == '\r' && !h->digits) {
		h->digits = 1;
		return 1;
	}
	if (c != '\n')
		return 0;
	h->digits = 0;
	h->state = CHUNK_SIZE;
	return 1;
}

/* Lines behind the last chunk, up to an empty one; @digits: whether this one is not. */
static size_t take_trailer(struct http_stream *h, uint8_t c, const struct listener *to)
{
	if (c == '\n' && !h->digits)
		complete(h, to);
	else if (c != '\r')
		h->digits = c != '\n';
	return 1;
}

static size_t take(struct http_stream *h, const uint8_t *bytes, size_t size,
		   const struct listener *to)
{
	switch ((enum state)h->state) {
	case IDLE:
		begin_head(h);
		return take_head(h, bytes, size, to);
	case HEAD:
		return take_head(h, bytes, size, to);
	case LENGTH:
	case CHUNK_DATA:
		return take_data(h, bytes, size, to);
	case TILL_CLOSE:
		feed_body(h, bytes, size, to);
		return size;
	case CHUNK_SIZE:
	case CHUNK_EXTENSION:
		return take_chunk_size(h, bytes[0]);
	case CHUNK_END:
		return take_chunk_end(h, bytes[0]);
	case TRAILER:
		return take_trailer(h, bytes[0], to);
	case LOST:
		break;
	}
	return size;
}

/* Where in the stream this is, is not known any more. */
static void lose(struct http_stream *h)
{
	h->digits = 0;
	h->left = 0;
	if (!h->is_active) {
		h->state = IDLE;
		return;
	}
	h->response.flags |= HTTP_HAD_LOSS;
	cut_body(h);
	if (h->state != TILL_CLOSE)
		h->state = LOST;
}

/* False if the bytes make no sense from @bytes + *at on. */
static bool feed(struct http_stream *h, const uint8_t *bytes, size_t size, size_t *at,
		 const struct listener *to)
{
	while (*at < size) {
		size_t n = take(h, bytes + *at, size - *at, to);

		if (!n) {
			lose(h);
			return false;
		}
		*at += n;
	}
	return true;
}

/* --- finding a place to go on ---------------------------------------------------------------- */

/* "<size>\r\n" at the beginning: its length, or 0. */
static size_t chunk_header(const uint8_t *bytes, size_t size, uint64_t *out)
{
	size_t n = 0;

	*out = 0;
	while (n < size && n < CHUNK_DIGITS && digit_of(bytes[n]) >= 0)
		*out = *out << 4 | digit_of(bytes[n++]);
	return n && size - n >= 2 && bytes[n] == '\r' && bytes[n + 1] == '\n' ? n + 2 : 0;
}

/* Whether @total bytes, of which the first @size are at hand, are whole chunks: the last may
 * reach over what is not at hand, if it ends where the bytes end. */
static bool is_chunks(const uint8_t *bytes, size_t size, uint64_t total)
{
	size_t at = 0;

	while (at < size) {
		uint64_t length;
		size_t header = chunk_header(bytes + at, size - at, &length);

		if (!header)
			return false;
		at += header;
		if (!length)
			return total - at == 2 && size - at == 2 && bytes[at] == '\r' &&
			       bytes[at + 1] == '\n';
		if (length + 2 > total - at)
			return false;
		if (length + 2 > size - at)
			return length + 2 == total - at;
		at += length;
		if (bytes[at] != '\r' || bytes[at + 1] != '\n')
			return false;
		at += 2;
	}
	return at == total;
}

static bool begins_event(const uint8_t *bytes, size_t size)
{
	static const char *const FIELDS[] = { "data: ", "data:{", "event: ", "id: " };
	uint64_t length;
	size_t at = chunk_header(bytes, size, &length);

	for (size_t i = 0; at && i < sizeof(FIELDS) / sizeof(FIELDS[0]); i++)
		if (length > strlen(FIELDS[i]) && size - at >= strlen(FIELDS[i]) &&
		    !memcmp(bytes + at, FIELDS[i], strlen(FIELDS[i])))
			return true;
	return false;
}

/* Whole chunks come next: of the response that was lost, or of one whose beginning was. */
static void resume(struct http_stream *h)
{
	uint32_t events = h->response.events;

	if (!h->is_active) {
		begin_headless(h);
	} else if (h->response.body == HTTP_BODY_EVENTS) {
		memset(&h->u, 0, sizeof(h->u));
		h->u.events.events = events;
		h->u.events.json.stop_at_other_id = true;
	}
	h->state = CHUNK_SIZE;
	h->digits = 0;
	h->left = 0;
}

static bool may_resume(const struct http_stream *h, const uint8_t *bytes, size_t size,
		       uint64_t total)
{
	if (!size || (h->is_active ? h->state != LOST || !h->is_chunked : h->state != IDLE))
		return false;
	return (h->is_active || begins_event(bytes, size)) && is_chunks(bytes, size, total);
}

/* Whether a status line at the beginning of a piece begins a response, wherever this is. */
static bool may_begin(const struct http_stream *h)
{
	bool is_inside = h->state == LENGTH || h->state == TILL_CLOSE || h->state == CHUNK_DATA;

	return !h->is_active || !is_inside || h->response.body != HTTP_BODY_OTHER ||
	       !h->response.body_bytes;
}

/* The bytes between head and tail, and then where in the tail to go on; its size if nowhere. */
static size_t skip_gap(struct http_stream *h, const struct wire_piece *p, const struct listener *to)
{
	uint64_t gap = p->total - p->head_size - p->tail_size;
	int chains = 0;

	if (h->is_active)
		h->response.flags |= HTTP_HAS_GAP;
	if (h->state == TILL_CLOSE ||
	    ((h->state == LENGTH || h->state == CHUNK_DATA) && gap <= h->left)) {
		cut_body(h);
		h->response.body_bytes += gap;
		h->left -= h->state == TILL_CLOSE ? 0 : gap;
		if (!h->left && h->state == LENGTH)
			complete(h, to);
		else if (!h->left && h->state == CHUNK_DATA)
			h->state = CHUNK_END;
		return 0;
	}
	lose(h);
	for (size_t i = 2; h->is_active && i < p->tail_size && chains < MAX_CHAINS; i++) {
		if (p->tail[i - 2] != '\r' || p->tail[i - 1] != '\n')
			continue;
		chains++;
		if (!may_resume(h, p->tail + i, p->tail_size - i, p->tail_size - i))
			continue;
		resume(h);
		return i;
	}
	return p->tail_size;
}

/* Whether an offer that equals the one before it is the same bytes once more, which must not be
 * read twice. Equal whole events happen, and whole equal responses. */
static bool is_repeated(const struct http_stream *h, enum wire_offer offer)
{
	if (offer != WIRE_SAME)
		return offer == WIRE_REST;
	if (h->state == IDLE || h->state == LOST)
		return false;
	return !h->response.body_bytes || (h->state != CHUNK_SIZE && h->state != TILL_CLOSE);
}

static void read_piece(struct http_stream *h, const struct wire_piece *p, const struct listener *to)
{
	size_t at = 0;

	if (http_head__is_status_line(p->head, p->head_size) && may_begin(h))
		end_response(h, 0, to);
	else if (may_resume(h, p->head, p->head_size, p->total))
		resume(h);
	if (!feed(h, p->head, p->head_size, &at, to)) {
		if (at || !may_resume(h, p->head, p->head_size, p->total))
			return;
		resume(h);
		if (!feed(h, p->head, p->head_size, &at, to))
			return;
	}
	if (p->head_size + p->tail_size < p->total)
		at = skip_gap(h, p, to);
	else
		at = 0;
	feed(h, p->tail, p->tail_size, &at, to);
}

/* --- the public face ------------------------------------------------------------------------ */

void http_stream__piece(struct http_stream *h, const struct wire_piece *p,
			const struct http_events *events, void *ctx)
{
	const struct listener to = { events, ctx };

	if (!wire_piece__valid(p) || !p->head_size)
		return;
	if (h->verdict == HTTP_NO) {
		if (!http_head__is_status_line(p->head, p->head_size))
			return;
		h->verdict = HTTP_UNSURE;
		h->strange = 0;
		h->state = IDLE;
	}
	if (is_repeated(h, wire_repeat__next(&h->repeat, p)))
		return;
	h->now_ns = p->time_ns;
	read_piece(h, p, &to);
	if (h->is_active)
		h->response.last_ns = p->time_ns;
	tell_body(h, &to);
	if (h->verdict == HTTP_UNSURE && h->state == IDLE && ++h->strange >= HTTP_STRANGE_PIECES)
		h->verdict = HTTP_NO;
}

void http_stream__lost(struct http_stream *h)
{
	memset(&h->repeat, 0, sizeof(h->repeat));
	lose(h);
}

void http_stream__close(struct http_stream *h, uint64_t time_ns, const struct http_events *events,
			void *ctx)
{
	const struct listener to = { events, ctx };

	h->now_ns = time_ns;
	end_response(h, h->state == TILL_CLOSE ? HTTP_COMPLETE : 0, &to);
	memset(h, 0, sizeof(*h));
}

enum http_verdict http_stream__verdict(const struct http_stream *h)
{
	return h->verdict;
}
