/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The frames that a ZeroMQ socket sends on one connection (ZMTP 3.x over TCP or IPC, without
 * encryption), from the pieces that it sends.
 *
 * Of a frame the first bytes are told, up to its end, to a gap, or to ZMTP_HELD_BYTES if it comes
 * in several pieces. Where frames were lost, or the connection was not seen from its beginning,
 * reading goes on at a piece that is made of frames of which one is what the owner looks for.
 */
#ifndef MP_ENGINE_WIRE_ZMTP_H
#define MP_ENGINE_WIRE_ZMTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/base/buffer.h"
#include "probe/engine/wire/piece.h"

enum {
	ZMTP_HELD_BYTES = 16384,  /* memory that a connection may take, for a frame in pieces */
	ZMTP_STRANGE_PIECES = 16, /* that look like nothing, until a connection is not ZMTP */
	ZMTP_GREETING_BYTES = 64,
	ZMTP_MAX_PARTS = 1 << 20,
};

#define ZMTP_MAX_FRAME (1ull << 40) /* bytes; a longer one is nonsense */

/* One message frame; valid during the call. */
struct zmtp_frame {
	uint64_t time_ns;     /* of the piece in which it began */
	const uint8_t *bytes; /* the first @size of @whole */
	size_t size;
	uint64_t whole;
	uint32_t part; /* of its message: 0, 1, ...; after a loss from the first one seen */
	bool more;     /* a further part follows */
};

/* What the owner looks for. */
struct zmtp_events {
	/* A frame. */
	void (*frame)(void *ctx, const struct zmtp_frame *f);
	/* True if a frame may be one that the owner looks for, judged by its first bytes. */
	bool (*plausible)(const struct zmtp_frame *f);
};

enum zmtp_verdict { ZMTP_UNSURE, ZMTP_YES, ZMTP_NO, ZMTP_ENCRYPTED };

/* One connection. Opaque; zero-initialise, and zmtp__close() at its end. */
struct zmtp_stream {
	struct wire_repeat repeat;
	struct buffer held; /* the first bytes of the frame that is read */
	uint64_t left;      /* of it, or of its length: bytes to come */
	uint64_t whole, began_ns, now_ns;
	uint32_t part;
	uint8_t state, verdict, strange, flags;
	bool is_cut; /* @held takes no more of this frame */
	uint8_t greeting_size;
	uint8_t mechanism[8]; /* the first bytes of its name */
};

/* The next piece of the connection. 0, or -ENOMEM (the frame that is read is cut). */
int zmtp__piece(struct zmtp_stream *z, const struct wire_piece *p, const struct zmtp_events *events,
		void *ctx);
/* Pieces are missing before the next one. */
void zmtp__lost(struct zmtp_stream *z);
/* The connection is over: frees what it took; it may be used for another. */
void zmtp__close(struct zmtp_stream *z);
/* Whether it carries frames. ZMTP_NO after ZMTP_STRANGE_PIECES pieces that do not look like it,
 * ZMTP_ENCRYPTED if its greeting says so: the pieces need not be captured. */
enum zmtp_verdict zmtp__verdict(const struct zmtp_stream *z);

#endif
