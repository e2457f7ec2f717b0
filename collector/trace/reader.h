/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reads the stream from a descriptor or from memory. Hostile input: lengths, counts, enums and
 * column sizes are checked before anything is handed out; a record that does not hold what it
 * announces is an error by name and place.
 */
#ifndef MP_TRACE_READER_H
#define MP_TRACE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collector/trace/records.h"

struct error;
struct trace_reader;

/* One record, checked. @fixed points to a copy of struct trace_<type> in this build's size
 * (missing later fields are zero). Columns borrow from the reader until the next call. */
struct trace_item {
	enum trace_type type;
	union {
		const struct trace_record *head;
		const void *fixed;
#define X(id, name, suffix) const struct trace_##suffix *suffix;
		TRACE_RECORDS(X)
#undef X
	};
	size_t columns;
	struct {
		const void *bytes; /* 8-byte aligned */
		size_t size;       /* without padding; 0: absent */
	} column[TRACE_COLUMNS_MAX];
};

/* Expert @index of all of a ROUTE; TRACE_UNKNOWN: none was chosen there. */
static inline uint32_t trace_item__expert(const struct trace_item *item, size_t index)
{
	const void *ids = item->column[1].bytes;
	bool wide = item->head->flags & TRACE_ROUTE_IDS_16;
	uint32_t id = wide ? ((const uint16_t *)ids)[index] : ((const uint8_t *)ids)[index];
	uint32_t none = wide ? TRACE_NO_EXPERT_16 : TRACE_NO_EXPERT_8;

	return item->head->flags & TRACE_ROUTE_NO_CHOICE && id == none ? TRACE_UNKNOWN : id;
}

/* What a stream held, and was not handed out. */
struct trace_unread {
	uint64_t records;        /* of types that this build does not know */
	uint32_t types;          /* how many such types */
	uint64_t damaged_blocks; /* a stretch where none begins counts as one */
	uint64_t damaged_bytes;  /* of the stream, in them */
};

/* @fd is borrowed; reads start at its current offset. @name is for messages. */
int trace_reader__open(struct trace_reader **out, int fd, const char *name, struct error *e);
/* The same over memory (borrowed). */
int trace_reader__open_memory(struct trace_reader **out, const void *bytes, size_t size,
			      const char *name, struct error *e);

/*
 * The next record. 1: @item is filled; 0: the stream ended (whether it was complete says
 * trace_reader__complete); -EAGAIN: nothing there yet on a non-blocking descriptor. Errors, by
 * name in @e, after everything that can be read has been handed out, and again at every later
 * call: -EPROTO not our format, -EPROTONOSUPPORT a newer version, -ENODATA cut off inside a
 * block, -EBADMSG damaged, others from read(2).
 *
 * In memory and in a regular file a damaged block is passed over, and what follows is read: the
 * error comes at the end. Anywhere else the stream ends with it.
 */
int trace_reader__next(struct trace_reader *r, struct trace_item *item, struct error *e);

/* True once an END record was read, and nothing was damaged: the stream is complete. */
bool trace_reader__complete(const struct trace_reader *r);
/* Bytes consumed so far. */
uint64_t trace_reader__bytes(const struct trace_reader *r);
/* Borrowed; so far. */
const struct trace_unread *trace_reader__unread(const struct trace_reader *r);
void trace_reader__free(struct trace_reader *r);

#endif
