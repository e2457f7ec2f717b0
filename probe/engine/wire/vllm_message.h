/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What vLLM's API server and its engine core send each other over ZeroMQ (V1 engine; positions
 * as of 0.32), as msgspec encodes its structs: arrays by position.
 *
 *   API server -> engine core: part 0 one byte (the kind), part 1 the message, then tensors
 *   engine core -> API server: part 0 EngineCoreOutputs, then tensors
 *
 * Read by position, each type verified up to the last field used: anything else is -EBADMSG,
 * "not ours". Of a frame only the first bytes may be at hand: what is then known is said.
 * Strings are borrowed from the frame, without NUL, and may be any bytes.
 */
#ifndef MP_ENGINE_WIRE_VLLM_MESSAGE_H
#define MP_ENGINE_WIRE_VLLM_MESSAGE_H

#include "probe/engine/sink.h"
#include "probe/engine/wire/msgpack.h"
#include "probe/engine/wire/zmtp.h"

enum { VLLM_ID_BYTES = 512 }; /* a longer request id is not ours */

enum vllm_finish {
	VLLM_RUNNING = -1, /* not finished */
	VLLM_STOP,
	VLLM_LENGTH,
	VLLM_ABORT,
	VLLM_ERROR,
	VLLM_REPETITION,
};

struct vllm_text {
	const char *bytes; /* NULL: nil, or not known */
	uint32_t size;
};

/* A list of token ids: how many it has, and a reader for those at hand. */
struct vllm_tokens {
	uint32_t count;
	bool is_nil; /* no list: the prompt is given as embeddings */
	struct msgpack reader;
};

/* EngineCoreRequest. */
struct vllm_request {
	struct vllm_text id;       /* "<external id>-<8 characters>" as a rule */
	struct vllm_text external; /* what the client sees as id, if @is_whole */
	struct vllm_tokens prompt;
	uint32_t client_index; /* if @is_whole */
	/* How tokens are to be chosen. False: of no generation, or not at hand. */
	bool has_sampling;
	struct engine_sampling sampling; /* what was not understood is unknown */
	bool is_whole; /* the fields behind the prompt were at hand and verified */
};

/* EngineCoreOutput: one request's part of one step. */
struct vllm_output {
	struct vllm_text id;
	struct vllm_tokens tokens; /* new ones */
	enum vllm_finish finish;
	bool is_whole;    /* what is behind the tokens was at hand: @finish is known */
	bool has_prefill; /* the first output: the two below are known */
	uint32_t prompt_tokens;
	uint32_t cached_tokens; /* of them, not computed */
};

/* What the owner is told of a connection; pointers are valid during the call. Any may be NULL. */
struct vllm_events {
	void (*request)(void *ctx, uint64_t time_ns, const struct vllm_request *r);
	void (*abort)(void *ctx, uint64_t time_ns, struct vllm_text id);
	void (*output)(void *ctx, uint64_t time_ns, const struct vllm_output *o);
	/* A step's message of @outputs, of which @missing could not be read. */
	void (*step)(void *ctx, uint64_t time_ns, uint32_t engine, uint32_t outputs,
		     uint32_t missing);
};

/* The frames of one connection. Zero-initialise. */
struct vllm_reader {
	uint8_t kind;  /* of the message that is read: its first byte + 1; 0: none */
	uint32_t part; /* that is expected */
};

/* For zmtp_events.plausible. */
bool vllm_message__plausible(const struct zmtp_frame *f);
/* A frame from zmtp_events.frame: tells what it says. 1 if it was ours, 0 if it is of no
 * interest, -EBADMSG if it is nothing that vLLM sends. */
int vllm_message__frame(struct vllm_reader *reader, const struct zmtp_frame *f,
			const struct vllm_events *events, void *ctx);

/* EngineCoreRequest in @size bytes at hand of @whole. 0; -ENODATA: not even id and number of
 * prompt tokens are at hand; -EBADMSG. */
int vllm_message__request(const uint8_t *bytes, size_t size, uint64_t whole,
			  struct vllm_request *out);
/* Copies the next tokens, at most @room, into @out. How many; 0 at the end of the list or of what
 * is at hand, or at what is no token id. */
size_t vllm_tokens__next(struct vllm_tokens *t, uint32_t *out, size_t room);

#endif
