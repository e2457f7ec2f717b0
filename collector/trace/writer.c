/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Records gather in a block; an ended block is sealed (compressed, headed, summed) onto the queue
 * of stored bytes; the queue goes to the descriptor. Only whole blocks ever enter the queue, so
 * what a reader gets is a prefix of the stream whenever we stop.
 */
#include "collector/trace/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "collector/trace/layout.h"
#include "probe/base/buffer.h"
#include "probe/base/error.h"

#define BLOCK_TARGET (64u << 10) /* bytes of records at which a block is ended */
#define COMPRESSION_LEVEL 1
#define STEP_MAX (128u << 20) /* more than one step ever takes */

struct trace_writer {
	int fd;
	int fd_flags; /* to restore; -1: not changed */
	size_t queue_bytes;
	enum trace_codec codec;
	ZSTD_CCtx *zstd;

	struct buffer block; /* records of the current block */
	uint32_t block_records;
	uint64_t block_first_ns, block_last_ns;

	struct buffer queue; /* ended blocks */
	size_t sent;         /* bytes of the queue that are written */

	uint64_t written, whole; /* bytes that the descriptor took; of which in whole blocks */
	uint64_t records, bytes;
	struct error error; /* the first write that failed */
	char name[256];
};

static int write_failed(struct trace_writer *w, int errnum)
{
	switch (errnum) {
	case EPIPE:
	case ECONNRESET:
		return error__set(&w->error, EXIT_FAILED, errnum, NULL,
				  "trace: failed to write '%s': its reader is gone", w->name);
	case ENOSPC:
	case EDQUOT:
		return error__set(&w->error, EXIT_FAILED, errnum,
				  "free space there, or record less with --detail requests",
				  "trace: failed to write '%s': %s", w->name, strerror(errnum));
	default:
		return error__set(&w->error, EXIT_FAILED, errnum, NULL,
				  "trace: failed to write '%s': %s", w->name, strerror(errnum));
	}
}

static bool queue_is_empty(const struct trace_writer *w)
{
	return w->sent == w->queue.size;
}

/* Forget what was written, once that is most of the queue: moving the rest is then cheap. */
static void queue_compact(struct trace_writer *w)
{
	if (w->sent < w->queue.size / 2 && w->sent < w->queue_bytes)
		return;
	buffer__consume(&w->queue, w->sent);
	w->sent = 0;
}

/* Write what the descriptor takes without waiting; with @timeout_ms < 0 wait as long as needed. */
static int queue_write(struct trace_writer *w, int timeout_ms)
{
	struct pollfd p = { .fd = w->fd, .events = POLLOUT };
	ssize_t n;

	while (!w->error.errnum && !queue_is_empty(w)) {
		n = write(w->fd, w->queue.data + w->sent, w->queue.size - w->sent);
		if (n >= 0) {
			w->sent += (size_t)n;
			w->written += (uint64_t)n;
		} else if (errno == EAGAIN && timeout_ms < 0) {
			/* A descriptor that was handed to us non-blocking; write() will say more.
			 */
			poll(&p, 1, -1);
		} else if (errno == EAGAIN) {
			break;
		} else if (errno != EINTR) {
			write_failed(w, errno);
		}
	}
	if (queue_is_empty(w))
		w->whole = w->written;
	queue_compact(w);
	return -w->error.errnum;
}

/* Stored bytes of the current block behind its header in the queue; the codec that was used, or
 * -errno. */
static int block_store(struct trace_writer *w)
{
	size_t bound, size;
	uint8_t *at;

	if (w->codec == TRACE_CODEC_ZSTD) {
		bound = ZSTD_compressBound(w->block.size);
		if (buffer__reserve(&w->queue, bound))
			return -ENOMEM;
		at = w->queue.data + w->queue.size;
		size = ZSTD_compressCCtx(w->zstd, at, bound, w->block.data, w->block.size,
					 COMPRESSION_LEVEL);
		/* What does not shrink is stored as it is; that also keeps the block's limit. */
		if (!ZSTD_isError(size) && size < w->block.size) {
			w->queue.size += size;
			return TRACE_CODEC_ZSTD;
		}
	}
	return buffer__append(&w->queue, w->block.data, w->block.size) ? -ENOMEM : TRACE_CODEC_NONE;
}

/* Move the current block to the queue. On failure the block stays and the queue is as before. */
static int block_end(struct trace_writer *w)
{
	struct trace_block_header h = {
		.magic = TRACE_BLOCK_MAGIC,
		.size = sizeof(h),
		.decoded_bytes = (uint32_t)w->block.size,
		.records = w->block_records,
		.first_ns = w->block_first_ns,
		.last_ns = w->block_last_ns,
	};
	size_t start = w->queue.size, stored = start + sizeof(h);
	int codec;

	if (!w->block.size)
		return 0;
	if (!buffer__extend(&w->queue, sizeof(h)))
		return -ENOMEM;
	codec = block_store(w);
	if (codec < 0) {
		w->queue.size = start;
		return codec;
	}
	h.codec = (uint16_t)codec;
	h.stored_bytes = (uint32_t)(w->queue.size - stored);
	h.crc = (uint32_t)crc32(crc32(0, (const Bytef *)&h, sizeof(h)), w->queue.data + stored,
				h.stored_bytes);
	memcpy(w->queue.data + start, &h, sizeof(h));
	w->bytes += sizeof(h) + h.stored_bytes;
	w->block.size = 0;
	w->block_records = 0;
	return 0;
}

static int block_end_and_write(struct trace_writer *w)
{
	int err = block_end(w);

	if (err)
		return err;
	return queue_write(w, w->queue_bytes ? 0 : -1);
}

/* Fill in what the writer knows of a record's head; the columns' sum by layout must be what was
 * handed over. 0 or -errno. */
static int record_seal(struct trace_record *head, enum trace_type type, size_t fixed,
		       const struct trace_column *column, size_t columns)
{
	const struct trace_layout *l = trace_layout__find(type);
	uint64_t want[TRACE_COLUMNS_MAX], size = fixed;
	size_t i, wanted, given = 0;

	if (!l || fixed != l->size)
		return -EINVAL;
	if (trace_layout__measure(l, head, want, &wanted) > TRACE_BLOCK_MAX)
		return -E2BIG;
	for (i = 0; i < wanted; i++) {
		/* An absent column may be left out or handed over empty. */
		if (!want[i] && (given == columns || column[given].size))
			continue;
		if (given == columns || column[given].size != want[i])
			return -EINVAL;
		size += trace_pad(column[given++].size);
	}
	while (given < columns && !column[given].size)
		given++;
	if (given != columns)
		return -EINVAL;
	if (size > TRACE_BLOCK_MAX)
		return -E2BIG;
	head->type = (uint16_t)type;
	head->fixed = (uint16_t)fixed;
	head->size = (uint32_t)size;
	return 0;
}

static size_t share_limit(const struct trace_writer *w, enum trace_share share)
{
	switch (share) {
	case TRACE_SHARE_NEWS:
		return w->queue_bytes + w->queue_bytes / 64;
	case TRACE_SHARE_REQUESTS:
		return w->queue_bytes + w->queue_bytes / 2;
	default:
		return w->queue_bytes;
	}
}

struct trace_column trace_column__text(const char *text, uint16_t *length)
{
	size_t n = text ? strnlen(text, TRACE_TEXT_MAX) : 0;

	*length = (uint16_t)n;
	return (struct trace_column){ text, n };
}

int trace_writer__append(struct trace_writer *w, enum trace_type type, void *record, size_t fixed,
			 const struct trace_column *column, size_t columns)
{
	struct trace_record *head = record;
	uint8_t *at;
	size_t i;
	int err;

	if (w->error.errnum)
		return -w->error.errnum;
	err = record_seal(head, type, fixed, column, columns);
	if (err)
		return err;
	if (w->queue_bytes &&
	    trace_writer__queued(w) > share_limit(w, TRACE_SHARE_REQUESTS) + STEP_MAX)
		return -ENOBUFS;
	if (w->block.size + head->size > TRACE_BLOCK_MAX) {
		err = block_end_and_write(w);
		if (err)
			return err;
	}
	at = buffer__extend(&w->block, head->size);
	if (!at)
		return -ENOMEM;
	memcpy(at, record, fixed);
	at += fixed;
	for (i = 0; i < columns; i++) {
		if (column[i].size)
			memcpy(at, column[i].bytes, column[i].size);
		at += trace_pad(column[i].size);
	}
	if (!w->block_records || head->time_ns < w->block_first_ns)
		w->block_first_ns = head->time_ns;
	if (!w->block_records || head->time_ns > w->block_last_ns)
		w->block_last_ns = head->time_ns;
	w->block_records++;
	w->records++;
	return w->block.size >= BLOCK_TARGET ? block_end_and_write(w) : 0;
}

int trace_writer__cut_back(struct trace_writer *w)
{
	off_t at = lseek(w->fd, 0, SEEK_CUR);
	struct stat st;

	if (fstat(w->fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || at < 0)
		return -ESPIPE;
	at -= (off_t)(w->written - w->whole);
	if (at < 0 || ftruncate(w->fd, at) || lseek(w->fd, at, SEEK_SET) < 0)
		return -errno;
	w->written = w->bytes = w->whole;
	w->queue.size = w->sent = 0;
	w->block.size = 0;
	w->block_records = 0;
	error__clear(&w->error);
	return 0;
}

size_t trace_writer__queued(const struct trace_writer *w)
{
	return w->queue.size - w->sent + w->block.size;
}

bool trace_writer__fits(const struct trace_writer *w, enum trace_share share, size_t bytes)
{
	size_t queued = trace_writer__queued(w), limit = share_limit(w, share);

	/* A step of a large model and batch is larger than the queue: no reader could be quick
	 * enough for it. */
	if (!w->queue_bytes || queued <= w->queue_bytes / 2)
		return true;
	return queued <= limit && bytes <= limit - queued;
}

int trace_writer__flush(struct trace_writer *w, struct error *e)
{
	int err = w->error.errnum ? -w->error.errnum : block_end_and_write(w);

	if (w->error.errnum && e && !error__is_set(e))
		*e = w->error;
	else if (err)
		error__set(e, EXIT_FAILED, -err, NULL, "trace: failed to write '%s': %s", w->name,
			   strerror(-err));
	return err;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int trace_writer__drain(struct trace_writer *w, int timeout_ms, struct error *e)
{
	struct pollfd p = { .fd = w->fd, .events = POLLOUT };
	int64_t end = now_ms() + timeout_ms, left;
	int err = trace_writer__flush(w, e);

	while (!err && !queue_is_empty(w)) {
		left = end - now_ms();
		if (left <= 0)
			return error__set(e, EXIT_FAILED, ETIMEDOUT, NULL,
					  "trace: failed to write '%s': its reader left %zu bytes "
					  "for %d ms",
					  w->name, trace_writer__queued(w), timeout_ms);
		poll(&p, 1, (int)left);
		err = trace_writer__flush(w, e);
	}
	return err;
}

uint64_t trace_writer__records(const struct trace_writer *w)
{
	return w->records;
}

uint64_t trace_writer__bytes(const struct trace_writer *w)
{
	return w->bytes;
}

/* The file header, and the descriptor as the options want it. */
static int writer_begin(struct trace_writer *w)
{
	struct trace_file_header h = {
		.version = TRACE_VERSION,
		.size = sizeof(h),
		.endian = TRACE_ENDIAN,
	};

	memcpy(h.magic, TRACE_MAGIC, sizeof(h.magic));
	h.crc = (uint32_t)crc32(0, (const Bytef *)&h, sizeof(h));
	if (buffer__append(&w->queue, &h, sizeof(h)))
		return -ENOMEM;
	w->bytes = sizeof(h);
	if (w->codec == TRACE_CODEC_ZSTD) {
		w->zstd = ZSTD_createCCtx();
		if (!w->zstd)
			return -ENOMEM;
	}
	if (w->queue_bytes) {
		w->fd_flags = fcntl(w->fd, F_GETFL);
		if (w->fd_flags < 0 || fcntl(w->fd, F_SETFL, w->fd_flags | O_NONBLOCK))
			return -errno;
	}
	return queue_write(w, w->queue_bytes ? 0 : -1);
}

int trace_writer__open(struct trace_writer **out, int fd, const char *name,
		       const struct trace_writer_options *options, struct error *e)
{
	struct trace_writer *w;
	int err = -ENOMEM;

	*out = NULL;
	w = calloc(1, sizeof(*w));
	if (!w)
		goto out;
	w->fd = fd;
	w->fd_flags = -1;
	w->codec = options->codec;
	w->queue_bytes = options->queue_bytes;
	snprintf(w->name, sizeof(w->name), "%s", name);
	err = writer_begin(w);
	if (err)
		goto out;
	*out = w;
	return 0;
out:
	if (w && w->error.errnum && e && !error__is_set(e))
		*e = w->error;
	error__set(e, EXIT_FAILED, -err, NULL, "trace: failed to write '%s': %s", name,
		   strerror(-err));
	trace_writer__free(w);
	return err;
}

void trace_writer__free(struct trace_writer *w)
{
	if (!w)
		return;
	if (w->fd_flags >= 0)
		fcntl(w->fd, F_SETFL, w->fd_flags);
	ZSTD_freeCCtx(w->zstd);
	buffer__free(&w->block);
	buffer__free(&w->queue);
	free(w);
}
