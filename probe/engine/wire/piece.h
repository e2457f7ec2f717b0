/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A piece: what one send(), write(), one segment of sendmsg(), or SSL_write() was given, seen at
 * its entry. The parsers of this folder take the pieces of one connection in order.
 *
 * Seen at the entry means that the kernel may take less than was offered; then the process offers
 * the rest again. wire_repeat tells such an offer from news.
 */
#ifndef MP_ENGINE_WIRE_PIECE_H
#define MP_ENGINE_WIRE_PIECE_H

#include <stddef.h>
#include <stdint.h>

/* Borrowed for the call. What lies between head and tail was not captured (the gap). */
struct wire_piece {
	uint64_t time_ns;    /* of the call, CLOCK_MONOTONIC */
	uint64_t total;      /* bytes that the call was given */
	uint64_t address;    /* of the first of them in the process; 0: unknown */
	const uint8_t *head; /* the first bytes; all of them if head_size == total */
	size_t head_size;
	const uint8_t *tail; /* the last bytes; NULL if tail_size == 0 */
	size_t tail_size;    /* head_size + tail_size <= total */
};

enum wire_offer {
	WIRE_NEW,  /* not seen before */
	WIRE_REST, /* the end of the piece before it, offered again after a short write */
	WIRE_SAME, /* the piece before it once more: offered again, or equal bytes at one place */
};

enum { WIRE_REPEAT_BYTES = 16 };

/* What is kept of a connection's last piece. Zero-initialise. */
struct wire_repeat {
	uint64_t address, total, hash;
	uint8_t last[WIRE_REPEAT_BYTES]; /* its last bytes */
	uint8_t last_size;
};

/* A whole piece of @size bytes, as tests and callers with all bytes have it. */
struct wire_piece wire_piece__whole(const void *bytes, size_t size, uint64_t time_ns);

/* Whether the sizes of @p hold what wire_piece says; a parser ignores one that does not. */
int wire_piece__valid(const struct wire_piece *p);

/* What @p is after the pieces before it, and remember it. Pieces without an address are
 * WIRE_NEW. */
enum wire_offer wire_repeat__next(struct wire_repeat *r, const struct wire_piece *p);

#endif
