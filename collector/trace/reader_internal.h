/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside of struct trace_reader, for the files reader*.c only. */
#ifndef MP_TRACE_READER_INTERNAL_H
#define MP_TRACE_READER_INTERNAL_H

#include <inttypes.h>
#include <stdbool.h>
#include <zstd.h>

#include "collector/trace/reader.h"
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
	size_t block_bytes;    /* of the stream that it takes */
	uint32_t block_record; /* number of the next record, from 1 */
	ZSTD_DCtx *zstd;
	union fixed_part fixed;

	/*
	 * A pipe's reader is live: it cannot know whether the bytes that an announcement promises,
	 * up to 16 MiB, ever come, and its writer is broken or no writer of ours.
	 */
	bool can_search;
	uint64_t vain_bytes; /* summed for blocks that were none */
	struct error damage; /* the first: said when all else was read */

	bool complete;
	struct trace_unread unread;
	uint8_t unknown_type[(UINT16_MAX + 1) / 8]; /* a bit a type: met */
	struct error error;
	char name[256];
};

/* "trace: failed to read 'NAME': damaged at byte N: " and the reason. */
#define damaged(r, at, fmt, ...) \
	error__set(&(r)->error, EXIT_FAILED, EBADMSG, \
		   (r)->can_search && (r)->begun \
			   ? "use the rest, which is whole, or record again" \
			   : "use what came before that byte, or record again", \
		   "trace: failed to read '%s': damaged at byte %" PRIu64 ": " fmt, (r)->name, \
		   (uint64_t)(at), ##__VA_ARGS__)

/* Have @want bytes in the input. 1; 0: the stream ends before; -EAGAIN; or -errno, named. */
int trace_reader__fill(struct trace_reader *r, size_t want);
void trace_reader__consume(struct trace_reader *r, size_t n);
/* The CRC of a header whose crc field, at @crc_offset, counts as zero. */
uint32_t trace_reader__header_crc(const uint8_t *header, size_t size, size_t crc_offset);
/* The error of a stream that ends inside @where. */
int trace_reader__cut_off(struct trace_reader *r, const char *where);
/* Take in the next block that can be read: 1; 0: the stream ends here; -EAGAIN; or the error. */
int trace_reader__next_block(struct trace_reader *r);
/* The rest of the block in hand is of no use. 0: the next may be; or the error. */
int trace_reader__drop_block(struct trace_reader *r);
/* Everything was read: 0, or -EBADMSG for what was passed over. */
int trace_reader__say_damage(struct trace_reader *r);

#endif
