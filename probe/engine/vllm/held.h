/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is said a moment later. While it is not clear which of several requests with equal
 * beginnings some rows are of, whatever the engine says waits here, in its order; mostly the next
 * token tells, and then it is said right at once: a request with its true prefix, rows with their
 * true request. What waits for too long is said as it is taken to be, and corrected by binds.
 *
 * Stands between the engine and its sink: passes on at once what need not wait.
 */
#ifndef MP_VLLM_HELD_H
#define MP_VLLM_HELD_H

#include <stdbool.h>
#include <stdint.h>

#include "probe/engine/sink.h"

struct vllm_held;

/* A sequence that turned out to be another request's. */
struct vllm_correction {
	struct engine_bind bind;
	bool is_first;    /* bind.position is that of the first row of sequence and request */
	uint64_t time_ns; /* of that row */
	uint32_t prefill; /* positions of the request that are computed from known tokens;
			     ENGINE_UNKNOWN */
};

/* 0 or -ENOMEM. */
int vllm_held__new(struct vllm_held **out);
/* Accepts NULL; what waits is forgotten. */
void vllm_held__free(struct vllm_held *h);

/* A sink that leads through @h to @sink: valid, like what is called by it, until the next one. */
struct engine_sink vllm_held__sink(struct vllm_held *h, const struct engine_sink *sink);

/* From now on, what is said waits. */
void vllm_held__hold(struct vllm_held *h);
/* True if there is no room for more, or no time at @now_ns (UINT64_MAX: at no time). */
bool vllm_held__is_full(const struct vllm_held *h, uint64_t now_ns);
/* Say what waits, and hold no more. 0, or the first error of the sink; the rest is said all the
 * same. */
int vllm_held__release(struct vllm_held *h);

/* Correct what waits; what was said already is corrected by a bind. 0, -ENOMEM or the sink's
 * error. */
int vllm_held__correct(struct vllm_held *h, const struct vllm_correction *c);
/* It is sure by now which rows are @request's. True if its beginning was not said yet: then that
 * says so. */
bool vllm_held__make_sure(struct vllm_held *h, uint32_t request);
/* @request is not what it was taken for. True if it has no rows, and its beginning was not said
 * yet: then it is not. */
bool vllm_held__take_back(struct vllm_held *h, uint32_t request);

#endif
