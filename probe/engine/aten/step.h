/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From tensors to steps. What one thread delivers between two beginnings of a forward computation
 * is one step: its columns (tokens, positions, ...) and the router's results, layer by layer, of
 * which each says how many came before it, so that a lost one does not shift the others.
 *
 * Where no model folder is known nothing is said of a model before two computations have shown the
 * same router (shown.h): the first one waits for the second.
 *
 * A step is closed when all layers of its model are there, when the thread begins the next one, or
 * by time; then it is handed to the engine, which knows whose rows these are.
 */
#ifndef MP_ATEN_STEP_H
#define MP_ATEN_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/engine/aten/column.h"
#include "probe/engine/aten/context.h"
#include "probe/engine/aten/tensor.h"
#include "probe/engine/sink.h"

/* What the router chose in one layer. ids and weights are [rows][k], in gate order. */
struct aten_layer {
	uint32_t ordinal;
	uint32_t rows, k;
	size_t capacity; /* choices that the block holds */
	float *weights;
	uint16_t *ids;
	uint8_t *flags; /* ENGINE_ROUTE_ROW_TIE, of each row */
};

struct aten_step {
	uint32_t tgid, tid, computation;
	uint64_t key; /* identity of the model */
	uint32_t vocabulary;
	uint8_t dtype; /* enum aten_dtype of the model's embedding: what it computes in */
	uint64_t begin_ns, end_ns;
	uint32_t batch, length; /* sizes of the tokens: [batch][length]; a vector is one batch */
	struct aten_column token, position, slot, start;
	int64_t scalar;       /* argument of the call that began it, where its place asks for one */
	uint64_t slots_bytes; /* of the allocation that the slots lie in; 0: not captured */
	uint32_t rows;        /* of its results; 0: none came */
	uint32_t context;     /* id, 0: none came */
	uint32_t layers;      /* captured */
	uint32_t most_ordinal;   /* + 1; 0: none */
	struct aten_shown shown; /* where no model folder is known */
	bool early;              /* it came before its model's router was known */
	uint32_t layer_capacity;
	struct aten_layer *layer; /* by ordinal, ascending */
};

struct aten_thread {
	uint32_t tgid, tid;
	bool open;        /* it has a step that is not closed */
	uint32_t context; /* of that step; 0: not known yet */
};

struct aten_steps;

struct aten_steps_options {
	struct aten_contexts *contexts; /* borrowed */
	/* A step is closed; it is borrowed, and may be changed, for the call. 0, or an error that
	 * is passed on. @c: whose context it is (said already), NULL: no result was captured. */
	int (*step)(void *ctx, struct aten_step *s, struct aten_context *c,
		    const struct engine_sink *sink);
	/* A context is new and not said yet: correct what is known of it. May be NULL. */
	void (*describe)(void *ctx, struct aten_context *c);
	void *ctx;
	/* Tokens come with a computation's first result, behind it: were that the last one, it
	 * waits for them. */
	bool tokens_follow;
	float position_scale; /* what a captured position is of the real one; 0: integers only */
};

/* 0 or -ENOMEM. */
int aten_steps__new(struct aten_steps **out, const struct aten_steps_options *o);
/* Accepts NULL. */
void aten_steps__free(struct aten_steps *s);

/* One tensor, not RAW. 0, -ENOMEM, the callback's or the sink's error, -EBADMSG: it contradicts
 * itself. What fails a check is said to @sink. */
int aten_steps__tensor(struct aten_steps *s, const struct capture *c,
		       const struct engine_sink *sink);
/* Close the steps whose last event was before @before_ns (UINT64_MAX: all). */
int aten_steps__expire(struct aten_steps *s, uint64_t before_ns, const struct engine_sink *sink);
/* What the @at-th thread is about. false: there are no more. */
bool aten_steps__thread(const struct aten_steps *s, size_t at, struct aten_thread *out);
/* The threads of process @tgid are gone: close their steps. */
int aten_steps__leave(struct aten_steps *s, uint32_t tgid, const struct engine_sink *sink);

#endif
