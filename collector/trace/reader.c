/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A block is taken in whole, summed, decoded and walked before any of its records is handed out;
 * each record is then checked against the table of layouts. Bytes are asked for exactly as they
 * are needed, so nothing waits in here unseen by poll(2) but decoded records.
 */
#include "collector/trace/reader_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "collector/trace/layout.h"

static int foreign(struct trace_reader *r, const char *why)
{
	return error__set(&r->error, EXIT_FAILED, EPROTO,
			  "make a recording with: moeprobe record PID -o FILE",
			  "trace: failed to read '%s': it is not a moeprobe recording%s", r->name,
			  why);
}

/* 1, -EAGAIN, or the error. */
static int read_file_header(struct trace_reader *r)
{
	const size_t magic = sizeof(TRACE_MAGIC) - 1;
	struct trace_file_header h = { 0 };
	int got = trace_reader__fill(r, sizeof(h));

	if (got < 0)
		return got;
	if (!r->input.size)
		return foreign(r, ": it is empty");
	memcpy(&h, r->input.data, r->input.size < sizeof(h) ? r->input.size : sizeof(h));
	if (memcmp(&h, TRACE_MAGIC, r->input.size < magic ? r->input.size : magic))
		return foreign(r, "");
	if (!got)
		return trace_reader__cut_off(r, "its header");
	if (h.version > TRACE_VERSION)
		return error__set(&r->error, EXIT_UNSUPPORTED, EPROTONOSUPPORT, "update moeprobe",
				  "trace: failed to read '%s': made by a newer moeprobe: format "
				  "version %u, this one reads up to %u",
				  r->name, h.version, TRACE_VERSION);
	if (!h.version)
		return error__set(
			&r->error, EXIT_UNSUPPORTED, EPROTONOSUPPORT,
			"read it with the build that made it",
			"trace: failed to read '%s': format version 0, of before the first "
			"release, was never kept",
			r->name);
	if (h.endian != TRACE_ENDIAN || h.size < sizeof(h) || h.size > TRACE_HEADER_MAX)
		return damaged(r, 0, "impossible file header");
	got = trace_reader__fill(r, h.size);
	if (got <= 0)
		return got ? got : trace_reader__cut_off(r, "its header");
	if (trace_reader__header_crc(r->input.data, h.size,
				     offsetof(struct trace_file_header, crc)) != h.crc)
		return damaged(r, 0, "file header fails its checksum");
	trace_reader__consume(r, h.size);
	r->begun = true;
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
		if (got > 0)
			break;
		if (got < 0) {
			got = trace_reader__drop_block(r);
			continue;
		}
		got = r->begun ? 1 : read_file_header(r);
		if (got > 0)
			got = trace_reader__next_block(r);
		if (!got || (got == -ENODATA && error__is_set(&r->damage)))
			got = trace_reader__say_damage(r);
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
	struct stat st;

	*out = reader_new(name);
	if (!*out)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL,
				  "trace: failed to read '%s': out of memory", name);
	(*out)->fd = fd;
	(*out)->can_search = !fstat(fd, &st) && S_ISREG(st.st_mode);
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
	(*out)->can_search = true;
	return 0;
}

bool trace_reader__complete(const struct trace_reader *r)
{
	return r->complete && !r->unread.damaged_blocks;
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
