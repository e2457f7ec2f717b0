/* SPDX-License-Identifier: BSD-2-Clause */
#include "probe/engine/vllm/held.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ITEMS_MAX 4096
#define BYTES_MAX (16u << 20)
#define WAIT_NS 2000000000ull

enum kind { KIND_BEGIN, KIND_END, KIND_INFO, KIND_BIND, KIND_STEP, KIND_NOTHING };

/* One call of the sink; what its pointers lead to is in @block. */
struct item {
	enum kind kind;
	union {
		struct engine_request begin;
		struct engine_request_end end;
		struct engine_request_info info;
		struct engine_bind bind;
		struct engine_step step;
	};
	uint8_t *block;
	size_t used, bytes; /* of it */
};

struct vllm_held {
	struct engine_sink sink; /* where it goes; valid during a call into the engine */
	bool is_holding;
	uint64_t since_ns; /* the first step that waits; 0: none */
	size_t bytes, count, capacity;
	struct item *item;
};

int vllm_held__new(struct vllm_held **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

static void forget(struct item *i)
{
	free(i->block);
	i->block = NULL;
	i->kind = KIND_NOTHING;
}

void vllm_held__free(struct vllm_held *h)
{
	if (!h)
		return;
	for (size_t i = 0; i < h->count; i++)
		forget(&h->item[i]);
	free(h->item);
	free(h);
}

/* --- waiting ------------------------------------------------------------------------------------
 */

static size_t rounded(size_t size)
{
	return (size + 7) & ~(size_t)7;
}

static size_t text_bytes(const char *text)
{
	return text ? rounded(strlen(text) + 1) : 0;
}

/* A new item at the end with room for copies of @bytes; NULL: no memory. */
static struct item *add(struct vllm_held *h, enum kind kind, size_t bytes)
{
	size_t capacity = h->capacity ? 2 * h->capacity : 64;
	struct item *more, *i;
	uint8_t *block;

	if (h->count == h->capacity) {
		more = realloc(h->item, capacity * sizeof(*more));
		if (!more)
			return NULL;
		h->item = more;
		h->capacity = capacity;
	}
	block = bytes ? malloc(bytes) : NULL;
	if (bytes && !block)
		return NULL;
	i = &h->item[h->count++];
	*i = (struct item){ .kind = kind, .block = block, .bytes = bytes };
	h->bytes += bytes + sizeof(*i);
	return i;
}

/* A copy of @size bytes that @i owns; NULL: there are none. */
static void *keep(struct item *i, const void *bytes, size_t size)
{
	void *copy;

	if (!bytes || !size)
		return NULL;
	copy = i->block + i->used;
	i->used += rounded(size);
	return memcpy(copy, bytes, size);
}

static const char *keep_text(struct item *i, const char *text)
{
	return keep(i, text, text ? strlen(text) + 1 : 0);
}

static size_t prompt_bytes(const struct engine_request *r)
{
	return r->tokens && r->prompt != ENGINE_UNKNOWN ? r->prompt * sizeof(*r->tokens) : 0;
}

static int on_begin(void *ctx, const struct engine_request *r)
{
	struct vllm_held *h = ctx;
	struct item *i;

	if (!h->is_holding)
		return h->sink.request_begin(h->sink.ctx, r);
	i = add(h, KIND_BEGIN,
		text_bytes(r->client_id) + rounded(prompt_bytes(r)) +
			rounded(sizeof(*r->sampling)));
	if (!i)
		return -ENOMEM;
	i->begin = *r;
	i->begin.client_id = keep_text(i, r->client_id);
	i->begin.tokens = keep(i, r->tokens, prompt_bytes(r));
	i->begin.sampling = keep(i, r->sampling, sizeof(*r->sampling));
	return 0;
}

static int on_end(void *ctx, const struct engine_request_end *r)
{
	struct vllm_held *h = ctx;
	struct item *i;

	if (!h->is_holding)
		return h->sink.request_end(h->sink.ctx, r);
	i = add(h, KIND_END, 0);
	if (!i)
		return -ENOMEM;
	i->end = *r;
	return 0;
}

static int on_info(void *ctx, const struct engine_request_info *r)
{
	struct vllm_held *h = ctx;
	struct item *i;

	if (!h->is_holding)
		return h->sink.request_info ? h->sink.request_info(h->sink.ctx, r) : 0;
	i = add(h, KIND_INFO,
		text_bytes(r->client_id) + text_bytes(r->request_id) + text_bytes(r->trace_id) +
			text_bytes(r->adapter) + text_bytes(r->labels));
	if (!i)
		return -ENOMEM;
	i->info = *r;
	i->info.client_id = keep_text(i, r->client_id);
	i->info.request_id = keep_text(i, r->request_id);
	i->info.trace_id = keep_text(i, r->trace_id);
	i->info.adapter = keep_text(i, r->adapter);
	i->info.labels = keep_text(i, r->labels);
	return 0;
}

static int on_bind(void *ctx, const struct engine_bind *b)
{
	struct vllm_held *h = ctx;
	struct item *i;

	if (!h->is_holding)
		return h->sink.bind ? h->sink.bind(h->sink.ctx, b) : 0;
	i = add(h, KIND_BIND, 0);
	if (!i)
		return -ENOMEM;
	i->bind = *b;
	return 0;
}

static size_t route_bytes(const struct engine_route *r)
{
	size_t n = (size_t)r->rows * r->k;

	return sizeof(*r) + (r->row ? rounded(r->rows * sizeof(*r->row)) : 0) +
	       rounded(n * sizeof(*r->ids)) + (r->weights ? rounded(n * sizeof(*r->weights)) : 0) +
	       (r->row_flags ? rounded(r->rows) : 0);
}

static void keep_route(struct item *i, struct engine_route *r)
{
	size_t n = (size_t)r->rows * r->k;

	r->row = keep(i, r->row, r->rows * sizeof(*r->row));
	r->ids = keep(i, r->ids, n * sizeof(*r->ids));
	r->weights = keep(i, r->weights, n * sizeof(*r->weights));
	r->row_flags = keep(i, r->row_flags, r->rows);
}

static int on_step(void *ctx, const struct engine_step *s)
{
	struct vllm_held *h = ctx;
	size_t bytes = rounded(s->rows * sizeof(*s->row));
	struct engine_route *route;
	struct item *i;

	if (!h->is_holding)
		return h->sink.step(h->sink.ctx, s);
	for (uint32_t n = 0; n < s->routes; n++)
		bytes += route_bytes(&s->route[n]);
	i = add(h, KIND_STEP, rounded(bytes));
	if (!i)
		return -ENOMEM;
	i->step = *s;
	i->step.row = keep(i, s->row, s->rows * sizeof(*s->row));
	i->step.route = route = keep(i, s->route, s->routes * sizeof(*s->route));
	for (uint32_t n = 0; n < s->routes; n++)
		keep_route(i, &route[n]);
	if (!h->since_ns)
		h->since_ns = s->end_ns;
	return 0;
}

/* --- passed on at once --------------------------------------------------------------------------
 */

static int on_context(void *ctx, const struct engine_context *c)
{
	struct vllm_held *h = ctx;

	return h->sink.context(h->sink.ctx, c);
}

static int on_invalid(void *ctx, uint32_t cause, uint64_t count)
{
	struct vllm_held *h = ctx;

	return h->sink.invalid(h->sink.ctx, cause, count);
}

static int on_lost(void *ctx, uint32_t cause, uint64_t count, uint64_t decisions)
{
	struct vllm_held *h = ctx;

	return h->sink.lost(h->sink.ctx, cause, count, decisions);
}

struct engine_sink vllm_held__sink(struct vllm_held *h, const struct engine_sink *sink)
{
	h->sink = *sink;
	return (struct engine_sink){
		.context = on_context,
		.request_begin = on_begin,
		.request_end = on_end,
		.step = on_step,
		.invalid = on_invalid,
		.lost = on_lost,
		.request_info = on_info,
		.bind = on_bind,
		.ctx = h,
	};
}

void vllm_held__hold(struct vllm_held *h)
{
	h->is_holding = true;
}

bool vllm_held__is_full(const struct vllm_held *h, uint64_t now_ns)
{
	return h->count > ITEMS_MAX || h->bytes > BYTES_MAX || now_ns == UINT64_MAX ||
	       (h->since_ns && now_ns > h->since_ns && now_ns - h->since_ns > WAIT_NS);
}

static int say(const struct vllm_held *h, struct item *i)
{
	const struct engine_sink *to = &h->sink;

	switch (i->kind) {
	case KIND_BEGIN:
		return to->request_begin(to->ctx, &i->begin);
	case KIND_END:
		return to->request_end(to->ctx, &i->end);
	case KIND_INFO:
		return to->request_info ? to->request_info(to->ctx, &i->info) : 0;
	case KIND_BIND:
		return to->bind ? to->bind(to->ctx, &i->bind) : 0;
	case KIND_STEP:
		return to->step(to->ctx, &i->step);
	case KIND_NOTHING:
		break;
	}
	return 0;
}

/* The beginning of @request, if it waits at @from or behind. */
static int say_begin(struct vllm_held *h, uint32_t request, size_t from)
{
	int err;

	for (size_t n = from; n < h->count; n++) {
		struct item *i = &h->item[n];

		if (i->kind != KIND_BEGIN || i->begin.request != request)
			continue;
		err = say(h, i);
		forget(i);
		return err;
	}
	return 0;
}

/* Whoever item @n names begins before it, also who was found out later. */
static int say_begins(struct vllm_held *h, size_t n)
{
	const struct item *i = &h->item[n];
	uint32_t last = 0;
	int err = 0, err_one;

	if (i->kind == KIND_BIND)
		return say_begin(h, i->bind.request, n + 1);
	for (uint32_t row = 0; i->kind == KIND_STEP && row < i->step.rows; row++) {
		if (i->step.row[row].request == last)
			continue;
		last = i->step.row[row].request;
		err_one = say_begin(h, last, n + 1);
		err = err ? err : err_one;
	}
	return err;
}

int vllm_held__release(struct vllm_held *h)
{
	int err = 0, err_begin, err_one;

	for (size_t n = 0; n < h->count; n++) {
		struct item *i = &h->item[n];

		err_begin = say_begins(h, n);
		err_one = say(h, i);
		err = err ? err : err_begin ? err_begin : err_one;
		forget(i);
	}
	h->count = 0;
	h->bytes = 0;
	h->since_ns = 0;
	h->is_holding = false;
	return err;
}

/* --- corrections --------------------------------------------------------------------------------
 */

/* Rows of a step that waits. */
static void correct_rows(struct engine_step *s, const struct vllm_correction *c)
{
	struct engine_row *row = (struct engine_row *)s->row; /* ours */

	for (uint32_t i = 0; i < s->rows; i++) {
		if (row[i].sequence != c->bind.sequence || row[i].position < c->bind.position)
			continue;
		row[i].request = c->bind.request;
		if (c->prefill == ENGINE_UNKNOWN) {
			row[i].phase = ENGINE_PHASE_UNKNOWN;
			continue;
		}
		row[i].phase = row[i].position < c->prefill ? ENGINE_PREFILL : ENGINE_DECODE;
		row[i].output = row[i].position + 1 >= c->prefill;
	}
}

/* The first row of the sequence waits: nothing of it was said. */
static bool waits(const struct vllm_held *h, const struct engine_bind *b)
{
	for (size_t n = 0; n < h->count; n++) {
		const struct engine_step *s = &h->item[n].step;

		for (uint32_t i = 0; h->item[n].kind == KIND_STEP && i < s->rows; i++)
			if (s->row[i].sequence == b->sequence && s->row[i].position == b->position)
				return true;
	}
	return false;
}

/* The beginning of a request whose first rows are not those that were taken for them. */
static void correct_begin(struct engine_request *r, const struct vllm_correction *c)
{
	if (r->request != c->bind.request || !c->is_first)
		return;
	r->sequence = c->bind.sequence;
	r->context = c->bind.context;
	r->inferred = c->bind.inferred;
	r->time_ns = c->time_ns;
	if (!r->before_attach)
		r->cached = c->bind.position;
}

int vllm_held__correct(struct vllm_held *h, const struct vllm_correction *c)
{
	if (!waits(h, &c->bind))
		return on_bind(h, &c->bind);
	for (size_t n = 0; n < h->count; n++) {
		struct item *i = &h->item[n];

		if (i->kind == KIND_STEP)
			correct_rows(&i->step, c);
		else if (i->kind == KIND_BEGIN)
			correct_begin(&i->begin, c);
		else if (i->kind == KIND_BIND && i->bind.sequence == c->bind.sequence &&
			 i->bind.position == c->bind.position)
			i->bind = c->bind;
	}
	return 0;
}

bool vllm_held__make_sure(struct vllm_held *h, uint32_t request)
{
	bool found = false;

	for (size_t n = 0; n < h->count; n++) {
		struct item *i = &h->item[n];

		if (i->kind == KIND_BEGIN && i->begin.request == request) {
			i->begin.inferred = false;
			found = true;
		} else if (i->kind == KIND_BIND && i->bind.request == request) {
			i->bind.inferred = false;
		}
	}
	return found;
}

bool vllm_held__take_back(struct vllm_held *h, uint32_t request)
{
	struct item *begin = NULL;

	for (size_t n = 0; n < h->count; n++) {
		struct item *i = &h->item[n];

		if (i->kind == KIND_BEGIN && i->begin.request == request)
			begin = i;
		for (uint32_t row = 0; i->kind == KIND_STEP && row < i->step.rows; row++)
			if (i->step.row[row].request == request)
				return false;
	}
	if (begin) {
		h->bytes -= begin->bytes;
		forget(begin);
	}
	return begin != NULL;
}
