/* SPDX-License-Identifier: BSD-2-Clause */
/* Contexts and the shape of their models. */
#include "analyzer/state/state_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "analyzer/state/printable.h"

struct context *state__find_context(struct state *s, uint32_t context)
{
	for (uint32_t i = 0; i < s->contexts; i++)
		if (s->context[i]->public.context == context)
			return s->context[i];
	return NULL;
}

int context__layer_index(const struct context *c, uint32_t layer)
{
	uint32_t layers = c->public.grid ? grid__layers(c->public.grid) : 0;

	for (uint32_t i = 0; i < layers; i++)
		if (c->public.layer_ids[i] == layer)
			return (int)i;
	return -1;
}

static uint32_t first_layer(const struct context *c)
{
	return c->public.grid ? c->public.layer_ids[0] : 0;
}

bool state__is_first_part(const struct state *s, const struct context *c)
{
	for (uint32_t i = 0; c->model_key && i < s->contexts; i++)
		if (s->context[i]->model_key == c->model_key &&
		    first_layer(s->context[i]) < first_layer(c))
			return false;
	return true;
}

void context__free(struct context *c)
{
	if (!c)
		return;
	grid__free(c->public.grid);
	free(c->public.layer_ids);
	free(c->public.coverage);
	free(c->last_step.phase);
	free(c);
}

/* The context, made if there is room; NULL and -ENOMEM or (dropped and counted) 0. */
static struct context *take_context(struct state *s, uint32_t id, int *err)
{
	struct context *c = state__find_context(s, id);

	*err = 0;
	if (c)
		return c;
	if (s->contexts == STATE_CONTEXTS_MAX) {
		s->summary.out_of_range++;
		return NULL;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		*err = -ENOMEM;
		return NULL;
	}
	c->public.context = id;
	c->public.process = TRACE_UNKNOWN;
	c->public.layers = c->public.experts = c->public.k = TRACE_UNKNOWN;
	c->public.shared_experts = c->public.vocabulary = TRACE_UNKNOWN;
	c->public.blocks = c->public.normalised = TRACE_UNKNOWN;
	s->context[s->contexts++] = c;
	return c;
}

int state__apply_context(struct state *s, const struct trace_item *item)
{
	int err;
	struct context *c = take_context(s, item->context->context, &err);

	if (c) {
		c->public.process = item->context->process;
		c->model_key = item->context->model_key;
	}
	return err;
}

static bool same_shape(const struct context *c, uint32_t layers, uint32_t experts,
		       const uint16_t *ids)
{
	return c->public.grid && grid__layers(c->public.grid) == layers &&
	       grid__experts(c->public.grid) == experts &&
	       !memcmp(c->public.layer_ids, ids, layers * sizeof(*ids));
}

static uint64_t cells_of_others(const struct state *s, const struct context *c)
{
	uint64_t cells = 0;

	for (uint32_t i = 0; i < s->contexts; i++) {
		const struct grid *g = s->context[i]->public.grid;

		if (g && s->context[i] != c)
			cells += (uint64_t)grid__layers(g) * grid__experts(g);
	}
	return cells;
}

/* A model may be described again when more of it is known: keep what was counted. */
static int reshape(struct state *s, struct context *c, uint32_t layers, uint32_t experts,
		   const uint16_t *ids)
{
	struct state_context *p = &c->public;
	struct state_coverage *coverage = NULL;
	uint16_t *layer_ids = NULL;
	struct grid *grid = NULL;
	int err;

	if (cells_of_others(s, c) + (uint64_t)layers * experts > GRID_CELLS_MAX) {
		s->summary.out_of_range++;
		return 0;
	}
	err = grid__new(&grid, layers, experts);
	if (err)
		return err == -E2BIG ? 0 : err;
	layer_ids = malloc(layers * sizeof(*layer_ids));
	coverage = calloc(layers, sizeof(*coverage));
	if (!layer_ids || !coverage) {
		free(layer_ids);
		free(coverage);
		grid__free(grid);
		return -ENOMEM;
	}
	memcpy(layer_ids, ids, layers * sizeof(*layer_ids));
	grid__advance(grid, s->summary.last_ns);
	for (uint32_t i = 0; i < layers; i++) {
		int old = context__layer_index(c, ids[i]);

		if (old < 0)
			continue;
		coverage[i] = p->coverage[old];
		grid__take_layer(grid, i, p->grid, (uint32_t)old);
	}
	grid__free(p->grid);
	free(p->layer_ids);
	free(p->coverage);
	p->grid = grid;
	p->layer_ids = layer_ids;
	p->coverage = coverage;
	return 0;
}

int state__apply_model(struct state *s, const struct trace_item *item)
{
	const struct trace_model *m = item->model;
	uint32_t layers = (uint32_t)(item->column[0].size / sizeof(uint16_t));
	struct state_context *p;
	struct context *c;
	int err;

	c = take_context(s, m->context, &err);
	if (!c)
		return err;
	p = &c->public;
	p->layers = m->layers;
	p->experts = m->experts;
	p->k = m->k;
	p->shared_experts = m->shared_experts;
	p->vocabulary = m->vocabulary;
	p->blocks = m->blocks;
	p->normalised = m->normalised;
	p->from_file = m->head.flags & TRACE_MODEL_FROM_FILE;
	p->ordinals = m->head.flags & TRACE_MODEL_ORDINALS;
	printable__copy(p->architecture, sizeof(p->architecture), item->column[1].bytes,
			item->column[1].size);
	printable__copy(p->name, sizeof(p->name), item->column[2].bytes, item->column[2].size);
	printable__copy(p->path, sizeof(p->path), item->column[3].bytes, item->column[3].size);
	printable__copy(p->quantisation, sizeof(p->quantisation), item->column[4].bytes,
			item->column[4].size);
	if (!layers || m->experts == TRACE_UNKNOWN || !m->experts ||
	    same_shape(c, layers, m->experts, item->column[0].bytes))
		return 0;
	return reshape(s, c, layers, m->experts, item->column[0].bytes);
}
