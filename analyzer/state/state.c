/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/state/state_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "analyzer/state/printable.h"

#define NS_PER_SECOND 1000000000ull

static int apply_process(struct state *s, const struct trace_item *item)
{
	const struct trace_process *t = item->process;
	struct state_process *p = (struct state_process *)state__process(s, t->process);

	if (!p) {
		if (s->processes == STATE_PROCESSES_MAX) {
			s->summary.out_of_range++;
			return 0;
		}
		p = &s->process[s->processes++];
	}
	p->process = t->process;
	p->pid = t->pid;
	printable__copy(p->engine, sizeof(p->engine), item->column[0].bytes, item->column[0].size);
	printable__copy(p->version, sizeof(p->version), item->column[1].bytes,
			item->column[1].size);
	printable__copy(p->command, sizeof(p->command), item->column[2].bytes,
			item->column[2].size);
	return 0;
}

static uint32_t cause_of(uint32_t cause)
{
	return cause < STATE_CAUSES_MAX ? cause : 0;
}

static void add_loss(struct state_loss *to, const struct trace_loss *l)
{
	bool has_rows = l->rows != UINT64_MAX, has_decisions = l->decisions != UINT64_MAX;

	to->count += l->count;
	to->rows += has_rows ? l->rows : 0;
	to->decisions += has_decisions ? l->decisions : 0;
	to->has_rows |= has_rows;
	to->has_decisions |= has_decisions;
	if (!has_decisions && has_rows)
		to->only_rows += l->rows;
	else if (!has_decisions)
		to->only_count += l->count;
}

static int apply_loss(struct state *s, const struct trace_item *item)
{
	const struct trace_loss *l = item->loss;
	struct context *c = state__find_context(s, l->context);
	struct state_loss *of = c ? c->loss : s->loss_of_none;

	add_loss(&of[cause_of(l->cause)], l);
	add_loss(&s->summary.loss[cause_of(l->cause)], l);
	s->summary.lost += l->count;
	return 0;
}

static int apply_invalid(struct state *s, const struct trace_item *item)
{
	s->summary.invalid_by[cause_of(item->invalid->cause)] += item->invalid->count;
	s->summary.invalid += item->invalid->count;
	return 0;
}

#define RATE_INTERVAL_NS 500000000ull

static int apply_cost(struct state *s, const struct trace_item *item)
{
	const struct trace_cost *t = item->cost;
	struct state_cost *c = &s->summary.cost;
	const bool later = c->known;
	double ppm;

	c->known = true;
	c->interval_ns += t->interval_ns;
	c->hits += t->hits;
	if (t->hit_ns != UINT64_MAX) {
		c->timed_hits += t->hits;
		c->hit_ns += t->hit_ns;
		c->timed_ns += t->interval_ns;
	}
	c->collector_cpu_ns += t->collector_cpu_ns;
	c->threads = t->threads;
	if (t->resident_bytes > c->resident_bytes)
		c->resident_bytes = t->resident_bytes;
	/* The last interval ends with the capture, after a moment maybe: what began and ended in it
	 * is no rate. Nor is the processor time of attaching, which the first one has. */
	if (t->interval_ns < RATE_INTERVAL_NS)
		return 0;
	ppm = 1e6 * (double)t->collector_cpu_ns / (double)t->interval_ns;
	c->slowdown_ppm = t->slowdown_ppm;
	if (later)
		c->collector_ppm = ppm < 1e9 ? (uint32_t)ppm : TRACE_UNKNOWN;
	c->hits_per_second = (double)t->hits * 1e9 / (double)t->interval_ns;
	return 0;
}

static void add_coverage(struct state_coverage *to, const struct trace_item *item)
{
	const uint64_t *missing = item->column[0].bytes;

	to->expected += item->coverage->expected;
	to->seen += item->coverage->seen;
	for (uint32_t i = 0; i < item->coverage->causes; i++)
		to->missing[i < TRACE_MISSING_COUNT ? i : STATE_MISSING_OTHER] += missing[i];
}

static int apply_coverage(struct state *s, const struct trace_item *item)
{
	const struct trace_coverage *n = item->coverage;
	struct state_request *r = request_table__find(s->requests, n->request);
	struct context *c = state__find_context(s, n->context);
	int layer;

	s->summary.has_coverage = true;
	add_coverage(&s->summary.coverage, item);
	if (r)
		add_coverage(&r->coverage, item);
	layer = c ? context__layer_index(c, n->layer) : -1;
	if (layer >= 0)
		add_coverage(&c->public.coverage[layer], item);
	return 0;
}

static int apply_end(struct state *s, const struct trace_item *item)
{
	s->summary.ended = true;
	s->summary.end = *item->end;
	return 0;
}

/* "name: value (try: remedy)" of a finding that something does not work as it should. */
static int apply_finding(struct state *s, const struct trace_item *item)
{
	char name[64], value[160], remedy[160];
	char *out = s->summary.warning[s->summary.warnings % STATE_WARNINGS_MAX];
	const size_t size = sizeof(s->summary.warning[0]);

	if (item->finding->status != TRACE_STATUS_WARN &&
	    item->finding->status != TRACE_STATUS_MISSING)
		return 0;
	printable__copy(name, sizeof(name), item->column[1].bytes, item->column[1].size);
	printable__copy(value, sizeof(value), item->column[2].bytes, item->column[2].size);
	printable__copy(remedy, sizeof(remedy), item->column[3].bytes, item->column[3].size);
	if (*remedy)
		snprintf(out, size, "%s: %.120s (try: %.60s)", name, value, remedy);
	else
		snprintf(out, size, "%s: %s", name, value);
	s->summary.warnings++;
	return 0;
}

static int apply_window(struct state *s, const struct trace_item *item)
{
	const struct trace_window *w = item->window;

	s->summary.windows++;
	if (w->end_ns > w->begin_ns)
		s->summary.watched_ns += w->end_ns - w->begin_ns;
	return 0;
}

/* SOURCE, SEQUENCE and CLOCK say nothing that the picture shows. */
static int (*const appliers[])(struct state *, const struct trace_item *) = {
	[TRACE_PROCESS] = apply_process,
	[TRACE_CONTEXT] = state__apply_context,
	[TRACE_MODEL] = state__apply_model,
	[TRACE_BIND] = state__apply_bind,
	[TRACE_REQUEST_BEGIN] = state__apply_request_begin,
	[TRACE_REQUEST_END] = state__apply_request_end,
	[TRACE_STEP] = state__apply_step,
	[TRACE_ROUTE] = state__apply_route,
	[TRACE_LOSS] = apply_loss,
	[TRACE_INVALID] = apply_invalid,
	[TRACE_COST] = apply_cost,
	[TRACE_COVERAGE] = apply_coverage,
	[TRACE_END] = apply_end,
	[TRACE_COUNTS] = state__apply_counts,
	[TRACE_FINDING] = apply_finding,
	[TRACE_REQUEST_INFO] = state__apply_request_info,
	[TRACE_WINDOW] = apply_window,
};

static void advance(struct state *s, uint64_t now_ns)
{
	struct state_summary *m = &s->summary;

	if (!now_ns)
		return;
	if (!m->first_ns)
		m->first_ns = now_ns;
	if (now_ns <= m->last_ns)
		return;
	m->last_ns = now_ns;
	window__advance(&s->rate, now_ns);
	for (uint32_t i = 0; i < s->contexts; i++)
		if (s->context[i]->public.grid)
			grid__advance(s->context[i]->public.grid, now_ns);
}

int state__apply(struct state *s, const struct trace_item *item)
{
	size_t type = item->type;

	s->summary.records++;
	advance(s, item->head->time_ns);
	if (type >= sizeof(appliers) / sizeof(*appliers) || !appliers[type])
		return 0;
	return appliers[type](s, item);
}

void state__set_unread(struct state *s, const struct trace_unread *unread)
{
	s->summary.unread = *unread;
}

int state__new(struct state **out)
{
	struct state *s;

	*out = NULL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->summary.cost.threads = TRACE_UNKNOWN;
	s->summary.cost.slowdown_ppm = TRACE_UNKNOWN;
	s->summary.cost.collector_ppm = TRACE_UNKNOWN;
	s->sequences = sequences__new();
	if (!s->sequences || request_table__new(&s->requests) ||
	    window__init(&s->rate, NS_PER_SECOND, 10, RATE_CELLS)) {
		state__free(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

const struct state_summary *state__summary(const struct state *s)
{
	return &s->summary;
}

uint32_t state__contexts(const struct state *s)
{
	return s->contexts;
}

const struct state_context *state__context(const struct state *s, uint32_t index)
{
	return index < s->contexts ? &s->context[index]->public : NULL;
}

const struct state_process *state__process(const struct state *s, uint32_t process)
{
	for (uint32_t i = 0; i < s->processes; i++)
		if (s->process[i].process == process)
			return &s->process[i];
	return NULL;
}

const struct request_table *state__requests(const struct state *s)
{
	return s->requests;
}

uint64_t state__steps(const struct state *s)
{
	const struct state_summary *m = &s->summary;

	if (m->has_routes)
		return m->steps;
	return m->ended ? m->end.steps : UINT64_MAX;
}

static double per_second(const struct state *s, uint64_t n)
{
	uint64_t span = window__span_ns(&s->rate, s->summary.last_ns);

	if (!s->summary.has_routes || span < NS_PER_SECOND / 4)
		return -1;
	return (double)n * NS_PER_SECOND / (double)span;
}

double state__steps_per_second(const struct state *s)
{
	return per_second(s, window__sum(&s->rate, RATE_STEPS));
}

double state__rows_per_second(const struct state *s, enum state_phase p)
{
	uint64_t sum = 0;

	for (int i = 0; i < STATE_BOTH; i++)
		if (p == STATE_BOTH || (int)p == i)
			sum += window__sum(&s->rate, (size_t)i);
	return per_second(s, sum);
}

/* Decisions that were lost, if a row has @layers; a thing of which nothing is known is at least
 * one. */
static double decisions_of(const struct state_loss *l, double layers)
{
	return (double)l->decisions + (double)l->only_rows * layers + (double)l->only_count;
}

/* Layers that a row of no known context has: as many as those that were seen. */
static double layers_of_a_row(const struct state *s)
{
	const struct state_summary *m = &s->summary;
	double largest = 1, mean = 0, rows = 0;

	for (uint32_t i = 0; i < s->contexts; i++)
		if (s->context[i]->public.grid &&
		    grid__layers(s->context[i]->public.grid) > largest)
			largest = grid__layers(s->context[i]->public.grid);
	for (int p = 0; p < STATE_BOTH; p++)
		rows += (double)m->rows[p];
	if (rows > 0)
		mean = (double)m->decisions / rows;
	return s->contexts < 2 || mean < 1 || mean > largest ? largest : mean;
}

/* Lost decisions of @cause, in all contexts. */
static double lost_by(const struct state *s, uint32_t cause)
{
	double layers = layers_of_a_row(s), sum = decisions_of(&s->loss_of_none[cause], layers);

	for (uint32_t i = 0; i < s->contexts; i++) {
		const struct grid *g = s->context[i]->public.grid;

		sum += decisions_of(&s->context[i]->loss[cause], g ? grid__layers(g) : layers);
	}
	return sum;
}

/* A lost step has no rows in any layer: where its routes came all the same they are NO_STEP, and
 * count once. What is lost of identities is no decision. */
static double lost_decisions(const struct state *s)
{
	double steps = lost_by(s, TRACE_LOSS_RING_ROWS), routes = lost_by(s, TRACE_LOSS_NO_STEP);

	return lost_by(s, 0) + lost_by(s, TRACE_LOSS_RING_ROUTES) + lost_by(s, TRACE_LOSS_CHUNKS) +
	       lost_by(s, TRACE_LOSS_QUEUE) + lost_by(s, TRACE_LOSS_LAYOUT) +
	       (steps > routes ? steps : routes);
}

double state__lost_share(const struct state *s)
{
	const struct state_summary *m = &s->summary;
	const struct state_coverage *c = &m->coverage;
	double by_loss = 0, by_coverage = 0, lost = lost_decisions(s);

	if (lost > 0)
		by_loss = lost / (lost + (double)m->decisions);
	if (c->expected)
		by_coverage = (double)c->missing[TRACE_MISSING_LOST - 1] / (double)c->expected;
	return by_loss > by_coverage ? by_loss : by_coverage;
}

void state__free(struct state *s)
{
	if (!s)
		return;
	for (uint32_t i = 0; i < s->contexts; i++)
		context__free(s->context[i]);
	request_table__free(s->requests);
	sequences__free(s->sequences);
	window__free(&s->rate);
	free(s);
}
