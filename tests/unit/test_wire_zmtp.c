/* SPDX-License-Identifier: BSD-2-Clause */
/* vLLM's messages over ZeroMQ: as sent, in pieces, joined late, with gaps and losses, hostile. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "probe/engine/wire/vllm_message.h"
#include "tests/unit/wire_vectors.h"

/* One connection, and what was told of it as text. */
struct play {
	struct zmtp_stream stream;
	struct vllm_reader reader;
	uint64_t now_ns;
	int frames, refused;
	char told[2048];
};

static void note(struct play *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(struct play *p, const char *format, ...)
{
	size_t size = strlen(p->told);
	va_list args;

	va_start(args, format);
	vsnprintf(p->told + size, sizeof(p->told) - size, format, args);
	va_end(args);
}

static void note_tokens(struct play *p, struct vllm_tokens t)
{
	uint32_t tokens[6];
	size_t n = vllm_tokens__next(&t, tokens, 6);

	for (size_t i = 0; i < n; i++)
		note(p, " %u", tokens[i]);
	if (t.count)
		note(p, " +%u", t.count);
}

static void on_request(void *ctx, uint64_t time_ns, const struct vllm_request *r)
{
	struct play *p = ctx;

	note(p, "add %.*s (%.*s)%s%s", (int)r->id.size, r->id.bytes, (int)r->external.size,
	     r->external.bytes ? r->external.bytes : "", r->is_whole ? "" : " cut",
	     r->prompt.is_nil ? " nil" : "");
	note_tokens(p, r->prompt);
	note(p, "\n");
}

static void on_abort(void *ctx, uint64_t time_ns, struct vllm_text id)
{
	note(ctx, "abort %.*s\n", (int)id.size, id.bytes);
}

static void on_output(void *ctx, uint64_t time_ns, const struct vllm_output *o)
{
	struct play *p = ctx;

	note(p, "out %.*s", (int)o->id.size, o->id.bytes);
	note_tokens(p, o->tokens);
	if (!o->is_whole)
		note(p, " cut");
	if (o->finish != VLLM_RUNNING)
		note(p, " finish %d", o->finish);
	if (o->has_prefill)
		note(p, " prompt %u cached %u", o->prompt_tokens, o->cached_tokens);
	note(p, "\n");
}

static void on_step(void *ctx, uint64_t time_ns, uint32_t engine, uint32_t outputs,
		    uint32_t missing)
{
	note(ctx, "step %u: %u-%u\n", engine, outputs, missing);
}

static const struct vllm_events VLLM = { on_request, on_abort, on_output, on_step };

static void on_frame(void *ctx, const struct zmtp_frame *f)
{
	struct play *p = ctx;

	p->frames++;
	p->refused += vllm_message__frame(&p->reader, f, &VLLM, p) < 0;
}

static const struct zmtp_events ZMTP = { on_frame, vllm_message__plausible };

/* A piece of @size bytes of which at most @room are captured: half at each end. */
static void send_cut(struct play *p, const uint8_t *bytes, size_t size, size_t room)
{
	size_t head = size <= room ? size : room / 2, tail = size <= room ? 0 : room - head;
	uint8_t *exact = malloc(head), *end = malloc(tail ? tail : 1);
	struct wire_piece piece = { .time_ns = ++p->now_ns,
				    .total = size,
				    .head = exact,
				    .head_size = head,
				    .tail = end,
				    .tail_size = tail };

	memcpy(exact, bytes, head);
	memcpy(end, bytes + size - tail, tail);
	assert_int_equal(zmtp__piece(&p->stream, &piece, &ZMTP, p), 0);
	free(exact);
	free(end);
}

static void send_all(struct play *p, const uint8_t *bytes, size_t size, size_t step)
{
	for (size_t at = 0; at < size; at += step)
		send_cut(p, bytes + at, step < size - at ? step : size - at, step);
}

static const char TOLD_API_SERVER[] =
	"add chatcmpl-my-req-42-0a1b2c3d (chatcmpl-my-req-42) 1 200 70000 33 5\n"
	"abort chatcmpl-my-req-42-0a1b2c3d\n"
	"add e-1 (e) nil\n";
static const char TOLD_ENGINE_CORE[] = "out chatcmpl-my-req-42-0a1b2c3d 42 prompt 5 cached 3\n"
				       "out b-1 70000 7\n"
				       "step 0: 2-0\n"
				       "out b-1 2 finish 1\n"
				       "step 1: 1-0\n"
				       "step 0: 0-0\n"
				       "step 0: 0-0\n";

static void reads_both_directions(void **state)
{
	for (size_t step = 1; step < 2000; step = step * 3 / 2 + 1) {
		struct play api = { 0 }, core = { 0 };

		send_all(&api, API_SERVER, sizeof(API_SERVER), step);
		assert_string_equal(api.told, TOLD_API_SERVER);
		assert_int_equal(api.frames, 9);
		assert_int_equal(api.refused, 0);
		assert_int_equal(zmtp__verdict(&api.stream), ZMTP_YES);
		send_all(&core, ENGINE_CORE, sizeof(ENGINE_CORE), step);
		assert_string_equal(core.told, TOLD_ENGINE_CORE);
		assert_int_equal(core.refused, 0);
		zmtp__close(&api.stream);
		zmtp__close(&core.stream);
	}
}

/* The first message frame of a vector: behind greeting and READY. */
static size_t first_frame(const uint8_t *bytes)
{
	return ZMTP_GREETING_BYTES + 2 + bytes[ZMTP_GREETING_BYTES + 1];
}

static void joins_late(void **state)
{
	struct play p = { 0 };
	size_t at = first_frame(API_SERVER);

	send_cut(&p, (const uint8_t *)"in the middle of something", 26, 26);
	assert_int_equal(zmtp__verdict(&p.stream), ZMTP_UNSURE);
	send_cut(&p, API_SERVER + at, sizeof(API_SERVER) - at, 4096);
	assert_string_equal(p.told, TOLD_API_SERVER);
	/* A loss, and the rest of something; then whole messages again. */
	zmtp__lost(&p.stream);
	send_cut(&p, API_SERVER + at + 50, 60, 4096);
	send_cut(&p, API_SERVER + at, sizeof(API_SERVER) - at, 4096);
	assert_string_equal(p.told + sizeof(TOLD_API_SERVER) - 1, TOLD_API_SERVER);
	/* The number of the connection is in use again. */
	send_cut(&p, API_SERVER + at, 60, 4096);
	send_cut(&p, ENGINE_CORE, sizeof(ENGINE_CORE), 4096);
	assert_string_equal(p.told + 2 * (sizeof(TOLD_API_SERVER) - 1), TOLD_ENGINE_CORE);
	zmtp__close(&p.stream);
}

/* A message of @tokens prompt tokens of 3 bytes, otherwise as in the vector; with its frames. */
static size_t long_request(uint8_t *out, uint16_t tokens)
{
	const uint8_t *frame = API_SERVER + first_frame(API_SERVER) + 3; /* behind the kind */
	const uint8_t *body = frame + 2, *prompt = body + 3 + 28;
	const uint8_t *rest = prompt + 1 + 10;
	size_t rest_size = body + frame[1] - rest, size = 3 + 28 + 3 + 3 * tokens + rest_size;
	uint8_t *at = out;

	assert_int_equal(*prompt, 0x95);
	memcpy(at, "\x01\x01\x00\x02\0\0\0\0\0\0", 10);
	at[10] = size >> 8;
	at[11] = size;
	memcpy(at + 12, body, 31);
	at += 12 + 31;
	*at++ = 0xdc;
	*at++ = tokens >> 8;
	*at++ = tokens;
	for (int i = 0; i < tokens; i++, at += 3)
		memcpy(at, "\xcd\x12", 2), at[2] = i;
	memcpy(at, rest, rest_size);
	return at + rest_size - out;
}

static void reads_a_long_prompt(void **state)
{
	uint8_t bytes[16384];
	size_t size = long_request(bytes, 4000);

	for (size_t step = 100; step < 2 * size; step = step * 2 + 1) {
		struct play p = { 0 };

		p.stream.verdict = ZMTP_YES;
		send_all(&p, bytes, size, step);
		assert_string_equal(p.told, "add chatcmpl-my-req-42-0a1b2c3d (chatcmpl-my-req-42) "
					    "4608 4609 4610 4611 4612 4613 +3994\n");
		zmtp__close(&p.stream);
	}
}

static void reads_a_long_prompt_with_a_gap(void **state)
{
	struct play p = { 0 };
	uint8_t bytes[16384];
	size_t size = long_request(bytes, 4000);

	/* As libzmq: batches of 8 KiB; what does not fit follows. */
	send_cut(&p, bytes, 8192, 1984);
	assert_string_equal(p.told, "");
	send_cut(&p, bytes + 8192, size - 8192, 1984);
	send_cut(&p, ENGINE_CORE + first_frame(ENGINE_CORE), 766 + 9, 4096);
	assert_memory_equal(p.told,
			    "add chatcmpl-my-req-42-0a1b2c3d () cut 4608 4609 4610 4611 4612 4613 "
			    "+3994\nout chatcmpl",
			    80);
	zmtp__close(&p.stream);
}

static void tells_what_is_missing_of_a_step(void **state)
{
	const uint8_t *frame = ENGINE_CORE + first_frame(ENGINE_CORE);
	static const char *const EXPECTED[] = {
		"",
		"step 0: 2-2\n",
		"out chatcmpl-my-req-42-0a1b2c3d 42 cut\nstep 0: 2-1\n",
		"out chatcmpl-my-req-42-0a1b2c3d 42 cut prompt 5 cached 3\nstep 0: 2-1\n",
		"out chatcmpl-my-req-42-0a1b2c3d 42 prompt 5 cached 3\nstep 0: 2-1\n",
		"out chatcmpl-my-req-42-0a1b2c3d 42 prompt 5 cached 3\nout b-1 70000 7 cut\n"
		"step 0: 2-0\n",
		"out chatcmpl-my-req-42-0a1b2c3d 42 prompt 5 cached 3\nout b-1 70000 7\n"
		"step 0: 2-0\n",
	};
	size_t seen = 0;

	assert_int_equal(frame[0], 2); /* a long frame: 9 bytes of header */
	for (size_t head = 9; head < 9 + 764; head++) {
		struct play p = { 0 };
		struct wire_piece piece = { .total = 9 + 764, .head = frame, .head_size = head };

		p.stream.verdict = ZMTP_YES;
		p.stream.state = 2; /* at the beginning of a frame */
		assert_int_equal(zmtp__piece(&p.stream, &piece, &ZMTP, &p), 0);
		assert_int_equal(p.frames, 1);
		assert_int_equal(p.refused, 0);
		while (strcmp(p.told, EXPECTED[seen]) != 0)
			assert_true(++seen < sizeof(EXPECTED) / sizeof(EXPECTED[0]));
		zmtp__close(&p.stream);
	}
	assert_int_equal(seen, 6);
}

/* Many messages in one piece, longer than what is captured: those at its end are found. */
static void finds_frames_behind_a_gap(void **state)
{
	struct play p = { 0 };
	size_t from = first_frame(ENGINE_CORE), size = sizeof(ENGINE_CORE) - from;
	uint8_t *bytes = malloc(5 * size);

	for (int i = 0; i < 5; i++)
		memcpy(bytes + i * size, ENGINE_CORE + from, size);
	send_cut(&p, bytes, 5 * size, 2 * size - 300);
	assert_non_null(strstr(p.told, "step 0: 2-0\n"));
	assert_non_null(strstr(p.told + 100, "out b-1 2 finish 1\nstep 1: 1-0\nstep 0: 0-0\n"));
	assert_int_equal(p.refused, 0);
	free(bytes);
	zmtp__close(&p.stream);
}

static void says_what_is_not_zmtp(void **state)
{
	struct play p = { 0 };
	uint8_t curve[ZMTP_GREETING_BYTES];

	for (int i = 0; i < ZMTP_STRANGE_PIECES; i++) {
		assert_int_equal(zmtp__verdict(&p.stream), ZMTP_UNSURE);
		send_cut(&p, (const uint8_t *)"HTTP/1.1 200 OK\r\n\r\n", 19, 19);
	}
	assert_int_equal(zmtp__verdict(&p.stream), ZMTP_NO);
	send_cut(&p, API_SERVER, sizeof(API_SERVER), 4096);
	assert_string_equal(p.told, TOLD_API_SERVER);
	memcpy(curve, API_SERVER, sizeof(curve));
	memcpy(curve + 12, "CURVE", 5);
	send_cut(&p, curve, sizeof(curve), 64);
	assert_int_equal(zmtp__verdict(&p.stream), ZMTP_ENCRYPTED);
	zmtp__close(&p.stream);
}

static void bounds_what_it_holds(void **state)
{
	struct play p = { 0 };
	uint8_t zeros[4096] = { 0 };
	static const uint8_t HUGE[] = { 2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff };
	static const uint8_t TOO_LONG[] = { 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	p.stream.verdict = ZMTP_YES;
	p.stream.state = 2;
	send_cut(&p, HUGE, sizeof(HUGE), 99);
	for (int i = 0; i < 100; i++)
		send_cut(&p, zeros, sizeof(zeros), sizeof(zeros));
	assert_true(p.stream.held.size == ZMTP_HELD_BYTES);
	assert_true(p.stream.held.capacity <= 2 * ZMTP_HELD_BYTES);
	zmtp__lost(&p.stream);
	p.stream.state = 2;
	send_cut(&p, TOO_LONG, sizeof(TOO_LONG), 99);
	assert_int_equal(p.stream.state, 0);
	assert_int_equal(p.frames, 0);
	zmtp__close(&p.stream);
}

/* A short write: the rest of a batch is offered again. */
static void reads_what_is_offered_twice_once(void **state)
{
	struct play p = { 0 };
	struct wire_piece piece = wire_piece__whole(API_SERVER, sizeof(API_SERVER), 1);

	piece.address = 0x7f0000001000;
	zmtp__piece(&p.stream, &piece, &ZMTP, &p);
	piece.address += 300;
	piece.head += 300;
	piece.head_size = piece.total -= 300;
	zmtp__piece(&p.stream, &piece, &ZMTP, &p);
	assert_string_equal(p.told, TOLD_API_SERVER);
	zmtp__close(&p.stream);
}

/* Every byte of a message changed to some others: ours or not, within bounds, and no crash. */
static void survives_changed_messages(void **state)
{
	static const uint8_t OTHERS[] = {
		0x00, 0x7f, 0x80, 0x9f, 0xc0, 0xc1, 0xdb, 0xdd, 0xdf, 0xff
	};

	for (size_t i = 0; i < sizeof(ENGINE_CORE); i++) {
		for (size_t o = 0; o < sizeof(OTHERS); o++) {
			struct play p = { 0 };
			uint8_t bytes[sizeof(ENGINE_CORE)];

			memcpy(bytes, ENGINE_CORE, sizeof(bytes));
			bytes[i] = OTHERS[o];
			send_all(&p, bytes, sizeof(bytes), 400);
			zmtp__close(&p.stream);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_both_directions),
		cmocka_unit_test(joins_late),
		cmocka_unit_test(reads_a_long_prompt),
		cmocka_unit_test(reads_a_long_prompt_with_a_gap),
		cmocka_unit_test(tells_what_is_missing_of_a_step),
		cmocka_unit_test(finds_frames_behind_a_gap),
		cmocka_unit_test(says_what_is_not_zmtp),
		cmocka_unit_test(bounds_what_it_holds),
		cmocka_unit_test(reads_what_is_offered_twice_once),
		cmocka_unit_test(survives_changed_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
