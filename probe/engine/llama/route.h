/* SPDX-License-Identifier: BSD-2-Clause */
/* One router result, decoded from its capture, checked and put into gate order. */
#ifndef MP_LLAMA_ROUTE_H
#define MP_LLAMA_ROUTE_H

#include <stdint.h>

#include "probe/engine/capture.h"

/* What a capture says of itself, before its numbers are looked at. */
struct llama_route_head {
	uint32_t computation; /* number of the computation on its thread */
	uint32_t layer;
	uint32_t rows, k;
	uint32_t stride; /* of a row of ids: number of experts, or k */
};

/* 0, or -EBADMSG: sizes, limits or the name's layer number make no sense. */
int llama_route__head(struct llama_route_head *out, const struct capture *c);

/*
 * Fill @ids and @weights ([rows][k], the caller's), each row in descending weight, ties by id.
 * 0, or the cause why the capture is not taken: ENGINE_INVALID_EXPERT_RANGE (not below
 * @experts), _EXPERT_REPEATED, _WEIGHT.
 */
uint32_t llama_route__decode(uint16_t *ids, float *weights, const struct capture *c,
			     const struct llama_route_head *h, uint32_t experts);

#endif
