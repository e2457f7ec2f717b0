/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an engine says: engine-neutral facts, in the order in which they happened. The collector
 * implements it (writing the stream); tests implement it with recorders. All pointers are
 * borrowed for the duration of the call. Callbacks return 0 or -errno; an engine passes an
 * error on and keeps its own state consistent.
 */
#ifndef MP_ENGINE_SINK_H
#define MP_ENGINE_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define ENGINE_UNKNOWN UINT32_MAX

/* A loaded model in a process; @context is the engine's small id, from 1. Said once it is known,
 * and again when more is known. */
struct engine_context {
	uint32_t context;
	pid_t pid;
	uint64_t key; /* the engine's own identity (an address) */
	/* The same in all contexts of one loaded model: ranks that hold copies, pipeline stages
	 * that hold some of its layers each. 0: this context is all of it. */
	uint64_t model_key;
	/* A context that computes what another does (a tensor-parallel rank): its routing repeats
	 * that one's and is counted there; steps that are said of it are dropped. 0: none. */
	uint32_t replica_of;
	const char *architecture, *name, *path, *quantisation; /* "" if unknown */
	uint32_t layers;                                       /* MoE layers */
	const uint16_t *layer_ids;
	uint32_t experts, k, shared_experts, vocabulary, blocks, normalised; /* or ENGINE_UNKNOWN */
	bool from_file;
};

/* A request, said when its first row is known or it ends without one. */
struct engine_request {
	uint32_t request; /* from 1 */
	uint32_t context; /* ENGINE_UNKNOWN: it had no row, and there are several to choose from */
	uint32_t sequence;
	uint32_t slot, epoch;
	uint32_t task;         /* ENGINE_UNKNOWN if it began before us */
	uint32_t cached;       /* prompt tokens taken from the cache, ENGINE_UNKNOWN */
	uint32_t prompt;       /* prompt tokens, ENGINE_UNKNOWN */
	const int32_t *tokens; /* the prompt, NULL if not captured */
	const char *client_id; /* "" if unknown */
	bool before_attach;
	bool inferred; /* row -> request by tokens or positions only */
	uint64_t begin_ns;
	uint64_t time_ns;
};

struct engine_request_end {
	uint32_t request;
	uint32_t ending; /* numbers of enum trace_ending: UNKNOWN 0, RELEASED 1, REPLACED 2, ... */
	/* By the server's own word, ENGINE_UNKNOWN where it did not say: positions of the sequence
	 * that were evaluated (cached prefix included), prompt rows computed, tokens generated. */
	uint32_t tokens, prompt_rows, generated;
	uint64_t time_ns;
};

enum engine_phase { ENGINE_PREFILL = 0, ENGINE_DECODE = 1, ENGINE_PHASE_UNKNOWN = 255 };

struct engine_row {
	uint32_t sequence;
	uint32_t request; /* ENGINE_UNKNOWN: of no known request */
	uint32_t position;
	int32_t token;  /* -1: unknown */
	uint8_t phase;  /* enum engine_phase */
	uint8_t output; /* logits asked for: this row reaches the last layer */
};

/* One layer of a step. rows <= rows of the step; ids and weights are [rows][k], each row in
 * descending final weight, ties by id. @row NULL: rows 0 .. rows - 1. */
struct engine_route {
	uint32_t layer; /* the model's own number */
	uint32_t rows, k;
	const uint32_t *row;
	const uint16_t *ids;
	const float *weights; /* NULL if unknown */
};

/* One forward computation with all layers that were captured of it. */
struct engine_step {
	uint32_t context;
	uint64_t step; /* from 1 in its context */
	uint64_t begin_ns, end_ns;
	uint32_t rows;
	const struct engine_row *row;
	uint32_t routes;
	const struct engine_route *route;
};

struct engine_sink {
	int (*context)(void *ctx, const struct engine_context *c);
	int (*request_begin)(void *ctx, const struct engine_request *r);
	int (*request_end)(void *ctx, const struct engine_request_end *r);
	int (*step)(void *ctx, const struct engine_step *s);
	/* @count captures that failed check @cause (ENGINE_INVALID_*). */
	int (*invalid)(void *ctx, uint32_t cause, uint64_t count);
	/* @count captures lost before they could be understood (ENGINE_LOSS_*); @rows of router
	 * results. What the kernel gave up is in its counters and not said here. */
	int (*lost)(void *ctx, uint32_t cause, uint64_t count, uint64_t rows);
	void *ctx;
};

/* The numbers of collector/trace/records.h that engines use; a test holds them equal. */
enum {
	ENGINE_ENDING_UNKNOWN = 0,
	ENGINE_ENDING_RELEASED = 1,
	ENGINE_ENDING_REPLACED = 2,
	ENGINE_ENDING_TARGET_GONE = 3,
	ENGINE_ENDING_CAPTURE_END = 4,
	ENGINE_LOSS_CHUNKS = 4,
	ENGINE_LOSS_NO_STEP = 6,
	ENGINE_INVALID_SHAPE = 2,
	ENGINE_INVALID_EXPERT_RANGE = 3,
	ENGINE_INVALID_EXPERT_REPEATED = 4,
	ENGINE_INVALID_WEIGHT = 5,
	ENGINE_INVALID_ROW = 6,
	ENGINE_INVALID_ROW_COUNT = 7,
	ENGINE_INVALID_IDENTITY = 8,
	ENGINE_INVALID_WARM_UP = 9,
};

#endif
