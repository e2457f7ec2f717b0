/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests: begin, names, whose rows they have, end. */
#include "analyzer/state/state_internal.h"

#include <errno.h>

#include "analyzer/state/labels.h"
#include "analyzer/state/printable.h"

/* The request, made if it is not there; NULL and 0 where it has no number. */
static struct state_request *take_request(struct state *s, uint32_t request, int *err)
{
	struct state_request *r;

	*err = 0;
	if (!request || request == TRACE_UNKNOWN)
		return NULL;
	r = request_table__take(s->requests, request);
	if (!r)
		*err = -ENOMEM;
	return r;
}

int state__apply_request_begin(struct state *s, const struct trace_item *item)
{
	const struct trace_request_begin *b = item->request_begin;
	int err;
	struct state_request *r = take_request(s, b->request, &err);

	if (!r)
		return err;
	r->context = b->context;
	r->sequence = b->sequence;
	r->slot = b->slot;
	r->task = b->task;
	r->cached = b->cached;
	r->prompt = b->prompt;
	r->begin_ns = b->begin_ns;
	r->before_attach = b->head.flags & TRACE_REQUEST_BEFORE_ATTACH;
	s->summary.has_tokens |= b->prompt_known > 0;
	printable__copy(r->client_id, sizeof(r->client_id), item->column[0].bytes,
			item->column[0].size);
	return 0;
}

static void take_name(char *to, size_t room, const struct trace_item *item, size_t column)
{
	if (item->column[column].size)
		printable__copy(to, room, item->column[column].bytes, item->column[column].size);
}

/* Names of a request that is not there (any more) name nothing. */
int state__apply_request_info(struct state *s, const struct trace_item *item)
{
	struct state_request *r = request_table__find(s->requests, item->request_info->request);

	if (!r)
		return 0;
	take_name(r->client_id, sizeof(r->client_id), item, 0);
	take_name(r->request_id, sizeof(r->request_id), item, 1);
	take_name(r->trace_id, sizeof(r->trace_id), item, 2);
	take_name(r->adapter, sizeof(r->adapter), item, 3);
	s->summary.out_of_range += labels__take(r->labels, sizeof(r->labels), item->column[4].bytes,
						item->column[4].size);
	r->named_by_inference = item->request_info->certainty != TRACE_EXACT;
	return 0;
}

int state__apply_request_end(struct state *s, const struct trace_item *item)
{
	const struct trace_request_end *n = item->request_end;
	int err;
	struct state_request *r = take_request(s, n->request, &err);

	if (!r)
		return err;
	r->end_ns = n->head.time_ns;
	r->ending = n->ending;
	r->finish = n->finish;
	r->generated = n->generated;
	if (r->prompt == TRACE_UNKNOWN)
		r->prompt = n->prompt;
	r->tokens = n->tokens;
	r->rows_by_end = n->rows;
	request_table__end(s->requests, r);
	return 0;
}

static void give(struct state_request *r, const struct sequence_rows *rows)
{
	if (r->first_row_ns == UINT64_MAX || rows->first_ns < r->first_row_ns)
		r->first_row_ns = rows->first_ns;
	if (r->last_row_ns == UINT64_MAX || rows->last_ns >= r->last_row_ns) {
		r->last_row_ns = rows->last_ns;
		r->position = rows->last;
		r->phase = rows->phase;
	}
	r->context = rows->context;
	r->sequence = rows->sequence;
	for (int p = 0; p < STATE_BOTH; p++)
		r->rows[p] += rows->rows[p];
}

int state__count_rows(struct state *s, struct sequence_rows *rows)
{
	struct state_request *r;
	int err;

	if (rows->sequence != TRACE_UNKNOWN) {
		err = sequences__add(s->sequences, rows);
		if (err)
			return err;
	}
	r = take_request(s, rows->request, &err);
	if (r)
		give(r, rows);
	return err;
}

int state__apply_bind(struct state *s, const struct trace_item *item)
{
	const struct trace_bind *b = item->bind;
	uint32_t request = b->request == TRACE_UNKNOWN ? 0 : b->request, from = 0;
	struct state_request *r = request_table__find(s->requests, request), *other;
	struct sequence_rows moved;
	int some;

	/* A binding to a request that nobody announced is none. */
	if (request && !r)
		return 0;
	if (r) {
		r->sequence = b->sequence;
		r->inferred |= b->certainty != TRACE_EXACT;
	}
	some = sequences__bind(s->sequences, b->sequence, request, b->position, &moved, &from);
	if (some <= 0)
		return some;
	other = request_table__find(s->requests, from);
	for (int p = 0; other && p < STATE_BOTH; p++)
		other->rows[p] -= moved.rows[p] < other->rows[p] ? moved.rows[p] : other->rows[p];
	if (r)
		give(r, &moved);
	return 0;
}
