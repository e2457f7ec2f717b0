/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whose rows these are. A step of vLLM packs the rows of several requests; where each begins is
 * known, and the positions, and the tokens, but no name:
 *
 *   a row goes on with the sequence whose last row is one position before it, and whose keys and
 * values were written one cache slot before its own: a block of the cache that is not full is of
 * one sequence only.
 *   Where a block begins, a row may go on with any sequence that filled one up to there, or be the
 * first of a request, or its first after it was preempted (prefixes come from the cache in whole
 * blocks): the tokens decide, as far as the messages have told of them (requests.h). What can be
 * one request only goes first (owners.c).
 *   Where several remain, the likeliest is taken, and what is said waits (held.h) until what they
 * generate tells them apart (doubts.c), or for too long; then it is said to be inferred.
 *
 * Requests are the sequences: a preempted one goes on at an earlier position. The stages of a
 * pipeline have their sequences in common (passes.h).
 */
#ifndef MP_VLLM_BATCHES_H
#define MP_VLLM_BATCHES_H

#include <stdint.h>

#include "probe/engine/aten/step.h"
#include "probe/engine/sink.h"

struct vllm_held;
struct vllm_requests;
struct vllm_batches;

/* @requests and @held are borrowed. 0 or -ENOMEM. */
int vllm_batches__new(struct vllm_batches **out, struct vllm_requests *requests,
		      struct vllm_held *held);
/* Accepts NULL. */
void vllm_batches__free(struct vllm_batches *b);

/* Say the step @s of context @c, its requests before it. @home: the first context of the pipeline
 * that @c is a stage of; NULL: it is none. @sink is that of @held. 0, -ENOMEM, or the sink's error.
 */
int vllm_batches__step(struct vllm_batches *b, struct aten_step *s, struct aten_context *c,
		       struct aten_context *home, const struct engine_sink *sink);
/* Say what waits if it is clear by now whose rows these are, or if that took too long (@now_ns;
 * UINT64_MAX: in any case). */
int vllm_batches__settle(struct vllm_batches *b, uint64_t now_ns, const struct engine_sink *sink);
/* Process @tgid is gone. */
void vllm_batches__leave(struct vllm_batches *b, uint32_t tgid);

#endif
