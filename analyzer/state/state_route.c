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

static int count_row(struct state *s, const struct trace_item *item, uint32_t i,
		     enum state_phase phase)
{
	const struct trace_step *step = item->step;
	uint32_t request = ((const uint32_t *)item->column[1].bytes)[i];
	uint32_t position = ((const uint32_t *)item->column[2].bytes)[i];
	uint8_t flags = ((const uint8_t *)item->column[4].bytes)[i];
	struct sequence_rows row = {
		.sequence = ((const uint32_t *)item->column[0].bytes)[i],
		.request = request == TRACE_UNKNOWN ? 0 : request,
		.context = step->context,
		.first = position,
		.last = position,
		.phase = phase,
		.first_ns = step->begin_ns,
		.last_ns = step->end_ns,
	};

	row.rows[phase] = 1;
	s->summary.rows[phase]++;
	window__add(&s->rate, phase, 1);
	return flags & (TRACE_ROW_PADDING | TRACE_ROW_FINISHED) ? 0 : state__count_rows(s, &row);
}

int state__apply_step(struct state *s, const struct trace_item *item)
{
	const struct trace_step *step = item->step;
	const uint8_t *phase = item->column[3].bytes;
	struct context *c = state__find_context(s, step->context);
	bool counts = !c || state__is_first_part(s, c);
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
		err = counts ? count_row(s, item, i, p) : 0;
		if (err)
			return err;
	}
	return 0;
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

/* Decisions that say less than others do. */
static void count_exceptions(struct state_summary *m, const struct trace_item *item)
{
	const struct trace_route *route = item->route;
	const uint8_t *flags = item->column[3].bytes;

	if (route->head.flags & TRACE_ROUTE_RAW)
		m->raw += route->rows;
	if (route->head.flags & (TRACE_ROUTE_PHYSICAL | TRACE_ROUTE_LOCAL))
		m->other_ids += route->rows;
	for (uint32_t i = 0; route->head.flags & TRACE_ROUTE_ROW_FLAGS && i < route->rows; i++)
		m->ties += flags[i] & TRACE_ROUTE_ROW_TIE;
}

int state__apply_route(struct state *s, const struct trace_item *item)
{
	const struct trace_route *route = item->route;
	const uint32_t flags = route->head.flags;
	const float *weight = flags & TRACE_ROUTE_WEIGHTS && !(flags & TRACE_ROUTE_RAW)
				      ? item->column[2].bytes
				      : NULL;
	bool own_ids = !(flags & (TRACE_ROUTE_PHYSICAL | TRACE_ROUTE_LOCAL));
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
	count_exceptions(&s->summary, item);
	for (uint32_t i = 0; i < route->rows; i++) {
		int phase = route_phase(c, item, i);

		if (phase < 0) {
			s->summary.out_of_range++;
			continue;
		}
		s->summary.decisions++;
		for (uint32_t j = 0; own_ids && j < route->k; j++) {
			size_t at = (size_t)i * route->k + j;
			uint32_t x = trace_item__expert(item, at);

			if (x == TRACE_UNKNOWN)
				continue;
			if (grid__add(c->public.grid, (uint32_t)layer, x, (enum state_phase)phase,
				      1, weight ? (double)weight[at] : 0))
				s->summary.out_of_range++;
		}
	}
	return 0;
}

/* Rows of a request are counted in its first MoE layer, which computes all of them. */
static int count_block(struct state *s, const struct context *c, const struct trace_counts *n,
		       enum state_phase phase, int layer)
{
	struct sequence_rows rows = {
		.sequence = n->sequence,
		.request = n->request == TRACE_UNKNOWN ? 0 : n->request,
		.context = n->context,
		.first = n->first_position,
		.last = n->last_position,
		.phase = phase,
		.first_ns = n->head.time_ns,
		.last_ns = n->head.time_ns,
	};

	rows.rows[phase] = n->rows;
	s->summary.decisions += n->rows;
	if (layer || !state__is_first_part(s, c))
		return 0;
	s->summary.rows[phase] += n->rows;
	return state__count_rows(s, &rows);
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
	if (n->head.flags & (TRACE_COUNTS_PHYSICAL | TRACE_COUNTS_LOCAL)) {
		s->summary.other_ids += n->rows;
		return count_block(s, c, n, phase, layer);
	}
	for (uint32_t x = 0; x < n->experts; x++)
		if (count[x] && grid__add(c->public.grid, (uint32_t)layer, x, phase, count[x],
					  gate ? (double)gate[x] : 0))
			s->summary.out_of_range++;
	return count_block(s, c, n, phase, layer);
}
