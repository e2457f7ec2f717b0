/* SPDX-License-Identifier: BSD-2-Clause */
/* Which sequence a response is of, and how certain that is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "probe/base/header_name.h"
#include "probe/engine/transformers/names.h"
#include "probe/engine/transformers/sequences.h"
#include "tests/unit/aten_play.h"

#define MS 1000000ull
#define NAMES_MAX 8192

/* Threads compute, each its own texts in plain batches; responses are sent. */
struct play {
	struct transformers_sequences *sequences;
	struct transformers_names *names;
	struct heard *heard;
	struct engine_sink sink;
	struct aten_context context;
	uint64_t now;
	uint32_t said;
	struct {
		uint32_t request;
		bool inferred;
		char id[32], labels[64];
	} name[NAMES_MAX];
};

static int on_name(void *ctx, const struct engine_request_info *i)
{
	struct play *p = ctx;

	assert_true(p->said < NAMES_MAX);
	p->name[p->said].request = i->request;
	p->name[p->said].inferred = i->inferred;
	snprintf(p->name[p->said].labels, sizeof(p->name[0].labels), "%s",
		 i->labels ? i->labels : "");
	snprintf(p->name[p->said++].id, sizeof(p->name[0].id), "%s", i->client_id);
	return 0;
}

static int on_begin(void *ctx, const struct engine_request *r)
{
	return heard__begin(((struct play *)ctx)->heard, r);
}

static int on_request_end(void *ctx, const struct engine_request_end *r)
{
	return heard__end(((struct play *)ctx)->heard, r);
}

static int on_step(void *ctx, const struct engine_step *s)
{
	return 0;
}

static struct play *play__new(void)
{
	struct play *p = calloc(1, sizeof(*p));

	assert_int_equal(transformers_sequences__new(&p->sequences), 0);
	assert_int_equal(transformers_names__new(&p->names, p->sequences), 0);
	p->heard = calloc(1, sizeof(*p->heard));
	p->sink = (struct engine_sink){ .request_begin = on_begin,
					.request_end = on_request_end,
					.step = on_step,
					.request_info = on_name,
					.ctx = p };
	p->context = (struct aten_context){ .id = 1, .layers = 1 };
	return p;
}

static void play__free(struct play *p)
{
	transformers_names__free(p->names);
	transformers_sequences__free(p->sequences);
	heard__free(p->heard);
	free(p);
}

/* @rows rows of thread @tid from @position on. */
static void compute(struct play *p, uint32_t tid, int64_t position, uint32_t rows)
{
	int64_t token[64] = { 0 }, at[64];
	struct aten_step s = { .tgid = PLAY_PID,
			       .tid = tid,
			       .batch = 1,
			       .length = rows,
			       .rows = rows,
			       .token = { rows, rows, token },
			       .position = { rows, rows, at } };

	assert_true(rows <= 64);
	for (uint32_t i = 0; i < rows; i++)
		at[i] = position + i;
	s.begin_ns = p->now += MS;
	s.end_ns = p->now += MS;
	assert_int_equal(transformers_sequences__step(p->sequences, &s, &p->context, &p->sink), 0);
}

/* A text on thread @tid: a prompt and then @text tokens, the last of which has no row. */
static void generate(struct play *p, uint32_t tid, uint32_t prompt, uint32_t text)
{
	compute(p, tid, 0, prompt);
	for (uint32_t i = 0; i + 1 < text; i++)
		compute(p, tid, prompt + i, 1);
}

static void send_piece(struct play *p, uint64_t channel, const char *text, uint32_t flags)
{
	size_t size = strlen(text);
	struct mp_event_bytes *e = calloc(1, sizeof(*e) + size);
	const struct mp_event *chunk[] = { &e->event };
	struct capture c = { 1, chunk };

	p->now += MS;
	e->event = (struct mp_event){ .kind = MP_EVENT_BYTES,
				      .tgid = PLAY_PID,
				      .tid = 1,
				      .size = sizeof(*e) + size,
				      .time_ns = p->now,
				      .chunks = 1,
				      .total = size,
				      .count = size };
	e->length = size;
	e->channel = channel;
	e->flags = flags;
	memcpy(e + 1, text, size);
	assert_int_equal(transformers_names__bytes(p->names, &c), 0);
	assert_int_equal(transformers_names__match(p->names, p->now, &p->sink), 0);
	free(e);
}

static void send_bytes(struct play *p, uint64_t channel, const char *text)
{
	send_piece(p, channel, text, 0);
}

/* A whole answer with id @id. */
static void answer(struct play *p, uint64_t channel, const char *id, unsigned prompt, unsigned text)
{
	char body[512], all[1024];

	snprintf(body, sizeof(body),
		 "{\"id\":\"%s\",\"object\":\"chat.completion\",\"choices\":[{\"finish_reason\":"
		 "\"length\"}],\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u}}",
		 id, prompt, text);
	snprintf(all, sizeof(all),
		 "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n"
		 "%s",
		 strlen(body), body);
	send_bytes(p, channel, all);
}

static void send_event(struct play *p, uint64_t channel, const char *id, const char *more)
{
	char data[512], all[600];

	snprintf(data, sizeof(data),
		 "data: {\"id\":\"%s\",\"object\":\"chat.completion.chunk\",\"choices\":[]%s}\n\n",
		 id, more);
	snprintf(all, sizeof(all), "%zx\r\n%s\r\n", strlen(data), data);
	send_bytes(p, channel, all);
}

static void begin_stream(struct play *p, uint64_t channel)
{
	send_bytes(p, channel,
		   "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
		   "transfer-encoding: chunked\r\n\r\n");
}

static void end_stream(struct play *p, uint64_t channel, const char *id, unsigned prompt,
		       unsigned text)
{
	char usage[128];

	snprintf(usage, sizeof(usage), ",\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u}",
		 prompt, text);
	send_event(p, channel, id, usage);
	send_bytes(p, channel, "0\r\n\r\n");
}

static void assert_name(const struct play *p, uint32_t at, uint32_t request, const char *id,
			bool inferred)
{
	assert_true(at < p->said);
	assert_int_equal(p->name[at].request, request);
	assert_string_equal(p->name[at].id, id);
	assert_int_equal(p->name[at].inferred, inferred);
}

/* A request on the connection of @channel, which it opens: of tenant @tenant, NULL: of nobody. */
static void ask(struct play *p, uint64_t channel, const char *tenant)
{
	char head[128];

	snprintf(head, sizeof(head), "POST / HTTP/1.1\r\n%s%s\r\n\r\n",
		 tenant ? "X-Tenant: " : "Y: ", tenant ? tenant : "nobody");
	send_piece(p, channel, head,
		   MP_BYTES_RECEIVED | MP_BYTES_OPENED | MP_BYTES_BEGINS | MP_BYTES_ENDS);
}

static void assert_labels(const struct play *p, const char *id, const char *labels)
{
	const char *last = NULL;

	for (uint32_t i = 0; i < p->said; i++)
		if (!strcmp(p->name[i].id, id))
			last = p->name[i].labels;
	assert_non_null(last);
	assert_string_equal(last, labels);
}

/* --- certainty -------------------------------------------------------------------------------- */

static void test_the_only_one_is_certain(void **state)
{
	struct play *p = play__new();

	generate(p, 1, 5, 4);
	generate(p, 2, 5, 3);
	generate(p, 3, 6, 4);
	answer(p, 9, "a", 5, 4);
	answer(p, 9, "b", 6, 4);
	answer(p, 9, "c", 5, 3);
	assert_int_equal(p->said, 3);
	assert_name(p, 0, 1, "a", false);
	assert_name(p, 1, 3, "b", false);
	assert_name(p, 2, 2, "c", false);
	assert_int_equal(p->heard->ends, 3);
	assert_int_equal(p->heard->end[1].request, 3);
	assert_int_equal(p->heard->end[1].prompt, 6);
	assert_false(p->heard->end[1].inferred);
	play__free(p);
}

/* What a guess leaves over is a guess. */
static void test_the_rest_of_a_guess_is_inferred(void **state)
{
	struct play *p = play__new();

	generate(p, 1, 5, 4);
	generate(p, 2, 5, 4);
	generate(p, 3, 5, 4);
	answer(p, 9, "a", 5, 4);
	answer(p, 9, "b", 5, 4);
	answer(p, 9, "c", 5, 4);
	assert_int_equal(p->said, 3);
	for (uint32_t i = 0; i < 3; i++) {
		assert_name(p, i, i + 1, (const char *[]){ "a", "b", "c" }[i], true);
		assert_true(p->heard->end[i].inferred);
	}
	/* One that fits nothing else is certain all the same. */
	generate(p, 4, 7, 4);
	answer(p, 9, "d", 7, 4);
	assert_name(p, 3, 4, "d", false);
	play__free(p);
}

/* A name that is certain excludes its sequence. */
static void test_the_rest_of_a_certainty_is_certain(void **state)
{
	struct play *p = play__new();

	generate(p, 1, 5, 4);
	answer(p, 9, "a", 5, 4);
	generate(p, 2, 5, 4);
	answer(p, 9, "b", 5, 4);
	assert_name(p, 0, 1, "a", false);
	assert_name(p, 1, 2, "b", false);
	play__free(p);
}

/* Of a text that began before us only its last rows were seen: it may be the answer's. */
static void test_what_began_before_us_may_be_it(void **state)
{
	struct play *p = play__new();

	compute(p, 1, 40, 1);
	compute(p, 1, 41, 1);
	compute(p, 1, 42, 1);
	generate(p, 2, 5, 4);
	answer(p, 9, "a", 5, 4);
	assert_int_equal(p->said, 1);
	assert_name(p, 0, 2, "a", true);
	/* Not where more rows were seen than the answer has tokens. */
	generate(p, 3, 5, 2);
	answer(p, 9, "b", 5, 2);
	assert_name(p, 1, 3, "b", false);
	play__free(p);
}

/* --- streams ---------------------------------------------------------------------------------- */

static void test_an_early_name_becomes_certain_alone(void **state)
{
	struct play *p = play__new();

	compute(p, 1, 0, 5);
	begin_stream(p, 9);
	send_event(p, 9, "a", "");
	compute(p, 1, 5, 1);
	send_event(p, 9, "a", "");
	send_event(p, 9, "a", "");
	assert_int_equal(p->said, 1);
	assert_name(p, 0, 1, "a", true);
	end_stream(p, 9, "a", 5, 2);
	assert_int_equal(p->said, 2);
	assert_name(p, 1, 1, "a", false);
	play__free(p);
}

/* An early name stays a guess where another sequence has as many rows. */
static void test_an_early_name_stays_inferred(void **state)
{
	struct play *p = play__new();

	compute(p, 1, 0, 5);
	begin_stream(p, 9);
	send_event(p, 9, "a", "");
	compute(p, 1, 5, 1);
	send_event(p, 9, "a", "");
	assert_name(p, 0, 1, "a", true);
	generate(p, 2, 5, 2);
	end_stream(p, 9, "a", 5, 2);
	assert_int_equal(p->said, 2);
	assert_name(p, 1, 1, "a", true);
	answer(p, 10, "b", 5, 2);
	assert_name(p, 2, 2, "b", true);
	play__free(p);
}

/* The counts at the end say that the early name was another's: that one may have its own. */
static void test_an_early_name_was_wrong(void **state)
{
	struct play *p = play__new();

	compute(p, 1, 0, 5);
	begin_stream(p, 9);
	send_event(p, 9, "a", "");
	compute(p, 1, 5, 1);
	send_event(p, 9, "a", "");
	assert_name(p, 0, 1, "a", true);
	generate(p, 2, 6, 3);
	end_stream(p, 9, "a", 6, 3);
	assert_name(p, 1, 2, "a", false);
	answer(p, 10, "b", 5, 2);
	assert_name(p, 2, 1, "b", false);
	play__free(p);
}

/* Pieces of it are missing: what it says may be another's. */
static void test_a_stream_with_a_gap_is_inferred(void **state)
{
	struct play *p = play__new();

	compute(p, 2, 0, 9); /* in company, so that the end decides */
	begin_stream(p, 9);
	generate(p, 1, 5, 3);
	send_event(p, 9, "a", "");
	send_piece(p, 9, "a\r\ndata: {}\n\n\r\n", MP_BYTES_LOST);
	end_stream(p, 9, "a", 5, 3);
	assert_int_equal(p->said, 1);
	assert_name(p, 0, 2, "a", true);
	assert_int_equal(p->heard->ends, 1);
	/* A gap before a response is none of it. */
	send_piece(p, 9,
		   "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
		   "transfer-encoding: chunked\r\n\r\n",
		   MP_BYTES_LOST);
	generate(p, 1, 5, 3);
	end_stream(p, 9, "b", 5, 3);
	assert_int_equal(p->said, 2);
	assert_name(p, 1, 3, "b", false);
	play__free(p);
}

/* Two compute: nobody is named early. */
static void test_nobody_is_named_early_in_company(void **state)
{
	struct play *p = play__new();

	compute(p, 1, 0, 5);
	compute(p, 2, 0, 7);
	begin_stream(p, 9);
	send_event(p, 9, "a", "");
	compute(p, 1, 5, 1);
	send_event(p, 9, "a", "");
	assert_int_equal(p->said, 0);
	end_stream(p, 9, "a", 5, 2);
	assert_int_equal(p->said, 1);
	assert_name(p, 0, 1, "a", false);
	play__free(p);
}

/* --- matching --------------------------------------------------------------------------------- */

/* A response that comes before its sequence's last step is said is matched behind that. */
static void test_a_response_waits_for_its_step(void **state)
{
	struct play *p = play__new();

	p->now = 1000 * MS;
	compute(p, 1, 0, 5);
	p->now += 10 * MS;
	answer(p, 9, "a", 5, 2);
	assert_int_equal(p->said, 0);
	p->now -= 8 * MS; /* what was computed before it */
	compute(p, 1, 5, 1);
	assert_int_equal(transformers_names__match(p->names, p->now, &p->sink), 0);
	assert_int_equal(p->said, 1);
	assert_name(p, 0, 1, "a", false);
	play__free(p);
}

/* A minute later no response is of an old sequence; and what fits nothing is forgotten. */
static void test_what_is_old_is_forgotten(void **state)
{
	struct play *p = play__new();

	generate(p, 1, 5, 4);
	generate(p, 1, 6, 4); /* ends it */
	p->now += 61000 * MS;
	answer(p, 9, "a", 5, 4);
	assert_int_equal(p->said, 0);
	p->now += 6000 * MS;
	assert_int_equal(transformers_names__match(p->names, p->now, &p->sink), 0);
	generate(p, 2, 5, 4);
	assert_int_equal(transformers_names__match(p->names, p->now, &p->sink), 0);
	assert_int_equal(p->said, 0);
	play__free(p);
}

/* More sequences than are remembered, and each its own name. */
static void test_thousands(void **state)
{
	struct play *p = play__new();

	for (unsigned i = 0; i < 5000; i++) {
		char id[16];

		generate(p, 1 + i % 3, 5 + i % 7, 2);
		snprintf(id, sizeof(id), "id-%u", i);
		answer(p, 9 + i % 5, id, 5 + i % 7, 2);
		assert_int_equal(p->said, i + 1);
		assert_name(p, i, i + 1, id, false);
	}
	play__free(p);
}

/* Streams that wait, beside thousands of sequences that are named: a piece costs little. */
static void test_a_piece_costs_little(void **state)
{
	struct play *p = play__new();
	struct timespec from, to;
	double seconds;

	for (unsigned i = 0; i < 4096; i++) {
		generate(p, 1, 5, 2);
		answer(p, 9, "x", 5, 2);
	}
	for (uint32_t i = 0; i < 100; i++)
		compute(p, 10 + i, 0, 5);
	for (uint32_t i = 0; i < 100; i++)
		begin_stream(p, 100 + i);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
	for (uint32_t i = 0; i < 10000; i++)
		send_event(p, 100 + i % 100, "y", "");
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
	seconds = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
	print_message("%.1f us a piece\n", seconds * 100);
	assert_true(seconds < 2); /* comparing all with all takes longer by far */
	play__free(p);
}

/* --- headers of requests ---------------------------------------------------------------------- */

static void test_labels_of_the_request(void **state)
{
	struct header_names names = { 0 };
	struct play *p = play__new();

	assert_int_equal(header_names__add(&names, "x-tenant"), 0);
	transformers_names__headers(p->names, &names);
	ask(p, 7, "seven");
	ask(p, 8, NULL);
	ask(p, 9, "nine");
	generate(p, 1, 5, 4);
	generate(p, 2, 5, 3);
	generate(p, 3, 6, 4);
	answer(p, 9, "a", 5, 4);
	answer(p, 7, "b", 6, 4);
	answer(p, 8, "c", 5, 3);
	assert_labels(p, "a", "x-tenant=nine\n");
	assert_labels(p, "b", "x-tenant=seven\n");
	assert_labels(p, "c", "");
	/* A response without a request that was seen, on a connection that had one. */
	generate(p, 1, 9, 4);
	answer(p, 9, "d", 9, 4);
	assert_labels(p, "d", "");
	/* Pieces are missing: it may be another's response. */
	ask(p, 7, "lost");
	generate(p, 1, 11, 4);
	send_piece(p, 7, "x", MP_BYTES_LOST);
	answer(p, 7, "e", 11, 4);
	assert_labels(p, "e", "");
	play__free(p);
}

/* Of a stream that is named early the labels come with its end: a guess may be wrong. */
static void test_labels_are_not_guessed_early(void **state)
{
	struct header_names names = { 0 };
	struct play *p = play__new();

	assert_int_equal(header_names__add(&names, "x-tenant"), 0);
	transformers_names__headers(p->names, &names);
	ask(p, 9, "nine");
	begin_stream(p, 9);
	send_event(p, 9, "a", "");
	compute(p, 1, 0, 5);
	send_event(p, 9, "a", "");
	compute(p, 1, 5, 1);
	send_event(p, 9, "a", "");
	assert_name(p, 0, 1, "a", true);
	assert_labels(p, "a", "");
	end_stream(p, 9, "a", 5, 2);
	assert_labels(p, "a", "x-tenant=nine\n");
	play__free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_only_one_is_certain),
		cmocka_unit_test(test_the_rest_of_a_guess_is_inferred),
		cmocka_unit_test(test_the_rest_of_a_certainty_is_certain),
		cmocka_unit_test(test_what_began_before_us_may_be_it),
		cmocka_unit_test(test_an_early_name_becomes_certain_alone),
		cmocka_unit_test(test_an_early_name_stays_inferred),
		cmocka_unit_test(test_an_early_name_was_wrong),
		cmocka_unit_test(test_a_stream_with_a_gap_is_inferred),
		cmocka_unit_test(test_nobody_is_named_early_in_company),
		cmocka_unit_test(test_a_response_waits_for_its_step),
		cmocka_unit_test(test_what_is_old_is_forgotten),
		cmocka_unit_test(test_thousands),
		cmocka_unit_test(test_a_piece_costs_little),
		cmocka_unit_test(test_labels_of_the_request),
		cmocka_unit_test(test_labels_are_not_guessed_early),
	};

	return cmocka_run_group_tests_name("transformers: names", tests, NULL, NULL);
}
