/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/target/gguf_stream.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "probe/target/gguf.h"

#define NESTING_MAX 4 /* arrays of arrays: the format allows them, no model has them */

static const uint8_t value_bytes[] = {
#define X(id, name, bytes) [id] = bytes,
	GGUF_VALUES(X)
#undef X
};

#define VALUE_COUNT (sizeof(value_bytes) / sizeof(value_bytes[0]))

void gguf_stream__fail(struct gguf_stream *s, const char *why)
{
	if (!s->why)
		s->why = why;
}

/* True if @n more bytes are in the file and within what a header may take. */
static bool has_room(struct gguf_stream *s, uint64_t n)
{
	if (n > s->size - s->at)
		gguf_stream__fail(s, "its header is cut off");
	else if (s->at > GGUF_HEADER_MAX || n > GGUF_HEADER_MAX - s->at)
		gguf_stream__fail(s, "its header is longer than 256 MB");
	return !s->why;
}

/* Read the window anew from the current position. False: failed. */
static bool refill(struct gguf_stream *s)
{
	s->window_at = s->at;
	s->window_size = 0;
	while (s->window_size < GGUF_WINDOW) {
		ssize_t n = pread(s->fd, s->window + s->window_size, GGUF_WINDOW - s->window_size,
				  (off_t)(s->window_at + s->window_size));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			s->errnum = errno;
			gguf_stream__fail(s, "it cannot be read");
			return false;
		}
		if (n == 0)
			break;
		s->window_size += (size_t)n;
	}
	return true;
}

const uint8_t *gguf_stream__take(struct gguf_stream *s, size_t n)
{
	const uint8_t *p;

	if (s->why || !has_room(s, n))
		return NULL;
	if (s->fd < 0) {
		p = s->memory + s->at;
		s->at += n;
		return p;
	}
	if (s->at < s->window_at || s->at - s->window_at > s->window_size ||
	    n > s->window_size - (s->at - s->window_at)) {
		if (!refill(s))
			return NULL;
		if (n > s->window_size) { /* the file shrank while we read */
			gguf_stream__fail(s, "its header is cut off");
			return NULL;
		}
	}
	p = s->window + (s->at - s->window_at);
	s->at += n;
	return p;
}

void gguf_stream__skip(struct gguf_stream *s, uint64_t n)
{
	if (!s->why && has_room(s, n))
		s->at += n;
}

static uint64_t take_little_endian(struct gguf_stream *s, size_t n)
{
	const uint8_t *p = gguf_stream__take(s, n);
	uint64_t value = 0;

	for (size_t i = 0; p && i < n; i++)
		value |= (uint64_t)p[i] << (8 * i);
	return value;
}

uint32_t gguf_stream__u32(struct gguf_stream *s)
{
	return (uint32_t)take_little_endian(s, 4);
}

uint64_t gguf_stream__u64(struct gguf_stream *s)
{
	return take_little_endian(s, 8);
}

struct gguf_text gguf_stream__text(struct gguf_stream *s, size_t max)
{
	uint64_t n = gguf_stream__u64(s);
	const uint8_t *p;

	if (n > max || n > GGUF_WINDOW)
		gguf_stream__fail(s, "a name in it is too long");
	p = gguf_stream__take(s, s->why ? 0 : n);
	return p ? (struct gguf_text){ (const char *)p, n } : (struct gguf_text){ "", 0 };
}

static void skip_typed(struct gguf_stream *s, uint32_t type, unsigned depth);

static uint64_t skip_array(struct gguf_stream *s, unsigned depth)
{
	uint32_t type = gguf_stream__u32(s);
	uint64_t count = gguf_stream__u64(s);
	uint64_t bytes;

	if (s->why)
		return 0;
	if (type >= VALUE_COUNT || depth > NESTING_MAX) {
		gguf_stream__fail(s, "it has an array of an unknown type");
		return 0;
	}
	if (value_bytes[type]) {
		if (__builtin_mul_overflow(count, value_bytes[type], &bytes))
			gguf_stream__fail(s, "its header is cut off");
		else
			gguf_stream__skip(s, bytes);
		return s->why ? 0 : count;
	}
	for (uint64_t i = 0; i < count && !s->why; i++) /* each takes 8 bytes or fails */
		skip_typed(s, type, depth);
	return s->why ? 0 : count;
}

static void skip_typed(struct gguf_stream *s, uint32_t type, unsigned depth)
{
	if (type >= VALUE_COUNT)
		gguf_stream__fail(s, "it has a value of an unknown type");
	else if (type == GGUF_STRING)
		gguf_stream__skip(s, gguf_stream__u64(s));
	else if (type == GGUF_ARRAY)
		skip_array(s, depth + 1);
	else
		gguf_stream__skip(s, value_bytes[type]);
}

void gguf_stream__skip_value(struct gguf_stream *s, uint32_t type)
{
	skip_typed(s, type, 0);
}

uint64_t gguf_stream__array(struct gguf_stream *s)
{
	return skip_array(s, 1);
}

uint32_t gguf_stream__number(struct gguf_stream *s, uint32_t type)
{
	uint64_t value;
	unsigned bits;

	switch (type) {
	case GGUF_U8:
	case GGUF_U16:
	case GGUF_U32:
	case GGUF_U64:
		value = take_little_endian(s, value_bytes[type]);
		break;
	case GGUF_BOOL:
		value = take_little_endian(s, 1) != 0;
		break;
	case GGUF_I8:
	case GGUF_I16:
	case GGUF_I32:
	case GGUF_I64:
		bits = value_bytes[type] * 8;
		value = take_little_endian(s, value_bytes[type]);
		if (value >> (bits - 1))
			value = GGUF_UNKNOWN; /* negative */
		break;
	default:
		skip_typed(s, type, 0);
		value = GGUF_UNKNOWN;
	}
	return s->why || value > GGUF_UNKNOWN ? GGUF_UNKNOWN : (uint32_t)value;
}

bool text__is(struct gguf_text t, const char *name)
{
	return t.size == strlen(name) && !memcmp(t.bytes, name, t.size);
}
