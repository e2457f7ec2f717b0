/* SPDX-License-Identifier: BSD-2-Clause */
/* The stream: what is written is read back; what is damaged gives its undamaged beginning and a
 * named error. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#include "collector/trace/layout.h"
#include "collector/trace/reader.h"
#include "collector/trace/writer.h"
#include "probe/base/error.h"

#define SAMPLES_MAX 64

/* One record as it was handed to the writer. */
struct sample {
	enum trace_type type;
	union {
		struct trace_record head;
		uint8_t bytes[160];
#define X(id, name, suffix) struct trace_##suffix suffix;
		TRACE_RECORDS(X)
#undef X
	} fixed;
	size_t columns;
	struct trace_column column[TRACE_COLUMNS_MAX];
};

static struct sample samples[SAMPLES_MAX];
static size_t sample_count;
static uint8_t noise[4096]; /* what columns are filled with */

/* A record of @type whose fixed part is a pattern but for what the caller sets afterwards. */
static struct sample *sample_new(enum trace_type type)
{
	struct sample *s = &samples[sample_count];
	const struct trace_layout *l = trace_layout__find(type);
	size_t i;

	assert_true(sample_count < SAMPLES_MAX);
	memset(s, 0, sizeof(*s));
	s->type = type;
	for (i = sizeof(struct trace_record); i < l->size; i++)
		s->fixed.bytes[i] = (uint8_t)(0x80 + i * 7 + sample_count);
	s->fixed.head.time_ns = 1000 + (sample_count ^ 1) * 10; /* not quite in order */
	s->fixed.head.source = 1 + (uint32_t)sample_count % 2;
	sample_count++;
	return s;
}

static void sample_column(struct sample *s, size_t size)
{
	s->column[s->columns].bytes = noise + sample_count % 13 + s->columns;
	s->column[s->columns++].size = size;
}

static void sample_step(uint32_t rows, uint32_t flags)
{
	struct sample *s = sample_new(TRACE_STEP);

	s->fixed.head.flags = flags;
	s->fixed.step.rows = rows;
	sample_column(s, rows * 4);
	sample_column(s, rows * 4);
	sample_column(s, rows * 4);
	sample_column(s, rows);
	sample_column(s, rows);
	sample_column(s, flags & TRACE_STEP_TOKENS ? rows * 4 : 0);
}

static void sample_route(uint32_t rows, uint32_t k, uint32_t flags)
{
	struct sample *s = sample_new(TRACE_ROUTE);

	s->fixed.head.flags = flags;
	s->fixed.route.rows = rows;
	s->fixed.route.k = k;
	sample_column(s, flags & TRACE_ROUTE_ALL_ROWS ? 0 : rows * 4);
	sample_column(s, rows * k * (flags & TRACE_ROUTE_IDS_16 ? 2 : 1));
	sample_column(s, flags & TRACE_ROUTE_WEIGHTS ? rows * k * 4 : 0);
	sample_column(s, flags & TRACE_ROUTE_ROW_FLAGS ? rows : 0);
}

static void sample_texts(enum trace_type type, const uint16_t *lengths, size_t count, size_t offset)
{
	struct sample *s = sample_new(type);
	size_t i;

	memcpy(s->fixed.bytes + offset, lengths, count * sizeof(*lengths));
	for (i = 0; i < count; i++)
		sample_column(s, lengths[i]);
}

static void sample_model(uint32_t layers, uint16_t length)
{
	struct sample *s = sample_new(TRACE_MODEL);

	s->fixed.model.layers = layers;
	s->fixed.model.architecture_length = length;
	s->fixed.model.name_length = (uint16_t)(length + 1);
	s->fixed.model.path_length = 0;
	s->fixed.model.quantisation_length = 8;
	s->fixed.model.kv_type_length = 3;
	sample_column(s, layers * 2);
	sample_column(s, length);
	sample_column(s, length + 1u);
	sample_column(s, 0);
	sample_column(s, 8);
	sample_column(s, 3);
}

static void sample_request(uint16_t client, uint32_t tokens)
{
	struct sample *s = sample_new(TRACE_REQUEST_BEGIN);

	s->fixed.request_begin.client_id_length = client;
	s->fixed.request_begin.prompt_known = tokens;
	sample_column(s, client);
	sample_column(s, tokens * 4);
}

static void sample_counts(uint32_t flags)
{
	struct sample *s = sample_new(TRACE_COUNTS);

	s->fixed.head.flags = flags;
	s->fixed.counts.experts = 5;
	sample_column(s, 20);
	sample_column(s, flags & TRACE_COUNTS_GATE ? 20 : 0);
}

/* Every record type, every variant of columns, lengths around the padding. */
static int samples_make(void **state)
{
	static const enum trace_type plain[] = { TRACE_CONTEXT, TRACE_SEQUENCE, TRACE_BIND,
						 TRACE_CLOCK,   TRACE_LOSS,     TRACE_INVALID,
						 TRACE_COST,    TRACE_WINDOW,   TRACE_REQUEST_END };
	struct sample *s;
	uint32_t flags;
	size_t i;

	for (i = 0; i < sizeof(noise); i++)
		noise[i] = (uint8_t)(i * 131 + (i >> 3));
	sample_count = 0;
	sample_texts(TRACE_SOURCE, (uint16_t[]){ 8, 3 }, 2,
		     offsetof(struct trace_source, tool_length));
	sample_texts(TRACE_PROCESS, (uint16_t[]){ 0, 9, 7, 6 }, 4,
		     offsetof(struct trace_process, engine_length));
	sample_texts(TRACE_FINDING, (uint16_t[]){ 1, 0, 16, 5 }, 4,
		     offsetof(struct trace_finding, area_length));
	for (i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		sample_new(plain[i]);
	sample_model(0, 0);
	sample_model(5, 7);
	sample_request(0, 0);
	sample_request(13, 0);
	sample_request(8, 3);
	sample_step(0, 0);
	sample_step(1, 0);
	sample_step(3, TRACE_STEP_TOKENS);
	for (flags = 0; flags < 16; flags++)
		sample_route(flags == 7 ? 0 : 3, flags == 9 ? 1 : 5, flags);
	sample_route(3, 2, TRACE_ROUTE_ROW_FLAGS | TRACE_ROUTE_RAW | TRACE_ROUTE_LOCAL);
	sample_counts(0);
	sample_counts(TRACE_COUNTS_GATE);
	sample_texts(TRACE_REQUEST_INFO, (uint16_t[]){ 3, 0, 32, 1, 18 }, 5,
		     offsetof(struct trace_request_info, client_id_length));
	s = sample_new(TRACE_COVERAGE);
	s->fixed.coverage.causes = 9;
	sample_column(s, 72);
	sample_new(TRACE_END);
	return 0;
}

/* All samples as a stream in a memory file at offset 0; a block ends after @block_records. */
static int stream_write(enum trace_codec codec, size_t block_records)
{
	struct trace_writer_options options = { .codec = codec };
	struct error e = { 0 };
	struct trace_writer *w;
	int fd = memfd_create("trace", MFD_CLOEXEC);
	size_t i;

	assert_true(fd >= 0);
	assert_int_equal(trace_writer__open(&w, fd, "samples", &options, &e), 0);
	for (i = 0; i < sample_count; i++) {
		struct sample s = samples[i];

		assert_int_equal(trace_writer__append(w, s.type, &s.fixed,
						      trace_layout__find(s.type)->size, s.column,
						      s.columns),
				 0);
		if (i % block_records == block_records - 1)
			assert_int_equal(trace_writer__flush(w, &e), 0);
	}
	assert_int_equal(trace_writer__flush(w, &e), 0);
	assert_int_equal(trace_writer__records(w), sample_count);
	assert_int_equal(trace_writer__bytes(w), lseek(fd, 0, SEEK_END));
	assert_int_equal(trace_writer__queued(w), 0);
	trace_writer__free(w);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

/* The stream's bytes, malloc'd. */
static uint8_t *stream_bytes(enum trace_codec codec, size_t block_records, size_t *size)
{
	int fd = stream_write(codec, block_records);
	uint8_t *bytes;

	*size = (size_t)lseek(fd, 0, SEEK_END);
	bytes = malloc(*size);
	assert_int_equal(pread(fd, bytes, *size, 0), *size);
	close(fd);
	return bytes;
}

static void assert_sample(const struct trace_item *item, const struct sample *s)
{
	const size_t head = sizeof(struct trace_record);
	size_t i;

	assert_int_equal(item->type, s->type);
	assert_int_equal(item->head->time_ns, s->fixed.head.time_ns);
	assert_int_equal(item->head->source, s->fixed.head.source);
	assert_int_equal(item->head->flags, s->fixed.head.flags);
	assert_memory_equal((const uint8_t *)item->fixed + head, s->fixed.bytes + head,
			    trace_layout__find(s->type)->size - head);
	assert_int_equal(item->columns, s->columns);
	for (i = 0; i < s->columns; i++) {
		assert_int_equal(item->column[i].size, s->column[i].size);
		assert_int_equal((uintptr_t)item->column[i].bytes % 8, 0);
		assert_memory_equal(item->column[i].bytes, s->column[i].bytes, s->column[i].size);
	}
}

/* Read to the end or error, each record being the next sample, but for @lost of them from number
 * @from on. Returns how many were read. */
static size_t read_samples(struct trace_reader *r, size_t from, size_t lost, int *result,
			   struct error *e)
{
	struct trace_item item;
	size_t n = 0;

	memset(e, 0, sizeof(*e));
	while ((*result = trace_reader__next(r, &item, e)) == 1) {
		size_t at = n < from ? n : n + lost;

		assert_true(at < sample_count);
		assert_sample(&item, &samples[at]);
		n++;
	}
	if (*result < 0 && *result != -EAGAIN) {
		assert_true(error__is_set(e));
		assert_int_equal(trace_reader__next(r, &item, NULL), *result);
	}
	return n;
}

static size_t read_memory(const uint8_t *bytes, size_t size, size_t from, size_t lost, int *result,
			  bool *complete, struct error *e)
{
	struct trace_reader *r;
	size_t n;

	assert_int_equal(trace_reader__open_memory(&r, bytes, size, "FILE", e), 0);
	n = read_samples(r, from, lost, result, e);
	*complete = trace_reader__complete(r);
	if (!*result)
		assert_int_equal(trace_reader__bytes(r), size);
	trace_reader__free(r);
	return n;
}

static void test_round_trip(void **state)
{
	static const size_t block_records[] = { 1, 2, 5, 1000 };
	struct trace_reader *r;
	struct error e = { 0 };
	int fd, result;
	size_t i;

	for (i = 0; i < 8; i++) {
		fd = stream_write(i % 2 ? TRACE_CODEC_ZSTD : TRACE_CODEC_NONE,
				  block_records[i / 2]);
		assert_int_equal(trace_reader__open(&r, fd, "samples", &e), 0);
		assert_int_equal(read_samples(r, 0, 0, &result, &e), sample_count);
		assert_int_equal(result, 0);
		assert_true(trace_reader__complete(r));
		assert_int_equal(trace_reader__unread(r)->records, 0);
		trace_reader__free(r);
		close(fd);
	}
}

/* All types are among the samples, and the table knows exactly the types of the list. */
static void test_types(void **state)
{
	bool seen[32] = { false };
	size_t i;

	for (i = 0; i < sample_count; i++)
		seen[samples[i].type] = true;
#define X(id, NAME, suffix) \
	assert_true(seen[id]); \
	assert_string_equal(trace_layout__find(id)->name, #suffix); \
	assert_int_equal(trace_layout__find(id)->size, sizeof(struct trace_##suffix)); \
	seen[id] = false;
	TRACE_RECORDS(X)
#undef X
	for (i = 0; i < 32; i++)
		assert_false(seen[i]);
	assert_null(trace_layout__find(0));
	assert_null(trace_layout__find(11));
	assert_null(trace_layout__find(22));
	assert_null(trace_layout__find(UINT16_MAX));
}

/* Records in the blocks that end at or before @place; in *@here those of the block that holds it,
 * 0 if it is where a block begins or in the file header. */
static size_t records_before(const uint8_t *bytes, size_t place, size_t *here)
{
	struct trace_block_header h = { 0 };
	size_t at = sizeof(struct trace_file_header), records = 0;

	*here = 0;
	while (at < place) {
		memcpy(&h, bytes + at, sizeof(h));
		at += h.size + h.stored_bytes;
		*here = at > place ? h.records : 0;
		records += at <= place ? h.records : 0;
	}
	return records;
}

static void test_every_truncation(void **state)
{
	size_t size, cut, n, here;
	bool complete;
	struct error e;
	uint8_t *bytes;
	int result, codec;

	for (codec = 0; codec < 2; codec++) {
		bytes = stream_bytes(codec, 3, &size);
		for (cut = 0; cut < size; cut++) {
			/* A copy of exact size, so that the sanitizer sees a step too far. */
			uint8_t *part = malloc(cut + !cut);

			memcpy(part, bytes, cut);
			n = read_memory(part, cut, 0, 0, &result, &complete, &e);
			free(part);
			assert_false(complete);
			assert_int_equal(n, records_before(bytes, cut, &here));
			if (!here && cut >= sizeof(struct trace_file_header)) {
				assert_int_equal(result, 0);
				continue;
			}
			assert_int_equal(result, cut ? -ENODATA : -EPROTO);
			assert_non_null(strstr(e.what, cut ? "cut off at byte" : "empty"));
		}
		free(bytes);
	}
}

/* Where the block that holds @place ends by its header in @damaged: if another one ends there too
 * in @bytes, the damaged one is taken at its word, and what lies between is lost with it. Returns
 * the records lost, given those of its own. */
static size_t lost_at_its_word(const uint8_t *bytes, const uint8_t *damaged, size_t size,
			       size_t place, size_t own)
{
	struct trace_block_header h = { 0 };
	size_t at = sizeof(struct trace_file_header), begin = at, end, more, here;

	while (at <= place) {
		begin = at;
		memcpy(&h, bytes + at, sizeof(h));
		at += h.size + h.stored_bytes;
	}
	memcpy(&h, damaged + begin, sizeof(h));
	end = begin + h.size + h.stored_bytes;
	if (end <= at || end > size)
		return own;
	more = records_before(bytes, end, &here);
	return here ? own : more - records_before(bytes, begin, &here);
}

/* It costs its block and no other; in the file header, all. */
static void test_every_flipped_bit(void **state)
{
	const size_t header = sizeof(struct trace_file_header);
	size_t size, bit, n, before, lost;
	struct error e;
	uint8_t *bytes, *whole;
	bool complete;
	int result, codec;

	for (codec = 0; codec < 2; codec++) {
		bytes = stream_bytes(codec, 4, &size);
		whole = stream_bytes(codec, 4, &size);
		for (bit = 0; bit < size * 8; bit++) {
			before = records_before(bytes, bit / 8 + 1, &lost);
			if (!lost && bit / 8 >= header) /* a block's last byte */
				before = records_before(bytes, bit / 8, &lost);
			bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
			if (bit / 8 < header)
				lost = sample_count;
			else
				lost = lost_at_its_word(whole, bytes, size, bit / 8, lost);
			/* Each record that comes out is compared with its sample in there. */
			n = read_memory(bytes, size, before, lost, &result, &complete, &e);
			bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
			assert_int_equal(n, sample_count - lost);
			assert_true(result < 0);
			assert_false(complete);
		}
		n = read_memory(bytes, size, 0, 0, &result, &complete, &e);
		assert_int_equal(n, sample_count);
		free(whole);
		free(bytes);
	}
}

/* On a pipe, a byte at a time, without waiting. */
static void test_non_blocking(void **state)
{
	struct trace_item item;
	struct trace_reader *r;
	struct error e = { 0 };
	size_t size, i, n = 0;
	uint8_t *bytes = stream_bytes(TRACE_CODEC_ZSTD, 2, &size);
	int fds[2], result;

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(trace_reader__open(&r, fds[0], "pipe", &e), 0);
	for (i = 0; i < size; i++) {
		assert_int_equal(trace_reader__next(r, &item, &e), -EAGAIN);
		assert_int_equal(write(fds[1], bytes + i, 1), 1);
		while ((result = trace_reader__next(r, &item, &e)) == 1)
			assert_sample(&item, &samples[n++]);
		assert_int_equal(result, -EAGAIN);
		assert_false(error__is_set(&e));
	}
	assert_int_equal(n, sample_count);
	close(fds[1]);
	assert_int_equal(trace_reader__next(r, &item, &e), 0);
	assert_true(trace_reader__complete(r));
	trace_reader__free(r);
	close(fds[0]);
	free(bytes);
}

/* --- large files ---------------------------------------------------------------------------- */

#define UNKNOWN_TYPE 30000

/* A file of @blocks blocks that take @size bytes each, one record of a later version in each. */
static uint8_t *blocks_make(size_t blocks, uint32_t size, size_t *total)
{
	struct trace_block_header h = {
		.magic = TRACE_BLOCK_MAGIC,
		.size = sizeof(h),
		.stored_bytes = size - sizeof(h),
		.decoded_bytes = size - sizeof(h),
		.records = 1,
	};
	struct trace_record record = {
		.type = UNKNOWN_TYPE,
		.fixed = sizeof(record),
		.size = h.decoded_bytes,
	};
	uint8_t *bytes = stream_bytes(TRACE_CODEC_NONE, 1, total), *at;

	*total = sizeof(struct trace_file_header) + blocks * size;
	bytes = realloc(bytes, *total);
	assert_non_null(bytes);
	at = bytes + sizeof(struct trace_file_header);
	memset(at, 0, size);
	memcpy(at, &h, sizeof(h));
	memcpy(at + sizeof(h), &record, sizeof(record));
	h.crc = (uint32_t)crc32(0, at, size);
	memcpy(at, &h, sizeof(h));
	for (size_t i = 1; i < blocks; i++)
		memcpy(at + i * size, at, size);
	return bytes;
}

/* How many records were read, all of a later version. */
static uint64_t count_unknown(const uint8_t *bytes, size_t size, uint64_t *damaged)
{
	struct trace_item item;
	struct trace_reader *r;
	struct error e = { 0 };
	uint64_t n;

	assert_int_equal(trace_reader__open_memory(&r, bytes, size, "FILE", &e), 0);
	assert_int_equal(trace_reader__next(r, &item, &e), -EBADMSG);
	n = trace_reader__unread(r)->records;
	*damaged = trace_reader__unread(r)->damaged_blocks;
	trace_reader__free(r);
	return n;
}

/* However many blocks are damaged, and whatever was summed in vain for them, all others are read.
 */
static void test_many_damaged(void **state)
{
	static const struct {
		uint32_t size, flipped; /* of a block; in its stored_bytes */
	} cases[] = { { 4104, 1u << 16 }, { 65544, 1u << 23 } };
	const size_t blocks = 1000, every = 5,
		     stored = offsetof(struct trace_block_header, stored_bytes);
	uint64_t damaged;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		size_t total;
		uint8_t *bytes = blocks_make(blocks, cases[i].size, &total);

		for (size_t n = 2; n < blocks; n += every) {
			uint8_t *at = bytes + sizeof(struct trace_file_header) + n * cases[i].size;
			uint32_t value;

			memcpy(&value, at + stored, sizeof(value));
			value ^= cases[i].flipped;
			memcpy(at + stored, &value, sizeof(value));
		}
		assert_int_equal(count_unknown(bytes, total, &damaged), blocks - blocks / every);
		assert_int_equal(damaged, blocks / every);
		free(bytes);
	}
}

/* 60 MB of headers, each of which announces nearly 16 MiB that end at another header or beside. */
static void test_nothing_but_headers(void **state)
{
	const size_t header = 16; /* as far as it is looked at: the next may begin there */
	const clock_t most =
		30 * CLOCKS_PER_SEC; /* with sanitizers; hours if it were not bounded */
	uint64_t damaged;
	size_t total;

	for (uint32_t beside = 0; beside < 2; beside++) {
		struct trace_block_header h = {
			.magic = TRACE_BLOCK_MAGIC,
			.size = sizeof(h),
			.stored_bytes = (15u << 20) + 8 + beside * 4,
			.decoded_bytes = 8,
		};
		uint8_t *bytes = blocks_make(1, 60u << 20, &total);
		clock_t begin = clock();

		for (size_t at = sizeof(struct trace_file_header); at + header <= total;
		     at += header)
			memcpy(bytes + at, &h, header);
		assert_int_equal(count_unknown(bytes, total, &damaged), 0);
		assert_true(damaged > 0);
		assert_true(clock() - begin < most);
		free(bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_every_truncation),
		cmocka_unit_test(test_every_flipped_bit),
		cmocka_unit_test(test_non_blocking),
		cmocka_unit_test(test_many_damaged),
		cmocka_unit_test(test_nothing_but_headers),
	};

	return cmocka_run_group_tests_name("trace", tests, samples_make, NULL);
}
