/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A block is taken in whole, summed, decoded and walked before any of its records is handed out;
 * each record is then checked against the table of layouts. Bytes are asked for exactly as they
 * are needed, so nothing waits in here unseen by poll(2) but decoded records.
 */
#include "collector/trace/reader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "collector/trace/layout.h"
#include "probe/base/buffer.h"
#include "probe/base/error.h"

/* The fixed part of the record in hand, in this build's size. */
union fixed_part {
	struct trace_record head;
#define X(id, name, suffix) struct trace_##suffix suffix;
	TRACE_RECORDS(X)
#undef X
};

struct trace_reader {
	int fd; /* -1: memory */
	const uint8_t *memory;
	size_t memory_left;

	struct buffer input; /* raw bytes from @at on, up to one block */
	uint64_t at;         /* in the stream: where the input begins */
	bool begun;          /* the file header was read */

	struct buffer block;   /* decoded records */
	size_t block_next;     /* the next record */
	uint64_t block_at;     /* where the block began in the stream */
	uint32_t block_record; /* number of the next record, from 1 */
	ZSTD_DCtx *zstd;
	union fixed_part fixed;

	bool complete;
	struct trace_unread unread;
	uint8_t unknown_type[(UINT16_MAX + 1) / 8]; /* a bit a type: met */
	struct error error;
	char name[256];
};

/* "trace: failed to read 'NAME': damaged at byte N: " and the reason. */
#define damaged(r, at, fmt, ...) \
	error__set(&(r)->error, EXIT_FAILED, EBADMSG, \
		   "use what came before that byte, or record again", \
		   "trace: failed to read '%s': damaged at byte %" PRIu64 ": " fmt, (r)->name, \
		   (uint64_t)(at), ##__VA_ARGS__)

static int cut_off(struct trace_reader *r, const char *where)
{
	return error__set(&r->error, EXIT_FAILED, ENODATA,
			  "use what came before: its writer was killed, or the disk was full",
			  "trace: failed to read '%s': cut off at byte %" PRIu64 ", inside %s",
			  r->name, r->at + r->input.size, where);
}

static int foreign(struct trace_reader *r, const char *why)
{
	return error__set(&r->error, EXIT_UNSUPPORTED, EPROTO,
			  "make a recording with: moeprobe record PID -o FILE",
			  "trace: failed to read '%s': not a moeprobe recording%s", r->name, why);
}

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

/* Have @want bytes in the input. 1; 0: the stream ends before; -EAGAIN; or -errno, named. The
 * buffer grows with what arrives, not with what a header announces. */
static int input_fill(struct trace_reader *r, size_t want)
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

static void input_consume(struct trace_reader *r, size_t n)
{
	buffer__consume(&r->input, n);
	r->at += n;
}

/* The CRC of a header whose crc field, at @crc_offset, counts as zero. */
static uint32_t header_crc(const uint8_t *header, size_t size, size_t crc_offset)
{
	static const uint8_t zero[sizeof(uint32_t)];
	uLong crc = crc32(0, header, (uInt)crc_offset);

	crc = crc32(crc, zero, sizeof(zero));
	crc_offset += sizeof(zero);
	return (uint32_t)crc32(crc, header + crc_offset, (uInt)(size - crc_offset));
}

/* 1, -EAGAIN, or the error. */
static int read_file_header(struct trace_reader *r)
{
	const size_t magic = sizeof(TRACE_MAGIC) - 1;
	struct trace_file_header h = { 0 };
	int got = input_fill(r, sizeof(h));

	if (got < 0)
		return got;
	if (!r->input.size)
		return foreign(r, ": it is empty");
	memcpy(&h, r->input.data, r->input.size < sizeof(h) ? r->input.size : sizeof(h));
	if (memcmp(&h, TRACE_MAGIC, r->input.size < magic ? r->input.size : magic))
		return foreign(r, "");
	if (!got)
		return cut_off(r, "its header");
	if (h.version != TRACE_VERSION)
		return error__set(&r->error, EXIT_UNSUPPORTED, EPROTONOSUPPORT,
				  "read it with the moeprobe that wrote it",
				  "trace: failed to read '%s': format version %u, this moeprobe "
				  "reads version %u",
				  r->name, h.version, TRACE_VERSION);
	if (h.endian != TRACE_ENDIAN || h.size < sizeof(h) || h.size > TRACE_HEADER_MAX)
		return damaged(r, 0, "impossible file header");
	got = input_fill(r, h.size);
	if (got <= 0)
		return got ? got : cut_off(r, "its header");
	if (header_crc(r->input.data, h.size, offsetof(struct trace_file_header, crc)) != h.crc)
		return damaged(r, 0, "file header fails its checksum");
	input_consume(r, h.size);
	r->begun = true;
	return 1;
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

/* Take in the next block. 1; 0: the stream ends here; -EAGAIN; or the error. */
static int read_block(struct trace_reader *r)
{
	struct trace_block_header h;
	uint32_t crc;
	int got = input_fill(r, sizeof(h));

	if (got < 0)
		return got;
	if (!got)
		return r->input.size ? cut_off(r, "a block") : 0;
	memcpy(&h, r->input.data, sizeof(h));
	if (h.magic != TRACE_BLOCK_MAGIC)
		return damaged(r, r->at, "no block begins here");
	if (h.size < sizeof(h) || h.size > TRACE_HEADER_MAX || h.stored_bytes > TRACE_BLOCK_MAX ||
	    h.decoded_bytes > TRACE_BLOCK_MAX || !h.decoded_bytes)
		return damaged(r, r->at, "block of an impossible size");
	got = input_fill(r, (size_t)h.size + h.stored_bytes);
	if (got <= 0)
		return got ? got : cut_off(r, "a block");
	crc = header_crc(r->input.data, h.size, offsetof(struct trace_block_header, crc));
	if (crc32(crc, r->input.data + h.size, h.stored_bytes) != h.crc)
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
	r->block_record = 0;
	input_consume(r, (size_t)h.size + h.stored_bytes);
	return 1;
}

/* Check the record at @bytes (its head is) against its layout and point @item at it. */
static int read_record(struct trace_reader *r, const uint8_t *bytes, const struct trace_layout *l,
		       struct trace_item *item)
{
	const struct trace_record *head = &r->fixed.head;
	uint64_t size[TRACE_COLUMNS_MAX], sum, left;
	uint16_t fixed;
	size_t i;

	memcpy(&r->fixed, bytes, sizeof(*head));
	fixed = head->fixed;
	if (fixed < l->first_size)
		return damaged(r, r->block_at, "record %u (%s) is too short", r->block_record,
			       l->name);
	memset(&r->fixed, 0, sizeof(r->fixed));
	memcpy(&r->fixed, bytes, fixed < l->size ? fixed : l->size);
	left = head->size - fixed;
	sum = trace_layout__measure(l, &r->fixed, size, &item->columns);
	/* Only a later writer, seen by what it appended, may have columns that we do not know. */
	if (sum > left || (sum < left && fixed <= l->size && !(head->flags & ~l->flags)))
		return damaged(r, r->block_at, "record %u (%s) does not hold what it announces",
			       r->block_record, l->name);
	item->type = head->type;
	item->fixed = &r->fixed;
	bytes += fixed;
	for (i = 0; i < item->columns; i++) {
		item->column[i].bytes = bytes;
		item->column[i].size = size[i];
		bytes += trace_pad(size[i]);
	}
	if (item->type == TRACE_END)
		r->complete = true;
	return 1;
}

static void count_unknown(struct trace_reader *r, uint16_t type)
{
	const uint8_t bit = (uint8_t)(1u << type % 8);

	r->unread.records++;
	r->unread.types += !(r->unknown_type[type / 8] & bit);
	r->unknown_type[type / 8] |= bit;
}

/* The next record of known type in the block: 1; 0: no more in this block; or the error. */
static int next_in_block(struct trace_reader *r, struct trace_item *item)
{
	const struct trace_layout *l;
	struct trace_record head;
	const uint8_t *bytes;

	while (r->block_next < r->block.size) {
		bytes = r->block.data + r->block_next;
		memcpy(&head, bytes, sizeof(head));
		r->block_next += head.size;
		r->block_record++;
		l = trace_layout__find(head.type);
		if (l)
			return read_record(r, bytes, l, item);
		count_unknown(r, head.type);
	}
	return 0;
}

int trace_reader__next(struct trace_reader *r, struct trace_item *item, struct error *e)
{
	int got = -r->error.errnum;

	memset(item, 0, sizeof(*item));
	while (!got) {
		got = next_in_block(r, item);
		if (got)
			break;
		got = r->begun ? 1 : read_file_header(r);
		if (got > 0)
			got = read_block(r);
		if (got <= 0)
			break;
		got = 0;
	}
	if (got < 0)
		memset(item, 0, sizeof(*item));
	if (r->error.errnum && e && !error__is_set(e))
		*e = r->error;
	return got;
}

static struct trace_reader *reader_new(const char *name)
{
	struct trace_reader *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->fd = -1;
	snprintf(r->name, sizeof(r->name), "%s", name);
	return r;
}

int trace_reader__open(struct trace_reader **out, int fd, const char *name, struct error *e)
{
	*out = reader_new(name);
	if (!*out)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL,
				  "trace: failed to read '%s': out of memory", name);
	(*out)->fd = fd;
	return 0;
}

int trace_reader__open_memory(struct trace_reader **out, const void *bytes, size_t size,
			      const char *name, struct error *e)
{
	*out = reader_new(name);
	if (!*out)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL,
				  "trace: failed to read '%s': out of memory", name);
	(*out)->memory = bytes;
	(*out)->memory_left = size;
	return 0;
}

bool trace_reader__complete(const struct trace_reader *r)
{
	return r->complete;
}

uint64_t trace_reader__bytes(const struct trace_reader *r)
{
	return r->at;
}

const struct trace_unread *trace_reader__unread(const struct trace_reader *r)
{
	return &r->unread;
}

void trace_reader__free(struct trace_reader *r)
{
	if (!r)
		return;
	ZSTD_freeDCtx(r->zstd);
	buffer__free(&r->input);
	buffer__free(&r->block);
	free(r);
}
