/* SPDX-License-Identifier: BSD-2-Clause */
/* mp_bytes: what a call hands over to be sent, whole, in chunks, or as head and tail. */
#include <stdlib.h>
#include <string.h>

#include "tests/tools/aten_double.h"
#include "tests/unit/bpf_play.h"

#define HEAD sizeof(struct mp_event_bytes)
#define WHOLE 100000u
#define CHUNK (16384 - HEAD)
#define ENDS (2 * MP_BYTES_END)

enum { BUFFER, VECTOR, MESSAGE, OBJECT, ROWS };

static void fill_table(struct mp_site *t)
{
	static const uint32_t forms[ROWS] = { MP_BYTES_BUFFER, MP_BYTES_VECTOR, MP_BYTES_MESSAGE,
					      MP_BYTES_OBJECT };

	for (unsigned i = 0; i < ROWS; i++) {
		t[i] = (struct mp_site){ .program = MP_PROGRAM_BYTES,
					 .tgid = play.pid,
					 .enabled = 1 };
		t[i].sent.form = forms[i];
		t[i].sent.whole = WHOLE;
		t[i].sent.all = 1;
	}
}

static const struct stage stage = {
	.name = "aten_double",
	.fill = fill_table,
	.places = ROWS,
	.place = { { "mp_bytes", "double_call_0" },
		   { "mp_bytes", "double_call_1" },
		   { "mp_bytes", "double_call_2" },
		   { "mp_bytes", "double_call_3" } },
};

static int start_large(void **state)
{
	struct stage s = stage;

	s.ring_bytes = 16 << 20;
	return play__raise(&s);
}

static int start_tiny(void **state)
{
	struct stage s = stage;

	s.ring_bytes = 64 << 10;
	s.by_namespace = true;
	return play__raise(&s);
}

/* One piece: @length bytes of buffer @number, in events from @at on. Returns how many. */
static size_t assert_piece(const struct heard *h, size_t at, uint32_t row, uint64_t channel,
			   unsigned number, size_t length)
{
	size_t whole = table[row].sent.whole, next = 0;
	bool gap = length > whole && length > ENDS;
	const struct mp_event *first;

	assert_true(at < h->count);
	first = h->event[at];
	assert_true(at + first->chunks <= h->count);
	for (uint16_t i = 0; i < first->chunks; i++) {
		const struct mp_event_bytes *b = (const void *)h->event[at + i];
		const uint8_t *bytes = (const uint8_t *)(b + 1);

		assert_chunk(&b->event, first, i);
		assert_int_equal(b->event.kind, MP_EVENT_BYTES);
		assert_int_equal(b->event.site, row);
		assert_int_equal(b->event.first, next);
		assert_int_equal(b->event.size, HEAD + b->event.count);
		assert_int_equal(b->length, length);
		assert_int_equal(b->channel, channel);
		assert_int_equal(b->flags, gap ? MP_BYTES_GAP : 0);
		assert_int_equal(b->form, table[row].sent.form);
		for (uint32_t j = 0; j < b->event.count; j++) {
			size_t from = next + j;

			if (gap && from >= MP_BYTES_END)
				from += length - ENDS;
			if (bytes[j] != double_byte(number, from))
				fail_msg("buffer %u, %zu bytes: byte %zu", number, length, from);
		}
		next += b->event.count;
	}
	assert_int_equal(next, gap ? ENDS : length);
	assert_int_equal(next, first->total);
	return first->chunks;
}

static void buffers_arrive(void **state)
{
	static const size_t lengths[] = { 1,         184,   185,       1976,      1977,
					  5000,      CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 184,
					  WHOLE - 1, WHOLE };

	SKIP_IF_UNABLE();
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		size_t chunks = (lengths[i] + CHUNK - 1) / CHUNK;
		struct heard h;

		play__do(&play, "buffer 1 %zu", lengths[i]);
		/* The upper half of an int's register is whatever was there. */
		play__do(&play, "call 0 1 0x7700000009 b1 %zu", lengths[i]);
		play__do(&play, "call 3 1 0x7700000009 b1 %zu", lengths[i]);
		h = play__listen();
		assert_int_equal(h.count, 2 * chunks);
		assert_piece(&h, 0, BUFFER, 9, 1, lengths[i]);
		assert_piece(&h, chunks, OBJECT, 0x7700000009, 1, lengths[i]);
		assert_counted(BUFFER, .hits = 1, .matched = 1, .events = chunks,
			       .bytes = chunks * HEAD + lengths[i]);
		assert_counted(OBJECT, .hits = 1, .matched = 1, .events = chunks,
			       .bytes = chunks * HEAD + lengths[i]);
		heard__free(&h);
	}
	play__do(&play, "call 0 1 9 b1 0");
	assert_counted(BUFFER, .hits = 1, .matched = 1);
}

/* Longer than is read whole; but never less than head and tail. */
static void long_pieces_have_a_head_and_a_tail(void **state)
{
	static const struct {
		uint32_t whole;
		size_t length;
	} cases[] = {
		{ WHOLE, WHOLE + 1 }, { WHOLE, 5000000 }, { 1792, 1793 }, { 1792, 1792 },
		{ 0, 1793 },          { 0, 1792 },        { 0, 1 },       { 3000, 3001 },
		{ 3000, 3000 },
	};
	struct heard h;

	SKIP_IF_UNABLE();
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		table[BUFFER].sent.whole = cases[i].whole;
		play__do(&play, "buffer 2 %zu", cases[i].length);
		play__do(&play, "call 0 1 3 b2 %zu", cases[i].length);
		h = play__listen();
		assert_int_equal(h.count, assert_piece(&h, 0, BUFFER, 3, 2, cases[i].length));
		assert_counted(BUFFER, .hits = 1, .matched = 1, .events = 1,
			       .bytes = h.event[0]->size);
		heard__free(&h);
	}
	table[BUFFER].sent.whole = WHOLE;
}

/* Pieces of one call: one time, in their order; those of nothing are left out. */
static void vectors_arrive_piece_by_piece(void **state)
{
	static const size_t lengths[] = { 10, 0, 40000, 200001, 10, 2000 };
	enum { PIECES = sizeof(lengths) / sizeof(*lengths) };

	SKIP_IF_UNABLE();
	for (unsigned i = 0; i < PIECES; i++)
		play__do(&play, "buffer %u %zu", i, lengths[i]);
	play__do(&play, "vector 0 0:10 1:0 2:40000 3:200001 4:10 5:2000");
	play__do(&play, "message 0 0 %d", PIECES);
	for (uint32_t row = VECTOR; row <= MESSAGE; row++) {
		size_t at = 0;
		struct heard h;

		play__do(&play, "call %u 1 17 %c0 0x660000000%d", row, row == VECTOR ? 'v' : 'm',
			 PIECES);
		h = play__listen();
		for (unsigned i = 0; i < PIECES; i++)
			if (lengths[i])
				at += assert_piece(&h, at, row, 17, i, lengths[i]);
		assert_int_equal(at, h.count);
		for (size_t i = 1; i < h.count; i++)
			assert_true(h.event[i]->time_ns == h.event[0]->time_ns);
		assert_counted(row, .hits = 1, .matched = 1, .events = 7, .bytes = bytes_heard(&h));
		heard__free(&h);
	}
	play__do(&play, "call 1 1 17 v0 0");
	play__do(&play, "call 1 1 17 ! 0");
	assert_counted(VECTOR, .hits = 2, .matched = 2);
}

/* 16 pieces are read, and that there were more is said. */
static void more_pieces_than_are_read(void **state)
{
	struct heard h;

	SKIP_IF_UNABLE();
	play__do(&play, "buffer 1 8");
	play__do(
		&play,
		"vector 1 1:8 1:8 1:8 1:8 1:8 1:8 1:8 1:8 1:8 1:8 1:8 1:8 1:8 1:8 1:8 1:8 1:7 1:7");
	play__do(&play, "call 1 1 1 v1 16");
	play__do(&play, "call 1 1 1 v1 17");
	play__do(&play, "message 1 1 18");
	play__do(&play, "call 2 1 2 m1 0");
	h = play__listen();
	assert_int_equal(h.count, 48);
	for (size_t i = 0; i < h.count; i++)
		assert_piece(&h, i, i < 32 ? VECTOR : MESSAGE, 1 + i / 32, 1, 8);
	assert_counted(VECTOR, .hits = 2, .matched = 2, .shape = 1, .events = 32,
		       .bytes = 32 * (HEAD + 8));
	assert_counted(MESSAGE, .hits = 1, .matched = 1, .shape = 1, .events = 16,
		       .bytes = 16 * (HEAD + 8));
	heard__free(&h);
	/* A count below zero, as an int says it. */
	play__do(&play, "call 1 1 1 v1 0xffffffff");
	h = play__listen();
	assert_int_equal(h.count, 16);
	heard__free(&h);
	counted(VECTOR);
}

static void faults_are_counted(void **state)
{
	static const struct {
		uint32_t row, faults, events;
		const char *call;
	} cases[] = {
		{ BUFFER, 1, 0, "0 1 9 ! 100" },
		{ BUFFER, 1, 0, "0 1 9 0 100" },
		{ BUFFER, 1, 0, "0 1 9 b3 401" }, /* one byte more than there is */
		{ BUFFER, 1, 0, "0 1 9 b3 5000000" } /* neither is its tail */,
		{ BUFFER, 1, 2, "0 1 9 b4 50000" }, /* the third chunk */
		{ BUFFER, 1, 0, "0 1 9 0xffffffff81000000 100" },
		{ BUFFER, 1, 0, "0 1 9 b3 0xffffffffffffffff" },
		{ VECTOR, 1, 0, "1 1 9 ! 2" },
		{ VECTOR, 1, 1, "1 1 9 v3 3" }, /* what is behind is not looked at */
		{ MESSAGE, 1, 0, "2 1 9 ! 2" },
		{ MESSAGE, 1, 0, "2 1 9 m3 0" },
		{ MESSAGE, 1, 1, "2 1 9 m4 0" },
	};

	SKIP_IF_UNABLE();
	play__do(&play, "buffer 3 400");
	play__do(&play, "buffer 4 40000");
	play__do(&play, "vector 3 3:400 99:10 3:400");
	play__do(&play, "message 3 99 1");
	play__do(&play, "message 4 3 3");
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct heard h;

		play__do(&play, "call %s", cases[i].call);
		h = play__listen();
		if (h.count != cases[i].events)
			fail_msg("%s: %zu events", cases[i].call, h.count);
		assert_counted(cases[i].row, .hits = 1, .matched = 1, .fault = cases[i].faults,
			       .events = cases[i].events, .bytes = bytes_heard(&h));
		heard__free(&h);
	}
}

/* --- what is no response ---------------------------------------------------------------------- */

enum { STATUS, JSON, SIZE, EVENT, REQUEST, HEX, LONGEST, TOO_LONG, SHORT, TEXTS };
static const char *const texts[TEXTS] = { "HTTP/1.1 200 OK\\r\\n\\r\\n",
					  "{\"id\":\"x\"}",
					  "1F\\r\\ndata: x",
					  "data: x\\n\\n",
					  "POST /v1 HTTP/1.1\\r\\n",
					  "abcdefg",
					  "123456\\r\\n",
					  "1234567\\r\\n",
					  "1" };

static size_t length_of(const char *text)
{
	size_t length = 0;

	for (; *text; text++)
		length += *text != '\\';
	return length;
}

/* @times @text on @channel: of these @delivered arrive, the first with @flags. */
static void assert_sent(uint32_t row, unsigned channel, unsigned text, unsigned times,
			unsigned delivered, uint32_t flags)
{
	size_t length = length_of(texts[text]);
	struct heard h;

	play__do(&play, "call %u %u %u b%u %zu", row, times, channel, text, length);
	h = play__listen();
	if (h.count != delivered)
		fail_msg("text %u on channel %u: %zu of %u arrive", text, channel, h.count, times);
	for (size_t i = 0; i < h.count; i++)
		assert_int_equal(((struct mp_event_bytes *)h.event[i])->flags, i ? 0 : flags);
	assert_counted(row, .hits = times, .matched = times, .events = delivered,
		       .unguarded = times - delivered, .bytes = delivered * (HEAD + length));
	heard__free(&h);
}

static void begin_responses(void)
{
	for (unsigned i = 0; i < TEXTS; i++)
		play__do(&play, "text %u %s", i, texts[i]);
	for (unsigned i = 0; i < ROWS; i++)
		table[i].sent.all = 0;
}

static void end_responses(void)
{
	for (unsigned i = 0; i < ROWS; i++)
		table[i].sent.all = 1;
}

static void what_is_no_response_stops(void **state)
{
	SKIP_IF_UNABLE();
	begin_responses();
	assert_sent(BUFFER, 1005, JSON, 10, 8, 0);
	assert_sent(OBJECT, 1005, JSON, 10, 8, 0); /* another channel */
	assert_sent(BUFFER, 1005, SIZE, 3, 0, 0);
	assert_sent(BUFFER, 1005, STATUS, 2, 2, MP_BYTES_LOST);
	assert_sent(BUFFER, 1005, JSON, 70, 64, 0);
	assert_sent(BUFFER, 1005, STATUS, 1, 1, MP_BYTES_LOST);
	/* Its descriptor is another's by now: this process asks there. */
	assert_sent(BUFFER, 1005, REQUEST, 1, 0, 0);
	assert_sent(BUFFER, 1005, JSON, 1, 0, 0);
	assert_sent(BUFFER, 1005, SIZE, 1, 0, 0);
	assert_sent(BUFFER, 1005, STATUS, 1, 1, MP_BYTES_LOST);
	assert_sent(BUFFER, 1006, REQUEST, 2, 0, 0);
	/* A row that wants all. */
	table[BUFFER].sent.all = 1;
	assert_sent(BUFFER, 1006, HEX, 20, 20, MP_BYTES_LOST);
	assert_sent(BUFFER, 1006, REQUEST, 1, 1, 0);
	end_responses();
}

/* A stream that began before us, and one that is longer than any patience. */
static void streams_go_on(void **state)
{
	static const unsigned more[] = { SIZE, EVENT, LONGEST }, less[] = { HEX, TOO_LONG, SHORT };

	SKIP_IF_UNABLE();
	begin_responses();
	for (unsigned i = 0; i < 3; i++) {
		assert_sent(BUFFER, 1010 + i, more[i], 300, 300, 0);
		assert_sent(BUFFER, 1010 + i, less[i], 63, 63, 0);
		assert_sent(BUFFER, 1010 + i, more[i], 1, 1, 0);
		assert_sent(BUFFER, 1010 + i, less[i], 65, 64, 0);
		assert_sent(BUFFER, 1010 + i, more[i], 1, 0, 0);
	}
	end_responses();
}

/* Pieces of one call are looked at one by one. */
static void pieces_of_responses(void **state)
{
	struct heard h;

	SKIP_IF_UNABLE();
	begin_responses();
	play__do(&play, "vector 5 4:10 1:10 0:19 1:10");
	play__do(&play, "call 1 1 1020 v5 4");
	h = play__listen();
	assert_int_equal(h.count, 2);
	assert_int_equal(((struct mp_event_bytes *)h.event[0])->flags, MP_BYTES_LOST);
	assert_int_equal(((struct mp_event_bytes *)h.event[1])->flags, 0);
	assert_int_equal(h.event[0]->count, 19);
	assert_counted(VECTOR, .hits = 1, .matched = 1, .unguarded = 2, .events = 2,
		       .bytes = bytes_heard(&h));
	heard__free(&h);
	end_responses();
}

/* What could not be read is missing before what comes next. */
static void a_fault_is_a_gap(void **state)
{
	SKIP_IF_UNABLE();
	begin_responses();
	assert_sent(BUFFER, 1030, STATUS, 1, 1, 0);
	play__do(&play, "call 0 1 1030 ! 100");
	assert_counted(BUFFER, .hits = 1, .matched = 1, .fault = 1);
	assert_sent(BUFFER, 1030, SIZE, 2, 2, MP_BYTES_LOST);
	end_responses();
	/* Also where all is wanted. */
	play__do(&play, "call 0 1 1031 ! 100");
	assert_counted(BUFFER, .hits = 1, .matched = 1, .fault = 1);
	assert_sent(BUFFER, 1031, HEX, 2, 2, MP_BYTES_LOST);
}

static void strangers_are_left_alone(void **state)
{
	struct play stranger;
	struct heard h;

	SKIP_IF_UNABLE();
	play__start(&stranger);
	for (unsigned i = 0; i < ROWS; i++)
		play__do(&stranger, "call %u 3 1 ! 10", i);
	play__stop(&stranger);
	h = play__listen();
	assert_int_equal(h.count, 0);
	for (unsigned i = 0; i < ROWS; i++)
		assert_counted(i, .foreign = 3);
}

/* What does not fit is lost once a piece, and what of a call follows it with it. */
static void a_full_ring_drops(void **state)
{
	struct heard h;

	SKIP_IF_UNABLE();
	play__do(&play, "buffer 1 100000");
	play__do(&play, "buffer 10 100000");
	play__do(&play, "buffer 2 10");
	play__do(&play, "vector 0 2:10 1:100000 2:10");
	play__do(&play, "call 1 1 5 v0 3");
	h = play__listen();
	assert_int_equal(h.count, 1 + 3);
	assert_piece(&h, 0, VECTOR, 5, 2, 10);
	assert_int_equal(h.event[1]->chunks, 7);
	assert_counted(VECTOR, .hits = 1, .matched = 1, .dropped = 1, .events = 4,
		       .bytes = bytes_heard(&h));
	heard__free(&h);
	play__do(&play, "call 0 300 5 b2 10");
	play__do(&play, "call 0 1 5 b1 2000000");
	h = play__listen();
	assert_int_equal(h.count, 248); /* of 264 bytes */
	assert_counted(BUFFER, .hits = 301, .matched = 301, .dropped = 53, .events = 248,
		       .bytes = 248 * (HEAD + 10));
	heard__free(&h);
	play__do(&play, "call 0 1 5 b2 10"); /* and then it goes on */
	h = play__listen();
	assert_int_equal(h.count, 1);
	assert_int_equal(((struct mp_event_bytes *)h.event[0])->flags, MP_BYTES_LOST);
	heard__free(&h);
	play__do(&play, "call 0 1 5 b2 10");
	h = play__listen();
	assert_int_equal(h.count, assert_piece(&h, 0, BUFFER, 5, 2, 10));
	heard__free(&h);
	begin_responses();
	play__do(&play, "call 0 1 5 b10 100000");
	h = play__listen();
	heard__free(&h);
	counted(BUFFER);
	assert_sent(BUFFER, 5, STATUS, 2, 2, MP_BYTES_LOST);
	end_responses();
}

int main(void)
{
	const struct CMUnitTest large[] = {
		cmocka_unit_test(buffers_arrive),
		cmocka_unit_test(long_pieces_have_a_head_and_a_tail),
		cmocka_unit_test(vectors_arrive_piece_by_piece),
		cmocka_unit_test(more_pieces_than_are_read),
		cmocka_unit_test(faults_are_counted),
		cmocka_unit_test(what_is_no_response_stops),
		cmocka_unit_test(streams_go_on),
		cmocka_unit_test(pieces_of_responses),
		cmocka_unit_test(a_fault_is_a_gap),
		cmocka_unit_test(strangers_are_left_alone),
	};
	const struct CMUnitTest tiny[] = { cmocka_unit_test(a_full_ring_drops) };
	int failed =
		cmocka_run_group_tests_name("bpf: bytes sent", large, start_large, play__stop_all);

	return failed + cmocka_run_group_tests_name("bpf: bytes sent, a small ring", tiny,
						    start_tiny, play__stop_all);
}
