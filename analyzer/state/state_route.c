/* SPDX-License-Identifier: BSD-2-Clause */
/* Steps, routes and counts: who chose which experts. */
#include "analyzer/state/state_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static enum state_phase phase_of(uint32_t trace_phase)
{
	return trace_phase == TRACE_PREFILL  ? STATE_PREFILL
	       : trace_phase == TRACE_DECODE ? STATE_DECODE
					     : STATE_OTHER;
}

static int step_rows__reserve(struct step_rows *r, uint32_t rows)
{
	uint8_t *phase;

	if (rows <= r->capacity)
		return 0;
	phase = realloc(r->phase, rows);
	if (!phase)
		return -ENOMEM;
	r->phase = phase;
	r->capacity = rows;
	return 0;
}

static int count_row(struct state *s, const struct trace_step *step, uint32_t request,
		     uint32_t sequence, uint32_t position, enum state_phase phase)
{
	struct state_request *r;

	s->summary.rows[phase]++;
	window__add(&s->rate, phase, 1);
	if (request == TRACE_UNKNOWN || !request)
		return 0;
	r = request_table__take(s->requests, request);
	if (!r)
		return -ENOMEM;
	if (r->first_row_ns == UINT64_MAX)
		r->first_row_ns = step->begin_ns;
	r->last_row_ns = step->end_ns;
	r->context = step->context;
	r->sequence = sequence;
	r->position = position;
	r->phase = phase;
	r->rows[phase]++;
	return 0;
}

int state__apply_step(struct state *s, const struct trace_item *item)
{
	const struct trace_step *step = item->step;
	const uint32_t *sequence = item->column[0].bytes;
	const uint32_t *request = item->column[1].bytes;
	const uint32_t *position = item->column[2].bytes;
	const uint8_t *phase = item->column[3].bytes;
	struct context *c = state__find_context(s, step->context);
	int err;

	s->summary.has_routes = true;
	s->summary.has_tokens |= (step->head.flags & TRACE_STEP_TOKENS) != 0;
	s->summary.steps++;
	window__add(&s->rate, RATE_STEPS, 1);
	if (c) {
		c->last_step.step = 0;
		err = step_rows__reserve(&c->last_step, step->rows);
		if (err)
			return err;
		c->last_step.step = step->step;
		c->last_step.rows = step->rows;
	}
	for (uint32_t i = 0; i < step->rows; i++) {
		enum state_phase p = phase_of(phase[i]);

		if (c)
			c->last_step.phase[i] = (uint8_t)p;
		err = count_row(s, step, request[i], sequence[i], position[i], p);
		if (err)
			return err;
	}
	return 0;
}

static uint32_t expert_at(const struct trace_item *item, size_t i)
{
	return item->head->flags & TRACE_ROUTE_IDS_16 ? ((const uint16_t *)item->column[1].bytes)[i]
						      : ((const uint8_t *)item->column[1].bytes)[i];
}

/* The phase of row @i of the route; -ERANGE if its step has no such row. */
static int route_phase(const struct context *c, const struct trace_item *item, uint32_t i)
{
	const struct trace_route *route = item->route;
	uint32_t row = i;

	if (c->last_step.step != route->step)
		return STATE_OTHER;
	if (!(route->head.flags & TRACE_ROUTE_ALL_ROWS))
		row = ((const uint32_t *)item->column[0].bytes)[i];
	return row < c->last_step.rows ? c->last_step.phase[row] : -ERANGE;
}

int state__apply_route(struct state *s, const struct trace_item *item)
{
	const struct trace_route *route = item->route;
	const float *weight =
		route->head.flags & TRACE_ROUTE_WEIGHTS ? item->column[2].bytes : NULL;
	struct context *c = state__find_context(s, route->context);
	int layer;

	s->summary.has_routes = true;
	s->summary.routes++;
	if (!c || !c->public.grid) {
		s->summary.no_model++;
		return 0;
	}
	layer = context__layer_index(c, route->layer);
	if (layer < 0) {
		s->summary.out_of_range++;
		return 0;
	}
	for (uint32_t i = 0; i < route->rows; i++) {
		int phase = route_phase(c, item, i);

		if (phase < 0) {
			s->summary.out_of_range++;
			continue;
		}
		s->summary.decisions++;
		for (uint32_t j = 0; j < route->k; j++) {
			size_t at = (size_t)i * route->k + j;

			if (grid__add(c->public.grid, (uint32_t)layer, expert_at(item, at),
				      (enum state_phase)phase, 1, weight ? (double)weight[at] : 0))
				s->summary.out_of_range++;
		}
	}
	return 0;
}

/* Rows of a request are counted in its first MoE layer, which computes all of them. */
static int count_block(struct state *s, const struct trace_counts *n, enum state_phase phase,
		       int layer)
{
	struct state_request *r;

	s->summary.decisions += n->rows;
	if (!layer)
		s->summary.rows[phase] += n->rows;
	if (!n->request || n->request == TRACE_UNKNOWN)
		return 0;
	r = request_table__take(s->requests, n->request);
	if (!r)
		return -ENOMEM;
	if (r->first_row_ns == UINT64_MAX)
		r->first_row_ns = n->head.time_ns;
	r->last_row_ns = n->head.time_ns;
	r->context = n->context;
	r->phase = phase;
	if (!layer) {
		r->rows[phase] += n->rows;
		r->position = n->first_position + n->rows - 1;
	}
	return 0;
}

int state__apply_counts(struct state *s, const struct trace_item *item)
{
	const struct trace_counts *n = item->counts;
	const uint32_t *count = item->column[0].bytes;
	const float *gate = item->column[1].size ? item->column[1].bytes : NULL;
	enum state_phase phase = phase_of(n->phase);
	struct context *c = state__find_context(s, n->context);
	int layer;

	s->summary.has_counts = true;
	if (!c || !c->public.grid) {
		s->summary.no_model++;
		return 0;
	}
	layer = context__layer_index(c, n->layer);
	if (layer < 0) {
		s->summary.out_of_range++;
		return 0;
	}
	for (uint32_t x = 0; x < n->experts; x++)
		if (count[x] && grid__add(c->public.grid, (uint32_t)layer, x, phase, count[x],
					  gate ? (double)gate[x] : 0))
			s->summary.out_of_range++;
	return count_block(s, n, phase, layer);
}
