/* SPDX-License-Identifier: BSD-2-Clause */
/* Which of several requests with equal beginnings a sequence is, when its tokens tell. */
#include <string.h>

#include "probe/engine/vllm/batches_internal.h"

bool sequence__is_over(const struct sequence *q)
{
	return !q->asked->open || q->asked->number != q->request;
}

struct sequence *batches__sequence(struct vllm_batches *b, const struct aten_context *c,
				   const struct vllm_asked *a)
{
	for (uint32_t i = 0; i < b->live; i++)
		if (b->sequence[i].context == c->id && b->sequence[i].asked == a)
			return &b->sequence[i];
	return NULL;
}

int sequence__say_bind(const struct sequence *q, uint64_t time_ns, const struct engine_sink *sink)
{
	struct engine_bind bind = {
		.context = q->context,
		.sequence = q->number,
		.request = q->request,
		.position = q->first,
		.origin = ENGINE_ORIGIN_TOKENS,
		.inferred = q->asked->inferred,
		.time_ns = time_ns,
	};

	return sink->bind ? sink->bind(sink->ctx, &bind) : 0;
}

static int say_sure(struct vllm_asked *a, uint64_t time_ns, const struct engine_sink *sink)
{
	struct engine_request_info info = {
		.request = a->number,
		.origin = ENGINE_ORIGIN_TOKENS,
		.time_ns = time_ns,
	};

	if (!a->inferred)
		return 0;
	a->inferred = false;
	return sink->request_info ? sink->request_info(sink->ctx, &info) : 0;
}

/* What was generated is @other's and not @q's: they were taken for each other. */
static int exchange(struct sequence *q, struct sequence *other, uint64_t time_ns,
		    const struct engine_sink *sink)
{
	struct vllm_asked *asked = q->asked;
	uint32_t request = q->request;
	int err, err_other;

	q->asked = other->asked;
	q->request = other->request;
	other->asked = asked;
	other->request = request;
	err = sequence__say_bind(q, time_ns, sink);
	err_other = sequence__say_bind(other, time_ns, sink);
	return err ? err : err_other;
}

/* True if nothing tells @a and @other apart in their first @count tokens. */
static bool are_alike(const struct vllm_asked *a, const struct vllm_asked *other, uint32_t count)
{
	uint32_t both = other->tokens < count ? other->tokens : count;

	return !both || !memcmp(a->token, other->token, both * sizeof(*a->token));
}

/* The first position of @r whose token is not @a's, as far as that is known; UINT32_MAX: none. */
static uint32_t find_contradiction(const struct vllm_asked *a, const struct aten_step *s,
				   const struct run *r)
{
	for (uint32_t i = 0; i < r->rows && r->position + i < a->tokens; i++)
		if (a->token[r->position + i] != s->token.value[r->first + i])
			return r->position + i;
	return UINT32_MAX;
}

/* True if @other begins as @a, which was tried, does up to @position, and goes on as @r does. */
static bool is_instead(const struct vllm_asked *a, const struct vllm_asked *other,
		       uint32_t position, const struct aten_step *s, const struct run *r)
{
	return other != a && other->hash && !other->aborted_ns && other->tokens > position &&
	       are_alike(a, other, position) &&
	       vllm_asked__fits(other, r->position, s->token.value + r->first, r->rows);
}

/* @q is not what it was taken for, but @other, which has no rows now. */
static int give(struct vllm_batches *b, struct aten_context *c, struct sequence *q,
		struct vllm_asked *other, uint64_t time_ns, const struct engine_sink *sink)
{
	struct sequence *old = batches__sequence(b, c, other);
	int err = 0, err_sure;

	if (old)
		old->request = 0; /* it is over */
	if (!other->number) {
		other->cached = q->first;
		err = vllm_asked__begin(b->requests, other, c->id, time_ns, sink);
	}
	q->asked = other;
	q->request = other->number;
	other->inferred = true;
	if (!err)
		err = sequence__say_bind(q, time_ns, sink);
	err_sure = say_sure(other, time_ns, sink);
	return err ? err : err_sure;
}

/* The rows of @r say that @q is another one of those with an equal beginning. */
static int correct(struct vllm_batches *b, struct aten_context *c, struct sequence *q,
		   const struct aten_step *s, const struct run *r, uint32_t position,
		   const struct engine_sink *sink)
{
	struct vllm_asked *a = q->asked;
	uint32_t at = 0;
	int err;

	for (uint32_t i = 0; i < b->live; i++) {
		struct sequence *other = &b->sequence[i];

		if (other->context != q->context || !other->asked->inferred ||
		    sequence__is_over(other) || !is_instead(a, other->asked, position, s, r))
			continue;
		err = exchange(q, other, s->begin_ns, sink);
		return err ? err : say_sure(q->asked, s->begin_ns, sink);
	}
	for (struct vllm_asked *other; (other = vllm_requests__next(b->requests, &at));) {
		const struct sequence *its = batches__sequence(b, c, other);

		if (is_instead(a, other, position, s, r) && !(its && its->step == b->steps))
			return give(b, c, q, other, s->begin_ns, sink);
	}
	return 0;
}

int batches__tell_apart(struct vllm_batches *b, struct aten_context *c, struct sequence *q,
			const struct aten_step *s, const struct run *r,
			const struct engine_sink *sink)
{
	struct vllm_asked *a = q->asked;
	uint32_t at = 0, position, end = r->position + r->rows;

	if (!a->inferred || s->token.count < r->first + r->rows)
		return 0;
	position = find_contradiction(a, s, r);
	if (position != UINT32_MAX)
		return correct(b, c, q, s, r, position, sink);
	end = end < a->tokens ? end : a->tokens;
	for (struct vllm_asked *other; (other = vllm_requests__next(b->requests, &at));)
		if (other != a && other->hash && (!other->number || other->inferred) &&
		    are_alike(a, other, end))
			return 0;
	return say_sure(a, s->begin_ns, sink);
}
