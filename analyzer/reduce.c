/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Detail `requests` joins each ROUTE to the rows of its STEP and adds it up in one block for each
 * request, sequence, layer and phase. A block holds rows that followed each other; it is written
 * once it has so many that it no longer tells which token chose what. Steps and routes themselves
 * are dropped.
 */
#include "analyzer/reduce.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "analyzer/bindings.h"
#include "collector/trace/layout.h"
#include "collector/trace/reader.h"
#include "collector/trace/writer.h"
#include "probe/base/error.h"
#include "probe/base/hash.h"

#define CONTEXTS_MAX 16
#define CELLS_MAX (4u << 20) /* of all blocks that wait: bounds what a hostile stream costs */
#define EXPERTS_MAX (1u << 16)
#define ROWS_OF_NOBODY (TRACE_ROW_PADDING | TRACE_ROW_FINISHED)

/* Big enough for any fixed part. */
union record {
	struct trace_record head;
#define X(id, name, suffix) struct trace_##suffix suffix;
	TRACE_RECORDS(X)
#undef X
};

struct block_key {
	uint32_t context, request, sequence, layer, phase;
	uint32_t ids; /* flags of ROUTE that say what ids count */
};

struct block {
	struct block_key key;
	uint32_t rows, k, first_position, last_position, source;
	bool weighted;    /* all rows have final weights */
	uint64_t time_ns; /* of its last row */
	uint32_t experts;
	uint32_t *count;
	double *gate;
	UT_hash_handle hh;
};

/* A model and the rows of its last step: routes follow their step. */
struct context {
	uint32_t context, experts;
	uint64_t step; /* 0: none */
	uint32_t rows, capacity;
	struct row {
		uint32_t request, sequence, position, phase;
	} * row;
};

struct reducer {
	enum detail detail;
	struct trace_writer *writer;
	struct context context[CONTEXTS_MAX];
	uint32_t contexts;
	struct block *blocks;
	struct binding *bindings;
	uint64_t cells;
	uint64_t dropped;
	bool ended;
	bool whole;        /* the stream's own END was taken over */
	bool write_failed; /* something of it did not get there */
	uint64_t last_ns;
	uint32_t source;
	struct trace_end totals; /* of what came in, for a stream without an END */
};

int detail__parse(enum detail *out, const char *text)
{
	static const char *const name[] = {
#define X(id, text, holds) [DETAIL_##id] = text,
		DETAILS(X)
#undef X
	};

	*out = DETAIL_REQUESTS;
	for (size_t i = 0; i < sizeof(name) / sizeof(*name); i++) {
		if (!strcmp(text, name[i])) {
			*out = (enum detail)i;
			return 0;
		}
	}
	return strcmp(text, "gates") ? -EINVAL : -ENOTSUP;
}

/* The writer keeps its first error; flushing hands it out by name. */
static int write_error(struct reducer *r, int err, struct error *e)
{
	r->write_failed = true;
	trace_writer__flush(r->writer, e);
	return error__set(e, EXIT_FAILED, -err, NULL, "reduce: failed to write a record: %s",
			  strerror(-err));
}

/* Write @item as it is, without the column @without (-1: with all). */
static int copy_record(struct reducer *r, const struct trace_item *item, union record *record,
		       int without, struct error *e)
{
	const struct trace_layout *l = trace_layout__find(item->type);
	struct trace_column column[TRACE_COLUMNS_MAX];
	int err;

	for (size_t i = 0; i < item->columns; i++) {
		column[i].bytes = item->column[i].bytes;
		column[i].size = (int)i == without ? 0 : item->column[i].size;
	}
	err = trace_writer__append(r->writer, item->type, record, l->size, column, item->columns);
	return err ? write_error(r, err, e) : 0;
}

static void free_block(struct reducer *r, struct block *b)
{
	r->cells -= b->experts;
	free(b->count);
	free(b->gate);
	free(b);
}

static void drop_block(struct reducer *r, struct block *b)
{
	HASH_DEL(r->blocks, b);
	free_block(r, b);
}

static int write_block(struct reducer *r, struct block *b, struct error *e)
{
	struct trace_counts n = {
		.head = { .time_ns = b->time_ns,
			  .source = b->source,
			  .flags = b->key.ids | (b->weighted ? TRACE_COUNTS_GATE : 0) },
		.request = b->key.request,
		.context = b->key.context,
		.layer = b->key.layer,
		.phase = b->key.phase,
		.rows = b->rows,
		.experts = b->experts,
		.first_position = b->first_position,
		.k = b->k,
		.sequence = b->key.sequence,
		.last_position = b->last_position,
	};
	struct trace_column column[2] = {
		{ b->count, b->experts * sizeof(*b->count) },
		{ NULL, b->weighted ? b->experts * sizeof(float) : 0 },
	};
	float *gate = malloc(b->experts * sizeof(*gate));
	int err;

	if (!gate)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL, "reduce: out of memory");
	for (uint32_t x = 0; x < b->experts; x++)
		gate[x] = (float)b->gate[x];
	column[1].bytes = gate;
	err = trace_writer__append(r->writer, TRACE_COUNTS, &n, sizeof(n), column, 2);
	free(gate);
	drop_block(r, b);
	return err ? write_error(r, err, e) : 0;
}

/* Blocks of @request, or all of them. */
static int write_blocks(struct reducer *r, const uint32_t *request, struct error *e)
{
	struct block *b, *next;
	int err = 0;

	HASH_ITER(hh, r->blocks, b, next)
	{
		if (request && b->key.request != *request)
			continue;
		err = write_block(r, b, e);
		if (err)
			break;
	}
	return err;
}

/* Whole blocks of the sequence move to the request that it is bound to, as docs/trace-format.md
 * says of those that are written. */
static int take_bind(struct reducer *r, const struct trace_bind *bind, struct error *e)
{
	struct block *b, *next, *there;
	int err = bindings__set(&r->bindings, bind->sequence, bind->request, bind->position);

	if (err)
		return error__set(e, EXIT_FAILED, -err, NULL, "reduce: out of memory");
	HASH_ITER(hh, r->blocks, b, next)
	{
		if (b->key.sequence != bind->sequence || b->key.request == bind->request ||
		    b->first_position < bind->position || b->key.phase == TRACE_PHASE_UNKNOWN)
			continue;
		HASH_DEL(r->blocks, b);
		memset(&b->hh, 0, sizeof(b->hh));
		b->key.request = bind->request;
		HASH_FIND(hh, r->blocks, &b->key, sizeof(b->key), there);
		err = there ? write_block(r, there, e) : 0;
		HASH_ADD(hh, r->blocks, key, sizeof(b->key), b);
		if (!hash__has(b)) {
			free_block(r, b);
			err = error__set(e, EXIT_FAILED, ENOMEM, NULL, "reduce: out of memory");
		}
		if (err)
			break;
		next = r->blocks; /* the next one may be the one that was written */
	}
	return err;
}

static struct context *find_context(struct reducer *r, uint32_t id)
{
	for (uint32_t i = 0; i < r->contexts; i++)
		if (r->context[i].context == id)
			return &r->context[i];
	return NULL;
}

static int take_model(struct reducer *r, const struct trace_item *item, struct error *e)
{
	const struct trace_model *m = item->model;
	struct context *c = find_context(r, m->context);
	int err;

	if (!m->experts || m->experts > EXPERTS_MAX)
		return 0;
	if (!c) {
		if (r->contexts == CONTEXTS_MAX)
			return 0;
		c = &r->context[r->contexts++];
		c->context = m->context;
	}
	if (c->experts && c->experts != m->experts) {
		err = write_blocks(r, NULL, e);
		if (err)
			return err;
	}
	c->experts = m->experts;
	return 0;
}

static int take_step(struct reducer *r, const struct trace_item *item, struct error *e)
{
	const struct trace_step *step = item->step;
	struct context *c = find_context(r, step->context);
	struct row *row;

	if (!c)
		return 0;
	c->step = 0;
	if (step->rows > c->capacity) {
		row = realloc(c->row, step->rows * sizeof(*row));
		if (!row)
			return error__set(e, EXIT_FAILED, ENOMEM, NULL, "reduce: out of memory");
		c->row = row;
		c->capacity = step->rows;
	}
	for (uint32_t i = 0; i < step->rows; i++) {
		row = &c->row[i];
		row->sequence = ((const uint32_t *)item->column[0].bytes)[i];
		row->request = ((const uint32_t *)item->column[1].bytes)[i];
		row->position = ((const uint32_t *)item->column[2].bytes)[i];
		row->phase = ((const uint8_t *)item->column[3].bytes)[i];
		if (((const uint8_t *)item->column[4].bytes)[i] & ROWS_OF_NOBODY)
			row->request = TRACE_UNKNOWN;
		else if (row->request == TRACE_UNKNOWN)
			row->request = bindings__owner(r->bindings, row->sequence, row->position);
	}
	c->rows = step->rows;
	c->step = step->step;
	return 0;
}

/* The block of @key, begun if it is not there; NULL without memory. */
static struct block *take_block(struct reducer *r, const struct block_key *key, uint32_t experts,
				uint32_t position)
{
	struct block *b;

	HASH_FIND(hh, r->blocks, key, sizeof(*key), b);
	if (b)
		return b;
	b = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	b->key = *key;
	b->experts = experts;
	b->first_position = position;
	b->weighted = true;
	b->count = calloc(experts, sizeof(*b->count));
	b->gate = calloc(experts, sizeof(*b->gate));
	if (b->count && b->gate)
		HASH_ADD(hh, r->blocks, key, sizeof(*key), b);
	if (!hash__has(b)) {
		free(b->count);
		free(b->gate);
		free(b);
		return NULL;
	}
	r->cells += experts;
	return b;
}

static void count_row(struct reducer *r, struct block *b, const struct trace_item *item, uint32_t i,
		      uint32_t position)
{
	const struct trace_route *route = item->route;
	const float *weight =
		route->head.flags & TRACE_ROUTE_WEIGHTS && !(route->head.flags & TRACE_ROUTE_RAW)
			? item->column[2].bytes
			: NULL;

	for (uint32_t j = 0; j < route->k; j++) {
		size_t at = (size_t)i * route->k + j;
		uint32_t x = trace_item__expert(item, at);

		if (x == TRACE_UNKNOWN)
			continue;
		if (x >= b->experts) {
			r->dropped++;
			continue;
		}
		b->count[x]++;
		if (weight)
			b->gate[x] += (double)weight[at];
	}
	b->weighted &= weight != NULL;
	b->rows++;
	b->k = route->k;
	b->last_position = position;
	b->time_ns = route->head.time_ns;
	b->source = route->head.source;
}

/* @b, which may be NULL, if it is full. */
static int write_full(struct reducer *r, struct block *b, struct error *e)
{
	return b && b->rows >= REDUCE_BLOCK_ROWS ? write_block(r, b, e) : 0;
}

/* Count entry @i of @item, which is @row of its step; @b is where the entry before went. */
static int take_entry(struct reducer *r, const struct context *c, const struct trace_item *item,
		      uint32_t i, const struct row *row, struct block **b, struct error *e)
{
	const struct trace_route *route = item->route;
	struct block_key key = {
		.context = route->context,
		.request = row->request,
		.sequence = row->sequence,
		.layer = route->layer,
		.phase = row->phase,
		.ids = route->head.flags & (TRACE_ROUTE_PHYSICAL | TRACE_ROUTE_LOCAL),
	};
	bool same = *b && !memcmp(&(*b)->key, &key, sizeof(key));
	int err = same ? 0 : write_full(r, *b, e);

	if (!same)
		*b = NULL;
	if (!err && r->cells > CELLS_MAX) {
		*b = NULL;
		err = write_blocks(r, NULL, e);
	}
	if (err)
		return err;
	if (!*b)
		*b = take_block(r, &key, c->experts, row->position);
	if (!*b)
		return error__set(e, EXIT_FAILED, ENOMEM, NULL, "reduce: out of memory");
	count_row(r, *b, item, i, row->position);
	return 0;
}

static int take_route(struct reducer *r, const struct trace_item *item, struct error *e)
{
	const struct trace_route *route = item->route;
	struct context *c = find_context(r, route->context);
	bool all = route->head.flags & TRACE_ROUTE_ALL_ROWS;
	struct block *b = NULL;
	int err = 0;

	if (!c || c->step != route->step || route->layer == UINT32_MAX) {
		r->dropped += route->rows;
		return 0;
	}
	for (uint32_t i = 0; i < route->rows && !err; i++) {
		uint32_t row = all ? i : ((const uint32_t *)item->column[0].bytes)[i];

		if (row < c->rows)
			err = take_entry(r, c, item, i, &c->row[row], &b, e);
		else
			r->dropped++;
	}
	return err ? err : write_full(r, b, e);
}

static int apply_requests(struct reducer *r, const struct trace_item *item, union record *record,
			  struct error *e)
{
	int err = 0;

	switch (item->type) {
	case TRACE_STEP:
		return take_step(r, item, e);
	case TRACE_ROUTE:
		return take_route(r, item, e);
	case TRACE_MODEL:
		err = take_model(r, item, e);
		break;
	case TRACE_REQUEST_BEGIN:
		record->request_begin.prompt_known = 0;
		return copy_record(r, item, record, 1, e);
	case TRACE_BIND:
		err = take_bind(r, item->bind, e);
		break;
	case TRACE_REQUEST_END:
		err = write_blocks(r, &item->request_end->request, e);
		break;
	case TRACE_END:
		err = write_blocks(r, NULL, e);
		break;
	default:
		break;
	}
	return err ? err : copy_record(r, item, record, -1, e);
}

static int apply_routes(struct reducer *r, const struct trace_item *item, union record *record,
			struct error *e)
{
	switch (item->type) {
	case TRACE_STEP:
		record->head.flags &= ~TRACE_STEP_TOKENS;
		return copy_record(r, item, record, 5, e);
	case TRACE_REQUEST_BEGIN:
		record->request_begin.prompt_known = 0;
		return copy_record(r, item, record, 1, e);
	default:
		return copy_record(r, item, record, -1, e);
	}
}

static void count_totals(struct reducer *r, const struct trace_item *item)
{
	struct trace_end *t = &r->totals;

	r->last_ns = item->head->time_ns > r->last_ns ? item->head->time_ns : r->last_ns;
	r->source = item->head->source;
	switch (item->type) {
	case TRACE_STEP:
		t->steps++;
		t->rows += item->step->rows;
		break;
	case TRACE_ROUTE:
		t->routes++;
		t->decisions += item->route->rows;
		break;
	case TRACE_LOSS:
		t->lost += item->loss->count;
		break;
	case TRACE_INVALID:
		t->invalid += item->invalid->count;
		break;
	case TRACE_END:
		r->ended = true;
		break;
	default:
		break;
	}
}

int reducer__apply(struct reducer *r, const struct trace_item *item, struct error *e)
{
	union record record = { 0 };
	int err = -EINVAL;

	memcpy(&record, item->fixed, trace_layout__find(item->type)->size);
	count_totals(r, item);
	switch (r->detail) {
	case DETAIL_REQUESTS:
		err = apply_requests(r, item, &record, e);
		break;
	case DETAIL_ROUTES:
		err = apply_routes(r, item, &record, e);
		break;
	case DETAIL_TOKENS:
		err = copy_record(r, item, &record, -1, e);
		break;
	}
	if (!err && item->type == TRACE_END)
		r->whole = true;
	return err;
}

static int write_end(struct reducer *r, enum trace_stop stop, struct error *e)
{
	int err;

	r->totals.head.time_ns = r->last_ns;
	r->totals.head.source = r->source;
	r->totals.stop = stop;
	r->totals.records = trace_writer__records(r->writer);
	err = trace_writer__append(r->writer, TRACE_END, &r->totals, sizeof(r->totals), NULL, 0);
	return err ? write_error(r, err, e) : 0;
}

int reducer__finish(struct reducer *r, struct error *e)
{
	int err = write_blocks(r, NULL, e);

	if (!err && !r->ended)
		err = write_end(r, TRACE_STOP_FAILED, e);
	r->ended = true;
	return err ? err : trace_writer__flush(r->writer, e);
}

int reducer__abandon(struct reducer *r, struct error *e)
{
	struct block *b, *next;
	int err;

	r->write_failed = true;
	HASH_ITER(hh, r->blocks, b, next)
	drop_block(r, b);
	err = write_end(r, TRACE_STOP_OUTPUT, e);
	return err ? err : trace_writer__flush(r->writer, e);
}

int reducer__new(struct reducer **out, enum detail detail, struct trace_writer *w)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	(*out)->detail = detail;
	(*out)->writer = w;
	return 0;
}

enum reducer_outcome reducer__outcome(const struct reducer *r)
{
	if (r->write_failed || trace_writer__flush(r->writer, NULL))
		return REDUCER_NOT_WRITTEN;
	return r->whole ? REDUCER_WHOLE : REDUCER_BROKEN_OFF;
}

uint64_t reducer__dropped(const struct reducer *r)
{
	return r->dropped;
}

void reducer__free(struct reducer *r)
{
	struct block *b, *next;

	if (!r)
		return;
	HASH_ITER(hh, r->blocks, b, next)
	drop_block(r, b);
	bindings__free(&r->bindings);
	for (uint32_t i = 0; i < r->contexts; i++)
		free(r->context[i].row);
	free(r);
}
