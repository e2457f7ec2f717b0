/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/wire/zmtp.h"

#include <errno.h>
#include <string.h>

enum state {
	SEEKING, /* for frames, at the beginning of a piece */
	GREETING,
	FLAGS, /* where a frame begins */
	LENGTH,
	BODY,
};

enum { FLAG_MORE = 1, FLAG_LONG = 2, FLAG_COMMAND = 4 };
enum { SIGNATURE_BYTES = 10, MAX_CANDIDATES = 256, MAX_WALK = 256 };

/* Whom to tell. */
struct listener {
	const struct zmtp_events *events;
	void *ctx;
	int err;
};

static bool is_signature(const uint8_t *bytes, size_t size)
{
	static const uint8_t ZEROS[7];

	return size >= SIGNATURE_BYTES && bytes[0] == 0xff && bytes[9] == 0x7f &&
	       !memcmp(bytes + 1, ZEROS, sizeof(ZEROS));
}

static bool are_flags(uint8_t c)
{
	return c <= 7 && (c & (FLAG_COMMAND | FLAG_MORE)) != (FLAG_COMMAND | FLAG_MORE);
}

/* --- the greeting ---------------------------------------------------------------------------- */

static void end_greeting(struct zmtp_stream *z)
{
	bool is_plain =
		!memcmp(z->mechanism, "NULL\0\0\0\0", 8) || !memcmp(z->mechanism, "PLAIN\0\0\0", 8);

	z->verdict = is_plain ? ZMTP_YES : ZMTP_ENCRYPTED;
	z->state = is_plain ? FLAGS : SEEKING;
	z->strange = 0;
}

/* False if it is none. */
static bool feed_greeting(struct zmtp_stream *z, uint8_t c)
{
	uint8_t at = z->greeting_size++;

	if ((at == 0 && c != 0xff) || (at >= 1 && at <= 7 && c) || (at == 9 && c != 0x7f) ||
	    (at == 10 && c < 3))
		return false;
	if (at >= 12 && at < 12 + sizeof(z->mechanism))
		z->mechanism[at - 12] = c;
	if (z->greeting_size == ZMTP_GREETING_BYTES)
		end_greeting(z);
	return true;
}

/* --- frames ---------------------------------------------------------------------------------- */

static void begin_frame(struct zmtp_stream *z)
{
	z->state = FLAGS;
	z->held.size = 0;
	z->is_cut = false;
}

/* The frame's first bytes are @bytes: all, or those that were held. */
static void end_frame(struct zmtp_stream *z, const uint8_t *bytes, size_t size,
		      const struct listener *to)
{
	const struct zmtp_frame f = { .time_ns = z->began_ns,
				      .bytes = bytes,
				      .size = size,
				      .whole = z->whole,
				      .part = z->part,
				      .more = z->flags & FLAG_MORE };

	begin_frame(z);
	if (z->flags & FLAG_COMMAND)
		return;
	z->part = f.more && z->part < ZMTP_MAX_PARTS ? z->part + 1 : 0;
	if (to->events->frame)
		to->events->frame(to->ctx, &f);
}

static void hold(struct zmtp_stream *z, const uint8_t *bytes, size_t size, struct listener *to)
{
	size_t room = ZMTP_HELD_BYTES - z->held.size;

	if (z->is_cut || !size)
		return;
	if (size > room) {
		size = room;
		z->is_cut = true;
	}
	if (buffer__append(&z->held, bytes, size)) {
		z->is_cut = true;
		to->err = -ENOMEM;
	}
}

static size_t take_body(struct zmtp_stream *z, const uint8_t *bytes, size_t size,
			struct listener *to)
{
	bool is_whole = z->left == z->whole && size >= z->left;

	if (size > z->left)
		size = z->left;
	z->left -= size;
	if (is_whole) {
		end_frame(z, bytes, size, to);
		return size;
	}
	hold(z, bytes, size, to);
	if (!z->left)
		end_frame(z, z->held.data, z->held.size, to);
	return size;
}

static bool take_flags(struct zmtp_stream *z, uint8_t c)
{
	if (!are_flags(c))
		return false;
	z->flags = c;
	z->whole = 0;
	z->left = c & FLAG_LONG ? 8 : 1;
	z->state = LENGTH;
	z->began_ns = z->now_ns;
	return true;
}

static bool take_length(struct zmtp_stream *z, uint8_t c, const struct listener *to)
{
	z->whole = z->whole << 8 | c;
	if (z->whole > ZMTP_MAX_FRAME)
		return false;
	if (--z->left)
		return true;
	z->left = z->whole;
	z->state = BODY;
	if (!z->whole)
		end_frame(z, NULL, 0, to);
	return true;
}

/* How many bytes were taken, 0 if they make no sense. */
static size_t take(struct zmtp_stream *z, const uint8_t *bytes, size_t size, struct listener *to)
{
	switch ((enum state)z->state) {
	case GREETING:
		return feed_greeting(z, bytes[0]);
	case FLAGS:
		return take_flags(z, bytes[0]);
	case LENGTH:
		return take_length(z, bytes[0], to);
	case BODY:
		return take_body(z, bytes, size, to);
	case SEEKING:
		break;
	}
	return size;
}

static void lose(struct zmtp_stream *z)
{
	begin_frame(z);
	z->state = SEEKING;
	z->part = 0;
}

static void feed(struct zmtp_stream *z, const uint8_t *bytes, size_t size, struct listener *to)
{
	for (size_t at = 0, n; at < size; at += n) {
		n = take(z, bytes + at, size - at, to);
		if (!n) {
			lose(z);
			return;
		}
	}
}

/* --- finding frames --------------------------------------------------------------------------- */

/* A frame's header at the beginning: its length, or 0. */
static size_t read_header(const uint8_t *bytes, size_t size, struct zmtp_frame *f)
{
	size_t width = size && bytes[0] & FLAG_LONG ? 8 : 1;

	if (size < 1 + width || !are_flags(bytes[0]))
		return 0;
	f->whole = 0;
	for (size_t i = 0; i < width; i++)
		f->whole = f->whole << 8 | bytes[1 + i];
	if (f->whole > ZMTP_MAX_FRAME || (width == 8 && f->whole <= 255))
		return 0;
	f->more = bytes[0] & FLAG_MORE;
	f->bytes = bytes + 1 + width;
	f->size = size - 1 - width < f->whole ? size - 1 - width : f->whole;
	return 1 + width;
}

/* Whether @total bytes, of which the first @size are at hand, are frames, one of them plausible,
 * the last of them perhaps longer than the bytes. */
static bool is_frames(const uint8_t *bytes, size_t size, uint64_t total, const struct listener *to)
{
	bool found = false;
	size_t at = 0;

	for (int i = 0; at < size && i < MAX_WALK; i++) {
		struct zmtp_frame f = { 0 };
		size_t header = read_header(bytes + at, size - at, &f);

		if (!header)
			return false;
		if (!(bytes[at] & FLAG_COMMAND) && to->events->plausible)
			found |= to->events->plausible(&f);
		if (f.size < f.whole)
			return found && (f.whole >= total - at - header || size < total);
		at += header + f.whole;
	}
	return found;
}

/* Where in the tail of a piece frames begin that end with it; its size if nowhere. */
static size_t find_in_tail(const struct wire_piece *p, const struct listener *to)
{
	int candidates = 0;

	for (size_t i = 0; i < p->tail_size && candidates < MAX_CANDIDATES; i++) {
		if (!are_flags(p->tail[i]))
			continue;
		candidates++;
		if (is_frames(p->tail + i, p->tail_size - i, p->tail_size - i, to))
			return i;
	}
	return p->tail_size;
}

static void begin_piece(struct zmtp_stream *z, const struct wire_piece *p,
			const struct listener *to)
{
	bool may_greet = z->state == SEEKING && z->verdict == ZMTP_UNSURE && p->head[0] == 0xff &&
			 p->total < SIGNATURE_BYTES;

	if (is_signature(p->head, p->head_size) || may_greet) {
		lose(z);
		z->greeting_size = 0;
		memset(z->mechanism, 0, sizeof(z->mechanism));
		z->verdict = ZMTP_UNSURE;
		z->state = GREETING;
	} else if (z->state == SEEKING && z->verdict != ZMTP_ENCRYPTED &&
		   is_frames(p->head, p->head_size, p->total, to)) {
		z->verdict = ZMTP_YES;
		begin_frame(z);
	}
}

static void read_piece(struct zmtp_stream *z, const struct wire_piece *p, struct listener *to)
{
	uint64_t gap = p->total - p->head_size - p->tail_size;
	size_t at = 0;

	begin_piece(z, p, to);
	feed(z, p->head, p->head_size, to);
	if (gap && z->state == BODY && gap <= z->left) {
		z->is_cut = true;
		z->left -= gap;
		if (!z->left)
			end_frame(z, z->held.data, z->held.size, to);
	} else if (gap) {
		lose(z);
		at = z->verdict == ZMTP_YES ? find_in_tail(p, to) : p->tail_size;
		if (at < p->tail_size)
			begin_frame(z);
	}
	if (at < p->tail_size)
		feed(z, p->tail + at, p->tail_size - at, to);
}

/* --- the public face ----------------------------------------------------------------------------
 */

int zmtp__piece(struct zmtp_stream *z, const struct wire_piece *p, const struct zmtp_events *events,
		void *ctx)
{
	struct listener to = { events, ctx, 0 };

	if (!wire_piece__valid(p) || !p->head_size)
		return 0;
	if (z->verdict >= ZMTP_NO && !is_signature(p->head, p->head_size))
		return 0;
	if (wire_repeat__next(&z->repeat, p) != WIRE_NEW)
		return 0;
	z->now_ns = p->time_ns;
	read_piece(z, p, &to);
	if (z->verdict == ZMTP_UNSURE && z->state == SEEKING && ++z->strange >= ZMTP_STRANGE_PIECES)
		z->verdict = ZMTP_NO;
	return to.err;
}

void zmtp__lost(struct zmtp_stream *z)
{
	memset(&z->repeat, 0, sizeof(z->repeat));
	lose(z);
}

void zmtp__close(struct zmtp_stream *z)
{
	buffer__free(&z->held);
	memset(z, 0, sizeof(*z));
}

enum zmtp_verdict zmtp__verdict(const struct zmtp_stream *z)
{
	return z->verdict;
}
