/* SPDX-License-Identifier: BSD-2-Clause */
/* Streams that this build did not write: from later writers (read what is known), and from hostile
 * ones (intact by their sums, wrong in what they say). Blocks are made by hand here. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#include "collector/trace/reader.h"
#include "probe/base/buffer.h"
#include "probe/base/error.h"

static struct buffer stream, records;
static uint32_t record_count;
static struct trace_block_header block; /* of the next block, to be spoilt by a test */

static void put_file_header(uint16_t version, uint16_t size)
{
	struct trace_file_header *h;

	assert_true(size >= sizeof(*h));
	stream.size = 0;
	h = buffer__extend(&stream, size);
	memcpy(h->magic, TRACE_MAGIC, sizeof(h->magic));
	h->version = version;
	h->size = size;
	h->endian = TRACE_ENDIAN;
	h->crc = (uint32_t)crc32(0, (uint8_t *)h, size);
}

static int begin(void **state)
{
	put_file_header(TRACE_VERSION, sizeof(struct trace_file_header));
	records.size = 0;
	record_count = 0;
	block = (struct trace_block_header){
		.magic = TRACE_BLOCK_MAGIC,
		.size = sizeof(block),
		.first_ns = 5,
		.last_ns = 5,
	};
	return 0;
}

static int end(void **state)
{
	buffer__free(&stream);
	buffer__free(&records);
	return 0;
}

/* Append a record of @size bytes whose fixed part has @fixed; borrowed until the next. */
static void *put_record(uint16_t type, uint16_t fixed, uint32_t size)
{
	struct trace_record *r = buffer__extend(&records, size < sizeof(*r) ? sizeof(*r) : size);

	r->type = type;
	r->fixed = fixed;
	r->size = size;
	r->time_ns = 5;
	record_count++;
	return r;
}

/* End the block of what was put. Fields that a test set differ from what is right. */
static void put_block(void)
{
	struct trace_block_header *h;
	size_t at = stream.size, header = block.size;
	uint8_t *to;

	if (!block.stored_bytes)
		block.stored_bytes = (uint32_t)records.size;
	if (!block.decoded_bytes)
		block.decoded_bytes = (uint32_t)records.size;
	if (!block.records)
		block.records = record_count;
	to = buffer__extend(&stream, header > sizeof(block) ? header : sizeof(block));
	memcpy(to, &block, sizeof(block));
	assert_int_equal(buffer__append(&stream, records.data, records.size), 0);
	h = (void *)(stream.data + at);
	if (at + header + records.size == stream.size)
		h->crc = (uint32_t)crc32(0, stream.data + at, (uInt)(stream.size - at));
	records.size = 0;
	record_count = 0;
}

/* Records read before the end (0) or error in *@result. */
static unsigned read_all(int *result, struct error *e, struct trace_item *last)
{
	struct trace_reader *r;
	struct trace_item item;
	unsigned n = 0;

	memset(e, 0, sizeof(*e));
	assert_int_equal(trace_reader__open_memory(&r, stream.data, stream.size, "FILE", e), 0);
	while ((*result = trace_reader__next(r, &item, e)) == 1) {
		n++;
		if (last)
			*last = item;
	}
	trace_reader__free(r);
	return n;
}

/* The stream must fail with @err and a message that holds @reason, after @good records. */
static void assert_refused(unsigned good, int err, const char *reason)
{
	struct error e;
	int result;

	assert_int_equal(read_all(&result, &e, NULL), good);
	assert_int_equal(result, err);
	assert_int_equal(e.errnum, -err);
	assert_non_null(strstr(e.what, "trace: failed to read 'FILE': "));
	if (!strstr(e.what, reason))
		fail_msg("'%s' does not say '%s'", e.what, reason);
	assert_true(e.remedy[0]);
}

static void test_unknown_types(void **state)
{
	struct trace_reader *r;
	struct trace_item item;
	struct error e = { 0 };

	put_record(11, 24, 24);
	put_record(4711, 32, 104);
	put_record(TRACE_INVALID, 40, 40);
	put_record(0, 24, 24);
	put_record(UINT16_MAX, 24, 24);
	put_record(4711, 24, 24);
	put_block();
	assert_int_equal(trace_reader__open_memory(&r, stream.data, stream.size, "FILE", &e), 0);
	assert_int_equal(trace_reader__next(r, &item, &e), 1);
	assert_int_equal(item.type, TRACE_INVALID);
	assert_int_equal(trace_reader__unread(r)->records, 2);
	assert_int_equal(trace_reader__unread(r)->types, 2);
	assert_int_equal(trace_reader__next(r, &item, &e), 0);
	assert_int_equal(trace_reader__unread(r)->records, 5);
	assert_int_equal(trace_reader__unread(r)->types, 4);
	assert_false(trace_reader__complete(r));
	trace_reader__free(r);
}

/* Longer headers, fixed parts and further columns of a later writer. */
static void test_growth(void **state)
{
	const size_t fixed = sizeof(struct trace_source);
	struct trace_source *s;
	struct trace_reader *r;
	struct trace_item item;
	struct error e = { 0 };

	put_file_header(TRACE_VERSION, 64);
	block.size = 48;
	s = put_record(TRACE_SOURCE, fixed + 16, fixed + 16 + 8);
	s->id = 7;
	s->tool_length = 3;
	memset((uint8_t *)s + fixed, 0xee, 16);
	memcpy((uint8_t *)s + fixed + 16, "abc", 3);
	s = put_record(TRACE_SOURCE, fixed + 8, fixed + 8 + 24); /* a third column */
	s->host_length = 1;
	s = put_record(TRACE_SOURCE, fixed, fixed + 8); /* a column by a new flag */
	s->head.flags = 1u << 31;
	put_block();
	assert_int_equal(trace_reader__open_memory(&r, stream.data, stream.size, "FILE", &e), 0);
	assert_int_equal(trace_reader__next(r, &item, &e), 1);
	assert_int_equal(item.source->id, 7);
	assert_int_equal(item.columns, 2);
	assert_int_equal(item.column[0].size, 3);
	assert_memory_equal(item.column[0].bytes, "abc", 3);
	assert_int_equal(item.column[1].size, 0);
	assert_int_equal(trace_reader__next(r, &item, &e), 1);
	assert_int_equal(item.columns, 2);
	assert_int_equal(item.column[1].size, 1);
	assert_int_equal(trace_reader__next(r, &item, &e), 1);
	assert_int_equal(trace_reader__next(r, &item, &e), 0);
	trace_reader__free(r);
}

static void test_foreign_files(void **state)
{
	static const char text[] = "not at all\n";

	struct error e;
	int result;

	stream.size = 0;
	assert_refused(0, -EPROTO, "it is not a moeprobe recording: it is empty");
	read_all(&result, &e, NULL);
	assert_int_equal(e.exit, EXIT_FAILED);
	buffer__append(&stream, text, sizeof(text));
	assert_refused(0, -EPROTO, "it is not a moeprobe recording");
	stream.size = 1;
	assert_refused(0, -EPROTO, "it is not a moeprobe recording");
	put_file_header(0, 32);
	assert_refused(0, -EPROTONOSUPPORT,
		       "format version 0, of before the first release, was never kept");
	put_file_header(2, 32);
	assert_refused(0, -EPROTONOSUPPORT,
		       "made by a newer moeprobe: format version 2, this one reads up to 1");
	read_all(&result, &e, NULL);
	assert_int_equal(e.exit, EXIT_UNSUPPORTED);
	put_file_header(1, 32);
	stream.data[12] = 1; /* the other byte order */
	stream.data[15] = 4;
	assert_refused(0, -EBADMSG, "damaged at byte 0");
	put_file_header(1, 64);
	stream.size = 63;
	assert_refused(0, -ENODATA, "cut off at byte 63, inside its header");
	put_file_header(1, TRACE_HEADER_MAX + 8);
	assert_refused(0, -EBADMSG, "impossible file header");
}

/* Each row spoils one thing of a second block that is right but for that. */
static void test_blocks(void **state)
{
	static const struct {
		size_t offset, bytes;
		uint64_t value;
		int err;
		const char *reason;
	} spoilt[] = {
#define FIELD(field) offsetof(struct trace_block_header, field), sizeof(block.field)
		{ FIELD(magic), 1, -EBADMSG, "no block begins here" },
		{ FIELD(size), 32, -EBADMSG, "impossible size" },
		{ FIELD(size), 4097, -EBADMSG, "impossible size" },
		{ FIELD(codec), 1, -EBADMSG, "does not decompress" },
		{ FIELD(codec), 2, -EBADMSG, "unknown codec 2" },
		{ FIELD(stored_bytes), TRACE_BLOCK_MAX + 1, -EBADMSG, "impossible size" },
		{ FIELD(stored_bytes), TRACE_BLOCK_MAX, -ENODATA, "cut off at byte 232" },
		{ FIELD(stored_bytes), 72, -EBADMSG, "checksum" },
		{ FIELD(decoded_bytes), TRACE_BLOCK_MAX + 1, -EBADMSG, "impossible size" },
		{ FIELD(decoded_bytes), 88, -EBADMSG, "block of two sizes" },
		{ FIELD(records), 1, -EBADMSG, "2 records where 1 are announced" },
		{ FIELD(records), 3, -EBADMSG, "2 records where 3 are announced" },
		{ FIELD(first_ns), 4, -EBADMSG, "another time" },
		{ FIELD(first_ns), 6, -EBADMSG, "another time" },
		{ FIELD(last_ns), 6, -EBADMSG, "another time" },
	};

	for (size_t i = 0; i < sizeof(spoilt) / sizeof(spoilt[0]); i++) {
		begin(NULL);
		put_record(TRACE_INVALID, 40, 40);
		put_block();
		block.stored_bytes = block.decoded_bytes = block.records = 0;
		memcpy((uint8_t *)&block + spoilt[i].offset, &spoilt[i].value, spoilt[i].bytes);
		put_record(TRACE_INVALID, 40, 40);
		put_record(TRACE_INVALID, 40, 40);
		put_block();
		assert_refused(1, spoilt[i].err, spoilt[i].reason);
	}
}

static void test_empty_block(void **state)
{
	block.records = 1;
	put_block();
	assert_refused(0, -EBADMSG, "damaged at byte 32: block of an impossible size");
}

/* Heads that do not add up: nothing of their block is handed out. */
static void test_heads(void **state)
{
	static const struct {
		uint16_t fixed;
		uint32_t size;
	} heads[] = {
		{ 24, 0 },          { 24, 16 },
		{ 16, 40 },         { 0, 40 },
		{ 48, 40 },         { 28, 40 },
		{ 40, 44 },         { 40, 48 },
		{ 40, UINT32_MAX }, { 40, UINT32_MAX - 7 },
		{ UINT16_MAX, 40 }, { 24, 32 },
	};

	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		struct trace_record *r;

		begin(NULL);
		put_record(TRACE_INVALID, 40, 40);
		r = put_record(TRACE_INVALID, 40, 40);
		r->fixed = heads[i].fixed;
		r->size = heads[i].size;
		put_block();
		assert_refused(0, -EBADMSG, "damaged at byte 32: record ");
	}
}

/* Fixed parts that announce columns which the record does not hold; what is before is good. */
static void test_columns(void **state)
{
	static const struct {
		uint32_t rows, k, flags, more;
	} routes[] = {
		{ 1, 1, 1, 0 },
		{ 1, 1, 1, 16 },
		{ 0, 0, 1, 8 },
		{ 1, 1, 0, 8 },
		{ 9, 1, 1, 8 },
		{ UINT32_MAX, UINT32_MAX, 15, 8 },
		{ 1u << 31, 1u << 31, 15, 0 },
		{ UINT32_MAX, 0, 1, 0 },
		{ 1, 0, 1, 0 },
		{ 1u << 30, 4, 1, 0 },
		{ 1u << 16, 1u << 16, 1, 0 },
	};

	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		struct trace_route *r;

		begin(NULL);
		put_record(TRACE_INVALID, 40, 40);
		r = put_record(TRACE_ROUTE, sizeof(*r), sizeof(*r) + routes[i].more);
		r->head.flags = routes[i].flags;
		r->rows = routes[i].rows;
		r->k = routes[i].k;
		put_block();
		assert_refused(1, -EBADMSG,
			       "damaged at byte 32: record 2 (route) does not hold what it "
			       "announces");
	}
	begin(NULL);
	put_record(TRACE_END, 80, 88);
	put_block();
	assert_refused(0, -EBADMSG, "record 1 (end) is too short");
}

/* A block of one record that says @number; where it begins. */
static size_t put_numbered(uint64_t number)
{
	size_t at = stream.size;
	struct trace_invalid *r = put_record(TRACE_INVALID, sizeof(*r), sizeof(*r));

	r->count = number;
	block.stored_bytes = block.decoded_bytes = block.records = 0;
	put_block();
	return at;
}

/* What must be read of the stream: the numbers of @wanted (0 ends them), then damage that was
 * first met at @at and took @blocks and @bytes. */
static void assert_goes_on(const uint64_t *wanted, size_t at, uint64_t blocks, uint64_t bytes)
{
	struct error e = { 0 };
	struct trace_reader *r;
	struct trace_item item;
	char place[64];

	assert_int_equal(trace_reader__open_memory(&r, stream.data, stream.size, "FILE", &e), 0);
	for (; *wanted; wanted++) {
		assert_int_equal(trace_reader__next(r, &item, &e), 1);
		assert_int_equal(item.invalid->count, *wanted);
	}
	assert_int_equal(trace_reader__next(r, &item, &e), -EBADMSG);
	assert_int_equal(trace_reader__next(r, &item, NULL), -EBADMSG);
	snprintf(place, sizeof(place), "damaged at byte %zu: ", at);
	assert_non_null(strstr(e.what, place));
	snprintf(place, sizeof(place), "(skipped: %d block%s, %d bytes)", (int)blocks,
		 blocks == 1 ? "" : "s", (int)bytes);
	assert_non_null(strstr(e.what, place));
	assert_int_equal(e.exit, EXIT_FAILED);
	assert_int_equal(trace_reader__unread(r)->damaged_blocks, blocks);
	assert_int_equal(trace_reader__unread(r)->damaged_bytes, bytes);
	trace_reader__free(r);
}

#define NUMBERS(...) \
	(const uint64_t[]) \
	{ \
		__VA_ARGS__, 0 \
	}
#define BLOCK 80 /* bytes of a numbered one */

static void test_damage_costs_its_block(void **state)
{
	size_t second;

	for (size_t byte = 0; byte < BLOCK; byte++) {
		begin(NULL);
		put_numbered(1);
		second = put_numbered(2);
		put_numbered(3);
		stream.data[second + byte] ^= 0x55;
		assert_goes_on(NUMBERS(1, 3), second, 1, BLOCK);
	}
	/* Two in a row, and the last one. */
	begin(NULL);
	put_numbered(1);
	second = put_numbered(2);
	put_numbered(3);
	put_numbered(4);
	put_numbered(5);
	stream.data[second + 50]++;
	stream.data[second + BLOCK + 50]++;
	stream.data[second + 3 * BLOCK + 50]++;
	assert_goes_on(NUMBERS(1, 4), second, 3, 3 * BLOCK);
	/* All of them. */
	begin(NULL);
	second = put_numbered(1);
	stream.data[second]++;
	assert_goes_on(NUMBERS(0), second, 1, BLOCK);
}

/* Intact by its sum and no block: its size is trusted, and a record costs those behind it. */
static void test_intact_but_wrong(void **state)
{
	struct trace_route *r;
	size_t second;

	put_numbered(1);
	second = stream.size;
	block.codec = 2;
	put_numbered(2);
	block.codec = 0;
	put_numbered(3);
	assert_goes_on(NUMBERS(1, 3), second, 1, BLOCK);
	begin(NULL);
	put_numbered(1);
	second = stream.size;
	block.stored_bytes = block.decoded_bytes = block.records = 0;
	((struct trace_invalid *)put_record(TRACE_INVALID, 40, 40))->count = 2;
	r = put_record(TRACE_ROUTE, sizeof(*r), sizeof(*r));
	r->rows = 9;
	put_record(TRACE_INVALID, 40, 40);
	put_block();
	put_numbered(3);
	assert_goes_on(NUMBERS(1, 2, 3), second, 1, 40 + 40 + 48 + 40);
}

/* What a damaged block holds may look like a block: its own word where it ends comes first. */
static void test_block_in_a_block(void **state)
{
	size_t outer, inner;
	uint8_t copy[BLOCK];

	inner = put_numbered(7);
	memcpy(copy, stream.data + inner, BLOCK);
	begin(NULL);
	put_numbered(1);
	outer = stream.size;
	block.stored_bytes = block.decoded_bytes = block.records = 0;
	memcpy((uint8_t *)put_record(TRACE_FINDING, 40, 40 + BLOCK) + 40, copy, BLOCK);
	put_block();
	put_numbered(3);
	stream.data[outer + 45]++;
	assert_goes_on(NUMBERS(1, 3), outer, 1, 40 + 40 + BLOCK);
}

/* Far apart, with places between that only look like blocks, however many. */
static void test_search(void **state)
{
	struct trace_block_header h = {
		.magic = TRACE_BLOCK_MAGIC,
		.size = sizeof(h),
		.stored_bytes = 4096,
		.decoded_bytes = 8,
	};
	const size_t hole = 5u << 20;
	size_t second;

	put_numbered(1);
	second = stream.size;
	memset(buffer__extend(&stream, hole), 'M', hole);
	for (size_t at = second; at < stream.size - 70000; at += 100000)
		memcpy(stream.data + at, &h, sizeof(h));
	put_numbered(3);
	assert_goes_on(NUMBERS(1, 3), second, 1, hole);
	for (size_t at = second; at < second + hole - 70000; at += 1000)
		memcpy(stream.data + at, &h, sizeof(h));
	assert_goes_on(NUMBERS(1, 3), second, 1, hole);
}

/* In a pipe the stream ends where it is damaged. */
static void test_pipe(void **state)
{
	struct error e = { 0 };
	struct trace_reader *r;
	struct trace_item item;
	size_t second;
	int fds[2];

	put_numbered(1);
	second = put_numbered(2);
	put_numbered(3);
	stream.data[second + 50]++;
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], stream.data, stream.size), stream.size);
	assert_int_equal(trace_reader__open(&r, fds[0], "FILE", &e), 0);
	assert_int_equal(trace_reader__next(r, &item, &e), 1);
	assert_int_equal(trace_reader__next(r, &item, &e), -EBADMSG);
	assert_int_equal(trace_reader__next(r, &item, &e), -EBADMSG);
	assert_int_equal(trace_reader__unread(r)->damaged_blocks, 1);
	assert_int_equal(trace_reader__unread(r)->damaged_bytes, BLOCK);
	trace_reader__free(r);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_unknown_types, begin, end),
		cmocka_unit_test_setup_teardown(test_growth, begin, end),
		cmocka_unit_test_setup_teardown(test_foreign_files, begin, end),
		cmocka_unit_test_setup_teardown(test_blocks, begin, end),
		cmocka_unit_test_setup_teardown(test_empty_block, begin, end),
		cmocka_unit_test_setup_teardown(test_heads, begin, end),
		cmocka_unit_test_setup_teardown(test_columns, begin, end),
		cmocka_unit_test_setup_teardown(test_damage_costs_its_block, begin, end),
		cmocka_unit_test_setup_teardown(test_intact_but_wrong, begin, end),
		cmocka_unit_test_setup_teardown(test_block_in_a_block, begin, end),
		cmocka_unit_test_setup_teardown(test_search, begin, end),
		cmocka_unit_test_setup_teardown(test_pipe, begin, end),
	};

	return cmocka_run_group_tests_name("trace_foreign", tests, NULL, NULL);
}
