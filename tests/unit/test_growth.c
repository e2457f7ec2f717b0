/* SPDX-License-Identifier: BSD-2-Clause */
/* "Growth" of docs/trace-format.md: what a later writer adds changes nothing of what this reader
 * shows. Every record of a stream is made longer by fields, by columns and by flags, and stands
 * between records of unknown types; dump, report and counts stay the same to the byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#include "analyzer/state/state.h"
#include "analyzer/view/json.h"
#include "analyzer/view/report.h"
#include "collector/trace/layout.h"
#include "collector/trace/reader.h"
#include "tests/golden/every_record.h"

struct bytes {
	uint8_t *data;
	size_t size;
};

static struct bytes stream; /* uncompressed, one block */
static bool in_stream[32];

static void append(struct bytes *b, const void *data, size_t size)
{
	b->data = realloc(b->data, b->size + size);
	assert_non_null(b->data);
	if (data)
		memcpy(b->data + b->size, data, size);
	else
		memset(b->data + b->size, 0xa5, size);
	b->size += size;
}

static void add_counts(struct trace_writer *w)
{
	static const uint32_t count[] = { 3, 1 };
	static const float gate[] = { 1.5f, 0.5f };
	struct trace_counts n = {
		.head = { .time_ns = 1005, .source = 17, .flags = TRACE_COUNTS_GATE },
		.request = 61,
		.context = 41,
		.layer = 1,
		.phase = TRACE_DECODE,
		.rows = 2,
		.experts = 2,
		.k = 2,
		.sequence = 51,
		.last_position = 1,
	};

	assert_int_equal(trace_writer__append(w, TRACE_COUNTS, &n, sizeof(n),
					      (struct trace_column[]){ { count, 8 }, { gate, 8 } },
					      2),
			 0);
}

static int stream_make(void **state)
{
	struct trace_writer_options options = { .codec = TRACE_CODEC_NONE };
	int fd = memfd_create("growth", MFD_CLOEXEC);
	struct trace_writer *w;

	assert_int_equal(trace_writer__open(&w, fd, "growth", &options, NULL), 0);
	add_counts(w);
	assert_int_equal(every__write(w), 0);
	assert_int_equal(trace_writer__flush(w, NULL), 0);
	trace_writer__free(w);
	stream.size = (size_t)lseek(fd, 0, SEEK_END);
	stream.data = malloc(stream.size);
	assert_int_equal(pread(fd, stream.data, stream.size, 0), stream.size);
	close(fd);
	return 0;
}

static int stream_free(void **state)
{
	free(stream.data);
	return 0;
}

/* How a later version differs. */
struct growth {
	size_t fields;  /* bytes appended to each fixed part */
	size_t columns; /* bytes of columns appended */
	uint32_t flags; /* set in each */
	bool types;     /* an unknown record after each */
};

static void add_unknown(struct bytes *to, uint64_t time_ns)
{
	struct trace_record r = {
		.type = 0x7000, .fixed = sizeof(r), .size = sizeof(r) + 40, .time_ns = time_ns
	};

	append(to, &r, sizeof(r));
	append(to, NULL, 40);
}

static struct bytes grow(const struct growth *g)
{
	const size_t file = sizeof(struct trace_file_header);
	struct trace_block_header h;
	struct bytes to = { 0 };
	struct trace_record r;
	const uint8_t *at = stream.data + file + sizeof(h), *end = stream.data + stream.size;

	append(&to, stream.data, file + sizeof(h));
	memcpy(&h, stream.data + file, sizeof(h));
	assert_int_equal(h.stored_bytes, (size_t)(end - at)); /* one block */
	h.records = 0;
	for (; at < end; at += r.size) {
		struct trace_record grown;

		memcpy(&r, at, sizeof(r));
		in_stream[r.type] = true;
		grown = r;
		grown.fixed = (uint16_t)(r.fixed + g->fields);
		grown.size = (uint32_t)(r.size + g->fields + g->columns);
		grown.flags |= g->flags;
		append(&to, &grown, sizeof(grown));
		append(&to, at + sizeof(r), r.fixed - sizeof(r));
		append(&to, NULL, g->fields);
		append(&to, at + r.fixed, r.size - r.fixed);
		append(&to, NULL, g->columns);
		h.records++;
		if (!g->types)
			continue;
		add_unknown(&to, r.time_ns);
		h.records++;
	}
	h.stored_bytes = h.decoded_bytes = (uint32_t)(to.size - file - sizeof(h));
	h.crc = 0;
	h.crc = (uint32_t)crc32(crc32(0, (uint8_t *)&h, sizeof(h)), to.data + file + sizeof(h),
				h.stored_bytes);
	memcpy(to.data + file, &h, sizeof(h));
	return to;
}

/* Dump and report of @b, malloc'd; *@skipped: records of unknown types. */
static char *shown(const struct bytes *b, uint64_t *skipped)
{
	struct json_context *c = json_context__new();
	struct trace_reader *r;
	struct trace_item item;
	struct report *report;
	struct state *s;
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	int got;

	assert_int_equal(state__new(&s), 0);
	assert_int_equal(trace_reader__open_memory(&r, b->data, b->size, "growth", NULL), 0);
	while ((got = trace_reader__next(r, &item, NULL)) == 1) {
		assert_int_equal(json_view__print(f, &item, c), 0);
		assert_int_equal(state__apply(s, &item), 0);
	}
	assert_int_equal(got, 0);
	assert_true(trace_reader__complete(r));
	*skipped = trace_reader__unread(r)->records;
	assert_int_equal(report__build(&report, s, "growth"), 0);
	assert_int_equal(report__print_json(report, f), 0);
	report__print(report, f);
	report__free(report);
	trace_reader__free(r);
	state__free(s);
	json_context__free(c);
	fclose(f);
	return text;
}

static void test_same_picture(void **state)
{
	static const struct growth growths[] = {
		{ .fields = 8 },
		{ .fields = 64 },
		{ .fields = 16, .columns = 24 },
		{ .columns = 8, .flags = 1u << 30 },
		{ .flags = 1u << 29 },
		{ .fields = 8, .columns = 16, .flags = 3u << 29, .types = true },
	};
	struct growth none = { 0 };
	struct bytes same = grow(&none);
	uint64_t skipped;
	char *want, *got;

	assert_int_equal(same.size, stream.size);
	assert_memory_equal(same.data, stream.data, same.size);
	want = shown(&same, &skipped);
	assert_int_equal(skipped, 0);
	for (size_t i = 0; i < sizeof(growths) / sizeof(*growths); i++) {
		struct bytes grown = grow(&growths[i]);

		got = shown(&grown, &skipped);
		assert_string_equal(got, want);
		assert_true((skipped > 0) == growths[i].types);
		free(got);
		free(grown.data);
	}
	free(want);
	free(same.data);
}

/* All types grew. */
static void test_every_type(void **state)
{
	struct growth none = { 0 };

	free(grow(&none).data);
#define X(id, NAME, suffix) assert_true(in_stream[id]);
	TRACE_RECORDS(X)
#undef X
}

/* Without a sign of a later writer, bytes that nobody announced are damage. */
static void test_no_sign_no_growth(void **state)
{
	struct growth g = { .columns = 8 };
	struct bytes grown = grow(&g);
	struct trace_reader *r;
	struct trace_item item;

	assert_int_equal(trace_reader__open_memory(&r, grown.data, grown.size, "growth", NULL), 0);
	assert_true(trace_reader__next(r, &item, NULL) < 0);
	trace_reader__free(r);
	free(grown.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_picture),
		cmocka_unit_test(test_every_type),
		cmocka_unit_test(test_no_sign_no_growth),
	};

	return cmocka_run_group_tests_name("growth", tests, stream_make, stream_free);
}
