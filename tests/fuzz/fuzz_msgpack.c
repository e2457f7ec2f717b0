/* SPDX-License-Identifier: BSD-2-Clause */
/* MessagePack, ZeroMQ frames and vLLM's messages in hostile pieces. Input: a byte that says how
 * the rest is cut into pieces, then the bytes of a connection. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe/engine/wire/vllm_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define require(condition) \
	do { \
		if (!(condition)) \
			abort(); \
	} while (0)

static void check_tokens(struct vllm_tokens t)
{
	uint32_t tokens[64], count = t.count;
	size_t n = vllm_tokens__next(&t, tokens, 64);

	require(n <= count && t.count == count - n);
	for (size_t i = 0; i < n; i++)
		require(tokens[i] <= INT32_MAX);
}

static void check_text(struct vllm_text t)
{
	volatile char last;

	require(t.bytes ? t.size > 0 : !t.size);
	if (t.bytes)
		last = t.bytes[t.size - 1];
	(void)last;
}

static void on_request(void *ctx, uint64_t time_ns, const struct vllm_request *r)
{
	check_text(r->id);
	require(r->id.bytes && (r->is_whole || !r->external.bytes));
	check_tokens(r->prompt);
	require(!r->has_sampling || !(r->sampling.temperature < 0 || r->sampling.top_p < 0));
	require(!r->has_sampling || r->sampling.top_k == ENGINE_UNKNOWN ||
		r->sampling.top_k <= INT32_MAX);
}

static void on_abort(void *ctx, uint64_t time_ns, struct vllm_text id)
{
	check_text(id);
}

static void on_output(void *ctx, uint64_t time_ns, const struct vllm_output *o)
{
	check_text(o->id);
	require(o->id.bytes && o->finish >= VLLM_RUNNING && o->finish <= VLLM_REPETITION);
	check_tokens(o->tokens);
}

static void on_step(void *ctx, uint64_t time_ns, uint32_t engine, uint32_t outputs,
		    uint32_t missing)
{
	require(missing <= outputs);
}

static void on_frame(void *ctx, const struct zmtp_frame *f)
{
	static const struct vllm_events EVENTS = { on_request, on_abort, on_output, on_step };

	require(f->size <= f->whole && (f->bytes || !f->size));
	vllm_message__frame(ctx, f, &EVENTS, NULL);
}

static void check_values(const uint8_t *data, size_t size)
{
	struct msgpack m = msgpack__over(data, size, size + (size ? data[0] : 0));
	struct msgpack skipped = m;
	struct msgpack_item item;
	int err = msgpack__skip(&skipped);

	require(err || skipped.at > 0);
	require(skipped.at <= size);
	for (size_t before = m.at; !msgpack__next(&m, &item); before = m.at) {
		require(m.at > before && m.at <= size);
		require(!item.bytes ||
			(item.bytes >= data && item.bytes + item.size <= data + size));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct zmtp_events EVENTS = { on_frame, vllm_message__plausible };
	struct zmtp_stream z = { 0 };
	struct vllm_reader reader = { 0 };
	size_t step, room;

	if (!size)
		return 0;
	step = data[0] % 16 ? 1 + 37u * (data[0] % 16) : size;
	room = data[0] / 16 ? 13u * (data[0] / 16) : size;
	check_values(data + 1, size - 1);
	for (size_t at = 1; at < size; at += step) {
		size_t n = step < size - at ? step : size - at, tail = n <= room ? 0 : room / 2;
		struct wire_piece p = { .time_ns = at,
					.total = n,
					.head = data + at,
					.head_size = n <= room ? n : room - tail,
					.tail = data + at + n - tail,
					.tail_size = tail };

		if (zmtp__piece(&z, &p, &EVENTS, &reader) == -ENOMEM)
			break;
		if (data[at] == 0xc1)
			zmtp__lost(&z);
	}
	require(z.held.size <= ZMTP_HELD_BYTES);
	zmtp__close(&z);
	return 0;
}
