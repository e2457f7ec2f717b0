/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/aten/intake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe/base/buffer.h"
#include "probe/base/error.h"
#include "probe/engine/aten/layout.h"

#define HELD_BYTES_MAX (8u << 20)
#define HELD_MAX 1024 /* captures */
#define CUT_MAX 64    /* threads */

struct held {
	size_t chunks;
	struct mp_event **chunk;
};

/* A computation of which something was dropped: the rest goes with it. */
struct cut {
	uint32_t tid, computation;
};

enum standing {
	OPEN,    /* nothing is certain */
	CERTAIN, /* what comes was read right */
	LEARNED, /* what comes may still be read by the offset that proved wrong */
};

struct aten_intake {
	aten_intake_fn take;
	void *ctx;
	struct aten_layout layout;
	unsigned presumed;
	enum standing standing;
	bool missed;
	uint64_t certain_ns; /* LEARNED: what was hit since then was read right; 0: not known yet */
	uint64_t results;    /* of routers, as raw bytes tell of them */
	uint64_t dropped;    /* results that did not find room to wait */
	/* The last hit whose bytes came: what was read of it follows. */
	uint64_t raw_ns;
	uint32_t raw_tid;
	size_t cuts;
	struct cut cut[CUT_MAX];
	size_t bytes, count;
	struct held held[HELD_MAX];
};

int aten_intake__new(struct aten_intake **out, aten_intake_fn take, void *ctx)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	(*out)->take = take;
	(*out)->ctx = ctx;
	return 0;
}

static void held__free(struct held *h)
{
	for (size_t i = 0; h->chunk && i < h->chunks; i++)
		free(h->chunk[i]);
	free(h->chunk);
	*h = (struct held){ 0 };
}

void aten_intake__free(struct aten_intake *i)
{
	if (!i)
		return;
	for (size_t n = 0; n < i->count; n++)
		held__free(&i->held[n]);
	free(i);
}

void aten_intake__presume(struct aten_intake *i, unsigned head)
{
	i->presumed = head ? head : i->presumed;
}

int aten_intake__save(const struct aten_intake *i, struct buffer *out)
{
	uint32_t head = i->presumed;

	return head ? buffer__append(out, &head, sizeof(head)) : 0;
}

void aten_intake__load(struct aten_intake *i, struct cursor *at)
{
	if (cursor__left(at))
		aten_intake__presume(i, cursor__u32(at));
}

unsigned aten_intake__head(const struct aten_intake *i)
{
	return i->layout.head;
}

bool aten_intake__missed(const struct aten_intake *i)
{
	return i->missed;
}

/* --- what is lost -------------------------------------------------------------------------------
 */

/* Of a result in several tensors one counts. */
static bool is_result(const struct mp_event_tensor *t)
{
	return t->role == MP_ROLE_SCORES || t->role == MP_ROLE_WEIGHTS;
}

static int lose(struct aten_intake *i, uint64_t results, const struct engine_sink *sink)
{
	i->missed = true;
	return results ? sink->lost(sink->ctx, ENGINE_LOSS_LAYOUT, results, UINT64_MAX) : 0;
}

/* --- waiting ------------------------------------------------------------------------------------
 */

static bool is_tensor(const struct mp_event *ev)
{
	return ev->kind == MP_EVENT_TENSOR && ev->size >= sizeof(struct mp_event_tensor);
}

static struct mp_event_tensor head_of(const struct mp_event *ev)
{
	struct mp_event_tensor head;

	memcpy(&head, ev, sizeof(head));
	return head;
}

static int held__copy(struct held *h, const struct capture *c)
{
	h->chunk = calloc(c->chunks, sizeof(*h->chunk));
	if (!h->chunk)
		return -ENOMEM;
	for (; h->chunks < c->chunks; h->chunks++) {
		const struct mp_event *ev = c->chunk[h->chunks];

		h->chunk[h->chunks] = malloc(ev->size);
		if (!h->chunk[h->chunks])
			break;
		memcpy(h->chunk[h->chunks], ev, ev->size);
	}
	if (h->chunks == c->chunks)
		return 0;
	held__free(h);
	return -ENOMEM;
}

/* What finds no room is lost, unless it can be taken at once: it is no tensor. */
static int hold(struct aten_intake *i, const struct capture *c, const struct engine_sink *sink)
{
	const struct mp_event *first = c->chunk[0];
	struct mp_event_tensor head;
	size_t bytes = 0;
	int err;

	for (size_t n = 0; n < c->chunks; n++)
		bytes += c->chunk[n]->size;
	if (i->count < HELD_MAX && bytes <= HELD_BYTES_MAX - i->bytes) {
		err = held__copy(&i->held[i->count], c);
		i->count += !err;
		i->bytes += err ? 0 : bytes;
		return err;
	}
	if (!is_tensor(first))
		return i->take(i->ctx, c, sink);
	head = head_of(first);
	i->dropped += is_result(&head);
	i->missed = true;
	return 0;
}

/* Hand on what waits; @all: tensors too, which otherwise are dropped. */
static int release(struct aten_intake *i, bool all, const struct engine_sink *sink)
{
	int err = 0, err_one;

	for (size_t n = 0; n < i->count; n++) {
		struct held *h = &i->held[n];
		struct capture c = { h->chunks, (const struct mp_event *const *)h->chunk };

		if (all || !is_tensor(h->chunk[0])) {
			err_one = i->take(i->ctx, &c, sink);
			err = err ? err : err_one;
		}
		held__free(h);
	}
	i->count = i->bytes = 0;
	return err;
}

/* --- certainty ----------------------------------------------------------------------------------
 */

/* The offset is known. Where none was presumed nothing was read. */
static int decide(struct aten_intake *i, const struct engine_sink *sink)
{
	bool right = !i->presumed || i->layout.head == i->presumed;
	int err, err_release;

	i->standing = right ? CERTAIN : LEARNED;
	if (right)
		err = i->dropped ? lose(i, i->dropped, sink) : 0;
	else
		err = lose(i, i->results, sink);
	err_release = release(i, right, sink);
	return err ? err : err_release;
}

/* The bytes of a TensorImpl. */
static int add_raw(struct aten_intake *i, const struct mp_event *ev, const struct engine_sink *sink)
{
	struct mp_event_tensor head = head_of(ev);
	bool decided = i->layout.head;
	int found;

	i->raw_ns = ev->time_ns;
	i->raw_tid = ev->tid;
	if (i->standing == LEARNED)
		return is_result(&head) ? lose(i, 1, sink) : 0;
	i->results += is_result(&head);
	if (decided || ev->size < sizeof(head) + MP_TENSOR_RAW_BYTES)
		return 0;
	found = aten_layout__see(&i->layout, (const uint8_t *)ev + sizeof(head));
	if (found <= 0)
		return found;
	return decide(i, sink);
}

static struct cut *find_cut(struct aten_intake *i, uint32_t tid)
{
	for (size_t n = 0; n < i->cuts; n++)
		if (i->cut[n].tid == tid)
			return &i->cut[n];
	return NULL;
}

static void note_cut(struct aten_intake *i, const struct mp_event_tensor *t)
{
	struct cut *cut = find_cut(i, t->event.tid);

	if (!cut && i->cuts < CUT_MAX)
		cut = &i->cut[i->cuts++];
	if (cut)
		*cut = (struct cut){ t->event.tid, t->computation & ~MP_COMPUTATION_REFUSED };
}

/* Read, perhaps, by the offset that proved wrong. */
static int add_doubtful(struct aten_intake *i, const struct capture *c,
			const struct engine_sink *sink)
{
	const struct mp_event *ev = c->chunk[0];
	struct mp_event_tensor head = head_of(ev);
	const struct cut *cut = find_cut(i, ev->tid);
	bool goes_on = cut && cut->computation == (head.computation & ~MP_COMPUTATION_REFUSED);

	if (i->certain_ns && ev->time_ns >= i->certain_ns && !goes_on)
		return i->take(i->ctx, c, sink);
	note_cut(i, &head);
	/* Its bytes came before, and were counted. */
	if (!is_result(&head) || (ev->time_ns == i->raw_ns && ev->tid == i->raw_tid))
		return 0;
	return lose(i, 1, sink);
}

int aten_intake__add(struct aten_intake *i, const struct capture *c, const struct engine_sink *sink)
{
	const struct mp_event *ev = c->chunk[0];

	if (!is_tensor(ev))
		return i->count ? hold(i, c, sink) : i->take(i->ctx, c, sink);
	if (head_of(ev).flags & MP_TENSOR_RAW)
		return add_raw(i, ev, sink);
	if (i->standing == LEARNED)
		return add_doubtful(i, c, sink);
	if (i->standing == OPEN && i->presumed)
		return hold(i, c, sink);
	return i->take(i->ctx, c, sink);
}

int aten_intake__refuse(const char *engine, struct error *e)
{
	return error__set(e, EXIT_UNSUPPORTED, EPROTO,
			  "run the PyTorch of the wheels, 1.13 to 2.14",
			  "%s: failed to read tensors: layout check failed: sizes are at no "
			  "offset that was ever seen",
			  engine);
}

void aten_intake__tick(struct aten_intake *i, uint64_t now_ns)
{
	if (i->standing == LEARNED && !i->certain_ns)
		i->certain_ns = now_ns;
}

int aten_intake__finish(struct aten_intake *i, const struct engine_sink *sink)
{
	int err, err_release;

	if (i->standing != OPEN || !i->presumed)
		return 0;
	i->standing = LEARNED;
	err = lose(i, i->results, sink);
	err_release = release(i, false, sink);
	return err ? err : err_release;
}
