/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A row stands for one position in every layer. What holds for all layers (cached, lost with its
 * step, before us) is counted once an account; the rest a layer. Where a layer of a step is
 * missing and neither invalid nor lost results have been reported, the rows stay open: the
 * kernel's counters may only say so a moment later. What is still open at the end was not routed.
 */
#include "collector/coverage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe/base/hash.h"
#include "probe/engine/sink.h"

#define NO_REQUEST 0u

struct model {
	uint32_t context;
	uint64_t key;        /* the same in all parts of a model; 0: this is all of it */
	uint32_t last_layer; /* computed for output rows only; ENGINE_UNKNOWN: none */
	uint32_t layers;
	uint16_t *layer_id;
	UT_hash_handle hh;
};

struct tally {
	uint64_t seen, not_computed, lost, invalid, before, after, open;
};

struct account_key {
	uint32_t request; /* NO_REQUEST: one for each context */
	uint32_t context;
};

struct account {
	struct account_key key;
	uint64_t model_key;
	uint32_t next;      /* position, ENGINE_UNKNOWN before the first row */
	uint32_t rows;      /* delivered */
	uint64_t step_rows; /* rows of steps that took part in every layer's tally */
	uint64_t expected;
	uint64_t cached, lost, invalid, before; /* in all layers */
	uint64_t lost_steps, invalid_steps;     /* of the whole coverage when it began */
	bool before_attach, cached_known;
	uint32_t layers;
	struct tally *layer; /* in the order of the model's */
	UT_hash_handle hh;
};

struct coverage {
	bool detached;
	uint64_t attached_ns;
	uint64_t lost_rows, invalid_captures; /* not yet used to explain */
	uint64_t lost_steps, invalid_steps;
	struct model *models;
	struct account *accounts;
	struct account **row_account; /* scratch, one a row of a step */
	uint8_t *row_seen;            /* scratch */
	size_t scratch;
};

static struct model *find_model(struct coverage *c, uint32_t context)
{
	struct model *m;

	HASH_FIND(hh, c->models, &context, sizeof(context), m);
	if (m)
		return m;
	m = calloc(1, sizeof(*m));
	if (!m)
		return NULL;
	m->context = context;
	m->last_layer = ENGINE_UNKNOWN;
	HASH_ADD(hh, c->models, context, sizeof(m->context), m);
	if (!hash__has(m)) {
		free(m);
		return NULL;
	}
	return m;
}

/* Give @a a tally for each layer of @m. Results of a new layer were not seen so far. */
static int extend(struct account *a, const struct model *m)
{
	struct tally *more;

	if (a->layers >= m->layers)
		return 0;
	more = realloc(a->layer, m->layers * sizeof(*more));
	if (!more)
		return -ENOMEM;
	a->layer = more;
	for (; a->layers < m->layers; a->layers++)
		more[a->layers] = (struct tally){ .open = a->step_rows };
	return 0;
}

static int add_layer(struct coverage *c, struct model *m, uint16_t layer)
{
	struct account *a, *next;
	uint16_t *more;
	int err = 0;

	for (uint32_t i = 0; i < m->layers; i++)
		if (m->layer_id[i] == layer)
			return 0;
	more = realloc(m->layer_id, (m->layers + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	m->layer_id = more;
	more[m->layers++] = layer;
	HASH_ITER(hh, c->accounts, a, next)
	if (a->key.context == m->context && !err)
		err = extend(a, m);
	return err;
}

int coverage__model(struct coverage *c, const struct engine_context *m)
{
	struct model *own = find_model(c, m->context);
	int err = own ? 0 : -ENOMEM;

	if (own)
		own->key = m->model_key;
	for (uint32_t i = 0; i < m->layers && !err; i++)
		err = add_layer(c, own, m->layer_ids[i]);
	/* The last transformer block; a dense one there computes no routing anyway. Where the
	 * number of blocks is not known the last MoE layer is taken for it. */
	if (!err && m->layers && !m->whole_last_layer)
		own->last_layer =
			m->blocks == ENGINE_UNKNOWN ? m->layer_ids[m->layers - 1] : m->blocks - 1;
	return err;
}

/* The next account of @request behind @after (NULL: the first): one a part of its model. */
static struct account *next_account(const struct coverage *c, uint32_t request,
				    const struct account *after)
{
	struct account *a = NULL;
	struct model *m, *next;
	bool behind = !after;

	HASH_ITER(hh, c->models, m, next)
	{
		struct account_key key = { request, m->context };

		if (behind)
			HASH_FIND(hh, c->accounts, &key, sizeof(key), a);
		if (a)
			return a;
		behind |= after && m->context == after->key.context;
	}
	return NULL;
}

/* What holds for a request in each part of its model. */
static void take_over(const struct coverage *c, struct account *a)
{
	const struct account *other = next_account(c, a->key.request, NULL);

	while (other && other->model_key != a->model_key)
		other = next_account(c, a->key.request, other);
	if (!a->model_key || !other)
		return;
	a->before_attach = other->before_attach;
	a->cached_known = other->cached_known;
	a->cached = a->expected = other->cached_known ? other->cached : 0;
}

/* The account of @request in @context, opened if need be; NULL: out of memory. */
static struct account *find_account(struct coverage *c, uint32_t request, uint32_t context)
{
	struct account_key key = { request, context };
	struct account *a;
	struct model *m;

	HASH_FIND(hh, c->accounts, &key, sizeof(key), a);
	if (a)
		return a;
	m = find_model(c, context);
	a = m ? calloc(1, sizeof(*a)) : NULL;
	if (!a)
		return NULL;
	a->key = key;
	a->next = ENGINE_UNKNOWN;
	a->lost_steps = c->lost_steps;
	a->invalid_steps = c->invalid_steps;
	a->model_key = m->key;
	if (request != NO_REQUEST)
		take_over(c, a);
	if (!extend(a, m))
		HASH_ADD(hh, c->accounts, key, sizeof(a->key), a);
	if (hash__has(a))
		return a;
	free(a->layer);
	free(a);
	return NULL;
}

int coverage__begin(struct coverage *c, const struct engine_request *r)
{
	struct account *a = find_account(c, r->request, r->context);

	if (!a)
		return -ENOMEM;
	a->before_attach = r->before_attach;
	if (r->cached != ENGINE_UNKNOWN && !r->before_attach && !a->cached_known) {
		a->cached_known = true;
		a->cached = r->cached;
		a->expected += r->cached;
	}
	return 0;
}

/* Where positions of @a count whose step did not come: refused or lost. */
static uint64_t *blame(const struct coverage *c, struct account *a)
{
	return c->invalid_steps && !c->lost_steps ? &a->invalid : &a->lost;
}

/* @rows whose step was lost are accounted for: their results that were lost on their own explain
 * nothing else. */
static void spend(struct coverage *c, uint64_t rows, uint32_t layers)
{
	uint64_t results = rows * layers;

	c->lost_rows -= results < c->lost_rows ? results : c->lost_rows;
}

/* A row of @a at @position: positions that were jumped over are named. What lies before the first
 * row of a request whose beginning is unknown was cached, if every step came. */
static void advance(struct coverage *c, struct account *a, uint32_t position)
{
	uint64_t from = a->next, skipped;

	if (a->key.request == NO_REQUEST)
		return;
	if (a->next == ENGINE_UNKNOWN)
		from = a->cached;
	skipped = position > from ? position - from : 0;
	a->expected += skipped;
	if (a->next == ENGINE_UNKNOWN && a->before_attach)
		a->before += skipped;
	else if (a->next == ENGINE_UNKNOWN && !a->cached_known && !c->lost_steps &&
		 !c->invalid_steps)
		a->cached += skipped;
	else
		*blame(c, a) += skipped;
	if (skipped && c->lost_steps)
		spend(c, skipped, a->layers);
	a->next = position + 1;
}

static int reserve_scratch(struct coverage *c, size_t rows)
{
	void *accounts, *seen;

	if (rows <= c->scratch)
		return 0;
	accounts = realloc(c->row_account, rows * sizeof(*c->row_account));
	if (accounts)
		c->row_account = accounts;
	seen = realloc(c->row_seen, rows);
	if (seen)
		c->row_seen = seen;
	if (!accounts || !seen)
		return -ENOMEM;
	c->scratch = rows;
	return 0;
}

static int take_rows(struct coverage *c, const struct engine_step *s, bool delivered)
{
	const struct engine_row *last = NULL;
	struct account *a = NULL;
	uint32_t request;

	for (uint32_t i = 0; i < s->rows; i++) {
		if (!last || last->request != s->row[i].request) {
			request = s->row[i].request;
			a = find_account(c, request == ENGINE_UNKNOWN ? NO_REQUEST : request,
					 s->context);
			if (!a)
				return -ENOMEM;
		}
		last = &s->row[i];
		c->row_account[i] = a;
		advance(c, a, last->position);
		a->expected++;
		if (delivered) {
			a->rows++;
			a->step_rows++;
		} else {
			a->lost++;
		}
	}
	return 0;
}

/* Mark the rows that @route has; their number. */
static uint32_t mark_seen(struct coverage *c, const struct engine_step *s,
			  const struct engine_route *route)
{
	uint32_t i, row, count = 0;

	memset(c->row_seen, 0, s->rows);
	for (i = 0; route && i < route->rows; i++) {
		row = route->row ? route->row[i] : i;
		if (row < s->rows && !c->row_seen[row]) {
			c->row_seen[row] = 1;
			count++;
		}
	}
	return count;
}

/* @rows that a layer should have had and has not: why? @later: nor has any layer behind it. */
static enum coverage_cause explain(struct coverage *c, const struct engine_step *s, bool later,
				   uint64_t rows)
{
	if (s->begin_ns < c->attached_ns)
		return COVERAGE_BEFORE_ATTACH;
	if (c->invalid_captures) {
		c->invalid_captures--;
		return COVERAGE_INVALID;
	}
	/* Before the next: the step under way at the end may have lost results too. */
	if (c->lost_rows >= rows) {
		c->lost_rows -= rows;
		return COVERAGE_LOST;
	}
	if (c->detached && later)
		return COVERAGE_AFTER_DETACH;
	return COVERAGE_NOT_ROUTED;
}

static void count_missing(struct tally *t, enum coverage_cause cause)
{
	switch (cause) {
	case COVERAGE_BEFORE_ATTACH:
		t->before++;
		break;
	case COVERAGE_INVALID:
		t->invalid++;
		break;
	case COVERAGE_LOST:
		t->lost++;
		break;
	case COVERAGE_AFTER_DETACH:
		t->after++;
		break;
	default:
		t->open++;
	}
}

/* No layer at or behind @index has a result in @s. */
static bool is_behind_all(const struct engine_step *s, const struct model *m, uint32_t index)
{
	for (uint32_t i = 0; i < s->routes; i++)
		if (s->route[i].layer >= m->layer_id[index])
			return false;
	return true;
}

static void take_layer(struct coverage *c, const struct engine_step *s, const struct model *m,
		       uint32_t index)
{
	bool last = m->layer_id[index] == m->last_layer;
	const struct engine_route *route = NULL;
	enum coverage_cause cause = COVERAGE_NOT_ROUTED;
	uint32_t i, missing = 0;

	for (i = 0; i < s->routes && !route; i++)
		if (s->route[i].layer == m->layer_id[index])
			route = &s->route[i];
	mark_seen(c, s, route);
	for (i = 0; i < s->rows; i++)
		missing += !c->row_seen[i] && !(last && !s->row[i].output);
	if (missing)
		cause = explain(c, s, is_behind_all(s, m, index), missing);
	for (i = 0; i < s->rows; i++) {
		struct tally *t = &c->row_account[i]->layer[index];

		if (c->row_seen[i])
			t->seen++;
		else if (last && !s->row[i].output)
			t->not_computed++;
		else
			count_missing(t, cause);
	}
}

int coverage__step(struct coverage *c, const struct engine_step *s, bool delivered)
{
	struct model *m = find_model(c, s->context);
	int err;

	if (!m)
		return -ENOMEM;
	err = reserve_scratch(c, s->rows);
	for (uint32_t i = 0; i < s->routes && !err; i++)
		err = add_layer(c, m, (uint16_t)s->route[i].layer);
	if (!err)
		err = take_rows(c, s, delivered);
	for (uint32_t i = 0; i < m->layers && !err && delivered; i++)
		take_layer(c, s, m, i);
	return err;
}

void coverage__attached(struct coverage *c, uint64_t ns)
{
	c->attached_ns = ns;
}

void coverage__detached(struct coverage *c)
{
	c->detached = true;
}

void coverage__lost_routes(struct coverage *c, uint64_t rows)
{
	c->lost_rows += rows;
}

void coverage__lost_steps(struct coverage *c, uint64_t count)
{
	c->lost_steps += count;
}

void coverage__invalid_steps(struct coverage *c, uint64_t count)
{
	c->invalid_steps += count;
}

void coverage__invalid_routes(struct coverage *c, uint64_t captures)
{
	c->invalid_captures += captures;
}

bool coverage__has_open(const struct coverage *c, uint32_t request)
{
	const struct account *a = NULL;

	while ((a = next_account(c, request, a)))
		for (uint32_t i = 0; i < a->layers; i++)
			if (a->layer[i].open)
				return true;
	return false;
}

uint32_t coverage__rows(const struct coverage *c, uint32_t request)
{
	const struct account *a = NULL;
	uint32_t most = 0;

	while ((a = next_account(c, request, a)))
		most = a->rows > most ? a->rows : most;
	return most;
}

/* Positions that the server counts behind the last row that we saw. A request without any row
 * was most likely turned away, unless steps were lost meanwhile. */
static void take_tail(const struct coverage *c, struct account *a, uint32_t tokens)
{
	uint64_t from = a->next;

	if (tokens == ENGINE_UNKNOWN)
		return;
	if (a->next == ENGINE_UNKNOWN) {
		if (!a->cached_known ||
		    (a->lost_steps == c->lost_steps && a->invalid_steps == c->invalid_steps))
			return;
		from = a->cached;
	}
	if (tokens > from) {
		*blame(c, a) += tokens - from;
		a->expected += tokens - from;
	}
}

/* What @a says about its layer @index, settled. */
static void settle(struct coverage *c, struct account *a, uint32_t index, struct coverage_line *to)
{
	struct tally *t = &a->layer[index];
	uint64_t found = t->open < c->lost_rows ? t->open : c->lost_rows;

	c->lost_rows -= found;
	to->expected += a->expected;
	to->seen += t->seen;
	to->missing[COVERAGE_CACHED] += a->cached;
	to->missing[COVERAGE_NOT_COMPUTED] += t->not_computed;
	to->missing[COVERAGE_LOST] += a->lost + t->lost + found;
	to->missing[COVERAGE_INVALID] += a->invalid + t->invalid;
	to->missing[COVERAGE_BEFORE_ATTACH] += a->before + t->before;
	to->missing[COVERAGE_NOT_ROUTED] += t->open - found;
	to->missing[COVERAGE_AFTER_DETACH] += t->after;
}

static void close_account(struct coverage *c, struct account *a)
{
	HASH_DEL(c->accounts, a);
	free(a->layer);
	free(a);
}

/* A line for each layer of @a, which is closed. */
static int say_account(struct coverage *c, struct account *a, coverage_emit emit, void *ctx)
{
	const struct model *m = find_model(c, a->key.context);
	int err = m ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < a->layers && !err; i++) {
		struct coverage_line line = {
			.request = a->key.request,
			.context = a->key.context,
			.layer = m->layer_id[i],
		};

		settle(c, a, i, &line);
		err = emit(ctx, &line);
	}
	close_account(c, a);
	return err;
}

/* Rows of no request, by context. */
static int end_unknown(struct coverage *c, coverage_emit emit, void *ctx)
{
	struct account *a, *next;
	int err = 0;

	HASH_ITER(hh, c->accounts, a, next)
	{
		if (a->key.request == NO_REQUEST && !err)
			err = say_account(c, a, emit, ctx);
	}
	return err;
}

int coverage__end(struct coverage *c, uint32_t request, uint32_t tokens, coverage_emit emit,
		  void *ctx)
{
	struct account *a;
	int err = 0;

	if (request == NO_REQUEST)
		return end_unknown(c, emit, ctx);
	while (!err && (a = next_account(c, request, NULL))) {
		take_tail(c, a, tokens);
		err = say_account(c, a, emit, ctx);
	}
	return err;
}

int coverage__drop(struct coverage *c, uint32_t request, uint32_t tokens)
{
	struct account *a, *to;

	while ((a = next_account(c, request, NULL))) {
		take_tail(c, a, tokens);
		to = find_account(c, NO_REQUEST, a->key.context);
		if (!to)
			return -ENOMEM;
		to->expected += a->expected;
		to->cached += a->cached;
		to->lost += a->lost;
		to->invalid += a->invalid;
		to->before += a->before;
		close_account(c, a);
	}
	return 0;
}

struct coverage *coverage__new(void)
{
	return calloc(1, sizeof(struct coverage));
}

void coverage__free(struct coverage *c)
{
	struct account *a, *next;
	struct model *m, *m_next;

	if (!c)
		return;
	HASH_ITER(hh, c->accounts, a, next)
	close_account(c, a);
	HASH_ITER(hh, c->models, m, m_next)
	{
		HASH_DEL(c->models, m);
		free(m->layer_id);
		free(m);
	}
	free(c->row_account);
	free(c->row_seen);
	free(c);
}
