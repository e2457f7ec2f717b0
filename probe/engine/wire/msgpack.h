/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * MessagePack, pulled item by item from untrusted bytes. No memory, no recursion.
 *
 * Of a message only the first bytes may be at hand (the rest was not captured): its whole size
 * bounds what a length may claim, and -ENODATA says that an item reaches over what is at hand.
 */
#ifndef MP_ENGINE_WIRE_MSGPACK_H
#define MP_ENGINE_WIRE_MSGPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MSGPACK_DEPTH = 32 }; /* of containers that msgpack__skip() passes */

enum msgpack_type {
	MSGPACK_NIL,
	MSGPACK_BOOL,
	MSGPACK_UINT, /* not negative, however it was written */
	MSGPACK_INT,  /* negative */
	MSGPACK_FLOAT,
	MSGPACK_STR,
	MSGPACK_BIN,
	MSGPACK_EXT,
	MSGPACK_ARRAY,
	MSGPACK_MAP,
};

/* Borrowed bytes with a read position. Copy it to look ahead. */
struct msgpack {
	const uint8_t *data;
	size_t size;    /* at hand */
	uint64_t whole; /* of the message; >= size */
	size_t at;
};

struct msgpack_item {
	enum msgpack_type type;
	int8_t ext_type;
	uint32_t count; /* of an array's items, or a map's pairs, which follow */
	uint32_t size;  /* of @bytes: STR, BIN, EXT */
	const uint8_t *bytes;
	union {
		bool boolean;
		uint64_t u;
		int64_t i;
		double f;
	} value;
};

/* A reader at the start of @size bytes, of a message of @whole (raised to @size if less). */
struct msgpack msgpack__over(const void *data, size_t size, uint64_t whole);
/* The next item, advancing; a container's items come next. 0; -ENODATA: it is not wholly at
 * hand; -EBADMSG: not MessagePack, or longer than the message. No advance on error. */
int msgpack__next(struct msgpack *m, struct msgpack_item *item);
/* Pass one value with all that is in it. As msgpack__next(), and -E2BIG: too deep. */
int msgpack__skip(struct msgpack *m);
/* The next item, if it is of @type: as msgpack__next(), -EBADMSG if it is another. */
int msgpack__expect(struct msgpack *m, enum msgpack_type type, struct msgpack_item *item);

#endif
