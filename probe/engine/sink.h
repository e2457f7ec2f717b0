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

#include "probe/engine/sink_numbers.h"

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
	/* Layer numbers are not the model's own: they count MoE layers as computed, from 0. The
	 * same whenever this context is said. */
	bool ordinals;
	uint32_t experts, k, shared_experts, vocabulary, blocks, normalised; /* or ENGINE_UNKNOWN */
	bool from_file;
	bool whole_last_layer;        /* rows without output are computed in the last layer too */
	uint32_t gate;                /* ENGINE_GATE_*; 0: unknown */
	uint32_t groups, groups_used; /* of experts: in all, chosen a token; 0: unknown */
	float scale;                  /* that weights are multiplied with at last; 0: unknown */
	const char *kv_type;          /* "f16", "q8_0/f16" (keys, values); NULL: unknown */
	/* ENGINE_DIGEST_BYTES each; NULL: unknown. What they are taken of: docs/trace-format.md. */
	const uint8_t *model_digest, *tokenizer_digest;
};

/* What was asked for, where it is visible. */
struct engine_sampling {
	float temperature, top_p; /* NaN: unknown */
	uint32_t top_k;           /* 0: not limited; ENGINE_UNKNOWN */
	uint32_t max_tokens;      /* to be generated at most; ENGINE_UNKNOWN */
};

/* A request, said when its first row is known or it ends without one. */
struct engine_request {
	uint32_t request; /* from 1 */
	uint32_t context; /* ENGINE_UNKNOWN: it had no row, and there are several to choose from */
	uint32_t sequence;
	uint32_t slot, epoch;  /* which use of the slot, from 0; each may be ENGINE_UNKNOWN */
	uint32_t task;         /* ENGINE_UNKNOWN if it began before us */
	uint32_t cached;       /* prompt tokens taken from the cache, ENGINE_UNKNOWN */
	uint32_t prompt;       /* prompt tokens, ENGINE_UNKNOWN */
	const int32_t *tokens; /* the prompt, NULL if not captured */
	const char *client_id; /* "" if unknown */
	bool before_attach;
	bool inferred; /* row -> request by tokens or positions only */
	uint64_t begin_ns;
	uint64_t time_ns;
	const struct engine_sampling *sampling; /* NULL: not visible */
};

/*
 * What became known of a request after it was said to begin, at any time, also after its end (of
 * the last thousand or so). NULL or "": says nothing; of what is said twice the last word counts.
 */
struct engine_request_info {
	uint32_t request;
	uint32_t origin;        /* ENGINE_ORIGIN_* */
	bool inferred;          /* that it is this request's */
	const char *client_id;  /* that the client received: "chatcmpl-..." */
	const char *request_id; /* of an x-request-id header */
	const char *trace_id;   /* W3C: 32 hexadecimal digits */
	const char *adapter;    /* a LoRA's name */
	const char *labels;     /* "key=value" pairs, each ended by a line feed */
	uint64_t time_ns;
};

/* From @position on, rows of @sequence belong to @request, whatever its rows have said. */
struct engine_bind {
	uint32_t context, sequence;
	uint32_t request; /* that was said to begin; ENGINE_UNKNOWN: to none */
	uint32_t position;
	uint32_t origin; /* ENGINE_ORIGIN_* */
	bool inferred;
	uint64_t time_ns;
};

struct engine_request_end {
	uint32_t request;
	uint32_t ending; /* numbers of enum trace_ending: UNKNOWN 0, RELEASED 1, REPLACED 2, ... */
	/* By the server's own word, ENGINE_UNKNOWN where it did not say: positions of the sequence
	 * that were evaluated (cached prefix included), prompt rows computed, tokens generated. */
	uint32_t tokens, prompt_rows, generated;
	uint64_t time_ns;
	uint32_t finish; /* ENGINE_FINISH_*; 0: unknown */
	uint32_t prompt; /* its tokens, by the server's word; 0 or ENGINE_UNKNOWN: unknown */
	bool inferred;   /* that the server's word is about this request */
};

struct engine_row {
	uint32_t sequence;
	uint32_t request; /* ENGINE_UNKNOWN: of no known request */
	uint32_t position;
	int32_t token;  /* -1: unknown */
	uint8_t phase;  /* enum engine_phase */
	uint8_t output; /* logits asked for: this row reaches the last layer */
	uint8_t flags;  /* ENGINE_ROW_*; PADDING and FINISHED: of no request, phase unknown */
};

/* One layer of a step. rows <= rows of the step; ids and weights are [rows][k], each row in
 * descending weight, ties by id. @row NULL: rows 0 .. rows - 1. */
struct engine_route {
	uint32_t layer; /* one of the context's layer_ids */
	uint32_t rows, k;
	const uint32_t *row;
	const uint16_t *ids;  /* with ENGINE_ROUTE_NO_CHOICE maybe ENGINE_NO_EXPERT, at the end */
	const float *weights; /* NULL if unknown; of no expert 0 */
	uint32_t flags;       /* ENGINE_ROUTE_* */
	const uint8_t *row_flags; /* [rows] of ENGINE_ROUTE_ROW_*; NULL: none */
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
	uint32_t ubatch, ubatches; /* part of the server's batch, from 0; parts, 0: unknown */
	uint64_t batch; /* number of that batch, the same in all pipeline stages; 0: unknown */
};

struct engine_sink {
	int (*context)(void *ctx, const struct engine_context *c);
	int (*request_begin)(void *ctx, const struct engine_request *r);
	int (*request_end)(void *ctx, const struct engine_request_end *r);
	int (*step)(void *ctx, const struct engine_step *s);
	/* @count captures that failed check @cause (ENGINE_INVALID_*). */
	int (*invalid)(void *ctx, uint32_t cause, uint64_t count);
	/* @count captures lost before they could be understood (ENGINE_LOSS_*); @decisions (rows x
	 * layers) in them, UINT64_MAX: unknown. What the kernel gave up is in its counters and not
	 * said here. */
	int (*lost)(void *ctx, uint32_t cause, uint64_t count, uint64_t decisions);
	/* An engine that can say neither need not; both are set in what the collector hands out. */
	int (*request_info)(void *ctx, const struct engine_request_info *i);
	int (*bind)(void *ctx, const struct engine_bind *b);
	void *ctx;
};

#endif
