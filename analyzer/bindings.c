/* SPDX-License-Identifier: BSD-2-Clause */
#include "analyzer/bindings.h"

#include <errno.h>
#include <stdlib.h>

#include "collector/trace/records.h"
#include "probe/base/hash.h"

struct binding {
	uint32_t sequence, request, from;
	UT_hash_handle hh;
};

static void forget(struct binding **all, struct binding *b)
{
	HASH_DEL(*all, b);
	free(b);
}

int bindings__set(struct binding **all, uint32_t sequence, uint32_t request, uint32_t position)
{
	struct binding *b;

	HASH_FIND(hh, *all, &sequence, sizeof(sequence), b);
	if (!b) {
		if (HASH_COUNT(*all) >= BINDINGS_MAX)
			forget(all, *all); /* uthash keeps the order: the first is the oldest */
		b = calloc(1, sizeof(*b));
		if (!b)
			return -ENOMEM;
		b->sequence = sequence;
		HASH_ADD(hh, *all, sequence, sizeof(b->sequence), b);
		if (!hash__has(b)) {
			free(b);
			return -ENOMEM;
		}
	}
	b->request = request;
	b->from = position;
	return 0;
}

uint32_t bindings__owner(struct binding *all, uint32_t sequence, uint32_t position)
{
	struct binding *b;

	HASH_FIND(hh, all, &sequence, sizeof(sequence), b);
	return b && position >= b->from ? b->request : TRACE_UNKNOWN;
}

void bindings__free(struct binding **all)
{
	while (*all)
		forget(all, *all);
}
