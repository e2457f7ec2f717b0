/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The reader of the stream. A fuzzer does not find checksums, so each input is also read with its
 * sums and announcements repaired: whatever comes out, every byte of it must be there, and writing
 * it again must give a stream that reads the same.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "collector/trace/layout.h"
#include "collector/trace/reader.h"
#include "collector/trace/writer.h"
#include "probe/base/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint32_t sink;

/* Touch every byte, so that the sanitizer sees a size that is not true. */
static uint32_t touch(const struct trace_item *item)
{
	const struct trace_layout *l = trace_layout__find(item->type);
	uint32_t sum = (uint32_t)crc32(0, (const uint8_t *)item->fixed + 8, l->size - 8u);

	for (size_t i = 0; i < item->columns; i++)
		if (item->column[i].size)
			sum = (uint32_t)crc32(sum, item->column[i].bytes, item->column[i].size);
	return sum;
}

static void copy(struct trace_writer *w, const struct trace_item *item)
{
	const struct trace_layout *l = trace_layout__find(item->type);
	struct trace_column column[TRACE_COLUMNS_MAX];
	uint8_t fixed[256];

	/* An unknown flag let through columns that the copy would not have: not the same record. */
	if (item->head->flags & ~l->flags)
		return;
	memcpy(fixed, item->fixed, l->size);
	for (size_t i = 0; i < item->columns; i++)
		column[i] = (struct trace_column){ item->column[i].bytes, item->column[i].size };
	if (trace_writer__append(w, item->type, fixed, l->size, column, item->columns))
		abort();
}

/* Read to the end or error; the sum of all records without unknown flags. */
static uint32_t read_stream(struct trace_reader *r, struct trace_writer *w)
{
	struct error e = { 0 };
	struct trace_item item;
	uint32_t sum = 0;
	int result;

	while ((result = trace_reader__next(r, &item, &e)) == 1) {
		uint32_t one = touch(&item);

		sink += one;
		if (item.head->flags & ~trace_layout__find(item.type)->flags)
			continue;
		sum = sum * 31 + one;
		if (w)
			copy(w, &item);
	}
	if ((result < 0) != error__is_set(&e))
		abort();
	/* What was passed over is never silent, and never more than there is. */
	if (trace_reader__unread(r)->damaged_blocks &&
	    (result != -EBADMSG || trace_reader__complete(r)))
		abort();
	if (trace_reader__unread(r)->damaged_bytes > trace_reader__bytes(r))
		abort();
	trace_reader__free(r);
	return sum;
}

/* Make sums, sizes, counts and times of every block right, as far as blocks can be found. */
static void repair(uint8_t *bytes, size_t size)
{
	struct trace_file_header f;
	struct trace_block_header h;
	size_t at = sizeof(f), i, end;

	if (size < at + sizeof(h))
		return;
	memcpy(&f, bytes, sizeof(f));
	memcpy(f.magic, TRACE_MAGIC, sizeof(f.magic));
	f.version = TRACE_VERSION;
	f.size = sizeof(f);
	f.endian = TRACE_ENDIAN;
	f.crc = 0;
	f.crc = (uint32_t)crc32(0, (uint8_t *)&f, sizeof(f));
	memcpy(bytes, &f, sizeof(f));
	for (; at + sizeof(h) < size; at = end) {
		memcpy(&h, bytes + at, sizeof(h));
		h.magic = TRACE_BLOCK_MAGIC;
		h.size = sizeof(h);
		end = at + sizeof(h) + h.stored_bytes;
		if (end > size) {
			end = size;
			h.stored_bytes = (uint32_t)(end - at - sizeof(h));
		}
		h.records = 0;
		h.first_ns = UINT64_MAX;
		h.last_ns = 0;
		if (h.codec == TRACE_CODEC_NONE)
			h.decoded_bytes = h.stored_bytes;
		for (i = at + sizeof(h); h.codec == TRACE_CODEC_NONE && i + 24 <= end;) {
			struct trace_record head;

			memcpy(&head, bytes + i, sizeof(head));
			h.first_ns = head.time_ns < h.first_ns ? head.time_ns : h.first_ns;
			h.last_ns = head.time_ns > h.last_ns ? head.time_ns : h.last_ns;
			h.records++;
			if (head.size < sizeof(head) || head.size > end - i)
				break;
			i += head.size;
		}
		h.crc = 0;
		h.crc = (uint32_t)crc32(crc32(0, (uint8_t *)&h, sizeof(h)), bytes + at + sizeof(h),
					h.stored_bytes);
		memcpy(bytes + at, &h, sizeof(h));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct trace_writer_options options = { size & 1 ? TRACE_CODEC_ZSTD : TRACE_CODEC_NONE, 0 };
	struct trace_reader *r;
	struct trace_writer *w;
	uint8_t *bytes = malloc(size + 1);
	uint32_t first, again;
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	memcpy(bytes, data, size);
	if (!trace_reader__open_memory(&r, bytes, size, "input", NULL))
		read_stream(r, NULL);
	repair(bytes, size);
	if (fd < 0 || trace_writer__open(&w, fd, "copy", &options, NULL) ||
	    trace_reader__open_memory(&r, bytes, size, "input", NULL))
		abort();
	first = read_stream(r, w);
	if (trace_writer__flush(w, NULL))
		abort();
	trace_writer__free(w);
	lseek(fd, 0, SEEK_SET);
	if (trace_reader__open(&r, fd, "copy", NULL))
		abort();
	again = read_stream(r, NULL);
	if (again != first)
		abort();
	close(fd);
	free(bytes);
	return 0;
}
