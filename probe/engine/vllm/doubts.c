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

void asked__doubt(struct vllm_asked *a, uint32_t position)
{
	if (!a->inferred || position < a->doubt_from)
		a->doubt_from = position;
	a->inferred = true;
	a->doubt_said = false;
}

static int say_sure(struct vllm_batches *b, struct vllm_asked *a, uint64_t time_ns,
		    const struct engine_sink *sink)
{
	struct engine_request_info info = {
		.request = a->number,
		.origin = ENGINE_ORIGIN_TOKENS,
		.time_ns = time_ns,
	};

	if (!a->inferred)
		return 0;
	a->inferred = a->doubt_said = false;
	if (vllm_held__make_sure(b->held, a->number))
		return 0;
	return sink->request_info ? sink->request_info(sink->ctx, &info) : 0;
}

bool batches__in_doubt(const struct vllm_batches *b)
{
	for (uint32_t i = 0; i < b->live; i++)
		if (!sequence__is_over(&b->sequence[i]) && b->sequence[i].asked->inferred &&
		    !b->sequence[i].asked->doubt_said)
			return true;
	return false;
}

int batches__say_doubts(struct vllm_batches *b, uint64_t time_ns, const struct engine_sink *sink)
{
	int err = 0, err_one;

	for (uint32_t i = 0; i < b->live; i++) {
		struct sequence *q = &b->sequence[i];

		if (sequence__is_over(q) || !q->asked->inferred || q->asked->doubt_said)
			continue;
		q->asked->doubt_said = true;
		err_one = sequence__say_bind(q, time_ns, sink);
		err = err ? err : err_one;
	}
	return err;
}

/* --- what speaks for whom ----------------------------------------------------------------------
 */

/* The token of @q at @position, of @r if it goes on with that; -1: not captured, or forgotten. */
static int64_t token_at(const struct sequence *q, const struct aten_step *s, const struct run *r,
			uint32_t position)
{
	uint32_t row = r->first + (position - r->position);

	if (position >= r->position)
		return row < s->token.count ? s->token.value[row] : -1;
	return position >= q->first && position + RECENT >= q->next ? q->recent[position % RECENT]
								    : -1;
}

/* The first position in [from, end) whose token is known not to be @a's; @end: none. */
static uint32_t find_contradiction(const struct vllm_asked *a, const struct sequence *q,
				   const struct aten_step *s, const struct run *r, uint32_t from,
				   uint32_t end)
{
	for (uint32_t p = from; p < end && p < a->tokens; p++) {
		int64_t token = token_at(q, s, r, p);

		if (token >= 0 && token != a->token[p])
			return p;
	}
	return end;
}

/* True if nothing tells @a and @other apart in [from, end). */
static bool are_alike(const struct vllm_asked *a, const struct vllm_asked *other, uint32_t from,
		      uint32_t end)
{
	uint32_t known = a->tokens < other->tokens ? a->tokens : other->tokens;

	end = end < known ? end : known;
	return end <= from ||
	       !memcmp(a->token + from, other->token + from, (end - from) * sizeof(*a->token));
}

/* True if @other may be what was taken for @a, whose token at @position is another one: it has all
 * those of @q that speak for nobody or for it, and goes on as @r does. */
static bool is_instead(const struct vllm_asked *a, const struct vllm_asked *other,
		       uint32_t position, const struct sequence *q, const struct aten_step *s,
		       const struct run *r)
{
	uint32_t end = r->position + r->rows;

	return other != a && other->hash && !other->aborted_ns && other->tokens > position &&
	       are_alike(a, other, a->doubt_from, position) &&
	       find_contradiction(other, q, s, r, position, end) == end &&
	       vllm_asked__fits(other, r->position, NULL, 0);
}

/* --- corrections --------------------------------------------------------------------------------
 */

/* @q is @asked from @position on, and was taken for another one. */
static int re_own(struct vllm_batches *b, struct sequence *q, struct vllm_asked *asked,
		  uint32_t position, uint64_t time_ns)
{
	struct vllm_correction c = { .is_first = position == q->first, .time_ns = q->begin_ns };
	bool known = asked->hash && asked->prompt != ENGINE_UNKNOWN;

	q->asked = asked;
	q->request = asked->number;
	q->checked = q->first = position;
	c.prefill = known ? asked->prefill : ENGINE_UNKNOWN;
	c.bind = (struct engine_bind){
		.context = q->context,
		.sequence = q->number,
		.request = q->request,
		.position = position,
		.origin = ENGINE_ORIGIN_TOKENS,
		.inferred = asked->inferred,
		.time_ns = time_ns,
	};
	return vllm_held__correct(b->held, &c);
}

/* The first position of @q that may be another one's. */
static uint32_t doubted_from(const struct sequence *q)
{
	return q->asked->doubt_from > q->first ? q->asked->doubt_from : q->first;
}

/* What was taken for @q's is @other's, and the reverse: they were taken for each other. */
static int exchange(struct vllm_batches *b, struct sequence *q, struct sequence *other,
		    uint64_t time_ns)
{
	struct vllm_asked *asked = q->asked, *its = other->asked;
	uint32_t from = doubted_from(q), from_other = doubted_from(other);
	int err = re_own(b, q, its, from, time_ns), err_other;

	err_other = re_own(b, other, asked, from_other, time_ns);
	return err ? err : err_other;
}

/* @a, which @q was taken for, has no rows: as if it had never begun, if that was not said yet. */
static void take_back(struct vllm_batches *b, struct vllm_asked *a)
{
	for (uint32_t i = 0; i < b->live; i++)
		if (b->sequence[i].asked == a && !sequence__is_over(&b->sequence[i]))
			return;
	if (!vllm_held__take_back(b->held, a->number))
		return;
	a->number = 0;
	a->sequenced = a->inferred = a->preempted = false;
	a->cached = ENGINE_UNKNOWN;
}

/* @q is not what it was taken for, but @other, which has no rows now; NULL: nobody that we know. */
static int give_away(struct vllm_batches *b, struct aten_context *c, struct sequence *q,
		     struct vllm_asked *other, uint64_t time_ns, const struct engine_sink *sink)
{
	struct vllm_asked *a = q->asked;
	uint32_t from = doubted_from(q);
	struct sequence *old;
	int err = 0, err_sure;

	if (!other) {
		other = vllm_requests__nameless(b->requests, time_ns, &err, sink);
		if (!other)
			return err;
	}
	old = batches__sequence(b, c, other);
	if (old)
		old->request = 0; /* it is over */
	asked__doubt(other, from);
	if (!other->number) {
		other->cached = other->hash ? from : ENGINE_UNKNOWN;
		err = vllm_asked__begin(b->requests, other, c->id, q->begin_ns, sink);
		other->sequenced = true;
	}
	if (!err)
		err = re_own(b, q, other, from, time_ns);
	take_back(b, a);
	err_sure = say_sure(b, other, time_ns, sink);
	return err ? err : err_sure;
}

/* Another sequence that was taken for what @q is; NULL: none. */
static struct sequence *find_partner(struct vllm_batches *b, const struct sequence *q,
				     const struct aten_step *s, const struct run *r,
				     uint32_t position)
{
	for (uint32_t i = 0; i < b->live; i++) {
		struct sequence *other = &b->sequence[i];

		if (other->context == q->context && other->asked->inferred &&
		    !sequence__is_over(other) &&
		    is_instead(q->asked, other->asked, position, q, s, r))
			return other;
	}
	return NULL;
}

/* A request without rows in this step that @q may be instead; NULL: none. */
static struct vllm_asked *find_other(struct vllm_batches *b, const struct aten_context *c,
				     const struct sequence *q, const struct aten_step *s,
				     const struct run *r, uint32_t position)
{
	uint32_t at = 0;

	for (struct vllm_asked *other; (other = vllm_requests__next(b->requests, &at));) {
		const struct sequence *its = batches__sequence(b, c, other);

		if (is_instead(q->asked, other, position, q, s, r) &&
		    !(its && its->step == b->steps))
			return other;
	}
	return NULL;
}

/* The rows of @r say that @q is not what it was taken for. */
static int correct(struct vllm_batches *b, struct aten_context *c, struct sequence *q,
		   const struct aten_step *s, const struct run *r, uint32_t position,
		   const struct engine_sink *sink)
{
	struct sequence *partner = find_partner(b, q, s, r, position);
	int err;

	if (!q->asked->inferred) /* what was compared is its own */
		q->asked->doubt_from = q->checked;
	if (!partner)
		return give_away(b, c, q, find_other(b, c, q, s, r, position), s->begin_ns, sink);
	err = exchange(b, q, partner, s->begin_ns);
	return err ? err : say_sure(b, q->asked, s->begin_ns, sink);
}

struct vllm_asked *batches__owner(struct vllm_batches *b, const struct aten_context *c,
				  const struct sequence *q, const struct aten_step *s,
				  const struct run *r)
{
	uint32_t end = r->position + r->rows, position;
	struct sequence *partner;

	if (vllm_asked__fits(q->asked, r->position, NULL, r->rows) &&
	    find_contradiction(q->asked, q, s, r, q->checked, end) == end)
		return q->asked;
	if (!q->asked->inferred)
		return NULL;
	position = find_contradiction(q->asked, q, s, r, q->checked, end);
	if (position == end)
		return NULL;
	partner = find_partner(b, q, s, r, position);
	return partner ? partner->asked : find_other(b, c, q, s, r, position);
}

/* True if rows taken for @a's may still turn out to be @other's: it has no others now, and nothing
 * told so far speaks against it. */
static bool may_be(struct vllm_batches *b, const struct aten_context *c, const struct vllm_asked *a,
		   const struct vllm_asked *other, uint32_t end)
{
	const struct sequence *its = batches__sequence(b, c, other);

	return other != a && other->hash && (other->inferred || !its || its->step != b->steps) &&
	       vllm_asked__fits(other, a->doubt_from, NULL, 0) &&
	       are_alike(a, other, a->doubt_from, end);
}

int batches__tell_apart(struct vllm_batches *b, struct aten_context *c, struct sequence *q,
			const struct aten_step *s, const struct run *r,
			const struct engine_sink *sink)
{
	struct vllm_asked *a = q->asked;
	uint32_t at = 0, position, end = r->position + r->rows;

	position = find_contradiction(a, q, s, r, q->checked, end);
	if (position != end)
		return correct(b, c, q, s, r, position, sink);
	end = end < a->tokens ? end : a->tokens;
	q->checked = q->checked > end ? q->checked : end;
	if (!a->inferred || s->token.count < r->first + r->rows)
		return 0;
	for (struct vllm_asked *other; (other = vllm_requests__next(b->requests, &at));)
		if (may_be(b, c, a, other, q->checked))
			return 0;
	return say_sure(b, a, s->begin_ns, sink);
}
