/* SPDX-License-Identifier: BSD-2-Clause */
/* Writes the stream: records are gathered into blocks, blocks go to a descriptor. */
#ifndef MP_TRACE_WRITER_H
#define MP_TRACE_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collector/trace/records.h"

struct error;
struct trace_writer;

struct trace_writer_options {
	enum trace_codec codec;
	/*
	 * Bytes that may wait for a slow reader; 0: writes block (files). With a limit the
	 * descriptor is made non-blocking (until the writer is freed), and nothing is ever waited
	 * for: who asks trace_writer__fits before each record keeps the queue below 3/2 of it, or
	 * below 1/2 of it and a single step, which may be larger than all of it. In memory, with
	 * what is sent and not yet forgotten and with room to grow, that is 5 times as much at
	 * most.
	 */
	size_t queue_bytes;
};

/* Begin a stream on @fd (borrowed). @name is for messages ("standard output", a path). */
int trace_writer__open(struct trace_writer **out, int fd, const char *name,
		       const struct trace_writer_options *options, struct error *e);

/*
 * Append one record: @fixed bytes of struct trace_<type> (its head's time_ns, source and flags
 * set by the caller; type, fixed and size are filled in here), then @columns byte runs, each
 * padded to 8 bytes. A record belongs to the current block whole. 0, -EINVAL (columns are not those
 * that the fixed part announces: nobody could read it), -E2BIG, -ENOMEM, -ENOBUFS (the reader is
 * behind by far more than trace_writer__fits allows: somebody does not ask), or the error
 * of an earlier write, which trace_writer__flush names.
 */
struct trace_column {
	const void *bytes;
	size_t size;
};
int trace_writer__append(struct trace_writer *w, enum trace_type type, void *record, size_t fixed,
			 const struct trace_column *column, size_t columns);

/* @text (NULL: none) as a column; its length, at most TRACE_TEXT_MAX, goes to @length. */
#define TRACE_TEXT_MAX 4096u
struct trace_column trace_column__text(const char *text, uint16_t *length);

/* Who may fill the queue how far. A slow reader that takes a little now and then finds steps there;
 * what is said beside them must not wait behind them for ever. */
enum trace_share {
	TRACE_SHARE_STEPS,   /* steps: to the limit */
	TRACE_SHARE_NEWS,    /* what can wait and add up (loss, cost): 1/64 more */
	TRACE_SHARE_REQUESTS /* begin and end of requests: 1/2 more */
};

/* True if @bytes more stay within @share, or if half of the limit is free: then the reader keeps
 * up. Always, where writes block. */
bool trace_writer__fits(const struct trace_writer *w, enum trace_share share, size_t bytes);

/* End the current block and write what the descriptor takes. Call on a timer. -EPIPE: the reader
 * is gone (the program ignores SIGPIPE); -ENOSPC and others: named in the error. 0 does not mean
 * that all was taken: see trace_writer__queued. */
int trace_writer__flush(struct trace_writer *w, struct error *e);
/* Flush, waiting at most @timeout_ms for a slow reader; -ETIMEDOUT if it did not take all. */
int trace_writer__drain(struct trace_writer *w, int timeout_ms, struct error *e);

/*
 * After a failed write to a regular file (a full disk): cut the file back to its last whole block,
 * drop what waits, and forget the error. What is there is then a stream that ends between blocks,
 * and the room won may hold an END. -ESPIPE if it is no regular file, or another -errno.
 */
int trace_writer__cut_back(struct trace_writer *w);

/* Bytes that wait for the descriptor, the current block included. */
size_t trace_writer__queued(const struct trace_writer *w);
/* Records and bytes (as stored, blocks ended so far). */
uint64_t trace_writer__records(const struct trace_writer *w);
uint64_t trace_writer__bytes(const struct trace_writer *w);
/* Drops what was not flushed. Accepts NULL; does not close the descriptor. */
void trace_writer__free(struct trace_writer *w);

#endif
