/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whose rows these are. A step of vLLM packs the rows of several requests; where each begins is
 * known, and the positions, and the tokens, but no name:
 *
 *   a row continues the sequence whose last row is one position before it, and whose keys and
 * values were written one cache slot before its own: a slot is written for one sequence only. Where
 * a sequence begins a new block of the cache, first the block that the sequence begins with (which
 *   several share whose prompts begin alike) and then the tokens decide.
 *   What continues nothing is a request's first row, or its first after it was preempted: the
 *   request whose tokens these are (requests.h). Where several have the same, the one that asked
 *   first, and that is said to be inferred until what they generate tells them apart.
 *
 * Requests are the sequences: a preempted one goes on at an earlier position. The stages of a
 * pipeline have their sequences in common (passes.h).
 */
#ifndef MP_VLLM_BATCHES_H
#define MP_VLLM_BATCHES_H

#include <stdint.h>

#include "probe/engine/aten/step.h"
#include "probe/engine/sink.h"

struct vllm_requests;
struct vllm_batches;

/* @requests is borrowed. 0 or -ENOMEM. */
int vllm_batches__new(struct vllm_batches **out, struct vllm_requests *requests);
/* Accepts NULL. */
void vllm_batches__free(struct vllm_batches *b);

/* Say the step @s of context @c, its requests before it. @home: the first context of the pipeline
 * that @c is a stage of; NULL: it is none. 0, -ENOMEM, or the sink's error. */
int vllm_batches__step(struct vllm_batches *b, struct aten_step *s, struct aten_context *c,
		       struct aten_context *home, const struct engine_sink *sink);
/* Process @tgid is gone. */
void vllm_batches__leave(struct vllm_batches *b, uint32_t tgid);

#endif
