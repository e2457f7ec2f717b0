/* SPDX-License-Identifier: BSD-2-Clause */
/* mp_rows, mp_line and mp_tasks on a process whose every byte is known. */
#include <stdlib.h>
#include <string.h>

#include "tests/unit/bpf_play.h"

/* --- rows ------------------------------------------------------------------------------------- */

static size_t padded(size_t bytes)
{
	return (bytes + 7) & ~(size_t)7;
}

/* One ROWS chunk holds what the double showed for @seed and @flags. */
static void assert_rows_contents(const struct mp_event *e, uint32_t seed, unsigned flags)
{
	const struct mp_event_rows *r = (const void *)e;
	size_t ints = padded(4 * e->count), bytes = padded(e->count);
	const char *at = (const void *)(r + 1);
	const int32_t *token = (const void *)at, *position = (const void *)(at + ints);
	const int32_t *sequence = (const void *)(at + 2 * ints);
	const uint8_t *output = (const void *)(at + 3 * ints), *sequences = output + bytes;

	assert_int_equal(e->size, sizeof(*r) + 3 * ints + 2 * bytes);
	assert_int_equal(r->flags, flags & DOUBLE_ROWS_NO_TOKENS ? MP_ROWS_NO_TOKENS : 0);
	for (uint32_t i = 0; i < e->count; i++) {
		uint32_t row = e->first + i;
		int32_t count = double_sequences(row, flags);
		int32_t of = count < 1 ? -1 : (int32_t)double_value(seed, row, 2);
		bool has_token = !(flags & DOUBLE_ROWS_NO_TOKENS);

		if ((has_token && token[i] != (int32_t)double_value(seed, row, 0)) ||
		    position[i] != (int32_t)double_value(seed, row, 1) || sequence[i] != of ||
		    output[i] != (double_value(seed, row, 3) & 1) ||
		    sequences[i] != (count < 0     ? 0
				     : count > 255 ? 255
						   : count))
			fail_msg("row %u of seed %u", row, seed);
	}
}

static void rows_arrive_whole(void **state)
{
	static const struct {
		uint32_t rows, chunks;
	} sizes[] = {
		{ 1, 1 },   { 3, 1 },    { 8, 1 },    { 9, 1 },    { 136, 1 },  { 137, 1 },
		{ 513, 1 }, { 1160, 1 }, { 1161, 2 }, { 1169, 2 }, { 2048, 2 }, { 16384, 15 }
	};
	static const unsigned flags[] = { DOUBLE_ROWS_TOGETHER, 0,
					  DOUBLE_ROWS_TOGETHER | DOUBLE_ROWS_COUNTS,
					  DOUBLE_ROWS_COUNTS | DOUBLE_ROWS_NO_TOKENS,
					  DOUBLE_ROWS_LIAR };

	SKIP_IF_UNABLE();
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]) * 5; i++) {
		uint32_t rows = sizes[i / 5].rows, next = 0;
		struct heard h;

		play__do(&play, "rows %zu %u %u", i, rows, flags[i % 5]);
		h = play__listen();
		assert_int_equal(h.count, sizes[i / 5].chunks);
		for (size_t j = 0; j < h.count; j++) {
			assert_int_equal(h.event[j]->kind, MP_EVENT_ROWS);
			assert_int_equal(h.event[j]->chunks, h.count);
			assert_int_equal(h.event[j]->total, rows);
			assert_int_equal(h.event[j]->first, next);
			assert_chunk(h.event[j], h.event[0], j);
			assert_rows_contents(h.event[j], i, flags[i % 5]);
			next += h.event[j]->count;
		}
		assert_int_equal(next, rows);
		assert_counted(SET_INPUTS, .hits = 1, .matched = 1, .events = h.count,
			       .bytes = bytes_heard(&h));
		heard__free(&h);
	}
}

static void absurd_rows_are_named(void **state)
{
	static const struct {
		const char *command;
		struct mp_counters wanted;
	} cases[] = {
#define HIT .hits = 1, .matched = 1
		{ "badrows none", { HIT, .shape = 1 } },
		{ "badrows huge", { HIT, .shape = 1 } },
		{ "badrows negative", { HIT, .shape = 1 } },
		{ "badrows batch-null", { HIT, .fault = 1 } },
		{ "badrows token-garbage", { HIT, .fault = 1 } },
		{ "badrows position-null", { HIT, .fault = 1 } },
		{ "badrows counts-null", { HIT, .fault = 1 } },
		{ "badrows lists-hole", { HIT, .fault = 1 } },
		{ "badrows list-null", { HIT, .fault = 1 } },
		{ "badrows output-hole", { HIT, .fault = 1 } },
		{ "rows 1 1 16", { HIT, .fault = 1 } },   /* the only row's list is not mapped */
		{ "rows 1 513 17", { HIT, .fault = 1 } }, /* the last one's, far in */
	};

	SKIP_IF_UNABLE();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mp_counters is;
		struct heard h;

		play__do(&play, "%s", cases[i].command);
		h = play__listen();
		is = counted(SET_INPUTS);
		if (h.count)
			fail_msg("%s: %zu events", cases[i].command, h.count);
		assert_counters_equal(&is, &cases[i].wanted);
		heard__free(&h);
	}
}

/* --- log lines -------------------------------------------------------------------------------- */

static void line_arrives_whole(void **state)
{
	const char *format =
		"slot %12.*s: id %2d | task %d | stop processing: n_tokens = %d, "
		"truncated = %d, and so on, so that it is longer than 128 bytes in all";
	const struct mp_event_line *l;
	struct heard h;
	char cut[128];

	SKIP_IF_UNABLE();
	play__do(&play, "line 3 -4 5000000000 %s", format);
	play__do(&play, "line 1 2 3 slo");
	play__do(&play, "line 1 2 3 srv  slot ");
	h = play__listen();
	assert_int_equal(h.count, 1);
	l = (const void *)h.event[0];
	assert_int_equal(l->event.kind, MP_EVENT_TEXT_LINE);
	assert_int_equal(l->event.site, LOG);
	assert_int_equal(l->event.size, sizeof(*l));
	memcpy(cut, format, 127);
	cut[127] = '\0';
	assert_string_equal(l->format, cut);
	assert_string_equal(l->function, "launch_slot_with_task_and_more_");
	assert_int_equal(l->slot, 3);
	assert_int_equal(l->task, -4);
	for (int i = 0; i < MP_LINE_ARGS; i++)
		assert_true(l->args[i] == 5000000000 + i);
	assert_counted(LOG, .hits = 3, .matched = 1, .events = 1, .bytes = sizeof(*l));
	heard__free(&h);
}

/* --- tasks ------------------------------------------------------------------------------------ */

static void assert_task(const struct mp_event *e, uint32_t seed, uint32_t index, uint32_t tasks,
			uint32_t span)
{
	const struct mp_event_task *t = (const void *)e;
	char id[MP_CLIENT_ID_SIZE];

	snprintf(id, sizeof(id), DOUBLE_PREFIX "%u", seed);
	assert_int_equal(e->kind, MP_EVENT_TASK);
	assert_int_equal(e->size, sizeof(*t));
	assert_int_equal(t->index, index);
	assert_int_equal(t->tasks, tasks);
	assert_int_equal(t->span, span);
	assert_int_equal(t->task, (int32_t)double_value(seed, 0, 7));
	assert_int_equal(t->text_offset, offsetof(struct double_task, client_id));
	assert_int_equal(t->texts, 1);
	assert_string_equal(t->client_id, id);
}

/* @count tokens from event @at on; the event after them. */
static size_t assert_tokens(const struct heard *h, size_t at, uint32_t seed, uint32_t index,
			    uint32_t count, uint32_t offset)
{
	const struct mp_event *first = h->event[at];
	uint32_t next = 0;

	assert_true(at + first->chunks <= h->count);
	for (uint16_t c = 0; c < first->chunks; c++) {
		const struct mp_event_tokens *t = (const void *)h->event[at + c];
		const int32_t *token = (const void *)(t + 1);

		assert_int_equal(t->event.kind, MP_EVENT_TASK_TOKENS);
		assert_chunk(&t->event, first, c);
		assert_int_equal(t->event.total, count);
		assert_int_equal(t->event.first, next);
		assert_int_equal(t->event.size, sizeof(*t) + 4 * t->event.count);
		assert_int_equal(t->index, index);
		assert_int_equal(t->offset, offset);
		for (uint32_t i = 0; i < t->event.count; i++)
			assert_int_equal(token[i],
					 double_value(seed, next + i, 9) % DOUBLE_VOCABULARY);
		next += t->event.count;
	}
	assert_int_equal(next, count);
	return at + first->chunks;
}

#define TOKENS_AT offsetof(struct double_task, tokens)

static void known_tasks_arrive_whole(void **state)
{
	static const struct {
		unsigned tasks, tokens;
	} cases[] = { { 1, 1 }, { 3, 47 }, { 2, 495 }, { 2, 4080 }, { 1, 20000 }, { 16, 9 } };

	SKIP_IF_UNABLE();
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned tasks = cases[i].tasks;
		struct heard h;
		size_t at = 0;

		play__do(&play, "tasks %u %u %u", 500 + i, tasks, cases[i].tokens);
		h = play__listen();
		for (unsigned j = 0; j < tasks; j++) {
			uint32_t seed = 500 + i + 10 * j;

			assert_true(at + 1 < h.count);
			assert_task(h.event[at], seed, j, tasks,
				    tasks * sizeof(struct double_task));
			at = assert_tokens(&h, at + 1, seed, j, cases[i].tokens + j, TOKENS_AT);
		}
		assert_int_equal(at, h.count);
		assert_counted(POST, .hits = 1, .matched = 1, .events = h.count,
			       .bytes = bytes_heard(&h));
		heard__free(&h);
	}
}

/* A prompt without tokens, one that is cut at tokens_max, more tasks than are read, none. */
static void limits_of_tasks_hold(void **state)
{
	struct heard h;

	SKIP_IF_UNABLE();
	play__do(&play, "tasks 1 1 0");
	h = play__listen();
	assert_int_equal(h.count, 1);
	assert_task(h.event[0], 1, 0, 1, sizeof(struct double_task));
	heard__free(&h);
	assert_counted(POST, .hits = 1, .matched = 1, .events = 1,
		       .bytes = sizeof(struct mp_event_task));

	table[POST].tasks.tokens_max = 5000;
	play__do(&play, "tasks 2 1 7000");
	table[POST].tasks.tokens_max = 100000;
	h = play__listen();
	assert_int_equal(assert_tokens(&h, 1, 2, 0, 5000, TOKENS_AT), h.count);
	heard__free(&h);
	counted(POST);

	play__do(&play, "tasks 3 19 4");
	h = play__listen();
	assert_int_equal(h.count, 32);
	assert_task(h.event[30], 3 + 150, 15, 19, 19 * sizeof(struct double_task));
	assert_counted(POST, .hits = 1, .matched = 1, .shape = 3, .events = 32,
		       .bytes = bytes_heard(&h));
	heard__free(&h);

	play__do(&play, "tasks 4 0 4");
	assert_counted(POST, .hits = 1);
}

static void unknown_tasks_are_scanned(void **state)
{
	static const unsigned tokens[] = { 7, 8, 4079 };
	struct mp_site known = table ? table[POST] : (struct mp_site){};

	SKIP_IF_UNABLE();
	table[POST].tasks.element_size = 0;
	table[POST].tasks.text_offset = 0;
	table[POST].tasks.tokens_offset = 0;
	for (unsigned i = 0; i < 3; i++) {
		struct heard h;
		size_t at;

		play__do(&play, "tasks 9 1 %u", tokens[i]);
		h = play__listen();
		assert_task(h.event[0], 9, 0, 0, sizeof(struct double_task));
		at = assert_tokens(&h, 1, 9, 0, tokens[i], TOKENS_AT);
		at = assert_tokens(&h, at, 10, 0, DOUBLE_OTHER_TOKENS,
				   offsetof(struct double_task, other));
		assert_int_equal(at, h.count);
		assert_counted(POST, .hits = 1, .matched = 1, .events = h.count,
			       .bytes = bytes_heard(&h));
		heard__free(&h);
	}
	table[POST] = known;
}

static void absurd_tasks_are_named(void **state)
{
	static const struct {
		const char *name;
		size_t events;
		struct mp_counters wanted;
	} cases[] = {
		{ "null", 0, { HIT, .fault = 1 } },
		{ "backwards", 0, { HIT, .shape = 1 } },
		{ "huge", 0, { HIT, .shape = 1 } },
		{ "part", 0, { HIT, .shape = 1 } },
		{ "garbage", 0, { HIT, .fault = 1 } },
		{ "tokens-backwards", 1, { HIT, .shape = 1, .events = 1, .bytes = 136 } },
		{ "tokens-odd", 1, { HIT, .shape = 1, .events = 1, .bytes = 136 } },
		{ "tokens-garbage", 1, { HIT, .fault = 1, .events = 1, .bytes = 136 } },
		{ "id-garbage", 2, { HIT, .events = 2, .bytes = 136 + 64 + 20 } },
		{ "id-other", 2, { HIT, .events = 2, .bytes = 136 + 64 + 20 } },
	};

	SKIP_IF_UNABLE();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mp_counters is;
		struct heard h;

		play__do(&play, "badtasks %s", cases[i].name);
		h = play__listen();
		is = counted(POST);
		if (h.count != cases[i].events)
			fail_msg("%s: %zu events", cases[i].name, h.count);
		assert_counters_equal(&is, &cases[i].wanted);
		if (!strncmp(cases[i].name, "id-", 3)) {
			const struct mp_event_task *t = (const void *)h.event[0];

			assert_int_equal(t->text_offset, 0);
			assert_int_equal(t->texts, 0);
			assert_string_equal(t->client_id, "");
		}
		heard__free(&h);
	}
}

/* Offsets without an element size make no sense: said, not guessed. */
static void half_known_tasks_are_refused(void **state)
{
	SKIP_IF_UNABLE();
	table[POST].tasks.element_size = 0;
	play__do(&play, "tasks 1 1 5");
	table[POST].tasks.element_size = sizeof(struct double_task);
	assert_counted(POST, .hits = 1, .matched = 1, .shape = 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_arrive_whole),
		cmocka_unit_test(absurd_rows_are_named),
		cmocka_unit_test(line_arrives_whole),
		cmocka_unit_test(known_tasks_arrive_whole),
		cmocka_unit_test(limits_of_tasks_hold),
		cmocka_unit_test(unknown_tasks_are_scanned),
		cmocka_unit_test(absurd_tasks_are_named),
		cmocka_unit_test(half_known_tasks_are_refused),
	};

	return cmocka_run_group_tests_name("bpf: rows, lines, tasks", tests, play__start_large,
					   play__stop_all);
}
