/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/wire/msgpack.h"

#include <errno.h>
#include <string.h>

struct msgpack msgpack__over(const void *data, size_t size, uint64_t whole)
{
	return (struct msgpack){ .data = data, .size = size, .whole = whole < size ? size : whole };
}

/* @n bytes at @at, which advances. */
static int take(const struct msgpack *m, size_t *at, uint64_t n, const uint8_t **out)
{
	if (n > m->whole - *at)
		return -EBADMSG;
	if (n > m->size - *at)
		return -ENODATA;
	*out = m->data + *at;
	*at += n;
	return 0;
}

/* A big-endian number of @n bytes. */
static int take_number(const struct msgpack *m, size_t *at, unsigned n, uint64_t *out)
{
	const uint8_t *bytes;
	int err = take(m, at, n, &bytes);

	*out = 0;
	for (unsigned i = 0; !err && i < n; i++)
		*out = *out << 8 | bytes[i];
	return err;
}

static int take_bytes(const struct msgpack *m, size_t *at, enum msgpack_type type, uint64_t size,
		      struct msgpack_item *item)
{
	const uint8_t *ext;
	int err = 0;

	item->type = type;
	item->size = size;
	if (type == MSGPACK_EXT)
		err = take(m, at, 1, &ext);
	if (!err && type == MSGPACK_EXT)
		item->ext_type = (int8_t)*ext;
	return err ? err : take(m, at, size, &item->bytes);
}

/* A container's items take at least a byte each. */
static int take_count(const struct msgpack *m, size_t at, enum msgpack_type type, uint64_t count,
		      struct msgpack_item *item)
{
	item->type = type;
	item->count = count;
	return (type == MSGPACK_MAP ? 2 * count : count) > m->whole - at ? -EBADMSG : 0;
}

static int take_int(const struct msgpack *m, size_t *at, unsigned n, bool is_signed,
		    struct msgpack_item *item)
{
	uint64_t number;
	int err = take_number(m, at, n, &number);

	item->type = MSGPACK_UINT;
	item->value.u = number;
	if (is_signed && number >> (8 * n - 1)) {
		item->type = MSGPACK_INT;
		item->value.i = (int64_t)(n == 8 ? number : number | UINT64_MAX << (8 * n));
	}
	return err;
}

static int take_float(const struct msgpack *m, size_t *at, unsigned n, struct msgpack_item *item)
{
	uint64_t number;
	int err = take_number(m, at, n, &number);
	uint32_t half = (uint32_t)number;
	float f;

	item->type = MSGPACK_FLOAT;
	if (n == 4) {
		memcpy(&f, &half, sizeof(f));
		item->value.f = f;
	} else {
		memcpy(&item->value.f, &number, sizeof(number));
	}
	return err;
}

/* First bytes 0xc0 to 0xdf. */
static int take_long_form(const struct msgpack *m, size_t *at, uint8_t c, struct msgpack_item *item)
{
	/* How many bytes of length or number follow. */
	static const uint8_t WIDTH[32] = { 0, 0, 0, 0, 1, 2, 4, 1, 2, 4, 4, 8, 1, 2, 4, 8,
					   1, 2, 4, 8, 0, 0, 0, 0, 0, 1, 2, 4, 2, 4, 2, 4 };
	unsigned width = WIDTH[c - 0xc0];
	uint64_t n;
	int err;

	if (c == 0xc1)
		return -EBADMSG;
	if (c <= 0xc3) {
		item->type = c == 0xc0 ? MSGPACK_NIL : MSGPACK_BOOL;
		item->value.boolean = c == 0xc3;
		return 0;
	}
	if (c == 0xca || c == 0xcb)
		return take_float(m, at, width, item);
	if (c >= 0xcc && c <= 0xd3)
		return take_int(m, at, width, c >= 0xd0, item);
	if (c >= 0xd4 && c <= 0xd8)
		return take_bytes(m, at, MSGPACK_EXT, 1u << (c - 0xd4), item);
	err = take_number(m, at, width, &n);
	if (err)
		return err;
	if (c >= 0xdc)
		return take_count(m, *at, c >= 0xde ? MSGPACK_MAP : MSGPACK_ARRAY, n, item);
	return take_bytes(m, at,
			  c <= 0xc6   ? MSGPACK_BIN
			  : c <= 0xc9 ? MSGPACK_EXT
				      : MSGPACK_STR,
			  n, item);
}

int msgpack__next(struct msgpack *m, struct msgpack_item *item)
{
	const uint8_t *first;
	size_t at = m->at;
	int err;

	memset(item, 0, sizeof(*item));
	err = take(m, &at, 1, &first);
	if (err)
		return err;
	if (*first <= 0x7f) {
		item->type = MSGPACK_UINT;
		item->value.u = *first;
	} else if (*first <= 0x8f) {
		err = take_count(m, at, MSGPACK_MAP, *first & 0x0f, item);
	} else if (*first <= 0x9f) {
		err = take_count(m, at, MSGPACK_ARRAY, *first & 0x0f, item);
	} else if (*first <= 0xbf) {
		err = take_bytes(m, &at, MSGPACK_STR, *first & 0x1f, item);
	} else if (*first >= 0xe0) {
		item->type = MSGPACK_INT;
		item->value.i = (int8_t)*first;
	} else {
		err = take_long_form(m, &at, *first, item);
	}
	if (err)
		memset(item, 0, sizeof(*item));
	else
		m->at = at;
	return err;
}

int msgpack__skip(struct msgpack *m)
{
	uint64_t left[MSGPACK_DEPTH]; /* values, of each open container */
	struct msgpack ahead = *m;
	struct msgpack_item item;
	int depth = 0, err;

	do {
		if (depth)
			left[depth - 1]--;
		err = msgpack__next(&ahead, &item);
		if (err)
			return err;
		if (item.count && depth == MSGPACK_DEPTH)
			return -E2BIG;
		if (item.count)
			left[depth++] =
				item.type == MSGPACK_MAP ? 2 * (uint64_t)item.count : item.count;
		while (depth && !left[depth - 1])
			depth--;
	} while (depth);
	*m = ahead;
	return 0;
}

int msgpack__expect(struct msgpack *m, enum msgpack_type type, struct msgpack_item *item)
{
	struct msgpack ahead = *m;
	int err = msgpack__next(&ahead, item);

	if (!err && item->type != type)
		err = -EBADMSG;
	if (!err)
		*m = ahead;
	return err;
}
