/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/wire/http_internal.h"

#include <string.h>

static const char VERSION[] = "HTTP/1."; /* then a digit, a space, and three digits */
enum { VERSION_SIZE = sizeof(VERSION) - 1, STATUS_END = VERSION_SIZE + 5 };

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static char lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

/* Whether @c may stand at @at of a status line. */
static bool fits(size_t at, uint8_t c)
{
	if (at < VERSION_SIZE)
		return c == (uint8_t)VERSION[at];
	if (at == VERSION_SIZE + 1)
		return c == ' ';
	if (at < STATUS_END)
		return is_digit(c);
	return at > STATUS_END || c == ' ' || c == '\r' || c == '\n';
}

bool http_head__is_status_line(const uint8_t *bytes, size_t size)
{
	if (size < STATUS_END)
		return false;
	for (size_t i = 0; i <= STATUS_END && i < size; i++)
		if (!fits(i, bytes[i]))
			return false;
	return true;
}

void http_head__begin(struct http_stream *h)
{
	memset(&h->response, 0, sizeof(h->response));
	memset(&h->u, 0, sizeof(h->u));
	h->u.line.is_first = true;
	h->head_bytes = 0;
	h->left = 0;
	h->is_chunked = h->has_length = h->body_told = false;
}

/* --- the headers that matter ---------------------------------------------------------------- */

static bool value_begins(const struct http_stream *h, const char *what)
{
	size_t size = strlen(what);

	if (h->u.line.value_size < size)
		return false;
	for (size_t i = 0; i < size; i++)
		if (lower(h->u.line.value[i]) != what[i])
			return false;
	return true;
}

static bool take_length(struct http_stream *h)
{
	uint64_t n = 0;

	if (!h->u.line.value_size || h->u.line.value_size > 15)
		return false;
	for (size_t i = 0; i < h->u.line.value_size; i++) {
		if (!is_digit(h->u.line.value[i]))
			return false;
		n = n * 10 + (h->u.line.value[i] - '0');
	}
	if (h->has_length && h->left != n)
		return false;
	h->has_length = true;
	h->left = n;
	return true;
}

static void take_request_id(struct http_stream *h)
{
	size_t size = h->u.line.value_size;

	h->response.flags &= ~HTTP_ID_CUT;
	if (size >= HTTP_ID_BYTES) {
		h->response.flags |= HTTP_ID_CUT;
		size = HTTP_ID_BYTES - 1;
	}
	memcpy(h->response.request_id, h->u.line.value, size);
	h->response.request_id[size] = '\0';
}

/* "00-<trace id, 32 digits>-<parent id, 16 digits>-<flags>"; an id of zeros is none. */
static void take_trace(struct http_stream *h)
{
	char id[HTTP_TRACE_BYTES] = "";
	bool is_zero = true;

	if (h->u.line.value_size < 55 || h->u.line.value[2] != '-' || h->u.line.value[35] != '-')
		return;
	for (int i = 0; i < 32; i++) {
		id[i] = lower(h->u.line.value[3 + i]);
		if (!is_digit(id[i]) && (id[i] < 'a' || id[i] > 'f'))
			return;
		is_zero &= id[i] == '0';
	}
	if (!is_zero)
		memcpy(h->response.trace_id, id, sizeof(id));
}

static bool name_is(const struct http_stream *h, const char *name)
{
	return strlen(name) == h->u.line.name_size &&
	       !memcmp(name, h->u.line.name, h->u.line.name_size);
}

static bool take_header(struct http_stream *h)
{
	while (h->u.line.value_size && h->u.line.value_size < HTTP_VALUE_BYTES &&
	       strchr(" \t", h->u.line.value[h->u.line.value_size - 1]))
		h->u.line.value_size--;
	if (name_is(h, "content-length"))
		return take_length(h);
	if (name_is(h, "x-request-id"))
		take_request_id(h);
	else if (name_is(h, "traceparent"))
		take_trace(h);
	else if (name_is(h, "transfer-encoding"))
		h->is_chunked |= value_begins(h, "chunked");
	else if (name_is(h, "content-encoding") && !value_begins(h, "identity"))
		h->response.flags |= HTTP_ENCODED;
	else if (name_is(h, "content-type") && value_begins(h, "application/json"))
		h->response.body = HTTP_BODY_JSON;
	else if (name_is(h, "content-type") && value_begins(h, "text/event-stream"))
		h->response.body = HTTP_BODY_EVENTS;
	return true;
}

/* --- lines ---------------------------------------------------------------------------------- */

static enum http_head_end end_line(struct http_stream *h)
{
	bool is_blank = !h->u.line.name_size && !h->u.line.in_value && !h->u.line.is_first;
	bool is_good = true;

	if (h->u.line.is_first)
		is_good = h->u.line.matched >= STATUS_END;
	else if (h->u.line.in_value)
		is_good = take_header(h);
	else if (!is_blank)
		is_good = false; /* a name without a colon */
	memset(&h->u.line, 0, sizeof(h->u.line));
	return !is_good ? HEAD_NONSENSE : is_blank ? HEAD_ENDED : HEAD_MORE;
}

static bool feed_status_line(struct http_stream *h, uint8_t c)
{
	size_t at = h->u.line.matched;

	if (!fits(at, c))
		return false;
	if (at >= STATUS_END - 3 && at < STATUS_END)
		h->response.status = h->response.status * 10 + (c - '0');
	if (at <= STATUS_END)
		h->u.line.matched++;
	return true;
}

static void feed_value(struct http_stream *h, uint8_t c)
{
	if (!h->u.line.value_size && (c == ' ' || c == '\t'))
		return;
	if (h->u.line.value_size < HTTP_VALUE_BYTES)
		h->u.line.value[h->u.line.value_size++] = c < 0x20 || c == 0x7f ? '?' : (char)c;
}

enum http_head_end http_head__feed(struct http_stream *h, uint8_t c)
{
	if (++h->head_bytes > HTTP_HEAD_LIMIT)
		return HEAD_NONSENSE;
	if (c == '\n')
		return end_line(h);
	if (c == '\r' && !(h->u.line.is_first && h->u.line.matched < STATUS_END))
		return HEAD_MORE;
	if (h->u.line.is_first)
		return feed_status_line(h, c) ? HEAD_MORE : HEAD_NONSENSE;
	if (h->u.line.in_value) {
		feed_value(h, c);
	} else if (c == ':' && h->u.line.name_size) {
		h->u.line.in_value = true;
	} else if (c <= ' ' || c >= 0x7f) {
		return HEAD_NONSENSE;
	} else {
		/* A longer name is none of ours: what is kept of it is no name of ours either. */
		if (h->u.line.name_size < HTTP_NAME_BYTES)
			h->u.line.name[h->u.line.name_size++] = lower(c);
	}
	return HEAD_MORE;
}
