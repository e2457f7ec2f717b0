/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/transformers/candidates.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CANDIDATES_MAX 4096 /* as many as are remembered */
/* A response ends at most so long after the last row: its client may be slow to read. */
#define LATE_NS 60000000000ull

struct entry {
	uint32_t request;
	enum naming naming;
};

struct candidates {
	struct transformers_sequences *sequences;
	uint32_t newest; /* request that was taken in */
	uint32_t count;
	struct entry entry[CANDIDATES_MAX]; /* by number */
};

int candidates__new(struct candidates **out, struct transformers_sequences *sequences)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	(*out)->sequences = sequences;
	return 0;
}

void candidates__free(struct candidates *c)
{
	free(c);
}

/* Those remembered have consecutive numbers from @first on. */
static bool facts_of(const struct candidates *c, uint32_t first, uint32_t request,
		     struct sequence_facts *out)
{
	return request >= first && transformers_sequences__at(c->sequences, request - first, out) &&
	       out->request == request;
}

static bool is_candidate(const struct sequence_facts *s, enum naming naming, uint64_t now_ns)
{
	return !s->ended || (naming != NAMING_CERTAIN && s->last_ns + LATE_NS >= now_ns);
}

void candidates__refresh(struct candidates *c, uint64_t now_ns)
{
	struct sequence_facts s;
	uint32_t first, kept = 0, next;

	if (!transformers_sequences__at(c->sequences, 0, &s))
		return;
	first = s.request;
	for (uint32_t i = 0; i < c->count; i++)
		if (facts_of(c, first, c->entry[i].request, &s) &&
		    is_candidate(&s, c->entry[i].naming, now_ns))
			c->entry[kept++] = c->entry[i];
	c->count = kept;
	next = c->newest + 1 > first ? c->newest + 1 : first;
	for (; c->count < CANDIDATES_MAX && facts_of(c, first, next, &s); next++) {
		c->newest = next;
		if (is_candidate(&s, NAMING_NAMELESS, now_ns))
			c->entry[c->count++] = (struct entry){ next, NAMING_NAMELESS };
	}
}

bool candidates__at(const struct candidates *c, uint32_t at, struct candidate *out)
{
	struct sequence_facts first;

	if (at >= c->count || !transformers_sequences__at(c->sequences, 0, &first))
		return false;
	out->naming = c->entry[at].naming;
	return facts_of(c, first.request, c->entry[at].request, &out->facts);
}

void candidates__name(struct candidates *c, uint32_t request, enum naming naming)
{
	for (uint32_t i = 0; i < c->count; i++)
		if (c->entry[i].request == request)
			c->entry[i].naming = naming;
}
