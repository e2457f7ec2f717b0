/* SPDX-License-Identifier: BSD-2-Clause */
/* How often each expert of each layer was chosen: over the whole stream and in its windows. */
#ifndef MP_STATE_GRID_H
#define MP_STATE_GRID_H

#include <stddef.h>
#include <stdint.h>

struct grid;

/* X(NAME, text, bucket_ns, buckets): stretches of stream time; 0 buckets: the whole stream. */
#define STATE_WINDOWS(X) \
	X(10S, "10 s", 1000000000ull, 10) \
	X(1MIN, "1 min", 5000000000ull, 12) \
	X(WHOLE, "whole", 0, 0)

enum state_window {
#define X(name, text, bucket_ns, buckets) STATE_WINDOW_##name,
	STATE_WINDOWS(X)
#undef X
		STATE_WINDOW_COUNT
};

/* X(NAME, text) */
#define STATE_PHASES(X) \
	X(PREFILL, "prefill") \
	X(DECODE, "decode") \
	X(OTHER, "unknown") \
	X(BOTH, "both")

enum state_phase {
#define X(name, text) STATE_##name,
	STATE_PHASES(X)
#undef X
		STATE_PHASE_COUNT /* BOTH is the sum of all others, which are kept apart */
};

const char *state_window__name(enum state_window w);
const char *state_phase__name(enum state_phase p);

/* Layers x experts that all grids of a stream may hold: bounds what a hostile stream costs. */
#define GRID_CELLS_MAX (1u << 17)

/* 0, -E2BIG (more than GRID_CELLS_MAX, or an empty grid), -ENOMEM. */
int grid__new(struct grid **out, uint32_t layers, uint32_t experts);
uint32_t grid__layers(const struct grid *g);
uint32_t grid__experts(const struct grid *g);
/* Add layer @from of @other to layer @to; experts beyond ours are left out. */
void grid__take_layer(struct grid *g, uint32_t to, const struct grid *other, uint32_t from);

/* Stream time is @now_ns. */
void grid__advance(struct grid *g, uint64_t now_ns);
/* @n choices of @expert with gate weights that add up to @gate. @layer is an index, @phase not
 * BOTH; out of range: -ERANGE and nothing is counted. */
int grid__add(struct grid *g, uint32_t layer, uint32_t expert, enum state_phase phase, uint32_t n,
	      double gate);
uint64_t grid__count(const struct grid *g, enum state_window w, enum state_phase p, uint32_t layer,
		     uint32_t expert);
/* Choices of all experts of @layer. */
uint64_t grid__layer_count(const struct grid *g, enum state_window w, enum state_phase p,
			   uint32_t layer);
/* Gate weights over the whole stream. */
double grid__gate(const struct grid *g, enum state_phase p, uint32_t layer, uint32_t expert);
/* Accepts NULL. */
void grid__free(struct grid *g);

#endif
