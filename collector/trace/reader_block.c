/* SPDX-License-Identifier: BSD-2-Clause */
/* The blocks of a stream: taken in whole, summed, decoded, walked; and the way behind damaged
 * ones. */
#include "collector/trace/reader_internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

/*
 * Bytes summed in vain, for blocks whose announced size leads nowhere: more than damage makes.
 * From then on only what has a block or the end of the file behind it is summed, and if that fails
 * it is lost whole: each byte is summed twice at most, whatever a hostile file announces.
 */
#define VAIN_BYTES_MAX (256u << 20)

static ssize_t source_read(struct trace_reader *r, uint8_t *to, size_t n)
{
	if (r->fd >= 0)
		return read(r->fd, to, n);
	if (n > r->memory_left)
		n = r->memory_left;
	if (n)
		memcpy(to, r->memory, n);
	r->memory += n;
	r->memory_left -= n;
	return (ssize_t)n;
}

/* The buffer grows with what arrives, not with what a header announces. */
int trace_reader__fill(struct trace_reader *r, size_t want)
{
	const size_t most = 64u << 10;
	size_t ask;
	ssize_t n;

	while (r->input.size < want) {
		ask = want - r->input.size < most ? want - r->input.size : most;
		if (buffer__reserve(&r->input, ask))
			return error__set(&r->error, EXIT_FAILED, ENOMEM, NULL,
					  "trace: failed to read '%s': out of memory", r->name);
		n = source_read(r, r->input.data + r->input.size, ask);
		if (n > 0)
			r->input.size += (size_t)n;
		else if (!n)
			return 0;
		else if (errno == EAGAIN)
			return -EAGAIN;
		else if (errno != EINTR)
			return error__set(&r->error, EXIT_FAILED, errno, NULL,
					  "trace: failed to read '%s': %s", r->name,
					  strerror(errno));
	}
	return 1;
}

void trace_reader__consume(struct trace_reader *r, size_t n)
{
	buffer__consume(&r->input, n);
	r->at += n;
}

uint32_t trace_reader__header_crc(const uint8_t *header, size_t size, size_t crc_offset)
{
	static const uint8_t zero[sizeof(uint32_t)];
	uLong crc = crc32(0, header, (uInt)crc_offset);

	crc = crc32(crc, zero, sizeof(zero));
	crc_offset += sizeof(zero);
	return (uint32_t)crc32(crc, header + crc_offset, (uInt)(size - crc_offset));
}

int trace_reader__cut_off(struct trace_reader *r, const char *where)
{
	return error__set(&r->error, EXIT_FAILED, ENODATA,
			  "use what came before: its writer was killed, or the disk was full",
			  "trace: failed to read '%s': cut off at byte %" PRIu64 ", inside %s",
			  r->name, r->at + r->input.size, where);
}

/* Every record's head, so that sizes, count and times are right before one is handed out. */
static int block_walk(struct trace_reader *r, const struct trace_block_header *h)
{
	uint64_t first = UINT64_MAX, last = 0;
	struct trace_record head;
	uint32_t records = 0;
	size_t at, left;

	for (at = 0; at < r->block.size; at += head.size) {
		left = r->block.size - at;
		records++;
		if (left < sizeof(head))
			return damaged(r, r->at, "record %u is too short", records);
		memcpy(&head, r->block.data + at, sizeof(head));
		if (head.fixed < sizeof(head) || head.fixed % 8 || head.size % 8 ||
		    head.size < head.fixed || head.size > left)
			return damaged(r, r->at, "record %u has an impossible size", records);
		first = head.time_ns < first ? head.time_ns : first;
		last = head.time_ns > last ? head.time_ns : last;
	}
	if (records != h->records)
		return damaged(r, r->at, "%u records where %u are announced", records, h->records);
	if (first != h->first_ns || last != h->last_ns)
		return damaged(r, r->at, "records of another time than announced");
	return 1;
}

static int block_decode(struct trace_reader *r, const struct trace_block_header *h,
			const uint8_t *stored)
{
	size_t size = h->stored_bytes;

	r->block.size = 0;
	r->block_next = 0;
	if (buffer__reserve(&r->block, h->decoded_bytes))
		return error__set(&r->error, EXIT_FAILED, ENOMEM, NULL,
				  "trace: failed to read '%s': out of memory", r->name);
	switch (h->codec) {
	case TRACE_CODEC_NONE:
		if (size != h->decoded_bytes)
			return damaged(r, r->at, "block of two sizes");
		memcpy(r->block.data, stored, size);
		break;
	case TRACE_CODEC_ZSTD:
		if (!r->zstd)
			r->zstd = ZSTD_createDCtx();
		size = r->zstd ? ZSTD_decompressDCtx(r->zstd, r->block.data, h->decoded_bytes,
						     stored, size)
			       : 0;
		if (ZSTD_isError(size) || size != h->decoded_bytes)
			return damaged(r, r->at, "block does not decompress");
		break;
	default:
		return damaged(r, r->at, "block of unknown codec %u", h->codec);
	}
	r->block.size = size;
	return 1;
}

static bool has_possible_size(const struct trace_block_header *h)
{
	return h->size >= sizeof(*h) && h->size <= TRACE_HEADER_MAX &&
	       h->stored_bytes <= TRACE_BLOCK_MAX && h->decoded_bytes <= TRACE_BLOCK_MAX &&
	       h->decoded_bytes;
}

/* Of the block at @at in the input, which is there as a whole. */
static bool checksum_holds(const struct trace_reader *r, size_t at,
			   const struct trace_block_header *h)
{
	const uint8_t *bytes = r->input.data + at;
	uint32_t crc =
		trace_reader__header_crc(bytes, h->size, offsetof(struct trace_block_header, crc));

	return crc32(crc, bytes + h->size, h->stored_bytes) == h->crc;
}

/* 1: the stream ends just at @at in the input, or a block seems to begin there; 0: neither. */
static int fits_end_or_block(struct trace_reader *r, size_t at)
{
	struct trace_block_header h;
	int got = trace_reader__fill(r, at + sizeof(h));

	if (got <= 0)
		return got ? got : r->input.size == at;
	memcpy(&h, r->input.data + at, sizeof(h));
	return h.magic == TRACE_BLOCK_MAGIC && has_possible_size(&h);
}

/* 1: to sum the block that ends at @end in the input is worth it; 0; or the error. */
static int is_worth_summing(struct trace_reader *r, size_t end)
{
	return r->vain_bytes <= VAIN_BYTES_MAX ? 1 : fits_end_or_block(r, end);
}

/*
 * Take in the next block. 1; 0: the stream ends here; -EAGAIN; or the error. What a damaged or
 * cut one announces is its size in *@announced, @intact if that can be trusted; 0: nothing is.
 */
static int read_block(struct trace_reader *r, size_t *announced, bool *intact)
{
	struct trace_block_header h;
	int got = trace_reader__fill(r, sizeof(h));

	*announced = 0;
	*intact = false;
	if (got < 0)
		return got;
	if (!got)
		return r->input.size ? trace_reader__cut_off(r, "a block") : 0;
	memcpy(&h, r->input.data, sizeof(h));
	if (h.magic != TRACE_BLOCK_MAGIC)
		return damaged(r, r->at, "no block begins here");
	if (!has_possible_size(&h))
		return damaged(r, r->at, "block of an impossible size");
	*announced = (size_t)h.size + h.stored_bytes;
	got = trace_reader__fill(r, *announced);
	if (got <= 0)
		return got ? got : trace_reader__cut_off(r, "a block");
	got = is_worth_summing(r, *announced);
	if (got < 0)
		return got;
	*intact = got && checksum_holds(r, 0, &h);
	if (!*intact)
		return damaged(r, r->at, "block fails its checksum");
	got = block_decode(r, &h, r->input.data + h.size);
	if (got < 0)
		return got;
	got = block_walk(r, &h);
	if (got < 0) {
		r->block.size = 0;
		return got;
	}
	r->block_at = r->at;
	r->block_bytes = *announced;
	r->block_record = 0;
	trace_reader__consume(r, *announced);
	return 1;
}

/* --- beyond a damaged block ------------------------------------------------------------------ */

static void lose(struct trace_reader *r, size_t n)
{
	trace_reader__consume(r, n);
	r->unread.damaged_bytes += n;
}

/* 1: a whole block whose checksum holds begins at @at in the input, where its magic is, or one that
 * can be lost whole if it does not. */
static int is_block(struct trace_reader *r, size_t at)
{
	struct trace_block_header h;
	int got = trace_reader__fill(r, at + sizeof(h));
	size_t size;

	if (got <= 0)
		return got;
	memcpy(&h, r->input.data + at, sizeof(h));
	if (!has_possible_size(&h))
		return 0;
	size = (size_t)h.size + h.stored_bytes;
	got = trace_reader__fill(r, at + size);
	if (got <= 0)
		return got;
	if (r->vain_bytes > VAIN_BYTES_MAX)
		return fits_end_or_block(r, at + size);
	if (checksum_holds(r, at, &h))
		return 1;
	r->vain_bytes += size;
	return 0;
}

/* Lose all before the next block. 1; 0: none follows, and all is lost; or the error. */
static int search_block(struct trace_reader *r)
{
	static const uint32_t magic = TRACE_BLOCK_MAGIC;
	const size_t ahead = 64u << 10, most = 1u << 20;
	const uint8_t *found;
	size_t at = 1, look;
	int more, got;

	for (;;) {
		more = 1;
		if (r->input.size < at + sizeof(struct trace_block_header))
			more = trace_reader__fill(r, at + ahead);
		if (more < 0)
			return more;
		look = r->input.size > at ? r->input.size - at : 0;
		if (look > ahead)
			look = ahead;
		found = look ? memmem(r->input.data + at, look, &magic, sizeof(magic)) : NULL;
		if (found) {
			at = (size_t)(found - r->input.data);
			got = is_block(r, at);
			if (got > 0)
				lose(r, at);
			if (got)
				return got;
			at++;
		} else if (more) {
			at += look - sizeof(magic) + 1; /* its end may cut a magic */
		} else {
			lose(r, r->input.size);
			return 0;
		}
		if (at > most) {
			lose(r, at);
			at = 0;
		}
	}
}

/*
 * Go on behind a block that could not be read, of which r->error tells. Where it announces its end
 * another one must begin, else the next whole one is searched: what a damaged block holds may look
 * like a block. 0, or the error that cannot be helped.
 */
static int pass_over(struct trace_reader *r, size_t announced, bool intact)
{
	const struct error first = r->error;
	const struct trace_unread before = r->unread;
	const uint64_t at = r->at;
	int got = intact;

	error__clear(&r->error);
	if (!got && announced && first.errnum != ENODATA) {
		got = fits_end_or_block(r, announced);
		r->vain_bytes += got ? 0 : announced;
	}
	if (got > 0)
		lose(r, announced);
	else if (!got)
		got = search_block(r);
	if (got < 0)
		return got;
	if (first.errnum == ENODATA && !got) { /* cut off: that is all */
		r->unread = before;
		r->error = first;
		return -ENODATA;
	}
	r->unread.damaged_blocks++;
	if (first.errnum == ENODATA)
		damaged(r, at, "block is longer than what follows");
	if (!error__is_set(&r->damage))
		r->damage = first.errnum == ENODATA ? r->error : first;
	error__clear(&r->error);
	return 0;
}

int trace_reader__next_block(struct trace_reader *r)
{
	size_t announced;
	bool intact;
	int got;

	for (;;) {
		got = read_block(r, &announced, &intact);
		if (got != -EBADMSG && got != -ENODATA)
			return got;
		if (!r->can_search) {
			r->unread.damaged_blocks += got == -EBADMSG;
			r->unread.damaged_bytes += got == -EBADMSG ? r->input.size : 0;
			return got;
		}
		got = pass_over(r, announced, intact);
		if (got)
			return got;
	}
}

int trace_reader__drop_block(struct trace_reader *r)
{
	r->block_next = r->block.size;
	r->unread.damaged_blocks++;
	r->unread.damaged_bytes += r->block_bytes;
	if (!r->can_search)
		return -r->error.errnum;
	if (!error__is_set(&r->damage))
		r->damage = r->error;
	error__clear(&r->error);
	return 0;
}

int trace_reader__say_damage(struct trace_reader *r)
{
	const struct error *first = &r->damage;

	error__clear(&r->error);
	if (!error__is_set(first))
		return 0;
	return error__set(&r->error, first->exit, first->errnum, first->remedy,
			  "%s (skipped: %" PRIu64 " block%s, %" PRIu64 " bytes)", first->what,
			  r->unread.damaged_blocks, r->unread.damaged_blocks == 1 ? "" : "s",
			  r->unread.damaged_bytes);
}
