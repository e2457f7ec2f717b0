/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/base/buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int buffer__reserve(struct buffer *b, size_t more)
{
	size_t want, capacity;
	uint8_t *data;

	if (__builtin_add_overflow(b->size, more, &want))
		return -ENOMEM;
	if (want <= b->capacity)
		return 0;
	capacity = b->capacity ? b->capacity : 256;
	while (capacity < want)
		if (__builtin_mul_overflow(capacity, 2, &capacity))
			return -ENOMEM;
	data = realloc(b->data, capacity);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->capacity = capacity;
	return 0;
}

void *buffer__extend(struct buffer *b, size_t n)
{
	uint8_t *start;

	if (buffer__reserve(b, n ? n : 1))
		return NULL;
	start = b->data + b->size;
	memset(start, 0, n);
	b->size += n;
	return start;
}

int buffer__append(struct buffer *b, const void *bytes, size_t n)
{
	if (!n)
		return 0;
	if (buffer__reserve(b, n))
		return -ENOMEM;
	memcpy(b->data + b->size, bytes, n);
	b->size += n;
	return 0;
}

void buffer__consume(struct buffer *b, size_t n)
{
	if (!n)
		return;
	memmove(b->data, b->data + n, b->size - n);
	b->size -= n;
}

void buffer__free(struct buffer *b)
{
	free(b->data);
	memset(b, 0, sizeof(*b));
}

struct cursor cursor__over(const void *bytes, size_t n)
{
	return (struct cursor){ .data = bytes, .size = n };
}

size_t cursor__left(const struct cursor *c)
{
	return c->size - c->at;
}

const uint8_t *cursor__take(struct cursor *c, size_t n)
{
	const uint8_t *p;

	if (c->failed || n > cursor__left(c)) {
		c->failed = true;
		return NULL;
	}
	p = c->data + c->at;
	c->at += n;
	return p;
}

uint8_t cursor__u8(struct cursor *c)
{
	const uint8_t *p = cursor__take(c, 1);

	return p ? p[0] : 0;
}

uint16_t cursor__u16(struct cursor *c)
{
	const uint8_t *p = cursor__take(c, 2);

	return p ? (uint16_t)(p[0] | p[1] << 8) : 0;
}

uint32_t cursor__u32(struct cursor *c)
{
	const uint8_t *p = cursor__take(c, 4);

	return p ? p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24 : 0;
}

uint64_t cursor__u64(struct cursor *c)
{
	uint64_t low = cursor__u32(c);

	return low | (uint64_t)cursor__u32(c) << 32;
}
