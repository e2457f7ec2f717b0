/* SPDX-License-Identifier: BSD-2-Clause */
#include "collector/known_requests.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "collector/trace/writer.h"
#include "probe/base/hash.h"
#include "probe/engine/sink.h"

struct known_request {
	uint32_t request;
	bool said, keeps;
	struct engine_request_info info; /* its texts are ours */
	UT_hash_handle hh;
};

/* Ended ones in a table of their own: uthash keeps the order, so the first is the oldest. */
struct known_requests {
	struct known_request *open, *ended;
	size_t begun, kept;
};

/* The texts of @i, one by one. */
static const char **text_of(struct engine_request_info *i, size_t n)
{
	const char **const text[] = { &i->client_id, &i->request_id, &i->trace_id, &i->adapter,
				      &i->labels };

	return n < sizeof(text) / sizeof(*text) ? text[n] : NULL;
}

struct known_requests *known_requests__new(void)
{
	return calloc(1, sizeof(struct known_requests));
}

static void forget(struct known_requests *k, struct known_request *r)
{
	const char **text;

	for (size_t n = 0; (text = text_of(&r->info, n)); n++) {
		free((char *)*text);
		*text = NULL;
	}
	k->kept -= r->keeps && r->said;
	r->keeps = false;
}

static void free_all(struct known_requests *k, struct known_request **table)
{
	struct known_request *r, *next;

	HASH_ITER(hh, *table, r, next)
	{
		HASH_DEL(*table, r);
		forget(k, r);
		free(r);
	}
}

void known_requests__free(struct known_requests *k)
{
	if (!k)
		return;
	free_all(k, &k->open);
	free_all(k, &k->ended);
	free(k);
}

static struct known_request *find_open(const struct known_requests *k, uint32_t request)
{
	struct known_request *r;

	HASH_FIND(hh, k->open, &request, sizeof(request), r);
	return r;
}

int known_requests__add(struct known_requests *k, uint32_t request, bool said)
{
	struct known_request *r = find_open(k, request);

	if (!r) {
		r = calloc(1, sizeof(*r));
		if (!r)
			return -ENOMEM;
		r->request = request;
		HASH_ADD(hh, k->open, request, sizeof(r->request), r);
		if (!hash__has(r)) {
			free(r);
			return -ENOMEM;
		}
	}
	if (said && !r->said) {
		r->said = true;
		k->begun++;
		k->kept += r->keeps;
	}
	return 0;
}

void known_requests__end(struct known_requests *k, uint32_t request)
{
	struct known_request *r = find_open(k, request);

	if (!r)
		return;
	HASH_DEL(k->open, r);
	k->begun -= r->said;
	forget(k, r);
	memset(&r->hh, 0, sizeof(r->hh));
	HASH_ADD(hh, k->ended, request, sizeof(r->request), r);
	if (!hash__has(r))
		free(r);
	if (HASH_COUNT(k->ended) > KNOWN_ENDED_MAX) {
		r = k->ended;
		HASH_DEL(k->ended, r);
		free(r);
	}
}

void known_requests__remove(struct known_requests *k, uint32_t request)
{
	struct known_request *r = find_open(k, request);

	if (!r)
		return;
	HASH_DEL(k->open, r);
	k->begun -= r->said;
	forget(k, r);
	free(r);
}

bool known_requests__is_said(const struct known_requests *k, uint32_t request)
{
	struct known_request *r = find_open(k, request);

	if (!r)
		HASH_FIND(hh, k->ended, &request, sizeof(request), r);
	return r && r->said;
}

bool known_requests__is_open(const struct known_requests *k, uint32_t request)
{
	return find_open(k, request) != NULL;
}

size_t known_requests__begun(const struct known_requests *k)
{
	return k->begun;
}

/* Labels add up; of a key that is there twice the last one counts. malloc'd, NULL: no memory. */
static char *join(const char *labels, const char *more)
{
	size_t a = labels ? strlen(labels) : 0, b = strnlen(more, TRACE_TEXT_MAX);
	char *both;

	if (a + b > TRACE_TEXT_MAX)
		a = 0;
	both = calloc(1, a + b + 1);
	if (!both)
		return NULL;
	if (a)
		memcpy(both, labels, a);
	memcpy(both + a, more, b);
	return both;
}

int known_requests__keep(struct known_requests *k, const struct engine_request_info *i)
{
	struct known_request *r = find_open(k, i->request);
	struct engine_request_info from = *i;
	const char **text, **to;
	char *copy;

	if (!r)
		return -ENOMEM;
	if (!r->keeps || i->inferred || !r->info.inferred) {
		r->info.origin = i->origin;
		r->info.inferred = i->inferred;
	}
	r->info.request = i->request;
	r->info.time_ns = i->time_ns;
	k->kept += r->said && !r->keeps;
	r->keeps = true;
	for (size_t n = 0; (text = text_of(&from, n)); n++) {
		to = text_of(&r->info, n);
		if (!*text || !**text || *text == *to)
			continue;
		copy = *text == i->labels ? join(*to, *text) : strndup(*text, TRACE_TEXT_MAX);
		if (!copy)
			return -ENOMEM;
		free((char *)*to);
		*to = copy;
	}
	return 0;
}

const struct engine_request_info *known_requests__kept(const struct known_requests *k,
						       uint32_t request)
{
	const struct known_request *r = find_open(k, request);

	return r && r->keeps ? &r->info : NULL;
}

void known_requests__forget(struct known_requests *k, uint32_t request)
{
	struct known_request *r = find_open(k, request);

	if (r)
		forget(k, r);
}

uint32_t known_requests__next_kept(const struct known_requests *k)
{
	struct known_request *r, *next;

	if (!k->kept)
		return 0;
	HASH_ITER(hh, k->open, r, next)
	if (r->said && r->keeps)
		return r->request;
	return 0;
}
