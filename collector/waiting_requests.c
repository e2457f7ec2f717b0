/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/waiting_requests.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe/base/hash.h"
#include "probe/engine/sink.h"

struct waiting_request {
	struct engine_request request; /* its client's id is ours */
	struct engine_sampling sampling;
	UT_hash_handle hh; /* by its number */
};

static void free_one(struct waiting_request *w)
{
	free((char *)w->request.client_id);
	free(w);
}

static struct waiting_request *find(struct waiting_request *all, uint32_t request)
{
	struct waiting_request *w;

	HASH_FIND(hh, all, &request, sizeof(request), w);
	return w;
}

int waiting_requests__add(struct waiting_request **all, const struct engine_request *q)
{
	struct waiting_request *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->request = *q;
	w->request.tokens = NULL;
	if (q->sampling) {
		w->sampling = *q->sampling;
		w->request.sampling = &w->sampling;
	}
	w->request.client_id = strdup(q->client_id ? q->client_id : "");
	if (w->request.client_id)
		HASH_ADD(hh, *all, request.request, sizeof(w->request.request), w);
	if (hash__has(w))
		return 0;
	free_one(w);
	return -ENOMEM;
}

const struct engine_request *waiting_requests__find(struct waiting_request *all, uint32_t request)
{
	struct waiting_request *w = find(all, request);

	return w ? &w->request : NULL;
}

void waiting_requests__remove(struct waiting_request **all, uint32_t request)
{
	struct waiting_request *w = find(*all, request);

	if (!w)
		return;
	HASH_DEL(*all, w);
	free_one(w);
}

void waiting_requests__free(struct waiting_request **all)
{
	struct waiting_request *w, *next;

	HASH_ITER(hh, *all, w, next)
	{
		HASH_DEL(*all, w);
		free_one(w);
	}
}
