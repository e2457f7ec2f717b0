/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/state/sequences.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe/base/hash.h"

struct sequence {
	uint32_t sequence;
	uint32_t bound, from;      /* by the last binding; 0: to none */
	struct sequence_rows rows; /* of one owner, the last one */
	UT_hash_handle hh;
};

struct sequences {
	struct sequence *by_id; /* uthash keeps the order: the first is the oldest */
	struct sequence *last;  /* asked for; rows of one sequence come in a row */
};

struct sequences *sequences__new(void)
{
	return calloc(1, sizeof(struct sequences));
}

static void forget(struct sequences *s, struct sequence *x)
{
	s->last = NULL;
	HASH_DEL(s->by_id, x);
	free(x);
}

void sequences__free(struct sequences *s)
{
	if (!s)
		return;
	while (s->by_id)
		forget(s, s->by_id);
	free(s);
}

static struct sequence *take(struct sequences *s, uint32_t sequence)
{
	struct sequence *x = s->last;

	if (x && x->sequence == sequence)
		return x;
	HASH_FIND(hh, s->by_id, &sequence, sizeof(sequence), x);
	if (!x) {
		if (HASH_COUNT(s->by_id) >= STATE_SEQUENCES_MAX)
			forget(s, s->by_id);
		x = calloc(1, sizeof(*x));
		if (!x)
			return NULL;
		x->sequence = sequence;
		HASH_ADD(hh, s->by_id, sequence, sizeof(x->sequence), x);
		if (!hash__has(x)) {
			free(x);
			return NULL;
		}
	}
	s->last = x;
	return x;
}

static uint64_t sum(const struct sequence_rows *r)
{
	uint64_t n = 0;

	for (int p = 0; p < STATE_BOTH; p++)
		n += r->rows[p];
	return n;
}

int sequences__add(struct sequences *s, struct sequence_rows *more)
{
	struct sequence *x = take(s, more->sequence);
	struct sequence_rows *r;

	if (!x)
		return -ENOMEM;
	r = &x->rows;
	if (!more->request && more->first >= x->from)
		more->request = x->bound;
	if (!sum(r) || r->request != more->request || r->context != more->context) {
		*r = *more;
		return 0;
	}
	if (more->first < r->first)
		r->first = more->first;
	for (int p = 0; p < STATE_BOTH; p++)
		r->rows[p] += more->rows[p];
	r->last = more->last;
	r->phase = more->phase;
	r->last_ns = more->last_ns;
	return 0;
}

/* The @n last rows of @r, which has more: generated ones come after those of the prompt. */
static void split(struct sequence_rows *r, uint64_t n, struct sequence_rows *moved)
{
	static const enum state_phase order[] = { STATE_DECODE, STATE_OTHER, STATE_PREFILL };

	*moved = *r;
	for (size_t i = 0; i < sizeof(order) / sizeof(*order); i++) {
		uint64_t *from = &r->rows[order[i]], part = n < *from ? n : *from;

		moved->rows[order[i]] = part;
		*from -= part;
		n -= part;
	}
	moved->first_ns = moved->last_ns; /* not known better */
}

int sequences__bind(struct sequences *s, uint32_t sequence, uint32_t request, uint32_t position,
		    struct sequence_rows *moved, uint32_t *from)
{
	struct sequence *x = take(s, sequence);
	struct sequence_rows *r;
	uint64_t behind;

	if (!x)
		return -ENOMEM;
	x->bound = request;
	x->from = position;
	r = &x->rows;
	if (!sum(r) || r->request == request || position > r->last)
		return 0;
	behind = (uint64_t)r->last + 1 - position;
	*from = r->request;
	if (position <= r->first || behind >= sum(r)) {
		*moved = *r;
	} else {
		split(r, behind, moved);
		moved->first = position;
	}
	moved->request = request;
	*r = *moved;
	return 1;
}
