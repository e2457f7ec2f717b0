/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/state/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "probe/base/hash.h"

/* The request comes first, so that a borrowed request leads back to its entry. */
struct entry {
	struct state_request request;
	struct entry *prev, *next; /* all, oldest first */
	struct entry *older_finished, *newer_finished;
	UT_hash_handle hh;
};
_Static_assert(offsetof(struct entry, request) == 0, "a request is an entry");

struct request_table {
	struct entry *by_id;
	struct entry *all;
	struct entry *finished;
	uint32_t live;
	uint64_t finished_count, cut_off_count;
	uint64_t evicted;
};

int request_table__new(struct request_table **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

static void remove_entry(struct request_table *t, struct entry *x)
{
	if (x->request.ended)
		DL_DELETE2(t->finished, x, older_finished, newer_finished);
	else
		t->live--;
	DL_DELETE(t->all, x);
	HASH_DELETE(hh, t->by_id, x);
	free(x);
}

static struct entry *new_entry(uint32_t request)
{
	struct entry *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->request = (struct state_request){
		.request = request,
		.context = TRACE_UNKNOWN,
		.sequence = TRACE_UNKNOWN,
		.slot = TRACE_UNKNOWN,
		.task = TRACE_UNKNOWN,
		.cached = TRACE_UNKNOWN,
		.prompt = TRACE_UNKNOWN,
		.begin_ns = UINT64_MAX,
		.first_row_ns = UINT64_MAX,
		.last_row_ns = UINT64_MAX,
		.end_ns = UINT64_MAX,
		.position = TRACE_UNKNOWN,
		.phase = STATE_OTHER,
		.tokens = TRACE_UNKNOWN,
		.generated = TRACE_UNKNOWN,
		.rows_by_end = TRACE_UNKNOWN,
	};
	return x;
}

struct state_request *request_table__find(struct request_table *t, uint32_t request)
{
	struct entry *x;

	HASH_FIND(hh, t->by_id, &request, sizeof(request), x);
	return x ? &x->request : NULL;
}

struct state_request *request_table__take(struct request_table *t, uint32_t request)
{
	struct state_request *found = request_table__find(t, request);
	struct entry *x;

	if (found)
		return found;
	if (HASH_COUNT(t->by_id) >= STATE_REQUESTS_MAX) {
		remove_entry(t, t->finished ? t->finished : t->all);
		t->evicted++;
	}
	x = new_entry(request);
	if (!x)
		return NULL;
	HASH_ADD(hh, t->by_id, request.request, sizeof(request), x);
	if (!hash__has(x)) {
		free(x);
		return NULL;
	}
	DL_APPEND(t->all, x);
	t->live++;
	return &x->request;
}

bool request__is_cut_off(const struct state_request *r)
{
	return r->ended &&
	       (r->ending == TRACE_ENDING_CAPTURE_END || r->ending == TRACE_ENDING_TARGET_GONE);
}

bool request__is_open(const struct state_request *r)
{
	return !r->ended || r->ending == TRACE_ENDING_CAPTURE_END;
}

uint64_t request__silent_ns(const struct state_request *r, uint64_t now_ns)
{
	uint64_t until = r->ended ? r->end_ns : now_ns;

	if (r->last_row_ns == UINT64_MAX || until == UINT64_MAX)
		return UINT64_MAX;
	return until > r->last_row_ns ? until - r->last_row_ns : 0;
}

bool request__has_name(const struct state_request *r)
{
	return *r->client_id || *r->request_id || *r->trace_id || *r->adapter || *r->labels;
}

const char *request__name_mark(const struct state_request *r)
{
	return r->named_by_inference && request__has_name(r) ? "~" : "";
}

void request_table__end(struct request_table *t, struct state_request *r)
{
	struct entry *x = (struct entry *)r;

	if (r->ended)
		return;
	r->ended = true;
	t->live--;
	if (request__is_cut_off(r))
		t->cut_off_count++;
	else
		t->finished_count++;
	DL_APPEND2(t->finished, x, older_finished, newer_finished);
}

const struct state_request *request_table__older(const struct request_table *t,
						 const struct state_request *r)
{
	const struct entry *x = (const struct entry *)r;

	if (!t->all)
		return NULL;
	if (!r)
		return &t->all->prev->request; /* utlist: the head's prev is the tail */
	return x == t->all ? NULL : &x->prev->request;
}

uint32_t request_table__live(const struct request_table *t)
{
	return t->live;
}

uint64_t request_table__finished(const struct request_table *t)
{
	return t->finished_count;
}

uint64_t request_table__cut_off(const struct request_table *t)
{
	return t->cut_off_count;
}

uint64_t request_table__evicted(const struct request_table *t)
{
	return t->evicted;
}

void request_table__free(struct request_table *t)
{
	if (!t)
		return;
	while (t->all)
		remove_entry(t, t->all);
	free(t);
}
