/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/base/hash.h"
#include "probe/engine/capture.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define OPEN_MAX 256          /* threads with an unfinished capture */
#define BYTES_MAX (32u << 20) /* of all unfinished captures together */
#define CHUNKS_MAX 4096       /* of one capture; the kernel makes a few hundred at most */

/* What one thread is in the middle of. */
struct open_capture {
	UT_hash_handle hh;
	uint32_t tid;
	struct mp_event head; /* of its first event that arrived */
	bool broken;          /* its contents are gone */
	bool counted;         /* as dropped by us */
	bool is_result;       /* of a router, one that counts its rows */
	uint32_t next_chunk, next_first;
	size_t bytes;
	struct mp_event **chunk; /* head.chunks entries, next_chunk of them owned copies */
};

struct captures {
	struct open_capture *open; /* uthash by tid */
	struct mp_event **complete;
	size_t complete_count;
	const struct mp_event *single;
	size_t bytes;
	uint64_t dropped, dropped_rows;
};

int captures__new(struct captures **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

static void chunks__free(struct mp_event **chunk, size_t count)
{
	for (size_t i = 0; chunk && i < count; i++)
		free(chunk[i]);
	free(chunk);
}

static void forget_complete(struct captures *c)
{
	chunks__free(c->complete, c->complete_count);
	c->complete = NULL;
	c->complete_count = 0;
	c->single = NULL;
}

/* Free the chunks of @o but remember it. */
static void open_capture__empty(struct captures *c, struct open_capture *o)
{
	chunks__free(o->chunk, o->next_chunk);
	o->chunk = NULL;
	o->next_chunk = 0;
	c->bytes -= o->bytes;
	o->bytes = 0;
}

/* The kernel delivers it and we do not keep it: nobody else counts that. */
static void open_capture__lose(struct captures *c, struct open_capture *o)
{
	open_capture__empty(c, o);
	o->broken = true;
	if (o->counted)
		return;
	o->counted = true;
	c->dropped++;
	if (o->is_result)
		c->dropped_rows += o->head.total;
}

static void open_capture__remove(struct captures *c, struct open_capture *o)
{
	open_capture__empty(c, o);
	HASH_DEL(c->open, o);
	free(o);
}

void captures__free(struct captures *c)
{
	struct open_capture *o, *next;

	if (!c)
		return;
	HASH_ITER(hh, c->open, o, next)
	open_capture__remove(c, o);
	forget_complete(c);
	free(c);
}

/* Parts of one capture carry the same of all these. */
static bool same_capture(const struct mp_event *a, const struct mp_event *b)
{
	return a->kind == b->kind && a->site == b->site && a->time_ns == b->time_ns &&
	       a->object == b->object && a->chunks == b->chunks && a->total == b->total;
}

static bool makes_sense(const struct mp_event *ev)
{
	return ev->chunks && ev->chunks <= CHUNKS_MAX && ev->chunk < ev->chunks &&
	       ev->first <= ev->total && ev->count <= ev->total - ev->first &&
	       (ev->chunks == 1 || ev->count) && (ev->chunk || !ev->first) &&
	       (ev->chunk + 1 < ev->chunks || ev->count == ev->total - ev->first);
}

static struct open_capture *open_capture__oldest(struct captures *c)
{
	return c->open; /* uthash iterates in order of insertion */
}

/* Of a result in several tensors the first one counts: the others go with it. */
static bool is_result(const struct mp_event *ev)
{
	const struct mp_event_tensor *tensor = (const struct mp_event_tensor *)ev;

	if (ev->kind != MP_EVENT_TENSOR || ev->size < sizeof(*tensor))
		return ev->kind == MP_EVENT_ROUTE;
	return tensor->role == MP_ROLE_IDS || tensor->role == MP_ROLE_SCORES;
}

static struct open_capture *open_capture__begin(struct captures *c, const struct mp_event *ev)
{
	struct open_capture *o;

	while (HASH_COUNT(c->open) >= OPEN_MAX) {
		o = open_capture__oldest(c);
		if (!o->broken)
			open_capture__lose(c, o);
		open_capture__remove(c, o);
	}
	o = calloc(1, sizeof(*o));
	if (!o)
		return NULL;
	o->tid = ev->tid;
	o->head = *ev;
	o->is_result = is_result(ev);
	HASH_ADD(hh, c->open, tid, sizeof(o->tid), o);
	if (!hash__has(o)) {
		free(o);
		return NULL;
	}
	return o;
}

/* Append a copy of @ev, which is the next chunk of @o. */
static int open_capture__append(struct captures *c, struct open_capture *o,
				const struct mp_event *ev)
{
	struct mp_event *copy;

	if (c->bytes + ev->size > BYTES_MAX) {
		open_capture__lose(c, o);
		return 0;
	}
	if (!o->chunk)
		o->chunk = calloc(ev->chunks, sizeof(struct mp_event *));
	copy = o->chunk ? malloc(ev->size) : NULL;
	if (!copy)
		return -ENOMEM;
	memcpy(copy, ev, ev->size);
	o->chunk[o->next_chunk++] = copy;
	o->next_first = ev->first + ev->count;
	o->bytes += ev->size;
	c->bytes += ev->size;
	return 0;
}

static int complete__take(struct captures *c, struct open_capture *o, struct capture *out)
{
	c->complete = o->chunk;
	c->complete_count = o->next_chunk;
	o->chunk = NULL;
	o->next_chunk = 0;
	open_capture__remove(c, o);
	out->chunks = c->complete_count;
	out->chunk = (const struct mp_event *const *)c->complete;
	return 1;
}

int captures__add(struct captures *c, const struct mp_event *ev, struct capture *out)
{
	struct open_capture *o;
	int err;

	memset(out, 0, sizeof(*out));
	forget_complete(c);
	if (!makes_sense(ev))
		return -EINVAL;
	HASH_FIND(hh, c->open, &ev->tid, sizeof(ev->tid), o);
	/* The thread is past it: the kernel gave it up, and said so in its counters. */
	if (o && (!ev->chunk || !same_capture(&o->head, ev))) {
		open_capture__remove(c, o);
		o = NULL;
	}
	if (!o && ev->chunks == 1) {
		c->single = ev;
		out->chunks = 1;
		out->chunk = &c->single;
		return 1;
	}
	if (!o)
		o = open_capture__begin(c, ev);
	if (!o)
		return -ENOMEM;
	/* Broken before this came: the kernel had not given it up, and we had. */
	if (o->broken || ev->chunk != o->next_chunk || ev->first != o->next_first) {
		open_capture__lose(c, o);
		return 0;
	}
	err = open_capture__append(c, o, ev);
	if (err || o->broken || o->next_chunk < ev->chunks)
		return err;
	return complete__take(c, o, out);
}

void captures__expire(struct captures *c, uint64_t before_ns)
{
	struct open_capture *o, *next;

	HASH_ITER(hh, c->open, o, next)
	{
		if (o->head.time_ns >= before_ns)
			continue;
		open_capture__empty(c, o);
		o->broken = true;
	}
}

uint64_t captures__take_dropped(struct captures *c, uint64_t *rows)
{
	uint64_t n = c->dropped;

	*rows = c->dropped_rows;
	c->dropped = c->dropped_rows = 0;
	return n;
}
