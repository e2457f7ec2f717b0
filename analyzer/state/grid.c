/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/state/grid.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "analyzer/state/window.h"

struct grid {
	uint32_t layers, experts;
	uint64_t *whole; /* [BOTH][layers][experts], like the cells of the windows */
	double *gate;
	struct window window[STATE_WINDOW_WHOLE];
};

static size_t cell_of(const struct grid *g, enum state_phase p, uint32_t layer, uint32_t expert)
{
	return ((size_t)p * g->layers + layer) * g->experts + expert;
}

int grid__new(struct grid **out, uint32_t layers, uint32_t experts)
{
	static const struct {
		uint64_t bucket_ns;
		uint32_t buckets;
	} shape[] = {
#define X(name, text, ns, n) { ns, n },
		STATE_WINDOWS(X)
#undef X
	};
	struct grid *g;
	size_t cells;

	*out = NULL;
	if (!layers || !experts || (uint64_t)layers * experts > GRID_CELLS_MAX)
		return -E2BIG;
	cells = (size_t)STATE_BOTH * layers * experts;
	g = calloc(1, sizeof(*g));
	if (!g)
		return -ENOMEM;
	g->layers = layers;
	g->experts = experts;
	g->whole = calloc(cells, sizeof(*g->whole));
	g->gate = calloc(cells, sizeof(*g->gate));
	if (!g->whole || !g->gate)
		goto out;
	for (int w = 0; w < STATE_WINDOW_WHOLE; w++)
		if (window__init(&g->window[w], shape[w].bucket_ns, shape[w].buckets, cells))
			goto out;
	*out = g;
	return 0;
out:
	grid__free(g);
	return -ENOMEM;
}

uint32_t grid__layers(const struct grid *g)
{
	return g->layers;
}

uint32_t grid__experts(const struct grid *g)
{
	return g->experts;
}

/* Windows are not taken over: a model is described anew at its begin, when they are short. */
void grid__take_layer(struct grid *g, uint32_t to, const struct grid *other, uint32_t from)
{
	uint32_t experts = g->experts < other->experts ? g->experts : other->experts;

	if (to >= g->layers || from >= other->layers)
		return;
	for (int p = 0; p < STATE_BOTH; p++) {
		for (uint32_t x = 0; x < experts; x++) {
			g->whole[cell_of(g, p, to, x)] += other->whole[cell_of(other, p, from, x)];
			g->gate[cell_of(g, p, to, x)] += other->gate[cell_of(other, p, from, x)];
		}
	}
}

void grid__advance(struct grid *g, uint64_t now_ns)
{
	for (int w = 0; w < STATE_WINDOW_WHOLE; w++)
		window__advance(&g->window[w], now_ns);
}

int grid__add(struct grid *g, uint32_t layer, uint32_t expert, enum state_phase phase, uint32_t n,
	      double gate)
{
	size_t cell;

	if (layer >= g->layers || expert >= g->experts || phase >= STATE_BOTH)
		return -ERANGE;
	cell = cell_of(g, phase, layer, expert);
	g->whole[cell] += n;
	if (isfinite(gate))
		g->gate[cell] += gate;
	for (int w = 0; w < STATE_WINDOW_WHOLE; w++)
		window__add(&g->window[w], cell, n);
	return 0;
}

uint64_t grid__count(const struct grid *g, enum state_window w, enum state_phase p, uint32_t layer,
		     uint32_t expert)
{
	size_t cell;

	if (layer >= g->layers || expert >= g->experts)
		return 0;
	if (p >= STATE_BOTH) {
		uint64_t sum = 0;

		for (int i = 0; i < STATE_BOTH; i++)
			sum += grid__count(g, w, i, layer, expert);
		return sum;
	}
	cell = cell_of(g, p, layer, expert);
	return w >= STATE_WINDOW_WHOLE ? g->whole[cell] : window__sum(&g->window[w], cell);
}

uint64_t grid__layer_count(const struct grid *g, enum state_window w, enum state_phase p,
			   uint32_t layer)
{
	uint64_t sum = 0;

	for (uint32_t x = 0; x < g->experts; x++)
		sum += grid__count(g, w, p, layer, x);
	return sum;
}

double grid__gate(const struct grid *g, enum state_phase p, uint32_t layer, uint32_t expert)
{
	if (layer >= g->layers || expert >= g->experts)
		return 0;
	if (p >= STATE_BOTH) {
		double sum = 0;

		for (int i = 0; i < STATE_BOTH; i++)
			sum += grid__gate(g, i, layer, expert);
		return sum;
	}
	return g->gate[cell_of(g, p, layer, expert)];
}

void grid__free(struct grid *g)
{
	if (!g)
		return;
	for (int w = 0; w < STATE_WINDOW_WHOLE; w++)
		window__free(&g->window[w]);
	free(g->whole);
	free(g->gate);
	free(g);
}

const char *state_window__name(enum state_window w)
{
	static const char *const name[] = {
#define X(name, text, ns, n) text,
		STATE_WINDOWS(X)
#undef X
	};

	return w < STATE_WINDOW_COUNT ? name[w] : "-";
}

const char *state_phase__name(enum state_phase p)
{
	static const char *const name[] = {
#define X(name, text) text,
		STATE_PHASES(X)
#undef X
	};

	return p < STATE_PHASE_COUNT ? name[p] : "-";
}
